//! Giving leadership back to the preferred replicas, so that brokers that were away lead their share again.
//!
//! Kafka's `ReplicationControlManager.maybeBalancePartitionLeaders`.
//!
//! *Owns*: which leaders change for it. *Never*: moves replicas. *Runs on*: core 0 of the controller.

use super::election::{Draft, Election, Electorate, LeaderRules, changed};
use super::fleet::Fleet;
use super::partition_state::PartitionState;
use super::record::MetaRecord;
use crate::base::limits::LEADERS_BALANCED_MAX;
use crate::config::Settings;

/// Elections of preferred replicas that are in sync and do not lead. More may be due when as many as the limit came.
pub fn plan_balance_leaders(fleet: Fleet<'_>, settings: &Settings) -> Vec<MetaRecord> {
    let is_due = |state: &PartitionState| {
        let preferred = state.preferred_leader();
        state.leader() != Some(preferred) && state.in_isr(preferred) && fleet.is_active(preferred)
    };
    let due = fleet.image.states().filter(|(_, _, state)| is_due(state));
    let elected = due.filter_map(|(topic, partition, before)| {
        let mut draft = Draft::of(before);
        draft.election = Election::Preferred;
        let state = draft.finish(Electorate::of(fleet), LeaderRules::of(topic, settings))?;
        Some(changed(topic, partition, state))
    });
    elected.take(LEADERS_BALANCED_MAX).collect()
}
