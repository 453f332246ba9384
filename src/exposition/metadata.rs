//! What a line of a text body is, and the two kinds of metadata lines in full.
//!
//! In: a line without its newline and without leading blanks. Out: a [`Line`].

use super::chars::{is_blank, metric_name_end, skip_blanks};

/// The type of a metric family, as `# TYPE` names it in Prometheus's text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricType {
    Counter,
    Gauge,
    Histogram,
    Summary,
    Untyped,
}

impl MetricType {
    fn from_text(text: &[u8]) -> Option<Self> {
        Some(match text {
            b"counter" => Self::Counter,
            b"gauge" => Self::Gauge,
            b"histogram" => Self::Histogram,
            b"summary" => Self::Summary,
            b"untyped" => Self::Untyped,
            _ => return None,
        })
    }

    /// Whether a sample whose name ends in `suffix` belongs to a family of this type without that ending.
    pub(super) fn has_series_suffix(self, suffix: &[u8]) -> bool {
        match self {
            Self::Histogram => matches!(suffix, b"_bucket" | b"_sum" | b"_count"),
            Self::Summary => matches!(suffix, b"_sum" | b"_count"),
            Self::Counter | Self::Gauge | Self::Untyped => false,
        }
    }
}

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// Nothing, or a comment that is no metadata.
    Comment,
    /// `# HELP name text`
    Help { name: &'a [u8] },
    /// `# TYPE name type`
    Type { name: &'a [u8], kind: MetricType },
    /// A metadata line that Prometheus, or a strict reader, rejects.
    MalformedMetadata,
    /// Neither blank nor a comment: a sample, if [`Scanner`](super::sample::Scanner) agrees.
    Sample,
}

impl<'a> Line<'a> {
    /// Tells what a line is. Only samples are left unchecked.
    pub(super) fn of(line: &'a [u8]) -> Self {
        match line.first() {
            None => Self::Comment,
            Some(b'#') => Self::of_comment(line),
            Some(_) => Self::Sample,
        }
    }

    fn of_comment(line: &'a [u8]) -> Self {
        let keyword = skip_blanks(line, 1);
        if keyword == 1 {
            // `#HELP` is a comment: Prometheus wants a blank before the word.
            return Self::Comment;
        }
        let rest = &line[keyword..];
        let is_help = rest.starts_with(b"HELP");
        if !is_help && !rest.starts_with(b"TYPE") {
            return Self::Comment;
        }
        let rest = &rest[4..];
        let blanks = skip_blanks(rest, 0);
        if blanks == 0 {
            // `# HELPFUL` and a bare `# HELP` are comments.
            return Self::Comment;
        }
        let Some((name, text)) = name_and_text(&rest[blanks..]) else {
            return Self::MalformedMetadata;
        };
        if is_help {
            return match std::str::from_utf8(text) {
                Ok(_) => Self::Help { name },
                Err(_) => Self::MalformedMetadata,
            };
        }
        match MetricType::from_text(text) {
            Some(kind) => Self::Type { name, kind },
            None => Self::MalformedMetadata,
        }
    }
}

/// Splits `name text` at its first blank. Prometheus would end the name at any byte that no name can hold and lose
/// that byte; strict readers reject such a line, and so does this.
fn name_and_text(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = metric_name_end(rest, 0)?;
    let (name, text) = rest.split_at(end);
    match text.first() {
        None => Some((name, text)),
        Some(byte) if is_blank(*byte) => Some((name, &text[1..])),
        Some(_) => None,
    }
}
