//! A workload: what is to be sent, how fast, by whom, for how long.
//!
//! Each key is a line of a TOML file and a flag of the same name; a flag beats the file.
//!
//! *Owns*: the keys, their defaults, and which combinations are possible. *Never*: does any of it.
//! *Runs on*: any thread.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use toml::Spanned;

use crate::bench::payload::{FillerPool, KeySpread, Keys, PayloadError, Sizes, VALUE_BYTES_MAX, ZIPF_KEYS_MAX};
use crate::bench::topics::Topics;
use crate::wire::compression::Compression;

/// Records a second that no machine handles: a rate above is a slip of the pen.
pub const RATE_MAX: f64 = 1e9;

/// Producers and consumers, each.
pub const CLIENTS_MAX: u32 = 10_000;

/// Threads of the generator.
pub const THREADS_MAX: u32 = 256;

/// Topics of one run.
pub const TOPICS_MAX: u32 = 10_000;

/// Partitions of all topics of a run together.
pub const PARTITIONS_MAX: u64 = 1 << 20;

/// Streams, which are counted each by itself: producers × partitions of all topics.
pub const STREAMS_MAX: u64 = 4 << 20;

const DAY_NS: u64 = 86_400_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// When the next record of a producer is due.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Spacing {
    /// Equally far apart.
    #[default]
    Fixed,
    /// As if each came by itself: the gaps are exponentially distributed.
    Poisson,
}

/// Where records without a key go.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Partitioner {
    /// To one partition until its batch is closed, then to the next.
    #[default]
    Sticky,
    RoundRobin,
}

const SPACINGS: [(&str, Spacing); 2] = [("fixed", Spacing::Fixed), ("poisson", Spacing::Poisson)];

const PARTITIONERS: [(&str, Partitioner); 2] =
    [("sticky", Partitioner::Sticky), ("round-robin", Partitioner::RoundRobin)];

/// What consumers read.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum ReadMode {
    /// What comes while they are there.
    #[default]
    Live,
    /// A backlog that was written before, beside producers who go on.
    Drain,
    /// A backlog, and nothing else goes on.
    CatchUp,
}

const READ_MODES: [(&str, ReadMode); 3] =
    [("live", ReadMode::Live), ("drain", ReadMode::Drain), ("catch-up", ReadMode::CatchUp)];

/// How the members of a group find out who reads what.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum GroupProtocol {
    /// Members join and one of them assigns.
    #[default]
    Classic,
    /// The coordinator assigns (KIP-848).
    Consumer,
}

const GROUP_PROTOCOLS: [(&str, GroupProtocol); 2] =
    [("classic", GroupProtocol::Classic), ("consumer", GroupProtocol::Consumer)];

/// How the topics of a run are called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TopicNames {
    /// So many, by the name of the workload's topic and a number each; one alone by the name itself.
    Numbered(u32),
    Listed(Vec<String>),
}

#[derive(Clone, PartialEq, Debug)]
pub struct Workload {
    pub bootstrap: String,
    pub topic: String,
    pub topic_names: TopicNames,
    /// Of each topic.
    pub partitions: u32,
    pub replication_factor: i16,
    /// Settings that topics are created with.
    pub topic_settings: Vec<(String, String)>,
    pub sizes: Sizes,
    pub payload_ratio: f64,
    pub keys: KeySpread,
    pub partitioner: Partitioner,
    /// Records a second, of all producers together. 0: closed loop.
    pub rate: f64,
    pub spacing: Spacing,
    pub duration_ns: u64,
    pub warmup_ns: u64,
    pub interval_ns: u64,
    pub read_mode: ReadMode,
    /// Records written before the measurement, unless consumers read live.
    pub backlog: u64,
    pub producers: u32,
    pub consumers: u32,
    /// Groups that the consumers are spread over. 0: the generator deals the partitions out among all of them.
    pub groups: u32,
    pub group_protocol: GroupProtocol,
    /// Between commits of a group's member. 0: it never commits.
    pub commit_interval_ns: u64,
    /// −1: all in-sync replicas.
    pub acks: i16,
    pub linger_ns: u64,
    pub batch_bytes: usize,
    pub request_bytes_max: usize,
    /// Per producer: what may wait or be in flight.
    pub buffer_bytes: usize,
    pub compression: Compression,
    pub in_flight: usize,
    pub idempotence: bool,
    pub request_timeout_ns: u64,
    /// From sealing a batch until it is given up.
    pub delivery_timeout_ns: u64,
    /// An interval in which a record was handed over later than this is invalid.
    pub late_max_ns: u64,
    pub threads: u32,
    /// Processors to pin the threads to. Empty: the last ones this process may use.
    pub cpus: Vec<usize>,
    pub seed: u64,
}

