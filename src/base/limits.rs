//! Every bound of the broker that is not a setting, in one place.
//!
//! *Owns*: the numbers and the relations between them. *Never*: a bound a user may want to change (those are
//! settings). *Runs on*: every core.

/// Longest topic name (Kafka: `Topic.MAX_NAME_LENGTH`).
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// Partitions one topic may have.
pub const PARTITIONS_PER_TOPIC_MAX: i32 = 10_000;

/// Brokers of a cluster.
pub const BROKERS_MAX: usize = 1000;

/// Leaders that are given back to preferred replicas in one go (Kafka: `MAX_ELECTIONS_PER_IMBALANCE`).
pub const LEADERS_BALANCED_MAX: usize = 1000;

/// Copies of a partition that somebody may ask for.
pub const REPLICATION_FACTOR_MAX: usize = 7;

/// Copies of a partition while it is moved from some brokers to others.
pub const PARTITION_REPLICAS_MAX: usize = 2 * REPLICATION_FACTOR_MAX;

/// Partitions of the whole broker.
pub const PARTITIONS_MAX: usize = 100_000;

/// Executors in one process.
pub const CORES_MAX: usize = 256;

/// Requests of one connection that are being worked on, or whose reply waits for an earlier one or for the socket. At
/// the bound the connection is not read.
pub const REQUESTS_IN_FLIGHT_PER_CONNECTION_MAX: usize = 1024;

/// Reply bytes queued on one connection before it is not read any more.
pub const OUTPUT_PER_CONNECTION_BYTES_MAX: usize = 4 << 20;

/// How long a connection may leave its replies unread while others wait for the memory they take.
pub const UNREAD_REPLIES_MS: u64 = 10_000;

/// One read from a device.
pub const DISK_READ_BYTES_MAX: usize = 1 << 20;

/// One write to a device: what is pending beyond goes into the next write.
pub const DISK_WRITE_BYTES_MAX: usize = 2 << 20;

/// Segments that one look at a partition's retention lets go of; what is left goes soon after.
pub const RETENTION_SEGMENTS_MAX: usize = 16;

/// Partitions that are looked at in one step for one that is to be compacted.
pub const CLEANING_LOOKS_MAX: u32 = 1000;

/// One commit of a journal, heads and padding included. A quarter of the ring is a bound besides.
pub const JOURNAL_COMMIT_BYTES_MAX: usize = 1 << 20;

/// Truncations of one log, so that a journal's entry has room for their number. One a minute would take thirty years.
pub const TRUNCATIONS_MAX: u32 = (1 << 24) - 1;

/// Payload of one journal entry. With its heads it fits a quarter of the smallest ring.
pub const JOURNAL_ENTRY_BYTES_MAX: usize = (JOURNAL_BYTES_MIN / 4) as usize - super::disk::BLOCK_BYTES;

/// Partitions that a journal asks at a time to flush, while its ring fills and when it is nearly full.
pub const JOURNAL_FLUSHES_MAX: usize = 32;
pub const JOURNAL_FLUSHES_URGENT_MAX: usize = 256;

/// How long appends wait for space in a journal's ring: then they go to their segments instead.
pub const JOURNAL_WAIT_MS: u64 = 2_000;

/// Commits read from a journal before what they hold is written to its segments.
pub const JOURNAL_REDO_BYTES_MAX: usize = 128 << 20;

/// Partitions to which that is written at the same time.
pub const JOURNAL_REDO_PARTITIONS_MAX: usize = 64;

/// Damages that a replay tells one by one.
pub const JOURNAL_DAMAGES_MAX: usize = 1000;

/// How often a core notes how far its logs are durable.
pub const NOTE_INTERVAL_MS: u64 = 5_000;

/// Cluster id in a journal's header.
pub const CLUSTER_ID_BYTES_MAX: usize = 64;

/// Largest whole-file read or write (`ReadFile`, `WriteFile`).
pub const SMALL_FILE_BYTES_MAX: usize = 64 << 20;

