//! Lines of OpenMetrics that strict readers take.
//!
//! The official Python client and prometheus/common's `expfmt` refuse a whole answer for one family whose samples do not fit together:
//! a histogram without its last bucket, a counter below 0, a metric that stands in two places. Prometheus reads them all. So a family is
//! held until it is over; what fits together goes out as it came. What does not is put in order, and what does not fit even then is taken
//! apart: each kind of sample goes out as a family of unknown type under its own name, so that none is lost.
//!
//! A family that is larger than [`MAX_HELD`] is passed on as it comes.

use std::hash::BuildHasher as _;
use std::ops::Range;

use hashbrown::{DefaultHashBuilder, HashSet};

use super::dialect::OpenMetrics;
use super::judge::{ENDINGS, Point, are_taken, as_series, is_any, put_in_order};
use super::quotes::Quoted;
use super::write::{LineWriter, put_name};
use crate::exposition::bytes::{Span, is_old_metric_name};
use crate::exposition::engine::{Lost, Slot, Told, Writer, Written};
use crate::exposition::families::{Families, Known, Shape};
use crate::exposition::format::{Escaping, Spelling};
use crate::exposition::model::{Convention, Fact, Metric, MetricType, Number, Part, Sample, put_bound};
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
    /// It was not the family at hand before.
    has_turned: bool,
    /// What was lost since a sample was last written.
    lost: Lost,
}

/// The family at hand.
#[derive(Debug, Default)]
struct HeldFamily {
    /// The name under which it is written.
    key: Vec<u8>,
    kind: Option<MetricType>,
    /// Its help text, as it is written.
    help: Vec<u8>,
    /// What was known of it when it began.
    before: Known,
    /// Its lines, as they are written: its metadata, which ends at `samples_start`, and its samples.
    text: Vec<u8>,
    samples_start: usize,
    points: Vec<Point>,
    /// What becomes of the samples of each name.
    slots: Vec<(Vec<u8>, Slot)>,
    /// It became too large: what follows is passed on.
    is_passed_on: bool,
}

impl Writer for StrictWriter {
    const CONVENTION: Convention = Convention::OpenMetrics;
    type Late = Self;

    fn new(rules: &Rules, to: Spelling, copies: bool) -> Self {
        Self {
            lines: LineWriter::new(rules, to, copies),
            hasher: DefaultHashBuilder::default(),
            family: HeldFamily::default(),
            held: rules.room.hold(),
            has_turned: false,
            lost: Lost::default(),
        }
    }

    fn escaping(&self) -> Escaping {
        self.lines.escaping()
    }

    fn family(&mut self, told: &Told<'_>, families: &mut Families, out: &mut Vec<u8>) -> Result<Slot, DropReason> {
        self.has_turned = self.family.key != told.key;
        if self.has_turned {
            self.flush(families, out);
            self.family.begin(told, families);
        }
        let to = if self.family.is_passed_on || !told.has_samples { out } else { &mut self.family.text };
        self.lines.family(told, families, to)
    }

    fn has_turned(&self) -> bool {
        self.has_turned
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
        if self.lines.can_repeat() {
            let line = &family.text[start..];
            if !family.slots.iter().any(|(name, _)| has_name(line, name)) {
                family.slots.push((name_of(line).to_vec(), slot));
            }
        }
        self.note(slot, start, out);
        written.lost = std::mem::take(&mut self.lost);
        Ok(written)
    }

    fn can_repeat(&self) -> bool {
        self.lines.can_repeat()
    }

    fn repeat(&mut self, line: &[u8], head_end: usize, out: &mut Vec<u8>) {
        if self.family.is_passed_on {
            return self.lines.repeat(line, head_end, out);
        }
        let start = self.family.text.len();
        self.lines.repeat(line, head_end, &mut self.family.text);
        let slots = &self.family.slots;
        match slots.iter().find(|(name, _)| has_name(line, name)) {
            Some((_, slot)) => self.note(*slot, start, out),
            None => self.pass_on(out),
        }
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
    /// Notes what is known of the sample that was written last, at `start`.
    fn note(&mut self, slot: Slot, start: usize, out: &mut Vec<u8>) {
        let family = &mut self.family;
        if family.points.is_empty() {
            family.samples_start = start;
        }
        let mut point = family.point(slot, start, &self.hasher);
        if point.is_misspelt {
            let bound = slot.bound.unwrap_or_default();
            let line = family.text.split_off(start);
            put_spelt(&line, bound, point.place, true, &mut family.text);
            point.line = Span::new(start, family.text.len());
        }
        family.points.push(point);
        if family.size() > MAX_HELD || !self.held.resize(family.size()) {
            self.pass_on(out);
        }
    }

    /// Writes what is held of the family at hand as it came, and what follows of it as it comes.
    #[cold]
    fn pass_on(&mut self, out: &mut Vec<u8>) {
        let family = &mut self.family;
        out.extend_from_slice(&family.text);
        (family.text, family.points, family.is_passed_on) = (Vec::new(), Vec::new(), true);
        self.held.force(0);
    }

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
        self.kind = told.family.kind;
        self.help.clear();
        if let Some(help) = told.facts.iter().flatten().find_map(Fact::help) {
            help.put_quoted(&mut self.help);
        }
        self.before = families.known(told.key).unwrap_or_default();
        self.slots.clear();
        self.is_passed_on = false;
    }

    fn size(&self) -> usize {
        self.text.capacity() + self.points.capacity() * size_of::<Point>()
    }

