//! Equally good uplinks share what is sent, by weight (start-time fair queueing, Goyal, Vin and Cheng 1996).

use crate::proto::uplink::{UPLINKS_MAX, UplinkId, UplinkSet};

/// What each uplink has had, divided by its weight.
#[derive(Clone, Copy, Debug)]
pub struct Shares {
    weights: [u8; UPLINKS_MAX],
    had: [u64; UPLINKS_MAX],
}

impl Default for Shares {
    fn default() -> Self {
        Self { weights: [1; UPLINKS_MAX], had: [0; UPLINKS_MAX] }
    }
}

impl Shares {
    /// The weight of an uplink, 1 to 255.
    pub fn set_weight(&mut self, uplink: UplinkId, weight: u8) {
        self.weights[uplink.index()] = weight.max(1);
    }

    /// The one of `equals` whose turn it is; `only` if there is none.
    #[must_use]
    pub fn choose(&self, only: UplinkId, equals: UplinkSet) -> UplinkId {
        equals.iter().min_by_key(|uplink| self.had[uplink.index()]).unwrap_or(only)
    }

    /// A frame was sent by `uplink`.
    pub fn on_sent(&mut self, uplink: UplinkId, length: u32) {
        let index = uplink.index();
        self.had[index] += u64::from(length) * 256 / u64::from(self.weights[index]);
        // Who has long had nothing has no claim to all that the others had meanwhile.
        let floor = self.had[index].saturating_sub(CLAIM_MAX);
        self.had.iter_mut().for_each(|had| *had = (*had).max(floor));
    }
}

/// By how much one may lag behind another: some 10 frames.
const CLAIM_MAX: u64 = 10 * 1500 * 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_share_by_weight_and_none_catches_up() {
        let [first, second] = [0, 1].map(|number| UplinkId::new(number).expect("within range"));
        let both: UplinkSet = [first, second].into_iter().collect();
        let mut shares = Shares::default();
        shares.set_weight(second, 3);
        (0..1000).for_each(|_| shares.on_sent(first, 1000));
        let mut had = [0; 2];
        for _ in 0..400 {
            let chosen = shares.choose(first, both);
            shares.on_sent(chosen, 1000);
            had[chosen.index()] += 1;
        }
        assert!((80..=100).contains(&had[0]), "{had:?}");
    }
}
