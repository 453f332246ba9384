//! Messages: metrics that came in one, and samples of lines put together to some.
//!
//! **Metrics of a message** get labels appended; all else goes as its bytes came, with what is unknown here. Only lengths, names
//! and the type of an untyped family are ever written anew, and a unit that readers refuse is left out.
//!
//! **Samples of lines** become one `io.prometheus.client.MetricFamily` for each run of a family's samples: see
//! [`Assembly`](super::assemble::Assembly). Prometheus makes the same series of them as of the lines, but for what protobuf, or its
//! reader of that, has no place for:
//!
//! * The numbers in `le` and `quantile` are spelt as Prometheus spells them. A line whose number is none is dropped as malformed.
//! * A line of a histogram or a summary that is a part of none goes out as an untyped family by its own name: a quantile of a
//!   histogram, a bucket without `le`, a sum with it, a summary's value without `quantile`.
//! * A `_count`, a `_sum` and an infinite bucket that are left out are 0, but for a histogram's `_count`, which is its last
//!   bucket's. A count that is negative or NaN is dropped as malformed; a summary's is cut off at a whole number.
//! * A gauge histogram goes out as untyped families of its parts, because readers of a message do not call them `_gsum` and
//!   `_gcount`; states and information become gauges.
//! * `_created` is a field. It is dropped as malformed if it is no time in the years 1 to 9999, or if nothing else has its
//!   labels.
//! * Of two lines of a histogram, a summary or a counter of OpenMetrics for one value at one time, the second is dropped as
//!   malformed. Prometheus takes none but the first either.
//! * An exemplar is lost and counted anywhere but at a counter of OpenMetrics and at a bucket; its time is, if it is not in
//!   the years 1 to 9999.
//! * A sample at the timestamp 0, which is none to Prometheus, is dropped as malformed.
//! * A family whose lines do not stand together becomes several messages, each with the help text, of which the first has the unit;
//!   a histogram or a summary is in each of them with what that one has of it.

use std::borrow::Cow;
use std::collections::HashMap;

use super::assemble::{Assembly, Place};
use super::check::{COUNTER, SIMPLE, check, field as metric_field};
use super::encode::{EXEMPLAR_LABEL, is_time, put_exemplar, put_label, put_simple};
use super::points::for_each_point;
use super::read::{MAX_FAMILY, field, is_unit_of, number_of};
use super::torn::{TornMetrics, are_torn};
use super::wire::{Field, Fields, Malformed, Pending, Value, put_bytes_field, put_bytes_head, put_varint_field};
use crate::exposition::engine::{ExemplarFate, Facts, Lost, Slot, Told, Writer, Written};
use crate::exposition::families::{ENTRY_COST, Families};
use crate::exposition::format::{Escaping, Spelling};
use crate::exposition::labels::{Labels, Names, Resolver};
use crate::exposition::lines::is_bound;
use crate::exposition::model::{
    Convention, Exemplar, Fact, Family, FamilyMessage, Metric, MetricType, Number, Part, Sample, Time,
};
use crate::exposition::progress::DropReason;
use crate::exposition::room::{Held, Room};
use crate::exposition::rules::Rules;

/// Writes messages.
#[derive(Debug)]
pub(in super::super) struct MessageWriter {
    resolver: Resolver,
    /// The labels that are added, as they stand in a metric.
    added: Vec<u8>,
    /// The family that is put together of samples, and what these are read from.
    family: Assembly,
    /// The one within whose parts that stands: they are to be in one message.
    outer: Option<Assembly>,
    room: Room,
    from: Convention,
    /// What of the message at hand is taken apart.
    torn_held: Held,
    /// The help texts of the families of this body, as far as there is room: each message of one has it.
    helps: HashMap<Vec<u8>, Vec<u8>>,
    helps_bytes: usize,
    held: Held,
    /// What was lost since it was last told.
    lost: Lost,
    /// What is written of the message at hand.
    message: MessageCopy,
    /// The labels of the sample at hand and its timestamp, encoded; or a metric that is written anew.
    series: Vec<u8>,
    /// The exemplar of the sample at hand, encoded; or a label that is written anew.
    exemplar: Vec<u8>,
    scratch: Vec<u8>,
}

