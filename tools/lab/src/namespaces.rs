//! The lab's network: namespaces and what joins them, made and removed with ip(8).

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use rustix::process::{Pid, Signal, kill_process};

use crate::addresses::{Addresses, GATEWAY, TUNNEL_BOX};
use crate::emulator::TUN;
use crate::scenario::{Scenario, Uplink};

/// The box's namespace.
pub const BOX: &str = "braid-box";
/// The gateway's namespace.
pub const GATEWAY_NAMESPACE: &str = "braid-gw";
/// What the names of the providers' namespaces begin with.
const PROVIDER_PREFIX: &str = "braid-isp-";
/// The routing table that leads into the emulator.
const TABLE: &str = "100";
/// A route's metric that any other is preferred to.
const METRIC_LAST: u32 = 1_000_000;

/// The namespace of an uplink's provider.
#[must_use]
pub fn provider(uplink: &str) -> String {
    format!("{PROVIDER_PREFIX}{uplink}")
}

/// Makes the namespaces and interfaces of a scenario. The emulators are yet to come.
///
/// # Errors
/// Which command failed, and how.
pub fn create(scenario: &Scenario) -> Result<(), String> {
    for namespace in [BOX, GATEWAY_NAMESPACE] {
        create_namespace(namespace)?;
    }
    for address in GATEWAY {
        ip(&format!("-n {GATEWAY_NAMESPACE} addr add {address} dev lo{}", nodad(address)))?;
    }
    scenario.uplinks.iter().enumerate().try_for_each(|(index, uplink)| create_uplink(uplink, index))
}

/// Makes an empty namespace, in which packets may come by any interface.
///
/// # Errors
/// Which command failed, and how.
pub fn create_namespace(name: &str) -> Result<(), String> {
    ip(&format!("netns add {name}"))?;
    ip(&format!("-n {name} link set lo up"))?;
    // Strict reverse-path filtering would drop what comes by another uplink than the best route.
    for setting in ["ipv4.conf.all.rp_filter=0", "ipv4.conf.default.rp_filter=0", "ipv6.conf.default.accept_dad=0"] {
        sysctl(name, setting)?;
    }
    Ok(())
}

fn create_uplink(uplink: &Uplink, index: usize) -> Result<(), String> {
    let (name, provider) = (uplink.name.as_str(), provider(&uplink.name));
    create_namespace(&provider)?;
    sysctl(&provider, "ipv4.ip_forward=1")?;
    sysctl(&provider, "ipv6.conf.all.forwarding=1")?;
    // First, so that the provider's end has a lower number than all but the first of the box's: of two ends with the same
    // number the kernel takes its time to tell that a carrier is lost (linkwatch_urgent_event).
    add_interface(uplink, index)?;
    join((&provider, "gw"), (GATEWAY_NAMESPACE, name), uplink.mtu)?;
    let addresses = Addresses::of(index);
    for family in 0..2 {
        add_address(&provider, "gw", addresses.provider_to_gateway[family])?;
        add_address(GATEWAY_NAMESPACE, name, addresses.gateway_end[family])?;
        add_routes(&provider, index, family)?;
    }
    Ok(())
}

/// Makes the interface by which the box has this uplink, with its addresses and the routes by it: what a modem does that
/// is plugged in. The rules that lead from it into the emulator, if there are some, take it up by its name.
///
/// # Errors
/// Which command failed, and how.
pub fn add_interface(uplink: &Uplink, index: usize) -> Result<(), String> {
    let (name, provider) = (uplink.name.as_str(), provider(&uplink.name));
    join((BOX, name), (&provider, "box"), uplink.mtu)?;
    let addresses = Addresses::of(index);
    for family in 0..2 {
        add_address(BOX, name, addresses.box_end[family])?;
        add_address(&provider, "box", addresses.provider_to_box[family])?;
        add_box_route(name, index, family)?;
    }
    Ok(())
}

/// Removes the interface by which the box has this uplink, as when a modem is pulled out.
///
/// # Errors
/// Which command failed, and how.
pub fn remove_interface(uplink: &str) -> Result<(), String> {
    ip(&format!("-n {BOX} link del dev {uplink}"))
}

/// Has what goes into the tunnel's network refused while a namespace has no TAP that is up, instead of sent by an uplink.
///
/// # Errors
/// Which command failed, and how.
pub fn refuse_tunnel_network() -> Result<(), String> {
    let network = network_of(TUNNEL_BOX.into());
    [BOX, GATEWAY_NAMESPACE].iter().try_for_each(|namespace| {
        ip(&format!("-n {namespace} route add unreachable {network}/24 metric {METRIC_LAST}"))
    })
}

