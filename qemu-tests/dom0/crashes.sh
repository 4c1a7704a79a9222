# The store crashes CRASHES times while guests and dom0 always have something under way: half of the crashes are NMIs, which hit any
# instruction, the others every way to end that the platform survives. Meanwhile guests are made and destroyed, and if LONG is yes one is
# saved and restored and one boots through hvmloader. Nobody may notice more than a pause.

CRASHES=${CRASHES_WANTED:-$CRASHES}
STORE_DOMID=$(xl domid Xenstore)
STORE_LOG=$(console_log Xenstore)
LOADS='1 2 3 4'

type_of() {
    case $1 in
    1 | 3) echo pvh ;;
    *) echo pv ;;
    esac
}

# The partner of each is the next one, of the last the first.
next_of() {
    [ "$1" = 4 ] && echo 1 || echo $(($1 + 1))
}

data_of() {
    eval "echo /local/domain/\$DOMID_$1/data"
}

reports_is() {
    [ "$(xenstore-read "$(data_of "$1")/report" 2>/dev/null)" = "$2" ]
}

# tell NAME VALUE GUESTS…: at once, so that all begin, or end, together.
tell() {
    WHAT=$1 VALUE=$2
    shift 2
    xenstore-write $(for i in "$@"; do echo "$(data_of "$i")/$WHAT $VALUE"; done)
}

# The guests leave no processor idle; what makes the crashes must have its share.
dom0_goes_first() {
    xl sched-credit2 -d 0 -w 2048 || xl sched-credit2
}

load_starts() {
    for i in $LOADS; do
        ring_guest "load-$i" "$(type_of "$i")" load || return
        eval "DOMID_$i=$(xl domid "load-$i")"
    done
    for i in $LOADS; do
        await 60 reports_is "$i" ready || because "load-$i is not ready: $(tail -n 1 "$(console_log "load-$i")")" || return
    done
    for i in $LOADS; do
        eval "PARTNER=\$DOMID_$(next_of "$i")"
        xenstore-write "$(data_of "$i")/partner" "$PARTNER" || return
    done
    for i in $LOADS; do
        await 60 reports_is "$i" watching || because "load-$i does not watch: $(tail -n 1 "$(console_log "load-$i")")" || return
    done
    # dom0 has a part in it: a counter, and a watch that must be told of every child of a guest's list.
    /usr/bin/xenstore-watch "$(data_of 1)/load/shared" >/tmp/watched &
    WATCHER=$!
    await 30 grep -q shared /tmp/watched || return
    xenbus-client count /crashes/counter >/tmp/counted 2>&1 &
    COUNTER=$!
    await 30 grep -q counting /tmp/counted || return
    tell go 1 $LOADS
}

# ---- The crashes, beside everything else: `crash-store` prints a line with the kind of each.

# On PV Xen cannot tell a domain that its stack is full. The second of two NMIs may hit the recovery.
kinds() {
    if [ "$STORE" = pv ]; then
        echo nmi panic nmi fault nmi hang nmi oom nmi-twice fault
    else
        echo nmi panic nmi fault nmi hang nmi oom nmi-twice stack
    fi
}

restarts() {
    xenstore-control status | sed -n 's/^restarts: //p'
}

# A few by the means of an administrator first.
crashes_begin() {
    expect OK xenstore-control crash panic || return
    xl trigger "$STORE_DOMID" nmi || return
    [ "$(restarts)" = 2 ] || because "$(restarts) restarts after two crashes" || return
    crash-store "$STORE_DOMID" "$CRASHES" /tmp/rest-is-done $(kinds) >/tmp/made 2>/tmp/crasher-why &
    CRASHER=$!
    await 60 has_made 3
}

made() {
    wc -l </tmp/made
}

has_made() {
    [ "$(made)" -ge "$1" ] || [ -s /tmp/crasher-why ]
}

crasher_works() {
    [ ! -s /tmp/crasher-why ] || because "$(cat /tmp/crasher-why)"
}

# ---- Meanwhile.

# comes_and_goes TYPE
comes_and_goes() {
    FROM=$(made)
    ring_guest "guest-$1" "$1" friendly && heard "guest-$1" 'start ok' || return
    DOMID=$(xl domid "guest-$1")
    xl destroy "guest-$1" && await 60 guest_is_gone "guest-$1" || return
    fails xenstore-exists "/local/domain/$DOMID" || return
    echo "$(($(made) - FROM)) crashes meanwhile"
    crasher_works
}

linux_boots() {
    FROM=$(made)
    client_guest linux "$1" 96
    BEGUN=$(userlands linux)
    start_guest /tmp/linux.cfg && userland_begins linux $((BEGUN + 1)) || return
    guest_answers linux "$(xl domid linux)" 'xenstore-read domid' || return
    echo "$(($(made) - FROM)) crashes meanwhile"
    crasher_works
}

