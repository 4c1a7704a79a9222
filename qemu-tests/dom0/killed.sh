# Ten Linux guests, and whatever uses the store is killed in the middle of it: nothing leaks, and nobody else notices. Two counters
# that check themselves, one in dom0 and one in a guest, run all the time.

. /bed/client-guests.sh

GUESTS=10

# PVH guests take much longer where the processor is emulated; two are enough to have both.
type_of() {
    case $1 in
    7 | 8) echo pvh ;;
    *) echo pv ;;
    esac
}

guest_is_created() {
    client_guest "g$1" "$(type_of "$1")" 96
    start_guest "/tmp/g$1.cfg"
}

counters_start() {
    guest_does g1 60 'xenbus-client count data/counter >/tmp/counted 2>&1 &' || return
    xenbus-client count /killed/counter >/tmp/counted 2>&1 &
    COUNTER=$!
    await 60 grep -q counting /tmp/counted || return
    counters_go_on
}

# A counter has gone on if its value is another than just now.
has_left() {
    VALUE=$(xenstore-read "$1") && [ "$VALUE" != "$2" ]
}

counters_go_on() {
    for path in /killed/counter "/local/domain/$(xl domid g1)/data/counter"; do
        await 60 xenstore-exists "$path" || return
        SEEN=$(xenstore-read "$path")
        await 60 has_left "$path" "$SEEN" || because "$path stays $SEEN; in dom0: $(tail -n 1 /tmp/counted)" || return
    done
    xenstore-ls /killed
}

# counted NAME: what the store says it has now.
counted() {
    xenstore-control status | awk -v "name=$1:" '$1 == name { print $2 }'
}

at_least() {
    [ "$(counted "$1")" -ge "$2" ]
}

# The two counters each have a transaction open now and then.
at_most_the_counters_transactions() {
    [ "$(counted transactions)" -le 2 ]
}

# guest_destroyed_in_transaction NUMBER
guest_destroyed_in_transaction() {
    ID=$(xl domid "g$1")
    guest_does "g$1" 60 'for i in 1 2 3 4; do xenbus-client hold data/held >/tmp/held-$i & done' || return
    guest_does "g$1" 60 'for i in 1 2 3 4; do until grep -q holding /tmp/held-$i; do usleep 50000; done; done' || return
    fails xenstore-exists "/local/domain/$ID/data/held" || return
    at_least transactions 4 || because "there are $(counted transactions) transactions" || return
    xl destroy "g$1" && await 60 guest_is_gone "g$1" && leaves_nothing "$ID" none || return
    await 30 at_most_the_counters_transactions || return
    counters_go_on
}

# Linux ends the transactions of a process that dies, as it ends its watches.
transactions_of_dom0_killed() {
    HOLDERS=
    for i in 1 2 3 4 5 6; do
        xenbus-client hold "/killed/held-$i" >"/tmp/held-$i" &
        HOLDERS="$HOLDERS $!"
    done
    for i in 1 2 3 4 5 6; do
        await 60 grep -q holding "/tmp/held-$i" || return
    done
    at_least transactions 6 || because "there are $(counted transactions) transactions" || return
    kill -9 $HOLDERS
    await 30 at_most_the_counters_transactions || because "there are $(counted transactions) transactions" || return
    for i in 1 2 3 4 5 6; do
        fails xenstore-exists "/killed/held-$i" || return
    done
    counters_go_on
}

watches_are() {
    [ "$(counted watches)" = "$1" ]
}

watchers_killed() {
    BEFORE=$(counted watches)
    WATCHERS=
    for i in 1 2 3 4 5 6; do
        /usr/bin/xenstore-watch /killed /local/domain @releaseDomain >"/tmp/watch-$i" &
        WATCHERS="$WATCHERS $!"
    done
    for i in 1 2 3 4 5 6; do
        await 60 grep -q @releaseDomain "/tmp/watch-$i" || return
    done
    await 30 watches_are $((BEFORE + 18)) || because "$BEFORE watches became $(counted watches)" || return
    # Their events are on the way: the counter's.
    kill -9 $WATCHERS
    await 30 watches_are "$BEFORE" || because "$BEFORE watches became $(counted watches)" || return
    counters_go_on
}

# strike PROCESS: kills it, and counts those that had not ended before.
strike() {
    kill -9 "$1" 2>/dev/null
    wait "$1"
    [ "$?" = 137 ] && KILLED=$((KILLED + 1))
}

