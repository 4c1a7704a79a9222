# What every scenario uses: marks on the serial line (src/markers.rs reads them), steps, and waiting for conditions.

mark() {
    if [ "$READER" = person ]; then
        # Only what a person waits for: which step is under way, and how it went.
        case $1 in
        begin) printf '  %s ... ' "$2" ;;
        step)
            shift 2
            echo "$*"
            ;;
        esac
    else
        printf '@@ %s\n' "$*"
    fi
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
    mark begin "$NAME"
    "$@" >/tmp/output 2>&1
    STATUS=$?
    # awk ends the last line, so that the mark begins a new one. A person wants to read it only if something is wrong.
    [ "$READER" = person ] && [ "$STATUS" = 0 ] || awk 1 /tmp/output
    if [ "$STATUS" = 0 ]; then
        mark step "$NAME" ok
    else
        mark step "$NAME" FAIL "${WHY:-exit status $STATUS}"
        [ "$READER" = person ] || store_still_answers
        return 1
    fi
}

# After a failure: a store that is silent would fail every further step too, slowly. So the run ends here, with all that can be learnt.
store_still_answers() {
    [ -n "$STORE_STARTED" ] || return 0
    timeout 30 xenstore-exists / && return
    mark begin store-answers
    show_event_channels
    # Xen tells about the domains and their event channels, and twice what the processor is doing.
    xl debug-keys qed
    xl debug-keys d
    show_store_console
    mark step store-answers FAIL "no answer after the step above failed"
    mark done
    poweroff -f
}

# show NAME TITLE COMMAND: a step of the tour; the command is one string, as a person would type it.
show() {
    mark title "$2"
    mark command "$3"
    step "$1" eval "$3"
}

# Sets NOW to the seconds since the boot, without starting a program.
look_at_the_clock() {
    read -r NOW _ </proc/uptime
    NOW=${NOW%.*}
}

# await SECONDS COMMAND…: until the command succeeds. It looks ten times a second at first and twice a second in the end, because looking
# takes the processor from those who are waited for.
await() {
    look_at_the_clock
    UNTIL=$((NOW + $1)) PAUSE=100000
    shift
    until "$@"; do
        look_at_the_clock
        if [ "$NOW" -ge "$UNTIL" ]; then
            because "waited in vain for: $*"
            return 1
        fi
        usleep "$PAUSE"
        [ "$PAUSE" -ge 500000 ] || PAUSE=$((PAUSE + 20000))
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
    init-xenstore-domain --kernel /bed/image --memory "$STORE_MEMORY" ${STORE_MAXIMUM:+--maxmem "$STORE_MAXIMUM"} ${STORE_OPTIONS:+--param "$STORE_OPTIONS"} "$@"
}

launch_store() {
    case $STORE in
    c)
        xenstored --pid-file /run/xenstored.pid && await 60 test -S /run/xenstored/socket
        ;;
    ocaml)
        oxenstored --no-fork >/var/log/xen/oxenstored.out 2>&1 &
        await 60 test -S /run/xenstored/socket
        ;;
    *)
        launch_store_domain || because "init-xenstore-domain ended with $? (143: it was given up after a minute)" || {
            show_event_channels
            return 1
        }
        ;;
    esac
}

start_store() {
    if [ "$MEASURE" = yes ]; then
        launch_and_measure || return
    else
        launch_store || return
    fi
    xenstore-exists / || because "the store does not answer" || return
    STORE_STARTED=yes
}

microseconds() {
    echo | ts %.s | tr -d ' .'
}

# The store has bound dom0's port, which init-xenstore-domain made: from now on a request can be answered.
dom0_is_connected() {
    lsevtchn 0 | grep -q 'Interdomain (Connected)'
}

# Marks how long it took from the launch to the first answer, as seen in dom0.
launch_and_measure() {
    BEGAN=$(microseconds)
    if store_is_a_domain; then
        launch_store >/tmp/launch 2>&1 &
        LAUNCH=$!
        # Asking earlier would block the very call that gives the store dom0's ring.
        await 60 dom0_is_connected || return
        mark value connected "$((($(microseconds) - BEGAN) / 1000)) ms after the launch" >/dev/console
    else
        launch_store || return
    fi
    xenstore-exists / || because "the store does not answer" || return
    mark value first-answer "$((($(microseconds) - BEGAN) / 1000)) ms after the launch" >/dev/console
    [ -z "$LAUNCH" ] || wait "$LAUNCH" || because "init-xenstore-domain ended with $?" || return
    mark value launch-complete "$((($(microseconds) - BEGAN) / 1000)) ms after the launch" >/dev/console
}

# What little can be asked without a store: who waits for whom.
show_event_channels() {
    lsevtchn 0
    lsevtchn 1
}

show_store_console() {
    log=/var/log/xen/console/guest-Xenstore.log
    [ -s "$log" ] || return 0
    echo "---- $log"
    awk 1 "$log"
}
