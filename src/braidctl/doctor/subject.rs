//! Who is examined: what a configuration file asks for, and the end that runs here, if one does.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::finding::Finding;
use super::uplinks::UplinkFacts;
use super::{ends, files, ways};
use crate::braidctl::{EndArguments, status};
use crate::cli::keys::KeyFile;
use crate::cli::{ReadFiles, Request, SystemFiles, parse_box_with, parse_gateway_with};
use crate::config::{
    BoxConfig, BoxSecurity, GatewayConfig, HostPort, InterfaceName, Mtu, ProcessConfig, SOCKET_FOLDER, UplinkConfig,
};
use crate::control::{Status, UplinkStatus};
use crate::io::examine::{self, Interface};
use crate::proto::session::keys::{KEY_LENGTH, PrivateKey};
use crate::proto::uplink::{Limits, UplinkName};

const BOX: &str = "braid-box";
const GATEWAY: &str = "braid-gateway";
/// Keys of a configuration that only a gateway has.
const GATEWAY_KEYS: [&str; 3] = ["listen", "box", "share"];

/// What a configuration file asks for.
enum Configured {
    Box(Box<BoxConfig>),
    Gateway(Box<GatewayConfig>),
}

/// Who is examined.
#[derive(Default)]
pub(super) struct Subject {
    configured: Option<Configured>,
    /// The tunnels of the end that runs.
    running: Vec<Status>,
    /// What was found on the way here.
    found: Vec<Finding>,
}

impl Subject {
    /// Whoever there is.
    pub(super) fn find(end: &EndArguments, config: Option<&Path>) -> Self {
        let mut subject = Self::default();
        if let Some(path) = config {
            subject.read(path);
        }
        subject.ask(end);
        subject
    }

    /// The CPU that the end is to have to itself.
    pub(super) fn pinned_to(&self) -> Option<usize> {
        self.process()?.cpu
    }

    fn process(&self) -> Option<&ProcessConfig> {
        Some(match self.configured.as_ref()? {
            Configured::Box(config) => &config.process,
            Configured::Gateway(config) => &config.process,
        })
    }

    /// The socket of the end that is meant: the one that is named, or configured, or there, in this order.
    fn socket(&self, named: Option<&Path>) -> Option<PathBuf> {
        let configured = self.process().map(|process| process.control.as_ref().map(|control| control.path.clone()));
        match (named, configured) {
            (Some(named), _) => Some(named.to_owned()),
            (None, Some(configured)) => configured.filter(|path| path.exists()),
            (None, None) => has_sockets(Path::new(SOCKET_FOLDER)).then(PathBuf::new),
        }
    }

