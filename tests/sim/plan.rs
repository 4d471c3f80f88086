//! What a seed stands for: the broker's settings, who uses it, and what happens to it when.

use corelog::base::rng::Rng;
use corelog::config::Settings;

use crate::disk::{Crash, DiskFaults};

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1000 * MS;

/// What an acknowledgement promises.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Promise {
    /// It survives everything: each topic has `flush.messages=1`.
    Flushed,
    /// It survives the end of the process, and not always that of the machine.
    Written,
}

#[derive(Clone, Debug)]
pub struct TopicPlan {
    pub name: String,
    pub partitions: i32,
    pub segment_bytes: u64,
}

#[derive(Clone, Debug)]
pub struct ProducerPlan {
    pub idempotent: bool,
    pub acks: i16,
    /// Topic and partition.
    pub targets: Vec<(usize, i32)>,
    /// Longest time between two batches.
    pub pause_ms: u64,
    pub records_max: u64,
    pub record_bytes_max: u64,
    pub requests_in_flight_max: usize,
}

#[derive(Clone, Debug)]
pub struct ConsumerPlan {
    pub targets: Vec<(usize, i32)>,
    pub bytes_max: u64,
    pub wait_ms_max: u64,
}

/// What happens to the broker, or to the world around it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    Crash(Crash),
    Stop,
    /// A connection is lost.
    Break,
    /// A client is gone, and the broker hears of it only so much later.
    HalfOpen {
        ms: u64,
    },
    /// The disk takes so much longer for a while.
    Slow {
        times: u64,
        ms: u64,
    },
    /// The disk has only so much space left for a while.
    Full {
        left_bytes: usize,
        ms: u64,
    },
    /// Disk operations fail for a while.
    Failing {
        faults: DiskFaults,
        ms: u64,
    },
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub promise: Promise,
    pub topics: Vec<TopicPlan>,
    pub producers: Vec<ProducerPlan>,
    pub consumers: Vec<ConsumerPlan>,
    /// In the order of time, counted from when the topics were made.
    pub faults: Vec<(u64, Fault)>,
    /// When producers stop making records.
    pub load_ns: u64,
    pub disk_us: u64,
    pub net_us: u64,
    pub settings: Settings,
}

impl Plan {
    pub fn draw(seed: u64) -> Plan {
        let mut rng = Rng::new(seed ^ 0x0070_6c61_6e00);
        let rng = &mut rng;
        let promise = [Promise::Flushed, Promise::Flushed, Promise::Written][rng.below(3) as usize];
        let topics: Vec<TopicPlan> = (0..1 + rng.below(2))
            .map(|number| TopicPlan {
                name: format!("topic{number}"),
                partitions: 1 + rng.below(5) as i32,
                segment_bytes: (64 << 10) * (1 + rng.below(4)),
            })
            .collect();
        let producers = (0..1 + rng.below(4)).map(|_| draw_producer(&topics, rng)).collect();
        let consumers = (0..1 + rng.below(3))
            .map(|_| ConsumerPlan {
                targets: draw_targets(&topics, 4, rng),
                bytes_max: [500, 5_000, 100_000, 1 << 20][rng.below(4) as usize],
                wait_ms_max: 1 + rng.below(500),
            })
            .collect();
        let load_ns = SECOND + rng.below(4 * SECOND);
        let faults = draw_faults(load_ns, rng);
        let settings = Settings {
            queued_max_request_bytes: (1 << 20) * (2 + rng.below(7)),
            socket_request_max_bytes: 2 << 20,
            message_max_bytes: 1 << 20,
            tail_cache_bytes: 1 << 20,
            auto_create_topics_enable: false,
            ..Settings::default()
        };
        settings.check_together().expect("the settings fit each other");
        let (disk_us, net_us) = (50 + rng.below(2000), 20 + rng.below(1000));
        Plan { seed, promise, topics, producers, consumers, faults, load_ns, disk_us, net_us, settings }
    }

    /// What a topic is made with.
    pub fn topic_settings(&self, topic: &TopicPlan) -> Vec<(&'static str, String)> {
        let mut settings = vec![("segment.bytes", topic.segment_bytes.to_string())];
        match self.promise {
            Promise::Flushed => settings.push(("flush.messages", "1".into())),
            Promise::Written => {}
        }
        settings
    }

    /// Whether what was acknowledged may be gone after this.
    pub fn may_lose(&self, crash: Crash) -> bool {
        self.promise == Promise::Written && crash == Crash::Power
    }

    /// The broker may end by itself: its metadata is on the same disk.
    pub fn may_end_itself(&self) -> bool {
        self.faults.iter().any(|(_, fault)| matches!(fault, Fault::Failing { .. } | Fault::Full { .. }))
    }
}

fn draw_producer(topics: &[TopicPlan], rng: &mut Rng) -> ProducerPlan {
    let idempotent = rng.below(3) > 0;
    ProducerPlan {
        idempotent,
        acks: if idempotent { -1 } else { [-1, 1, 1, 0][rng.below(4) as usize] },
        targets: draw_targets(topics, 3, rng),
        pause_ms: 1 + rng.below(60),
        records_max: 1 + rng.below(12),
        record_bytes_max: [20, 200, 2000, 5000][rng.below(4) as usize],
        requests_in_flight_max: 1 + rng.below(5) as usize,
    }
}

fn draw_targets(topics: &[TopicPlan], most: u64, rng: &mut Rng) -> Vec<(usize, i32)> {
    let mut targets: Vec<(usize, i32)> = (0..1 + rng.below(most))
        .map(|_| {
            let topic = rng.below(topics.len() as u64) as usize;
            (topic, rng.below(topics[topic].partitions as u64) as i32)
        })
        .collect();
    targets.sort();
    targets.dedup();
    targets
}

fn draw_faults(load_ns: u64, rng: &mut Rng) -> Vec<(u64, Fault)> {
    let mut faults = Vec::new();
    // A third of the worlds has a sound disk.
    let disk = rng.below(3);
    for _ in 0..rng.below(6) {
        let at = rng.below(load_ns);
        let crash = if rng.below(3) == 0 { Crash::Kill } else { Crash::Power };
        faults.push((at, if rng.below(4) == 0 { Fault::Stop } else { Fault::Crash(crash) }));
        // And once more while it recovers.
        if rng.below(3) == 0 {
            faults.push((at + rng.below(100 * MS), Fault::Crash(crash)));
        }
    }
    for _ in 0..rng.below(8) {
        let fault = if rng.below(2) == 0 { Fault::Break } else { Fault::HalfOpen { ms: rng.below(8000) } };
        faults.push((rng.below(load_ns), fault));
    }
    if disk > 0 {
        let ms = 1 + rng.below(500);
        faults.push((rng.below(load_ns), Fault::Slow { times: 2 + rng.below(50), ms }));
    }
    if disk > 1 {
        let ms = 1 + rng.below(800);
        let fault = match rng.below(4) {
            0 => Fault::Full { left_bytes: rng.below(300_000) as usize, ms },
            1 => Fault::Failing {
                faults: DiskFaults { failing_writes: 1 + rng.below(100), ..DiskFaults::default() },
                ms,
            },
            2 => {
                Fault::Failing { faults: DiskFaults { failing_syncs: 1 + rng.below(30), ..DiskFaults::default() }, ms }
            }
            _ => {
                Fault::Failing { faults: DiskFaults { failing_reads: 1 + rng.below(300), ..DiskFaults::default() }, ms }
            }
        };
        faults.push((rng.below(load_ns), fault));
    }
    faults.sort_by_key(|(at, _)| *at);
    faults
}
