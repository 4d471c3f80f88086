//! What the cores of one process say to each other.
//!
//! *Owns*: the vocabulary of the mesh. *Never*: leaves the process: there is no binary form. *Runs on*: every core.

use bytes::Bytes;

use crate::base::bounds::Reach;
pub use crate::base::ids::TopicPartition;
use crate::base::ids::{BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionEpoch, PartitionIndex, ProducerId, TopicId};
use crate::base::slab::Key;
use crate::base::stage::Trace;
use crate::base::time::Instant;
use crate::broker::cluster::ControllerAt;
use crate::broker::gossiping::Gathered;
use crate::broker::groups::GroupAsk;
use crate::broker::quotas::{Bucket, MutationQuota};
use crate::broker::survey::{Survey, Surveyed};
use crate::group::ask::{Answer as GroupAnswer, Ticket};
use crate::log::reach::MustReach;
use crate::meta::configs::ConfigChange;
use crate::meta::controller::{MetaError, NewTopic};
use crate::meta::election::Election;
use crate::meta::quota::QuotaWish;
use crate::meta::reassign::MoveWish;
use crate::meta::{MetaRecord, QuorumStatus};
use crate::replica::isr::IsrProposal;
use crate::replica::partition::{Acked, Brought, Follower, Reader, Seen};
use crate::wire::errors::ErrorCode;
use crate::wire::text::Text;

#[derive(Debug)]
pub enum ShardMessage {
    /// Append these batches; each is answered by its own [`Acked`].
    Append(Vec<AppendEntry>),
    Acked(Vec<Acked>),
    /// Read for a fetch; answered by [`ShardMessage::ReadDone`].
    Read(ReadOrder),
    ReadDone {
        job: Key,
        round: u32,
        results: Vec<(u32, ReadResult)>,
        trace: Trace,
    },
    /// Say [`ShardMessage::Changed`] of each of these once it is not as it was seen.
    Watch(Vec<WatchEntry>),
    Unwatch(Vec<(TopicPartition, Follower)>),
    /// What these watched has changed, and is watched no more.
    Changed(Vec<Follower>),
    /// The same, of what nobody is to be woken for.
    ToldAside(Vec<Follower>),
    /// A question to the owner of a partition; answered by [`ShardMessage::Answer`].
    Ask {
        job: Key,
        at: u32,
        to: TopicPartition,
        question: Question,
    },
    Answer {
        job: Key,
        at: u32,
        answer: Answer,
    },
    /// A question to the owner of these partitions; answered by [`ShardMessage::Surveyed`].
    Survey {
        job: Key,
        survey: Survey,
        of: Vec<TopicPartition>,
    },
    Surveyed {
        job: Key,
        found: Vec<(TopicPartition, Surveyed)>,
    },
    /// What clients with quotas have used on the sending core since the last time.
    QuotaUsed(Vec<(Bucket, f64)>),
    /// To the coordinators on this core; each is answered by its own row of [`ShardMessage::GroupAnswers`].
    GroupAsks(Vec<GroupAsk>),
    GroupAnswers(Vec<(Ticket, GroupAnswer)>),
    /// To core 0: decide on a change of metadata; answered by [`ShardMessage::Controlled`].
    Control {
        job: Key,
        order: ControlOrder,
    },
    Controlled {
        job: Key,
        outcome: ControlOutcome,
    },
    /// From core 0: these records are committed; apply them, and say [`ShardMessage::MetaApplied`].
    Meta {
        sequence: u64,
        records: Vec<MetaRecord>,
    },
    MetaApplied {
        sequence: u64,
    },
    /// From core 0, before the first records: the journals had batches of these partitions up to there, or may have, and
    /// they were committed so far.
    Replayed {
        must_reach: Vec<(TopicPartition, MustReach)>,
        committed: Vec<(TopicPartition, Reach)>,
    },
    /// From core 0: who decides on metadata.
    Controller(ControllerAt),
    /// To core 0: in-sync sets that leaders on the sending core want; each is answered by its row of
    /// [`ShardMessage::IsrAnswered`].
    IsrProposed(Vec<(TopicPartition, IsrProposal)>),
    IsrAnswered(Vec<IsrAnswer>),
    /// From core 0: others lead this broker's partitions, it may stop.
    Left,
    /// A sync failed on the sending core, or a write of its journal: all cores share the directory.
    DirectoryOffline {
        cause: String,
    },
    /// From core 0: every core has recovered, and the journals of the run before are empty.
    AllReady,
    /// Core 0 says that clients may come.
    LetClientsIn,
    /// From core 0: tell what this core has measured; answered by [`ShardMessage::Gathered`].
    Gather,
    Gathered(Box<Gathered>),
    /// This core has answered everything its clients had asked, and asks nothing of others any more.
    SessionsDone,
}

