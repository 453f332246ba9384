//! Who stays: which clients may be connected at once, and which scrapes may run.
//!
//! In: where a new client comes from, and what each one does. Out: its [`Client`], and for a scrape its [`Ticket`], for which
//! another may have to leave. A client that is being served never has to leave for one that just connects, nor one that
//! shares its origin with fewer others than somebody else does.
//!
//! A scrape holds a place until its answer is handed over. Where every place is taken, the newcomer is turned away, unless a
//! place is held by a client that does not read, or somebody else holds many of them: then it is that client who leaves.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::warn;

use super::log_limit::LogLimit;
use crate::lock::lock;

/// Connections that are open at once; a quiet one of where most come from makes room for one more. A pod has a handful
/// of scrapers, and each connection costs a file descriptor and some kilobytes.
const MAX_CONNECTIONS: usize = 256;

/// How long a client may leave its answer unread before its place is open to others. A scraper reads at once; it is as
/// long as a scraper that is turned away is asked to wait.
const UNREAD_FOR: Duration = Duration::from_secs(1);

/// Where a client comes from: its address, of which a pod has one or two. Of the loopback network's, whoever is inside the
/// pod has millions, so that they count as one.
pub(super) fn origin(address: SocketAddr) -> IpAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(address) if address.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        address => address,
    }
}

/// What a client is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It connected, or began to send a head.
    SendingHead(Instant),
    /// Its request is being answered.
    Served,
    /// It has had its answer.
    Resting(Instant),
}

/// A client: what it is doing, told by those who know, and whether it is to leave.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) origin: IpAddr,
    phase: Mutex<Phase>,
    /// Who is to be woken when it has had its answer: its next request may have come already.
    reader: Mutex<Option<Waker>>,
    /// Since when a piece of its answer has been waiting for it, where that is a scrape's.
    unread_since: Mutex<Option<Instant>>,
    /// Told to end its connection: somebody else needs the room that it takes.
    pub(super) put_out: Notify,
}

impl Client {
    pub(super) fn new(origin: IpAddr) -> Self {
        Self {
            origin,
            phase: Mutex::new(Phase::SendingHead(Instant::now())),
            reader: Mutex::default(),
            unread_since: Mutex::default(),
            put_out: Notify::new(),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        *lock(&self.phase)
    }

    /// Since when it has been asking nothing, unless it is being served.
    fn quiet_since(&self) -> Option<Instant> {
        match self.phase() {
            Phase::SendingHead(since) | Phase::Resting(since) => Some(since),
            Phase::Served => None,
        }
    }

    /// Whether it has been leaving its answer unread for long.
    fn is_not_reading(&self) -> bool {
        lock(&self.unread_since).is_some_and(|since| since.elapsed() >= UNREAD_FOR)
    }

    /// Its request is being answered until what is returned is dropped.
    pub(super) fn serve(self: &Arc<Self>) -> Served {
        *lock(&self.phase) = Phase::Served;
        Served(Arc::clone(self))
    }

    /// Whoever reads is woken once it has had its answer.
    pub(super) fn wake_when_served(&self, reader: &Waker) {
        *lock(&self.reader) = Some(reader.clone());
    }

    /// Something came of a request's head.
    pub(super) fn bytes_came(&self) {
        let mut phase = lock(&self.phase);
        if matches!(*phase, Phase::Resting(_)) {
            *phase = Phase::SendingHead(Instant::now());
        }
    }
}

#[derive(Debug)]
pub(super) struct Served(Arc<Client>);

impl Drop for Served {
    fn drop(&mut self) {
        *lock(&self.0.phase) = Phase::Resting(Instant::now());
        if let Some(reader) = lock(&self.0.reader).take() {
            reader.wake();
        }
    }
}

/// The clients that are connected, and where from.
#[derive(Debug)]
pub(super) struct Clients {
    connected: Vec<Arc<Client>>,
    limit: usize,
}

impl Clients {
    /// As many as there may be; but no more than take half of the process's file descriptors, because targets take some, too.
    pub(super) fn new() -> Self {
        let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
        let half = usize::try_from(descriptors / 2).unwrap_or(usize::MAX);
        Self { connected: Vec::new(), limit: half.clamp(1, MAX_CONNECTIONS) }
    }

