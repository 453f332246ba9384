//! Events that a stranger can cause as often as it likes, and that the log is to show all the same.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::lock::lock;

/// The time between two lines about one kind of event.
const INTERVAL: Duration = Duration::from_secs(10);

/// Lets one event of a kind in each [`INTERVAL`] through to the log, so that nobody can fill it.
#[derive(Debug, Default)]
pub(super) struct LogLimit(Mutex<HashMap<&'static str, Untold>>);

#[derive(Debug, Default)]
struct Untold {
    logged: Option<Instant>,
    times: u64,
}

impl LogLimit {
    /// One more of this kind happened. If it is time for a line: how many did since the last one.
    pub(super) fn happened(&self, kind: &'static str) -> Option<u64> {
        let mut kinds = lock(&self.0);
        let untold = kinds.entry(kind).or_default();
        untold.times += 1;
        if untold.logged.is_some_and(|logged| logged.elapsed() < INTERVAL) {
            return None;
        }
        untold.logged = Some(Instant::now());
        Some(std::mem::take(&mut untold.times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_of_many_is_told_with_their_number() {
        let limit = LogLimit::default();
        assert_eq!(limit.happened("a"), Some(1), "the first at once");
        assert_eq!(limit.happened("a"), None);
        assert_eq!(limit.happened("a"), None);
        tokio::time::advance(INTERVAL).await;
        assert_eq!(limit.happened("a"), Some(3));
        assert_eq!(limit.happened("b"), Some(1), "another kind");
        assert_eq!(limit.happened("a"), None);
    }
}
