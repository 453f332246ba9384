//! A protobuf body that goes out as Prometheus's text.
//!
//! In: chunks of a delimited protobuf body, cut anywhere. Out: lines that Prometheus reads, whatever came in. The checks
//! are those of [`Splice`](super::Splice); what text has no room for stays behind: exemplars, created timestamps, units,
//! and of native histograms all but count, sum and classic buckets.

use std::sync::Arc;

use super::body::{MessageEngine, Writer};
use super::family::{self, Family, Kind};
use super::histogram::Histogram;
use super::messages::MAX_FAMILY;
use super::metric::{self, Checker};
use super::numbers::{put_float, put_integer};
use super::wire::{Field, Fields, Malformed, Value};
use crate::exposition::counts::DropReason;
use crate::exposition::dialect::Text;
use crate::exposition::families::Families;
use crate::exposition::format::Escaping;
use crate::exposition::labels::LabelSet;
use crate::exposition::metadata::MetricType;
use crate::exposition::names::{escape_metric_name, is_old_label_name, is_old_metric_name};
use crate::exposition::rules::Rules;
use crate::exposition::tally::Tally;
use crate::exposition::untyped::{Fate, Untyped};

/// Checks a protobuf body message by message and writes it as text: labels are added to its samples, its untyped families
/// are sanitized, and metadata that the answer already holds is left out.
///
/// A sample is one line here: a histogram counts once for each bucket, for its sum and for its count.
pub type ProtobufToText = MessageEngine<TextWriter>;

/// What ProtobufToText writes of a family.
#[derive(Debug)]
pub struct TextWriter {
    labels: Arc<LabelSet>,
    untyped: Untyped,
    names: Escaping,
    checker: Checker,
    lines: Lines,
    tally: Tally,
}

impl Writer for TextWriter {
    fn new(rules: &Rules, names: Escaping) -> Self {
        Self {
            labels: Arc::clone(&rules.labels),
            untyped: rules.untyped,
            names,
            checker: Checker::new(names),
            lines: Lines::default(),
            tally: Tally::new(rules.sample_limit),
        }
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }

    fn tally_mut(&mut self) -> &mut Tally {
        &mut self.tally
    }

    fn family(&mut self, message: &[u8], family: Family<'_>, families: &mut Families, out: &mut Vec<u8>) {
        let own_name = family.name.as_bytes();
        self.lines.begin_family(family.name, self.names);
        let name = self.lines.name.as_slice();
        let mut kind = family.kind;
        let fate = match kind {
            Kind::Untyped => self.untyped.fate(name),
            _ => Fate::Pass,
        };
        match fate {
            Fate::Pass => {}
            Fate::Becomes(becomes) => kind = Kind::of(Some(becomes)),
            Fate::Drop => return self.tally.drop_lines(DropReason::Untyped, family.metrics, own_name),
        }
        if families.entry(name).is_err() {
            return self.tally.drop_lines(DropReason::NoRoom, family.metrics, own_name);
        }
        let start = out.len();
        let is_new = self.metadata(family, kind, families, out);
        // What was written and taken back counts, too: a family must not have the work of many done for it.
        let mut room = MAX_FAMILY;
        let samples = self.tally.counts().samples;
        self.checker.begin_family();
        for field in Fields::of(message).map_while(Result::ok) {
            if self.tally.is_over_limit() {
                break;
            }
            if let (family::field::METRIC, Value::Bytes(metric)) = (field.number, field.value) {
                let written = self.metric(metric, family, room, out);
                room = room.saturating_sub(written);
            }
        }
        if family.metrics > 0 && self.tally.counts().samples == samples {
            // Nothing is left of it to have metadata.
            out.truncate(start);
        } else if let Some(known) = families.get_mut(&self.lines.name) {
            known.has_help |= is_new.help;
            known.has_type |= is_new.kind;
            if known.has_type {
                let is_declared = !matches!(fate, Fate::Becomes(_));
                families.settle_type(&self.lines.name, kind.of_lines(), is_declared, MetricType::in_text);
            }
            families.note_samples(&self.lines.name);
        }
    }
}

