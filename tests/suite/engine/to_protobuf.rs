//! Rules of the engines that put lines together into messages, one idea each, run on a body whole and cut at every byte.
//!
//! What is expected is written as [`show`] shows it.

use std::collections::HashSet;

use prost::Message as _;
use qpext::exposition::{Counts, DropReason, End, Engine, Escaping, Families, Format, MAX_FAMILY, Rules, Untyped};

use crate::engine::cases::{Case, check};
use crate::engine::protobuf::{Setting, USUAL, reading};
use crate::engine::protobuf_properties::read_strictly;
use crate::engine::rules::Form;
use crate::support::protobuf::{
    Exemplar, Histogram, LabelPair, Metric, MetricFamily, MetricType, Timestamp, decode, show,
};
use crate::support::{Cut, Lines, engine_of};

const BOTH: &[Lines] = &[Lines::Text, Lines::OpenMetrics];

const UTF8: Setting = Setting { names: Escaping::AllowUtf8, ..USUAL };

const KEEP: Setting = Setting { untyped: Untyped::Keep, ..USUAL };

/// A body through the engine, with the serving labels.
pub fn convert(from: Lines, setting: Setting, body: &[u8], cut: Cut<'_>, end: End) -> (Vec<u8>, Counts) {
    let mut out = Vec::new();
    let engine = append(from, setting, body, cut, end, &mut Families::default(), &mut out);
    (out, engine.progress().counts())
}

/// As [`convert`], for one body of an answer.
pub fn append(
    from: Lines,
    setting: Setting,
    body: &[u8],
    cut: Cut<'_>,
    end: End,
    families: &mut Families,
    out: &mut Vec<u8>,
) -> Box<dyn Engine + Send> {
    let mut engine = engine_of(from.format(), Format::Protobuf, setting.names, &setting.rules());
    for chunk in cut.chunks(body) {
        engine.push(chunk, families, out);
    }
    engine.finish(end, families, out);
    engine
}

/// Reads what an engine put together: as strictly as what targets send is read, and besides every metric must be as
/// orderly as one's own should be.
pub fn read_put_together(body: &[u8], names: Escaping) -> Result<Vec<MetricFamily>, String> {
    let mut families = read_strictly(body, names)?;
    for family in &families {
        let in_family = |error: String| format!("{}: {error}", family.name());
        check_family(family).map_err(in_family)?;
        for metric in &family.metric {
            check_metric(metric, family.r#type()).map_err(in_family)?;
        }
    }
    // They are checked by the rules for what targets send.
    let mut splice = reading(Format::Protobuf, &Rules::default(), names);
    let mut spliced = Vec::new();
    splice.push(body, &mut Families::default(), &mut spliced);
    splice.finish(End::Whole, &mut Families::default(), &mut spliced);
    if spliced != body || splice.progress().counts().dropped_in_all() != 0 {
        return Err("it is not what a target may send".to_owned());
    }
    let metrics = families.iter_mut().flat_map(|family| &mut family.metric);
    metrics.filter_map(|metric| metric.histogram.as_mut()).for_each(forget_whole_parts);
    Ok(families)
}

/// Reads counts as new readers do: of one that is no whole number, the whole part beside it says nothing.
fn forget_whole_parts(histogram: &mut Histogram) {
    let forget = |whole: &mut Option<u64>, float: Option<f64>| {
        if float.is_some() {
            *whole = None;
        }
    };
    forget(&mut histogram.sample_count, histogram.sample_count_float);
    for bucket in &mut histogram.bucket {
        forget(&mut bucket.cumulative_count, bucket.cumulative_count_float);
    }
}

fn check_family(family: &MetricFamily) -> Result<(), String> {
    if family.metric.is_empty() {
        return Err("no metrics".to_owned());
    }
    if family.encoded_len() > MAX_FAMILY {
        return Err("too large".to_owned());
    }
    if let Some(unit) = &family.unit {
        let name = family.name();
        let name = match family.r#type() {
            MetricType::Counter => name.strip_suffix("_total").unwrap_or(name),
            _ => name,
        };
        if unit.is_empty() || !name.ends_with(&format!("_{unit}")) {
            return Err(format!("the unit {unit}"));
        }
    }
    Ok(())
}

fn check_metric(metric: &Metric, kind: MetricType) -> Result<(), String> {
    let values = [
        (metric.counter.is_some(), MetricType::Counter),
        (metric.gauge.is_some(), MetricType::Gauge),
        (metric.summary.is_some(), MetricType::Summary),
        (metric.untyped.is_some(), MetricType::Untyped),
        (metric.histogram.is_some(), MetricType::Histogram),
    ];
    let value = if kind == MetricType::GaugeHistogram { MetricType::Histogram } else { kind };
    if values.iter().any(|(is_there, of)| *is_there != (*of == value)) {
        return Err("a value of another type".to_owned());
    }
    if let Some(counter) = &metric.counter {
        check_time(counter.created_timestamp.as_ref())?;
        check_exemplar(counter.exemplar.as_ref())?;
    }
    if let Some(summary) = &metric.summary {
        check_time(summary.created_timestamp.as_ref())?;
        check_ascending(summary.quantile.iter().map(|quantile| quantile.quantile()))?;
    }
    if let Some(histogram) = &metric.histogram {
        check_time(histogram.created_timestamp.as_ref())?;
        check_ascending(histogram.bucket.iter().map(|bucket| bucket.upper_bound()))?;
        for bucket in &histogram.bucket {
            check_exemplar(bucket.exemplar.as_ref())?;
            check_count(bucket.cumulative_count, bucket.cumulative_count_float)?;
        }
        check_count(histogram.sample_count, histogram.sample_count_float)?;
        if histogram.bucket.iter().any(|bucket| bucket.upper_bound().is_nan()) {
            return Err("a bound that is NaN".to_owned());
        }
    }
    Ok(())
}

fn check_ascending(numbers: impl Iterator<Item = f64>) -> Result<(), String> {
    let numbers: Vec<f64> = numbers.collect();
    // Of the numbers NaN is last.
    if numbers.windows(2).all(|pair| pair[0] < pair[1] || (pair[1].is_nan() && !pair[0].is_nan())) {
        Ok(())
    } else {
        Err(format!("{numbers:?} out of order"))
    }
}