/// Sets an interface up or down.
///
/// # Errors
/// Which command failed, and how.
pub fn set_up(namespace: &str, device: &str, up: bool) -> Result<(), String> {
    ip(&format!("-n {namespace} link set dev {device} {}", if up { "up" } else { "down" }))
}

fn add_address(namespace: &str, device: &str, address: IpAddr) -> Result<(), String> {
    let length = if address.is_ipv4() { 24 } else { 64 };
    ip(&format!("-n {namespace} addr add {address}/{length} dev {device}{}", nodad(address)))
}

fn add_routes(provider: &str, index: usize, family: usize) -> Result<(), String> {
    let addresses = Addresses::of(index);
    let length = if family == 0 { 24 } else { 64 };
    ip(&format!("-n {provider} route add {} via {}", GATEWAY[family], addresses.gateway_end[family]))?;
    for network in [addresses.box_end[family], addresses.public[family]] {
        let via = addresses.provider_to_gateway[family];
        ip(&format!("-n {GATEWAY_NAMESPACE} route add {}/{length} via {via}", network_of(network)))?;
    }
    Ok(())
}

fn add_box_route(name: &str, index: usize, family: usize) -> Result<(), String> {
    let addresses = Addresses::of(index);
    let (via, length) = (addresses.provider_to_box[family], if family == 0 { 24 } else { 64 });
    let add = |to: &str| ip(&format!("-n {BOX} -{} route replace {to} via {via} dev {name}", [4, 6][family]));
    // By this uplink alone, for a program that does not bind its sockets to interfaces.
    add(&format!("{}/{length}", network_of(addresses.gateway_end[family])))?;
    // A metric each, so that there can be several; a socket bound to an interface finds its own.
    add(&format!("default metric {}", 100 + index))
}

/// Leads all that is forwarded through the emulator, once its TUN is there.
///
/// # Errors
/// Which command failed, and how.
pub fn route_through_emulator(uplink: &str) -> Result<(), String> {
    let provider = provider(uplink);
    ip(&format!("-n {provider} link set {TUN} up"))?;
    for family in ["-4", "-6"] {
        ip(&format!("-n {provider} {family} route add default dev {TUN} table {TABLE}"))?;
        for device in ["box", "gw"] {
            ip(&format!("-n {provider} {family} rule add iif {device} lookup {TABLE}"))?;
        }
    }
    Ok(())
}

/// Takes the carrier from the box's interface, or gives it back.
///
/// # Errors
/// Which command failed, and how.
pub fn set_carrier(uplink: &str, index: usize, up: bool) -> Result<(), String> {
    let provider = provider(uplink);
    set_up(&provider, "box", up)?;
    if up {
        // The kernel forgets an interface's IPv6 addresses when it is set down.
        let address = Addresses::of(index).provider_to_box[1];
        ip(&format!("-n {provider} addr replace {address}/64 dev box nodad"))?;
    }
    Ok(())
}

/// Removes every namespace of the lab, whoever made it.
///
/// # Errors
/// Which command failed, and how.
pub fn remove_all() -> Result<(), String> {
    existing()?.iter().try_for_each(|name| ip(&format!("netns del {name}")))
}

/// The lab's namespaces that there are, whoever made them.
///
/// # Errors
/// Which command failed, and how.
pub fn existing() -> Result<Vec<String>, String> {
    let is_ours = |name: &String| *name == BOX || *name == GATEWAY_NAMESPACE || name.starts_with(PROVIDER_PREFIX);
    Ok(all()?.into_iter().filter(is_ours).collect())
}

