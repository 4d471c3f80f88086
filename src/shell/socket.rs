//! The system calls that neither glommio nor the standard library offers: sockets above all, and the few that the
//! host checks make once.
//!
//! *Owns*: the unsafe calls and their error codes. *Never*: waits for a peer; waits are glommio's. *Runs on*: every
//! core, and the main thread at the start.

#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, ErrorKind};
use std::mem::{self, MaybeUninit};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use bytes::Bytes;

/// Connections that wait to be accepted, per listener.
const BACKLOG: i32 = 4096;

/// Slices handed to one `sendmsg`. The kernel takes 1024 at most.
const SLICES_PER_SEND_MAX: usize = 256;

/// Binds a TCP socket without listening, so that a port can be claimed long before connections are taken. With
/// `shared`, every core may bind the same address, and the kernel spreads connections over those that listen.
pub fn bind(address: SocketAddr, shared: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    // SAFETY: no pointers are passed.
    let fd = check(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // Without this, connections of a process that just ended keep the port busy for a minute.
    set_option(&fd, libc::SO_REUSEADDR)?;
    if shared {
        set_option(&fd, libc::SO_REUSEPORT)?;
    }
    let raw = fd.as_raw_fd();
    match address {
        SocketAddr::V4(v4) => {
            let name = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: the address lives through the call and its size is given.
            check(unsafe { libc::bind(raw, (&raw const name).cast(), mem::size_of_val(&name) as libc::socklen_t) })?;
        }
        SocketAddr::V6(v6) => {
            let name = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            check(unsafe { libc::bind(raw, (&raw const name).cast(), mem::size_of_val(&name) as libc::socklen_t) })?;
        }
    }
    Ok(fd)
}

/// The address a socket is bound to: tells which port was chosen for port 0.
pub fn local_address(fd: &OwnedFd) -> io::Result<SocketAddr> {
    TcpListener::from(fd.try_clone()?).local_addr()
}

/// Starts to take connections on a bound socket.
pub fn listen(fd: &OwnedFd) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    check(unsafe { libc::listen(fd.as_raw_fd(), BACKLOG) }).map(|_| ())
}

/// Hands a listening socket to the executor this is called on.
pub fn into_listener(fd: OwnedFd) -> glommio::net::TcpListener {
    // SAFETY: the descriptor is a socket, and its ownership passes on.
    unsafe { glommio::net::TcpListener::from_raw_fd(fd.into_raw_fd()) }
}

/// Hands a socket for datagrams to the executor this is called on.
pub fn into_datagrams(socket: UdpSocket) -> glommio::net::UdpSocket {
    // SAFETY: the descriptor is a UDP socket, and its ownership passes on.
    unsafe { glommio::net::UdpSocket::from_raw_fd(socket.into_raw_fd()) }
}

/// Hands a socket to the executor this is called on.
pub fn into_stream(socket: UnixStream) -> glommio::net::UnixStream {
    // SAFETY: the descriptor is a stream socket, and its ownership passes on.
    unsafe { glommio::net::UnixStream::from_raw_fd(socket.into_raw_fd()) }
}

/// Ends a connection in both directions. Whoever waits on it is woken with its end.
pub fn shut_down(fd: RawFd) {
    // SAFETY: no pointers are passed. An error means that the connection is gone already.
    unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
}

/// What one attempt to send has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    pub bytes: usize,
    /// The socket takes no more at present.
    pub blocked: bool,
}

