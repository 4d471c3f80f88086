//! Three brokers in three network namespaces: links that are cut, on all sides, between two, and in one direction.
#![cfg(feature = "shell")]

mod binary;
mod kafka;
mod network;
mod trio;

use network::Network;
use trio::{Load, Trio};

/// Leases that end soon, and followers that are given up soon.
const SHORT: [&str; 3] =
    ["--broker-session-timeout-ms=2000", "--broker-heartbeat-interval-ms=200", "--replica-lag-time-max-ms=1500"];

fn network() -> Option<Network> {
    match Network::new() {
        Ok(network) => Some(network),
        Err(why) => {
            eprintln!("no network namespaces can be made here ({why}): the simulated network stands for them");
            None
        }
    }
}

#[test]
fn a_leader_that_nobody_reaches_is_replaced_and_comes_back_without_harm() {
    let Some(network) = network() else { return };
    let trio = Trio::start_in(&network, &SHORT);
    trio.create_topic();
    let load = Load::start(&trio.bootstrap());
    load.goes_on();
    for _ in 0..2 {
        let leader = trio.leader(0);
        network.cut_off(leader);
        trio.wait_until_others_lead(leader);
        load.goes_on();
        network.join_again(leader);
        trio.wait_for_full_isr();
    }
    load.verify(&trio.bootstrap());
}

#[test]
fn two_that_do_not_reach_each_other_and_one_that_hears_and_is_not_heard_stop_nobody() {
    let Some(network) = network() else { return };
    let trio = Trio::start_in(&network, &SHORT);
    trio.create_topic();
    let load = Load::start(&trio.bootstrap());
    load.goes_on();
    let leader = trio.leader(0);
    let other = (leader + 1) % trio::NODES;
    network.cut(leader, other);
    network.cut(other, leader);
    load.goes_on();
    network.heal(leader, other);
    network.heal(other, leader);
    trio.wait_for_full_isr();
    network.cut(leader, other);
    load.goes_on();
    network.heal(leader, other);
    trio.wait_for_full_isr();
    load.verify(&trio.bootstrap());
}