/// Topic records of the whole broker, as a metadata snapshot holds them.
pub const META_TOPICS_BYTES_MAX: usize = 48 << 20;

/// What was set of brokers and groups, as a metadata snapshot holds it.
pub const META_CONFIGS_BYTES_MAX: usize = 2 << 20;

/// Subscriptions to the metrics of clients: each has up to six patterns on every core.
pub const METRICS_SUBSCRIPTIONS_MAX: usize = 64;

/// Longest value of one setting.
pub const SETTING_BYTES_MAX: usize = 1024;

/// Longest name of a group with settings of its own.
pub const CONFIG_NAME_BYTES_MAX: usize = 1024;

/// Log part of a metadata file at which the next snapshot is due.
pub const META_LOG_BYTES_MAX: usize = 4 << 20;

/// Brokers of one cluster, as far as they take part in agreeing on metadata.
pub const QUORUM_MEMBERS_MAX: usize = 1000;

/// Records of one plan, at which the next entry of the metadata's log is begun.
pub const QUORUM_ENTRY_BYTES: usize = 512 << 10;

/// Entries of the metadata's log in one message to a broker, unless one alone is larger.
pub const QUORUM_APPEND_BYTES_MAX: usize = 1 << 20;

/// Such messages on their way to one broker.
pub const QUORUM_APPENDS_MAX: usize = 32;

/// Batches remembered per idempotent producer and partition (Kafka: `ProducerStateEntry.NUM_BATCHES_TO_RETAIN`).
pub const PRODUCER_BATCHES_KEPT: usize = 5;

/// Idempotent producers remembered per partition; the longest idle is forgotten first.
pub const PRODUCERS_PER_PARTITION_MAX: usize = 100_000;

/// Incremental fetch sessions of one core (Kafka: `max.incremental.fetch.session.cache.slots`, per broker).
pub const FETCH_SESSIONS_PER_CORE_MAX: usize = 1000;

/// Partitions of one incremental fetch session.
pub const FETCH_SESSION_PARTITIONS_MAX: usize = 10_000;

/// Deepest that records are looked for inside one compressed batch: the bytes it may expand to.
pub const DECOMPRESSED_BATCH_BYTES_MAX: usize = 128 << 20;

/// Producer ids handed to a core at a time.
pub const PRODUCER_ID_BLOCK: i64 = 1000;

/// Memory that the arrays of one message may take, however short its frame.
pub const DECODED_BYTES_BASE: usize = 4 << 20;

/// Memory that the arrays of one message may take besides, per byte of its frame. The structs of honest messages
/// take two to four times their bytes.
pub const DECODED_BYTES_PER_FRAME_BYTE: usize = 4;

/// Partitions of one core that recover at the same time: each may hold a read of `DISK_READ_BYTES_MAX`.
pub const PARTITIONS_OPENING_MAX: usize = 64;

/// Metadata orders that wait on core 0.
pub const CONTROL_ORDERS_QUEUED_MAX: usize = 10_000;

/// How long a stop waits for requests in flight before it goes on without them.
pub const STOP_MS: u64 = 5_000;

/// Groups of one partition of `__consumer_offsets`.
pub const GROUPS_PER_COORDINATOR_MAX: usize = 100_000;

/// Members of one classic group that were given an id and have not joined with it.
pub const GROUP_PENDING_MEMBERS_MAX: usize = 10_000;

/// Names of groups, static members and their protocols: a record's text ends at 32,767 bytes, and a member's id has
/// one of them in it.
pub const GROUP_NAME_BYTES_MAX: usize = 16 << 10;

/// What a batch of one group record takes besides its key and value, the name in the key included.
pub const GROUP_BATCH_HEAD_BYTES_MAX: usize = GROUP_NAME_BYTES_MAX + 1024;

/// How long a member that is new may wait in a JoinGroup request (Kafka: `classicGroupNewMemberJoinTimeoutMs`).
pub const GROUP_NEW_MEMBER_JOIN_MS: u64 = 300_000;

/// Record bytes of one Fetch reply: larger wishes are met in several replies.
pub const FETCH_REPLY_BYTES_MAX: usize = 8 << 20;

