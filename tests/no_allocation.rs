//! Once it has been made, the core allocates nothing for a packet: a counting allocator looks on while two ends talk,
//! in every mode, with loss, reordering and probes, while frames are sealed and opened, and while super-frames are cut and
//! merged.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use braid::fuzzing::sealed::{CountingHost, securities};
use braid::offload::checksum::Sum;
use braid::offload::coalesce::{Coalescer, Finished, Joined, Kinds, SUPER_HEADER_MAX};
use braid::offload::split::Split;
use braid::offload::vnet_header::{Checksum, Segmentation, VnetHeader};
use braid::proto::endpoint::{Datagram, Endpoint, HandshakeDestination};
use braid::proto::scheduler::{Mode, SchedulerConfig};
use braid::proto::session::cipher::Ciphers;
use braid::proto::session::transport::OVERHEAD;
use braid::proto::time::Instant;
use braid::proto::tunnel::{Arrival, Path, Payload, Role, Settings, Tunnel, UplinkSettings};
use braid::proto::uplink::{UplinkId, UplinkName};
use braid::proto::wire::KEYED_HEADER_LENGTH;

/// Counts what this thread asks for.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: Every call is passed on to the system's allocator as it is; counting touches a thread-local number only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: The caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: The caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The longest sounding for a TAP of the usual MTU.
const PACKET_MAX: usize = 1500;

/// A packet that lives where it stands.
#[derive(Clone, Copy)]
struct Packet {
    bytes: [u8; PACKET_MAX],
    start: usize,
    end: usize,
}

impl Packet {
    fn of(parts: &[&[u8]]) -> Self {
        let mut packet = Self { bytes: [0; PACKET_MAX], start: 0, end: 0 };
        for part in parts {
            packet.bytes[packet.end..packet.end + part.len()].copy_from_slice(part);
            packet.end += part.len();
        }
        packet
    }
}

impl Payload for Packet {
    fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    fn advance(&mut self, count: usize) {
        self.start += count;
    }
}

impl Datagram for Packet {
    type Payload = Self;

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    fn into_payload(mut self, range: std::ops::Range<usize>) -> Self {
        (self.start, self.end) = (self.start + range.start, self.start + range.end);
        self
    }
}

fn tunnel(role: Role, mode: Mode, window: Duration) -> Tunnel<Packet> {
    let uplink = |name| UplinkSettings::named(UplinkName::new(name).expect("lawful"));
    Tunnel::new(
        Instant::ZERO,
        &Settings {
            role,
            epoch: if role == Role::Box { 1 } else { 2 },
            first_sequence: 0,
            scheduler: SchedulerConfig::new(mode),
            window: Some(window),
            window_follows: false,
            probe_interval: Duration::from_millis(20),
            tap_mtu: 1450,
            uplinks: if role == Role::Box { vec![uplink("a"), uplink("b")] } else { vec![] },
        },
    )
}

/// What is on its way to one end: since when, by which uplink, and what.
type Flying = std::collections::VecDeque<(Instant, UplinkId, Packet)>;

fn arrival(role: Role, uplink: UplinkId) -> Arrival {
    match role {
        Role::Box => Arrival::Uplink(uplink),
        Role::Gateway => {
            let remote = SocketAddr::from((Ipv4Addr::LOCALHOST, 1000 + u16::from(uplink.number())));
            Arrival::Path(Path { remote, local: None })
        }
    }
}

/// One tunnel's turn: takes what has come, and lets out what it wants sent, which takes `delay`; every 97th datagram is lost.
fn turn(
    now: Instant,
    role: Role,
    tunnel: &mut Tunnel<Packet>,
    inbox: &mut Flying,
    outbox: &mut Flying,
    (count, delay): (&mut u64, Duration),
) {
    while inbox.front().is_some_and(|(at, ..)| *at <= now) {
        let Some((_, uplink, packet)) = inbox.pop_front() else { break };
        tunnel.handle_datagram(now, arrival(role, uplink), packet);
    }
    if tunnel.poll_timeout(now).0 <= now {
        tunnel.handle_timeout(now);
    }
    let mut fly = |uplink: UplinkId, packet| {
        *count += 1;
        if !count.is_multiple_of(97) {
            // The second uplink is slower; for simplicity both arrive by one queue, a step apart.
            outbox.push_back((now + delay + Duration::from_millis(u64::from(uplink.number())), uplink, packet));
        }
    };
    while let Some(frame) = tunnel.poll_frame() {
        let packet = Packet::of(&[&frame.plaintext_header(), frame.payload.bytes()]);
        frame.uplinks.iter().for_each(|uplink| fly(uplink, packet));
    }
    while let Some(mut control) = tunnel.poll_control() {
        fly(control.uplink, Packet::of(&[control.plaintext()]));
    }
    while let Some(mut parity) = tunnel.poll_parity() {
        fly(parity.uplink, Packet::of(&[parity.plaintext()]));
    }
    while let Some(mut sounding) = tunnel.poll_sounding() {
        let packet = Packet::of(&[sounding.plaintext()]);
        fly(sounding.uplink, packet);
    }
    while let Some((uplink, sequence, bytes)) = tunnel.poll_restored() {
        let packet = Packet::of(&[bytes]);
        tunnel.handle_restored(now, uplink, sequence, packet);
    }
    while tunnel.poll_deliver().is_some() {}
    while tunnel.poll_event().is_some() {}
}

