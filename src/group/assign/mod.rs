//! The assignors of the broker: who of a consumer group's members is to have which partition (KIP-848).
//!
//! *Owns*: the way to each assignor, and what they are told. *Never*: knows who owns a partition at the moment: that is
//! reconciled later. *Runs on*: the core that coordinates the group.

mod range;
mod uniform;

use std::collections::BTreeMap;

use crate::base::ids::TopicId;
use crate::config::Assignor;
use crate::group::assignment::Assignment;

/// What an assignor decides on.
#[derive(Clone, Default, Debug)]
pub struct Spec<'a> {
    /// Partitions of every topic that is subscribed to.
    pub topics: BTreeMap<TopicId, i32>,
    /// The different sets of topics that members subscribe to, each ascending, without topics that `topics` lacks.
    pub subscriptions: Vec<Vec<TopicId>>,
    /// In the order of their ids.
    pub members: Vec<Subscriber<'a>>,
}

/// A member as an assignor sees it.
#[derive(Clone, Copy, Debug)]
pub struct Subscriber<'a> {
    pub instance_id: Option<&'a str>,
    /// Index of what it subscribes to.
    pub subscription: usize,
    /// What it was to have until now.
    pub previous: &'a Assignment,
}

/// What each member is to have, in the order of `spec.members`. No partition is given twice, and none is left if
/// somebody subscribes to its topic. The same for the same `spec`.
pub fn assign(assignor: Assignor, spec: &Spec) -> Vec<Assignment> {
    let assignments = match assignor {
        Assignor::Uniform => uniform::assign(spec),
        Assignor::Range => range::assign(spec),
    };
    assert_eq!(assignments.len(), spec.members.len());
    assignments
}

#[cfg(test)]
mod tests;
