//! What is known of an end that is watched: how it was when it was asked last, and what has come and gone since the time before.

use std::collections::VecDeque;
use std::time::Duration;

use crate::control::{Event, Status, UplinkStatus};

/// How many rates are kept of each uplink: as many as the widest terminal shows.
const HISTORY_MAX: usize = 500;
/// How many events are kept.
const EVENTS_MAX: usize = 1_000;
/// The times between two questions that the keys choose from.
const INTERVALS_MS: [u64; 7] = [100, 200, 500, 1_000, 2_000, 5_000, 10_000];

/// What an end has answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Poll {
    /// All tunnels that are meant.
    pub(super) tunnels: Vec<Status>,
    /// What has happened since it was asked before.
    pub(super) events: Vec<Event>,
}

/// An end that is watched.
#[derive(Debug)]
pub(super) struct Watch {
    /// Its tunnels.
    pub(super) tunnels: Vec<Tunnel>,
    /// Which of them is shown.
    pub(super) selected: usize,
    /// How many uplinks have been scrolled away.
    pub(super) scrolled: usize,
    /// How long to wait before it is asked again.
    pub(super) interval: Duration,
    /// Whether it is not asked.
    pub(super) is_paused: bool,
    /// Why there was no answer, if there was none.
    pub(super) trouble: Option<String>,
    /// What has happened, oldest first.
    pub(super) events: VecDeque<Event>,
}

/// A tunnel of it.
#[derive(Clone, Debug)]
pub(super) struct Tunnel {
    /// How it is.
    pub(super) status: Status,
    /// What comes and goes.
    pub(super) rates: Option<Rates>,
    /// Of each uplink, in the order of the status.
    pub(super) flows: Vec<Flow>,
}

/// What comes and goes by a tunnel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rates {
    /// Mbit/s of frames from the TAP.
    pub(super) sent_mbps: f64,
    /// The same in frames a second.
    pub(super) sent_frames: f64,
    /// Mbit/s of frames for the TAP.
    pub(super) delivered_mbps: f64,
    /// The same in frames a second.
    pub(super) delivered_frames: f64,
    /// Frames a second that never came.
    pub(super) lost_frames: f64,
}

/// What comes and goes by an uplink.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Flow {
    /// Mbit/s of frames sent.
    pub(super) sent_mbps: Option<f64>,
    /// Mbit/s of frames received.
    pub(super) received_mbps: Option<f64>,
    /// Both together, newest first.
    pub(super) history: VecDeque<f64>,
}

impl Watch {
    /// One of which nothing is known yet.
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            tunnels: vec![],
            selected: 0,
            scrolled: 0,
            interval,
            is_paused: false,
            trouble: None,
            events: VecDeque::new(),
        }
    }

    /// Takes what was answered, or why nothing was. What was known stays for want of better.
    pub(super) fn take(&mut self, answer: Result<Poll, String>) {
        let poll = match answer {
            Ok(poll) => poll,
            Err(trouble) => {
                self.trouble = Some(trouble);
                return;
            }
        };
        self.trouble = None;
        let before = std::mem::take(&mut self.tunnels);
        let shown = before.get(self.selected).map(|tunnel| tunnel.status.tap.clone());
        self.tunnels = poll.tunnels.into_iter().map(|status| Tunnel::follow(&before, status)).collect();
        let place = self.tunnels.iter().position(|tunnel| Some(&tunnel.status.tap) == shown.as_ref());
        self.selected = place.unwrap_or(self.selected.min(self.tunnels.len().saturating_sub(1)));
        self.events.extend(poll.events);
        let too_many = self.events.len().saturating_sub(EVENTS_MAX);
        self.events.drain(..too_many);
    }

    /// The tunnel that is shown.
    pub(super) fn tunnel(&self) -> Option<&Tunnel> {
        self.tunnels.get(self.selected)
    }

    /// Shows the next tunnel, or that before.
    pub(super) fn turn(&mut self, is_forward: bool) {
        let count = self.tunnels.len().max(1);
        self.selected = (self.selected + if is_forward { 1 } else { count - 1 }) % count;
        self.scrolled = 0;
    }

    /// Scrolls the uplinks by one.
    pub(super) fn scroll(&mut self, is_down: bool) {
        let most = self.tunnel().map_or(0, |tunnel| tunnel.flows.len().saturating_sub(1));
        self.scrolled = if is_down { (self.scrolled + 1).min(most) } else { self.scrolled.saturating_sub(1) };
    }

    /// Asks less often, or more.
    pub(super) fn slow_down(&mut self, is_slower: bool) {
        let intervals = INTERVALS_MS.map(Duration::from_millis);
        let next = if is_slower {
            intervals.into_iter().find(|interval| *interval > self.interval)
        } else {
            intervals.into_iter().rev().find(|interval| *interval < self.interval)
        };
        self.interval = next.unwrap_or(self.interval);
    }
}

