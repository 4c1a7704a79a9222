//! The tables of what is measured in process, on sockets and at the start, and what they say about us.

use std::fmt::Write as _;

use store_bench::inside::Setting;

use crate::crowd::Crowded;
use crate::host::Kind;
use crate::results::{Inside, Results};

/// What is aimed at on one core with 100,000 nodes, in nanoseconds: work, with durable pages.
const AIMS: [(&str, f64); 3] = [("READ", 250.0), ("WRITE", 1_000.0), ("commit of 10 writes", 10_000.0)];
const NODES_OF_AIMS: usize = 100_000;
/// What instructions may grow by from the smaller to the larger store; the only gate.
const MOST: f64 = 2.0;
const NODES_OF_GATE: [usize; 2] = [1_000, 1_000_000];

/// The rows in which nothing but the number of nodes varies, of one build: work, durable or not, and each store's row.
fn by_nodes(results: &Results, server: Kind) -> Vec<((&str, bool), Vec<&Inside>)> {
    let mut found: Vec<((&str, bool), Vec<&Inside>)> = Vec::new();
    let all = results.inside.iter().filter(|inside| inside.server == server);
    // The stores are in order; where something else varies, it does so behind them.
    let first = all.clone().next().map(|inside| inside.row.setting);
    let is_plain = |setting: Setting| {
        let apart_from_nodes = |setting| Setting { nodes: 0, ..setting };
        first.map(apart_from_nodes) == Some(apart_from_nodes(setting))
    };
    for inside in all.filter(|inside| is_plain(inside.row.setting)) {
        let key = (inside.row.work.as_str(), inside.row.durable);
        match found.iter_mut().find(|(known, _)| *known == key) {
            Some((_, rows)) => rows.push(inside),
            None => found.push((key, vec![inside])),
        }
    }
    found
}

fn label((work, durable): (&str, bool)) -> String {
    format!("{work}{}", if durable { "" } else { ", no durable pages" })
}

/// Ours, and the same of the base with ratios if there is one.
pub fn within(text: &mut String, results: &Results) {
    matrix(
        text,
        results,
        "In process: nanoseconds of the thread for each, nodes",
        |row| Some(row.row.ns),
    );
    matrix(text, results, "In process: instructions for each, nodes", |row| {
        row.row.instructions
    });
    others(text, results);
    aims(text, results);
    weights(text, results);
}

fn matrix(text: &mut String, results: &Results, title: &str, of: impl Fn(&Inside) -> Option<f64>) {
    let ours = by_nodes(results, Kind::Ours);
    let base = by_nodes(results, Kind::Base);
    let Some((_, first)) = ours.first() else { return };
    if first.iter().all(|row| of(row).is_none()) {
        return;
    }
    let _infallible = write!(text, "{title}\n| |");
    for row in first {
        let _infallible = write!(text, " {} |", grouped(row.row.setting.nodes as f64));
    }
    let _infallible = writeln!(
        text,
        " growth |{}",
        if base.is_empty() { "" } else { " ours / base, each |" }
    );
    let _infallible = writeln!(
        text,
        "|---|{}--:|{}",
        "--:|".repeat(first.len()),
        if base.is_empty() { "" } else { "---|" }
    );
    for (key, rows) in &ours {
        let _infallible = write!(text, "| {} |", label(*key));
        let values: Vec<Option<f64>> = rows.iter().map(|row| of(row)).collect();
        for value in &values {
            let _infallible = write!(text, " {} |", value.map_or(String::new(), grouped));
        }
        let growth = values.first().copied().flatten().zip(values.last().copied().flatten());
        let _infallible = write!(
            text,
            " {} |",
            growth.map_or(String::new(), |(a, b)| format!("× {:.2}", b / a))
        );
        if let Some((_, others)) = base.iter().find(|(other, _)| other == key) {
            let ratio = |(ours, base): (&&Inside, &&Inside)| Some(format!("{:.2}", of(ours)? / of(base)?));
            let ratios: Vec<String> = rows.iter().zip(others).filter_map(ratio).collect();
            let _infallible = write!(text, " {} |", ratios.join(" "));
        }
        text.push('\n');
    }
    text.push('\n');
}

