//! A body whose every line is checked and whose every sample gets labels.
//!
//! In: chunks of a text or OpenMetrics body, cut anywhere. Out: an exposition that Prometheus reads, whatever came in:
//! text, OpenMetrics or protobuf. A line's sample is either written with the labels, or dropped and counted.
//!
//! What is read is told by the [`Dialect`], what is written by the [`Output`]; which family a sample belongs to, and
//! what becomes of it, is settled here, once for all formats.
//!
//! To whoever changes this: a line may be written only when all of it has been checked, because one line that
//! Prometheus cannot read costs the whole scrape. `tests/suite/lines.rs` and `openmetrics.rs` hold the rules, one line
//! each; add yours there.

use std::sync::Arc;

use super::chars::skip_blanks;
use super::counts::DropReason;
use super::dialect::{Dialect, OpenMetrics, Text};
use super::engine::Engine;
use super::families::{Families, Full};
use super::filter::Filter;
use super::format::Escaping;
use super::lines::{End, Lines, TooLong, text_of};
use super::metadata::{Keyword, Line, Metadata, MetricType};
use super::output::{Family, LineOutput, Lost, Output, Part};
use super::protobuf::MessageOutput;
use super::rules::Rules;
use super::sample::Scanner;
use super::tally::Tally;
use super::untyped::{Fate, Untyped};

/// An engine for text that is written as text.
pub type Relabel = Rewrite<Text, LineOutput<Text>>;

/// An engine for OpenMetrics that is written as OpenMetrics. The `# EOF` is left out: it ends the answer, not a body.
pub type RelabelOpenMetrics = Rewrite<OpenMetrics, LineOutput<OpenMetrics>>;

/// An engine for text that is written as protobuf.
pub type TextToProtobuf = Rewrite<Text, MessageOutput>;

/// An engine for OpenMetrics that is written as protobuf, with exemplars, created timestamps and units.
pub type OpenMetricsToProtobuf = Rewrite<OpenMetrics, MessageOutput>;

/// An engine for OpenMetrics that is written as text, as the official Python client writes it: `foo` with its samples
/// `foo_total` and `foo_created` becomes two families; exemplars and units go.
pub type OpenMetricsToText = Rewrite<OpenMetrics, LineOutput<Text>>;

/// Checks a body line by line, adds labels to its samples, sanitizes its untyped families, and writes it in the format
/// of its output.
#[derive(Debug)]
pub struct Rewrite<D, O> {
    lines: Lines,
    body: Body<D, O>,
}

impl<D: Dialect, O: Output> Rewrite<D, O> {
    /// An engine for one body. `names` says which names the scraper takes.
    #[must_use]
    pub fn new(rules: &Rules, names: Escaping) -> Self {
        Self {
            lines: Lines::default(),
            body: Body {
                scanner: Scanner::default(),
                verdicts: Verdicts::default(),
                held: Held::default(),
                untyped: rules.untyped,
                filter: rules.filter.clone(),
                tally: Tally::new(rules.sample_limit),
                has_ended: false,
                output: O::new(Arc::clone(&rules.labels), names),
            },
        }
    }

    /// An engine that checks and adds nothing, for the rest of a body: its lines from one that may have begun.
    pub(super) fn continuing(lines: Lines, tally: Tally, names: Escaping) -> Self {
        let mut rest = Self::new(&Rules::default(), names);
        rest.lines = lines;
        rest.body.has_ended = tally.is_over_limit();
        rest.body.tally = tally;
        rest
    }
}

impl<D: Dialect, O: Output> Engine for Rewrite<D, O> {
    fn push(&mut self, chunk: &[u8], families: &mut Families, out: &mut Vec<u8>) {
        let Self { lines, body } = self;
        if body.tally.is_over_limit() {
            return;
        }
        lines.push(chunk, |line| body.line(line, families, out));
    }

    fn finish(&mut self, end: End, families: &mut Families, out: &mut Vec<u8>) {
        let Self { lines, body } = self;
        // In OpenMetrics only the last line of all may lack its newline, and it tells by itself that it is whole.
        let end = if D::IS_OPEN_METRICS { End::Whole } else { end };
        lines.finish(end, |line| {
            let is_whole = !D::IS_OPEN_METRICS || line.is_ok_and(|line| D::line(text_of(line)) == Line::Eof);
            if is_whole {
                body.line(line, families, out);
            }
        });
        body.flush_held(families, out);
        let lost = body.output.finish(out);
        body.take_back(lost);
    }

    fn is_whole(&self) -> bool {
        !D::IS_OPEN_METRICS || self.body.has_ended
    }

    fn progress(&self) -> &Tally {
        &self.body.tally
    }
}

#[derive(Debug)]
struct Body<D, O> {
    scanner: Scanner<D>,
    verdicts: Verdicts,
    held: Held,
    untyped: Untyped,
    filter: Option<Arc<Filter>>,
    tally: Tally,
    /// No line that follows is written: `# EOF` came, or there were too many samples.
    has_ended: bool,
    output: O,
}

