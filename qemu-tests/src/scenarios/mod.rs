//! The scenarios: what is run on a bed, by name, and how its outcome is judged.

mod crashes;
mod crowd;
mod debian;
mod devices;
mod driver_domain;
mod first_light;
mod grows;
mod hostile;
mod hvm;
mod killed;
mod lifecycle;
mod numbers;
mod refuses_to_start;
mod restart_times;
mod self_test;
mod self_test_guest;
mod survives;
mod traces;
mod unprivileged;
mod watcher;

use std::path::Path;

use anyhow::Result;

use crate::archive::Archive;
use crate::boot::{Ended, Ready, Size};
use crate::dom0::{Overlay, STORE_MEMORY};
use crate::markers::{Mark, Transcript};
use crate::parts::Parts;
use crate::report::Voice;
use crate::store::Store;

pub use numbers::print as print_numbers;
pub use watcher::program;

/// Something that is tried on a bed.
pub struct Scenario {
    pub name: &'static str,
    /// One sentence for the list.
    pub about: &'static str,
    /// What happens in dom0, unless the image is dom0 itself.
    kind: Kind,
    /// The stores it makes sense with.
    pub stores: &'static [Store],
    /// What the store domain gets on its command line besides `--event`.
    store_options: &'static str,
    /// MiB that the store domain gets.
    store_memory: u32,
    /// MiB that the store domain may grow to; 0: as large as it starts.
    store_maximum: u32,
    /// It takes so long that it is run only when it is named.
    pub only_by_name: bool,
    /// The store's launch is timed, by looking often, which slows it a little.
    measure: bool,
    /// The machine it needs.
    size: Size,
    /// Where the machine is emulated, its time is the number of instructions, so that figures do not depend on what else the host does.
    counts_instructions: bool,
    /// What dom0's root holds besides the base: programs, guests' kernels and configurations.
    extras: fn(&Parts) -> Result<Archive>,
    /// Looks closer at the transcript than the script could.
    judge: fn(&mut Transcript, Store),
}

/// What most scenarios have in common; each says only what is its own.
const PLAIN: Scenario = Scenario {
    name: "",
    about: "",
    kind: Kind::Served(""),
    stores: &Store::OURS,
    store_options: "",
    store_memory: STORE_MEMORY,
    store_maximum: 0,
    only_by_name: false,
    measure: false,
    size: Size::USUAL,
    counts_instructions: false,
    extras: |_| Ok(Archive::default()),
    judge: |_, _| {},
};

enum Kind {
    /// Linux is dom0 and the store under test serves it.
    Served(&'static str),
    /// Linux is dom0, served by the C daemon, and the script starts the image as it likes.
    ImageAsGuest(&'static str),
    /// The image is dom0: its options, and the line that ends it.
    ImageAlone(&'static str, fn(&str) -> Option<Result<(), String>>),
    /// It boots machines of its own with the image; the last argument is told of every line.
    Own(Play),
}

/// What boots machines of its own; see [`Kind::Own`].
type Play = fn(&Ready, Store, &[u8], &mut dyn FnMut(&Transcript)) -> Result<Ended>;

/// All of them, in the order in which they are run.
pub const ALL: &[&Scenario] = &[
    &self_test::SCENARIO,
    &self_test_guest::SCENARIO,
    &first_light::SCENARIO,
    &survives::SCENARIO,
    &crashes::FEW,
    &crashes::MANY,
    &grows::SCENARIO,
    &hostile::SCENARIO,
    &watcher::SCENARIO,
    &watcher::WATCHDOG,
    &lifecycle::SCENARIO,
    &unprivileged::SCENARIO,
    &traces::SCENARIO,
    &killed::SCENARIO,
    &crowd::FEW,
    &crowd::MANY,
    &refuses_to_start::SCENARIO,
    &devices::SCENARIO,
    &driver_domain::SCENARIO,
    &hvm::RECONNECTING,
    &hvm::RESETTING,
    &numbers::SCENARIO,
    &restart_times::SCENARIO,
    &debian::SCENARIO,
];

/// The scenario called `name`.
pub fn by_name(name: &str) -> Option<&'static Scenario> {
    ALL.iter().copied().find(|scenario| scenario.name == name)
}

impl PartialEq for Scenario {
    fn eq(&self, other: &Scenario) -> bool {
        self.name == other.name
    }
}

impl Eq for Scenario {}

impl Scenario {
    /// Runs it, printing a line for each step.
    pub fn run(&self, ready: &Ready, store: Store, image: Option<&Path>, voice: &Voice) -> Result<Ended> {
        let image = store.image(image)?;
        let name = format!("{}-{store}", self.name);
        let overlay = |script, serving| Overlay {
            form: store,
            measure: self.measure,
            store_options: self.store_options,
            store_memory: self.store_memory,
            store_maximum: self.store_maximum,
            size: self.size,
            counts_instructions: self.counts_instructions,
            extras: self.extras,
            ..Overlay::new(script, serving, image.as_deref())
        };
        // Steps are printed when they end; those that ended with the machine are left over.
        let mut printed = 0;
        let mut progress = |_: &str, _: Option<&Mark>, transcript: &Transcript| {
            transcript.steps.iter().skip(printed).for_each(|step| voice.step(step));
            printed = transcript.steps.len();
        };
        let mut ended = match &self.kind {
            Kind::Served(script) => ready.run(&name, &overlay(script, store), &mut progress)?,
            Kind::ImageAsGuest(script) => ready.run(&name, &overlay(script, Store::C), &mut progress)?,
            Kind::ImageAlone(options, last) => {
                ready.run_alone(&name, image.as_deref().unwrap_or_default(), options, last)?
            }
            Kind::Own(run) => run(ready, store, image.as_deref().unwrap_or_default(), &mut |transcript| {
                progress("", None, transcript);
            })?,
        };
        let before: Vec<bool> = ended
            .transcript
            .steps
            .iter()
            .map(|step| step.failure.is_some())
            .collect();
        (self.judge)(&mut ended.transcript, store);
        for (index, step) in ended.transcript.steps.iter().enumerate() {
            let rejected = step.failure.is_some() && before.get(index) == Some(&false);
            if index >= printed || rejected {
                voice.step(step);
            }
        }
        if ended.transcript.failed() {
            voice.log_of_failure(&ended.log);
        }
        Ok(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_found_by_their_names() {
        for scenario in ALL {
            assert_eq!(by_name(scenario.name).map(|found| found.name), Some(scenario.name));
        }
        assert!(by_name("absent").is_none());
    }
}