    /// A new client, for whom another may have to leave; `None` if every other one is being served.
    pub(super) fn let_in(&mut self, origin: IpAddr, log_limit: &LogLimit) -> Option<Arc<Client>> {
        // A connection that is over has dropped its client.
        self.connected.retain(|client| Arc::strong_count(client) > 1);
        if self.connected.len() >= self.limit {
            let Some(index) = self.most_dispensable() else {
                if let Some(times) = log_limit.happened("turned away") {
                    warn!(times, "a client was turned away: {} others are being served", self.limit);
                }
                return None;
            };
            self.connected.swap_remove(index).put_out.notify_one();
        }
        let client = Arc::new(Client::new(origin));
        self.connected.push(Arc::clone(&client));
        Some(client)
    }

    /// The one that is quiet, of where most come from; of those, the one that has been quiet longest. So whoever opens
    /// many connections loses its own, never a scraper's.
    fn most_dispensable(&self) -> Option<usize> {
        let crowds = crowds(self.connected.iter().map(|client| client.origin));
        let quiet = self.connected.iter().enumerate().filter_map(|(index, client)| {
            let since = client.quiet_since()?;
            Some((Reverse(crowds[&client.origin]), since, index))
        });
        quiet.min().map(|(_, _, index)| index)
    }
}

/// The places for scrapes.
#[derive(Debug)]
pub(super) struct Admission {
    limit: usize,
    /// Who holds them, each one at most: a client asks one thing at a time.
    places: Mutex<Vec<Arc<Client>>>,
}

/// A place taken; dropped, it is free.
#[derive(Debug)]
pub(super) struct Ticket {
    admission: Arc<Admission>,
    client: Arc<Client>,
}

impl Admission {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, places: Mutex::default() }
    }

    /// Takes a place for this client, if there is one.
    pub(super) fn enter(self: &Arc<Self>, client: Arc<Client>) -> Option<Ticket> {
        let mut places = lock(&self.places);
        if places.len() >= self.limit {
            let unread = places.iter().position(|holder| holder.is_not_reading());
            let index = unread.or_else(|| most_crowded(&places, client.origin))?;
            places.remove(index).put_out.notify_one();
        }
        places.push(Arc::clone(&client));
        Some(Ticket { admission: Arc::clone(self), client })
    }
}

/// The newest place of the origin that holds most of them, if that holds more than the newcomer's would with this one.
fn most_crowded(places: &[Arc<Client>], newcomer: IpAddr) -> Option<usize> {
    let crowds = crowds(places.iter().map(|holder| holder.origin));
    let own = crowds.get(&newcomer).copied().unwrap_or_default();
    let places = places.iter().map(|holder| crowds[&holder.origin]).enumerate();
    let (index, most) = places.max_by_key(|(index, crowd)| (*crowd, *index))?;
    (most > own + 1).then_some(index)
}

impl Ticket {
    /// Says whether a piece of the answer now waits for the client to take it.
    pub(super) fn set_unread(&self, unread: bool) {
        *lock(&self.client.unread_since) = unread.then(Instant::now);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.set_unread(false);
        lock(&self.admission.places).retain(|holder| !Arc::ptr_eq(holder, &self.client));
    }
}

/// How many come from each origin.
fn crowds(origins: impl Iterator<Item = IpAddr>) -> HashMap<IpAddr, usize> {
    let mut crowds = HashMap::new();
    for origin in origins {
        *crowds.entry(origin).or_default() += 1;
    }
    crowds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(address: &str) -> IpAddr {
        super::origin(SocketAddr::new(address.parse().unwrap(), 1))
    }

    #[test]
    fn a_pod_is_one_origin_however_its_address_is_written() {
        assert_eq!(origin("10.0.0.1"), origin("::ffff:10.0.0.1"));
        assert_ne!(origin("10.0.0.1"), origin("10.0.0.2"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8::2"));
        assert_eq!(origin("127.0.0.1"), origin("127.9.8.7"));
    }

    fn client(pod: u8) -> Arc<Client> {
        Arc::new(Client::new([10, 0, 0, pod].into()))
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
        client.put_out.notified().await;
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
        let _held: Vec<_> = crowd.iter().map(|client| admission.enter(Arc::clone(client)).unwrap()).collect();
        assert!(enter(&admission).is_none(), "one of their own has no claim");
        let _scraper = admission.enter(client(2)).unwrap();
        crowd[2].put_out.notified().await;
        assert!(admission.enter(client(2)).is_none(), "two and one is fair");
        let _other = admission.enter(client(3)).unwrap();
        crowd[1].put_out.notified().await;
        assert!(admission.enter(client(4)).is_none(), "one each is fair");
    }
}
