//! The values a setting can have, and their text form.
//!
//! *Owns*: parsing and showing one value. *Never*: knows which setting it is for. *Runs on*: every core.

use std::fmt;
use std::path::PathBuf;

use crate::base::ids::{NodeId, PartitionIndex};
use crate::base::limits::CORES_MAX;
pub use crate::base::time::TimestampType;

/// A setting's type as Kafka's admin clients see it (DescribeConfigs `config_type`,
/// `org.apache.kafka.clients.admin.ConfigEntry.ConfigType`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i8)]
pub enum Kind {
    Boolean = 1,
    String = 2,
    Int = 3,
    Short = 4,
    Long = 5,
    Double = 6,
    List = 7,
}

impl Kind {
    /// The number on the wire.
    pub fn code(self) -> i8 {
        self as i8
    }

    pub fn is_number(self) -> bool {
        matches!(self, Kind::Int | Kind::Short | Kind::Long)
    }

    pub fn name(self) -> &'static str {
        match self {
            Kind::Boolean => "boolean",
            Kind::String => "string",
            Kind::Int => "int",
            Kind::Short => "short",
            Kind::Long => "long",
            Kind::Double => "double",
            Kind::List => "list",
        }
    }
}

/// What a number counts. Sizes and times may be written with a suffix on the command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    Count,
    Bytes,
    Ms,
}

/// Where a listener is, or is said to be.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Address {
    /// A name or an IP address; IPv6 without its brackets.
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The processors that get an executor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cores {
    /// Every processor this process may run on.
    All,
    /// The first so many of them.
    Count(u16),
    /// Exactly these, by the operating system's number, ascending, without repeats, at least one.
    List(Vec<u16>),
}

/// What becomes of old records (`cleanup.policy`). At least one is true.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CleanupPolicy {
    pub delete: bool,
    pub compact: bool,
}

/// Replicas of a topic that are copied at a bounded rate (`leader.replication.throttled.replicas`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ThrottledReplicas {
    /// Those of these partitions on these nodes.
    Listed(Vec<(PartitionIndex, NodeId)>),
    All,
}

impl ThrottledReplicas {
    pub const NONE: ThrottledReplicas = ThrottledReplicas::Listed(Vec::new());

    pub fn holds(&self, partition: PartitionIndex, node: NodeId) -> bool {
        match self {
            ThrottledReplicas::Listed(listed) => listed.contains(&(partition, node)),
            ThrottledReplicas::All => true,
        }
    }
}

/// A part of a whole, in millionths: at most all of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ratio(pub u32);

impl Ratio {
    const WHOLE: u32 = 1_000_000;

    /// `part` of `whole`; nothing of nothing.
    pub fn of(part: u64, whole: u64) -> Ratio {
        let millionths = u128::from(part) * u128::from(Self::WHOLE) / u128::from(whole.max(1));
        Ratio(u32::try_from(millionths).unwrap_or(Self::WHOLE).min(Self::WHOLE))
    }
}

/// What an acknowledgement waits for (`durability`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// The records are on stable storage.
    Sync,
    /// The device has taken them.
    Write,
}

/// How the broker deals out partitions to the members of a consumer group (KIP-848).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Assignor {
    /// Every member as many as every other, as far as subscriptions allow, and each keeps what it had.
    Uniform,
    /// The partitions of each topic as consecutive ranges, the same for topics with equally many.
    Range,
}

impl Assignor {
    const ALL: &[Assignor] = &[Assignor::Uniform, Assignor::Range];

    /// Kafka's name.
    pub const fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }
}

/// Which groups with members change their protocol when a member of the other one joins or the last member of their
/// own leaves (`group.consumer.migration.policy`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MigrationPolicy {
    /// From the classic to the consumer protocol.
    pub upgrade: bool,
    /// Back.
    pub downgrade: bool,
}

/// One value's text form, exact: what `show` gives, `parse` takes.
pub(super) trait Value: Sized {
    /// Errors say what is allowed: "must be …".
    fn parse(text: &str) -> Result<Self, String>;
    fn show(&self) -> String;
}

macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl Value for $type {
            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("must be a whole number from {} to {}", <$type>::MIN, <$type>::MAX))
            }
            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

numbers!(i16, i32, i64, u32, u64);

