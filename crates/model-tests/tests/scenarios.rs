//! The server does what the model does in each of the short streams of `scenarios.txt`.
#![forbid(unsafe_code)]

use model_tests::{contest, scenarios};

#[test]
fn the_server_does_what_the_model_does_in_every_scenario() {
    let mut failed = Vec::new();
    for scenario in scenarios::all() {
        if let Err((index, difference)) = contest::run(&scenario.settings, &scenario.steps) {
            println!("{}, step {index}: {difference}", scenario.name);
            for step in scenario.steps.iter().take(index + 1) {
                println!("    {step}");
            }
            failed.push(scenario.name);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}
