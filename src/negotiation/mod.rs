//! Which formats a scraper takes, which one the targets are asked for, and which one goes out.
//!
//! In: the headers of a request, and then what the targets answered. Out: the `Accept` for the targets, a [`Format`] and
//! the [`Escaping`] that it may use, and the content type that says so. No I/O, and no header, however odd, is an error:
//! what cannot be read is as if it were not there.

pub(crate) mod header;

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue};

use crate::exposition::{Escaping, Format, OpenMetricsVersion, Spelling, TextVersion};
use header::Element;

const TEXT: &str = "text/plain";
const OPEN_METRICS: &str = "application/openmetrics-text";

/// A format, the name of its media type, and that one's parameters.
type MediaType = (Format, &'static str, &'static [(&'static str, &'static str)]);

/// All that are known, as prometheus/common knows them (`expfmt/expfmt.go`); of one name the oldest first, which it is without
/// a version.
const MEDIA_TYPES: [MediaType; 5] = [
    (TEXT_0_0_4, TEXT, &[("version", "0.0.4")]),
    (TEXT_1_0_0, TEXT, &[("version", "1.0.0")]),
    (OPEN_METRICS_0_0_1, OPEN_METRICS, &[("version", "0.0.1")]),
    (OPEN_METRICS_1_0_0, OPEN_METRICS, &[("version", "1.0.0")]),
    (
        Format::Protobuf,
        "application/vnd.google.protobuf",
        &[("proto", "io.prometheus.client.MetricFamily"), ("encoding", "delimited")],
    ),
];

/// The format that everybody speaks.
const TEXT_0_0_4: Format = Format::Text(TextVersion::V0_0_4);
const TEXT_1_0_0: Format = Format::Text(TextVersion::V1_0_0);
const OPEN_METRICS_0_0_1: Format = Format::OpenMetrics(OpenMetricsVersion::V0_0_1);
const OPEN_METRICS_1_0_0: Format = Format::OpenMetrics(OpenMetricsVersion::V1_0_0);

/// What everybody reads.
pub(crate) const PLAIN_TEXT: Spelling = Spelling { format: TEXT_0_0_4, escaping: Escaping::Underscores };

/// Weights for a last resort; the first one below all the others is taken. Three decimals are all that RFC 9110 allows:
/// below the smallest there is nothing, and coming last has to do.
const LAST_RESORTS: [f64; 3] = [0.1, 0.01, 0.001];

/// The formats that a scraper accepts, in its own order.
#[derive(Debug, Clone)]
pub struct Accepted {
    entries: Vec<Entry>,
    /// Text is among them, or a wildcard.
    takes_text: bool,
}

/// A format, as the scraper named it.
#[derive(Debug, Clone)]
struct Entry {
    spelling: Spelling,
    weight: f64,
    text: Vec<u8>,
}

impl Accepted {
    /// Reads a scraper's `Accept`.
    ///
    /// What is not known, not readable or of the weight 0 is left out. Wildcards are, too: text 0.0.4, which they stand
    /// for, is always accepted.
    pub fn of(headers: &HeaderMap) -> Self {
        let elements = || header::elements(headers, ACCEPT).filter(|element| element.weight > 0.0);
        let entries: Vec<Entry> = elements().filter_map(|element| Entry::of(&element)).collect();
        let has_wildcard = elements().any(|element| element.is("*/*") || element.is("text/*"));
        let has_text = entries.iter().any(|entry| matches!(entry.spelling.format, Format::Text(_)));
        Self { entries, takes_text: has_wildcard || has_text }
    }

    /// The `Accept` for the targets: the scraper's own, cut down to the formats that are known here, with text 0.0.4 as
    /// the last resort, and whatever there is behind it. Some servers refuse who names neither theirs nor that, and every
    /// Prometheus names it.
    pub fn for_targets(&self) -> HeaderValue {
        let mut list: Vec<Vec<u8>> = self.entries.iter().map(|entry| entry.text.clone()).collect();
        let mut lowest = self.entries.iter().map(|entry| entry.weight).fold(1.0, f64::min);
        if list.is_empty() {
            list.push(b"text/plain;version=0.0.4".to_vec());
        } else if self.entry(TEXT_0_0_4).is_none() {
            lowest = weight_below(lowest);
            list.push(format!("text/plain;version=0.0.4;q={lowest}").into_bytes());
        }
        list.push(format!("*/*;q={}", weight_below(lowest)).into_bytes());
        HeaderValue::from_bytes(&list.join(&b',')).expect("pieces of a header's value make one")
    }

    /// The format of the answer, from those in which the living targets answered, and the names that it may use.
    ///
    /// Protobuf loses nothing, so one target that speaks it is enough. OpenMetrics can be made of OpenMetrics only, so
    /// all must speak it, and must be known to: `all_known` says that no target is still awaited. Otherwise it is the newest
    /// text that the scraper takes, whatever the targets speak: what is in its families does not depend on that.
    pub fn choose(&self, answered: &[Format], all_known: bool) -> Spelling {
        let protobuf = self.entry(Format::Protobuf).filter(|_| answered.contains(&Format::Protobuf));
        let open_metrics = || self.open_metrics(answered).filter(|_| all_known);
        let chosen = protobuf.or_else(open_metrics);
        chosen.map_or_else(|| self.text(), |entry| self.spelling(entry))
    }

    /// The text that goes out where the OpenMetrics of several targets cannot be put together: split families read well there.
    /// `None` if the scraper does not take any.
    pub(crate) fn instead_of_open_metrics(&self) -> Option<Spelling> {
        self.takes_text.then(|| self.text())
    }

    /// The newest text that is accepted.
    fn text(&self) -> Spelling {
        self.entry(TEXT_1_0_0).map_or(PLAIN_TEXT, |entry| self.spelling(entry))
    }