/// What is written of a message.
#[derive(Debug, Default)]
struct MessageCopy {
    /// Where its length goes.
    length: Option<Pending>,
    /// Its bytes that are written or left out by now.
    copied: usize,
    /// Another name than it came with.
    name: Option<Vec<u8>>,
    /// The type that an untyped one gets.
    kind: Option<MetricType>,
    drops_unit: bool,
    /// Its metrics that are taken apart, and how many.
    torn: TornMetrics,
    torn_metrics: u64,
    /// The last metric is one of them.
    is_last_torn: bool,
    /// It has others.
    has_metrics: bool,
}

/// Room that is kept for the next sample or metric, in bytes. What a larger one took is given back at once: the next may be long
/// in coming.
const KEPT_SCRATCH: usize = 64 << 10;

impl Writer for MessageWriter {
    const CONVENTION: Convention = Convention::Protobuf;
    const WRITES_WHOLE_FAMILIES: bool = true;
    type Late = Self;

    fn new(rules: &Rules, Spelling { escaping, .. }: Spelling, _: bool) -> Self {
        let mut added = Vec::new();
        for (name, value) in rules.labels.iter() {
            put_label(metric_field::LABEL, name.as_bytes(), value.as_bytes(), &mut added);
        }
        Self {
            resolver: Resolver::new(rules.labels.clone(), escaping),
            added,
            family: Assembly::new(&rules.room),
            outer: None,
            room: rules.room.clone(),
            from: Convention::Text,
            torn_held: rules.room.hold(),
            helps: HashMap::new(),
            helps_bytes: 0,
            held: rules.room.hold(),
            lost: Lost::default(),
            message: MessageCopy::default(),
            series: Vec::new(),
            exemplar: Vec::new(),
            scratch: Vec::new(),
        }
    }

    fn escaping(&self) -> Escaping {
        self.resolver.escaping()
    }

    fn family(&mut self, told: &Told<'_>, families: &mut Families, out: &mut Vec<u8>) -> Result<Slot, DropReason> {
        let known = families.entry(told.key)?;
        known.has_samples |= told.has_samples;
        known.has_type |= told.has_samples;
        let kind = told.family.kind.unwrap_or(MetricType::Untyped);
        let is_at_hand = self.family.is(told.key, kind);
        if told.has_samples && !is_at_hand {
            self.turn_to(told.key, kind, out);
        }
        self.from = told.from;
        self.remember_help(told);
        if told.has_samples || is_at_hand {
            self.describe(told.facts);
        }
        if told.has_samples
            && !self.family.has_help()
            && let Some(help) = self.helps.get(told.key)
        {
            self.family.add_help(help);
        }
        Ok(Slot::of(&told.family, Self::CONVENTION))
    }

    fn sample(&mut self, sample: &Sample<'_>, slot: Slot, _: &mut Vec<u8>) -> Result<Written, DropReason> {
        let written = self.add(sample, slot);
        self.give_back();
        written
    }

    fn message(
        &mut self,
        message: &FamilyMessage<'_>,
        told: &Told<'_>,
        families: &mut Families,
        out: &mut Vec<u8>,
    ) -> Result<bool, DropReason> {
        // Each message carries its own metadata, so nothing has to be known of the families before it; what is noted of
        // them is only for whoever wants to hear that two targets disagree.
        if let Ok(known) = families.entry(told.key) {
            known.has_type = true;
        }
        let drops_unit = !is_unit_of(message.kind, told.key, message.unit);
        let guess = message.message.len() + message.metrics as usize * (self.added.len() + 1);
        self.message = MessageCopy {
            length: Some(Pending::begin(guess, out)),
            copied: 0,
            name: (told.key != message.name).then(|| told.key.to_vec()),
            kind: told.family.kind.filter(|kind| *kind != message.kind),
            drops_unit,
            ..MessageCopy::default()
        };
        if message.lacks_kind {
            put_varint_field(field::TYPE, number_of(told.family.kind.unwrap_or(message.kind)), out);
        }
        Ok(drops_unit)
    }

