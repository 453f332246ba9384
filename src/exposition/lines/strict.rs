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
use super::judge::{Point, are_taken, as_series, is_plain, put_in_order};
use super::quotes::Quoted;
use super::write::{LineWriter, help_end, put_name};
use crate::exposition::bytes::{Span, is_old_metric_name};
use crate::exposition::engine::{Lost, Slot, Told, Writer, Written};
use crate::exposition::families::{Families, Known, Shape};
use crate::exposition::format::{Escaping, Spelling};
use crate::exposition::model::{Convention, ENDINGS, Fact, Metric, MetricType, Number, Part, Sample, put_bound};
use crate::exposition::progress::DropReason;
use crate::exposition::room::{Held, Room};
use crate::exposition::rules::Rules;

/// The largest family that is held, in bytes: of its lines, and of what is noted of them.
const MAX_HELD: usize = 2 << 20;

/// Room that is kept for the next family, in bytes.
const KEPT_CAPACITY: usize = 64 << 10;

/// Writes one family after the other.
#[derive(Debug)]
pub(in super::super) struct StrictWriter {
    lines: LineWriter<OpenMetrics>,
    room: Room,
    family: HeldFamily,
    /// It was not the family at hand before.
    has_turned: bool,
}

/// A family, of one body or of several that take turns.
#[derive(Debug)]
pub(in super::super) struct HeldFamily {
    /// The name under which it is written.
    key: Vec<u8>,
    /// That every reader reads it without quotes.
    is_old: bool,
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
    /// The target whose samples follow.
    target: usize,
    /// It became too large: what follows is passed on.
    is_passed_on: bool,
    hasher: DefaultHashBuilder,
    held: Held,
}

impl Writer for StrictWriter {
    const CONVENTION: Convention = Convention::OpenMetrics;
    type Late = Self;

    fn new(rules: &Rules, to: Spelling, copies: bool) -> Self {
        Self {
            lines: LineWriter::new(rules, to, copies),
            room: rules.room.clone(),
            family: HeldFamily::new(&rules.room),
            has_turned: false,
        }
    }

    fn escaping(&self) -> Escaping {
        self.lines.escaping()
    }

    fn family(&mut self, told: &Told<'_>, families: &mut Families, out: &mut Vec<u8>) -> Result<Slot, DropReason> {
        let goes_on = self.take_over(families, out);
        self.has_turned = goes_on || self.family.key != told.key;
        if self.family.key != told.key {
            self.family.end(families, out);
            self.family.begin(told, families);
        }
        self.family.target = families.target();
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
        let slot = Slot { takes_exemplars: slot.takes_exemplars && !is_plain(family.kind), ..slot };
        let written = self.lines.sample(sample, slot, &mut family.text)?;
        if self.lines.can_repeat() {
            let line = &family.text[start..];
            if !family.slots.iter().any(|(name, _)| has_name(line, name)) {
                family.slots.push((name_of(line).to_vec(), slot));
            }
        }
        family.note(slot, start, out);
        Ok(written)
    }

    fn can_repeat(&self) -> bool {
        self.lines.can_repeat()
    }

    fn repeat(&mut self, line: &[u8], head_end: usize, out: &mut Vec<u8>) {
        let family = &mut self.family;
        if family.is_passed_on {
            return self.lines.repeat(line, head_end, out);
        }
        let start = family.text.len();
        self.lines.repeat(line, head_end, &mut family.text);
        match family.slots.iter().find(|(name, _)| has_name(line, name)) {
            Some((_, slot)) => family.note(*slot, start, out),
            None => family.pass_on(out),
        }
    }

    fn metric(&mut self, metric: &Metric<'_>, out: &mut Vec<u8>) -> Result<u64, DropReason> {
        self.lines.metric(metric, out)
    }

    fn pause(&mut self, families: &mut Families) {
        if !self.family.key.is_empty() {
            families.hand_on(std::mem::replace(&mut self.family, HeldFamily::new(&self.room)));
        }
    }

    fn finish(&mut self, families: &mut Families, out: &mut Vec<u8>) -> Lost {
        self.take_over(families, out);
        self.family.end(families, out);
        families.take_lost()
    }
}

