//! The log of the process: one event a line on standard error, panics among them.

use std::{io, panic};

use qpext::config::LogFormat;
use tracing::error;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt, registry};

/// Lines of the log that wait for their reader, some hundred kilobytes.
const MAX_WAITING: usize = 1000;

/// Starts the log. What is returned writes what is left when it is dropped.
///
/// Lines are handed to a thread, and dropped where it cannot keep up: a log that nobody reads must not stop a scrape.
pub(crate) fn start(filter: Targets, format: LogFormat) -> WorkerGuard {
    let (writer, guard) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(MAX_WAITING).finish(io::stderr());
    // The module that logs is of no use to an operator, and JSON has one place for it and for the scrape's target.
    let layer = fmt::layer().with_writer(writer).with_target(false);
    let layer = match format {
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
        LogFormat::Text => layer.with_ansi(false).boxed(),
    };
    registry().with(layer.with_filter(filter)).init();
    panic::set_hook(Box::new(|panic| error!(%panic, "a panic, which costs what it happened in")));
    guard
}