impl Tunnel {
    /// How a tunnel is now, with what has come and gone since `before`.
    fn follow(before: &[Self], status: Status) -> Self {
        let before =
            before.iter().find(|tunnel| tunnel.status.tap == status.tap && is_same_run(&tunnel.status, &status));
        let seconds = before.map_or(0.0, |before| status.process.uptime_s - before.status.process.uptime_s);
        let Some(before) = before.filter(|_| seconds > 0.0) else {
            let flows =
                status.uplinks.iter().map(|uplink| before.map(|tunnel| tunnel.flow_of(uplink)).unwrap_or_default());
            return Self { flows: flows.collect(), rates: before.and_then(|tunnel| tunnel.rates), status };
        };
        let flows = status.uplinks.iter().map(|uplink| before.flow_to(uplink, seconds)).collect();
        Self { rates: Some(rates(&before.status, &status, seconds)), flows, status }
    }

    fn place_of(&self, uplink: &UplinkStatus) -> Option<usize> {
        self.status.uplinks.iter().position(|other| (other.number, &other.name) == (uplink.number, &uplink.name))
    }

    fn flow_of(&self, uplink: &UplinkStatus) -> Flow {
        self.place_of(uplink).and_then(|place| self.flows.get(place)).cloned().unwrap_or_default()
    }

    /// What has come and gone by an uplink that is now so.
    fn flow_to(&self, uplink: &UplinkStatus, seconds: f64) -> Flow {
        let Some(before) = self.place_of(uplink).map(|place| &self.status.uplinks[place]) else {
            return Flow::default();
        };
        let sent = megabits(before.tx_bytes, uplink.tx_bytes) / seconds;
        let received = megabits(before.rx_bytes, uplink.rx_bytes) / seconds;
        let mut history = self.flow_of(uplink).history;
        history.push_front(sent + received);
        history.truncate(HISTORY_MAX);
        Flow { sent_mbps: Some(sent), received_mbps: Some(received), history }
    }
}

/// Whether counters go on where they were.
fn is_same_run(before: &Status, now: &Status) -> bool {
    before.process.pid == now.process.pid && before.process.uptime_s <= now.process.uptime_s
}

fn rates(before: &Status, now: &Status, seconds: f64) -> Rates {
    let more = |of: fn(&Status) -> u64| of(now).saturating_sub(of(before)) as f64 / seconds;
    Rates {
        sent_mbps: megabits(before.tx.bytes, now.tx.bytes) / seconds,
        sent_frames: more(|status| status.tx.packets),
        delivered_mbps: megabits(before.rx.delivered_bytes, now.rx.delivered_bytes) / seconds,
        delivered_frames: more(|status| status.rx.delivered),
        lost_frames: more(|status| status.rx.lost),
    }
}

