# The store domain ends for good. From then on nothing may be asked of the store: only Xen is, by the watcher.

CORES=/var/lib/xenstore-stubdom
# Longer than any command line or message in which it could stand by chance, and in one piece.
SECRET=what-only-the-store-knows-4711

watches() {
    grep -q "watching domain 1" "$1"
}

watchers_start() {
    xenstore-stubdom-watcher --cores "$CORES" --then 'echo "$STORE_REASON $STORE_CORE" >/tmp/then' >/tmp/watcher 2>&1 &
    WATCHER=$!
    # This one is to miss how the domain ended.
    xenstore-stubdom-watcher --once --keep 0 >/tmp/sleeper 2>&1 &
    SLEEPER=$!
    await 30 watches /tmp/watcher || because "$(cat /tmp/watcher)" || return
    await 30 watches /tmp/sleeper || because "$(cat /tmp/sleeper)" || return
    kill -STOP "$SLEEPER"
}

# A restart in place is not an end.
says_nothing_while_the_store_serves() {
    xenstore-control crash panic || return
    xenstore-write /watcher/secret "$SECRET" || return
    xenstore-control print last-words-of-the-store || return
    await 30 says Xenstore last-words-of-the-store || return
    [ "$(wc -l </tmp/watcher)" = 1 ] || because "it says: $(cat /tmp/watcher)"
}

tells() {
    grep -qF -- "$1" /tmp/watcher
}

tells_the_reason() {
    # From here on a store that does not answer is no reason to give up.
    STORE_STARTED=
    end-domain crash 1 || return
    await 60 test -s /tmp/then || because "$(cat /tmp/watcher)" || return
    cat /tmp/watcher
    tells "domain 1 shut down, reason crash" || because "no word of the reason"
}

tells_the_last_words() {
    grep -F '| ' /tmp/watcher | grep -qF last-words-of-the-store || because "the end of the console is not there"
}

byte_of_core() {
    od -An -tu1 -j "$1" -N 1 "$CORE" | tr -d ' '
}

saves_a_core() {
    ls -l "$CORES"
    CORE=$(ls "$CORES"/*.core) || because "no core" || return
    tells "$CORE" || because "its name is not told" || return
    [ "$(head -c 4 "$CORE" | tail -c 3)" = ELF ] && [ "$(byte_of_core 16)" = 4 ] || because "it is no core" || return
    # All of an 8 MiB domain but what is not mapped.
    SIZE=$(wc -c <"$CORE")
    [ "$SIZE" -gt 4000000 ] && [ "$SIZE" -lt 9000000 ] || because "it has $SIZE bytes" || return
    [ "$(stat -c %a "$CORE")" = 600 ] || because "others may read it"
}

core_holds() {
    grep -qF -- "$1" /tmp/core || because "the core does not hold: $1"
}

# A value from the durable pages, a text of the image, and what is written into the core in words.
core_holds_the_store() {
    # busybox' grep sees no further in a line than the first zero byte.
    tr '\0' '\n' <"$CORE" >/tmp/core
    core_holds "$SECRET" && core_holds "--watch-event-timeout" && core_holds "domain 1 ("
}

runs_the_command() {
    [ "$(cat /tmp/then)" = "crash $CORE" ] || because "it was given: $(cat /tmp/then)"
}

# The number of lines with the reason does not change, and no second core appears.
reports_once() {
    xenstore-stubdom-watcher --cores "$CORES" >/tmp/again 2>&1 &
    AGAIN=$!
    await 30 grep -q 'that was reported before' /tmp/again || because "$(cat /tmp/again)" || return
    kill "$AGAIN"
    [ "$(ls "$CORES" | wc -l)" = 1 ] || because "there are several: $(ls "$CORES")" || return
    [ "$(grep -c 'reason crash' /tmp/watcher)" = 1 ] || because "$(cat /tmp/watcher)"
}

notices_a_domain_that_vanished() {
    end-domain destroy 1 || return
    await 60 tells "domain 1, which had ended, is gone now" || because "$(cat /tmp/watcher)" || return
    kill -CONT "$SLEEPER"
    wait "$SLEEPER"
    [ "$?" = 1 ] || because "its exit status is not 1" || return
    cat /tmp/sleeper
    grep -q "domain 1 is gone, destroyed while it ran" /tmp/sleeper || because "the other watcher does not say so" || return
    kill -0 "$WATCHER" || because "the first one has ended"
}

step watchers-start watchers_start &&
    step says-nothing-while-the-store-serves says_nothing_while_the_store_serves &&
    step tells-the-reason tells_the_reason &&
    step tells-the-last-words tells_the_last_words
[ -n "$STORE_STARTED" ] ||
    {
        step saves-a-core saves_a_core &&
            step core-holds-the-store core_holds_the_store &&
            step runs-the-command runs_the_command &&
            step reports-once reports_once
        step notices-a-domain-that-vanished notices_a_domain_that_vanished
    }
