//! The metric families of one answer: which metadata it already holds, and what the target being read says of them.
//!
//! This is the only state that grows with what targets send, and so it has a bound.

use std::cell::Cell;
use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::bytes::{Span, shown};
use super::engine::Lost;
use super::lines::{HeldFamily, Point};
use super::model::{Convention, ENDINGS, MetricType, Part};
use super::progress::DropReason;
use super::room::{Held, Room};

/// Room for the family names of one target, in bytes, each counted with [`ENTRY_COST`]. It holds 20,000 families with
/// names of 40 bytes; the busiest exporters have some thousands. Past it the samples of further families are dropped:
/// somebody is making up names, and the sidecar must outlive that.
const MAX_BYTES: usize = 4 << 20;

/// Room for those of all targets of an answer. It is shared out, so that one target that makes up names takes none of
/// another's; of eight answers at once it is half of what a sidecar is usually allowed.
const MAX_BYTES_IN_ALL: usize = 16 << 20;

/// What a family costs beside its name, which counts twice: its entry and its place in the table, both of which have as many
/// free ones again when they have just grown, as the buffer of names has.
pub(super) const ENTRY_COST: usize = 120;

/// Families that most answers have: the table need not grow for them.
const USUAL: usize = 224;

/// A name's usual length, in bytes.
pub(super) const USUAL_NAME: usize = 40;

/// Conflicts that are told by name, and the bytes of a name that are shown.
const NAMED_CONFLICTS: usize = 10;
pub(super) const SHOWN: usize = 200;

/// There is no room for the name of another family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl From<Full> for DropReason {
    fn from(_: Full) -> Self {
        Self::NoRoom
    }
}

/// What is known of one metric family.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known {
    /// The answer has its `# HELP`.
    pub has_help: bool,
    /// The answer has its `# TYPE`.
    pub has_type: bool,
    /// The type that the answer gives it.
    kind: Option<MetricType>,
    /// The answer has its `# UNIT`.
    pub has_unit: bool,
    /// How the answer has its samples, where a writer held them.
    pub shape: Option<Shape>,
    /// The answer has samples of it (or had to drop them), so that `# TYPE` comes too late.
    pub has_samples: bool,
    /// The last target that sent a sample of it.
    sampled_by: Option<u32>,
    /// The last target that sent a sample of it which the filter dropped.
    filtered_by: Option<u32>,
    /// The type a target gave it, and which target did.
    declared: Option<(u32, MetricType)>,
    /// The last target that gave it a type that cannot be read.
    unread_by: Option<u32>,
    /// The last target whose type for it was compared with the answer's, or became that.
    compared_for: Option<u32>,
}

/// How the samples of a family stand in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// As samples of the family.
    Whole,
    /// By their names, each name as a family of its own.
    Torn,
}

impl Known {
    /// Notes the type that the family has in this target's body, in the target's own words if `is_declared`. It becomes
    /// the answer's if that has none. Returns both if it is, for the first time with this target, another than the
    /// answer's is in the answer's words.
    fn settle_type(&mut self, target: u32, kind: MetricType, is_declared: bool, to: Convention) -> Option<Types> {
        let Some(first) = self.kind else {
            self.kind = Some(kind);
            self.compared_for = Some(target);
            return None;
        };
        if !is_declared || self.compared_for.replace(target) == Some(target) || first == kind {
            return None;
        }
        let types = Types { first: first.word(to), second: kind.word(to) };
        (types.first != types.second).then_some(types)
    }
}

/// Two types of one family, as the answer's format calls them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Types {
    /// The one that the answer has.
    pub first: &'static str,
    /// The other one.
    pub second: &'static str,
}

/// A family to which two targets gave two types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Its name, as a person may be shown it.
    pub family: String,
    /// Both types.
    pub types: Types,
    /// The index of the target that gave it the second one.
    pub target: usize,
}

