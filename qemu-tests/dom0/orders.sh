# Guests with an agent (guest/agent.sh): having one do something, and what must be as it was when a guest is gone.

ORDERS=0

# in_guest NAME COMMAND: has the guest run a shell command, shows what it printed, and ends as the command ended.
in_guest() {
    ORDERS=$((ORDERS + 1))
    DATA=/local/domain/$(xl domid "$1")/data
    xenstore-write "$DATA/order" "$ORDERS $2" || return
    await 120 is_answered "$DATA"
    RESULT=$?
    sed -n "/order $ORDERS /,\$p" "$(console_log "$1")"
    [ "$RESULT" = 0 ] || because "guest $1 does not answer: $2" || return
    STATUS_INSIDE=$(xenstore-read "$DATA/answer")
    [ "${STATUS_INSIDE#* }" = 0 ] || because "in guest $1 this ended with ${STATUS_INSIDE#* }: $2"
}

is_answered() {
    case $(xenstore-read "$1/answer" 2>/dev/null) in
    "$ORDERS "*) true ;;
    *) false ;;
    esac
}

# udev would make it; the lock of the hotplug scripts looks at it for ever if it is missing.
links_are_made() {
    ln -s /proc/self/fd/0 /dev/stdin
}

# load_more_modules FOLDER
load_more_modules() {
    while read -r module; do
        # A dependency may be there from the boot.
        [ -e "/sys/module/$module" ] || insmod "$1/$module.ko" || return
    done <"$1/order"
}

# reads PATH VALUE
reads() {
    [ "$(xenstore-read "$1" 2>/dev/null)" = "$2" ]
}

# What a guest's life may change, and its end must restore. look_around FOLDER
look_around() {
    mkdir -p "$1"
    # xl makes these folders with the first guest and never removes them; orders are ours.
    xenstore-ls -fp | grep -vE '^/(vm|libxl|local/domain/0/device-model) = |/data/(order|answer) = ' | sort >"$1/tree"
    lsevtchn 0 >"$1/channels-of-dom0"
    xl list | awk '{ print $1 }' >"$1/domains"
    ls /sys/bus/xen-backend/devices >"$1/backends" 2>/dev/null
    ls /sys/class/net >"$1/interfaces"
    losetup -a >"$1/loop-devices"
    store_is_a_domain || return 0
    lsevtchn "$(xl domid Xenstore)" >"$1/channels-of-the-store"
    xenstore-control status >"$1/status-in-full" || return
    grep -E '^(connections|domains|watches|transactions|windows-in-use|restarts):' "$1/status-in-full" >"$1/status"
}

# remember WHEN
remember() {
    look_around "/tmp/remembered-$1"
}

# is_as_remembered WHEN
is_as_remembered() {
    look_around /tmp/now || return
    for what in tree channels-of-dom0 domains backends interfaces loop-devices channels-of-the-store status; do
        [ ! -e "/tmp/remembered-$1/$what" ] || cmp -s "/tmp/remembered-$1/$what" "/tmp/now/$what" || return
    done
}

# nothing_is_left WHEN: of what came since then.
nothing_is_left() {
    await 60 is_as_remembered "$1"
    RESULT=$?
    DIFFERENT=
    for path in "/tmp/remembered-$1"/*; do
        what=${path##*/}
        [ "$what" != status-in-full ] || continue
        diff "$path" "/tmp/now/$what" || DIFFERENT="$DIFFERENT $what"
    done
    [ "$RESULT" = 0 ] || because "not as before:$DIFFERENT"
}

store_is_sound() {
    expect OK xenstore-control check || return
    # `check` answers OK also when it has repaired something, as C does; what it found stands on the console.
    store_is_a_domain || return 0
    ! grep -iE 'is charged with|panic|corrupt|restart' "$(console_log Xenstore)" || because "the store's console tells of trouble"
}