    fn before_metric(&mut self, metric: &Metric<'_>, out: &mut Vec<u8>) {
        let message = &mut self.message;
        let (start, end) = (metric.place.range().start, metric.place.end());
        message.put_own(&metric.family.message[message.copied..start], out);
        message.copied = end;
    }

    fn metric(&mut self, metric: &Metric<'_>, out: &mut Vec<u8>) -> Result<u64, DropReason> {
        let length = self.message.length.as_ref().map_or(0, |pending| pending.length(out));
        let start = out.len();
        let names = self.resolver.resolve(&metric.labels);
        self.message.is_last_torn = is_torn(metric);
        if self.message.is_last_torn {
            let torn = self.tear(metric, names);
            self.give_back();
            return torn;
        }
        let mut own = metric.message;
        if names == Names::Given || self.message.kind.is_some() {
            if let Err(malformed) = self.rewrite(metric, names) {
                self.give_back();
                return Err(malformed.into());
            }
            own = &self.series;
        }
        put_bytes_head(field::METRIC, own.len() + self.added.len(), out);
        out.extend_from_slice(own);
        out.extend_from_slice(&self.added);
        self.give_back();
        if length + out.len() - start > MAX_FAMILY {
            return Err(DropReason::TooLong);
        }
        self.message.has_metrics = true;
        Ok(1)
    }

    fn take_back_metric(&mut self) {
        if std::mem::take(&mut self.message.is_last_torn) {
            self.message.torn.take_back();
            self.message.torn_metrics -= 1;
        }
    }

    fn message_end(&mut self, message: &FamilyMessage<'_>, out: &mut Vec<u8>) {
        let mut copy = std::mem::take(&mut self.message);
        copy.put_own(&message.message[copy.copied..], out);
        match copy.length.take() {
            Some(length) if copy.torn_metrics > 0 && !copy.has_metrics => length.take_back(out),
            Some(length) => length.end(out),
            None => {}
        }
        self.torn_held.force(0);
        copy.torn.end(copy.name.as_deref().unwrap_or(message.name), message.kind, out);
    }

    fn torn(&self) -> u64 {
        self.message.torn_metrics
    }

    fn cut(&mut self, beyond: Option<&Family<'_>>) -> u64 {
        let is_at_hand = beyond.is_none_or(|family| {
            let mut key = Vec::new();
            family.put_key(self.escaping(), &mut key);
            self.family.is(&key, family.kind.unwrap_or(MetricType::Untyped))
        });
        let outer = self.outer.as_mut().map_or(0, Assembly::give_up);
        // One of them may lack a part.
        outer + if is_at_hand && self.family.kind().is_composite() { self.family.give_up() } else { 0 }
    }

    fn finish(&mut self, _families: &mut Families, out: &mut Vec<u8>) -> Lost {
        self.end_family(out);
        self.end_outer(out);
        std::mem::take(&mut self.lost)
    }
}

impl MessageCopy {
    /// Writes fields of the message but for its metrics, as they came or as they change.
    fn put_own(&self, fields: &[u8], out: &mut Vec<u8>) {
        let mut rest = Fields::of(fields);
        while let Some(Ok((Field { number, value }, own))) = rest.next_raw() {
            match (number, value) {
                // One that is beyond the limit of samples.
                (field::METRIC, Value::Bytes(_)) => {}
                (field::NAME, Value::Bytes(name)) => {
                    put_bytes_field(field::NAME, self.name.as_deref().unwrap_or(name), out);
                }
                (field::TYPE, Value::Varint(kind)) => {
                    put_varint_field(field::TYPE, self.kind.map_or(kind, number_of), out);
                }
                (field::UNIT, _) if self.drops_unit => {}
                _ => out.extend_from_slice(own),
            }
        }
    }
}

