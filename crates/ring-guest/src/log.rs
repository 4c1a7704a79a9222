//! What the guest says on its console: one line at a time, each with the guest's name before it.

use alloc::format;

use xen_bindings::console::Console;

/// The console.
#[derive(Debug)]
pub struct Log(Console);

impl Log {
    /// Speaks on this console.
    pub fn new(console: Console) -> Self {
        Log(console)
    }

    /// Says one line. If the console's ring is full, the rest of it is lost: nobody waits for a reader here.
    pub fn line(&mut self, text: &str) {
        self.0.write(format!("ring-guest: {text}\n").as_bytes());
    }
}
