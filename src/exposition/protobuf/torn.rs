//! Histograms and summaries that no message can tell as they are, and samples of their families that are no part of one.
//!
//! In: the parts of a metric. Out: an untyped family for each kind of part, so that each sample arrives as it is, under its own name,
//! and no reader takes them for what they are not.

use super::check::field as metric_field;
use super::encode::{put_label, put_simple};
use super::read::{MAX_FAMILY, field, number_of};
use super::wire::{put_bytes_field, put_varint, put_varint_field};
use crate::exposition::model::{MetricType, Part, put_bound};

/// Metrics that are taken apart.
#[derive(Debug, Default)]
pub(super) struct TornMetrics {
    /// What goes by the family's own name, its buckets, its sums, its counts and the times at which it was created, encoded.
    parts: [Vec<u8>; 5],
    /// How long they were before the last metric.
    before: [usize; 5],
    /// The bytes that were written, those that were taken back among them: a family must not have the work of many done for it.
    written: usize,
    metric: Vec<u8>,
}

/// A bound, and the count up to it.
pub(super) type Bucket = (f64, f64);

/// Whether these buckets, which are sorted, and this count are none of a histogram. Where the counts do not rise up to that of all, a
/// Prometheus 3 that makes native histograms of classic ones refuses the whole answer (`TempHistogram` in
/// `util/convertnhcb/convertnhcb.go`).
pub(super) fn are_torn(buckets: impl Iterator<Item = Bucket>, count: f64) -> bool {
    let (mut last, mut below) = (f64::NEG_INFINITY, 0.0);
    for (bound, count) in buckets {
        if bound.is_nan() || count.is_nan() || count < below {
            return true;
        }
        (last, below) = (bound, count);
    }
    count.is_nan() || count < below || (last == f64::INFINITY && count != below)
}

impl TornMetrics {
    /// Adds a part of a metric of a family of this type: its labels and its timestamp come encoded. Says whether there was room.
    pub(super) fn add(
        &mut self,
        (kind, part): (MetricType, Part),
        labels: [&[u8]; 2],
        bound: Option<f64>,
        value: f64,
    ) -> bool {
        let metric = &mut self.metric;
        metric.clear();
        if let Some(bound) = bound {
            let name: &[u8] = if kind == MetricType::Summary { b"quantile" } else { b"le" };
            let mut spelt = Vec::new();
            put_bound(bound, &mut spelt);
            put_label(metric_field::LABEL, name, &spelt, metric);
        }
        labels.iter().for_each(|labels| metric.extend_from_slice(labels));
        put_simple(metric_field::UNTYPED, value, metric);
        self.written += self.metric.len();
        let has_room = self.written <= MAX_FAMILY;
        if has_room {
            let to = match part {
                Part::Bucket if kind != MetricType::Summary => 1,
                Part::Value | Part::Bucket => 0,
                Part::Sum => 2,
                Part::Count => 3,
                Part::Created => 4,
            };
            put_bytes_field(field::METRIC, &self.metric, &mut self.parts[to]);
        }
        has_room
    }

    /// What follows is another metric.
    pub(super) fn begin_metric(&mut self) {
        self.before = self.parts.each_ref().map(Vec::len);
    }

    /// Forgets the last metric.
    pub(super) fn take_back(&mut self) {
        for (part, length) in self.parts.iter_mut().zip(self.before) {
            part.truncate(length);
        }
    }

    /// The bytes that they take.
    pub(super) fn size(&self) -> usize {
        self.parts.iter().map(Vec::capacity).sum()
    }

    /// Writes them as families whose names begin with this one, and forgets them.
    pub(super) fn end(&mut self, name: &[u8], kind: MetricType, out: &mut Vec<u8>) {
        let endings: [&[u8]; 5] = match kind {
            MetricType::GaugeHistogram => [b"", b"_bucket", b"_gsum", b"_gcount", b"_created"],
            _ => [b"", b"_bucket", b"_sum", b"_count", b"_created"],
        };
        for (ending, metrics) in endings.into_iter().zip(&self.parts) {
            if !metrics.is_empty() {
                let mut head = Vec::new();
                put_bytes_field(field::NAME, &[name, ending].concat(), &mut head);
                put_varint_field(field::TYPE, number_of(MetricType::Untyped), &mut head);
                put_varint((head.len() + metrics.len()) as u64, out);
                out.extend_from_slice(&head);
                out.extend_from_slice(metrics);
            }
        }
        *self = Self::default();
    }
}
