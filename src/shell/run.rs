//! Starting the broker: checks, sockets, one executor per core; and waiting for it to end.
//!
//! *Owns*: the order of start and stop. *Never*: serves a client itself. *Runs on*: the main thread; `run_core` on
//! each core's thread.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::AsyncReadExt;

use crate::base::ids::{CoreId, Incarnation};
use crate::base::limits;
use crate::base::rng::Rng;
use crate::broker::effect::{Input, ListenerKind};
use crate::broker::greeting::PeerKey;
use crate::broker::shard::{Listeners, Shard, ShardConfig};
use crate::config::{Address, Durability, Settings};
use crate::shell::clock::Clock;
use crate::shell::datagram::{self, Datagrams};
use crate::shell::disk::Disk;
use crate::shell::host::{DataDir, ServeError};
use crate::shell::mesh::{Lanes, Mesh};
use crate::shell::net::{Net, OpenConnections};
use crate::shell::reactor::{Between, End, Parts, Reactor};
use crate::shell::watch::Watch;
use crate::shell::{executor, host, http, signals, socket};

/// How long a taken port is asked for again.
const TAKEN_PORT_PATIENCE: Duration = Duration::from_secs(3);
const TAKEN_PORT_PAUSE: Duration = Duration::from_millis(10);

/// Sends log lines to the standard error output: `info` and above, or what `RUST_LOG` says.
pub fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
}

/// Runs the broker until it is told to stop by a signal, or cannot go on.
pub fn serve(settings: Settings) -> Result<(), ServeError> {
    let clock = Clock::start();
    let processors = host::processors(&settings.cores)?;
    let cores = u16::try_from(processors.len()).expect("bounded by CORES_MAX");
    let memlock = host::check_kernel(processors.len())?;
    let data = DataDir::open(&settings.data_dir)?;
    host::check_journal_space(&data, &settings, processors.len())?;
    let sockets = Sockets::bind(&settings, cores)?;
    abort_on_panic();
    socket::keep_freed_memory();
    let start_error = |error: io::Error| ServeError::new(format!("the broker cannot start: {error}."));
    let stops = signals::install(processors.len()).map_err(start_error)?;
    let (lanes, wakes) = Lanes::new(processors.len()).map_err(start_error)?;
    let seed = random_seed().map_err(start_error)?;
    let incarnation = Incarnation::random(&mut Rng::new(random_seed().map_err(start_error)?));
    let peer_key = read_peer_key(&settings)?;
    say_what_starts(&settings, &processors, memlock, &data, &sockets, &clock);

    let settings = Arc::new(settings);
    let listeners = sockets.advertised(&settings);
    let cores_starting = Arc::new(AtomicU32::new(u32::from(cores)));
    let connections = OpenConnections::default();
    let (results, ended) = mpsc::channel();
    let parts = processors.iter().zip(stops).zip(wakes).zip(sockets.by_core).enumerate();
    for (core, (((&processor, stops), wakes), sockets)) in parts {
        let settings = settings.clone();
        let core = CoreId(core as u16);
        let plan = CorePlan {
            shard: ShardConfig {
                core,
                cores,
                settings,
                listeners: listeners.clone(),
                seed,
                incarnation,
                peer_key: peer_key.clone(),
            },
            clock: clock.clone(),
            processor,
            data_dir: data.path.clone(),
            lanes: lanes.clone(),
            wakes,
            stops,
            sockets,
            connections: connections.clone(),
            cores_starting: cores_starting.clone(),
        };
        let results = results.clone();
        let run = move || {
            // The main thread listens until all have ended or one has failed.
            let _ = results.send(run_core(plan));
        };
        thread::Builder::new().name(format!("core-{core}")).spawn(run).map_err(start_error)?;
    }
    let mut failure = None;
    for _ in 0..cores {
        // Cores that go on after one has failed end with the process.
        failure = ended.recv().expect("every core sends its end")?.or(failure);
    }
    if let Some(message) = failure {
        return Err(ServeError::new(format!("stopped: {message}. The next start recovers what is there.")));
    }
    tracing::info!("stopped: everything is flushed and closed");
    Ok(())
}

