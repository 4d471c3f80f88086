//! The next step of a member from what it has to what it is to have (KIP-848, "Member reconciliation").
//!
//! A member first gives up what it is not to have any more, and says so by not naming it among what it owns. Only then
//! it takes over the target's epoch and gets what is free. What others still have comes later, when they have given it
//! up: so no partition is ever with two.
//!
//! *Owns*: that order. *Never*: computes a target, looks at a clock. *Runs on*: the core that coordinates the group.

use crate::base::ids::{GroupEpoch, PartitionIndex, TopicId};
use crate::group::assignment::Assignment;
use crate::group::consumer_member::{CurrentAssignment, MemberState};

/// What a member is led to.
pub struct Goal<'a> {
    pub target_epoch: GroupEpoch,
    pub target: &'a Assignment,
    /// Whether the member subscribes to the topic.
    pub subscribes: &'a dyn Fn(TopicId) -> bool,
    /// Whether its subscription changed just now: what it does not subscribe to any more goes before there is a
    /// target without it.
    pub subscription_changed: bool,
    /// Whether another member has the partition, or has yet to give it up.
    pub is_taken: &'a dyn Fn(TopicId, PartitionIndex) -> bool,
    /// What the member says that it owns. `None`: it says nothing, which never means that it gave up something.
    pub owned: Option<&'a Assignment>,
}

/// What the member has next; the same as before if it cannot go on.
pub fn next(current: &CurrentAssignment, goal: &Goal) -> CurrentAssignment {
    match current.state {
        MemberState::Stable if current.epoch != goal.target_epoch => goal.advance(current, current.epoch),
        MemberState::Stable if goal.subscription_changed => goal.drop_unsubscribed(current),
        MemberState::Stable => current.clone(),
        MemberState::UnrevokedPartitions if goal.still_owns(&current.revoking) => {
            if goal.subscription_changed {
                goal.drop_unsubscribed(current)
            } else {
                current.clone()
            }
        }
        // A revocation that a changed subscription caused may come before there is a target of the next epoch.
        MemberState::UnrevokedPartitions => goal.advance(current, current.epoch.next().min(goal.target_epoch)),
        MemberState::UnreleasedPartitions => goal.advance(current, current.epoch),
        // It owns nothing: that was asked for before.
        MemberState::Unknown => goal.advance(current, goal.target_epoch),
    }
}

