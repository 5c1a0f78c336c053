//! The sockets behind the uplinks, and how they come and go.
//!
//! The box has one socket per uplink, opened when its interface is there and works, and opened again when the
//! interface has come back or has another address. The gateway has one socket for all.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;
use std::time::Duration;

use socket2::SockAddr;

use super::Endpoint;
use super::control_message::ControlBuffer;
use super::datagram_port::send::Destination;
use super::datagram_port::{DatagramPort, Route};
use super::mtu;
use super::netlink::{LinkNews, LinkState, LinkWatcher};
use super::ring::{Files, Ring};
use super::uplink_socket::{GatewaySocket, UplinkError, UplinkSocket, open_uplink};
use crate::config::UplinkConfig;
use crate::proto::time::Instant;
use crate::proto::tunnel::Path;
use crate::proto::uplink::state::Reason;
use crate::proto::uplink::{Limits, UPLINKS_MAX, UplinkId, UplinkName, UplinkSet};

/// What is under way by an uplink that has been removed has so long to come.
const LEAVE_AFTER: Duration = Duration::from_secs(2);
/// How long after a failure an uplink's socket is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// The number of a box's one tunnel.
const BOX_TUNNEL: usize = 0;

/// Either end's sockets.
pub enum Links {
    /// The box's.
    Box(Box<BoxLinks>),
    /// The gateway's.
    Gateway(Box<GatewayLinks>),
}

/// One uplink's socket, or the want of it.
struct BoxLink {
    config: UplinkConfig,
    /// Whether datagrams are to be received together.
    gro: bool,
    socket: Option<UplinkSocket>,
    /// Whether the ring has yet to be told of the socket, or of its end.
    changed: bool,
    /// The interface is known to be of no use now.
    interface_down: bool,
    retry_at: Option<Instant>,
    /// When it is gone for good.
    leaves_at: Option<Instant>,
    /// What was last said of it, so as not to say it twice a second.
    complaint: String,
}

/// The box's sockets.
pub struct BoxLinks {
    /// By their numbers.
    links: [Option<BoxLink>; UPLINKS_MAX],
    /// Those that are gone for good, of which the ring has yet to be told.
    gone: UplinkSet,
    gro: bool,
    gateways: Vec<SocketAddr>,
    watcher: LinkWatcher,
    mtu_bound: Option<u16>,
}

/// The gateway's socket.
pub struct GatewayLinks {
    socket: GatewaySocket,
    announced: bool,
    /// Where each tunnel's uplinks are, spelled for the kernel; made anew when the path changes.
    destinations: Box<[Option<(Path, SockAddr, ControlBuffer)>]>,
    mtu_bound: Option<u16>,
}

impl Links {
    /// The box's: a socket for each of `uplinks` to one of `gateways`. `mtu_bound` is the TAP's MTU if it may follow
    /// the gateway's downwards; `gro` has datagrams received together.
    ///
    /// # Errors
    /// If none of the uplinks can be opened; what was said of each.
    pub fn for_box(
        uplinks: &[UplinkConfig],
        gateways: Vec<SocketAddr>,
        watcher: LinkWatcher,
        mtu_bound: Option<u16>,
        gro: bool,
    ) -> Result<Self, UplinkError> {
        let mut links = vec![];
        let mut failures = vec![];
        for config in uplinks {
            let mut link = BoxLink::new(config.clone(), gro);
            match open_uplink(config, &gateways, gro) {
                Ok(socket) => link.set(socket),
                Err(error) if error.is_final => return Err(error),
                Err(error) => failures.push((links.len(), error)),
            }
            links.push(link);
        }
        if failures.len() == links.len() {
            return Err(UplinkError::all_of(failures.into_iter().map(|(_, error)| error)));
        }
        // With one that works a box can do its job; the others may come yet.
        failures.iter().for_each(|(index, error)| links[*index].complain(error));
        let mut links = links.into_iter();
        let links = std::array::from_fn(|_| links.next());
        let links = BoxLinks { links, gone: UplinkSet::EMPTY, gro, gateways, watcher, mtu_bound };
        Ok(Self::Box(Box::new(links)))
    }

    /// The gateway's, for so many tunnels. `mtu_bound` is the TAP's MTU if it may follow the box's downwards.
    #[must_use]
    pub fn for_gateway(socket: GatewaySocket, tunnels: usize, mtu_bound: Option<u16>) -> Self {
        let destinations = vec![None; tunnels * UPLINKS_MAX].into();
        Self::Gateway(Box::new(GatewayLinks { socket, announced: false, destinations, mtu_bound }))
    }