/// Bound sockets, not yet listening.
#[derive(Debug)]
struct Sockets {
    by_core: Vec<CoreSockets>,
    shared: SocketAddr,
    per_core: Vec<SocketAddr>,
    /// One for each core, or none.
    peer: Vec<SocketAddr>,
    http: Option<SocketAddr>,
}

#[derive(Debug)]
struct CoreSockets {
    shared: OwnedFd,
    own: Option<OwnedFd>,
    /// For other brokers, if there may be any.
    peer: Option<OwnedFd>,
    /// On core 0, if there may be other brokers.
    datagrams: Option<UdpSocket>,
    /// On core 0, if HTTP is wanted.
    http: Option<OwnedFd>,
}

impl Sockets {
    fn bind(settings: &Settings, cores: u16) -> Result<Sockets, ServeError> {
        let address = resolve(&settings.listen, "--listen")?;
        if address.port() != 0 {
            // Sockets that share a port would share it with another broker of this user too.
            bind(address, false, "--listen")?;
        }
        let mut sockets =
            Sockets { by_core: Vec::new(), shared: address, per_core: Vec::new(), peer: Vec::new(), http: None };
        let first_port = settings.per_core_port.filter(|port| *port != 0);
        for core in 0..cores {
            let shared = bind(sockets.shared, true, "--listen")?;
            sockets.shared = bound_to(&shared, address, "--listen")?;
            let own = match first_port {
                None => None,
                Some(first) => {
                    let address = core_address(SocketAddr::new(address.ip(), first), core, cores, "--per-core-port")?;
                    sockets.per_core.push(address);
                    Some(bind(address, false, "--per-core-port")?)
                }
            };
            sockets.by_core.push(CoreSockets { shared, own, peer: None, datagrams: None, http: None });
        }
        sockets.bind_for_peers(settings, cores)?;
        if let Some(address) = &settings.http_listen {
            let flag = "--http-listen";
            let address = resolve(address, flag)?;
            let http = bind(address, false, flag)?;
            sockets.http = Some(bound_to(&http, address, flag)?);
            sockets.by_core[0].http = Some(http);
        }
        Ok(sockets)
    }

    fn bind_for_peers(&mut self, settings: &Settings, cores: u16) -> Result<(), ServeError> {
        let flag = "--peer-listen";
        let Some(first) = settings.peer_listener() else { return Ok(()) };
        let first = resolve(&first, flag)?;
        let datagrams = UdpSocket::bind(first).map_err(|error| bind_error(first, &error, flag))?;
        self.by_core[0].datagrams = Some(datagrams);
        for (core, sockets) in (0..cores).zip(&mut self.by_core) {
            let address = core_address(first, core, cores, flag)?;
            sockets.peer = Some(bind(address, false, flag)?);
            self.peer.push(address);
        }
        Ok(())
    }

    /// What clients and other brokers are told to connect to.
    fn advertised(&self, settings: &Settings) -> Listeners {
        let host = advertised_host(settings, self.shared);
        let address = |bound: &SocketAddr| Address { host: host.clone(), port: bound.port() };
        let peer = self.peer.first().map(|bound| Address {
            host: match settings.advertised_peer_host.as_str() {
                "" if bound.ip().is_unspecified() || bound.ip() == self.shared.ip() => host.clone(),
                "" => bound.ip().to_string(),
                given => given.to_owned(),
            },
            port: bound.port(),
        });
        Listeners { shared: address(&self.shared), per_core: self.per_core.iter().map(address).collect(), peer }
    }
}

/// The address of one of the listeners that each core has one of.
fn core_address(first: SocketAddr, core: u16, cores: u16, flag: &str) -> Result<SocketAddr, ServeError> {
    let port = first.port().checked_add(core).ok_or_else(|| {
        let first = first.port();
        ServeError::new(format!("{cores} listeners, one per core, from port {first} on do not fit: lower {flag}."))
    })?;
    Ok(SocketAddr::new(first.ip(), port))
}

