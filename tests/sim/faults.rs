//! What happens to nodes and the network, when a plan says so.

use crate::cluster_check;
use crate::disk::{Crash, DiskFaults, SimDisk};
use crate::net::{End, LinkId};
use crate::node::{Node, Process};
use crate::plan::{Fault, MS, PlannedFault};
use crate::world::{Event, World};

/// How soon it is tried again to lose a directory that may be lost only when others have everything.
const LOSE_AGAIN_NS: u64 = 50 * MS;

impl World {
    pub fn on_fault(&mut self, index: usize) {
        if self.calm {
            return;
        }
        let PlannedFault { node, fault, .. } = self.plan.faults[index];
        self.trace.note(self.now, "fault", &[node as u64], format!("{fault:?}").as_bytes());
        self.trace.say(self.now, || format!("{fault:?}"));
        match fault {
            Fault::Crash(how) => self.crash(node, how),
            Fault::Stop => self.stop(node),
            Fault::Break => {
                if let Some(link) = self.any_link() {
                    let delays = (self.random_below(20 * MS), self.random_below(20 * MS));
                    self.break_link(link, delays.0, delays.1);
                }
            }
            Fault::HalfOpen { ms } => {
                if let Some(link) = self.any_link() {
                    self.break_link(link, ms * MS, 0);
                }
            }
            Fault::Slow { times, ms } => self.last(node, fault, ms, |world| world.nodes[node].slow_times = times),
            Fault::Full { left_bytes, ms } => self.last(node, fault, ms, |world| {
                let disk = &mut world.nodes[node].disk;
                disk.space_bytes = Some(disk.used_bytes() + left_bytes);
            }),
            Fault::Failing { faults, ms } => {
                self.last(node, fault, ms, |world| world.nodes[node].disk.faults = faults);
            }
            Fault::Cut { cut, ms } => self.last(node, fault, ms, |world| world.net.cut(node, cut)),
            Fault::Busy { step_us, ms } => {
                self.last(node, fault, ms, |world| world.nodes[node].busy_ns = step_us * 1000);
            }
            Fault::Pause { ms } => self.hold_up(node, ms * MS),
            Fault::Jump { mono_ms, wall_ms } => self.jump(node, mono_ms * MS, wall_ms),
            Fault::Lose if cluster_check::may_lose_one(self) => self.lose_directory(node),
            Fault::Lose => self.schedule(LOSE_AGAIN_NS, Event::Fault { index }),
        }
    }

    pub fn on_fault_over(&mut self, node: usize, fault: Fault) {
        match fault {
            Fault::Slow { .. } => self.nodes[node].slow_times = 1,
            Fault::Full { .. } => self.nodes[node].disk.space_bytes = None,
            Fault::Failing { .. } => self.nodes[node].disk.faults = DiskFaults::default(),
            Fault::Cut { cut, .. } => self.net.mend(node, cut),
            Fault::Busy { .. } => self.nodes[node].busy_ns = 0,
            Fault::Crash(_) | Fault::Stop | Fault::Break | Fault::HalfOpen { .. } => {}
            Fault::Pause { .. } | Fault::Jump { .. } | Fault::Lose => {}
        }
    }

    /// At once, or when the process goes on.
    pub fn happen(&mut self, event: Event) {
        let hindered = self.hindered(&event);
        match hindered {
            Some(node) if self.nodes[node].is_held_up => self.nodes[node].waiting.push_back(event),
            Some(node) => {
                self.on_event(event);
                self.take_time(node);
            }
            None => self.on_event(event),
        }
    }

    /// What waited for it happens, one after the other, for as long as nothing holds it up again.
    pub fn go_on(&mut self, node: usize) {
        self.nodes[node].is_held_up = false;
        while !self.nodes[node].is_held_up {
            let Some(event) = self.nodes[node].waiting.pop_front() else { return };
            self.on_event(event);
            self.take_time(node);
        }
    }

    /// Nothing waits for the process any more.
    pub fn let_go(&mut self, node: usize) {
        self.nodes[node].is_held_up = false;
        for event in std::mem::take(&mut self.nodes[node].waiting) {
            self.schedule(0, event);
        }
    }

    /// The node that this happens to, where something stands in its way at present.
    fn hindered(&mut self, event: &Event) -> Option<usize> {
        if !self.nodes.iter().any(Node::is_hindered) {
            return None;
        }
        let node = match event {
            Event::Disk { node, .. } | Event::Mesh { node, .. } | Event::Timer { node, .. } => Some(*node),
            Event::Datagram { to, .. } => Some(*to),
            Event::Refused { by: End::Peer((node, _), _) } => Some(*node),
            Event::ToBroker { link, .. } | Event::Drain { link } | Event::BrokerLearns { link } => {
                self.net.get_mut(*link).map(|link| link.at.0)
            }
            Event::Accepted { link, .. } => self.net.get_mut(*link).map(|link| link.at.0),
            Event::Connected { link } | Event::ToClient { link, .. } | Event::ClientLearns { link } => {
                self.net.get_mut(*link).and_then(|link| link.nodes()).map(|(from, _)| from)
            }
            _ => None,
        };
        node.filter(|node| self.nodes[*node].is_hindered())
    }

    /// What the process has just done took the processor a while.
    fn take_time(&mut self, node: usize) {
        let busy_ns = self.nodes[node].busy_ns;
        if busy_ns > 0 {
            let ns = self.random_below(busy_ns);
            self.hold_up(node, ns);
        }
    }

    fn hold_up(&mut self, node: usize, ns: u64) {
        if self.nodes[node].process != Process::Down {
            self.nodes[node].is_held_up = true;
            let life = self.nodes[node].life;
            self.schedule(ns, Event::GoOn { node, life });
        }
    }

    /// It begins, and is over after a while.
    fn last(&mut self, node: usize, fault: Fault, ms: u64, begin: impl FnOnce(&mut World)) {
        begin(self);
        self.schedule(ms * MS, Event::FaultOver { node, fault });
    }

    fn jump(&mut self, node: usize, mono_ns: u64, wall_ms: i64) {
        self.nodes[node].jumped_ns += mono_ns;
        self.nodes[node].clock.wall_ahead_ms += wall_ms;
        for core in 0..self.nodes[node].shards.len() as u16 {
            self.refresh_timer(node, core);
        }
    }

    fn lose_directory(&mut self, node: usize) {
        self.crash(node, Crash::Power);
        self.nodes[node].disk = SimDisk::new(self.random_below(u64::MAX));
        self.nodes[node].was_emptied = true;
    }

    fn any_link(&mut self) -> Option<LinkId> {
        let ids = self.net.ids();
        (!ids.is_empty()).then(|| ids[self.random_below(ids.len() as u64) as usize])
    }
}
