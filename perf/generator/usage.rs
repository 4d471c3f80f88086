//! Processor time, as /proc tells it.
//!
//! *Owns*: how the ticks are read. *Never*: knows what was done in that time. *Runs on*: Linux.

/// Processor time in /proc is counted in ticks of a hundredth of a second, whatever the kernel's own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of processor time so far.
#[derive(Clone, Copy)]
pub struct Cpu {
    pub generator: f64,
    pub server: f64,
    pub all: f64,
}

impl Cpu {
    /// Of this process, that of the server, and the whole machine.
    pub fn now(server: Option<u32>) -> Cpu {
        let server = server.map_or(0.0, |pid| process_seconds(&pid.to_string()));
        Cpu { generator: process_seconds("self"), server, all: machine_seconds() }
    }

    /// What was used since `start`.
    pub fn since(self, start: Cpu) -> Cpu {
        Cpu {
            generator: self.generator - start.generator,
            server: self.server - start.server,
            all: self.all - start.all,
        }
    }

    /// What the kernel does for both in threads of its own, and whatever else the machine is busy with.
    pub fn other(self) -> f64 {
        (self.all - self.server - self.generator).max(0.0)
    }
}

/// What all processors were busy for, with processes and interrupts.
fn machine_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    // User, nice, system, idle, waiting, interrupts, soft interrupts: proc(5).
    let busy = fields.take(7).enumerate().filter(|(place, _)| !matches!(place, 3 | 4));
    let ticks: f64 = busy.filter_map(|(_, field)| field.parse::<f64>().ok()).sum();
    ticks / TICKS_PER_SECOND
}

/// User and system time of all threads; 0 if the process is gone.
fn process_seconds(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before may hold spaces, but not after its last bracket. Fields 14 and 15 of proc(5).
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / TICKS_PER_SECOND
}
