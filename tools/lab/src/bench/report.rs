//! What a bench has shown: for people, as a table in Markdown, and for machines.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;

use super::metric::{Metric, Round, Spread, summarise};
use super::peers::Kind;
use super::stage::TUNNEL_MTU;
use super::{BUSY_CORES_MAX, Contender};

const NAME_WIDTH_MIN: usize = 3;

/// The result.
#[derive(Debug, Serialize)]
pub struct BenchReport {
    kernel: String,
    cpus: usize,
    cpu_model: String,
    rounds: usize,
    date: String,
    tunnel_mtu: u16,
    tunnels: Vec<TunnelReport>,
}

/// The result of one tunnel.
#[derive(Debug, Serialize)]
pub struct TunnelReport {
    name: &'static str,
    pub(super) title: &'static str,
    #[serde(skip)]
    pub(super) kind: Kind,
    version: Option<String>,
    is_installed: bool,
    /// Of each figure what the rounds come to.
    summary: BTreeMap<Metric, Spread>,
    rounds: Vec<Round>,
}

impl TunnelReport {
    /// The median of a figure.
    #[must_use]
    pub fn median(&self, metric: Metric) -> Option<f64> {
        self.summary.get(&metric).map(|spread| spread.median)
    }
}

/// A column of the table: its head, and what it says of a tunnel.
type Column = (&'static str, fn(&BenchReport, &TunnelReport) -> Option<String>);

const COLUMNS: [Column; 16] = [
    ("TCP, Mbit/s", |_, tunnel| whole(tunnel.median(Metric::TcpMbps))),
    ("× VXLAN", |report, tunnel| report.ratio(Kind::Kernel, Metric::TcpMbps, tunnel)),
    ("× best peer", |report, tunnel| report.ratio(Kind::UserSpace, Metric::TcpMbps, tunnel)),
    ("tunnel CPU, core-s/GB", |_, tunnel| fine(tunnel.median(Metric::TcpTunnelCoreSecondsPerGb))),
    ("machine CPU, core-s/GB", |_, tunnel| fine(tunnel.median(Metric::TcpMachineCoreSecondsPerGb))),
    ("UDP, Mbit/s", |_, tunnel| rate(tunnel, Metric::UdpMbps, Metric::UdpSenderLimit)),
    ("× VXLAN", |report, tunnel| report.ratio(Kind::Kernel, Metric::UdpMbps, tunnel)),
    ("× best peer", |report, tunnel| report.ratio(Kind::UserSpace, Metric::UdpMbps, tunnel)),
    ("disorder", |_, tunnel| worst(tunnel, Metric::UdpOutOfOrder)),
    ("UDP with GSO, Mbit/s", |_, tunnel| rate(tunnel, Metric::GsoMbps, Metric::GsoSenderLimit)),
    ("disorder", |_, tunnel| worst(tunnel, Metric::GsoOutOfOrder)),
    ("RTT p50 / p99, µs", |_, tunnel| pair(tunnel, Metric::RttP50Us, Metric::RttP99Us)),
    ("above raw, µs", |_, tunnel| pair(tunnel, Metric::RttP50AboveRawUs, Metric::RttP99AboveRawUs)),
    ("20 Mbit/s video: CPU, %", |_, tunnel| tunnel.median(Metric::VideoCpuPercent).map(|value| format!("{value:.1}"))),
    ("lost", |_, tunnel| worst(tunnel, Metric::VideoLost)),
    ("memory, MiB", |_, tunnel| tunnel.median(Metric::MemoryMib).map(|value| format!("{value:.1}"))),
];

impl BenchReport {
    pub(super) fn new(rounds: usize, contenders: &[Contender]) -> Self {
        let tunnels = contenders.iter().map(|contender| TunnelReport {
            name: contender.case.name,
            title: contender.case.title,
            kind: contender.case.kind,
            version: contender.case.version(),
            is_installed: !contender.is_missing,
            summary: summarise(&contender.rounds),
            rounds: contender.rounds.clone(),
        });
        Self {
            kernel: read_trimmed("/proc/sys/kernel/osrelease"),
            cpus: std::thread::available_parallelism().map_or(1, Into::into),
            cpu_model: cpu_model(&read_trimmed("/proc/cpuinfo")),
            rounds,
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            tunnel_mtu: TUNNEL_MTU,
            tunnels: tunnels.collect(),
        }
    }

    /// The tunnels that were measured or should have been.
    pub(super) fn tunnels(&self) -> &[TunnelReport] {
        &self.tunnels
    }

    /// What it was measured on, in a line.
    #[must_use]
    pub fn head(&self) -> String {
        let Self { kernel, cpus, cpu_model, rounds, date, .. } = self;
        let rounds = if *rounds == 1 { "1 round".to_owned() } else { format!("median of {rounds} rounds") };
        format!("Linux {kernel}, {cpus} CPUs ({cpu_model}), {rounds}, {date}")
    }

    /// The table, with that line above and notes below.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut rows = vec![["tunnel"].into_iter().chain(COLUMNS.map(|(head, _)| head)).map(str::to_owned).collect()];
        rows.extend(self.tunnels.iter().map(|tunnel| self.row(tunnel)));
        format!("{}\n\n{}\n{}", self.head(), markdown(&rows), self.notes())
    }

    fn row(&self, tunnel: &TunnelReport) -> Vec<String> {
        let cell = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
        let mut row = vec![tunnel.title.to_owned()];
        if tunnel.is_installed {
            row.extend(COLUMNS.iter().map(|(_, value)| cell(value(self, tunnel))));
        } else {
            row.push("not installed".to_owned());
            row.resize(COLUMNS.len() + 1, String::new());
        }
        row
    }

    /// How many times the best tunnel of a kind this one is, if there is one, and this is not of that kind.
    fn ratio(&self, kind: Kind, metric: Metric, tunnel: &TunnelReport) -> Option<String> {
        let others = self.tunnels.iter().filter(|other| other.kind == kind).filter_map(|other| other.median(metric));
        let best = others.max_by(f64::total_cmp).filter(|best| *best > 0.0 && tunnel.kind != kind)?;
        tunnel.median(metric).map(|value| format!("{:.2}", value / best))
    }

    fn notes(&self) -> String {
        let versions: Vec<String> = self
            .tunnels
            .iter()
            .filter_map(|tunnel| Some(format!("{} {}", tunnel.name, tunnel.version.as_ref()?)))
            .collect();
        let mut notes = format!(
            "One after another in the same two namespaces, joined by two veth pairs with their offloads; tunnel MTU {}; \
             braid over both, in plaintext but for the rows that say sealed; all others without encryption over the first. GB: 10^9 bytes of payload. \
             UDP: the highest rate of 1,300-byte datagrams with less than 0.1% lost; disorder: the most in any round that \
             came after a later one; *: the sender could not send faster. GSO: 40 datagrams by one send.\n",
            self.tunnel_mtu
        );
        let busy = self.tunnels.iter().filter_map(|tunnel| tunnel.summary.get(&Metric::IdleBusyCores));
        let busiest = busy.map(|spread| spread.max).fold(0.0, f64::max);
        if busiest > BUSY_CORES_MAX {
            notes.push_str(&format!(
                "CAREFUL: the machine was busy with something else, up to {busiest:.1} cores, when nothing was measured.\n"
            ));
        }
        if !versions.is_empty() {
            notes.push_str(&format!("Debian packages: {}.\n", versions.join(", ")));
        }
        notes
    }
}

