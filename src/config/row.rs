//! A row of the settings table: what is known about one setting, and how a text becomes its value.
//!
//! *Owns*: range checks and the errors they give. *Never*: lists settings. *Runs on*: every core.

use std::fmt;

use super::table::{Settings, TABLE};
use super::values::{Kind, Unit, in_words, parse_with_suffix};

/// One setting.
pub struct Row {
    /// Kafka's name where Kafka has the setting.
    pub name: &'static str,
    pub kind: Kind,
    pub unit: Unit,
    /// Smallest and largest value, of numbers.
    pub min: i64,
    pub max: i64,
    /// The values allowed, where a list of words says it.
    pub choices: &'static [&'static str],
    /// The name a topic overrides it by.
    pub topic_name: Option<&'static str>,
    /// The name a group overrides it by.
    pub group_name: Option<&'static str>,
    /// Whether it can be changed while the broker runs, for this broker or for all of the cluster.
    pub dynamic: bool,
    /// Other names of the same setting in Kafka's files, with the factor that brings their value into our unit.
    pub aliases: &'static [(&'static str, i64)],
    /// Why the setting is taken although nothing depends on it yet.
    pub inert: Option<&'static str>,
    pub(super) heading: &'static str,
    pub(super) doc: &'static str,
    pub(super) show: fn(&Settings) -> String,
    pub(super) store: fn(&mut Settings, &str) -> Result<(), String>,
}

/// Where a broker setting's value came from; a later one beats an earlier one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Origin {
    Default,
    File,
    Environment,
    Flag,
    /// Changed while running, for all brokers of the cluster.
    ClusterDefault,
    /// Changed while running, for this broker.
    Broker,
}

/// How a value is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notation {
    /// As in Kafka's files and requests: plain numbers.
    Kafka,
    /// As a person types it: `64MiB` and `7d` too.
    Typed,
}

/// A value that cannot be. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SettingError {
    /// The setting as the user wrote it.
    pub name: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.message)
    }
}

impl std::error::Error for SettingError {}

impl Row {
    const fn new(name: &'static str, kind: Kind, unit: Unit, min: i64, max: i64) -> Row {
        Row {
            name,
            kind,
            unit,
            min,
            max,
            choices: &[],
            topic_name: None,
            group_name: None,
            dynamic: false,
            aliases: &[],
            inert: None,
            heading: "",
            doc: "",
            show: |_| unreachable!("the table fills it in"),
            store: |_, _| unreachable!("the table fills it in"),
        }
    }

    /// What topics override is read at every use, so that it can change at any time.
    pub(super) const fn topic(mut self, name: &'static str) -> Row {
        self.topic_name = Some(name);
        self.dynamic()
    }

    pub(super) const fn group(mut self, name: &'static str) -> Row {
        self.group_name = Some(name);
        self
    }

    pub(super) const fn dynamic(mut self) -> Row {
        self.dynamic = true;
        self
    }

    pub(super) const fn within(mut self, min: i64, max: i64) -> Row {
        assert!(min <= max);
        self.min = min;
        self.max = max;
        self
    }

