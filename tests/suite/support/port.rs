//! Ports that are nobody else's: tests run side by side, and what is free one moment is taken the next.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// A port of the machine itself, both of 127.0.0.1 and of ::1, held by sockets at which nobody listens. Connections to it
/// are refused, nobody else is given it, and whoever is told its number can listen on it: the kernel lets sockets that all
/// say that they share an address share it, as long as at most one of them listens.
pub struct Port {
    address: SocketAddr,
    _held: [Option<TcpSocket>; 2],
}

impl Port {
    /// A free port, to listen on at this address.
    pub fn at(address: IpAddr) -> Self {
        loop {
            let socket = bound((address, 0).into()).expect("a free port");
            let taken = socket.local_addr().expect("it is bound");
            let other: IpAddr = match address {
                IpAddr::V4(_) => Ipv6Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv4Addr::LOCALHOST.into(),
            };
            // A machine may have but one of them, which is then enough.
            let other = match bound((other, taken.port()).into()) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => continue,
                other => other.ok(),
            };
            return Self { address: taken, _held: [Some(socket), other] };
        }
    }

    /// A free port, to listen on at 127.0.0.1.
    pub fn new() -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into())
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn number(&self) -> u16 {
        self.address.port()
    }

    /// Listens on it.
    pub fn listen(&self) -> TcpListener {
        let socket = bound(self.address).expect("it may be shared");
        socket.listen(BACKLOG).expect("nobody else listens")
    }
}

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}
