# What every scenario uses: marks on the serial line (src/markers.rs reads them), steps, and waiting for conditions.

mark() {
    printf '@@ %s\n' "$*"
}

# Says why the step under way fails; the first reason counts.
because() {
    [ -n "$WHY" ] || WHY="$*"
    return 1
}

# step NAME COMMAND…: runs the command, prints what it printed, and marks how it went.
step() {
    NAME=$1
    shift
    WHY=
    mark "begin $NAME"
    "$@" >/tmp/output 2>&1
    STATUS=$?
    # awk ends the last line, so that the mark begins a new one.
    awk 1 /tmp/output
    if [ "$STATUS" = 0 ]; then
        mark "step $NAME ok"
    else
        mark "step $NAME FAIL ${WHY:-exit status $STATUS}"
        return 1
    fi
}

# show NAME TITLE COMMAND: a step of the tour; the command is one string, as a person would type it.
show() {
    mark "title $2"
    mark "command $3"
    step "$1" eval "$3"
}

seconds() {
    cut -d. -f1 /proc/uptime
}

# await SECONDS COMMAND…: until the command succeeds; looks ten times a second.
await() {
    UNTIL=$(($(seconds) + $1))
    shift
    until "$@"; do
        if [ "$(seconds)" -ge "$UNTIL" ]; then
            because "waited in vain for: $*"
            return 1
        fi
        usleep 100000
    done
}

# expect TEXT COMMAND…: the command works and prints a line that has the text.
expect() {
    TEXT=$1
    shift
    "$@" >/tmp/expect 2>&1
    RESULT=$?
    cat /tmp/expect
    [ "$RESULT" = 0 ] || because "$* ended with $RESULT" || return
    grep -qF -- "$TEXT" /tmp/expect || because "$* does not say: $TEXT"
}

# fails COMMAND…: the command does not work, in time.
fails() {
    timeout 30 "$@"
    case $? in
    0) because "$* should have failed" ;;
    143 | 124) because "$* hangs" ;;
    *) true ;;
    esac
}

store_is_a_domain() {
    [ "$STORE" = pvh ] || [ "$STORE" = pv ]
}

launch_store_domain() {
    timeout 180 init-xenstore-domain --kernel /bed/image --memory "$STORE_MEMORY" "$@"
}

start_store() {
    case $STORE in
    c)
        xenstored --pid-file /run/xenstored.pid && await 60 test -S /run/xenstored/socket || return
        ;;
    ocaml)
        oxenstored --no-fork >/var/log/xen/oxenstored.out 2>&1 &
        await 60 test -S /run/xenstored/socket || return
        ;;
    *)
        launch_store_domain || because "init-xenstore-domain ended with $?" || {
            xl dmesg | tail -n 40
            return 1
        }
        ;;
    esac
    timeout 60 xenstore-exists / || because "the store does not answer"
}

show_store_console() {
    log=/var/log/xen/console/guest-Xenstore.log
    [ -s "$log" ] || return 0
    echo "---- $log"
    awk 1 "$log"
}
