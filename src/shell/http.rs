//! HTTP for whoever watches: `/metrics`, `/stages.hlog`, and a page that names them. One request a connection.
//!
//! *Owns*: the connections of the HTTP listener, few and short. *Never*: lets a slow client hold more than its own
//! place, or knows what it serves. *Runs on*: core 0.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_lite::{AsyncRead, AsyncWrite, FutureExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::timer::Timer;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::rt::ReadBufCursor;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};

use crate::shell::watch::Watch;
use crate::shell::{executor, exposition};

/// Connections at a time. Further ones are closed at once.
const CONNECTIONS_MAX: usize = 16;

/// A connection's life, request and reply included.
const CONNECTION_MAX: Duration = Duration::from_secs(10);

/// The line and headers of a request.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// How long a core that could not accept waits before it tries again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";

const INDEX: &str = "\
Corelog, for whoever watches it:

/metrics      numbers and stage histograms, as OpenMetrics text
/stages.hlog  what each stage of each request took, as an HdrHistogram interval log
";

/// Answers for as long as the executor runs.
pub async fn serve(listener: TcpListener, watch: Rc<Watch>) {
    let open = Rc::new(Cell::new(0));
    loop {
        match listener.accept().await {
            Ok(stream) if open.get() >= CONNECTIONS_MAX => {
                drop(stream);
                // More of them may be waiting than a core has time for.
                executor::next_turn().await;
            }
            Ok(stream) => {
                open.set(open.get() + 1);
                glommio::spawn_local(serve_connection(stream, watch.clone(), open.clone())).detach();
            }
            Err(error) => {
                tracing::debug!("cannot accept an HTTP connection: {error}");
                Timer::new(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, watch: Rc<Watch>, open: Rc<Cell<usize>>) {
    let service = service_fn(|request: Request<Incoming>| {
        let watch = watch.clone();
        async move { Ok::<_, Infallible>(answer(&request, &watch).await) }
    });
    let mut http = http1::Builder::new();
    http.keep_alive(false).max_buf_size(HEAD_BYTES_MAX);
    let connection = async {
        if let Err(error) = http.serve_connection(Stream(stream), service).await {
            tracing::debug!("an HTTP connection ended: {error}");
        }
    };
    let time_is_up = async {
        Timer::new(CONNECTION_MAX).await;
    };
    connection.or(time_is_up).await;
    open.set(open.get() - 1);
}

async fn answer(request: &Request<Incoming>, watch: &Watch) -> Response<Full<Bytes>> {
    let known = matches!(request.uri().path(), "/" | "/metrics" | "/stages.hlog");
    if !known {
        return reply(StatusCode::NOT_FOUND, TEXT, format!("There is no such page.\n\n{INDEX}"));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Only GET and HEAD are served.\n".to_owned());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/metrics" => reply(StatusCode::OK, exposition::CONTENT_TYPE, watch.metrics().await),
        "/stages.hlog" => reply(StatusCode::OK, TEXT, watch.stages().await),
        _ => reply(StatusCode::OK, TEXT, INDEX.to_owned()),
    }
}

fn reply(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// glommio's stream as hyper wants it.
struct Stream(TcpStream);

impl hyper::rt::Read for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [0; 4096];
        let wanted = buf.remaining().min(bytes.len());
        let read = ready!(Pin::new(&mut self.0).poll_read(cx, &mut bytes[..wanted]))?;
        buf.put_slice(&bytes[..read]);
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}