impl Goal<'_> {
    fn still_owns(&self, revoking: &Assignment) -> bool {
        self.owned.is_none_or(|owned| !owned.is_disjoint(revoking))
    }

    fn advance(&self, current: &CurrentAssignment, epoch: GroupEpoch) -> CurrentAssignment {
        let target = self.target.filtered(|topic, _| (self.subscribes)(topic));
        let mut assigned = current.assigned.intersection(&target);
        let revoking = current.assigned.difference(&assigned);
        let wanted = target.difference(&assigned);
        let free = wanted.filtered(|topic, partition| !(self.is_taken)(topic, partition));
        let previous_epoch = current.epoch;
        if !revoking.is_empty() && self.still_owns(&revoking) {
            let state = MemberState::UnrevokedPartitions;
            return CurrentAssignment { epoch, previous_epoch, state, assigned, revoking };
        }
        let complete = free.len() == wanted.len();
        assigned.extend(&free);
        CurrentAssignment {
            epoch: self.target_epoch,
            previous_epoch,
            state: if complete { MemberState::Stable } else { MemberState::UnreleasedPartitions },
            assigned,
            revoking: Assignment::default(),
        }
    }

    /// Shrinks what the member has to what it subscribes to, in the epoch it is in.
    fn drop_unsubscribed(&self, current: &CurrentAssignment) -> CurrentAssignment {
        let dropped = current.assigned.filtered(|topic, _| !(self.subscribes)(topic));
        if dropped.is_empty() {
            return current.clone();
        }
        let mut next = CurrentAssignment { assigned: current.assigned.difference(&dropped), ..current.clone() };
        let mut revoking = current.revoking.clone();
        revoking.extend(&dropped);
        if self.still_owns(&revoking) {
            next.state = MemberState::UnrevokedPartitions;
            next.revoking = revoking;
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Partitions of topic 1 as digits; those of topic 2 after a slash.
    fn set(text: &str) -> Assignment {
        let lists: Vec<(u8, Vec<i32>)> = (1u8..)
            .zip(text.split('/'))
            .map(|(topic, digits)| (topic, digits.bytes().map(|digit| i32::from(digit - b'0')).collect()))
            .collect();
        Assignment::from_lists(lists.iter().map(|(topic, list)| (TopicId([*topic; 16]), list.as_slice())))
    }

    /// `epoch(previous) state assigned-revoking`
    fn member(text: &str) -> CurrentAssignment {
        let words: Vec<&str> = text.split(' ').collect();
        let (epoch, previous) = words[0].trim_end_matches(')').split_once('(').expect("epoch(previous)");
        let (assigned, revoking) = words[2].split_once('-').expect("assigned-revoking");
        CurrentAssignment {
            epoch: GroupEpoch(epoch.parse().expect("a number")),
            previous_epoch: GroupEpoch(previous.parse().expect("a number")),
            state: match words[1] {
                "stable" => MemberState::Stable,
                "unrevoked" => MemberState::UnrevokedPartitions,
                "unreleased" => MemberState::UnreleasedPartitions,
                _ => MemberState::Unknown,
            },
            assigned: set(assigned),
            revoking: set(revoking),
        }
    }

    /// `target` is `epoch:partitions`; `owned` may be `?`, which is nothing said; `taken` is with others.
    #[track_caller]
    fn check(before: &str, target: &str, owned: &str, taken: &str, expect: &str) {
        check_as(before, target, owned, taken, None, expect);
    }

    /// With `subscribed`, the member has just changed its subscription to these topics.
    #[track_caller]
    fn check_as(before: &str, target: &str, owned: &str, taken: &str, subscribed: Option<&[u8]>, expect: &str) {
        let (epoch, target) = target.split_once(':').expect("epoch:partitions");
        let (target, taken) = (set(target), set(taken));
        let owned = (owned != "?").then(|| set(owned));
        let goal = Goal {
            target_epoch: GroupEpoch(epoch.parse().expect("a number")),
            target: &target,
            subscribes: &|topic| subscribed.is_none_or(|topics| topics.contains(&topic.0[0])),
            subscription_changed: subscribed.is_some(),
            is_taken: &|topic, partition| taken.contains(topic, partition),
            owned: owned.as_ref(),
        };
        assert_eq!(next(&member(before), &goal), member(expect), "{before}");
    }

    #[test]
    fn a_stable_member_goes_to_a_newer_target() {
        check("5(4) stable 12-", "5:12", "12", "", "5(4) stable 12-");
        check("5(4) stable 12-", "6:12", "?", "", "6(5) stable 12-");
        check("5(4) stable 12-", "6:123", "?", "", "6(5) stable 123-");
        check("5(4) stable 12-", "6:124", "?", "4", "6(5) unreleased 12-");
        check("5(4) stable 12-", "6:1234", "?", "4", "6(5) unreleased 123-");
        check("5(4) stable 12-", "6:13", "?", "", "5(5) unrevoked 1-2");
        check("5(4) stable 12-", "6:13", "12", "", "5(5) unrevoked 1-2");
        check("5(4) stable 12-", "6:13", "1", "", "6(5) stable 13-");
        check("0(0) stable -", "1:", "", "", "1(0) stable -");
    }

    #[test]
    fn revocation_is_waited_for() {
        check("5(5) unrevoked 1-2", "6:13", "?", "", "5(5) unrevoked 1-2");
        check("5(5) unrevoked 1-2", "6:13", "12", "", "5(5) unrevoked 1-2");
        check("5(5) unrevoked 1-2", "6:13", "1", "", "6(5) stable 13-");
        check("5(5) unrevoked 1-2", "6:13", "1", "3", "6(5) unreleased 1-");
        // The target moved on meanwhile.
        check("5(5) unrevoked 12-3", "7:1", "12", "", "6(5) unrevoked 1-2");
        check("5(5) unrevoked 12-3", "8:12", "12", "", "8(5) stable 12-");
        // It gets back what it just gave up.
        check("5(5) unrevoked 1-2", "7:12", "1", "", "7(5) stable 12-");
    }

    #[test]
    fn release_is_waited_for() {
        check("6(5) unreleased 1-", "6:13", "?", "3", "6(6) unreleased 1-");
        check("6(6) unreleased 1-", "6:13", "?", "", "6(6) stable 13-");
        check("6(6) unreleased 1-", "6:134", "?", "4", "6(6) unreleased 13-");
        check("6(6) unreleased 1-", "7:3", "?", "", "6(6) unrevoked -1");
    }

    #[test]
    fn a_state_of_the_future_starts_again() {
        check("6(6) later 1-2", "8:13", "", "", "8(6) stable 13-");
    }

    #[test]
    fn what_is_not_subscribed_goes_at_once() {
        check_as("5(4) stable 1/1-", "5:1/1", "1/1", "", Some(&[1]), "5(4) unrevoked 1-/1");
        check_as("5(4) stable 1/1-", "5:1/1", "1", "", Some(&[1]), "5(4) stable 1-");
        check_as("5(4) stable 1/1-", "5:1/1", "?", "", Some(&[1, 2]), "5(4) stable 1/1-");
        check_as("5(4) unrevoked 1/1-2", "5:1/1", "12/1", "", Some(&[1]), "5(4) unrevoked 1-2/1");
        check_as("5(4) unrevoked 1-/1", "5:1/1", "1", "", Some(&[1]), "5(5) stable 1-");
        check_as("5(4) stable 1/1-", "6:12/1", "1/1", "", Some(&[1]), "5(5) unrevoked 1-/1");
        check_as("5(4) stable 1/1-", "5:1/1", "1/1", "", Some(&[]), "5(4) unrevoked -1/1");
    }
}
