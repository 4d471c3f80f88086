//! UpdateFeatures (API 57, versions 0–2), and the features that ApiVersions tells of (KIP-584).
//!
//! A feature is here when this broker does what its level promises, and then it is always in use.
//!
//! *Owns*: the list of features. *Never*: switches one on or off. *Runs on*: the core whose client asked.

use crate::broker::api::{self, APIS, key};
use crate::broker::effect::Effects;
use crate::broker::shard::{Request, Shard};
use crate::wire::errors::ErrorCode;
use crate::wire::messages::update_features::{
    FeatureUpdateKey, UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse,
};

/// A feature and the level of it that is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Feature {
    pub name: &'static str,
    pub level: i16,
    /// The API without which it would not be.
    api_key: i16,
}

/// Levels and names are Kafka's (`org.apache.kafka.server.common.Feature`).
const FEATURES: [Feature; 1] = [Feature { name: "group.version", level: 1, api_key: 68 }];

/// From this version results are not told by feature.
const ONE_RESULT_VERSION: i16 = 2;

pub fn features() -> impl Iterator<Item = Feature> {
    FEATURES.into_iter().filter(|feature| APIS.iter().any(|api| api.key == feature.api_key))
}

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let Some(asked) = api::decode::<UpdateFeaturesRequest>(shard, &mut request, "UpdateFeatures", effects) else {
        return;
    };
    let mut reply = UpdateFeaturesResponse::default();
    for update in &asked.feature_updates {
        let refused = check(update).err();
        if let Some(message) = refused.as_ref().filter(|_| asker.version >= ONE_RESULT_VERSION) {
            reply.error_code = ErrorCode::InvalidUpdateVersion.code();
            reply.error_message = Some(message.as_str().into());
        }
        let error = if refused.is_some() { ErrorCode::InvalidUpdateVersion } else { ErrorCode::None };
        reply.results.push(UpdatableFeatureResult {
            feature: update.feature.clone(),
            error_code: error.code(),
            error_message: refused.map(Into::into),
        });
    }
    shard.reply(key::UPDATE_FEATURES, asker, &reply, effects);
}

/// Fine where the feature is to stay as it is.
fn check(update: &FeatureUpdateKey) -> Result<(), String> {
    let (name, level) = (&update.feature, update.max_version_level);
    match features().find(|feature| feature.name == name.as_str()) {
        None => Err(format!("This broker has no feature {name:?}.")),
        Some(feature) if feature.level == level => Ok(()),
        Some(feature) => Err(format!("{name} is at level {}, which cannot change to {level}.", feature.level)),
    }
}
