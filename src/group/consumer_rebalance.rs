//! What follows from a change of a consumer group: its next epoch, a target assignment for it, a member's next step
//! towards that, and the end of members.
//!
//! *Owns*: those consequences. *Never*: answers a request. *Runs on*: the core that coordinates the group.
//!
//! Rules: KIP-848; Kafka, `GroupMetadataManager` (`updateSubscriptionMetadata`, `updateTargetAssignment`,
//! `maybeReconcile`, `consumerGroupFenceMembers`).

use std::collections::{BTreeMap, BTreeSet};

use crate::base::ids::TopicId;
use crate::base::limits::TOPIC_PATTERN_REFRESH_MS;
use crate::base::pattern::Pattern;
use crate::base::time::Instant;
use crate::config::Assignor;
use crate::group::assign::{self, Spec, Subscriber};
use crate::group::assignment::Assignment;
use crate::group::consumer::{ConsumerGroup, View};
use crate::group::consumer_heartbeat::TEXT_HEAD_BYTES_MAX;
use crate::group::consumer_member::{ConsumerMember, MemberState};
use crate::group::consumer_record::{ConsumerRecord, GroupMetadata, ResolvedPattern};
use crate::group::coordinator::record_bytes_max;
use crate::group::reconcile::{self, Goal};
use crate::group::topics::Topics;
use crate::group::topics_hash::hash_of;

impl ConsumerGroup {
    /// Goes to the next epoch if members, subscriptions or topics ask for it, and makes a target assignment for it.
    pub(super) fn rebalance(&mut self, changed: bool, view: &View, records: &mut Vec<ConsumerRecord>) {
        let version = view.topics.version();
        if changed || self.topics_version != Some(version) {
            self.topics_version = Some(version);
            let topics_hash = hash_of(self.subscribed_topics().into_iter(), view.topics);
            if changed || topics_hash != self.topics_hash {
                self.put_next_epoch(topics_hash, records);
            }
            if self.has_partition_metadata {
                self.put(ConsumerRecord::PartitionMetadata(None), records);
            }
        }
        if self.epoch > self.target_epoch && self.refused_epoch != Some(self.epoch) {
            self.put_target(view, records);
        }
    }

    /// Whether a member has to be told that there is no target with what it wants: a record could not hold it. Others
    /// keep the targets they have.
    pub(super) fn is_left_out(&self, member_id: &str, subscription_changed: bool) -> bool {
        let is_new = !self.targets.contains_key(member_id);
        self.refused_epoch == Some(self.epoch) && (subscription_changed || is_new)
    }

    /// Leads a member a step on, if it has not got to its target.
    pub(super) fn reconcile(
        &mut self,
        member_id: &str,
        subscription_changed: bool,
        owned: Option<&Assignment>,
        view: &View,
        records: &mut Vec<ConsumerRecord>,
    ) {
        let Some(member) = self.members.get(member_id) else { return };
        if !subscription_changed && member.is_reconciled_to(self.target_epoch) {
            return;
        }
        let topics = self.topic_ids(member, view.topics);
        let none = Assignment::default();
        let goal = Goal {
            target_epoch: self.target_epoch,
            target: self.targets.get(member_id).unwrap_or(&none),
            subscribes: &|topic| topics.contains(&topic),
            subscription_changed,
            is_taken: &|topic, partition| self.is_taken(member_id, topic, partition),
            owned,
        };
        let next = reconcile::next(&member.current, &goal);
        if next == member.current {
            return;
        }
        assert!(!next.assigned.iter().any(|(topic, partition)| self.is_taken(member_id, topic, partition)));
        let (is_classic, timeout_ms) = (member.is_classic(), member.metadata.rebalance_timeout_ms);
        let must_revoke = next.state == MemberState::UnrevokedPartitions;
        self.put(ConsumerRecord::Current(member_id.to_owned(), Some(next)), records);
        // A member of the classic protocol has its time for joining and syncing instead.
        if !is_classic {
            let at = must_revoke.then(|| after(view.now.mono, timeout_ms));
            self.set_deadlines(member_id, |deadlines| deadlines.revocation = at);
        }
    }

