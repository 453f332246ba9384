//! Which clients may be connected at once.
//!
//! In: where a new client comes from. Out: its [`Client`], for whom another may have to leave. A client that is being
//! served never has to, nor one that shares its origin with fewer others than somebody else does.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tracing::warn;

use super::patience::Client;
use super::seldom::Seldom;

/// Connections that are open at once; a quiet one of where most come from makes room for one more. A pod has a handful
/// of scrapers, and each connection costs a file descriptor and some kilobytes.
const MAX_CONNECTIONS: usize = 256;

/// The clients that are connected, and where from.
#[derive(Debug, Default)]
pub(super) struct Clients(Vec<Arc<Client>>);

impl Clients {
    /// A new client, for whom another may have to leave; `None` if every other one is being served.
    pub(super) fn let_in(&mut self, origin: Origin, crowding: &Crowding) -> Option<Arc<Client>> {
        // A connection that is over has dropped its client.
        self.0.retain(|client| Arc::strong_count(client) > 1);
        if self.0.len() >= MAX_CONNECTIONS {
            let Some(index) = self.most_dispensable() else {
                if let Some(times) = crowding.turned_away.happened() {
                    warn!(
                        times,
                        "a client was turned away: {MAX_CONNECTIONS} others are being served"
                    );
                }
                return None;
            };
            self.0.swap_remove(index).put_out();
        }
        let client = Arc::new(Client::new(origin));
        self.0.push(Arc::clone(&client));
        Some(client)
    }

    /// The one that is quiet, of where most come from; of those, the one that has been quiet longest. So whoever opens
    /// many connections loses its own, never a scraper's.
    fn most_dispensable(&self) -> Option<usize> {
        let crowds = crowds(self.0.iter().map(|client| client.origin()));
        let quiet = self.0.iter().enumerate().filter_map(|(index, client)| {
            let since = client.quiet_since()?;
            Some((Reverse(crowds[&client.origin()]), since, index))
        });
        quiet.min().map(|(_, _, index)| index)
    }
}

/// How many come from each origin.
pub(super) fn crowds(origins: impl Iterator<Item = Origin>) -> HashMap<Origin, usize> {
    let mut crowds = HashMap::new();
    for origin in origins {
        *crowds.entry(origin).or_default() += 1;
    }
    crowds
}

/// Where a client comes from: its address, of which a pod has one or two. Of the loopback network's, whoever is inside the
/// pod has millions, so that they count as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Origin(IpAddr);

impl Origin {
    pub(super) fn of(address: SocketAddr) -> Self {
        Self(match address.ip().to_canonical() {
            IpAddr::V4(address) if address.is_loopback() => Ipv4Addr::LOCALHOST.into(),
            address => address,
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What clients do, or have done to them, more often than is worth a line of the log each.
#[derive(Debug, Default)]
pub(super) struct Crowding {
    turned_away: Seldom,
    pub(super) not_accepted: Seldom,
    pub(super) no_handshake: Seldom,
    pub(super) put_out: Seldom,
    pub(super) no_place: Seldom,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(address: &str) -> Origin {
        Origin::of(SocketAddr::new(address.parse().unwrap(), 1))
    }

    #[test]
    fn a_pod_is_one_origin_however_its_address_is_written() {
        assert_eq!(origin("10.0.0.1"), origin("::ffff:10.0.0.1"));
        assert_ne!(origin("10.0.0.1"), origin("10.0.0.2"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8::2"));
        assert_eq!(origin("127.0.0.1"), origin("127.9.8.7"));
    }
}
