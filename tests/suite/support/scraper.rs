//! A scraper that speaks TLS.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificates::{Authority, Certificate};
use super::sidecar::Answer;

/// Whom it trusts, and what it shows.
#[derive(Clone)]
pub struct Scraper {
    connector: TlsConnector,
}

impl Scraper {
    /// One that trusts an authority, and has no certificate itself.
    pub fn new(authority: &Authority) -> Self {
        Self::with(&[&TLS13, &TLS12], authority, None)
    }

    /// One that has a certificate, too.
    pub fn with_certificate(authority: &Authority, certificate: &Certificate) -> Self {
        Self::with(&[&TLS13, &TLS12], authority, Some(certificate))
    }

    /// One that speaks these versions of TLS only.
    pub fn with(
        versions: &[&'static SupportedProtocolVersion],
        authority: &Authority,
        certificate: Option<&Certificate>,
    ) -> Self {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("ring has cipher suites for them")
            .with_root_certificates(authority.roots());
        let mut config = match certificate {
            None => builder.with_no_client_auth(),
            Some(certificate) => {
                let key = ring::sign::any_supported_type(&certificate.key_der()).expect("it is of a usual kind");
                // Whether or not they belong together: that is the server's to find out.
                let shown = CertifiedKey::new(vec![certificate.der()], key);
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown)))
            }
        };
        // As Go offers them.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self { connector: TlsConnector::from(Arc::new(config)) }
    }

    /// Does the handshake on a connection.
    pub async fn secure(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("127.0.0.1").expect("an address");
        self.connector.connect(name, stream).await
    }

    /// A new connection, over which nothing was asked yet.
    pub async fn stream(&self, port: u16) -> io::Result<TlsStream<TcpStream>> {
        self.secure(TcpStream::connect(("127.0.0.1", port)).await?).await
    }

    /// A new connection to ask on.
    pub async fn connect(&self, port: u16) -> Connection {
        Connection::new(self.stream(port).await.expect("a handshake")).await
    }

    /// Asks on a connection that is there already.
    pub async fn connect_over(&self, stream: TcpStream) -> Connection {
        Connection::new(self.secure(stream).await.expect("a handshake")).await
    }

    /// Asks once, on a connection of its own.
    pub async fn get(&self, port: u16, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.connect(port).await.get(path, headers).await.expect("an answer")
    }
}

/// A connection that is kept between requests.
pub struct Connection {
    sender: http1::SendRequest<Empty<Bytes>>,
    /// The certificate that was served.
    pub served: CertificateDer<'static>,
}

impl Connection {
    async fn new(stream: TlsStream<TcpStream>) -> Self {
        let (_, session) = stream.get_ref();
        assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
        // Else what was found of a client once would have to be remembered with its session.
        assert_eq!(session.handshake_kind(), Some(HandshakeKind::Full));
        let served = session.peer_certificates().expect("a server has one")[0].clone().into_owned();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("no bytes are sent yet");
        tokio::spawn(connection);
        Self { sender, served }
    }

    /// Asks for a path.
    pub async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Result<Answer, hyper::Error> {
        let mut request = hyper::Request::get(path).header("host", "127.0.0.1");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::new()).expect("its parts are good");
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        let text = String::from_utf8(body.collect().await?.to_bytes().to_vec()).expect("it is text");
        Ok(Answer { status: head.status, headers: head.headers, text })
    }
}
