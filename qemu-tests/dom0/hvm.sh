# An HVM guest: hvmloader reads through the guest's ring and resets it, by RECONNECT where the store offers that and silently where not, and
# Linux takes it over.
# The device model in dom0 is one more client, and the back end of the guest's disk.

disk_is_made() {
    dd if=/dev/zero of=/root/hvm.img bs=1M count=8 2>/dev/null && mke2fs -F /root/hvm.img
}

# boots COUNT: its userland has been reached so many times. xenconsoled goes on with the same log when the guest is built anew.
boots() {
    [ "$(grep -c guest-userland "$(console_log hvm)")" = "$1" ]
}

guest_starts() {
    start_guest -p /bed/hvm.cfg || {
        cat /var/log/xen/qemu-dm-hvm.log
        return 1
    }
    ID=$(xl domid hvm)
    xenstore-write "/local/domain/$ID/bios-strings/system-manufacturer" Bed || return
    xl unpause hvm || return
    expect running xenstore-read "/local/domain/0/device-model/$ID/state"
}

# xl makes the node empty, and its Linux writes it as soon as it talks to the store: hvmloader and SeaBIOS are through with the ring then.
linux_takes_the_ring() {
    await 240 reads "/local/domain/$ID/control/feature-poweroff" 1
}

ring_was_reset() {
    store_is_a_domain || return 0
    xenstore-control status | grep '^ring-resets: [1-9]' || because "the store has seen no reset"
}

# reaches_userland COUNT
reaches_userland() {
    await 240 boots "$1"
    RESULT=$?
    tail -n 20 "$(console_log hvm)"
    tail -n 20 /var/log/xen/hvm-serial
    return "$RESULT"
}

# From inside, and not only what hvmloader saw. The console that it writes to is emulated by the device model.
guest_uses_its_keys() {
    in_guest hvm "grep -qx xen /sys/hypervisor/type && xenstore-read name && xenstore-write data/own value-$1 &&
        xenstore-ls data && echo told-$1-by-domain-\$(xenstore-read domid) >/dev/ttyS0" || return
    expect "value-$1" xenstore-read "/local/domain/$ID/data/own" || return
    await 30 grep "told-$1-by-domain-$ID" /var/log/xen/hvm-serial
}

# hvmloader_has_read MANUFACTURER: hvmloader takes it from the store through the guest's ring, and Linux finds it in the firmware's tables.
hvmloader_has_read() {
    in_guest hvm "grep -x '$1' /sys/class/dmi/id/sys_vendor"
}

disk_is_used() {
    in_guest hvm "await 30 test -b /dev/xvda && mount -t ext2 /dev/xvda /mnt && echo 'from hvm' >/mnt/from-guest && umount /mnt &&
        echo 3 >/proc/sys/vm/drop_caches && mount -t ext2 /dev/xvda /mnt && grep -qx 'from hvm' /mnt/from-guest && umount /mnt" || return
    expect 4 xenstore-read "/local/domain/0/backend/qdisk/$ID/51712/state"
}

has_another_domid() {
    ID=$(xl domid hvm 2>/dev/null) && [ "$ID" != "$OLD" ]
}

# A new domain takes its place, with a new ring.
guest_is_rebooted() {
    OLD=$ID
    xl reboot hvm || return
    await 120 has_another_domid || return
    fails xenstore-exists "/local/domain/$OLD"
}

disk_has_kept_its_file() {
    in_guest hvm "await 30 test -b /dev/xvda && mount -t ext2 /dev/xvda /mnt && grep -qx 'from hvm' /mnt/from-guest && umount /mnt"
}

guest_is_destroyed() {
    xl destroy hvm || return
    await 60 guest_is_gone hvm || return
    fails xenstore-exists "/local/domain/$ID" || return
    fails xenstore-exists "/local/domain/0/device-model/$ID"
}

no_device_model() {
    ! pidof xen-qemu-system-i386
}

device_model_is_gone() {
    await 30 no_device_model
}

step disk-is-made disk_is_made
step remember remember before
step guest-starts guest_starts &&
    step linux-takes-the-ring linux_takes_the_ring &&
    step ring-was-reset ring_was_reset &&
    step guest-reaches-userland reaches_userland 1 &&
    step hvmloader-has-read hvmloader_has_read Bed &&
    step guest-uses-its-keys guest_uses_its_keys first &&
    step disk-is-used disk_is_used &&
    step guest-is-rebooted guest_is_rebooted &&
    step linux-takes-the-ring-again linux_takes_the_ring &&
    step guest-reaches-userland-again reaches_userland 2 &&
    step hvmloader-has-read-again hvmloader_has_read Xen &&
    step guest-uses-its-keys-again guest_uses_its_keys second &&
    step disk-has-kept-its-file disk_has_kept_its_file
step guest-is-destroyed guest_is_destroyed
step device-model-is-gone device_model_is_gone
step nothing-is-left nothing_is_left before
step store-is-sound store_is_sound
