//! An independent reader and writer of protobuf expositions: `prost`, with client_model's `metrics.proto` declared by
//! hand. It shares nothing with the engine.

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub struct LabelPair {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub value: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Timestamp {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Gauge {
    #[prost(double, optional, tag = "1")]
    pub value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Counter {
    #[prost(double, optional, tag = "1")]
    pub value: Option<f64>,
    #[prost(message, optional, tag = "2")]
    pub exemplar: Option<Exemplar>,
    #[prost(message, optional, tag = "3")]
    pub created_timestamp: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Quantile {
    #[prost(double, optional, tag = "1")]
    pub quantile: Option<f64>,
    #[prost(double, optional, tag = "2")]
    pub value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Summary {
    #[prost(uint64, optional, tag = "1")]
    pub sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    pub quantile: Vec<Quantile>,
    #[prost(message, optional, tag = "4")]
    pub created_timestamp: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    pub sample_count: Option<u64>,
    #[prost(double, optional, tag = "4")]
    pub sample_count_float: Option<f64>,
    #[prost(double, optional, tag = "2")]
    pub sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    pub bucket: Vec<Bucket>,
    #[prost(message, optional, tag = "15")]
    pub created_timestamp: Option<Timestamp>,
    #[prost(sint32, optional, tag = "5")]
    pub schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    pub zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    pub zero_count: Option<u64>,
    #[prost(double, optional, tag = "8")]
    pub zero_count_float: Option<f64>,
    #[prost(message, repeated, tag = "9")]
    pub negative_span: Vec<BucketSpan>,
    #[prost(sint64, repeated, packed = "false", tag = "10")]
    pub negative_delta: Vec<i64>,
    #[prost(double, repeated, packed = "false", tag = "11")]
    pub negative_count: Vec<f64>,
    #[prost(message, repeated, tag = "12")]
    pub positive_span: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "13")]
    pub positive_delta: Vec<i64>,
    #[prost(double, repeated, tag = "14")]
    pub positive_count: Vec<f64>,
    #[prost(message, repeated, tag = "16")]
    pub exemplars: Vec<Exemplar>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    pub cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "4")]
    pub cumulative_count_float: Option<f64>,
    #[prost(double, optional, tag = "2")]
    pub upper_bound: Option<f64>,
    #[prost(message, optional, tag = "3")]
    pub exemplar: Option<Exemplar>,
}

#[derive(Clone, PartialEq, Message)]
pub struct BucketSpan {
    #[prost(sint32, optional, tag = "1")]
    pub offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    pub length: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    pub label: Vec<LabelPair>,
    #[prost(double, optional, tag = "2")]
    pub value: Option<f64>,
    #[prost(message, optional, tag = "3")]
    pub timestamp: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Metric {
    #[prost(message, repeated, tag = "1")]
    pub label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    pub gauge: Option<Gauge>,
    #[prost(message, optional, tag = "3")]
    pub counter: Option<Counter>,
    #[prost(message, optional, tag = "4")]
    pub summary: Option<Summary>,
    #[prost(message, optional, tag = "5")]
    pub untyped: Option<Untyped>,
    #[prost(message, optional, tag = "7")]
    pub histogram: Option<Histogram>,
    #[prost(int64, optional, tag = "6")]
    pub timestamp_ms: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Untyped {
    #[prost(double, optional, tag = "1")]
    pub value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct MetricFamily {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub help: Option<String>,
    #[prost(enumeration = "MetricType", optional, tag = "3")]
    pub r#type: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    pub metric: Vec<Metric>,
    #[prost(string, optional, tag = "5")]
    pub unit: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum MetricType {
    Counter = 0,
    Gauge = 1,
    Summary = 2,
    Untyped = 3,
    Histogram = 4,
    GaugeHistogram = 5,
}

/// A label.
pub fn label(name: &str, value: &str) -> LabelPair {
    LabelPair { name: Some(name.to_owned()), value: Some(value.to_owned()) }
}

/// Labels.
pub fn labels<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<LabelPair> {
    labels.into_iter().map(|(name, value)| label(name, value)).collect()
}

/// A family without help.
pub fn family(name: &str, kind: MetricType, metric: Vec<Metric>) -> MetricFamily {
    MetricFamily { name: Some(name.to_owned()), r#type: Some(kind as i32), metric, ..MetricFamily::default() }
}

/// A body of these families, each behind its length.
pub fn encode(families: &[MetricFamily]) -> Vec<u8> {
    families.iter().flat_map(Message::encode_length_delimited_to_vec).collect()
}

/// Reads a body whole.
///
/// # Errors
///
/// The first message that cannot be read.
#[allow(dead_code, reason = "the benchmark that shares this file does not need it")]
pub fn decode(mut body: &[u8]) -> Result<Vec<MetricFamily>, prost::DecodeError> {
    let mut families = Vec::new();
    while !body.is_empty() {
        families.push(MetricFamily::decode_length_delimited(&mut body)?);
    }
    Ok(families)
}

/// Families as lines, so that a test can say what it expects at a glance: a line for each family with its type, its help
/// text and its unit; below it, a line for each metric with what it has.
#[allow(dead_code, reason = "the benchmark that shares this file does not need it")]
pub fn show(families: &[MetricFamily]) -> String {
    let mut shown = String::new();
    for family in families {
        let kind = format!("{:?}", family.r#type()).to_lowercase();
        shown += &format!("{} {kind}", family.name());
        shown += &shown_if(family.help.as_ref(), |help| format!(" help {help:?}"));
        shown += &shown_if(family.unit.as_ref(), |unit| format!(" unit {unit}"));
        shown.push('\n');
        for metric in &family.metric {
            shown += &format!("  {}{}", show_labels(&metric.label), show_value(metric));
            shown += &shown_if(metric.timestamp_ms, |timestamp| format!(" at {timestamp}"));
            shown.push('\n');
        }
    }
    shown
}

fn shown_if<T>(part: Option<T>, show: impl Fn(T) -> String) -> String {
    part.map(show).unwrap_or_default()
}

fn show_labels(labels: &[LabelPair]) -> String {
    let labels: Vec<String> = labels.iter().map(|label| format!("{}={:?}", label.name(), label.value())).collect();
    format!("{{{}}}", labels.join(","))
}

fn show_value(metric: &Metric) -> String {
    let simple = |value: Option<f64>| shown_if(value, |value| format!(" {value}"));
    let created = |created: &Option<Timestamp>| shown_if(created.as_ref(), |it| format!(" created {}", show_time(it)));
    let mut shown = simple(metric.gauge.as_ref().and_then(|gauge| gauge.value));
    shown += &simple(metric.untyped.as_ref().and_then(|untyped| untyped.value));
    if let Some(counter) = &metric.counter {
        shown += &simple(counter.value);
        shown += &show_exemplar(counter.exemplar.as_ref());
        shown += &created(&counter.created_timestamp);
    }
    if let Some(summary) = &metric.summary {
        shown += &shown_if(summary.sample_count, |count| format!(" count {count}"));
        shown += &shown_if(summary.sample_sum, |sum| format!(" sum {sum}"));
        for quantile in &summary.quantile {
            shown += &format!(" {}:{}", quantile.quantile(), quantile.value());
        }
        shown += &created(&summary.created_timestamp);
    }
    if let Some(histogram) = &metric.histogram {
        shown += &show_count("count ", histogram.sample_count, histogram.sample_count_float);
        shown += &shown_if(histogram.sample_sum, |sum| format!(" sum {sum}"));
        for bucket in &histogram.bucket {
            let bound = format!("{}:", bucket.upper_bound());
            shown += &show_count(&bound, bucket.cumulative_count, bucket.cumulative_count_float);
            shown += &show_exemplar(bucket.exemplar.as_ref());
        }
        shown += &created(&histogram.created_timestamp);
    }
    shown
}

/// A count, an `f` behind it if it is in the field for those that are no whole numbers.
fn show_count(name: &str, whole: Option<u64>, float: Option<f64>) -> String {
    shown_if(whole, |count| format!(" {name}{count}")) + &shown_if(float, |count| format!(" {name}{count}f"))
}

fn show_exemplar(exemplar: Option<&Exemplar>) -> String {
    shown_if(exemplar, |exemplar| {
        let time = shown_if(exemplar.timestamp.as_ref(), |it| format!(" at {}", show_time(it)));
        format!(" # {} {}{time}", show_labels(&exemplar.label), exemplar.value())
    })
}

fn show_time(time: &Timestamp) -> String {
    format!("{}.{:09}", time.seconds, time.nanos)
}

/// Three families as Go programs serve them, over and over: a counter, a gauge and a classic histogram.
#[allow(dead_code, reason = "the tests that share this file do not all need it")]
pub fn typical(bytes: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(bytes + 64 * 1024);
    let mut number = 0;
    while body.len() < bytes {
        let series = |series: usize, metric: Metric| Metric {
            label: labels([
                ("code", ["200", "404", "500"][series % 3]),
                ("handler", "/v1/models/{model_name}:predict"),
                ("instance", &format!("10.0.{number}.{series}:8080")),
                ("method", "POST"),
                ("model_name", "meta-llama/Llama-3.1-8B-Instruct"),
            ]),
            ..metric
        };
        let value = Some(number as f64 * 1.5);
        let counter = |index| {
            let counter = Counter {
                value,
                created_timestamp: Some(Timestamp { seconds: 1_700_000_000, nanos: 5 }),
                ..Counter::default()
            };
            series(index, Metric { counter: Some(counter), ..Metric::default() })
        };
        let gauge = |index| series(index, Metric { gauge: Some(Gauge { value }), ..Metric::default() });
        let histogram = |index| {
            let bounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
            let bucket = bounds.iter().enumerate().map(|(bucket, bound)| Bucket {
                cumulative_count: Some((bucket * 1037 + index) as u64),
                upper_bound: Some(*bound),
                ..Bucket::default()
            });
            let histogram = Histogram {
                sample_count: Some(20_000),
                sample_sum: value,
                bucket: bucket.collect(),
                ..Histogram::default()
            };
            series(index, Metric { histogram: Some(histogram), ..Metric::default() })
        };
        let families = [
            family(&format!("http_requests_{number}_total"), MetricType::Counter, (0..40).map(counter).collect()),
            family(&format!("queue_depth_{number}"), MetricType::Gauge, (0..40).map(gauge).collect()),
            family(&format!("http_duration_{number}_seconds"), MetricType::Histogram, (0..40).map(histogram).collect()),
        ];
        body.extend(encode(&families));
        number += 1;
    }
    body
}

/// Native histograms with exemplars.
#[allow(dead_code, reason = "the tests that share this file do not all need it")]
pub fn native(bytes: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(bytes + 64 * 1024);
    let mut number = 0;
    while body.len() < bytes {
        let metric = |index: i64| {
            let span = |offset, length| BucketSpan { offset: Some(offset), length: Some(length) };
            let exemplar = Exemplar {
                label: labels([("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736")]),
                value: Some(0.25),
                timestamp: Some(Timestamp { seconds: 1_700_000_000, nanos: 5 }),
            };
            let histogram = Histogram {
                sample_count: Some(60 * 40 + 7),
                sample_sum: Some(index as f64),
                schema: Some(3),
                zero_threshold: Some(2.938735877055719e-39),
                zero_count: Some(7),
                positive_span: vec![span(-20, 30), span(3, 30)],
                positive_delta: (0..60).map(|bucket| if bucket == 0 { 40 } else { 0 }).collect(),
                exemplars: vec![exemplar; 2],
                ..Histogram::default()
            };
            Metric {
                label: labels([("handler", "/v1/models/{model_name}:predict"), ("index", &index.to_string())]),
                histogram: Some(histogram),
                ..Metric::default()
            }
        };
        body.extend(encode(&[family(
            &format!("latency_{number}_seconds"),
            MetricType::Histogram,
            (0..40).map(metric).collect(),
        )]));
        number += 1;
    }
    body
}

/// Every series already has a label of a name that the sidecar adds.
#[allow(dead_code, reason = "the tests that share this file do not all need it")]
pub fn colliding(bytes: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(bytes + 64 * 1024);
    let mut number = 0;
    while body.len() < bytes {
        let metric = |index: usize| Metric {
            label: labels([("code", "200"), ("instance", &index.to_string()), ("service_name", "opentelemetry-demo")]),
            gauge: Some(Gauge { value: Some(index as f64) }),
            ..Metric::default()
        };
        body.extend(encode(&[family(&format!("target_{number}"), MetricType::Gauge, (0..100).map(metric).collect())]));
        number += 1;
    }
    body
}
