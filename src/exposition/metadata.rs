//! What a line is, and the kinds of metadata lines in full.
//!
//! In: a line without its newline and, in text, without leading blanks. Out: a [`Line`].

use super::chars::{is_blank, metric_name_end, skip_blanks};
use super::sample::{Malformed, Name, quoted_name};

/// The type of a metric family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricType {
    /// A count that only rises.
    Counter,
    /// A number that rises and falls.
    Gauge,
    /// A distribution, in buckets.
    Histogram,
    /// A distribution that rises and falls, in buckets; OpenMetrics only.
    GaugeHistogram,
    /// A distribution, in quantiles.
    Summary,
    /// Words about something; OpenMetrics only.
    Info,
    /// Which of some states hold; OpenMetrics only.
    StateSet,
    /// Nobody knows: `untyped` in text, `unknown` in OpenMetrics.
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

    fn from_open_metrics(text: &[u8]) -> Option<Self> {
        Some(match text {
            b"gaugehistogram" => Self::GaugeHistogram,
            b"info" => Self::Info,
            b"stateset" => Self::StateSet,
            b"unknown" => Self::Untyped,
            b"untyped" => return None,
            _ => return Self::from_text(text),
        })
    }

    /// The word for it in Prometheus's text format, which knows but five.
    pub(super) fn in_text(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge | Self::Info | Self::StateSet => "gauge",
            Self::Histogram | Self::GaugeHistogram => "histogram",
            Self::Summary => "summary",
            Self::Untyped => "untyped",
        }
    }

    /// The word for it in OpenMetrics.
    pub(super) fn in_open_metrics(self) -> &'static str {
        match self {
            Self::GaugeHistogram => "gaugehistogram",
            Self::Info => "info",
            Self::StateSet => "stateset",
            Self::Untyped => "unknown",
            _ => self.in_text(),
        }
    }
}

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Nothing, or a comment that is no metadata.
    Comment,
    /// `# HELP name text`, `# TYPE name type` or `# UNIT name unit`
    Metadata(Metadata),
    /// A metadata line that Prometheus, or a strict reader, rejects.
    MalformedMetadata,
    /// `# EOF`, the end of an OpenMetrics body.
    Eof,
    /// Neither blank nor a comment: a sample, if [`Scanner`](super::sample::Scanner) agrees.
    Sample,
}

/// A metadata line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    pub(super) keyword: Keyword,
    pub(super) name: Name,
    /// Where the text behind the name starts.
    pub(super) text: usize,
}

/// What a metadata line tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keyword {
    Help,
    Type(MetricType),
    Unit,
}

impl Line {
    /// Tells what a line of text is. Samples are left unchecked.
    #[inline]
    pub(super) fn of_text(line: &[u8]) -> Self {
        match line.first() {
            None => Self::Comment,
            Some(b'#') => Self::of_text_comment(line),
            Some(_) => Self::Sample,
        }
    }

    fn of_text_comment(line: &[u8]) -> Self {
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
        let name = skip_blanks(line, keyword + 4);
        if name == keyword + 4 {
            // `# HELPFUL` and a bare `# HELP` are comments.
            return Self::Comment;
        }
        let Some((name, text)) = name_and_text(line, name) else {
            return Self::MalformedMetadata;
        };
        if is_help {
            return Self::metadata(is_utf8(line, text).then_some(Keyword::Help), name, text);
        }
        let kind = MetricType::from_text(&line[text..]);
        Self::metadata(kind.map(Keyword::Type), name, text)
    }

    /// Tells what a line of OpenMetrics is. Samples are left unchecked.
    pub(super) fn of_open_metrics(line: &[u8]) -> Self {
        match line.first() {
            None => return Self::Comment,
            Some(b'#') => {}
            Some(_) => return Self::Sample,
        }
        let Some((word, name)) = line.get(2..7).zip(line.get(7..)).filter(|_| line[1] == b' ') else {
            return if line == b"# EOF" { Self::Eof } else { Self::Comment };
        };
        if !matches!(word, b"HELP " | b"TYPE " | b"UNIT ") {
            return Self::Comment;
        }
        let Some((name, text)) =
            name_and_text(line, line.len() - name.len()).filter(|(name, _)| line.get(name.outer_end()) == Some(&b' '))
        else {
            return Self::MalformedMetadata;
        };
        let keyword = match word {
            b"HELP " => is_utf8(line, text).then_some(Keyword::Help),
            b"TYPE " => MetricType::from_open_metrics(&line[text..]).map(Keyword::Type),
            _ => is_unit_of(name.of(line), &line[text..]).then_some(Keyword::Unit),
        };
        Self::metadata(keyword, name, text)
    }

    fn metadata(keyword: Option<Keyword>, name: Name, text: usize) -> Self {
        keyword.map_or(Self::MalformedMetadata, |keyword| {
            Self::Metadata(Metadata { keyword, name, text })
        })
    }
}

/// Whether a family of this name may have this unit: its name must end in it (`openmetricsparse.go`).
pub(super) fn is_unit_of(name: &[u8], unit: &[u8]) -> bool {
    unit.is_empty() || name.strip_suffix(unit).is_some_and(|stem| stem.ends_with(b"_"))
}

fn is_utf8(line: &[u8], text: usize) -> bool {
    std::str::from_utf8(&line[text..]).is_ok()
}

/// Reads the name at `start`, and where the text behind it and a blank starts. Prometheus would end a name at any byte
/// that it cannot hold and lose that byte; strict readers reject such a line, and so does this.
fn name_and_text(line: &[u8], start: usize) -> Option<(Name, usize)> {
    let name = if line.get(start) == Some(&b'"') {
        quoted_name(line, start).map_err(|Malformed| ()).ok()?
    } else {
        Name {
            start,
            end: metric_name_end(line, start)?,
            is_quoted: false,
        }
    };
    let end = name.outer_end();
    match line.get(end) {
        None => Some((name, end)),
        Some(byte) if is_blank(*byte) => Some((name, end + 1)),
        Some(_) => None,
    }
}
