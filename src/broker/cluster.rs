//! This broker as one of a cluster: how it joins, tells the controller that it is there, and leaves.
//!
//! A broker with seeds and an empty directory asks them in turn (`seeds`) to be registered; then it is given the metadata
//! there (`following`), and starts like any other. From then on it registers each run with
//! whoever is the controller, and sends heartbeats: what it asks and how it is answered is the same where it is the
//! controller itself. All of it is said again at the next heartbeat, so nothing waits for an answer that is lost.
//!
//! Before it stops, it has others lead its partitions. A broker that is alone, because nobody ever joined it, does none
//! of this.
//!
//! *Owns*: what this broker asks of the controller. *Never*: decides for the cluster: `brokers` does. *Runs on*: core 0;
//! the others know who the controller is.

use std::collections::BTreeMap;
use std::mem;

use bytes::Bytes;

use crate::base::ids::{BrokerEpoch, CoreId, DirectoryId, NodeId, PartitionEpoch, TopicId};
use crate::base::limits;
use crate::base::time::{Instant, Now};
use crate::broker::brokers::{self, IsrAsker};
use crate::broker::effect::Effects;
use crate::broker::message::{IsrAnswer, ShardMessage, TopicPartition};
use crate::broker::peers::{PeerAnswer, PeerCall, PeerError, PeerTo};
use crate::broker::seeds::Seeds;
use crate::broker::shard::{DeadlineKey, Shard};
use crate::broker::shutdown::Life;
use crate::config::{Address, Durability};
use crate::meta::brokers::{Heartbeat, Registration};
use crate::meta::controller::MetaError;
use crate::meta::isr::IsrChange;
use crate::meta::{Broker, MetaRecord};
use crate::replica::isr::IsrProposal;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::alter_partition::{
    self, AlterPartitionRequest, AlterPartitionResponse, BrokerState, PartitionRequest, TopicRequest,
};
use crate::wire::messages::broker_heartbeat::{BrokerHeartbeatRequest, BrokerHeartbeatResponse};
use crate::wire::messages::broker_registration::{
    BrokerRegistrationRequest, BrokerRegistrationResponse, Feature, Listener,
};
use crate::wire::messages::quorum_messages::QuorumMessagesRequest;

/// Names of the listeners in a registration.
const SHARED: &str = "SHARED";
const PER_CORE: &str = "CORE";
const PEER: &str = "PEER";

/// The feature that tells how many cores a broker has.
const CORES: &str = "corelog.cores";

/// The versions in which the controller is asked.
const REGISTRATION_VERSION: i16 = 4;
const HEARTBEAT_VERSION: i16 = 1;
const ALTER_PARTITION_VERSION: i16 = 3;

/// Who decides on metadata.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum ControllerAt {
    /// This broker, or it knows of no others.
    #[default]
    Here,
    Node(NodeId),
    /// Nobody, or nobody knows.
    Unknown,
}

#[derive(Debug, Default)]
pub struct Cluster {
    controller: ControllerAt,
    /// Belongs to no cluster yet, and asks the seeds.
    joining: bool,
    pub(in crate::broker) seeds: Seeds,
    next_beat: Option<Instant>,
    /// Of the run before.
    epoch_before: Option<BrokerEpoch>,
    directory: DirectoryId,
    /// The last refusal told, so that one that comes again and again is told once.
    refused: Option<String>,
    leaving: Option<Leaving>,
}

/// How far this broker is with leaving.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Leaving {
    /// Others are to lead its partitions.
    Partitions,
    /// Another is to be the controller.
    Office,
}

impl Cluster {
    pub fn controller(&self) -> ControllerAt {
        self.controller
    }

    pub fn is_joining(&self) -> bool {
        self.joining
    }
}

impl Shard {
    /// This run's registration, as far as this core knows of it.
    pub(in crate::broker) fn registered(&self) -> Option<&Broker> {
        let broker = self.image.broker(self.node())?;
        (broker.incarnation == self.config.incarnation.0).then_some(broker)
    }

