#!/bin/busybox sh
# First program of a guest that does what dom0 types on its console: lines of a number and a command.

/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox --install -s
export PATH=/usr/bin:/usr/sbin:/bin:/sbin

# What is typed must not look like an answer.
stty -echo
echo guest-userland
while read -r NUMBER COMMAND; do
    eval "$COMMAND" </dev/null
    echo "@done $NUMBER $?"
done
# Never reached while there is a console; the first program must not end.
exec tail -f /dev/null