fn check_count(whole: Option<u64>, float: Option<f64>) -> Result<(), String> {
    match (whole, float) {
        (Some(whole), Some(float)) if float as u64 != whole => Err(format!("{float} beside {whole}")),
        (_, Some(float)) if float.is_nan() || float <= 0.0 => Err(format!("a count of {float}")),
        _ => Ok(()),
    }
}

fn check_exemplar(exemplar: Option<&Exemplar>) -> Result<(), String> {
    let Some(exemplar) = exemplar else { return Ok(()) };
    let names: HashSet<&str> = exemplar.label.iter().map(LabelPair::name).collect();
    if names.len() != exemplar.label.len() || names.contains("__name__") {
        return Err("labels of an exemplar".to_owned());
    }
    check_time(exemplar.timestamp.as_ref())
}

fn check_time(time: Option<&Timestamp>) -> Result<(), String> {
    match time {
        Some(time)
            if !(0..1_000_000_000).contains(&time.nanos)
                || !(-62_135_596_800..=253_402_300_799).contains(&time.seconds) =>
        {
            Err(format!("{time:?}"))
        }
        _ => Ok(()),
    }
}

/// What becomes of a body, whole and cut at every byte. `# EOF` is added.
#[track_caller]
fn run(from: Lines, setting: Setting, body: &[u8]) -> (String, Counts) {
    let mut body = body.to_vec();
    if from == Lines::OpenMetrics {
        body.extend_from_slice(b"# EOF\n");
    }
    let whole = convert(from, setting, &body, Cut::Whole, End::Whole);
    assert_eq!(convert(from, setting, &body, Cut::EveryByte, End::Whole), whole);
    let families = read_put_together(&whole.0, setting.names).expect("what goes out is valid");
    (shown(&families), whole.1)
}

/// The families with `@` where the serving labels stand.
pub fn shown(families: &[MetricFamily]) -> String {
    let serving = show(&[MetricFamily {
        metric: vec![Metric {
            label: crate::support::protobuf::labels(crate::support::SERVING_LABELS),
            ..Metric::default()
        }],
        ..MetricFamily::default()
    }]);
    let serving = &serving[serving.find('{').unwrap() + 1..serving.find('}').unwrap()];
    show(families).replace(serving, "@")
}

/// Nothing is lost, and this is what becomes of the body.
const fn becomes<'a>(promise: &'a str, from: &'a [Lines], body: &'a str, out: &'a str) -> Case<'a> {
    Case::new(promise, from, Form::Protobuf, USUAL, body, out)
}

/// So many lines are lost as malformed, and this is what becomes of the body.
const fn loses<'a>(
    promise: &'a str,
    from: &'a [Lines],
    setting: Setting,
    body: &'a str,
    malformed: u64,
    out: &'a str,
) -> Case<'a> {
    Case::new(promise, from, Form::Protobuf, setting, body, out).losing(malformed)
}

const DEGREES: &str = "# TYPE \"a_\u{b0}C\" gauge\n# UNIT \"a_\u{b0}C\" \u{b0}C\n{\"a_\u{b0}C\"} 1\n";

const QUOTED: &str = "# HELP \"a.b\" Words.\n# TYPE \"a.b\" histogram\n{\"a.b_bucket\",\"l.m\"=\"1\",\"le\"=\"+Inf\"} 2\n{\"a.b_sum\",\"l.m\"=\"1\"} 3\n\
                # TYPE \"q\\\"\\\\\\n\" gauge\n{\"q\\\"\\\\\\n\",\"\\\"\"=\"x\"} 4\n";

