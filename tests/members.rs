//! Several brokers as one cluster: how they come together, who decides, and what becomes of it when one goes.

mod support;

use corelog::base::ids::NodeId;
use corelog::base::metric::Metric;
use corelog::broker::api::key;
use corelog::config::Settings;
use corelog::wire::compression::Compression;
use corelog::wire::errors::ErrorCode;
use corelog::wire::messages::add_raft_voter::{AddRaftVoterRequest, AddRaftVoterResponse};
use corelog::wire::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use corelog::wire::messages::describe_cluster::{DescribeClusterRequest, DescribeClusterResponse};
use corelog::wire::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use corelog::wire::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use corelog::wire::messages::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use corelog::wire::messages::remove_raft_voter::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};
use corelog::wire::records::BatchBuilder;
use support::cluster::{Cluster, answer, ask, quorum, send, voters, wait_for_voters};
use support::{Client, Failing, NOW_MS, World};

fn brokers(cluster: &mut Cluster, node: i32) -> Vec<i32> {
    let reply: DescribeClusterResponse =
        ask(cluster, node, key::DESCRIBE_CLUSTER, 1, &DescribeClusterRequest::default());
    reply.brokers.iter().map(|broker| broker.broker_id).collect()
}

fn create(cluster: &mut Cluster, node: i32, name: &str, replicas: i16) -> i16 {
    let asked = send(cluster, node, key::CREATE_TOPICS, 7, &creation(name, replicas));
    created(cluster, asked)
}

fn created(cluster: &mut Cluster, asked: (i32, Client)) -> i16 {
    let reply: CreateTopicsResponse = answer(cluster, asked, key::CREATE_TOPICS, 7);
    reply.topics[0].error_code
}

fn creation(name: &str, replicas: i16) -> CreateTopicsRequest {
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: 6,
        replication_factor: replicas,
        ..CreatableTopic::default()
    };
    CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..CreateTopicsRequest::default() }
}

/// Leaders of a topic's partitions, by their order; −1 where there is none. Nothing: the topic is not known.
fn leaders(cluster: &mut Cluster, node: i32, name: &str) -> Vec<i32> {
    let topic = MetadataRequestTopic { name: Some(name.into()), ..MetadataRequestTopic::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), ..MetadataRequest::default() };
    let reply: MetadataResponse = ask(cluster, node, key::METADATA, 12, &request);
    reply.topics[0].partitions.iter().map(|partition| partition.leader_id).collect()
}

#[test]
fn brokers_join_by_their_seeds_and_three_decide() {
    let mut cluster = Cluster::of(3);
    wait_for_voters(&mut cluster, 1, &[1, 2, 3]);
    // By a seed that is not the controller.
    cluster.start(4, Cluster::joining(&[3]));
    cluster
        .until("it belongs to it", |cluster| cluster.nodes[&4].ready.len() == 2 && brokers(cluster, 1) == [1, 2, 3, 4]);
    for node in 1..=4 {
        cluster.until("all know it", |cluster| brokers(cluster, node) == [1, 2, 3, 4]);
        let quorum = quorum(&mut cluster, node);
        assert_eq!((quorum.leader_id, quorum.current_voters.len(), quorum.observers.len()), (1, 3, 1));
    }
}

#[test]
fn a_seed_says_where_it_listens_for_brokers_and_one_that_does_not_is_passed_over() {
    let mut cluster = Cluster::new();
    cluster.peer_ports.extend([(1, 4000), (2, 5000)]);
    cluster.start(1, Settings::default());
    cluster.start(2, Cluster::joining(&[1]));
    cluster.until("it belongs to it", |cluster| cluster.nodes[&2].ready.len() == 2 && brokers(cluster, 1) == [1, 2]);
    // Nobody is there, and a broker that itself waits; then one of the cluster.
    cluster.start(4, Cluster::joining(&[9]));
    cluster.start(3, Cluster::joining(&[9, 4, 2]));
    cluster.until("so does this", |cluster| cluster.nodes[&3].ready.len() == 2 && brokers(cluster, 1) == [1, 2, 3]);
    assert!(cluster.nodes[&4].ready.is_empty());
}

