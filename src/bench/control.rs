//! The few requests around a run: what the broker is, the topic, its leaders, producer ids.
//!
//! *Owns*: a blocking connection to any broker of the cluster, and the choice of versions. *Never*: part of what is
//! measured. *Runs on*: the main thread before a run, a thread of its own during it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::bench::producer::Node;
use crate::bench::result::BrokerFacts;
use crate::bench::workload::Workload;
use crate::wire::codec::Message;
use crate::wire::errors::ErrorCode;
use crate::wire::frame::{RequestHeader, decode_reply, encode_request};
use crate::wire::messages;
use crate::wire::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use crate::wire::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use crate::wire::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
};
use crate::wire::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use crate::wire::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};

const CONNECT_WAIT: Duration = Duration::from_secs(5);
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// How long the making of a topic may take: thousands of partitions have thousands of files.
const CREATE_WAIT: Duration = Duration::from_secs(120);

/// How long a new topic may take until its partitions are led.
const LEADERS_WAIT: Duration = Duration::from_secs(30);

const REPLY_BYTES_MAX: usize = 64 << 20;

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
    /// Where to try next, one after the other.
    addresses: Vec<String>,
    next: usize,
    stream: Option<Stream>,
    versions: ApiVersionsResponse,
    correlation_id: i32,
    /// What the last connection and the last Metadata took.
    pub connect_time: Duration,
    pub metadata_time: Duration,
}

struct Stream {
    tcp: TcpStream,
    address: String,
}

impl Control {
    /// Connects to the first of the addresses that answers, and learns what it speaks.
    pub fn connect(bootstrap: &str) -> Result<Control, BenchError> {
        let addresses = bootstrap.split(',').map(|address| address.trim().to_owned()).collect();
        let mut control = Control {
            addresses,
            next: 0,
            stream: None,
            versions: ApiVersionsResponse::default(),
            correlation_id: 0,
            connect_time: Duration::ZERO,
            metadata_time: Duration::ZERO,
        };
        control.connected()?;
        Ok(control)
    }

    /// The highest version of an API that both sides speak, up to `last`.
    pub fn version(&self, api_key: i16, last: i16) -> Result<i16, BenchError> {
        let api = messages::api(api_key).ok_or_else(|| BenchError::new(format!("API {api_key} has no table")))?;
        let row = self.versions.api_keys.iter().find(|row| row.api_key == api_key).ok_or_else(|| {
            let (address, name) = (self.address(), api.name);
            BenchError::new(format!("{address} does not speak {name}: it is no Kafka broker that can be measured"))
        })?;
        let (first, theirs) = (row.min_version, row.max_version);
        let version = theirs.min(api.versions.last).min(last);
        if version < first.max(api.versions.first) {
            return Err(BenchError::new(format!(
                "{} speaks {} in versions {first} to {theirs}, and this program in {} to {last}",
                self.address(),
                api.name,
                api.versions.first,
            )));
        }
        Ok(version)
    }

    /// What the broker said it speaks.
    pub fn versions(&self) -> &ApiVersionsResponse {
        &self.versions
    }

    /// Asks once. After an error the connection is made anew, to the next address, by the next question.
    pub fn ask<Q: Message, A: Message>(&mut self, request: &Q) -> Result<A, BenchError> {
        self.ask_within(ANSWER_WAIT, request)
    }

    fn ask_within<Q: Message, A: Message>(&mut self, wait: Duration, request: &Q) -> Result<A, BenchError> {
        self.connected()?;
        let version = self.version(Q::API.key, i16::MAX)?;
        self.exchange(version, wait, request)
    }

