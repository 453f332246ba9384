//! One metric: is it one that Prometheus ingests?
//!
//! In: a `Metric` message and the type of its family. Out: a [`DropReason`], or that it is. Nothing is decoded but what decides
//! that. A known field must have the wire type that its type has (client_model's `metrics.proto`), and a string must be UTF-8:
//! readers refuse the whole message otherwise, and with it the scrape. Unknown fields are stepped over: some future version
//! adds them.

use super::histogram::Histogram;
use super::points::messages;
use super::wire::{Fields, Malformed, Value};
use crate::exposition::bytes::{Span, is_utf8};
use crate::exposition::labels::{NameKind, Pairs};
use crate::exposition::model::MetricType;
use crate::exposition::progress::DropReason;

/// The type of a known field.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// An integer, plain or zigzag.
    Integer,
    Double,
    Text,
    Message(&'static Schema),
}

/// The known fields of a type of message: its first is number 1.
pub(super) type Schema = [Option<Kind>];

use Kind::{Double, Integer, Message, Text};

const LABEL_PAIR: &Schema = &[Some(Text), Some(Text)];
/// `google.protobuf.Timestamp`
pub(super) const TIMESTAMP: &Schema = &[Some(Integer), Some(Integer)];
pub(super) const EXEMPLAR: &Schema = &[Some(Message(LABEL_PAIR)), Some(Double), Some(Message(TIMESTAMP))];
/// A gauge, or a value of no type.
pub(super) const SIMPLE: &Schema = &[Some(Double)];
pub(super) const COUNTER: &Schema = &[Some(Double), Some(Message(EXEMPLAR)), Some(Message(TIMESTAMP))];
const QUANTILE: &Schema = &[Some(Double), Some(Double)];
const SUMMARY: &Schema = &[Some(Integer), Some(Double), Some(Message(QUANTILE)), Some(Message(TIMESTAMP))];
pub(super) const BUCKET: &Schema = &[Some(Integer), Some(Double), Some(Message(EXEMPLAR)), Some(Double)];

/// Checks a message.
pub(super) fn check(message: &[u8], schema: &'static Schema) -> Result<(), Malformed> {
    for field in Fields::of(message) {
        let field = field?;
        let Some(Some(kind)) = schema.get(field.number as usize - 1) else {
            continue;
        };
        match (kind, field.value) {
            (Integer, Value::Varint(_)) | (Double, Value::Fixed64(_)) => {}
            (Text, Value::Bytes(text)) => _ = check_text(text)?,
            (Message(schema), Value::Bytes(message)) => check(message, schema)?,
            _ => return Err(Malformed),
        }
    }
    Ok(())
}

/// A string, which must be UTF-8.
#[inline(always)]
pub(super) fn check_text(text: &[u8]) -> Result<&[u8], Malformed> {
    if is_utf8(text) { Ok(text) } else { Err(Malformed) }
}

/// The numbers of a metric's fields.
pub(super) mod field {
    use crate::exposition::model::MetricType;

    pub const LABEL: u32 = 1;
    pub const GAUGE: u32 = 2;
    pub const COUNTER: u32 = 3;
    pub const SUMMARY: u32 = 4;
    pub const UNTYPED: u32 = 5;
    pub const TIMESTAMP_MS: u32 = 6;
    pub const HISTOGRAM: u32 = 7;

    /// The field that holds the value of a metric of this type.
    pub fn value(kind: MetricType) -> u32 {
        match kind {
            MetricType::Gauge | MetricType::Info | MetricType::StateSet => GAUGE,
            MetricType::Counter => COUNTER,
            MetricType::Summary => SUMMARY,
            MetricType::Untyped => UNTYPED,
            MetricType::Histogram | MetricType::GaugeHistogram => HISTOGRAM,
        }
    }
}

/// The labels that a metric may have. They are noted one by one, which takes several times their bytes.
const MAX_LABELS: usize = 1 << 16;

/// Checks the metrics of one family after the other.
#[derive(Debug, Default)]
pub(super) struct Checker {
    labels: Pairs,
    /// The family has a native histogram. Whether a histogram is taken for a native one is decided by the first of its
    /// family in old releases, and by the one before in some newer ones.
    is_native: bool,
    /// Of the metric last checked.
    timestamp: i64,
    exemplars: u64,
    is_native_itself: bool,
}

impl Checker {
    /// Forgets what was found in a family. Its labels may have taken much room, and another one may not come for long.
    pub(super) fn end_family(&mut self) {
        self.is_native = false;
        self.labels.clear();
    }

    /// The timestamp of the metric last checked, in milliseconds since 1970; 0 if it has none.
    pub(super) fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// The number of the exemplars of the metric last checked.
    pub(super) fn exemplars(&self) -> u64 {
        self.exemplars
    }

    /// Whether the metric last checked is a native histogram.
    pub(super) fn found_native(&self) -> bool {
        self.is_native_itself
    }

    /// The labels of the metric last checked.
    pub(super) fn labels(&self) -> &Pairs {
        &self.labels
    }

