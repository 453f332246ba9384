//! One target, scraped once: its head within the budget, its body as it is pulled.
//!
//! In: a [`Target`] and what the scraper asked. Out: a [`TargetBody`], or a [`ScrapeError`] that says in the operator's
//! words what the target did and what was expected of it. Nothing of the body is held here, but what decoding needs.

mod body;
mod client;
mod connection;
mod decode;
mod error;
mod tls;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, TRANSFER_ENCODING, USER_AGENT};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::Instant;
use url::{Host, Url};

use crate::budget::{Budget, TIMEOUT_HEADER};
use crate::config::{Address, TargetConfig};
use crate::exposition::{Format, MAX_LINE, is_text_line};
use crate::negotiation::{Answered, PLAIN_TEXT, format_of};
use client::{Connector, KEPT_CONNECTIONS};
use decode::coding_of;
use error::{MAX_HEAD, MAX_REDIRECTS, broke_off, unreachable};

pub(crate) use body::TargetBody;
pub(crate) use error::{ScrapeError, quote};

/// What is sent for a scraper that does not say who it is.
const OWN_USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("qpext/", env!("CARGO_PKG_VERSION")));

/// Something to scrape.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) address: Address,
    /// The size at which its body is cut, in bytes; of a compressed one, decoded.
    max_body_bytes: u64,
    connector: Connector,
}

/// What a target answered: its format, and a body to be pulled.
pub(crate) struct Scraped {
    pub(crate) format: Format,
    /// What its content type is, if that is none of an exposition, or none that is known.
    pub(crate) odd_type: Option<String>,
    /// The answer says where its body ends, or its coding does. Where it does not, the end of the connection is the end
    /// of the body, and a last line without a newline may be a piece of one.
    pub(crate) is_delimited: bool,
    pub(crate) body: TargetBody,
}

/// What a target answered, kept for later.
#[derive(Debug, Clone)]
pub(crate) struct KeptAnswer {
    pub(crate) format: Format,
    pub(crate) odd_type: Option<String>,
    pub(crate) is_delimited: bool,
    /// Its body, in zstd.
    pub(crate) coded: Bytes,
}

impl KeptAnswer {
    /// It, as if it came now; a body of at most `limit` bytes, decoded.
    pub(crate) fn scraped(self, limit: u64) -> Scraped {
        let Self { format, odd_type, is_delimited, coded } = self;
        Scraped { format, odd_type, is_delimited, body: TargetBody::kept(coded, limit) }
    }
}

/// What is to be scraped, as it is configured: no file has been read for it, and no connection made.
pub(crate) fn targets(configured: &[TargetConfig], max_body_bytes: u64) -> Vec<Target> {
    let connectors = client::connectors(configured).into_iter();
    let targets = connectors.zip(configured).map(|(connector, target)| Target {
        name: target.name.clone(),
        address: target.address.clone(),
        max_body_bytes,
        connector,
    });
    targets.collect()
}

impl Target {
    pub(crate) fn stale_file(&self) -> Option<String> {
        self.connector.stale_file()
    }

    /// Asks it for its exposition, in one of the formats that `accept` names, and waits for its head. Anything but a `200 OK`
    /// with an exposition before the budget's end is an error.
    pub(crate) async fn scrape(
        &self,
        accept: HeaderValue,
        user_agent: Option<HeaderValue>,
        budget: Budget,
    ) -> Result<Scraped, ScrapeError> {
        let begin = async { self.begin(self.ask(accept, user_agent, budget).await?).await };
        let begun = tokio::time::timeout_at(budget.heads_by, begin).await;
        begun.map_err(|_| ScrapeError::HeadTimeout(budget.heads_by - budget.start))?
    }