    /// The quorum's log is read, in the data directory. `before` is what it has of this broker.
    pub(in crate::broker) fn start_membership(
        &mut self,
        joining: bool,
        (directory, before): (DirectoryId, Option<BrokerEpoch>),
        now: Now,
        effects: &mut Effects,
    ) {
        self.cluster.joining = joining;
        self.cluster.epoch_before = before;
        self.cluster.directory = directory;
        self.cluster.seeds = Seeds::new(self.config.settings.seeds.len());
        if joining {
            self.beat_at(now.mono);
        } else {
            self.ask_seeds(now, effects);
        }
    }

    /// Core 0 tells who is the controller.
    pub(in crate::broker) fn on_controller_at(&mut self, at: ControllerAt, now: Now) {
        self.cluster.controller = at;
        // A new controller has not heard of this broker yet.
        if self.core() == CoreId(0) && self.cluster.next_beat.is_some() {
            self.beat_at(now.mono);
        }
    }

    /// Brokers came, changed or went.
    pub(in crate::broker) fn on_brokers_changed(&mut self, records: &[MetaRecord], now: Now, effects: &mut Effects) {
        for record in records {
            match record {
                MetaRecord::BrokerRegistered(broker) if broker.id != self.node() => {
                    self.meet_node(broker.id, broker.peer.clone(), now, effects);
                }
                MetaRecord::BrokerUnregistered { id } => self.forget_node(*id, now, effects),
                _ => {}
            }
        }
        if self.core() != CoreId(0) || !self.image.has_brokers() {
            return;
        }
        // The quorum may have come to it before all seeds were asked: it starts like any other.
        if mem::take(&mut self.cluster.joining) {
            self.ask_seeds(now, effects);
        }
        if self.cluster.next_beat.is_none() {
            self.beat_at(now.mono);
        }
        self.go_on_leaving(now, effects);
    }

    pub(in crate::broker) fn beat_at(&mut self, at: Instant) {
        if let Some(before) = self.cluster.next_beat.replace(at) {
            self.deadlines.clear(before, DeadlineKey::Heartbeat);
        }
        self.deadlines.set(at, DeadlineKey::Heartbeat);
    }

    /// This broker takes no more writes: the controller is to know at once.
    pub(in crate::broker) fn on_writing_ended(&mut self, now: Now) {
        if self.core() == CoreId(0) && self.cluster.next_beat.is_some() {
            self.beat_at(now.mono);
        }
    }

    /// Says to the controller, or to a seed, what is to be said now.
    pub(in crate::broker) fn on_heartbeat_due(&mut self, now: Now, effects: &mut Effects) {
        self.cluster.next_beat = None;
        if self.control.is_none() {
            return;
        }
        self.beat_at(now.mono.after_ms(u64::from(self.config.settings.broker_heartbeat_interval_ms)));
        if self.cluster.joining {
            return self.ask_next_seed(now, effects);
        }
        match self.registered().map(|broker| broker.epoch) {
            Some(epoch) => self.send_heartbeat(epoch, now, effects),
            None if self.life == Life::Starting || self.cluster.leaving.is_some() => {}
            None => self.send_registration(now, effects),
        }
    }

    fn send_registration(&mut self, now: Now, effects: &mut Effects) {
        if let ControllerAt::Node(controller) = self.cluster.controller {
            return self.register_with(PeerTo::Node(controller, CoreId(0)), now, effects);
        }
        let wish = self.registration();
        let answer = brokers::register(self, &wish, false, now, effects);
        self.on_registered(answer.map(|_| ()).map_err(|error| error.message));
    }

    /// Through a broker that is the controller or passes it on.
    pub(in crate::broker) fn register_with(&mut self, to: PeerTo, now: Now, effects: &mut Effects) {
        let body = self.registration_request();
        self.ask_peer(to, PeerCall::Register, REGISTRATION_VERSION, &body, now, effects);
    }