impl Default for Workload {
    fn default() -> Workload {
        Workload {
            bootstrap: "127.0.0.1:9092".into(),
            topic: "corelog-bench".into(),
            topic_names: TopicNames::Numbered(1),
            partitions: 1,
            replication_factor: -1,
            topic_settings: Vec::new(),
            sizes: Sizes::Fixed(100),
            payload_ratio: 1.0,
            keys: KeySpread::None,
            partitioner: Partitioner::Sticky,
            rate: 1000.0,
            spacing: Spacing::Fixed,
            duration_ns: 10 * SECOND_NS,
            warmup_ns: 2 * SECOND_NS,
            interval_ns: SECOND_NS,
            read_mode: ReadMode::Live,
            backlog: 0,
            producers: 1,
            consumers: 0,
            groups: 0,
            group_protocol: GroupProtocol::Classic,
            commit_interval_ns: 5 * SECOND_NS,
            acks: -1,
            linger_ns: 0,
            batch_bytes: 16 << 10,
            request_bytes_max: 1 << 20,
            buffer_bytes: 32 << 20,
            compression: Compression::None,
            in_flight: 5,
            idempotence: false,
            request_timeout_ns: 30 * SECOND_NS,
            delivery_timeout_ns: 60 * SECOND_NS,
            late_max_ns: 10_000_000,
            threads: 1,
            cpus: Vec::new(),
            seed: 1,
        }
    }
}

/// One key.
pub struct Row {
    pub key: &'static str,
    pub value_name: &'static str,
    pub doc: &'static str,
    set: fn(&mut Workload, &str) -> Result<(), String>,
    show: fn(&Workload) -> String,
}

macro_rules! rows {
    ($($key:literal $value_name:literal $doc:literal, |$w:ident, $text:ident| $set:expr, |$s:ident| $show:expr;)*) => {
        &[$(Row {
            key: $key,
            value_name: $value_name,
            doc: $doc,
            set: |$w, $text| {
                $set;
                Ok(())
            },
            show: |$s| $show,
        }),*]
    };
}