fn whole(value: Option<f64>) -> Option<String> {
    value.map(|value| format!("{value:.0}"))
}

fn fine(value: Option<f64>) -> Option<String> {
    value.map(|value| format!("{value:.2}"))
}

fn pair(tunnel: &TunnelReport, one: Metric, other: Metric) -> Option<String> {
    Some(format!("{:.0} / {:.0}", tunnel.median(one)?, tunnel.median(other)?))
}

fn rate(tunnel: &TunnelReport, rate: Metric, sender_limit: Metric) -> Option<String> {
    let mark = if tunnel.median(sender_limit).is_some_and(|limit| limit > 0.5) { "*" } else { "" };
    tunnel.median(rate).map(|value| format!("{value:.0}{mark}"))
}

/// The highest of all rounds: what must not be, must not be in any.
fn worst(tunnel: &TunnelReport, metric: Metric) -> Option<String> {
    tunnel.summary.get(&metric).map(|spread| format!("{:.0}", spread.max))
}

/// Rows, of which the first is the head, as a table in which all but the first column stand to the right.
fn markdown(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().map(|row| row[column].chars().count()).fold(NAME_WIDTH_MIN, usize::max))
        .collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(
            |(column, (cell, width))| {
                if column == 0 { format!(" {cell:<width$} ") } else { format!(" {cell:>width$} ") }
            },
        );
        format!("|{}|\n", cells.collect::<Vec<_>>().join("|"))
    };
    let rule = widths
        .iter()
        .enumerate()
        .map(|(column, width)| if column == 0 { "-".repeat(width + 2) } else { format!("{}:", "-".repeat(width + 1)) });
    let rule = format!("|{}|\n", rule.collect::<Vec<_>>().join("|"));
    let mut lines = rows.iter().map(line);
    let head = lines.next().unwrap_or_default();
    head + &rule + &lines.collect::<String>()
}

