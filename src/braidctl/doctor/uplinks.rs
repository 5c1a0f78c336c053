//! Uplinks, each by itself: from its interface to the gateway.

use std::io;
use std::net::IpAddr;

use std::net::SocketAddr;

use super::finding::Finding;
use super::ways;
use crate::config::{Cidr, TAP_MTU_MIN};
use crate::control::UplinkStatus;
use crate::io::examine::{Interface, Way};

/// The least that IPv6 takes of every link (RFC 8200 §5), in bytes.
const IPV6_MTU_MIN: u32 = 1280;

/// What is known of an uplink.
#[derive(Debug, Default)]
pub(super) struct UplinkFacts {
    pub(super) name: String,
    /// The interface that is asked for.
    pub(super) device: String,
    /// The address that is asked for, if one is.
    pub(super) source: Option<IpAddr>,
    /// The interface that there is.
    pub(super) interface: Option<Interface>,
    /// The gateway's addresses, as far as they are known.
    pub(super) gateways: Vec<IpAddr>,
    /// The way to it; none if it is not known where it is.
    pub(super) way: Option<io::Result<Way>>,
    /// What the kernel believes the way to carry, in bytes of IP packet.
    pub(super) way_mtu: Option<u32>,
    /// How strictly the kernel filters what comes by it: 0, 1 (strict) or 2 (loose). None over IPv6, which it does not filter so.
    pub(super) filter: Option<u8>,
    /// The interface by which the kernel would answer the gateway.
    pub(super) returns_by: Option<String>,
    /// What a packet of the TAP costs beside itself, in bytes.
    pub(super) overhead: u32,
    /// The TAP's MTU, as it is or is to be.
    pub(super) tap_mtu: Option<u32>,
    /// What the end that runs says of it.
    pub(super) running: Option<UplinkStatus>,
}

