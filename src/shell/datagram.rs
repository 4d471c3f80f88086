//! Datagrams between brokers, over UDP.
//!
//! *Owns*: the socket, and the addresses of names for a while. *Never*: waits to send, or says what got lost.
//! *Runs on*: core 0.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use glommio::timer::Timer;

use crate::base::limits;
use crate::broker::effect::Input;
use crate::config::Address;
use crate::shell::peer;
use crate::shell::reactor::Reactor;
use crate::shell::socket;

/// How long the address of a name is taken to be right.
const NAME_KEPT: Duration = Duration::from_secs(30);

/// How long a socket that reports an error is left alone.
const RECEIVE_AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct Datagrams {
    /// Does not block: what it does not take gets lost.
    socket: UdpSocket,
    /// Names other than IP addresses, with their addresses and when those were found.
    found: RefCell<HashMap<Address, (SocketAddr, Instant)>>,
}

impl Datagrams {
    pub fn new(socket: &UdpSocket) -> io::Result<Rc<Datagrams>> {
        let socket = socket.try_clone()?;
        socket.set_nonblocking(true)?;
        Ok(Rc::new(Datagrams { socket, found: RefCell::default() }))
    }

    pub fn send(self: Rc<Self>, to: Address, data: Bytes) {
        let ip = to.host.parse().ok().map(|ip| SocketAddr::new(ip, to.port));
        let found =
            self.found.borrow().get(&to).filter(|(_, at)| at.elapsed() < NAME_KEPT).map(|(address, _)| *address);
        if let Some(address) = ip.or(found) {
            return self.send_to(address, &data);
        }
        let look_up = async move {
            if let Ok(address) = peer::resolve(&to).await {
                self.keep(to, address);
                self.send_to(address, &data);
            }
        };
        glommio::spawn_local(look_up).detach();
    }

    fn send_to(&self, address: SocketAddr, data: &[u8]) {
        if let Err(error) = self.socket.send_to(data, address) {
            tracing::debug!("a datagram to {address} is lost: {error}");
        }
    }

    fn keep(&self, name: Address, address: SocketAddr) {
        let mut found = self.found.borrow_mut();
        if found.len() >= limits::GOSSIP_MEMBERS_MAX {
            found.clear();
        }
        found.insert(name, (address, Instant::now()));
    }
}

/// Hands the shard what comes, for as long as the executor lives.
pub async fn receive(reactor: Rc<Reactor>, socket: UdpSocket) {
    let socket = socket::into_datagrams(socket);
    // One byte more tells those that are too long.
    let mut buffer = [0; limits::GOSSIP_DATAGRAM_BYTES_MAX + 1];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((bytes, from)) if bytes <= limits::GOSSIP_DATAGRAM_BYTES_MAX => {
                let from = Address { host: from.ip().to_canonical().to_string(), port: from.port() };
                reactor.on(Input::Datagram { from, data: Bytes::copy_from_slice(&buffer[..bytes]) });
            }
            Ok((_, from)) => tracing::debug!("ignoring a datagram of {from} that is too long"),
            Err(error) => {
                tracing::debug!("cannot receive datagrams: {error}");
                Timer::new(RECEIVE_AGAIN).await;
            }
        }
    }
}
