//! A target's failure, in the operator's words.
//!
//! In: what the HTTP client, TLS or a decoder says of it, and what the target sent. Out: a [`ScrapeError`]. What a target says
//! is cut, and made printable.

use std::error::Error;
use std::io;
use std::iter::successors;
use std::time::Duration;

use http::StatusCode;
use rustls::{AlertDescription, CertificateError};

use super::client::{MAX_HEADERS, MAX_INFORMATIONAL};
use super::connection::{MAX_BEFORE_HEAD, NoHead};
use crate::exposition::printable;
use crate::trust::{self, is_authority};

/// Redirects that are followed. Starlette sends one, from `/metrics` to `/metrics/`.
pub(super) const MAX_REDIRECTS: usize = 3;

/// Bytes of an answer's headers, which Go bounds too (`Transport.MaxResponseHeaderBytes`), at more.
pub(super) const MAX_HEAD: usize = 256 << 10;

/// Longest piece of a target's own words in an error, in characters.
const QUOTED_CHARACTERS: usize = 100;

/// Longest error of a library's, in characters. One of TLS names all that a certificate is for, which its owner chooses.
const ERROR_CHARACTERS: usize = 300;

/// How a target failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScrapeError {
    #[error("cannot be asked: {0}")]
    File(String),
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    #[error("cannot be reached by TLS: {0}")]
    Tls(String),
    /// The answer is none of ours to follow.
    #[error("redirects to {0:?}, which is another server")]
    Redirect(String),
    #[error("answered with more than {MAX_REDIRECTS} redirects")]
    Redirects,
    #[error("answered {0}, expected 200 OK")]
    Status(StatusCode),
    #[error("answered with more than {MAX_HEAD} bytes or {MAX_HEADERS} lines of headers")]
    LargeHead,
    #[error("sent informational answers, and no other among {MAX_INFORMATIONAL} of them or {MAX_BEFORE_HEAD} bytes")]
    NoHead,
    #[error("answered with the content type {0:?}, expected an exposition")]
    ContentType(String),
    #[error("answered with {content_type}, and with {line:?} as the first line, expected an exposition")]
    NoExposition { content_type: String, line: String },
    #[error("sent no line that can be read, expected an exposition; the first one is {0:?}")]
    Unreadable(String),
    #[error("answered with the content encoding {0:?}, expected none, gzip or zstd")]
    ContentEncoding(String),
    #[error("sent no answer within {}", seconds(.0))]
    HeadTimeout(Duration),
    #[error("sent a body that did not end within {}", seconds(.0))]
    BodyTimeout(Duration),
    #[error("broke off inside its body: {0}")]
    BrokenOff(String),
    #[error("ended its body without \"# EOF\", or within a message, so that it broke off")]
    NoEnd,
    #[error("sent a body of more than {0} bytes")]
    TooLarge(u64),
    #[error("sent more than {0} samples, which is QPEXT_SAMPLE_LIMIT")]
    SampleLimit(u64),
}

impl ScrapeError {
    /// Whether nobody is there to answer any more.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }

    /// It in a word, as in a label value.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Unreachable(_) => "unreachable",
            Self::Tls(_) => "tls",
            Self::Redirect(_) | Self::Redirects => "redirect",
            Self::Status(_) => "status",
            Self::LargeHead | Self::NoHead => "large_head",
            Self::ContentType(_) | Self::NoExposition { .. } => "content_type",
            Self::Unreadable(_) => "unreadable",
            Self::ContentEncoding(_) => "content_encoding",
            Self::HeadTimeout(_) => "head_timeout",
            Self::BodyTimeout(_) => "body_timeout",
            Self::BrokenOff(_) => "broken_off",
            Self::NoEnd => "no_end",
            Self::TooLarge(_) => "too_large",
            Self::SampleLimit(_) => "sample_limit",
        }
    }
}

fn seconds(duration: &Duration) -> String {
    format!("{:.3} s", duration.as_secs_f64())
}

/// What kept a request from being answered.
pub(super) fn unreachable(error: &(dyn Error + 'static)) -> ScrapeError {
    if causes(error).any(|cause| cause.is::<NoHead>()) {
        return ScrapeError::NoHead;
    }
    let mut of_http = causes(error).filter_map(|cause| cause.downcast_ref::<hyper::Error>());
    if of_http.any(hyper::Error::is_parse_too_large) {
        return ScrapeError::LargeHead;
    }
    let tls = causes(error).find_map(|cause| cause.downcast_ref::<rustls::Error>());
    match tls {
        Some(error) => ScrapeError::Tls(tls_failure(error)),
        None => ScrapeError::Unreachable(root_cause(error)),
    }
}

/// What a failure of TLS comes to, and what may be done about it.
fn tls_failure(error: &rustls::Error) -> String {
    let advice = match error {
        // The signature is another's where an authority was renewed under its name.
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "; ca_file is to hold what its certificate leads to"
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "; server_name is to be the name in its certificate",
        error if is_authority(error) => "; ca_file is to have it itself",
        rustls::Error::InvalidMessage(_) => "; perhaps it does not speak TLS",
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "; cert_file and key_file are to be a certificate that it accepts"
        }
        _ => "",
    };
    words(&trust::describe(error)) + advice
}

/// Whether the connection ended before an answer came.
pub(super) fn broke_off(error: &(dyn Error + 'static)) -> bool {
    // The end of a TLS connection that its server did not announce is unexpected.
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};

    causes(error).any(|cause| {
        let hyper = cause.downcast_ref::<hyper::Error>();
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        hyper.is_some_and(|error| error.is_incomplete_message() || error.is_canceled())
            || matches!(io, Some(BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof))
    }) && !causes(error).any(|cause| cause.is::<rustls::Error>())
}

/// What a target sent, as a person may be shown it.
pub(crate) fn quote(value: &[u8]) -> String {
    cut(&String::from_utf8_lossy(value), QUOTED_CHARACTERS)
}

/// What a library says of an error, in which there may be words of the target's.
fn words(error: &str) -> String {
    cut(error, ERROR_CHARACTERS)
}

/// The beginning of a text, as a person may be shown it.
fn cut(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        None => printable(text),
        Some((end, _)) => printable(&text[..end]) + "…",
    }
}

/// The innermost cause, which is the one that says what happened: "Connection refused", not "error sending request".
pub(super) fn root_cause(error: &(dyn Error + 'static)) -> String {
    words(&causes(error).last().unwrap_or(error).to_string())
}

/// An error and what it was caused by, one behind the other.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |&error| {
        // An I/O error that holds another passes that over as its source, and names the one behind.
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(held) => Some(held as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}
