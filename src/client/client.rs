//! The brokers of a cluster: each request goes to the one that can answer it, and again while it cannot yet.
//!
//! *Owns*: a connection to each broker that is needed, who controls the cluster and who coordinates which group.
//! *Never*: asks again where the first request may have done something. *Runs on*: a thread that may wait.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::connection::Connection;
use crate::client::error::{ClientError, Kind, Refusal};
use crate::wire::codec::Message;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use crate::wire::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseTopic};

/// Between two attempts: the first pause, and the longest.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Kind of key in FindCoordinator.
const GROUP_KEY: i8 = 0;

/// Who can answer a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum To<'a> {
    Any,
    Controller,
    Node(i32),
    /// Of this group.
    Coordinator(&'a str),
}

pub struct Client {
    /// To any of the brokers.
    any: Connection,
    /// Those that were asked for something only they can answer.
    nodes: BTreeMap<i32, Connection>,
    /// HOST:PORT of each.
    brokers: BTreeMap<i32, String>,
    controller: Option<i32>,
    coordinators: BTreeMap<String, i32>,
    client_id: &'static str,
    wait: Duration,
}

impl Client {
    /// Connects to the first of the addresses, HOST:PORT with commas between them, that answers. `wait` is how long a
    /// request may take with all its repetitions.
    pub fn connect(bootstrap: &str, client_id: &'static str, wait: Duration) -> Result<Client, ClientError> {
        Ok(Client {
            any: Connection::open(bootstrap, client_id, wait)?,
            nodes: BTreeMap::new(),
            brokers: BTreeMap::new(),
            controller: None,
            coordinators: BTreeMap::new(),
            client_id,
            wait,
        })
    }

    /// How long a broker may take to answer, for the requests that say so themselves.
    pub fn wait_ms(&self) -> i32 {
        i32::try_from(self.wait.as_millis()).unwrap_or(i32::MAX)
    }

    pub(super) fn wait(&self) -> Duration {
        self.wait
    }

    /// HOST:PORT of the broker that was asked last of those that may be any.
    pub fn address(&self) -> &str {
        self.any.address()
    }

    /// The brokers that the last Metadata reply named.
    pub fn brokers(&self) -> impl Iterator<Item = i32> {
        self.brokers.keys().copied()
    }

    /// Asks who can answer, and again while one of the reply's `codes` says that it cannot yet. When the time is up,
    /// the last reply is the answer.
    pub fn ask<Q: Message, A: Message>(
        &mut self,
        to: To<'_>,
        request: &Q,
        codes: impl Fn(&A) -> Vec<i16>,
    ) -> Result<A, ClientError> {
        self.ask_up_to(i16::MAX, to, request, codes)
    }

    /// The same in a version up to `last`.
    pub fn ask_up_to<Q: Message, A: Message>(
        &mut self,
        last: i16,
        to: To<'_>,
        request: &Q,
        codes: impl Fn(&A) -> Vec<i16>,
    ) -> Result<A, ClientError> {
        let mut attempts = Attempts::new(self.wait);
        loop {
            let left = attempts.left();
            let connection = self.connection(to)?;
            // Who does not answer may not be who should be asked any more.
            let reply: A = connection.ask_as(last, left, request).inspect_err(|_| self.forget(to))?;
            if !codes(&reply).into_iter().any(passes) || !attempts.pause() {
                return Ok(reply);
            }
            self.forget(to);
        }
    }

    /// Topics by name, or all of them. Those that are not there come with their error code.
    pub fn topics(&mut self, names: Option<&[String]>) -> Result<Vec<MetadataResponseTopic>, ClientError> {
        let named = |name: &String| MetadataRequestTopic { name: Some(name.as_str().into()), ..Default::default() };
        let topics = names.map(|names| names.iter().map(named).collect());
        let request = MetadataRequest { topics, allow_auto_topic_creation: false, ..Default::default() };
        let reply: MetadataResponse = self.any.ask(&request)?;
        self.brokers = reply
            .brokers
            .iter()
            .map(|broker| (broker.node_id, address(&broker.host, broker.port)))
            .inspect(|(_, address)| self.any.remember(address))
            .collect();
        self.controller = Some(reply.controller_id).filter(|id| self.brokers.contains_key(id));
        Ok(reply.topics)
    }

