//! An image as records: all of it, and what leads from one to a later one.
//!
//! *Owns*: the order such records need. *Never*: changes an image. *Runs on*: core 0.

use super::broker::Broker;
use super::image::{Image, Topic};
use super::record::MetaRecord;
use super::voters::VoteSaid;
use crate::base::ids::PartitionIndex;
use crate::config::{ConfigResource, Overrides};

impl Image {
    /// The fewest records that make this image out of an empty one, but for `offset`.
    pub fn to_records(&self) -> Vec<MetaRecord> {
        Image::default().changes_to(self)
    }

    /// Records that make `to`, a later image of the same cluster, out of this one, but for `offset`. What happened in
    /// between and left no trace is not among them.
    pub fn changes_to(&self, to: &Image) -> Vec<MetaRecord> {
        let mut records = Vec::new();
        if self.cluster_id() != to.cluster_id() {
            records.push(MetaRecord::ClusterCreated { cluster_id: to.cluster_id().to_owned() });
        }
        if self.next_producer_id() != to.next_producer_id() {
            records.push(MetaRecord::ProducerIdsTaken { next: to.next_producer_id() });
        }
        self.broker_changes(to, &mut records);
        self.topic_changes(to, &mut records);
        self.settings_changes(to, &mut records);
        records
    }

    fn broker_changes(&self, to: &Image, records: &mut Vec<MetaRecord>) {
        let gone = self.brokers().filter(|broker| to.broker(broker.id).is_none());
        records.extend(gone.map(|broker| MetaRecord::BrokerUnregistered { id: broker.id }));
        let mut last = self.broker_epoch();
        for broker in to.brokers() {
            last = last.max(broker.epoch);
            match self.broker(broker.id) {
                Some(before) if before.epoch == broker.epoch => flag_changes(before, broker, records),
                _ => records.push(MetaRecord::BrokerRegistered(broker.clone())),
            }
        }
        if last < to.broker_epoch() {
            records.push(MetaRecord::BrokerEpochsTaken { last: to.broker_epoch() });
        }
        let said = to.votes().filter(|(id, said)| self.said_of_vote(*id) != Some(*said));
        records.extend(said.map(|(id, said)| match said {
            VoteSaid::Given => MetaRecord::VoteGiven { id },
            VoteSaid::Taken => MetaRecord::VoteTaken { id },
        }));
    }

    /// Deletions come first, since a later topic may have the name of a deleted one.
    fn topic_changes(&self, to: &Image, records: &mut Vec<MetaRecord>) {
        for topic in self.topics().filter(|topic| to.topic_by_id(topic.id).is_none()) {
            match to.deleting_by_id(topic.id) {
                Some(after) => {
                    topic.changes_to(after, records);
                    records.push(MetaRecord::TopicDeleted { id: topic.id });
                }
                None => records
                    .extend([MetaRecord::TopicDeleted { id: topic.id }, MetaRecord::TopicRemoved { id: topic.id }]),
            }
        }
        let removed = self.deleting().filter(|topic| to.deleting_by_id(topic.id).is_none());
        records.extend(removed.map(|topic| MetaRecord::TopicRemoved { id: topic.id }));
        let was_known = |topic: &&Topic| self.topic_by_id(topic.id).or_else(|| self.deleting_by_id(topic.id)).is_some();
        for topic in to.deleting().filter(|topic| !was_known(topic)) {
            topic.to_records(records);
            records.push(MetaRecord::TopicDeleted { id: topic.id });
        }
        for topic in to.topics_by_id() {
            match self.topic_by_id(topic.id) {
                Some(before) => before.changes_to(topic, records),
                None => topic.to_records(records),
            }
        }
    }

