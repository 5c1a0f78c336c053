//! What the clients of the control socket ask for: one step at a time, when all packets have been seen to.

use std::io;

use super::{LiveTunnel, Reactor};
use crate::control::{Answer, Command, Process, Quantity, Request};
use crate::io::control::describe::{self, TunnelFacts, UplinkFacts};
use crate::io::control::trace::{Trace, Verdict};
use crate::io::control::{ClientId, ControlSocket, Task};
use crate::io::sys;
use crate::io::usage::Usage;
use crate::proto::time::Instant;
use crate::proto::tunnel::Path;
use crate::proto::uplink::UplinkId;

impl Reactor {
    /// Whether a client waits for something that can be done now.
    pub(super) fn has_control_work(&self) -> bool {
        self.control.as_ref().is_some_and(|control| {
            // One whose client is gone is to end.
            let is_due =
                |trace: &Trace| !control.has(trace.client) || (trace.has_records() && control.is_ready(trace.client));
            control.has_work() || self.trace.as_ref().is_some_and(is_due)
        })
    }

    /// Does one step for one client.
    pub(super) fn serve_control(&mut self, now: Instant) -> io::Result<()> {
        let Some(mut control) = self.control.take() else { return Ok(()) };
        let begun = sys::monotonic_now();
        if let Some((client, task)) = control.next_task() {
            self.step(now, &mut control, client, task);
        }
        self.give_trace(&mut control);
        let flushed = control.flush(now, &mut self.ring);
        self.control = Some(control);
        self.times.on_control_step(begun, sys::monotonic_now());
        flushed
    }

    fn step(&mut self, now: Instant, control: &mut ControlSocket, client: ClientId, task: Task) {
        match task {
            Task::Request(request) => self.begin(now, control, client, request),
            Task::Finish(answer) => control.say(client, answer, None),
            Task::Statuses(next, end) if next < end => {
                let answer = Answer::Status(Box::new(self.describe(now, next)));
                control.say(client, answer, Some(Task::Statuses(next + 1, end)));
            }
            Task::Histograms(mut number, tunnel, end) if tunnel < end => {
                let (of, tap) = (&self.endpoint.tunnels()[tunnel], &self.live[tunnel].tap);
                // Of the numbers that there can be most are of no uplink.
                let next = std::iter::from_fn(|| {
                    let found = describe::histogram(number, of, tap, self.times.of(tunnel))?;
                    number += 1;
                    Some(found)
                });
                match next.flatten().next() {
                    Some(answer) => control.say(client, answer, Some(Task::Histograms(number, tunnel, end))),
                    None => control.set_task(client, Task::Histograms(0, tunnel + 1, end)),
                }
            }
            Task::Events(after) => match self.event_log.after(after) {
                Some(event) => control.say(client, Answer::Event(event.clone()), Some(Task::Events(event.number))),
                None => control.say(client, Answer::Done(String::new()), None),
            },
            Task::Histograms(..) => {
                for (of, times) in
                    [(Quantity::Loop, self.times.loops()), (Quantity::ControlStep, self.times.control_steps())]
                {
                    control.say(client, describe::describe(of, None, None, times), None);
                }
                control.say(client, Answer::Done(String::new()), None);
            }
            Task::Statuses(..) => control.say(client, Answer::Done(String::new()), None),
        }
    }

    fn begin(&mut self, now: Instant, control: &mut ControlSocket, client: ClientId, request: Request) {
        let of = match self.tunnels_meant(request.tap.as_deref(), Task::changes(&request.command)) {
            Ok(of) => of,
            Err(error) => return control.say(client, Answer::Error(error), None),
        };
        match request.command {
            Command::Status => control.set_task(client, Task::Statuses(of.start, of.end)),
            Command::Histograms => control.set_task(client, Task::Histograms(0, of.start, of.end)),
            Command::Events { after } => control.set_task(client, Task::Events(after)),
            Command::Reload => match self.attendant.as_mut().map(crate::io::attendant::Attendant::ask) {
                Some(Ok(())) => control.wait(client),
                _ => control.say(client, Answer::Error(NO_ATTENDANT.to_owned()), None),
            },
            Command::Trace { snap_length } => self.begin_trace(control, client, snap_length),
            change => {
                let outcome = self.change(now, of.start, change);
                control.say(client, outcome.map_or_else(Answer::Error, Answer::Done), None);
            }
        }
    }

