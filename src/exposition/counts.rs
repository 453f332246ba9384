//! What an engine kept and what it dropped, told by reason.

/// Why a line is not in the answer although the target sent it. Comments, and metadata that the answer already holds,
/// are no loss and not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DropReason {
    /// Prometheus would reject the line, and with it the whole scrape.
    Malformed,
    /// The line is longer than [`MAX_LINE`](super::MAX_LINE), or the family larger than
    /// [`MAX_FAMILY`](super::MAX_FAMILY) where it is held whole.
    TooLong,
    /// A sample of an untyped family, and [`Untyped::Drop`](super::Untyped::Drop) is in force.
    Untyped,
    /// The target made up more family names than an answer has room for.
    NoRoom,
    /// A sample of a family that the [`Filter`](super::Filter) does not let through.
    Filtered,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [Self; 5] = [
        Self::Malformed,
        Self::TooLong,
        Self::Untyped,
        Self::NoRoom,
        Self::Filtered,
    ];

    /// The reason in a word, as in a label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLong => "too_long",
            Self::Untyped => "untyped",
            Self::NoRoom => "no_room",
            Self::Filtered => "filtered",
        }
    }

    /// Whether what is dropped for it is lost. Otherwise it is dropped because the operator said so.
    #[must_use]
    pub const fn is_loss(self) -> bool {
        match self {
            Self::Malformed | Self::TooLong | Self::NoRoom => true,
            Self::Untyped | Self::Filtered => false,
        }
    }
}

/// What came of one target's lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Samples written to the answer.
    pub samples: u64,
    dropped: [u64; DropReason::ALL.len()],
}

impl Counts {
    /// The lines dropped for this reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }

    /// The lines dropped for any reason.
    #[must_use]
    pub fn dropped_in_all(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// The lines dropped although nobody asked for it.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let reasons = DropReason::ALL.into_iter().filter(|reason| reason.is_loss());
        reasons.map(|reason| self.dropped(reason)).sum()
    }

    /// How many lines were dropped for which reasons: `2 malformed, 1 untyped`, or `none`.
    #[must_use]
    pub fn dropped_in_words(&self) -> String {
        let reasons = DropReason::ALL.into_iter().filter(|reason| self.dropped(*reason) > 0);
        let words: Vec<String> = reasons
            .map(|reason| format!("{} {}", self.dropped(reason), reason.as_str()))
            .collect();
        if words.is_empty() {
            "none".to_owned()
        } else {
            words.join(", ")
        }
    }

    pub(super) fn drop_lines(&mut self, reason: DropReason, lines: u64) {
        self.dropped[reason as usize] += lines;
    }
}