/// The metric families of one answer.
#[derive(Debug)]
pub struct Families {
    by_name: ByName,
    /// Room for the names of each target.
    max_bytes: usize,
    /// What the names take that each target came up with. Each has a little for itself, whatever the others take.
    names: Vec<FamilyNames>,
    room: Room,
    /// The target being read.
    target: u32,
    conflicts: u64,
    named_conflicts: Vec<Conflict>,
    type_line: TypeLine,
    /// The family with which a body was paused.
    handed_on: Option<Box<HeldFamily>>,
    /// What each target lost of families that several have.
    lost: Vec<Lost>,
}

/// The last `# TYPE` line of the answer. To Prometheus 3 all samples up to the next one are of that type, whatever their names:
/// it tells whether `le` and `quantile` are written as numbers (`textparse/promparse.go`), and what is a histogram.
#[derive(Debug, Default)]
struct TypeLine {
    name: Vec<u8>,
    kind: Option<MetricType>,
    target: u32,
    /// The lines so far.
    count: u64,
}

/// What is known of families, by their names.
#[derive(Debug)]
struct ByName {
    /// The index of each in `families`.
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    families: Vec<(Span, Known)>,
    /// Their names.
    bytes: Vec<u8>,
    /// The one found last, which mostly is the next one, too: so a name is hashed once for a family, not for each of its lines.
    last: Cell<usize>,
}

/// What the names of one target take.
#[derive(Debug)]
struct FamilyNames {
    bytes: usize,
    held: Held,
}

/// Those of an answer of one target.
impl Default for Families {
    fn default() -> Self {
        Self::of(1, &Room::default())
    }
}

impl Families {
    /// Those of an answer of so many targets, with what is more than a little out of this room.
    #[must_use]
    pub fn of(targets: usize, room: &Room) -> Self {
        Self {
            by_name: ByName::default(),
            max_bytes: MAX_BYTES.min(MAX_BYTES_IN_ALL / targets.max(1)),
            names: Vec::new(),
            room: room.clone(),
            target: 0,
            conflicts: 0,
            named_conflicts: Vec::new(),
            type_line: TypeLine::default(),
            handed_on: None,
            lost: Vec::new(),
        }
    }

    /// Says that what follows comes from the target with this index. What another one said of a family's type does not
    /// tell which samples of this one belong to it; what the answer already holds stays known.
    pub fn turn_to(&mut self, target: usize) {
        self.target = u32::try_from(target).expect("an answer has a handful of targets");
    }

    /// The target that is being read.
    pub(super) fn target(&self) -> usize {
        self.target as usize
    }

    /// Keeps a family that is held, because another body goes on, which may have the same.
    pub(super) fn hand_on(&mut self, family: HeldFamily) {
        self.handed_on = Some(Box::new(family));
    }

    /// Takes out the one that is kept.
    pub(super) fn take_handed_on(&mut self) -> Option<HeldFamily> {
        self.handed_on.take().map(|family| *family)
    }

    /// What this target lost of such families, to be added to.
    pub(super) fn lost_of(&mut self, target: usize) -> &mut Lost {
        if self.lost.len() <= target {
            self.lost.resize(target + 1, Lost::default());
        }
        &mut self.lost[target]
    }

    /// Counts as malformed what was held of a family and is not among what is left of it.
    pub(super) fn lose_others(&mut self, held: &[Point], left: &[Point]) {
        held.iter().for_each(|point| self.lost_of(point.target).malformed += 1);
        left.iter().for_each(|point| self.lost_of(point.target).malformed -= 1);
    }

    /// Takes out what the target being read lost of such families.
    pub(super) fn take_lost(&mut self) -> Lost {
        std::mem::take(self.lost_of(self.target as usize))
    }

    /// Notes a `# TYPE` line of the answer.
    pub(super) fn note_type_line(&mut self, name: &[u8], kind: MetricType) {
        let line = &mut self.type_line;
        line.name.clear();
        line.name.extend_from_slice(name);
        (line.kind, line.target, line.count) = (Some(kind), self.target, line.count + 1);
    }

    /// The number of `# TYPE` lines so far.
    pub(super) fn type_lines(&self) -> u64 {
        self.type_line.count
    }

