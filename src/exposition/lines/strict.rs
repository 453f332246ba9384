//! Lines of OpenMetrics that strict readers take.
//!
//! The official Python client and prometheus/common's `expfmt` refuse a whole answer for one family whose samples do not fit together:
//! a histogram without its last bucket, a counter below 0, a metric that stands in two places. Prometheus reads them all. So a family is
//! held until it is over; what fits together goes out as it came. What does not is put in order, and what does not fit even then is taken
//! apart: each kind of sample goes out as a family of unknown type under its own name, so that none is lost.
//!
//! A family that is larger than [`MAX_HELD`] is passed on as it comes.

use std::collections::HashSet;
use std::hash::BuildHasher as _;

use hashbrown::DefaultHashBuilder;

use super::dialect::OpenMetrics;
use super::judge::{ENDINGS, Point, are_taken, as_series, is_any, put_in_order};
use super::quotes::Quoted;
use super::write::{LineWriter, put_name};
use crate::exposition::bytes::{Span, is_old_metric_name};
use crate::exposition::engine::{Lost, Slot, Told, Writer, Written};
use crate::exposition::families::{Families, Known, Shape};
use crate::exposition::format::{Escaping, Spelling};
use crate::exposition::model::{Convention, Fact, Metric, MetricType, Number, Part, Sample, Time, put_bound};
use crate::exposition::progress::DropReason;
use crate::exposition::room::Held;
use crate::exposition::rules::Rules;

/// The largest family that is held, in bytes.
const MAX_HELD: usize = 2 << 20;

/// Room that is kept for the next family, in bytes.
const KEPT_CAPACITY: usize = 64 << 10;

/// Writes one family after the other.
#[derive(Debug)]
pub(in super::super) struct StrictWriter {
    lines: LineWriter<OpenMetrics>,
    hasher: DefaultHashBuilder,
    family: HeldFamily,
    held: Held,
    /// What was lost since a sample was last written.
    lost: Lost,
}

/// The family at hand.
#[derive(Debug, Default)]
struct HeldFamily {
    /// The name under which it is written, and the one in the body.
    key: Vec<u8>,
    stem: Vec<u8>,
    kind: Option<MetricType>,
    /// Its help text, as it is written.
    help: Vec<u8>,
    /// What was known of it when it began.
    before: Known,
    /// Its lines, as they are written: its metadata, which ends at `samples_start`, and its samples.
    text: Vec<u8>,
    samples_start: usize,
    points: Vec<Point>,
    /// It became too large: what follows is passed on.
    is_passed_on: bool,
}

impl Writer for StrictWriter {
    const CONVENTION: Convention = Convention::OpenMetrics;
    const HOLDS_FAMILIES: bool = true;
    type Late = Self;

    fn new(rules: &Rules, to: Spelling, copies: bool) -> Self {
        Self {
            lines: LineWriter::new(rules, to, copies),
            hasher: DefaultHashBuilder::default(),
            family: HeldFamily::default(),
            held: rules.room.hold(),
            lost: Lost::default(),
        }
    }

    fn escaping(&self) -> Escaping {
        self.lines.escaping()
    }

    fn family(&mut self, told: &Told<'_>, families: &mut Families, out: &mut Vec<u8>) -> Result<Slot, DropReason> {
        if self.family.key != told.key {
            self.flush(families, out);
            self.family.begin(told, families);
        }
        let to = if self.family.is_passed_on || !told.has_samples { out } else { &mut self.family.text };
        self.lines.family(told, families, to)
    }

    fn sample(&mut self, sample: &Sample<'_>, slot: Slot, out: &mut Vec<u8>) -> Result<Written, DropReason> {
        let family = &mut self.family;
        if family.is_passed_on {
            return self.lines.sample(sample, slot, out);
        }
        let start = family.text.len();
        // A counter's sample may have an exemplar, but where the family is none of one.
        let slot = Slot { takes_exemplars: slot.takes_exemplars && !is_any(family.kind), ..slot };
        let mut written = self.lines.sample(sample, slot, &mut family.text)?;
        if family.points.is_empty() {
            family.samples_start = start;
        }
        family.points.push(point(sample, slot, family, &self.hasher, start));
        if family.size() > MAX_HELD || !self.held.resize(family.size()) {
            out.extend_from_slice(&family.text);
            (family.text, family.points, family.is_passed_on) = (Vec::new(), Vec::new(), true);
            self.held.force(0);
        }
        written.lost = std::mem::take(&mut self.lost);
        Ok(written)
    }

