//! Requests that only the controller decides on, passed on to it (KIP-590).
//!
//! The core whose client asked puts the request into an Envelope and sends that to the controller's core 0, which serves
//! what is in it as if a client of its own had asked. While nobody is the controller, or it cannot be reached, the
//! request waits and is sent again; in the end it is served here, and refused in its own form. What core 0 is ordered to
//! do for a request that is answered here (topics made on first use, producer ids) is asked of the controller as well.
//!
//! What is sent again may have been served. So that a topic is not refused because it is there by then, the request
//! carries a token, which together with the topic's name makes its id: any controller knows by that what it has made.
//!
//! *Owns*: which requests these are, and the envelope around them. *Never*: passes on what came in an envelope.
//! *Runs on*: every core.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::base::ids::{CoreId, NodeId, ProducerId, TopicId};
use crate::base::limits;
use crate::base::rng::Rng;
use crate::base::slab::Key;
use crate::base::stage::Arrival;
use crate::base::time::{Instant, Now};
use crate::broker::api::{self, key};
use crate::broker::cluster::ControllerAt;
use crate::broker::effect::{Effects, ListenerKind};
use crate::broker::job::{Asker, Job, Work};
use crate::broker::message::{ControlOrder, ControlOutcome, ShardMessage, TopicOutcome};
use crate::broker::peers::{PeerAnswer, PeerCall, PeerError, PeerTo};
use crate::broker::shard::{DeadlineKey, Request, Shard};
use crate::meta::controller::NewTopic;
use crate::wire::codec::Message;
use crate::wire::errors::ErrorCode;
use crate::wire::frame::{self, RequestHeader};
use crate::wire::messages::allocate_producer_ids::{AllocateProducerIdsRequest, AllocateProducerIdsResponse};
use crate::wire::messages::create_topics::{
    self, CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use crate::wire::messages::envelope::{EnvelopeRequest, EnvelopeResponse};
use crate::wire::reader::Reader;

const CREATE_TOPICS_VERSION: i16 = 7;

/// How soon a request is sent again that did not reach the controller.
const AGAIN_MS: u64 = 100;

/// A request that waits for the controller.
#[derive(Debug)]
pub struct ForwardWork {
    /// With its header, without its length.
    request: Bytes,
    /// The same as often as it is sent.
    token: u64,
    until: Instant,
}

/// The envelope in which a request came, whose reply goes back in one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Envelope {
    pub version: i16,
    pub correlation_id: i32,
}

/// The id of a topic that is asked for by a request with a token.
pub fn topic_id(token: u64, name: &str) -> TopicId {
    let hash = Sha256::new().chain_update(token.to_be_bytes()).chain_update(name).finalize();
    let seed = hash.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)).expect("a hash has 32 bytes");
    TopicId::random(&mut Rng::new(seed))
}

impl Envelope {
    /// The reply, a whole frame, as what the envelope's reply holds.
    pub fn wrap(self, reply: &[Bytes]) -> Vec<Bytes> {
        let reply = Bytes::from(reply.concat()).slice(4..);
        self.close(&EnvelopeResponse { response_data: Some(reply), error_code: 0 })
    }

    /// There is no reply to what was in it.
    pub fn refuse(self, error: ErrorCode) -> Vec<Bytes> {
        self.close(&EnvelopeResponse { response_data: None, error_code: error.code() })
    }

    fn close(self, reply: &EnvelopeResponse) -> Vec<Bytes> {
        frame::encode_reply(key::ENVELOPE, self.version, self.correlation_id, reply)
    }
}