/// What becomes of the samples of a name.
type Verdict = Result<Part, DropReason>;

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
    #[inline(always)]
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

/// The metadata of one family, held until its first sample tells under which name it is to be written, or until it is
/// another family's turn.
#[derive(Debug, Default)]
pub struct Held {
    name: Vec<u8>,
    lines: Vec<(Metadata, Vec<u8>)>,
}

impl Held {
    /// The lines, in the order in which they came.
    pub(super) fn lines(&self) -> &[(Metadata, Vec<u8>)] {
        &self.lines
    }

    /// The family's name, as its metadata has it.
    fn is_of(&self, name: &[u8]) -> bool {
        self.name == name
    }

    fn add(&mut self, metadata: Metadata, line: &[u8]) {
        let has = |keyword: &Keyword| std::mem::discriminant(keyword) == std::mem::discriminant(&metadata.keyword);
        if !self.lines.iter().any(|(held, _)| has(&held.keyword)) {
            self.lines.push((metadata, line.into()));
        }
    }

    fn clear(&mut self) {
        self.name.clear();
        self.lines.clear();
    }
}

impl<D: Dialect, O: Output> Body<D, O> {
    fn line(&mut self, line: Result<&[u8], TooLong<'_>>, families: &mut Families, out: &mut Vec<u8>) {
        self.tally.next();
        if self.has_ended {
            return self.line_behind_the_end(line);
        }
        let line = match line {
            Ok(line) => line,
            Err(TooLong(start)) => return self.tally.drop_line(DropReason::TooLong, start),
        };
        let line = if D::IS_OPEN_METRICS {
            line
        } else {
            &line[skip_blanks(line, 0)..]
        };
        let text = text_of(line);
        let written = match D::line(text) {
            Line::Sample => self.sample(line, families, out),
            Line::Comment => Ok(()),
            Line::Metadata(metadata) => self.metadata(metadata, line, families, out),
            Line::MalformedMetadata => Err(DropReason::Malformed),
            Line::Eof => {
                self.has_ended = true;
                Ok(())
            }
        };
        if let Err(reason) = written {
            self.tally.drop_line(reason, text);
        }
    }

    /// Drops a line behind `# EOF`. Behind the limit nothing is counted.
    #[cold]
    fn line_behind_the_end(&mut self, line: Result<&[u8], TooLong<'_>>) {
        if self.tally.is_over_limit() {
            return;
        }
        match line.map(text_of) {
            Ok(b"") => {}
            Ok(text) => self.tally.drop_line(DropReason::Malformed, text),
            Err(TooLong(start)) => self.tally.drop_line(DropReason::TooLong, start),
        }
    }

    fn sample(&mut self, line: &[u8], families: &mut Families, out: &mut Vec<u8>) -> Result<(), DropReason> {
        let sample = self.scanner.scan(text_of(line)).map_err(|_| DropReason::Malformed)?;
        let name = sample.name.of(line);
        let verdict = match self.verdicts.of(name, sample.same_name) {
            Some(verdict) => verdict,
            None => match self.first_sample(name, families, out) {
                Some(verdict) => verdict,
                None => return Ok(()),
            },
        };
        let part = verdict?;
        if !self.tally.has_room_for(1) {
            self.cut(None);
            return Ok(());
        }
        let written = self.output.sample::<D>(line, &sample, &self.scanner, part, out)?;
        self.tally.add(1);
        if written.lost_exemplar {
            self.tally.drop_line(DropReason::Malformed, text_of(line));
        }
        if written.lost.too_long > 0 {
            self.tally.note_offence(DropReason::TooLong, text_of(line));
        }
        self.take_back(written.lost);
        Ok(())
    }

    fn take_back(&mut self, lost: Lost) {
        self.tally.take_back(DropReason::Malformed, lost.malformed);
        self.tally.take_back(DropReason::TooLong, lost.too_long);
        if self.tally.is_over_limit() {
            // What they belong to was to come.
            self.tally.leave_out(lost.orphaned);
        } else if self.filter.is_some() {
            // What they belong to went there.
            self.tally.take_back(DropReason::Filtered, lost.orphaned);
        } else {
            self.tally.take_back(DropReason::Malformed, lost.orphaned);
        }
    }

    /// Settles what becomes of the samples of this name and announces their family, unless they have no room.
    #[inline(never)]
    fn first_sample(&mut self, name: &[u8], families: &mut Families, out: &mut Vec<u8>) -> Option<Verdict> {
        let family = self.family_of(name, families);
        if let Ok(family) = &family
            && !self.tally.has_room_for(1)
        {
            self.cut(Some(family));
            return None;
        }
        let verdict = family.and_then(|family| self.announce(&family, families, out));
        self.verdicts.add(name, verdict);
        Some(verdict)
    }