/// Hands slices to the socket, without waiting: at most `bytes_max`, of at most [`SLICES_PER_SEND_MAX`] slices.
pub fn send<'a>(fd: RawFd, slices: impl Iterator<Item = &'a Bytes>, bytes_max: usize) -> io::Result<Sent> {
    let mut vector = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; SLICES_PER_SEND_MAX];
    let mut count = 0;
    let mut wanted = 0;
    for (entry, slice) in vector.iter_mut().zip(slices) {
        if wanted == bytes_max {
            break;
        }
        let length = slice.len().min(bytes_max - wanted);
        *entry = libc::iovec { iov_base: slice.as_ptr().cast_mut().cast(), iov_len: length };
        count += 1;
        wanted += length;
    }
    // SAFETY: all-zero is a valid msghdr: no name, no control data.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = vector.as_mut_ptr();
    message.msg_iovlen = count;
    loop {
        // SAFETY: the vector and what its first `count` entries point at live through the call, which only reads them.
        let sent = unsafe { libc::sendmsg(fd, &message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
        if sent >= 0 {
            let bytes = sent as usize;
            return Ok(Sent { bytes, blocked: bytes < wanted });
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            ErrorKind::WouldBlock => return Ok(Sent { bytes: 0, blocked: true }),
            ErrorKind::Interrupted => {}
            _ => return Err(error),
        }
    }
}

/// Reads what is there into the spare capacity of `first`, at most `first_bytes_max`, and what comes after into
/// `second`. `Ok(0)` is the end of the stream; nothing there is [`ErrorKind::WouldBlock`]. Returns all bytes read;
/// `first` has grown by its part.
pub fn receive(fd: RawFd, first: &mut Vec<u8>, first_bytes_max: usize, second: &mut [u8]) -> io::Result<usize> {
    let spare = first.spare_capacity_mut();
    let first_bytes_max = first_bytes_max.min(spare.len());
    let mut vector = [
        libc::iovec { iov_base: spare.as_mut_ptr().cast(), iov_len: first_bytes_max },
        libc::iovec { iov_base: second.as_mut_ptr().cast(), iov_len: second.len() },
    ];
    // SAFETY: all-zero is a valid msghdr: no name, no control data.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = vector.as_mut_ptr();
    message.msg_iovlen = vector.len();
    let read = loop {
        // SAFETY: both buffers are borrowed exclusively through the call, and the kernel writes within their lengths.
        let read = unsafe { libc::recvmsg(fd, &mut message, libc::MSG_DONTWAIT) };
        if read >= 0 {
            break read as usize;
        }
        let error = io::Error::last_os_error();
        if error.kind() != ErrorKind::Interrupted {
            return Err(error);
        }
    };
    let grown = first.len() + read.min(first_bytes_max);
    // SAFETY: the kernel has written the first `min(read, first_bytes_max)` bytes behind the old length, and that is
    // within the capacity.
    unsafe { first.set_len(grown) };
    Ok(read)
}

/// Makes an io_uring and gives it back: tells whether and why not the kernel lets this process have one.
pub fn try_io_uring() -> io::Result<()> {
    // The size of struct io_uring_params, all zeros: no flags.
    let mut parameters = [0u64; 15];
    // SAFETY: the kernel writes into `parameters`, which is as large as it expects.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1u32, parameters.as_mut_ptr()) };
    let ring = check(ring as i32)?;
    // SAFETY: the descriptor was just made and belongs to nobody else; dropping it closes it.
    drop(unsafe { OwnedFd::from_raw_fd(ring) });
    Ok(())
}

/// Has freed memory kept for the next use instead of given back to the kernel: request buffers and large direct
/// writes come and go all the time, and fetching 2 MiB page by page takes a millisecond. What was once used at the
/// same time stays in use; the broker bounds that.
pub fn keep_freed_memory() {
    /// The largest that the C library takes: half of one of its heaps.
    const MMAP_FROM_BYTES: i32 = 32 << 20;
    const KEEP_BYTES: i32 = 1 << 30;
    #[cfg(target_env = "gnu")]
    for (parameter, bytes) in [(libc::M_MMAP_THRESHOLD, MMAP_FROM_BYTES), (libc::M_TRIM_THRESHOLD, KEEP_BYTES)] {
        // SAFETY: no pointers are passed. A value that is not taken leaves the default, which is only slower.
        unsafe { libc::mallopt(parameter, bytes) };
    }
}

/// What direct I/O on a file must be aligned to. The kernel says since Linux 6.1 (`statx`); older ones and some file
/// systems say nothing.
pub fn direct_io_alignment(file: &File) -> Option<u32> {
    let mut answer = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the empty path names the descriptor itself, and `answer` is the structure the kernel fills.
    let result = unsafe {
        libc::statx(file.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, libc::STATX_DIOALIGN, answer.as_mut_ptr())
    };
    // SAFETY: all-zero is a valid statx, and the kernel has only written valid values over it.
    let answer = unsafe { answer.assume_init() };
    let told = result == 0 && answer.stx_mask & libc::STATX_DIOALIGN != 0 && answer.stx_dio_offset_align > 0;
    told.then_some(answer.stx_dio_offset_align)
}

/// The name of the file system that holds a file, if that is one that is in memory alone.
pub fn file_system_in_memory(file: &File) -> io::Result<Option<&'static str>> {
    let mut answer = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the kernel fills the structure it is given.
    check(unsafe { libc::fstatfs(file.as_raw_fd(), answer.as_mut_ptr()) })?;
    // SAFETY: all-zero is a valid statfs, and the kernel has only written valid values over it.
    let answer = unsafe { answer.assume_init() };
    // From Linux's magic.h.
    Ok(match answer.f_type as u64 {
        0x0102_1994 => Some("tmpfs"),
        0x8584_58f6 => Some("ramfs"),
        _ => None,
    })
}

/// Locks a file against other processes for as long as it is open. [`ErrorKind::WouldBlock`] when another has it.
pub fn lock_file(file: &File) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    check(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }).map(|_| ())
}

