//! The labels of a metric, and the names that they are given.
//!
//! In: the `LabelPair` messages of one metric. Out: a verdict, and where a name must change its new one: escaped for a
//! reader of the old character set only, and renamed where it is among the labels that are added (the rule of
//! `write_renamed` in `output.rs`). Nothing is copied for a metric whose names stay.

use super::schema::check_text;
use super::wire::{Fields, Malformed, Value};
use crate::exposition::chars::label_name_end;
use crate::exposition::format::Escaping;
use crate::exposition::labels::{EXPORTED, LabelSet};
use crate::exposition::names::escape_label_name;
use crate::exposition::sample::{METRIC_NAME, fingerprint};
use crate::exposition::span::Span;

/// Labels up to which a name is looked for by going through all of them; among more, by sorting them.
const FEW_LABELS: usize = 64;

/// Room for labels that is kept for the next metric.
const KEPT_LABELS: usize = 1 << 10;

/// Room for given names that is kept for the next metric, in bytes.
const KEPT_GIVEN: usize = 16 << 10;

/// The labels of the metric last read.
#[derive(Debug, Default)]
pub(super) struct Labels {
    labels: Vec<Label>,
    known: KnownNames,
    /// The fingerprints of all their names: no bit in common means no name in common.
    fingerprints: u64,
    /// Some name has to be escaped.
    needs_escape: bool,
    /// Escaping that are not their own.
    given: Vec<u8>,
    /// Where the names stand that were given instead of those that are added.
    renamed: Vec<Span>,
    /// The labels in the order of their names, if they are many.
    sorted: Vec<u32>,
}

/// Where a label stands in its metric.
#[derive(Debug, Clone, Copy)]
struct Label {
    name: Name,
    value: Span,
    fingerprint: u64,
    /// The name that it goes by, if that is not its name.
    renamed: Option<Span>,
}

/// Where a name stands.
#[derive(Debug, Clone, Copy)]
enum Name {
    /// In the metric.
    Own(Span),
    /// Among the names that are given.
    Escaped(Span),
}

/// The label names of the metrics before, by place. A family's metrics have the same ones in the same order, so that most
/// names need no look at each of their bytes.
#[derive(Debug, Default)]
struct KnownNames {
    bytes: Vec<u8>,
    /// Where each name stands, and its fingerprint. All of them are in the old character set.
    names: Vec<(Span, u64)>,
}

impl KnownNames {
    /// Longer names are not kept: they are rare, and the room is.
    const LONGEST: usize = 128;

    /// The fingerprint of the name at this place, if it is the one that is known there.
    #[inline(always)]
    fn fingerprint(&self, place: usize, name: &[u8]) -> Option<u64> {
        let (span, fingerprint) = self.names.get(place)?;
        (span.of(&self.bytes) == name).then_some(*fingerprint)
    }

    fn note(&mut self, place: usize, name: &[u8], fingerprint: u64) {
        if place > self.names.len() || place >= FEW_LABELS || name.len() > Self::LONGEST {
            return;
        }
        self.names.truncate(place);
        self.bytes.truncate(self.names.last().map_or(0, |(span, _)| span.end()));
        self.bytes.extend_from_slice(name);
        self.names
            .push((Span::before(self.bytes.len(), name.len()), fingerprint));
    }
}

impl Labels {
    /// Forgets the labels of the metric before.
    pub(super) fn clear(&mut self) {
        self.labels.clear();
        self.labels.shrink_to(KEPT_LABELS);
        self.fingerprints = 0;
        self.needs_escape = false;
        self.given.clear();
        self.given.shrink_to(KEPT_GIVEN);
        self.renamed.clear();
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.labels.len()
    }

