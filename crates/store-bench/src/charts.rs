//! Charts: what a request costs each server over the number of domains, and the four that the README shows.
//!
//! They have a background of their own, so that they can be read on a light and on a dark page.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use plotters::prelude::*;

use crate::host::Kind;
use crate::report::Report;
use crate::rows::Row;

/// Pixels.
const SIZE: (u32, u32) = (720, 440);
/// A little less than white, as paper.
const PAPER: RGBColor = RGBColor(250, 250, 248);

/// What a chart shows.
struct Chart<'c> {
    file: &'c str,
    title: &'c str,
    x: &'c str,
    y: &'c str,
    lines: Vec<Line>,
}

struct Line {
    name: String,
    colour: RGBColor,
    points: Vec<(f64, f64)>,
}

fn colour(server: Kind) -> RGBColor {
    match server {
        Kind::Ours => RGBColor(200, 60, 20),
        Kind::Base => RGBColor(230, 170, 120),
        Kind::C => RGBColor(30, 90, 180),
        Kind::Oxenstored => RGBColor(40, 140, 60),
    }
}

/// All charts for which more than one point was measured.
pub fn draw(report: &Report, folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut wanted: Vec<(&str, u32)> = report
        .results
        .rows
        .iter()
        .map(|row| (row.operation, row.watches))
        .collect();
    wanted.sort_unstable();
    wanted.dedup();
    for (operation, watches) in wanted {
        let lines = by_domains(report, operation, watches);
        let (name, title) = (
            format!("{}-{watches}-watches.svg", operation.replace(' ', "-")),
            format!("{operation}, lone, {watches} watches for each domain"),
        );
        Chart {
            file: &name,
            title: &title,
            x: "domains",
            y: "µs of the server's processor for a request",
            lines,
        }
        .draw(folder)?;
    }
    for chart in for_readme(report) {
        chart.draw(folder)?;
    }
    Ok(())
}

/// The server's time for an operation of a lone client, over domains.
fn by_domains(report: &Report, operation: &str, watches: u32) -> Vec<Line> {
    let line = |server: &Kind| {
        let of = |row: &&Row| {
            row.server == *server && row.operation == operation && row.watches == watches && !row.pipelined
        };
        let rows = report.results.rows.iter().filter(of);
        Line {
            name: server.name().to_owned(),
            colour: colour(*server),
            points: rows.map(|row| (f64::from(row.domains), row.figures.cpu_us)).collect(),
        }
    };
    report.servers.iter().map(line).collect()
}

/// The charts that are committed: `make bench-charts`.
fn for_readme(report: &Report) -> [Chart<'_>; 4] {
    let results = &report.results;
    let storm = |server: &Kind| Line {
        name: server.name().to_owned(),
        colour: colour(*server),
        points: results
            .storms
            .iter()
            .filter(|storm| storm.server == *server && storm.finished)
            .map(|storm| (storm.at_once as f64, storm.seconds))
            .collect(),
    };
    let of_ours = || results.inside.iter().filter(|inside| inside.server == Kind::Ours);
    let first = of_ours().next().map(|inside| inside.row.setting);
    let within = |(index, (work, durable)): (usize, (&str, bool))| Line {
        name: format!("{work}{}", if durable { "" } else { ", no durable pages" }),
        colour: [
            (200, 60, 20),
            (30, 90, 180),
            (140, 170, 220),
            (40, 140, 60),
            (130, 70, 150),
        ]
        .get(index)
        .map_or(BLACK, |(red, green, blue)| RGBColor(*red, *green, *blue)),
        points: of_ours()
            .filter(|inside| (inside.row.work.as_str(), inside.row.durable) == (work, durable))
            .filter(|inside| {
                first.is_some_and(|first| {
                    let setting = inside.row.setting;
                    (setting.watches, setting.wide, setting.open) == (first.watches, first.wide, first.open)
                })
            })
            .map(|inside| (inside.row.setting.nodes as f64, inside.row.ns))
            .collect(),
    };
    let works = [
        ("READ", true),
        ("WRITE", true),
        ("WRITE", false),
        ("MKDIR, RM", true),
        ("commit of 10 writes", true),
    ];
    let recovered = Line {
        name: "recovery alone, as a process".to_owned(),
        colour: colour(Kind::Ours),
        points: results
            .read_back
            .iter()
            .filter(|found| found.server == Kind::Ours)
            .map(|found| (found.recovery.nodes as f64, found.recovery.ms))
            .collect(),
    };
    let restarted = Line {
        name: "xenstored-unix after kill -9, to its first reply".to_owned(),
        colour: RGBColor(30, 90, 180),
        points: results
            .first_replies
            .iter()
            .filter(|found| found.server == Kind::Ours)
            .filter_map(|found| Some((found.nodes? as f64, found.ms)))
            .collect(),
    };
    [
        Chart {
            file: "write-against-domains.svg",
            title: "WRITE of one byte, lone requests of all domains",
            x: "domains",
            y: "µs of the server's processor for a request",
            lines: by_domains(report, "write 1 byte", 0),
        },
        Chart {
            file: "storm-against-vms.svg",
            title: "Lives of VMs at once, from the first request to the last",
            x: "VMs",
            y: "seconds",
            lines: report.servers.iter().map(storm).collect(),
        },
        Chart {
            file: "in-process-against-nodes.svg",
            title: "In process: one request, durable record and reply included",
            x: "nodes in the store",
            y: "ns",
            lines: works.into_iter().enumerate().map(within).collect(),
        },
        Chart {
            file: "recovery-against-nodes.svg",
            title: "Reading a store back",
            x: "nodes in the store",
            y: "ms",
            lines: vec![recovered, restarted],
        },
    ]
}

impl Chart<'_> {
    fn draw(mut self, folder: &Path) -> anyhow::Result<()> {
        self.lines.retain(|line| !line.points.is_empty());
        if self.lines.iter().all(|line| line.points.len() < 2) {
            return Ok(());
        }
        self.draw_into(&folder.join(self.file))
            .map_err(|error| anyhow!("{}: {error}", self.title))
    }

    fn draw_into(&self, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
        let all = || self.lines.iter().flat_map(|line| &line.points);
        let range = |of: fn(&(f64, f64)) -> f64, around: f64| {
            let least = all().map(of).fold(f64::INFINITY, f64::min);
            let most = all().map(of).fold(0.0, f64::max);
            (least / around).max(1e-6)..most.max(least) * around
        };
        let area = SVGBackend::new(path, SIZE).into_drawing_area();
        area.fill(&PAPER)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d(
                range(|point| point.0, 1.2).log_scale(),
                range(|point| point.1, 2.0).log_scale(),
            )?;
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .x_label_formatter(&|value| short(*value))
            .y_label_formatter(&|value| short(*value))
            .draw()?;
        for Line { name, colour, points } in &self.lines {
            let colour = *colour;
            chart
                .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
            chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(PAPER.mix(0.8))
            .border_style(BLACK)
            .draw()?;
        area.present()?;
        Ok(())
    }
}

/// A number on an axis: all are powers of ten.
fn short(value: f64) -> String {
    match value {
        1e6.. => format!("{} M", value / 1e6),
        1e3.. => format!("{} k", value / 1e3),
        _ => format!("{value}"),
    }
}
