//! What can be asked of a world that has run.

use std::time::Duration;

use super::World;
use crate::proto::send::SenderCounters;
use crate::proto::tunnel::Tunnel;
use crate::proto::uplink::monitor::Uplink;
use crate::sim::link::LinkCounters;
use crate::sim::oracle::Stream;

impl World {
    /// What was offered to end `from`, and what became of it.
    #[must_use]
    pub const fn stream(&self, from: usize) -> &Stream {
        self.oracle.stream(from)
    }

    /// What each uplink's link in direction `way` has done.
    pub fn link_counters(&self, way: usize) -> impl Iterator<Item = &LinkCounters> {
        self.lines.iter().map(move |line| line.ways[way].counters())
    }

    /// How long what enters each uplink's link in direction `way` now will wait for what stands there.
    pub fn link_waits(&self, way: usize) -> impl Iterator<Item = Duration> {
        self.lines.iter().map(move |line| line.ways[way].wait(self.now))
    }

    /// The longest IP packet that `end` knows each uplink to carry.
    pub fn path_mtus(&self, end: usize) -> impl Iterator<Item = Option<u16>> {
        let uplinks = (0..self.lines.len()).map(Self::id);
        self.ends[end]
            .tunnel()
            .into_iter()
            .flat_map(move |tunnel| uplinks.clone().map(|uplink| tunnel.path_mtu(uplink)))
    }

    /// How many pairs of soundings `end` has sent.
    #[must_use]
    pub fn soundings(&self, end: usize) -> u64 {
        self.ends[end].tunnel().map_or(0, Tunnel::soundings)
    }

    /// The MTU that `end` has its TAP have.
    #[must_use]
    pub fn tap_mtu_allowed(&self, end: usize) -> Option<u16> {
        self.ends[end].tunnel().map(Tunnel::tap_mtu_allowed)
    }

    /// What the sending half of `end` has counted, if it runs in `adaptive`.
    #[must_use]
    pub fn sender_counters(&self, end: usize) -> Option<SenderCounters> {
        self.ends[end].tunnel().and_then(Tunnel::sender_counters)
    }

    /// What `end` knows of each uplink; nothing while it does not run.
    pub fn uplinks(&self, end: usize) -> impl Iterator<Item = &Uplink> {
        let uplinks = (0..self.lines.len()).map(Self::id);
        self.ends[end].tunnel().into_iter().flat_map(move |tunnel| uplinks.clone().map(|uplink| tunnel.uplink(uplink)))
    }
}