    /// Reads a label whose message ends at `end` in its metric.
    #[inline(always)]
    pub(super) fn add(&mut self, pair: &[u8], end: usize, names: Escaping) -> Result<(), Malformed> {
        let (name, value) = match plain_pair(pair) {
            Some((name, value)) => {
                check_text(value)?;
                // Behind the name stand the value's key, its length and the value.
                let name_end = end - value.len() - 2;
                (Span::before(name_end, name.len()), Span::before(end, value.len()))
            }
            None => read_pair(pair, end)?,
        };
        // It stands in the metric, at whose `end` the pair ends.
        let in_pair = |at: usize| pair.len() + at - end;
        let text = &pair[in_pair(name.range().start)..in_pair(name.end())];
        let fingerprint = match self.known.fingerprint(self.labels.len(), text) {
            Some(fingerprint) => fingerprint,
            None => self.check_name(text, names)?,
        };
        self.fingerprints |= fingerprint;
        self.labels.push(Label {
            name: Name::Own(name),
            value,
            fingerprint,
            renamed: None,
        });
        Ok(())
    }

    fn check_name(&mut self, name: &[u8], names: Escaping) -> Result<u64, Malformed> {
        if label_name_end(name, 0) != Some(name.len()) {
            if name.is_empty() {
                return Err(Malformed);
            }
            check_text(name)?;
            self.needs_escape |= names == Escaping::Underscores;
            return Ok(fingerprint(name));
        }
        if name == METRIC_NAME {
            return Err(Malformed);
        }
        let fingerprint = fingerprint(name);
        self.known.note(self.labels.len(), name, fingerprint);
        Ok(fingerprint)
    }

    /// Whether a label of this name is among them: the name it came with, or since [`settle`](Self::settle) its escaped one.
    pub(super) fn has(&self, metric: &[u8], name: &[u8]) -> bool {
        let fingerprint = fingerprint(name);
        self.fingerprints & fingerprint != 0
            && (self.labels.iter()).any(|label| label.fingerprint == fingerprint && self.name_of(label, metric) == name)
    }

    /// Gives the names that have to change; returns whether one does.
    #[inline(always)]
    pub(super) fn settle(&mut self, metric: &[u8], added: &LabelSet) -> Result<bool, Malformed> {
        if self.needs_escape {
            self.escape(metric)?;
        }
        if self.has_duplicates(metric) {
            return Err(Malformed);
        }
        let collides = self.fingerprints & added.fingerprints() != 0
            && self
                .labels
                .iter()
                .any(|label| added.contains(self.name_of(label, metric)));
        if collides {
            self.rename(metric, added);
        }
        Ok(self.needs_escape || collides)
    }