pub const CASES: &[Case] = &[
    becomes(
        "simple types of text have a metric for each sample",
        &[Lines::Text],
        "# HELP a_total Words.\n# TYPE a_total counter\na_total 1\na_total{x=\"y\"} 2 1700000000123\n\
         # TYPE b gauge\nb -0.5\n# TYPE c untyped\nc NaN\nd{e=\"f\"} +Inf\n",
        "a_total counter help \"Words.\"\n  {@} 1\n  {x=\"y\",@} 2 at 1700000000123\n\
         b gauge\n  {@} -0.5\nc untyped\n  {@} NaN\nd untyped\n  {e=\"f\",@} inf\n",
    ),
    becomes(
        "simple types of OpenMetrics go by the names of their samples",
        &[Lines::OpenMetrics],
        "# TYPE a gauge\n# HELP a Words.\na 1\na{x=\"y\"} 2\n# TYPE b unknown\nb 3\nc 4\n\
         # TYPE d info\n# HELP d Version.\nd_info{v=\"1\"} 1\n# TYPE e stateset\ne{e=\"on\"} 1\ne{e=\"off\"} 0\n",
        "a gauge help \"Words.\"\n  {@} 1\n  {x=\"y\",@} 2\nb untyped\n  {@} 3\nc untyped\n  {@} 4\n\
         d_info gauge help \"Version.\"\n  {v=\"1\",@} 1\ne gauge\n  {e=\"on\",@} 1\n  {e=\"off\",@} 0\n",
    ),
    // Its series is `a`, and must not become `a_total`.
    becomes(
        "a sample without its family's ending keeps its name",
        &[Lines::OpenMetrics],
        "# TYPE a counter\na 1\na_total 2\n# TYPE b info\nb 3\n# TYPE c_total counter\nc_total 4\n",
        "a counter\n  {@} 1\na_total counter\n  {@} 2\nb gauge\n  {@} 3\nc_total counter\n  {@} 4\n",
    ),
    // To Prometheus labels have no order.
    becomes(
        "the parts of a metric need not have its labels in one order",
        BOTH,
        "# TYPE a histogram\na_bucket{y=\"2\",le=\"+Inf\",x=\"1\"} 3\na_sum{x=\"1\",y=\"2\"} 4\na_count{y=\"2\",x=\"1\"} 3\n\
         # TYPE b gauge\nb{y=\"2\",x=\"1\"} 5\n",
        "a histogram\n  {x=\"1\",y=\"2\",@} count 3 sum 4 inf:3\nb gauge\n  {y=\"2\",x=\"1\",@} 5\n",
    ),
    becomes(
        "a histogram that lacks a part has the others",
        BOTH,
        "# TYPE a histogram\na_bucket{x=\"no inf\",le=\"1\"} 2\na_count{x=\"no inf\"} 3\na_sum{x=\"sum alone\"} 4\n\
         a_bucket{x=\"no count\",le=\"+Inf\"} 6\na_bucket{x=\"no count\",le=\"1\"} 5\na_count{x=\"count alone\"} 7\n",
        "a histogram\n  {x=\"no inf\",@} count 3 1:2\n  {x=\"sum alone\",@} sum 4\n\
         \x20 {x=\"no count\",@} count 6 1:5 inf:6\n  {x=\"count alone\",@} count 7\n",
    ),
    becomes(
        "counts that are no whole numbers are kept as they are",
        BOTH,
        "# TYPE a histogram\na_bucket{le=\"1\"} 2.5\na_bucket{le=\"2\"} 1e19\na_bucket{le=\"3\"} 18446744073709551615\na_bucket{le=\"4\"} 1e300\n\
         a_bucket{le=\"+Inf\"} +Inf\na_bucket{le=\"-1\"} 0\na_bucket{le=\"-2\"} -0\na_bucket{le=\"-3\"} 1e-400\na_count +Inf\n",
        "a histogram\n  {@} count inff -3:0 -2:0 -1:0 1:2.5f 2:10000000000000000000 3:18446744073709552000f \
         4:1000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000f inf:inff\n",
    ),
    becomes(
        "histograms and summaries of OpenMetrics have the time at which they were created",
        &[Lines::OpenMetrics],
        "# TYPE a histogram\na_created{x=\"y\"} 5\na_bucket{x=\"y\",le=\"+Inf\"} 1\na_count{x=\"y\"} 1\n\
         # TYPE b summary\nb_count 2\nb_sum 3\nb_created 1600000000.000001\n\
         # TYPE c gaugehistogram\nc_bucket{le=\"+Inf\"} 4\nc_gcount 4\nc_gsum -5\nc_created -0.5\n",
        "a histogram\n  {x=\"y\",@} count 1 inf:1 created 5.000000000\n\
         b summary\n  {@} count 2 sum 3 created 1600000000.000001000\n\
         c_bucket untyped\n  {le=\"+Inf\",@} 4\nc_gsum untyped\n  {@} -5\nc_gcount untyped\n  {@} 4\nc_created untyped\n  {@} -0.5\n",
    ),
    becomes(
        "several points of a series are metrics each with all of its parts",
        &[Lines::Text],
        "# TYPE a gauge\na 1 1000\na 2 2000\na 3\n\
         # TYPE b histogram\nb_bucket{le=\"+Inf\"} 1 1000\nb_bucket{le=\"+Inf\"} 2 2000\nb_count 1 1000\nb_count 2 2000\nb_sum 3 1000\nb_sum 4 2000\n",
        "a gauge\n  {@} 1 at 1000\n  {@} 2 at 2000\n  {@} 3\n\
         b histogram\n  {@} count 1 sum 3 inf:1 at 1000\n  {@} count 2 sum 4 inf:2 at 2000\n",
    ),
    // All of them were created at one time, whatever the timestamp of the line that tells it.
    becomes(
        "several points of a series are metrics each with all of its parts",
        &[Lines::OpenMetrics],
        "# TYPE a counter\na_total 1 1\na_total 2 2.5\na_created 0.5 3\na_total 3\n",
        "a_total counter\n  {@} 1 created 0.500000000 at 1000\n  {@} 2 created 0.500000000 at 2500\n  {@} 3 created 0.500000000\n",
    ),
    becomes(
        "timestamps are milliseconds",
        &[Lines::Text],
        "a 1 1\na 2 9223372036854775807\n",
        "a untyped\n  {@} 1 at 1\n  {@} 2 at 9223372036854775807\n",
    ),
    becomes(
        "timestamps are milliseconds",
        &[Lines::OpenMetrics],
        "a 1 0.001\na 2 -1.5\na 3 1700000000.1239\na 5 9223372036854774\n",
        "a untyped\n  {@} 1 at 1\n  {@} 2 at -1500\n  {@} 3 at 1700000000123\n  {@} 5 at 9223372036854773760\n",
    ),
    loses(
        "timestamps are milliseconds",
        &[Lines::OpenMetrics],
        USUAL,
        "a 1 9223372036854776\na 2 1e300\n# TYPE b histogram\nb_count 1 1e300\n",
        3,
        "",
    ),
    // A message would have the time of the scrape there.
    loses("the timestamp 0 is none", &[Lines::OpenMetrics], USUAL, "a 1 0\na 1 -0.0004\n", 2, ""),
    loses("the timestamp 0 is none", &[Lines::Text], USUAL, "a 1 0\na 1 00\n", 2, ""),
    becomes(
        "buckets have their exemplars",
        &[Lines::OpenMetrics],
        "# TYPE a histogram\na_bucket{le=\"+Inf\"} 3 # {t=\"1\"} 0.5\na_bucket{le=\"1\"} 2 # {} NaN -1.5\na_bucket{le=\"0.5\"} 1\n\
         # TYPE b gaugehistogram\nb_bucket{le=\"+Inf\"} 3 # {service_name=\"kept\"} 4 1e300\n",
        "a histogram\n  {@} count 3 0.5:1 1:2 # {} NaN at -2.500000000 inf:3 # {t=\"1\"} 0.5\n\
         b_bucket untyped\n  {le=\"+Inf\",@} 3\n",
    ),
    loses(
        "metadata may come behind samples but for the type",
        BOTH,
        USUAL,
        "a 1\n# TYPE a gauge\n# HELP a Words.\n# HELP a Other words.\na 2\n# HELP b Of no samples.\n# TYPE b gauge\n# TYPE c gauge\nc 3\n# HELP c Late.\n",
        1,
        "a untyped help \"Words.\"\n  {@} 1\n  {@} 2\nc gauge help \"Late.\"\n  {@} 3\n",
    ),
    becomes(
        "a counter whose name ends as that of another's samples is one itself",
        &[Lines::Text],
        "# TYPE a counter\n# TYPE a_total counter\na_total_total 1\na_total 2\n",
        "a_total_total counter\n  {@} 1\na_total counter\n  {@} 2\n",
    ),
    becomes("metadata without samples is nothing", BOTH, "# HELP a Words.\n# TYPE a gauge\n# HELP b Words.\n", ""),
    becomes("metadata without samples is nothing", BOTH, "", ""),
    loses("metadata without samples is nothing", BOTH, USUAL, "# HELP a Words.\na one\n", 1, ""),
    becomes(
        "escapes in label values are decoded",
        BOTH,
        "a{b=\"\\\\ \\\" \\n \\q {},=# \u{e9}\",c=\"\"} 1\n",
        "a untyped\n  {b=\"\\\\ \\\" \\n \\\\q {},=# \u{e9}\",c=\"\",@} 1\n",
    ),
    becomes(
        "labels that collide are renamed until free",
        BOTH,
        "a{service_name=\"1\",exported_service_name=\"2\",revision_name=\"3\"} 1\n\
         # TYPE b histogram\nb_bucket{service_name=\"1\",le=\"+Inf\"} 2\nb_sum{service_name=\"1\"} 3\n",
        "a untyped\n  {exported_exported_service_name=\"1\",exported_service_name=\"2\",exported_revision_name=\"3\",@} 1\n\
         b histogram\n  {exported_service_name=\"1\",@} count 2 sum 3 inf:2\n",
    ),
    becomes(
        "a family whose lines do not stand together is several messages",
        BOTH,
        "# HELP a Words.\n# TYPE a gauge\na 1\na 2\nb 3\na 4\n# HELP c Words.\na 5\nc 6\n# TYPE d histogram\nd_count 1\na 7\nd_count 2\n",
        "a gauge help \"Words.\"\n  {@} 1\n  {@} 2\nb untyped\n  {@} 3\na gauge help \"Words.\"\n  {@} 4\n  {@} 5\n\
         c untyped help \"Words.\"\n  {@} 6\nd histogram\n  {@} count 1\na gauge help \"Words.\"\n  {@} 7\nd histogram\n  {@} count 2\n",
    ),
    becomes(
        "the time at which a gauge histogram was created is told as it is",
        &[Lines::OpenMetrics],
        "# TYPE s gaugehistogram\ns_gsum 3 10\ns_gsum 3 20\ns_created 5\ns_created{a=\"1\"} 6 1\n",
        "s_gsum untyped\n  {@} 3 at 10000\n  {@} 3 at 20000\ns_created untyped\n  {@} 5\n  {a=\"1\",@} 6 at 1000\n",
    ),
    becomes(
        "what stands within a family of several parts does not part it",
        &[Lines::Text],
        "# TYPE a histogram\na_bucket{le=\"+Inf\"} 2\na_total 5\na_sum 3\na_created{x=\"y\"} 4\na_total 6\na_count 2\nb 1\na_total 7\n",
        "a_total gauge\n  {@} 5\na_created counter\n  {x=\"y\",@} 4\na_total gauge\n  {@} 6\n\
         a histogram\n  {@} count 2 sum 3 inf:2\nb untyped\n  {@} 1\na_total gauge\n  {@} 7\n",
    ),
    loses(
        "a line that is dropped does not part a family",
        BOTH,
        USUAL,
        "# TYPE a histogram\na_count 1\nb one\n# TYPE b foo\na_sum 2\n",
        2,
        "a histogram\n  {@} count 1 sum 2\n",
    ),
    becomes(
        "a summary is put together from lines in any order",
        BOTH,
        "# TYPE a summary\na_count{x=\"y\"} 9\na{x=\"y\",quantile=\"0.99\"} -3\na{quantile=\"0.5\"} NaN\na_sum{x=\"y\"} -1.5\na{quantile=\"0.5\",x=\"y\"} 2\n\
         a_sum{quantile=\"0.5\"} 1\n",
        "a summary\n  {x=\"y\",@} count 9 sum -1.5 0.5:2 0.99:-3\n  {@} 0.5:NaN\n  {quantile=\"0.5\",@} sum 1\n",
    ),
    // There is no place for the rest of it.
    becomes(
        "a summary is put together from lines in any order",
        &[Lines::Text],
        "# TYPE a summary\na_count{x=\"1\"} 2.9\na_count{x=\"2\"} 1e30\na_count{x=\"3\"} 2\n",
        "a summary\n  {x=\"3\",@} count 2\na_count untyped\n  {x=\"1\",@} 2.9\n  {x=\"2\",@} 1000000000000000000000000000000\n",
    ),
    becomes(
        "a histogram that is none is taken apart",
        BOTH,
        "# TYPE a histogram\na_bucket{x=\"1\",le=\"1\"} 5\na_bucket{x=\"1\",le=\"+Inf\"} 7\na_sum{x=\"1\"} 3\na_count{x=\"1\"} 10\n\
         a_bucket{x=\"2\",le=\"1\"} 5\na_bucket{x=\"2\",le=\"2\"} 4\na_bucket{x=\"3\",le=\"+Inf\"} 1\na_sum{x=\"3\"} 1\na_count{x=\"3\"} 1\n",
        "a histogram\n  {x=\"3\",@} count 1 sum 1 inf:1\n\
         a_bucket untyped\n  {le=\"1.0\",x=\"1\",@} 5\n  {le=\"+Inf\",x=\"1\",@} 7\n  {le=\"1.0\",x=\"2\",@} 5\n  {le=\"2.0\",x=\"2\",@} 4\n\
         a_sum untyped\n  {x=\"1\",@} 3\na_count untyped\n  {x=\"1\",@} 10\n",
    ),
    becomes(
        "parts with timestamps of their own invent no others",
        &[Lines::Text],
        "# TYPE a histogram\na_bucket{le=\"+Inf\"} 1 1000\na_sum 2 2000\na_count 1 3000\n",
        "a_bucket untyped\n  {le=\"+Inf\",@} 1 at 1000\na_sum untyped\n  {@} 2 at 2000\na_count untyped\n  {@} 1 at 3000\n",
    ),
    // Prometheus takes the first, too.
    loses(
        "of two values for one part of a metric the first is kept",
        BOTH,
        USUAL,
        "# TYPE a histogram\na_bucket{le=\"1\"} 1\na_bucket{le=\"2\"} 2\na_bucket{le=\"1.0\"} 3\na_sum 4\na_sum 5\na_count 6\na_count 7\n\
         # TYPE b summary\nb{quantile=\"0.5\"} 8\nb{quantile=\"0.50\"} 9\nb{quantile=\"NaN\"} 10\nb{quantile=\"NaN\"} 11\n",
        5,
        "a histogram\n  {@} count 6 sum 4 1:1 2:2\nb summary\n  {@} 0.5:8 NaN:10\n",
    ),
    loses(
        "of two values for one part of a metric the first is kept",
        &[Lines::OpenMetrics],
        USUAL,
        "# TYPE a counter\na_total 1\na_total 2\na_created 3\na_created 4\n",
        2,
        "a_total counter\n  {@} 1 created 3.000000000\n",
    ),
    becomes(
        "units are kept where the family's name ends in them",
        &[Lines::OpenMetrics],
        "# UNIT a_seconds seconds\n# TYPE a_seconds counter\na_seconds_total 1\n# TYPE b_s gauge\n# UNIT b_s s\nb_s 1\n\
         # TYPE c gauge\n# UNIT c \nc 1\n# TYPE d_s info\n# UNIT d_s s\nd_s_info 1\n# TYPE e_s histogram\n# UNIT e_s s\ne_s_sum 1\n",
        "a_seconds_total counter unit seconds\n  {@} 1\nb_s gauge unit s\n  {@} 1\nc gauge\n  {@} 1\n\
         d_s_info gauge\n  {@} 1\ne_s histogram unit s\n  {@} sum 1\n",
    ),
    becomes(
        "units are kept where the family's name ends in them",
        &[Lines::OpenMetrics],
        DEGREES,
        "a__C gauge\n  {@} 1\n",
    ),
    loses(
        "units are kept where the family's name ends in them",
        &[Lines::OpenMetrics],
        UTF8,
        DEGREES,
        0,
        "a_\u{b0}C gauge unit \u{b0}C\n  {@} 1\n",
    ),
    becomes(
        "helps are unescaped",
        BOTH,
        "# HELP a \\\\ \\n \u{e9} \\q\n# TYPE a gauge\na 1\n",
        "a gauge help \"\\\\ \\n \u{e9} \\\\q\"\n  {@} 1\n",
    ),
    becomes(
        "helps are unescaped",
        &[Lines::OpenMetrics],
        "# HELP a \\\"quoted\\\"\na 1\n",
        "a untyped help \"\\\"quoted\\\"\"\n  {@} 1\n",
    ),
    // In text a quote has no escape.
    becomes(
        "helps are unescaped",
        &[Lines::Text],
        "# HELP a \\\"quoted\\\"\na 1\n",
        "a untyped help \"\\\\\\\"quoted\\\\\\\"\"\n  {@} 1\n",
    ),
    loses(
        "quoted names are kept or escaped",
        BOTH,
        UTF8,
        QUOTED,
        0,
        "a.b histogram help \"Words.\"\n  {l.m=\"1\",@} count 2 sum 3 inf:2\nq\"\\\n gauge\n  {\"=\"x\",@} 4\n",
    ),
    becomes(
        "quoted names are kept or escaped",
        BOTH,
        QUOTED,
        "a_b histogram help \"Words.\"\n  {l_m=\"1\",@} count 2 sum 3 inf:2\nq___ gauge\n  {_=\"x\",@} 4\n",
    ),
    // They would be one to a scraper that takes no others.
    becomes(
        "quoted names are kept or escaped",
        BOTH,
        "a{\"b.c\"=\"1\",b_c=\"2\"} 1\na{\"--name--\"=\"1\"} 1\n",
        "a untyped\n  {exported_b_c=\"1\",b_c=\"2\",@} 1\n  {exported___name__=\"1\",@} 1\n",
    ),
    becomes(
        "quoted names are kept or escaped",
        BOTH,
        "# TYPE a_b gauge\na_b 1\n# TYPE \"a.b\" gauge\n# HELP \"a.b\" Words.\n{\"a.b\"} 2\n",
        "a_b gauge help \"Words.\"\n  {@} 1\n  {@} 2\n",
    ),
];

