//! What holds for every protobuf body, checked on bodies that nobody wrote, for both that go in and out as protobuf and
//! those that go out as text.

use std::collections::HashSet;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use prost::Message as _;
use qpext::exposition::{DropReason, End, Escaping, Untyped};

use crate::engine::protobuf::{Setting, added, field, head, raw_family, splice_cut, to_text_cut};
use crate::support::protobuf::*;
use crate::support::reader::{Sample, read, read_value};
use crate::support::{Cut, SERVING_LABELS};

/// A metric family as a target might send it, with fields of a version to come.
#[derive(Debug, Clone)]
struct Written {
    name: String,
    help: Option<String>,
    kind: MetricType,
    metrics: Vec<(Metric, Vec<u8>)>,
}

fn label_name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zA-Z_][a-zA-Z0-9_]{0,12}".prop_filter("taken", |name| !name.starts_with("__") && !["le", "quantile"].contains(&name.as_str())),
        1 => select(vec!["service_name", "revision_name", "exported_service_name"]).prop_map(str::to_owned),
    ]
}

fn label_value() -> impl Strategy<Value = String> {
    prop_oneof![".{0,20}", "[{},=#\"\\\\\n /:a-z\u{e9}\u{1f600}]{0,20}", "x{100,200}"]
}

fn double() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>().prop_filter("compared", |value| !value.is_nan()),
        any::<u32>().prop_map(f64::from),
        select(vec![0.0, 1.0, 0.1, f64::INFINITY, f64::NEG_INFINITY]),
    ]
}

fn exemplar() -> impl Strategy<Value = Exemplar> {
    (btree_map(".{1,5}", ".{0,5}", 0..3), double(), any::<Option<(i64, i32)>>()).prop_map(|(labels, value, time)| {
        Exemplar {
            label: labels.iter().map(|(name, value)| label(name, value)).collect(),
            value: Some(value),
            timestamp: time.map(|(seconds, nanos)| Timestamp { seconds, nanos }),
        }
    })
}

/// Spans, and as many counts as they claim.
fn side() -> impl Strategy<Value = (Vec<BucketSpan>, Vec<i64>)> {
    vec((0..20i32, 0..4u32), 0..3).prop_flat_map(|spans| {
        let buckets: u32 = spans.iter().map(|(_, length)| length).sum();
        let spans: Vec<BucketSpan> = spans
            .into_iter()
            .map(|(offset, length)| BucketSpan { offset: Some(offset), length: Some(length) })
            .collect();
        (Just(spans), vec(0..1_000_000i64, buckets as usize))
    })
}

fn deltas(counts: &[i64]) -> Vec<i64> {
    let before = std::iter::once(&0).chain(counts);
    counts.iter().zip(before).map(|(count, before)| count - before).collect()
}

fn histogram() -> impl Strategy<Value = Histogram> {
    let buckets = vec((double(), any::<u64>(), proptest::option::of(exemplar())), 0..4);
    (buckets, any::<u64>(), double(), any::<bool>(), side(), side(), 0..9u64, -4..=8i32, vec(exemplar(), 0..2))
        .prop_map(|(buckets, count, sum, is_native, negative, positive, zero_count, schema, exemplars)| {
            // One that is torn is taken apart, as the tables say.
            let mut buckets: Vec<(f64, u64, Option<Exemplar>)> = buckets;
            buckets.retain(|(bound, ..)| !bound.is_nan());
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            buckets.dedup_by(|later, first| later.0 == first.0);
            let mut counts: Vec<u64> = buckets.iter().map(|(_, count, _)| *count).chain([count]).collect();
            counts.sort_unstable();
            let has_all = buckets.last().is_some_and(|(bound, ..)| *bound == f64::INFINITY);
            let count = counts[counts.len() - 1 - usize::from(has_all)];
            let bucket = buckets.into_iter().zip(counts).map(|((bound, _, exemplar), count)| Bucket {
                cumulative_count: Some(count),
                upper_bound: Some(bound),
                exemplar,
                ..Bucket::default()
            });
            let classic = Histogram {
                sample_count: Some(count),
                sample_sum: Some(sum),
                bucket: bucket.collect(),
                ..Histogram::default()
            };
            if !is_native {
                return classic;
            }
            let observations: i64 = negative.1.iter().chain(&positive.1).sum();
            Histogram {
                sample_count: Some(observations as u64 + zero_count),
                schema: Some(schema),
                zero_threshold: Some(0.001),
                zero_count: Some(zero_count),
                negative_delta: deltas(&negative.1),
                negative_span: negative.0,
                positive_delta: deltas(&positive.1),
                positive_span: positive.0,
                exemplars,
                ..classic
            }
        })
}

