//! What a strict reader would say of an exposition.
//!
//! In: chunks of an answer. Out: [`Remark`]s. It is for `qpext check`, which has time: every series is remembered, so
//! this is the one part of the engine whose memory grows with what it reads.

use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::hash::{Hash as _, Hasher as _};

use super::chars::skip_blanks;
use super::dialect::{Dialect, OpenMetrics, Text};
use super::lines::{End, Lines, TooLong, text_of};
use super::metadata::{Keyword, Line, Metadata, MetricType};
use super::printable::printable;
use super::sample::Scanner;

/// A review of text.
pub type ReviewText = Review<Text>;

/// A review of OpenMetrics.
pub type ReviewOpenMetrics = Review<OpenMetrics>;

/// Remarks of one kind that are kept; the others are counted.
const KEPT_OF_A_KIND: usize = 10;

/// Bytes of a line that are shown.
const SHOWN: usize = 200;

/// What is wrong, or odd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RemarkKind {
    /// Prometheus would not read the line, and reject the scrape.
    Unreadable,
    /// Two samples of one series: Prometheus keeps one, and says so.
    DuplicateSeries,
    /// A family's `# HELP` or `# TYPE` stands there a second time, which prometheus/common's parser rejects.
    SecondMetadata,
    /// A family's `# TYPE` stands behind samples of it, which prometheus/common's parser rejects.
    LateType,
    /// A histogram's series has no bucket for `+Inf`, which prometheus/common makes up and OpenMetrics demands.
    NoInfBucket,
    /// A family's samples stand in two places, which OpenMetrics forbids and text does not.
    SplitFamily,
}

impl RemarkKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Unreadable,
        Self::DuplicateSeries,
        Self::SecondMetadata,
        Self::LateType,
        Self::NoInfBucket,
        Self::SplitFamily,
    ];

    /// It in a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::DuplicateSeries => "duplicate_series",
            Self::SecondMetadata => "second_metadata",
            Self::LateType => "late_type",
            Self::NoInfBucket => "no_inf_bucket",
            Self::SplitFamily => "split_family",
        }
    }

    /// Whether data is lost, or a reader may refuse it. A family in two places is no more than untidy: the queue-proxy's
    /// text goes out as it comes, so whatever both it and the app have stands in two.
    #[must_use]
    pub const fn is_finding(self) -> bool {
        !matches!(self, Self::SplitFamily)
    }
}

/// Something that a strict reader would say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// What it is.
    pub kind: RemarkKind,
    /// The line, from 1 on; of a histogram, its last.
    pub line: u64,
    /// An earlier line that it is about.
    pub earlier: Option<u64>,
    /// What it is about: the line, the series or the family.
    pub text: String,
}

/// Reads an exposition as a strict reader would.
#[derive(Debug)]
pub struct Review<D> {
    lines: Lines,
    reading: Reading<D>,
}

#[derive(Debug)]
struct Reading<D> {
    scanner: Scanner<D>,
    line: u64,
    /// Where each series stands.
    series: HashMap<u128, u64>,
    families: HashMap<Vec<u8>, Family>,
    /// The family of the sample before.
    current: Vec<u8>,
    /// Histograms without their last bucket, as far as has been read: their series without `le`, and a line of it.
    open_histograms: HashMap<u128, (bool, u64, Vec<u8>)>,
    remarks: Vec<Remark>,
    counts: HashMap<RemarkKind, u64>,
}

#[derive(Debug, Default)]
struct Family {
    help: Option<u64>,
    kind: Option<(MetricType, u64)>,
    last_sample: Option<u64>,
    was_called_split: bool,
}

impl<D> Default for Review<D> {
    fn default() -> Self {
        Self {
            lines: Lines::default(),
            reading: Reading {
                scanner: Scanner::default(),
                line: 0,
                series: HashMap::new(),
                families: HashMap::new(),
                current: Vec::new(),
                open_histograms: HashMap::new(),
                remarks: Vec::new(),
                counts: HashMap::new(),
            },
        }
    }
}

impl<D: Dialect> Review<D> {
    /// The lines that were read.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.reading.line
    }

    /// Reads a chunk.
    pub fn push(&mut self, chunk: &[u8]) {
        let Self { lines, reading } = self;
        lines.push(chunk, |line| reading.line(line));
    }

    /// Ends the exposition: the remarks, at most ten of a kind, in the order of their lines; and how many there are of
    /// each kind.
    #[must_use]
    pub fn finish(mut self) -> (Vec<Remark>, HashMap<RemarkKind, u64>) {
        let Self { lines, reading } = &mut self;
        lines.finish(End::Whole, |line| reading.line(line));
        for (has_inf, line, series) in std::mem::take(&mut reading.open_histograms).into_values() {
            if !has_inf {
                reading.remark_at(line, RemarkKind::NoInfBucket, None, &series);
            }
        }
        self.reading.remarks.sort_by_key(|remark| remark.line);
        (self.reading.remarks, self.reading.counts)
    }
}