#[test]
fn lines_become_the_messages_that_the_table_says_however_they_are_cut() {
    check(CASES);
}

#[test]
fn a_counter_of_open_metrics_has_its_exemplar_and_the_time_at_which_it_was_created() {
    for body in [
        "a_total{x=\"y\"} 1 # {t=\"1\",u=\"\\\"\\n\"} 0.5 1700000000.123\na_created{x=\"y\"} 1600000000.25\na_total 2\na_created 5\n",
        "a_created 5\na_total{x=\"y\"} 1 # {t=\"1\",u=\"\\\"\\n\"} 0.5 1700000000.123\na_total 2\na_created{x=\"y\"} 1600000000.25\n",
    ] {
        let body = format!("# TYPE a counter\n# HELP a Words.\n{body}");
        let (shown, counts) = run(Lines::OpenMetrics, USUAL, body.as_bytes());
        let with_exemplar =
            "  {x=\"y\",@} 1 # {t=\"1\",u=\"\\\"\\n\"} 0.5 at 1700000000.123000000 created 1600000000.250000000\n";
        let other = "  {@} 2 created 5.000000000\n";
        assert!(shown.starts_with("a_total counter help \"Words.\"\n"));
        assert!(shown.contains(with_exemplar) && shown.contains(other), "{shown}");
        assert_eq!((counts.samples, counts.dropped_in_all()), (4, 0));
    }
}

