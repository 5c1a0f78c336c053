//! The loop: wait, read the clock once, feed the core, drain it, submit.
//!
//! One thread. Everything that a batch of completions calls for is submitted by the same call that waits for the next
//! batch, so a frame read alone leaves with one system call, in the wake-up that read it; batches form by themselves
//! when the load is higher.

mod change;
mod control;
mod news;
mod outbound;
mod trace;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use io_uring::cqueue;

use super::attendant::Attendant;
use super::buffers::{Arena, Size};
use super::capacity_report::CapacityReport;
use super::control::trace::Trace;
use super::control::{BoundSocket, ControlSocket};
use super::datagram_port::receive::{Datagrams, Received};
use super::datagram_port::send::Sent;
use super::datagram_port::{DatagramPort, Route, Sockets};
use super::host::Machine;
use super::kept::Kept;
use super::links::Links;
use super::memory;
use super::provided::ProvidedBuffers;
use super::ring::{Files, Ring, RingError, Woken};
use super::sealing::Sealing;
use super::status::{self, EventLog, TunnelNames};
use super::sys;
use super::tap::Tap;
use super::tap_port;
use super::tap_port::reading::{Frames, READS_MAX, ReadOutcome, TapReading};
use super::tap_port::writing::{TapWriting, Written};
use super::times::Times;
use super::token::Token;
use super::usage::Usage;
use super::watchdog::Watchdog;
use super::{Endpoint, Tunnel};
use crate::config::{Flag, Offloads, Window};
use crate::proto::scheduler::SchedulerConfig;
use crate::proto::stats::DropReason;
use crate::proto::time::Instant;
use crate::proto::tunnel::{Arrival, Path};
use crate::proto::uplink::UplinkId;

/// Why the reactor has stopped.
#[derive(Debug)]
pub enum StopError {
    /// The ring does not do what it should.
    Ring(io::Error),
    /// The TAP of this number is gone.
    Tap(usize, io::Error),
}

/// What of a tunnel is not the core's, and may change while it runs.
pub struct LiveTunnel {
    /// Its TAP's name.
    pub tap: String,
    /// The box's name, at a gateway of several.
    pub name: Option<String>,
    /// How it sends, as it was asked for.
    pub scheduler: SchedulerConfig,
    /// The window as it was asked for.
    pub window: Window,
    /// How often uplinks are probed while frames flow, if the user has said so.
    pub probe_interval: Option<Duration>,
    /// What frames are sealed with, once there are keys.
    pub cipher: Option<&'static str>,
}

/// What tells this process from others.
pub struct Identity {
    /// The program's name.
    pub program: &'static str,
    /// Its public key; `None` without keys.
    pub public_key: Option<String>,
}

/// What the reactor is made of, beside what it makes itself.
pub struct Parts {
    /// The core.
    pub endpoint: Endpoint,
    /// What the logs call its tunnels.
    pub names: TunnelNames,
    /// Where each tunnel's frames come from and go to.
    pub taps: Vec<Tap>,
    /// Where datagrams come from and go to.
    pub links: Links,
    /// Signals, as a file.
    pub signals: OwnedFd,
    /// The longest frame, in bytes.
    pub frame_length_max: usize,
    /// What is left to the kernel.
    pub offloads: Offloads,
    /// How long to spin before sleeping.
    pub busy_poll: Duration,
    /// Who is told what the uplinks carry.
    pub capacity_report: Option<CapacityReport>,
    /// What uplinks with a budget have carried.
    pub usage: Option<Usage>,
    /// What of each tunnel may change while it runs.
    pub live: Vec<LiveTunnel>,
    /// What tells this process from others.
    pub identity: Identity,
    /// Where it can be asked and told while it runs.
    pub control: Option<BoundSocket>,
    /// Who reads the configuration again.
    pub attendant: Option<Attendant>,
    /// The configuration, as it was read.
    pub flags: Vec<Flag>,
}

/// A TAP, and what goes on there.
struct TapPort {
    reading: TapReading,
    writing: TapWriting,
    tap: Tap,
}

