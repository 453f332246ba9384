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
use reqwest::{Response, Url};
use tokio::time::Instant;

use crate::budget::{Budget, TIMEOUT_HEADER};
use crate::config::{Address, TargetConfig};
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
    pub(crate) name: String,
    pub(crate) address: Address,
    /// The size at which its body is cut, in bytes; of a compressed one, decoded.
    max_body_bytes: u64,
    connector: Connector,
}

/// What a target answered: its format, and a body to be pulled.
pub(crate) struct Scraped {
    pub(crate) format: Format,
    /// The answer says where its body ends, or its coding does. Where it does not, the end of the connection is the end
    /// of the body, and a last line without a newline may be a piece of one.
    pub(crate) is_delimited: bool,
    pub(crate) body: TargetBody,
}

/// What is to be scraped, as it is configured: no file has been read for it, and no connection made.
pub(crate) fn targets(configured: &[TargetConfig], max_body_bytes: u64) -> Result<Vec<Target>, reqwest::Error> {
    let connectors = client::connectors(configured)?.into_iter();
    let targets = connectors.zip(configured).map(|(connector, target)| Target {
        name: target.name.clone(),
        address: target.address.clone(),
        max_body_bytes,
        connector,
    });
    Ok(targets.collect())
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
        let response = tokio::time::timeout_at(budget.heads_by, self.ask(accept, user_agent, budget))
            .await
            .map_err(|_| ScrapeError::HeadTimeout(budget.heads_by - budget.start))??;
        let headers = response.headers();
        let format = check_head(response.status(), headers)?;
        let coding = coding_of(headers)?;
        let has_length = [CONTENT_LENGTH, TRANSFER_ENCODING].iter().any(|header| headers.contains_key(header));
        Ok(Scraped {
            format,
            is_delimited: has_length || coding.is_some(),
            body: TargetBody::new(response.into(), coding, self.max_body_bytes),
        })
    }

    async fn ask(
        &self,
        accept: HeaderValue,
        user_agent: Option<HeaderValue>,
        budget: Budget,
    ) -> Result<Response, ScrapeError> {
        let get = self.connector.open(&self.name).map_err(|error| ScrapeError::File(error.to_string()))?;
        let user_agent = user_agent.unwrap_or(OWN_USER_AGENT);
        let mut url = self.address.url.clone();
        let mut kept = KEPT_CONNECTIONS;
        let mut redirects = 0;
        loop {
            let left = budget.heads_by.saturating_duration_since(Instant::now());
            let answer = get(&url)
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
