//! One world: the shards of a node, its disk, its network and its clients, in the order of one heap of events.
//!
//! This is the shell's part played by a seed. Nothing here reads a clock or asks for randomness elsewhere: what a
//! seed does once it does always.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use corelog::base::ids::{ConnId, CoreId, Incarnation};
use corelog::base::metric::Metric;
use corelog::base::rng::Rng;
use corelog::base::stage::Arrival;
use corelog::base::time::{Instant, Now};
use corelog::broker::effect::{Admission, Effect, Effects, Input, ListenerKind};
use corelog::broker::message::ShardMessage;
use corelog::broker::shard::{Listeners, Shard, ShardConfig};
use corelog::config::Address;

use crate::check::{Model, Part};
use crate::client::{Act, Context};
use crate::disk::{Crash, DiskFaults, SimDisk};
use crate::net::{LinkId, Net, Received};
use crate::plan::{Fault, MS, Plan, SECOND};
use crate::said;
use crate::trace::Trace;
use crate::workload::{ADMIN, AUDITOR, Client};

const WALL_MS: i64 = 1_700_000_000_000;
pub const CORES_MAX: u64 = 4;
/// A stop that takes longer than this is a bug: all disk work is much shorter.
const STOP_WITHIN_NS: u64 = 60 * SECOND;
/// How often what a core holds is compared with its settings, in events.
const GAUGE_EVERY: u64 = 64;

