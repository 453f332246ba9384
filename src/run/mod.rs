//! `qpext run`: a program, and the aggregate beside it.
//!
//! In: the program's command line, and what serves metrics. Out: the program's exit status. KServe has the sidecar in the
//! queue-proxy's own container, where the program carries every request: it is started before anything else is read or
//! bound, it gets every signal, and nothing that the metrics do reaches it. So they have a thread of their own, where they
//! may fail, hang or panic.
//!
//! As a container's first process this one inherits whatever the program leaves behind, and takes leave of it.

mod signals;

use std::env;
use std::ffi::{CString, NulError, OsStr, OsString};
use std::future::Future;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawnp};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, getpgid, write};
use tokio::runtime::{self, Runtime};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use crate::config::OWN_PORT;
use crate::leave;
use signals::{HeldSignals, Received, Terminal, stop};

/// The program was found, and cannot be run (as shells have it).
const NOT_EXECUTABLE: u8 = 126;
/// There is no such program.
const NOT_FOUND: u8 = 127;
/// What is added to the number of the signal that ended the program; alone where that is a real-time signal, whose number
/// nix does not tell.
const SIGNALLED: u8 = 128;

/// How long scrapes may go on once the program is gone: enough for one that is being answered, and nothing to the kubelet.
const LAST_SCRAPES: Duration = Duration::from_secs(1);

/// How long to wait before serving is tried again; twice as long each time.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// A command line: the program, which is there (a path, or a name to be looked for on the `PATH`), and its arguments.
#[derive(Debug, Clone, Copy)]
pub struct CommandLine<'a>(pub &'a [OsString]);

/// The program could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {program:?}: {cause}")]
pub struct StartError {
    program: OsString,
    cause: io::Error,
}

impl StartError {
    /// The exit status that shells have for it.
    pub fn status(&self) -> u8 {
        match self.cause.kind() {
            io::ErrorKind::NotFound => NOT_FOUND,
            _ => NOT_EXECUTABLE,
        }
    }
}

impl CommandLine<'_> {
    /// Becomes the program, of which nothing of this process is in the way then. Returns where that fails.
    pub fn exec(self) -> StartError {
        let cause = process::Command::new(&self.0[0]).args(&self.0[1..]).exec();
        self.failed(cause)
    }

    /// Runs the program to its end, with `metrics` beside it: its exit status, or 128 and the number of the signal that
    /// ended it (128 alone, if that is a real-time one).
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn run(self, metrics: impl FnOnce(Stop) + Send + 'static) -> Result<u8, StartError> {
        // What this process would need beside it, the program can do without.
        let signals = match HeldSignals::hold() {
            Ok(signals) => signals,
            Err(error) => {
                say(&format!("no metrics are served: cannot listen to signals: {error}"));
                return Err(self.exec());
            }
        };
        match self.start(&signals) {
            Ok(program) => Ok(supervise(program, &signals, metrics)),
            Err(error) if is_programs_own(&error.cause) => Err(error),
            Err(StartError { cause, .. }) => {
                say(&format!("no metrics are served: cannot start a program beside them: {cause}"));
                signals.release();
                Err(self.exec())
            }
        }
    }

    fn start(self, signals: &HeldSignals) -> Result<Pid, StartError> {
        let start = || -> io::Result<Pid> {
            let mut how = PosixSpawnAttr::init()?;
            let mut flags = PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF;
            how.set_sigmask(&signals.before)?;
            // The standard library has this process ignore it.
            let mut ignored_here = SigSet::empty();
            ignored_here.add(Signal::SIGPIPE);
            how.set_sigdefault(&ignored_here)?;
            if signals.terminal == Terminal::No {
                // In a group of its own: what somebody sends to this process's comes to it once, from here.
                how.set_pgroup(Pid::from_raw(0))?;
                flags |= PosixSpawnFlags::POSIX_SPAWN_SETPGROUP;
            }
            how.set_flags(flags)?;
            let arguments = self.0.iter().map(|argument| to_c(argument)).collect::<Result<Vec<_>, _>>()?;
            let environment = env::vars_os().map(|(name, value)| to_c(&[name, value].join(OsStr::new("="))));
            let environment = environment.collect::<Result<Vec<_>, _>>()?;
            let files = PosixSpawnFileActions::init()?;
            Ok(posix_spawnp(&arguments[0], &files, &how, &arguments, &environment)?)
        };
        start().map_err(|cause| self.failed(cause))
    }

    fn failed(self, cause: io::Error) -> StartError {
        StartError { program: self.0[0].clone(), cause }
    }
}

