//! One sample line: is it one that Prometheus reads, and where do its parts stand?
//!
//! In: a line without its newline and, in text, without leading blanks. Out: positions in that line, or [`Malformed`].
//! Nothing is copied or unescaped; the caller writes the bytes that came.
//!
//! The grammar is Prometheus's own, as its lexers and parsers have it (`model/textparse/promlex.l`, `promparse.go`,
//! `openmetricslex.l` and `openmetricsparse.go` of release 2.42, the oldest in wide use, with the quoted names of 3.x),
//! not that of the formats' descriptions: for example the comma between two labels may be missing in text, and no blank
//! is needed between the labels and the value. What the two formats differ in is in [`Dialect`].

use std::marker::PhantomData;

use super::chars::{label_name_end, rest_of_metric_name};
use super::dialect::{Dialect, Numbers};

/// The line is none that Prometheus reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Labels up to which a name is looked for by going through all of them; among more, by sorting them.
const FEW_LABELS: usize = 64;

/// Bytes from which on a line is not kept for the next to be compared with.
const LONG_LINE: usize = 64 << 10;

/// Where a name stands in its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    pub start: usize,
    pub end: usize,
    /// It stands between quotes, which are not part of it, and may hold any character.
    pub is_quoted: bool,
}

impl Name {
    /// The name, as it is written in this line.
    pub(super) fn of(self, line: &[u8]) -> &[u8] {
        &line[self.start..self.end]
    }

    /// Where it ends in its line, its quote included.
    pub(super) fn outer_end(self) -> usize {
        self.end + usize::from(self.is_quoted)
    }
}

/// Where the parts of a sample line stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// The metric's name: before the braces, or between them and quoted.
    pub name: Name,
    /// The metric's name or that of a label is quoted.
    pub has_quoted_name: bool,
    pub labels: Labels,
    /// The metric name is that of the sample scanned before.
    pub same_name: bool,
    pub numbers: Numbers,
}

/// How the labels of a sample line are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// No braces.
    Absent,
    /// Braces; the closing one is at `close`. A label written there needs a comma before it if `needs_comma`.
    Braces { close: usize, needs_comma: bool },
}

/// A label of the line last scanned.
#[derive(Debug, Clone, Copy)]
pub struct Label {
    name_start: u32,
    name_end: u32,
    /// Behind the quote that closes its value.
    end: u32,
    /// The [`fingerprint`] of its name: two equal names always share one, two different names seldom do.
    fingerprint: u64,
    /// The fingerprints of its name and of all before it.
    fingerprints: u64,
    is_quoted: bool,
    /// Its name or that of one before it is quoted.
    any_quoted: bool,
}

impl Label {
    /// Where its name stands.
    pub(super) fn name_span(self) -> Name {
        Name {
            start: self.name_start as usize,
            end: self.name_end as usize,
            is_quoted: self.is_quoted,
        }
    }

    /// Its value, as it is written between its quotes in the line last scanned.
    pub(super) fn value(self, line: &[u8]) -> &[u8] {
        let value = &line[self.name_span().outer_end()..self.end as usize - 1];
        let quote = memchr::memchr(b'"', value).map_or(value.len(), |quote| quote + 1);
        &value[quote..]
    }

    /// Its name, in the line last scanned.
    pub(super) fn name(self, line: &[u8]) -> &[u8] {
        &line[self.name_start as usize..self.name_end as usize]
    }
}

/// Scans sample lines.
///
/// A sample mostly begins as the one before it did: the buckets of a histogram differ in their last label alone. So the
/// scanner keeps the last line it read and where its labels stand, and scans the next from the last label that both
/// have in common.
#[derive(Debug)]
pub struct Scanner<D> {
    /// The name and the labels of the line last read, up to the closing brace.
    last: Vec<u8>,
    last_name_end: usize,
    labels: Vec<Label>,
    dialect: PhantomData<D>,
}

impl<D> Default for Scanner<D> {
    fn default() -> Self {
        Self {
            last: Vec::new(),
            last_name_end: 0,
            labels: Vec::new(),
            dialect: PhantomData,
        }
    }
}

