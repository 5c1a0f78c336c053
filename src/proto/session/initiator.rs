//! The box's side: asks for a session when there is none, when its keys grow old, and when the gateway is not heard any
//! more, which may have started again and know none of our keys.
//!
//! The same message goes by every uplink, and again after a while, until one answer has come: the gateway gives the same
//! answer to each. Only after [`ATTEMPT_FOR`] a new one is made.

use std::collections::VecDeque;
use std::time::Duration;

use super::handshake::mac::{self, COOKIE_LIFETIME, Code, ReceiverKeys};
use super::handshake::message::{
    self, COOKIE_LENGTH, Grant, INITIATION_LENGTH, RESPONSE_LENGTH, Request, initiation, response,
};
use super::handshake::noise::Exchange;
use super::keys::{PresharedKey, PublicKey};
use super::limiter::Allowance;
use super::transport::{Agreement, Session, Sessions, Side};
use super::{Host, Identity, Names};
use crate::proto::seq::Position;
use crate::proto::session::cipher::Cipher;
use crate::proto::stats::DropReason;
use crate::proto::time::Instant;
use crate::proto::uplink::{UPLINKS_MAX, UplinkId, UplinkSet};

/// How long the same message is sent again.
pub const ATTEMPT_FOR: Duration = Duration::from_secs(5);
/// How long after the first time it is sent again, and how long at most between two.
const RESEND_AFTER: Duration = Duration::from_millis(250);
const RESEND_AFTER_MAX: Duration = Duration::from_secs(1);
/// How long the gateway may be silent on every uplink before we ask whether it still knows us: at least, and at most,
/// over a slow way, by which its first word takes as long as its answer did.
const SILENCE: Duration = Duration::from_millis(300);
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// Answers by each uplink that are looked into, each of which is a tenth of a millisecond's work: whoever knows our public
/// key and has seen the question can forge some, but not those of the other uplinks.
const ANSWERS: Allowance = Allowance::new(20, 20);

/// How often at most it is said that nobody answers.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// What the box asks with.
pub struct InitiatorSettings {
    /// Our side.
    pub identity: Identity,
    /// The gateway's key.
    pub peer: PublicKey,
    /// What is shared with it beside.
    pub preshared: PresharedKey,
    /// How long keys are used before new ones are asked for.
    pub rekey_interval: Duration,
}

/// A message to send by an uplink.
#[derive(Clone, Debug)]
pub struct InitiationTransmit {
    /// Which.
    pub uplink: UplinkId,
    /// The datagram.
    pub bytes: [u8; INITIATION_LENGTH],
}

/// What the box has been asked, and by which answer it will know that it was.
struct Attempt {
    exchange: Exchange,
    /// All of the message but mac2, which is another one on each uplink.
    message: [u8; INITIATION_LENGTH],
    name: u32,
    begun_at: Instant,
    resend_at: Instant,
    resend_after: Duration,
}

/// A cookie, and when it came.
#[derive(Clone, Copy)]
struct Cookie {
    code: Code,
    given_at: Instant,
}

/// The box's side of the handshake, and its sessions.
pub struct Initiator {
    settings: InitiatorSettings,
    hint: u32,
    to_peer: ReceiverKeys,
    to_us: ReceiverKeys,
    names: Names,
    last_stamp: u64,
    sessions: Sessions,
    attempt: Option<Attempt>,
    /// Cookies are for addresses, and each uplink has its own.
    cookies: [Option<Cookie>; UPLINKS_MAX],
    /// When the current session is to be replaced: somewhat earlier for some than for others, so that boxes which have
    /// started together do not go on together.
    rekey_at: Option<Instant>,
    unheard_since: Option<Instant>,
    /// How long the gateway may be silent.
    silence: Duration,
    /// There is nothing to ask by: not before then.
    waits_until: Instant,
    answers: [Allowance; UPLINKS_MAX],
    outbox: VecDeque<InitiationTransmit>,
    unanswered: bool,
    /// When it was last said that nobody answers.
    complained_at: Option<Instant>,
}

