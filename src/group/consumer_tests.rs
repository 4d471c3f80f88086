//! Consumer groups under random clients: nobody reads what another reads, a restart changes nothing, and in the end
//! all is dealt out.

use std::collections::{BTreeMap, BTreeSet};

use super::ask::{Answer, Ask};
use super::assignment::Assignment;
use super::consumer::{ConsumerGroup, ConsumerGroupState};
use super::consumer_member::MemberDeadlines;
use super::topics::Topics;
use super::transcript::Scene;
use crate::base::rng::Rng;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};

/// A consumer as Kafka's clients are: it takes what it is given, gives up what it is not given any more when it gets
/// to it, and begins anew when it is fenced.
#[derive(Debug)]
struct Client {
    id: String,
    instance_id: Option<String>,
    topics: Vec<String>,
    regex: String,
    epoch: i32,
    /// What it reads.
    owned: Assignment,
    /// What it was told that it has.
    given: Assignment,
    /// It has said everything of itself since it joined.
    is_known: bool,
}

struct World {
    scene: Scene,
    rng: Rng,
    clients: Vec<Client>,
    /// Static members that are away.
    away: BTreeSet<String>,
    ids: u32,
}

const TOPICS: [&str; 4] = ["a", "b", "c", "d"];

impl World {
    fn new(seed: u64) -> World {
        let mut world =
            World { scene: Scene::new(), rng: Rng::new(seed), clients: Vec::new(), away: BTreeSet::new(), ids: 0 };
        world.change_topics();
        world
    }

    fn step(&mut self) {
        match self.rng.below(16) {
            0 if self.clients.len() < 6 => self.join(),
            1 => self.leave(),
            2 => self.change_subscription(),
            3 => self.change_topics(),
            4 => {
                let ms = self.rng.below(20_000);
                self.scene.wait(ms);
            }
            5 => self.check_restart(),
            6 if self.clients.len() > 3 => {
                // It crashes: nobody hears of it again.
                self.clients.remove(0);
            }
            7..=9 => self.give_up(),
            _ if self.clients.is_empty() => self.join(),
            _ => {
                let client = self.rng.below(self.clients.len() as u64) as usize;
                let is_lost = self.rng.below(8) == 0;
                self.beat(client, is_lost);
            }
        }
        self.check();
    }

    fn join(&mut self) {
        self.ids += 1;
        let back = self.away.pop_first();
        let instance_id = back.or_else(|| (self.rng.below(3) == 0).then(|| format!("i{}", self.ids)));
        let mut client = Client {
            id: format!("m{}", self.ids),
            instance_id,
            topics: Vec::new(),
            regex: String::new(),
            epoch: 0,
            owned: Assignment::default(),
            given: Assignment::default(),
            is_known: false,
        };
        (client.topics, client.regex) = self.subscription();
        self.clients.push(client);
        self.beat(self.clients.len() - 1, false);
    }

    fn join_as(&mut self, id: &str, topic: &str) {
        self.clients.push(Client {
            id: id.to_owned(),
            instance_id: None,
            topics: vec![topic.to_owned()],
            regex: String::new(),
            epoch: 0,
            owned: Assignment::default(),
            given: Assignment::default(),
            is_known: false,
        });
        self.beat(self.clients.len() - 1, false);
    }

    fn subscription(&mut self) -> (Vec<String>, String) {
        let topics = TOPICS.iter().filter(|_| self.rng.below(2) == 0).map(|name| (*name).to_owned()).collect();
        let regex = ["", "", "[ab]", ".*"][self.rng.below(4) as usize].to_owned();
        (topics, regex)
    }

    fn change_subscription(&mut self) {
        let (topics, regex) = self.subscription();
        let Some(client) = self.clients.last_mut() else { return };
        (client.topics, client.regex, client.is_known) = (topics, regex, false);
    }

    fn change_topics(&mut self) {
        let name = TOPICS[self.rng.below(4) as usize];
        match self.scene.topics.by_name(name) {
            Some(_) if self.rng.below(3) == 0 => self.scene.topics.delete(name),
            Some(topic) => self.scene.topics.set(name, (topic.partitions + 2).min(9)),
            None => self.scene.topics.set(name, 1 + self.rng.below(5) as i32),
        }
    }

    fn leave(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let client = self.clients.remove(self.rng.below(self.clients.len() as u64) as usize);
        let is_away = client.instance_id.is_some() && self.rng.below(2) == 0;
        let request = ConsumerGroupHeartbeatRequest {
            group_id: "g".into(),
            member_id: (&client.id).into(),
            member_epoch: if is_away { -2 } else { -1 },
            instance_id: client.instance_id.as_ref().map(Into::into),
            ..Default::default()
        };
        let answer = self.send(request);
        if is_away && answer.error_code == 0 {
            self.away.extend(client.instance_id);
        }
    }

    /// Some client gets to giving up what it no longer has.
    fn give_up(&mut self) {
        let count = self.clients.len() as u64;
        if count > 0 {
            let client = &mut self.clients[self.rng.below(count) as usize];
            client.owned = client.owned.intersection(&client.given);
        }
    }

