//! The settings in force on a core: those the broker was started with, and what was changed since.
//!
//! *Owns*: their renewal when the metadata changes. *Never*: checks a value; core 0 did. *Runs on*: every core.

use std::sync::Arc;

use crate::base::ids::{NodeId, TopicId};
use crate::base::time::Now;
use crate::broker::effect::{Effects, ListenerKind};
use crate::broker::route::ShownBroker;
use crate::broker::shard::Shard;
use crate::config::{ConfigResource, GroupSettings, Layers};
use crate::meta::configs;

impl Shard {
    /// The broker's settings by where they came from, to be described.
    pub(in crate::broker) fn layers(&self) -> Layers<'_> {
        Layers {
            at_start: &self.at_start,
            cluster: self.image.overrides(&ConfigResource::ClusterDefault),
            broker: self.image.overrides(&ConfigResource::Broker(self.at_start.node_id)),
        }
    }

    /// What a group is set to.
    pub fn group_settings(&self, group: &str) -> GroupSettings {
        let own = self.image.overrides(&ConfigResource::Group(group.to_owned()));
        GroupSettings::in_force(&self.config.settings, own)
    }

    /// Whether this is the broker that has that name on this listener; if not, what to say.
    pub(in crate::broker) fn check_broker(&self, listener: ListenerKind, name: &str) -> Result<(), String> {
        let own = self.registered_brokers(listener).into_iter().filter(|broker| broker.node == self.node());
        named(own.collect(), name).map(|_| ())
    }

    /// The broker that has that name on this listener; if there is none, what to say.
    pub(in crate::broker) fn broker_named(&self, listener: ListenerKind, name: &str) -> Result<NodeId, String> {
        named(self.registered_brokers(listener), name)
    }

    /// Takes the settings anew from the image, and has every topic do so.
    pub(in crate::broker) fn refresh_settings(&mut self, now: Now, effects: &mut Effects) {
        let settings = configs::broker_settings(&self.image, &self.at_start);
        if settings == *self.config.settings {
            return;
        }
        self.config.settings = Arc::new(settings);
        let topics: Vec<TopicId> = self.image.topics().map(|topic| topic.id).collect();
        for topic in topics {
            self.refresh_topic(topic, now, effects);
        }
    }
}

fn named(brokers: Vec<ShownBroker>, name: &str) -> Result<NodeId, String> {
    if let Some(broker) = brokers.iter().find(|broker| broker.id.to_string() == name) {
        return Ok(broker.node);
    }
    let ids: Vec<String> = brokers.iter().map(|broker| broker.id.to_string()).collect();
    Err(format!("there is no broker {name:?} on this listener, only {}", ids.join(", ")))
}
