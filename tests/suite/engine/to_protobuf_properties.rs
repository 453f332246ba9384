//! What holds for every body in lines that goes out as messages, checked on bodies that nobody wrote.
//!
//! What a valid body must become is told by a model that shares nothing with the engines: it reads the body with the
//! independent readers, and puts the samples together by going through all that it has.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use qpext::exposition::{End, Escaping, Families, Untyped};

use crate::engine::properties::{almost_an_exposition, escaped, escaped_labels, families, render, tries, untyped};
use crate::engine::protobuf::Setting;
use crate::engine::protobuf_properties::rename;
use crate::engine::to_protobuf::{append, convert, read_put_together};
use crate::support::protobuf::{
    Bucket, Counter, Exemplar, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType, Quantile, Summary,
    Timestamp, label, labels,
};
use crate::support::reader::{self, Exposition, Sample, read_value};
use crate::support::{Cut, Lines, SERVING_LABELS};

/// What a valid body must become, and how many lines of it are lost.
#[derive(Debug, Default)]
pub struct Model {
    pub families: Vec<MetricFamily>,
    pub losses: u64,
}

/// Which part of a metric a sample is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    Value,
    Bucket,
    Sum,
    Count,
    Created,
}

/// A family as a body declares it.
struct Declared<'a> {
    stem: &'a str,
    kind: &'a str,
    suffix: &'a str,
}

const SUFFIXES: [&str; 8] = ["_bucket", "_sum", "_count", "_total", "_created", "_gsum", "_gcount", "_info"];

fn has_part(from: Lines, kind: &str, suffix: &str) -> bool {
    let parts: &[&str] = match (from, kind) {
        (Lines::Text, "histogram") => &["_bucket", "_sum", "_count"],
        (Lines::Text, "summary") => &["_sum", "_count"],
        (Lines::Text, "counter") => &["_total"],
        (Lines::OpenMetrics, "counter") => &["_total", "_created"],
        (Lines::OpenMetrics, "histogram") => &["_bucket", "_sum", "_count", "_created"],
        (Lines::OpenMetrics, "gaugehistogram") => &["_bucket", "_gsum", "_gcount", "_created"],
        (Lines::OpenMetrics, "summary") => &["_sum", "_count", "_created"],
        (Lines::OpenMetrics, "info") => &["_info"],
        _ => &[],
    };
    parts.contains(&suffix)
}

/// The declared family that a name is a part of, and the part.
fn parent<'a>(from: Lines, body: &Exposition, name: &'a str) -> Option<(&'a str, &'a str)> {
    let suffix = SUFFIXES.iter().find(|suffix| name.ends_with(**suffix))?;
    let (stem, suffix) = name.split_at(name.len() - suffix.len());
    (is_declared(from, body, stem) && has_part(from, &body.types[stem], suffix)).then_some((stem, suffix))
}

/// Whether the body gives this family a type, and it is no part of another one. In text, a counter's `_total` is one only where
/// nothing says otherwise.
fn is_declared(from: Lines, body: &Exposition, name: &str) -> bool {
    let is_own = |(_, suffix): (&str, &str)| from == Lines::Text && suffix == "_total";
    body.types.contains_key(name) && parent(from, body, name).is_none_or(is_own)
}

fn declared<'a>(from: Lines, body: &'a Exposition, name: &'a str) -> Declared<'a> {
    let (stem, suffix) = match is_declared(from, body, name) {
        true => (name, ""),
        false => parent(from, body, name).unwrap_or((name, "")),
    };
    let kind = if is_declared(from, body, stem) { &body.types[stem] } else { "untyped" };
    Declared { stem, kind, suffix }
}

