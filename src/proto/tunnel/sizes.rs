//! How long the datagrams may be that go by each uplink, and what follows for frames and for the TAP.
//!
//! A frame that is too long for an uplink goes by another that carries it, in every mode, and is dropped if there is none.
//! The TAP's MTU follows at once to what all uplinks carry that are up, so that frames in flight are the last ones that are too
//! long; and back when that has held for half a minute. Left out are uplinks whose data budget is spent, and those that do not
//! even carry [`PACKET_BASE`] while another does: they have what is short enough, and the TAP keeps a size that is worth
//! having. One whose limit is being sought does not count either for as long as another carries what is offered: it is
//! known within a second or so, and then the TAP goes to its size in one step.
//!
//! Each end looks after the frames that it sends, and tells the other the largest MTU that it can bear.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Event, Frame, Outbound, Payload, Role, SoundingTransmit, State, Tunnel};
use crate::proto::scheduler::standing::Standing;
use crate::proto::stats::{DropReason, Traffic};
use crate::proto::time::Instant;
use crate::proto::uplink::path_mtu::{Bounds, PACKET_BASE, PathMtu, TAP_MTU_MIN};
use crate::proto::uplink::{UPLINKS_MAX, UplinkId, UplinkSet};
use crate::proto::wire::control::{ParityBytes, SEAL_LENGTH, SOUNDING_LENGTH_MIN};
use crate::proto::wire::{CONTROL_CHECKSUM_LENGTH, FRAME_HEADER_LENGTH, FRAME_LENGTH_MIN, KEYED_HEADER_LENGTH};

/// Bytes of IPv4 and UDP header, and of IPv6 and UDP header.
const HEADERS_IPV4: u16 = 20 + 8;
const HEADERS_IPV6: u16 = 40 + 8;
/// An answer may come so much later than it should, as the round trips before it say.
const PATIENCE_MIN: Duration = Duration::from_millis(20);
/// Variation allowed for, in units of what is measured, and at most.
const VARIATIONS: u32 = 4;
const VARIATION_MAX: Duration = Duration::from_millis(300);
/// As long as no round trip has been measured.
const ANSWER_UNKNOWN: Duration = Duration::from_millis(500);
/// A larger MTU has to be good for so long before the TAP has it.
const RISES_AFTER: Duration = Duration::from_secs(30);
/// What the TAP's MTU has fallen to so short a while ago was a guess.
const GUESSED_FOR: Duration = Duration::from_secs(5);
/// How often the gateway is asked where it sees datagrams come from.
const ADDRESS_ASKED_EVERY: Duration = Duration::from_secs(2);
/// Soundings that wait to be sent; a caller that drains as it should needs a pair for each uplink.
const SOUNDINGS_WAITING_MAX: usize = 2 * UPLINKS_MAX;

/// A sounding to send.
#[derive(Clone, Copy, Debug)]
struct Sounding {
    uplink: UplinkId,
    /// Of the message.
    length: u16,
    sent_at: Instant,
}

/// What is known of all uplinks.
#[derive(Debug)]
pub(super) struct Sizes {
    of: [PathMtu; UPLINKS_MAX],
    /// The uplinks that are looked at, since they can be used, and those whose way has become another one.
    started: UplinkSet,
    renewed: UplinkSet,
    is_sealed: bool,
    /// The largest MTU that the TAP can ever have.
    bound: u16,
    /// The longest frame that each uplink carries, and the least of these.
    frame_max: [u32; UPLINKS_MAX],
    frame_max_least: u32,
    /// The limits that have been told, in bytes of IP packet: not each step of a search.
    said: [Option<u16>; UPLINKS_MAX],
    waiting: VecDeque<Sounding>,
    /// Pairs of soundings made.
    made: u64,
    room: ParityBytes,
    /// The MTU that the uplinks allow, as far as the TAP follows it, and since when.
    allowed: u16,
    allowed_since: Instant,
    /// The same at the other end, as it has told last.
    pub allowed_by_peer: u16,
    /// Since when they have allowed more, and how much at least.
    rise: Option<(Instant, u16)>,
    /// The MTU that the TAP should have, as it was last told.
    told: u16,
    /// The addresses that the gateway sees the uplinks' datagrams come from.
    seen: [Option<SocketAddr>; UPLINKS_MAX],
    /// When it was last asked for each.
    asked_at: [Option<Instant>; UPLINKS_MAX],
}

