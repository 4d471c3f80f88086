//! The floor: the least a glommio sink on one core can do with a produce load.
//!
//! Frames are cut, CRC-32C is checked, records are copied once into a direct write (one in flight per partition; what
//! arrives meanwhile is the next), and replies go out in request order after the write. There is no log, no index, no
//! decision; offsets only count requests. What Corelog does for the same load is measured as a ratio to this.
//! Heartbeats are answered at once: what a request costs that is nothing but read and answered.
//!
//! *Owns*: nothing that lasts: files are preallocated rings that are written over. *Never*: answers anything but
//! Produce v9–13 with one topic, and Heartbeat v1-3. *Runs on*: one core.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::rc::Rc;

use bytes::{Buf, BufMut, Bytes};
use clap::Parser;
use corelog::base::checksum::crc32c;
use corelog::base::disk::{BLOCK_BYTES, DiskOp, FileId};
use corelog::base::limits::DISK_WRITE_BYTES_MAX;
use corelog::shell::disk::Disk;
use corelog::shell::executor::{self, Signal};
use corelog::shell::frames::{FrameReader, Next, SCRATCH_BYTES, Verdict};
use corelog::shell::output::Output;
use corelog::shell::socket;
use corelog::wire::messages::heartbeat;
use glommio::net::TcpStream;

/// What is written before anything is measured.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

#[derive(Parser, Clone)]
struct Arguments {
    #[arg(long, default_value = "127.0.0.1:9191")]
    listen: SocketAddr,
    #[arg(long)]
    dir: PathBuf,
    #[arg(long, default_value_t = 16)]
    partitions: u32,
    #[arg(long, default_value_t = 0)]
    cpu: usize,
    /// Each partition's file, preallocated and written over and over.
    #[arg(long, default_value_t = 256)]
    file_mib: u64,
    /// Answers when a write is durable, into space that was written before.
    #[arg(long)]
    durable: bool,
}

struct Floor {
    disk: Disk,
    scratch: RefCell<Vec<u8>>,
    partitions: Vec<Partition>,
    file_bytes: u64,
    /// Connections with replies that are ready to be sent.
    dirty: RefCell<Vec<Rc<Connection>>>,
    send: Signal,
}

struct Partition {
    file: FileId,
    position: Cell<u64>,
    next_offset: Cell<i64>,
    pending: RefCell<Pending>,
    writing: Cell<bool>,
}

#[derive(Default)]
struct Pending {
    records: VecDeque<Bytes>,
    replies: VecDeque<(Rc<Connection>, u64)>,
}

struct Connection {
    stream: RefCell<TcpStream>,
    output: RefCell<Output>,
    /// Replies in the order of their requests, the first one's number, and which of them are due.
    replies: RefCell<VecDeque<(Bytes, bool)>>,
    first_reply: Cell<u64>,
    dirty: Cell<bool>,
    blocked: Cell<bool>,
}

fn main() {
    let arguments = Arguments::parse();
    // As the broker does: otherwise a third of the floor would be page faults.
    socket::keep_freed_memory();
    let executor = executor::builder("floor", arguments.cpu).spawn(move || run(arguments)).expect("start an executor");
    executor.join().expect("the executor ran");
}

async fn run(arguments: Arguments) {
    std::fs::create_dir_all(&arguments.dir).expect("create the directory");
    let disk = Disk::open(&arguments.dir, "probe").await.expect("open the directory");
    let file_bytes = arguments.file_mib << 20;
    let mut partitions = Vec::new();
    for index in 0..arguments.partitions {
        let file = FileId::new(index, 0);
        let path = PathBuf::from(format!("partition-{index}"));
        let open = match arguments.durable {
            true => DiskOp::OpenDurable { file, path },
            false => DiskOp::Open { file, path, create: true },
        };
        disk.run(open).await.expect("open a file");
        disk.run(DiskOp::Allocate { file, len: file_bytes }).await.expect("preallocate a file");
        if arguments.durable {
            for position in (0..file_bytes).step_by(ZEROS.len()) {
                let data = vec![Bytes::from_static(&ZEROS)];
                disk.run(DiskOp::Write { file, position, data }).await.expect("write a file");
            }
        }
        partitions.push(Partition {
            file,
            position: Cell::new(0),
            next_offset: Cell::new(0),
            pending: RefCell::default(),
            writing: Cell::new(false),
        });
    }
    let scratch = RefCell::new(vec![0; SCRATCH_BYTES]);
    let floor =
        Rc::new(Floor { disk, scratch, partitions, file_bytes, dirty: RefCell::default(), send: Signal::default() });
    let socket = socket::bind(arguments.listen, false).expect("bind");
    socket::listen(&socket).expect("listen");
    println!("listening on {}", socket::local_address(&socket).expect("bound"));
    glommio::spawn_local(send(floor.clone())).detach();
    let listener = socket::into_listener(socket);
    loop {
        let stream = listener.accept().await.expect("accept");
        stream.set_nodelay(true).expect("set TCP_NODELAY");
        glommio::spawn_local(serve(floor.clone(), stream)).detach();
    }
}

