//! A protobuf body whose every metric is checked and gets labels.
//!
//! In: chunks of a delimited protobuf body, cut anywhere. Out: messages that Prometheus reads, whatever came in. Labels
//! are appended inside each metric; all else goes as its bytes came, with what is unknown here, or it is dropped and
//! counted. Only lengths, names and the type of an untyped family are ever written anew.
//!
//! Each message carries its own metadata, so nothing has to be known of the families before it; what is noted of them is
//! only for whoever wants to hear that two targets disagree.

use std::sync::Arc;

use super::body::{MessageEngine, Writer};
use super::family::{self, Family, Kind};
use super::messages::MAX_FAMILY;
use super::metric::{self, Checker};
use super::schema::{COUNTER, GAUGE, check};
use super::wire::{Field, Fields, Malformed, Pending, Value, put_bytes_field, put_bytes_head, put_varint_field};
use crate::exposition::counts::DropReason;
use crate::exposition::families::Families;
use crate::exposition::format::Escaping;
use crate::exposition::labels::LabelSet;
use crate::exposition::names::{escape_metric_name, is_old_metric_name};
use crate::exposition::rules::Rules;
use crate::exposition::tally::Tally;
use crate::exposition::untyped::{Fate, Untyped};

/// Checks a protobuf body message by message, adds labels to its metrics and sanitizes its untyped families.
///
/// A sample is one metric here: a histogram or a summary counts once.
pub type Splice = MessageEngine<SpliceWriter>;

/// What Splice writes of a family.
#[derive(Debug)]
pub struct SpliceWriter {
    labels: Arc<LabelSet>,
    untyped: Untyped,
    names: Escaping,
    checker: Checker,
    scratch: Scratch,
    tally: Tally,
}

/// A metric that is written anew, and one of its labels.
#[derive(Debug, Default)]
struct Scratch {
    metric: Vec<u8>,
    label: Vec<u8>,
}

/// Room that is kept for the next metric that is written anew, in bytes.
const KEPT_SCRATCH: usize = 64 << 10;

/// What changes about a family's own fields.
#[derive(Debug, Clone, Copy)]
struct Changes<'a> {
    /// The escaped name.
    name: Option<&'a [u8]>,
    /// The type that an untyped family gets.
    kind: Option<Kind>,
    drops_unit: bool,
}

impl Writer for SpliceWriter {
    fn new(rules: &Rules, names: Escaping) -> Self {
        Self {
            labels: Arc::clone(&rules.labels),
            untyped: rules.untyped,
            names,
            checker: Checker::new(names),
            scratch: Scratch::default(),
            tally: Tally::new(rules.sample_limit),
        }
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }

    fn tally_mut(&mut self) -> &mut Tally {
        &mut self.tally
    }

    fn family(&mut self, message: &[u8], family: Family<'_>, families: &mut Families, out: &mut Vec<u8>) {
        let own_name = family.name.as_bytes();
        let is_escaped = self.names == Escaping::Underscores && !is_old_metric_name(family.name.as_bytes());
        let mut escaped = Vec::new();
        if is_escaped {
            escape_metric_name(family.name, &mut escaped);
        }
        let escaped = is_escaped.then_some(escaped.as_slice());
        let name = escaped.unwrap_or(family.name.as_bytes());
        let fate = match family.kind {
            Kind::Untyped => self.untyped.fate(name),
            _ => Fate::Pass,
        };
        let becomes = match fate {
            Fate::Pass => None,
            Fate::Becomes(kind) => Some(Kind::of(Some(kind))),
            Fate::Drop => return self.tally.drop_lines(DropReason::Untyped, family.metrics, own_name),
        };
        let changes = Changes {
            name: escaped,
            kind: becomes,
            drops_unit: !family.has_valid_unit(name),
        };
        if self.write_family(message, family, changes, out) {
            let kind = becomes.unwrap_or(family.kind).of_lines();
            families.settle_type(name, kind, becomes.is_none(), Kind::word);
        }
    }
}

