//! A target's body that came compressed, although nobody asked for that.
//!
//! In: the chunks of a body, and the coding that its head names. Out: the body as it was before, a bounded piece at a
//! time. However small the chunks that blow up to however much, no more is decoded than is pulled, and no more is held
//! than one piece and the coding's own window.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use bytes::{Buf as _, Bytes};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use http_body::Body;
use hyper::body::Incoming;
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};

use super::error::{ScrapeError, quote, root_cause};
use crate::negotiation::Coding;

/// Bytes that are decoded at once.
const PIECE: usize = 64 << 10;

/// Bytes that are decoded before everybody else has a turn. A chunk that was read may hold a thousand times its size, and
/// unlike reading, decoding never waits by itself.
const TURN: usize = 64 << 10;

/// How far back a zstd body may refer, and so what a decoder holds: 8 MiB, as a power of 2. More than that no sender may
/// ask of a receiver (RFC 9659).
const ZSTD_WINDOW_LOG: u32 = 23;

/// The coding that a head names, if it names any.
pub(super) fn coding_of(headers: &HeaderMap) -> Result<Option<Coding>, ScrapeError> {
    let values = headers.get_all(CONTENT_ENCODING).into_iter();
    let mut named = values
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case(b"identity"));
    let unknown = |name| ScrapeError::ContentEncoding(quote(name));
    match (named.next(), named.next()) {
        (None, _) => Ok(None),
        (Some(name), None) => Coding::named(name).map(Some).ok_or_else(|| unknown(name)),
        (Some(first), Some(second)) => Err(unknown(&[first, b", ", second].concat())),
    }
}

/// A body as it comes.
pub(super) trait RawBody: Body<Data = Bytes, Error: Error + 'static> + Unpin {}

impl<B: Body<Data = Bytes, Error: Error + 'static> + Unpin> RawBody for B {}

pub(super) struct Decoder<B = Incoming> {
    reader: CodingReader<B>,
    piece: Box<[u8]>,
    /// Bytes decoded in this turn.
    in_turn: usize,
}

enum CodingReader<B> {
    Gzip(GzipDecoder<Encoded<B>>),
    Zstd(ZstdDecoder<Encoded<B>>),
}

impl<B: RawBody> Decoder<B> {
    /// Decodes a body of at most `limit` bytes as they come: there are codings of nothing at all, without end.
    pub(super) fn new(coding: Coding, body: B, limit: u64) -> Self {
        let encoded = Encoded { body, limit, left: limit, chunk: Bytes::new(), broke_off: None };
        // Either may be several streams, one behind the other (RFC 1952, section 2.2, and RFC 8878, section 3.1).
        let reader = match coding {
            Coding::Gzip => {
                let mut reader = GzipDecoder::new(encoded);
                reader.multiple_members(true);
                CodingReader::Gzip(reader)
            }
            Coding::Zstd => {
                let window = DParameter::window_log_max(ZSTD_WINDOW_LOG);
                let mut reader = ZstdDecoder::with_params(encoded, &[window]);
                reader.multiple_members(true);
                CodingReader::Zstd(reader)
            }
        };
        Self { reader, piece: vec![0; PIECE].into(), in_turn: 0 }
    }

    /// The next piece, never empty. Where the body breaks off or is none of its coding, all that could be decoded comes
    /// first.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, String>>> {
        if self.in_turn >= TURN {
            self.in_turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut buffer = ReadBuf::new(&mut self.piece);
        let polled = match &mut self.reader {
            CodingReader::Gzip(reader) => Pin::new(reader).poll_read(cx, &mut buffer),
            CodingReader::Zstd(reader) => Pin::new(reader).poll_read(cx, &mut buffer),
        };
        let Poll::Ready(read) = polled else {
            self.in_turn = 0;
            return Poll::Pending;
        };
        self.in_turn += buffer.filled().len();
        if read.is_ok() && !buffer.filled().is_empty() {
            return Poll::Ready(Some(Ok(Bytes::copy_from_slice(buffer.filled()))));
        }
        let broke_off = match &mut self.reader {
            CodingReader::Gzip(reader) => reader.get_mut().broke_off.take(),
            CodingReader::Zstd(reader) => reader.get_mut().broke_off.take(),
        };
        // That the coded stream did not end is the consequence; why the body did not is the cause.
        let error = broke_off.or_else(|| read.err().map(|error| root_cause(&error)));
        Poll::Ready(error.map(Err))
    }
}