    /// Takes members out. The rest gets another target with the next heartbeat.
    pub(super) fn remove_members(&mut self, ids: &[String], view: &View, records: &mut Vec<ConsumerRecord>) {
        if ids.is_empty() {
            return;
        }
        for id in ids {
            self.put_member_tombstones(id, records);
        }
        self.drop_unused_patterns(records);
        let topics_hash = hash_of(self.subscribed_topics().into_iter(), view.topics);
        self.put_next_epoch(topics_hash, records);
    }

    pub(super) fn put_member_tombstones(&mut self, id: &str, records: &mut Vec<ConsumerRecord>) {
        self.put(ConsumerRecord::Current(id.to_owned(), None), records);
        self.put(ConsumerRecord::Target(id.to_owned(), None), records);
        self.put(ConsumerRecord::Member(id.to_owned(), None), records);
    }

    /// Records the topics of a pattern that somebody has begun to subscribe to.
    pub(super) fn put_pattern(
        &mut self,
        text: &str,
        pattern: &Pattern,
        view: &View,
        records: &mut Vec<ConsumerRecord>,
    ) {
        self.put(ConsumerRecord::Pattern(text.to_owned(), Some(resolve(pattern, view))), records);
    }

    /// Forgets what patterns stood for to which nobody subscribes any more.
    pub(super) fn drop_unused_patterns(&mut self, records: &mut Vec<ConsumerRecord>) {
        let used: BTreeSet<&str> = self.members.values().map(|member| member.metadata.pattern.as_str()).collect();
        let unused: Vec<String> = self.patterns.keys().filter(|text| !used.contains(text.as_str())).cloned().collect();
        for text in unused {
            self.put(ConsumerRecord::Pattern(text, None), records);
        }
    }

    /// Looks which topics match the patterns now, if topics have come or gone since. Says whether that changed one.
    pub(super) fn refresh_patterns(&mut self, view: &View, records: &mut Vec<ConsumerRecord>) -> bool {
        let (version, now) = (view.topics.version(), view.now.mono);
        let is_due =
            self.patterns_seen.is_none_or(|(seen, at)| seen != version && now > at.after_ms(TOPIC_PATTERN_REFRESH_MS));
        if !is_due || self.patterns.is_empty() {
            return false;
        }
        self.patterns_seen = Some((version, now));
        let mut changed = false;
        for (text, before) in self.patterns.clone() {
            // Another broker may have taken a pattern that we do not: what it resolved stays.
            let Ok(pattern) = Pattern::new(&text) else { continue };
            let resolved = resolve(&pattern, view);
            if let Err(why) = check_resolved(&resolved, view) {
                tracing::error!("a pattern of a consumer group stays what it stood for: {why}");
                continue;
            }
            if resolved.topics != before.topics {
                changed = true;
                self.put(ConsumerRecord::Pattern(text, Some(resolved)), records);
            }
        }
        changed
    }

    /// The assignor that most members wish for; without any wish, the first that is set.
    pub(super) fn assignor(&self, allowed: &[Assignor]) -> Assignor {
        let wishes = |assignor: Assignor| {
            let members = self.members.values();
            members.filter(|member| member.metadata.assignor.as_deref() == Some(assignor.name())).count()
        };
        // Of equally many wishes the first counts: `max_by_key` takes the last.
        allowed.iter().copied().rev().max_by_key(|assignor| wishes(*assignor)).unwrap_or(Assignor::Uniform)
    }

    fn put_next_epoch(&mut self, topics_hash: i64, records: &mut Vec<ConsumerRecord>) {
        let group = GroupMetadata { epoch: self.epoch.next(), topics_hash };
        self.put(ConsumerRecord::Group(Some(group)), records);
    }

