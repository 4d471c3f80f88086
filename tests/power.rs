//! The loss of power, on a disk that loses what was not flushed. Whatever was acknowledged durably or shown is there
//! afterwards, once, in its producer's order, at the same offset; and what was not durable is lost indeed, or the
//! disk would prove nothing.
//!
//! `CORELOG_POWER_ROUNDS=300 cargo test --test power -- --nocapture` is the long form; `CORELOG_POWER_SEED` takes the
//! choices of an earlier run again, but not its moments. Needs root, /dev/fuse, loop devices and mkfs.ext4.
#![cfg(feature = "shell")]

mod binary;
mod ledger;
mod lossy;
mod raw;

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use binary::{Broker, command, directory};
use corelog::base::rng::Rng;
use ledger::Ledger;
use lossy::{Losses, LossyDisk};

const ROUNDS: u64 = 8;
const LOAD: Duration = Duration::from_millis(300);
const DISK_BYTES: u64 = 4 << 30;

fn lossy_disk(dir: &tempfile::TempDir) -> Option<LossyDisk> {
    match LossyDisk::new(dir.path(), DISK_BYTES) {
        Ok(disk) => Some(disk),
        Err(why) => {
            eprintln!(
                "no disk that loses what was not flushed can be made here ({why}): the simulated disk stands for it"
            );
            None
        }
    }
}

/// At some moment, or just before a flush: then there is most to lose.
fn cut(disk: &LossyDisk, rng: &mut Rng, over: &Arc<AtomicBool>) -> Losses {
    if rng.below(4) == 0 { disk.cut(rng, over) } else { disk.cut_at_flush(rng, over) }
}

#[test]
fn what_was_synced_or_shown_outlives_the_loss_of_power() {
    let dir = directory();
    let Some(disk) = lossy_disk(&dir) else { return };
    let rounds = ledger::number("CORELOG_POWER_ROUNDS").unwrap_or(ROUNDS);
    let seed = ledger::seed("CORELOG_POWER_SEED");
    let mut rng = Rng::new(seed);
    let began = Instant::now();
    let data = disk.at.join("data");
    let broker = Broker::start(&data, &[]);
    let mut ledger = Ledger::new(&broker, rng.next_u64());
    broker.stop();
    for round in 0..rounds {
        let settings = ledger::settings(&mut rng, true);
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let after = Duration::from_micros(rng.below(LOAD.as_micros() as u64));
        let is_start = rng.below(4) == 0;
        let losses = if is_start {
            let mut command = command(&data, "127.0.0.1:0", &settings);
            let mut process = command.stderr(Stdio::null()).spawn().expect("start the binary");
            // The clock chooses the moment: what a test could wait for would always be the same one.
            thread::sleep(after);
            let losses = cut(&disk, &mut rng, &Arc::default());
            process.kill().expect("kill -9");
            process.wait().expect("wait");
            losses
        } else {
            let broker = Broker::start(&data, &settings);
            ledger.verify(&broker);
            let mut losses = Losses::default();
            ledger.load(broker, after, |_, over| {
                losses = cut(&disk, &mut rng, over);
            });
            losses
        };
        let when = if is_start { "starting" } else { "loaded" };
        eprintln!("seed {seed}, round {round} of {rounds}: {when} for {after:?}, {}, {losses:?}", settings.join(" "));
        disk.restore().expect("the file system recovers");
    }
    let (acks, records) = ledger.end(Broker::start(&data, &[]), &data);
    assert!(acks > 0);
    let seconds = began.elapsed().as_secs();
    eprintln!("seed {seed}: {rounds} cuts in {seconds} s, {acks} batches acknowledged, {records} records, all there");
}

#[test]
fn what_was_only_written_is_lost_with_the_power() {
    let dir = directory();
    let Some(disk) = lossy_disk(&dir) else { return };
    let mut rng = Rng::new(4);
    let data = disk.at.join("data");
    let arguments = ["--cores", "1", "--durability", "write"];
    let broker = Broker::start(&data, &arguments);
    let mut ledger = Ledger::new(&broker, 4);
    broker.stop();
    let broker = Broker::start(&data, &arguments);
    ledger.load(broker, LOAD, |_, over| {
        disk.cut(&mut rng, over);
    });
    disk.restore().expect("the file system recovers");
    let broker = Broker::start(&data, &arguments);
    let missing = ledger.missing(&broker);
    broker.kill();
    eprintln!("{missing} acknowledged records are lost");
    assert!(missing > 0);
}
