//! What a commit costs the core that makes it: from `append` to the last event, without the disk.

use bytes::Bytes;
use corelog::base::disk::{DiskDone, DiskOp, FileId};
use corelog::base::ids::{CoreId, LeaderEpoch, Offset, PartitionIndex, TopicId};
use corelog::base::time::Now;
use corelog::journal::format::{EntryHead, Identity};
use corelog::journal::journal::{Entry, Journal, JournalEvent, JournalOut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Partitions, bytes that each appends between two commits.
const SHAPES: [(u32, usize); 5] = [(1, 200), (64, 200), (1000, 200), (64, 2_000), (4, 60_000)];

fn entry(owner: u32, at: u64, payload: &Bytes) -> Entry {
    Entry {
        owner,
        head: EntryHead {
            truncations: 0,
            topic: TopicId([7; 16]),
            partition: PartitionIndex(owner as i32),
            epoch: LeaderEpoch(1),
            segment: Offset(0),
            position: at * payload.len() as u64,
            base: Offset(at as i64),
            next: Offset(at as i64 + 1),
            len: payload.len() as u32,
        },
        slices: vec![payload.slice(..60), payload.slice(60..)],
    }
}

/// Answers the disk until nothing is in flight; owners flush when they are asked to.
fn run(journal: &mut Journal, out: &mut JournalOut, at: u64) {
    while !out.disk.is_empty() || !out.events.is_empty() {
        for event in out.events.drain(..) {
            if let JournalEvent::FlushWanted { owner } = event {
                journal.on_flushed(owner, Offset(at as i64 + 1));
            }
        }
        for (op, disk) in std::mem::take(&mut out.disk) {
            let done = match disk {
                DiskOp::Open { .. } => DiskDone::Opened { len: 0 },
                DiskOp::Read { len, .. } => DiskDone::Read(vec![0; len].into()),
                _ => DiskDone::Done,
            };
            journal.on_disk(op, Ok(done), Now::default(), out);
            journal.pump(Now::default(), out);
        }
    }
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("journal");
    for (partitions, bytes) in SHAPES {
        let identity = Identity { cluster: "bench".into(), node: 1, core: CoreId(0), cores: 1 };
        let mut out = JournalOut::default();
        let mut journal = Journal::new(identity, 128 << 20, 1, FileId(1));
        journal.open(&mut out);
        run(&mut journal, &mut out, 0);
        let payload = Bytes::from(vec![3; bytes]);
        let mut at = 0;
        group.throughput(Throughput::Elements(u64::from(partitions)));
        group.bench_function(format!("{partitions} entries of {bytes} B"), |bencher| {
            bencher.iter(|| {
                for owner in 0..partitions {
                    journal.append(entry(owner, at, &payload));
                }
                journal.pump(Now::default(), &mut out);
                run(&mut journal, &mut out, at);
                at += 1;
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
