//! One sample line: is it one that Prometheus reads, and where do its parts stand?
//!
//! In: a line with its newline and, in text, without leading blanks. Out: a [`Sample`], whose parts are lent from the line, or
//! a [`Fault`]. Nothing is copied or unescaped. It is noted whether the parts stand there as they would be written: what does
//! goes out as it came.
//!
//! The grammar is Prometheus's own, as its lexers and parsers have it (`model/textparse/promlex.l`, `promparse.go`,
//! `openmetricslex.l` and `openmetricsparse.go` of release 2.42, the oldest in wide use, with the quoted names of 3.x),
//! not that of the formats' descriptions: for example the comma between two labels may be missing in text, and no blank
//! is needed between the labels and the value. What the official Python client reads besides is read, too, and written as all
//! do. What the two formats differ in is in [`Dialect`].

use std::marker::PhantomData;

use super::dialect::{Dialect, exemplar_numbers};
use super::label::{behind_label, is_alone, is_quoted_name, label_name, quoted_end, value_start};
use super::number::{is_canonical_value, is_usual_bound, plain_value_length};
use crate::exposition::bytes::{
    Span, common_prefix, is_old_metric_name, known_metric_name_end, plain_run_end, skip_blanks, word_at,
};
use crate::exposition::engine::Noting;
use crate::exposition::labels::{KnownNames, NameKind, Pairs};
use crate::exposition::model::{Convention, Exemplar, Number, Sample, Text};

/// Why a line is no sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Fault {
    /// It does not begin as one.
    Malformed,
    /// Its labels end, and they, or what follows them, are none that Prometheus takes.
    BehindLabels,
    /// It ends between quotes.
    Open,
}

/// How far a line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Extent {
    /// To its newline, or on behind it if that stands between quotes.
    Line,
    /// On behind newlines that stand between quotes.
    Joined,
    /// To its newline, wherever that stands.
    Alone,
}

/// Scans sample lines.
///
/// A sample mostly begins as the one before it did: the buckets of a histogram differ in their last label alone. So the
/// scanner keeps where the labels of the last line stand, and scans the next from the last one that both have in common.
#[derive(Debug, Default)]
pub(in super::super) struct Scanner<D> {
    labels: Set,
    exemplar: Set,
    /// The name of the family at hand, if it has no quotes: mostly the metric's name begins with it.
    family: Vec<u8>,
    /// Where the exemplar begins; 0 if there is none.
    exemplar_start: usize,
    /// Where the metric's name ends that stands before the labels; 0 if there is none.
    name_end: usize,
    /// The lines at hand are ASCII.
    is_ascii: bool,
    /// The name and the labels of the line last scanned stand there as they would be written.
    is_canonical: bool,
    /// What lines are like that differ in values alone, the first so many of them.
    shapes: [Shape; SHAPES],
    noted: usize,
    /// Which of them is noted next, and which one the last line was like, if it was like one.
    next_shape: usize,
    shape: Option<usize>,
    dialect: PhantomData<D>,
}

/// A line but for its values.
#[derive(Debug, Default)]
struct Shape {
    /// The metric's name and the brace behind it.
    head: Vec<u8>,
    names: KnownNames,
    /// The place of the label that may have to be a number.
    bound: Option<usize>,
    /// Where the values of its labels, of which there are some, end in the last line that was like it: it holds as long as
    /// the scanner's `shape` is this one.
    ends: Vec<usize>,
}

/// The longest name of a family that is kept to be looked for, in bytes.
const LONGEST_FAMILY: usize = 256;

/// The closing quote behind a label's value, and the comma or brace behind that.
const BEHIND_VALUE: usize = 2;

/// The labels that may have to be numbers: of a bucket and of a quantile.
const BOUNDS: [&[u8]; 2] = [b"le", b"quantile"];

/// The lines that are noted: a histogram's `_bucket`, `_sum` and `_count`, and another.
const SHAPES: usize = 4;

/// Labels between braces.
#[derive(Debug, Default)]
struct Set {
    pairs: Pairs,
    /// The metric's name among them, quoted.
    metric: Option<Span>,
    /// That name does not stand there as it would be written.
    is_metric_misspelt: bool,
}

/// Where labels end.
#[derive(Debug, Clone, Copy)]
struct LabelsEnd {
    /// The last label, or the name.
    last: usize,
    /// The closing brace.
    close: usize,
    /// All of them stand there as they would be written.
    is_canonical: bool,
}

impl<D: Dialect> Scanner<D> {
    /// Says whether the lines that follow are ASCII, all of them.
    pub(in super::super) fn expect_ascii(&mut self, is_ascii: bool) {
        self.is_ascii = is_ascii;
    }

