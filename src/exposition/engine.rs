//! What every engine does, whatever it reads and writes.

use super::counts::Counts;
use super::families::Families;
use super::lines::End;

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
}
