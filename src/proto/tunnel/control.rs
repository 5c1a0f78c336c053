//! Control messages of a tunnel: what is said, and what follows from what is heard.

use std::time::Duration;

use super::peer::Verdict;
use super::{Arrival, CONTROLS_WAITING_MAX, ControlTransmit, Event, Frame, Payload, Role, State, Tunnel, Uplink};
use crate::proto::send::Terms;
use crate::proto::seq;
use crate::proto::stats::{DropReason, Traffic};
use crate::proto::time::{Instant, nanos};
use crate::proto::uplink::Limits;
use crate::proto::uplink::monitor::Echo;
use crate::proto::uplink::state::Reason;
use crate::proto::uplink::{UplinkId, UplinkName, UplinkSet};
use crate::proto::wire::control::{self, Head, Message, ProbeFlags, Report};
use crate::proto::wire::parity;

/// The gateway forgets an uplink's address after this long without a word from it.
const PATH_FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// What a probe says beside its head.
struct Probe {
    echo: Echo,
    next_in: Duration,
    weight: u8,
    name: UplinkName,
    flags: ProbeFlags,
}

impl<T: Payload, F: Frame> Tunnel<T, F> {
    pub(super) fn on_control(
        &mut self,
        now: Instant,
        arrival: Arrival,
        counter: u32,
        body: &[u8],
    ) -> Result<(), DropReason> {
        if parity::is_parity(body) {
            return self.on_parity(arrival, counter, body);
        }
        let (head, message) = control::parse(body)?;
        self.check_uplink(arrival, &head)?;
        self.meet_peer(now, &head, &message).inspect_err(|_| self.on_stranger(arrival))?;
        let uplink = head.uplink;
        if !self.uplinks[uplink.index()].admit_control(counter) {
            return Err(DropReason::ControlReplayed);
        }
        self.follow_path(now, uplink, arrival, &message)?;
        self.peer.on_heard(now);
        self.on_heard(now, uplink);
        self.on_head(now, &head);
        self.on_message(now, &head, message);
        self.evaluate_uplinks(now);
        self.pump(now);
        Ok(())
    }

    /// It does not say which start of the peer has made it, nor by which uplink it was sent: it is no sign of life, and its
    /// number says nothing of the uplink's other messages. See [`Tunnel::on_frame`].
    fn on_parity(&mut self, arrival: Arrival, counter: u32, body: &[u8]) -> Result<(), DropReason> {
        let uplink = self.uplink_of(arrival).ok_or(DropReason::UnknownSource)?;
        if !self.uplinks[uplink.index()].is_of_peer() {
            return Err(DropReason::UnknownSource);
        }
        let (head, parity) = parity::parse(body)?;
        self.receiver.on_parity(uplink, counter, head, parity)?;
        self.uplinks[uplink.index()].received.add(body.len());
        Ok(())
    }

    /// At the box an uplink's number must be that of the socket: the box gave it.
    fn check_uplink(&self, arrival: Arrival, head: &Head) -> Result<(), DropReason> {
        match arrival {
            Arrival::Uplink(uplink) if uplink != head.uplink => Err(DropReason::ControlMalformed),
            _ => Ok(()),
        }
    }

    /// Not the peer, but a start before it or after it, has spoken by a way that was the peer's.
    fn on_stranger(&mut self, arrival: Arrival) {
        if let Some(uplink) = self.uplink_of(arrival) {
            self.uplinks[uplink.index()].on_stranger();
        }
    }

    /// Finds out whether the sender is the peer, and if it is a new one, begins anew with it.
    fn meet_peer(&mut self, now: Instant, head: &Head, message: &Message) -> Result<(), DropReason> {
        let verdict = self.peer.judge(now, head.epoch);
        // A new peer shows itself by a probe, or by an answer to one of ours.
        let introduces = match message {
            Message::Probe { .. } => true,
            Message::Reply { .. } => head.peer_epoch == self.peer.own(),
            Message::Report(_)
            | Message::Bye
            | Message::Feedback(_)
            | Message::Sounding { .. }
            | Message::Sounded { .. } => false,
        };
        match verdict {
            Verdict::Known => return Ok(()),
            Verdict::First | Verdict::Replacement if introduces => {}
            _ => return Err(DropReason::StaleEpoch),
        }
        if verdict == Verdict::Replacement {
            self.forget_peer(now, Reason::PeerRestarted);
            self.push_event(Event::PeerRestarted);
        } else {
            self.push_event(Event::PeerFound);
        }
        // Frames that came before the peer had said where it begins are of unknown order.
        self.receiver.restart(now);
        self.peer.adopt(now, head.epoch);
        self.probe_clock.hurry(now);
        Ok(())
    }

