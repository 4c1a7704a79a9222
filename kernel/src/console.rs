//! Log lines with the time since the host started.

use core::fmt::Write as _;

use heapless::String;
use xen_bindings::console::Console;
use xen_bindings::time;

/// Bytes of a line; what is longer is cut. Xen's console ring holds 2048.
const LINE: usize = 512;

/// The console, one line at a time.
#[derive(Debug)]
pub struct Log(Console);

impl Log {
    /// Logs to this console.
    pub fn new(console: Console) -> Self {
        Log(console)
    }

    /// Writes a line, with the seconds of Xen's system time before it.
    pub fn line(&mut self, text: &str) {
        let now = time::now_ns();
        let mut line: String<LINE> = String::new();
        let (seconds, micros) = (now / 1_000_000_000, now / 1000 % 1_000_000);
        let _cut = write!(line, "[{seconds:5}.{micros:06}] ");
        for character in text.chars() {
            // The line stays one line, and leaves room for its end.
            let shown = if character.is_control() { '.' } else { character };
            if line.len() + shown.len_utf8() + 1 > LINE || line.push(shown).is_err() {
                break;
            }
        }
        let _cut = line.push('\n');
        self.0.write(line.as_bytes());
    }
}
