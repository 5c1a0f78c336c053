//! What limits a link's rate: nothing, a number, or recorded opportunities.

use std::sync::Arc;
use std::time::Duration;

use super::Nanoseconds;

/// Bytes that one opportunity of a trace carries (Mahimahi's unit).
pub const OPPORTUNITY_BYTES: usize = 1500;

/// What limits the rate.
#[derive(Clone, Debug)]
pub enum Shaper {
    /// Nothing.
    Unlimited,
    /// So many bits per second.
    Rate(u64),
    /// Recorded opportunities.
    Trace(Trace),
}

impl Shaper {
    /// When the last of `bytes` that come at `now` leaves, if what came before has left by `start`.
    pub fn serve(&mut self, now: Nanoseconds, start: Nanoseconds, bytes: usize) -> Nanoseconds {
        match self {
            Self::Unlimited => now,
            Self::Rate(rate) => start + (bytes as u64 * 8 * 1_000_000_000).div_ceil(*rate),
            Self::Trace(trace) => trace.serve(start, bytes),
        }
    }
}

/// Reads recorded opportunities in Mahimahi's format: each line a millisecond at which 1,500 bytes may leave.
///
/// # Errors
/// What is wrong, and in which line.
pub fn parse_opportunities(text: &str) -> Result<Arc<[u64]>, String> {
    let mut opportunities = vec![];
    for (number, line) in text.lines().enumerate() {
        let at = line.trim().parse().map_err(|_| format!("line {}: '{line}' is not a millisecond", number + 1))?;
        if opportunities.last().is_some_and(|last| *last > at) {
            return Err(format!("line {}: {at} is earlier than the line before", number + 1));
        }
        opportunities.push(at);
    }
    if opportunities.last().is_none_or(|last| *last == 0) {
        return Err("it has no opportunity after 0 ms, so it cannot repeat".to_owned());
    }
    Ok(opportunities.into())
}

/// Opportunities, and how far they have been used.
#[derive(Clone, Debug)]
pub struct Trace {
    opportunities: Arc<[u64]>,
    origin: Nanoseconds,
    /// How much of the trace had passed at the origin.
    start_ms: u64,
    next: u64,
    bytes_left: usize,
    open_at: Nanoseconds,
}

impl Trace {
    /// The trace, `start` of which has passed at `origin`. Each of `opportunities` is a millisecond at which 1,500 bytes
    /// may leave; they repeat at their end.
    ///
    /// # Panics
    /// If there is none, or none after 0 ms.
    #[must_use]
    pub fn new(opportunities: Arc<[u64]>, origin: Nanoseconds, start: Duration) -> Self {
        assert!(opportunities.last().is_some_and(|last| *last > 0), "a trace must have a length to repeat");
        let start_ms = start.as_millis() as u64;
        let mut trace = Self { opportunities, origin, start_ms, next: 0, bytes_left: 0, open_at: 0 };
        let period = trace.opportunities[trace.opportunities.len() - 1];
        trace.next = start_ms / period * trace.opportunities.len() as u64;
        while trace.millisecond(trace.next) < start_ms {
            trace.next += 1;
        }
        trace
    }

    fn millisecond(&self, number: u64) -> u64 {
        let length = self.opportunities.len() as u64;
        let period = self.opportunities[self.opportunities.len() - 1];
        (number / length) * period + self.opportunities[(number % length) as usize]
    }

    fn serve(&mut self, now: Nanoseconds, mut bytes: usize) -> Nanoseconds {
        // An opportunity that nobody used is gone.
        if self.open_at < now {
            self.bytes_left = 0;
        }
        while bytes > 0 {
            if self.bytes_left == 0 {
                self.open_next(now);
            }
            let carried = bytes.min(self.bytes_left);
            bytes -= carried;
            self.bytes_left -= carried;
        }
        self.open_at
    }

    fn open_next(&mut self, now: Nanoseconds) {
        loop {
            let at = self.origin + (self.millisecond(self.next) - self.start_ms) * 1_000_000;
            self.next += 1;
            if at >= now {
                self.open_at = at;
                self.bytes_left = OPPORTUNITY_BYTES;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opportunities_are_checked() {
        assert_eq!(parse_opportunities("1\n1\n5\n").as_deref(), Ok(&[1, 1, 5][..]));
        for wrong in ["", "0\n", "x\n", "5\n4\n"] {
            assert!(parse_opportunities(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_trace_may_begin_long_after_it_has_repeated() {
        let mut trace = Trace::new(vec![2, 5, 10].into(), 0, Duration::from_secs(1_000_000_000));
        assert_eq!(trace.serve(0, 1500), 2_000_000);
    }
}
