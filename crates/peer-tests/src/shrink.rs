//! Makes a failing trace short: leaves out whatever can be left out while it still fails.

use native_rings::Failure;

use crate::duel::{Duel, Mismatch};
use crate::trace::Step;

/// Runs that a failure is worth; each starts both servers anew.
const RUNS: u32 = 600;

/// The shortest failing trace that was found, with its failure. `steps` fails at its last step in a duel that is started so.
pub fn shrink(
    start: impl Fn() -> Result<Duel, Failure>,
    mut steps: Vec<Step>,
    mut failure: Box<Mismatch>,
) -> (Vec<Step>, Box<Mismatch>) {
    let mut size = steps.len() / 2;
    let mut runs = 0;
    while size > 0 && runs < RUNS {
        let mut at = 0;
        let mut shorter = false;
        while at < steps.len() && runs < RUNS {
            let mut tried = steps.clone();
            tried.drain(at..(at + size).min(tried.len()));
            runs += 1;
            match start().map(|mut duel| duel.run(&tried)) {
                Ok(Err((index, mismatch))) if mismatch.is_like(&failure) => {
                    tried.truncate(index + 1);
                    steps = tried;
                    failure = mismatch;
                    shorter = true;
                }
                _ => at += size,
            }
        }
        if !shorter || size > 1 {
            size /= 2;
        }
    }
    (steps, failure)
}