impl UplinkFacts {
    /// All that is to be said of it.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut findings = self.of_interface();
        if let Some(running) = &self.running {
            findings.push(state(running));
            findings.extend(translation(running));
        }
        findings.into_iter().map(|finding| finding.of(&self.name)).collect()
    }

    /// From the interface on, as far as it goes.
    fn of_interface(&self) -> Vec<Finding> {
        let Self { device, .. } = self;
        let interface = match &self.interface {
            None => {
                let found = format!("there is no '{device}'");
                return vec![Finding::fail("interface", found, "plug it in, or check the name with 'ip link'")];
            }
            Some(interface) if !interface.is_up => {
                let advice = format!("'ip link set dev {device} up', or have what manages your networks do so");
                return vec![Finding::fail("interface", format!("'{device}' is set down"), advice)];
            }
            Some(interface) if !interface.has_carrier => {
                let advice = "check the cable, or that the modem is connected, or the wireless network joined";
                return vec![Finding::fail("interface", format!("'{device}' has no carrier"), advice)];
            }
            Some(interface) => interface,
        };
        let mut findings = vec![Finding::ok("interface", format!("'{device}' is up, with a carrier"))];
        let address = self.address(interface);
        let has_address = address.advice.is_none();
        findings.push(address);
        match &self.way {
            Some(Ok(way)) if has_address => {
                findings.push(self.route(interface, way));
                findings.push(self.interface_mtu(interface));
                findings.extend(self.path_mtu());
                findings.extend(ways::reverse_path(device, self.filter, self.returns_by.as_deref()));
            }
            Some(Err(error)) if has_address => findings.push(self.no_route(error)),
            _ => findings.push(self.interface_mtu(interface)),
        }
        findings
    }

    fn address(&self, interface: &Interface) -> Finding {
        let has = |is_meant: &dyn Fn(&Cidr) -> bool| {
            let meant = interface.addresses.iter().filter(|cidr| is_meant(cidr));
            meant.map(|cidr| cidr.address.to_string()).collect::<Vec<_>>().join(", ")
        };
        let (all, usable) = (has(&|_| true), has(&|cidr| self.leads_to_gateway(cidr.address)));
        let is_only_local = interface.addresses.iter().all(|cidr| is_link_local(cidr.address));
        match (self.source, self.gateways.as_slice()) {
            (Some(source), _) if interface.addresses.iter().any(|cidr| cidr.address == source) => {
                Finding::ok("address", format!("{source}, as asked for"))
            }
            (Some(source), _) => {
                let found = format!("it does not have {source}, which is asked for (source), but '{all}'");
                Finding::fail("address", found, "give it that address, or leave 'source' out")
            }
            _ if !usable.is_empty() => Finding::ok("address", usable),
            (None, [gateway, ..]) if !is_only_local => {
                let family = if gateway.is_ipv4() { "IPv4" } else { "IPv6" };
                let found = format!("it has {all}, and the gateway is {gateway}");
                Finding::fail("address", found, format!("it needs an {family} address, as DHCP or the modem brings it"))
            }
            _ => {
                let but = if all.is_empty() { all } else { format!(" but {all}, which leads nowhere else") };
                let give = format!("'ip address add ADDRESS/LENGTH dev {}'", self.device);
                Finding::fail(
                    "address",
                    format!("it has none{but}"),
                    format!("have DHCP or the modem bring one, or {give}"),
                )
            }
        }
    }

    /// Whether datagrams from this address of an interface could reach the gateway, by what they look like.
    fn leads_to_gateway(&self, address: IpAddr) -> bool {
        let fits = |gateway: &IpAddr| {
            address.is_ipv4() == gateway.is_ipv4() && (!is_link_local(address) || is_link_local(*gateway))
        };
        if self.gateways.is_empty() { !is_link_local(address) } else { self.gateways.iter().any(fits) }
    }

    /// The kernel may choose the address of another interface, if the route by this one says so, or it has none that fits.
    fn route(&self, interface: &Interface, way: &Way) -> Finding {
        let (gateway, local) = (way.gateway.ip(), way.local);
        if interface.addresses.iter().any(|cidr| cidr.address == local) {
            return Finding::ok("route", format!("{gateway}, from {local}"));
        }
        Finding::warn(
            "route",
            format!(
                "{gateway}, but from {local}, which is not an address of '{}': answers may go elsewhere",
                self.device
            ),
            "have the route by it say its own address ('ip route change ... src ADDRESS'), or name it (source)",
        )
    }

    fn no_route(&self, error: &io::Error) -> Finding {
        let gateways: Vec<String> = self.gateways.iter().map(ToString::to_string).collect();
        let gateways = gateways.join(" or ");
        let (found, advice) = match error.raw_os_error() {
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => (
                format!("there is no route to {gateways} by it"),
                format!(
                    "it needs one, with any metric, as DHCP brings it: 'ip route add default via ROUTER dev {} metric 500'",
                    self.device
                ),
            ),
            Some(libc::EPERM | libc::EACCES) => (
                format!("{gateways} cannot be sent to by it: {error}"),
                "a sandbox, a BPF program, a security policy or a 'prohibit' route forbids it".to_owned(),
            ),
            Some(libc::EAFNOSUPPORT) => (
                format!("{gateways} cannot be sent to by it: {error}"),
                "this kernel does not have that address family, or 'source' is of another one".to_owned(),
            ),
            _ => (
                format!("{gateways} cannot be sent to by it: {error}"),
                format!("see 'ip route get {gateways} oif {}'", self.device),
            ),
        };
        Finding::fail("route", found, advice)
    }

    fn interface_mtu(&self, interface: &Interface) -> Finding {
        let (mtu, overhead) = (interface.mtu, self.overhead);
        let left = mtu.saturating_sub(overhead);
        if left < u32::from(TAP_MTU_MIN) {
            let advice =
                format!("set it to 1500 if the network takes that: 'ip link set dev {} mtu 1500'", self.device);
            return Finding::fail("MTU", format!("{mtu} bytes, of which the tunnel itself takes {overhead}"), advice);
        }
        if let Some(tap_mtu) = self.tap_mtu.filter(|tap_mtu| left < *tap_mtu) {
            return Finding::fail(
                "MTU",
                format!("{mtu} bytes, and packets of the TAP have up to {tap_mtu} + {overhead}: longer ones are lost"),
                format!("leave 'mtu' out, or set it to {left} or less at either end"),
            );
        }
        if left < IPV6_MTU_MIN {
            return Finding::warn(
                "MTU",
                format!(
                    "{mtu} bytes, which leaves {left} to the TAP: IPv6 needs {IPV6_MTU_MIN}, and all uplinks follow the smallest"
                ),
                format!("if the network takes more: 'ip link set dev {} mtu 1500'", self.device),
            );
        }
        Finding::ok("MTU", format!("{mtu} bytes, which leaves {left} to the TAP"))
    }

    /// Of the path beyond the interface, by what is known of it.
    fn path_mtu(&self) -> Option<Finding> {
        let by_end = self.running.as_ref().and_then(|running| running.path_mtu).map(u32::from);
        let known = [(self.way_mtu, "the kernel"), (by_end, "the end that runs")];
        let known = known.into_iter().filter_map(|(mtu, who)| Some((mtu?, who)));
        let (mtu, who) = known.min_by_key(|(mtu, _)| *mtu)?;
        let left = mtu.saturating_sub(self.overhead);
        Some(match self.tap_mtu {
            Some(tap_mtu) if left < tap_mtu => Finding::warn(
                "path MTU",
                format!(
                    "{mtu} bytes, as {who} knows, and packets of the TAP have up to {tap_mtu} + {}: longer ones are lost",
                    self.overhead
                ),
                format!("set 'mtu' to {left} or less at either end"),
            ),
            _ => Finding::ok("path MTU", format!("{mtu} bytes, as {who} knows")),
        })
    }
}

/// Whether it is good on its own network only (RFC 4291 §2.5.6).
const fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// How it does, as the end that runs sees it.
fn state(running: &UplinkStatus) -> Finding {
    let found = format!("{} for {:.0} s", running.state, running.state_for_s);
    match running.state.as_str() {
        "up" => Finding::ok("state", found),
        "down" => Finding::fail(
            "state",
            found,
            "if all else of it is well, the network behind it has failed, or drops UDP to the gateway: 'braidctl top' shows when \
             it is heard",
        ),
        _ => Finding::warn("state", found, "it has just failed, or come back: if it stays so, its network loses much"),
    }
}

/// Whether addresses are translated on its way.
fn translation(running: &UplinkStatus) -> Option<Finding> {
    let (local, seen_as) = (running.local.as_deref()?, running.seen_as.as_deref()?);
    // There the port is told, too, which a NAT may keep.
    let is_seen_as_it_is = seen_as.parse::<SocketAddr>().is_ok_and(|seen| Ok(seen.ip()) == local.parse());
    Some(if is_seen_as_it_is {
        Finding::ok("NAT", format!("none: the gateway sees {seen_as}, too"))
    } else {
        Finding::ok("NAT", format!("one, which is as good: {local} here, {seen_as} as the gateway sees it"))
    })
}

#[cfg(test)]
mod tests;
