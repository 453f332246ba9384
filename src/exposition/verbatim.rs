//! A body that is passed on byte for byte, up to its last whole line.
//!
//! It is read only for what the relabelled bodies behind it must know: which families it has, and which metadata.

use super::chars::{metric_name_end, skip_blanks};
use std::num::NonZeroU64;

use super::counts::DropReason;
use super::dialect::Text;
use super::engine::Engine;
use super::families::Families;
use super::format::Escaping;
use super::lines::{End, Lines, TooLong, text_of};
use super::metadata::{Keyword, Line, Metadata, MetricType};
use super::relabel::Relabel;
use super::sample::quoted_name;
use super::tally::Tally;

/// Passes a text body on verbatim; adds a missing final newline. A sample is a line that is neither blank nor a comment.
#[derive(Debug)]
pub struct Verbatim {
    escaping: Escaping,
    lines: Lines,
    notes: Notes,
}

#[derive(Debug, Default)]
struct Notes {
    tally: Tally,
    /// The metric name of the sample before.
    last_name: Vec<u8>,
}

impl Verbatim {
    /// An engine for one body, of which at most so many samples are passed on.
    #[must_use]
    pub fn new(sample_limit: Option<NonZeroU64>, escaping: Escaping) -> Self {
        Self {
            escaping,
            lines: Lines::default(),
            notes: Notes {
                tally: Tally::new(sample_limit),
                last_name: Vec::new(),
            },
        }
    }
}

impl Engine for Verbatim {
    fn push(&mut self, chunk: &[u8], families: &mut Families, out: &mut Vec<u8>) {
        let Self { lines, notes, .. } = self;
        if notes.tally.is_over_limit() {
            return;
        }
        lines.push(chunk, |line| notes.pass(line, families, out));
    }

    fn finish(&mut self, end: End, families: &mut Families, out: &mut Vec<u8>) {
        let Self { lines, notes, .. } = self;
        lines.finish(end, |line| notes.pass(line, families, out));
    }

    fn progress(&self) -> &Tally {
        &self.notes.tally
    }

    fn check_the_rest(&mut self) -> Option<Box<dyn Engine + Send>> {
        let Self { escaping, lines, notes } = self;
        let (lines, tally) = (std::mem::take(lines), std::mem::take(&mut notes.tally));
        Some(Box::new(Relabel::continuing(lines, tally, *escaping)))
    }
}

impl Notes {
    fn pass(&mut self, line: Result<&[u8], TooLong<'_>>, families: &mut Families, out: &mut Vec<u8>) {
        if self.tally.is_over_limit() {
            return;
        }
        self.tally.next();
        match line {
            Ok(line) => {
                let text = text_of(line);
                self.note(&text[skip_blanks(text, 0)..], families);
                if !self.tally.is_over_limit() {
                    out.extend_from_slice(line);
                }
            }
            Err(TooLong(start)) => self.tally.drop_line(DropReason::TooLong, start),
        }
    }

    /// Notes the line's family. A family that there is no room for passes without a note: this body is trusted.
    fn note(&mut self, line: &[u8], families: &mut Families) {
        match Line::of_text(line) {
            Line::Metadata(metadata) => self.note_metadata(metadata, line, families),
            Line::Sample if !self.tally.has_room_for(1) => self.tally.exceed_limit(),
            Line::Sample => {
                self.tally.add(1);
                let name = metric_name(line);
                if !name.is_empty() && name != self.last_name {
                    self.last_name.clear();
                    self.last_name.extend_from_slice(name);
                    let family = families
                        .declared_parent::<Text>(name)
                        .map_or(name, |(parent, _)| parent);
                    families.note_samples(family);
                }
            }
            Line::Comment | Line::MalformedMetadata | Line::Eof => {}
        }
    }

    fn note_metadata(&mut self, metadata: Metadata, line: &[u8], families: &mut Families) {
        let name = metadata.name.of(line);
        if let Keyword::Type(kind) = metadata.keyword {
            self.last_name.clear();
            // Without room, its entry fails below as well.
            let _ = families.declare(name, kind);
            families.settle_type(name, kind, true, MetricType::in_text);
        }
        let Ok(family) = families.entry(name) else {
            return;
        };
        match metadata.keyword {
            Keyword::Help => family.has_help = true,
            Keyword::Type(_) => family.has_type = true,
            Keyword::Unit => {}
        }
    }
}

/// The metric's name in a sample line: before the braces, or the first thing between them, quoted.
fn metric_name(line: &[u8]) -> &[u8] {
    if let Some(end) = metric_name_end(line, 0) {
        return &line[..end];
    }
    let quote = skip_blanks(line, 1);
    match quoted_name(line, quote) {
        Ok(name) if line.starts_with(b"{") && line[quote] == b'"' => name.of(line),
        _ => &[],
    }
}
