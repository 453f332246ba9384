//! Chunks of a delimited body in, families and their metrics out.
//!
//! Each message stands behind its length, a varint. A message that lies within a chunk is lent from it; one that is cut
//! across chunks is put together in a buffer that grows as its bytes arrive, never by what a length claims, as long as there is
//! room for it, and that holds at most [`MAX_FAMILY`] bytes.

use super::check::{Checker, check_text, field as metric_field};
use super::wire::{Fields, Malformed, Value, Varint};
use crate::exposition::bytes::Span;
use crate::exposition::engine::{End, Events, Reader};
use crate::exposition::model::{self, Convention, FamilyMessage, Metric, MetricType, Time};
use crate::exposition::progress::DropReason;
use crate::exposition::room::{Held, Room};

/// The numbers of a family's fields.
pub(super) mod field {
    pub const NAME: u32 = 1;
    pub const HELP: u32 = 2;
    pub const TYPE: u32 = 3;
    pub const METRIC: u32 = 4;
    pub const UNIT: u32 = 5;
}

/// The largest metric family that is read or written, in bytes. A family is held whole, because its length stands before
/// it and because its name may stand behind its metrics; the busiest real ones have some hundred kilobytes, and a sidecar
/// must not be made to hold more than it may use.
pub const MAX_FAMILY: usize = 16 << 20;

/// Room that is kept for the next message, in bytes. Messages of some ten kilobytes are usual; what a larger one took is
/// given back.
const KEPT_CAPACITY: usize = 256 << 10;

/// Reads a body of messages.
#[derive(Debug)]
pub(in super::super) struct MessageReader {
    messages: Messages,
    checker: Checker,
}

impl Reader for MessageReader {
    const CONVENTION: Convention = Convention::Protobuf;

    fn new(room: &Room) -> Self {
        Self { messages: Messages::new(room), checker: Checker::default() }
    }

    fn push(&mut self, chunk: &[u8], to: &mut impl Events) {
        let Self { messages, checker } = self;
        messages.push(chunk, |message| read(message, checker, to));
    }

    fn finish(&mut self, end: End, to: &mut impl Events) {
        let Self { messages, checker } = self;
        messages.finish(end, |message| read(message, checker, to));
    }

    fn is_whole(&self) -> bool {
        self.messages.ended_well()
    }
}

/// Tells what a message says.
fn read(message: Result<&[u8], DropReason>, checker: &mut Checker, to: &mut impl Events) {
    to.advance(1);
    let message = match message {
        Ok(message) => message,
        Err(reason) => return to.unreadable(reason, b""),
    };
    let Ok(family) = read_family(message) else {
        return to.unreadable(DropReason::Malformed, name_in(message));
    };
    if !to.family(&family) {
        return;
    }
    let mut fields = Fields::of(message);
    let mut start = 0;
    while let Some(Ok(field)) = fields.next() {
        let end = message.len() - fields.remaining();
        if let (field::METRIC, Value::Bytes(metric)) = (field.number, field.value)
            && !read_metric(metric, Span::new(start, end), &family, checker, to)
        {
            break;
        }
        start = end;
    }
    to.family_end(&family);
    checker.end_family();
}

/// Tells a metric; says whether another one may follow.
#[inline(always)]
fn read_metric(
    metric: &[u8],
    place: Span,
    family: &FamilyMessage<'_>,
    checker: &mut Checker,
    to: &mut impl Events,
) -> bool {
    if let Err(reason) = checker.check(metric, family.kind) {
        to.unreadable(reason, family.name);
        return true;
    }
    let time = checker.timestamp();
    to.metric(&Metric {
        family,
        message: metric,
        place,
        labels: checker.labels().labels(metric, false),
        time: (time != 0).then_some(Time::Number(time)),
        exemplars: checker.exemplars(),
        is_native: checker.found_native(),
    })
}

/// The numbers of the types (`MetricType`); higher bits than 32 are cut off, as every reader does.
fn type_of(value: u64) -> Option<MetricType> {
    TYPES.into_iter().nth(usize::try_from(value as u32).ok()?)
}

/// The types by their numbers. That of a family that says nothing of it is the first.
const TYPES: [MetricType; 6] = [
    MetricType::Counter,
    MetricType::Gauge,
    MetricType::Summary,
    MetricType::Untyped,
    MetricType::Histogram,
    MetricType::GaugeHistogram,
];

/// The number of a type; the schema has no place for what an information or a state set is: both are gauges.
pub(super) fn number_of(kind: MetricType) -> u64 {
    TYPES.iter().position(|other| *other == kind).unwrap_or(1) as u64
}

/// The type of which a metric has a value. A reader that takes one without a type for a counter sees a 0.
fn kind_of_value(metric: &[u8]) -> MetricType {
    let fields = Fields::of(metric).map_while(Result::ok);
    let mut kinds =
        fields.filter_map(|field| TYPES.into_iter().find(|kind| metric_field::value(*kind) == field.number));
    kinds.next().unwrap_or(TYPES[0])
}

/// Reads what a message says of itself. A field that comes twice counts the last time, as protobuf has it.
fn read_family(message: &[u8]) -> Result<FamilyMessage<'_>, Malformed> {
    let mut family =
        FamilyMessage { message, name: b"", help: None, kind: TYPES[0], unit: b"", metrics: 0, lacks_kind: true };
    let mut kind = Some(family.kind);
    let mut first: &[u8] = b"";
    for field in Fields::of(message) {
        let field = field?;
        match (field.number, field.value) {
            (field::NAME, Value::Bytes(name)) => family.name = check_text(name)?,
            (field::HELP, Value::Bytes(help)) => family.help = Some(check_text(help)?),
            (field::TYPE, Value::Varint(value)) => (kind, family.lacks_kind) = (type_of(value), false),
            (field::METRIC, Value::Bytes(metric)) => {
                if family.metrics == 0 {
                    first = metric;
                }
                family.metrics += 1;
            }
            (field::UNIT, Value::Bytes(unit)) => family.unit = check_text(unit)?,
            (field::NAME..=field::UNIT, _) => return Err(Malformed),
            _ => {}
        }
    }
    family.kind = match family.lacks_kind {
        true => kind_of_value(first),
        false => kind.ok_or(Malformed)?,
    };
    if family.name.is_empty() { Err(Malformed) } else { Ok(family) }
}

