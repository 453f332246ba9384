//! A body of text whose lines stay where they are: samples get no labels, metadata goes out as often as it comes, comments stay.
//!
//! All of it is read and checked like any other body. What is spelt as it would be written goes out byte for byte; what is not
//! is spelt so, or left out alone.

use super::dialect::PlainText;
use super::write::LineWriter;
use crate::exposition::engine::{Lost, Slot, Told, Writer, Written};
use crate::exposition::families::Families;
use crate::exposition::format::{Escaping, Spelling};
use crate::exposition::labels::LabelSet;
use crate::exposition::model::{Convention, Fact, Metric, Sample};
use crate::exposition::progress::DropReason;
use crate::exposition::rules::Rules;

/// Writes each line of a text body where it stands.
#[derive(Debug)]
pub(in super::super) struct Verbatim {
    lines: LineWriter<PlainText>,
    /// What the rest of the body is written with.
    late: Option<LineWriter<PlainText>>,
}

impl Writer for Verbatim {
    const CONVENTION: Convention = Convention::Text;
    const IS_VERBATIM: bool = true;
    type Late = LineWriter<PlainText>;

    fn new(rules: &Rules, to: Spelling, copies: bool) -> Self {
        let rules = Rules { labels: LabelSet::default().into(), ..rules.clone() };
        let lines = || LineWriter::new(&rules, to, copies);
        Self { lines: lines(), late: Some(lines()) }
    }

    fn late(&mut self) -> Option<LineWriter<PlainText>> {
        self.late.take()
    }

    fn comment(&mut self, line: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(line);
    }

    fn escaping(&self) -> Escaping {
        self.lines.escaping()
    }

    fn family(&mut self, told: &Told<'_>, families: &mut Families, out: &mut Vec<u8>) -> Result<Slot, DropReason> {
        let slot = Slot::of(&told.family, Convention::Text);
        // This body is trusted: what there is no room for passes without a note.
        let mut unknown = Default::default();
        let known = families.entry(told.key).unwrap_or(&mut unknown);
        known.has_samples |= told.has_samples;
        for fact in told.facts.iter().flatten().copied() {
            let is_wanted = match fact {
                Fact::Help(_) => !std::mem::replace(&mut known.has_help, true),
                // Who reads text 0.0.4 refuses a second one, and one behind samples.
                Fact::Type(_) => {
                    !(std::mem::replace(&mut known.has_type, true) || known.has_samples) || self.lines.repeats_types()
                }
                Fact::Unit(_) => true,
            };
            if is_wanted {
                self.lines.put_fact(told, fact, out);
            }
        }
        if let Some(kind) = told.facts.iter().flatten().find_map(Fact::kind) {
            families.note_type_line(told.key, kind);
        }
        Ok(slot)
    }

    fn sample(&mut self, sample: &Sample<'_>, slot: Slot, out: &mut Vec<u8>) -> Result<Written, DropReason> {
        self.lines.sample(sample, slot, out)
    }

    #[inline(always)]
    fn can_repeat(&self) -> bool {
        self.lines.can_repeat()
    }

    #[inline(always)]
    fn repeat(&mut self, line: &[u8], _head_end: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(line);
    }

    fn metric(&mut self, metric: &Metric<'_>, out: &mut Vec<u8>) -> Result<u64, DropReason> {
        self.lines.metric(metric, out)
    }

    fn finish(&mut self, families: &mut Families, out: &mut Vec<u8>) -> Lost {
        self.lines.finish(families, out)
    }
}
