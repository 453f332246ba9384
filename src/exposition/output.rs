//! What is written of a family and of a sample: as lines of text or OpenMetrics.
//!
//! In: a line that was checked, and where its parts stand. Out: a line that Prometheus reads, with the labels added.

use std::marker::PhantomData;
use std::sync::Arc;

use super::counts::DropReason;
use super::dialect::{Dialect, Exemplar, milliseconds};
use super::families::{Families, Full};
use super::format::Escaping;
use super::labels::{EXPORTED, LabelSet};
use super::lines::text_of;
use super::metadata::{Keyword, Metadata, MetricType, is_unit_of};
use super::names::{escape_label_name, escape_metric_name, is_old_label_name, is_old_metric_name};
use super::relabel::Held;
use super::sample::{Label, Labels, METRIC_NAME, Sample, Scanner};

/// Where samples go.
pub trait Output: std::fmt::Debug {
    /// A family's samples go into one message, so that another family's must not come between them.
    const WRITES_WHOLE_FAMILIES: bool;
    /// It is OpenMetrics, whose families go by their own names.
    const IS_OPEN_METRICS: bool;

    /// An output that adds these labels.
    fn new(labels: Arc<LabelSet>, names: Escaping) -> Self;

    /// The type that an untyped family is given.
    fn sanitized(kind: MetricType) -> MetricType {
        kind
    }

    /// Writes what is known of a family and not in the answer. Samples of it follow if `has_samples`.
    ///
    /// # Errors
    ///
    /// There is no room for its name.
    fn announce(
        &mut self,
        family: &Family<'_>,
        held: Option<&Held>,
        has_samples: bool,
        families: &mut Families,
        out: &mut Vec<u8>,
    ) -> Result<Part, Full>;

    /// Writes a sample of the family that was announced.
    ///
    /// # Errors
    ///
    /// It cannot be written in this format.
    fn sample<D: Dialect>(
        &mut self,
        line: &[u8],
        sample: &Sample,
        scanner: &Scanner<D>,
        part: Part,
        out: &mut Vec<u8>,
    ) -> Result<Written, DropReason>;

    /// Leaves out what would be false without the samples to come, because no more are written. The first of them belongs
    /// to this family, or to the one that was announced last. Returns how many samples are left out.
    fn cut(&mut self, beyond: Option<&Family<'_>>) -> u64;

    /// Writes what is left.
    fn finish(&mut self, out: &mut Vec<u8>) -> Lost;
}

/// What was written of a sample.
#[derive(Debug, Clone, Copy, Default)]
pub struct Written {
    /// Its exemplar was malformed, or is none that this scraper reads, and is left out.
    pub(super) lost_exemplar: bool,
    /// What was lost since a sample was last written.
    pub(super) lost: Lost,
}

/// Samples that were taken and are not written after all, this one perhaps among them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lost {
    /// In their family there is no place for them.
    pub(super) malformed: u64,
    /// Their family grew too large.
    pub(super) too_long: u64,
    /// They tell the time at which a metric was created that has no other samples.
    pub(super) orphaned: u64,
}

/// Which part of its family a sample is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Its value, or, where a quantile is told, one of its quantiles.
    Value,
    /// `_bucket`
    Bucket,
    /// `_sum`, `_gsum`
    Sum,
    /// `_count`, `_gcount`
    Count,
    /// `_created`
    Created,
}

/// A family, by the name under which it is written.
#[derive(Debug, Clone, Copy)]
pub struct Family<'a> {
    /// The family's name in the body.
    pub(super) stem: &'a [u8],
    /// What is added to it.
    pub(super) suffix: &'static str,
    /// Its type, if it has one.
    pub(super) kind: Option<MetricType>,
    /// The target says so itself.
    pub(super) is_declared: bool,
    /// Which part of it is at hand.
    pub(super) part: Part,
    /// In its help text quotes have a backslash. In Prometheus's text they have none, and one before them is a backslash.
    pub(super) help_has_escaped_quotes: bool,
}

