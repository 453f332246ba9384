//! One target, scraped once: its head within the budget, its body as it is pulled.
//!
//! In: a [`Target`] and what the scraper asked. Out: a [`TargetBody`], or a [`ScrapeError`] that says in the operator's
//! words what the target did and what was expected of it. Nothing of the body is held here, but what decoding needs.

mod body;
mod client;
mod decode;
mod error;
mod tls;

use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, TRANSFER_ENCODING, USER_AGENT};
use http::{HeaderMap, HeaderValue, StatusCode};
use reqwest::{Client, Response, Url};
use tokio::time::Instant;

use crate::budget::{Budget, TIMEOUT_HEADER};
use crate::config::{Address, HttpOptions};
use crate::exposition::Format;
use crate::negotiation::format_of;
use client::{Connector, KEPT_CONNECTIONS};
use decode::coding_of;
use error::{MAX_REDIRECTS, broke_off, quote, unreachable};

pub(crate) use body::TargetBody;
pub(crate) use error::ScrapeError;

/// What is sent for a scraper that does not say who it is.
const OWN_USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("qpext/", env!("CARGO_PKG_VERSION")));

/// Something to scrape.
#[derive(Debug)]
pub(crate) struct Target {
    /// Its name in logs and errors.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) address: Address,
    /// The size at which its body is cut, in bytes; of a compressed one, decoded.
    pub(crate) max_body_bytes: u64,
    connector: Connector,
}

impl Target {
    /// A target of this scraper's that no file has been read for, and no connection made.
    ///
    /// # Errors
    ///
    /// Its HTTP client cannot be set up.
    pub(crate) fn new(
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
    pub(crate) fn stale_file(&self) -> Option<String> {
        self.connector.stale_file()
    }
}

/// What a target answered: its format, and a body to be pulled.
#[derive(Debug)]
pub(crate) struct Scraped {
    /// The format, as the target names it.
    pub(crate) format: Format,
    /// The answer says where its body ends, or its coding does. Where it does not, the end of the connection is the end
    /// of the body, and a last line without a newline may be a piece of one.
    pub(crate) is_delimited: bool,
    /// The body.
    pub(crate) body: TargetBody,
}

/// Scrapes targets, if they are few over connections that are kept.
#[derive(Debug, Clone)]
pub(crate) struct Scraper {
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
    pub(crate) fn new(targets: usize) -> Result<Self, reqwest::Error> {
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
    pub(crate) async fn scrape(
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
        let coding = coding_of(headers)?;
        let has_length = [CONTENT_LENGTH, TRANSFER_ENCODING]
            .iter()
            .any(|header| headers.contains_key(header));
        let is_delimited = has_length || coding.is_some();
        Ok(Scraped {
            format,
            is_delimited,
            body: TargetBody::new(response.into(), coding, target.max_body_bytes),
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