    fn forget_peer(&mut self, now: Instant, reason: Reason) {
        self.peer.retire();
        self.peer_mtu = None;
        self.peer_word_at = 0;
        for uplink in UplinkId::all() {
            let transition = self.uplinks[uplink.index()].forget_peer(now, reason);
            self.on_transition(uplink, transition);
            if self.role == Role::Gateway {
                self.paths[uplink.index()] = None;
                self.uplinks[uplink.index()].detach(now, reason);
            }
        }
        self.refresh_heard(now);
        self.receiver.restart(now);
        self.on_peer_mode(ProbeFlags::default());
        if let Some(sender) = self.outbound.adaptive() {
            sender.forget_peer();
        }
        self.refresh_scheduler(now);
    }

    /// At the gateway: learns where an uplink is from the box's probes, and follows it.
    fn follow_path(
        &mut self,
        now: Instant,
        uplink: UplinkId,
        arrival: Arrival,
        message: &Message,
    ) -> Result<(), DropReason> {
        let Arrival::Path(path) = arrival else { return Ok(()) };
        let known = self.paths[uplink.index()];
        if known == Some(path) {
            return Ok(());
        }
        if !matches!(message, Message::Probe { .. }) {
            return Err(DropReason::UnknownSource);
        }
        self.paths[uplink.index()] = Some(path);
        self.note_moved(now, uplink, known.map(|known| known.remote), path.remote);
        self.attach(uplink);
        self.probe_clock.hurry(now);
        self.push_event(Event::Moved { uplink, from: known, to: path });
        self.refresh_scheduler(now);
        Ok(())
    }

    fn on_head(&mut self, now: Instant, head: &Head) {
        if self.receiver.on_announcement(now, head.uplink, head.next_sequence) {
            self.push_event(Event::Resynchronised(head.uplink));
        }
        if self.peer_mtu.replace(head.tap_mtu) != Some(head.tap_mtu) {
            self.push_event(Event::PeerMtu(head.tap_mtu));
            self.sizes.allowed_by_peer = head.tap_mtu;
            self.follow_sizes(now);
        }
        let is_newest_word = head.sent_at >= self.peer_word_at;
        if is_newest_word && head.peer_epoch == self.peer.own() {
            self.peer_word_at = head.sent_at;
            for uplink in self.known.iter() {
                self.uplinks[uplink.index()].on_peer_hears(now, head.heard.contains(uplink));
            }
        }
    }

    fn on_message(&mut self, now: Instant, head: &Head, message: Message) {
        let uplink = head.uplink;
        match message {
            Message::Probe { next_in_micros, sent_packets, weight, name, flags, used } => {
                if head.sent_at >= self.peer_word_at {
                    self.on_uplinks_in_use(now, used);
                }
                let echo = Echo { sent_at: head.sent_at, sent_packets };
                let next_in = Duration::from_micros(next_in_micros.into());
                self.on_probe(now, uplink, &Probe { echo, next_in, weight, name, flags });
            }
            Message::Reply { echo_sent_at, echo_sent_packets, received, seen } => {
                self.note_seen(uplink, seen);
                self.on_reply(now, uplink, echo_sent_at, echo_sent_packets, received);
                self.on_probe_answered(now, head, echo_sent_at);
            }
            Message::Report(report) => self.on_report(now, &report),
            Message::Bye => self.on_bye(now),
            Message::Feedback(feedback) => self.on_feedback(now, head.sent_at, &feedback),
            Message::Sounding { length } => {
                self.say(now, uplink, &Message::Sounded { echo_sent_at: head.sent_at, length });
            }
            Message::Sounded { echo_sent_at, length } => self.on_sounded(now, uplink, echo_sent_at, length),
        }
    }

    fn on_probe(&mut self, now: Instant, uplink: UplinkId, probe: &Probe) {
        let of_uplink = &mut self.uplinks[uplink.index()];
        of_uplink.on_probe(now, probe.echo, probe.next_in);
        self.on_peer_mode(probe.flags);
        let of_uplink = &mut self.uplinks[uplink.index()];
        if self.role == Role::Gateway {
            self.probe_clock.join(now);
        }
        if self.role == Role::Gateway && (of_uplink.name, of_uplink.weight) != (probe.name, probe.weight) {
            of_uplink.name = probe.name;
            of_uplink.weight = probe.weight;
            self.refresh_scheduler(now);
        }
        let received = self.uplinks[uplink.index()].received;
        if self.role == Role::Gateway {
            let limits = Limits { rate_max: None, is_metered: probe.flags.is_metered };
            self.outbound.set_terms(uplink, Terms { limits, weight: probe.weight });
            self.set_spent(now, uplink, probe.flags.is_spent);
        }
        let reply = Message::Reply {
            echo_sent_at: probe.echo.sent_at,
            echo_sent_packets: probe.echo.sent_packets,
            received,
            seen: self.path(uplink).map(|path| path.remote).filter(|_| probe.flags.asks_address),
        };
        self.say(now, uplink, &reply);
    }

    fn on_reply(&mut self, now: Instant, uplink: UplinkId, echo_sent_at: u64, sent_packets: u64, received: Traffic) {
        let probe_sent_at = Instant::from_nanos(echo_sent_at);
        let of_uplink = &mut self.uplinks[uplink.index()];
        // An echo from the future is none of ours.
        if probe_sent_at <= now {
            let received = at_most(received, of_uplink.sent);
            of_uplink.on_reply(now, probe_sent_at, sent_packets, received);
            self.note_counts(now, uplink, probe_sent_at, (sent_packets, received));
        }
    }

