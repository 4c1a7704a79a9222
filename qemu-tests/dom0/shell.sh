# A shell for a person, with the store serving.

cat <<'TEXT'

------------------------------------------------------------------------------
 This is dom0 of a real Xen. Every request below is answered by the store.

   xenstore-ls -f                   everything that is in the store
   xenstore-watch /tool &           then: xenstore-write /tool/x 1
   xl list                          the domains; Xenstore is one of them
   xl create /guest.cfg             a Linux guest; then: xl console guest (leave: Ctrl-])
   xenstore-ls /local/domain/2      what the store knows about it; xl destroy guest
   xenstore-control help            what an administrator can ask the store
   exit                             ends everything

 If it hangs: Ctrl-a x ends QEMU at once.
------------------------------------------------------------------------------

TEXT
[ -z "$TERMINAL" ] || stty rows "${TERMINAL% *}" cols "${TERMINAL#* }"
export PS1='dom0 # '
cd /root || true
setsid cttyhack sh
echo "powering off"
