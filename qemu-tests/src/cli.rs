//! The command line.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, anyhow, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::bed::Bed;
use crate::boot::Ready;
use crate::emulator;
use crate::optional_parts::OptionalSet;
use crate::parts::Parts;
use crate::report::{self, Outcome, Voice};
use crate::scenarios::{self, Scenario};
use crate::store::Store;
use crate::{bench, demo, host, shell};

/// Boots real Xen in QEMU with our image as its Xenstore.
///
/// Hypervisor, tools and kernel are Debian packages, fetched once into a cache ($XENSTORE_TEST_CACHE, else
/// $XDG_CACHE_HOME/xenstore-stubdom, else ~/.cache/xenstore-stubdom); nothing is installed. Without nested virtualisation the
/// processor is emulated, and a run takes a minute or two.
#[derive(Parser)]
#[command(name = "qemu-tests", version)]
struct Line {
    #[command(subcommand)]
    command: What,
}

#[derive(Subcommand)]
enum What {
    /// Name the scenarios
    List,
    /// Run scenarios and judge them; the last line is `N passed, N failed`
    Run {
        /// Names from `list`, each alone or as NAME@XEN or NAME@XEN/STORE; none means all that do not
        /// take very long
        scenarios: Vec<String>,
        /// Which Xen
        #[arg(long, value_name = "4.17|4.20|all", default_value = "all", value_parser = parse_beds)]
        xen: Beds,
        /// What serves Xenstore [default: pvh and pv]
        #[arg(long, value_name = "pvh|pv|c|ocaml|all", value_parser = parse_stores)]
        store: Option<Stores>,
        /// The image under test [default: target/xenstore-stubdom, for pv target/xenstore-stubdom-pv]
        #[arg(long)]
        image: Option<PathBuf>,
        /// More words for Xen's command line
        #[arg(long, default_value = "", hide_default_value = true)]
        xen_options: String,
        /// Machines at a time [default: one for each processor of this machine]
        #[arg(long, short)]
        jobs: Option<NonZeroUsize>,
    },
    /// A shell in dom0 on this terminal, with the store serving
    Shell(One),
    /// A tour without a terminal: each step with its command and its output
    Demo(One),
    /// Measure: time to the first answer, size of the image, memory, calls
    Numbers(One),
    /// Hold our image beside Xen's daemons, in boots that take turns: a table, and a file with everything that was measured
    Bench(bench::Options),
    /// Only download the parts
    Fetch {
        /// Which Xen
        #[arg(long, value_name = "4.17|4.20|all", default_value = "all", value_parser = parse_beds)]
        xen: Beds,
    },
    /// Install the programs that this machine lacks (as root, or with passwordless sudo)
    Setup,
}

#[derive(Args)]
struct One {
    /// Which Xen
    #[arg(long, value_enum, default_value = "4.20")]
    xen: Bed,
    /// What serves Xenstore
    #[arg(long, value_enum, default_value = "pvh")]
    store: Store,
    /// The image under test [default: target/xenstore-stubdom, for pv target/xenstore-stubdom-pv]
    #[arg(long)]
    image: Option<PathBuf>,
    /// More words for Xen's command line
    #[arg(long, default_value = "", hide_default_value = true)]
    xen_options: String,
}

#[derive(Clone)]
struct Beds(Vec<Bed>);

#[derive(Clone)]
struct Stores(Vec<Store>);

fn parse_beds(text: &str) -> Result<Beds, String> {
    if text == "all" {
        Ok(Beds(Bed::ALL.to_vec()))
    } else {
        Bed::from_str(text, false).map(|bed| Beds(vec![bed]))
    }
}

