# The durable pages of 8 MiB hold nine of these batches; the pages of the 24 MiB that it may have hold more than forty.

VALUE=$(head -c 3000 /dev/zero | tr '\0' v)
BATCHES=20
EACH=50

figure() {
    xenstore-control status | sed -n "s/^$1: //p"
}

fill() {
    batch=0
    while [ "$batch" -lt "$BATCHES" ]; do
        set --
        i=0
        while [ "$i" -lt "$EACH" ]; do
            set -- "$@" "/large/$batch/$i" "$VALUE"
            i=$((i + 1))
        done
        xenstore-write "$@" || because "batch $batch does not fit" || return
        batch=$((batch + 1))
    done
}

grows() {
    BEFORE=$(figure durable-bytes)
    fill || return
    AFTER=$(figure durable-bytes)
    echo "durable bytes: $BEFORE before, $AFTER after"
    [ "$AFTER" -gt "$((BEFORE + 2000000))" ] || because "$AFTER durable bytes after $BEFORE"
}

all_is_there() {
    [ "$(xenstore-list /large | wc -l)" = "$BATCHES" ] || because "$(xenstore-list /large | wc -l) batches" || return
    for batch in 0 11 $((BATCHES - 1)); do
        [ "$(xenstore-list "/large/$batch" | wc -l)" = "$EACH" ] || because "batch $batch is not whole" || return
        [ "$(xenstore-read "/large/$batch/$((EACH - 1))")" = "$VALUE" ] || because "a value of batch $batch is another" || return
    done
    xenstore-control check
}

survives_a_crash() {
    expect OK xenstore-control crash panic || return
    all_is_there || return
    expect 'restarts: 1' xenstore-control status || return
    [ "$(figure durable-bytes)" = "$AFTER" ] || because "$(figure durable-bytes) durable bytes after the restart, $AFTER before"
}

# What is removed makes room for as much again.
goes_on() {
    xenstore-rm /large || return
    fill || return
    all_is_there || return
    expect OK xenstore-control crash fault || return
    all_is_there
}

step more-than-fitted-is-written grows
step all-of-it-is-there all_is_there
step it-survives-a-crash survives_a_crash
step room-is-found-again goes_on
