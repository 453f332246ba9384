//! How long one scrape may take.
//!
//! The scraper gives up at its timeout; an answer that is complete a moment later is lost whole. So the timeout less an
//! offset is spent, as the blackbox exporter does, and the offset itself is shared out: half of it for bodies that
//! have begun, the rest for the way back.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use tokio::time::Instant;

/// In which Prometheus says how long it waits, in seconds (`scrapeTimeoutHeader` in its `scrape/scrape.go`).
pub(crate) const TIMEOUT_HEADER: HeaderName = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");

/// No scraper needs longer than this, and none may hold a place among the scrapes longer; a larger timeout is taken for
/// it.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(300);

/// The offset is at most this part of the timeout, so that a short timeout is not eaten up by it.
const LARGEST_OFFSET_PART: u32 = 4;

/// The moments by which the parts of one scrape must be over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    pub(crate) start: Instant,
    /// Until when targets are written in their order. From then on whoever has something to say goes before who has not:
    /// half way to [`Self::heads_by`], so that a body behind one that hangs, however large, has the other half.
    pub(crate) in_turn_by: Instant,
    /// When a target whose head is not in has failed: the timeout less the offset.
    pub(crate) heads_by: Instant,
    /// When a body that has not ended is cut: the timeout less half the offset.
    pub(crate) bodies_by: Instant,
}

impl Budget {
    /// The budget of a scrape that starts now. `timeout` is the scraper's, `offset` the configured one.
    pub(crate) fn new(timeout: Duration, offset: Duration) -> Self {
        let start = Instant::now();
        let timeout = timeout.min(LONGEST_TIMEOUT);
        let offset = offset.min(timeout / LARGEST_OFFSET_PART);
        let end = start + timeout;
        Self { start, in_turn_by: start + (timeout - offset) / 2, heads_by: end - offset, bodies_by: end - offset / 2 }
    }
}

/// The scraper's timeout, if it sent one that means something.
pub(crate) fn scraper_timeout(headers: &HeaderMap) -> Option<Duration> {
    let seconds: f64 = headers.get(TIMEOUT_HEADER)?.to_str().ok()?.trim().parse().ok()?;
    if !seconds.is_finite() || seconds <= 0.0 {
        return None;
    }
    let timeout = Duration::from_secs_f64(seconds.min(LONGEST_TIMEOUT.as_secs_f64()));
    (!timeout.is_zero()).then_some(timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(timeout: &str) -> HeaderMap {
        HeaderMap::from_iter([(TIMEOUT_HEADER, timeout.parse().unwrap())])
    }

    #[test]
    fn the_scrapers_timeout_is_a_positive_finite_number_of_seconds() {
        assert_eq!(scraper_timeout(&headers("10")), Some(Duration::from_secs(10)));
        assert_eq!(scraper_timeout(&headers("1.5")), Some(Duration::from_millis(1500)));
        assert_eq!(scraper_timeout(&headers("1e300")), Some(LONGEST_TIMEOUT));
        for none in ["", "0", "-1", "-0", "NaN", "nan", "Inf", "-inf", "infinity", "1e400", "ten", "10s", "1e-300"] {
            assert_eq!(scraper_timeout(&headers(none)), None, "{none:?}");
        }
        assert_eq!(scraper_timeout(&HeaderMap::new()), None);
    }

    #[test]
    fn the_offset_is_taken_off_and_shared_out() {
        let budget = Budget::new(Duration::from_secs(10), Duration::from_millis(500));
        assert_eq!(budget.in_turn_by - budget.start, Duration::from_millis(4750));
        assert_eq!(budget.heads_by - budget.start, Duration::from_millis(9500));
        assert_eq!(budget.bodies_by - budget.start, Duration::from_millis(9750));
    }

    #[test]
    fn the_offset_is_at_most_a_quarter_of_the_timeout() {
        let budget = Budget::new(Duration::from_millis(400), Duration::from_millis(500));
        assert_eq!(budget.heads_by - budget.start, Duration::from_millis(300));
    }
}