fn parse_stores(text: &str) -> Result<Stores, String> {
    if text == "all" {
        Ok(Stores(Store::ALL.to_vec()))
    } else {
        Store::from_str(text, false).map(|store| Stores(vec![store]))
    }
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    match dispatch(Line::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("qemu-tests: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn dispatch(what: What) -> Result<bool> {
    match what {
        What::List => {
            for scenario in scenarios::ALL {
                let stores: Vec<&str> = scenario.stores.iter().map(|store| store.name()).collect();
                println!("{:<18} {} [{}]", scenario.name, scenario.about, stores.join(" "));
            }
            Ok(true)
        }
        What::Run {
            scenarios,
            xen,
            store,
            image,
            xen_options,
            jobs,
        } => {
            let stores = store.map_or_else(|| Store::OURS.to_vec(), |stores| stores.0);
            let wanted = wanted(&scenarios, &xen.0, &stores)?;
            let beds = Bed::ALL
                .into_iter()
                .filter(|bed| wanted.iter().any(|one| one.bed == *bed));
            let beds = beds
                .map(|bed| Ready::prepare(bed, &xen_options))
                .collect::<Result<Vec<_>>>()?;
            let tasks: Vec<Task> = wanted.iter().filter_map(|one| one.task(&beds)).collect();
            run(&tasks, image.as_deref(), jobs)
        }
        What::Shell(one) => shell::run(
            &Ready::prepare(one.xen, &one.xen_options)?,
            one.store,
            one.image.as_deref(),
        )
        .map(|()| true),
        What::Demo(one) => demo::run(
            &Ready::prepare(one.xen, &one.xen_options)?,
            one.store,
            one.image.as_deref(),
        ),
        What::Numbers(one) => numbers(&one),
        What::Bench(options) => bench::run(&options),
        What::Fetch { xen } => {
            for bed in xen.0 {
                let parts = Parts::obtain(bed)?;
                println!("Xen {bed}: complete in {}", parts.root.display());
                for set in OptionalSet::ALL {
                    parts.with(set)?;
                }
            }
            Ok(true)
        }
        What::Setup => host::set_up(),
    }
}

/// One run that the command line asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Wanted {
    scenario: &'static Scenario,
    bed: Bed,
    store: Store,
}

impl Wanted {
    fn task(self, beds: &[Ready]) -> Option<Task<'_>> {
        let ready = beds.iter().find(|ready| ready.parts.bed == self.bed)?;
        Some(Task {
            scenario: self.scenario,
            ready,
            store: self.store,
        })
    }
}

/// The runs that `names` ask for: a name alone is run on all of `beds` with all of `stores` that the scenario is for.
fn wanted(names: &[String], beds: &[Bed], stores: &[Store]) -> Result<Vec<Wanted>> {
    let usual = scenarios::ALL.iter().filter(|scenario| !scenario.only_by_name);
    let all: Vec<String> = usual.map(|scenario| scenario.name.to_owned()).collect();
    let mut wanted = Vec::new();
    for asked in if names.is_empty() { &all } else { names } {
        let (name, place) = asked
            .split_once('@')
            .map_or((asked.as_str(), None), |(name, place)| (name, Some(place)));
        let Some(scenario) = scenarios::by_name(name) else {
            bail!("there is no scenario {name}; `qemu-tests list` names them")
        };
        let (bed, store) = place.map_or((None, None), |place| {
            place
                .split_once('/')
                .map_or((Some(place), None), |(bed, store)| (Some(bed), Some(store)))
        });
        let wrong = |error: String| anyhow!("{asked}: {error}");
        let beds = bed.map_or(Ok(Beds(beds.to_vec())), parse_beds).map_err(wrong)?;
        let stores = store.map_or(Ok(Stores(stores.to_vec())), parse_stores).map_err(wrong)?;
        for bed in beds.0 {
            for store in scenario.stores.iter().filter(|store| stores.0.contains(store)) {
                let one = Wanted {
                    scenario,
                    bed,
                    store: *store,
                };
                if !wanted.contains(&one) {
                    wanted.push(one);
                }
            }
        }
    }
    Ok(wanted)
}

/// The same on a bed that is ready.
#[derive(Clone, Copy)]
struct Task<'a> {
    scenario: &'static Scenario,
    ready: &'a Ready,
    store: Store,
}

impl Task<'_> {
    fn title(&self) -> String {
        format!(
            "{} on Xen {}, store {}",
            self.scenario.name, self.ready.parts.bed, self.store
        )
    }

    /// Runs it, and once more if the emulated processor failed; the log, if it came so far.
    fn run(&self, image: Option<&Path>, voice: &Voice) -> (Outcome, Option<PathBuf>) {
        let (first, log) = self.run_once(image, voice);
        let lost = log.as_deref().filter(|_| !first.failures.is_empty());
        let Some((log, line)) = lost.and_then(|log| Some((log, emulator::impossible_flags(log)?))) else {
            return (first, log);
        };
        let kept = log.with_extension("first.log");
        voice.say("once more, because no processor has such flags:");
        voice.say(line);
        match std::fs::rename(log, &kept) {
            Ok(()) => voice.say(format_args!("the log of the first try: {}", kept.display())),
            Err(error) => voice.say(format_args!("the log of the first try cannot be kept: {error}")),
        }
        let (mut second, log) = self.run_once(image, voice);
        second.title += " (second try)";
        (second, log)
    }

    fn run_once(&self, image: Option<&Path>, voice: &Voice) -> (Outcome, Option<PathBuf>) {
        match self.scenario.run(self.ready, self.store, image, voice) {
            Ok(ended) => {
                if !ended.transcript.values.is_empty() {
                    scenarios::print_numbers(&self.title(), None, &ended.transcript);
                }
                (
                    Outcome::of(self.title(), &ended.transcript, ended.took),
                    Some(ended.log),
                )
            }
            Err(error) => {
                voice.say(format_args!("FAIL  {error:#}"));
                (Outcome::impossible(self.title(), format!("{error:#}")), None)
            }
        }
    }
}

