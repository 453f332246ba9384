//! Labels: those of a sample or a metric, those that are added, and the names that both have in the end.
//!
//! In: where the labels stand in their line or message. Out: whether they may stand together, and the names by which they
//! are written: escaped for a scraper that reads the old character set only, and renamed as Prometheus does
//! (`exported_`) where they are among those added. Nothing is copied where all names stay.

use std::fmt;
use std::sync::Arc;

use super::bytes::{Span, escape_name, is_old_label_name};
use super::format::Escaping;
use super::model::Text;

/// What Prometheus puts before the name of a label that collides with one it adds
/// (`model.ExportedLabelPrefix` in prometheus/common).
const EXPORTED: &[u8] = b"exported_";

/// The label under which Prometheus keeps a metric's name.
const METRIC_NAME: &[u8] = b"__name__";

/// Labels up to which a name is looked for by going through all of them; among more, by sorting them.
const FEW: usize = 64;

/// Room for labels and for given names that is kept for the next sample, in numbers and in bytes.
const KEPT_LABELS: usize = 1 << 10;
const KEPT_GIVEN: usize = 16 << 10;

/// Labels to add to samples, in the order in which they are written.
///
/// ```
/// use qpext::exposition::LabelSet;
///
/// let labels = LabelSet::new([("service_name", "sklearn-iris"), ("revision_name", "sklearn-iris-00001")])?;
/// assert_eq!(labels.to_string(), r#"service_name="sklearn-iris",revision_name="sklearn-iris-00001""#);
/// # Ok::<(), qpext::exposition::LabelError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct LabelSet {
    pairs: Vec<(Box<str>, Box<str>)>,
    /// A name that no sample's own label may have either.
    reserved: Option<Box<str>>,
    fingerprints: u64,
}

/// A label that cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// The name is none that a label may have.
    #[error("{0:?} is no label name: expected letters, digits and underscores, not starting with a digit")]
    Name(String),
    /// Two labels have the same name.
    #[error("the label {0:?} is given twice")]
    Duplicate(String),
}

impl LabelSet {
    /// A set of these names and values.
    ///
    /// # Errors
    ///
    /// A name that no label may have (`[a-zA-Z_][a-zA-Z0-9_]*`, and not `__name__`), or one that comes twice.
    pub fn new<N, V>(labels: impl IntoIterator<Item = (N, V)>) -> Result<Self, LabelError>
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let mut set = Self::default();
        for (name, value) in labels {
            let (name, value) = (name.as_ref(), value.as_ref());
            if !is_old_label_name(name.as_bytes()) || name.as_bytes() == METRIC_NAME {
                return Err(LabelError::Name(name.to_owned()));
            }
            if set.contains(name.as_bytes()) {
                return Err(LabelError::Duplicate(name.to_owned()));
            }
            set.fingerprints |= fingerprint(name.as_bytes());
            set.pairs.push((name.into(), value.into()));
        }
        Ok(set)
    }

    /// The same labels, and a name that is added to other targets' samples: a sample's own label of that name is renamed as
    /// if it collided, so that no target passes for another.
    #[must_use]
    pub fn reserving(mut self, name: &str) -> Self {
        self.fingerprints |= fingerprint(name.as_bytes());
        self.reserved = Some(name.into());
        self
    }

    /// Whether there is nothing to add.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The names and the values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (&**name, &**value))
    }

    fn contains(&self, name: &[u8]) -> bool {
        let mut names = self.pairs.iter().map(|(name, _)| name).chain(&self.reserved);
        names.any(|own| own.as_bytes() == name)
    }
}

/// Writes the labels as they stand between the braces of a sample.
impl fmt::Display for LabelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.iter().enumerate() {
            let mut quoted = Vec::new();
            Text::Plain(value.as_bytes()).put_quoted(&mut quoted);
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{name}=\"{}\"", String::from_utf8_lossy(&quoted))?;
        }
        Ok(())
    }
}

/// One bit of 64, told by the name's length and its first and last bytes: two equal names always share one, two different
/// names seldom do.
const fn fingerprint(name: &[u8]) -> u64 {
    match name {
        [] => 1,
        [only] => 1 << ((5 + *only as usize * 4) % 64),
        [first, .., last] => 1 << ((name.len() * 5 + *first as usize * 3 + *last as usize) % 64),
    }
}