#[test]
fn a_histogram_is_put_together_from_lines_in_any_order() {
    let expected = "a histogram help \"Words.\"\n  {x=\"1\",@} count 3 sum 2.5 0.5:1 1:2 inf:3\n  {x=\"2\",@} count 6 sum 5 0.5:4 1:5 inf:6\n";
    let in_order = "a_bucket{x=\"1\",le=\"0.5\"} 1\na_bucket{x=\"1\",le=\"1.0\"} 2\na_bucket{x=\"1\",le=\"+Inf\"} 3\na_sum{x=\"1\"} 2.5\na_count{x=\"1\"} 3\n\
                    a_bucket{x=\"2\",le=\"0.5\"} 4\na_bucket{x=\"2\",le=\"1.0\"} 5\na_bucket{x=\"2\",le=\"+Inf\"} 6\na_sum{x=\"2\"} 5\na_count{x=\"2\"} 6\n";
    let interleaved = "a_count{x=\"1\"} 3\na_bucket{le=\"+Inf\",x=\"2\"} 6\na_bucket{x=\"1\",le=\"1.0\"} 2\na_bucket{x=\"1\",le=\"+Inf\"} 3\na_count{x=\"2\"} 6\n\
                       a_sum{x=\"2\"} 5\na_bucket{x=\"2\",le=\"0.50\"} 4\na_bucket{le=\"0.5\",x=\"1\"} 1\na_bucket{x=\"2\",le=\"1\"} 5\na_sum{x=\"1\"} 2.5\n";
    for from in BOTH.iter().copied() {
        for lines in [in_order, interleaved] {
            check(&[becomes(
                "a histogram is put together from lines in any order",
                &[from],
                &format!("# HELP a Words.\n# TYPE a histogram\n{lines}"),
                expected,
            )]);
        }
    }
}

