#!/bin/sh
# Installs what building and testing this project needs beside Rust, if it is missing: as root, or through sudo if that asks for no
# password; otherwise it names the one line to run. Says nothing and does nothing where everything is there.
set -eu

missing=""

# need PACKAGE PROGRAM-OR-FILE
need() {
    case $2 in
    /*) [ -e "$2" ] && return ;;
    *) command -v "$2" >/dev/null 2>&1 && return ;;
    esac
    case " $missing " in
    *" $1 "*) ;;
    *) missing="$missing $1" ;;
    esac
}

need gcc cc
need libc6-dev /usr/include/stdlib.h
need libxen-dev /usr/include/xen/xen.h
need make make
need qemu-system-x86 qemu-system-x86_64
need dpkg dpkg-deb
need util-linux setpriv
need python3 python3
need ca-certificates /etc/ssl/certs/ca-certificates.crt

if ! command -v cargo >/dev/null 2>&1; then
    echo "setup: Rust is missing; install a stable toolchain with rustup, then run this again" >&2
    exit 1
fi
[ -n "$missing" ] || exit 0

line="apt-get install -y --no-install-recommends$missing"
if ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: this is no Debian; please install what corresponds to:$missing" >&2
    exit 1
elif [ "$(id -u)" = 0 ]; then
    run=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    run="sudo -n"
else
    echo "setup: missing:$missing" >&2
    echo "setup: run: sudo $line" >&2
    exit 1
fi
echo "setup: installing$missing"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086
$run apt-get -qq update || echo "setup: the package lists could not be refreshed; trying with the old ones" >&2
# shellcheck disable=SC2086
$run env DEBIAN_FRONTEND=noninteractive $line || {
    echo "setup: that failed; run: sudo $line" >&2
    exit 1
}