#[test]
fn every_broker_takes_requests_that_the_controller_decides_on() {
    let mut cluster = Cluster::of(3);
    for node in 1..=3 {
        let name = format!("topic-{node}");
        assert_eq!(create(&mut cluster, node, &name, 3), 0);
        assert_eq!(create(&mut cluster, 4 - node, &name, 3), ErrorCode::TopicAlreadyExists.code());
        assert_eq!(create(&mut cluster, node, &format!("wide-{node}"), 4), ErrorCode::InvalidReplicationFactor.code());
        cluster.until("all know it", |cluster| (1..=3).all(|node| leaders(cluster, node, &name).len() == 6));
        let all: Vec<_> = (1..=3).map(|node| leaders(&mut cluster, node, &name)).collect();
        assert!(all.iter().all(|leaders| *leaders == all[0]));
        assert!((1..=3).all(|node| all[0].contains(&node)), "{all:?}");
    }
    let mut ids: Vec<i64> = (0..6)
        .map(|at| {
            let request =
                InitProducerIdRequest { producer_id: -1, producer_epoch: -1, ..InitProducerIdRequest::default() };
            let reply: InitProducerIdResponse = ask(&mut cluster, 1 + at % 3, key::INIT_PRODUCER_ID, 4, &request);
            assert_eq!(reply.error_code, 0);
            reply.producer_id
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 6, "no id is given twice");
}

#[test]
fn a_topic_whose_creation_was_answered_in_vain_is_made_once_and_not_refused() {
    let mut cluster = Cluster::of(3);
    wait_for_voters(&mut cluster, 1, &[1, 2, 3]);
    // What the controller answers to the broker that has passed the request on.
    cluster.losing = Some((1, b"once"));
    assert_eq!(create(&mut cluster, 2, "once", 3), 0);
    assert!(cluster.losing.is_none(), "an answer was lost");
    cluster.until("all know it", |cluster| (1..=3).all(|node| leaders(cluster, node, "once").len() == 6));
    // Another request is another wish.
    assert_eq!(create(&mut cluster, 2, "once", 3), ErrorCode::TopicAlreadyExists.code());
}

#[test]
fn what_a_controller_had_not_decided_on_when_it_was_succeeded_is_asked_of_the_next() {
    let mut cluster = Cluster::of(3);
    wait_for_voters(&mut cluster, 1, &[1, 2, 3]);
    let before = quorum(&mut cluster, 1).leader_id;
    let other = before % 3 + 1;
    cluster.unlinked.insert(before);
    let asked = send(&mut cluster, before, key::CREATE_TOPICS, 7, &creation("t", 3));
    cluster.until("another decides", |cluster| ![-1, before].contains(&quorum(cluster, other).leader_id));
    cluster.unlinked.clear();
    assert_eq!(created(&mut cluster, asked), 0);
    assert_eq!(leaders(&mut cluster, before, "t").len(), 6);
}

#[test]
fn when_the_controller_is_killed_others_decide_and_lead_within_two_seconds() {
    let mut cluster = Cluster::of(3);
    wait_for_voters(&mut cluster, 1, &[1, 2, 3]);
    assert_eq!(create(&mut cluster, 1, "t", 3), 0);
    assert!(leaders(&mut cluster, 1, "t").contains(&1));
    cluster.kill(1);
    let ms = cluster.until("others lead", |cluster| {
        [2, 3].iter().all(|node| leaders(cluster, *node, "t").iter().all(|leader| [2, 3].contains(leader)))
    });
    assert!(ms <= 2_000, "it took {ms} ms");
    // A request that comes while nobody decides waits.
    assert_eq!(create(&mut cluster, 2, "after", 2), 0);
    assert_eq!(brokers(&mut cluster, 3), [2, 3]);

    cluster.start(1, Settings::default());
    cluster.until("it is back", |cluster| brokers(cluster, 2) == [1, 2, 3] && leaders(cluster, 1, "after").len() == 6);
    assert_ne!(quorum(&mut cluster, 1).leader_id, 1);
}

#[test]
fn a_broker_that_stops_has_others_lead_first() {
    for stopping in [1, 2] {
        let mut cluster = Cluster::of(3);
        wait_for_voters(&mut cluster, 1, &[1, 2, 3]);
        assert_eq!(create(&mut cluster, 1, "t", 3), 0);
        cluster.until("all know it", |cluster| leaders(cluster, 3, "t").len() == 6);
        assert!(leaders(&mut cluster, 3, "t").contains(&stopping));
        cluster.nodes.get_mut(&stopping).expect("it is up").stop();
        let ms = cluster.until("it has stopped", |cluster| cluster.nodes[&stopping].stopped.len() == 2);
        assert!(ms < 3_000, "it took {ms} ms");
        cluster.kill(stopping);
        // Long before its lease is over.
        cluster.advance_ms(200);
        let led = leaders(&mut cluster, 3, "t");
        assert!(!led.contains(&stopping) && !led.contains(&-1), "{led:?}");
        assert_eq!(create(&mut cluster, 3, "after", 2), 0);
    }
}

/// One record to each of six partitions, whoever leads them: the errors.
fn produce(cluster: &mut Cluster, node: i32, name: &str, acks: i16) -> Vec<i16> {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(NOW_MS, None, Some(b"value"));
    let records = Some(builder.build().bytes);
    let partition_data =
        (0..6).map(|index| PartitionProduceData { index, records: records.clone() }).collect::<Vec<_>>();
    let topic_data = vec![TopicProduceData { name: name.into(), partition_data, ..TopicProduceData::default() }];
    let request = ProduceRequest { acks, timeout_ms: 5000, topic_data, ..ProduceRequest::default() };
    let reply: ProduceResponse = ask(cluster, node, key::PRODUCE, 9, &request);
    let mut rows = reply.responses[0].partition_responses.clone();
    rows.sort_by_key(|row| row.index);
    rows.iter().map(|row| row.error_code).collect()
}

#[test]
fn writers_go_on_as_soon_as_others_lead() {
    let mut cluster = Cluster::of(3);
    wait_for_voters(&mut cluster, 1, &[1, 2, 3]);
    assert_eq!(create(&mut cluster, 1, "t", 3), 0);
    cluster.until("all know it", |cluster| (1..=3).all(|node| leaders(cluster, node, "t").len() == 6));
    cluster.advance_ms(1_000);
    cluster.kill(2);
    let others =
        |cluster: &mut Cluster, node: i32| leaders(cluster, node, "t").iter().all(|leader| [1, 3].contains(leader));
    let lead_ms = cluster.until("others lead", |cluster| others(cluster, 1) && others(cluster, 3));
    let before = cluster.nodes[&1].now.mono;
    let (first, second) = (produce(&mut cluster, 1, "t", -1), produce(&mut cluster, 3, "t", -1));
    assert!(first.iter().zip(&second).all(|codes| [*codes.0, *codes.1].contains(&0)), "{first:?} {second:?}");
    let acked_ms = cluster.nodes[&1].now.mono.since_ns(before) / 1_000_000;
    // No follower waits until a fetch is over that it had sent before.
    assert!(acked_ms <= 100, "others lead after {lead_ms} ms, and all have it {acked_ms} ms later");
}

#[test]
fn a_broker_whose_directory_fails_has_others_lead_until_it_is_started_again() {
    // The controller, and another.
    for failing in [1, 2] {
        let mut cluster = Cluster::of(3);
        wait_for_voters(&mut cluster, 1, &[1, 2, 3]);
        assert_eq!(create(&mut cluster, 1, "t", 3), 0);
        cluster.until("all know it", |cluster| (1..=3).all(|node| leaders(cluster, node, "t").len() == 6));
        assert!(leaders(&mut cluster, 3, "t").contains(&failing));
        cluster.nodes.get_mut(&failing).expect("it is up").disk.failing = Some(Failing::Syncs);
        produce(&mut cluster, failing, "t", 1);
        let world = cluster.nodes.get_mut(&failing).expect("it is up");
        assert!(world.shards.iter().all(|shard| shard.directory_failure().is_some()));
        world.disk.failing = None;
        let ms = cluster.until("others lead", |cluster| {
            (1..=3).all(|node| !leaders(cluster, node, "t").iter().any(|leader| [failing, -1].contains(leader)))
        });
        assert!(ms < 1_000, "it took {ms} ms");
        cluster.until("another decides", |cluster| ![failing, -1].contains(&quorum(cluster, 3).leader_id));
        assert_eq!(create(&mut cluster, 3, "after", 2), 0);
        cluster.kill(failing);
        cluster.start(failing, if failing == 1 { Settings::default() } else { Cluster::joining(&[1]) });
        cluster.until("it takes replicas again", |cluster| create(cluster, 3, "wide", 3) == 0);
        cluster.until("it leads again", |cluster| leaders(cluster, 3, "wide").contains(&failing));
    }
}

#[test]
fn a_broker_of_another_cluster_is_not_let_in() {
    let mut cluster = Cluster::of(2);
    let ours = cluster.nodes[&1].shards[0].image().cluster_id().to_owned();
    cluster.may_fail.insert(3);
    let wait_for_failure = |cluster: &mut Cluster, parts: &[&str]| {
        cluster.until("it stops", |cluster| cluster.nodes[&3].failure.is_some());
        let said = cluster.nodes[&3].failure.clone().expect("just seen");
        assert!(parts.iter().chain(&["theirs", &ours, "node-1:9092"]).all(|part| said.contains(part)), "{said}");
        assert!(cluster.nodes[&3].ready.is_empty());
        cluster.kill(3);
    };
    // By its settings.
    let theirs = || Settings { cluster_id: "theirs".into(), ..Settings::default() };
    cluster.start(3, Settings { seeds: Cluster::joining(&[1]).seeds, ..theirs() });
    wait_for_failure(&mut cluster, &["cluster.id"]);
    // By its data, whether all seeds answer or not.
    cluster.start(3, theirs());
    for seeds in [&[9, 1][..], &[1, 2]] {
        cluster.until("it serves its own", |cluster| cluster.takes_clients(3));
        cluster.kill(3);
        cluster.start(3, Cluster::joining(seeds));
        wait_for_failure(&mut cluster, &["corelog-data", "--data-dir"]);
        // Nobody answers, so that its data alone say what it is.
        cluster.start(3, Cluster::joining(&[9]));
    }
    assert_eq!((brokers(&mut cluster, 1), brokers(&mut cluster, 3)), (vec![1, 2], vec![3]));
    cluster.kill(3);
    cluster.lose_disk(3);
    cluster.start(3, Cluster::joining(&[1]));
    cluster.until("it joins", |cluster| brokers(cluster, 1) == [1, 2, 3]);
}

#[test]
fn a_broker_that_comes_back_takes_clients_when_it_knows_what_they_do() {
    let mut cluster = Cluster::of(3);
    wait_for_voters(&mut cluster, 1, &[1, 2, 3]);
    cluster.kill(3);
    assert_eq!(create(&mut cluster, 1, "t", 2), 0);
    cluster.start(3, Settings::default());
    cluster.until("it takes clients", |cluster| cluster.takes_clients(3));
    assert_eq!(leaders(&mut cluster, 3, "t"), leaders(&mut cluster, 1, "t"));
    cluster.until("it may lead", |cluster| brokers(cluster, 1) == [1, 2, 3]);
}

#[test]
fn without_a_majority_a_broker_that_starts_waits_and_then_tells_what_it_knows() {
    let mut cluster = Cluster::of(3);
    wait_for_voters(&mut cluster, 1, &[1, 2, 3]);
    assert_eq!(create(&mut cluster, 1, "t", 3), 0);
    // The start of what is written next has what was committed before.
    assert_eq!(create(&mut cluster, 1, "v", 3), 0);
    cluster.until("all know them", |cluster| leaders(cluster, 3, "v").len() == 6);
    let led = leaders(&mut cluster, 3, "t");
    (1..=3).for_each(|node| cluster.kill(node));
    cluster.start(3, Settings::default());
    cluster.advance_ms(9_000);
    assert!(!cluster.takes_clients(3));
    cluster.until("it takes clients", |cluster| cluster.takes_clients(3));
    assert_eq!(leaders(&mut cluster, 3, "t"), led);
    assert_eq!(create(&mut cluster, 3, "u", 1), ErrorCode::NotController.code());
    cluster.start(1, Settings::default());
    cluster.until("both are back", |cluster| cluster.takes_clients(1) && brokers(cluster, 3) == [1, 3]);
    assert_eq!(create(&mut cluster, 3, "u", 2), 0);
}

#[test]
fn brokers_tell_each_other_which_metadata_they_have() {
    let mut cluster = Cluster::of(3);
    wait_for_voters(&mut cluster, 1, &[1, 2, 3]);
    let behind = |cluster: &Cluster| -> Vec<u64> {
        cluster.nodes.values().map(|world| world.shards[0].report().metrics.get(Metric::MetadataBehind)).collect()
    };
    // Each counts the records it has applied from its own start on: that is no version.
    cluster.kill(2);
    cluster.start(2, Cluster::joining(&[1]));
    cluster.until("it is back", |cluster| brokers(cluster, 1) == [1, 2, 3]);
    assert_eq!(create(&mut cluster, 1, "t", 3), 0);
    cluster.advance_ms(3_000);
    let heard = |world: &World| world.shards[0].report().metrics.get(Metric::GossipAlive);
    assert!(cluster.nodes.values().all(|world| heard(world) == 2));
    assert_eq!(behind(&cluster), [0, 0, 0]);
    // Each has heard how far the partitions are that the others lead.
    let led = leaders(&mut cluster, 1, "t");
    for (node, world) in &cluster.nodes {
        let of_others = led.iter().filter(|leader| *leader != node).count() as u64;
        assert_eq!(world.shards[0].report().metrics.get(Metric::GossipPartitions), of_others, "{node}: {led:?}");
    }

    // One that hears gossip alone learns what is decided, and that it is behind where that is too long for gossip.
    let leader = quorum(&mut cluster, 1).leader_id;
    let cut_off = (1..=3).find(|node| *node != leader).expect("two others");
    cluster.unlinked.insert(cut_off);
    assert_eq!(create(&mut cluster, leader, "u", 2), 0);
    cluster.until("it has heard of it", |cluster| leaders(cluster, cut_off, "u").len() == 6);
    let (num_partitions, replication_factor) = (300, 2);
    let topic = CreatableTopic { name: "wide".into(), num_partitions, replication_factor, ..CreatableTopic::default() };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..CreateTopicsRequest::default() };
    let _: CreateTopicsResponse = ask(&mut cluster, leader, key::CREATE_TOPICS, 7, &request);
    cluster.until("it knows", |cluster| behind(cluster)[cut_off as usize - 1] > 0);
    cluster.unlinked.clear();
    cluster.until("it has pulled it", |cluster| leaders(cluster, cut_off, "wide").len() == 300);
}

