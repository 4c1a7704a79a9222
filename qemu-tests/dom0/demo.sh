# A tour without a terminal: every step is a command that a person could type, and must work.

show xen 'Real Xen runs below; these are its domains' \
    'xl list'
show tree 'The store knows dom0' \
    'xenstore-ls -f'
show write 'Write, read, list' \
    'xenstore-write /tool/demo/colour blue /tool/demo/shape round && xenstore-read /tool/demo/colour && xenstore-list /tool/demo'
show permissions 'Permissions' \
    'xenstore-chmod /tool/demo/colour n0 r1 && xenstore-ls -p /tool/demo'
show watch 'A watch sees a change that another process makes' \
    'xenstore-watch -n 2 /tool/demo >/tmp/seen & await 30 test -s /tmp/seen; xenstore-write /tool/demo/size 3; wait $!; cat /tmp/seen'
show upstream 'The test that comes with Xen, over the ring of dom0' \
    'XENSTORED_PATH=/dev/xen/xenbus test-xenstore -i 20'
show administrator 'What an administrator can ask' \
    'xenstore-control help'
show check 'The store examines itself' \
    'xenstore-control check'
show guest 'A Linux guest is started; it needs the store for every device' \
    'xl create /guest.cfg'
show userland 'It reaches userland and reads its own name from the store' \
    'guest_reaches_userland guest && await 60 says guest guest-name=guest'
show destroy 'It is destroyed, and the store forgets it' \
    'ID=$(xl domid guest); xl destroy guest && await 60 guest_is_gone guest && ! xenstore-exists /local/domain/$ID && xl list'