    fn send_heartbeat(&mut self, epoch: BrokerEpoch, now: Now, effects: &mut Effects) {
        // Whoever sees its own registration has applied the metadata up to there.
        let wants_fence = !self.opening.is_open();
        // Who takes no more writes is to lead nothing that others have, until it is started again.
        let wants_shut_down = self.cluster.leaving.is_some() || self.offline.is_some();
        let ControllerAt::Node(controller) = self.cluster.controller else {
            let beat = Heartbeat { id: self.node(), epoch, caught_up: true, wants_fence, wants_shut_down };
            if let Err(error) = brokers::heartbeat(self, &beat, now, effects) {
                tracing::debug!("a heartbeat to itself: {error}");
            }
            if self.offline.is_some() {
                brokers::hand_over(self, now, effects);
            }
            return;
        };
        let body = BrokerHeartbeatRequest {
            broker_id: self.node().0,
            broker_epoch: epoch.0,
            current_metadata_offset: self.image.offset().cast_signed(),
            want_fence: wants_fence,
            want_shut_down: wants_shut_down,
            ..BrokerHeartbeatRequest::default()
        };
        self.ask_peer(PeerTo::Node(controller, CoreId(0)), PeerCall::Heartbeat, HEARTBEAT_VERSION, &body, now, effects);
    }

    /// This broker, as it registers.
    pub(in crate::broker) fn registration(&self) -> Registration {
        let (config, listeners) = (&self.config, &self.config.listeners);
        // Without syncs nobody knows what a crash of the machine has taken.
        let kept = config.settings.durability == Durability::Sync;
        Registration {
            id: self.node(),
            incarnation: config.incarnation.0,
            shared: listeners.shared.clone(),
            per_core: listeners.per_core.clone(),
            peer: listeners.peer.clone().unwrap_or_else(|| listeners.shared.clone()),
            cores: config.cores,
            rack: Some(config.settings.broker_rack.clone()).filter(|rack| !rack.is_empty()),
            directory: self.cluster.directory,
            kept_since: self.cluster.epoch_before.filter(|_| kept),
        }
    }

    fn registration_request(&self) -> BrokerRegistrationRequest {
        let wish = self.registration();
        let listener = |name: &str, address: &Address| Listener {
            name: name.into(),
            host: address.host.as_str().into(),
            port: address.port,
            security_protocol: 0,
        };
        let per_core = wish.per_core.iter().map(|address| listener(PER_CORE, address));
        let known = self.image.cluster_id();
        let cluster_id = if known.is_empty() { self.config.settings.cluster_id.as_str() } else { known };
        let cores = Feature {
            name: CORES.into(),
            max_supported_version: i16::try_from(wish.cores).unwrap_or(i16::MAX),
            ..Feature::default()
        };
        BrokerRegistrationRequest {
            broker_id: wish.id.0,
            cluster_id: cluster_id.into(),
            incarnation_id: self.config.incarnation,
            listeners: [listener(SHARED, &wish.shared), listener(PEER, &wish.peer)]
                .into_iter()
                .chain(per_core)
                .collect(),
            features: vec![cores],
            rack: wish.rack.as_deref().map(Into::into),
            log_dirs: vec![TopicId(wish.directory.0)],
            previous_broker_epoch: wish.kept_since.map_or(-1, |epoch| epoch.0),
            ..BrokerRegistrationRequest::default()
        }
    }

    fn on_registered(&mut self, answer: Result<(), String>) {
        let refused = answer.err();
        if let Some(why) = refused.as_ref().filter(|why| self.cluster.refused.as_ref() != Some(why)) {
            tracing::warn!("this broker is not registered yet: {why}");
        }
        self.cluster.refused = refused;
    }

    /// A core proposes in-sync sets of partitions that it leads.
    pub(in crate::broker) fn on_isr_proposed(
        &mut self,
        proposals: Vec<(TopicPartition, IsrProposal)>,
        now: Now,
        effects: &mut Effects,
    ) {
        let names: Vec<_> = proposals.iter().map(|(of, proposal)| (*of, proposal.partition_epoch)).collect();
        let Some(epoch) = self.registered().map(|broker| broker.epoch) else {
            return self.on_isr_lost(&names, effects);
        };
        let node = self.node();
        let ControllerAt::Node(controller) = self.cluster.controller else {
            let changes = proposals.into_iter().map(|(of, proposal)| isr_change(node, of, proposal)).collect();
            return brokers::alter_isr(self, changes, IsrAsker::Here, now, effects);
        };
        let mut topics: BTreeMap<_, Vec<PartitionRequest>> = BTreeMap::new();
        for (of, proposal) in proposals {
            let isr = proposal.isr.iter();
            topics.entry(of.topic).or_default().push(PartitionRequest {
                partition_index: of.partition.0,
                leader_epoch: proposal.leader_epoch.0,
                new_isr_with_epochs: isr
                    .map(|(node, epoch)| BrokerState { broker_id: node.0, broker_epoch: epoch.0 })
                    .collect(),
                partition_epoch: proposal.partition_epoch.0,
                ..PartitionRequest::default()
            });
        }
        let topics = topics.into_iter().map(|(topic_id, partitions)| TopicRequest { topic_id, partitions });
        let body = AlterPartitionRequest { broker_id: node.0, broker_epoch: epoch.0, topics: topics.collect() };
        let (to, call) = (PeerTo::Node(controller, CoreId(0)), PeerCall::AlterPartition(names));
        self.ask_peer(to, call, ALTER_PARTITION_VERSION, &body, now, effects);
    }

