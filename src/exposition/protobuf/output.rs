//! Samples put together into messages: one `io.prometheus.client.MetricFamily` for each run of a family's samples.
//!
//! In: lines that were checked. Out: delimited messages. One family is held at a time, in pieces that are encoded
//! already where nothing can be added to them: the metrics of gauges at once, those of histograms when their family is
//! over, since a series' buckets may stand anywhere among its family's lines.
//!
//! Prometheus makes the same series of the messages as of the lines, but for what protobuf, or Prometheus's reader of it,
//! has no place for:
//!
//! * The numbers in `le` and `quantile` are spelt as Prometheus spells them. A line of a histogram or a summary that has
//!   none, or one that is no number, is dropped as malformed, and so is one with `le` that is no bucket.
//! * A histogram always has a `_count`, a `_sum` and an infinite bucket, a summary a `_count` and a `_sum`: those that
//!   are left out are 0, but for a histogram's `_count`, which is its last bucket's.
//! * A count that is negative or NaN is dropped as malformed. A summary's is cut off at a whole number.
//! * `_gsum` and `_gcount` of a gauge histogram become `_sum` and `_count`; states and information become gauges.
//! * `_created` is no series but a field. It is dropped as malformed if it is no time in the years 1 to 9999, or if nothing
//!   else has its labels.
//! * Of two lines of a histogram, a summary or a counter of OpenMetrics for one value at one time, the second is dropped as
//!   malformed. Prometheus takes none but the first either.
//! * An exemplar is lost and counted where there is no place for it, which is anywhere but at a counter of OpenMetrics and
//!   at a bucket. Its time is lost if it is not in the years 1 to 9999.
//! * To Prometheus a timestamp of 0 is none.
//! * A family whose lines do not stand together becomes several messages. Only the first has its help text and its unit,
//!   and a histogram or a summary whose own lines do not stand together either is in each of them with what that one has.

use std::sync::Arc;

use super::building::{Building, Place, Taken};
use super::encoding::{EXEMPLAR_LABEL, is_time, put_exemplar, put_simple};
use super::family::Kind;
use super::messages::MAX_FAMILY;
use super::metric::field::TIMESTAMP_MS;
use super::wire::{Field, Fields, Value, put_bytes_field, put_varint_field};
use crate::exposition::counts::DropReason;
use crate::exposition::dialect::{Dialect, Exemplar, exemplar, milliseconds, seconds};
use crate::exposition::families::{Families, Full};
use crate::exposition::format::Escaping;
use crate::exposition::labels::{LabelSet, METRIC_LABEL, put_label};
use crate::exposition::lines::text_of;
use crate::exposition::metadata::Keyword;
use crate::exposition::output::{
    Family, Lost, Output, Part, Written, are_unique, final_name, final_names, put_metric_name, unescape, unescape_help,
};
use crate::exposition::relabel::Held;
use crate::exposition::sample::{Sample, Scanner};
use crate::exposition::value::is_value;

/// Writes messages.
#[derive(Debug)]
pub struct MessageOutput {
    labels: Arc<LabelSet>,
    names: Escaping,
    family: Building,
    /// The name of the family that is announced.
    announced: Vec<u8>,
    /// The labels of the sample at hand and its timestamp, encoded.
    series: Vec<u8>,
    /// The exemplar of the sample at hand, encoded.
    exemplar: Vec<u8>,
    scratch: Vec<u8>,
    /// What was lost since it was last told.
    lost: Lost,
}

/// Room that is kept for the next sample, in bytes.
const KEPT_SCRATCH: usize = 64 << 10;

impl Output for MessageOutput {
    const WRITES_WHOLE_FAMILIES: bool = true;
    const IS_OPEN_METRICS: bool = false;

    fn new(labels: Arc<LabelSet>, names: Escaping) -> Self {
        Self {
            labels,
            names,
            family: Building::default(),
            announced: Vec::new(),
            series: Vec::new(),
            exemplar: Vec::new(),
            scratch: Vec::new(),
            lost: Lost::default(),
        }
    }