/// What changes metadata, or asks for what the controller alone knows.
pub(in crate::broker) fn is_for_controller(api_key: i16) -> bool {
    matches!(
        api_key,
        key::CREATE_TOPICS
            | key::DELETE_TOPICS
            | key::CREATE_PARTITIONS
            | key::ALTER_CONFIGS
            | key::INCREMENTAL_ALTER_CONFIGS
            | key::ALTER_CLIENT_QUOTAS
            | key::ALTER_PARTITION_REASSIGNMENTS
            | key::ELECT_LEADERS
            | key::DESCRIBE_QUORUM
            | key::UNREGISTER_BROKER
            | key::ADD_RAFT_VOTER
            | key::REMOVE_RAFT_VOTER
    )
}

impl Shard {
    /// Has the controller serve a client's request. The request is whole: its body has not been read.
    pub(in crate::broker) fn forward(&mut self, api_key: i16, mut request: Request, now: Now, effects: &mut Effects) {
        let Asker { version, correlation_id, .. } = request.asker;
        let body = request.body.slice(request.body.remaining()).unwrap_or_default();
        let header = RequestHeader { api_key, version, correlation_id, client_id: request.client_id };
        let request_data = frame::with_header(&header, &body);
        let until = now.mono.after_ms(limits::FORWARD_MS);
        let token = self.rng.next_u64();
        let job = self.add_job(request.asker, Work::Forward(ForwardWork { request: request_data, token, until }));
        self.send_forward(job, now, effects);
    }

    pub(in crate::broker) fn send_forward(&mut self, job: Key, now: Now, effects: &mut Effects) {
        let Some(Job { asker, work: Work::Forward(work), .. }) = self.jobs.get(job) else { return };
        let (listener, token, request_data) = (asker.listener, work.token, work.request.clone());
        match self.cluster.controller() {
            ControllerAt::Node(node) => {
                let body = envelope(listener, Some(token), request_data);
                let to = PeerTo::Node(node, CoreId(0));
                self.ask_peer(to, PeerCall::Forward(job), 0, &body, now, effects);
            }
            ControllerAt::Here => self.serve_forwarded(job, now, effects),
            ControllerAt::Unknown => self.forward_again(job, now, effects),
        }
    }

    fn forward_again(&mut self, job: Key, now: Now, effects: &mut Effects) {
        match self.jobs.get(job) {
            Some(Job { work: Work::Forward(work), .. }) if now.mono < work.until => {
                self.deadlines.set(now.mono.after_ms(AGAIN_MS), DeadlineKey::Forward(job));
            }
            _ => self.serve_forwarded(job, now, effects),
        }
    }

    /// The controller was succeeded before it had decided on a request, and the next one is asked. Answers whether that
    /// is so: else there is no time left, or nobody to ask in the place of this broker.
    pub(in crate::broker) fn ask_next_controller(
        &mut self,
        asker: Asker,
        again: Option<Box<ForwardWork>>,
        now: Now,
        effects: &mut Effects,
    ) -> bool {
        match (asker.envelope, again) {
            (Some(envelope), _) => self.refuse_envelope(asker, envelope, ErrorCode::NotController, effects),
            (None, Some(again)) if now.mono < again.until => {
                let job = self.add_job(asker, Work::Forward(*again));
                self.forward_again(job, now, effects);
            }
            (None, _) => return false,
        }
        true
    }

    /// This broker is the controller, or refuses the request in its own form.
    fn serve_forwarded(&mut self, job: Key, now: Now, effects: &mut Effects) {
        let Some(Job { asker, work: Work::Forward(work), .. }) = self.jobs.remove(job) else { return };
        let asker = Asker { token: Some(work.token), ..asker };
        self.serve_frame(asker, work.request.clone(), now, effects);
        let waiting = self.sessions.job(asker.to).and_then(|job| self.jobs.get_mut(job));
        if let Some(waiting) = waiting {
            waiting.again = Some(Box::new(work));
        }
    }

