//! How many clients the operating system lets us have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::failure::Failure;

/// Descriptors that are not clients: standard streams, poll, waker, listener, lock, state file (twice), journal, and some to spare.
const OWN_DESCRIPTORS: u64 = 32;

/// Raises the limit of open files as far as it may, if `wanted` clients need that. Says how many clients fit.
pub fn clients(wanted: usize) -> Result<usize, Failure> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // Without a limit the number is as large as can be.
    let (mut current, maximum) = (current.unwrap_or(u64::MAX), maximum.unwrap_or(u64::MAX));
    let needed = u64::try_from(wanted)
        .unwrap_or(u64::MAX)
        .saturating_add(OWN_DESCRIPTORS);
    if current < needed {
        let raised = needed.min(maximum);
        let limit = Rlimit {
            current: Some(raised),
            maximum: (maximum != u64::MAX).then_some(maximum),
        };
        if setrlimit(Resource::Nofile, limit).is_ok() {
            current = raised;
        }
    }
    let room = current.saturating_sub(OWN_DESCRIPTORS);
    if room == 0 {
        return Err(Failure::Descriptors { limit: current });
    }
    Ok(usize::try_from(room).unwrap_or(usize::MAX).min(wanted))
}
