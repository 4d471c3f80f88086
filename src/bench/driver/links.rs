//! The connections of a generator thread: one for each client and broker.
//!
//! *Owns*: which connection is whose, when it is made again, and the bytes that come and go on it. *Never*: decides what
//! is sent. *Runs on*: each generator thread.

use mio::Token;

use super::{Driver, UNREACHABLE_NS};
use crate::bench::connection::{Connection, State, Visit};
use crate::bench::producer::Node;

/// After a connection is lost or cannot be made.
pub(super) const RECONNECT_NS: u64 = 100_000_000;

/// A connection that has lasted this long, and from which nothing is owed, stands.
const SETTLED_NS: u64 = 1_000_000_000;

/// Beyond the time that a fetch may wait for records.
const FETCH_SLACK_NS: u64 = 1_000_000_000;

/// Whose connection it is: by its place among the thread's producers or consumers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Producer(usize),
    Consumer(usize),
    Member(usize),
}

/// The connection of one producer or consumer to one broker.
pub(super) struct Link {
    pub(super) owner: Owner,
    pub(super) node: Node,
    pub(super) connection: Option<Connection>,
    /// There may be something to read.
    pub(super) readable: bool,
    pub(super) connect_from_ns: u64,
    /// When a consumer's request in flight was sent.
    pub(super) asked_ns: Option<u64>,
}

impl Driver {
    /// A connection to each of these brokers.
    pub(super) fn link(&mut self, owner: Owner, nodes: &[Node]) {
        for &node in nodes {
            if !self.links.iter().any(|link| link.owner == owner && link.node == node) {
                let link = Link { owner, node, connection: None, readable: false, connect_from_ns: 0, asked_ns: None };
                self.links.push(link);
            }
        }
    }

    fn connect(&mut self, place: usize, now_ns: u64) {
        let link = &mut self.links[place];
        let Some(address) = self.cluster.brokers.get(&link.node) else { return };
        match Connection::open(address.socket, self.plan.poll.registry(), Token(place), now_ns) {
            Ok(connection) => link.connection = Some(connection),
            Err(error) => {
                link.connect_from_ns = now_ns + RECONNECT_NS;
                let complaint = format!("{} cannot be connected to: {error}", address.name);
                self.ending.complaints.add(complaint, 1);
            }
        }
    }

    pub(super) fn check_link(&mut self, place: usize, now_ns: u64) {
        let link = &self.links[place];
        let (owed, overdue) = match link.owner {
            Owner::Producer(source) => {
                let producer = &self.sources[source].producer;
                let owed = producer.needs(link.node) && self.plan.workload.acks != 0;
                (owed, producer.is_overdue(link.node, now_ns))
            }
            Owner::Consumer(_) | Owner::Member(_) => {
                let patience_ns = match link.owner {
                    Owner::Member(place) => self.members[place].patience_ns(),
                    _ => 0,
                };
                let wait_ns = self.plan.workload.request_timeout_ns + FETCH_SLACK_NS + patience_ns;
                (link.asked_ns.is_some(), link.asked_ns.is_some_and(|asked_ns| now_ns > asked_ns + wait_ns))
            }
        };
        let Some(connection) = &link.connection else {
            let needed = match link.owner {
                Owner::Member(_) => !self.is_former_coordinator(link),
                _ => owed || self.cluster.leaders.contains(&Some(link.node)),
            };
            if needed && link.connect_from_ns <= now_ns {
                self.connect(place, now_ns);
            }
            return;
        };
        let age_ns = now_ns.saturating_sub(connection.started_ns());
        if connection.state() == State::Connecting {
            if age_ns > UNREACHABLE_NS / 2 {
                self.on_lost(place, "does not take connections: nothing came back");
            } else {
                self.on_event(place, false);
            }
        } else if overdue {
            self.on_lost(place, "does not answer: no reply within --request-timeout");
        } else if !owed && age_ns > SETTLED_NS {
            self.last_good_ns = now_ns;
        }
    }

