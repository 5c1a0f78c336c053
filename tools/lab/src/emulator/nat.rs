//! Address and port translation, as an access provider does it: the box is seen from one public address, and each of
//! its flows from a port of its own. Pure.

use std::collections::HashMap;
use std::net::IpAddr;

use super::packet::{Endpoint, Packet};

/// The first port given out; how many there are from one rebinding to the next, and how many such ranges.
const PORT_FIRST: u16 = 20_000;
const PORTS_PER_GENERATION: u16 = 1_000;
const GENERATIONS: u16 = 40;
const _: () = assert!(PORT_FIRST as u32 + GENERATIONS as u32 * PORTS_PER_GENERATION as u32 <= 65_536);

/// Mappings between flows of the box and ports of the public address.
pub struct Nat {
    public: [IpAddr; 2],
    outward: HashMap<Endpoint, u16>,
    inward: HashMap<u16, Endpoint>,
    /// How many ports of this generation have been given out.
    given: u16,
    generation: u16,
}

impl Nat {
    /// No flow yet; `public` are the IPv4 and the IPv6 address.
    #[must_use]
    pub fn new(public: [IpAddr; 2]) -> Self {
        Self { public, outward: HashMap::new(), inward: HashMap::new(), given: 0, generation: 0 }
    }

    /// Forgets all flows; from now on they are given other ports, and the old ports lead nowhere.
    pub fn rebind(&mut self) {
        self.outward.clear();
        self.inward.clear();
        self.generation = (self.generation + 1) % GENERATIONS;
        self.given = 0;
    }

    /// A new port for `source`; when all are taken, that of the flow which has had its port the longest.
    fn give_port(&mut self, source: Endpoint) -> u16 {
        let port = PORT_FIRST + self.generation * PORTS_PER_GENERATION + self.given;
        self.given = (self.given + 1) % PORTS_PER_GENERATION;
        if let Some(forgotten) = self.inward.insert(port, source) {
            self.outward.remove(&forgotten);
        }
        self.outward.insert(source, port);
        port
    }

    /// Translates a packet from the box; false if it cannot be.
    pub fn translate_outward(&mut self, packet: &mut Packet<'_>) -> bool {
        let Some(source) = packet.source() else { return false };
        let port = match self.outward.get(&source) {
            Some(port) => *port,
            None => self.give_port(source),
        };
        let address = if source.address.is_ipv4() { self.public[0] } else { self.public[1] };
        packet.set_source(Endpoint { address, port, ..source });
        true
    }

    /// Translates a packet to the box; false if no flow of the box's has that port.
    pub fn translate_inward(&mut self, packet: &mut Packet<'_>) -> bool {
        let Some(destination) = packet.destination() else { return false };
        match self.inward.get(&destination.port) {
            Some(inside) if inside.protocol == destination.protocol => {
                packet.set_destination(*inside);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::tests::{checksums_hold, icmp_echo, udp};
    use super::*;

    const PUBLIC: [&str; 2] = ["100.64.0.1", "fd00:64::1"];

    fn nat() -> Nat {
        Nat::new(PUBLIC.map(|address| address.parse().expect("an address")))
    }

    #[test]
    fn there_and_back() {
        for (inside, outside) in [("10.101.0.2:5000", "203.0.113.1:4754"), ("[fd00:101::2]:5000", "[2001:db8::1]:4754")]
        {
            let (inside, outside) = (inside.parse().expect("address"), outside.parse().expect("address"));
            let mut nat = nat();
            let mut bytes = udp(inside, outside, b"hello");
            let mut packet = Packet::parse(&mut bytes).expect("a packet");
            assert!(nat.translate_outward(&mut packet));
            let public = packet.source().expect("an endpoint");
            assert!(PUBLIC.contains(&public.address.to_string().as_str()));
            assert!(checksums_hold(&bytes));

            let mut answer = udp(outside, (public.address, public.port).into(), b"hi");
            let mut packet = Packet::parse(&mut answer).expect("a packet");
            assert!(nat.translate_inward(&mut packet));
            let destination = packet.destination().expect("an endpoint");
            assert_eq!((destination.address, destination.port), (inside.ip(), inside.port()));
            assert!(checksums_hold(&answer));
        }
    }

    #[test]
    fn when_all_ports_are_taken_the_oldest_flow_is_forgotten() {
        let mut nat = nat();
        let outside = "203.0.113.1:4754".parse().expect("address");
        let mut port_of = |inside: u16| {
            let mut bytes = udp(([10, 101, 0, 2], inside).into(), outside, b"x");
            let mut packet = Packet::parse(&mut bytes).expect("a packet");
            assert!(nat.translate_outward(&mut packet));
            packet.source().expect("an endpoint").port
        };
        let first = port_of(1);
        (2..=PORTS_PER_GENERATION).for_each(|inside| assert_ne!(port_of(inside), first));
        assert_eq!(port_of(PORTS_PER_GENERATION + 1), first);
        assert_ne!(port_of(1), first);
    }

    #[test]
    fn an_echo_finds_its_way_back() {
        let mut nat = nat();
        let mut request = icmp_echo([10, 101, 0, 2], [203, 0, 113, 1], 8, 77);
        let mut packet = Packet::parse(&mut request).expect("a packet");
        assert!(nat.translate_outward(&mut packet));
        let public = packet.source().expect("an endpoint");
        assert!(checksums_hold(&request));
        let mut reply = icmp_echo([203, 0, 113, 1], [100, 64, 0, 1], 0, public.port);
        assert!(nat.translate_inward(&mut Packet::parse(&mut reply).expect("a packet")));
        assert_eq!((&reply[16..20], &reply[24..26]), (&[10, 101, 0, 2][..], &77_u16.to_be_bytes()[..]));
        assert!(checksums_hold(&reply));
    }

    #[test]
    fn after_a_rebinding_old_ports_lead_nowhere() {
        let (inside, outside) =
            ("10.101.0.2:5000".parse().expect("address"), "203.0.113.1:4754".parse().expect("address"));
        let mut nat = nat();
        let mut port = || {
            let mut bytes = udp(inside, outside, b"x");
            let mut packet = Packet::parse(&mut bytes).expect("a packet");
            assert!(nat.translate_outward(&mut packet));
            let port = packet.source().expect("an endpoint").port;
            nat.rebind();
            port
        };
        let (first, second) = (port(), port());
        assert_ne!(first, second);
        let mut late = udp(outside, ("100.64.0.1".parse::<IpAddr>().expect("address"), first).into(), b"y");
        assert!(!nat.translate_inward(&mut Packet::parse(&mut late).expect("a packet")));
    }
}
