//! What may become of topics: requests to change them, checked and turned into records.
//!
//! Rules and codes are those of Kafka's `ReplicationControlManager`, for a cluster of one broker.
//!
//! *Owns*: the rules. *Never*: changes the image; the records do, once they are durable. *Runs on*: core 0.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use super::image::{Image, Topic};
use super::record::MetaRecord;
use crate::base::ids::{BrokerId, TopicId, short_uuid};
use crate::base::limits::{
    META_TOPICS_BYTES_MAX, PARTITIONS_MAX, PARTITIONS_PER_TOPIC_MAX, PRODUCER_ID_BLOCK, SETTING_BYTES_MAX,
    TOPIC_NAME_BYTES_MAX,
};
use crate::base::names::CONSUMER_OFFSETS;
use crate::base::rng::Rng;
use crate::config::{Settings, TopicSettings};
use crate::wire::errors::ErrorCode;

/// A topic somebody wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewTopic {
    pub name: String,
    /// −1: as the broker is set.
    pub partitions: i32,
    /// −1: as the broker is set.
    pub replication_factor: i16,
    /// Partition index and its brokers, when the client says where; `partitions` and `replication_factor` are −1
    /// then.
    pub assignments: Vec<(i32, Vec<BrokerId>)>,
    /// By topic-level name.
    pub settings: Vec<(String, Option<String>)>,
}

/// A request that is refused. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MetaError {
    pub code: ErrorCode,
    /// For the client: what is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for MetaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for MetaError {}

pub(super) fn refuse<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, MetaError> {
    Err(MetaError { code, message: message.into() })
}

/// Checks a data directory's cluster against the settings; an empty one gets its id now.
pub fn plan_cluster(image: &Image, settings: &Settings, rng: &mut Rng) -> Result<Vec<MetaRecord>, MetaError> {
    let wanted = &settings.cluster_id;
    let known = image.cluster_id();
    if known.is_empty() {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if wanted.len() > TOPIC_NAME_BYTES_MAX || !wanted.chars().all(allowed) {
            return refuse(
                ErrorCode::InvalidConfig,
                format!("cluster.id must be at most {TOPIC_NAME_BYTES_MAX} of a-z, A-Z, 0-9, `.`, `_` and `-`"),
            );
        }
        let cluster_id = if wanted.is_empty() { short_uuid(TopicId::random(rng).0) } else { wanted.clone() };
        return Ok(vec![MetaRecord::ClusterCreated { cluster_id }]);
    }
    if !wanted.is_empty() && wanted != known {
        return refuse(
            ErrorCode::InconsistentClusterId,
            format!("cluster.id is {wanted}, but data.dir holds cluster {known}: change one of the two"),
        );
    }
    Ok(Vec::new())
}

/// Checks a new topic as `ReplicationControlManager.createTopics` does. `brokers` are the ids the client knows this
/// process by. The one record is [`MetaRecord::TopicCreated`], with the defaults filled in.
pub fn plan_create_topic(
    image: &Image,
    topic: &NewTopic,
    brokers: &[BrokerId],
    settings: &Settings,
    rng: &mut Rng,
) -> Result<Vec<MetaRecord>, MetaError> {
    check_name(&topic.name)?;
    if image.topic(&topic.name).is_some() {
        return refuse(ErrorCode::TopicAlreadyExists, format!("Topic '{}' already exists.", topic.name));
    }
    if let Some(other) = image.colliding_topic(&topic.name) {
        let message = format!("Topic '{}' collides with '{other}': in metric names '.' and '_' are one.", topic.name);
        return refuse(ErrorCode::InvalidTopicException, message);
    }
    let overrides = check_settings(&topic.settings, settings)?;
    let partitions =
        if topic.assignments.is_empty() { check_counts(topic, settings)? } else { check_manual(topic, brokers)? };
    check_partitions(image, partitions, partitions)?;
    if image.topics_bytes() > META_TOPICS_BYTES_MAX {
        return refuse(ErrorCode::PolicyViolation, "The metadata is full: delete topics first.");
    }
    let id = loop {
        let id = TopicId::random(rng);
        if image.topic_by_id(id).is_none() {
            break id;
        }
    };
    Ok(vec![MetaRecord::TopicCreated { name: topic.name.clone(), id, partitions, settings: overrides }])
}

