//! What a seed stands for: the broker's settings, who uses it, and what happens to it when.

use corelog::base::rng::Rng;
use corelog::config::Settings;

use crate::disk::{Crash, DiskFaults};
use crate::node::{Clock, client_address};

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1000 * MS;

const CORES_MAX: u64 = 4;

/// What an acknowledgement of a topic promises.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Promise {
    /// It survives everything: `durability=sync`.
    Synced,
    /// The same, by `flush.messages=1`.
    Flushed,
    /// It survives the end of the process, and not always that of the machine: `durability=write`.
    Written,
}

/// What most of a world's trouble comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Quiet,
    Crashes,
    /// Crashes one after the other.
    Storm,
    /// Segments that are full after a few batches.
    Rolls,
    /// The same, and they are removed soon after. All batches are equally long, so that those of a file that becomes
    /// another segment lie where the new ones will.
    Retention,
    /// Compacted topics, and records deleted on request: crashes and failures hit those who clear away.
    Upkeep,
    /// Operations fail, space runs out.
    Disk,
    Net,
    Everything,
}

const KINDS: [Kind; 9] = [
    Kind::Crashes,
    Kind::Everything,
    Kind::Storm,
    Kind::Disk,
    Kind::Rolls,
    Kind::Storm,
    Kind::Net,
    Kind::Quiet,
    Kind::Retention,
];

#[derive(Clone, Debug)]
pub struct TopicPlan {
    pub name: String,
    pub partitions: i32,
    pub segment_bytes: u64,
    /// Older segments than these bytes need are removed.
    pub retention_bytes: Option<u64>,
    /// Of each of so many keys the last record stays.
    pub compacted: Option<Compacted>,
    /// Somebody deletes its oldest records.
    pub is_trimmed: bool,
    pub promise: Promise,
    pub replicas: i16,
}

/// How a topic is compacted.
#[derive(Clone, Copy, Debug)]
pub struct Compacted {
    pub keys: u64,
    /// A tombstone stays at least so long.
    pub delete_retention_ms: u64,
    pub dirty_percent: u64,
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
    /// All batches have one record and are this long, so that one may come to lie where another was.
    pub batch_bytes: Option<usize>,
    pub requests_in_flight_max: usize,
}

impl ProducerPlan {
    /// Its acknowledgements are not those of all in-sync replicas.
    pub fn is_loose(&self, plan: &Plan) -> bool {
        self.acks != -1 && plan.nodes > 1
    }
}

#[derive(Clone, Debug)]
pub struct ConsumerPlan {
    pub targets: Vec<(usize, i32)>,
    pub bytes_max: u64,
    pub wait_ms_max: u64,
}

/// Who commits offsets for a group.
#[derive(Clone, Debug)]
pub struct CommitterPlan {
    pub group: String,
    pub targets: Vec<(usize, i32)>,
    /// Longest time between two commits.
    pub pause_ms: u64,
}

/// Who deletes records.
#[derive(Clone, Debug)]
pub struct TrimmerPlan {
    pub targets: Vec<(usize, i32)>,
    /// Longest time between two deletions.
    pub pause_ms: u64,
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
    /// The process does nothing for a while, and does not know.
    Pause {
        ms: u64,
    },
    /// Whatever the process does takes up to so long for a while.
    Busy {
        step_us: u64,
        ms: u64,
    },
    /// The clocks of the node jump: the one on the wall to either side.
    Jump {
        mono_ms: u64,
        wall_ms: i64,
    },
    /// The data directory is lost, where every replica has its others: the node comes back with an empty one.
    Lose,
    /// The node does not hear from others, or they not from it.
    Cut {
        cut: Cut,
        ms: u64,
    },
}

/// What gets through no more between a node and the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// With this one alone; else with all.
    pub with: Option<usize>,
    pub inbound: bool,
    pub outbound: bool,
}

