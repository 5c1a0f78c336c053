//! Sessions: what seals and opens datagrams, and how one takes over from another.

use std::ops::Range;
use std::time::Duration;

use super::cipher::{Cipher, Key, Space, TAG_LENGTH};
use super::handshake::noise::Split;
use crate::proto::seq::{self, Position};
use crate::proto::stats::DropReason;
use crate::proto::time::Instant;
use crate::proto::wire::{self, KEYED_HEADER_LENGTH};

/// How long a session is good for, as in WireGuard. The box asks for another one sooner.
pub const LIFETIME: Duration = Duration::from_secs(180);
/// After so many datagrams in one direction the box asks for another session.
pub const REKEY_AFTER_DATAGRAMS: u64 = 1 << 25;
/// And so many are the most. AES-GCM may seal 2^28 datagrams of 2 KiB under one key (RFC 9001 §6.6 and B.1); of the
/// longest that there are here, a fifth as many.
const DATAGRAMS_MAX: u64 = 1 << 26;

/// Bytes that sealing a frame adds to it.
pub const OVERHEAD: usize = KEYED_HEADER_LENGTH + TAG_LENGTH;

/// Which end of a session this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The box's.
    Initiator,
    /// The gateway's.
    Responder,
}

/// What the two ends have agreed upon.
pub struct Agreement<'a> {
    /// Which end this is.
    pub side: Side,
    /// What seals.
    pub cipher: Cipher,
    /// The keys.
    pub split: &'a Split,
    /// Our name for the session.
    pub local_name: u32,
    /// The peer's name for it.
    pub remote_name: u32,
    /// Which start of the peer it is.
    pub peer_epoch: u64,
    /// How far the peer has counted.
    pub peer_position: Position,
}

/// A key for each direction.
#[derive(Debug)]
pub struct Session {
    cipher: Cipher,
    sealing: Key,
    opening: Key,
    local_name: u32,
    remote_name: u32,
    peer_epoch: u64,
    /// One past the highest counters that were authenticated: what comes next is near them.
    expected: Position,
    begun_at: Instant,
    sealed: u64,
    opened: u64,
}

impl Session {
    /// A session that begins now.
    #[must_use]
    pub fn new(now: Instant, agreement: &Agreement<'_>) -> Self {
        let Agreement { side, cipher, split, .. } = agreement;
        let (sealing, opening) = match side {
            Side::Initiator => (&split.from_initiator, &split.from_responder),
            Side::Responder => (&split.from_responder, &split.from_initiator),
        };
        Self {
            cipher: *cipher,
            sealing: Key::new(*cipher, sealing),
            opening: Key::new(*cipher, opening),
            local_name: agreement.local_name,
            remote_name: agreement.remote_name,
            peer_epoch: agreement.peer_epoch,
            expected: agreement.peer_position,
            begun_at: now,
            sealed: 0,
            opened: 0,
        }
    }

    /// Whether it has sealed or opened enough.
    #[must_use]
    pub fn is_worn(&self) -> bool {
        self.sealed.max(self.opened) >= REKEY_AFTER_DATAGRAMS
    }

    fn is_over(&self, now: Instant) -> bool {
        now >= self.begun_at + LIFETIME || self.sealed >= DATAGRAMS_MAX
    }

    /// Seals frame number `sequence` in place: `datagram` is room for a header, the frame, and room for a tag, together
    /// [`OVERHEAD`] longer than the frame.
    #[inline]
    pub fn seal_frame(&mut self, sequence: u64, datagram: &mut [u8]) {
        let header = wire::sealed_frame_header(self.remote_name, seq::truncate(sequence));
        self.seal(Space::Frame, sequence, &header, datagram);
    }

    /// The same of control message number `counter`.
    pub fn seal_control(&mut self, counter: u64, datagram: &mut [u8]) {
        let header = wire::sealed_control_header(self.remote_name, seq::truncate(counter));
        self.seal(Space::Control, counter, &header, datagram);
    }

    #[inline]
    fn seal(&mut self, space: Space, counter: u64, header: &[u8; KEYED_HEADER_LENGTH], datagram: &mut [u8]) {
        let text_end = datagram.len() - TAG_LENGTH;
        datagram[..KEYED_HEADER_LENGTH].copy_from_slice(header);
        let tag = self.sealing.seal(space, counter, header, &mut datagram[KEYED_HEADER_LENGTH..text_end]);
        datagram[text_end..].copy_from_slice(&tag);
        self.sealed += 1;
    }

    /// Opens a datagram in place. Returns where in it the text is.
    ///
    /// # Errors
    /// [`DropReason::Truncated`] or [`DropReason::Unauthenticated`]; the bytes are of no use then.
    #[inline]
    fn open(&mut self, space: Space, counter: u32, datagram: &mut [u8]) -> Result<Range<usize>, DropReason> {
        let expected = match space {
            Space::Frame => &mut self.expected.frame,
            Space::Control => &mut self.expected.control,
        };
        let counter = seq::extend(counter, *expected);
        let (header, sealed) = datagram.split_at_mut_checked(KEYED_HEADER_LENGTH).ok_or(DropReason::Truncated)?;
        if sealed.len() < TAG_LENGTH {
            return Err(DropReason::Truncated);
        }
        let length = self.opening.open(space, counter, header, sealed).ok_or(DropReason::Unauthenticated)?;
        *expected = (*expected).max(counter.saturating_add(1));
        self.opened += 1;
        Ok(KEYED_HEADER_LENGTH..KEYED_HEADER_LENGTH + length)
    }
}