impl<'a> Family<'a> {
    /// The family to which a sample belongs whose name is `stem` and `suffix`.
    pub(super) fn of_sample<D: Dialect, O: Output>(stem: &'a [u8], suffix: &[u8], kind: Option<MetricType>) -> Self {
        let mut family = Self::without_samples::<D, O>(stem, kind);
        family.part = match suffix {
            b"_bucket" => Part::Bucket,
            b"_sum" | b"_gsum" => Part::Sum,
            b"_count" | b"_gcount" => Part::Count,
            b"_created" => Part::Created,
            _ => Part::Value,
        };
        if D::IS_OPEN_METRICS && !O::IS_OPEN_METRICS {
            (family.suffix, family.kind) = match suffix {
                // A family that goes by its samples' name, against the rules: it has its ending already.
                b"" if !family.suffix.is_empty() && stem.ends_with(family.suffix.as_bytes()) => ("", kind),
                // A counter's sample that does not end as it should is none of the counter's.
                b"" if !family.suffix.is_empty() => ("", kind.filter(|_| O::WRITES_WHOLE_FAMILIES)),
                _ if O::WRITES_WHOLE_FAMILIES => return family,
                // Text has no such parts: they are families of their own.
                b"_created" => ("_created", Some(MetricType::Gauge)),
                b"_gsum" => ("_gsum", Some(MetricType::Gauge)),
                b"_gcount" => ("_gcount", Some(MetricType::Gauge)),
                _ => return family,
            };
        }
        family
    }

    /// The family of this name and type.
    pub(super) fn without_samples<D: Dialect, O: Output>(stem: &'a [u8], kind: Option<MetricType>) -> Self {
        // Outside of OpenMetrics these are known by the names of their samples.
        let suffix = match kind {
            Some(MetricType::Counter) if D::IS_OPEN_METRICS => "_total",
            Some(MetricType::Info) => "_info",
            _ => "",
        };
        Self {
            stem,
            suffix: if O::IS_OPEN_METRICS { "" } else { suffix },
            kind,
            part: Part::Value,
            is_declared: true,
            help_has_escaped_quotes: D::IS_OPEN_METRICS,
        }
    }

    /// Gives it a type that its target does not.
    pub(super) fn sanitize(&mut self, kind: MetricType) {
        self.kind = Some(kind);
        self.is_declared = false;
    }
}

/// Writes lines in the dialect `F`.
#[derive(Debug)]
pub struct LineOutput<F> {
    labels: Arc<LabelSet>,
    names: Escaping,
    /// The names that labels of the sample being written were given instead of their own, each with a comma behind it.
    given: Vec<u8>,
    /// The name under which the family being announced is written.
    key: Vec<u8>,
    dialect: PhantomData<F>,
}

impl<F: Dialect> Output for LineOutput<F> {
    const WRITES_WHOLE_FAMILIES: bool = false;
    const IS_OPEN_METRICS: bool = F::IS_OPEN_METRICS;

    fn new(labels: Arc<LabelSet>, names: Escaping) -> Self {
        Self {
            labels,
            names,
            given: Vec::new(),
            key: Vec::new(),
            dialect: PhantomData,
        }
    }

    fn sanitized(kind: MetricType) -> MetricType {
        match kind {
            // The sample of an OpenMetrics counter must end in `_total`, and this one does not.
            MetricType::Counter if F::IS_OPEN_METRICS => MetricType::Gauge,
            kind => kind,
        }
    }

    fn announce(
        &mut self,
        family: &Family<'_>,
        held: Option<&Held>,
        has_samples: bool,
        families: &mut Families,
        out: &mut Vec<u8>,
    ) -> Result<Part, Full> {
        self.key.clear();
        write_metric_name(family.stem, self.names, &mut self.key);
        self.key.extend_from_slice(family.suffix.as_bytes());
        // A part has no metadata of its own: strict readers take it for that of its family, a second time.
        let is_part = families.is_part::<F>(&self.key);
        let target = families.target();
        let known = families.entry(&self.key)?;
        if is_part {
            known.has_samples |= has_samples;
            return Ok(family.part);
        }
        for (metadata, line) in held.map_or(&[][..], Held::lines) {
            let is_known = match metadata.keyword {
                Keyword::Help => std::mem::replace(&mut known.has_help, true),
                // Escaped, the name may no longer end in the unit.
                Keyword::Unit if F::IS_OPEN_METRICS && is_unit_of(&self.key, text_of(&line[metadata.text..])) => {
                    std::mem::replace(&mut known.has_unit, true)
                }
                // In other words or under another name, it is written below.
                Keyword::Type(kind)
                    if family.suffix.is_empty()
                        && family.kind == Some(kind)
                        && text_of(&line[metadata.text..]) == word::<F>(kind).as_bytes() =>
                {
                    known.has_samples || std::mem::replace(&mut known.has_type, true)
                }
                Keyword::Unit | Keyword::Type(_) => true,
            };
            if !is_known {
                self.write_metadata(*metadata, line, family, out);
            }
        }
        if let Some(kind) = family.kind
            && !known.has_samples
            && !std::mem::replace(&mut known.has_type, true)
        {
            out.extend_from_slice(b"# TYPE ");
            write_family_name(family, self.names, out);
            out.push(b' ');
            out.extend_from_slice(word::<F>(kind).as_bytes());
            out.push(b'\n');
        }
        known.has_samples |= has_samples;
        if let Some(kind) = family.kind
            && known.has_type
        {
            let types = known.settle_type(target, kind, family.is_declared, word::<F>);
            families.note_conflict(&self.key, types);
        }
        Ok(family.part)
    }

