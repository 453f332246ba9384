//! The connections: who is let in, for how long, and which request goes where.
//!
//! In: a listener, an [`Aggregator`] and its [`Settings`]. Out: answers, until [`serve`] is told to stop; then it lets
//! the running scrapes finish. A client that is idle, slow, gone or not allowed to ask costs nobody else anything.

mod auth;
mod clients;
mod compression;
mod connection;
mod log_limit;
mod response;
mod tls;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use http::header::{ALLOW, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, RETRY_AFTER, VARY};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tracing::{debug, error, warn};

use crate::aggregate::Aggregator;
use crate::config::{Compression, Config, ConfigError, Listen};
use crate::files::FileError;
use crate::status::{About, Now, json, page, text};
use auth::{Authorizer, Refusal};
use clients::{Admission, Client, ClientEvents, Clients, Origin, Phase};
use compression::{AcceptedCoding, Outgoing};
use connection::{HEAD_TIMEOUT, IdleLimited};
use response::{Content, HTML, JSON, ServedBody, of_type, plain};
use tls::{Peer, Tls};

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

/// What an answer to a scrape depends on, so that no cache between hands one scraper's answer to another.
const SCRAPE_VARIES: HeaderValue = HeaderValue::from_static("Accept, Accept-Encoding");

/// What can be asked for.
const PATHS: [&str; 5] = ["/", "/metrics", "/healthz", "/readyz", "/status.json"];

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
    match listen {
        Listen::One(address) => listener(address),
        Listen::All { port } => {
            let any = |address: IpAddr| listener(SocketAddr::new(address, port));
            any(Ipv6Addr::UNSPECIFIED.into()).or_else(|error| match error.kind() {
                // A kernel without IPv6.
                io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(error),
                _ => any(Ipv4Addr::UNSPECIFIED.into()),
            })
        }
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

/// How an [`Aggregator`] is served.
#[derive(Debug)]
pub struct Settings {
    max_concurrent_scrapes: NonZeroUsize,
    compression: Compression,
    about: About,
    authorizer: Authorizer,
}

impl Settings {
    /// Takes what concerns this room from the configuration, and reads the files that it names.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or does not hold what it should.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        Ok(Self {
            max_concurrent_scrapes: config.max_concurrent_scrapes,
            compression: config.compression,
            authorizer: Authorizer::open(&config.security)?,
            about: About::new(config),
        })
    }
}

/// A file that a variable names and that cannot be used is a bad value of the variable's.
impl From<FileError> for ConfigError {
    fn from(error: FileError) -> Self {
        Self {
            variable: error.option.into(),
            value: error.path.map(|path| path.display().to_string()),
            expected: format!("a file that can be used: {}", error.problem),
        }
    }
}

