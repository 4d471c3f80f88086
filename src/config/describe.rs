//! The answers to DescribeConfigs: every setting with its value and where that came from.
//!
//! *Owns*: sources and synonyms (KIP-226). *Never*: knows the wire form. *Runs on*: every core.

use std::collections::BTreeMap;

use super::row::{Origin, Row};
use super::table::{Settings, TABLE};
use super::values::Kind;

/// Where a described value came from (`DescribeConfigsResponse.ConfigSource`; the code on the wire).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i8)]
pub enum ConfigSource {
    DynamicTopicConfig = 1,
    StaticBrokerConfig = 4,
    DefaultConfig = 5,
}

impl ConfigSource {
    pub fn code(self) -> i8 {
        self as i8
    }
}

/// One row of the answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Described {
    pub name: &'static str,
    pub value: String,
    /// True for what cannot be changed while the broker runs: every broker setting.
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
pub fn describe_broker(settings: &Settings) -> Vec<Described> {
    let defaults = Settings::default();
    TABLE.iter().map(|row| described(row, row.name, true, broker_values(row, settings, &defaults))).collect()
}

/// Every topic setting. `overrides` are the topic's own, as they were checked by `TopicSettings::resolve`.
pub fn describe_topic(settings: &Settings, overrides: &BTreeMap<String, String>) -> Vec<Described> {
    let defaults = Settings::default();
    let mut rows = Vec::new();
    for row in TABLE {
        let Some(name) = row.topic_name else { continue };
        let mut values = broker_values(row, settings, &defaults);
        if let Some(value) = overrides.get(name) {
            let own = Synonym { name, value: value.clone(), source: ConfigSource::DynamicTopicConfig };
            values.insert(0, own);
        }
        rows.push(described(row, name, false, values));
    }
    rows
}

/// The broker's value, and the default below it when it was set.
fn broker_values(row: &Row, settings: &Settings, defaults: &Settings) -> Vec<Synonym> {
    let default = Synonym { name: row.name, value: row.show(defaults), source: ConfigSource::DefaultConfig };
    if settings.origin(row) == Origin::Default {
        // A value made at start (the cluster's id) may differ from the table's without having been set.
        return vec![Synonym { value: row.show(settings), ..default }];
    }
    vec![Synonym { name: row.name, value: row.show(settings), source: ConfigSource::StaticBrokerConfig }, default]
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
    use super::super::row::Notation;
    use super::*;

    #[test]
    fn synonyms_lead_from_the_value_in_force_to_the_default() {
        let mut settings = Settings::default();
        settings.set("log.segment.bytes", "100000", Notation::Kafka, Origin::File).expect("in range");
        let overrides = BTreeMap::from([("segment.bytes".to_owned(), "70000".to_owned())]);
        let check = |rows: Vec<Described>, name: &str, expect: &[(&str, &str, ConfigSource)]| {
            let row = rows.iter().find(|row| row.name == name).expect("described");
            let got: Vec<_> = row.synonyms.iter().map(|s| (s.name, s.value.as_str(), s.source)).collect();
            assert_eq!(got, expect);
            assert_eq!((row.value.as_str(), row.source), (expect[0].1, expect[0].2));
        };
        use ConfigSource::{DefaultConfig, DynamicTopicConfig, StaticBrokerConfig};
        let set = ("log.segment.bytes", "100000", StaticBrokerConfig);
        let default = ("log.segment.bytes", "1073741824", DefaultConfig);
        check(describe_broker(&settings), "log.segment.bytes", &[set, default]);
        check(describe_broker(&Settings::default()), "log.segment.bytes", &[default]);
        let own = ("segment.bytes", "70000", DynamicTopicConfig);
        check(describe_topic(&settings, &overrides), "segment.bytes", &[own, set, default]);
        check(describe_topic(&settings, &BTreeMap::new()), "segment.bytes", &[set, default]);
    }

    #[test]
    fn a_topic_has_only_topic_settings_and_they_can_change() {
        let rows = describe_topic(&Settings::default(), &BTreeMap::new());
        assert!(rows.iter().all(|row| !row.read_only && row.name != "num.partitions"));
        assert_eq!(rows.len(), TABLE.iter().filter(|row| row.topic_name.is_some()).count());
        assert!(describe_broker(&Settings::default()).iter().all(|row| row.read_only));
    }
}
