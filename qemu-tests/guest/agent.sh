#!/bin/busybox sh
# A guest's first program that does what dom0 asks: each value of `data/order` is a number and a shell command, and `data/answer` is
# that number with the command's exit status. Both go through the guest's own ring, the order as an event of a watch.

/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t tmpfs run /run
# udev would make it; the lock of the hotplug scripts looks at it for ever if it is missing.
/bin/busybox ln -s /proc/self/fd/0 /dev/stdin
/bin/busybox --install -s 2>/dev/null
export PATH=/usr/bin:/usr/sbin:/bin:/sbin
. /bed/await.sh

while read -r module; do
    insmod "/bed/modules/$module.ko" || echo "insmod $module failed"
done </bed/modules/order

echo guest-userland

# Paths are relative to /local/domain/N. The first event is the one that every new watch gets.
xenstore-watch data/order | while read -r _; do
    # Raw: otherwise the ends of lines come in a written form.
    order=$(xenstore-read -R data/order 2>/dev/null) || continue
    number=${order%% *}
    [ "$number" != "$last" ] || continue
    last=$number
    echo "order $order"
    (eval "${order#* }") </dev/null 2>&1
    status=$?
    echo "answer $number $status"
    xenstore-write data/answer "$number $status"
done

# The end of init would be the end of the guest, which must not look like an answer.
echo guest-agent-ends
exec tail -f /dev/null
