//! A counter that checks itself: who else uses the store, or dies while using it, must not make it lose, repeat or miss a step.

use std::io;
use std::time::Duration;

use crate::bus::{Bus, NONE, READ, WRITE, show};

/// Between two steps: others need the processor too, which may be an emulated one.
const PAUSE: Duration = Duration::from_millis(20);

/// Counts up the value of `path` in transactions, and says how far, when `path`-stop appears.
///
/// Each step reads the counter, which must have the value of the step before, and writes it and a second node; both must have the
/// new value afterwards. A conflict is tried again, anything else ends it.
pub fn count(bus: &mut Bus, path: &str) -> io::Result<()> {
    let shadow = format!("{path}-shadow");
    let stop = format!("{path}-stop");
    bus.must(WRITE, NONE, &assignment(path, 0))?;
    let (mut steps, mut conflicts) = (0_u32, 0_u32);
    crate::say("counting")?;
    while bus.ask(READ, NONE, &string(&stop))?.is_err() {
        let transaction = bus.begin()?;
        expect(bus, transaction, path, steps)?;
        let next = steps.saturating_add(1);
        bus.must(WRITE, transaction, &assignment(path, next))?;
        bus.must(WRITE, transaction, &assignment(&shadow, next))?;
        match bus.end(transaction, true)? {
            Ok(_) => steps = next,
            Err(error) if error == "EAGAIN" => conflicts = conflicts.saturating_add(1),
            Err(error) => return Err(io::Error::other(format!("step {next}: {error}"))),
        }
        expect(bus, NONE, path, steps)?;
        if steps > 0 {
            expect(bus, NONE, &shadow, steps)?;
        }
        std::thread::sleep(PAUSE);
    }
    crate::say(&format!("counted {steps}, {conflicts} conflicts"))
}

fn expect(bus: &mut Bus, transaction: u32, path: &str, value: u32) -> io::Result<()> {
    let found = show(&bus.must(READ, transaction, &string(path))?);
    if found == value.to_string() {
        Ok(())
    } else {
        Err(io::Error::other(format!("{path} is {found} and should be {value}")))
    }
}

fn string(path: &str) -> Vec<u8> {
    format!("{path}\0").into_bytes()
}

fn assignment(path: &str, value: u32) -> Vec<u8> {
    format!("{path}\0{value}").into_bytes()
}
