#!/bin/sh
# Makes a disk image with a stock Debian and Debian's Xen packages: make-root.sh SUITE SOURCE-LINE FILE PACKAGE…
#
# Debian's own installer needs root; without it this asks sudo, if that needs no password.
set -eu

suite=$1
source=$2
file=$3
shift 3

if [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    echo "installing a Debian into a disk image needs root, or sudo without a password" >&2
    exit 1
fi

PATH=$PATH:/usr/sbin:/sbin
missing=""
for program in mmdebstrap mke2fs; do
    command -v "$program" >/dev/null 2>&1 || missing=yes
done
if [ -n "$missing" ]; then
    $as_root apt-get -qq update || echo "the package lists could not be refreshed; trying with the old ones" >&2
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends mmdebstrap e2fsprogs
fi

root=$(mktemp -d)
# mmdebstrap's own user must be able to look into it.
chmod 755 "$root"
trap '$as_root rm -rf "$root"' EXIT
include=$(IFS=, && echo "$*")
# Documentation that no test reads.
printf '%s\n' "$source" | $as_root mmdebstrap --quiet --variant=minbase --include="$include" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    "$suite" "$root/debian" -
$as_root rm -rf "$root/debian/var/cache/apt" "$root/debian/var/lib/apt/lists"
# No journal: the image is thrown away with the run. Sparse: it takes what is in it.
$as_root mke2fs -q -F -t ext4 -O ^has_journal -L debian -d "$root/debian" "$file" 1G
$as_root chown "$(id -u):$(id -g)" "$file"
