# Disks and network interfaces: back ends in dom0, set up by Xen's own hotplug scripts; front ends in a PV and a PVH guest.

DOM0_ADDRESS=192.168.77.1

bridge_is_made() {
    ip link add name xenbr0 type bridge || return
    ip address add "$DOM0_ADDRESS/24" dev xenbr0 || return
    ip link set xenbr0 up
}

# make_disk FILE: with a file system and a file in it.
make_disk() {
    dd if=/dev/zero of="$1" bs=1M count=8 2>/dev/null || return
    mke2fs -F "$1" || return
    mount -t ext2 -o loop "$1" /mnt || return
    echo "from dom0" >/mnt/from-dom0
    umount /mnt
}

disks_are_made() {
    make_disk /root/paravirtual.img && make_disk /root/pvh.img && make_disk /root/second.img || return
    [ -z "$(losetup -a)" ] || because "a loop device is left: $(losetup -a)"
}

# configure NAME TYPE LAST-OCTET
configure() {
    sed "s/@NAME@/$1/; s/@TYPE@/$2/; s/@MAC@/00:16:3e:00:00:0$3/" /bed/devices.cfg >"/tmp/$1.cfg"
}

# guest_starts NAME TYPE LAST-OCTET. One after the other: the hotplug scripts have 40 seconds, and a booting guest takes the processor.
guest_starts() {
    configure "$@"
    start_guest "/tmp/$1.cfg" || {
        cat /var/log/xen/xen-hotplug.log
        return 1
    }
    # The hotplug scripts have run when xl returns.
    ID=$(xl domid "$1")
    expect connected xenstore-read "/local/domain/0/backend/vbd/$ID/51712/hotplug-status" || return
    expect connected xenstore-read "/local/domain/0/backend/vif/$ID/0/hotplug-status" || return
    [ -e "/sys/class/net/xenbr0/brif/vif$ID.0" ] || because "vif$ID.0 is not on the bridge" || return
    expect "/root/$1.img" losetup -a || return
    guest_reaches_userland "$1"
}

# Both ends say so: 4 is XenbusStateConnected.
devices_are_connected() {
    for name in paravirtual pvh; do
        ID=$(xl domid "$name")
        for device in vbd/51712 vif/0; do
            await 60 reads "/local/domain/0/backend/${device%/*}/$ID/${device#*/}/state" 4 || return
            await 60 reads "/local/domain/$ID/device/$device/state" 4 || return
        done
    done
}

disks_are_used() {
    for name in paravirtual pvh; do
        # Without its caches the guest must fetch again what it wrote.
        in_guest "$name" "await 30 test -b /dev/xvda && mount -t ext2 /dev/xvda /mnt && grep -qx 'from dom0' /mnt/from-dom0 &&
            echo 'from $name' >/mnt/from-guest && dd if=/dev/urandom of=/mnt/much bs=1M count=2 && sync &&
            md5sum /mnt/much >/run/sum && umount /mnt && echo 3 >/proc/sys/vm/drop_caches" || return
        in_guest "$name" "mount -t ext2 /dev/xvda /mnt && md5sum -c /run/sum && grep -qx 'from $name' /mnt/from-guest &&
            xenstore-write data/sum \"\$(cut -d' ' -f1 /run/sum)\" && umount /mnt" || return
    done
}

dom0_reads_what_was_written() {
    for name in paravirtual pvh; do
        SUM=$(xenstore-read "/local/domain/$(xl domid "$name")/data/sum") || return
        mount -t ext2 -o ro,loop "/root/$name.img" /mnt || return
        FILE=$(cat /mnt/from-guest) MUCH=$(md5sum </mnt/much)
        umount /mnt
        [ "$FILE" = "from $name" ] || because "dom0 reads '$FILE' on the disk of $name" || return
        [ "${MUCH%% *}" = "$SUM" ] || because "dom0 reads other bytes on the disk of $name than it wrote" || return
    done
}

network_is_used() {
    in_guest paravirtual "ip address add 192.168.77.2/24 dev eth0 && ip link set eth0 up" || return
    in_guest pvh "ip address add 192.168.77.3/24 dev eth0 && ip link set eth0 up" || return
    in_guest paravirtual "await 30 ping -c 1 -W 2 $DOM0_ADDRESS" || return
    ping -c 3 -W 5 192.168.77.2 || because "dom0 cannot ping the guest" || return
    # Longer than a page, and from one guest to the other.
    in_guest pvh "await 30 ping -c 1 -W 2 -s 5000 192.168.77.2"
}

a_disk_comes() {
    ID=$(xl domid paravirtual)
    xl block-attach paravirtual format=raw,vdev=xvdb,access=rw,target=/root/second.img || return
    await 60 reads "/local/domain/0/backend/vbd/$ID/51728/state" 4 || return
    in_guest paravirtual 'await 30 test -b /dev/xvdb && mount -t ext2 /dev/xvdb /mnt && echo second >/mnt/second && umount /mnt'
}

a_disk_goes() {
    xl block-detach paravirtual xvdb || return
    in_guest paravirtual 'await 30 test ! -e /dev/xvdb' || return
    fails xenstore-exists "/local/domain/0/backend/vbd/$ID/51728" || return
    fails xenstore-exists "/local/domain/$ID/device/vbd/51728" || return
    ! losetup -a | grep second.img || because "its loop device is left"
}

an_interface_comes() {
    xl network-attach paravirtual bridge=xenbr0 mac=00:16:3e:00:00:12 || return
    await 60 test -e "/sys/class/net/xenbr0/brif/vif$ID.1" || return
    in_guest paravirtual 'await 30 ip link set eth1 up && ip address add 192.168.77.12/24 dev eth1' || return
    await 60 reads "/local/domain/0/backend/vif/$ID/1/state" 4
}

an_interface_goes() {
    xl network-detach paravirtual 1 || return
    in_guest paravirtual 'await 30 test ! -e /sys/class/net/eth1' || return
    fails xenstore-exists "/local/domain/0/backend/vif/$ID/1" || return
    fails xenstore-exists "/local/domain/$ID/device/vif/1"
}

guest_is_shut_down() {
    # -w waits until the guest has ended; the xl that watches over it removes it then.
    xl shutdown -w paravirtual || return
    await 60 guest_is_gone paravirtual || return
    fails xenstore-exists "/local/domain/$ID"
}

guest_is_destroyed() {
    ID=$(xl domid pvh)
    xl destroy pvh || return
    fails xenstore-exists "/local/domain/$ID" || return
    fails xenstore-exists "/local/domain/0/backend/vbd/$ID"
}

step links-are-made links_are_made
step modules-of-the-back-ends load_more_modules /bed/device-modules
step bridge-is-made bridge_is_made
step disks-are-made disks_are_made
step remember remember before
step paravirtual-guest-starts guest_starts paravirtual pv 2 &&
    step pvh-guest-starts guest_starts pvh pvh 3 &&
    step devices-are-connected devices_are_connected &&
    {
        step disks-are-used disks_are_used && step dom0-reads-what-was-written dom0_reads_what_was_written
        step network-is-used network_is_used
        step a-disk-comes a_disk_comes && step a-disk-goes a_disk_goes
        step an-interface-comes an_interface_comes && step an-interface-goes an_interface_goes
    }
step guest-is-shut-down guest_is_shut_down
step guest-is-destroyed guest_is_destroyed
step nothing-is-left nothing_is_left before
step store-is-sound store_is_sound
