# What the store says about itself. The time to its first answer was measured when it was started (launch_and_measure).
# src/scenarios/numbers.rs prints both.

own_status() {
    expect : xenstore-control status
}

if store_is_a_domain; then
    step own-status own_status
fi
