//! `corelog cluster local`: several brokers on this machine, to try things with.
//!
//! Each is a process of its own, so that it can be killed: then it is started again after a while. They keep what they
//! are told in one directory, where the next `cluster local` finds it again.
//!
//! *Owns*: the processes, from their start to their end. *Never*: is how a cluster is run for good. *Runs on*: the main
//! thread; another asks the brokers how they are.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Arg, ArgMatches, Command, value_parser};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::admin::duration::parse_duration;
use crate::base::limits::CORES_MAX;
use crate::client::client::{Client, To};
use crate::client::error::ClientError;
use crate::config::Cores;
use crate::meta::voters::VOTERS;
use crate::shell::{host, socket};
use crate::terminal::numbers::counted;
use crate::terminal::printed;
use crate::wire::messages::metadata::{MetadataRequest, MetadataResponse};

const CLIENT_ID: &str = "corelog-cluster-local";

/// Of the brokers that may be started.
const BROKERS_MAX: u16 = 9;

/// How often the processes are looked at, and how often the brokers are asked.
const LOOK: Duration = Duration::from_millis(100);
const ASK: Duration = Duration::from_millis(500);

/// How long a broker may take to stop in order.
const STOP_MAX: Duration = Duration::from_secs(20);

/// Lines of a broker's log that are shown when it does not start.
const LOG_LINES: usize = 5;

pub fn command() -> Command {
    Command::new("local")
        .about("Start several brokers as a cluster, and stop them with Ctrl-C")
        .arg(
            Arg::new("brokers")
                .long("brokers")
                .value_name("COUNT")
                .default_value("3")
                .value_parser(value_parser!(u16).range(1..=i64::from(BROKERS_MAX)))
                .help("How many"),
        )
        .arg(
            Arg::new("dir")
                .long("dir")
                .value_name("DIR")
                .default_value("./corelog-cluster")
                .value_parser(value_parser!(PathBuf))
                .help("Where they keep their data and logs; what is there is used again"),
        )
        .arg(
            Arg::new("port")
                .long("port")
                .value_name("PORT")
                .default_value("9092")
                .value_parser(value_parser!(u16).range(1..=50_000))
                .help("Where clients connect to the first; the others have the ports after it"),
        )
        .arg(
            Arg::new("cores")
                .long("cores")
                .value_name("COUNT")
                .value_parser(value_parser!(u16).range(1..=CORES_MAX as i64))
                .help("Cores of each broker [default: its share of the processors]"),
        )
        .arg(
            Arg::new("restart-after")
                .long("restart-after")
                .value_name("TIME")
                .default_value("10s")
                .value_parser(parse_duration)
                .help("How long a broker that ended stays down"),
        )
        .arg(
            Arg::new("settings")
                .value_name("FLAG")
                .last(true)
                .num_args(0..)
                .help("Flags of `corelog serve` that every broker gets, after --"),
        )
        .after_help(
            "Topics have as many replicas as there are brokers, three at most, and with three brokers acks=all waits \
             for two of them.\n\n\
             Examples:\n  corelog cluster local\n  \
             corelog cluster local --brokers 3 --dir /var/tmp/try --port 9092 -- --durability write",
        )
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    printed::ended(Plan::new(matches).and_then(|plan| Cluster::start(plan)?.attend()))
}

/// What is to run.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Plan {
    dir: PathBuf,
    brokers: Vec<BrokerPlan>,
    restart_after: Duration,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct BrokerPlan {
    id: u16,
    port: u16,
    log: PathBuf,
    arguments: Vec<String>,
}

impl Plan {
    fn new(matches: &ArgMatches) -> Result<Plan, String> {
        let number = |name| *matches.get_one::<u16>(name).expect("it has a default");
        let processors = host::processors(&Cores::All).map_err(|error| error.to_string())?;
        let brokers = number("brokers");
        let share = u16::try_from(processors.len()).unwrap_or(u16::MAX) / brokers;
        let cores = matches.get_one::<u16>("cores").copied().unwrap_or(share.max(1));
        let dir: &PathBuf = matches.get_one("dir").expect("it has a default");
        let settings: Vec<String> = matches.get_many::<String>("settings").into_iter().flatten().cloned().collect();
        Ok(Plan {
            brokers: (1..=brokers)
                .map(|id| broker_plan(id, (brokers, cores), dir, number("port"), &processors, &settings))
                .collect(),
            dir: dir.clone(),
            restart_after: *matches.get_one("restart-after").expect("it has a default"),
        })
    }

