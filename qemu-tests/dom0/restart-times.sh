# How long a guest that asks all the time waits for its next answer when the store crashes, with more and more nodes in the store; and how
# long the store says that it took to recover, which is a part of that.

CRASHES=10
FILLERS=4
STORE_DOMID=$(xl domid Xenstore)

figure() {
    xenstore-control status | sed -n "s/^$1: //p"
}

ping_starts() {
    ring_guest ping pvh ping && heard ping 'PVH domain' || return
    PING=$(xl domid ping)
    ASKED=0
    ask && echo "$REPORT"
}

# ask: what the guest has seen since it was asked last is in REPORT.
ask() {
    ASKED=$((ASKED + 1))
    xenstore-write "/local/domain/$PING/data/ask" "$ASKED" || return
    await 60 answered "$PING" "$ASKED" || return
    REPORT=$(xenstore-read "/local/domain/$PING/data/report")
}

nodes() {
    xenstore-control check >/dev/null
    grep -o 'check: [0-9]* nodes' "$(console_log Xenstore)" | tail -n 1 | tr -dc 0-9
}

# fill COUNT: until there are so many nodes; several write at once.
fill() {
    HERE=$(nodes)
    EACH=$((($1 - HERE) * 100 / 101 / FILLERS))
    PIDS=
    for i in $(seq "$FILLERS"); do
        xenbus-client fill "/fill/$1-$i" "$EACH" &
        PIDS="$PIDS $!"
    done
    for pid in $PIDS; do
        wait "$pid" || because "filling ended with $?" || return
    done
    echo "$(nodes) nodes"
}

spread() {
    sort -n | awk '{ of[NR] = $1 } END { printf "%.1f / %.1f / %.1f", of[1] / 1000, of[int((NR + 1) / 2)] / 1000, of[NR] / 1000 }'
}

recovered() {
    grep -o 'recovered in [0-9]* us' "$(console_log Xenstore)" | awk '{ print $3 }'
}

# times COUNT
times() {
    BEFORE=$(recovered | wc -l)
    : >/tmp/silences
    # How long it waits without any crash.
    ask && usleep 500000 && ask || return
    QUIET=${REPORT##*p50=}
    for i in $(seq "$CRASHES"); do
        RESTARTS=$(figure restarts)
        # While no tool of dom0 asks anything.
        usleep 200000
        ask || return
        usleep 200000
        if [ $((i % 2)) = 0 ]; then
            xl trigger "$STORE_DOMID" nmi || return
        else
            expect OK xenstore-control crash panic || return
        fi
        [ "$(figure restarts)" = $((RESTARTS + 1)) ] || because "no restart" || return
        ask || return
        echo "$REPORT"
        echo "$REPORT" | sed 's/.*max=\([0-9]*\)us.*/\1/' >>/tmp/silences
    done
    recovered | tail -n +$((BEFORE + 1)) >/tmp/recovered
    figures=$(nodes)
    mark value "with-$figures-nodes" "silence $(spread </tmp/silences) ms, of it recovery $(spread </tmp/recovered) ms (least / median / greatest of $CRASHES; without a crash p50=$QUIET); tree-live-bytes $(figure tree-live-bytes), $(grep -o '[0-9]* records read back' "$(console_log Xenstore)" | tail -n 1)" >/dev/console
}

step ping-starts ping_starts && {
    for count in 1000 10000 120000; do
        step "fill-$count" fill "$count" && step "times-$count" times "$count"
    done
    step nodes-are-there expect OK xenstore-control check
}