impl MessageWriter {
    /// Adds a sample to the family that is put together.
    fn add(&mut self, sample: &Sample<'_>, slot: Slot) -> Result<Written, DropReason> {
        if self.family.is_too_large() {
            return Err(DropReason::TooLong);
        }
        let value = sample.value.float().ok_or(DropReason::Malformed)?;
        let time = match sample.time {
            // To Prometheus and others, 0 is no timestamp there: the sample would be of now.
            Some(time) => {
                Some(time.milliseconds().filter(|milliseconds| *milliseconds != 0).ok_or(DropReason::Malformed)?)
            }
            None => None,
        };
        // The time at which a counter was created comes in a line of its own, where there is one.
        let kind = self.family.kind();
        let is_put_together =
            kind.is_composite() || (kind == MetricType::Counter && self.from == Convention::OpenMetrics);
        let at = self.put_labels(&sample.labels, slot.part, is_put_together);
        let is_countable = value >= 0.0 || !matches!(slot.part, Part::Bucket | Part::Count);
        if !matches!(at, Ok(Some(_))) && is_put_together && is_countable && is_stray(kind, slot.part, &sample.labels) {
            let names = self.resolver.resolve(&sample.labels);
            self.put_series(&sample.labels, names, time);
            self.family.add_stray(slot.part, [&self.series, &self.added], value)?;
            let fate = match sample.exemplar {
                Exemplar::Absent => ExemplarFate::Written,
                Exemplar::Found { .. } | Exemplar::Malformed => ExemplarFate::Lost,
            };
            return Ok(self.written(fate));
        }
        let at = at?;
        let place = match is_put_together {
            true => Some(place_of(kind, slot.part, value, at).ok_or(DropReason::Malformed)?),
            false => None,
        };
        let exemplar = match self.put_exemplar(&sample.exemplar, place) {
            true => ExemplarFate::Written,
            // It is not written as one.
            false if kind == MetricType::GaugeHistogram && matches!(place, Some(Place::Point(_))) => {
                ExemplarFate::Unwritten
            }
            false => ExemplarFate::Lost,
        };
        match place {
            None => self.add_simple(value, time),
            Some(place) => self.add_part(place, value, time)?,
        }
        Ok(self.written(exemplar))
    }

    /// A sample was added, whose exemplar fared so. Gives its family up if that is too large now.
    fn written(&mut self, exemplar: ExemplarFate) -> Written {
        if !self.family.has_room() {
            self.lost.too_long += self.family.give_up();
        }
        Written { exemplar, lost: std::mem::take(&mut self.lost) }
    }

    /// Encodes labels by these names, as they stand, and a timestamp.
    fn put_series(&mut self, labels: &Labels<'_>, names: Names, milliseconds: Option<i64>) {
        self.series.clear();
        for (name, value) in self.resolver.iter(labels, names) {
            put_label(metric_field::LABEL, &name.plain(), &value.plain(), &mut self.series);
        }
        put_timestamp(milliseconds, &mut self.series);
    }

    /// Takes a metric apart. Returns how many metrics that makes.
    fn tear(&mut self, metric: &Metric<'_>, names: Names) -> Result<u64, DropReason> {
        let mut parts = 0;
        self.put_series(&metric.labels, names, metric.time.and_then(Time::milliseconds));
        self.message.torn_metrics += 1;
        let torn = &mut self.message.torn;
        torn.begin_metric();
        for_each_point(metric, |part, bound, number| {
            let value = number.float().ok_or(DropReason::Malformed)?;
            let has_room = torn.add((metric.family.kind, part), [&self.series, &self.added], bound, value);
            parts += 1;
            if has_room { Ok(()) } else { Err(DropReason::TooLong) }
        })?;
        if self.torn_held.resize(self.message.torn.size()) { Ok(parts) } else { Err(DropReason::NoRoom) }
    }