#[test]
fn a_broker_that_hangs_is_found_by_gossip_long_before_its_lease_is_over() {
    let seconds_until_fenced = |datagrams| {
        let mut cluster = Cluster::new();
        cluster.datagrams = datagrams;
        let patient = |settings| Settings { broker_session_timeout_ms: 9_000, ..settings };
        cluster.start(1, patient(Settings::default()));
        (2..=3).for_each(|node| cluster.start(node, patient(Cluster::joining(&[1]))));
        wait_for_voters(&mut cluster, 1, &[1, 2, 3]);
        cluster.advance_ms(2_000);
        let leader = quorum(&mut cluster, 1).leader_id;
        let hanging = (1..=3).find(|node| *node != leader).expect("two others");
        cluster.hung.insert(hanging);
        cluster.until("it is fenced", |cluster| !brokers(cluster, leader).contains(&hanging)) as f64 / 1e3
    };
    let (with, without) = (seconds_until_fenced(true), seconds_until_fenced(false));
    assert!(with < 2.5 && with < without / 2.0, "with gossip {with} s, without {without} s");
}

/// What the controller answers to whoever gives a node a vote, or takes it.
fn give_vote(cluster: &mut Cluster, node: i32, voter_id: i32) -> i16 {
    let request = AddRaftVoterRequest { voter_id, ..AddRaftVoterRequest::default() };
    let reply: AddRaftVoterResponse = ask(cluster, node, key::ADD_RAFT_VOTER, 0, &request);
    reply.error_code
}