    fn bootstrap(&self) -> String {
        self.brokers.iter().map(BrokerPlan::address).collect::<Vec<_>>().join(",")
    }
}

fn broker_plan(
    id: u16,
    (brokers, cores): (u16, u16),
    dir: &Path,
    first_port: u16,
    processors: &[usize],
    settings: &[String],
) -> BrokerPlan {
    // The listeners for brokers are one per core, so that of one broker reach up to the first of the next.
    let port = |id: u16| first_port + (id - 1) * cores;
    let mine = processors.iter().cycle().skip(usize::from((id - 1) * cores)).take(usize::from(cores));
    let mut mine: Vec<usize> = mine.copied().collect();
    mine.sort_unstable();
    mine.dedup();
    let pinned = mine.len() == usize::from(cores);
    let listed = mine.iter().map(|processor| format!("{processor}-{processor}")).collect::<Vec<_>>().join(",");
    let replicas = brokers.min(3);
    let mut arguments: Vec<String> = [
        ("--node-id", id.to_string()),
        ("--listen", format!("127.0.0.1:{}", port(id))),
        ("--peer-listen", format!("127.0.0.1:{}", port(id) + 10_000)),
        ("--data-dir", dir.join(format!("broker-{id}")).display().to_string()),
        ("--cores", if pinned { listed } else { cores.to_string() }),
        ("--default-replication-factor", replicas.to_string()),
        ("--offsets-topic-replication-factor", replicas.to_string()),
        ("--min-insync-replicas", if brokers > 2 { "2" } else { "1" }.to_owned()),
    ]
    .map(|(name, value)| format!("{name}={value}"))
    .into();
    if id > 1 {
        let others = (1..=brokers).filter(|other| *other != id).map(|other| format!("127.0.0.1:{}", port(other)));
        arguments.push(format!("--seeds={}", others.collect::<Vec<_>>().join(",")));
    }
    arguments.extend_from_slice(settings);
    BrokerPlan { id, port: port(id), log: dir.join(format!("broker-{id}.log")), arguments }
}

impl BrokerPlan {
    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn start(&self) -> Result<Child, String> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log: File = log.map_err(|error| format!("{} cannot be written: {error}", self.log.display()))?;
        let program = std::env::current_exe().map_err(|error| format!("this program is not found: {error}"))?;
        // A process group of its own: Ctrl-C is for this process, which stops the brokers in order.
        let child = Process::new(program)
            .arg("serve")
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn();
        child.map_err(|error| format!("broker {} cannot be started: {error}", self.id))
    }

    /// The last it has said.
    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

/// The brokers at work. Dropping it kills those that still run.
struct Cluster {
    plan: Plan,
    brokers: Vec<Running>,
    stopping: Arc<AtomicBool>,
    line: StatusLine,
    /// All brokers were there at the same time, and voted.
    was_whole: bool,
}

struct Running {
    /// `None`: it has ended, and is to be started again then.
    process: Option<Child>,
    ended: Instant,
}

