//! Hostile clients of the live binary: each gets an error or the end of its connection, and nobody else notices.
#![cfg(feature = "shell")]

mod binary;
mod raw;

use std::io::Write;
use std::net::Shutdown;
use std::thread;

use binary::{Broker, directory};
use bytes::Bytes;
use corelog::base::rng::Rng;
use corelog::broker::api as served;
use corelog::wire::codec::{Api, Message};
use corelog::wire::frame::{self, RequestHeader};
use corelog::wire::messages::*;
use raw::{Client, PRODUCE_VERSION, Witness, batch, produce_request};

const TOPIC: &str = "witness";
const PARTITIONS: i32 = 3;

/// A request of any version with random fields, as a whole frame.
type Sample = fn(&RequestHeader, &mut Rng) -> Vec<u8>;

fn sample<M: Message>(header: &RequestHeader, rng: &mut Rng) -> Vec<u8> {
    frame::encode_request(header, &M::sample(rng, header.version)).concat()
}

fn row<M: Message>() -> (Api, Sample) {
    (M::API, sample::<M>)
}

/// Every API that has tables, those included that are not served.
fn requests() -> Vec<(Api, Sample)> {
    let rows = vec![
        row::<produce::ProduceRequest>(),
        row::<fetch::FetchRequest>(),
        row::<list_offsets::ListOffsetsRequest>(),
        row::<metadata::MetadataRequest>(),
        row::<offset_commit::OffsetCommitRequest>(),
        row::<offset_fetch::OffsetFetchRequest>(),
        row::<find_coordinator::FindCoordinatorRequest>(),
        row::<join_group::JoinGroupRequest>(),
        row::<heartbeat::HeartbeatRequest>(),
        row::<leave_group::LeaveGroupRequest>(),
        row::<sync_group::SyncGroupRequest>(),
        row::<describe_groups::DescribeGroupsRequest>(),
        row::<list_groups::ListGroupsRequest>(),
        row::<api_versions::ApiVersionsRequest>(),
        row::<create_topics::CreateTopicsRequest>(),
        row::<delete_topics::DeleteTopicsRequest>(),
        row::<delete_records::DeleteRecordsRequest>(),
        row::<init_producer_id::InitProducerIdRequest>(),
        row::<offset_for_leader_epoch::OffsetForLeaderEpochRequest>(),
        row::<describe_configs::DescribeConfigsRequest>(),
        row::<alter_configs::AlterConfigsRequest>(),
        row::<describe_log_dirs::DescribeLogDirsRequest>(),
        row::<create_partitions::CreatePartitionsRequest>(),
        row::<delete_groups::DeleteGroupsRequest>(),
        row::<elect_leaders::ElectLeadersRequest>(),
        row::<incremental_alter_configs::IncrementalAlterConfigsRequest>(),
        row::<alter_partition_reassignments::AlterPartitionReassignmentsRequest>(),
        row::<list_partition_reassignments::ListPartitionReassignmentsRequest>(),
        row::<offset_delete::OffsetDeleteRequest>(),
        row::<describe_client_quotas::DescribeClientQuotasRequest>(),
        row::<alter_client_quotas::AlterClientQuotasRequest>(),
        row::<describe_quorum::DescribeQuorumRequest>(),
        row::<alter_partition::AlterPartitionRequest>(),
        row::<update_features::UpdateFeaturesRequest>(),
        row::<envelope::EnvelopeRequest>(),
        row::<describe_cluster::DescribeClusterRequest>(),
        row::<describe_producers::DescribeProducersRequest>(),
        row::<broker_registration::BrokerRegistrationRequest>(),
        row::<broker_heartbeat::BrokerHeartbeatRequest>(),
        row::<unregister_broker::UnregisterBrokerRequest>(),
        row::<allocate_producer_ids::AllocateProducerIdsRequest>(),
        row::<consumer_group_heartbeat::ConsumerGroupHeartbeatRequest>(),
        row::<consumer_group_describe::ConsumerGroupDescribeRequest>(),
        row::<get_telemetry_subscriptions::GetTelemetrySubscriptionsRequest>(),
        row::<push_telemetry::PushTelemetryRequest>(),
        row::<list_config_resources::ListConfigResourcesRequest>(),
        row::<describe_topic_partitions::DescribeTopicPartitionsRequest>(),
        row::<add_raft_voter::AddRaftVoterRequest>(),
        row::<remove_raft_voter::RemoveRaftVoterRequest>(),
        row::<peer_hello::PeerHelloRequest>(),
        row::<quorum_messages::QuorumMessagesRequest>(),
        row::<meta_pull::MetaPullRequest>(),
    ];
    assert_eq!(rows.iter().map(|(api, _)| *api).collect::<Vec<_>>(), [APIS, PEER_APIS].concat());
    rows
}