impl<D: Dialect> Scanner<D> {
    /// Scans one sample line.
    pub(super) fn scan(&mut self, line: &[u8]) -> Result<Sample, Malformed> {
        if self.last.len() > LONG_LINE {
            // The room that it took must not be held for the lines that follow.
            *self = Self::default();
        }
        let common = common_prefix(&self.last, line);
        let kept = self.labels.iter().rposition(|label| label.end as usize <= common);
        self.labels.truncate(kept.map_or(0, |index| index + 1));
        let scanned = self.scan_from(line, common);
        match scanned {
            Ok(sample) if sample.name.is_quoted => self.last.clear(),
            Ok(sample) => {
                let end = match sample.labels {
                    Labels::Absent => sample.name.end,
                    Labels::Braces { close, .. } => close,
                };
                self.last.truncate(common);
                self.last.extend_from_slice(&line[common.min(end)..end]);
                self.last_name_end = sample.name.end;
            }
            Err(Malformed) => self.forget(),
        }
        scanned
    }

    /// Forgets the line last read: the next one is scanned from its beginning.
    fn forget(&mut self) {
        self.last.clear();
        self.labels.clear();
        self.last_name_end = 0;
    }

    /// Scans a line that has `common` bytes in common with the last one; the labels among them are known.
    fn scan_from(&mut self, line: &[u8], common: usize) -> Result<Sample, Malformed> {
        if line.first() == Some(&b'{') {
            return self.scan_with_name_in_braces(line);
        }
        let name_end = rest_of_metric_name(line, common.min(self.last_name_end)).ok_or(Malformed)?;
        let same_name = name_end == self.last_name_end && common >= name_end;
        let mut at = D::skip_blanks(line, name_end);
        let mut labels = Labels::Absent;
        if line.get(at) == Some(&b'{') {
            let (close, needs_comma) = self.scan_labels(line, at + 1, &mut None)?;
            labels = Labels::Braces { close, needs_comma };
            at = close + 1;
        }
        Ok(Sample {
            name: Name {
                start: 0,
                end: name_end,
                is_quoted: false,
            },
            has_quoted_name: self.has_quoted_name(),
            labels,
            same_name,
            numbers: D::numbers(line, at)?,
        })
    }

    /// Scans a line that starts with its opening brace.
    fn scan_with_name_in_braces(&mut self, line: &[u8]) -> Result<Sample, Malformed> {
        self.labels.clear();
        let mut name = Some(None);
        let (close, needs_comma) = self.scan_labels_apart(line, 1, &mut name)?;
        Ok(Sample {
            name: name.flatten().ok_or(Malformed)?,
            has_quoted_name: true,
            labels: Labels::Braces { close, needs_comma },
            same_name: false,
            numbers: D::numbers(line, close + 1)?,
        })
    }

    fn has_quoted_name(&self) -> bool {
        self.labels.last().is_some_and(|label| label.any_quoted)
    }

    /// The labels of the line last scanned, in its order.
    pub(super) fn labels(&self) -> &[Label] {
        &self.labels
    }

    /// The [`fingerprint`]s of the label names of the line last scanned.
    pub(super) fn fingerprints(&self) -> u64 {
        self.labels.last().map_or(0, |label| label.fingerprints)
    }

    /// Scans the labels that are not known, from behind the opening brace or the last known label to the closing brace.
    /// Where `metric` has a place for the metric's name, it may stand among them, quoted and without a value.
    #[inline(always)]
    fn scan_labels(
        &mut self,
        line: &[u8],
        start: usize,
        metric: &mut Option<Option<Name>>,
    ) -> Result<(usize, bool), Malformed> {
        let mut fingerprints = self.fingerprints();
        let mut any_quoted = self.has_quoted_name();
        let mut maybe_among_many = false;
        let (mut at, mut needs_comma) = match self.labels.last() {
            Some(label) => skip_comma::<D>(line, label.end as usize)?,
            None => (D::skip_blanks(line, start), false),
        };
        while line.get(at) != Some(&b'}') {
            let span = label_name::<D>(line, at)?;
            if span.is_quoted && is_metric_name::<D>(line, span) {
                match metric {
                    Some(place @ None) => *place = Some(span),
                    _ => return Err(Malformed),
                }
                (at, needs_comma) = skip_comma::<D>(line, span.outer_end())?;
                continue;
            }
            let end = quoted_end(line, value_start::<D>(line, span.outer_end())?)? + 1;
            let name = span.of(line);
            let fingerprint = fingerprint(name);
            if fingerprints & fingerprint != 0 {
                maybe_among_many |= self.labels.len() > FEW_LABELS;
                if self.labels.len() <= FEW_LABELS && self.has_like(line, name, fingerprint) {
                    return Err(Malformed);
                }
            }
            if name == METRIC_NAME {
                // Prometheus keeps the metric's own name under this label, so that it is there twice.
                return Err(Malformed);
            }
            fingerprints |= fingerprint;
            any_quoted |= span.is_quoted;
            self.labels.push(Label {
                name_start: span.start as u32,
                name_end: span.end as u32,
                end: end as u32,
                fingerprint,
                fingerprints,
                is_quoted: span.is_quoted,
                any_quoted,
            });
            (at, needs_comma) = skip_comma::<D>(line, end)?;
        }
        if maybe_among_many && self.has_duplicate(line) {
            return Err(Malformed);
        }
        Ok((at, needs_comma))
    }