    fn announce(
        &mut self,
        family: &Family<'_>,
        held: Option<&Held>,
        has_samples: bool,
        families: &mut Families,
        out: &mut Vec<u8>,
    ) -> Result<Part, Full> {
        self.put_name(family);
        let target = families.target();
        let known = families.entry(&self.announced)?;
        known.has_samples |= has_samples;
        let kind = Kind::of(family.kind);
        // A message without metrics says nothing to anybody, so that one is not written.
        if let Some(declared) = family.kind.filter(|_| has_samples) {
            let types = known.settle_type(target, declared, family.is_declared, Kind::word);
            families.note_conflict(&self.announced, types);
        }
        let is_at_hand = self.family.is(&self.announced, kind);
        if has_samples && !is_at_hand {
            self.end_family(out);
            self.family.begin(&self.announced, kind);
        }
        if has_samples || is_at_hand {
            self.describe(family, held);
        }
        Ok(family.part)
    }

    fn sample<D: Dialect>(
        &mut self,
        line: &[u8],
        sample: &Sample,
        scanner: &Scanner<D>,
        part: Part,
        _: &mut Vec<u8>,
    ) -> Result<Written, DropReason> {
        if self.family.is_too_large() {
            return Err(DropReason::TooLong);
        }
        let value = number(sample.numbers.value.of(line)).ok_or(DropReason::Malformed)?;
        let read = if D::IS_OPEN_METRICS {
            milliseconds
        } else {
            text_timestamp
        };
        let timestamp = match sample.numbers.timestamp {
            Some(timestamp) => Some(read(timestamp.of(line)).ok_or(DropReason::Malformed)?),
            None => None,
        };
        let at = self.encode_labels(line, sample, scanner, part)?;
        let mut place = None;
        if is_put_together::<D>(self.family.kind()) {
            place = Some(place_of(self.family.kind(), part, value, at).ok_or(DropReason::Malformed)?);
        }
        let lost_exemplar = !self.encode_exemplar(line, sample.numbers.exemplar, place);
        match place {
            None => self.add_simple(value, timestamp),
            Some(place) => self.add_part(place, value, timestamp)?,
        }
        if self.family.size() > MAX_FAMILY {
            self.lost.too_long += self.family.give_up();
        }
        Ok(Written {
            lost_exemplar,
            lost: std::mem::take(&mut self.lost),
        })
    }

