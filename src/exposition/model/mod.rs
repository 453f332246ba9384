//! What an exposition is made of, whatever it is read from and written as: metric types and their parts, families, samples,
//! metrics, and ([`value`]) their texts and numbers.
//!
//! What the parts of a type are called, and as which family a format writes a sample, stands here and nowhere else.

mod value;

pub(super) use self::value::{Number, Text, Time, Values, put_bound, put_float, put_integer};
use super::bytes::Span;
use super::format::Escaping;
use super::labels::Labels;

/// The type of a metric family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum MetricType {
    /// A count that only rises.
    Counter,
    /// A number that rises and falls.
    Gauge,
    /// A distribution, in buckets.
    Histogram,
    /// A distribution that rises and falls, in buckets; text has no such type.
    GaugeHistogram,
    /// A distribution, in quantiles.
    Summary,
    /// Words about something; OpenMetrics only.
    Info,
    /// Which of some states hold; OpenMetrics only.
    StateSet,
    /// Nobody knows: `untyped` in text, `unknown` in OpenMetrics.
    #[default]
    Untyped,
}

/// Which types there are in a format, and what their samples are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Convention {
    /// Prometheus's text.
    Text,
    /// OpenMetrics.
    OpenMetrics,
    /// `io.prometheus.client`.
    Protobuf,
}

/// Which part of its family a sample is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Its value, or, where a quantile is told, one of its quantiles.
    Value,
    /// `_bucket`
    Bucket,
    /// `_sum`, `_gsum`
    Sum,
    /// `_count`, `_gcount`
    Count,
    /// `_created`
    Created,
}

/// What may stand behind a family's name in that of a sample, in the order in which samples go out where each name is a family.
pub(super) const ENDINGS: [&str; 9] =
    ["", "_total", "_info", "_bucket", "_sum", "_gsum", "_count", "_gcount", "_created"];

use Convention::{OpenMetrics, Protobuf, Text as PlainText};
use MetricType::{Counter, Gauge, GaugeHistogram, Histogram, Info, StateSet, Summary, Untyped};

impl MetricType {
    /// The type that a `# TYPE` line names: in the words of either format, in any case.
    pub(super) fn from_word(word: &[u8]) -> Option<Self> {
        let words: [(&[u8], Self); 9] = [
            (b"counter", Counter),
            (b"gauge", Gauge),
            (b"histogram", Histogram),
            (b"summary", Summary),
            (b"untyped", Untyped),
            (b"unknown", Untyped),
            (b"gaugehistogram", GaugeHistogram),
            (b"info", Info),
            (b"stateset", StateSet),
        ];
        words.into_iter().find(|(own, _)| own.eq_ignore_ascii_case(word)).map(|(_, kind)| kind)
    }

