//! The connections: who is let in, and for how long.
//!
//! In: a listener, an [`Aggregator`] and its [`Settings`]. Out: answers, until [`serve`] is told to stop; then it lets
//! the running scrapes finish. A client that is idle, slow, gone or not allowed to ask costs nobody else anything.

mod auth;
mod clients;
mod compression;
mod connection;
mod leaving;
mod log_limit;
mod response;
mod routes;
mod tls;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tracing::{debug, error, warn};

use crate::aggregate::Aggregator;
use crate::config::Listen;
use clients::{Client, Clients, Phase, origin};
use connection::{HEAD_TIMEOUT, IdleLimited};
use routes::Service;
use tls::{Peer, Tls};

pub use routes::Settings;

/// Connections that wait to be accepted; as tokio and Go have it.
const BACKLOG: i32 = 1024;

/// Bytes of a request's head. A scraper's has some hundreds.
const MAX_HEAD: usize = 16 << 10;

/// Bytes that are read from or written to a client at once: one piece of an answer.
const BUFFER: usize = 256 << 10;

/// Bytes that the kernel holds for a client. By itself it would hold megabytes: memory of the pod's for whoever does not
/// read, no longer in the processor's cache when they go out, and so slow to drain that a slow reader looks like none.
const SEND_BUFFER: usize = 256 << 10;

/// How long to wait before accepting again when the process has no file descriptor left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Binds the port.
///
/// # Errors
///
/// The address is taken or not this machine's, or the port is not allowed.
///
/// # Panics
///
/// Outside of a tokio runtime with I/O.
pub fn bind(listen: Listen) -> io::Result<TcpListener> {
    let at = |address: IpAddr| listener(SocketAddr::new(address, listen.port));
    match listen.address {
        Some(address) => at(address),
        None => at(Ipv6Addr::UNSPECIFIED.into()).or_else(|error| match error.kind() {
            // A kernel without IPv6.
            io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(error),
            _ => at(Ipv4Addr::UNSPECIFIED.into()),
        }),
    }
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A restarted sidecar must not wait for its predecessor's connections to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Serves until `stop` is ready, then lets the running scrapes finish.
pub async fn serve(listener: TcpListener, aggregator: Aggregator, settings: Settings, stop: impl Future<Output = ()>) {
    let service = Arc::new(Service::new(aggregator, settings));
    let port = listener.local_addr().map_or(0, |address| address.port());
    let told = service.listen_for_leave(port);
    let (stopping, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut keeping = JoinSet::new();
    let mut clients = Clients::new();
    // It is served on while it leaves.
    let mut stop = pin!(async {
        stop.await;
        service.linger().await;
    });
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(ended) = connections.join_next() => report(ended),
            () = is_told(told.as_ref()), if keeping.is_empty() => {
                let service = Arc::clone(&service);
                keeping.spawn(async move { service.keep().await });
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    if let Some(client) = clients.let_in(origin(address), &service.log_limit) {
                        connections.spawn(connection(stream, client, Arc::clone(&service), stopped.clone()));
                    }
                }
                Err(error) => {
                    if let Some(times) = service.log_limit.happened("not accepted") {
                        warn!(times, %error, "cannot accept a connection");
                    }
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            },
        }
    }
    drop(listener);
    drop(stopping);
    while let Some(ended) = connections.join_next().await {
        report(ended);
    }
}

/// Ready when somebody has said that the pod is about to end.
async fn is_told(listener: Option<&UnixListener>) {
    match listener {
        Some(listener) if listener.accept().await.is_ok() => {}
        _ => std::future::pending().await,
    }
}

/// A connection that panicked costs its own scrape only.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        error!(%error, "a connection ended in a panic");
    }
}

/// Serves one client until it leaves, is put out, or the server stops and it has had its answer.
async fn connection(stream: TcpStream, client: Arc<Client>, service: Arc<Service>, stopped: watch::Receiver<()>) {
    let is_set = stream.set_nodelay(true).and_then(|()| SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER));
    if let Err(error) = is_set {
        return debug!(%error, "a client left at once");
    }
    let served = async {
        let Some(tls) = &service.authorizer().tls else {
            return requests(stream, Peer::default(), &client, &service, stopped).await;
        };
        if let Some((stream, peer)) = handshake(stream, tls, &client, &service, stopped.clone()).await {
            requests(stream, peer, &client, &service, stopped).await;
        }
    };
    tokio::select! {
        () = served => {}
        () = client.put_out.notified() => {
            if let Some(times) = service.log_limit.happened("put out") {
                warn!(times, "a client that was quiet, or did not read its answer, was put out for another");
            }
        }
    }
}

/// A new client's handshake, for which it has as long as for a request's head, and which nobody waits for when the server
/// stops.
async fn handshake(
    stream: TcpStream,
    tls: &Tls,
    client: &Client,
    service: &Service,
    mut stopped: watch::Receiver<()>,
) -> Option<(impl AsyncRead + AsyncWrite + Unpin, Peer)> {
    let secured = tokio::select! {
        secured = tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)) => secured,
        _ = stopped.changed() => return None,
    };
    let secured = secured.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    if let Err(error) = &secured {
        // Who just leaves is no news; who does not speak TLS, or shows what nobody can read, wants to be told.
        if error.kind() != io::ErrorKind::InvalidData {
            debug!(%error, "a client's handshake came to nothing");
        } else if let Some(times) = service.log_limit.happened("no handshake") {
            let hint = "a scraper's scheme is to be https";
            warn!(times, client = %client.origin, %error, hint, "a client's handshake came to nothing");
        }
    }
    secured.ok()
}

async fn requests<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    peer: Peer,
    client: &Arc<Client>,
    service: &Service,
    mut stopped: watch::Receiver<()>,
) {
    let stream = TokioIo::new(IdleLimited::new(stream, Arc::clone(client)));
    let serve = service_fn(|request| {
        let answer = service.answer(request, client, &peer);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut serving =
        pin!(http1::Builder::new().max_header_size(MAX_HEAD).max_buf_size(BUFFER).serve_connection(stream, serve));
    let ended = tokio::select! {
        ended = &mut serving => ended,
        _ = stopped.changed() => {
            if matches!(client.phase(), Phase::SendingHead(_)) {
                return;
            }
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a client's connection broke off");
    }
}
