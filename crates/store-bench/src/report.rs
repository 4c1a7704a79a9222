//! Tables for people, and a file for programs.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;

use crate::host::Kind;
use crate::load::Figures;
use crate::part_reports;
use crate::results::Results;
use crate::rows::Row;
use crate::storm::Storm;

/// Everything that was measured, to be shown.
pub struct Report {
    pub results: Results,
    /// The servers, in the order of their columns.
    pub servers: Vec<Kind>,
}

/// A row for all servers.
struct Line<'r> {
    of: &'r Row,
    figures: Vec<Option<&'r Figures>>,
}

impl Report {
    pub fn new(results: Results) -> Report {
        let mut servers: Vec<Kind> = results.rows.iter().map(|row| row.server).collect();
        servers.extend(
            results
                .storms
                .iter()
                .chain(&results.shared_reads)
                .map(|storm| storm.server),
        );
        servers.extend(results.crowds.iter().map(|row| row.server));
        servers.sort_unstable();
        servers.dedup();
        Report { results, servers }
    }

    pub fn write_json(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(&self.results)?;
        std::fs::write(path, text + "\n").with_context(|| path.display().to_string())
    }

    /// All tables, and what follows from them.
    pub fn tables(&self) -> String {
        let mut text = format!("{}\n\n", self.results.machine);
        part_reports::within(&mut text, &self.results);
        part_reports::starts(&mut text, &self.results);
        part_reports::crowds(&mut text, &self.results, &self.servers);
        self.costs(&mut text);
        self.waits(&mut text);
        self.memory(&mut text);
        self.storms(&mut text, "storm of VMs", &self.results.storms);
        self.storms(&mut text, "transactions that read one path", &self.results.shared_reads);
        self.verdicts(&mut text);
        for row in self.results.rows.iter().filter(|row| row.asking < row.domains) {
            let how = if row.pipelined { "pipelined" } else { "lone" };
            let _infallible = writeln!(
                text,
                "{} of {} domains ask, so that it does not take longer: {}, {}, {how}, {} watches",
                row.asking,
                row.domains,
                row.server.name(),
                row.operation,
                row.watches
            );
        }
        for why in &self.results.left_out {
            let _infallible = writeln!(text, "left out: {why}");
        }
        text
    }

