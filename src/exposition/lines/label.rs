//! The parts of one label in a line: its name, its quoted value, and what stands between them and behind.

use super::dialect::Dialect;
use super::scan::Fault;
use crate::exposition::bytes::{Span, is_utf8, label_name_end, metric_name_end, plain_run_end, skip_blanks};
use crate::exposition::labels::NameKind;

/// The label's name that starts at `at`, quoted or not.
#[inline(always)]
pub(super) fn label_name(line: &[u8], at: usize) -> Result<(Span, NameKind), Fault> {
    if line.get(at) == Some(&b'"') {
        let end = quoted_end(line, at + 1)?.end;
        return Ok((Span::new(at + 1, end), NameKind::Quoted));
    }
    match label_name_end(line, at) {
        Some(end) if line.get(end) != Some(&b':') => Ok((Span::new(at, end), NameKind::Old)),
        _ => {
            // The official Python client reads colons, too.
            let end = metric_name_end(line, at).ok_or(Fault::Malformed)?;
            Ok((Span::new(at, end), NameKind::Any))
        }
    }
}

/// Whether this may stand between quotes as a name. It must not be empty, and only the escapes that Prometheus knows may stand
/// in it: so one name is always written in one way. At NUL, which it passes over in a label's value, its lexer stops.
pub(super) fn is_quoted_name(name: &[u8]) -> bool {
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        let is_readable = match byte {
            0 => false,
            b'\\' => matches!(bytes.next(), Some(b'\\' | b'"' | b'n')),
            _ => true,
        };
        if !is_readable {
            return false;
        }
    }
    !name.is_empty() && is_utf8(name)
}

/// Whether what ends here, a quoted name between braces, has no value, and so is the metric's.
pub(super) fn is_alone(line: &[u8], end: usize) -> bool {
    let next = skip_blanks(line, end);
    matches!(line.get(next), Some(b',' | b'}'))
}

/// Behind a label's name: the index behind the quote that opens its value.
#[inline(always)]
pub(super) fn value_start(line: &[u8], name_end: usize) -> Result<usize, Fault> {
    if line[name_end..].starts_with(b"=\"") {
        return Ok(name_end + 2);
    }
    let equals = skip_blanks(line, name_end);
    if line.get(equals) != Some(&b'=') {
        return Err(Fault::Malformed);
    }
    let quote = skip_blanks(line, equals + 1);
    if line.get(quote) != Some(&b'"') {
        return Err(Fault::Malformed);
    }
    Ok(quote + 1)
}

/// Behind a label: the index of the next label or brace, and whether it is reached as it would be written.
#[inline(always)]
pub(super) fn behind_label<D: Dialect>(line: &[u8], label_end: usize) -> Result<(usize, bool), Fault> {
    match line.get(label_end) {
        Some(b'}') => return Ok((label_end, true)),
        Some(b',') if !line.get(label_end + 1).is_some_and(|byte| matches!(byte, b' ' | b'\t')) => {
            return Ok((label_end + 1, true));
        }
        _ => {}
    }
    let at = skip_blanks(line, label_end);
    match line.get(at) {
        Some(b',') => Ok((skip_blanks(line, at + 1), false)),
        Some(b'}') => Ok((at, false)),
        _ if D::IS_LENIENT => Ok((at, false)),
        _ => Err(Fault::Malformed),
    }
}

/// What stands between quotes.
pub(super) struct QuotedText {
    /// The index of the closing quote.
    pub end: usize,
    /// Its escapes are those that every reader knows.
    pub is_plain: bool,
    /// It is UTF-8, and has no escape that no reader takes.
    pub is_readable: bool,
}

/// Finds the quote that closes what starts at `start`.
#[inline(always)]
pub(super) fn quoted_end(line: &[u8], start: usize) -> Result<QuotedText, Fault> {
    let mut at = start;
    let (mut is_plain, mut is_readable) = (true, true);
    loop {
        let stop = plain_run_end(line, at);
        match line.get(stop) {
            Some(b'"') => {
                return Ok(QuotedText { end: stop, is_plain, is_readable: is_readable && is_utf8(&line[start..stop]) });
            }
            None => return Err(Fault::Open),
            Some(b'\n') => at = stop + 1,
            // Any byte may follow a backslash but NUL and a newline, at which Prometheus's lexer stops; one that it does not
            // know, it keeps with its backslash.
            Some(_) => {
                let byte = *line.get(stop + 1).ok_or(Fault::Open)?;
                is_readable &= !matches!(byte, 0 | b'\n');
                is_plain &= matches!(byte, b'\\' | b'"' | b'n');
                at = stop + 2;
            }
        }
    }
}