    /// Whether samples that follow are read as of this family and type, or as of none if the family has none.
    pub(super) fn is_read_as(&self, name: &[u8], kind: Option<MetricType>) -> bool {
        let TypeLine { name: last, kind: open, target, .. } = &self.type_line;
        match kind {
            Some(_) => *open == kind && last == name,
            // Within one body they would be read so anywhere.
            None => *target == self.target || !open.is_some_and(has_bounds),
        }
    }

    /// Whether a sample of this name stands within a histogram or a summary, from whose name it takes its own.
    pub(super) fn stands_within(&self, name: &[u8]) -> bool {
        let TypeLine { name: last, kind, target, .. } = &self.type_line;
        *target == self.target
            && kind.is_some_and(has_bounds)
            && name.strip_prefix(last.as_slice()).is_some_and(|rest| rest.starts_with(b"_"))
    }

    /// How often a target gave a family another type than the answer holds from an earlier one; each family counts once
    /// for each target. The answer keeps the first type, and the samples of both.
    ///
    /// A type is what the answer's format has a word for: in text, a gauge histogram is a histogram. It counts only where
    /// a target says it in so many words. To say nothing is no conflict, nor is an `untyped` family to which
    /// [`Untyped`](super::Untyped) gives a type; but `untyped` that stays is one against any other type, whichever came
    /// first, because one of both is not what its target meant. What another target's untyped family was turned into is
    /// in the answer and counts as its type. A family that is not written has no type.
    ///
    /// In protobuf each message has a type of its own, by which its samples are encoded, and keeps it, also where it is
    /// made of lines; it counts all the same.
    #[must_use]
    pub fn conflicts(&self) -> u64 {
        self.conflicts
    }

    /// The first ten of them.
    #[must_use]
    pub fn named_conflicts(&self) -> &[Conflict] {
        &self.named_conflicts
    }

    /// The family of this name.
    pub(super) fn entry(&mut self, name: &[u8]) -> Result<&mut Known, Full> {
        let index = match self.by_name.index_of(name) {
            Ok(index) => index,
            Err(hash) => self.add(name, hash)?,
        };
        Ok(&mut self.by_name.families[index].1)
    }

    /// Adds one of which nothing is known, if there is room for its name.
    #[inline(never)]
    fn add(&mut self, name: &[u8], hash: u64) -> Result<usize, Full> {
        let target = self.target as usize;
        if self.names.len() <= target {
            self.names.resize_with(target + 1, || FamilyNames { bytes: 0, held: self.room.hold() });
        }
        let names = &mut self.names[target];
        let bytes = names.bytes + 2 * name.len() + ENTRY_COST;
        if bytes > self.max_bytes || !names.held.resize(bytes) {
            return Err(Full);
        }
        names.bytes = bytes;
        Ok(self.by_name.add(name, hash))
    }

    /// What is known of the family of this name.
    pub(super) fn known(&self, name: &[u8]) -> Option<Known> {
        self.by_name.get(name).copied()
    }

    /// Makes the family of this name be as known as it was.
    pub(super) fn restore(&mut self, name: &[u8], known: Option<Known>) {
        if let Some(now) = self.by_name.get_mut(name) {
            *now = known.unwrap_or_default();
        }
    }

    /// Notes the type that the target being read gives a family.
    pub(super) fn declare(&mut self, name: &[u8], kind: MetricType) -> Result<(), Full> {
        let declared = Some((self.target, kind));
        self.entry(name)?.declared = declared;
        Ok(())
    }

    /// Notes a sample of this family from the target being read, if there is room for its name.
    pub(super) fn note_samples(&mut self, name: &[u8]) {
        let target = self.target;
        if let Ok(family) = self.entry(name) {
            family.has_samples = true;
            family.sampled_by = Some(target);
        }
    }

    /// Notes that the filter dropped a sample of this family from the target being read, if the family is known: one that
    /// is not has no samples by other names.
    pub(super) fn note_filtered(&mut self, name: &[u8]) {
        let target = self.target;
        if let Some(family) = self.by_name.get_mut(name) {
            family.filtered_by = Some(target);
        }
    }