    /// The word for it in a format: for the nearest type that the format has.
    pub(super) fn word(self, convention: Convention) -> &'static str {
        match (self, convention) {
            (Counter, _) => "counter",
            (Info, OpenMetrics) => "info",
            (StateSet, OpenMetrics) => "stateset",
            (Gauge | Info | StateSet, _) => "gauge",
            (GaugeHistogram, OpenMetrics | Protobuf) => "gaugehistogram",
            (Histogram | GaugeHistogram, _) => "histogram",
            (Summary, _) => "summary",
            (Untyped, PlainText) => "untyped",
            (Untyped, _) => "unknown",
        }
    }

    /// What the samples of a part are called in a format: what stands behind the family's name. `None` where the format has
    /// no such samples in families of this type.
    pub(super) fn suffix(self, part: Part, convention: Convention) -> Option<&'static str> {
        let is_open_metrics = convention == OpenMetrics;
        Some(match (self, part) {
            (Counter, Part::Value) if is_open_metrics => "_total",
            (Info, Part::Value) if is_open_metrics => "_info",
            (Histogram | GaugeHistogram, Part::Bucket) => "_bucket",
            (GaugeHistogram, Part::Sum) if is_open_metrics => "_gsum",
            (GaugeHistogram, Part::Count) if is_open_metrics => "_gcount",
            (Histogram | GaugeHistogram | Summary, Part::Sum) => "_sum",
            (Histogram | GaugeHistogram | Summary, Part::Count) => "_count",
            (Counter | Histogram | GaugeHistogram | Summary, Part::Created) if is_open_metrics => "_created",
            (_, Part::Value) => "",
            _ => return None,
        })
    }

    /// Which part of a family of this type a sample is whose name has this ending; `None` if it is none.
    pub(super) fn part(self, suffix: &[u8], convention: Convention) -> Option<Part> {
        Part::of_ending(suffix)
            .filter(|part| self.suffix(*part, convention).is_some_and(|own| own.as_bytes() == suffix))
    }

    /// Whether a family of this type has samples that go by other names than its own.
    pub(super) fn has_parts(self, convention: Convention) -> bool {
        match self {
            Histogram | GaugeHistogram | Summary => true,
            Counter | Info => convention != Protobuf,
            Gauge | StateSet | Untyped => false,
        }
    }

    /// Whether a family of this type may have this name. The official Python client takes the ending off a counter's, and refuses the
    /// whole body if nothing is left.
    pub(super) fn may_have_name(self, name: &[u8]) -> bool {
        self != Counter || name != b"_total"
    }

    /// Whether a metric of it is made of several numbers, in protobuf.
    pub(super) fn is_composite(self) -> bool {
        matches!(self, Histogram | GaugeHistogram | Summary)
    }
}

impl Part {
    /// The part whose samples have names with this ending, in families of some type in some format.
    pub(super) fn of_ending(ending: &[u8]) -> Option<Self> {
        Some(match ending {
            b"_total" | b"_info" => Self::Value,
            b"_bucket" => Self::Bucket,
            b"_sum" | b"_gsum" => Self::Sum,
            b"_count" | b"_gcount" => Self::Count,
            b"_created" => Self::Created,
            _ => return None,
        })
    }
}

/// A metric family, as a format writes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Family<'a> {
    /// Its name in the body, decoded.
    pub stem: &'a [u8],
    /// That is known to be in the old character set.
    pub is_old: bool,
    /// What is added to that where it is written.
    pub suffix: &'static str,
    /// What is left out of its end there.
    pub ending: &'static str,
    /// It has another type than its target says, and its samples with this ending are a family by that name, to readers.
    pub parted: &'static str,
    /// Its type, if it has one.
    pub kind: Option<MetricType>,
    /// The target says so itself.
    pub is_declared: bool,
    /// Which part of it is at hand, and what stands behind its name in the name of that.
    pub part: Part,
    pub part_ending: &'static str,
    /// It is a part of another family in the body, whose samples it must not part.
    pub is_apart: bool,
}

impl<'a> Family<'a> {
    /// The family as which a sample goes out whose name is `stem` and `suffix`.
    pub(super) fn of_sample(
        (from, to): (Convention, Convention),
        stem: &'a [u8],
        suffix: &[u8],
        kind: Option<MetricType>,
    ) -> Self {
        let mut family = Self::without_samples((from, to), stem, kind);
        family.part = Part::of_ending(suffix).unwrap_or(Part::Value);
        if to == OpenMetrics && suffix.is_empty() {
            family.name_by_rule();
        } else if to == OpenMetrics {
            let own = kind.and_then(|kind| kind.suffix(family.part, OpenMetrics));
            family.part_ending = own.unwrap_or_default();
        }
        if from == Protobuf || to == OpenMetrics {
            return family;
        }
        // In text, too, samples may go by OpenMetrics' names.
        let own = kind.and_then(|kind| kind.suffix(family.part, OpenMetrics)).filter(|own| own.as_bytes() == suffix);
        match (family.part, own.unwrap_or_default()) {
            // One that goes by its family's name, against the rules, keeps that, and its type.
            (Part::Value, suffix) => family.suffix = suffix,
            (Part::Created, suffix) | (_, suffix @ ("_gsum" | "_gcount")) if to == PlainText => {
                // Text has no such parts: they are families of their own.
                (family.suffix, family.kind, family.is_apart) = (suffix, Some(Gauge), true);
            }
            _ => {}
        }
        family
    }

