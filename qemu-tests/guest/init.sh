#!/bin/busybox sh
# A guest's first program: says on its console that userland runs, and what the store says about the guest itself.

/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox --install -s
export PATH=/usr/bin:/usr/sbin:/bin:/sbin

echo guest-userland
[ -e /dev/xen/xenbus ] || ls -l /dev/xen
# Relative to /local/domain/N.
echo "guest-name=$(xenstore-read name 2>&1)"
echo "guest-domid=$(xenstore-read domid 2>&1)"

# Never ends: `xl shutdown` and `xl destroy` do that.
exec tail -f /dev/null
