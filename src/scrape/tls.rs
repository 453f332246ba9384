//! TLS towards one target, set up from its files.
//!
//! In: a target's options. Out: what rustls needs to know. Nothing here connects.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::error::words;
use crate::config::HttpOptions;
use crate::files::{FileError, WatchedFile, read_all};
use crate::trust::{self, Listed, certificates, is_authority, no_pair, private_key, provider, unreadable};

/// What is spoken inside TLS.
const HTTP_1_1: &[u8] = b"http/1.1";

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
        let shown = self
            .shown
            .iter_mut()
            .flat_map(|(cert_file, key_file)| [cert_file, key_file]);
        read_all(ca_file.into_iter().chain(shown))
    }

    /// What they come to, as they were last read.
    pub(super) fn config(&self) -> Result<ClientConfig, FileError> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring knows the default versions");
        let builder = match &self.trust {
            Trust::Any => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))),
            Trust::System => builder.with_root_certificates(system_roots()?),
            Trust::File(ca_file) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(ListedCertificates::of(ca_file)?)),
        };
        let mut config = match &self.shown {
            None => builder.with_no_client_auth(),
            Some((cert_file, key_file)) => builder
                .with_client_auth_cert(certificates(cert_file)?, private_key(key_file)?)
                .map_err(|error| no_pair(cert_file, key_file, &error))?,
        };
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        Ok(config)
    }
}

/// For a client that never speaks TLS: it trusts nobody.
pub(super) fn no_tls() -> ClientConfig {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring knows the default versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
}

/// What a failure of TLS comes to, and what may be done about it.
pub(super) fn describe(error: &Error) -> String {
    let advice = match error {
        // The signature is another's where an authority was renewed under its name.
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "; ca_file is to hold what its certificate leads to"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "; server_name is to be the name in its certificate",
        error if is_authority(error) => "; ca_file is to have it itself",
        Error::InvalidMessage(_) => "; perhaps it does not speak TLS",
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "; cert_file and key_file are to be a certificate that it accepts"
        }
        _ => "",
    };
    words(&trust::describe(error)) + advice
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
        return Err(FileError::without_path(
            "ca_file",
            "is not set, and the system has no certificates",
        ));
    }
    Ok(Arc::clone(roots))
}

/// Takes certificates that lead to one of a file's, and those that stand there themselves.
#[derive(Debug)]
struct ListedCertificates {
    listed: Listed,
    leading_to_them: Arc<WebPkiServerVerifier>,
}

impl ListedCertificates {
    /// As in Go, it is enough that one of the certificates can be read.
    fn of(file: &WatchedFile) -> Result<Self, FileError> {
        let certificates = certificates(file)?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates.iter().cloned());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
        Ok(Self {
            listed: Listed::new(certificates),
            leading_to_them: verifier.build().map_err(|_| unreadable(file))?,
        })
    }
}

impl ServerCertVerifier for ListedCertificates {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = self
            .leading_to_them
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match found {
            Err(refused) if self.listed.takes(end_entity, &refused) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            found => found,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.leading_to_them.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.leading_to_them.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.leading_to_them.supported_verify_schemes()
    }
}

/// Takes whatever certificate is shown, from whoever has its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
