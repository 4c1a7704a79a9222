# A trace of random requests is played over dom0's ring; src/scenarios/traces.rs judges what came otherwise than expected.

trace_is_played() {
    timeout 900 xenbus-client run /bed/trace >/tmp/played || because "the client ended with $?: $(tail -n 1 /tmp/played)" || return
    wc -l </tmp/played
    expect '= end' tail -n 1 /tmp/played
}

# Far more than a table of differences could explain says enough.
outcomes_that_differ() {
    echo "bed $XEN"
    diff /bed/expected /tmp/played | grep '^[<>]' | head -n 400
    true
}

all_is_removed() {
    xenstore-rm /trace && xenstore-rm data/fence && fails xenstore-exists /trace
}

control_check() {
    expect OK xenstore-control check
}

step trace-is-played trace_is_played
step outcomes-that-differ outcomes_that_differ
step all-is-removed all_is_removed
step check control_check
