//! Events that a stranger can cause as often as it likes, and that the log is to show all the same.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::lock::lock;

/// The time between two lines about one kind of event.
const INTERVAL: Duration = Duration::from_secs(10);

/// Lets one event in each [`INTERVAL`] through to the log, so that nobody can fill it.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    logged: Option<Instant>,
    untold: u64,
}

impl Seldom {
    /// One more happened. If it is time for a line: how many did since the last one.
    pub(super) fn happened(&self) -> Option<u64> {
        let mut state = lock(&self.0);
        state.untold += 1;
        if state.logged.is_some_and(|logged| logged.elapsed() < INTERVAL) {
            return None;
        }
        state.logged = Some(Instant::now());
        Some(std::mem::take(&mut state.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_of_many_is_told_with_their_number() {
        let seldom = Seldom::default();
        assert_eq!(seldom.happened(), Some(1), "the first at once");
        assert_eq!(seldom.happened(), None);
        assert_eq!(seldom.happened(), None);
        tokio::time::advance(INTERVAL).await;
        assert_eq!(seldom.happened(), Some(3));
        assert_eq!(seldom.happened(), None);
    }
}
