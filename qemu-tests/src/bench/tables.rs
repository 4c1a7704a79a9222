//! What was measured, as tables for people: each value is the median over the boots.

use std::fmt::Write as _;

use super::figures::{Counted, Crowd, Row, median};
use super::{Boot, Results};

/// The stores as columns: name on the command line, and in the tables. The peers stand behind ours.
const COLUMNS: [(&str, &str); 4] = [
    ("pv", "here, PV"),
    ("pvh", "here, PVH"),
    ("c", "C"),
    ("ocaml", "oxenstored"),
];
const PEERS: [&str; 2] = ["c", "ocaml"];

/// What a table shows: its title, and where the value is.
type Figure<T> = (&'static str, fn(&T) -> f64);

/// All tables, and what follows from them.
pub fn all(results: &Results) -> String {
    let mut text = format!("{}; medians of {} boots of each\n\n", results.machine, boots(results));
    let mut lost = Vec::new();
    let server: Figure<Row> = ("Server's processor time for a request, µs", |row| row.server_us);
    let wall: Figure<Row> = ("Wall time for a request, µs", |row| row.wall_us);
    let dom0: Figure<Row> = (
        "dom0's processor time for a request, without a server in it, µs",
        |row| row.dom0_us,
    );
    for figure in [server, wall] {
        rows(&mut text, results, figure, "ring", &mut lost);
    }
    rows(&mut text, results, dom0, "ring", &mut Vec::new());
    // A stub domain has no socket: what it is held against there is its ring all the same.
    for figure in [server, wall, dom0] {
        rows(&mut text, results, figure, "socket", &mut Vec::new());
    }
    counts(&mut text, results);
    tests(&mut text, results, "ring", &mut lost);
    tests(&mut text, results, "socket", &mut Vec::new());
    crowds(&mut text, results);
    for line in lost {
        let _infallible = writeln!(text, "PV not below both: {line}");
    }
    text
}

fn boots(results: &Results) -> usize {
    let of = |store: &str| results.boots.iter().filter(|boot| boot.store == store).count();
    COLUMNS.iter().map(|(store, _)| of(store)).max().unwrap_or(0)
}

/// The median over the boots with `store` of what `of` finds in each.
fn over_boots(results: &Results, store: &str, of: impl Fn(&Boot) -> Vec<f64>) -> Option<f64> {
    let boots = results.boots.iter().filter(|boot| boot.store == store);
    let values: Vec<f64> = boots.flat_map(of).collect();
    (!values.is_empty()).then(|| median(values))
}

/// Ours as PV against the better peer: the one with less.
fn ratio(values: &[Option<f64>]) -> Option<f64> {
    against(values, |peers| peers.iter().copied().min_by(f64::total_cmp))
}

/// The same where more is better.
fn ratio_of_more(values: &[Option<f64>]) -> Option<f64> {
    against(values, |peers| peers.iter().copied().max_by(f64::total_cmp))
}

fn against(values: &[Option<f64>], better: fn(&[f64]) -> Option<f64>) -> Option<f64> {
    let of = |store: &str| {
        let index = COLUMNS.iter().position(|(name, _)| *name == store)?;
        values.get(index).copied().flatten()
    };
    let peers: Vec<f64> = PEERS.iter().filter_map(|store| of(store)).collect();
    Some(of("pv")? / better(&peers)?)
}

fn head(text: &mut String, title: &str, first: &[&str], last: &[&str]) {
    let columns = COLUMNS.iter().map(|(_, name)| *name);
    let all: Vec<&str> = first
        .iter()
        .copied()
        .chain(columns)
        .chain(last.iter().copied())
        .collect();
    let rest = "--:|".repeat(all.len().saturating_sub(first.len()));
    let _infallible = writeln!(
        text,
        "{title}\n\n| {} |\n|{}{rest}",
        all.join(" | "),
        "---|".repeat(first.len())
    );
}

fn line(text: &mut String, names: &[String], values: &[Option<f64>], ratio: Option<f64>) {
    let _infallible = write!(text, "| {} |", names.join(" | "));
    for value in values {
        let _infallible = match value {
            Some(value) if *value < 10.0 => write!(text, " {value:.2} |"),
            Some(value) => write!(text, " {value:.0} |"),
            None => write!(text, " |"),
        };
    }
    if let Some(ratio) = ratio {
        let _infallible = write!(text, " {ratio:.2} |");
    }
    text.push('\n');
}

/// Operations and how many clients did them at once, each once, in the order of the first boot that has them.
fn kinds(results: &Results, way: &str) -> Vec<(String, u32)> {
    let mut kinds = Vec::new();
    for row in results
        .boots
        .iter()
        .flat_map(|boot| &boot.rows)
        .filter(|row| row.way == way)
    {
        let kind = (row.operation.clone(), row.at_once);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds
}

fn rows(text: &mut String, results: &Results, figure: Figure<Row>, way: &str, lost: &mut Vec<String>) {
    let kinds = kinds(results, way);
    if kinds.is_empty() {
        return;
    }
    let (title, of) = figure;
    let title = if way == "socket" {
        format!("{title}; the daemons over their socket, here over dom0's ring")
    } else {
        format!("{title}; all over dom0's ring")
    };
    head(text, &title, &["operation", "at once"], &["PV / better peer"]);
    let (mut won, mut all) = (0, 0);
    for (operation, at_once) in kinds {
        let value = |store: &str| {
            let way = if PEERS.contains(&store) { way } else { "ring" };
            let same = |row: &&Row| row.way == way && row.operation == operation && row.at_once == at_once;
            over_boots(results, store, |boot| boot.rows.iter().filter(same).map(of).collect())
        };
        let values: Vec<Option<f64>> = COLUMNS.iter().map(|(store, _)| value(store)).collect();
        let ratio = ratio(&values);
        line(text, &[operation.clone(), at_once.to_string()], &values, ratio);
        if let Some(ratio) = ratio {
            all += 1;
            won += i32::from(ratio < 1.0);
            if ratio >= 1.0 {
                lost.push(format!("{title}: {operation}, {at_once} at once: {ratio:.2}"));
            }
        }
    }
    if all > 0 {
        let _infallible = writeln!(text, "\nPV below both peers in {won} of {all} rows.");
    }
    text.push('\n');
}

/// What our store counts for each request.
fn counts(text: &mut String, results: &Results) {
    let kinds = kinds(results, "ring");
    let counts = |store: &str, of: fn(&Counted) -> f64, operation: &str, at_once: u32| {
        over_boots(results, store, |boot| {
            let rows = boot.rows.iter();
            let same = rows.filter(|row| row.way == "ring" && row.operation == operation && row.at_once == at_once);
            same.filter_map(|row| row.counted.as_ref().map(of)).collect()
        })
    };
    if !results
        .boots
        .iter()
        .any(|boot| boot.rows.iter().any(|row| row.counted.is_some()))
    {
        return;
    }
    text.push_str(
        "What our store asks Xen for, for each request over dom0's ring. As PVH each hypercall and each block is an exit, and there are others that it cannot count (part trace); \
         as PV a block is a hypercall.\n\n\
         | operation | at once | PVH: hypercalls and blocks | PVH: events sent | PVH: blocks | PV: hypercalls and blocks | PV: events sent |\n\
         |---|---|--:|--:|--:|--:|--:|\n",
    );
    for (operation, at_once) in kinds {
        let of = |store: &str, field| counts(store, field, &operation, at_once);
        let values = [
            of("pvh", |counted| counted.hypercalls + counted.blocks),
            of("pvh", |counted| counted.notifies),
            of("pvh", |counted| counted.blocks),
            of("pv", |counted| counted.hypercalls + counted.blocks),
            of("pv", |counted| counted.notifies),
        ];
        line(text, &[operation.clone(), at_once.to_string()], &values, None);
    }
    text.push('\n');
}

/// Upstream's test: the median of all times of all boots.
fn tests(text: &mut String, results: &Results, way: &str, lost: &mut Vec<String>) {
    let mut names: Vec<&String> = Vec::new();
    for test in results
        .boots
        .iter()
        .flat_map(|boot| &boot.tests)
        .filter(|test| test.way == way)
    {
        if !names.contains(&&test.name) {
            names.push(&test.name);
        }
    }
    names.sort();
    if names.is_empty() {
        return;
    }
    let beside = if way == "socket" { "; here over dom0's ring" } else { "" };
    let title = format!("Upstream's test-xenstore over the {way}{beside}: median of all times, µs");
    head(text, &title, &["test"], &["PV / better peer"]);
    for name in names {
        let value = |store: &str| {
            let way = if PEERS.contains(&store) { way } else { "ring" };
            over_boots(results, store, |boot| {
                let same = boot.tests.iter().filter(|test| test.way == way && test.name == *name);
                same.flat_map(|test| &test.times_ns).map(|time| time / 1000.0).collect()
            })
        };
        let values: Vec<Option<f64>> = COLUMNS.iter().map(|(store, _)| value(store)).collect();
        let ratio = ratio(&values);
        line(text, std::slice::from_ref(name), &values, ratio);
        if let Some(ratio) = ratio.filter(|ratio| *ratio >= 1.0) {
            lost.push(format!("test-xenstore over the {way}: {name}: {ratio:.2}"));
        }
    }
    text.push('\n');
}

fn crowds(text: &mut String, results: &Results) {
    let mut kinds: Vec<(u32, bool)> = Vec::new();
    for crowd in results.boots.iter().flat_map(|boot| &boot.crowds) {
        if !kinds.contains(&(crowd.guests, crowd.greedy)) {
            kinds.push((crowd.guests, crowd.greedy));
        }
    }
    if kinds.is_empty() {
        return;
    }
    kinds.sort_unstable();
    let of = |store: &str, kind: (u32, bool), field: fn(&Crowd) -> f64| {
        over_boots(results, store, |boot| {
            let same = boot.crowds.iter().filter(|crowd| (crowd.guests, crowd.greedy) == kind);
            same.map(field).collect()
        })
    };
    let figures: [Figure<Crowd>; 10] = [
        ("requests of all in a second, without the greedy one's", |crowd| {
            crowd.per_second
        }),
        ("requests of the greedy one in a second", |crowd| {
            crowd.greedy_per_second
        }),
        ("least of a guest / most of a guest", |crowd| {
            crowd.least as f64 / crowd.most.max(1) as f64
        }),
        ("p50, µs", |crowd| crowd.p50_us),
        ("p99, median of the guests, µs", |crowd| crowd.p99_us),
        ("p99, worst guest, µs", |crowd| crowd.worst_p99_us),
        ("server's processor time for a request, µs", |crowd| crowd.server_us),
        ("dom0's, without a server in it, µs", |crowd| crowd.dom0_us),
        ("the guests', µs", |crowd| crowd.guests_us),
        ("events that the store sent, for a request", |crowd| {
            crowd.counted.map_or(f64::NAN, |counted| counted.notifies)
        }),
    ];
    head(
        text,
        "Guests of our own, each asking READ after READ",
        &["guests", ""],
        &["PV / better peer"],
    );
    for (title, field) in figures {
        for kind in &kinds {
            if title.contains("the greedy one in") && !kind.1 {
                continue;
            }
            let values: Vec<Option<f64>> = COLUMNS
                .iter()
                .map(|(store, _)| of(store, *kind, field).filter(|value| !value.is_nan()))
                .collect();
            let guests = if kind.1 {
                format!("{}, one greedy", kind.0)
            } else {
                kind.0.to_string()
            };
            let more_is_better = title.starts_with("requests") || title.starts_with("least");
            let ratio = if more_is_better {
                ratio_of_more(&values)
            } else {
                ratio(&values)
            };
            line(text, &[guests, title.to_owned()], &values, ratio);
        }
    }
    text.push('\n');
    for (store, name) in COLUMNS {
        let each = |kind, field| of(store, kind, field);
        if let (Some(many), Some(one)) = (
            each((50, false), |crowd| crowd.per_second),
            each((1, false), |crowd| crowd.per_second),
        ) {
            let _infallible = writeln!(
                text,
                "{name}: 50 guests together have {:.2} x the throughput of one.",
                many / one
            );
        }
        let p99: fn(&Crowd) -> f64 = |crowd| crowd.p99_us;
        if let (Some(with), Some(without)) = (each((10, true), p99), each((10, false), p99)) {
            let _infallible = writeln!(
                text,
                "{name}: a greedy guest among ten moves the others' p99 by {:.2} x.",
                with / without
            );
        }
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Test;

    fn boot(store: &str, server_us: f64, times_ns: &[f64]) -> Boot {
        Boot {
            store: store.to_owned(),
            rows: vec![Row {
                operation: "READ".to_owned(),
                way: "ring".to_owned(),
                at_once: 1,
                requests: 9,
                wall_us: 20.0,
                server_us,
                dom0_us: 5.0,
                conflicts: 0,
                counted: None,
            }],
            tests: vec![Test {
                way: "ring".to_owned(),
                name: "read 1".to_owned(),
                times_ns: times_ns.to_vec(),
            }],
            ..Boot::default()
        }
    }

    #[test]
    fn ours_is_held_against_the_better_peer_by_the_median_of_the_boots() {
        let results = Results {
            machine: "a machine".to_owned(),
            boots: vec![
                boot("pv", 4.0, &[1000.0, 9000.0]),
                boot("pv", 6.0, &[2000.0]),
                boot("pv", 90.0, &[]),
                boot("c", 12.0, &[4000.0]),
                boot("ocaml", 30.0, &[1000.0]),
            ],
        };
        let text = all(&results);
        assert!(text.contains("| READ | 1 | 6.00 | | 12 | 30 | 0.50 |"), "{text}");
        assert!(text.contains("PV below both peers in 1 of 1 rows."), "{text}");
        // Not the median of each boot's: all times count.
        assert!(text.contains("| read 1 | 2.00 | | 4.00 | 1.00 | 2.00 |"), "{text}");
        assert!(
            text.contains("PV not below both: test-xenstore over the ring: read 1: 2.00"),
            "{text}"
        );
        let values = [Some(10.0), None, Some(5.0), Some(20.0)];
        assert_eq!((ratio(&values), ratio_of_more(&values)), (Some(2.0), Some(0.5)));
        // As slow as the peers is not faster.
        assert!(text.contains("PV not below both: Wall time"), "{text}");
    }
}