    /// Gives back what an unusually large sample or metric took.
    fn give_back(&mut self) {
        for buffer in [&mut self.series, &mut self.exemplar, &mut self.scratch] {
            if buffer.capacity() > KEPT_SCRATCH {
                *buffer = Vec::new();
            }
        }
        self.resolver.release();
    }

    /// Turns to a family that is not at hand.
    fn turn_to(&mut self, name: &[u8], kind: MetricType, out: &mut Vec<u8>) {
        if self.outer.is_none() && self.family.has_within(name, kind) {
            self.outer = Some(std::mem::replace(&mut self.family, Assembly::new(&self.room)));
            return self.family.begin(name, kind);
        }
        self.end_family(out);
        match self.outer.take() {
            Some(outer) if outer.is(name, kind) => self.family = outer,
            Some(outer) if outer.has_within(name, kind) => {
                self.outer = Some(outer);
                self.family.begin(name, kind);
            }
            outer => {
                self.outer = outer;
                self.end_outer(out);
                self.family.begin(name, kind);
            }
        }
    }

    fn end_outer(&mut self, out: &mut Vec<u8>) {
        if let Some(outer) = self.outer.take() {
            self.family = outer;
            self.end_family(out);
        }
    }

    fn end_family(&mut self, out: &mut Vec<u8>) {
        let lost = self.family.end(&self.added, out);
        self.lost.malformed += lost.malformed;
        self.lost.orphaned += lost.orphaned;
        self.lost.too_long += lost.too_long;
        self.lost.torn += lost.torn;
    }

    /// Keeps the help text of a family, of which more messages may come.
    fn remember_help(&mut self, told: &Told<'_>) {
        let help = told.facts.iter().flatten().find_map(|fact| match fact {
            Fact::Help(text) => Some(text),
            Fact::Type(_) | Fact::Unit(_) => None,
        });
        let Some(help) = help.filter(|_| !self.helps.contains_key(told.key)) else { return };
        let help = help.plain();
        let bytes = self.helps_bytes + told.key.len() + help.len() + ENTRY_COST;
        if self.held.resize(bytes) {
            self.helps_bytes = bytes;
            self.helps.insert(told.key.to_vec(), help.into_owned());
        }
    }

    /// Gives the family what its metadata says of it.
    fn describe(&mut self, facts: Facts<'_>) {
        for fact in facts.into_iter().flatten() {
            match fact {
                // Asked before every run of samples of one name, and a help text may be long.
                Fact::Help(text) if !self.family.has_help() => self.family.add_help(&text.plain()),
                Fact::Unit(unit) => self.family.add_unit(unit),
                Fact::Help(_) | Fact::Type(_) => {}
            }
        }
    }

    /// Writes a metric anew: its labels by the names that they were given, its untyped value as one of another type.
    fn rewrite(&mut self, metric: &Metric<'_>, names: Names) -> Result<(), Malformed> {
        let Self { series: out, exemplar: label, .. } = self;
        out.clear();
        let mut labels = self.resolver.iter(&metric.labels, names);
        let mut fields = Fields::of(metric.message);
        while let Some(field) = fields.next_raw() {
            let (field, own) = field?;
            match (field.number, field.value, self.message.kind) {
                (metric_field::LABEL, Value::Bytes(pair), _) => {
                    let (name, _) = labels.next().ok_or(Malformed)?;
                    rename(pair, name.bytes(), label)?;
                    put_bytes_field(metric_field::LABEL, label, out);
                }
                (metric_field::UNTYPED, Value::Bytes(value), Some(kind)) => {
                    // What is unknown in an untyped value may be known in another.
                    check(value, if kind == MetricType::Counter { COUNTER } else { SIMPLE })?;
                    put_bytes_field(metric_field::value(kind), value, out);
                }
                // What was not the value before must not become a part of it.
                (number, _, Some(kind)) if number == metric_field::value(kind) => {}
                _ => out.extend_from_slice(own),
            }
        }
        Ok(())
    }