    /// Each label's name, as it goes by, and its value.
    pub(super) fn iter<'a>(&'a self, metric: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.labels.iter().map(move |label| {
            let name = match label.renamed {
                Some(renamed) => renamed.of(&self.given),
                None => self.name_of(label, metric),
            };
            (name, label.value.of(metric))
        })
    }

    /// A label's name before it is renamed.
    fn name_of<'a>(&'a self, label: &Label, metric: &'a [u8]) -> &'a [u8] {
        match label.name {
            Name::Own(span) => span.of(metric),
            Name::Escaped(span) => span.of(&self.given),
        }
    }

    fn escape(&mut self, metric: &[u8]) -> Result<(), Malformed> {
        for label in &mut self.labels {
            let Name::Own(span) = label.name else { continue };
            let name = span.of(metric);
            if label_name_end(name, 0) == Some(name.len()) {
                continue;
            }
            let start = self.given.len();
            escape_label_name(std::str::from_utf8(name).map_err(|_| Malformed)?, &mut self.given);
            if &self.given[start..] == METRIC_NAME {
                return Err(Malformed);
            }
            label.name = Name::Escaped(Span::before(self.given.len(), self.given.len() - start));
            label.fingerprint = fingerprint(&self.given[start..]);
            self.fingerprints |= label.fingerprint;
        }
        Ok(())
    }

    /// Whether two labels have one name. Sorts them if they are many.
    fn has_duplicates(&mut self, metric: &[u8]) -> bool {
        if self.labels.len() > FEW_LABELS {
            self.sort(metric);
            let name = |index: u32| self.name_of(&self.labels[index as usize], metric);
            return self.sorted.windows(2).any(|pair| name(pair[0]) == name(pair[1]));
        }
        let mut fingerprints = 0;
        for (index, label) in self.labels.iter().enumerate() {
            if fingerprints & label.fingerprint != 0 {
                let name = self.name_of(label, metric);
                let mut earlier = self.labels[..index].iter();
                if earlier.any(|other| other.fingerprint == label.fingerprint && self.name_of(other, metric) == name) {
                    return true;
                }
            }
            fingerprints |= label.fingerprint;
        }
        false
    }

    fn sort(&mut self, metric: &[u8]) {
        let mut sorted = std::mem::take(&mut self.sorted);
        sorted.clear();
        sorted.shrink_to(KEPT_LABELS);
        sorted.extend(0..self.labels.len() as u32);
        sorted.sort_unstable_by_key(|index| self.name_of(&self.labels[*index as usize], metric));
        self.sorted = sorted;
    }

    /// Renames the labels whose names are among those added. Duplicates must have been looked for.
    fn rename(&mut self, metric: &[u8], added: &LabelSet) {
        for index in 0..self.labels.len() {
            let label = self.labels[index];
            if !added.contains(self.name_of(&label, metric)) {
                continue;
            }
            let start = self.given.len();
            match label.name {
                Name::Own(span) => self.given.extend_from_slice(span.of(metric)),
                Name::Escaped(span) => self.given.extend_from_within(span.range()),
            }
            loop {
                self.given.splice(start..start, EXPORTED.iter().copied());
                if !self.is_taken(&self.given[start..], metric, added) {
                    break;
                }
            }
            let renamed = Span::before(self.given.len(), self.given.len() - start);
            self.labels[index].renamed = Some(renamed);
            self.renamed.push(renamed);
        }
    }

    /// Whether a label goes by this name: one that is added, one of the metric, or one that was renamed before.
    fn is_taken(&self, name: &[u8], metric: &[u8], added: &LabelSet) -> bool {
        let is_own = if self.labels.len() > FEW_LABELS {
            let by_name = |index: &u32| self.name_of(&self.labels[*index as usize], metric);
            self.sorted.binary_search_by_key(&name, by_name).is_ok()
        } else {
            self.has(metric, name)
        };
        added.contains(name) || is_own || self.renamed.iter().any(|span| span.of(&self.given) == name)
    }
}

/// The name and the value of a label that is written as nearly all are: name first, both short, nothing else.
#[inline(always)]
fn plain_pair(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let [NAME_KEY, name_length @ ..0x80, rest @ ..] = pair else {
        return None;
    };
    let (name, rest) = rest.split_at_checked(usize::from(*name_length))?;
    match rest {
        [VALUE_KEY, length @ ..0x80, value @ ..] if value.len() == usize::from(*length) => Some((name, value)),
        _ => None,
    }
}

/// The keys of a label's fields: their numbers, and that bytes follow.
const NAME_KEY: u8 = 1 << 3 | 2;
const VALUE_KEY: u8 = 2 << 3 | 2;

/// Where the name and the value of any label stand, in the metric in which its message ends at `end`.
fn read_pair(pair: &[u8], end: usize) -> Result<(Span, Span), Malformed> {
    let mut name = None;
    let mut value = Span::default();
    let mut fields = Fields::of(pair);
    while let Some(field) = fields.next() {
        let field = field?;
        let field_end = end - fields.remaining();
        match (field.number, field.value) {
            (1, Value::Bytes(text)) => {
                // Some readers look at each that comes, though only the last one counts.
                if text.is_empty() {
                    return Err(Malformed);
                }
                check_text(text)?;
                name = Some(Span::before(field_end, text.len()));
            }
            (2, Value::Bytes(text)) => {
                check_text(text)?;
                value = Span::before(field_end, text.len());
            }
            (1 | 2, _) => return Err(Malformed),
            _ => {}
        }
    }
    Ok((name.ok_or(Malformed)?, value))
}
