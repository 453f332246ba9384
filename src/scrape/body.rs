//! A target's body, up to its limit.
//!
//! In: what the HTTP client pulls, and how it is compressed. Out: chunks, and why there are no more.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use memchr::memchr;

use super::decode::{Decoder, poll_data};
use super::error::ScrapeError;
use crate::exposition::{Held, Room};
use crate::negotiation::Coding;

/// A target's body: chunks as they come, decoded, up to its limit.
pub(crate) struct TargetBody {
    source: Source,
    /// What was looked at, and is still to be given out.
    front: Bytes,
    /// What was read behind that, and is still to be given out.
    gathered: Option<Gathered>,
    /// Behind that there is no more: it ended so.
    ended: Option<Result<(), ScrapeError>>,
    limit: u64,
    /// Bytes that may still come.
    left: u64,
    /// More than that came.
    is_over: bool,
}

/// What is held of a body.
struct Gathered {
    bytes: Vec<u8>,
    held: Held,
}

impl Gathered {
    /// Adds a chunk, which is there already. Says whether there was room for it.
    fn add(&mut self, chunk: &[u8]) -> bool {
        let has_room = self.held.extend(&mut self.bytes, chunk);
        if !has_room {
            self.bytes.reserve_exact(chunk.len());
            self.bytes.extend_from_slice(chunk);
            self.held.force(self.bytes.capacity());
        }
        has_room
    }
}

impl AsRef<[u8]> for Gathered {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

enum Source {
    Plain(Incoming),
    Compressed(Box<Decoder>),
    /// It came before, and was kept.
    Kept(Box<Decoder<Full<Bytes>>>),
}

impl TargetBody {
    /// A body of at most `limit` bytes, decoded.
    pub(super) fn new(body: Incoming, coding: Option<Coding>, limit: u64) -> Self {
        let source = match coding {
            None => Source::Plain(body),
            Some(coding) => Source::Compressed(Box::new(Decoder::new(coding, body, limit))),
        };
        Self::of(source, limit)
    }

    /// A body that came before, in zstd.
    pub(super) fn kept(coded: Bytes, limit: u64) -> Self {
        Self::of(Source::Kept(Box::new(Decoder::new(Coding::Zstd, Full::new(coded), limit))), limit)
    }

    fn of(source: Source, limit: u64) -> Self {
        Self { source, front: Bytes::new(), gathered: None, ended: None, limit, left: limit, is_over: false }
    }

    /// Its first line that is not blank, as far as it has that many bytes; it is still to come then.
    pub(super) async fn first_line(&mut self, longest: usize) -> Result<Vec<u8>, ScrapeError> {
        let mut read = Vec::new();
        let line = loop {
            let line = read.trim_ascii_start();
            if memchr(b'\n', line).is_some() || line.len() >= longest {
                break line;
            }
            if line.is_empty() {
                read.clear();
            }
            match poll_fn(|cx| self.poll_next(cx)).await.transpose()? {
                Some(chunk) => read.extend_from_slice(&chunk),
                None => break read.trim_ascii_start(),
            }
        };
        let line = line.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default().to_owned();
        self.front = read.into();
        Ok(line)
    }

    /// Reads on and holds what it reads, as long as there is room and it is no more than `limit` bytes. Ready where no more is read:
    /// says whether that is all of it, however it ended. All is still to come then.
    pub(crate) fn poll_whole(&mut self, limit: usize, room: &Room, cx: &mut Context<'_>) -> Poll<bool> {
        self.gathered.get_or_insert_with(|| Gathered { bytes: Vec::new(), held: room.hold() });
        while self.ended.is_none() {
            match ready!(self.poll_next(cx)).transpose() {
                Ok(Some(chunk)) => {
                    let has_room = self.gathered.as_mut().is_some_and(|gathered| gathered.add(&chunk));
                    if !has_room || self.gathered().len() > limit {
                        return Poll::Ready(false);
                    }
                }
                ended => self.ended = Some(ended.map(|_| ())),
            }
        }
        Poll::Ready(true)
    }

    /// What was read by [`Self::poll_whole`].
    pub(crate) fn gathered(&self) -> &[u8] {
        self.gathered.as_ref().map_or(&[], |gathered| &gathered.bytes)
    }

    /// It, which does not come any more.
    pub(crate) fn take_gathered(&mut self) -> Bytes {
        self.gathered.take().map_or_else(Bytes::new, Bytes::from_owner)
    }

    /// The next chunk, never empty. What is over the limit is cut off, and the error comes behind it.
    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ScrapeError>>> {
        let gathered = self.take_gathered();
        if !gathered.is_empty() {
            return Poll::Ready(Some(Ok(gathered)));
        }
        match self.ended.take() {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => self.poll_next(cx),
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ScrapeError>>> {
        if !self.front.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.front))));
        }
        while !self.is_over {
            let polled = match &mut self.source {
                Source::Plain(body) => poll_data(body, cx),
                Source::Compressed(decoder) => decoder.poll_piece(cx),
                Source::Kept(decoder) => decoder.poll_piece(cx),
            };
            let mut chunk = match ready!(polled) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(ScrapeError::BrokenOff(error)))),
                Some(Ok(chunk)) => chunk,
            };
            self.is_over = chunk.len() as u64 > self.left;
            if self.is_over {
                chunk.truncate(self.left as usize);
            }
            self.left -= chunk.len() as u64;
            if !chunk.is_empty() {
                return Poll::Ready(Some(Ok(chunk)));
            }
        }
        Poll::Ready(Some(Err(ScrapeError::TooLarge(self.limit))))
    }
}
