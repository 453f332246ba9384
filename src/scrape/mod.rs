//! One target, scraped once: its head within the budget, its body as it is pulled.
//!
//! In: a [`Target`] and what the scraper asked. Out: a [`TargetBody`], or a [`ScrapeError`] that says in the operator's
//! words what the target did and what was expected of it. Nothing of the body is held here, but what decoding needs.

mod client;
mod decode;
mod tls;

use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, TRANSFER_ENCODING, USER_AGENT};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Body as _;
use reqwest::{Client, Response, Url};
use tokio::time::Instant;

use crate::budget::{Budget, TIMEOUT_HEADER};
use crate::config::{Address, HttpOptions};
use crate::exposition::{Format, printable};
use crate::negotiation::format_of;
use client::{Connector, KEPT_CONNECTIONS};
use decode::{Coding, Decoder};

/// What is sent for a scraper that does not say who it is.
const OWN_USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("qpext/", env!("CARGO_PKG_VERSION")));

/// Redirects that are followed. Starlette sends one, from `/metrics` to `/metrics/`.
const MAX_REDIRECTS: usize = 3;

/// Longest piece of a target's own words in an error, in characters.
const QUOTED_CHARACTERS: usize = 100;

/// Longest error of a library's, in characters. One of TLS names all that a certificate is for, which its owner chooses.
const ERROR_CHARACTERS: usize = 300;

/// Something to scrape.
#[derive(Debug)]
pub struct Target {
    /// Its name in logs and errors.
    pub name: String,
    /// Where it is.
    pub address: Address,
    /// The size at which its body is cut, in bytes; of a compressed one, decoded.
    pub max_body_bytes: u64,
    connector: Connector,
}

impl Target {
    /// A target of this scraper's that no file has been read for, and no connection made.
    ///
    /// # Errors
    ///
    /// Its HTTP client cannot be set up.
    pub fn new(
        scraper: &Scraper,
        name: String,
        address: Address,
        http: &HttpOptions,
        max_body_bytes: u64,
    ) -> Result<Self, reqwest::Error> {
        let connector = Connector::new(&address, http, scraper.kept_connections)?;
        Ok(Self {
            name,
            address,
            max_body_bytes,
            connector,
        })
    }

    /// Why a file of this target's cannot be used any more, if what it held before is still used.
    #[must_use]
    pub fn stale_file(&self) -> Option<String> {
        self.connector.stale_file()
    }
}

/// How a target failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScrapeError {
    /// A file without which it cannot be asked is not there, or of no use.
    #[error("cannot be asked: {0}")]
    File(String),
    /// The request came to nothing.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// TLS came to nothing.
    #[error("cannot be reached by TLS: {0}")]
    Tls(String),
    /// The answer is none of ours to follow.
    #[error("redirects to {0:?}, which is not the same host and port")]
    Redirect(String),
    /// Each answer leads to another.
    #[error("answered with more than {MAX_REDIRECTS} redirects")]
    Redirects,
    /// The answer is no success.
    #[error("answered {0}, expected 200 OK")]
    Status(StatusCode),
    /// The answer is no exposition.
    #[error("answered with the content type {0:?}, expected an exposition")]
    ContentType(String),
    /// The answer is compressed in a way that is not known here.
    #[error("answered with the content encoding {0:?}, expected none, gzip or zstd")]
    ContentEncoding(String),
    /// No head came within the budget.
    #[error("sent no answer within {}", seconds(.0))]
    HeadTimeout(Duration),
    /// The body did not end within the budget.
    #[error("sent a body that did not end within {}", seconds(.0))]
    BodyTimeout(Duration),
    /// The body broke off.
    #[error("broke off inside its body: {0}")]
    BrokenOff(String),
    /// The body ended where none may: before the mark that ends OpenMetrics, or within a protobuf message.
    #[error("ended its body without \"# EOF\", or within a message, so that it broke off")]
    NoEnd,
    /// The body is too large.
    #[error("sent a body of more than {0} bytes")]
    TooLarge(u64),
    /// The body has too many samples.
    #[error("sent more than {0} samples, which is QPEXT_SAMPLE_LIMIT")]
    SampleLimit(u64),
}

impl ScrapeError {
    /// It in a word, as in a label value.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Unreachable(_) => "unreachable",
            Self::Tls(_) => "tls",
            Self::Redirect(_) | Self::Redirects => "redirect",
            Self::Status(_) => "status",
            Self::ContentType(_) => "content_type",
            Self::ContentEncoding(_) => "content_encoding",
            Self::HeadTimeout(_) => "head_timeout",
            Self::BodyTimeout(_) => "body_timeout",
            Self::BrokenOff(_) => "broken_off",
            Self::NoEnd => "no_end",
            Self::TooLarge(_) => "too_large",
            Self::SampleLimit(_) => "sample_limit",
        }
    }
}

