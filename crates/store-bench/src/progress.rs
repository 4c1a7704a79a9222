//! How far the bench is.

use std::io::Write as _;

/// One line that is written over by the next.
pub fn progress(text: &str) {
    let mut out = std::io::stderr();
    // Nobody reads it when this fails.
    let _unread = write!(out, "\r\x1b[K{text}").and_then(|()| out.flush());
}
