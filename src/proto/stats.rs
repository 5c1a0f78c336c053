//! What is counted. Every packet that is not delivered is counted under exactly one [`DropReason`].

/// Defines [`DropReason`] together with the number of its variants and their names.
macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a frame or a datagram went no further. There is no "other".
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl DropReason {
            /// Every reason, in declaration order.
            pub const ALL: [Self; [$(Self::$variant),+].len()] = [$(Self::$variant),+];

            /// The name in logs and status.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

drop_reasons! {
    /// A datagram too short for its header or its message.
    Truncated = "truncated",
    /// A GRE version other than 0 (RFC 2784 §2.3).
    Version = "version",
    /// Checksum or routing present, which braid never sends.
    ChecksumOrRouting = "checksum_or_routing",
    /// Flags that do not fit the protocol type, or reserved bits.
    ReservedBits = "reserved_bits",
    /// A protocol type that braid does not speak.
    ProtocolType = "protocol_type",
    /// A key that belongs to no session here.
    UnknownSession = "unknown_session",
    /// A datagram without keys, where there are keys.
    Unsealed = "unsealed",
    /// A sealed datagram that is not what the peer has sent.
    Unauthenticated = "unauthenticated",
    /// There are no keys to seal with, yet or any more.
    NoSession = "no_session",
    /// A handshake message whose form is wrong.
    HandshakeMalformed = "handshake_malformed",
    /// A handshake message of somebody who does not know our public key.
    HandshakeMac = "handshake_mac",
    /// A handshake message of somebody whose keys are none of those we let in.
    HandshakeRejected = "handshake_rejected",
    /// A handshake message that has been seen before.
    HandshakeReplayed = "handshake_replayed",
    /// One handshake message too many: its sender was asked to show that it is where it says it is, or was not even
    /// that.
    HandshakeThrottled = "handshake_throttled",
    /// A message of a handshake that is over: each goes by every uplink, and the first is enough.
    HandshakeOver = "handshake_over",
    /// A control message that was spoiled on the way.
    Checksum = "checksum",
    /// A control message whose contents make no sense.
    ControlMalformed = "control_malformed",
    /// A control message that is no newer than one already seen from that uplink.
    ControlReplayed = "control_replayed",
    /// A message of a peer that has been replaced by a newer start of itself.
    StaleEpoch = "stale_epoch",
    /// A frame from an address that no probe has vouched for.
    UnknownSource = "unknown_source",
    /// A frame shorter than an Ethernet header.
    Runt = "runt",
    /// A frame longer than the TAP's MTU allows, or a datagram longer than a buffer.
    Oversize = "oversize",
    /// A copy of a frame that had come by another uplink before.
    Duplicate = "duplicate",
    /// A frame that had come by the same uplink before, or so many frames ago that nobody knows.
    FrameReplayed = "frame_replayed",
    /// A frame that came after it had been given up.
    Late = "late",
    /// A sequence number further ahead than the peer can have sent.
    FarAhead = "far_ahead",
    /// A frame from the TAP that could only have come too late, by any uplink.
    TooLate = "too_late",
    /// No uplink could take the frame.
    NoUplink = "no_uplink",
    /// The uplink's socket had no room (EAGAIN, ENOBUFS): its queue is full.
    UplinkQueueFull = "uplink_queue_full",
    /// The datagram is longer than the uplink's path allows (EMSGSIZE).
    PathMtu = "path_mtu",
    /// The kernel refused the datagram for another reason.
    SendFailed = "send_failed",
    /// A super-frame from the TAP that cannot be cut into frames.
    SuperFrame = "super_frame_malformed",
    /// The TAP refused the frame.
    TapRefused = "tap_refused",
    /// All buffers were in use.
    NoBuffer = "no_buffer",
}

/// How often each reason has struck.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropCounters([u64; DropReason::ALL.len()]);

impl Default for DropCounters {
    fn default() -> Self {
        Self([0; DropReason::ALL.len()])
    }
}

impl DropCounters {
    /// Counts one.
    pub fn add(&mut self, reason: DropReason) {
        self.add_many(reason, 1);
    }

    /// Counts so many.
    pub fn add_many(&mut self, reason: DropReason, count: u64) {
        self.0[reason as usize] += count;
    }

    /// How often `reason` has struck.
    #[must_use]
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// How often any of them has struck.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The reasons that have struck at all, with their counts.
    pub fn nonzero(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.into_iter().map(|reason| (reason, self.get(reason))).filter(|(_, count)| *count > 0)
    }
}

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How many.
    pub packets: u64,
    /// Bytes of Ethernet frame, without any tunnel header.
    pub bytes: u64,
}

impl Traffic {
    /// Counts one frame of `length` bytes.
    pub fn add(&mut self, length: usize) {
        self.packets += 1;
        self.bytes += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_counted_under_its_own_name() {
        let mut counters = DropCounters::default();
        for reason in DropReason::ALL {
            counters.add(reason);
        }
        let names: std::collections::BTreeSet<_> = counters.nonzero().map(|(reason, _)| reason.name()).collect();
        assert_eq!(names.len(), DropReason::ALL.len());
        assert!(counters.nonzero().all(|(_, count)| count == 1));
    }
}
