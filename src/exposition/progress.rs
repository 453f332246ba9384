//! What came of one body so far: what was written and dropped and why, the first line to show for it, and whether there is
//! too much of it.

use std::borrow::Borrow;
use std::fmt::Display;
use std::num::NonZeroU64;

use super::bytes::shown;
use super::model::Family;

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
    /// The body broke off in the line or message; or it ended there without a newline, and nothing says that this is its
    /// end.
    CutOff,
    /// A sample of a family that the [`Filter`](super::Filter) does not let through.
    Filtered,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [Self; 6] =
        [Self::Malformed, Self::TooLong, Self::Untyped, Self::NoRoom, Self::CutOff, Self::Filtered];

    /// The reason in a word, as in a label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLong => "too_long",
            Self::Untyped => "untyped",
            Self::NoRoom => "no_room",
            Self::CutOff => "cut_off",
            Self::Filtered => "filtered",
        }
    }

    /// Whether what is dropped for it is lost. Otherwise it is dropped because the operator said so.
    #[must_use]
    pub const fn is_loss(self) -> bool {
        match self {
            Self::Malformed | Self::TooLong | Self::NoRoom | Self::CutOff => true,
            Self::Untyped | Self::Filtered => false,
        }
    }
}

/// What came of one target's lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Samples written to the answer.
    pub samples: u64,
    /// What the answer's format has no place for, though the target sent it.
    pub unwritten: Unwritten,
    /// Untyped families that were given a type.
    pub retyped: u64,
    /// Metrics that no message can tell as they are, or that strict readers of OpenMetrics refuse: each of their samples is written by
    /// itself.
    pub torn: u64,
    dropped: [u64; DropReason::ALL.len()],
}

/// What the format of an answer has no place for. The samples themselves are in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unwritten {
    /// Exemplars.
    pub exemplars: u64,
    /// Native histograms, of which the sum, the count and the classic buckets stay.
    pub native_histograms: u64,
    /// Families whose names have other characters than the old ones, which became underscores.
    pub utf8_names: u64,
}

impl Unwritten {
    /// Whether it is a single thing.
    #[must_use]
    pub fn is_one(&self) -> bool {
        self.exemplars + self.native_histograms + self.utf8_names == 1
    }

    /// It in words: `4 exemplars, 2 native histograms and 3 UTF-8 names`. None, if it is nothing.
    #[must_use]
    pub fn in_words(&self) -> Option<String> {
        let parts = [
            (self.exemplars, "exemplar"),
            (self.native_histograms, "native histogram"),
            (self.utf8_names, "UTF-8 name"),
        ];
        let parts = parts.into_iter().filter(|(count, _)| *count > 0);
        let words: Vec<String> =
            parts.map(|(count, what)| format!("{count} {what}{}", if count == 1 { "" } else { "s" })).collect();
        (!words.is_empty()).then(|| listed(&words))
    }
}

