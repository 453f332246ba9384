//! Where a target is: read, written down, and compared with others and with where the sidecar itself serves.
//!
//! In: a text, as it stands behind a target's name. Out: an [`Address`], or what was expected.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::num::NonZeroU16;
use std::path::PathBuf;

use url::Url;

use super::{Listen, values};

const DEFAULT_PATH: &str = "/metrics";

/// Where a target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Its URL; where it is behind a socket, with a host that stands for nothing.
    pub url: Url,
    /// The Unix socket behind which it is.
    pub socket: Option<PathBuf>,
}

impl Address {
    /// A port of this machine's, and a path that was read.
    pub(super) fn local(port: u16, path: &str) -> Self {
        let url = format!("http://localhost:{port}{path}");
        let url = url.parse().expect("a host, a port and a path make a URL");
        Self { url, socket: None }
    }

    pub(super) fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or_default()
    }

    /// The path, and the query if it has one.
    pub(super) fn path(&self) -> &str {
        &self.url[url::Position::BeforePath..]
    }

    /// Whether it is the sidecar's own, so that it would scrape itself without end.
    pub(super) fn is_served_at(&self, listen: Listen) -> bool {
        if self.socket.is_some() || self.port() != listen.port {
            return false;
        }
        let name = self.url.domain().map(|name| name.strip_suffix('.').unwrap_or(name));
        if name.is_some_and(|name| name == "localhost" || name.ends_with(".localhost")) {
            return LOOPBACKS.iter().any(|loopback| leads_to(*loopback, listen));
        }
        // A name may be the pod's own. One that nobody knows yet leads nowhere.
        let found = self.url.socket_addrs(|| None).unwrap_or_default();
        found.iter().any(|address| leads_to(address.ip(), listen))
    }

    /// Whether another address looks like the same place, spelt in another way. On two loopback addresses two servers may
    /// listen, so that it is not certain.
    pub(super) fn is_likely(&self, other: &Self) -> bool {
        let is_local = |url: &Url| match url.host() {
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.to_canonical().is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        };
        let is_same = (&self.socket, self.port(), self.path()) == (&other.socket, other.port(), other.path());
        is_same && is_local(&self.url) && is_local(&other.url)
    }
}

/// The URL, or the socket and the path behind it: as it would stand in `QPEXT_TARGETS`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.socket {
            None => write!(f, "{}", self.url),
            Some(socket) => write!(f, "unix:{}:{}", socket.display(), self.path()),
        }
    }
}

const LOOPBACKS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Whether who connects to this address comes to who listens there.
fn leads_to(address: IpAddr, listen: Listen) -> bool {
    let address = address.to_canonical();
    if address.is_unspecified() {
        // Who connects to no address in particular comes to this machine's own.
        return LOOPBACKS.iter().any(|loopback| leads_to(*loopback, listen));
    }
    match listen.address.map(|own| own.to_canonical()) {
        Some(own) if !own.is_unspecified() => own == address,
        // Nothing but an address of this machine can be bound.
        Some(_) | None => UdpSocket::bind((address, 0)).is_ok(),
    }
}

/// Reads where a target is, or says what was expected.
pub(super) fn address_of(text: &str) -> Result<Address, &'static str> {
    let (url, socket) = if let Some(rest) = text.strip_prefix("unix:") {
        let (socket, path) = rest.split_once(':').unwrap_or((rest, DEFAULT_PATH));
        if !socket.starts_with('/') || values::path(path).is_none() {
            return Err("a socket and a path that start with /, such as unix:/run/side.sock:/metrics");
        }
        (format!("http://localhost{path}"), Some(PathBuf::from(socket)))
    } else if text.contains("://") {
        (text.to_owned(), None)
    } else {
        let (place, path) = match text.find('/') {
            Some(slash) => text.split_at(slash),
            None => (text, DEFAULT_PATH),
        };
        // As Prometheus writes targets: a host and a port.
        let (host, port) = place.rsplit_once(':').unwrap_or(("localhost", place));
        if host.is_empty() || port.parse::<NonZeroU16>().is_err() || values::path(path).is_none() {
            return Err(
                "a port from 1 to 65535, a host and a port, either with or without a path, or a URL that starts with \
                 http:// or https://, or a Unix socket such as unix:/run/side.sock:/metrics",
            );
        }
        (format!("http://{host}:{port}{path}"), None)
    };
    let mut parsed: Url = url.parse().map_err(|_| "a URL such as http://127.0.0.1:9400/metrics")?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err("a URL that starts with http:// or https://");
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err("a URL without a user and a password, for which there is basic_auth");
    }
    if parsed.fragment().is_some() {
        return Err("a URL without #");
    }
    if parsed.port() == Some(0) {
        return Err("a port from 1 to 65535");
    }
    let behind_scheme = url.split_once("://").map_or("", |(_, rest)| rest);
    let has_path = behind_scheme.split('?').next().is_some_and(|place| place.contains('/'));
    if !has_path && parsed.path() == "/" {
        parsed.set_path(DEFAULT_PATH);
    }
    Ok(Address { url: parsed, socket })
}
