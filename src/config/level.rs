//! What settings belong to, and how the settings of one thing are changed.
//!
//! *Owns*: the names of things with settings; which rows each kind has; the operations of IncrementalAlterConfigs.
//! *Never*: keeps what was set. *Runs on*: core 0 changes; every core resolves.

use std::collections::BTreeMap;

use super::client_metrics;
use super::row::{Notation, Origin, Row, SettingError, unknown};
use super::table::{Settings, TABLE, row};
use super::values::Kind;

/// Settings of one thing that are its own, by the names they have there.
pub type Overrides = BTreeMap<String, String>;

/// No overrides.
pub static NOTHING_SET: Overrides = Overrides::new();

/// A thing that has settings (Kafka's `ConfigResource`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ConfigResource {
    Topic(String),
    /// All brokers of the cluster, but for what each has of its own.
    ClusterDefault,
    /// By node id.
    Broker(i32),
    Group(String),
    /// A subscription to what clients measure (KIP-714).
    ClientMetrics(String),
}

/// A kind of things that have the same settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    Topic,
    Broker,
    Group,
}

/// A change of one setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigOp {
    pub name: String,
    pub kind: OpKind,
    /// Of no meaning to [`OpKind::Delete`].
    pub value: String,
}

/// What is done to a setting (`AlterConfigOp.OpType`; the number on the wire).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i8)]
pub enum OpKind {
    Set = 0,
    /// Back to what counts without it.
    Delete = 1,
    /// To the end of a list.
    Append = 2,
    /// Out of a list.
    Subtract = 3,
}

impl OpKind {
    pub fn from_code(code: i8) -> Option<OpKind> {
        [OpKind::Set, OpKind::Delete, OpKind::Append, OpKind::Subtract].into_iter().find(|kind| *kind as i8 == code)
    }
}

impl ConfigResource {
    /// Kafka's `ConfigResource.Type`.
    pub const TOPIC: i8 = 2;
    pub const BROKER: i8 = 4;
    pub const BROKER_LOGGER: i8 = 8;
    pub const CLIENT_METRICS: i8 = 16;
    pub const GROUP: i8 = 32;

    /// The type's number on the wire.
    pub fn code(&self) -> i8 {
        match self {
            ConfigResource::Topic(_) => Self::TOPIC,
            ConfigResource::ClusterDefault | ConfigResource::Broker(_) => Self::BROKER,
            ConfigResource::Group(_) => Self::GROUP,
            ConfigResource::ClientMetrics(_) => Self::CLIENT_METRICS,
        }
    }

    /// The name beside [`ConfigResource::code`].
    pub fn name(&self) -> String {
        match self {
            ConfigResource::Topic(name) | ConfigResource::Group(name) | ConfigResource::ClientMetrics(name) => {
                name.clone()
            }
            ConfigResource::ClusterDefault => String::new(),
            ConfigResource::Broker(id) => id.to_string(),
        }
    }

    /// What `code` and `name` say. `None`: no such type, or not the id of a broker.
    pub fn from_parts(code: i8, name: &str) -> Option<ConfigResource> {
        match code {
            Self::TOPIC => Some(ConfigResource::Topic(name.to_owned())),
            Self::BROKER if name.is_empty() => Some(ConfigResource::ClusterDefault),
            Self::BROKER => name.parse().ok().map(ConfigResource::Broker),
            Self::GROUP => Some(ConfigResource::Group(name.to_owned())),
            Self::CLIENT_METRICS => Some(ConfigResource::ClientMetrics(name.to_owned())),
            _ => None,
        }
    }

    /// What `overrides` of this are after these changes, values not checked yet. What is appended to or subtracted
    /// from where nothing was set is the value of `below`, the settings without the overrides.
    ///
    /// Errors: no such setting, or a list's operation on what is none.
    pub fn alter(&self, overrides: &Overrides, ops: &[ConfigOp], below: &Settings) -> Result<Overrides, SettingError> {
        let level = match self {
            ConfigResource::Topic(_) => Level::Topic,
            ConfigResource::ClusterDefault | ConfigResource::Broker(_) => Level::Broker,
            ConfigResource::Group(_) => Level::Group,
            ConfigResource::ClientMetrics(_) => return altered(overrides, ops, client_metrics::find),
        };
        let find = |name: &str| level.find(name).map(|row| (row.kind, row.show(below)));
        altered(overrides, ops, find)
    }
}