fn metric(kind: MetricType) -> BoxedStrategy<Metric> {
    match kind {
        MetricType::Counter => (double(), proptest::option::of(exemplar()))
            .prop_map(|(value, exemplar)| Metric {
                counter: Some(Counter { value: Some(value), exemplar, created_timestamp: None }),
                ..Metric::default()
            })
            .boxed(),
        MetricType::Gauge => {
            double().prop_map(|value| Metric { gauge: Some(Gauge { value: Some(value) }), ..Metric::default() }).boxed()
        }
        MetricType::Untyped => double()
            .prop_map(|value| Metric {
                untyped: Some(crate::support::protobuf::Untyped { value: Some(value) }),
                ..Metric::default()
            })
            .boxed(),
        MetricType::Summary => (any::<u64>(), double(), vec((double(), double()), 0..3))
            .prop_map(|(count, sum, quantiles)| {
                let quantile = |(quantile, value)| Quantile { quantile: Some(quantile), value: Some(value) };
                let summary = Summary {
                    sample_count: Some(count),
                    sample_sum: Some(sum),
                    quantile: quantiles.into_iter().map(quantile).collect(),
                    created_timestamp: Some(Timestamp { seconds: 7, nanos: 8 }),
                };
                Metric { summary: Some(summary), ..Metric::default() }
            })
            .boxed(),
        MetricType::Histogram | MetricType::GaugeHistogram => {
            histogram().prop_map(|histogram| Metric { histogram: Some(histogram), ..Metric::default() }).boxed()
        }
    }
}

/// Fields that no version knows.
fn unknown() -> impl Strategy<Value = Vec<u8>> {
    vec((100..2000u32, vec(any::<u8>(), 0..9)), 0..2)
        .prop_map(|fields| fields.iter().flat_map(|(number, bytes)| field(*number, bytes)).collect())
}

fn written() -> impl Strategy<Value = Written> {
    let kind = select(vec![
        MetricType::Counter,
        MetricType::Gauge,
        MetricType::Summary,
        MetricType::Untyped,
        MetricType::Histogram,
        MetricType::GaugeHistogram,
    ]);
    ("[a-z:]{1,8}", proptest::option::of("[ -~\n\u{e9}]{0,20}"), kind).prop_flat_map(|(name, help, kind)| {
        let labels = btree_map(label_name(), label_value(), 0..6);
        let timestamp = proptest::option::weighted(0.2, 1..=i64::MAX);
        vec((metric(kind), labels, timestamp, unknown()), 0..4).prop_map(move |metrics| {
            let mut metrics: Vec<(Metric, Vec<u8>)> = metrics
                .into_iter()
                .map(|(metric, labels, timestamp_ms, unknown)| {
                    let label = labels.iter().map(|(name, value)| label(name, value)).collect();
                    (Metric { label, timestamp_ms, ..metric }, unknown)
                })
                .collect();
            // Behind a native histogram a classic one is refused.
            metrics.sort_by_key(|(metric, _)| metric.histogram.as_ref().is_some_and(|it| it.zero_threshold.is_some()));
            Written { name: name.clone(), help: help.clone(), kind, metrics }
        })
    })
}

fn families() -> impl Strategy<Value = Vec<Written>> {
    vec(written(), 0..5)
}

impl Written {
    fn head(&self) -> Vec<u8> {
        let mut own = head(&self.name, self.kind);
        if let Some(help) = &self.help {
            own.extend(field(2, help.as_bytes()));
        }
        own
    }

