//! What a generator thread does for the members of groups: their coordinators, their places, their leaving.
//!
//! *Owns*: the order in which members leave. *Never*: decides who reads what. *Runs on*: each generator thread.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Driver, Link, Owner, Reader, Stage};
use crate::bench::connection::State;
use crate::bench::consumer::Consumer;
use crate::bench::control::BenchError;
use crate::bench::member::Member;
use crate::bench::producer::Node;
use crate::bench::scout::Question;

/// How long members may take to leave. Those that do not make it are forgotten by their coordinators.
const LEAVE_NS: u64 = 5_000_000_000;

impl Driver {
    pub(super) fn ask_for_coordinators(&mut self, now_ns: u64) {
        for (place, member) in self.members.iter_mut().enumerate() {
            if member.poll_coordinator(now_ns) {
                let question = Question::Coordinator(place, member.settings().group.clone());
                let _ = self.plan.questions.send((question, self.plan.mailbox.clone()));
            }
        }
    }

    pub(super) fn on_coordinator(&mut self, place: usize, answer: Result<Node, BenchError>, now_ns: u64) {
        let found = answer.and_then(|node| match self.cluster.brokers.contains_key(&node) {
            true => Ok(node),
            false => Err(BenchError::new(format!("broker {node} coordinates a group and is not in the metadata"))),
        });
        match found {
            Ok(node) => {
                self.members[place].on_coordinator(node);
                self.link(Owner::Member(place), &[node]);
                self.next_tick_ns = 0;
                let is_open = |link: &Link| {
                    let is_his = link.owner == Owner::Member(place) && link.node == node;
                    is_his && link.connection.as_ref().is_some_and(|connection| connection.state() == State::Open)
                };
                if self.links.iter().any(is_open)
                    && let Err(why) = self.on_member_connected(place, node)
                {
                    self.ending.complaints.add(why, 1);
                }
            }
            Err(error) => {
                self.members[place].on_coordinator_failed(now_ns);
                self.ending.complaints.add(error.to_string(), 1);
            }
        }
    }

    pub(super) fn on_member_connected(&mut self, place: usize, node: Node) -> Result<(), String> {
        let now_ns = self.time.now_ns();
        match self.members[place].coordinator() == Some(node) {
            true => self.members[place].on_connected(&self.plan.versions, now_ns),
            false => Ok(()),
        }
    }

    /// Its consumer may have got partitions, and what it told is to be counted.
    pub(super) fn on_member_answered(&mut self, place: usize, now_ns: u64) {
        let news = self.members[place].take_news();
        news.joined_ns.into_iter().for_each(|took_ns| self.ending.join.record(took_ns));
        news.commits_ns.iter().for_each(|took_ns| self.ending.commit.record(*took_ns));
        // Before the run members are waited for, and after it they leave.
        let is_run = (Stage::Filling..Stage::Drained).contains(&self.stage);
        let rebalances = if is_run { news.rebalances } else { 0 };
        let commits = news.commits_ns.len() as u64;
        if commits + news.commits_refused + rebalances > 0 {
            self.meter.count(now_ns, |counts| {
                counts.commits += commits;
                counts.commits_refused += news.commits_refused;
                counts.rebalances += rebalances;
            });
        }
        if self.consumers[place].poll_metadata(now_ns) {
            self.lead(place, now_ns);
            self.next_tick_ns = 0;
        }
    }

    /// Whether every member of every thread has its share, and all partitions of all groups are somebody's.
    pub(super) fn are_members_settled(&mut self) -> bool {
        let seats = self.members.iter().zip(&self.consumers);
        let settled = seats.filter(|(member, consumer)| member.is_settled(consumer) && consumer.is_placed());
        let counts: Vec<usize> = settled.map(|(_, consumer)| consumer.positions().count()).collect();
        let now = (counts.len(), counts.iter().sum());
        let together = &self.plan.together;
        let tell = |sum: &AtomicUsize, before: usize, now: usize| {
            // Added before anything is taken away, so that the sum never goes below zero.
            sum.fetch_add(now, Ordering::AcqRel);
            sum.fetch_sub(before, Ordering::AcqRel);
        };
        tell(&together.settled, self.told.0, now.0);
        tell(&together.placed, self.told.1, now.1);
        self.told = now;
        let workload = &self.plan.workload;
        let (groups, partitions) = (workload.groups as usize, self.cluster.leaders.len());
        groups == 0
            || (together.settled.load(Ordering::Acquire) == workload.consumers as usize
                && together.placed.load(Ordering::Acquire) == groups * partitions)
    }

    pub(super) fn are_members_stable(&self) -> bool {
        self.members.iter().all(Member::is_stable)
    }

    /// Members leave when nobody has anything left to read: what one leaves behind goes to others, who would have to
    /// read it.
    pub(super) fn have_members_left(&mut self, now_ns: u64) -> bool {
        if self.stage == Stage::Drained && self.plan.together.draining.load(Ordering::Acquire) == 0 {
            self.stage = Stage::Leaving;
            self.leave_until_ns = now_ns + LEAVE_NS;
            for (member, consumer) in self.members.iter_mut().zip(&self.consumers) {
                member.leave(consumer);
            }
        }
        self.members.is_empty()
            || self.stage == Stage::Leaving
                && (self.members.iter().all(Member::has_left) || now_ns >= self.leave_until_ns)
    }

    /// A connection that no member needs any more, because its group has moved.
    pub(super) fn is_former_coordinator(&self, link: &Link) -> bool {
        matches!(link.owner, Owner::Member(place) if self.members[place].coordinator() != Some(link.node))
    }

    pub(super) fn readers(&mut self) -> Vec<Reader> {
        let numbers: Vec<u32> = self.members.iter().map(|member| member.settings().number).collect();
        let has_drained = self.stage >= Stage::Drained;
        let consumers = std::mem::take(&mut self.consumers).into_iter().enumerate();
        let reader = |(place, consumer): (usize, Consumer)| {
            let group = numbers.get(place).copied();
            let is_drained = if group.is_some() { has_drained } else { consumer.is_drained() };
            Reader { group, consumer, is_drained }
        };
        consumers.map(reader).collect()
    }
}
