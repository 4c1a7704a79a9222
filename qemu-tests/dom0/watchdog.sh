# A store that works without end, and that may: Xen's watchdog is the last to notice.

watcher_starts() {
    xenstore-stubdom-watcher --cores /tmp/cores --then 'echo "$STORE_REASON" >/tmp/then' >/tmp/watcher 2>&1 &
    await 30 grep -q 'watching domain 1' /tmp/watcher || because "$(cat /tmp/watcher)"
}

# Longer than the watchdog waits: the store has nothing to do meanwhile, and winds it nevertheless.
an_idle_store_is_left_alone() {
    sleep 15
    xenstore-write /watchdog/value kept && expect kept xenstore-read /watchdog/value || return
    [ ! -e /tmp/then ] || because "$(cat /tmp/watcher)"
}

a_store_that_hangs_is_ended() {
    # From here on a store that does not answer is no reason to give up. Its answer would come from the next life, and there is none.
    STORE_STARTED=
    xenstore-control crash hang >/dev/null 2>&1 &
    await 60 test -s /tmp/then || because "$(cat /tmp/watcher)" || return
    cat /tmp/watcher
    expect watchdog cat /tmp/then
}

step watcher-starts watcher_starts &&
    step an-idle-store-is-left-alone an_idle_store_is_left_alone &&
    step a-store-that-hangs-is-ended a_store_that_hangs_is_ended
