//! Which brokers are there: registrations, heartbeats, and what becomes of partitions when brokers come and go.
//!
//! Rules and codes are those of Kafka's `ClusterControlManager`, `BrokerHeartbeatManager` and
//! `ReplicationControlManager`. A broker is fenced until it has caught up with the metadata, and again when its lease
//! ([`super::liveness`]) is over; it comes back under the same id only when the lease of the one before is over.
//!
//! *Owns*: the rules. *Never*: knows the time. *Runs on*: core 0 of the controller.

use super::broker::Broker;
use super::controller::{MetaError, refuse};
use super::election::{arrive, leave};
use super::fleet::Fleet;
use super::record::MetaRecord;
use crate::base::ids::{BrokerEpoch, DirectoryId, NodeId};
use crate::base::limits::BROKERS_MAX;
use crate::config::{Address, Settings};
use crate::wire::errors::ErrorCode;

/// A broker that wants to be there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    pub id: NodeId,
    pub incarnation: [u8; 16],
    pub shared: Address,
    pub per_core: Vec<Address>,
    pub peer: Address,
    pub cores: u16,
    pub rack: Option<String>,
    pub directory: DirectoryId,
    /// The epoch it had when it ran last, if it has lost no record since that it had made safe then (KIP-966).
    pub kept_since: Option<BrokerEpoch>,
}

/// What a broker says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    pub id: NodeId,
    pub epoch: BrokerEpoch,
    /// Has applied the metadata up to its own registration at least.
    pub caught_up: bool,
    pub wants_fence: bool,
    pub wants_shut_down: bool,
}

/// What it is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeartbeatAnswer {
    pub fenced: bool,
    /// It leads nothing and is in no ISR: it may stop, once the others know.
    pub should_shut_down: bool,
}

/// Checks a registration. `has_lease`: a broker of that id was heard of within its lease.
pub fn plan_register(
    fleet: Fleet<'_>,
    wish: &Registration,
    has_lease: bool,
    settings: &Settings,
) -> Result<(BrokerEpoch, Vec<MetaRecord>), MetaError> {
    let (image, id) = (fleet.image, wish.id);
    if id.0 < 0 || wish.cores == 0 {
        return refuse(ErrorCode::InvalidRegistration, "A broker has an id of 0 or more, and a core.");
    }
    let before = image.broker(id);
    match before {
        None if image.brokers().count() >= BROKERS_MAX => {
            let message = format!("There are {BROKERS_MAX} brokers, and no more can be.");
            return refuse(ErrorCode::InvalidRegistration, message);
        }
        Some(before) if before.incarnation != wish.incarnation && has_lease => {
            let message = format!("There is a broker {id} at {}: node.id must be another's.", before.shared);
            return refuse(ErrorCode::DuplicateBrokerRegistration, message);
        }
        Some(before) if wish.is_of(before) => return Ok((before.epoch, Vec::new())),
        Some(_) | None => {}
    }
    let epoch = BrokerEpoch(image.broker_epoch().0 + 1);
    let has_kept = wish.kept_since.is_some_and(|since| before.is_none_or(|before| before.epoch == since));
    let mut records = leave(fleet, id, !has_kept, settings);
    records.push(MetaRecord::BrokerRegistered(wish.broker(epoch)));
    Ok((epoch, records))
}

impl Registration {
    /// The broker as it is at first.
    pub fn broker(&self, epoch: BrokerEpoch) -> Broker {
        Broker {
            id: self.id,
            incarnation: self.incarnation,
            epoch,
            directory: self.directory,
            shared: self.shared.clone(),
            per_core: self.per_core.clone(),
            peer: self.peer.clone(),
            cores: self.cores,
            rack: self.rack.clone(),
            fenced: true,
            shutting_down: false,
        }
    }

    /// Whether it is what a broker has said before: it asks again, because it heard no answer.
    fn is_of(&self, broker: &Broker) -> bool {
        self.broker(broker.epoch) == Broker { fenced: true, shutting_down: false, ..broker.clone() }
    }
}

/// Refuses what a broker sends that has registered anew since, or not at all.
pub fn check_epoch(fleet: Fleet<'_>, id: NodeId, epoch: BrokerEpoch) -> Result<&Broker, MetaError> {
    match fleet.image.broker(id) {
        Some(broker) if broker.epoch == epoch => Ok(broker),
        Some(broker) => {
            let message = format!("Broker {id} has registered with epoch {} since, not {epoch}.", broker.epoch);
            refuse(ErrorCode::StaleBrokerEpoch, message)
        }
        None => refuse(ErrorCode::StaleBrokerEpoch, format!("No broker {id} is registered.")),
    }
}