    /// Has it written so that a sample that goes by its name may be one of it in OpenMetrics: strict readers refuse the whole answer
    /// where a counter's sample has no ending beyond the counter's name.
    fn name_by_rule(&mut self) {
        let Some((kind @ (Counter | Info), ending)) =
            self.kind.and_then(|kind| Some((kind, kind.suffix(Part::Value, OpenMetrics)?)))
        else {
            return;
        };
        match self.stem.strip_suffix(ending.as_bytes()) {
            Some([_, ..]) => (self.ending, self.part_ending) = (ending, ending),
            _ => (self.kind, self.parted) = (Some(if kind == Counter { Untyped } else { Gauge }), ending),
        }
    }

    /// The family of this name and type.
    pub(super) fn without_samples(
        (from, to): (Convention, Convention),
        stem: &'a [u8],
        kind: Option<MetricType>,
    ) -> Self {
        // Outside of OpenMetrics these are known by the names of their samples.
        let suffix = match kind {
            Some(kind @ (Counter | Info)) if from == OpenMetrics && to != OpenMetrics => {
                kind.suffix(Part::Value, from).unwrap_or_default()
            }
            _ => "",
        };
        Self {
            stem,
            is_old: false,
            suffix,
            ending: "",
            parted: "",
            kind,
            is_declared: true,
            part: Part::Value,
            part_ending: "",
            is_apart: false,
        }
    }

    /// Which values its samples may have where they are written so: strict readers refuse the whole body for another (`readingValue` in
    /// prometheus/common's `expfmt/text_parse.go`; OpenMetrics 1.0, "Counter").
    pub(super) fn values(&self, to: Convention) -> Values {
        match (self.kind, self.part) {
            // Which of them have a place in a message, or among others, its writer knows.
            _ if to != PlainText => Values::Any,
            (Some(Histogram), Part::Bucket | Part::Count) | (Some(GaugeHistogram), Part::Bucket) => Values::NotNegative,
            _ => Values::Any,
        }
    }

    /// Whether its samples may have exemplars in OpenMetrics.
    pub(super) fn takes_exemplars(&self) -> bool {
        matches!(
            (self.kind, self.part),
            (Some(Counter), Part::Value) | (Some(Histogram | GaugeHistogram), Part::Bucket)
        )
    }

    /// The label of its samples that must be a number.
    pub(super) fn bound(&self) -> Option<&'static [u8]> {
        match (self.kind?, self.part) {
            (Histogram | GaugeHistogram, Part::Bucket) => Some(b"le"),
            (Summary, Part::Value) => Some(b"quantile"),
            _ => None,
        }
    }

    /// The name under which it is written: its own, or what is put into the buffer.
    pub(super) fn key<'k>(&self, escaping: Escaping, buffer: &'k mut Vec<u8>) -> &'k [u8]
    where
        'a: 'k,
    {
        if self.suffix.is_empty() && self.ending.is_empty() && (self.is_old || escaping == Escaping::AllowUtf8) {
            return self.stem;
        }
        buffer.clear();
        self.put_key(escaping, buffer);
        buffer
    }

    /// Appends the name under which it is written.
    pub(super) fn put_key(&self, escaping: Escaping, key: &mut Vec<u8>) {
        if self.is_old {
            key.extend_from_slice(self.stem);
        } else {
            escaping.put_metric_name(self.stem, key);
        }
        key.truncate(key.len() - self.ending.len());
        key.extend_from_slice(self.suffix.as_bytes());
    }

    /// Gives it a type that its target does not, in the words of the format that is written.
    pub(super) fn sanitize(&mut self, kind: MetricType, to: Convention) {
        self.kind = Some(match kind {
            // The sample of an OpenMetrics counter must end in `_total`, and this one does not.
            Counter if to == OpenMetrics => Gauge,
            kind => kind,
        });
        self.is_declared = false;
    }
}

