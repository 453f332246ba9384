//! What the sidecar knows of itself: how each target's scrapes went, and what was counted.
//!
//! In: an [`Outcome`] whenever a target's scrape is over. Out: what an operator is to be told of it once ([`News`]), the
//! last state of each target for whoever asks, and metrics that close an answer. It holds a few hundred bytes for each
//! target, whatever they do.

mod metrics;
mod words;

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::time::Instant;

use crate::exposition::{Conflict, Counts, DropReason, FirstDropped, Format};
use crate::lock::lock;
use crate::scrape::ScrapeError;
use metrics::{OfTarget, OfTargetAndReason};

pub use metrics::PREFIX;
pub use words::{conflict, target_of, time};

/// How often one target's dropped lines are worth a line of the log.
const OFFENCES_EVERY: Duration = Duration::from_secs(60);

/// Changes of one target that are told within a minute. A scraper that gives targets no time, beside one that does, could
/// fill the log.
const CHANGES_A_MINUTE: u32 = 10;

/// How one scrape of one target went.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How it ended.
    pub result: Result<(), ScrapeError>,
    /// How long it took: until the head came, and from when it was the body's turn until that ended.
    pub duration: Duration,
    /// What came of its lines.
    pub counts: Counts,
    /// The bytes of its body, decoded.
    pub body_bytes: u64,
    /// The format in which it answered, if it did.
    pub format: Option<Format>,
    /// The first of its lines that had to be dropped.
    pub offence: Option<FirstDropped>,
    /// Why a file of the target's could not be used, where it was asked with what that held before.
    pub stale_file: Option<String>,
}

/// What is known of a target.
#[derive(Debug, Clone)]
pub struct TargetState {
    /// Its name.
    pub name: String,
    /// Its last scrape, and when that was over; none before the first.
    pub last: Option<(SystemTime, Outcome)>,
    /// Since when it has been up, or down.
    pub since: Option<SystemTime>,
    /// Its last failure, which may be long over, and when it was.
    pub last_failure: Option<(SystemTime, ScrapeError)>,
    /// The last line that had to be dropped, and when it was.
    pub last_offence: Option<(SystemTime, FirstDropped)>,
}

/// What an operator is to be told of an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct News {
    /// The target went down, or came back.
    pub change: Option<Change>,
    /// A line of it was dropped, and none was told of for a while.
    pub has_offence: bool,
}

/// What became of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was up, or never scraped, and failed.
    WentDown,
    /// It was down for so long, and is up.
    CameBack(Duration),
}

/// What is known and counted since the start.
#[derive(Debug)]
pub struct Telemetry {
    targets: Mutex<Vec<Known>>,
    scrapes: Counter,
    failures: Family<OfTargetAndReason, Counter>,
    dropped_lines: Family<OfTargetAndReason, Counter>,
    family_conflicts: Counter,
    named_conflicts: Mutex<Vec<Conflict>>,
}

#[derive(Debug)]
struct Known {
    state: TargetState,
    /// What its metrics are labelled with.
    label: OfTarget,
    changed_at: Instant,
    /// Whether it was up when that was last told, or before the first scrape; and since when it has been down by then.
    told: (bool, Instant),
    /// When the minute began in which changes are told, and how many were.
    changes: (Instant, u32),
    /// When a dropped line was last told of.
    told_at: Option<Instant>,
}

impl TargetState {
    /// Whether its last scrape went well; `None` before the first.
    #[must_use]
    pub fn is_up(&self) -> Option<bool> {
        self.last.as_ref().map(|(_, outcome)| outcome.result.is_ok())
    }
}

impl Known {
    /// What is to be told of its state, if that is another than was told last, and if few changes were told of late. One
    /// that is not told now is told later, unless it has passed by then.
    fn change(&mut self, is_up: bool, now: Instant) -> Option<Change> {
        let (was_up, down_since) = self.told;
        if was_up == is_up {
            return None;
        }
        let (began, changes) = &mut self.changes;
        if now - *began >= Duration::from_secs(60) {
            (*began, *changes) = (now, 0);
        }
        if *changes == CHANGES_A_MINUTE {
            return None;
        }
        *changes += 1;
        self.told = (is_up, self.changed_at);
        Some(match is_up {
            true => Change::CameBack(self.changed_at - down_since),
            false => Change::WentDown,
        })
    }
}

