# Linux guests: starting one, and finding what it said on its console.

# The folder and the names are xenconsoled's.
console_log() {
    echo "/var/log/xen/console/guest-$1.log"
}

says() {
    grep -qF -- "$2" "$(console_log "$1")" 2>/dev/null
}

start_guest() {
    xl create "$@"
}

# Its userland is there when it prints this (guest/init.sh).
guest_reaches_userland() {
    await 180 says "$1" guest-userland
    RESULT=$?
    tail -n 20 "$(console_log "$1")"
    return "$RESULT"
}

guest_is_gone() {
    ! xl domid "$1" >/dev/null 2>&1
}
