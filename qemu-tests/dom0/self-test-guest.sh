# The image as an ordinary guest, with the configuration that is installed; its image and form are those of this run.

passes() {
    sed -e 's|^kernel = .*|kernel = "/bed/image"|' -e "s|^type = .*|type = \"$FORM\"|" /bed/selftest.cfg >/tmp/selftest.cfg
    # `xl create -c` attaches a console, which ends with the domain.
    timeout 120 xl create -c /tmp/selftest.cfg </dev/null >/tmp/selftest 2>&1
    STATUS=$?
    cat /tmp/selftest
    [ "$STATUS" = 0 ] || because "xl create -c ended with $STATUS" || return
    grep -q 'selftest: PASS' /tmp/selftest || because "no verdict PASS on the console"
}

store_knows_it() {
    grep -q 'selftest: own ring ok: the store knows us as domain' /tmp/selftest || because "the store was not asked"
}

is_gone() {
    await 60 guest_is_gone xenstore-selftest
}

step self-test-passes passes
step its-store-was-asked store_knows_it
step it-powers-off is_gone