    /// Whether one socket serves all uplinks.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        matches!(self, Self::Gateway(_))
    }

    /// Whether other processes have the same port.
    #[must_use]
    pub const fn shares_port(&self) -> bool {
        match self {
            Self::Box(_) => false,
            Self::Gateway(links) => links.socket.shares_port(),
        }
    }

    /// What to wait for to learn of the interfaces.
    #[must_use]
    pub fn news_descriptor(&self) -> Option<RawFd> {
        match self {
            Self::Box(links) => Some(links.watcher.descriptor()),
            Self::Gateway(_) => None,
        }
    }

    /// Tells the core of the sockets there are, and asks for the state of the interfaces.
    pub fn start(&mut self, now: Instant, endpoint: &mut Endpoint) {
        let Self::Box(links) = self else { return };
        for (uplink, link) in each(&mut links.links) {
            match &link.socket {
                Some(socket) => {
                    endpoint.tunnel_mut(BOX_TUNNEL).handle_new_path(now, uplink, socket.remote);
                    endpoint.handle_uplink_attached(now, uplink);
                }
                None => link.retry_at = Some(now + RETRY_AFTER),
            }
        }
        links.request_all();
    }

    /// There is news of the interfaces.
    pub fn on_news(&mut self, now: Instant, endpoint: &mut Endpoint) {
        if let Self::Box(links) = self {
            links.on_news(now, endpoint);
        }
    }

    /// An uplink's socket has told of an error.
    pub fn on_socket_failed(&mut self, now: Instant, uplink: UplinkId) {
        if let Self::Box(links) = self
            && let Some(link) = &mut links.links[uplink.index()]
        {
            link.retry_at.get_or_insert(now + RETRY_AFTER);
        }
    }

    /// When [`Self::on_tick`] will have something to do.
    #[must_use]
    pub fn next_tick(&self) -> Option<Instant> {
        match self {
            Self::Box(links) => {
                let due = |link: &BoxLink| link.retry_at.into_iter().chain(link.leaves_at).min();
                links.links.iter().flatten().filter_map(due).min()
            }
            Self::Gateway(_) => None,
        }
    }

    /// Tries again what is due to be tried again.
    pub fn on_tick(&mut self, now: Instant, endpoint: &mut Endpoint) {
        let Self::Box(links) = self else { return };
        for (uplink, link) in each(&mut links.links) {
            if link.retry_at.is_some_and(|at| now >= at) {
                link.check(now, uplink, &links.gateways, endpoint);
            }
        }
        links.let_go(now, endpoint);
    }

    /// Tells the ring of sockets that are new or gone.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn apply(&mut self, ring: &mut Ring, files: &mut Files, port: &mut DatagramPort) -> io::Result<()> {
        match self {
            Self::Box(links) => {
                for uplink in std::mem::replace(&mut links.gone, UplinkSet::EMPTY).iter() {
                    port.close(ring, files, uplink.number())?;
                }
                for (uplink, link) in each(&mut links.links) {
                    if std::mem::take(&mut link.changed) {
                        match &link.socket {
                            Some(socket) => port.open(ring, files, uplink.number(), socket.descriptor())?,
                            None => port.close(ring, files, uplink.number())?,
                        }
                    }
                }
            }
            Self::Gateway(links) => {
                if !std::mem::replace(&mut links.announced, true) {
                    port.open(ring, files, 0, links.socket.descriptor())?;
                }
            }
        }
        Ok(())
    }

    /// Whether `remote` is where what comes by the socket of `uplink` comes from (at the box).
    #[inline]
    #[must_use]
    pub fn is_gateway(&self, uplink: UplinkId, remote: SocketAddr) -> bool {
        let Self::Box(links) = self else { return false };
        links
            .socket(uplink)
            .is_some_and(|socket| (socket.remote.ip(), socket.remote.port()) == (remote.ip(), remote.port()))
    }

    /// Bytes of IP and UDP header in front of what goes by the socket of `uplink`; the most that there may be if there is
    /// none now (at the box).
    #[must_use]
    pub fn header_length(&self, uplink: UplinkId) -> u64 {
        let socket = match self {
            Self::Box(links) => links.socket(uplink),
            Self::Gateway(_) => None,
        };
        let remote = socket.map_or(Ipv6Addr::UNSPECIFIED.into(), |socket| socket.remote.ip());
        mtu::datagram_header_length(remote).into()
    }

    /// Where a datagram for `route` goes: at the gateway by `path`, at the box to the gateway.
    pub fn destination(&mut self, route: Route, path: Option<Path>) -> Option<Destination<'_>> {
        let links = match self {
            Self::Box(links) => {
                let socket = links.socket(route.uplink)?;
                return Some((&socket.destination, ControlBuffer::empty()));
            }
            Self::Gateway(links) => links,
        };
        let path = path?;
        let known = &mut links.destinations[route.index()];
        if known.as_ref().is_none_or(|(of, ..)| *of != path) {
            let (address, source) = spell(&links.socket, path);
            *known = Some((path, address, source));
        }
        known.as_ref().map(|(_, address, source)| (address, *source))
    }

    /// `path` as the kernel wants it, for an answer to somebody who is no uplink's peer yet (at the gateway).
    #[must_use]
    pub fn spell(&self, path: Path) -> Option<(SockAddr, ControlBuffer)> {
        match self {
            Self::Box(_) => None,
            Self::Gateway(links) => Some(spell(&links.socket, path)),
        }
    }

    /// The box's uplink of this name, and what the user said of it; one that is leaving is none any more.
    #[must_use]
    pub fn find(&self, name: UplinkName) -> Option<(UplinkId, &UplinkConfig)> {
        self.configs().find(|(_, config)| config.name == name)
    }

    /// Whether an uplink of this name is leaving.
    #[must_use]
    pub fn is_leaving(&self, name: UplinkName) -> bool {
        let Self::Box(links) = self else { return false };
        links.links.iter().flatten().any(|link| link.leaves_at.is_some() && link.config.name == name)
    }

    /// The box's uplinks, and what the user said of them.
    pub fn configs(&self) -> impl Iterator<Item = (UplinkId, &UplinkConfig)> {
        let links: &[Option<BoxLink>] = match self {
            Self::Box(links) => &links.links,
            Self::Gateway(_) => &[],
        };
        let staying = |link: &&BoxLink| link.leaves_at.is_none();
        UplinkId::all()
            .zip(links)
            .filter_map(move |(uplink, link)| Some((uplink, &link.as_ref().filter(staying)?.config)))
    }

    /// Uses one more uplink, with this number (at the box). Returns what is amiss with it yet.
    ///
    /// # Errors
    /// What no time will mend.
    pub fn add(
        &mut self,
        now: Instant,
        uplink: UplinkId,
        config: &UplinkConfig,
        endpoint: &mut Endpoint,
    ) -> Result<Option<String>, String> {
        let Self::Box(links) = self else { return Err("uplinks are the box's".to_owned()) };
        let mut link = BoxLink::new(config.clone(), links.gro);
        let amiss = match open_uplink(config, &links.gateways, links.gro) {
            Ok(socket) => {
                endpoint.tunnel_mut(BOX_TUNNEL).handle_new_path(now, uplink, socket.remote);
                link.set(socket);
                endpoint.handle_uplink_attached(now, uplink);
                None
            }
            Err(error) if error.is_final => return Err(error.to_string()),
            Err(error) => {
                link.complain(&error);
                link.retry_at = Some(now + RETRY_AFTER);
                Some(error.to_string())
            }
        };
        links.links[uplink.index()] = Some(link);
        links.request_all();
        Ok(amiss)
    }

    /// An uplink is to be used otherwise, as the core knows already (at the box).
    pub fn change(&mut self, uplink: UplinkId, weight: u8, limits: Limits) {
        if let Self::Box(links) = self
            && let Some(link) = &mut links.links[uplink.index()]
        {
            (link.config.weight, link.config.limits) = (weight, limits);
        }
    }

    /// An uplink is to be used no more: it goes as soon as what is under way has had the time to come (at the box).
    pub fn retire(&mut self, now: Instant, uplink: UplinkId) {
        if let Self::Box(links) = self
            && let Some(link) = &mut links.links[uplink.index()]
        {
            link.leaves_at = Some(now + LEAVE_AFTER);
        }
    }

    /// The interface of an uplink, and the addresses that its datagrams leave from and go to (at the box).
    #[must_use]
    pub fn describe(&self, uplink: UplinkId) -> (Option<String>, Option<[SocketAddr; 2]>) {
        let Self::Box(links) = self else { return (None, None) };
        let device = links.links[uplink.index()].as_ref().map(|link| link.config.device.as_str().to_owned());
        (device, links.socket(uplink).map(|socket| [socket.local, socket.remote]))
    }

    /// The MTU that the TAP should have, if it may follow what both ends can bear.
    #[must_use]
    pub fn tap_mtu(&self, allowed: u16) -> Option<u16> {
        let bound = match self {
            Self::Box(links) => links.mtu_bound,
            Self::Gateway(links) => links.mtu_bound,
        };
        bound.map(|bound| bound.min(allowed.max(crate::config::TAP_MTU_MIN)))
    }
}