# Each is killed at another moment of its work.
readers_killed() {
    KILLED=0
    for i in $(seq 20); do
        /usr/bin/xenstore-ls -f / >/dev/null 2>&1 &
        CLIENT=$!
        usleep $((i * 25000))
        strike "$CLIENT"
    done
    echo "$KILLED of 20 were still at work"
    [ "$KILLED" -gt 0 ] || because "all had ended before they could be killed" || return
    counters_go_on
}

writers_killed() {
    KILLED=0
    for i in $(seq 20); do
        /usr/bin/xenstore-write $(seq 40 | sed "s|.*|/killed/pile-$i/& $i|") >/dev/null 2>&1 &
        CLIENT=$!
        usleep $((i * 25000))
        strike "$CLIENT"
    done
    echo "$KILLED of 20 were still at work"
    # Each is one transaction: all of it or nothing.
    for pile in $(xenstore-list /killed | grep pile-); do
        [ "$(xenstore-list "/killed/$pile" | wc -l)" = 40 ] || because "$pile is not complete" || return
        xenstore-rm "/killed/$pile" || return
    done
    await 30 at_most_the_counters_transactions || because "there are $(counted transactions) transactions" || return
    counters_go_on
}

newest_domid() {
    xl list | awk 'NR > 1 && $(NF - 4) > newest { newest = $(NF - 4) } END { print newest }'
}

has_newer_domain() {
    NEWEST=$(newest_domid)
    [ "$NEWEST" -gt "$1" ]
}

# creation_killed CONDITION…: xl is killed when the condition holds for the domain that it makes; then the half is removed.
creation_killed() {
    client_guest victim pv 96
    OLD=$(newest_domid)
    "$XEN_BIN/xl" create /tmp/victim.cfg >/tmp/created 2>&1 &
    XL=$!
    await 60 has_newer_domain "$OLD" || return
    await 60 "$@" || return
    # At the latest of the three moments it may have been faster than the blow.
    kill -9 "$XL" || echo "xl had ended"
    wait "$XL"
    xl list
    xl destroy "$NEWEST" || return
    leaves_nothing "$NEWEST" none || return
    counters_go_on
}

victim_has_path() {
    xenstore-exists "/local/domain/$NEWEST"
}

victim_has_ring() {
    xenstore-exists "/local/domain/$NEWEST/store/ring-ref"
}

console_daemon_killed() {
    guest_answers g3 before-it 'echo before-it' || return
    kill -9 "$(cat /run/xenconsoled.pid)" || return
    console_daemon || because "xenconsoled does not start again" || return
    for guest in g3 g8; do
        guest_answers "$guest" behind-it 'echo behind-it' || return
    done
    counters_go_on
}

counters_end() {
    xenstore-write /killed/counter-stop 1 "/local/domain/$(xl domid g1)/data/counter-stop" 1 || return
    wait "$COUNTER"
    STATUS=$?
    cat /tmp/counted
    [ "$STATUS" = 0 ] || because "in dom0: $(tail -n 1 /tmp/counted)" || return
    guest_does g1 60 'until grep -qv counting /tmp/counted; do usleep 50000; done; tail -n 1 /tmp/counted; grep -q ^counted /tmp/counted' ||
        because "in the guest: $(grep -v '^@done' /tmp/guest-said | tail -n 1)" || return
    STEPS=$(sed -n 's/^counted \([0-9]*\),.*/\1/p' /tmp/counted)
    expect "$STEPS" xenstore-read /killed/counter
}

all_are_destroyed() {
    for i in 1 3 4 5 6 8 9 10; do
        ID=$(xl domid "g$i") || return
        xl destroy "g$i" && leaves_nothing "$ID" none || return
    done
    xenstore-rm /killed && store_is_as_in /tmp/before
}

step store-before look_at_store /tmp/before
for i in $(seq "$GUESTS"); do
    step "g$i-is-created" guest_is_created "$i"
done
for i in $(seq "$GUESTS"); do
    step "g$i-boots" userland_begins "g$i" 1
done
step counters-start counters_start
step pv-guest-destroyed-in-transaction guest_destroyed_in_transaction 2
step pvh-guest-destroyed-in-transaction guest_destroyed_in_transaction 7
step transactions-of-dom0-killed transactions_of_dom0_killed
step watchers-killed watchers_killed
step readers-killed readers_killed
step writers-killed writers_killed
# As soon as Xen knows the domain; when it has its place in the store; when the store has almost all of it.
step creation-killed-early creation_killed true
step creation-killed-on-the-way creation_killed victim_has_path
step creation-killed-late creation_killed victim_has_ring
step console-daemon-killed console_daemon_killed
step counters-end counters_end
step all-are-destroyed all_are_destroyed
step check control_check
step store-console-is-clean console_is_clean
