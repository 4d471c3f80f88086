//! THE settings table: one row a setting. Everything about settings derives from it.
//!
//! A row reads `field: type = default => kind(name).topic(name in a topic).within(range)`, and its doc comment is
//! the manual's text. Names, types and defaults are Kafka's (`ServerConfigs`, `ServerLogConfigs`, `TopicConfig`)
//! where Kafka has the setting, unless the text says otherwise.
//!
//! *Owns*: the rows, and [`Settings`] made from them. *Never*: a setting twice. *Runs on*: every core, read only.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::row::{
    Notation, Origin, Row, SettingError, boolean, double, int, list, long, names, short, string, unknown,
};
use super::values::{
    Address, Assignor, CleanupPolicy, Cores, Durability, MigrationPolicy, Ratio, ThrottledReplicas, TimestampType,
    Unit, Value,
};
use crate::base::limits::{
    FETCH_SESSIONS_PER_CORE_MAX, JOURNAL_BYTES_MAX, JOURNAL_BYTES_MIN, PARTITIONS_PER_TOPIC_MAX, REPLICATION_FACTOR_MAX,
};

/// Makes the struct, its defaults and the rows out of the table.
macro_rules! settings {
    ($($heading:literal { $($(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr => $row:expr;)* })*) => {
        /// What the broker is set to. One for the process, read only after start.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub struct Settings {
            $($($(#[doc = $doc])+ pub $field: $type,)*)*
            /// Which settings have another origin than the default.
            pub given: BTreeMap<&'static str, Origin>,
        }

        impl Default for Settings {
            fn default() -> Self {
                Settings { $($($field: $default,)*)* given: BTreeMap::new() }
            }
        }

        pub static TABLE: &[Row] = &[$($(Row {
            heading: $heading,
            doc: concat!($($doc),+),
            show: |settings| Value::show(&settings.$field),
            store: |settings, text| {
                settings.$field = <$type as Value>::parse(text)?;
                Ok(())
            },
            ..$row
        },)*)*];

        #[cfg(test)]
        const FIELDS: &[&str] = &[$($(stringify!($field),)*)*];
    };
}

settings! {
    "Addresses, cores and data" {
        /// Where clients connect: host:port. The shared listener, on which every core accepts.
        listen: Address = Address { host: "127.0.0.1".into(), port: 9092 } => string("listen").alias(&[("listeners", 1)]);
        /// First port of the per-core listeners: core N listens on this port plus N and is shown to clients as a
        /// broker of its own, so that they send each request to the core that owns the partition. 0 for none.
        per_core_port: Option<u16> = None => int("per.core.port", Unit::Count).within(0, 65_535);
        /// Host name given to clients in metadata. Empty: the host of `listen`.
        advertised_host: String = String::new() => string("advertised.host");
        /// Directory that holds everything the broker keeps. Its file system must support direct I/O.
        data_dir: PathBuf = PathBuf::from("./corelog-data") => string("data.dir").alias(&[("log.dirs", 1), ("log.dir", 1)]);
        /// Processors to run on, one pinned executor each: `all`, a count, or a list such as 0,2,4-7.
        cores: Cores = Cores::All => string("cores");
        /// This broker's id. On per-core listeners core N is broker 1000 × id + N.
        node_id: i32 = 1 => int("node.id", Unit::Count).within(0, 2_000_000).alias(&[("broker.id", 1)]);
        /// The cluster's id. Empty: made at the first start and kept.
        cluster_id: String = String::new() => string("cluster.id");
    }
    "Cluster" {
        /// Brokers of the cluster to join: host:port of where their clients connect, with commas between; there they say
        /// where their listener for brokers is. A broker whose data directory belongs to another cluster than theirs does
        /// not start. Empty: a broker whose data directory is new founds a cluster.
        seeds: Vec<Address> = Vec::new() => list("seeds");
        /// Where the other brokers of the cluster connect: host:port, for core N at this port plus N, and for gossip
        /// (UDP) at this port. Empty: the host and port of `listen` plus 10000 if there are `seeds`, else nowhere, and
        /// nobody can join.
        peer_listen: Option<Address> = None => string("peer.listen");
        /// Host name given to other brokers for `peer.listen`. Empty: the host given to clients.
        advertised_peer_host: String = String::new() => string("advertised.peer.host");
        /// File with a secret that all brokers of the cluster share, of 16 to 1024 bytes; blanks and line ends around
        /// it do not count. Who does not have it is refused on `peer.listen`. Empty: whoever reaches that port and knows
        /// the cluster's id is taken for a broker. What brokers send is not encrypted either way.
        peer_shared_key_file: Option<PathBuf> = None => string("peer.shared.key.file");
        /// Where the broker stands, in any words: replicas of a partition are placed in as many racks as there are.
        broker_rack: String = String::new() => string("broker.rack");
        /// How long the controller may hear nothing of a broker until others lead its partitions.
        broker_session_timeout_ms: u32 = 1_000 => int("broker.session.timeout.ms", Unit::Ms).within(100, i32::MAX as i64);
        /// How often a broker tells the controller that it is there.
        broker_heartbeat_interval_ms: u32 = 300 => int("broker.heartbeat.interval.ms", Unit::Ms)
            .within(10, i32::MAX as i64);
    }
    "Replication" {
        /// How long a follower may be behind its leader until it is not in sync any more.
        replica_lag_time_max_ms: u64 = 30_000 => long("replica.lag.time.max.ms", Unit::Ms).within(1, i64::MAX);
        /// How long a leader may leave a follower's fetch unanswered while there is nothing new.
        replica_fetch_wait_max_ms: u32 = 500 => int("replica.fetch.wait.max.ms", Unit::Ms).within(0, i32::MAX as i64);
        /// Bytes of new records for which a leader answers a follower's fetch at once.
        replica_fetch_min_bytes: u32 = 1 => int("replica.fetch.min.bytes", Unit::Bytes);
        /// Most record bytes of one partition that a follower fetches at a time; a larger batch is sent all the same.
        replica_fetch_max_bytes: u32 = 1 << 20 => int("replica.fetch.max.bytes", Unit::Bytes);
        /// Most record bytes of all partitions that a follower's core fetches at a time from a leader's.
        replica_fetch_response_max_bytes: u32 = 10 << 20 => int("replica.fetch.response.max.bytes", Unit::Bytes);
        /// How long a follower leaves a partition alone whose fetch has failed.
        replica_fetch_backoff_ms: u32 = 1_000 => int("replica.fetch.backoff.ms", Unit::Ms);
        /// Where leaders send consumers that tell their rack (`client.rack`): with the rack-aware class to a replica in
        /// sync that is there, otherwise nowhere.
        replica_selector_class: String = LEADER_SELECTOR.into() => string("replica.selector.class")
            .one_of(&[LEADER_SELECTOR, RACK_AWARE_SELECTOR]);
        /// Record bytes a second that leaders on this broker send to followers that are not in sync, of replicas that
        /// are named as throttled. Each core has an equal share.
        leader_replication_throttled_rate: u64 = i64::MAX as u64
            => long("leader.replication.throttled.rate", Unit::Bytes).within(0, i64::MAX).dynamic();
        /// The same for what this broker fetches while it is not in sync.
        follower_replication_throttled_rate: u64 = i64::MAX as u64
            => long("follower.replication.throttled.rate", Unit::Bytes).within(0, i64::MAX).dynamic();
        /// Which replicas are throttled where they lead: `*`, or pairs of a partition and a broker, 0:1,0:2.
        leader_replication_throttled_replicas: ThrottledReplicas = ThrottledReplicas::NONE
            => list("leader.replication.throttled.replicas").topic("leader.replication.throttled.replicas");
        /// Which replicas are throttled where they follow.
        follower_replication_throttled_replicas: ThrottledReplicas = ThrottledReplicas::NONE
            => list("follower.replication.throttled.replicas").topic("follower.replication.throttled.replicas");
        /// Whether a replica that lacks acknowledged records may lead when no other is left: those records are lost.
        unclean_leader_election_enable: bool = false => boolean("unclean.leader.election.enable")
            .topic("unclean.leader.election.enable");
        /// Whether partitions are led by the first of their replicas again when that is in sync again.
        auto_leader_rebalance_enable: bool = true => boolean("auto.leader.rebalance.enable");
        /// How often the controller looks for partitions that another than their first replica leads.
        leader_imbalance_check_interval_seconds: u32 = 300
            => int("leader.imbalance.check.interval.seconds", Unit::Count).within(1, i32::MAX as i64);
    }
    "Watching" {
        /// Where core 0 serves HTTP: host:port. /metrics has numbers and stage histograms as OpenMetrics text,
        /// /stages.hlog the stage histograms as an HdrHistogram log. Empty: nowhere. Nobody is asked who they are.
        http_listen: Option<Address> = None => string("http.listen").alias(&[("http", 1)]);
        /// How often what the stages of requests took is written to `metrics` in the data directory, as HdrHistogram
        /// logs. 0 for never.
        metrics_interval_ms: u64 = 10_000 => long("metrics.interval.ms", Unit::Ms).within(0, 86_400_000);
        /// Most bytes of metrics, compressed, that a client may push at a time (KIP-714).
        telemetry_max_bytes: u32 = 1 << 20 => int("telemetry.max.bytes", Unit::Bytes).within(1, 16 << 20).dynamic();
    }
    "Topics" {
        /// Partitions of a topic whose creator does not say.
        num_partitions: i32 = 1 => int("num.partitions", Unit::Count).within(1, PARTITIONS_PER_TOPIC_MAX as i64).dynamic();
        /// Replicas of a topic whose creator does not say. There must be as many brokers.
        default_replication_factor: i16 = 1 => short("default.replication.factor")
            .within(1, REPLICATION_FACTOR_MAX as i64);
        /// Whether a topic that a client asks for is made when it is missing.
        auto_create_topics_enable: bool = true => boolean("auto.create.topics.enable").dynamic();
        /// Whether topics may be deleted.
        delete_topic_enable: bool = true => boolean("delete.topic.enable").dynamic();
        /// In-sync replicas that must have a record before acks=all is answered.
        min_insync_replicas: i32 = 1 => int("min.insync.replicas", Unit::Count).within(1, i32::MAX as i64)
            .topic("min.insync.replicas");
    }
    "Durability" {
        /// What an acknowledgement waits for. `sync`: until the device says that the records are on stable storage
        /// (fdatasync), so that they outlive a loss of power; records of all partitions of a core are synced together
        /// in its journal. `write`: until the device has taken them (direct I/O), so that they outlive the end of this
        /// process, however it ends, but what the device still held in its cache may be lost with the power.
        durability: Durability = Durability::Sync => string("durability").one_of(&["sync", "write"]).topic("durability");
        /// Size of each core's journal, a file in which small durable appends are synced together before they reach
        /// their segments; a larger one has them reach their segments in larger and fewer writes. Its space is taken
        /// when the first partition needs it, and written in the background. 0, or 1 MiB and more. With 0 there is no
        /// journal, and `durability=sync` syncs every partition by itself, which holds the same promise and costs a
        /// multiple.
        journal_bytes: u64 = 128 << 20 => long("journal.bytes", Unit::Bytes).within(0, JOURNAL_BYTES_MAX as i64);
        /// A partition with at least so much waiting for a sync has it written to its segment at once and synced
        /// there, instead of twice, to the journal and later to its segment; half as much where the segment's space was
        /// written before. −1: learnt from the device.
        journal_direct_bytes: i64 = -1 => long("journal.direct.bytes", Unit::Bytes).within(-1, i64::MAX);
    }
    "Log" {
        /// Largest segment file; a batch that does not fit starts the next one.
        log_segment_bytes: u64 = 1 << 30 => int("log.segment.bytes", Unit::Bytes).within(64 << 10, i32::MAX as i64)
            .topic("segment.bytes");
        /// Age of a segment's first record at which the next segment is started.
        log_roll_ms: u64 = 604_800_000 => long("log.roll.ms", Unit::Ms).within(1, i64::MAX)
            .topic("segment.ms").alias(&[("log.roll.hours", 3_600_000)]);
        /// Bytes of log between two entries of the offset index.
        log_index_interval_bytes: u32 = 4096 => int("log.index.interval.bytes", Unit::Bytes)
            .topic("index.interval.bytes");
        /// Records after which a partition is synced (fdatasync); with 1, every acknowledged record is synced first.
        /// The default never syncs for this reason.
        log_flush_interval_messages: u64 = i64::MAX as u64 => long("log.flush.interval.messages", Unit::Count)
            .within(1, i64::MAX).topic("flush.messages");
        /// Longest time a written record stays without a sync (fdatasync). The default never syncs for this reason.
        log_flush_interval_ms: u64 = i64::MAX as u64 => long("log.flush.interval.ms", Unit::Ms).topic("flush.ms");
        /// Largest record batch a producer may send, as sent (compressed).
        message_max_bytes: u32 = 1_048_588 => int("message.max.bytes", Unit::Bytes).topic("max.message.bytes");
        /// Which timestamp records keep: CreateTime, the producer's, or LogAppendTime, the broker's.
        log_message_timestamp_type: TimestampType = TimestampType::CreateTime => string("log.message.timestamp.type")
            .one_of(&["CreateTime", "LogAppendTime"]).topic("message.timestamp.type");
        /// How far a producer's timestamp may lie before the broker's clock. CreateTime only.
        log_message_timestamp_before_max_ms: i64 = i64::MAX => long("log.message.timestamp.before.max.ms", Unit::Ms)
            .topic("message.timestamp.before.max.ms");
        /// How far a producer's timestamp may lie after the broker's clock. CreateTime only.
        log_message_timestamp_after_max_ms: i64 = 3_600_000 => long("log.message.timestamp.after.max.ms", Unit::Ms)
            .topic("message.timestamp.after.max.ms");
        /// Compression of stored batches. `producer` keeps them as they were sent.
        compression_type: String = "producer".into() => string("compression.type").one_of(&["producer"])
            .topic("compression.type");
        /// What becomes of old records: `delete`, `compact` or both.
        log_cleanup_policy: CleanupPolicy = CleanupPolicy { delete: true, compact: false } => list("log.cleanup.policy")
            .topic("cleanup.policy");
        /// Age at which records are deleted, with the segment they are in and by its newest timestamp; −1 never.
        log_retention_ms: i64 = 604_800_000 => long("log.retention.ms", Unit::Ms).within(-1, i64::MAX)
            .topic("retention.ms").alias(&[("log.retention.minutes", 60_000), ("log.retention.hours", 3_600_000)]);
        /// Size that a partition keeps at least when its oldest segments are deleted; −1 without bound.
        log_retention_bytes: i64 = -1 => long("log.retention.bytes", Unit::Bytes).within(-1, i64::MAX)
            .topic("retention.bytes");
        /// How often each partition is looked at for segments that are to be deleted.
        log_retention_check_interval_ms: u64 = 300_000 => long("log.retention.check.interval.ms", Unit::Ms)
            .within(1, i64::MAX);
        /// Share of a compacted partition that must be newer than its last compaction before it is compacted again.
        log_cleaner_min_cleanable_ratio: Ratio = Ratio(500_000) => double("log.cleaner.min.cleanable.ratio")
            .topic("min.cleanable.dirty.ratio");
        /// How long a tombstone stays in a compacted partition after the first compaction that has seen it.
        log_cleaner_delete_retention_ms: u64 = 86_400_000 => long("log.cleaner.delete.retention.ms", Unit::Ms)
            .topic("delete.retention.ms");
        /// Age that records have at least when they are compacted, by the newest of their segment.
        log_cleaner_min_compaction_lag_ms: u64 = 0 => long("log.cleaner.min.compaction.lag.ms", Unit::Ms)
            .topic("min.compaction.lag.ms");
        /// Age at which records are compacted whatever the share of what is new.
        log_cleaner_max_compaction_lag_ms: u64 = i64::MAX as u64 => long("log.cleaner.max.compaction.lag.ms", Unit::Ms)
            .within(1, i64::MAX).topic("max.compaction.lag.ms");
        /// Memory for the keys of partitions being compacted, of the whole broker; each core compacts one at a time and
        /// has an equal share. A key takes 32 bytes; what finds no room is left for the next compaction.
        log_cleaner_dedupe_buffer_size: u64 = 128 << 20 => long("log.cleaner.dedupe.buffer.size", Unit::Bytes)
            .within(1 << 20, i64::MAX);
        /// How often a core that compacts nothing looks for a partition that needs it.
        log_cleaner_backoff_ms: u64 = 15_000 => long("log.cleaner.backoff.ms", Unit::Ms).within(1, i64::MAX);
        /// Threads that compact.
        log_cleaner_threads: i32 = 1 => int("log.cleaner.threads", Unit::Count).within(1, i32::MAX as i64)
            .inert("Every core compacts its own partitions, in small pieces between requests.");
        /// Time after its last batch at which an idempotent producer is forgotten.
        producer_id_expiration_ms: u64 = 86_400_000 => int("producer.id.expiration.ms", Unit::Ms).within(1, i32::MAX as i64).dynamic();
    }
    "Groups" {
        /// Shortest session timeout that a member of a classic group may ask for.
        group_min_session_timeout_ms: u32 = 6_000 => int("group.min.session.timeout.ms", Unit::Ms);
        /// Longest session timeout that a member of a classic group may ask for.
        group_max_session_timeout_ms: u32 = 1_800_000 => int("group.max.session.timeout.ms", Unit::Ms);
        /// How long the first rebalance of an empty classic group waits for further members.
        group_initial_rebalance_delay_ms: u32 = 3_000 => int("group.initial.rebalance.delay.ms", Unit::Ms);
        /// Members of one classic group.
        group_max_size: u32 = i32::MAX as u32 => int("group.max.size", Unit::Count).within(1, i32::MAX as i64);
        /// Partitions of `__consumer_offsets`, which is made when a client first asks for the coordinator of a group.
        /// They decide which core coordinates which group, so a later change has no effect.
        offsets_topic_num_partitions: i32 = 50 => int("offsets.topic.num.partitions", Unit::Count)
            .within(1, PARTITIONS_PER_TOPIC_MAX as i64);
        /// Replicas of `__consumer_offsets`, when it is made. Kafka's default is 3, and so should be a cluster's value.
        offsets_topic_replication_factor: i16 = 1 => short("offsets.topic.replication.factor")
            .within(1, REPLICATION_FACTOR_MAX as i64);
        /// Segment size of `__consumer_offsets`, when it is made.
        offsets_topic_segment_bytes: u64 = 100 << 20 => int("offsets.topic.segment.bytes", Unit::Bytes)
            .within(1 << 20, i32::MAX as i64);
        /// How long the offsets of a group are kept after its last member has left it. Offsets of whoever commits
        /// without being a member are kept so long after the commit.
        offsets_retention_minutes: u32 = 10_080 => int("offsets.retention.minutes", Unit::Count)
            .within(1, i32::MAX as i64);
        /// How often offsets whose time is up are looked for.
        offsets_retention_check_interval_ms: u64 = 600_000 => long("offsets.retention.check.interval.ms", Unit::Ms)
            .within(1, i64::MAX);
        /// Longest text that may go with a committed offset.
        offset_metadata_max_bytes: u32 = 4096 => int("offset.metadata.max.bytes", Unit::Bytes).within(0, 32_767);
    }
    "Groups of the consumer protocol (KIP-848)" {
        /// How long a member may be silent.
        group_consumer_session_timeout_ms: u32 = 45_000 => int("group.consumer.session.timeout.ms", Unit::Ms)
            .within(1, i32::MAX as i64).group("consumer.session.timeout.ms");
        /// Shortest session timeout that may be set, for the broker or for one group.
        group_consumer_min_session_timeout_ms: u32 = 45_000 => int("group.consumer.min.session.timeout.ms", Unit::Ms)
            .within(1, i32::MAX as i64);
        /// Longest session timeout that may be set, for the broker or for one group.
        group_consumer_max_session_timeout_ms: u32 = 60_000 => int("group.consumer.max.session.timeout.ms", Unit::Ms)
            .within(1, i32::MAX as i64);
        /// How often members are told to send a heartbeat. Members learn with one what was assigned to them, so this
        /// is also about how long a step of a rebalance takes.
        group_consumer_heartbeat_interval_ms: u32 = 5_000 => int("group.consumer.heartbeat.interval.ms", Unit::Ms)
            .within(1, i32::MAX as i64).group("consumer.heartbeat.interval.ms");
        /// Shortest heartbeat interval that may be set, for the broker or for one group.
        group_consumer_min_heartbeat_interval_ms: u32 = 5_000
            => int("group.consumer.min.heartbeat.interval.ms", Unit::Ms).within(1, i32::MAX as i64);
        /// Longest heartbeat interval that may be set, for the broker or for one group.
        group_consumer_max_heartbeat_interval_ms: u32 = 15_000
            => int("group.consumer.max.heartbeat.interval.ms", Unit::Ms).within(1, i32::MAX as i64);
        /// Members of one group.
        group_consumer_max_size: u32 = i32::MAX as u32 => int("group.consumer.max.size", Unit::Count)
            .within(1, i32::MAX as i64);
        /// The assignors that members may wish for: uniform, range. The first is taken where nobody wishes.
        group_consumer_assignors: Vec<Assignor> = vec![Assignor::Uniform, Assignor::Range]
            => list("group.consumer.assignors");
        /// Which groups may change their protocol while they have members. `upgrade`: a group of the classic protocol,
        /// when a member of the consumer protocol joins. `downgrade`: back, when the last such member has left.
        /// `bidirectional`: both. `disabled`: none.
        group_consumer_migration_policy: MigrationPolicy = MigrationPolicy { upgrade: true, downgrade: true }
            => string("group.consumer.migration.policy");
    }
    "Connections and memory" {
        /// Largest request.
        socket_request_max_bytes: u32 = 100 << 20 => int("socket.request.max.bytes", Unit::Bytes).within(1024, i32::MAX as i64);
        /// Memory for requests that are being received or worked on, of the whole broker; each core has an equal
        /// share. A connection for whose next request there is no room is not read until there is. Replies have
        /// as much again; when they need more, clients that leave theirs unread are disconnected. Kafka's default is
        /// no bound.
        queued_max_request_bytes: u64 = 512 << 20 => long("queued.max.request.bytes", Unit::Bytes).within(1 << 20, i64::MAX);
        /// Memory for the newest records of all partitions, from which consumers at the tail are served; each core
        /// has an equal share.
        tail_cache_bytes: u64 = 256 << 20 => long("tail.cache.bytes", Unit::Bytes).within(1 << 20, i64::MAX);
        /// Client connections of the whole broker; further ones are closed at once.
        max_connections: u32 = 100_000 => int("max.connections", Unit::Count).within(1, i32::MAX as i64);
        /// Time without a request after which a connection is closed.
        connections_max_idle_ms: u64 = 600_000 => long("connections.max.idle.ms", Unit::Ms).within(1, i64::MAX);
        /// Most record bytes in one Fetch reply, whatever the client asks for.
        fetch_max_bytes: u32 = 55 << 20 => int("fetch.max.bytes", Unit::Bytes).within(1024, i32::MAX as i64).dynamic();
        /// Incremental fetch sessions (KIP-227) of the whole broker.
        max_incremental_fetch_session_cache_slots: u32 = FETCH_SESSIONS_PER_CORE_MAX as u32
            => int("max.incremental.fetch.session.cache.slots", Unit::Count);
    }
}

/// How far above the port for clients that for brokers is by default.
const PEER_PORT_ABOVE: u16 = 10_000;

/// Where a broker with this listener for clients has the one for brokers by default. The ports were checked.
fn peer_address(listen: &Address) -> Address {
    Address { host: listen.host.clone(), port: listen.port.saturating_add(PEER_PORT_ABOVE) }
}

/// The row of a broker setting, by its name or an alias.
pub fn row(name: &str) -> Option<&'static Row> {
    row_and_factor(name).map(|(row, _)| row)
}

fn row_and_factor(name: &str) -> Option<(&'static Row, i64)> {
    TABLE.iter().find_map(|row| {
        if row.name == name {
            return Some((row, 1));
        }
        row.aliases.iter().find(|(alias, _)| *alias == name).map(|(_, factor)| (row, *factor))
    })
}

/// `replica.selector.class`, by the names of Kafka's classes (KIP-392).
const LEADER_SELECTOR: &str = "org.apache.kafka.common.replica.LeaderSelector";
pub const RACK_AWARE_SELECTOR: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";

impl Settings {
    /// Whether consumers are sent to replicas in their rack.
    pub fn is_rack_aware(&self) -> bool {
        self.replica_selector_class == RACK_AWARE_SELECTOR
    }

    /// Sets one by name, or leaves it when it was set from a stronger origin before. On an error nothing is changed.
    pub fn set(&mut self, name: &str, text: &str, notation: Notation, origin: Origin) -> Result<(), SettingError> {
        let Some((row, factor)) = row_and_factor(name) else {
            return Err(unknown(name, names()));
        };
        let mut with = self.clone();
        row.assign_as(name, factor, &mut with, text, notation)?;
        if self.origin(row) <= origin {
            with.given.insert(row.name, origin);
            *self = with;
        }
        Ok(())
    }

    /// Where the value in force came from.
    pub fn origin(&self, row: &Row) -> Origin {
        self.given.get(row.name).copied().unwrap_or(Origin::Default)
    }

    /// Checks what no single row can: call once, after the last `set`.
    pub fn check_together(&self) -> Result<(), SettingError> {
        if (1..JOURNAL_BYTES_MIN).contains(&self.journal_bytes) {
            return Err(SettingError {
                name: "journal.bytes".to_owned(),
                message: format!(
                    "must be 0, for no journal, or {JOURNAL_BYTES_MIN} (1 MiB) to {JOURNAL_BYTES_MAX} (16 GiB), not `{}`",
                    self.journal_bytes
                ),
            });
        }
        let too_large = |name: &str, value: u64, other: &str, bound: u64| SettingError {
            name: name.to_owned(),
            message: format!("is {value}, more than {other}, which is {bound}: no such request could ever be received"),
        };
        let request = u64::from(self.socket_request_max_bytes);
        if u64::from(self.message_max_bytes) > request {
            let message = u64::from(self.message_max_bytes);
            return Err(too_large("message.max.bytes", message, "socket.request.max.bytes", request));
        }
        if request > self.queued_max_request_bytes {
            let queued = self.queued_max_request_bytes;
            return Err(too_large("socket.request.max.bytes", request, "queued.max.request.bytes", queued));
        }
        self.check_cluster()?;
        self.check_consumer_groups()
    }

    fn check_cluster(&self) -> Result<(), SettingError> {
        let wrong = |name: &str, message: String| Err(SettingError { name: name.to_owned(), message });
        let (beat, session) = (self.broker_heartbeat_interval_ms, self.broker_session_timeout_ms);
        if beat >= session {
            let message = format!("is {beat}, not less than broker.session.timeout.ms, which is {session}");
            return wrong("broker.heartbeat.interval.ms", message);
        }
        if self.peer_listen.as_ref().is_some_and(|address| address.port == 0) {
            return wrong("peer.listen", "must name a port: the other brokers have to know it".to_owned());
        }
        let port_max = u16::MAX - PEER_PORT_ABOVE;
        if !self.seeds.is_empty() && self.peer_listen.is_none() && !(1..=port_max).contains(&self.listen.port) {
            let message = format!("must be given beside seeds when the port of listen is {}", self.listen.port);
            return wrong("peer.listen", message);
        }
        Ok(())
    }

    /// Where other brokers connect to core 0, if they may.
    pub fn peer_listener(&self) -> Option<Address> {
        let beside_clients = (!self.seeds.is_empty()).then(|| peer_address(&self.listen));
        self.peer_listen.clone().or(beside_clients)
    }

    fn check_consumer_groups(&self) -> Result<(), SettingError> {
        let session = ("group.consumer.session.timeout.ms", self.group_consumer_session_timeout_ms);
        let session_min = ("group.consumer.min.session.timeout.ms", self.group_consumer_min_session_timeout_ms);
        let session_max = ("group.consumer.max.session.timeout.ms", self.group_consumer_max_session_timeout_ms);
        let beat = ("group.consumer.heartbeat.interval.ms", self.group_consumer_heartbeat_interval_ms);
        let beat_min = ("group.consumer.min.heartbeat.interval.ms", self.group_consumer_min_heartbeat_interval_ms);
        let beat_max = ("group.consumer.max.heartbeat.interval.ms", self.group_consumer_max_heartbeat_interval_ms);
        let ordered = [
            (session_min, session_max),
            (session_min, session),
            (session, session_max),
            (beat_min, beat_max),
            (beat_min, beat),
            (beat, beat_max),
        ];
        for ((small, less), (large, more)) in ordered {
            if less > more {
                let message = format!("is {less}, more than {large}, which is {more}");
                return Err(SettingError { name: small.to_owned(), message });
            }
        }
        if beat.1 >= session.1 {
            let message = format!("is {}, not less than {}, which is {}", beat.1, session.0, session.1);
            return Err(SettingError { name: beat.0.to_owned(), message });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_stands_for_its_field_once() {
        let mut seen = BTreeSet::new();
        assert_eq!(TABLE.len(), FIELDS.len());
        for (row, field) in TABLE.iter().zip(FIELDS) {
            assert_eq!(row.name.replace('.', "_"), *field);
            for name in std::iter::once(row.name).chain(row.aliases.iter().map(|(name, _)| *name)) {
                assert!(seen.insert(name), "{name} is there twice");
            }
            assert!(row.doc().ends_with('.'), "{}: {}", row.name, row.doc());
            assert!(!row.doc().contains("  "), "{}: {}", row.name, row.doc());
        }
    }

    #[test]
    fn every_default_can_be_set_as_it_is_shown() {
        let defaults = Settings::default();
        for row in TABLE {
            let mut settings = Settings::default();
            let shown = row.show(&defaults);
            for notation in [Notation::Kafka, Notation::Typed] {
                row.assign(&mut settings, &shown, notation).unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(settings, defaults, "{}", row.name);
            }
        }
    }

    #[test]
    fn every_number_in_range_fits_its_field() {
        for row in TABLE.iter().filter(|row| row.kind.is_number()) {
            for number in [row.min, row.max] {
                let mut settings = Settings::default();
                row.assign(&mut settings, &number.to_string(), Notation::Kafka).unwrap_or_else(|e| panic!("{e}"));
                assert_eq!(row.show(&settings), number.to_string());
            }
            for number in [row.min.checked_sub(1), row.max.checked_add(1)].into_iter().flatten() {
                let mut settings = Settings::default();
                let error = row.assign(&mut settings, &number.to_string(), Notation::Kafka).expect_err("out of range");
                assert!(error.message.contains("must be"), "{error}");
                assert_eq!(settings, Settings::default());
            }
        }
    }

    #[test]
    fn the_stronger_origin_wins_in_any_order() {
        let orders = [
            [Origin::File, Origin::Environment, Origin::Flag],
            [Origin::Flag, Origin::File, Origin::Environment],
            [Origin::Environment, Origin::Flag, Origin::File],
        ];
        for order in orders {
            let mut settings = Settings::default();
            for origin in order {
                let text = (origin as i32).to_string();
                settings.set("num.partitions", &text, Notation::Kafka, origin).expect("in range");
            }
            assert_eq!(settings.num_partitions, Origin::Flag as i32);
            assert_eq!(settings.origin(row("num.partitions").expect("in the table")), Origin::Flag);
        }
    }

    #[test]
    fn names_values_and_relations_are_checked() {
        let check = |name: &str, text: &str, notation, expect: Result<&str, &str>| {
            let mut settings = Settings::default();
            let result = settings
                .set(name, text, notation, Origin::File)
                .and_then(|()| settings.check_together().map(|()| settings));
            match (result, expect) {
                (Ok(settings), Ok(shown)) => assert_eq!(row(name).expect("known").show(&settings), shown, "{name}"),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{name}: {error}"),
                (got, _) => panic!("{name}={text}: {got:?}"),
            }
        };
        use Notation::{Kafka, Typed};
        check("log.segment.bytes", "64MiB", Typed, Ok("67108864"));
        check(
            "log.segment.bytes",
            "64MiB",
            Kafka,
            Err("log.segment.bytes must be a plain number of bytes here, not `64MiB`"),
        );
        check("log.segment.bytes", "1", Kafka, Err("65536 (64 KiB) or more"));
        check("log.segment.byte", "1", Kafka, Err("did you mean `log.segment.bytes`?"));
        check("zookeeper.connect", "x", Kafka, Err("`corelog settings` lists them all"));
        check("log.retention.hours", "168", Kafka, Ok("604800000"));
        check("log.retention.hours", "-1", Kafka, Ok("-1"));
        check("log.retention.hours", "9223372036854775807", Kafka, Ok("9223372036854775807"));
        check("log.dirs", "/data", Kafka, Ok("/data"));
        check("listeners", "PLAINTEXT://:9092", Kafka, Ok("0.0.0.0:9092"));
        check("default.replication.factor", "8", Kafka, Err("must be 1 to 7"));
        check("seeds", "a:9092,b:9093", Kafka, Ok("a:9092,b:9093"));
        check("seeds", "a:9092,b", Kafka, Err("must be host:port"));
        check("seeds", "a:55536", Kafka, Ok("a:55536"));
        check("peer.listen", "", Kafka, Ok(""));
        check("peer.listen", "[::1]:19092", Kafka, Ok("[::1]:19092"));
        check("peer.listen", "127.0.0.1:0", Kafka, Err("must name a port"));
        check(
            "broker.heartbeat.interval.ms",
            "9s",
            Typed,
            Err("not less than broker.session.timeout.ms, which is 1000"),
        );
        check("compression.type", "zstd", Kafka, Err("must be one of producer"));
        check("log.message.timestamp.type", "LogAppendTime", Kafka, Ok("LogAppendTime"));
        check("message.max.bytes", "200000000", Kafka, Err("socket.request.max.bytes, which is 104857600"));
        check("durability", "sync", Kafka, Ok("sync"));
        check("durability", "fsync", Kafka, Err("durability must be one of sync, write, not `fsync`"));
        check("journal.bytes", "0", Kafka, Ok("0"));
        check("journal.bytes", "1MiB", Typed, Ok("1048576"));
        check("journal.bytes", "1048575", Kafka, Err("journal.bytes must be 0, for no journal, or 1048576 (1 MiB)"));
        check("journal.bytes", "17GiB", Typed, Err("0 to 17179869184 (16 GiB)"));
        check("journal.direct.bytes", "-1", Kafka, Ok("-1"));
        check("journal.direct.bytes", "-2", Kafka, Err("must be -1 or more"));
        check("group.consumer.assignors", "range, uniform", Kafka, Ok("range,uniform"));
        check("group.consumer.assignors", "range,range", Kafka, Err("must be uniform, range, or both"));
        check("group.consumer.migration.policy", "UPGRADE", Kafka, Ok("upgrade"));
        check("group.consumer.migration.policy", "sideways", Kafka, Err("must be disabled, upgrade, downgrade or"));
        check(
            "group.consumer.session.timeout.ms",
            "9s",
            Typed,
            Err("more than group.consumer.session.timeout.ms, which"),
        );
        check("group.consumer.heartbeat.interval.ms", "16s", Typed, Err("more than group.consumer.max.heartbeat."));
        check("group.consumer.max.heartbeat.interval.ms", "4s", Typed, Err("more than group.consumer.max.heartbeat."));
        check("queued.max.request.bytes", "2000000", Kafka, Err("queued.max.request.bytes, which is 2000000"));
    }
}
