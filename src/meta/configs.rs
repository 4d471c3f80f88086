//! What may become of settings while the broker runs: requests to change them, checked and turned into records.
//!
//! Rules and codes are those of Kafka's `ConfigAdminManager`, `ConfigurationControlManager` and
//! `ControllerConfigurationValidator`, but that a broker's setting which cannot be is INVALID_CONFIG here, as a topic's
//! is there (KAFKA-13609).
//!
//! *Owns*: the rules. *Never*: changes the image; the records do, once they are durable. *Runs on*: core 0.

use super::controller::{MetaError, check_name, refuse};
use super::election::{LeaderRules, follow_rules};
use super::fleet::Fleet;
use super::image::Image;
use super::record::MetaRecord;
use crate::base::ids::NodeId;
use crate::base::limits::{
    CONFIG_NAME_BYTES_MAX, META_CONFIGS_BYTES_MAX, META_TOPICS_BYTES_MAX, METRICS_SUBSCRIPTIONS_MAX, SETTING_BYTES_MAX,
};
use crate::config::{
    ConfigOp, ConfigResource, GroupSettings, MetricsSubscription, NOTHING_SET, OpKind, Overrides, SettingError,
    Settings, TopicSettings,
};
use crate::wire::errors::ErrorCode;

/// A wish to change what was set of one thing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigChange {
    pub resource: ConfigResource,
    pub change: Change,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// These, and what is not among them is as if it had never been set (AlterConfigs).
    Replace(Vec<ConfigOp>),
    /// One after the other (IncrementalAlterConfigs).
    Alter(Vec<ConfigOp>),
}

/// The settings in force where `image` stands, of a broker that was started with `at_start`.
pub fn broker_settings(image: &Image, at_start: &Settings) -> Settings {
    let own = image.overrides(&ConfigResource::Broker(at_start.node_id));
    at_start.with_changes_in_force(image.overrides(&ConfigResource::ClusterDefault), own)
}

/// Checks a change, of a broker or of what there is on it. What another broker was started with is not known here: its
/// settings are checked as if they were this one's. No record: it changes nothing.
pub fn plan_config_change(
    image: &Image,
    wish: &ConfigChange,
    at_start: &Settings,
) -> Result<Vec<MetaRecord>, MetaError> {
    let resource = &wish.resource;
    check_resource(image, resource, at_start)?;
    let before = image.overrides(resource);
    let (from, ops) = match &wish.change {
        Change::Replace(ops) => (&NOTHING_SET, ops),
        Change::Alter(ops) => (before, ops),
    };
    check_ops(ops)?;
    let below = match resource {
        ConfigResource::Broker(_) => {
            at_start.with_changes_in_force(image.overrides(&ConfigResource::ClusterDefault), &NOTHING_SET)
        }
        ConfigResource::ClusterDefault | ConfigResource::ClientMetrics(_) => at_start.clone(),
        ConfigResource::Topic(_) | ConfigResource::Group(_) => broker_settings(image, at_start),
    };
    let after = resource.alter(from, ops, &below).map_err(invalid)?;
    if after == *before {
        return Ok(Vec::new());
    }
    check_values(image, resource, &after, at_start, &below).map_err(invalid)?;
    let mut records = follow(image, resource, &after, at_start);
    records.insert(0, record(image, resource, after)?);
    Ok(records)
}

/// What follows for leaders where `resource` has the settings `after`.
fn follow(image: &Image, resource: &ConfigResource, after: &Overrides, at_start: &Settings) -> Vec<MetaRecord> {
    let fleet = Fleet::of(image, NodeId(at_start.node_id));
    let of = |what: &ConfigResource| if what == resource { after } else { image.overrides(what) };
    let own = ConfigResource::Broker(at_start.node_id);
    let settings = at_start.with_changes_in_force(of(&ConfigResource::ClusterDefault), of(&own));
    match resource {
        ConfigResource::Topic(name) => follow_rules(fleet, |topic| match topic.name == *name {
            true => LeaderRules::of_overrides(after, &settings),
            false => LeaderRules::of(topic, &settings),
        }),
        ConfigResource::Broker(_) | ConfigResource::ClusterDefault => {
            follow_rules(fleet, |topic| LeaderRules::of(topic, &settings))
        }
        ConfigResource::Group(_) | ConfigResource::ClientMetrics(_) => Vec::new(),
    }
}