/// The labels of a sample or a metric.
#[derive(Debug, Clone, Copy)]
pub(super) struct Labels<'a> {
    /// The line or message in which they stand.
    bytes: &'a [u8],
    pairs: &'a [Pair],
    /// They stand in a line, in which their values have escapes.
    has_escapes: bool,
}

/// Where a label stands.
#[derive(Debug, Clone, Copy)]
struct Pair {
    name: Span,
    value: Span,
    fingerprint: u64,
    /// The fingerprints of its name and of all before it: no bit in common means no name in common.
    fingerprints: u64,
    /// What holds of it, and of it or any before it.
    facts: u8,
}

/// The name stands between quotes.
const IS_QUOTED: u8 = 1;
/// The name is not in the old character set.
const IS_ODD: u8 = 1 << 1;
/// Of this label or one before it the same holds.
const ANY_QUOTED: u8 = 1 << 2;
const ANY_ODD: u8 = 1 << 3;
/// This label, or one before it, does not stand there as it would be written.
const ANY_MISSPELT: u8 = 1 << 4;
/// What goes on to hold.
const ANY: u8 = ANY_QUOTED | ANY_ODD | ANY_MISSPELT;

impl<'a> Labels<'a> {
    #[inline(always)]
    fn fingerprints(&self) -> u64 {
        self.pairs.last().map_or(0, |pair| pair.fingerprints)
    }

    #[inline(always)]
    fn any(&self, fact: u8) -> bool {
        self.pairs.last().is_some_and(|pair| pair.facts & fact != 0)
    }

    pub(super) fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether they take more room than is kept for the next ones.
    pub(super) fn are_many(&self) -> bool {
        self.pairs.len() > KEPT_LABELS
    }

    /// Whether a name stands between quotes.
    pub(super) fn has_quoted_name(&self) -> bool {
        self.any(ANY_QUOTED)
    }

    /// Each label's name and value, as they came.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Text<'a>, Text<'a>)> {
        let Self { bytes, pairs, has_escapes } = *self;
        pairs.iter().map(move |pair| {
            let value = pair.value.of(bytes);
            let value = if has_escapes { Text::Quoted(value) } else { Text::Plain(value) };
            (pair.name_in(bytes), value)
        })
    }
}

impl Pair {
    fn name_in(self, bytes: &[u8]) -> Text<'_> {
        let name = self.name.of(bytes);
        if self.facts & IS_QUOTED != 0 { Text::Quoted(name) } else { Text::Plain(name) }
    }
}

/// The labels that are being read.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    pairs: Vec<Pair>,
    known: KnownNames,
    /// Some two have one name, or one has a name that none may have.
    is_bad: bool,
}

/// The label names of the lines or metrics before, by place. Those of one family have the same ones in the same order, so
/// that most names need no look at each of their bytes.
#[derive(Debug, Default)]
pub(super) struct KnownNames {
    bytes: Vec<u8>,
    /// All of them are in the old character set, and behind each stands `="`.
    names: Vec<KnownName>,
}

#[derive(Debug, Clone, Copy)]
struct KnownName {
    span: Span,
    fingerprint: u64,
    /// The name and what stands behind it, in the low bytes, and which these are; all of them are 0 if it is longer.
    word: u128,
    mask: u128,
}

/// What stands behind a label's name in a line.
const BEHIND_NAME: &[u8] = b"=\"";

/// Longer names are not kept: they are rare, and the room is.
const LONGEST_KNOWN: usize = 128;

/// How a label's name stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameKind {
    /// Without quotes, in the old character set.
    Old,
    /// Without quotes, in any.
    Any,
    /// Between quotes.
    Quoted,
}

/// A label's name, and what is known of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name {
    pub span: Span,
    fingerprint: u64,
    facts: u8,
}

impl Name {
    /// Whether it is not in the old character set.
    pub(super) fn is_odd(self) -> bool {
        self.facts & IS_ODD != 0
    }
}

impl Pairs {
    pub(super) fn are_many(&self) -> bool {
        self.pairs.len() > KEPT_LABELS
    }

