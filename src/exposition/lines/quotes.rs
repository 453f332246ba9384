//! Where quotes end that a newline stands in.

use memchr::memchr;

/// What is known of a line that goes on behind its newline.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Quoted {
    /// Its bytes that are scanned.
    pub scanned: usize,
    /// The last byte was a backslash that escapes the next.
    pub is_escaped: bool,
    /// The line is malformed before these quotes already.
    pub is_malformed: bool,
    /// Where the quotes end.
    pub end: usize,
}

impl Quoted {
    /// Goes on through a piece of what is quoted: the index behind the end of the quotes, if they end there.
    pub(super) fn end_in(&mut self, piece: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < piece.len() {
            if std::mem::take(&mut self.is_escaped) {
                at += 1;
                continue;
            }
            at += memchr::memchr2(b'"', b'\\', &piece[at..])?;
            if piece[at] == b'"' {
                return Some(at + 1);
            }
            self.is_escaped = true;
            at += 1;
        }
        None
    }
}

/// Whether the last byte is a backslash that escapes the next.
pub(super) fn ends_escaped(line: &[u8]) -> bool {
    line.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// Whether a line ends between quotes, whatever else it is. A quote behind a backslash opens none.
pub(super) fn ends_quoted(line: &[u8]) -> bool {
    let mut rest = line;
    while let Some(quote) = memchr(b'"', rest) {
        let is_escaped = rest[..quote].ends_with(b"\\");
        rest = &rest[quote + 1..];
        if is_escaped {
            continue;
        }
        match Quoted::default().end_in(rest) {
            None => return true,
            Some(end) => rest = &rest[end..],
        }
    }
    false
}