#[derive(Debug)]
pub struct AppendEntry {
    pub to: TopicPartition,
    pub batch: Brought,
}

/// For whom is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadFor {
    Consumer,
    /// A follower on this broker, in this run of it.
    Replica(NodeId, BrokerEpoch),
}

impl ReadFor {
    pub fn reader(self) -> Reader {
        match self {
            ReadFor::Consumer => Reader::Consumer,
            ReadFor::Replica(..) => Reader::Replica,
        }
    }
}

#[derive(Debug)]
pub struct ReadOrder {
    pub whose: ReadFor,
    /// Where the consumer is; empty when it does not say. One that does may read from any replica (KIP-392).
    pub rack: Text,
    pub job: Key,
    pub round: u32,
    pub bytes_max: usize,
    /// The first partition that has anything gives one batch even beyond `bytes_max`.
    pub at_least_one: bool,
    pub entries: Vec<ReadEntry>,
    pub trace: Trace,
}

/// One partition of a fetch.
#[derive(Clone, Copy, Debug)]
pub struct ReadEntry {
    /// Position in the fetch, returned with the result.
    pub at: u32,
    pub of: TopicPartition,
    pub from: Offset,
    pub bytes_max: usize,
    pub current_leader_epoch: LeaderEpoch,
    /// −1: the client does not ask whether its log has diverged (KIP-595).
    pub last_fetched_epoch: LeaderEpoch,
    /// Of a follower: where its log begins.
    pub log_start: Offset,
}

/// A partition to watch, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct WatchEntry {
    pub of: TopicPartition,
    /// Of the read that the follower knows of.
    pub seen: Seen,
    pub reader: Reader,
    pub follower: Follower,
}

#[derive(Debug, Clone)]
pub struct ReadResult {
    pub error: ErrorCode,
    pub high_watermark: Offset,
    pub log_start: Offset,
    /// What there is for this reader ends here.
    pub end: Offset,
    pub slices: Vec<Bytes>,
    pub bytes: usize,
    /// The client's log ends differently: the epoch and end offset to truncate to.
    pub diverging: Option<(LeaderEpoch, Offset)>,
    /// What a throttled replica gives to a follower that is not in sync; perhaps nothing, for now.
    pub throttled: bool,
    /// Whom the consumer is to ask instead. Nothing was read then.
    pub nearer: Option<NodeId>,
    /// How often what there is to read had changed before.
    pub changes: u64,
}

impl ReadResult {
    pub fn error(error: ErrorCode) -> ReadResult {
        ReadResult {
            error,
            high_watermark: Offset(-1),
            log_start: Offset(-1),
            end: Offset(-1),
            slices: Vec::new(),
            bytes: 0,
            diverging: None,
            throttled: false,
            nearer: None,
            changes: 0,
        }
    }

    /// What whoever gets it knows of the partition.
    pub fn seen(&self) -> Seen {
        Seen { changes: self.changes, high_watermark: self.high_watermark }
    }
}

#[derive(Debug, Clone, Copy)]
pub enum Question {
    /// ListOffsets: a timestamp in ms, or one of its special values.
    Offset {
        timestamp: i64,
        current_leader_epoch: LeaderEpoch,
    },
    EpochEnd {
        epoch: LeaderEpoch,
        current_leader_epoch: LeaderEpoch,
    },
    /// DeleteRecords: everything below the offset; −1 for the high watermark. Other replicas are waited for until `due`.
    Delete {
        before: i64,
        due: Instant,
    },
}