    pub(super) const fn alias(mut self, aliases: &'static [(&'static str, i64)]) -> Row {
        self.aliases = aliases;
        self
    }

    pub(super) const fn one_of(mut self, choices: &'static [&'static str]) -> Row {
        self.choices = choices;
        self
    }

    pub(super) const fn inert(mut self, why: &'static str) -> Row {
        self.inert = Some(why);
        self
    }

    /// What the setting does, in one paragraph.
    pub fn doc(&self) -> String {
        let doc = self.doc.trim();
        match self.inert {
            Some(why) => format!("{doc} {why}"),
            None => doc.to_owned(),
        }
    }

    pub fn heading(&self) -> &'static str {
        self.heading
    }

    /// `--log-segment-bytes`, without the dashes.
    pub fn flag(&self) -> String {
        self.name.replace('.', "-")
    }

    /// `CORELOG_LOG_SEGMENT_BYTES`.
    pub fn variable(&self) -> String {
        format!("CORELOG_{}", self.name.replace('.', "_").to_ascii_uppercase())
    }

    /// The default, as a person reads it.
    pub fn default_text(&self) -> String {
        let text = self.show(&Settings::default());
        match text.parse().ok().and_then(|number| in_words(number, self.unit)) {
            Some(words) => format!("{text} ({words})"),
            None if text.is_empty() => "empty".into(),
            None => text,
        }
    }

    /// The value in force, in Kafka's notation.
    pub fn show(&self, settings: &Settings) -> String {
        (self.show)(settings)
    }

    /// Reads `text` into the setting. On an error nothing is changed.
    pub fn assign(&self, settings: &mut Settings, text: &str, notation: Notation) -> Result<(), SettingError> {
        self.assign_as(self.name, 1, settings, text, notation)
    }

    /// As [`Row::assign`], with the name the user wrote (a topic's name, an alias) and the factor of its unit.
    pub(super) fn assign_as(
        &self,
        name: &str,
        factor: i64,
        settings: &mut Settings,
        text: &str,
        notation: Notation,
    ) -> Result<(), SettingError> {
        let text = text.trim();
        self.value_text(factor, text, notation)
            .and_then(|exact| (self.store)(settings, &exact))
            .map_err(|why| SettingError { name: name.to_owned(), message: format!("{why}, not `{text}`") })
    }

    /// The range, as a person reads it; empty when the type says it all.
    pub fn range(&self) -> String {
        if !self.choices.is_empty() {
            return self.choices.join(", ");
        }
        if !self.kind.is_number() {
            return String::new();
        }
        match (self.min, self.max) {
            (min, max) if min == max => format!("{min} only"),
            (min, max) if max == type_max(self.kind) => format!("{} or more", with_words(min, self.unit)),
            (min, max) => format!("{} to {}", with_words(min, self.unit), with_words(max, self.unit)),
        }
    }

    fn value_text(&self, factor: i64, text: &str, notation: Notation) -> Result<String, String> {
        if !self.choices.is_empty() && !self.choices.contains(&text) {
            return Err(format!("must be one of {}", self.choices.join(", ")));
        }
        if !self.kind.is_number() {
            return Ok(text.to_owned());
        }
        let number = match notation {
            Notation::Typed => parse_with_suffix(text, self.unit)?,
            Notation::Kafka => text.parse().map_err(|_| match self.unit {
                Unit::Count => "must be a whole number".to_string(),
                Unit::Bytes => "must be a plain number of bytes here".to_string(),
                Unit::Ms => "must be a plain number of milliseconds here".to_string(),
            })?,
        };
        // Kafka's −1 for "without bound" holds in any unit.
        let number = if number < 0 { number } else { number.saturating_mul(factor) };
        if number < self.min || number > self.max {
            return Err(format!("must be {}", self.range()));
        }
        Ok(number.to_string())
    }
}

fn type_max(kind: Kind) -> i64 {
    match kind {
        Kind::Short => i64::from(i16::MAX),
        Kind::Int => i64::from(i32::MAX),
        _ => i64::MAX,
    }
}

fn with_words(number: i64, unit: Unit) -> String {
    match in_words(number, unit) {
        Some(words) => format!("{number} ({words})"),
        None => number.to_string(),
    }
}

/// The known name nearest to `name`, if one is near enough to be what was meant.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Bounds the work on a name from a request.
    if name.len() > 100 {
        return None;
    }
    known
        .map(|candidate| (distance(name, candidate), candidate))
        .min()
        .filter(|(steps, candidate)| *steps <= 2 + candidate.len() / 6)
        .map(|(_, candidate)| candidate)
}

/// Says that there is no setting `name`, and which one may have been meant.
pub(super) fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> SettingError {
    let hint = match nearest(name, known) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => "; `corelog settings` lists them all".into(),
    };
    SettingError { name: name.to_owned(), message: format!("is not a setting{hint}") }
}

/// Every name a broker setting goes by.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().flat_map(|row| std::iter::once(row.name).chain(row.aliases.iter().map(|(name, _)| *name)))
}

/// Levenshtein's distance, in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

pub(super) const fn boolean(name: &'static str) -> Row {
    Row::new(name, Kind::Boolean, Unit::Count, 0, 0)
}

pub(super) const fn string(name: &'static str) -> Row {
    Row::new(name, Kind::String, Unit::Count, 0, 0)
}

pub(super) const fn list(name: &'static str) -> Row {
    Row::new(name, Kind::List, Unit::Count, 0, 0)
}

pub(super) const fn double(name: &'static str) -> Row {
    Row::new(name, Kind::Double, Unit::Count, 0, 0)
}

pub(super) const fn short(name: &'static str) -> Row {
    Row::new(name, Kind::Short, Unit::Count, 0, i16::MAX as i64)
}

pub(super) const fn int(name: &'static str, unit: Unit) -> Row {
    Row::new(name, Kind::Int, unit, 0, i32::MAX as i64)
}

pub(super) const fn long(name: &'static str, unit: Unit) -> Row {
    Row::new(name, Kind::Long, unit, 0, i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_what_was_meant_or_nothing() {
        for (name, expect) in [
            ("log.segment.byte", Some("log.segment.bytes")),
            ("num.partition", Some("num.partitions")),
            ("nodeid", Some("node.id")),
            ("log.segments.bytes", Some("log.segment.bytes")),
            ("zookeeper.connect", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, names()), expect, "{name}");
        }
        assert_eq!(nearest(&"x".repeat(5000), names()), None);
    }
}