    fn on_report(&mut self, now: Instant, report: &Report) {
        for uplink in UplinkId::all() {
            if let Some(received) = report.get(uplink) {
                let of_uplink = &mut self.uplinks[uplink.index()];
                of_uplink.measurements.on_delivered(now, at_most(received, of_uplink.sent));
            }
        }
    }

    fn on_bye(&mut self, now: Instant) {
        self.forget_peer(now, Reason::PeerLeft);
        self.push_event(Event::PeerLeft);
    }

    /// Finds out on which uplinks the peer is heard, and if that has changed, says so at once.
    pub(super) fn refresh_heard(&mut self, now: Instant) {
        let heard = self.known_that(|uplink| uplink.is_heard(now));
        if heard == self.heard {
            return;
        }
        let gone_silent = self.heard.without(heard);
        self.heard = heard;
        self.receiver.set_live(now, heard);
        if self.peer.is_known() && !gone_silent.is_empty() {
            self.report_all(now);
        }
    }

    /// Probes every uplink that can be probed.
    pub(super) fn probe_all(&mut self, now: Instant) {
        self.probe_clock.beat(now);
        let spared = if self.probe_clock.beats_for_spared(now) { UplinkSet::EMPTY } else { self.spared };
        let used = self.named().without(self.leaving);
        let wants_feedback = self.is_adaptive();
        let (recovers, protects) = self.announce_recovery(now);
        for uplink in self.attached().without(spared).iter() {
            let (next_in, _) = self.pace(uplink);
            let next_in_micros = u32::try_from(nanos(next_in) / 1000).unwrap_or(u32::MAX);
            let Uplink { sent, weight, name, .. } = self.uplinks[uplink.index()];
            let sent_packets = sent.packets;
            // Only the box knows what its uplinks cost.
            let is_box = self.role == Role::Box;
            let is_metered = is_box && self.outbound.is_metered(uplink);
            let is_spent = is_box && self.spent.contains(uplink);
            let asks_address = self.asks_address(now, uplink);
            let flags = ProbeFlags { wants_feedback, recovers, is_metered, protects, is_spent, asks_address };
            let probe = Message::Probe { next_in_micros, sent_packets, weight, name, flags, used };
            self.say(now, uplink, &probe);
            self.note_probe_sent(now, uplink);
        }
        // Round-trip times have moved on, which active-backup may want to know.
        self.refresh_scheduler(now);
    }

    /// At the gateway: an uplink that has long been silent may be anyone's address by now.
    pub(super) fn forget_silent_paths(&mut self, now: Instant) {
        if self.role == Role::Box {
            return;
        }
        self.forget_left_uplinks(now);
        for uplink in self.attached().iter() {
            let of_uplink = &mut self.uplinks[uplink.index()];
            if of_uplink.state() == State::Down && of_uplink.is_silent_for(now, PATH_FORGOTTEN_AFTER) {
                of_uplink.detach(now, Reason::Silence(PATH_FORGOTTEN_AFTER));
                self.paths[uplink.index()] = None;
            }
        }
    }

    pub(super) fn say_bye(&mut self, now: Instant) {
        for uplink in self.attached().iter() {
            self.say(now, uplink, &Message::Bye);
        }
    }

    fn report_all(&mut self, now: Instant) {
        let mut report = Report::default();
        for uplink in self.attached().iter() {
            report.set(uplink, self.uplinks[uplink.index()].received);
        }
        for uplink in self.attached().iter() {
            self.say(now, uplink, &Message::Report(report));
        }
    }

    pub(super) fn say(&mut self, now: Instant, uplink: UplinkId, message: &Message) {
        if self.controls.len() == CONTROLS_WAITING_MAX {
            self.drops.add(DropReason::NoBuffer);
            return;
        }
        let head = self.head(now, uplink);
        let counter = self.next_control;
        self.next_control += 1;
        self.controls.push_back(ControlTransmit { uplink, counter, message: control::emit(&head, message) });
    }

    pub(super) fn head(&self, sent_at: Instant, uplink: UplinkId) -> Head {
        Head {
            uplink,
            epoch: self.peer.own(),
            peer_epoch: self.peer.current(),
            sent_at: sent_at.as_nanos(),
            next_sequence: seq::truncate(self.next_sequence),
            // The peer is to send nothing by an uplink that is to be used no more.
            heard: self.heard.without(self.leaving),
            tap_mtu: self.sizes.allowed(),
        }
    }
}

/// What the peer has received of what was sent: not more, whatever somebody has sent again as if by this uplink.
fn at_most(received: Traffic, sent: Traffic) -> Traffic {
    Traffic { packets: received.packets.min(sent.packets), bytes: received.bytes.min(sent.bytes) }
}