impl Sizes {
    pub fn new(bound: u16) -> Self {
        let bounds = bounds(bound, false, HEADERS_IPV4);
        Self {
            of: [PathMtu::new(bounds); UPLINKS_MAX],
            started: UplinkSet::EMPTY,
            renewed: UplinkSet::EMPTY,
            is_sealed: false,
            bound,
            frame_max: [u32::MAX; UPLINKS_MAX],
            frame_max_least: u32::MAX,
            said: [None; UPLINKS_MAX],
            waiting: VecDeque::with_capacity(SOUNDINGS_WAITING_MAX),
            made: 0,
            room: ParityBytes::room_for((usize::from(bound) + FRAME_LENGTH_MIN).max(SOUNDING_LENGTH_MIN)),
            allowed: bound,
            allowed_since: Instant::ZERO,
            allowed_by_peer: u16::MAX,
            rise: None,
            told: bound,
            seen: [None; UPLINKS_MAX],
            asked_at: [None; UPLINKS_MAX],
        }
    }

    pub fn expect_sealed(&mut self) {
        self.is_sealed = true;
        for of in &mut self.of {
            of.set_bounds(Instant::ZERO, bounds(self.bound, true, of.bounds().header));
        }
    }

    /// The largest MTU that the TAP can ever have.
    pub const fn bound(&self) -> u16 {
        self.bound
    }

    /// The longest frame that an uplink is known to carry.
    pub const fn frame_max(&self, uplink: UplinkId) -> u32 {
        self.frame_max[uplink.index()]
    }

    /// The largest MTU that this end can bear now.
    pub const fn allowed(&self) -> u16 {
        self.allowed
    }

    /// An uplink's datagrams go another way from now on, with so many bytes of IP and UDP header.
    pub fn renew(&mut self, now: Instant, uplink: UplinkId, header: u16) {
        self.of[uplink.index()].set_bounds(now, bounds(self.bound, self.is_sealed, header));
        self.renewed.insert(uplink);
        self.seen[uplink.index()] = None;
    }

    /// Bytes of a datagram beside the frame that it carries.
    const fn beside_frame(&self) -> u16 {
        beside_frame(self.is_sealed)
    }

    /// Bytes of a datagram beside the control message that it carries.
    const fn beside_message(&self) -> u16 {
        (KEYED_HEADER_LENGTH + if self.is_sealed { SEAL_LENGTH } else { CONTROL_CHECKSUM_LENGTH }) as u16
    }

    /// The uplinks that do not carry a frame of this length.
    #[inline]
    pub fn too_narrow_for(&self, length: usize) -> UplinkSet {
        if length as u64 <= u64::from(self.frame_max_least) {
            return UplinkSet::EMPTY;
        }
        UplinkId::all().filter(|uplink| u64::from(self.frame_max[uplink.index()]) < length as u64).collect()
    }

    /// A frame of this length has been sent by these uplinks.
    #[inline]
    pub fn on_sent(&mut self, uplinks: UplinkSet, length: usize) {
        let datagram = (length as u16).saturating_add(self.beside_frame());
        uplinks.iter().for_each(|uplink| self.of[uplink.index()].on_sent(datagram));
    }

    fn push(&mut self, sounding: Sounding) {
        if self.waiting.len() < SOUNDINGS_WAITING_MAX {
            self.waiting.push_back(sounding);
        }
    }
}

const fn beside_frame(is_sealed: bool) -> u16 {
    (if is_sealed { KEYED_HEADER_LENGTH + SEAL_LENGTH } else { FRAME_HEADER_LENGTH }) as u16
}

/// Between which lengths an uplink's limit is sought, for a TAP of this MTU.
fn bounds(mtu: u16, is_sealed: bool, header: u16) -> Bounds {
    let datagram = |mtu: u16| mtu.saturating_add(FRAME_LENGTH_MIN as u16 + beside_frame(is_sealed));
    Bounds { header, floor: datagram(mtu.min(TAP_MTU_MIN)), wanted: datagram(mtu) }
}