impl Telemetry {
    /// Nothing is known yet of the targets of these names.
    #[must_use]
    pub fn new<'a>(targets: impl IntoIterator<Item = &'a str>) -> Self {
        let known = targets.into_iter().map(|name| Known {
            state: TargetState {
                name: name.to_owned(),
                last: None,
                since: None,
                last_failure: None,
                last_offence: None,
            },
            label: OfTarget::new(name),
            changed_at: Instant::now(),
            told: (true, Instant::now()),
            changes: (Instant::now(), 0),
            told_at: None,
        });
        Self {
            targets: Mutex::new(known.collect()),
            scrapes: Counter::default(),
            failures: Family::default(),
            dropped_lines: Family::default(),
            family_conflicts: Counter::default(),
            named_conflicts: Mutex::default(),
        }
    }

    /// Counts a scrape of the pod.
    pub fn count_scrape(&self) {
        self.scrapes.inc();
    }

    /// Counts the families of one answer to which two targets gave two types, of which these are some.
    pub fn note_conflicts(&self, conflicts: u64, named: &[Conflict]) {
        self.family_conflicts.inc_by(conflicts);
        named.clone_into(&mut lock(&self.named_conflicts));
    }

    /// The families that were counted so.
    #[must_use]
    pub fn conflicts(&self) -> u64 {
        self.family_conflicts.get()
    }

    /// Some of those that the last answer had.
    #[must_use]
    pub fn named_conflicts(&self) -> Vec<Conflict> {
        lock(&self.named_conflicts).clone()
    }

    /// Notes how a scrape of the target with this index went.
    pub fn record(&self, index: usize, outcome: &Outcome) -> News {
        let mut targets = lock(&self.targets);
        let known = &mut targets[index];
        let (at, now) = (SystemTime::now(), Instant::now());
        if let Err(error) = &outcome.result {
            let labels = known.label.because(error.reason());
            self.failures.get_or_create(&labels).inc();
            known.state.last_failure = Some((at, error.clone()));
        }
        for reason in DropReason::ALL {
            let lines = outcome.counts.dropped(reason);
            if lines > 0 {
                let labels = known.label.because(reason.as_str());
                self.dropped_lines.get_or_create(&labels).inc_by(lines);
            }
        }
        let is_up = outcome.result.is_ok();
        if known.state.is_up() != Some(is_up) {
            known.changed_at = now;
            known.state.since = Some(at);
        }
        let change = known.change(is_up, now);
        let mut has_offence = false;
        if let Some(offence) = &outcome.offence {
            has_offence = known.told_at.is_none_or(|told| now - told >= OFFENCES_EVERY);
            if has_offence {
                known.told_at = Some(now);
            }
            known.state.last_offence = Some((at, offence.clone()));
        }
        known.state.last = Some((at, outcome.clone()));
        News { change, has_offence }
    }

    /// What is known of each target, in their order.
    #[must_use]
    pub fn states(&self) -> Vec<TargetState> {
        lock(&self.targets).iter().map(|known| known.state.clone()).collect()
    }

    /// Whether each target has been scraped.
    #[must_use]
    pub fn has_tried_all(&self) -> bool {
        lock(&self.targets).iter().all(|known| known.state.last.is_some())
    }

    /// The metrics of the sidecar itself in OpenMetrics, with those of the scrape that had these outcomes.
    #[must_use]
    pub fn exposition(&self, outcomes: Vec<Option<Outcome>>) -> String {
        let labels = lock(&self.targets).iter().map(|known| known.label.clone()).collect();
        metrics::exposition(self, labels, outcomes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(result: Result<(), ScrapeError>) -> Outcome {
        Outcome {
            result,
            duration: Duration::from_millis(12),
            counts: Counts::default(),
            body_bytes: 0,
            format: None,
            offence: None,
            stale_file: None,
        }
    }

    fn failed() -> Outcome {
        outcome(Err(ScrapeError::TooLarge(8)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_that_goes_down_or_comes_back_is_news_once() {
        let telemetry = Telemetry::new(["app"]);
        let change = |outcome: &Outcome| telemetry.record(0, outcome).change;
        assert_eq!(change(&outcome(Ok(()))), None, "it is up from the start");
        assert_eq!(change(&outcome(Ok(()))), None);
        assert_eq!(change(&failed()), Some(Change::WentDown));
        assert_eq!(change(&failed()), None);
        tokio::time::advance(Duration::from_secs(90)).await;
        let back = Change::CameBack(Duration::from_secs(90));
        assert_eq!(change(&outcome(Ok(()))), Some(back));
        assert_eq!(change(&outcome(Ok(()))), None);
        let telemetry = Telemetry::new(["app"]);
        assert_eq!(
            telemetry.record(0, &failed()).change,
            Some(Change::WentDown),
            "from the start"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_that_flaps_is_told_of_ten_times_a_minute() {
        let telemetry = Telemetry::new(["app"]);
        let flap = || {
            let outcomes = [failed(), outcome(Ok(()))].into_iter().cycle().take(100);
            outcomes
                .filter(|outcome| telemetry.record(0, outcome).change.is_some())
                .count()
        };
        assert_eq!(flap(), 10);
        assert_eq!(flap(), 0);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(flap(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_told_in_time_is_told_later_if_it_is_still_so() {
        let telemetry = Telemetry::new(["app"]);
        let change = |outcome: &Outcome| telemetry.record(0, outcome).change;
        for _ in 0..5 {
            assert!(change(&failed()).is_some() && change(&outcome(Ok(()))).is_some());
        }
        assert_eq!(change(&failed()), None, "ten were told");
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(change(&failed()), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(change(&failed()), Some(Change::WentDown), "the log's last word is true");
        assert_eq!(change(&failed()), None);
        tokio::time::advance(Duration::from_secs(30)).await;
        let back = Change::CameBack(Duration::from_secs(90));
        assert_eq!(
            change(&outcome(Ok(()))),
            Some(back),
            "since it went down, not since that was told"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_lines_are_news_once_a_minute_for_each_target() {
        let telemetry = Telemetry::new(["app", "agent"]);
        let offence = FirstDropped {
            line: 7,
            text: "x".into(),
            reason: DropReason::Malformed,
        };
        let bad = Outcome {
            offence: Some(offence),
            ..outcome(Ok(()))
        };
        let is_told = |index| telemetry.record(index, &bad).has_offence;
        assert!(is_told(0) && is_told(1) && !is_told(0));
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(!is_told(0));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(is_told(0) && !is_told(0));
        assert!(!telemetry.record(1, &outcome(Ok(()))).has_offence);
    }

    #[tokio::test]
    async fn every_family_is_known_by_the_beginning_of_its_name() {
        let telemetry = Telemetry::new(["app"]);
        telemetry.record(0, &failed());
        let dropped = OfTarget::new("app").because("malformed");
        telemetry.dropped_lines.get_or_create(&dropped).inc();
        let text = telemetry.exposition(vec![Some(failed())]);
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let types: Vec<&str> = types.collect();
        assert_eq!(types.len(), 9, "{types:?}");
        assert!(types.iter().all(|line| line.starts_with(PREFIX)), "{types:?}");
    }

    #[tokio::test]
    async fn the_last_failure_is_remembered_when_all_is_well_again() {
        let telemetry = Telemetry::new(["app"]);
        assert!(!telemetry.has_tried_all());
        telemetry.record(0, &failed());
        telemetry.record(0, &outcome(Ok(())));
        assert!(telemetry.has_tried_all());
        let state = &telemetry.states()[0];
        assert_eq!(state.is_up(), Some(true));
        assert!(matches!(state.last_failure, Some((_, ScrapeError::TooLarge(8)))));
    }
}