fn to_c(text: &OsStr) -> Result<CString, NulError> {
    CString::new(text.as_bytes())
}

/// Whether the program itself is why it cannot be started. What else there is concerns the way in which it is: no room for one
/// more process, say, or a script that does not say what runs it, for which `execvp` has a shell.
fn is_programs_own(cause: &io::Error) -> bool {
    let errors = [Errno::ENOENT, Errno::EACCES, Errno::ENOTDIR, Errno::ELOOP, Errno::ENAMETOOLONG, Errno::E2BIG];
    cause.raw_os_error().is_some_and(|raw| errors.contains(&Errno::from_raw(raw)))
}

/// Says something where there is no log yet, or none any more. Where standard error is closed, or full, nobody is there to be
/// told: nothing is waited for.
pub fn say(what: &str) {
    let error = io::stderr();
    let mut room = [PollFd::new(error.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut room, PollTimeout::ZERO) == Ok(1) {
        let line = format!("qpext: {what}\n");
        // What a pipe takes at once if it takes anything.
        let line = &line.as_bytes()[..line.len().min(libc::PIPE_BUF)];
        // Past the lock, which another thread may have while it waits.
        let _ = write(error.as_fd(), line);
    }
}

/// Waits for the program's end, while metrics are served on a thread of their own; says how it did.
fn supervise(program: Pid, signals: &HeldSignals, metrics: impl FnOnce(Stop) + Send + 'static) -> u8 {
    let (stop_metrics, stopped) = watch::channel(());
    let allowed = Arc::new(AtomicU64::new(0));
    let until = Stop { stopped, allowed: Arc::clone(&allowed) };
    let (ended, has_ended) = mpsc::channel::<()>();
    let thread = thread::Builder::new().name("metrics".to_owned()).spawn(move || {
        // The log is what else may fail, where there is no room for its thread.
        if catch_unwind(AssertUnwindSafe(|| metrics(until))).is_err() {
            say("no metrics are served: they ended with a panic");
        }
        drop(ended);
    });
    if let Err(error) = thread {
        say(&format!("no metrics are served: cannot start a thread: {error}"));
    }
    let status = loop {
        let received = signals.next();
        match reap(program) {
            Some(ProgramEvent::Ended(status)) => break status,
            // The other part of the job: where the program goes on in spite of what was to stop it, so does this process.
            Some(ProgramEvent::Stopped(signal)) if signals.terminal != Terminal::No => stop(signal),
            Some(ProgramEvent::Stopped(_)) | None => {}
        }
        let signal = match received {
            Received::ForProgram(signal) => signal,
            Received::ForGroup(signal) if !is_of_this_group(program) => signal,
            Received::ForGroup(_) | Received::Nothing => continue,
        };
        // It may have ended just now.
        let _ = kill(program, signal);
        if signal == Signal::SIGTERM {
            // What the targets say is kept from now on, if there is anybody to keep it.
            let port = env::var(OWN_PORT).ok().and_then(|port| port.parse().ok());
            let _ = port.map(leave::tell);
        }
    };
    drop(stop_metrics);
    // Ended or not, it is over.
    let patience = LAST_SCRAPES + Duration::from_millis(allowed.load(Ordering::Relaxed));
    let is_over = Arc::new(AtomicBool::new(false));
    let tells = Arc::clone(&is_over);
    let waits = thread::Builder::new().name("patience".to_owned()).spawn(move || {
        let _ = has_ended.recv_timeout(patience);
        tells.store(true, Ordering::Relaxed);
        // Which wakes who waits for signals.
        let _ = kill(Pid::this(), Signal::SIGCHLD);
    });
    while waits.is_ok() && !is_over.load(Ordering::Relaxed) {
        // A second one is the last word.
        if let Received::ForProgram(Signal::SIGTERM | Signal::SIGINT) = signals.next() {
            break;
        }
        reap(program);
    }
    status
}

fn is_of_this_group(program: Pid) -> bool {
    getpgid(Some(program)) == getpgid(None)
}

/// A runtime on this thread alone.
///
/// # Errors
///
/// The process may have no more files open.
pub fn runtime() -> io::Result<Runtime> {
    // Sockets are looked at after so many turns of tasks, however many of them never wait.
    runtime::Builder::new_current_thread().event_interval(8).enable_io().enable_time().build()
}

#[derive(Debug, Clone, Copy)]
enum ProgramEvent {
    /// It ended, with this status.
    Ended(u8),
    /// This signal stopped it.
    Stopped(Signal),
}

/// Takes leave of every child that has ended, the program's orphans included; says what has become of the program, if that is
/// new.
fn reap(program: Pid) -> Option<ProgramEvent> {
    let mut stopped = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) {
            // Eight bits are all that the kernel keeps of it.
            Ok(WaitStatus::Exited(pid, status)) if pid == program => return Some(ProgramEvent::Ended(status as u8)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => {
                return Some(ProgramEvent::Ended(SIGNALLED + signal as u8));
            }
            Ok(WaitStatus::Stopped(pid, signal)) if pid == program => stopped = Some(ProgramEvent::Stopped(signal)),
            // A real-time signal ended a child, and nix has taken leave of it without a word of which.
            Err(Errno::EINVAL) if !is_child(program) => return Some(ProgramEvent::Ended(SIGNALLED)),
            Ok(WaitStatus::StillAlive) => return stopped,
            Ok(_) | Err(Errno::EINVAL) => {}
            Err(_) => return stopped,
        }
    }
}

