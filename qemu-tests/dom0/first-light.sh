# Every ordinary client works, upstream's own test passes, and a Linux guest lives and dies.

store_lists_itself() {
    expect '/local/domain/0/name = "Domain-0"' xenstore-ls -f
}

xl_lists_domains() {
    expect Domain-0 xl list || return
    store_is_a_domain || return 0
    grep -q Xenstore /tmp/expect || because "xl list has no Xenstore domain"
}

upstreams_test() {
    XENSTORED_PATH=/dev/xen/xenbus test-xenstore -i 50
}

write_and_read() {
    xenstore-write /tool/bed/a one /tool/bed/b two || return
    expect one xenstore-read /tool/bed/a || return
    expect two xenstore-read /tool/bed/b || return
    fails xenstore-read /tool/bed/absent
}

exists() {
    xenstore-exists /tool/bed/a || because "a node that was written does not exist" || return
    fails xenstore-exists /tool/bed/absent
}

list_and_ls() {
    [ "$(xenstore-list /tool/bed | tr '\n' ' ')" = "a b " ] || because "xenstore-list: $(xenstore-list /tool/bed 2>&1)" || return
    expect '/tool/bed/b = "two"' xenstore-ls -f /tool/bed
}

chmod_shows() {
    xenstore-chmod /tool/bed/a b0 r1 || return
    expect '(b0,r1)' xenstore-ls -p /tool/bed
}

rm_removes() {
    xenstore-rm /tool/bed/b || return
    fails xenstore-exists /tool/bed/b || return
    xenstore-exists /tool/bed/a
}

lines_in() {
    [ "$(wc -l <"$1")" -ge "$2" ]
}

watch_sees_an_event() {
    # Two events: the one that every new watch gets, and the one of the write.
    xenstore-watch -n 2 /tool/bed/watched >/tmp/watch 2>&1 &
    WATCHER=$!
    await 30 lines_in /tmp/watch 1 || return
    xenstore-write /tool/bed/watched/child x || return
    wait "$WATCHER" || because "the watcher ended with $?"
    cat /tmp/watch
    [ "$(tail -n 1 /tmp/watch)" = /tool/bed/watched/child ] || because "the event names $(tail -n 1 /tmp/watch)"
}

control_help() {
    expect print xenstore-control help || return
    for command in check log quota; do
        grep -q "^$command" /tmp/expect || because "help does not name $command" || return
    done
}

control_print() {
    xenstore-control print hello-from-dom0 || return
    store_is_a_domain || return 0
    await 30 says Xenstore hello-from-dom0
}

control_log() {
    # 4.17's own C daemon answers the plain form with an error.
    xenstore-control log on && xenstore-control log off
}

control_quota() {
    expect nodes xenstore-control quota || return
    expect nodes xenstore-control quota 0
}

control_check() {
    expect OK xenstore-control check
}

# dom0, and the store's own loopback, for which init-xenstore-domain makes a port since 4.19.
control_status() {
    store_is_a_domain || return 0
    CONNECTIONS=2
    [ "$XEN" = 4.17 ] && CONNECTIONS=1
    expect "connections: $CONNECTIONS" xenstore-control status
}

# `check` answers OK also when it has repaired something, as C does; what it found stands on the console.
console_is_clean() {
    store_is_a_domain || return 0
    ! grep -iE 'is charged with|panic|corrupt|restart' "$(console_log Xenstore)" || because "the store's console tells of trouble"
}

# Names of a fixed length, five hundred for each call: each call is one transaction.
make_many_children() {
    i=0
    while [ "$i" -lt 5000 ]; do
        # Unquoted on purpose: the words are the arguments, name and value in turn.
        xenstore-write $(awk -v "i=$i" 'BEGIN { for (n = i; n < i + 500; n++) printf "/tool/many/child-%04d %d ", n, n }') ||
            because "writing children from $i on ended with $?" || return
        i=$((i + 500))
    done
}

many_children_are_listed() {
    count=$(xenstore-list /tool/many | sort -u | wc -l)
    [ "$count" = 5000 ] || because "xenstore-list shows $count of 5000" || return
    count=$(xenstore-ls /tool/many | grep -c '^child-')
    [ "$count" = 5000 ] || because "xenstore-ls shows $count of 5000"
}

many_children_are_removed() {
    xenstore-rm /tool/many && fails xenstore-exists /tool/many
}

guest_starts() {
    start_guest /guest.cfg || return
    DOMID=$(xl domid guest)
    expect guest xl list
}

guest_reads_its_name() {
    await 60 says guest guest-domid= || return
    says guest guest-name=guest || because "$(grep guest-name= "$(console_log guest)")" || return
    says guest "guest-domid=$DOMID" || because "$(grep guest-domid= "$(console_log guest)")"
}

guest_is_destroyed() {
    xl destroy guest || return
    await 60 guest_is_gone guest || return
    fails xenstore-exists "/local/domain/$DOMID" || return
    xl list
}

step store-lists-itself store_lists_itself
step xl-lists-domains xl_lists_domains
step xl-info xl info
step test-xenstore upstreams_test
step write-and-read write_and_read
step exists exists
step list-and-ls list_and_ls
step chmod chmod_shows
step rm rm_removes
step watch watch_sees_an_event
step control-print control_print
step control-log control_log
step control-status control_status
step control-check control_check
# oxenstored answers every command of CONTROL with OK, and cannot list a directory that does not fit into one message.
if [ "$STORE" != ocaml ]; then
    step control-help control_help
    step control-quota control_quota
    step make-5000-children make_many_children &&
        step list-5000-children many_children_are_listed
    step remove-5000-children many_children_are_removed
fi
step guest-starts guest_starts &&
    step guest-reaches-userland guest_reaches_userland guest &&
    step guest-reads-its-name guest_reads_its_name
step guest-is-destroyed guest_is_destroyed
step store-is-still-sound control_check
step store-console-is-clean console_is_clean
