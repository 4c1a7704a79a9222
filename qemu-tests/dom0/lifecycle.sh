# A Linux guest's whole life through xl, once as PV and once as PVH: after each step the store says what it should, and in the end
# it is as if there had been no guest.

. /bed/client-guests.sh

G=life
MEMORY=96

# Two programs that watch all the time; what they print is looked at when something should have happened.
watch_domains() {
    for special in introduceDomain releaseDomain; do
        /usr/bin/xenstore-watch "@$special" >"/tmp/$special" &
        eval "WATCHER_$special=$!"
        await 30 grep -q "@$special" "/tmp/$special" || return
    done
    look_at_store /tmp/before && cat /tmp/before/counts
}

events() {
    grep -c "^@$1" "/tmp/$1"
}

has_more_events() {
    [ "$(events "$1")" -gt "$2" ]
}

# remember: from here on an introduction and an end are news.
remember_events() {
    INTRODUCED=$(events introduceDomain)
    RELEASED=$(events releaseDomain)
}

# At a reboot, xl removes the old domain first and builds the new one.
introduction_is_told() {
    await 120 has_more_events introduceDomain "$INTRODUCED" && return
    tail -n 20 "/var/log/xen/xl-$G.log"
    return 1
}

end_is_told() {
    await 30 has_more_events releaseDomain "$RELEASED"
}