    /// Forgets all labels.
    pub(super) fn clear(&mut self) {
        self.pairs.clear();
        self.pairs.shrink_to(KEPT_LABELS);
        self.is_bad = false;
    }

    /// Forgets the labels that do not end within so many bytes of their line, their closing quotes included.
    pub(super) fn keep_within(&mut self, end: usize) {
        let kept = self.pairs.iter().rposition(|pair| pair.value.end() < end);
        self.pairs.truncate(kept.map_or(0, |index| index + 1));
    }

    pub(super) fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Where the last one's value ends.
    pub(super) fn last_end(&self) -> Option<usize> {
        self.pairs.last().map(|pair| pair.value.end())
    }

    /// Whether one does not stand there as it would be written.
    pub(super) fn is_misspelt(&self) -> bool {
        self.pairs.last().is_some_and(|pair| pair.facts & ANY_MISSPELT != 0)
    }

    /// The name at `at` in a line, if it is the one that is known at the next label's place; `="` follows it.
    #[inline(always)]
    pub(super) fn known_in_line(&self, line: &[u8], at: usize) -> Option<Name> {
        let known = self.known.names.get(self.pairs.len())?;
        let length = known.span.end() - known.span.range().start;
        self.known.is_at(known, line, at).then(|| Name {
            span: Span::new(at, at + length),
            fingerprint: known.fingerprint,
            facts: 0,
        })
    }

    /// Copies the names of all labels, which stand in these bytes, if there are some and all are known.
    pub(super) fn copy_known(&self, bytes: &[u8], to: &mut KnownNames) -> bool {
        let known = &self.known;
        let are_known = self.pairs.len() <= known.names.len()
            && !self.pairs.is_empty()
            && (self.pairs.iter().zip(&known.names)).all(|(pair, known)| {
                pair.fingerprint == known.fingerprint && pair.name.of(bytes) == known.span.of(&self.known.bytes)
            });
        if are_known {
            to.bytes.clone_from(&known.bytes);
            to.names.clear();
            to.names.extend_from_slice(&known.names[..self.pairs.len()]);
        }
        are_known
    }

    /// The name that stands at this place in these bytes, read or known.
    #[inline(always)]
    pub(super) fn name(&mut self, bytes: &[u8], span: Span, kind: NameKind) -> Name {
        let name = span.of(bytes);
        let place = self.pairs.len();
        if let Some(known) = self.known.names.get(place)
            && kind != NameKind::Quoted
            && known.span.of(&self.known.bytes) == name
        {
            return Name { span, fingerprint: known.fingerprint, facts: 0 };
        }
        let is_quoted = kind == NameKind::Quoted;
        let is_odd = kind != NameKind::Old && !is_old_label_name(name);
        let fingerprint = fingerprint(name);
        if name == METRIC_NAME {
            // Prometheus keeps the metric's own name under this label, so that it is there twice.
            self.is_bad = true;
        } else if !is_quoted && !is_odd {
            self.known.note(place, name, fingerprint);
        }
        let facts = [(is_quoted, IS_QUOTED | ANY_QUOTED), (is_odd, IS_ODD | ANY_ODD)];
        Name { span, fingerprint, facts: facts.into_iter().map(|(holds, fact)| if holds { fact } else { 0 }).sum() }
    }

    /// Notes that what was just read cannot be used, unless it can.
    #[inline(always)]
    pub(super) fn mark_unless(&mut self, is_good: bool) {
        self.is_bad |= !is_good;
    }

    /// Adds a label. `is_misspelt` says that it does not stand there as it would be written.
    #[inline(always)]
    pub(super) fn push(&mut self, bytes: &[u8], name: Name, value: Span, is_misspelt: bool) {
        let (fingerprints, facts) = match self.pairs.last() {
            Some(before) => (before.fingerprints, before.facts & ANY),
            None => (0, 0),
        };
        if fingerprints & name.fingerprint != 0 {
            self.look_for_twin(bytes, name);
        }
        self.pairs.push(Pair {
            name: name.span,
            value,
            fingerprint: name.fingerprint,
            fingerprints: fingerprints | name.fingerprint,
            facts: facts | name.facts | if is_misspelt { ANY_MISSPELT } else { 0 },
        });
    }