    /// Whether the target being read sent a sample of this family that was written.
    pub(super) fn is_sampled(&self, name: &[u8]) -> bool {
        self.by_name.get(name).is_some_and(|family| family.sampled_by == Some(self.target))
    }

    /// Whether the filter dropped all samples of this family that the target being read sent so far.
    pub(super) fn is_filtered(&self, name: &[u8]) -> bool {
        self.by_name
            .get(name)
            .is_some_and(|family| family.filtered_by == Some(self.target) && family.sampled_by != Some(self.target))
    }

    /// Notes the type under which the target being read sends a family, if the answer has one of it: see [`Self::conflicts`].
    pub(super) fn settle_type(&mut self, name: &[u8], kind: MetricType, is_declared: bool, to: Convention) {
        let target = self.target;
        let known = self.by_name.get_mut(name).filter(|known| known.has_type);
        let types = known.and_then(|known| known.settle_type(target, kind, is_declared, to));
        let Some(types) = types else { return };
        self.conflicts += 1;
        if self.named_conflicts.len() < NAMED_CONFLICTS {
            self.named_conflicts.push(Conflict { family: shown(name, SHOWN), types, target: target as usize });
        }
    }

    /// Whether the target being read already gave this family a type, or sent a sample of it.
    pub(super) fn is_settled(&self, name: &[u8]) -> bool {
        self.by_name.get(name).is_some_and(|family| {
            let declared_by = family.declared.map(|(target, _)| target);
            [declared_by, family.sampled_by].contains(&Some(self.target))
        })
    }

    /// Whether this is another type than the target being read gave the family of this name, or comes behind its samples.
    pub(super) fn is_contradicted(&self, name: &[u8], kind: MetricType) -> bool {
        self.is_settled(name) && self.declared(name) != Some(kind)
    }

    /// The type that the target being read gave the family of this name.
    pub(super) fn declared(&self, name: &[u8]) -> Option<MetricType> {
        let (target, kind) = self.by_name.get(name)?.declared?;
        (target == self.target).then_some(kind)
    }

    /// Whether, to who reads the answer in this format, a sample of this name is a part of another family.
    pub(super) fn is_part(&self, name: &[u8], convention: Convention) -> bool {
        let kind_of = |parent: &[u8]| self.by_name.get(parent)?.kind;
        parent_of(name, convention, kind_of).is_some()
    }

    /// Whether the answer has samples, of another family, that would be parts of one of this name and type.
    pub(super) fn has_samples_of(&self, name: &[u8], kind: MetricType) -> bool {
        let is_own = |ending: &&str| kind.part(ending.as_bytes(), Convention::OpenMetrics).is_some();
        let mut names = ENDINGS.into_iter().filter(is_own).map(|ending| [name, ending.as_bytes()].concat());
        names.any(|name| self.by_name.get(&name).is_some_and(|known| known.has_samples))
    }

    /// The family to which the target being read gives the samples of this name: its name, the ending that it does not have,
    /// and its type.
    pub(super) fn family_of<'a>(
        &self,
        name: &'a [u8],
        convention: Convention,
    ) -> (&'a [u8], &'a [u8], Option<MetricType>) {
        let found = family_of(name, convention, |name| self.declared(name));
        if found.2.is_some() || convention != Convention::Text || name.ends_with(b"_created") {
            return found;
        }
        // A counter `x` with samples `x_total` is one to every reader of text, too; `x_created` is nothing of it there.
        let parent = parent_of(name, Convention::OpenMetrics, |name| self.declared(name));
        parent.map_or(found, |(parent, suffix, kind)| (parent, suffix, Some(kind)))
    }

    /// Notes that the target being read gave a family a type that cannot be read.
    pub(super) fn note_unread_type(&mut self, name: &[u8]) {
        let target = self.target;
        if let Ok(family) = self.entry(name) {
            family.unread_by = Some(target);
        }
    }

    /// Whether the target being read gave this family a type that cannot be read, or the one that this may be a part of.
    pub(super) fn has_unread_type(&self, name: &[u8]) -> bool {
        let is_unread =
            |name: &[u8]| self.by_name.get(name).is_some_and(|family| family.unread_by == Some(self.target));
        is_unread(name) || possible_parent(name).is_some_and(|(parent, _)| is_unread(parent))
    }

    /// Whether the target being read gives the samples of this name to another family.
    pub(super) fn is_declared_part(&self, name: &[u8], convention: Convention) -> bool {
        parent_of(name, convention, |name| self.declared(name)).is_some() && self.declared(name).is_none()
    }
}