/// Every key of a workload.
pub const ROWS: &[Row] = rows! {
    "bootstrap" "HOST:PORT" "A broker to begin with; several with commas",
        |w, text| w.bootstrap = bootstrap(text)?, |w| w.bootstrap.clone();
    "topic" "NAME" "The topic; created if it is missing",
        |w, text| w.topic = topic(text)?, |w| w.topic.clone();
    "topics" "N|NAMES" "How many topics, of which each producer writes to all: --topic with -0, -1, … behind it; or their names, with commas, instead of --topic",
        |w, text| w.topic_names = topic_names(text)?, |w| show_topic_names(&w.topic_names);
    "partitions" "N" "Partitions of each topic",
        |w, text| w.partitions = number(text, 1, 100_000)?, |w| w.partitions.to_string();
    "replication-factor" "N" "Replicas of a topic that is created; -1: as the broker has it",
        |w, text| w.replication_factor = number(text, -1, 100)?, |w| w.replication_factor.to_string();
    "topic-settings" "NAME=VALUE,…" "Settings of a topic that is created",
        |w, text| w.topic_settings = pairs(text)?, |w| show_pairs(&w.topic_settings);
    "record-size" "BYTES" "Bytes of a value: a number, a range as 100-2000, a list as 100,2000,2000, or @FILE with one size a line",
        |w, text| w.sizes = sizes(text)?, |w| w.sizes.to_string();
    "payload-ratio" "X" "How many times smaller a compressor makes the values; 1: it finds nothing",
        |w, text| w.payload_ratio = decimal(text, 1.0, 256.0)?, |w| w.payload_ratio.to_string();
    "keys" "KEYS" "none, uniform:COUNT or zipf:COUNT:EXPONENT",
        |w, text| w.keys = keys(text)?, |w| show_keys(w.keys);
    "partitioner" "NAME" "For records without a key: sticky or round-robin",
        |w, text| w.partitioner = one_of(text, &PARTITIONERS)?,
        |w| name_of(w.partitioner, &PARTITIONERS);
    "rate" "RECORDS/S" "Records a second of all producers together; 0: closed loop, as fast as the broker takes them",
        |w, text| w.rate = decimal(text, 0.0, RATE_MAX)?, |w| w.rate.to_string();
    "schedule" "NAME" "Times between records: fixed or poisson",
        |w, text| w.spacing = one_of(text, &SPACINGS)?,
        |w| name_of(w.spacing, &SPACINGS);
    "duration" "TIME" "How long is measured: 30s, 5m, 1h",
        |w, text| w.duration_ns = time(text, 100_000_000, 30 * DAY_NS)?, |w| show_time(w.duration_ns);
    "warmup" "TIME" "How long before that records are sent and not measured",
        |w, text| w.warmup_ns = time(text, 0, DAY_NS)?, |w| show_time(w.warmup_ns);
    "interval" "TIME" "Length of the intervals that are measured one by one",
        |w, text| w.interval_ns = time(text, 10_000_000, DAY_NS)?, |w| show_time(w.interval_ns);
    "mode" "MODE" "live: consumers read what comes; drain: they read a backlog while producers go on; catch-up: nothing but that",
        |w, text| w.read_mode = one_of(text, &READ_MODES)?, |w| name_of(w.read_mode, &READ_MODES);
    "backlog" "N" "Records written before the measurement, with --mode drain or catch-up",
        |w, text| w.backlog = number::<u64>(text, 0, 1_000_000_000_000)?, |w| w.backlog.to_string();
    "producers" "N" "Producers, each with connections of its own",
        |w, text| w.producers = number(text, 0, i64::from(CLIENTS_MAX))?, |w| w.producers.to_string();
    "consumers" "N" "Consumers that share the partitions, or those of --groups; 0: end to end is not measured",
        |w, text| w.consumers = number(text, 0, i64::from(CLIENTS_MAX))?, |w| w.consumers.to_string();
    "groups" "N" "Consumer groups, over which the consumers are spread: each reads everything; 0: partitions are dealt out without",
        |w, text| w.groups = number(text, 0, i64::from(CLIENTS_MAX))?, |w| w.groups.to_string();
    "group-protocol" "NAME" "classic: members join, and one of them assigns; consumer: the broker assigns (KIP-848)",
        |w, text| w.group_protocol = one_of(text, &GROUP_PROTOCOLS)?,
        |w| name_of(w.group_protocol, &GROUP_PROTOCOLS);
    "commit-interval-ms" "MS" "How often members of a group commit what they have read, in milliseconds; 0: never",
        |w, text| w.commit_interval_ns = number::<u64>(text, 0, 86_400_000)? * 1_000_000,
        |w| (w.commit_interval_ns / 1_000_000).to_string();
    "acks" "ACKS" "all, 1 or 0: whose acknowledgement is waited for",
        |w, text| w.acks = one_of(text, &[("all", -1), ("-1", -1), ("1", 1), ("0", 0)])?,
        |w| if w.acks < 0 { "all".into() } else { w.acks.to_string() };
    "linger-ms" "MS" "How long a batch waits for more records, in milliseconds",
        |w, text| w.linger_ns = (decimal(text, 0.0, 3_600_000.0)? * 1e6) as u64, |w| (w.linger_ns as f64 / 1e6).to_string();
    "batch-size" "BYTES" "Bytes at which a batch is full",
        |w, text| w.batch_bytes = bytes(text, 1, 64 << 20)?, |w| w.batch_bytes.to_string();
    "max-request-size" "BYTES" "Bytes of records in one request",
        |w, text| w.request_bytes_max = bytes(text, 1, 100 << 20)?, |w| w.request_bytes_max.to_string();
    "buffer-memory" "BYTES" "Bytes that one producer may keep waiting or in flight",
        |w, text| w.buffer_bytes = bytes(text, 1, 16 << 30)?, |w| w.buffer_bytes.to_string();
    "compression" "NAME" "none, gzip, snappy, lz4 or zstd",
        |w, text| w.compression = one_of(text, &Compression::ALL.map(|c| (c.name(), c)))?, |w| w.compression.name().into();
    "in-flight" "N" "Requests in flight on one connection",
        |w, text| w.in_flight = number::<u32>(text, 1, 1000)? as usize, |w| w.in_flight.to_string();
    "idempotence" "BOOL" "Producers with an id and sequence numbers: true or false",
        |w, text| w.idempotence = one_of(text, &[("true", true), ("false", false)])?, |w| w.idempotence.to_string();
    "request-timeout" "TIME" "How long a reply is waited for",
        |w, text| w.request_timeout_ns = time(text, 10_000_000, DAY_NS)?, |w| show_time(w.request_timeout_ns);
    "delivery-timeout" "TIME" "How long a batch is tried until it counts as an error",
        |w, text| w.delivery_timeout_ns = time(text, 10_000_000, DAY_NS)?, |w| show_time(w.delivery_timeout_ns);
    "late-max" "TIME" "Generator lateness of a record from which its interval is invalid",
        |w, text| w.late_max_ns = time(text, 1, DAY_NS)?, |w| show_time(w.late_max_ns);
    "threads" "N" "Threads of the generator, each on a processor of its own",
        |w, text| w.threads = number(text, 1, i64::from(THREADS_MAX))?, |w| w.threads.to_string();
    "cpus" "LIST" "Processors for the threads, as 2,3 or 4-7; the last ones unless given",
        |w, text| w.cpus = cpus(text)?, |w| w.cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    "seed" "N" "Of everything that is random",
        |w, text| w.seed = number::<i64>(text, 0, i64::MAX)? as u64, |w| w.seed.to_string();
};