impl SpliceWriter {
    /// Writes a family, if there is anything to write of it: returns whether there was.
    fn write_family(&mut self, message: &[u8], family: Family<'_>, changes: Changes<'_>, out: &mut Vec<u8>) -> bool {
        let guess = message.len() + family.metrics as usize * (self.labels.protobuf().len() + 1);
        let pending = Pending::begin(guess, out);
        let samples = self.tally.counts().samples;
        self.checker.begin_family();
        if changes.drops_unit {
            self.tally.drop_line(DropReason::Malformed, family.name.as_bytes());
        }
        // Fields that stay as they are are copied in runs.
        let mut copied = 0;
        let mut fields = Fields::of(message);
        let mut start = 0;
        while let Some(Ok(field)) = fields.next() {
            let end = message.len() - fields.remaining();
            let stays = match (field.number, field.value) {
                (family::field::METRIC, Value::Bytes(_)) => false,
                (family::field::NAME, _) => changes.name.is_none(),
                (family::field::TYPE, _) => changes.kind.is_none(),
                (family::field::UNIT, _) => !changes.drops_unit,
                _ => true,
            };
            if !stays {
                out.extend_from_slice(&message[copied..start]);
                copied = end;
                let room = MAX_FAMILY.saturating_sub(pending.length(out));
                self.write_changed(field, family, changes, room, out);
            }
            start = end;
        }
        out.extend_from_slice(&message[copied..]);
        // Where none of its metrics is left: a family without any is nothing to a reader.
        let is_left = family.metrics == 0 || self.tally.counts().samples > samples;
        if is_left {
            pending.end(out);
        } else {
            pending.cancel(out);
        }
        is_left
    }

    /// Writes a field of a family that does not stay as it is; a metric, if there is room for it.
    fn write_changed(
        &mut self,
        field: Field<'_>,
        family: Family<'_>,
        changes: Changes<'_>,
        room: usize,
        out: &mut Vec<u8>,
    ) {
        match field.value {
            Value::Bytes(_) if field.number == family::field::METRIC && self.tally.is_over_limit() => {}
            Value::Bytes(metric) if field.number == family::field::METRIC => {
                let start = out.len();
                let written = self.metric(metric, family.kind, changes.kind, out);
                let written = match written {
                    Ok(()) if out.len() - start > room => Err(DropReason::TooLong),
                    written => written,
                };
                match written {
                    Ok(()) if self.tally.has_room_for(1) => self.tally.add(1),
                    Ok(()) => {
                        out.truncate(start);
                        self.tally.exceed_limit();
                    }
                    Err(reason) => {
                        out.truncate(start);
                        self.tally.drop_line(reason, family.name.as_bytes());
                    }
                }
            }
            Value::Bytes(_) if field.number == family::field::NAME => {
                put_bytes_field(family::field::NAME, changes.name.unwrap_or_default(), out);
            }
            Value::Varint(_) => put_varint_field(family::field::TYPE, changes.kind.unwrap_or(family.kind) as u64, out),
            // The unit.
            _ => {}
        }
    }

    fn metric(
        &mut self,
        metric: &[u8],
        kind: Kind,
        becomes: Option<Kind>,
        out: &mut Vec<u8>,
    ) -> Result<(), DropReason> {
        let renames = self.checker.check(metric, kind, &self.labels)?;
        let added = self.labels.protobuf();
        let mut own = metric;
        if renames || becomes.is_some() {
            self.scratch.rewrite(metric, &self.checker, becomes)?;
            own = &self.scratch.metric;
        }
        put_bytes_head(family::field::METRIC, own.len() + added.len(), out);
        out.extend_from_slice(own);
        out.extend_from_slice(added);
        Ok(())
    }
}

impl Scratch {
    /// Writes a metric anew: its labels by the names that they were given, its untyped value as one of another type.
    fn rewrite(&mut self, metric: &[u8], checker: &Checker, becomes: Option<Kind>) -> Result<(), Malformed> {
        let Self { metric: out, label } = self;
        out.clear();
        out.shrink_to(KEPT_SCRATCH);
        let mut labels = checker.labels().iter(metric);
        let mut fields = Fields::of(metric);
        let mut start = 0;
        while let Some(field) = fields.next() {
            let field = field?;
            let end = metric.len() - fields.remaining();
            match (field.number, field.value, becomes) {
                (metric::field::LABEL, Value::Bytes(pair), _) => {
                    let (name, _) = labels.next().ok_or(Malformed)?;
                    rename(pair, name, label)?;
                    put_bytes_field(metric::field::LABEL, label, out);
                }
                (metric::field::UNTYPED, Value::Bytes(value), Some(kind)) => {
                    // What is unknown in an untyped value may be known in another.
                    check(value, if kind == Kind::Counter { COUNTER } else { GAUGE })?;
                    put_bytes_field(kind.value_field(), value, out);
                }
                // What was not the value before must not become a part of it.
                (number, _, Some(kind)) if number == kind.value_field() => {}
                _ => out.extend_from_slice(&metric[start..end]),
            }
            start = end;
        }
        Ok(())
    }
}

/// Writes a `LabelPair` with another name.
fn rename(pair: &[u8], name: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    out.clear();
    out.shrink_to(KEPT_SCRATCH);
    put_bytes_field(1, name, out);
    let mut fields = Fields::of(pair);
    let mut start = 0;
    while let Some(field) = fields.next() {
        let end = pair.len() - fields.remaining();
        if field?.number != 1 {
            out.extend_from_slice(&pair[start..end]);
        }
        start = end;
    }
    Ok(())
}

impl From<Malformed> for DropReason {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}
