//! A body of messages, read one by one, whatever becomes of its families.

use std::sync::Arc;

use super::family::Family;
use super::messages::Messages;
use crate::exposition::counts::DropReason;
use crate::exposition::engine::Engine;
use crate::exposition::families::Families;
use crate::exposition::filter::Filter;
use crate::exposition::format::Escaping;
use crate::exposition::lines::End;
use crate::exposition::rules::Rules;
use crate::exposition::tally::Tally;

/// Writes the families of a body.
pub trait Writer: std::fmt::Debug {
    /// A writer for one body. `names` says which names the scraper takes.
    fn new(rules: &Rules, names: Escaping) -> Self;

    /// What came of the body so far.
    fn tally(&self) -> &Tally;

    /// The same, to be added to.
    fn tally_mut(&mut self) -> &mut Tally;

    /// Writes a family that the filter lets through, which was read from `message`.
    fn family(&mut self, message: &[u8], family: Family<'_>, families: &mut Families, out: &mut Vec<u8>);
}

/// An engine for bodies of messages, with a writer for what goes out.
#[derive(Debug)]
pub struct MessageEngine<W> {
    messages: Messages,
    body: Body<W>,
}

#[derive(Debug)]
struct Body<W> {
    filter: Option<Arc<Filter>>,
    writer: W,
}

impl<W: Writer> MessageEngine<W> {
    /// An engine for one body. Escaping outside the old character set are written as they are, or escaped, as `names` says.
    #[must_use]
    pub fn new(rules: &Rules, names: Escaping) -> Self {
        Self {
            messages: Messages::default(),
            body: Body {
                filter: rules.filter.clone(),
                writer: W::new(rules, names),
            },
        }
    }
}

impl<W: Writer> Engine for MessageEngine<W> {
    fn push(&mut self, chunk: &[u8], families: &mut Families, out: &mut Vec<u8>) {
        if self.body.writer.tally().is_over_limit() {
            return;
        }
        let Self { messages, body } = self;
        messages.push(chunk, |message| body.message(message, families, out));
    }

    fn finish(&mut self, end: End, families: &mut Families, out: &mut Vec<u8>) {
        let Self { messages, body } = self;
        messages.finish(end, |message| body.message(message, families, out));
    }

    fn is_whole(&self) -> bool {
        self.messages.ended_well()
    }

    fn progress(&self) -> &Tally {
        self.body.writer.tally()
    }
}

impl<W: Writer> Body<W> {
    fn message(&mut self, message: Result<&[u8], DropReason>, families: &mut Families, out: &mut Vec<u8>) {
        let tally = self.writer.tally_mut();
        if tally.is_over_limit() {
            return;
        }
        tally.next();
        let message = match message {
            Ok(message) => message,
            Err(reason) => return tally.drop_line(reason, b""),
        };
        let Ok(family) = Family::read(message) else {
            return tally.drop_line(DropReason::Malformed, Family::name_in(message));
        };
        let name = family.name.as_bytes();
        if self.filter.as_ref().is_some_and(|filter| !filter.keeps(name)) {
            return tally.drop_lines(DropReason::Filtered, family.metrics, name);
        }
        self.writer.family(message, family, families, out);
    }
}
