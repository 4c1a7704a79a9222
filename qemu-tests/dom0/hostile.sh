# scratch
friendly_guests_start() {
    ring_guest kind-pvh pvh friendly || return
    heard kind-pvh 'start ok' || return
    ring_guest kind-pv pv friendly || return
    heard kind-pv 'start ok' || return
    cat /var/log/xen/console/guest-kind*
    xl list
    xl info | grep memory
}
step friendly-guests-start friendly_guests_start
works() {
    KIND=$(xl domid kind-pvh)
    friendly_work "$KIND" a 50 || return
    echo "$WORK"
    time /bed/dom0-client latency /tool/x 200
}
step works works
one() {
    time ring_guest "bad-$1" "$2" "attack=$1" || return
    await 100 says "bad-$1" "ATTACK"
    RESULT=$?
    tail -n 4 "$(console_log "bad-$1")"
    grep -q UNEXP "$(console_log "bad-$1")" && RESULT=1
    time friendly_work "$KIND" "$1" 20
    echo "friendly $WORK"
    /bed/dom0-client latency /tool/x 200
    xl destroy "bad-$1"
    return $RESULT
}
for a in indices-apart indices-back too-long types half-header never-reads full silent-reset reconnect watch-flood event-flood node-flood transactions; do
    step "$a" one "$a" pvh
done