impl Level {
    /// What a row is called on this level; `None` when it is not there.
    pub fn name_of(self, row: &Row) -> Option<&'static str> {
        match self {
            Level::Topic => row.topic_name,
            Level::Broker => Some(row.name),
            Level::Group => row.group_name,
        }
    }

    /// The row that can be changed by `name`.
    pub fn find(self, name: &str) -> Result<&'static Row, SettingError> {
        let found = TABLE.iter().find(|row| self.name_of(row) == Some(name));
        let refuse = |message: String| Err(SettingError { name: name.to_owned(), message });
        match found {
            Some(row) if self == Level::Broker && !row.dynamic => {
                refuse("cannot change while the broker runs: set it where the broker is started".into())
            }
            Some(row) => Ok(row),
            None => match row(name).filter(|_| self == Level::Broker) {
                Some(row) => refuse(format!("is another name of {}: change that", row.name)),
                None => Err(unknown(name, TABLE.iter().filter_map(|row| self.name_of(row)))),
            },
        }
    }

    /// `settings` with these over them.
    pub(super) fn over(self, settings: &Settings, overrides: &Overrides) -> Result<Settings, SettingError> {
        let mut with = settings.clone();
        for (name, text) in overrides {
            self.find(name)?.assign_as(name, 1, &mut with, text, Notation::Kafka)?;
        }
        Ok(with)
    }

    /// The same, without those that cannot be.
    pub(super) fn over_leniently(self, settings: &Settings, overrides: &Overrides) -> Settings {
        let mut with = settings.clone();
        for (name, text) in overrides {
            let assigned = self.find(name).and_then(|row| row.assign_as(name, 1, &mut with, text, Notation::Kafka));
            if let Err(error) = assigned {
                tracing::warn!("a setting that was made earlier does not count any more: {error}");
            }
        }
        with
    }
}

/// `find` tells what kind a setting is, and what counts when it is not set.
fn altered(
    overrides: &Overrides,
    ops: &[ConfigOp],
    find: impl Fn(&str) -> Result<(Kind, String), SettingError>,
) -> Result<Overrides, SettingError> {
    let mut altered = overrides.clone();
    for ConfigOp { name, kind, value } in ops {
        if *kind == OpKind::Delete && altered.remove(name).is_some() {
            continue;
        }
        let (of_kind, below) = find(name)?;
        if matches!(kind, OpKind::Append | OpKind::Subtract) && of_kind != Kind::List {
            let message = "is no list: it can be set and deleted, not appended to or subtracted from".to_owned();
            return Err(SettingError { name: name.clone(), message });
        }
        let listed = altered.get(name).cloned().unwrap_or(below);
        match kind {
            OpKind::Delete => {}
            OpKind::Set => drop(altered.insert(name.clone(), value.trim().to_owned())),
            OpKind::Append => drop(altered.insert(name.clone(), appended(&listed, value))),
            OpKind::Subtract => drop(altered.insert(name.clone(), subtracted(&listed, value))),
        }
    }
    Ok(altered)
}

impl Settings {
    /// The settings in force: these with those over them that were changed while the broker ran, for the cluster and
    /// for this broker. Errors: one of them cannot be, or they contradict each other.
    pub fn with_changes(&self, cluster: &Overrides, broker: &Overrides) -> Result<Settings, SettingError> {
        let with = Level::Broker.over(&Level::Broker.over(self, cluster)?, broker)?;
        with.check_together()?;
        Ok(with.note_origins(cluster, broker))
    }

    /// The same, for changes that were checked when they were made. What does not hold any more is left out.
    pub fn with_changes_in_force(&self, cluster: &Overrides, broker: &Overrides) -> Settings {
        let with = Level::Broker.over_leniently(&Level::Broker.over_leniently(self, cluster), broker);
        match with.check_together() {
            Ok(()) => with.note_origins(cluster, broker),
            Err(error) => {
                tracing::warn!("settings that were changed while the broker ran do not count any more: {error}");
                self.clone()
            }
        }
    }

    fn note_origins(mut self, cluster: &Overrides, broker: &Overrides) -> Settings {
        for (names, origin) in [(cluster, Origin::ClusterDefault), (broker, Origin::Broker)] {
            let rows = names.keys().filter_map(|name| row(name));
            self.given.extend(rows.map(|row| (row.name, origin)));
        }
        self
    }
}