    fn cut(&mut self, beyond: Option<&Family<'_>>) -> u64 {
        let is_at_hand = beyond.is_none_or(|family| {
            self.put_name(family);
            self.family.is(&self.announced, Kind::of(family.kind))
        });
        let may_lack_a_part = matches!(
            self.family.kind(),
            Kind::Histogram | Kind::GaugeHistogram | Kind::Summary
        );
        if is_at_hand && may_lack_a_part {
            self.family.give_up()
        } else {
            0
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Lost {
        self.end_family(out);
        std::mem::take(&mut self.lost)
    }
}

impl MessageOutput {
    /// Notes the name under which a family is written.
    fn put_name(&mut self, family: &Family<'_>) {
        self.announced.clear();
        put_metric_name(family.stem, self.names, &mut self.announced);
        self.announced.extend_from_slice(family.suffix.as_bytes());
    }

    fn end_family(&mut self, out: &mut Vec<u8>) {
        let lost = self.family.end(self.labels.protobuf(), out);
        self.lost.malformed += lost.malformed;
        self.lost.orphaned += lost.orphaned;
    }

    /// Gives the family what its metadata says of it.
    fn describe(&mut self, family: &Family<'_>, held: Option<&Held>) {
        for (metadata, line) in held.map_or(&[][..], Held::lines) {
            let text = text_of(&line[metadata.text..]);
            match metadata.keyword {
                // Asked before every run of samples of one name, and a help text may be long.
                Keyword::Help if self.family.has_help() => {}
                Keyword::Help => {
                    self.scratch.clear();
                    self.scratch.shrink_to(KEPT_SCRATCH);
                    unescape_help(text, family.help_has_escaped_quotes, &mut self.scratch);
                    self.family.add_help(&self.scratch);
                }
                Keyword::Unit => self.family.add_unit(text),
                Keyword::Type(_) => {}
            }
        }
    }

    /// Encodes a sample's labels, but for the one that tells the bucket or the quantile: that one's number is returned.
    fn encode_labels<D: Dialect>(
        &mut self,
        line: &[u8],
        sample: &Sample,
        scanner: &Scanner<D>,
        part: Part,
    ) -> Result<Option<f64>, DropReason> {
        self.series.clear();
        self.series.shrink_to(KEPT_SCRATCH);
        let kind = self.family.kind();
        let own = scanner.labels();
        let may_collide = self.labels.fingerprints() & scanner.fingerprints() != 0;
        let collides = may_collide && own.iter().any(|label| self.labels.contains(label.name(line)));
        let names = match collides || sample.has_quoted_name {
            true => Some(final_names(line, own, &self.labels, self.names)?),
            false => None,
        };
        let mut at = None;
        let mut before: &[u8] = b"";
        let mut is_sorted = true;
        for (index, label) in own.iter().enumerate() {
            let name = names.as_ref().map_or(label.name(line), |names| &names[index]);
            if tells_point(kind, part, name)? {
                at = Some(label_number(label.value(line)).ok_or(DropReason::Malformed)?);
                continue;
            }
            is_sorted &= before <= name;
            before = name;
            put_quoted(METRIC_LABEL, name, label.value(line), &mut self.series);
        }
        if !is_sorted && is_put_together::<D>(kind) {
            // The parts of one metric need not have its labels in one order.
            sort_labels(&mut self.series, &mut self.scratch);
        }
        Ok(at)
    }

    /// Encodes a sample's exemplar, if it has one. Says whether nothing was lost: there may be no place for it.
    fn encode_exemplar(&mut self, line: &[u8], found: Exemplar, place: Option<Place>) -> bool {
        self.exemplar.clear();
        self.exemplar.shrink_to(KEPT_SCRATCH);
        let start = match found {
            Exemplar::Absent => return true,
            Exemplar::Malformed(_) => return false,
            Exemplar::At { start, .. } => start as usize,
        };
        let has_place = match place {
            Some(Place::Value) => true,
            Some(Place::Point(_)) => self.family.kind() != Kind::Summary,
            _ => false,
        };
        has_place && self.encode_exemplar_at(text_of(line), start).is_some()
    }

    fn encode_exemplar_at(&mut self, line: &[u8], start: usize) -> Option<()> {
        let parts = exemplar(line, start).ok()?;
        let value = number(parts.value.of(line))?;
        let names: Vec<Vec<u8>> = (parts.labels.iter())
            .map(|label| final_name(*label, line, self.names))
            .collect();
        if !are_unique(&names) {
            return None;
        }
        for (label, name) in parts.labels.iter().zip(&names) {
            put_quoted(EXEMPLAR_LABEL, name, label.value(line), &mut self.exemplar);
        }
        let timestamp = parts.timestamp.and_then(|timestamp| seconds(timestamp.of(line)));
        put_exemplar(value, timestamp, &mut self.exemplar);
        Some(())
    }

    /// Adds a metric that has but a value.
    fn add_simple(&mut self, value: f64, timestamp: Option<i64>) {
        self.series.extend_from_slice(self.labels.protobuf());
        put_simple(self.family.kind().value_field(), value, &mut self.series);
        put_timestamp(timestamp, &mut self.series);
        self.family.add_metric(&self.series);
    }

    /// Adds a sample that is a part of a metric.
    fn add_part(&mut self, place: Place, value: f64, timestamp: Option<i64>) -> Result<(), DropReason> {
        let labels = self.series.len();
        if !matches!(place, Place::Created) {
            put_timestamp(timestamp, &mut self.series);
        }
        let added = self.labels.protobuf().len();
        let put = self
            .family
            .add_sample((&self.series, labels), added, place, value, &self.exemplar);
        put.map_err(|Taken| DropReason::Malformed)
    }
}

/// Whether the metrics of a family of this type are put together from several samples.
fn is_put_together<D: Dialect>(kind: Kind) -> bool {
    match kind {
        Kind::Histogram | Kind::GaugeHistogram | Kind::Summary => true,
        // The time at which it was created comes in a line of its own.
        Kind::Counter => D::IS_OPEN_METRICS,
        _ => false,
    }
}

/// Whether a label of this name tells which bucket or quantile the sample is.
///
/// # Errors
///
/// Prometheus gives a label of this name to buckets, and so the metric must not have it.
fn tells_point(kind: Kind, part: Part, name: &[u8]) -> Result<bool, DropReason> {
    match kind {
        Kind::Histogram | Kind::GaugeHistogram if name == b"le" => match part {
            Part::Bucket => Ok(true),
            _ => Err(DropReason::Malformed),
        },
        Kind::Summary => Ok(part == Part::Value && name == b"quantile"),
        _ => Ok(false),
    }
}

/// The place of a sample in a metric of this type, if there is one and the value may stand there.
fn place_of(kind: Kind, part: Part, value: f64, at: Option<f64>) -> Option<Place> {
    // Neither a negative number nor NaN is a count of anything.
    let is_count = value >= 0.0;
    match part {
        Part::Created => is_time(value).then_some(Place::Created),
        Part::Value if kind == Kind::Counter => Some(Place::Value),
        // Only a summary's has one.
        Part::Value => at.map(Place::Point),
        Part::Bucket => at.filter(|at| is_count && !at.is_nan()).map(Place::Point),
        Part::Sum => Some(Place::Sum),
        Part::Count => is_count.then_some(Place::Count),
    }
}

fn number(token: &[u8]) -> Option<f64> {
    std::str::from_utf8(token).ok()?.parse().ok()
}

/// The number in a label, which is none that the scanner checks.
fn label_number(value: &[u8]) -> Option<f64> {
    if is_value(value) { number(value) } else { None }
}

/// A timestamp of text, in milliseconds.
fn text_timestamp(token: &[u8]) -> Option<i64> {
    std::str::from_utf8(token).ok()?.parse().ok()
}

fn put_timestamp(milliseconds: Option<i64>, out: &mut Vec<u8>) {
    if let Some(milliseconds) = milliseconds {
        put_varint_field(TIMESTAMP_MS, milliseconds as u64, out);
    }
}

/// A label pair whose value is as it stands between quotes.
fn put_quoted(field: u32, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    if memchr::memchr(b'\\', value).is_none() {
        return put_label(field, name, value, out);
    }
    let mut plain = Vec::with_capacity(value.len());
    unescape(value, &mut plain);
    put_label(field, name, &plain, out);
}

/// Sorts encoded labels by their names.
fn sort_labels(labels: &mut Vec<u8>, scratch: &mut Vec<u8>) {
    scratch.clear();
    scratch.shrink_to(KEPT_SCRATCH);
    std::mem::swap(labels, scratch);
    let mut pairs: Vec<(&[u8], &[u8])> = Vec::new();
    let mut fields = Fields::of(scratch);
    while let Some(pair) = next_bytes(&mut fields) {
        // The name is a label's first field.
        pairs.push((next_bytes(&mut Fields::of(pair)).unwrap_or_default(), pair));
    }
    pairs.sort_unstable();
    for (_, pair) in pairs {
        put_bytes_field(METRIC_LABEL, pair, labels);
    }
}

/// The next of fields that all have bytes.
fn next_bytes<'a>(fields: &mut Fields<'a>) -> Option<&'a [u8]> {
    match fields.next() {
        Some(Ok(Field {
            value: Value::Bytes(bytes),
            ..
        })) => Some(bytes),
        _ => None,
    }
}