impl BoxLinks {
    #[inline]
    fn socket(&self, uplink: UplinkId) -> Option<&UplinkSocket> {
        self.links[uplink.index()].as_ref()?.socket.as_ref()
    }

    /// Lets those go for good whose time has come.
    fn let_go(&mut self, now: Instant, endpoint: &mut Endpoint) {
        for uplink in UplinkId::all() {
            let place = &mut self.links[uplink.index()];
            if place.take_if(|link| link.leaves_at.is_some_and(|at| now >= at)).is_some() {
                endpoint.tunnel_mut(BOX_TUNNEL).remove_uplink(now, uplink);
                self.gone.insert(uplink);
            }
        }
    }

    fn on_news(&mut self, now: Instant, endpoint: &mut Endpoint) {
        let mut all_news = vec![];
        let read = self.watcher.read(|news| all_news.push(news));
        for news in all_news {
            match news {
                LinkNews::Link { name, state } => self.on_link(now, &name, state, endpoint),
                LinkNews::AddressChange => self.check_all(now, endpoint),
            }
        }
        match read {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => self.request_all(),
            Err(error) => tracing::warn!("cannot read news of the interfaces: {error}"),
        }
    }

    fn request_all(&self) {
        if let Err(error) = self.watcher.request_all() {
            tracing::warn!("cannot ask for the state of the interfaces: {error}");
        }
    }

