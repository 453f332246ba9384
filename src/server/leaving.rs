//! Who is waited for when the process leaves: the scrapers that come again and again.
//!
//! In: who comes, and who has had the last answer. Out: whether anybody is still to come. A scraper is told from others by where it
//! comes from and what it calls itself, and its interval is learned from its visits.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::lock::lock;

/// Scrapers that are remembered: more than a pod has. One more takes the place of who has been away for the longest time.
const MAX_SCRAPERS: usize = 32;

/// Who has not come twice in so many of its intervals does not come again.
const PATIENCE_INTERVALS: u32 = 5;

/// Visits by which an interval is learned: the longest time between two of them, as two scrapers may share an address and a name.
const VISITS: usize = 5;

/// No interval is taken for shorter: who comes twice at once comes again when it comes again.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(5);

/// The scrapers, as far as they are remembered.
#[derive(Debug, Default)]
pub(super) struct Scrapers {
    known: Mutex<Vec<Scraper>>,
    has_final: Notify,
}

#[derive(Debug)]
struct Scraper {
    origin: IpAddr,
    agent: Option<HeaderValue>,
    /// When it came last, and before that; the last one first.
    visits: VecDeque<Instant>,
    has_final: bool,
}

impl Scraper {
    fn is(&self, origin: IpAddr, agent: Option<&HeaderValue>) -> bool {
        self.origin == origin && self.agent.as_ref() == agent
    }

    fn comes(&mut self, now: Instant) {
        self.visits.truncate(VISITS - 1);
        self.visits.push_front(now);
    }

    /// Whether it came at least twice in the last five of its intervals.
    fn is_regular(&self, now: Instant) -> bool {
        let gaps = self.visits.iter().zip(self.visits.iter().skip(1)).map(|(later, earlier)| *later - *earlier);
        let interval = gaps.max().unwrap_or_default().max(SHORTEST_INTERVAL);
        self.visits.get(1).is_some_and(|second| now - *second <= interval * PATIENCE_INTERVALS)
    }
}

/// A visit of a scraper's, which may turn out to have been its last.
pub(super) struct Visit {
    scrapers: Arc<Scrapers>,
    origin: IpAddr,
    agent: Option<HeaderValue>,
}

impl Visit {
    /// The scraper has had the last answer.
    pub(super) fn was_last(&self) {
        let mut known = lock(&self.scrapers.known);
        if let Some(scraper) = known.iter_mut().find(|scraper| scraper.is(self.origin, self.agent.as_ref())) {
            scraper.has_final = true;
            self.scrapers.has_final.notify_waiters();
        }
    }
}

impl Scrapers {
    /// Notes that a scraper has come.
    pub(super) fn note(self: &Arc<Self>, origin: IpAddr, agent: Option<&HeaderValue>) -> Visit {
        let now = Instant::now();
        let mut known = lock(&self.known);
        match known.iter_mut().find(|scraper| scraper.is(origin, agent)) {
            Some(scraper) => scraper.comes(now),
            None => {
                if known.len() == MAX_SCRAPERS
                    && let Some(longest) = (0..known.len()).min_by_key(|&index| known[index].visits[0])
                {
                    known.swap_remove(longest);
                }
                known.push(Scraper { origin, agent: agent.cloned(), visits: [now].into(), has_final: false });
            }
        }
        Visit { scrapers: Arc::clone(self), origin, agent: agent.cloned() }
    }

    /// How many come regularly and have not had the last answer.
    pub(super) fn awaited(&self, now: Instant) -> usize {
        lock(&self.known).iter().filter(|scraper| scraper.is_regular(now) && !scraper.has_final).count()
    }

    /// Ready when each that came regularly before `began` has had the last answer.
    pub(super) async fn have_had_their_last(&self, began: Instant) {
        loop {
            let notified = self.has_final.notified();
            if self.awaited(began) == 0 {
                return;
            }
            notified.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    fn agent(name: &'static str) -> HeaderValue {
        HeaderValue::from_static(name)
    }

    fn origin(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_again_and_again_is_awaited_until_it_has_the_last_answer() {
        let scrapers = Arc::new(Scrapers::default());
        let prometheus = agent("Prometheus/3.16");
        scrapers.note(origin(1), Some(&prometheus));
        assert_eq!(scrapers.awaited(Instant::now()), 0, "once is not regular");
        tokio::time::advance(INTERVAL).await;
        let visit = scrapers.note(origin(1), Some(&prometheus));
        // Another one at the same address, and the same at another, are others.
        scrapers.note(origin(1), Some(&agent("curl/8")));
        scrapers.note(origin(2), Some(&prometheus));
        assert_eq!(scrapers.awaited(Instant::now()), 1);
        let began = Instant::now();
        let all = scrapers.have_had_their_last(began);
        tokio::pin!(all);
        assert!(tokio::time::timeout(INTERVAL, &mut all).await.is_err());
        visit.was_last();
        all.await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_stayed_away_for_five_intervals_is_not_awaited() {
        let scrapers = Arc::new(Scrapers::default());
        scrapers.note(origin(1), None);
        tokio::time::advance(INTERVAL).await;
        scrapers.note(origin(1), None);
        tokio::time::advance(INTERVAL * 4).await;
        assert_eq!(scrapers.awaited(Instant::now()), 1);
        tokio::time::advance(INTERVAL).await;
        assert_eq!(scrapers.awaited(Instant::now()), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_been_away_for_the_longest_time_is_forgotten_first() {
        let scrapers = Arc::new(Scrapers::default());
        for round in 0..2 {
            for last in 0..=MAX_SCRAPERS as u8 {
                scrapers.note(origin(last), None);
                tokio::time::advance(Duration::from_millis(1)).await;
            }
            assert_eq!(lock(&scrapers.known).len(), MAX_SCRAPERS, "{round}");
        }
    }
}
