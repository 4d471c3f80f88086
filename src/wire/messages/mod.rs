//! The messages: one module an API, because Kafka repeats the names of nested types from one to the next.
//!
//! *Owns*: the list of the APIs that have tables. *Never*: decides which of them a broker offers.
//! *Runs on*: every core.
//!
//! Fields, versions and defaults are those of Kafka 4.1's `clients/src/main/resources/common/message/*.json`.

use super::codec::Api;

pub mod api_versions;
pub mod fetch;
pub mod metadata;
pub mod produce;

/// Every API with tables, by key.
pub const APIS: &[Api] = &[produce::API, fetch::API, metadata::API, api_versions::API];

/// The row of `key`.
pub fn api(key: i16) -> Option<&'static Api> {
    usize::try_from(key).ok().and_then(|key| BY_KEY.get(key)).and_then(Option::as_ref)
}

/// An index instead of a search: it is asked for every request.
static BY_KEY: [Option<Api>; KEYS] = {
    let mut rows = [None; KEYS];
    let mut i = 0;
    while i < APIS.len() {
        assert!(rows[APIS[i].key as usize].is_none(), "a key is listed once");
        rows[APIS[i].key as usize] = Some(APIS[i]);
        i += 1;
    }
    rows
};

/// Above the largest key of [`APIS`].
const KEYS: usize = 80;
