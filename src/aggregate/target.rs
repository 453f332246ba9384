//! A target within one request, from the question to what came of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::keep::Keeper;
use super::stream::Stream;
use super::{Failure, Plan};
use crate::budget::Budget;
use crate::exposition::{Counts, Spelling};
use crate::negotiation::content_type;
use crate::scrape::{ScrapeError, Scraped};
use crate::telemetry::{Outcome, Telemetry};

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
    /// What it said last, where the sidecar is leaving.
    keeper: Arc<Keeper>,
    /// It is gone, and what it said last, this long ago, is written instead.
    gone: Option<(ScrapeError, Duration)>,
    pub(super) state: ScrapeState,
}

/// A target's head, which is awaited.
pub(super) type Head = Pin<Box<dyn Future<Output = Result<Scraped, ScrapeError>> + Send>>;

pub(super) enum ScrapeState {
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
    pub(super) fn new(
        index: usize,
        plan: Arc<Plan>,
        telemetry: Arc<Telemetry>,
        keeper: Arc<Keeper>,
        budget: Budget,
        head: Head,
    ) -> Self {
        let state = ScrapeState::Asked(head);
        Self { plan, telemetry, budget, index, lost_its_turn: false, heard_at: None, keeper, gone: None, state }
    }

    /// Ready when its head has just come.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let ScrapeState::Asked(head) = &mut self.state else {
            return Poll::Pending;
        };
        match ready!(head.as_mut().poll(cx)) {
            Ok(scraped) => {
                self.heard_at = Some(Instant::now());
                self.state = ScrapeState::Heard(Some(Box::new(scraped)));
            }
            Err(error) => match self.keeper.answer(self.index).filter(|_| error.is_gone()) {
                Some((scraped, age)) => {
                    self.gone = Some((error, age));
                    self.state = ScrapeState::Heard(Some(Box::new(scraped)));
                }
                None => self.end(Err(error)),
            },
        }
        Poll::Ready(())
    }

    /// What it answered, if its head is in and its body is not opened.
    pub(super) fn heard(&mut self) -> Option<&mut Scraped> {
        match &mut self.state {
            ScrapeState::Heard(scraped) => scraped.as_deref_mut(),
            ScrapeState::Asked(_) | ScrapeState::Alive(_) | ScrapeState::Done(_) => None,
        }
    }

    /// Opens its body, if its head is in: the answer's format is settled.
    pub(super) fn open(&mut self, to: Spelling) {
        let ScrapeState::Heard(scraped) = &mut self.state else {
            return;
        };
        let Some(scraped) = scraped.take() else { return };
        let from = scraped.format;
        match Stream::open(*scraped, &self.plan, self.lost_its_turn, to) {
            Some(stream) => self.state = ScrapeState::Alive(Box::new(stream)),
            None => {
                let answered = content_type(Spelling { format: from, ..to });
                let answered = String::from_utf8_lossy(answered.as_bytes()).into_owned();
                self.end(Err(ScrapeError::ContentType(answered)));
            }
        }
    }

    /// Whether a step through its body would get somewhere. If not, whoever polls is woken when it would.
    pub(super) fn has_something(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.state {
            ScrapeState::Alive(stream) => stream.poll_fill(cx).is_ready(),
            ScrapeState::Asked(_) | ScrapeState::Heard(_) | ScrapeState::Done(_) => false,
        }
    }

    /// Another target goes before it.
    pub(super) fn lose_turn(&mut self) {
        self.lost_its_turn = true;
        if let ScrapeState::Alive(stream) = &mut self.state {
            stream.check_the_rest();
        }
    }

    pub(super) fn end(&mut self, result: Result<(), ScrapeError>) {
        let now = Instant::now();
        let (result, kept_for) = match self.gone.take() {
            Some((error, age)) => (Err(error), Some(age)),
            None => (result, None),
        };
        let mut outcome = Outcome {
            result,
            kept_for,
            duration: self.heard_at.unwrap_or(now) - self.budget.start,
            counts: Counts::default(),
            body_bytes: 0,
            format: None,
            first_dropped: None,
            odd_type: None,
            stale_file: self.plan.target.stale_file(),
        };
        if let ScrapeState::Alive(stream) = &self.state {
            stream.report(now, &mut outcome);
        }
        self.telemetry.record(self.index, &outcome);
        self.state = ScrapeState::Done(Box::new(outcome));
    }

    /// What came of it, once that is known.
    pub(super) fn outcome(&self) -> Option<&Outcome> {
        match &self.state {
            ScrapeState::Done(outcome) => Some(outcome),
            ScrapeState::Asked(_) | ScrapeState::Heard(_) | ScrapeState::Alive(_) => None,
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
