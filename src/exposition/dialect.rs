//! What Prometheus's text format and OpenMetrics differ in, line by line.

use super::chars::{is_blank, skip_blanks};
use super::metadata::{Line, MetricType};
use super::sample::{Malformed, exemplar_labels};
use super::span::Span;
use super::value::{is_plain_value, is_timestamp, is_value};

/// A line format.
pub trait Dialect: std::fmt::Debug + 'static {
    /// It is OpenMetrics.
    const IS_OPEN_METRICS: bool;
    /// Two labels may stand side by side.
    const COMMA_MAY_BE_MISSING: bool;

    /// The index of the first byte from `at` on that is not to be passed over.
    fn skip_blanks(line: &[u8], at: usize) -> usize;

    /// What follows the labels: a value and more.
    ///
    /// # Errors
    ///
    /// Prometheus would not read it.
    fn numbers(line: &[u8], at: usize) -> Result<Numbers, Malformed>;

    /// What a line is.
    fn line(line: &[u8]) -> Line;

    /// Whether a family of this type has samples that go by other names than its own.
    fn has_parts(kind: MetricType) -> bool;

    /// Whether a sample whose name ends in `suffix` belongs to a family of this type without that ending.
    fn has_part(kind: MetricType, suffix: &[u8]) -> bool;
}

/// Where the value stands, and what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    pub(super) value: Span,
    pub(super) timestamp: Option<Span>,
    pub(super) exemplar: Exemplar,
}

/// The exemplar at the end of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exemplar {
    Absent,
    /// From this index on: ` # {` and what follows.
    At {
        start: u32,
        has_quoted_name: bool,
    },
    /// From this index on there is something that begins as one and that Prometheus would not read.
    Malformed(u32),
}

/// Prometheus's text format.
#[derive(Debug)]
pub enum Text {}

/// OpenMetrics.
#[derive(Debug)]
pub enum OpenMetrics {}

impl Dialect for Text {
    const IS_OPEN_METRICS: bool = false;
    const COMMA_MAY_BE_MISSING: bool = true;

    fn skip_blanks(line: &[u8], at: usize) -> usize {
        skip_blanks(line, at)
    }

    #[inline(always)]
    fn numbers(line: &[u8], at: usize) -> Result<Numbers, Malformed> {
        let start = skip_blanks(line, at);
        let mut numbers = Numbers {
            value: Span::new(start, line.len()),
            timestamp: None,
            exemplar: Exemplar::Absent,
        };
        if is_plain_value(&line[start..]) {
            return Ok(numbers);
        }
        numbers.value = Span::new(start, token_end(line, start));
        if !is_value(numbers.value.of(line)) {
            return Err(Malformed);
        }
        let start = skip_blanks(line, numbers.value.end());
        let end = token_end(line, start);
        if start == end {
            return Ok(numbers);
        }
        if !is_timestamp(&line[start..end]) || skip_blanks(line, end) != line.len() {
            return Err(Malformed);
        }
        numbers.timestamp = Some(Span::new(start, end));
        Ok(numbers)
    }

    fn line(line: &[u8]) -> Line {
        Line::of_text(line)
    }

    fn has_parts(kind: MetricType) -> bool {
        matches!(
            kind,
            MetricType::Histogram | MetricType::GaugeHistogram | MetricType::Summary
        )
    }

    fn has_part(kind: MetricType, suffix: &[u8]) -> bool {
        match kind {
            // In text a gauge histogram is written as a histogram.
            MetricType::Histogram | MetricType::GaugeHistogram => matches!(suffix, b"_bucket" | b"_sum" | b"_count"),
            MetricType::Summary => matches!(suffix, b"_sum" | b"_count"),
            _ => false,
        }
    }
}

impl Dialect for OpenMetrics {
    const IS_OPEN_METRICS: bool = true;
    const COMMA_MAY_BE_MISSING: bool = false;

    fn skip_blanks(_: &[u8], at: usize) -> usize {
        at
    }

