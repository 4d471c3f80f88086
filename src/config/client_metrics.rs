//! The settings of a subscription to what clients measure (KIP-714; Kafka's `ClientMetricsConfigs`): which metrics, how
//! often, of which clients. No broker has them, so they have a table of their own.
//!
//! *Owns*: the rows, and what their values mean. *Never*: knows a client. *Runs on*: core 0 checks; every core matches.

use super::describe::{ConfigSource, Described, Synonym};
use super::level::{Overrides, parts};
use super::row::{SettingError, unknown};
use super::values::Kind;
use crate::base::pattern::Pattern;

const METRICS: &str = "metrics";
const INTERVAL_MS: &str = "interval.ms";
const MATCH: &str = "match";

/// How often a client pushes that no subscription says anything else to.
pub const INTERVAL_MS_DEFAULT: u32 = 300_000;
const INTERVAL_MS_MIN: u32 = 100;
const INTERVAL_MS_MAX: u32 = 3_600_000;

/// Stands for all metrics.
const ALL: &str = "*";

struct Row {
    name: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
}

const ROWS: [Row; 3] = [
    Row {
        name: METRICS,
        kind: Kind::List,
        default: "",
        doc: "Prefixes of the names of the metrics that clients are to push; * for all. Empty: none.",
    },
    Row {
        name: INTERVAL_MS,
        kind: Kind::Int,
        default: "300000",
        doc: "How often clients push them: 100 to 3600000 ms.",
    },
    Row {
        name: MATCH,
        kind: Kind::List,
        default: "",
        doc: "Which clients do: attribute=pattern, all of which must match the whole value. Attributes are \
              client_instance_id, client_id, client_software_name, client_software_version, client_source_address and \
              client_source_port; patterns are regular expressions of RE2. Empty: all clients.",
    },
];

/// What is known of a client, and can be matched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientAttribute {
    InstanceId,
    ClientId,
    SoftwareName,
    SoftwareVersion,
    SourceAddress,
    SourcePort,
}

impl ClientAttribute {
    pub const ALL: [ClientAttribute; 6] = [
        ClientAttribute::InstanceId,
        ClientAttribute::ClientId,
        ClientAttribute::SoftwareName,
        ClientAttribute::SoftwareVersion,
        ClientAttribute::SourceAddress,
        ClientAttribute::SourcePort,
    ];

    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            ClientAttribute::InstanceId => "client_instance_id",
            ClientAttribute::ClientId => "client_id",
            ClientAttribute::SoftwareName => "client_software_name",
            ClientAttribute::SoftwareVersion => "client_software_version",
            ClientAttribute::SourceAddress => "client_source_address",
            ClientAttribute::SourcePort => "client_source_port",
        }
    }
}

/// What a subscription is set to.
#[derive(Debug)]
pub struct MetricsSubscription {
    pub metrics: Vec<String>,
    pub interval_ms: u32,
    patterns: Vec<(ClientAttribute, Pattern)>,
}

impl MetricsSubscription {
    /// Errors: an unknown name, or a value that cannot be.
    pub fn resolve(overrides: &Overrides) -> Result<MetricsSubscription, SettingError> {
        let mut resolved =
            MetricsSubscription { metrics: Vec::new(), interval_ms: INTERVAL_MS_DEFAULT, patterns: Vec::new() };
        for (name, value) in overrides {
            match name.as_str() {
                METRICS => resolved.metrics = parts(value).map(str::to_owned).collect(),
                INTERVAL_MS => resolved.interval_ms = interval(value)?,
                MATCH => resolved.patterns = parts(value).map(pattern).collect::<Result<_, _>>()?,
                _ => return Err(unknown(name, ROWS.iter().map(|row| row.name))),
            }
        }
        Ok(resolved)
    }

    pub fn is_of_all_metrics(&self) -> bool {
        self.metrics.iter().any(|metric| metric == ALL)
    }

    /// Whether this is of a client that has these attributes.
    pub fn matches(&self, attribute: impl Fn(ClientAttribute) -> String) -> bool {
        self.patterns.iter().all(|(of, pattern)| pattern.matches(&attribute(*of)))
    }
}

/// Every setting of a subscription, whose own are `overrides`.
pub fn describe_client_metrics(overrides: &Overrides) -> Vec<Described> {
    let described = |row: &Row| {
        let default = Synonym { name: row.name, value: row.default.to_owned(), source: ConfigSource::DefaultConfig };
        let own = overrides.get(row.name).cloned();
        let own = own.map(|value| Synonym { name: row.name, value, source: ConfigSource::ClientMetricsConfig });
        let synonyms: Vec<Synonym> = own.into_iter().chain([default]).collect();
        Described {
            name: row.name,
            value: synonyms[0].value.clone(),
            read_only: false,
            source: synonyms[0].source,
            sensitive: false,
            config_type: row.kind,
            doc: row.doc.to_owned(),
            synonyms,
        }
    };
    ROWS.iter().map(described).collect()
}

/// The kind and the default of a setting.
pub(super) fn find(name: &str) -> Result<(Kind, String), SettingError> {
    match ROWS.iter().find(|row| row.name == name) {
        Some(row) => Ok((row.kind, row.default.to_owned())),
        None => Err(unknown(name, ROWS.iter().map(|row| row.name))),
    }
}

