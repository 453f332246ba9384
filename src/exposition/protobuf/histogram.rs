//! Histograms: are they such that Prometheus ingests them?
//!
//! In: the fields of `Histogram` messages. Out: a verdict, and the few numbers that it takes anyway. A native histogram
//! that Prometheus refuses breaks off the whole scrape, so this is as strict as the strictest of its releases: what
//! `ValidateHistogram` in `tsdb/head_append.go` of 2.42 wants, what `Validate` in `model/histogram` has wanted since,
//! and that nothing makes `compactBuckets` of either panic or overflow. Spans are summed up, never walked: one that
//! claims a billion buckets costs nothing.

use super::check::{BUCKET, EXEMPLAR, TIMESTAMP, check};
use super::points::messages;
use super::wire::{Fields, MAX_VARINT, Malformed, Value, read_varint, unzigzag32, unzigzag64};

/// The resolutions that all releases know (`ExponentialSchemaMin` and `ExponentialSchemaMax` in `model/histogram`).
const SCHEMAS: std::ops::RangeInclusive<i32> = -4..=8;

/// What matters of a histogram, its fields added one by one.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    pub sample_count: u64,
    pub sample_count_float: f64,
    pub sample_sum: f64,
    schema: i32,
    zero_threshold: f64,
    zero_count: u64,
    zero_count_float: f64,
    negative: Side,
    positive: Side,
    pub exemplars: u64,
}

/// The native buckets for negative or for positive observations.
#[derive(Debug, Default)]
struct Side {
    spans: u64,
    /// The number of buckets that the spans claim.
    buckets: u64,
    /// From the first bucket to the end of the last, with the gaps.
    extent: u64,
    /// Where the first span starts.
    start: i32,
    /// A gap between spans is negative.
    has_bad_gap: bool,
    deltas: Deltas,
    floats: Floats,
}

/// The counts of buckets, each told by its difference from the one before.
#[derive(Debug, Clone, Copy, Default)]
struct Deltas {
    number: u64,
    /// The count of the bucket before. It overflows as it does in Prometheus, which then finds it negative.
    last: i64,
    /// All counts or'ed together: negative if one of them is.
    signs: i64,
    sum: i128,
}

/// The counts of buckets as floats.
#[derive(Debug, Clone, Copy, Default)]
struct Floats {
    number: u64,
    sum: f64,
    has_negative: bool,
}

