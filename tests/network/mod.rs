//! Three network namespaces on one bridge, whose links can be cut and healed. Needs root and `ip`.
#![allow(dead_code)]

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

pub const HOSTS: usize = 3;

pub struct Network {
    /// In the names of namespaces and links.
    tag: u32,
    /// Whether links have delay and loss.
    pub is_bad: bool,
}

impl Network {
    /// Errors say what cannot be had here. With netem, where the kernel has it, every link has 2 ms delay and 0.5 % loss.
    pub fn new() -> Result<Network, String> {
        static NETWORKS: AtomicU32 = AtomicU32::new(0);
        let tag = std::process::id() * 10 + NETWORKS.fetch_add(1, Ordering::SeqCst);
        let mut network = Network { tag, is_bad: false };
        let bridge = network.bridge();
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&["addr", "add", &format!("{}/24", network.address_of(1)), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        for host in 0..HOSTS {
            let (space, outside, inside) =
                (network.space(host), network.link(host), format!("i{}", network.link(host)));
            ip(&["netns", "add", &space])?;
            ip(&["link", "add", &outside, "type", "veth", "peer", "name", &inside])?;
            ip(&["link", "set", &outside, "master", &bridge, "up"])?;
            ip(&["link", "set", &inside, "netns", &space])?;
            ip(&["-n", &space, "addr", "add", &format!("{}/24", network.address(host)), "dev", &inside])?;
            ip(&["-n", &space, "link", "set", &inside, "up"])?;
            ip(&["-n", &space, "link", "set", "lo", "up"])?;
            let netem = ["qdisc", "add", "dev", &outside, "root", "netem", "delay", "2ms", "1ms", "loss", "0.5%"];
            network.is_bad = run("tc", &netem).is_ok();
        }
        if !network.is_bad {
            eprintln!("this kernel has no netem: links have neither delay nor loss");
        }
        Ok(network)
    }

    /// Where a host is reached, from the others and from here.
    pub fn address(&self, host: usize) -> String {
        self.address_of(host + 2)
    }

    pub fn space(&self, host: usize) -> String {
        format!("corelog-{}-{host}", self.tag)
    }

    /// Nothing reaches the host or leaves it.
    pub fn cut_off(&self, host: usize) {
        ip(&["link", "set", &self.link(host), "down"]).expect("the link is there");
    }

    pub fn join_again(&self, host: usize) {
        ip(&["link", "set", &self.link(host), "up"]).expect("the link is there");
    }

    /// What one host sends to the other gets lost. The way back stays, until it is cut too.
    pub fn cut(&self, from: usize, to: usize) {
        let (space, address) = (self.space(from), format!("{}/32", self.address(to)));
        ip(&["-n", &space, "route", "add", "blackhole", &address]).expect("there is no such route yet");
    }

    pub fn heal(&self, from: usize, to: usize) {
        let (space, address) = (self.space(from), format!("{}/32", self.address(to)));
        ip(&["-n", &space, "route", "del", "blackhole", &address]).expect("the route is there");
    }

    fn address_of(&self, last: usize) -> String {
        format!("10.213.{}.{last}", self.tag % 250)
    }

    fn bridge(&self) -> String {
        format!("clb{}", self.tag)
    }

    fn link(&self, host: usize) -> String {
        format!("cl{}h{host}", self.tag)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in 0..HOSTS {
            // With it go its links.
            let _ = ip(&["netns", "del", &self.space(host)]);
        }
        let _ = ip(&["link", "del", &self.bridge()]);
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    run("ip", arguments)
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{program} {}: {}", arguments.join(" "), said.trim())) }
}
