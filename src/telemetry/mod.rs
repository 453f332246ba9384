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

use crate::exposition::{Counts, DropReason, Format, Offence};
use crate::lock::lock;
use crate::scrape::ScrapeError;
use metrics::{OfTarget, OfTargetAndReason};

pub use metrics::FAMILIES;
pub use words::time;

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
    pub offence: Option<Offence>,
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
    pub last_offence: Option<(SystemTime, Offence)>,
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
}

#[derive(Debug)]
struct Known {
    state: TargetState,
    /// What its metrics are labelled with.
    label: OfTarget,
    changed_at: Instant,
    /// When the minute began in which changes are counted, and how many there were.
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
    /// Counts a change, and says whether there were few enough for the log.
    fn is_worth_telling(&mut self, now: Instant) -> bool {
        let (began, changes) = &mut self.changes;
        if now - *began >= Duration::from_secs(60) {
            (*began, *changes) = (now, 0);
        }
        *changes += 1;
        *changes <= CHANGES_A_MINUTE
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
            changes: (Instant::now(), 0),
            told_at: None,
        });
        Self {
            targets: Mutex::new(known.collect()),
            scrapes: Counter::default(),
            failures: Family::default(),
            dropped_lines: Family::default(),
            family_conflicts: Counter::default(),
        }
    }

    /// Counts a scrape of the pod.
    pub fn count_scrape(&self) {
        self.scrapes.inc();
    }

    /// Counts families to which two targets gave two types.
    pub fn count_conflicts(&self, conflicts: u64) {
        self.family_conflicts.inc_by(conflicts);
    }

    /// The families that were counted so.
    #[must_use]
    pub fn conflicts(&self) -> u64 {
        self.family_conflicts.get()
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
        let (was_up, is_up) = (known.state.is_up(), outcome.result.is_ok());
        let change = match (was_up, is_up) {
            (None | Some(true), false) => Some(Change::WentDown),
            (Some(false), true) => Some(Change::CameBack(now - known.changed_at)),
            (Some(false), false) | (None | Some(true), true) => None,
        };
        let change = change.filter(|_| known.is_worth_telling(now));
        if was_up != Some(is_up) {
            known.changed_at = now;
            known.state.since = Some(at);
        }
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
    async fn dropped_lines_are_news_once_a_minute_for_each_target() {
        let telemetry = Telemetry::new(["app", "agent"]);
        let offence = Offence {
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
    async fn every_family_is_in_the_list() {
        let telemetry = Telemetry::new(["app"]);
        telemetry.record(0, &failed());
        let dropped = OfTarget::new("app").because("malformed");
        telemetry.dropped_lines.get_or_create(&dropped).inc();
        let text = telemetry.exposition(vec![Some(failed())]);
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let names = types.map(|line| match line.split_once(' ') {
            Some((name, "counter")) => format!("{name}_total"),
            Some((name, "info")) => format!("{name}_info"),
            other => other.expect("a name and a type").0.to_owned(),
        });
        let (mut names, mut families) = (names.collect::<Vec<_>>(), FAMILIES);
        names.sort();
        families.sort_unstable();
        assert_eq!(names, families);
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