    /// Ends the output in front of a sample that has no room, of this family or of the one announced last.
    #[cold]
    fn cut(&mut self, beyond: Option<&Family<'_>>) {
        self.tally.exceed_limit();
        self.has_ended = true;
        self.held.clear();
        let left_out = self.output.cut(beyond);
        self.tally.leave_out(left_out);
    }

    /// The family as which the samples of this name are written, or why they are dropped.
    fn family_of<'a>(&mut self, name: &'a [u8], families: &mut Families) -> Result<Family<'a>, DropReason> {
        let (family, suffix) = match families.declared(name) {
            Some(_) => (name, &b""[..]),
            None => families.declared_parent::<D>(name).unwrap_or((name, b"")),
        };
        let declared = families.declared(family);
        if let Some(filter) = &self.filter {
            let in_text = Family::of_sample::<D, LineOutput<Text>>(family, suffix, declared);
            if !filter.keeps_escaped(in_text.stem, in_text.suffix) {
                // Its metadata stays held: a sample by another name may be kept.
                families.note_filtered(family);
                return Err(DropReason::Filtered);
            }
        }
        let mut to_write = Family::of_sample::<D, O>(family, suffix, declared);
        if matches!(declared, None | Some(MetricType::Untyped)) {
            match self.untyped.fate(name) {
                Fate::Pass => {}
                Fate::Becomes(kind) => to_write.sanitize(O::sanitized(kind)),
                Fate::Drop => {
                    if self.held.is_of(family) {
                        self.held.clear();
                    }
                    families.note_samples(family);
                    return Err(DropReason::Untyped);
                }
            }
        }
        Ok(to_write)
    }

    /// Writes what is known of the family of a sample that is to be written.
    fn announce(&mut self, family: &Family<'_>, families: &mut Families, out: &mut Vec<u8>) -> Verdict {
        let is_held = self.held.is_of(family.stem);
        if !is_held {
            self.flush_held(families, out);
        }
        if O::WRITES_WHOLE_FAMILIES {
            // What was settled for another family holds for its own message only.
            self.verdicts.forget();
        }
        let held = is_held.then_some(&self.held);
        let part = self.output.announce(family, held, true, families, out)?;
        families.note_samples(family.stem);
        Ok(part)
    }

    fn metadata(
        &mut self,
        metadata: Metadata,
        line: &[u8],
        families: &mut Families,
        out: &mut Vec<u8>,
    ) -> Result<(), DropReason> {
        let name = metadata.name.of(line);
        if families.declared(name).is_none() && families.declared_parent::<D>(name).is_some() {
            // Its samples belong to that family already.
            return Ok(());
        }
        if !self.held.is_of(name) {
            self.flush_held(families, out);
            if self.filter.is_none() {
                families.entry(name)?;
            }
            self.held.name.extend_from_slice(name);
        }
        if let Keyword::Type(kind) = metadata.keyword {
            if families.declared(name).is_some() || families.sampled_by_target(name) {
                return Ok(());
            }
            // What the filter drops takes room only where samples by other names are known by it.
            if D::has_parts(kind) || self.keeps_bare(name, Some(kind)) {
                families.declare(name, kind)?;
            }
            // It may tell anew which samples belong to which family.
            self.verdicts.forget();
        }
        self.held.add(metadata, line);
        Ok(())
    }

    /// Whether the filter lets a family through of which nothing but the metadata is known.
    fn keeps_bare(&self, name: &[u8], kind: Option<MetricType>) -> bool {
        let in_text = Family::without_samples::<D, LineOutput<Text>>(name, kind);
        (self.filter.as_ref()).is_none_or(|filter| filter.keeps_escaped(name, in_text.suffix))
    }

    /// Writes the metadata that no sample asked for.
    fn flush_held(&mut self, families: &mut Families, out: &mut Vec<u8>) {
        if self.held.name.is_empty() {
            return;
        }
        let mut held = std::mem::take(&mut self.held);
        let declared = families.declared(&held.name);
        let fate = match declared {
            Some(MetricType::Untyped) => self.untyped.fate(&held.name),
            _ => Fate::Pass,
        };
        let is_kept =
            self.filter.is_none() || (!families.is_filtered(&held.name) && self.keeps_bare(&held.name, declared));
        if is_kept && fate != Fate::Drop {
            let mut family = Family::without_samples::<D, O>(&held.name, declared);
            if let Fate::Becomes(kind) = fate {
                family.sanitize(O::sanitized(kind));
            }
            // Without room for its name there is nothing to write it with.
            let _ = self.output.announce(&family, Some(&held), false, families, out);
        }
        held.clear();
        self.held = held;
    }
}

impl From<Full> for DropReason {
    fn from(_: Full) -> Self {
        Self::NoRoom
    }
}
