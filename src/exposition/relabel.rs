//! A body whose every line is checked and whose every sample gets labels.
//!
//! In: chunks of a text body, cut anywhere. Out: lines that Prometheus reads, whatever came in. A line is either
//! written with its own bytes (leading blanks aside) and the labels, or dropped and counted.
//!
//! To whoever changes this: a line may be written only when all of it has been checked, because one line that
//! Prometheus cannot read costs the whole scrape. `tests/suite/lines.rs` holds the rules, one line each; add yours there.

use std::sync::Arc;

use super::chars::skip_blanks;
use super::counts::{Counts, DropReason};
use super::families::{Families, Full};
use super::labels::{EXPORTED, LabelSet};
use super::lines::{End, Lines, TooLong, text_of};
use super::metadata::{Line, MetricType};
use super::sample::{Labels, Sample, Scanner};
use super::untyped::{Fate, Untyped};

/// Checks a text body line by line, adds labels to its samples and sanitizes its untyped families.
#[derive(Debug)]
pub struct Relabel {
    lines: Lines,
    writer: Writer,
}

impl Relabel {
    /// An engine for one body.
    #[must_use]
    pub fn new(labels: Arc<LabelSet>, untyped: Untyped) -> Self {
        Self {
            lines: Lines::default(),
            writer: Writer {
                labels,
                untyped,
                scanner: Scanner::default(),
                verdicts: Verdicts::default(),
                held_help: HeldHelp::default(),
                given: Vec::new(),
                counts: Counts::default(),
            },
        }
    }

    /// An engine that checks and adds nothing.
    #[must_use]
    pub fn unlabelled() -> Self {
        Self::new(Arc::default(), Untyped::Keep)
    }

    /// An engine that checks and adds nothing, for the rest of a body: its lines from one that may have begun.
    pub(super) fn continuing(lines: Lines, counts: Counts) -> Self {
        let mut rest = Self::unlabelled();
        rest.lines = lines;
        rest.writer.counts = counts;
        rest
    }

    /// Reads a chunk; appends what comes of each line that is whole with it to `out`.
    pub fn push(&mut self, chunk: &[u8], families: &mut Families, out: &mut Vec<u8>) {
        let Self { lines, writer } = self;
        lines.push(chunk, |line| writer.line(line, families, out));
    }

    /// Ends the body; appends what comes of its last line to `out` if that is whole.
    pub fn finish(&mut self, end: End, families: &mut Families, out: &mut Vec<u8>) {
        let Self { lines, writer } = self;
        lines.finish(end, |line| writer.line(line, families, out));
        writer.write_held_help(families, out);
    }

    /// What came of the body's lines so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.writer.counts
    }
}

#[derive(Debug)]
struct Writer {
    labels: Arc<LabelSet>,
    untyped: Untyped,
    scanner: Scanner,
    verdicts: Verdicts,
    held_help: HeldHelp,
    /// The names that labels of the sample being written were given instead of their own, each with a comma behind it.
    given: Vec<u8>,
    counts: Counts,
}

/// What becomes of the samples of a name.
type Verdict = Result<(), DropReason>;

/// What becomes of the samples of the names that came last.
///
/// Most samples have the name of the one before; in a histogram with many series, the name of one a few lines before.
#[derive(Debug, Default)]
struct Verdicts {
    entries: [(Vec<u8>, Option<Verdict>); Self::KEPT],
    /// The entry of the sample before.
    current: usize,
}

impl Verdicts {
    /// A histogram's `_bucket`, `_sum` and `_count`, and `_created`.
    const KEPT: usize = 4;

    /// The verdict on this name, if it is among those kept. `same_name` says that it is the name of the sample before.
    fn of(&mut self, name: &[u8], same_name: bool) -> Option<Verdict> {
        if !same_name {
            self.current = self.entries.iter().position(|(kept, _)| kept == name)?;
        }
        self.entries[self.current].1
    }

    /// Keeps the verdict on a name in the place of the one that was added first.
    fn add(&mut self, name: &[u8], verdict: Verdict) {
        self.entries.rotate_right(1);
        self.current = 0;
        let (kept, kept_verdict) = &mut self.entries[0];
        kept.clear();
        kept.extend_from_slice(name);
        *kept_verdict = Some(verdict);
    }

    /// Forgets every verdict: metadata came, and may tell anew what becomes of a name.
    fn forget(&mut self) {
        for (name, verdict) in &mut self.entries {
            name.clear();
            *verdict = None;
        }
    }
}

/// A `# HELP` line that waits until it is known whether its family is dropped.
#[derive(Debug, Default)]
struct HeldHelp {
    name: Vec<u8>,
    line: Vec<u8>,
}

impl Writer {
    fn line(&mut self, line: Result<&[u8], TooLong>, families: &mut Families, out: &mut Vec<u8>) {
        let Ok(line) = line else {
            return self.counts.drop_line(DropReason::TooLong);
        };
        let line = &line[skip_blanks(line, 0)..];
        let written = match Line::of(text_of(line)) {
            Line::Sample => self.sample(line, families, out),
            Line::Comment => Ok(()),
            Line::Help { name } => self.help(name, line, families, out),
            Line::Type { name, kind } => self.type_line(name, kind, line, families, out),
            Line::MalformedMetadata => Err(DropReason::Malformed),
        };
        if let Err(reason) = written {
            self.counts.drop_line(reason);
        }
    }

    fn sample(&mut self, line: &[u8], families: &mut Families, out: &mut Vec<u8>) -> Result<(), DropReason> {
        let sample = self.scanner.scan(text_of(line)).map_err(|_| DropReason::Malformed)?;
        let name = &line[..sample.name_end];
        let verdict = match self.verdicts.of(name, sample.same_name) {
            Some(verdict) => verdict,
            None => {
                let verdict = self.first_sample(name, families, out);
                self.verdicts.add(name, verdict);
                verdict
            }
        };
        verdict?;
        self.write_sample(line, sample, out);
        self.counts.samples += 1;
        Ok(())
    }