fn take_vote(cluster: &mut Cluster, node: i32, voter_id: i32) -> i16 {
    let request = RemoveRaftVoterRequest { voter_id, ..RemoveRaftVoterRequest::default() };
    let reply: RemoveRaftVoterResponse = ask(cluster, node, key::REMOVE_RAFT_VOTER, 0, &request);
    reply.error_code
}

#[test]
fn of_two_brokers_one_decides_and_of_three_all_do() {
    let mut cluster = Cluster::of(2);
    cluster.advance_ms(5_000);
    assert_eq!(voters(&mut cluster, 2), [1]);
    // It goes on alone.
    cluster.kill(2);
    assert_eq!(create(&mut cluster, 1, "t", 1), 0);
    cluster.start(2, Cluster::joining(&[1]));
    cluster.start(3, Cluster::joining(&[2]));
    wait_for_voters(&mut cluster, 1, &[1, 2, 3]);
    cluster.kill(1);
    cluster.until("another decides", |cluster| [2, 3].contains(&quorum(cluster, 2).leader_id));
}

#[test]
fn a_vote_that_was_taken_stays_so_until_it_is_given_back() {
    let mut cluster = Cluster::of(3);
    wait_for_voters(&mut cluster, 1, &[1, 2, 3]);
    let leader = quorum(&mut cluster, 1).leader_id;
    let taken = (1..=3).find(|node| *node != leader).expect("two others");
    let others: Vec<i32> = (1..=3).filter(|node| *node != taken).collect();
    assert_eq!(take_vote(&mut cluster, leader, taken), 0);
    assert_eq!(take_vote(&mut cluster, leader, taken), ErrorCode::VoterNotFound.code());
    cluster.advance_ms(5_000);
    assert_eq!(voters(&mut cluster, leader), others);
    // Whoever decides next knows of it as well, and a fourth broker has the vote that is left.
    (1..=3).for_each(|node| cluster.kill(node));
    for node in 1..=3 {
        cluster.start(node, if node == 1 { Settings::default() } else { Cluster::joining(&[1]) });
    }
    cluster.until("all are back", |cluster| brokers(cluster, taken) == [1, 2, 3]);
    cluster.advance_ms(5_000);
    assert_eq!(voters(&mut cluster, taken), others);
    assert_eq!(give_vote(&mut cluster, taken, taken), 0);
    wait_for_voters(&mut cluster, taken, &[1, 2, 3]);
    assert_eq!(take_vote(&mut cluster, taken, taken), 0);
    cluster.start(4, Cluster::joining(&[1]));
    let with_fourth: Vec<i32> = others.iter().copied().chain([4]).collect();
    wait_for_voters(&mut cluster, taken, &with_fourth);
}