fn read_trimmed(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// What /proc/cpuinfo calls the first CPU, on machines where it has a name.
fn cpu_model(text: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    line.map_or(std::env::consts::ARCH, |(_, name)| name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnel(title: &'static str, kind: Kind, rounds: Vec<Round>) -> TunnelReport {
        let summary = summarise(&rounds);
        TunnelReport { name: title, title, kind, version: None, is_installed: true, summary, rounds }
    }

    fn report() -> BenchReport {
        let round = |tcp: f64, disorder: f64| Round::from([(Metric::TcpMbps, tcp), (Metric::UdpOutOfOrder, disorder)]);
        let mut missing = tunnel("tinc", Kind::UserSpace, vec![]);
        missing.is_installed = false;
        BenchReport {
            kernel: "6.1".to_owned(),
            cpus: 2,
            cpu_model: "some CPU".to_owned(),
            rounds: 3,
            date: "2026-01-02T03:04:05Z".to_owned(),
            tunnel_mtu: 1400,
            tunnels: vec![
                tunnel("vxlan", Kind::Kernel, vec![round(10_000.0, 0.0)]),
                tunnel("braid", Kind::Braid, vec![round(5_000.0, 0.0), round(7_000.0, 2.0), round(6_000.0, 0.0)]),
                tunnel("slow", Kind::UserSpace, vec![round(600.0, 0.0)]),
                tunnel("slower", Kind::UserSpace, vec![round(300.0, 0.0)]),
                missing,
            ],
        }
    }

    fn cells(markdown: &str, title: &str) -> Vec<String> {
        let line = markdown.lines().find(|line| line.starts_with(&format!("| {title} "))).expect("a row");
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    }

    #[test]
    fn a_row_has_medians_ratios_and_the_worst_disorder() {
        let markdown = report().to_markdown();
        assert_eq!(cells(&markdown, "braid")[1..4], ["6000", "0.60", "10.00"]);
        assert_eq!(cells(&markdown, "braid")[9], "2");
        assert_eq!(cells(&markdown, "slower")[1..4], ["300", "0.03", "–"]);
        assert_eq!(cells(&markdown, "vxlan")[1..4], ["10000", "–", "16.67"]);
    }

    #[test]
    fn the_first_line_says_where_and_when() {
        let markdown = report().to_markdown();
        let first = markdown.lines().next().expect("a line");
        assert_eq!(first, "Linux 6.1, 2 CPUs (some CPU), median of 3 rounds, 2026-01-02T03:04:05Z");
    }

    #[test]
    fn what_is_not_installed_says_so() {
        assert_eq!(cells(&report().to_markdown(), "tinc")[1], "not installed");
    }

    #[test]
    fn a_machine_that_was_busy_is_a_reason_to_be_careful() {
        let mut report = report();
        assert!(!report.to_markdown().contains("CAREFUL"));
        let quiet = Round::from([(Metric::IdleBusyCores, 0.01)]);
        report.tunnels.push(tunnel("quiet", Kind::Kernel, vec![quiet.clone()]));
        assert!(!report.to_markdown().contains("CAREFUL"));
        let busy = Round::from([(Metric::IdleBusyCores, 1.3)]);
        report.tunnels.push(tunnel("busy", Kind::Kernel, vec![quiet, busy]));
        assert!(report.to_markdown().contains("CAREFUL: the machine was busy with something else, up to 1.3 cores"));
    }

    #[test]
    fn every_row_has_as_many_cells_as_the_head() {
        let markdown = report().to_markdown();
        let rows: Vec<_> = markdown.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(rows.len(), 7);
        assert!(rows.iter().all(|row| row.matches('|').count() == COLUMNS.len() + 2), "{markdown}");
    }

    #[test]
    fn json_has_every_round_and_the_spread() {
        let json = serde_json::to_value(report()).expect("a report");
        assert_eq!(json["tunnels"][1]["summary"]["tcp_mbps"]["max"], 7000.0);
        assert_eq!(json["tunnels"][1]["rounds"][2]["tcp_mbps"], 6000.0);
    }

    #[test]
    fn a_cpu_without_a_name_is_called_by_its_architecture() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n"), "Some CPU @ 2 GHz");
        assert_eq!(cpu_model("processor\t: 0\n"), std::env::consts::ARCH);
    }
}
