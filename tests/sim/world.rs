//! One world: nodes with their shards and disks, the network and the clients, in the order of one heap of events.
//!
//! This is the shell's part played by a seed. Nothing here reads a clock or asks for randomness elsewhere: what a
//! seed does once it does always.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use corelog::base::ids::{CoreId, Incarnation};
use corelog::base::metric::Metric;
use corelog::base::rng::Rng;
use corelog::base::time::Now;
use corelog::broker::effect::{Effect, Effects, Input, ListenerKind};
use corelog::broker::message::ShardMessage;
use corelog::broker::shard::{Listeners, Shard, ShardConfig};

use crate::check::{Model, Part};
use crate::client::Context;
use crate::cluster_check::{self, Witness};
use crate::disk::Crash;
use crate::net::{End, LinkId, Net};
use crate::node::{Node, Process, client_address, peer_address};
use crate::plan::{Fault, MS, Plan, SECOND};
use crate::said;
use crate::trace::Trace;
use crate::workload::Client;

const WALL_MS: i64 = 1_700_000_000_000;
/// A stop that takes longer than this is a bug: all disk work is much shorter.
const STOP_WITHIN_NS: u64 = 60 * SECOND;
/// How often what a core holds is compared with its settings, in events; and its whole report is looked at.
const GAUGE_EVERY: u64 = 64;
const REPORT_EVERY: u64 = 512 * GAUGE_EVERY;

/// Fifty times as many as most worlds take.
const STEPS_MAX: u64 = 5_000_000;

/// What happens. What carries a `life` is of the process with that number.
pub enum Event {
    Disk {
        node: usize,
        life: u32,
        number: u64,
    },
    Mesh {
        node: usize,
        life: u32,
        from: u16,
        to: u16,
        message: ShardMessage,
    },
    Timer {
        node: usize,
        life: u32,
        core: u16,
        at: u64,
    },
    Boot {
        node: usize,
    },
    StopIsLate {
        node: usize,
        life: u32,
    },
    /// A process that was held up goes on.
    GoOn {
        node: usize,
        life: u32,
    },
    ToBroker {
        link: LinkId,
        bytes: Bytes,
    },
    Drain {
        link: LinkId,
    },
    ToClient {
        link: LinkId,
        bytes: Bytes,
    },
    BrokerLearns {
        link: LinkId,
    },
    ClientLearns {
        link: LinkId,
    },
    /// A connection could not be made.
    Refused {
        by: End,
    },
    Connected {
        link: LinkId,
    },
    Accepted {
        link: LinkId,
        listener: ListenerKind,
    },
    Datagram {
        from: usize,
        to: usize,
        data: Bytes,
    },
    Wake {
        client: usize,
    },
    Fault {
        index: usize,
    },
    FaultOver {
        node: usize,
        fault: Fault,
    },
}

pub struct World {
    pub plan: Plan,
    pub now: u64,
    events: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    pub rng: Rng,
    pub nodes: Vec<Node>,
    pub net: Net,
    pub clients: Vec<Client>,
    /// The connection each client has, or tries to make.
    pub links: Vec<Option<LinkId>>,
    /// When each client is to be woken.
    pub wakes: Vec<BTreeSet<u64>>,
    pub model: Model,
    pub load: bool,
    /// Only the auditor is let in.
    pub auditing: bool,
    /// The last crash may have taken what was acknowledged.
    pub may_have_lost: bool,
    pub audit_is_due: bool,
    /// No more faults happen, and those that last are over.
    pub calm: bool,
    pub trace: Trace,
    pub steps: u64,
    /// A file without which the broker may refuse to start; and whether it did.
    pub may_refuse: Option<String>,
    pub refused: bool,
    /// Where partitions ended when the broker was started last: it has made all of that durable, and noted it.
    pub durable: BTreeMap<Part, i64>,
    /// Of several nodes.
    witness: Witness,
}

impl World {
    pub fn new(plan: Plan, trace: Trace) -> World {
        let mut seeds = Rng::new(plan.seed);
        let clients = Client::all(&plan);
        let rng = Rng::new(seeds.next_u64());
        let mut world = World {
            now: 0,
            events: BTreeMap::new(),
            next_event: 0,
            rng,
            nodes: plan.clocks.iter().map(|clock| Node::new(seeds.next_u64(), *clock)).collect(),
            net: Net::new(plan.nodes),
            links: vec![None; clients.len()],
            wakes: vec![BTreeSet::new(); clients.len()],
            clients,
            model: Model::new(&plan),
            load: false,
            auditing: false,
            may_have_lost: false,
            audit_is_due: false,
            calm: false,
            trace,
            steps: 0,
            may_refuse: None,
            refused: false,
            durable: BTreeMap::new(),
            witness: Witness::default(),
            plan,
        };
        for node in 0..world.nodes.len() {
            world.schedule(0, Event::Boot { node });
        }
        world
    }