#[test]
fn what_is_no_part_of_a_histogram_or_summary_is_malformed() {
    for from in BOTH.iter().copied() {
        for (kind, line) in [
            ("histogram", "a_bucket{le=\"1\"} NaN"),
            ("histogram", "a_bucket{le=\"1\"} -1"),
            ("histogram", "a_bucket{le=\"1\"} -Inf"),
            ("histogram", "a_count NaN"),
            ("histogram", "a_count -0.5"),
            ("histogram", "a_bucket{le=\"\"} 1"),
            ("histogram", "a_bucket{le=\"one\"} 1"),
            ("histogram", "a_bucket{le=\"NaN\"} 1"),
            ("histogram", "a_bucket{le=\" 1\"} 1"),
            ("histogram", "a_bucket{le=\"0x1\"} 1"),
            ("histogram", "a_bucket{le=\"1e400\"} 1"),
            ("summary", "a{quantile=\"\"} 1"),
            ("summary", "a{quantile=\"half\"} 1"),
            ("summary", "a{quantile=\"1e400\"} 1"),
            ("summary", "a_count NaN"),
            ("summary", "a_count -1"),
        ] {
            let (good, expected) = match kind {
                "histogram" => ("a_bucket{le=\"5\"} 2", "a histogram\n  {@} count 2 sum 3 5:2\n"),
                _ => ("a{quantile=\"0.5\"} 2", "a summary\n  {@} sum 3 0.5:2\n"),
            };
            let body = format!("# TYPE a {kind}\n{good}\n{line}\na_sum 3\n");
            let (shown, counts) = run(from, USUAL, body.as_bytes());
            assert_eq!(shown, expected, "{line}");
            assert_eq!((counts.samples, counts.dropped(DropReason::Malformed)), (2, 1), "{line}");
        }
    }
}

#[test]
fn what_is_a_part_of_no_histogram_or_summary_is_a_family_of_its_own() {
    for (kind, line, expected) in [
        ("histogram", "a{quantile=\"0.5\"} 1", "a untyped\n  {quantile=\"0.5\",@} 1\n"),
        ("histogram", "a 1", "a untyped\n  {@} 1\n"),
        ("histogram", "a_bucket{x=\"y\"} 1", "a_bucket untyped\n  {x=\"y\",@} 1\n"),
        ("histogram", "a_sum{le=\"1\"} 1", "a_sum untyped\n  {le=\"1\",@} 1\n"),
        ("histogram", "a_count{le=\"1\"} 1", "a_count untyped\n  {le=\"1\",@} 1\n"),
        ("summary", "a 1", "a untyped\n  {@} 1\n"),
    ] {
        let (good, whole) = match kind {
            "histogram" => ("a_bucket{le=\"5\"} 2", "a histogram\n  {@} count 2 sum 3 5:2\n"),
            _ => ("a{quantile=\"0.5\"} 2", "a summary\n  {@} sum 3 0.5:2\n"),
        };
        for from in BOTH {
            let body = format!("# TYPE a {kind}\n{good}\n{line}\na_sum 3\n");
            let (shown, counts) = run(*from, USUAL, body.as_bytes());
            assert_eq!(shown, format!("{whole}{expected}"), "{line}");
            assert_eq!((counts.samples, counts.dropped_in_all()), (3, 0), "{line}");
        }
    }
}

#[test]
fn a_creation_of_nothing_and_one_at_no_time_are_lost_and_counted() {
    for time in ["NaN", "+Inf", "-1e12", "253402300800", "1e300"] {
        check(&[loses(
            "a creation of nothing and one at no time are lost and counted",
            &[Lines::OpenMetrics],
            USUAL,
            &format!("# TYPE a counter\na_total 1\na_created {time}\n"),
            1,
            "a_total counter\n  {@} 1\n",
        )]);
    }
    check(&[loses(
        "a creation of nothing and one at no time are lost and counted",
        &[Lines::OpenMetrics],
        USUAL,
        "# TYPE a counter\na_created 5\na_total{x=\"y\"} 1\na_created{x=\"y\"} 6\na_created{x=\"z\"} 7\n# TYPE b histogram\nb_created 8\n",
        3,
        "a_total counter\n  {x=\"y\",@} 1 created 6.000000000\n",
    )]);
}

