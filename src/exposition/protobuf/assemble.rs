//! The family that is being put together, until it is written as a message.
//!
//! In: encoded metrics to which nothing can be added, and samples that are parts of a metric, in any order. Out: one
//! delimited message.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::check::field as metric_field;
use super::encode::{put_bucket, put_counter, put_histogram, put_quantile, put_summary};
use super::read::{MAX_FAMILY, field, is_unit_of, number_of};
use super::torn::{TornMetrics, are_torn};
use super::wire::{put_bytes_field, put_varint, put_varint_field};
use crate::exposition::engine::Lost;
use crate::exposition::model::{MetricType, Part};
use crate::exposition::progress::DropReason;
use crate::exposition::room::{Held, Room};

/// What an entry of the table of a family's metrics costs, and the head of their key's allocation, in bytes.
const INDEX_ENTRY: usize = 64;

/// Room that is kept for the next family, in bytes. What an unusually large one took is given back.
const KEPT_CAPACITY: usize = 256 << 10;

/// Entries that are kept of the table of metrics: to clear a table takes time by the room that it has.
const KEPT_ENTRIES: usize = 1 << 10;

/// A family.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    /// The name under which it is written; empty if there is no family yet.
    name: Vec<u8>,
    kind: MetricType,
    /// Its fields but for the metrics, encoded.
    head: Vec<u8>,
    has_help: bool,
    has_unit: bool,
    /// Its metrics that nothing can be added to, encoded.
    metrics: Vec<u8>,
    /// Its other metrics.
    series: Vec<Series>,
    /// Where each of them stands, by its key.
    index: HashMap<Arc<[u8]>, usize>,
    /// Where the one stands that the sample before belongs to.
    current: usize,
    /// About the bytes that they take, in memory and, if that is more, in the message.
    series_bytes: usize,
    /// Their exemplars, encoded.
    exemplars: Vec<u8>,
    /// Samples that are no part of a metric.
    strays: TornMetrics,
    samples: u64,
    /// It grew too large: its samples are dropped.
    is_too_large: bool,
    held: Held,
}

/// A metric that further samples may belong to.
#[derive(Debug, Default)]
struct Series {
    /// Its labels and its timestamp, encoded: what makes samples parts of one metric.
    key: Arc<[u8]>,
    /// The bytes of its labels in the key.
    labels: usize,
    value: Option<f64>,
    exemplar: Range<usize>,
    sum: Option<f64>,
    count: Option<f64>,
    created: Option<f64>,
    /// The time at which it was created is in the message.
    is_created_written: bool,
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

/// Which of a metric's values a sample is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Value,
    Sum,
    Count,
    Created,
    /// The bucket of this bound, or this quantile.
    Point(f64),
}

impl Assembly {
    /// No family yet, and what it may hold beyond a little.
    pub(super) fn new(room: &Room) -> Self {
        Self { held: room.hold(), ..Self::default() }
    }

    /// Whether it goes by this name and has this type.
    pub(super) fn is(&self, name: &[u8], kind: MetricType) -> bool {
        self.name == name && self.kind == kind
    }

    /// Whether a family of this name and type stands within it, among the parts of its metrics, though it is none.
    pub(super) fn has_within(&self, name: &[u8], kind: MetricType) -> bool {
        let ending = name.strip_prefix(self.name.as_slice());
        self.kind.is_composite() && !kind.is_composite() && ending.is_some_and(|ending| ending.starts_with(b"_"))
    }

    pub(super) fn kind(&self) -> MetricType {
        self.kind
    }

    /// Begins a family. The one before must have ended.
    pub(super) fn begin(&mut self, name: &[u8], kind: MetricType) {
        self.name.extend_from_slice(name);
        self.kind = kind;
        put_bytes_field(field::NAME, name, &mut self.head);
        put_varint_field(field::TYPE, number_of(kind), &mut self.head);
    }

    pub(super) fn has_help(&self) -> bool {
        self.has_help
    }

    /// Gives it a help text. It must have none.
    pub(super) fn add_help(&mut self, help: &[u8]) {
        self.has_help = true;
        put_bytes_field(field::HELP, help, &mut self.head);
    }

    /// Gives it a unit, if it has none and its name allows it.
    pub(super) fn add_unit(&mut self, unit: &[u8]) {
        let may_have = !unit.is_empty() && is_unit_of(self.kind, &self.name, unit);
        if may_have && !std::mem::replace(&mut self.has_unit, true) {
            put_bytes_field(field::UNIT, unit, &mut self.head);
        }
    }

    /// Adds a metric that is whole, encoded.
    pub(super) fn add_metric(&mut self, metric: &[u8]) {
        put_bytes_field(field::METRIC, metric, &mut self.metrics);
        self.samples += 1;
    }

