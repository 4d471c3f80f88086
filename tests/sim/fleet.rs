//! Many worlds, on every core of this machine: each is one thread's alone, and a failure of one ends no other.

use std::any::Any;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::run_cluster;
use crate::plan::Plan;
use crate::rot;
use crate::run::{Outcome, run, run_and_rot};

const PROGRESS_EVERY: Duration = Duration::from_secs(60);

/// A world to play.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Game {
    Broker {
        seed: u64,
    },
    Cluster {
        nodes: usize,
        seed: u64,
    },
    /// A broker whose files are damaged at the end.
    Damage {
        seed: u64,
    },
}

impl Game {
    pub fn play(self, print: bool) -> Outcome {
        match self {
            Game::Broker { seed } => run(Plan::draw(seed), print),
            Game::Cluster { nodes, seed } => run_cluster(Plan::draw_cluster(nodes, seed), print),
            Game::Damage { seed } => run_and_rot(rot::plan(seed), print),
        }
    }
}

/// What has to be set to play it again.
impl fmt::Display for Game {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Game::Broker { seed } => write!(f, "SIM_SEED={seed}"),
            Game::Cluster { nodes, seed } => write!(f, "SIM_CLUSTER={seed} SIM_NODES={nodes}"),
            Game::Damage { seed } => write!(f, "SIM_ROT={seed}"),
        }
    }
}

/// What became of many worlds.
pub struct Score {
    began: Instant,
    /// When its progress was said last.
    told: Instant,
    games: u64,
    clusters: u64,
    steps: u64,
    acked: u64,
    fetched: u64,
    commits: u64,
    failed: Vec<Game>,
}

impl Score {
    /// Every promise was kept in all of them.
    pub fn check(&self) {
        let again: Vec<String> = self.failed.iter().map(Game::to_string).collect();
        assert!(
            again.is_empty(),
            "{} of {} worlds fail; to see it happen, with one of these before it: cargo test --no-default-features \
             --test sim replay -- --nocapture\n{}",
            again.len(),
            self.games,
            again.join("\n")
        );
    }

    fn new() -> Score {
        let (began, failed) = (Instant::now(), Vec::new());
        Score { began, told: began, games: 0, clusters: 0, steps: 0, acked: 0, fetched: 0, commits: 0, failed }
    }

    fn add(&mut self, game: Game, played: Result<Outcome, Box<dyn Any + Send>>) {
        self.games += 1;
        self.clusters += u64::from(matches!(game, Game::Cluster { .. }));
        match played {
            Ok(outcome) => {
                self.steps += outcome.steps;
                self.acked += outcome.acked;
                self.fetched += outcome.fetched;
                self.commits += outcome.commits;
            }
            Err(why) => {
                self.failed.push(game);
                eprintln!("FAILED {game}: {}", words_of(why.as_ref()));
            }
        }
        if self.told.elapsed() >= PROGRESS_EVERY {
            self.told = Instant::now();
            println!("so far: {self}");
        }
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Score { games, clusters, steps, acked, fetched, commits, .. } = self;
        let (seconds, failed) = (self.began.elapsed().as_secs(), self.failed.len());
        write!(
            f,
            "{games} worlds, {clusters} of them clusters, in {seconds} s: {steps} events, {acked} records \
             acknowledged, {fetched} fetched, {commits} offsets committed; {failed} worlds failed"
        )
    }
}

/// Plays all of them, whether some fail or not.
pub fn play_all(games: impl Iterator<Item = Game> + Send) -> Score {
    let score = Mutex::new(Score::new());
    on_every_core(games, |game| {
        let played = panic::catch_unwind(AssertUnwindSafe(|| game.play(false)));
        lock(&score).add(game, played);
    });
    score.into_inner().expect("nobody panics with it in hand")
}

/// Takes one after the other, in as many threads as there are cores.
pub fn on_every_core<T>(items: impl Iterator<Item = T> + Send, work: impl Fn(T) + Sync) {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let items = Mutex::new(items);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(item) = next_of(&items) {
                    work(item);
                }
            });
        }
    });
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics with it in hand")
}

/// What a panic has said.
pub fn words_of(why: &(dyn Any + Send)) -> String {
    let words = why.downcast_ref::<String>().cloned();
    words.or_else(|| why.downcast_ref::<&str>().map(|words| (*words).to_owned())).unwrap_or_default()
}

/// Lets go of the iterator before the item is worked on.
fn next_of<T>(items: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    lock(items).next()
}
