//! The link emulator: a process per uplink, in the access provider's namespace, whose forwarding passes through it.
//!
//! All traffic between the box and the gateway is routed into a TUN; what is read from it enters one of two
//! [`Link`]s, and is written back to the TUN when it comes out, for the kernel to forward. Orders come by
//! standard input, a line each; counters are told on standard output at its end.

pub mod nat;
pub mod packet;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use braid::sim::Nanoseconds;
use braid::sim::link::{Departure, Link, LinkSettings, Loss};
use braid::sim::random::Random;
use braid::sim::shaper::{Shaper, Trace};
use nat::Nat;
use packet::Packet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use crate::action::{Action, parse_action};
use crate::addresses::Addresses;
use crate::clock::{monotonic_nanoseconds, sharpen_timers};
use crate::say::say;
use crate::scenario::Scenario;

/// The TUN's name in the provider's namespace.
pub const TUN: &str = "emu";
/// The longest packet: more than any MTU allowed.
const PACKET_LENGTH_MAX: usize = 10_000;
/// Packets read in a row before those due are let out.
const BATCH: usize = 64;

/// A packet let out this long after it was due says that the machine was too busy for its delay to be trusted.
const LATE: Nanoseconds = 1_000_000;

/// What one direction of a link has done.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct LinkReport {
    /// Packets that came out.
    pub packets: u64,
    /// Bytes of IP packet that came out.
    pub bytes: u64,
    /// Packets that the loss model took.
    pub lost: u64,
    /// Packets for which the queue had no room.
    pub overflowed: u64,
    /// Packets that a blackhole swallowed.
    pub swallowed: u64,
    /// Packets that came out twice.
    pub duplicated: u64,
    /// Packets that came out with a byte changed.
    pub corrupted: u64,
    /// Packets that came out over 1 ms after they were due, since the machine was busy.
    pub late: u64,
    /// How long after it was due the latest packet came out, in microseconds.
    pub late_us_max: u64,
}

/// What an emulator tells at its end.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct EmulatorReport {
    /// From the box to the gateway.
    pub up: LinkReport,
    /// From the gateway to the box.
    pub down: LinkReport,
}

/// One direction, and how punctual this machine has been about it.
struct Way {
    link: Link<Vec<u8>>,
    late: u64,
    late_max: Nanoseconds,
}

impl Way {
    const fn new(settings: LinkSettings, random: Random) -> Self {
        Self { link: Link::new(settings, random), late: 0, late_max: 0 }
    }

    /// Writes all that has come out to the TUN.
    fn let_out(&mut self, now: Nanoseconds, tun: &SyncDevice) {
        while let Some(Departure { due, mut packet, spoiled }) = self.link.leave(now) {
            let lateness = now.saturating_sub(due);
            self.late += u64::from(lateness > LATE);
            self.late_max = self.late_max.max(lateness);
            if let Some(how) = spoiled {
                spoil(&mut packet, how);
            }
            // A packet that the kernel refuses is lost, as on any router.
            let _ = tun.send(&packet);
        }
    }

    fn report(&self) -> LinkReport {
        let counters = self.link.counters();
        LinkReport {
            packets: counters.left,
            bytes: counters.left_bytes,
            lost: counters.lost,
            overflowed: counters.overflowed,
            swallowed: counters.swallowed,
            duplicated: counters.duplicated,
            corrupted: counters.corrupted,
            late: self.late,
            late_us_max: self.late_max / 1_000,
        }
    }
}

/// Changes the last byte, which every packet has, and no router looks at.
fn spoil(packet: &mut [u8], how: u64) {
    if let Some(last) = packet.last_mut() {
        *last ^= (how as u8).max(1);
    }
}

struct Emulator {
    tun: SyncDevice,
    up: Way,
    down: Way,
    nat: Option<Nat>,
    box_addresses: [IpAddr; 2],
}

/// Runs the emulator of one uplink until standard input ends.
///
/// # Errors
/// What went wrong.
pub fn run(scenario: &Scenario, index: usize) -> Result<(), String> {
    let describe = |what: &'static str| move |error: io::Error| format!("emulator: cannot {what}: {error}");
    sharpen_timers();
    let uplink = &scenario.uplinks[index];
    let tun = open_tun(uplink.mtu).map_err(describe("open the TUN"))?;
    let mut emulator = Emulator::new(scenario, index, tun).map_err(|error| error.to_string())?;
    say("ready\n");
    emulator.serve().map_err(describe("forward"))?;
    let report = EmulatorReport { up: emulator.up.report(), down: emulator.down.report() };
    say(&(serde_json::to_string(&report).map_err(|error| error.to_string())? + "\n"));
    Ok(())
}

fn open_tun(mtu: u16) -> io::Result<SyncDevice> {
    let tun = DeviceBuilder::new().name(TUN).layer(Layer::L3).mtu(mtu).build_sync()?;
    tun.set_tx_queue_len(5000)?;
    tun.set_nonblocking(true)?;
    Ok(tun)
}

impl Emulator {
    fn new(scenario: &Scenario, index: usize, tun: SyncDevice) -> Result<Self, crate::scenario::ScenarioError> {
        let uplink = &scenario.uplinks[index];
        let trace = scenario
            .trace(uplink)?
            .map(|opportunities| Shaper::Trace(Trace::new(opportunities, monotonic_nanoseconds(), uplink.trace_start)));
        let shaper = |rate: Option<u64>| rate.map_or(Shaper::Unlimited, Shaper::Rate);
        let way = |shaper, direction: u64| {
            let seed = scenario.seed.wrapping_mul(1_000).wrapping_add(index as u64 * 2 + direction);
            Way::new(uplink.link_settings(shaper), Random::new(seed))
        };
        let addresses = Addresses::of(index);
        Ok(Self {
            tun,
            up: way(trace.unwrap_or(shaper(uplink.rate)), 0),
            down: way(shaper(uplink.downlink_rate.or(uplink.rate)), 1),
            nat: uplink.nat.then(|| Nat::new(addresses.public)),
            box_addresses: addresses.box_end,
        })
    }

