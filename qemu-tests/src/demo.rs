//! `demo`: a fixed tour without a terminal; every step is shown with its title, its command and its output.

use std::path::Path;

use anyhow::Result;

use crate::boot::Ready;
use crate::dom0::Overlay;
use crate::markers::Mark;
use crate::report::Voice;
use crate::store::Store;

/// Runs the tour. Returns whether every step worked.
pub fn run(ready: &Ready, store: Store, image: Option<&Path>) -> Result<bool> {
    let image = store.image(image)?;
    println!("booting Xen {}; its Xenstore is {}", ready.parts.bed, describe(store));
    let overlay = Overlay::new(include_str!("../dom0/demo.sh"), store, image.as_deref());
    // Between a title and the end of its step, lines are the command's output.
    let mut showing = false;
    let mut number = 0;
    let ended = ready.run(
        &format!("demo-{store}"),
        &overlay,
        |line, mark, transcript| match mark {
            Some(Mark::Title(title)) => {
                number += 1;
                println!("\n{number}. {title}");
            }
            Some(Mark::Command(command)) => {
                println!("   dom0 # {command}");
                showing = true;
            }
            Some(Mark::Passed(_) | Mark::Failed(..)) => {
                if let Some(step) = transcript
                    .steps
                    .last()
                    .filter(|step| !showing || step.failure.is_some())
                {
                    Voice::alone().step(step);
                }
                showing = false;
            }
            None if showing && !line.starts_with("(XEN)") => println!("   {line}"),
            _ => {}
        },
    )?;
    if ended.transcript.failed() {
        Voice::alone().log_of_failure(&ended.log);
    }
    let failed = ended
        .transcript
        .steps
        .iter()
        .filter(|step| step.failure.is_some())
        .count();
    println!(
        "\n{} passed, {failed} failed",
        ended.transcript.steps.len().saturating_sub(failed)
    );
    Ok(!ended.transcript.failed())
}

/// The store in words.
pub fn describe(store: Store) -> &'static str {
    match store {
        Store::Pvh => "xenstore-stubdom as a PVH domain",
        Store::Pv => "xenstore-stubdom as a PV domain",
        Store::C => "the C daemon xenstored in dom0",
        Store::Ocaml => "the OCaml daemon oxenstored in dom0",
    }
}
