//! A coordinator with its log and its clock: what the transcripts of both protocols are played on.
//!
//! *Owns*: what was ever written, and the time. *Never*: knows the words of a transcript. *Runs on*: tests.

use super::ask::{Ask, Caller, Ticket};
use super::coordinator::{Context, Coordinator, GroupOut};
use super::records::GroupRecord;
use super::topics::Topics;
use crate::base::ids::CoreId;
use crate::base::rng::Rng;
use crate::base::slab::{Key, Slab};
use crate::base::time::{Instant, Now};
use crate::config::Settings;

pub(super) struct Rig {
    pub(super) coordinator: Coordinator,
    pub(super) settings: Settings,
    log: Vec<GroupRecord>,
    now: Now,
    rng: Rng,
    job: Key,
}

impl Rig {
    /// A coordinator that is not loaded yet.
    pub(super) fn new(settings: Settings) -> Rig {
        Rig {
            coordinator: Coordinator::default(),
            settings,
            log: Vec::new(),
            now: Now { mono: Instant(0), wall_ms: 1_000_000 },
            rng: Rng::new(1),
            job: Slab::default().insert(()),
        }
    }

    /// What the coordinator does and says; its records are in the log.
    pub(super) fn call(
        &mut self,
        topics: &dyn Topics,
        call: impl FnOnce(&mut Coordinator, &mut Context<'_>),
    ) -> GroupOut {
        let mut out = GroupOut::default();
        let mut context =
            Context { settings: &self.settings, topics, now: self.now, rng: &mut self.rng, out: &mut out };
        call(&mut self.coordinator, &mut context);
        self.log.extend(out.records.iter().cloned());
        out
    }

    /// A question of a client, which the answer has as the `at` of its ticket.
    pub(super) fn ask(&mut self, topics: &dyn Topics, at: u32, client: &str, version: i16, ask: Ask) -> GroupOut {
        let ticket = Ticket { core: CoreId(0), job: self.job, at };
        let caller = Caller { version, client_id: client.into(), client_host: "/host".into() };
        self.call(topics, |coordinator, context| coordinator.on_ask(ticket, ask, &caller, context))
    }

    /// Lets time pass, from alarm to alarm: what comes of each.
    pub(super) fn wait(&mut self, topics: &dyn Topics, ms: u64) -> Vec<GroupOut> {
        let end = self.now.mono.after_ms(ms);
        let mut all = Vec::new();
        while let Some(due) = self.coordinator.next_deadline().filter(|due| *due <= end) {
            self.move_clock(due);
            all.push(self.call(topics, Coordinator::on_timeout));
        }
        self.move_clock(end);
        all
    }

    /// Another coordinator takes over, from what was written.
    pub(super) fn reload(&mut self, topics: &dyn Topics) -> GroupOut {
        self.coordinator = Coordinator::default();
        for record in &self.log {
            self.coordinator.on_record(&record.key, record.value.as_ref()).expect("we wrote it");
        }
        self.call(topics, Coordinator::on_loaded)
    }

    fn move_clock(&mut self, to: Instant) {
        let to = to.max(self.now.mono);
        self.now.wall_ms += (to.since_ns(self.now.mono) / 1_000_000) as i64;
        self.now.mono = to;
    }
}
