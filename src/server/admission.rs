//! Which scrapes may run at once.
//!
//! A scrape holds a place until its answer is handed over. Where every place is taken, the newcomer is turned away —
//! unless one of the places is held by a client that asked and does not read, or somebody else holds many of them. Then it is
//! that client who leaves.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::clients::{Origin, crowds};
use super::patience::Client;
use crate::lock::lock;

/// How long a client may leave its answer unread before its place is open to others. A scraper reads at once; it is as
/// long as a scraper that is turned away is asked to wait.
const UNREAD_FOR: Duration = Duration::from_secs(1);

/// The places for scrapes.
#[derive(Debug)]
pub(super) struct Admission {
    limit: usize,
    places: Mutex<Vec<Arc<Place>>>,
}

#[derive(Debug)]
struct Place {
    /// Who holds it, and is put out when the place is given to somebody else.
    client: Arc<Client>,
    /// Since when a piece of the answer has been waiting for the client to take it.
    unread_since: Mutex<Option<Instant>>,
}

/// A place taken; dropped, it is free.
#[derive(Debug)]
pub(super) struct Ticket {
    admission: Arc<Admission>,
    place: Arc<Place>,
}

impl Admission {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            places: Mutex::default(),
        }
    }

    /// Takes a place for this client, if there is one.
    pub(super) fn enter(self: &Arc<Self>, client: Arc<Client>) -> Option<Ticket> {
        let mut places = lock(&self.places);
        if places.len() >= self.limit {
            let unread = places.iter().position(|place| place.is_unread());
            let index = unread.or_else(|| most_crowded(&places, client.origin()))?;
            places.remove(index).client.put_out();
        }
        let place = Arc::new(Place {
            client,
            unread_since: Mutex::default(),
        });
        places.push(Arc::clone(&place));
        Some(Ticket {
            admission: Arc::clone(self),
            place,
        })
    }
}

/// The newest place of the origin that holds most of them, if that holds more than the newcomer's would with this one.
fn most_crowded(places: &[Arc<Place>], newcomer: Origin) -> Option<usize> {
    let crowds = crowds(places.iter().map(|place| place.client.origin()));
    let own = crowds.get(&newcomer).copied().unwrap_or_default();
    let places = places.iter().map(|place| crowds[&place.client.origin()]).enumerate();
    let (index, most) = places.max_by_key(|(index, crowd)| (*crowd, *index))?;
    (most > own + 1).then_some(index)
}

impl Place {
    fn is_unread(&self) -> bool {
        lock(&self.unread_since).is_some_and(|since| since.elapsed() >= UNREAD_FOR)
    }
}

impl Ticket {
    /// Says whether a piece of the answer now waits for the client to take it.
    pub(super) fn set_unread(&self, unread: bool) {
        *lock(&self.place.unread_since) = unread.then(Instant::now);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        lock(&self.admission.places).retain(|place| !Arc::ptr_eq(place, &self.place));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(pod: u8) -> Arc<Client> {
        Arc::new(Client::new(Origin::of(([10, 0, 0, pod], 1).into())))
    }

    fn enter(admission: &Arc<Admission>) -> Option<Ticket> {
        admission.enter(client(1))
    }

    #[tokio::test]
    async fn one_more_than_the_limit_is_turned_away_until_a_place_is_free() {
        let admission = Arc::new(Admission::new(2));
        let first = enter(&admission).unwrap();
        let _second = enter(&admission).unwrap();
        assert!(enter(&admission).is_none());
        drop(first);
        assert!(enter(&admission).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_leaves_its_place_to_the_next() {
        let admission = Arc::new(Admission::new(1));
        let client = client(1);
        let slow = admission.enter(Arc::clone(&client)).unwrap();
        slow.set_unread(true);
        assert!(enter(&admission).is_none(), "it has a second to read");
        tokio::time::advance(UNREAD_FOR).await;
        let newcomer = enter(&admission).unwrap();
        client.is_put_out().await;
        drop(slow);
        assert!(enter(&admission).is_none(), "the place is the newcomer's alone");
        drop(newcomer);
        assert!(enter(&admission).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_keeps_its_place() {
        let admission = Arc::new(Admission::new(1));
        let reading = enter(&admission).unwrap();
        reading.set_unread(true);
        tokio::time::advance(UNREAD_FOR * 10).await;
        reading.set_unread(false);
        assert!(enter(&admission).is_none());
    }

    #[tokio::test]
    async fn who_holds_most_places_leaves_one_to_who_holds_none() {
        let admission = Arc::new(Admission::new(3));
        let crowd = [client(1), client(1), client(1)];
        let _held: Vec<_> = crowd
            .iter()
            .map(|client| admission.enter(Arc::clone(client)).unwrap())
            .collect();
        assert!(enter(&admission).is_none(), "one of their own has no claim");
        let _scraper = admission.enter(client(2)).unwrap();
        crowd[2].is_put_out().await;
        assert!(admission.enter(client(2)).is_none(), "two and one is fair");
        let _other = admission.enter(client(3)).unwrap();
        crowd[1].is_put_out().await;
        assert!(admission.enter(client(4)).is_none(), "one each is fair");
    }
}