/// Clients with quotas whose use one core knows; what further ones use counts together.
pub const QUOTA_BUCKETS_MAX: usize = 10_000;

/// A client id that is longer than this shares its quota with all such.
pub const QUOTA_CLIENT_ID_BYTES_MAX: usize = 255;

/// How long a quota may keep a connection from being read at a time: less than clients wait for a reply. What was used
/// beyond is forgotten then.
pub const THROTTLE_MS_MAX: u64 = 15_000;

/// How often cores tell each other what clients with quotas have used.
pub const QUOTA_SHARE_MS: u64 = 50;

/// Clients whose telemetry one core knows (Kafka: 16,384 of a broker); the longest silent is forgotten first.
pub const TELEMETRY_CLIENTS_MAX: usize = 4096;

/// How long a client may be silent before it is forgotten; three push intervals, if that is longer (Kafka:
/// `ClientMetricsManager.DEFAULT_CACHE_EXPIRY_MS`).
pub const TELEMETRY_SILENCE_MS: u64 = 60_000;

/// Memory for the values that one client has pushed last, and for those of all clients of one core.
pub const TELEMETRY_CLIENT_BYTES_MAX: usize = 1 << 20;
pub const TELEMETRY_BYTES_MAX: usize = 32 << 20;

/// Labels of one pushed value, and their longest names and values.
pub const TELEMETRY_LABELS_MAX: usize = 16;
pub const TELEMETRY_TEXT_BYTES_MAX: usize = 255;

/// What a compressed push may expand to, per byte of `telemetry.max.bytes`.
pub const TELEMETRY_EXPANSION_MAX: usize = 8;

/// Longest name and version of a client's software that is remembered.
pub const SOFTWARE_BYTES_MAX: usize = 64;

/// Producers of one core that one DescribeProducers reply tells of.
pub const PRODUCERS_DESCRIBED_MAX: usize = 100_000;

/// Partitions of one DescribeTopicPartitions reply (Kafka: `max.request.partition.size.limit`).
pub const DESCRIBED_PARTITIONS_MAX: usize = 2000;

/// A core's journal, where there is one: room for a few of the largest commits, and no more than is pre-written in
/// a bearable time.
pub const JOURNAL_BYTES_MIN: u64 = 1 << 20;
pub const JOURNAL_BYTES_MAX: u64 = 16 << 30;

/// How often the uniform assignor goes through the topics of one group. What it has then is valid, if not balanced.
pub const ASSIGNOR_PASSES_MAX: usize = 100;

/// A regular expression of a client, and the tables made of it. They bound what it costs: some tens of milliseconds
/// once, and one step for each byte of a name.
pub const PATTERN_BYTES_MAX: usize = 4096;
pub const PATTERN_TABLE_BYTES_MAX: usize = 1 << 20;
pub const PATTERN_STEPS_BYTES_MAX: usize = 256 << 10;

/// Least time between two looks at which topics match the patterns of a group (Kafka:
/// `GroupMetadataManager.REGEX_BATCH_REFRESH_MIN_INTERVAL_MS`).
pub const TOPIC_PATTERN_REFRESH_MS: u64 = 10_000;

/// One datagram of gossip: what crosses every network in one piece.
pub const GOSSIP_DATAGRAM_BYTES_MAX: usize = 1200;

/// Members that gossip knows, gone ones included.
pub const GOSSIP_MEMBERS_MAX: usize = 4096;

/// Addresses that are asked when no member is known.
pub const GOSSIP_SEEDS_MAX: usize = 64;

/// Datagram bytes of one second that carry anything but membership. Membership has its own pace, and counts here too.
pub const GOSSIP_RATE_BYTES: u64 = 12_000;

/// Datagrams of one second that are looked at; what comes beyond is dropped.
pub const GOSSIP_RECEIVED_MAX: u64 = 5_000;

/// What waits to be passed on. The oldest of the least wanted is forgotten first.
pub const GOSSIP_RUMORS_BYTES_MAX: usize = 64 << 10;