impl Model {
    /// What must become of a body that the reader read.
    pub fn of(from: Lines, setting: Setting, body: &Exposition) -> Self {
        let mut model = Self::default();
        let (mut run, mut outer) = (Run::default(), None::<Run>);
        for sample in &body.samples {
            let declared = declared(from, body, &sample.name);
            let (name, kind, is_put_together) = written_as(from, setting, &declared);
            if run.family.name() != name || run.kind != kind || run.stem.is_empty() {
                let is_composite = |kind: &str| ["histogram", "gaugehistogram", "summary"].contains(&kind);
                let is_within = |run: &Run| {
                    is_composite(&run.kind)
                        && !is_composite(&kind)
                        && name.starts_with(&format!("{}_", run.family.name()))
                };
                match outer.take() {
                    None if is_within(&run) => outer = Some(std::mem::take(&mut run)),
                    None => model.end(&mut run),
                    Some(whole) if whole.family.name() == name && whole.kind == kind => {
                        model.end(&mut run);
                        run = whole;
                    }
                    Some(whole) if is_within(&whole) => {
                        model.end(&mut run);
                        outer = Some(whole);
                    }
                    Some(mut whole) => {
                        model.end(&mut run);
                        model.end(&mut whole);
                    }
                }
                run.stem = declared.stem.to_owned();
                run.kind = kind;
                run.family.name = Some(name);
            }
            if is_put_together {
                run.add_part(from, setting, &declared, sample);
            } else {
                run.add_simple(from, setting, sample);
            }
        }
        model.end(&mut run);
        if let Some(mut whole) = outer {
            model.end(&mut whole);
        }
        model
    }

    fn end(&mut self, run: &mut Run) {
        let run = std::mem::take(run);
        self.losses += run.losses;
        let mut family = run.family;
        family.r#type = Some(type_of(&run.kind) as i32);
        let is_gauge_histogram = run.kind == "gaugehistogram";
        let (torn, whole): (Vec<Series>, Vec<Series>) =
            run.series.into_iter().partition(|series| is_gauge_histogram || series.is_torn(&run.kind));
        family.metric.extend(whole.into_iter().filter_map(|series| series.metric(&run.kind, &run.created)));
        let is_told = |label: &&Vec<LabelPair>| family.metric.iter().any(|metric| own(metric) == **label);
        self.losses += run.created.iter().filter(|(labels, _)| !is_told(&labels)).count() as u64;
        let name = family.name().to_owned();
        if !family.metric.is_empty() {
            self.families.push(family);
        }
        let ending = |part: &str| match (part, run.kind.as_str()) {
            ("point of a summary", _) | ("point", "summary") => "",
            ("created", _) => "_created",
            ("point", _) => "_bucket",
            ("sum", "gaugehistogram") => "_gsum",
            ("count", "gaugehistogram") => "_gcount",
            ("sum", _) => "_sum",
            _ => "_count",
        };
        for part in ["point of a summary", "point", "sum", "count", "created"] {
            let strays = run.strays.iter().filter(|(other, _)| *other == part).map(|(_, metric)| metric.clone());
            let torn = torn.iter().flat_map(|series| series.apart(part, &run.kind));
            let metric: Vec<Metric> = strays.chain(torn).collect();
            if !metric.is_empty() {
                let (name, kind) = (format!("{name}{}", ending(part)), MetricType::Untyped as i32);
                self.families.push(MetricFamily {
                    name: Some(name),
                    r#type: Some(kind),
                    metric,
                    ..MetricFamily::default()
                });
            }
        }
    }
}

/// The labels of a metric but for those that were added.
fn own(metric: &Metric) -> Vec<LabelPair> {
    metric.label[..metric.label.len() - SERVING_LABELS.len()].to_vec()
}