    /// Nobody knows what becomes of these proposals: their leaders make them again.
    fn on_isr_lost(&mut self, names: &[(TopicPartition, PartitionEpoch)], effects: &mut Effects) {
        let answers =
            names.iter().map(|(of, epoch)| IsrAnswer { of: *of, epoch: *epoch, code: ErrorCode::NotController });
        self.answer_isr(answers.collect(), effects);
    }

    /// Passes on to their cores what became of proposals.
    pub(in crate::broker) fn answer_isr(&mut self, answers: Vec<IsrAnswer>, effects: &mut Effects) {
        let mut by_core: BTreeMap<CoreId, Vec<IsrAnswer>> = BTreeMap::new();
        for answer in answers {
            by_core.entry(self.owner(answer.of.topic, answer.of.partition)).or_default().push(answer);
        }
        for (core, answers) in by_core {
            self.send(core, ShardMessage::IsrAnswered(answers), effects);
        }
    }

    /// Sends what the quorum has to say.
    pub(in crate::broker) fn send_quorum_messages(
        &mut self,
        messages: Vec<(NodeId, Vec<u8>)>,
        now: Now,
        effects: &mut Effects,
    ) {
        let mut by_node: BTreeMap<NodeId, Vec<Bytes>> = BTreeMap::new();
        for (node, message) in messages {
            by_node.entry(node).or_default().push(message.into());
        }
        let peer = self.registration().peer;
        for (node, messages) in by_node {
            let (host, port) = (peer.host.as_str().into(), peer.port);
            let body = QuorumMessagesRequest { host, port, messages };
            self.ask_peer(PeerTo::Node(node, CoreId(0)), PeerCall::Quorum(node), 0, &body, now, effects);
        }
    }

    /// An answer to what core 0 asked another broker.
    pub(in crate::broker) fn on_member_answer(
        &mut self,
        call: PeerCall,
        answer: Result<PeerAnswer, PeerError>,
        now: Now,
        effects: &mut Effects,
    ) {
        match call {
            PeerCall::Quorum(node) => brokers::on_reached(self, node, answer.is_ok(), now, effects),
            PeerCall::Register => {
                let answer = answer.and_then(PeerAnswer::decode::<BrokerRegistrationResponse>);
                let answer = answer.map_err(|error| error.to_string()).and_then(|reply| accepted(reply.error_code));
                self.on_registered(answer);
            }
            PeerCall::Heartbeat => {
                let answer = answer.and_then(PeerAnswer::decode::<BrokerHeartbeatResponse>);
                let answer = answer.map_err(|error| error.to_string()).and_then(|reply| accepted(reply.error_code));
                if let Err(why) = answer {
                    tracing::debug!("a heartbeat was not taken: {why}");
                }
            }
            PeerCall::AlterPartition(names) => match answer.and_then(PeerAnswer::decode::<AlterPartitionResponse>) {
                Ok(reply) if reply.error_code == 0 => {
                    let answers = names.iter().map(|(of, epoch)| isr_answer(&reply, *of, *epoch)).collect();
                    self.answer_isr(answers, effects);
                }
                Ok(_) | Err(_) => self.on_isr_lost(&names, effects),
            },
            other => unreachable!("{other:?} is not asked by the member"),
        }
    }

