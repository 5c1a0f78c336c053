//! braid beside others: the same traffic through one tunnel after another, in the same two namespaces. Each round has all of
//! them in turn, so that whatever else the machine does meanwhile is spread over all.

mod boxes;
mod chart;
mod command_line;
mod cpu;
mod datagrams;
mod iperf;
mod measure;
mod metric;
mod overhear;
mod peers;
mod ping;
mod report;
mod search;
mod stage;
mod wait;

use std::path::PathBuf;
use std::time::Instant;

pub use command_line::{BenchArguments, main};
pub use overhear::listen;
pub use stage::clear_abandoned;

use crate::stop::Stop;
use chart::draw;
use cpu::Reading;
use measure::{Extent, Firsts, Measurement};
use metric::{Metric, Round};
use peers::{CASES, Case, Kind, Site};
use ping::{RoundTrip, round_trip};
use report::BenchReport;
use stage::{FAR_FIRST, Stage};

/// With more cores busy than this while nothing is measured, figures are not to be relied on.
const BUSY_CORES_MAX: f64 = 0.15;

/// What a bench is told.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// Where braid's programs are.
    pub programs: PathBuf,
    /// How many rounds.
    pub rounds: usize,
    /// Only those tunnels whose names begin with one of these; all, if there are none.
    pub only: Vec<String>,
    /// Seconds of each TCP stream.
    pub seconds: u64,
    /// Further flags of braid's box.
    pub extra_box: Vec<String>,
    /// Further flags of braid's gateway.
    pub extra_gateway: Vec<String>,
    /// Whether it is an error if another tunnel is not installed.
    pub all_required: bool,
    /// Whether only to show that everything works.
    pub quick: bool,
}

/// One tunnel, and what was found so far.
struct Contender {
    case: &'static Case,
    is_missing: bool,
    firsts: Firsts,
    rounds: Vec<Round>,
}

/// Runs it.
///
/// # Errors
/// What went wrong, or a signal.
pub fn run(options: &BenchOptions, stop: &Stop) -> Result<BenchReport, String> {
    let extent = if options.quick { Extent::quick() } else { Extent::full(options.seconds) };
    let mut contenders = choose(options, &extent)?;
    let stage = Stage::up()?;
    let site = Site {
        programs: &options.programs,
        extra_box: &options.extra_box,
        extra_gateway: &options.extra_gateway,
        folder: stage.folder(),
        stop,
    };
    for round in 1..=options.rounds {
        for contender in contenders.iter_mut().filter(|contender| !contender.is_missing) {
            contender.take_turn(&site, &stage, &extent)?;
            tell_progress(round, options.rounds, contender);
        }
    }
    Ok(BenchReport::new(options.rounds, &contenders))
}

fn choose(options: &BenchOptions, extent: &Extent) -> Result<Vec<Contender>, String> {
    let is_wanted =
        |case: &&Case| options.only.is_empty() || options.only.iter().any(|name| case.name.starts_with(name.as_str()));
    CASES.iter().filter(is_wanted).map(|case| Contender::new(case, options, extent)).collect()
}

impl Contender {
    fn new(case: &'static Case, options: &BenchOptions, extent: &Extent) -> Result<Self, String> {
        let is_missing = !case.is_installed();
        if let Some(program) = case.program.filter(|_| is_missing) {
            let missing = format!("{} is NOT INSTALLED: 'apt-get install {}'", case.name, program.package);
            if options.all_required {
                return Err(missing);
            }
            eprintln!("bench: {missing}; it is left out");
        }
        Ok(Self { case, is_missing, firsts: Firsts::guess(case.kind, extent), rounds: vec![] })
    }

    /// Measures it once.
    fn take_turn(&mut self, site: &Site<'_>, stage: &Stage, extent: &Extent) -> Result<(), String> {
        let stop = site.stop;
        let (raw, busy) = idle(extent, stop)?;
        let mut running = self.case.start(site)?;
        let raw = Some(raw).filter(|_| self.case.kind != Kind::Limit);
        let round = Round::from([(Metric::IdleBusyCores, busy)]);
        let mut measurement = Measurement { running: &mut running, extent, raw, stop, round };
        let tell = |error| format!("{}: {error}", self.case.name);
        measurement.round_trip().map_err(tell)?;
        if !self.case.is_rtt_only {
            measurement.load(&mut self.firsts).map_err(tell)?;
        }
        self.rounds.push(measurement.round);
        drop(running);
        stage.sweep()
    }
}

/// The round-trip time without a tunnel, and how many cores were busy meanwhile, of which pings take next to nothing.
fn idle(extent: &Extent, stop: &Stop) -> Result<(RoundTrip, f64), String> {
    let (before, begun) = (Reading::of_machine()?, Instant::now());
    let time = round_trip(FAR_FIRST, extent.pings, stop)?;
    let busy = before.until(&Reading::of_machine()?).machine / begun.elapsed().as_secs_f64();
    if busy > BUSY_CORES_MAX {
        eprintln!(
            "bench: CAREFUL: this machine does something else: {busy:.1} cores are busy before a tunnel is there"
        );
    }
    Ok((time, busy))
}

fn tell_progress(round: usize, rounds: usize, contender: &Contender) {
    let Some(found) = contender.rounds.last() else { return };
    let figure = |metric, what: &str| found.get(&metric).map(|value| format!("{what} {value:.0}"));
    let figures = [
        figure(Metric::TcpMbps, "TCP"),
        figure(Metric::UdpMbps, "UDP"),
        figure(Metric::GsoMbps, "UDP with GSO"),
        figure(Metric::RttP50Us, "round trip (µs)"),
    ];
    let figures: Vec<_> = figures.into_iter().flatten().collect();
    eprintln!("bench: round {round} of {rounds}: {}: Mbit/s: {}", contender.case.title, figures.join(", "));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(only: &[&str], all_required: bool) -> BenchOptions {
        BenchOptions {
            programs: PathBuf::new(),
            rounds: 1,
            only: only.iter().map(|name| (*name).to_owned()).collect(),
            seconds: 5,
            extra_box: vec![],
            extra_gateway: vec![],
            all_required,
            quick: false,
        }
    }

    fn chosen(only: &[&str]) -> Result<Vec<&'static str>, String> {
        let contenders = choose(&options(only, false), &Extent::quick())?;
        Ok(contenders.iter().map(|contender| contender.case.name).collect())
    }

    #[test]
    fn names_choose_all_that_begin_so() {
        assert_eq!(chosen(&[]).map(|names| names.len()), Ok(CASES.len()));
        assert_eq!(
            chosen(&["braid", "raw"]),
            Ok(vec![
                "raw",
                "braid-balance-rr",
                "braid-sealed",
                "braid-rekey",
                "braid-active-backup",
                "braid-busy-poll"
            ])
        );
    }

    #[test]
    fn what_is_not_installed_is_left_out_or_an_error() {
        let contender = |all_required| Contender::new(&peers::MISSING, &options(&[], all_required), &Extent::quick());
        assert!(contender(false).is_ok_and(|contender| contender.is_missing));
        let error = contender(true).err().expect("it is required");
        assert!(error.contains("NOT INSTALLED") && error.contains("apt-get install nowhere"), "{error}");
    }
}
