//! What can be asked of a world that has run.

use super::World;
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
}