    /// Encodes a sample's labels, but for the one that tells the bucket or the quantile: that one's number is returned.
    fn put_labels(
        &mut self,
        labels: &Labels<'_>,
        part: Part,
        is_put_together: bool,
    ) -> Result<Option<f64>, DropReason> {
        self.series.clear();
        let kind = self.family.kind();
        let names = self.resolver.resolve(labels);
        let mut at = None;
        let mut before = Cow::default();
        let mut is_sorted = true;
        for (name, value) in self.resolver.iter(labels, names) {
            let name = name.plain();
            if tells_point(kind, part, &name)? {
                let number = Some(value.bytes()).filter(|value| is_bound(value));
                let number = number.and_then(|value| Number::Token(value).float());
                at = Some(number.ok_or(DropReason::Malformed)?);
                continue;
            }
            is_sorted &= before <= name;
            put_label(metric_field::LABEL, &name, &value.plain(), &mut self.series);
            before = name;
        }
        if !is_sorted && is_put_together {
            // The parts of one metric need not have its labels in one order.
            sort_labels(&mut self.series, &mut self.scratch);
        }
        Ok(at)
    }

    /// Encodes a sample's exemplar, if it has one. Says whether nothing was lost: there may be no place for it.
    fn put_exemplar(&mut self, exemplar: &Exemplar<'_>, place: Option<Place>) -> bool {
        self.exemplar.clear();
        let Exemplar::Found { labels, value, time } = exemplar else {
            return matches!(exemplar, Exemplar::Absent);
        };
        let has_place = match place {
            Some(Place::Value) => true,
            Some(Place::Point(_)) => self.family.kind() == MetricType::Histogram,
            _ => false,
        };
        let (true, Some(value)) = (has_place, value.float()) else {
            return false;
        };
        let names = self.resolver.resolve_alone(labels);
        for (name, value) in self.resolver.iter(labels, names) {
            put_label(EXEMPLAR_LABEL, &name.plain(), &value.plain(), &mut self.exemplar);
        }
        let seconds = match time {
            Some(Time::Seconds(token)) => Number::Token(token).float(),
            _ => None,
        };
        put_exemplar(value, seconds, &mut self.exemplar);
        true
    }

    /// Adds a metric that has but a value.
    fn add_simple(&mut self, value: f64, milliseconds: Option<i64>) {
        self.series.extend_from_slice(&self.added);
        put_simple(metric_field::value(self.family.kind()), value, &mut self.series);
        put_timestamp(milliseconds, &mut self.series);
        self.family.add_metric(&self.series);
    }

    /// Adds a sample that is a part of a metric.
    fn add_part(&mut self, place: Place, value: f64, milliseconds: Option<i64>) -> Result<(), DropReason> {
        let labels = self.series.len();
        if !matches!(place, Place::Created) {
            put_timestamp(milliseconds, &mut self.series);
        }
        let key = (self.series.as_slice(), labels);
        self.family.add_sample(key, self.added.len(), place, value, &self.exemplar)
    }
}

/// Whether a metric, which was checked, is a classic histogram that is none: see [`are_torn`].
fn is_torn(metric: &Metric<'_>) -> bool {
    if !matches!(metric.family.kind, MetricType::Histogram | MetricType::GaugeHistogram) || metric.is_native {
        return false;
    }
    let (mut buckets, mut all) = (Vec::new(), 0.0);
    let _ = for_each_point(metric, |part, bound, number| {
        let value = number.float().unwrap_or(f64::NAN);
        match (part, bound) {
            (Part::Bucket, Some(bound)) => buckets.push((bound, value)),
            (Part::Count, _) => all = value,
            _ => {}
        }
        Ok(())
    });
    buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    buckets.dedup_by(|later, first| later.0 == first.0);
    are_torn(buckets.into_iter(), all)
}