    /// As [`Self::scan_labels`], which is woven into the scan of every sample, for lines that are none of the many.
    #[cold]
    fn scan_labels_apart(
        &mut self,
        line: &[u8],
        start: usize,
        metric: &mut Option<Option<Name>>,
    ) -> Result<(usize, bool), Malformed> {
        self.scan_labels(line, start, metric)
    }

    /// Whether the line being scanned has a label of this name and fingerprint.
    fn has_like(&self, line: &[u8], name: &[u8], fingerprint: u64) -> bool {
        self.labels
            .iter()
            .any(|label| label.fingerprint == fingerprint && label.name(line) == name)
    }

    /// Whether the line last scanned has a label of this name.
    pub(super) fn has(&self, line: &[u8], name: &[u8]) -> bool {
        self.labels.iter().any(|label| label.name(line) == name)
    }

    /// Whether two labels of the line being scanned have one name.
    fn has_duplicate(&self, line: &[u8]) -> bool {
        let mut names: Vec<&[u8]> = self.labels.iter().map(|label| label.name(line)).collect();
        names.sort_unstable();
        names.windows(2).any(|pair| pair[0] == pair[1])
    }
}

/// The label under which Prometheus keeps a metric's name.
pub(super) const METRIC_NAME: &[u8] = b"__name__";

/// The label's name that starts at `at`, quoted or not.
#[inline(always)]
fn label_name<D: Dialect>(line: &[u8], at: usize) -> Result<Name, Malformed> {
    if line.get(at) == Some(&b'"') {
        return quoted_name(line, at);
    }
    Ok(Name {
        start: at,
        end: label_name_end(line, at).ok_or(Malformed)?,
        is_quoted: false,
    })
}

/// The name whose opening quote is at `at`. It must not be empty, and only the escapes that Prometheus knows may stand in
/// it: so one name is always written in one way. At NUL, which it passes over in a label's value, its lexer stops.
pub(super) fn quoted_name(line: &[u8], at: usize) -> Result<Name, Malformed> {
    let (start, end) = (at + 1, quoted_end(line, at + 1)?);
    let mut bytes = line[start..end].iter();
    while let Some(byte) = bytes.next() {
        let is_readable = match byte {
            0 => false,
            b'\\' => matches!(bytes.next(), Some(b'\\' | b'"' | b'n')),
            _ => true,
        };
        if !is_readable {
            return Err(Malformed);
        }
    }
    if start == end {
        return Err(Malformed);
    }
    Ok(Name {
        start,
        end,
        is_quoted: true,
    })
}

/// Whether a quoted name between braces is the metric's: it has no value.
fn is_metric_name<D: Dialect>(line: &[u8], name: Name) -> bool {
    let next = D::skip_blanks(line, name.outer_end());
    matches!(line.get(next), Some(b',' | b'}'))
}

/// Behind a label's name: the index behind the quote that opens its value.
#[inline(always)]
fn value_start<D: Dialect>(line: &[u8], name_end: usize) -> Result<usize, Malformed> {
    if line[name_end..].starts_with(b"=\"") {
        return Ok(name_end + 2);
    }
    let equals = D::skip_blanks(line, name_end);
    if line.get(equals) != Some(&b'=') {
        return Err(Malformed);
    }
    let quote = D::skip_blanks(line, equals + 1);
    if line.get(quote) != Some(&b'"') {
        return Err(Malformed);
    }
    Ok(quote + 1)
}

