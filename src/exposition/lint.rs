//! What a strict reader would say of an exposition.
//!
//! In: chunks of an answer. Out: [`Finding`]s. It is for `qpext check`, which has time and remembers every series, as far as
//! there is room.

use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::hash::{Hash as _, Hasher as _};

use super::bytes::shown;
use super::engine::{End, Events, Noting, Reader};
use super::families::family_of;
use super::lines::{LineReader, OpenMetrics, PlainText};
use super::model::{Convention, Fact, FamilyMessage, Metadata, Metric, MetricType, Number, Part, Sample, Time};
use super::progress::DropReason;
use super::room::Room;

/// Findings of one kind that are kept; the others are counted.
const KEPT_OF_A_KIND: usize = 10;

/// Bytes of a line that are shown.
const SHOWN: usize = 200;

/// Series, families and histograms that are remembered: some 60 MB in the worst case. A check runs within the container's
/// limit of memory, beside the sidecar, and most of all where a target makes up series without end.
const MAX_REMEMBERED: usize = 500_000;

/// What is wrong, or odd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FindingKind {
    /// Prometheus would not read the line, and reject the scrape.
    Unreadable,
    /// Two samples of one series: Prometheus keeps one, and says so.
    DuplicateSeries,
    /// A family's `# HELP` or `# TYPE` stands there a second time, which prometheus/common's parser rejects.
    SecondMetadata,
    /// A family's `# TYPE` stands behind samples of it, which prometheus/common's parser rejects; or, in OpenMetrics, any of
    /// its metadata does.
    LateMetadata,
    /// A histogram's series has no bucket for `+Inf`, which prometheus/common makes up and OpenMetrics demands.
    NoInfBucket,
    /// A histogram's buckets stand in another order than that of their bounds.
    UnorderedBuckets,
    /// A histogram's counts do not rise with its bounds, or the last one is not its count.
    BadBuckets,
    /// A value that a family of its type cannot have: a counter below 0, an information that is not 1.
    BadValue,
    /// A family's samples stand in two places, which OpenMetrics forbids and text does not.
    SplitFamily,
}

impl FindingKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Unreadable,
        Self::DuplicateSeries,
        Self::SecondMetadata,
        Self::LateMetadata,
        Self::NoInfBucket,
        Self::UnorderedBuckets,
        Self::BadBuckets,
        Self::BadValue,
        Self::SplitFamily,
    ];

    /// It in a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::DuplicateSeries => "duplicate_series",
            Self::SecondMetadata => "second_metadata",
            Self::LateMetadata => "late_metadata",
            Self::NoInfBucket => "no_inf_bucket",
            Self::UnorderedBuckets => "unordered_buckets",
            Self::BadBuckets => "bad_buckets",
            Self::BadValue => "bad_value",
            Self::SplitFamily => "split_family",
        }
    }
}

/// Something that a strict reader would say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: FindingKind,
    /// The line, from 1 on; of a histogram, its last.
    pub line: u64,
    /// An earlier line that it is about.
    pub earlier: Option<u64>,
    /// What it is about: the line, the series or the family.
    pub text: String,
}

/// Reads an exposition in lines as a strict reader would.
#[derive(Debug)]
pub struct Lint {
    reader: LintReader,
    reading: Reading,
}

#[derive(Debug)]
enum LintReader {
    Text(LineReader<PlainText>),
    OpenMetrics(LineReader<OpenMetrics>),
}

#[derive(Debug)]
struct Reading {
    convention: Convention,
    line: u64,
    /// Where each series stands.
    series: HashMap<u128, u64>,
    families: HashMap<Vec<u8>, FamilyLines>,
    /// The family of the sample before.
    current: Vec<u8>,
    /// The series of histograms, by their labels without `le`.
    histograms: HashMap<u128, BucketRun>,
    /// Samples that nothing was remembered of.
    not_remembered: u64,
    findings: Vec<Finding>,
    counts: HashMap<FindingKind, u64>,
}

/// What came of a histogram's series so far; of one that stands there twice, of the copy at hand.
#[derive(Debug)]
struct BucketRun {
    /// Its first bucket.
    text: Box<[u8]>,
    buckets: Vec<Bucket>,
    /// Its count, and the line of it.
    count: Option<(f64, u64)>,
}

/// A bucket, and its line.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    bound: f64,
    count: f64,
    line: u64,
}

/// Where a family's metadata stands, and its last sample.
#[derive(Debug, Default)]
struct FamilyLines {
    help: Option<u64>,
    kind: Option<(MetricType, u64)>,
    last_sample: Option<u64>,
    was_called_split: bool,
}