    fn sample<D: Dialect>(
        &mut self,
        line: &[u8],
        sample: &Sample,
        scanner: &Scanner<D>,
        _: Part,
        out: &mut Vec<u8>,
    ) -> Result<Written, DropReason> {
        let (tail, lost_exemplar) = Tail::of::<D, F>(line, sample, self.names)?;
        if sample.has_quoted_name && self.names == Escaping::Underscores {
            self.write_escaped(line, sample, scanner, out)?;
            tail.write(line, out);
        } else {
            self.write_own(line, sample, scanner, tail, out);
        }
        Ok(Written {
            lost_exemplar,
            lost: Lost::default(),
        })
    }

    fn cut(&mut self, _: Option<&Family<'_>>) -> u64 {
        // Each line tells what it tells.
        0
    }

    fn finish(&mut self, _: &mut Vec<u8>) -> Lost {
        Lost::default()
    }
}

impl<F: Dialect> LineOutput<F> {
    /// Writes a sample with its own bytes and the labels.
    fn write_own<D: Dialect>(
        &mut self,
        line: &[u8],
        sample: &Sample,
        scanner: &Scanner<D>,
        tail: Tail,
        out: &mut Vec<u8>,
    ) {
        let labels = &*self.labels;
        match sample.labels {
            Labels::Absent if labels.is_empty() => out.extend_from_slice(&line[..sample.name.end]),
            Labels::Absent => {
                out.extend_from_slice(&line[..sample.name.end]);
                out.push(b'{');
                out.extend_from_slice(labels.rendered());
                out.push(b'}');
            }
            Labels::Braces { close, needs_comma } => {
                let has_last_comma = D::IS_OPEN_METRICS && labels.is_empty() && !needs_comma && line[close - 1] == b',';
                let own = &line[..close - usize::from(has_last_comma)];
                if labels.fingerprints() & scanner.fingerprints() == 0 {
                    out.extend_from_slice(own);
                } else {
                    write_renamed(own, scanner, labels, &mut self.given, out);
                }
                out.extend_from_slice(if needs_comma {
                    labels.after_comma()
                } else {
                    labels.rendered()
                });
            }
        }
        tail.write(line, out);
    }

    /// Writes a sample's name and labels, and the added ones, for a scraper that does not read quoted names.
    fn write_escaped<D: Dialect>(
        &mut self,
        line: &[u8],
        sample: &Sample,
        scanner: &Scanner<D>,
        out: &mut Vec<u8>,
    ) -> Result<(), DropReason> {
        let own = final_names(line, scanner.labels(), &self.labels, self.names)?;
        write_metric_name(sample.name.of(line), self.names, out);
        out.push(b'{');
        for (index, (name, label)) in own.iter().zip(scanner.labels()).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(name);
            out.extend_from_slice(b"=\"");
            out.extend_from_slice(label.value(line));
            out.push(b'"');
        }
        let added = &self.labels;
        out.extend_from_slice(if own.is_empty() {
            added.rendered()
        } else {
            added.after_comma()
        });
        Ok(())
    }

    fn write_metadata(&self, metadata: Metadata, line: &[u8], family: &Family<'_>, out: &mut Vec<u8>) {
        let name = metadata.name;
        let is_escaped = name.is_quoted && self.names == Escaping::Underscores;
        if is_escaped {
            out.extend_from_slice(&line[..name.start - 1]);
            write_family_name(family, self.names, out);
        } else {
            out.extend_from_slice(&line[..name.end]);
            out.extend_from_slice(family.suffix.as_bytes());
            out.extend_from_slice(&line[name.end..name.outer_end()]);
        }
        let rest = &line[name.outer_end()..];
        if F::IS_OPEN_METRICS || metadata.keyword != Keyword::Help || memchr::memmem::find(rest, b"\\\"").is_none() {
            out.extend_from_slice(rest);
        } else {
            unescape_quotes(rest, out);
        }
    }
}

