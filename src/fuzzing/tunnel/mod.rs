//! Two ends of a tunnel, and between them a network that does its worst.

mod end;
mod oracle;

use std::time::Duration;

use bytes::{Buf, Bytes};

use super::pause;
use crate::proto::scheduler::Mode;
use crate::proto::time::Instant;
use crate::proto::tunnel::{FrameTransmit, Role};
use crate::proto::uplink::UplinkId;
use crate::proto::uplink::state::Reason;
use crate::proto::wire;
use end::{End, Plan, UPLINKS, address_of, uplink_at};

/// The most datagrams in flight; what is sent beyond is lost.
const FLYING_MAX: usize = 1024;
/// The most operations of one input: a longer one finds no more, and takes its time.
const OPERATIONS_MAX: usize = 256;
/// How often what is in flight is delivered, with what that brings forth, before the network is left alone.
const ROUNDS_MAX: usize = 8;
const WINDOW: Duration = Duration::from_millis(40);
/// Errno of a send that the kernel refused (ENETUNREACH).
const ERRNO: i32 = 101;

/// What is done to the two ends, an operation each two bytes: what, to which end and uplink, and an argument.
///
/// Three bytes go before: the mode, window and reselection; where the sequence numbers begin; the weights.
///
/// # Panics
/// If a tunnel delivers what was not offered, twice, or out of order; if a packet is neither passed on nor counted;
/// if something is left behind, held without bound, or waits for a moment that has passed.
pub fn tunnel(input: &[u8]) {
    let mut input = Bytes::copy_from_slice(input);
    let mut next = || input.try_get_u8().ok();
    let [modes, first_sequence, weights] = [next(), next(), next()].map(Option::unwrap_or_default);
    let plan = Plan {
        mode: Mode::ALL[usize::from(modes) % Mode::ALL.len()],
        reselect: modes >> 4,
        window: (modes & 0x80 == 0).then_some(WINDOW),
        // The highest are just before the wrap.
        first_sequence: if first_sequence < 0x80 { first_sequence.into() } else { (first_sequence as i8) as u32 },
        weights,
    };
    let mut world = World::new(plan);
    for _ in 0..OPERATIONS_MAX {
        let Some(what) = next() else { break };
        let argument = next().unwrap_or_default();
        if what & 15 == 6 {
            let (place, change) = (next().unwrap_or_default(), next().unwrap_or_default());
            world.spoil(argument, place, change);
        } else {
            world.operate(what, argument);
        }
        world.drain();
    }
    world.finish();
}

/// A datagram on its way.
#[derive(Clone)]
struct Flying {
    to: Role,
    uplink: UplinkId,
    /// The port that the uplink's NAT had when it was sent by the box.
    port: u16,
    /// Which start of the sender sent it.
    incarnation: u64,
    bytes: Bytes,
    spoiled: bool,
}

struct World {
    now: Instant,
    ends: [End; 2],
    ports: [u16; UPLINKS as usize],
    flying: Vec<Flying>,
}