impl TextWriter {
    /// Writes the metadata that the answer does not hold yet; returns what was written.
    fn metadata(&self, family: Family<'_>, kind: Kind, families: &mut Families, out: &mut Vec<u8>) -> Metadata {
        // A part has no metadata of its own: strict readers take it for that of its family, a second time.
        let is_part = families.is_part::<Text>(&self.lines.name);
        let known = families.get_mut(&self.lines.name).copied().unwrap_or_default();
        let written = Metadata {
            help: !is_part && !known.has_help && family.help.is_some(),
            kind: !is_part && !known.has_type && !known.has_samples,
        };
        if let Some(help) = family.help.filter(|_| written.help) {
            out.extend_from_slice(b"# HELP ");
            self.lines.put_family_name(out);
            out.push(b' ');
            put_help(help, out);
            out.push(b'\n');
        }
        if written.kind {
            out.extend_from_slice(b"# TYPE ");
            self.lines.put_family_name(out);
            out.push(b' ');
            out.extend_from_slice(kind.of_lines().in_text().as_bytes());
            out.push(b'\n');
        }
        written
    }

    /// Writes the samples of a metric, if there is room for all of them. Returns the bytes that it wrote, even if it took
    /// them back.
    fn metric(&mut self, metric: &[u8], family: Family<'_>, room: usize, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        let written = self.checker.check(metric, family.kind, &self.labels).and_then(|_| {
            self.lines.begin_metric(&self.checker, metric, &self.labels);
            self.lines.metric(metric, family.kind, room, out)
        });
        let length = out.len() - start;
        match written {
            Ok(samples) if self.tally.has_room_for(samples) => self.tally.add(samples),
            Ok(_) => {
                out.truncate(start);
                self.tally.exceed_limit();
            }
            Err(reason) => {
                out.truncate(start);
                self.tally.drop_line(reason, family.name.as_bytes());
            }
        }
        length
    }
}

/// Which metadata of a family was written.
struct Metadata {
    help: bool,
    kind: bool,
}

/// Writes the lines of one metric after the other.
#[derive(Debug, Default)]
struct Lines {
    /// The name that the family goes by.
    name: Vec<u8>,
    /// It is outside the old character set and stands in quotes.
    is_quoted: bool,
    /// The labels of the metric's own: `a="b",c="d",`
    own: Vec<u8>,
    /// The labels that are added: `e="f",g="h"`
    added: Vec<u8>,
    /// The timestamp with a blank before it, and the newline.
    end: Vec<u8>,
}

/// Room that is kept for the labels of the next metric, in bytes.
const KEPT_LABELS: usize = 64 << 10;

