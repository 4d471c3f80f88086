//! The metadata as it stands: what the records applied so far add up to.
//!
//! *Owns*: topics by id and by name, what was set of anything, the cluster's id, the next producer id. *Never*: changes
//! but by a record. *Runs on*: every core, one each; they are equal after the same records.

use std::collections::BTreeMap;
use std::fmt;

use super::quota::{EntityName, QuotaEntity, QuotaValues};
use super::record::MetaRecord;
use crate::base::ids::TopicId;
use crate::config::{ConfigResource, NOTHING_SET, Overrides};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topic {
    pub name: String,
    pub id: TopicId,
    pub partitions: i32,
    /// The topic's own settings, by their topic-level names.
    pub settings: Overrides,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Image {
    topics: BTreeMap<TopicId, Topic>,
    /// Invariant: holds exactly the names of `topics`.
    ids: BTreeMap<String, TopicId>,
    /// Topics that are deleted and whose files may still be there.
    deleting: BTreeMap<TopicId, Topic>,
    /// Names with `.` or `_` in them, with every `.` turned into `_`, and the real name.
    folded: BTreeMap<String, String>,
    /// Invariant: the sum over `topics`.
    partitions: usize,
    /// Bytes of the records of `topics`, as a snapshot holds them.
    topics_bytes: usize,
    /// What was changed while running, where it was. Invariant: no topics, and nothing empty.
    configs: BTreeMap<ConfigResource, Overrides>,
    /// Invariant: nothing empty.
    quotas: BTreeMap<QuotaEntity, QuotaValues>,
    /// Bytes of the records of `configs`, and about those of `quotas`.
    configs_bytes: usize,
    cluster_id: String,
    next_producer_id: i64,
    offset: u64,
}

/// A record that does not fit the records before it. The image is as it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApplyError {
    pub message: String,
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApplyError {}

impl Image {
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(self.ids.get(name)?)
    }

    pub fn topic_by_id(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(&id)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.ids.values().map(|id| self.topics.get(id).expect("ids and topics hold the same topics"))
    }

    /// Topics that are deleted and whose files may still be there, by id.
    pub fn deleting(&self) -> impl Iterator<Item = &Topic> {
        self.deleting.values()
    }

    /// Topics from `name` on, that one included, by name.
    pub fn topics_from(&self, name: &str) -> impl Iterator<Item = &Topic> {
        let range = self.ids.range::<str, _>((std::ops::Bound::Included(name), std::ops::Bound::Unbounded));
        range.map(|(_, id)| self.topics.get(id).expect("ids and topics hold the same topics"))
    }

    /// The topic whose name would be the same as `name` in a metric, where `.` and `_` are one.
    pub fn colliding_topic(&self, name: &str) -> Option<&str> {
        self.folded.get(&fold(name)?).map(String::as_str)
    }

    pub fn topics_count(&self) -> usize {
        self.topics.len()
    }

    /// Partitions of all topics together.
    pub fn partitions_count(&self) -> usize {
        self.partitions
    }

    /// What was set of a broker, of all brokers, of a group or of a topic, by the names it has there.
    pub fn overrides(&self, resource: &ConfigResource) -> &Overrides {
        match resource {
            ConfigResource::Topic(name) => self.topic(name).map_or(&NOTHING_SET, |topic| &topic.settings),
            other => self.configs.get(other).unwrap_or(&NOTHING_SET),
        }
    }

    /// What has settings of its own, but for topics.
    pub fn configured(&self) -> impl Iterator<Item = &ConfigResource> {
        self.configs.keys()
    }

    pub fn quotas_of(&self, entity: &QuotaEntity) -> Option<&QuotaValues> {
        self.quotas.get(entity)
    }

    /// All quotas, by whom they are for.
    pub fn quotas(&self) -> impl Iterator<Item = (&QuotaEntity, &QuotaValues)> {
        self.quotas.iter()
    }

    pub fn has_quotas(&self) -> bool {
        !self.quotas.is_empty()
    }

    /// Bytes in a snapshot of what was set of brokers and groups, and of quotas.
    pub fn configs_bytes(&self) -> usize {
        self.configs_bytes
    }

    /// Empty before the first record.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// Records applied.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes of the topics' records in a snapshot.
    pub fn topics_bytes(&self) -> usize {
        self.topics_bytes
    }

    /// The fewest records that make this image out of an empty one, but for `offset`.
    pub fn to_records(&self) -> Vec<MetaRecord> {
        let mut records = Vec::with_capacity(self.topics.len() + self.configs.len() + 2);
        if !self.cluster_id.is_empty() {
            records.push(MetaRecord::ClusterCreated { cluster_id: self.cluster_id.clone() });
        }
        if self.next_producer_id != 0 {
            records.push(MetaRecord::ProducerIdsTaken { next: self.next_producer_id });
        }
        // First, since a later topic may have the name of a deleted one.
        for topic in self.deleting.values() {
            records.push(topic.to_record());
            records.push(MetaRecord::TopicDeleted { id: topic.id });
        }
        records.extend(self.topics.values().map(Topic::to_record));
        records.extend(self.configs.iter().map(|(resource, settings)| MetaRecord::ConfigChanged {
            resource: resource.clone(),
            settings: settings.clone(),
        }));
        records.extend(
            self.quotas
                .iter()
                .map(|(entity, values)| MetaRecord::QuotaChanged { entity: entity.clone(), values: values.clone() }),
        );
        records
    }

    pub fn apply(&mut self, record: &MetaRecord) -> Result<(), ApplyError> {
        match record {
            MetaRecord::ClusterCreated { cluster_id } => {
                refuse_if(!self.cluster_id.is_empty(), || format!("cluster {cluster_id} was created before"))?;
                self.cluster_id.clone_from(cluster_id);
            }
            MetaRecord::TopicCreated { name, id, partitions, settings } => {
                refuse_if(self.ids.contains_key(name), || format!("there is a topic {name} already"))?;
                let known = self.topics.contains_key(id) || self.deleting.contains_key(id);
                refuse_if(known, || format!("there is a topic with id {id} already"))?;
                refuse_if(*partitions < 1, || format!("topic {name} would have {partitions} partitions"))?;
                let (name, settings) = (name.clone(), settings.clone());
                self.add(Topic { name, id: *id, partitions: *partitions, settings });
            }
            MetaRecord::TopicDeleted { id } => {
                self.known(*id)?;
                let topic = self.remove(*id);
                self.deleting.insert(*id, topic);
            }
            MetaRecord::TopicRemoved { id } => {
                refuse_if(!self.deleting.contains_key(id), || format!("topic {id} is not being deleted"))?;
                self.deleting.remove(id);
            }
            MetaRecord::PartitionsAdded { id, partitions_total } => {
                let before = self.known(*id)?.partitions;
                refuse_if(*partitions_total <= before, || format!("topic {id} has {before} partitions already"))?;
                let topic = self.remove(*id);
                self.add(Topic { partitions: *partitions_total, ..topic });
            }
            MetaRecord::TopicSettingsChanged { id, settings } => {
                self.known(*id)?;
                let topic = self.remove(*id);
                self.add(Topic { settings: settings.clone(), ..topic });
            }
            MetaRecord::ProducerIdsTaken { next } => {
                let before = self.next_producer_id;
                refuse_if(*next <= before, || format!("producer ids below {before} are taken already"))?;
                self.next_producer_id = *next;
            }
            MetaRecord::ConfigChanged { resource, settings } => {
                let of_topic = matches!(resource, ConfigResource::Topic(_));
                refuse_if(of_topic, || "the settings of a topic stand with the topic".into())?;
                let bytes = |settings: &Overrides| 4 + resource.name().len() + settings_bytes(settings);
                if let Some(before) = self.configs.remove(resource) {
                    self.configs_bytes -= bytes(&before);
                }
                if !settings.is_empty() {
                    self.configs_bytes += bytes(settings);
                    self.configs.insert(resource.clone(), settings.clone());
                }
            }
            MetaRecord::QuotaChanged { entity, values } => {
                if let Some(before) = self.quotas.remove(entity) {
                    self.configs_bytes -= quota_bytes(entity, &before);
                }
                if !values.is_empty() {
                    self.configs_bytes += quota_bytes(entity, values);
                    self.quotas.insert(entity.clone(), values.clone());
                }
            }
        }
        self.offset += 1;
        Ok(())
    }

    fn known(&self, id: TopicId) -> Result<&Topic, ApplyError> {
        self.topics.get(&id).ok_or_else(|| ApplyError { message: format!("there is no topic with id {id}") })
    }

    fn add(&mut self, topic: Topic) {
        self.partitions += topic.partitions as usize;
        self.topics_bytes += topic.record_bytes();
        self.ids.insert(topic.name.clone(), topic.id);
        if let Some(folded) = fold(&topic.name) {
            self.folded.insert(folded, topic.name.clone());
        }
        let before = self.topics.insert(topic.id, topic);
        assert!(before.is_none(), "the id was checked to be new");
    }

    fn remove(&mut self, id: TopicId) -> Topic {
        let topic = self.topics.remove(&id).expect("the id was checked to be known");
        self.partitions -= topic.partitions as usize;
        self.topics_bytes -= topic.record_bytes();
        self.ids.remove(&topic.name);
        if let Some(folded) = fold(&topic.name) {
            self.folded.remove(&folded);
        }
        topic
    }
}

