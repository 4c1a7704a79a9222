# A list of requests is sent from inside an unprivileged guest; src/scenarios/unprivileged.rs compares the outcomes with what is
# recorded beside them in guest/unprivileged.txt. Nodes and numbers of domains are those that the list names.

. /bed/client-guests.sh

GUEST=3
OTHER=4

# Xen counts domains up, so numbers that are too small are used up by domains that end at once.
use_up_numbers() {
    client_guest nobody pv 96
    until [ "${NUMBER:-0}" -ge $((GUEST - 1)) ]; do
        start_guest -p /tmp/nobody.cfg && NUMBER=$(xl domid nobody) && xl destroy nobody || return
    done
    [ "$NUMBER" = $((GUEST - 1)) ] || because "the next domain would be $((NUMBER + 1))"
}

# permitted PATH VALUE PERMISSIONS: makes a node.
permitted() {
    xenstore-write "$1" "$2" && xenstore-chmod "$1" $3
}

nodes_of_dom0() {
    permitted /open '' "n0 r$GUEST" &&
        permitted /open/secret hidden n0 &&
        permitted /open/secret/below hidden n0 &&
        permitted /open/writable old "n0 b$GUEST" &&
        permitted /open/write-only old "n0 w$GUEST" &&
        permitted /open/mine old "n$GUEST" &&
        permitted /closed '' n0 &&
        permitted /closed/node hidden n0 &&
        permitted /closed/readable open "n0 r$GUEST" &&
        permitted /everybody open r0
}

guests_start() {
    client_guest list pv 96
    client_guest other pv 96
    start_guest /tmp/list.cfg && start_guest -p /tmp/other.cfg || return
    expect "$GUEST" xl domid list && expect "$OTHER" xl domid other && userland_begins list 1
}

# The guest waits until it reads the word.
hand_over() {
    await 120 says list "= hand-over $1" || return
    shift
    for command in "$@"; do
        eval "$command" || because "$command ended with $?" || return
    done
}

go_on() {
    xenstore-write "/local/domain/$GUEST/data/hand-over" "$1"
}

domain_comes_and_goes() {
    start_guest -p /tmp/nobody.cfg && xl destroy nobody && await 60 guest_is_gone nobody
}

requests() {
    echo "bed $XEN"
    list_is_played
    RESULT=$?
    tr -d '\r' <"$(console_log list)"
    return "$RESULT"
}

list_is_played() {
    guest_types list '0 xenbus-client run /requests' || return
    hand_over hidden \
        'xenstore-write /closed/node changed' \
        'xenstore-write /closed/new hidden' \
        'xenstore-write /open/secret changed /open/secret/below changed' \
        "xenstore-write /local/domain/$OTHER/data/x 1" \
        'xenstore-rm /closed/node' || return
    go_on hidden
    hand_over readable \
        'xenstore-write /open/new 1' \
        'xenstore-write /closed/readable changed' \
        'xenstore-write /everybody changed' \
        'xenstore-rm /open/new' || return
    go_on readable
    # Who loses the right to read is told of that, and of nothing after it.
    hand_over taken-away \
        'xenstore-chmod /closed/readable n0' \
        'xenstore-write /closed/readable secret' || return
    go_on taken-away
    hand_over a-domain-came-and-went domain_comes_and_goes || return
    go_on a-domain-came-and-went
    await 180 says list '@done 0 ' || because "the list has no end"
}

all_is_removed() {
    xl destroy list && xl destroy other && leaves_nothing "$GUEST" none && leaves_nothing "$OTHER" none || return
    for path in /open /closed /everybody; do
        xenstore-rm "$path" || return
    done
    store_is_as_in /tmp/before
}

step numbers-are-used-up use_up_numbers
step store-before look_at_store /tmp/before
step guests-start guests_start &&
    step nodes-of-dom0 nodes_of_dom0 &&
    step requests requests
step all-is-removed all_is_removed
step check control_check
step store-console-is-clean console_is_clean
