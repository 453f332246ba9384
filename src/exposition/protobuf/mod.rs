//! Bodies of `io.prometheus.client.MetricFamily` messages, each behind its length.
//!
//! The path of a body: `read` cuts it into messages and their metrics, `check` judges each of those with `histogram`. `points`
//! takes a metric apart for the line formats, `torn` those that no message can tell as they are. The way back: `write` adds labels to a metric as it came, or reads the numbers of
//! a line; `assemble` puts lines together to metrics, and `encode` writes their parts. All of them read with `wire`.

mod assemble;
mod check;
mod encode;
mod histogram;
mod points;
mod read;
mod torn;
mod wire;
mod write;

pub use read::MAX_FAMILY;

pub(super) use points::for_each_point;
pub(super) use read::MessageReader;
pub(super) use write::MessageWriter;
