//! Makes a failing list of steps short: leaves out whatever can be left out while it still fails.

/// Runs that a failure is worth.
const RUNS: u32 = 1500;

/// The shortest failing list that was found. `fails` runs a list from the beginning and says at which index it failed, if it
/// did; it must be the same failure that is looked for.
pub fn shrink<S: Clone>(mut steps: Vec<S>, mut fails: impl FnMut(&[S]) -> Option<usize>) -> Vec<S> {
    let mut size = steps.len() / 2;
    let mut runs = 0;
    while size > 0 && runs < RUNS {
        let mut at = 0;
        let mut shorter = false;
        while at < steps.len() && runs < RUNS {
            let mut tried = steps.clone();
            tried.drain(at..(at + size).min(tried.len()));
            runs += 1;
            if let Some(index) = fails(&tried) {
                tried.truncate(index + 1);
                steps = tried;
                shorter = true;
            } else {
                at += size;
            }
        }
        if !shorter || size > 1 {
            size /= 2;
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_is_left_out() {
        let steps: Vec<u32> = (0..1000).collect();
        let short = shrink(steps, |tried| {
            let seven = tried.iter().position(|step| *step == 7)?;
            tried
                .iter()
                .skip(seven)
                .position(|step| *step == 700)
                .map(|at| seven + at)
        });
        assert_eq!(short, [7, 700]);
    }
}