/// Whether Prometheus takes this unit for a family of this name: from 2.53 to 3.5 it refuses the scrape if the name does
/// not end in the unit.
pub(super) fn is_unit_of(kind: MetricType, name: &[u8], unit: &[u8]) -> bool {
    let name = match kind {
        MetricType::Counter => name.strip_suffix(b"_total").unwrap_or(name),
        _ => name,
    };
    model::is_unit_of(name, unit)
}

/// The name in a message, as it is there, whatever else there is.
fn name_in(message: &[u8]) -> &[u8] {
    let fields = Fields::of(message).map_while(Result::ok);
    let names = fields.filter_map(|field| match field.value {
        Value::Bytes(name) if field.number == field::NAME => Some(name),
        _ => None,
    });
    names.last().unwrap_or_default()
}

/// Splits a body into messages.
#[derive(Debug)]
struct Messages {
    awaited: Awaited,
    /// The start of a message whose end has not come.
    partial: Vec<u8>,
    held: Held,
    /// The body ended within a message.
    is_cut: bool,
}

/// What the next byte is.
#[derive(Debug)]
enum Awaited {
    /// A part of a message's length.
    Length(Varint),
    /// A part of a message of this many bytes.
    Message(usize),
    /// A part of a message that is too long, of which this many bytes are to come.
    Skipping(u64),
    /// Anything: a length could not be read, and so where the next message begins cannot be known.
    Lost,
}

impl Messages {
    fn new(room: &Room) -> Self {
        Self { awaited: Awaited::Length(Varint::default()), partial: Vec::new(), held: room.hold(), is_cut: false }
    }

    /// Hands each message that is whole with this chunk to `each`, and the reason for each that is lost.
    fn push(&mut self, mut chunk: &[u8], mut each: impl FnMut(Result<&[u8], DropReason>)) {
        // A message of no bytes is whole without another byte, so it is not left for the next chunk.
        while !chunk.is_empty() {
            match &mut self.awaited {
                Awaited::Length(varint) => {
                    let (byte, rest) = (chunk[0], &chunk[1..]);
                    chunk = rest;
                    match varint.push(byte) {
                        Ok(None) => {}
                        Ok(Some(length)) => self.begin(length, &mut each),
                        Err(_) => {
                            self.awaited = Awaited::Lost;
                            each(Err(DropReason::Malformed));
                        }
                    }
                }
                Awaited::Message(length) => {
                    let missing = *length - self.partial.len();
                    let Some((end_of_message, rest)) = chunk.split_at_checked(missing) else {
                        if !self.held.extend(&mut self.partial, chunk) {
                            self.skip(missing - chunk.len(), &mut each);
                        }
                        return;
                    };
                    chunk = rest;
                    if self.partial.is_empty() {
                        each(Ok(end_of_message));
                    } else if self.held.extend(&mut self.partial, end_of_message) {
                        each(Ok(&self.partial));
                    } else {
                        each(Err(DropReason::NoRoom));
                    }
                    self.reset();
                }
                Awaited::Skipping(remaining) => {
                    let skipped = usize::try_from(*remaining).unwrap_or(usize::MAX).min(chunk.len());
                    chunk = &chunk[skipped..];
                    *remaining -= skipped as u64;
                    if *remaining == 0 {
                        self.reset();
                    }
                }
                Awaited::Lost => return,
            }
        }
    }

    /// Ends the body: half a message is dropped. It is a loss to report only if the target says that it was all.
    fn finish(&mut self, end: End, each: impl FnOnce(Result<&[u8], DropReason>)) {
        let is_between_messages = match &self.awaited {
            Awaited::Length(varint) => varint.is_empty(),
            Awaited::Message(_) => false,
            // Already reported.
            Awaited::Skipping(_) | Awaited::Lost => true,
        };
        self.is_cut = !is_between_messages || matches!(self.awaited, Awaited::Skipping(_));
        self.reset();
        if !is_between_messages {
            each(Err(if end == End::Whole { DropReason::Malformed } else { DropReason::CutOff }));
        }
    }

    /// Whether the body, which is over, ended between two messages.
    fn ended_well(&self) -> bool {
        !self.is_cut
    }

    /// Gives up on a message that there is no room for, of which so many bytes are to come.
    fn skip(&mut self, remaining: usize, each: &mut impl FnMut(Result<&[u8], DropReason>)) {
        self.held.clear(&mut self.partial, KEPT_CAPACITY);
        self.awaited = Awaited::Skipping(remaining as u64);
        each(Err(DropReason::NoRoom));
    }

    fn begin(&mut self, length: u64, each: &mut impl FnMut(Result<&[u8], DropReason>)) {
        match usize::try_from(length) {
            Ok(0) => {
                self.reset();
                each(Ok(&[]));
            }
            Ok(length @ ..=MAX_FAMILY) => self.awaited = Awaited::Message(length),
            _ => {
                self.awaited = Awaited::Skipping(length);
                each(Err(DropReason::TooLong));
            }
        }
    }

    fn reset(&mut self) {
        self.awaited = Awaited::Length(Varint::default());
        self.held.clear(&mut self.partial, KEPT_CAPACITY);
    }
}