impl Histogram {
    /// Adds the fields of a message. (A field that comes twice is merged, as protobuf has it.)
    pub(super) fn add(&mut self, message: &[u8]) -> Result<(), Malformed> {
        for field in Fields::of(message) {
            let field = field?;
            match (field.number, field.value) {
                (1, Value::Varint(count)) => self.sample_count = count,
                (2, Value::Fixed64(bits)) => self.sample_sum = f64::from_bits(bits),
                (3, Value::Bytes(bucket)) if is_plain_bucket(bucket) => {}
                (3, Value::Bytes(bucket)) => {
                    check(bucket, BUCKET)?;
                    self.exemplars += messages(bucket, 3).count() as u64;
                }
                (4, Value::Fixed64(bits)) => self.sample_count_float = f64::from_bits(bits),
                (5, Value::Varint(schema)) => self.schema = unzigzag32(schema),
                (6, Value::Fixed64(bits)) => self.zero_threshold = f64::from_bits(bits),
                (7, Value::Varint(count)) => self.zero_count = count,
                (8, Value::Fixed64(bits)) => self.zero_count_float = f64::from_bits(bits),
                (9, Value::Bytes(span)) => self.negative.span(span)?,
                (10, value) => self.negative.deltas(value)?,
                (11, value) => self.negative.floats(value)?,
                (12, Value::Bytes(span)) => self.positive.span(span)?,
                (13, value) => self.positive.deltas(value)?,
                (14, value) => self.positive.floats(value)?,
                (15, Value::Bytes(timestamp)) => check(timestamp, TIMESTAMP)?,
                (16, Value::Bytes(exemplar)) => {
                    check(exemplar, EXEMPLAR)?;
                    self.exemplars += 1;
                }
                (1..=16, _) => return Err(Malformed),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether some release takes it for a native one (`isNativeHistogram` in `model/textparse/protobufparse.go`): 2.42
    /// asks for buckets, later ones for spans.
    pub(super) fn is_native(&self) -> bool {
        self.zero_threshold > 0.0
            || self.zero_count > 0
            || [&self.negative, &self.positive].iter().any(|side| side.spans > 0 || side.deltas.number > 0)
    }

    /// Whether Prometheus ingests it when it takes it for a native one.
    pub(super) fn is_valid_native(&self) -> bool {
        let Self { negative, positive, .. } = self;
        if !SCHEMAS.contains(&self.schema) || !negative.has_valid_spans() || !positive.has_valid_spans() {
            return false;
        }
        if self.sample_count_float > 0.0 || self.zero_count_float > 0.0 {
            self.has_valid_floats()
        } else {
            self.has_valid_integers()
        }
    }

    fn has_valid_integers(&self) -> bool {
        let (negative, positive) = (&self.negative.deltas, &self.positive.deltas);
        let in_buckets = negative.sum + positive.sum + i128::from(self.zero_count);
        let all = i128::from(self.sample_count);
        negative.number == self.negative.buckets
            && positive.number == self.positive.buckets
            && negative.signs | positive.signs >= 0
            // Observations that are NaN are in no bucket.
            && (in_buckets == all || (self.sample_sum.is_nan() && in_buckets < all))
    }

    fn has_valid_floats(&self) -> bool {
        let (negative, positive) = (&self.negative.floats, &self.positive.floats);
        let in_buckets = negative.sum + positive.sum;
        let is_too_many = in_buckets > self.sample_count_float;
        negative.number == self.negative.buckets
            && positive.number == self.positive.buckets
            && !(negative.has_negative || positive.has_negative)
            && !is_too_many
            && !(self.sample_count_float < 0.0 || self.zero_count_float < 0.0)
    }
}

/// Whether a classic bucket is written as nearly all are: a count, a bound and nothing else.
#[inline(always)]
fn is_plain_bucket(bucket: &[u8]) -> bool {
    /// The keys of the count and the bound: their numbers, and that a varint or eight bytes follow.
    const COUNT_KEY: u8 = 1 << 3;
    const BOUND_KEY: u8 = 2 << 3 | 1;
    /// One less than a varint may have, so that the last one's bits need no look.
    const MAX_COUNT: usize = MAX_VARINT - 1;

    match bucket {
        [COUNT_KEY, high @ .., ..0x80, BOUND_KEY, _, _, _, _, _, _, _, _] => {
            high.len() < MAX_COUNT && high.iter().all(|byte| *byte >= 0x80)
        }
        _ => false,
    }
}

impl Side {
    fn span(&mut self, message: &[u8]) -> Result<(), Malformed> {
        let (mut offset, mut length) = (0, 0);
        for field in Fields::of(message) {
            let field = field?;
            match (field.number, field.value) {
                (1, Value::Varint(value)) => offset = unzigzag32(value),
                // Cut off to 32 bits, as every reader does.
                (2, Value::Varint(value)) => length = value as u32,
                (1 | 2, _) => return Err(Malformed),
                _ => {}
            }
        }
        if self.spans == 0 {
            self.start = offset;
        } else {
            self.has_bad_gap |= offset < 0;
            self.extent = self.extent.saturating_add(u64::from(offset.unsigned_abs()));
        }
        self.spans += 1;
        self.buckets = self.buckets.saturating_add(u64::from(length));
        self.extent = self.extent.saturating_add(u64::from(length));
        Ok(())
    }

    /// Whether gaps are valid, and all buckets lie where Prometheus can number them: in 32 bits, from 0 on and from the
    /// first on. It adds gaps up when it leaves empty buckets out, without a look at what overflows.
    fn has_valid_spans(&self) -> bool {
        let end = i64::try_from(self.extent).map(|extent| extent.saturating_add(i64::from(self.start)));
        !self.has_bad_gap && i32::try_from(self.extent).is_ok() && end.is_ok_and(|end| end <= i64::from(i32::MAX))
    }

    fn deltas(&mut self, value: Value<'_>) -> Result<(), Malformed> {
        // Worked on in registers: there can be many.
        let mut deltas = self.deltas;
        match value {
            Value::Varint(delta) => deltas.add(unzigzag64(delta)),
            Value::Bytes(mut packed) => {
                while !packed.is_empty() {
                    deltas.add(unzigzag64(read_varint(&mut packed)?));
                }
            }
            Value::Fixed64(_) | Value::Fixed32(_) => return Err(Malformed),
        }
        self.deltas = deltas;
        Ok(())
    }

    fn floats(&mut self, value: Value<'_>) -> Result<(), Malformed> {
        match value {
            Value::Fixed64(bits) => self.floats.add(f64::from_bits(bits)),
            Value::Bytes(packed) => {
                let (counts, rest) = packed.as_chunks();
                if !rest.is_empty() {
                    return Err(Malformed);
                }
                for count in counts {
                    self.floats.add(f64::from_le_bytes(*count));
                }
            }
            Value::Varint(_) | Value::Fixed32(_) => return Err(Malformed),
        }
        Ok(())
    }
}

impl Deltas {
    #[inline(always)]
    fn add(&mut self, delta: i64) {
        self.number += 1;
        self.last = self.last.wrapping_add(delta);
        self.signs |= self.last;
        self.sum += i128::from(self.last);
    }
}

impl Floats {
    fn add(&mut self, count: f64) {
        self.number += 1;
        self.sum += count;
        // A NaN is not negative, and Prometheus has nothing against it.
        self.has_negative |= count < 0.0;
    }
}