    /// The cluster as it is now. Remembers its brokers, to be asked when those known so far are gone.
    pub fn cluster(&mut self, topic: &str) -> Result<Cluster, BenchError> {
        let start = Instant::now();
        let asked = MetadataRequestTopic { name: Some(topic.into()), ..Default::default() };
        let request =
            MetadataRequest { topics: Some(vec![asked]), allow_auto_topic_creation: false, ..Default::default() };
        let reply: MetadataResponse = self.ask(&request)?;
        self.metadata_time = start.elapsed();
        let mut brokers = BTreeMap::new();
        for broker in &reply.brokers {
            let name = format!("{}:{}", broker.host.as_str(), broker.port);
            let socket = resolve(&name)?;
            if !self.addresses.contains(&name) {
                self.addresses.push(name.clone());
            }
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
        let mut reply: CreateTopicsResponse = self.ask_within(CREATE_WAIT, &request)?;
        let code = |reply: &CreateTopicsResponse| reply.topics.first().map_or(0, |topic| topic.error_code);
        if code(&reply) == ErrorCode::NotController.code()
            && let Some(controller) = cluster.brokers.get(&cluster.controller)
        {
            self.move_to(&controller.name);
            reply = self.ask_within(CREATE_WAIT, &request)?;
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
        let reply: InitProducerIdResponse = self.ask(&request)?;
        match reply.error_code {
            0 => Ok((reply.producer_id, reply.producer_epoch)),
            code => Err(self.error(&format!("gives no producer id: {}", error_name(code)))),
        }
    }

    /// What the broker says of itself. What it does not answer is left out.
    pub fn facts(&mut self, cluster: &Cluster) -> BrokerFacts {
        let versions = self.versions.api_keys.iter().map(|row| {
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
            let reply = self.ask::<_, DescribeConfigsResponse>(&request).unwrap_or_default();
            for config in reply.results.iter().flat_map(|result| &result.configs) {
                let value = config.value.as_ref().map_or_else(String::new, |value| value.as_str().to_owned());
                configs.push((config.name.as_str().to_owned(), value));
            }
        }
        configs.sort();
        BrokerFacts { cluster_id: cluster.id.clone(), brokers, api_versions, configs }
    }

    fn address(&self) -> &str {
        self.stream.as_ref().map_or("the broker", |stream| &stream.address)
    }

    fn error(&self, message: &str) -> BenchError {
        BenchError::new(format!("{} {message}", self.address()))
    }

    fn move_to(&mut self, address: &str) {
        self.stream = None;
        if let Some(place) = self.addresses.iter().position(|known| known == address) {
            self.next = place;
        }
    }

    /// Connects, unless it is. Tries each address once.
    fn connected(&mut self) -> Result<(), BenchError> {
        if self.stream.is_some() {
            return Ok(());
        }
        let mut failures = Vec::new();
        for _ in 0..self.addresses.len() {
            let address = self.addresses[self.next % self.addresses.len()].clone();
            match self.open(&address) {
                Ok(()) => return Ok(()),
                Err(error) => failures.push(error.message),
            }
            self.stream = None;
            self.next = (self.next + 1) % self.addresses.len();
        }
        Err(BenchError::new(failures.join("; ")))
    }

    fn open(&mut self, address: &str) -> Result<(), BenchError> {
        let socket = resolve(address)?;
        let start = Instant::now();
        let tcp = TcpStream::connect_timeout(&socket, CONNECT_WAIT);
        let tcp = tcp.map_err(|error| BenchError::new(format!("{address} cannot be connected to: {error}")))?;
        self.connect_time = start.elapsed();
        let set = tcp.set_nodelay(true).and_then(|()| tcp.set_write_timeout(Some(ANSWER_WAIT)));
        set.map_err(|error| BenchError::new(format!("{address}: {error}")))?;
        self.stream = Some(Stream { tcp, address: address.to_owned() });
        // The version that every broker answers.
        let reply: ApiVersionsResponse = self.exchange(0, ANSWER_WAIT, &ApiVersionsRequest::default())?;
        if reply.error_code != 0 {
            return Err(self.error(&format!("does not say what it speaks: {}", error_name(reply.error_code))));
        }
        self.versions = reply;
        Ok(())
    }

    fn exchange<Q: Message, A: Message>(&mut self, version: i16, wait: Duration, request: &Q) -> Result<A, BenchError> {
        self.correlation_id = self.correlation_id.wrapping_add(1) & i32::MAX;
        let (api_key, correlation_id) = (Q::API.key, self.correlation_id);
        let header = RequestHeader { api_key, version, correlation_id, client_id: Some("corelog-bench".into()) };
        let Some(stream) = &mut self.stream else { return Err(BenchError::new("not connected")) };
        let sent = stream.tcp.write_all(&encode_request(&header, request).concat());
        let frame = sent.and_then(|()| read_frame(&mut stream.tcp, Instant::now() + wait));
        let name = Q::API.name;
        let decoded = match frame {
            Ok(frame) => decode_reply::<A>(api_key, version, frame)
                .map_err(|error| format!("sent a {name} reply that is none: {error}")),
            Err(error) => Err(format!("does not answer {name}: {}", plain(&error, wait))),
        };
        match decoded {
            Ok((id, reply)) if id == correlation_id => Ok(reply),
            Ok((id, _)) => Err(self.give_up(&format!("answered request {id} when {correlation_id} was asked"))),
            Err(message) => Err(self.give_up(&message)),
        }
    }

    fn give_up(&mut self, message: &str) -> BenchError {
        let error = self.error(message);
        self.stream = None;
        self.next = (self.next + 1) % self.addresses.len();
        error
    }
}

/// The error's name, for people.
pub fn error_name(code: i16) -> String {
    ErrorCode::from_code(code).map_or_else(|| format!("error {code}"), |code| code.to_string())
}

/// The first address of a HOST:PORT.
pub fn resolve(address: &str) -> Result<SocketAddr, BenchError> {
    let found = address.to_socket_addrs().map(|mut all| all.next());
    match found {
        Ok(Some(socket)) => Ok(socket),
        Ok(None) => Err(BenchError::new(format!("{address} is the name of no machine"))),
        Err(error) => Err(BenchError::new(format!("{address} is not found: {error}"))),
    }
}

fn plain(error: &io::Error, wait: Duration) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => format!("it did not come within {} s", wait.as_secs()),
        io::ErrorKind::UnexpectedEof => "it closed the connection".into(),
        _ => error.to_string(),
    }
}

fn read_frame(stream: &mut TcpStream, until: Instant) -> io::Result<Bytes> {
    let mut reader = Patient { stream, until };
    let mut length = [0; 4];
    reader.read_exact(&mut length)?;
    let bytes = usize::try_from(i32::from_be_bytes(length)).ok().filter(|bytes| (4..=REPLY_BYTES_MAX).contains(bytes));
    let Some(bytes) = bytes else {
        let length = i32::from_be_bytes(length);
        return Err(io::Error::other(format!("it sent a frame of {length} bytes, which is not Kafka's protocol")));
    };
    let mut frame = Vec::new();
    // Memory grows with what comes, not with what is claimed.
    reader.take(bytes as u64).read_to_end(&mut frame)?;
    if frame.len() < bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(frame.into())
}

/// Reads until a moment, however slowly the bytes come.
struct Patient<'a> {
    stream: &'a mut TcpStream,
    until: Instant,
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buffer)
    }
}
