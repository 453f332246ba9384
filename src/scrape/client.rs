//! How a target is reached: which HTTP client asks it, and what it is sent besides the scrape's own headers.
//!
//! In: a target's address and options. Out: for each scrape what begins its requests, for which the target's files are read
//! again.
//! Targets without TLS or a socket share one client; the others have one of their own, which with TLS is built anew when the
//! certificates change.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::ext::on_informational;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::Notify;
use tracing::{info, warn};
use url::{Position, Url};

use super::connection::{AwaitedHead, Dial, NoHead};
use super::tls::TlsFiles;
use crate::config::{Authorization, TargetConfig};
use crate::files::{FileError, FileNews, IS_EMPTY, IS_NO_HEADER, LastGood, WatchedFile, read_all};
use crate::lock::lock;

/// Connections that are kept to each target: two Prometheus servers often scrape one pod.
pub(super) const KEPT_CONNECTIONS: usize = 2;

/// Targets up to which connections without TLS are kept. A kept one through which a large body came holds 400 kB for the
/// next, which is what the HTTP client reads at once, and that would be most of the memory of a pod with many targets; a
/// new one to a target in the same pod costs a fraction of a millisecond. With TLS a new one costs more, and a
/// kept one holds less, because it is read record by record.
const FEW_TARGETS: usize = 4;

/// The headers that an answer may have: more than anybody sends. Their bytes are what is bounded.
pub(super) const MAX_HEADERS: usize = 4096;

/// The informational answers that may come before an answer: more than anybody sends.
pub(super) const MAX_INFORMATIONAL: usize = 64;

/// How long an unused connection is kept: longer than any usual scrape interval.
const KEPT_FOR: Duration = Duration::from_secs(300);

type HttpClient = Client<Dial, Empty<Bytes>>;

/// The connectors of these targets, which share a client where they need no other.
pub(super) fn connectors(targets: &[TargetConfig]) -> Vec<Connector> {
    let kept = if targets.len() <= FEW_TARGETS { KEPT_CONNECTIONS } else { 0 };
    let shared = client(Dial::tcp(), kept);
    targets.iter().map(|target| Connector::new(target, &shared, kept)).collect()
}

fn client(dial: Dial, kept: usize) -> HttpClient {
    // As Go's client does: what servers get wrong in a head costs nobody a scrape.
    Client::builder(TokioExecutor::new())
        .http1_title_case_headers(true)
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_ignore_invalid_headers_in_responses(true)
        .http1_max_headers(MAX_HEADERS)
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(kept)
        .pool_idle_timeout(KEPT_FOR)
        .build(dial)
}

#[derive(Debug)]
pub(super) struct Connector {
    client: TargetClient,
    /// The headers that do not change.
    headers: HeaderMap,
    credentials: Option<Mutex<Credentials>>,
}

#[derive(Debug)]
enum TargetClient {
    Plain(HttpClient),
    Tls(Box<Mutex<TlsClient>>),
}

#[derive(Debug)]
struct TlsClient {
    files: TlsFiles,
    server_name: Option<String>,
    client: LastGood<HttpClient>,
}

/// A target's client, and what it is sent.
pub(super) struct Opened {
    client: HttpClient,
    headers: HeaderMap,
}

impl Opened {
    /// Asks for a URL, with these headers besides the target's own; waits for the answer's head.
    pub(super) async fn get(&self, url: &Url, headers: &HeaderMap) -> Result<Response<Incoming>, GetError> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = Uri::try_from(&url[..Position::AfterQuery])?;
        *request.headers_mut() = self.headers.clone();
        let others = headers.iter().map(|(name, value)| (name.clone(), value.clone()));
        request.headers_mut().extend(others);
        // The client passes over any number of these.
        let (informational, too_many) = (AtomicUsize::new(0), Arc::new(Notify::new()));
        let tell = Arc::clone(&too_many);
        on_informational(&mut request, move |_| {
            if informational.fetch_add(1, Ordering::Relaxed) == MAX_INFORMATIONAL {
                tell.notify_one();
            }
        });
        let response = tokio::select! {
            biased;
            () = too_many.notified() => return Err(NoHead.into()),
            response = self.client.request(request) => response?,
        };
        if let Some(head) = response.extensions().get::<Arc<AwaitedHead>>() {
            head.has_come();
        }
        Ok(response)
    }
}

pub(super) type GetError = Box<dyn Error + Send + Sync>;

