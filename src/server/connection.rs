//! A client's connection, with limits to how long the client may do nothing.
//!
//! hyper's own limit for a request's head runs while a kept connection is unused, too, and would close every scraper's
//! connection between two scrapes; for a client that does not read it has none. So the stream itself keeps the time.
//!
//! Nor does hyper look whether a client leaves while bytes that it sent behind its request wait to be read. So the stream
//! hands out one request's head at a time, and keeps what comes behind it until that one is answered.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::clients::{Client, Phase};

/// How long a client may take to send a request's head, from its first byte; a new client from the moment it connects.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection is kept between two requests: longer than any usual scrape interval.
const KEPT_FOR: Duration = Duration::from_secs(300);

/// How long a client may leave a full window unread.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that a client may send behind a request that has no answer yet: as many as a head may have.
const MAX_AHEAD: usize = 16 << 10;

/// A stream that fails once its client has done nothing for too long, and that is read one request at a time.
#[derive(Debug)]
pub(super) struct IdleLimited<S> {
    stream: S,
    client: Arc<Client>,
    head: RequestHead,
    /// What the client sent behind the head.
    ahead: Vec<u8>,
    read_timer: Pin<Box<Sleep>>,
    /// Since when it has been leaving unread what is written.
    unread_since: Option<Instant>,
    write_timer: Pin<Box<Sleep>>,
}

impl<S> IdleLimited<S> {
    pub(super) fn new(stream: S, client: Arc<Client>) -> Self {
        Self {
            stream,
            client,
            head: RequestHead::default(),
            ahead: Vec::new(),
            read_timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            unread_since: None,
            write_timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }
}

impl<S: AsyncRead + Unpin> IdleLimited<S> {
    /// Ready when the client leaves, or has done nothing for too long. Keeps what it sends until then.
    fn poll_departure(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.ahead.len() > MAX_AHEAD {
                let error = "more was sent behind a request than a head may have";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
            let mut bytes = [0; 1024];
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => self.ahead.extend_from_slice(buffer.filled()),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.client.wake_when_served(cx.waker());
                    return self.poll_silence(cx);
                }
            }
        }
    }

    /// Ready when the client's silence ends the connection; while it is served, never.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ends = match self.client.phase() {
            Phase::SendingHead(since) => since + HEAD_TIMEOUT,
            Phase::Resting(since) => since + KEPT_FOR,
            Phase::Served => return Poll::Pending,
        };
        poll_until(ends, &mut self.read_timer, cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for IdleLimited<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.head == RequestHead::Over {
            if !matches!(this.client.phase(), Phase::Resting(_)) {
                return this.poll_departure(cx);
            }
            this.head = RequestHead::default();
        }
        let before = buffer.filled().len();
        if this.ahead.is_empty() {
            match Pin::new(&mut this.stream).poll_read(cx, buffer) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return this.poll_silence(cx),
            }
        } else {
            let taken = this.ahead.len().min(buffer.remaining());
            buffer.put_slice(&this.ahead[..taken]);
            this.ahead.drain(..taken);
        }
        let came = &buffer.filled()[before..];
        if !came.is_empty() {
            this.client.bytes_came();
        }
        if let Some(end) = this.head.end_in(came) {
            this.ahead.splice(..0, came[end..].iter().copied());
            buffer.set_filled(before + end);
        }
        Poll::Ready(Ok(()))
    }
}

/// How much of a request's head has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum RequestHead {
    /// Nothing but line breaks, which are allowed before it.
    #[default]
    Before,
    /// Some of a line.
    InLine,
    /// Some lines, whole.
    BehindLine,
    /// All of it: a line that is empty ended it.
    Over,
}

impl RequestHead {
    /// Goes on with these bytes: the index behind the head's end, if it is among them.
    fn end_in(&mut self, bytes: &[u8]) -> Option<usize> {
        let end = bytes.iter().position(|byte| {
            *self = match (*self, byte) {
                (Self::Before, b'\r' | b'\n') => Self::Before,
                (Self::InLine, b'\n') => Self::BehindLine,
                (Self::BehindLine, b'\n') => Self::Over,
                (Self::BehindLine, b'\r') => Self::BehindLine,
                _ => Self::InLine,
            };
            *self == Self::Over
        });
        end.map(|last| last + 1)
    }
}