/// What was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Where in the datagram the text is.
    pub text: Range<usize>,
    /// It is the first that was opened with new keys: we may seal with them, too, from now on.
    pub is_confirmation: bool,
}

/// So many sessions before the current one still open what was on its way. Over links that stall, and are asked for new
/// keys because of it, the peer may still seal with the last but one, and what it has sealed stand in a queue.
const PREVIOUS_MAX: usize = 3;

/// The sessions of one tunnel: the one that we seal with, those before it, which still open what was on its way, and, at
/// the gateway, the one to come, until the box has shown that it has its keys.
#[derive(Debug, Default)]
pub struct Sessions {
    next: Option<Session>,
    /// One that was granted before that, and not used either: its keys may be on their way still.
    next_before: Option<Session>,
    current: Option<Session>,
    /// The latest first.
    previous: [Option<Session>; PREVIOUS_MAX],
}

impl Sessions {
    /// The one that we seal with.
    #[must_use]
    pub const fn current(&self) -> Option<&Session> {
        self.current.as_ref()
    }

    /// The one that is to take over when the peer has used it.
    pub fn offer(&mut self, session: Session) {
        self.next_before = self.next.replace(session);
    }

    /// This one takes over. Returns whether there was none before of the same start of the peer.
    pub fn adopt(&mut self, session: Session) -> bool {
        let is_same_peer = self.current.as_ref().is_some_and(|current| current.peer_epoch == session.peer_epoch);
        if is_same_peer {
            self.previous.rotate_right(1);
            self.previous[0] = self.current.take();
        } else {
            // What a start before has sealed is none of this one's.
            self.previous = Default::default();
        }
        self.current = Some(session);
        !is_same_peer
    }

    /// Whether there is one to come.
    #[must_use]
    pub const fn has_offer(&self) -> bool {
        self.next.is_some()
    }

    /// Forgets what is over.
    pub fn expire(&mut self, now: Instant) {
        let to_come = [&mut self.next, &mut self.next_before];
        for session in to_come.into_iter().chain([&mut self.current]).chain(&mut self.previous) {
            session.take_if(|session| session.is_over(now));
        }
    }

    /// The peer has left: nothing that this start of it has sealed is opened any more, not even for the first time.
    pub fn forget_peer(&mut self) {
        let gone = self.current.take().map(|session| session.peer_epoch);
        self.previous = Default::default();
        self.next.take_if(|session| Some(session.peer_epoch) == gone);
        self.next_before.take_if(|session| Some(session.peer_epoch) == gone);
    }

    /// When [`Self::expire`] will have something to do.
    #[must_use]
    pub fn expires_at(&self) -> Option<Instant> {
        let all = [&self.next, &self.next_before, &self.current].into_iter().chain(&self.previous);
        all.flatten().map(|session| session.begun_at + LIFETIME).min()
    }

    /// The session to seal with.
    ///
    /// # Errors
    /// [`DropReason::NoSession`].
    #[inline]
    pub fn sealing(&mut self, now: Instant) -> Result<&mut Session, DropReason> {
        self.current.as_mut().filter(|session| !session.is_over(now)).ok_or(DropReason::NoSession)
    }

    /// Opens a datagram in place with the keys of the session that we call `name`.
    ///
    /// # Errors
    /// [`DropReason::UnknownSession`], [`DropReason::Truncated`] or [`DropReason::Unauthenticated`].
    #[inline]
    pub fn open(
        &mut self,
        now: Instant,
        name: u32,
        space: Space,
        counter: u32,
        datagram: &mut [u8],
    ) -> Result<Opened, DropReason> {
        if let Some(session) = usable(&mut self.current, name, now) {
            return session.open(space, counter, datagram).map(|text| Opened { text, is_confirmation: false });
        }
        if let Some(session) = self.previous.iter_mut().find_map(|session| usable(session, name, now)) {
            return session.open(space, counter, datagram).map(|text| Opened { text, is_confirmation: false });
        }
        if let Some(session) = usable(&mut self.next, name, now) {
            let text = session.open(space, counter, datagram)?;
            return Ok(Opened { text, is_confirmation: true });
        }
        let session = usable(&mut self.next_before, name, now).ok_or(DropReason::UnknownSession)?;
        let text = session.open(space, counter, datagram)?;
        // It takes over, and the later one is still to come.
        std::mem::swap(&mut self.next, &mut self.next_before);
        Ok(Opened { text, is_confirmation: true })
    }

    /// The session to come takes over. Returns its cipher, and whether there was none before of the same start of the
    /// peer.
    pub fn confirm(&mut self) -> Option<(Cipher, bool)> {
        let session = self.next.take()?;
        let (cipher, other) = (session.cipher, self.next_before.take());
        let is_later = other.as_ref().is_some_and(|other| other.begun_at >= session.begun_at);
        let is_first = self.adopt(session);
        if is_later {
            self.next = other;
        } else if !is_first {
            // The box has passed it over, and may have sealed something with it all the same.
            self.previous[PREVIOUS_MAX - 1] = other.or(self.previous[PREVIOUS_MAX - 1].take());
        }
        Some((cipher, is_first))
    }
}

#[inline]
fn usable(session: &mut Option<Session>, name: u32, now: Instant) -> Option<&mut Session> {
    session.as_mut().filter(|session| session.local_name == name && !session.is_over(now))
}
