# What the store says about itself: idle, with more connections, and under load. The time to its first answer was measured when it was
# started (launch_and_measure). src/scenarios/numbers.rs prints all of it.

# This many guests are created, and stay paused: each is a connection and the nodes that xl writes for it.
GUESTS=4

own_status() {
    expect : xenstore-control status
}

# counter NAME FILE
counter() {
    awk -v "name=$1:" '$1 == name { print $2; found = 1 } END { if (!found) print 0 }' "$2"
}

# growth NAME: what the counter has grown by between the two last looks.
growth() {
    echo $(($(counter "$1" /tmp/after) - $(counter "$1" /tmp/before)))
}

# ratio NUMERATOR DENOMINATOR
ratio() {
    awk -v "n=$1" -v "d=$2" 'BEGIN { printf "%.2f", d ? n / d : 0 }'
}

connections_cost() {
    xenstore-control status >/tmp/before || return
    for i in $(seq "$GUESTS"); do
        sed "s/^name = .*/name = \"paused-$i\"/; s/^memory = .*/memory = 96/" /guest.cfg >"/tmp/paused-$i.cfg"
        xl create -p "/tmp/paused-$i.cfg" || return
    done
    xenstore-control status >/tmp/after || return
    cat /tmp/after
    for name in heap-used-bytes tree-live-bytes; do
        mark value "$name-per-guest" "$(($(growth "$name") / GUESTS)) (a connection and what xl writes for it)" >/dev/console
    done
    for i in $(seq "$GUESTS"); do
        xl destroy "paused-$i" || return
    done
}

# costs NAME: what each request since the look before cost the store.
costs() {
    xenstore-control status >/tmp/after || return
    requests=$(growth requests)
    mark value "$1" "$requests requests" >/dev/console
    for name in hypercalls notifies blocks; do
        mark value "  $name each" "$(ratio "$(growth "$name")" "$requests")" >/dev/console
    done
}

# Short requests, each sent when the one before is answered.
lone_requests() {
    xenstore-control status >/tmp/before || return
    XENSTORED_PATH=/dev/xen/xenbus test-xenstore -i 300 -t 'read 1' || return
    costs lone
}

# All of upstream's tests: some messages are longer than the ring and take a second event.
load_costs() {
    xenstore-control status >/tmp/before || return
    XENSTORED_PATH=/dev/xen/xenbus test-xenstore -i 50 || return
    cat /tmp/after
    costs test-xenstore
}

# Sixteen clients at once: what they ask between two looks of the store is answered with one event.
batches() {
    xenstore-control status >/tmp/before || return
    CLIENTS=
    for i in $(seq 16); do
        XENSTORED_PATH=/dev/xen/xenbus test-xenstore -i 40 -t 'read 1' >/dev/null &
        CLIENTS="$CLIENTS $!"
    done
    for client in $CLIENTS; do
        wait "$client" || because "test-xenstore ended with $?" || return
    done
    costs sixteen-clients
}

if store_is_a_domain; then
    step own-status own_status
    step connections-cost connections_cost
    step load-costs load_costs
    step lone-requests lone_requests
    step batches batches
fi