    fn metric(&mut self, metric: &Metric<'_>, out: &mut Vec<u8>) -> Result<u64, DropReason> {
        self.lines.metric(metric, out)
    }

    fn pause(&mut self, families: &mut Families, out: &mut Vec<u8>) {
        self.flush(families, out);
    }

    fn finish(&mut self, families: &mut Families, out: &mut Vec<u8>) -> Lost {
        self.flush(families, out);
        std::mem::take(&mut self.lost)
    }
}

impl StrictWriter {
    /// Writes the family at hand, which is over, or in whose place another body goes on.
    fn flush(&mut self, families: &mut Families, out: &mut Vec<u8>) {
        let family = &mut self.family;
        family.put(families, &mut self.lost, out);
        family.text.clear();
        family.text.shrink_to(KEPT_CAPACITY);
        family.points.clear();
        family.samples_start = 0;
        family.points.shrink_to(KEPT_CAPACITY / size_of::<Point>());
        self.held.force(family.size());
    }
}

impl HeldFamily {
    /// Turns to another family.
    fn begin(&mut self, told: &Told<'_>, families: &Families) {
        self.key.clear();
        self.key.extend_from_slice(told.key);
        self.stem.clear();
        self.stem.extend_from_slice(told.family.stem);
        self.kind = told.family.kind;
        self.help.clear();
        if let Some(help) = told.facts.iter().flatten().find_map(Fact::help) {
            help.put_quoted(&mut self.help);
        }
        self.before = families.known(told.key).unwrap_or_default();
        self.is_passed_on = false;
    }

    fn size(&self) -> usize {
        self.text.capacity() + self.points.capacity() * size_of::<Point>()
    }

    /// Writes it so that every reader takes it.
    fn put(&mut self, families: &mut Families, lost: &mut Lost, out: &mut Vec<u8>) {
        let before = families.known(&self.key).and_then(|known| known.shape);
        let mut shape = Shape::Whole;
        if before != Some(Shape::Apart) && are_taken(self.kind, &self.points) {
            out.extend_from_slice(&self.text);
        } else {
            shape = self.mend(before, families, lost, out);
        }
        if (self.is_passed_on || !self.points.is_empty())
            && let Ok(known) = families.entry(&self.key)
        {
            known.shape = Some(shape);
        }
    }

    /// Writes it in another order, or taken apart. What the answer has of it already, of another body, stays as it is.
    #[cold]
    fn mend(&mut self, before: Option<Shape>, families: &mut Families, lost: &mut Lost, out: &mut Vec<u8>) -> Shape {
        put_in_order(self.kind, &mut self.points);
        let is_taken = before != Some(Shape::Apart) && are_taken(self.kind, &self.points);
        let is_any = is_any(self.kind);
        match self.kind.filter(|_| !is_any) {
            Some(kind) if !is_taken && before != Some(Shape::Whole) => {
                self.put_apart(kind, families, lost, out);
                Shape::Apart
            }
            _ => {
                out.extend_from_slice(&self.text[..self.samples_start]);
                let came = self.points.len();
                if !is_taken && is_any {
                    self.points = as_series(self.points.drain(..));
                }
                lost.malformed += (came - self.points.len()) as u64;
                self.points.iter().for_each(|point| out.extend_from_slice(point.line.of(&self.text)));
                Shape::Whole
            }
        }
    }

    /// Writes each kind of sample as a family of its own, whose type is unknown.
    fn put_apart(&self, kind: MetricType, families: &mut Families, lost: &mut Lost, out: &mut Vec<u8>) {
        let metrics: HashSet<u64> = self.points.iter().map(|point| point.metric).collect();
        lost.torn += metrics.len() as u64;
        lost.malformed += self.points.len() as u64;
        for ending in ENDINGS {
            let taken = as_series(self.points.iter().filter(|point| point.ending == ending).copied());
            lost.malformed -= taken.len() as u64;
            if !taken.is_empty() {
                self.put_metadata(&[&self.key, ending.as_bytes()].concat(), families, out);
            }
            for point in &taken {
                lost.exemplars += u64::from(put_alone(point, placed_by(kind, point.part), &self.text, out));
            }
        }
    }

