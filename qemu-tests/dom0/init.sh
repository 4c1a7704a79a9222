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

# Whatever asks the store is given up after a while, so that a store that does not answer fails a step and not the whole run.
# limit SECONDS PROGRAM…
limit() {
    SECONDS_GIVEN=$1
    shift
    for program in "$@"; do
        path=$(command -v "$program")
        printf '#!/bin/sh\nexec timeout %s %s "$@"\n' "$SECONDS_GIVEN" "$path" >"/bed/bin/$program"
        chmod +x "/bed/bin/$program"
    done
}

if [ "$READER" = harness ]; then
    mkdir -p /bed/bin
    limit 60 xenstore-chmod xenstore-exists xenstore-read xenstore-rm xenstore-watch xen-init-dom0
    # These walk the whole store, or write much of it at once.
    limit 120 xenstore-control xenstore-list xenstore-ls xenstore-write xl
    limit 60 init-xenstore-domain
    limit 240 test-xenstore
    export PATH="/bed/bin:$PATH"
fi

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
    step dom0-is-introduced xen-init-dom0 &&
    step console-daemon-starts console_daemon &&
    . /bed/scenario.sh

[ "$READER" = person ] || show_store_console
mark done
poweroff -f
