//! ApiVersions (API 18, versions 0–4): the table, told to clients, and the features.
//!
//! *Owns*: nothing. *Never*: lists what `api::APIS` does not. *Runs on*: the core whose client asked.

use crate::broker::api::{self, APIS, features, key};
use crate::broker::effect::Effects;
use crate::broker::session::Reply;
use crate::broker::shard::{Request, Shard};
use crate::wire::errors::ErrorCode;
use crate::wire::frame;
use crate::wire::messages::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let Some(asked) = api::decode::<ApiVersionsRequest>(shard, &mut request, "ApiVersions", effects) else { return };
    shard.sessions.set_software(asker.to.conn, &asked.client_software_name, &asked.client_software_version);
    let mut reply = answer(ErrorCode::None);
    for feature in features::features() {
        reply.supported_features.push(SupportedFeatureKey {
            name: feature.name.into(),
            min_version: feature.level,
            max_version: feature.level,
        });
        reply.finalized_features.push(FinalizedFeatureKey {
            name: feature.name.into(),
            max_version_level: feature.level,
            min_version_level: feature.level,
        });
    }
    // The levels never change.
    reply.finalized_features_epoch = 0;
    shard.reply(key::API_VERSIONS, asker, &reply, effects);
}

/// The client speaks a version we do not: answered in version 0, which every client reads (KIP-511).
pub(in crate::broker) fn refuse_version(shard: &mut Shard, request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let data = frame::encode_reply(key::API_VERSIONS, 0, asker.correlation_id, &answer(ErrorCode::UnsupportedVersion));
    shard.sessions.fill(asker.to, Reply::Frame(data), None, effects);
}

fn answer(error: ErrorCode) -> ApiVersionsResponse {
    let api_keys = APIS
        .iter()
        .map(|api| ApiVersion { api_key: api.key, min_version: api.versions.0, max_version: api.versions.1 })
        .collect();
    ApiVersionsResponse { error_code: error.code(), api_keys, ..ApiVersionsResponse::default() }
}
