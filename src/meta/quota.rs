//! Client quotas: what they bound, whom they are for, and requests to change them, checked and turned into records.
//!
//! Rules and codes are Kafka's (KIP-13, KIP-124, KIP-546, KIP-599, KIP-612; `ClientQuotaControlManager`), but that an
//! address is never looked up. Nobody authenticates yet, so every user is [`ANONYMOUS`].
//!
//! *Owns*: the rules, and whose quota counts where several fit. *Never*: measures. *Runs on*: core 0 plans; every core
//! looks up.

use core::net::IpAddr;
use std::collections::BTreeMap;

use super::controller::{MetaError, refuse};
use super::image::Image;
use super::record::MetaRecord;
use crate::base::limits::{CONFIG_NAME_BYTES_MAX, META_CONFIGS_BYTES_MAX};
use crate::wire::errors::ErrorCode;

/// The user of every connection.
pub const ANONYMOUS: &str = "ANONYMOUS";

/// What a quota bounds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum QuotaKey {
    /// Bytes of Produce requests, per second.
    ProducerByteRate = 1,
    /// Record bytes of Fetch replies, per second.
    ConsumerByteRate = 2,
    /// Time of the cores: 100 is one core, all of the time.
    RequestPercentage = 3,
    /// Partitions made or deleted, per second.
    ControllerMutationRate = 4,
    /// Connections made, per second; of addresses.
    ConnectionCreationRate = 5,
}

impl QuotaKey {
    pub const ALL: [QuotaKey; 5] = [
        QuotaKey::ProducerByteRate,
        QuotaKey::ConsumerByteRate,
        QuotaKey::RequestPercentage,
        QuotaKey::ControllerMutationRate,
        QuotaKey::ConnectionCreationRate,
    ];

    pub fn name(self) -> &'static str {
        match self {
            QuotaKey::ProducerByteRate => "producer_byte_rate",
            QuotaKey::ConsumerByteRate => "consumer_byte_rate",
            QuotaKey::RequestPercentage => "request_percentage",
            QuotaKey::ControllerMutationRate => "controller_mutation_rate",
            QuotaKey::ConnectionCreationRate => "connection_creation_rate",
        }
    }

    /// The largest value, where Kafka's type is a whole number.
    fn whole_max(self) -> Option<f64> {
        match self {
            QuotaKey::ProducerByteRate | QuotaKey::ConsumerByteRate => Some(i64::MAX as f64),
            QuotaKey::ConnectionCreationRate => Some(f64::from(i32::MAX)),
            QuotaKey::RequestPercentage | QuotaKey::ControllerMutationRate => None,
        }
    }

    fn is_of_addresses(self) -> bool {
        self == QuotaKey::ConnectionCreationRate
    }
}

/// One side of an entity.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum EntityName {
    /// Whoever has no quota by name.
    Default,
    Name(String),
}

/// Whom quotas are for. Invariant: has at least one side, and an address stands alone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct QuotaEntity {
    pub user: Option<EntityName>,
    pub client_id: Option<EntityName>,
    pub ip: Option<EntityName>,
}

/// Values by what they bound, as bits of a floating-point number, so that they compare.
pub type QuotaValues = BTreeMap<QuotaKey, u64>;

/// A quota that counts for somebody.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct FoundQuota {
    pub rate: f64,
    /// Whether each user, and each client id, has it alone, or all together.
    pub by_user: bool,
    pub by_client_id: bool,
}

/// A wish to change the quotas of one entity.
#[derive(Clone, PartialEq, Debug)]
pub struct QuotaWish {
    pub entity: QuotaEntity,
    /// Name and value; `None` takes it back.
    pub ops: Vec<(String, Option<f64>)>,
}

impl Image {
    /// The quota that counts for a client: the first of Kafka's order that says anything of `key`.
    pub fn quota(&self, user: &str, client_id: &str, key: QuotaKey) -> Option<FoundQuota> {
        let sides = |name: &str| [Some(EntityName::Name(name.to_owned())), Some(EntityName::Default), None];
        for user in sides(user) {
            for client_id in sides(client_id) {
                let entity = QuotaEntity { user: user.clone(), client_id, ip: None };
                if let Some(rate) = self.quotas_of(&entity).and_then(|values| values.get(&key)) {
                    let (by_user, by_client_id) = (entity.user.is_some(), entity.client_id.is_some());
                    return Some(FoundQuota { rate: f64::from_bits(*rate), by_user, by_client_id });
                }
            }
        }
        None
    }

