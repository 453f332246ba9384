//! The process: configuration, log, port, signals. Everything else is in the library.

use std::ffi::OsString;
use std::future::Future;
use std::io::{self, Write as _};
use std::pin::pin;
use std::process::ExitCode;
use std::{env, panic};

use clap::Parser as _;
use qpext::aggregate::Aggregator;
use qpext::check;
use qpext::cli::{Arguments, CheckFormat, Command, command_line};
use qpext::config::{Config, ConfigError, Listen, LogFormat, OWN_PORT, default_log_filter};
use qpext::run::{self, Stop};
use qpext::server::{self, Settings};
use qpext::status::{json, text};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{error, info, warn};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets as LogFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt, registry};

/// Lines of the log that wait for their reader, some hundred kilobytes.
const LOG_LINES: usize = 1000;

/// A bad configuration (`EX_USAGE` in `sysexits.h`).
const USAGE: u8 = 64;

/// It cannot serve, or `check` found something.
const FAILURE: u8 = 1;

fn main() -> ExitCode {
    let command = match Arguments::try_parse() {
        Ok(arguments) => arguments.command,
        Err(answer) => return help(&answer),
    };
    if let Some(Command::Run { program }) = &command {
        return run_program(program);
    }
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(error) => return fail(USAGE, &error.to_string()),
    };
    // One thread: a sidecar must not take the processor from the model beside it.
    let runtime = match run::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILURE, &no_runtime(&error)),
    };
    let ended = match command {
        // What would be logged is in the report.
        Some(Command::Check { format }) => runtime.block_on(check(&config, format)),
        _ => {
            let _log = init_log(config.log.clone(), config.log_format);
            runtime.block_on(serve_until_told(config)).map(|()| ExitCode::SUCCESS)
        }
    };
    ended.unwrap_or_else(|Ended { status, why }| fail(status, &why))
}

fn no_runtime(error: &io::Error) -> String {
    format!("cannot start the runtime: {error}")
}

/// Runs a program to its end, and serves beside it if that is asked for.
fn run_program(program: &[OsString]) -> ExitCode {
    let program = command_line(program);
    let is_off = env::var_os(OWN_PORT).is_none_or(|port| port.is_empty());
    let ended = if is_off {
        Err(program.exec())
    } else {
        program.run(serve_beside)
    };
    match ended {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            run::say(&error.to_string());
            ExitCode::from(error.status())
        }
    }
}

/// Serves until the program has ended, if that can be done.
fn serve_beside(stop: Stop) {
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(error) => {
            let _log = init_log(default_log_filter(), LogFormat::Json);
            return error!(%error, "no metrics are served: a variable has a bad value");
        }
    };
    let _log = init_log(config.log.clone(), config.log_format);
    match run::runtime() {
        Ok(runtime) => {
            let serve = |stop: Stop| {
                serve(config.clone(), async {
                    stop.asked().await;
                    info!("stopping: the program has ended");
                })
            };
            runtime.block_on(run::keep_serving(stop, serve));
        }
        Err(error) => error!("no metrics are served: {}", no_runtime(&error)),
    }
}

/// Why the process ends, and with which status.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
struct Ended {
    status: u8,
    why: String,
}

impl From<String> for Ended {
    fn from(why: String) -> Self {
        Self { status: FAILURE, why }
    }
}

impl From<ConfigError> for Ended {
    fn from(error: ConfigError) -> Self {
        Self {
            status: USAGE,
            why: error.to_string(),
        }
    }
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
    fail(USAGE, &format!("{}; see --help", first.join(" ")))
}

async fn check(config: &Config, format: CheckFormat) -> Result<ExitCode, Ended> {
    // Whatever would end the start ends this.
    Settings::new(config)?;
    let report = check::check(config).await.map_err(|error| cannot_set_up(&error))?;
    let text = match format {
        CheckFormat::Table => text::report(&report),
        CheckFormat::Json => format!("{:#}\n", json::report(&report)),
    };
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| format!("cannot write to standard output: {error}"))?;
    Ok(if report.has_findings() {
        ExitCode::from(FAILURE)
    } else {
        ExitCode::SUCCESS
    })
}

fn cannot_set_up(error: &reqwest::Error) -> String {
    format!("cannot set up the HTTP client: {error}")
}

/// Serves until a signal asks the process to end, and the running scrapes are over or another one comes.
async fn serve_until_told(config: Config) -> Result<(), Ended> {
    let mut signals = Signals::new().map_err(|error| format!("cannot listen to signals: {error}"))?;
    let (stop, stopped) = oneshot::channel::<()>();
    let mut serving = pin!(serve(config, async {
        // Told or dropped, it is time to stop.
        let _ = stopped.await;
    }));
    tokio::select! {
        ended = &mut serving => return ended,
        () = signals.next() => {
            info!("stopping: running scrapes are finished first, unless a second signal comes");
            drop(stop);
            tokio::select! {
                ended = &mut serving => return ended,
                () = signals.next() => warn!("a second signal came: running scrapes are cut off"),
            }
        }
    }
    info!("stopped");
    Ok(())
}

/// Serves until it is time to stop, and the running scrapes are over.
async fn serve(config: Config, stop: impl Future<Output = ()>) -> Result<(), Ended> {
    let settings = Settings::new(&config)?;
    let aggregator = Aggregator::new(&config).map_err(|error| cannot_set_up(&error))?;
    let listener = server::bind(config.listen).map_err(|error| cannot_bind(config.listen, &error))?;
    let address = listener
        .local_addr()
        .map_err(|error| format!("cannot tell the address served: {error}"))?;
    config.check_served_at(address.port())?;
    for warning in config.warnings() {
        warn!("{warning}");
    }
    let targets: Vec<String> = aggregator
        .targets()
        .map(|target| format!("{}={}", target.name, target.address))
        .collect();
    info!(
        %address,
        port = address.port(),
        tls = config.security.tls.is_some(),
        version = env!("CARGO_PKG_VERSION"),
        targets = targets.join(" "),
        labels = %config.labels,
        "serving /metrics"
    );
    server::serve(listener, aggregator, settings, stop).await;
    info!("stopped");
    Ok(())
}

fn cannot_bind(listen: Listen, error: &io::Error) -> String {
    let port = listen.port();
    match listen {
        Listen::All { .. } => format!("AGGREGATE_PROMETHEUS_METRICS_PORT=\"{port}\": cannot bind the port: {error}"),
        Listen::One(address) => format!(
            "QPEXT_BIND_ADDRESS=\"{}\", AGGREGATE_PROMETHEUS_METRICS_PORT=\"{port}\": cannot bind: {error}",
            address.ip()
        ),
    }
}

/// The signals that ask a process to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Ready when the next one comes.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Starts the log. What is returned writes what is left when it is dropped.
///
/// Lines are handed to a thread, and dropped where it cannot keep up: a log that nobody reads must not stop a scrape.
///
/// A panic is one event, like any other.
fn init_log(filter: LogFilter, format: LogFormat) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LOG_LINES)
        .finish(io::stderr());
    // The module that logs is of no use to an operator, and JSON has one place for it and for the scrape's target.
    let layer = fmt::layer().with_writer(writer).with_target(false);
    let layer = match format {
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
        LogFormat::Text => layer.with_ansi(false).boxed(),
    };
    registry().with(layer.with_filter(filter)).init();
    panic::set_hook(Box::new(
        |panic| error!(%panic, "a panic, which costs what it happened in"),
    ));
    guard
}

/// Says in one line why the process ends. Where standard error is closed, the exit status has to do.
fn fail(status: u8, why: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "qpext: {why}");
    ExitCode::from(status)
}