impl Cluster {
    fn start(plan: Plan) -> Result<Cluster, String> {
        let dir = plan.dir.display().to_string();
        fs::create_dir_all(&plan.dir)
            .map_err(|error| format!("{dir} cannot be used: {error}; choose another --dir"))?;
        let stopping = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            let registered = signal_hook::flag::register(signal, stopping.clone());
            registered.map_err(|error| format!("signals cannot be handled: {error}"))?;
        }
        let line = StatusLine { is_terminal: io::stdout().is_terminal(), shown: String::new() };
        let mut cluster = Cluster { brokers: Vec::new(), stopping, line, was_whole: false, plan };
        for broker in &cluster.plan.brokers {
            let process = broker.start()?;
            cluster.line.say(&format!(
                "broker {}  {}  process {}  {}",
                broker.id,
                broker.address(),
                process.id(),
                broker.log.display()
            ));
            cluster.brokers.push(Running { process: Some(process), ended: Instant::now() });
        }
        let bootstrap = cluster.plan.bootstrap();
        cluster.line.say(&format!("connect    {bootstrap}"));
        cluster.line.say(&format!("failover   kill -9 $(cat {dir}/broker-1/.lock)"));
        cluster.line.say(&format!("stop       Ctrl-C; the data stays in {dir}"));
        Ok(cluster)
    }

    /// Until a signal says stop.
    fn attend(mut self) -> Result<(), String> {
        let states = ask_again_and_again(self.plan.bootstrap());
        while !self.stopping.load(Ordering::Relaxed) {
            match states.recv_timeout(LOOK) {
                Ok(state) => self.show(&state),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err("nobody asks the brokers any more".to_owned()),
            }
            self.look_at_processes()?;
        }
        self.stop()
    }

    fn show(&mut self, state: &Result<State, ClientError>) {
        let alive = self.brokers.iter().filter(|broker| broker.process.is_some()).count();
        match state {
            Ok(state) => {
                if !self.was_whole && state.is_ready(self.brokers.len()) {
                    self.was_whole = true;
                    self.line.say("ready");
                }
                self.line.show(&state.to_string());
            }
            Err(_) => self.line.show(&format!("{alive} of {} processes, none answers yet", self.brokers.len())),
        }
    }

    /// Says which have ended, and starts those again whose time has come.
    fn look_at_processes(&mut self) -> Result<(), String> {
        for (broker, running) in self.plan.brokers.iter().zip(&mut self.brokers) {
            let id = broker.id;
            let Some(process) = &mut running.process else {
                if running.ended.elapsed() >= self.plan.restart_after {
                    let process = broker.start()?;
                    self.line.say(&format!("broker {id} is started again, process {}", process.id()));
                    running.process = Some(process);
                }
                continue;
            };
            let ended = process.try_wait().map_err(|error| format!("broker {id} cannot be waited for: {error}"))?;
            let Some(status) = ended else { continue };
            running.process = None;
            running.ended = Instant::now();
            if !self.was_whole {
                return Err(format!("broker {id} has ended, {}:\n{}", how(status), broker.last_words()));
            }
            let wait = self.plan.restart_after.as_secs();
            self.line.say(&format!("broker {id} has ended, {}; it is started again after {wait} s", how(status)));
        }
        Ok(())
    }

    fn stop(mut self) -> Result<(), String> {
        self.line.say("stopping");
        for process in self.brokers.iter().filter_map(|broker| broker.process.as_ref()) {
            socket::terminate(process.id());
        }
        let start = Instant::now();
        for (broker, running) in self.plan.brokers.iter().zip(&mut self.brokers) {
            let Some(mut process) = running.process.take() else { continue };
            loop {
                match process.try_wait() {
                    Ok(Some(status)) if status.success() => break,
                    Ok(Some(status)) => {
                        self.line.say(&format!("broker {} has ended, {}", broker.id, how(status)));
                        break;
                    }
                    Ok(None) if start.elapsed() < STOP_MAX => thread::sleep(LOOK),
                    Ok(None) | Err(_) => {
                        running.process = Some(process);
                        return Err(format!("broker {} does not stop and is killed", broker.id));
                    }
                }
            }
        }
        self.line.say("stopped");
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in self.brokers.iter_mut().filter_map(|broker| broker.process.as_mut()) {
            // There is nobody left to tell.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("by signal {signal}"),
        (None, None) => "nobody knows how".to_owned(),
    }
}

/// How the cluster is, as one of its brokers says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct State {
    brokers: usize,
    /// Who decide on metadata; 0 where that is not told.
    voters: usize,
    controller: i32,
    partitions: usize,
    under_replicated: usize,
    offline: usize,
}

impl State {
    fn of(reply: &MetadataResponse, voters: usize) -> State {
        let partitions = || reply.topics.iter().flat_map(|topic| &topic.partitions);
        State {
            brokers: reply.brokers.len(),
            voters,
            controller: reply.controller_id,
            partitions: partitions().count(),
            under_replicated: partitions().filter(|row| row.isr_nodes.len() < row.replica_nodes.len()).count(),
            offline: partitions().filter(|row| row.leader_id < 0).count(),
        }
    }