/// Checks the deletion of a topic that was found in the image.
pub fn plan_delete_topic(topic: &Topic, settings: &Settings) -> Result<Vec<MetaRecord>, MetaError> {
    if !settings.delete_topic_enable {
        return refuse(ErrorCode::TopicDeletionDisabled, "Deleting topics is switched off (delete.topic.enable).");
    }
    Ok(vec![MetaRecord::TopicDeleted { id: topic.id }])
}

/// Checks the growth of a topic to `count` partitions, as `ReplicationControlManager.createPartitions` does.
/// `assignments` are the brokers of each new partition, when the client says where.
pub fn plan_add_partitions(
    image: &Image,
    name: &str,
    count: i32,
    assignments: Option<&[Vec<BrokerId>]>,
    brokers: &[BrokerId],
) -> Result<Vec<MetaRecord>, MetaError> {
    let Some(topic) = image.topic(name) else {
        return refuse(ErrorCode::UnknownTopicOrPartition, format!("There is no topic '{name}'."));
    };
    if name == CONSUMER_OFFSETS {
        let message = format!("The partitions of '{name}' say where each group is kept: they cannot change.");
        return refuse(ErrorCode::InvalidRequest, message);
    }
    let before = topic.partitions;
    if count == before {
        return refuse(ErrorCode::InvalidPartitions, format!("Topic '{name}' already has {before} partition(s)."));
    }
    if count < before {
        let message = format!("Topic '{name}' has {before} partition(s); {count} would not be an increase.");
        return refuse(ErrorCode::InvalidPartitions, message);
    }
    let added = count - before;
    if let Some(assignments) = assignments {
        if assignments.len() != added as usize {
            let message = format!("{added} partition(s) would be added, but {} were assigned.", assignments.len());
            return refuse(ErrorCode::InvalidReplicaAssignment, message);
        }
        for (index, replicas) in assignments.iter().enumerate() {
            check_replicas(i64::from(before) + index as i64, replicas, brokers)?;
        }
    }
    check_partitions(image, count, added)?;
    Ok(vec![MetaRecord::PartitionsAdded { id: topic.id, partitions_total: count }])
}

/// Takes the next block of producer ids. They may be given out once the record is durable.
pub fn plan_producer_ids(image: &Image) -> (Range<i64>, Vec<MetaRecord>) {
    let first = image.next_producer_id();
    let next = first.checked_add(PRODUCER_ID_BLOCK).expect("63 bits of producer ids are not used up");
    (first..next, vec![MetaRecord::ProducerIdsTaken { next }])
}

/// Kafka's `Topic.validate`.
pub fn check_name(name: &str) -> Result<(), MetaError> {
    let wrong = |why: String| refuse(ErrorCode::InvalidTopicException, format!("Topic name is invalid: {why}"));
    if name.is_empty() {
        return wrong("it is empty.".into());
    }
    if name == "." || name == ".." {
        return wrong("it cannot be '.' or '..'.".into());
    }
    if name.len() > TOPIC_NAME_BYTES_MAX {
        return wrong(format!("it has {} characters, more than {TOPIC_NAME_BYTES_MAX}.", name.len()));
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        return wrong(format!("'{name}' has characters other than a-z, A-Z, 0-9, '.', '_' and '-'."));
    }
    Ok(())
}

fn check_settings(
    given: &[(String, Option<String>)],
    settings: &Settings,
) -> Result<BTreeMap<String, String>, MetaError> {
    let mut overrides = BTreeMap::new();
    for (name, value) in given {
        let Some(value) = value else {
            return refuse(ErrorCode::InvalidConfig, format!("{name} has no value."));
        };
        if value.len() > SETTING_BYTES_MAX {
            return refuse(ErrorCode::InvalidConfig, format!("{name} is longer than {SETTING_BYTES_MAX} bytes."));
        }
        overrides.insert(name.clone(), value.trim().to_owned());
    }
    match TopicSettings::resolve(settings, &overrides) {
        Ok(_) => Ok(overrides),
        Err(error) => refuse(ErrorCode::InvalidConfig, error.to_string()),
    }
}

