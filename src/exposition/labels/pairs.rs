//! The labels that are being read, and the label names of the lines or metrics before.

use super::{
    ANY, ANY_MISSPELT, ANY_ODD, ANY_QUOTED, ANY_RESERVED, ANY_UNKNOWN, IS_ODD, IS_QUOTED, KEPT_LABELS, Labels,
    METRIC_NAME, Pair, RESERVED, are_different, fingerprint,
};
use crate::exposition::bytes::{Span, is_old_label_name};

/// Labels up to which a name is looked for by going through all of them; among more, by sorting them.
const FEW: usize = 64;

/// The labels that are being read.
#[derive(Debug, Default)]
pub(in crate::exposition) struct Pairs {
    pairs: Vec<Pair>,
    known: KnownNames,
    /// Some two have one name, or one has a name that none may have.
    is_bad: bool,
}

/// The label names of the lines or metrics before, by place. Those of one family have the same ones in the same order, so
/// that most names need no look at each of their bytes.
#[derive(Debug, Default)]
pub(in crate::exposition) struct KnownNames {
    bytes: Vec<u8>,
    /// All of them are in the old character set, and behind each stands `="`.
    names: Vec<KnownName>,
}

#[derive(Debug, Clone, Copy)]
struct KnownName {
    span: Span,
    /// The length of the name and of what stands behind it.
    length: usize,
    fingerprint: u64,
    /// The first sixteen bytes of the name and of what stands behind it, and which these are, if there are fewer; and the last
    /// sixteen, if there are more.
    first: u128,
    mask: u128,
    last: u128,
}

/// What stands behind a label's name in a line.
const BEHIND_NAME: &[u8] = b"=\"";

/// Room for the names of most families: so many labels, whose names and what stands behind them have so many bytes.
const USUAL_LABELS: usize = 12;
const USUAL_LABEL_NAME: usize = 16;

/// Longer names are not kept: they are rare, and the room is.
const LONGEST_KNOWN: usize = 128;

/// How a label's name stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::exposition) enum NameKind {
    /// Without quotes, in the old character set.
    Old,
    /// Without quotes, in any.
    Any,
    /// Between quotes.
    Quoted,
}

/// A label's name, and what is known of it.
#[derive(Debug, Clone, Copy)]
pub(in crate::exposition) struct Name {
    pub span: Span,
    fingerprint: u64,
    facts: u8,
}

impl Name {
    /// Whether it is not in the old character set.
    pub(in crate::exposition) fn is_odd(self) -> bool {
        self.facts & IS_ODD != 0
    }
}

impl Pairs {
    pub(in crate::exposition) fn are_many(&self) -> bool {
        self.pairs.len() > KEPT_LABELS
    }

    /// Forgets all labels.
    pub(in crate::exposition) fn clear(&mut self) {
        self.pairs.clear();
        self.pairs.shrink_to(KEPT_LABELS);
        self.is_bad = false;
    }

    /// Forgets the labels that do not end within so many bytes of their line, their closing quotes included.
    pub(in crate::exposition) fn keep_within(&mut self, end: usize) {
        let kept = self.pairs.iter().rposition(|pair| pair.value.end() < end);
        self.pairs.truncate(kept.map_or(0, |index| index + 1));
    }

    pub(in crate::exposition) fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Where the last one's value ends.
    pub(in crate::exposition) fn last_end(&self) -> Option<usize> {
        self.pairs.last().map(|pair| pair.value.end())
    }

    /// Whether one does not stand there as it would be written.
    pub(in crate::exposition) fn is_misspelt(&self) -> bool {
        self.pairs.last().is_some_and(|pair| pair.facts & ANY_MISSPELT != 0)
    }

    /// The name at `at` in a line, if it is the one that is known at the next label's place; `="` follows it.
    #[inline(always)]
    pub(in crate::exposition) fn known_in_line(&self, line: &[u8], at: usize) -> Option<Name> {
        let known = self.known.names.get(self.pairs.len())?;
        self.known.is_at(known, line, at).then(|| Name {
            span: Span::new(at, at + known.length - BEHIND_NAME.len()),
            fingerprint: known.fingerprint,
            facts: 0,
        })
    }

    /// Copies the names of all labels, if there are some and all are known. Overwrites what was copied before.
    pub(in crate::exposition) fn copy_known(&self, to: &mut KnownNames) -> bool {
        let are_known = self.pairs.last().is_some_and(|pair| pair.facts & ANY_UNKNOWN == 0);
        if are_known {
            to.bytes.clone_from(&self.known.bytes);
            to.names.clear();
            to.names.extend_from_slice(&self.known.names[..self.pairs.len()]);
        }
        are_known
    }

    /// The place of the first label that has one of these names.
    pub(in crate::exposition) fn place_of(&self, line: &[u8], names: [&[u8]; 2]) -> Option<usize> {
        self.pairs.iter().position(|pair| names.contains(&pair.name.of(line)))
    }

    /// Where the labels' values end.
    pub(in crate::exposition) fn value_ends(&self) -> impl Iterator<Item = usize> {
        self.pairs.iter().map(|pair| pair.value.end())
    }

