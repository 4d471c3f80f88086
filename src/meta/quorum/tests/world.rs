//! Several quorums in one world: what is committed is never lost, and everybody has the same of it.

use std::collections::BTreeSet;

use super::*;
use crate::meta::Broker;
use crate::meta::testing::broker;

struct Node {
    id: NodeId,
    disk: TestDisk<MetaOp>,
    quorum: Quorum,
    out: MetaOut,
    up: bool,
    /// What its events add up to; none until the log is loaded.
    image: Option<Image>,
    seq: u64,
    controller: bool,
    /// Proposed since it is the controller, with the number proposed.
    waiting: Vec<(u64, u64)>,
    starts: u64,
}

struct World {
    nodes: Vec<Node>,
    rng: Rng,
    now: Instant,
    network: Vec<(NodeId, NodeId, Vec<u8>)>,
    /// Images by seq, as whoever came there first had them.
    images: BTreeMap<u64, Vec<MetaRecord>>,
    controllers: BTreeMap<u64, NodeId>,
    /// Numbers whose proposer knows that they are committed.
    acknowledged: BTreeSet<u64>,
    proposed: u64,
    faults: bool,
    snapshots: u64,
    /// Whether nodes ask each other for what is committed, and what was answered and has not come.
    pulls: bool,
    answers: Vec<(usize, Vec<u8>)>,
    /// What controllers have told of.
    steps: Vec<MetaStep>,
}

impl World {
    fn new(seed: u64, count: usize) -> World {
        let rng = Rng::new(seed);
        let nodes = (0..count as i32).map(|id| {
            let mut out = MetaOut::default();
            let quorum = quorum_of(NodeId(id), seed + id as u64, &mut out);
            let (disk, image, waiting) = (TestDisk::new(seed + id as u64), None, Vec::new());
            let (up, seq, controller, starts) = (true, 0, false, 0);
            Node { id: NodeId(id), disk, quorum, out, up, image, seq, controller, waiting, starts }
        });
        let mut world = World {
            nodes: nodes.collect(),
            rng,
            now: Instant(0),
            network: Vec::new(),
            images: BTreeMap::new(),
            controllers: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            proposed: 0,
            faults: false,
            snapshots: 0,
            pulls: false,
            answers: Vec::new(),
            steps: Vec::new(),
        };
        while world.nodes.iter().any(|node| node.image.is_none()) {
            (0..count).for_each(|at| world.step_disk(at));
        }
        let first = &mut world.nodes[0];
        first.quorum.found(vec![record(0)], &mut first.out);
        world.collect(0);
        world
    }

