//! TLS for those who scrape, and what their certificates are worth.
//!
//! In: the files of the configuration, and a client's connection. Out: the connection decrypted, and the client as its
//! certificate shows it. A certificate that is missing or wrong does not end the handshake: a kubelet has none and asks
//! for `/healthz` only, and whoever holds a wrong one is told so by a 401 instead of an alert that few programs put into
//! words. So a handshake proves only that the client holds its certificate's key; whether the certificate leads to the
//! authority is asked when something is asked for that needs it.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::ServingTls;
use crate::files::{FileError, Watched, WatchedFile};
use crate::lock::lock;
use crate::trust::{
    Listed, certificates, describe, in_their_time, is_readable, no_pair, private_key, provider, unreadable,
};

/// Bytes of the certificates that a client shows. They are kept as long as its connection, and have some kilobytes.
const MAX_SHOWN: usize = 16 << 10;

/// How long a verdict on a client's certificate holds: a connection may be kept longer than the certificate is valid.
const VERDICT_HOLDS: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Tls {
    config: Arc<ServerConfig>,
    identity: Arc<Identity>,
    authority: Option<Watched<Authority, 1>>,
}

/// What a client's certificate must lead to, or be.
#[derive(Debug)]
struct Authority {
    listed: Listed,
    leading_to_them: Arc<dyn ClientCertVerifier>,
}

/// A client as its handshake showed it.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Its certificate first; none if it showed none, or was not asked.
    chain: Vec<CertificateDer<'static>>,
    verdict: Mutex<Option<CertificateVerdict>>,
}

/// What its certificate was found to be.
#[derive(Debug)]
struct CertificateVerdict {
    authority: Arc<Authority>,
    made: Instant,
    found: Result<(), CertificateRefused>,
}

#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum CertificateRefused {
    #[error("it has no certificate")]
    Missing,
    #[error("its certificate is refused: {}", describe(.0))]
    Wrong(rustls::Error),
}

impl Tls {
    pub(super) fn open(settings: &ServingTls) -> Result<Self, FileError> {
        let certificate = WatchedFile::new("QPEXT_TLS_CERT_FILE", &settings.certificate.cert_file);
        let key = WatchedFile::new("QPEXT_TLS_KEY_FILE", &settings.certificate.key_file);
        let identity = Arc::new(Identity(Watched::open([certificate, key], read_identity)?));
        let authority = settings.client_ca_file.as_ref().map(|path| {
            let file = WatchedFile::new("QPEXT_TLS_CLIENT_CA_FILE", path);
            Watched::open([file], read_authority)
        });
        let authority = authority.transpose()?;
        Ok(Self { config: Arc::new(server_config(Arc::clone(&identity), authority.is_some())), identity, authority })
    }

    /// Does the handshake. It has no end by itself.
    pub(super) async fn accept<S>(&self, stream: S) -> io::Result<(TlsStream<S>, Peer)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = TlsAcceptor::from(Arc::clone(&self.config)).accept(stream).await?;
        let (_, connection) = stream.get_ref();
        let chain = connection.peer_certificates().unwrap_or_default().to_vec();
        let peer = Peer { chain, verdict: Mutex::default() };
        Ok((stream, peer))
    }

    pub(super) fn asks_for_certificate(&self) -> bool {
        self.authority.is_some()
    }

    /// Why files are not in use as they are now, but as they were before.
    pub(super) fn stale_files(&self) -> impl Iterator<Item = FileError> {
        let of_authority = self.authority.as_ref().and_then(Watched::problem);
        self.identity.0.problem().into_iter().chain(of_authority)
    }

    pub(super) fn check(&self, peer: &Peer) -> Result<(), CertificateRefused> {
        match &self.authority {
            Some(authority) => peer.check(&authority.current()),
            None => Ok(()),
        }
    }
}

impl Peer {
    fn check(&self, authority: &Arc<Authority>) -> Result<(), CertificateRefused> {
        let mut verdict = lock(&self.verdict);
        if let Some(verdict) = &*verdict
            && Arc::ptr_eq(&verdict.authority, authority)
            && verdict.made.elapsed() < VERDICT_HOLDS
        {
            return verdict.found.clone();
        }
        let found = match self.chain.split_first() {
            None => Err(CertificateRefused::Missing),
            Some((own, others)) => authority.check(own, others).map_err(CertificateRefused::Wrong),
        };
        *verdict =
            Some(CertificateVerdict { authority: Arc::clone(authority), made: Instant::now(), found: found.clone() });
        found
    }
}