/// Several things as a sentence names them: `one, two and three`.
pub(crate) fn listed<S: Borrow<str> + Display>(words: &[S]) -> String {
    match words.split_last() {
        None => String::new(),
        Some((only, [])) => only.to_string(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

impl std::ops::AddAssign for Unwritten {
    fn add_assign(&mut self, other: Self) {
        self.exemplars += other.exemplars;
        self.native_histograms += other.native_histograms;
        self.utf8_names += other.utf8_names;
    }
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
        let words: Vec<String> =
            reasons.map(|reason| format!("{} {}", self.dropped(reason), reason.as_str())).collect();
        if words.is_empty() { "none".to_owned() } else { words.join(", ") }
    }
}

/// The bytes that an operator is shown of a line: the start of it tells what it is, and a log line must stay one.
pub const MAX_QUOTED: usize = 200;

/// The first line of a body that was dropped although the target's owner hardly meant it to be: as malformed, as too long
/// or for lack of room. A line of which only the exemplar was dropped as malformed is one, too.
///
/// In protobuf it is a message, or a metric of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstDropped {
    /// The number of the line, or of the message, from 1.
    pub line: u64,
    /// The line without the blanks before it, of protobuf the family's name as far as it can be read: at most [`MAX_QUOTED`]
    /// bytes, with U+FFFD for what is no UTF-8, and what a terminal would obey written out ([`printable`](super::printable)).
    pub text: String,
    /// Why it was dropped.
    pub reason: DropReason,
}

/// What came of one body so far, line by line or message by message.
#[derive(Debug)]
pub struct Progress {
    counts: Counts,
    /// The number of the line or message at hand.
    number: u64,
    first_dropped: Option<FirstDropped>,
    limit: u64,
    is_over_limit: bool,
    has_read_other: bool,
}

impl Progress {
    pub(super) fn new(sample_limit: Option<NonZeroU64>) -> Self {
        Self {
            counts: Counts::default(),
            number: 0,
            first_dropped: None,
            limit: sample_limit.map_or(u64::MAX, NonZeroU64::get),
            is_over_limit: false,
            has_read_other: false,
        }
    }

    /// Turns to the next line or message, or to the last of so many lines.
    #[inline(always)]
    pub(super) fn advance(&mut self, lines: u64) {
        self.number += lines;
    }

    /// What was written and dropped.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The first line of the body that was dropped and is a loss.
    ///
    /// There may be losses and no such line: where lines are written as protobuf, two buckets of one bound are found only
    /// when their family ends, and so is a time at which nothing was created. So is, in OpenMetrics, a sample with a timestamp of a
    /// series that has others without.
    #[must_use]
    pub fn first_dropped(&self) -> Option<&FirstDropped> {
        self.first_dropped.as_ref()
    }

    /// Counts what the answer's format has no place for.
    pub(super) fn leave_unwritten(&mut self, unwritten: Unwritten) {
        self.counts.unwritten += unwritten;
    }

    /// Counts metrics that were taken apart.
    pub(super) fn tear(&mut self, metrics: u64) {
        self.counts.torn += metrics;
    }

    /// Notes a family that is written for the first time, under this name.
    pub(super) fn note_family(&mut self, family: &Family<'_>, key: &[u8]) {
        self.counts.retyped += u64::from(!family.is_declared);
        self.counts.unwritten.utf8_names += u64::from(!key.starts_with(family.stem));
    }

    /// Notes that something was read that is no sample.
    pub(super) fn note_read(&mut self) {
        self.has_read_other = true;
    }

    /// Whether anything of the body could be read, be it a comment, or a sample that is left out because the operator said so.
    #[must_use]
    pub fn has_read(&self) -> bool {
        let left_out = [DropReason::Untyped, DropReason::NoRoom, DropReason::Filtered];
        self.has_read_other
            || self.is_over_limit
            || self.counts.samples > 0
            || left_out.iter().any(|reason| self.counts.dropped(*reason) > 0)
    }

    /// The first line of a body of which nothing could be read, though there was something. Of a message, nothing is shown.
    #[must_use]
    pub fn unreadable(&self) -> Option<&str> {
        let first = self.first_dropped.as_ref().filter(|_| !self.has_read())?;
        Some(first.text.as_str()).filter(|text| !text.is_empty())
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
        self.counts.dropped[reason as usize] += lines;
        if lines > 0 && reason.is_loss() {
            self.note_dropped(reason, line);
        }
    }

    /// Keeps the line at hand to show, if it is the first.
    #[cold]
    pub(super) fn note_dropped(&mut self, reason: DropReason, line: &[u8]) {
        self.first_dropped.get_or_insert_with(|| FirstDropped {
            line: self.number,
            text: shown(line, MAX_QUOTED),
            reason,
        });
    }

    /// Counts samples that were written, and are not any more, as dropped.
    pub(super) fn take_back(&mut self, reason: DropReason, samples: u64) {
        self.counts.samples -= samples;
        self.counts.dropped[reason as usize] += samples;
    }

    /// Counts samples that were written as left out behind the limit.
    pub(super) fn leave_out(&mut self, samples: u64) {
        self.counts.samples -= samples;
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new(None)
    }
}