/// A fault of a node, or of the world around it.
#[derive(Clone, Copy, Debug)]
pub struct PlannedFault {
    /// Counted from when the topics were made.
    pub at: u64,
    pub node: usize,
    pub fault: Fault,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    /// Drawn as one of several nodes.
    pub is_cluster: bool,
    pub nodes: usize,
    /// Of each node.
    pub clocks: Vec<Clock>,
    /// A process has up to so many, drawn at each start.
    pub cores_max: u64,
    pub topics: Vec<TopicPlan>,
    pub producers: Vec<ProducerPlan>,
    pub consumers: Vec<ConsumerPlan>,
    /// Who reads all partitions with fetch sessions.
    pub readers: usize,
    /// Somebody makes topics, changes their settings and deletes them, and nobody writes to them.
    pub changer: bool,
    pub committers: Vec<CommitterPlan>,
    pub trimmer: Option<TrimmerPlan>,
    /// Somebody makes and deletes a topic again and again.
    pub scratch: bool,
    /// In the order of time.
    pub faults: Vec<PlannedFault>,
    /// When producers stop making records.
    pub load_ns: u64,
    pub disk_us: u64,
    pub net_us: u64,
    /// Longest time from the end of a process to the start of the next, and of a client until it connects again.
    pub down_ms: u64,
    pub settings: Settings,
}

impl Plan {
    pub fn draw(seed: u64) -> Plan {
        // What other seeds stand for stays what it was.
        let kind = if seed % 8 == 3 { Kind::Upkeep } else { KINDS[(seed % KINDS.len() as u64) as usize] };
        Plan::draw_of(kind, seed)
    }

    pub fn draw_of(kind: Kind, seed: u64) -> Plan {
        let mut rng = Rng::new(seed ^ 0x0070_6c61_6e00);
        let rng = &mut rng;
        let topics: Vec<TopicPlan> = (0..1 + rng.below(2)).map(|number| draw_topic(kind, number, rng)).collect();
        let producers = (0..1 + rng.below(4)).map(|_| draw_producer(kind, &topics, rng)).collect();
        let consumers = (0..1 + rng.below(3))
            .map(|_| ConsumerPlan {
                targets: draw_targets(&topics, 4, rng),
                bytes_max: [500, 5_000, 100_000, 1 << 20][rng.below(4) as usize],
                wait_ms_max: 1 + rng.below(500),
            })
            .collect();
        let load_ns = SECOND / 2 + rng.below(3 * SECOND);
        let faults = draw_faults(kind, load_ns, rng);
        let settings = Settings {
            queued_max_request_bytes: (1 << 20) * (2 + rng.below(7)),
            socket_request_max_bytes: 2 << 20,
            message_max_bytes: 1 << 20,
            tail_cache_bytes: 1 << 20,
            auto_create_topics_enable: false,
            offsets_topic_num_partitions: 2,
            offsets_topic_segment_bytes: 64 << 10,
            log_retention_check_interval_ms: 1 + rng.below(200),
            ..Settings::default()
        };
        let settings = if kind == Kind::Upkeep { draw_cleaner(settings, rng) } else { settings };
        settings.check_together().expect("the settings fit each other");
        let (disk_us, net_us, down_ms) = match kind {
            Kind::Storm | Kind::Retention => (20 + rng.below(300), 20 + rng.below(200), 5),
            Kind::Upkeep => (20 + rng.below(600), 20 + rng.below(200), 10),
            Kind::Rolls => (50 + rng.below(15_000), 20 + rng.below(200), 20),
            _ => (50 + rng.below(2000), 20 + rng.below(1000), 100),
        };
        let scratch = rng.below(3) == 0;
        let committers = draw_committers(&topics, seed);
        let trimmer = draw_trimmer(&topics, seed);
        let faults = faults.into_iter().map(|(at, fault)| PlannedFault { at, node: 0, fault }).collect();
        Plan {
            seed,
            is_cluster: false,
            nodes: 1,
            clocks: vec![Clock::default()],
            cores_max: CORES_MAX,
            topics,
            producers,
            consumers,
            readers: 0,
            changer: false,
            committers,
            trimmer,
            scratch,
            faults,
            load_ns,
            disk_us,
            net_us,
            down_ms,
            settings,
        }
    }

    /// Every topic's partitions.
    pub fn parts(&self) -> Vec<(usize, i32)> {
        let topics = self.topics.iter().enumerate();
        topics.flat_map(|(topic, plan)| (0..plan.partitions).map(move |partition| (topic, partition))).collect()
    }