impl StrictWriter {
    /// Takes over the family with which another body was paused, if one was.
    fn take_over(&mut self, families: &mut Families, out: &mut Vec<u8>) -> bool {
        let Some(family) = families.take_handed_on() else { return false };
        self.family.end(families, out);
        self.family = family;
        true
    }
}

impl HeldFamily {
    fn new(room: &Room) -> Self {
        Self {
            key: Vec::new(),
            is_old: true,
            kind: None,
            help: Vec::new(),
            before: Known::default(),
            text: Vec::new(),
            samples_start: 0,
            points: Vec::new(),
            slots: Vec::new(),
            target: 0,
            is_passed_on: false,
            hasher: DefaultHashBuilder::default(),
            held: room.hold(),
        }
    }

    /// Turns to another family.
    fn begin(&mut self, told: &Told<'_>, families: &Families) {
        self.key.clear();
        self.key.extend_from_slice(told.key);
        self.is_old = told.family.is_old || is_old_metric_name(told.key);
        self.kind = told.family.kind;
        self.help.clear();
        if let Some(help) = told.facts.iter().flatten().find_map(Fact::help) {
            help.put_quoted(&mut self.help);
            self.help.truncate(help_end(&self.help));
        }
        self.before = families.known(told.key).unwrap_or_default();
        self.slots.clear();
        self.is_passed_on = false;
    }

    /// Writes what is held of it.
    fn end(&mut self, families: &mut Families, out: &mut Vec<u8>) {
        self.put(families, out);
        self.text.clear();
        self.text.shrink_to(KEPT_CAPACITY);
        self.points.clear();
        self.points.shrink_to(KEPT_CAPACITY / size_of::<Point>());
        self.samples_start = 0;
        self.held.force(self.capacity());
    }

    fn capacity(&self) -> usize {
        self.text.capacity() + self.points.capacity() * size_of::<Point>()
    }

    /// Notes what is known of its sample that was written last, at `start`.
    fn note(&mut self, slot: Slot, start: usize, out: &mut Vec<u8>) {
        if self.points.is_empty() {
            self.samples_start = start;
        }
        let (mut point, is_misspelt) = self.point(slot, start);
        if is_misspelt {
            let line = self.text.split_off(start);
            put_spelt(&line, slot.bound.unwrap_or_default(), point.place, true, &mut self.text);
            point.line = Span::new(start, self.text.len());
        }
        self.points.push(point);
        let size = self.text.len() + self.points.len() * size_of::<Point>();
        if size > MAX_HELD || !self.held.resize(self.capacity()) {
            self.pass_on(out);
        }
    }