/// What authorizes a scrape and stands in a file.
#[derive(Debug)]
struct Credentials {
    /// The user whose password it is; without, it is a token.
    username: Option<String>,
    file: WatchedFile,
    header: LastGood<HeaderValue>,
}

impl Connector {
    /// `shared` is the client of all targets that need no other, each of which keeps so many connections.
    fn new(target: &TargetConfig, shared: &HttpClient, kept: usize) -> Self {
        let (address, http) = (&target.address, &target.http);
        let client = match &address.socket {
            Some(path) => TargetClient::Plain(client(Dial::unix(path.clone()), kept)),
            None if address.url.scheme() == "https" => {
                let (files, server_name) = (TlsFiles::of(http), http.server_name.clone());
                let tls = TlsClient { files, server_name, client: LastGood::default() };
                TargetClient::Tls(Box::new(tls.into()))
            }
            None => TargetClient::Plain(shared.clone()),
        };
        let mut headers: HeaderMap = http.headers.iter().cloned().collect();
        let (username, file) = match &http.authorization {
            None => (None, None),
            Some(Authorization::Bearer { token_file }) => {
                (None, Some(WatchedFile::new("bearer_token_file", token_file)))
            }
            Some(Authorization::Basic { username, password_file }) => {
                // Without a password, until a file has one.
                headers.insert(AUTHORIZATION, basic(username, b""));
                let file = password_file.as_ref().map(|path| WatchedFile::new("password_file", path));
                (Some(username.clone()), file)
            }
        };
        let credentials = file.map(|file| Mutex::new(Credentials { username, file, header: LastGood::default() }));
        Self { client, headers, credentials }
    }

    /// Reads the files of this target again.
    pub(super) fn open(&self, target: &str) -> Result<Opened, FileError> {
        let client = match &self.client {
            TargetClient::Plain(client) => client.clone(),
            TargetClient::Tls(tls) => lock(tls).client(target)?,
        };
        let mut headers = self.headers.clone();
        if let Some(credentials) = &self.credentials {
            headers.insert(AUTHORIZATION, lock(credentials).header(target)?);
        }
        Ok(Opened { client, headers })
    }

    /// Why a file of this target's cannot be used any more, if what it held before is still used.
    pub(super) fn stale_file(&self) -> Option<String> {
        let of_tls = match &self.client {
            TargetClient::Tls(tls) => lock(tls).client.problem.clone(),
            TargetClient::Plain(_) => None,
        };
        let credentials = self.credentials.as_ref();
        let problem = of_tls.or_else(|| lock(credentials?).header.problem.clone());
        problem.map(|problem| problem.to_string())
    }
}

impl TlsClient {
    fn client(&mut self, target: &str) -> Result<HttpClient, FileError> {
        let read = self.files.read();
        let made = self.client.refresh(read, || {
            let config = self.files.config()?;
            Ok(client(Dial::tls(config, self.server_name.as_deref()), KEPT_CONNECTIONS))
        });
        made.map(|(client, news)| told(target, client, news))
    }
}

impl Credentials {
    fn header(&mut self, target: &str) -> Result<HeaderValue, FileError> {
        let read = read_all([&mut self.file]);
        let made = self.header.refresh(read, || {
            let secret = self.file.content.trim_ascii();
            if secret.is_empty() {
                // As it is for a moment while it is written; an empty password is one without a file.
                return Err(self.file.error(IS_EMPTY));
            }
            match &self.username {
                Some(username) => Ok(basic(username, secret)),
                None => authorization(b"Bearer ", secret).ok_or_else(|| self.file.error(IS_NO_HEADER)),
            }
        });
        made.map(|(header, news)| told(target, header, news))
    }
}

/// What a target's files come to; tells of what is news of them.
fn told<T: Clone>(target: &str, made: &T, news: Option<FileNews>) -> T {
    match news {
        None | Some(FileNews::Changed) => {}
        Some(FileNews::Worse(error)) => warn!(target, %error, "what a file held before is still used"),
        Some(FileNews::Better) => info!(target, "what a file holds can be used again"),
    }
    made.clone()
}

fn basic(username: &str, password: &[u8]) -> HeaderValue {
    let credentials = STANDARD.encode([username.as_bytes(), b":", password].concat());
    authorization(b"Basic ", credentials.as_bytes()).expect("base64 may stand in a header")
}

fn authorization(scheme: &[u8], secret: &[u8]) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_bytes(&[scheme, secret].concat()).ok()?;
    header.set_sensitive(true);
    Some(header)
}