    /// Serves a request that came otherwise than by its client's connection.
    pub(in crate::broker) fn serve_frame(&mut self, asker: Asker, frame: Bytes, now: Now, effects: &mut Effects) {
        let mut body = Reader::new(frame);
        let header = match frame::decode_header(&mut body) {
            Ok(header) if is_for_controller(header.api_key) => header,
            Ok(header) => {
                let why = format!("API {} is not passed on", header.api_key);
                return self.close_connection(asker, &why, effects);
            }
            Err(error) => return self.close_connection(asker, &format!("request header: {error}"), effects),
        };
        let asker = Asker { version: header.version, correlation_id: header.correlation_id, ..asker };
        let trace = Arrival::at(now.mono).trace();
        let request = Request { asker, client_id: header.client_id, body, now, trace };
        api::serve(self, header.api_key, request, effects);
    }

    /// What the controller says to an envelope.
    pub(in crate::broker) fn on_forwarded(
        &mut self,
        job: Key,
        answer: Result<PeerAnswer, PeerError>,
        now: Now,
        effects: &mut Effects,
    ) {
        let answer = answer.and_then(PeerAnswer::decode::<EnvelopeResponse>);
        let reply = match answer {
            Ok(EnvelopeResponse { response_data: Some(data), error_code: 0 }) => data,
            Ok(EnvelopeResponse { error_code, .. }) if error_code != ErrorCode::NotController.code() => {
                let Some(Job { asker, .. }) = self.jobs.remove(job) else { return };
                return self.close_connection(asker, "the controller cannot read its request", effects);
            }
            // It may have been served. Most of what can be asked changes nothing a second time, and topics have tokens;
            // who deletes a topic or adds partitions to it may be told that it was done before.
            Ok(_) | Err(_) => return self.forward_again(job, now, effects),
        };
        let Some(Job { asker, .. }) = self.jobs.remove(job) else { return };
        self.reply_frame(asker, reply, effects);
    }

    /// Asks the controller for what core 0 was ordered to do.
    pub(in crate::broker) fn forward_order(
        &mut self,
        from: CoreId,
        job: Key,
        order: ControlOrder,
        now: Now,
        effects: &mut Effects,
    ) {
        let epoch = self.registered().map_or(-1, |broker| broker.epoch.0);
        let (ControllerAt::Node(node), false) = (self.cluster.controller(), epoch < 0) else {
            return self.refuse_order(from, job, &order, effects);
        };
        let to = PeerTo::Node(node, CoreId(0));
        match order {
            ControlOrder::TakeProducerIds => {
                let body = AllocateProducerIdsRequest { broker_id: self.node().0, broker_epoch: epoch };
                self.ask_peer(to, PeerCall::ProducerIds(from, job), 0, &body, now, effects);
            }
            ControlOrder::CreateTopics { topics, validate_only, .. } => {
                let topics = topics.iter().map(creatable).collect();
                let body = CreateTopicsRequest { topics, validate_only, ..CreateTopicsRequest::default() };
                let body = envelope(ListenerKind::Shared, None, request_frame(CREATE_TOPICS_VERSION, &body));
                self.ask_peer(to, PeerCall::Topics(from, job), 0, &body, now, effects);
            }
            other => self.refuse_order(from, job, &other, effects),
        }
    }

    fn refuse_order(&mut self, from: CoreId, job: Key, order: &ControlOrder, effects: &mut Effects) {
        let error = match order {
            // What producers try again after.
            ControlOrder::TakeProducerIds => ErrorCode::CoordinatorNotAvailable,
            _ => ErrorCode::NotController,
        };
        self.send(from, ShardMessage::Controlled { job, outcome: ControlOutcome::Failed(error) }, effects);
    }

    /// What the controller says to an order.
    pub(in crate::broker) fn on_order_forwarded(
        &mut self,
        call: PeerCall,
        answer: Result<PeerAnswer, PeerError>,
        effects: &mut Effects,
    ) {
        let (from, job, outcome) = match call {
            PeerCall::ProducerIds(from, job) => (from, job, producer_ids(answer)),
            PeerCall::Topics(from, job) => (from, job, topics(answer)),
            other => unreachable!("{other:?} is no order"),
        };
        self.send(from, ShardMessage::Controlled { job, outcome }, effects);
    }
}

