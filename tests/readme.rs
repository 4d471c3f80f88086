//! What the README says of the APIs, against the table they are served from.

use corelog::broker::api::APIS;
use kafka_protocol::messages::ApiKey;

/// What brokers and controllers ask each other, and no client asks.
const AMONG_BROKERS: &[&str] = &[
    "LeaderAndIsr",
    "StopReplica",
    "UpdateMetadata",
    "ControlledShutdown",
    "WriteTxnMarkers",
    "Vote",
    "BeginQuorumEpoch",
    "EndQuorumEpoch",
    "AlterPartition",
    "Envelope",
    "FetchSnapshot",
    "BrokerRegistration",
    "BrokerHeartbeat",
    "AllocateProducerIds",
    "ControllerRegistration",
    "AssignReplicasToDirs",
    "UpdateRaftVoter",
    "InitializeShareGroupState",
    "ReadShareGroupState",
    "WriteShareGroupState",
    "DeleteShareGroupState",
    "ReadShareGroupStateSummary",
];

/// Newer than the other table of APIs: Kafka 4.2 has these versions.
const LATER: &[(&str, i16)] = &[("ListOffsets", 11)];

#[test]
fn the_readme_names_each_api_and_its_versions() {
    let mut table = String::from("| key | API | Corelog | Kafka 4.2 |\n|---:|---|---|---|\n");
    for key in ApiKey::iter() {
        let name = format!("{key:?}");
        if AMONG_BROKERS.contains(&name.as_str()) {
            continue;
        }
        let kafka = key.valid_versions();
        let last = LATER.iter().find(|(later, _)| *later == name).map_or(kafka.max, |(_, last)| *last);
        let ours = APIS.iter().find(|api| api.key == key as i16);
        let ours = ours.map_or("–".to_owned(), |api| format!("{} to {}", api.served_from, api.versions.1));
        table += &format!("| {} | {name} | {ours} | {} to {last} |\n", key as i16, kafka.min);
    }
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("the README");
    assert!(readme.contains(&table), "the README should have this table:\n{table}");
}
