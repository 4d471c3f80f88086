//! The topics of the cluster, as far as groups care.
//!
//! *Owns*: the questions that are asked. *Never*: knows where the answers come from. *Runs on*: every core.

use crate::base::ids::TopicId;

pub trait Topics {
    /// Grows whenever a topic is made, deleted or gets more partitions.
    fn version(&self) -> u64;
    fn by_name(&self, name: &str) -> Option<KnownTopic>;
    fn name_of(&self, id: TopicId) -> Option<&str>;
    /// In order.
    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_>;
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KnownTopic {
    pub id: TopicId,
    pub partitions: i32,
}
