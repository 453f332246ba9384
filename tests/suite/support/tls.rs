//! Certificates made for one test, and the server's side of TLS.

use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::stub::Event;

pub type TlsServerStream = tokio_rustls::server::TlsStream<TcpStream>;

/// Whoever issues certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        Self::called("an authority")
    }

    pub fn called(name: &str) -> Self {
        let mut params = CertificateParams::new([]).expect("no names are good names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, key()).expect("its own key fits"))
    }

    /// Its own certificate, in PEM.
    pub fn certificate(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a server with these names or addresses, or for a client.
    pub fn issue(&self, names: &[&str]) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("good names");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = key();
        let certificate = params.signed_by(&key, &self.0).expect("the key fits");
        Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("there is randomness")
}

impl Issued {
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("it was written so")
    }
}

/// What a server shows, which may change while it runs.
#[derive(Clone)]
pub struct Shown(Arc<Mutex<Arc<ServerConfig>>>);

impl Shown {
    pub fn new(issued: &Issued) -> Self {
        Self::config(issued, None)
    }

    /// The server asks for a certificate that leads to this authority, too.
    pub fn to_clients_of(issued: &Issued, clients: &Authority) -> Self {
        Self::config(issued, Some(clients))
    }

    fn config(issued: &Issued, clients: Option<&Authority>) -> Self {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring knows them");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.0.der().clone()).expect("it is an authority");
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().expect("there is a root"))
            }
        };
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("it was written so");
        let mut config = builder.with_single_cert(vec![issued.der()], key).expect("its own key");
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