    /// What this request has been sent to is not to be relied on any more.
    fn forget(&mut self, to: To<'_>) {
        match to {
            To::Any | To::Node(_) => {}
            To::Controller => self.controller = None,
            To::Coordinator(group) => drop(self.coordinators.remove(group)),
        }
    }

    fn connection(&mut self, to: To<'_>) -> Result<&mut Connection, ClientError> {
        let node = match to {
            To::Any => return Ok(&mut self.any),
            To::Node(node) => node,
            To::Coordinator(group) => self.coordinator(group)?,
            To::Controller => {
                if self.controller.is_none() {
                    self.topics(Some(&[]))?;
                }
                match self.controller {
                    Some(node) => node,
                    // A broker that names none answers for itself.
                    None => return Ok(&mut self.any),
                }
            }
        };
        if !self.brokers.contains_key(&node) {
            self.topics(Some(&[]))?;
        }
        let Some(address) = self.brokers.get(&node) else {
            let ids: Vec<String> = self.brokers.keys().map(i32::to_string).collect();
            let message = format!("there is no broker {node} in the cluster: its brokers are {}", ids.join(", "));
            return Err(ClientError::new(Kind::Refused(None), message));
        };
        match self.nodes.entry(node) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let opened = Connection::open(address, self.client_id, self.wait);
                // Often not where the user has said, nor where it can be reached from here.
                let said = |error: ClientError| {
                    ClientError::no_answer(format!("broker {node} is at {address}, as the cluster says, and {error}"))
                };
                Ok(entry.insert(opened.map_err(said)?))
            }
        }
    }

    /// The node that coordinates a group.
    fn coordinator(&mut self, group: &str) -> Result<i32, ClientError> {
        if let Some(node) = self.coordinators.get(group) {
            return Ok(*node);
        }
        let request =
            FindCoordinatorRequest { key: group.into(), key_type: GROUP_KEY, coordinator_keys: vec![group.into()] };
        let mut attempts = Attempts::new(self.wait);
        loop {
            let reply: FindCoordinatorResponse = self.any.ask(&request)?;
            let found = reply.coordinators.into_iter().next().unwrap_or(Coordinator {
                key: group.into(),
                node_id: reply.node_id,
                host: reply.host,
                port: reply.port,
                error_code: reply.error_code,
                error_message: reply.error_message,
            });
            let refusal = Refusal::of(found.error_code, found.error_message.as_deref());
            let Some(refusal) = refusal else {
                self.brokers.insert(found.node_id, address(&found.host, found.port));
                self.coordinators.insert(group.to_owned(), found.node_id);
                return Ok(found.node_id);
            };
            if !passes(refusal.code) || !attempts.pause() {
                return Err(ClientError::refused(&format!("the coordinator of group {group}"), &refusal));
            }
        }
    }
}

/// The pauses of one question, until its time is up.
pub(super) struct Attempts {
    until: Instant,
    pause: Duration,
}

impl Attempts {
    pub fn new(wait: Duration) -> Attempts {
        Attempts { until: Instant::now() + wait, pause: PAUSE }
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now()).max(PAUSE)
    }

    /// Waits a while; `false` at once when there is no time for that.
    pub fn pause(&mut self) -> bool {
        if Instant::now() + self.pause >= self.until {
            return false;
        }
        thread::sleep(self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        true
    }
}

/// Whether a code says that nothing was done, and that the same may be asked again soon.
pub fn passes(code: i16) -> bool {
    matches!(
        ErrorCode::from_code(code),
        Some(
            ErrorCode::LeaderNotAvailable
                | ErrorCode::NotLeaderOrFollower
                | ErrorCode::CoordinatorLoadInProgress
                | ErrorCode::CoordinatorNotAvailable
                | ErrorCode::NotCoordinator
                | ErrorCode::NotController
        )
    )
}

fn address(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