impl Value for bool {
    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("must be true or false".into()),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for String {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Value for PathBuf {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("must be the path of a directory".into());
        }
        Ok(PathBuf::from(text))
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

/// A path that may be absent: nothing is none.
impl Value for Option<PathBuf> {
    fn parse(text: &str) -> Result<Self, String> {
        Ok((!text.is_empty()).then(|| PathBuf::from(text)))
    }

    fn show(&self) -> String {
        self.as_ref().map_or(String::new(), Value::show)
    }
}

/// A port that may be absent: 0 is none.
impl Value for Option<u16> {
    fn parse(text: &str) -> Result<Self, String> {
        let port: u16 = text.parse().map_err(|_| "must be a port from 1 to 65535, or 0 for none".to_string())?;
        Ok((port != 0).then_some(port))
    }

    fn show(&self) -> String {
        self.unwrap_or(0).to_string()
    }
}

/// An address that may be absent: nothing is none.
impl Value for Option<Address> {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { Address::parse(text).map(Some) }
    }

    fn show(&self) -> String {
        self.as_ref().map_or(String::new(), Value::show)
    }
}

/// Addresses with commas between.
impl Value for Vec<Address> {
    fn parse(text: &str) -> Result<Self, String> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(Address::parse).collect()
    }

    fn show(&self) -> String {
        self.iter().map(Value::show).collect::<Vec<_>>().join(",")
    }
}

impl Value for Address {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "must be host:port, such as 127.0.0.1:9092 or [::1]:9092".to_string();
        // Kafka writes listeners with their security protocol.
        let text = text.strip_prefix("PLAINTEXT://").unwrap_or(text);
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').ok_or_else(wrong)?,
            None if host.contains([':', '/', ' ', ',']) => return Err(wrong()),
            // As in Kafka, no host means every interface.
            None if host.is_empty() => "0.0.0.0",
            None => host,
        };
        Ok(Address { host: host.to_owned(), port })
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for Cores {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "must be `all`, a count from 1 to {CORES_MAX}, or a list of processors such as 0,2,4-7 (1-1 for processor 1 alone)"
            )
        };
        if text.eq_ignore_ascii_case("all") {
            return Ok(Cores::All);
        }
        if let Ok(count) = text.parse::<u16>() {
            return if (1..=CORES_MAX).contains(&usize::from(count)) { Ok(Cores::Count(count)) } else { Err(wrong()) };
        }
        let mut list = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: u16 = first.trim().parse().map_err(|_| wrong())?;
            let last: u16 = last.trim().parse().map_err(|_| wrong())?;
            if first > last || usize::from(last - first) >= CORES_MAX {
                return Err(wrong());
            }
            list.extend(first..=last);
            if list.len() > CORES_MAX {
                return Err(wrong());
            }
        }
        list.sort_unstable();
        if list.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("must not name a processor twice".into());
        }
        Ok(Cores::List(list))
    }

    fn show(&self) -> String {
        match self {
            Cores::All => "all".into(),
            Cores::Count(count) => count.to_string(),
            Cores::List(list) if list.len() == 1 => format!("{0}-{0}", list[0]),
            Cores::List(list) => list.iter().map(u16::to_string).collect::<Vec<_>>().join(","),
        }
    }
}

impl Value for TimestampType {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "CreateTime" => Ok(TimestampType::CreateTime),
            "LogAppendTime" => Ok(TimestampType::LogAppendTime),
            _ => Err("must be CreateTime or LogAppendTime".into()),
        }
    }

    fn show(&self) -> String {
        match self {
            TimestampType::CreateTime => "CreateTime".into(),
            TimestampType::LogAppendTime => "LogAppendTime".into(),
        }
    }
}

impl Value for Durability {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "sync" => Ok(Durability::Sync),
            "write" => Ok(Durability::Write),
            _ => Err("must be sync or write".into()),
        }
    }

    fn show(&self) -> String {
        match self {
            Durability::Sync => "sync".into(),
            Durability::Write => "write".into(),
        }
    }
}

impl Value for Ratio {
    fn parse(text: &str) -> Result<Self, String> {
        let ratio: f64 = text.parse().unwrap_or(f64::NAN);
        if !(0.0..=1.0).contains(&ratio) {
            return Err("must be a number from 0 to 1".into());
        }
        Ok(Ratio((ratio * f64::from(Self::WHOLE)).round() as u32))
    }

    fn show(&self) -> String {
        let shown = (f64::from(self.0) / f64::from(Self::WHOLE)).to_string();
        if shown.contains('.') { shown } else { format!("{shown}.0") }
    }
}

impl Value for CleanupPolicy {
    fn parse(text: &str) -> Result<Self, String> {
        let mut policy = CleanupPolicy { delete: false, compact: false };
        for part in text.split(',') {
            match part.trim() {
                "delete" => policy.delete = true,
                "compact" => policy.compact = true,
                _ => return Err("must be delete, compact, or both with a comma between".into()),
            }
        }
        Ok(policy)
    }

