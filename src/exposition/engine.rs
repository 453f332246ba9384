//! What every engine does, whatever it reads and writes.

use super::counts::Counts;
use super::families::Families;
use super::lines::End;
use super::tally::Offence;

/// A push parser for one body: chunks go in, cut anywhere; what comes of them is appended to a buffer.
pub trait Engine {
    /// Reads a chunk; appends to `out` what comes of each line or message that is whole with it.
    fn push(&mut self, chunk: &[u8], families: &mut Families, out: &mut Vec<u8>);

    /// Ends the body; appends to `out` what is left.
    fn finish(&mut self, end: End, families: &mut Families, out: &mut Vec<u8>);

    /// Whether the body, which is over, may end where it did. One of OpenMetrics may only behind its `# EOF`, one of
    /// protobuf only between two messages: elsewhere it broke off.
    fn is_whole(&self) -> bool {
        true
    }

    /// What came of the body so far.
    fn counts(&self) -> Counts;

    /// The first line of the body that was dropped and is a loss.
    ///
    /// There may be losses and no such line: where lines are written as protobuf, two buckets of one bound are found only
    /// when their family ends, and so is a time at which nothing was created.
    fn first_offence(&self) -> Option<&Offence>;

    /// Whether the body has more samples than [`Rules::sample_limit`](super::Rules::sample_limit) allows. Everything from
    /// the first of them on is left out and counted nowhere, and [`Self::is_whole`] tells nothing any more. What was
    /// written is a valid exposition.
    ///
    /// A sample is beyond the limit if there is no fault in it, and neither the filter nor the rule for untyped families
    /// drops it. Where samples are put together, the cut is made where nothing false is told:
    ///
    /// * protobuf written as text: in front of the metric, a histogram say, not all of whose lines have room;
    /// * lines written as protobuf: in front of the histograms or the summaries of the family whose next line has no room,
    ///   because nobody can tell which of them lack a part.
    ///
    /// There, fewer samples are written than are allowed.
    fn is_over_limit(&self) -> bool {
        false
    }
}