#[test]
fn exemplars_that_have_no_place_or_are_malformed_are_lost_alone_and_counted() {
    for (lines, expected) in [
        ("# TYPE a gauge\na 1", "a gauge\n  {@} 1\n"),
        ("a 1", "a untyped\n  {@} 1\n"),
        ("# TYPE a info\na_info 1", "a_info gauge\n  {@} 1\n"),
        ("# TYPE a histogram\na_sum 1", "a histogram\n  {@} sum 1\n"),
        ("# TYPE a histogram\na_count 1", "a histogram\n  {@} count 1\n"),
        ("# TYPE a summary\na{quantile=\"1\"} 1", "a summary\n  {@} 1:1\n"),
        ("# TYPE a summary\na_count 1", "a summary\n  {@} count 1\n"),
        ("# TYPE a counter\na_total 1\na_created 1", "a_total counter\n  {@} 1 created 1.000000000\n"),
    ] {
        check(&[loses(
            "exemplars that have no place or are malformed are lost alone and counted",
            &[Lines::OpenMetrics],
            USUAL,
            &format!("{lines} # {{t=\"1\"}} 1\n"),
            1,
            expected,
        )]);
    }
    for exemplar in ["{", "{t=\"1\"}", "{t=\"1\",} 1", "{t=\"1\"} one", "{t=\"1\"} 1 NaN", "{t=\"1\",t=\"2\"} 1"] {
        check(&[loses(
            "exemplars that have no place or are malformed are lost alone and counted",
            &[Lines::OpenMetrics],
            USUAL,
            &format!("# TYPE a counter\na_total 1 # {exemplar}\na_created 5\n"),
            1,
            "a_total counter\n  {@} 1 created 5.000000000\n",
        )]);
    }
}

#[test]
fn untyped_families_are_sanitized_and_counters_are_not() {
    let text = "a_total 1\n# TYPE b_created untyped\nb_created 2\nc 3\n# HELP d Words.\n# TYPE d untyped\nd 4\n";
    let open_metrics = "a_total 1\n# TYPE b_created unknown\nb_created 2\nc 3\n# HELP d Words.\n# TYPE d unknown\nd 4\n# TYPE e counter\ne_total 5\ne_created 6\n";
    let counter = "e_total counter\n  {@} 5 created 6.000000000\n";
    let sanitized = "a_total gauge\n  {@} 1\nb_created counter\n  {@} 2\n";
    let others = "c untyped\n  {@} 3\nd untyped help \"Words.\"\n  {@} 4\n";
    let kept = format!("a_total untyped\n  {{@}} 1\nb_created untyped\n  {{@}} 2\n{others}");
    for (from, body, more) in [(Lines::Text, text, ""), (Lines::OpenMetrics, open_metrics, counter)] {
        check(&[becomes(
            "untyped families are sanitized and counters are not",
            &[from],
            body,
            &format!("{sanitized}{others}{more}"),
        )]);
        check(&[loses(
            "untyped families are sanitized and counters are not",
            &[from],
            KEEP,
            body,
            0,
            &format!("{kept}{more}"),
        )]);
        let drop = Setting { untyped: Untyped::Drop, ..USUAL };
        let (shown, counts) = run(from, drop, body.as_bytes());
        assert_eq!(shown, format!("{sanitized}{more}"));
        assert_eq!(counts.dropped(DropReason::Untyped), 2);
        assert_eq!(counts.samples, if from == Lines::Text { 2 } else { 4 });
    }
}

/// Escaping and types that are one to the scraper do not part a family.
#[test]
fn what_is_one_family_to_the_scraper_is_one_message() {
    for from in BOTH.iter().copied() {
        let untyped = if from == Lines::Text { "untyped" } else { "unknown" };
        check(&[becomes(
            "what is one family to the scraper is one message",
            &[from],
            &format!("a_b 1\n# TYPE \"a.b\" {untyped}\n{{\"a.b\"}} 2\na_b 3\n"),
            "a_b untyped\n  {@} 1\n  {@} 2\n  {@} 3\n",
        )]);
    }
}

/// Each message carries its own metadata, whatever stands before it in the answer.
#[test]
fn families_of_several_targets_are_messages_each() {
    let bodies = [
        (Lines::Text, "# HELP a_total One.\n# TYPE a_total counter\na_total 1\n"),
        (Lines::OpenMetrics, "# HELP a Two.\n# TYPE a counter\na_total 2\na_created 3\n# EOF\n"),
        (Lines::Text, "a_total 4\n"),
        (Lines::Text, "# HELP a_total Four.\n# TYPE a_total gauge\na_total 5\n"),
    ];
    let (mut out, mut families) = (Vec::new(), Families::default());
    for (target, (from, body)) in bodies.into_iter().enumerate() {
        families.turn_to(target);
        append(from, USUAL, body.as_bytes(), Cut::EveryByte, End::Whole, &mut families, &mut out);
    }
    assert_eq!(
        shown(&read_put_together(&out, Escaping::Underscores).unwrap()),
        "a_total counter help \"One.\"\n  {@} 1\na_total counter help \"Two.\"\n  {@} 2 created 3.000000000\n\
         a_total gauge\n  {@} 4\na_total gauge help \"Four.\"\n  {@} 5\n",
    );
    assert_eq!(families.conflicts(), 1, "only the last one said otherwise");
}

#[test]
fn a_body_that_broke_off_loses_the_line_it_broke_off_in() {
    for from in BOTH.iter().copied() {
        for (body, expected) in [
            ("# TYPE a histogram\na_bucket{le=\"1\"} 1\na_sum 22", "a histogram\n  {@} count 1 1:1\n"),
            ("a 1\nb 22", "a untyped\n  {@} 1\n"),
            ("a 1\nb 22\n", "a untyped\n  {@} 1\nb untyped\n  {@} 22\n"),
            ("a", ""),
        ] {
            for cut in [Cut::Whole, Cut::EveryByte] {
                let (out, counts) = convert(from, USUAL, body.as_bytes(), cut, End::BrokenOff);
                assert_eq!(shown(&read_put_together(&out, Escaping::Underscores).unwrap()), expected);
                let lost = u64::from(!body.ends_with('\n'));
                assert_eq!((counts.dropped(DropReason::CutOff), counts.dropped_in_all()), (lost, lost));
            }
        }
    }
}