/// Whether nobody has taken leave of the program yet.
fn is_child(program: Pid) -> bool {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::Pid(program), look) != Err(Errno::ECHILD)
}

/// Says when it is time to stop.
#[derive(Debug, Clone)]
pub struct Stop {
    stopped: watch::Receiver<()>,
    /// For how many milliseconds the metrics may be served on then.
    allowed: Arc<AtomicU64>,
}

impl Stop {
    /// Ready when it is.
    pub async fn asked(mut self) {
        // Nothing is ever sent: it is time once the sender is gone.
        let _ = self.stopped.changed().await;
    }

    /// Says for how long the metrics are to be served on when it is time to stop.
    pub fn allow(&self, longest: Duration) {
        let milliseconds = longest.as_millis().try_into().unwrap_or(u64::MAX);
        self.allowed.store(milliseconds, Ordering::Relaxed);
    }
}

/// Serves until it is time to stop, whatever comes of one try: where it fails or panics there is another, a while later.
pub async fn keep_serving<F, E>(stop: Stop, mut serve: impl FnMut(Stop) -> F)
where
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    let mut backoff = FIRST_BACKOFF;
    loop {
        let began = Instant::now();
        // As a task, so that it panics alone.
        let why = match tokio::spawn(serve(stop.clone())).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic.to_string(),
        };
        if began.elapsed() >= LONGEST_BACKOFF {
            backoff = FIRST_BACKOFF;
        }
        let seconds = backoff.as_secs_f64();
        warn!(error = why, retry_in_seconds = seconds, "no metrics are served, for now");
        if tokio::time::timeout(backoff, stop.clone().asked()).await.is_ok() {
            return;
        }
        backoff = (backoff * 2).min(LONGEST_BACKOFF);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop() -> (watch::Sender<()>, Stop) {
        let (sender, receiver) = watch::channel(());
        (sender, Stop { stopped: receiver, allowed: Arc::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_or_panics_is_tried_again_later_and_later() {
        let (_sender, stop) = stop();
        let began = Instant::now();
        let mut tries = Vec::new();
        keep_serving(stop, |_| {
            tries.push(began.elapsed().as_millis());
            let number = tries.len();
            async move {
                assert_ne!(number, 1, "the first one panics");
                match number {
                    12 => tokio::time::sleep(LONGEST_BACKOFF).await,
                    13 => return Ok(()),
                    _ => {}
                }
                Err("the port is taken")
            }
        })
        .await;
        let waits = tries.windows(2).map(|pair| pair[1] - pair[0]);
        let waits: Vec<u128> = waits.collect();
        assert_eq!(waits[..9], [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        assert_eq!(waits[11], 30_000 + 250, "it served for a while");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_tried_once_it_is_time_to_stop() {
        let (sender, stop) = stop();
        let mut tries = 0;
        let mut sender = Some(sender);
        keep_serving(stop, |stop| {
            tries += 1;
            if tries == 2 {
                drop(sender.take());
            }
            async move {
                match tries {
                    1 => Err("the port is taken"),
                    _ => {
                        stop.asked().await;
                        Err("too late")
                    }
                }
            }
        })
        .await;
        assert_eq!(tries, 2);
    }
}