/// Tells a child process to stop in order. One that has ended already was waited for, or is not there.
pub fn terminate(process: u32) {
    if let Ok(process) = libc::pid_t::try_from(process) {
        // SAFETY: no pointers are passed. An error means that the process is gone already.
        unsafe { libc::kill(process, libc::SIGTERM) };
    }
}

/// Raises a soft limit to its hard one and returns it.
pub fn raise_limit(resource: libc::__rlimit_resource_t) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills the structure it is given.
    check(unsafe { libc::getrlimit(resource, &mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the kernel reads the structure it is given.
    check(unsafe { libc::setrlimit(resource, &limit) })?;
    Ok(limit.rlim_cur)
}

fn set_option(fd: &OwnedFd, option: i32) -> io::Result<()> {
    let on: i32 = 1;
    // SAFETY: the value lives through the call and its size is given.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const on).cast(),
            mem::size_of_val(&on) as libc::socklen_t,
        )
    };
    check(result).map(|_| ())
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    #[test]
    fn a_bound_port_is_shared_only_when_asked_and_takes_connections_once_it_listens() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let first = bind(any.parse().expect("an address"), true).expect("bind");
            let address = local_address(&first).expect("address");
            assert_ne!(address.port(), 0);
            assert!(TcpStream::connect(address).is_err());
            let second = bind(address, true).expect("a second socket on the same port");
            listen(&second).expect("listen");
            let error = bind(address, false).expect_err("the port is taken");
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            TcpStream::connect(address).expect("connect");
        }
    }

    #[test]
    fn the_host_answers_what_it_is_asked() {
        try_io_uring().expect("an io_uring");
        keep_freed_memory();
        let files = raise_limit(libc::RLIMIT_NOFILE).expect("a limit");
        assert_eq!(raise_limit(libc::RLIMIT_NOFILE).expect("the same limit"), files);
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
        let open = || File::create(dir.path().join("file")).expect("a file");
        let (first, second) = (open(), open());
        lock_file(&first).expect("free");
        assert_eq!(lock_file(&second).expect_err("locked").kind(), ErrorKind::WouldBlock);
        assert_eq!(file_system_in_memory(&first).expect("it has one"), None);
        let memory = File::open("/dev/shm").expect("a directory");
        assert!(file_system_in_memory(&memory).expect("it has one").is_none_or(|name| name == "tmpfs"));
        assert!(direct_io_alignment(&first).is_none_or(u32::is_power_of_two));
    }

    #[test]
    fn slices_arrive_in_order_and_a_full_socket_says_so() {
        let (here, mut there) = UnixStream::pair().expect("pair");
        let slices = [Bytes::from_static(b"one"), Bytes::new(), Bytes::from_static(b"two")];
        let sent = send(here.as_raw_fd(), slices.iter(), usize::MAX).expect("send");
        assert_eq!(sent, Sent { bytes: 6, blocked: false });
        let mut read = [0; 6];
        there.read_exact(&mut read).expect("read");
        assert_eq!(&read, b"onetwo");
        let sent = send(here.as_raw_fd(), slices.iter(), 5).expect("send");
        assert_eq!(sent, Sent { bytes: 5, blocked: false });
        there.read_exact(&mut read[..5]).expect("read");
        assert_eq!(&read[..5], b"onetw");

        let large = [Bytes::from(vec![7; 16 << 20])];
        let sent = send(here.as_raw_fd(), large.iter(), usize::MAX).expect("send");
        assert!(sent.blocked && sent.bytes > 0 && sent.bytes < 16 << 20);
        assert_eq!(send(here.as_raw_fd(), large.iter(), usize::MAX).expect("send"), Sent { bytes: 0, blocked: true });
        shut_down(there.as_raw_fd());
        assert!(send(here.as_raw_fd(), large.iter(), usize::MAX).is_err());
    }

    #[test]
    fn a_read_fills_the_spare_capacity_first_then_the_second_buffer() {
        let (here, mut there) = UnixStream::pair().expect("pair");
        let mut first = Vec::with_capacity(8);
        first.extend_from_slice(b"ab");
        let mut second = [0; 4];
        let error = receive(here.as_raw_fd(), &mut first, 3, &mut second).expect_err("nothing there");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        there.write_all(b"cdefgh").expect("write");
        assert_eq!(receive(here.as_raw_fd(), &mut first, 3, &mut second).expect("read"), 6);
        assert_eq!((&first[..], &second), (&b"abcde"[..], b"fgh\0"));
        drop(there);
        assert_eq!(receive(here.as_raw_fd(), &mut first, 3, &mut second).expect("end"), 0);
        assert_eq!(first, b"abcde");
    }
}