/// Serves until `stop` is ready, then lets the running scrapes finish.
pub async fn serve(listener: TcpListener, aggregator: Aggregator, settings: Settings, stop: impl Future<Output = ()>) {
    let service = Service {
        aggregator: Arc::new(aggregator),
        admission: Arc::new(Admission::new(settings.max_concurrent_scrapes.get())),
        compression: settings.compression,
        about: Arc::new(settings.about),
        has_tried: Arc::default(),
        authorizer: Arc::new(settings.authorizer),
        events: Arc::default(),
    };
    let (stopping, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut clients = Clients::default();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(ended) = connections.join_next() => report(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    if let Some(client) = clients.let_in(Origin::of(address), &service.events) {
                        connections.spawn(connection(stream, client, service.clone(), stopped.clone()));
                    }
                }
                Err(error) => {
                    if let Some(times) = service.events.not_accepted.happened() {
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

/// A connection that panicked costs its own scrape only.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        error!(%error, "a connection ended in a panic");
    }
}

/// Serves one client until it leaves, is put out, or the server stops and it has had its answer.
async fn connection(stream: TcpStream, client: Arc<Client>, service: Service, stopped: watch::Receiver<()>) {
    let is_set = stream
        .set_nodelay(true)
        .and_then(|()| SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER));
    if let Err(error) = is_set {
        return debug!(%error, "a client left at once");
    }
    let served = async {
        match &service.authorizer.tls {
            None => requests(stream, Peer::default(), &client, &service, stopped).await,
            Some(tls) => {
                if let Some((stream, peer)) =
                    handshake(stream, tls, (client.origin(), &service.events), stopped.clone()).await
                {
                    requests(stream, peer, &client, &service, stopped).await;
                }
            }
        }
    };
    tokio::select! {
        () = served => {}
        () = client.is_put_out() => {
            if let Some(times) = service.events.put_out.happened() {
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
    (origin, events): (Origin, &ClientEvents),
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
        } else if let Some(times) = events.no_handshake.happened() {
            let hint = "a scraper's scheme is to be https";
            warn!(times, client = %origin, %error, hint, "a client's handshake came to nothing");
        }
    }
    secured.ok()
}

/// Serves a client's requests.
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
    let mut serving = pin!(
        http1::Builder::new()
            .max_header_size(MAX_HEAD)
            .max_buf_size(BUFFER)
            .serve_connection(stream, serve)
    );
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = &mut serving => {
                if let Err(error) = ended {
                    debug!(%error, "a client's connection broke off");
                }
                return;
            }
            _ = stopped.changed(), if !stopping => {
                if matches!(client.phase(), Phase::SendingHead(_)) {
                    return;
                }
                stopping = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    }
}

#[derive(Debug, Clone)]
struct Service {
    aggregator: Arc<Aggregator>,
    admission: Arc<Admission>,
    compression: Compression,
    about: Arc<About>,
    /// The targets are being tried, or were, because somebody asked who is ready.
    has_tried: Arc<AtomicBool>,
    authorizer: Arc<Authorizer>,
    events: Arc<ClientEvents>,
}

impl Service {
    async fn answer(&self, request: Request<Incoming>, client: &Arc<Client>, peer: &Peer) -> Response<ServedBody> {
        let served = client.serve();
        let is_scrape = request.uri().path() == "/metrics";
        let mut response = match self.check(&request, peer) {
            Ok(()) => self.route(request, client).await,
            Err(refusal) => self.authorizer.refuse(&refusal, client.origin()),
        };
        if is_scrape {
            response.headers_mut().insert(VARY, SCRAPE_VARIES);
        }
        response.map(|content| ServedBody::new(content, served))
    }

    /// Whether a request may be answered: before anything is known about its path, so that a stranger learns nothing. The
    /// kubelet, which asks how the process is, has neither token nor certificate.
    fn check(&self, request: &Request<Incoming>, peer: &Peer) -> Result<(), Refusal> {
        match request.uri().path() {
            "/healthz" => Ok(()),
            _ => self.authorizer.check(request.headers(), peer),
        }
    }

    async fn route(&self, request: Request<Incoming>, client: &Arc<Client>) -> Response<Content> {
        let path = request.uri().path();
        if !PATHS.contains(&path) {
            return plain(StatusCode::NOT_FOUND, format!("expected one of {}\n", PATHS.join(", ")));
        }
        let allowed = matches!(*request.method(), Method::GET | Method::HEAD);
        match path {
            _ if !allowed => {
                let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "expected GET or HEAD\n");
                response
                    .headers_mut()
                    .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                response
            }
            // Nobody reads it, and behind it nobody would see the client leave.
            _ if !request.body().is_end_stream() => {
                plain(StatusCode::BAD_REQUEST, "expected a request without a body\n")
            }
            "/metrics" => self.scrape(request, client).await,
            "/readyz" => self.readiness(),
            "/status.json" => {
                let json = json::status(&self.about, &self.now());
                of_type(JSON, format!("{json:#}\n"))
            }
            "/" => self.page(),
            _ => plain(StatusCode::OK, "ok\n"),
        }
    }

    /// Who is ready: a sidecar that has tried every target, whatever came of it. The first to ask makes it try them.
    fn readiness(&self) -> Response<Content> {
        let telemetry = self.aggregator.telemetry();
        let is_ready = telemetry.has_tried_all();
        if !is_ready && !self.has_tried.swap(true, Ordering::Relaxed) {
            let aggregator = Arc::clone(&self.aggregator);
            tokio::spawn(async move { aggregator.try_targets().await });
        }
        let status = if is_ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        plain(status, text::readiness(&telemetry.states()))
    }

    fn now(&self) -> Now {
        let telemetry = self.aggregator.telemetry();
        Now {
            targets: telemetry.states(),
            conflicts: telemetry.named_conflicts(),
            stale_files: self.authorizer.stale_files(),
        }
    }

    fn page(&self) -> Response<Content> {
        let html = page::page(&self.about, &self.now(), SystemTime::now());
        let mut response = of_type(HTML, html);
        let policy = HeaderValue::from_static(page::CONTENT_SECURITY_POLICY);
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
        response
    }

    async fn scrape(&self, request: Request<Incoming>, client: &Arc<Client>) -> Response<Content> {
        let Some(ticket) = self.admission.enter(Arc::clone(client)) else {
            if let Some(times) = self.events.no_place.happened() {
                warn!(
                    times,
                    "a scrape was turned away: QPEXT_MAX_CONCURRENT_SCRAPES are running"
                );
            }
            let text = "as many scrapes as QPEXT_MAX_CONCURRENT_SCRAPES allows are running\n";
            let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, text);
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
            return response;
        };
        match self.aggregator.scrape(request.headers()).await {
            Ok(answer) => {
                let content_type = answer.content_type();
                let accepted = AcceptedCoding::of(request.headers(), self.compression);
                let outgoing = Outgoing::begin(answer, accepted).await;
                let coding = outgoing.coding();
                let mut response = Response::new(Content::Scraped {
                    outgoing: Box::new(outgoing),
                    ticket,
                });
                let headers = response.headers_mut();
                headers.insert(CONTENT_TYPE, content_type);
                if let Some(coding) = coding {
                    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
                }
                response
            }
            Err(failures) => plain(StatusCode::SERVICE_UNAVAILABLE, text::unavailable(&failures)),
        }
    }
}
