//! The TAP's hardware address: the same at every start.
//!
//! Neighbours remember the address that an IP address has (ARP, neighbour discovery) for half a minute and longer. If
//! a restarted end came back with another one, all that is sent to it would go to the old one meanwhile.

use std::fs;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::config::InterfaceName;
use crate::proto::tunnel::Role;

/// What identifies this machine; see machine-id(5).
const MACHINE_ID: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// A locally administered unicast address (IEEE 802, the U/L bit set and the I/G bit clear) for this machine's `role`
/// and TAP; `None` on a machine that has no identity, where the kernel's random one must do.
pub fn of_this_machine(role: Role, tap: &InterfaceName) -> Option<[u8; 6]> {
    let machine = MACHINE_ID.iter().find_map(|path| fs::read_to_string(path).ok())?;
    let machine = machine.trim();
    (!machine.is_empty()).then(|| of(machine, role, tap))
}

fn of(machine: &str, role: Role, tap: &InterfaceName) -> [u8; 6] {
    // A machine's identity is not to be shown on a network, so machine-id(5) wants it hashed.
    let mut hasher = SipHasher13::new();
    for part in [machine, if role == Role::Box { "box" } else { "gateway" }, tap.as_str()] {
        hasher.write(part.as_bytes());
        hasher.write_u8(0);
    }
    let [mut first, rest @ ..] = hasher.finish().to_be_bytes();
    first = first & !1 | 2;
    [first, rest[0], rest[1], rest[2], rest[3], rest[4]]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tap(name: &str) -> InterfaceName {
        InterfaceName::new(name).expect("a name")
    }

    #[test]
    fn it_is_the_same_every_time_and_differs_by_machine_end_and_tap() {
        let one = of("0123", Role::Box, &tap("braid0"));
        assert_eq!(one, of("0123", Role::Box, &tap("braid0")));
        for other in [
            of("0124", Role::Box, &tap("braid0")),
            of("0123", Role::Gateway, &tap("braid0")),
            of("0123", Role::Box, &tap("braid1")),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn it_is_unicast_and_locally_administered() {
        for machine in 0..64 {
            assert_eq!(of(&machine.to_string(), Role::Gateway, &tap("braid0"))[0] & 3, 2);
        }
    }

    #[test]
    fn it_stays_what_it_is_from_one_version_to_the_next() {
        assert_eq!(of("0123", Role::Box, &tap("braid0")), [14, 9, 230, 220, 75, 82]);
    }
}