impl World {
    fn new(plan: Plan) -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let ends = [End::new(now, Role::Box, plan.clone()), End::new(now, Role::Gateway, plan)];
        Self { now, ends, ports: [1000; UPLINKS as usize], flying: vec![] }
    }

    fn operate(&mut self, what: u8, argument: u8) {
        let now = self.now;
        let uplink = UplinkId::new((what >> 5) % UPLINKS).expect("few");
        let end = usize::from((what >> 4) & 1);
        match what & 15 {
            0 => self.ends[end].offer(now, argument),
            1 => (0..argument).for_each(|_| {
                self.ends[end].offer(now, 2);
                self.drain_end(end);
            }),
            2 => self.deliver(argument),
            3 => self.deliver_all(),
            4 => drop(self.take(argument)),
            5 => self.flying.extend(self.at(argument).map(|at| self.flying[at].clone())),
            7 => self.wait(pause(argument)),
            8 if what >> 5 >= UPLINKS => self.ends[0].tunnel.set_spent(now, uplink, argument & 1 == 1),
            8 => self.ends[0].tunnel.handle_uplink_attached(now, uplink),
            9 => self.ends[0].tunnel.handle_uplink_detached(now, uplink, Reason::NoCarrier),
            10 if argument & 1 == 1 => {
                self.ends[end].tunnel.handle_too_long(now, uplink, usize::from(argument) << 3, 0)
            }
            10 => self.ends[end].tunnel.handle_send_error(now, uplink, ERRNO),
            11 if what >> 5 >= UPLINKS => {
                let gateway = address_of(uplink, 1000 + u16::from(argument));
                self.ends[0].tunnel.handle_new_path(now, uplink, gateway);
            }
            11 => self.ports[uplink.index()] = 1000 + u16::from(argument),
            12 => self.ends[end].set_tap_mtu(576 + u16::from(argument) * 33),
            13 => self.ends[end].restart(now),
            14 => self.ends[end].tunnel.handle_shutdown(now),
            // All that is due, delivered as it comes: how a tunnel comes up.
            _ => (0..argument % 16).for_each(|_| {
                self.wait(Duration::from_millis(20));
                self.deliver_all();
            }),
        }
    }

    /// The place of the n-th datagram in flight, counted round.
    fn at(&self, argument: u8) -> Option<usize> {
        usize::from(argument).checked_rem(self.flying.len())
    }

    fn take(&mut self, argument: u8) -> Option<Flying> {
        self.at(argument).map(|at| self.flying.remove(at))
    }

    fn spoil(&mut self, argument: u8, place: u8, change: u8) {
        let Some(at) = self.at(argument) else { return };
        let flying = &mut self.flying[at];
        let mut bytes = flying.bytes.to_vec();
        let place = usize::from(place) % bytes.len();
        bytes[place] ^= change;
        flying.spoiled |= change != 0;
        flying.bytes = bytes.into();
    }

    fn deliver(&mut self, argument: u8) {
        if let Some(flying) = self.take(argument) {
            self.ends[flying.to as usize].receive(self.now, &flying);
        }
    }

    fn deliver_all(&mut self) {
        for _ in 0..ROUNDS_MAX {
            for flying in std::mem::take(&mut self.flying) {
                let end = flying.to as usize;
                self.ends[end].receive(self.now, &flying);
                self.drain_end(end);
            }
        }
    }

    /// Lets time pass, each end doing what is due when it is.
    fn wait(&mut self, duration: Duration) {
        let until = self.now + duration;
        loop {
            let now = self.now;
            let due = self.ends.each_mut().map(|end| end.tunnel.poll_timeout(now).0);
            let next = due.into_iter().min().expect("two ends").max(now);
            if next > until {
                self.now = until;
                return;
            }
            self.now = next;
            self.wake(next);
        }
    }

    fn wake(&mut self, now: Instant) {
        for end in 0..self.ends.len() {
            if self.ends[end].tunnel.poll_timeout(now).0 <= now {
                self.ends[end].tunnel.handle_timeout(now);
                self.drain_end(end);
                let (at, what) = self.ends[end].tunnel.poll_timeout(now);
                assert!(at > now, "'{what}' is due again at once");
            }
        }
    }

    fn drain(&mut self) {
        (0..self.ends.len()).for_each(|end| self.drain_end(end));
    }

    fn drain_end(&mut self, end: usize) {
        while let Some(frame) = self.ends[end].tunnel.poll_frame() {
            let header = frame.plaintext_header();
            let FrameTransmit { uplinks, payload, sequence, is_kept } = frame;
            let attached = self.ends[end].tunnel.attached();
            assert!(!uplinks.is_empty() && uplinks.iter().all(|uplink| attached.contains(uplink)));
            let bytes = Bytes::from([&header[..], &payload].concat());
            if is_kept {
                self.ends[end].kept.insert(sequence, bytes.clone());
            }
            uplinks.iter().for_each(|uplink| self.fly(end, uplink, bytes.clone()));
        }
        while let Some(resend) = self.ends[end].tunnel.poll_resend() {
            let bytes = self.ends[end].kept.get(&resend.sequence).expect("what may be asked for is kept").clone();
            self.fly(end, resend.uplink, bytes);
        }
        let kept_from = self.ends[end].tunnel.kept_from();
        self.ends[end].kept = self.ends[end].kept.split_off(&kept_from);
        while let Some(mut control) = self.ends[end].tunnel.poll_control() {
            let bytes = Bytes::copy_from_slice(control.plaintext());
            let Ok(wire::Datagram::Control { body, .. }) = wire::parse(&bytes) else { panic!("{bytes:?}") };
            wire::control::parse(body).expect("what is said can be understood");
            self.fly(end, control.uplink, bytes);
        }
        while let Some(mut parity) = self.ends[end].tunnel.poll_parity() {
            let bytes = Bytes::copy_from_slice(parity.plaintext());
            let Ok(wire::Datagram::Control { body, .. }) = wire::parse(&bytes) else { panic!("{bytes:?}") };
            wire::parity::parse(body).expect("what is sent can be understood");
            let uplink = parity.uplink;
            self.fly(end, uplink, bytes);
        }
        while let Some(mut sounding) = self.ends[end].tunnel.poll_sounding() {
            let bytes = Bytes::copy_from_slice(sounding.plaintext());
            let Ok(wire::Datagram::Control { body, .. }) = wire::parse(&bytes) else { panic!("{bytes:?}") };
            wire::control::parse(body).expect("what is said can be understood");
            let uplink = sounding.uplink;
            self.fly(end, uplink, bytes);
        }
        while let Some((uplink, sequence, bytes)) = self.ends[end].tunnel.poll_restored() {
            let bytes = Bytes::copy_from_slice(bytes);
            self.ends[end].oracle.on_restored(&bytes);
            self.ends[end].tunnel.handle_restored(self.now, uplink, sequence, bytes);
        }
        self.ends[end].collect();
    }

    fn fly(&mut self, from: usize, uplink: UplinkId, bytes: Bytes) {
        let end = &self.ends[from];
        // A probe that was still on its way is answered, and the answer lost.
        if !end.tunnel.attached().contains(uplink) {
            return;
        }
        let incarnation = end.incarnation();
        let flying = |to, uplink, port| Flying { to, uplink, port, incarnation, bytes, spoiled: false };
        let flying = match end.role {
            Role::Box => flying(Role::Gateway, uplink, self.ports[uplink.index()]),
            Role::Gateway => {
                let address = end.tunnel.path(uplink).expect("what is attached has an address").remote;
                let uplink = uplink_at(address);
                // What is sent to an address that the NAT has given up reaches nobody.
                if address != address_of(uplink, self.ports[uplink.index()]) {
                    return;
                }
                flying(Role::Box, uplink, 0)
            }
        };
        if self.flying.len() < FLYING_MAX {
            self.flying.push(flying);
        }
    }

    /// When the window has run out, nothing is held any more.
    fn finish(mut self) {
        self.wait(WINDOW);
        assert!(self.ends.iter().all(|end| end.tunnel.held() == 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_passes() {
        crate::fuzzing::replay("tunnel", 16, tunnel);
    }
}