    fn settings_changes(&self, to: &Image, records: &mut Vec<MetaRecord>) {
        let set_back = self.configured().filter(|resource| to.overrides(resource).is_empty());
        let changed = to.configured().filter(|resource| self.overrides(resource) != to.overrides(resource));
        let record = |resource: &ConfigResource, settings: &Overrides| MetaRecord::ConfigChanged {
            resource: resource.clone(),
            settings: settings.clone(),
        };
        records.extend(set_back.map(|resource| record(resource, &Overrides::new())));
        records.extend(changed.map(|resource| record(resource, to.overrides(resource))));
        let none = Default::default();
        let set_back =
            self.quotas().filter(|(entity, _)| to.quotas_of(entity).is_none()).map(|(entity, _)| (entity, &none));
        let changed = to.quotas().filter(|(entity, values)| self.quotas_of(entity) != Some(values));
        records.extend(
            set_back
                .chain(changed)
                .map(|(entity, values)| MetaRecord::QuotaChanged { entity: entity.clone(), values: values.clone() }),
        );
    }
}

fn flag_changes(before: &Broker, after: &Broker, records: &mut Vec<MetaRecord>) {
    let id = after.id;
    if before.fenced != after.fenced {
        records.push(if after.fenced { MetaRecord::BrokerFenced { id } } else { MetaRecord::BrokerUnfenced { id } });
    }
    if before.shutting_down != after.shutting_down {
        // Only a registration ends it, and that has an epoch of its own.
        assert!(after.shutting_down, "a broker cannot take back that it goes");
        records.push(MetaRecord::BrokerShuttingDown { id });
    }
}

impl Topic {
    fn to_records(&self, records: &mut Vec<MetaRecord>) {
        records.push(MetaRecord::TopicCreated {
            name: self.name.clone(),
            id: self.id,
            partitions: self.partitions,
            placed: self.states().map(|(_, state)| state.replicas().to_vec()).collect(),
            settings: self.settings.clone(),
        });
        self.state_records(records, |_| false);
    }

    fn changes_to(&self, to: &Topic, records: &mut Vec<MetaRecord>) {
        let new = to.states().skip(self.states.len());
        if self.partitions != to.partitions {
            let placed = new.map(|(_, state)| state.replicas().to_vec()).collect();
            records.push(MetaRecord::PartitionsAdded { id: self.id, partitions_total: to.partitions, placed });
        }
        to.state_records(records, |partition| self.state(partition) == to.state(partition));
        if self.settings != to.settings {
            records.push(MetaRecord::TopicSettingsChanged { id: self.id, settings: to.settings.clone() });
        }
    }