/// Reads requests until the connection ends.
async fn serve(floor: Rc<Floor>, stream: TcpStream) {
    let connection = Rc::new(Connection {
        stream: RefCell::new(stream),
        output: RefCell::default(),
        replies: RefCell::default(),
        first_reply: Cell::new(0),
        dirty: Cell::new(false),
        blocked: Cell::new(false),
    });
    let mut reader = FrameReader::default();
    let mut read_since_turn = 0;
    loop {
        loop {
            match reader.next(|_| Verdict::Take) {
                Next::Frame(frame) => floor.take(&connection, frame),
                Next::Read => break,
                Next::Wait | Next::Refuse { .. } => return,
            }
        }
        if read_since_turn >= executor::READ_BYTES_PER_TURN {
            read_since_turn = 0;
            executor::next_turn().await;
        }
        let read = std::future::poll_fn(|cx| {
            reader.poll_read(cx, &mut connection.stream.borrow_mut(), &mut floor.scratch.borrow_mut())
        });
        match read.await {
            Ok(0) | Err(_) => return,
            Ok(read) => read_since_turn += read,
        }
    }
}

/// Sends what is due, once for all that happened since the last time.
async fn send(floor: Rc<Floor>) {
    loop {
        floor.send.wait().await;
        let dirty = std::mem::take(&mut *floor.dirty.borrow_mut());
        for connection in dirty {
            connection.dirty.set(false);
            if connection.blocked.get() {
                continue;
            }
            let fd = connection.stream.borrow().as_raw_fd();
            let sent = connection.output.borrow_mut().send(fd, usize::MAX);
            if sent.is_ok_and(|sent| sent.blocked) {
                connection.blocked.set(true);
                glommio::spawn_local(send_blocked(connection)).detach();
            }
        }
    }
}

async fn send_blocked(connection: Rc<Connection>) {
    loop {
        let front = connection.output.borrow().front().cloned();
        let Some(front) = front else { break };
        let sent = std::future::poll_fn(|cx| {
            let mut stream = connection.stream.borrow_mut();
            futures_lite::AsyncWrite::poll_write(std::pin::Pin::new(&mut *stream), cx, &front)
        });
        let Ok(sent) = sent.await else { break };
        connection.output.borrow_mut().advance(sent);
    }
    connection.blocked.set(false);
}

impl Floor {
    fn take(self: &Rc<Floor>, connection: &Rc<Connection>, frame: Bytes) {
        let number = connection.first_reply.get() + connection.replies.borrow().len() as u64;
        if frame.starts_with(&heartbeat::API.key.to_be_bytes()) {
            connection.replies.borrow_mut().push_back((heartbeat_reply(&frame), false));
            self.reply(connection, number);
            return;
        }
        let mut request = Request::read(frame);
        let records = request.records.split_off(0);
        let crc = u32::from_be_bytes(records[17..21].try_into().expect("4 bytes"));
        assert_eq!(crc32c(&records[21..]), crc, "the batch arrived damaged");
        let partition = &self.partitions[request.partition as usize];
        let offset = partition.next_offset.get();
        partition.next_offset.set(offset + 1);
        connection.replies.borrow_mut().push_back((request.reply(offset), false));
        let mut pending = partition.pending.borrow_mut();
        pending.records.push_back(records);
        pending.replies.push_back((connection.clone(), number));
        if !partition.writing.replace(true) {
            drop(pending);
            glommio::spawn_local(write(self.clone(), request.partition as usize)).detach();
        }
    }

