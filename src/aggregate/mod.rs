//! One request: every target asked at once, their bodies written one after the other as they are pulled.
//!
//! In: the scraper's headers. Out: an [`Answer`], a body that is a valid exposition whatever the targets do, in the
//! richest format that the scraper takes and the targets give; or, if no target is alive, what each did. The answer holds
//! a slice of one body at a time; while the scraper does not read, no target is read either.

mod answer;
mod keep;
mod stream;
mod target;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::USER_AGENT;

use crate::budget::{Budget, scraper_timeout};
use crate::config::{Address, Config, TargetConfig, TargetKind};
use crate::exposition::{Room, Rules, Untyped};
use crate::negotiation::Accepted;
use crate::scrape::{self, ScrapeError, Target};
use crate::telemetry::{self, Telemetry};
use keep::Keeper;
use target::TargetScrape;

pub use answer::Answer;

/// Bytes of a body that go through the engine at once: few enough to stay in the processor's nearest cache.
const SLICE: usize = 16 << 10;

/// Bytes after which a piece of the answer goes out: enough that a system call does not count.
const FRAME: usize = 256 << 10;

/// Room for a piece of the answer and the slice that completes it, labels added.
const FRAME_CAPACITY: usize = FRAME + 2 * SLICE;

/// Bytes of bodies in OpenMetrics that are held so that the families that they have in common stand together. A Python program's
/// body has some hundred kilobytes at most; and while it is found out which they are, nobody else has a turn.
const MAX_TOGETHER: usize = 2 << 20;

/// How long an answer may work before everybody else has a turn.
const TURN: Duration = Duration::from_millis(1);

/// A target, and what is done with its body.
#[derive(Debug)]
struct Plan {
    target: Target,
    /// Its samples get no labels, and its text goes out as it came.
    is_verbatim: bool,
    rules: Rules,
}

/// Answers scrapes of the whole pod.
#[derive(Debug)]
pub struct Aggregator {
    plans: Vec<Arc<Plan>>,
    timeout: Duration,
    offset: Duration,
    telemetry: Arc<Telemetry>,
    /// What is done with the sidecar's own metrics, where they are wanted.
    own_rules: Option<Rules>,
    /// What the answers of all scrapers may hold.
    room: Room,
    /// What the targets said last, once the sidecar leaves.
    keeper: Arc<Keeper>,
}

/// A target and how it failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{target} ({address}) {error}")]
pub struct Failure {
    pub(crate) target: String,
    pub(crate) address: Address,
    pub(crate) error: ScrapeError,
}

/// What is done with the samples of a target. The application has no label that would tell its series from the sidecar's
/// own, so families that are named like those are not its to send.
fn rules_of(target: &TargetConfig, config: &Config, room: &Room) -> Rules {
    let mut rules = config.rules_of(target);
    rules.room = room.clone();
    if config.self_metrics && target.kind == TargetKind::App {
        let filter = rules.filter.as_deref().cloned().unwrap_or_default();
        rules.filter = Some(Arc::new(filter.without(telemetry::PREFIX)));
    }
    rules
}

impl Aggregator {
    /// Plans the scrapes that the configuration asks for, in the order in which they are written.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let room = Room::default();
        let plan = |(target, configured): (Target, &TargetConfig)| {
            Arc::new(Plan {
                target,
                is_verbatim: config.is_verbatim(configured),
                rules: rules_of(configured, config, &room),
            })
        };
        let targets = scrape::targets(&config.targets, config.max_body_bytes);
        let keeper = Keeper::new(targets.len(), config.leave_interval, config.keep_bytes, config.max_body_bytes);
        let known = config.targets.iter().map(|target| (target.name.as_str(), target.address.to_string()));
        let own_rules = || Rules::new(config.labels.clone(), Untyped::Keep);
        Self {
            plans: targets.into_iter().zip(&config.targets).map(plan).collect(),
            timeout: config.scrape_timeout,
            offset: config.scrape_timeout_offset,
            telemetry: Arc::new(Telemetry::new(known)),
            own_rules: config.self_metrics.then(own_rules),
            room,
            keeper: Arc::new(keeper),
        }
    }

    pub(crate) fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// Scrapes every target to its end, and keeps nothing but what the telemetry does.
    pub(crate) async fn try_targets(&self) {
        if let Ok(mut answer) = self.scrape(&HeaderMap::new()).await {
            while poll_fn(|cx| answer.poll_piece(cx)).await.is_some() {}
        }
    }

    /// Scrapes the targets from now on, and keeps what they say for who comes when they are gone; until it is dropped.
    pub(crate) async fn keep(&self) {
        self.keeper.keep(&self.plans).await;
    }

    /// Ready when there is nothing to keep: no target was there when the sidecar began to leave.
    pub(crate) async fn has_nothing_to_keep(&self) {
        self.keeper.has_nothing().await;
    }

    /// Asks every target at once; answers as soon as one of them has something to say, or ends well.
    ///
    /// # Errors
    ///
    /// How each target failed, if all of them did without a whole line between them: a head alone is no answer.
    pub async fn scrape(&self, headers: &HeaderMap) -> Result<Answer, Vec<Failure>> {
        self.telemetry.count_scrape();
        let budget = Budget::new(scraper_timeout(headers).unwrap_or(self.timeout), self.offset);
        let accepted = Accepted::of(headers);
        self.keeper.note(&accepted);
        let (accept, user_agent) = (accepted.for_targets(), headers.get(USER_AGENT));
        let ask = |(index, plan): (usize, &Arc<Plan>)| {
            let (asked, accept, user_agent) = (Arc::clone(plan), accept.clone(), user_agent.cloned());
            let head = async move { asked.target.scrape(accept, user_agent, budget).await };
            let (telemetry, keeper) = (Arc::clone(&self.telemetry), Arc::clone(&self.keeper));
            TargetScrape::new(index, Arc::clone(plan), telemetry, keeper, budget, Box::pin(head))
        };
        let scrapes = self.plans.iter().enumerate().map(ask).collect();
        let mut answer =
            Answer::new(scrapes, accepted, budget, Arc::clone(&self.telemetry), self.own_rules.clone(), &self.room);
        match answer.begin().await {
            None => Ok(answer),
            Some(failures) => Err(failures),
        }
    }
}