#[derive(Debug, Clone, Copy)]
pub enum Answer {
    Error(ErrorCode),
    /// No record at or after the timestamp: all −1.
    Offset {
        offset: i64,
        timestamp: i64,
        leader_epoch: i32,
    },
    /// −1, −1 when the epoch is older than the log or unknown.
    EpochEnd {
        epoch: LeaderEpoch,
        end: Offset,
    },
    /// Where the log begins after a deletion.
    LogStart {
        start: Offset,
    },
}

#[derive(Debug)]
pub enum ControlOrder {
    CreateTopics {
        topics: Vec<NewTopic>,
        validate_only: bool,
        quota: Option<MutationQuota>,
    },
    DeleteTopics {
        topics: Vec<TopicName>,
        quota: Option<MutationQuota>,
    },
    CreatePartitions {
        topics: Vec<NewPartitions>,
        validate_only: bool,
        quota: Option<MutationQuota>,
    },
    TakeProducerIds,
    AlterQuotas {
        wishes: Vec<QuotaWish>,
        validate_only: bool,
    },
    AlterConfigs {
        wishes: Vec<ConfigChange>,
        validate_only: bool,
    },
    MovePartitions(Vec<MoveWish>),
    ElectLeaders {
        election: Election,
        partitions: Vec<(String, PartitionIndex)>,
    },
    UnregisterBroker(NodeId),
    ChangeVoters(VoterChange),
    /// Changes nothing: answered by [`ControlOutcome::Quorum`].
    DescribeQuorum,
}

/// Who is to decide on metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VoterChange {
    Add(NodeId),
    Remove(NodeId),
}

/// A topic somebody wants to grow.
#[derive(Debug)]
pub struct NewPartitions {
    pub name: String,
    /// Partitions afterwards.
    pub count: i32,
    /// Brokers of each new partition, where the client says.
    pub assignments: Option<Vec<Vec<NodeId>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicName {
    Name(String),
    Id(TopicId),
}

/// What became of the in-sync set that the leader of a partition proposed for its state of this epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsrAnswer {
    pub of: TopicPartition,
    pub epoch: PartitionEpoch,
    pub code: ErrorCode,
}

/// How a control order ended; one result for each topic, or other thing, of the order, in its order.
#[derive(Debug)]
pub enum ControlOutcome {
    Topics(Vec<TopicOutcome>),
    Results(Vec<Result<(), MetaError>>),
    ProducerIds { first: ProducerId, count: i64 },
    Quorum(QuorumStatus),
    Failed(ErrorCode),
}

/// What an order of a kind ended with, or why it failed. Panics for an order of another kind.
impl ControlOutcome {
    pub fn topics(self) -> Result<Vec<TopicOutcome>, ErrorCode> {
        match self {
            ControlOutcome::Topics(outcomes) => Ok(outcomes),
            other => Err(other.failure()),
        }
    }

    pub fn results(self) -> Result<Vec<Result<(), MetaError>>, ErrorCode> {
        match self {
            ControlOutcome::Results(results) => Ok(results),
            other => Err(other.failure()),
        }
    }

    /// The first, and how many.
    pub fn producer_ids(self) -> Result<(ProducerId, i64), ErrorCode> {
        match self {
            ControlOutcome::ProducerIds { first, count } => Ok((first, count)),
            other => Err(other.failure()),
        }
    }

    pub fn quorum(self) -> Result<QuorumStatus, ErrorCode> {
        match self {
            ControlOutcome::Quorum(status) => Ok(status),
            other => Err(other.failure()),
        }
    }

    fn failure(self) -> ErrorCode {
        match self {
            ControlOutcome::Failed(error) => error,
            other => unreachable!("the order was of another kind: {other:?}"),
        }
    }
}

#[derive(Debug, Clone)]
pub struct TopicOutcome {
    pub name: String,
    pub id: TopicId,
    pub error: ErrorCode,
    pub message: Option<String>,
    /// For how long the client is to be throttled.
    pub throttle_ms: u64,
}
