//! The few requests around a run: what the broker is, the topic, its leaders, producer ids.
//!
//! *Owns*: what is asked, of any broker of the cluster. *Never*: part of what is measured. *Runs on*: the main thread
//! before a run, a thread of its own during it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::bench::producer::Node;
use crate::bench::result::BrokerFacts;
use crate::bench::workload::Workload;
use crate::client::connection::{Connection, resolve};
use crate::client::error::{ClientError, error_name};
use crate::wire::errors::ErrorCode;
use crate::wire::messages;
use crate::wire::messages::api_versions::ApiVersionsResponse;
use crate::wire::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use crate::wire::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
};
use crate::wire::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use crate::wire::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use crate::wire::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};

const CLIENT_ID: &str = "corelog-bench";

const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// How long the making of a topic may take: thousands of partitions have thousands of files.
const CREATE_WAIT: Duration = Duration::from_secs(120);

/// How long a new topic may take until its partitions are led.
const LEADERS_WAIT: Duration = Duration::from_secs(30);

/// Kind of key in FindCoordinator.
const GROUP_KEY: i8 = 0;

/// Resource type of DescribeConfigs.
const BROKER_RESOURCE: i8 = 4;

/// Why a run did not begin or did not go on: for the user to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BenchError {
    message: String,
}

impl BenchError {
    pub fn new(message: impl Into<String>) -> BenchError {
        BenchError { message: message.into() }
    }
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for BenchError {}

impl From<ClientError> for BenchError {
    fn from(error: ClientError) -> BenchError {
        BenchError::new(error.message())
    }
}

/// The brokers, and who leads the topic's partitions.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Cluster {
    pub id: String,
    pub controller: Node,
    pub brokers: BTreeMap<Node, Address>,
    /// Empty when the topic does not exist.
    pub leaders: Vec<Option<Node>>,
    pub topic_error: Option<ErrorCode>,
    /// The reply that all this is from.
    pub metadata: MetadataResponse,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    pub name: String,
    pub socket: SocketAddr,
}

pub struct Control {
    connection: Connection,
    /// What the last connection and the last Metadata took.
    pub connect_time: Duration,
    pub metadata_time: Duration,
}

impl Control {
    /// Connects to the first of the addresses that answers, and learns what it speaks.
    pub fn connect(bootstrap: &str) -> Result<Control, BenchError> {
        let connection = Connection::open(bootstrap, CLIENT_ID, ANSWER_WAIT)?;
        Ok(Control { connect_time: connection.connect_time, connection, metadata_time: Duration::ZERO })
    }

    /// The highest version of an API that both sides speak, up to `last`.
    pub fn version(&self, api_key: i16, last: i16) -> Result<i16, BenchError> {
        Ok(self.connection.version(api_key, last)?)
    }

    /// What the broker said it speaks.
    pub fn versions(&self) -> &ApiVersionsResponse {
        self.connection.versions()
    }