/// An uplink that is met for the first time gets its histograms; from then on nothing.
const UPLINKS_MET_BY: u64 = 100;

#[test]
fn the_core_allocates_nothing_for_a_packet() {
    for mode in Mode::ALL {
        let mut ends = pair(mode, Duration::from_millis(40));
        let mut flying = [Flying::with_capacity(1 << 12), Flying::with_capacity(1 << 12)];
        let mut count = 0;
        let mut before = 0;
        for step in 0..20_000_u64 {
            if step == UPLINKS_MET_BY {
                before = ALLOCATIONS.with(Cell::get);
            }
            let now = Instant::from_nanos(step * 500_000);
            step_both(now, step, &mut ends, &mut flying, (&mut count, Duration::ZERO));
        }
        let allocations = ALLOCATIONS.with(Cell::get) - before;
        assert!(ends[1].counters().delivered.packets > 19_000, "{mode:?}: {:?}", ends[1].counters());
        assert_eq!(allocations, 0, "{mode:?}");
    }
}

#[test]
fn the_core_allocates_nothing_to_make_parities_and_frames_of_them() {
    let mut ends = pair(Mode::Adaptive, Duration::from_millis(100));
    let mut flying = [Flying::with_capacity(1 << 12), Flying::with_capacity(1 << 12)];
    let (mut count, mut before) = (0, 0);
    for step in 0..20_000_u64 {
        // The first parity is what room is made for them with.
        if step == 10_000 {
            before = ALLOCATIONS.with(Cell::get);
        }
        let now = Instant::from_nanos(step * 500_000);
        step_both(now, step, &mut ends, &mut flying, (&mut count, Duration::from_millis(200)));
    }
    let allocations = ALLOCATIONS.with(Cell::get) - before;
    assert!(ends[1].counters().receive.restored > 100, "{:?}", ends[1].counters());
    assert_eq!(allocations, 0);
}

fn pair(mode: Mode, window: Duration) -> [Tunnel<Packet>; 2] {
    let mut ends = [tunnel(Role::Box, mode, window), tunnel(Role::Gateway, mode, window)];
    for number in [0, 1] {
        ends[0].handle_uplink_attached(Instant::ZERO, UplinkId::new(number).expect("within range"));
    }
    ends
}

/// A frame for each end, and each end's turn.
fn step_both(
    now: Instant,
    step: u64,
    ends: &mut [Tunnel<Packet>; 2],
    flying: &mut [Flying; 2],
    (count, delay): (&mut u64, Duration),
) {
    let frame = Packet::of(&[&[0; 12], &step.to_be_bytes(), &[0; 88]]);
    ends.iter_mut().for_each(|end| end.handle_frame(now, frame));
    let [to_box, to_gateway] = flying;
    turn(now, Role::Box, &mut ends[0], to_box, to_gateway, (count, delay));
    turn(now, Role::Gateway, &mut ends[1], to_gateway, to_box, (count, delay));
}

fn sealed_pair(host: &mut CountingHost) -> [Endpoint<Packet>; 2] {
    let [initiator, responder] = securities(host, Ciphers::ALL);
    [
        Endpoint::new(vec![tunnel(Role::Box, Mode::Broadcast, Duration::from_millis(40))], initiator),
        Endpoint::new(vec![tunnel(Role::Gateway, Mode::Broadcast, Duration::from_millis(40))], responder),
    ]
}