/// Whether samples of this type have bounds or quantiles.
fn has_bounds(kind: MetricType) -> bool {
    matches!(kind, MetricType::Histogram | MetricType::GaugeHistogram | MetricType::Summary)
}

impl Default for ByName {
    fn default() -> Self {
        Self {
            table: HashTable::with_capacity(USUAL),
            hasher: DefaultHashBuilder::default(),
            families: Vec::with_capacity(USUAL),
            bytes: Vec::with_capacity(USUAL * USUAL_NAME),
            last: Cell::new(0),
        }
    }
}

impl ByName {
    fn get(&self, name: &[u8]) -> Option<&Known> {
        self.index_of(name).ok().map(|index| &self.families[index].1)
    }

    fn get_mut(&mut self, name: &[u8]) -> Option<&mut Known> {
        self.index_of(name).ok().map(|index| &mut self.families[index].1)
    }

    /// The index of the one of this name, or the name's hash.
    #[inline(always)]
    fn index_of(&self, name: &[u8]) -> Result<usize, u64> {
        let last = self.last.get();
        if self.has_name(last, name) { Ok(last) } else { self.find(name) }
    }

    #[inline(always)]
    fn has_name(&self, index: usize, name: &[u8]) -> bool {
        self.families.get(index).is_some_and(|family| family.0.of(&self.bytes) == name)
    }

    #[inline(never)]
    fn find(&self, name: &[u8]) -> Result<usize, u64> {
        let hash = self.hasher.hash_one(name);
        let index = *self.table.find(hash, |index| self.has_name(*index as usize, name)).ok_or(hash)? as usize;
        self.last.set(index);
        Ok(index)
    }

    /// Adds one of which nothing is known.
    fn add(&mut self, name: &[u8], hash: u64) -> usize {
        let index = self.families.len();
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        self.families.push((Span::new(start, self.bytes.len()), Known::default()));
        let (families, bytes) = (&self.families, &self.bytes);
        let hash_of = |index: &u32| self.hasher.hash_one(families[*index as usize].0.of(bytes));
        self.table.insert_unique(hash, index as u32, hash_of);
        self.last.set(index);
        index
    }
}

/// The family of a sample of this name, where those with a type are known: its name, the ending that it does not have, and its
/// type. It is the one of the sample's own name, if that has a type, or else the one that the sample is a part of.
pub(super) fn family_of(
    name: &[u8],
    convention: Convention,
    kind_of: impl Fn(&[u8]) -> Option<MetricType>,
) -> (&[u8], &[u8], Option<MetricType>) {
    if let Some(kind) = kind_of(name) {
        return (name, b"", Some(kind));
    }
    match parent_of(name, convention, kind_of) {
        Some((parent, suffix, kind)) => (parent, suffix, Some(kind)),
        None => (name, b"", None),
    }
}

/// The family, of those with a type, that a sample of this name is a part of, and the name's ending.
pub(super) fn parent_of(
    name: &[u8],
    convention: Convention,
    kind_of: impl FnOnce(&[u8]) -> Option<MetricType>,
) -> Option<(&[u8], &[u8], MetricType)> {
    let (parent, suffix) = possible_parent(name)?;
    let kind = kind_of(parent)?;
    kind.part(suffix, convention).map(|_| (parent, suffix, kind))
}

/// The family of some type in some format that a sample of this name may be a part of, and the name's ending.
pub(super) fn possible_parent(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let underscore = name.iter().rposition(|byte| *byte == b'_')?;
    let (parent, suffix) = name.split_at(underscore);
    Part::of_ending(suffix).map(|_| (parent, suffix))
}
