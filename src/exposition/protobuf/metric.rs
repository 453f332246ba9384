//! One metric: is it one that Prometheus ingests, and what has to change?
//!
//! In: a `Metric` message and what its family says of itself. Out: [`Malformed`], or whether it can stay as it is.
//! Nothing is decoded but what decides that.

use super::family::Kind;
use super::histogram::Histogram;
use super::labels::Labels;
use super::schema::{COUNTER, GAUGE, QUANTILE, TIMESTAMP, UNTYPED, check};
use super::wire::{Fields, Malformed, Value};
use crate::exposition::counts::DropReason;
use crate::exposition::format::Escaping;
use crate::exposition::labels::LabelSet;

/// The numbers of a metric's fields.
pub(super) mod field {
    pub const LABEL: u32 = 1;
    pub const GAUGE: u32 = 2;
    pub const COUNTER: u32 = 3;
    pub const SUMMARY: u32 = 4;
    pub const UNTYPED: u32 = 5;
    pub const TIMESTAMP_MS: u32 = 6;
    pub const HISTOGRAM: u32 = 7;
}

/// The labels that a metric may have. They are noted one by one, which takes several times their bytes.
const MAX_LABELS: usize = 1 << 16;

/// The label of a histogram's buckets.
const LE: &[u8] = b"le";

/// The label of a summary's quantiles.
const QUANTILE_LABEL: &[u8] = b"quantile";

/// Checks the metrics of one family after the other.
#[derive(Debug)]
pub(super) struct Checker {
    names: Escaping,
    labels: Labels,
    /// The family has a native histogram. Whether a histogram is taken for a native one is decided by the first of its
    /// family in old releases, and by the one before in some newer ones.
    is_native: bool,
}

impl Checker {
    pub(super) fn new(names: Escaping) -> Self {
        Self {
            names,
            labels: Labels::default(),
            is_native: false,
        }
    }

    /// Turns to the next family.
    pub(super) fn begin_family(&mut self) {
        self.is_native = false;
    }

    /// The labels of the metric last checked.
    pub(super) fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Checks a metric of a family of this type; returns whether a label has to be given another name.
    pub(super) fn check(&mut self, metric: &[u8], kind: Kind, added: &LabelSet) -> Result<bool, DropReason> {
        self.labels.clear();
        let mut seen = 0u32;
        let mut histogram = None;
        let mut has_quantiles = false;
        let mut fields = Fields::of(metric);
        while let Some(field) = fields.next() {
            let field = field?;
            match (field.number, field.value) {
                (field::LABEL, Value::Bytes(_)) if self.labels.len() == MAX_LABELS => {
                    return Err(DropReason::TooLong);
                }
                (field::LABEL, Value::Bytes(pair)) => {
                    self.labels.add(pair, metric.len() - fields.remaining(), self.names)?;
                }
                (field::GAUGE, Value::Bytes(message)) => check(message, GAUGE)?,
                (field::COUNTER, Value::Bytes(message)) => check(message, COUNTER)?,
                (field::SUMMARY, Value::Bytes(message)) => has_quantiles |= check_summary(message)?,
                (field::UNTYPED, Value::Bytes(message)) => check(message, UNTYPED)?,
                (field::HISTOGRAM, Value::Bytes(message)) => {
                    histogram.get_or_insert_with(Histogram::default).add(message)?;
                }
                (field::TIMESTAMP_MS, Value::Varint(_)) => {}
                (field::LABEL..=field::HISTOGRAM, _) => return Err(DropReason::Malformed),
                _ => continue,
            }
            seen |= 1 << field.number;
        }
        if seen & (1 << kind.value_field()) == 0 {
            return Err(DropReason::Malformed);
        }
        match kind {
            Kind::Counter | Kind::Gauge | Kind::Untyped => Ok(self.labels.settle(metric, added)?),
            Kind::Summary => {
                self.has_room_for(metric, QUANTILE_LABEL, has_quantiles)?;
                Ok(self.labels.settle(metric, added)?)
            }
            Kind::Histogram | Kind::GaugeHistogram => {
                let is_native = self.check_histogram(&histogram.ok_or(Malformed)?)?;
                self.has_room_for(metric, LE, true)?;
                let changes = self.labels.settle(metric, added)?;
                self.is_native |= is_native;
                Ok(changes)
            }
        }
    }

    /// Prometheus adds a label to some of a metric's samples: one of that name there already would be there twice.
    fn has_room_for(&self, metric: &[u8], label: &[u8], is_added: bool) -> Result<(), Malformed> {
        if is_added && self.labels.has(metric, label) {
            Err(Malformed)
        } else {
            Ok(())
        }
    }

    fn check_histogram(&self, histogram: &Histogram) -> Result<bool, Malformed> {
        let is_native = histogram.is_native();
        if (is_native || self.is_native) && !histogram.is_valid_native() {
            return Err(Malformed);
        }
        Ok(is_native)
    }
}

/// Checks a `Summary`; returns whether it has quantiles.
fn check_summary(message: &[u8]) -> Result<bool, Malformed> {
    let mut has_quantiles = false;
    for field in Fields::of(message) {
        let field = field?;
        match (field.number, field.value) {
            (1, Value::Varint(_)) | (2, Value::Fixed64(_)) => {}
            (3, Value::Bytes(quantile)) => {
                check(quantile, QUANTILE)?;
                has_quantiles = true;
            }
            (4, Value::Bytes(timestamp)) => check(timestamp, TIMESTAMP)?,
            (1..=4, _) => return Err(Malformed),
            _ => {}
        }
    }
    Ok(has_quantiles)
}
