//! The formats in which an exposition is written, and which names it may use.

use std::fmt;

use super::bytes::{escape_name, is_old_metric_name};

/// An exposition format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Prometheus's text format.
    Text(TextVersion),
    /// OpenMetrics text.
    OpenMetrics(OpenMetricsVersion),
    /// `io.prometheus.client.MetricFamily` messages, each behind its length.
    Protobuf,
}

/// A version of Prometheus's text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TextVersion {
    /// The one that everybody reads.
    V0_0_4,
    /// With quoted names, which may hold any character.
    V1_0_0,
}

/// A version of OpenMetrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpenMetricsVersion {
    /// The draft that older clients speak.
    V0_0_1,
    /// The standard.
    V1_0_0,
}

/// Which metric and label names an answer may use (the `escaping` parameter of its media type).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Escaping {
    /// Any that is not empty (`escaping=allow-utf-8`).
    AllowUtf8,
    /// Letters, digits, underscores and, in metric names, colons; every other character becomes an underscore
    /// (`escaping=underscores`).
    Underscores,
}

impl Escaping {
    /// Appends a metric's name, decoded, as it is written.
    pub(super) fn put_metric_name(self, name: &[u8], out: &mut Vec<u8>) {
        if self == Self::AllowUtf8 || is_old_metric_name(name) {
            out.extend_from_slice(name);
        } else {
            escape_name(name, is_old_metric_name, out);
        }
    }
}

/// What an answer is written in: a format, and how names are written in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Spelling {
    /// The format.
    pub format: Format,
    /// Which names it may use.
    pub escaping: Escaping,
}

/// The format and its version, in words.
impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(TextVersion::V0_0_4) => "text 0.0.4",
            Self::Text(TextVersion::V1_0_0) => "text 1.0.0",
            Self::OpenMetrics(OpenMetricsVersion::V0_0_1) => "OpenMetrics 0.0.1",
            Self::OpenMetrics(OpenMetricsVersion::V1_0_0) => "OpenMetrics 1.0.0",
            Self::Protobuf => "protobuf",
        })
    }
}