    /// Lets the planned faults happen, counted from now.
    pub fn start_faults(&mut self) {
        for index in 0..self.plan.faults.len() {
            self.schedule(self.plan.faults[index].at, Event::Fault { index });
        }
    }

    /// Ends what lasts, and lets nothing new happen.
    pub fn calm_down(&mut self) {
        self.calm = true;
        self.nodes.iter_mut().for_each(Node::calm_down);
        for node in 0..self.nodes.len() {
            self.let_go(node);
        }
        self.net.heal();
    }

    /// One event. False when there is none.
    pub fn step(&mut self) -> bool {
        let Some(((at, _), event)) = self.events.pop_first() else { return false };
        assert!(at >= self.now, "time goes on");
        self.now = at;
        self.steps += 1;
        assert!(self.steps < STEPS_MAX, "the world goes round in circles at {}", self.now);
        self.happen(event);
        if self.steps.is_multiple_of(GAUGE_EVERY) {
            self.check_gauges();
            if self.plan.is_cluster {
                let mut witness = std::mem::take(&mut self.witness);
                witness.look(self);
                self.witness = witness;
                cluster_check::settle_acks(self);
            }
        }
        true
    }

    /// Runs until `done` says so; false when that takes longer than `within_ns`.
    pub fn run_until(&mut self, within_ns: u64, mut done: impl FnMut(&mut World) -> bool) -> bool {
        let end = self.now + within_ns;
        while !done(self) {
            let Some((next, _)) = self.events.keys().next().copied() else { return false };
            if next > end {
                self.now = end;
                return false;
            }
            self.step();
        }
        true
    }

    pub fn crash(&mut self, node: usize, how: Crash) {
        if self.nodes[node].process == Process::Down {
            return;
        }
        self.trace.note(self.now, "crash", &[how as u64, u64::from(self.nodes[node].life)], &[]);
        let may_lose = self.plan.any_may_lose(how);
        self.may_have_lost |= may_lose;
        self.nodes[node].disk.crash(how);
        self.end_process(node, may_lose);
    }

    pub fn stop(&mut self, node: usize) {
        if self.nodes[node].process != Process::Serving || self.nodes[node].is_held_up {
            return;
        }
        self.nodes[node].process = Process::Stopping;
        self.schedule(STOP_WITHIN_NS, Event::StopIsLate { node, life: self.nodes[node].life });
        for core in 0..self.nodes[node].shards.len() as u16 {
            self.input(node, core, Input::Stop);
        }
    }

    pub fn is_serving(&self, node: usize) -> bool {
        self.nodes[node].process == Process::Serving
    }

    pub fn call(&mut self, client: usize, call: impl FnOnce(&mut Client, &mut Context)) {
        let mut context = Context {
            now: self.now,
            wall_ms: self.wall_ms(),
            plan: &self.plan,
            model: &mut self.model,
            rng: &mut self.rng,
            load: self.load,
            at: self.links[client].and_then(|link| self.net.get_mut(link)).map(|link| link.at.0),
            nodes: &self.nodes,
            acts: Vec::new(),
        };
        call(&mut self.clients[client], &mut context);
        for act in context.acts {
            self.act(client, act);
        }
    }

    pub fn random_below(&mut self, bound: u64) -> u64 {
        self.rng.below(bound)
    }

    pub fn wake_all(&mut self) {
        for client in 0..self.clients.len() {
            self.call(client, Client::on_time);
        }
    }

    pub fn wall_ms(&self) -> i64 {
        WALL_MS + (self.now / MS) as i64
    }

    pub fn schedule(&mut self, in_ns: u64, event: Event) {
        self.schedule_at(self.now + in_ns, event);
    }

    pub fn schedule_at(&mut self, at: u64, event: Event) {
        self.next_event += 1;
        self.events.insert((at.max(self.now), self.next_event), event);
    }

