//! The metadata as it stands: what the records applied so far add up to.
//!
//! *Owns*: brokers, topics by id and by name and their partitions, what was set of anything, the cluster's id, the next
//! producer id. *Never*: changes but by a record. *Runs on*: every core, one each; they are equal after the same records.

use std::collections::BTreeMap;
use std::fmt;

use super::broker::Broker;
use super::partition_state::{PartitionState, nodes_bytes};
use super::quota::{EntityName, QuotaEntity, QuotaValues};
use super::record::MetaRecord;
use super::voters::VoteSaid;
use crate::base::bug::{self, Bug};
use crate::base::ids::{BrokerEpoch, NodeId, PartitionIndex, TopicId};
use crate::config::{ConfigResource, NOTHING_SET, Overrides};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topic {
    pub name: String,
    pub id: TopicId,
    /// Invariant: as many as `states`.
    pub partitions: i32,
    /// The topic's own settings, by their topic-level names.
    pub settings: Overrides,
    pub(super) states: Vec<PartitionState>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Image {
    brokers: BTreeMap<NodeId, Broker>,
    /// The last that was given out. 0: none.
    broker_epoch: BrokerEpoch,
    votes: BTreeMap<NodeId, VoteSaid>,
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

    pub(super) fn topics_by_id(&self) -> impl Iterator<Item = &Topic> {
        self.topics.values()
    }

    /// Topics that are deleted and whose files may still be there, by id.
    pub fn deleting(&self) -> impl Iterator<Item = &Topic> {
        self.deleting.values()
    }

    pub fn deleting_by_id(&self, id: TopicId) -> Option<&Topic> {
        self.deleting.get(&id)
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

    /// A partition of a topic that is not deleted.
    pub fn partition(&self, topic: TopicId, partition: PartitionIndex) -> Option<&PartitionState> {
        self.topics.get(&topic)?.state(partition)
    }

    /// Every partition of every topic, by the topics' ids.
    pub fn states(&self) -> impl Iterator<Item = (&Topic, PartitionIndex, &PartitionState)> {
        let partitions = |topic| Topic::states(topic).map(move |(partition, state)| (topic, partition, state));
        self.topics.values().flat_map(partitions)
    }

    /// A broker that is registered, fenced or not.
    pub fn broker(&self, id: NodeId) -> Option<&Broker> {
        self.brokers.get(&id)
    }

    /// All that are registered, fenced or not, by their ids.
    pub fn brokers(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.values()
    }

    /// The last that was given out. Epochs count from 1.
    pub fn broker_epoch(&self) -> BrokerEpoch {
        self.broker_epoch
    }

    /// What an operator has said of a node's vote last.
    pub fn said_of_vote(&self, node: NodeId) -> Option<VoteSaid> {
        self.votes.get(&node).copied()
    }

    pub(super) fn votes(&self) -> impl Iterator<Item = (NodeId, VoteSaid)> {
        self.votes.iter().map(|(node, said)| (*node, *said))
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

    /// Whether there is anybody but whoever looks: a broker that nobody has joined is not registered.
    pub fn has_brokers(&self) -> bool {
        !self.brokers.is_empty()
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

    /// `record` as this version has it: what is of before there were several brokers is on `home`, the one there was.
    pub fn placed(&self, mut record: MetaRecord, home: NodeId) -> MetaRecord {
        let at_home = |count: i32| vec![vec![home]; usize::try_from(count).unwrap_or(0)];
        match &mut record {
            MetaRecord::TopicCreated { partitions, placed, .. } if placed.is_empty() => *placed = at_home(*partitions),
            MetaRecord::PartitionsAdded { id, partitions_total, placed } if placed.is_empty() => {
                let before = self.topics.get(id).map_or(0, |topic| topic.partitions);
                *placed = at_home(partitions_total.saturating_sub(before));
            }
            _ => {}
        }
        record
    }

    pub fn apply(&mut self, record: &MetaRecord) -> Result<(), ApplyError> {
        match record {
            MetaRecord::ClusterCreated { cluster_id } => {
                refuse_if(!self.cluster_id.is_empty(), || format!("cluster {cluster_id} was created before"))?;
                self.cluster_id.clone_from(cluster_id);
            }
            MetaRecord::TopicCreated { name, id, partitions, placed, settings } => {
                refuse_if(self.ids.contains_key(name), || format!("there is a topic {name} already"))?;
                let known = self.topics.contains_key(id) || self.deleting.contains_key(id);
                refuse_if(known, || format!("there is a topic with id {id} already"))?;
                refuse_if(*partitions < 1, || format!("topic {name} would have {partitions} partitions"))?;
                let states = initial_states(*partitions, placed)?;
                let (name, settings) = (name.clone(), settings.clone());
                self.add(Topic { name, id: *id, partitions: *partitions, settings, states });
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
            MetaRecord::PartitionsAdded { id, partitions_total, placed } => {
                let before = self.known(*id)?.partitions;
                refuse_if(*partitions_total <= before, || format!("topic {id} has {before} partitions already"))?;
                let added = initial_states(*partitions_total - before, placed)?;
                let mut topic = self.remove(*id);
                topic.states.extend(added);
                self.add(Topic { partitions: *partitions_total, ..topic });
            }
            MetaRecord::PartitionChanged { topic, partition, state } => self.change(*topic, *partition, state)?,
            MetaRecord::TopicSettingsChanged { id, settings } => {
                self.known(*id)?;
                let topic = self.remove(*id);
                let keeps = bug::on(Bug::KeepOldSettings) && !topic.settings.is_empty();
                let settings = if keeps { topic.settings.clone() } else { settings.clone() };
                self.add(Topic { settings, ..topic });
            }
            MetaRecord::ProducerIdsTaken { next } => {
                let before = self.next_producer_id;
                refuse_if(*next <= before, || format!("producer ids below {before} are taken already"))?;
                self.next_producer_id = *next;
            }
            MetaRecord::ConfigChanged { resource, settings } => self.configure(resource, settings)?,
            MetaRecord::QuotaChanged { entity, values } => self.set_quotas(entity, values),
            MetaRecord::BrokerRegistered(broker) => {
                let before = self.brokers.get(&broker.id).map(|before| before.epoch);
                let id = broker.id;
                refuse_if(before >= Some(broker.epoch), || format!("broker {id} has registered with a later epoch"))?;
                self.broker_epoch = self.broker_epoch.max(broker.epoch);
                self.brokers.insert(id, broker.clone());
            }
            MetaRecord::BrokerFenced { id } => self.registered(*id)?.fenced = true,
            MetaRecord::BrokerUnfenced { id } => self.registered(*id)?.fenced = false,
            MetaRecord::BrokerShuttingDown { id } => self.registered(*id)?.shutting_down = true,
            MetaRecord::BrokerUnregistered { id } => {
                self.registered(*id)?;
                self.brokers.remove(id);
            }
            MetaRecord::BrokerEpochsTaken { last } => {
                let before = self.broker_epoch;
                refuse_if(*last <= before, || format!("broker epochs up to {before} are taken already"))?;
                self.broker_epoch = *last;
            }
            MetaRecord::VoteTaken { id } => drop(self.votes.insert(*id, VoteSaid::Taken)),
            MetaRecord::VoteGiven { id } => drop(self.votes.insert(*id, VoteSaid::Given)),
        }
        self.offset += 1;
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn with_offset(self, offset: u64) -> Image {
        Image { offset, ..self }
    }

    fn registered(&mut self, id: NodeId) -> Result<&mut Broker, ApplyError> {
        self.brokers.get_mut(&id).ok_or_else(|| ApplyError { message: format!("there is no broker {id}") })
    }

    fn change(&mut self, id: TopicId, partition: PartitionIndex, state: &PartitionState) -> Result<(), ApplyError> {
        self.known(id)?;
        let found = self.topics.get_mut(&id).and_then(|topic| topic.states.get_mut(usize::try_from(partition.0).ok()?));
        let Some(found) = found else {
            return Err(ApplyError { message: format!("topic {id} has no partition {partition}") });
        };
        let (before, after) = (found.partition_epoch(), state.partition_epoch());
        refuse_if(after <= before, || format!("partition {partition} of {id} is at epoch {before}, past {after}"))?;
        let (before, after) = (found.leader_epoch(), state.leader_epoch());
        refuse_if(after < before, || {
            format!("partition {partition} of {id} is at leader epoch {before}, not {after}")
        })?;
        self.topics_bytes -= state_bytes(found);
        self.topics_bytes += state_bytes(state);
        found.clone_from(state);
        Ok(())
    }

    fn configure(&mut self, resource: &ConfigResource, settings: &Overrides) -> Result<(), ApplyError> {
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
        Ok(())
    }

    fn set_quotas(&mut self, entity: &QuotaEntity, values: &QuotaValues) {
        if let Some(before) = self.quotas.remove(entity) {
            self.configs_bytes -= quota_bytes(entity, &before);
        }
        if !values.is_empty() {
            self.configs_bytes += quota_bytes(entity, values);
            self.quotas.insert(entity.clone(), values.clone());
        }
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
    pub fn state(&self, partition: PartitionIndex) -> Option<&PartitionState> {
        self.states.get(usize::try_from(partition.0).ok()?)
    }

    /// From partition 0 on.
    pub fn states(&self) -> impl Iterator<Item = (PartitionIndex, &PartitionState)> {
        (0..).map(PartitionIndex).zip(&self.states)
    }

    fn record_bytes(&self) -> usize {
        let states: usize = self.states.iter().map(state_bytes).sum();
        1 + 2 + self.name.len() + 16 + 4 + 4 + states + settings_bytes(&self.settings)
    }
}

fn initial_states(count: i32, placed: &[Vec<NodeId>]) -> Result<Vec<PartitionState>, ApplyError> {
    refuse_if(usize::try_from(count) != Ok(placed.len()), || {
        format!("{count} new partition(s), but {} are placed", placed.len())
    })?;
    let states = placed.iter().map(|replicas| PartitionState::initial(replicas));
    states.collect::<Result<_, _>>().map_err(|message| ApplyError { message: message.into() })
}

/// Of a partition within the records of its topic.
fn state_bytes(state: &PartitionState) -> usize {
    let changed = if state.is_initial() { 0 } else { 1 + 16 + 4 + state.encoded_bytes() };
    nodes_bytes(state.replicas()) + changed
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
    use super::super::partition_state::PartitionParts;
    use super::super::testing::{broker, nodes};
    use super::*;
    use crate::base::ids::{LeaderEpoch, PartitionEpoch};

    fn created(name: &str, id: u8, partitions: i32) -> MetaRecord {
        let settings = BTreeMap::from([("flush.messages".to_owned(), id.to_string())]);
        let placed = vec![nodes(&[1, 2]); partitions as usize];
        MetaRecord::TopicCreated { name: name.into(), id: TopicId([id; 16]), partitions, placed, settings }
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
            MetaRecord::PartitionsAdded { id: TopicId([1; 16]), partitions_total: 5, placed: vec![nodes(&[2]); 3] },
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

    /// On 1 and 2, led by 2.
    fn changed(topic: u8, partition: i32, leader_epoch: i32, partition_epoch: i32) -> MetaRecord {
        let state = PartitionState::new(&PartitionParts {
            replicas: nodes(&[1, 2]),
            isr: nodes(&[2]),
            leader: Some(NodeId(2)),
            leader_epoch: LeaderEpoch(leader_epoch),
            partition_epoch: PartitionEpoch(partition_epoch),
            ..PartitionParts::default()
        });
        let (topic, partition) = (TopicId([topic; 16]), PartitionIndex(partition));
        MetaRecord::PartitionChanged { topic, partition, state: state.expect("sound") }
    }

    #[test]
    fn partitions_and_brokers_are_as_the_last_record_said() {
        let image = after(&[
            created("a", 1, 2),
            MetaRecord::PartitionsAdded { id: TopicId([1; 16]), partitions_total: 3, placed: vec![nodes(&[2])] },
            changed(1, 1, 1, 1),
            changed(1, 1, 1, 4),
            MetaRecord::BrokerRegistered(broker(7, 3)),
            MetaRecord::BrokerUnfenced { id: NodeId(7) },
            MetaRecord::BrokerShuttingDown { id: NodeId(7) },
            MetaRecord::BrokerRegistered(broker(9, 5)),
            MetaRecord::BrokerUnregistered { id: NodeId(9) },
        ]);
        let leaders = image.states().map(|(topic, partition, state)| (&topic.name[..], partition.0, state.leader()));
        let wanted = [("a", 0, Some(NodeId(1))), ("a", 1, Some(NodeId(2))), ("a", 2, Some(NodeId(2)))];
        assert_eq!(leaders.collect::<Vec<_>>(), wanted);
        let state = image.partition(TopicId([1; 16]), PartitionIndex(1)).expect("there");
        assert_eq!((state.leader_epoch(), state.partition_epoch()), (LeaderEpoch(1), PartitionEpoch(4)));
        assert!(image.partition(TopicId([1; 16]), PartitionIndex(3)).is_none());
        let seven = image.broker(NodeId(7)).expect("there");
        assert!(!seven.fenced && seven.shutting_down && !seven.is_active());
        assert_eq!((image.brokers().count(), image.broker_epoch()), (1, BrokerEpoch(5)));
    }

    #[test]
    fn what_is_of_before_there_were_several_brokers_is_on_the_one_there_was() {
        let mut image = Image::default();
        let (id, settings) = (TopicId([1; 16]), BTreeMap::new());
        for record in [
            MetaRecord::TopicCreated { name: "t".into(), id, partitions: 2, placed: Vec::new(), settings },
            MetaRecord::PartitionsAdded { id, partitions_total: 5, placed: Vec::new() },
        ] {
            image.apply(&image.placed(record, NodeId(4))).expect("fits");
        }
        assert_eq!(image.states().filter(|(_, _, state)| state.replicas() == [NodeId(4)]).count(), 5);
        let record = created("a", 2, 3);
        assert_eq!(image.placed(record.clone(), NodeId(4)), record);
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
        let registered = MetaRecord::BrokerRegistered(broker(7, 3));
        let image = after(&[MetaRecord::ClusterCreated { cluster_id: "c".into() }, created("a", 1, 2), registered]);
        let id = TopicId([9; 16]);
        for record in [
            MetaRecord::ClusterCreated { cluster_id: "d".into() },
            created("a", 2, 1),
            created("b", 1, 1),
            created("c", 3, 0),
            MetaRecord::TopicDeleted { id },
            MetaRecord::PartitionsAdded { id, partitions_total: 3, placed: vec![nodes(&[1])] },
            MetaRecord::PartitionsAdded { id: TopicId([1; 16]), partitions_total: 2, placed: vec![] },
            MetaRecord::PartitionsAdded { id: TopicId([1; 16]), partitions_total: 3, placed: vec![] },
            MetaRecord::PartitionsAdded { id: TopicId([1; 16]), partitions_total: 3, placed: vec![vec![]] },
            changed(9, 0, 1, 1),
            changed(1, 2, 1, 1),
            changed(1, -1, 1, 1),
            changed(1, 0, 1, 0),
            MetaRecord::BrokerRegistered(broker(7, 3)),
            MetaRecord::BrokerFenced { id: NodeId(8) },
            MetaRecord::BrokerUnfenced { id: NodeId(8) },
            MetaRecord::BrokerShuttingDown { id: NodeId(8) },
            MetaRecord::BrokerUnregistered { id: NodeId(8) },
            MetaRecord::BrokerEpochsTaken { last: BrokerEpoch(3) },
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