impl Lint {
    /// A lint of text, or of OpenMetrics.
    #[must_use]
    pub fn new(is_open_metrics: bool) -> Self {
        let room = Room::default();
        let (reader, convention) = match is_open_metrics {
            true => (LintReader::OpenMetrics(LineReader::new(&room)), Convention::OpenMetrics),
            false => (LintReader::Text(LineReader::new(&room)), Convention::Text),
        };
        Self {
            reader,
            reading: Reading {
                convention,
                line: 0,
                series: HashMap::new(),
                families: HashMap::new(),
                current: Vec::new(),
                histograms: HashMap::new(),
                not_remembered: 0,
                findings: Vec::new(),
                counts: HashMap::new(),
            },
        }
    }

    /// The lines that were read.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.reading.line
    }

    /// Reads a chunk.
    pub fn push(&mut self, chunk: &[u8]) {
        match &mut self.reader {
            LintReader::Text(reader) => reader.push(chunk, &mut self.reading),
            LintReader::OpenMetrics(reader) => reader.push(chunk, &mut self.reading),
        }
    }

    /// The samples that there was no room to remember, so that nothing was said of them but whether they can be read.
    #[must_use]
    pub fn not_remembered(&self) -> u64 {
        self.reading.not_remembered
    }

    /// Ends the exposition: the findings, at most ten of a kind, in the order of their lines; and how many there are of
    /// each kind.
    #[must_use]
    pub fn finish(mut self) -> (Vec<Finding>, HashMap<FindingKind, u64>) {
        let Self { reader, reading } = &mut self;
        match reader {
            LintReader::Text(reader) => reader.finish(End::Whole, reading),
            LintReader::OpenMetrics(reader) => reader.finish(End::Whole, reading),
        }
        for histogram in std::mem::take(&mut reading.histograms).into_values() {
            reading.judge(histogram);
        }
        self.reading.findings.sort_by_key(|finding| finding.line);
        (self.reading.findings, self.reading.counts)
    }
}

impl Events for Reading {
    fn advance(&mut self, lines: u64) {
        self.line += lines;
    }

    fn comment(&mut self, _: &[u8]) {}

    fn metadata(&mut self, metadata: &Metadata<'_>, line: &[u8]) {
        let at = self.line;
        if !self.has_room() {
            return;
        }
        let family = self.families.entry(metadata.name.plain().into_owned()).or_default();
        let last_sample = family.last_sample;
        let earlier = match metadata.fact {
            Fact::Help(_) => family.help.replace(at),
            Fact::Type(kind) => family.kind.replace((kind, at)).map(|(_, earlier)| earlier),
            Fact::Unit(_) => None,
        };
        let is_open_metrics = self.convention == Convention::OpenMetrics;
        if earlier.is_some() {
            self.find(FindingKind::SecondMetadata, earlier, line);
        } else if last_sample.is_some() && (is_open_metrics || matches!(metadata.fact, Fact::Type(_))) {
            self.find(FindingKind::LateMetadata, last_sample, line);
        }
    }

    fn sample(&mut self, sample: &Sample<'_>) -> Noting {
        if self.has_room() {
            self.remember(sample);
        } else {
            self.not_remembered += 1;
        }
        Noting::Keep
    }

    fn family(&mut self, _: &FamilyMessage<'_>) -> bool {
        false
    }

    fn metric(&mut self, _: &Metric<'_>) -> bool {
        false
    }