    fn beat(&mut self, index: usize, is_lost: bool) {
        let client = &self.clients[index];
        let says_all = client.epoch == 0 || !client.is_known;
        let owned = client.owned.lists().map(|(topic_id, partitions)| TopicPartitions { topic_id, partitions });
        let request = ConsumerGroupHeartbeatRequest {
            group_id: "g".into(),
            member_id: (&client.id).into(),
            member_epoch: client.epoch,
            instance_id: client.instance_id.as_ref().map(Into::into),
            rebalance_timeout_ms: if says_all { 30_000 } else { -1 },
            subscribed_topic_names: says_all.then(|| client.topics.iter().map(Into::into).collect()),
            subscribed_topic_regex: says_all.then(|| (&client.regex).into()),
            topic_partitions: Some(owned.collect()),
            ..Default::default()
        };
        let answer = self.send(request);
        let client = &mut self.clients[index];
        match ErrorCode::from_code(answer.error_code) {
            // It says everything again, and is told everything.
            _ if is_lost => client.is_known = false,
            Some(ErrorCode::None) => {
                client.epoch = answer.member_epoch;
                client.is_known = true;
                if let Some(assignment) = answer.assignment {
                    let lists = assignment.topic_partitions.iter();
                    client.given =
                        Assignment::from_lists(lists.map(|list| (list.topic_id, list.partitions.as_slice())));
                    // What is new is read at once; what is gone, until it gets to that.
                    client.owned.extend(&client.given);
                }
            }
            Some(
                ErrorCode::FencedMemberEpoch
                | ErrorCode::UnknownMemberId
                | ErrorCode::GroupIdNotFound
                | ErrorCode::FencedInstanceId
                | ErrorCode::UnreleasedInstanceId,
            ) => {
                (client.epoch, client.is_known) = (0, false);
                (client.owned, client.given) = (Assignment::default(), Assignment::default());
            }
            other => panic!("{other:?}: {:?}", answer.error_message),
        }
    }

    fn send(&mut self, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
        let out = self.scene.ask(Ask::ConsumerGroupHeartbeat(request), 1);
        match out.answers.into_iter().next() {
            Some((_, Answer::ConsumerGroupHeartbeat(answer))) => answer,
            other => panic!("{other:?}"),
        }
    }

    fn check(&self) {
        if let Some(group) = self.scene.rig.coordinator.consumer("g") {
            check_owners(group);
            // Whoever the coordinator gave up may not have noticed yet.
            let readers = self.clients.iter().filter(|client| group.members.contains_key(&client.id));
            let mut read = Assignment::default();
            for client in readers {
                assert!(client.owned.is_disjoint(&read), "{:?}", self.clients);
                read.extend(&client.owned);
            }
        }
    }

    fn check_restart(&mut self) {
        let before = recorded(self.scene.rig.coordinator.consumer("g"));
        self.scene.restart();
        assert_eq!(recorded(self.scene.rig.coordinator.consumer("g")), before);
    }

    /// Everybody behaves for a while.
    fn settle(&mut self) {
        for _ in 0..30 {
            self.scene.wait(5_000);
            for client in 0..self.clients.len() {
                let given = self.clients[client].given.clone();
                self.clients[client].owned = self.clients[client].owned.intersection(&given);
                self.beat(client, false);
                self.check();
            }
        }
    }

    fn check_settled(&self) {
        if self.clients.is_empty() {
            return;
        }
        let group = self.scene.rig.coordinator.consumer("g").expect("it has members");
        assert_eq!(group.state(), ConsumerGroupState::Stable);
        assert_eq!(group.members.len(), self.clients.len());
        let mut read = Assignment::default();
        for client in &self.clients {
            assert_eq!(client.owned, client.given);
            read.extend(&client.owned);
        }
        let subscribed = group.subscribed_topics().into_iter().filter_map(|name| self.scene.topics.by_name(name));
        assert_eq!(read.len() as i32, subscribed.map(|topic| topic.partitions).sum::<i32>());
    }
}

/// The group without what is not recorded.
fn recorded(group: Option<&ConsumerGroup>) -> Option<ConsumerGroup> {
    let mut group = group?.clone();
    (group.topics_version, group.patterns_seen, group.alarm, group.armed) = (None, None, None, None);
    group.members.values_mut().for_each(|member| member.deadlines = MemberDeadlines::default());
    Some(group)
}

/// Nothing is with two members, and who has what is known.
fn check_owners(group: &ConsumerGroup) {
    let mut owners = BTreeMap::new();
    for (id, member) in &group.members {
        for partition in member.current.assigned.iter().chain(member.current.revoking.iter()) {
            assert_eq!(owners.insert(partition, id.clone()), None, "{partition:?} is with two");
        }
    }
    assert_eq!(owners, group.owners);
}

#[test]
fn random_clients_never_share_a_partition_and_end_with_all_of_them() {
    for seed in 0..150 {
        let mut world = World::new(seed);
        for _ in 0..150 {
            world.step();
        }
        world.settle();
        world.check_settled();
        world.check_restart();
    }
}

#[test]
fn a_hundred_members_have_their_share_two_heartbeats_after_the_last_has_joined() {
    let mut world = World::new(1);
    world.scene.topics = Default::default();
    world.scene.topics.set("t", 100);
    for number in 0..100 {
        world.join_as(&format!("m{number:03}"), "t");
    }
    for _ in 0..2 {
        world.scene.wait(5_000);
        for client in 0..100 {
            world.beat(client, false);
            let given = world.clients[client].given.clone();
            if world.clients[client].owned != given {
                // Clients tell at once when they have given something up.
                world.clients[client].owned = given;
                world.beat(client, false);
            }
        }
        world.check();
    }
    world.check_settled();
    assert!(world.clients.iter().all(|client| client.owned.len() == 1));
}