    fn show(&self) -> String {
        match (self.compact, self.delete) {
            (true, true) => "compact,delete".into(),
            (true, false) => "compact".into(),
            (false, _) => "delete".into(),
        }
    }
}

impl Value for ThrottledReplicas {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "must be `*`, nothing, or pairs of a partition and a broker: 0:1,0:2,1:2".to_owned();
        match text.trim() {
            "*" => return Ok(ThrottledReplicas::All),
            "" | "none" => return Ok(ThrottledReplicas::NONE),
            _ => {}
        }
        let number = |text: &str| text.trim().parse().ok().filter(|number: &i32| *number >= 0).ok_or_else(wrong);
        let pairs = text.split(',').map(|pair| {
            let (partition, node) = pair.split_once(':').ok_or_else(wrong)?;
            Ok((PartitionIndex(number(partition)?), NodeId(number(node)?)))
        });
        pairs.collect::<Result<_, String>>().map(ThrottledReplicas::Listed)
    }

    fn show(&self) -> String {
        match self {
            ThrottledReplicas::All => "*".to_owned(),
            ThrottledReplicas::Listed(listed) => {
                let pairs = listed.iter().map(|(partition, node)| format!("{partition}:{node}"));
                pairs.collect::<Vec<_>>().join(",")
            }
        }
    }
}

/// The first is taken where members wish for none.
impl Value for Vec<Assignor> {
    fn parse(text: &str) -> Result<Self, String> {
        let mut assignors = Vec::new();
        for part in text.split(',') {
            let assignor = Assignor::ALL.iter().find(|assignor| assignor.name() == part.trim());
            match assignor {
                Some(assignor) if !assignors.contains(assignor) => assignors.push(*assignor),
                _ => return Err("must be uniform, range, or both with a comma between".into()),
            }
        }
        Ok(assignors)
    }

    fn show(&self) -> String {
        self.iter().map(|assignor| assignor.name()).collect::<Vec<_>>().join(",")
    }
}

impl Value for MigrationPolicy {
    fn parse(text: &str) -> Result<Self, String> {
        let (upgrade, downgrade) = match text.to_ascii_lowercase().as_str() {
            "disabled" => (false, false),
            "upgrade" => (true, false),
            "downgrade" => (false, true),
            "bidirectional" => (true, true),
            _ => return Err("must be disabled, upgrade, downgrade or bidirectional".into()),
        };
        Ok(MigrationPolicy { upgrade, downgrade })
    }

    fn show(&self) -> String {
        match (self.upgrade, self.downgrade) {
            (false, false) => "disabled".into(),
            (true, false) => "upgrade".into(),
            (false, true) => "downgrade".into(),
            (true, true) => "bidirectional".into(),
        }
    }
}

/// Reads a whole number with an optional suffix of its unit: `64MiB`, `7d`, `500ms`.
pub(super) fn parse_with_suffix(text: &str, unit: Unit) -> Result<i64, String> {
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '-' || c == '_')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let allowed = match unit {
        Unit::Count => "must be a whole number",
        Unit::Bytes => "must be a whole number of bytes, or one with KiB, MiB, GiB or TiB",
        Unit::Ms => "must be a whole number of milliseconds, or one with ms, s, m, h or d",
    };
    let scale: i64 = match (unit, suffix.trim()) {
        (_, "") => 1,
        (Unit::Bytes, "KiB" | "K" | "k") => 1 << 10,
        (Unit::Bytes, "MiB" | "M") => 1 << 20,
        (Unit::Bytes, "GiB" | "G") => 1 << 30,
        (Unit::Bytes, "TiB" | "T") => 1 << 40,
        (Unit::Bytes, "B") | (Unit::Ms, "ms") => 1,
        (Unit::Ms, "s") => 1_000,
        (Unit::Ms, "m" | "min") => 60_000,
        (Unit::Ms, "h") => 3_600_000,
        (Unit::Ms, "d") => 86_400_000,
        _ => return Err(allowed.into()),
    };
    let number: i64 = number.replace('_', "").parse().map_err(|_| allowed.to_string())?;
    number.checked_mul(scale).ok_or_else(|| "must fit 63 bits".to_string())
}