/// What is wrong with a workload, and where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkloadError {
    /// `file: line 3: `, or nothing.
    place: String,
    message: String,
}

impl fmt::Display for WorkloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.place, self.message)
    }
}

impl std::error::Error for WorkloadError {}

impl Workload {
    /// Takes one value, as a flag has it.
    pub fn set(&mut self, key: &str, text: &str) -> Result<(), WorkloadError> {
        let row = ROWS.iter().find(|row| row.key == key);
        let row = row.ok_or_else(|| WorkloadError { place: String::new(), message: unknown(key) })?;
        (row.set)(self, text).map_err(|message| WorkloadError { place: format!("--{key}: "), message })
    }

    /// Takes every key of a file. Names of files in it are relative to it.
    pub fn set_from_file(&mut self, path: &Path) -> Result<(), WorkloadError> {
        let text = fs::read_to_string(path).map_err(|error| WorkloadError {
            place: format!("{}: ", path.display()),
            message: format!("cannot be read: {error}"),
        })?;
        self.set_from_toml(&text, path)
    }

    /// The same, from the file's text.
    pub fn set_from_toml(&mut self, text: &str, path: &Path) -> Result<(), WorkloadError> {
        let error = |at: usize, message: String| {
            let line = text.get(..at).unwrap_or(text).matches('\n').count() + 1;
            WorkloadError { place: format!("{}: line {line}: ", path.display()), message }
        };
        let table: Vec<(Spanned<String>, Spanned<toml::Value>)> = match toml::from_str::<Pairs>(text) {
            Ok(pairs) => pairs.0,
            Err(why) => return Err(error(why.span().map_or(0, |span| span.start), why.message().to_owned())),
        };
        for (key, value) in table {
            let at = key.span().start;
            let Some(row) = ROWS.iter().find(|row| row.key == key.get_ref()) else {
                return Err(error(at, unknown(key.get_ref())));
            };
            let mut text = plain(value.get_ref()).map_err(|message| error(at, format!("{}: {message}", row.key)))?;
            if let Some(name) = text.strip_prefix('@') {
                let directory = path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
                text = format!("@{}", directory.join(name).display());
            }
            (row.set)(self, &text).map_err(|message| error(at, format!("{}: {message}", row.key)))?;
        }
        Ok(())
    }

    /// Whether it can be run at all, beyond what each key says by itself.
    pub fn check(&self) -> Result<(), WorkloadError> {
        let refuse = |message: String| Err(WorkloadError { place: String::new(), message });
        if self.producers == 0 && self.consumers == 0 {
            return refuse("there is neither a producer nor a consumer: nothing would be measured".into());
        }
        self.check_topics().map_err(|message| WorkloadError { place: String::new(), message })?;
        if self.read_mode != ReadMode::Live && (self.backlog == 0 || self.producers == 0 || self.consumers == 0) {
            let mode = name_of(self.read_mode, &READ_MODES);
            return refuse(format!(
                "--mode {mode} needs a --backlog, --producers to write it and --consumers to read it"
            ));
        }
        self.check_groups().map_err(|message| WorkloadError { place: String::new(), message })?;
        let bytes_a_second = self.rate * self.sizes.mean_bytes();
        if bytes_a_second > 1e12 {
            return refuse(format!(
                "{bytes_a_second:.0} bytes a second: no machine sends that; lower --rate or --record-size"
            ));
        }
        if self.is_open_loop() && self.rate * (self.duration_ns as f64 / 1e9) < 1.0 {
            return refuse("not one record is due within the duration; raise --rate or --duration".into());
        }
        if self.interval_ns > self.duration_ns {
            return refuse("the interval is longer than the duration".into());
        }
        if self.duration_ns / self.interval_ns > 1_000_000 {
            return refuse("more than a million intervals; lengthen --interval".into());
        }
        if self.idempotence && self.acks != -1 {
            return refuse("--idempotence needs --acks all".into());
        }
        if self.idempotence && self.in_flight > 5 {
            return refuse("--idempotence allows at most 5 requests in flight".into());
        }
        if self.sizes.bytes_max() + 1024 > self.buffer_bytes {
            return refuse("--buffer-memory is smaller than a record".into());
        }
        if !self.cpus.is_empty() && self.cpus.len() != self.threads as usize {
            return refuse(format!("{} processors for {} threads: give one a thread", self.cpus.len(), self.threads));
        }
        Ok(())
    }

