//! How far a run is: a line on a terminal.
//!
//! *Owns*: the line. *Never*: writes to what is no terminal.
//! *Runs on*: the thread that waits for the run.

use std::io::{self, IsTerminal, Write};

use crate::terminal::numbers::{clock, count, duration, short};

/// Characters of the bar.
const BAR_CELLS: usize = 20;

/// What a run is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    Backlog,
    WarmUp,
    Measuring,
    Draining,
    CatchUp,
}

/// How a run stands, over the last moments.
#[derive(Clone, PartialEq, Debug)]
pub struct Standing {
    pub phase: Phase,
    /// How much of the phase is done, 0 to 1.
    pub done: f64,
    /// How long it still takes, where that can be known.
    pub left_ns: Option<u64>,
    pub records_per_s: f64,
    pub bytes_per_s: f64,
    /// Nothing where nothing was measured.
    pub p50_ns: Option<u64>,
    pub p99_ns: Option<u64>,
    pub errors: u64,
    /// Records that consumers have not come to yet. `None` without consumers.
    pub lag_records: Option<u64>,
}

/// Shows how a run stands, where there is somebody to see it.
pub struct Progress {
    out: Option<Box<dyn Write + Send>>,
    width: usize,
}

impl Progress {
    /// On standard error if that is a terminal, otherwise nowhere.
    pub fn stderr() -> Progress {
        let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
        let out: Option<Box<dyn Write + Send>> = match io::stderr().is_terminal() {
            true => Some(Box::new(io::stderr())),
            false => None,
        };
        Progress { out, width: columns.unwrap_or(120) }
    }

    /// Nowhere.
    pub fn quiet() -> Progress {
        Progress { out: None, width: 0 }
    }

    pub fn is_shown(&self) -> bool {
        self.out.is_some()
    }

    /// Replaces the line. A terminal that is gone is no reason to end a run.
    pub fn show(&mut self, standing: &Standing) {
        if let Some(out) = &mut self.out {
            let line: String = line(standing).chars().take(self.width.saturating_sub(1)).collect();
            let _ = write!(out, "\r\x1b[2K{line}").and_then(|()| out.flush());
        }
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
        if let Some(out) = &mut self.out {
            let _ = write!(out, "\r\x1b[2K").and_then(|()| out.flush());
        }
    }
}

/// One line: what, a bar, the time left, then figures. The last are what a narrow terminal goes without.
pub fn line(standing: &Standing) -> String {
    let done = if standing.done.is_finite() { standing.done.clamp(0.0, 1.0) } else { 0.0 };
    let cells = (done * BAR_CELLS as f64) as usize;
    let phase = match standing.phase {
        Phase::Backlog => "backlog ",
        Phase::WarmUp => "warm-up ",
        Phase::Measuring => "measure ",
        Phase::Draining => "drain   ",
        Phase::CatchUp => "catch up",
    };
    let bar = format!("{}{}", "━".repeat(cells), "·".repeat(BAR_CELLS - cells));
    let left = standing.left_ns.map_or_else(String::new, |ns| format!("{} left", clock(ns)));
    let mut line = format!("{phase} {bar} {left:>14}  {}/s", short(standing.records_per_s));
    line += &format!("  {:.1} MB/s", standing.bytes_per_s / 1e6);
    for (name, value) in [("p50", standing.p50_ns), ("p99", standing.p99_ns)] {
        line += &format!("  {name} {}", value.map_or_else(|| "–".into(), duration));
    }
    line += &format!("  errors {}", count(standing.errors));
    if let Some(lag) = standing.lag_records {
        line += &format!("  lag {}", count(lag));
    }
    line
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn standing() -> Standing {
        Standing {
            phase: Phase::Measuring,
            done: 0.25,
            left_ns: Some(90_000_000_000),
            records_per_s: 1_250_000.0,
            bytes_per_s: 125e6,
            p50_ns: Some(310_000),
            p99_ns: Some(2_400_000),
            errors: 0,
            lag_records: Some(1_200),
        }
    }

    #[test]
    fn the_line_says_how_the_run_stands() {
        let check = |change: &dyn Fn(&mut Standing), expect: &str| {
            let mut standing = standing();
            change(&mut standing);
            assert_eq!(line(&standing), expect);
        };
        check(
            &|_| {},
            "measure  ━━━━━···············  1 m 30 s left  1.25 M/s  125.0 MB/s  p50 310 µs  p99 2.40 ms  errors 0  lag 1,200",
        );
        let nothing = |standing: &mut Standing| {
            standing.phase = Phase::WarmUp;
            (standing.done, standing.left_ns) = (f64::NAN, None);
            (standing.p50_ns, standing.p99_ns, standing.lag_records) = (None, None, None);
        };
        check(&nothing, "warm-up  ····················                 1.25 M/s  125.0 MB/s  p50 –  p99 –  errors 0");
    }

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no writer panics").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_takes_the_place_of_the_one_before_and_never_wraps() {
        let screen = Screen::default();
        let mut progress = Progress { out: Some(Box::new(screen.clone())), width: 30 };
        progress.show(&standing());
        progress.clear();
        let text = String::from_utf8(screen.0.lock().expect("no writer panics").clone()).expect("it is UTF-8");
        assert_eq!(text, "\r\x1b[2Kmeasure  ━━━━━···············\r\x1b[2K");

        let mut quiet = Progress::quiet();
        quiet.show(&standing());
        assert!(!quiet.is_shown());
    }
}
