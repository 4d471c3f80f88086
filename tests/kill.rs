//! kill -9 at random moments, again and again: under load, while the broker starts, and while it stops. Whatever it
//! acknowledged or once showed is there afterwards, once, in its producer's order, at the same offset.
//!
//! `CORELOG_KILL_ROUNDS=300 cargo test --test kill -- --nocapture` is the long form; `CORELOG_KILL_SEED` takes the
//! choices of an earlier run again, but not its moments.
#![cfg(feature = "shell")]

mod binary;
mod ledger;
mod raw;

use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use binary::{Broker, command, directory};
use corelog::base::rng::Rng;
use ledger::Ledger;

const ROUNDS: u64 = 12;
/// Rounds on one data directory.
const LIFE_ROUNDS: usize = 40;
const LOAD: Duration = Duration::from_millis(150);

/// When a round kills, counted from the first request, the start, or the signal to stop.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Load(Duration),
    Start(Duration),
    Stop(Duration),
}

impl Moment {
    fn draw(rng: &mut Rng) -> Moment {
        let kind = rng.below(8);
        let mut below = |longest: Duration| Duration::from_micros(rng.below(longest.as_micros() as u64));
        match kind {
            0 | 1 => Moment::Start(below(2 * LOAD)),
            2 => Moment::Stop(below(LOAD / 10)),
            _ => Moment::Load(below(LOAD)),
        }
    }
}

fn round(ledger: &mut Ledger, data: &Path, arguments: &[&str], moment: Moment) {
    if let Moment::Start(after) = moment {
        let mut command = command(data, "127.0.0.1:0", arguments);
        let mut process = command.stderr(Stdio::null()).spawn().expect("start the binary");
        // The clock chooses the moment: what a test could wait for would always be the same one.
        thread::sleep(after);
        process.kill().expect("kill -9");
        process.wait().expect("wait");
        return;
    }
    let broker = Broker::start(data, arguments);
    ledger.verify(&broker);
    match moment {
        Moment::Load(after) | Moment::Start(after) => ledger.load(broker, after, |_, _| ()),
        Moment::Stop(after) => ledger.load(broker, LOAD / 2, |broker, _| {
            broker.signal("-TERM");
            thread::sleep(after);
        }),
    }
}

#[test]
fn whatever_was_acknowledged_or_shown_outlives_every_kill() {
    let rounds = ledger::number("CORELOG_KILL_ROUNDS").unwrap_or(ROUNDS);
    let seed = ledger::seed("CORELOG_KILL_SEED");
    let mut rng = Rng::new(seed);
    let began = Instant::now();
    let (mut acks, mut records) = (0, 0);
    for first in (0..rounds).step_by(LIFE_ROUNDS) {
        let dir = directory();
        let broker = Broker::start(dir.path(), &[]);
        let mut ledger = Ledger::new(&broker, rng.next_u64());
        broker.kill();
        for number in first..rounds.min(first + LIFE_ROUNDS as u64) {
            let durable = rng.below(3) > 0;
            let settings = ledger::settings(&mut rng, durable);
            let moment = Moment::draw(&mut rng);
            eprintln!("seed {seed}, round {number} of {rounds}: {moment:?}, {}", settings.join(" "));
            round(&mut ledger, dir.path(), &settings.iter().map(String::as_str).collect::<Vec<_>>(), moment);
        }
        let (more_acks, more_records) = ledger.end(Broker::start(dir.path(), &[]), dir.path());
        (acks, records) = (acks + more_acks, records + more_records);
    }
    assert!(acks > 0);
    let seconds = began.elapsed().as_secs();
    eprintln!("seed {seed}: {rounds} kills in {seconds} s, {acks} batches acknowledged, {records} records, all there");
}
