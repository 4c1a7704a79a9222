# What is measured in one boot of the bench; src/bench/ boots with each store in turn and makes tables of it. PARTS, ONLY, LONG,
# WINDOW, ITERATIONS and GUESTS are set before.

part() {
    case " $PARTS " in
    *" $1 "*) true ;;
    *) false ;;
    esac
}

find_server() {
    case $STORE in
    c) SERVER=process:$(cat /run/xenstored.pid) ;;
    ocaml) SERVER=process:$(pidof oxenstored) ;;
    *) SERVER=$(xl domid Xenstore) ;;
    esac
    echo "server: $SERVER"
    [ -n "${SERVER#process:}" ]
}

bench() {
    timeout 280 bench-client --server "$SERVER" "$@" || because "bench-client ended with $?: $(tail -n 1 /tmp/output)"
}

rows_over_ring() {
    bench rows --seconds "$LONG" --only "$ONLY"
}

rows_over_socket() {
    bench rows --seconds "$LONG" --only "$ONLY" --socket /run/xenstored/socket
}

# upstreams_test WAY PATH: each run does each of its tests once, so that there is a median and not only its average.
upstreams_test() {
    for i in $(seq "$ITERATIONS"); do
        XENSTORED_PATH=$2 timeout 60 "$XEN_BIN/test-xenstore" -i 1 >/tmp/test || because "test-xenstore ended with $?: $(tail -n 1 /tmp/test)" || return
        cat /tmp/test
    done >/tmp/tests
    awk -v way="$1" -F ' *: *' '
        / ns$/ { split($2, word, " "); times[$1] = times[$1] " " word[1] }
        END { for (name in times) print "@@ value test " way "|" name "|" times[name] }' /tmp/tests
}

# Guests that exist already, and their numbers in the order in which they were made.
THERE=0
DOMIDS=

all_are_ready() {
    xenstore-read $(echo "$DOMIDS" | sed 's|.*|/local/domain/&/data/report|') >/dev/null 2>&1
}

# grow_to COUNT: PV, because that costs the emulated processor least.
grow_to() {
    while [ "$THERE" -lt "$1" ]; do
        THERE=$((THERE + 1))
        ring_guest_config "bench-$THERE" pv bench >/tmp/bench.cfg
        "$XEN_BIN/xl" create -e -q /tmp/bench.cfg >/tmp/create 2>&1 || because "creating guest $THERE failed: $(tail -n 1 /tmp/create)" || return
        # A sign of life for the harness, which gives up a machine that is silent for minutes.
        [ $((THERE % 50)) != 0 ] || echo "$THERE guests" >/dev/console
    done
    DOMIDS=$(xl list | awk '$1 ~ /^bench-/ { print $2 }')
    [ "$(echo "$DOMIDS" | wc -l)" = "$THERE" ] || because "xl list has $(echo "$DOMIDS" | wc -l) of $THERE guests" || return
    await 280 all_are_ready
}

guests_ask() {
    bench crowd --seconds "$WINDOW" $DOMIDS
}

# In turns, so that what changes meanwhile on the machine below changes both.
with_and_without_a_greedy_one() {
    for time in 1 2; do
        bench crowd --seconds "$WINDOW" $DOMIDS && bench crowd --seconds "$WINDOW" --greedy $DOMIDS || return
    done
}

guests_can_be_told() {
    xenstore-write /bench/go 'clock 0' && xenstore-chmod /bench/go r0
}

# What the store counts of itself, and what Xen's own trace has for the same time.
counts_against_trace() {
    xenstore-control status >/tmp/before || return
    # Scheduling, HVM and PV events: from them xenalyze knows who did what.
    xentrace -D -e 0x002af000 /tmp/trace &
    TRACE=$!
    usleep 200000
    bench rows --seconds 0.2 --only READ
    kill -INT "$TRACE"
    wait "$TRACE"
    xenstore-control status >/tmp/after || return
    ls -l /tmp/trace
    for name in hypercalls blocks upcalls notifies; do
        echo "$name: $(($(counter "$name" /tmp/after) - $(counter "$name" /tmp/before)))"
    done
    xenalyze --summary /tmp/trace || because "xenalyze ended with $?"
}

# counter NAME FILE
counter() {
    awk -v "name=$1:" '$1 == name { print $2 }' "$2"
}

sound() {
    expect OK xenstore-control check || return
    store_is_a_domain || return 0
    ! grep -E 'is charged with|panic|trap|corrupt|restart|cannot be|full|ignored' "$(console_log Xenstore)" || because "the store's console tells of trouble"
}

step server-is-found find_server && {
    if part rows; then
        step rows-over-ring rows_over_ring
        store_is_a_domain || step rows-over-socket rows_over_socket
    fi
    if part tests; then
        step test-xenstore-over-ring upstreams_test ring /dev/xen/xenbus
        store_is_a_domain || step test-xenstore-over-socket upstreams_test socket /run/xenstored/socket
    fi
    if part guests; then
        step guests-can-be-told guests_can_be_told
        for count in $GUESTS; do
            step "$count-guests-are-there" grow_to "$count" || break
            if [ "$count" = 10 ]; then
                step 10-guests-and-a-greedy-one with_and_without_a_greedy_one
            else
                step "$count-guests-ask" guests_ask
            fi
        done
    fi
    if part trace && store_is_a_domain; then
        step counts-against-trace counts_against_trace
    fi
    step sound sound
}
