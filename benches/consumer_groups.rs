//! Consumer groups: what an assignment costs, and a heartbeat that says nothing new.

use std::hint::black_box;
use std::mem;

use corelog::base::ids::{CoreId, TopicId};
use corelog::base::rng::Rng;
use corelog::base::slab::Slab;
use corelog::base::time::{Instant, Now};
use corelog::config::{Assignor, Settings};
use corelog::group::ask::{Answer, Ask, Caller, Ticket};
use corelog::group::assign::{Spec, Subscriber, assign};
use corelog::group::assignment::Assignment;
use corelog::group::coordinator::{Context, Coordinator, GroupOut};
use corelog::group::topics::{KnownTopic, Topics};
use corelog::wire::messages::consumer_group_heartbeat::{ConsumerGroupHeartbeatRequest, TopicPartitions};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const MEMBERS: usize = 1_000;
const TOPICS: u8 = 100;
/// Of each topic: 10,000 of all.
const PARTITIONS: i32 = 100;
/// Of heartbeats, after which a group of a few members is stable.
const ROUNDS_MAX: usize = 20;

fn topics() -> Vec<TopicId> {
    (0..TOPICS).map(|topic| TopicId([topic; 16])).collect()
}

/// With `mixed`, every second member subscribes to half of the topics.
fn spec(previous: &[Assignment], mixed: bool) -> Spec<'_> {
    let half = topics().into_iter().step_by(2).collect();
    let member =
        |(index, previous)| Subscriber { instance_id: None, subscription: if mixed { index % 2 } else { 0 }, previous };
    Spec {
        topics: topics().into_iter().map(|topic| (topic, PARTITIONS)).collect(),
        subscriptions: if mixed { vec![topics(), half] } else { vec![topics()] },
        members: previous.iter().enumerate().map(member).collect(),
    }
}

fn assignors(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("consumer groups/assign 1,000 members x 10,000 partitions");
    let none = vec![Assignment::default(); MEMBERS];
    for (name, assignor, mixed) in [
        ("range", Assignor::Range, false),
        ("uniform", Assignor::Uniform, false),
        ("uniform, two subscriptions", Assignor::Uniform, true),
    ] {
        let first = spec(&none, mixed);
        group.bench_function(format!("{name}, from nothing"), |bench| {
            bench.iter(|| assign(assignor, black_box(&first)));
        });
        let mut before = assign(assignor, &first);
        before.pop();
        before.push(Assignment::default());
        let again = spec(&before, mixed);
        group.bench_function(format!("{name}, one member new"), |bench| {
            bench.iter(|| assign(assignor, black_box(&again)));
        });
    }
    group.finish();
}

struct OneTopic;

impl Topics for OneTopic {
    fn version(&self) -> u64 {
        1
    }

    fn by_name(&self, name: &str) -> Option<KnownTopic> {
        (name == "t").then_some(KnownTopic { id: TopicId([1; 16]), partitions: 4 })
    }

    fn name_of(&self, _: TopicId) -> Option<&str> {
        Some("t")
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(std::iter::once("t"))
    }
}

struct Scene {
    coordinator: Coordinator,
    settings: Settings,
    rng: Rng,
    caller: Caller,
    ticket: Ticket,
    now: Now,
}

/// What a member says with a heartbeat, or is told: its epoch, and its partitions if they are news.
#[derive(Default, Debug)]
struct Said {
    epoch: i32,
    partitions: Option<Vec<TopicPartitions>>,
}

impl Scene {
    fn new() -> Scene {
        let job = Slab::default().insert(());
        Scene {
            coordinator: Coordinator::default(),
            settings: Settings::default(),
            rng: Rng::new(1),
            caller: Caller { version: 1, client_id: "bench".into(), client_host: "/127.0.0.1".into() },
            ticket: Ticket { core: CoreId(0), job, at: 0 },
            now: Now { mono: Instant(0), wall_ms: 0 },
        }
    }

    /// A heartbeat of that member.
    fn beat(&mut self, group: usize, member: usize, said: Said) -> Said {
        let joins = said.epoch == 0;
        let ask = Ask::ConsumerGroupHeartbeat(ConsumerGroupHeartbeatRequest {
            group_id: format!("group-{group}").into(),
            member_id: format!("member-{member}-of-group-{group}").into(),
            member_epoch: said.epoch,
            rebalance_timeout_ms: if joins { 60_000 } else { -1 },
            subscribed_topic_names: joins.then(|| vec!["t".into()]),
            topic_partitions: said.partitions,
            ..Default::default()
        });
        let mut out = GroupOut::default();
        let Scene { coordinator, settings, rng, caller, ticket, now } = self;
        let mut context = Context { settings, topics: &OneTopic, now: *now, rng, out: &mut out };
        coordinator.on_ask(*ticket, ask, caller, &mut context);
        match &out.answers[0].1 {
            Answer::ConsumerGroupHeartbeat(answer) if answer.error_code == 0 => {
                let assignment = answer.assignment.as_ref();
                let partitions = assignment.map(|assignment| assignment.topic_partitions.clone());
                Said { epoch: answer.member_epoch, partitions }
            }
            other => panic!("{other:?}"),
        }
    }

    /// Joins so many members, and beats until each has what it is to have and has said so. Their epochs.
    fn form(&mut self, group: usize, members: usize) -> Vec<i32> {
        let mut said: Vec<Said> = (0..members).map(|_| Said { epoch: 0, partitions: Some(Vec::new()) }).collect();
        for _ in 0..ROUNDS_MAX {
            for (member, said) in said.iter_mut().enumerate() {
                *said = self.beat(group, member, mem::take(said));
            }
            if said.iter().all(|member| member.partitions.is_none() && member.epoch == said[0].epoch) {
                return said.iter().map(|member| member.epoch).collect();
            }
        }
        panic!("group {group} does not become stable: {said:?}");
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono = self.now.mono.after_ms(ms);
        let mut out = GroupOut::default();
        let Scene { coordinator, settings, rng, now, .. } = self;
        let mut context = Context { settings, topics: &OneTopic, now: *now, rng, out: &mut out };
        coordinator.on_timeout(&mut context);
        assert!(out.records.is_empty(), "nobody is late");
    }
}

/// 5,000 groups of four members that beat every five seconds: one of their seconds is 4,000 heartbeats.
fn idle_groups(criterion: &mut Criterion) {
    const GROUPS: usize = 5_000;
    const IN_A_SECOND: usize = GROUPS * 4 / 5;
    let mut scene = Scene::new();
    let mut members = Vec::with_capacity(GROUPS * 4);
    for group in 0..GROUPS {
        let epochs = scene.form(group, 4);
        members.extend(epochs.into_iter().enumerate().map(|(member, epoch)| (group, member, epoch)));
    }
    let mut criterion_group = criterion.benchmark_group("consumer groups/heartbeat");
    criterion_group.throughput(Throughput::Elements(IN_A_SECOND as u64));
    let mut next = 0;
    criterion_group.bench_function("a second of 5,000 groups x 4 idle members", |bench| {
        bench.iter(|| {
            for _ in 0..IN_A_SECOND {
                let (group, member, epoch) = members[next];
                black_box(scene.beat(group, member, Said { epoch, partitions: None }));
                next = (next + 1) % members.len();
            }
            scene.pass(1_000);
        });
    });
    criterion_group.finish();
}

criterion_group!(benches, assignors, idle_groups);
criterion_main!(benches);
