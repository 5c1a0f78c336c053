//! The gateway's side: grants sessions to the boxes that it knows.
//!
//! What it costs a stranger to have it work: a right mac1 shows that the stranger knows our public key; beyond a few a
//! second, a right mac2 shows that it is where it says it is; and then it may ask a few times a second. Nothing is kept
//! of whoever is not one of the boxes.

use std::net::SocketAddr;

use super::handshake::mac::{CookieJar, ReceiverKeys};
use super::handshake::message::{
    self, COOKIE_LENGTH, Grant, INITIATION_LENGTH, RESPONSE_LENGTH, Request, initiation, response,
};
use super::handshake::noise::Exchange;
use super::keys::{PresharedKey, PublicKey};
use super::limiter::{Allowance, PerSource};
use super::transport::{Agreement, LIFETIME, Session, Sessions, Side};
use super::{Host, Identity, Names};
use crate::proto::seq::Position;
use crate::proto::stats::DropReason;
use crate::proto::time::Instant;

/// Exchanges a second that are had with whoever has a right mac1; each is a tenth of a millisecond's work.
const EXCHANGES: Allowance = Allowance::new(50, 50);
/// The same with those that have shown where they are, and how many of these each may ask for.
const EXCHANGES_WITH_COOKIE: Allowance = Allowance::new(500, 100);
const EXCHANGES_PER_SOURCE: u8 = 10;
/// Cookies a second: what is asked for beyond that is not answered at all.
const COOKIES: Allowance = Allowance::new(20_000, 2_000);

/// Copies a second of a box's question that are answered as the first was: whoever has recorded one can send more.
const COPIES: Allowance = Allowance::new(64, 64);

/// A box that is let in.
pub struct Admitted {
    /// Its key.
    pub peer: PublicKey,
    /// What is shared with it beside.
    pub preshared: PresharedKey,
}

/// A session is granted, if whoever has asked can read the answer.
#[derive(Clone, Debug)]
pub struct Granted {
    /// To be sent to where the question came from.
    pub answer: [u8; RESPONSE_LENGTH],
}

/// No session is granted.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Why.
    pub reason: DropReason,
    /// To be sent to where the question came from.
    pub cookie: Option<[u8; COOKIE_LENGTH]>,
    /// The tunnel of the box that offers only ciphers that we do not want.
    pub without_cipher: Option<usize>,
}

impl From<DropReason> for Refused {
    fn from(reason: DropReason) -> Self {
        Self { reason, cookie: None, without_cipher: None }
    }
}

/// What has been answered last, so that copies of the question get the same answer, and are known for copies later.
struct Answered {
    /// Without what is in front, which nobody vouches for: whoever can change that must not make another question of it.
    question: [u8; initiation::NOISE.end - initiation::NOISE.start],
    answer: [u8; RESPONSE_LENGTH],
    /// The box has used the session.
    is_over: bool,
}

/// What there is of a box.
struct PeerState {
    admitted: Admitted,
    to_peer: ReceiverKeys,
    names: Names,
    sessions: Sessions,
    /// The latest stamp that it has sent.
    last_stamp: Option<u64>,
    answered: Option<Box<Answered>>,
    copies: Allowance,
}

/// The gateway's side of the handshake, and the sessions of all boxes.
pub struct Responder {
    identity: Identity,
    to_us: ReceiverKeys,
    peers: Vec<PeerState>,
    /// Places in `peers`, by key.
    by_key: Vec<(PublicKey, usize)>,
    jar: CookieJar,
    exchanges: Allowance,
    exchanges_with_cookie: Allowance,
    per_source: PerSource,
    cookies: Allowance,
    /// When the first session may be over; none is before.
    expires_at: Option<Instant>,
}

impl Responder {
    /// Lets in those of `admitted`, whose place there is the number of their tunnel. `share` goes into the names of
    /// sessions.
    #[must_use]
    pub fn new(host: &mut impl Host, identity: Identity, share: u8, admitted: Vec<Admitted>) -> Self {
        let mut by_key: Vec<_> = admitted.iter().enumerate().map(|(place, entry)| (entry.peer, place)).collect();
        by_key.sort_unstable();
        let peers = admitted.into_iter().enumerate().map(|(tunnel, admitted)| PeerState {
            to_peer: ReceiverKeys::of(&admitted.peer),
            admitted,
            names: Names::new(host, share, tunnel),
            sessions: Sessions::default(),
            last_stamp: None,
            answered: None,
            copies: COPIES,
        });
        let peers = peers.collect();
        Self {
            to_us: ReceiverKeys::of(&identity.private_key.public()),
            identity,
            peers,
            by_key,
            jar: CookieJar::default(),
            exchanges: EXCHANGES,
            exchanges_with_cookie: EXCHANGES_WITH_COOKIE,
            per_source: PerSource::new(host, EXCHANGES_PER_SOURCE),
            cookies: COOKIES,
            expires_at: None,
        }
    }

    /// The sessions of one tunnel.
    ///
    /// # Panics
    /// If there is no such tunnel.
    #[inline]
    pub fn sessions(&mut self, tunnel: usize) -> &mut Sessions {
        &mut self.peers[tunnel].sessions
    }

    /// The tunnel that a session of this name would be of.
    #[inline]
    #[must_use]
    pub fn tunnel_of(&self, name: u32) -> Option<usize> {
        Some(Names::tunnel_of(name)).filter(|tunnel| *tunnel < self.peers.len())
    }