    fn encode(&self) -> Vec<u8> {
        let metrics: Vec<Vec<u8>> =
            self.metrics.iter().map(|(metric, unknown)| [metric.encode_to_vec(), unknown.clone()].concat()).collect();
        raw_family(&self.head(), &metrics.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    /// What it must be behind the sidecar.
    fn labelled(&self) -> Vec<u8> {
        let metrics: Vec<Vec<u8>> = self
            .metrics
            .iter()
            .map(|(metric, unknown)| {
                let mut metric = metric.clone();
                rename(&mut metric.label);
                [metric.encode_to_vec(), unknown.clone(), added()].concat()
            })
            .collect();
        raw_family(&self.head(), &metrics.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    /// Its samples as text has them behind the sidecar, values aside from their spelling.
    fn samples(&self) -> Vec<(Sample, f64)> {
        self.metrics.iter().flat_map(|(metric, _)| self.samples_of(metric)).collect()
    }

    fn samples_of(&self, metric: &Metric) -> Vec<(Sample, f64)> {
        let mut own = metric.label.clone();
        rename(&mut own);
        let own: Vec<(String, String)> =
            own.into_iter().map(|label| (label.name.unwrap(), label.value.unwrap())).collect();
        let sample = |suffix: &str, extra: Option<(&str, f64)>, value: f64| {
            let extra = extra.map(|(name, value)| (name.to_owned(), number(value)));
            let serving = SERVING_LABELS.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let sample = Sample {
                exemplar: None,
                name: format!("{}{suffix}", self.name),
                labels: own.iter().cloned().chain(extra).chain(serving).collect(),
                value: String::new(),
                timestamp: metric.timestamp_ms.map(|timestamp| timestamp.to_string()),
            };
            (sample, value)
        };
        if let Some(summary) = &metric.summary {
            let quantiles = summary.quantile.iter();
            let mut samples: Vec<_> =
                quantiles.map(|it| sample("", Some(("quantile", it.quantile())), it.value())).collect();
            samples.push(sample("_sum", None, summary.sample_sum()));
            samples.push(sample("_count", None, summary.sample_count() as f64));
            return samples;
        }
        if let Some(histogram) = &metric.histogram {
            let count = histogram.sample_count() as f64;
            let buckets = histogram.bucket.iter();
            let mut samples: Vec<_> = buckets
                .map(|it| sample("_bucket", Some(("le", it.upper_bound())), it.cumulative_count() as f64))
                .collect();
            let has_infinite = histogram.bucket.iter().any(|bucket| bucket.upper_bound() == f64::INFINITY);
            if !has_infinite && (!samples.is_empty() || histogram.zero_threshold.is_none()) {
                samples.push(sample("_bucket", Some(("le", f64::INFINITY)), count));
            }
            samples.push(sample("_sum", None, histogram.sample_sum()));
            samples.push(sample("_count", None, count));
            return samples;
        }
        let value = metric.counter.as_ref().map(Counter::value);
        let value = value.or(metric.gauge.as_ref().map(Gauge::value));
        vec![sample("", None, value.or(metric.untyped.as_ref().map(|it| it.value())).unwrap())]
    }
}

/// A number in a label, spelt so that two spellings of one number are the same.
fn number(value: f64) -> String {
    format!("{:?}", value + 0.0)
}

/// Renames labels of the names that are added.
pub fn rename(labels: &mut [LabelPair]) {
    let is_serving = |name: &str| SERVING_LABELS.iter().any(|(serving, _)| *serving == name);
    for index in 0..labels.len() {
        let mut name = labels[index].name().to_owned();
        if is_serving(&name) {
            while is_serving(&name) || labels.iter().any(|label| label.name() == name) {
                name = format!("exported_{name}");
            }
            labels[index].name = Some(name);
        }
    }
}

fn settings() -> impl Strategy<Value = Setting> {
    let untyped = select(vec![Untyped::Convert, Untyped::Drop, Untyped::Keep]);
    (untyped, select(vec![Escaping::Underscores, Escaping::AllowUtf8]))
        .prop_map(|(untyped, names)| Setting { untyped, names })
}

/// Bodies that are not quite expositions: valid ones with a few bytes in the wrong place.
fn almost_an_exposition() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![vec(any::<u8>(), 0..3), unknown(), Just(added())];
    let change = (any::<usize>(), 0..3usize, piece);
    (families(), vec(change, 0..6)).prop_map(|(families, changes)| {
        let mut body: Vec<u8> = families.iter().flat_map(Written::encode).collect();
        for (place, removed, piece) in changes {
            let start = place % (body.len() + 1);
            let end = (start + removed).min(body.len());
            body.splice(start..end, piece);
        }
        body
    })
}

/// Metrics spoilt inside messages whose lengths are right, which random changes seldom leave.
fn spoilt_inside() -> impl Strategy<Value = Vec<u8>> {
    (families(), vec((any::<usize>(), any::<u8>()), 1..4)).prop_map(|(families, changes)| {
        let mut body = Vec::new();
        for family in &families {
            let metrics: Vec<Vec<u8>> = family
                .metrics
                .iter()
                .map(|(metric, unknown)| {
                    let mut metric = [metric.encode_to_vec(), unknown.clone()].concat();
                    for (place, byte) in &changes {
                        let length = metric.len();
                        if let Some(at) = metric.get_mut(place % (length * 3 + 1)) {
                            *at = *byte;
                        }
                    }
                    metric
                })
                .collect();
            body.extend(raw_family(&family.head(), &metrics.iter().map(Vec::as_slice).collect::<Vec<_>>()));
        }
        body
    })
}

pub fn any_body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        2 => almost_an_exposition(),
        2 => spoilt_inside(),
        1 => vec(any::<u8>(), 0..200),
    ]
}

/// Reads protobuf as a scraper would, and as strictly as any.
pub fn read_strictly(body: &[u8], names: Escaping) -> Result<Vec<MetricFamily>, String> {
    let families = decode(body).map_err(|error| error.to_string())?;
    for family in &families {
        check_name(family.name(), names, ":")?;
        let kind = MetricType::try_from(family.r#type.unwrap_or(0)).map_err(|error| error.to_string())?;
        for metric in &family.metric {
            check_metric(metric, kind, names).map_err(|error| format!("{}: {error}", family.name()))?;
        }
    }
    Ok(families)
}

fn check_name(name: &str, names: Escaping, besides: &str) -> Result<(), String> {
    let may = |character: char| character.is_ascii_alphanumeric() || character == '_' || besides.contains(character);
    let is_old = !name.starts_with(|character: char| character.is_ascii_digit()) && name.chars().all(may);
    if name.is_empty() || (names == Escaping::Underscores && !is_old) {
        return Err(format!("the name {name:?}"));
    }
    Ok(())
}

fn check_metric(metric: &Metric, kind: MetricType, names: Escaping) -> Result<(), String> {
    let mut seen = HashSet::new();
    match kind {
        MetricType::Summary => {
            if metric.summary.as_ref().ok_or("no summary")?.quantile.is_empty() {
                // No quantile gets a label.
            } else {
                seen.insert("quantile");
            }
        }
        MetricType::Histogram | MetricType::GaugeHistogram => {
            check_histogram(metric.histogram.as_ref().ok_or("no histogram")?)?;
            seen.insert("le");
        }
        MetricType::Counter => metric.counter.as_ref().map(drop).ok_or("no counter")?,
        MetricType::Gauge => metric.gauge.as_ref().map(drop).ok_or("no gauge")?,
        MetricType::Untyped => metric.untyped.as_ref().map(drop).ok_or("no untyped value")?,
    }
    seen.insert("__name__");
    for label in &metric.label {
        check_name(label.name(), names, "")?;
        if !seen.insert(label.name()) {
            return Err(format!("the label {} twice", label.name()));
        }
    }
    let serving = SERVING_LABELS.map(|(name, value)| label(name, value));
    if !metric.label.ends_with(&serving) {
        return Err("no serving labels".to_owned());
    }
    Ok(())
}

/// `Validate` of Prometheus's `model/histogram`, where it takes the histogram for a native one.
fn check_histogram(histogram: &Histogram) -> Result<(), String> {
    let is_native = !histogram.positive_span.is_empty()
        || !histogram.negative_span.is_empty()
        || histogram.zero_threshold() > 0.0
        || histogram.zero_count() > 0;
    if !is_native {
        return Ok(());
    }
    if !(-4..=8).contains(&histogram.schema()) {
        return Err("its schema".to_owned());
    }
    let is_float = histogram.sample_count_float() > 0.0 || histogram.zero_count_float() > 0.0;
    let mut sum = u128::from(histogram.zero_count());
    for (spans, deltas, counts) in [
        (&histogram.negative_span, &histogram.negative_delta, &histogram.negative_count),
        (&histogram.positive_span, &histogram.positive_delta, &histogram.positive_count),
    ] {
        let buckets: u64 = spans.iter().map(|span| u64::from(span.length())).sum();
        if spans.iter().skip(1).any(|span| span.offset() < 0) {
            return Err("a negative gap".to_owned());
        }
        let number = if is_float { counts.len() } else { deltas.len() };
        if buckets != number as u64 {
            return Err(format!("{buckets} buckets, {number} counts"));
        }
        if is_float && counts.iter().any(|count| *count < 0.0) {
            return Err("a negative count".to_owned());
        }
        let mut count = 0i128;
        for delta in deltas.iter().filter(|_| !is_float) {
            count += i128::from(*delta);
            sum += u128::try_from(count).map_err(|_| "a negative count")?;
        }
    }
    let count = u128::from(histogram.sample_count());
    if !is_float && sum != count && !(histogram.sample_sum().is_nan() && sum < count) {
        return Err(format!("{sum} in buckets of {count}"));
    }
    Ok(())
}

/// How often each property is tried.
fn tries() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(tries())]

