//! `shell`: dom0's shell on the user's terminal, with the store serving.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::boot::Ready;
use crate::demo::describe;
use crate::dom0::Overlay;
use crate::store::Store;

/// Boots and gives the terminal away until the shell is left.
pub fn run(ready: &Ready, store: Store, image: Option<&Path>) -> Result<()> {
    let image = store.image(image)?;
    println!(
        "booting Xen {}; its Xenstore is {}. A shell comes in about 20 s; leave with exit, or at once with Ctrl-a x.",
        ready.parts.bed,
        describe(store)
    );
    let overlay = Overlay {
        terminal: Some(terminal_size()),
        ..Overlay::new(include_str!("../dom0/shell.sh"), store, image.as_deref())
    };
    let log = ready.run_on_terminal(&format!("shell-{store}"), &overlay)?;
    println!("\nended; everything that was on the screen is in {}", log.display());
    Ok(())
}

/// Rows and columns, as stty tells them; nothing if there is no terminal or no stty. dom0 cannot ask for it over a serial line.
fn terminal_size() -> String {
    let output = Command::new("stty").arg("size").stdin(Stdio::inherit()).output();
    let text = output
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default();
    let known = text
        .split_once(' ')
        .is_some_and(|(rows, columns)| is_size(rows) && is_size(columns));
    if known { text } else { String::new() }
}

/// A number that is not zero: a pseudo terminal may not know its size.
fn is_size(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|number| number > 0)
}