    /// All brokers are there, and any of them may be lost that can be lost: of three or more, three vote.
    fn is_ready(&self, brokers: usize) -> bool {
        let voters = if brokers < VOTERS { 1 } else { VOTERS };
        self.brokers == brokers && self.voters >= voters
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, controller {}; {}: {} under-replicated, {} offline",
            counted(self.brokers as u64, "broker"),
            self.controller,
            counted(self.partitions as u64, "partition"),
            self.under_replicated,
            self.offline
        )
    }
}

/// Asks the brokers how they are, from a thread of its own, for as long as somebody listens.
fn ask_again_and_again(bootstrap: String) -> Receiver<Result<State, ClientError>> {
    let (sender, states) = mpsc::channel();
    thread::spawn(move || {
        while sender.send(ask(&bootstrap)).is_ok() {
            thread::sleep(ASK);
        }
    });
    states
}

fn ask(bootstrap: &str) -> Result<State, ClientError> {
    let request = MetadataRequest { topics: None, allow_auto_topic_creation: false, ..Default::default() };
    let mut client = Client::connect(bootstrap, CLIENT_ID, ASK)?;
    let reply: MetadataResponse = client.ask(To::Any, &request, |_| Vec::new())?;
    let voters = client.cluster()?.quorum.map_or(0, |quorum| quorum.current_voters.len());
    Ok(State::of(&reply, voters))
}

/// A line that changes, below those that stay. Where there is no terminal each change is a line.
struct StatusLine {
    is_terminal: bool,
    shown: String,
}

impl StatusLine {
    fn show(&mut self, line: &str) {
        if line == self.shown {
            return;
        }
        line.clone_into(&mut self.shown);
        let text = if self.is_terminal { format!("\r\x1b[2K{line}") } else { format!("{line}\n") };
        // Brokers run on when nobody reads what is said of them.
        let _ = printed::print(text.as_bytes());
    }

    fn say(&mut self, line: &str) {
        let text = if self.is_terminal { format!("\r\x1b[2K{line}\n{}", self.shown) } else { format!("{line}\n") };
        let _ = printed::print(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::metadata::MetadataResponseBroker;

    #[test]
    fn a_cluster_is_ready_when_enough_of_it_vote() {
        let state = |brokers, voters| {
            State::of(
                &MetadataResponse { brokers: vec![MetadataResponseBroker::default(); brokers], ..Default::default() },
                voters,
            )
        };
        for (brokers, voters, started, expect) in [
            (1, 1, 1, true),
            (2, 1, 2, true),
            (1, 1, 2, false),
            (3, 1, 3, false),
            (3, 2, 3, false),
            (3, 3, 3, true),
            (5, 3, 5, true),
            (5, 0, 5, false),
        ] {
            assert_eq!(state(brokers, voters).is_ready(started), expect, "{brokers} of {started}, {voters} vote");
        }
    }

    #[test]
    fn brokers_share_the_processors_and_no_port() {
        let plan = |brokers, cores, processors: &[usize]| -> Vec<BrokerPlan> {
            let dir = Path::new("/d");
            let settings = ["--durability=write".to_owned()];
            (1..=brokers).map(|id| broker_plan(id, (brokers, cores), dir, 9092, processors, &settings)).collect()
        };
        let three = plan(3, 2, &[0, 1, 4, 5]);
        assert_eq!(three.iter().map(|broker| broker.port).collect::<Vec<_>>(), [9092, 9094, 9096]);
        let has = |broker: &BrokerPlan, flag: &str| broker.arguments.iter().any(|argument| argument == flag);
        assert!(
            has(&three[0], "--cores=0-0,1-1") && has(&three[1], "--cores=4-4,5-5") && has(&three[2], "--cores=0-0,1-1")
        );
        assert!(has(&three[2], "--peer-listen=127.0.0.1:19096") && has(&three[2], "--durability=write"));
        assert!(has(&three[2], "--seeds=127.0.0.1:9092,127.0.0.1:9094"));
        assert!(!three[0].arguments.iter().any(|argument| argument.starts_with("--seeds")));
        assert!(has(&three[0], "--min-insync-replicas=2") && has(&three[0], "--default-replication-factor=3"));
        let one = plan(1, 3, &[0, 1]);
        assert!(has(&one[0], "--cores=3") && has(&one[0], "--min-insync-replicas=1"));
    }
}