/// The name and the type of the family that a sample is written in, and whether its metrics are put together from several
/// samples.
fn written_as(from: Lines, setting: Setting, declared: &Declared<'_>) -> (String, String, bool) {
    let Declared { stem, kind, suffix } = *declared;
    let ending = match kind {
        "counter" if !suffix.is_empty() => "_total",
        "info" if !suffix.is_empty() => "_info",
        _ => "",
    };
    let is_untyped = ["untyped", "unknown"].contains(&kind);
    let kind = match kind {
        _ if !is_untyped || setting.untyped == Untyped::Keep => kind,
        _ if stem.ends_with("_created") => "counter",
        _ if stem.ends_with("_total") => "gauge",
        _ => kind,
    };
    let stem = match setting.names {
        Escaping::AllowUtf8 => stem.to_owned(),
        Escaping::Underscores => escaped(stem, ":"),
    };
    let kind = if ["untyped", "unknown"].contains(&kind) { "untyped" } else { kind };
    let is_put_together = match kind {
        "counter" => from == Lines::OpenMetrics,
        kind => kind.contains("histogram") || kind == "summary",
    };
    (format!("{stem}{ending}"), kind.to_owned(), is_put_together)
}

fn type_of(kind: &str) -> MetricType {
    match kind {
        "counter" => MetricType::Counter,
        "gauge" | "info" | "stateset" => MetricType::Gauge,
        "summary" => MetricType::Summary,
        "histogram" => MetricType::Histogram,
        "gaugehistogram" => MetricType::GaugeHistogram,
        _ => MetricType::Untyped,
    }
}

/// Samples of one family that stand together.
#[derive(Default)]
struct Run {
    stem: String,
    kind: String,
    family: MetricFamily,
    series: Vec<Series>,
    created: Vec<(Vec<LabelPair>, f64)>,
    /// Samples that are a part of no metric, with the endings of their names.
    strays: Vec<(&'static str, Metric)>,
    losses: u64,
}

#[derive(Default)]
struct Series {
    labels: Vec<LabelPair>,
    timestamp: Option<i64>,
    value: Option<(f64, Option<Exemplar>)>,
    sum: Option<f64>,
    count: Option<f64>,
    points: Vec<(f64, f64, Option<Exemplar>)>,
}

impl Run {
    fn add_simple(&mut self, from: Lines, setting: Setting, sample: &Sample) {
        let (Some(label), Some(timestamp_ms)) = (final_labels(setting, sample), milliseconds(from, sample)) else {
            self.losses += 1;
            return;
        };
        // It has no place.
        self.losses += u64::from(sample.exemplar.is_some());
        let value = Some(value_of(sample));
        let mut metric = Metric {
            label: label.into_iter().chain(labels(SERVING_LABELS)).collect(),
            timestamp_ms,
            ..Metric::default()
        };
        match type_of(&self.kind) {
            MetricType::Counter => {
                metric.counter = Some(Counter { value, ..Counter::default() });
            }
            MetricType::Gauge => metric.gauge = Some(Gauge { value }),
            _ => metric.untyped = Some(crate::support::protobuf::Untyped { value }),
        }
        self.family.metric.push(metric);
    }

    fn add_part(&mut self, from: Lines, setting: Setting, declared: &Declared<'_>, sample: &Sample) {
        let added = self.try_add_part(from, setting, declared, sample);
        self.losses += u64::from(added.is_none());
    }

