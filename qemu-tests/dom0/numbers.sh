# How long the store takes from its start to its first answer, and what it says about itself. src/scenarios/numbers.rs prints it.

own_status() {
    expect : timeout 60 xenstore-control status
}

store_is_a_domain && step status own_status
