//! Quotas as they are enforced: who has used how much, and whose connections are not read for a while.
//!
//! A client has credit, which grows by its rate up to what it may use in one second, and falls by what it uses. Once it
//! is below nothing the reply carries the time until it is not (KIP-219), and the connection is not read for as long.
//!
//! Two quotas are refused to whoever is beyond them: partitions made or deleted, which core 0 counts, to clients that
//! know the error code (KIP-599); and connections made from an address, which are closed when the next one may be made
//! (KIP-612).
//!
//! Each core counts for itself and tells the others every [`QUOTA_SHARE_MS`], so that a client has its whole quota
//! wherever its connections are, and not a share of it on each core. It may use more, by what it can in that time on
//! the other cores, and they take that off what it may use next.
//!
//! *Owns*: the credit of clients. *Never*: keeps one, or a connection, for ever: all that is remembered is bounded, and
//! forgotten when quotas change. *Runs on*: every core.

use std::collections::BTreeMap;
use std::mem;

use crate::base::ids::{ConnId, CoreId};
use crate::base::limits::{QUOTA_BUCKETS_MAX, QUOTA_CLIENT_ID_BYTES_MAX, QUOTA_SHARE_MS, THROTTLE_MS_MAX};
use crate::base::metric::Metric;
use crate::base::time::Instant;
use crate::broker::effect::Effects;
use crate::broker::job::Asker;
use crate::broker::message::{ShardMessage, TopicOutcome};
use crate::broker::session::ReplyTo;
use crate::broker::shard::{DeadlineKey, Request, Shard};
use crate::meta::quota::{ANONYMOUS, FoundQuota, QuotaKey};

/// How many seconds' worth a client that was idle may use at once.
const BURST_S: f64 = 1.0;

/// The same of what is counted in pieces (Kafka: `quota.window.num` and `controller.quota.window.num`, of a second).
const PIECES_BURST_S: f64 = 11.0;

/// How often room is looked for when all buckets are taken.
const SWEEP_MS: u64 = 1_000;

/// Who shares one quota.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Bucket {
    key: QuotaKey,
    by_user: bool,
    /// Client id or address. `None`: it does not matter, or there are too many.
    whose: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Meter {
    rate: f64,
    burst_s: f64,
    /// What is owed beyond is forgotten.
    owed_s_max: f64,
    credit: f64,
    at: Instant,
}

/// What a change of topics counts on, as core 0 gets it with the order.
#[derive(Clone, Debug)]
pub struct MutationQuota {
    bucket: Bucket,
    rate: f64,
    /// The client knows the error code for what is beyond; others are only slowed down.
    is_strict: bool,
}

#[derive(Debug, Default)]
pub struct Quotas {
    meters: BTreeMap<Bucket, Meter>,
    /// Used here, and not told to the other cores yet. Its buckets are among the meters.
    untold: BTreeMap<Bucket, f64>,
    /// When the present step began.
    now: Instant,
    sweep_due: Instant,
    /// When the handling of the present request began, if it is timed.
    began: Option<Instant>,
}

impl Meter {
    fn full(key: QuotaKey, rate: f64, now: Instant) -> Meter {
        let (burst_s, owed_s_max) = match key {
            QuotaKey::ProducerByteRate | QuotaKey::ConsumerByteRate | QuotaKey::RequestPercentage => {
                (BURST_S, THROTTLE_MS_MAX as f64 / 1e3)
            }
            QuotaKey::ControllerMutationRate | QuotaKey::ConnectionCreationRate => (PIECES_BURST_S, f64::INFINITY),
        };
        Meter { rate, burst_s, owed_s_max, credit: rate * burst_s, at: now }
    }

    /// Takes `amount` off; how long until nothing is owed.
    fn charge(&mut self, amount: f64, now: Instant) -> u64 {
        let passed_s = now.since_ns(self.at) as f64 / 1e9;
        self.at = self.at.max(now);
        let credit = (self.credit + self.rate * passed_s).min(self.rate * self.burst_s);
        self.credit = (credit - amount).max(-self.rate * self.owed_s_max);
        self.ms_until(0.0)
    }