    /// Scans a line that begins with `common` bytes of the one scanned before, in which there was no fault, or which ended
    /// between quotes behind them.
    #[inline(always)]
    pub(in super::super) fn scan<'a>(
        &'a mut self,
        line: &'a [u8],
        common: usize,
        extent: Extent,
    ) -> Result<Sample<'a>, Fault> {
        self.shape = None;
        if common == 0 {
            self.forget();
        } else {
            self.labels.keep_within(common);
            if common <= self.exemplar_start || self.exemplar.pairs.is_bad() {
                self.exemplar_start = 0;
                self.exemplar.forget();
            } else {
                self.exemplar.keep_within(common);
            }
        }
        let text = &line[..line.len() - 1];
        let known_name_end = std::mem::take(&mut self.name_end);
        let (mut at, mut is_canonical) = (0, true);
        if text.first() != Some(&b'{') {
            self.name_end = if known_name_end > 0 && common > known_name_end {
                known_name_end
            } else {
                known_metric_name_end(text, &self.family).ok_or(Fault::Malformed)?
            };
            at = D::part_start(text, self.name_end);
            is_canonical = at == self.name_end;
        }
        let mut head_end = self.name_end;
        if text.get(at) == Some(&b'{') {
            let end = self.labels.scan::<D>(text, at + 1, self.name_end == 0, self.is_ascii)?;
            is_canonical &= end.is_canonical;
            (head_end, at) = (end.last, end.close + 1);
        } else {
            // Blanks may stand before the value.
            (at, is_canonical) = (self.name_end, true);
        }
        self.finish(line, known_name_end, common, (head_end, at), is_canonical, extent)
    }

    /// As [`Self::scan`], for a line that was put together, which need not be fast.
    #[inline(never)]
    pub(in super::super) fn scan_held<'a>(
        &'a mut self,
        line: &'a [u8],
        common: usize,
        extent: Extent,
    ) -> Result<Sample<'a>, Fault> {
        self.is_ascii = false;
        self.scan(line, common, extent)
    }

    /// Reads what follows the labels.
    #[inline(always)]
    fn finish<'a>(
        &'a mut self,
        line: &'a [u8],
        known_name_end: usize,
        common: usize,
        (head_end, at): (usize, usize),
        is_canonical: bool,
        extent: Extent,
    ) -> Result<Sample<'a>, Fault> {
        let is_joined = extent == Extent::Joined;
        let text = &line[..line.len() - 1];
        let name = match (self.name_end, self.labels.metric) {
            (0, None) => return Err(Fault::BehindLabels),
            (0, Some(metric)) => Text::Quoted(metric.of(text)),
            (end, _) => Text::Plain(&text[..end]),
        };
        let numbers = D::numbers(text, at).ok_or(Fault::BehindLabels)?;
        if !self.labels.pairs.are_sound(text) || (is_joined && !D::IS_LENIENT && text[..at].contains(&b'\n')) {
            return Err(Fault::BehindLabels);
        }
        // Of a line that was begun before, nobody has been told.
        let has_same_name =
            !is_joined && self.name_end > 0 && self.name_end == known_name_end && common >= known_name_end;
        self.is_canonical = is_canonical && !is_joined;
        let (exemplar, is_exemplar_canonical) = match numbers.exemplar {
            None => (Exemplar::Absent, true),
            Some(start) => {
                self.exemplar_start = start;
                self.exemplar.exemplar::<D>(text, start, extent)?
            }
        };
        Ok(Sample {
            name,
            has_same_name,
            labels: self.labels.pairs.labels(text, true),
            value: Number::Token(numbers.value.of(text)),
            time: numbers.time,
            exemplar,
            line,
            series_end: at,
            head: (is_canonical && !is_joined).then(|| &text[..head_end]),
            tail: (numbers.are_canonical && is_exemplar_canonical).then(|| &line[at..]),
        })
    }

    /// The length of the line at the beginning of `chunk`, its newline included, and where its labels end, if it differs from
    /// one of those noted by [`Self::note`] in values alone, and stands there as it would be written, without a timestamp or an
    /// exemplar. `before` is the line that stands before it.
    #[inline(always)]
    pub(in super::super) fn repeated(&mut self, chunk: &[u8], before: &[u8]) -> Option<(usize, usize)> {
        if !self.is_ascii {
            return None;
        }
        let (shape, before) = match self.shape.take() {
            Some(shape) if chunk.starts_with(&self.shapes[shape].head) => (shape, before),
            _ => (self.shapes[..self.noted].iter().position(|shape| chunk.starts_with(&shape.head))?, &b""[..]),
        };
        let Shape { head, names, bound, ends } = &mut self.shapes[shape];
        // What a line has in common with one like it need not be looked at again. Mostly it is no label, or many.
        let first_value = head.len() + names.length_of(0);
        let common = match word_at(chunk, first_value) {
            Some(word) if word_at(before, first_value) == Some(word) => common_prefix(before, chunk),
            _ => 0,
        };
        let (mut place, mut at) = (0, head.len());
        while let Some(end) = ends.get(place).filter(|end| **end + BEHIND_VALUE <= common) {
            at = end + BEHIND_VALUE;
            place += 1;
        }
        while let Some(value_end) = ends.get_mut(place) {
            let value = at + names.length_at(place, chunk, at)?;
            *value_end = plain_run_end(chunk, value);
            if *bound == Some(place) && !is_usual_bound(&chunk[value..*value_end]) {
                return None;
            }
            at = *value_end + BEHIND_VALUE;
            place += 1;
            let end = if place == names.len() { *b"\"}" } else { *b"\"," };
            if chunk.get(at - BEHIND_VALUE..at)? != end {
                return None;
            }
        }
        let value = at + 1;
        let end = value + plain_value_length(chunk.get(value..)?)?;
        if chunk[at] != b' ' || chunk.get(end) != Some(&b'\n') {
            return None;
        }
        self.shape = Some(shape);
        Some((end + 1, at - 1))
    }

    /// Does with the line last scanned what those want who were told of it.
    #[inline(always)]
    pub(in super::super) fn heed(&mut self, noting: Noting, line: &[u8]) {
        match noting {
            Noting::Note => self.note(line),
            Noting::Keep => {}
            Noting::Forget => self.forget_shapes(),
        }
    }

    /// Notes the line last scanned, if another one may be told to differ from it in values alone.
    fn note(&mut self, line: &[u8]) {
        if !self.is_canonical || self.name_end == 0 {
            return;
        }
        let shape = &mut self.shapes[self.next_shape];
        if self.labels.pairs.copy_known(&mut shape.names) {
            shape.head.clear();
            shape.head.extend_from_slice(&line[..=self.name_end]);
            shape.bound = self.labels.pairs.place_of(line, BOUNDS);
            shape.ends.clear();
            shape.ends.extend(self.labels.pairs.value_ends());
            self.shape = Some(self.next_shape);
            self.noted = SHAPES.min(self.noted.max(self.next_shape + 1));
            self.next_shape = (self.next_shape + 1) % SHAPES;
        }
    }

    /// The name of the family whose metadata came last, if it has no quotes.
    pub(in super::super) fn family(&self) -> &[u8] {
        &self.family
    }

    /// Turns to the family of whose metadata there is a line. Forgets what was noted: what is written of a sample may be
    /// another by now.
    pub(in super::super) fn turn_to(&mut self, family: Text<'_>) {
        self.family.clear();
        if let Text::Plain(name @ [_, ..]) = family
            && name.len() <= LONGEST_FAMILY
        {
            self.family.extend_from_slice(name);
        }
        self.forget_shapes();
    }

    /// Forgets what was noted.
    pub(super) fn forget_shapes(&mut self) {
        (self.noted, self.next_shape, self.shape) = (0, 0, None);
    }

    /// Gives back at once what unusually many labels took: the next line is scanned from its beginning then.
    pub(in super::super) fn release(&mut self) {
        if self.labels.pairs.are_many() || self.exemplar.pairs.are_many() {
            self.forget();
        }
    }

    /// Forgets the line last read: the next one is scanned from its beginning.
    fn forget(&mut self) {
        self.labels.forget();
        self.exemplar.forget();
        self.exemplar_start = 0;
        self.name_end = 0;
    }
}

