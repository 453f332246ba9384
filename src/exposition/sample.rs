//! One sample line: is it one that Prometheus reads, and where do its parts stand?
//!
//! In: a line without its newline and without leading blanks. Out: positions in that line, or [`Malformed`].
//! Nothing is copied or unescaped; the caller writes the bytes that came.
//!
//! The grammar is Prometheus's own, as its lexer and parser have it (`model/textparse/promlex.l` and `promparse.go`
//! of release 2.42, the oldest in wide use), not that of the format's description: for example the comma between two
//! labels may be missing, and no blank is needed between the labels and the value. Quoted metric and label names
//! (text 1.0.0) are not part of it.

use super::chars::{is_blank, label_name_end, metric_name_end, skip_blanks};
use super::value::{is_timestamp, is_value};

/// The line is none that Prometheus reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Labels up to which duplicates are looked for by comparing each with each.
const FEW_LABELS: usize = 32;

/// Where the parts of a sample line stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    /// The end of the metric name, which starts at 0.
    pub name_end: usize,
    pub labels: Labels,
}

/// How the labels of a sample line are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Labels {
    /// No braces.
    Absent,
    /// Braces; the closing one is at `close`. A label written there needs a comma before it if `needs_comma`.
    Braces { close: usize, needs_comma: bool },
}

/// The start and end of a label name in its line.
pub(super) type Span = (u32, u32);

/// Scans sample lines; keeps the room for one line's label names so that no line costs an allocation.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    names: Vec<Span>,
    /// A set of the names' [`fingerprint`]s: two equal names always share one, two different names seldom do.
    fingerprints: u64,
}

impl Scanner {
    /// Scans one sample line. `name_hint` is the length of a metric name that the line is known to start with, or 0.
    pub(super) fn scan(&mut self, line: &[u8], name_hint: usize) -> Result<Sample, Malformed> {
        self.names.clear();
        self.fingerprints = 0;
        let name_end = if name_hint > 0 {
            name_hint
        } else {
            metric_name_end(line, 0).ok_or(Malformed)?
        };
        let mut at = skip_blanks(line, name_end);
        let mut labels = Labels::Absent;
        if line.get(at) == Some(&b'{') {
            let (close, needs_comma) = self.scan_labels(line, at + 1)?;
            labels = Labels::Braces { close, needs_comma };
            at = skip_blanks(line, close + 1);
        }
        scan_numbers(&line[at..])?;
        Ok(Sample { name_end, labels })
    }

    /// The label names of the line last scanned, in the order of the line.
    pub(super) fn label_names(&self) -> &[Span] {
        &self.names
    }

    /// The [`fingerprint`]s of the label names of the line last scanned.
    pub(super) fn fingerprints(&self) -> u64 {
        self.fingerprints
    }

    /// Scans from behind the opening brace to the closing one.
    fn scan_labels(&mut self, line: &[u8], start: usize) -> Result<(usize, bool), Malformed> {
        let mut at = skip_blanks(line, start);
        let mut needs_comma = false;
        let mut maybe_duplicate = false;
        while line.get(at) != Some(&b'}') {
            let name_end = label_name_end(line, at).ok_or(Malformed)?;
            let bit = fingerprint(&line[at..name_end]);
            maybe_duplicate |= self.fingerprints & bit != 0;
            self.fingerprints |= bit;
            self.names.push((at as u32, name_end as u32));
            at = skip_blanks(line, name_end);
            if line.get(at) != Some(&b'=') {
                return Err(Malformed);
            }
            at = skip_blanks(line, at + 1);
            if line.get(at) != Some(&b'"') {
                return Err(Malformed);
            }
            at = quoted_end(line, at + 1)?;
            at = skip_blanks(line, at + 1);
            needs_comma = line.get(at) != Some(&b',');
            if !needs_comma {
                at = skip_blanks(line, at + 1);
            }
        }
        if self.fingerprints & fingerprint(METRIC_NAME) != 0 && self.has(line, METRIC_NAME) {
            // Prometheus keeps the metric's name under this label, so that it is there twice.
            return Err(Malformed);
        }
        if maybe_duplicate && self.has_duplicate(line) {
            return Err(Malformed);
        }
        Ok((at, needs_comma))
    }

    /// Whether the line last scanned has a label of this name.
    pub(super) fn has(&self, line: &[u8], name: &[u8]) -> bool {
        self.names.iter().any(|span| text(line, *span) == name)
    }

    fn has_duplicate(&self, line: &[u8]) -> bool {
        if self.names.len() <= FEW_LABELS {
            return self.names.iter().enumerate().any(|(index, span)| {
                self.names[..index]
                    .iter()
                    .any(|earlier| text(line, *earlier) == text(line, *span))
            });
        }
        let mut names: Vec<&[u8]> = self.names.iter().map(|span| text(line, *span)).collect();
        names.sort_unstable();
        names.windows(2).any(|pair| pair[0] == pair[1])
    }
}

/// The label under which Prometheus keeps a metric's name.
const METRIC_NAME: &[u8] = b"__name__";

/// The bytes of a label name.
pub(super) fn text(line: &[u8], (start, end): Span) -> &[u8] {
    &line[start as usize..end as usize]
}

/// One bit of 64, told by the name's length and its first and last bytes.
pub(super) fn fingerprint(name: &[u8]) -> u64 {
    let (first, last) = (name[0] as usize, name[name.len() - 1] as usize);
    1 << ((name.len() * 5 + first * 3 + last) % 64)
}

/// The index of the quote that closes the label value starting at `start`.
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
            // Any byte may follow a backslash; one Prometheus does not know, it keeps with its backslash.
            Some(_) if stop + 1 < line.len() => {
                ascii &= line[stop + 1].is_ascii();
                at = stop + 2;
            }
            _ => return Err(Malformed),
        }
    }
}

/// The index of the first quote or backslash from `start` on (the line's length if there is none), and whether all
/// bytes before it are ASCII. Eight bytes a step: this is where most of a body's bytes are looked at.
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
        let word = u64::from_le_bytes(chunk.try_into().expect("the chunk has eight bytes"));
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

/// The value, an optional timestamp, and blanks.
fn scan_numbers(rest: &[u8]) -> Result<(), Malformed> {
    let (value, rest) = token(rest);
    if !is_value(value) {
        return Err(Malformed);
    }
    let (timestamp, rest) = token(rest);
    if timestamp.is_empty() || (is_timestamp(timestamp) && token(rest).0.is_empty()) {
        Ok(())
    } else {
        Err(Malformed)
    }
}

/// The bytes up to the next blank, and what follows that blank and its like.
fn token(rest: &[u8]) -> (&[u8], &[u8]) {
    let end = rest.iter().position(|byte| is_blank(*byte)).unwrap_or(rest.len());
    (&rest[..end], &rest[skip_blanks(rest, end)..])
}
