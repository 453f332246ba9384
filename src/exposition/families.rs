//! The metric families of one answer: which metadata it already holds, and what the target being read says of them.
//!
//! This is the only state that grows with what targets send, and so it has a bound.

use std::collections::HashMap;

use super::dialect::Dialect;
use super::metadata::MetricType;

/// Room for the family names of one target, in bytes, each counted with [`ENTRY_COST`]. It holds 20,000 families with
/// names of 40 bytes; the busiest exporters have some thousands. Past it the samples of further families are dropped:
/// somebody is making up names, and the sidecar must outlive that.
const MAX_BYTES: usize = 4 << 20;

/// What a family costs beside its name: its entry in the table, with the table's free places while it grows, and the
/// allocator's share. Measured, not computed.
const ENTRY_COST: usize = 160;

/// There is no room for the name of another family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// What is known of one metric family.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Family {
    /// The answer has its `# HELP`.
    pub has_help: bool,
    /// The answer has its `# TYPE`.
    pub has_type: bool,
    /// The type that the answer gives it.
    pub kind: Option<MetricType>,
    /// The answer has its `# UNIT`.
    pub has_unit: bool,
    /// The answer has samples of it (or had to drop them), so that `# TYPE` comes too late.
    pub has_samples: bool,
    /// The last target that sent a sample of it.
    sampled_by: Option<usize>,
    /// The type a target gave it, and which target did.
    declared: Option<(usize, MetricType)>,
}

/// The metric families of one answer.
#[derive(Debug, Default)]
pub struct Families {
    by_name: HashMap<Box<[u8]>, Family>,
    /// Room taken by the names that each target came up with.
    bytes: Vec<usize>,
    /// The target being read.
    target: usize,
}

impl Families {
    /// Says that what follows comes from the target with this index. What another one said of a family's type does not
    /// tell which samples of this one belong to it; what the answer already holds stays known.
    pub fn turn_to(&mut self, target: usize) {
        self.target = target;
    }

    /// The family of this name.
    pub(super) fn entry(&mut self, name: &[u8]) -> Result<&mut Family, Full> {
        // Looked up twice when it is new: a family is new once and old a thousand times.
        if !self.by_name.contains_key(name) {
            if self.bytes.len() <= self.target {
                self.bytes.resize(self.target + 1, 0);
            }
            let bytes = &mut self.bytes[self.target];
            let with_this = *bytes + name.len() + ENTRY_COST;
            if with_this > MAX_BYTES {
                return Err(Full);
            }
            *bytes = with_this;
            self.by_name.insert(name.into(), Family::default());
        }
        Ok(self.by_name.get_mut(name).expect("it was there, or was just put there"))
    }

    /// The family of this name, if it is known.
    pub(super) fn get_mut(&mut self, name: &[u8]) -> Option<&mut Family> {
        self.by_name.get_mut(name)
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

    /// Whether the target being read already sent a sample of this family.
    pub(super) fn sampled_by_target(&self, name: &[u8]) -> bool {
        self.by_name
            .get(name)
            .is_some_and(|family| family.sampled_by == Some(self.target))
    }

    /// The type that the target being read gave the family of this name.
    pub(super) fn declared(&self, name: &[u8]) -> Option<MetricType> {
        let (target, kind) = self.by_name.get(name)?.declared?;
        (target == self.target).then_some(kind)
    }

    /// Whether, to who reads the answer in this format, a sample of this name is a part of another family.
    pub(super) fn is_part<F: Dialect>(&self, name: &[u8]) -> bool {
        memchr::memrchr(b'_', name).is_some_and(|underscore| {
            let (parent, suffix) = name.split_at(underscore);
            let kind = self.by_name.get(parent).and_then(|family| family.kind);
            kind.is_some_and(|kind| F::has_part(kind, suffix))
        })
    }

    /// The family, declared by the target being read, that a sample of this name is a part of, and the name's ending.
    pub(super) fn declared_parent<'a, D: Dialect>(&self, name: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let underscore = memchr::memrchr(b'_', name)?;
        let (parent, suffix) = name.split_at(underscore);
        self.declared(parent)
            .is_some_and(|kind| D::has_part(kind, suffix))
            .then_some((parent, suffix))
    }
}
