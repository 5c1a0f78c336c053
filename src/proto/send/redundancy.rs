//! Which frames go by two uplinks at once: those that are worth it, and few.

use super::classify::Headers;

/// The lowest DSCP that counts as marked: class selector 4 (RFC 4594 §4), as for what is expedited.
pub const DSCP_MARKED_MIN: u8 = 32;

/// A kind of frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Marked by its sender as real-time or control traffic: DSCP CS4 and above.
    Marked,
    /// With this DSCP, 0 to 63.
    Dscp(u8),
    /// TCP or UDP, from or to this port.
    Port(u16),
    /// Of so many bytes of Ethernet frame at most.
    Small(u16),
}

impl Rule {
    /// Whether a frame of `length` bytes with these headers is of this kind.
    #[must_use]
    pub fn matches(&self, headers: &Headers, length: u32) -> bool {
        match *self {
            Self::Marked => headers.dscp.is_some_and(|dscp| dscp >= DSCP_MARKED_MIN),
            Self::Dscp(wanted) => headers.dscp == Some(wanted),
            Self::Port(wanted) => headers.ports.is_some_and(|ports| ports.contains(&wanted)),
            Self::Small(longest) => length <= u32::from(longest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_tells_its_kind() {
        let headers = Headers { dscp: Some(46), ports: Some([5004, 40_000]), ..Headers::NONE };
        for (rule, expected) in [
            (Rule::Marked, true),
            (Rule::Dscp(46), true),
            (Rule::Dscp(0), false),
            (Rule::Port(5004), true),
            (Rule::Port(40_000), true),
            (Rule::Port(53), false),
            (Rule::Small(200), true),
            (Rule::Small(199), false),
        ] {
            assert_eq!(rule.matches(&headers, 200), expected, "{rule:?}");
        }
        assert!(!Rule::Marked.matches(&Headers::NONE, 200) && !Rule::Dscp(0).matches(&Headers::NONE, 200));
    }
}
