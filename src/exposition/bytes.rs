//! Bytes: which one may stand where, where a run of them ends, and how a person may be shown them.
//!
//! The classes are those of Prometheus's lexer (`model/textparse/promlex.l`). A name outside of the old character set is
//! written for a scraper that reads only that by `UnderscoreEscaping` of prometheus/common (`model/metric.go`), except that a
//! label's colon is escaped, too: there it is kept, and old readers reject it.

use std::ops::Range;

const NAME_START: u8 = 1;
const NAME: u8 = 2;
const LABEL_START: u8 = 4;
const LABEL: u8 = 8;

const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => NAME_START | NAME | LABEL_START | LABEL,
            b':' => NAME_START | NAME,
            b'0'..=b'9' => NAME | LABEL,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

/// A blank: Prometheus knows the space and the tab.
pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The index of the first byte from `start` on that is no blank.
#[inline(always)]
pub(super) fn skip_blanks(line: &[u8], start: usize) -> usize {
    // Both blanks are among the lowest bytes, and most often there is none: one comparison settles that.
    match line.get(start..).unwrap_or_default() {
        // Or there is one space.
        [b' ', b'!'..=u8::MAX, ..] => start + 1,
        [0..=b' ', ..] => skip_some_blanks(line, start),
        _ => start,
    }
}

#[inline(never)]
fn skip_some_blanks(line: &[u8], start: usize) -> usize {
    let rest = &line[start..];
    start + rest.iter().position(|byte| !is_blank(*byte)).unwrap_or(rest.len())
}

/// The end of the metric name that starts at `start`, or `None` if none does.
pub(super) fn metric_name_end(line: &[u8], start: usize) -> Option<usize> {
    name_end(line, start, NAME_START, NAME)
}

/// As [`metric_name_end`] of a line that may begin as a name does that is known.
pub(super) fn known_metric_name_end(line: &[u8], known: &[u8]) -> Option<usize> {
    if known.is_empty() || !line.starts_with(known) {
        return metric_name_end(line, 0);
    }
    Some(run_end(line, known.len(), NAME))
}

/// The end of the label name that starts at `start`, or `None` if none does.
pub(super) fn label_name_end(line: &[u8], start: usize) -> Option<usize> {
    name_end(line, start, LABEL_START, LABEL)
}

fn name_end(line: &[u8], start: usize, first: u8, rest: u8) -> Option<usize> {
    let is_name = CLASSES[*line.get(start)? as usize] & first != 0;
    is_name.then(|| run_end(line, start + 1, rest))
}

/// Where the bytes of a class end that begin at `start`.
fn run_end(line: &[u8], start: usize, class: u8) -> usize {
    let rest = &line[start..];
    start + rest.iter().position(|byte| CLASSES[*byte as usize] & class == 0).unwrap_or(rest.len())
}

/// Whether a metric's name is in the old character set.
pub(super) fn is_old_metric_name(name: &[u8]) -> bool {
    metric_name_end(name, 0) == Some(name.len())
}

/// Whether a label's name is in the old character set.
pub(super) fn is_old_label_name(name: &[u8]) -> bool {
    label_name_end(name, 0) == Some(name.len())
}

/// Appends a name with an underscore for each character that is not in the old set, which `is_old` knows.
pub(super) fn escape_name(name: &[u8], is_old: fn(&[u8]) -> bool, out: &mut Vec<u8>) {
    for (index, character) in String::from_utf8_lossy(name).char_indices() {
        // A digit is none that a name may start with.
        let is_kept = match u8::try_from(character) {
            Ok(byte) => is_old(&[byte]) || (index > 0 && byte.is_ascii_digit()),
            Err(_) => false,
        };
        out.push(if is_kept { character as u8 } else { b'_' });
    }
}

/// Where something starts and ends in its line or message, neither of which is ever longer than this holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// The last `length` bytes before `end`.
    pub(super) fn before(end: usize, length: usize) -> Self {
        Self::new(end - length, end)
    }

    /// What stands there.
    #[inline(always)]
    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.range()]
    }

    pub(super) fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Where it ends.
    pub(super) fn end(self) -> usize {
        self.end as usize
    }
}

/// Eight bytes from `at` on, the first of them lowest.
#[inline(always)]
pub(super) fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    let word = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*word))
}