    /// Looks at an answer's head; and, where that does not tell what its body is, at that one's first line.
    async fn begin(&self, response: Response<Incoming>) -> Result<Scraped, ScrapeError> {
        let headers = response.headers();
        check_head(response.status(), headers)?;
        let coding = coding_of(headers)?;
        let has_length = [CONTENT_LENGTH, TRANSFER_ENCODING].iter().any(|header| headers.contains_key(header));
        let content_type = headers.get(CONTENT_TYPE);
        let (answered, shown) = (format_of(content_type), in_words(content_type));
        let mut body = TargetBody::new(response.into_body(), coding, self.max_body_bytes);
        let (format, odd_type) = match answered {
            Answered::Known(format) => (format, None),
            Answered::AnotherVersion(format) => (format, Some(shown)),
            Answered::Unknown => {
                let line = body.first_line(MAX_LINE).await?;
                if !line.is_empty() && !is_text_line(&line) {
                    return Err(ScrapeError::NoExposition { content_type: shown, line: quote(line.trim_ascii_end()) });
                }
                (PLAIN_TEXT.format, Some(shown))
            }
        };
        Ok(Scraped { format, odd_type, is_delimited: has_length || coding.is_some(), body })
    }

    async fn ask(
        &self,
        accept: HeaderValue,
        user_agent: Option<HeaderValue>,
        budget: Budget,
    ) -> Result<Response<Incoming>, ScrapeError> {
        let opened = self.connector.open(&self.name).map_err(|error| ScrapeError::File(error.to_string()))?;
        let mut headers = HeaderMap::from_iter([
            (ACCEPT, accept),
            (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
            (USER_AGENT, user_agent.unwrap_or(OWN_USER_AGENT)),
        ]);
        let mut url = self.address.url.clone();
        let mut kept = KEPT_CONNECTIONS;
        let mut redirects = 0;
        loop {
            let left = budget.heads_by.saturating_duration_since(Instant::now());
            let left = format!("{:.3}", left.as_secs_f64());
            headers.insert(TIMEOUT_HEADER, left.try_into().expect("a number may stand in a header"));
            let response = match opened.get(&url, &headers).await {
                // A server may close a kept connection in the moment in which it is used again; asking anew is
                // what keeps that from being a lost scrape. Each kept connection may be as old.
                Err(error) if kept > 0 && broke_off(&*error) => {
                    kept -= 1;
                    continue;
                }
                Err(error) => return Err(unreachable(&*error)),
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

/// Where an answer to `url` redirects within the target. Any other redirect is an answer like others: the target's
/// credentials are nobody else's.
fn redirect(response: &Response<Incoming>, url: &Url) -> Option<Url> {
    use StatusCode as Code;

    if !matches!(
        response.status(),
        Code::MOVED_PERMANENTLY | Code::FOUND | Code::SEE_OTHER | Code::TEMPORARY_REDIRECT | Code::PERMANENT_REDIRECT
    ) {
        return None;
    }
    let location = std::str::from_utf8(response.headers().get(LOCATION)?.as_bytes()).ok()?;
    let to = url.join(location).ok()?;
    (is_same_server(&to, url) && to.username().is_empty() && to.password().is_none()).then_some(to)
}

/// Whether two URLs are of one server: the pod itself has several names.
fn is_same_server(one: &Url, other: &Url) -> bool {
    let is_loopback = |url: &Url| match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    let port = Url::port_or_known_default;
    one.origin() == other.origin()
        || one.scheme() == other.scheme() && port(one) == port(other) && is_loopback(one) && is_loopback(other)
}

/// A content type, as a person may be shown it.
fn in_words(content_type: Option<&HeaderValue>) -> String {
    match content_type {
        None => "no content type".to_owned(),
        Some(content_type) => format!("the content type {:?}", quote(content_type.as_bytes())),
    }
}

fn check_head(status: StatusCode, headers: &HeaderMap) -> Result<(), ScrapeError> {
    if headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>() > MAX_HEAD {
        return Err(ScrapeError::LargeHead);
    }
    if status.is_redirection()
        && let Some(location) = headers.get(LOCATION)
    {
        return Err(ScrapeError::Redirect(quote(location.as_bytes())));
    }
    if status != StatusCode::OK {
        return Err(ScrapeError::Status(status));
    }
    Ok(())
}