    /// How many connections a second an address may make.
    pub fn connection_quota(&self, address: &str) -> Option<f64> {
        let find = |name| {
            let entity = QuotaEntity { ip: Some(name), ..QuotaEntity::default() };
            self.quotas_of(&entity)?.get(&QuotaKey::ConnectionCreationRate)
        };
        let rate = find(EntityName::Name(address.to_owned())).or_else(|| find(EntityName::Default))?;
        Some(f64::from_bits(*rate))
    }
}

/// Checks a change. No record: it changes nothing.
pub fn plan_quota_change(image: &Image, wish: &QuotaWish) -> Result<Vec<MetaRecord>, MetaError> {
    check_entity(&wish.entity)?;
    let before = image.quotas_of(&wish.entity).cloned().unwrap_or_default();
    let mut values = before.clone();
    for (name, value) in &wish.ops {
        let key = check_value(name, *value, wish.entity.ip.is_some())?;
        match value {
            Some(value) => drop(values.insert(key, value.to_bits())),
            None => drop(values.remove(&key)),
        }
    }
    if values == before {
        return Ok(Vec::new());
    }
    if !values.is_empty() && image.configs_bytes() > META_CONFIGS_BYTES_MAX {
        return refuse(ErrorCode::PolicyViolation, "Quotas take all the space there is for them: delete some first.");
    }
    Ok(vec![MetaRecord::QuotaChanged { entity: wish.entity.clone(), values }])
}

fn check_entity(entity: &QuotaEntity) -> Result<(), MetaError> {
    let of_client = entity.user.is_some() || entity.client_id.is_some();
    if of_client == entity.ip.is_some() {
        return refuse(ErrorCode::InvalidRequest, "A quota is for a user, a client id, or both; or for an address.");
    }
    if let Some(EntityName::Name(name)) = &entity.ip {
        return check_address(name);
    }
    for side in [&entity.user, &entity.client_id] {
        if let Some(EntityName::Name(name)) = side
            && (name.is_empty() || name.len() > CONFIG_NAME_BYTES_MAX)
        {
            let message = format!("A name has 1 to {CONFIG_NAME_BYTES_MAX} bytes; no name stands for the default.");
            return refuse(ErrorCode::InvalidRequest, message);
        }
    }
    Ok(())
}

/// In the form in which the addresses of connections are compared with it.
fn check_address(name: &str) -> Result<(), MetaError> {
    let Ok(address) = name.parse::<IpAddr>() else {
        return refuse(ErrorCode::InvalidRequest, format!("{name:?} is no IP address."));
    };
    let plain = address.to_canonical().to_string();
    if plain != name {
        return refuse(ErrorCode::InvalidRequest, format!("The address {name} is to be written as {plain}."));
    }
    Ok(())
}