/// One sealed end's turn.
fn sealed_turn(
    now: Instant,
    host: &mut CountingHost,
    end: &mut Endpoint<Packet>,
    inbox: &mut Flying,
    outbox: &mut Flying,
) {
    let role = if end.tunnels()[0].epoch() == 1 { Role::Box } else { Role::Gateway };
    while let Some((_, uplink, packet)) = inbox.pop_front() {
        end.handle_datagram(now, host, arrival(role, uplink), packet);
    }
    if end.poll_timeout(now).0 <= now {
        end.handle_timeout(now, host);
    }
    while let Some(frame) = end.tunnel_mut(0).poll_frame() {
        let room = ([0; KEYED_HEADER_LENGTH], [0; OVERHEAD - KEYED_HEADER_LENGTH]);
        let mut packet = Packet::of(&[&room.0, frame.payload.bytes(), &room.1]);
        if end.seal_frame(now, 0, frame.sequence, packet.bytes_mut()).is_ok() {
            frame.uplinks.iter().for_each(|uplink| outbox.push_back((now, uplink, packet)));
        }
    }
    while end.poll_control(now, 0, |uplink, bytes| outbox.push_back((now, uplink, Packet::of(&[bytes])))) {}
    while let Some(transmit) = end.poll_handshake() {
        let uplink = match transmit.destination {
            HandshakeDestination::Uplink(uplink) => uplink,
            HandshakeDestination::Path(_) => UplinkId::new(0).expect("within range"),
        };
        outbox.push_back((now, uplink, Packet::of(&[transmit.bytes()])));
    }
    while end.tunnel_mut(0).poll_deliver().is_some() {}
    while end.tunnel_mut(0).poll_event().is_some() {}
}

#[test]
fn sealing_and_opening_allocate_nothing() {
    let mut host = CountingHost::default();
    let mut ends = sealed_pair(&mut host);
    let mut flying = [Flying::with_capacity(1 << 12), Flying::with_capacity(1 << 12)];
    for number in [0, 1] {
        ends[0].handle_uplink_attached(Instant::ZERO, UplinkId::new(number).expect("within range"));
    }
    let mut run = |steps: std::ops::Range<u64>| {
        for step in steps {
            let now = Instant::from_nanos(step * 500_000);
            let frame = Packet::of(&[&step.to_be_bytes(), &[0; 100]]);
            ends.iter_mut().for_each(|end| end.tunnel_mut(0).handle_frame(now, frame));
            let [to_box, to_gateway] = &mut flying;
            sealed_turn(now, &mut host, &mut ends[0], to_box, to_gateway);
            sealed_turn(now, &mut host, &mut ends[1], to_gateway, to_box);
        }
        ends[1].tunnels()[0].counters().delivered.packets
    };
    // Handshakes may.
    let warm = run(0..1_000);
    let before = ALLOCATIONS.with(Cell::get);
    let delivered = run(1_000..20_000) - warm;
    let allocations = ALLOCATIONS.with(Cell::get) - before;
    assert!(warm > 0 && delivered >= 18_999, "{warm} {delivered}");
    assert_eq!(allocations, 0);
}

/// A super-frame of UDP over IPv4, with 40 segments of 100 bytes.
fn super_frame() -> (VnetHeader, Vec<u8>) {
    let addresses = [192, 0, 2, 1, 192, 0, 2, 2];
    let length = 8 + 4000;
    let mut frame = vec![0; 34 + usize::from(length)];
    frame[12..24].copy_from_slice(&[0x08, 0x00, 0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 17]);
    frame[26..34].copy_from_slice(&addresses);
    frame[38..40].copy_from_slice(&u16::to_be_bytes(length));
    frame[40..42].copy_from_slice(&Sum::pseudo_header(&addresses, 17, length.into()).fold().to_be_bytes());
    let checksum = Checksum::Partial { start: 34, offset: 6 };
    (VnetHeader { checksum, segmentation: Segmentation::Udp, segment_size: 100, header_length: 42 }, frame)
}

#[test]
fn cutting_and_merging_allocate_nothing() {
    let (header, frame) = super_frame();
    let mut coalescer = Coalescer::new(Kinds { tcp: true, udp: true });
    let mut joined = 0;
    let before = ALLOCATIONS.with(Cell::get);
    let split = Split::new(&header, &frame).expect("a super-frame");
    for index in 0..split.segments() {
        let mut segment = [0; 142];
        split.write_header(index, &frame, &mut segment);
        segment[42..].copy_from_slice(&frame[split.payload(index)]);
        match coalescer.join(&segment) {
            Joined::Yes { .. } => joined += 1,
            Joined::No(candidate) => coalescer.begin(candidate.expect("a candidate"), &segment),
        }
    }
    let finished = coalescer.finish(&mut [0; SUPER_HEADER_MAX]);
    let allocations = ALLOCATIONS.with(Cell::get) - before;
    assert!(joined == 39 && matches!(finished, Finished::Super { .. }));
    assert_eq!(allocations, 0);
}