    /// Nothing, if the sample has no place.
    fn try_add_part(&mut self, from: Lines, setting: Setting, declared: &Declared<'_>, sample: &Sample) -> Option<()> {
        let part = match declared.suffix {
            "_bucket" => Part::Bucket,
            "_sum" | "_gsum" => Part::Sum,
            "_count" | "_gcount" => Part::Count,
            "_created" => Part::Created,
            _ => Part::Value,
        };
        let timestamp = milliseconds(from, sample)?;
        let mut labels = final_labels(setting, sample)?;
        let value = value_of(sample);
        if [Part::Bucket, Part::Count].contains(&part) && !matches!(value, 0.0..) {
            return None;
        }
        let has = |name: &str| labels.iter().any(|label| label.name() == name);
        let stray = match (self.kind.as_str(), part) {
            ("gaugehistogram", Part::Created) => Some("created"),
            ("histogram" | "gaugehistogram", Part::Value) => Some("point of a summary"),
            ("histogram" | "gaugehistogram", Part::Bucket) if !has("le") => Some("point"),
            ("histogram" | "gaugehistogram", Part::Sum) if has("le") => Some("sum"),
            ("histogram" | "gaugehistogram", Part::Count) if has("le") => Some("count"),
            ("summary", Part::Value) if !has("quantile") => Some("point"),
            _ => None,
        };
        if let Some(stray) = stray {
            self.losses += u64::from(sample.exemplar.is_some());
            let metric = Metric {
                label: labels.into_iter().chain(crate::support::protobuf::labels(SERVING_LABELS)).collect(),
                timestamp_ms: timestamp,
                untyped: Some(crate::support::protobuf::Untyped { value: Some(value) }),
                ..Metric::default()
            };
            self.strays.push((stray, metric));
            return Some(());
        }
        let point = self.take_point(part, &mut labels)?;
        labels.sort_by(|one, other| one.name.cmp(&other.name));
        if part == Part::Created {
            let is_year = (-62_135_596_800.0..=253_402_300_799.0).contains(&value);
            let is_new = self.created.iter().all(|(other, _)| *other != labels);
            (is_year && is_new).then(|| self.created.push((labels.clone(), value)))?;
            self.losses += u64::from(sample.exemplar.is_some());
            // It is in the place of the first line with its labels.
            self.series(labels, None);
            return Some(());
        }
        let has_place = matches!((part, self.kind.as_str()), (Part::Value, "counter") | (Part::Bucket, _));
        let exemplar = sample.exemplar.as_ref().filter(|_| has_place);
        let exemplar = exemplar.and_then(|exemplar| message_of(setting, exemplar));
        let is_unwritten = part == Part::Bucket && self.kind == "gaugehistogram";
        let loses_exemplar = sample.exemplar.is_some() && exemplar.is_none() && !is_unwritten;
        let is_put = self.series(labels, timestamp).put(part, point, value, exemplar);
        // That a point is there twice is found when its exemplar is gone already.
        self.losses += u64::from(loses_exemplar && (is_put.is_some() || point.is_some()));
        is_put
    }

    fn series(&mut self, labels: Vec<LabelPair>, timestamp: Option<i64>) -> &mut Series {
        let is_same = |series: &Series| series.labels == labels && series.timestamp == timestamp;
        let index = self.series.iter().position(is_same).unwrap_or_else(|| {
            self.series.push(Series { labels, timestamp, ..Series::default() });
            self.series.len() - 1
        });
        &mut self.series[index]
    }

    /// Takes the label that tells the bucket or the quantile. Nothing, if it is not as it should be.
    fn take_point(&self, part: Part, labels: &mut Vec<LabelPair>) -> Option<Option<f64>> {
        let told_by = match self.kind.as_str() {
            "counter" => return Some(None),
            "summary" => "quantile",
            _ => "le",
        };
        let place = labels.iter().position(|label| label.name() == told_by);
        match (part, self.kind.as_str()) {
            (Part::Value, "summary") | (Part::Bucket, _) => {
                let at = read_value(labels.remove(place?).value()).ok()?;
                (part == Part::Value || !at.is_nan()).then_some(Some(at))
            }
            // A histogram has no value, and `le` only at its buckets.
            (Part::Value, _) => None,
            (_, "summary") => Some(None),
            _ => place.is_none().then_some(None),
        }
    }
}

impl Series {
    /// Nothing, if it has such a value already.
    fn put(&mut self, part: Part, point: Option<f64>, value: f64, exemplar: Option<Exemplar>) -> Option<()> {
        if let Some(at) = point {
            let is_same = |other: f64| other == at || (other.is_nan() && at.is_nan());
            let is_new = !self.points.iter().any(|(other, ..)| is_same(*other));
            return is_new.then(|| self.points.push((at, value, exemplar)));
        }
        match part {
            Part::Value if self.value.is_none() => self.value = Some((value, exemplar)),
            Part::Sum if self.sum.is_none() => self.sum = Some(value),
            Part::Count if self.count.is_none() => self.count = Some(value),
            _ => return None,
        }
        Some(())
    }