    pub fn on_event(&mut self, event: Event) {
        match event {
            Event::GoOn { node, life } if life == self.nodes[node].life => self.go_on(node),
            Event::Disk { node, life, number } if life == self.nodes[node].life => self.on_disk_event(node, number),
            Event::Mesh { node, life, from, to, message } if life == self.nodes[node].life => {
                self.trace.note(self.now, "mesh", &[u64::from(from), u64::from(to)], &[]);
                if !self.nodes[node].stopped.contains(&to) {
                    self.input(node, to, Input::FromShard { from: CoreId(from), message });
                }
            }
            // An earlier one may have been set since.
            Event::Timer { node, life, core, at }
                if life == self.nodes[node].life && self.nodes[node].timers[usize::from(core)] == Some(at) =>
            {
                self.nodes[node].ring(core, self.now);
                self.trace.note(self.now, "timer", &[u64::from(core)], &[]);
                self.input(node, core, Input::Timeout);
            }
            Event::StopIsLate { node, life } if life == self.nodes[node].life => {
                panic!("the broker was told to stop and has not, {} s later", STOP_WITHIN_NS / SECOND)
            }
            Event::Disk { .. } | Event::Mesh { .. } | Event::Timer { .. } => {}
            Event::StopIsLate { .. } | Event::GoOn { .. } => {}
            Event::Boot { node } => self.boot(node),
            Event::Fault { index } => self.on_fault(index),
            Event::FaultOver { node, fault } => self.on_fault_over(node, fault),
            Event::Wake { client } => {
                self.wakes[client].remove(&self.now);
                self.call(client, Client::on_time);
            }
            net => self.on_net_event(net),
        }
    }

    fn on_disk_event(&mut self, node: usize, number: u64) {
        let disk = &mut self.nodes[node].disk;
        let (what, bytes) = disk.describe(number);
        self.trace.say(self.now, || disk.words(number));
        let (core, token, result) = disk.complete(number);
        self.trace.note(self.now, what, &[u64::from(core), bytes as u64, u64::from(result.is_ok())], &[]);
        self.input(node, core, Input::Disk { token, result });
    }

    // The processes.

    fn boot(&mut self, node: usize) {
        if self.nodes[node].process != Process::Down {
            return;
        }
        let cores = 1 + self.rng.below(self.plan.cores_max) as u16;
        self.nodes[node].begin(cores, self.now);
        self.trace.note(self.now, "boot", &[u64::from(self.nodes[node].life), u64::from(cores)], &[]);
        let is_first = node == 0 && !self.nodes[node].was_emptied;
        let settings = Arc::new(self.plan.settings_of_start(node, is_first, &mut self.rng));
        let peer = (self.plan.nodes > 1).then(|| peer_address(node));
        let listeners = Listeners { shared: client_address(node), per_core: Vec::new(), peer };
        let incarnation = Incarnation(u128::from(self.nodes[node].life).to_be_bytes());
        self.nodes[node].shards = (0..cores)
            .map(|core| {
                let (settings, listeners) = (settings.clone(), listeners.clone());
                let (seed, core) = (self.rng.next_u64(), CoreId(core));
                Shard::new(ShardConfig { core, cores, settings, listeners, seed, incarnation, peer_key: None })
            })
            .collect();
        for core in 0..cores {
            let mut effects = Effects::default();
            let now = self.shard_now(node);
            self.nodes[node].shards[usize::from(core)].boot(now, &mut effects);
            self.take_effects(node, core, &mut effects);
        }
    }

    /// It is started again after a while.
    fn end_process(&mut self, node: usize, cut_replies: bool) {
        self.nodes[node].end();
        self.let_go(node);
        self.audit_is_due |= self.may_have_lost || self.rng.below(2) == 0;
        self.auditing = self.may_have_lost;
        self.cut_links(node, cut_replies);
        let down_ns = self.rng.below(self.plan.down_ms * MS);
        self.schedule(down_ns, Event::Boot { node });
    }

    pub fn shard_now(&self, node: usize) -> Now {
        self.nodes[node].clock(self.now, self.wall_ms())
    }

    pub fn input(&mut self, node: usize, core: u16, input: Input) {
        let now = self.shard_now(node);
        let Some(shard) = self.nodes[node].shards.get_mut(usize::from(core)) else { return };
        let mut effects = Effects::default();
        shard.step(input, now, &mut effects);
        for line in said::take_said() {
            self.trace.note(self.now, "said", &[u64::from(core)], line.as_bytes());
            self.trace.say(self.now, || line.clone());
            assert!(!line.contains("gave up committed records"), "node {node}: {line}");
            self.nodes[node].said.push(line);
        }
        self.take_effects(node, core, &mut effects);
    }

    fn take_effects(&mut self, node: usize, core: u16, effects: &mut Effects) {
        let life = self.nodes[node].life;
        let list: Vec<Effect> = effects.drain().collect();
        for effect in list {
            if self.nodes[node].life != life {
                return;
            }
            self.take_effect(node, core, effect);
        }
        if self.nodes[node].life == life {
            self.refresh_timer(node, core);
        }
    }

