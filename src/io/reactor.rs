//! The loop: wait, read the clock once, feed the core, drain it, submit.
//!
//! One thread. Everything that a batch of completions calls for is submitted by the same call that waits for the next
//! batch, so a frame read alone leaves with one system call, in the wake-up that read it; batches form by themselves
//! when the load is higher.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use io_uring::{cqueue, opcode, types};

use super::Tunnel;
use super::buffers::{Arena, Size};
use super::datagram_port::receive::{Datagrams, Received};
use super::datagram_port::send::{Datagram, Sent};
use super::datagram_port::{DatagramPort, Sockets};
use super::links::Links;
use super::memory;
use super::provided::ProvidedBuffers;
use super::ring::{Files, Ring, RingError, Woken};
use super::status::{self, EventLog};
use super::sys;
use super::tap::Tap;
use super::tap_port;
use super::tap_port::reading::{Frames, READS_MAX, ReadOutcome, TapReading};
use super::tap_port::writing::{TapWriting, Written};
use super::token::Token;
use crate::config::Offloads;
use crate::proto::stats::DropReason;
use crate::proto::time::Instant;
use crate::proto::tunnel::{Arrival, Event};
use crate::proto::uplink::UplinkId;

/// Why the reactor has stopped.
#[derive(Debug)]
pub enum StopError {
    /// The ring does not do what it should.
    Ring(io::Error),
    /// The TAP is gone.
    Tap(io::Error),
}

/// What the reactor is made of, beside what it makes itself.
pub struct Parts {
    /// The core.
    pub tunnel: Tunnel,
    /// Where frames come from and go to.
    pub tap: Tap,
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
}

/// The thread's all.
///
/// Fields are dropped in order: the ring goes before the memory that it was given. The reactor's own drop has
/// cancelled all operations before that.
pub struct Reactor {
    ring: Ring,
    files: Files,
    provided: ProvidedBuffers,
    reading: TapReading,
    writing: TapWriting,
    port: DatagramPort,
    arena: Rc<Arena>,
    tunnel: Tunnel,
    links: Links,
    tap: Tap,
    signals: OwnedFd,
    event_log: EventLog,
    busy_poll: Duration,
    stopping: bool,
}