fn resolve(address: &Address, flag: &str) -> Result<SocketAddr, ServeError> {
    let resolved = (address.host.as_str(), address.port).to_socket_addrs().and_then(|mut addresses| {
        addresses.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
    });
    resolved.map_err(|error| {
        ServeError::new(format!("{address} is no address to listen on: {error}. Choose another with {flag}."))
    })
}

/// Binds a port, waiting for one that is taken: the kernel takes the rings of a killed broker apart after the process
/// is gone, and until then they hold its listeners. They hold its writes too, so nothing may be recovered before.
fn bind(address: SocketAddr, shared: bool, flag: &str) -> Result<OwnedFd, ServeError> {
    let start = Instant::now();
    loop {
        match socket::bind(address, shared) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && start.elapsed() < TAKEN_PORT_PATIENCE => {
                thread::sleep(TAKEN_PORT_PAUSE);
            }
            bound => return bound.map_err(|error| bind_error(address, &error, flag)),
        }
    }
}

/// The port that the kernel chose where it was asked to.
fn bound_to(socket: &OwnedFd, address: SocketAddr, flag: &str) -> Result<SocketAddr, ServeError> {
    socket::local_address(socket).map_err(|error| bind_error(address, &error, flag))
}

fn bind_error(address: SocketAddr, error: &io::Error, flag: &str) -> ServeError {
    let port = address.port();
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "Another process listens there (`ss -ltnp 'sport = :{port}'` shows which): stop it, or choose \
                     another port with {flag}."
            )
        }
        io::ErrorKind::AddrNotAvailable => format!("This machine has no such address: choose another with {flag}."),
        io::ErrorKind::PermissionDenied => {
            format!("Ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher one with {flag}.")
        }
        _ => format!("Choose another address with {flag}."),
    };
    ServeError::new(format!("cannot listen on {address}: {error}. {remedy}"))
}

fn advertised_host(settings: &Settings, bound: SocketAddr) -> String {
    if !settings.advertised_host.is_empty() {
        return settings.advertised_host.clone();
    }
    if !bound.ip().is_unspecified() {
        return settings.listen.host.clone();
    }
    // Clients cannot connect to "any address"; the machine's name is what Kafka tells them, too.
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    tracing::warn!("clients are told to connect to {name:?}; --advertised-host says it better");
    name.to_owned()
}

fn say_what_starts(
    settings: &Settings,
    processors: &[usize],
    memlock: u64,
    data: &DataDir,
    sockets: &Sockets,
    clock: &Clock,
) {
    let per_core = match (sockets.per_core.first(), sockets.per_core.last()) {
        (Some(first), Some(last)) => format!("{first} to port {}, one per core", last.port()),
        _ => "none (--per-core-port gives each core its own)".to_owned(),
    };
    let brokers = match (sockets.peer.first(), sockets.peer.last()) {
        (Some(first), Some(last)) => format!("{first} to port {}, one per core, and UDP", last.port()),
        _ => "none (--peer-listen or --seeds makes a cluster)".to_owned(),
    };
    let alignment =
        data.direct_io_alignment.map_or("not told by the kernel".to_owned(), |bytes| format!("{bytes} bytes"));
    let memlock =
        if memlock == libc::RLIM_INFINITY { "unlimited".to_owned() } else { format!("{} KiB", memlock >> 10) };
    tracing::info!("corelog {}", env!("CARGO_PKG_VERSION"));
    tracing::info!("  cores       {} on processors {processors:?}", processors.len());
    tracing::info!("  listen      {}", sockets.shared);
    tracing::info!("  per core    {per_core}");
    tracing::info!("  brokers     {brokers}");
    let http =
        sockets.http.map_or("none (--http ADDRESS serves metrics)".to_owned(), |address| format!("http://{address}/"));
    tracing::info!("  http        {http}");
    tracing::info!("  data        {}", data.path.display());
    tracing::info!("  durability  {}", acks_wait_for(settings));
    tracing::info!("  direct I/O  aligned to {alignment}");
    tracing::info!("  memlock     {memlock}");
    tracing::info!("  clock       {}", clock.source());
}