impl Initiator {
    /// No session yet.
    #[must_use]
    pub fn new(host: &mut impl Host, settings: InitiatorSettings) -> Self {
        let public = settings.identity.private_key.public();
        Self {
            hint: mac::hint(&public),
            to_peer: ReceiverKeys::of(&settings.peer),
            to_us: ReceiverKeys::of(&public),
            names: Names::new(host, 0, 0),
            last_stamp: 0,
            sessions: Sessions::default(),
            attempt: None,
            cookies: [None; UPLINKS_MAX],
            rekey_at: None,
            unheard_since: None,
            silence: SILENCE,
            waits_until: Instant::ZERO,
            answers: [ANSWERS; UPLINKS_MAX],
            outbox: VecDeque::with_capacity(UPLINKS_MAX),
            unanswered: false,
            complained_at: None,
            settings,
        }
    }

    /// The sessions.
    #[inline]
    pub const fn sessions(&mut self) -> &mut Sessions {
        &mut self.sessions
    }

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<InitiationTransmit> {
        self.outbox.pop_front()
    }

    /// Whether an attempt has been given up since this was last asked, and it is time to say so.
    pub const fn take_unanswered(&mut self) -> bool {
        std::mem::replace(&mut self.unanswered, false)
    }

    /// Whether the gateway is heard by any uplink, now.
    pub const fn on_heard(&mut self, now: Instant, is_heard: bool) {
        match (is_heard, self.unheard_since) {
            (true, _) => self.unheard_since = None,
            (false, None) => self.unheard_since = Some(now),
            (false, Some(_)) => {}
        }
    }

