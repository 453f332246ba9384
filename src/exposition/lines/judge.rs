//! Whether the samples of one family fit together, as the strictest readers of OpenMetrics have it.
//!
//! Those are the official Python client (`openmetrics/parser.py`) and prometheus/common (`expfmt/openmetrics_parse.go`): each refuses the
//! whole answer for one family that does not. What one of them refuses does not fit.

use hashbrown::{HashMap, HashSet};
use std::cmp::Ordering;

use crate::exposition::bytes::Span;
use crate::exposition::model::{Convention, ENDINGS, MetricType, Part};

use MetricType::{Counter, Gauge, GaugeHistogram, Histogram, Info, StateSet, Summary, Untyped};

/// What is known of a sample.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Point {
    /// The target that sent it.
    pub target: usize,
    pub part: Part,
    /// What stands behind the family's name in its own: one of the [`ENDINGS`].
    pub ending: &'static str,
    /// Tells the metric that it is a part of, and itself, from all others of the family: hashes of the labels.
    pub metric: u64,
    pub series: u64,
    /// Where it stands in its metric: the bound of a bucket, the quantile of a summary. Of a state in a set, 0. None where it has no place,
    /// or none that can be read.
    pub place: Option<f64>,
    pub value: f64,
    /// In nanoseconds.
    pub time: Option<i64>,
    /// Its line.
    pub line: Span,
}

/// Whether a family of this type is made of nothing but series, and any may be one of it.
pub(super) fn is_plain(kind: Option<MetricType>) -> bool {
    matches!(kind, None | Some(Untyped | Gauge))
}

/// Whether every reader takes these samples, in this order, as those of a family of this type. `is_old` says that its name needs no quotes.
pub(super) fn are_taken(kind: Option<MetricType>, is_old: bool, points: &[Point]) -> bool {
    let own = points.iter().position(|point| is_strange(kind, point)).unwrap_or(points.len());
    let (points, strange) = points.split_at(own);
    // Of a name between quotes, the official Python client wants metadata.
    (is_old || strange.is_empty() && points.iter().all(|point| !is_plain(kind) || point.ending.is_empty()))
        && strange.iter().all(|point| is_strange(kind, point) && point.value.is_finite())
        && fit(None, strange)
        && have_names(kind, points)
        && fit(kind, points)
}

/// Whether they have the names that samples of this type have. Where there are others, each name is a family to a reader: it must stand in
/// one piece, and the family's own goes first, behind its metadata.
fn have_names(kind: Option<MetricType>, points: &[Point]) -> bool {
    if !is_plain(kind) {
        return points.iter().all(|point| {
            kind.is_some_and(|kind| kind.suffix(point.part, Convention::OpenMetrics) == Some(point.ending))
        });
    }
    let mut names = points.chunk_by(|one, other| one.ending == other.ending);
    let mut last = names.next().map(|name| rank(name[0].ending));
    names.all(|name| Some(rank(name[0].ending)) > last.replace(rank(name[0].ending)))
}

fn rank(ending: &str) -> usize {
    ENDINGS.iter().position(|other| *other == ending).unwrap_or(ENDINGS.len())
}

fn fit(kind: Option<MetricType>, points: &[Point]) -> bool {
    let mut metrics = HashSet::with_capacity(if points.len() < 2 { 0 } else { points.len() });
    // To a reader, all of an info are one.
    let are_of_one = |one: &Point, other: &Point| kind == Some(Info) || one.metric == other.metric;
    points.chunk_by(are_of_one).all(|metric| {
        (points.len() < 2 || metrics.insert(metric[0].metric))
            && have_times_in_order(kind, metric)
            && match kind {
                None | Some(Untyped | Gauge) => true,
                Some(Info) => metric.iter().all(|point| point.value == 1.0),
                Some(StateSet) => metric.iter().all(|point| point.place.is_some() && matches!(point.value, 0.0 | 1.0)),
                Some(Counter) => is_counter(metric),
                Some(Summary) => metric.iter().all(is_of_summary),
                // Of a second time, the official Python client sees no more than the first sample.
                Some(kind @ (Histogram | GaugeHistogram)) => {
                    metric.iter().all(|point| point.time == metric[0].time) && is_histogram(kind, metric)
                }
            }
    })
}

/// Whether all have a time, which does not fall, or none has.
fn have_times_in_order(kind: Option<MetricType>, metric: &[Point]) -> bool {
    metric.windows(2).all(|pair| match (pair[0].time, pair[1].time) {
        (None, None) => true,
        (Some(one), Some(other)) => one <= other || kind == Some(Info),
        _ => false,
    })
}