/// What an acknowledged record has behind it, for topics that do not say otherwise.
fn acks_wait_for(settings: &Settings) -> String {
    let journal_mib = settings.journal_bytes >> 20;
    match (settings.durability, settings.log_flush_interval_messages) {
        (Durability::Sync, _) if settings.journal_bytes == 0 => {
            "acks wait for: fdatasync, each partition by itself (durability=sync, journal.bytes=0)".to_owned()
        }
        (Durability::Sync, _) => {
            format!("acks wait for: fdatasync, through a journal of {journal_mib} MiB per core (durability=sync)")
        }
        (Durability::Write, 1) => {
            "acks wait for: fdatasync, each partition by itself (log.flush.interval.messages=1)".to_owned()
        }
        (Durability::Write, _) => {
            "acks wait for: the write, with direct I/O, not for fdatasync: a loss of power may take acknowledged \
             records (durability=write)"
                .to_owned()
        }
    }
}

/// A panic means that a core's state cannot be trusted: the process stops, and recovery takes over. In builds that
/// unwind, a lone core would otherwise die silently.
fn abort_on_panic() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        say(panic);
        std::process::abort();
    }));
}

fn random_seed() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// What the brokers of the cluster share, if they do.
fn read_peer_key(settings: &Settings) -> Result<Option<PeerKey>, ServeError> {
    let Some(path) = &settings.peer_shared_key_file else { return Ok(None) };
    let content = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"));
    content
        .and_then(|content| PeerKey::parse(&content))
        .map(Some)
        .map_err(|why| ServeError::new(format!("the file {} of --peer-shared-key-file {why}.", path.display())))
}

/// What a core's thread starts with.
struct CorePlan {
    shard: ShardConfig,
    clock: Clock,
    processor: usize,
    data_dir: PathBuf,
    lanes: Arc<Lanes<Between>>,
    wakes: UnixStream,
    stops: UnixStream,
    sockets: CoreSockets,
    connections: OpenConnections,
    /// Cores that have not opened their listeners.
    cores_starting: Arc<AtomicU32>,
}

/// Ends with the reason why the data directory took no more writes, if it did not.
fn run_core(plan: CorePlan) -> Result<Option<String>, ServeError> {
    let core = plan.shard.core;
    let executor = executor::builder("core", plan.processor).make();
    let executor = executor.map_err(|error| ServeError::new(format!("core {core} cannot start: {error}.")))?;
    executor.run(serve_core(plan))
}

async fn serve_core(mut plan: CorePlan) -> Result<Option<String>, ServeError> {
    let core = plan.shard.core;
    let disk = Disk::open(&plan.data_dir, &format!(".probe-{core}")).await.map_err(|error| {
        ServeError::new(format!("core {core} cannot use the data directory {}: {error}.", plan.data_dir.display()))
    })?;
    let settings = plan.shard.settings.clone();
    let http = plan.sockets.http.take();
    let datagrams = plan.sockets.datagrams.as_ref().map(Datagrams::new).transpose();
    let datagrams =
        datagrams.map_err(|error| ServeError::new(format!("core {core} cannot send datagrams: {error}.")))?;
    let parts = Parts {
        clock: plan.clock,
        shard: Shard::new(plan.shard),
        disk,
        mesh: Mesh::new(core, plan.lanes),
        datagrams,
        peer_frame_bytes_max: settings.socket_request_max_bytes as usize + limits::PEER_REPLY_EXTRA_BYTES,
    };
    let reactor = Reactor::new(core, parts);
    let net = Net::new(reactor.clone(), plan.connections, settings.max_connections);
    let listening = Rc::new(RefCell::new(Vec::new()));
    hear_brokers(&reactor, &net, &mut plan.sockets, &listening);
    let open = open_listeners(reactor.clone(), net.clone(), plan.sockets, listening.clone(), plan.cores_starting);
    glommio::spawn_local(open).detach();
    let watch = (core == CoreId(0)).then(|| watch(reactor.clone(), &settings, &plan.data_dir, http));
    glommio::spawn_local(stop_on_signal(watch, reactor.clone(), net.clone(), plan.stops, listening)).detach();
    glommio::spawn_local(net.clone().close_idle(settings.connections_max_idle_ms)).detach();
    reactor.start(plan.wakes);
    match reactor.end().await {
        End::Stopped => {
            net.last_sends().await;
            Ok(reactor.directory_failure())
        }
        End::Fatal { message } => Err(ServeError::new(message)),
    }
}