    pub(super) fn send(&mut self) {
        for place in 0..self.links.len() {
            let link = &mut self.links[place];
            let Some(connection) = &mut link.connection else { continue };
            if connection.state() != State::Open {
                continue;
            }
            while connection.has_room() {
                let now_ns = self.time.now_ns();
                let frame = match link.owner {
                    Owner::Producer(place) => self.sources[place].producer.poll_request(link.node, now_ns),
                    Owner::Consumer(place) => self.consumers[place].poll_request(link.node, now_ns),
                    Owner::Member(place) if self.members[place].coordinator() == Some(link.node) => {
                        self.members[place].poll_request(&self.consumers[place], now_ns)
                    }
                    Owner::Member(_) => None,
                };
                let Some(frame) = frame else { break };
                if !matches!(link.owner, Owner::Producer(_)) {
                    link.asked_ns = Some(now_ns);
                }
                connection.send(frame);
            }
            if connection.has_output()
                && let Err(why) = connection.write()
            {
                self.on_lost(place, &why);
            }
        }
    }

    pub(super) fn on_event(&mut self, place: usize, readable: bool) {
        let Some(link) = self.links.get_mut(place) else { return };
        let Some(connection) = &mut link.connection else { return };
        link.readable |= readable;
        match connection.check_connected() {
            Ok(false) => {}
            Ok(true) => {
                let took_ns = self.time.now_ns().saturating_sub(connection.started_ns());
                self.ending.connect.record(took_ns);
                let (owner, node) = (link.owner, link.node);
                let taken = match owner {
                    Owner::Producer(_) => Ok(()),
                    Owner::Consumer(consumer) => {
                        self.consumers[consumer].on_connected(node, &self.plan.versions).map_err(|error| error.message)
                    }
                    Owner::Member(member) => self.on_member_connected(member, node),
                };
                if let Err(why) = taken {
                    self.on_lost(place, &why);
                }
            }
            Err(why) => self.on_lost(place, &why),
        }
    }

    pub(super) fn receive(&mut self) {
        for place in 0..self.links.len() {
            if !self.links[place].readable {
                continue;
            }
            if let Err(why) = self.receive_from(place) {
                self.on_lost(place, &why);
            }
        }
    }

    fn receive_from(&mut self, place: usize) -> Result<(), String> {
        let link = &mut self.links[place];
        let Some(connection) = &mut link.connection else { return Ok(()) };
        if connection.state() != State::Open {
            link.readable = false;
            return Ok(());
        }
        let read = connection.read(&mut self.scratch);
        let at_ns = self.time.now_ns();
        let mut answered = None;
        // What came before the end counts.
        while let Some(frame) = connection.next_frame()? {
            match link.owner {
                Owner::Producer(place) => self.sources[place].producer.on_reply(link.node, frame, at_ns)?,
                Owner::Consumer(place) => {
                    link.asked_ns = None;
                    let clock = &mut || self.time.now_ns();
                    let taken = self.consumers[place].on_reply(link.node, frame, &mut self.received, clock);
                    self.meter.on_arrived(&self.received.arrivals);
                    self.received.arrivals.clear();
                    taken.map_err(|error| error.message)?;
                }
                Owner::Member(place) => {
                    link.asked_ns = None;
                    self.members[place].on_reply(frame, &mut self.consumers[place], at_ns)?;
                    answered = Some(place);
                }
            }
            self.last_good_ns = at_ns;
        }
        link.readable = read? == Visit::More;
        if let Some(member) = answered {
            self.on_member_answered(member, at_ns);
        }
        Ok(())
    }

    fn on_lost(&mut self, place: usize, why: &str) {
        let now_ns = self.time.now_ns();
        let link = &mut self.links[place];
        let Some(connection) = link.connection.take() else { return };
        connection.close(self.plan.poll.registry());
        link.readable = false;
        link.asked_ns = None;
        link.connect_from_ns = now_ns + RECONNECT_NS;
        match link.owner {
            Owner::Producer(place) => self.sources[place].producer.on_disconnect(link.node, now_ns),
            Owner::Consumer(place) => self.consumers[place].on_closed(link.node, now_ns),
            Owner::Member(place) if self.members[place].coordinator() == Some(link.node) => {
                self.members[place].on_closed(now_ns)
            }
            Owner::Member(_) => {}
        }
        let name = self.cluster.brokers.get(&link.node).map_or("a broker", |address| &address.name);
        self.ending.complaints.add(format!("{name} {why}"), 1);
    }
}