/// The thread's all.
///
/// Fields are dropped in order: the ring goes before the memory that it was given. The reactor's own drop has
/// cancelled all operations before that.
pub struct Reactor {
    ring: Ring,
    files: Files,
    provided: ProvidedBuffers,
    taps: Vec<TapPort>,
    port: DatagramPort,
    sealing: Sealing,
    /// What each tunnel may want sent again.
    kept: Vec<Kept>,
    arena: Rc<Arena>,
    endpoint: Endpoint,
    names: TunnelNames,
    links: Links,
    signals: OwnedFd,
    event_log: EventLog,
    busy_poll: Duration,
    capacity_report: Option<CapacityReport>,
    usage: Option<Usage>,
    times: Times,
    live: Vec<LiveTunnel>,
    identity: Identity,
    control: Option<ControlSocket>,
    trace: Option<Trace>,
    attendant: Option<Attendant>,
    flags: Vec<Flag>,
    watchdog: Option<Watchdog>,
    started_at: Instant,
    /// Frames wait for writes that the kernel has yet to work off.
    has_undelivered: bool,
    stopping: bool,
}

impl Reactor {
    /// Sets up the ring and registers everything with it.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn new(parts: Parts) -> Result<Self, RingError> {
        let Parts { endpoint, names, taps, links, signals, frame_length_max, offloads, busy_poll, .. } = parts;
        let advise = |what: &'static str| move |error: io::Error| RingError::advise(what, &error);
        let mut ring = Ring::new()?;
        ring.register_own_descriptor();
        let mut files = Files::register(&ring)?;
        let received = if offloads.gro { Size::Large } else { Size::Small };
        let read = TapReading::slot_size(taps.iter().any(|tap| tap.offloads.is_some()));
        let arena =
            memory::arena(taps.len(), frame_length_max, received, read).map_err(advise("map the packet buffers"))?;
        let fixed = register_arena(&ring, &arena);
        let provided = ProvidedBuffers::register(&ring, &arena, received)?;
        let of = taps.len();
        let mut ports = vec![];
        for (number, tap) in taps.into_iter().enumerate() {
            // Before the TAP is registered, since the ring looks at the file's flags then.
            let reads_max = prepare_reads(&tap, of).map_err(advise("set the TAP up for reading"))?;
            let number = number as u8;
            files
                .set(&ring, tap_port::file_place(number), tap.as_fd().as_raw_fd())
                .map_err(advise("register the TAP with io_uring"))?;
            let reading = TapReading::new(number, &arena, tap.offloads.is_some(), reads_max, fixed);
            let writing = TapWriting::new(number, tap.offloads, of);
            ports.push(TapPort { reading, writing, tap });
        }
        let sockets = if links.is_shared() { Sockets::Shared } else { Sockets::PerUplink };
        let port = DatagramPort::new(sockets, of, offloads.gso);
        ring.start()?;
        Ok(Self {
            ring,
            files,
            provided,
            taps: ports,
            port,
            sealing: Sealing::new(&arena),
            kept: endpoint.tunnels().iter().map(|tunnel| Kept::new(tunnel.is_adaptive())).collect(),
            arena,
            endpoint,
            names,
            links,
            signals,
            event_log: EventLog::new(),
            busy_poll,
            capacity_report: parts.capacity_report,
            usage: parts.usage,
            times: Times::new(of),
            live: parts.live,
            identity: parts.identity,
            control: parts.control.map(ControlSocket::new),
            trace: None,
            attendant: parts.attendant,
            flags: parts.flags,
            watchdog: Watchdog::wanted(),
            started_at: sys::monotonic_now(),
            has_undelivered: false,
            stopping: false,
        })
    }

    /// Sets the TAPs up, which must not happen before their way of reading has been found out.
    ///
    /// # Errors
    /// The number of the TAP that cannot be, and what the kernel says.
    pub fn set_taps_up(&self) -> Result<(), (usize, io::Error)> {
        self.taps.iter().enumerate().try_for_each(|(number, port)| port.tap.set_up().map_err(|error| (number, error)))
    }

    /// Runs until a signal asks to stop. `on_ready` is called once, when frames can flow.
    ///
    /// # Errors
    /// Why it had to stop.
    pub fn run(&mut self, on_ready: impl FnOnce()) -> Result<(), StopError> {
        self.start().map_err(StopError::Ring)?;
        on_ready();
        let mut now = sys::monotonic_now();
        while !self.stopping {
            if self.endpoint.poll_timeout(now).0 <= now {
                self.endpoint.handle_timeout(now, &mut Machine);
            }
            self.links.on_tick(now, &mut self.endpoint);
            if let Some(report) = &mut self.capacity_report {
                report.on_tick(now, &self.endpoint);
            }
            if let Some(usage) = &mut self.usage {
                usage.on_tick(now, &self.port, &self.links, &mut self.endpoint);
            }
            if let Some(watchdog) = &mut self.watchdog {
                watchdog.on_tick(now);
            }
            if let Some(control) = &mut self.control {
                control.on_tick(now, &mut self.ring).map_err(StopError::Ring)?;
            }
            self.drain_all(now).map_err(StopError::Ring)?;
            self.flush().map_err(StopError::Ring)?;
            self.replenish().map_err(StopError::Ring)?;
            if self.has_control_work() {
                // What concerns packets is on its way before anything is done for a client.
                self.ring.submit_and_look().map_err(StopError::Ring)?;
                self.serve_control(now).map_err(StopError::Ring)?;
            }
            self.wait(now).map_err(StopError::Ring)?;
            let woken_at = sys::monotonic_now();
            assert!(woken_at >= now, "CLOCK_MONOTONIC went back");
            now = woken_at;
            self.reap(now)?;
        }
        self.stop(now).map_err(StopError::Ring)
    }

    fn start(&mut self) -> io::Result<()> {
        self.watch_signals()?;
        self.watch_links()?;
        self.watch_control()?;
        let now = sys::monotonic_now();
        // Before there is anything to send by.
        if let Some(usage) = &self.usage {
            usage.tell(now, &mut self.endpoint);
        }
        self.links.start(now, &mut self.endpoint);
        self.replenish()
    }

    /// Brings everything that receives up to strength.
    fn replenish(&mut self) -> io::Result<()> {
        self.links.apply(&mut self.ring, &mut self.files, &mut self.port)?;
        self.provided.fill(memory::SLOTS_RESERVED);
        self.port.arm(&mut self.ring, &self.provided)?;
        self.taps.iter_mut().try_for_each(|port| port.reading.replenish(&mut self.ring))
    }

    fn wait(&mut self, now: Instant) -> io::Result<Woken> {
        self.times.on_handed(now, sys::monotonic_now());
        if std::mem::take(&mut self.has_undelivered) || self.has_control_work() {
            self.ring.submit_and_look()?;
            return Ok(Woken::ByCompletion);
        }
        let (due, _) = self.endpoint.poll_timeout(now);
        let report = self.capacity_report.as_ref().map(CapacityReport::next);
        let usage = self.usage.as_ref().map(Usage::next);
        let watchdog = self.watchdog.as_ref().map(Watchdog::next);
        let control = self.control.as_ref().and_then(ControlSocket::next_tick);
        let others = report.into_iter().chain(usage).chain(watchdog).chain(control);
        let due = self.links.next_tick().into_iter().chain(others).fold(due, Instant::min);
        if self.busy_poll.is_zero() || self.stopping {
            return self.ring.submit_and_wait(due.since(now));
        }
        let spin_until = now + self.busy_poll;
        loop {
            self.ring.submit_and_look()?;
            let at = sys::monotonic_now();
            if self.ring.has_completion() || at >= due {
                return Ok(Woken::ByCompletion);
            }
            if at >= spin_until {
                return self.ring.submit_and_wait(due.since(at));
            }
            std::thread::yield_now();
        }
    }

    fn reap(&mut self, now: Instant) -> Result<(), StopError> {
        while let Some(entry) = self.ring.reap() {
            match Token::unpack(entry.user_data()) {
                Some(Token::TapRead { tap, slot, waits }) => {
                    self.on_tap_read(now, usize::from(tap), slot, waits, entry.result())?;
                }
                Some(Token::TapWrite { tap, index }) => {
                    self.on_tap_written(usize::from(tap), index, entry.result()).map_err(StopError::Ring)?;
                }
                Some(Token::Receive { socket, generation }) => {
                    self.on_received(now, socket, generation, &entry).map_err(StopError::Ring)?;
                }
                Some(Token::Send { index }) => self.on_sent(now, index, entry.result()).map_err(StopError::Ring)?,
                Some(Token::Signal) => self.on_signal(now).map_err(StopError::Ring)?,
                Some(Token::LinkNews) => self.on_link_news(now).map_err(StopError::Ring)?,
                Some(Token::Cancel) => {}
                Some(Token::ControlListen) => {
                    if let Some(control) = &mut self.control {
                        control.on_connected(now, &mut self.ring).map_err(StopError::Ring)?;
                    }
                }
                Some(Token::Control { client, generation }) => {
                    if let Some(control) = &mut self.control {
                        control
                            .on_ready(now, &mut self.ring, usize::from(client), generation)
                            .map_err(StopError::Ring)?;
                    }
                }
                Some(Token::Attendant) => self.on_attendant(now).map_err(StopError::Ring)?,
                None => panic!("the ring completed what was never submitted: {:#x}", entry.user_data()),
            }
            self.send_handshakes().map_err(StopError::Ring)?;
        }
        Ok(())
    }

    fn on_tap_read(&mut self, now: Instant, tap: usize, slot: u32, waits: bool, result: i32) -> Result<(), StopError> {
        match self.taps[tap].reading.on_read(now, slot, waits, result) {
            ReadOutcome::Frames(frames) => self.on_frames(now, tap, frames).map_err(StopError::Ring),
            ReadOutcome::Empty => Ok(()),
            ReadOutcome::Failed(error) => Err(StopError::Tap(tap, error)),
        }
    }

    fn on_frames(&mut self, now: Instant, tunnel: usize, frames: Frames) -> io::Result<()> {
        for frame in frames {
            if self.trace.is_some() {
                self.record_read(tunnel, &frame);
            }
            let of_tunnel = self.endpoint.tunnel_mut(tunnel);
            match frame {
                Ok(frame) if of_tunnel.is_adaptive() => match memory::settle(&self.arena, frame) {
                    Ok(frame) => of_tunnel.handle_frame(now, frame),
                    Err(reason) => of_tunnel.count_drops(reason, 1),
                },
                Ok(frame) => of_tunnel.handle_frame(now, frame),
                Err(reason) => of_tunnel.count_drops(reason, 1),
            }
            self.send_frames(now, tunnel)?;
        }
        self.drain(now, tunnel)
    }

    fn on_tap_written(&mut self, tap: usize, index: u32, result: i32) -> io::Result<()> {
        let written = self.taps[tap].writing.on_written(&mut self.ring, index, result)?;
        self.note_written(tap, written);
        Ok(())
    }

    fn note_written(&mut self, tap: usize, written: Written) {
        let _named = self.names.enter(tap);
        match written {
            Written::Fine => {}
            Written::Dropped(reason, count) => self.endpoint.tunnel_mut(tap).count_drops(reason, count),
            Written::RunsRefused(errno) => tracing::warn!(
                "the TAP does not take super-frames ({}): each frame is written by itself from now on",
                io::Error::from_raw_os_error(errno)
            ),
        }
    }

    fn on_received(&mut self, now: Instant, socket: u8, generation: u16, entry: &cqueue::Entry) -> io::Result<()> {
        match self.port.on_received(&mut self.provided, socket, generation, entry) {
            Received::Datagrams(datagrams) => match self.arrival(socket, datagrams.path) {
                Some(arrival) => self.on_datagrams(now, arrival, datagrams)?,
                None => self.endpoint.count_drop(DropReason::UnknownSource),
            },
            Received::Dropped(reason) => self.endpoint.count_drop(reason),
            Received::Ended => {}
            Received::Failed(errno) => self.on_socket_failed(now, socket, errno),
        }
        Ok(())
    }

    /// How what comes from there by a socket arrives; `None` if it is not from the gateway, to a box.
    #[inline]
    fn arrival(&self, socket: u8, path: Path) -> Option<Arrival> {
        if self.links.is_shared() {
            return Some(Arrival::Path(path));
        }
        let uplink = UplinkId::new(socket).filter(|uplink| self.links.is_gateway(*uplink, path.remote))?;
        Some(Arrival::Uplink(uplink))
    }

    fn on_datagrams(&mut self, now: Instant, arrival: Arrival, datagrams: Datagrams) -> io::Result<()> {
        for datagram in datagrams.each() {
            match memory::keep(&self.arena, &self.provided, datagram) {
                Ok(datagram) => {
                    if let Some(tunnel) = self.endpoint.handle_datagram(now, &mut Machine, arrival, datagram) {
                        if self.trace.is_some() {
                            self.record_arrived(tunnel);
                        }
                        self.drain(now, tunnel)?;
                    }
                }
                Err(reason) => self.endpoint.count_drop(reason),
            }
        }
        Ok(())
    }

    fn on_sent(&mut self, now: Instant, index: u32, result: i32) -> io::Result<()> {
        let (route, sent) = self.port.on_sent(&mut self.ring, index, result)?;
        match (sent, route) {
            (Sent::Fine, _) => {}
            (Sent::TooLong { .. }, None) => self.endpoint.count_drop(DropReason::PathMtu),
            (Sent::TooLong { length, count }, Some(route)) => {
                self.tunnel_of(route).handle_too_long(now, route.uplink, length, count);
            }
            (Sent::Dropped(reason, _), None) => self.endpoint.count_drop(reason),
            (Sent::Failed(..) | Sent::RunsRefused(_), None) => unreachable!("an answer says nothing of an uplink"),
            (Sent::Dropped(reason, count), Some(route)) => self.tunnel_of(route).count_drops(reason, count),
            (Sent::Failed(errno, count), Some(route)) => {
                self.tunnel_of(route).count_drops(DropReason::SendFailed, count);
                self.on_uplink_failed(now, route, errno);
            }
            (Sent::RunsRefused(errno), Some(route)) => self.log_runs_refused(route, errno),
        }
        route.map_or(Ok(()), |route| self.drain(now, route.tunnel.into()))
    }

    fn tunnel_of(&mut self, route: Route) -> &mut Tunnel {
        self.endpoint.tunnel_mut(usize::from(route.tunnel))
    }

    fn log_runs_refused(&self, route: Route, errno: i32) {
        let _named = self.names.enter(route.tunnel.into());
        let name = self.endpoint.tunnels()[usize::from(route.tunnel)].uplink(route.uplink).name;
        tracing::warn!(
            "uplink {name}: its interface does not take several datagrams at once ({}): each is sent by itself from now on",
            io::Error::from_raw_os_error(errno)
        );
    }

    /// A socket has told of an error. The gateway's, which all share, says nothing of any uplink by that.
    fn on_socket_failed(&mut self, now: Instant, socket: u8, errno: i32) {
        if let (false, Some(uplink)) = (self.links.is_shared(), UplinkId::new(socket)) {
            // By ICMP anybody may have said so, of any datagram sent: worth a look, and no reason to give up the uplink.
            if errno == libc::EMSGSIZE {
                let route = Route { tunnel: 0, uplink };
                self.tunnel_of(route).handle_too_long(now, uplink, usize::from(u16::MAX), 0);
                return;
            }
            self.on_uplink_failed(now, Route { tunnel: 0, uplink }, errno);
        }
    }

    fn on_uplink_failed(&mut self, now: Instant, route: Route, errno: i32) {
        self.links.on_socket_failed(now, route.uplink);
        self.tunnel_of(route).handle_send_error(now, route.uplink, errno);
    }

    /// Says good-bye.
    fn stop(&mut self, now: Instant) -> io::Result<()> {
        (0..self.taps.len()).for_each(|tunnel| self.endpoint.tunnel_mut(tunnel).handle_shutdown(now));
        self.drain_all(now)?;
        self.flush()?;
        self.ring.submit_and_look()?;
        status::log_counters(now, &self.endpoint, &self.names, self.arena.held_slots());
        Ok(())
    }
}