    /// Whether the broker has to leave its cluster before it stops; then [`ShardMessage::Left`] follows.
    pub(in crate::broker) fn leave_first(&mut self, now: Now, effects: &mut Effects) -> bool {
        if !self.registered().is_some_and(Broker::is_active) || self.image.brokers().count() < 2 {
            return false;
        }
        if self.core() == CoreId(0) {
            self.cluster.leaving = Some(Leaving::Partitions);
            self.deadlines.set(now.mono.after_ms(limits::LEAVE_MS), DeadlineKey::Leave);
            self.on_heartbeat_due(now, effects);
        }
        true
    }

    /// The cluster has taken note, and then somebody else is the controller: the broker may stop.
    pub(in crate::broker) fn go_on_leaving(&mut self, now: Now, effects: &mut Effects) {
        let is_gone = self.registered().is_none_or(|broker| !broker.is_active());
        let is_controller = brokers::is_controller(self);
        match self.cluster.leaving {
            Some(Leaving::Partitions) if is_gone => {
                self.cluster.leaving = Some(Leaving::Office);
                if !brokers::hand_over(self, now, effects) {
                    self.say_left(effects);
                }
            }
            Some(Leaving::Office) if !is_controller => self.say_left(effects),
            _ => {}
        }
    }

    pub(in crate::broker) fn on_leave_deadline(&mut self, effects: &mut Effects) {
        if self.cluster.leaving.is_some() && self.life == Life::Leaving {
            tracing::warn!("stopping although others do not lead this broker's partitions yet");
            self.say_left(effects);
        }
    }

    fn say_left(&mut self, effects: &mut Effects) {
        self.cluster.leaving = None;
        for core in 0..self.config.cores {
            self.send(CoreId(core), ShardMessage::Left, effects);
        }
    }
}

/// What a leader of this broker proposes, as the controller takes it.
fn isr_change(leader: NodeId, of: TopicPartition, proposal: IsrProposal) -> IsrChange {
    IsrChange {
        topic: of.topic,
        partition: of.partition,
        leader,
        leader_epoch: proposal.leader_epoch,
        partition_epoch: proposal.partition_epoch,
        isr: proposal.isr,
    }
}

fn accepted(error_code: i16) -> Result<(), String> {
    match ErrorCode::from_code(error_code) {
        Some(ErrorCode::None) => Ok(()),
        Some(code) => Err(code.message().to_owned()),
        None => Err(format!("error {error_code}")),
    }
}

fn isr_answer(reply: &AlterPartitionResponse, of: TopicPartition, epoch: PartitionEpoch) -> IsrAnswer {
    let rows = reply.topics.iter().filter(|topic| topic.topic_id == of.topic);
    let mut rows = rows.flat_map(|topic: &alter_partition::TopicData| &topic.partitions);
    let row = rows.find(|row| row.partition_index == of.partition.0);
    let code = row.and_then(|row| ErrorCode::from_code(row.error_code)).unwrap_or(ErrorCode::NotController);
    IsrAnswer { of, epoch, code }
}

/// What a broker that registers says of itself. Errors: it is no broker of this kind.
pub(in crate::broker) fn registration_of(request: &BrokerRegistrationRequest) -> Result<Registration, MetaError> {
    let wrong = |message: &str| MetaError { code: ErrorCode::InvalidRegistration, message: message.to_owned() };
    let named = |name: &'static str| {
        let listeners = request.listeners.iter().filter(move |listener| listener.name.as_str() == name);
        listeners.map(|listener| Address { host: listener.host.to_string(), port: listener.port })
    };
    let cores = request.features.iter().find(|feature| feature.name.as_str() == CORES);
    let cores = cores.and_then(|feature| u16::try_from(feature.max_supported_version).ok());
    Ok(Registration {
        id: NodeId(request.broker_id),
        incarnation: request.incarnation_id.0,
        shared: named(SHARED).next().ok_or_else(|| wrong("It has no listener for clients."))?,
        per_core: named(PER_CORE).take(limits::CORES_MAX).collect(),
        peer: named(PEER).next().ok_or_else(|| wrong("It has no listener for brokers."))?,
        cores: cores.ok_or_else(|| wrong("It does not tell how many cores it has."))?,
        rack: request.rack.as_ref().map(ToString::to_string),
        directory: request.log_dirs.first().map_or(DirectoryId::UNKNOWN, |id| DirectoryId(id.0)),
        kept_since: (request.previous_broker_epoch >= 0).then_some(BrokerEpoch(request.previous_broker_epoch)),
    })
}
