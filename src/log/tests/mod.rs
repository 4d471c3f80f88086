//! The log as a whole: append, read, roll, close, crash.
//!
//! *Owns*: the tests that need more than one file of the room. *Runs on*: tests.

mod clean;
mod commits;
mod crash;
mod damage;
mod faults;
mod reach;
mod reads;
mod replicate;
mod retention;
mod settings;
mod spare;
mod truncate;

use super::testing::{Rig, batch, small_segments, small_synced_segments};
use crate::base::ids::Offset;
use crate::base::rng::Rng;
use crate::config::TopicSettings;

use super::log::LogEvent;

#[test]
fn what_is_appended_is_read_back_across_rolls_and_restarts() {
    for seed in 0..40 {
        let mut rng = Rng::new(seed);
        let settings = if seed % 2 == 0 { small_segments() } else { small_synced_segments() };
        let mut rig = Rig::new(seed, settings);
        for round in 0..3 {
            for i in 0..60 {
                let (count, size) = (1 + rng.below(5), rng.below(2000));
                rig.append(&batch(count as usize, size as usize, i)).unwrap();
                for _ in 0..rng.below(4) {
                    rig.step();
                }
            }
            rig.run();
            let end = rig.log.end();
            assert_eq!(rig.log.safe_end(), end);
            assert!(matches!(rig.events.pop(), Some(LogEvent::Safe { end: safe, .. }) if safe == end));
            rig.check_holds(end);
            rig.close();
            rig = rig.reopen();
            rig.check_holds(end);
            assert!(rig.log.start() == Offset(0), "round {round}");
        }
        assert_eq!(rig.journal.commits > 0, seed % 2 == 1);
    }
}

#[test]
fn an_unused_log_closes_and_opens_again() {
    let mut rig = Rig::new(1, TopicSettings::default());
    rig.close();
    let mut rig = rig.reopen();
    rig.append(&batch(1, 10, 0)).unwrap();
    rig.run();
    rig.check_holds(Offset(1));
}
