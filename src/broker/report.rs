//! What a core tells about itself when it is asked.
//!
//! *Owns*: the form of the answer, and the counts of requests by API and error. *Never*: adds cores up. *Runs on*:
//! every core; a report goes to whoever asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::ids::NodeId;
use crate::base::metric::Metrics;
use crate::base::stage_counts::Snapshot;
use crate::broker::api::APIS;
use crate::broker::telemetry::ClientMetrics;
use crate::gossip::report::NodeReport;

/// One core since its start.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Report {
    pub stages: Snapshot,
    pub metrics: Metrics,
    pub requests: RequestCounts,
    /// What clients have pushed last.
    pub clients: Vec<Arc<ClientMetrics>>,
    /// What other brokers have told of their cores and devices: core 0 knows.
    pub nodes: Vec<(NodeId, NodeReport)>,
}

/// Requests by API, and the errors in their replies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestCounts {
    /// In the order of the table of APIs.
    requests: [u64; APIS.len()],
    /// By API key and error code. Bounded: there are so many of both.
    errors: BTreeMap<(i16, i16), u64>,
}

impl Default for RequestCounts {
    fn default() -> Self {
        RequestCounts { requests: [0; APIS.len()], errors: BTreeMap::new() }
    }
}

impl RequestCounts {
    /// A request whose API is served, in a version that is.
    pub fn on_request(&mut self, api_key: i16) {
        if let Some(at) = APIS.iter().position(|api| api.key == api_key) {
            self.requests[at] += 1;
        }
    }

    /// An error code in a reply.
    pub fn on_error(&mut self, api_key: i16, code: i16) {
        *self.errors.entry((api_key, code)).or_default() += 1;
    }

    /// API keys, and how many requests of them there were.
    pub fn requests(&self) -> impl Iterator<Item = (i16, u64)> + '_ {
        APIS.iter().zip(self.requests).map(|(api, count)| (api.key, count))
    }

    /// API key, error code, count.
    pub fn errors(&self) -> impl Iterator<Item = (i16, i16, u64)> + '_ {
        self.errors.iter().map(|((api, code), count)| (*api, *code, *count))
    }
}
