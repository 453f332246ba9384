//! The one stub target: a scripted HTTP server on a real socket, which can do everything a bad target does, over TCP, TLS
//! or a Unix socket.

use std::future::pending;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};

use super::port::Port;
use super::tls::{Shown, TlsServerStream, shake_hands};

/// What the stub does with a connection, one step after the other.
#[derive(Debug, Clone)]
pub enum Step {
    /// Sends bytes.
    Send(Vec<u8>),
    /// Sends bytes one at a time, each in a packet of its own.
    Dribble(Vec<u8>),
    /// Sends bytes so many times.
    Repeat(Vec<u8>, usize),
    /// Sends bytes over and over, until nobody listens.
    Forever(Vec<u8>),
    /// Sends bytes now and then, until nobody listens.
    Drip(Vec<u8>),
    /// Says nothing more, until the client leaves.
    Hang,
    /// Goes on when it is given a permit.
    Await(Arc<Semaphore>),
    /// Ends the connection.
    Close,
    /// Ends the connection with a reset.
    Reset,
}

/// The time between two drops of [`Step::Drip`].
const DRIP: Duration = Duration::from_millis(1);

/// What happens at the stub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A connection was accepted.
    Connected,
    /// A client was shown the certificate, and took it.
    Handshake {
        /// The name that it asked for.
        server_name: Option<String>,
        /// The certificate that it showed, in DER.
        certificate: Option<Vec<u8>>,
    },
    /// A request's head came; it is given whole.
    Request(String),
    /// Every step of an answer was done: the client's side has taken it, or the sockets between hold it.
    Answered,
    /// The client ended the connection.
    Gone,
}

/// A running stub. Dropped, it stops.
pub struct Stub {
    /// None on a Unix socket.
    port: Option<Port>,
    events: mpsc::UnboundedReceiver<Event>,
    server: JoinHandle<()>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// What a stub listens on.
enum Listener {
    Tcp(TcpListener),
    Tls(TcpListener, Shown),
    Unix(UnixListener),
}

impl Stub {
    /// Answers every request with these steps.
    pub async fn start(steps: Vec<Step>) -> Self {
        Self::route(move |_| steps.clone()).await
    }

    /// Answers every request with this text.
    pub async fn text(body: impl Into<Vec<u8>>) -> Self {
        Self::start(vec![ok(&body.into())]).await
    }

    /// Answers each request with what `answer` makes of its head.
    pub async fn route(answer: impl Fn(&str) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::route_at(Ipv4Addr::LOCALHOST.into(), answer).await
    }

    /// As [`Self::route`], at this address.
    pub async fn route_at(address: IpAddr, answer: impl Fn(&str) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let port = Port::at(address);
        let listener = Listener::Tcp(port.listen());
        Self::serve(Some(port), listener, answer)
    }

    /// As [`Self::route`], over TLS with what is shown at the time.
    pub async fn route_tls(shown: &Shown, answer: impl Fn(&str) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let port = Port::new();
        let listener = Listener::Tls(port.listen(), shown.clone());
        Self::serve(Some(port), listener, answer)
    }

    /// Answers every request over TLS with this text.
    pub async fn text_tls(shown: &Shown, body: &str) -> Self {
        let body = body.to_owned();
        Self::route_tls(shown, move |_| vec![ok(body.as_bytes())]).await
    }

    /// As [`Self::route`], on a Unix socket.
    pub fn route_unix(path: &str, answer: impl Fn(&str) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = UnixListener::bind(path).expect("a free path");
        Self::serve(None, Listener::Unix(listener), answer)
    }

    /// A target that is not there: connections to its port are refused.
    pub fn absent() -> Self {
        let (_, events) = mpsc::unbounded_channel();
        Self { port: Some(Port::new()), events, server: tokio::spawn(pending()) }
    }

    /// Ends it, as a program ends: from then on it is as if [`Self::absent`].
    pub async fn stop(&mut self) {
        self.server.abort();
        // Its listener and its connections are closed when it is over, and not before.
        let _ = (&mut self.server).await;
    }

    fn serve(
        port: Option<Port>,
        listener: Listener,
        answer: impl Fn(&str) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let answer = Arc::new(answer);
        let server = tokio::spawn(async move {
            // Dropped with the stub, it ends every connection.
            let mut connections = JoinSet::new();
            loop {
                let (answer, sender) = (Arc::clone(&answer), sender.clone());
                match &listener {
                    Listener::Tcp(listener) => {
                        let stream = accept(listener).await;
                        let _ = sender.send(Event::Connected);
                        connections.spawn(connection(stream, answer, sender));
                    }
                    Listener::Tls(listener, shown) => {
                        let (stream, shown) = (accept(listener).await, shown.clone());
                        let _ = sender.send(Event::Connected);
                        connections.spawn(async move {
                            match shake_hands(stream, &shown).await {
                                None => drop(sender.send(Event::Gone)),
                                Some((stream, handshake)) => {
                                    let _ = sender.send(handshake);
                                    connection(stream, answer, sender).await;
                                }
                            }
                        });
                    }
                    Listener::Unix(listener) => {
                        let (stream, _) = listener.accept().await.expect("a connection");
                        let _ = sender.send(Event::Connected);
                        connections.spawn(connection(stream, answer, sender));
                    }
                }
            }
        });
        Self { port, events, server }
    }

