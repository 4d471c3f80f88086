//! What clients measure, as the broker asks for it and keeps it (KIP-714; Kafka's `ClientMetricsManager`).
//!
//! The id of a client's subscription follows from the settings and the client's own id, so that any core, and a broker
//! that has just started, takes what a client pushes for a subscription it got elsewhere. How often a client pushes is
//! known to the core that it pushes to.
//!
//! *Owns*: the subscriptions of the core's clients, and the values they pushed last. *Never*: keeps them all: the number
//! of clients and the memory of their values are bounded, and the longest silent go first. *Runs on*: every core, for
//! the connections it accepted.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::checksum::crc32c;
use crate::base::ids::ClientInstanceId;
use crate::base::limits::{TELEMETRY_BYTES_MAX, TELEMETRY_CLIENTS_MAX, TELEMETRY_SILENCE_MS};
use crate::base::time::{Instant, Now};
use crate::broker::shard::{DeadlineKey, Shard};
use crate::config::{ClientAttribute, INTERVAL_MS_DEFAULT, MetricsSubscription, Overrides};
use crate::wire::compression::Compression;
use crate::wire::errors::ErrorCode;
use crate::wire::otlp::Measured;

/// How often silent clients are looked for.
const SWEEP_MS: u64 = 60_000;

/// A client, as its connection and its requests tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientDescription {
    pub instance: ClientInstanceId,
    pub client_id: String,
    pub software_name: String,
    pub software_version: String,
    pub address: String,
    pub port: u16,
}

/// What a client has pushed last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientMetrics {
    pub client: ClientDescription,
    pub pushed_at: Instant,
    pub measured: Measured,
}

/// What a client is to push, and how often.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscription {
    pub id: i32,
    /// Prefixes of names, in order; `*` alone for all.
    pub metrics: Vec<String>,
    pub interval_ms: u32,
}

/// A push before its values are read.
#[derive(Clone, Copy, Debug)]
pub struct Push {
    pub subscription_id: i32,
    pub is_terminating: bool,
    pub compression_type: i8,
    pub bytes: usize,
    pub bytes_max: usize,
}

#[derive(Debug, Default)]
pub struct Telemetry {
    by_name: BTreeMap<String, MetricsSubscription>,
    /// How often `by_name` has changed.
    changes: u64,
    clients: BTreeMap<ClientInstanceId, Client>,
    /// Invariant: the sum over the values of `clients`.
    values_bytes: usize,
    /// A time is set at which silent clients are looked for.
    is_watched: bool,
}

#[derive(Debug)]
struct Client {
    /// [`Telemetry::changes`] when the subscription was made.
    changes: u64,
    subscription: Subscription,
    seen_at: Instant,
    got_at: Option<Instant>,
    pushed_at: Option<Instant>,
    /// Its last push was refused for what a new answer to its question tells: it may ask at once.
    must_ask: bool,
    is_terminated: bool,
    pushed: Option<Arc<ClientMetrics>>,
}

impl Telemetry {
    /// A subscription has these settings now; none: there is none.
    pub fn on_subscription(&mut self, name: &str, settings: &Overrides) {
        self.changes += 1;
        self.by_name.remove(name);
        if settings.is_empty() {
            return;
        }
        match MetricsSubscription::resolve(settings) {
            Ok(subscription) => drop(self.by_name.insert(name.to_owned(), subscription)),
            Err(error) => tracing::warn!("the subscription {name} to metrics does not count any more: {error}"),
        }
    }

    /// A client asks what it is to push. Errors: THROTTLING_QUOTA_EXCEEDED, sooner than it has to.
    pub fn subscribe(&mut self, client: &ClientDescription, now: Instant) -> Result<&Subscription, ErrorCode> {
        let client = self.client(client, now);
        let is_due = match client.got_at.max(client.pushed_at) {
            Some(last) => now >= last.after_ms(client.subscription.interval_ms.into()),
            None => true,
        };
        if !is_due && !client.must_ask {
            return Err(ErrorCode::ThrottlingQuotaExceeded);
        }
        client.got_at = Some(now);
        client.must_ask = false;
        Ok(&client.subscription)
    }

    /// Whether the values of a push may be read. Errors are Kafka's, and nothing is kept then.
    pub fn check_push(&mut self, client: &ClientDescription, push: &Push, now: Instant) -> Result<(), ErrorCode> {
        let client = self.client(client, now);
        let checked = client.check_push(push, now);
        client.is_terminated = push.is_terminating;
        client.must_ask =
            matches!(checked, Err(ErrorCode::UnknownSubscriptionId | ErrorCode::UnsupportedCompressionType));
        checked
    }