/// Metadata of one version that travels by gossip; larger ones are fetched.
pub const GOSSIP_DELTA_BYTES_MAX: usize = 900;

/// Metadata deltas that wait for an earlier one.
pub const GOSSIP_DELTAS_WAITING_MAX: usize = 64;

/// One piece of a report, its head included.
pub const GOSSIP_PIECE_BYTES_MAX: usize = 450;

/// Partitions of one core that are looked at in one gathering of what gossip reports.
pub const GOSSIP_GATHERED_MAX: u32 = 2_000;

/// Partitions whose positions are known from reports.
pub const GOSSIP_PARTITIONS_MAX: usize = 2 * PARTITIONS_MAX;

const _: () = assert!(GOSSIP_DELTA_BYTES_MAX < GOSSIP_DATAGRAM_BYTES_MAX - 150, "a delta fits a datagram");
const _: () = assert!(GOSSIP_PIECE_BYTES_MAX < GOSSIP_DATAGRAM_BYTES_MAX / 2, "two pieces fit a datagram");

/// How long another broker may take to answer at all: to the connection, and to the greeting.
pub const PEER_GREETING_MS: u64 = 2_000;

/// How long another broker may take to answer a call that waits for nothing else.
pub const PEER_CALL_MS: u64 = 5_000;

/// How long a leader may leave a follower's fetch unanswered, whatever the settings say.
pub const REPLICA_FETCH_WAIT_MS_MAX: u32 = 10_000;

/// How long the answer to a follower's fetch may take.
pub const REPLICA_FETCH_CALL_MS: u64 = 2 * REPLICA_FETCH_WAIT_MS_MAX as u64;

/// How long a client's request waits for somebody to be the controller, and for its answer.
pub const FORWARD_MS: u64 = 10_000;

/// How long a broker that starts waits for somebody to be the controller before it lets clients in.
pub const OPEN_MS: u64 = 10_000;

/// How long a broker that stops waits for others to lead its partitions.
pub const LEAVE_MS: u64 = 5_000;

/// Wait before a broker that could not be reached is connected to again: the first time, and at most.
pub const PEER_BACKOFF_MS_MIN: u64 = 50;
pub const PEER_BACKOFF_MS_MAX: u64 = 1_000;

/// Calls of one connection to another broker that are not answered: fewer than its sessions take.
pub const PEER_CALLS_MAX: usize = 1_000;

/// Bytes queued to another broker that its socket has not taken: then the connection is given up.
pub const PEER_OUTPUT_BYTES_MAX: usize = 256 << 20;

/// What a reply of another broker may have besides the largest batch.
pub const PEER_REPLY_EXTRA_BYTES: usize = 16 << 20;

/// A frame on the listener for brokers before it is known whose it is.
pub const PEER_GREETING_BYTES_MAX: usize = 1024;

/// Connections of other brokers to this process: a core of each makes two to each core here.
pub const PEER_CONNECTIONS_MAX: u32 = 20_000;

const _: () = assert!(DISK_READ_BYTES_MAX.is_multiple_of(super::disk::BLOCK_BYTES));
const _: () = assert!(DISK_WRITE_BYTES_MAX.is_multiple_of(super::disk::BLOCK_BYTES));
const _: () =
    assert!(JOURNAL_COMMIT_BYTES_MAX <= DISK_WRITE_BYTES_MAX && JOURNAL_COMMIT_BYTES_MAX <= DISK_READ_BYTES_MAX);
const _: () = assert!(PEER_CALLS_MAX < REQUESTS_IN_FLIGHT_PER_CONNECTION_MAX);
// A metadata file is read in one piece: snapshot, log part, the write that passes its bound, and the frames around.
const _: () = assert!(
    META_TOPICS_BYTES_MAX + META_CONFIGS_BYTES_MAX + META_LOG_BYTES_MAX + 2 * DISK_WRITE_BYTES_MAX
        < SMALL_FILE_BYTES_MAX,
    "a metadata file must be a small file"
);