    #[test]
    fn any_cut_into_chunks_gives_the_same_output(
        body in any_body(),
        places in vec(any::<usize>(), 0..8),
        setting in settings(),
    ) {
        for run in [splice_cut, to_text_cut] {
            let whole = run(&body, setting, Cut::Whole, End::Whole);
            prop_assert_eq!(&run(&body, setting, Cut::At(&places), End::Whole), &whole);
            prop_assert_eq!(&run(&body, setting, Cut::EveryByte, End::Whole), &whole);
        }
    }

    #[test]
    fn a_valid_body_comes_out_byte_for_byte_but_for_the_labels(families in families(), names in settings()) {
        let body: Vec<u8> = families.iter().flat_map(Written::encode).collect();
        let expected: Vec<u8> = families.iter().flat_map(Written::labelled).collect();
        let setting = Setting { untyped: Untyped::Keep, ..names };
        let (out, counts) = splice_cut(&body, setting, Cut::Whole, End::Whole);
        prop_assert_eq!(&decode(&out).unwrap(), &decode(&expected).unwrap());
        prop_assert!(out == expected);
        prop_assert_eq!(counts.dropped_in_all(), 0);
        prop_assert_eq!(counts.samples, families.iter().map(|family| family.metrics.len() as u64).sum::<u64>());
    }