identify() {
    DOMID=$(xl domid "$G") || because "xl knows no domain $G" || return
    VM=$(xenstore-read "/local/domain/$DOMID/vm") || return
    UUID=${VM#/vm/}
}

has_tty() {
    xenstore-read "/local/domain/$1/console/tty" | grep -q '^/dev/pts/'
}

# What xl, xenconsoled and the guest's own driver find in the store about a domain that runs.
store_describes() {
    expect "$G" xenstore-read "/local/domain/$DOMID/name" || return
    expect "$DOMID" xenstore-read "/local/domain/$DOMID/domid" || return
    expect "$G" xenstore-read "$VM/name" || return
    expect "$UUID" xenstore-read "$VM/uuid" || return
    expect "$TYPE" xenstore-read "/libxl/$DOMID/type" || return
    expect xenconsoled xenstore-read "/local/domain/$DOMID/console/type" || return
    for key in port ring-ref; do
        xenstore-read "/local/domain/$DOMID/console/$key" | grep -qx '[0-9]*' || because "console/$key is no number" || return
    done
    await 30 has_tty "$DOMID" || return
    expect "/local/domain/$DOMID" xenstore-read "/local/domain/0/backend/console/$DOMID/0/frontend" || return
    xl list "$G" | awk -v "id=$DOMID" 'NR == 2 { exit $2 != id }' || because "xl list: $(xl list "$G" | tail -n 1)"
}

create() {
    client_guest "$G" "$TYPE" "$MEMORY"
    BEGUN=$(userlands "$G")
    remember_events
    start_guest "/tmp/$G.cfg" && identify && store_describes && introduction_is_told
}

boots() {
    userland_begins "$G" $((BEGUN + 1)) && guest_answers "$G" "$DOMID" 'xenstore-read domid'
}

# The column of states in `xl list`.
state_has() {
    xl list "$G" | awk -v "letter=$1" 'NR == 2 { exit $5 !~ letter }'
}

pause_and_unpause() {
    xl pause "$G" && state_has p || because "it is not paused: $(xl list "$G" | tail -n 1)" || return
    store_describes || return
    xl unpause "$G" || return
    ! state_has p || because "it is still paused" || return
    guest_answers "$G" unpaused 'echo unpaused'
}

# A person at the console: types, sees the answer, types again, leaves.
console_both_ways() {
    rm -f /tmp/typed /tmp/seen
    mkfifo /tmp/typed
    xenconsole --interactive "$DOMID" </tmp/typed >/tmp/seen 2>&1 &
    CONSOLE=$!
    exec 7>/tmp/typed
    echo '0 echo six-times-seven-$((6 * 7))' >&7
    await 60 grep -q six-times-seven-42 /tmp/seen
    RESULT=$?
    echo '0 uname -s; cat /sys/hypervisor/guest_type' >&7
    [ "$RESULT" = 0 ] && await 60 grep -q '^Linux' /tmp/seen && await 60 grep -qi "^$TYPE" /tmp/seen
    RESULT=$?
    exec 7>&-
    wait "$CONSOLE"
    cat /tmp/seen
    [ "$RESULT" = 0 ] || because "the guest does not answer on its console" || return
    says "$G" six-times-seven-42 || because "xenconsoled's log does not have it"
}

# The guest's own keys, read and written from both sides, and watches of each on what the other writes.
own_keys() {
    HOME_PATH=/local/domain/$DOMID
    guest_does "$G" 60 'xenstore-write data/from-guest hello data/deep/er/est 3' || return
    expect hello xenstore-read "$HOME_PATH/data/from-guest" || return
    expect 3 xenstore-read "$HOME_PATH/data/deep/er/est" || return
    xenstore-write "$HOME_PATH/data/from-dom0" welcome || return
    guest_answers "$G" welcome 'xenstore-read data/from-dom0' || return
    guest_answers "$G" 'from-dom0 = "welcome"' 'xenstore-ls data' || return
    guest_answers "$G" from-guest "xenstore-list $HOME_PATH/data" || return
    guest_does "$G" 60 'xenstore-rm data/deep' || return
    fails xenstore-exists "$HOME_PATH/data/deep" || return
    if guest_does "$G" 60 'xenstore-write name intruder'; then
        because "the guest has renamed itself"
        return
    fi
    expect "$G" xenstore-read "$HOME_PATH/name"
}

watches_both_ways() {
    guest_does "$G" 60 'xenstore-watch data/told >/tmp/told & until grep -q told /tmp/told; do usleep 50000; done' || return
    xenstore-write "/local/domain/$DOMID/data/told/$1" 1 || return
    guest_answers "$G" "data/told/$1" "until grep told/$1 /tmp/told; do usleep 50000; done" || return
    dom0_is_told_of "$1"
}

dom0_is_told_of() {
    xenstore-watch -n 2 "/local/domain/$DOMID/data/up" >/tmp/up &
    WATCHER=$!
    await 30 grep -q data/up /tmp/up || return
    guest_does "$G" 60 "xenstore-write data/up/$1 2" || return
    wait "$WATCHER" || because "xenstore-watch ended with $?" || return
    expect "/local/domain/$DOMID/data/up/$1" cat /tmp/up
}

rename() {
    xl rename "$G" other || return
    for path in "/local/domain/$DOMID/name" "$VM/name"; do
        expect other xenstore-read "$path" || return
    done
    expect other xl list || return
    xl rename other "$G" && store_describes
}

save_and_continue() {
    rm -f /tmp/image
    xl save -c "$G" /tmp/image || return
    [ -s /tmp/image ] || because "there is no image" || return
    expect "$DOMID" xl domid "$G" || return
    store_describes || return
    guest_answers "$G" "$DOMID" 'xenstore-read domid' || return
    # The watch from before is still there.
    xenstore-write "/local/domain/$DOMID/data/told/continued" 1 || return
    guest_answers "$G" data/told/continued 'until grep told/continued /tmp/told; do usleep 50000; done'
}

save() {
    rm -f /tmp/image
    remember_events
    xl save "$G" /tmp/image || return
    end_is_told || return
    fails xl domid "$G" || return
    leaves_nothing "$DOMID" "$UUID"
}

restore() {
    OLD=$DOMID
    OLD_UUID=$UUID
    remember_events
    xl restore /tmp/image || return
    rm -f /tmp/image
    identify && introduction_is_told || return
    [ "$DOMID" != "$OLD" ] && [ "$UUID" = "$OLD_UUID" ] || because "domain $OLD $OLD_UUID came back as $DOMID $UUID" || return
    store_describes || return
    guest_answers "$G" "$DOMID" 'xenstore-read domid' || return
    # The guest's kernel has set its watches anew, in its new place.
    xenstore-write "/local/domain/$DOMID/data/told/restored" 1 || return
    guest_answers "$G" data/told/restored 'until grep told/restored /tmp/told; do usleep 50000; done' || return
    own_keys && dom0_is_told_of restored
}

has_another_domid() {
    NOW=$(xl domid "$G" 2>/dev/null) && [ "$NOW" != "$1" ]
}

reboot() {
    OLD=$DOMID
    BEGUN=$(userlands "$G")
    remember_events
    xl reboot "$G" || return
    end_is_told && introduction_is_told || return
    await 60 has_another_domid "$OLD" || return
    identify && store_describes && boots || return
    # What was the old domain's is gone; the virtual machine is the same.
    leaves_nothing "$OLD" none
}

shutdown() {
    remember_events
    xl shutdown "$G" && end_is_told && await 60 guest_is_gone "$G" && leaves_nothing "$DOMID" "$UUID"
}

destroy() {
    create || return
    remember_events
    xl destroy "$G" && end_is_told || return
    fails xl domid "$G" || return
    leaves_nothing "$DOMID" "$UUID"
}

as_before() {
    store_is_as_in /tmp/before || return
    for special in introduceDomain releaseDomain; do
        eval "kill -0 \$WATCHER_$special" || because "xenstore-watch @$special has ended" || return
    done
    cat /tmp/looked/counts
}

life_as() {
    TYPE=$1
    step "$TYPE-create" create &&
        step "$TYPE-boots" boots &&
        step "$TYPE-console" console_both_ways &&
        step "$TYPE-pause-unpause" pause_and_unpause &&
        step "$TYPE-own-keys" own_keys &&
        step "$TYPE-watches" watches_both_ways first &&
        step "$TYPE-rename" rename &&
        step "$TYPE-save-continue" save_and_continue &&
        step "$TYPE-save" save &&
        step "$TYPE-restore" restore &&
        step "$TYPE-reboot" reboot &&
        step "$TYPE-shutdown" shutdown &&
        step "$TYPE-destroy" destroy ||
        xl destroy "$G" >/dev/null 2>&1
    step "$TYPE-store-as-before" as_before
}

step domains-are-watched watch_domains
life_as pv
life_as pvh
step check control_check
step store-console-is-clean console_is_clean
