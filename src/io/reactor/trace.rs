//! What a trace is told of: each frame where it enters, and where it leaves.

use super::Reactor;
use crate::control::trace::Passage;
use crate::io::control::trace::{Seen, Verdict};
use crate::io::tap_port::reading::OutboundFrame;
use crate::proto::send::Resend;
use crate::proto::stats::DropReason;
use crate::proto::tunnel::{FrameTransmit, Payload};
use crate::proto::wire::FRAME_HEADER_LENGTH;

/// Of a frame in two parts, the second.
fn body(frame: &OutboundFrame) -> &[u8] {
    frame.body.as_ref().map_or(&[], |body| body.bytes())
}

impl Reactor {
    fn record(&mut self, seen: Seen, parts: [&[u8]; 2]) {
        if let Some(trace) = &mut self.trace {
            trace.record(seen, parts);
        }
    }

    /// A frame has been read from the TAP.
    pub(super) fn record_read(&mut self, tunnel: usize, frame: &Result<OutboundFrame, DropReason>) {
        let (verdict, parts) = match frame {
            Ok(frame) => (Verdict::Taken, [frame.head.bytes(), body(frame)]),
            Err(reason) => (Verdict::Dropped(*reason), [&[][..]; 2]),
        };
        let length = parts[0].len() + parts[1].len();
        let seen = Seen { passage: Passage::FromTap, tunnel, uplink: None, sequence: None, verdict, length };
        self.record(seen, parts);
    }

    /// A frame leaves by uplinks, for the first time.
    pub(super) fn record_sent(&mut self, tunnel: usize, frame: &FrameTransmit<OutboundFrame>) {
        let parts = [frame.payload.head.bytes(), body(&frame.payload)];
        for uplink in frame.uplinks.iter() {
            let seen = Seen {
                passage: Passage::ToUplink,
                tunnel,
                uplink: Some(uplink),
                sequence: Some(frame.sequence),
                verdict: Verdict::Taken,
                length: parts[0].len() + parts[1].len(),
            };
            self.record(seen, parts);
        }
    }

    /// A frame leaves again. Of one that was sealed nothing can be seen any more.
    pub(super) fn record_resent(&mut self, tunnel: usize, resend: Resend) {
        let Some(trace) = &mut self.trace else { return };
        let seen = Seen {
            passage: Passage::ToUplink,
            tunnel,
            uplink: Some(resend.uplink),
            sequence: Some(resend.sequence),
            verdict: Verdict::SentAgain,
            length: resend.length as usize,
        };
        let datagram = self.kept[tunnel].get(resend.sequence).filter(|_| !self.endpoint.is_sealed());
        let head = datagram.map_or(&[][..], |datagram| &datagram.head.bytes()[FRAME_HEADER_LENGTH..]);
        let body = datagram.and_then(|datagram| datagram.body.as_ref()).map_or(&[][..], Payload::bytes);
        trace.record(seen, [head, body]);
    }

    /// A datagram has been handed to the core; if it brought a frame, that has come.
    pub(super) fn record_arrived(&mut self, tunnel: usize) {
        let (Some(trace), Some(watched)) = (&mut self.trace, self.endpoint.tunnel_mut(tunnel).take_watched()) else {
            return;
        };
        let seen = Seen {
            passage: Passage::FromUplink,
            tunnel,
            uplink: watched.uplink,
            sequence: Some(watched.sequence.into()),
            verdict: watched.dropped.map_or(Verdict::Taken, Verdict::Dropped),
            length: watched.length,
        };
        trace.record(seen, [&watched.bytes, &[]]);
    }

    /// A frame goes to the TAP.
    pub(super) fn record_delivered(&mut self, tunnel: usize, frame: &[u8]) {
        let seen = Seen {
            passage: Passage::ToTap,
            tunnel,
            uplink: None,
            sequence: None,
            verdict: Verdict::Taken,
            length: frame.len(),
        };
        self.record(seen, [frame, &[]]);
    }
}
