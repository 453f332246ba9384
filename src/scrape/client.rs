//! How a target is reached: which HTTP client asks it, and what it is sent besides the scrape's own headers.
//!
//! In: a target's address and options. Out: for each scrape what begins its requests, for which the target's files are read
//! again.
//! Targets without TLS or a socket share one client; the others have one of their own, which with TLS is built anew when the
//! certificates change.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderValue};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, ClientBuilder, RequestBuilder, Url, redirect};
use tracing::{info, warn};
use url::Host;

use super::error::root_cause;
use super::tls::{TlsFiles, no_tls};
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

/// How long an unused connection is kept: longer than any usual scrape interval.
const KEPT_FOR: Duration = Duration::from_secs(300);

/// `localhost`, without asking a resolver: the image need not have an /etc/hosts. Whichever answers is used.
const LOCALHOST: [SocketAddr; 2] =
    [SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0), SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 0)];

/// The connectors of these targets, which share a client where they need no other.
pub(super) fn connectors(targets: &[TargetConfig]) -> Result<Vec<Connector>, reqwest::Error> {
    let kept = if targets.len() <= FEW_TARGETS { KEPT_CONNECTIONS } else { 0 };
    let shared = plain(kept).build()?;
    targets.iter().map(|target| Connector::new(target, &shared, kept)).collect()
}

fn plain(kept: usize) -> ClientBuilder {
    // Left to itself, the builder would look for a cryptography provider of the process's own.
    builder().pool_max_idle_per_host(kept).tls_backend_preconfigured(no_tls())
}

fn builder() -> ClientBuilder {
    // As Go's client does: what servers get wrong in a head costs nobody a scrape.
    Client::builder()
        .http1_title_case_headers()
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_ignore_invalid_headers_in_responses(true)
        .http1_max_headers(MAX_HEADERS)
        .no_proxy()
        .redirect(redirect::Policy::none())
        .resolve_to_addrs("localhost", &LOCALHOST)
        .pool_max_idle_per_host(KEPT_CONNECTIONS)
        .pool_idle_timeout(KEPT_FOR)
}

#[derive(Debug)]
pub(super) struct Connector {
    client: TargetClient,
    server_name: Option<String>,
    /// The headers that do not change.
    headers: HeaderMap,
    credentials: Option<Mutex<Credentials>>,
}

#[derive(Debug)]
enum TargetClient {
    Plain(Client),
    Tls(Box<Mutex<TlsClient>>),
}

#[derive(Debug)]
struct TlsClient {
    files: TlsFiles,
    /// The host that is connected to, where URLs have the server's name instead.
    host: Option<Host>,
    client: LastGood<Client>,
}

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
    fn new(target: &TargetConfig, shared: &Client, kept: usize) -> Result<Self, reqwest::Error> {
        let (address, http) = (&target.address, &target.http);
        let client = match &address.socket {
            Some(path) => TargetClient::Plain(plain(kept).unix_socket(path.as_path()).build()?),
            None if address.url.scheme() == "https" => {
                let host = address.url.host().filter(|_| http.server_name.is_some()).map(|host| host.to_owned());
                let tls = TlsClient { files: TlsFiles::of(http), host, client: LastGood::default() };
                TargetClient::Tls(Box::new(tls.into()))
            }
            None => TargetClient::Plain(shared.clone()),
        };
        let mut headers: HeaderMap = http.headers.iter().cloned().collect();
        if http.server_name.is_some() {
            // The name is for TLS alone, as in Go.
            let authority = &address.url[url::Position::BeforeHost..url::Position::AfterPort];
            headers.insert(HOST, authority.parse().expect("a URL's host may stand in a header"));
        }
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
        Ok(Self { client, server_name: http.server_name.clone(), headers, credentials })
    }

    /// Reads the files of this target again. What is returned begins a request for a URL.
    pub(super) fn open(&self, target: &str) -> Result<impl Fn(&Url) -> RequestBuilder, FileError> {
        let client = match &self.client {
            TargetClient::Plain(client) => client.clone(),
            TargetClient::Tls(tls) => lock(tls).client(target)?,
        };
        let mut headers = self.headers.clone();
        if let Some(credentials) = &self.credentials {
            headers.insert(AUTHORIZATION, lock(credentials).header(target)?);
        }
        Ok(move |url: &Url| {
            let mut url = url.clone();
            if let Some(name) = &self.server_name {
                // TLS has the name from the URL.
                url.set_host(Some(name)).expect("it is a host's name");
            }
            client.get(url).headers(headers.clone())
        })
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
    fn client(&mut self, target: &str) -> Result<Client, FileError> {
        let read = self.files.read();
        let made = self.client.refresh(read, || {
            let mut builder = builder().tls_backend_preconfigured(self.files.config()?);
            if let Some(host) = &self.host {
                builder = builder.dns_resolver(Always(host.clone()));
            }
            builder.build().map_err(|error| {
                let problem = format!("make no HTTP client: {}", root_cause(&error));
                FileError::without_path("ca_file, cert_file and key_file", problem)
            })
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

/// Connects to one host, by whatever name it is called.
struct Always(Host);

impl Resolve for Always {
    fn resolve(&self, _: Name) -> Resolving {
        let host = self.0.clone();
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = match host {
                Host::Ipv4(address) => vec![(address, 0).into()],
                Host::Ipv6(address) => vec![(address, 0).into()],
                Host::Domain(name) if name == "localhost" => LOCALHOST.to_vec(),
                Host::Domain(name) => tokio::net::lookup_host((name, 0)).await?.collect(),
            };
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
