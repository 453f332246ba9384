//! A target within one request, from the question to what came of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::stream::Stream;
use super::{Failure, Plan};
use crate::budget::Budget;
use crate::exposition::{Counts, Spelling};
use crate::negotiation::content_type;
use crate::scrape::{ScrapeError, Scraped};
use crate::telemetry::{Change, Outcome, Telemetry};

/// A target within one request.
pub(super) struct TargetScrape {
    plan: Arc<Plan>,
    telemetry: Arc<Telemetry>,
    budget: Budget,
    /// Its place in the order of the targets.
    pub(super) index: usize,
    /// Another target went before it, or before the rest of it.
    lost_its_turn: bool,
    /// When its head came.
    heard_at: Option<Instant>,
    pub(super) state: State,
}

/// A target's head, which is awaited.
pub(super) type Head = Pin<Box<dyn Future<Output = Result<Scraped, ScrapeError>> + Send>>;

pub(super) enum State {
    /// Its head is not in.
    Asked(Head),
    /// Its head is in, and the answer's format is not settled; it is taken out when its body is opened.
    Heard(Option<Box<Scraped>>),
    /// Its body is being written, or waits for its turn.
    Alive(Box<Stream>),
    /// Nothing more comes from it.
    Done(Box<Outcome>),
}

impl TargetScrape {
    pub(super) fn new(index: usize, plan: Arc<Plan>, telemetry: Arc<Telemetry>, budget: Budget, head: Head) -> Self {
        Self {
            plan,
            telemetry,
            budget,
            index,
            lost_its_turn: false,
            heard_at: None,
            state: State::Asked(head),
        }
    }

    /// Ready when its head has just come.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let State::Asked(head) = &mut self.state else {
            return Poll::Pending;
        };
        match ready!(head.as_mut().poll(cx)) {
            Ok(scraped) => {
                self.heard_at = Some(Instant::now());
                self.state = State::Heard(Some(Box::new(scraped)));
            }
            Err(error) => self.end(Err(error)),
        }
        Poll::Ready(())
    }

    /// Opens its body, if its head is in: the answer's format is settled.
    pub(super) fn open(&mut self, to: Spelling) {
        let State::Heard(scraped) = &mut self.state else { return };
        let Some(scraped) = scraped.take() else { return };
        let from = scraped.format;
        match Stream::open(*scraped, &self.plan, self.lost_its_turn, to) {
            Some(stream) => self.state = State::Alive(Box::new(stream)),
            None => {
                let answered =
                    String::from_utf8_lossy(content_type(Spelling { format: from, ..to }).as_bytes()).into_owned();
                self.end(Err(ScrapeError::ContentType(answered)));
            }
        }
    }

    /// Whether a step through its body would get somewhere. If not, whoever polls is woken when it would.
    pub(super) fn has_something(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.state {
            State::Alive(stream) => stream.poll_fill(cx).is_ready(),
            State::Asked(_) | State::Heard(_) | State::Done(_) => false,
        }
    }

    /// Another target goes before it.
    pub(super) fn lose_turn(&mut self) {
        self.lost_its_turn = true;
        if let State::Alive(stream) = &mut self.state {
            stream.check_the_rest();
        }
    }

    /// Notes how the target ended, and tells the operator what is news.
    pub(super) fn end(&mut self, result: Result<(), ScrapeError>) {
        let now = Instant::now();
        let mut outcome = Outcome {
            result,
            duration: self.heard_at.unwrap_or(now) - self.budget.start(),
            counts: Counts::default(),
            body_bytes: 0,
            format: None,
            offence: None,
            stale_file: self.plan.target.stale_file(),
        };
        if let State::Alive(stream) = &self.state {
            stream.report(now, &mut outcome);
        }
        let news = self.telemetry.record(self.index, &outcome);
        self.log(&outcome, news.change);
        if let Some(offence) = outcome.offence.as_ref().filter(|_| news.has_offence) {
            let name = self.plan.target.name.as_str();
            let dropped = outcome.counts.dropped_in_all();
            let (line, text, reason) = (offence.line, offence.text.as_str(), offence.reason.as_str());
            warn!(
                target = name,
                line, text, reason, dropped, "lines dropped; this is the first"
            );
        }
        self.state = State::Done(Box::new(outcome));
    }

    fn log(&self, outcome: &Outcome, change: Option<Change>) {
        let (name, url) = (self.plan.target.name.as_str(), &self.plan.target.address);
        let samples = outcome.counts.samples;
        let milliseconds = outcome.duration.as_millis() as u64;
        match (&outcome.result, change) {
            (Err(error), Some(_)) => warn!(target = name, %url, %error, samples, milliseconds, "target failed"),
            (Err(error), None) => debug!(target = name, %url, %error, samples, milliseconds, "target failed again"),
            (Ok(()), Some(Change::CameBack(after))) => {
                let seconds = after.as_secs_f64();
                info!(target = name, %url, samples, milliseconds, down_for_seconds = seconds, "target is back");
            }
            (Ok(()), _) => debug!(target = name, %url, samples, milliseconds, "target scraped"),
        }
    }

    /// What came of it, once that is known.
    pub(super) fn outcome(&self) -> Option<&Outcome> {
        match &self.state {
            State::Done(outcome) => Some(outcome),
            State::Asked(_) | State::Heard(_) | State::Alive(_) => None,
        }
    }

    pub(super) fn failure(&self) -> Option<Failure> {
        let error = self.outcome()?.result.as_ref().err()?;
        Some(Failure {
            target: self.plan.target.name.clone(),
            address: self.plan.target.address.clone(),
            error: error.clone(),
        })
    }
}
