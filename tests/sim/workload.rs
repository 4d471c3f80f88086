//! The clients of one world, whatever they are.

use std::collections::BTreeSet;

use corelog::broker::api::key;
use corelog::wire::errors::ErrorCode;
use corelog::wire::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};

use crate::changer::Changer;
use crate::client::{Context, Wire, decode};
use crate::committer::Committer;
use crate::consumer::{Auditor, Consumer};
use crate::plan::{MS, Plan};
use crate::producer::Producer;
use crate::reader::Reader;
use crate::scratch::Scratch;
use crate::trimmer::Trimmer;

const CREATE_TOPICS: (i16, i16) = (key::CREATE_TOPICS, 5);
const AGAIN_NS: u64 = 50 * MS;

/// The first clients of every world.
pub const ADMIN: usize = 0;
pub const AUDITOR: usize = 1;

pub enum Client {
    Admin(Admin),
    Auditor(Auditor),
    Scratch(Scratch),
    Producer(Producer),
    Consumer(Consumer),
    Reader(Reader),
    Changer(Changer),
    Committer(Committer),
    Trimmer(Trimmer),
}

impl Client {
    pub fn all(plan: &Plan) -> Vec<Client> {
        let mut clients = vec![Client::Admin(Admin::default())];
        // Of a cluster each partition has a leader of its own.
        match plan.is_cluster {
            false => clients.push(Client::Auditor(Auditor::default())),
            true => clients.extend(plan.parts().into_iter().map(|part| Client::Auditor(Auditor::of(part)))),
        }
        if plan.scratch {
            clients.push(Client::Scratch(Scratch::default()));
        }
        clients.extend(plan.producers.iter().map(|plan| Client::Producer(Producer::new(plan.clone()))));
        clients.extend(plan.consumers.iter().map(|plan| Client::Consumer(Consumer::new(plan.clone()))));
        clients.extend((0..plan.readers).map(|_| Client::Reader(Reader::new(&plan.parts()))));
        if plan.changer {
            clients.push(Client::Changer(Changer::default()));
        }
        clients.extend(plan.committers.iter().map(|plan| Client::Committer(Committer::new(plan.clone()))));
        clients.extend(plan.trimmer.iter().map(|plan| Client::Trimmer(Trimmer::new(plan.clone()))));
        clients
    }

    pub fn on_time(&mut self, context: &mut Context) {
        match self {
            Client::Admin(client) => client.on_time(context),
            Client::Auditor(client) => client.on_time(context),
            Client::Scratch(client) => client.on_time(context),
            Client::Producer(client) => client.on_time(context),
            Client::Consumer(client) => client.on_time(context),
            Client::Reader(client) => client.on_time(context),
            Client::Changer(client) => client.on_time(context),
            Client::Committer(client) => client.on_time(context),
            Client::Trimmer(client) => client.on_time(context),
        }
    }

    pub fn on_connected(&mut self, context: &mut Context) {
        match self {
            Client::Admin(client) => client.on_connected(context),
            Client::Auditor(client) => client.on_connected(context),
            Client::Scratch(client) => client.on_connected(context),
            Client::Producer(client) => client.on_connected(context),
            Client::Consumer(client) => client.on_connected(context),
            Client::Reader(client) => client.on_connected(context),
            Client::Changer(client) => client.on_connected(context),
            Client::Committer(client) => client.on_connected(context),
            Client::Trimmer(client) => client.on_connected(context),
        }
    }

    pub fn on_closed(&mut self, context: &mut Context) {
        match self {
            Client::Admin(client) => client.on_closed(context),
            Client::Auditor(client) => client.on_closed(context),
            Client::Scratch(client) => client.on_closed(context),
            Client::Producer(client) => client.on_closed(context),
            Client::Consumer(client) => client.on_closed(context),
            Client::Reader(client) => client.on_closed(context),
            Client::Changer(client) => client.on_closed(context),
            Client::Committer(client) => client.on_closed(context),
            Client::Trimmer(client) => client.on_closed(context),
        }
    }

    pub fn on_bytes(&mut self, bytes: &[u8], context: &mut Context) {
        match self {
            Client::Admin(client) => client.on_bytes(bytes, context),
            Client::Auditor(client) => client.on_bytes(bytes, context),
            Client::Scratch(client) => client.on_bytes(bytes, context),
            Client::Producer(client) => client.on_bytes(bytes, context),
            Client::Consumer(client) => client.on_bytes(bytes, context),
            Client::Reader(client) => client.on_bytes(bytes, context),
            Client::Changer(client) => client.on_bytes(bytes, context),
            Client::Committer(client) => client.on_bytes(bytes, context),
            Client::Trimmer(client) => client.on_bytes(bytes, context),
        }
    }
}

/// Makes the topics.
#[derive(Default)]
pub struct Admin {
    wire: Wire<usize>,
    made: BTreeSet<usize>,
    again_at: u64,
}

impl Admin {
    pub fn is_done(&self, plan: &Plan) -> bool {
        self.made.len() == plan.topics.len()
    }

    fn on_connected(&mut self, context: &mut Context) {
        self.wire.on_connected();
        self.on_time(context);
    }

    fn on_closed(&mut self, context: &mut Context) {
        self.wire.on_closed(context);
    }

    fn on_time(&mut self, context: &mut Context) {
        let Some(index) = (0..context.plan.topics.len()).find(|index| !self.made.contains(index)) else { return };
        if !self.wire.is_up(context) || self.wire.in_flight() > 0 || context.now < self.again_at {
            return;
        }
        let topic = &context.plan.topics[index];
        let configs = context.plan.topic_settings(topic).into_iter();
        let configs =
            configs.map(|(name, value)| CreatableTopicConfig { name: name.into(), value: Some(value.into()) });
        let topic = CreatableTopic {
            name: topic.name.as_str().into(),
            num_partitions: topic.partitions,
            replication_factor: topic.replicas,
            configs: configs.collect(),
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..Default::default() };
        self.wire.send(CREATE_TOPICS, &request, index, context);
    }

    fn on_bytes(&mut self, bytes: &[u8], context: &mut Context) {
        self.wire.on_bytes(bytes);
        while let Some((index, frame)) = self.wire.next_reply() {
            let reply: CreateTopicsResponse = decode(CREATE_TOPICS, frame);
            let error = reply.topics[0].error_code;
            if error == 0 || error == ErrorCode::TopicAlreadyExists.code() {
                self.made.insert(index);
            } else {
                self.again_at = context.now + AGAIN_NS;
                context.wake_in(AGAIN_NS);
                if context.plan.nodes > 1 {
                    self.wire.leave(context);
                }
            }
        }
        self.on_time(context);
    }
}
