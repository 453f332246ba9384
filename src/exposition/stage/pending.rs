//! The metadata of a family whose turn it is not yet.

use crate::exposition::bytes::Span;
use crate::exposition::engine::Facts;
use crate::exposition::families::Full;
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

/// What the metadata of a family says.
#[derive(Debug, Default)]
pub(super) struct PendingFamily {
    /// The family's name, decoded.
    pub(super) name: Vec<u8>,
    pub(super) is_old_name: bool,
    /// A sample of it had it written.
    pub(super) is_told: bool,
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

impl PendingFamily {
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
