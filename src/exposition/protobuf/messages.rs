//! Chunks of a delimited body in, whole messages out.
//!
//! Each message stands behind its length, a varint. A message that lies within a chunk is lent from it; one that is cut
//! across chunks is put together in a buffer that grows as its bytes arrive, never by what a length claims, and that
//! holds at most [`MAX_FAMILY`] bytes.

use super::wire::Varint;
use crate::exposition::counts::DropReason;
use crate::exposition::lines::End;

/// The largest metric family that is read or written, in bytes. A family is held whole, because its length stands before
/// it and because its name may stand behind its metrics; the busiest real ones have some hundred kilobytes, and a sidecar
/// must not be made to hold more than it may use.
pub const MAX_FAMILY: usize = 16 << 20;

/// Room that is kept for the next message, in bytes. Messages of some ten kilobytes are usual; what a larger one took is
/// given back.
const KEPT_CAPACITY: usize = 256 << 10;

/// Splits a body into messages.
#[derive(Debug)]
pub(super) struct Messages {
    state: State,
    /// The start of a message whose end has not come.
    partial: Vec<u8>,
    /// The body ended within a message.
    is_cut: bool,
}

/// What the next byte is.
#[derive(Debug)]
enum State {
    /// A part of a message's length.
    Length(Varint),
    /// A part of a message of this many bytes.
    Message(usize),
    /// A part of a message that is too long, of which this many bytes are to come.
    Skipping(u64),
    /// Anything: a length could not be read, and so where the next message begins cannot be known.
    Lost,
}

impl Default for Messages {
    fn default() -> Self {
        Self {
            state: State::Length(Varint::default()),
            partial: Vec::new(),
            is_cut: false,
        }
    }
}

impl Messages {
    /// Hands each message that is whole with this chunk to `each`, and the reason for each that is lost.
    pub(super) fn push(&mut self, mut chunk: &[u8], mut each: impl FnMut(Result<&[u8], DropReason>)) {
        // A message of no bytes is whole without another byte, so it is not left for the next chunk.
        while !chunk.is_empty() {
            match &mut self.state {
                State::Length(varint) => {
                    let (byte, rest) = (chunk[0], &chunk[1..]);
                    chunk = rest;
                    match varint.push(byte) {
                        Ok(None) => {}
                        Ok(Some(length)) => self.begin(length, &mut each),
                        Err(_) => {
                            self.state = State::Lost;
                            each(Err(DropReason::Malformed));
                        }
                    }
                }
                State::Message(length) => {
                    let missing = *length - self.partial.len();
                    let Some((end_of_message, rest)) = chunk.split_at_checked(missing) else {
                        return self.partial.extend_from_slice(chunk);
                    };
                    chunk = rest;
                    if self.partial.is_empty() {
                        each(Ok(end_of_message));
                    } else {
                        self.partial.extend_from_slice(end_of_message);
                        each(Ok(&self.partial));
                    }
                    self.reset();
                }
                State::Skipping(remaining) => {
                    let skipped = usize::try_from(*remaining).unwrap_or(usize::MAX).min(chunk.len());
                    chunk = &chunk[skipped..];
                    *remaining -= skipped as u64;
                    if *remaining == 0 {
                        self.reset();
                    }
                }
                State::Lost => return,
            }
        }
    }

    /// Ends the body: half a message is dropped. It is a loss to report only if the target says that it was all.
    pub(super) fn finish(&mut self, end: End, each: impl FnOnce(Result<&[u8], DropReason>)) {
        let is_between_messages = match &self.state {
            State::Length(varint) => varint.is_empty(),
            State::Message(_) => false,
            // Already reported.
            State::Skipping(_) | State::Lost => true,
        };
        self.is_cut = !is_between_messages || matches!(self.state, State::Skipping(_));
        self.reset();
        if end == End::Whole && !is_between_messages {
            each(Err(DropReason::Malformed));
        }
    }

    /// Whether the body, which is over, ended between two messages.
    pub(super) fn ended_well(&self) -> bool {
        !self.is_cut
    }

    fn begin(&mut self, length: u64, each: &mut impl FnMut(Result<&[u8], DropReason>)) {
        match usize::try_from(length) {
            Ok(0) => {
                self.reset();
                each(Ok(&[]));
            }
            Ok(length @ ..=MAX_FAMILY) => self.state = State::Message(length),
            _ => {
                self.state = State::Skipping(length);
                each(Err(DropReason::TooLong));
            }
        }
    }

    fn reset(&mut self) {
        self.state = State::Length(Varint::default());
        self.partial.clear();
        self.partial.shrink_to(KEPT_CAPACITY);
    }
}