impl Reactor {
    /// Sets up the ring and registers everything with it.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn new(parts: Parts) -> Result<Self, RingError> {
        let Parts { tunnel, tap, links, signals, frame_length_max, offloads, busy_poll } = parts;
        let advise = |what: &'static str| move |error: io::Error| RingError::advise(what, &error);
        let mut ring = Ring::new()?;
        ring.register_own_descriptor();
        let mut files = Files::register(&ring)?;
        let received = if offloads.gro { Size::Large } else { Size::Small };
        let read = TapReading::slot_size(tap.offloads.is_some());
        let arena = memory::arena(frame_length_max, received, read).map_err(advise("map the packet buffers"))?;
        let fixed = register_arena(&ring, &arena);
        let provided = ProvidedBuffers::register(&ring, &arena, received)?;
        // Before the TAP is registered, since the ring looks at the file's flags then.
        let reads_max = prepare_reads(&tap).map_err(advise("set the TAP up for reading"))?;
        files
            .set(&ring, tap_port::FILE_PLACE, tap.as_fd().as_raw_fd())
            .map_err(advise("register the TAP with io_uring"))?;
        let reading = TapReading::new(&arena, tap.offloads.is_some(), reads_max, fixed);
        let writing = TapWriting::new(tap.offloads);
        let sockets = if links.is_shared() { Sockets::Shared } else { Sockets::PerUplink };
        let port = DatagramPort::new(sockets, offloads.gso);
        Ok(Self {
            ring,
            files,
            provided,
            reading,
            writing,
            port,
            arena,
            tunnel,
            links,
            tap,
            signals,
            event_log: EventLog::new(),
            busy_poll,
            stopping: false,
        })
    }

    /// Sets the TAP up, which must not happen before its way of reading has been found out.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_tap_up(&self) -> io::Result<()> {
        self.tap.set_up()
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
            if self.tunnel.poll_timeout(now).0 <= now {
                self.tunnel.handle_timeout(now);
            }
            self.links.on_tick(now, &mut self.tunnel);
            self.drain(now).map_err(StopError::Ring)?;
            self.flush().map_err(StopError::Ring)?;
            self.replenish().map_err(StopError::Ring)?;
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
        let now = sys::monotonic_now();
        self.links.start(now, &mut self.tunnel);
        self.replenish()
    }

    /// Brings everything that receives up to strength.
    fn replenish(&mut self) -> io::Result<()> {
        self.links.apply(&mut self.ring, &mut self.files, &mut self.port)?;
        self.provided.fill(memory::SLOTS_RESERVED);
        self.port.arm(&mut self.ring, &self.provided)?;
        self.reading.replenish(&mut self.ring)
    }

    fn wait(&mut self, now: Instant) -> io::Result<Woken> {
        let (due, _) = self.tunnel.poll_timeout(now);
        let due = self.links.next_tick().map_or(due, |tick| tick.min(due));
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
                Some(Token::TapRead { slot, waits }) => self.on_tap_read(now, slot, waits, entry.result())?,
                Some(Token::TapWrite { index }) => {
                    self.on_tap_written(index, entry.result()).map_err(StopError::Ring)?
                }
                Some(Token::Receive { socket, generation }) => {
                    self.on_received(now, socket, generation, &entry).map_err(StopError::Ring)?;
                }
                Some(Token::Send { socket, index }) => {
                    self.on_sent(now, socket, index, entry.result()).map_err(StopError::Ring)?;
                }
                Some(Token::Signal) => self.on_signal(now).map_err(StopError::Ring)?,
                Some(Token::LinkNews) => self.on_link_news(now).map_err(StopError::Ring)?,
                Some(Token::Cancel) => {}
                None => panic!("the ring completed what was never submitted: {:#x}", entry.user_data()),
            }
            self.drain(now).map_err(StopError::Ring)?;
        }
        Ok(())
    }

    fn on_tap_read(&mut self, now: Instant, slot: u32, waits: bool, result: i32) -> Result<(), StopError> {
        match self.reading.on_read(slot, waits, result) {
            ReadOutcome::Frames(frames) => self.on_frames(now, frames).map_err(StopError::Ring),
            ReadOutcome::Empty => Ok(()),
            ReadOutcome::Failed(error) => Err(StopError::Tap(error)),
        }
    }

    fn on_frames(&mut self, now: Instant, frames: Frames) -> io::Result<()> {
        for frame in frames {
            match frame {
                Ok(frame) => self.tunnel.handle_frame(now, frame),
                Err(reason) => self.tunnel.count_drops(reason, 1),
            }
            self.send_frames()?;
        }
        Ok(())
    }

    fn on_tap_written(&mut self, index: u32, result: i32) -> io::Result<()> {
        let written = self.writing.on_written(&mut self.ring, index, result)?;
        self.note_written(written);
        Ok(())
    }

    fn note_written(&mut self, written: Written) {
        match written {
            Written::Fine => {}
            Written::Dropped(reason, count) => self.tunnel.count_drops(reason, count),
            Written::RunsRefused(errno) => tracing::warn!(
                "the TAP does not take super-frames ({}): each frame is written by itself from now on",
                io::Error::from_raw_os_error(errno)
            ),
        }
    }

    fn on_received(&mut self, now: Instant, socket: u8, generation: u16, entry: &cqueue::Entry) -> io::Result<()> {
        match self.port.on_received(&mut self.provided, socket, generation, entry) {
            Received::Datagrams(datagrams) => {
                let arrival = match (datagrams.path, UplinkId::new(socket)) {
                    (Some(path), _) => Arrival::Path(path),
                    (None, Some(uplink)) => Arrival::Uplink(uplink),
                    (None, None) => unreachable!("sockets are numbered as uplinks are"),
                };
                self.on_datagrams(now, arrival, datagrams)?;
            }
            Received::Dropped(reason) => self.tunnel.count_drops(reason, 1),
            Received::Ended => {}
            Received::Failed(errno) => self.on_socket_failed(now, socket, errno),
        }
        Ok(())
    }

    fn on_datagrams(&mut self, now: Instant, arrival: Arrival, datagrams: Datagrams) -> io::Result<()> {
        let is_scarce = memory::is_scarce(&self.arena, self.provided.size());
        for datagram in datagrams.each() {
            match memory::keep(&self.arena, datagram, is_scarce) {
                Ok(datagram) => self.tunnel.handle_datagram(now, arrival, datagram),
                Err(reason) => self.tunnel.count_drops(reason, 1),
            }
            self.deliver_frames()?;
        }
        Ok(())
    }

    fn on_sent(&mut self, now: Instant, uplink: u8, index: u32, result: i32) -> io::Result<()> {
        let sent = self.port.on_sent(&mut self.ring, index, result)?;
        self.note_sent(now, uplink, sent);
        Ok(())
    }

    fn note_sent(&mut self, now: Instant, uplink: u8, sent: Sent) {
        match sent {
            Sent::Fine => {}
            Sent::Dropped(reason, count) => self.tunnel.count_drops(reason, count),
            Sent::Failed(errno, count) => {
                self.tunnel.count_drops(DropReason::SendFailed, count);
                self.on_socket_failed(now, uplink, errno);
            }
            Sent::RunsRefused(errno) => self.log_runs_refused(uplink, errno),
        }
    }

    fn log_runs_refused(&self, uplink: u8, errno: i32) {
        let name = UplinkId::new(uplink).map_or("", |uplink| self.tunnel.uplink(uplink).name.as_str());
        tracing::warn!(
            "uplink {name}: its interface does not take several datagrams at once ({}): each is sent by itself from now on",
            io::Error::from_raw_os_error(errno)
        );
    }

    fn on_socket_failed(&mut self, now: Instant, uplink: u8, errno: i32) {
        if let Some(uplink) = UplinkId::new(uplink) {
            self.links.on_socket_failed(now, uplink, errno);
            self.tunnel.handle_send_error(now, uplink, errno);
        }
    }

    /// Takes all that the core wants sent and delivered, frames before the control messages made after them.
    fn drain(&mut self, now: Instant) -> io::Result<()> {
        self.send_frames()?;
        while let Some(mut control) = self.tunnel.poll_control() {
            match self.arena.copy(control.plaintext()) {
                Some(lease) => self.send(control.uplink, Datagram { head: lease, body: None })?,
                None => self.tunnel.count_drops(DropReason::NoBuffer, 1),
            }
        }
        self.deliver_frames()?;
        self.report_events(now);
        Ok(())
    }

    #[inline]
    fn send_frames(&mut self) -> io::Result<()> {
        while let Some(frame) = self.tunnel.poll_frame() {
            let header = frame.plaintext_header();
            let mut head = frame.payload.head;
            head.prepend(&header);
            let datagram = Datagram { head: head.freeze(), body: frame.payload.body };
            for uplink in frame.uplinks.iter() {
                self.send(uplink, datagram.clone())?;
            }
        }
        Ok(())
    }

    #[inline]
    fn deliver_frames(&mut self) -> io::Result<()> {
        while let Some(frame) = self.tunnel.poll_deliver() {
            let written = self.writing.write(&mut self.ring, frame)?;
            self.note_written(written);
        }
        Ok(())
    }

    #[inline]
    fn send(&mut self, uplink: UplinkId, datagram: Datagram) -> io::Result<()> {
        let (tunnel, links) = (&self.tunnel, &mut self.links);
        if let Sent::Dropped(reason, count) =
            self.port.send(&mut self.ring, uplink, datagram, move || links.destination(uplink, tunnel.path(uplink)))?
        {
            self.tunnel.count_drops(reason, count);
        }
        Ok(())
    }

    /// Submits what has waited for company within the batch.
    fn flush(&mut self) -> io::Result<()> {
        self.port.flush(&mut self.ring)?;
        let written = self.writing.flush(&mut self.ring)?;
        self.note_written(written);
        Ok(())
    }

    fn report_events(&mut self, now: Instant) {
        while let Some((event, lost_before)) = self.tunnel.poll_event() {
            self.event_log.log(now, &self.tunnel, &event, lost_before);
            if let Event::PeerMtu(mtu) = event {
                self.follow_peer_mtu(now, mtu);
            }
        }
    }

    /// With `--mtu auto` both ends use the smaller of their MTUs.
    fn follow_peer_mtu(&mut self, now: Instant, peer_mtu: u16) {
        let Some(mtu) = self.links.tap_mtu(peer_mtu) else { return };
        if self.tap.mtu().is_ok_and(|current| current == mtu) {
            return;
        }
        match self.tap.set_mtu(mtu) {
            Ok(()) => {
                if self.event_log.may_log(now) {
                    tracing::info!("TAP MTU is {mtu} now, the smaller of both ends'");
                }
                self.tunnel.set_tap_mtu(mtu);
            }
            Err(error) => tracing::warn!("cannot set the TAP's MTU to {mtu}: {error}"),
        }
    }

    fn watch_signals(&mut self) -> io::Result<()> {
        poll_readable(&mut self.ring, self.signals.as_raw_fd(), Token::Signal)
    }

    fn watch_links(&mut self) -> io::Result<()> {
        match self.links.news_descriptor() {
            Some(descriptor) => poll_readable(&mut self.ring, descriptor, Token::LinkNews),
            None => Ok(()),
        }
    }

    fn on_signal(&mut self, now: Instant) -> io::Result<()> {
        while let Some(signal) = sys::read_signal(&self.signals)? {
            if signal == libc::SIGUSR1 {
                status::log_counters(now, &self.tunnel, self.arena.held_slots());
            } else {
                tracing::info!("stopping on {}", if signal == libc::SIGINT { "SIGINT" } else { "SIGTERM" });
                self.stopping = true;
            }
        }
        self.watch_signals()
    }

    fn on_link_news(&mut self, now: Instant) -> io::Result<()> {
        self.links.on_news(now, &mut self.tunnel);
        self.watch_links()
    }

    /// Says good-bye.
    fn stop(&mut self, now: Instant) -> io::Result<()> {
        self.tunnel.handle_shutdown(now);
        self.drain(now)?;
        self.flush()?;
        self.ring.submit_and_look()?;
        status::log_counters(now, &self.tunnel, self.arena.held_slots());
        Ok(())
    }
}

