//! One end of one tunnel or several, with keys or without: what stands between the sockets and the tunnels.
//!
//! Without keys a datagram goes to the one tunnel as it is. With keys it is opened first, by the session that it names,
//! and reaches that session's tunnel only if it is authentic. The contract of the loop around it is that of
//! [`super::tunnel`]; frames and control messages are sealed when they are taken out, so that each has its number by
//! then.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

use super::send::Resend;
use super::seq;
use super::session::Host;
use super::session::cipher::{Space, TAG_LENGTH};
use super::session::handshake::message::{self, Message};
use super::session::initiator::Initiator;
use super::session::responder::Responder;
use super::session::transport::{Opened, Sessions};
use super::stats::{DropCounters, DropReason};
use super::time::Instant;
use super::tunnel::{
    Arrival, ControlTransmit, Event, Frame, FrameTransmit, ParityTransmit, Path, Payload, SoundingTransmit, Tunnel,
};
use super::uplink::UplinkId;
use super::wire::control::{ControlBytes, SEAL_LENGTH};
use super::wire::{self, KeyedDatagram};

const _: () = assert!(TAG_LENGTH == SEAL_LENGTH, "there is room for a tag behind each message");

/// Handshake answers that wait to be sent; a caller that drains as it should needs one.
const ANSWERS_WAITING_MAX: usize = 64;

/// A datagram that was received, which is opened where it lies.
pub trait Datagram {
    /// What is left of it when it has been opened.
    type Payload: Payload;

    /// Its bytes.
    fn bytes_mut(&mut self) -> &mut [u8];
    /// Only these of its bytes.
    fn into_payload(self, range: Range<usize>) -> Self::Payload;
}

impl Datagram for BytesMut {
    type Payload = Bytes;

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }

    #[inline]
    fn into_payload(mut self, range: Range<usize>) -> Bytes {
        self.truncate(range.end);
        self.advance(range.start);
        self.freeze()
    }
}

/// Where a handshake message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeDestination {
    /// By an uplink (of the box).
    Uplink(UplinkId),
    /// To an address (from the gateway).
    Path(Path),
}

/// The longest handshake message, in bytes.
pub const HANDSHAKE_LENGTH_MAX: usize = message::INITIATION_LENGTH;

/// A handshake message to send.
#[derive(Clone, Debug)]
pub struct HandshakeTransmit {
    /// Where to.
    pub destination: HandshakeDestination,
    bytes: [u8; HANDSHAKE_LENGTH_MAX],
    length: usize,
}

impl HandshakeTransmit {
    fn new(destination: HandshakeDestination, message: &[u8]) -> Self {
        let mut bytes = [0; HANDSHAKE_LENGTH_MAX];
        bytes[..message.len()].copy_from_slice(message);
        Self { destination, bytes, length: message.len() }
    }

