//! A real Prometheus scraping the real binary: what it stores is what was promised.

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use qpext::exposition::{End, Escaping, Untyped};

use crate::engine::families;
use crate::engine::lines::{CASES, Fate, written};
use crate::engine::messages;
use crate::engine::openmetrics;
use crate::engine::properties::almost_an_exposition;
use crate::engine::protobuf::{USUAL, splice_cut, to_text_cut};
use crate::engine::protobuf_properties::any_body as any_messages;
use crate::engine::raw_newlines;
use crate::engine::rules::Form;
use crate::engine::to_protobuf;
use crate::support::prometheus::{Prometheus, promtool_reads};
use crate::support::protobuf::{BucketSpan, Histogram, Metric, MetricType, encode, family};
use crate::support::sidecar::Sidecar;
use crate::support::stub::{Step, Stub, answer, chunk, chunked_head, ok};
use crate::support::{Cut, Lines, OPEN_METRICS, OPEN_METRICS_TO_TEXT, SERVING, TEXT};

/// Families that every pod has, with names and label values that are hard to read.
const QUEUE_PROXY_TEXT: &str = "\
# HELP kn_revision_request_count The number of requests.
# TYPE kn_revision_request_count counter
kn_revision_request_count{response_code=\"200\"} 7
# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 0.5
";

const APP_TEXT: &str = "\
# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 12.5
# HELP vllm:num_requests_running Number of requests running.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name=\"meta-llama/Llama-3.1-8B\"} 3
# HELP http_request_duration_seconds Duration of requests.
# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{path=\"/v1/models/{name}:predict\",le=\"0.5\"} 8
http_request_duration_seconds_bucket{path=\"/v1/models/{name}:predict\",le=\"+Inf\"} 10
http_request_duration_seconds_sum{path=\"/v1/models/{name}:predict\"} 4.25
http_request_duration_seconds_count{path=\"/v1/models/{name}:predict\"} 10
# HELP odd Label values that are hard to read.
# TYPE odd gauge
odd{value=\"{a=\\\"b\\\",#}\"} 1
odd{value=\"back\\\\slash\"} 2
odd{value=\"two\\nlines\"} 3
";

/// The `scrape_configs` entry of a job that scrapes one sidecar.
fn job(name: &str, sidecar: &Sidecar) -> String {
    format!("- {{job_name: {name}, static_configs: [{{targets: ['127.0.0.1:{}']}}]}}\n", sidecar.port)
}

#[tokio::test]
async fn samples_arrive_with_the_right_labels_and_values() {
    let queue_proxy = Stub::text(QUEUE_PROXY_TEXT).await;
    let app = Stub::text(APP_TEXT).await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    let prometheus = Prometheus::start(&job("pod", &sidecar)).await;

    assert_eq!(prometheus.value("up").await, 1.0);
    let samples = QUEUE_PROXY_TEXT.lines().chain(APP_TEXT.lines()).filter(|line| !line.starts_with('#')).count();
    assert_eq!(prometheus.value("scrape_samples_scraped").await, samples as f64);

    let serving = r#"service_name="iris",configuration_name="iris-predictor",revision_name="iris-predictor-00001""#;
    for (series, value) in [
        (r#"kn_revision_request_count{response_code="200",service_name=""}"#.to_owned(), 7.0),
        (r#"process_cpu_seconds_total{service_name=""}"#.to_owned(), 0.5),
        (format!("process_cpu_seconds_total{{{serving}}}"), 12.5),
        (format!("{{__name__=\"vllm:num_requests_running\",model_name=\"meta-llama/Llama-3.1-8B\",{serving}}}"), 3.0),
        (format!("http_request_duration_seconds_sum{{path=\"/v1/models/{{name}}:predict\",{serving}}}"), 4.25),
        (format!(r#"odd{{value="{{a=\"b\",#}}",{serving}}}"#), 1.0),
        (format!(r#"odd{{value="back\\slash",{serving}}}"#), 2.0),
        (format!(r#"odd{{value="two\nlines",{serving}}}"#), 3.0),
        ("histogram_quantile(0.5, http_request_duration_seconds_bucket)".to_owned(), 0.3125),
    ] {
        assert_eq!(prometheus.value(&series).await, value, "{series}");
    }
}

/// The first table of the aggregator's promises: what a target does, and what Prometheus then sees.
#[tokio::test]
async fn a_scrape_is_lost_only_when_every_target_is() {
    let healthy = || Stub::text(QUEUE_PROXY_TEXT);
    // As large as it may be: a busy machine has that much more for the answer's way back.
    let offset = [("QPEXT_SCRAPE_TIMEOUT_OFFSET", "1250ms")];
    let mut kept = Vec::new();
    let mut jobs = String::new();
    let rows: [(&str, Vec<Step>); 6] = [
        ("hangs-before-its-head", vec![Step::Hang]),
        ("hangs-inside-its-body", vec![chunked_head(), chunk(b"whole 1\nwhole_too 2\npar"), Step::Hang]),
        ("has-a-service-name", vec![ok(b"own{service_name=\"otel\"} 1\n")]),
        ("has-a-malformed-line", vec![ok(b"before 1\nthis is {not} a sample\nafter 2\n")]),
        ("is-down", vec![Step::Close]),
        ("has-no-final-newline", vec![ok(b"last 1")]),
    ];
    for (name, steps) in rows {
        let (queue_proxy, app) = (healthy().await, Stub::start(steps).await);
        let sidecar = Sidecar::for_pod(&queue_proxy, &app, &offset).await;
        jobs += &job(name, &sidecar);
        kept.push((queue_proxy, app, sidecar));
    }
    let without_newline = (Stub::text(QUEUE_PROXY_TEXT.trim_end()).await, Stub::text(APP_TEXT).await);
    let all_down = (Stub::start(vec![Step::Close]).await, Stub::start(vec![Step::Hang]).await);
    for (name, (queue_proxy, app)) in [("queue-proxy-has-no-final-newline", without_newline), ("all-down", all_down)] {
        let sidecar = Sidecar::for_pod(&queue_proxy, &app, &offset).await;
        jobs += &job(name, &sidecar);
        kept.push((queue_proxy, app, sidecar));
    }
    let prometheus = Prometheus::start(&jobs).await;

    for up in prometheus.query("up", kept.len()).await {
        let expected = if up.label("job") == "all-down" { 0.0 } else { 1.0 };
        assert_eq!(up.value, expected, "{}", up.label("job"));
    }
    // The queue-proxy's samples are there wherever it was alive.
    assert_eq!(prometheus.query("kn_revision_request_count == 7", kept.len() - 1).await.len(), kept.len() - 1);
    for (series, value) in [
        (r#"whole{job="hangs-inside-its-body"}"#, 1.0),
        (r#"whole_too{job="hangs-inside-its-body"}"#, 2.0),
        (r#"own{exported_service_name="otel",service_name="iris"}"#, 1.0),
        (r#"before{job="has-a-malformed-line"}"#, 1.0),
        (r#"after{job="has-a-malformed-line"}"#, 2.0),
        (r#"last{job="has-no-final-newline"}"#, 1.0),
        (r#"process_cpu_seconds_total{job="queue-proxy-has-no-final-newline",service_name=""}"#, 0.5),
        (r#"process_cpu_seconds_total{job="queue-proxy-has-no-final-newline",service_name="iris"}"#, 12.5),
    ] {
        assert_eq!(prometheus.value(series).await, value, "{series}");
    }
}

/// Protobuf, as it is asked for where native histograms are on, holds what neither text nor OpenMetrics has a place for;
/// an application that does not speak it loses nothing beside a target that does.
#[tokio::test]
async fn a_native_histogram_arrives_beside_openmetrics_with_exemplars() {
    // Two observations up to 1, four up to 2, four up to 4.
    let histogram = Histogram {
        sample_count: Some(10),
        sample_sum: Some(20.0),
        schema: Some(0),
        zero_threshold: Some(0.001),
        zero_count: Some(0),
        positive_span: vec![BucketSpan { offset: Some(0), length: Some(3) }],
        positive_delta: vec![2, 2, 0],
        ..Histogram::default()
    };
    let metric = Metric { histogram: Some(histogram), ..Metric::default() };
    let native = encode(&[family("native_seconds", MetricType::Histogram, vec![metric])]);
    let content_type = "content-type: application/vnd.google.protobuf; \
                        proto=io.prometheus.client.MetricFamily; encoding=delimited\r\n";
    let queue_proxy = Stub::start(vec![answer("200 OK", content_type, &native)]).await;
    let open_metrics = "\
# TYPE app_requests counter
app_requests_total{path=\"/\"} 3 # {trace_id=\"abc\"} 1
# TYPE app_seconds histogram
app_seconds_bucket{le=\"0.5\"} 1 # {trace_id=\"def\"} 0.25
app_seconds_bucket{le=\"+Inf\"} 4
app_seconds_sum 7
app_seconds_count 4
# EOF
";
    let content_type = "content-type: application/openmetrics-text; version=1.0.0\r\n";
    let app = Stub::start(vec![answer("200 OK", content_type, open_metrics.as_bytes())]).await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    let features = ["native-histograms", "exemplar-storage"];
    let prometheus = Prometheus::start_with(&job("pod", &sidecar), &features).await;

    assert_eq!(prometheus.value("up").await, 1.0);
    assert_eq!(prometheus.value("histogram_count(native_seconds)").await, 10.0);
    // Three quarters into the bucket from 1 to 2.
    assert_eq!(prometheus.value("histogram_quantile(0.5, native_seconds)").await, 1.75);
    for (series, value) in [
        (r#"app_requests_total{path="/",service_name="iris"}"#, 3.0),
        (r#"app_seconds_bucket{le="0.5",service_name="iris"}"#, 1.0),
        (r#"app_seconds_bucket{le="+Inf",service_name="iris"}"#, 4.0),
        (r#"app_seconds_sum{service_name="iris"}"#, 7.0),
        (r#"app_seconds_count{service_name="iris"}"#, 4.0),
    ] {
        assert_eq!(prometheus.value(series).await, value, "{series}");
    }
    for (series, trace) in [("app_requests_total", "abc"), ("app_seconds_bucket", "def")] {
        let exemplars = prometheus.exemplars(series).await;
        assert_eq!(exemplars[0]["labels"]["trace_id"], trace, "{series}");
    }
}

/// What version 3 has and the older one has not: any name, and classic histograms that are made native ones.
#[tokio::test]
async fn prometheus_three_keeps_any_name_and_makes_histograms_native() {
    let queue_proxy = Stub::text(QUEUE_PROXY_TEXT).await;
    let text = format!("{APP_TEXT}# TYPE \"http.requests\" gauge\n{{\"http.requests\",\"k8s.pod\"=\"größe\"}} 4\n");
    let content_type = "content-type: text/plain; version=1.0.0; escaping=allow-utf-8\r\n";
    let app = Stub::start(vec![answer("200 OK", content_type, text.as_bytes())]).await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    let job = job("pod", &sidecar).replace("{job_name", "{convert_classic_histograms_to_nhcb: true, job_name");
    let prometheus = Prometheus::start_three(&job, &[]).await;

    assert_eq!(prometheus.value("up").await, 1.0);
    assert_eq!(prometheus.value(r#"{"http.requests","k8s.pod"="größe",service_name="iris"}"#).await, 4.0);
    assert_eq!(prometheus.value(r#"process_cpu_seconds_total{service_name="iris"}"#).await, 12.5);
    let histogram = r#"http_request_duration_seconds{service_name="iris"}"#;
    assert_eq!(prometheus.value(&format!("histogram_count({histogram})")).await, 10.0);
    assert_eq!(prometheus.value(&format!("histogram_sum({histogram})")).await, 4.25);
}

#[tokio::test]
async fn promtool_reads_the_answer() {
    let queue_proxy = Stub::text(QUEUE_PROXY_TEXT).await;
    let app = Stub::text(APP_TEXT).await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    let answer = sidecar.scrape(60.0).await;
    promtool_reads(answer.text.as_bytes()).await.unwrap();
    // The two bodies, one behind the other, are what it cannot read: both have the metadata of `process_*`.
    let glued = format!("{QUEUE_PROXY_TEXT}{APP_TEXT}");
    assert!(promtool_reads(glued.as_bytes()).await.unwrap_err().contains("second HELP line"));
}

/// The table of lines against a real server: it takes what we write, and rejects what we drop.
#[tokio::test]
async fn prometheus_agrees_with_the_table_of_lines() {
    let mut bodies = Vec::new();
    for (line, fate) in CASES {
        let shown = format!("{:?} {fate:?}", String::from_utf8_lossy(line));
        bodies.push(Scraped {
            content_type: Lines::Text.content_type(),
            body: [line, &b"\n"[..]].concat(),
            is_taken: !matches!(fate, Fate::Rejected | Fate::Mended(_) | Fate::WithoutExemplar(_) | Fate::Nothing),
            shown: format!("in {shown}"),
        });
        if let Fate::Becomes(becomes) | Fate::Mended(becomes) | Fate::WithoutExemplar(becomes) = fate {
            bodies.push(Scraped::taken(
                Lines::Text.content_type(),
                format!("{}\n", written(becomes)).into_bytes(),
                format!("out {shown}"),
            ));
        }
    }
    assert_scraped(bodies).await;
}

/// The table of OpenMetrics lines against a real server: it takes what we write in either format, and rejects what we
/// drop.
#[tokio::test]
async fn prometheus_agrees_with_the_table_of_open_metrics_lines() {
    let mut bodies = Vec::new();
    for (line, fate) in openmetrics::CASES {
        let shown = format!("{:?} {fate:?}", String::from_utf8_lossy(line));
        bodies.push(Scraped {
            content_type: Lines::OpenMetrics.content_type(),
            body: [line, &b"\n# EOF\n"[..]].concat(),
            is_taken: fate.is_taken(),
            shown: format!("in {shown}"),
        });
        for (format, end) in [(Lines::OpenMetrics, "# EOF\n"), (Lines::Text, "")] {
            if let Some(written) = fate.written_as(format) {
                let body = format!("{}{written}{end}", openmetrics::type_of(line, format)).into_bytes();
                bodies.push(Scraped::taken(format.content_type(), body, format!("as {format:?} {shown}")));
            }
        }
    }
    assert_scraped(bodies).await;
}

/// The table of newlines between quotes against a real server: it takes what we write, and of text what we lose nothing of.
#[tokio::test]
async fn prometheus_agrees_with_the_table_of_newlines_between_quotes() {
    let mut bodies = Vec::new();
    for case in raw_newlines::CASES {
        let format = match case.from {
            Form::OpenMetrics => Lines::OpenMetrics,
            _ => Lines::Text,
        };
        if let Some(is_taken) = case.is_taken() {
            let shown = format!("in {case:?}");
            bodies.push(Scraped { content_type: format.content_type(), body: case.body(), is_taken, shown });
        }
        for (format, end) in [(format, if format == Lines::Text { "" } else { "# EOF\n" }), (Lines::Text, "")] {
            let body = [case.lines(Escaping::Underscores, SERVING), end.into()].concat();
            bodies.push(Scraped::taken(format.content_type(), body, format!("as {format:?} {case:?}")));
        }
    }
    assert_scraped(bodies).await;
}

/// The tables of bodies against a real server: it takes what is written of each.
#[tokio::test]
async fn prometheus_takes_what_the_tables_of_bodies_write() {
    let tables = [families::CASES, openmetrics::BODIES.as_flattened(), to_protobuf::CASES];
    let mut bodies = Vec::new();
    for case in tables.concat().iter().filter(|case| case.setting.names == Escaping::Underscores) {
        let content_type = case.to.lines().map_or(PROTOBUF, Lines::content_type);
        bodies.extend(case.written().into_iter().map(|out| Scraped::taken(content_type, out, format!("{case:?}"))));
    }
    for row in messages::rows().iter().filter(|row| row.setting.names == Escaping::Underscores) {
        for to in messages::OUTPUTS {
            let content_type = to.lines().map_or(PROTOBUF, Lines::content_type);
            let (out, _) = row.written(to, Cut::Whole);
            bodies.push(Scraped::taken(content_type, out, format!("{to:?} of {row:?}")));
        }
    }
    assert_scraped(bodies).await;
}

/// Bodies that nobody wrote, past a real server: whatever comes in, it takes what goes out.
#[tokio::test]
async fn prometheus_takes_whatever_comes_out() {
    let mut runner = TestRunner::deterministic();
    let mut bodies = Vec::new();
    for cell in [TEXT, OPEN_METRICS, OPEN_METRICS_TO_TEXT] {
        for _ in 0..MADE_UP_BODIES {
            let body = almost_an_exposition(cell.from).new_tree(&mut runner);
            let body = body.expect("it generates").current();
            let out = cell.convert(&body, Untyped::Convert, Cut::Whole, End::Whole).out;
            let shown = format!("what came of {:?} by {cell:?}", String::from_utf8_lossy(&body));
            bodies.push(Scraped::taken(cell.to.content_type(), out, shown));
        }
    }
    assert_scraped(bodies).await;
}

/// The same for the conversions that read or write messages.
#[tokio::test]
async fn prometheus_takes_whatever_comes_out_of_and_into_messages() {
    let mut runner = TestRunner::deterministic();
    let mut bodies = Vec::new();
    for from in [Lines::Text, Lines::OpenMetrics] {
        for _ in 0..MADE_UP_BODIES {
            let body = almost_an_exposition(from).new_tree(&mut runner);
            let body = body.expect("it generates").current();
            let (out, _) = to_protobuf::convert(from, USUAL, &body, Cut::Whole, End::Whole);
            let shown = format!("messages of {from:?} {:?}", String::from_utf8_lossy(&body));
            bodies.push(Scraped::taken(PROTOBUF, out, shown));
        }
    }
    for _ in 0..MADE_UP_BODIES {
        let body = any_messages().new_tree(&mut runner).expect("it generates").current();
        let (spliced, _) = splice_cut(&body, USUAL, Cut::Whole, End::Whole);
        bodies.push(Scraped::taken(PROTOBUF, spliced, format!("spliced {body:?}")));
        let (text, _) = to_text_cut(&body, USUAL, Cut::Whole, End::Whole);
        bodies.push(Scraped::taken(Lines::Text.content_type(), text, format!("text of {body:?}")));
    }
    assert_scraped(bodies).await;
}

const PROTOBUF: &str = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// Bodies made up for each conversion of [`prometheus_takes_whatever_comes_out`].
const MADE_UP_BODIES: usize = 200;

/// A body that a real Prometheus scrapes.
struct Scraped {
    content_type: &'static str,
    body: Vec<u8>,
    /// Whether it takes it.
    is_taken: bool,
    /// What is said of it if it does not do as expected.
    shown: String,
}

impl Scraped {
    /// One that it must take.
    fn taken(content_type: &'static str, body: Vec<u8>, shown: String) -> Self {
        Self { content_type, body, is_taken: true, shown }
    }
}

/// Has one Prometheus scrape each of the bodies.
async fn assert_scraped(bodies: Vec<Scraped>) {
    let answers: Vec<Step> = bodies
        .iter()
        .map(|scraped| {
            let content_type = format!("content-type: {}\r\n", scraped.content_type);
            answer("200 OK", &content_type, &scraped.body)
        })
        .collect();
    let stub = Stub::route(move |head| {
        let path = head.split(' ').nth(1).expect("a request line");
        vec![answers[path[1..].parse::<usize>().expect("an index")].clone()]
    })
    .await;
    let targets: String = (0..bodies.len())
        .map(|index| {
            let labels = format!("{{__metrics_path__: '/{index}', body: '{index}'}}");
            format!("  - {{targets: ['{}'], labels: {labels}}}\n", stub.address())
        })
        .collect();
    // A made-up time far ahead, which 2.42 does not refuse where a native histogram has it, would be the only time in
    // which it takes anything from then on.
    let job = "- job_name: bodies\n  honor_timestamps: false\n  static_configs:\n";
    // Without, it would not look at native histograms.
    let features = ["native-histograms"];
    let prometheus = Prometheus::start_with(&format!("{job}{targets}"), &features).await;
    let mut wrong = Vec::new();
    for up in prometheus.up(bodies.len()).await {
        let scraped = &bodies[up.label("body").parse::<usize>().expect("an index")];
        if (up.value == 1.0) != scraped.is_taken {
            wrong.push(format!("{}: up is {}", scraped.shown, up.value));
        }
    }
    assert_eq!(wrong, Vec::<String>::new(), "Prometheus 2.42 does otherwise");
}