    fn check_topics(&self) -> Result<(), String> {
        if let TopicNames::Listed(names) = &self.topic_names {
            let mut rows = names.iter().enumerate();
            if let Some((_, twice)) = rows.find(|(at, name)| names[..*at].contains(name)) {
                return Err(format!("--topics names {twice} twice"));
            }
        }
        self.topic_list().iter().try_for_each(|name| topic(name).map(drop))?;
        let partitions = self.topic_list().len() as u64 * u64::from(self.partitions);
        if partitions > PARTITIONS_MAX {
            return Err(format!("topics × partitions is more than {PARTITIONS_MAX}"));
        }
        if u64::from(self.producers) * partitions > STREAMS_MAX {
            return Err(format!("producers × topics × partitions is more than {STREAMS_MAX}"));
        }
        if u64::from(self.producers) * partitions * u64::from(self.groups) > STREAMS_MAX {
            return Err(format!("producers × topics × partitions × groups is more than {STREAMS_MAX}"));
        }
        Ok(())
    }

    fn check_groups(&self) -> Result<(), String> {
        let (groups, consumers) = (self.groups, self.consumers);
        if groups == 0 && self.group_protocol != GroupProtocol::Classic {
            return Err(
                "--group-protocol consumer needs --groups: without, partitions are dealt out by no group".into()
            );
        }
        if groups > consumers {
            return Err(format!("{groups} groups and {consumers} consumers: each group needs one; raise --consumers"));
        }
        Ok(())
    }

    /// The topics, and the numbers of their partitions.
    pub fn topics(&self) -> Topics {
        Topics::new(self.topic_list(), self.partitions)
    }

    fn topic_list(&self) -> Vec<String> {
        match &self.topic_names {
            TopicNames::Listed(names) => names.clone(),
            TopicNames::Numbered(0 | 1) => vec![self.topic.clone()],
            TopicNames::Numbered(count) => (0..*count).map(|number| format!("{}-{number}", self.topic)).collect(),
        }
    }

    /// How often each record is received if all goes well.
    pub fn readers(&self) -> u32 {
        if self.consumers == 0 { 0 } else { self.groups.max(1) }
    }

    pub fn is_open_loop(&self) -> bool {
        self.rate > 0.0
    }

    /// What all threads share of the payload.
    pub fn filler(&self) -> Result<FillerPool, PayloadError> {
        FillerPool::new(self.payload_ratio, self.sizes.bytes_max(), self.seed)
    }

    /// As a file that gives the same workload again, with every default written out.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for row in ROWS {
            let value = (row.show)(self);
            let bare = value.parse::<f64>().is_ok_and(f64::is_finite) || matches!(value.as_str(), "true" | "false");
            let value = if bare { value } else { toml::Value::String(value).to_string() };
            text += &format!("{} = {value}\n", row.key);
        }
        text
    }

    /// A key's value as it would be written.
    pub fn show(&self, row: &Row) -> String {
        (row.show)(self)
    }
}

/// The pairs of a table, in the order of the file.
struct Pairs(Vec<(Spanned<String>, Spanned<toml::Value>)>);

impl<'de> serde::Deserialize<'de> for Pairs {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Pairs, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of keys")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

fn unknown(key: &str) -> String {
    let keys: Vec<_> = ROWS.iter().map(|row| row.key).collect();
    format!("{key} is no key of a workload; there are: {}", keys.join(", "))
}

fn plain(value: &toml::Value) -> Result<String, String> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Float(number) => Ok(number.to_string()),
        toml::Value::Boolean(truth) => Ok(truth.to_string()),
        toml::Value::Array(values) => Ok(values.iter().map(plain).collect::<Result<Vec<_>, _>>()?.join(",")),
        _ => Err("a text, a number or true/false is wanted".into()),
    }
}

