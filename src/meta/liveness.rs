//! Which brokers the controller has heard of lately: each has a lease, which its heartbeats renew.
//!
//! A hint (gossip suspects a broker, or its connection broke) makes the lease shorter, so that a broker that died is
//! fenced soon; but it never ends it, since a hint may be wrong: the broker has the time for one more heartbeat.
//! Leases are the controller's alone: a new controller gives everybody a new one.
//!
//! *Owns*: the leases. *Never*: fences: the plans do. *Runs on*: core 0 of the controller.

use std::collections::BTreeMap;

use crate::base::ids::{BrokerEpoch, NodeId};
use crate::base::time::Instant;

/// How long a lease is. Invariant: `suspected_ms` leaves time for a heartbeat and is not above `session_ms`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaseTimes {
    /// From one heartbeat on.
    pub session_ms: u64,
    /// From a hint on, at the most.
    pub suspected_ms: u64,
}

#[derive(Debug)]
pub struct Liveness {
    times: LeaseTimes,
    leases: BTreeMap<NodeId, Lease>,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    epoch: BrokerEpoch,
    until: Instant,
}

impl Liveness {
    pub fn new(times: LeaseTimes) -> Liveness {
        assert!(times.suspected_ms <= times.session_ms);
        Liveness { times, leases: BTreeMap::new() }
    }

    /// This broker is the controller now: brokers that are not fenced have a new lease each.
    pub fn on_controller(&mut self, brokers: impl Iterator<Item = (NodeId, BrokerEpoch)>, now: Instant) {
        let until = now.after_ms(self.times.session_ms);
        self.leases = brokers.map(|(id, epoch)| (id, Lease { epoch, until })).collect();
    }

    /// A broker registered or sent a heartbeat, and the plan for that was not refused.
    pub fn on_heartbeat(&mut self, id: NodeId, epoch: BrokerEpoch, now: Instant) {
        let lease = Lease { epoch, until: now.after_ms(self.times.session_ms) };
        match self.leases.get(&id) {
            // From before it registered anew.
            Some(known) if known.epoch > epoch => {}
            Some(_) | None => {
                self.leases.insert(id, lease);
            }
        }
    }

    /// Something suggests that a broker is not there. Said again and again it means no more than once.
    pub fn on_hint(&mut self, id: NodeId, now: Instant) {
        let soon = now.after_ms(self.times.suspected_ms);
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.until = lease.until.min(soon);
        }
    }

    /// The broker is fenced or gone.
    pub fn forget(&mut self, id: NodeId) {
        self.leases.remove(&id);
    }

    /// Whether another process with the id is refused.
    pub fn has_lease(&self, id: NodeId, now: Instant) -> bool {
        self.leases.get(&id).is_some_and(|lease| now < lease.until)
    }

    /// Brokers whose lease is over: they are to be fenced, and have none any more.
    pub fn expired(&mut self, now: Instant) -> Vec<NodeId> {
        let over = self.leases.iter().filter(|(_, lease)| lease.until <= now).map(|(id, _)| *id);
        let over: Vec<NodeId> = over.collect();
        over.iter().for_each(|id| self.forget(*id));
        over
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.leases.values().map(|lease| lease.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROKER: NodeId = NodeId(1);
    const EPOCH: BrokerEpoch = BrokerEpoch(7);

    fn at(ms: u64) -> Instant {
        Instant(0).after_ms(ms)
    }

    /// Hears of the broker at 0: its lease is over at 9000.
    fn liveness() -> Liveness {
        let mut liveness = Liveness::new(LeaseTimes { session_ms: 9000, suspected_ms: 1000 });
        liveness.on_heartbeat(BROKER, EPOCH, at(0));
        liveness
    }

    #[test]
    fn a_lease_is_over_once_and_a_heartbeat_renews_it() {
        let mut liveness = liveness();
        assert_eq!(liveness.expired(at(8999)), []);
        assert!(liveness.has_lease(BROKER, at(8999)) && !liveness.has_lease(NodeId(2), at(0)));
        liveness.on_heartbeat(BROKER, EPOCH, at(8000));
        assert_eq!(liveness.next_deadline(), Some(at(17_000)));
        assert!(!liveness.has_lease(BROKER, at(17_000)));
        assert_eq!(liveness.expired(at(17_000)), [BROKER]);
        assert_eq!((liveness.expired(at(20_000)), liveness.next_deadline()), (vec![], None));
    }

    #[test]
    fn a_hint_ends_a_lease_sooner_but_not_at_once() {
        let mut liveness = liveness();
        liveness.on_hint(BROKER, at(3000));
        liveness.on_hint(NodeId(2), at(3000));
        assert_eq!(liveness.expired(at(3999)), []);
        for ms in [3500, 3900] {
            liveness.on_hint(BROKER, at(ms));
        }
        assert_eq!(liveness.next_deadline(), Some(at(4000)));
        liveness.on_heartbeat(BROKER, EPOCH, at(3999));
        assert_eq!(liveness.next_deadline(), Some(at(12_999)), "it was wrong");
        liveness.on_hint(BROKER, at(12_900));
        assert_eq!(liveness.next_deadline(), Some(at(12_999)), "a hint never makes a lease longer");
    }

    #[test]
    fn heartbeats_of_an_earlier_incarnation_renew_nothing() {
        let mut liveness = liveness();
        liveness.on_heartbeat(BROKER, BrokerEpoch(6), at(5000));
        assert_eq!(liveness.next_deadline(), Some(at(9000)));
        liveness.forget(BROKER);
        assert_eq!(liveness.next_deadline(), None);
    }

    #[test]
    fn a_new_controller_gives_everybody_time() {
        let mut liveness = liveness();
        liveness.on_controller([(NodeId(2), EPOCH), (NodeId(3), EPOCH)].into_iter(), at(50_000));
        assert!(!liveness.has_lease(BROKER, at(50_000)));
        assert_eq!(liveness.expired(at(59_000)), [NodeId(2), NodeId(3)]);
    }
}
