//! How brokers start as members of a cluster, on real processes: whom they ask, and when they refuse.
#![cfg(feature = "shell")]

mod binary;
mod scripted;

use std::path::Path;

use binary::{Broker, command, directory, free_ports};
use corelog::wire::errors::ErrorCode;
use corelog::wire::messages::describe_cluster::DescribeClusterResponse;
use scripted::Scripted;

/// A broker that others can join, with its listener for them wherever there is a free port.
fn founder(dir: &Path, arguments: &[&str]) -> Broker {
    let peers = format!("--peer-listen=127.0.0.1:{}", free_ports(1));
    Broker::start(dir, &[&["--cores=1", "--node-id=1", &peers], arguments].concat())
}

/// A broker with seeds, that may never be ready.
fn guest(dir: &Path, node: &str, seeds: &str) -> Broker {
    let (peers, seeds) = (format!("--peer-listen=127.0.0.1:{}", free_ports(1)), format!("--seeds={seeds}"));
    Broker::spawn(command(dir, "127.0.0.1:0", &["--cores=1", node, &peers, &seeds]))
}

#[test]
fn brokers_join_through_seeds_wherever_those_listen_for_others() {
    let (first, second, apart) = (directory(), directory(), directory());
    let founder = founder(first.path(), &[]);
    let alone = Broker::start(apart.path(), &["--cores=1", "--node-id=7"]);
    let kafka = Scripted::start(&[], |question| {
        let error_code = ErrorCode::UnsupportedEndpointType.code();
        question.reply(&DescribeClusterResponse { error_code, ..Default::default() })
    });
    let seeds = format!("{},{},{}", kafka.addresses[0], alone.address, founder.address);
    let guest = guest(second.path(), "--node-id=2", &seeds);
    guest.wait_for("seeds are brokers of Corelog");
    guest.wait_for("it must be started with --peer-listen");
    founder.wait_for("node 2 registers");
    guest.wait_for("ready");
    [guest, alone, founder].into_iter().for_each(Broker::stop);
}

#[test]
fn a_broker_whose_data_are_of_another_cluster_stops_before_it_takes_clients() {
    let (ours, theirs) = (directory(), directory());
    let founder = founder(ours.path(), &["--cluster-id=ours"]);
    let alone = ["--cores=1", "--cluster-id=theirs", "--node-id=9"];
    Broker::start(theirs.path(), &alone).stop();
    let mut stranger = guest(theirs.path(), "--node-id=9", &founder.address.to_string());
    let said = stranger.hear("belongs to cluster theirs");
    let message = said.last().expect("the line");
    let (dir, seed) = (theirs.path().display().to_string(), founder.address.to_string());
    assert!(
        [dir.as_str(), &seed, "of cluster ours", "--data-dir"].iter().all(|part| message.contains(part)),
        "{message}"
    );
    assert!(!said.iter().any(|line| line.contains("ready")), "{said:#?}");
    assert_eq!(stranger.exit_code(), Some(1));
    // Nothing of it was changed.
    Broker::start(theirs.path(), &alone).stop();
    founder.stop();
}