/// Rows in which something else than the number of nodes varies, each beside the one in which it does not.
fn others(text: &mut String, results: &Results) {
    let ours = || results.inside.iter().filter(|inside| inside.server == Kind::Ours);
    let Some(first) = ours().next().map(|inside| inside.row.setting) else {
        return;
    };
    let rest: Vec<&Inside> = ours()
        .filter(|inside| {
            Setting {
                nodes: 0,
                ..inside.row.setting
            } != Setting { nodes: 0, ..first }
        })
        .collect();
    if rest.is_empty() {
        return;
    }
    text.push_str(
        "In process, in a larger surrounding\n| | nodes | watches elsewhere | children of the directory | open transactions | ns | without that | instructions | without that |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    let figure = |value: Option<f64>| value.map_or(String::new(), grouped);
    for inside in rest {
        let row = &inside.row;
        let without = Setting {
            nodes: row.setting.nodes,
            ..first
        };
        let beside = ours()
            .find(|other| (other.row.setting, &other.row.work, other.row.durable) == (without, &row.work, row.durable));
        let durable = label((&row.work, row.durable));
        let Setting {
            nodes,
            watches,
            wide,
            open,
        } = row.setting;
        let _infallible = writeln!(
            text,
            "| {durable} | {nodes} | {watches} | {wide} | {open} | {} | {} | {} | {} |",
            grouped(row.ns),
            figure(beside.map(|beside| beside.row.ns)),
            figure(row.instructions),
            figure(beside.and_then(|beside| beside.row.instructions)),
        );
    }
    text.push('\n');
}

fn aims(text: &mut String, results: &Results) {
    let ours = by_nodes(results, Kind::Ours);
    for (work, aim) in AIMS {
        let rows = ours.iter().find(|(key, _)| *key == (work, true)).map(|(_, rows)| rows);
        let row = rows.and_then(|rows| rows.iter().find(|row| row.row.setting.nodes == NODES_OF_AIMS));
        if let Some(row) = row {
            let met = if row.row.ns <= aim { "met" } else { "missed" };
            let _infallible = writeln!(
                text,
                "aim, not a gate: {work} at {} nodes within {} ns: {} ns (least of the passes {}), {met}",
                grouped(NODES_OF_AIMS as f64),
                grouped(aim),
                grouped(row.row.ns),
                grouped(row.row.least_ns)
            );
        }
    }
    if !ours.is_empty() {
        text.push('\n');
    }
}

/// Work whose instructions grow more than they may.
pub fn grown(results: &Results) -> Vec<String> {
    let mut grown = Vec::new();
    for (key, rows) in by_nodes(results, Kind::Ours) {
        let at = |nodes| rows.iter().find(|row| row.row.setting.nodes == nodes)?.row.instructions;
        let [small, large] = NODES_OF_GATE.map(at);
        if let Some(growth) = small.zip(large).map(|(small, large)| large / small)
            && growth > MOST
        {
            grown.push(format!(
                "{}: instructions grow × {growth:.2}, more than × {MOST}",
                label(key)
            ));
        }
    }
    grown
}

fn weights(text: &mut String, results: &Results) {
    let of = |server| results.weights.iter().filter(move |weight| weight.server == server);
    if of(Kind::Ours).next().is_none() {
        return;
    }
    text.push_str("Bytes of memory, heap and pages, all in\n| | ours | base |\n|---|--:|--:|\n");
    for weight in of(Kind::Ours) {
        let base = of(Kind::Base).find(|other| other.what == weight.what);
        let _infallible = writeln!(
            text,
            "| {} | {} | {} |",
            weight.what,
            grouped(weight.bytes as f64),
            base.map_or(String::new(), |base| grouped(base.bytes as f64))
        );
    }
    text.push('\n');
}

/// First replies, recovery, image and room.
pub fn starts(text: &mut String, results: &Results) {
    if results.first_replies.is_empty() {
        return;
    }
    text.push_str("From the start of a process to its first reply\n| server | nodes in its file | ms | ms of its processor | KiB then |\n|---|--:|--:|--:|--:|\n");
    for start in &results.first_replies {
        let nodes = start.nodes.map_or("none".to_owned(), |nodes| grouped(nodes as f64));
        let _infallible = writeln!(
            text,
            "| {} | {nodes} | {:.1} | {:.1} | {} |",
            start.server.name(),
            start.ms,
            start.cpu_ms,
            start.kib
        );
    }
    text.push_str("\nRecovery alone, ms of the processor\n| server | nodes | records behind the checkpoint | ms |\n|---|--:|--:|--:|\n");
    for found in &results.read_back {
        let recovery = &found.recovery;
        let _infallible = writeln!(
            text,
            "| {} | {} | {} | {:.2} |",
            found.server.name(),
            grouped(recovery.nodes as f64),
            grouped(recovery.records as f64),
            recovery.ms
        );
    }
    text.push('\n');
    for room in &results.rooms {
        let _infallible = writeln!(
            text,
            "{}: {} typical nodes fit into the {} KiB of durable pages of an 8 MiB domain",
            room.server.name(),
            grouped(room.nodes as f64),
            grouped(room.bytes as f64 / 1024.0)
        );
    }
    if let Some(image) = &results.image {
        let compressed = image
            .compressed
            .map_or(String::new(), |bytes| format!(", .gz {} KiB", bytes / 1024));
        let _infallible = writeln!(text, "image: {} KiB{compressed}", image.bytes / 1024);
    }
    text.push('\n');
}

/// Clients on sockets.
pub fn crowds(text: &mut String, results: &Results, servers: &[Kind]) {
    if results.crowds.is_empty() && results.refused.is_empty() {
        return;
    }
    text.push_str("On a Unix socket, server and clients on one processor: µs of the server's processor for each request; then requests/s, p50, p99, max µs of an operation, EAGAIN\n| | | clients |");
    for server in servers {
        let _infallible = write!(text, " {} µs |", server.name());
    }
    let base = servers.contains(&Kind::Base);
    let (beside, rule) = if base { (" ours / base |", "--:|") } else { ("", "") };
    let _infallible = write!(text, " ours / better peer |{beside}");
    for server in servers {
        let _infallible = write!(text, " {} |", server.name());
    }
    let _infallible = writeln!(
        text,
        "\n|---|---|--:|{}--:|{rule}{}",
        "--:|".repeat(servers.len()),
        "---|".repeat(servers.len())
    );
    let mut heads: Vec<(&str, bool, usize)> = Vec::new();
    for row in &results.crowds {
        let head = (row.operation, row.pipelined, row.clients);
        if !heads.contains(&head) {
            heads.push(head);
        }
    }
    for head in heads {
        let (operation, pipelined, clients) = head;
        let of = |server| {
            let same = |row: &&Crowded| row.server == server && (row.operation, row.pipelined, row.clients) == head;
            results.crowds.iter().find(same)
        };
        let form = if pipelined { "pipelined" } else { "lone" };
        let _infallible = write!(text, "| {operation} | {form} | {clients} |");
        for server in servers {
            let cost = of(*server).map_or(String::new(), |row| format!("{:.2}", row.figures.cpu_us));
            let _infallible = write!(text, " {cost} |");
        }
        let ratio_to = |others: &[Kind]| {
            let costs = others
                .iter()
                .filter_map(|server| of(*server))
                .map(|row| row.figures.cpu_us);
            let ratio = of(Kind::Ours)?.figures.cpu_us / costs.min_by(f64::total_cmp)?;
            Some(format!("{ratio:.2}"))
        };
        let _infallible = write!(
            text,
            " {} |",
            ratio_to(&[Kind::C, Kind::Oxenstored]).unwrap_or_default()
        );
        if base {
            let _infallible = write!(text, " {} |", ratio_to(&[Kind::Base]).unwrap_or_default());
        }
        for server in servers {
            let waits = of(*server).map_or(String::new(), |row| {
                let figures = &row.figures;
                format!(
                    "{:.0}/s, {:.0}, {:.0}, {:.0}, {}",
                    figures.rate(),
                    figures.p50_us,
                    figures.p99_us,
                    figures.max_us,
                    figures.conflicts
                )
            });
            let _infallible = write!(text, " {waits} |");
        }
        text.push('\n');
    }
    text.push_str("\nMemory of the server on the socket, in KiB\n| clients |");
    for server in servers {
        let _infallible = write!(text, " {} |", server.name());
    }
    let _infallible = writeln!(text, "\n|--:|{}", "--:|".repeat(servers.len()));
    let mut counts: Vec<usize> = results.crowds.iter().map(|row| row.clients).collect();
    counts.dedup();
    for clients in counts {
        let _infallible = write!(text, "| {clients} |");
        for server in servers {
            let mut rows = results.crowds.iter();
            let found = rows.find(|row| (row.server, row.clients) == (*server, clients));
            let _infallible = write!(text, " {} |", found.map_or(String::new(), |row| row.kib.to_string()));
        }
        text.push('\n');
    }
    for refused in &results.refused {
        let _infallible = writeln!(
            text,
            "{} and {} clients: {}",
            refused.server.name(),
            refused.clients,
            refused.said
        );
    }
    text.push('\n');
}

/// A number with its thousands apart.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
