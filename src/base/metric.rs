//! Numbers about a core that grow or go up and down, for whoever watches the broker.
//!
//! *Owns*: THE table of them; names and manual derive from it. *Never*: adds cores up by itself. *Runs on*: every
//! core.

/// How a number behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetricKind {
    /// Only ever grows.
    Counter,
    /// What is there at the moment.
    Gauge,
}

/// One number, as it is shown.
#[derive(Debug)]
pub struct MetricRow {
    pub metric: Metric,
    /// Unit last; counters are shown with Prometheus's `_total` behind it.
    pub name: &'static str,
    pub kind: MetricKind,
    doc: &'static str,
}

impl MetricRow {
    pub fn doc(&self) -> &'static str {
        self.doc.trim()
    }
}

macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $metric:ident $name:literal $kind:ident;)*) => {
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Metric {
            $($(#[doc = $doc])+ $metric,)*
        }

        pub static METRICS: &[MetricRow] = &[$(MetricRow {
            metric: Metric::$metric,
            name: $name,
            kind: MetricKind::$kind,
            doc: concat!($($doc),+),
        },)*];

        const COUNT: usize = [$(Metric::$metric),*].len();
    };
}

metrics! {
    /// Client connections that are open.
    Connections "connections" Gauge;
    /// Partitions that are open.
    Partitions "partitions" Gauge;
    /// 1 when the data directory takes no more writes on this core because a sync has failed, otherwise 0.
    DirectoryOffline "data_directory_offline" Gauge;
    /// Memory held by requests that are being received or worked on.
    RequestBytes "request_memory_bytes" Gauge;
    /// Replies that no socket has taken yet.
    ReplyBytes "reply_memory_bytes" Gauge;
    /// Memory held by the newest records of the partitions.
    TailCacheBytes "tail_cache_bytes" Gauge;
    /// Clients with quotas whose use the core knows.
    QuotaClients "quota_clients" Gauge;
    /// Connections that are not read at present because their clients have used more than their quotas.
    MutedConnections "muted_connections" Gauge;
    /// Requests after which a client had used more than its quota.
    ThrottledRequests "throttled_requests" Counter;
    /// Milliseconds for which clients were told to wait because of their quotas.
    ThrottleMs "throttle_milliseconds" Counter;
    /// Connections that were closed without being served because their address made more than its quota.
    ThrottledConnections "throttled_connections" Counter;
    /// Clients that have asked which of their metrics are wanted, and are not silent since.
    TelemetryClients "telemetry_clients" Gauge;
    /// Values pushed by clients that are not shown: they are no plain numbers, or too many or too long.
    TelemetryLeftOut "telemetry_values_left_out" Counter;
    /// Partitions looked at for fetches. Those of a fetch session that have nothing new are not.
    PartitionsRead "fetch_partitions_read" Counter;
    /// Bytes read from clients.
    ReceivedBytes "received_bytes" Counter;
    /// Bytes that sockets have taken for clients.
    SentBytes "sent_bytes" Counter;
    /// Writes to disk.
    DiskWrites "disk_writes" Counter;
    /// Bytes handed to devices, in whole blocks as they are written: records, in journals and segments, zeros written
    /// ahead, metadata and indexes. What the file system writes for itself is not among them.
    DiskWriteBytes "disk_write_bytes" Counter;
    /// Of these, bytes of segments, zeros written ahead included.
    SegmentWriteBytes "segment_write_bytes" Counter;
    /// Of these, bytes of commits to the core's journal, with its headers.
    JournalWriteBytes "journal_write_bytes" Counter;
    /// Of the bytes handed to devices, zeros written once before the core's journal had that space.
    JournalPrewrittenBytes "journal_prewritten_bytes" Counter;
    /// Commits to the core's journal: one write and one sync each.
    JournalCommits "journal_commits" Counter;
    /// Entries of these commits: one for each partition that had something to commit.
    JournalEntries "journal_entries" Counter;
    /// Times that commits had to wait for space in the journal, which segments had to be written for.
    JournalWaits "journal_waits" Counter;
    /// Microseconds that commits have waited for space in the journal.
    JournalWaitUs "journal_wait_microseconds" Counter;
    /// Entries that waited too long for space in the journal, and went to their segments.
    JournalHandedBack "journal_handed_back" Counter;
    /// Size of the core's journal; 0 when there is none.
    JournalBytes "journal_size_bytes" Gauge;
    /// Of these, bytes that are not free: their records are not safe in segments yet.
    JournalUsedBytes "journal_used_bytes" Gauge;
    /// Bytes of record batches taken from producers, compressed as they were sent. What is sent again and was there
    /// already is not among them.
    AppendedBytes "appended_bytes" Counter;
    /// Segments that retention, DeleteRecords or compaction removed.
    SegmentsDeleted "deleted_segments" Counter;
    /// Bytes of record batches in them.
    SegmentsDeletedBytes "deleted_segment_bytes" Counter;
    /// Bytes of record batches that compaction has read to copy what stays of them.
    CompactedBytes "compacted_bytes" Counter;
    /// Bytes of record batches that compaction has left of them.
    CompactionWriteBytes "compaction_write_bytes" Counter;
    /// Other brokers that gossip thinks are there, as core 0 knows.
    GossipAlive "gossip_alive" Gauge;
    /// Other brokers that do not answer gossip, and may still object.
    GossipSuspected "gossip_suspected" Gauge;
    /// Partitions whose leaders on other brokers have told by gossip how far they are.
    GossipPartitions "gossip_partitions" Gauge;
    /// How many changes of metadata others have told by gossip that they have and this broker has not.
    MetadataBehind "metadata_behind" Gauge;
    /// Datagrams of gossip sent.
    GossipSent "gossip_sent_datagrams" Counter;
    /// Bytes in them.
    GossipSentBytes "gossip_sent_bytes" Counter;
    /// Datagrams of gossip received.
    GossipReceived "gossip_received_datagrams" Counter;
    /// Bytes in them.
    GossipReceivedBytes "gossip_received_bytes" Counter;
    /// Of the datagrams received, those that were not used: forged, repeated, of another cluster or too many.
    GossipRefused "gossip_refused_datagrams" Counter;
    /// Reads from disk.
    DiskReads "disk_reads" Counter;
    /// Bytes read from disk.
    DiskReadBytes "disk_read_bytes" Counter;
    /// Calls of fdatasync.
    DiskSyncs "disk_syncs" Counter;
    /// Disk operations that failed.
    DiskFailures "disk_failures" Counter;
    /// Messages sent to other cores.
    MeshMessages "mesh_messages" Counter;
    /// Inputs that the core has handled: its turns of work.
    Steps "steps" Counter;
}

/// A value for each row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metrics {
    values: [u64; COUNT],
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics { values: [0; COUNT] }
    }
}

