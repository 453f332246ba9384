//! The metadata of a family whose turn it is not yet.

use std::collections::HashMap;

use crate::exposition::bytes::Span;
use crate::exposition::engine::Facts;
use crate::exposition::families::{ENTRY_COST, Full};
use crate::exposition::model::{Fact, MetricType, Text};
use crate::exposition::room::{Held, Room};

/// Room that is kept for the texts of the next family, in bytes.
const KEPT_CAPACITY: usize = 1 << 10;

/// The metadata of one family, held until its first sample tells under which name it is to be written, or until it is
/// another family's turn.
#[derive(Debug, Default)]
pub(super) struct PendingMetadata {
    pub(super) family: PendingFamily,
    held: Held,
}

/// The metadata of families of which no sample has come, though others of other families have: strict readers of OpenMetrics want
/// it in front of its samples, which may follow yet.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    by_name: HashMap<Vec<u8>, PendingFamily>,
    /// The number of those that were ever there.
    count: usize,
    bytes: usize,
    held: Held,
}

/// What the metadata of a family says.
#[derive(Debug, Default)]
pub(super) struct PendingFamily {
    /// The family's name, decoded.
    pub(super) name: Vec<u8>,
    pub(super) is_old_name: bool,
    /// A sample of it had it written.
    pub(super) is_told: bool,
    /// Its place among those that are deferred.
    place: usize,
    facts: Vec<PendingFact>,
    /// Their texts.
    texts: Vec<u8>,
}

#[derive(Debug)]
enum PendingFact {
    /// `is_quoted` says that a quote has an escape in it.
    Help {
        text: Span,
        is_quoted: bool,
    },
    Type(MetricType),
    Unit(Span),
}

impl PendingMetadata {
    pub(super) fn new(room: &Room) -> Self {
        Self { family: PendingFamily::default(), held: room.hold() }
    }

    /// Takes out what is held.
    pub(super) fn take(&mut self) -> PendingFamily {
        self.held.force(0);
        std::mem::take(&mut self.family)
    }

    /// Holds this again.
    pub(super) fn put_back(&mut self, family: PendingFamily) {
        self.family = family;
        self.held.force(self.family.texts.capacity());
    }

    pub(super) fn is_of(&self, name: &[u8]) -> bool {
        self.family.name == name
    }

    /// Holds a fact, unless there is one of its kind.
    pub(super) fn add(&mut self, fact: Fact<'_>) -> Result<(), Full> {
        use PendingFact::{Help, Type, Unit};
        let is_there = |held: &PendingFact| {
            matches!((held, fact), (Help { .. }, Fact::Help(_)) | (Type(_), Fact::Type(_)) | (Unit(_), Fact::Unit(_)))
        };
        if self.family.facts.iter().any(is_there) {
            return Ok(());
        }
        let text = match fact {
            Fact::Help(text) => text.bytes(),
            Fact::Type(_) => b"",
            Fact::Unit(unit) => unit,
        };
        let Self { family: PendingFamily { facts, texts, is_told, .. }, held } = self;
        *is_told = false;
        if !held.extend(texts, text) {
            return Err(Full);
        }
        let text = Span::before(texts.len(), text.len());
        facts.push(match fact {
            Fact::Help(help) => Help { text, is_quoted: matches!(help, Text::Quoted(_)) },
            Fact::Type(kind) => Type(kind),
            Fact::Unit(_) => Unit(text),
        });
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.family.name.clear();
        self.family.is_told = false;
        self.family.facts.clear();
        self.held.clear(&mut self.family.texts, KEPT_CAPACITY);
    }
}

impl Deferred {
    pub(super) fn new(room: &Room) -> Self {
        Self { held: room.hold(), ..Self::default() }
    }

    /// Keeps it. There is no room for it if it is given back.
    pub(super) fn add(&mut self, mut family: PendingFamily) -> Option<PendingFamily> {
        family.texts.shrink_to_fit();
        let bytes = self.bytes + family.cost();
        if !self.held.resize(bytes) {
            return Some(family);
        }
        self.bytes = bytes;
        family.place = self.count;
        self.count += 1;
        self.by_name.insert(family.name.clone(), family);
        None
    }

    /// Takes out the one of this name.
    pub(super) fn take(&mut self, name: &[u8]) -> Option<PendingFamily> {
        if self.by_name.is_empty() {
            return None;
        }
        let family = self.by_name.remove(name)?;
        self.bytes -= family.cost();
        self.held.force(self.bytes);
        Some(family)
    }

    /// Takes out all of them, in their order.
    pub(super) fn take_all(&mut self) -> Vec<PendingFamily> {
        let mut families: Vec<PendingFamily> = std::mem::take(&mut self.by_name).into_values().collect();
        families.sort_by_key(|family| family.place);
        self.bytes = 0;
        self.held.force(0);
        families
    }
}

impl PendingFamily {
    /// What it takes, with its place in a table.
    fn cost(&self) -> usize {
        2 * self.name.len() + self.texts.len() + ENTRY_COST + self.facts.len() * size_of::<PendingFact>()
    }

    /// What is held, told.
    pub(super) fn told(&self) -> Facts<'_> {
        let mut facts = self.facts.iter().map(|fact| match fact {
            PendingFact::Help { text, is_quoted: true } => Fact::Help(Text::Quoted(text.of(&self.texts))),
            PendingFact::Help { text, .. } => Fact::Help(Text::Help(text.of(&self.texts))),
            PendingFact::Type(kind) => Fact::Type(*kind),
            PendingFact::Unit(unit) => Fact::Unit(unit.of(&self.texts)),
        });
        [facts.next(), facts.next(), facts.next()]
    }
}