/// Runs `attack` against a broker. A witness that was there before finds everything in order after it, and so does
/// one after a stop and a start.
fn survived(attack: impl FnOnce(&Broker, &mut Witness)) {
    let dir = directory();
    let broker = Broker::start_quiet(dir.path(), &["--cores", "2"]);
    let mut witness = Witness::new(&broker, TOPIC, PARTITIONS);
    witness.check();
    attack(&broker, &mut witness);
    witness.check();
    broker.stop();
    let broker = Broker::start_quiet(dir.path(), &["--cores", "2"]);
    witness.reconnect(&broker);
    witness.assert_intact();
    witness.check();
    broker.stop();
}

/// A connection that is made anew when the broker has ended it.
struct Attacker<'a> {
    broker: &'a Broker,
    client: Client,
    closed: usize,
}

impl Attacker<'_> {
    fn new(broker: &Broker) -> Attacker<'_> {
        Attacker { broker, client: Client::connect(broker), closed: 0 }
    }

    /// Sends a frame and a request that is in order behind it. Either the second is answered, after at most one other
    /// reply, or the connection ends. Returns the first reply, if there was one.
    fn send(&mut self, frame: &[u8]) -> Option<Bytes> {
        let probe = self.client.encode(0, &api_versions::ApiVersionsRequest::default());
        let probe_id = &probe[8..12];
        // The broker may end the connection before it has taken all of it.
        let sent = self.client.stream.write_all(&[frame, &probe].concat());
        let mut first = None;
        while let Some(reply) = self.client.receive_frame() {
            if reply[..4] == *probe_id {
                sent.expect("what was answered was sent");
                return first;
            }
            assert_eq!(first.replace(reply), None, "one request has one reply");
        }
        self.closed += 1;
        self.client = Client::connect(self.broker);
        first
    }
}

fn with_length(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes(), body].concat()
}

/// The fields up to the body, without the length.
fn header_bytes(header: &RequestHeader, flexible_from: i16) -> Vec<u8> {
    let mut bytes = [header.api_key.to_be_bytes(), header.version.to_be_bytes()].concat();
    bytes.extend(header.correlation_id.to_be_bytes());
    bytes.extend(b"\0\x04test");
    if header.version >= flexible_from {
        bytes.push(0);
    }
    bytes
}

#[test]
fn a_flipped_bit_in_a_batch_is_refused_or_does_no_harm() {
    survived(|broker, witness| {
        let mut rng = Rng::new(30);
        let mut attacker = Attacker::new(broker);
        let mut refused = 0;
        for round in 0..1200 {
            let value = Bytes::from(format!("flipped {round} {}", "x".repeat(round % 100)));
            let mut bytes = batch(&value).to_vec();
            // Half of the flips hit the header.
            let reach = if round % 2 == 0 { 61 } else { bytes.len() };
            bytes[rng.below(reach as u64) as usize] ^= 1 << rng.below(8);
            let partition = rng.below(PARTITIONS as u64) as i32;
            let version = 3 + rng.below(10) as i16;
            let request = produce_request(TOPIC, partition, bytes.into());
            let frame = attacker.client.encode(version, &request);
            let Some(reply) = attacker.send(&frame) else { continue };
            let (_, reply) = frame::decode_reply::<produce::ProduceResponse>(0, version, reply).expect("a reply");
            let row = &reply.responses[0].partition_responses[0];
            match row.error_code {
                0 => witness.note(row, value),
                _ => refused += 1,
            }
            assert!(row.error_code == 0 || row.base_offset == -1);
        }
        assert_eq!(attacker.closed, 0, "the request around the batch is in order");
        // Only the leader epoch may be anything: the broker sets it.
        assert!((1000..1200).contains(&refused), "{refused} refused");
    });
}

