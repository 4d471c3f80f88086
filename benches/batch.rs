//! What a batch costs on its way into the log: the check, and the stamp.

use std::hint::black_box;

use bytes::Bytes;
use corelog::base::ids::{LeaderEpoch, Offset};
use corelog::base::time::TimestampType;
use corelog::wire::batch::{BatchLimits, check_produce};
use corelog::wire::compression::Compression;
use corelog::wire::records::BatchBuilder;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const NOW_MS: i64 = 1_700_000_000_000;

/// Name, records, bytes of a value.
const SHAPES: [(&str, usize, usize); 3] =
    [("1 record of 1 KB", 1, 1000), ("256 KiB of 1 KB records", 256, 1010), ("256 KiB of 100 B records", 2400, 100)];

fn batch(records: usize, value_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    let value = vec![7; value_bytes];
    for _ in 0..records {
        builder.push(NOW_MS, None, Some(&value));
    }
    builder.build().bytes
}

fn bench(criterion: &mut Criterion) {
    let limits = BatchLimits {
        max_message_bytes: 1 << 20,
        timestamp_type: TimestampType::CreateTime,
        before_max_ms: i64::MAX,
        after_max_ms: 3_600_000,
    };
    let mut group = criterion.benchmark_group("batch");
    for (name, records, value_bytes) in SHAPES {
        let bytes = batch(records, value_bytes);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_with_input(BenchmarkId::new("check_produce", name), &bytes, |bencher, bytes| {
            bencher.iter(|| check_produce(black_box(bytes), &limits, NOW_MS).expect("it is whole"));
        });
        let batch = check_produce(&bytes, &limits, NOW_MS).expect("it is whole");
        group.bench_with_input(BenchmarkId::new("stamp", name), &batch, |bencher, batch| {
            bencher.iter(|| black_box(batch).stamp(Offset(5), LeaderEpoch(1), None));
        });
        group.bench_with_input(BenchmarkId::new("stamp with LogAppendTime", name), &batch, |bencher, batch| {
            bencher.iter(|| black_box(batch).stamp(Offset(5), LeaderEpoch(1), Some(NOW_MS)));
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