    fn family_end(&mut self, _: &FamilyMessage<'_>) {}

    fn unreadable(&mut self, _: DropReason, text: &[u8]) {
        self.find(FindingKind::Unreadable, None, text);
    }
}

impl Reading {
    /// Compares a sample with those before.
    fn remember(&mut self, sample: &Sample<'_>) {
        let name = sample.name.plain();
        let labels = sample.labels.iter().map(|(name, value)| (name.plain(), value.plain()));
        // To Prometheus an empty label is none.
        let labels: Vec<_> = labels.filter(|(_, value)| !value.is_empty()).collect();
        let mut labels: Vec<(&[u8], &[u8])> = labels.iter().map(|(name, value)| (&**name, &**value)).collect();
        labels.sort_unstable();
        let kind_of = |name: &[u8]| self.families.get(name)?.kind.map(|(kind, _)| kind);
        let (family, suffix, kind) = family_of(&name, self.convention, kind_of);
        let series = &sample.line[..sample.series_end];
        // A sample with a time of its own is another one of its series.
        let time = match sample.time {
            Some(Time::Milliseconds(token) | Time::Seconds(token)) => token,
            _ => b"",
        };
        let earlier = match self.series.entry(hash(&name, &labels, time)) {
            Entry::Vacant(entry) => {
                entry.insert(self.line);
                None
            }
            Entry::Occupied(entry) => Some(*entry.get()),
        };
        if earlier.is_some() {
            self.find(FindingKind::DuplicateSeries, earlier, series);
        }
        self.place(family);
        if let (Some(kind), Some(value)) = (kind, sample.value.float()) {
            let part = kind.part(suffix, self.convention);
            if is_bad_value(kind, part, value) {
                self.find(FindingKind::BadValue, None, sample.text());
            }
            if kind == MetricType::Histogram {
                let bound = labels.iter().find(|(name, _)| *name == b"le");
                let bound = bound.and_then(|(_, bound)| Number::Token(bound).float());
                labels.retain(|(name, _)| *name != b"le");
                let key = hash(family, &labels, time);
                self.histogram(key, part, (bound, value), series);
            }
        }
    }

    /// Notes where a sample of this family stands.
    fn place(&mut self, family: &[u8]) {
        let is_new_place = self.current != family;
        let at = self.line;
        let known = self.families.entry(family.to_vec()).or_default();
        let before = known.last_sample.replace(at);
        let is_split = is_new_place && before.is_some();
        if is_split && !std::mem::replace(&mut known.was_called_split, true) {
            self.find(FindingKind::SplitFamily, before, family);
        }
        if is_new_place {
            self.current = family.to_vec();
        }
    }

    /// Notes a bucket of a histogram, or its count.
    fn histogram(&mut self, key: u128, part: Option<Part>, (bound, value): (Option<f64>, f64), series: &[u8]) {
        let line = self.line;
        match (part, bound) {
            (Some(Part::Bucket), None) => self.find(FindingKind::BadBuckets, None, series),
            (Some(Part::Bucket), Some(bound)) => {
                let begun =
                    || BucketRun { text: series[..series.len().min(SHOWN)].into(), buckets: Vec::new(), count: None };
                let histogram = self.histograms.entry(key).or_insert_with(begun);
                let is_copy = histogram.buckets.iter().any(|bucket| bucket.bound == bound);
                let copied = is_copy.then(|| std::mem::replace(histogram, begun()));
                histogram.buckets.push(Bucket { bound, count: value, line });
                if let Some(copied) = copied {
                    self.judge(copied);
                }
            }
            (Some(Part::Count), _) => {
                if let Some(histogram) = self.histograms.get_mut(&key) {
                    histogram.count.get_or_insert((value, line));
                }
            }
            _ => {}
        }
    }

    /// Says what is wrong with a histogram, of which everything is known.
    fn judge(&mut self, mut histogram: BucketRun) {
        let text = &histogram.text;
        let last_line = histogram.buckets.iter().map(|bucket| bucket.line).max().unwrap_or_default();
        if !histogram.buckets.is_sorted_by(|one, next| one.bound < next.bound) {
            self.find_at(last_line, FindingKind::UnorderedBuckets, None, text);
            histogram.buckets.sort_by(|one, next| one.bound.total_cmp(&next.bound));
        }
        let falls = histogram.buckets.windows(2).find(|pair| pair[1].count < pair[0].count);
        let last = histogram.buckets.last().filter(|bucket| bucket.bound == f64::INFINITY);
        let is_other = |(count, _): &(f64, u64)| last.is_some_and(|last| last.count != *count);
        let bad = falls.map(|pair| pair[1].line).or(histogram.count.filter(is_other).map(|(_, line)| line));
        if let Some(line) = bad {
            self.find_at(line, FindingKind::BadBuckets, None, text);
        }
        if last.is_none() {
            self.find_at(last_line, FindingKind::NoInfBucket, None, text);
        }
    }

    /// Whether there is room to remember what another line says.
    fn has_room(&self) -> bool {
        self.series.len() + self.families.len() + self.histograms.len() < MAX_REMEMBERED
    }

    fn find(&mut self, kind: FindingKind, earlier: Option<u64>, text: &[u8]) {
        self.find_at(self.line, kind, earlier, text);
    }

