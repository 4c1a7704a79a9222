# Guests that break a rule without end, one after the other. Each time dom0 and a friendly guest work meanwhile, and must notice nothing;
# the bad guest itself says on its console whether it got what the protocol promises. In the end nothing may be left of any of them.

# Work of dom0 (writes and reads) and of the friendly guest (rounds of about ten requests), done at the same time.
REQUESTS_PAIRS=150
ROUNDS=10

STORE_DOMID=$(xl domid Xenstore)

friendly_guests_start() {
    for type in pvh pv; do
        ring_guest "kind-$type" "$type" friendly || return
        heard "kind-$type" 'start ok' || return
        grep -q "features 0x[37bf], error 0" "$(console_log "kind-$type")" ||
            because "reconnection and the error field are not offered: $(head -n 3 "$(console_log "kind-$type")")" || return
    done
    cat "$(console_log kind-pvh)" "$(console_log kind-pv)"
    KIND=$(xl domid kind-pvh)
    # Folders that the tools make for their first guest and keep.
    ring_guest passer-by pvh idle && heard passer-by 'PVH domain' && xl destroy passer-by && await 60 guest_is_gone passer-by
}

# p99 TEXT: the number in it.
p99() {
    echo "$1" | sed 's/.*p99=\([0-9]*\)us.*/\1/'
}

# work ID: dom0 and the friendly guest work at the same time; DOM0_TIMES and GUEST_TIMES say how long requests took.
work() {
    xenstore-write "/local/domain/$KIND/data/ask" "$1 $ROUNDS" || return
    DOM0_TIMES=$(xenbus-client latency /tool/hostile "$REQUESTS_PAIRS") || because "dom0's own work: $DOM0_TIMES" || return
    await 200 answered "$KIND" "$1" || return
    GUEST_TIMES=$(xenstore-read "/local/domain/$KIND/data/report")
    case $GUEST_TIMES in
    "$1 ok "*) ;;
    *) because "the friendly guest: $GUEST_TIMES" || return ;;
    esac
    echo "dom0: $DOM0_TIMES"
    echo "friendly guest: $GUEST_TIMES"
}

# Everything that must be the same afterwards: what the store counts, its event channels and dom0's, and the tree without the one
# place where the friendly guests work.
COUNTED='connections|domains|watches|transactions|windows-in-use'
counts() {
    xenstore-control status | grep -E "^($COUNTED|restarts):"
}

channels() {
    lsevtchn "$STORE_DOMID" && lsevtchn 0
}

tree() {
    xenstore-ls -f -p | grep -v "^/local/domain/[0-9]*/data\|^/tool/hostile"
}

without_attackers() {
    work quiet || return
    QUIET_DOM0=$(p99 "$DOM0_TIMES")
    QUIET_GUEST=$(p99 "$GUEST_TIMES")
    mark value quiet "p99 of dom0 $QUIET_DOM0 us, of a friendly guest $QUIET_GUEST us" >/dev/console
    counts >/tmp/counts && channels >/tmp/channels && tree >/tmp/tree || return
    cat /tmp/counts
}

same_counts() {
    counts >/tmp/counts-now
    cmp -s /tmp/counts /tmp/counts-now
}

# content NAME: the attacker saw what it should, and nothing else.
content() {
    log=$(console_log "$1")
    ! grep UNEXPECTED "$log" || because "$(grep -m 1 -o 'ATTACK.*UNEXPECTED.*' "$log")" || return
    grep -q 'ATTACK .*: as expected' "$log" || because "no verdict from $1"
}

verdict_is_there() {
    grep -q 'ATTACK' "$(console_log "$1")"
}

# attack NAME TYPE
attack() {
    ring_guest "bad-$1" "$2" "attack=$1" || return
    DOMID=$(xl domid "bad-$1")
    # The attack has succeeded once, and goes on.
    await 200 verdict_is_there "bad-$1" || return
    work "$1" || return
    mark value "$1" "p99 of dom0 $QUIET_DOM0 -> $(p99 "$DOM0_TIMES") us, of a friendly guest $QUIET_GUEST -> $(p99 "$GUEST_TIMES") us" >/dev/console
    xl destroy "bad-$1" || return
    await 60 guest_is_gone "bad-$1" || return
    tail -n 3 "$(console_log "bad-$1")"
    content "bad-$1" || return
    fails xenstore-exists "/local/domain/$DOMID" || return
    await 30 same_counts || because "left behind: $(diff /tmp/counts /tmp/counts-now | tr '\n' ' ')"
}