#[test]
fn random_requests_of_every_api_and_version_do_no_harm() {
    survived(|broker, witness| {
        let mut rng = Rng::new(37);
        let mut attackers: Vec<Attacker<'_>> = (0..8).map(|_| Attacker::new(broker)).collect();
        let mut answered = 0;
        for (api, sample) in requests() {
            for version in api.versions.first..=api.versions.last {
                for round in 0..36 {
                    let pick = rng.below(attackers.len() as u64) as usize;
                    let attacker = &mut attackers[pick];
                    let header = attacker.client.header(api.key, version);
                    let mut frame = sample(&header, &mut rng);
                    match round % 3 {
                        0 => {}
                        1 => spoil(&mut frame, &mut rng),
                        _ => {
                            let mut body = header_bytes(&header, api.flexible_from);
                            body.extend((0..rng.below(200)).map(|_| rng.next_u64() as u8));
                            frame = with_length(&body);
                        }
                    }
                    let reply = attacker.send(&frame);
                    // What a sample asks for makes no sense, but it is a request. A Produce may want no reply, and what
                    // brokers say to each other has none here.
                    let served = served::APIS.iter().any(|row| row.key == api.key);
                    let expected = round % 3 == 0 && served && api.key != produce::API.key;
                    assert!(!expected || reply.is_some(), "{} {version}", api.name);
                    if let Some(reply) = reply {
                        assert_eq!(reply[..4], header.correlation_id.to_be_bytes());
                        answered += 1;
                    }
                }
            }
            witness.check();
        }
        assert!(answered > 1000, "{answered} answered");
    });
}

/// Overwrites a few bytes behind the header.
fn spoil(frame: &mut [u8], rng: &mut Rng) {
    let from = 18.min(frame.len() - 1);
    for _ in 0..=rng.below(3) {
        let at = from + rng.below((frame.len() - from) as u64) as usize;
        frame[at] = rng.next_u64() as u8;
    }
}

#[test]
fn truncated_requests_store_nothing() {
    survived(|broker, _| {
        let mut rng = Rng::new(32);
        for round in 0..200 {
            let mut client = Client::connect(broker);
            let whole = client.encode(PRODUCE_VERSION, &produce_request(TOPIC, 0, batch(&[b'x'; 500])));
            let cut = rng.below(whole.len() as u64) as usize;
            if round % 2 == 0 {
                // The end of the connection comes before that of the frame.
                client.stream.write_all(&whole[..cut]).expect("write");
                client.stream.shutdown(Shutdown::Write).expect("shut down");
            } else {
                // The frame is whole, and the message in it is not.
                client.stream.write_all(&with_length(&whole[4..cut.max(4)])).expect("write");
            }
            assert_eq!(client.receive_frame(), None, "cut at {cut} of {}", whole.len());
        }
    });
}

#[test]
fn requests_that_stop_half_way_hold_nobody_up_and_can_go_on() {
    survived(|broker, witness| {
        let mut rng = Rng::new(33);
        let mut stopped = Vec::new();
        for round in 0..100 {
            let mut client = Client::connect(broker);
            let value = Bytes::from(vec![b'a' + round % 26; 1 + rng.below(100_000) as usize]);
            let whole = client.encode(PRODUCE_VERSION, &produce_request(TOPIC, 0, batch(&value)));
            let cut = rng.below(whole.len() as u64) as usize;
            client.stream.write_all(&whole[..cut]).expect("write");
            stopped.push((client, value, whole, cut));
        }
        for _ in 0..5 {
            witness.check();
        }
        for (client, _, whole, cut) in &mut stopped {
            client.stream.write_all(&whole[*cut..]).expect("write");
        }
        for (client, value, ..) in &mut stopped {
            let row = client.receive_produced();
            witness.note(&row, value.clone());
        }
    });
}