impl Metrics {
    #[inline]
    pub fn add(&mut self, metric: Metric, more: u64) {
        self.values[metric as usize] += more;
    }

    pub fn set(&mut self, metric: Metric, value: u64) {
        self.values[metric as usize] = value;
    }

    /// Takes over what another part of the same core has counted.
    pub fn merge(&mut self, other: &Metrics) {
        for (mine, theirs) in self.values.iter_mut().zip(other.values) {
            *mine += theirs;
        }
    }

    pub fn get(&self, metric: Metric) -> u64 {
        self.values[metric as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_its_numbers_and_reads_well() {
        for (at, row) in METRICS.iter().enumerate() {
            assert_eq!(row.metric as usize, at);
            assert!(row.doc().ends_with('.') && !row.doc().contains("  "), "{}", row.doc());
            assert!(row.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", row.name);
            assert!(!row.name.ends_with("_total"), "{}: the encoder adds it", row.name);
            assert!(METRICS[..at].iter().all(|other| other.name != row.name), "{} is there twice", row.name);
        }
    }

    #[test]
    fn counters_add_up_and_gauges_are_set() {
        let mut metrics = Metrics::default();
        metrics.add(Metric::DiskReads, 2);
        metrics.add(Metric::DiskReads, 3);
        metrics.set(Metric::Partitions, 7);
        metrics.set(Metric::Partitions, 6);
        let mut other = Metrics::default();
        other.add(Metric::Steps, 1);
        metrics.merge(&other);
        assert_eq!(metrics.get(Metric::Steps), 1);
        assert_eq!((metrics.get(Metric::DiskReads), metrics.get(Metric::Partitions)), (5, 6));
    }
}
