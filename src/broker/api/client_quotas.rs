//! DescribeClientQuotas (API 48) and AlterClientQuotas (API 49), versions 0–1: who may use how much of the broker
//! (KIP-546; addresses: KIP-612). Changes are decided and committed by core 0 and answered when every core counts by them.
//!
//! *Owns*: the form of orders and answers; the filters of a description. *Never*: measures. *Runs on*: the core whose
//! client asked.

use std::collections::BTreeSet;

use crate::base::ids::CoreId;
use crate::broker::api::wishes::Rows;
use crate::broker::api::{self, key};
use crate::broker::effect::Effects;
use crate::broker::job::{Asker, Work};
use crate::broker::message::{ControlOrder, ControlOutcome, ShardMessage};
use crate::broker::shard::{Request, Shard};
use crate::meta::controller::MetaError;
use crate::meta::quota::{EntityName, QuotaEntity, QuotaValues, QuotaWish};
use crate::wire::codec::Float64;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::alter_client_quotas::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, EntityData, EntryData, EntryResponse, OpData,
};
use crate::wire::messages::describe_client_quotas::{
    self, ComponentData, DescribeClientQuotasRequest, DescribeClientQuotasResponse, ValueData,
};
use crate::wire::text::Text;

const USER: &str = "user";
const CLIENT_ID: &str = "client-id";
const IP: &str = "ip";

/// What the order was about, for an answer in its order.
#[derive(Debug)]
pub struct AlterQuotasWork {
    /// With why core 0 was not asked about it.
    rows: Rows<Vec<EntityData>>,
}

/// What one side of an entity must be.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Wanted {
    /// Whatever it is, or nothing.
    Free,
    /// Nothing.
    Absent,
    /// There, by name or as the default.
    Present,
    This(EntityName),
}

pub(in crate::broker) fn handle_describe(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let (asker, name) = (request.asker, "DescribeClientQuotas");
    let Some(asked) = api::decode::<DescribeClientQuotasRequest>(shard, &mut request, name, effects) else { return };
    let mut reply = DescribeClientQuotasResponse::default();
    match filter(&asked) {
        Ok(wanted) => {
            let fits = |entity: &QuotaEntity| {
                wanted.iter().zip([&entity.user, &entity.client_id, &entity.ip]).all(|(wanted, side)| wanted.fits(side))
            };
            let found = shard.image.quotas().filter(|(entity, _)| fits(entity));
            reply.entries = Some(found.map(|(entity, values)| described(entity, values)).collect());
        }
        Err(error) => {
            reply.error_code = error.code.code();
            reply.error_message = Some(error.message.into());
            reply.entries = None;
        }
    }
    shard.reply(key::DESCRIBE_CLIENT_QUOTAS, asker, &reply, effects);
}

pub(in crate::broker) fn handle_alter(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let Some(asked) = api::decode::<AlterClientQuotasRequest>(shard, &mut request, "AlterClientQuotas", effects) else {
        return;
    };
    let mut named = BTreeSet::new();
    let (rows, wishes) = Rows::part(asked.entries.into_iter().map(|entry| {
        let wish = wish(&entry).and_then(|wish| match named.insert(wish.entity.clone()) {
            true => Ok(wish),
            false => refuse("The request has two entries of this entity."),
        });
        (entry.entity, wish)
    }));
    let job = shard.add_job(asker, Work::AlterQuotas(AlterQuotasWork { rows }));
    let order = ControlOrder::AlterQuotas { wishes, validate_only: asked.validate_only };
    shard.send(CoreId(0), ShardMessage::Control { job, order }, effects);
}

pub(in crate::broker) fn on_outcome(
    shard: &mut Shard,
    asker: Asker,
    work: AlterQuotasWork,
    outcome: ControlOutcome,
    effects: &mut Effects,
) {
    let entries = work.rows.end(outcome).map(|(entity, error)| {
        let error_code = error.as_ref().map_or(ErrorCode::None, |error| error.code).code();
        EntryResponse { error_code, error_message: error.map(|error| error.message.into()), entity }
    });
    let reply = AlterClientQuotasResponse { entries: entries.collect(), ..AlterClientQuotasResponse::default() };
    shard.reply(key::ALTER_CLIENT_QUOTAS, asker, &reply, effects);
}