    #[inline(always)]
    fn numbers(line: &[u8], at: usize) -> Result<Numbers, Malformed> {
        let value = number(line, at).ok_or(Malformed)?;
        let mut numbers = Numbers {
            value,
            timestamp: None,
            exemplar: Exemplar::Absent,
        };
        let mut at = value.end();
        if at < line.len() && !line[at..].starts_with(EXEMPLAR) {
            let timestamp = number(line, at).ok_or(Malformed)?;
            if seconds(timestamp.of(line)).is_none() {
                return Err(Malformed);
            }
            numbers.timestamp = Some(timestamp);
            at = timestamp.end();
        }
        if line[at..].starts_with(EXEMPLAR) {
            numbers.exemplar = match exemplar(line, at) {
                Ok(parts) => Exemplar::At {
                    start: at as u32,
                    has_quoted_name: parts.labels.iter().any(|label| label.name_span().is_quoted),
                },
                Err(Malformed) => Exemplar::Malformed(at as u32),
            };
        } else if at != line.len() {
            return Err(Malformed);
        }
        Ok(numbers)
    }

    fn line(line: &[u8]) -> Line {
        Line::of_open_metrics(line)
    }

    fn has_parts(kind: MetricType) -> bool {
        !matches!(kind, MetricType::Gauge | MetricType::StateSet | MetricType::Untyped)
    }

    fn has_part(kind: MetricType, suffix: &[u8]) -> bool {
        match kind {
            MetricType::Counter => matches!(suffix, b"_total" | b"_created"),
            MetricType::Histogram => matches!(suffix, b"_bucket" | b"_sum" | b"_count" | b"_created"),
            MetricType::GaugeHistogram => matches!(suffix, b"_bucket" | b"_gsum" | b"_gcount" | b"_created"),
            MetricType::Summary => matches!(suffix, b"_sum" | b"_count" | b"_created"),
            MetricType::Info => suffix == b"_info",
            MetricType::Gauge | MetricType::StateSet | MetricType::Untyped => false,
        }
    }
}

/// What begins an exemplar.
const EXEMPLAR: &[u8] = b" # {";

/// Where the parts of an exemplar stand: its labels, its value and its timestamp.
pub(super) struct ExemplarParts {
    pub labels: Vec<super::sample::Label>,
    pub value: Span,
    pub timestamp: Option<Span>,
}

/// Scans the exemplar that starts at `at`, to the end of the line.
pub(super) fn exemplar(line: &[u8], at: usize) -> Result<ExemplarParts, Malformed> {
    let (labels, behind) = exemplar_labels::<OpenMetrics>(line, at + EXEMPLAR.len())?;
    if line[behind - 2] == b',' {
        // Prometheus reads it from 3.0 on only.
        return Err(Malformed);
    }
    if memchr::memchr(0, &line[at..behind]).is_some() {
        // In a sample's label value its lexer passes over a NUL, here it stops.
        return Err(Malformed);
    }
    let value = number(line, behind).ok_or(Malformed)?;
    let mut parts = ExemplarParts {
        labels,
        value,
        timestamp: None,
    };
    if value.end() < line.len() {
        let timestamp = number(line, value.end()).ok_or(Malformed)?;
        if timestamp.end() != line.len() || seconds(timestamp.of(line)).is_none() {
            return Err(Malformed);
        }
        parts.timestamp = Some(timestamp);
    }
    Ok(parts)
}

/// Where a number stands, behind one space at `at`.
fn number(line: &[u8], at: usize) -> Option<Span> {
    if line.get(at) != Some(&b' ') {
        return None;
    }
    let start = at + 1;
    let rest = &line[start..];
    let end = start + memchr::memchr(b' ', rest).unwrap_or(rest.len());
    let token = &line[start..end];
    (is_plain_value(token) || is_value(token)).then_some(Span::new(start, end))
}

/// A timestamp of OpenMetrics, in seconds.
pub(super) fn seconds(token: &[u8]) -> Option<f64> {
    let seconds: f64 = std::str::from_utf8(token).ok()?.parse().ok()?;
    seconds.is_finite().then_some(seconds)
}

/// A timestamp of OpenMetrics, in milliseconds. It is cut at whole ones, as Prometheus and the official Python client do.
pub(super) fn milliseconds(token: &[u8]) -> Option<i64> {
    let milliseconds = seconds(token)? * 1000.0;
    // Up to 2^63 exclusively, the largest that an `i64` holds.
    (milliseconds.abs() < i64::MAX as f64).then_some(milliseconds as i64)
}

/// The end of the bytes from `start` on that are no blanks.
fn token_end(line: &[u8], start: usize) -> usize {
    let rest = &line[start..];
    start + rest.iter().position(|byte| is_blank(*byte)).unwrap_or(rest.len())
}