fn bootstrap(text: &str) -> Result<String, String> {
    for address in text.split(',') {
        let port = address.trim().rsplit_once(':').filter(|(host, _)| !host.is_empty());
        if port.and_then(|(_, port)| port.parse::<u16>().ok()).is_none_or(|port| port == 0) {
            return Err(format!("`{address}` is no HOST:PORT"));
        }
    }
    Ok(text.to_owned())
}

fn topic(text: &str) -> Result<String, String> {
    let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    if text.is_empty() || text.len() > 249 || !text.bytes().all(fits) || matches!(text, "." | "..") {
        return Err(format!("`{text}` is no name of a topic: 1 to 249 letters, digits, dots, dashes, underscores"));
    }
    Ok(text.to_owned())
}

fn topic_names(text: &str) -> Result<TopicNames, String> {
    if text.bytes().all(|c| c.is_ascii_digit() || matches!(c, b'-' | b'_' | b'.')) {
        return Ok(TopicNames::Numbered(number(text, 1, i64::from(TOPICS_MAX))?));
    }
    let names: Vec<String> = text.split(',').map(|name| topic(name.trim())).collect::<Result<_, _>>()?;
    match names.len() {
        count if count > TOPICS_MAX as usize => Err(format!("{count} topics are more than {TOPICS_MAX}")),
        _ => Ok(TopicNames::Listed(names)),
    }
}

fn show_topic_names(names: &TopicNames) -> String {
    match names {
        TopicNames::Numbered(count) => count.to_string(),
        TopicNames::Listed(names) => names.join(","),
    }
}

fn number<T: TryFrom<i64>>(text: &str, min: i64, max: i64) -> Result<T, String> {
    let digits = text.replace('_', "");
    let value = digits.parse::<i64>().ok().filter(|value| (min..=max).contains(value));
    value.and_then(|value| T::try_from(value).ok()).ok_or_else(|| format!("`{text}` is no number from {min} to {max}"))
}

fn decimal(text: &str, min: f64, max: f64) -> Result<f64, String> {
    let (digits, times) = match text.replace('_', "") {
        text if text.ends_with('k') => (text.trim_end_matches('k').to_owned(), 1e3),
        text if text.ends_with('M') => (text.trim_end_matches('M').to_owned(), 1e6),
        text => (text, 1.0),
    };
    let value = digits.parse::<f64>().ok().map(|value| value * times).filter(|value| (min..=max).contains(value));
    value.ok_or_else(|| format!("`{text}` is no number from {min} to {max}"))
}

fn bytes(text: &str, min: usize, max: usize) -> Result<usize, String> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1), ("", 1)];
    let found = units.iter().find_map(|(unit, times)| {
        text.strip_suffix(unit)?.trim().replace('_', "").parse::<usize>().ok()?.checked_mul(*times)
    });
    found
        .filter(|bytes| (min..=max).contains(bytes))
        .ok_or_else(|| format!("`{text}` is no number of bytes from {min} to {max}, as 16384 or 16KiB"))
}

fn time(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let units = [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9), ("", 1e9)];
    let found = units.iter().find_map(|(unit, times)| {
        text.strip_suffix(unit)?.trim().parse::<f64>().ok().filter(|number| *number >= 0.0).map(|n| (n * times) as u64)
    });
    found.filter(|ns| (min..=max).contains(ns)).ok_or_else(|| {
        format!("`{text}` is no time from {} to {}, as 500ms, 30s or 5m", show_time(min), show_time(max))
    })
}

/// Any time, as the keys have them.
pub fn parse_time(text: &str) -> Result<u64, String> {
    time(text, 1, DAY_NS)
}

fn show_time(ns: u64) -> String {
    match ns {
        ns if ns % SECOND_NS == 0 => format!("{}s", ns / SECOND_NS),
        ns if ns % 1_000_000 == 0 => format!("{}ms", ns / 1_000_000),
        ns => format!("{ns}ns"),
    }
}

fn one_of<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    let all: Vec<_> = words.iter().map(|(word, _)| *word).collect();
    found.ok_or_else(|| format!("`{text}` is none of {}", all.join(", ")))
}

fn name_of<T: Copy + PartialEq>(value: T, words: &[(&str, T)]) -> String {
    words.iter().find(|(_, other)| *other == value).map_or_else(String::new, |(word, _)| (*word).to_owned())
}

fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let pair = |part: &str| match part.split_once('=') {
        Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
        None => Err(format!("`{part}` is no NAME=VALUE")),
    };
    parts.map(pair).collect()
}