linux_is_saved() {
    FROM=$(made)
    xl save linux /tmp/image && fails xl domid linux || return
    [ -s /tmp/image ] || because "there is no image" || return
    echo "$(($(made) - FROM)) crashes meanwhile"
    crasher_works
}

linux_is_restored() {
    FROM=$(made)
    xl restore /tmp/image || return
    rm -f /tmp/image
    guest_answers linux "$(xl domid linux)" 'xenstore-read domid' || return
    guest_answers linux kept 'xenstore-write data/own kept && xenstore-read data/own' || return
    echo "$(($(made) - FROM)) crashes meanwhile"
    crasher_works
}

linux_is_destroyed() {
    DOMID=$(xl domid linux)
    xl destroy linux && await 60 guest_is_gone linux || return
    fails xenstore-exists "/local/domain/$DOMID" || return
    crasher_works
}

hvm_is_built() {
    FROM=$(made)
    dd if=/dev/zero of=/root/hvm.img bs=1M count=1 2>/dev/null
    start_guest /bed/hvm.cfg || {
        cat /var/log/xen/qemu-dm-hvm.log
        return 1
    }
    DOMID=$(xl domid hvm)
    # hvmloader and SeaBIOS are through when Linux writes it.
    await 280 reads "/local/domain/$DOMID/control/feature-poweroff" 1 || return
    echo "$(($(made) - FROM)) crashes meanwhile"
    crasher_works
}

hvm_works() {
    FROM=$(made)
    await 280 says hvm guest-userland || {
        tail -n 20 "$(console_log hvm)" /var/log/xen/hvm-serial
        return 1
    }
    in_guest hvm 'xenstore-write data/own kept && test "$(xenstore-read data/own)" = kept && await 30 test -b /dev/xvda' || return
    expect kept xenstore-read "/local/domain/$DOMID/data/own" || return
    echo "$(($(made) - FROM)) crashes meanwhile"
    crasher_works
}

hvm_is_destroyed() {
    xl destroy hvm && await 60 guest_is_gone hvm || return
    fails xenstore-exists "/local/domain/$DOMID" || return
    crasher_works
}

# ---- The end.

crashes_end() {
    touch /tmp/rest-is-done
    while kill -0 "$CRASHER" 2>/dev/null; do
        echo "$(made) crashes" >/dev/console
        sleep 3
    done
    wait "$CRASHER" || because "crash-store ended with $?: $(cat /tmp/crasher-why)" || return
    echo "$(made) crashes"
}

has_stopped() {
    xenstore-read "$(data_of "$1")/report" | grep -qE '^(ok|FAILED) '
}

# figure NAME TEXT
figure() {
    echo "$2" | sed -n "s/.* $1=\([0-9]*\) .*/\1/p"
}

load_is_content() {
    tell stop 1 $LOADS || return
    for i in $LOADS; do
        await 60 has_stopped "$i" || because "load-$i does not stop: $(tail -n 1 "$(console_log "load-$i")")" || return
        REPORT=$(xenstore-read "$(data_of "$i")/report")
        echo "load-$i: $REPORT"
        mark value "load-$i" "$REPORT" >/dev/console
        eval "ROUNDS_$i=$(figure rounds "$REPORT ")"
        case $REPORT in
        'ok '*) ;;
        *) because "load-$i: $REPORT" || return ;;
        esac
    done
    # What was acknowledged is there; and the last event has reached the partner.
    for i in $LOADS; do
        eval "ROUNDS=\$ROUNDS_$i PARTNERS=\$ROUNDS_$(next_of "$i")"
        DATA=$(data_of "$i")/load
        FOUND=$(xenstore-read "$DATA/value" "$DATA/counter" "$DATA/twin" "$DATA/own/$ROUNDS" "$DATA/shared/$ROUNDS" | uniq)
        [ "$FOUND" = "$ROUNDS" ] || because "load-$i has done $ROUNDS rounds, and the store has $FOUND" || return
        FOUND=$(xenstore-list "$DATA/shared" | tr '\n' ' ')
        [ "$FOUND" = "$(seq $((ROUNDS - 7)) "$ROUNDS" | tr '\n' ' ')" ] || because "load-$i has the children $FOUND" || return
        await 30 has_seen "$i" "$PARTNERS" || because "load-$i has seen $(xenstore-read "$(data_of "$i")/seen") of $PARTNERS rounds" || return
    done
    ! grep -h FAILED $(for i in $LOADS; do console_log "load-$i"; done) || because "a guest failed"
}

has_seen() {
    [ "$(xenstore-read "$(data_of "$1")/seen")" = "$2" ]
}

