//! A client that makes topics, changes a setting of theirs and deletes them, through whichever broker: what was
//! acknowledged is so for whoever asks for the next change, and for everybody in the end.

use corelog::broker::api::key;
use corelog::config::ConfigResource;
use corelog::meta::Image;
use corelog::wire::errors::ErrorCode;
use corelog::wire::messages::create_topics::{CreatableTopic, CreateTopicsRequest, CreateTopicsResponse};
use corelog::wire::messages::delete_topics::{DeleteTopicsRequest, DeleteTopicsResponse};
use corelog::wire::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};

use crate::client::{Context, Wire, decode};
use crate::plan::MS;

const CREATE: (i16, i16) = (key::CREATE_TOPICS, 5);
const DELETE: (i16, i16) = (key::DELETE_TOPICS, 5);
const ALTER: (i16, i16) = (key::INCREMENTAL_ALTER_CONFIGS, 1);
const TOPIC: i8 = 2;
const SETTING: &str = "retention.ms";
const AGAIN_NS: u64 = 50 * MS;
const PAUSE_MS: u64 = 100;
/// Of one name, before the next.
const CHANGES_MAX: u64 = 12;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Change {
    Create,
    /// To this value, which nothing was set to before.
    Set(i64),
    Delete,
}

/// What a topic of that name is, when nothing is in doubt.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Fact {
    name: String,
    is_there: bool,
    value: Option<i64>,
}

pub struct Changer {
    wire: Wire<Change>,
    /// Of the name that is changed at present.
    fact: Fact,
    /// What became of others of which every change was answered.
    facts: Vec<Fact>,
    names: u64,
    changes_left: u64,
    next_value: i64,
    again_at: u64,
}

impl Default for Changer {
    fn default() -> Self {
        Changer {
            wire: Wire::default(),
            fact: Fact::of(0),
            facts: Vec::new(),
            names: 0,
            changes_left: CHANGES_MAX,
            next_value: 1_000_000,
            again_at: 0,
        }
    }
}

impl Fact {
    fn of(number: u64) -> Fact {
        Fact { name: format!("changed{number}"), is_there: false, value: None }
    }
}

impl Changer {
    /// Every broker knows of everything that was acknowledged.
    pub fn check(&self, image: &Image) {
        for fact in &self.facts {
            let topic = image.topic(&fact.name);
            let set = image.overrides(&ConfigResource::Topic(fact.name.clone())).get(SETTING);
            let value = set.map(|value| value.parse().expect("it was set to a number"));
            let found = Fact { name: fact.name.clone(), is_there: topic.is_some(), value };
            assert_eq!(found, *fact, "what was acknowledged last of {}", fact.name);
        }
    }

    pub fn on_connected(&mut self, context: &mut Context) {
        self.wire.on_connected();
        self.on_time(context);
    }

    pub fn on_closed(&mut self, context: &mut Context) {
        if !self.wire.on_closed(context).is_empty() {
            self.doubt();
        }
    }

    pub fn on_time(&mut self, context: &mut Context) {
        if !context.load || !self.wire.is_due(self.again_at, context) {
            return;
        }
        if self.changes_left == 0 {
            let next = self.next_name();
            self.facts.push(std::mem::replace(&mut self.fact, next));
        }
        self.changes_left -= 1;
        // Mostly what is to succeed.
        let change = match (self.fact.is_there, context.rng.below(8)) {
            (true, 0) | (false, 2..) => Change::Create,
            (true, 1) | (false, 0) => Change::Delete,
            (true, 2..) | (false, 1) => Change::Set(self.next_value),
        };
        self.send(change, context);
    }

    pub fn on_bytes(&mut self, bytes: &[u8], context: &mut Context) {
        self.wire.on_bytes(bytes);
        while let Some((change, frame)) = self.wire.next_reply() {
            let error = match change {
                Change::Create => decode::<CreateTopicsResponse>(CREATE, frame).topics[0].error_code,
                Change::Delete => decode::<DeleteTopicsResponse>(DELETE, frame).responses[0].error_code,
                Change::Set(_) => decode::<IncrementalAlterConfigsResponse>(ALTER, frame).responses[0].error_code,
            };
            self.on_answer(change, error);
            let pause = context.rng.below(PAUSE_MS * MS);
            self.again_at = context.now + if error == 0 { pause } else { AGAIN_NS };
            // Another broker must know as much.
            if context.rng.below(2) == 0 {
                self.wire.leave(context);
            }
        }
        self.on_time(context);
    }

    fn send(&mut self, change: Change, context: &mut Context) {
        let name = self.fact.name.as_str();
        match change {
            Change::Create => {
                let topic = CreatableTopic {
                    name: name.into(),
                    num_partitions: 1,
                    replication_factor: context.plan.topics[0].replicas,
                    ..Default::default()
                };
                let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 5000, ..Default::default() };
                self.wire.send(CREATE, &request, change, context);
            }
            Change::Delete => {
                let topic_names = vec![name.into()];
                let request = DeleteTopicsRequest { topic_names, timeout_ms: 5000, ..Default::default() };
                self.wire.send(DELETE, &request, change, context);
            }
            Change::Set(value) => {
                self.next_value += 1;
                let config = AlterableConfig {
                    name: SETTING.into(),
                    value: Some(value.to_string().as_str().into()),
                    ..Default::default()
                };
                let resource =
                    AlterConfigsResource { resource_type: TOPIC, resource_name: name.into(), configs: vec![config] };
                let request = IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
                self.wire.send(ALTER, &request, change, context);
            }
        }
    }

    fn on_answer(&mut self, change: Change, error: i16) {
        let fact = &mut self.fact;
        let (exists, unknown) = (ErrorCode::TopicAlreadyExists.code(), ErrorCode::UnknownTopicOrPartition.code());
        if error == 0 || error == exists || error == unknown {
            let was_there = match change {
                Change::Create => error == exists,
                Change::Delete | Change::Set(_) => error == 0,
            };
            // What one broker passes on to another it may pass on twice, and the second time it is done already.
            let is_done = (change == Change::Create && error == exists && !fact.is_there)
                || (change == Change::Delete && error == unknown && fact.is_there);
            if is_done {
                return self.doubt();
            }
            assert_eq!(was_there, fact.is_there, "{change:?} is answered with error {error}, and there is {fact:?}");
        }
        match change {
            Change::Create if error == 0 => *fact = Fact { is_there: true, value: None, name: fact.name.clone() },
            Change::Delete if error == 0 => *fact = Fact { is_there: false, value: None, name: fact.name.clone() },
            Change::Set(value) if error == 0 => fact.value = Some(value),
            // Nothing was changed, for which there are other reasons as well.
            _ if error == exists || error == unknown || error == ErrorCode::InvalidReplicationFactor.code() => {}
            _ => self.doubt(),
        }
    }

    /// A change may have been made, or may be yet: another name is taken.
    fn doubt(&mut self) {
        self.fact = self.next_name();
    }

    fn next_name(&mut self) -> Fact {
        self.names += 1;
        self.changes_left = CHANGES_MAX;
        Fact::of(self.names)
    }
}
