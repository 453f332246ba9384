//! The metadata of a family whose turn it is not yet.

use crate::exposition::engine::Facts;
use crate::exposition::families::Full;
use crate::exposition::model::{Fact, MetricType, Text};
use crate::exposition::room::{Held, Room};

/// The metadata of one family, held until its first sample tells under which name it is to be written, or until it is
/// another family's turn.
#[derive(Debug, Default)]
pub(super) struct PendingMetadata {
    /// The family's name, decoded.
    pub(super) name: Vec<u8>,
    pub(super) facts: Vec<PendingFact>,
    /// The bytes of their texts.
    length: usize,
    held: Held,
}

#[derive(Debug)]
pub(super) enum PendingFact {
    /// `is_quoted` says that a quote has an escape in it.
    Help {
        text: Vec<u8>,
        is_quoted: bool,
    },
    Type(MetricType),
    Unit(Vec<u8>),
}

impl PendingMetadata {
    pub(super) fn new(room: &Room) -> Self {
        Self { held: room.hold(), ..Self::default() }
    }

    pub(super) fn is_of(&self, name: &[u8]) -> bool {
        self.name == name
    }

    /// Holds a fact, unless there is one of its kind.
    pub(super) fn add(&mut self, fact: Fact<'_>) -> Result<(), Full> {
        use PendingFact::{Help, Type, Unit};
        let is_there = |held: &PendingFact| {
            matches!((held, fact), (Help { .. }, Fact::Help(_)) | (Type(_), Fact::Type(_)) | (Unit(_), Fact::Unit(_)))
        };
        if self.facts.iter().any(is_there) {
            return Ok(());
        }
        let (fact, length) = match fact {
            Fact::Help(text) => {
                let is_quoted = matches!(text, Text::Quoted(_));
                (Help { text: text.bytes().to_vec(), is_quoted }, text.bytes().len())
            }
            Fact::Type(kind) => (Type(kind), 0),
            Fact::Unit(unit) => (Unit(unit.to_vec()), unit.len()),
        };
        if !self.held.resize(self.length + length) {
            return Err(Full);
        }
        self.length += length;
        self.facts.push(fact);
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.name.clear();
        self.facts.clear();
        self.length = 0;
        self.held.force(0);
    }
}

/// What is held of a family, told.
pub(super) fn told(held: &[PendingFact]) -> Facts<'_> {
    let mut facts = held.iter().map(|fact| match fact {
        PendingFact::Help { text, is_quoted: true } => Fact::Help(Text::Quoted(text)),
        PendingFact::Help { text, .. } => Fact::Help(Text::Help(text)),
        PendingFact::Type(kind) => Fact::Type(*kind),
        PendingFact::Unit(unit) => Fact::Unit(unit),
    });
    [facts.next(), facts.next(), facts.next()]
}
