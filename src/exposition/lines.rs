//! Chunks of bytes in, whole lines out.
//!
//! A line that lies within a chunk is lent from it; one that is cut across chunks is put together in a buffer of at
//! most [`MAX_LINE`] bytes. A longer line is skipped to its end and reported once.

use memchr::memchr;

/// The longest line that is read, in bytes, without its newline. Prometheus itself has no limit; a line this long is no
/// sample, and holding it would cost the memory of the whole sidecar.
pub const MAX_LINE: usize = 1 << 20;

/// Room that is given back after an unusually long line, in bytes.
const KEPT_CAPACITY: usize = 64 << 10;

/// Bytes of a line that has become too long that are handed on: more than anybody is shown of it.
const KEPT_START: usize = 1 << 10;

/// A line longer than [`MAX_LINE`], and how it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong<'a>(pub &'a [u8]);

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The target said all it had to say: its last line is whole even if it has no newline.
    Whole,
    /// The body broke off, or was cut: what follows the last newline is a piece of a line and is dropped.
    BrokenOff,
}

/// Splits a body into lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The start of a line whose end has not come.
    partial: Vec<u8>,
    /// The line being read is too long: everything up to the next newline is skipped.
    skipping: bool,
}

impl Lines {
    /// Hands each line that is whole with this chunk to `each`, with its newline.
    pub(super) fn push(&mut self, mut chunk: &[u8], mut each: impl FnMut(Result<&[u8], TooLong<'_>>)) {
        if self.skipping || !self.partial.is_empty() {
            let Some(newline) = memchr(b'\n', chunk) else {
                return self.hold(chunk, &mut each);
            };
            let (end_of_line, rest) = chunk.split_at(newline + 1);
            self.hold(end_of_line, &mut each);
            if !self.skipping {
                each(Ok(&self.partial));
            }
            self.reset();
            chunk = rest;
        }
        while let Some(newline) = memchr(b'\n', chunk) {
            let (line, rest) = chunk.split_at(newline + 1);
            each(if newline > MAX_LINE {
                Err(TooLong(line))
            } else {
                Ok(line)
            });
            chunk = rest;
        }
        if !chunk.is_empty() {
            self.hold(chunk, &mut each);
        }
    }

    /// Hands out the last line, with the newline that it lacks, if it is whole without.
    pub(super) fn finish(&mut self, end: End, each: impl FnOnce(Result<&[u8], TooLong<'_>>)) {
        if end == End::Whole && !self.partial.is_empty() {
            self.partial.push(b'\n');
            each(Ok(&self.partial));
        }
        self.reset();
    }

    /// Keeps a piece of a line, unless the line becomes too long, which is reported at once.
    fn hold(&mut self, piece: &[u8], each: &mut impl FnMut(Result<&[u8], TooLong<'_>>)) {
        if self.skipping {
            return;
        }
        let newline = usize::from(piece.ends_with(b"\n"));
        if self.partial.len() + piece.len() - newline > MAX_LINE {
            let mut start = std::mem::take(&mut self.partial);
            start.truncate(KEPT_START);
            start.extend_from_slice(&piece[..piece.len().min(KEPT_START)]);
            self.skipping = true;
            each(Err(TooLong(&start)));
        } else {
            self.partial.extend_from_slice(piece);
        }
    }

    fn reset(&mut self) {
        self.skipping = false;
        self.partial.clear();
        self.partial.shrink_to(KEPT_CAPACITY);
    }
}

/// A line without its newline.
pub(super) fn text_of(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
}
