//! Telemetry of clients through the seam: asked for, pushed, refused, kept as the latest values (KIP-714).

mod support;

use bytes::Bytes;
use corelog::base::ids::ClientInstanceId;
use corelog::base::metric::Metric;
use corelog::broker::api::key;
use corelog::broker::effect::ListenerKind::Shared;
use corelog::config::Settings;
use corelog::wire::compression::Compression;
use corelog::wire::errors::ErrorCode;
use corelog::wire::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use corelog::wire::messages::get_telemetry_subscriptions::{
    GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse,
};
use corelog::wire::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use corelog::wire::messages::push_telemetry::{PushTelemetryRequest, PushTelemetryResponse};
use corelog::wire::text::Text;
use support::{Client, MemDisk, World};

const CLIENT_METRICS: i8 = 16;

fn world(cores: u16) -> World {
    World::start(cores, Settings { telemetry_max_bytes: 1000, ..Settings::default() }, MemDisk::default())
}

fn subscribe(world: &mut World, client: Client, settings: &[(&str, &str)]) {
    let config = |(name, value): &(&str, &str)| AlterableConfig {
        name: (*name).into(),
        config_operation: 0,
        value: Some((*value).into()),
    };
    let resource = AlterConfigsResource {
        resource_type: CLIENT_METRICS,
        resource_name: "all".into(),
        configs: settings.iter().map(config).collect(),
    };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let reply: IncrementalAlterConfigsResponse = world.call(client, key::INCREMENTAL_ALTER_CONFIGS, 1, &request);
    assert_eq!(reply.responses[0].error_code, 0, "{reply:?}");
}

fn ask(world: &mut World, client: Client, id: ClientInstanceId) -> GetTelemetrySubscriptionsResponse {
    let request = GetTelemetrySubscriptionsRequest { client_instance_id: id };
    world.call(client, key::GET_TELEMETRY_SUBSCRIPTIONS, 0, &request)
}

fn push(world: &mut World, client: Client, request: PushTelemetryRequest) -> i16 {
    let reply: PushTelemetryResponse = world.call(client, key::PUSH_TELEMETRY, 0, &request);
    reply.error_code
}

/// One gauge, `m`, of the value 1.
fn metrics() -> Vec<u8> {
    let value = [&b"\x0a\x09\x21"[..], &1f64.to_le_bytes()].concat();
    let metric = [b"\x0a\x01m\x2a\x0b", &value[..]].concat();
    [b"\x0a\x14\x12\x12\x12\x10", &metric[..]].concat()
}

/// Client, metric and value of everything that some core would show.
fn shown(world: &World) -> Vec<(String, String, String, f64)> {
    let mut rows = Vec::new();
    for report in world.shards.iter().map(|shard| shard.report()) {
        for pushed in &report.clients {
            let of = &pushed.client;
            for (series, value) in &pushed.measured.values {
                let software = format!("{} {}", of.software_name, of.software_version);
                rows.push((of.client_id.clone(), software, series.metric.clone(), value.get()));
            }
        }
    }
    rows
}

