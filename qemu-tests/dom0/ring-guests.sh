# Guests that are our own image (crates/ring-guest). What they say on their consoles begins with `ring-guest: `.

# ring_guest NAME TYPE ROLE: starts one, without a process of xl that watches over it. It gets no device at all.
ring_guest() {
    cat >"/tmp/$1.cfg" <<END
name = "$1"
type = "$2"
kernel = "/bed/ring-guest"
memory = 4
vcpus = 1
extra = "$3"
on_crash = "destroy"
END
    xl create -e "/tmp/$1.cfg"
}

# heard NAME TEXT: the guest has said this.
heard() {
    await 120 says "$1" "ring-guest: $2" || {
        tail -n 5 "$(console_log "$1")"
        return 1
    }
}

# answered DOMID ID: a friendly guest has done what it was asked last, well or not.
answered() {
    xenstore-read "/local/domain/$1/data/report" 2>/dev/null | grep -q "^$2 "
}

# friendly_work DOMID ID ROUNDS: a friendly guest works and is content; its times are in WORK.
friendly_work() {
    xenstore-write "/local/domain/$1/data/ask" "$2 $3" || return
    await 200 answered "$1" "$2" || return
    WORK=$(xenstore-read "/local/domain/$1/data/report")
    case $WORK in
    "$2 ok "*) WORK=${WORK#"$2 ok "} ;;
    *) because "the friendly guest: $WORK" ;;
    esac
}
