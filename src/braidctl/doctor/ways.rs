//! Uplinks beside one another: what one has to do with the way of another.

use std::net::IpAddr;

use super::finding::Finding;
use super::uplinks::UplinkFacts;
use crate::config::Cidr;

/// `rp_filter`, strict.
const STRICT: u8 = 1;

/// Whether the kernel lets in what comes from the gateway by this interface.
///
/// The filter stands before the sockets, so it does not help that ours is bound to the interface: a packet from the gateway
/// is dropped if the kernel, by its routes and rules and without regard to any socket, would answer it by another interface.
/// With several default routes that is so for all uplinks but the one of the lowest metric.
pub(super) fn reverse_path(device: &str, filter: Option<u8>, returns_by: Option<&str>) -> Option<Finding> {
    let by_other = returns_by.filter(|other| *other != device);
    Some(match (filter?, by_other) {
        (STRICT, Some(other)) => Finding::fail(
            "reverse path",
            format!(
                "rp_filter is strict, and the kernel would answer by '{other}': what the gateway sends by this one is dropped"
            ),
            format!("'sysctl -w net.ipv4.conf.{device}.rp_filter=2' (loose)"),
        ),
        (STRICT, None) => {
            Finding::ok("reverse path", "rp_filter is strict, and the kernel would answer by this one, too")
        }
        (0, _) => Finding::ok("reverse path", "not filtered"),
        _ => Finding::ok("reverse path", "rp_filter is loose"),
    })
}

/// Whether uplinks fail each by itself.
pub(super) fn apart(uplinks: &[UplinkFacts]) -> Vec<Finding> {
    let mut findings = vec![];
    for (index, one) in uplinks.iter().enumerate() {
        findings.extend(uplinks[..index].iter().find_map(|other| in_common(one, other)));
    }
    if findings.is_empty() && uplinks.len() > 1 {
        findings.push(Finding::ok("uplinks apart", "each has an interface and a network of its own"));
    }
    findings
}

fn in_common(one: &UplinkFacts, other: &UplinkFacts) -> Option<Finding> {
    let names = format!("{} and {}", other.name, one.name);
    if one.device == other.device {
        return Some(Finding::warn(
            "uplinks apart",
            format!("{names} both go by '{}', and fail together", one.device),
            "give each an interface of its own, or leave one out",
        ));
    }
    let network = network(one).filter(|network| contains(*network, self::network(other)))?;
    Some(Finding::warn(
        "uplinks apart",
        format!("{names} are both in {}/{}", network.address, network.prefix_length),
        "if that is one router, they share its line and fail together; if there are two, give one of them another network",
    ))
}

/// The network that an uplink sends from; none where there is nobody else in it, as on a point-to-point link.
fn network(uplink: &UplinkFacts) -> Option<Cidr> {
    let way = uplink.way.as_ref()?.as_ref().ok()?;
    let own = uplink.interface.as_ref()?.addresses.iter().find(|cidr| cidr.address == way.local)?;
    let is_shared = own.prefix_length < if own.address.is_ipv4() { 31 } else { 127 };
    is_shared.then(|| Cidr { address: masked(own.address, own.prefix_length), ..*own })
}

fn contains(network: Cidr, other: Option<Cidr>) -> bool {
    other.is_some_and(|other| {
        other.address.is_ipv4() == network.address.is_ipv4()
            && masked(other.address, network.prefix_length.min(other.prefix_length))
                == masked(network.address, network.prefix_length.min(other.prefix_length))
    })
}

fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::{Verdict, assert_says};
    use super::*;
    use crate::io::examine::{Interface, Way};

    fn uplink(name: &str, device: &str, address: &str, prefix_length: u8) -> UplinkFacts {
        let address: IpAddr = address.parse().expect("an address");
        let gateway = "203.0.113.1:4754".parse().expect("an address");
        UplinkFacts {
            name: name.to_owned(),
            device: device.to_owned(),
            interface: Some(Interface { addresses: vec![Cidr { address, prefix_length }], ..Interface::default() }),
            way: Some(Ok(Way { local: address, gateway })),
            ..UplinkFacts::default()
        }
    }

    #[test]
    fn a_strict_filter_drops_what_would_be_answered_by_another_interface() {
        assert_eq!(reverse_path("b", None, Some("a")), None, "IPv6 has none");
        for (filter, returns_by, verdict, word) in [
            (0, "a", Verdict::Ok, "not filtered"),
            (1, "b", Verdict::Ok, "too"),
            (1, "a", Verdict::Fail, "net.ipv4.conf.b.rp_filter=2"),
            (2, "a", Verdict::Ok, "loose"),
        ] {
            let found = reverse_path("b", Some(filter), Some(returns_by)).expect("IPv4 has one");
            assert_says(&found, "reverse path", verdict, &[word]);
        }
    }

    #[test]
    fn uplinks_of_one_interface_or_network_are_told() {
        let (a, b) = (|| uplink("dsl", "a", "192.168.8.2", 24), || uplink("lte", "b", "192.168.9.2", 24));
        assert_says(&apart(&[a(), b()])[0], "uplinks apart", Verdict::Ok, &["of its own"]);
        assert_eq!(apart(&[a()]), [], "one is alone");
        let same = apart(&[a(), b(), uplink("two", "a", "192.168.8.3", 24)]);
        assert_eq!(same.len(), 1);
        assert_says(&same[0], "uplinks apart", Verdict::Warn, &["dsl and two", "'a'"]);
        let near = apart(&[a(), uplink("lte", "b", "192.168.8.100", 25)]);
        assert_says(&near[0], "uplinks apart", Verdict::Warn, &["192.168.8.0/25", "one router"]);
        let point_to_point = |device: &str| uplink(device, device, "10.64.64.64", 32);
        assert_says(&apart(&[point_to_point("c"), point_to_point("d")])[0], "uplinks apart", Verdict::Ok, &[]);
    }
}