/// Writes a `LabelPair` with another name.
fn rename(pair: &[u8], name: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    out.clear();
    put_bytes_field(1, name, out);
    let mut fields = Fields::of(pair);
    while let Some(field) = fields.next_raw() {
        let (field, own) = field?;
        if field.number != 1 {
            out.extend_from_slice(own);
        }
    }
    Ok(())
}

/// Whether a label of this name tells which bucket or quantile the sample is.
///
/// # Errors
///
/// Prometheus gives a label of this name to buckets, and so the metric must not have it.
fn tells_point(kind: MetricType, part: Part, name: &[u8]) -> Result<bool, DropReason> {
    match kind {
        MetricType::Histogram | MetricType::GaugeHistogram if name == b"le" => match part {
            Part::Bucket => Ok(true),
            _ => Err(DropReason::Malformed),
        },
        MetricType::Summary => Ok(part == Part::Value && name == b"quantile"),
        _ => Ok(false),
    }
}

/// Whether a sample of a family of this type is a part of no histogram or summary, by what it is called and by its labels.
fn is_stray(kind: MetricType, part: Part, labels: &Labels<'_>) -> bool {
    let has = |name: &[u8]| labels.iter().any(|(own, _)| *own.plain() == *name);
    match (kind, part) {
        (MetricType::Histogram | MetricType::GaugeHistogram, Part::Value)
        | (MetricType::GaugeHistogram, Part::Created) => true,
        (MetricType::Histogram | MetricType::GaugeHistogram, Part::Bucket) => !has(b"le"),
        (MetricType::Histogram | MetricType::GaugeHistogram, Part::Sum | Part::Count) => has(b"le"),
        (MetricType::Summary, Part::Value) => !has(b"quantile"),
        _ => false,
    }
}

/// The place of a sample in a metric of this type, if there is one and the value may stand there.
fn place_of(kind: MetricType, part: Part, value: f64, at: Option<f64>) -> Option<Place> {
    // Neither a negative number nor NaN is a count of anything.
    let is_count = value >= 0.0;
    match part {
        Part::Created => is_time(value).then_some(Place::Created),
        Part::Value if kind == MetricType::Counter => Some(Place::Value),
        // Only a summary's has one.
        Part::Value => at.map(Place::Point),
        Part::Bucket => at.filter(|at| is_count && !at.is_nan()).map(Place::Point),
        Part::Sum => Some(Place::Sum),
        Part::Count => is_count.then_some(Place::Count),
    }
}

fn put_timestamp(milliseconds: Option<i64>, out: &mut Vec<u8>) {
    if let Some(milliseconds) = milliseconds {
        put_varint_field(metric_field::TIMESTAMP_MS, milliseconds as u64, out);
    }
}

/// Sorts encoded labels by their names.
fn sort_labels(labels: &mut Vec<u8>, scratch: &mut Vec<u8>) {
    scratch.clear();
    std::mem::swap(labels, scratch);
    let mut pairs: Vec<(&[u8], &[u8])> = Vec::new();
    let mut fields = Fields::of(scratch);
    while let Some(pair) = next_bytes(&mut fields) {
        // The name is a label's first field.
        pairs.push((next_bytes(&mut Fields::of(pair)).unwrap_or_default(), pair));
    }
    pairs.sort_unstable();
    for (_, pair) in pairs {
        put_bytes_field(metric_field::LABEL, pair, labels);
    }
}

/// The next of fields that all have bytes.
fn next_bytes<'a>(fields: &mut Fields<'a>) -> Option<&'a [u8]> {
    match fields.next() {
        Some(Ok(Field { value: Value::Bytes(bytes), .. })) => Some(bytes),
        _ => None,
    }
}
