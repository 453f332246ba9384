//! How a sidecar is told that its pod is about to end.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener, UnixStream};

use tokio::net::UnixListener;

/// Where the sidecar of a port is told to leave: an abstract socket, which belongs to the pod's network, and which nobody reaches from
/// outside of it, however its traffic is led.
fn address(port: u16) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("qpext-leave-{port}"))
}

/// Listens for who tells the sidecar of this port to leave.
pub(crate) fn listen(port: u16) -> io::Result<UnixListener> {
    let listener = StdListener::bind_addr(&address(port)?)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Tells the sidecar that serves this port that the pod is about to end, so that it keeps what its targets say. Does not wait for it.
///
/// # Errors
///
/// Nobody listens: there is no sidecar at this port, or it does not linger.
pub fn tell(port: u16) -> io::Result<()> {
    UnixStream::connect_addr(&address(port)?).map(drop)
}
