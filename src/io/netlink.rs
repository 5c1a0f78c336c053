//! News of the interfaces, from rtnetlink(7): carrier lost and found, interfaces gone and come back, addresses changed.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};

/// The kernel's groups of link and address news (linux/rtnetlink.h).
const GROUPS: u32 = (libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR) as u32;
/// One read; the kernel never writes more than this at a time (NLMSG_GOODSIZE, doubled for dumps).
const READ_LENGTH: usize = 32 << 10;

/// How an interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Set up, and with a carrier.
    Up,
    /// Set up, but with no carrier.
    NoCarrier,
    /// Set down by somebody.
    SetDown,
    /// There is no such interface any more.
    Gone,
}

/// A piece of news.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkNews {
    /// An interface is now so.
    Link {
        /// Its name.
        name: String,
        /// How it is.
        state: LinkState,
    },
    /// Some interface has gained or lost an address.
    AddressChange,
}

/// A socket that hears the news.
pub struct LinkWatcher {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl LinkWatcher {
    /// Subscribes.
    ///
    /// # Errors
    /// What socket(2) and bind(2) say.
    pub fn open() -> io::Result<Self> {
        // SAFETY: socket(2) touches no memory of ours.
        let descriptor = unsafe {
            libc::socket(
                libc::AF_NETLINK,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                libc::NETLINK_ROUTE,
            )
        };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: The descriptor is new, and nobody else has it.
        let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
        // SAFETY: sockaddr_nl is plain numbers.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as u16;
        address.nl_groups = GROUPS;
        let length = size_of::<libc::sockaddr_nl>() as u32;
        // SAFETY: The kernel reads one sockaddr_nl from `address`.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
        if bound != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { socket, buffer: vec![0; READ_LENGTH] })
    }

    /// The socket, to wait for.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Asks for the present state of every interface, as news.
    ///
    /// # Errors
    /// What send(2) says.
    pub fn request_all(&self) -> io::Result<()> {
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetLink(LinkMessage::default()));
        request.header.flags = NLM_F_DUMP | NLM_F_REQUEST;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        // SAFETY: The kernel reads `bytes`, as long as it is.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Reads all news there is.
    ///
    /// # Errors
    /// What recv(2) says; ENOBUFS means that some were lost, and all should be requested.
    pub fn read(&mut self, mut on_news: impl FnMut(LinkNews)) -> io::Result<()> {
        loop {
            // SAFETY: The kernel writes at most as many bytes as `buffer` has.
            let length =
                unsafe { libc::recv(self.socket.as_raw_fd(), self.buffer.as_mut_ptr().cast(), self.buffer.len(), 0) };
            let Ok(length) = usize::try_from(length) else {
                let error = io::Error::last_os_error();
                return if error.kind() == io::ErrorKind::WouldBlock { Ok(()) } else { Err(error) };
            };
            parse(&self.buffer[..length], &mut on_news);
        }
    }
}

/// Finds the news in what the kernel has written. What cannot be understood is no news.
fn parse(mut bytes: &[u8], on_news: &mut impl FnMut(LinkNews)) {
    while let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
        let length = (message.header.length as usize).next_multiple_of(4);
        if let NetlinkPayload::InnerMessage(message) = message.payload {
            interpret(&message).into_iter().for_each(&mut *on_news);
        }
        match bytes.get(length..) {
            Some(rest) if length > 0 && !rest.is_empty() => bytes = rest,
            _ => break,
        }
    }
}

fn interpret(message: &RouteNetlinkMessage) -> Option<LinkNews> {
    match message {
        RouteNetlinkMessage::NewLink(link) => Some(LinkNews::Link { name: name(link)?, state: state(link) }),
        RouteNetlinkMessage::DelLink(link) => Some(LinkNews::Link { name: name(link)?, state: LinkState::Gone }),
        RouteNetlinkMessage::NewAddress(_) | RouteNetlinkMessage::DelAddress(_) => Some(LinkNews::AddressChange),
        _ => None,
    }
}

fn name(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

fn state(link: &LinkMessage) -> LinkState {
    let flags = link.header.flags;
    if !flags.contains(LinkFlags::Up) {
        LinkState::SetDown
    } else if flags.contains(LinkFlags::LowerUp) {
        LinkState::Up
    } else {
        LinkState::NoCarrier
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, flags: LinkFlags) -> LinkMessage {
        let mut link = LinkMessage::default();
        link.header.flags = flags;
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        link
    }

    fn bytes(message: RouteNetlinkMessage) -> Vec<u8> {
        let mut message = NetlinkMessage::from(message);
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    fn news(bytes: &[u8]) -> Vec<LinkNews> {
        let mut news = vec![];
        parse(bytes, &mut |one| news.push(one));
        news
    }

    #[test]
    fn several_messages_in_one_read_are_all_news() {
        let up = bytes(RouteNetlinkMessage::NewLink(link("wwan0", LinkFlags::Up | LinkFlags::LowerUp)));
        let cut = bytes(RouteNetlinkMessage::NewLink(link("wwan1", LinkFlags::Up)));
        let gone = bytes(RouteNetlinkMessage::DelLink(link("usb0", LinkFlags::empty())));
        let expected = [("wwan0", LinkState::Up), ("wwan1", LinkState::NoCarrier), ("usb0", LinkState::Gone)]
            .map(|(name, state)| LinkNews::Link { name: name.to_owned(), state });
        assert_eq!(news(&[up, cut, gone].concat()), expected);
    }

    #[test]
    fn bytes_cut_short_are_no_news() {
        let whole = bytes(RouteNetlinkMessage::NewLink(link("eth0", LinkFlags::Up)));
        for length in 0..whole.len() {
            assert_eq!(news(&whole[..length]), []);
        }
    }

    #[test]
    fn the_kernel_tells_of_the_loopback_interface() {
        let mut watcher = LinkWatcher::open().expect("anyone may listen");
        watcher.request_all().expect("asked");
        let mut seen = false;
        for _ in 0..100 {
            watcher.read(|news| seen |= matches!(news, LinkNews::Link { name, .. } if name == "lo")).expect("read");
            if seen {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("no word of 'lo'");
    }
}
