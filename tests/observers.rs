//! Brokers without a vote: they have all metadata, get a vote when one is free, and lose it.

mod support;

use corelog::base::ids::NodeId;
use corelog::base::metric::Metric;
use corelog::broker::api::key;
use corelog::wire::messages::create_topics::{CreatableTopic, CreateTopicsRequest, CreateTopicsResponse};
use corelog::wire::messages::remove_raft_voter::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};

use support::cluster::{Cluster, ask, quorum, wait_for_voters};

/// A topic of so many partitions, with a replica each.
fn create(cluster: &mut Cluster, node: i32, name: &str, num_partitions: i32) {
    let topic =
        CreatableTopic { name: name.into(), num_partitions, replication_factor: 1, ..CreatableTopic::default() };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..CreateTopicsRequest::default() };
    let reply: CreateTopicsResponse = ask(cluster, node, key::CREATE_TOPICS, 7, &request);
    assert_eq!(reply.topics[0].error_code, 0);
}

fn remove_voter(cluster: &mut Cluster, node: i32, voter_id: i32) -> i16 {
    let request = RemoveRaftVoterRequest { voter_id, ..RemoveRaftVoterRequest::default() };
    let reply: RemoveRaftVoterResponse = ask(cluster, node, key::REMOVE_RAFT_VOTER, 0, &request);
    reply.error_code
}

fn knows(cluster: &Cluster, node: i32, topic: &str) -> bool {
    cluster.nodes[&node].shards.iter().all(|shard| shard.image().topic(topic).is_some())
}

/// Whether a node takes part in the quorum, as it thinks itself.
fn votes(cluster: &Cluster, node: i32) -> bool {
    cluster.nodes[&node].shards[0].quorum().is_some_and(|status| status.voters.contains(&NodeId(node)))
}

fn of_four() -> Cluster {
    let mut cluster = Cluster::of(3);
    wait_for_voters(&mut cluster, 1, &[1, 2, 3]);
    cluster.start(4, Cluster::joining(&[1]));
    cluster.until("it serves", |cluster| cluster.nodes[&4].ready.len() == 2);
    cluster
}

#[test]
fn one_without_a_vote_hears_by_gossip_soon_and_without_it_by_asking() {
    for (datagrams, partitions, within_ms) in [(true, 3, 200), (true, 500, 400), (false, 3, 2_500)] {
        let mut cluster = of_four();
        cluster.advance_ms(3_000);
        cluster.datagrams = datagrams;
        create(&mut cluster, 2, "t", partitions);
        let ms = cluster.until("it knows", |cluster| knows(cluster, 4, "t"));
        assert!(ms <= within_ms, "{ms} ms with datagrams: {datagrams}");
        assert!(!votes(&cluster, 4));
        assert_eq!(quorum(&mut cluster, 4).leader_id, 1);
    }
}

#[test]
fn one_without_a_vote_has_what_it_had_when_it_is_started_again_and_then_the_rest() {
    let mut cluster = of_four();
    create(&mut cluster, 4, "before", 3);
    cluster.until("it knows", |cluster| knows(cluster, 4, "before"));
    cluster.kill(4);
    create(&mut cluster, 1, "meanwhile", 500);
    cluster.start(4, Cluster::joining(&[1]));
    cluster.until("it has what it had", |cluster| !cluster.nodes[&4].shards.is_empty() && knows(cluster, 4, "before"));
    cluster.until("it has the rest", |cluster| knows(cluster, 4, "meanwhile"));
    cluster.until("it serves", |cluster| cluster.nodes[&4].ready.len() == 2);
    let behind = |cluster: &Cluster| cluster.nodes[&4].shards[0].report().metrics.get(Metric::MetadataBehind);
    cluster.until("it has all", |cluster| behind(cluster) == 0);
}

#[test]
fn a_vote_that_is_taken_from_one_goes_to_another_and_counts() {
    for datagrams in [true, false] {
        let mut cluster = of_four();
        cluster.datagrams = datagrams;
        create(&mut cluster, 1, "before", 3);
        cluster.kill(3);
        cluster.advance_ms(15_000);
        assert_eq!(remove_voter(&mut cluster, 1, 3), 0);
        wait_for_voters(&mut cluster, 1, &[1, 2, 4]);
        cluster.until("it knows that it votes", |cluster| votes(cluster, 4));
        create(&mut cluster, 1, "after", 3);

        // Nobody has told it.
        cluster.start(3, Cluster::joining(&[1]));
        cluster.until("it has all", |cluster| !cluster.nodes[&3].shards.is_empty() && knows(cluster, 3, "after"));
        cluster.until("it serves", |cluster| cluster.nodes[&3].ready.len() == 2);
        assert!(!votes(&cluster, 3));
        wait_for_voters(&mut cluster, 1, &[1, 2, 4]);

        cluster.kill(1);
        cluster.until("another decides", |cluster| [2, 4].contains(&quorum(cluster, 2).leader_id));
        create(&mut cluster, 4, "last", 3);
        cluster.until("all know it", |cluster| (2..=4).all(|node| knows(cluster, node, "last")));
    }
}
