//! The shell's pieces working together on a real executor: traps of the runtime that only show under a load.
#![cfg(feature = "shell")]

use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use corelog::base::disk::{BLOCK_BYTES, DiskOp, FileId};
use corelog::shell::disk::Disk;
use corelog::shell::executor;
use corelog::shell::frames::{FrameReader, Next, SCRATCH_BYTES, Verdict};
use corelog::shell::output::Output;
use glommio::net::TcpListener;

const REQUESTS: usize = 5000;

/// Far longer than the requests take, far shorter than the year after which the preemption timer fires.
const PATIENCE: Duration = Duration::from_secs(60);

const FILE: FileId = FileId(0);

/// Answers each frame with itself after a write of its bytes, and a call to the helper thread with every tenth one:
/// sockets, disk and helper thread all wake the executor.
async fn echo(dir: PathBuf, listener: TcpListener) {
    let disk = Rc::new(Disk::open(&dir, ".probe").await.expect("open the directory"));
    disk.run(DiskOp::Open { file: FILE, path: "file".into(), create: true }).await.expect("open a file");
    let mut stream = listener.accept().await.expect("accept");
    let mut reader = FrameReader::default();
    let mut scratch = vec![0; SCRATCH_BYTES];
    let mut count = 0u64;
    loop {
        while let Next::Frame(frame) = reader.next(|_| Verdict::Take) {
            let position = count % 16 * BLOCK_BYTES as u64;
            count += 1;
            if count.is_multiple_of(10) {
                let disk = disk.clone();
                let list = async move { disk.run(DiskOp::List { dir: "".into() }).await };
                glommio::spawn_local(list).detach();
            }
            let write = DiskOp::Write { file: FILE, position, data: vec![frame.clone()] };
            disk.run(write).await.expect("write");
            let mut output = Output::default();
            output.push(Bytes::copy_from_slice(&(frame.len() as u32).to_be_bytes()));
            output.push(frame);
            assert!(!output.send(stream.as_raw_fd(), usize::MAX).expect("send").blocked);
        }
        let read = poll_fn(|cx| reader.poll_read(cx, &mut stream, &mut scratch)).await;
        if read.expect("read") == 0 {
            return;
        }
    }
}

/// A lone connection leaves the executor nothing else to be woken by: if it ever parks with a task ready to run,
/// or misses a wake, this takes forever.
#[test]
fn thousands_of_requests_on_one_connection_take_a_finite_time() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = dir.path().to_path_buf();
    let processor = core_affinity::get_core_ids().expect("processors")[0].id;
    let (addresses, address) = mpsc::channel();
    let serve = move || async move {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        addresses.send(listener.local_addr().expect("bound")).expect("the test waits");
        echo(path, listener).await;
    };
    let server = executor::builder("echo", processor).spawn(serve).expect("an executor");
    let mut stream = TcpStream::connect(address.recv().expect("an address")).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("nodelay");
    let mut reply = vec![0; 1004];
    for i in 0..REQUESTS {
        let mut request = 1000u32.to_be_bytes().to_vec();
        request.resize(1004, i as u8);
        stream.write_all(&request).expect("write");
        stream.read_exact(&mut reply).expect("the reply comes in time");
        assert!(reply == request);
    }
    drop(stream);
    server.join().expect("the executor ends");
}

/// A task that always finds something to read must not keep completions from being seen.
#[test]
fn a_task_that_is_always_ready_lets_the_others_have_their_completions() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = dir.path().to_path_buf();
    let processor = core_affinity::get_core_ids().expect("processors")[0].id;
    let (done, wait) = mpsc::channel();
    let work = move || async move {
        let busy = glommio::spawn_local(async {
            loop {
                executor::next_turn().await;
            }
        });
        let disk = Disk::open(&path, ".probe").await.expect("open the directory");
        disk.run(DiskOp::Open { file: FILE, path: "file".into(), create: true }).await.expect("open a file");
        for _ in 0..100 {
            let data = vec![Bytes::from_static(b"data")];
            disk.run(DiskOp::Write { file: FILE, position: 0, data }).await.expect("write");
        }
        busy.cancel().await;
        done.send(()).expect("the test waits");
    };
    thread::spawn(move || executor::builder("busy", processor).make().expect("an executor").run(work()));
    wait.recv_timeout(PATIENCE).expect("the writes end");
}