    /// Whether its message would say something else than its samples do, or be none to a Prometheus.
    fn is_torn(&self, kind: &str) -> bool {
        if self.sum.is_none() && self.count.is_none() && self.points.is_empty() {
            return false;
        }
        let lacks_part = self.timestamp.is_some() && (self.sum.is_none() || self.count.is_none());
        let mut points: Vec<(f64, f64)> = self.points.iter().map(|(at, value, _)| (*at, *value)).collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        let last = points.last().copied();
        let count = self.count.or(last.map(|(_, count)| count)).unwrap_or_default();
        match kind {
            "summary" => {
                lacks_part
                    || self.count.is_some_and(|count| count.fract() != 0.0 || count >= 18_446_744_073_709_551_615.0)
            }
            "histogram" | "gaugehistogram" => {
                let falls = points.windows(2).any(|pair| pair[1].1 < pair[0].1);
                let exceeds = last.is_some_and(|(at, last)| last > count || at == f64::INFINITY && last != count);
                lacks_part || self.timestamp.is_some() && points.is_empty() || falls || exceeds
            }
            _ => false,
        }
    }

    /// Its parts of a kind, as metrics of their own.
    fn apart(&self, part: &str, kind: &str) -> Vec<Metric> {
        let mut points: Vec<(f64, f64)> = self.points.iter().map(|(at, value, _)| (*at, *value)).collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        let parts: Vec<(Option<f64>, f64)> = match part {
            "point" => points.into_iter().map(|(at, value)| (Some(at), value)).collect(),
            "point of a summary" | "created" => Vec::new(),
            "sum" => self.sum.map(|sum| (None, sum)).into_iter().collect(),
            _ => self.count.map(|count| (None, count)).into_iter().collect(),
        };
        let told_by = if kind == "summary" { "quantile" } else { "le" };
        let metric = |(at, value): (Option<f64>, f64)| {
            let at = at.map(|at| label(told_by, &spelt(at)));
            Metric {
                label: at.into_iter().chain(self.labels.iter().cloned()).chain(labels(SERVING_LABELS)).collect(),
                timestamp_ms: self.timestamp,
                untyped: Some(crate::support::protobuf::Untyped { value: Some(value) }),
                ..Metric::default()
            }
        };
        parts.into_iter().map(metric).collect()
    }