    /// Writes the metadata of a family of this name, unless the answer has samples of it.
    fn put_metadata(&self, name: &[u8], families: &mut Families, out: &mut Vec<u8>) {
        let mut unknown = Default::default();
        let known = families.entry(name).unwrap_or(&mut unknown);
        // What is noted by its own name was to stand before the whole.
        let before = if name == self.key { self.before } else { *known };
        (known.has_help, known.has_type, known.has_samples) = (true, true, true);
        if before.has_samples || before.shape.is_some() {
            return;
        }
        let mut put = |what: &[u8], text: &[u8]| {
            out.extend_from_slice(what);
            put_name(name, is_old_metric_name, out);
            out.push(b' ');
            out.extend_from_slice(text);
            out.push(b'\n');
        };
        if !self.help.is_empty() && !before.has_help {
            put(b"# HELP ", &self.help);
        }
        if !before.has_type {
            put(b"# TYPE ", b"unknown");
        }
    }
}

/// The label that tells where a sample stands in its metric, if it is a number.
fn placed_by(kind: MetricType, part: Part) -> &'static [u8] {
    match (kind, part) {
        (MetricType::Summary, Part::Value) => b"quantile",
        (MetricType::Histogram | MetricType::GaugeHistogram, Part::Bucket) => b"le",
        _ => b"",
    }
}

/// Writes a sample of no type: without an exemplar, which may not stand there, and with its place spelt as a reader spells it where it
/// knows the type (Prometheus 3: `normalizeFloatsInLabelValues` in `model/textparse/interface.go`). Says whether it had an exemplar.
fn put_alone(point: &Point, placed_by: &[u8], text: &[u8], out: &mut Vec<u8>) -> bool {
    let line = point.line.of(text);
    let (mut at, mut copied) = (0, 0);
    let end = loop {
        let Some(special) = memchr::memchr2(b'"', b'#', &line[at..]) else { break None };
        at += special;
        if line[at] == b'#' {
            break Some(at - 1);
        }
        let start = at + 1;
        let Some(length) = Quoted::default().end_in(&line[start..]) else { break None };
        at = start + length;
        let is_place = line[..start].strip_suffix(b"=\"").and_then(|before| before.strip_suffix(placed_by));
        if let (Some(place), Some([.., b'{' | b','])) = (point.place, is_place) {
            out.extend_from_slice(&line[copied..start]);
            put_bound(place, out);
            copied = at - 1;
        }
    };
    out.extend_from_slice(&line[copied..end.unwrap_or(line.len())]);
    if end.is_some() {
        out.push(b'\n');
    }
    end.is_some()
}

/// What is known of a sample whose line begins at `start` and was written last.
fn point(sample: &Sample<'_>, slot: Slot, family: &HeldFamily, hasher: &DefaultHashBuilder, start: usize) -> Point {
    let placed_by = if family.kind == Some(MetricType::StateSet) { Some(&*family.stem) } else { slot.bound };
    let (mut metric, mut place, mut place_hash) = (0u64, None, 0);
    for (name, value) in sample.labels.iter() {
        let (name, value) = (name.plain(), value.plain());
        // In whichever order they stand.
        let hash = hasher.hash_one((&name, &value));
        if placed_by == Some(&*name) {
            place_hash = hash;
            place = if family.kind == Some(MetricType::StateSet) { Some(0.0) } else { bound(&value) };
        } else {
            metric = metric.wrapping_add(hash);
        }
    }
    let series = metric.wrapping_add(place_hash).wrapping_add(hasher.hash_one(slot.ending));
    Point {
        part: slot.part,
        ending: slot.ending,
        metric: if is_any(family.kind) { series } else { metric },
        series,
        place,
        value: float(sample.value),
        time: sample.time.map(|time| match time {
            Time::Seconds(token) => float(Number::Token(token)),
            Time::Milliseconds(_) | Time::Number(_) => time.milliseconds().map_or(0.0, |time| time as f64 / 1000.0),
        }),
        line: Span::new(start, family.text.len()),
    }
}

/// A bound, if every reader reads it as one: of the spellings of the largest, the official Python client takes one.
fn bound(value: &[u8]) -> Option<f64> {
    let bound = Number::Token(value).float()?;
    (bound != f64::INFINITY || value == b"+Inf").then_some(bound)
}

fn float(number: Number<'_>) -> f64 {
    number.float().unwrap_or(f64::NAN)
}