    /// Settles what becomes of the samples of this name; writes the metadata that must stand before them.
    fn first_sample(&mut self, name: &[u8], families: &mut Families, out: &mut Vec<u8>) -> Result<(), DropReason> {
        let declared = families.declared(name);
        let parent = match declared {
            Some(_) => None,
            None => families.declared_parent(name),
        };
        let is_untyped = parent.is_none() && declared.is_none_or(|kind| kind == MetricType::Untyped);
        let fate = if is_untyped {
            self.untyped.fate(name)
        } else {
            Fate::Pass
        };
        let family_name = parent.unwrap_or(name);
        if fate == Fate::Drop && self.held_help.name == family_name {
            self.held_help = HeldHelp::default();
        }
        self.write_held_help(families, out);
        let family = families.entry(family_name)?;
        if let Fate::Becomes(kind) = fate
            && !family.has_type
            && !family.has_samples
        {
            family.has_type = true;
            write_type(name, kind, out);
        }
        families.note_samples(family_name);
        match fate {
            Fate::Drop => Err(DropReason::Untyped),
            Fate::Pass | Fate::Becomes(_) => Ok(()),
        }
    }

    fn help(&mut self, name: &[u8], line: &[u8], families: &mut Families, out: &mut Vec<u8>) -> Result<(), DropReason> {
        if self.held_help.name == name {
            return Ok(());
        }
        self.write_held_help(families, out);
        let is_typed = families.declared(name).is_some();
        let family = families.entry(name)?;
        if family.has_help {
            return Ok(());
        }
        if !is_typed && self.untyped.fate(name) == Fate::Drop {
            self.held_help = HeldHelp {
                name: name.into(),
                line: line.into(),
            };
            return Ok(());
        }
        family.has_help = true;
        out.extend_from_slice(line);
        Ok(())
    }

    fn type_line(
        &mut self,
        name: &[u8],
        kind: MetricType,
        line: &[u8],
        families: &mut Families,
        out: &mut Vec<u8>,
    ) -> Result<(), DropReason> {
        if families.declared(name).is_some() || families.sampled_by_target(name) {
            return Ok(());
        }
        let fate = match kind {
            MetricType::Untyped => self.untyped.fate(name),
            _ => Fate::Pass,
        };
        if fate == Fate::Drop && self.held_help.name == name {
            self.held_help = HeldHelp::default();
        }
        self.write_held_help(families, out);
        families.declare(name, kind)?;
        // It may tell anew which samples belong to which family.
        self.verdicts.forget();
        let family = families.entry(name)?;
        if family.has_type || family.has_samples || fate == Fate::Drop {
            return Ok(());
        }
        family.has_type = true;
        match fate {
            Fate::Becomes(kind) => write_type(name, kind, out),
            Fate::Pass | Fate::Drop => out.extend_from_slice(line),
        }
        Ok(())
    }

    fn write_held_help(&mut self, families: &mut Families, out: &mut Vec<u8>) {
        if self.held_help.name.is_empty() {
            return;
        }
        let held = std::mem::take(&mut self.held_help);
        if let Some(family) = families.get_mut(&held.name) {
            family.has_help = true;
            out.extend_from_slice(&held.line);
        }
    }

    fn write_sample(&mut self, line: &[u8], sample: Sample, out: &mut Vec<u8>) {
        let labels = &*self.labels;
        if labels.is_empty() {
            return out.extend_from_slice(line);
        }
        match sample.labels {
            Labels::Absent => {
                let (name, numbers) = line.split_at(sample.name_end);
                out.extend_from_slice(name);
                out.push(b'{');
                out.extend_from_slice(labels.rendered());
                out.push(b'}');
                out.extend_from_slice(numbers);
            }
            Labels::Braces { close, needs_comma } => {
                let (own, rest) = line.split_at(close);
                if labels.fingerprints() & self.scanner.fingerprints() == 0 {
                    out.extend_from_slice(own);
                } else {
                    write_renamed(own, &self.scanner, labels, &mut self.given, out);
                }
                out.extend_from_slice(if needs_comma {
                    labels.after_comma()
                } else {
                    labels.rendered()
                });
                out.extend_from_slice(rest);
            }
        }
    }
}

/// Writes a sample up to its closing brace, its labels renamed where their names are among those added.
fn write_renamed(own: &[u8], scanner: &Scanner, added: &LabelSet, given: &mut Vec<u8>, out: &mut Vec<u8>) {
    given.clear();
    let mut written = 0;
    for label in scanner.labels() {
        let name = label.name(own);
        if !added.contains(name) {
            continue;
        }
        let start = given.len();
        given.extend_from_slice(name);
        loop {
            given.splice(start..start, EXPORTED.iter().copied());
            let (earlier, renamed) = given.split_at(start);
            let is_taken = added.contains(renamed)
                || scanner.has(own, renamed)
                || earlier.split(|byte| *byte == b',').any(|other| other == renamed);
            if !is_taken {
                break;
            }
        }
        let (name_start, name_end) = label.name_span();
        out.extend_from_slice(&own[written..name_start]);
        out.extend_from_slice(&given[start..]);
        given.push(b',');
        written = name_end;
    }
    out.extend_from_slice(&own[written..]);
}

impl From<Full> for DropReason {
    fn from(_: Full) -> Self {
        Self::NoRoom
    }
}

fn write_type(name: &[u8], kind: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"# TYPE ");
    out.extend_from_slice(name);
    out.push(b' ');
    out.extend_from_slice(kind.as_bytes());
    out.push(b'\n');
}
