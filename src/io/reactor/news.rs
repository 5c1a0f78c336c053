//! What happens beside packets: events of the core, signals, news of the interfaces, a configuration that was read again.

use std::io;
use std::os::fd::AsRawFd;

use super::{Reactor, control};
use crate::control::Answer;
use crate::io::attendant::Attendant;
use crate::io::token::Token;
use crate::io::usage::Usage;
use crate::io::{poll, status, sys};
use crate::proto::time::Instant;
use crate::proto::tunnel::Event;

impl Reactor {
    pub(super) fn report_events(&mut self, now: Instant, tunnel: usize) {
        while let Some((event, lost_before)) = self.endpoint.poll_event(tunnel) {
            {
                let _named = self.names.enter(tunnel);
                let live = &mut self.live[tunnel];
                if let Event::Sealed { cipher, .. } = &event {
                    live.cipher = Some(cipher.name());
                }
                self.event_log.log(now, &live.tap, &self.endpoint.tunnels()[tunnel], &event, lost_before);
            }
            if let Event::TapMtu(mtu) = event {
                self.follow_mtu(now, tunnel, mtu);
            }
        }
    }

    /// With `--mtu auto` the TAP has the MTU that both ends can bear.
    fn follow_mtu(&mut self, now: Instant, tunnel: usize, mtu: u16) {
        let Some(mtu) = self.links.tap_mtu(mtu) else { return };
        let tap = &self.taps[tunnel].tap;
        if tap.mtu().is_ok_and(|current| current == mtu) {
            return;
        }
        let _named = self.names.enter(tunnel);
        match tap.set_mtu(mtu) {
            Ok(()) => {
                if self.event_log.may_log(now) {
                    log_mtu(mtu);
                }
                self.endpoint.tunnel_mut(tunnel).set_tap_mtu(mtu);
            }
            Err(error) => tracing::warn!("cannot set the TAP's MTU to {mtu}: {error}"),
        }
    }

    pub(super) fn watch_signals(&mut self) -> io::Result<()> {
        poll(&mut self.ring, self.signals.as_raw_fd(), libc::POLLIN, Token::Signal)
    }

    pub(super) fn watch_links(&mut self) -> io::Result<()> {
        match self.links.news_descriptor() {
            Some(descriptor) => poll(&mut self.ring, descriptor, libc::POLLIN, Token::LinkNews),
            None => Ok(()),
        }
    }

    pub(super) fn watch_control(&mut self) -> io::Result<()> {
        if let Some(control) = &self.control {
            control.watch(&mut self.ring)?;
        }
        self.watch_attendant()
    }

    pub(super) fn watch_attendant(&mut self) -> io::Result<()> {
        match &self.attendant {
            Some(attendant) => poll(&mut self.ring, attendant.descriptor(), libc::POLLIN, Token::Attendant),
            None => Ok(()),
        }
    }

    /// The configuration has been read again, or whoever should have done that is no more.
    pub(super) fn on_attendant(&mut self, now: Instant) -> io::Result<()> {
        let Some(answer) = self.attendant.as_mut().map(Attendant::take_answer) else { return Ok(()) };
        let outcome = match answer {
            Ok(None) => return self.watch_attendant(),
            Ok(Some(Ok(flags))) => self.reconfigure(now, flags),
            Ok(Some(Err(error))) => Err(error),
            Err(_) => {
                self.attendant = None;
                Err(control::NO_ATTENDANT.to_owned())
            }
        };
        if let Err(error) = &outcome {
            tracing::error!("the configuration is not taken: {error}");
        }
        if let Some(control) = &mut self.control {
            control.say_to_waiting(&outcome.map_or_else(Answer::Error, Answer::Done));
            control.flush(now, &mut self.ring)?;
        }
        self.watch_attendant()
    }

    pub(super) fn on_signal(&mut self, now: Instant) -> io::Result<()> {
        while let Some(signal) = sys::read_signal(&self.signals)? {
            if signal == libc::SIGHUP {
                if self.attendant.as_mut().is_none_or(|attendant| attendant.ask().is_err()) {
                    tracing::error!("the configuration is not read again: {}", control::NO_ATTENDANT);
                }
            } else if signal == libc::SIGUSR1 {
                status::log_counters(now, &self.endpoint, &self.names, self.arena.held_slots());
                self.usage.iter().for_each(Usage::log);
            } else {
                tracing::info!("stopping on {}", if signal == libc::SIGINT { "SIGINT" } else { "SIGTERM" });
                self.stopping = true;
            }
        }
        self.watch_signals()
    }

    pub(super) fn on_link_news(&mut self, now: Instant) -> io::Result<()> {
        self.links.on_news(now, &mut self.endpoint);
        self.watch_links()
    }
}

fn log_mtu(mtu: u16) {
    // RFC 8200 §5. Linux takes IPv6 off an interface that has less.
    const IPV6_MTU_MIN: u16 = 1280;
    if mtu < IPV6_MTU_MIN {
        tracing::warn!(
            "TAP MTU is {mtu} now, which both ends' uplinks carry: too little for IPv6. If that is needed, set --mtu {IPV6_MTU_MIN}: \
             an uplink that carries less has short frames only then"
        );
    } else {
        tracing::info!("TAP MTU is {mtu} now, which both ends' uplinks carry");
    }
}