/// What follows a sample's labels, their closing brace included.
#[derive(Debug, Clone, Copy)]
struct Tail {
    /// The bytes that are written as they came.
    start: usize,
    end: usize,
    /// What is written behind them, before the newline.
    timestamp: Option<i64>,
    has_newline: bool,
}

impl Tail {
    #[inline(always)]
    /// The tail, and whether it lacks the exemplar that it should have.
    fn of<D: Dialect, F: Dialect>(line: &[u8], sample: &Sample, names: Escaping) -> Result<(Self, bool), DropReason> {
        let start = match sample.labels {
            Labels::Absent => sample.name.end,
            Labels::Braces { close, .. } => close,
        };
        let mut tail = Self {
            start,
            end: line.len(),
            timestamp: None,
            has_newline: true,
        };
        let lost_exemplar = match sample.numbers.exemplar {
            Exemplar::Absent => None,
            Exemplar::At { start, has_quoted_name } => {
                let is_read =
                    names == Escaping::AllowUtf8 || (!has_quoted_name && may_have_exemplar(sample.name.of(line)));
                // In text it goes, whoever reads it.
                (F::IS_OPEN_METRICS && !is_read).then_some(start)
            }
            Exemplar::Malformed(start) => Some(start),
        };
        if let Some(start) = lost_exemplar {
            (tail.end, tail.has_newline) = (start as usize, false);
        }
        if D::IS_OPEN_METRICS && !F::IS_OPEN_METRICS {
            (tail.end, tail.has_newline) = (sample.numbers.value.end(), false);
            if let Some(timestamp) = sample.numbers.timestamp {
                // Text has none before 1970.
                let milliseconds = milliseconds(timestamp.of(line)).filter(|milliseconds| *milliseconds >= 0);
                tail.timestamp = Some(milliseconds.ok_or(DropReason::Malformed)?);
            }
        }
        Ok((tail, lost_exemplar.is_some()))
    }

    #[inline(always)]
    fn write(self, line: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&line[self.start..self.end]);
        if let Some(milliseconds) = self.timestamp {
            out.push(b' ');
            out.extend_from_slice(milliseconds.to_string().as_bytes());
        }
        if !self.has_newline {
            out.push(b'\n');
        }
    }
}

/// Whether a Prometheus that reads no quoted names reads an exemplar at this name: up to 2.42 it rejects the scrape for
/// one at any other (`validateNameForExemplar` in `openmetricsparse.go`).
fn may_have_exemplar(name: &[u8]) -> bool {
    let ends_well = |name: &[u8]| name.ends_with(b"_total") || name.ends_with(b"_bucket");
    ends_well(name) || {
        let mut escaped = Vec::new();
        write_metric_name(name, Escaping::Underscores, &mut escaped);
        ends_well(&escaped)
    }
}

/// The word for a type.
fn word<F: Dialect>(kind: MetricType) -> &'static str {
    if F::IS_OPEN_METRICS {
        kind.in_open_metrics()
    } else {
        kind.in_text()
    }
}

/// Writes a family's name as metadata lines have it.
fn write_family_name(family: &Family<'_>, names: Escaping, out: &mut Vec<u8>) {
    let quote = (names == Escaping::AllowUtf8 && !is_old_metric_name(family.stem)).then_some(b'"');
    out.extend(quote);
    write_metric_name(family.stem, names, out);
    out.extend_from_slice(family.suffix.as_bytes());
    out.extend(quote);
}

/// Writes a metric's name, which came between quotes or without, for this scraper, without quotes.
fn write_metric_name(name: &[u8], names: Escaping, out: &mut Vec<u8>) {
    match names {
        Escaping::AllowUtf8 => out.extend_from_slice(name),
        Escaping::Underscores => escape_quoted(name, is_old_metric_name, escape_metric_name, out),
    }
}

