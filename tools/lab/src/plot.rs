//! Pictures of arrival over time: each datagram a dot, at when it was sent and how long it took; losses on the ground
//! line; faults as bands. One panel per run.

use std::collections::HashSet;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::course::Outcome;

const WIDTH: u32 = 1200;
const PANEL_HEIGHT: u32 = 300;
/// Where Debian's fonts-dejavu-core puts the font that a PNG is written with, and that an SVG's texts are measured by.
const FONT: &str = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf";

const IN_ORDER: RGBColor = RGBColor(31, 119, 180);
const OUT_OF_ORDER: RGBColor = RGBColor(255, 127, 14);
const LOST: RGBColor = RGBColor(214, 39, 40);
const FAULT: RGBColor = RGBColor(120, 120, 120);

/// What a panel shows.
pub struct Panel<'a> {
    /// What it is called.
    pub title: String,
    /// Its run.
    pub outcome: &'a Outcome,
}

/// Something that can be drawn on a file of either kind.
pub trait Picture {
    /// Width and height, in pixels.
    fn size(&self) -> (u32, u32);

    /// Draws it.
    ///
    /// # Errors
    /// What the backend says.
    fn draw_on<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>>;
}

/// Draws a picture into a file, PNG or SVG by its ending.
///
/// # Errors
/// What went wrong.
pub fn save(path: &Path, picture: &impl Picture) -> Result<(), String> {
    let size = picture.size();
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("svg") => load_font().and_then(|()| finish(SVGBackend::new(path, size).into_drawing_area(), picture)),
        Some("png") => load_font().and_then(|()| finish(BitMapBackend::new(path, size).into_drawing_area(), picture)),
        _ => Err(format!("cannot plot to {}: its name must end in .png or .svg", path.display())),
    }
}

fn finish<B: DrawingBackend>(area: DrawingArea<B, Shift>, picture: &impl Picture) -> Result<(), String> {
    let drawn = area.fill(&WHITE).and_then(|()| picture.draw_on(&area)).and_then(|()| area.present());
    drawn.map_err(|error| format!("cannot plot: {error}"))
}

/// Draws the panels into a file, PNG or SVG by its ending.
///
/// # Errors
/// What went wrong.
pub fn draw(path: &Path, panels: &[Panel<'_>]) -> Result<(), String> {
    save(path, &Panels(panels))
}

struct Panels<'a>(&'a [Panel<'a>]);

impl Picture for Panels<'_> {
    fn size(&self) -> (u32, u32) {
        (WIDTH, PANEL_HEIGHT * self.0.len() as u32 + 20)
    }

    fn draw_on<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        let longest = self.0.iter().map(|panel| panel.outcome.report.summary.latency_ms.max).fold(20.0, f64::max);
        let highest = longest.min(400.0) * 1.1;
        let areas = area.split_evenly((self.0.len(), 1));
        self.0.iter().zip(areas).try_for_each(|(panel, area)| draw_panel(&area, panel, highest))
    }
}

fn load_font() -> Result<(), String> {
    let font =
        std::fs::read(FONT).map_err(|error| format!("a plot needs {FONT} ({error}): install fonts-dejavu-core"))?;
    plotters::style::register_font("sans-serif", FontStyle::Normal, font.leak())
        .map_err(|_| format!("{FONT} is not a font that can be used"))
}

fn draw_panel<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    panel: &Panel<'_>,
    highest: f64,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let outcome = panel.outcome;
    let summary = &outcome.report.summary;
    let seconds = |at: u64| at.saturating_sub(outcome.began) as f64 / 1e9;
    let end = outcome.arrivals.iter().map(|arrival| seconds(arrival.sent)).fold(1.0, f64::max);
    let caption = format!(
        "{}: {} lost, {} out of order, {} twice, p99 {:.0} ms",
        panel.title, summary.lost, summary.reordered, summary.duplicated, summary.latency_ms.p99
    );
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(35)
        .y_label_area_size(55)
        .build_cartesian_2d(0.0..end, 0.0..highest)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(225, 225, 225))
        .x_desc("sent at, seconds")
        .y_desc("one-way delay, ms")
        .label_style(("sans-serif", 13))
        .draw()?;
    draw_faults(&mut chart, outcome, end, highest)?;
    let dots = dots(outcome, highest);
    chart.draw_series(
        dots.into_iter().map(|(at, delay, colour)| Circle::new((seconds(at), delay), 1, colour.filled())),
    )?;
    let lost = lost_at(outcome).into_iter();
    chart.draw_series(lost.map(|at| PathElement::new([(at, 0.0), (at, highest * 0.06)], LOST)))?;
    Ok(())
}

type Chart<'a, B> =
    ChartContext<'a, B, Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>>;

/// From each fault to its end, a band with what it was.
fn draw_faults<B: DrawingBackend>(
    chart: &mut Chart<'_, B>,
    outcome: &Outcome,
    end: f64,
    highest: f64,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let faults = &outcome.report.faults;
    for (index, fault) in faults.iter().enumerate().filter(|(_, fault)| !fault.mends) {
        let mended = faults[index..].iter().find(|later| later.mends).map_or(end, |later| later.at_s);
        let band = Rectangle::new([(fault.at_s, 0.0), (mended, highest)], FAULT.mix(0.18).filled());
        chart.draw_series([band])?;
        let label = Text::new(fault.what.clone(), (fault.at_s + end * 0.005, highest * 0.97), ("sans-serif", 13));
        chart.draw_series([label])?;
    }
    Ok(())
}

/// Every arrival: when it was sent, how long it took (in milliseconds), and the colour of its order.
fn dots(outcome: &Outcome, highest: f64) -> Vec<(u64, f64, RGBColor)> {
    let mut newest = None;
    let mut dots = vec![];
    for arrival in &outcome.arrivals {
        let colour = if newest.is_some_and(|newest| arrival.number <= newest) { OUT_OF_ORDER } else { IN_ORDER };
        newest = newest.max(Some(arrival.number));
        let delay = arrival.received.saturating_sub(arrival.sent) as f64 / 1e6;
        dots.push((arrival.sent, delay.min(highest), colour));
    }
    dots
}

/// About when each datagram was sent that never came, in seconds: as far between its neighbours as its number is.
fn lost_at(outcome: &Outcome) -> Vec<f64> {
    let seen: HashSet<u64> = outcome.arrivals.iter().map(|arrival| arrival.number).collect();
    let mut sent: Vec<(u64, u64)> = outcome.arrivals.iter().map(|arrival| (arrival.number, arrival.sent)).collect();
    sent.sort_unstable();
    let missing = (0..outcome.report.summary.offered).filter(|number| !seen.contains(number));
    let at = |number: u64| {
        let after = sent.partition_point(|(seen, _)| *seen < number);
        let (low, high) = (sent.get(after.wrapping_sub(1))?, sent.get(after)?);
        let share = (number - low.0) as f64 / (high.0 - low.0) as f64;
        Some((low.1.saturating_sub(outcome.began) as f64 + share * (high.1 - low.1) as f64) / 1e9)
    };
    missing.filter_map(at).collect()
}
