# The store ends again and again, and goes on where it stopped. `xenstore-control crash` is answered before it strikes.

CRASHES=0
STORE_DOMID=$(xl domid Xenstore)

crash() {
    if [ "$1" = nmi ]; then
        [ -n "$STORE_DOMID" ] && xl trigger "$STORE_DOMID" nmi || return
    else
        expect OK timeout 30 xenstore-control crash "$1" || return
    fi
    CRASHES=$((CRASHES + 1))
}

# Every way to end that the platform survives: on PV Xen cannot tell a domain that its stack is full.
ways() {
    echo panic fault hang oom nmi
    [ "$STORE" = pv ] || echo stack
}

values_survive() {
    xenstore-write /survives/value kept || return
    for how in $(ways) $(ways); do
        crash "$how" || return
        expect kept timeout 30 xenstore-read /survives/value || return
        xenstore-write "/survives/after-$how" 1 || return
    done
}

watches_survive() {
    xenstore-watch -n 3 /survives/watched >/tmp/watched &
    WATCHER=$!
    await 30 grep -q watched /tmp/watched || return
    crash panic || return
    xenstore-write /survives/watched/one 1 || return
    crash fault || return
    xenstore-write /survives/watched/two 2 || return
    wait "$WATCHER" || because "xenstore-watch ended with $?" || return
    expect /survives/watched/two cat /tmp/watched
}

# A loop of read, modify, write in transactions on one counter: none may be lost, repeated or refused.
count_to() {
    i=0
    while [ "$i" -lt "$1" ]; do
        VALUE=$(xenstore-read /survives/counter) || return
        [ "$VALUE" = "$i" ] || because "the counter is $VALUE and should be $i" || return
        i=$((i + 1))
        xenstore-write /survives/counter "$i" "/survives/entries/$i" "$i" || return
    done
}

load_survives() {
    xenstore-write /survives/counter 0 || return
    count_to 60 >/tmp/counted 2>&1 &
    COUNTER=$!
    XENSTORED_PATH=/dev/xen/xenbus test-xenstore -i 5 >/tmp/upstream 2>&1 &
    UPSTREAM=$!
    while kill -0 "$COUNTER" 2>/dev/null || kill -0 "$UPSTREAM" 2>/dev/null; do
        crash panic || return
        crash nmi || return
        crash fault || return
        usleep 500000
    done
    wait "$COUNTER" || because "the counter: $(tail -n 1 /tmp/counted)" || return
    wait "$UPSTREAM" || because "test-xenstore: $(tail -n 1 /tmp/upstream)" || return
    expect 60 xenstore-read /survives/counter || return
    ENTRIES=$(xenstore-list /survives/entries | wc -l)
    [ "$ENTRIES" = 60 ] || because "$ENTRIES of 60 entries"
}

guest_survives() {
    start_guest /guest.cfg || return
    crash panic || return
    guest_reaches_userland guest || return
    crash fault || return
    expect guest xl list || return
    crash panic || return
    DOMID=$(xl domid guest)
    xl destroy guest || return
    crash fault || return
    await 60 guest_is_gone guest || return
    fails xenstore-exists "/local/domain/$DOMID"
}

# A client that ends the store twice with each write: it is told EIO, and everybody else goes on.
poison_is_set_aside() {
    XENSTORED_PATH=/dev/xen/xenbus test-xenstore -i 3 >/tmp/upstream 2>&1 &
    UPSTREAM=$!
    for round in 1 2 3 4 5; do
        fails xenstore-write /survives/poisoned 'xenstore-stubdom: crash now' || return
        CRASHES=$((CRASHES + 2))
        expect kept timeout 30 xenstore-read /survives/value || return
    done
    wait "$UPSTREAM" || because "test-xenstore: $(tail -n 1 /tmp/upstream)" || return
    fails xenstore-exists /survives/poisoned || return
    xenstore-control status >/tmp/status || return
    expect 'requests-set-aside: 5' cat /tmp/status || return
    grep '^restart-' /tmp/status
    grep '^restart-' /tmp/status | grep -q 'crash on request' || because 'status does not say why the store restarted' || return
    xenstore-control status restarts >/tmp/restarts || return
    grep -q 'request in hand: domain 0 WRITE' /tmp/restarts || because "no request in hand: $(cat /tmp/restarts)" || return
    grep -q -F 'set aside' "$(console_log Xenstore)" || because 'the log does not say that a request was set aside'
}

# At each step of the loop: nobody notices.
steps_survive() {
    for at in 0 1 2 3 4 5 6 7 8 9 10; do
        expect OK timeout 30 xenstore-control crash at "$at" after 3 || return
        CRASHES=$((CRASHES + 1))
        for value in 1 2 3 4 5; do
            timeout 30 xenstore-write "/survives/step-$at" "$value" || return
            expect "$value" timeout 30 xenstore-read "/survives/step-$at" || return
        done
    done
}

restarts_are_counted() {
    xenstore-control status >/tmp/status || return
    grep -E '^(restarts|requests|connections|windows-in-use):' /tmp/status
    expect "restarts: $CRASHES" cat /tmp/status || return
    for said in 'crash on request' 'invalid opcode' 'hang: the work took too long' 'memory allocation of' '(NMI)'; do
        grep -q -F "$said" "$(console_log Xenstore)" || because "no word of '$said'" || return
    done
    [ "$STORE" = pv ] || grep -q 'the page below the stack: it overflowed' "$(console_log Xenstore)" || because 'no word of the stack' || return
    # What a restart took, of the slowest ten.
    grep -o 'recovered in [0-9]* us.*' "$(console_log Xenstore)" | sort -k 3 -n | tail -n 3
    ! grep -E 'cannot start|does not verify|is charged with|cannot be' "$(console_log Xenstore)"
}

control_check() {
    expect OK xenstore-control check
}

step values-survive values_survive
step watches-survive watches_survive
step load-survives load_survives
step guest-survives guest_survives
step poison-is-set-aside poison_is_set_aside
step steps-survive steps_survive
step check-after-it-all control_check
step restarts-are-counted restarts_are_counted
