//! An answer on its way out, compressed if the scraper takes that and if it is worth it.
//!
//! In: an [`Answer`], the scraper's `Accept-Encoding`, the operator's setting. Out: the answer's pieces, or a coded stream
//! of them. It must never keep a piece waiting for the next one, and never hold more than a piece and the coder's window:
//! an answer that streams streams on.

use std::io::{self, Write};
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::HeaderMap;
use http::header::ACCEPT_ENCODING;
use tracing::warn;
use zstd::zstd_safe::CParameter;

use crate::aggregate::Answer;
use crate::config::Compression;
use crate::negotiation::{Coding, header};

/// An answer of up to this many bytes is sent as it is: it fits one packet anyway.
const SMALL: usize = 1 << 10;

/// Coded bytes after which a piece goes out without a flush: enough that a system call does not count.
const FRAME: usize = 64 << 10;

/// The fastest level of both. Metrics are so repetitive that higher ones save little, and a pod's processor belongs to its
/// model: on vLLM's text gzip makes 1.3 GB/s and a tenth of the size, its next level two thirds of that speed.
const GZIP_LEVEL: u32 = 1;
const ZSTD_LEVEL: i32 = 1;

/// 256 KiB, as a power of 2: a larger window costs memory and makes metrics hardly smaller, a smaller one makes them
/// twice as large.
const ZSTD_WINDOW_LOG: u32 = 18;

/// The coding that a scraper takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AcceptedCoding {
    coding: Coding,
    /// It takes nothing that is not compressed.
    is_demand: bool,
}

impl AcceptedCoding {
    /// Reads a scraper's `Accept-Encoding`: the coding that weighs most with it, zstd before gzip where they weigh the
    /// same and both are named; gzip for `*`, which every client that writes so can read; none if it names `identity` with more weight than that. Without the header a scraper takes none.
    pub(super) fn of(headers: &HeaderMap, allowed: Compression) -> Option<Self> {
        let elements: Vec<_> = header::elements(headers, ACCEPT_ENCODING).collect();
        let weight_of = |is_named: &dyn Fn(&header::Element<'_>) -> bool| {
            let named = elements.iter().find(|element| is_named(element));
            named.map(|element| element.weight)
        };
        let any = weight_of(&|element| element.is("*"));
        let identity = weight_of(&|element| element.is("identity"));
        let names_zstd = weight_of(&|element| Coding::named(element.value) == Some(Coding::Zstd)).is_some();
        // Of two that weigh the same, the last is taken.
        let codings: &[Coding] = match allowed {
            Compression::Off => &[],
            Compression::Gzip => &[Coding::Gzip],
            Compression::Zstd => &[Coding::Zstd],
            Compression::Auto if names_zstd => &[Coding::Gzip, Coding::Zstd],
            Compression::Auto => &[Coding::Zstd, Coding::Gzip],
        };
        let weighed = codings.iter().map(|&coding| {
            let weight = weight_of(&|element| Coding::named(element.value) == Some(coding));
            (weight.or(any).unwrap_or(0.0), coding)
        });
        let (weight, coding) = weighed.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
        let is_taken = weight > 0.0 && weight >= identity.unwrap_or(0.0);
        let is_demand = identity.or(any) == Some(0.0);
        is_taken.then_some(Self { coding, is_demand })
    }
}

/// An answer on its way out.
pub(super) struct Outgoing {
    answer: Answer,
    coder: Option<Coder>,
}

impl Outgoing {
    /// Pulls the answer until it is settled whether it is small.
    pub(super) async fn begin(mut answer: Answer, accepted: Option<AcceptedCoding>) -> Self {
        let coder = match accepted {
            Some(accepted) if accepted.is_demand || answer.has_more_than(SMALL).await => {
                Coder::new(accepted.coding).inspect_err(|error| warn!(%error, "an answer cannot be compressed")).ok()
            }
            _ => None,
        };
        Self { answer, coder }
    }

    pub(super) fn coding(&self) -> Option<Coding> {
        self.coder.as_ref().map(|coder| coder.coding)
    }

    /// Whether nobody will ever get more than this.
    pub(super) fn is_last(&self) -> bool {
        self.answer.is_last()
    }

    /// The next piece, never empty; `None` at its end.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        match &mut self.coder {
            None => self.answer.poll_piece(cx).map(|piece| piece.map(Ok)),
            Some(coder) => coder.poll_piece(&mut self.answer, cx),
        }
    }
}

/// A coded stream: bytes in, coded bytes out.
struct Coder {
    coding: Coding,
    codec: Codec,
    /// Bytes went in that need not have come out.
    is_behind: bool,
    is_finished: bool,
}

/// What writes the coded bytes behind those that are there already.
enum Codec {
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::Encoder<'static, Vec<u8>>),
}

