# A guest with back ends serves another guest. dom0's xl writes the trees of both; from then on the two talk through the store by
# themselves, each with the rights that these trees give it.

driver_starts() {
    start_guest /bed/driver.cfg || return
    DRIVER=$(xl domid driver)
    guest_reaches_userland driver
}

# What an administrator would set up inside it.
driver_is_ready() {
    in_guest driver 'ip link add name xenbr0 type bridge && ip address add 192.168.78.1/24 dev xenbr0 && ip link set xenbr0 up' || return
    for disk in client second; do
        in_guest driver "dd if=/dev/zero of=/root/$disk.img bs=1M count=8 && mke2fs -F /root/$disk.img" || return
    done
    in_guest driver 'xl devd && xl_is_there() { pidof xl; } && await 30 xl_is_there'
}

# For a step that fails: how far the devices are, and what was done in the driver domain.
show_devices() {
    xenstore-ls -p "/local/domain/$DRIVER/backend"
    in_guest driver 'ps; losetup -a; dmesg | tail -n 20; head -n 1000 /var/log/xen/*'
}

# The hotplug scripts have 40 seconds, so the client's boot must not take the processor from them.
client_starts() {
    start_guest -p /bed/client.cfg || {
        show_devices
        return 1
    }
    CLIENT=$(xl domid client)
    BACK=/local/domain/$DRIVER/backend
    FRONT=/local/domain/$CLIENT/device
    for device in vbd/$CLIENT/51712 vif/$CLIENT/0; do
        await 60 reads "$BACK/$device/hotplug-status" connected || {
            show_devices
            return 1
        }
    done
    xl unpause client || return
    # Its front ends wait for the back ends before its userland goes on.
    guest_reaches_userland client || {
        show_devices
        return 1
    }
}

# 4 is XenbusStateConnected. dom0 has no back end for a guest's disk or interface.
devices_are_connected() {
    for path in "$BACK/vbd/$CLIENT/51712" "$BACK/vif/$CLIENT/0" "$FRONT/vbd/51712" "$FRONT/vif/0"; do
        await 60 reads "$path/state" 4 || {
            show_devices
            because "$path/state is not 4"
            return 1
        }
    done
    fails xenstore-exists /local/domain/0/backend/vbd || return
    fails xenstore-exists /local/domain/0/backend/vif
}

disk_is_used() {
    in_guest client "await 30 test -b /dev/xvda && mount -t ext2 /dev/xvda /mnt && dd if=/dev/urandom of=/mnt/much bs=1M count=2 && sync &&
        md5sum /mnt/much >/run/sum && umount /mnt && echo 3 >/proc/sys/vm/drop_caches &&
        mount -t ext2 /dev/xvda /mnt && md5sum -c /run/sum && umount /mnt &&
        xenstore-write data/sum \"\$(cut -d' ' -f1 /run/sum)\"" || return
    SUM=$(xenstore-read "/local/domain/$CLIENT/data/sum") || return
    in_guest driver "mount -t ext2 -o ro,loop /root/client.img /mnt && md5sum /mnt/much | grep ^$SUM; R=\$?; umount /mnt; exit \$R"
}

network_is_used() {
    in_guest client 'ip address add 192.168.78.2/24 dev eth0 && ip link set eth0 up' || return
    in_guest client 'await 30 ping -c 1 -W 2 192.168.78.1' || return
    in_guest driver 'ping -c 1 -W 5 192.168.78.2'
}

# Each may write its own half and read the other's; the rest of the store is closed to it, the driver domain's privileges or not.
rights_are_limited() {
    in_guest driver "xenstore-read $FRONT/vbd/51712/state && ! xenstore-write $FRONT/vbd/51712/state 1" || return
    in_guest client "xenstore-read $BACK/vbd/$CLIENT/51712/state && ! xenstore-write $BACK/vbd/$CLIENT/51712/state 1" || return
    in_guest driver "! xenstore-write /local/domain/$CLIENT/name stolen && ! xenstore-read /local/domain/$CLIENT/data/sum &&
        ! xenstore-write /tool/stolen 1 && ! xenstore-write /local/domain/0/backend/vbd/stolen 1" || return
    reads "$FRONT/vbd/51712/state" 4 && reads "$BACK/vbd/$CLIENT/51712/state" 4 && reads "/local/domain/$CLIENT/name" client ||
        because "something was overwritten"
}

a_disk_comes() {
    xl block-attach client format=raw,backend=driver,vdev=xvdb,access=rw,target=/root/second.img || return
    in_guest client 'await 60 test -b /dev/xvdb && mount -t ext2 /dev/xvdb /mnt && echo x >/mnt/x && umount /mnt'
}

a_disk_goes() {
    xl block-detach client xvdb || return
    in_guest client 'await 60 test ! -e /dev/xvdb' || return
    fails xenstore-exists "$BACK/vbd/$CLIENT/51728" || return
    in_guest driver '! losetup -a | grep second'
}

client_is_destroyed() {
    xl destroy client || return
    await 60 guest_is_gone client || return
    fails xenstore-exists "/local/domain/$CLIENT" || return
    # Its hotplug scripts end a little later.
    in_guest driver 'nothing_lent() { [ -z "$(losetup -a)" ]; } && await 60 nothing_lent' || return
    in_guest driver "test ! -e /sys/class/net/vif$CLIENT.0"
}

driver_is_destroyed() {
    xl destroy driver || return
    await 60 guest_is_gone driver || return
    fails xenstore-exists "/local/domain/$DRIVER"
}

step remember remember before
step driver-starts driver_starts &&
    step driver-is-ready driver_is_ready &&
    step remember-with-the-driver remember with-the-driver &&
    step client-starts client_starts &&
    step devices-are-connected devices_are_connected &&
    {
        step disk-is-used disk_is_used
        step network-is-used network_is_used
        step rights-are-limited rights_are_limited
        step a-disk-comes a_disk_comes && step a-disk-goes a_disk_goes
    }
step client-is-destroyed client_is_destroyed
step nothing-is-left-of-the-client nothing_is_left with-the-driver
step driver-is-destroyed driver_is_destroyed
step nothing-is-left nothing_is_left before
step store-is-sound store_is_sound