/// How many bytes two lines have in common from their beginning. Thirty-two bytes a step, then eight.
#[inline(always)]
pub(super) fn common_prefix(one: &[u8], other: &[u8]) -> usize {
    let blocks = one.as_chunks::<32>().0.iter().zip(other.as_chunks::<32>().0);
    let mut at = 32 * blocks.take_while(|(one, other)| one == other).count();
    while let (Some(one), Some(other)) = (word_at(one, at), word_at(other, at)) {
        let difference = one ^ other;
        if difference != 0 {
            return at + difference.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = one[at..].iter().zip(&other[at..]);
    at + rest.take_while(|(one, other)| one == other).count()
}

/// The index of the first quote, backslash or newline from `start` on; the line's length if there is none. Eight bytes a step:
/// this is where most of a body's bytes are looked at.
#[inline(always)]
pub(super) fn plain_run_end(line: &[u8], start: usize) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    const QUOTES: u64 = ONES * b'"' as u64;
    const BACKSLASHES: u64 = ONES * b'\\' as u64;
    const NEWLINES: u64 = ONES * b'\n' as u64;
    /// Sets the high bit of each zero byte; a bit above the lowest one set may be false, the lowest never is.
    const fn zero_bytes(word: u64) -> u64 {
        word.wrapping_sub(ONES) & !word
    }

    let mut at = start;
    while let Some(word) = word_at(line, at) {
        let found = (zero_bytes(word ^ QUOTES) | zero_bytes(word ^ BACKSLASHES) | zero_bytes(word ^ NEWLINES)) & HIGHS;
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let tail = &line[at..];
    at + tail.iter().position(|byte| matches!(byte, b'"' | b'\\' | b'\n')).unwrap_or(tail.len())
}

/// Whether these bytes are UTF-8, which they nearly always are because they are ASCII.
#[inline(always)]
pub(super) fn is_utf8(bytes: &[u8]) -> bool {
    bytes.is_ascii() || std::str::from_utf8(bytes).is_ok()
}

/// A text without what a terminal or a reader would take for orders: control characters, and those that turn the direction
/// of what follows, are written as `\u{…}`.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || is_direction(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// The beginning of a target's bytes, at most `length` of them and cut between two characters, as a person may be shown it.
pub(super) fn shown(bytes: &[u8], length: usize) -> String {
    // Up to three bytes more, so that no character is cut that has a place. What is decoded is never shorter than what it
    // was decoded from.
    let mut text = printable(&String::from_utf8_lossy(&bytes[..bytes.len().min(length + 3)]));
    let end = (0..=length.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or_default());
    text
}

/// Characters that are not seen and change how others are.
fn is_direction(character: char) -> bool {
    matches!(
        character,
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gives_orders_is_written_out() {
        assert_eq!(printable("path=\"/ü\" 1"), "path=\"/ü\" 1");
        assert_eq!(printable("\u{1b}[31m\u{9b}1m\u{7f}\t"), r"\u{1b}[31m\u{9b}1m\u{7f}\t");
        assert_eq!(printable("a\u{202e}b\u{2066}c\u{feff}"), r"a\u{202e}b\u{2066}c\u{feff}");
    }

    #[test]
    fn what_is_shown_ends_between_two_characters() {
        let line = |start: usize| format!("{}{}", "x".repeat(start), "ü€🔥".repeat(100));
        for start in 0..16 {
            let line = line(start);
            let text = shown(line.as_bytes(), 200);
            assert!(line.starts_with(&text), "{text}");
            assert!((197..=200).contains(&text.len()), "{text}");
        }
        assert_eq!(shown(b"short", 200), "short");
        assert_eq!(shown(b"\xff\xe2\x82", 200), "\u{fffd}\u{fffd}");
        assert_eq!(shown(&[0xff; 300], 200).len(), 198);
    }

    #[test]
    fn every_character_outside_the_old_set_becomes_an_underscore() {
        let escape = |name: &str, is_old| {
            let mut out = Vec::new();
            escape_name(name.as_bytes(), is_old, &mut out);
            String::from_utf8(out).unwrap()
        };
        for (name, metric, label) in [
            ("http.server.duration", "http_server_duration", "http_server_duration"),
            ("vllm:running", "vllm:running", "vllm_running"),
            ("0day9", "_day9", "_day9"),
            ("größe 🔥", "gr__e__", "gr__e__"),
            ("\u{ff}", "_", "_"),
        ] {
            assert_eq!(escape(name, is_old_metric_name), metric);
            assert_eq!(escape(name, is_old_label_name), label);
        }
    }
}