    /// What is known of its sample that was written last, at `start`.
    fn point(&mut self, slot: Slot, start: usize, hasher: &DefaultHashBuilder) -> Point {
        let line = &self.text[start..];
        let is_set = self.kind == Some(MetricType::StateSet);
        let placed_by = if is_set { Some(&*self.key) } else { slot.bound };
        let (mut metric, mut place, mut place_hash, mut is_misspelt) = (0u64, None, 0, false);
        let end = for_each_label(line, |name, value| {
            let whole = &line[name.start..value.end];
            if placed_by == Some(&line[name]) {
                let value = &line[value];
                place = if is_set { Some(0.0) } else { Number::Token(value).float() };
                is_misspelt = place == Some(f64::INFINITY) && value != b"+Inf";
                // However it is spelt.
                let number = place.filter(|_| !is_set);
                place_hash = match number {
                    Some(number) => hasher.hash_one((number + 0.0).to_bits()),
                    None => hasher.hash_one(whole),
                };
            } else {
                // In whichever order they stand.
                metric = metric.wrapping_add(hasher.hash_one(whole));
            }
        });
        let mut numbers = line
            .get(end..)
            .unwrap_or_default()
            .split(|byte| matches!(byte, b' ' | b'\n'))
            .filter(|token| !token.is_empty());
        let value = numbers.next().unwrap_or_default();
        let time = numbers.next().filter(|token| *token != b"#");
        let series = metric.wrapping_add(place_hash).wrapping_add(hasher.hash_one(slot.ending));
        let is_any = is_any(self.kind);
        Point {
            part: slot.part,
            ending: slot.ending,
            metric: if is_any { series } else { metric },
            series,
            place,
            is_misspelt,
            value: if is_any { 0.0 } else { float(value) },
            time: time.map(float),
            line: Span::new(start, self.text.len()),
        }
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
                let line = point.line.of(&self.text);
                lost.exemplars += u64::from(put_spelt(line, placed_by(kind, point.part), point.place, false, out));
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

/// The label that Prometheus 3 spells anew in samples of this type.
fn placed_by(kind: MetricType, part: Part) -> &'static [u8] {
    match (kind, part) {
        (MetricType::Summary, Part::Value) => b"quantile",
        (MetricType::Histogram, Part::Bucket) => b"le",
        _ => b"",
    }
}

/// Writes a line with its place spelt as a reader spells it where it knows the type (Prometheus 3: `normalizeFloatsInLabelValues` in
/// `model/textparse/interface.go`), and without its exemplar if that may not stand there. Says whether it had one that may not.
fn put_spelt(line: &[u8], placed_by: &[u8], place: Option<f64>, takes_exemplars: bool, out: &mut Vec<u8>) -> bool {
    let mut label = 0..0;
    let behind = for_each_label(line, |name, value| {
        if line[name] == *placed_by {
            label = value;
        }
    });
    let exemplar = memchr::memchr(b'#', &line[behind..]).filter(|_| !takes_exemplars);
    out.extend_from_slice(&line[..label.start]);
    if let Some(place) = place.filter(|_| !label.is_empty()) {
        put_bound(place, out);
        label.start = label.end;
    }
    match exemplar {
        Some(at) => {
            // Behind a blank.
            out.extend_from_slice(&line[label.start..behind + at - 1]);
            out.push(b'\n');
        }
        None => out.extend_from_slice(&line[label.start..]),
    }
    exemplar.is_some()
}

/// A line that was written up to the end of its name, with what stands before that if it is quoted.
fn name_of(line: &[u8]) -> &[u8] {
    let end = match line {
        [b'{', b'"', quoted @ ..] => Quoted::default().end_in(quoted).map(|end| end + 2),
        _ => memchr::memchr2(b'{', b' ', line),
    };
    &line[..end.unwrap_or(line.len())]
}

/// Whether a line that was written begins so.
fn has_name(line: &[u8], name: &[u8]) -> bool {
    line.strip_prefix(name).is_some_and(|rest| matches!(rest, [b'{' | b' ' | b',' | b'}', ..]))
}

/// Where the labels of a line that was written stand, each with its name and its value, and where the line goes on behind them. The name
/// of a metric that stands between quotes is none.
fn for_each_label(line: &[u8], mut each: impl FnMut(Range<usize>, Range<usize>)) -> usize {
    let mut at = match memchr::memchr2(b'{', b' ', line) {
        Some(brace) if line[brace] == b'{' => brace,
        end => return end.unwrap_or(line.len()),
    };
    // Where what stands between quotes ends, which begins here.
    let quoted_end = |start: usize| {
        let behind = line.get(start..).and_then(|rest| Quoted::default().end_in(rest));
        behind.map_or(line.len(), |behind| start + behind - 1)
    };
    while matches!(line.get(at), Some(b'{' | b',')) {
        let start = at + 1;
        let is_quoted = line.get(start) == Some(&b'"');
        let (start, end) = match is_quoted {
            true => (start + 1, quoted_end(start + 1)),
            false => (start, memchr::memchr(b'=', &line[start..]).map_or(line.len(), |length| start + length)),
        };
        let equals = end + usize::from(is_quoted);
        at = equals;
        if line.get(equals) == Some(&b'=') {
            let value = equals + 2;
            let value_end = quoted_end(value);
            at = value_end + 1;
            if value <= value_end {
                each(start..end, value..value_end);
            }
        }
    }
    at + 1
}

fn float(token: &[u8]) -> f64 {
    Number::Token(token).float().unwrap_or(f64::NAN)
}
