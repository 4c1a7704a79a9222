#!/bin/sh
# Tests `make install` and `make uninstall` in a scratch folder, with stand-ins for what `make image` builds; run by `make install-test`.
set -eu

cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
root=$scratch/root
built=$scratch/built

fail() {
    echo "install test: $*" >&2
    exit 1
}

install_into() {
    MAKEFLAGS='' make --no-print-directory install BUILT="$built" DESTDIR="$root" "$@"
}

uninstall_from() {
    MAKEFLAGS='' make --no-print-directory uninstall DESTDIR="$root" "$@"
}

# Nothing was built: refused in one line that says what to do, and nothing is left.
if install_into >"$scratch/out" 2>&1; then
    fail "installed without an image"
fi
grep -q 'run `make image` first' "$scratch/out" || fail "no word of make image: $(cat "$scratch/out")"
[ ! -e "$root" ] || fail "a refused install left $(find "$root")"

mkdir "$built"
for file in xenstore-stubdom xenstore-stubdom-pv xenstore-stubdom.symbols xenstore-stubdom-watcher; do
    echo "$file" >"$built/$file"
done

# try PREFIX
try() {
    prefix=$1
    # What other software keeps beside ours.
    mkdir -p "$root$prefix/lib/xen/boot" "$root$prefix/lib/systemd/system" "$root$prefix/sbin"
    echo upstream >"$root$prefix/lib/xen/boot/xenstore-stubdom.gz"
    echo other >"$root$prefix/lib/systemd/system/other.service"
    (cd "$root" && find . -type f -exec md5sum {} + | sort) >"$scratch/before"

    install_into PREFIX="$prefix" >/dev/null
    cmp -s "$built/xenstore-stubdom" "$root$prefix/lib/xen/boot/xenstore-stubdom" || fail "the image is not where it belongs"
    [ -x "$root$prefix/sbin/xenstore-stubdom-watcher" ] || fail "the watcher is no program"
    # Every folder is filled in, and DESTDIR is in none of them.
    if grep -rlE "@[A-Z]+@|$scratch" "$root"; then
        fail "the files above hold a placeholder or DESTDIR"
    fi
    grep -q "^XENSTORE_DOMAIN_KERNEL=$prefix/lib/xen/boot/xenstore-stubdom$" "$root$prefix/share/doc/xenstore-stubdom/xencommons" ||
        fail "xencommons names another image"
    # What the settings and units name is what was installed.
    for named in $(grep -rhoE "(ExecStart=|kernel = \"|KERNEL=|file:)$prefix[^ \"]*" "$root$prefix" | sed 's/^[^/]*//'); do
        [ -e "$root$named" ] || fail "$named is named and was not installed"
    done
    # Every script has a help that needs nothing, and refuses nonsense.
    for script in "$root$prefix/sbin/xenstore-stubdom-debian" "$root$prefix/lib/xenstore-stubdom/xenstore-stubdom-start"; do
        sh -n "$script"
        "$script" --help | grep -q '^usage: ' || fail "$script has no help"
        if "$script" nonsense >/dev/null 2>&1; then
            fail "$script accepts nonsense"
        fi
    done
    sh -n "$root$prefix/lib/xenstore-stubdom/xendomains/xen"
    grep -q "PATH=$prefix/lib/xenstore-stubdom/xendomains:" "$root$prefix/lib/systemd/system/xendomains.service.d/xenstore-stubdom.conf" ||
        fail "xendomains would not find its xen"
    # A second time changes nothing.
    (cd "$root" && find . -type f -exec md5sum {} + | sort) >"$scratch/first"
    install_into PREFIX="$prefix" >/dev/null
    (cd "$root" && find . -type f -exec md5sum {} + | sort) | cmp -s - "$scratch/first" || fail "a second install differs from the first"

    # While the links of `enable` exist, the files stay.
    mkdir -p "$root/etc/systemd/system"
    ln -s "$prefix/lib/systemd/system/xenstore-stubdom.service" "$root/etc/systemd/system/xen.service"
    if uninstall_from PREFIX="$prefix" >"$scratch/out" 2>&1; then
        fail "uninstalled from a host that uses it"
    fi
    grep -q 'xenstore-stubdom-debian disable' "$scratch/out" || fail "the refusal does not say what to do"
    rm -r "$root/etc"

    uninstall_from PREFIX="$prefix" >/dev/null
    (cd "$root" && find . -type f -o -type l | sort | xargs md5sum | sort) | diff "$scratch/before" - || fail "uninstall left or took the files above"
    uninstall_from PREFIX="$prefix" >/dev/null || fail "a second uninstall fails"
    left=$(find "$root" -name '*xenstore-stubdom*' ! -name xenstore-stubdom.gz)
    [ -z "$left" ] || fail "left behind: $left"
    rm -r "$root"
}

try /usr/local
try /usr

# Without anything beside it, not even the folders stay that are Xen's or systemd's own.
install_into >/dev/null
uninstall_from >/dev/null
left=$(find "$root" -mindepth 3 ! -path "$root/usr/local/sbin" ! -path "$root/usr/local/lib" ! -path "$root/usr/local/share" ! -path "$root/usr/local/share/doc")
[ -z "$left" ] || fail "left behind: $left"

echo "install test: passed"