/// Behind a label: the index of the next label or brace, and whether another label would need a comma first.
#[inline(always)]
fn skip_comma<D: Dialect>(line: &[u8], label_end: usize) -> Result<(usize, bool), Malformed> {
    let at = D::skip_blanks(line, label_end);
    match line.get(at) {
        Some(b',') => Ok((D::skip_blanks(line, at + 1), false)),
        Some(b'}') => Ok((at, true)),
        _ if D::COMMA_MAY_BE_MISSING => Ok((at, true)),
        _ => Err(Malformed),
    }
}

/// How many bytes two lines have in common from their beginning. Eight bytes a step.
fn common_prefix(one: &[u8], other: &[u8]) -> usize {
    let mut length = 0;
    for (one, other) in one.chunks_exact(8).zip(other.chunks_exact(8)) {
        let difference = word(one) ^ word(other);
        if difference != 0 {
            return length + difference.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    let rest = one[length..].iter().zip(&other[length..]);
    length + rest.take_while(|(one, other)| one == other).count()
}

/// Eight bytes, the first of them lowest.
fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("the chunk has eight bytes"))
}

/// One bit of 64, told by the name's length and its first and last bytes.
pub(super) const fn fingerprint(name: &[u8]) -> u64 {
    let (first, last) = (name[0] as usize, name[name.len() - 1] as usize);
    1 << ((name.len() * 5 + first * 3 + last) % 64)
}

/// The index of the quote that closes the label value starting at `start`.
#[inline(always)]
fn quoted_end(line: &[u8], start: usize) -> Result<usize, Malformed> {
    let mut at = start;
    let mut ascii = true;
    loop {
        let (stop, run_is_ascii) = plain_run_end(line, at);
        ascii &= run_is_ascii;
        match line.get(stop) {
            Some(b'"') => {
                let value = &line[start..stop];
                return if ascii || std::str::from_utf8(value).is_ok() {
                    Ok(stop)
                } else {
                    Err(Malformed)
                };
            }
            // Any byte may follow a backslash but NUL, at which Prometheus's lexer stops; one that it does not know, it
            // keeps with its backslash.
            Some(_) if line.get(stop + 1).is_some_and(|byte| *byte != 0) => {
                ascii &= line[stop + 1].is_ascii();
                at = stop + 2;
            }
            _ => return Err(Malformed),
        }
    }
}

/// The index of the first quote or backslash from `start` on (the line's length if there is none), and whether all
/// bytes before it are ASCII. Eight bytes a step: this is where most of a body's bytes are looked at.
#[inline(always)]
fn plain_run_end(line: &[u8], start: usize) -> (usize, bool) {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    const QUOTES: u64 = ONES * b'"' as u64;
    const BACKSLASHES: u64 = ONES * b'\\' as u64;
    /// Sets the high bit of each zero byte; a bit above the lowest one set may be false, the lowest never is.
    const fn zero_bytes(word: u64) -> u64 {
        word.wrapping_sub(ONES) & !word & HIGHS
    }

    let rest = &line[start..];
    let mut non_ascii = 0;
    let mut words = rest.chunks_exact(8);
    for (index, chunk) in words.by_ref().enumerate() {
        let word = word(chunk);
        let found = zero_bytes(word ^ QUOTES) | zero_bytes(word ^ BACKSLASHES);
        if found != 0 {
            let before = found.trailing_zeros() / 8;
            // The bytes below the one found: none for 0, so the mask never shifts by 64.
            let mask = (1u64 << (before * 8)) - 1;
            non_ascii |= word & HIGHS & mask;
            return (start + index * 8 + before as usize, non_ascii == 0);
        }
        non_ascii |= word & HIGHS;
    }
    let tail = words.remainder();
    let length = tail
        .iter()
        .position(|byte| matches!(byte, b'"' | b'\\'))
        .unwrap_or(tail.len());
    let ascii = non_ascii == 0 && tail[..length].is_ascii();
    (line.len() - tail.len() + length, ascii)
}

/// The labels of an exemplar, scanned: in the order of the line, with the index behind the closing brace.
pub(super) fn exemplar_labels<D: Dialect>(line: &[u8], start: usize) -> Result<(Vec<Label>, usize), Malformed> {
    let mut scanner = Scanner::<D>::default();
    let (close, _) = scanner.scan_labels_apart(line, start, &mut None)?;
    Ok((scanner.labels, close + 1))
}