    fn reply(&self, connection: &Rc<Connection>, number: u64) {
        let mut replies = connection.replies.borrow_mut();
        replies[(number - connection.first_reply.get()) as usize].1 = true;
        while replies.front().is_some_and(|(_, due)| *due) {
            let (reply, _) = replies.pop_front().expect("looked at");
            connection.first_reply.set(connection.first_reply.get() + 1);
            connection.output.borrow_mut().push(reply);
        }
        if !connection.dirty.replace(true) {
            self.dirty.borrow_mut().push(connection.clone());
            self.send.give();
        }
    }
}

/// Writes what is pending until nothing is.
async fn write(floor: Rc<Floor>, index: usize) {
    let partition = &floor.partitions[index];
    loop {
        let (data, replies) = take_pending(partition);
        if data.is_empty() {
            partition.writing.set(false);
            return;
        }
        let bytes = data.iter().map(Bytes::len).sum::<usize>().next_multiple_of(BLOCK_BYTES) as u64;
        let mut position = partition.position.get();
        if position + bytes > floor.file_bytes {
            position = 0;
        }
        partition.position.set(position + bytes);
        floor.disk.run(DiskOp::Write { file: partition.file, position, data }).await.expect("write");
        for (connection, number) in replies {
            floor.reply(&connection, number);
        }
    }
}

type Replies = Vec<(Rc<Connection>, u64)>;

fn take_pending(partition: &Partition) -> (Vec<Bytes>, Replies) {
    let mut pending = partition.pending.borrow_mut();
    let mut bytes = 0;
    let fitting = pending.records.iter().take_while(|records| {
        bytes += records.len();
        bytes <= DISK_WRITE_BYTES_MAX
    });
    let count = fitting.count().max(1).min(pending.records.len());
    (pending.records.drain(..count).collect(), pending.replies.drain(..count).collect())
}

/// The little of a Produce request that is needed: one topic, one partition.
struct Request {
    version: i16,
    correlation_id: i32,
    /// The topic's name with its length, or its id from v13 on.
    topic: Bytes,
    partition: i32,
    records: Bytes,
}

impl Request {
    fn read(mut frame: Bytes) -> Request {
        assert_eq!(frame.get_i16(), 0, "only Produce is answered");
        let version = frame.get_i16();
        assert!((9..=13).contains(&version), "only Produce v9-13 is answered");
        let correlation_id = frame.get_i32();
        let client_id = frame.get_i16().max(0);
        frame.advance(client_id as usize);
        skip_tags(&mut frame);
        let transactional_id = varint(&mut frame).max(1) - 1;
        frame.advance(transactional_id);
        frame.advance(2 + 4);
        assert_eq!(varint(&mut frame), 2, "one topic");
        let topic_bytes = if version >= 13 {
            16
        } else {
            let mut ahead = frame.clone();
            let name = varint(&mut ahead) - 1;
            frame.len() - ahead.len() + name
        };
        let topic = frame.split_to(topic_bytes);
        assert_eq!(varint(&mut frame), 2, "one partition");
        let partition = frame.get_i32();
        let records = varint(&mut frame) - 1;
        let records = frame.split_to(records);
        Request { version, correlation_id, topic, partition, records }
    }

    fn reply(&self, offset: i64) -> Bytes {
        let mut reply = Vec::with_capacity(64 + self.topic.len());
        reply.put_i32(0);
        reply.put_i32(self.correlation_id);
        reply.put_u8(0);
        reply.put_u8(2);
        reply.put_slice(&self.topic);
        reply.put_u8(2);
        reply.put_i32(self.partition);
        reply.put_i16(0);
        reply.put_i64(offset);
        reply.put_i64(-1);
        reply.put_i64(0);
        reply.put_u8(1); // record_errors
        reply.put_u8(0); // error_message
        reply.put_u8(0);
        reply.put_u8(0);
        reply.put_i32(0);
        reply.put_u8(0);
        let length = (reply.len() - 4) as i32;
        reply[..4].copy_from_slice(&length.to_be_bytes());
        debug_assert!(self.version >= 9);
        Bytes::from(reply)
    }
}

/// No time to wait, no error.
fn heartbeat_reply(frame: &[u8]) -> Bytes {
    let mut reply = Vec::with_capacity(14);
    reply.put_u32(10);
    reply.put_slice(&frame[4..8]);
    reply.put_i32(0);
    reply.put_i16(0);
    Bytes::from(reply)
}

fn skip_tags(frame: &mut Bytes) {
    for _ in 0..varint(frame) {
        varint(frame);
        let bytes = varint(frame);
        frame.advance(bytes);
    }
}

fn varint(frame: &mut Bytes) -> usize {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let byte = frame.get_u8();
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}