    fn metric(mut self, kind: &str, created: &[(Vec<LabelPair>, f64)]) -> Option<Metric> {
        if self.value.is_none() && self.sum.is_none() && self.count.is_none() && self.points.is_empty() {
            return None;
        }
        let created = created.iter().find(|(labels, _)| *labels == self.labels);
        let created_timestamp = created.map(|(_, seconds)| time(*seconds));
        self.points.sort_by(|one, other| one.0.total_cmp(&other.0));
        let mut metric = Metric {
            label: self.labels.iter().cloned().chain(labels(SERVING_LABELS)).collect(),
            timestamp_ms: self.timestamp,
            ..Metric::default()
        };
        match kind {
            "counter" => {
                let (value, exemplar) = self.value?;
                metric.counter = Some(Counter { value: Some(value), exemplar, created_timestamp });
            }
            "summary" => {
                let quantiles =
                    self.points.iter().map(|(at, value, _)| Quantile { quantile: Some(*at), value: Some(*value) });
                metric.summary = Some(Summary {
                    sample_count: self.count.map(|count| count as u64),
                    sample_sum: self.sum,
                    quantile: quantiles.collect(),
                    created_timestamp,
                });
            }
            _ => {
                let count = self.count.or(self.points.last().map(|(_, count, _)| *count));
                let (sample_count, sample_count_float) = whole_or_float(count);
                let buckets = self.points.into_iter().map(|(at, count, exemplar)| {
                    let (cumulative_count, cumulative_count_float) = whole_or_float(Some(count));
                    Bucket { cumulative_count, cumulative_count_float, upper_bound: Some(at), exemplar }
                });
                metric.histogram = Some(Histogram {
                    sample_count,
                    sample_count_float,
                    sample_sum: self.sum,
                    bucket: buckets.collect(),
                    created_timestamp,
                    ..Histogram::default()
                });
            }
        }
        Some(metric)
    }
}

/// A bound as Prometheus spells one of a message.
fn spelt(bound: f64) -> String {
    let exponent = bound.abs().log10().floor();
    match bound {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        bound if bound.is_nan() => "NaN".to_owned(),
        0.0 => "0.0".to_owned(),
        bound if (-4.0..21.0).contains(&exponent) => format!("{bound:?}"),
        bound => {
            let spelt = format!("{bound:e}");
            let (digits, exponent) = spelt.split_once('e').expect("it has an exponent");
            format!("{digits}e{:+03}", exponent.parse::<i32>().expect("it is a number"))
        }
    }
}

fn whole_or_float(count: Option<f64>) -> (Option<u64>, Option<f64>) {
    match count {
        Some(count) if count.trunc() == count && count < 18_446_744_073_709_551_616.0 => (Some(count as u64), None),
        count => (None, count),
    }
}

fn value_of(sample: &Sample) -> f64 {
    read_value(&sample.value).expect("it was read")
}

/// The timestamp, if there is one; nothing, if it is out of range.
fn milliseconds(from: Lines, sample: &Sample) -> Option<Option<i64>> {
    let Some(timestamp) = &sample.timestamp else {
        return Some(None);
    };
    if from == Lines::Text {
        return timestamp.parse().ok().filter(|milliseconds| *milliseconds != 0).map(Some);
    }
    let milliseconds = (read_value(timestamp).expect("it was read") * 1000.0).trunc();
    let is_in_range = milliseconds != 0.0 && milliseconds.abs() < 9_223_372_036_854_775_808.0;
    is_in_range.then_some(Some(milliseconds as i64))
}

/// A sample's labels by the names that they must have; nothing, if two have one.
fn final_labels(setting: Setting, sample: &Sample) -> Option<Vec<LabelPair>> {
    let mut labels = names_of(setting, &sample.labels, &SERVING_LABELS.map(|(name, _)| name))?;
    rename(&mut labels);
    Some(labels)
}

fn names_of(setting: Setting, labels: &[(String, String)], taken: &[&str]) -> Option<Vec<LabelPair>> {
    let labels = match setting.names {
        Escaping::AllowUtf8 => labels.to_vec(),
        Escaping::Underscores => escaped_labels(labels, taken),
    };
    let labels: Vec<LabelPair> = labels.iter().map(|(name, value)| label(name, value)).collect();
    let is_new = |index: usize| labels[..index].iter().all(|other| other.name != labels[index].name);
    let are_valid = (0..labels.len()).all(|index| is_new(index) && labels[index].name() != "__name__");
    are_valid.then_some(labels)
}

fn message_of(setting: Setting, exemplar: &reader::Exemplar) -> Option<Exemplar> {
    let seconds = exemplar.timestamp.as_ref().map(|text| read_value(text).expect("it was read"));
    let seconds = seconds.filter(|seconds| (-62_135_596_800.0..=253_402_300_799.0).contains(seconds));
    Some(Exemplar {
        label: names_of(setting, &exemplar.labels, &[])?,
        value: Some(read_value(&exemplar.value).expect("it was read")),
        timestamp: seconds.map(time),
    })
}

/// To the microsecond.
fn time(seconds: f64) -> Timestamp {
    let micros = (seconds * 1e6).round() as i128;
    Timestamp { seconds: micros.div_euclid(1_000_000) as i64, nanos: (micros.rem_euclid(1_000_000) * 1000) as i32 }
}

/// Every value in some messages, as text: which series' it is, and what it is. A part of a metric that is taken apart is the same as
/// one that is not.
#[derive(Debug, Default)]
struct Told {
    /// Those that lines told.
    surely: Vec<String>,
    /// Counts of histograms that no line need have told: the last bucket's is the same.
    perhaps: Vec<String>,
    /// When series were created. One line tells it of all points of a series.
    created: Vec<String>,
}

impl Told {
    fn by(families: &[MetricFamily]) -> Self {
        let mut told = Self::default();
        for family in families {
            let mut created = BTreeSet::new();
            for metric in &family.metric {
                created.extend(told.add(family, metric));
            }
            told.created.extend(created);
        }
        told
    }