impl Topic {
    fn to_record(&self) -> MetaRecord {
        MetaRecord::TopicCreated {
            name: self.name.clone(),
            id: self.id,
            partitions: self.partitions,
            settings: self.settings.clone(),
        }
    }

    fn record_bytes(&self) -> usize {
        1 + 2 + self.name.len() + 16 + 4 + settings_bytes(&self.settings)
    }
}

/// Of a record of quotas, or a little more.
fn quota_bytes(entity: &QuotaEntity, values: &QuotaValues) -> usize {
    let side = |side: &Option<EntityName>| match side {
        Some(EntityName::Name(name)) => 3 + name.len(),
        Some(EntityName::Default) | None => 1,
    };
    2 + side(&entity.user) + side(&entity.client_id) + side(&entity.ip) + 9 * values.len()
}

/// Of settings within a record.
fn settings_bytes(settings: &Overrides) -> usize {
    2 + settings.iter().map(|(name, value)| 4 + name.len() + value.len()).sum::<usize>()
}

fn fold(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}

fn refuse_if(wrong: bool, message: impl FnOnce() -> String) -> Result<(), ApplyError> {
    if wrong { Err(ApplyError { message: message() }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created(name: &str, id: u8, partitions: i32) -> MetaRecord {
        let settings = BTreeMap::from([("flush.messages".to_owned(), id.to_string())]);
        MetaRecord::TopicCreated { name: name.into(), id: TopicId([id; 16]), partitions, settings }
    }

    fn after(records: &[MetaRecord]) -> Image {
        let mut image = Image::default();
        for record in records {
            image.apply(record).expect("fits");
        }
        image
    }

    #[test]
    fn records_add_up() {
        let image = after(&[
            MetaRecord::ClusterCreated { cluster_id: "c".into() },
            created("b", 1, 2),
            created("a.x", 2, 3),
            MetaRecord::PartitionsAdded { id: TopicId([1; 16]), partitions_total: 5 },
            MetaRecord::ProducerIdsTaken { next: 1000 },
            MetaRecord::TopicSettingsChanged { id: TopicId([2; 16]), settings: BTreeMap::new() },
            created("gone_", 3, 1),
            MetaRecord::TopicDeleted { id: TopicId([3; 16]) },
        ]);
        assert_eq!(image.topics().map(|t| (&t.name[..], t.partitions)).collect::<Vec<_>>(), [("a.x", 3), ("b", 5)]);
        assert_eq!(image.topics_from("aa").map(|t| &t.name[..]).collect::<Vec<_>>(), ["b"]);
        assert_eq!((image.partitions_count(), image.topics_count()), (8, 2));
        assert_eq!((image.cluster_id(), image.next_producer_id(), image.offset()), ("c", 1000, 8));
        assert_eq!(image.colliding_topic("a_x"), Some("a.x"));
        assert_eq!(image.colliding_topic("gone."), None);
        assert_eq!(image.colliding_topic("b"), None);
        assert!(image.topic("a.x").is_some_and(|topic| topic.settings.is_empty()));
        assert!(image.topic_by_id(TopicId([3; 16])).is_none() && image.topic("gone_").is_none());
    }

    #[test]
    fn a_snapshots_records_make_the_same_image() {
        let records = [
            created("b", 1, 2),
            created("a.x", 2, 3),
            MetaRecord::ProducerIdsTaken { next: 7 },
            configured(ConfigResource::Broker(1), "log.roll.ms", "5"),
            configured(ConfigResource::ClusterDefault, "log.roll.ms", "6"),
            configured(ConfigResource::Group("g".into()), "consumer.session.timeout.ms", "50000"),
        ];
        let image = after(&records);
        let mut bytes = Vec::new();
        image.topics().for_each(|topic| topic.to_record().encode(&mut bytes));
        assert_eq!(image.topics_bytes(), bytes.len());
        bytes.clear();
        records[3..].iter().for_each(|record| record.encode(&mut bytes));
        assert_eq!(image.configs_bytes(), bytes.len());
        assert_eq!(after(&image.to_records()), image);
        assert_eq!(after(&Image::default().to_records()), Image::default());
    }

    fn configured(resource: ConfigResource, name: &str, value: &str) -> MetaRecord {
        MetaRecord::ConfigChanged { resource, settings: Overrides::from([(name.to_owned(), value.to_owned())]) }
    }

    #[test]
    fn what_was_set_stands_until_all_of_it_is_taken_back() {
        let broker = ConfigResource::Broker(1);
        let mut image = after(&[created("t", 1, 1), configured(broker.clone(), "log.roll.ms", "5")]);
        assert_eq!(image.overrides(&broker)["log.roll.ms"], "5");
        assert_eq!(image.overrides(&ConfigResource::Topic("t".into()))["flush.messages"], "1");
        for none in [ConfigResource::ClusterDefault, ConfigResource::Topic("x".into()), ConfigResource::Broker(2)] {
            assert!(image.overrides(&none).is_empty());
        }
        assert_eq!(image.configured().collect::<Vec<_>>(), [&broker]);
        image.apply(&MetaRecord::ConfigChanged { resource: broker, settings: Overrides::new() }).expect("fits");
        assert_eq!((image.configured().count(), image.configs_bytes()), (0, 0));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_changes_nothing() {
        let image = after(&[MetaRecord::ClusterCreated { cluster_id: "c".into() }, created("a", 1, 2)]);
        let id = TopicId([9; 16]);
        for record in [
            MetaRecord::ClusterCreated { cluster_id: "d".into() },
            created("a", 2, 1),
            created("b", 1, 1),
            created("c", 3, 0),
            MetaRecord::TopicDeleted { id },
            MetaRecord::PartitionsAdded { id, partitions_total: 3 },
            MetaRecord::PartitionsAdded { id: TopicId([1; 16]), partitions_total: 2 },
            MetaRecord::TopicSettingsChanged { id, settings: BTreeMap::new() },
            MetaRecord::ProducerIdsTaken { next: 0 },
            configured(ConfigResource::Topic("a".into()), "flush.messages", "2"),
        ] {
            let mut changed = image.clone();
            changed.apply(&record).expect_err("does not fit");
            assert_eq!(changed, image);
        }
    }
}