fn check_value(name: &str, value: Option<f64>, of_address: bool) -> Result<QuotaKey, MetaError> {
    let mut keys = QuotaKey::ALL.into_iter().filter(|key| key.is_of_addresses() == of_address);
    let Some(key) = keys.clone().find(|key| key.name() == name) else {
        let names: Vec<&str> = keys.by_ref().map(QuotaKey::name).collect();
        let (whose, names) = (if of_address { "an address" } else { "users and client ids" }, names.join(", "));
        return refuse(ErrorCode::InvalidRequest, format!("There is no quota {name:?} of {whose}, only {names}."));
    };
    let Some(value) = value else { return Ok(key) };
    if !(value.is_finite() && value > 0.0) {
        return refuse(ErrorCode::InvalidRequest, format!("{name} must be greater than 0, not {value}."));
    }
    if let Some(most) = key.whole_max()
        && (value.fract() != 0.0 || value > most)
    {
        return refuse(
            ErrorCode::InvalidRequest,
            format!("{name} must be a whole number, {most} at most, not {value}."),
        );
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(name: &str) -> Option<EntityName> {
        match name {
            "" => None,
            "*" => Some(EntityName::Default),
            name => Some(EntityName::Name(name.into())),
        }
    }

    fn wish(user: &str, client_id: &str, name: &str, value: Option<f64>) -> QuotaWish {
        let entity = QuotaEntity { user: side(user), client_id: side(client_id), ip: None };
        QuotaWish { entity, ops: vec![(name.into(), value)] }
    }

    fn of_address(ip: &str, name: &str, value: f64) -> QuotaWish {
        let entity = QuotaEntity { ip: side(ip), ..QuotaEntity::default() };
        QuotaWish { entity, ops: vec![(name.into(), Some(value))] }
    }

    fn set(image: &mut Image, wish: &QuotaWish) {
        let records = plan_quota_change(image, wish).unwrap_or_else(|error| panic!("{error}"));
        records.iter().for_each(|record| image.apply(record).expect("a plan fits"));
    }

    #[test]
    fn the_most_particular_quota_counts() {
        // Kafka's order, the last first.
        let order = [("", "*"), ("", "c"), ("*", ""), ("*", "*"), ("*", "c"), ("u", ""), ("u", "*"), ("u", "c")];
        let mut image = Image::default();
        assert_eq!(image.quota("u", "c", QuotaKey::ProducerByteRate), None);
        for (rate, (user, client_id)) in (1..).zip(order) {
            let rate = f64::from(rate);
            set(&mut image, &wish(user, client_id, "producer_byte_rate", Some(rate)));
            let (by_user, by_client_id) = (!user.is_empty(), !client_id.is_empty());
            let found = image.quota("u", "c", QuotaKey::ProducerByteRate);
            assert_eq!(found, Some(FoundQuota { rate, by_user, by_client_id }), "{user}/{client_id}");
            assert_eq!(image.quota("u", "c", QuotaKey::ConsumerByteRate), None);
        }
        assert_eq!(image.quota("other", "other", QuotaKey::ProducerByteRate).map(|found| found.rate), Some(4.0));
        for (user, client_id) in order {
            set(&mut image, &wish(user, client_id, "producer_byte_rate", None));
        }
        assert_eq!((image.quotas().count(), image.configs_bytes()), (0, 0));
    }

    #[test]
    fn an_address_has_its_own_quota_or_the_default() {
        let mut image = Image::default();
        let rates = |image: &Image| [image.connection_quota("10.0.0.1"), image.connection_quota("::1")];
        assert_eq!(rates(&image), [None, None]);
        set(&mut image, &of_address("*", "connection_creation_rate", 5.0));
        assert_eq!(rates(&image), [Some(5.0), Some(5.0)]);
        set(&mut image, &of_address("::1", "connection_creation_rate", 9.0));
        assert_eq!(rates(&image), [Some(5.0), Some(9.0)]);
        assert_eq!(image.quota("u", "c", QuotaKey::ConnectionCreationRate), None);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let image = Image::default();
        let check = |wish: QuotaWish, part: &str| {
            let error = plan_quota_change(&image, &wish).expect_err(part);
            assert_eq!(error.code, ErrorCode::InvalidRequest);
            assert!(error.message.contains(part), "{error}");
        };
        let rate = "producer_byte_rate";
        check(wish("", "", rate, Some(1.0)), "for a user, a client id, or both");
        check(wish(&"u".repeat(1025), "", rate, Some(1.0)), "1 to 1024 bytes");
        let nameless = QuotaEntity { user: Some(EntityName::Name(String::new())), ..QuotaEntity::default() };
        check(QuotaWish { entity: nameless, ops: Vec::new() }, "1 to 1024 bytes");
        check(wish("u", "", "rate", Some(1.0)), "only producer_byte_rate, consumer_byte_rate");
        check(wish("u", "", "connection_creation_rate", Some(1.0)), "of users and client ids, only producer_byte_rate");
        check(of_address("*", rate, 1.0), "of an address, only connection_creation_rate.");
        check(of_address("host", "connection_creation_rate", 1.0), "is no IP address");
        check(of_address("0::1", "connection_creation_rate", 1.0), "is to be written as ::1");
        check(of_address("*", "connection_creation_rate", 3e9), "2147483647 at most");
        let mut mixed = of_address("*", "connection_creation_rate", 1.0);
        mixed.entity.user = side("u");
        check(mixed, "or for an address");
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            check(wish("u", "", rate, Some(value)), "greater than 0");
        }
        check(wish("u", "", rate, Some(1.5)), "whole number");
        check(wish("u", "", rate, Some(1e300)), "whole number");
        assert!(plan_quota_change(&image, &wish("u", "", "request_percentage", Some(0.5))).is_ok());
        assert_eq!(plan_quota_change(&image, &wish("u", "", rate, None)), Ok(Vec::new()));
    }
}
