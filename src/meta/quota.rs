//! Client quotas: what they bound, whom they are for, and requests to change them, checked and turned into records.
//!
//! Rules and codes are Kafka's (KIP-13, KIP-124, KIP-546, KIP-599; `ClientQuotaControlManager`). Nobody authenticates
//! yet, so every user is [`ANONYMOUS`]; quotas for addresses are refused.
//!
//! *Owns*: the rules, and whose quota counts where several fit. *Never*: measures. *Runs on*: core 0 plans; every core
//! looks up.

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
}

impl QuotaKey {
    pub const ALL: [QuotaKey; 4] = [
        QuotaKey::ProducerByteRate,
        QuotaKey::ConsumerByteRate,
        QuotaKey::RequestPercentage,
        QuotaKey::ControllerMutationRate,
    ];

    pub fn name(self) -> &'static str {
        match self {
            QuotaKey::ProducerByteRate => "producer_byte_rate",
            QuotaKey::ConsumerByteRate => "consumer_byte_rate",
            QuotaKey::RequestPercentage => "request_percentage",
            QuotaKey::ControllerMutationRate => "controller_mutation_rate",
        }
    }

    /// Kafka's type of these is a whole number.
    fn is_whole(self) -> bool {
        matches!(self, QuotaKey::ProducerByteRate | QuotaKey::ConsumerByteRate)
    }
}

/// One side of an entity.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum EntityName {
    /// Whoever has no quota by name.
    Default,
    Name(String),
}

/// Whom quotas are for. Invariant: has at least one side.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct QuotaEntity {
    pub user: Option<EntityName>,
    pub client_id: Option<EntityName>,
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
                let entity = QuotaEntity { user: user.clone(), client_id };
                if let Some(rate) = self.quotas_of(&entity).and_then(|values| values.get(&key)) {
                    let (by_user, by_client_id) = (entity.user.is_some(), entity.client_id.is_some());
                    return Some(FoundQuota { rate: f64::from_bits(*rate), by_user, by_client_id });
                }
            }
        }
        None
    }
}

/// Checks a change. No record: it changes nothing.
pub fn plan_quota_change(image: &Image, wish: &QuotaWish) -> Result<Vec<MetaRecord>, MetaError> {
    check_entity(&wish.entity)?;
    let before = image.quotas_of(&wish.entity).cloned().unwrap_or_default();
    let mut values = before.clone();
    for (name, value) in &wish.ops {
        let key = check_value(name, *value)?;
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
    if entity.user.is_none() && entity.client_id.is_none() {
        return refuse(ErrorCode::InvalidRequest, "A quota is for a user, a client id, or both.");
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

fn check_value(name: &str, value: Option<f64>) -> Result<QuotaKey, MetaError> {
    let Some(key) = QuotaKey::ALL.into_iter().find(|key| key.name() == name) else {
        let names = QuotaKey::ALL.map(QuotaKey::name).join(", ");
        return refuse(ErrorCode::InvalidRequest, format!("There is no quota {name:?}, only {names}."));
    };
    let Some(value) = value else { return Ok(key) };
    if !(value.is_finite() && value > 0.0) {
        return refuse(ErrorCode::InvalidRequest, format!("{name} must be greater than 0, not {value}."));
    }
    if key.is_whole() && (value.fract() != 0.0 || value > i64::MAX as f64) {
        return refuse(ErrorCode::InvalidRequest, format!("{name} must be a whole number of bytes, not {value}."));
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
        let entity = QuotaEntity { user: side(user), client_id: side(client_id) };
        QuotaWish { entity, ops: vec![(name.into(), value)] }
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
        let nameless = QuotaEntity { user: Some(EntityName::Name(String::new())), client_id: None };
        check(QuotaWish { entity: nameless, ops: Vec::new() }, "1 to 1024 bytes");
        check(wish("u", "", "rate", Some(1.0)), "only producer_byte_rate, consumer_byte_rate");
        check(wish("u", "", "connection_creation_rate", Some(1.0)), "There is no quota");
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            check(wish("u", "", rate, Some(value)), "greater than 0");
        }
        check(wish("u", "", rate, Some(1.5)), "whole number");
        check(wish("u", "", rate, Some(1e300)), "whole number");
        assert!(plan_quota_change(&image, &wish("u", "", "request_percentage", Some(0.5))).is_ok());
        assert_eq!(plan_quota_change(&image, &wish("u", "", rate, None)), Ok(Vec::new()));
    }
}
