//! Whose certificates are trusted, on either side of TLS.
//!
//! In: files, and what rustls found of a certificate that was shown. Out: the files' certificates and keys, or what is wrong
//! with them; and whether one of them is the one that was shown. Whether a certificate leads to another is rustls's own to
//! find out.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, OtherError};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::files::{FileError, WatchedFile};

/// The one provider, given wherever one is needed and never made the process's own, so that no other library's choice can
/// replace it.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The certificates that stand in a file, at least one.
pub(crate) fn certificates(file: &WatchedFile) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&file.content).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(file.error("holds no certificate in PEM")),
        // What the parser says of bad PEM quotes the line at times, which may be one of a key: it is not passed on.
        Err(_) => Err(file.error("is not whole, or not PEM")),
    }
}

pub(crate) fn private_key(file: &WatchedFile) -> Result<PrivateKeyDer<'static>, FileError> {
    PrivateKeyDer::from_pem_slice(&file.content).map_err(|_| file.error("holds no private key in PEM"))
}

/// What is wrong with a certificate that stands in a file.
pub(crate) fn unreadable(file: &WatchedFile) -> FileError {
    file.error("holds no certificate that can be read")
}

/// What is wrong with a certificate and a key that rustls does not take.
pub(crate) fn no_pair(cert_file: &WatchedFile, key_file: &WatchedFile, error: &Error) -> FileError {
    match error {
        Error::InconsistentKeys(_) => {
            key_file.error(format_args!("is not the key of the certificate in {}", cert_file.option))
        }
        Error::InvalidCertificate(_) => unreadable(cert_file),
        _ => key_file.error("holds no private key of a usual kind: ECDSA (P-256 or P-384), Ed25519 or RSA"),
    }
}

/// Certificates that are trusted themselves, besides those that lead to them.
///
/// `openssl req -x509` makes a certificate its own authority (`CA:TRUE`), and webpki takes no authority for who serves or
/// asks. Go takes it where it is itself among the trusted ones (`Certificate.Verify` in `crypto/x509/verify.go`), and so
/// it is here: whoever has its key could have signed another with it that would be taken.
#[derive(Debug)]
pub(crate) struct Listed(pub(crate) Vec<CertificateDer<'static>>);

impl Listed {
    /// Whether this certificate, which was refused, is one of them byte for byte, and was refused as an authority only.
    /// By then it has been found valid at this time, which comes first; its names have not been looked at.
    pub(crate) fn takes(&self, shown: &CertificateDer<'_>, refused: &Error) -> bool {
        is_authority(refused) && self.0.contains(shown)
    }
}

/// Those of a file's certificates that are trusted at this time, if some of them are not: as in Go, an authority whose own time
/// is over vouches for nobody. To webpki an authority is its key, and lives for ever.
pub(crate) fn in_their_time<'a>(certificates: &[CertificateDer<'a>], at: UnixTime) -> Option<Vec<CertificateDer<'a>>> {
    let (in_time, others): (Vec<_>, Vec<_>) =
        certificates.iter().cloned().partition(|certificate| is_in_its_time(certificate, at));
    (!others.is_empty()).then_some(in_time)
}

/// Whether a certificate is valid at this time, as far as it can be read. That is what is looked at first in whatever is shown.
fn is_in_its_time(certificate: &CertificateDer<'_>, at: UnixTime) -> bool {
    let (Ok(shown), Ok(itself)) = (EndEntityCert::try_from(certificate), anchor_from_trusted_cert(certificate)) else {
        return true;
    };
    let algorithms = provider().signature_verification_algorithms.all;
    let anchors = [itself];
    let found = shown.verify_for_usage(algorithms, &anchors, &[], at, KeyUsage::client_auth(), None, None);
    !matches!(found, Err(webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. }))
}

/// Whether a certificate can be read at all: one of X.509's first version cannot, for example. Whoever shows such a one is
/// refused whatever it is trusted for.
pub(crate) fn is_readable(certificate: &CertificateDer<'_>) -> bool {
    ParsedCertificate::try_from(certificate).is_ok()
}

/// Whether a certificate was refused because it is an authority's.
pub(crate) fn is_authority(refused: &Error) -> bool {
    matches!(webpki_error(refused), Some(webpki::Error::CaUsedAsEndEntity))
}

/// What rustls found, in its words or webpki's.
pub(crate) fn describe(error: &Error) -> String {
    match webpki_error(error) {
        Some(webpki::Error::UnsupportedCertVersion) => {
            "invalid peer certificate: it is of another version of X.509 than the third".to_owned()
        }
        Some(error) => format!("invalid peer certificate: {error}"),
        None => error.to_string(),
    }
}

/// What webpki found, where rustls has no word for it.
fn webpki_error(error: &Error) -> Option<&webpki::Error> {
    match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(why))) => why.downcast_ref(),
        _ => None,
    }
}
