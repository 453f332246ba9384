//! The names by which labels are written: escaped where the scraper needs it, and renamed where they are among those added.

use std::ops::Range;
use std::sync::Arc;

use super::{ANY_ODD, ANY_RESERVED, IS_ODD, IS_QUOTED, KEPT_LABELS, LabelSet, Labels, Pair, RESERVED};
use crate::exposition::bytes::{Span, escape_name, is_old_label_name};
use crate::exposition::format::Escaping;
use crate::exposition::model::Text;

/// What Prometheus puts before the name of a label that collides with one it adds
/// (`model.ExportedLabelPrefix` in prometheus/common).
const EXPORTED: &[u8] = b"exported_";

/// Room for given names that is kept for the next sample, in bytes.
const KEPT_GIVEN: usize = 16 << 10;

/// Settles by which names labels are written.
#[derive(Debug)]
pub(in crate::exposition) struct Resolver {
    added: Arc<LabelSet>,
    escaping: Escaping,
    /// The names of the labels last resolved, where one of them is not written as it came.
    given: Vec<u8>,
    names: Vec<Span>,
    /// The names with which those labels came, what holds of each, and whether others are added: mostly the next ones have the
    /// same names.
    own: Vec<u8>,
    own_names: Vec<(Span, u8)>,
    renames: bool,
}

/// By which names labels are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::exposition) enum Names {
    /// By those with which they came.
    Own,
    /// By those that the resolver gives.
    Given,
}

impl Resolver {
    pub(in crate::exposition) fn new(added: Arc<LabelSet>, escaping: Escaping) -> Self {
        Self {
            added,
            escaping,
            given: Vec::new(),
            names: Vec::new(),
            own: Vec::new(),
            own_names: Vec::new(),
            renames: false,
        }
    }

    pub(in crate::exposition) fn escaping(&self) -> Escaping {
        self.escaping
    }

    /// Settles the names of labels that may stand together, behind which those are written that are added.
    #[inline(always)]
    pub(in crate::exposition) fn resolve(&mut self, labels: &Labels<'_>) -> Names {
        if labels.fingerprints() & self.added.fingerprints == 0 && !labels.any(ANY_ODD | ANY_RESERVED) {
            return Names::Own;
        }
        self.give(labels, true)
    }

    /// As [`Self::resolve`], for labels to which none are added.
    pub(in crate::exposition) fn resolve_alone(&mut self, labels: &Labels<'_>) -> Names {
        if !labels.any(ANY_ODD | ANY_RESERVED) {
            return Names::Own;
        }
        self.give(labels, false)
    }

    #[inline(never)]
    fn give(&mut self, labels: &Labels<'_>, renames: bool) -> Names {
        if self.have_last_names(labels) && self.renames == renames {
            return Names::Given;
        }
        let is_escaped = labels.any(ANY_ODD) && self.escaping == Escaping::Underscores;
        let collides = |pair: &Pair| {
            pair.fingerprint & self.added.fingerprints != 0 && self.added.contains(pair.name.of(labels.bytes))
        };
        if !(is_escaped || labels.any(ANY_RESERVED) || renames && labels.pairs.iter().any(collides)) {
            return Names::Own;
        }
        self.given.clear();
        self.names.clear();
        self.own.clear();
        self.own_names.clear();
        self.renames = renames;
        for pair in labels.pairs {
            let name = pair.name.of(labels.bytes);
            self.own.extend_from_slice(name);
            self.own_names.push((Span::before(self.own.len(), name.len()), pair.facts & (IS_ODD | IS_QUOTED)));
            let start = self.given.len();
            match (pair.facts & IS_ODD != 0 && is_escaped, pair.name_in(labels.bytes)) {
                (true, name) => escape_name(&name.plain(), is_old_label_name, &mut self.given),
                (false, name) => name.put_plain(&mut self.given),
            }
            self.names.push(Span::new(start, self.given.len()));
        }
        self.rename(labels, is_escaped);
        Names::Given
    }

    /// Whether these have the names of those that were last given others.
    fn have_last_names(&self, labels: &Labels<'_>) -> bool {
        self.own_names.len() == labels.pairs.len()
            && (labels.pairs.iter().zip(&self.own_names)).all(|(pair, (own, facts))| {
                pair.facts & (IS_ODD | IS_QUOTED) == *facts && pair.name.of(labels.bytes) == own.of(&self.own)
            })
    }

    /// Gives another name to those that were escaped and are another label's by now; to those that Prometheus keeps for itself; and
    /// then to those that are among the added ones.
    fn rename(&mut self, labels: &Labels<'_>, is_escaped: bool) {
        for index in 0..self.names.len() {
            let is_reserved = self.names[index].of(&self.given).starts_with(RESERVED);
            if is_reserved || is_escaped && self.is_taken_by_another(labels, index) {
                self.export(index);
            }
        }
        for index in 0..self.names.len() {
            if self.renames && self.added.contains(self.names[index].of(&self.given)) {
                self.export(index);
            }
        }
    }

    /// Puts the prefix before a name, as often as it takes.
    fn export(&mut self, index: usize) {
        let start = self.given.len();
        self.given.extend_from_within(self.names[index].range());
        loop {
            self.given.splice(start..start, EXPORTED.iter().copied());
            let name = &self.given[start..];
            let is_taken = self.names.iter().any(|other| other.of(&self.given) == name);
            if !(is_taken || self.renames && self.added.contains(name)) {
                break;
            }
        }
        self.names[index] = Span::new(start, self.given.len());
    }

    /// Whether another label has the name that this one was given: one that needed no escaping keeps its own, and of others the
    /// first by its own name, so that it does not matter in which order they stand.
    fn is_taken_by_another(&self, labels: &Labels<'_>, index: usize) -> bool {
        let pair = labels.pairs[index];
        if pair.facts & IS_ODD == 0 {
            return false;
        }
        let (own, name) = (pair.name_in(labels.bytes).plain(), self.names[index].of(&self.given));
        let goes_first = |other: &Pair| other.facts & IS_ODD == 0 || other.name_in(labels.bytes).plain() < own;
        let mut others = self.names.iter().zip(labels.pairs).enumerate();
        others.any(|(at, (other, pair))| at != index && other.of(&self.given) == name && goes_first(pair))
    }

    /// Gives back what unusually many labels took.
    pub(in crate::exposition) fn release(&mut self) {
        if self.given.capacity() > KEPT_GIVEN || self.names.capacity() > KEPT_LABELS {
            (self.given, self.names, self.own, self.own_names) = Default::default();
        }
    }

    /// Where those of the labels last resolved have their names that are given others, none of which is quoted; and those.
    pub(in crate::exposition) fn renamed<'a>(
        &'a self,
        labels: &Labels<'a>,
    ) -> impl Iterator<Item = (Range<usize>, &'a [u8])> {
        let bytes = labels.bytes;
        labels.pairs.iter().zip(&self.names).filter_map(move |(pair, given)| {
            let given = given.of(&self.given);
            (pair.name.of(bytes) != given).then(|| (pair.name.range(), given))
        })
    }

    /// The names and the values of labels, as they are to be written.
    pub(in crate::exposition) fn iter<'a>(
        &'a self,
        labels: &Labels<'a>,
        names: Names,
    ) -> impl Iterator<Item = (Text<'a>, Text<'a>)> {
        labels.iter().enumerate().map(move |(index, (own, value))| match names {
            Names::Own => (own, value),
            Names::Given => (Text::Plain(self.names[index].of(&self.given)), value),
        })
    }
}
