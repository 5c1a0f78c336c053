//! How much of the costly work strangers may cause: so much a second in all, and so much each.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use siphasher::sip::SipHasher13;
use std::hash::Hasher;

use super::Host;
use crate::proto::time::{Instant, nanos};

/// Lets a number of things happen a second, and some more at once after a pause.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    per_second: u64,
    at_once_max: u64,
    /// Billionths of one.
    left: u64,
    refilled_at: Option<Instant>,
}

const ONE: u64 = 1_000_000_000;

impl Allowance {
    /// `per_second` on average, up to `at_once_max` at once.
    #[must_use]
    pub const fn new(per_second: u32, at_once_max: u32) -> Self {
        let at_once_max = at_once_max as u64 * ONE;
        Self { per_second: per_second as u64, at_once_max, left: at_once_max, refilled_at: None }
    }

    /// Whether one more may happen now; if so, it is taken to do.
    pub fn take(&mut self, now: Instant) -> bool {
        let passed = self.refilled_at.map_or(Duration::ZERO, |at| now.since(at));
        self.left = self.left.saturating_add(nanos(passed).saturating_mul(self.per_second)).min(self.at_once_max);
        self.refilled_at = Some(now);
        match self.left.checked_sub(ONE) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

/// Sources that share a place share what it allows, too: memory is the same whoever comes.
const PLACES: usize = 1024;

/// Lets each source do a number of things a second.
pub struct PerSource {
    per_second: u8,
    counts: Box<[u8; PLACES]>,
    since: Option<Instant>,
    key: [u8; 16],
}

impl PerSource {
    /// `per_second` for each.
    #[must_use]
    pub fn new(host: &mut impl Host, per_second: u8) -> Self {
        let mut key = [0; 16];
        host.fill_random(&mut key);
        Self { per_second, counts: Box::new([0; PLACES]), since: None, key }
    }

    /// Whether `source` may do one more now; if so, it is taken to do. An IPv6 source is its network of 64 bits, which
    /// whoever has one address has whole.
    pub fn take(&mut self, now: Instant, source: SocketAddr) -> bool {
        if self.since.is_none_or(|since| now >= since + Duration::from_secs(1)) {
            self.counts.fill(0);
            self.since = Some(now);
        }
        // Keyed, so that nobody can choose an address to share a certain other's place.
        let mut hasher = SipHasher13::new_with_key(&self.key);
        match source.ip() {
            IpAddr::V4(address) => hasher.write(&address.octets()),
            IpAddr::V6(address) => hasher.write(&address.octets()[..8]),
        }
        let count = &mut self.counts[hasher.finish() as usize % PLACES];
        let may = *count < self.per_second;
        *count += u8::from(may);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct NoHost;

    impl Host for NoHost {
        fn fill_random(&mut self, bytes: &mut [u8]) {
            bytes.fill(7);
        }

        fn time_of_day(&mut self) -> Duration {
            Duration::ZERO
        }
    }

    fn at(milliseconds: u64) -> Instant {
        Instant::from_nanos(milliseconds * 1_000_000)
    }

    #[test]
    fn an_allowance_is_used_up_and_grows_again_but_not_beyond_its_bound() {
        let mut allowance = Allowance::new(10, 5);
        let taken = |allowance: &mut Allowance, now| (0..100).filter(|_| allowance.take(now)).count();
        assert_eq!(taken(&mut allowance, at(0)), 5);
        assert_eq!(taken(&mut allowance, at(99)), 0);
        assert_eq!(taken(&mut allowance, at(100)), 1);
        assert_eq!(taken(&mut allowance, at(100_000)), 5);
    }

    #[test]
    fn one_source_does_not_use_up_anothers() {
        let mut limiter = PerSource::new(&mut NoHost, 3);
        let source = |last: u8| SocketAddr::from(([192, 0, 2, last], 7));
        assert_eq!((0..10).filter(|_| limiter.take(at(0), source(1))).count(), 3);
        assert!(limiter.take(at(0), source(2)));
        assert!(limiter.take(at(1000), source(1)), "a second later");
    }
}