fn seconds(duration: &Duration) -> String {
    format!("{:.3} s", duration.as_secs_f64())
}

/// What a target answered: its format, and a body to be pulled.
#[derive(Debug)]
pub struct Scraped {
    /// The format, as the target names it.
    pub format: Format,
    /// The answer says where its body ends, or its coding does. Where it does not, the end of the connection is the end
    /// of the body, and a last line without a newline may be a piece of one.
    pub is_delimited: bool,
    /// The body.
    pub body: TargetBody,
}

/// A target's body: chunks as they come, decoded, up to its limit.
#[derive(Debug)]
pub struct TargetBody {
    source: Source,
    limit: u64,
    /// Bytes that may still come.
    left: u64,
    /// More than that came.
    is_over: bool,
}

enum Source {
    Plain(reqwest::Body),
    Compressed(Box<Decoder>),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Compressed(_) => "Compressed",
        })
    }
}

/// Scrapes targets, if they are few over connections that are kept.
#[derive(Debug, Clone)]
pub struct Scraper {
    /// The client of all targets that have none of their own.
    client: Client,
    /// Connections without TLS that are kept to each target.
    kept_connections: usize,
}

impl Scraper {
    /// A scraper of so many targets, without connections.
    ///
    /// # Errors
    ///
    /// The HTTP client cannot be set up.
    pub fn new(targets: usize) -> Result<Self, reqwest::Error> {
        let kept_connections = client::kept_connections(targets);
        let client = client::shared(kept_connections)?;
        Ok(Self {
            client,
            kept_connections,
        })
    }

    /// Asks `target` for its exposition, in one of the formats that `accept` names, and waits for its head.
    ///
    /// # Errors
    ///
    /// Anything but a `200 OK` with an exposition before the budget's end.
    pub async fn scrape(
        &self,
        target: &Target,
        accept: HeaderValue,
        user_agent: Option<HeaderValue>,
        budget: Budget,
    ) -> Result<Scraped, ScrapeError> {
        let response = tokio::time::timeout_at(budget.heads_by(), self.ask(target, accept, user_agent, budget))
            .await
            .map_err(|_| ScrapeError::HeadTimeout(budget.heads_by() - budget.start()))??;
        let headers = response.headers();
        let format = check_head(response.status(), headers)?;
        let coding = Coding::of(headers)?;
        let has_length = [CONTENT_LENGTH, TRANSFER_ENCODING]
            .iter()
            .any(|header| headers.contains_key(header));
        let is_delimited = has_length || coding.is_some();
        let body = reqwest::Body::from(response);
        let body = TargetBody {
            source: match coding {
                None => Source::Plain(body),
                Some(coding) => Source::Compressed(Box::new(Decoder::new(coding, body, target.max_body_bytes))),
            },
            limit: target.max_body_bytes,
            left: target.max_body_bytes,
            is_over: false,
        };
        Ok(Scraped {
            format,
            is_delimited,
            body,
        })
    }

    async fn ask(
        &self,
        target: &Target,
        accept: HeaderValue,
        user_agent: Option<HeaderValue>,
        budget: Budget,
    ) -> Result<Response, ScrapeError> {
        let session = target.connector.open(&target.name, &self.client);
        let session = session.map_err(|error| ScrapeError::File(error.to_string()))?;
        let user_agent = user_agent.unwrap_or(OWN_USER_AGENT);
        let mut url = target.address.url.clone();
        let mut kept = KEPT_CONNECTIONS;
        let mut redirects = 0;
        loop {
            let left = budget.heads_by().saturating_duration_since(Instant::now());
            let answer = session
                .get(&url)
                .header(ACCEPT, &accept)
                .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
                .header(USER_AGENT, &user_agent)
                .header(TIMEOUT_HEADER, format!("{:.3}", left.as_secs_f64()))
                .send()
                .await;
            let response = match answer {
                // A server may close a kept connection in the moment in which it is used again; asking anew is
                // what keeps that from being a lost scrape. Each kept connection may be as old.
                Err(error) if kept > 0 && broke_off(&error) => {
                    kept -= 1;
                    continue;
                }
                Err(error) => return Err(unreachable(&error)),
                Ok(response) => response,
            };
            match redirect(&response, &url) {
                None => return Ok(response),
                Some(_) if redirects == MAX_REDIRECTS => return Err(ScrapeError::Redirects),
                Some(within) => url = within,
            }
            redirects += 1;
        }
    }
}