    /// Adds a sample to its metric. Its key begins with as many bytes of labels; `added` more will be written of them.
    ///
    /// # Errors
    ///
    /// The metric has this value already.
    pub(super) fn add_sample(
        &mut self,
        (key, labels): (&[u8], usize),
        added: usize,
        place: Place,
        value: f64,
        exemplar: &[u8],
    ) -> Result<(), DropReason> {
        let start = self.exemplars.len();
        let index = self.find(key, labels, added);
        let series = &mut self.series[index];
        let points = series.points.capacity();
        series.put(place, value, start..start + exemplar.len())?;
        self.series_bytes += (series.points.capacity() - points) * size_of::<Point>();
        self.exemplars.extend_from_slice(exemplar);
        self.samples += 1;
        Ok(())
    }

    /// Adds a sample that is no part of a metric, with its labels and its timestamp, encoded.
    pub(super) fn add_stray(&mut self, part: Part, labels: [&[u8]; 2], value: f64) -> Result<(), DropReason> {
        if !self.strays.add((self.kind, part), labels, None, value) {
            return Err(DropReason::TooLong);
        }
        self.samples += 1;
        Ok(())
    }

    /// Where the metric with this key stands.
    fn find(&mut self, key: &[u8], labels: usize, added: usize) -> usize {
        if self.series.get(self.current).is_some_and(|series| *series.key == *key) {
            return self.current;
        }
        self.current = match self.index.get(key) {
            Some(index) => *index,
            None => {
                self.series_bytes += size_of::<Series>() + INDEX_ENTRY + key.len() + added;
                let key: Arc<[u8]> = key.into();
                self.index.insert(Arc::clone(&key), self.series.len());
                self.series.push(Series { key, labels, ..Series::default() });
                self.series.len() - 1
            }
        };
        self.current
    }

    /// Whether there is room for all of it.
    pub(super) fn has_room(&mut self) -> bool {
        let size = self.size();
        // What grows has room for more than there is.
        let spare = (self.series.capacity() - self.series.len()) * size_of::<Series>() + self.metrics.capacity()
            - self.metrics.len();
        size <= MAX_FAMILY && self.held.resize(size + spare)
    }

    /// About the bytes that it takes: never less than its message will have.
    fn size(&self) -> usize {
        self.head.len() + self.metrics.len() + self.exemplars.len() + self.series_bytes + self.strays.size()
    }

    pub(super) fn is_too_large(&self) -> bool {
        self.is_too_large
    }

    /// Drops what there is of it, and says that what comes is to be dropped. Returns how many samples are lost.
    pub(super) fn give_up(&mut self) -> u64 {
        let samples = self.samples;
        let (name, kind) = (std::mem::take(&mut self.name), self.kind);
        *self = Self { name, kind, is_too_large: true, held: std::mem::take(&mut self.held), ..Self::default() };
        self.held.force(0);
        samples
    }

    /// Writes it, if it has a metric, with these labels added to those that are not whole yet, and forgets it. Returns
    /// which of its samples are not written.
    pub(super) fn end(&mut self, added: &[u8], out: &mut Vec<u8>) -> Lost {
        let mut torn = std::mem::take(&mut self.strays);
        let lost = self.encode_series(added, &mut torn);
        if !self.metrics.is_empty() {
            put_varint((self.head.len() + self.metrics.len()) as u64, out);
            out.extend_from_slice(&self.head);
            out.extend_from_slice(&self.metrics);
        }
        torn.end(&self.name, self.kind, out);
        self.reset();
        lost
    }

    fn encode_series(&mut self, added: &[u8], torn: &mut TornMetrics) -> Lost {
        let mut lost = Lost::default();
        let (mut metric, mut value) = (Vec::new(), Vec::new());
        for index in 0..self.series.len() {
            if !self.series[index].has_value() {
                continue;
            }
            let series = &mut self.series[index];
            // Points that are there twice.
            lost.malformed += series.sort_points();
            // What a gauge histogram's parts are called, no message tells.
            let is_gauge_histogram = self.kind == MetricType::GaugeHistogram;
            if is_gauge_histogram || series.is_torn(self.kind) {
                lost.torn += u64::from(!is_gauge_histogram);
                lost.too_long += series.tear(self.kind, added, torn);
                series.points = Vec::new();
                continue;
            }
            let created = self.created_of(index);
            let series = &mut self.series[index];
            value.clear();
            series.encode_value(self.kind, created, &self.exemplars, &mut value);
            metric.clear();
            metric.extend_from_slice(&series.key);
            metric.extend_from_slice(added);
            put_bytes_field(metric_field::value(self.kind), &value, &mut metric);
            put_bytes_field(field::METRIC, &metric, &mut self.metrics);
            // Its room is given back at once: the message takes as much.
            series.points = Vec::new();
        }
        let created_in_vain = |series: &&Series| series.created.is_some() && !series.is_created_written;
        lost.orphaned = self.series.iter().filter(created_in_vain).count() as u64;
        lost
    }

