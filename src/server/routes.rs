//! Which request goes where.
//!
//! In: a request, and the client that sends it. Out: its answer. Who may ask is asked first.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use http::header::{
    ALLOW, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, RETRY_AFTER, USER_AGENT, VARY,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::net::UnixListener;
use tokio::time::Instant;
use tracing::{info, warn};

use super::auth::{Authorizer, Refusal};
use super::clients::{Admission, Client};
use super::compression::{AcceptedCoding, Outgoing};
use super::leaving::Scrapers;
use super::log_limit::LogLimit;
use super::response::{Content, HTML, JSON, ServedBody, of_type, plain};
use super::tls::Peer;
use crate::aggregate::Aggregator;
use crate::config::{Compression, Config, ConfigError};
use crate::files::FileError;
use crate::leave;
use crate::status::{About, Now, json, page, text};

/// What an answer to a scrape depends on, so that no cache between hands one scraper's answer to another.
const SCRAPE_VARIES: HeaderValue = HeaderValue::from_static("Accept, Accept-Encoding");

/// What can be asked for.
const PATHS: [&str; 5] = ["/", "/metrics", "/healthz", "/readyz", "/status.json"];

/// How an [`Aggregator`] is served.
#[derive(Debug)]
pub struct Settings {
    max_concurrent_scrapes: NonZeroUsize,
    linger: Duration,
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
            linger: config.linger,
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

#[derive(Debug)]
pub(super) struct Service {
    settings: Settings,
    aggregator: Arc<Aggregator>,
    admission: Arc<Admission>,
    /// The targets are being tried, or were, because somebody asked who is ready.
    has_tried: AtomicBool,
    pub(super) log_limit: LogLimit,
    scrapers: Arc<Scrapers>,
}

impl Service {
    pub(super) fn new(aggregator: Aggregator, settings: Settings) -> Self {
        Self {
            aggregator: Arc::new(aggregator),
            admission: Arc::new(Admission::new(settings.max_concurrent_scrapes.get())),
            settings,
            has_tried: AtomicBool::default(),
            log_limit: LogLimit::default(),
            scrapers: Arc::default(),
        }
    }

    /// Where who leaves is to be told so, if it is to stay for a while.
    pub(super) fn listen_for_leave(&self, port: u16) -> Option<UnixListener> {
        if self.settings.linger.is_zero() {
            return None;
        }
        let listener = leave::listen(port);
        listener.inspect_err(|error| warn!(%error, "`qpext leave` will not be heard")).ok()
    }

    pub(super) fn authorizer(&self) -> &Authorizer {
        &self.settings.authorizer
    }

    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        client: &Arc<Client>,
        peer: &Peer,
    ) -> Response<ServedBody> {
        let served = client.serve();
        let is_scrape = request.uri().path() == "/metrics";
        let mut response = match self.check(&request, peer) {
            Ok(()) => self.route(request, client).await,
            Err(refusal) => self.settings.authorizer.refuse(&refusal, client.origin, &self.log_limit),
        };
        if is_scrape {
            response.headers_mut().insert(VARY, SCRAPE_VARIES);
        }
        response.map(|content| ServedBody { content, _served: served })
    }

    /// Whether a request may be answered: before anything is known about its path, so that a stranger learns nothing. The
    /// kubelet, which asks how the process is, has neither token nor certificate.
    fn check(&self, request: &Request<Incoming>, peer: &Peer) -> Result<(), Refusal> {
        match request.uri().path() {
            "/healthz" => Ok(()),
            _ => self.settings.authorizer.check(request.headers(), peer),
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
                let response = plain(StatusCode::METHOD_NOT_ALLOWED, "expected GET or HEAD\n");
                with(response, ALLOW, HeaderValue::from_static("GET, HEAD"))
            }
            // Nobody reads it, and behind it nobody would see the client leave.
            _ if !request.body().is_end_stream() => {
                plain(StatusCode::BAD_REQUEST, "expected a request without a body\n")
            }
            "/metrics" => self.scrape(request, client).await,
            "/readyz" => self.readiness(),
            "/status.json" => {
                let json = json::status(&self.settings.about, &self.now());
                of_type(JSON, format!("{json:#}\n"))
            }
            "/" => self.page(),
            _ => plain(StatusCode::OK, "ok\n"),
        }
    }

    /// Keeps what the targets say from now on, for as long as the process is there.
    pub(super) async fn keep(&self) {
        self.aggregator.keep().await;
    }

    /// Stays until each regular scraper has what the targets counted last, or has had the time for it.
    pub(super) async fn linger(&self) {
        let began = Instant::now();
        let awaited = self.scrapers.awaited(began);
        if self.settings.linger.is_zero() || awaited == 0 {
            return;
        }
        let seconds = self.settings.linger.as_secs_f64();
        info!(scrapers = awaited, at_most_seconds = seconds, "leaving once each has had what the targets counted last");
        let leave = async {
            tokio::select! {
                () = self.aggregator.keep() => {}
                () = self.aggregator.has_nothing_to_keep() => {}
                () = self.scrapers.have_had_their_last(began) => {}
            }
        };
        if tokio::time::timeout(self.settings.linger, leave).await.is_err() {
            let missed = self.scrapers.awaited(began);
            warn!(scrapers = missed, "QPEXT_LINGER is over: they have not had what the targets counted last");
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
        let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        plain(status, text::readiness(&telemetry.states()))
    }

    fn now(&self) -> Now {
        let telemetry = self.aggregator.telemetry();
        Now {
            targets: telemetry.states(),
            conflicts: telemetry.named_conflicts(),
            apart: self.aggregator.telemetry().apart(),
            stale_files: self.settings.authorizer.stale_files(),
        }
    }

    fn page(&self) -> Response<Content> {
        let html = page::page(&self.settings.about, &self.now(), SystemTime::now());
        let policy = HeaderValue::from_static(page::CONTENT_SECURITY_POLICY);
        with(of_type(HTML, html), CONTENT_SECURITY_POLICY, policy)
    }

    async fn scrape(&self, request: Request<Incoming>, client: &Arc<Client>) -> Response<Content> {
        let Some(ticket) = self.admission.enter(Arc::clone(client)) else {
            return self.turn_away();
        };
        let visit = self.scrapers.note(client.origin, request.headers().get(USER_AGENT));
        match self.aggregator.scrape(request.headers()).await {
            Ok(answer) => {
                let content_type = answer.content_type();
                let accepted = AcceptedCoding::of(request.headers(), self.settings.compression);
                let outgoing = Outgoing::begin(answer, accepted).await;
                let coding = outgoing.coding();
                let mut response = Response::new(Content::Scraped { outgoing: Box::new(outgoing), ticket, visit });
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

    fn turn_away(&self) -> Response<Content> {
        if let Some(times) = self.log_limit.happened("no place") {
            warn!(times, "a scrape was turned away: QPEXT_MAX_CONCURRENT_SCRAPES are running");
        }
        let text = "as many scrapes as QPEXT_MAX_CONCURRENT_SCRAPES allows are running\n";
        let response = plain(StatusCode::SERVICE_UNAVAILABLE, text);
        with(response, RETRY_AFTER, HeaderValue::from_static("1"))
    }
}

fn with<B>(mut response: Response<B>, name: HeaderName, value: HeaderValue) -> Response<B> {
    response.headers_mut().insert(name, value);
    response
}
