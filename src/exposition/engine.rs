//! What every engine does, whatever it reads and writes.

use super::families::Families;
use super::format::{Escaping, Format, Spelling};
use super::lines::End;
use super::protobuf::{ProtobufToText, Splice};
use super::relabel::{OpenMetricsToProtobuf, OpenMetricsToText, Relabel, RelabelOpenMetrics, TextToProtobuf};
use super::rules::Rules;
use super::tally::Tally;
use super::verbatim::Verbatim;

/// A push parser for one body: chunks go in, cut anywhere; what comes of them is appended to a buffer.
pub trait Engine {
    /// Reads a chunk; appends to `out` what comes of each line or message that is whole with it.
    fn push(&mut self, chunk: &[u8], families: &mut Families, out: &mut Vec<u8>);

    /// Ends the body; appends to `out` what is left.
    fn finish(&mut self, end: End, families: &mut Families, out: &mut Vec<u8>);

    /// Whether the body, which is over, may end where it did. One of OpenMetrics may only behind its `# EOF`, one of
    /// protobuf only between two messages: elsewhere it broke off.
    fn is_whole(&self) -> bool {
        true
    }

    /// What came of the body so far.
    fn progress(&self) -> &Tally;

    /// The engine for the rest of a body whose turn is over, if that is another one: what was passed on as it came is checked
    /// from here on, because by now the answer may hold the metadata that follows. This one has ended then.
    fn check_the_rest(&mut self) -> Option<Box<dyn Engine + Send>> {
        None
    }
}

/// The engine that reads `from` and writes `to`. `None` where none is promised: OpenMetrics is made of OpenMetrics only,
/// so it is chosen only where nothing else can come.
#[must_use]
pub fn engine(from: Format, to: Spelling, rules: &Rules) -> Option<Box<dyn Engine + Send>> {
    let Spelling { format, escaping } = to;
    Some(match (from, format) {
        (Format::Text(_), Format::Text(_)) => Box::new(Relabel::new(rules, escaping)),
        (Format::Text(_), Format::Protobuf) => Box::new(TextToProtobuf::new(rules, escaping)),
        (Format::OpenMetrics(_), Format::Text(_)) => Box::new(OpenMetricsToText::new(rules, escaping)),
        (Format::OpenMetrics(_), Format::OpenMetrics(_)) => Box::new(RelabelOpenMetrics::new(rules, escaping)),
        (Format::OpenMetrics(_), Format::Protobuf) => Box::new(OpenMetricsToProtobuf::new(rules, escaping)),
        (Format::Protobuf, Format::Text(_)) => Box::new(ProtobufToText::new(rules, escaping)),
        (Format::Protobuf, Format::Protobuf) => Box::new(Splice::new(rules, escaping)),
        (Format::Text(_) | Format::Protobuf, Format::OpenMetrics(_)) => return None,
    })
}

/// The engine that passes text on as it comes, up to a number of samples. `escaping` is for what is checked later.
#[must_use]
pub fn verbatim(rules: &Rules, escaping: Escaping) -> Box<dyn Engine + Send> {
    Box::new(Verbatim::new(rules.sample_limit, escaping))
}