    /// Takes `amount` off if all of it is there. Otherwise, how long until it is.
    fn try_charge(&mut self, amount: f64, now: Instant) -> Result<(), u64> {
        self.charge(0.0, now);
        if self.credit < amount {
            return Err(self.ms_until(amount));
        }
        self.charge(amount, now);
        Ok(())
    }

    fn ms_until(&self, credit: f64) -> u64 {
        ((credit - self.credit).max(0.0) / self.rate * 1e3).ceil() as u64
    }

    fn is_full(&mut self, now: Instant) -> bool {
        self.charge(0.0, now);
        self.credit >= self.rate * self.burst_s
    }
}

impl Quotas {
    /// Clients whose use is known.
    pub fn len(&self) -> usize {
        self.meters.len()
    }

    pub fn is_empty(&self) -> bool {
        self.meters.is_empty()
    }

    /// When the present step began.
    pub fn now(&self) -> Instant {
        self.now
    }

    pub fn start_step(&mut self, now: Instant) {
        self.now = now;
    }

    /// The meter of a client, in the bucket that has room for it.
    fn meter(&mut self, mut bucket: Bucket, rate: f64) -> (Bucket, &mut Meter) {
        let now = self.now;
        if !self.meters.contains_key(&bucket) && self.meters.len() >= QUOTA_BUCKETS_MAX {
            if self.sweep_due <= now {
                self.sweep_due = now.after_ms(SWEEP_MS);
                self.meters.retain(|_, meter| !meter.is_full(now));
            }
            if self.meters.len() >= QUOTA_BUCKETS_MAX {
                bucket.whose = None;
            }
        }
        let meter = self.meters.entry(bucket.clone()).or_insert_with(|| Meter::full(bucket.key, rate, now));
        meter.rate = rate;
        (bucket, meter)
    }

    /// Takes partitions that are to be made or deleted off their quota; for how long the client is to be throttled.
    /// Errors: the same, where it has used its quota up and is told so. Nothing was taken then.
    pub fn mutate(&mut self, quota: &MutationQuota, partitions: i32) -> Result<u64, u64> {
        let now = self.now;
        let (_, meter) = self.meter(quota.bucket.clone(), quota.rate);
        match meter.charge(0.0, now) {
            0 if quota.is_strict => {
                meter.charge(f64::from(partitions), now);
                Ok(0)
            }
            throttle_ms if quota.is_strict => Err(throttle_ms),
            _ => Ok(meter.charge(f64::from(partitions), now)),
        }
    }
}

impl Shard {
    /// Counts what a client has used, of whatever quota is for it, and throttles its connection when that was too much.
    pub(in crate::broker) fn charge(&mut self, to: ReplyTo, key: QuotaKey, amount: f64) {
        if !self.image.has_quotas() {
            return;
        }
        let Some((bucket, quota)) = self.quota_for(to, key) else { return };
        let now = self.quotas.now;
        let (bucket, meter) = self.quotas.meter(bucket, quota.rate);
        let throttle_ms = meter.charge(amount, now);
        self.note_used(bucket, amount);
        self.throttle(to, throttle_ms);
    }

    /// The client is told to wait, and its connection is not read meanwhile.
    pub(in crate::broker) fn throttle(&mut self, to: ReplyTo, throttle_ms: u64) {
        if throttle_ms > 0 {
            let throttle_ms = throttle_ms.min(THROTTLE_MS_MAX);
            self.metrics.add(Metric::ThrottledRequests, 1);
            self.metrics.add(Metric::ThrottleMs, throttle_ms);
            self.mute(to.conn, throttle_ms);
        }
    }

    /// The client waits as core 0 has counted.
    pub(in crate::broker) fn throttle_for(&mut self, asker: Asker, outcomes: &[TopicOutcome]) {
        self.throttle(asker.to, outcomes.iter().map(|outcome| outcome.throttle_ms).max().unwrap_or(0));
    }