fn check_resource(image: &Image, resource: &ConfigResource, at_start: &Settings) -> Result<(), MetaError> {
    match resource {
        ConfigResource::Topic(name) if name.is_empty() => {
            refuse(ErrorCode::InvalidRequest, "A topic must be named: there are no settings of all topics.")
        }
        ConfigResource::Topic(name) => {
            check_name(name)?;
            match image.topic(name) {
                Some(_) => Ok(()),
                None => refuse(ErrorCode::UnknownTopicOrPartition, format!("There is no topic '{name}'.")),
            }
        }
        ConfigResource::Group(name) if name.is_empty() => {
            refuse(ErrorCode::InvalidRequest, "A group must be named: there are no settings of all groups.")
        }
        ConfigResource::ClientMetrics(name) if name.is_empty() => {
            refuse(ErrorCode::InvalidRequest, "A subscription to the metrics of clients must be named.")
        }
        ConfigResource::Group(name) | ConfigResource::ClientMetrics(name) if name.len() > CONFIG_NAME_BYTES_MAX => {
            let message = format!("What has settings may have a name of {CONFIG_NAME_BYTES_MAX} bytes.");
            refuse(ErrorCode::InvalidRequest, message)
        }
        ConfigResource::Broker(id) if !Fleet::of(image, NodeId(at_start.node_id)).is_registered(NodeId(*id)) => {
            refuse(ErrorCode::InvalidRequest, format!("There is no broker {id}."))
        }
        ConfigResource::Group(_)
        | ConfigResource::ClientMetrics(_)
        | ConfigResource::Broker(_)
        | ConfigResource::ClusterDefault => Ok(()),
    }
}

fn check_ops(ops: &[ConfigOp]) -> Result<(), MetaError> {
    let mut names: Vec<&str> = ops.iter().map(|op| op.name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        let message = format!("{} is there more than once: each setting may be changed once.", twice[0]);
        return refuse(ErrorCode::InvalidRequest, message);
    }
    if names.first() == Some(&"") {
        return refuse(ErrorCode::InvalidConfig, "A setting has no name.");
    }
    match ops.iter().find(|op| op.kind != OpKind::Delete && op.value.len() > SETTING_BYTES_MAX) {
        Some(op) => refuse(ErrorCode::InvalidConfig, format!("{} is longer than {SETTING_BYTES_MAX} bytes.", op.name)),
        None => Ok(()),
    }
}

/// `below` are the settings that `after` stand over.
fn check_values(
    image: &Image,
    resource: &ConfigResource,
    after: &Overrides,
    at_start: &Settings,
    below: &Settings,
) -> Result<(), SettingError> {
    match resource {
        ConfigResource::Topic(_) => TopicSettings::resolve(below, after).map(|_| ()),
        ConfigResource::Group(_) => GroupSettings::resolve(below, after).map(|_| ()),
        ConfigResource::ClientMetrics(_) => MetricsSubscription::resolve(after).map(|_| ()),
        ConfigResource::Broker(_) => {
            at_start.with_changes(image.overrides(&ConfigResource::ClusterDefault), after).map(|_| ())
        }
        ConfigResource::ClusterDefault => {
            let own = image.overrides(&ConfigResource::Broker(at_start.node_id));
            at_start.with_changes(after, &NOTHING_SET)?;
            at_start.with_changes(after, own).map(|_| ())
        }
    }
}