    fn read(&mut self, path: &Path) {
        let shown = path.display();
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                let found = format!("{shown} cannot be read: {error}");
                self.found.push(Finding::fail("configuration", found, "check the name, and who may read it"));
                return;
            }
        };
        let program = program_of(&text);
        let files = Believing::default();
        let arguments = vec![program.into(), "--config".into(), path.into()];
        let parsed = if program == BOX {
            parse_box_with(arguments, &files)
                .map(|request| run(request).map(|config| Configured::Box(Box::new(config))))
        } else {
            parse_gateway_with(arguments, &files)
                .map(|request| run(request).map(|config| Configured::Gateway(Box::new(config))))
        };
        self.found.push(match parsed {
            Ok(configured) => {
                self.configured = configured;
                Finding::ok("configuration", format!("{shown} is one of {program}"))
            }
            Err(error) => {
                let advice = format!("mend it: '{program} --help' tells what there is");
                Finding::fail("configuration", format!("{shown}, of {program}: {error}"), advice)
            }
        });
        self.found.extend(files.found.into_inner());
    }

    fn ask(&mut self, end: &EndArguments) {
        let Some(socket) = self.socket(end.control.as_deref()) else {
            self.found.push(Finding::ok("running end", "none here"));
            return;
        };
        let control = Some(socket).filter(|path| !path.as_os_str().is_empty());
        let end = EndArguments { control, tap: end.tap.clone() };
        self.found.push(match end.connect().and_then(|mut client| status::fetch(&mut client)) {
            Ok(tunnels) => {
                let process = tunnels
                    .first()
                    .map(|tunnel| format!("{} (process {})", tunnel.process.program, tunnel.process.pid));
                self.running = tunnels;
                Finding::ok("running end", process.unwrap_or_default())
            }
            Err(error) => Finding::warn(
                "running end",
                error,
                "what it could tell is missing here: start it, run this as root, or name its socket by --control",
            ),
        });
    }

    /// All that is to be said of it.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut findings = self.found.clone();
        findings.extend(self.control());
        match &self.configured {
            Some(Configured::Box(config)) => findings.extend(self.of_box(config)),
            Some(Configured::Gateway(config)) => findings.push(of_listen(config)),
            None => findings.extend(self.of_running_boxes()),
        }
        findings.extend(self.running.iter().map(ends::peer));
        findings
    }

    /// Whether its control socket can be made; none if it is to have none.
    fn control(&self) -> Option<Finding> {
        let (path, is_wanted) = match self.process() {
            Some(process) => process.control.as_ref().map(|control| (control.path.as_path(), control.is_wanted))?,
            None => (Path::new(SOCKET_FOLDER), false),
        };
        Some(files::control(path, is_wanted, &examine::access(path)))
    }

    fn of_box(&self, config: &BoxConfig) -> Vec<Finding> {
        let resolved = resolve(&config.gateway);
        let mut findings = vec![ends::gateway_name(&config.gateway, &resolved)];
        if let Some(path) = &config.usage_file {
            findings.push(files::usage(path, &examine::access(path)));
        }
        let running = self.running.iter().find(|tunnel| tunnel.tap == config.tunnel.tap.as_str() && is_box(tunnel));
        let tunnel = Tunnel {
            gateways: resolved.unwrap_or_default(),
            is_sealed: matches!(config.security, BoxSecurity::Sealed { .. }),
            mtu: config.process.mtu,
            running,
        };
        findings.extend(tunnel.findings(&config.uplinks));
        findings
    }

    fn of_running_boxes(&self) -> Vec<Finding> {
        let boxes = self.running.iter().filter(|tunnel| is_box(tunnel));
        boxes.flat_map(of_running).collect()
    }
}

fn is_box(tunnel: &Status) -> bool {
    tunnel.process.program != GATEWAY
}

fn run<C>(request: Request<C>) -> Option<C> {
    match request {
        Request::Run(config) => Some(config),
        Request::Show(_) => None,
    }
}

/// Whose configuration this is. What cannot be read is taken for a box's, whose parser says what is wrong with it.
fn program_of(text: &str) -> &'static str {
    let is_gateway =
        text.parse::<toml::Table>().is_ok_and(|table| GATEWAY_KEYS.iter().any(|key| table.contains_key(*key)));
    if is_gateway { GATEWAY } else { BOX }
}

fn has_sockets(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.path().extension().is_some_and(|ending| ending == "sock"))
}

/// Reads key files, and judges them, but has the parser believe that all are well, so that the rest can be looked at, too.
#[derive(Default)]
struct Believing {
    found: RefCell<Vec<Finding>>,
}

impl ReadFiles for Believing {
    fn config(&self, path: &Path) -> io::Result<String> {
        SystemFiles.config(path)
    }

    fn key(&self, path: &Path) -> io::Result<KeyFile> {
        self.found.borrow_mut().push(files::key(path, &SystemFiles.key(path)));
        let key = PrivateKey::from_random([1; KEY_LENGTH]).to_text();
        Ok(KeyFile { is_regular: true, mode: 0o600, contents: Zeroizing::new(key.as_bytes().to_vec()) })
    }
}

fn resolve(gateway: &HostPort) -> io::Result<Vec<SocketAddr>> {
    (gateway.host.as_str(), gateway.port).to_socket_addrs().map(Iterator::collect)
}

fn of_listen(config: &GatewayConfig) -> Finding {
    let tried = examine::can_listen(config.listen);
    let holder = if tried.is_err() { examine::holder(config.listen.port()) } else { None };
    ends::listen(config.listen, &tried, holder.as_ref())
}

/// A box that runs, of which no more is known than it tells.
fn of_running(status: &Status) -> Vec<Finding> {
    let config = |uplink: &UplinkStatus| {
        Some(UplinkConfig {
            device: InterfaceName::new(uplink.device.as_deref()?).ok()?,
            name: UplinkName::new(&uplink.name).ok()?,
            source: None,
            weight: uplink.weight.max(1),
            limits: Limits::default(),
            budget: None,
        })
    };
    let remotes = status.uplinks.iter().filter_map(|uplink| uplink.remote.as_deref()?.parse().ok());
    let mut gateways: Vec<SocketAddr> = remotes.collect();
    gateways.sort();
    gateways.dedup();
    let is_sealed = status.process.public_key.is_some();
    let tunnel = Tunnel { gateways, is_sealed, mtu: Mtu::Auto, running: Some(status) };
    tunnel.findings(&status.uplinks.iter().filter_map(config).collect::<Vec<_>>())
}

