//! Datagrams that have been sent and may be asked for again.

use super::datagram_port::send::Datagram;
use crate::proto::send::flight::FLIGHT_MAX;

/// Those of one tunnel, by the numbers of their frames.
pub struct Kept {
    /// Each in the place of its number; without a place as long as nothing has been kept.
    ring: Vec<Option<(u64, Datagram)>>,
    /// Those below have been let go.
    from: u64,
}

impl Kept {
    /// None. Room is made for all that a tunnel can want, if it can want any.
    #[must_use]
    pub fn new(is_needed: bool) -> Self {
        let places = if is_needed { FLIGHT_MAX } else { 0 };
        Self { ring: (0..places).map(|_| None).collect(), from: 0 }
    }

    /// Keeps the datagram that brings frame number `sequence`.
    #[inline]
    pub fn keep(&mut self, sequence: u64, datagram: Datagram) {
        if !self.ring.is_empty() {
            self.ring[place(sequence)] = Some((sequence, datagram));
        }
    }

    /// The datagram that brings frame number `sequence`, if it has been kept.
    #[must_use]
    pub fn get(&self, sequence: u64) -> Option<&Datagram> {
        let (kept, datagram) = self.ring.get(place(sequence))?.as_ref()?;
        (*kept == sequence).then_some(datagram)
    }

    /// Lets go of those with lower numbers.
    #[inline]
    pub fn release_below(&mut self, from: u64) {
        if self.ring.is_empty() {
            return;
        }
        for sequence in self.from.max(from.saturating_sub(FLIGHT_MAX as u64))..from {
            let kept = &mut self.ring[place(sequence)];
            kept.take_if(|(kept, _)| *kept < from);
        }
        self.from = self.from.max(from);
    }
}

const fn place(sequence: u64) -> usize {
    sequence as usize % FLIGHT_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::buffers::{Arena, Size, Slots};

    #[test]
    fn what_is_let_go_is_gone_and_its_slot_is_free() {
        let arena = Arena::new(Slots { count: 4, size: 256 }, Slots { count: 0, size: 0 }).expect("mapped");
        let datagram = || Datagram { head: arena.copy(b"frame").expect("free").freeze(), body: None };
        let mut kept = Kept::new(true);
        let first = (1 << 32) - 2;
        (first..first + 4).for_each(|sequence| kept.keep(sequence, datagram()));
        assert_eq!(arena.free_slots(Size::Small), 0);
        kept.release_below(first + 3);
        assert_eq!(arena.free_slots(Size::Small), 3);
        assert!(kept.get(first + 2).is_none() && kept.get(first + 3).is_some());
        assert!(kept.get(first + 3 + FLIGHT_MAX as u64).is_none(), "another number in the same place");
    }
}