impl Wanted {
    fn fits(&self, side: &Option<EntityName>) -> bool {
        match self {
            Wanted::Free => true,
            Wanted::Absent => side.is_none(),
            Wanted::Present => side.is_some(),
            Wanted::This(name) => side.as_ref() == Some(name),
        }
    }
}

/// What user, client id and address of the entities asked for must be.
fn filter(asked: &DescribeClientQuotasRequest) -> Result<[Wanted; 3], MetaError> {
    let unnamed = if asked.strict { Wanted::Absent } else { Wanted::Free };
    let (mut user, mut client_id, mut ip) = (None, None, None);
    for component in &asked.components {
        let side = match component.entity_type.as_str() {
            USER => &mut user,
            CLIENT_ID => &mut client_id,
            IP => &mut ip,
            "" => return refuse("A component has no entity type."),
            other => {
                let message = format!("There are no entities of type {other:?}.");
                return Err(MetaError { code: ErrorCode::UnsupportedVersion, message });
            }
        };
        if side.is_some() {
            return refuse(format!("The entity type {} is there twice.", component.entity_type));
        }
        *side = Some(wanted(component)?);
    }
    if ip.is_some() && (user.is_some() || client_id.is_some()) {
        return refuse("A quota of an address is of no user or client id.");
    }
    Ok([user, client_id, ip].map(|side| side.unwrap_or(unnamed.clone())))
}

fn wanted(component: &ComponentData) -> Result<Wanted, MetaError> {
    match (component.match_type, &component.match_value) {
        (0, Some(name)) => Ok(Wanted::This(EntityName::Name(name.to_string()))),
        (1, None) => Ok(Wanted::This(EntityName::Default)),
        (2, None) => Ok(Wanted::Present),
        (0..=2, _) => refuse("A match by name has a name, and no other match has one."),
        (other, _) => refuse(format!("There is no match type {other}.")),
    }
}

fn wish(entry: &EntryData) -> Result<QuotaWish, MetaError> {
    let mut entity = QuotaEntity::default();
    for EntityData { entity_type, entity_name } in &entry.entity {
        let side = match entity_type.as_str() {
            USER => &mut entity.user,
            CLIENT_ID => &mut entity.client_id,
            IP => &mut entity.ip,
            other => return refuse(format!("There are no entities of type {other:?}.")),
        };
        let name = entity_name.as_ref().map_or(EntityName::Default, |name| EntityName::Name(name.to_string()));
        if side.replace(name).is_some() {
            return refuse(format!("The entity has two parts of type {entity_type}."));
        }
    }
    let op = |op: &OpData| (op.key.to_string(), (!op.remove).then(|| op.value.get()));
    Ok(QuotaWish { entity, ops: entry.ops.iter().map(op).collect() })
}

fn described(entity: &QuotaEntity, values: &QuotaValues) -> describe_client_quotas::EntryData {
    let sides = [(USER, &entity.user), (CLIENT_ID, &entity.client_id), (IP, &entity.ip)];
    let sides = sides.into_iter().filter_map(|(entity_type, side)| {
        let entity_name = match side.as_ref()? {
            EntityName::Default => None,
            EntityName::Name(name) => Some(Text::from(name.as_str())),
        };
        Some(describe_client_quotas::EntityData { entity_type: entity_type.into(), entity_name })
    });
    let values = values
        .iter()
        .map(|(key, bits)| ValueData { key: key.name().into(), value: Float64::new(f64::from_bits(*bits)) });
    describe_client_quotas::EntryData { entity: sides.collect(), values: values.collect() }
}

fn refuse<T>(message: impl Into<String>) -> Result<T, MetaError> {
    Err(MetaError { code: ErrorCode::InvalidRequest, message: message.into() })
}