    fn find_at(&mut self, line: u64, kind: FindingKind, earlier: Option<u64>, text: &[u8]) {
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        if *count <= KEPT_OF_A_KIND as u64 {
            self.findings.push(Finding { kind, line, earlier, text: shown(text, SHOWN) });
        }
    }
}

/// Whether a family of this type cannot have this value in this part.
fn is_bad_value(kind: MetricType, part: Option<Part>, value: f64) -> bool {
    match kind {
        MetricType::Counter => part != Some(Part::Created) && value < 0.0,
        MetricType::Histogram | MetricType::GaugeHistogram => {
            matches!(part, Some(Part::Bucket | Part::Count)) && value < 0.0
        }
        MetricType::Summary => part == Some(Part::Count) && value < 0.0,
        MetricType::Info => value != 1.0,
        MetricType::StateSet => value != 0.0 && value != 1.0,
        MetricType::Gauge | MetricType::Untyped => false,
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

    fn findings(text: &str) -> Vec<(FindingKind, u64, Option<u64>, String)> {
        let mut lint = Lint::new(false);
        lint.push(text.as_bytes());
        let (findings, _) = lint.finish();
        findings.into_iter().map(|finding| (finding.kind, finding.line, finding.earlier, finding.text)).collect()
    }

    fn one(
        kind: FindingKind,
        line: u64,
        earlier: Option<u64>,
        text: &str,
    ) -> Vec<(FindingKind, u64, Option<u64>, String)> {
        vec![(kind, line, earlier, text.to_owned())]
    }

    #[test]
    fn a_tidy_exposition_has_no_findings() {
        let tidy = "# HELP h H.\n# TYPE h histogram\nh_bucket{a=\"b\",le=\"1\"} 1\nh_bucket{a=\"b\",le=\"+Inf\"} 1\nh_sum{a=\"b\"} 1\n\
                    h_count{a=\"b\"} 1\n# TYPE x gauge\nx{a=\"b\"} 1\nx{a=\"c\"} 1\nx{b=\"a\"} 1\nx 1 1000\nx 1 2000\n";
        assert_eq!(findings(tidy), []);
    }

    #[test]
    fn one_series_twice_is_told_whatever_the_order_of_its_labels() {
        let text = "x{a=\"1\",b=\"2\"} 1\nx{b=\"2\", a=\"1\"} 3\n";
        assert_eq!(findings(text), one(FindingKind::DuplicateSeries, 2, Some(1), "x{b=\"2\", a=\"1\"}"));
    }

    #[test]
    fn a_line_that_prometheus_does_not_read_is_told() {
        assert_eq!(findings("x 1\nx{a=\"} 1\n"), one(FindingKind::Unreadable, 2, None, "x{a=\"} 1"));
        assert_eq!(findings("# TYPE x lorem\n"), one(FindingKind::Unreadable, 1, None, "# TYPE x lorem"));
    }

    #[test]
    fn metadata_twice_or_late_is_told() {
        let text = "# TYPE x gauge\nx 1\n# TYPE x counter\n";
        assert_eq!(findings(text), one(FindingKind::SecondMetadata, 3, Some(1), "# TYPE x counter"));
        assert_eq!(findings("x 1\n# TYPE x counter\n"), one(FindingKind::LateMetadata, 2, Some(1), "# TYPE x counter"));
    }

    #[test]
    fn a_histogram_without_its_last_bucket_is_told() {
        let text = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"2\"} 1\n";
        assert_eq!(findings(text), one(FindingKind::NoInfBucket, 3, None, "h_bucket{le=\"1\"}"));
    }

    #[test]
    fn a_family_in_two_places_is_told_once() {
        let text = "x{a=\"1\"} 1\ny 1\nx{a=\"2\"} 1\ny{a=\"1\"} 1\nx{a=\"3\"} 1\n";
        let split = |line, earlier, name: &str| (FindingKind::SplitFamily, line, Some(earlier), name.to_owned());
        assert_eq!(findings(text), [split(3, 1, "x"), split(4, 2, "y")]);
    }

    #[test]
    fn ten_of_a_kind_are_kept_and_all_are_counted() {
        let mut lint = Lint::new(false);
        lint.push("x 1\n".repeat(100).as_bytes());
        let (findings, counts) = lint.finish();
        assert_eq!((findings.len(), counts[&FindingKind::DuplicateSeries]), (10, 99));
    }

    #[test]
    fn an_empty_label_is_none() {
        let text = "x{a=\"\"} 1\nx 2\n";
        assert_eq!(findings(text), one(FindingKind::DuplicateSeries, 2, Some(1), "x"));
    }

    #[test]
    fn buckets_that_do_not_add_up_are_told_once_for_each_series() {
        let bucket = |labels: &str, count: u32| format!("h_bucket{{{labels}}} {count}\n");
        let buckets = |pairs: &[(&str, u32)]| {
            let lines: String = pairs.iter().map(|(labels, count)| bucket(labels, *count)).collect();
            format!("# TYPE h histogram\n{lines}")
        };
        let (one_up, inf) = ("le=\"1.0\"", "le=\"+Inf\"");
        let told = |line, text: &str| one(FindingKind::BadBuckets, line, None, text);
        let falling = buckets(&[(one_up, 5), (inf, 3)]);
        assert_eq!(findings(&falling), told(3, "h_bucket{le=\"1.0\"}"));
        let without_bound = buckets(&[("le=\"x\"", 1), (inf, 1)]);
        assert_eq!(findings(&without_bound), told(2, "h_bucket{le=\"x\"}"));
        let other_count = buckets(&[(one_up, 1), (inf, 1)]) + "h_sum 2\nh_count 3\n";
        assert_eq!(findings(&other_count), told(5, "h_bucket{le=\"1.0\"}"));
        // VerneMQ's order, and GitLab's.
        for turned in [[(inf, 3), ("le=\"2\"", 2), (one_up, 1)], [(inf, 3), (one_up, 1), ("le=\"2\"", 2)]] {
            let unordered = |text: &str| one(FindingKind::UnorderedBuckets, 4, None, text);
            assert_eq!(findings(&(buckets(&turned) + "h_count 3\n")), unordered("h_bucket{le=\"+Inf\"}"));
        }
        let twice =
            buckets(&[(one_up, 1), (inf, 4)]) + "h_count 4\n" + &bucket(one_up, 0) + &bucket(inf, 1) + "h_count 1\n";
        let kinds = |text: &str| findings(text).into_iter().map(|(kind, ..)| kind).collect::<Vec<_>>();
        assert_eq!(kinds(&twice), [FindingKind::DuplicateSeries; 3], "each copy is sound");
        let sound = buckets(&[(one_up, 1), ("le=\"Inf\"", 1), ("a=\"b\",le=\"0\"", 0), ("a=\"b\",le=\"inf\"", 7)]);
        assert_eq!(findings(&(sound + "h_count 1\nh_count{a=\"b\"} 7\n")), []);
        let at_two_times = "h_bucket{le=\"+Inf\"} 5 1000\nh_bucket{le=\"+Inf\"} 5 2000\n";
        assert_eq!(findings(&format!("# TYPE h histogram\n{at_two_times}")), []);
    }

    #[test]
    fn values_that_a_type_cannot_have_are_told() {
        assert_eq!(findings("# TYPE x counter\nx -1\n"), one(FindingKind::BadValue, 2, None, "x -1"));
        assert_eq!(findings("# TYPE x gauge\nx -1\n# TYPE y counter\ny NaN\n"), []);
    }

    #[test]
    fn openmetrics_is_stricter() {
        for (text, kind, line) in [
            ("# TYPE x gauge\nx 1\n# HELP x Late.\n# EOF\n", FindingKind::LateMetadata, 3),
            ("# TYPE x counter\nx_total -1\n# EOF\n", FindingKind::BadValue, 2),
            ("# TYPE x counter\nx_total 1\nx_created -1\n# EOF\n", FindingKind::BadValue, 0),
            ("# TYPE x stateset\nx{x=\"a\"} 7\n# EOF\n", FindingKind::BadValue, 2),
            ("# TYPE x stateset\nx{x=\"a\"} 0\nx{x=\"b\"} 1\n# EOF\n", FindingKind::BadValue, 0),
            ("# TYPE x info\nx_info{a=\"b\"} 2\n# EOF\n", FindingKind::BadValue, 2),
        ] {
            let mut lint = Lint::new(true);
            lint.push(text.as_bytes());
            let found: Vec<_> = lint.finish().0.iter().map(|finding| (finding.kind, finding.line)).collect();
            let expected = (line > 0).then_some((kind, line));
            assert_eq!(found, Vec::from_iter(expected), "{text}");
        }
    }

    #[test]
    fn what_there_is_no_room_for_is_counted() {
        let mut lint = Lint::new(false);
        for index in 0..MAX_REMEMBERED + 100 {
            lint.push(format!("x{{a=\"{index}\"}} 1\n").as_bytes());
        }
        // One of those that are remembered is the family.
        assert_eq!(lint.not_remembered(), 101);
        lint.push(b"x{ 1\n");
        assert_eq!(lint.finish().1, HashMap::from([(FindingKind::Unreadable, 1)]));
    }
}
