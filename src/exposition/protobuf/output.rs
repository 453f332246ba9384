//! Samples put together into messages: one `io.prometheus.client.MetricFamily` for each run of a family's samples.
//!
//! In: lines that were checked. Out: delimited messages. One family is held at a time, in pieces that are encoded
//! already where nothing can be added to them: the metrics of gauges at once, those of histograms when their family is
//! over, since a series' buckets may stand anywhere among its family's lines.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::family::{Kind, field as family_field};
use super::messages::MAX_FAMILY;
use super::wire::{put_bytes_field, put_bytes_head, put_double_field, put_varint, put_varint_field};
use crate::exposition::counts::DropReason;
use crate::exposition::dialect::{Dialect, Exemplar, exemplar, seconds};
use crate::exposition::families::{Families, Full};
use crate::exposition::format::Names;
use crate::exposition::labels::{LabelSet, METRIC_LABEL, put_label};
use crate::exposition::lines::text_of;
use crate::exposition::metadata::{Keyword, MetricType};
use crate::exposition::output::{Family, Output, Part, Written, final_name, final_names, put_metric_name, unescape};
use crate::exposition::relabel::Held;
use crate::exposition::sample::{Sample, Scanner};

/// Writes messages.
#[derive(Debug)]
pub struct MessageOutput {
    labels: Arc<LabelSet>,
    names: Names,
    family: Building,
    /// The labels of the sample at hand, encoded.
    series: Vec<u8>,
    /// The name of the family that is announced.
    announced: Vec<u8>,
    scratch: Vec<u8>,
}

/// The family that is being put together.
#[derive(Debug, Default)]
struct Building {
    /// The name under which it is written; empty if there is no family yet.
    name: Vec<u8>,
    kind: Option<MetricType>,
    /// Its fields but for the metrics, encoded.
    head: Vec<u8>,
    /// Its metrics that nothing can be added to, encoded.
    metrics: Vec<u8>,
    /// Its other metrics.
    open: Vec<Series>,
    /// Where the last metric with these labels is among them.
    index: HashMap<Box<[u8]>, usize>,
    /// Bytes that their labels and points take.
    open_bytes: usize,
    /// The exemplars of its other metrics, encoded.
    exemplars: Vec<u8>,
    samples: u64,
    /// It grew too large: its samples are dropped.
    is_too_large: bool,
}

/// A metric that further samples may belong to.
#[derive(Debug, Default)]
struct Series {
    labels: Box<[u8]>,
    timestamp: Option<i64>,
    value: Option<f64>,
    exemplar: Range<usize>,
    sum: Option<f64>,
    count: Option<f64>,
    created: Option<f64>,
    /// Buckets, or quantiles.
    points: Vec<Point>,
}

/// A bucket and its count, or a quantile and its value.
#[derive(Debug, Clone)]
struct Point {
    at: f64,
    value: f64,
    exemplar: Range<usize>,
}

/// A sample, read.
struct Read {
    value: f64,
    timestamp: Option<i64>,
    /// The value of the label that tells the bucket or the quantile.
    at: Option<f64>,
}

/// The fields of a family's parts (`io/prometheus/client/metrics.proto`).
mod field {
    pub(super) const TIMESTAMP_MS: u32 = 6;
    pub(super) const SIMPLE_VALUE: u32 = 1;
    pub(super) const COUNTER_EXEMPLAR: u32 = 2;
    pub(super) const COUNTER_CREATED: u32 = 3;
    pub(super) const SAMPLE_COUNT: u32 = 1;
    pub(super) const SAMPLE_SUM: u32 = 2;
    pub(super) const POINT: u32 = 3;
    pub(super) const SAMPLE_COUNT_FLOAT: u32 = 4;
    pub(super) const SUMMARY_CREATED: u32 = 4;
    pub(super) const HISTOGRAM_CREATED: u32 = 15;
    pub(super) const QUANTILE: u32 = 1;
    pub(super) const QUANTILE_VALUE: u32 = 2;
    pub(super) const CUMULATIVE_COUNT: u32 = 1;
    pub(super) const UPPER_BOUND: u32 = 2;
    pub(super) const BUCKET_EXEMPLAR: u32 = 3;
    pub(super) const CUMULATIVE_COUNT_FLOAT: u32 = 4;
    pub(super) const EXEMPLAR_LABEL: u32 = 1;
    pub(super) const EXEMPLAR_VALUE: u32 = 2;
    pub(super) const EXEMPLAR_TIMESTAMP: u32 = 3;
    pub(super) const SECONDS: u32 = 1;
    pub(super) const NANOS: u32 = 2;
}

