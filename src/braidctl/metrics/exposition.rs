//! All numbers of an end, in the text format of Prometheus.

use std::collections::BTreeMap;

use prometheus::TextEncoder;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::distribution;
use super::figures::{Figure, PROCESS, TUNNEL, UPLINK};
use crate::braidctl::histogram::Recorded;
use crate::control::{Status, UplinkStatus};

/// What an uplink may be, each of which is 1 while it is so, and 0 otherwise.
const STATES: [&str; 4] = ["up", "suspect", "down", "probation"];

/// Labels, each with its value.
pub(super) type Labels<'a> = Vec<(&'a str, &'a str)>;

/// All that is told of tunnels of one process.
///
/// # Errors
/// That it cannot be told so.
pub(super) fn exposition(tunnels: &[Status], histograms: &[Recorded]) -> Result<String, String> {
    let boxes: BTreeMap<&str, &str> =
        tunnels.iter().filter_map(|tunnel| Some((&*tunnel.tap, tunnel.name.as_deref()?))).collect();
    let mut families = of_process(tunnels);
    families.extend(TUNNEL.iter().map(|figure| family(figure, tunnels.iter().map(|tunnel| (labels(tunnel), tunnel)))));
    families.extend([tunnel_info(tunnels), drops(tunnels)]);
    families.extend(UPLINK.iter().map(|figure| family(figure, uplinks(tunnels))));
    families.extend([uplink_info(tunnels), states(tunnels)]);
    families.extend(distribution::families(histograms, &boxes));
    // What nothing is said of is not named, either.
    families.retain(|family| !family.get_metric().is_empty());
    TextEncoder::new().encode_to_string(&families).map_err(|error| format!("the metrics cannot be written: {error}"))
}

/// What all tunnels have in common is told once.
fn of_process(tunnels: &[Status]) -> Vec<MetricFamily> {
    let Some(process) = tunnels.first().map(|tunnel| &tunnel.process) else { return vec![] };
    let mut families: Vec<MetricFamily> = PROCESS.iter().map(|figure| family(figure, [(vec![], process)])).collect();
    let mut labels = vec![("program", &*process.program), ("version", &*process.version)];
    labels.extend(process.public_key.as_deref().map(|key| ("public_key", key)));
    families.push(new_family(
        "braid_info",
        "What program of what version runs, with what public key.",
        MetricType::GAUGE,
    ));
    families.last_mut().into_iter().for_each(|family| push(family, &labels, 1.0));
    families
}

/// Of each tunnel, what is a word.
fn tunnel_info(tunnels: &[Status]) -> MetricFamily {
    let help = "How the tunnel sends, how long it was told to hold frames, and what seals them.";
    let mut family = new_family("braid_tunnel_info", help, MetricType::GAUGE);
    for tunnel in tunnels {
        let cipher = tunnel.peer.cipher.as_deref().unwrap_or("none");
        let words = [("mode", &*tunnel.mode), ("window", &*tunnel.window), ("cipher", cipher)];
        push(&mut family, &[labels(tunnel), words.to_vec()].concat(), 1.0);
    }
    family
}

fn drops(tunnels: &[Status]) -> MetricFamily {
    let help = "Packets that went no further, by reason; those that never did are left out.";
    let mut family = new_family("braid_dropped_packets_total", help, MetricType::COUNTER);
    for tunnel in tunnels {
        for (reason, count) in &tunnel.drops {
            push(&mut family, &[labels(tunnel), vec![("reason", reason)]].concat(), *count as f64);
        }
    }
    family
}

/// Of each uplink, what is a word.
fn uplink_info(tunnels: &[Status]) -> MetricFamily {
    let help = "By what interface and between what addresses an uplink goes.";
    let mut family = new_family("braid_uplink_info", help, MetricType::GAUGE);
    for (mut labels, uplink) in uplinks(tunnels) {
        let words = [
            ("device", &uplink.device),
            ("local", &uplink.local),
            ("remote", &uplink.remote),
            ("seen_as", &uplink.seen_as),
        ];
        labels.extend(words.into_iter().filter_map(|(name, word)| Some((name, word.as_deref()?))));
        push(&mut family, &labels, 1.0);
    }
    family
}

fn states(tunnels: &[Status]) -> MetricFamily {
    let help = "1 for the state that the uplink is in, 0 for the others.";
    let mut family = new_family("braid_uplink_state", help, MetricType::GAUGE);
    for (labels, uplink) in uplinks(tunnels) {
        for state in STATES {
            let is_so = f64::from(u8::from(uplink.state == state));
            push(&mut family, &[labels.clone(), vec![("state", state)]].concat(), is_so);
        }
    }
    family
}

fn labels(tunnel: &Status) -> Labels<'_> {
    let name = tunnel.name.as_deref().map(|name| ("box", name));
    [("tap", &*tunnel.tap)].into_iter().chain(name).collect()
}

fn uplinks(tunnels: &[Status]) -> impl Iterator<Item = (Labels<'_>, &UplinkStatus)> {
    tunnels.iter().flat_map(|tunnel| {
        tunnel.uplinks.iter().map(move |uplink| {
            let mut labels = labels(tunnel);
            labels.push(("uplink", &uplink.name));
            (labels, uplink)
        })
    })
}

fn family<'a, T: 'a>(figure: &Figure<T>, all: impl IntoIterator<Item = (Labels<'a>, &'a T)>) -> MetricFamily {
    let mut family = new_family(figure.name, figure.help, figure.kind);
    for (labels, one) in all {
        if let Some(value) = (figure.of)(one) {
            push(&mut family, &labels, value);
        }
    }
    family
}

/// One without values.
pub(super) fn new_family(name: &str, help: &str, kind: MetricType) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family
}

/// Adds a value to a family of gauges or counters.
fn push(family: &mut MetricFamily, labels: &[(&str, &str)], value: f64) {
    let mut metric = labelled(labels);
    if family.get_field_type() == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    family.mut_metric().push(metric);
}

/// A metric of which only the labels are there.
pub(super) fn labelled(labels: &[(&str, &str)]) -> Metric {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    Metric::from_label(labels.iter().map(pair).collect())
}