    fn on_link(&mut self, now: Instant, name: &str, state: LinkState, endpoint: &mut Endpoint) {
        for (uplink, link) in each(&mut self.links) {
            if link.config.device.as_str() == name {
                link.on_state(now, uplink, state, &self.gateways, endpoint);
            }
        }
    }

    fn check_all(&mut self, now: Instant, endpoint: &mut Endpoint) {
        for (uplink, link) in each(&mut self.links) {
            if !link.interface_down {
                link.check(now, uplink, &self.gateways, endpoint);
            }
        }
    }
}

impl BoxLink {
    const fn new(config: UplinkConfig, gro: bool) -> Self {
        let complaint = String::new();
        Self {
            config,
            gro,
            socket: None,
            changed: false,
            interface_down: false,
            retry_at: None,
            leaves_at: None,
            complaint,
        }
    }

    fn set(&mut self, socket: UplinkSocket) {
        self.socket = Some(socket);
        self.changed = true;
        self.complaint.clear();
    }

    fn on_state(
        &mut self,
        now: Instant,
        uplink: UplinkId,
        state: LinkState,
        gateways: &[SocketAddr],
        endpoint: &mut Endpoint,
    ) {
        let reason = match state {
            LinkState::Up => {
                let came_up = std::mem::replace(&mut self.interface_down, false);
                if came_up || self.socket.is_none() {
                    self.check(now, uplink, gateways, endpoint);
                }
                return;
            }
            LinkState::NoCarrier => Reason::NoCarrier,
            LinkState::SetDown => Reason::InterfaceDown,
            LinkState::Gone => Reason::InterfaceGone,
        };
        self.interface_down = true;
        self.retry_at = None;
        if state == LinkState::Gone {
            self.changed |= self.socket.take().is_some();
        }
        endpoint.tunnel_mut(BOX_TUNNEL).handle_uplink_detached(now, uplink, reason);
    }

    /// Opens a socket, and takes it if it is better than what there is.
    fn check(&mut self, now: Instant, uplink: UplinkId, gateways: &[SocketAddr], endpoint: &mut Endpoint) {
        self.retry_at = None;
        if self.interface_down {
            return;
        }
        match open_uplink(&self.config, gateways, self.gro) {
            Ok(socket) => {
                let known = self.socket.as_ref().is_some_and(|current| current.is_like(&socket));
                if !known {
                    tracing::info!(
                        "uplink {}: sending from {} by {}",
                        self.config.name,
                        socket.local,
                        self.config.device
                    );
                    endpoint.tunnel_mut(BOX_TUNNEL).handle_new_path(now, uplink, socket.remote);
                    self.set(socket);
                }
                endpoint.handle_uplink_attached(now, uplink);
            }
            Err(error) => {
                self.complain(&error);
                self.changed |= self.socket.take().is_some();
                self.retry_at = Some(now + RETRY_AFTER);
                endpoint.tunnel_mut(BOX_TUNNEL).handle_uplink_detached(now, uplink, Reason::SocketError(error.errno));
            }
        }
    }

    fn complain(&mut self, error: &UplinkError) {
        let complaint = error.to_string();
        if complaint != self.complaint {
            tracing::warn!("{complaint}");
            self.complaint = complaint;
        }
    }
}

fn spell(socket: &GatewaySocket, path: Path) -> (SockAddr, ControlBuffer) {
    let source = path.local.map_or(ControlBuffer::empty(), |local| socket.source(local));
    (socket.spell(path.remote), source)
}

fn each(links: &mut [Option<BoxLink>; UPLINKS_MAX]) -> impl Iterator<Item = (UplinkId, &mut BoxLink)> {
    UplinkId::all().zip(links).filter_map(|(uplink, link)| Some((uplink, link.as_mut()?)))
}