/// What all uplinks of a box have in common.
struct Tunnel<'a> {
    gateways: Vec<SocketAddr>,
    is_sealed: bool,
    mtu: Mtu,
    running: Option<&'a Status>,
}

impl Tunnel<'_> {
    fn findings(&self, uplinks: &[UplinkConfig]) -> Vec<Finding> {
        let interfaces = match examine::interfaces() {
            Ok(interfaces) => interfaces,
            Err(error) => {
                let found = format!("the kernel does not tell of them: {error}");
                return vec![Finding::fail("interfaces", found, "does a sandbox forbid AF_NETLINK sockets?")];
            }
        };
        let smallest = uplinks.iter().filter_map(|uplink| named(&interfaces, &uplink.device)).map(|one| one.mtu).min();
        let facts: Vec<UplinkFacts> = uplinks.iter().map(|uplink| self.facts(uplink, &interfaces, smallest)).collect();
        let mut findings: Vec<Finding> = facts.iter().flat_map(UplinkFacts::findings).collect();
        findings.extend(ways::apart(&facts));
        findings
    }

    fn facts(
        &self,
        config: &UplinkConfig,
        interfaces: &BTreeMap<u32, Interface>,
        smallest_mtu: Option<u32>,
    ) -> UplinkFacts {
        let interface = named(interfaces, &config.device);
        let index = index_of(interfaces, &config.device).filter(|_| !self.gateways.is_empty());
        let way = index.map(|index| {
            let way = examine::way(config, &self.gateways)?;
            examine::has_route(way, index).map(|()| way)
        });
        let open = way.as_ref().and_then(|way| way.as_ref().ok()).copied();
        let is_filtered = open.filter(|way| way.gateway.is_ipv4());
        let returns_by = open.and_then(|way| interfaces.get(&examine::returns_by(way).ok()?));
        let overhead = self.overhead(open.map(|way| way.gateway.ip()));
        let running =
            self.running.and_then(|status| status.uplinks.iter().find(|one| one.name == config.name.as_str()));
        UplinkFacts {
            name: config.name.as_str().to_owned(),
            device: config.device.as_str().to_owned(),
            source: config.source,
            interface: interface.cloned(),
            gateways: self.gateways.iter().map(SocketAddr::ip).collect(),
            way,
            way_mtu: open.and_then(|way| examine::mtu_of_way(&config.device, way).ok()),
            filter: is_filtered.and_then(|_| examine::reverse_path_filter(&config.device)),
            returns_by: returns_by.map(|interface| interface.name.clone()),
            overhead,
            tap_mtu: self.tap_mtu(smallest_mtu, overhead),
            running: running.cloned(),
        }
    }

    /// By the way that is open, or else the longest there can be.
    fn overhead(&self, gateway: Option<IpAddr>) -> u32 {
        let any = || self.gateways.iter().map(SocketAddr::ip).max_by_key(|gateway| gateway.is_ipv6());
        let gateway = gateway.or_else(any).unwrap_or(IpAddr::from([0; 4]));
        examine::overhead_towards(gateway, self.is_sealed)
    }

    /// As the end that runs has it, as it is asked for, or as it will be.
    fn tap_mtu(&self, smallest_mtu: Option<u32>, overhead: u32) -> Option<u32> {
        match (self.running, self.mtu) {
            (Some(status), _) => Some(status.mtu.into()),
            (None, Mtu::Fixed(mtu)) => Some(mtu.into()),
            (None, Mtu::Auto) => smallest_mtu.map(|mtu| mtu.saturating_sub(overhead)),
        }
    }
}

fn index_of(interfaces: &BTreeMap<u32, Interface>, device: &InterfaceName) -> Option<u32> {
    interfaces.iter().find(|(_, interface)| interface.name == device.as_str()).map(|(index, _)| *index)
}

fn named<'a>(interfaces: &'a BTreeMap<u32, Interface>, device: &InterfaceName) -> Option<&'a Interface> {
    interfaces.get(&index_of(interfaces, device)?)
}

#[cfg(test)]
mod tests;