    /// The box has used the session that was granted last: no copy of its question is answered any more.
    pub fn on_confirmed(&mut self, tunnel: usize) {
        if let Some(answered) = &mut self.peers[tunnel].answered {
            answered.is_over = true;
        }
    }

    /// When [`Self::on_timeout`] will have something to do.
    #[must_use]
    pub const fn next_timeout(&self) -> Option<Instant> {
        self.expires_at
    }

    /// Forgets what is over.
    pub fn on_timeout(&mut self, now: Instant) {
        if self.expires_at.is_none_or(|at| now < at) {
            return;
        }
        for peer in &mut self.peers {
            peer.sessions.expire(now);
            // Nobody may have used the session while it could be used.
            if let Some(answered) = peer.answered.as_mut().filter(|_| !peer.sessions.has_offer()) {
                answered.is_over = true;
            }
        }
        self.expires_at = self.peers.iter().filter_map(|peer| peer.sessions.expires_at()).min();
    }

    /// Somebody asks for a session. `positions` tells how far each tunnel has counted.
    ///
    /// # Errors
    /// Why not, and what to say.
    pub fn on_initiation(
        &mut self,
        now: Instant,
        host: &mut impl Host,
        source: SocketAddr,
        bytes: &[u8; INITIATION_LENGTH],
        positions: impl Fn(usize) -> Position,
    ) -> Result<Granted, Refused> {
        if !self.to_us.is_mac1(bytes, initiation::MAC1.start) {
            return Err(Refused::from(DropReason::HandshakeMac));
        }
        if let Some((answered, copies)) = self.find_answered(bytes) {
            if answered.is_over {
                return Err(Refused::from(DropReason::HandshakeOver));
            }
            let may = copies.take(now);
            return may.then_some(Granted { answer: answered.answer }).ok_or(DropReason::HandshakeThrottled.into());
        }
        self.admit(now, host, source, bytes)?;
        let noise = &bytes[initiation::NOISE];
        let (exchange, key, payload) = Exchange::receive(host, &self.identity.private_key, noise)?;
        let request = Request::parse(&payload)?;
        // One that was changed on the way must not be counted as the question, which will come yet.
        if request.name != message::sender(bytes) {
            return Err(Refused::from(DropReason::HandshakeRejected));
        }
        let found = self.by_key.binary_search_by(|(known, _)| known.cmp(&key));
        let tunnel = found.map(|place| self.by_key[place].1).map_err(|_| DropReason::HandshakeRejected)?;
        let peer = &mut self.peers[tunnel];
        if peer.last_stamp.is_some_and(|last| request.stamp <= last) {
            return Err(Refused::from(DropReason::HandshakeReplayed));
        }
        peer.last_stamp = Some(request.stamp);
        let Some(cipher) = self.identity.ciphers.choose(request.ciphers) else {
            return Err(Refused { reason: DropReason::HandshakeRejected, cookie: None, without_cipher: Some(tunnel) });
        };
        let (remote_name, local_name) = (request.name, peer.names.next());
        let grant = Grant { epoch: self.identity.epoch, position: positions(tunnel), cipher, name: local_name };
        let mut answer = [0; RESPONSE_LENGTH];
        message::emit_head(&mut answer, 2, 0, local_name);
        answer[response::RECEIVER].copy_from_slice(&remote_name.to_be_bytes());
        let split = exchange.respond(&peer.admitted.preshared, &grant.emit(), &mut answer[response::NOISE])?;
        peer.to_peer.write_mac1(&mut answer, response::MAC1.start);
        let agreement = Agreement {
            side: Side::Responder,
            cipher,
            split: &split,
            local_name,
            remote_name,
            peer_epoch: request.epoch,
            peer_position: request.position,
        };
        peer.sessions.offer(Session::new(now, &agreement));
        let expires_at = now + LIFETIME;
        self.expires_at = Some(self.expires_at.map_or(expires_at, |at| at.min(expires_at)));
        let question = bytes[initiation::NOISE].try_into().expect("the range is that long");
        peer.answered = Some(Box::new(Answered { question, answer, is_over: false }));
        Ok(Granted { answer })
    }

    /// What was answered to the same question, which comes again by another uplink, or because the answer was lost.
    fn find_answered(&mut self, bytes: &[u8; INITIATION_LENGTH]) -> Option<(&Answered, &mut Allowance)> {
        let mut answered = self.peers.iter_mut().filter_map(|peer| Some((peer.answered.as_deref()?, &mut peer.copies)));
        answered.find(|(answered, _)| answered.question == bytes[initiation::NOISE])
    }

    /// Whether the costly work may be done for whoever this is.
    fn admit(
        &mut self,
        now: Instant,
        host: &mut impl Host,
        source: SocketAddr,
        bytes: &[u8; INITIATION_LENGTH],
    ) -> Result<(), Refused> {
        if self.exchanges.take(now) {
            return Ok(());
        }
        if self.jar.is_mac2(now, source, bytes) {
            let may = self.per_source.take(now, source) && self.exchanges_with_cookie.take(now);
            return if may { Ok(()) } else { Err(Refused::from(DropReason::HandshakeThrottled)) };
        }
        let cookie = self.cookies.take(now).then(|| {
            let given = self.jar.bake(now, host, source);
            self.to_us.wrap_cookie(host, bytes, given)
        });
        Err(Refused { reason: DropReason::HandshakeThrottled, cookie, without_cipher: None })
    }
}