    #[inline(never)]
    fn look_for_twin(&mut self, bytes: &[u8], name: Name) {
        self.is_bad |= self.pairs.len() <= FEW && self.has_twin_of(bytes, name);
    }

    fn has_twin_of(&self, bytes: &[u8], name: Name) -> bool {
        let text = name.span.of(bytes);
        let mut others = self.pairs.iter();
        others.any(|pair| pair.fingerprint == name.fingerprint && pair.name.of(bytes) == text)
    }

    pub(super) fn is_bad(&self) -> bool {
        self.is_bad
    }

    /// Whether the labels may stand together: no two of them have one name, and none the name under which Prometheus keeps the
    /// metric's.
    #[inline(always)]
    pub(super) fn are_sound(&self, bytes: &[u8]) -> bool {
        let any_quoted = self.pairs.last().is_some_and(|pair| pair.facts & ANY_QUOTED != 0);
        !self.is_bad && (!any_quoted && self.pairs.len() <= FEW || self.are_different(bytes))
    }

    /// A quoted name may have a newline or its escape: it is the same one.
    #[inline(never)]
    fn are_different(&self, bytes: &[u8]) -> bool {
        are_different(self.pairs.iter().map(|pair| pair.name_in(bytes).plain()))
    }

    /// Whether there is a label of this name, unquoted.
    pub(super) fn has(&self, bytes: &[u8], name: &[u8]) -> bool {
        let wanted = fingerprint(name);
        self.pairs.last().is_some_and(|pair| pair.fingerprints & wanted != 0)
            && (self.pairs.iter()).any(|pair| pair.fingerprint == wanted && pair.name.of(bytes) == name)
    }

    /// The labels, which stand in these bytes.
    pub(super) fn labels<'a>(&'a self, bytes: &'a [u8], has_escapes: bool) -> Labels<'a> {
        Labels { bytes, pairs: &self.pairs, has_escapes }
    }
}

impl KnownNames {
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// The length of the name at `at` in a line and of `="` behind it, if it is the one at this place.
    #[inline(always)]
    pub(super) fn length_at(&self, place: usize, line: &[u8], at: usize) -> Option<usize> {
        let known = &self.names[place];
        self.is_at(known, line, at).then(|| known.span.end() - known.span.range().start + BEHIND_NAME.len())
    }

    #[inline(always)]
    fn is_at(&self, known: &KnownName, line: &[u8], at: usize) -> bool {
        match line.get(at..at + 16) {
            // Sixteen bytes at once.
            Some(word) if known.mask != 0 => {
                u128::from_le_bytes(word.try_into().expect("there are sixteen bytes")) & known.mask == known.word
            }
            _ => self.is_long_at(known, line, at),
        }
    }

    #[inline(never)]
    fn is_long_at(&self, known: &KnownName, line: &[u8], at: usize) -> bool {
        let (start, end) = (known.span.range().start, known.span.end());
        line[at..].starts_with(&self.bytes[start..end + BEHIND_NAME.len()])
    }

    fn note(&mut self, place: usize, name: &[u8], fingerprint: u64) {
        if place > self.names.len() || place >= FEW || name.len() > LONGEST_KNOWN {
            return;
        }
        self.names.truncate(place);
        let end = self.names.last().map_or(0, |known| known.span.end() + BEHIND_NAME.len());
        self.bytes.truncate(end);
        self.bytes.extend_from_slice(name);
        let span = Span::before(self.bytes.len(), name.len());
        self.bytes.extend_from_slice(BEHIND_NAME);
        let (mut word, mut mask) = ([0; 16], [0; 16]);
        let known = &self.bytes[end..];
        if let (Some(word), Some(mask)) = (word.get_mut(..known.len()), mask.get_mut(..known.len())) {
            word.copy_from_slice(known);
            mask.fill(0xff);
        }
        self.names.push(KnownName {
            span,
            fingerprint,
            word: u128::from_le_bytes(word),
            mask: u128::from_le_bytes(mask),
        });
    }
}

/// Whether no two names are the same.
fn are_different<T: AsRef<[u8]> + Ord>(names: impl Iterator<Item = T>) -> bool {
    let mut sorted: Vec<T> = names.collect();
    sorted.sort_unstable();
    sorted.windows(2).all(|pair| pair[0] != pair[1])
}