/// A label that is only on some of a metric's samples.
type Extra = Option<(&'static [u8], f64)>;

impl Lines {
    fn begin_family(&mut self, name: &str, names: Escaping) {
        let is_old = is_old_metric_name(name.as_bytes());
        self.name.clear();
        self.name.shrink_to(KEPT_LABELS);
        self.is_quoted = !is_old && names == Escaping::AllowUtf8;
        if is_old || self.is_quoted {
            self.name.extend_from_slice(name.as_bytes());
        } else {
            escape_metric_name(name, &mut self.name);
        }
    }

    fn begin_metric(&mut self, checker: &Checker, metric: &[u8], added: &LabelSet) {
        let Self { own, .. } = self;
        own.clear();
        own.shrink_to(KEPT_LABELS);
        for (name, value) in checker.labels().iter(metric) {
            if is_old_label_name(name) {
                own.extend_from_slice(name);
            } else {
                put_quoted(name, own);
            }
            own.push(b'=');
            put_quoted(value, own);
            own.push(b',');
        }
        self.added.clear();
        self.added.extend_from_slice(added.rendered());
    }

    /// Writes a metric's samples; returns their number.
    fn metric(&mut self, metric: &[u8], kind: Kind, room: usize, out: &mut Vec<u8>) -> Result<u64, DropReason> {
        self.begin_timestamp(metric)?;
        let mut lines = Room {
            lines: self,
            limit: out.len().saturating_add(room),
            written: 0,
            out,
        };
        match kind {
            Kind::Counter | Kind::Gauge | Kind::Untyped => {
                let mut value = None;
                for message in messages(metric, kind.value_field()) {
                    value = double(message?, 1)?.or(value);
                }
                let value = value.unwrap_or_default();
                lines.put(b"", None, Number::Float(value))?;
            }
            Kind::Summary => lines.summary(metric)?,
            Kind::Histogram | Kind::GaugeHistogram => lines.histogram(metric)?,
        }
        Ok(lines.written)
    }

    /// Prometheus takes a timestamp of 0 in protobuf for none; one before 1970 cannot be written in text.
    fn begin_timestamp(&mut self, metric: &[u8]) -> Result<(), DropReason> {
        let timestamp = integer(metric, metric::field::TIMESTAMP_MS)?.unwrap_or_default();
        if timestamp > i64::MAX as u64 {
            return Err(DropReason::Malformed);
        }
        self.end.clear();
        if timestamp != 0 {
            self.end.push(b' ');
            put_integer(timestamp, &mut self.end);
        }
        self.end.push(b'\n');
        Ok(())
    }

    fn put_family_name(&self, out: &mut Vec<u8>) {
        if self.is_quoted {
            put_quoted(&self.name, out);
        } else {
            out.extend_from_slice(&self.name);
        }
    }

    fn put(&self, suffix: &[u8], extra: Extra, value: Number, out: &mut Vec<u8>) {
        if self.is_quoted {
            out.extend_from_slice(b"{\"");
            put_escaped(&self.name, out);
            out.extend_from_slice(suffix);
            out.extend_from_slice(b"\",");
        } else {
            out.extend_from_slice(&self.name);
            out.extend_from_slice(suffix);
            out.push(b'{');
        }
        out.extend_from_slice(&self.own);
        if let Some((name, value)) = extra {
            out.extend_from_slice(name);
            out.extend_from_slice(b"=\"");
            put_float(value, out);
            out.extend_from_slice(b"\",");
        }
        out.extend_from_slice(&self.added);
        match out.last() {
            Some(b',') => {
                out.pop();
                out.push(b'}');
            }
            // No label at all.
            Some(b'{') => {
                out.pop();
            }
            _ => out.push(b'}'),
        }
        out.push(b' ');
        match value {
            Number::Integer(value) => put_integer(value, out),
            Number::Float(value) => put_float(value, out),
        }
        out.extend_from_slice(&self.end);
    }
}

/// A value: whole numbers are kept exact, though a reader may not keep them so.
#[derive(Debug, Clone, Copy)]
enum Number {
    Integer(u64),
    Float(f64),
}

impl Number {
    /// A count that may be a float: the float goes before if it is above zero (client_model's `metrics.proto`).
    fn count(integer: u64, float: f64) -> Self {
        if float > 0.0 {
            Self::Float(float)
        } else {
            Self::Integer(integer)
        }
    }
}

/// Writes lines as long as there is room for them.
struct Room<'a> {
    lines: &'a Lines,
    out: &'a mut Vec<u8>,
    limit: usize,
    written: u64,
}

