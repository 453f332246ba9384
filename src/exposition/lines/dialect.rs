//! What Prometheus's text format and OpenMetrics differ in, line by line.

use super::number::{is_canonical_value, is_milliseconds, is_plain_value, is_seconds, is_value};
use crate::exposition::bytes::{Span, is_blank, skip_blanks};
use crate::exposition::model::{Convention, Time};

/// A line format.
pub(in super::super) trait Dialect: std::fmt::Debug + Default + Send + 'static {
    /// What its types and samples are called.
    const CONVENTION: Convention;
    /// Blanks may stand between the parts of a line, and not only between braces; the comma between two labels may be missing.
    const IS_LENIENT: bool;

    /// The index of the part of a line that follows at `at`: behind the blanks, where those may stand.
    #[inline(always)]
    fn part_start(line: &[u8], at: usize) -> usize {
        if Self::IS_LENIENT { skip_blanks(line, at) } else { at }
    }

    /// The index of the first part of a line: behind a byte order mark, and the blanks where those may stand.
    #[inline(always)]
    fn line_start(line: &[u8]) -> usize {
        Self::part_start(line, if line.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 })
    }

    /// Where the labels of an exemplar start that begins at `start`, if it has some between braces.
    fn exemplar_labels(line: &[u8], start: usize) -> Option<usize>;

    /// What follows the labels: a value, perhaps a timestamp, and in OpenMetrics perhaps an exemplar.
    /// `None` if Prometheus would not read it.
    fn numbers(line: &[u8], at: usize) -> Option<Numbers<'_>>;
}

/// Where the value stands, and what follows it.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Numbers<'a> {
    pub value: Span,
    pub time: Option<Time<'a>>,
    /// Where an exemplar begins: in OpenMetrics with the blank before it. In text it is none that belongs there.
    pub exemplar: Option<usize>,
    /// They stand there as they would be written.
    pub are_canonical: bool,
}

/// Prometheus's text format.
#[derive(Debug, Default)]
pub(in super::super) struct PlainText;

/// OpenMetrics.
#[derive(Debug, Default)]
pub(in super::super) struct OpenMetrics;

impl Dialect for PlainText {
    const CONVENTION: Convention = Convention::Text;
    const IS_LENIENT: bool = true;

    #[inline(always)]
    fn numbers(line: &[u8], at: usize) -> Option<Numbers<'_>> {
        let start = skip_blanks(line, at);
        let is_apart = start == at + 1 && line[at] == b' ';
        let mut numbers =
            Numbers { value: Span::new(start, line.len()), time: None, exemplar: None, are_canonical: is_apart };
        if is_plain_value(&line[start..]) {
            return Some(numbers);
        }
        let end = token_end(line, start);
        numbers.value = Span::new(start, end);
        let token = &line[start..end];
        if !is_value(token) {
            return None;
        }
        numbers.are_canonical &= is_canonical_value(token);
        let start = skip_blanks(line, end);
        if is_line_end(&line[start..]) {
            numbers.are_canonical &= end == line.len();
            return Some(numbers);
        }
        if line[start] == b'#' {
            numbers.exemplar = Some(start);
            return Some(numbers);
        }
        let time_end = token_end(line, start);
        let token = &line[start..time_end];
        let time = Time::Milliseconds(token);
        numbers.time = Some(match is_milliseconds(token) {
            true => time,
            // The official Python client reads numbers that are not whole, or have a sign.
            false => {
                numbers.are_canonical = false;
                Time::Number(Some(time).filter(|_| is_value(token))?.milliseconds()?)
            }
        });
        let behind = skip_blanks(line, time_end);
        if line.get(behind) == Some(&b'#') {
            numbers.exemplar = Some(behind);
        } else if !is_line_end(&line[behind..]) {
            return None;
        }
        numbers.are_canonical &= start == end + 1 && line[end] == b' ' && time_end == line.len();
        Some(numbers)
    }

    fn exemplar_labels(line: &[u8], start: usize) -> Option<usize> {
        let brace = skip_blanks(line, start + 1);
        (line.get(brace) == Some(&b'{')).then_some(brace + 1)
    }
}

impl Dialect for OpenMetrics {
    const CONVENTION: Convention = Convention::OpenMetrics;
    const IS_LENIENT: bool = false;

    #[inline(always)]
    fn numbers(line: &[u8], at: usize) -> Option<Numbers<'_>> {
        let value = number(line, at)?;
        let mut numbers =
            Numbers { value, time: None, exemplar: None, are_canonical: is_canonical_value(value.of(line)) };
        let mut at = value.end();
        if at < line.len() && !line[at..].starts_with(EXEMPLAR) {
            let time = number(line, at).filter(|time| is_seconds(time.of(line)))?;
            numbers.time = Some(Time::Seconds(time.of(line)));
            numbers.are_canonical &= is_plain_value(time.of(line));
            at = time.end();
        }
        if line[at..].starts_with(EXEMPLAR) {
            numbers.exemplar = Some(at);
        } else if at != line.len() {
            return None;
        }
        Some(numbers)
    }

    fn exemplar_labels(_: &[u8], start: usize) -> Option<usize> {
        Some(start + EXEMPLAR.len())
    }
}

/// What some programs write before all else, and is nothing.
pub(super) const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The last line of a body in OpenMetrics.
pub(in super::super) const END_MARK: &[u8] = b"# EOF";

/// What begins an exemplar.
pub(super) const EXEMPLAR: &[u8] = b" # {";

/// Where the value and the timestamp of an exemplar stand, which end the line; `at` is behind its labels.
pub(super) fn exemplar_numbers(line: &[u8], at: usize) -> Option<(Span, Option<Time<'_>>)> {
    let value = number(line, at)?;
    if value.end() == line.len() {
        return Some((value, None));
    }
    let time = number(line, value.end()).filter(|time| time.end() == line.len() && is_seconds(time.of(line)))?;
    Some((value, Some(Time::Seconds(time.of(line)))))
}

/// Where a number stands, behind one space at `at`.
#[inline(always)]
fn number(line: &[u8], at: usize) -> Option<Span> {
    if line.get(at) != Some(&b' ') {
        return None;
    }
    let start = at + 1;
    let rest = &line[start..];
    let end = start + rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
    let token = &line[start..end];
    (is_plain_value(token) || is_value(token)).then_some(Span::new(start, end))
}

/// The end of the bytes from `start` on that are neither blanks nor a line's end.
fn token_end(line: &[u8], start: usize) -> usize {
    let rest = &line[start..];
    start + rest.iter().position(ends_line).unwrap_or(rest.len())
}

/// Whether nothing but the end of a line of text is left.
pub(super) fn is_line_end(rest: &[u8]) -> bool {
    rest.iter().all(ends_line)
}

/// Whether a byte may be part of the end of a line of text: a blank, a carriage return, or a NUL, which C leaves behind a text.
pub(super) fn ends_line(byte: &u8) -> bool {
    is_blank(*byte) || matches!(byte, b'\r' | 0)
}

/// A line without such bytes at its end.
pub(super) fn trim_end(line: &[u8], is_end: impl Fn(&u8) -> bool) -> &[u8] {
    let last = line.iter().rposition(|byte| !is_end(byte));
    &line[..last.map_or(0, |last| last + 1)]
}
