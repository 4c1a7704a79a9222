# GUESTS of our own guests at once, created and destroyed TIMES times over. Each works as soon as it runs and says so in the store.
# Afterwards everything is as it was.

STORE_DOMID=$(xl domid Xenstore)

counts() {
    xenstore-control status |
        grep -E '^(connections|domains|watches|transactions|windows-in-use|heap-bytes|memory-bytes):'
}

# figure NAME: what the store says of itself.
figure() {
    xenstore-control status | awk -v "name=$1:" '$1 == name { print $2 }'
}

# about BEFORE NOW PERCENT: NOW is not larger than that many percent more.
about() {
    [ "$2" -le $(($1 + $1 * $3 / 100)) ]
}

channels() {
    lsevtchn "$STORE_DOMID" && lsevtchn 0
}

tree() {
    xenstore-ls -f -p
}

look() {
    channels >"/tmp/channels-$1" && tree >"/tmp/tree-$1" && counts >"/tmp/counts-$1"
}

# The present tree and those of the last two checkpoints have everything in common but what dom0 writes here: the root, /tool and
# /tool/crowd. There may be one of each or three, depending on when the checkpoints were made.
PATH_VERSIONS=6

same_counts() {
    counts >/tmp/counts-now
    BLOCKS=$(figure tree-blocks)
    cmp -s /tmp/counts-before /tmp/counts-now && [ "$BLOCKS" -le $((BLOCKS_BEFORE + PATH_VERSIONS)) ]
}

write_some() {
    xenbus-client latency /tool/crowd 300 >/dev/null
}

# The store keeps the trees of its last two checkpoints, with all guests in them, until newer ones take their place: so dom0 works until
# that has happened.
two_checkpoints_pass() {
    AWAITED=$(($(figure checkpoints) + 2))
    for i in $(seq 40); do
        [ "$(figure checkpoints)" -lt "$AWAITED" ] || { write_some && return; }
        write_some || return
    done
    because "$(figure checkpoints) checkpoints were made, $AWAITED were awaited"
}

counts_as_before() {
    for i in $(seq 40); do
        same_counts && return
        write_some || return
    done
    because "left: $BLOCKS blocks (before: $BLOCKS_BEFORE), $(diff /tmp/counts-before /tmp/counts-now | tr '\n' ' ')"
}

# The tools make folders for their first guest and keep them.
before() {
    ring_guest first pvh 'friendly=1' && heard first 'start ok' && xl destroy first && await 60 guest_is_gone first || return
    two_checkpoints_pass && look before || return
    LIVE_BEFORE=$(figure tree-live-bytes)
    BLOCKS_BEFORE=$(figure tree-blocks)
    HEAP_BEFORE=$(figure heap-used-bytes)
    cat /tmp/counts-before
    xl info | grep -E '^(free_memory|nr_cpus)'
}

# A sign of life for the harness, which gives up a machine that is silent for minutes.
alive() {
    [ $(($1 % 50)) != 0 ] || echo "$1 of $GUESTS" >/dev/console
}

create() {
    BEGAN=$(microseconds)
    for i in $(seq "$GUESTS"); do
        ring_guest_config "crowd-$i" "$1" 'friendly=1' >/tmp/crowd.cfg
        "$XEN_BIN/xl" create -e -q /tmp/crowd.cfg >/tmp/create 2>&1 || {
            cat /tmp/create
            because "creating guest $i failed: $(tail -n 1 /tmp/create)"
            return
        }
        alive "$i"
    done
    mark value "create-$1" "$((($(microseconds) - BEGAN) / 1000 / GUESTS)) ms for each of $GUESTS" >/dev/console
}

# The domains of the crowd. By number: for a name, xl asks the store for the names of all domains.
crowd() {
    xl list | awk '$1 ~ /^crowd-/ { print $2 }'
}

# What the guests have written so far; one process asks for all of it.
reports() {
    xenstore-read $(echo "$CROWD" | sed 's|.*|/local/domain/&/data/report|') 2>/dev/null | grep -c '^start ok '
}

all_have_reported() {
    [ "$(reports)" = "$GUESTS" ]
}

all_worked() {
    CROWD=$(crowd)
    [ "$(echo "$CROWD" | wc -l)" = "$GUESTS" ] || because "xl list has $(echo "$CROWD" | wc -l) of $GUESTS guests" || return
    await 280 all_have_reported || because "$(reports) of $GUESTS guests have done their work" || return
    counts
    mark value "with-$GUESTS-guests" "$(counts | tr '\n' ' ') tree-live-bytes: $(figure tree-live-bytes) heap-used-bytes: $(figure heap-used-bytes)" >/dev/console
    xl info | grep free_memory
}

destroy() {
    BEGAN=$(microseconds)
    i=0
    for domid in $(crowd); do
        "$XEN_BIN/xl" destroy "$domid" || because "destroying domain $domid failed" || return
        i=$((i + 1))
        alive "$i"
    done
    [ "$i" = "$GUESTS" ] || because "xl list had $i of $GUESTS guests" || return
    mark value destroy "$((($(microseconds) - BEGAN) / 1000 / GUESTS)) ms for each of $GUESTS" >/dev/console
    rm -f /var/log/xen/console/guest-crowd-*
}

all_as_before() {
    two_checkpoints_pass && counts_as_before || return
    look now || return
    diff /tmp/channels-before /tmp/channels-now || because "event channels are left: $(diff /tmp/channels-before /tmp/channels-now | tail -n 1)" || return
    diff /tmp/tree-before /tmp/tree-now || because "the tree differs: $(diff /tmp/tree-before /tmp/tree-now | tail -n 1)" || return
    LIVE=$(figure tree-live-bytes)
    HEAP=$(figure heap-used-bytes)
    mark value afterwards "tree-blocks $BLOCKS (before: $BLOCKS_BEFORE), tree-live-bytes $LIVE (before: $LIVE_BEFORE), heap-used-bytes $HEAP (before: $HEAP_BEFORE)" >/dev/console
    # Generations grow, and large numbers are longer than small ones. Versions of a path are nodes, too.
    about "$LIVE_BEFORE" "$LIVE" 5 || because "the tree has $LIVE bytes and had $LIVE_BEFORE" || return
    # Tables that have grown once keep their size, so the first crowd leaves something; those that follow do not, but for a table or two
    # that had room for nearly all of them. That of watches has 65 bytes for each, and goes from 64 to 128 of them with some 50 watches.
    [ "$1" = 1 ] || about "$HEAP_BEFORE" "$HEAP" 2 || [ "$((HEAP - HEAP_BEFORE))" -le 8192 ] || because "$HEAP bytes of heap are in use, after the crowd before $HEAP_BEFORE" || return
    HEAP_BEFORE=$HEAP
}

sound() {
    expect OK xenstore-control check || return
    ! grep -E 'is charged with|panic|trap|corrupt|restart|cannot be|full|ignored' "$(console_log Xenstore)" || because "the store's console tells of trouble"
}

step before before
for time in $(seq "$TIMES"); do
    # Twice PVH, once PV.
    [ "$time" = 2 ] && type=pv || type=pvh
    step "create-$time" create "$type" &&
        step "all-worked-$time" all_worked
    step "destroy-$time" destroy
    step "all-as-before-$time" all_as_before "$time"
done
step sound sound
