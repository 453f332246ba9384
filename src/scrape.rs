//! One target, scraped once: its head within the budget, its body as it is pulled.
//!
//! In: a [`Target`] and what the scraper asked. Out: a [`TargetBody`], or a [`ScrapeError`] that says in the operator's
//! words what the target did and what was expected of it. Nothing of the body is held here, but what decoding needs.

mod decode;

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, TRANSFER_ENCODING, USER_AGENT};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Body as _;
use reqwest::{Client, Url, redirect};
use tokio::time::Instant;

use crate::budget::{Budget, TIMEOUT_HEADER};
use crate::exposition::Format;
use crate::negotiation::format_of;
use decode::{Coding, Decoder};

/// What is sent for a scraper that does not say who it is.
const OWN_USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("qpext/", env!("CARGO_PKG_VERSION")));

/// Redirects that are followed. Starlette sends one, from `/metrics` to `/metrics/`.
const MAX_REDIRECTS: usize = 3;

/// Connections that are kept to each target: two Prometheus servers often scrape one pod.
const KEPT_CONNECTIONS: usize = 2;

/// How long an unused connection is kept: longer than any usual scrape interval.
const KEPT_FOR: Duration = Duration::from_secs(300);

/// Longest piece of a target's own words in an error, in characters.
const QUOTED_CHARACTERS: usize = 100;

/// Something to scrape.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its name in logs and errors.
    pub name: String,
    /// Where it is.
    pub url: Url,
    /// The size at which its body is cut, in bytes; of a compressed one, decoded.
    pub max_body_bytes: u64,
}

/// How a target failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScrapeError {
    /// The request came to nothing.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// The answer is none of ours to follow.
    #[error("redirects to {0:?}, which is not the same host and port")]
    Redirect(String),
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
            Self::Unreachable(_) => "unreachable",
            Self::Redirect(_) => "redirect",
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

/// Scrapes targets over connections that it keeps.
#[derive(Debug, Clone)]
pub struct Scraper {
    client: Client,
}

impl Scraper {
    /// A scraper without connections.
    ///
    /// # Errors
    ///
    /// The HTTP client cannot be set up.
    pub fn new() -> Result<Self, reqwest::Error> {
        let localhost: [SocketAddr; 2] = [(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()];
        let client = Client::builder()
            .no_proxy()
            .referer(false)
            .redirect(redirect::Policy::custom(follow))
            // Whichever answers, without asking a resolver: the image need not have an /etc/hosts.
            .resolve_to_addrs("localhost", &localhost)
            .pool_max_idle_per_host(KEPT_CONNECTIONS)
            .pool_idle_timeout(KEPT_FOR)
            .build()?;
        Ok(Self { client })
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
            .map_err(|_| ScrapeError::HeadTimeout(budget.heads_by() - budget.start()))?
            .map_err(|error| ScrapeError::Unreachable(root_cause(&error)))?;
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
    ) -> Result<reqwest::Response, reqwest::Error> {
        let user_agent = user_agent.unwrap_or(OWN_USER_AGENT);
        let mut kept = KEPT_CONNECTIONS;
        loop {
            let left = budget.heads_by().saturating_duration_since(Instant::now());
            let answer = self
                .client
                .get(target.url.clone())
                .header(ACCEPT, &accept)
                .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
                .header(USER_AGENT, &user_agent)
                .header(TIMEOUT_HEADER, format!("{:.3}", left.as_secs_f64()))
                .send()
                .await;
            match answer {
                // A server may close a kept connection in the moment in which it is used again; asking anew is
                // what keeps that from being a lost scrape. Each kept connection may be as old.
                Err(error) if kept > 0 && broke_off(&error) => kept -= 1,
                answer => return answer,
            }
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

/// Follows a redirect within the target; any other is handed back as the answer it is.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let first = &attempt.previous()[0];
    let url = attempt.url();
    let same = url.scheme() == first.scheme()
        && url.host() == first.host()
        && url.port_or_known_default() == first.port_or_known_default();
    if !same {
        attempt.stop()
    } else if attempt.previous().len() > MAX_REDIRECTS {
        attempt.error(format!("more than {MAX_REDIRECTS} redirects"))
    } else {
        attempt.follow()
    }
}

/// Whether the connection ended before an answer came.
fn broke_off(error: &reqwest::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};

    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<hyper::Error>()
            && (error.is_incomplete_message() || error.is_canceled())
        {
            return true;
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset);
        }
        cause = error.source();
    }
    false
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
    String::from_utf8_lossy(value).chars().take(QUOTED_CHARACTERS).collect()
}

/// The innermost cause, which is the one that says what happened: "Connection refused", not "error sending request".
fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
