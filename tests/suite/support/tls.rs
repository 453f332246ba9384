//! The server's side of TLS.

use std::sync::{Arc, Mutex};

use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::certificates::{Authority, Certificate};
use super::stub::Event;

pub type TlsServerStream = tokio_rustls::server::TlsStream<TcpStream>;

/// What a server shows, which may change while it runs.
#[derive(Clone)]
pub struct Shown(Arc<Mutex<Arc<ServerConfig>>>);

impl Shown {
    pub fn new(certificate: &Certificate) -> Self {
        Self::config(certificate, None)
    }

    /// The server asks for a certificate that leads to this authority, too.
    pub fn to_clients_of(certificate: &Certificate, clients: &Authority) -> Self {
        Self::config(certificate, Some(clients))
    }

    fn config(certificate: &Certificate, clients: Option<&Authority>) -> Self {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring knows them");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authority.roots()), provider);
                builder.with_client_cert_verifier(verifier.build().expect("there is a root"))
            }
        };
        let shown = builder.with_single_cert(vec![certificate.der()], certificate.key_der());
        let mut config = shown.expect("its own key");
        // A client that offers nothing else is refused.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self(Arc::new(Mutex::new(Arc::new(config))))
    }

    /// Shows what `other` shows, from the next connection on.
    pub fn show(&self, other: &Self) {
        let other = other.now();
        *self.0.lock().expect("nobody panics") = other;
    }

    fn now(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.lock().expect("nobody panics"))
    }
}

/// A client's side that trusts nobody.
pub fn client() -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring knows them")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
}

/// The server's side of a handshake: the stream, and what is known of the client; `None` if it failed on either side.
pub async fn shake_hands(stream: TcpStream, shown: &Shown) -> Option<(TlsServerStream, Event)> {
    match TlsAcceptor::from(shown.now()).accept(stream).into_fallible().await {
        Ok(stream) => {
            let (_, connection) = stream.get_ref();
            let certificates = connection.peer_certificates().unwrap_or_default();
            let handshake = Event::Handshake {
                server_name: connection.server_name().map(str::to_owned),
                certificate: certificates.first().map(|certificate| certificate.to_vec()),
            };
            Some((stream, handshake))
        }
        Err((_, mut stream)) => {
            // The alert that says why would be lost with a reset, which a request that nobody reads would cause.
            let mut unread = [0; 1024];
            while stream.read(&mut unread).await.is_ok_and(|read| read != 0) {}
            None
        }
    }
}
