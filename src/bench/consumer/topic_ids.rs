//! The topics of a run with the ids that the brokers gave them.
//!
//! *Owns*: what metadata says of topics. *Never*: asks for it. *Runs on*: the consumer's thread.

use std::collections::BTreeMap;

use crate::base::ids::TopicId;
use crate::bench::topics::Topics;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::metadata::{MetadataResponse, MetadataResponsePartition};
use crate::wire::text::Text;

#[derive(Clone, Debug)]
pub struct TopicIds {
    all: Topics,
    /// Of each topic. Zero until metadata says it, and with brokers that have none.
    ids: Vec<TopicId>,
    numbers: BTreeMap<TopicId, usize>,
}

/// What is in a reply to Metadata of the topics.
pub(super) struct News<'a> {
    /// Topics have other ids than before.
    pub has_new_ids: bool,
    /// With their indexes over all topics.
    pub partitions: Vec<(u32, &'a MetadataResponsePartition)>,
    /// Topics that it does not describe, each with an error code.
    pub trouble: Vec<(Text, i16)>,
}

impl TopicIds {
    pub fn new(topics: &Topics) -> TopicIds {
        let ids = vec![TopicId::ZERO; topics.names().len()];
        TopicIds { all: topics.clone(), ids, numbers: BTreeMap::new() }
    }

    pub fn all(&self) -> &Topics {
        &self.all
    }

    pub fn id(&self, number: usize) -> TopicId {
        self.ids[number]
    }

    /// Whether every topic has one, so that requests need no names.
    pub fn are_known(&self) -> bool {
        self.numbers.len() == self.ids.len()
    }

    /// The topic of that id, by its number.
    pub fn of_id(&self, id: TopicId) -> Option<usize> {
        self.numbers.get(&id).copied()
    }

    /// The same, or of that name where a reply has no ids.
    pub fn number(&self, name: &Text, id: TopicId) -> Option<usize> {
        if id == TopicId::ZERO { self.all.number(name) } else { self.of_id(id) }
    }

    /// The partition as people know it.
    pub fn shown(&self, index: u32) -> String {
        self.all.shown(index)
    }

    pub(super) fn learn<'a>(&mut self, metadata: &'a MetadataResponse) -> News<'a> {
        let mut codes = vec![ErrorCode::UnknownTopicOrPartition as i16; self.ids.len()];
        let mut news = News { has_new_ids: false, partitions: Vec::new(), trouble: Vec::new() };
        for topic in &metadata.topics {
            let Some(number) = topic.name.as_ref().and_then(|name| self.all.number(name)) else { continue };
            codes[number] = topic.error_code;
            if topic.error_code != 0 {
                continue;
            }
            if self.ids[number] != topic.topic_id {
                news.has_new_ids = true;
                self.numbers.remove(&self.ids[number]);
                self.ids[number] = topic.topic_id;
                if topic.topic_id != TopicId::ZERO {
                    self.numbers.insert(topic.topic_id, number);
                }
            }
            let indexed =
                |row: &'a MetadataResponsePartition| Some((self.all.index(number, row.partition_index)?, row));
            news.partitions.extend(topic.partitions.iter().filter_map(indexed));
        }
        let troubled = self.all.names().iter().zip(codes).filter(|(_, code)| *code != 0);
        news.trouble.extend(troubled.map(|(name, code)| (name.clone(), code)));
        news
    }
}
