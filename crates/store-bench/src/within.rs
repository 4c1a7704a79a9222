//! What costs within the process: the programs `ours-inside` and `ours-weighed` measure it, of this build and of another.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use store_bench::inside;

use crate::host::Kind;
use crate::process::program;
use crate::progress::progress;
use crate::results::{Inside, Results};

/// What something takes in memory.
#[derive(Clone, Debug, Serialize)]
pub struct Weight {
    pub server: Kind,
    pub what: String,
    pub bytes: usize,
}

/// As `ours-weighed` says it.
#[derive(Deserialize)]
struct Weighed {
    what: String,
    bytes: usize,
}

/// What is to be measured.
pub struct Plan {
    /// Builds of ours.
    pub servers: Vec<(Kind, Option<PathBuf>)>,
    /// Nodes of the stores.
    pub nodes: Vec<usize>,
    /// The part of the usual number of requests.
    pub share: f64,
    /// Instructions are counted, too.
    pub instructions: bool,
}

impl Plan {
    /// Measures everything. What another build does not have is noted.
    pub fn measure(&self, results: &mut Results) -> anyhow::Result<()> {
        for (kind, programs) in &self.servers {
            let programs = programs.as_ref();
            if *kind == Kind::Base
                && (program("ours-inside", programs).is_err() || program("ours-weighed", programs).is_err())
            {
                results
                    .left_out
                    .push("in process: the base commit has no such programs yet".to_owned());
                continue;
            }
            progress("memory of nodes, watches, transactions");
            let weighed: Vec<Weighed> = run("ours-weighed", programs, &[])?;
            let weights = weighed.into_iter();
            results.weights.extend(weights.map(|Weighed { what, bytes }| Weight {
                server: *kind,
                what,
                bytes,
            }));
            let mut arguments = vec!["requests".to_owned(), "--nodes".to_owned(), listed(&self.nodes)];
            arguments.extend(["--share".to_owned(), self.share.to_string()]);
            if !self.instructions {
                arguments.push("--no-instructions".to_owned());
            }
            let found: inside::Results = run("ours-inside", programs, &arguments)?;
            results
                .left_out
                .extend(found.not_counted.map(|why| format!("instructions: {why}")));
            let rows = found.rows.into_iter();
            results.inside.extend(rows.map(|row| Inside { server: *kind, row }));
        }
        Ok(())
    }
}

/// Numbers for a command line.
pub fn listed(numbers: &[usize]) -> String {
    let texts: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    texts.join(",")
}

/// What a program of ours says.
pub fn run<T: DeserializeOwned>(name: &str, programs: Option<&PathBuf>, arguments: &[String]) -> anyhow::Result<T> {
    let mut command = Command::new(program(name, programs)?);
    let output = command.args(arguments).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("{name} {} ended: {}", arguments.join(" "), output.status);
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("what {name} says"))
}