/// `BrokerHeartbeatManager.calculateNextBrokerState`.
pub fn plan_heartbeat(
    fleet: Fleet<'_>,
    beat: &Heartbeat,
    settings: &Settings,
) -> Result<(HeartbeatAnswer, Vec<MetaRecord>), MetaError> {
    let broker = check_epoch(fleet, beat.id, beat.epoch)?;
    let id = broker.id;
    let answer = |fenced, should_shut_down| HeartbeatAnswer { fenced, should_shut_down };
    if broker.fenced {
        if beat.wants_shut_down || beat.wants_fence || !beat.caught_up || broker.shutting_down {
            return Ok((answer(true, beat.wants_shut_down), Vec::new()));
        }
        let mut records = vec![MetaRecord::BrokerUnfenced { id }];
        records.extend(arrive(fleet, id, settings));
        return Ok((answer(false, false), records));
    }
    if beat.wants_fence {
        return Ok((answer(true, beat.wants_shut_down), plan_fence(fleet, id, settings)));
    }
    if beat.wants_shut_down && !broker.shutting_down {
        let mut records = leave(fleet, id, false, settings);
        records.push(MetaRecord::BrokerShuttingDown { id });
        return Ok((answer(false, false), records));
    }
    Ok((answer(false, broker.shutting_down), Vec::new()))
}

/// The broker's lease is over. Its own record comes last: until it is there, a later controller begins again.
pub fn plan_fence(fleet: Fleet<'_>, id: NodeId, settings: &Settings) -> Vec<MetaRecord> {
    if fleet.image.broker(id).is_none_or(|broker| broker.fenced) {
        return Vec::new();
    }
    let mut records = leave(fleet, id, false, settings);
    records.push(MetaRecord::BrokerFenced { id });
    records
}

