//! `active-backup`: every frame on one uplink, the others standing by.

use super::standing::Standing;
use super::{PrimaryReselect, SchedulerConfig};
use crate::proto::uplink::{UplinkId, UplinkName, UplinkSet};

/// Keeps to one uplink until there is a reason to change.
#[derive(Clone, Debug)]
pub struct ActiveBackup {
    primary: Option<UplinkName>,
    reselect: PrimaryReselect,
    active: Option<UplinkId>,
}

impl ActiveBackup {
    /// Prefers the primary of `config`, if it names one.
    #[must_use]
    pub const fn new(config: &SchedulerConfig) -> Self {
        Self { primary: config.primary, reselect: config.primary_reselect, active: None }
    }

    pub(super) fn refresh(&mut self, standing: &Standing) {
        let primary = self.primary.and_then(|name| standing.best_named(name));
        let active = self.active.filter(|active| standing.best.contains(*active));
        self.active = match (active, primary) {
            (Some(active), Some(primary)) if self.returns(standing, active, primary) => Some(primary),
            (Some(active), _) => Some(active),
            (None, primary) => primary.or_else(|| standing.best_by_round_trip()),
        };
    }

    fn returns(&self, standing: &Standing, active: UplinkId, primary: UplinkId) -> bool {
        match self.reselect {
            PrimaryReselect::Always => true,
            PrimaryReselect::Better => standing.round_trip(primary) < standing.round_trip(active),
            PrimaryReselect::Failure => false,
        }
    }

    #[inline]
    pub(super) fn schedule(&self) -> UplinkSet {
        self.active.map_or(UplinkSet::EMPTY, UplinkSet::only)
    }
}
