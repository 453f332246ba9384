//! Who may ask: the bearer token and the certificate that a scraper must show.
//!
//! In: a request's head, and its client as the handshake showed it. Out: whether it may be answered. Nothing here waits,
//! and nothing that a stranger sends reaches further: no target is asked for whoever is refused.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, CONNECTION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use ring::digest::{Digest, SHA256, digest};
use subtle::ConstantTimeEq as _;
use tracing::warn;

use super::log_limit::LogLimit;
use super::response::{Content, plain};
use super::tls::{CertificateRefused, Peer, Tls};
use crate::config::Security;
use crate::files::{FileError, IS_EMPTY, IS_NO_HEADER, Watched, WatchedFile};

/// Who is let in, and how the connection is secured.
#[derive(Debug)]
pub(super) struct Authorizer {
    pub(super) tls: Option<Tls>,
    token: Option<Watched<Token, 1>>,
}

#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Certificate(#[from] CertificateRefused),
    #[error("it shows no bearer token")]
    NoToken,
    #[error("its bearer token is wrong")]
    WrongToken,
}

impl Authorizer {
    /// Reads the files. What is not configured is not asked for.
    pub(super) fn open(security: &Security) -> Result<Self, FileError> {
        let token = security.bearer_token_file.as_ref().map(|path| {
            let file = WatchedFile::new("QPEXT_BEARER_TOKEN_FILE", path);
            Watched::open([file], |[file]| Token::read(&file.content).map_err(|problem| file.error(problem)))
        });
        Ok(Self { tls: security.tls.as_ref().map(Tls::open).transpose()?, token: token.transpose()? })
    }

    /// Whether a client may ask with such headers. All that is configured must be right.
    pub(super) fn check(&self, headers: &HeaderMap, peer: &Peer) -> Result<(), Refusal> {
        if let Some(tls) = &self.tls {
            tls.check(peer)?;
        }
        let Some(token) = &self.token else {
            return Ok(());
        };
        let shown = shown_token(headers).ok_or(Refusal::NoToken)?;
        match token.current().is(shown) {
            true => Ok(()),
            false => Err(Refusal::WrongToken),
        }
    }

    /// Why files are not in use as they are now, but as they were before.
    pub(super) fn stale_files(&self) -> Vec<String> {
        let of_tls = self.tls.iter().flat_map(Tls::stale_files);
        let of_token = self.token.as_ref().and_then(Watched::problem);
        of_tls.chain(of_token).map(|problem| problem.to_string()).collect()
    }

    /// What is answered to a request that is refused, from there.
    pub(super) fn refuse(&self, refusal: &Refusal, origin: IpAddr, log_limit: &LogLimit) -> Response<Content> {
        let kind = match refusal {
            Refusal::Certificate(CertificateRefused::Missing) => "no certificate",
            Refusal::Certificate(CertificateRefused::Wrong(_)) => "wrong certificate",
            Refusal::NoToken => "no token",
            Refusal::WrongToken => "wrong token",
        };
        if let Some(times) = log_limit.happened(kind) {
            warn!(times, client = %origin, why = %refusal, "a request was refused");
        }
        let needs_certificate = self.tls.as_ref().is_some_and(Tls::asks_for_certificate);
        // All that is expected, whatever of it is missing: a stranger is not told which half it has right.
        let expected = match (needs_certificate, self.token.is_some()) {
            (true, true) => "expected a bearer token, and a client certificate of the right authority\n",
            (true, false) => "expected a client certificate of the right authority\n",
            _ => "expected a bearer token\n",
        };
        let mut response = plain(StatusCode::UNAUTHORIZED, expected);
        let headers = response.headers_mut();
        if self.token.is_some() {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(refusal, Refusal::Certificate(_)) {
            // A scraper whose certificate was replaced shows the new one on a new connection only.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// The token that a scraper must show, as its digest. Two digests are compared in a time that depends on neither, and
/// making one takes a time that depends on what a stranger sent, not on the token: neither its bytes nor its length can
/// be measured.
struct Token(Digest);

impl Token {
    /// Or what is wrong with a file of that content.
    fn read(content: &[u8]) -> Result<Self, &'static str> {
        // Prometheus takes the blanks off the token that it sends; an editor leaves a line break behind it.
        match std::str::from_utf8(content).map(str::trim) {
            Ok("") => Err(IS_EMPTY),
            Ok(token) if HeaderValue::from_str(token).is_ok() => Ok(Self(digest(&SHA256, token.as_bytes()))),
            Ok(_) | Err(_) => Err(IS_NO_HEADER),
        }
    }

    fn is(&self, shown: &[u8]) -> bool {
        digest(&SHA256, shown).as_ref().ct_eq(self.0.as_ref()).into()
    }
}

/// The token that a request shows, if it shows one. The scheme's case does not matter (RFC 9110, section 11.1).
fn shown_token(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?.as_bytes();
    if values.next().is_some() {
        // Which one a proxy before us would have believed is anybody's guess.
        return None;
    }
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let values = values.iter().map(|value| (AUTHORIZATION, value.parse().unwrap()));
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn a_token_is_shown_by_one_header_of_its_scheme() {
        for (values, shown) in [
            (&["Bearer abc"][..], Some("abc")),
            (&["bearer abc"], Some("abc")),
            (&["BEARER   abc "], Some("abc")),
            (&["Bearer a b"], Some("a b")),
            (&["Bearer "], Some("")),
            (&["Bearer"], None),
            (&["Bearerabc"], None),
            (&["Basic abc"], None),
            (&["abc"], None),
            (&[""], None),
            (&[], None),
            (&["Bearer abc", "Bearer abc"], None),
        ] {
            assert_eq!(shown_token(&headers(values)), shown.map(str::as_bytes), "{values:?}");
        }
    }

    #[test]
    fn the_right_token_is_the_whole_one_and_no_other() {
        let token = Token::read(b"\n secret\r\n").ok().unwrap();
        assert!(token.is(b"secret"));
        for wrong in [&b""[..], b"secre", b"secret ", b"secrets", b"Secret", b"tecret"] {
            assert!(!token.is(wrong));
        }
    }

    #[test]
    fn a_token_that_nobody_could_show_is_refused() {
        for (content, problem) in [
            (&b""[..], IS_EMPTY),
            (b" \r\n", IS_EMPTY),
            (b"two\nlines", IS_NO_HEADER),
            (b"\0", IS_NO_HEADER),
            (b"\xff", IS_NO_HEADER),
        ] {
            assert_eq!(Token::read(content).err(), Some(problem), "{content:?}");
        }
    }
}