impl<T: Payload, F: Frame> Tunnel<T, F> {
    /// The longest IP packet that the path of an uplink is known to carry from this end, in bytes with all headers.
    #[must_use]
    pub fn path_mtu(&self, uplink: UplinkId) -> Option<u16> {
        let of = &self.sizes.of[uplink.index()];
        of.known().map(|datagram| datagram + of.bounds().header)
    }

    /// The address that the gateway sees an uplink's datagrams come from (at the box).
    #[must_use]
    pub const fn seen_as(&self, uplink: UplinkId) -> Option<SocketAddr> {
        self.sizes.seen[uplink.index()]
    }

    /// How many pairs of soundings have been sent to find out what the uplinks carry.
    #[must_use]
    pub const fn soundings(&self) -> u64 {
        self.sizes.made
    }

    /// The TAP's MTU, in bytes.
    #[must_use]
    pub const fn tap_mtu(&self) -> u16 {
        self.tap_mtu
    }

    /// The MTU that the TAP should have if it may change: what both ends can bear.
    #[must_use]
    pub fn tap_mtu_allowed(&self) -> u16 {
        // One that has left may come back, and has had its reasons.
        self.sizes.allowed.min(self.sizes.allowed_by_peer.max(TAP_MTU_MIN))
    }

    /// The uplinks by which no frame of this length can go.
    #[must_use]
    pub fn too_narrow_for(&self, length: usize) -> UplinkSet {
        self.sizes.too_narrow_for(length)
    }

    /// An uplink's socket is another one, or goes to another address, so that nothing is known of its path (at the box).
    pub fn handle_new_path(&mut self, now: Instant, uplink: UplinkId, remote: SocketAddr) {
        self.sizes.renew(now, uplink, headers_towards(remote));
        self.follow_sizes(now);
    }

    /// The kernel has refused to send a datagram of this length by an uplink for its length (EMSGSIZE), `count` times. Counts
    /// what was dropped, but soundings.
    pub fn handle_too_long(&mut self, now: Instant, uplink: UplinkId, length: usize, count: usize) {
        let length = u16::try_from(length).unwrap_or(u16::MAX);
        if !self.sizes.of[uplink.index()].on_refused(now, length) {
            self.drops.add_many(DropReason::PathMtu, count as u64);
        }
        self.sound(now);
        self.follow_sizes(now);
    }

    /// The uplinks for a frame that is too long for those that are `narrow`, in the modes that send at once.
    pub(super) fn schedule_past(&mut self, narrow: UplinkSet) -> Result<UplinkSet, DropReason> {
        let scheduled = match &mut self.outbound {
            Outbound::AtOnce(scheduler) => scheduler.schedule_past(narrow),
            Outbound::Adaptive(_) => UplinkSet::EMPTY,
        };
        if !scheduled.is_empty() {
            return Ok(scheduled);
        }
        let standing = Standing::of(&self.uplinks, self.in_use());
        if standing.any.is_empty() {
            return Err(DropReason::NoUplink);
        }
        let candidates = [standing.sparing(self.spent).best, standing.best, standing.any];
        let wide = candidates.into_iter().map(|uplinks| uplinks.without(narrow)).find(|uplinks| !uplinks.is_empty());
        let best = wide.and_then(|wide| wide.iter().min_by_key(|uplink| standing.round_trip(*uplink)));
        best.map(UplinkSet::only).ok_or(DropReason::PathMtu)
    }

    /// Tries what lengths are due to be tried.
    pub(super) fn sound(&mut self, now: Instant) {
        let is_known = self.peer.is_known();
        let is_usable = |state: State| matches!(state, State::Up | State::Suspect);
        let usable = self.known_that(|uplink| is_known && uplink.is_attached() && is_usable(uplink.state()));
        for uplink in self.sizes.started.without(usable).iter() {
            self.sizes.of[uplink.index()].stop();
        }
        let begun = usable.without(self.sizes.started.without(self.sizes.renewed));
        for uplink in begun.iter() {
            let is_new = self.sizes.renewed.contains(uplink);
            self.sizes.of[uplink.index()].start(now, is_new);
        }
        self.sizes.renewed = self.sizes.renewed.without(usable);
        self.sizes.started = usable;
        for uplink in usable.iter() {
            let patience = self.answers_within(uplink);
            while let Some(datagram) = self.sizes.of[uplink.index()].poll(now, patience) {
                self.sizes.made += 1;
                let length = datagram.saturating_sub(self.sizes.beside_message()).max(SOUNDING_LENGTH_MIN as u16);
                self.sizes.push(Sounding { uplink, length, sent_at: now });
                self.sizes.push(Sounding { uplink, length: SOUNDING_LENGTH_MIN as u16, sent_at: now });
            }
        }
    }

