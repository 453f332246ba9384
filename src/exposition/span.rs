//! Where something stands in its line or message.

use std::ops::Range;

/// Where something starts and ends in its line or message, neither of which is ever longer than this holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            end: end as u32,
        }
    }

    /// The last `length` bytes before `end`.
    pub(super) fn before(end: usize, length: usize) -> Self {
        Self::new(end - length, end)
    }

    /// What stands there.
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
