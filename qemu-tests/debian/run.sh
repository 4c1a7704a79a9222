#!/bin/sh
# The scenario: stock Debian, then with the store domain, then with the daemon again; a boot each, of the same disk.
# The kernel's command line says which.

exec </dev/null >/dev/hvc0 2>&1
BOOT=$(sed -n 's/.*bed\.boot=\([0-9]\).*/\1/p' /proc/cmdline)
READER=harness
STORE=domain
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# lib.sh is written for busybox.
usleep() {
    sleep 0.1
}
. /bed/lib.sh
. /bed/guests.sh

switch() {
    timeout 120 xenstore-stubdom-debian "$@"
}

# refused TEXT COMMAND…: one line, which says why.
refused() {
    TEXT=$1
    shift
    if "$@" >/tmp/refused 2>&1; then
        because "was not refused: $*" || return
    fi
    cat /tmp/refused
    [ "$(wc -l </tmp/refused)" = 1 ] || because "the refusal is not one line" || return
    grep -qF -- "$TEXT" /tmp/refused || because "it does not say: $TEXT"
}

# What boots and package scripts may change by themselves is left out.
configuration() {
    find /etc ! -name ld.so.cache ! -name mtab ! -name '.updated' \( -type f -exec cksum {} + -o -type l -printf '%p -> %l\n' \) | sort
}

systemd_is_up() {
    # The job that runs this script keeps it from being "running".
    systemctl is-active multi-user.target || return
    systemctl --failed --no-legend --plain | tee /tmp/failed
    [ ! -s /tmp/failed ] || because "units have failed: $(cut -d' ' -f1 /tmp/failed | tr '\n' ' ')"
}

xen_is_active() {
    systemctl --no-pager status xen.service
    expect active systemctl is-active xen.service
}

daemon_serves() {
    timeout 30 xenstore-read -s domid || because "nobody answers on the daemon's socket" || return
    expect Domain-0 timeout 60 xl list || return
    ! grep -q Xenstore /tmp/expect || because "there is a store domain"
}

domain_serves() {
    expect Xenstore timeout 60 xl list || return
    [ ! -e /run/xenstored/socket ] || because "a daemon has made its socket" || return
    expect '/local/domain/0/name = "Domain-0"' timeout 60 xenstore-ls -f
}

says_status() {
    switch status >/tmp/status || return
    cat /tmp/status
    for line in "$@"; do
        grep -qF "$line" /tmp/status || because "status does not say: $line" || return
    done
}

# -- the first boot: as Debian installs it

status_before() {
    says_status "now serving: a daemon" "after the next boot: Debian's daemon" "watcher: inactive"
}

refuses_what_cannot_work() {
    refused "only root" setpriv --reuid=65534 --clear-groups xenstore-stubdom-debian enable || return
    mv /usr/local/lib/xen/boot/xenstore-stubdom /tmp/image || return
    refused "is missing" xenstore-stubdom-debian enable
    RESULT=$?
    mv /tmp/image /usr/local/lib/xen/boot/xenstore-stubdom
    return "$RESULT"
}

enable_twice() {
    configuration >/bed/before
    expect "will serve from the next boot on" switch enable || return
    expect "enabled already" switch enable || return
    says_status "now serving: a daemon" "after the next boot: the store domain" || return
    # For the next boot.
    echo XENSTORE_DOMAIN_WEIGHT=1024 >/etc/default/xenstore-stubdom
}

# What an update of the package for the running Xen does: its own scripts, as dpkg calls them.
package_is_updated() {
    PACKAGE=$(basename "$(ls /var/lib/dpkg/info/xen-utils-4.*.postinst)" .postinst)
    timeout 200 "/var/lib/dpkg/info/$PACKAGE.prerm" upgrade 99 || because "prerm ended with $?" || return
    timeout 200 "/var/lib/dpkg/info/$PACKAGE.postinst" configure 1 || because "postinst ended with $?" || return
    expect active systemctl is-active xen.service
}

# -- the second boot: the store domain

status_with_domain() {
    says_status "now serving: the store domain (domid:1)" "after the next boot: the store domain" "watcher: active"
}

watcher_watches() {
    await 60 watcher_found || because "$(journalctl --no-pager -u xenstore-stubdom-watcher)"
}