    /// Checks a metric of a family of this type.
    pub(super) fn check(&mut self, metric: &[u8], kind: MetricType) -> Result<(), DropReason> {
        self.labels.clear();
        (self.timestamp, self.exemplars, self.is_native_itself) = (0, 0, false);
        let mut seen = 0u32;
        let mut histogram = None;
        let mut fields = Fields::of(metric);
        while let Some(field) = fields.next() {
            let field = field?;
            match (field.number, field.value) {
                (field::LABEL, Value::Bytes(_)) if self.labels.len() == MAX_LABELS => {
                    return Err(DropReason::TooLong);
                }
                (field::LABEL, Value::Bytes(pair)) => self.label(metric, pair, metric.len() - fields.remaining())?,
                (field::GAUGE | field::UNTYPED, Value::Bytes(message)) => check(message, SIMPLE)?,
                (field::COUNTER, Value::Bytes(message)) => {
                    check(message, COUNTER)?;
                    self.exemplars += messages(message, 2).count() as u64;
                }
                (field::SUMMARY, Value::Bytes(message)) => check(message, SUMMARY)?,
                (field::HISTOGRAM, Value::Bytes(message)) => {
                    histogram.get_or_insert_with(Histogram::default).add(message)?;
                }
                (field::TIMESTAMP_MS, Value::Varint(time)) => self.timestamp = time as i64,
                (field::LABEL..=field::HISTOGRAM, _) => return Err(DropReason::Malformed),
                _ => continue,
            }
            seen |= 1 << field.number;
        }
        if seen & (1 << field::value(kind)) == 0 || !self.labels.are_sound(metric) {
            return Err(DropReason::Malformed);
        }
        // Prometheus adds a label to some of a metric's samples: one of that name there already would be there twice.
        let has_twin = match kind {
            MetricType::Summary => self.labels.has(metric, b"quantile") && has_quantiles(metric),
            MetricType::Histogram | MetricType::GaugeHistogram => self.labels.has(metric, b"le"),
            _ => false,
        };
        if has_twin {
            return Err(DropReason::Malformed);
        }
        if let Some(histogram) = histogram.filter(|_| field::value(kind) == field::HISTOGRAM) {
            self.is_native_itself = self.check_histogram(&histogram)?;
            self.is_native |= self.is_native_itself;
            self.exemplars = histogram.exemplars;
        }
        Ok(())
    }

    /// Reads a label whose message ends at `end` in its metric.
    #[inline(always)]
    fn label(&mut self, metric: &[u8], pair: &[u8], end: usize) -> Result<(), Malformed> {
        let (name, value) = match plain_pair(pair) {
            Some((name, value)) => {
                check_text(value)?;
                // Behind the name stand the value's key, its length and the value.
                let name_end = end - value.len() - 2;
                (Span::before(name_end, name.len()), Span::before(end, value.len()))
            }
            None => read_pair(pair, end)?,
        };
        if name.of(metric).is_empty() {
            return Err(Malformed);
        }
        let name = self.labels.name(metric, name, NameKind::Any);
        if name.is_odd() {
            check_text(name.span.of(metric))?;
        }
        self.labels.push(metric, name, value, false);
        Ok(())
    }

    fn check_histogram(&self, histogram: &Histogram) -> Result<bool, Malformed> {
        let is_native = histogram.is_native();
        if (is_native || self.is_native) && !histogram.is_valid_native() {
            return Err(Malformed);
        }
        Ok(is_native)
    }
}

/// Whether a metric's summary, which was checked, has quantiles.
fn has_quantiles(metric: &[u8]) -> bool {
    let summaries = messages(metric, field::SUMMARY).flatten();
    summaries.flat_map(|summary| messages(summary, 3)).next().is_some()
}

/// The name and the value of a label that is written as nearly all are: name first, both short, nothing else.
#[inline(always)]
fn plain_pair(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let [NAME_KEY, name_length @ ..0x80, rest @ ..] = pair else {
        return None;
    };
    let (name, rest) = rest.split_at_checked(usize::from(*name_length))?;
    match rest {
        [VALUE_KEY, length @ ..0x80, value @ ..] if value.len() == usize::from(*length) => Some((name, value)),
        _ => None,
    }
}

/// The keys of a label's fields: their numbers, and that bytes follow.
const NAME_KEY: u8 = 1 << 3 | 2;
const VALUE_KEY: u8 = 2 << 3 | 2;

/// Where the name and the value of any label stand, in the metric in which its message ends at `end`.
fn read_pair(pair: &[u8], end: usize) -> Result<(Span, Span), Malformed> {
    let mut name = None;
    let mut value = Span::default();
    let mut fields = Fields::of(pair);
    while let Some(field) = fields.next() {
        let field = field?;
        let field_end = end - fields.remaining();
        match (field.number, field.value) {
            (1, Value::Bytes(text)) => {
                // Some readers look at each that comes, though only the last one counts.
                if text.is_empty() {
                    return Err(Malformed);
                }
                check_text(text)?;
                name = Some(Span::before(field_end, text.len()));
            }
            (2, Value::Bytes(text)) => {
                check_text(text)?;
                value = Span::before(field_end, text.len());
            }
            (1 | 2, _) => return Err(Malformed),
            _ => {}
        }
    }
    Ok((name.ok_or(Malformed)?, value))
}