    /// Keeps the values of a push in the place of those before.
    pub fn put(&mut self, client: ClientDescription, measured: Measured, now: Instant) {
        let Some(known) = self.clients.get_mut(&client.instance) else { return };
        self.values_bytes += measured.bytes;
        let pushed = Arc::new(ClientMetrics { client, pushed_at: now, measured });
        if let Some(before) = known.pushed.replace(pushed) {
            self.values_bytes -= before.measured.bytes;
        }
        while self.values_bytes > TELEMETRY_BYTES_MAX {
            let with_values = self.clients.values_mut().filter(|client| client.pushed.is_some());
            let Some(oldest) = with_values.min_by_key(|client| client.pushed_at) else { return };
            let values = oldest.pushed.take().map_or(0, |pushed| pushed.measured.bytes);
            self.values_bytes -= values;
        }
    }

    /// Forgets clients that have been silent. True: others are left.
    pub fn sweep(&mut self, now: Instant) -> bool {
        let silent: Vec<ClientInstanceId> =
            self.clients.iter().filter(|(_, client)| client.is_silent(now)).map(|(id, _)| *id).collect();
        silent.into_iter().for_each(|id| self.forget(id));
        !self.clients.is_empty()
    }

    /// Clients that are known.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// What they have pushed last.
    pub fn pushed(&self) -> impl Iterator<Item = &Arc<ClientMetrics>> {
        self.clients.values().filter_map(|client| client.pushed.as_ref())
    }

    /// The client as it is known, with the subscription that it has by the present settings.
    fn client(&mut self, description: &ClientDescription, now: Instant) -> &mut Client {
        let id = description.instance;
        let stale = self.clients.get(&id).is_none_or(|client| client.changes != self.changes);
        if stale {
            if !self.clients.contains_key(&id) && self.clients.len() >= TELEMETRY_CLIENTS_MAX {
                let silent = self.clients.iter().min_by_key(|(_, client)| client.seen_at).map(|(id, _)| *id);
                silent.into_iter().for_each(|id| self.forget(id));
            }
            let pushed = self.clients.remove(&id).and_then(|client| client.pushed);
            let fresh = Client {
                changes: self.changes,
                subscription: self.subscription(description),
                seen_at: now,
                got_at: None,
                pushed_at: None,
                must_ask: false,
                is_terminated: false,
                pushed,
            };
            self.clients.insert(id, fresh);
        }
        let client = self.clients.get_mut(&id).expect("it was there, or put there");
        client.seen_at = now;
        client
    }

    fn subscription(&self, client: &ClientDescription) -> Subscription {
        let of_client = self.by_name.values().filter(|subscription| subscription.matches(|of| client.attribute(of)));
        let (mut metrics, mut interval_ms, mut all) = (Vec::new(), INTERVAL_MS_DEFAULT, false);
        for subscription in of_client {
            all |= subscription.is_of_all_metrics();
            interval_ms = interval_ms.min(subscription.interval_ms);
            metrics.extend(subscription.metrics.iter().cloned());
        }
        if all {
            metrics = vec!["*".to_owned()];
        }
        metrics.sort_unstable();
        metrics.dedup();
        Subscription { id: subscription_id(&metrics, interval_ms, client.instance), metrics, interval_ms }
    }

    fn forget(&mut self, id: ClientInstanceId) {
        let pushed = self.clients.remove(&id).and_then(|client| client.pushed);
        self.values_bytes -= pushed.map_or(0, |pushed| pushed.measured.bytes);
    }
}

impl Client {
    /// In Kafka's order.
    fn check_push(&mut self, push: &Push, now: Instant) -> Result<(), ErrorCode> {
        if self.is_terminated {
            return Err(ErrorCode::InvalidRequest);
        }
        let is_due = match self.pushed_at {
            // The first one after a question may come at any time.
            Some(last) => self.got_at > Some(last) || now >= last.after_ms(self.subscription.interval_ms.into()),
            None => true,
        };
        if is_due {
            self.pushed_at = Some(now);
        } else if !push.is_terminating {
            return Err(ErrorCode::ThrottlingQuotaExceeded);
        }
        if push.subscription_id != self.subscription.id {
            return Err(ErrorCode::UnknownSubscriptionId);
        }
        if Compression::from_id(push.compression_type.into()).is_none() {
            return Err(ErrorCode::UnsupportedCompressionType);
        }
        if push.bytes > push.bytes_max {
            return Err(ErrorCode::TelemetryTooLarge);
        }
        Ok(())
    }

    fn is_silent(&self, now: Instant) -> bool {
        let most = TELEMETRY_SILENCE_MS.max(3 * u64::from(self.subscription.interval_ms));
        now >= self.seen_at.after_ms(most)
    }
}