impl Authority {
    fn check(&self, own: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        let now = UnixTime::now();
        let found = match in_their_time(&self.listed.0, now) {
            None => self.leading_to_them.verify_client_cert(own, others, now),
            Some(in_time) => match leading_to(in_time) {
                Some(verifier) => verifier.verify_client_cert(own, others, now),
                None => Err(CertificateError::Expired.into()),
            },
        };
        match found {
            Err(refused) if !self.listed.takes(own, &refused) => Err(refused),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

fn server_config(identity: Arc<Identity>, asks_for_certificate: bool) -> ServerConfig {
    let provider = provider();
    let verifier = Arc::new(HoldsItsKey(provider.signature_verification_algorithms));
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("ring has cipher suites for both");
    let builder = match asks_for_certificate {
        true => builder.with_client_cert_verifier(verifier),
        false => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(identity);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A scraper keeps its connection, so that a session taken up again would save next to nothing, and cost memory for
    // each that ends.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}

/// The sidecar's own certificate, the newest at each handshake.
#[derive(Debug)]
struct Identity(Watched<Arc<CertifiedKey>, 2>);

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.current()))
    }
}

/// Lets every client through the handshake that holds the key of the certificate it shows, and those that show none.
#[derive(Debug)]
struct HoldsItsKey(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for HoldsItsKey {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: a client with a certificate shows it, and the authority's name is no stranger's business.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let shown: usize = others.iter().chain([own]).map(|certificate| certificate.len()).sum();
        if shown > MAX_SHOWN {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.prove(certificate, |known| verify_tls12_signature(message, certificate, signed, known))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.prove(certificate, |known| verify_tls13_signature(message, certificate, signed, known))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

impl HoldsItsKey {
    /// A certificate that cannot be read proves nothing, and is let through all the same: no authority will take it
    /// either, so that its holder is told by a 401.
    fn prove(
        &self,
        certificate: &CertificateDer<'_>,
        verify: impl FnOnce(&WebPkiSupportedAlgorithms) -> Result<HandshakeSignatureValid, rustls::Error>,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match is_readable(certificate) {
            true => verify(&self.0),
            false => Ok(HandshakeSignatureValid::assertion()),
        }
    }
}

fn read_identity([cert_file, key_file]: &[WatchedFile; 2]) -> Result<Arc<CertifiedKey>, FileError> {
    let (chain, key) = (certificates(cert_file)?, private_key(key_file)?);
    let identity = CertifiedKey::from_der(chain, key, &provider());
    identity.map(Arc::new).map_err(|error| no_pair(cert_file, key_file, &error))
}

fn read_authority([file]: &[WatchedFile; 1]) -> Result<Authority, FileError> {
    let certificates = certificates(file)?;
    let leading_to_them = leading_to(certificates.clone()).ok_or_else(|| unreadable(file))?;
    Ok(Authority { listed: Listed(certificates), leading_to_them })
}

/// What takes whoever leads to one of these certificates; none, if one of them cannot be read, or there are none.
fn leading_to(certificates: Vec<CertificateDer<'static>>) -> Option<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).ok()?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Takes any certificate, and counts how often it was asked.
    #[derive(Debug, Default)]
    struct Asked(AtomicUsize);

    impl ClientCertVerifier for Asked {
        fn root_hint_subjects(&self) -> &[DistinguishedName] {
            &[]
        }

        fn verify_client_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: UnixTime,
        ) -> Result<ClientCertVerified, rustls::Error> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(ClientCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            unreachable!("nobody shakes hands")
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            unreachable!("nobody shakes hands")
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            Vec::new()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_is_judged_anew_after_a_minute() {
        let asked = Arc::new(Asked::default());
        let authority = Arc::new(Authority {
            listed: Listed(Vec::new()),
            leading_to_them: Arc::clone(&asked) as Arc<dyn ClientCertVerifier>,
        });
        let peer = Peer { chain: vec![CertificateDer::from(vec![0])], verdict: Mutex::default() };
        let times_asked = || {
            peer.check(&authority).unwrap();
            asked.0.load(Ordering::Relaxed)
        };
        assert_eq!((times_asked(), times_asked()), (1, 1));
        tokio::time::advance(VERDICT_HOLDS - Duration::from_millis(1)).await;
        assert_eq!(times_asked(), 1);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!((times_asked(), times_asked()), (2, 2));
    }
}