    /// What a node wants done and has to say.
    fn collect(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        for (op, disk_op) in node.out.disk.drain(..) {
            node.disk.send(op, disk_op);
        }
        let from = node.id;
        self.steps.append(&mut node.out.steps);
        self.network.extend(node.out.messages.drain(..).map(|(to, bytes)| (from, to, bytes)));
        let events = mem::take(&mut node.out.events);
        let told = !events.is_empty();
        for event in events {
            match event {
                MetaEvent::Loaded { records } => {
                    node.image = Some(image(&records));
                    node.seq = node.quorum.node().store().applied();
                }
                MetaEvent::Committed { seq, records } => {
                    let image = node.image.as_mut().expect("loaded before");
                    assert!(seq > node.seq, "{seq} after {}", node.seq);
                    records.iter().for_each(|record| image.apply(record).expect("fits"));
                    node.seq = seq;
                    let records = image.to_records();
                    assert_eq!(*self.images.entry(seq).or_insert_with(|| records.clone()), records);
                }
                MetaEvent::Controller { term, me, .. } => {
                    node.controller = me;
                    node.waiting.clear();
                    if me {
                        let known = self.controllers.entry(term).or_insert(from);
                        assert_eq!(*known, from, "two controllers in term {term}");
                        let planned = node.quorum.planned();
                        let lacks = self.acknowledged.iter().find(|number| !has(planned, **number));
                        assert_eq!(lacks, None, "node {from} decides without what is committed");
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        let committed = node.waiting.iter().filter(|(seq, _)| *seq <= node.seq).map(|(_, number)| *number);
        self.acknowledged.extend(committed);
        node.waiting.retain(|(seq, _)| *seq > node.seq);
        if told && node.image.is_some() && node.up && node.quorum.installed.is_none() {
            assert_eq!(node.image.as_ref().map(Image::to_records), Some(node.quorum.committed().to_records()));
        }
    }

    fn step_disk(&mut self, at: usize) {
        self.collect(at);
        let node = &mut self.nodes[at];
        if let Some((op, result)) = node.disk.step() {
            node.quorum.on_disk(op, result, &mut node.out);
            self.collect(at);
        }
    }

    fn deliver(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let at = self.rng.below(self.network.len() as u64) as usize;
        let chance = if self.faults { self.rng.below(20) } else { u64::MAX };
        let (from, to, bytes) = if chance == 0 { self.network[at].clone() } else { self.network.remove(at) };
        self.snapshots += u64::from(bytes[1] == 4);
        let Some(index) = self.nodes.iter().position(|node| node.id == to && node.up) else {
            return self.lose(from, to);
        };
        if (1..3).contains(&chance) {
            return self.lose(from, to);
        }
        let node = &mut self.nodes[index];
        node.quorum.on_message(from, &bytes, &mut node.out).expect("nobody lost a log");
        self.collect(index);
    }

    /// Asks another for what is committed.
    fn pull(&mut self, at: usize, of: usize) {
        let [asker, other] = [at, of].map(|at| &self.nodes[at]);
        if at != of && asker.up && asker.image.is_some() && other.up {
            let answer = other.quorum.committed_after(asker.quorum.commit(), asker.id);
            self.answers.extend(answer.map(|answer| (at, answer)));
        }
    }

    /// An answer comes, perhaps late or once more.
    fn answer(&mut self) {
        if self.answers.is_empty() {
            return;
        }
        let index = self.rng.below(self.answers.len() as u64) as usize;
        let again = self.faults && self.rng.below(4) == 0;
        let (at, answer) = if again { self.answers[index].clone() } else { self.answers.remove(index) };
        let node = &mut self.nodes[at];
        if node.up && node.image.is_some() {
            self.snapshots += u64::from(answer[1] == 4);
            match node.quorum.follow(&answer, &mut node.out) {
                Ok(_) => {}
                // It was made a member before it had anything: the leader sends it what it needs.
                Err(error) => assert!(error.message.contains("lost its log"), "{error}"),
            }
            self.collect(at);
        }
    }

    fn pull_some(&mut self) {
        let count = self.nodes.len() as u64;
        let (at, of) = (self.rng.below(count) as usize, self.rng.below(count) as usize);
        if self.rng.below(3) == 0 {
            self.pull(at, of);
        }
        self.answer();
        if self.answers.len() > 20 {
            self.answers.remove(0);
        }
    }

    fn lose(&mut self, from: NodeId, to: NodeId) {
        let sender = from.0 as usize;
        if self.nodes[sender].up && self.rng.below(2) == 0 {
            let node = &mut self.nodes[sender];
            node.quorum.on_unreachable(to, &mut node.out);
            self.collect(sender);
        }
    }

    fn pass_time(&mut self) {
        self.now = self.now.after_ms(1 + self.rng.below(30));
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            if node.up && node.quorum.next_deadline(self.now).is_some_and(|due| due <= self.now) {
                node.quorum.on_timeout(self.now, &mut node.out);
                self.collect(at);
            }
        }
    }

    fn crash_or_start(&mut self, at: usize) {
        let seed = self.rng.next_u64();
        let how = if self.rng.below(2) == 0 { Crash::Kill } else { Crash::Power };
        let node = &mut self.nodes[at];
        node.up = !node.up;
        node.out = MetaOut::default();
        node.waiting.clear();
        node.controller = false;
        node.image = None;
        if node.up {
            node.starts += 1;
            node.quorum = quorum_of(node.id, seed, &mut node.out);
            self.collect(at);
        } else {
            node.disk.crash(how);
        }
    }

    /// The controller, as far as one knows that it is.
    fn controller(&mut self) -> Option<&mut Node> {
        self.nodes.iter_mut().find(|node| node.up && node.controller)
    }

    fn propose(&mut self) {
        self.proposed += 1;
        let number = self.proposed;
        let size = if number.is_multiple_of(7) { 20 } else { 1 };
        let Some(node) = self.controller() else { return };
        if let Ok(seq) = node.quorum.propose(vec![large(number, size)], &mut node.out) {
            node.waiting.push((seq, number));
        }
        let at = node.id.0 as usize;
        self.collect(at);
    }

    fn change_members(&mut self) {
        let other = NodeId(self.rng.below(self.nodes.len() as u64) as i32);
        let chance = self.rng.below(10);
        let Some(node) = self.controller() else { return };
        let status = node.quorum.status();
        let caught_up = status.matched.iter().any(|(id, matched)| *id == other && *matched + 3 >= status.last);
        // A change that has to wait is refused.
        let _ = match (status.voters.contains(&other), status.learners.contains(&other)) {
            (false, false) => node.quorum.add_learner(other, &mut node.out),
            (false, true) if caught_up => node.quorum.add_voter(other, &mut node.out),
            (true, _) if status.voters.len() > 1 && chance == 0 => node.quorum.remove_member(other, &mut node.out),
            _ => {
                if chance == 1 {
                    node.quorum.hand_over(&mut node.out);
                }
                return;
            }
        };
        let at = node.id.0 as usize;
        self.collect(at);
    }

    fn step(&mut self) {
        if self.pulls && self.rng.below(10) == 0 {
            return self.pull_some();
        }
        let at = self.rng.below(self.nodes.len() as u64) as usize;
        match self.rng.below(100) {
            0..40 => self.deliver(),
            40..75 => self.step_disk(at),
            75..92 => self.pass_time(),
            92..96 => self.propose(),
            96..99 => self.change_members(),
            _ if self.faults && self.rng.below(3) == 0 => self.crash_or_start(at),
            _ => {}
        }
        // What waits too long is lost: the network has a bound.
        if self.network.len() > 200 {
            self.network.remove(0);
        }
    }

    /// Without faults somebody decides soon, and everybody who belongs to the cluster hears of it.
    fn settle(&mut self) {
        self.faults = false;
        (0..self.nodes.len()).filter(|at| !self.nodes[*at].up).collect::<Vec<_>>().into_iter().for_each(|at| {
            self.crash_or_start(at);
        });
        for round in 0.. {
            assert!(round < 3_000, "nothing is decided any more");
            for at in 0..self.nodes.len() {
                (0..4).for_each(|_| self.step_disk(at));
            }
            (0..20).for_each(|_| self.deliver());
            self.pass_time();
            if self.pulls {
                (0..20).for_each(|_| self.pull_some());
            }
            let proposed = self.acknowledged.contains(&self.proposed);
            if round % 50 == 0 && !proposed {
                self.propose();
            }
            let Some(status) = self.controller().map(|node| node.quorum.status()) else { continue };
            let all = self.nodes.iter().map(|node| node.id).filter(|_| self.pulls);
            let members: Vec<NodeId> = status.voters.iter().chain(&status.learners).copied().chain(all).collect();
            let has_all = |id: &NodeId| {
                let quorum = &self.nodes[id.0 as usize].quorum;
                let has_all = quorum.version() >= status.commit && quorum.installed.is_none();
                has_all && (!self.pulls || quorum.knows_controller())
            };
            // A change of members counts once it is committed.
            let decided = proposed && status.commit == status.last;
            if decided && members.iter().all(has_all) && self.network.len() < 50 {
                return;
            }
        }
    }
}

fn has(image: &Image, number: u64) -> bool {
    !image.overrides(&ConfigResource::Group(number.to_string())).is_empty()
}

#[test]
fn nothing_committed_is_lost_and_everybody_has_the_same() {
    let (mut acknowledged, mut snapshots, mut terms, mut largest) = (0, 0, 0, 0);
    for seed in 0..25 {
        let mut world = World::new(seed, 1 + seed as usize % 5);
        // First a cluster, then trouble.
        (0..1_500).for_each(|_| world.step());
        world.faults = true;
        (0..4_000).for_each(|_| world.step());
        world.settle();
        let status = world.controller().map(|node| node.quorum.status()).expect("somebody decides");
        largest = largest.max(status.voters.len());
        for id in &status.voters {
            let image = world.nodes[id.0 as usize].image.as_ref().expect("loaded");
            let lacks = world.acknowledged.iter().find(|number| !has(image, **number));
            assert_eq!(lacks, None, "seed {seed}: node {id} lacks what is committed");
        }
        acknowledged += world.acknowledged.len();
        snapshots += world.snapshots;
        terms += world.controllers.len();
    }
    let seen = (acknowledged > 2_000, snapshots > 40, terms > 60, largest > 3);
    assert_eq!(seen, (true, true, true, true), "{acknowledged} {snapshots} {terms} {largest}");
}

#[test]
fn the_same_seed_makes_the_same_world() {
    let run = |seed| {
        let mut world = World::new(seed, 5);
        (0..1_000).for_each(|_| world.step());
        world.faults = true;
        (0..2_000).for_each(|_| world.step());
        (world.images, world.controllers, world.now, world.network)
    };
    assert!(run(3) == run(3), "raft's own random numbers count");
    assert!(run(3) != run(4));
}

#[test]
fn who_lost_its_directory_does_not_vote_until_it_is_registered_with_the_new_one() {
    let mut world = World::new(9, 3);
    while world.nodes.iter().any(|node| node.quorum.status().voters.len() < 3) {
        world.step();
    }
    world.settle();
    let leader = world.controller().map(|node| node.id.0 as usize).expect("somebody decides");
    let (lost, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let register = |world: &mut World| {
        let epoch = world.proposed as i64 + 1;
        let directory = world.nodes[lost].quorum.directory();
        let registered = MetaRecord::BrokerRegistered(Broker { directory, ..broker(lost as i32, epoch) });
        let node = &mut world.nodes[leader];
        node.quorum.propose(vec![registered], &mut node.out).expect("it decides");
        world.collect(leader);
        world.propose();
        world.settle();
    };
    register(&mut world);
    let vote = |world: &mut World| {
        let term = world.nodes[leader].quorum.status().term + 1;
        let (from, to) = (raft_id(world.nodes[other].id), raft_id(world.nodes[lost].id));
        let message = Message { msg_type: MessageType::MsgRequestVote, from, to, term, ..Message::default() };
        let bytes = encode_message(&message).expect("of those that are sent");
        let (from, node) = (world.nodes[other].id, &mut world.nodes[lost]);
        node.quorum.on_message(from, &bytes, &mut node.out)
    };

    world.crash_or_start(lost);
    world.nodes[lost].disk = TestDisk::new(77);
    let node = &mut world.nodes[leader];
    node.quorum.remove_member(NodeId(lost as i32), &mut node.out).expect("nothing else changes");
    world.collect(leader);
    while world.nodes[leader].quorum.status().voters.len() == 3 {
        [leader, other].into_iter().for_each(|at| world.step_disk(at));
        world.deliver();
    }
    let node = &mut world.nodes[leader];
    node.quorum.add_learner(NodeId(lost as i32), &mut node.out).expect("nothing else changes");
    world.collect(leader);
    world.propose();
    world.settle();
    assert!(world.nodes[lost].quorum.has_cluster());
    vote(&mut world).expect_err("it has lost what it voted");
    register(&mut world);
    vote(&mut world).expect("it is another one now");
}

#[test]
fn a_change_on_three_nodes_is_on_the_way_of_one_sync_on_two() {
    let mut world = World::new(9, 3);
    while world.nodes.iter().any(|node| node.quorum.status().voters.len() < 3) {
        world.step();
    }
    world.settle();
    let leader = world.controller().map(|node| node.id.0 as usize).expect("somebody decides");
    world.propose();
    let (node, number) = (&mut world.nodes[leader], world.proposed);
    let before = node.disk.done;
    assert!(!node.disk.is_idle());
    while !world.acknowledged.contains(&number) {
        (0..3).for_each(|at| world.step_disk(at));
        world.deliver();
    }
    assert!(world.nodes[leader].disk.done - before <= 4, "two writes and two syncs at the most");
}

#[test]
fn those_who_pull_have_the_same_whether_they_vote_or_not() {
    let (mut acknowledged, mut snapshots, mut without_vote) = (0, 0, 0);
    for seed in 0..25 {
        let mut world = World::new(seed, 2 + seed as usize % 4);
        world.pulls = true;
        (0..1_500).for_each(|_| world.step());
        world.faults = true;
        (0..4_000).for_each(|_| world.step());
        world.settle();
        for node in &world.nodes {
            let image = node.image.as_ref().expect("loaded");
            let lacks = world.acknowledged.iter().find(|number| !has(image, **number));
            assert_eq!(lacks, None, "seed {seed}: node {} lacks what is committed", node.id);
            without_vote += usize::from(!node.quorum.has_vote());
        }
        acknowledged += world.acknowledged.len();
        snapshots += world.snapshots;
    }
    let seen = (acknowledged > 1_500, snapshots > 40, without_vote > 5);
    assert_eq!(seen, (true, true, true), "{acknowledged} {snapshots} {without_vote}");
}

#[test]
fn what_one_has_shown_that_pulls_is_there_after_a_crash() {
    let mut shown_most = 0;
    for operations in 0..60 {
        for seed in 0..3 {
            let mut world = World::new(seed, 2);
            let mut operations_left = operations;
            while operations_left > 0 {
                world.propose();
                (0..8).for_each(|_| world.step_disk(0));
                world.pull(1, 0);
                world.answer();
                for _ in 0..operations_left.min(1 + seed as usize) {
                    operations_left -= 1;
                    world.step_disk(1);
                }
            }
            let shown = world.nodes[1].seq;
            shown_most = shown.max(shown_most);
            world.crash_or_start(1);
            world.crash_or_start(1);
            while world.nodes[1].image.is_none() {
                world.step_disk(1);
            }
            assert!(world.nodes[1].seq >= shown, "{} after {shown}", world.nodes[1].seq);
            while world.nodes[1].quorum.version() < world.nodes[0].quorum.version() {
                world.pull(1, 0);
                world.answer();
                world.step_disk(1);
            }
            (0..8).for_each(|_| world.step_disk(1));
            assert_eq!(
                world.nodes[1].image.as_ref().map(Image::to_records),
                Some(world.nodes[0].quorum.committed().to_records())
            );
        }
    }
    assert!(shown_most > 10, "{shown_most}");
}

#[test]
fn steps_are_taken_in_their_order_and_each_once() {
    let mut world = World::new(1, 2);
    let broker = MetaRecord::BrokerRegistered(crate::meta::testing::broker(1, 1));
    let first = &mut world.nodes[0];
    first.quorum.propose(vec![broker], &mut first.out).expect("decides alone");
    (0..8).for_each(|_| world.step_disk(0));
    world.pull(1, 0);
    world.answer();
    (0..8).for_each(|_| world.step_disk(1));
    world.steps.clear();
    for _ in 0..3 {
        world.propose();
        (0..8).for_each(|_| world.step_disk(0));
    }
    let steps: Vec<Vec<u8>> = world.steps.drain(..).map(|step| step.bytes).collect();
    assert_eq!(steps.len(), 3);
    let before = world.nodes[1].quorum.version();
    for (at, expect) in [(1, 0), (2, 0), (0, 1), (0, 1), (2, 1), (1, 2), (0, 2), (2, 3)] {
        let node = &mut world.nodes[1];
        node.quorum.follow_step(&steps[at], &mut node.out).expect("it is one");
        (0..8).for_each(|_| world.step_disk(1));
        assert_eq!(world.nodes[1].quorum.version() - before, expect, "after step {at}");
    }
    assert_eq!(world.nodes[1].quorum.status().leader, Some(NodeId(0)));
    let node = &mut world.nodes[1];
    for len in 0..steps[0].len() {
        node.quorum.follow_step(&steps[0][..len], &mut node.out).expect_err("it is cut");
    }
}

#[test]
fn a_member_that_lost_its_log_is_not_given_everything_by_whoever_it_asks() {
    let mut world = World::new(9, 3);
    while world.nodes.iter().any(|node| node.quorum.status().voters.len() < 3) {
        world.step();
    }
    world.settle();
    let lost = NodeId(2);
    assert_eq!(world.nodes[0].quorum.committed_after(0, lost), None);
    let whole = world.nodes[0].quorum.committed_after(0, NodeId(7)).expect("it is no member");
    let mut out = MetaOut::default();
    let mut disk = TestDisk::new(1);
    let mut quorum = quorum_of(lost, 1, &mut out);
    while !out.disk.is_empty() {
        out.disk.drain(..).for_each(|(op, disk_op)| disk.send(op, disk_op));
        let (op, result) = disk.step().expect("something is under way");
        quorum.on_disk(op, result, &mut out);
    }
    let error = quorum.follow(&whole, &mut out).expect_err("it is a member there");
    assert!(error.message.contains("lost its log") && !quorum.has_cluster(), "{error}");
}