    /// How an answer in this format is spelt. Who reads UTF-8 names in one format reads them in protobuf and old OpenMetrics,
    /// too, for which no Prometheus says so: names must not change because another target stops answering, or starts to.
    fn spelling(&self, entry: &Entry) -> Spelling {
        let mut spelling = entry.spelling;
        if spelling.format != TEXT_0_0_4
            && self.entries.iter().any(|entry| entry.spelling.escaping == Escaping::AllowUtf8)
        {
            spelling.escaping = Escaping::AllowUtf8;
        }
        spelling
    }

    /// The newest OpenMetrics that is accepted and no newer than what any target answered in. An older one will do for
    /// bodies that are newer: the versions differ in their names, and Prometheus reads both with the same parser.
    fn open_metrics(&self, answered: &[Format]) -> Option<&Entry> {
        let versions = answered.iter().map(|format| match format {
            Format::OpenMetrics(version) => Some(*version),
            Format::Text(_) | Format::Protobuf => None,
        });
        let lowest = versions.collect::<Option<Vec<_>>>()?.into_iter().min()?;
        [OpenMetricsVersion::V1_0_0, OpenMetricsVersion::V0_0_1]
            .into_iter()
            .filter(|version| *version <= lowest)
            .find_map(|version| self.entry(Format::OpenMetrics(version)))
    }

    /// How much the richest format has a place for.
    pub(crate) fn richness(&self) -> u8 {
        let richness = self.entries.iter().map(|entry| match entry.spelling.format {
            Format::Text(_) => 0,
            Format::OpenMetrics(_) => 1,
            Format::Protobuf => 2,
        });
        richness.max().unwrap_or(0)
    }

    /// Whether nothing but text is accepted, so that no target need be awaited before the answer begins.
    pub fn is_text_only(&self) -> bool {
        self.entries.iter().all(|entry| matches!(entry.spelling.format, Format::Text(_)))
    }

    fn entry(&self, format: Format) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.spelling.format == format)
    }
}

/// The largest weight of a last resort below this one, as far as there is one.
fn weight_below(lowest: f64) -> f64 {
    let [.., last] = LAST_RESORTS;
    LAST_RESORTS.into_iter().find(|weight| *weight < lowest).unwrap_or(last)
}

impl Entry {
    /// `None` if the format is not known.
    fn of(element: &Element<'_>) -> Option<Self> {
        let format = named(element, |parameter| parameter == "version")?;
        let takes_utf8 = element.parameter("escaping") == Some(b"allow-utf-8") && format != TEXT_0_0_4;
        let escaping = match takes_utf8 {
            true => Escaping::AllowUtf8,
            false => Escaping::Underscores,
        };
        Some(Self { spelling: Spelling { format, escaping }, weight: element.weight, text: element.text.to_owned() })
    }
}

/// The format that has this name and these parameters, of which some may be missing.
fn named(element: &Element<'_>, may_miss: impl Fn(&str) -> bool) -> Option<Format> {
    let has = |name: &str, value: &str| match element.parameter(name) {
        Some(given) => given == value.as_bytes(),
        None => may_miss(name),
    };
    let mut known = MEDIA_TYPES.iter().filter(|(_, name, _)| element.is(name));
    let known = known.find(|(_, _, parameters)| parameters.iter().all(|(name, value)| has(name, value)));
    known.map(|(format, _, _)| *format)
}

/// What a target's `Content-Type` says of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// It is in this format.
    Known(Format),
    /// It is in a version that is not known, and read as this one.
    AnotherVersion(Format),
    /// It is no exposition, or nothing is said. Whether it is one, its first line tells.
    Unknown,
}

/// The format in which a target answered, by its `Content-Type`.
///
/// Targets are read more leniently than scrapers: where a scraper's words are one wish among others, a target's are all
/// there is to go by. Text of a version that is not known was always read as text 0.0.4. OpenMetrics of a version that is not
/// known is read as the newest one that is.
pub fn format_of(content_type: Option<&HeaderValue>) -> Answered {
    let Some(content_type) = content_type else {
        return Answered::Unknown;
    };
    let element = header::single(content_type);
    if let Some(format) = named(&element, |_| true) {
        return Answered::Known(format);
    }
    let format = match element.is(OPEN_METRICS) {
        true => OPEN_METRICS_1_0_0,
        false if element.is(TEXT) => TEXT_0_0_4,
        false => return Answered::Unknown,
    };
    Answered::AnotherVersion(format)
}

/// The content type of an answer, as prometheus/common writes it: what its body is, exactly.
pub fn content_type(Spelling { format, escaping }: Spelling) -> HeaderValue {
    let known = MEDIA_TYPES.iter().find(|(known, _, _)| *known == format);
    let (_, name, parameters) = known.expect("every format has its media type");
    let charset = (format != Format::Protobuf).then_some(("charset", "utf-8"));
    let escaping = match escaping {
        // It has but one kind of names, and older scrapers expect these very words.
        _ if format == TEXT_0_0_4 => None,
        Escaping::AllowUtf8 => Some(("escaping", "allow-utf-8")),
        Escaping::Underscores => Some(("escaping", "underscores")),
    };
    let mut text = (*name).to_owned();
    for (name, value) in parameters.iter().copied().chain(charset).chain(escaping) {
        text.extend(["; ", name, "=", value]);
    }
    HeaderValue::try_from(text).expect("it may stand in a header")
}

/// How a body may be compressed, as HTTP names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Zstd,
}

impl Coding {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The one of this name, in upper or lower case; `x-gzip` is the first's old one (RFC 9110, section 8.4.1.3).
    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        match name.to_ascii_lowercase().as_slice() {
            b"gzip" | b"x-gzip" => Some(Self::Gzip),
            b"zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}
