//! The cluster itself: its brokers, who decides, and which partitions are being moved.
//!
//! *Owns*: the requests. *Never*: decides where anything should be. *Runs on*: a thread that may wait.

use std::collections::BTreeMap;

use crate::client::client::{Client, To};
use crate::client::error::{ClientError, Kind, Refusal};
use crate::client::offsets::{TopicPartition, by_topic};
use crate::wire::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartition, ReassignableTopic,
};
use crate::wire::messages::describe_cluster::{DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse};
use crate::wire::messages::describe_log_dirs::{
    DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult,
};
use crate::wire::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, PartitionData, PartitionRequest, TopicRequest,
};
use crate::wire::messages::elect_leaders::{ElectLeadersRequest, ElectLeadersResponse, TopicPartitions};
use crate::wire::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, OngoingPartitionReassignment,
};
use crate::wire::messages::unregister_broker::{UnregisterBrokerRequest, UnregisterBrokerResponse};

const BROKERS: i8 = 1;
const PREFERRED: i8 = 0;

/// Who is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cluster {
    pub id: String,
    /// With those that are fenced, where the brokers tell.
    pub brokers: Vec<DescribeClusterBroker>,
    /// Who decides on metadata, where the brokers tell.
    pub quorum: Option<PartitionData>,
}

/// What became of each partition.
pub type Outcome = BTreeMap<TopicPartition, Result<(), Refusal>>;

impl Client {
    pub fn cluster(&mut self) -> Result<Cluster, ClientError> {
        let request =
            DescribeClusterRequest { endpoint_type: BROKERS, include_fenced_brokers: true, ..Default::default() };
        let reply: DescribeClusterResponse = self.ask(To::Any, &request, |_| Vec::new())?;
        refused("the cluster", reply.error_code, reply.error_message.as_deref())?;
        let quorum = match self.quorum() {
            Err(error) if matches!(error.kind, Kind::NotSpoken | Kind::Refused(_)) => None,
            quorum => quorum?,
        };
        Ok(Cluster { id: reply.cluster_id.to_string(), brokers: reply.brokers, quorum })
    }

    fn quorum(&mut self) -> Result<Option<PartitionData>, ClientError> {
        let partitions = vec![PartitionRequest { partition_index: 0 }];
        let topic = TopicRequest { topic_name: "__cluster_metadata".into(), partitions };
        let request = DescribeQuorumRequest { topics: vec![topic] };
        let codes = |reply: &DescribeQuorumResponse| vec![reply.error_code];
        let reply: DescribeQuorumResponse = self.ask(To::Any, &request, codes)?;
        refused("the quorum", reply.error_code, reply.error_message.as_deref())?;
        let partitions = reply.topics.into_iter().flat_map(|topic| topic.partitions);
        Ok(partitions.into_iter().find(|partition| partition.error_code == 0))
    }

    /// What one broker has, by its directories.
    pub fn log_dirs(&mut self, broker: i32) -> Result<Vec<DescribeLogDirsResult>, ClientError> {
        let request = DescribeLogDirsRequest { topics: None };
        let reply: DescribeLogDirsResponse = self.ask(To::Node(broker), &request, |_| Vec::new())?;
        refused(&format!("the directories of broker {broker}"), reply.error_code, None)?;
        Ok(reply.results)
    }

    /// Partitions on their way to other brokers.
    pub fn moving(&mut self) -> Result<BTreeMap<TopicPartition, OngoingPartitionReassignment>, ClientError> {
        let request = ListPartitionReassignmentsRequest { timeout_ms: self.wait_ms(), topics: None };
        let codes = |reply: &ListPartitionReassignmentsResponse| vec![reply.error_code];
        let reply: ListPartitionReassignmentsResponse = self.ask(To::Controller, &request, codes)?;
        refused("what is being moved", reply.error_code, reply.error_message.as_deref())?;
        let mut moving = BTreeMap::new();
        for topic in reply.topics {
            let name = topic.name.to_string();
            let place = |partition| TopicPartition { topic: name.clone(), partition };
            moving.extend(topic.partitions.into_iter().map(|row| (place(row.partition_index), row)));
        }
        Ok(moving)
    }

    /// Moves partitions to these brokers; `None` calls off what is under way.
    pub fn move_partitions(
        &mut self,
        wishes: &BTreeMap<TopicPartition, Option<Vec<i32>>>,
    ) -> Result<Outcome, ClientError> {
        let topics = by_topic(wishes.iter().map(|(place, replicas)| (place, replicas.clone()))).into_iter();
        let row = |(partition_index, replicas)| ReassignablePartition { partition_index, replicas };
        let topics = topics.map(|(name, rows)| ReassignableTopic {
            name: name.into(),
            partitions: rows.into_iter().map(row).collect(),
        });
        let (timeout_ms, topics) = (self.wait_ms(), topics.collect());
        let request = AlterPartitionReassignmentsRequest { timeout_ms, allow_replication_factor_change: true, topics };
        let codes = |reply: &AlterPartitionReassignmentsResponse| vec![reply.error_code];
        let reply: AlterPartitionReassignmentsResponse = self.ask(To::Controller, &request, codes)?;
        refused("the move", reply.error_code, reply.error_message.as_deref())?;
        let mut outcome = Outcome::new();
        for topic in &reply.responses {
            for row in &topic.partitions {
                let place = TopicPartition { topic: topic.name.to_string(), partition: row.partition_index };
                let refusal = Refusal::of(row.error_code, row.error_message.as_deref());
                outcome.insert(place, refusal.map_or(Ok(()), Err));
            }
        }
        Ok(outcome)
    }

    /// Has the first replica of each of these lead it.
    pub fn elect_preferred(&mut self, places: &[TopicPartition]) -> Result<Outcome, ClientError> {
        let topics = by_topic(places.iter().map(|place| (place, ()))).into_iter();
        let topics = topics.map(|(topic, rows)| TopicPartitions {
            topic: topic.into(),
            partitions: rows.into_iter().map(|(partition, ())| partition).collect(),
        });
        let (timeout_ms, topics) = (self.wait_ms(), topics.collect());
        let request = ElectLeadersRequest { election_type: PREFERRED, topic_partitions: Some(topics), timeout_ms };
        let codes = |reply: &ElectLeadersResponse| vec![reply.error_code];
        let reply: ElectLeadersResponse = self.ask(To::Controller, &request, codes)?;
        refused("the election", reply.error_code, None)?;
        let mut outcome = Outcome::new();
        for topic in &reply.replica_election_results {
            for row in &topic.partition_result {
                let place = TopicPartition { topic: topic.topic.to_string(), partition: row.partition_id };
                let refusal = Refusal::of(row.error_code, row.error_message.as_deref());
                outcome.insert(place, refusal.map_or(Ok(()), Err));
            }
        }
        Ok(outcome)
    }

    /// Takes a broker that will not come back out of the metadata.
    pub fn unregister(&mut self, broker: i32) -> Result<Result<(), Refusal>, ClientError> {
        let request = UnregisterBrokerRequest { broker_id: broker };
        let codes = |reply: &UnregisterBrokerResponse| vec![reply.error_code];
        let reply: UnregisterBrokerResponse = self.ask(To::Controller, &request, codes)?;
        Ok(Refusal::of(reply.error_code, reply.error_message.as_deref()).map_or(Ok(()), Err))
    }
}

fn refused(what: &str, code: i16, message: Option<&str>) -> Result<(), ClientError> {
    Refusal::of(code, message).map_or(Ok(()), |refusal| Err(ClientError::refused(what, &refusal)))
}
