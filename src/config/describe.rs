//! The answers to DescribeConfigs: every setting with its value and where that came from.
//!
//! *Owns*: sources and synonyms (KIP-226; groups: KIP-848). *Never*: knows the wire form. *Runs on*: every core.

use super::level::{Level, Overrides};
use super::row::{Origin, Row};
use super::table::{Settings, TABLE};
use super::values::Kind;

/// Where a described value came from (`DescribeConfigsResponse.ConfigSource`; the code on the wire).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i8)]
pub enum ConfigSource {
    DynamicTopicConfig = 1,
    DynamicBrokerConfig = 2,
    DynamicDefaultBrokerConfig = 3,
    StaticBrokerConfig = 4,
    DefaultConfig = 5,
    DynamicBrokerLoggerConfig = 6,
    ClientMetricsConfig = 7,
    GroupConfig = 8,
}

impl ConfigSource {
    pub fn code(self) -> i8 {
        self as i8
    }
}

/// The broker's settings by where they came from.
#[derive(Clone, Copy, Debug)]
pub struct Layers<'a> {
    pub at_start: &'a Settings,
    /// Changed while running, for all brokers.
    pub cluster: &'a Overrides,
    /// Changed while running, for this one.
    pub broker: &'a Overrides,
}

/// One row of the answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Described {
    pub name: &'static str,
    pub value: String,
    /// Cannot be changed while the broker runs.
    pub read_only: bool,
    pub source: ConfigSource,
    /// No setting holds a secret.
    pub sensitive: bool,
    pub config_type: Kind,
    pub doc: String,
    /// The value in force first, then those it hides, down to the default.
    pub synonyms: Vec<Synonym>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Synonym {
    pub name: &'static str,
    pub value: String,
    pub source: ConfigSource,
}

/// Every broker setting, in the order of the table.
pub fn describe_broker(layers: Layers<'_>) -> Vec<Described> {
    TABLE.iter().map(|row| described(row, row.name, !row.dynamic, layers.values(row))).collect()
}

/// What was changed while running for all brokers, and nothing else, as Kafka describes the broker without a name.
pub fn describe_cluster_default(layers: Layers<'_>) -> Vec<Described> {
    let rows = TABLE.iter().filter(|row| layers.cluster.contains_key(row.name));
    rows.map(|row| {
        let mut values = layers.values(row);
        values.retain(|value| value.source != ConfigSource::DynamicBrokerConfig);
        described(row, row.name, false, values)
    })
    .collect()
}

/// Every topic setting. `overrides` are the topic's own.
pub fn describe_topic(layers: Layers<'_>, overrides: &Overrides) -> Vec<Described> {
    describe(layers, Level::Topic, overrides, ConfigSource::DynamicTopicConfig)
}

/// Every group setting. `overrides` are the group's own.
pub fn describe_group(layers: Layers<'_>, overrides: &Overrides) -> Vec<Described> {
    describe(layers, Level::Group, overrides, ConfigSource::GroupConfig)
}

fn describe(layers: Layers<'_>, level: Level, overrides: &Overrides, source: ConfigSource) -> Vec<Described> {
    let mut rows = Vec::new();
    for row in TABLE {
        let Some(name) = level.name_of(row) else { continue };
        let mut values = layers.values(row);
        if let Some(value) = overrides.get(name) {
            values.insert(0, Synonym { name, value: value.clone(), source });
        }
        rows.push(described(row, name, false, values));
    }
    rows
}

impl Layers<'_> {
    /// The broker's values, the one in force first.
    fn values(&self, row: &Row) -> Vec<Synonym> {
        let mut values = Vec::new();
        for (overrides, source) in
            [(self.broker, ConfigSource::DynamicBrokerConfig), (self.cluster, ConfigSource::DynamicDefaultBrokerConfig)]
        {
            if let Some(value) = overrides.get(row.name) {
                values.push(Synonym { name: row.name, value: value.clone(), source });
            }
        }
        let at_start = row.show(self.at_start);
        if self.at_start.origin(row) == Origin::Default {
            // A value made at start (the cluster's id) may differ from the table's without having been set.
            values.push(Synonym { name: row.name, value: at_start, source: ConfigSource::DefaultConfig });
            return values;
        }
        values.push(Synonym { name: row.name, value: at_start, source: ConfigSource::StaticBrokerConfig });
        let default = row.show(&Settings::default());
        values.push(Synonym { name: row.name, value: default, source: ConfigSource::DefaultConfig });
        values
    }
}

