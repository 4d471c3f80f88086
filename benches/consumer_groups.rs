//! Consumer groups: what an assignment costs, and a heartbeat that says nothing new.

use std::hint::black_box;

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
use corelog::wire::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const MEMBERS: usize = 1_000;
const TOPICS: u8 = 100;
/// Of each topic: 10,000 of all.
const PARTITIONS: i32 = 100;

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

    fn beat(&mut self, group: usize, member: usize, epoch: i32) -> i32 {
        let joins = epoch == 0;
        let ask = Ask::ConsumerGroupHeartbeat(ConsumerGroupHeartbeatRequest {
            group_id: format!("group-{group}").into(),
            member_id: format!("member-{member}-of-group-{group}").into(),
            member_epoch: epoch,
            rebalance_timeout_ms: if joins { 60_000 } else { -1 },
            subscribed_topic_names: joins.then(|| vec!["t".into()]),
            topic_partitions: joins.then(Vec::new),
            ..Default::default()
        });
        let mut out = GroupOut::default();
        let Scene { coordinator, settings, rng, caller, ticket, now } = self;
        let mut context = Context { settings, topics: &OneTopic, now: *now, rng, out: &mut out };
        coordinator.on_ask(*ticket, ask, caller, &mut context);
        match &out.answers[0].1 {
            Answer::ConsumerGroupHeartbeat(answer) if answer.error_code == 0 => answer.member_epoch,
            other => panic!("{other:?}"),
        }
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
        for member in 0..4 {
            members.push((group, member, scene.beat(group, member, 0)));
        }
        // Partitions go from one to the next; nothing is owned that would have to be given up first.
        for row in members.iter_mut().skip(group * 4) {
            row.2 = scene.beat(row.0, row.1, row.2);
        }
    }
    let mut criterion_group = criterion.benchmark_group("consumer groups/heartbeat");
    criterion_group.throughput(Throughput::Elements(IN_A_SECOND as u64));
    let mut next = 0;
    criterion_group.bench_function("a second of 5,000 groups x 4 idle members", |bench| {
        bench.iter(|| {
            for _ in 0..IN_A_SECOND {
                let (group, member, epoch) = members[next];
                black_box(scene.beat(group, member, epoch));
                next = (next + 1) % members.len();
            }
            scene.pass(1_000);
        });
    });
    criterion_group.finish();
}

criterion_group!(benches, assignors, idle_groups);
criterion_main!(benches);
