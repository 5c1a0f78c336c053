//! The two ends: whether they are there for one another.

use std::io;
use std::net::SocketAddr;

use super::finding::Finding;
use crate::config::HostPort;
use crate::control::Status;
use crate::io::examine::Holder;

/// What a gateway's process is called.
const GATEWAY_PROGRAM: &str = "braid-gateway";

/// Whether the gateway's name is known.
pub(super) fn gateway_name(gateway: &HostPort, resolved: &io::Result<Vec<SocketAddr>>) -> Finding {
    let is_address = gateway.host.parse::<std::net::IpAddr>().is_ok();
    match resolved {
        Ok(_) if is_address => Finding::ok("gateway name", format!("{gateway} is an address")),
        Ok(addresses) if !addresses.is_empty() => {
            let addresses: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
            Finding::ok("gateway name", format!("{gateway} is {}", addresses.join(" and ")))
        }
        Ok(_) => Finding::fail("gateway name", format!("{gateway} has no address"), ADVICE),
        Err(error) => Finding::fail("gateway name", format!("{gateway} is not found: {error}"), ADVICE),
    }
}

const ADVICE: &str = "check the name, and the name servers in /etc/resolv.conf; or give the gateway's address";

/// Whether the other end of a tunnel that runs is heard.
pub(super) fn peer(tunnel: &Status) -> Finding {
    let is_box = tunnel.process.program != GATEWAY_PROGRAM;
    let (other, tap) = (if is_box { "gateway" } else { "box" }, &tunnel.tap);
    if tunnel.peer.is_heard {
        return Finding::ok("other end", format!("{tap}: the {other} is heard"));
    }
    let found = format!("{tap}: the {other} is not heard by any uplink");
    if !is_box {
        return Finding::warn("other end", found, "does the box run, and with this gateway's address and public key?");
    }
    Finding::fail(
        "other end",
        found,
        "does the gateway run, with this box's public key as its peer's, and does no firewall drop UDP to its port?",
    )
}

/// Whether a gateway can have its port.
pub(super) fn listen(address: SocketAddr, tried: &io::Result<()>, holder: Option<&Holder>) -> Finding {
    let Err(error) = tried else { return Finding::ok("listen", format!("{address} is free")) };
    let found = format!("cannot listen on {address}: {error}");
    match (error.raw_os_error(), holder) {
        (Some(libc::EADDRINUSE), Some(Holder { pid, name })) if name == GATEWAY_PROGRAM => {
            Finding::ok("listen", format!("{name} (process {pid}) listens on {address}"))
        }
        (Some(libc::EADDRINUSE), Some(Holder { pid, name })) => Finding::fail(
            "listen",
            format!("{name} (process {pid}) listens on {address}"),
            "stop it, or choose another port (listen), which the boxes have to be told",
        ),
        (Some(libc::EADDRINUSE), None) => Finding::fail(
            "listen",
            found,
            "another process has it ('ss -ulpn' as root tells which): stop it, or choose another port (listen)",
        ),
        (Some(libc::EADDRNOTAVAIL), _) => Finding::fail(
            "listen",
            found,
            "no interface has that address: use one of 'ip address', or 0.0.0.0 or [::] for all",
        ),
        (Some(libc::EACCES | libc::EPERM), _) => Finding::fail(
            "listen",
            found,
            "ports below 1024 take CAP_NET_BIND_SERVICE: choose a higher one, such as 4754",
        ),
        _ => Finding::fail("listen", found, "see udp(7)"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::{Verdict, assert_says};
    use super::*;
    use crate::control::{Peer, Process};

    fn os_error<T>(errno: i32) -> io::Result<T> {
        Err(io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn a_name_is_as_good_as_its_addresses() {
        let named = HostPort { host: "gw.example".to_owned(), port: 4754 };
        let address: SocketAddr = "203.0.113.1:4754".parse().expect("an address");
        let found = gateway_name(&named, &Ok(vec![address]));
        assert_says(&found, "gateway name", Verdict::Ok, &["gw.example:4754 is 203.0.113.1"]);
        assert_says(&gateway_name(&named, &Ok(vec![])), "gateway name", Verdict::Fail, &["no address"]);
        let unknown = gateway_name(&named, &Err(io::Error::other("Name or service not known")));
        assert_says(&unknown, "gateway name", Verdict::Fail, &["not known", "/etc/resolv.conf"]);
        let numeric = HostPort { host: "203.0.113.1".to_owned(), port: 4754 };
        assert_says(&gateway_name(&numeric, &Ok(vec![address])), "gateway name", Verdict::Ok, &["is an address"]);
    }

    #[test]
    fn an_end_that_hears_nobody_is_told_what_that_may_be() {
        let tunnel = |program: &str, is_heard| Status {
            process: Process { program: program.to_owned(), ..Process::default() },
            tap: "braid0".to_owned(),
            peer: Peer { is_heard, ..Peer::default() },
            ..Status::default()
        };
        assert_says(&peer(&tunnel("braid-box", true)), "other end", Verdict::Ok, &["braid0", "gateway"]);
        assert_says(&peer(&tunnel("braid-box", false)), "other end", Verdict::Fail, &["firewall", "public key"]);
        assert_says(&peer(&tunnel("braid-gateway", false)), "other end", Verdict::Warn, &["does the box run"]);
    }

    #[test]
    fn a_port_that_is_taken_is_told_with_who_has_it() {
        let address: SocketAddr = "0.0.0.0:4754".parse().expect("an address");
        let holder = |name: &str| Holder { pid: 77, name: name.to_owned() };
        assert_says(&listen(address, &Ok(()), None), "listen", Verdict::Ok, &["0.0.0.0:4754"]);
        let taken = listen(address, &os_error(libc::EADDRINUSE), Some(&holder("dnsmasq")));
        assert_says(&taken, "listen", Verdict::Fail, &["dnsmasq (process 77)", "stop it"]);
        let unseen = listen(address, &os_error(libc::EADDRINUSE), None);
        assert_says(&unseen, "listen", Verdict::Fail, &["ss -ulpn"]);
        let ours = listen(address, &os_error(libc::EADDRINUSE), Some(&holder("braid-gateway")));
        assert_says(&ours, "listen", Verdict::Ok, &["process 77"]);
        assert_says(&listen(address, &os_error(libc::EADDRNOTAVAIL), None), "listen", Verdict::Fail, &["ip address"]);
        assert_says(
            &listen(address, &os_error(libc::EACCES), None),
            "listen",
            Verdict::Fail,
            &["CAP_NET_BIND_SERVICE"],
        );
    }
}
