//! librdkafka pushes what it measures to the real binary, which shows it to whoever watches (KIP-714).
#![cfg(feature = "shell")]

mod binary;
mod command;
mod kafka;

use std::time::Instant;

use binary::{Broker, PATIENCE, directory};
use command::{DONE, says};
use kafka::{Sent, producer, send};

/// The lines of the metrics page that are about one client.
fn lines(broker: &Broker, client_id: &str) -> Vec<String> {
    let (page, label) = (broker.get("/metrics"), format!("client_id=\"{client_id}\""));
    let of_client = page.lines().filter(|line| line.starts_with("corelog_client_metric{") && line.contains(&label));
    of_client.map(str::to_owned).collect()
}

#[test]
fn what_librdkafka_measures_is_on_the_metrics_page() {
    let dir = directory();
    let broker = Broker::start(dir.path(), &["--cores", "2", "--http", "127.0.0.1:0"]);
    let bootstrap = broker.address.to_string();
    let settings = ["metrics=*", "interval.ms=100", "match=client_id=watched.*"];
    let set = [&["config", "set", "--client-metrics", "all"], &settings[..]].concat();
    says(&bootstrap, &set, DONE, &["client metrics all  set"]);

    let (producers, acked): (Vec<_>, Vec<_>) = ["watched-1", "watched-\"2\"", "other"]
        .map(|client_id| {
            producer(&bootstrap, &[("client.id", client_id), ("topic.metadata.refresh.interval.ms", "100")])
        })
        .into_iter()
        .unzip();
    for (producer, acked) in producers.iter().zip(&acked) {
        send(producer, "t", &[Sent::plain(0, b"value".to_vec())]);
        acked.wait_for(1);
    }
    let wanted = "metric=\"org.apache.kafka.producer.connection.creation.total\"";
    let start = Instant::now();
    for client_id in ["watched-1", "watched-\\\"2\\\""] {
        loop {
            let lines = lines(&broker, client_id);
            if let Some(line) = lines.iter().find(|line| line.contains(wanted)) {
                assert!(line.contains("client_software_name=\"librdkafka\""), "{line}");
                assert!(line.contains("client_source_address=\"127.0.0.1\""), "{line}");
                let value: f64 = line.rsplit(' ').next().and_then(|word| word.parse().ok()).expect("a number");
                assert!(value >= 1.0, "{line}");
                break;
            }
            assert!(start.elapsed() < PATIENCE, "nothing of {client_id} comes: {lines:#?}");
        }
    }
    assert_eq!(lines(&broker, "other"), Vec::<String>::new());
    assert!(broker.get("/metrics").ends_with("# EOF\n"));
}