/// Takes connections as soon as the shard is ready. `listening` gets what must be shut down to end that.
async fn open_listeners(
    reactor: Rc<Reactor>,
    net: Rc<Net>,
    sockets: CoreSockets,
    listening: Rc<RefCell<Vec<OwnedFd>>>,
    cores_starting: Arc<AtomicU32>,
) {
    reactor.ready.wait().await;
    let own = sockets.own.map(|socket| (socket, ListenerKind::PerCore));
    for (socket, kind) in [(sockets.shared, ListenerKind::Shared)].into_iter().chain(own) {
        listen(&net, socket, kind, &listening);
    }
    if cores_starting.fetch_sub(1, Ordering::AcqRel) == 1 {
        tracing::info!("ready");
    }
}

/// Other brokers may come at once: recovery may need them.
fn hear_brokers(
    reactor: &Rc<Reactor>,
    net: &Rc<Net>,
    sockets: &mut CoreSockets,
    listening: &Rc<RefCell<Vec<OwnedFd>>>,
) {
    if let Some(socket) = sockets.peer.take() {
        listen(net, socket, ListenerKind::Peer, listening);
    }
    if let Some(socket) = sockets.datagrams.take() {
        glommio::spawn_local(datagram::receive(reactor.clone(), socket)).detach();
    }
}

fn listen(net: &Rc<Net>, socket: OwnedFd, kind: ListenerKind, listening: &Rc<RefCell<Vec<OwnedFd>>>) {
    let ours = socket.try_clone().expect("a core has file descriptors left when it starts");
    socket::listen(&socket).expect("a bound socket listens");
    listening.borrow_mut().push(ours);
    glommio::spawn_local(net.clone().accept(socket::into_listener(socket), kind)).detach();
}

/// Core 0 watches all of them.
fn watch(reactor: Rc<Reactor>, settings: &Settings, data_dir: &Path, http: Option<OwnedFd>) -> Rc<Watch> {
    let interval_ms = settings.metrics_interval_ms;
    let watch = Watch::new(reactor, (interval_ms > 0).then_some(data_dir));
    if interval_ms > 0 {
        glommio::spawn_local(watch.clone().end_intervals(interval_ms)).detach();
    }
    if let Some(socket) = http {
        socket::listen(&socket).expect("a bound socket listens");
        glommio::spawn_local(http::serve(socket::into_listener(socket), watch.clone())).detach();
    }
    watch
}

async fn stop_on_signal(
    watch: Option<Rc<Watch>>,
    reactor: Rc<Reactor>,
    net: Rc<Net>,
    stops: UnixStream,
    listening: Rc<RefCell<Vec<OwnedFd>>>,
) {
    let mut stops = socket::into_stream(stops);
    let read = stops.read(&mut [0; 1]).await;
    if read.is_err() {
        return;
    }
    if let Some(watch) = watch {
        tracing::info!("stopping; a second signal ends the process at once");
        watch.end_last_interval().await;
    }
    net.stop();
    for socket in listening.borrow_mut().drain(..) {
        socket::shut_down(socket.as_raw_fd());
    }
    reactor.on(Input::Stop);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_says_what_acks_wait_for() {
        let check = |durability, journal_bytes, log_flush_interval_messages, expect: &str| {
            let settings = Settings { durability, journal_bytes, log_flush_interval_messages, ..Settings::default() };
            let said = acks_wait_for(&settings);
            assert!(said.starts_with("acks wait for: ") && said.contains(expect), "{said}");
        };
        let never = i64::MAX as u64;
        check(Durability::Write, 128 << 20, never, "not for fdatasync");
        check(Durability::Write, 128 << 20, 1, "each partition by itself (log.flush.interval.messages=1)");
        check(Durability::Sync, 128 << 20, never, "a journal of 128 MiB per core (durability=sync)");
        check(Durability::Sync, 0, never, "each partition by itself (durability=sync, journal.bytes=0)");
    }
}
