# What the image does where it cannot work: it says why on its console, and its domain ends as crashed, not as a silent rest.
#
# The store here is the C daemon, and the image an ordinary domain without what init-xenstore-domain would have given it.

# image_domain NAME MEMORY COMMAND-LINE
image_domain() {
    cat >"/tmp/$1.cfg" <<CFG
name = "$1"
type = "$FORM"
kernel = "/bed/image"
memory = $2
maxmem = $2
vcpus = 1
cmdline = "$3"
on_crash = "preserve"
CFG
    cat "/tmp/$1.cfg"
    start_guest "/tmp/$1.cfg"
}

# The column of states in `xl list` has a c for crashed.
has_crashed() {
    xl list "$1" | awk 'NR == 2 { exit $5 !~ /c/ }'
}

# refusal NAME PATTERN: the domain has crashed, and its console says why.
refusal() {
    await 60 has_crashed "$1"
    RESULT=$?
    xl list
    await 10 test -s "$(console_log "$1")"
    cat "$(console_log "$1")"
    [ "$RESULT" = 0 ] || because "the domain did not end as crashed: $(xl list "$1" | tail -n 1)" || return
    grep -qiE "$2" "$(console_log "$1")" || because "its console says nothing like: $2"
}

removed() {
    xl destroy "$1" && await 60 guest_is_gone "$1"
}

refuses_without_event() {
    image_domain no-event 8 "" && refusal no-event 'event' && removed no-event
}

refuses_with_too_little_memory() {
    image_domain too-little 4 "--event 1" && refusal too-little 'memory|MiB|pages' && removed too-little
}

step refuses-without-event refuses_without_event
step refuses-with-too-little-memory refuses_with_too_little_memory