    fn serve(&mut self) -> io::Result<()> {
        // With a buffer that can be looked into: what is in there already, no poll tells of.
        let mut orders = BufReader::new(File::from(io::stdin().as_fd().try_clone_to_owned()?));
        let mut buffer = vec![0; PACKET_LENGTH_MAX];
        loop {
            let now = monotonic_nanoseconds();
            self.let_out(now);
            let due = [&self.up, &self.down].map(|way| way.link.next_departure()).into_iter().flatten().min();
            let (tun_ready, orders_ready) = wait(&self.tun, orders.get_ref().as_fd(), due)?;
            if orders_ready {
                let lines = waiting_lines(&mut orders)?;
                if lines.is_empty() {
                    return Ok(());
                }
                lines.iter().for_each(|line| self.obey(line));
            }
            if tun_ready {
                self.take_in(&mut buffer)?;
            }
        }
    }

    fn take_in(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        for _ in 0..BATCH {
            match self.tun.recv(buffer) {
                Ok(length) => self.enter(&mut buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn enter(&mut self, bytes: &mut [u8]) {
        let now = monotonic_nanoseconds();
        let Some(mut packet) = Packet::parse(bytes) else { return };
        let from_box = self.box_addresses.contains(&packet.source_address());
        if let Some(nat) = &mut self.nat {
            let translated =
                if from_box { nat.translate_outward(&mut packet) } else { nat.translate_inward(&mut packet) };
            if !translated {
                return;
            }
        }
        let way = if from_box { &mut self.up } else { &mut self.down };
        way.link.enter(now, bytes.len(), bytes.to_vec());
    }

    fn let_out(&mut self, now: Nanoseconds) {
        self.up.let_out(now, &self.tun);
        self.down.let_out(now, &self.tun);
    }

    fn obey(&mut self, order: &str) {
        match parse_action(order.trim()) {
            Ok(action) => self.apply(action),
            Err(error) => eprintln!("emulator: {error}"),
        }
    }

    fn apply(&mut self, action: Action) {
        let (up, down) = (&mut self.up.link, &mut self.down.link);
        match action {
            Action::Blackhole => (up.blackhole, down.blackhole) = (true, true),
            Action::BlackholeUp => up.blackhole = true,
            Action::BlackholeDown => down.blackhole = true,
            Action::Restore => (up.blackhole, down.blackhole) = (false, false),
            Action::Delay(delay) => (up.settings.delay, down.settings.delay) = (delay, delay),
            Action::Rate(rate) => up.settings.shaper = Shaper::Rate(rate),
            Action::Loss(share) => {
                (up.settings.loss, down.settings.loss) = (Loss::Random(share), Loss::Random(share));
            }
            Action::Jitter(jitter) => (up.settings.jitter, down.settings.jitter) = (jitter, jitter),
            Action::Reordering(reordering) => {
                (up.settings.reordering, down.settings.reordering) = (reordering, reordering);
            }
            Action::Duplication(share) => (up.settings.duplication, down.settings.duplication) = (share, share),
            Action::Corruption(share) => (up.settings.corruption, down.settings.corruption) = (share, share),
            Action::Mtu(mtu) => {
                (up.settings.longest, down.settings.longest) = (Some(mtu.into()), Some(mtu.into()));
            }
            Action::NatRebind => {
                if let Some(nat) = &mut self.nat {
                    nat.rebind();
                }
            }
            // The lab's, not the emulator's: it is about the interface.
            Action::CarrierDown | Action::CarrierUp | Action::InterfaceRemove | Action::InterfaceAdd => {}
        }
    }
}

/// Every line that has come; none at the end of them.
fn waiting_lines(input: &mut BufReader<impl Read>) -> io::Result<Vec<String>> {
    let mut lines = vec![];
    let mut line = String::new();
    while input.read_line(&mut line)? > 0 {
        lines.push(std::mem::take(&mut line));
        if input.buffer().is_empty() {
            break;
        }
    }
    Ok(lines)
}

/// Waits until one of the two can be read, or the time has come.
fn wait(tun: &SyncDevice, orders: BorrowedFd<'_>, due: Option<Nanoseconds>) -> io::Result<(bool, bool)> {
    let timeout = due.map(|due| {
        let left = due.saturating_sub(monotonic_nanoseconds());
        Timespec { tv_sec: (left / 1_000_000_000) as i64, tv_nsec: (left % 1_000_000_000) as i64 }
    });
    let mut files = [PollFd::new(tun, PollFlags::IN), PollFd::from_borrowed_fd(orders, PollFlags::IN)];
    match poll(&mut files, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let [tun, orders] = files.map(|file| !file.revents().is_empty());
    Ok((tun, orders))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_that_come_together_are_all_obeyed_at_once() {
        let mut input = BufReader::new(&b"blackhole\ndelay 5ms\nrestore\n"[..]);
        assert_eq!(waiting_lines(&mut input).expect("read").len(), 3);
        assert_eq!(waiting_lines(&mut input).expect("read").len(), 0, "the end");
    }
}
