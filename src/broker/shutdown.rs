//! Starting to serve, and stopping: every core answers its clients, then all close their files.
//!
//! A core may close its partitions only when no other core can ask for them any more, so each says when its
//! sessions are done, and each waits for all.
//!
//! *Owns*: the life of a shard from start to stop. *Never*: closes files that another core may still write to.
//! *Runs on*: every core.

use crate::base::ids::CoreId;
use crate::base::limits;
use crate::base::time::Now;
use crate::broker::api;
use crate::broker::control::Control;
use crate::broker::effect::{Effect, Effects};
use crate::broker::message::ShardMessage;
use crate::broker::shard::{DeadlineKey, Shard};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Life {
    Starting,
    Serving,
    /// Others are to lead its partitions first.
    Leaving,
    /// Answers what is in flight.
    Stopping,
    /// Own clients are answered; `done` cores, this one included, have said so.
    Waiting,
    /// Flushes and closes.
    Closing,
    Stopped,
}

impl Shard {
    pub(in crate::broker) fn on_all_ready(&mut self, now: Now, effects: &mut Effects) {
        if self.life == Life::Starting {
            self.life = Life::Serving;
            self.commits.open();
            self.start_gossip(now, effects);
            self.start_opening(now, effects);
        }
    }

    pub(in crate::broker) fn on_stop(&mut self, now: Now, effects: &mut Effects) {
        match self.life {
            Life::Starting => {
                // Nothing was accepted, so nothing can be lost: recovery starts over next time.
                self.life = Life::Stopped;
                effects.push(Effect::Stopped);
            }
            Life::Serving => {
                if self.leave_first(now, effects) {
                    self.life = Life::Leaving;
                } else {
                    self.stop_serving(now, effects);
                }
            }
            Life::Leaving | Life::Stopping | Life::Waiting | Life::Closing | Life::Stopped => {}
        }
    }

    /// Core 0 says that others lead this broker's partitions. A core that was not told to stop yet will be.
    pub(in crate::broker) fn on_left(&mut self, now: Now, effects: &mut Effects) {
        if self.life == Life::Leaving {
            self.stop_serving(now, effects);
        }
    }

    fn stop_serving(&mut self, now: Now, effects: &mut Effects) {
        self.life = Life::Stopping;
        self.leave_gossip(now, effects);
        self.sessions.stop();
        api::fetch::finish_all_parked(self, effects);
        self.release_group_waiters(now);
        self.deadlines.set(now.mono.after_ms(limits::STOP_MS), DeadlineKey::Stop);
    }

    /// Called at the end of every step while stopping.
    pub(in crate::broker) fn check_sessions_done(&mut self, effects: &mut Effects) {
        if self.sessions.is_idle() {
            self.say_sessions_done(effects);
        }
    }

    pub(in crate::broker) fn on_stop_deadline(&mut self, now: Now, effects: &mut Effects) {
        match self.life {
            Life::Stopping => {
                tracing::warn!("stopping with requests unanswered after {} ms", limits::STOP_MS);
                self.say_sessions_done(effects);
                self.deadlines.set(now.mono.after_ms(limits::STOP_MS), DeadlineKey::Stop);
            }
            Life::Waiting => {
                tracing::warn!("stopping although another core has not answered its clients");
                self.start_closing(now, effects);
            }
            Life::Starting | Life::Serving | Life::Leaving | Life::Closing | Life::Stopped => {}
        }
    }

    pub(in crate::broker) fn on_sessions_done(&mut self, now: Now, effects: &mut Effects) {
        self.cores_done += 1;
        assert!(self.cores_done <= self.config.cores);
        if self.cores_done == self.config.cores && self.life == Life::Waiting {
            self.start_closing(now, effects);
        }
    }

    /// Partitions are closed, or about to be: what came this late would find none, as if they had been deleted.
    pub(in crate::broker) fn is_done_answering(&self) -> bool {
        matches!(self.life, Life::Waiting | Life::Closing | Life::Stopped)
    }

    pub(in crate::broker) fn check_stopped(&mut self, now: Now, effects: &mut Effects) {
        if self.life != Life::Closing || !self.partitions.is_closed() || self.control.is_some() {
            return;
        }
        if !self.commits.is_closed() {
            return self.close_commits(now, effects);
        }
        // The end of the step writes it.
        if !self.noting.is_settled() {
            return;
        }
        self.life = Life::Stopped;
        effects.push(Effect::Stopped);
    }

    fn say_sessions_done(&mut self, effects: &mut Effects) {
        self.life = Life::Waiting;
        for core in 0..self.config.cores {
            self.send(CoreId(core), ShardMessage::SessionsDone, effects);
        }
    }

    fn start_closing(&mut self, now: Now, effects: &mut Effects) {
        self.life = Life::Closing;
        self.close_partitions(now, effects);
        Control::close(self, now, effects);
        self.check_stopped(now, effects);
    }
}
