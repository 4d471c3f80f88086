//! What may become of topics: requests to change them, checked and turned into records.
//!
//! Rules and codes are those of Kafka's `ReplicationControlManager`.
//!
//! *Owns*: the rules. *Never*: changes the image; the records do, once they are durable. *Runs on*: core 0.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use super::fleet::Fleet;
use super::image::{Image, Topic};
use super::partition_state::{PartitionParts, PartitionState};
use super::placement::{Load, place};
use super::record::MetaRecord;
use crate::base::ids::{NodeId, PartitionEpoch, PartitionIndex, TopicId, short_uuid};
use crate::base::limits::{
    META_TOPICS_BYTES_MAX, PARTITIONS_MAX, PARTITIONS_PER_TOPIC_MAX, PRODUCER_ID_BLOCK, REPLICATION_FACTOR_MAX,
    SETTING_BYTES_MAX, TOPIC_NAME_BYTES_MAX,
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
    pub assignments: Vec<(i32, Vec<NodeId>)>,
    /// By topic-level name.
    pub settings: Vec<(String, Option<String>)>,
    /// The id it is to have, where whoever asks may ask again without knowing what became of it.
    pub id: Option<TopicId>,
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

/// Checks a new topic as `ReplicationControlManager.createTopics` does, and places it. The first record is
/// [`MetaRecord::TopicCreated`], with the defaults filled in. No records: there is the very topic already.
pub fn plan_create_topic(
    fleet: Fleet<'_>,
    topic: &NewTopic,
    settings: &Settings,
    rng: &mut Rng,
) -> Result<Vec<MetaRecord>, MetaError> {
    let image = fleet.image;
    check_name(&topic.name)?;
    match image.topic(&topic.name) {
        None => {}
        Some(known) if topic.id == Some(known.id) => return Ok(Vec::new()),
        Some(_) => {
            return refuse(ErrorCode::TopicAlreadyExists, format!("Topic '{}' already exists.", topic.name));
        }
    }
    if let Some(other) = image.colliding_topic(&topic.name) {
        let message = format!("Topic '{}' collides with '{other}': in metric names '.' and '_' are one.", topic.name);
        return refuse(ErrorCode::InvalidTopicException, message);
    }
    let overrides = check_settings(&topic.settings, settings)?;
    let placed = if topic.assignments.is_empty() {
        let (partitions, copies) = check_counts(fleet, topic, settings)?;
        check_partitions(image, partitions, partitions)?;
        place_all(fleet, partitions, copies, rng)
    } else {
        let placed = check_manual(fleet, topic)?;
        let partitions = i32::try_from(placed.len()).unwrap_or(i32::MAX);
        check_partitions(image, partitions, partitions)?;
        placed
    };
    if image.topics_bytes() > META_TOPICS_BYTES_MAX {
        return refuse(ErrorCode::PolicyViolation, "The metadata is full: delete topics first.");
    }
    let is_free = |id: &TopicId| image.topic_by_id(*id).is_none() && image.deleting_by_id(*id).is_none();
    let mut id = topic.id.filter(is_free).unwrap_or_else(|| TopicId::random(rng));
    while !is_free(&id) {
        id = TopicId::random(rng);
    }
    let without = without_inactive(fleet, id, 0, &placed);
    let (name, partitions) = (topic.name.clone(), placed.len() as i32);
    let mut records = vec![MetaRecord::TopicCreated { name, id, partitions, placed, settings: overrides }];
    records.extend(without);
    Ok(records)
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
    fleet: Fleet<'_>,
    name: &str,
    count: i32,
    assignments: Option<&[Vec<NodeId>]>,
    rng: &mut Rng,
) -> Result<Vec<MetaRecord>, MetaError> {
    let image = fleet.image;
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
    let copies = topic.states().next().map_or(1, |(_, first)| first.replicas().len() - first.adding().count());
    if let Some(assignments) = assignments {
        if assignments.len() != added as usize {
            let message = format!("{added} partition(s) would be added, but {} were assigned.", assignments.len());
            return refuse(ErrorCode::InvalidReplicaAssignment, message);
        }
        for (index, replicas) in assignments.iter().enumerate() {
            check_replicas(fleet, i64::from(before) + index as i64, replicas, Some(copies))?;
        }
    }
    check_partitions(image, count, added)?;
    let placed = match assignments {
        Some(assignments) => assignments.to_vec(),
        None => {
            check_copies(fleet, copies)?;
            place_all(fleet, added, copies, rng)
        }
    };
    let without = without_inactive(fleet, topic.id, before, &placed);
    let mut records = vec![MetaRecord::PartitionsAdded { id: topic.id, partitions_total: count, placed }];
    records.extend(without);
    Ok(records)
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

/// Partitions and replicas of each, of a topic that is placed by the broker.
fn check_counts(fleet: Fleet<'_>, topic: &NewTopic, settings: &Settings) -> Result<(i32, usize), MetaError> {
    let copies = match topic.replication_factor {
        -1 => settings.default_replication_factor,
        ..=0 => {
            let message = "Replication factor must be larger than 0, or -1 for the broker's default.";
            return refuse(ErrorCode::InvalidReplicationFactor, message);
        }
        more => more,
    };
    let copies = usize::try_from(copies).unwrap_or(usize::MAX);
    check_copies(fleet, copies)?;
    match topic.partitions {
        -1 => Ok((settings.num_partitions, copies)),
        ..=0 => {
            let message = "The number of partitions must be larger than 0, or -1 for the broker's default.";
            refuse(ErrorCode::InvalidPartitions, message)
        }
        count => Ok((count, copies)),
    }
}

fn check_copies(fleet: Fleet<'_>, copies: usize) -> Result<(), MetaError> {
    let usable = fleet.usable();
    if copies > usable.len() || copies > REPLICATION_FACTOR_MAX {
        let message = match usable.len() {
            1 => format!("Replication factor {copies} cannot be reached: there is 1 broker. Use 1 or -1."),
            many => {
                let most = many.min(REPLICATION_FACTOR_MAX);
                format!("Replication factor {copies} cannot be reached: there are {many} brokers. Use up to {most}.")
            }
        };
        return refuse(ErrorCode::InvalidReplicationFactor, message);
    }
    if usable.iter().all(|broker| broker.fenced) {
        return refuse(ErrorCode::InvalidReplicationFactor, "All brokers are fenced: none could lead the partitions.");
    }
    Ok(())
}

fn place_all(fleet: Fleet<'_>, partitions: i32, copies: usize, rng: &mut Rng) -> Vec<Vec<NodeId>> {
    let (usable, mut load) = (fleet.usable(), Load::of(fleet));
    (0..partitions).map(|_| place(&usable, copies, &mut load, rng)).collect()
}

/// Where the partitions of a topic that is placed by the client are.
fn check_manual(fleet: Fleet<'_>, topic: &NewTopic) -> Result<Vec<Vec<NodeId>>, MetaError> {
    if topic.replication_factor != -1 {
        let message = "With a manual assignment the replication factor must be -1.";
        return refuse(ErrorCode::InvalidRequest, message);
    }
    if topic.partitions != -1 {
        let message = "With a manual assignment the number of partitions must be -1.";
        return refuse(ErrorCode::InvalidRequest, message);
    }
    let mut placed: Vec<&(i32, Vec<NodeId>)> = topic.assignments.iter().collect();
    placed.sort_by_key(|(partition, _)| *partition);
    let mut copies = None;
    for (index, (partition, replicas)) in placed.iter().enumerate() {
        if i64::from(*partition) != index as i64 {
            let message = "Manually assigned partitions must be 0, 1, 2 and so on, each once.";
            return refuse(ErrorCode::InvalidReplicaAssignment, message);
        }
        check_replicas(fleet, i64::from(*partition), replicas, copies)?;
        copies = Some(replicas.len());
    }
    Ok(placed.into_iter().map(|(_, replicas)| replicas.clone()).collect())
}

/// As `validateManualPartitionAssignment`, and that somebody could lead. `copies` is how many the topic's other
/// partitions have.
fn check_replicas(
    fleet: Fleet<'_>,
    partition: i64,
    replicas: &[NodeId],
    copies: Option<usize>,
) -> Result<(), MetaError> {
    check_nodes(fleet, &format!("Partition {partition}"), replicas)?;
    let wrong = |what: String| {
        refuse(ErrorCode::InvalidReplicaAssignment, format!("Partition {partition} is assigned to {what}"))
    };
    match copies {
        Some(copies) if copies != replicas.len() => {
            wrong(format!("{} broker(s), and other partitions of the topic to {copies}.", replicas.len()))
        }
        _ if !replicas.iter().any(|node| fleet.is_active(*node)) => {
            wrong("brokers that are all fenced or shutting down.".into())
        }
        _ => Ok(()),
    }
}

/// Checks the brokers that somebody wants a partition to be on.
pub(super) fn check_nodes(fleet: Fleet<'_>, what: &str, replicas: &[NodeId]) -> Result<(), MetaError> {
    let wrong =
        |message: String| refuse(ErrorCode::InvalidReplicaAssignment, format!("{what} is assigned to {message}"));
    if replicas.is_empty() {
        return wrong("no broker.".into());
    }
    if replicas.len() > REPLICATION_FACTOR_MAX {
        return wrong(format!("{} brokers, more than {REPLICATION_FACTOR_MAX}.", replicas.len()));
    }
    for (position, node) in replicas.iter().enumerate() {
        if !fleet.is_registered(*node) {
            return wrong(format!("broker {node}, which is not there."));
        }
        if replicas[..position].contains(node) {
            return wrong(format!("broker {node} more than once."));
        }
    }
    Ok(())
}

/// What must be said of new partitions with replicas on brokers that are not active: those are in no ISR.
fn without_inactive(fleet: Fleet<'_>, topic: TopicId, first: i32, placed: &[Vec<NodeId>]) -> Vec<MetaRecord> {
    let changed = |(index, replicas): (i32, &Vec<NodeId>)| {
        let isr: Vec<NodeId> = replicas.iter().copied().filter(|node| fleet.is_active(*node)).collect();
        if isr.len() == replicas.len() {
            return None;
        }
        let (replicas, leader, partition_epoch) = (replicas.clone(), isr.first().copied(), PartitionEpoch(1));
        let parts = PartitionParts { replicas, isr, leader, partition_epoch, ..PartitionParts::default() };
        let state = PartitionState::new(&parts).expect("the placement was checked, and has somebody active");
        Some(MetaRecord::PartitionChanged { topic, partition: PartitionIndex(index), state })
    };
    (first..).zip(placed).filter_map(changed).collect()
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
    use super::super::broker::Broker;
    use super::super::testing::{broker, nodes};
    use super::*;

    const ME: NodeId = NodeId(1);

    fn topic(name: &str) -> NewTopic {
        let (assignments, settings) = (Vec::new(), Vec::new());
        NewTopic { name: name.into(), partitions: -1, replication_factor: -1, assignments, settings, id: None }
    }

    fn created(name: &str, id: u8, partitions: i32) -> MetaRecord {
        let placed = vec![vec![ME]; partitions as usize];
        let (name, id, settings) = (name.into(), TopicId([id; 16]), BTreeMap::new());
        MetaRecord::TopicCreated { name, id, partitions, placed, settings }
    }

    /// Holds `taken.name` with 2 partitions.
    fn image() -> Image {
        let mut image = Image::default();
        image.apply(&created("taken.name", 1, 2)).expect("fits");
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
    fn who_asks_again_for_a_topic_of_its_own_gets_the_one_it_has_made() {
        let (settings, mut rng) = (Settings::default(), Rng::new(1));
        let mut image = Image::default();
        let mut plan = |image: &Image, id: u8| {
            let topic = NewTopic { id: Some(TopicId([id; 16])), ..topic("t") };
            plan_create_topic(Fleet::of(image, NodeId(1)), &topic, &settings, &mut rng).map_err(|error| error.code)
        };
        let id_of = |records: &[MetaRecord]| match records {
            [MetaRecord::TopicCreated { id, .. }] => *id,
            other => panic!("{other:?}"),
        };
        let first = plan(&image, 7).expect("allowed");
        assert_eq!(id_of(&first), TopicId([7; 16]));
        first.iter().for_each(|record| image.apply(record).expect("fits"));
        assert_eq!(plan(&image, 7), Ok(vec![]));
        assert_eq!(plan(&image, 8), Err(ErrorCode::TopicAlreadyExists));
        // It was deleted since, and its files may still be there.
        image.apply(&MetaRecord::TopicDeleted { id: TopicId([7; 16]) }).expect("fits");
        assert_ne!(id_of(&plan(&image, 7).expect("allowed")), TopicId([7; 16]));
    }

    #[test]
    fn topics_are_created_or_refused_as_in_kafka() {
        let settings = Settings { num_partitions: 4, ..Settings::default() };
        let check = |topic: NewTopic, expect| {
            check(plan_create_topic(Fleet::of(&image(), ME), &topic, &settings, &mut Rng::new(1)), expect);
        };
        let setting = |name: &str, value: Option<&str>| NewTopic {
            settings: vec![(name.into(), value.map(Into::into))],
            ..topic("t")
        };
        let placed = |rows: &[(i32, &[i32])]| NewTopic {
            assignments: rows.iter().map(|(p, ids)| (*p, nodes(ids))).collect(),
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
        check(placed(&[(0, &[1, 2])]), Err((InvalidReplicaAssignment, "broker 2")));
        check(placed(&[(0, &[1, 1])]), Err((InvalidReplicaAssignment, "more than once")));
        check(NewTopic { partitions: 1, ..placed(&[(0, &[1])]) }, Err((InvalidRequest, "partitions must be -1")));
        check(NewTopic { replication_factor: 1, ..placed(&[(0, &[1])]) }, Err((InvalidRequest, "factor must be -1")));

        let mut full = image();
        for count in 2..=11 {
            let partitions = if count == 11 { 9_998 } else { 10_000 };
            full.apply(&created(&count.to_string(), count, partitions)).expect("fits");
        }
        let result = plan_create_topic(Fleet::of(&full, ME), &topic("t"), &settings, &mut Rng::new(1));
        super::tests::check(result, Err((PolicyViolation, "this one has 100000")));
    }

    #[test]
    fn defaults_are_filled_in_and_ids_are_new() {
        let settings = Settings { num_partitions: 4, ..Settings::default() };
        let mut rng = Rng::new(1);
        let plan = |image: &Image, rng: &mut Rng| {
            let records = plan_create_topic(Fleet::of(image, ME), &topic("t"), &settings, rng).expect("allowed");
            let [MetaRecord::TopicCreated { id, partitions: 4, .. }] = records[..] else { panic!("{records:?}") };
            id
        };
        let first = plan(&image(), &mut rng.clone());
        let mut taken = image();
        let MetaRecord::TopicCreated { name, partitions, placed, settings, .. } = created("other", 0, 1) else {
            panic!("a topic");
        };
        let record = MetaRecord::TopicCreated { name, id: first, partitions, placed, settings };
        taken.apply(&record).expect("fits");
        assert_ne!(plan(&taken, &mut rng), first);
    }

    #[test]
    fn partitions_are_added_or_refused_as_in_kafka() {
        let check = |name: &str, count: i32, placed: Option<&[&[i32]]>, expect| {
            let placed: Option<Vec<Vec<NodeId>>> = placed.map(|rows| rows.iter().map(|ids| nodes(ids)).collect());
            let image = image();
            let (fleet, mut rng) = (Fleet::of(&image, ME), Rng::new(1));
            check(plan_add_partitions(fleet, name, count, placed.as_deref(), &mut rng), expect);
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

    /// Brokers 1 to 4 of which 4 is fenced, and `taken.name` on 1.
    fn several() -> Image {
        let mut image = image();
        for id in 1..=4 {
            image.apply(&MetaRecord::BrokerRegistered(Broker { fenced: id == 4, ..broker(id, 1) })).expect("fits");
        }
        image
    }

    #[test]
    fn topics_are_placed_on_several_brokers() {
        let image = several();
        let settings = Settings { num_partitions: 6, ..Settings::default() };
        let after = |topic: NewTopic| {
            let records = plan_create_topic(Fleet::of(&image, ME), &topic, &settings, &mut Rng::new(1))?;
            let mut after = image.clone();
            records.iter().for_each(|record| after.apply(record).expect("a plan fits"));
            Ok::<_, MetaError>(after.topic("t").expect("made").states.clone())
        };
        let states = after(NewTopic { replication_factor: 3, ..topic("t") }).expect("allowed");
        assert!(states.iter().all(|state| state.isr_len() == 3 && !state.has_replica(NodeId(4))), "{states:?}");
        let leads = |id: i32| states.iter().filter(|state| state.leader() == Some(NodeId(id))).count();
        assert_eq!(leads(1) + leads(2) + leads(3), 6);
        assert!(leads(1) < leads(2), "1 leads something else already");
        let states = after(NewTopic { replication_factor: 4, ..topic("t") }).expect("allowed");
        assert!(states.iter().all(|state| state.isr_len() == 3 && state.replicas()[3] == NodeId(4)), "{states:?}");
        let placed = |replicas: &[i32]| NewTopic { assignments: vec![(0, nodes(replicas))], ..topic("t") };
        let [state] = &after(placed(&[4, 2, 3])).expect("allowed")[..] else { panic!("one") };
        assert_eq!((state.leader(), state.isr().collect()), (Some(NodeId(2)), nodes(&[2, 3])));
        let refused = |topic| after(topic).expect_err("refused").message;
        assert!(refused(placed(&[4])).contains("all fenced"));
        assert!(refused(NewTopic { replication_factor: 5, ..topic("t") }).contains("there are 4 brokers"));
        let uneven = vec![(0, nodes(&[1, 2])), (1, nodes(&[1]))];
        assert!(refused(NewTopic { assignments: uneven, ..topic("t") }).contains("other partitions of the topic to 2"));
        let (fleet, rng) = (Fleet::of(&image, ME), &mut Rng::new(1));
        let records = plan_add_partitions(fleet, "taken.name", 5, None, rng).expect("allowed");
        let [MetaRecord::PartitionsAdded { placed, .. }] = &records[..] else { panic!("{records:?}") };
        assert!(placed.iter().all(|replicas| replicas.len() == 1 && replicas[0] != NodeId(4)));
        assert_eq!(placed.iter().filter(|replicas| replicas[0] == ME).count(), 0, "it has 2 already");
        let uneven = plan_add_partitions(fleet, "taken.name", 3, Some(&[nodes(&[1, 2])]), rng);
        assert!(uneven.is_err_and(|error| error.message.contains("other partitions of the topic to 1")));
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
