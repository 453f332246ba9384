//! The targets' last whole answers, once the sidecar is leaving.
//!
//! A target may be gone before anybody has asked for what it counted last. So from the moment at which the sidecar begins to leave, it
//! scrapes its targets itself, and keeps what each said, compressed and within a bound; a scraper that comes when the target
//! is gone gets that. Before that moment nothing is kept, and nothing old is ever served.

use std::future::poll_fn;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tracing::{error, info, warn};

use super::Plan;
use crate::budget::Budget;
use crate::exposition::Format;
use crate::lock::lock;
use crate::negotiation::Accepted;
use crate::scrape::{KeptAnswer, ScrapeError, Scraped};

/// How hard answers are compressed: as little as can be, as it is done again and again on the only thread.
const ZSTD_LEVEL: i32 = 1;

/// What stands at the end of a whole answer in OpenMetrics.
const END_MARK: &[u8] = b"# EOF";

/// Keeps the targets' last whole answers, once that has begun.
#[derive(Debug)]
pub(crate) struct Keeper {
    has_begun: AtomicBool,
    targets: Mutex<Vec<KeptTarget>>,
    /// Nothing is kept, and nothing will be.
    is_in_vain: watch::Sender<bool>,
    /// Who took the richest format so far, which the targets are asked for.
    richest: Mutex<Option<Accepted>>,
    /// How often targets are scraped.
    every: Duration,
    /// Bytes of all answers together, compressed.
    max_bytes: usize,
    /// The size at which a body is cut.
    max_body_bytes: u64,
}

#[derive(Debug, Default)]
struct KeptTarget {
    answer: Option<Kept>,
    /// That its answer does not fit was told.
    is_told: bool,
}

#[derive(Debug, Clone)]
struct Kept {
    answer: KeptAnswer,
    at: Instant,
}

impl Keeper {
    pub(super) fn new(targets: usize, every: Duration, max_bytes: usize, max_body_bytes: u64) -> Self {
        Self {
            has_begun: AtomicBool::new(false),
            is_in_vain: watch::Sender::new(false),
            targets: Mutex::new((0..targets).map(|_| KeptTarget::default()).collect()),
            richest: Mutex::default(),
            every,
            max_bytes,
            max_body_bytes,
        }
    }

    /// Notes what a scraper takes.
    pub(super) fn note(&self, accepted: &Accepted) {
        let mut richest = lock(&self.richest);
        if richest.as_ref().is_none_or(|known| known.richness() < accepted.richness()) {
            *richest = Some(accepted.clone());
        }
    }

    /// What a target said last, and how long ago that was; nothing before the sidecar leaves.
    pub(super) fn answer(&self, index: usize) -> Option<(Scraped, Duration)> {
        let kept = lock(&self.targets)[index].answer.clone()?;
        Some((kept.answer.scraped(self.max_body_bytes), kept.at.elapsed()))
    }

    /// Ready when no target is there any more and none has said anything since the sidecar began to leave.
    pub(super) async fn has_nothing(&self) {
        // The sender is never gone: it is this one's.
        let _ = self.is_in_vain.subscribe().wait_for(|is_in_vain| *is_in_vain).await;
    }

    /// Scrapes the targets and keeps what they say, until it is dropped. Where that was asked for before, it waits for ever.
    pub(super) async fn keep(self: &Arc<Self>, plans: &[Arc<Plan>]) {
        if self.has_begun.swap(true, Ordering::Relaxed) {
            return std::future::pending().await;
        }
        info!("leaving: what the targets say is kept from now on");
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let accept = lock(&self.richest)
                .as_ref()
                .map_or_else(|| HeaderValue::from_static("text/plain;version=0.0.4"), Accepted::for_targets);
            let mut running = JoinSet::new();
            for (index, plan) in plans.iter().enumerate() {
                let (keeper, plan, accept) = (Arc::clone(self), Arc::clone(plan), accept.clone());
                running.spawn(async move { keeper.keep_one(index, &plan, accept).await });
            }
            let mut are_gone = true;
            while let Some(ended) = running.join_next().await {
                are_gone &= ended.unwrap_or_else(|error| {
                    error!(%error, "what a target said could not be kept");
                    false
                });
            }
            let is_in_vain = are_gone && lock(&self.targets).iter().all(|target| target.answer.is_none());
            self.is_in_vain.send_replace(is_in_vain);
        }
    }

    /// Says whether the target is gone.
    async fn keep_one(&self, index: usize, plan: &Plan, accept: HeaderValue) -> bool {
        let budget = Budget::new(self.every, Duration::ZERO);
        let others: usize = {
            let targets = lock(&self.targets);
            let others = targets.iter().enumerate().filter(|(other, _)| *other != index);
            others.filter_map(|(_, target)| Some(target.answer.as_ref()?.answer.coded.len())).sum()
        };
        let room = self.max_bytes.saturating_sub(others);
        // One that fails keeps what it said before.
        let answer = match whole(plan, accept, budget, room).await {
            Ok(answer) => answer,
            Err(error) => return error.is_gone(),
        };
        let target = &mut lock(&self.targets)[index];
        match answer {
            Some(answer) => target.answer = Some(Kept { answer, at: Instant::now() }),
            None if std::mem::replace(&mut target.is_told, true) => {}
            None => warn!(
                target = plan.target.name,
                "its last answer is not kept: with the others it takes more than QPEXT_KEEP_BYTES, compressed"
            ),
        }
        false
    }
}

/// A target's whole answer, compressed; nothing if it takes more than `room`.
async fn whole(
    plan: &Plan,
    accept: HeaderValue,
    budget: Budget,
    room: usize,
) -> Result<Option<KeptAnswer>, ScrapeError> {
    let Scraped { format, odd_type, is_delimited, mut body } = plan.target.scrape(accept, None, budget).await?;
    let in_memory = |error: io::Error| ScrapeError::File(error.to_string());
    let mut encoder = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL).map_err(in_memory)?;
    let mut end = Vec::new();
    loop {
        let next = timeout_at(budget.bodies_by, poll_fn(|cx| body.poll_chunk(cx))).await;
        let next = next.map_err(|_| ScrapeError::BodyTimeout(budget.bodies_by - budget.start))?;
        let Some(chunk) = next.transpose()? else { break };
        encoder.write_all(&chunk).map_err(in_memory)?;
        if encoder.get_ref().len() > room {
            return Ok(None);
        }
        end.extend_from_slice(&chunk[chunk.len().saturating_sub(END_MARK.len() + 2)..]);
        end.drain(..end.len().saturating_sub(END_MARK.len() + 2));
    }
    if matches!(format, Format::OpenMetrics(_)) && !end.trim_ascii_end().ends_with(END_MARK) {
        return Err(ScrapeError::NoEnd);
    }
    let coded = Bytes::from(encoder.finish().map_err(in_memory)?);
    Ok((coded.len() <= room).then_some(KeptAnswer { format, odd_type, is_delimited, coded }))
}