    fn answers_within(&self, uplink: UplinkId) -> Duration {
        let round_trip = self.uplinks[uplink.index()].measurements.round_trip();
        round_trip.map_or(ANSWER_UNKNOWN, |round_trip| {
            round_trip.smoothed + (round_trip.variation * VARIATIONS).min(VARIATION_MAX) + PATIENCE_MIN
        })
    }

    /// When [`Self::sound`] has something to do next.
    pub(super) fn next_sounding(&self) -> Option<Instant> {
        let next = |uplink: UplinkId| self.sizes.of[uplink.index()].next_timeout(self.answers_within(uplink));
        self.sizes.started.iter().filter_map(next).min()
    }

    /// The next sounding to send: a control message that may be as long as a frame.
    pub fn poll_sounding(&mut self) -> Option<SoundingTransmit<'_>> {
        let Sounding { uplink, length, sent_at } = self.sizes.waiting.pop_front()?;
        let head = self.head(sent_at, uplink);
        let counter = self.next_control;
        self.next_control += 1;
        self.sizes.room.put_sounding(&head, length);
        Some(SoundingTransmit { uplink, counter, message: &mut self.sizes.room })
    }

    /// A sounding has come through.
    pub(super) fn on_sounded(&mut self, now: Instant, uplink: UplinkId, echo_sent_at: u64, length: u16) {
        let sent_at = Instant::from_nanos(echo_sent_at);
        // An echo from the future is none of ours.
        if sent_at > now {
            return;
        }
        let is_small = usize::from(length) <= SOUNDING_LENGTH_MIN;
        let datagram = length.saturating_add(self.sizes.beside_message());
        self.sizes.of[uplink.index()].on_answered(now, sent_at, datagram, is_small);
        self.sound(now);
        self.follow_sizes(now);
    }

    /// A probe has been sent by an uplink.
    pub(super) fn note_probe_sent(&mut self, now: Instant, uplink: UplinkId) {
        self.sizes.of[uplink.index()].on_small_sent(now);
    }

    /// A probe sent at `sent_at`, after `sent_packets` frames, has been answered: the peer had received this.
    pub(super) fn note_counts(
        &mut self,
        now: Instant,
        uplink: UplinkId,
        sent_at: Instant,
        (sent_packets, received): (u64, Traffic),
    ) {
        let beside_frame = self.sizes.beside_frame();
        let of = &mut self.sizes.of[uplink.index()];
        of.on_small_answered(sent_at);
        of.on_counted(now, sent_packets, received, beside_frame);
        self.sound(now);
    }

    /// The peer has reported what has come of our frames, in the mode `adaptive`.
    pub(super) fn note_reported(&mut self, now: Instant) {
        let beside_frame = self.sizes.beside_frame();
        let Some(sender) = self.outbound.adaptive() else { return };
        let mut has_lost = false;
        for uplink in self.sizes.started.iter() {
            let fate = sender.take_fate(uplink);
            let of = &mut self.sizes.of[uplink.index()];
            if fate.carried > 0 {
                of.on_carried(now, (fate.carried as u16).saturating_add(beside_frame));
            }
            if fate.lost > 0 {
                of.on_lost(now);
                has_lost = true;
            }
        }
        if has_lost {
            self.sound(now);
        }
    }

    /// What the uplinks carry may have changed: has frames and the TAP follow.
    pub(super) fn follow_sizes(&mut self, now: Instant) {
        let beside_frame = u32::from(self.sizes.beside_frame());
        for uplink in self.known.iter() {
            let limit = self.sizes.of[uplink.index()].limit();
            let frame_max = limit.map_or(u32::MAX, |datagram| u32::from(datagram) - beside_frame);
            if std::mem::replace(&mut self.sizes.frame_max[uplink.index()], frame_max) != frame_max {
                self.sizes.frame_max_least = self.sizes.frame_max.iter().copied().min().unwrap_or(u32::MAX);
                if let Some(sender) = self.outbound.adaptive() {
                    sender.set_frame_max(uplink, frame_max);
                }
            }
            let of = &self.sizes.of[uplink.index()];
            let packet = limit.map(|datagram| datagram + of.bounds().header);
            if !of.is_searching(now) && std::mem::replace(&mut self.sizes.said[uplink.index()], packet) != packet {
                self.push_event(Event::PathMtu { uplink, limit: packet });
            }
        }
        self.follow_allowed(now);
        let wanted = self.tap_mtu_allowed();
        if std::mem::replace(&mut self.sizes.told, wanted) != wanted {
            self.push_event(Event::TapMtu(wanted));
        }
    }

    fn follow_allowed(&mut self, now: Instant) {
        let Some((carried, is_certain)) = self.carried_by_all(now) else { return };
        let sizes = &mut self.sizes;
        if carried <= sizes.allowed {
            sizes.rise = None;
            if carried < sizes.allowed {
                (sizes.allowed, sizes.allowed_since) = (carried, now);
            }
            return;
        }
        let (since, least) = sizes.rise.unwrap_or((now, carried));
        let least = least.min(carried);
        sizes.rise = Some((since, least));
        let was_guessed = is_certain && now < sizes.allowed_since + GUESSED_FOR;
        if was_guessed || now >= since + RISES_AFTER {
            (sizes.allowed, sizes.rise) = (if was_guessed { carried } else { least }, None);
        }
    }

    /// The MTU that all uplinks carry that are used, and whether none of them is still being looked at; `None` while there is
    /// none.
    fn carried_by_all(&self, now: Instant) -> Option<(u16, bool)> {
        let of = |uplink: UplinkId| &self.sizes.of[uplink.index()];
        let up = self.known_that(|uplink| uplink.is_attached() && uplink.state() == State::Up);
        let or_all = |some: UplinkSet, all: UplinkSet| if some.is_empty() { all } else { some };
        let used = or_all(up.without(self.spent), up);
        let is_broad = |uplink: &UplinkId| {
            let limit = of(*uplink).limit().map(|datagram| datagram + of(*uplink).bounds().header);
            limit.is_none_or(|packet| packet >= PACKET_BASE)
        };
        let used = or_all(used.iter().filter(is_broad).collect(), used);
        let is_certain = used.iter().all(|uplink| !of(uplink).is_searching(now));
        let used = or_all(used.iter().filter(|uplink| !of(*uplink).is_searching(now)).collect(), used);
        let beside = self.sizes.beside_frame() + FRAME_LENGTH_MIN as u16;
        let carried =
            used.iter().map(|uplink| of(uplink).limit().map_or(u16::MAX, |datagram| datagram - beside)).min()?;
        Some((carried.min(self.sizes.bound), is_certain))
    }

    /// At the gateway: an uplink's datagrams come from another address.
    pub(super) fn note_moved(&mut self, now: Instant, uplink: UplinkId, from: Option<SocketAddr>, to: SocketAddr) {
        // Another port is the same way through another mapping of a translation.
        if from.is_none_or(|from| from.ip() != to.ip()) {
            self.sizes.renew(now, uplink, headers_towards(to));
        }
    }

    /// Whether a probe that is sent now should ask for the address that it comes from: as long as that is not known, and now
    /// and then, since a translation may change it.
    pub(super) fn asks_address(&mut self, now: Instant, uplink: UplinkId) -> bool {
        let asked_at = &mut self.sizes.asked_at[uplink.index()];
        let is_due = asked_at.is_none_or(|at| now >= at + ADDRESS_ASKED_EVERY);
        let asks = self.role == Role::Box && (is_due || self.sizes.seen[uplink.index()].is_none());
        if asks {
            *asked_at = Some(now);
        }
        asks
    }

    /// At the box: the gateway sees an uplink's datagrams come from there.
    pub(super) fn note_seen(&mut self, uplink: UplinkId, seen: Option<SocketAddr>) {
        if self.role == Role::Box && seen.is_some() {
            self.sizes.seen[uplink.index()] = seen;
        }
    }
}

fn headers_towards(remote: SocketAddr) -> u16 {
    if remote.ip().to_canonical().is_ipv4() { HEADERS_IPV4 } else { HEADERS_IPV6 }
}
