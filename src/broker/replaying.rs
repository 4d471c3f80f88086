//! Replaying the commit journals of the run before, between reading the metadata and opening the partitions; and
//! emptying them when all partitions are open or have kept what they lack.
//!
//! *Owns*: when both happen, and who is told what each log must reach. *Never*: reads a journal by itself.
//! *Runs on*: core 0, for all cores.

use std::collections::BTreeMap;
use std::mem;
use std::path::PathBuf;

use crate::base::disk::DiskResult;
use crate::base::ids::{CoreId, PartitionIndex, TopicId};
use crate::base::time::{Instant, Now};
use crate::broker::control::{self, Control};
use crate::broker::effect::{Effect, Effects};
use crate::broker::message::{ShardMessage, TopicPartition};
use crate::broker::route;
use crate::broker::shard::Shard;
use crate::journal::replay::{Asked, Event, Loss, Replay, ReplayOp, Report, Topics};
use crate::log::reach::MustReach;
use crate::meta::Image;

/// The owner number of the files it opens.
const REPLAY_OWNER: u32 = u32::MAX - 2;

/// How often it is said how far a replay is.
const PROGRESS_MS: u64 = 2_000;

#[derive(Debug)]
pub struct Replaying {
    replay: Replay,
    /// Every topic, with its partitions.
    topics: BTreeMap<TopicId, (String, i32)>,
    asked: Asked,
    /// When it was last said how far it is, or it began; nothing more is said when everything is in its segment.
    told: Option<Instant>,
}

impl Replaying {
    /// A later image adds topics to those of an earlier one.
    pub fn start(shard: &mut Shard, images: &[Image; 2], now: Now, effects: &mut Effects) -> Replaying {
        let config = &shard.config;
        let cluster = images[0].cluster_id().to_owned();
        let mut asked = Vec::new();
        let (node, cores) = (config.settings.node_id, config.cores);
        let replay = Replay::start(cluster, node, cores, Loss::Refused, REPLAY_OWNER, &mut asked);
        let topics = images.iter().flat_map(Image::topics);
        let topics = topics.map(|topic| (topic.id, (topic.name.clone(), topic.partitions))).collect();
        shard.ask_for_replay(&mut asked, effects);
        Replaying { replay, topics, asked, told: Some(now.mono) }
    }

    fn on_disk(&mut self, op: ReplayOp, result: DiskResult) -> Option<Event> {
        let topics = &self.topics;
        let directory = |topic: TopicId, partition: PartitionIndex| {
            let (name, _) = topics.get(&topic).filter(|(_, count)| partition.0 < *count)?;
            Some(PathBuf::from(format!("{name}-{partition}")))
        };
        let owned = |core: CoreId, cores: u16| {
            let all = topics.iter().flat_map(|(&topic, (_, count))| (0..*count).map(move |at| (topic, at)));
            all.map(|(topic, at)| (topic, PartitionIndex(at)))
                .filter(|&(topic, partition)| route::owner(TopicPartition { topic, partition }, cores) == core)
                .collect()
        };
        self.replay.on_disk(op, result, Topics { directory: &directory, owned: &owned }, &mut self.asked)
    }

    /// Whoever waits for a long start is told what it does.
    fn say_progress(&mut self, now: Now) {
        if self.told.is_some_and(|told| told.after_ms(PROGRESS_MS) <= now.mono) {
            self.told = Some(now.mono);
            let (commits, bytes) = self.replay.progress();
            tracing::info!("replaying the commit journals: {commits} commits read, {} MiB written", bytes >> 20);
        }
    }
}

impl Shard {
    pub(in crate::broker) fn on_replay_disk(
        &mut self,
        op: ReplayOp,
        result: DiskResult,
        now: Now,
        effects: &mut Effects,
    ) {
        let Some(replaying) = self.control.as_mut().and_then(Control::replaying) else { return };
        replaying.say_progress(now);
        let event = replaying.on_disk(op, result);
        self.go_on_replaying(event, now, effects);
    }