    /// What a topic is made with.
    pub fn topic_settings(&self, topic: &TopicPlan) -> Vec<(&'static str, String)> {
        let mut settings = vec![("segment.bytes", topic.segment_bytes.to_string())];
        settings.extend(topic.retention_bytes.map(|bytes| ("retention.bytes", bytes.to_string())));
        if let Some(compacted) = topic.compacted {
            settings.push(("cleanup.policy", if topic.is_trimmed { "compact,delete" } else { "compact" }.into()));
            settings.push(("delete.retention.ms", compacted.delete_retention_ms.to_string()));
            settings.push(("min.cleanable.dirty.ratio", format!("0.{:02}", compacted.dirty_percent)));
        }
        match topic.promise {
            Promise::Synced => settings.push(("durability", "sync".into())),
            Promise::Flushed => settings.push(("flush.messages", "1".into())),
            Promise::Written => settings.push(("durability", "write".into())),
        }
        settings
    }

    /// The settings of one start: some may change from one to the next.
    pub fn settings_of_start(&self, node: usize, is_first: bool, rng: &mut Rng) -> Settings {
        Settings {
            node_id: node as i32 + 1,
            listen: client_address(node),
            // The first founds the cluster, all others ask the first and each other.
            seeds: (0..self.nodes).filter(|other| !is_first && *other != node).map(client_address).collect(),
            journal_bytes: [1 << 20, 1 << 20, 1 << 20, 3 << 20, 0][rng.below(5) as usize],
            journal_direct_bytes: [-1, -1, 4096, 40_000, 0][rng.below(5) as usize],
            ..self.settings.clone()
        }
    }

    /// Whether what is old in this topic may be gone.
    pub fn may_remove(&self, topic: usize) -> bool {
        self.topics[topic].retention_bytes.is_some() || self.topics[topic].is_trimmed
    }

    /// Whether what was acknowledged in this topic may be gone after a power loss.
    pub fn may_lose(&self, topic: usize) -> bool {
        self.topics[topic].promise == Promise::Written
    }

    /// Whether any topic may have lost something by this.
    pub fn any_may_lose(&self, crash: Crash) -> bool {
        crash == Crash::Power && (0..self.topics.len()).any(|topic| self.may_lose(topic))
    }

    /// The broker may end by itself: its metadata is on the same disk.
    pub fn may_end_itself(&self) -> bool {
        self.faults.iter().any(|planned| matches!(planned.fault, Fault::Failing { .. } | Fault::Full { .. }))
    }
}

fn draw_topic(kind: Kind, number: u64, rng: &mut Rng) -> TopicPlan {
    let rolls = matches!(kind, Kind::Rolls | Kind::Retention | Kind::Upkeep);
    let segments = if rolls { 1 } else { 1 + rng.below(4) };
    let promises = [Promise::Synced, Promise::Synced, Promise::Flushed, Promise::Written];
    TopicPlan {
        name: format!("topic{number}"),
        partitions: 1 + rng.below(5) as i32,
        segment_bytes: (64 << 10) * segments,
        promise: promises[rng.below(4) as usize],
        replicas: 1,
        retention_bytes: (kind == Kind::Retention).then(|| rng.below(128 << 10)),
        compacted: (kind == Kind::Upkeep && rng.below(4) > 0).then(|| draw_compacted(rng)),
        is_trimmed: kind == Kind::Upkeep && rng.below(2) == 0,
    }
}

fn draw_compacted(rng: &mut Rng) -> Compacted {
    Compacted {
        keys: [1, 10, 100, 1000][rng.below(4) as usize],
        delete_retention_ms: [0, 100, 1000, 1 << 30][rng.below(4) as usize],
        dirty_percent: [0, 0, 30][rng.below(3) as usize],
    }
}

/// A core that looks often for what to compact, sometimes with memory for few keys.
fn draw_cleaner(settings: Settings, rng: &mut Rng) -> Settings {
    Settings {
        log_cleaner_backoff_ms: 1 + rng.below(50),
        log_cleaner_dedupe_buffer_size: [1, 1 << 20][rng.below(2) as usize],
        ..settings
    }
}

/// With randomness of its own, like those who commit.
fn draw_trimmer(topics: &[TopicPlan], seed: u64) -> Option<TrimmerPlan> {
    let mut rng = Rng::new(seed ^ 0x7472_696d);
    let trimmed = topics.iter().enumerate().filter(|(_, topic)| topic.is_trimmed);
    let targets: Vec<(usize, i32)> =
        trimmed.flat_map(|(number, topic)| (0..topic.partitions).map(move |partition| (number, partition))).collect();
    (!targets.is_empty()).then(|| TrimmerPlan { targets, pause_ms: 1 + rng.below(200) })
}