    pub fn address(&self) -> SocketAddr {
        self.port.as_ref().expect("it is not on a Unix socket").address()
    }

    pub fn port(&self) -> u16 {
        self.address().port()
    }

    /// The next thing that happens.
    pub async fn event(&mut self) -> Event {
        self.events.recv().await.expect("the stub runs")
    }

    /// The head of the next request.
    pub async fn request(&mut self) -> String {
        loop {
            if let Event::Request(head) = self.event().await {
                return head;
            }
        }
    }

    /// Ready when a client ends its connection.
    pub async fn gone(&mut self) {
        while self.event().await != Event::Gone {}
    }

    /// What has happened so far and was not asked for.
    pub fn past_events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().await.expect("a connection");
    stream.set_nodelay(true).expect("a TCP socket");
    stream
}

/// A connection, of whatever kind.
trait Wire: AsyncRead + AsyncWrite + Unpin + Send {
    /// Makes its end a reset.
    fn end_with_reset(&self);
}

impl Wire for TcpStream {
    fn end_with_reset(&self) {
        self.set_zero_linger().expect("a TCP socket");
    }
}

impl Wire for TlsServerStream {
    fn end_with_reset(&self) {
        self.get_ref().0.end_with_reset();
    }
}

impl Wire for UnixStream {
    fn end_with_reset(&self) {
        panic!("a Unix socket knows no resets");
    }
}

async fn connection<S, A>(mut stream: S, answer: Arc<A>, events: mpsc::UnboundedSender<Event>)
where
    S: Wire,
    A: Fn(&str) -> Vec<Step> + Send + Sync + 'static,
{
    while let Some(head) = read_head(&mut stream).await {
        let steps = answer(&head);
        let _ = events.send(Event::Request(head));
        for step in steps {
            if !perform(step, &mut stream).await {
                let _ = events.send(Event::Gone);
                return;
            }
        }
        let _ = events.send(Event::Answered);
    }
    let _ = events.send(Event::Gone);
}

/// Does one step; `false` if the connection is over.
async fn perform(step: Step, stream: &mut impl Wire) -> bool {
    match step {
        Step::Send(bytes) => stream.write_all(&bytes).await.is_ok() && stream.flush().await.is_ok(),
        Step::Dribble(bytes) => {
            for byte in bytes {
                if stream.write_all(&[byte]).await.is_err() {
                    return false;
                }
                tokio::task::yield_now().await;
            }
            true
        }
        Step::Repeat(bytes, times) => {
            for _ in 0..times {
                if stream.write_all(&bytes).await.is_err() {
                    return false;
                }
            }
            true
        }
        Step::Forever(bytes) => {
            while stream.write_all(&bytes).await.is_ok() {}
            false
        }
        Step::Drip(bytes) => {
            while stream.write_all(&bytes).await.is_ok() {
                tokio::time::sleep(DRIP).await;
            }
            false
        }
        Step::Hang => {
            let mut byte = [0];
            match stream.read(&mut byte).await {
                Ok(0) | Err(_) => false,
                Ok(_) => pending().await,
            }
        }
        Step::Await(gate) => {
            gate.acquire().await.expect("it is never closed").forget();
            true
        }
        Step::Close => false,
        Step::Reset => {
            stream.end_with_reset();
            false
        }
    }
}

/// The next request's head, or `None` if the client leaves.
async fn read_head(stream: &mut impl Wire) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// A whole answer with this text.
pub fn ok(body: &[u8]) -> Step {
    answer("200 OK", "content-type: text/plain; version=0.0.4; charset=utf-8\r\n", body)
}

/// A whole answer. Each of `headers` ends with a line break.
pub fn answer(status: &str, headers: &str, body: &[u8]) -> Step {
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len());
    Step::Send([head.as_bytes(), body].concat())
}

/// The head of an answer whose body follows in chunks.
pub fn chunked_head() -> Step {
    chunked_head_of("text/plain; version=0.0.4")
}

/// As [`chunked_head`], with this content type.
pub fn chunked_head_of(content_type: &str) -> Step {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n");
    Step::Send(head.into_bytes())
}

/// One chunk of a body.
pub fn chunk(body: &[u8]) -> Step {
    Step::Send(chunk_bytes(body))
}

/// One chunk of a body, as bytes.
pub fn chunk_bytes(body: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n"].concat()
}

/// An answer whose body waits between its two parts until it may go on.
pub fn in_two_parts(first: &[u8], go: &Arc<Semaphore>, last: &[u8]) -> Vec<Step> {
    vec![chunked_head(), chunk(first), Step::Await(Arc::clone(go)), chunk(last), last_chunk()]
}

/// The end of a body in chunks.
pub fn last_chunk() -> Step {
    Step::Send(b"0\r\n\r\n".to_vec())
}