    fn lines(&self) -> Vec<Line<'_>> {
        let same = |a: &Row, b: &Row| {
            (a.operation, a.pipelined, a.domains, a.watches) == (b.operation, b.pipelined, b.domains, b.watches)
        };
        let rows = &self.results.rows;
        let first = self.servers.first().copied();
        let heads = rows.iter().filter(|row| Some(row.server) == first);
        let line = |of| Line {
            of,
            figures: self
                .servers
                .iter()
                .map(|server| rows.iter().find(|row| row.server == *server && same(row, of)))
                .map(|row| row.map(|row| &row.figures))
                .collect(),
        };
        heads.map(line).collect()
    }

    /// Ours against the better of the peers.
    fn ratio(&self, line: &Line<'_>) -> Option<f64> {
        self.ratio_to(line, |server| !matches!(server, Kind::Ours | Kind::Base))
    }

    /// Ours against the best of these.
    fn ratio_to(&self, line: &Line<'_>, of: impl Fn(Kind) -> bool) -> Option<f64> {
        let cost = |of: &dyn Fn(Kind) -> bool| {
            let all = self
                .servers
                .iter()
                .zip(&line.figures)
                .filter(|(server, _)| of(**server));
            let costs = all.filter_map(|(_, figures)| figures.map(|figures| figures.cpu_us));
            costs.min_by(f64::total_cmp)
        };
        let ours = cost(&|server| server == Kind::Ours)?;
        Some(ours / cost(&of)?)
    }

    fn head(&self, text: &mut String, title: &str, columns: &[&str]) {
        let _infallible = writeln!(text, "{title}");
        let _infallible = write!(text, "| operation | | domains | watches each |");
        for server in &self.servers {
            for column in columns {
                let _infallible = write!(text, " {} {column} |", server.name());
            }
        }
    }

    fn costs(&self, text: &mut String) {
        if self.results.rows.is_empty() {
            return;
        }
        self.head(text, "Server's processor time for each request, in µs", &["µs"]);
        let base = self.servers.contains(&Kind::Base);
        let (beside, rule) = if base { (" ours / base |", "--:|") } else { ("", "") };
        let _infallible = writeln!(text, " ours / better peer |{beside} ours, notifies |");
        let _infallible = writeln!(
            text,
            "|---|---|--:|--:|{}--:|{rule}--:|",
            "--:|".repeat(self.servers.len())
        );
        for line in self.lines() {
            start(text, line.of);
            for figures in &line.figures {
                let _infallible = match figures {
                    Some(figures) => write!(text, " {:.2} |", figures.cpu_us),
                    None => write!(text, " |"),
                };
            }
            let ratio = self.ratio(&line).map_or(String::new(), |ratio| format!("{ratio:.2}"));
            let ours = self.servers.iter().position(|server| *server == Kind::Ours);
            let ours = ours.and_then(|index| line.figures.get(index).copied().flatten());
            let notifies = ours.map_or(String::new(), |figures| format!("{:.2}", figures.notifies));
            let _infallible = write!(text, " {ratio} |");
            if base {
                let ratio = self.ratio_to(&line, |server| server == Kind::Base);
                let _infallible = write!(
                    text,
                    " {} |",
                    ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"))
                );
            }
            let _infallible = writeln!(text, " {notifies} |");
        }
        text.push('\n');
    }

    fn waits(&self, text: &mut String) {
        if self.results.rows.is_empty() {
            return;
        }
        let columns = ["requests/s", "p50", "p99", "max µs"];
        self.head(
            text,
            "What clients see: requests per second, and µs of an operation",
            &columns,
        );
        let _infallible = writeln!(
            text,
            "\n|---|---|--:|--:|{}",
            "--:|".repeat(self.servers.len() * columns.len())
        );
        for line in self.lines() {
            start(text, line.of);
            for figures in &line.figures {
                let _infallible = match figures {
                    Some(figures) => write!(
                        text,
                        " {:.0} | {:.0} | {:.0} | {:.0} |",
                        figures.rate(),
                        figures.p50_us,
                        figures.p99_us,
                        figures.max_us
                    ),
                    None => write!(text, " | | | |"),
                };
            }
            text.push('\n');
        }
        text.push('\n');
    }

    fn memory(&self, text: &mut String) {
        if self.results.memory.is_empty() {
            return;
        }
        text.push_str("Memory of the server, in KiB: all / rings, which the domains have, too, and files / of ours durable pages in use\n| domains | watches each |");
        for server in &self.servers {
            let _infallible = write!(text, " {} |", server.name());
        }
        let _infallible = writeln!(text, "\n|--:|--:|{}", "--:|".repeat(self.servers.len()));
        let all = &self.results.memory;
        for of in all.iter().filter(|of| Some(of.server) == self.servers.first().copied()) {
            let _infallible = write!(text, "| {} | {} |", of.domains, of.watches);
            for server in &self.servers {
                let same = |other: &&crate::rows::Memory| {
                    other.server == *server && (other.domains, other.watches) == (of.domains, of.watches)
                };
                let kib = all.iter().find(same).map_or(String::new(), |found| {
                    let pages = found.pages_kib.map_or(String::new(), |kib| format!(" / {kib}"));
                    format!("{} / {}{pages}", found.kib, found.shared_kib)
                });
                let _infallible = write!(text, " {kib} |");
            }
            text.push('\n');
        }
        text.push('\n');
    }

    fn storms(&self, text: &mut String, title: &str, storms: &[Storm]) {
        if storms.is_empty() {
            return;
        }
        let _infallible = writeln!(
            text,
            "{title}\n| at once | server | seconds | server's seconds | requests | minimum | EAGAIN |\n|--:|---|--:|--:|--:|--:|--:|"
        );
        for storm in storms {
            let unfinished = if storm.finished { "" } else { ", not finished" };
            let _infallible = writeln!(
                text,
                "| {} | {} | {:.2}{unfinished} | {:.2} | {} | {} | {} |",
                storm.at_once,
                storm.server.name(),
                storm.seconds,
                storm.cpu_seconds,
                storm.requests,
                storm.minimum,
                storm.conflicts
            );
        }
        text.push('\n');
    }

    /// What the figures say about us, good and bad.
    fn verdicts(&self, text: &mut String) {
        let lines = self.lines();
        let ratios: Vec<(&Line<'_>, f64)> = lines
            .iter()
            .filter_map(|line| Some((line, self.ratio(line)?)))
            .collect();
        if ratios.is_empty() {
            return;
        }
        let won = ratios.iter().filter(|(_, ratio)| *ratio < 1.0).count();
        let _infallible = writeln!(
            text,
            "Less processor time than the better peer in {won} of {} rows.",
            ratios.len()
        );
        for (line, ratio) in ratios.iter().filter(|(_, ratio)| *ratio >= 1.0) {
            text.push_str("not in: ");
            start(text, line.of);
            let _infallible = writeln!(text, " {ratio:.2}");
        }
    }
}

fn start(text: &mut String, row: &Row) {
    let form = if row.pipelined { "pipelined" } else { "lone" };
    let _infallible = write!(
        text,
        "| {} | {form} | {} | {} |",
        row.operation, row.domains, row.watches
    );
}
