//! What the sinks have in common: a thread for each connection, which reads a request and sends its reply.
//!
//! *Owns*: listening, the end of a connection, vectored sends. *Never*: looks into a request.

use std::io::{ErrorKind, IoSlice, Write};
use std::net::{TcpListener, TcpStream};

use bytes::{Buf, Bytes};
use corelog::wire::reader::DecodeError;

use crate::control;

/// Slices of one vectored send: Linux takes no more than 1,024.
const SLICES_MAX: usize = 1024;

/// Listens, and says where.
pub fn listen(address: &str) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(address).map_err(|error| format!("cannot listen on {address}: {error}"))?;
    println!("listening on {}", listener.local_addr().map_err(|error| error.to_string())?);
    Ok(listener)
}

/// Answers each request with what `reply` makes of its frame, until the process is killed. `answered` names the
/// requests that it understands.
pub fn accept<R>(listener: &TcpListener, answered: &'static str, reply: R) -> Result<(), String>
where
    R: FnMut(Bytes) -> Result<Vec<Bytes>, DecodeError> + Clone + Send + 'static,
{
    for stream in listener.incoming() {
        let stream = stream.map_err(|error| format!("cannot accept: {error}"))?;
        let reply = reply.clone();
        std::thread::spawn(move || {
            if let Err(why) = answer(stream, answered, reply) {
                eprintln!("generator: {why}");
            }
        });
    }
    Ok(())
}

fn answer(
    mut stream: TcpStream,
    answered: &str,
    mut reply: impl FnMut(Bytes) -> Result<Vec<Bytes>, DecodeError>,
) -> Result<(), String> {
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    loop {
        let frame = match control::read_frame(&mut stream) {
            Ok(frame) => frame,
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                return Ok(());
            }
            Err(error) => return Err(format!("cannot read: {error}")),
        };
        let slices = reply(frame).map_err(|error| format!("only {answered} answered: {error}"))?;
        if send(&mut stream, slices).is_err() {
            return Ok(());
        }
    }
}

fn send(stream: &mut TcpStream, mut slices: Vec<Bytes>) -> std::io::Result<()> {
    let mut first = 0;
    while first < slices.len() {
        let vector: Vec<_> = slices[first..].iter().take(SLICES_MAX).map(|slice| IoSlice::new(slice)).collect();
        let mut sent = stream.write_vectored(&vector)?;
        while first < slices.len() && sent >= slices[first].len() {
            sent -= slices[first].len();
            first += 1;
        }
        if sent > 0 {
            slices[first].advance(sent);
        }
    }
    Ok(())
}