/// A sample of a line.
#[derive(Debug)]
pub(super) struct Sample<'a> {
    /// The metric's name: plain, it is in the old character set.
    pub name: Text<'a>,
    /// It is that of the sample before.
    pub has_same_name: bool,
    pub labels: Labels<'a>,
    pub value: Number<'a>,
    pub time: Option<Time<'a>>,
    pub exemplar: Exemplar<'a>,
    /// The line, with its newline.
    pub line: &'a [u8],
    /// Where its name and its labels end in the line.
    pub series_end: usize,
    /// What stands in the line before the brace that closes its labels, or the name where there are none: if it stands there
    /// as it would be written.
    pub head: Option<&'a [u8]>,
    /// What stands behind that brace or the name, the newline included: if it stands there as it would be written in the
    /// format that it was read from.
    pub tail: Option<&'a [u8]>,
}

impl<'a> Sample<'a> {
    /// The line, without its newline.
    pub(super) fn text(&self) -> &'a [u8] {
        &self.line[..self.line.len() - 1]
    }
}

/// The exemplar at the end of a line.
#[derive(Debug)]
pub(super) enum Exemplar<'a> {
    Absent,
    Found {
        labels: Labels<'a>,
        value: Number<'a>,
        /// Seconds since 1970.
        time: Option<Time<'a>>,
    },
    /// Something that begins as one and that Prometheus would not read.
    Malformed,
}

/// A metadata line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Metadata<'a> {
    /// The family's name: plain, it is in the old character set.
    pub name: Text<'a>,
    pub fact: Fact<'a>,
}

/// What a metadata line tells.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fact<'a> {
    Help(Text<'a>),
    Type(MetricType),
    Unit(&'a [u8]),
}

impl<'a> Fact<'a> {
    /// The help text, if it tells one.
    pub(super) fn help(&self) -> Option<Text<'a>> {
        match self {
            Self::Help(text) => Some(*text),
            Self::Type(_) | Self::Unit(_) => None,
        }
    }

    /// The type, if it tells one.
    pub(super) fn kind(&self) -> Option<MetricType> {
        match self {
            Self::Type(kind) => Some(*kind),
            Self::Help(_) | Self::Unit(_) => None,
        }
    }
}

/// Whether a family of this name may have this unit: its name must end in it (`openmetricsparse.go`).
pub(super) fn is_unit_of(name: &[u8], unit: &[u8]) -> bool {
    unit.is_empty() || name.strip_suffix(unit).is_some_and(|stem| stem.ends_with(b"_"))
}

/// A `MetricFamily` message, and what it says of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct FamilyMessage<'a> {
    pub message: &'a [u8],
    pub name: &'a [u8],
    pub help: Option<&'a [u8]>,
    pub kind: MetricType,
    pub unit: &'a [u8],
    /// The number of its metrics.
    pub metrics: u64,
    /// It does not say its type.
    pub lacks_kind: bool,
}

/// A `Metric` message that Prometheus ingests.
#[derive(Debug)]
pub(super) struct Metric<'a> {
    pub family: &'a FamilyMessage<'a>,
    pub message: &'a [u8],
    /// Where its field stands in its family's message, with its key and length.
    pub place: Span,
    pub labels: Labels<'a>,
    /// The one that it has; 0 is none to Prometheus.
    pub time: Option<Time<'a>>,
    pub exemplars: u64,
    /// It is a native histogram.
    pub is_native: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ending_of_a_type_is_known_by_its_part() {
        let types = [Counter, Gauge, Histogram, GaugeHistogram, Summary, Info, StateSet, Untyped];
        let parts = [Part::Value, Part::Bucket, Part::Sum, Part::Count, Part::Created];
        let mut endings = 0;
        for convention in [PlainText, OpenMetrics, Protobuf] {
            for (kind, part) in types.iter().flat_map(|kind| parts.map(|part| (*kind, part))) {
                match kind.suffix(part, convention) {
                    None | Some("") => {}
                    Some(ending) => {
                        assert_eq!(Part::of_ending(ending.as_bytes()), Some(part), "{ending}");
                        assert_eq!(kind.part(ending.as_bytes(), convention), Some(part), "{ending} of {kind:?}");
                        endings += 1;
                    }
                }
            }
        }
        assert_eq!(endings, 30);
    }
}
