//! Bodies of `io.prometheus.client.MetricFamily` messages, each behind its length.
//!
//! * [`Splice`] checks every metric and adds a [`LabelSet`](super::LabelSet) to it: protobuf in, protobuf out.
//! * [`ProtobufToText`] does the same and writes Prometheus's text.
//! * [`MessageOutput`] puts the lines of another body together into messages.
//!
//! The path of a body: `body` has `messages` cut it into messages, `family` reads what a family says of itself, `metric` judges each
//! of its metrics with `labels`, `histogram` and `schema`. All of them read with `wire`.
//!
//! The path of a line: `output` reads its numbers and encodes its labels, `building` puts it to its metric, `encoding` writes
//! that metric's parts.

mod body;
mod building;
mod encoding;
mod family;
mod histogram;
mod labels;
mod messages;
mod metric;
mod numbers;
mod output;
mod schema;
mod splice;
mod to_text;
pub(super) mod wire;

pub use messages::MAX_FAMILY;
pub use output::MessageOutput;
pub use splice::Splice;
pub use to_text::ProtobufToText;
