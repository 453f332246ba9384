//! A target's body, up to its limit.
//!
//! In: what the HTTP client pulls, and how it is compressed. Out: chunks, and why there are no more.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use memchr::memchr;

use super::decode::{Decoder, poll_data};
use super::error::ScrapeError;
use crate::negotiation::Coding;

/// A target's body: chunks as they come, decoded, up to its limit.
pub(crate) struct TargetBody {
    source: Source,
    /// What was looked at, and is still to be given out.
    front: Bytes,
    limit: u64,
    /// Bytes that may still come.
    left: u64,
    /// More than that came.
    is_over: bool,
}

enum Source {
    Plain(reqwest::Body),
    Compressed(Box<Decoder>),
}

impl TargetBody {
    /// A body of at most `limit` bytes, decoded.
    pub(super) fn new(body: reqwest::Body, coding: Option<Coding>, limit: u64) -> Self {
        Self {
            source: match coding {
                None => Source::Plain(body),
                Some(coding) => Source::Compressed(Box::new(Decoder::new(coding, body, limit))),
            },
            front: Bytes::new(),
            limit,
            left: limit,
            is_over: false,
        }
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
            match poll_fn(|cx| self.poll_chunk(cx)).await.transpose()? {
                Some(chunk) => read.extend_from_slice(&chunk),
                None => break read.trim_ascii_start(),
            }
        };
        let line = line.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default().to_owned();
        self.front = read.into();
        Ok(line)
    }

    /// The next chunk, never empty. What is over the limit is cut off, and the error comes behind it.
    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ScrapeError>>> {
        if !self.front.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.front))));
        }
        while !self.is_over {
            let polled = match &mut self.source {
                Source::Plain(body) => poll_data(body, cx),
                Source::Compressed(decoder) => decoder.poll_piece(cx),
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
