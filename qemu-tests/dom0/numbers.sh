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

load_costs() {
    xenstore-control status >/tmp/before || return
    XENSTORED_PATH=/dev/xen/xenbus test-xenstore -i 50 || return
    xenstore-control status >/tmp/after || return
    cat /tmp/after
    requests=$(growth requests)
    mark value requests "$requests by test-xenstore -i 50" >/dev/console
    for name in hypercalls notifies blocks upcalls; do
        mark value "$name-per-request" "$(ratio "$(growth "$name")" "$requests")" >/dev/console
    done
}

if store_is_a_domain; then
    step own-status own_status
    step connections-cost connections_cost
    step load-costs load_costs
fi