    pub fn refresh_timer(&mut self, node: usize, core: u16) {
        let here = &mut self.nodes[node];
        let Some(due) = here.shards.get(usize::from(core)).and_then(Shard::next_deadline) else { return };
        let at = here.when(due).max(self.now);
        let timer = &mut here.timers[usize::from(core)];
        if timer.is_none_or(|timer| at < timer) {
            *timer = Some(at);
            let life = here.life;
            self.schedule_at(at, Event::Timer { node, life, core, at });
        }
    }

    fn take_effect(&mut self, node: usize, core: u16, effect: Effect) {
        let life = self.nodes[node].life;
        match effect {
            Effect::Disk { token, op } => {
                let here = &mut self.nodes[node];
                let number = here.disk.send(core, token, op);
                let delay = here.disk_delay(number, self.plan.disk_us, &mut self.rng);
                self.schedule(delay, Event::Disk { node, life, number });
            }
            Effect::ToShard { to, message } => {
                let delay = 1 + self.rng.below(20_000);
                let at = self.nodes[node].mesh_at.entry((core, to.0)).or_default();
                *at = (self.now + delay).max(*at);
                let at = *at;
                self.schedule_at(at, Event::Mesh { node, life, from: core, to: to.0, message });
            }
            Effect::Send { conn, data } => self.with_link((node, core), conn, |world, id| {
                let link = world.net.get_mut(id).expect("just found");
                link.queue(&data);
                world.drain_soon(id);
            }),
            Effect::Close { conn } => self.with_link((node, core), conn, |world, id| {
                world.net.get_mut(id).expect("just found").closing = true;
                world.drain_soon(id);
            }),
            Effect::Abort { conn } => self.with_link((node, core), conn, |world, id| {
                world.net.get_mut(id).expect("just found").drop_unsent();
                world.break_link(id, 0, 0);
            }),
            Effect::Resume { conn } => self.with_link((node, core), conn, |world, id| {
                world.net.get_mut(id).expect("just found").waits = false;
                world.schedule(0, Event::ToBroker { link: id, bytes: Bytes::new() });
            }),
            Effect::PeerOpen { peer, to } => self.open_peer((node, core), peer, &to),
            Effect::PeerSend { peer, data } => {
                let id = self.net.by_peer((node, core), peer);
                id.into_iter().for_each(|id| self.send_to_broker(id, data.concat().into()));
            }
            Effect::PeerClose { peer } => {
                let delay = self.net_delay();
                let id = self.net.by_peer((node, core), peer);
                id.into_iter().for_each(|id| self.break_link(id, delay, 0));
            }
            Effect::Datagram { to, data } => self.send_datagram(node, &to, data),
            Effect::Ready => {
                let here = &mut self.nodes[node];
                assert!(here.ready.insert(core), "a core is ready once");
                if here.ready.len() == here.shards.len() {
                    here.process = Process::Serving;
                }
            }
            Effect::Stopped => {
                let here = &mut self.nodes[node];
                assert!(here.stopped.insert(core), "a core stops once");
                if here.stopped.len() == here.shards.len() {
                    self.trace.note(self.now, "stopped", &[], &[]);
                    here.disk.crash(Crash::Kill);
                    self.end_process(node, false);
                }
            }
            Effect::Fatal { message } => {
                self.trace.say(self.now, || format!("fatal: {message}"));
                self.refused |= self.may_refuse.as_ref().is_some_and(|path| message.contains(path));
                if self.refused {
                    return self.nodes[node].process = Process::Down;
                }
                assert!(self.plan.may_end_itself(), "fatal: {message}");
                self.nodes[node].disk.crash(Crash::Kill);
                self.end_process(node, false);
            }
        }
    }

    fn check_gauges(&self) {
        let settings = &self.plan.settings;
        let nodes = self.nodes.iter().filter(|node| !node.shards.is_empty());
        for (node, shard) in nodes.flat_map(|node| node.shards.iter().map(move |shard| (node, shard))) {
            let share = |total: u64| (total / node.shards.len() as u64) as usize;
            let (_, request_bytes, cache_bytes, _) = shard.gauges();
            // One request is let in however large it is.
            let requests_max = share(settings.queued_max_request_bytes).max(settings.socket_request_max_bytes as usize);
            assert!(request_bytes <= requests_max, "{request_bytes} bytes of requests, and {requests_max} are set");
            let cache_max = share(settings.tail_cache_bytes).max(settings.message_max_bytes as usize);
            assert!(cache_bytes <= cache_max, "{cache_bytes} bytes of tail cache, and {cache_max} are set");
        }
        if self.steps.is_multiple_of(REPORT_EVERY) {
            for shard in self.nodes.iter().flat_map(|node| &node.shards) {
                assert!(shard.report().metrics.get(Metric::ReplyBytes) < 64 << 20, "replies are bounded");
            }
        }
    }
}
