//! The signals of a process that stands for another.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use rustix::process::Signal;
use rustix_libc_wrappers::process::SignalExt as _;
use tokio::signal::unix::{self, SignalKind, signal};

/// Those that are passed on: all that can be caught but SIGCHLD, and those by which the kernel tells a process what it did
/// wrong itself. SIGPIPE is one of these, though others may send it: a scraper that hangs up causes it here, which the standard
/// library has this process ignore.
const PASSED_ON: [Signal; 22] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::TERM,
    Signal::STKFLT,
    Signal::CONT,
    Signal::TSTP,
    Signal::TTIN,
    Signal::TTOU,
    Signal::URG,
    Signal::XCPU,
    Signal::VTALARM,
    Signal::PROF,
    Signal::WINCH,
    Signal::IO,
    Signal::POWER,
    Signal::ABORT,
    Signal::TRAP,
    Signal::SYS,
];

/// What came.
#[derive(Debug, Clone, Copy)]
pub(super) enum Received {
    /// A child has ended, or several have.
    ChildEnded,
    /// A signal that is meant for the program.
    Other(Signal),
    /// One that concerns nobody: the program has it already, or this process caused it itself.
    Nothing,
}

/// What a terminal sends to everybody in the foreground, the program included.
const OF_TERMINAL: [Signal; 3] = [Signal::HUP, Signal::INT, Signal::QUIT];

/// What a terminal stops and wakes everybody with, this process included, as if it did not catch them.
const OF_JOBS: [Signal; 5] = [Signal::TSTP, Signal::TTIN, Signal::TTOU, Signal::CONT, Signal::WINCH];

/// The signals that are caught.
pub(super) struct Signals(Vec<(Received, unix::Signal)>);

impl Signals {
    /// Catches them from now on.
    pub(super) fn catch(is_at_terminal: bool) -> io::Result<Self> {
        let real_time = (0..).map_while(Signal::rt);
        let caught = PASSED_ON.into_iter().chain(real_time);
        let caught = caught.filter(|signal| !(is_at_terminal && OF_JOBS.contains(signal)));
        let caught = caught.map(|signal| match is_at_terminal && OF_TERMINAL.contains(&signal) {
            true => (Received::Nothing, signal.as_raw()),
            false => (Received::Other(signal), signal.as_raw()),
        });
        let own = [
            (Received::ChildEnded, Signal::CHILD.as_raw()),
            // Its log, where that is a file with a limit.
            (Received::Nothing, Signal::XFSZ.as_raw()),
        ];
        let all = own.into_iter().chain(caught);
        let all = all.map(|(received, number)| Ok((received, signal(SignalKind::from_raw(number))?)));
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