fn run(tasks: &[Task], image: Option<&Path>, jobs: Option<NonZeroUsize>) -> Result<bool> {
    if tasks.is_empty() {
        bail!(
            "nothing was run: none of these scenarios is for such a store; `qemu-tests list` names the stores of each"
        );
    }
    host::require(&["qemu-system-x86_64"])?;
    if host::usable_kvm() {
        println!("accelerator: KVM");
    } else {
        println!("accelerator: none (no nested virtualisation here), the processor is emulated");
    }
    // A machine has one virtual processor (qemu.rs says why), so it keeps one of ours busy.
    let jobs = jobs
        .or_else(|| std::thread::available_parallelism().ok())
        .map_or(1, NonZeroUsize::get)
        .min(tasks.len());
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some((index, task)) = take(tasks, &next) {
                    let title = task.title();
                    println!("\n{title}");
                    let voice = if jobs == 1 { Voice::alone() } else { Voice::of(&title) };
                    let (outcome, log) = task.run(image, &voice);
                    if jobs > 1 {
                        voice.say(format_args!(
                            "{} after {:.0} s",
                            outcome.word(),
                            outcome.took.as_secs_f64()
                        ));
                    }
                    if let Ok(mut done) = done.lock() {
                        done.push((index, outcome, log));
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_default();
    done.sort_by_key(|(index, ..)| *index);
    let (outcomes, logs): (Vec<Outcome>, Vec<Option<PathBuf>>) =
        done.into_iter().map(|(_, outcome, log)| (outcome, log)).unzip();
    let logs: Vec<PathBuf> = logs.into_iter().flatten().collect();
    Ok(report::summary(&outcomes, &logs) && outcomes.len() == tasks.len())
}

fn take<'a>(tasks: &'a [Task<'a>], next: &AtomicUsize) -> Option<(usize, Task<'a>)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    tasks.get(index).map(|task| (index, *task))
}

fn numbers(one: &One) -> Result<bool> {
    let Some(scenario) = scenarios::by_name("numbers") else {
        bail!("the scenario numbers is missing")
    };
    let image = one.store.image(one.image.as_deref())?;
    let ready = Ready::prepare(one.xen, &one.xen_options)?;
    let ended = scenario.run(&ready, one.store, one.image.as_deref(), &Voice::alone())?;
    let title = format!(
        "numbers on Xen {}, {} (processor {})",
        one.xen,
        demo::describe(one.store),
        if host::usable_kvm() { "real" } else { "emulated" }
    );
    scenarios::print_numbers(&title, image.map(|image| image.len()), &ended.transcript);
    Ok(!ended.transcript.failed())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Line::command().debug_assert();
    }

    #[test]
    fn all_means_all_and_nonsense_is_refused() {
        assert_eq!(parse_beds("all").map(|beds| beds.0), Ok(Bed::ALL.to_vec()));
        assert_eq!(parse_stores("pv").map(|stores| stores.0), Ok(vec![Store::Pv]));
        assert!(parse_beds("4.16").is_err());
        assert!(wanted(&["absent".to_owned()], &Bed::ALL, &Store::OURS).is_err());
    }

    #[test]
    fn a_name_may_say_where_it_is_run() {
        let names = |names: &[&str]| -> Vec<String> { names.iter().map(|name| (*name).to_owned()).collect() };
        let places = |asked: &[&str]| -> Vec<(Bed, Store)> {
            let wanted = wanted(&names(asked), &Bed::ALL, &Store::OURS).unwrap_or_default();
            wanted.iter().map(|one| (one.bed, one.store)).collect()
        };
        assert_eq!(places(&["first-light"]).len(), 4);
        assert_eq!(
            places(&["first-light@4.17"]),
            [(Bed::Xen417, Store::Pvh), (Bed::Xen417, Store::Pv)]
        );
        assert_eq!(
            places(&["first-light@4.20/pv", "first-light@4.20/c", "first-light@4.20/pv"]),
            [(Bed::Xen420, Store::Pv), (Bed::Xen420, Store::C)]
        );
        assert!(places(&["first-light@4.16"]).is_empty());
    }
}
