//! What clients of a cluster do besides writing and reading records.

use corelog::base::rng::Rng;

use crate::plan::{CommitterPlan, Compacted, Plan, TrimmerPlan};

/// Full after a few batches.
const SEGMENT_BYTES: u64 = 64 << 10;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Consumers read everything with fetch sessions, and topics come and go.
    Readers,
    /// Groups commit offsets, wherever their coordinators are.
    Groups,
    /// Producers wait for the leader alone, or for nobody.
    Loose,
    /// Somebody deletes the oldest records of a partition.
    Trimmed,
    /// Of each key the last record stays.
    Compacted,
    /// Old segments are removed.
    Expiring,
}

const WORKS: [Work; 6] = [Work::Readers, Work::Groups, Work::Trimmed, Work::Compacted, Work::Loose, Work::Expiring];

impl Work {
    /// What a seed has besides its trouble.
    pub fn of(seed: u64) -> Work {
        WORKS[(seed % WORKS.len() as u64) as usize]
    }

    pub fn add_to(self, plan: &mut Plan) {
        let rng = &mut Rng::new(plan.seed ^ 0x776f_726b);
        match self {
            Work::Readers => (plan.readers, plan.changer) = (1 + rng.below(2) as usize, true),
            Work::Groups => add_groups(plan, rng),
            Work::Loose => {
                for producer in plan.producers.iter_mut().skip(1) {
                    (producer.idempotent, producer.acks) = (false, [1, 1, 0][rng.below(3) as usize]);
                }
            }
            Work::Trimmed => add_trimmer(plan, rng),
            Work::Compacted => add_compaction(plan, rng),
            Work::Expiring => {
                for topic in &mut plan.topics {
                    (topic.segment_bytes, topic.retention_bytes) = (SEGMENT_BYTES, Some(rng.below(256 << 10)));
                }
            }
        }
    }
}

fn add_groups(plan: &mut Plan, rng: &mut Rng) {
    let (parts, groups) = (plan.parts(), 1 + rng.below(3));
    let committer = |number| CommitterPlan {
        group: format!("group{number}"),
        targets: parts[..1 + rng.below(parts.len() as u64) as usize].to_vec(),
        pause_ms: 1 + rng.below(20),
    };
    plan.committers = (0..groups).map(committer).collect();
}

fn add_trimmer(plan: &mut Plan, rng: &mut Rng) {
    let target = plan.producers[0].targets[0];
    let topic = &mut plan.topics[target.0];
    (topic.is_trimmed, topic.segment_bytes) = (true, SEGMENT_BYTES);
    plan.trimmer = Some(TrimmerPlan { targets: vec![target], pause_ms: 1 + rng.below(500) });
}

/// Few keys and records that fill segments, so that most of what is written is superseded soon.
fn add_compaction(plan: &mut Plan, rng: &mut Rng) {
    for topic in &mut plan.topics {
        topic.segment_bytes = SEGMENT_BYTES;
        topic.compacted = Some(Compacted {
            keys: [1, 10, 100][rng.below(3) as usize],
            delete_retention_ms: [0, 1000, 1 << 30][rng.below(3) as usize],
            dirty_percent: [0, 0, 30][rng.below(3) as usize],
        });
    }
    for producer in &mut plan.producers {
        (producer.record_bytes_max, producer.batch_bytes) = (5000, None);
        producer.records_max = 1 + rng.below(12);
    }
    plan.settings.log_cleaner_backoff_ms = 1 + rng.below(50);
}