impl Codec {
    fn new(coding: Coding) -> io::Result<Self> {
        Ok(match coding {
            Coding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL))),
            Coding::Zstd => {
                let mut encoder = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.set_parameter(CParameter::WindowLog(ZSTD_WINDOW_LOG))?;
                Self::Zstd(encoder)
            }
        })
    }

    fn input(&mut self) -> &mut dyn Write {
        match self {
            Self::Gzip(encoder) => encoder,
            Self::Zstd(encoder) => encoder,
        }
    }

    fn output(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.try_finish(),
            Self::Zstd(encoder) => encoder.do_finish(),
        }
    }
}

impl Coder {
    fn new(coding: Coding) -> io::Result<Self> {
        Ok(Self { coding, codec: Codec::new(coding)?, is_behind: false, is_finished: false })
    }

    fn poll_piece(&mut self, answer: &mut Answer, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.is_finished {
            return Poll::Ready(None);
        }
        while self.codec.output().len() < FRAME && !self.is_finished {
            let done = match answer.poll_piece(cx) {
                Poll::Ready(Some(piece)) => {
                    self.is_behind = true;
                    self.codec.input().write_all(&piece)
                }
                Poll::Ready(None) => {
                    self.is_finished = true;
                    self.codec.finish()
                }
                Poll::Pending if !self.is_behind => return Poll::Pending,
                // The answer has nothing more right now, so all that went in goes out, to be decoded without what follows.
                Poll::Pending => match self.codec.input().flush() {
                    Ok(()) => {
                        self.is_behind = false;
                        break;
                    }
                    error => error,
                },
            };
            if let Err(error) = done {
                return Poll::Ready(Some(Err(error)));
            }
        }
        Poll::Ready(Some(Ok(std::mem::take(self.codec.output()).into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(accept_encoding: Option<&str>, allowed: Compression) -> Option<AcceptedCoding> {
        let header = accept_encoding.map(|value| (ACCEPT_ENCODING, value.parse().unwrap()));
        AcceptedCoding::of(&HeaderMap::from_iter(header), allowed)
    }

    #[test]
    fn the_scrapers_weights_choose_and_zstd_where_they_do_not() {
        use Coding::{Gzip, Zstd};
        for (accept_encoding, expected) in [
            ("gzip", Some(Gzip)),
            ("x-gzip", Some(Gzip)),
            ("GZip;Q=0.5", Some(Gzip)),
            ("zstd", Some(Zstd)),
            ("gzip, zstd", Some(Zstd)),
            ("gzip;q=1.0, zstd;q=0.5", Some(Gzip)),
            ("gzip;q=0.5, zstd;q=0.5", Some(Zstd)),
            ("deflate, gzip, br", Some(Gzip)),
            ("*", Some(Gzip)),
            ("*, zstd;q=0", Some(Gzip)),
            ("*;q=0.5, gzip", Some(Gzip)),
            ("gzip;q=0, zstd;q=0, *", None),
            ("gzip, *;q=0", Some(Gzip)),
            ("identity", None),
            ("identity, gzip", Some(Gzip)),
            ("identity;q=1, gzip;q=0.5", None),
            ("identity;q=0.5, gzip;q=0.2, zstd", Some(Zstd)),
            ("identity;q=0, gzip", Some(Gzip)),
            ("identity;q=0", None),
            ("*;q=0", None),
            ("br, deflate", None),
            ("gzip;q=0", None),
            ("gzip;q=x", None),
            ("", None),
        ] {
            let accepted = accepted(Some(accept_encoding), Compression::Auto);
            assert_eq!(accepted.map(|accepted| accepted.coding), expected, "{accept_encoding:?}");
        }
        assert_eq!(accepted(None, Compression::Auto), None);
    }

    #[test]
    fn the_setting_leaves_a_scraper_less_to_choose_from() {
        let chosen =
            |allowed, accept_encoding| accepted(Some(accept_encoding), allowed).map(|accepted| accepted.coding);
        assert_eq!(chosen(Compression::Off, "gzip, zstd"), None);
        assert_eq!(chosen(Compression::Gzip, "gzip, zstd"), Some(Coding::Gzip));
        assert_eq!(chosen(Compression::Gzip, "zstd"), None);
        assert_eq!(chosen(Compression::Zstd, "gzip;q=1, zstd;q=0.1"), Some(Coding::Zstd));
        assert_eq!(chosen(Compression::Zstd, "gzip"), None);
    }

    #[test]
    fn a_scraper_can_demand_compression() {
        for (accept_encoding, expected) in [
            ("gzip, identity;q=0", true),
            ("gzip, *;q=0", true),
            ("gzip, identity;q=0.1, *;q=0", false),
            ("gzip", false),
            ("*", false),
        ] {
            let accepted = accepted(Some(accept_encoding), Compression::Auto).unwrap();
            assert_eq!(accepted.is_demand, expected, "{accept_encoding:?}");
        }
    }
}