fn record(image: &Image, resource: &ConfigResource, settings: Overrides) -> Result<MetaRecord, MetaError> {
    if let ConfigResource::Topic(name) = resource {
        let id = image.topic(name).map(|topic| topic.id).expect("the topic was found");
        let grows = settings.len() > image.overrides(resource).len();
        if grows && image.topics_bytes() > META_TOPICS_BYTES_MAX {
            return refuse(ErrorCode::PolicyViolation, "The metadata is full: delete topics first.");
        }
        return Ok(MetaRecord::TopicSettingsChanged { id, settings });
    }
    let is_new = !settings.is_empty() && image.overrides(resource).is_empty();
    let is_subscription = |resource: &ConfigResource| matches!(resource, ConfigResource::ClientMetrics(_));
    if is_new && is_subscription(resource) {
        let subscriptions = image.configured().filter(|resource| is_subscription(resource)).count();
        if subscriptions >= METRICS_SUBSCRIPTIONS_MAX {
            let message = format!("There are {subscriptions} subscriptions to metrics: delete some first.");
            return refuse(ErrorCode::PolicyViolation, message);
        }
    }
    if !settings.is_empty() && image.configs_bytes() > META_CONFIGS_BYTES_MAX {
        let message = "The settings of groups take all the space there is for them: delete some first.";
        return refuse(ErrorCode::PolicyViolation, message);
    }
    Ok(MetaRecord::ConfigChanged { resource: resource.clone(), settings })
}

