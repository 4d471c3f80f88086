//! What the controller and every core spend on metadata of 100,000 partitions with three replicas each: elections when
//! a broker goes, a snapshot written and read, and what one image lacks of another.

use std::collections::BTreeMap;
use std::hint::black_box;

use corelog::base::ids::{BrokerEpoch, DirectoryId, NodeId, PartitionEpoch, PartitionIndex, TopicId};
use corelog::config::{Address, Settings};
use corelog::meta::brokers::plan_fence;
use corelog::meta::fleet::Fleet;
use corelog::meta::{Broker, Image, MetaRecord, PartitionParts, PartitionState};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const BROKERS: i32 = 6;
const PARTITIONS_PER_TOPIC: i32 = 100;

fn broker(id: i32) -> MetaRecord {
    let address = |port: u16| Address { host: "broker.example".into(), port };
    MetaRecord::BrokerRegistered(Broker {
        id: NodeId(id),
        incarnation: [id as u8; 16],
        epoch: BrokerEpoch(id.into()),
        directory: DirectoryId([id as u8; 16]),
        shared: address(9092),
        per_core: Vec::new(),
        peer: address(19092),
        cores: 2,
        rack: None,
        fenced: false,
        shutting_down: false,
    })
}

/// On all brokers in turn; partitions have changed since they were made, as they do in a cluster that has lived.
fn image(topics: u32) -> Image {
    let mut image = Image::default();
    let mut records: Vec<MetaRecord> = (0..BROKERS).map(broker).collect();
    for topic in 0..topics {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&topic.to_be_bytes());
        let replicas = |partition: i32| (0..3).map(|at| NodeId((topic as i32 + partition + at) % BROKERS)).collect();
        let placed: Vec<Vec<NodeId>> = (0..PARTITIONS_PER_TOPIC).map(replicas).collect();
        let (name, id, settings) = (format!("topic-{topic}"), TopicId(id), BTreeMap::new());
        records.push(MetaRecord::TopicCreated {
            name,
            id,
            partitions: PARTITIONS_PER_TOPIC,
            placed: placed.clone(),
            settings,
        });
        records.extend((0..).map(PartitionIndex).zip(placed).map(|(partition, replicas)| {
            let state = PartitionState::new(&PartitionParts {
                isr: replicas.clone(),
                leader: replicas.first().copied(),
                replicas,
                partition_epoch: PartitionEpoch(1),
                ..PartitionParts::default()
            });
            MetaRecord::PartitionChanged { topic: id, partition, state: state.expect("sound") }
        }));
    }
    records.iter().for_each(|record| image.apply(record).expect("they fit"));
    image
}

fn bench(criterion: &mut Criterion) {
    let settings = Settings::default();
    let mut group = criterion.benchmark_group("metadata");
    // Each broker has half of the partitions, and leads a sixth.
    for topics in [60, 1000] {
        let image = image(topics);
        let records = plan_fence(Fleet::of(&image, NodeId(0)), NodeId(1), &settings);
        let leads = |record: &&MetaRecord| matches!(record, MetaRecord::PartitionChanged { state, .. } if state.leader_epoch().0 > 0);
        let leaders = records.iter().filter(leads).count();
        group.throughput(Throughput::Elements(leaders as u64));
        group.bench_function(
            format!("a broker goes that led {leaders} of {} partitions", image.partitions_count()),
            |b| {
                b.iter(|| plan_fence(Fleet::of(black_box(&image), NodeId(0)), NodeId(1), &settings));
            },
        );
    }
    let image = image(1000);
    let mut bytes = Vec::new();
    image.to_records().iter().for_each(|record| record.encode(&mut bytes));
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.sample_size(10);
    group.bench_function("a snapshot is made", |b| {
        b.iter(|| {
            let mut bytes = Vec::new();
            image.to_records().iter().for_each(|record| record.encode(&mut bytes));
            bytes
        });
    });
    group.bench_function("a snapshot is read", |b| {
        b.iter(|| {
            let (mut image, mut rest) = (Image::default(), &bytes[..]);
            while !rest.is_empty() {
                let record = MetaRecord::decode(&mut rest).expect("it was written so");
                image.apply(&record).expect("they fit");
            }
            image
        });
    });
    let mut later = image.clone();
    plan_fence(Fleet::of(&image, NodeId(0)), NodeId(1), &settings)
        .iter()
        .for_each(|record| later.apply(record).expect("a plan fits"));
    group.bench_function("changes to a later image", |b| b.iter(|| black_box(&image).changes_to(&later)));
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