    /// The numbers of the tunnels that a request is about.
    fn tunnels_meant(&self, tap: Option<&str>, changes: bool) -> Result<std::ops::Range<usize>, String> {
        let taps = || self.live.iter().map(|live| live.tap.as_str()).collect::<Vec<_>>().join(", ");
        match tap {
            Some(tap) => {
                let number = self.live.iter().position(|live| live.tap == tap || live.name.as_deref() == Some(tap));
                let number =
                    number.ok_or_else(|| format!("there is no tunnel with the TAP '{tap}' here: {}", taps()))?;
                Ok(number..number + 1)
            }
            None if changes && self.live.len() > 1 => Err(format!("which tunnel? Name its TAP by --tap: {}", taps())),
            None => Ok(0..self.live.len()),
        }
    }

    /// How a tunnel is.
    fn describe(&self, now: Instant, number: usize) -> crate::control::Status {
        let LiveTunnel { tap, name, window, cipher, .. } = &self.live[number];
        let uplink = |uplink: UplinkId, path: Option<Path>| {
            let (device, addresses) = self.links.describe(uplink);
            let remote = addresses.map(|[_, remote]| remote).or(path.map(|path| path.remote));
            UplinkFacts {
                device,
                local: addresses.map(|[local, _]| local.ip().to_string()),
                remote: remote.map(|remote| remote.to_string()),
                budget: self.usage.as_ref().and_then(|usage: &Usage| usage.status(uplink)),
            }
        };
        let facts = TunnelFacts {
            process: Process {
                program: self.identity.program.to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                uptime_s: now.since(self.started_at).as_secs_f64(),
                public_key: self.identity.public_key.clone(),
                buffers_in_use: self.arena.held_slots() as u64,
                wakeups: self.times.loops().count(),
                loop_us: describe::quantiles(self.times.loops(), 1e6),
                control_us: describe::quantiles(self.times.control_steps(), 1e6),
            },
            name: name.clone(),
            tap: tap.clone(),
            window: window.to_string(),
            cipher: *cipher,
            times: self.times.of(number),
            uplink: &uplink,
        };
        describe::status(now, &self.endpoint.tunnels()[number], facts)
    }

    fn begin_trace(&mut self, control: &mut ControlSocket, client: ClientId, snap_length: u32) {
        if self.trace.as_ref().is_some_and(|trace| control.has(trace.client)) {
            let error = "another trace is being recorded: wait until it has ended".to_owned();
            return control.say(client, Answer::Error(error), None);
        }
        let trace = Trace::new(client, snap_length);
        let snap_length = trace.snap_length();
        (0..self.live.len()).for_each(|tunnel| self.endpoint.tunnel_mut(tunnel).watch(Some(snap_length)));
        self.trace = Some(trace);
        let taps = self.live.iter().map(|live| live.tap.clone()).collect();
        control.say(client, Answer::Trace { taps, verdicts: Verdict::names() }, None);
    }

    /// Gives the client of the trace what has been recorded, and ends it when that has gone.
    fn give_trace(&mut self, control: &mut ControlSocket) {
        let Some(trace) = &mut self.trace else { return };
        if !control.has(trace.client) {
            self.trace = None;
            (0..self.live.len()).for_each(|tunnel| self.endpoint.tunnel_mut(tunnel).watch(None));
        } else if control.is_ready(trace.client)
            && let Some(out) = control.outgoing(trace.client)
        {
            trace.give(out);
        }
    }
}

/// Who would have read the configuration is no more.
pub(super) const NO_ATTENDANT: &str =
    "nobody can read the configuration here any more: the process braid-attendant has ended; start this end anew";