impl Output for MessageOutput {
    const WRITES_WHOLE_FAMILIES: bool = true;
    const IS_OPEN_METRICS: bool = false;

    fn new(labels: Arc<LabelSet>, names: Names) -> Self {
        Self {
            labels,
            names,
            family: Building::default(),
            series: Vec::new(),
            announced: Vec::new(),
            scratch: Vec::new(),
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
        self.announced.clear();
        put_metric_name(family.stem, self.names, &mut self.announced);
        self.announced.extend_from_slice(family.suffix.as_bytes());
        families.entry(&self.announced)?.has_samples |= has_samples;
        // A message without metrics says nothing to anybody.
        if has_samples && (self.family.name != self.announced || self.family.kind != family.kind) {
            self.finish(out);
            self.begin(family.kind, held);
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
        if self.family.is_too_large {
            return Err(DropReason::TooLong);
        }
        let read = self.read::<D>(line, sample, scanner, part)?;
        let mut written = Written::default();
        self.scratch.clear();
        match sample.numbers.exemplar {
            Exemplar::Absent => {}
            Exemplar::At { start, .. } => self.encode_exemplar(line, start as usize),
            Exemplar::Malformed(_) => written.lost_exemplar = true,
        }
        self.add::<D>(part, &read)?;
        self.family.samples += 1;
        if self.family.size() > MAX_FAMILY {
            written.taken_back = self.family.give_up();
        }
        Ok(written)
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        let family = &mut self.family;
        let open = std::mem::take(&mut family.open);
        for series in open.into_iter().filter(Series::has_value) {
            self.scratch.clear();
            series.encode(
                family.kind,
                &family.exemplars,
                self.labels.protobuf(),
                &mut self.scratch,
            );
            put_bytes_field(family_field::METRIC, &self.scratch, &mut family.metrics);
        }
        if !family.metrics.is_empty() {
            put_varint((family.head.len() + family.metrics.len()) as u64, out);
            out.extend_from_slice(&family.head);
            out.extend_from_slice(&family.metrics);
        }
        family.reset();
    }
}

impl MessageOutput {
    /// Begins the family that is announced.
    fn begin(&mut self, kind: Option<MetricType>, held: Option<&Held>) {
        let family = &mut self.family;
        family.name.extend_from_slice(&self.announced);
        family.kind = kind;
        put_bytes_field(family_field::NAME, &family.name, &mut family.head);
        let texts = held.map_or(&[][..], Held::lines);
        let text = |wanted: Keyword| {
            let (metadata, line) = texts.iter().find(|(metadata, _)| metadata.keyword == wanted)?;
            Some(text_of(&line[metadata.text..]))
        };
        if let Some(help) = text(Keyword::Help) {
            self.scratch.clear();
            unescape(help, &mut self.scratch);
            put_bytes_field(family_field::HELP, &self.scratch, &mut family.head);
        }
        put_varint_field(family_field::TYPE, Kind::of(kind) as u64, &mut family.head);
        if let Some(unit) = text(Keyword::Unit).filter(|unit| !unit.is_empty()) {
            put_bytes_field(family_field::UNIT, unit, &mut family.head);
        }
    }

    /// Reads a sample's numbers, and encodes its labels.
    fn read<D: Dialect>(
        &mut self,
        line: &[u8],
        sample: &Sample,
        scanner: &Scanner<D>,
        part: Part,
    ) -> Result<Read, DropReason> {
        let value = number(sample.numbers.value.of(line)).ok_or(DropReason::Malformed)?;
        let timestamp = match sample.numbers.timestamp {
            Some(timestamp) => Some(milliseconds::<D>(timestamp.of(line)).ok_or(DropReason::Malformed)?),
            None => None,
        };
        let told_by = match (self.family.kind, part) {
            (Some(MetricType::Histogram | MetricType::GaugeHistogram), Part::Bucket) => &b"le"[..],
            (Some(MetricType::Summary), Part::Value) => b"quantile",
            _ => b"",
        };
        self.series.clear();
        let at = self.encode_labels(line, sample, scanner, told_by)?;
        Ok(Read { value, timestamp, at })
    }

    /// Encodes a sample's labels, but for the one that tells the bucket or the quantile: that one's value is returned.
    fn encode_labels<D: Dialect>(
        &mut self,
        line: &[u8],
        sample: &Sample,
        scanner: &Scanner<D>,
        told_by: &[u8],
    ) -> Result<Option<f64>, DropReason> {
        let collides = self.labels.fingerprints() & scanner.fingerprints() != 0;
        let names = match collides || sample.has_quoted_name {
            true => Some(final_names(line, scanner.labels(), &self.labels, self.names)?),
            false => None,
        };
        let mut at = None;
        for (index, label) in scanner.labels().iter().enumerate() {
            let name = match &names {
                Some(names) => &names[index],
                None => label.name(line),
            };
            if !told_by.is_empty() && name == told_by {
                at = Some(number(label.value(line)).ok_or(DropReason::Malformed)?);
                continue;
            }
            put_quoted(METRIC_LABEL, name, label.value(line), &mut self.series);
        }
        if at.is_none() && !told_by.is_empty() {
            return Err(DropReason::Malformed);
        }
        Ok(at)
    }

    /// Encodes the exemplar that starts at `start` into the scratch buffer.
    fn encode_exemplar(&mut self, line: &[u8], start: usize) {
        let line = text_of(line);
        let Ok(parts) = exemplar(line, start) else {
            return;
        };
        let out = &mut self.scratch;
        for label in &parts.labels {
            let name = final_name(*label, line, self.names);
            put_quoted(field::EXEMPLAR_LABEL, &name, label.value(line), out);
        }
        let value = number(parts.value.of(line)).unwrap_or(f64::NAN);
        put_double_field(field::EXEMPLAR_VALUE, value, out);
        if let Some(timestamp) = parts.timestamp.and_then(|timestamp| seconds(timestamp.of(line))) {
            put_timestamp(field::EXEMPLAR_TIMESTAMP, timestamp, out);
        }
    }

    /// Adds a sample to its metric. Its exemplar is in the scratch buffer.
    fn add<D: Dialect>(&mut self, part: Part, read: &Read) -> Result<(), DropReason> {
        let kind = self.family.kind;
        match kind {
            Some(MetricType::Histogram | MetricType::GaugeHistogram | MetricType::Summary) => {}
            // The time at which it was created comes in a line of its own.
            Some(MetricType::Counter) if D::IS_OPEN_METRICS => {}
            _ => {
                self.add_simple(read);
                return Ok(());
            }
        }
        let family = &mut self.family;
        let exemplar_start = family.exemplars.len();
        let exemplar = exemplar_start..exemplar_start + self.scratch.len();
        let place = Place::of(kind, part, read).ok_or(DropReason::Malformed)?;
        let series = family.series(&self.series, &place, read.timestamp);
        series.put(place, read.value, exemplar);
        if part != Part::Created {
            series.timestamp = read.timestamp;
        }
        family.exemplars.extend_from_slice(&self.scratch);
        family.open_bytes += size_of::<Point>();
        Ok(())
    }

    /// Encodes a metric that has but a value.
    fn add_simple(&mut self, read: &Read) {
        let field = Kind::of(self.family.kind).value_field();
        self.series.extend_from_slice(self.labels.protobuf());
        put_bytes_head(field, DOUBLE_FIELD, &mut self.series);
        put_double_field(field::SIMPLE_VALUE, read.value, &mut self.series);
        if let Some(timestamp) = read.timestamp {
            put_varint_field(field::TIMESTAMP_MS, timestamp as u64, &mut self.series);
        }
        put_bytes_field(family_field::METRIC, &self.series, &mut self.family.metrics);
    }
}

/// The bytes of a floating point number with its field's number.
const DOUBLE_FIELD: usize = 1 + size_of::<f64>();

/// Which of a metric's values a sample is.
#[derive(Debug, Clone, Copy)]
enum Place {
    Value,
    Sum,
    Count,
    Created,
    Point(f64),
}

impl Place {
    /// The place of a sample, if a metric of this type has one for it and its value may stand there.
    fn of(kind: Option<MetricType>, part: Part, read: &Read) -> Option<Self> {
        // Neither is a count of anything.
        let is_count = read.value >= 0.0;
        let is_histogram = !matches!(kind, Some(MetricType::Summary | MetricType::Counter));
        match part {
            Part::Created => timestamp_of(read.value).map(|_| Self::Created),
            Part::Value if kind == Some(MetricType::Counter) => Some(Self::Value),
            Part::Value => read.at.filter(|_| !is_histogram).map(Self::Point),
            Part::Bucket => read.at.filter(|at| is_count && !at.is_nan()).map(Self::Point),
            Part::Sum => Some(Self::Sum),
            Part::Count => is_count.then_some(Self::Count),
        }
    }
}

impl Building {
    /// The metric with these labels that has room for this sample.
    fn series(&mut self, labels: &[u8], place: &Place, timestamp: Option<i64>) -> &mut Series {
        let last = self.open.len().wrapping_sub(1);
        let known = match self.open.last() {
            Some(series) if *series.labels == *labels => Some(last),
            _ => self.index.get(labels).copied(),
        };
        let index = match known {
            Some(index) if self.open[index].has_room_for(place, timestamp) => index,
            _ => {
                let labels: Box<[u8]> = labels.into();
                self.open_bytes += 2 * labels.len();
                self.index.insert(labels.clone(), self.open.len());
                self.open.push(Series {
                    labels,
                    ..Series::default()
                });
                self.open.len() - 1
            }
        };
        &mut self.open[index]
    }

    /// About the bytes that it takes.
    fn size(&self) -> usize {
        let series = size_of::<Series>() + INDEX_ENTRY;
        self.metrics.len() + self.exemplars.len() + self.open.len() * series + self.open_bytes
    }

    /// Drops what there is of it, and what comes. Says how many samples that were taken are lost.
    fn give_up(&mut self) -> u64 {
        let samples = self.samples;
        let (name, kind) = (std::mem::take(&mut self.name), self.kind);
        *self = Self {
            name,
            kind,
            is_too_large: true,
            ..Self::default()
        };
        samples
    }

    fn reset(&mut self) {
        self.name.clear();
        self.kind = None;
        self.head.clear();
        self.metrics.clear();
        self.metrics.shrink_to(KEPT_CAPACITY);
        self.open.clear();
        self.index.clear();
        self.open_bytes = 0;
        self.exemplars.clear();
        self.exemplars.shrink_to(KEPT_CAPACITY);
        self.samples = 0;
        self.is_too_large = false;
    }
}

/// What an entry of the table of a family's metrics costs beside the labels, in bytes.
const INDEX_ENTRY: usize = 64;

/// Room that is given back after an unusually large family, in bytes.
const KEPT_CAPACITY: usize = 256 << 10;

impl Series {
    fn has_room_for(&self, place: &Place, timestamp: Option<i64>) -> bool {
        let is_free = match place {
            Place::Created => return self.created.is_none(),
            Place::Value => self.value.is_none(),
            Place::Sum => self.sum.is_none(),
            Place::Count => self.count.is_none(),
            // One that comes twice is found when they are sorted.
            Place::Point(_) => true,
        };
        is_free && (!self.has_value() || self.timestamp == timestamp)
    }

    /// Whether there is more to it than the time at which it was created.
    fn has_value(&self) -> bool {
        self.value.is_some() || self.sum.is_some() || self.count.is_some() || !self.points.is_empty()
    }

    fn put(&mut self, place: Place, value: f64, exemplar: Range<usize>) {
        match place {
            Place::Value => (self.value, self.exemplar) = (Some(value), exemplar),
            Place::Sum => self.sum = Some(value),
            Place::Count => self.count = Some(value),
            Place::Created => self.created = Some(value),
            Place::Point(at) => self.points.push(Point { at, value, exemplar }),
        }
    }

    /// Encodes the metric.
    fn encode(mut self, kind: Option<MetricType>, exemplars: &[u8], added: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.labels);
        out.extend_from_slice(added);
        let mut value = Vec::new();
        match kind {
            Some(MetricType::Counter) => self.encode_counter(exemplars, &mut value),
            Some(MetricType::Summary) => self.encode_summary(&mut value),
            _ => {
                self.points.sort_by(|one, other| one.at.total_cmp(&other.at));
                self.points.dedup_by(|one, other| one.at == other.at);
                self.encode_histogram(exemplars, &mut value);
            }
        }
        put_bytes_field(Kind::of(kind).value_field(), &value, out);
        if let Some(timestamp) = self.timestamp {
            put_varint_field(field::TIMESTAMP_MS, timestamp as u64, out);
        }
    }

    fn encode_counter(&self, exemplars: &[u8], out: &mut Vec<u8>) {
        put_double_field(field::SIMPLE_VALUE, self.value.unwrap_or_default(), out);
        if !self.exemplar.is_empty() {
            put_bytes_field(field::COUNTER_EXEMPLAR, &exemplars[self.exemplar.clone()], out);
        }
        if let Some(created) = self.created {
            put_timestamp(field::COUNTER_CREATED, created, out);
        }
    }

    fn encode_summary(&self, out: &mut Vec<u8>) {
        // There is no place for a count that is no whole number.
        put_varint_field(field::SAMPLE_COUNT, self.count.unwrap_or_default() as u64, out);
        if let Some(sum) = self.sum {
            put_double_field(field::SAMPLE_SUM, sum, out);
        }
        for point in &self.points {
            let mut quantile = Vec::with_capacity(18);
            put_double_field(field::QUANTILE, point.at, &mut quantile);
            put_double_field(field::QUANTILE_VALUE, point.value, &mut quantile);
            put_bytes_field(field::POINT, &quantile, out);
        }
        if let Some(created) = self.created {
            put_timestamp(field::SUMMARY_CREATED, created, out);
        }
    }

    fn encode_histogram(&self, exemplars: &[u8], out: &mut Vec<u8>) {
        // Where it is left out, the last bucket holds it.
        let count = self.count.or_else(|| Some(self.points.last()?.value));
        put_count(
            field::SAMPLE_COUNT,
            field::SAMPLE_COUNT_FLOAT,
            count.unwrap_or_default(),
            out,
        );
        if let Some(sum) = self.sum {
            put_double_field(field::SAMPLE_SUM, sum, out);
        }
        for point in &self.points {
            let mut bucket = Vec::with_capacity(32);
            put_count(
                field::CUMULATIVE_COUNT,
                field::CUMULATIVE_COUNT_FLOAT,
                point.value,
                &mut bucket,
            );
            put_double_field(field::UPPER_BOUND, point.at, &mut bucket);
            if !point.exemplar.is_empty() {
                put_bytes_field(field::BUCKET_EXEMPLAR, &exemplars[point.exemplar.clone()], &mut bucket);
            }
            put_bytes_field(field::POINT, &bucket, out);
        }
        if let Some(created) = self.created {
            put_timestamp(field::HISTOGRAM_CREATED, created, out);
        }
    }
}

fn number(token: &[u8]) -> Option<f64> {
    std::str::from_utf8(token).ok()?.parse().ok()
}

/// A timestamp of either dialect, in milliseconds.
fn milliseconds<D: Dialect>(token: &[u8]) -> Option<i64> {
    if !D::IS_OPEN_METRICS {
        return std::str::from_utf8(token).ok()?.parse().ok();
    }
    let milliseconds = seconds(token)? * 1000.0;
    (milliseconds.abs() < i64::MAX as f64).then_some(milliseconds as i64)
}

/// Seconds since 1970 as whole ones and nanoseconds, if they are within the years 1 to 9999, as the schema wants.
fn timestamp_of(seconds: f64) -> Option<(i64, i32)> {
    const LARGEST: f64 = 253_402_300_799.0;
    const SMALLEST: f64 = -62_135_596_800.0;
    if !(SMALLEST..=LARGEST).contains(&seconds) {
        return None;
    }
    let whole = seconds.floor();
    let nanos = ((seconds - whole) * 1e9).round().min(999_999_999.0);
    Some((whole as i64, nanos as i32))
}

fn put_timestamp(field: u32, seconds: f64, out: &mut Vec<u8>) {
    let Some((seconds, nanos)) = timestamp_of(seconds) else {
        return;
    };
    let mut timestamp = Vec::with_capacity(18);
    put_varint_field(field::SECONDS, seconds as u64, &mut timestamp);
    put_varint_field(field::NANOS, nanos as u64, &mut timestamp);
    put_bytes_field(field, &timestamp, out);
}

/// A count: a whole number where it is one, or else in the field for those that are none.
fn put_count(whole: u32, float: u32, count: f64, out: &mut Vec<u8>) {
    if count.fract() == 0.0 && count < u64::MAX as f64 {
        put_varint_field(whole, count as u64, out);
    } else {
        put_double_field(float, count, out);
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