    /// Writes what is held of it as it came, and what follows of it as it comes.
    #[cold]
    fn pass_on(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.text);
        (self.text, self.points, self.is_passed_on) = (Vec::new(), Vec::new(), true);
        self.held.force(0);
    }

    /// What is known of its sample that was written last, at `start`; and whether that has the largest bound in another spelling than the
    /// one that the official Python client takes.
    fn point(&self, slot: Slot, start: usize) -> (Point, bool) {
        let (line, hasher) = (&self.text[start..], &self.hasher);
        let is_set = self.kind == Some(MetricType::StateSet);
        let placed_by = if is_set { Some(&*self.key) } else { slot.bound };
        let (mut metric, mut place, mut place_hash, mut is_misspelt) = (0u64, None, 0, false);
        let end = for_each_label(line, |name, value| {
            let whole = &line[name.start..value.end];
            if placed_by == Some(&line[name]) {
                let value = &line[value];
                place = if is_set { Some(0.0) } else { Number::Token(value).float() };
                is_misspelt = place == Some(f64::INFINITY) && value != b"+Inf";
                // However it is spelt, where it goes out in one spelling.
                let number =
                    place.filter(|place| *place == f64::INFINITY || !respelt_by(self.kind, slot.part).is_empty());
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
        let is_plain = is_plain(self.kind);
        let point = Point {
            part: slot.part,
            target: self.target,
            ending: slot.ending,
            metric: if is_plain { series } else { metric },
            series,
            place,
            value: if is_plain { 0.0 } else { float(value) },
            time: time.map(nanoseconds),
            line: Span::new(start, self.text.len()),
        };
        (point, is_misspelt)
    }

    /// Writes it so that every reader takes it.
    fn put(&mut self, families: &mut Families, out: &mut Vec<u8>) {
        let before = families.known(&self.key).and_then(|known| known.shape);
        let mut shape = Shape::Whole;
        if before != Some(Shape::Torn) && self.is_taken() {
            out.extend_from_slice(&self.text);
        } else {
            shape = self.mend(before, families, out);
        }
        if (self.is_passed_on || !self.points.is_empty())
            && let Ok(known) = families.entry(&self.key)
        {
            known.shape = Some(shape);
        }
    }

    fn is_taken(&self) -> bool {
        are_taken(self.kind, self.is_old, &self.points)
    }

    /// Writes it in another order, or torn. What the answer has of it already, in another place, stays as it is: one that has been
    /// whole there cannot be torn here.
    #[cold]
    fn mend(&mut self, before: Option<Shape>, families: &mut Families, out: &mut Vec<u8>) -> Shape {
        put_in_order(self.kind, &mut self.points);
        let is_taken = before != Some(Shape::Torn) && self.is_taken();
        let has_one_name = self.points.iter().all(|point| point.ending.is_empty());
        if !is_taken && is_plain(self.kind) && has_one_name {
            // Its type is that of any series.
            let taken = as_series(&self.points);
            families.lose_others(&self.points, &taken);
            self.points = taken;
        } else if !is_taken && before != Some(Shape::Whole) {
            self.put_torn(families, out);
            return Shape::Torn;
        }
        out.extend_from_slice(&self.text[..self.samples_start]);
        self.points.iter().for_each(|point| out.extend_from_slice(point.line.of(&self.text)));
        Shape::Whole
    }

    /// Writes its samples by their names, each name as a family of its own.
    fn put_torn(&self, families: &mut Families, out: &mut Vec<u8>) {
        if !is_plain(self.kind) {
            let metrics: HashSet<(usize, u64)> = self.points.iter().map(|point| (point.target, point.metric)).collect();
            metrics.iter().for_each(|(target, _)| families.lost_of(*target).torn += 1);
        }
        for ending in ENDINGS {
            let points: Vec<Point> = self.points.iter().filter(|point| point.ending == ending).copied().collect();
            let taken = as_series(&points);
            families.lose_others(&points, &taken);
            if !taken.is_empty() {
                self.put_metadata(&[&self.key, ending.as_bytes()].concat(), families, out);
            }
            for point in &taken {
                let placed_by = respelt_by(self.kind, point.part);
                if put_spelt(point.line.of(&self.text), placed_by, point.place, false, out) {
                    families.lost_of(point.target).exemplars += 1;
                }
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
        // Behind samples it may not stand.
        if self.before.shape.is_some() {
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
            let own = self.kind.filter(|_| is_plain(self.kind) && name == self.key).unwrap_or_default();
            put(b"# TYPE ", own.word(Convention::OpenMetrics).as_bytes());
        }
    }
}

/// The label that Prometheus 3 spells anew in samples of this type.
fn respelt_by(kind: Option<MetricType>, part: Part) -> &'static [u8] {
    match (kind, part) {
        (Some(MetricType::Summary), Part::Value) => b"quantile",
        (Some(MetricType::Histogram), Part::Bucket) => b"le",
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

/// A time, as exact as the official Python client has it.
fn nanoseconds(token: &[u8]) -> i64 {
    const IN_A_SECOND: i64 = 1_000_000_000;
    let (whole, parts) = match memchr::memchr(b'.', token) {
        Some(point) => token.split_at(point),
        None => (token, &b""[..]),
    };
    let digits = parts.get(1..).unwrap_or_default().iter().chain(std::iter::repeat(&b'0')).take(9);
    let digits: Vec<u8> = whole.iter().chain(digits).copied().collect();
    let exact = std::str::from_utf8(&digits).ok().and_then(|digits| digits.parse().ok());
    exact.unwrap_or_else(|| (float(token) * IN_A_SECOND as f64) as i64)
}
