//! For whoever wants to see each frame that comes: what became of it, and how it begins.

use super::{Payload, Tunnel};
use crate::proto::stats::DropReason;
use crate::proto::uplink::UplinkId;

/// A frame that has come.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// By which uplink; `None` if from nowhere that is known.
    pub uplink: Option<UplinkId>,
    /// Its number, as far as that is on the wire.
    pub sequence: u32,
    /// Why it goes no further.
    pub dropped: Option<DropReason>,
    /// Its length.
    pub length: usize,
    /// Its first bytes.
    pub bytes: Vec<u8>,
}

/// The last frame that has come, if it has not been looked at yet.
#[derive(Debug)]
pub(super) struct Watch {
    snap_length: usize,
    is_new: bool,
    last: Watched,
}

impl<T: Payload, F> Tunnel<T, F> {
    /// From now on the last frame that has come, with its first `snap_length` bytes, can be looked at; or no more.
    pub fn watch(&mut self, snap_length: Option<usize>) {
        self.watch = snap_length.map(|snap_length| {
            let last = Watched { bytes: Vec::with_capacity(snap_length), ..Watched::default() };
            Box::new(Watch { snap_length, is_new: false, last })
        });
    }

    /// The frame that has come since this was called last.
    pub fn take_watched(&mut self) -> Option<&Watched> {
        let watch = self.watch.as_mut()?;
        std::mem::take(&mut watch.is_new).then_some(&watch.last)
    }

    pub(super) fn watch_begin(&mut self, uplink: Option<UplinkId>, sequence: u32, frame: &T) {
        if let Some(watch) = &mut self.watch {
            let bytes = frame.bytes();
            watch.is_new = true;
            (watch.last.uplink, watch.last.sequence, watch.last.length) = (uplink, sequence, bytes.len());
            watch.last.bytes.clear();
            watch.last.bytes.extend_from_slice(&bytes[..bytes.len().min(watch.snap_length)]);
        }
    }

    pub(super) fn watch_end(&mut self, dropped: Option<DropReason>) {
        if let Some(watch) = &mut self.watch {
            watch.last.dropped = dropped;
        }
    }
}
