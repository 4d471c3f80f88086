//! The few requests around a run: what the broker is, the topic, its leaders, producer ids.
//!
//! *Owns*: what is asked, of any broker of the cluster. *Never*: part of what is measured. *Runs on*: the main thread
//! before a run, a thread of its own during it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::bench::environment::NOT_READABLE;
use crate::bench::producer::Node;
use crate::bench::result::BrokerFacts;
use crate::bench::topics::Topics;
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
use crate::wire::text::Text;

const CLIENT_ID: &str = "corelog-bench";

const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// How long the making of a topic may take: thousands of partitions have thousands of files.
const CREATE_WAIT: Duration = Duration::from_secs(120);

/// Topics that one request creates.
const CREATE_TOPICS_MAX: usize = 1000;

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

/// The brokers, and who leads the partitions of a run's topics.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Cluster {
    pub id: String,
    pub controller: Node,
    pub brokers: BTreeMap<Node, Address>,
    /// Of each partition, by its index over all topics.
    pub leaders: Vec<Option<Node>>,
    /// How each topic stands, in their order.
    pub topics: Vec<TopicState>,
    /// The reply that all this is from.
    pub metadata: MetadataResponse,
}

/// What Metadata says of a topic.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TopicState {
    pub error: Option<ErrorCode>,
    pub partitions: usize,
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
    pub fn cluster(&mut self, topics: &Topics) -> Result<Cluster, BenchError> {
        let start = Instant::now();
        let asked =
            topics.names().iter().map(|name| MetadataRequestTopic { name: Some(name.clone()), ..Default::default() });
        let asked = Some(asked.collect());
        let request = MetadataRequest { topics: asked, allow_auto_topic_creation: false, ..Default::default() };
        let reply: MetadataResponse = self.connection.ask(&request)?;
        self.metadata_time = start.elapsed();
        let mut brokers = BTreeMap::new();
        for broker in &reply.brokers {
            let name = format!("{}:{}", broker.host.as_str(), broker.port);
            let socket = resolve(&name)?;
            self.connection.remember(&name);
            brokers.insert(broker.node_id, Address { name, socket });
        }
        let unknown = TopicState { error: Some(ErrorCode::UnknownTopicOrPartition), partitions: 0 };
        let mut states = vec![unknown; topics.names().len()];
        let mut leaders = vec![None; topics.count() as usize];
        for topic in &reply.topics {
            let Some(number) = topic.name.as_ref().and_then(|name| topics.number(name)) else { continue };
            let error = ErrorCode::from_code(topic.error_code).unwrap_or(ErrorCode::UnknownServerError);
            let error = (error != ErrorCode::None).then_some(error);
            states[number] = TopicState { error, partitions: topic.partitions.len() };
            for partition in &topic.partitions {
                let led = partition.leader_id >= 0 && brokers.contains_key(&partition.leader_id);
                if let Some(index) = topics.index(number, partition.partition_index) {
                    leaders[index as usize] = led.then_some(partition.leader_id);
                }
            }
        }
        let id = reply.cluster_id.as_ref().map_or_else(String::new, |id| id.as_str().to_owned());
        Ok(Cluster { id, controller: reply.controller_id, brokers, leaders, topics: states, metadata: reply })
    }

    /// Creates the topics that are not there, and waits until each partition is led.
    pub fn prepare_topics(&mut self, workload: &Workload, topics: &Topics) -> Result<Cluster, BenchError> {
        let until = Instant::now() + LEADERS_WAIT;
        let wanted = topics.partitions() as usize;
        let mut created = false;
        loop {
            let cluster = self.cluster(topics)?;
            let mut missing = Vec::new();
            for (name, state) in topics.names().iter().zip(&cluster.topics) {
                match state.error {
                    Some(ErrorCode::UnknownTopicOrPartition) => missing.push(name),
                    Some(error) if !error.retriable() => {
                        return Err(self.error(&format!("refuses topic {}: {error}", name.as_str())));
                    }
                    None if state.partitions != wanted => {
                        return Err(BenchError::new(format!(
                            "topic {} has {} partitions, and the workload {wanted}: say --partitions {1}, or choose \
                             another --topic",
                            name.as_str(),
                            state.partitions,
                        )));
                    }
                    _ => {}
                }
            }
            if cluster.leaders.iter().all(Option::is_some) {
                return Ok(cluster);
            }
            if !missing.is_empty() && !created {
                missing
                    .chunks(CREATE_TOPICS_MAX)
                    .try_for_each(|names| self.create_topics(workload, names, &cluster))?;
                created = true;
                continue;
            }
            if Instant::now() > until {
                let led = cluster.leaders.iter().flatten().count();
                let all = cluster.leaders.len();
                return Err(self.error(&format!("has {led} of {all} partitions of the topics led, for too long")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn create_topics(&mut self, workload: &Workload, names: &[&Text], cluster: &Cluster) -> Result<(), BenchError> {
        let configs = workload.topic_settings.iter();
        let configs =
            configs.map(|(name, value)| CreatableTopicConfig { name: name.into(), value: Some(value.into()) });
        let configs: Vec<CreatableTopicConfig> = configs.collect();
        let topics = names.iter().map(|name| CreatableTopic {
            name: (*name).clone(),
            num_partitions: workload.partitions as i32,
            replication_factor: workload.replication_factor,
            configs: configs.clone(),
            ..Default::default()
        });
        let timeout_ms = CREATE_WAIT.as_millis() as i32;
        let request = CreateTopicsRequest { topics: topics.collect(), timeout_ms, ..Default::default() };
        let mut reply: CreateTopicsResponse = self.connection.ask_within(CREATE_WAIT, &request)?;
        let not_there = |reply: &CreateTopicsResponse| {
            reply.topics.iter().any(|topic| topic.error_code == ErrorCode::NotController.code())
        };
        if not_there(&reply)
            && let Some(controller) = cluster.brokers.get(&cluster.controller)
        {
            self.connection.move_to(&controller.name);
            reply = self.connection.ask_within(CREATE_WAIT, &request)?;
        }
        let is_fine =
            |code: i16| matches!(ErrorCode::from_code(code), Some(ErrorCode::None | ErrorCode::TopicAlreadyExists));
        match reply.topics.iter().find(|topic| !is_fine(topic.error_code)) {
            None => Ok(()),
            Some(topic) => {
                let message = topic.error_message.as_ref();
                let message = message.map_or(String::new(), |message| format!(": {}", message.as_str()));
                let (topic, name) = (topic.name.as_str(), error_name(topic.error_code));
                Err(self.error(&format!("cannot create topic {topic}: {name}{message}")))
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
        let features = self.versions().finalized_features.iter();
        let features = features.map(|row| format!("{} {}", row.name.as_str(), row.max_version_level)).collect();
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
        let (cluster_id, software) = (cluster.id.clone(), NOT_READABLE.to_owned());
        BrokerFacts { cluster_id, brokers, software, api_versions, features, configs }
    }

    fn error(&self, message: &str) -> BenchError {
        self.connection.refused(message).into()
    }
}