impl ClientDescription {
    fn attribute(&self, of: ClientAttribute) -> String {
        match of {
            ClientAttribute::InstanceId => self.instance.to_string(),
            ClientAttribute::ClientId => self.client_id.clone(),
            ClientAttribute::SoftwareName => self.software_name.clone(),
            ClientAttribute::SoftwareVersion => self.software_version.clone(),
            ClientAttribute::SourceAddress => self.address.clone(),
            ClientAttribute::SourcePort => self.port.to_string(),
        }
    }
}

impl Shard {
    /// There is a client to be forgotten, some time.
    pub(in crate::broker) fn watch_telemetry(&mut self, now: Now) {
        if !self.telemetry.is_watched {
            self.telemetry.is_watched = true;
            self.deadlines.set(now.mono.after_ms(SWEEP_MS), DeadlineKey::Telemetry);
        }
    }

    pub(in crate::broker) fn forget_silent_clients(&mut self, now: Now) {
        self.telemetry.is_watched = false;
        if self.telemetry.sweep(now.mono) {
            self.watch_telemetry(now);
        }
    }
}

/// As Kafka computes it, but that its metrics come in the order of a hash table: a checksum of what is wanted, with the
/// id's Java hash code in it.
fn subscription_id(metrics: &[String], interval_ms: u32, client: ClientInstanceId) -> i32 {
    let wanted = format!("[{}]{interval_ms}", metrics.join(", "));
    let bits = u128::from_be_bytes(client.0);
    let halves = (bits >> 64) as u64 ^ bits as u64;
    (crc32c(wanted.as_bytes()) ^ (halves >> 32) as u32 ^ halves as u32) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use ErrorCode::{
        InvalidRequest, TelemetryTooLarge, ThrottlingQuotaExceeded, UnknownSubscriptionId, UnsupportedCompressionType,
    };

    fn at(ms: u64) -> Instant {
        Instant(0).after_ms(ms)
    }

    fn client(number: u32) -> ClientDescription {
        let mut instance = [7; 16];
        instance[12..].copy_from_slice(&number.to_be_bytes());
        ClientDescription {
            instance: ClientInstanceId(instance),
            client_id: format!("client-{number}"),
            software_name: "librdkafka".into(),
            software_version: "2.12.1".into(),
            address: "10.0.0.1".into(),
            port: 40_000,
        }
    }

    fn settings(rows: &[(&str, &str)]) -> Overrides {
        rows.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    /// Every client pushes everything each second.
    fn telemetry() -> Telemetry {
        let mut telemetry = Telemetry::default();
        telemetry.on_subscription("all", &settings(&[("metrics", "*"), ("interval.ms", "1000")]));
        telemetry
    }

    fn push(subscription_id: i32) -> Push {
        Push { subscription_id, is_terminating: false, compression_type: 0, bytes: 10, bytes_max: 10 }
    }

    fn values(bytes: usize) -> Measured {
        Measured { bytes, ..Measured::default() }
    }

    #[test]
    fn overlapping_subscriptions_are_one() {
        let mut telemetry = Telemetry::default();
        let got = |telemetry: &mut Telemetry, number: u32| {
            let got = telemetry.subscribe(&client(number), at(0)).expect("the first question, or a new answer");
            (got.metrics.join(" "), got.interval_ms)
        };
        assert_eq!(got(&mut telemetry, 1), (String::new(), 300_000));
        telemetry.on_subscription("b", &settings(&[("metrics", "b,a"), ("interval.ms", "2000")]));
        telemetry.on_subscription("a", &settings(&[("metrics", "a"), ("match", "client_id=client-1")]));
        assert_eq!(got(&mut telemetry, 1), ("a b".into(), 2_000));
        telemetry.on_subscription("all", &settings(&[("metrics", "c,*"), ("match", "client_id=client-2")]));
        assert_eq!(got(&mut telemetry, 2), ("*".into(), 2_000));
        assert_eq!(got(&mut telemetry, 1), ("a b".into(), 2_000));
        telemetry.on_subscription("b", &settings(&[]));
        assert_eq!(got(&mut telemetry, 1), ("a".into(), 300_000));
    }

    #[test]
    fn a_subscription_has_kafkas_id() {
        // Of `[*]1000`, and of an id whose hash code was computed by hand.
        let id = ClientInstanceId([0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 8]);
        assert_eq!(subscription_id(&["*".into()], 1_000, id), (crc32c(b"[*]1000") ^ 15) as i32);
        assert_eq!(subscription_id(&["a".into(), "b".into()], 5, id), (crc32c(b"[a, b]5") ^ 15) as i32);
    }

    #[test]
    fn questions_and_pushes_have_their_times() {
        let mut telemetry = telemetry();
        let (client, id) = (client(1), telemetry.subscription(&client(1)).id);
        let ask = |telemetry: &mut Telemetry, ms| telemetry.subscribe(&client, at(ms)).map(|got| got.id);
        let push = |telemetry: &mut Telemetry, ms| telemetry.check_push(&client, &push(id), at(ms));
        assert_eq!(ask(&mut telemetry, 0), Ok(id));
        assert_eq!(ask(&mut telemetry, 999), Err(ThrottlingQuotaExceeded));
        assert_eq!(push(&mut telemetry, 10), Ok(()), "the first after a question");
        assert_eq!(push(&mut telemetry, 1_009), Err(ThrottlingQuotaExceeded));
        assert_eq!(push(&mut telemetry, 1_010), Ok(()));
        assert_eq!(ask(&mut telemetry, 2_009), Err(ThrottlingQuotaExceeded));
        assert_eq!(ask(&mut telemetry, 2_010), Ok(id));
        assert_eq!(push(&mut telemetry, 2_011), Ok(()));
        // The settings change: everybody may ask, and must.
        telemetry.on_subscription("all", &settings(&[("metrics", "a"), ("interval.ms", "1000")]));
        assert_eq!(push(&mut telemetry, 2_012), Err(UnknownSubscriptionId));
        assert!(ask(&mut telemetry, 2_013).is_ok_and(|new| new != id));
        // Unknown here, as after a restart or on another core.
        let mut other = Telemetry::default();
        other.on_subscription("other name", &settings(&[("metrics", "*"), ("interval.ms", "1000")]));
        assert_eq!(push(&mut other, 0), Ok(()));
    }

    #[test]
    fn pushes_are_refused_as_in_kafka() {
        let id = telemetry().subscription(&client(1)).id;
        let check = |push: Push, expect, may_ask: bool| {
            let mut telemetry = telemetry();
            telemetry.subscribe(&client(1), at(0)).expect("the first question");
            assert_eq!(telemetry.check_push(&client(1), &push, at(1)), expect, "{push:?}");
            assert_eq!(telemetry.subscribe(&client(1), at(2)).is_ok(), may_ask, "{push:?}");
        };
        check(push(id), Ok(()), false);
        check(push(id + 1), Err(UnknownSubscriptionId), true);
        check(Push { compression_type: 5, ..push(id) }, Err(UnsupportedCompressionType), true);
        check(Push { compression_type: -1, ..push(id) }, Err(UnsupportedCompressionType), true);
        check(Push { bytes: 11, ..push(id) }, Err(TelemetryTooLarge), false);
        check(Push { compression_type: 4, ..push(id) }, Ok(()), false);
        let mut telemetry = telemetry();
        let last = Push { is_terminating: true, ..push(id) };
        assert_eq!(telemetry.check_push(&client(1), &push(id), at(0)), Ok(()));
        assert_eq!(telemetry.check_push(&client(1), &last, at(1)), Ok(()), "whenever it comes");
        assert_eq!(telemetry.check_push(&client(1), &last, at(5_000)), Err(InvalidRequest));
    }

    #[test]
    fn silent_clients_and_old_values_go() {
        let mut telemetry = telemetry();
        let put = |telemetry: &mut Telemetry, number: u32, ms: u64, bytes: usize| {
            let id = telemetry.subscription(&client(number)).id;
            telemetry.check_push(&client(number), &push(id), at(ms)).expect("in time");
            telemetry.put(client(number), values(bytes), at(ms));
        };
        let held =
            |telemetry: &Telemetry| -> Vec<usize> { telemetry.pushed().map(|pushed| pushed.measured.bytes).collect() };
        put(&mut telemetry, 1, 0, TELEMETRY_BYTES_MAX / 2);
        put(&mut telemetry, 2, 1_000, 7);
        put(&mut telemetry, 1, 1_001, TELEMETRY_BYTES_MAX / 2);
        put(&mut telemetry, 3, 2_000, TELEMETRY_BYTES_MAX / 2);
        assert_eq!(held(&telemetry), [TELEMETRY_BYTES_MAX / 2, TELEMETRY_BYTES_MAX / 2]);
        assert!(telemetry.sweep(at(60_999)));
        assert_eq!(telemetry.clients(), 3);
        assert!(telemetry.sweep(at(61_999)));
        assert_eq!((telemetry.clients(), telemetry.values_bytes), (1, TELEMETRY_BYTES_MAX / 2));
        assert!(!telemetry.sweep(at(62_000)));
        assert_eq!(telemetry.values_bytes, 0);
        for number in 0..TELEMETRY_CLIENTS_MAX as u32 + 10 {
            put(&mut telemetry, number, u64::from(number), 1);
        }
        assert_eq!((telemetry.clients(), telemetry.values_bytes), (TELEMETRY_CLIENTS_MAX, TELEMETRY_CLIENTS_MAX));
        assert!(!telemetry.clients.contains_key(&client(9).instance));
    }
}
