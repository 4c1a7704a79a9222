# For agent.sh and what it is asked to do.

# await SECONDS COMMAND…: until the command succeeds; looks ten times a second.
await() {
    until=$(($(cut -d. -f1 /proc/uptime) + $1))
    shift
    until "$@"; do
        [ "$(cut -d. -f1 /proc/uptime)" -lt "$until" ] || return
        usleep 100000
    done
}
