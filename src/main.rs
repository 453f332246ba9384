//! The process: configuration, log, port, signals. Everything else is in the library.

use std::io::{self, Write as _};
use std::process::ExitCode;

use qpext::aggregate::Aggregator;
use qpext::config::{Config, Listen, LogFormat};
use qpext::server;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt, registry};

/// A bad configuration (`EX_USAGE` in `sysexits.h`).
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(error) => return fail(USAGE, &error.to_string()),
    };
    init_log(&config);
    // One thread: a sidecar must not take the processor from the model beside it.
    let ended = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| format!("cannot start the runtime: {error}"))
        .and_then(|runtime| runtime.block_on(run(&config)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}

async fn run(config: &Config) -> Result<(), String> {
    let aggregator = Aggregator::new(config).map_err(|error| format!("cannot set up the HTTP client: {error}"))?;
    let stop = stop_signal().map_err(|error| format!("cannot listen to signals: {error}"))?;
    let listener = server::bind(config.listen).map_err(|error| cannot_bind(config.listen, &error))?;
    let address = listener
        .local_addr()
        .map_err(|error| format!("cannot tell the address served: {error}"))?;
    info!(
        %address,
        port = address.port(),
        version = env!("CARGO_PKG_VERSION"),
        labels = %config.serving_labels,
        "serving /metrics"
    );
    server::serve(listener, aggregator, config.max_concurrent_scrapes.get(), stop).await;
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

/// Ready at the first SIGTERM or SIGINT.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!("stopping: running scrapes are finished first");
    })
}

fn init_log(config: &Config) {
    let layer = fmt::layer().with_writer(io::stderr);
    let layer = match config.log_format {
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
        LogFormat::Text => layer.with_ansi(false).boxed(),
    };
    registry().with(layer.with_filter(config.log.clone())).init();
}

/// Says in one line why the process ends. Where standard error is closed, the exit status has to do.
fn fail(status: u8, why: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "qpext: {why}");
    ExitCode::from(status)
}