/// A number as a person says it: `1 GiB`, `7 d`; nothing when that would be no shorter.
pub(super) fn in_words(number: i64, unit: Unit) -> Option<String> {
    if number == i64::MAX {
        return Some("no bound".into());
    }
    let scales: &[(i64, &str)] = match unit {
        Unit::Count => return None,
        Unit::Bytes => &[(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")],
        Unit::Ms => &[(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")],
    };
    if number <= 0 {
        return None;
    }
    scales.iter().find(|(scale, _)| number % scale == 0).map(|(scale, name)| format!("{} {name}", number / scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<V: Value>(input: &str, expect: Result<&str, &str>) {
        match (V::parse(input), expect) {
            (Ok(value), Ok(shown)) => {
                assert_eq!(value.show(), shown, "{input}");
                assert_eq!(V::parse(shown).expect("what is shown can be parsed").show(), shown);
            }
            (Err(message), Err(part)) => assert!(message.contains(part), "{input}: {message}"),
            (Ok(value), Err(_)) => panic!("{input} was taken as {}", value.show()),
            (Err(message), Ok(_)) => panic!("{input}: {message}"),
        }
    }

    #[test]
    fn values_are_parsed_and_shown() {
        check::<Address>("127.0.0.1:9092", Ok("127.0.0.1:9092"));
        check::<Address>("[::1]:9092", Ok("[::1]:9092"));
        check::<Address>("PLAINTEXT://:9092", Ok("0.0.0.0:9092"));
        check::<Address>("::1:9092", Err("[::1]:9092"));
        check::<Address>("SSL://host:9092", Err("host:port"));
        check::<Address>("host", Err("host:port"));
        check::<Address>("host:99999", Err("host:port"));
        check::<Cores>("ALL", Ok("all"));
        check::<Cores>("4", Ok("4"));
        check::<Cores>("0", Err("a count from 1"));
        check::<Cores>("9999", Err("a count from 1"));
        check::<Cores>("6-7,0,2", Ok("0,2,6,7"));
        check::<Cores>("1-1", Ok("1-1"));
        check::<Cores>("0,0-1", Err("twice"));
        check::<Cores>("3-1", Err("0,2,4-7"));
        check::<Cores>("0-65535", Err("0,2,4-7"));
        check::<Cores>("", Err("0,2,4-7"));
        check::<CleanupPolicy>("delete, compact", Ok("compact,delete"));
        check::<CleanupPolicy>("", Err("delete, compact"));
        check::<ThrottledReplicas>("*", Ok("*"));
        check::<ThrottledReplicas>("none", Ok(""));
        check::<ThrottledReplicas>("0:1, 7:2", Ok("0:1,7:2"));
        for wrong in ["0", "0:", "0:1,", "-1:2", "a:b", "0:1:2"] {
            check::<ThrottledReplicas>(wrong, Err("pairs of a partition and a broker"));
        }
        check::<TimestampType>("createtime", Err("CreateTime"));
        check::<TimestampType>("LogAppendTime", Ok("LogAppendTime"));
        check::<Ratio>("0.5", Ok("0.5"));
        check::<Ratio>("1", Ok("1.0"));
        check::<Ratio>("1.1", Err("from 0 to 1"));
        check::<Ratio>("NaN", Err("from 0 to 1"));
        check::<Durability>("sync", Ok("sync"));
        check::<Durability>("write", Ok("write"));
        check::<Durability>("Sync", Err("sync or write"));
        check::<bool>("TRUE", Ok("true"));
        check::<bool>("yes", Err("true or false"));
        check::<Option<u16>>("0", Ok("0"));
        check::<Option<u16>>("19092", Ok("19092"));
        check::<Option<u16>>("70000", Err("65535"));
        check::<PathBuf>("", Err("directory"));
        check::<u32>("-1", Err("from 0 to 4294967295"));
    }

    #[test]
    fn suffixes_are_of_the_unit() {
        let rows: &[(&str, Unit, Result<i64, &str>)] = &[
            ("64MiB", Unit::Bytes, Ok(64 << 20)),
            ("1 GiB", Unit::Bytes, Ok(1 << 30)),
            ("1_000", Unit::Bytes, Ok(1000)),
            ("-1", Unit::Bytes, Ok(-1)),
            ("7d", Unit::Ms, Ok(604_800_000)),
            ("500ms", Unit::Ms, Ok(500)),
            ("2min", Unit::Ms, Ok(120_000)),
            ("1.5GiB", Unit::Bytes, Err("KiB")),
            ("64MiB", Unit::Ms, Err("milliseconds")),
            ("7d", Unit::Count, Err("whole number")),
            ("MiB", Unit::Bytes, Err("whole number of bytes")),
            ("9999999999TiB", Unit::Bytes, Err("63 bits")),
            ("7é", Unit::Ms, Err("milliseconds")),
        ];
        for (text, unit, expect) in rows {
            match (parse_with_suffix(text, *unit), expect) {
                (Ok(number), Ok(wanted)) => assert_eq!(number, *wanted, "{text}"),
                (Err(message), Err(part)) => assert!(message.contains(part), "{text}: {message}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }
}
