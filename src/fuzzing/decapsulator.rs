//! One end of a tunnel, alone in a hostile network.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::{Buf, Bytes};

use super::control::check_spelling;
use super::{pause, with_checksum};
use crate::proto::receive::reorder::REORDER_CAPACITY;
use crate::proto::scheduler::{Mode, SchedulerConfig};
use crate::proto::time::Instant;
use crate::proto::tunnel::{Arrival, Path, Role, Settings, Tunnel, UplinkSettings};
use crate::proto::uplink::{UplinkId, UplinkName};
use crate::proto::wire::{FRAME_HEADER_LENGTH, FRAME_LENGTH_MIN, FRAME_OVERHEAD_MAX};

const TAP_MTU: u16 = 1450;
/// In front of each datagram of the input: where from, how long after the one before, its length.
const PIECE_HEADER_LENGTH: usize = 4;

/// Datagrams from a hostile network, given to one end of a tunnel.
///
/// The first byte of `input` says which end; then each datagram comes behind a byte for its source, one for the time
/// since the one before, and its length as 16 bits, little-endian. Control messages get a checksum that fits, unless
/// their source's highest bit is set.
///
/// # Panics
/// If the tunnel does what it must never do: deliver what did not come, deliver more than came, hold without bound.
pub fn decapsulator(input: &[u8]) {
    let mut input = Bytes::copy_from_slice(input);
    let role = if input.try_get_u8().is_ok_and(|byte| byte & 1 == 1) { Role::Gateway } else { Role::Box };
    let mut now = Instant::from_nanos(1_000_000_000);
    let mut tunnel = new_tunnel(now, role);
    let mut offered: Vec<Bytes> = vec![];
    while input.len() >= PIECE_HEADER_LENGTH {
        let source = input.get_u8();
        now = now + pause(input.get_u8());
        let length = usize::from(input.get_u16_le()).min(input.len());
        let datagram = input.split_to(length);
        let datagram = if source & 0x80 == 0 { with_checksum(&datagram) } else { datagram };
        check_spelling(&datagram);
        if tunnel.poll_timeout(now).0 <= now {
            tunnel.handle_timeout(now);
        }
        offered.push(datagram.clone());
        tunnel.handle_datagram(now, arrival(role, source), datagram);
        drain(&mut tunnel, &mut offered);
    }
    tunnel.handle_timeout(now + Duration::from_secs(10));
    drain(&mut tunnel, &mut offered);
}

fn new_tunnel(now: Instant, role: Role) -> Tunnel<Bytes> {
    let names: &[&str] = if role == Role::Box { &["a", "b"] } else { &[] };
    let name = |name: &&str| UplinkName::new(name).expect("a lawful name");
    let settings = Settings {
        role,
        epoch: 1,
        first_sequence: 0,
        scheduler: SchedulerConfig::new(Mode::Broadcast),
        window: Some(Duration::from_millis(40)),
        window_follows: false,
        probe_interval: Duration::from_millis(20),
        tap_mtu: TAP_MTU,
        uplinks: names.iter().map(|n| UplinkSettings::named(name(n))).collect(),
    };
    let mut tunnel = Tunnel::new(now, &settings);
    for number in 0..names.len() {
        tunnel.handle_uplink_attached(now, UplinkId::new(number as u8).expect("few"));
    }
    tunnel
}

fn arrival(role: Role, source: u8) -> Arrival {
    match role {
        Role::Box => Arrival::Uplink(UplinkId::new(source & 1).expect("two")),
        Role::Gateway => {
            let remote = SocketAddr::from((Ipv4Addr::new(192, 0, 2, source), 1024));
            Arrival::Path(Path { remote, local: None })
        }
    }
}

fn drain(tunnel: &mut Tunnel<Bytes>, offered: &mut Vec<Bytes>) {
    while let Some(frame) = tunnel.poll_deliver() {
        assert!((FRAME_LENGTH_MIN..=usize::from(TAP_MTU) + FRAME_OVERHEAD_MAX).contains(&frame.len()));
        let origin = offered.iter().position(|datagram| datagram.get(FRAME_HEADER_LENGTH..) == Some(&frame[..]));
        offered.swap_remove(origin.expect("a frame that came, and was not delivered before"));
    }
    while tunnel.poll_control().is_some() {}
    while tunnel.poll_sounding().is_some() {}
    while tunnel.poll_event().is_some() {}
    assert!(tunnel.held() <= REORDER_CAPACITY);
    assert!(tunnel.poll_frame().is_none(), "nothing from the network is sent back to it");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_passes() {
        crate::fuzzing::replay("decapsulator", 20, decapsulator);
    }
}