/// What each kind of family must not grow into, and the samples around it.
#[test]
fn a_family_that_grows_too_large_is_dropped_and_counted_and_the_rest_is_kept() {
    for from in BOTH.iter().copied() {
        for (kind, line) in [
            ("gauge", "a{x=\"@\"} 1\n"),
            ("counter", "a{x=\"@\"} 1\n"),
            ("histogram", "a_sum{x=\"@\"} 1\n"),
            ("histogram", "a_bucket{le=\"@\"} 1\n"),
            ("summary", "a{quantile=\"@\"} 1\n"),
        ] {
            let mut body = format!("# TYPE before gauge\nbefore 1\n# TYPE a {kind}\n");
            for number in 0..600_000 {
                body += &line.replace('@', &number.to_string());
            }
            body += "# TYPE after gauge\nafter 1\n# EOF\n";
            let (out, counts) = convert(from, USUAL, body.as_bytes(), Cut::Whole, End::Whole);
            assert!(out.len() < 1000, "{kind} {} bytes", out.len());
            let families = read_put_together(&out, Escaping::Underscores).unwrap();
            assert_eq!(shown(&families), "before gauge\n  {@} 1\nafter gauge\n  {@} 1\n");
            assert_eq!(counts.samples, 2);
            assert_eq!(counts.dropped(DropReason::TooLong), 600_000);
            assert_eq!(counts.dropped_in_all(), 600_000);
        }
    }
}

/// A reader of messages refuses one that is larger, help text included.
#[test]
fn a_family_that_is_not_too_large_is_within_the_limit_with_all_that_is_added() {
    let help = "x".repeat(1_000_000);
    for line in ["a_sum{x=\"@\"} 1\n", "a_bucket{le=\"@\"} 1.5\n"] {
        let mut least = 0;
        for samples in [20_000, 60_000, 100_000, 300_000, 450_000] {
            let mut body = format!("# HELP a {help}\n# TYPE a histogram\n");
            for number in 0..samples {
                body += &line.replace('@', &number.to_string());
            }
            let (out, counts) = convert(Lines::Text, USUAL, body.as_bytes(), Cut::Whole, End::Whole);
            read_put_together(&out, Escaping::Underscores).unwrap();
            assert!(counts.samples == samples || counts.samples == 0);
            least = least.max(counts.samples);
        }
        assert!(least > 10_000, "{line}: {least}");
    }
}

#[test]
fn names_that_are_made_up_without_end_run_out_of_room() {
    for from in BOTH.iter().copied() {
        let mut body = String::from("# TYPE known histogram\nknown_sum 1\n");
        for number in 0..60_000 {
            body += &format!("made_up_{number} 1\n");
        }
        body += "known_sum 2\n# EOF\n";
        let (out, counts) = convert(from, USUAL, body.as_bytes(), Cut::Whole, End::Whole);
        let families = read_put_together(&out, Escaping::Underscores).unwrap();
        assert_eq!(families.last().unwrap().name(), "known");
        let no_room = counts.dropped(DropReason::NoRoom);
        assert!(no_room > 10_000, "{no_room}");
        assert_eq!(no_room + counts.samples, 60_002);
    }
}

/// Bodies of about a mebibyte that would take minutes if anything took time by the square of it.
#[test]
fn nothing_that_a_target_may_send_takes_time_by_the_square_of_it() {
    let lines = |number: usize, line: &dyn Fn(usize) -> String| (0..number).map(line).collect::<String>();
    let wide: Vec<String> = (0..100_000).map(|number| format!("l{number}=\"\"")).collect();
    let backwards: Vec<String> = wide.iter().rev().cloned().collect();
    let chain: Vec<String> =
        (0..400).map(|number| format!("{}service_name=\"\"", "exported_".repeat(number))).collect();
    for (what, body, samples) in [
        (
            "buckets of one series, descending",
            format!("# TYPE a histogram\n{}", lines(40_000, &|at| format!("a_bucket{{le=\"{}\"}} 1\n", 40_000 - at))),
            40_000,
        ),
        (
            "points of one series",
            format!("# TYPE a histogram\n{}", lines(40_000, &|at| format!("a_sum 1 {}\n", at + 1))),
            40_000,
        ),
        (
            "series, and the same again",
            format!(
                "# TYPE a histogram\n{}",
                lines(40_000, &|at| format!("a_{}{{x=\"{}\"}} 1\n", ["sum", "count"][at / 20_000], at % 20_000))
            ),
            40_000,
        ),
        (
            "a long help text, and names by turns",
            format!(
                "# HELP a {}\n# TYPE a histogram\n{}",
                "x".repeat(1_000_000),
                lines(40_000, &|at| format!("a_{} 1 {}\n", ["sum", "count"][at % 2], at / 2 + 1)),
            ),
            40_000,
        ),
        ("families of one sample", lines(20_000, &|at| format!("a{at} 1\n")), 20_000),
        (
            "a large family and then small ones",
            format!(
                "# TYPE a histogram\n{}# TYPE b histogram\n# TYPE c histogram\n{}",
                lines(20_000, &|at| format!("a_sum{{x=\"{at}\"}} 1\n")),
                lines(40_000, &|at| format!("{}_sum 1\n", ["b", "c"][at % 2])),
            ),
            60_000,
        ),
        ("labels", format!("# TYPE a histogram\na_sum{{{}}} 1\n", wide.join(",")), 1),
        ("labels, descending", format!("# TYPE a histogram\na_sum{{{}}} 1\n", backwards.join(",")), 1),
        ("labels, one of which collides", format!("a{{{},service_name=\"\"}} 1\n", wide.join(",")), 1),
        ("labels that are renamed again and again", format!("a{{{}}} 1\n", chain.join(",")), 1),
        ("types of one family", lines(40_000, &|_| "# TYPE a gauge\n# HELP a x\n".to_owned()) + "a 1\n", 1),
    ] {
        let (out, counts) = convert(Lines::Text, USUAL, body.as_bytes(), Cut::Whole, End::Whole);
        assert_eq!((counts.samples, counts.dropped_in_all()), (samples, 0), "{what}");
        assert!(decode(&out).is_ok(), "{what}");
    }
}
