//! Settings that change while the log is open.
//!
//! *Owns*: these tests of the log. *Runs on*: tests.

use crate::base::ids::Offset;
use crate::base::rng::Rng;
use crate::config::{Durability, TopicSettings};

use super::super::log::LogEvent;
use super::super::testdisk::Crash;
use super::super::testing::{Rig, batch, batch_of, dir, small_segments, small_synced_segments};

fn change(rig: &mut Rig, settings: TopicSettings) {
    rig.settings = settings.clone();
    rig.log.set_settings(settings, rig.now, &mut rig.out);
    rig.send();
}

#[test]
fn the_next_append_meets_the_new_segment_size() {
    let mut rig = Rig::new(1, small_segments());
    rig.append(&batch(1, 15_000, 0)).unwrap();
    change(&mut rig, TopicSettings { segment_bytes: 10_000, ..small_segments() });
    assert!(rig.append(&batch(1, 15_000, 0)).is_err());
    rig.append(&batch(1, 9_000, 0)).unwrap();
    change(&mut rig, TopicSettings { segment_bytes: 1 << 20, ..small_segments() });
    for _ in 0..8 {
        rig.append(&batch(1, 15_000, 0)).unwrap();
    }
    rig.run();
    rig.check_holds(Offset(10));
    let segments = rig.disk.names(&dir()).iter().filter(|(name, _)| name.ends_with(".log")).count();
    assert!(segments <= 2, "{segments} segments");
}

#[test]
fn a_shorter_flush_ms_counts_for_what_is_written_already() {
    let mut rig = Rig::new(1, TopicSettings { flush_ms: 100_000, ..small_segments() });
    rig.append(&batch(1, 100, 0)).unwrap();
    rig.run();
    assert!(!rig.disk.counts.contains_key("sync"));
    change(&mut rig, TopicSettings { flush_ms: 10, ..small_segments() });
    assert_eq!(rig.log.next_deadline(), Some(rig.now.mono.after_ms(10)));
    rig.now.mono = rig.now.mono.after_ms(10);
    rig.timeout();
    rig.run();
    assert_eq!(rig.disk.counts.get("sync"), Some(&1));
}

/// What was appended after a stricter promise was made, and is told to be safe, survives a loss of power, with all that
/// was written before.
#[test]
fn a_stricter_promise_holds_from_its_first_append_on() {
    let each = TopicSettings { flush_messages: 1, ..small_segments() };
    let mut promised = 0;
    for (strict, seed) in
        [small_synced_segments(), each].iter().flat_map(|strict| (0..150).map(move |seed| (strict, seed)))
    {
        let mut rng = Rng::new(seed);
        let lax = TopicSettings { durability: Durability::Write, flush_messages: i64::MAX as u64, ..strict.clone() };
        let mut rig = Rig::new(seed, lax);
        append_some(&mut rig, &mut rng, 6000);
        if seed % 2 == 0 {
            rig.run();
        }
        let promised_from = rig.log.end();
        change(&mut rig, strict.clone());
        append_some(&mut rig, &mut rng, if seed % 3 == 0 { 6000 } else { 500 });
        step_some(&mut rig, &mut rng, 30);
        assert!(rig.events.iter().all(|event| matches!(event, LogEvent::Safe { .. })), "{:?}", rig.events);
        let safe = rig.log.safe_end();
        rig.crash(Crash::Power);
        let mut rig = rig.reopen();
        let holds = safe > promised_from;
        promised += u32::from(holds);
        rig.check_holds(if holds { safe } else { Offset(0) });
    }
    assert!(promised > 100, "{promised} promised");
}

/// Records of up to so many bytes, while the disk gets on with some of it.
fn append_some(rig: &mut Rig, rng: &mut Rng, bytes_max: u64) {
    for _ in 0..rng.below(25) {
        let sequence = rig.log.end().0 as i32;
        rig.append(&batch_of(5, 0, sequence, 200 + rng.below(bytes_max) as usize)).unwrap();
        step_some(rig, rng, 4);
    }
}

fn step_some(rig: &mut Rig, rng: &mut Rng, steps_max: u64) {
    for _ in 0..rng.below(steps_max) {
        rig.step();
    }
}

#[test]
fn promises_come_and_go_and_the_log_stays_whole() {
    for seed in 0..100 {
        let mut rng = Rng::new(seed);
        let mut rig = Rig::new(seed, small_synced_segments());
        for _ in 0..8 {
            let settings = if rng.below(2) == 0 { small_segments() } else { small_synced_segments() };
            let segment_bytes = 8_000 + rng.below(30_000);
            change(&mut rig, TopicSettings { segment_bytes, ..settings });
            append_some(&mut rig, &mut rng, 6000);
        }
        let end = rig.log.end();
        if rng.below(2) == 0 {
            rig.run();
            rig.check_holds(end);
            rig.events.clear();
            rig.close();
            rig.reopen().check_holds(end);
        } else {
            let safe = rig.log.safe_end();
            rig.crash(Crash::Kill);
            rig.reopen().check_holds(safe);
        }
    }
}