impl Drop for Reactor {
    /// Takes everything back from the kernel, however the run has ended.
    fn drop(&mut self) {
        self.ring.cancel_all();
        // Registered files hold the TAP and the sockets open beyond their descriptors. Should this fail, the end of
        // the process does it a little later.
        let _ = self.ring.submitter().unregister_files();
    }
}

fn poll_readable(ring: &mut Ring, descriptor: i32, token: Token) -> io::Result<()> {
    let entry = opcode::PollAdd::new(types::Fd(descriptor), libc::POLLIN as u32).build().user_data(token.pack());
    // SAFETY: The operation points to no memory.
    unsafe { ring.push(&entry) }
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

/// Sees to it that reads wait in the ring, and returns how many should.
///
/// Since Linux 6.4 the ring can try a TAP read without blocking, and waits for frames by itself. Before, it does so
/// only if the file does not block, and only once for each read: one that is woken and finds that another has taken
/// the frame is handed to a thread of its own.
fn prepare_reads(tap: &Tap) -> io::Result<usize> {
    if sys::nowait_capable(tap.as_fd()) {
        return Ok(READS_MAX);
    }
    tracing::info!("this kernel cannot try TAP reads without blocking (Linux 6.4 can): reading one frame at a time");
    tap.set_nonblocking()?;
    Ok(1)
}
