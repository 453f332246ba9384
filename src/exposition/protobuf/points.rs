//! The numbers of a metric, one by one, as the line formats have a sample for each.

use super::check::field;
use super::histogram::Histogram;
use super::wire::{Field, Fields, Malformed, Value};
use crate::exposition::model::{Metric, MetricType, Number, Part};
use crate::exposition::progress::DropReason;

/// Hands out each number of a metric: which part it is, and the bound or the quantile that it belongs to.
///
/// # Errors
///
/// That of `each`. The metric was checked.
pub(in super::super) fn for_each_point(
    metric: &Metric<'_>,
    mut each: impl FnMut(Part, Option<f64>, Number<'_>) -> Result<(), DropReason>,
) -> Result<(), DropReason> {
    let values = messages(metric.message, field::value(metric.family.kind));
    match metric.family.kind {
        MetricType::Summary => for_each_of_summary(values, each),
        MetricType::Histogram | MetricType::GaugeHistogram => for_each_of_histogram(values, each),
        _ => {
            let mut value = 0.0;
            for message in values {
                value = double(message?, 1)?.unwrap_or(value);
            }
            each(Part::Value, None, Number::Float(value))
        }
    }
}

fn for_each_of_summary<'a>(
    summaries: impl Iterator<Item = Result<&'a [u8], Malformed>>,
    mut each: impl FnMut(Part, Option<f64>, Number<'_>) -> Result<(), DropReason>,
) -> Result<(), DropReason> {
    let (mut count, mut sum) = (0, 0.0);
    for summary in summaries {
        for field in Fields::of(summary?) {
            let field = field?;
            match (field.number, field.value) {
                (1, Value::Varint(value)) => count = value,
                (2, Value::Fixed64(bits)) => sum = f64::from_bits(bits),
                (3, Value::Bytes(message)) => {
                    let number = |number| double(message, number).map(Option::unwrap_or_default);
                    each(Part::Value, Some(number(1)?), Number::Float(number(2)?))?;
                }
                _ => {}
            }
        }
    }
    each(Part::Sum, None, Number::Float(sum))?;
    each(Part::Count, None, Number::Count(count))
}

fn for_each_of_histogram<'a>(
    histograms: impl Iterator<Item = Result<&'a [u8], Malformed>>,
    mut each: impl FnMut(Part, Option<f64>, Number<'_>) -> Result<(), DropReason>,
) -> Result<(), DropReason> {
    let mut histogram = Histogram::default();
    let mut has_buckets = false;
    let mut has_infinite_bucket = false;
    for message in histograms {
        let message = message?;
        histogram.add(message)?;
        for field in Fields::of(message) {
            let field = field?;
            if let (3, Value::Bytes(bucket)) = (field.number, field.value) {
                let bound = double(bucket, 2)?.unwrap_or_default();
                has_buckets = true;
                has_infinite_bucket |= bound == f64::INFINITY;
                let whole = integer(bucket, 1)?.unwrap_or_default();
                let count = Number::count(whole, double(bucket, 4)?.unwrap_or_default());
                each(Part::Bucket, Some(bound), count)?;
            }
        }
    }
    let count = Number::count(histogram.sample_count, histogram.sample_count_float);
    // As Prometheus does, and for a classic histogram without buckets, too.
    if !has_infinite_bucket && (has_buckets || !histogram.is_native()) {
        each(Part::Bucket, Some(f64::INFINITY), count)?;
    }
    each(Part::Sum, None, Number::Float(histogram.sample_sum))?;
    each(Part::Count, None, count)
}

/// The messages in a field. (One that comes twice is merged, as protobuf has it.)
pub(super) fn messages(message: &[u8], number: u32) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    Fields::of(message).filter_map(move |field| match field {
        Ok(Field { number: own, value: Value::Bytes(bytes) }) => (own == number).then_some(Ok(bytes)),
        Ok(_) => None,
        Err(malformed) => Some(Err(malformed)),
    })
}

/// The double in a field: the last one, if it comes twice.
fn double(message: &[u8], number: u32) -> Result<Option<f64>, Malformed> {
    last(message, number, |value| match value {
        Value::Fixed64(bits) => Some(f64::from_bits(bits)),
        _ => None,
    })
}

/// The integer in a field: the last one, if it comes twice.
fn integer(message: &[u8], number: u32) -> Result<Option<u64>, Malformed> {
    last(message, number, |value| match value {
        Value::Varint(value) => Some(value),
        _ => None,
    })
}

fn last<T>(message: &[u8], number: u32, read: impl Fn(Value<'_>) -> Option<T>) -> Result<Option<T>, Malformed> {
    let mut last = None;
    for field in Fields::of(message) {
        let field = field?;
        if field.number == number {
            last = read(field.value).or(last);
        }
    }
    Ok(last)
}
