//! One target's body on its way through the engine.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::time::Instant;

use super::{Plan, SLICE};
use crate::budget::Budget;
use crate::exposition::{End, Engine, Escaping, Families, Format, Spelling, TextVersion, engine, verbatim};
use crate::scrape::{ScrapeError, Scraped, TargetBody, quote};
use crate::telemetry::Outcome;

pub(super) struct Stream {
    body: TargetBody,
    format: Format,
    odd_type: Option<String>,
    engine: Box<dyn Engine + Send>,
    /// How a body ends that ends well.
    good_end: End,
    /// The samples that the engine lets through; any number, if it has no limit.
    sample_limit: u64,
    /// What has been read and not yet pushed.
    chunk: Bytes,
    body_bytes: u64,
    /// When the first step was made.
    turn_began: Option<Instant>,
    /// How the body ended, once nothing more can be read.
    ended: Option<Result<(), ScrapeError>>,
}

/// What a step through a body came to.
pub(super) enum Step {
    Progress,
    Waiting,
    End(Result<(), ScrapeError>),
}

impl Stream {
    /// A body that is to be written in this format; `None` if it cannot be. `is_late` says that another target went
    /// before it.
    pub(super) fn open(scraped: Scraped, plan: &Plan, is_late: bool, to: Spelling) -> Option<Self> {
        let from = scraped.format;
        let is_plain = match (from, to.format) {
            (Format::Text(TextVersion::V0_0_4), Format::Text(_)) => true,
            (Format::Text(_), Format::Text(_)) => from == to.format && to.escaping == Escaping::AllowUtf8,
            _ => false,
        };
        // Behind another target it would repeat metadata that the answer already holds.
        let engine = if plan.is_verbatim && is_plain && !is_late {
            verbatim(to, &plan.rules)
        } else {
            engine(from, to, &plan.rules)?
        };
        Some(Self {
            body: scraped.body,
            format: from,
            odd_type: scraped.odd_type,
            engine,
            good_end: if scraped.is_delimited { End::Whole } else { End::BrokenOff },
            sample_limit: plan.rules.sample_limit.map_or(u64::MAX, u64::from),
            chunk: Bytes::new(),
            body_bytes: 0,
            turn_began: None,
            ended: None,
        })
    }

    /// Another target goes on.
    pub(super) fn pause(&mut self, families: &mut Families) {
        self.engine.pause(families);
    }

    /// Another target goes before the rest of it, which must repeat no metadata.
    pub(super) fn check_the_rest(&mut self) {
        if let Some(rest) = self.engine.check_the_rest() {
            self.engine = rest;
        }
    }

    pub(super) fn report(&self, now: Instant, outcome: &mut Outcome) {
        outcome.duration += self.turn_began.map_or(std::time::Duration::ZERO, |began| now - began);
        outcome.counts = self.engine.progress().counts();
        outcome.body_bytes = self.body_bytes;
        outcome.format = Some(self.format);
        outcome.odd_type.clone_from(&self.odd_type);
        outcome.first_dropped = self.engine.progress().first_dropped().cloned();
    }

    /// Is to push this before anything else; it was read before.
    pub(super) fn give(&mut self, piece: Bytes) {
        self.body_bytes += piece.len() as u64;
        self.chunk = piece;
    }

    /// Whether something has been read and not yet pushed.
    pub(super) fn has_chunk(&self) -> bool {
        !self.chunk.is_empty()
    }

    /// Reads, if everything that was read has been pushed.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.chunk.is_empty() && self.ended.is_none() {
            match ready!(self.body.poll_chunk(cx)).transpose() {
                Ok(Some(chunk)) => {
                    self.body_bytes += chunk.len() as u64;
                    self.chunk = chunk;
                }
                ended => self.ended = Some(ended.map(|_| ())),
            }
        }
        Poll::Ready(())
    }

    /// Pushes a slice of what has been read, or else reads.
    pub(super) fn step(
        &mut self,
        budget: Budget,
        families: &mut Families,
        out: &mut Vec<u8>,
        cx: &mut Context<'_>,
    ) -> Step {
        let now = Instant::now();
        self.turn_began.get_or_insert(now);
        // Neither a target that always has more to send, nor the rest of a chunk, waits for the timer.
        if now >= budget.bodies_by {
            self.engine.finish(End::BrokenOff, families, out);
            return Step::End(Err(ScrapeError::BodyTimeout(now - budget.start)));
        }
        if !self.chunk.is_empty() {
            let slice = self.chunk.split_to(SLICE.min(self.chunk.len()));
            self.engine.push(&slice, families, out);
            if self.engine.progress().is_over_limit() {
                self.engine.finish(End::BrokenOff, families, out);
                return Step::End(Err(ScrapeError::SampleLimit(self.sample_limit)));
            }
            return Step::Progress;
        }
        if self.poll_fill(cx).is_pending() {
            return Step::Waiting;
        }
        let Some(ended) = self.ended.take() else {
            return Step::Progress;
        };
        let end = if ended.is_ok() { self.good_end } else { End::BrokenOff };
        self.engine.finish(end, families, out);
        if self.engine.progress().is_over_limit() {
            return Step::End(Err(ScrapeError::SampleLimit(self.sample_limit)));
        }
        if let (Ok(()), Some(line)) = (&ended, self.engine.progress().unreadable()) {
            return Step::End(Err(ScrapeError::Unreadable(quote(line.as_bytes()))));
        }
        if ended.is_ok() && !self.engine.is_whole() {
            return Step::End(Err(ScrapeError::NoEnd));
        }
        Step::End(ended)
    }
}