    #[test]
    fn a_valid_body_comes_out_as_text_with_all_samples(families in families()) {
        let body: Vec<u8> = families.iter().flat_map(Written::encode).collect();
        let setting = Setting { untyped: Untyped::Keep, names: Escaping::Underscores };
        let (out, counts) = to_text_cut(&body, setting, Cut::Whole, End::Whole);
        let output = read(&out).map_err(TestCaseError::fail)?;
        let expected: Vec<(Sample, f64)> = families.iter().flat_map(Written::samples).collect();
        let samples: Vec<(Sample, f64)> = output.samples.into_iter().map(with_value).collect();
        prop_assert_eq!(&samples, &expected);
        prop_assert_eq!((counts.samples, counts.dropped_in_all()), (expected.len() as u64, 0));
        for family in &families {
            let first = families.iter().find(|other| other.name == family.name).unwrap();
            let kind = match first.kind {
                MetricType::Counter => "counter",
                MetricType::Gauge => "gauge",
                MetricType::Summary => "summary",
                MetricType::Untyped => "untyped",
                MetricType::Histogram | MetricType::GaugeHistogram => "histogram",
            };
            prop_assert_eq!(output.types.get(&family.name).map(String::as_str), Some(kind));
        }
    }

    #[test]
    fn whatever_comes_in_what_goes_out_is_read(body in any_body(), setting in settings()) {
        let (out, counts) = splice_cut(&body, setting, Cut::Whole, End::Whole);
        let families = read_strictly(&out, setting.names).map_err(TestCaseError::fail)?;
        prop_assert_eq!(counts.samples, families.iter().map(|family| family.metric.len() as u64).sum::<u64>());

        let setting = Setting { names: Escaping::Underscores, ..setting };
        let (out, counts) = to_text_cut(&body, setting, Cut::Whole, End::Whole);
        let output = read(&out).map_err(TestCaseError::fail)?;
        prop_assert_eq!(counts.samples, output.samples.len() as u64);
    }

    #[test]
    fn a_body_cut_anywhere_gives_some_of_the_whole_bodys_samples(
        body in any_body(),
        place in any::<usize>(),
        setting in settings(),
    ) {
        let part = &body[..place % (body.len() + 1)];
        for run in [splice_cut, to_text_cut] {
            let (whole, _) = run(&body, setting, Cut::Whole, End::Whole);
            let (part, counts) = run(part, setting, Cut::Whole, End::BrokenOff);
            prop_assert!(whole.starts_with(&part));
            prop_assert_eq!(counts.dropped(DropReason::NoRoom), 0);
        }
        let (out, _) = splice_cut(part, setting, Cut::Whole, End::BrokenOff);
        read_strictly(&out, setting.names).map_err(TestCaseError::fail)?;
    }
}

/// A sample with its value read, and the numbers in its labels in one spelling.
fn with_value(mut sample: Sample) -> (Sample, f64) {
    let value = read_value(&std::mem::take(&mut sample.value)).expect("the reader read it");
    for (name, value) in &mut sample.labels {
        if ["le", "quantile"].contains(&name.as_str()) {
            *value = number(read_value(value).expect("it is a number"));
        }
    }
    (sample, value)
}