    /// When [`Self::on_timeout`] will have something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Instant {
        let next = match &self.attempt {
            Some(attempt) => attempt.resend_at,
            None => self.wanted_at(),
        };
        self.sessions.expires_at().map_or(next, |at| at.min(next))
    }

    /// Asks if it is time to, by each of `uplinks`.
    pub fn on_timeout(&mut self, now: Instant, host: &mut impl Host, uplinks: UplinkSet, position: Position) {
        self.sessions.expire(now);
        if now < self.wanted_at() {
            self.attempt = None;
            return;
        }
        if uplinks.is_empty() {
            self.attempt = None;
            self.waits_until = now + RESEND_AFTER_MAX;
            return;
        }
        if self.attempt.as_ref().is_some_and(|attempt| now >= attempt.begun_at + ATTEMPT_FOR) {
            self.attempt = None;
            self.complain(now);
        }
        match &mut self.attempt {
            None => self.attempt = Some(self.begin(now, host, position)),
            Some(attempt) if now < attempt.resend_at => return,
            Some(attempt) => attempt.put_off(now, host),
        }
        uplinks.iter().for_each(|uplink| self.send(now, uplink));
    }

    /// An uplink can be used that could not: what has been asked is asked by it, too.
    pub fn on_uplink(&mut self, now: Instant, uplink: UplinkId) {
        self.waits_until = Instant::ZERO;
        self.send(now, uplink);
    }

    fn wanted_at(&self) -> Instant {
        if self.sessions.current().is_none_or(Session::is_worn) {
            return self.waits_until;
        }
        let aged = self.rekey_at.unwrap_or(Instant::ZERO);
        self.unheard_since.map_or(aged, |since| (since + self.silence).min(aged)).max(self.waits_until)
    }

    fn complain(&mut self, now: Instant) {
        if self.complained_at.is_none_or(|at| now >= at + COMPLAIN_EVERY) {
            self.complained_at = Some(now);
            self.unanswered = true;
        }
    }

    fn begin(&mut self, now: Instant, host: &mut impl Host, position: Position) -> Attempt {
        let identity = &self.settings.identity;
        // Each later than the one before, even if the clock goes back.
        let time = u64::try_from(host.time_of_day().as_nanos()).unwrap_or(u64::MAX);
        self.last_stamp = time.max(self.last_stamp.saturating_add(1));
        let name = self.names.next();
        let (epoch, ciphers) = (identity.epoch, identity.ciphers);
        let request = Request { stamp: self.last_stamp, epoch, position, ciphers, name }.emit();
        let mut bytes = [0; INITIATION_LENGTH];
        message::emit_head(&mut bytes, 1, self.hint, name);
        let (own, peer, preshared) = (&identity.private_key, &self.settings.peer, &self.settings.preshared);
        let noise = &mut bytes[initiation::NOISE];
        let exchange = Exchange::initiate(host, own, peer, preshared, &request, noise);
        self.to_peer.write_mac1(&mut bytes, initiation::MAC1.start);
        let mut attempt =
            Attempt { exchange, message: bytes, name, begun_at: now, resend_at: now, resend_after: RESEND_AFTER };
        attempt.put_off(now, host);
        attempt
    }

    fn send(&mut self, now: Instant, uplink: UplinkId) {
        let Some(attempt) = &self.attempt else { return };
        if self.outbox.len() == UPLINKS_MAX {
            return;
        }
        let mut bytes = attempt.message;
        let cookie = self.cookies[uplink.index()].filter(|cookie| now < cookie.given_at + COOKIE_LIFETIME);
        if let Some(cookie) = cookie {
            mac::write_mac2(&mut bytes, &cookie.code);
        }
        self.outbox.push_back(InitiationTransmit { uplink, bytes });
    }

    /// An answer has come by `uplink`. Returns the cipher of the session that it grants, and whether it is the first with
    /// this start of the gateway.
    ///
    /// # Errors
    /// Why it is none.
    pub fn on_response(
        &mut self,
        now: Instant,
        host: &mut impl Host,
        uplink: UplinkId,
        bytes: &[u8; RESPONSE_LENGTH],
    ) -> Result<(Cipher, bool), DropReason> {
        if !self.to_us.is_mac1(bytes, response::MAC1.start) {
            return Err(DropReason::HandshakeMac);
        }
        let name = message::receiver(bytes);
        let attempt = self.attempt.as_mut().filter(|attempt| attempt.name == name);
        let attempt = attempt.ok_or(DropReason::HandshakeOver)?;
        if !self.answers[uplink.index()].take(now) {
            return Err(DropReason::HandshakeThrottled);
        }
        let (payload, split) = attempt.exchange.conclude(&bytes[response::NOISE])?;
        let grant = Grant::parse(&payload)?;
        if !self.settings.identity.ciphers.contains(grant.cipher) {
            return Err(DropReason::HandshakeRejected);
        }
        self.silence = (now.since(attempt.begun_at) * 2).clamp(SILENCE, SILENCE_MAX);
        self.attempt = None;
        let session = Session::new(
            now,
            &Agreement {
                side: Side::Initiator,
                cipher: grant.cipher,
                split: &split,
                local_name: name,
                // Not the one in front, which nobody vouches for.
                remote_name: grant.name,
                peer_epoch: grant.epoch,
                peer_position: grant.position,
            },
        );
        let interval = self.settings.rekey_interval;
        // Up to a tenth sooner.
        self.rekey_at = Some(now + interval - interval * host.draw(100) / 1000);
        self.complained_at = None;
        // Whoever has granted it is there.
        self.unheard_since = None;
        Ok((grant.cipher, self.sessions.adopt(session)))
    }

    /// A cookie has come by `uplink`: asks once more, with it.
    ///
    /// # Errors
    /// Why it is none of ours.
    pub fn on_cookie(&mut self, now: Instant, uplink: UplinkId, bytes: &[u8; COOKIE_LENGTH]) -> Result<(), DropReason> {
        let name = message::sender(bytes);
        let attempt = self.attempt.as_ref().filter(|attempt| attempt.name == name);
        let attempt = attempt.ok_or(DropReason::HandshakeOver)?;
        let code = self.to_peer.unwrap_cookie(bytes, &attempt.message[initiation::MAC1]);
        let code = code.ok_or(DropReason::Unauthenticated)?;
        let known = self.cookies[uplink.index()].replace(Cookie { code, given_at: now });
        // The same cookie once more would be answered as the one before it was.
        if known.is_none_or(|known| known.code != code) {
            self.send(now, uplink);
        }
        Ok(())
    }
}

impl Attempt {
    fn put_off(&mut self, now: Instant, host: &mut impl Host) {
        // From 80% to 120%.
        self.resend_at = now + self.resend_after * (80 + host.draw(41)) / 100;
        self.resend_after = (self.resend_after * 3 / 2).min(RESEND_AFTER_MAX);
    }
}
