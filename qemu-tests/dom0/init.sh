#!/bin/busybox sh
# dom0's first program: makes Linux ready for Xen's tools, starts the store, runs the scenario, powers off.

/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mkdir -p /dev/pts
# Without it xenconsoled can give no guest a console, and `xl create` waits until its limit.
/bin/busybox mount -t devpts devpts /dev/pts
/bin/busybox mount -t tmpfs run /run
/bin/busybox --install -s
mkdir -p /run/xen /run/xenstored /run/lock

. /bed/settings
export PATH="$XEN_BIN:/usr/bin:/usr/sbin:/bin:/sbin" HOME=/root TERM=linux
. /bed/lib.sh
. /bed/guests.sh

load_modules() {
    while read -r module; do
        insmod "/bed/modules/$module.ko" || return
    done </bed/modules/order
    mount -t xenfs xenfs /proc/xen
}

console_daemon() {
    xenconsoled --log=all --log-dir=/var/log/xen/console --pid-file=/run/xenconsoled.pid
}

step dom0-boots load_modules &&
    step store-starts start_store &&
    step dom0-is-introduced timeout 60 xen-init-dom0 &&
    step console-daemon-starts console_daemon &&
    . /bed/scenario.sh

show_store_console
mark done
poweroff -f