fn draw_producer(kind: Kind, topics: &[TopicPlan], rng: &mut Rng) -> ProducerPlan {
    let idempotent = rng.below(3) > 0;
    let large = matches!(kind, Kind::Rolls | Kind::Upkeep);
    let pause_ms_max = match kind {
        Kind::Storm | Kind::Retention => 8,
        Kind::Upkeep => 16,
        _ => 50,
    };
    let batch_bytes = match kind {
        Kind::Rolls | Kind::Upkeep => None,
        Kind::Retention => Some(4096),
        _ => (rng.below(4) == 0).then(|| [512, 1024, 4096][rng.below(3) as usize]),
    };
    ProducerPlan {
        idempotent,
        acks: if idempotent { -1 } else { [-1, 1, 1, 0][rng.below(4) as usize] },
        targets: draw_targets(topics, 3, rng),
        pause_ms: 1 + rng.below(pause_ms_max),
        records_max: 1 + rng.below(12),
        record_bytes_max: if large { 5000 } else { [20, 200, 2000, 5000][rng.below(4) as usize] },
        batch_bytes,
        requests_in_flight_max: 1 + rng.below(5) as usize,
    }
}

/// In one world of five: what others draw stays what it was.
fn draw_committers(topics: &[TopicPlan], seed: u64) -> Vec<CommitterPlan> {
    let mut rng = Rng::new(seed ^ 0x6772_6f75_7073);
    let groups = if seed % 5 == 3 { 1 + rng.below(3) } else { 0 };
    let committer = |number| CommitterPlan {
        group: format!("group{number}"),
        targets: draw_targets(topics, 3, &mut rng),
        pause_ms: 1 + rng.below(20),
    };
    (0..groups).map(committer).collect()
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

fn draw_faults(kind: Kind, load_ns: u64, rng: &mut Rng) -> Vec<(u64, Fault)> {
    let mut faults = Vec::new();
    let (ends, breaks, disk) = match kind {
        Kind::Quiet => (0, 0, 0),
        Kind::Crashes | Kind::Rolls => (1 + rng.below(8), rng.below(2), 0),
        Kind::Storm | Kind::Retention => (10 + rng.below(20), rng.below(3), 0),
        Kind::Disk => (rng.below(3), rng.below(2), 1 + rng.below(3)),
        Kind::Net => (rng.below(2), 5 + rng.below(20), 0),
        Kind::Upkeep => (6 + rng.below(10), rng.below(2), rng.below(2)),
        Kind::Everything => (rng.below(5), rng.below(8), rng.below(3)),
    };
    for _ in 0..ends {
        let at = rng.below(load_ns);
        faults.push((at, draw_end(rng)));
        // And once more while it recovers.
        if rng.below(3) == 0 {
            faults.push((at + rng.below(100 * MS), Fault::Crash(draw_crash(rng))));
        }
    }
    for _ in 0..breaks {
        let fault = if rng.below(2) == 0 { Fault::Break } else { Fault::HalfOpen { ms: rng.below(8000) } };
        faults.push((rng.below(load_ns), fault));
    }
    for _ in 0..disk {
        let (at, ms) = (rng.below(load_ns), 1 + rng.below(800));
        faults.push((at, draw_disk_fault(ms, rng)));
        if rng.below(2) == 0 {
            faults.push((at + rng.below(ms * MS), Fault::Crash(draw_crash(rng))));
        }
    }
    faults.sort_by_key(|(at, _)| *at);
    faults
}

fn draw_crash(rng: &mut Rng) -> Crash {
    if rng.below(3) == 0 { Crash::Kill } else { Crash::Power }
}

fn draw_end(rng: &mut Rng) -> Fault {
    if rng.below(4) == 0 { Fault::Stop } else { Fault::Crash(draw_crash(rng)) }
}

pub fn draw_disk_fault(ms: u64, rng: &mut Rng) -> Fault {
    let none = DiskFaults::default();
    let of_1000 = [5, 50, 300][rng.below(3) as usize];
    match rng.below(6) {
        0 => Fault::Slow { times: 2 + rng.below(50), ms },
        1 => Fault::Full { left_bytes: rng.below(300_000) as usize, ms: 5 * ms },
        2 => Fault::Failing { faults: DiskFaults { failing_writes: of_1000, ..none }, ms },
        3 | 4 => Fault::Failing { faults: DiskFaults { failing_syncs: of_1000, ..none }, ms },
        _ => Fault::Failing { faults: DiskFaults { failing_reads: of_1000, ..none }, ms },
    }
}
