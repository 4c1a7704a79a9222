//! `shell`: dom0's shell on the user's terminal, with the store serving.

use std::path::Path;

use anyhow::Result;

use crate::bed::Bed;
use crate::boot::Ready;
use crate::demo::describe;
use crate::dom0::Overlay;
use crate::scenarios::STORE_MEMORY;
use crate::store::Store;

/// Boots and gives the terminal away until the shell is left.
pub fn run(bed: Bed, store: Store, image: Option<&Path>) -> Result<()> {
    let image = store.image(image)?;
    let ready = Ready::prepare(bed)?;
    println!("booting Xen {bed}; its Xenstore is {}. A shell comes in about 20 s; leave with exit, or at once with Ctrl-a x.", describe(store));
    let overlay =
        Overlay { script: include_str!("../dom0/shell.sh"), store, image: image.as_deref(), form: store, store_memory: STORE_MEMORY, measure: false };
    let log = ready.run_on_terminal(&format!("shell-{store}"), &overlay)?;
    println!("\nended; everything that was on the screen is in {}", log.display());
    Ok(())
}