fn invalid(error: SettingError) -> MetaError {
    MetaError { code: ErrorCode::InvalidConfig, message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::TopicId;

    fn op(name: &str, value: &str) -> ConfigOp {
        ConfigOp { name: name.into(), kind: OpKind::Set, value: value.into() }
    }

    fn topic() -> ConfigResource {
        ConfigResource::Topic("t".into())
    }

    /// Holds the topic `t` with a setting, and settings of all brokers.
    fn image() -> Image {
        let mut image = Image::default();
        let settings = Overrides::from([("flush.messages".into(), "1".into())]);
        let (name, id, placed) = ("t".into(), TopicId([1; 16]), vec![vec![NodeId(1)]]);
        let created = MetaRecord::TopicCreated { name, id, partitions: 1, placed, settings };
        let settings = Overrides::from([("log.roll.ms".into(), "5".into())]);
        let cluster = MetaRecord::ConfigChanged { resource: ConfigResource::ClusterDefault, settings };
        [created, cluster].iter().for_each(|record| image.apply(record).expect("fits"));
        image
    }

    fn check(resource: ConfigResource, change: Change, expect: Result<&[(&str, &str)], (ErrorCode, &str)>) {
        let mut image = image();
        let wish = ConfigChange { resource: resource.clone(), change };
        match (plan_config_change(&image, &wish, &Settings::default()), expect) {
            (Ok(records), Ok(wanted)) => {
                records.iter().for_each(|record| image.apply(record).expect("a plan fits"));
                let wanted = wanted.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
                assert_eq!(image.overrides(&resource), &wanted);
                let again = plan_config_change(&image, &wish, &Settings::default()).expect("as before");
                assert_eq!(again, [], "what changes nothing is not written");
            }
            (Err(error), Err((code, part))) => {
                assert_eq!(error.code, code, "{error}");
                assert!(error.message.contains(part), "{error}");
            }
            (got, expect) => panic!("{wish:?}: {got:?}, not {expect:?}"),
        }
    }

    #[test]
    fn settings_are_changed_one_by_one_or_all_at_once() {
        let alter = |ops: &[ConfigOp]| Change::Alter(ops.to_vec());
        let replace = |ops: &[ConfigOp]| Change::Replace(ops.to_vec());
        let size = ("segment.bytes", "70000");
        check(topic(), alter(&[op(size.0, size.1)]), Ok(&[("flush.messages", "1"), size]));
        check(topic(), replace(&[op(size.0, size.1)]), Ok(&[size]));
        check(topic(), replace(&[]), Ok(&[]));
        check(topic(), alter(&[]), Ok(&[("flush.messages", "1")]));
        let roll = ("log.roll.ms", "7");
        check(ConfigResource::Broker(1), alter(&[op(roll.0, roll.1)]), Ok(&[roll]));
        check(ConfigResource::ClusterDefault, alter(&[op(roll.0, roll.1)]), Ok(&[roll]));
        check(ConfigResource::ClusterDefault, replace(&[]), Ok(&[]));
        let session = ("consumer.session.timeout.ms", "50000");
        check(ConfigResource::Group("g".into()), alter(&[op(session.0, session.1)]), Ok(&[session]));
        let interval = ("interval.ms", "100");
        check(ConfigResource::ClientMetrics("m".into()), alter(&[op(interval.0, interval.1)]), Ok(&[interval]));
        check(ConfigResource::ClientMetrics("m".into()), replace(&[]), Ok(&[]));
    }

    #[test]
    fn what_cannot_be_is_refused_as_in_kafka() {
        use ErrorCode::{InvalidConfig, InvalidRequest, InvalidTopicException, UnknownTopicOrPartition};
        let set = |name: &str, value: &str| Change::Alter(vec![op(name, value)]);
        let named = |name: &str| ConfigResource::Topic(name.into());
        check(named("x"), set("flush.messages", "1"), Err((UnknownTopicOrPartition, "no topic 'x'")));
        check(named(".."), set("flush.messages", "1"), Err((InvalidTopicException, "Topic name is invalid")));
        check(named(""), set("flush.messages", "1"), Err((InvalidRequest, "must be named")));
        check(ConfigResource::Group(String::new()), set("a", "1"), Err((InvalidRequest, "must be named")));
        check(ConfigResource::Group("g".repeat(1025)), set("a", "1"), Err((InvalidRequest, "1024 bytes")));
        let metrics = ConfigResource::ClientMetrics("m".into());
        check(metrics.clone(), set("interval.ms", "99"), Err((InvalidConfig, "interval.ms must be 100 to 3600000")));
        check(metrics, set("segment.bytes", "70000"), Err((InvalidConfig, "is not a setting")));
        let nameless = ConfigResource::ClientMetrics(String::new());
        check(nameless, set("metrics", "*"), Err((InvalidRequest, "must be named")));
        check(ConfigResource::Broker(2), set("log.roll.ms", "1"), Err((InvalidRequest, "There is no broker 2")));
        check(topic(), set("", "1"), Err((InvalidConfig, "no name")));
        check(topic(), set("flush.message", "1"), Err((InvalidConfig, "did you mean `flush.messages`?")));
        check(topic(), set("flush.messages", "0"), Err((InvalidConfig, "flush.messages must be 1 or more")));
        check(topic(), set("flush.messages", &"1".repeat(1025)), Err((InvalidConfig, "longer than 1024")));
        let twice = Change::Alter(vec![op("flush.ms", "1"), op("segment.ms", "1"), op("flush.ms", "2")]);
        check(topic(), twice, Err((InvalidRequest, "flush.ms is there more than once")));
        let emptied = ConfigOp { kind: OpKind::Subtract, ..op("cleanup.policy", "delete") };
        check(topic(), Change::Alter(vec![emptied]), Err((InvalidConfig, "must be delete, compact")));
        for broker in [ConfigResource::Broker(1), ConfigResource::ClusterDefault] {
            check(broker.clone(), set("node.id", "2"), Err((InvalidConfig, "cannot change while the broker runs")));
            check(
                broker.clone(),
                set("message.max.bytes", "200000000"),
                Err((InvalidConfig, "socket.request.max.bytes")),
            );
            check(broker, set("segment.bytes", "70000"), Err((InvalidConfig, "is not a setting")));
        }
    }
    #[test]
    fn there_are_so_many_subscriptions_to_metrics() {
        let mut image = image();
        let plan = |image: &Image, name: String| {
            let change = Change::Alter(vec![op("metrics", "*")]);
            let wish = ConfigChange { resource: ConfigResource::ClientMetrics(name), change };
            plan_config_change(image, &wish, &Settings::default())
        };
        for number in 0..METRICS_SUBSCRIPTIONS_MAX {
            let records = plan(&image, number.to_string()).expect("there is room");
            records.iter().for_each(|record| image.apply(record).expect("a plan fits"));
        }
        let error = plan(&image, "more".into()).expect_err("there is none");
        assert_eq!(error.code, ErrorCode::PolicyViolation, "{error}");
        assert_eq!(plan(&image, "0".into()), Ok(Vec::new()));
    }
}