impl TargetBody {
    /// The next chunk, never empty. What is over the limit is cut off, and the error comes behind it.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ScrapeError>>> {
        while !self.is_over {
            let polled = match &mut self.source {
                Source::Plain(body) => poll_data(body, cx),
                Source::Compressed(decoder) => decoder.poll_piece(cx),
            };
            let mut chunk = match ready!(polled) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(ScrapeError::BrokenOff(error)))),
                Some(Ok(chunk)) => chunk,
            };
            self.is_over = chunk.len() as u64 > self.left;
            if self.is_over {
                chunk.truncate(self.left as usize);
            }
            self.left -= chunk.len() as u64;
            if !chunk.is_empty() {
                return Poll::Ready(Some(Ok(chunk)));
            }
        }
        Poll::Ready(Some(Err(ScrapeError::TooLarge(self.limit))))
    }
}

/// The next chunk of a body as it comes, never empty, or why there is none.
fn poll_data(body: &mut reqwest::Body, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, String>>> {
    loop {
        match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(root_cause(&error)))),
            Some(Ok(frame)) => {
                if let Ok(chunk) = frame.into_data()
                    && !chunk.is_empty()
                {
                    return Poll::Ready(Some(Ok(chunk)));
                }
            }
        }
    }
}

/// Where an answer to `url` redirects within the target. Any other redirect is an answer like others: the target's
/// credentials are nobody else's.
fn redirect(response: &Response, url: &Url) -> Option<Url> {
    use StatusCode as Code;

    if !matches!(
        response.status(),
        Code::MOVED_PERMANENTLY | Code::FOUND | Code::SEE_OTHER | Code::TEMPORARY_REDIRECT | Code::PERMANENT_REDIRECT
    ) {
        return None;
    }
    let location = std::str::from_utf8(response.headers().get(LOCATION)?.as_bytes()).ok()?;
    let to = url.join(location).ok()?;
    (to.origin() == url.origin() && to.username().is_empty() && to.password().is_none()).then_some(to)
}

/// What kept a request from being answered.
fn unreachable(error: &reqwest::Error) -> ScrapeError {
    let tls = causes(error).find_map(|cause| cause.downcast_ref::<rustls::Error>());
    match tls {
        Some(error) => ScrapeError::Tls(tls::describe(error)),
        None => ScrapeError::Unreachable(root_cause(error)),
    }
}

/// Whether the connection ended before an answer came.
fn broke_off(error: &reqwest::Error) -> bool {
    // The end of a TLS connection that its server did not announce is unexpected.
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};

    causes(error).any(|cause| {
        let hyper = cause.downcast_ref::<hyper::Error>();
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        hyper.is_some_and(|error| error.is_incomplete_message() || error.is_canceled())
            || matches!(
                io,
                Some(BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
            )
    }) && !causes(error).any(|cause| cause.is::<rustls::Error>())
}

fn check_head(status: StatusCode, headers: &HeaderMap) -> Result<Format, ScrapeError> {
    if status.is_redirection()
        && let Some(location) = headers.get(LOCATION)
    {
        return Err(ScrapeError::Redirect(quote(location.as_bytes())));
    }
    if status != StatusCode::OK {
        return Err(ScrapeError::Status(status));
    }
    let content_type = headers.get(CONTENT_TYPE);
    format_of(content_type)
        .ok_or_else(|| ScrapeError::ContentType(quote(content_type.map_or(b"", HeaderValue::as_bytes))))
}

fn quote(value: &[u8]) -> String {
    cut(&String::from_utf8_lossy(value), QUOTED_CHARACTERS)
}

/// What a library says of an error, in which there may be words of the target's.
fn words(error: &str) -> String {
    cut(error, ERROR_CHARACTERS)
}

/// The beginning of a text, as a person may be shown it.
fn cut(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        None => printable(text),
        Some((end, _)) => printable(&text[..end]) + "…",
    }
}

/// The innermost cause, which is the one that says what happened: "Connection refused", not "error sending request".
fn root_cause(error: &(dyn Error + 'static)) -> String {
    words(&causes(error).last().unwrap_or(error).to_string())
}

/// An error and what it was caused by, one behind the other.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        // An I/O error that holds another passes that over as its source, and names the one behind.
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(held) => Some(held as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}
