//! What the core wants sent and delivered.

use std::io;

use super::Reactor;
use crate::io::datagram_port::Route;
use crate::io::datagram_port::send::{Datagram, Sent};
use crate::io::memory;
use crate::io::tap_port::reading::OutboundFrame;
use crate::proto::endpoint::HandshakeDestination;
use crate::proto::stats::DropReason;
use crate::proto::time::Instant;
use crate::proto::tunnel::{FrameTransmit, Payload};
use crate::proto::wire::control::CONTROL_LENGTH_MAX;

impl Reactor {
    /// Takes all that the core wants sent and delivered.
    pub(super) fn drain_all(&mut self, now: Instant) -> io::Result<()> {
        self.send_handshakes()?;
        (0..self.taps.len()).try_for_each(|tunnel| self.drain(now, tunnel))
    }

    /// Takes all that one tunnel wants sent and delivered, frames before the control messages made after them.
    #[inline]
    pub(super) fn drain(&mut self, now: Instant, tunnel: usize) -> io::Result<()> {
        self.send_frames(now, tunnel)?;
        self.resend_frames(tunnel)?;
        self.send_controls(now, tunnel)?;
        self.take_restored(now, tunnel);
        self.deliver_frames(now, tunnel)?;
        self.report_events(now, tunnel);
        Ok(())
    }

    pub(super) fn send_handshakes(&mut self) -> io::Result<()> {
        while let Some(handshake) = self.endpoint.poll_handshake() {
            let Some(bytes) = self.arena.copy(handshake.bytes()) else {
                self.endpoint.count_drop(DropReason::NoBuffer);
                continue;
            };
            let datagram = Datagram { head: bytes.freeze(), body: None };
            match handshake.destination {
                HandshakeDestination::Uplink(uplink) => self.send(Route { tunnel: 0, uplink }, datagram)?,
                HandshakeDestination::Path(path) => {
                    let Some((address, source)) = self.links.spell(path) else { continue };
                    if let Sent::Dropped(reason, _) = self.port.answer(&mut self.ring, datagram, (&address, source))? {
                        self.endpoint.count_drop(reason);
                    }
                }
            }
        }
        Ok(())
    }

    fn send_controls(&mut self, now: Instant, tunnel: usize) -> io::Result<()> {
        loop {
            let (arena, mut taken) = (&self.arena, None);
            let copy = |uplink, bytes: &[u8]| taken = Some((uplink, arena.copy(bytes)));
            if !self.endpoint.poll_control(now, tunnel, copy) {
                return Ok(());
            }
            match taken {
                Some((uplink, Some(bytes))) => {
                    let is_long = bytes.length() > CONTROL_LENGTH_MAX;
                    let datagram = Datagram { head: bytes.freeze(), body: None };
                    // A sounding in a run would show what runs can do: an interface may pass on a run that is longer than its
                    // MTU, and refuses it as a whole, with what does fit.
                    if is_long {
                        self.port.flush(&mut self.ring)?;
                    }
                    self.send(Route { tunnel: tunnel as u8, uplink }, datagram)?;
                    if is_long {
                        self.port.flush(&mut self.ring)?;
                    }
                }
                Some((_, None)) => self.endpoint.tunnel_mut(tunnel).count_drops(DropReason::NoBuffer, 1),
                None => {}
            }
        }
    }

    #[inline]
    pub(super) fn send_frames(&mut self, now: Instant, tunnel: usize) -> io::Result<()> {
        while let Some(frame) = self.endpoint.poll_frame(tunnel) {
            let (uplinks, sequence, is_kept) = (frame.uplinks, frame.sequence, frame.is_kept);
            self.times.of_mut(tunnel).tap_to_wire.on_left(now, frame.payload.read_at);
            if self.trace.is_some() {
                self.record_sent(tunnel, &frame);
            }
            let datagram = if self.endpoint.is_sealed() {
                self.sealing.seal(now, &mut self.endpoint, tunnel, frame)
            } else {
                Ok(with_header(frame))
            };
            match datagram {
                Ok(datagram) => {
                    if is_kept && memory::may_keep(&self.arena) {
                        self.kept[tunnel].keep(sequence, datagram.clone());
                    }
                    for uplink in uplinks.iter() {
                        self.send(Route { tunnel: tunnel as u8, uplink }, datagram.clone())?;
                    }
                }
                Err(reason) => self.endpoint.tunnel_mut(tunnel).count_drops(reason, 1),
            }
        }
        Ok(())
    }

    /// What has not been kept, since memory was scarce, cannot be sent again.
    #[inline]
    fn resend_frames(&mut self, tunnel: usize) -> io::Result<()> {
        while let Some(resend) = self.endpoint.poll_resend(tunnel) {
            match self.kept[tunnel].get(resend.sequence).cloned() {
                Some(datagram) => {
                    self.record_resent(tunnel, resend);
                    self.send(Route { tunnel: tunnel as u8, uplink: resend.uplink }, datagram)?;
                }
                None => self.endpoint.tunnel_mut(tunnel).on_not_kept(resend.sequence),
            }
        }
        self.kept[tunnel].release_below(self.endpoint.tunnels()[tunnel].kept_from());
        Ok(())
    }

    /// Frames that were made up are delivered from buffers like all others.
    #[inline]
    fn take_restored(&mut self, now: Instant, tunnel: usize) {
        while let Some((uplink, sequence, bytes)) = self.endpoint.poll_restored(tunnel) {
            let copy = self.arena.copy(bytes);
            let tunnel = self.endpoint.tunnel_mut(tunnel);
            match copy {
                Some(frame) => tunnel.handle_restored(now, uplink, sequence, frame.freeze()),
                None => tunnel.count_drops(DropReason::NoBuffer, 1),
            }
        }
    }

    /// As many as can be written before the kernel has worked some off.
    #[inline]
    fn deliver_frames(&mut self, now: Instant, tunnel: usize) -> io::Result<()> {
        while self.taps[tunnel].writing.has_room() {
            let Some((frame, came_at)) = self.endpoint.poll_delivery(tunnel) else { return Ok(()) };
            self.times.of_mut(tunnel).wire_to_tap.on_left(now, came_at);
            if self.trace.is_some() {
                self.record_delivered(tunnel, frame.bytes());
            }
            let written = self.taps[tunnel].writing.write(&mut self.ring, frame)?;
            self.note_written(tunnel, written);
        }
        self.has_undelivered = true;
        Ok(())
    }

    #[inline]
    fn send(&mut self, route: Route, datagram: Datagram) -> io::Result<()> {
        let (endpoint, links) = (&self.endpoint, &mut self.links);
        let tunnel = usize::from(route.tunnel);
        let path = endpoint.tunnels()[tunnel].path(route.uplink);
        if let Sent::Dropped(reason, count) =
            self.port.send(&mut self.ring, route, datagram, move || links.destination(route, path))?
        {
            self.endpoint.tunnel_mut(tunnel).count_drops(reason, count);
        }
        Ok(())
    }

    /// Submits what has waited for company within the batch.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.port.flush(&mut self.ring)?;
        for tunnel in 0..self.taps.len() {
            let written = self.taps[tunnel].writing.flush(&mut self.ring)?;
            self.note_written(tunnel, written);
        }
        Ok(())
    }
}

/// The datagram that brings a frame of a tunnel without keys.
#[inline]
fn with_header(frame: FrameTransmit<OutboundFrame>) -> Datagram {
    let header = frame.plaintext_header();
    let mut head = frame.payload.head;
    head.prepend(&header);
    Datagram { head: head.freeze(), body: frame.payload.body }
}
