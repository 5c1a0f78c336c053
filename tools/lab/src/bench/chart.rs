//! A picture of a bench: for each tunnel a bar of its TCP throughput, and one of what that costs.

use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::metric::Metric;
use super::peers::Kind;
use super::report::{BenchReport, TunnelReport};
use crate::plot::{self, Picture};

const WIDTH: u32 = 1200;
const ROW_HEIGHT: u32 = 44;
const CAPTIONS_HEIGHT: u32 = 90;
const OURS: RGBColor = RGBColor(31, 119, 180);
const OTHERS: RGBColor = RGBColor(127, 127, 127);
/// Of the longest bar: what names take to the left of all bars, and figures to the right.
const NAMES_SHARE: f64 = 0.62;
const FIGURES_SHARE: f64 = 0.45;

/// Draws it, as PNG or SVG by the file's ending.
///
/// # Errors
/// What went wrong.
pub fn draw(path: &Path, report: &BenchReport) -> Result<(), String> {
    let bars: Vec<Bar> = report.tunnels().iter().filter_map(Bar::of).collect();
    if bars.is_empty() {
        return Err("there is nothing to draw: no tunnel was measured under load".to_owned());
    }
    plot::save(path, &Chart { head: report.head(), bars })
}

struct Bar {
    title: &'static str,
    is_ours: bool,
    tcp_mbps: f64,
    machine_cpu: f64,
    tunnel_cpu: Option<f64>,
}

impl Bar {
    fn of(tunnel: &TunnelReport) -> Option<Self> {
        Some(Self {
            title: tunnel.title,
            is_ours: tunnel.kind == Kind::Braid,
            tcp_mbps: tunnel.median(Metric::TcpMbps)?,
            machine_cpu: tunnel.median(Metric::TcpMachineCoreSecondsPerGb)?,
            tunnel_cpu: tunnel.median(Metric::TcpTunnelCoreSecondsPerGb),
        })
    }

    const fn colour(&self) -> RGBColor {
        if self.is_ours { OURS } else { OTHERS }
    }

    fn cpu_label(&self) -> String {
        match self.tunnel_cpu {
            Some(tunnel) => format!("{tunnel:.2} of {:.2}", self.machine_cpu),
            None => format!("– of {:.2}", self.machine_cpu),
        }
    }
}

struct Chart {
    head: String,
    bars: Vec<Bar>,
}

type Result2<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;
type Rows<'a, B> = ChartContext<'a, B, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

impl Picture for Chart {
    fn size(&self) -> (u32, u32) {
        (WIDTH, CAPTIONS_HEIGHT + ROW_HEIGHT * self.bars.len() as u32)
    }

    fn draw_on<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result2<B> {
        let area = area.titled(&self.head, ("sans-serif", 15))?;
        let (left, right) = area.split_horizontally(WIDTH / 2);
        self.draw_throughput(&left)?;
        self.draw_cost(&right)
    }
}

impl Chart {
    fn draw_throughput<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result2<B> {
        let longest = self.longest(|bar| bar.tcp_mbps);
        let mut rows = self.rows(area, "one TCP stream, Mbit/s", longest)?;
        for (row, bar) in self.bars.iter().enumerate() {
            draw_bar(&mut rows, row, bar.tcp_mbps, bar.colour().filled())?;
            draw_text(&mut rows, row, bar.tcp_mbps + longest * 0.02, &format!("{:.0}", bar.tcp_mbps))?;
        }
        Ok(())
    }

    /// The machine's time pale, and within it that of the tunnel's processes.
    fn draw_cost<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result2<B> {
        let longest = self.longest(|bar| bar.machine_cpu);
        let mut rows = self.rows(area, "its cost, core-seconds per GB: tunnel processes of whole machine", longest)?;
        for (row, bar) in self.bars.iter().enumerate() {
            draw_bar(&mut rows, row, bar.machine_cpu, bar.colour().mix(0.3).filled())?;
            draw_bar(&mut rows, row, bar.tunnel_cpu.unwrap_or_default(), bar.colour().filled())?;
            draw_text(&mut rows, row, bar.machine_cpu + longest * 0.02, &bar.cpu_label())?;
        }
        Ok(())
    }

    fn longest(&self, length: impl Fn(&Bar) -> f64) -> f64 {
        self.bars.iter().map(length).fold(f64::MIN_POSITIVE, f64::max)
    }

    /// A row for each tunnel, with its name; the first is at the top.
    fn rows<'a, B: DrawingBackend>(
        &self,
        area: &'a DrawingArea<B, Shift>,
        caption: &str,
        longest: f64,
    ) -> Result<Rows<'a, B>, DrawingAreaErrorKind<B::ErrorType>> {
        let across = -longest * NAMES_SHARE..longest * (1.0 + FIGURES_SHARE);
        let mut rows = ChartBuilder::on(area)
            .caption(caption, ("sans-serif", 16))
            .margin(8)
            .build_cartesian_2d(across, self.bars.len() as f64..0.0)?;
        for (row, bar) in self.bars.iter().enumerate() {
            draw_text(&mut rows, row, -longest * NAMES_SHARE, bar.title)?;
        }
        Ok(rows)
    }
}

fn draw_bar<B: DrawingBackend>(rows: &mut Rows<'_, B>, row: usize, length: f64, style: ShapeStyle) -> Result2<B> {
    let top = row as f64;
    rows.draw_series([Rectangle::new([(0.0, top + 0.15), (length, top + 0.85)], style)]).map(drop)
}

fn draw_text<B: DrawingBackend>(rows: &mut Rows<'_, B>, row: usize, at: f64, text: &str) -> Result2<B> {
    let style = ("sans-serif", 15).into_font().color(&BLACK).pos(Pos::new(HPos::Left, VPos::Center));
    rows.draw_series([Text::new(text.to_owned(), (at, row as f64 + 0.5), style)]).map(drop)
}
