//! Gossip between live brokers: they hear of each other, notice when one dies, and are not impressed by others.
#![cfg(feature = "shell")]

mod binary;

use std::net::UdpSocket;
use std::path::Path;
use std::time::Instant;

use binary::{Broker, PATIENCE, directory, free_ports};
use corelog::base::ids::NodeId;
use corelog::gossip::Seal;
use corelog::gossip::frame::{FrameWriter, Head, SectionKind};

const SECRET: &str = "a secret of the cluster";

/// The port for clients; that for brokers is 10,000 above.
struct Place {
    port: u16,
    node: i32,
}

impl Place {
    fn start(&self, dir: &Path, seed: Option<&Place>) -> Broker {
        let key = dir.join("key");
        std::fs::write(&key, SECRET).expect("write the key");
        let mut arguments = vec![
            "--cores=1".to_owned(),
            "--cluster-id=ours".to_owned(),
            "--http-listen=127.0.0.1:0".to_owned(),
            format!("--node-id={}", self.node),
            format!("--peer-listen=127.0.0.1:{}", self.peer_port()),
            format!("--peer-shared-key-file={}", key.display()),
        ];
        arguments.extend(seed.map(|seed| format!("--seeds=127.0.0.1:{}", seed.port)));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Broker::start_on(&dir.join("data"), &format!("127.0.0.1:{}", self.port), &arguments)
    }

    fn peer_port(&self) -> u16 {
        self.port + 10_000
    }
}

/// Until a line of the metrics page begins so, with a number that will do.
fn wait_for_metric(broker: &Broker, name: &str, will_do: impl Fn(f64) -> bool) -> f64 {
    let began = Instant::now();
    loop {
        let page = broker.get("/metrics");
        let line = page.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        match value {
            Some(value) if will_do(value) => return value,
            _ => assert!(began.elapsed() < PATIENCE, "{name}: {line:?}"),
        }
    }
}

#[test]
fn brokers_hear_of_each_other_and_notice_when_one_is_killed() {
    let dirs = [directory(), directory()];
    let ports = free_ports(2);
    let places = [Place { port: ports, node: 1 }, Place { port: ports + 1, node: 2 }];
    let first = places[0].start(dirs[0].path(), None);
    let second = places[1].start(dirs[1].path(), Some(&places[0]));
    for (broker, other) in [(&first, 2), (&second, 1)] {
        wait_for_metric(broker, "corelog_gossip_alive{", |alive| alive == 1.0);
        let load = wait_for_metric(broker, &format!("corelog_node_load_ratio{{node=\"{other}\""), |_| true);
        assert!((0.0..=1.0).contains(&load), "{load}");
        wait_for_metric(broker, &format!("corelog_node_device_full_ratio{{node=\"{other}\""), |full| full > 0.0);
    }
    second.kill();
    let suspected = Instant::now();
    first.wait_for("a broker does not answer");
    assert!(suspected.elapsed() < PATIENCE / 2);
    first.wait_for("a broker seems to be gone");
    wait_for_metric(&first, "corelog_gossip_alive{", |alive| alive == 0.0);
    let second = places[1].start(dirs[1].path(), Some(&places[0]));
    wait_for_metric(&first, "corelog_gossip_alive{", |alive| alive == 1.0);
    // Who says that it stops is not waited for.
    second.stop();
    first.wait_for("a broker seems to be gone");
    first.stop();
}

#[test]
fn what_others_send_is_counted_and_told_once() {
    const EACH: u64 = 50;
    let dir = directory();
    let place = Place { port: free_ports(1), node: 1 };
    let broker = place.start(dir.path(), None);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
    let send = |datagram: &[u8]| {
        socket.send_to(datagram, ("127.0.0.1", place.peer_port())).expect("send");
    };
    let made = |seal: Seal, sequence| {
        let head = Head { from: NodeId(2), generation: 1, sequence, version: u64::MAX };
        let mut writer = FrameWriter::new(head, &seal);
        writer.push(SectionKind::Report, &[0xff; 100]);
        writer.finish(&seal)
    };
    for sequence in 1..=EACH {
        send(b"neither this nor that");
        send(&made(Seal::new("theirs", Some(SECRET.as_bytes())), sequence));
        send(&made(Seal::new("ours", None), sequence));
        send(&made(Seal::new("ours", Some(b"another secret entirely")), sequence));
        send(&made(Seal::new("ours", Some(SECRET.as_bytes())), 7));
    }
    let refused =
        wait_for_metric(&broker, "corelog_gossip_refused_datagrams_total{", |count| count >= 5.0 * EACH as f64);
    assert_eq!(refused, 5.0 * EACH as f64);
    assert_eq!(wait_for_metric(&broker, "corelog_gossip_alive{", |_| true), 0.0);
    broker.signal("-TERM");
    let said = broker.hear("stopped");
    let told = said.iter().filter(|line| line.contains("a datagram of gossip was refused")).count();
    // Damaged, of another cluster, forged, nonsense, repeated.
    assert_eq!(told, 5, "{said:?}");
}