# One event of the new watch; of every child one, and one when it was removed.
all_are_told() {
    [ "$(wc -l </tmp/watched)" = $((1 + 2 * ROUNDS_1 - 8)) ]
}

dom0_is_content() {
    xenstore-write /crashes/counter-stop 1 || return
    wait "$COUNTER" || because "the counter: $(tail -n 1 /tmp/counted)" || return
    tail -n 1 /tmp/counted
    mark value dom0-counter "$(tail -n 1 /tmp/counted)" >/dev/console
    expect ', 0 conflicts' cat /tmp/counted || return
    await 30 all_are_told || because "the watch was told $(wc -l </tmp/watched) times for $ROUNDS_1 rounds" || return
    kill "$WATCHER"
    sed 1d /tmp/watched | awk -v "rounds=$ROUNDS_1" '
        { count = split($1, part, "/"); times[part[count]]++ }
        END { for (i = 1; i <= rounds; i++) if (times[i] != (i + 8 <= rounds ? 2 : 1)) exit 1 }' ||
        because "the watch in dom0 was told of other children than there were"
}

# No client has begun its ring anew, and none was told an error of its ring; the load guests look at that field themselves.
nobody_reconnected() {
    xenstore-control status >/tmp/status || return
    cat /tmp/status
    expect 'ring-resets: 0' cat /tmp/status || return
    for name in events-expired events-dropped conflicts; do
        expect "$name: 0" cat /tmp/status || return
    done
}

# spread: least, median and greatest of the numbers in the input.
spread() {
    sort -n | awk '{ of[NR] = $1 } END { printf "%d / %d / %d", of[1], of[int((NR + 1) / 2)], of[NR] }'
}

# in_flight AWK-CONDITION: percent of the restarts that found it so; $1 clients, $2 transactions, $3 partial messages.
in_flight() {
    sed -n 's/.*in flight: requests or replies of \([0-9]*\) clients, \([0-9]*\) transactions, \([0-9]*\) partial messages.*/\1 \2 \3/p' \
        "$STORE_LOG" | awk "{ all++ } $1 { found++ } END { printf \"%d\", all ? found * 100 / all : 0 }"
}

summary() {
    RESTARTS=$(restarts)
    printf '%s\n' panic nmi >>/tmp/made
    mark value crashes "$(made) made ($(sort /tmp/made | uniq -c | awk '{ printf "%s%d %s", comma, $1, $2; comma = ", " }')), $RESTARTS restarts" >/dev/console
    mark value recovered-in-us "$(grep -o 'recovered in [0-9]* us' "$STORE_LOG" | awk '{ print $3 }' | spread) (least, median, greatest)" >/dev/console
    mark value records-read-back "$(sed -n 's/.* \([0-9]*\) records read back.*/\1/p' "$STORE_LOG" | spread)" >/dev/console
    mark value in-flight "requests or replies at $(in_flight '$1 > 0') %, transactions at $(in_flight '$2 > 0') %, partial messages at $(in_flight '$3 > 0') %, all three at $(in_flight '$1 > 0 && $2 > 0 && $3 > 0') % of the restarts" >/dev/console
    [ "$RESTARTS" -ge "$CRASHES" ] || because "$RESTARTS restarts for $CRASHES crashes" || return
    # Of a few crashes, fewer may hit all of it by chance.
    [ "$CRASHES" -ge 100 ] && LEAST=30 || LEAST=10
    [ "$(in_flight '$1 > 0 && $2 > 0 && $3 > 0')" -ge "$LEAST" ] || because "too few crashes hit requests, transactions and partial messages" || return
    ! grep -E 'cannot start|does not verify|is charged with|cannot be|full|cut off|ignored|given up' "$STORE_LOG" || because "the store's console tells of trouble"
}

if [ "$LONG" = yes ]; then
    . /bed/client-guests.sh
fi
step dom0-goes-first dom0_goes_first
step load-starts load_starts && step crashes-begin crashes_begin && {
    for type in pvh pv; do
        step "guest-comes-and-goes-$type" comes_and_goes "$type"
    done
    if [ "$LONG" = yes ]; then
        step linux-boots linux_boots pv &&
            step linux-is-saved linux_is_saved &&
            step linux-is-restored linux_is_restored &&
            step linux-is-destroyed linux_is_destroyed
        step hvm-is-built hvm_is_built &&
            step hvm-works hvm_works
        step hvm-is-destroyed hvm_is_destroyed
    fi
    step crashes-end crashes_end
    step load-is-content load_is_content
    step dom0-is-content dom0_is_content
    step nobody-reconnected nobody_reconnected
    step check-after-it-all expect OK xenstore-control check
    step summary summary
}