/// What a counter of bytes has grown by, if it has.
fn megabits(before: u64, now: u64) -> f64 {
    now.saturating_sub(before) as f64 / 125_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::braidctl::sample;

    fn polled(tunnels: &[Status]) -> Result<Poll, String> {
        Ok(Poll { tunnels: tunnels.to_vec(), events: vec![] })
    }

    #[test]
    fn rates_are_what_has_come_since_by_the_clock_of_the_end() {
        let mut watch = Watch::new(Duration::from_secs(1));
        let first = sample::status("braid0", 2);
        watch.take(polled(std::slice::from_ref(&first)));
        assert_eq!(watch.tunnel().expect("a tunnel").rates, None);
        let second = sample::later(&first, 2.0, 8.0);
        watch.take(polled(std::slice::from_ref(&second)));
        let tunnel = watch.tunnel().expect("a tunnel");
        let rates = tunnel.rates.expect("rates");
        assert!((rates.sent_mbps - 16.0).abs() < 1e-6 && (rates.sent_frames - 1_600.0).abs() < 1e-6, "{rates:?}");
        assert!((rates.delivered_mbps - 4.0).abs() < 1e-6, "{rates:?}");
        assert_eq!((tunnel.flows[1].sent_mbps, tunnel.flows[1].received_mbps), (Some(8.0), Some(2.0)));
        assert_eq!(tunnel.flows[1].history, [10.0]);
        // The same answer once more tells nothing new.
        watch.take(polled(&[second]));
        assert_eq!(watch.tunnel().expect("a tunnel").rates, Some(rates));
        assert_eq!(watch.tunnel().expect("a tunnel").flows[1].history, [10.0]);
    }

    #[test]
    fn an_end_that_was_started_anew_begins_anew() {
        let mut watch = Watch::new(Duration::from_secs(1));
        let first = sample::status("braid0", 2);
        watch.take(polled(std::slice::from_ref(&first)));
        watch.take(polled(&[sample::later(&first, 1.0, 8.0)]));
        watch.take(Err("it is away".to_owned()));
        assert!(watch.trouble.is_some() && watch.tunnel().is_some());
        let mut anew = sample::later(&first, 2.0, 0.0);
        anew.process.pid += 1;
        watch.take(polled(&[anew]));
        assert_eq!(watch.trouble, None);
        assert_eq!(watch.tunnel().expect("a tunnel").rates, None);
        assert_eq!(watch.tunnel().expect("a tunnel").flows[0], Flow::default());
    }

    #[test]
    fn uplinks_that_come_and_go_keep_what_is_theirs() {
        let mut watch = Watch::new(Duration::from_secs(1));
        let mut now = sample::status("braid0", 3);
        watch.take(polled(std::slice::from_ref(&now)));
        now = sample::later(&now, 1.0, 4.0);
        watch.take(polled(std::slice::from_ref(&now)));
        now = sample::later(&now, 1.0, 12.0);
        now.uplinks.remove(0);
        now.uplinks[1].name = "new".to_owned();
        watch.take(polled(&[now]));
        let flows = &watch.tunnel().expect("a tunnel").flows;
        assert_eq!(flows[0].history, [15.0, 5.0]);
        assert_eq!(flows[1], Flow::default());
    }

    #[test]
    fn the_tunnel_that_is_shown_stays_shown() {
        let mut watch = Watch::new(Duration::from_secs(1));
        let [one, two, three] = ["van1", "van2", "van3"].map(|tap| sample::status(tap, 1));
        watch.turn(true);
        watch.take(polled(&[one.clone(), two.clone(), three.clone()]));
        watch.turn(false);
        assert_eq!(watch.tunnel().expect("a tunnel").status.tap, "van3");
        watch.take(polled(&[one.clone(), three]));
        assert_eq!(watch.tunnel().expect("a tunnel").status.tap, "van3");
        watch.take(polled(&[one, two]));
        assert_eq!(watch.tunnel().expect("a tunnel").status.tap, "van2");
        watch.take(polled(&[]));
        assert!(watch.tunnel().is_none());
        watch.scroll(true);
        watch.turn(false);
    }

    #[test]
    fn intervals_go_up_and_down_within_bounds() {
        let mut watch = Watch::new(Duration::from_millis(700));
        watch.slow_down(false);
        assert_eq!(watch.interval, Duration::from_millis(500));
        (0..20).for_each(|_| watch.slow_down(true));
        assert_eq!(watch.interval, Duration::from_secs(10));
        (0..20).for_each(|_| watch.slow_down(false));
        assert_eq!(watch.interval, Duration::from_millis(100));
    }
}