fn show_pairs(pairs: &[(String, String)]) -> String {
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

fn sizes(text: &str) -> Result<Sizes, String> {
    let found = if let Some(path) = text.strip_prefix('@') {
        let list = fs::read_to_string(path).map_err(|error| format!("{path} cannot be read: {error}"))?;
        Sizes::parse_list(&list).map_err(|error| format!("{path}: {error}"))?
    } else if text.contains([',', '*']) {
        Sizes::parse_shown(text).map_err(|error| error.to_string())?
    } else if let Some((min, max)) = text.split_once('-') {
        let max_bytes = VALUE_BYTES_MAX;
        Sizes::Uniform(bytes(min, 0, max_bytes)? as u32, bytes(max, 0, max_bytes)? as u32)
    } else {
        Sizes::Fixed(bytes(text, 0, VALUE_BYTES_MAX)? as u32)
    };
    found.check().map_err(|error| error.to_string())?;
    Ok(found)
}

fn keys(text: &str) -> Result<KeySpread, String> {
    let count = |text: &str| number::<u32>(text, 1, i64::from(u32::MAX));
    let spread = match text.split(':').collect::<Vec<_>>()[..] {
        ["none"] => KeySpread::None,
        ["uniform", keys] => KeySpread::Uniform(count(keys)?),
        ["zipf", keys] => KeySpread::Zipf(count(keys)?, 0.99),
        ["zipf", keys, exponent] => KeySpread::Zipf(count(keys)?, decimal(exponent, 0.0, 100.0)?),
        _ => return Err(format!("`{text}` is none of none, uniform:COUNT, zipf:COUNT:EXPONENT")),
    };
    // Tried with few, since a large table takes its time.
    let few = match spread {
        KeySpread::Zipf(count, exponent) if count <= ZIPF_KEYS_MAX => KeySpread::Zipf(1, exponent),
        other => other,
    };
    Keys::new(few, 0).map_err(|error| error.to_string())?;
    Ok(spread)
}

fn show_keys(keys: KeySpread) -> String {
    match keys {
        KeySpread::None => "none".into(),
        KeySpread::Uniform(count) => format!("uniform:{count}"),
        KeySpread::Zipf(count, exponent) => format!("zipf:{count}:{exponent}"),
    }
}

fn cpus(text: &str) -> Result<Vec<usize>, String> {
    let mut found = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (i64, i64) = (number(first, 0, 4095)?, number(last, 0, 4095)?);
        found.extend((first..=last).map(|cpu| cpu as usize));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::text::Text;

    fn read(text: &str) -> Result<Workload, String> {
        let mut workload = Workload::default();
        workload.set_from_toml(text, Path::new("w.toml")).map_err(|error| error.to_string())?;
        workload.check().map_err(|error| error.to_string())?;
        Ok(workload)
    }

    #[test]
    fn a_file_is_read_and_written_back() {
        let text = "# a comment\nrate = 5e5\nrecord-size = \"100-2000\"\nlinger-ms = 0.5\nacks = 1\nkeys = \"zipf:100:0.9\"\n\
                    duration = \"2m\"\ncpus = [1, 2]\nthreads = 2\nidempotence = false\ntopic-settings = \"a=1,b=2\"\n";
        let workload = read(text).expect("a good file");
        assert_eq!((workload.rate, workload.linger_ns, workload.acks), (5e5, 500_000, 1));
        assert_eq!((workload.sizes.clone(), workload.duration_ns), (Sizes::Uniform(100, 2000), 120_000_000_000));
        assert_eq!((workload.keys, &workload.cpus[..]), (KeySpread::Zipf(100, 0.9), &[1, 2][..]));
        assert_eq!(read(&workload.to_toml()).expect("its own form"), workload);
        assert_eq!(read(&Workload::default().to_toml()).expect("its own form"), Workload::default());
    }

    #[test]
    fn sizes_are_kept_without_the_file_that_they_came_from() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("sizes.txt"), "# a size a line\n300\n100\n300\n").expect("written");
        let check = |text: &str, shown: &str| {
            let mut workload = Workload::default();
            workload.set_from_toml(text, &dir.path().join("w.toml")).expect(text);
            assert!(workload.to_toml().contains(&format!("\nrecord-size = {shown}\n")), "{}", workload.to_toml());
            assert_eq!(read(&workload.to_toml()).expect("its own form"), workload);
        };
        check("record-size = 200", "200");
        check("record-size = \"1KiB\"", "1024");
        check("record-size = \"100-2000\"", "\"100-2000\"");
        check("record-size = \"@sizes.txt\"", "\"100,300*2\"");
        check("record-size = [300, 100, 300]", "\"100,300*2\"");
    }

    #[test]
    fn topics_are_numbered_or_listed() {
        let check = |text: &str, expect: &[&str], shown: &str| {
            let workload = read(text).expect(text);
            let topics = workload.topics();
            assert_eq!(topics.names().iter().map(Text::as_str).collect::<Vec<_>>(), expect, "{text}");
            assert!(workload.to_toml().contains(&format!("\ntopics = {shown}\n")), "{}", workload.to_toml());
            assert_eq!(read(&workload.to_toml()).expect("its own form"), workload);
        };
        check("topic = \"a\"", &["a"], "1");
        check("topic = \"a\"\ntopics = 1", &["a"], "1");
        check("topic = \"a\"\ntopics = 3", &["a-0", "a-1", "a-2"], "3");
        check("topic = \"a\"\ntopics = [\"b\", \"c\"]", &["b", "c"], "\"b,c\"");
        check("topics = \"b\"", &["b"], "\"b\"");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let check = |text: &str, expect: &str| {
            let error = read(text).expect_err(text);
            assert!(error.contains(expect), "{text:?}: {error}");
        };
        check("rate = 1\nrates = 2\n", "w.toml: line 2: rates is no key of a workload; there are: bootstrap,");
        check("\n\nrate = \"fast\"", "w.toml: line 3: rate: `fast` is no number from 0 to 1000000000");
        check("rate = -1", "line 1: rate: `-1` is no number from 0");
        check("rate = 2e9", "line 1: rate: `2000000000` is no number");
        check("rate = ", "w.toml: line 1: ");
        check("[producers]\nrate=1", "line 1: producers: a text, a number or true/false is wanted");
        check("rate = 1\nrate = 2\n", "w.toml: line 2: duplicate key");
        check("record-size = 23", "a record of 23 bytes: it must be 24 to");
        check("record-size = \"@nowhere\"", "nowhere cannot be read");
        check("record-size = \"100,many\"", "`many` is no size");
        check("record-size = \"100*0\"", "`100*0` is no size");
        check("record-size = \"100*99999999\"", "more than");
        check("duration = \"soon\"", "`soon` is no time from 100ms to");
        check("topic = \"a b\"", "`a b` is no name of a topic");
        check("bootstrap = \"localhost\"", "`localhost` is no HOST:PORT");
        check("topics = 0", "line 1: topics: `0` is no number from 1 to 10000");
        check("topics = 10001", "`10001` is no number");
        check("topics = \"a,b c\"", "`b c` is no name of a topic");
        check("topics = [\"a\", \"b\", \"a\"]", "--topics names a twice");
        check(&format!("topic = \"{}\"\ntopics = 2", "a".repeat(248)), "is no name of a topic");
        check("topics = 1000\npartitions = 2000", "topics × partitions is more than 1048576");
        check("topics = 100\npartitions = 100\nproducers = 500", "producers × topics × partitions is more than");
        check("acks = 2", "`2` is none of all, -1, 1, 0");
        check("keys = \"zipf\"", "none, uniform:COUNT, zipf:COUNT:EXPONENT");
        check("mode = \"drain\"", "--mode drain needs a --backlog, --producers to write it and --consumers");
        check("mode = \"catchup\"", "`catchup` is none of live, drain, catch-up");
        check("producers = 0", "neither a producer nor a consumer");
        check("rate = 1e9\nrecord-size = 2000", "no machine sends that");
        check("rate = 0.001", "not one record is due");
        check("idempotence = true\nacks = 1", "--idempotence needs --acks all");
        check("interval = \"1h\"", "longer than the duration");
        check("groups = 2\nconsumers = 1", "2 groups and 1 consumers: each group needs one; raise --consumers");
        check("groups = 1", "1 groups and 0 consumers: each group needs one");
        check("group-protocol = \"consumer\"\nconsumers = 1", "--group-protocol consumer needs --groups");
        check("group-protocol = \"share\"", "`share` is none of classic, consumer");
        check("commit-interval-ms = -1", "`-1` is no number from 0 to 86400000");
        check(
            "partitions = 90000\nproducers = 40\nconsumers = 2\ngroups = 2",
            "producers × topics × partitions × groups is more",
        );
        check("threads = 2\ncpus = \"1\"", "1 processors for 2 threads");
    }
}
