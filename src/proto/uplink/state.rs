//! Whether an uplink can be used for sending: a state machine with hysteresis.
//!
//! ```text
//!                    first answer ever
//!          ┌───────────────────────────────────────┐
//!          │                                       ▼   silence, or the peer does not hear it
//!        Down ──an answer──▶ Probation ──proved──▶ Up ────────────────────────────▶ Suspect
//!          ▲ ▲                   │                 ▲ │                                │  │
//!          │ └───────silence─────┘                 │ └─carrier, fatal send error─▶ …  │  │
//!          │                                       └───────────heard again────────────┘  │
//!          └──────────────────────────────────silence goes on────────────────────────────┘
//! ```
//!
//! Suspicion is cheap both ways: a suspect uplink carries no more frames of modes that have a better one, and is
//! trusted again with its next sign of life. Only an uplink that has fallen has to prove itself, twice as long each
//! time it falls again soon.

use std::fmt;
use std::time::Duration;

use crate::proto::time::Instant;

/// How long an uplink that has fallen has to answer before it is used again.
const PROOF_MIN: Duration = Duration::from_millis(500);
/// The same, for an uplink that keeps falling.
const PROOF_MAX: Duration = Duration::from_secs(8);
/// How long an uplink must have been up for its past to be forgotten.
const FORGIVEN_AFTER: Duration = Duration::from_secs(30);

/// Whether an uplink can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Frames do not reach the peer by it.
    Down,
    /// It answers again after a fall, and has yet to prove itself.
    Probation,
    /// Frames reach the peer.
    Up,
    /// It has missed its signs of life and may be about to fall.
    Suspect,
}

impl State {
    /// The name in logs and status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Probation => "probation",
            Self::Up => "up",
            Self::Suspect => "suspect",
        }
    }
}

/// Why a state changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing has happened yet.
    Starting,
    /// A probe was answered.
    Answered,
    /// It has answered for this long.
    Proved(Duration),
    /// The peer hears it again.
    HeardAgain,
    /// No sign of life for this long.
    Silence(Duration),
    /// The peer says that it does not hear it.
    PeerDoesNotHear,
    /// The interface has lost its carrier.
    NoCarrier,
    /// The interface has been set down.
    InterfaceDown,
    /// There is no such interface now.
    InterfaceGone,
    /// The socket could not be opened or used; an errno.
    SocketError(i32),
    /// The socket is new, so the old one's fate says nothing.
    Reopened,
    /// The peer has said good-bye.
    PeerLeft,
    /// The peer has started anew.
    PeerRestarted,
    /// The user uses it no more.
    Removed,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => write!(f, "starting"),
            Self::Answered => write!(f, "the peer answers"),
            Self::Proved(time) => write!(f, "has answered for {time:.0?}"),
            Self::HeardAgain => write!(f, "the peer hears it again"),
            Self::Silence(time) => write!(f, "no sign of life for {time:.0?}"),
            Self::PeerDoesNotHear => write!(f, "the peer does not hear it"),
            Self::NoCarrier => write!(f, "no carrier"),
            Self::InterfaceDown => write!(f, "the interface is set down"),
            Self::InterfaceGone => write!(f, "the interface is gone"),
            Self::SocketError(errno) => write!(f, "{}", std::io::Error::from_raw_os_error(*errno)),
            Self::Reopened => write!(f, "its socket is new"),
            Self::PeerLeft => write!(f, "the peer has stopped"),
            Self::PeerRestarted => write!(f, "the peer has restarted"),
            Self::Removed => write!(f, "it is used no more"),
        }
    }
}

/// A change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state left.
    pub from: State,
    /// The state entered.
    pub to: State,
    /// Why.
    pub reason: Reason,
}

/// Signs of life, as the monitor knows them.
#[derive(Clone, Copy, Debug)]
pub struct Signs {
    /// When the peer last showed that it hears this uplink.
    pub confirmed_at: Option<Instant>,
    /// When the newest probe that has been answered was sent.
    pub answered_probe_sent_at: Option<Instant>,
    /// The peer's newest word is that it does not hear this uplink.
    pub denied: bool,
    /// From when on silence counts (a probe rate that has just been raised must have had its chance).
    pub counted_from: Instant,
    /// How long a silence is suspicious.
    pub suspect_after: Duration,
    /// How long a suspicion lasts before the uplink falls.
    pub down_after: Duration,
}

impl Signs {
    fn quiet_at(&self) -> Instant {
        self.confirmed_at.map_or(self.counted_from, |at| at.max(self.counted_from)) + self.suspect_after
    }
}

/// The state and what is needed to leave it.
#[derive(Clone, Copy, Debug)]
pub struct StateMachine {
    state: State,
    since: Instant,
    /// When it was last proved, or trusted for the first time.
    up_since: Instant,
    /// How long it must answer in probation; zero as long as it has never fallen.
    proof: Duration,
}