/// A body, as its decoder reads it.
struct Encoded<B> {
    body: B,
    limit: u64,
    /// Bytes that may still come.
    left: u64,
    chunk: Bytes,
    /// Why nothing more came. The decoder sees an end only: told of an error, it would throw away what it has decoded.
    broke_off: Option<String>,
}

impl<B: RawBody> AsyncRead for Encoded<B> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let chunk = ready!(self.as_mut().poll_fill_buf(cx))?;
        let length = chunk.len().min(buffer.remaining());
        buffer.put_slice(&chunk[..length]);
        self.consume(length);
        Poll::Ready(Ok(()))
    }
}

impl<B: RawBody> AsyncBufRead for Encoded<B> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.chunk.is_empty() && this.broke_off.is_none() {
            match ready!(poll_data(&mut this.body, cx)) {
                Some(Ok(chunk)) if chunk.len() as u64 > this.left => {
                    this.broke_off = Some(format!("more than {} bytes came, compressed", this.limit));
                }
                Some(Ok(chunk)) => {
                    this.left -= chunk.len() as u64;
                    this.chunk = chunk;
                }
                Some(Err(error)) => this.broke_off = Some(error),
                None => {}
            }
        }
        Poll::Ready(Ok(&this.chunk))
    }

    fn consume(mut self: Pin<&mut Self>, length: usize) {
        self.chunk.advance(length);
    }
}

/// The next chunk of a body as it comes, never empty, or why there is none.
pub(super) fn poll_data(body: &mut impl RawBody, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, String>>> {
    loop {
        match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(root_cause(&error)))),
            Some(Ok(frame)) => {
                if let Ok(chunk) = frame.into_data()
                    && !chunk.is_empty()
                {
                    return Poll::Ready(Some(Ok(chunk)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::task::Waker;

    use http_body_util::Full;

    use super::*;

    const CODINGS: [Coding; 2] = [Coding::Gzip, Coding::Zstd];

    fn encode(coding: Coding, body: &[u8]) -> Vec<u8> {
        match coding {
            Coding::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(body).unwrap();
                encoder.finish().unwrap()
            }
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
                encoder.include_checksum(true).unwrap();
                encoder.write_all(body).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    /// What was decoded, in one text for each turn, and how it ended.
    fn decode(coding: Coding, coded: Vec<u8>) -> (Vec<Vec<u8>>, Result<(), String>) {
        let mut decoder = Decoder::new(coding, Full::new(Bytes::from(coded)), u64::MAX);
        let mut turns = vec![Vec::new()];
        loop {
            match decoder.poll_piece(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => turns.push(Vec::new()),
                Poll::Ready(Some(Ok(piece))) => {
                    assert!(!piece.is_empty() && piece.len() <= PIECE);
                    turns.last_mut().unwrap().extend_from_slice(&piece);
                }
                Poll::Ready(Some(Err(error))) => return (turns, Err(error)),
                Poll::Ready(None) => return (turns, Ok(())),
            }
        }
    }

    #[test]
    fn a_body_that_is_cut_anywhere_is_told_from_a_whole_one() {
        let text = b"# TYPE a gauge\na{b=\"c\"} 1\na{b=\"d\"} 2\na{b=\"e\"} 3\n".repeat(3);
        for coding in CODINGS {
            let first = encode(coding, &text);
            let both = [first.clone(), encode(coding, &text)].concat();
            for cut in 0..=both.len() {
                let (turns, ended) = decode(coding, both[..cut].to_vec());
                let is_whole = cut == first.len() || cut == both.len();
                assert_eq!(ended.is_ok(), is_whole, "{coding:?} cut at {cut} of {}: {ended:?}", both.len());
                assert!(text.repeat(2).starts_with(&turns.concat()));
                assert!(cut < first.len() || turns.concat().starts_with(&text), "what came is kept");
            }
        }
    }

    #[test]
    fn decoding_gives_way_to_others_now_and_then() {
        let text = vec![b'#'; 16 * TURN];
        for coding in CODINGS {
            let (turns, ended) = decode(coding, encode(coding, &text));
            assert_eq!(ended, Ok(()));
            assert_eq!(turns.concat().len(), text.len());
            assert!(turns.iter().all(|turn| turn.len() < TURN + PIECE), "{coding:?}");
        }
    }
}