/// The kind of listener stands where Kafka has the principal, since ids of brokers mean something else on each; and behind
/// it the token.
fn envelope(listener: ListenerKind, token: Option<u64>, request_data: Bytes) -> EnvelopeRequest {
    let kind = u8::from(listener == ListenerKind::PerCore);
    let token = token.map(u64::to_be_bytes);
    let principal = [kind].into_iter().chain(token.into_iter().flatten());
    EnvelopeRequest { request_data, request_principal: Some(principal.collect()), client_host_address: Bytes::new() }
}

/// The listener of the client whose request is in an envelope.
pub(in crate::broker) fn listener_of(request: &EnvelopeRequest) -> ListenerKind {
    match request.request_principal.as_deref() {
        Some([1, ..]) => ListenerKind::PerCore,
        _ => ListenerKind::Shared,
    }
}

/// What is the same in a request that comes again.
pub(in crate::broker) fn token_of(request: &EnvelopeRequest) -> Option<u64> {
    let token = request.request_principal.as_deref()?.get(1..)?;
    token.try_into().ok().map(u64::from_be_bytes)
}

fn request_frame<M: Message>(version: i16, body: &M) -> Bytes {
    let header = RequestHeader { api_key: M::API.key, version, correlation_id: 0, client_id: None };
    Bytes::from(frame::encode_request(&header, body).concat()).slice(4..)
}

fn creatable(topic: &NewTopic) -> CreatableTopic {
    let assignment = |(partition_index, nodes): &(i32, Vec<NodeId>)| CreatableReplicaAssignment {
        partition_index: *partition_index,
        broker_ids: nodes.iter().map(|node| node.0).collect(),
    };
    let config = |(name, value): &(String, Option<String>)| CreatableTopicConfig {
        name: name.as_str().into(),
        value: value.as_deref().map(Into::into),
    };
    CreatableTopic {
        name: topic.name.as_str().into(),
        num_partitions: topic.partitions,
        replication_factor: topic.replication_factor,
        assignments: topic.assignments.iter().map(assignment).collect(),
        configs: topic.settings.iter().map(config).collect(),
    }
}

fn producer_ids(answer: Result<PeerAnswer, PeerError>) -> ControlOutcome {
    match answer.and_then(PeerAnswer::decode::<AllocateProducerIdsResponse>) {
        Ok(AllocateProducerIdsResponse { error_code: 0, producer_id_start, producer_id_len, .. })
            if producer_id_start >= 0 && producer_id_len > 0 =>
        {
            ControlOutcome::ProducerIds { first: ProducerId(producer_id_start), count: producer_id_len.into() }
        }
        Ok(_) | Err(_) => ControlOutcome::Failed(ErrorCode::CoordinatorNotAvailable),
    }
}

fn topics(answer: Result<PeerAnswer, PeerError>) -> ControlOutcome {
    let failed = ControlOutcome::Failed(ErrorCode::NotController);
    let Ok(EnvelopeResponse { response_data: Some(data), .. }) =
        answer.and_then(PeerAnswer::decode::<EnvelopeResponse>)
    else {
        return failed;
    };
    let reply = frame::decode_reply::<CreateTopicsResponse>(create_topics::API.key, CREATE_TOPICS_VERSION, data);
    let Ok((_, reply)) = reply else { return failed };
    let outcomes = reply.topics.iter().map(|topic| TopicOutcome {
        name: topic.name.to_string(),
        id: topic.topic_id,
        error: ErrorCode::from_code(topic.error_code).unwrap_or(ErrorCode::UnknownServerError),
        message: topic.error_message.as_ref().map(ToString::to_string),
        throttle_ms: 0,
    });
    ControlOutcome::Topics(outcomes.collect())
}