impl StateMachine {
    /// Down, and trusted at its first answer.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self { state: State::Down, since: now, up_since: now, proof: Duration::ZERO }
    }

    /// The state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// When the state was entered.
    #[must_use]
    pub const fn since(&self) -> Instant {
        self.since
    }

    /// Falls, for a reason that allows no doubt.
    pub fn fall(&mut self, now: Instant, reason: Reason) -> Option<Transition> {
        let from = std::mem::replace(&mut self.state, State::Down);
        if from != State::Down {
            let fell_soon = from == State::Probation || now.since(self.up_since) < FORGIVEN_AFTER;
            self.proof = if fell_soon { (self.proof * 2).clamp(PROOF_MIN, PROOF_MAX) } else { PROOF_MIN };
        }
        // Even if it was down already: answers to what was sent before now prove nothing.
        self.since = now;
        (from != State::Down).then_some(Transition { from, to: State::Down, reason })
    }

    /// Begins anew, with no past.
    pub fn restart(&mut self, now: Instant, reason: Reason) -> Option<Transition> {
        let from = self.state;
        *self = Self::new(now);
        (from != State::Down).then_some(Transition { from, to: State::Down, reason })
    }

    /// Makes the change that `signs` call for, if any.
    pub fn evaluate(&mut self, now: Instant, signs: &Signs) -> Option<Transition> {
        let quiet = now >= signs.quiet_at();
        let answered_since = signs.answered_probe_sent_at.is_some_and(|sent_at| sent_at > self.since);
        let silence = signs.confirmed_at.map_or(Duration::ZERO, |at| now.since(at));
        match self.state {
            State::Down if answered_since && !quiet && !signs.denied => {
                let to = if self.proof.is_zero() { State::Up } else { State::Probation };
                self.enter(now, to, Reason::Answered)
            }
            State::Probation if quiet => self.fall(now, Reason::Silence(silence)),
            State::Probation if signs.denied => self.fall(now, Reason::PeerDoesNotHear),
            State::Probation if now >= self.since + self.proof => {
                self.enter(now, State::Up, Reason::Proved(self.proof))
            }
            State::Up if signs.denied => self.enter(now, State::Suspect, Reason::PeerDoesNotHear),
            State::Up if quiet => self.enter(now, State::Suspect, Reason::Silence(silence)),
            State::Suspect if !quiet && !signs.denied => self.enter(now, State::Up, Reason::HeardAgain),
            State::Suspect if now >= self.since + signs.down_after => self.fall(now, Reason::Silence(silence)),
            _ => None,
        }
    }

    /// When [`Self::evaluate`] will have something to do if no sign of life comes.
    #[must_use]
    pub fn next_change(&self, signs: &Signs) -> Option<Instant> {
        match self.state {
            State::Down => None,
            State::Probation => Some(signs.quiet_at().min(self.since + self.proof)),
            State::Up => Some(signs.quiet_at()),
            State::Suspect => Some(self.since + signs.down_after),
        }
    }

    fn enter(&mut self, now: Instant, to: State, reason: Reason) -> Option<Transition> {
        let from = std::mem::replace(&mut self.state, to);
        self.since = now;
        if to == State::Up && from != State::Suspect {
            self.up_since = now;
        }
        Some(Transition { from, to, reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Instant {
        Instant::from_nanos(milliseconds * 1_000_000)
    }

    fn signs(confirmed: u64, answered: u64) -> Signs {
        Signs {
            confirmed_at: Some(at(confirmed)),
            answered_probe_sent_at: Some(at(answered)),
            denied: false,
            counted_from: at(0),
            suspect_after: Duration::from_millis(80),
            down_after: Duration::from_millis(200),
        }
    }

    fn states(machine: &mut StateMachine, now: u64, signs: &Signs) -> State {
        machine.evaluate(at(now), signs);
        machine.state()
    }

    #[test]
    fn the_first_answer_is_trusted_and_a_return_has_to_be_proved() {
        let mut machine = StateMachine::new(at(0));
        assert_eq!(states(&mut machine, 30, &signs(30, 10)), State::Up);
        assert_eq!(states(&mut machine, 110, &signs(30, 10)), State::Suspect);
        assert_eq!(states(&mut machine, 310, &signs(30, 10)), State::Down);
        assert_eq!(states(&mut machine, 320, &signs(320, 300)), State::Down, "that probe was sent before the fall");
        assert_eq!(states(&mut machine, 340, &signs(340, 315)), State::Probation);
        assert_eq!(states(&mut machine, 839, &signs(839, 820)), State::Probation);
        assert_eq!(states(&mut machine, 840, &signs(840, 820)), State::Up);
    }

    #[test]
    fn a_suspect_is_trusted_again_with_its_next_sign_of_life() {
        let mut machine = StateMachine::new(at(0));
        machine.evaluate(at(30), &signs(30, 10));
        assert_eq!(states(&mut machine, 120, &signs(30, 10)), State::Suspect);
        assert_eq!(states(&mut machine, 130, &signs(130, 110)), State::Up);
    }

    #[test]
    fn the_peers_word_weighs_at_once() {
        let mut machine = StateMachine::new(at(0));
        machine.evaluate(at(30), &signs(30, 10));
        let denied = Signs { denied: true, ..signs(35, 20) };
        let transition = machine.evaluate(at(36), &denied).expect("a change");
        assert_eq!((transition.to, transition.reason), (State::Suspect, Reason::PeerDoesNotHear));
    }

    #[test]
    fn a_link_that_keeps_falling_proves_itself_ever_longer_up_to_a_bound() {
        let mut machine = StateMachine::new(at(0));
        machine.evaluate(at(30), &signs(30, 10));
        let mut now = 100;
        let mut proofs = vec![];
        for _ in 0..8 {
            machine.fall(at(now), Reason::NoCarrier);
            let fell = now + 1;
            while machine.state() != State::Up {
                now += 10;
                machine.evaluate(at(now), &signs(now, now.max(1) - 1));
            }
            proofs.push(now - fell);
        }
        assert!(proofs.windows(2).all(|pair| pair[0] <= pair[1] + 20), "{proofs:?}");
        assert!((7_900..8_200).contains(proofs.last().expect("eight")), "{proofs:?}");
    }
}