impl Room<'_> {
    fn put(&mut self, suffix: &[u8], extra: Extra, value: Number) -> Result<(), DropReason> {
        self.lines.put(suffix, extra, value, self.out);
        self.written += 1;
        if self.out.len() > self.limit {
            return Err(DropReason::TooLong);
        }
        Ok(())
    }

    fn summary(&mut self, metric: &[u8]) -> Result<(), DropReason> {
        let (mut count, mut sum) = (0, 0.0);
        for summary in messages(metric, metric::field::SUMMARY) {
            for field in Fields::of(summary?) {
                let field = field?;
                match (field.number, field.value) {
                    (1, Value::Varint(value)) => count = value,
                    (2, Value::Fixed64(bits)) => sum = f64::from_bits(bits),
                    (3, Value::Bytes(message)) => {
                        let (quantile, value) = (
                            double(message, 1)?.unwrap_or_default(),
                            double(message, 2)?.unwrap_or_default(),
                        );
                        self.put(b"", Some((b"quantile", quantile)), Number::Float(value))?;
                    }
                    _ => {}
                }
            }
        }
        self.put(b"_sum", None, Number::Float(sum))?;
        self.put(b"_count", None, Number::Integer(count))
    }

    fn histogram(&mut self, metric: &[u8]) -> Result<(), DropReason> {
        let mut histogram = Histogram::default();
        let mut has_buckets = false;
        let mut has_infinite_bucket = false;
        for message in messages(metric, metric::field::HISTOGRAM) {
            let message = message?;
            histogram.add(message)?;
            for field in Fields::of(message) {
                let field = field?;
                if let (3, Value::Bytes(bucket)) = (field.number, field.value) {
                    let bound = double(bucket, 2)?.unwrap_or_default();
                    has_buckets = true;
                    has_infinite_bucket |= bound == f64::INFINITY;
                    let count = Number::count(
                        integer(bucket, 1)?.unwrap_or_default(),
                        double(bucket, 4)?.unwrap_or_default(),
                    );
                    self.put(b"_bucket", Some((b"le", bound)), count)?;
                }
            }
        }
        let count = Number::count(histogram.sample_count, histogram.sample_count_float);
        // As Prometheus does, and for a classic histogram without buckets, too.
        if !has_infinite_bucket && (has_buckets || !histogram.is_native()) {
            self.put(b"_bucket", Some((b"le", f64::INFINITY)), count)?;
        }
        self.put(b"_sum", None, Number::Float(histogram.sample_sum))?;
        self.put(b"_count", None, count)
    }
}

/// The messages in a field. (One that comes twice is merged, as protobuf has it.)
fn messages(message: &[u8], number: u32) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    Fields::of(message).filter_map(move |field| match field {
        Ok(field) => match field.value {
            Value::Bytes(bytes) if field.number == number => Some(Ok(bytes)),
            _ => None,
        },
        Err(malformed) => Some(Err(malformed)),
    })
}

/// The double in a field: the last one, if it comes twice.
fn double(message: &[u8], number: u32) -> Result<Option<f64>, Malformed> {
    let mut last = None;
    for field in Fields::of(message) {
        match field? {
            Field {
                number: own,
                value: Value::Fixed64(bits),
            } if own == number => last = Some(f64::from_bits(bits)),
            _ => {}
        }
    }
    Ok(last)
}

/// The integer in a field: the last one, if it comes twice.
fn integer(message: &[u8], number: u32) -> Result<Option<u64>, Malformed> {
    let mut last = None;
    for field in Fields::of(message) {
        match field? {
            Field {
                number: own,
                value: Value::Varint(value),
            } if own == number => last = Some(value),
            _ => {}
        }
    }
    Ok(last)
}

/// Writes a help text: a backslash and a newline are escaped.
fn put_help(help: &str, out: &mut Vec<u8>) {
    for byte in help.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(br"\\"),
            b'\n' => out.extend_from_slice(br"\n"),
            other => out.push(other),
        }
    }
}

/// Writes a name or a label value between quotes.
fn put_quoted(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    put_escaped(text, out);
    out.push(b'"');
}

/// Writes what stands between quotes: a backslash, a quote and a newline are escaped.
fn put_escaped(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        match byte {
            b'\\' => out.extend_from_slice(br"\\"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\n' => out.extend_from_slice(br"\n"),
            other => out.push(*other),
        }
    }
}
