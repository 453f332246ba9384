//! The signals of a process that stands for another.
//!
//! None is caught. They are held back, and read one by one: so each says who sent it, those that are queued stay as many as
//! were sent, and what was ignored before the start is still ignored in the program. Two are not, and are at their default
//! there: SIGPIPE, which the standard library ignores here before anything else runs, and SIGCHLD, which cannot be ignored
//! by who asks for a child's status.
//!
//! Real-time signals are held back, too, and go to nobody: nix has names for signals 1 to 31 only.

use std::fs::File;
use std::io;
use std::process;
use std::sync::Arc;

use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{getpid, getsid};

/// A signal that came, and whom it concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    /// The program, which has not got it.
    ForProgram(Signal),
    /// Everybody in this process's group: a terminal has sent it to each of them.
    ForGroup(Signal),
    /// Nobody: it says that a child has ended or stopped, this process caused it itself, or it has no name.
    Nothing,
}

/// What a terminal sends to a group, or has a group sent.
const OF_TERMINAL: [Signal; 8] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGCONT,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGWINCH,
];

/// What a terminal that is gone sends to who leads its session, and to nobody else (credentials(7)).
const OF_HANG_UP: [Signal; 2] = [Signal::SIGHUP, Signal::SIGCONT];

/// The terminal that sends signals to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Terminal {
    /// There is none.
    No,
    /// It sends them to the group.
    Yes,
    /// And to this process alone, when it is gone.
    Led,
}

impl Terminal {
    fn find() -> Self {
        match File::open("/dev/tty") {
            Err(_) => Self::No,
            Ok(_) if getsid(None) == Ok(getpid()) => Self::Led,
            Ok(_) => Self::Yes,
        }
    }
}

pub(super) struct HeldSignals {
    held: SignalFd,
    /// Those that were held back before.
    pub(super) before: SigSet,
    pub(super) terminal: Terminal,
}

impl HeldSignals {
    /// Holds all of them back from now on, in this thread and in those that it starts.
    pub(super) fn hold() -> io::Result<Self> {
        // First, as it needs a file that is closed again: where there is one left, there is one for what follows.
        let terminal = Terminal::find();
        // What this is called for is held back, too. That there is something to call keeps SIGCHLD from being ignored.
        signal_hook::flag::register(libc::SIGCHLD, Arc::default())?;
        let held = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC)?;
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        Ok(Self { held, before, terminal })
    }

    pub(super) fn next(&self) -> Received {
        let info = self.held.read_signal().ok().flatten();
        let received = info.and_then(|info| {
            let signal = Signal::try_from(info.ssi_signo as i32).ok()?;
            let sender = Sender::of(info.ssi_code, info.ssi_pid);
            Some(Received::new(signal, sender, self.terminal))
        });
        received.unwrap_or(Received::Nothing)
    }

    /// Holds back what was held back before, and no more. Those that have come meanwhile do now what they would have done,
    /// but for the one by which this process is told that its last words were too many for a file.
    pub(super) fn release(self) {
        let mut own = SigSet::empty();
        own.add(Signal::SIGXFSZ);
        if let Ok(own) = SignalFd::with_flags(&own, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK) {
            let _ = own.read_signal();
        }
        let _ = self.before.thread_set_mask();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    Process,
    /// The kernel, for somebody or on its own account.
    Kernel,
    /// This process, as the kernel has it of who writes where nobody reads, or more than a file may have.
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
    fn new(signal: Signal, sender: Sender, terminal: Terminal) -> Self {
        // The program has limits of its own, and children.
        let is_of_process = [Signal::SIGXCPU, Signal::SIGXFSZ, Signal::SIGCHLD].contains(&signal);
        let is_for_group = match terminal {
            Terminal::No => false,
            Terminal::Yes => OF_TERMINAL.contains(&signal),
            Terminal::Led => OF_TERMINAL.contains(&signal) && !OF_HANG_UP.contains(&signal),
        };
        match sender {
            Sender::Process => Self::ForProgram(signal),
            Sender::Kernel if is_of_process => Self::Nothing,
            Sender::Kernel if is_for_group => Self::ForGroup(signal),
            Sender::Kernel => Self::ForProgram(signal),
            Sender::Own => Self::Nothing,
        }
    }
}

/// Stops this process, a part of a terminal's job, as the program was stopped. Goes on once the job does; at once, where
/// nobody could have it go on.
pub(super) fn stop(signal: Signal) {
    let signal = match signal {
        Signal::SIGTTIN | Signal::SIGTTOU => signal,
        _ => Signal::SIGTSTP,
    };
    let mut alone = SigSet::empty();
    alone.add(signal);
    // Held back as it is, it stops this process in the second call.
    let _ = raise(signal).and_then(|()| alone.thread_unblock()).and_then(|()| alone.thread_block());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_gets_what_it_has_not_got_and_what_is_not_this_processs_own() {
        use Received::{ForGroup, ForProgram, Nothing};
        use Sender::{Kernel, Own, Process};
        use Terminal::{Led, No, Yes};
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGTSTP, Signal::SIGXCPU, Signal::SIGPIPE] {
            for terminal in [No, Yes, Led] {
                assert_eq!(Received::new(signal, Process, terminal), ForProgram(signal));
            }
        }
        for (signal, terminal, received) in [
            (Signal::SIGINT, No, ForProgram(Signal::SIGINT)),
            (Signal::SIGINT, Yes, ForGroup(Signal::SIGINT)),
            (Signal::SIGINT, Led, ForGroup(Signal::SIGINT)),
            (Signal::SIGHUP, Yes, ForGroup(Signal::SIGHUP)),
            (Signal::SIGHUP, Led, ForProgram(Signal::SIGHUP)),
            (Signal::SIGTSTP, Led, ForGroup(Signal::SIGTSTP)),
            // A timer that was set before the start.
            (Signal::SIGALRM, Yes, ForProgram(Signal::SIGALRM)),
            (Signal::SIGXCPU, No, Nothing),
            (Signal::SIGCHLD, No, Nothing),
        ] {
            assert_eq!(Received::new(signal, Kernel, terminal), received, "{signal:?} {terminal:?}");
        }
        for signal in [Signal::SIGPIPE, Signal::SIGXFSZ] {
            assert_eq!(Received::new(signal, Own, No), Nothing);
        }
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