    /// Returns when its series was created, if it says so.
    fn add(&mut self, family: &MetricFamily, metric: &Metric) -> Option<String> {
        let name = family.name();
        let series = |suffix: &str, at: Option<(&str, f64)>, value: f64| {
            let at = at.map(|(told_by, at)| label(told_by, &spelt(at)));
            let labels: Vec<LabelPair> = at.into_iter().chain(metric.label.iter().cloned()).collect();
            format!("{name}{suffix} {labels:?} at {:?} {:?}", metric.timestamp_ms, Some(value))
        };
        let [sum, count] = match family.r#type() {
            MetricType::GaugeHistogram => ["_gsum", "_gcount"],
            _ => ["_sum", "_count"],
        };
        let mut created = None;
        if let Some(counter) = &metric.counter {
            self.surely.push(series("", None, counter.value()) + " counter");
            created = counter.created_timestamp.as_ref();
        }
        if let Some(summary) = &metric.summary {
            self.surely.extend(summary.sample_sum.map(|value| series(sum, None, value)));
            self.surely.extend(summary.sample_count.map(|value| series(count, None, value as f64)));
            let points = summary.quantile.iter();
            self.surely.extend(points.map(|point| series("", Some(("quantile", point.quantile())), point.value())));
            created = summary.created_timestamp.as_ref();
        }
        if let Some(histogram) = &metric.histogram {
            let number = |whole: Option<u64>, float: Option<f64>| float.or(whole.map(|whole| whole as f64));
            let value_of = |bucket: &Bucket| number(bucket.cumulative_count, bucket.cumulative_count_float);
            self.surely.extend(histogram.sample_sum.map(|value| series(sum, None, value)));
            let points = histogram.bucket.iter();
            let point =
                |bucket: &Bucket| Some(series("_bucket", Some(("le", bucket.upper_bound())), value_of(bucket)?));
            self.surely.extend(points.filter_map(point));
            let all = number(histogram.sample_count, histogram.sample_count_float);
            let is_last = histogram.bucket.last().map(value_of) == Some(all);
            let told = if is_last { &mut self.perhaps } else { &mut self.surely };
            told.extend(all.map(|value| series(count, None, value)));
            created = histogram.created_timestamp.as_ref();
        }
        self.surely.extend(metric.gauge.iter().map(|gauge| series("", None, gauge.value()) + " gauge"));
        self.surely.extend(metric.untyped.iter().map(|untyped| series("", None, untyped.value())));
        created.map(|created| format!("{name} {:?} {created:?}", metric.label))
    }
}

fn settings() -> impl Strategy<Value = Setting> {
    (untyped(), select(vec![Escaping::Underscores, Escaping::AllowUtf8]))
        .prop_map(|(untyped, names)| Setting { untyped, names })
}

pub fn check_counts(families: &[MetricFamily], samples: u64) -> Result<(), TestCaseError> {
    let told = Told::by(families);
    let least = told.surely.len() + told.created.len();
    let most = least + told.perhaps.len();
    prop_assert!((least as u64..=most as u64).contains(&samples), "{samples} samples counted, {least} to {most} there");
    Ok(())
}

