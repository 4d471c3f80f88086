//! GetTelemetrySubscriptions (API 71, version 0) and PushTelemetry (API 72, version 0): clients ask what to measure,
//! and push it (KIP-714). The values are shown with the broker's own metrics.
//!
//! *Owns*: the form of the answers, and the reading of what is pushed. *Never*: decides who may push. *Runs on*: the
//! core whose client asked.

use crate::base::ids::ClientInstanceId;
use crate::base::limits::TELEMETRY_EXPANSION_MAX;
use crate::base::metric::Metric;
use crate::broker::api::{self, key};
use crate::broker::effect::Effects;
use crate::broker::shard::{Request, Shard};
use crate::broker::telemetry::{ClientDescription, Push};
use crate::wire::compression::Compression;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::get_telemetry_subscriptions::{
    GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse,
};
use crate::wire::messages::push_telemetry::{PushTelemetryRequest, PushTelemetryResponse};
use crate::wire::otlp::Measured;

/// In the order of Kafka's broker: the best first.
const ACCEPTED: [Compression; 4] = [Compression::Zstd, Compression::Lz4, Compression::Gzip, Compression::Snappy];

pub(in crate::broker) fn handle_get(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let (asker, name) = (request.asker, "GetTelemetrySubscriptions");
    let Some(asked) = api::decode::<GetTelemetrySubscriptionsRequest>(shard, &mut request, name, effects) else {
        return;
    };
    let instance = match asked.client_instance_id {
        ClientInstanceId::ZERO => ClientInstanceId::random(&mut shard.rng),
        known => known,
    };
    let client = description(shard, &request, instance);
    let reply = match shard.telemetry.subscribe(&client, request.now.mono) {
        Ok(subscription) => GetTelemetrySubscriptionsResponse {
            client_instance_id: instance,
            subscription_id: subscription.id,
            accepted_compression_types: ACCEPTED.map(|compression| compression.id() as i8).to_vec(),
            push_interval_ms: subscription.interval_ms as i32,
            telemetry_max_bytes: shard.config.settings.telemetry_max_bytes as i32,
            // The latest values are shown, and only sums from the start mean anything by themselves.
            delta_temporality: false,
            requested_metrics: subscription.metrics.iter().map(Into::into).collect(),
            ..GetTelemetrySubscriptionsResponse::default()
        },
        Err(error) => GetTelemetrySubscriptionsResponse {
            error_code: error.code(),
            ..GetTelemetrySubscriptionsResponse::default()
        },
    };
    shard.watch_telemetry(request.now);
    shard.reply(key::GET_TELEMETRY_SUBSCRIPTIONS, asker, &reply, effects);
}

pub(in crate::broker) fn handle_push(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let Some(asked) = api::decode::<PushTelemetryRequest>(shard, &mut request, "PushTelemetry", effects) else {
        return;
    };
    let error = push(shard, &request, &asked).err().unwrap_or(ErrorCode::None);
    shard.watch_telemetry(request.now);
    let reply = PushTelemetryResponse { error_code: error.code(), ..PushTelemetryResponse::default() };
    shard.reply(key::PUSH_TELEMETRY, asker, &reply, effects);
}

fn push(shard: &mut Shard, request: &Request, asked: &PushTelemetryRequest) -> Result<(), ErrorCode> {
    if asked.client_instance_id.is_reserved() {
        return Err(ErrorCode::InvalidRequest);
    }
    let bytes_max = shard.config.settings.telemetry_max_bytes as usize;
    let push = Push {
        subscription_id: asked.subscription_id,
        is_terminating: asked.terminating,
        compression_type: asked.compression_type,
        bytes: asked.metrics.len(),
        bytes_max,
    };
    let client = description(shard, request, asked.client_instance_id);
    shard.telemetry.check_push(&client, &push, request.now.mono)?;
    if asked.metrics.is_empty() {
        return Ok(());
    }
    let compression = Compression::from_id(asked.compression_type.into()).unwrap_or_default();
    let metrics_data = compression.decompress(&asked.metrics, bytes_max.saturating_mul(TELEMETRY_EXPANSION_MAX));
    let metrics_data = metrics_data.map_err(|_| ErrorCode::InvalidRecord)?;
    let measured = Measured::decode(&metrics_data).map_err(|_| ErrorCode::InvalidRecord)?;
    shard.metrics.add(Metric::TelemetryLeftOut, measured.left_out);
    shard.telemetry.put(client, measured, request.now.mono);
    Ok(())
}

fn description(shard: &Shard, request: &Request, instance: ClientInstanceId) -> ClientDescription {
    let conn = request.asker.to.conn;
    let (software_name, software_version) = shard.sessions.software(conn);
    let client_id = request.client_id.as_deref().unwrap_or("");
    ClientDescription {
        instance,
        client_id: client_id.to_owned(),
        software_name: software_name.to_owned(),
        software_version: software_version.to_owned(),
        address: shard.sessions.host(conn).to_owned(),
        port: shard.sessions.port(conn),
    }
}