# A guest keeps as much as it can get. Another one comes after it and gets its share all the same (the guest checks that).
hoarders() {
    for name in first second; do
        ring_guest "hoarder-$name" pvh attack=values-kept || return
        await 200 verdict_is_there "hoarder-$name" || return
        tail -n 1 "$(console_log "hoarder-$name")"
    done
    work hoarders || return
    for name in first second; do
        xl destroy "hoarder-$name" && await 60 guest_is_gone "hoarder-$name" || return
        content "hoarder-$name" || return
    done
    await 30 same_counts || because "left behind: $(diff /tmp/counts /tmp/counts-now | tr '\n' ' ')"
}

# The store is introduced to a guest whose page names another event channel than the request does.
new_port() {
    ring_guest new-port pvh "new-port=$STORE_DOMID" || return
    DOMID=$(xl domid new-port)
    heard new-port 'new-port:' || return
    PORT=$(xenstore-read "/local/domain/$DOMID/store/port") || return
    expect OK xenbus-client request RELEASE "$DOMID" || return
    expect OK xenbus-client request INTRODUCE "$DOMID" 1 "$PORT" || return
    heard new-port 'new-port: as expected' || return
    lsevtchn "$STORE_DOMID"
    xl destroy new-port && await 60 guest_is_gone new-port || return
    xenstore-rm "/local/domain/$DOMID" 2>/dev/null
    await 30 same_counts || because "left behind: $(diff /tmp/counts /tmp/counts-now | tr '\n' ' ')"
}

# Whatever state a guest's ring is in, a restart of the store takes it up again.
crash_during() {
    ring_guest "crash-$1" pvh "attack=$1" || return
    await 200 verdict_is_there "crash-$1" || return
    for how in panic fault panic; do
        expect OK xenstore-control crash "$how" || return
        work "$1-$how" || return
    done
    xl destroy "crash-$1" && await 60 guest_is_gone "crash-$1" || return
    tail -n 3 "$(console_log "crash-$1")"
    content "crash-$1"
}

# Each of its requests ends two lives of the store. It is told so twice, and then only gets back in after a minute.
poisoner() {
    BEFORE=$(restarts)
    counts() {
        xenstore-control status | grep -E "^($COUNTED):"
    }
    counts >/tmp/counts
    attack poison "$1" || return
    AFTER=$(restarts)
    echo "$((AFTER - BEFORE)) restarts"
    [ $((AFTER - BEFORE)) -ge 6 ] || because "$((AFTER - BEFORE)) restarts" || return
    expect 'is ignored from now on: Poison' cat "$(console_log Xenstore)" >/dev/null
}

restarts() {
    xenstore-control status | sed -n 's/^restarts: //p'
}

friendly_guests_are_content() {
    ! grep -h FAILED "$(console_log kind-pvh)" "$(console_log kind-pv)" || because "a friendly guest failed"
}

nothing_is_left() {
    channels >/tmp/channels-now && tree >/tmp/tree-now || return
    diff /tmp/channels /tmp/channels-now || because "event channels are left: $(diff /tmp/channels /tmp/channels-now | tail -n 1)" || return
    diff /tmp/tree /tmp/tree-now || because "nodes are left: $(diff /tmp/tree /tmp/tree-now | tail -n 1)" || return
    expect OK xenstore-control check || return
    ! grep -E 'is charged with|panic|trap|corrupt|restart|cannot be|full' "$(console_log Xenstore)" || because "the store's console tells of trouble"
}

step friendly-guests-start friendly_guests_start &&
    step without-attackers without_attackers
step attack-indices-apart attack indices-apart pvh
step attack-indices-back attack indices-back pv
step attack-too-long attack too-long pvh
step attack-types attack types pv
step attack-half-header attack half-header pvh
step attack-never-reads attack never-reads pv
step attack-silent-reset attack silent-reset pvh
step attack-reconnect attack reconnect pv
step attack-watch-flood attack watch-flood pvh
step attack-event-flood attack event-flood pv
step attack-node-flood attack node-flood pvh
step attack-value-flood attack value-flood pv
step ends-in-transactions attack transactions pv
step ends-with-full-rings attack full pvh
step hoarders-leave-room hoarders
step port-in-the-page new_port
step friendly-guests-are-content friendly_guests_are_content
step nothing-is-left nothing_is_left
for name in indices-apart never-reads reconnect watch-flood transactions; do
    step "crash-during-$name" crash_during "$name"
done
step attack-poison poisoner pv
step friendly-guests-are-content-still friendly_guests_are_content
step check-after-it-all expect OK xenstore-control check