    fn put_target(&mut self, view: &View, records: &mut Vec<ConsumerRecord>) {
        let assignments = {
            let none = Assignment::default();
            let spec = self.spec(view.topics, &none);
            assign::assign(self.assignor(&view.settings.group_consumer_assignors), &spec)
        };
        let bytes_max = record_bytes_max(view.settings);
        let largest = assignments.iter().map(Assignment::record_bytes_max).max().unwrap_or(0);
        if largest > bytes_max {
            tracing::error!(
                epoch = self.epoch.0,
                "a consumer group keeps its old targets: a member's new one would take {largest} bytes in a record, which \
                 may have {bytes_max}; let more members share the topics, or raise message.max.bytes"
            );
            self.refused_epoch = Some(self.epoch);
            return;
        }
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for (id, target) in ids.into_iter().zip(assignments) {
            if self.targets.get(&id) != Some(&target) {
                self.put(ConsumerRecord::Target(id, Some(target)), records);
            }
        }
        self.put(ConsumerRecord::TargetEpoch(Some(self.epoch)), records);
    }

    fn spec<'a>(&'a self, topics: &dyn Topics, none: &'a Assignment) -> Spec<'a> {
        let mut spec = Spec::default();
        // Most groups have one subscription, however many members.
        let mut known: BTreeMap<(&BTreeSet<String>, &str), usize> = BTreeMap::new();
        let mut by_topics: BTreeMap<Vec<TopicId>, usize> = BTreeMap::new();
        for (id, member) in &self.members {
            let subscription =
                *known.entry((&member.metadata.topics, member.metadata.pattern.as_str())).or_insert_with(|| {
                    let ids: Vec<TopicId> = self.topic_ids(member, topics).into_iter().collect();
                    let next = by_topics.len();
                    *by_topics.entry(ids).or_insert(next)
                });
            let instance_id = member.metadata.instance_id.as_deref();
            spec.members.push(Subscriber { instance_id, subscription, previous: self.targets.get(id).unwrap_or(none) });
        }
        spec.subscriptions = vec![Vec::new(); by_topics.len()];
        for (ids, index) in by_topics {
            spec.subscriptions[index] = ids;
        }
        let known = self.subscribed_topics().into_iter().filter_map(|name| topics.by_name(name));
        spec.topics = known.map(|topic| (topic.id, topic.partitions)).collect();
        spec
    }

    /// The topics that a member subscribes to and that exist.
    fn topic_ids(&self, member: &ConsumerMember, topics: &dyn Topics) -> BTreeSet<TopicId> {
        let resolved = self.patterns.get(&member.metadata.pattern).map(|resolved| &resolved.topics);
        let names = member.metadata.topics.iter().chain(resolved.into_iter().flatten());
        names.filter_map(|name| topics.by_name(name)).map(|topic| topic.id).collect()
    }
}

/// That many milliseconds of a client later.
pub(super) fn after(now: Instant, ms: i32) -> Instant {
    now.after_ms(u64::try_from(ms).unwrap_or(0))
}

/// Errors: a record cannot hold the names.
pub(super) fn check_resolved(resolved: &ResolvedPattern, view: &View) -> Result<(), String> {
    let names = resolved.topics.iter().map(|name| name.len() + TEXT_HEAD_BYTES_MAX).sum::<usize>();
    let names_max = record_bytes_max(view.settings);
    if names > names_max {
        return Err(format!("The names of the topics that it matches take {names} bytes, and may take {names_max}."));
    }
    Ok(())
}

pub(super) fn resolve(pattern: &Pattern, view: &View) -> ResolvedPattern {
    let names = view.topics.names().filter(|name| pattern.matches(name));
    ResolvedPattern {
        topics: names.map(str::to_owned).collect(),
        version: i64::try_from(view.topics.version()).unwrap_or(i64::MAX),
        timestamp_ms: view.now.wall_ms,
    }
}
