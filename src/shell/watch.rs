//! Watching the broker: asks every core for its report, ends intervals, and has shown what was asked for.
//!
//! A report is a copy that its core makes when it is asked; live counts never leave their core. What takes longer,
//! turning counts into histograms and text, happens on core 0's helper thread.
//!
//! *Owns*: the latest report of each core, the log of intervals. *Never*: holds a core up. *Runs on*: core 0.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_lite::FutureExt;
use glommio::executor;
use glommio::sync::Semaphore;
use glommio::timer::Timer;

use crate::base::ids::CoreId;
use crate::base::stage_counts::Snapshot;
use crate::base::time::Instant;
use crate::broker::report::Report;
use crate::shell::executor::Signal;
use crate::shell::exposition;
use crate::shell::reactor::Reactor;
use crate::shell::stage_log::StageLog;

/// How long a core may take to report before its last report is taken instead.
const REPORT_MAX: Duration = Duration::from_secs(1);

/// How long all are left alone after they were asked: whoever asks over HTTP as often as possible costs them little.
const ROUND_PAUSE: Duration = Duration::from_millis(20);

/// How long a stop waits for the last interval.
const LAST_INTERVAL_MAX: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Watch {
    reactor: Rc<Reactor>,
    keeps_intervals: bool,
    /// One round of questions at a time.
    turn: Semaphore,
    /// When the last round ended.
    asked_at: Cell<Instant>,
    log: Arc<Mutex<StageLog>>,
}

/// Where the answers of a round come in.
#[derive(Debug, Default)]
pub struct Inbox {
    round: Cell<u64>,
    /// By core, the latest, with the round it answers.
    reports: RefCell<Vec<(u64, Report)>>,
    arrived: Signal,
}

impl Inbox {
    /// Begins a round. Answers to earlier ones count no more than as the latest that is known.
    fn begin(&self, cores: usize) -> u64 {
        self.round.set(self.round.get() + 1);
        self.reports.borrow_mut().resize_with(cores, Default::default);
        self.round.get()
    }

    pub fn put(&self, core: CoreId, round: u64, report: Report) {
        if let Some(latest) = self.reports.borrow_mut().get_mut(usize::from(core.0)) {
            *latest = (round, report);
            self.arrived.give();
        }
    }

    fn is_complete(&self) -> bool {
        self.reports.borrow().iter().all(|(round, _)| *round == self.round.get())
    }
}

impl Watch {
    /// Intervals are written below `data_dir`, if there is one.
    pub fn new(reactor: Rc<Reactor>, data_dir: Option<&Path>) -> Rc<Watch> {
        let log = StageLog::new(data_dir, SystemTime::now(), reactor.instant());
        Rc::new(Watch {
            reactor,
            keeps_intervals: data_dir.is_some(),
            turn: Semaphore::new(1),
            asked_at: Cell::new(Instant(0)),
            log: Arc::new(Mutex::new(log)),
        })
    }

    /// Ends an interval every `ms`, for as long as the core runs.
    pub async fn end_intervals(self: Rc<Watch>, ms: u64) {
        loop {
            Timer::new(Duration::from_millis(ms)).await;
            self.end_interval().await;
        }
    }

    /// The broker stops: what was counted since the last interval is an interval too, if it can be written in time.
    pub async fn end_last_interval(&self) {
        let end = async {
            if self.keeps_intervals {
                self.end_interval().await;
            }
        };
        let time_is_up = async {
            Timer::new(LAST_INTERVAL_MAX).await;
        };
        end.or(time_is_up).await;
    }

    async fn end_interval(&self) {
        let (reports, at) = self.ask().await;
        let log = self.log.clone();
        let end = move || lock(&log).end_interval(together(&reports), at);
        executor().spawn_blocking(end).await;
    }

    /// OpenMetrics text.
    pub async fn metrics(&self) -> String {
        let (reports, _) = self.ask().await;
        executor().spawn_blocking(move || exposition::show(reports)).await
    }

    /// An HdrHistogram interval log.
    pub async fn stages(&self) -> String {
        let (reports, at) = self.ask().await;
        let log = self.log.clone();
        executor().spawn_blocking(move || lock(&log).show(&together(&reports), at)).await
    }

    /// A report of each core, fresh unless the core is stuck.
    async fn ask(&self) -> (Vec<Report>, Instant) {
        let turn = self.turn.acquire_permit(1).await;
        let since = Duration::from_nanos(self.reactor.instant().since_ns(self.asked_at.get()));
        if let Some(pause) = ROUND_PAUSE.checked_sub(since) {
            Timer::new(pause).await;
        }
        let inbox = &self.reactor.inbox;
        let round = inbox.begin(self.reactor.cores());
        self.reactor.ask_for_reports(round);
        let all = async {
            while !inbox.is_complete() {
                inbox.arrived.wait().await;
            }
        };
        let time_is_up = async {
            Timer::new(REPORT_MAX).await;
        };
        all.or(time_is_up).await;
        let reports = inbox.reports.borrow().iter().map(|(_, report)| report.clone()).collect();
        let now = self.reactor.instant();
        self.asked_at.set(now);
        drop(turn);
        (reports, now)
    }
}

fn together(reports: &[Report]) -> Snapshot {
    let mut all = Snapshot::default();
    reports.iter().for_each(|report| all.add(&report.stages));
    all
}

/// A panic takes the process down, so a poisoned lock is never used.
fn lock(log: &Mutex<StageLog>) -> std::sync::MutexGuard<'_, StageLog> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}
