//! The process: what the command line asks for, and with which status it ends. Everything else is in the library.

#![forbid(unsafe_code)]

mod log;

use std::env;
use std::ffi::OsString;
use std::future::Future;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::pin::pin;
use std::process::ExitCode;

use clap::Parser as _;
use http::HeaderValue;
use qpext::aggregate::Aggregator;
use qpext::check;
use qpext::cli::{Arguments, CheckFormat, Command};
use qpext::config::{Config, ConfigError, Listen, OWN_PORT};
use qpext::leave;
use qpext::run::{self, CommandLine, Stop};
use qpext::server::{self, Settings};
use qpext::status::{json, text};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

/// A bad configuration (`EX_USAGE` in `sysexits.h`).
const USAGE: u8 = 64;

/// It cannot serve, or `check` found something.
const FAILURE: u8 = 1;

fn main() -> ExitCode {
    match Arguments::try_parse() {
        Err(answer) => help(&answer),
        Ok(Arguments { command: Some(Command::Run { program }) }) => run_program(&program),
        Ok(Arguments { command }) => alone(command).unwrap_or_else(|fatal| end(fatal.status(), &fatal.to_string())),
    }
}

#[derive(Debug, thiserror::Error)]
enum Fatal {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{}: {cause}", cannot_bind(*.listen))]
    Bind { listen: Listen, cause: io::Error },
    #[error("no sidecar that lingers is at {OWN_PORT}=\"{port}\": {cause}")]
    NobodyToTell { port: u16, cause: io::Error },
    #[error("cannot {what}: {cause}")]
    Io { what: &'static str, cause: io::Error },
}

impl Fatal {
    /// An error where this was to be done.
    fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Io { what, cause }
    }

    fn status(&self) -> u8 {
        if let Self::Config(_) = self { USAGE } else { FAILURE }
    }
}

/// The variables that say what cannot be bound.
fn cannot_bind(Listen { address, port }: Listen) -> String {
    match address {
        None => format!("{OWN_PORT}=\"{port}\": cannot bind the port"),
        Some(address) => format!("QPEXT_BIND_ADDRESS=\"{address}\", {OWN_PORT}=\"{port}\": cannot bind"),
    }
}

/// Says in one line why the process ends. Where standard error is closed, the exit status has to do.
fn end(status: u8, why: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "qpext: {why}");
    ExitCode::from(status)
}

/// Answers who asks for help or the version; says in one line what is wrong with a command line.
fn help(answer: &clap::Error) -> ExitCode {
    if !answer.use_stderr() {
        // Where standard output is closed, nobody is there to be told.
        let _ = answer.print();
        return ExitCode::SUCCESS;
    }
    let text = answer.to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let first: Vec<&str> = first.trim_start_matches("error: ").split_whitespace().collect();
    end(USAGE, &format!("{}; see --help", first.join(" ")))
}

/// Checks, serves, or tells who serves that it leaves; with no program beside it.
fn alone(command: Option<Command>) -> Result<ExitCode, Fatal> {
    let config = Config::from_env()?;
    if command == Some(Command::Leave) {
        let port = config.listen.port;
        leave::tell(port).map_err(|cause| Fatal::NobodyToTell { port, cause })?;
        return Ok(ExitCode::SUCCESS);
    }
    // One thread: a sidecar must not take the processor from the model beside it.
    let runtime = run::runtime().map_err(Fatal::io("start the runtime"))?;
    // What would be logged is in the report of a check.
    let serves = !matches!(command, Some(Command::Check { .. }));
    let _log = serves.then(|| log::start(config.log.clone(), config.log_format));
    let ended = match command {
        Some(Command::Check { format, accept }) => runtime.block_on(check(&config, format, accept)),
        _ => runtime.block_on(serve_until_told(config)),
    };
    // A resolver may stand still in a thread of its own: nobody waits for that.
    runtime.shutdown_background();
    ended
}

async fn check(config: &Config, format: CheckFormat, accept: Option<HeaderValue>) -> Result<ExitCode, Fatal> {
    // Whatever would end the start ends this.
    Settings::new(config)?;
    let report = check::check(config, accept).await;
    let text = match format {
        CheckFormat::Table => text::report(&report),
        CheckFormat::Json => format!("{:#}\n", json::report(&report)),
    };
    let written = io::stdout().write_all(text.as_bytes());
    written.map_err(Fatal::io("write to standard output"))?;
    Ok(ExitCode::from(if report.to_be_mended() > 0 { FAILURE } else { 0 }))
}

/// Serves until a signal asks the process to end, and the running scrapes are over or another one comes.
async fn serve_until_told(config: Config) -> Result<ExitCode, Fatal> {
    let listen = |kind| signal(kind).map_err(Fatal::io("listen to signals"));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let mut asked = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let mut serving = pin!(serve(config, async {
        // Told or dropped, it is time to stop.
        let _ = stopped.await;
    }));
    tokio::select! {
        ended = &mut serving => return ended.map(|()| ExitCode::SUCCESS),
        () = asked() => {
            info!("stopping: running scrapes are finished first, unless a second signal comes");
            drop(stop);
        }
    }
    tokio::select! {
        ended = &mut serving => ended?,
        () = asked() => {
            warn!("a second signal came: running scrapes are cut off");
            info!("stopped");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a program to its end, and serves beside it if that is asked for.
fn run_program(program: &[OsString]) -> ExitCode {
    let program = CommandLine(program);
    let is_off = env::var_os(OWN_PORT).is_none_or(|port| port.is_empty());
    let ended = if is_off { Err(program.exec()) } else { program.run(serve_beside) };
    ExitCode::from(ended.unwrap_or_else(|error| {
        run::say(&error.to_string());
        error.status()
    }))
}

/// Serves until the program has ended, if that can be done.
fn serve_beside(stop: Stop) {
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(error) => {
            let usual = Config::default();
            let _log = log::start(usual.log, usual.log_format);
            return error!(%error, "no metrics are served: a variable has a bad value");
        }
    };
    let _log = log::start(config.log.clone(), config.log_format);
    match run::runtime().map_err(Fatal::io("start the runtime")) {
        Ok(runtime) => {
            stop.allow(config.linger);
            let serve = |stop: Stop| {
                serve(config.clone(), async {
                    stop.asked().await;
                    info!("stopping: the program has ended");
                })
            };
            runtime.block_on(run::keep_serving(stop, serve));
            runtime.shutdown_background();
        }
        Err(fatal) => error!("no metrics are served: {fatal}"),
    }
}

/// Serves until it is time to stop, and the running scrapes are over.
async fn serve(config: Config, stop: impl Future<Output = ()>) -> Result<(), Fatal> {
    let settings = Settings::new(&config)?;
    let aggregator = Aggregator::new(&config);
    let listen = config.listen;
    let listener = server::bind(listen).map_err(|cause| Fatal::Bind { listen, cause })?;
    let address = listener.local_addr().map_err(Fatal::io("tell the address served"))?;
    config.check_served_at(address.port())?;
    tell(&config, address);
    server::serve(listener, aggregator, settings, stop).await;
    info!("stopped");
    Ok(())
}

/// Logs what is served, and what is odd about it.
fn tell(config: &Config, address: SocketAddr) {
    for warning in config.warnings() {
        warn!("{warning}");
    }
    let targets = config.targets.iter();
    let targets: Vec<String> = targets.map(|target| format!("{}={}", target.name, target.address)).collect();
    info!(
        %address,
        port = address.port(),
        tls = config.security.tls.is_some(),
        version = env!("CARGO_PKG_VERSION"),
        targets = targets.join(" "),
        labels = %config.labels,
        "serving /metrics"
    );
}
