//! TLS towards one target, set up from its files.
//!
//! In: a target's options. Out: what rustls needs to know. Nothing here connects.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    WantsVerifier,
};

use crate::config::HttpOptions;
use crate::files::{FileError, WatchedFile, read_all};
use crate::trust::{Listed, certificates, in_their_time, no_pair, private_key, provider, unreadable};

/// The files that say whom a target may be and who asks it.
#[derive(Debug)]
pub(super) struct TlsFiles {
    trust: Trust,
    /// The certificate and its key.
    shown: Option<(WatchedFile, WatchedFile)>,
}

/// Which certificates of a target will do.
#[derive(Debug)]
enum Trust {
    Any,
    System,
    File(WatchedFile),
}

impl TlsFiles {
    pub(super) fn of(http: &HttpOptions) -> Self {
        let trust = match &http.ca_file {
            _ if http.insecure_skip_verify => Trust::Any,
            None => Trust::System,
            Some(path) => Trust::File(WatchedFile::new("ca_file", path)),
        };
        let shown = http.client_certificate.as_ref().map(|files| {
            let cert_file = WatchedFile::new("cert_file", &files.cert_file);
            (cert_file, WatchedFile::new("key_file", &files.key_file))
        });
        Self { trust, shown }
    }

    /// Reads them, and says whether one of them has changed.
    pub(super) fn read(&mut self) -> Result<bool, FileError> {
        let ca_file = match &mut self.trust {
            Trust::File(ca_file) => Some(ca_file),
            Trust::Any | Trust::System => None,
        };
        let shown = self.shown.iter_mut().flat_map(|(cert_file, key_file)| [cert_file, key_file]);
        read_all(ca_file.into_iter().chain(shown))
    }

    /// What they come to, as they were last read.
    pub(super) fn config(&self) -> Result<ClientConfig, FileError> {
        let judged_by = |trusted| {
            let verifier = TargetVerifier { trusted, known: provider().signature_verification_algorithms };
            builder().dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        };
        let builder = match &self.trust {
            Trust::Any => judged_by(None),
            Trust::System => builder().with_root_certificates(system_roots()?),
            Trust::File(ca_file) => judged_by(Some(Trusted::of(ca_file)?)),
        };
        let mut config = match &self.shown {
            None => builder.with_no_client_auth(),
            Some((cert_file, key_file)) => builder
                .with_client_auth_cert(certificates(cert_file)?, private_key(key_file)?)
                .map_err(|error| no_pair(cert_file, key_file, &error))?,
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    let builder = ClientConfig::builder_with_provider(provider());
    builder.with_safe_default_protocol_versions().expect("ring knows the default versions")
}

/// The system's certificates, which are those of the image and do not change: read when they are first asked for, as most
/// sidecars never do.
fn system_roots() -> Result<Arc<RootCertStore>, FileError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();

    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    if roots.is_empty() {
        return Err(FileError::without_path("ca_file", "is not set, and the system has no certificates"));
    }
    Ok(Arc::clone(roots))
}

/// Judges what certificate a target shows, and has it prove that it holds the key.
#[derive(Debug)]
struct TargetVerifier {
    /// Without, whatever is shown will do.
    trusted: Option<Trusted>,
    known: WebPkiSupportedAlgorithms,
}

/// The certificates of a file, and what leads to one of them.
#[derive(Debug)]
struct Trusted {
    listed: Listed,
    leading_to_them: Arc<WebPkiServerVerifier>,
}

impl Trusted {
    /// As in Go, it is enough that one of the certificates can be read.
    fn of(file: &WatchedFile) -> Result<Self, FileError> {
        let certificates = certificates(file)?;
        let leading_to_them = leading_to(certificates.clone()).ok_or_else(|| unreadable(file))?;
        Ok(Self { listed: Listed(certificates), leading_to_them })
    }
}

/// What takes whoever leads to one of these certificates, as far as they can be read; none, if none can.
fn leading_to(certificates: Vec<CertificateDer<'static>>) -> Option<Arc<WebPkiServerVerifier>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().ok()
}

impl ServerCertVerifier for TargetVerifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(Trusted { listed, leading_to_them }) = &self.trusted else {
            return Ok(ServerCertVerified::assertion());
        };
        let of_those_in_time = in_their_time(&listed.0, now).map(leading_to);
        let leading_to_them = match &of_those_in_time {
            None => leading_to_them,
            Some(Some(verifier)) => verifier,
            Some(None) => return Err(CertificateError::Expired.into()),
        };
        match leading_to_them.verify_server_cert(own, others, name, ocsp_response, now) {
            Err(refused) if listed.takes(own, &refused) => {
                verify_server_name(&ParsedCertificate::try_from(own)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            found => found,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.known.supported_schemes()
    }
}