    /// The name that stands at this place in these bytes, read or known.
    #[inline(always)]
    pub(in crate::exposition) fn name(&mut self, bytes: &[u8], span: Span, kind: NameKind) -> Name {
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
        // Prometheus keeps the metric's own name under this label, so that it is there twice.
        self.is_bad |= name == METRIC_NAME;
        let is_reserved = name.starts_with(RESERVED);
        let is_known = !is_reserved && !is_quoted && !is_odd && self.known.note(place, name, fingerprint);
        let facts = [
            (is_quoted, IS_QUOTED | ANY_QUOTED),
            (is_odd, IS_ODD | ANY_ODD),
            (!is_known, ANY_UNKNOWN),
            (is_reserved, ANY_RESERVED),
        ];
        Name { span, fingerprint, facts: facts.into_iter().map(|(holds, fact)| if holds { fact } else { 0 }).sum() }
    }

    /// Notes that what was just read cannot be used, unless it can.
    #[inline(always)]
    pub(in crate::exposition) fn mark_unless(&mut self, is_good: bool) {
        self.is_bad |= !is_good;
    }

    /// Adds a label. `is_misspelt` says that it does not stand there as it would be written.
    #[inline(always)]
    pub(in crate::exposition) fn push(&mut self, bytes: &[u8], name: Name, value: Span, is_misspelt: bool) {
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

    pub(in crate::exposition) fn is_bad(&self) -> bool {
        self.is_bad
    }

    /// Whether the labels may stand together: no two of them have one name, and none the name under which Prometheus keeps the
    /// metric's.
    #[inline(always)]
    pub(in crate::exposition) fn are_sound(&self, bytes: &[u8]) -> bool {
        let any_quoted = self.pairs.last().is_some_and(|pair| pair.facts & ANY_QUOTED != 0);
        !self.is_bad && (!any_quoted && self.pairs.len() <= FEW || self.are_different(bytes))
    }

    /// A quoted name may have a newline or its escape: it is the same one.
    #[inline(never)]
    fn are_different(&self, bytes: &[u8]) -> bool {
        are_different(self.pairs.iter().map(|pair| pair.name_in(bytes).plain()))
    }

    /// Whether there is a label of this name, unquoted.
    pub(in crate::exposition) fn has(&self, bytes: &[u8], name: &[u8]) -> bool {
        let wanted = fingerprint(name);
        self.pairs.last().is_some_and(|pair| pair.fingerprints & wanted != 0)
            && (self.pairs.iter()).any(|pair| pair.fingerprint == wanted && pair.name.of(bytes) == name)
    }

    /// The labels, which stand in these bytes.
    pub(in crate::exposition) fn labels<'a>(&'a self, bytes: &'a [u8], has_escapes: bool) -> Labels<'a> {
        Labels { bytes, pairs: &self.pairs, has_escapes }
    }
}

impl KnownNames {
    pub(in crate::exposition) fn len(&self) -> usize {
        self.names.len()
    }

    /// The length of the name at this place and of `="` behind it.
    #[inline(always)]
    pub(in crate::exposition) fn length_of(&self, place: usize) -> usize {
        self.names[place].length
    }

    /// The length of the name at `at` in a line and of `="` behind it, if it is the one at this place.
    #[inline(always)]
    pub(in crate::exposition) fn length_at(&self, place: usize, line: &[u8], at: usize) -> Option<usize> {
        let known = &self.names[place];
        self.is_at(known, line, at).then_some(known.length)
    }

    #[inline(always)]
    fn is_at(&self, known: &KnownName, line: &[u8], at: usize) -> bool {
        let Some(first) = sixteen(line, at) else { return self.is_long_at(known, line, at) };
        first & known.mask == known.first
            && (known.length <= 16
                || (known.length <= 32 && sixteen(line, at + known.length - 16) == Some(known.last))
                || self.is_long_at(known, line, at))
    }

    #[inline(never)]
    fn is_long_at(&self, known: &KnownName, line: &[u8], at: usize) -> bool {
        let (start, end) = (known.span.range().start, known.span.end());
        line[at..].starts_with(&self.bytes[start..end + BEHIND_NAME.len()])
    }

    /// Notes the name at a place, and forgets those at later ones. Says whether it is kept.
    fn note(&mut self, place: usize, name: &[u8], fingerprint: u64) -> bool {
        if place > self.names.len() || place >= FEW || name.len() > LONGEST_KNOWN {
            return false;
        }
        self.names.truncate(place);
        let end = self.names.last().map_or(0, |known| known.span.end() + BEHIND_NAME.len());
        self.bytes.truncate(end);
        if self.bytes.capacity() == 0 {
            self.bytes.reserve(USUAL_LABELS * USUAL_LABEL_NAME);
            self.names.reserve(USUAL_LABELS);
        }
        self.bytes.extend_from_slice(name);
        let span = Span::before(self.bytes.len(), name.len());
        self.bytes.extend_from_slice(BEHIND_NAME);
        let known = &self.bytes[end..];
        let (mut first, mut mask) = ([0; 16], [0; 16]);
        let length = known.len().min(16);
        first[..length].copy_from_slice(&known[..length]);
        mask[..length].fill(0xff);
        self.names.push(KnownName {
            span,
            length: known.len(),
            fingerprint,
            first: u128::from_le_bytes(first),
            mask: u128::from_le_bytes(mask),
            last: sixteen(known, known.len() - length).unwrap_or_default(),
        });
        true
    }
}

/// Sixteen bytes from `at` on, the first of them lowest.
#[inline(always)]
fn sixteen(bytes: &[u8], at: usize) -> Option<u128> {
    Some(u128::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
