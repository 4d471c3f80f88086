//! Connections made to other brokers: from the name to the last frame.
//!
//! *Owns*: how one is made, and why it ended. *Never*: knows what a frame says. *Runs on*: the core that asked for it.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::time::Duration;

use glommio::net::TcpStream;

use crate::base::ids::PeerId;
use crate::base::limits;
use crate::base::stage::Arrival;
use crate::broker::effect::Input;
use crate::config::Address;
use crate::shell::connection::{Connection, Side};
use crate::shell::executor;
use crate::shell::frames::{FrameReader, Next, Verdict};
use crate::shell::reactor::Reactor;

/// Makes a connection, reads it until it ends, and says why it has.
pub async fn serve(reactor: Rc<Reactor>, peer: PeerId, to: Address) {
    let connected = connect(&to).await;
    // Whoever has given it up in the meantime wants no connection.
    let is_wanted = reactor.connecting.borrow_mut().remove(&peer);
    let why = match connected {
        Ok(_) if !is_wanted => "nobody waits for it".to_owned(),
        Ok(stream) => {
            let connection = Connection::new(Side::Made(peer), stream, None, reactor.instant());
            reactor.add_connection(connection.clone());
            reactor.on(Input::PeerOpened { peer });
            let why = read(&reactor, peer, &connection).await;
            connection.end();
            reactor.remove_connection(connection.side);
            why
        }
        Err(error) => format!("no connection to {to}: {error}"),
    };
    reactor.on(Input::PeerClosed { peer, why });
}

async fn connect(to: &Address) -> io::Result<TcpStream> {
    let address = resolve(to).await?;
    let stream = TcpStream::connect_timeout(&address, Duration::from_millis(limits::PEER_GREETING_MS)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Looks a name up without having the core wait for it.
pub async fn resolve(to: &Address) -> io::Result<SocketAddr> {
    if let Ok(ip) = to.host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, to.port));
    }
    let (host, port) = (to.host.clone(), to.port);
    let look_up = move || (host.as_str(), port).to_socket_addrs().map(|mut found| found.next());
    let found = glommio::executor().spawn_blocking(look_up).await?;
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
}

/// Returns why the connection has ended.
async fn read(reactor: &Rc<Reactor>, peer: PeerId, connection: &Connection) -> String {
    let mut reader = FrameReader::default();
    let mut read_since_turn = 0;
    while !connection.ended.get() {
        let fits = |bytes| if bytes <= reactor.peer_frame_bytes_max { Verdict::Take } else { Verdict::Refuse };
        match reader.next(fits) {
            Next::Frame(frame) => {
                let (first_byte, last_byte) = reader.came();
                reactor.on(Input::PeerFrame { peer, frame, arrival: Arrival { first_byte, waited: None, last_byte } });
            }
            Next::Read => match connection.read(reactor, &mut reader).await {
                Ok(0) => return "the other side has closed it".to_owned(),
                Ok(bytes) => read_since_turn += bytes,
                Err(error) => return error.to_string(),
            },
            Next::Wait => unreachable!("nothing has to wait here"),
            Next::Refuse { length } => return format!("a frame of {length} bytes cannot be"),
        }
        if read_since_turn >= executor::READ_BYTES_PER_TURN {
            read_since_turn = 0;
            executor::next_turn().await;
        }
    }
    "it was closed here".to_owned()
}