    /// Counts a connection on the quota of its address. One beyond it is closed when there is room for the next, so
    /// that a client which connects again at once does not do so as often as it can.
    pub(in crate::broker) fn charge_connection(&mut self, conn: ConnId) {
        if !self.image.has_quotas() {
            return;
        }
        let host = self.sessions.host(conn).to_owned();
        let Some(rate) = self.image.connection_quota(&host) else { return };
        let bucket = Bucket { key: QuotaKey::ConnectionCreationRate, by_user: false, whose: Some(host) };
        let now = self.quotas.now;
        let (bucket, meter) = self.quotas.meter(bucket, rate);
        match meter.try_charge(1.0, now) {
            Ok(()) => self.note_used(bucket, 1.0),
            Err(wait_ms) => {
                self.metrics.add(Metric::ThrottledConnections, 1);
                self.sessions.refuse(conn);
                self.mute(conn, wait_ms);
            }
        }
    }

    /// What counts when topics are made or deleted, if anything does. From version `strict_from` on a client knows
    /// that it may be refused.
    pub(in crate::broker) fn mutation_quota(&self, asker: Asker, strict_from: i16) -> Option<MutationQuota> {
        if !self.image.has_quotas() {
            return None;
        }
        let (bucket, quota) = self.quota_for(asker.to, QuotaKey::ControllerMutationRate)?;
        Some(MutationQuota { bucket, rate: quota.rate, is_strict: asker.version >= strict_from })
    }

    /// Bytes that a client may fetch in one reply.
    pub(in crate::broker) fn fetch_quota_bytes(&self, to: ReplyTo) -> usize {
        let quota = self.image.has_quotas().then(|| self.quota_for(to, QuotaKey::ConsumerByteRate)).flatten();
        quota.map_or(usize::MAX, |(_, quota)| (quota.rate * BURST_S).max(1.0) as usize)
    }

    /// Notes who asks, and when, where quotas make it matter.
    pub(in crate::broker) fn begin_request(&mut self, request: &Request, effects: &mut Effects) {
        if self.image.has_quotas() {
            self.sessions.set_client_id(request.asker.to.conn, request.client_id.as_ref());
            let timed = self.quota_for(request.asker.to, QuotaKey::RequestPercentage).is_some();
            self.quotas.began = timed.then(|| effects.watch.read());
        }
    }

    /// The handler of a request has returned.
    pub(in crate::broker) fn end_request(&mut self, to: ReplyTo, effects: &mut Effects) {
        if let Some(began) = self.quotas.began.take() {
            let percent_s = effects.watch.read().since_ns(began) as f64 / 1e9 * 100.0;
            self.charge(to, QuotaKey::RequestPercentage, percent_s);
        }
    }

    /// Tells the other cores what was used here.
    pub(in crate::broker) fn share_quota_use(&mut self, effects: &mut Effects) {
        let used: Vec<(Bucket, f64)> = mem::take(&mut self.quotas.untold).into_iter().collect();
        let here = self.core();
        for core in (0..self.config.cores).map(CoreId).filter(|core| *core != here) {
            self.send(core, ShardMessage::QuotaUsed(used.clone()), effects);
        }
    }

    /// What clients have used on another core. One that is not known here has used nothing here.
    pub(in crate::broker) fn on_quota_used(&mut self, used: Vec<(Bucket, f64)>) {
        let now = self.quotas.now;
        for (bucket, amount) in used {
            if let Some(meter) = self.quotas.meters.get_mut(&bucket) {
                meter.charge(amount, now);
            }
        }
    }

    pub(in crate::broker) fn forget_quota_use(&mut self, effects: &mut Effects) {
        self.quotas.meters.clear();
        for (conn, until) in self.sessions.unmute_all(effects) {
            self.deadlines.clear(until, DeadlineKey::Unmute(conn));
        }
    }

    fn mute(&mut self, conn: ConnId, ms: u64) {
        if let Some((before, until)) = self.sessions.mute(conn, self.quotas.now.after_ms(ms)) {
            if let Some(before) = before {
                self.deadlines.clear(before, DeadlineKey::Unmute(conn));
            }
            self.deadlines.set(until, DeadlineKey::Unmute(conn));
        }
    }

