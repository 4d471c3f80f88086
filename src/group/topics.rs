//! The metadata of the cluster, as far as groups care: topics, and what is set for groups.
//!
//! *Owns*: the questions that are asked. *Never*: knows where the answers come from. *Runs on*: every core.

use crate::base::ids::TopicId;
use crate::config::{GroupSettings, NOTHING_SET, Settings};

pub trait Topics {
    /// Grows whenever a topic is made, deleted or gets more partitions.
    fn version(&self) -> u64;
    fn by_name(&self, name: &str) -> Option<KnownTopic>;
    fn name_of(&self, id: TopicId) -> Option<&str>;
    /// In order.
    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_>;

    /// The settings of a group: the broker's, with its own over them, where it has any.
    fn settings_of(&self, _group: &str, settings: &Settings) -> GroupSettings {
        GroupSettings::in_force(settings, &NOTHING_SET)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KnownTopic {
    pub id: TopicId,
    pub partitions: i32,
}