#[test]
fn a_client_learns_what_to_push_and_what_it_pushed_last_is_shown() {
    let mut world = world(2);
    let client = world.connect(1, Shared);
    let software = ApiVersionsRequest { client_software_name: "ours".into(), client_software_version: "1.0".into() };
    let _: ApiVersionsResponse = world.call(client, key::API_VERSIONS, 4, &software);
    let nothing = ask(&mut world, client, ClientInstanceId::ZERO);
    assert_ne!(nothing.client_instance_id, ClientInstanceId::ZERO);
    assert_eq!((nothing.error_code, nothing.push_interval_ms, nothing.requested_metrics.len()), (0, 300_000, 0));

    subscribe(&mut world, client, &[("metrics", "*"), ("interval.ms", "1000"), ("match", "client_software_name=ours")]);
    let id = nothing.client_instance_id;
    let got = ask(&mut world, client, id);
    assert_eq!((got.error_code, got.client_instance_id, got.push_interval_ms), (0, id, 1_000));
    assert_eq!(got.requested_metrics, [Text::from("*")]);
    assert_eq!((got.accepted_compression_types, got.telemetry_max_bytes), (vec![4, 3, 1, 2], 1000));
    assert!(!got.delta_temporality);
    assert_eq!(ask(&mut world, client, id).error_code, ErrorCode::ThrottlingQuotaExceeded.code());

    let subscription_id = got.subscription_id;
    let request = |compression: Compression| PushTelemetryRequest {
        client_instance_id: id,
        subscription_id,
        compression_type: compression.id() as i8,
        metrics: compression.compress(&metrics()).into(),
        ..Default::default()
    };
    for compression in Compression::ALL {
        assert_eq!(push(&mut world, client, request(compression)), 0, "{compression:?}");
        world.advance_ms(1_000);
    }
    assert_eq!(shown(&world), [("test".into(), "ours 1.0".into(), "m".into(), 1.0)]);
    // On another core, which has not seen it; this client does not say what its software is.
    let other = world.connect(0, Shared);
    assert_eq!(push(&mut world, other, request(Compression::None)), ErrorCode::UnknownSubscriptionId.code());
    let _: ApiVersionsResponse = world.call(other, key::API_VERSIONS, 4, &software);
    subscribe(&mut world, other, &[("metrics", "a")]);
    assert_eq!(push(&mut world, other, request(Compression::None)), ErrorCode::UnknownSubscriptionId.code());
    subscribe(&mut world, other, &[("metrics", "*")]);
    assert_eq!(push(&mut world, other, request(Compression::None)), 0);
    assert_eq!(shown(&world).len(), 2);
    world.advance_ms(200_000);
    assert_eq!(shown(&world), []);
    let clients = world.shards.iter().map(|shard| shard.report().metrics.get(Metric::TelemetryClients));
    assert_eq!(clients.sum::<u64>(), 0);
}

#[test]
fn what_cannot_be_pushed_is_refused_and_changes_nothing() {
    let mut world = world(1);
    let client = world.connect(0, Shared);
    subscribe(&mut world, client, &[("metrics", "*"), ("interval.ms", "100")]);
    let got = ask(&mut world, client, ClientInstanceId::ZERO);
    let good = PushTelemetryRequest {
        client_instance_id: got.client_instance_id,
        subscription_id: got.subscription_id,
        metrics: metrics().into(),
        ..Default::default()
    };
    assert_eq!(push(&mut world, client, good.clone()), 0);
    let before = shown(&world);
    let bomb: Bytes = Compression::Gzip.compress(&vec![0; 200_000]).into();
    assert!(bomb.len() < 1000);
    use ErrorCode::*;
    let rows = [
        (PushTelemetryRequest { client_instance_id: ClientInstanceId::ZERO, ..good.clone() }, InvalidRequest),
        (PushTelemetryRequest { subscription_id: got.subscription_id ^ 1, ..good.clone() }, UnknownSubscriptionId),
        (PushTelemetryRequest { compression_type: 9, ..good.clone() }, UnsupportedCompressionType),
        (PushTelemetryRequest { metrics: vec![0; 1001].into(), ..good.clone() }, TelemetryTooLarge),
        (PushTelemetryRequest { metrics: vec![0; 1000].into(), ..good.clone() }, InvalidRecord),
        (PushTelemetryRequest { compression_type: 1, ..good.clone() }, InvalidRecord),
        (PushTelemetryRequest { compression_type: 1, metrics: bomb, ..good.clone() }, InvalidRecord),
        (PushTelemetryRequest { metrics: Bytes::new(), ..good.clone() }, None),
        (PushTelemetryRequest { terminating: true, ..good.clone() }, None),
        (good.clone(), InvalidRequest),
    ];
    for (request, expect) in rows {
        world.advance_ms(100);
        assert_eq!(push(&mut world, client, request.clone()), expect.code(), "{request:?}");
        assert_eq!(shown(&world), before);
    }
}
