//! What the sidecar knows of itself: how each target's scrapes went, and what was counted.
//!
//! In: an [`Outcome`] whenever a target's scrape is over. Out: what is news of it, in the log; the last state of each target
//! for whoever asks; and metrics that close an answer. It holds a few hundred bytes for each target, whatever they do.

mod log;
mod metrics;
mod state;

use std::sync::Mutex;
use std::time::SystemTime;

use crate::exposition::{Conflict, DropReason};
use crate::lock::lock;
use log::TargetLog;
use metrics::{Counters, OfTarget};

pub(crate) use metrics::PREFIX;
pub(crate) use state::{Apart, ApartReason, Outcome, TargetState};

/// What the sidecar is called where it is a target among others: its metrics stand in the answer, too.
pub(crate) const OWN_NAME: &str = "qpext";

#[derive(Debug)]
pub(crate) struct Telemetry {
    targets: Mutex<Vec<TrackedTarget>>,
    counters: Counters,
    named_conflicts: Mutex<Vec<Conflict>>,
    apart: Mutex<Option<Apart>>,
}

#[derive(Debug)]
struct TrackedTarget {
    state: TargetState,
    /// What its metrics are labelled with.
    label: OfTarget,
    log: TargetLog,
}

impl Telemetry {
    /// Nothing is known yet of the targets of these names, which are there.
    pub(crate) fn new<'a>(targets: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let known = targets.into_iter().map(|(name, address)| TrackedTarget {
            state: TargetState { name: name.to_owned(), address, ..TargetState::default() },
            label: OfTarget::new(name),
            log: TargetLog::new(),
        });
        Self {
            targets: Mutex::new(known.collect()),
            counters: Counters::default(),
            named_conflicts: Mutex::default(),
            apart: Mutex::default(),
        }
    }

    pub(crate) fn count_scrape(&self) {
        self.counters.scrapes.inc();
    }

    /// Counts the families of one answer to which two targets gave two types, of which these are some.
    pub(crate) fn note_conflicts(&self, conflicts: u64, named: &[Conflict]) {
        self.counters.family_conflicts.inc_by(conflicts);
        named.clone_into(&mut lock(&self.named_conflicts));
    }

    /// The families that were counted so.
    pub(crate) fn conflicts(&self) -> u64 {
        self.counters.family_conflicts.get()
    }

    /// Some of those that the last answer had.
    pub(crate) fn named_conflicts(&self) -> Vec<Conflict> {
        lock(&self.named_conflicts).clone()
    }

    /// Notes whether the families of several targets could not stand together in the last answer.
    pub(crate) fn note_apart(&self, apart: Option<Apart>) {
        *lock(&self.apart) = apart;
    }

    pub(crate) fn apart(&self) -> Option<Apart> {
        lock(&self.apart).clone()
    }

    /// Notes how a scrape of the target with this index went, and logs what is news.
    pub(crate) fn record(&self, index: usize, outcome: &Outcome) {
        let mut targets = lock(&self.targets);
        let TrackedTarget { state, label, log } = &mut targets[index];
        log.record(state, outcome);
        let at = SystemTime::now();
        if let Err(error) = &outcome.result {
            self.counters.failures.get_or_create(&label.because(error.reason())).inc();
            state.last_failure = Some((at, error.clone()));
        }
        for reason in DropReason::ALL {
            let lines = outcome.counts.dropped(reason);
            if lines > 0 {
                let labels = label.because(reason.as_str());
                self.counters.dropped_lines.get_or_create(&labels).inc_by(lines);
            }
        }
        if state.is_up() != Some(outcome.result.is_ok()) {
            state.since = Some(at);
        }
        if let Some(line) = &outcome.first_dropped {
            state.last_dropped = Some((at, line.clone()));
        }
        state.last = Some((at, outcome.clone()));
    }

    /// What is known of each target, in their order.
    pub(crate) fn states(&self) -> Vec<TargetState> {
        lock(&self.targets).iter().map(|known| known.state.clone()).collect()
    }

    pub(crate) fn has_tried_all(&self) -> bool {
        lock(&self.targets).iter().all(|known| known.state.last.is_some())
    }

    /// The metrics of the sidecar itself in OpenMetrics, with those of the scrape in which each target had this outcome.
    pub(crate) fn exposition(&self, outcomes: impl Iterator<Item = Outcome>) -> String {
        let labels = lock(&self.targets).iter().map(|known| known.label.clone()).zip(outcomes).collect();
        self.counters.exposition(labels)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::exposition::Counts;
    use crate::scrape::ScrapeError;

    fn outcome(result: Result<(), ScrapeError>) -> Outcome {
        Outcome {
            result,
            kept_for: None,
            duration: Duration::from_millis(12),
            counts: Counts::default(),
            body_bytes: 0,
            format: None,
            first_dropped: None,
            odd_type: None,
            stale_file: None,
        }
    }

    fn failed() -> Outcome {
        outcome(Err(ScrapeError::TooLarge(8)))
    }

    #[tokio::test]
    async fn every_family_is_known_by_the_beginning_of_its_name() {
        let telemetry = Telemetry::new([("app", String::new())]);
        telemetry.record(0, &failed());
        let dropped = OfTarget::new("app").because("malformed");
        telemetry.counters.dropped_lines.get_or_create(&dropped).inc();
        let text = telemetry.exposition([failed()].into_iter());
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let types: Vec<&str> = types.collect();
        assert_eq!(types.len(), 9, "{types:?}");
        assert!(types.iter().all(|line| line.starts_with(PREFIX)), "{types:?}");
    }

    #[tokio::test]
    async fn the_last_failure_is_remembered_when_all_is_well_again() {
        let telemetry = Telemetry::new([("app", String::new())]);
        assert!(!telemetry.has_tried_all());
        telemetry.record(0, &failed());
        telemetry.record(0, &outcome(Ok(())));
        assert!(telemetry.has_tried_all());
        let state = &telemetry.states()[0];
        assert_eq!(state.is_up(), Some(true));
        assert!(matches!(state.last_failure, Some((_, ScrapeError::TooLarge(8)))));
    }
}
