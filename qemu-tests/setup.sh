#!/bin/sh
# Installs what building and testing need and Rust does not bring, or names the line that does.
set -eu

packages=
need() { # package, then a file or program that shows that it is there
    case $2 in
    /*) [ -e "$2" ] || packages="$packages $1" ;;
    *) command -v "$2" >/dev/null 2>&1 || packages="$packages $1" ;;
    esac
}
need gcc cc
need libc6-dev /usr/include/stdlib.h
need libxen-dev /usr/include/xen/xen.h
need qemu-system-x86 qemu-system-x86_64
need util-linux setpriv
need ca-certificates /etc/ssl/certs/ca-certificates.crt

if ! command -v cargo >/dev/null 2>&1; then
    echo "cargo not found: this project is built with a stable Rust toolchain (1.87 or newer), see https://rustup.rs" >&2
    exit 1
fi
[ -n "$packages" ] || exit 0

line="apt-get update && apt-get install -y --no-install-recommends$packages"
if ! command -v apt-get >/dev/null 2>&1; then
    echo "missing on this machine, by the names of Debian's packages:$packages" >&2
    exit 1
elif [ "$(id -u)" = 0 ]; then
    as_root() { "$@"; }
elif sudo -n true 2>/dev/null; then
    as_root() { sudo -n "$@"; }
else
    echo "packages are missing. Run as root:  $line" >&2
    exit 1
fi
echo "== installing$packages"
as_root apt-get update -q
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $packages
