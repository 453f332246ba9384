//! What is news of a target, and how an outcome is logged.
//!
//! In: each outcome. Out: an event when a target goes down or comes back, one when lines of it were dropped, and for whoever
//! wants `debug` one for every scrape. However a target behaves, it cannot fill the log.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::state::{Outcome, TargetState};

/// How often one target's dropped lines are worth a line of the log.
const DROPPED_LINES_EVERY: Duration = Duration::from_secs(60);

/// Changes of one target that are told within a minute. A scraper that gives targets no time, beside one that does, could
/// fill the log.
const CHANGES_A_MINUTE: u32 = 10;

/// What the log was told of a target.
#[derive(Debug)]
pub(super) struct TargetLog {
    /// Whether it is up, as it is taken to be before the first scrape, and since when.
    state: (bool, Instant),
    /// The same as it was told last.
    told: (bool, Instant),
    /// When the minute began in which changes are told, and how many were.
    changes: (Instant, u32),
    /// When a dropped line was last told of.
    dropped_at: Option<Instant>,
    /// When an odd content type was last told of, and which.
    odd_type: Option<(Instant, String)>,
}

impl TargetLog {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { state: (true, now), told: (true, now), changes: (now, 0), dropped_at: None, odd_type: None }
    }

    pub(super) fn record(&mut self, target: &TargetState, outcome: &Outcome) {
        let (name, url) = (target.name.as_str(), &target.address);
        let samples = outcome.counts.samples;
        let milliseconds = outcome.duration.as_millis() as u64;
        match (&outcome.result, self.change(outcome.result.is_ok())) {
            (Err(error), Some(_)) => warn!(target = name, %url, %error, samples, milliseconds, "target failed"),
            (Err(error), None) => debug!(target = name, %url, %error, samples, milliseconds, "target failed again"),
            (Ok(()), Some(down_for)) => {
                let seconds = down_for.as_secs_f64();
                info!(target = name, %url, samples, milliseconds, down_for_seconds = seconds, "target is back");
            }
            (Ok(()), None) => debug!(target = name, %url, samples, milliseconds, "target scraped"),
        }
        if let Some(told) = outcome.told_of_type().filter(|told| self.is_another_type(told)) {
            warn!(target = name, %url, "target {told}");
        }
        let first_dropped = outcome.first_dropped.as_ref();
        if let Some(first) = first_dropped.filter(|_| self.is_time_for_dropped_lines()) {
            // What the operator chose to leave out is no news.
            let dropped = outcome.counts.lost();
            let (line, text, reason) = (first.line, first.text.as_str(), first.reason.as_str());
            warn!(target = name, line, text, reason, dropped, "lines dropped; this is the first");
        }
    }

    /// What is to be told of its state, if that is another than was told last, and if few changes were told of late. One
    /// that is not told now is told later, unless it has passed by then. What is returned is how long it was otherwise.
    fn change(&mut self, is_up: bool) -> Option<Duration> {
        let now = Instant::now();
        if self.state.0 != is_up {
            self.state = (is_up, now);
        }
        let (was_up, otherwise_since) = self.told;
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
        self.told = self.state;
        Some(self.state.1 - otherwise_since)
    }

    /// Whether that is another than was told last, and none was told of late.
    fn is_another_type(&mut self, told: &str) -> bool {
        let is_news =
            self.odd_type.as_ref().is_none_or(|(at, last)| last != told && at.elapsed() >= DROPPED_LINES_EVERY);
        if is_news {
            self.odd_type = Some((Instant::now(), told.to_owned()));
        }
        is_news
    }

    fn is_time_for_dropped_lines(&mut self) -> bool {
        let is_time = self.dropped_at.is_none_or(|told| told.elapsed() >= DROPPED_LINES_EVERY);
        if is_time {
            self.dropped_at = Some(Instant::now());
        }
        is_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_target_that_goes_down_or_comes_back_is_news_once() {
        let mut log = TargetLog::new();
        assert_eq!(log.change(true), None, "it is up from the start");
        assert_eq!(log.change(true), None);
        assert_eq!(log.change(false), Some(Duration::ZERO));
        assert_eq!(log.change(false), None);
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(log.change(true), Some(Duration::from_secs(90)));
        assert_eq!(log.change(true), None);
        assert_eq!(TargetLog::new().change(false), Some(Duration::ZERO), "from the start");
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_that_flaps_is_told_of_ten_times_a_minute() {
        let mut log = TargetLog::new();
        let mut flap = || {
            let states = [false, true].into_iter().cycle().take(100);
            states.filter(|is_up| log.change(*is_up).is_some()).count()
        };
        assert_eq!(flap(), 10);
        assert_eq!(flap(), 0);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(flap(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_told_in_time_is_told_later_if_it_is_still_so() {
        let mut log = TargetLog::new();
        for _ in 0..5 {
            assert!(log.change(false).is_some() && log.change(true).is_some());
        }
        assert_eq!(log.change(false), None, "ten were told");
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(log.change(false), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(log.change(false), Some(Duration::ZERO), "the log's last word is true");
        assert_eq!(log.change(false), None);
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(log.change(true), Some(Duration::from_secs(90)), "since it went down, not since that was told");
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_lines_are_news_once_a_minute_for_each_target() {
        let (mut app, mut agent) = (TargetLog::new(), TargetLog::new());
        assert!(app.is_time_for_dropped_lines() && agent.is_time_for_dropped_lines());
        assert!(!app.is_time_for_dropped_lines());
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(!app.is_time_for_dropped_lines());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(app.is_time_for_dropped_lines() && !app.is_time_for_dropped_lines());
    }
}
