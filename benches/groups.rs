//! What a group coordinator spends on one request, without the shard around it.

use std::hint::black_box;

use corelog::base::ids::{CoreId, TopicId};
use corelog::base::rng::Rng;
use corelog::base::slab::Slab;
use corelog::base::time::{Instant, Now};
use corelog::config::Settings;
use corelog::group::ask::{Answer, Ask, Caller, Ticket};
use corelog::group::coordinator::{Context, Coordinator, GroupOut};
use corelog::group::topics::{KnownTopic, Topics};
use corelog::wire::messages::heartbeat::HeartbeatRequest;
use corelog::wire::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use corelog::wire::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

struct NoTopics;

impl Topics for NoTopics {
    fn version(&self) -> u64 {
        0
    }

    fn by_name(&self, _: &str) -> Option<KnownTopic> {
        None
    }

    fn name_of(&self, _: TopicId) -> Option<&str> {
        None
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(std::iter::empty())
    }
}

struct Bench {
    coordinator: Coordinator,
    settings: Settings,
    now: Now,
    rng: Rng,
    out: GroupOut,
    ticket: Ticket,
}

impl Bench {
    fn new() -> Bench {
        let job = Slab::default().insert(());
        Bench {
            coordinator: Coordinator::default(),
            settings: Settings { group_initial_rebalance_delay_ms: 0, ..Settings::default() },
            now: Now { mono: Instant(0), wall_ms: 1_700_000_000_000 },
            rng: Rng::new(1),
            out: GroupOut::default(),
            ticket: Ticket { core: CoreId(0), job, at: 0 },
        }
    }

    fn call(&mut self, call: impl FnOnce(&mut Coordinator, &mut Context<'_>)) {
        self.out.records.clear();
        self.out.answers.clear();
        let (settings, out) = (&self.settings, &mut self.out);
        let mut context = Context { settings, topics: &NoTopics, now: self.now, rng: &mut self.rng, out };
        call(&mut self.coordinator, &mut context);
    }

    fn ask(&mut self, ask: Ask) {
        let ticket = self.ticket;
        let caller = Caller { version: 3, client_id: "bench".into(), client_host: "/127.0.0.1".into() };
        self.call(|coordinator, context| coordinator.on_ask(ticket, ask, &caller, context));
    }

    /// Puts a member into a group, alone; its id.
    fn join(&mut self, group: &str) -> String {
        let protocol = JoinGroupRequestProtocol { name: "range".into(), ..JoinGroupRequestProtocol::default() };
        self.ask(Ask::JoinGroup(JoinGroupRequest {
            group_id: group.into(),
            session_timeout_ms: 45_000,
            rebalance_timeout_ms: 60_000,
            protocol_type: "consumer".into(),
            protocols: vec![protocol],
            ..JoinGroupRequest::default()
        }));
        self.call(Coordinator::on_timeout);
        let Some((_, Answer::JoinGroup(joined))) = self.out.answers.first() else { panic!("{:?}", self.out) };
        joined.member_id.to_string()
    }
}

fn commit(partition: i32) -> Ask {
    let partition = OffsetCommitRequestPartition {
        partition_index: partition,
        committed_offset: 1,
        committed_metadata: Some("".into()),
        ..OffsetCommitRequestPartition::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: "orders".into(),
        partitions: vec![partition],
        ..OffsetCommitRequestTopic::default()
    };
    Ask::OffsetCommit(OffsetCommitRequest {
        group_id: "readers".into(),
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    })
}

fn groups(c: &mut Criterion) {
    let mut group = c.benchmark_group("groups");
    group.throughput(Throughput::Elements(1));
    let mut bench = Bench::new();
    let mut partition = 0;
    group.bench_function("commit", |b| {
        b.iter(|| {
            partition = (partition + 1) % 100;
            bench.ask(commit(partition));
            black_box(&bench.out);
        });
    });
    let mut bench = Bench::new();
    let names: Vec<String> = (0..5_000).map(|number| format!("group-{number}")).collect();
    let members: Vec<String> = names.iter().map(|name| bench.join(name)).collect();
    let mut at = 0;
    group.bench_function("heartbeat, of 5,000 groups", |b| {
        b.iter(|| {
            at = (at + 1) % names.len();
            bench.now.mono = bench.now.mono.after_ms(1);
            bench.ask(Ask::Heartbeat(HeartbeatRequest {
                group_id: names[at].as_str().into(),
                generation_id: 1,
                member_id: members[at].as_str().into(),
                ..HeartbeatRequest::default()
            }));
            if bench.coordinator.next_deadline().is_some_and(|due| due <= bench.now.mono) {
                bench.call(Coordinator::on_timeout);
            }
            black_box(&bench.out);
        });
    });
    group.finish();
}

criterion_group!(benches, groups);
criterion_main!(benches);
