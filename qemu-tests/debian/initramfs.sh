#!/bin/busybox sh
# Before Debian: loads what its disk needs, puts onto it what this run adds (once), and hands over to its own init.

/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox --install -s

while read -r module; do
    insmod "/modules/$module.ko"
done </modules/order
mount -t ext4 -o noatime /dev/vda /disk || {
    echo "@@ step finds-its-disk FAIL /dev/vda cannot be mounted"
    poweroff -f
}
if [ ! -e /disk/bed ]; then
    cp -a /additions/. /disk/
    chroot /disk depmod -a "$(uname -r)" 2>/dev/null
fi
umount /proc /sys /dev
exec switch_root /disk /sbin/init