/// The namespaces that there are, the lab's and others'.
///
/// # Errors
/// Which command failed, and how.
pub fn all() -> Result<Vec<String>, String> {
    let listed = output("ip", &["netns", "list"])?;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    Ok(text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

/// Ends every process in a namespace.
pub fn end_all_in(namespace: &str) {
    let listed = Command::new("ip").args(["netns", "pids", namespace]).output();
    let text = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let pids = text.lines().filter_map(|line| line.trim().parse().ok().and_then(Pid::from_raw));
    for pid in pids {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// What is in a namespace that should not be when the end in it has stopped: its TAP, a UDP socket, a process.
#[must_use]
pub fn leftovers(namespace: &str, tap: &str) -> Vec<String> {
    let ask = |arguments: &[&str]| {
        output("ip", arguments).map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
    };
    let mut left = vec![];
    if ask(&["-n", namespace, "-o", "link"]).contains(&format!(" {tap}: ")) {
        left.push(format!("the TAP '{tap}' is left in {namespace}"));
    }
    // A line of heads each, and then one for each socket.
    let sockets = ask(&["netns", "exec", namespace, "cat", "/proc/net/udp", "/proc/net/udp6"]).lines().count();
    if sockets != 2 {
        left.push(format!("{} UDP sockets are left in {namespace}", sockets.saturating_sub(2)));
    }
    let processes = ask(&["netns", "pids", namespace]);
    if !processes.trim().is_empty() {
        left.push(format!(
            "processes are left in {namespace}: {}",
            processes.split_whitespace().collect::<Vec<_>>().join(" ")
        ));
    }
    left
}

/// Whether this process is in one of the lab's namespaces.
///
/// # Errors
/// What cannot be found out.
pub fn is_inside() -> Result<bool, String> {
    // Each namespace is a file of its own (namespaces(7)), to which ip(8) gives a name.
    let identity = |path: &str| std::fs::metadata(path).map(|file| (file.dev(), file.ino()));
    let own = identity("/proc/self/ns/net").map_err(|error| format!("cannot look at /proc/self/ns/net: {error}"))?;
    Ok(existing()?.iter().any(|name| identity(&format!("/run/netns/{name}")).is_ok_and(|named| named == own)))
}

/// A command that will run in a namespace, and that ends when this process does, however that ends (setpriv(1) sets
/// PR_SET_PDEATHSIG, which lasts through the exec of ip(8) and of the program). It has a process group of its own:
/// Ctrl-C is for the lab, which then ends the rest in order.
#[must_use]
pub fn command_in(namespace: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "ip", "netns", "exec", namespace]).arg(program).process_group(0);
    command
}

/// [`command_in`] ahead of all ordinary processes (chrt(1), SCHED_FIFO), where the kernel allows it: for what stands
/// for the world outside, which does not wait for a CPU.
#[must_use]
pub fn prompt_command_in(namespace: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    const CHRT: [&str; 3] = ["chrt", "--fifo", "1"];
    static IS_ALLOWED: LazyLock<bool> = LazyLock::new(|| {
        let tried = Command::new(CHRT[0]).args(&CHRT[1..]).arg("true").stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    });
    if !*IS_ALLOWED {
        return command_in(namespace, program);
    }
    let mut command = command_in(namespace, CHRT[0]);
    command.args(&CHRT[1..]).arg(program);
    command
}

/// Joins two namespaces by a pair of interfaces, which are set up: for each end its namespace and its interface's name.
///
/// # Errors
/// Which command failed, and how.
pub fn join(one: (&str, &str), other: (&str, &str), mtu: u16) -> Result<(), String> {
    ip(&format!(
        "link add name {} netns {} mtu {mtu} type veth peer name {} netns {} mtu {mtu}",
        one.1, one.0, other.1, other.0
    ))?;
    for (namespace, device) in [one, other] {
        ip(&format!("-n {namespace} link set dev {device} up"))?;
    }
    Ok(())
}

const fn nodad(address: IpAddr) -> &'static str {
    if address.is_ipv6() { " nodad" } else { "" }
}

fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            [a, b, c, 0].into()
        }
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            [a, b, c, d, 0, 0, 0, 0].into()
        }
    }
}

/// Sets what is called `net.` and so on in a namespace, such as `ipv4.ip_forward=1`.
///
/// # Errors
/// Which command failed, and how.
pub fn sysctl(namespace: &str, setting: &str) -> Result<(), String> {
    checked("ip", &["netns", "exec", namespace, "sysctl", "-qw", &format!("net.{setting}")])
}

/// Runs ip(8) with these words.
///
/// # Errors
/// What it says.
pub fn ip(words: &str) -> Result<(), String> {
    checked("ip", &words.split_whitespace().collect::<Vec<_>>())
}

fn checked(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = output(program, arguments)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(format!("'{program} {}' failed: {said}", arguments.join(" ")))
}

fn output(program: &str, arguments: &[&str]) -> Result<Output, String> {
    Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("cannot run '{program}' ({error}): install iproute2 and procps"))
}
