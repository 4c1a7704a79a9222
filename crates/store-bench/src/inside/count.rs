//! How many instructions the work takes: this program does it again under callgrind, on pages in a file.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use cost_tests::bare::Bare;
use cost_tests::instructions::{self, Failure, Scratch, counted, end_of_part};

use super::store::{self, Bed};
use super::{Row, Setting, Work};

/// How often each is done: over several checkpoints.
const TIMES: usize = 1_000;
/// The same of transactions of ten writes.
const TRANSACTIONS: usize = 100;
/// Before the name of work without durable pages.
const PLAIN: &str = "plain ";

/// Counts for each row of one store. `Ok(Some(why))` if it cannot be done on this machine.
pub fn add(rows: &mut [Row], setting: Setting, bytes: &[u8]) -> anyhow::Result<Option<String>> {
    let scratch = Scratch::new(&format!("inside-{}", setting.nodes))?;
    let pages = scratch.file("pages");
    fs::write(&pages, bytes)?;
    let mut arguments = vec!["counted".to_owned(), pages.display().to_string()];
    arguments.extend([setting.nodes, setting.watches, setting.wide, setting.open].map(|number| number.to_string()));
    arguments.extend(rows.iter().map(|row| {
        let before = if row.durable { "" } else { PLAIN };
        format!("{before}{}", row.work)
    }));
    let program = std::env::current_exe()?;
    match instructions::count(&program, &arguments, &scratch) {
        Err(why @ Failure::NotInstalled) => return Ok(Some(why.to_string())),
        Err(failure) => bail!("{failure}"),
        Ok(sums) if sums.len() != rows.len() => bail!("{} sums for {} rows", sums.len(), rows.len()),
        Ok(sums) => {
            for (row, (name, sum)) in rows.iter_mut().zip(sums) {
                let work = named(&name)?.0;
                row.instructions = Some(sum as f64 / times(work) as f64);
            }
        }
    }
    Ok(None)
}

fn times(work: Work) -> usize {
    match work {
        Work::Of(cost_tests::operations::Operation::Transaction) | Work::Commit => TRANSACTIONS,
        _ => TIMES,
    }
}

fn named(name: &str) -> anyhow::Result<(Work, bool)> {
    let (plain, rest) = match name.strip_prefix(PLAIN) {
        Some(rest) => (true, rest),
        None => (false, name),
    };
    let work = Work::named(rest).ok_or_else(|| anyhow!("no work is called {name}"))?;
    Ok((work, plain))
}

/// What runs under callgrind: `PAGES NODES WATCHES WIDE OPEN WORK…`.
pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    let [pages, nodes, watches, wide, open, works @ ..] = arguments else {
        bail!("counted PAGES NODES WATCHES WIDE OPEN WORK…");
    };
    let setting = Setting {
        nodes: nodes.parse()?,
        watches: watches.parse()?,
        wide: wide.parse()?,
        open: open.parse()?,
    };
    let bytes = fs::read(Path::new(pages)).with_context(|| pages.clone())?;
    let mut bed = store::durable(setting, bytes);
    let works: Vec<(Work, bool)> = works.iter().map(|name| named(name)).collect::<Result<_, _>>()?;
    let mut plain = works.iter().any(|(_, plain)| *plain).then(|| bed.plain(setting));
    for (work, without) in works {
        match plain.as_mut().filter(|_| without) {
            Some(plain) => {
                one(plain, work);
                end_of_part(&format!("{PLAIN}{}", work.name()));
            }
            None => {
                one(&mut bed, work);
                end_of_part(work.name());
            }
        }
    }
    Ok(())
}

fn one<B: Bare>(bed: &mut Bed<B>, work: Work) {
    let listener = bed.prepare(work);
    let mut requests = bed.requests(work, times(work));
    if work == Work::Commit {
        bed.run(listener, &mut requests, |commit| counted(commit));
    } else {
        counted(|| bed.run(listener, &mut requests, |commit| commit()));
    }
    bed.clear(listener);
}