    /// Every core has opened its partitions. With a directory that takes no more writes the journals stay as they are.
    pub(in crate::broker) fn empty_journals(&mut self, now: Now, effects: &mut Effects) {
        let Some(replaying) = self.control.as_mut().and_then(Control::replaying) else { return };
        let Replaying { replay, asked, .. } = replaying;
        let event = if self.offline.is_some() { Some(Event::Emptied) } else { replay.empty(asked) };
        self.go_on_replaying(event, now, effects);
    }

    fn go_on_replaying(&mut self, event: Option<Event>, now: Now, effects: &mut Effects) {
        if let Some(replaying) = self.control.as_mut().and_then(Control::replaying) {
            replaying.told = replaying.told.filter(|_| event.is_none());
            let mut asked = mem::take(&mut replaying.asked);
            self.ask_for_replay(&mut asked, effects);
        }
        match event {
            None => {}
            Some(Event::Redone(report)) => {
                say(&report);
                self.send_replayed(*report, effects);
                control::on_replayed(self, effects);
            }
            Some(Event::Emptied) => control::on_emptied(self, now, effects),
            Some(Event::Failed { message }) => effects.push(Effect::Fatal { message }),
        }
    }

    fn ask_for_replay(&mut self, asked: &mut Asked, effects: &mut Effects) {
        for (op, disk_op) in asked.drain(..) {
            let token = self.partitions.replay_token(op);
            effects.push(Effect::Disk { token, op: disk_op });
        }
    }

    fn send_replayed(&mut self, report: Report, effects: &mut Effects) {
        let Report { must_reach, committed, mut doubtful, .. } = report;
        let mut all: BTreeMap<(TopicId, PartitionIndex), MustReach> = must_reach
            .into_iter()
            .map(|(name, reach)| (name, MustReach { reach, doubt: doubtful.remove(&name) }))
            .collect();
        all.extend(
            doubtful.into_iter().map(|(name, why)| (name, MustReach { doubt: Some(why), ..MustReach::default() })),
        );
        let (mut must_reach, mut committed) = (self.by_owner(all), self.by_owner(committed));
        for core in (0..self.config.cores).map(CoreId) {
            let must_reach = must_reach.remove(&core).unwrap_or_default();
            let committed = committed.remove(&core).unwrap_or_default();
            if !must_reach.is_empty() || !committed.is_empty() {
                self.send(core, ShardMessage::Replayed { must_reach, committed }, effects);
            }
        }
    }

    fn by_owner<T>(&self, all: BTreeMap<(TopicId, PartitionIndex), T>) -> BTreeMap<CoreId, Vec<(TopicPartition, T)>> {
        let mut by_core: BTreeMap<CoreId, Vec<(TopicPartition, T)>> = BTreeMap::new();
        for ((topic, partition), value) in all {
            let core = self.owner(topic, partition);
            by_core.entry(core).or_default().push((TopicPartition { topic, partition }, value));
        }
        by_core
    }
}

fn say(report: &Report) {
    for damage in &report.damages {
        tracing::error!(
            "{} is damaged at byte {}: {}. The journal is put aside. Partitions that lack what is known to have been in \
             it, or that may lack something, stay offline; all others go on",
            damage.path.display(),
            damage.position,
            damage.message
        );
    }
    if report.more_damages > 0 {
        tracing::error!("{} more damaged places in the journals", report.more_damages);
    }
    if !report.doubtful.is_empty() {
        tracing::error!(
            "{} partitions may lack their last batches, for only what is lost of the journals would tell: they stay \
             offline until `corelog log repair`",
            report.doubtful.len()
        );
    }
    for note in &report.notes {
        tracing::warn!("{note}");
    }
    for path in &report.aside {
        tracing::warn!("{} is a damaged journal, kept until `corelog log repair`", path.display());
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