fn described(row: &Row, name: &'static str, read_only: bool, synonyms: Vec<Synonym>) -> Described {
    let first = synonyms.first().expect("there is always the default");
    Described {
        name,
        value: first.value.clone(),
        read_only,
        source: first.source,
        sensitive: false,
        config_type: row.kind,
        doc: row.doc(),
        synonyms,
    }
}

#[cfg(test)]
mod tests {
    use super::super::level::NOTHING_SET;
    use super::super::row::Notation;
    use super::*;

    fn map(rows: &[(&str, &str)]) -> Overrides {
        rows.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn plain(settings: &Settings) -> Layers<'_> {
        Layers { at_start: settings, cluster: &NOTHING_SET, broker: &NOTHING_SET }
    }

    #[test]
    fn synonyms_lead_from_the_value_in_force_to_the_default() {
        let defaults = Settings::default();
        let mut started = Settings::default();
        started.set("log.segment.bytes", "100000", Notation::Kafka, Origin::File).expect("in range");
        let own = map(&[("segment.bytes", "70000")]);
        let (cluster, broker) = (map(&[("log.segment.bytes", "80000")]), map(&[("log.segment.bytes", "90000")]));
        let changed = Layers { cluster: &cluster, broker: &broker, ..plain(&started) };
        let check = |rows: Vec<Described>, name: &str, expect: &[(&str, &str, ConfigSource)]| {
            let row = rows.iter().find(|row| row.name == name).expect("described");
            let got: Vec<_> = row.synonyms.iter().map(|s| (s.name, s.value.as_str(), s.source)).collect();
            assert_eq!(got, expect);
            assert_eq!((row.value.as_str(), row.source), (expect[0].1, expect[0].2));
        };
        use ConfigSource::*;
        let default = ("log.segment.bytes", "1073741824", DefaultConfig);
        let set = ("log.segment.bytes", "100000", StaticBrokerConfig);
        let of_cluster = ("log.segment.bytes", "80000", DynamicDefaultBrokerConfig);
        let of_broker = ("log.segment.bytes", "90000", DynamicBrokerConfig);
        let of_topic = ("segment.bytes", "70000", DynamicTopicConfig);
        check(describe_broker(plain(&defaults)), "log.segment.bytes", &[default]);
        check(describe_broker(plain(&started)), "log.segment.bytes", &[set, default]);
        check(describe_broker(changed), "log.segment.bytes", &[of_broker, of_cluster, set, default]);
        check(describe_cluster_default(changed), "log.segment.bytes", &[of_cluster, set, default]);
        check(describe_topic(plain(&started), &own), "segment.bytes", &[of_topic, set, default]);
        check(describe_topic(plain(&started), &NOTHING_SET), "segment.bytes", &[set, default]);
        check(describe_topic(changed, &NOTHING_SET), "segment.bytes", &[of_broker, of_cluster, set, default]);
        let session = "consumer.session.timeout.ms";
        let default = ("group.consumer.session.timeout.ms", "45000", DefaultConfig);
        check(describe_group(plain(&defaults), &NOTHING_SET), session, &[default]);
        let of_group = (session, "50000", GroupConfig);
        check(describe_group(plain(&defaults), &map(&[(session, "50000")])), session, &[of_group, default]);
    }

    #[test]
    fn each_kind_of_thing_has_its_settings_and_says_which_can_change() {
        let defaults = Settings::default();
        let topic = describe_topic(plain(&defaults), &NOTHING_SET);
        assert!(topic.iter().all(|row| !row.read_only && row.name != "num.partitions"));
        assert_eq!(topic.len(), TABLE.iter().filter(|row| row.topic_name.is_some()).count());
        let group = describe_group(plain(&defaults), &NOTHING_SET);
        assert!(group.iter().all(|row| !row.read_only && row.name.starts_with("consumer.")));
        let broker = describe_broker(plain(&defaults));
        for (name, read_only) in [("node.id", true), ("log.segment.bytes", false), ("num.partitions", false)] {
            assert_eq!(broker.iter().find(|row| row.name == name).expect("there").read_only, read_only, "{name}");
        }
        assert_eq!(describe_cluster_default(plain(&defaults)), []);
    }
}