pub(super) fn parts(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn appended(list: &str, more: &str) -> String {
    let mut all: Vec<&str> = parts(list).collect();
    for part in parts(more) {
        if !all.contains(&part) {
            all.push(part);
        }
    }
    all.join(",")
}

fn subtracted(list: &str, less: &str) -> String {
    let left: Vec<&str> = parts(list).filter(|part| !parts(less).any(|gone| gone == *part)).collect();
    left.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(rows: &[(&str, &str)]) -> Overrides {
        rows.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn resources_are_what_their_type_and_name_say() {
        for resource in [
            ConfigResource::Topic("t".into()),
            ConfigResource::ClusterDefault,
            ConfigResource::Broker(7),
            ConfigResource::Group(String::new()),
            ConfigResource::ClientMetrics("m".into()),
        ] {
            assert_eq!(ConfigResource::from_parts(resource.code(), &resource.name()), Some(resource));
        }
        assert_eq!(ConfigResource::from_parts(ConfigResource::BROKER, "one"), None);
        assert_eq!(ConfigResource::from_parts(3, "t"), None);
    }

    #[test]
    fn settings_are_set_deleted_appended_to_and_subtracted_from() {
        use OpKind::{Append, Delete, Set, Subtract};
        let below = Settings::default();
        let check = |resource: ConfigResource,
                     before: &[(&str, &str)],
                     op: (&str, OpKind, &str),
                     expect: Result<&[(&str, &str)], &str>| {
            let ops = [ConfigOp { name: op.0.into(), kind: op.1, value: op.2.into() }];
            match (resource.alter(&map(before), &ops, &below), expect) {
                (Ok(got), Ok(wanted)) => assert_eq!(got, map(wanted), "{op:?}"),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (got, _) => panic!("{op:?}: {got:?}"),
            }
        };
        let topic = || ConfigResource::Topic("t".into());
        let policy = "cleanup.policy";
        check(topic(), &[], ("segment.bytes", Set, " 70000 "), Ok(&[("segment.bytes", "70000")]));
        check(topic(), &[("segment.bytes", "1")], ("segment.bytes", Delete, ""), Ok(&[]));
        check(topic(), &[], ("segment.bytes", Delete, ""), Ok(&[]));
        check(topic(), &[], (policy, Append, "compact,delete"), Ok(&[(policy, "delete,compact")]));
        check(topic(), &[(policy, "compact")], (policy, Append, "compact"), Ok(&[(policy, "compact")]));
        check(topic(), &[(policy, "compact,delete")], (policy, Subtract, "delete"), Ok(&[(policy, "compact")]));
        check(topic(), &[], (policy, Subtract, "delete"), Ok(&[(policy, "")]));
        check(topic(), &[], ("segment.bytes", Append, "1"), Err("is no list"));
        check(topic(), &[], ("segment.byte", Set, "1"), Err("did you mean `segment.bytes`?"));
        check(topic(), &[], ("segment.byte", Delete, ""), Err("is not a setting"));
        // Of an earlier version.
        check(topic(), &[("old", "1")], ("old", Delete, ""), Ok(&[]));
        let metrics = || ConfigResource::ClientMetrics("m".into());
        check(metrics(), &[], ("metrics", Append, "a,b"), Ok(&[("metrics", "a,b")]));
        check(metrics(), &[("interval.ms", "100")], ("interval.ms", Delete, ""), Ok(&[]));
        check(metrics(), &[], ("interval.ms", Append, "1"), Err("is no list"));
        check(metrics(), &[], ("metric", Set, "1"), Err("did you mean `metrics`?"));
        check(ConfigResource::ClusterDefault, &[], ("log.roll.ms", Set, "5"), Ok(&[("log.roll.ms", "5")]));
        check(
            ConfigResource::ClusterDefault,
            &[],
            ("log.roll.hours", Set, "5"),
            Err("is another name of log.roll.ms: change that"),
        );
        check(ConfigResource::ClusterDefault, &[], ("node.id", Set, "5"), Err("cannot change while the broker runs"));
        check(ConfigResource::ClusterDefault, &[], ("segment.bytes", Set, "5"), Err("is not a setting"));
    }

    #[test]
    fn a_brokers_own_changes_beat_the_clusters_and_both_beat_the_start() {
        let mut start = Settings::default();
        start.set("log.roll.ms", "10", Notation::Kafka, Origin::Flag).expect("in range");
        start.set("num.partitions", "2", Notation::Kafka, Origin::Flag).expect("in range");
        let cluster = map(&[("log.roll.ms", "20"), ("log.segment.bytes", "70000")]);
        let broker = map(&[("log.roll.ms", "30")]);
        let with = start.with_changes(&cluster, &broker).expect("sound");
        assert_eq!((with.log_roll_ms, with.log_segment_bytes, with.num_partitions), (30, 70_000, 2));
        let origin = |name: &str| with.origin(row(name).expect("known"));
        assert_eq!(origin("log.roll.ms"), Origin::Broker);
        assert_eq!(origin("log.segment.bytes"), Origin::ClusterDefault);
        assert_eq!(origin("num.partitions"), Origin::Flag);
        assert_eq!(start.with_changes_in_force(&cluster, &broker), with);

        let too_large = map(&[("message.max.bytes", "200000000")]);
        let error = start.with_changes(&NOTHING_SET, &too_large).expect_err("no such request is taken");
        assert!(error.to_string().contains("socket.request.max.bytes"), "{error}");
        assert_eq!(start.with_changes_in_force(&NOTHING_SET, &too_large), start);
        let unknown = map(&[("of.later", "1"), ("log.roll.ms", "30")]);
        assert_eq!(start.with_changes_in_force(&unknown, &NOTHING_SET).log_roll_ms, 30);
    }
}
