//! The parts of a metric as its message has them: values, buckets, quantiles, exemplars, times.
//!
//! In: numbers. Out: fields, appended to a buffer.

use super::wire::{MAX_VARINT, put_bytes_field, put_bytes_head, put_double_field, put_varint_field, varint_len};

/// The fields of a metric's parts (`io/prometheus/client/metrics.proto`).
mod field {
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
    pub(super) const EXEMPLAR_VALUE: u32 = 2;
    pub(super) const EXEMPLAR_TIMESTAMP: u32 = 3;
    pub(super) const SECONDS: u32 = 1;
    pub(super) const NANOS: u32 = 2;
}

/// The field of an exemplar that has a label.
pub(super) const EXEMPLAR_LABEL: u32 = 1;

/// The bytes of a double with its field's number.
const DOUBLE_FIELD: usize = 1 + size_of::<f64>();

/// The bytes that a bucket without an exemplar takes at most: its count, as a varint or a double, and its bound.
const BUCKET: usize = 1 + MAX_VARINT + DOUBLE_FIELD;

/// The bytes that a timestamp takes at most.
const TIMESTAMP: usize = 2 * (1 + MAX_VARINT);

/// The fields of a label.
const LABEL_NAME: u32 = 1;
const LABEL_VALUE: u32 = 2;

/// Appends a label pair to a message that has such in this field.
pub(super) fn put_label(field: u32, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let length_of = |bytes: &[u8]| 1 + varint_len(bytes.len() as u64) + bytes.len();
    put_bytes_head(field, length_of(name) + length_of(value), out);
    put_bytes_field(LABEL_NAME, name, out);
    put_bytes_field(LABEL_VALUE, value, out);
}

/// The value of a metric that has but one.
pub(super) fn put_simple(value_field: u32, value: f64, out: &mut Vec<u8>) {
    put_bytes_head(value_field, DOUBLE_FIELD, out);
    put_double_field(field::SIMPLE_VALUE, value, out);
}

/// A `Counter`.
pub(super) fn put_counter(value: f64, exemplar: &[u8], created: Option<f64>, out: &mut Vec<u8>) {
    put_double_field(field::SIMPLE_VALUE, value, out);
    if !exemplar.is_empty() {
        put_bytes_field(field::COUNTER_EXEMPLAR, exemplar, out);
    }
    put_time(field::COUNTER_CREATED, created, out);
}

/// The fields of a `Summary` but for its quantiles. It has no place for a count that is no whole number: that one is
/// cut off.
pub(super) fn put_summary(count: Option<f64>, sum: Option<f64>, created: Option<f64>, out: &mut Vec<u8>) {
    if let Some(count) = count {
        put_varint_field(field::SAMPLE_COUNT, count as u64, out);
    }
    if let Some(sum) = sum {
        put_double_field(field::SAMPLE_SUM, sum, out);
    }
    put_time(field::SUMMARY_CREATED, created, out);
}

/// A quantile of a `Summary`.
pub(super) fn put_quantile(quantile: f64, value: f64, out: &mut Vec<u8>) {
    put_bytes_head(field::POINT, 2 * DOUBLE_FIELD, out);
    put_double_field(field::QUANTILE, quantile, out);
    put_double_field(field::QUANTILE_VALUE, value, out);
}

/// The fields of a `Histogram` but for its buckets.
pub(super) fn put_histogram(count: Option<f64>, sum: Option<f64>, created: Option<f64>, out: &mut Vec<u8>) {
    if let Some(count) = count {
        put_count(field::SAMPLE_COUNT, field::SAMPLE_COUNT_FLOAT, count, out);
    }
    if let Some(sum) = sum {
        put_double_field(field::SAMPLE_SUM, sum, out);
    }
    put_time(field::HISTOGRAM_CREATED, created, out);
}

/// A bucket of a `Histogram`.
pub(super) fn put_bucket(bound: f64, count: f64, exemplar: &[u8], out: &mut Vec<u8>) {
    let mut bucket = Vec::with_capacity(BUCKET);
    put_count(field::CUMULATIVE_COUNT, field::CUMULATIVE_COUNT_FLOAT, count, &mut bucket);
    put_double_field(field::UPPER_BOUND, bound, &mut bucket);
    if !exemplar.is_empty() {
        put_bytes_field(field::BUCKET_EXEMPLAR, exemplar, &mut bucket);
    }
    put_bytes_field(field::POINT, &bucket, out);
}

/// The fields of an `Exemplar` but for its labels.
pub(super) fn put_exemplar(value: f64, timestamp: Option<f64>, out: &mut Vec<u8>) {
    put_double_field(field::EXEMPLAR_VALUE, value, out);
    put_time(field::EXEMPLAR_TIMESTAMP, timestamp, out);
}

/// A count. Where it is no whole number, its whole part stands beside it: that is what old readers know, up to Prometheus
/// 2.42, and newer ones pass over.
fn put_count(whole: u32, float: u32, count: f64, out: &mut Vec<u8>) {
    put_varint_field(whole, count as u64, out);
    // Rounded to a double, the largest `u64` is the first number that none holds.
    if count.fract() != 0.0 || count >= u64::MAX as f64 {
        put_double_field(float, count, out);
    }
}

/// Whether this time, in seconds since 1970, is one that a `google.protobuf.Timestamp` may hold: in the years 1 to 9999.
pub(super) fn is_time(seconds: f64) -> bool {
    const LARGEST: f64 = 253_402_300_799.0;
    const SMALLEST: f64 = -62_135_596_800.0;
    (SMALLEST..=LARGEST).contains(&seconds)
}

/// A time in seconds since 1970, if there is one that has a place. It is rounded to microseconds: a double holds no more
/// of a time of today, and without that `.123` would be `.122999907`, to Prometheus a millisecond less.
fn put_time(field: u32, seconds: Option<f64>, out: &mut Vec<u8>) {
    const MICROS: i64 = 1_000_000;
    let Some(seconds) = seconds.filter(|seconds| is_time(*seconds)) else {
        return;
    };
    let micros = (seconds * MICROS as f64).round() as i64;
    let mut timestamp = Vec::with_capacity(TIMESTAMP);
    put_varint_field(field::SECONDS, micros.div_euclid(MICROS) as u64, &mut timestamp);
    put_varint_field(field::NANOS, (micros.rem_euclid(MICROS) * 1000) as u64, &mut timestamp);
    put_bytes_field(field, &timestamp, out);
}