/// The properties of one format.
macro_rules! properties {
    ($($name:ident: $from:expr;)*) => {$(
        mod $name {
            use super::*;

            const FROM: Lines = $from;

            proptest! {
                #![proptest_config(tries())]

                #[test]
                fn any_cut_into_chunks_gives_the_same_output(
                    body in almost_an_exposition(FROM),
                    places in vec(any::<usize>(), 0..8),
                    setting in settings(),
                ) {
                    let whole = convert(FROM, setting, &body, Cut::Whole, End::Whole);
                    prop_assert_eq!(&convert(FROM, setting, &body, Cut::At(&places), End::Whole), &whole);
                    prop_assert_eq!(&convert(FROM, setting, &body, Cut::EveryByte, End::Whole), &whole);
                }

                #[test]
                fn a_valid_bodys_samples_come_out_with_the_labels(families in families(FROM), setting in settings()) {
                    prop_assume!(setting.untyped != Untyped::Drop);
                    let body = render(&families, FROM);
                    let input = FROM.read(body.as_bytes(), Escaping::AllowUtf8);
                    // Families can share names: `a` with `a_sum`, and a family `a_sum`.
                    prop_assume!(input.is_ok());
                    let input = input.expect("it was assumed");
                    let model = Model::of(FROM, setting, &input);
                    let (out, counts) = convert(FROM, setting, body.as_bytes(), Cut::Whole, End::Whole);
                    let mut output = read_put_together(&out, setting.names).map_err(TestCaseError::fail)?;
                    check_counts(&output, counts.samples)?;
                    for family in &mut output {
                        (family.help, family.unit) = (None, None);
                    }
                    // Compared as they are shown, since NaN is not equal to itself.
                    prop_assert_eq!(format!("{output:#?}"), format!("{:#?}", model.families));
                    prop_assert_eq!(counts.dropped_in_all(), model.losses);
                }

                #[test]
                fn whatever_comes_in_what_goes_out_is_read(
                    body in prop_oneof![almost_an_exposition(FROM), vec(any::<u8>(), 0..200)],
                    setting in settings(),
                ) {
                    let (out, counts) = convert(FROM, setting, &body, Cut::Whole, End::Whole);
                    let output = read_put_together(&out, setting.names).map_err(TestCaseError::fail)?;
                    check_counts(&output, counts.samples)?;
                }

                #[test]
                fn behind_another_body_what_goes_out_is_what_would_go_out_alone(
                    first in almost_an_exposition(Lines::OpenMetrics),
                    second in almost_an_exposition(FROM),
                    setting in settings(),
                ) {
                    let (mut out, mut families) = (Vec::new(), Families::default());
                    append(Lines::OpenMetrics, setting, &first, Cut::Whole, End::Whole, &mut families, &mut out);
                    families.turn_to(1);
                    let start = out.len();
                    let engine = append(FROM, setting, &second, Cut::Whole, End::Whole, &mut families, &mut out);
                    let alone = convert(FROM, setting, &second, Cut::Whole, End::Whole);
                    prop_assert_eq!((out.split_off(start), engine.progress().counts()), alone);
                }

                #[test]
                fn a_body_cut_anywhere_gives_some_of_the_whole_bodys_samples(
                    body in almost_an_exposition(FROM),
                    place in any::<usize>(),
                    setting in settings(),
                ) {
                    let (whole, counts) = convert(FROM, setting, &body, Cut::Whole, End::Whole);
                    let part = &body[..place % (body.len() + 1)];
                    let part = convert(FROM, setting, part, Cut::Whole, End::BrokenOff).0;
                    let whole = read_put_together(&whole, setting.names).map_err(TestCaseError::fail)?;
                    let part = read_put_together(&part, setting.names).map_err(TestCaseError::fail)?;
                    let whole = Told::by(&whole);
                    let part = Told::by(&part);
                    let mut rest = [whole.surely, whole.perhaps, whole.created].concat();
                    // When a metric was created is lost with what it is taken apart for, which may come behind the cut.
                    let created = part.created.into_iter().filter(|_| counts.torn == 0);
                    for value in part.surely.into_iter().chain(created) {
                        let place = rest.iter().position(|other| *other == value);
                        prop_assert!(place.is_some(), "{value:?} is not among the whole body's");
                        rest.swap_remove(place.expect("it was just found"));
                    }
                }
            }
        }
    )*};
}

properties! {
    text: Lines::Text;
    open_metrics: Lines::OpenMetrics;
}
