#!/bin/sh
# Tests `make install-unix` and `make uninstall-unix` in a scratch folder, with a stand-in for the program.
set -eu

cd "$(dirname "$0")/../.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
root=$scratch/root

fail() {
    echo "install test: $*" >&2
    exit 1
}

run() {
    MAKEFLAGS='' make --no-print-directory "$@" BUILT="$scratch/built" DESTDIR="$root" PREFIX=/opt/x
}

if run install-unix >"$scratch/out" 2>&1; then
    fail "installed without a program"
fi
grep -q 'run `make unix` first' "$scratch/out" || fail "no word of make unix: $(cat "$scratch/out")"
[ ! -e "$root" ] || fail "a refused install left $(find "$root")"

mkdir "$scratch/built"
echo program >"$scratch/built/xenstored-unix"
run install-unix >/dev/null
unit=$root/opt/x/lib/systemd/system/xenstored-unix.service
[ -x "$root/opt/x/sbin/xenstored-unix" ] || fail "the daemon is no program"
if grep -rlE "@[A-Z]+@|$scratch" "$root"; then
    fail "the files above hold a placeholder or DESTDIR"
fi
for named in $(grep -oE "(ExecStart=|file:)/opt/x[^ ]*" "$unit" | sed 's/^[^/]*//'); do
    [ -e "$root$named" ] || fail "$named is named and was not installed"
done
run uninstall-unix >/dev/null
[ -z "$(find "$root" -type f)" ] || fail "left behind: $(find "$root" -type f)"