fn interval(value: &str) -> Result<u32, SettingError> {
    let allowed = INTERVAL_MS_MIN..=INTERVAL_MS_MAX;
    value.parse().ok().filter(|ms| allowed.contains(ms)).ok_or_else(|| {
        refused(INTERVAL_MS, format!("must be {INTERVAL_MS_MIN} to {INTERVAL_MS_MAX} (an hour), not `{value}`"))
    })
}

fn pattern(text: &str) -> Result<(ClientAttribute, Pattern), SettingError> {
    let wrong = |why: String| refused(MATCH, format!("has `{text}`, which cannot be: {why}"));
    let (name, pattern) = match text.split_once('=') {
        Some((name, pattern)) if !pattern.contains('=') && !pattern.trim().is_empty() => (name.trim(), pattern.trim()),
        _ => return Err(wrong("each is an attribute, =, and a pattern without another =".into())),
    };
    let Some(attribute) = ClientAttribute::ALL.into_iter().find(|attribute| attribute.name() == name) else {
        let names = ClientAttribute::ALL.map(ClientAttribute::name).join(", ");
        return Err(wrong(format!("attributes are {names}")));
    };
    Pattern::new(pattern).map(|pattern| (attribute, pattern)).map_err(wrong)
}

fn refused(name: &str, message: String) -> SettingError {
    SettingError { name: name.to_owned(), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(name: &str, value: &str) -> Result<MetricsSubscription, SettingError> {
        MetricsSubscription::resolve(&Overrides::from([(name.to_owned(), value.to_owned())]))
    }

    #[test]
    fn subscriptions_mean_what_they_are_set_to() {
        let nothing = MetricsSubscription::resolve(&Overrides::new()).expect("nothing is wrong with nothing");
        assert_eq!((nothing.metrics.len(), nothing.interval_ms), (0, INTERVAL_MS_DEFAULT));
        assert!(nothing.matches(|_| String::new()));
        let some = resolve(METRICS, "org.apache.kafka.producer., org.apache.kafka.consumer.").expect("prefixes");
        assert_eq!(some.metrics, ["org.apache.kafka.producer.", "org.apache.kafka.consumer."]);
        assert!(!some.is_of_all_metrics());
        assert!(resolve(METRICS, "a,*").expect("all").is_of_all_metrics());
        assert_eq!(resolve(INTERVAL_MS, "100").expect("the shortest").interval_ms, 100);
        assert_eq!(resolve(INTERVAL_MS, "3600000").expect("the longest").interval_ms, 3_600_000);
    }

    #[test]
    fn clients_match_by_all_patterns_and_whole_values() {
        let check = |patterns: &str, expect: bool| {
            let subscription = resolve(MATCH, patterns).unwrap_or_else(|error| panic!("{error}"));
            let matches = subscription.matches(|attribute| match attribute {
                ClientAttribute::InstanceId => "00000000-0000-0000-0000-000000000007".into(),
                ClientAttribute::ClientId => "loader-1".into(),
                ClientAttribute::SoftwareName => "librdkafka".into(),
                ClientAttribute::SoftwareVersion => "2.12.1".into(),
                ClientAttribute::SourceAddress => "10.0.0.1".into(),
                ClientAttribute::SourcePort => "40000".into(),
            });
            assert_eq!(matches, expect, "{patterns}");
        };
        check("client_id=loader-[0-9]", true);
        check("client_id=loader", false);
        check("client_id = loader-.* , client_software_name = librd.*", true);
        check("client_id=loader-.*,client_software_name=java", false);
        check("client_instance_id=.*7,client_software_version=2\\..*", true);
        check("client_source_address=10\\.0\\..*,client_source_port=40000", true);
        check("client_source_port=4", false);
    }

    #[test]
    fn values_that_cannot_be_are_refused() {
        let check = |name: &str, value: &str, part: &str| {
            let error = resolve(name, value).expect_err(part);
            assert!(error.to_string().contains(part), "{error}");
        };
        check(INTERVAL_MS, "99", "interval.ms must be 100 to 3600000");
        check(INTERVAL_MS, "3600001", "not `3600001`");
        check(INTERVAL_MS, "often", "not `often`");
        check(MATCH, "client_id", "each is an attribute, =, and a pattern");
        check(MATCH, "client_id=", "each is an attribute, =, and a pattern");
        check(MATCH, "client_id=a=b", "each is an attribute, =, and a pattern");
        check(MATCH, "client=a", "attributes are client_instance_id, client_id");
        check(MATCH, "client_id=(", "unclosed group");
        check("interval", "100", "did you mean `interval.ms`?");
    }

    #[test]
    fn all_settings_are_described_with_where_they_come_from() {
        let own = Overrides::from([(INTERVAL_MS.to_owned(), "100".to_owned())]);
        let rows = describe_client_metrics(&own);
        let shown: Vec<_> = rows.iter().map(|row| (row.name, row.value.as_str(), row.source)).collect();
        use ConfigSource::{ClientMetricsConfig, DefaultConfig};
        assert_eq!(
            shown,
            [(METRICS, "", DefaultConfig), (INTERVAL_MS, "100", ClientMetricsConfig), (MATCH, "", DefaultConfig)]
        );
        assert_eq!(rows[1].synonyms[1].value, INTERVAL_MS_DEFAULT.to_string());
    }
}
