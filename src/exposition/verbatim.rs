//! A body that is passed on byte for byte, up to its last whole line.
//!
//! It is read only for what the relabelled bodies behind it must know: which families it has, and which metadata.

use super::chars::{metric_name_end, skip_blanks};
use super::counts::{Counts, DropReason};
use super::families::Families;
use super::lines::{End, Lines, TooLong, text_of};
use super::metadata::Line;
use super::relabel::Relabel;

/// Passes a text body on verbatim; adds a missing final newline.
#[derive(Debug, Default)]
pub struct Verbatim {
    lines: Lines,
    notes: Notes,
}

#[derive(Debug, Default)]
struct Notes {
    counts: Counts,
    /// The metric name of the sample before.
    last_name: Vec<u8>,
}

impl Verbatim {
    /// Reads a chunk; appends each line that is whole with it to `out`.
    pub fn push(&mut self, chunk: &[u8], families: &mut Families, out: &mut Vec<u8>) {
        let Self { lines, notes } = self;
        lines.push(chunk, |line| notes.pass(line, families, out));
    }

    /// Ends the body; appends its last line to `out` if that is whole.
    pub fn finish(&mut self, end: End, families: &mut Families, out: &mut Vec<u8>) {
        let Self { lines, notes } = self;
        lines.finish(end, |line| notes.pass(line, families, out));
    }

    /// Goes on with the body as one that is checked, from the line that has begun: what the answer holds by now, this
    /// body's later lines may repeat.
    #[must_use]
    pub fn into_checked(self) -> Relabel {
        Relabel::continuing(self.lines, self.notes.counts)
    }

    /// What came of the body's lines so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.notes.counts
    }
}

impl Notes {
    fn pass(&mut self, line: Result<&[u8], TooLong>, families: &mut Families, out: &mut Vec<u8>) {
        match line {
            Ok(line) => {
                let text = text_of(line);
                self.note(&text[skip_blanks(text, 0)..], families);
                out.extend_from_slice(line);
            }
            Err(TooLong) => self.counts.drop_line(DropReason::TooLong),
        }
    }

    /// Notes the line's family. A family that there is no room for passes without a note: this body is trusted.
    fn note(&mut self, line: &[u8], families: &mut Families) {
        match Line::of(line) {
            Line::Help { name } => {
                if let Ok(family) = families.entry(name) {
                    family.has_help = true;
                }
            }
            Line::Type { name, kind } => {
                self.last_name.clear();
                if families.declare(name, kind).is_ok()
                    && let Some(family) = families.get_mut(name)
                {
                    family.has_type = true;
                }
            }
            Line::Sample => {
                self.counts.samples += 1;
                let name = &line[..metric_name_end(line, 0).unwrap_or(0)];
                if !name.is_empty() && name != self.last_name {
                    self.last_name.clear();
                    self.last_name.extend_from_slice(name);
                    families.note_samples(families.declared_parent(name).unwrap_or(name));
                }
            }
            Line::Comment | Line::MalformedMetadata => {}
        }
    }
}