impl<D: Dialect> Reading<D> {
    fn line(&mut self, line: Result<&[u8], TooLong>) {
        self.line += 1;
        let Ok(line) = line else {
            return self.remark(RemarkKind::Unreadable, None, b"");
        };
        let line = text_of(line);
        let line = if D::IS_OPEN_METRICS {
            line
        } else {
            &line[skip_blanks(line, 0)..]
        };
        match D::line(line) {
            Line::Comment | Line::Eof => {}
            Line::MalformedMetadata => self.remark(RemarkKind::Unreadable, None, line),
            Line::Metadata(metadata) => self.metadata(metadata, line),
            Line::Sample => self.sample(line),
        }
    }

    fn metadata(&mut self, metadata: Metadata, line: &[u8]) {
        let at = self.line;
        let family = self.families.entry(metadata.name.of(line).to_vec()).or_default();
        let last_sample = family.last_sample;
        let earlier = match metadata.keyword {
            Keyword::Help => family.help.replace(at),
            Keyword::Type(kind) => family.kind.replace((kind, at)).map(|(_, earlier)| earlier),
            Keyword::Unit => None,
        };
        if earlier.is_some() {
            self.remark(RemarkKind::SecondMetadata, earlier, line);
        } else if last_sample.is_some() && matches!(metadata.keyword, Keyword::Type(_)) {
            self.remark(RemarkKind::LateType, last_sample, line);
        }
    }

    fn sample(&mut self, line: &[u8]) {
        let Ok(sample) = self.scanner.scan(line) else {
            return self.remark(RemarkKind::Unreadable, None, line);
        };
        let name = sample.name.of(line);
        let mut labels: Vec<(&[u8], &[u8])> = Vec::new();
        for label in self.scanner.labels() {
            labels.push((label.name(line), label.value(line)));
        }
        labels.sort_unstable();
        let (family, kind) = self.family_of(name);
        let series_end = match sample.labels {
            super::sample::Labels::Absent => sample.name.end,
            super::sample::Labels::Braces { close, .. } => close + 1,
        };
        let series = &line[..series_end];
        // A sample with a time of its own is another one of its series.
        let time = sample.numbers.timestamp.map_or(&b""[..], |time| time.of(line));
        let earlier = match self.series.entry(hash(name, &labels, time)) {
            Entry::Vacant(entry) => {
                entry.insert(self.line);
                None
            }
            Entry::Occupied(entry) => Some(*entry.get()),
        };
        if kind == Some(MetricType::Histogram) && name.ends_with(b"_bucket") {
            let is_inf = labels.iter().any(|(name, value)| *name == b"le" && *value == b"+Inf");
            labels.retain(|(name, _)| *name != b"le");
            let key = hash(&family, &labels, b"");
            let open = self
                .open_histograms
                .entry(key)
                .or_insert_with(|| (false, 0, series.to_vec()));
            (open.0, open.1) = (open.0 || is_inf, self.line);
        }
        if earlier.is_some() {
            self.remark(RemarkKind::DuplicateSeries, earlier, series);
        }
        let is_new_place = self.current != family;
        let at = self.line;
        let known = self.families.entry(family.clone()).or_default();
        let before = known.last_sample.replace(at);
        let is_split = is_new_place
            && before.is_some()
            && !std::mem::replace(&mut known.was_called_split, is_new_place && before.is_some());
        if is_split {
            self.remark(RemarkKind::SplitFamily, before, &family);
        }
        if is_new_place {
            self.current = family;
        }
    }

    /// The family of a sample: the one that was declared, and of which it is a part, or its own.
    fn family_of(&self, name: &[u8]) -> (Vec<u8>, Option<MetricType>) {
        let kind_of = |name: &[u8]| self.families.get(name)?.kind.map(|(kind, _)| kind);
        if let Some(kind) = kind_of(name) {
            return (name.to_vec(), Some(kind));
        }
        let parent = memchr::memrchr(b'_', name).and_then(|underscore| {
            let (parent, suffix) = name.split_at(underscore);
            let kind = kind_of(parent)?;
            D::has_part(kind, suffix).then(|| (parent.to_vec(), Some(kind)))
        });
        parent.unwrap_or_else(|| (name.to_vec(), None))
    }