#[test]
fn a_broker_that_lost_its_directory_does_not_lead_what_it_had_there() {
    let mut cluster = Cluster::of(3);
    wait_for_voters(&mut cluster, 1, &[1, 2, 3]);
    cluster.start(4, Cluster::joining(&[1]));
    cluster.until("all are there", |cluster| brokers(cluster, 1) == [1, 2, 3, 4]);
    let topic = CreatableTopic {
        name: "t".into(),
        num_partitions: -1,
        replication_factor: -1,
        assignments: vec![CreatableReplicaAssignment { partition_index: 0, broker_ids: vec![2, 4] }],
        configs: vec![CreatableTopicConfig { name: "min.insync.replicas".into(), value: Some("2".into()) }],
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..CreateTopicsRequest::default() };
    let reply: CreateTopicsResponse = ask(&mut cluster, 1, key::CREATE_TOPICS, 7, &request);
    assert_eq!(reply.topics[0].error_code, 0);
    // It has what was acknowledged, and may lead when it comes back.
    cluster.kill(4);
    cluster.until("the other leads alone", |cluster| {
        let image = cluster.nodes[&1].shards[0].image();
        image.states().all(|(_, _, state)| state.isr().eq([NodeId(2)]))
    });

    // A new controller sends its log to the voter, which has nothing and cannot register while its lease is not over.
    cluster.kill(2);
    cluster.lose_disk(2);
    cluster.kill(1);
    cluster.start(1, Settings::default());
    cluster.until("somebody decides", |cluster| [1, 3].contains(&quorum(cluster, 3).leader_id));
    let epoch = |cluster: &Cluster, node: i32| {
        cluster.nodes[&node].shards[0].image().broker(NodeId(2)).map(|broker| broker.epoch)
    };
    let before = epoch(&cluster, 3);
    cluster.start(2, Cluster::joining(&[9]));
    cluster.until("it hears of itself", |cluster| epoch(cluster, 2).is_some());
    cluster.kill(2);
    assert_eq!(epoch(&cluster, 3), before, "it is not registered yet");
    cluster.start(2, Cluster::joining(&[1]));
    cluster.until("it is back", |cluster| epoch(cluster, 3) != before && brokers(cluster, 1) == [1, 2, 3]);
    assert_eq!(leaders(&mut cluster, 1, "t"), [-1], "it has nothing");
    cluster.start(4, Cluster::joining(&[1]));
    cluster.until("who has everything leads", |cluster| leaders(cluster, 1, "t") == [4]);
}

#[test]
fn a_voter_that_lost_its_directory_joins_again_and_votes_again() {
    let mut cluster = Cluster::of(3);
    wait_for_voters(&mut cluster, 1, &[1, 2, 3]);
    assert_eq!(create(&mut cluster, 1, "t", 3), 0);
    cluster.kill(2);
    cluster.lose_disk(2);
    cluster.start(2, Cluster::joining(&[3]));
    cluster.until("it has joined", |cluster| cluster.nodes[&2].ready.len() == 2);
    wait_for_voters(&mut cluster, 1, &[1, 2, 3]);
    cluster.until("it knows the topic", |cluster| leaders(cluster, 2, "t").len() == 6);
    // Its vote counts.
    cluster.kill(1);
    cluster.until("another decides", |cluster| quorum(cluster, 2).leader_id == 3 || quorum(cluster, 2).leader_id == 2);
}