/// The partition count of a topic that is placed by the broker.
fn check_counts(topic: &NewTopic, settings: &Settings) -> Result<i32, MetaError> {
    match topic.replication_factor {
        -1 | 1 => {}
        ..=0 => {
            let message = "Replication factor must be larger than 0, or -1 for the broker's default.";
            return refuse(ErrorCode::InvalidReplicationFactor, message);
        }
        more => {
            let message = format!("Replication factor {more} cannot be reached: there is 1 broker. Use 1 or -1.");
            return refuse(ErrorCode::InvalidReplicationFactor, message);
        }
    }
    match topic.partitions {
        -1 => Ok(settings.num_partitions),
        ..=0 => {
            let message = "The number of partitions must be larger than 0, or -1 for the broker's default.";
            refuse(ErrorCode::InvalidPartitions, message)
        }
        count => Ok(count),
    }
}

/// The partition count of a topic that is placed by the client.
fn check_manual(topic: &NewTopic, brokers: &[BrokerId]) -> Result<i32, MetaError> {
    if topic.replication_factor != -1 {
        let message = "With a manual assignment the replication factor must be -1.";
        return refuse(ErrorCode::InvalidRequest, message);
    }
    if topic.partitions != -1 {
        let message = "With a manual assignment the number of partitions must be -1.";
        return refuse(ErrorCode::InvalidRequest, message);
    }
    let mut placed: Vec<&(i32, Vec<BrokerId>)> = topic.assignments.iter().collect();
    placed.sort_by_key(|(partition, _)| *partition);
    for (index, (partition, replicas)) in placed.iter().enumerate() {
        if i64::from(*partition) != index as i64 {
            let message = "Manually assigned partitions must be 0, 1, 2 and so on, each once.";
            return refuse(ErrorCode::InvalidReplicaAssignment, message);
        }
        check_replicas(i64::from(*partition), replicas, brokers)?;
    }
    i32::try_from(placed.len())
        .or_else(|_| refuse(ErrorCode::InvalidPartitions, "There are more partitions than a topic may have."))
}

fn check_replicas(partition: i64, replicas: &[BrokerId], brokers: &[BrokerId]) -> Result<(), MetaError> {
    match replicas {
        [replica] if brokers.contains(replica) => Ok(()),
        [] => refuse(ErrorCode::InvalidReplicaAssignment, format!("Partition {partition} is assigned to no broker.")),
        [replica] => {
            let message = format!("Partition {partition} is assigned to broker {replica}, which is not there.");
            refuse(ErrorCode::InvalidReplicaAssignment, message)
        }
        more => {
            let message = format!("Partition {partition} is assigned to {} brokers; there is 1.", more.len());
            refuse(ErrorCode::InvalidReplicaAssignment, message)
        }
    }
}