impl<S: AsyncWrite + Unpin> IdleLimited<S> {
    /// Passes on what a write came to; counts how long it has been coming to nothing.
    fn written<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.unread_since = None;
            return written;
        }
        let since = *self.unread_since.get_or_insert_with(Instant::now);
        poll_until(since + UNREAD_TIMEOUT, &mut self.write_timer, cx)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for IdleLimited<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.written(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// A stream that encrypts has taken bytes that the client has not: they wait here, and at the end in a shutdown.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.written(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut_down = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.written(shut_down, cx)
    }
}

/// Pending until `at`, then an error.
fn poll_until<T>(at: Instant, timer: &mut Pin<Box<Sleep>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
    if timer.deadline() != at {
        timer.as_mut().reset(at);
    }
    timer.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufWriter, duplex};

    use super::*;

    fn client() -> Arc<Client> {
        Arc::new(Client::new([127, 0, 0, 1].into()))
    }

    /// The time passes by itself: the clock is paused, and goes on whenever everybody waits.
    async fn fails_after(waiting: impl Future<Output = io::Error>) -> Duration {
        let started = Instant::now();
        assert_eq!(waiting.await.kind(), io::ErrorKind::TimedOut);
        started.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_has_ten_seconds_for_a_head_and_five_minutes_between_two_requests() {
        let (near, mut far) = duplex(64);
        let client = client();
        let mut stream = IdleLimited::new(near, Arc::clone(&client));
        let after = fails_after(async { stream.read_u8().await.unwrap_err() }).await;
        assert_eq!(after.as_secs(), 10);
        drop(client.serve());
        let after = fails_after(async { stream.read_u8().await.unwrap_err() }).await;
        assert_eq!(after.as_secs(), 300, "no head is expected yet");
        far.write_u8(b'G').await.unwrap();
        stream.read_u8().await.unwrap();
        let after = fails_after(async { stream.read_u8().await.unwrap_err() }).await;
        assert_eq!(after.as_secs(), 10, "the next head has begun");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_served_may_be_silent_but_must_read() {
        let (near, _far) = duplex(64);
        let client = client();
        let served = client.serve();
        let mut stream = IdleLimited::new(near, client);
        let silence = tokio::time::timeout(Duration::from_secs(3600), stream.read_u8());
        assert!(silence.await.is_err(), "nobody minds");
        let after = fails_after(async { stream.write_all(&[0; 100]).await.unwrap_err() }).await;
        assert_eq!(after.as_secs(), 10);
        drop(served);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_must_read_what_a_stream_holds_for_it_too() {
        let (near, _far) = duplex(64);
        let client = client();
        let _served = client.serve();
        let mut stream = IdleLimited::new(BufWriter::new(near), client);
        stream.write_all(&[0; 100]).await.unwrap();
        let after = fails_after(async { stream.flush().await.unwrap_err() }).await;
        assert_eq!(after.as_secs(), 10);
        let after = fails_after(async { stream.shutdown().await.unwrap_err() }).await;
        assert_eq!(after.as_secs(), 0, "it has waited long enough");
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_read_one_at_a_time() {
        let (near, mut far) = duplex(1024);
        let client = client();
        let mut stream = IdleLimited::new(near, Arc::clone(&client));
        let heads = ["\r\nGET /1 HTTP/1.1\r\nhost: x\r\n\r\n", "GET /2 HTTP/1.1\n\n", "GET /3 HTTP/1.1\r\n\r\n"];
        far.write_all(heads.concat().as_bytes()).await.unwrap();
        let started = Instant::now();
        let mut bytes = [0; 1024];
        let mut length = stream.read(&mut bytes).await.unwrap();
        for [head, next] in [[heads[0], heads[1]], [heads[1], heads[2]]] {
            assert_eq!(&bytes[..length], head.as_bytes());
            let served = client.serve();
            // The first is polled first, and in vain.
            let (read, ()) = tokio::join!(stream.read(&mut bytes), async {
                assert_eq!(client.phase(), Phase::Served);
                drop(served);
            });
            length = read.unwrap();
            assert_eq!(&bytes[..length], next.as_bytes());
        }
        assert_eq!(started.elapsed(), Duration::ZERO, "nobody waits for a timer");
        drop((client.serve(), far));
        assert_eq!(stream.read(&mut bytes).await.unwrap(), 0, "the client left");
    }

    #[tokio::test]
    async fn a_client_that_sends_much_behind_its_request_is_put_out() {
        let (near, mut far) = duplex(64 << 10);
        let client = client();
        let mut stream = IdleLimited::new(near, Arc::clone(&client));
        far.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let _length = stream.read(&mut [0; 1024]).await.unwrap();
        let _served = client.serve();
        far.write_all(&[b'x'; 32 << 10]).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