#[test]
fn unknown_apis_and_versions_end_the_connection_and_newer_clients_are_told_what_there_is() {
    survived(|broker, _| {
        let mut unknown: Vec<(i16, i16)> = Vec::new();
        let served: Vec<i16> = APIS.iter().map(|api| api.key).collect();
        for key in (-3..100).chain([i16::MIN, 1000, i16::MAX]).filter(|key| !served.contains(key)) {
            unknown.extend([(key, 0), (key, 1), (key, i16::MAX)]);
        }
        for api in APIS.iter().filter(|api| api.key != api_versions::API.key) {
            let (first, last) = (api.versions.first, api.versions.last);
            unknown.extend([i16::MIN, -1, first - 1, last + 1, 99, i16::MAX].map(|version| (api.key, version)));
        }
        for (api_key, version) in unknown {
            let mut client = Client::connect(broker);
            let header = client.header(api_key, version);
            let mut body = header_bytes(&header, i16::MAX);
            body.extend([0; 40]);
            client.stream.write_all(&with_length(&body)).expect("write");
            assert_eq!(client.receive_frame(), None, "API {api_key}, version {version}");
        }
        for version in [99, 5, -1, i16::MIN, i16::MAX] {
            let mut client = Client::connect(broker);
            let header = client.header(api_versions::API.key, version);
            client.stream.write_all(&with_length(&header_bytes(&header, 3))).expect("write");
            let reply = client.receive_frame().expect("a reply");
            let (correlation_id, reply) =
                frame::decode_reply::<api_versions::ApiVersionsResponse>(18, 0, reply).expect("version 0");
            assert_eq!((correlation_id, reply.error_code), (header.correlation_id, 35), "version {version}");
            assert!(reply.api_keys.iter().any(|api| (api.api_key, api.max_version) == (18, 4)));
            // The client may ask again on the same connection.
            client.probe();
        }
    });
}

#[test]
fn huge_counts_in_small_frames_take_no_memory() {
    survived(|broker, _| {
        let counts: [&[u8]; 6] = [
            b"\x7f\xff\xff\xff",
            b"\x00\xff\xff\xff",
            b"\x80\x00\x00\x00",
            b"\xff\xff\xff\xff\x0f",
            b"\xff\xff\xff\xff\x07",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ];
        let mut attacker = Attacker::new(broker);
        let before = broker.memory_bytes("VmRSS");
        for api in APIS {
            for version in api.versions.first..=api.versions.last {
                for count in counts {
                    // Wherever the first list of the message is, some of these announce a huge one.
                    for before in 0..12 {
                        let header = attacker.client.header(api.key, version);
                        let mut body = header_bytes(&header, api.flexible_from);
                        body.resize(body.len() + before, 0);
                        body.extend(count.repeat(8));
                        attacker.send(&with_length(&body));
                    }
                }
            }
        }
        assert!(attacker.closed > 1000, "{} closed", attacker.closed);
        let grown = broker.memory_bytes("VmHWM").saturating_sub(before);
        assert!(grown < 48 << 20, "{grown} bytes more");
    });
}

#[test]
fn thousands_of_pipelined_requests_end_in_finite_time() {
    const REQUESTS: usize = 5000;
    survived(|broker, witness| {
        let mut client = Client::connect(broker);
        let value = |number: usize| Bytes::from(format!("pipelined {number}"));
        let frames: Vec<u8> = (0..REQUESTS)
            .flat_map(|number| {
                let partition = number as i32 % PARTITIONS;
                client.encode(PRODUCE_VERSION, &produce_request(TOPIC, partition, batch(&value(number))))
            })
            .collect();
        let mut writer = client.stream.try_clone().expect("a handle");
        let writing = thread::spawn(move || writer.write_all(&frames).expect("write"));
        for number in 0..REQUESTS {
            let row = client.receive_produced();
            witness.note(&row, value(number));
        }
        writing.join().expect("all is written");
    });
}