    /// Has the other cores told soon.
    fn note_used(&mut self, bucket: Bucket, amount: f64) {
        if self.config.cores > 1 && amount > 0.0 {
            if self.quotas.untold.is_empty() {
                self.deadlines.set(self.quotas.now.after_ms(QUOTA_SHARE_MS), DeadlineKey::QuotaShare);
            }
            *self.quotas.untold.entry(bucket).or_default() += amount;
        }
    }

    fn quota_for(&self, to: ReplyTo, key: QuotaKey) -> Option<(Bucket, FoundQuota)> {
        let client_id = self.sessions.client_id(to.conn);
        let quota = self.image.quota(ANONYMOUS, client_id, key)?;
        let own = quota.by_client_id && client_id.len() <= QUOTA_CLIENT_ID_BYTES_MAX;
        let whose = own.then(|| client_id.to_owned());
        Some((Bucket { key, by_user: quota.by_user, whose }, quota))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant(0).after_ms(ms)
    }

    #[test]
    fn credit_grows_with_time_and_falls_with_use() {
        let mut meter = Meter::full(QuotaKey::ProducerByteRate, 100.0, at(0));
        // When, how much, and how long to wait then.
        for (ms, amount, expect) in [
            (0, 100.0, 0),
            (0, 50.0, 500),
            (250, 0.0, 250),
            (500, 0.0, 0),
            (500, 1.0, 10),
            (10_510, 100.0, 0),
            (10_510, 1e9, THROTTLE_MS_MAX),
            (10_510 + THROTTLE_MS_MAX, 0.0, 0),
        ] {
            assert_eq!(meter.charge(amount, at(ms)), expect, "{amount} at {ms} ms");
        }
    }

    #[test]
    fn what_is_counted_in_pieces_is_refused_until_it_is_paid() {
        let quota = |is_strict| {
            let bucket = Bucket { key: QuotaKey::ControllerMutationRate, by_user: false, whose: None };
            MutationQuota { bucket, rate: 2.0, is_strict }
        };
        let mut quotas = Quotas::default();
        // When, how many, whether one that knows the code asks, and what it is told.
        for (ms, partitions, is_strict, expect) in [
            (0, 22, true, Ok(0)),
            (0, 1000, true, Ok(0)),
            (0, 1, true, Err(500_000)),
            (499_999, 1, true, Err(1)),
            (500_000, 2, false, Ok(1_000)),
            (500_000, 0, false, Ok(1_000)),
            (501_000, 1, true, Ok(0)),
        ] {
            quotas.start_step(at(ms));
            assert_eq!(quotas.mutate(&quota(is_strict), partitions), expect, "{partitions} at {ms} ms");
        }
        let mut meter = Meter::full(QuotaKey::ConnectionCreationRate, 2.0, at(0));
        for (ms, expect) in std::iter::repeat_n((0, Ok(())), 22).chain([(0, Err(500)), (0, Err(500)), (500, Ok(()))]) {
            assert_eq!(meter.try_charge(1.0, at(ms)), expect, "at {ms} ms");
        }
    }

    #[test]
    fn many_clients_take_little_room() {
        let mut quotas = Quotas::default();
        let bucket =
            |id: usize| Bucket { key: QuotaKey::ProducerByteRate, by_user: false, whose: Some(id.to_string()) };
        for id in 0..3 * QUOTA_BUCKETS_MAX {
            let (_, meter) = quotas.meter(bucket(id), 10.0);
            meter.charge(100.0, Instant(0));
        }
        assert_eq!(quotas.len(), QUOTA_BUCKETS_MAX + 1);
        assert!(quotas.meter(bucket(5), 10.0).1.charge(0.0, Instant(0)) > 0);
        // Those who have paid make room.
        quotas.start_step(at(60_000));
        let (taken, _) = quotas.meter(bucket(usize::MAX), 10.0);
        assert_eq!((taken, quotas.len()), (bucket(usize::MAX), 1));
    }
}