/// Escapes a name as it stands between quotes, if it is none that any scraper reads.
fn escape_quoted(name: &[u8], is_old: fn(&[u8]) -> bool, escape: fn(&str, &mut Vec<u8>), out: &mut Vec<u8>) {
    if is_old(name) {
        return out.extend_from_slice(name);
    }
    let mut plain = Vec::with_capacity(name.len());
    unescape(name, &mut plain);
    escape(&String::from_utf8_lossy(&plain), out);
}

/// A label's name as this scraper is to read it, without quotes or escapes.
pub(super) fn final_name(label: Label, line: &[u8], names: Escaping) -> Vec<u8> {
    let mut name = Vec::new();
    match names {
        Escaping::AllowUtf8 => unescape(label.name(line), &mut name),
        Escaping::Underscores => escape_quoted(label.name(line), is_old_label_name, escape_label_name, &mut name),
    }
    name
}

/// The names of a sample's labels as this scraper is to read them, those that collide with an added one renamed.
///
/// # Errors
///
/// Two of them have one name.
pub(super) fn final_names(
    line: &[u8],
    labels: &[Label],
    added: &LabelSet,
    names: Escaping,
) -> Result<Vec<Vec<u8>>, DropReason> {
    let mut own: Vec<Vec<u8>> = labels.iter().map(|label| final_name(*label, line, names)).collect();
    if !are_unique(&own) {
        return Err(DropReason::Malformed);
    }
    for index in 0..own.len() {
        if !added.contains(&own[index]) {
            continue;
        }
        let mut name = own[index].clone();
        while added.contains(&name) || own.iter().enumerate().any(|(at, other)| at != index && *other == name) {
            name.splice(..0, EXPORTED.iter().copied());
        }
        own[index] = name;
    }
    Ok(own)
}

/// Whether no two labels have one name, and none the name under which Prometheus keeps the metric's.
pub(super) fn are_unique(names: &[Vec<u8>]) -> bool {
    let mut sorted: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    sorted.sort_unstable();
    sorted.windows(2).all(|pair| pair[0] != pair[1]) && sorted.binary_search(&METRIC_NAME).is_err()
}

/// Appends a metric's name as this scraper is to read it, without quotes or escapes.
pub(super) fn put_metric_name(name: &[u8], names: Escaping, out: &mut Vec<u8>) {
    match names {
        Escaping::AllowUtf8 => unescape(name, out),
        Escaping::Underscores => write_metric_name(name, names, out),
    }
}

/// Takes the escapes out of a quoted name or value: `\\`, `\"` and `\n`. Prometheus leaves others as they are.
pub(super) fn unescape(escaped: &[u8], out: &mut Vec<u8>) {
    unescape_help(escaped, true, out);
}

/// Takes the escapes out of a help text, in which quotes may have none.
pub(super) fn unescape_help(escaped: &[u8], has_escaped_quotes: bool, out: &mut Vec<u8>) {
    let mut rest = escaped;
    while let Some(backslash) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..backslash]);
        let (plain, length) = match rest.get(backslash + 1) {
            Some(b'n') => (b'\n', 2),
            Some(b'\\') => (b'\\', 2),
            Some(b'"') if has_escaped_quotes => (b'"', 2),
            _ => (b'\\', 1),
        };
        out.push(plain);
        rest = &rest[backslash + length..];
    }
    out.extend_from_slice(rest);
}

/// Writes a help text of OpenMetrics as one of text, in which a quote has no backslash.
fn unescape_quotes(text: &[u8], out: &mut Vec<u8>) {
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        match bytes.next() {
            Some(b'"') => out.push(b'"'),
            Some(other) => out.extend([b'\\', *other]),
            None => out.push(b'\\'),
        }
    }
}

/// Writes a sample up to its closing brace, its labels renamed where their names are among those added.
fn write_renamed<D: Dialect>(
    own: &[u8],
    scanner: &Scanner<D>,
    added: &LabelSet,
    given: &mut Vec<u8>,
    out: &mut Vec<u8>,
) {
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
        let span = label.name_span();
        out.extend_from_slice(&own[written..span.start]);
        out.extend_from_slice(&given[start..]);
        given.push(b',');
        written = span.end;
    }
    out.extend_from_slice(&own[written..]);
}