/// Two labels would have one name, or one the name under which Prometheus keeps the metric's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ambiguous;

/// Settles by which names labels are written.
#[derive(Debug)]
pub(super) struct Resolver {
    added: Arc<LabelSet>,
    escaping: Escaping,
    /// The names of the labels last resolved, where one of them is not written as it came.
    given: Vec<u8>,
    names: Vec<Span>,
}

/// By which names labels are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// By those with which they came.
    Own,
    /// By those that the resolver gives.
    Given,
}

impl Resolver {
    pub(super) fn new(added: Arc<LabelSet>, escaping: Escaping) -> Self {
        Self { added, escaping, given: Vec::new(), names: Vec::new() }
    }

    pub(super) fn escaping(&self) -> Escaping {
        self.escaping
    }

    /// Settles the names of labels that may stand together, behind which those are written that are added.
    #[inline(always)]
    pub(super) fn resolve(&mut self, labels: &Labels<'_>) -> Result<Names, Ambiguous> {
        if labels.fingerprints() & self.added.fingerprints == 0 && !labels.any(ANY_ODD) {
            return Ok(Names::Own);
        }
        self.give(labels, true)
    }

    /// As [`Self::resolve`], for labels to which none are added.
    pub(super) fn resolve_alone(&mut self, labels: &Labels<'_>) -> Result<Names, Ambiguous> {
        if !labels.any(ANY_ODD) {
            return Ok(Names::Own);
        }
        self.give(labels, false)
    }

    #[inline(never)]
    fn give(&mut self, labels: &Labels<'_>, renames: bool) -> Result<Names, Ambiguous> {
        let is_escaped = labels.any(ANY_ODD) && self.escaping == Escaping::Underscores;
        let collides = |pair: &Pair| {
            pair.fingerprint & self.added.fingerprints != 0 && self.added.contains(pair.name.of(labels.bytes))
        };
        if !(is_escaped || renames && labels.pairs.iter().any(collides)) {
            return Ok(Names::Own);
        }
        self.given.clear();
        self.names.clear();
        for pair in labels.pairs {
            let start = self.given.len();
            match (pair.facts & IS_ODD != 0 && is_escaped, pair.name_in(labels.bytes)) {
                (true, name) => escape_name(&name.plain(), is_old_label_name, &mut self.given),
                (false, name) => name.put_plain(&mut self.given),
            }
            self.names.push(Span::new(start, self.given.len()));
        }
        if is_escaped && !self.are_unambiguous() {
            return Err(Ambiguous);
        }
        if renames {
            self.rename();
        }
        Ok(Names::Given)
    }

    fn are_unambiguous(&self) -> bool {
        let names = || self.names.iter().map(|span| span.of(&self.given));
        !names().any(|name| name == METRIC_NAME) && are_different(names())
    }

    /// Gives those names that are among the added ones another, as often as it takes.
    fn rename(&mut self) {
        for index in 0..self.names.len() {
            let own = self.names[index];
            if !self.added.contains(own.of(&self.given)) {
                continue;
            }
            let start = self.given.len();
            self.given.extend_from_within(own.range());
            loop {
                self.given.splice(start..start, EXPORTED.iter().copied());
                let name = &self.given[start..];
                let is_taken = self.names.iter().any(|other| other.of(&self.given) == name);
                if !is_taken && !self.added.contains(name) {
                    break;
                }
            }
            self.names[index] = Span::new(start, self.given.len());
        }
    }

    /// Gives back what unusually many labels took.
    pub(super) fn release(&mut self) {
        if self.given.capacity() > KEPT_GIVEN || self.names.capacity() > KEPT_LABELS {
            (self.given, self.names) = Default::default();
        }
    }

    /// The names and the values of labels, as they are to be written.
    pub(super) fn iter<'a>(&'a self, labels: &Labels<'a>, names: Names) -> impl Iterator<Item = (Text<'a>, Text<'a>)> {
        labels.iter().enumerate().map(move |(index, (own, value))| match names {
            Names::Own => (own, value),
            Names::Given => (Text::Plain(self.names[index].of(&self.given)), value),
        })
    }
}