    /// The cluster as it is now. Remembers its brokers, to be asked when those known so far are gone.
    pub fn cluster(&mut self, topic: &str) -> Result<Cluster, BenchError> {
        let start = Instant::now();
        let asked = MetadataRequestTopic { name: Some(topic.into()), ..Default::default() };
        let request =
            MetadataRequest { topics: Some(vec![asked]), allow_auto_topic_creation: false, ..Default::default() };
        let reply: MetadataResponse = self.connection.ask(&request)?;
        self.metadata_time = start.elapsed();
        let mut brokers = BTreeMap::new();
        for broker in &reply.brokers {
            let name = format!("{}:{}", broker.host.as_str(), broker.port);
            let socket = resolve(&name)?;
            self.connection.remember(&name);
            brokers.insert(broker.node_id, Address { name, socket });
        }
        let topic = reply.topics.first();
        let code = topic.map_or(0, |topic| topic.error_code);
        let topic_error = (code != 0).then(|| ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError));
        let mut leaders = vec![None; topic.map_or(0, |topic| topic.partitions.len())];
        for partition in topic.into_iter().flat_map(|topic| &topic.partitions) {
            let place = usize::try_from(partition.partition_index).ok().and_then(|index| leaders.get_mut(index));
            let led = partition.leader_id >= 0 && brokers.contains_key(&partition.leader_id);
            *place.ok_or_else(|| self.error("Metadata with partitions that are not numbered from 0"))? =
                led.then_some(partition.leader_id);
        }
        let id = reply.cluster_id.as_ref().map_or_else(String::new, |id| id.as_str().to_owned());
        Ok(Cluster { id, controller: reply.controller_id, brokers, leaders, topic_error, metadata: reply })
    }

    /// Creates the topic unless it is there, and waits until each partition is led.
    pub fn prepare_topic(&mut self, workload: &Workload) -> Result<Cluster, BenchError> {
        let until = Instant::now() + LEADERS_WAIT;
        let (topic, wanted) = (&workload.topic, workload.partitions as usize);
        let mut created = false;
        loop {
            let cluster = self.cluster(topic)?;
            match cluster.topic_error {
                Some(ErrorCode::UnknownTopicOrPartition) if !created => {
                    self.create_topic(workload, &cluster)?;
                    created = true;
                }
                None if cluster.leaders.len() != wanted => {
                    return Err(BenchError::new(format!(
                        "topic {topic} has {} partitions, and the workload {wanted}: say --partitions {0}, or choose \
                         another --topic",
                        cluster.leaders.len()
                    )));
                }
                None if cluster.leaders.iter().all(Option::is_some) => return Ok(cluster),
                Some(error) if !error.retriable() => {
                    return Err(self.error(&format!("refuses topic {topic}: {error}")));
                }
                _ => {}
            }
            if Instant::now() > until {
                let led = cluster.leaders.iter().flatten().count();
                return Err(
                    self.error(&format!("has topic {topic} with {led} of {wanted} partitions led, for too long"))
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn create_topic(&mut self, workload: &Workload, cluster: &Cluster) -> Result<(), BenchError> {
        let configs = workload.topic_settings.iter();
        let configs =
            configs.map(|(name, value)| CreatableTopicConfig { name: name.into(), value: Some(value.into()) });
        let topic = CreatableTopic {
            name: workload.topic.as_str().into(),
            num_partitions: workload.partitions as i32,
            replication_factor: workload.replication_factor,
            configs: configs.collect(),
            ..Default::default()
        };
        let timeout_ms = CREATE_WAIT.as_millis() as i32;
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms, ..Default::default() };
        let mut reply: CreateTopicsResponse = self.connection.ask_within(CREATE_WAIT, &request)?;
        let code = |reply: &CreateTopicsResponse| reply.topics.first().map_or(0, |topic| topic.error_code);
        if code(&reply) == ErrorCode::NotController.code()
            && let Some(controller) = cluster.brokers.get(&cluster.controller)
        {
            self.connection.move_to(&controller.name);
            reply = self.connection.ask_within(CREATE_WAIT, &request)?;
        }
        match ErrorCode::from_code(code(&reply)) {
            Some(ErrorCode::None | ErrorCode::TopicAlreadyExists) => Ok(()),
            _ => {
                let message = reply.topics.first().and_then(|topic| topic.error_message.as_ref());
                let message = message.map_or(String::new(), |message| format!(": {}", message.as_str()));
                let name = error_name(code(&reply));
                Err(self.error(&format!("cannot create topic {}: {name}{message}", workload.topic)))
            }
        }
    }

    pub fn producer_id(&mut self) -> Result<(i64, i16), BenchError> {
        let request =
            InitProducerIdRequest { transaction_timeout_ms: 60_000, producer_epoch: -1, ..Default::default() };
        let reply: InitProducerIdResponse = self.connection.ask(&request)?;
        match reply.error_code {
            0 => Ok((reply.producer_id, reply.producer_epoch)),
            code => Err(self.error(&format!("gives no producer id: {}", error_name(code)))),
        }
    }

    /// The broker that coordinates a group.
    pub fn coordinator(&mut self, group: &str) -> Result<Node, BenchError> {
        // Versions name either one key or several.
        let request =
            FindCoordinatorRequest { key: group.into(), key_type: GROUP_KEY, coordinator_keys: vec![group.into()] };
        let reply: FindCoordinatorResponse = self.connection.ask(&request)?;
        let (code, node) = match reply.coordinators.first() {
            Some(row) => (row.error_code, row.node_id),
            None => (reply.error_code, reply.node_id),
        };
        match code {
            0 => Ok(node),
            code => Err(self.error(&format!("names no coordinator of group {group}: {}", error_name(code)))),
        }
    }

    /// What the broker says of itself. What it does not answer is left out.
    pub fn facts(&mut self, cluster: &Cluster) -> BrokerFacts {
        let versions = self.versions().api_keys.iter().map(|row| {
            let name = messages::api(row.api_key).map_or_else(|| format!("API {}", row.api_key), |api| api.name.into());
            format!("{name} {}–{}", row.min_version, row.max_version)
        });
        let api_versions = versions.collect();
        let brokers = cluster.brokers.iter().map(|(node, address)| format!("{node}@{}", address.name)).collect();
        let mut configs = Vec::new();
        if let Some(node) = cluster.brokers.keys().next() {
            let resource = DescribeConfigsResource {
                resource_type: BROKER_RESOURCE,
                resource_name: node.to_string().into(),
                configuration_keys: None,
            };
            let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
            let reply = self.connection.ask::<_, DescribeConfigsResponse>(&request).unwrap_or_default();
            for config in reply.results.iter().flat_map(|result| &result.configs) {
                let value = config.value.as_ref().map_or_else(String::new, |value| value.as_str().to_owned());
                configs.push((config.name.as_str().to_owned(), value));
            }
        }
        configs.sort();
        BrokerFacts { cluster_id: cluster.id.clone(), brokers, api_versions, configs }
    }

    fn error(&self, message: &str) -> BenchError {
        self.connection.refused(message).into()
    }
}