fn check_partitions(image: &Image, of_topic: i32, added: i32) -> Result<(), MetaError> {
    if of_topic > PARTITIONS_PER_TOPIC_MAX {
        let message = format!("A topic may have {PARTITIONS_PER_TOPIC_MAX} partitions, not {of_topic}.");
        return refuse(ErrorCode::InvalidPartitions, message);
    }
    if image.partitions_count() + added as usize > PARTITIONS_MAX {
        let message = format!(
            "A broker may have {PARTITIONS_MAX} partitions; this one has {}, and {added} would be added.",
            image.partitions_count()
        );
        return refuse(ErrorCode::PolicyViolation, message);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROKERS: &[BrokerId] = &[BrokerId(1)];

    fn topic(name: &str) -> NewTopic {
        let (assignments, settings) = (Vec::new(), Vec::new());
        NewTopic { name: name.into(), partitions: -1, replication_factor: -1, assignments, settings }
    }

    /// Holds `taken.name` with 2 partitions.
    fn image() -> Image {
        let mut image = Image::default();
        let id = TopicId([1; 16]);
        let record =
            MetaRecord::TopicCreated { name: "taken.name".into(), id, partitions: 2, settings: BTreeMap::new() };
        image.apply(&record).expect("fits");
        image
    }

    fn check(result: Result<Vec<MetaRecord>, MetaError>, expect: Result<(), (ErrorCode, &str)>) {
        match (result, expect) {
            (Ok(records), Ok(())) => {
                let mut image = image();
                records.iter().for_each(|record| image.apply(record).expect("a plan fits"));
            }
            (Err(error), Err((code, part))) => {
                assert_eq!(error.code, code, "{error}");
                assert!(error.message.contains(part), "{error}");
            }
            (got, expect) => panic!("{got:?}, not {expect:?}"),
        }
    }

    #[test]
    fn topics_are_created_or_refused_as_in_kafka() {
        let settings = Settings { num_partitions: 4, ..Settings::default() };
        let check = |topic: NewTopic, expect| {
            check(plan_create_topic(&image(), &topic, BROKERS, &settings, &mut Rng::new(1)), expect);
        };
        let setting = |name: &str, value: Option<&str>| NewTopic {
            settings: vec![(name.into(), value.map(Into::into))],
            ..topic("t")
        };
        let placed = |rows: &[(i32, &[i32])]| NewTopic {
            assignments: rows.iter().map(|(p, ids)| (*p, ids.iter().map(|id| BrokerId(*id)).collect())).collect(),
            ..topic("t")
        };
        use ErrorCode::{
            InvalidConfig, InvalidPartitions, InvalidReplicaAssignment, InvalidReplicationFactor, InvalidRequest,
            InvalidTopicException, PolicyViolation, TopicAlreadyExists,
        };
        check(topic("t"), Ok(()));
        check(topic(&"x".repeat(249)), Ok(()));
        check(topic(&"x".repeat(250)), Err((InvalidTopicException, "more than 249")));
        check(topic(""), Err((InvalidTopicException, "empty")));
        check(topic(".."), Err((InvalidTopicException, "'.'")));
        check(topic("a/b"), Err((InvalidTopicException, "characters other")));
        check(topic("größe"), Err((InvalidTopicException, "characters other")));
        check(topic("taken.name"), Err((TopicAlreadyExists, "already exists")));
        check(topic("taken_name"), Err((InvalidTopicException, "collides with 'taken.name'")));
        check(topic("taken-name"), Ok(()));
        check(setting("flush.messages", Some("1")), Ok(()));
        check(setting("flush.message", Some("1")), Err((InvalidConfig, "did you mean `flush.messages`")));
        check(setting("flush.messages", Some("0")), Err((InvalidConfig, "must be 1 or more")));
        check(setting("flush.messages", None), Err((InvalidConfig, "no value")));
        check(setting("cleanup.policy", Some(&"delete,".repeat(200))), Err((InvalidConfig, "longer than")));
        check(NewTopic { replication_factor: 1, partitions: 9, ..topic("t") }, Ok(()));
        check(NewTopic { replication_factor: 0, ..topic("t") }, Err((InvalidReplicationFactor, "larger than 0")));
        check(NewTopic { replication_factor: 3, ..topic("t") }, Err((InvalidReplicationFactor, "1 broker")));
        check(NewTopic { partitions: 0, ..topic("t") }, Err((InvalidPartitions, "larger than 0")));
        check(NewTopic { partitions: -2, ..topic("t") }, Err((InvalidPartitions, "larger than 0")));
        check(NewTopic { partitions: i32::MAX, ..topic("t") }, Err((InvalidPartitions, "may have 10000")));
        check(placed(&[(1, &[1]), (0, &[1])]), Ok(()));
        check(placed(&[(1, &[1])]), Err((InvalidReplicaAssignment, "0, 1, 2")));
        check(placed(&[(0, &[1]), (0, &[1])]), Err((InvalidReplicaAssignment, "each once")));
        check(placed(&[(0, &[])]), Err((InvalidReplicaAssignment, "no broker")));
        check(placed(&[(0, &[2])]), Err((InvalidReplicaAssignment, "broker 2")));
        check(placed(&[(0, &[1, 2])]), Err((InvalidReplicaAssignment, "2 brokers")));
        check(NewTopic { partitions: 1, ..placed(&[(0, &[1])]) }, Err((InvalidRequest, "partitions must be -1")));
        check(NewTopic { replication_factor: 1, ..placed(&[(0, &[1])]) }, Err((InvalidRequest, "factor must be -1")));

        let mut full = image();
        for count in 2..=11 {
            let partitions = if count == 11 { 9_998 } else { 10_000 };
            let id = TopicId([count; 16]);
            let name = count.to_string();
            full.apply(&MetaRecord::TopicCreated { name, id, partitions, settings: BTreeMap::new() }).expect("fits");
        }
        let result = plan_create_topic(&full, &topic("t"), BROKERS, &settings, &mut Rng::new(1));
        super::tests::check(result, Err((PolicyViolation, "this one has 100000")));
    }

    #[test]
    fn defaults_are_filled_in_and_ids_are_new() {
        let settings = Settings { num_partitions: 4, ..Settings::default() };
        let mut rng = Rng::new(1);
        let plan = |image: &Image, rng: &mut Rng| {
            let records = plan_create_topic(image, &topic("t"), BROKERS, &settings, rng).expect("allowed");
            let [MetaRecord::TopicCreated { id, partitions: 4, .. }] = records[..] else { panic!("{records:?}") };
            id
        };
        let first = plan(&image(), &mut rng.clone());
        let mut taken = image();
        let settings = BTreeMap::new();
        let record = MetaRecord::TopicCreated { name: "other".into(), id: first, partitions: 1, settings };
        taken.apply(&record).expect("fits");
        assert_ne!(plan(&taken, &mut rng), first);
    }

    #[test]
    fn partitions_are_added_or_refused_as_in_kafka() {
        let check = |name: &str, count: i32, placed: Option<&[&[i32]]>, expect| {
            let placed: Option<Vec<Vec<BrokerId>>> =
                placed.map(|rows| rows.iter().map(|ids| ids.iter().map(|id| BrokerId(*id)).collect()).collect());
            check(plan_add_partitions(&image(), name, count, placed.as_deref(), BROKERS), expect);
        };
        use ErrorCode::{InvalidPartitions, InvalidReplicaAssignment, UnknownTopicOrPartition};
        check("taken.name", 3, None, Ok(()));
        check("taken.name", 4, Some(&[&[1], &[1]]), Ok(()));
        check("other", 3, None, Err((UnknownTopicOrPartition, "no topic")));
        check("taken.name", 2, None, Err((InvalidPartitions, "already has 2")));
        check("taken.name", i32::MIN, None, Err((InvalidPartitions, "not be an increase")));
        check("taken.name", 10_001, None, Err((InvalidPartitions, "may have 10000")));
        check("taken.name", i32::MAX, None, Err((InvalidPartitions, "may have 10000")));
        check("taken.name", 4, Some(&[&[1]]), Err((InvalidReplicaAssignment, "1 were assigned")));
        check("taken.name", 3, Some(&[&[7]]), Err((InvalidReplicaAssignment, "Partition 2 is assigned to broker 7")));
    }

    #[test]
    fn topics_are_deleted_unless_that_is_switched_off() {
        let image = image();
        let topic = image.topic("taken.name").expect("there");
        check(plan_delete_topic(topic, &Settings::default()), Ok(()));
        let off = Settings { delete_topic_enable: false, ..Settings::default() };
        check(plan_delete_topic(topic, &off), Err((ErrorCode::TopicDeletionDisabled, "delete.topic.enable")));
    }

    #[test]
    fn producer_ids_never_repeat() {
        let mut image = image();
        let mut end = 0;
        for _ in 0..3 {
            let (range, records) = plan_producer_ids(&image);
            assert_eq!(range, end..end + PRODUCER_ID_BLOCK);
            end = range.end;
            records.iter().for_each(|record| image.apply(record).expect("fits"));
        }
    }

    #[test]
    fn a_cluster_keeps_its_id() {
        let with = |id: &str| Settings { cluster_id: id.into(), ..Settings::default() };
        let plan = |image: &Image, settings| plan_cluster(image, &settings, &mut Rng::new(1));
        check(plan(&image(), with("mine")), Ok(()));
        check(plan(&image(), with("a b")), Err((ErrorCode::InvalidConfig, "cluster.id must be")));
        let mut created = Image::default();
        let records = plan(&created, with("")).expect("made");
        let [MetaRecord::ClusterCreated { cluster_id }] = &records[..] else { panic!("{records:?}") };
        assert_eq!(cluster_id.len(), 22);
        created.apply(&records[0]).expect("fits");
        assert_eq!(plan(&created, with("")), Ok(Vec::new()));
        assert_eq!(plan(&created, with(cluster_id)), Ok(Vec::new()));
        check(plan(&created, with("other")), Err((ErrorCode::InconsistentClusterId, "change one of the two")));
    }
}
