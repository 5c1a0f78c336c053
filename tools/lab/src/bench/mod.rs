//! braid beside others: the same traffic through one tunnel after another, in the same two namespaces. Each round has all of
//! them in turn, so that whatever else the machine does meanwhile is spread over all.

mod chart;
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

pub use chart::draw;
pub use overhear::listen;
pub use peers::CASES;
pub use report::BenchReport;
pub use stage::clear_abandoned;

use crate::stop::Stop;
use measure::{Extent, Firsts, Measurement};
use metric::{Metric, Round};
use peers::{Case, Kind, Site};
use ping::round_trip;
use stage::{FAR_FIRST, Stage};

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
    let begins = |case: &Case, name: &String| case.name.starts_with(name.as_str());
    if let Some(name) = options.only.iter().find(|name| !CASES.iter().any(|case| begins(case, name))) {
        let names: Vec<_> = CASES.iter().map(|case| case.name).collect();
        return Err(format!("there is no tunnel '{name}': choose from {}", names.join(", ")));
    }
    let is_wanted = |case: &&Case| options.only.is_empty() || options.only.iter().any(|name| begins(case, name));
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
        let (stop, is_tunnel) = (site.stop, self.case.kind != Kind::Limit);
        let raw = is_tunnel.then(|| round_trip(FAR_FIRST, extent.pings, stop)).transpose()?;
        let mut running = self.case.start(site)?;
        let mut measurement = Measurement { running: &mut running, extent, raw, stop, round: Round::new() };
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
            Ok(vec!["raw", "braid-balance-rr", "braid-active-backup", "braid-busy-poll"])
        );
        assert!(chosen(&["raw", "pigeon"]).is_err_and(|error| error.contains("pigeon") && error.contains("vtun")));
    }

    #[test]
    fn what_is_not_installed_is_left_out_or_an_error() {
        let contender = |all_required| Contender::new(&peers::MISSING, &options(&[], all_required), &Extent::quick());
        assert!(contender(false).is_ok_and(|contender| contender.is_missing));
        let error = contender(true).err().expect("it is required");
        assert!(error.contains("NOT INSTALLED") && error.contains("apt-get install nowhere"), "{error}");
    }
}