    /// The datagram.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// How an end's tunnels are protected.
pub enum Security {
    /// Not at all.
    Plaintext,
    /// By keys, which a box asks for.
    Box(Box<Initiator>),
    /// By keys, which a gateway grants.
    Gateway(Box<Responder>),
}

/// When something is due, and what.
type Due = (Instant, &'static str);

/// One end.
pub struct Endpoint<T, F = T> {
    tunnels: Vec<Tunnel<T, F>>,
    /// When each tunnel's time is up; `None` if something has happened to it since that was last asked. A wake-up is of
    /// one tunnel most of the time, and should not have to ask them all.
    dues: Vec<Option<Due>>,
    security: Security,
    answers: VecDeque<HandshakeTransmit>,
    drops: DropCounters,
}

impl<T: Payload, F: Frame> Endpoint<T, F> {
    /// An end of these tunnels.
    ///
    /// # Panics
    /// If there is none, or, but at a gateway with keys, more than one.
    #[must_use]
    pub fn new(mut tunnels: Vec<Tunnel<T, F>>, security: Security) -> Self {
        assert!(tunnels.len() == 1 || (matches!(security, Security::Gateway(_)) && !tunnels.is_empty()));
        let answers = VecDeque::with_capacity(ANSWERS_WAITING_MAX);
        if !matches!(security, Security::Plaintext) {
            tunnels.iter_mut().for_each(Tunnel::expect_sealed);
        }
        let dues = vec![None; tunnels.len()];
        Self { tunnels, dues, security, answers, drops: DropCounters::default() }
    }

    /// The tunnels; a tunnel's place is its number.
    #[inline]
    #[must_use]
    pub fn tunnels(&self) -> &[Tunnel<T, F>] {
        &self.tunnels
    }

    /// A tunnel.
    ///
    /// # Panics
    /// If there is none of that number.
    #[inline]
    pub fn tunnel_mut(&mut self, tunnel: usize) -> &mut Tunnel<T, F> {
        self.dues[tunnel] = None;
        &mut self.tunnels[tunnel]
    }

    /// The next frame of a tunnel to send.
    #[inline]
    pub fn poll_frame(&mut self, tunnel: usize) -> Option<FrameTransmit<F>> {
        self.tunnels[tunnel].poll_frame()
    }

    /// The next frame of a tunnel to send again.
    #[inline]
    pub fn poll_resend(&mut self, tunnel: usize) -> Option<Resend> {
        self.tunnels[tunnel].poll_resend()
    }

    /// The next frame of a tunnel to write to its TAP.
    #[inline]
    pub fn poll_delivery(&mut self, tunnel: usize) -> Option<(T, Instant)> {
        self.tunnels[tunnel].poll_delivery()
    }

    /// The same, without when it came.
    #[inline]
    pub fn poll_deliver(&mut self, tunnel: usize) -> Option<T> {
        self.tunnels[tunnel].poll_deliver()
    }

    /// The next event of a tunnel to log, and how many were lost before it because nobody asked.
    pub fn poll_event(&mut self, tunnel: usize) -> Option<(Event, u64)> {
        self.tunnels[tunnel].poll_event()
    }

    /// Whether there are keys.
    #[inline]
    #[must_use]
    pub const fn is_sealed(&self) -> bool {
        !matches!(self.security, Security::Plaintext)
    }

    /// What was dropped before it was known which tunnel it was for.
    #[must_use]
    pub const fn drops(&self) -> &DropCounters {
        &self.drops
    }

    /// A datagram was dropped outside the core, before it was known which tunnel it was for.
    pub fn count_drop(&mut self, reason: DropReason) {
        self.drops.add(reason);
    }

    /// A datagram has come. Returns the tunnel that it has changed, which may have something to send or to deliver now.
    #[inline]
    pub fn handle_datagram<D: Datagram<Payload = T>>(
        &mut self,
        now: Instant,
        host: &mut impl Host,
        arrival: Arrival,
        mut datagram: D,
    ) -> Option<usize> {
        if !self.is_sealed() {
            let length = datagram.bytes_mut().len();
            self.tunnel_mut(0).handle_datagram(now, arrival, datagram.into_payload(0..length));
            return Some(0);
        }
        match wire::parse_keyed(datagram.bytes_mut()) {
            Ok(KeyedDatagram::Frame { key, counter }) => {
                let (tunnel, text) = self.open(now, key, Space::Frame, counter, datagram.bytes_mut())?;
                let frame = datagram.into_payload(text);
                self.tunnel_mut(tunnel).handle_received_frame(now, arrival, counter, frame);
                Some(tunnel)
            }
            Ok(KeyedDatagram::Control { key, counter }) => {
                let bytes = datagram.bytes_mut();
                let (tunnel, text) = self.open(now, key, Space::Control, counter, bytes)?;
                self.on_control(now, arrival, tunnel, counter, &bytes[text]);
                Some(tunnel)
            }
            Ok(KeyedDatagram::Handshake) => self.on_handshake(now, host, arrival, datagram.bytes_mut()),
            Err(reason) => {
                self.drops.add(reason);
                None
            }
        }
    }

    /// Opens what is for one of our sessions. Returns the tunnel that it is for.
    #[inline]
    fn open(
        &mut self,
        now: Instant,
        name: u32,
        space: Space,
        counter: u32,
        bytes: &mut [u8],
    ) -> Option<(usize, Range<usize>)> {
        let found = match &mut self.security {
            Security::Plaintext => None,
            Security::Box(initiator) => Some((0, initiator.sessions())),
            Security::Gateway(responder) => {
                responder.tunnel_of(name).map(|tunnel| (tunnel, responder.sessions(tunnel)))
            }
        };
        let opened = found.ok_or(DropReason::UnknownSession).and_then(|(tunnel, sessions)| {
            sessions.open(now, name, space, counter, bytes).map(|opened| (tunnel, opened))
        });
        match opened {
            Ok((tunnel, Opened { text, is_confirmation })) => {
                if is_confirmation {
                    self.on_confirmed(now, tunnel);
                }
                Some((tunnel, text))
            }
            Err(reason) => {
                self.drops.add(reason);
                None
            }
        }
    }

    fn on_control(&mut self, now: Instant, arrival: Arrival, tunnel: usize, counter: u32, body: &[u8]) {
        let had_peer = self.tunnels[tunnel].has_peer();
        self.tunnel_mut(tunnel).handle_control(now, arrival, counter, body);
        // The tunnel has forgotten what it had from the peer that has left, and could not tell it from news.
        if had_peer
            && !self.tunnels[tunnel].has_peer()
            && let Some(sessions) = self.sessions(tunnel)
        {
            sessions.forget_peer();
        }
        self.note_heard(now);
    }

    /// A box has used the session that it was granted.
    fn on_confirmed(&mut self, now: Instant, tunnel: usize) {
        let Security::Gateway(responder) = &mut self.security else { return };
        responder.on_confirmed(tunnel);
        if let Some((cipher, is_first)) = responder.sessions(tunnel).confirm() {
            let tunnel = self.tunnel_mut(tunnel);
            tunnel.push_event(Event::Sealed { cipher, is_first });
            tunnel.handle_session(now);
        }
    }

    /// Returns the tunnel that it has changed.
    fn on_handshake(&mut self, now: Instant, host: &mut impl Host, arrival: Arrival, bytes: &[u8]) -> Option<usize> {
        let outcome = match (message::parse(bytes), arrival) {
            (Ok(Message::Initiation(bytes)), Arrival::Path(path)) => self.on_initiation(now, host, path, bytes),
            (Ok(Message::Response(bytes)), Arrival::Uplink(uplink)) => self.on_response(now, host, uplink, bytes),
            (Ok(Message::Cookie(bytes)), Arrival::Uplink(uplink)) => match &mut self.security {
                Security::Box(initiator) => initiator.on_cookie(now, uplink, bytes).map(|()| None),
                _ => Err(DropReason::HandshakeMalformed),
            },
            (Ok(_), _) => Err(DropReason::HandshakeMalformed),
            (Err(reason), _) => Err(reason),
        };
        outcome.unwrap_or_else(|reason| {
            self.drops.add(reason);
            None
        })
    }

    fn on_initiation(
        &mut self,
        now: Instant,
        host: &mut impl Host,
        path: Path,
        bytes: &[u8; message::INITIATION_LENGTH],
    ) -> Result<Option<usize>, DropReason> {
        let Security::Gateway(responder) = &mut self.security else { return Err(DropReason::HandshakeMalformed) };
        let tunnels = &self.tunnels;
        let position = |tunnel: usize| tunnels[tunnel].position();
        match responder.on_initiation(now, host, path.remote, bytes, position) {
            Ok(granted) => {
                self.answer(path, &granted.answer);
                Ok(None)
            }
            Err(refused) => {
                if let Some(cookie) = refused.cookie {
                    self.answer(path, &cookie);
                }
                self.drops.add(refused.reason);
                if let Some(tunnel) = refused.without_cipher {
                    self.tunnels[tunnel].push_event(Event::CipherRefused);
                }
                Ok(refused.without_cipher)
            }
        }
    }

    fn answer(&mut self, path: Path, bytes: &[u8]) {
        if self.answers.len() == ANSWERS_WAITING_MAX {
            self.drops.add(DropReason::NoBuffer);
            return;
        }
        self.answers.push_back(HandshakeTransmit::new(HandshakeDestination::Path(path), bytes));
    }

    fn on_response(
        &mut self,
        now: Instant,
        host: &mut impl Host,
        uplink: UplinkId,
        bytes: &[u8; message::RESPONSE_LENGTH],
    ) -> Result<Option<usize>, DropReason> {
        let Security::Box(initiator) = &mut self.security else { return Err(DropReason::HandshakeMalformed) };
        let (cipher, is_first) = initiator.on_response(now, host, uplink, bytes)?;
        let tunnel = self.tunnel_mut(0);
        tunnel.push_event(Event::Sealed { cipher, is_first });
        tunnel.handle_session(now);
        Ok(Some(0))
    }

    /// Tells the box's side of the handshake whether the gateway is heard.
    fn note_heard(&mut self, now: Instant) {
        if let Security::Box(initiator) = &mut self.security {
            initiator.on_heard(now, self.tunnels[0].is_peer_heard());
        }
    }

    /// Time has passed: does all that is due.
    pub fn handle_timeout(&mut self, now: Instant, host: &mut impl Host) {
        for (tunnel, due) in self.tunnels.iter_mut().zip(&mut self.dues) {
            if due.get_or_insert_with(|| tunnel.poll_timeout(now)).0 <= now {
                tunnel.handle_timeout(now);
                *due = None;
            }
        }
        self.note_heard(now);
        match &mut self.security {
            Security::Plaintext => {}
            Security::Box(initiator) => {
                let tunnel = &mut self.tunnels[0];
                if initiator.next_timeout() <= now {
                    initiator.on_timeout(now, host, tunnel.attached(), tunnel.position());
                }
                if initiator.take_unanswered() {
                    tunnel.push_event(Event::Unanswered);
                }
            }
            Security::Gateway(responder) => responder.on_timeout(now),
        }
    }

    /// When [`Self::handle_timeout`] must be called next, and what for.
    pub fn poll_timeout(&mut self, now: Instant) -> (Instant, &'static str) {
        let tunnels = self.tunnels.iter_mut().zip(&mut self.dues);
        let dues = tunnels.map(|(tunnel, due)| *due.get_or_insert_with(|| tunnel.poll_timeout(now)));
        let due = dues.min_by_key(|(at, _)| *at).expect("there is at least one tunnel");
        let handshake = match &self.security {
            Security::Plaintext => None,
            Security::Box(initiator) => Some(initiator.next_timeout()),
            Security::Gateway(responder) => responder.next_timeout(),
        };
        match handshake {
            Some(at) if at < due.0 => (at, "handshake"),
            _ => due,
        }
    }

    /// An uplink has a socket to send by (at the box).
    pub fn handle_uplink_attached(&mut self, now: Instant, uplink: UplinkId) {
        self.tunnel_mut(0).handle_uplink_attached(now, uplink);
        if let Security::Box(initiator) = &mut self.security {
            initiator.on_uplink(now, uplink);
        }
    }

    /// The next handshake message to send.
    pub fn poll_handshake(&mut self) -> Option<HandshakeTransmit> {
        if let Some(answer) = self.answers.pop_front() {
            return Some(answer);
        }
        let Security::Box(initiator) = &mut self.security else { return None };
        let transmit = initiator.poll_transmit()?;
        Some(HandshakeTransmit::new(HandshakeDestination::Uplink(transmit.uplink), &transmit.bytes))
    }

    /// The next control message of a tunnel to send, or parity, or sounding: the uplink, and the whole datagram, which `send`
    /// gets. Returns whether there was one.
    pub fn poll_control(&mut self, now: Instant, tunnel: usize, send: impl FnOnce(UplinkId, &[u8])) -> bool {
        let sessions = sessions(&mut self.security, tunnel);
        let of = &mut self.tunnels[tunnel];
        if let Some(ControlTransmit { uplink, counter, mut message }) = of.poll_control() {
            emit(now, sessions, counter, &mut message, |datagram| send(uplink, datagram));
        } else if let Some(ParityTransmit { uplink, counter, message }) = of.poll_parity() {
            emit(now, sessions, counter, message, |datagram| send(uplink, datagram));
        } else if let Some(SoundingTransmit { uplink, counter, message }) = of.poll_sounding() {
            emit(now, sessions, counter, message, |datagram| send(uplink, datagram));
        } else {
            return false;
        }
        true
    }

    /// The next frame of a tunnel that was made up from parities: see [`Tunnel::poll_restored`].
    #[inline]
    pub fn poll_restored(&mut self, tunnel: usize) -> Option<(UplinkId, u64, &[u8])> {
        self.tunnels[tunnel].poll_restored()
    }

    /// Seals frame number `sequence` of a tunnel in place: see [`super::session::transport::Session::seal_frame`].
    ///
    /// # Errors
    /// [`DropReason::NoSession`].
    #[inline]
    pub fn seal_frame(
        &mut self,
        now: Instant,
        tunnel: usize,
        sequence: u64,
        datagram: &mut [u8],
    ) -> Result<(), DropReason> {
        let sessions = self.sessions(tunnel).ok_or(DropReason::NoSession)?;
        sessions.sealing(now)?.seal_frame(sequence, datagram);
        Ok(())
    }

    /// The sessions of a tunnel; `None` without keys.
    #[inline]
    fn sessions(&mut self, tunnel: usize) -> Option<&mut Sessions> {
        sessions(&mut self.security, tunnel)
    }
}

#[inline]
fn sessions(security: &mut Security, tunnel: usize) -> Option<&mut Sessions> {
    match security {
        Security::Plaintext => None,
        Security::Box(initiator) => Some(initiator.sessions()),
        Security::Gateway(responder) => Some(responder.sessions(tunnel)),
    }
}

/// Hands the datagram of a control message to `send`: sealed, where there are keys. Until then nothing is lost that will not
/// be said again.
fn emit<B: AsMut<[u8]>>(
    now: Instant,
    sessions: Option<&mut Sessions>,
    counter: u64,
    message: &mut ControlBytes<B>,
    send: impl FnOnce(&[u8]),
) {
    match sessions {
        None => send(message.plaintext(seq::truncate(counter))),
        Some(sessions) => {
            if let Ok(session) = sessions.sealing(now) {
                let datagram = message.datagram_mut(TAG_LENGTH);
                session.seal_control(counter, datagram);
                send(datagram);
            }
        }
    }
}