enum Event {
    /// Of the life of the process with that number.
    Disk {
        life: u32,
        number: u64,
    },
    Mesh {
        life: u32,
        from: u16,
        to: u16,
        message: ShardMessage,
    },
    Timer {
        life: u32,
        core: u16,
    },
    Boot,
    StopIsLate {
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
    /// Of a connection that could not be made.
    Refused {
        client: usize,
    },
    Connected {
        client: usize,
        link: LinkId,
    },
    Wake {
        client: usize,
    },
    Fault {
        index: usize,
    },
    FaultOver {
        fault: Fault,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Process {
    Down,
    Starting,
    Serving,
    Stopping,
}

pub struct World {
    pub plan: Plan,
    pub now: u64,
    events: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    rng: Rng,
    pub disk: SimDisk,
    pub shards: Vec<Shard>,
    pub process: Process,
    life: u32,
    booted_at: u64,
    ready: BTreeSet<u16>,
    stopped: BTreeSet<u16>,
    timers: Vec<Option<u64>>,
    mesh_at: BTreeMap<(u16, u16), u64>,
    net: Net,
    pub clients: Vec<Client>,
    /// The connection each client has, or tries to make.
    links: Vec<Option<LinkId>>,
    /// When each client is to be woken.
    wakes: Vec<BTreeSet<u64>>,
    pub model: Model,
    pub load: bool,
    /// Only the auditor is let in.
    pub auditing: bool,
    /// The last crash may have taken what was acknowledged.
    pub may_have_lost: bool,
    pub audit_is_due: bool,
    slow_times: u64,
    /// No more faults happen, and those that last are over.
    pub calm: bool,
    pub trace: Trace,
    pub steps: u64,
    /// A file without which the broker may refuse to start; and whether it did.
    pub may_refuse: Option<String>,
    pub refused: bool,
    /// Where partitions ended when the broker was started last: it has made all of that durable, and noted it.
    pub durable: BTreeMap<Part, i64>,
    /// What the broker said since it was started, warnings and worse.
    pub said: Vec<String>,
}

impl World {
    pub fn new(plan: Plan, trace: Trace) -> World {
        let mut seeds = Rng::new(plan.seed);
        let clients = Client::all(&plan);
        let mut world = World {
            now: 0,
            events: BTreeMap::new(),
            next_event: 0,
            rng: Rng::new(seeds.next_u64()),
            disk: SimDisk::new(seeds.next_u64()),
            shards: Vec::new(),
            process: Process::Down,
            life: 0,
            booted_at: 0,
            ready: BTreeSet::new(),
            stopped: BTreeSet::new(),
            timers: Vec::new(),
            mesh_at: BTreeMap::new(),
            net: Net::default(),
            links: vec![None; clients.len()],
            wakes: vec![BTreeSet::new(); clients.len()],
            clients,
            model: Model::new(&plan),
            load: false,
            auditing: false,
            may_have_lost: false,
            audit_is_due: false,
            slow_times: 1,
            calm: false,
            trace,
            steps: 0,
            may_refuse: None,
            refused: false,
            durable: BTreeMap::new(),
            said: Vec::new(),
            plan,
        };
        world.schedule(0, Event::Boot);
        world
    }

    /// Lets the planned faults happen, counted from now.
    pub fn start_faults(&mut self) {
        for (index, (at, _)) in self.plan.faults.clone().into_iter().enumerate() {
            self.schedule(at, Event::Fault { index });
        }
    }

    /// Ends what lasts, and lets nothing new happen.
    pub fn calm_down(&mut self) {
        self.calm = true;
        self.slow_times = 1;
        self.disk.faults = DiskFaults::default();
        self.disk.space_bytes = None;
    }

    /// One event. False when there is none.
    pub fn step(&mut self) -> bool {
        let Some(((at, _), event)) = self.events.pop_first() else { return false };
        assert!(at >= self.now, "time goes on");
        self.now = at;
        self.steps += 1;
        self.on_event(event);
        if self.steps.is_multiple_of(GAUGE_EVERY) {
            self.check_gauges();
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

    pub fn crash(&mut self, how: Crash) {
        if self.process == Process::Down {
            return;
        }
        self.trace.note(self.now, "crash", &[how as u64, u64::from(self.life)], &[]);
        let may_lose = self.plan.any_may_lose(how);
        self.may_have_lost |= may_lose;
        self.disk.crash(how);
        self.end_process(may_lose);
    }

    pub fn stop(&mut self) {
        if self.process != Process::Serving {
            return;
        }
        self.process = Process::Stopping;
        self.schedule(STOP_WITHIN_NS, Event::StopIsLate { life: self.life });
        for core in 0..self.shards.len() as u16 {
            self.input(core, Input::Stop);
        }
    }

    pub fn call(&mut self, client: usize, call: impl FnOnce(&mut Client, &mut Context)) {
        let mut context = Context {
            now: self.now,
            wall_ms: self.wall_ms(),
            plan: &self.plan,
            model: &mut self.model,
            rng: &mut self.rng,
            load: self.load,
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

    fn schedule(&mut self, in_ns: u64, event: Event) {
        self.schedule_at(self.now + in_ns, event);
    }

    fn schedule_at(&mut self, at: u64, event: Event) {
        self.next_event += 1;
        self.events.insert((at.max(self.now), self.next_event), event);
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Disk { life, number } if life == self.life => {
                let (what, bytes) = self.disk.describe(number);
                self.trace.say(self.now, || self.disk.words(number));
                let (core, token, result) = self.disk.complete(number);
                self.trace.note(self.now, what, &[u64::from(core), bytes as u64, u64::from(result.is_ok())], &[]);
                self.input(core, Input::Disk { token, result });
            }
            Event::Mesh { life, from, to, message } if life == self.life => {
                self.trace.note(self.now, "mesh", &[u64::from(from), u64::from(to)], &[]);
                if !self.stopped.contains(&to) {
                    self.input(to, Input::FromShard { from: CoreId(from), message });
                }
            }
            Event::Timer { life, core } if life == self.life => {
                self.timers[usize::from(core)] = None;
                self.trace.note(self.now, "timer", &[u64::from(core)], &[]);
                self.input(core, Input::Timeout);
            }
            Event::StopIsLate { life } if life == self.life => {
                panic!("the broker was told to stop and has not, {} s later", STOP_WITHIN_NS / SECOND)
            }
            Event::Disk { .. } | Event::Mesh { .. } | Event::Timer { .. } | Event::StopIsLate { .. } => {}
            Event::Boot => self.boot(),
            Event::Fault { index } => self.on_fault(self.plan.faults[index].1),
            Event::FaultOver { fault } => self.on_fault_over(fault),
            Event::Wake { client } => {
                self.wakes[client].remove(&self.now);
                self.call(client, Client::on_time);
            }
            net => self.on_net_event(net),
        }
    }

    // The process.

    fn boot(&mut self) {
        if self.process != Process::Down {
            return;
        }
        let cores = 1 + self.rng.below(CORES_MAX) as u16;
        self.life += 1;
        self.trace.note(self.now, "boot", &[u64::from(self.life), u64::from(cores)], &[]);
        self.process = Process::Starting;
        self.said.clear();
        self.booted_at = self.now;
        self.timers = vec![None; usize::from(cores)];
        let settings = Arc::new(self.plan.settings_of_start(&mut self.rng));
        let address = |port| Address { host: "localhost".into(), port };
        let listeners = Listeners { shared: address(9092), per_core: Vec::new(), peer: None };
        self.shards = (0..cores)
            .map(|core| {
                let (settings, listeners) = (settings.clone(), listeners.clone());
                let (seed, incarnation) = (self.rng.next_u64(), Incarnation([1; 16]));
                let core = CoreId(core);
                Shard::new(ShardConfig { core, cores, settings, listeners, seed, incarnation, peer_key: None })
            })
            .collect();
        for core in 0..cores {
            let mut effects = Effects::default();
            let now = self.shard_now();
            self.shards[usize::from(core)].boot(now, &mut effects);
            self.take_effects(core, &mut effects);
        }
    }

    /// Forgets everything that was in memory. It is started again after a while.
    fn end_process(&mut self, cut_replies: bool) {
        self.process = Process::Down;
        self.life += 1;
        self.shards.clear();
        self.ready.clear();
        self.stopped.clear();
        self.mesh_at.clear();
        self.audit_is_due |= self.may_have_lost || self.rng.below(2) == 0;
        self.auditing = self.may_have_lost;
        for id in self.net.ids() {
            let cut_to_client = cut_replies || self.rng.below(2) == 0;
            let learns_in = self.rng.below(self.plan.down_ms * MS / 2);
            let link = self.net.get_mut(id).expect("it is there");
            link.broker_open = false;
            link.cut_to_broker = true;
            link.cut_to_client |= cut_to_client;
            let at = link.to_client_at.max(self.now + learns_in);
            self.schedule_at(at, Event::ClientLearns { link: id });
        }
        let down_ns = self.rng.below(self.plan.down_ms * MS);
        self.schedule(down_ns, Event::Boot);
    }

    fn shard_now(&self) -> Now {
        Now { mono: Instant(self.now - self.booted_at), wall_ms: self.wall_ms() }
    }

    fn input(&mut self, core: u16, input: Input) {
        let Some(shard) = self.shards.get_mut(usize::from(core)) else { return };
        let now = Now { mono: Instant(self.now - self.booted_at), wall_ms: WALL_MS + (self.now / MS) as i64 };
        let mut effects = Effects::default();
        shard.step(input, now, &mut effects);
        for line in said::take_said() {
            self.trace.note(self.now, "said", &[u64::from(core)], line.as_bytes());
            self.trace.say(self.now, || line.clone());
            self.said.push(line);
        }
        self.take_effects(core, &mut effects);
    }

    fn take_effects(&mut self, core: u16, effects: &mut Effects) {
        let life = self.life;
        let list: Vec<Effect> = effects.drain().collect();
        for effect in list {
            if self.life != life {
                return;
            }
            self.take_effect(core, effect);
        }
        if self.life == life {
            self.refresh_timer(core);
        }
    }

    fn refresh_timer(&mut self, core: u16) {
        let Some(shard) = self.shards.get(usize::from(core)) else { return };
        let Some(due) = shard.next_deadline() else { return };
        let at = (self.booted_at + due.0).max(self.now);
        if self.timers[usize::from(core)].is_none_or(|timer| at < timer) {
            self.timers[usize::from(core)] = Some(at);
            let life = self.life;
            self.schedule_at(at, Event::Timer { life, core });
        }
    }

    fn take_effect(&mut self, core: u16, effect: Effect) {
        let life = self.life;
        match effect {
            Effect::Disk { token, op } => {
                let number = self.disk.send(core, token, op);
                let delay = self.disk_delay(number);
                self.schedule(delay, Event::Disk { life, number });
            }
            Effect::ToShard { to, message } => {
                let delay = 1 + self.rng.below(20_000);
                let at = self.mesh_at.entry((core, to.0)).or_default();
                *at = (self.now + delay).max(*at);
                let at = *at;
                self.schedule_at(at, Event::Mesh { life, from: core, to: to.0, message });
            }
            Effect::Send { conn, data } => self.with_link(core, conn, |world, id| {
                let link = world.net.get_mut(id).expect("just found");
                link.queue(&data);
                world.drain_soon(id);
            }),
            Effect::Close { conn } => self.with_link(core, conn, |world, id| {
                world.net.get_mut(id).expect("just found").closing = true;
                world.drain_soon(id);
            }),
            Effect::Abort { conn } => self.with_link(core, conn, |world, id| {
                world.net.get_mut(id).expect("just found").drop_unsent();
                world.break_link(id, 0, 0);
            }),
            Effect::Resume { conn } => self.with_link(core, conn, |world, id| {
                world.net.get_mut(id).expect("just found").waits = false;
                world.schedule(0, Event::ToBroker { link: id, bytes: Bytes::new() });
            }),
            Effect::PeerOpen { .. } | Effect::PeerSend { .. } | Effect::PeerClose { .. } | Effect::Datagram { .. } => {
                unreachable!("a broker without peers speaks to none")
            }
            Effect::Ready => {
                assert!(self.ready.insert(core), "a core is ready once");
                if self.ready.len() == self.shards.len() {
                    self.process = Process::Serving;
                }
            }
            Effect::Stopped => {
                assert!(self.stopped.insert(core), "a core stops once");
                if self.stopped.len() == self.shards.len() {
                    self.trace.note(self.now, "stopped", &[], &[]);
                    self.disk.crash(Crash::Kill);
                    self.end_process(false);
                }
            }
            Effect::Fatal { message } => {
                self.trace.say(self.now, || format!("fatal: {message}"));
                self.refused |= self.may_refuse.as_ref().is_some_and(|path| message.contains(path));
                if self.refused {
                    return self.process = Process::Down;
                }
                assert!(self.plan.may_end_itself(), "fatal: {message}");
                self.disk.crash(Crash::Kill);
                self.end_process(false);
            }
        }
    }

    fn disk_delay(&mut self, number: u64) -> u64 {
        let (_, bytes) = self.disk.describe(number);
        let base = 1 + self.rng.below(self.plan.disk_us * 1000);
        // Now and then the device has something else to do.
        let spike = if self.rng.below(200) == 0 { 20 } else { 1 };
        (base * spike + bytes as u64) * self.slow_times
    }

    fn check_gauges(&self) {
        let settings = &self.plan.settings;
        for shard in &self.shards {
            let share = |total: u64| (total / self.shards.len() as u64) as usize;
            let (_, request_bytes, cache_bytes, _) = shard.gauges();
            // One request is let in however large it is.
            let requests_max = share(settings.queued_max_request_bytes).max(settings.socket_request_max_bytes as usize);
            assert!(request_bytes <= requests_max, "{request_bytes} bytes of requests, and {requests_max} are set");
            let cache_max = share(settings.tail_cache_bytes).max(settings.message_max_bytes as usize);
            assert!(cache_bytes <= cache_max, "{cache_bytes} bytes of tail cache, and {cache_max} are set");
        }
        if self.steps.is_multiple_of(GAUGE_EVERY * 64) {
            for shard in &self.shards {
                assert!(shard.report().metrics.get(Metric::ReplyBytes) < 64 << 20, "replies are bounded");
            }
        }
    }

    // Faults.

    fn on_fault(&mut self, fault: Fault) {
        if self.calm {
            return;
        }
        self.trace.note(self.now, "fault", &[], format!("{fault:?}").as_bytes());
        self.trace.say(self.now, || format!("{fault:?}"));
        match fault {
            Fault::Crash(how) => self.crash(how),
            Fault::Stop => self.stop(),
            Fault::Break => {
                if let Some(link) = self.any_link() {
                    let delays = (self.rng.below(20 * MS), self.rng.below(20 * MS));
                    self.break_link(link, delays.0, delays.1);
                }
            }
            Fault::HalfOpen { ms } => {
                if let Some(link) = self.any_link() {
                    self.break_link(link, ms * MS, 0);
                }
            }
            Fault::Slow { times, ms } => {
                self.slow_times = times;
                self.schedule(ms * MS, Event::FaultOver { fault });
            }
            Fault::Full { left_bytes, ms } => {
                self.disk.space_bytes = Some(self.disk.used_bytes() + left_bytes);
                self.schedule(ms * MS, Event::FaultOver { fault });
            }
            Fault::Failing { faults, ms } => {
                self.disk.faults = faults;
                self.schedule(ms * MS, Event::FaultOver { fault });
            }
        }
    }

    fn on_fault_over(&mut self, fault: Fault) {
        match fault {
            Fault::Slow { .. } => self.slow_times = 1,
            Fault::Full { .. } => self.disk.space_bytes = None,
            Fault::Failing { .. } => self.disk.faults = DiskFaults::default(),
            Fault::Crash(_) | Fault::Stop | Fault::Break | Fault::HalfOpen { .. } => {}
        }
    }

    fn any_link(&mut self) -> Option<LinkId> {
        let ids = self.net.ids();
        (!ids.is_empty()).then(|| ids[self.rng.below(ids.len() as u64) as usize])
    }

    // Connections.

    fn net_delay(&mut self) -> u64 {
        let base = 1 + self.rng.below(self.plan.net_us * 1000);
        if self.rng.below(100) == 0 { base * 30 } else { base }
    }

    fn act(&mut self, client: usize, act: Act) {
        match act {
            Act::Wake { at } => {
                let at = at.max(self.now);
                if self.wakes[client].insert(at) {
                    self.schedule_at(at, Event::Wake { client });
                }
            }
            Act::Connect => self.connect(client),
            Act::Disconnect => {
                if let Some(link) = self.links[client] {
                    let delay = self.net_delay();
                    self.break_link(link, delay, 0);
                }
            }
            Act::Send(bytes) => self.send_to_broker(client, bytes),
        }
    }

    fn connect(&mut self, client: usize) {
        let delay = self.net_delay();
        let let_in = if self.auditing { client == AUDITOR || client == ADMIN } else { true };
        if self.process != Process::Serving || !let_in {
            return self.schedule(delay, Event::Refused { client });
        }
        let core = self.rng.below(self.shards.len() as u64) as u16;
        let link = self.net.connect(client, core, self.now);
        self.links[client] = Some(link);
        let conn = self.net.get_mut(link).expect("just made").conn;
        self.trace.note(self.now, "connect", &[client as u64, u64::from(core), link], &[]);
        self.input(core, Input::Opened { conn, listener: ListenerKind::Shared, host: String::new(), port: 0 });
        self.schedule(delay, Event::Connected { client, link });
    }

    /// In up to three pieces, of which none overtakes another.
    fn send_to_broker(&mut self, client: usize, mut bytes: Bytes) {
        let Some(id) = self.links[client] else { return };
        while !bytes.is_empty() {
            let most = bytes.len() as u64;
            let cut = if self.rng.below(4) == 0 { 1 + self.rng.below(most) } else { most };
            let piece = bytes.split_to(cut as usize);
            let delay = self.net_delay();
            let Some(link) = self.net.get_mut(id) else { return };
            link.to_broker_at = link.to_broker_at.max(self.now + delay);
            let at = link.to_broker_at;
            self.schedule_at(at, Event::ToBroker { link: id, bytes: piece });
        }
    }

    fn with_link(&mut self, core: u16, conn: ConnId, call: impl FnOnce(&mut World, LinkId)) {
        if let Some(link) = self.net.by_conn(core, conn) {
            call(self, link);
        }
    }

    fn drain_soon(&mut self, id: LinkId) {
        let delay = 1 + self.rng.below(50_000);
        let Some(link) = self.net.get_mut(id) else { return };
        if !link.drain_is_due {
            link.drain_is_due = true;
            self.schedule(delay, Event::Drain { link: id });
        }
    }

    /// Nothing more goes through, some of what is on the way excepted; each side hears of it after its delay.
    fn break_link(&mut self, id: LinkId, broker_ns: u64, client_ns: u64) {
        let (cut_to_broker, cut_to_client) = (self.rng.below(2) == 0, self.rng.below(2) == 0);
        let Some(link) = self.net.get_mut(id) else { return };
        link.cut_to_broker |= cut_to_broker;
        link.cut_to_client |= cut_to_client;
        let broker_at = link.to_broker_at.max(self.now + broker_ns);
        let client_at = link.to_client_at.max(self.now + client_ns);
        self.schedule_at(broker_at, Event::BrokerLearns { link: id });
        self.schedule_at(client_at, Event::ClientLearns { link: id });
    }

    fn on_net_event(&mut self, event: Event) {
        match event {
            Event::Refused { client } => self.call(client, Client::on_closed),
            Event::Connected { client, link } => {
                if self.links[client] == Some(link) {
                    self.call(client, Client::on_connected);
                }
            }
            Event::ToBroker { link, bytes } => {
                self.trace.note(self.now, "to broker", &[link], &bytes);
                let Some(found) = self.net.get_mut(link).filter(|link| link.broker_open && !link.cut_to_broker) else {
                    return;
                };
                found.on_bytes(&bytes);
                self.read_frames(link);
            }
            Event::Drain { link } => self.drain(link),
            Event::ToClient { link, bytes } => {
                self.trace.note(self.now, "to client", &[link], &bytes);
                let Some(found) = self.net.get_mut(link).filter(|link| link.client_open && !link.cut_to_client) else {
                    return;
                };
                let client = found.client;
                if self.links[client] == Some(link) {
                    self.call(client, |client, context| client.on_bytes(&bytes, context));
                }
            }
            Event::BrokerLearns { link } => {
                let Some(found) = self.net.get_mut(link).filter(|link| link.broker_open) else { return };
                found.broker_open = false;
                let (core, conn) = (found.core, found.conn);
                self.trace.note(self.now, "closed", &[link], &[]);
                self.input(core, Input::Closed { conn });
                self.net.forget_if_over(link);
            }
            Event::ClientLearns { link } => {
                let Some(found) = self.net.get_mut(link).filter(|link| link.client_open) else { return };
                found.client_open = false;
                let client = found.client;
                self.trace.note(self.now, "gone", &[link], &[]);
                if self.links[client] == Some(link) {
                    self.links[client] = None;
                    self.call(client, Client::on_closed);
                }
                self.net.forget_if_over(link);
            }
            _ => unreachable!("the others are no events of the network"),
        }
    }

    fn read_frames(&mut self, id: LinkId) {
        loop {
            let Some(link) = self.net.get_mut(id).filter(|link| link.broker_open) else { return };
            let (core, conn) = (link.core, link.conn);
            match link.next_received() {
                Received::Nothing => return,
                Received::Length(length) => {
                    let admission = self.shards[usize::from(core)].admit(conn, length);
                    let link = self.net.get_mut(id).expect("just seen");
                    match admission {
                        Admission::Read => link.promise(length),
                        Admission::Wait => link.waits = true,
                        Admission::Refuse => return self.break_link(id, 0, 0),
                    }
                }
                Received::Frame(frame) => {
                    let arrival = Arrival::at(self.shard_now().mono);
                    self.input(core, Input::Frame { conn, frame, arrival });
                }
            }
        }
    }

    fn drain(&mut self, id: LinkId) {
        let most = 1 + self.rng.below(1 << 20) as usize;
        let delay = self.net_delay();
        let Some(link) = self.net.get_mut(id).filter(|link| link.broker_open) else { return };
        link.drain_is_due = false;
        let bytes = link.take(most);
        let (core, conn, left, closing) = (link.core, link.conn, link.unsent_bytes(), link.closing);
        if !bytes.is_empty() {
            link.to_client_at = link.to_client_at.max(self.now + delay);
            let at = link.to_client_at;
            self.schedule_at(at, Event::ToClient { link: id, bytes: bytes.clone() });
            let began = self.shard_now().mono;
            self.input(core, Input::Drained { conn, bytes: bytes.len(), began });
            if left > 0 {
                self.drain_soon(id);
            }
        }
        if closing && left == 0 {
            let at = self.net.get_mut(id).map_or(self.now, |link| link.to_client_at);
            self.schedule(0, Event::BrokerLearns { link: id });
            self.schedule_at(at, Event::ClientLearns { link: id });
        }
    }
}
