//! The signals of a process that stands for another.
//!
//! None is caught. They are held back, and read one by one: so each says who sent it, those that are queued stay as many as
//! were sent, and what was ignored before the start is still ignored in the program.

use std::fs::File;
use std::io;
use std::process;
use std::sync::Arc;

use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::Signal;
use rustix_libc_wrappers::process::SignalExt as _;

/// A signal that came, and whom it concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) signal: Signal,
    /// It is to be passed on.
    pub(super) is_for_program: bool,
    /// A terminal's job is stopped by it, of which this process is a part.
    pub(super) stops_job: bool,
}

/// What a terminal's process group is stopped by.
const STOPS: [Signal; 3] = [Signal::TSTP, Signal::TTIN, Signal::TTOU];

/// What a terminal sends to the whole of the group in its foreground.
const OF_TERMINAL: [Signal; 5] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::CONT, Signal::WINCH];

/// The signals that are held back.
pub(super) struct Signals {
    held: SignalFd,
    before: SigSet,
    /// Whether there is a terminal that sends signals to this process, and to the program with it.
    pub(super) are_of_terminal: bool,
}

impl Signals {
    /// Holds all of them back from now on, in this thread and in those that it starts.
    pub(super) fn hold() -> io::Result<Self> {
        // A parent that ignored it would make every child's status be lost. The handler is never called.
        signal_hook::flag::register(libc::SIGCHLD, Arc::default())?;
        let held = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC)?;
        Ok(Self {
            held,
            before: SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?,
            are_of_terminal: File::open("/dev/tty").is_ok(),
        })
    }

    /// Which ones were held back before.
    pub(super) fn before(&self) -> &SigSet {
        &self.before
    }

    /// Waits for the next one.
    pub(super) fn next(&self) -> Option<Received> {
        let info = self.held.read_signal().ok().flatten()?;
        let signal = i32::try_from(info.ssi_signo).ok().and_then(Signal::from_raw)?;
        let sender = Sender::of(info.ssi_code, info.ssi_pid);
        Some(Received::new(signal, sender, self.are_of_terminal))
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // Those that have come meanwhile do now what they would have done.
        let _ = self.before.thread_set_mask();
    }
}

/// Who sent a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    /// Another process.
    Process,
    /// The kernel, for somebody or on its own account.
    Kernel,
    /// This process: the kernel says so of some of what it sends to who writes where nobody reads.
    Own,
}

impl Sender {
    /// By `si_code` and `si_pid` (sigaction(2)).
    fn of(code: i32, process: u32) -> Self {
        match code {
            1.. => Self::Kernel,
            _ if process == process::id() => Self::Own,
            _ => Self::Process,
        }
    }
}

impl Received {
    fn new(signal: Signal, sender: Sender, are_of_terminal: bool) -> Self {
        let is_stop = are_of_terminal && STOPS.contains(&signal);
        let is_of_terminal = is_stop || are_of_terminal && OF_TERMINAL.contains(&signal);
        // The program has limits of its own, and children.
        let is_of_process = [Signal::XCPU, Signal::XFSZ, Signal::CHILD].contains(&signal);
        Self {
            signal,
            is_for_program: match sender {
                Sender::Process => true,
                Sender::Kernel => !is_of_terminal && !is_of_process,
                Sender::Own => false,
            },
            stops_job: is_stop,
        }
    }
}

/// Lets this process be stopped by a signal that was held back, as it would have been without that.
pub(super) fn stop(signal: Signal) {
    let Ok(signal) = nix::sys::signal::Signal::try_from(signal.as_raw()) else {
        return;
    };
    let mut alone = SigSet::empty();
    alone.add(signal);
    // It stops in the second call, and goes on from there once it is told to. Where nobody could tell it to, the kernel
    // does not let it be stopped.
    let _ = raise(signal)
        .and_then(|()| alone.thread_unblock())
        .and_then(|()| alone.thread_block());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_gets_what_it_has_not_got_and_what_is_not_this_processs_own() {
        use Sender::{Kernel, Own, Process};
        for (signal, sender, are_of_terminal, is_for_program) in [
            (Signal::TERM, Process, false, true),
            (Signal::TERM, Process, true, true),
            (Signal::INT, Process, true, true),
            (Signal::INT, Kernel, true, false),
            (Signal::INT, Kernel, false, true),
            (Signal::WINCH, Kernel, true, false),
            // A timer that was set before the start.
            (Signal::ALARM, Kernel, true, true),
            (Signal::XCPU, Process, false, true),
            (Signal::XCPU, Kernel, false, false),
            (Signal::CHILD, Kernel, false, false),
            (Signal::PIPE, Process, false, true),
            (Signal::PIPE, Own, false, false),
            (Signal::XFSZ, Own, false, false),
        ] {
            let received = Received::new(signal, sender, are_of_terminal);
            let case = format!("{signal:?} {sender:?} {are_of_terminal}");
            assert_eq!(received.is_for_program, is_for_program, "{case}");
            assert!(!received.stops_job, "{case}");
        }
        for (sender, is_for_program) in [(Process, true), (Kernel, false)] {
            let received = Received::new(Signal::TSTP, sender, true);
            assert_eq!((received.is_for_program, received.stops_job), (is_for_program, true));
        }
        assert!(!Received::new(Signal::TSTP, Process, false).stops_job);
    }

    #[test]
    fn who_sent_a_signal_is_told_by_its_code_and_its_process() {
        let own = process::id();
        assert_eq!(Sender::of(libc::SI_KERNEL, 0), Sender::Kernel);
        assert_eq!(Sender::of(libc::CLD_EXITED, own + 1), Sender::Kernel);
        assert_eq!(Sender::of(libc::SI_USER, own + 1), Sender::Process);
        assert_eq!(Sender::of(libc::SI_QUEUE, own + 1), Sender::Process);
        // From outside of the container.
        assert_eq!(Sender::of(libc::SI_USER, 0), Sender::Process);
        assert_eq!(Sender::of(libc::SI_USER, own), Sender::Own);
    }
}
