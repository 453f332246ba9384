//! Connections to a target, and how much may come over one before an answer begins.
//!
//! In: where a target is, and whom TLS is to find there. Out: a stream for the HTTP client. That one passes over informational
//! answers (`100 Continue`, `103 Early Hints`) without end and without giving way to others, so that what comes before an answer's
//! head is bounded here.

use std::error::Error;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use http::Uri;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tower_service::Service;

/// Bytes that may come before an answer's head has been read: the largest head, a few informational answers, and what of the body
/// is read along with it.
pub(super) const MAX_BEFORE_HEAD: usize = 2 << 20;

/// Bytes of those that are read at once: the client parses all heads among them before it gives way, at some tens of microseconds
/// each.
const PIECE: usize = 8 << 10;

/// Bytes of those after which everybody else has a turn.
const TURN: usize = 4 * PIECE;

/// `localhost`, without asking a resolver: the image need not have an /etc/hosts. Whichever answers is used.
const LOCALHOST: [SocketAddr; 2] =
    [SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0), SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 0)];

type BoxError = Box<dyn Error + Send + Sync>;
type BoxFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// Connects to targets.
#[derive(Debug, Clone)]
pub(super) enum Dial {
    Tcp(HttpConnector<Resolver>),
    Unix(Arc<PathBuf>),
    /// The name is whom the certificate is to be of, if that is not the host.
    Tls(HttpConnector<Resolver>, Arc<rustls::ClientConfig>, Option<Arc<str>>),
}

impl Dial {
    pub(super) fn tcp() -> Self {
        Self::Tcp(tcp())
    }

    pub(super) fn unix(path: PathBuf) -> Self {
        Self::Unix(path.into())
    }

    pub(super) fn tls(config: rustls::ClientConfig, server_name: Option<&str>) -> Self {
        Self::Tls(tcp(), config.into(), server_name.map(Into::into))
    }
}

fn tcp() -> HttpConnector<Resolver> {
    let mut connector = HttpConnector::new_with_resolver(Resolver);
    // TLS is spoken above it.
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector
}

impl Service<Uri> for Dial {
    type Response = TokioIo<TargetStream>;
    type Error = BoxError;
    type Future = BoxFuture<Self::Response, BoxError>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dial = self.clone();
        Box::pin(async move {
            let stream: Box<dyn Stream> = match dial {
                Self::Tcp(mut connector) => Box::new(connector.call(uri).await?.into_inner()),
                Self::Unix(path) => Box::new(UnixStream::connect(&*path).await?),
                Self::Tls(mut connector, config, server_name) => {
                    let host = server_name.as_deref().or(uri.host()).unwrap_or_default();
                    let host = host.trim_start_matches('[').trim_end_matches(']');
                    let name = ServerName::try_from(host.to_owned())?;
                    let stream = connector.call(uri).await?.into_inner();
                    Box::new(TlsConnector::from(config).connect(name, stream).await?)
                }
            };
            Ok(TokioIo::new(TargetStream { stream, head: Arc::default(), in_turn: 0 }))
        })
    }
}

/// Finds hosts by their names.
#[derive(Debug, Clone)]
pub(super) struct Resolver;

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<Self::Response, io::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(async move {
            if name.as_str() == "localhost" {
                return Ok(LOCALHOST.to_vec().into_iter());
            }
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(found.collect::<Vec<_>>().into_iter())
        })
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection to a target.
pub(super) struct TargetStream {
    stream: Box<dyn Stream>,
    head: Arc<AwaitedHead>,
    /// Bytes that came in this turn before a head.
    in_turn: usize,
}

/// How many bytes may still come before the head that is awaited; 0 if none is, and one more than there may be.
#[derive(Debug, Default)]
pub(super) struct AwaitedHead(AtomicUsize);

impl AwaitedHead {
    /// It is there: what comes is a body.
    pub(super) fn has_come(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// A request is written.
    fn begin(&self) {
        self.0.store(MAX_BEFORE_HEAD + 1, Ordering::Relaxed);
    }

    /// Counts bytes that came. Says whether there may be more.
    fn count(&self, bytes: usize) -> bool {
        let left = self.0.load(Ordering::Relaxed);
        if left > 0 {
            self.0.store(left.saturating_sub(bytes).max(1), Ordering::Relaxed);
        }
        left != 1
    }

    fn is_there(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

/// More came than there may be before a head.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("more than {MAX_BEFORE_HEAD} bytes and no head")]
pub(super) struct NoHead;

impl Connection for TargetStream {
    fn connected(&self) -> Connected {
        Connected::new().extra(Arc::clone(&self.head))
    }
}

impl AsyncRead for TargetStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.head.is_there() {
            return Pin::new(&mut this.stream).poll_read(cx, buffer);
        }
        if this.in_turn >= TURN {
            this.in_turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut piece = [0; PIECE];
        let length = buffer.remaining().min(PIECE);
        let mut piece = ReadBuf::new(&mut piece[..length]);
        ready!(Pin::new(&mut this.stream).poll_read(cx, &mut piece))?;
        let came = piece.filled();
        buffer.put_slice(came);
        this.in_turn += came.len();
        Poll::Ready(if this.head.count(came.len()) { Ok(()) } else { Err(io::Error::other(NoHead)) })
    }
}

impl AsyncWrite for TargetStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.head.begin();
        Pin::new(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.head.begin();
        Pin::new(&mut this.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