watcher_found() {
    journalctl --no-pager -u xenstore-stubdom-watcher | grep 'watching domain 1'
}

weight_is_set() {
    timeout 60 xl sched-credit2 -d Xenstore >/tmp/weight || return
    cat /tmp/weight
    grep -q ' 1024' /tmp/weight || because "its weight is not 1024"
}

console_is_kept() {
    cat "$(console_log Xenstore)"
    says Xenstore "serving domain 0" || because "its console has not that"
}

guest_lives_and_dies() {
    timeout 120 xl create /bed/guest.cfg || return
    guest_reaches_userland guest || return
    # As xendomains sees it when the host goes down.
    GUESTS=$(PATH=/usr/local/lib/xenstore-stubdom/xendomains:$PATH timeout 60 /usr/lib/xen-common/bin/xen-init-list | tr '\n' ' ')
    [ "$GUESTS" = "$(xl domid guest) guest " ] || because "xendomains would take for guests: $GUESTS" || return
    timeout 120 xl destroy guest || return
    await 60 guest_is_gone guest
}

# Debian's own script takes every domain for a guest, and would wait for the store for minutes; the drop-in hides it.
xendomains_leaves_the_store_alone() {
    timeout 100 systemctl stop xendomains || because "stopping xendomains ended with $? (124: it waits for the store)" || return
    [ -z "$(ls -A /var/lib/xen/save 2>/dev/null)" ] || because "it has saved: $(ls -A /var/lib/xen/save)" || return
    domain_serves && systemctl start xendomains
}

# Stops and starts what can be; the store stays.
service_restarts() {
    timeout 200 service xen restart || because "service xen restart ended with $?" || return
    xen_is_active && domain_serves
}

disable_twice() {
    expect "will serve from the next boot on" switch disable || return
    expect "was not enabled" switch disable || return
    says_status "now serving: the store domain (domid:1)" "after the next boot: Debian's daemon" || return
    rm /etc/default/xenstore-stubdom
}

changes_its_mind() {
    expect "will serve from the next boot on" switch enable || return
    says_status "after the next boot: the store domain" || return
    expect "will serve from the next boot on" switch disable || return
    says_status "after the next boot: Debian's daemon"
}

# -- the third boot: the way back

nothing_is_left() {
    configuration >/tmp/after
    diff /bed/before /tmp/after || because "/etc differs from what it was before enabling" || return
    find /etc /run/systemd -lname '*stubdom*' -o -name '*stubdom*' >/tmp/left
    [ ! -s /tmp/left ] || because "left: $(tr '\n' ' ' </tmp/left)" || return
    # Debian 12: made by systemd from the script; Debian 13: the package's own, which runs the script.
    systemctl show -p FragmentPath -p ExecStart xen.service >/tmp/unit
    cat /tmp/unit
    grep -q 'path=/etc/init.d/xen ' /tmp/unit || because "xen.service does not run Debian's script"
}

case $BOOT in
1)
    step stock-systemd-is-up systemd_is_up
    step stock-daemon-serves daemon_serves
    step stock-status status_before
    step refuses-what-cannot-work refuses_what_cannot_work
    step enable-twice enable_twice
    step package-updated-after-enabling package_is_updated
    step daemon-goes-on daemon_serves
    systemctl reboot
    ;;
2)
    step systemd-is-up systemd_is_up
    step xen-is-active xen_is_active
    step domain-serves domain_serves
    step status-with-domain status_with_domain
    step watcher-watches watcher_watches
    step weight-is-set weight_is_set
    step console-is-kept console_is_kept
    step guest-lives-and-dies guest_lives_and_dies
    step xendomains-leaves-the-store-alone xendomains_leaves_the_store_alone
    step service-restarts service_restarts
    step package-updated package_is_updated
    step domain-goes-on domain_serves
    step disable-twice disable_twice
    step changes-its-mind changes_its_mind
    step package-updated-after-disabling package_is_updated
    step domain-still-serves domain_serves
    systemctl reboot
    ;;
3)
    step back-systemd-is-up systemd_is_up
    step back-xen-is-active xen_is_active
    step back-daemon-serves daemon_serves
    step back-status status_before
    step nothing-is-left nothing_is_left
    mark done
    systemctl poweroff
    ;;
esac
