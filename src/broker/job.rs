//! A job: a request that waits for something, with what is already known of its reply.
//!
//! *Owns*: the common part of every waiting request. *Never*: decides; the handler of the API does.
//! *Runs on*: the core whose client asked.

use crate::broker::api::{
    alter_configs, client_quotas, create_partitions, create_topics, delete_records, delete_topics, describe_log_dirs,
    describe_producers, elect_leaders, epoch_ends, fetch, group_work, list_offsets, members, produce, reassignments,
};
use crate::broker::effect::ListenerKind;
use crate::broker::forward::{Envelope, ForwardWork};
use crate::broker::session::ReplyTo;
use crate::wire::messages::describe_quorum::DescribeQuorumRequest;
use crate::wire::messages::find_coordinator::FindCoordinatorRequest;
use crate::wire::messages::metadata::MetadataRequest;

/// Which request a reply belongs to, and in which form it must be.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    pub to: ReplyTo,
    pub listener: ListenerKind,
    pub version: i16,
    pub correlation_id: i32,
    /// Set when the request came in one: then so does the reply.
    pub envelope: Option<Envelope>,
    /// The same as often as the request comes, if it may come again.
    pub token: Option<u64>,
}

#[derive(Debug)]
pub struct Job {
    pub asker: Asker,
    pub work: Work,
    /// What to ask of the next controller, if this one is succeeded before it has decided.
    pub again: Option<Box<ForwardWork>>,
}

#[derive(Debug)]
pub enum Work {
    Produce(produce::ProduceWork),
    Fetch(Box<fetch::FetchWork>),
    ListOffsets(list_offsets::ListOffsetsWork),
    EpochEnds(epoch_ends::EpochEndsWork),
    DeleteRecords(delete_records::DeleteRecordsWork),
    CreateTopics(create_topics::CreateTopicsWork),
    DeleteTopics(delete_topics::DeleteTopicsWork),
    CreatePartitions(create_partitions::CreatePartitionsWork),
    MovePartitions(reassignments::MoveWork),
    ElectLeaders(elect_leaders::ElectWork),
    DescribeQuorum(DescribeQuorumRequest),
    Members(members::MembersWork),
    /// Waits for coordinators of groups.
    Group(Box<group_work::GroupWork>),
    /// Waits for `__consumer_offsets` to be made.
    FindCoordinator(FindCoordinatorRequest),
    AlterConfigs(alter_configs::AlterConfigsWork),
    AlterQuotas(client_quotas::AlterQuotasWork),
    DescribeLogDirs(describe_log_dirs::DescribeLogDirsWork),
    DescribeProducers(describe_producers::DescribeProducersWork),
    /// Waits for topics to be created on first use, then is answered as if it had just come.
    Metadata(MetadataRequest),
    /// Waits for a block of producer ids.
    InitProducerId,
    /// Another broker does.
    AllocateProducerIds,
    /// A broker's registration, passed on to the controller.
    Registration,
    /// Passed on to the controller.
    Forward(ForwardWork),
}