/// Whether a time of creation stands at each value at most once, and at one at all.
fn is_counter(metric: &[Point]) -> bool {
    let (mut has_value, mut is_created) = (false, false);
    let all_fit = metric.iter().all(|point| match point.part {
        Part::Created => point.value.is_finite() && !std::mem::replace(&mut is_created, true),
        _ => {
            is_created &= !std::mem::replace(&mut has_value, true);
            point.value >= 0.0
        }
    });
    all_fit && has_value
}

fn is_of_summary(point: &Point) -> bool {
    match point.part {
        Part::Count => is_whole(point.value),
        Part::Sum => point.value >= 0.0,
        Part::Created => point.value.is_finite(),
        Part::Value | Part::Bucket => {
            point.place.is_some_and(|quantile| (0.0..=1.0).contains(&quantile))
                && (point.value >= 0.0 || point.value.is_nan())
        }
    }
}

/// Whether these are a whole histogram.
fn is_histogram(kind: MetricType, points: &[Point]) -> bool {
    let is_gauge = kind == GaugeHistogram;
    let (mut last, mut below, mut count, mut sum) = (None, 0.0, None, None);
    let mut is_below_zero = false;
    let all_fit = points.iter().all(|point| match (point.part, point.place) {
        (Part::Bucket, Some(bound)) => {
            let rises = last.is_none_or(|last| bound > last) && point.value >= below;
            is_below_zero |= bound < 0.0;
            (last, below) = (Some(bound), point.value);
            rises && !bound.is_nan() && is_whole(point.value)
        }
        (Part::Count, _) => is_whole(*count.insert(point.value)),
        (Part::Sum, _) => {
            let sum = *sum.insert(point.value);
            sum >= 0.0 || is_gauge && sum < 0.0
        }
        (Part::Created, _) => point.value.is_finite(),
        (Part::Value | Part::Bucket, _) => false,
    });
    let may_have_sum = match is_gauge {
        false => sum.is_none() || !is_below_zero,
        true => is_below_zero || !sum.is_some_and(|sum| sum < 0.0),
    };
    all_fit
        && last == Some(f64::INFINITY)
        && count.is_none_or(|count| count == below)
        && count.is_some() == sum.is_some()
        && may_have_sum
}

/// Whether it is a whole number that a float holds exactly: some readers compare such numbers as floats, and some as they are written.
fn is_whole(value: f64) -> bool {
    (0.0..2f64.powi(53)).contains(&value) && value.fract() == 0.0
}

/// Has the samples of each metric stand together, in the order in which readers want them.
pub(super) fn put_in_order(kind: Option<MetricType>, points: &mut [Point]) {
    let mut first = HashMap::with_capacity(points.len());
    for (index, point) in points.iter().enumerate() {
        first.entry(point.metric).or_insert(index);
    }
    points.sort_by(|one, other| {
        let name = |point: &Point| if is_plain(kind) { rank(point.ending) } else { 0 };
        let place = |point: &Point| (is_strange(kind, point), name(point), first[&point.metric]);
        place(one)
            .cmp(&place(other))
            .then_with(|| one.time.cmp(&other.time))
            .then_with(|| (one.part as u8).cmp(&(other.part as u8)))
            .then_with(|| compared(one.place, other.place))
    });
}

/// These samples as those of a family of unknown type, to which each series is a metric, in an order that readers take. Where a series has
/// samples with a time and without one, those are left that are as its first.
pub(super) fn as_series(points: &[Point]) -> Vec<Point> {
    let mut points: Vec<Point> = points.iter().map(|point| Point { metric: point.series, ..*point }).collect();
    points.sort_by_key(|point| point.line.end());
    let mut have_time = HashMap::new();
    points.retain(|point| *have_time.entry(point.metric).or_insert(point.time.is_some()) == point.time.is_some());
    put_in_order(None, &mut points);
    points
}

/// Whether it is no part of its family to any reader but Prometheus: no gauge histogram has a time of creation.
fn is_strange(kind: Option<MetricType>, point: &Point) -> bool {
    kind == Some(GaugeHistogram) && point.part == Part::Created
}

/// How two numbers are ordered; none goes first.
fn compared(one: Option<f64>, other: Option<f64>) -> Ordering {
    match (one, other) {
        (Some(one), Some(other)) => one.total_cmp(&other),
        _ => one.is_some().cmp(&other.is_some()),
    }
}