    /// The time at which a metric was created. The line that tells it has no timestamp of its own, so that it tells it of
    /// all metrics with these labels, whatever their timestamps.
    fn created_of(&mut self, index: usize) -> Option<f64> {
        let Series { key, labels, .. } = &self.series[index];
        let told_by = if key.len() == *labels { index } else { *self.index.get(&key[..*labels])? };
        let series = &mut self.series[told_by];
        series.is_created_written = true;
        series.created
    }

    fn reset(&mut self) {
        for buffer in [&mut self.name, &mut self.head, &mut self.metrics, &mut self.exemplars] {
            buffer.clear();
            buffer.shrink_to(KEPT_CAPACITY);
        }
        self.kind = MetricType::default();
        (self.has_help, self.has_unit) = (false, false);
        self.series = Vec::new();
        self.index.clear();
        self.index.shrink_to(KEPT_ENTRIES);
        self.current = 0;
        self.series_bytes = 0;
        self.samples = 0;
        self.is_too_large = false;
        self.held.force(0);
    }
}

impl Series {
    /// Whether there is more to it than the time at which it was created.
    fn has_value(&self) -> bool {
        self.value.is_some() || self.sum.is_some() || self.count.is_some() || !self.points.is_empty()
    }

    fn put(&mut self, place: Place, value: f64, exemplar: Range<usize>) -> Result<(), DropReason> {
        let place = match place {
            Place::Point(at) => {
                // One that comes twice is found when they are sorted.
                self.points.push(Point { at, value, exemplar });
                return Ok(());
            }
            Place::Value => &mut self.value,
            Place::Sum => &mut self.sum,
            Place::Count => &mut self.count,
            Place::Created => &mut self.created,
        };
        if place.is_some() {
            return Err(DropReason::Malformed);
        }
        *place = Some(value);
        if !exemplar.is_empty() {
            self.exemplar = exemplar;
        }
        Ok(())
    }

    /// Whether its message would tell something else than its samples do: what it has no whole number for; or, where each part has a
    /// timestamp of its own, a 0 for each of the others. (Without one, a part that is missing is missing everywhere, and told as 0.)
    fn is_torn(&self, kind: MetricType) -> bool {
        let has_time = self.key.len() > self.labels;
        let lacks_part = self.sum.is_none() || self.count.is_none();
        match kind {
            MetricType::Counter => false,
            MetricType::Summary => {
                let is_none = |count: f64| count.fract() != 0.0 || count >= u64::MAX as f64;
                has_time && lacks_part || self.count.is_some_and(is_none)
            }
            _ => {
                let buckets = self.points.iter().map(|point| (point.at, point.value));
                let count = self.count.or_else(|| Some(self.points.last()?.value)).unwrap_or_default();
                has_time && (lacks_part || self.points.is_empty()) || are_torn(buckets, count)
            }
        }
    }

    /// Takes it apart. Returns how many of its samples there was no room for.
    fn tear(&self, kind: MetricType, added: &[u8], torn: &mut TornMetrics) -> u64 {
        let points = self.points.iter().map(|point| (Part::Bucket, Some(point.at), Some(point.value)));
        let parts = points.chain([(Part::Sum, None, self.sum), (Part::Count, None, self.count)]);
        let mut lost = 0;
        for (part, bound, value) in parts {
            if let Some(value) = value {
                lost += u64::from(!torn.add((kind, part), [&self.key, added], bound, value));
            }
        }
        lost
    }

    /// Sorts its points. Of those that are there twice the first one stays, as with Prometheus; returns how many go.
    fn sort_points(&mut self) -> u64 {
        let points = self.points.len();
        self.points.sort_by(|one, other| one.at.total_cmp(&other.at));
        self.points.dedup_by(|later, first| later.at == first.at || (later.at.is_nan() && first.at.is_nan()));
        (points - self.points.len()) as u64
    }

    fn encode_value(&self, kind: MetricType, created: Option<f64>, exemplars: &[u8], out: &mut Vec<u8>) {
        match kind {
            MetricType::Counter => {
                let exemplar = &exemplars[self.exemplar.clone()];
                put_counter(self.value.unwrap_or_default(), exemplar, created, out);
            }
            MetricType::Summary => {
                put_summary(self.count, self.sum, created, out);
                for point in &self.points {
                    put_quantile(point.at, point.value, out);
                }
            }
            _ => {
                // Where it is left out, the last bucket holds it.
                let count = self.count.or_else(|| Some(self.points.last()?.value));
                put_histogram(count, self.sum, created, out);
                for point in &self.points {
                    put_bucket(point.at, point.value, &exemplars[point.exemplar.clone()], out);
                }
            }
        }
    }
}
