//! Charts: what a request costs each server, over the number of domains.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use plotters::prelude::*;

use crate::host::Kind;
use crate::report::Report;
use crate::rows::Row;

/// Pixels.
const SIZE: (u32, u32) = (720, 440);

/// A chart for each operation and number of watches that was measured with more than one number of domains.
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
        let of = |server| points(report, server, operation, watches);
        let lines: Vec<(Kind, Vec<(f64, f64)>)> = report.servers.iter().map(|server| (*server, of(*server))).collect();
        if lines.iter().any(|(_, points)| points.len() > 1) {
            let name = format!("{}-{watches}-watches.svg", operation.replace(' ', "-"));
            let title = format!("{operation}, lone, {watches} watches for each domain");
            chart(&folder.join(name), &title, &lines).map_err(|error| anyhow!("{title}: {error}"))?;
        }
    }
    Ok(())
}

fn points(report: &Report, server: Kind, operation: &str, watches: u32) -> Vec<(f64, f64)> {
    let of =
        |row: &&Row| row.server == server && row.operation == operation && row.watches == watches && !row.pipelined;
    let rows = report.results.rows.iter().filter(of);
    rows.map(|row| (f64::from(row.domains), row.figures.cpu_us)).collect()
}

fn chart(path: &Path, title: &str, lines: &[(Kind, Vec<(f64, f64)>)]) -> Result<(), Box<dyn std::error::Error>> {
    let all = || lines.iter().flat_map(|(_, points)| points);
    let most = |of: fn(&(f64, f64)) -> f64| all().map(of).fold(1.0, f64::max);
    let least = all().map(|(_, cost)| *cost).fold(f64::INFINITY, f64::min).max(0.1);
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(
            (1.0..most(|point| point.0) * 1.2).log_scale(),
            (least / 2.0..most(|point| point.1) * 2.0).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_desc("domains")
        .y_desc("µs of the server's processor for a request")
        .draw()?;
    for (server, points) in lines {
        let colour = match server {
            Kind::Ours => RGBColor(200, 60, 20),
            Kind::Base => RGBColor(230, 170, 120),
            Kind::C => RGBColor(30, 90, 180),
            Kind::Oxenstored => RGBColor(40, 140, 60),
        };
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
            .label(server.name())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    area.present()?;
    Ok(())
}
