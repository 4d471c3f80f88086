//! When clients are let in: a broker that starts must not tell them of a cluster that has gone on without it.
//!
//! A broker without others takes clients as soon as its logs are recovered. One of a cluster first hears its seeds
//! (`seeds`) and registers this run with the controller. When that registration is put into effect here, on every core,
//! so is everything that was committed before it: what the broker answers from then on is at most as old as that of one
//! that never stopped. It is fenced until then, so nobody is sent to it.
//!
//! Where nobody decides, because a majority of the voters is gone, it waits for [`limits::OPEN_MS`] and lets clients in
//! all the same: it leads and follows nothing, but tells them who led when it ran last, and those may still do. While
//! there is a controller that it cannot register with, it waits on and says why. A broker that runs is never held up: it
//! goes on without a controller.
//!
//! *Owns*: whether clients may come. *Never*: opens a listener: the shell does. *Runs on*: core 0; the others are told.

use crate::base::ids::CoreId;
use crate::base::limits;
use crate::base::time::Now;
use crate::broker::cluster::ControllerAt;
use crate::broker::control::Control;
use crate::broker::effect::{Effect, Effects};
use crate::broker::message::ShardMessage;
use crate::broker::shard::{DeadlineKey, Shard};
use crate::broker::shutdown::Life;

#[derive(Debug, Default)]
pub struct Opening {
    is_open: bool,
    /// Nobody decided on metadata for as long as is waited.
    waited_in_vain: bool,
}

impl Opening {
    pub fn is_open(&self) -> bool {
        self.is_open
    }
}

impl Shard {
    /// The logs are recovered.
    pub(in crate::broker) fn start_opening(&mut self, now: Now, effects: &mut Effects) {
        if self.core() != CoreId(0) {
            return;
        }
        self.let_clients_in(now, effects);
        if !self.opening.is_open {
            self.deadlines.set(now.mono.after_ms(limits::OPEN_MS), DeadlineKey::Open);
            self.say_soon(now);
        }
    }

    /// What the controller is to hear of this broker, if it is one of several.
    fn say_soon(&mut self, now: Now) {
        if self.image.has_brokers() {
            self.beat_at(now.mono);
        }
    }

    /// Lets them in if there is nothing more to wait for, and says so to the controller.
    pub(in crate::broker) fn let_clients_in(&mut self, now: Now, effects: &mut Effects) {
        if self.core() != CoreId(0) || self.life != Life::Serving || self.opening.is_open || !self.may_open() {
            return;
        }
        self.opening.is_open = true;
        for core in 0..self.config.cores {
            self.send(CoreId(core), ShardMessage::LetClientsIn, effects);
        }
        self.say_soon(now);
    }

    fn may_open(&self) -> bool {
        if !self.cluster.seeds.have_nothing_against_it() {
            return false;
        }
        let is_up_to_date =
            || self.registered().is_some() && self.control.as_ref().is_some_and(Control::has_applied_all);
        !self.image.has_brokers() || self.opening.waited_in_vain || is_up_to_date()
    }

    pub(in crate::broker) fn on_let_clients_in(&mut self, effects: &mut Effects) {
        if self.life == Life::Serving {
            effects.push(Effect::Ready);
        }
    }

    pub(in crate::broker) fn on_open_due(&mut self, now: Now, effects: &mut Effects) {
        if self.opening.is_open || self.life != Life::Serving {
            return;
        }
        if self.cluster.controller() != ControllerAt::Unknown {
            return self.deadlines.set(now.mono.after_ms(limits::OPEN_MS), DeadlineKey::Open);
        }
        tracing::warn!(
            "nobody has decided on metadata for {} s, which takes a majority of the voters (`corelog cluster status` shows \
             them): clients are told what this broker knew when it ran last, and it leads and follows nothing until it \
             is registered",
            limits::OPEN_MS / 1000
        );
        self.opening.waited_in_vain = true;
        self.let_clients_in(now, effects);
    }
}