impl Set {
    fn forget(&mut self) {
        self.pairs.clear();
        self.metric = None;
        self.is_metric_misspelt = false;
    }

    /// Scans the exemplar that starts at `start`, to the end of the line; says whether it stands there as it would be written.
    fn exemplar<'a, D: Dialect>(
        &'a mut self,
        text: &'a [u8],
        start: usize,
        extent: Extent,
    ) -> Result<(Exemplar<'a>, bool), Fault> {
        let Some(labels_start) = D::exemplar_labels(text, start) else {
            return Ok((Exemplar::Malformed, false));
        };
        let end = match self.scan::<D>(text, labels_start, false, false) {
            Ok(end) => end,
            Err(Fault::Open) if extent != Extent::Alone => return Err(Fault::Open),
            Err(Fault::Malformed) if extent == Extent::Joined => return Err(Fault::Malformed),
            Err(_) => return Ok((Exemplar::Malformed, false)),
        };
        // In text there is no place for one. Prometheus reads a comma before the brace from 3.0 on only. At a NUL, which its
        // lexer passes over in a sample's label value, it stops here.
        let within = &text[start..end.close];
        let is_odd = D::CONVENTION == Convention::Text
            || within.ends_with(b",")
            || within.iter().any(|byte| matches!(byte, 0 | b'\n'));
        let Some((value, time)) =
            exemplar_numbers(text, end.close + 1).filter(|_| !is_odd && self.pairs.are_sound(text))
        else {
            return Ok((Exemplar::Malformed, false));
        };
        let value = value.of(text);
        let exemplar = Exemplar::Found { labels: self.pairs.labels(text, true), value: Number::Token(value), time };
        let is_canonical = (end.is_canonical || end.close == labels_start) && is_canonical_value(value);
        Ok((exemplar, is_canonical))
    }

    fn keep_within(&mut self, end: usize) {
        self.pairs.keep_within(end);
        if self.metric.is_some_and(|metric| metric.end() >= end) {
            (self.metric, self.is_metric_misspelt) = (None, false);
        }
    }

    /// Scans the labels from `at` on that have the names of the line before and are spelt as nearly all are: where the last of
    /// them ends.
    #[inline(always)]
    fn known_labels(&mut self, line: &[u8], mut at: usize) -> Option<usize> {
        let mut last = None;
        while let Some(name) = self.pairs.known_in_line(line, at)
            && let value = name.span.end() + 2
            && let end = plain_run_end(line, value)
            && let Some([b'"', next @ (b',' | b'}'), ..]) = line.get(end..)
        {
            self.pairs.push(line, name, Span::new(value, end), false);
            last = Some(end + 1);
            at = end + 2;
            if *next == b'}' {
                break;
            }
        }
        last
    }

    /// Scans the labels that are not known, from `start` behind the opening brace on. The metric's name may stand among them
    /// if `has_metric`, quoted and without a value.
    ///
    /// It is longer than others because it is one loop over one grammar, in which each part goes on from where the last ended.
    #[inline(always)]
    fn scan<D: Dialect>(
        &mut self,
        line: &[u8],
        start: usize,
        has_metric: bool,
        is_ascii: bool,
    ) -> Result<LabelsEnd, Fault> {
        // Behind a name that was kept, another byte may stand now, with which it is a label's.
        if let Some(metric) = self.metric
            && self.pairs.last_end() < Some(metric.end())
            && !is_alone(line, metric.end() + 1)
        {
            (self.metric, self.is_metric_misspelt) = (None, false);
        }
        let mut last = start;
        let (mut at, mut is_plain) = match self.pairs.last_end().max(self.metric.map(Span::end)) {
            Some(end) => {
                last = end + 1;
                behind_label::<D>(line, last)?
            }
            None => {
                let mut at = skip_blanks(line, start);
                if D::IS_LENIENT && line.get(at) == Some(&b',') {
                    at = skip_blanks(line, at + 1);
                }
                (at, at == start)
            }
        };
        if is_plain
            && is_ascii
            && let Some(end) = self.known_labels(line, at)
        {
            last = end;
            (at, is_plain) = behind_label::<D>(line, last)?;
        }
        while line.get(at) != Some(&b'}') {
            let (name, value_start) = match self.pairs.known_in_line(line, at) {
                Some(name) => (name, name.span.end() + 2),
                None => {
                    let (span, kind) = label_name(line, at)?;
                    let outer_end = span.end() + usize::from(kind == NameKind::Quoted);
                    if kind == NameKind::Quoted && is_alone(line, outer_end) {
                        if !has_metric || self.metric.is_some() {
                            return Err(Fault::Malformed);
                        }
                        self.metric = Some(span);
                        last = outer_end;
                        let is_first = is_plain && self.pairs.len() == 0;
                        (at, is_plain) = behind_label::<D>(line, last)?;
                        self.is_metric_misspelt = !is_first || is_old_metric_name(span.of(line));
                        self.pairs.mark_unless(is_quoted_name(span.of(line)));
                        continue;
                    }
                    let name = self.pairs.name(line, span, kind);
                    self.pairs.mark_unless(kind != NameKind::Quoted || is_quoted_name(span.of(line)));
                    is_plain &= name.is_odd() == (kind == NameKind::Quoted);
                    let value_start = value_start(line, outer_end)?;
                    is_plain &= value_start == outer_end + 2;
                    (name, value_start)
                }
            };
            let value = quoted_end(line, value_start)?;
            self.pairs.mark_unless(value.is_readable);
            let span = Span::new(value_start, value.end);
            self.pairs.push(line, name, span, !(is_plain && value.is_plain));
            last = value.end + 1;
            (at, is_plain) = behind_label::<D>(line, last)?;
        }
        let is_empty = last == start;
        Ok(LabelsEnd {
            last,
            close: at,
            is_canonical: at == last && !is_empty && !self.pairs.is_misspelt() && !self.is_metric_misspelt,
        })
    }
}