    fn remark(&mut self, kind: RemarkKind, earlier: Option<u64>, text: &[u8]) {
        self.remark_at(self.line, kind, earlier, text);
    }

    fn remark_at(&mut self, line: u64, kind: RemarkKind, earlier: Option<u64>, text: &[u8]) {
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        if *count <= KEPT_OF_A_KIND as u64 {
            let text = printable(&String::from_utf8_lossy(&text[..text.len().min(SHOWN)]));
            self.remarks.push(Remark {
                kind,
                line,
                earlier,
                text,
            });
        }
    }
}

/// Two hashes in one, so that no two of millions of series are taken for the same.
fn hash(name: &[u8], labels: &[(&[u8], &[u8])], time: &[u8]) -> u128 {
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        (seed, name, labels, time).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn review(text: &str) -> Vec<(RemarkKind, u64, Option<u64>, String)> {
        let mut review = ReviewText::default();
        review.push(text.as_bytes());
        let (remarks, _) = review.finish();
        remarks
            .into_iter()
            .map(|remark| (remark.kind, remark.line, remark.earlier, remark.text))
            .collect()
    }

    fn one(
        kind: RemarkKind,
        line: u64,
        earlier: Option<u64>,
        text: &str,
    ) -> Vec<(RemarkKind, u64, Option<u64>, String)> {
        vec![(kind, line, earlier, text.to_owned())]
    }

    #[test]
    fn a_tidy_exposition_has_no_remarks() {
        let tidy = "# HELP h H.\n# TYPE h histogram\nh_bucket{a=\"b\",le=\"1\"} 1\nh_bucket{a=\"b\",le=\"+Inf\"} 1\nh_sum{a=\"b\"} 1\n\
                    h_count{a=\"b\"} 1\n# TYPE x gauge\nx{a=\"b\"} 1\nx{a=\"c\"} 1\nx{b=\"a\"} 1\nx 1 1000\nx 1 2000\n";
        assert_eq!(review(tidy), []);
    }

    #[test]
    fn one_series_twice_is_told_whatever_the_order_of_its_labels() {
        let text = "x{a=\"1\",b=\"2\"} 1\nx{b=\"2\", a=\"1\"} 3\n";
        assert_eq!(
            review(text),
            one(RemarkKind::DuplicateSeries, 2, Some(1), "x{b=\"2\", a=\"1\"}")
        );
    }

    #[test]
    fn a_line_that_prometheus_does_not_read_is_told() {
        assert_eq!(
            review("x 1\nx{a=\"} 1\n"),
            one(RemarkKind::Unreadable, 2, None, "x{a=\"} 1")
        );
        assert_eq!(
            review("# TYPE x lorem\n"),
            one(RemarkKind::Unreadable, 1, None, "# TYPE x lorem")
        );
    }

    #[test]
    fn metadata_twice_or_late_is_told() {
        let text = "# TYPE x gauge\nx 1\n# TYPE x counter\n";
        assert_eq!(
            review(text),
            one(RemarkKind::SecondMetadata, 3, Some(1), "# TYPE x counter")
        );
        assert_eq!(
            review("x 1\n# TYPE x counter\n"),
            one(RemarkKind::LateType, 2, Some(1), "# TYPE x counter")
        );
    }

    #[test]
    fn a_histogram_without_its_last_bucket_is_told() {
        let text = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"2\"} 1\n";
        assert_eq!(
            review(text),
            one(RemarkKind::NoInfBucket, 3, None, "h_bucket{le=\"1\"}")
        );
    }

    #[test]
    fn a_family_in_two_places_is_told_once() {
        let text = "x{a=\"1\"} 1\ny 1\nx{a=\"2\"} 1\ny{a=\"1\"} 1\nx{a=\"3\"} 1\n";
        let split = |line, earlier, name: &str| (RemarkKind::SplitFamily, line, Some(earlier), name.to_owned());
        assert_eq!(review(text), [split(3, 1, "x"), split(4, 2, "y")]);
    }

    #[test]
    fn ten_of_a_kind_are_kept_and_all_are_counted() {
        let mut review = ReviewText::default();
        review.push("x 1\n".repeat(100).as_bytes());
        let (remarks, counts) = review.finish();
        assert_eq!((remarks.len(), counts[&RemarkKind::DuplicateSeries]), (10, 99));
    }
}
