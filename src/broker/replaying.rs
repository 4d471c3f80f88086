//! Replaying the commit journals of the run before, between reading the metadata and opening the partitions.
//!
//! *Owns*: when the replay runs, and who is told how far each log must reach. *Never*: reads a journal by itself.
//! *Runs on*: core 0, for all cores.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::base::disk::DiskResult;
use crate::base::ids::{CoreId, TopicId};
use crate::broker::control::{self, Control};
use crate::broker::effect::{Effect, Effects};
use crate::broker::message::{ShardMessage, TopicPartition};
use crate::broker::shard::Shard;
use crate::journal::replay::{Next, Replay, Report};
use crate::meta::Image;

/// The owner number of the files it opens.
const REPLAY_OWNER: u32 = u32::MAX - 2;

#[derive(Debug)]
pub struct Replaying {
    replay: Replay,
    /// Every topic, with its partitions.
    topics: BTreeMap<TopicId, (String, i32)>,
}

impl Replaying {
    pub fn start(shard: &mut Shard, image: &Image, effects: &mut Effects) -> Replaying {
        let config = &shard.config;
        let cluster = image.cluster_id().to_owned();
        let (replay, first) = Replay::start(cluster, config.settings.node_id, config.cores, REPLAY_OWNER);
        let topics = image.topics().map(|topic| (topic.id, (topic.name.clone(), topic.partitions))).collect();
        let token = shard.partitions.replay_token();
        effects.push(Effect::Disk { token, op: first });
        Replaying { replay, topics }
    }

    fn on_disk(&mut self, result: DiskResult) -> Next {
        let topics = &self.topics;
        self.replay.on_disk(result, &|topic, partition| {
            let (name, _) = topics.get(&topic).filter(|(_, count)| partition.0 < *count)?;
            Some(PathBuf::from(format!("{name}-{partition}")))
        })
    }
}

impl Shard {
    pub(in crate::broker) fn on_replay_disk(&mut self, result: DiskResult, effects: &mut Effects) {
        let Some(replaying) = self.control.as_mut().and_then(Control::replaying) else { return };
        match replaying.on_disk(result) {
            Next::Ask(op) => {
                let token = self.partitions.replay_token();
                effects.push(Effect::Disk { token, op });
            }
            Next::Done(report) => {
                say(&report);
                self.send_must_reach(*report, effects);
                control::on_replayed(self, effects);
            }
            Next::Failed { message } => effects.push(Effect::Fatal { message }),
        }
    }

    fn send_must_reach(&mut self, report: Report, effects: &mut Effects) {
        let mut by_core = vec![Vec::new(); usize::from(self.config.cores)];
        for ((topic, partition), offset) in report.must_reach {
            let core = self.owner(topic, partition);
            by_core[usize::from(core.0)].push((TopicPartition { topic, partition }, offset));
        }
        for (core, must_reach) in (0..).map(CoreId).zip(by_core) {
            if !must_reach.is_empty() {
                self.send(core, ShardMessage::Replayed { must_reach }, effects);
            }
        }
    }
}

fn say(report: &Report) {
    for damage in &report.damages {
        tracing::error!(
            "{} is damaged at byte {}: {}. It was put aside. Partitions that lack what is known to have been in it stay \
             offline; what cannot be read of it may be missing from others too (`corelog log verify` reads it)",
            damage.path.display(),
            damage.position,
            damage.message
        );
    }
    for path in &report.aside {
        tracing::warn!("{} is a damaged journal of an earlier run, kept until `corelog log repair`", path.display());
    }
    if report.more_damages > 0 {
        tracing::error!("{} more damaged places in the journals", report.more_damages);
    }
    if report.commits > 0 {
        tracing::info!(
            "replayed {} commits of {} journals: {} entries, {} bytes",
            report.commits,
            report.journals,
            report.entries,
            report.bytes
        );
    }
}