impl Drop for Reactor {
    /// Keeps what has been counted, and takes everything back from the kernel, however the run has ended.
    fn drop(&mut self) {
        if let Some(usage) = &mut self.usage {
            usage.close(&self.port, &self.links);
        }
        self.ring.cancel_all();
        // Registered files hold the TAP and the sockets open beyond their descriptors. Should this fail, the end of
        // the process does it a little later.
        let _ = self.ring.submitter().unregister_files();
    }
}

/// Registers the arena as one buffer, so that the kernel need not look up its pages for every read and write.
fn register_arena(ring: &Ring, arena: &Rc<Arena>) -> bool {
    let memory = arena.memory();
    let whole = libc::iovec { iov_base: memory.base().as_ptr().cast(), iov_len: memory.length() };
    // SAFETY: The arena outlives the ring: the reactor holds it and drops it later.
    let registered = unsafe { ring.submitter().register_buffers(&[whole]) };
    if let Err(error) = &registered {
        tracing::info!(
            "cannot register the packet buffers ({error}; RLIMIT_MEMLOCK?): reads and writes cost a little more"
        );
    }
    registered.is_ok()
}

/// Sees to it that reads of this TAP, one `of` so many, wait in the ring, and returns how many should.
///
/// Since Linux 6.4 the ring can try a TAP read without blocking, and waits for frames by itself. Before, it does so
/// only if the file does not block, and only once for each read: one that is woken and finds that another has taken
/// the frame is handed to a thread of its own.
fn prepare_reads(tap: &Tap, of: usize) -> io::Result<usize> {
    if sys::nowait_capable(tap.as_fd()) {
        return Ok(READS_MAX / of);
    }
    tracing::info!("this kernel cannot try TAP reads without blocking (Linux 6.4 can): reading one frame at a time");
    tap.set_nonblocking()?;
    Ok(1)
}
