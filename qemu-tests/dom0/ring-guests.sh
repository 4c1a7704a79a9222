# Guests that are our own image (crates/ring-guest). What they say on their consoles begins with `ring-guest: `.

# ring_guest NAME TYPE ROLE: starts one, without a process of xl that watches over it. It gets no device at all.
ring_guest() {
    ring_guest_config "$@" >"/tmp/$1.cfg"
    xl create -e "/tmp/$1.cfg"
}

ring_guest_config() {
    cat <<END
name = "$1"
type = "$2"
kernel = "/bed/ring-guest"
memory = 4
vcpus = 1
extra = "$3"
on_crash = "destroy"
END
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
