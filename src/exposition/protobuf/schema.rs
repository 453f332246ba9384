//! What a message of `io.prometheus.client` must be for every reader to decode it.
//!
//! In: the bytes of a message and what is known of its type (client_model's `metrics.proto`). Out: a verdict. A known
//! field must have the wire type that its type has, and a string must be UTF-8: readers refuse the whole message
//! otherwise, and with it the scrape. Unknown fields are stepped over: some future version adds them.
//!
//! Types whose values matter, too, have rooms of their own: families, metrics, labels and histograms.

use super::wire::{Fields, Malformed, Value};

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
pub(super) const GAUGE: &Schema = &[Some(Double)];
pub(super) const COUNTER: &Schema = &[Some(Double), Some(Message(EXEMPLAR)), Some(Message(TIMESTAMP))];
pub(super) const UNTYPED: &Schema = &[Some(Double)];
pub(super) const QUANTILE: &Schema = &[Some(Double), Some(Double)];
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
            (Text, Value::Bytes(text)) => check_text(text)?,
            (Message(schema), Value::Bytes(message)) => check(message, schema)?,
            _ => return Err(Malformed),
        }
    }
    Ok(())
}

/// Checks that a string is UTF-8.
#[inline(always)]
pub(super) fn check_text(text: &[u8]) -> Result<(), Malformed> {
    if text.is_ascii() || std::str::from_utf8(text).is_ok() {
        Ok(())
    } else {
        Err(Malformed)
    }
}