/// The broker will not come back. Partitions keep it among their replicas until they are moved.
pub fn plan_unregister(fleet: Fleet<'_>, id: NodeId, settings: &Settings) -> Result<Vec<MetaRecord>, MetaError> {
    if fleet.image.broker(id).is_none() {
        return refuse(ErrorCode::BrokerIdNotRegistered, format!("No broker {id} is registered."));
    }
    let mut records = leave(fleet, id, false, settings);
    records.push(MetaRecord::BrokerUnregistered { id });
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{broker, cluster, nodes, only_change, parts};
    use super::super::{Image, PartitionParts};
    use super::*;

    const ME: NodeId = NodeId(1);

    /// Of broker `id` as it is in [`cluster`], or as another process.
    fn registration(id: i32, incarnation: u8) -> Registration {
        let sample = broker(id, i64::from(id));
        Registration {
            id: sample.id,
            incarnation: [incarnation; 16],
            shared: sample.shared,
            per_core: sample.per_core,
            peer: sample.peer,
            cores: sample.cores,
            rack: sample.rack,
            directory: sample.directory,
            kept_since: Some(sample.epoch),
        }
    }

    fn register(
        image: &Image,
        wish: &Registration,
        has_lease: bool,
    ) -> Result<(BrokerEpoch, Vec<MetaRecord>), MetaError> {
        plan_register(Fleet::of(image, ME), wish, has_lease, &Settings::default())
    }

    #[test]
    fn an_id_is_one_brokers_while_its_lease_holds() {
        let image = cluster(3, &[parts(&[1, 2], &[1, 2], &[])]);
        assert_eq!(register(&image, &registration(2, 2), true), Ok((BrokerEpoch(2), vec![])), "it asks again");
        let error = register(&image, &registration(2, 9), true).expect_err("another one has it");
        assert_eq!(error.code, ErrorCode::DuplicateBrokerRegistration, "{error}");
        let (epoch, records) = register(&image, &registration(2, 9), false).expect("it is free");
        assert_eq!(epoch, BrokerEpoch(4), "above every epoch that was given out");
        assert_eq!(only_change(&records[..1]).isr, nodes(&[1]));
        let MetaRecord::BrokerRegistered(broker) = &records[1] else { panic!("{records:?}") };
        assert!(broker.fenced && broker.epoch == epoch);
        for wrong in
            [Registration { id: NodeId(-1), ..registration(4, 1) }, Registration { cores: 0, ..registration(4, 1) }]
        {
            let error = register(&image, &wrong, false).expect_err("cannot be");
            assert_eq!(error.code, ErrorCode::InvalidRegistration, "{error}");
        }
    }

    #[test]
    fn a_broker_that_may_have_lost_records_is_not_eligible_unless_nobody_else_is() {
        let settings = Settings { min_insync_replicas: 2, ..Settings::default() };
        let check = |elr: &[i32], kept_since, expect: &[i32]| {
            let image = cluster(3, &[parts(&[1, 2, 3], &[], elr)]);
            let wish = Registration { kept_since, ..registration(2, 9) };
            let (_, records) = plan_register(Fleet::of(&image, ME), &wish, false, &settings).expect("allowed");
            let state = records.iter().find_map(|record| match record {
                MetaRecord::PartitionChanged { state, .. } => Some(state.elr().collect()),
                _ => None,
            });
            assert_eq!(state.unwrap_or(nodes(elr)), nodes(expect));
        };
        // Nobody leads although 1 and 3 are there: so it is when all of them go at once.
        check(&[2], Some(BrokerEpoch(2)), &[2]);
        check(&[2], None, &[2]);
        let mut image = cluster(3, &[parts(&[2, 3], &[], &[2, 3])]);
        for id in [2, 3] {
            image.apply(&MetaRecord::BrokerFenced { id: NodeId(id) }).expect("there");
        }
        for (kept_since, expect) in
            [(Some(BrokerEpoch(2)), None), (Some(BrokerEpoch(1)), Some(nodes(&[3]))), (None, Some(nodes(&[3])))]
        {
            let wish = Registration { kept_since, ..registration(2, 9) };
            let (_, records) = plan_register(Fleet::of(&image, ME), &wish, false, &settings).expect("allowed");
            let elr = (records.len() == 2).then(|| only_change(&records[..1]).elr);
            assert_eq!(elr, expect, "{kept_since:?}");
        }
    }

    fn beat(id: i32, caught_up: bool, wants_shut_down: bool) -> Heartbeat {
        Heartbeat { id: NodeId(id), epoch: BrokerEpoch(id.into()), caught_up, wants_fence: false, wants_shut_down }
    }

    #[test]
    fn a_broker_comes_serves_and_goes() {
        let settings = Settings::default();
        let mut image = cluster(2, &[parts(&[2, 1], &[2, 1], &[])]);
        let mut step = |beat: &Heartbeat| {
            let (answer, records) = plan_heartbeat(Fleet::of(&image, ME), beat, &settings).expect("known");
            records.iter().for_each(|record| image.apply(record).expect("fits"));
            let state = image.states().next().expect("one").2.parts();
            (answer.fenced, answer.should_shut_down, state.leader.map_or(0, |leader| leader.0), state.isr.len())
        };
        assert_eq!(step(&beat(2, true, false)), (false, false, 2, 2));
        assert_eq!(step(&beat(2, true, true)), (false, false, 1, 1), "others lead first");
        assert_eq!(step(&beat(2, true, true)), (false, true, 1, 1));
        assert_eq!(step(&Heartbeat { wants_fence: true, ..beat(1, true, false) }), (true, false, 0, 0));
        assert_eq!(step(&beat(1, false, false)), (true, false, 0, 0));
        assert_eq!(step(&beat(1, true, true)), (true, true, 0, 0));
        assert_eq!(step(&beat(1, true, false)), (false, false, 1, 1));
        for wrong in [beat(3, true, false), Heartbeat { epoch: BrokerEpoch(9), ..beat(1, true, false) }] {
            let error = plan_heartbeat(Fleet::of(&image, ME), &wrong, &settings).expect_err("not known");
            assert_eq!(error.code, ErrorCode::StaleBrokerEpoch, "{error}");
        }
    }

    #[test]
    fn who_is_fenced_or_unregistered_leads_nothing() {
        let settings = Settings::default();
        let image = cluster(2, &[parts(&[1, 2], &[1, 2], &[]), parts(&[2], &[2], &[])]);
        let fleet = Fleet::of(&image, ME);
        let fenced = plan_fence(fleet, NodeId(2), &settings);
        assert_eq!(only_change(&fenced[..1]).isr, nodes(&[1]));
        let alone = PartitionParts { leader: None, ..parts(&[2], &[], &[2]) };
        let after = only_change(&fenced[1..2]);
        assert_eq!((after.leader, after.isr, after.elr), (alone.leader, alone.isr, alone.elr));
        assert_eq!(fenced[2..], [MetaRecord::BrokerFenced { id: NodeId(2) }]);
        let gone = plan_unregister(fleet, NodeId(2), &settings).expect("there");
        assert_eq!((&gone[..2], &gone[2]), (&fenced[..2], &MetaRecord::BrokerUnregistered { id: NodeId(2) }));
        assert_eq!(plan_fence(fleet, NodeId(3), &settings), []);
        let error = plan_unregister(fleet, NodeId(3), &settings).expect_err("not there");
        assert_eq!(error.code, ErrorCode::BrokerIdNotRegistered, "{error}");
    }
}
