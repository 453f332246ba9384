//! What came of one body so far: what was written and dropped, the first line to show for it, and whether there is too
//! much of it.

use std::num::NonZeroU64;

use super::counts::{Counts, DropReason};
use super::printable::printable;

/// The bytes that an operator is shown of a line: the start of it tells what it is, and a log line must stay one.
pub const MAX_QUOTED: usize = 200;

/// The first line of a body that was dropped although the target's owner hardly meant it to be: as malformed, as too long
/// or for lack of room. A line of which only the exemplar was dropped as malformed is one, too.
///
/// In protobuf it is a message, or a metric of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offence {
    /// The number of the line, or of the message, from 1.
    pub line: u64,
    /// The line without the blanks before it, of protobuf the family's name as far as it can be read: at most [`MAX_QUOTED`] bytes, with U+FFFD for
    /// what is no UTF-8, and what a terminal would obey written out ([`printable`]).
    pub text: String,
    /// Why it was dropped.
    pub reason: DropReason,
}

/// What came of one body so far, line by line or message by message.
#[derive(Debug)]
pub struct Tally {
    counts: Counts,
    /// The number of the line or message at hand.
    number: u64,
    first_offence: Option<Offence>,
    limit: u64,
    is_over_limit: bool,
}

impl Tally {
    pub(super) fn new(sample_limit: Option<NonZeroU64>) -> Self {
        Self {
            counts: Counts::default(),
            number: 0,
            first_offence: None,
            limit: sample_limit.map_or(u64::MAX, NonZeroU64::get),
            is_over_limit: false,
        }
    }

    /// Turns to the next line or message.
    pub(super) fn next(&mut self) {
        self.number += 1;
    }

    /// What was written and dropped.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The first line of the body that was dropped and is a loss.
    ///
    /// There may be losses and no such line: where lines are written as protobuf, two buckets of one bound are found only
    /// when their family ends, and so is a time at which nothing was created.
    #[must_use]
    pub fn first_offence(&self) -> Option<&Offence> {
        self.first_offence.as_ref()
    }

    /// Whether so many samples more may be written.
    pub(super) fn has_room_for(&self, samples: u64) -> bool {
        samples <= self.limit - self.counts.samples
    }

    /// Counts samples as written, for which there must be room.
    pub(super) fn add(&mut self, samples: u64) {
        self.counts.samples += samples;
    }

    /// Notes that there was a sample beyond the limit.
    pub(super) fn exceed_limit(&mut self) {
        self.is_over_limit = true;
    }

    /// Whether the body has more samples than [`Rules::sample_limit`](super::Rules::sample_limit) allows. Everything from
    /// the first of them on is left out and counted nowhere, and [`Engine::is_whole`](super::Engine::is_whole) tells nothing
    /// any more. What was written is a valid exposition.
    ///
    /// A sample is beyond the limit if there is no fault in it, and neither the filter nor the rule for untyped families
    /// drops it. Where samples are put together, the cut is made where nothing false is told:
    ///
    /// * protobuf written as text: in front of the metric, a histogram say, not all of whose lines have room;
    /// * lines written as protobuf: in front of the histograms or the summaries of the family whose next line has no room,
    ///   because nobody can tell which of them lack a part.
    ///
    /// There, fewer samples are written than are allowed.
    #[must_use]
    pub fn is_over_limit(&self) -> bool {
        self.is_over_limit
    }

    /// Counts the line at hand, or a part of it, as dropped.
    pub(super) fn drop_line(&mut self, reason: DropReason, line: &[u8]) {
        self.drop_lines(reason, 1, line);
    }

    /// Counts parts of the line or message at hand as dropped.
    pub(super) fn drop_lines(&mut self, reason: DropReason, lines: u64, line: &[u8]) {
        self.counts.drop_lines(reason, lines);
        if lines > 0 && reason.is_loss() {
            self.note_offence(reason, line);
        }
    }

    /// Keeps the line at hand to show, if it is the first.
    #[cold]
    pub(super) fn note_offence(&mut self, reason: DropReason, line: &[u8]) {
        self.first_offence.get_or_insert_with(|| Offence {
            line: self.number,
            text: quote(line),
            reason,
        });
    }

    /// Counts samples that were written, and are not any more, as dropped.
    pub(super) fn take_back(&mut self, reason: DropReason, samples: u64) {
        self.counts.samples -= samples;
        self.counts.drop_lines(reason, samples);
    }

    /// Counts samples that were written as left out behind the limit.
    pub(super) fn leave_out(&mut self, samples: u64) {
        self.counts.samples -= samples;
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self::new(None)
    }
}

/// The beginning of a line, decoded.
fn quote(line: &[u8]) -> String {
    // Up to three bytes more, so that no character is cut that has a place. What is decoded is never shorter than what it
    // was decoded from.
    let mut text = printable(&String::from_utf8_lossy(&line[..line.len().min(MAX_QUOTED + 3)]));
    let end = (0..=MAX_QUOTED.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or_default());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_ends_between_two_characters() {
        let line = |start: usize| format!("{}{}", "x".repeat(start), "ü€🔥".repeat(100));
        for start in 0..16 {
            let line = line(start);
            let quoted = quote(line.as_bytes());
            assert!(line.starts_with(&quoted), "{quoted}");
            assert!((MAX_QUOTED - 3..=MAX_QUOTED).contains(&quoted.len()), "{quoted}");
        }
        assert_eq!(quote(b"short"), "short");
        assert_eq!(quote(b"\xff\xe2\x82"), "\u{fffd}\u{fffd}");
        assert_eq!(quote(&[0xff; 300]).len(), 198);
    }
}
