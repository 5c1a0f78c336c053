//! Histograms as a picture: for each quantity a panel, in it for each uplink how long the fastest 50%, 90%, 99% and so on
//! took. The axis gives each further nine as much room as the one before.

use std::fs;
use std::sync::OnceLock;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::Recorded;
use crate::control::Quantity;

const WIDTH: u32 = 1000;
const PANEL_HEIGHT: u32 = 340;
/// Where Debian's fonts-dejavu-core puts the font that a PNG is written with, and that an SVG's texts are measured by.
const FONT: &str = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf";
/// Reported in each half of the distance to 100%.
const TICKS_PER_HALF_DISTANCE: u32 = 20;
/// Colours that are told apart, also by those who see fewer (Okabe and Ito).
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(140, 140, 140),
];

/// As an SVG.
///
/// # Errors
/// Why it cannot be drawn.
pub(super) fn svg(all: &[Recorded]) -> Result<String, String> {
    let panels = panels(all)?;
    let mut text = String::new();
    draw(&SVGBackend::with_string(&mut text, size(&panels)).into_drawing_area(), &panels)?;
    Ok(text)
}

/// As a PNG.
///
/// # Errors
/// Why it cannot be drawn.
pub(super) fn png(all: &[Recorded]) -> Result<Vec<u8>, String> {
    let panels = panels(all)?;
    let (width, height) = size(&panels);
    let mut pixels = vec![0; width as usize * height as usize * 3];
    draw(&BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area(), &panels)?;
    let mut bytes = vec![];
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(&pixels));
    written.map_err(|error| format!("the picture cannot be written: {error}"))?;
    Ok(bytes)
}

/// What is drawn of a quantity.
struct Panel {
    title: String,
    lines: Vec<Line>,
    /// The largest value, in the unit.
    highest: f64,
    /// The most that a point has as `1 / (1 - quantile)`.
    furthest: f64,
}

/// A histogram's distribution: points of `1 / (1 - quantile)` and value.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

fn panels(all: &[Recorded]) -> Result<Vec<Panel>, String> {
    let of_quantity =
        |of: Quantity| all.iter().filter(move |recorded| recorded.of == of && !recorded.values.is_empty());
    let panels: Vec<Panel> = Quantity::ALL
        .iter()
        .map(|of| panel(*of, &of_quantity(*of).collect::<Vec<_>>(), all))
        .filter(|panel| !panel.lines.is_empty())
        .collect();
    if panels.is_empty() {
        return Err("nothing has been recorded of what is chosen, so there is nothing to draw".to_owned());
    }
    Ok(panels)
}

fn panel(of: Quantity, recorded: &[&Recorded], all: &[Recorded]) -> Panel {
    let max = recorded.iter().map(|recorded| recorded.values.max()).max().unwrap_or(0);
    let (unit, name) = if max < 1_000_000 { (1e3, "µs") } else { (1e6, "ms") };
    let lines: Vec<Line> = recorded.iter().map(|recorded| line(recorded, unit, all)).collect();
    let furthest = lines.iter().flat_map(|line| &line.points).map(|point| point.0).fold(10.0, f64::max);
    Panel { title: format!("{}, {name}", of.name()), lines, highest: (max as f64 / unit).max(1e-3), furthest }
}

fn line(recorded: &Recorded, unit: f64, all: &[Recorded]) -> Line {
    let values = &recorded.values;
    // The last quantile would be infinitely far away, and is as far as one of so many values can be.
    let furthest = (values.len() as f64).max(2.0);
    let steps = values.iter_quantiles(TICKS_PER_HALF_DISTANCE);
    let points = steps.map(|step| {
        let distance = 1.0 - step.quantile_iterated_to();
        ((1.0 / distance).min(furthest), step.value_iterated_to() as f64 / unit)
    });
    let place = recorded.place(all);
    Line { name: if place.is_empty() { recorded.of.name().to_owned() } else { place }, points: points.collect() }
}

fn size(panels: &[Panel]) -> (u32, u32) {
    (WIDTH, PANEL_HEIGHT * panels.len() as u32)
}

fn draw<B: DrawingBackend>(area: &DrawingArea<B, Shift>, panels: &[Panel]) -> Result<(), String> {
    load_font()?;
    let fail = |error: DrawingAreaErrorKind<B::ErrorType>| format!("the picture cannot be drawn: {error}");
    area.fill(&WHITE).map_err(fail)?;
    for (panel, area) in panels.iter().zip(area.split_evenly((panels.len(), 1))) {
        draw_panel(&area, panel).map_err(fail)?;
    }
    area.present().map_err(fail)
}

fn draw_panel<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    panel: &Panel,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(38)
        .y_label_area_size(60)
        .build_cartesian_2d((1.0..panel.furthest).log_scale(), 0.0..panel.highest * 1.05)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(225, 225, 225))
        .x_desc("of all values, so many are no more")
        .x_label_formatter(&|further| quantile_label(*further))
        .label_style(("sans-serif", 13))
        .draw()?;
    for (line, colour) in panel.lines.iter().zip(COLOURS.iter().cycle()) {
        let colour = *colour;
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.7))
        .label_font(("sans-serif", 13))
        .draw()
}

/// What `1 / (1 - quantile)` is in percent: with as many nines as it takes.
fn quantile_label(further: f64) -> String {
    let nines = further.log10().round().max(0.0) as usize;
    format!("{:.*}%", nines.saturating_sub(2), 100.0 * (1.0 - 1.0 / further))
}

/// Plotters keeps fonts for good, so one is enough.
fn load_font() -> Result<(), String> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    let load = || {
        let font = fs::read(FONT)
            .map_err(|error| format!("a picture needs {FONT} ({error}): install the package fonts-dejavu-core"))?;
        let registered = plotters::style::register_font("sans-serif", FontStyle::Normal, font.leak());
        registered.map_err(|_| format!("{FONT} is not a font that can be used: install fonts-dejavu-core anew"))
    };
    LOADED.get_or_init(load).clone()
}