    /// Of partitions that are not as they were made, but for those that need none.
    fn state_records(&self, records: &mut Vec<MetaRecord>, is_known: impl Fn(PartitionIndex) -> bool) {
        let changed = self.states().filter(|(partition, state)| !state.is_initial() && !is_known(*partition));
        records.extend(changed.map(|(partition, state)| MetaRecord::PartitionChanged {
            topic: self.id,
            partition,
            state: state.clone(),
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::super::partition_state::{PartitionParts, PartitionState};
    use super::super::quota::{EntityName, QuotaEntity, QuotaKey, QuotaValues};
    use super::super::testing::{broker, nodes};
    use super::*;
    use crate::base::ids::{LeaderEpoch, NodeId, PartitionEpoch, TopicId};
    use crate::base::rng::Rng;

    /// A record that may or may not fit an image.
    fn any_record(image: &Image, rng: &mut Rng) -> MetaRecord {
        let known: Vec<TopicId> = image.topics().chain(image.deleting()).map(|topic| topic.id).collect();
        let id = known.get(rng.below(known.len() as u64 + 1) as usize).copied().unwrap_or_default();
        let node = NodeId(rng.below(4) as i32);
        let settings = |rng: &mut Rng| match rng.below(3) {
            0 => Overrides::new(),
            value => Overrides::from([("flush.messages".to_owned(), value.to_string())]),
        };
        match rng.below(16) {
            0 => MetaRecord::ClusterCreated { cluster_id: "c".into() },
            1 | 2 => MetaRecord::TopicCreated {
                name: format!("t{}", rng.below(4)),
                id: TopicId([image.offset() as u8 + 1; 16]),
                partitions: 2,
                placed: vec![nodes(&[1, 2]), nodes(&[3])],
                settings: settings(rng),
            },
            3 => MetaRecord::TopicDeleted { id },
            4 => MetaRecord::TopicRemoved { id },
            5 => {
                let partitions_total = image.topic_by_id(id).map_or(1, |topic| topic.partitions + 1);
                MetaRecord::PartitionsAdded { id, partitions_total, placed: vec![nodes(&[2, 3])] }
            }
            6 | 7 => {
                let partition = PartitionIndex(rng.below(3) as i32);
                let epochs =
                    image.partition(id, partition).map_or((0, 0), |s| (s.leader_epoch().0, s.partition_epoch().0));
                let state = PartitionState::new(&PartitionParts {
                    replicas: nodes(&[rng.below(3) as i32, 3]),
                    isr: nodes(&[3]),
                    leader: (rng.below(2) == 0).then_some(NodeId(3)),
                    leader_epoch: LeaderEpoch(epochs.0 + rng.below(2) as i32),
                    partition_epoch: PartitionEpoch(epochs.1 + 1),
                    ..PartitionParts::default()
                });
                MetaRecord::PartitionChanged { topic: id, partition, state: state.expect("sound") }
            }
            8 => MetaRecord::BrokerRegistered(broker(node.0, image.broker_epoch().0 + 1)),
            9 => MetaRecord::BrokerUnfenced { id: node },
            10 => MetaRecord::BrokerShuttingDown { id: node },
            11 => MetaRecord::BrokerUnregistered { id: node },
            12 => MetaRecord::VoteTaken { id: node },
            13 => MetaRecord::VoteGiven { id: node },
            14 => MetaRecord::ConfigChanged { resource: ConfigResource::Broker(node.0), settings: settings(rng) },
            _ => {
                let user = Some(EntityName::Name(node.to_string()));
                let rate = QuotaValues::from([(QuotaKey::ConnectionCreationRate, rng.below(3))]);
                let values = if rng.below(3) == 0 { QuotaValues::new() } else { rate };
                MetaRecord::QuotaChanged { entity: QuotaEntity { user, ..QuotaEntity::default() }, values }
            }
        }
    }

    fn grow(image: &mut Image, rng: &mut Rng) {
        for _ in 0..rng.below(40) {
            let record = any_record(image, rng);
            // What does not fit changes nothing.
            let _ = image.apply(&record);
        }
    }

    fn apply(mut image: Image, records: &[MetaRecord]) -> Image {
        records.iter().for_each(|record| image.apply(record).expect("fits"));
        image
    }

    #[test]
    fn an_image_is_what_its_records_say() {
        for seed in 0..300 {
            let mut rng = Rng::new(seed);
            let mut before = Image::default();
            grow(&mut before, &mut rng);
            let mut after = before.clone();
            grow(&mut after, &mut rng);
            for image in [&before, &after] {
                assert_same(&apply(Image::default(), &image.to_records()), image, seed);
            }
            assert_same(&apply(before.clone(), &before.changes_to(&after)), &after, seed);
            assert_eq!(after.changes_to(&after), [], "seed {seed}");
        }
    }

    fn assert_same(got: &Image, wanted: &Image, seed: u64) {
        assert_eq!(got.clone().with_offset(0), wanted.clone().with_offset(0), "seed {seed}");
    }

    #[test]
    fn the_size_of_a_snapshot_is_known() {
        for seed in 0..50 {
            let mut image = Image::default();
            grow(&mut image, &mut Rng::new(seed));
            let mut bytes = Vec::new();
            image.topics().for_each(|topic| {
                let mut records = Vec::new();
                topic.to_records(&mut records);
                records.iter().for_each(|record| record.encode(&mut bytes));
            });
            assert_eq!(image.topics_bytes(), bytes.len());
            let of_settings = |record: &&MetaRecord| matches!(record, MetaRecord::ConfigChanged { .. });
            bytes.clear();
            image.to_records().iter().filter(of_settings).for_each(|record| record.encode(&mut bytes));
            assert!(image.configs_bytes() >= bytes.len());
        }
    }
}
