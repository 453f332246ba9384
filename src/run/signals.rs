//! The signals of a process that stands for another.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind, signal};

/// Those that are passed on: all but the ones that nobody can catch, and those by which the kernel tells a process what it
/// did wrong itself.
const PASSED_ON: [Signal; 21] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::PIPE,
    Signal::ALARM,
    Signal::TERM,
    Signal::STKFLT,
    Signal::CONT,
    Signal::TSTP,
    Signal::TTIN,
    Signal::TTOU,
    Signal::URG,
    Signal::XCPU,
    Signal::XFSZ,
    Signal::VTALARM,
    Signal::PROF,
    Signal::WINCH,
    Signal::IO,
    Signal::POWER,
];

/// What came.
#[derive(Debug, Clone, Copy)]
pub(super) enum Received {
    /// A child has ended, or several have.
    ChildEnded,
    /// A signal that is meant for the program.
    Other(Signal),
}

/// The signals that are caught.
pub(super) struct Signals(Vec<(Received, unix::Signal)>);

impl Signals {
    /// Catches them from now on.
    pub(super) fn catch() -> io::Result<Self> {
        let passed_on = PASSED_ON.map(|signal| (Received::Other(signal), SignalKind::from_raw(signal.as_raw())));
        let all = [(Received::ChildEnded, SignalKind::child())]
            .into_iter()
            .chain(passed_on);
        let all = all.map(|(received, kind)| Ok((received, signal(kind)?)));
        Ok(Self(all.collect::<io::Result<_>>()?))
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Received {
        poll_fn(|cx| {
            let mut all = self.0.iter_mut();
            let came = all.find_map(|(received, signal)| signal.poll_recv(cx).is_ready().then_some(*received));
            came.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}
