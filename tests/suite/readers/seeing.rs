//! The readers themselves: each sees every sample of a small body, and refuses a broken one. One that saw nothing would take all.

use qpext::exposition::Escaping;

use super::read_as;
use crate::engine::protobuf::{counter, histogram, native_histogram, with_labels};
use crate::engine::rules::Form;
use crate::support::protobuf::{Bucket, Histogram, MetricType, encode, family};
use crate::support::readers::{Reading, Readings};

const PROMETHEUS: [&str; 3] = ["prometheus", "prometheus_native", "prometheus_nhcb"];

/// What each reader sees of a body that says it is of this format.
fn read(form: Form, body: &[u8]) -> Readings {
    read_as(form.format(), Escaping::AllowUtf8, body)
}

/// The samples, one a line and sorted.
fn shown(reading: &Reading) -> String {
    let mut lines: Vec<String> = Vec::new();
    for sample in &reading.samples {
        let times = [("at", sample.timestamp), ("since", sample.start)];
        let times = times.iter().filter_map(|(word, time)| Some(format!(" {word} {}", (*time)?)));
        let exemplars = sample.exemplars.iter().map(|exemplar| format!(" # {exemplar}"));
        let rest: String = times.chain(exemplars).collect();
        lines.push(format!("{} {}: {}{rest}\n", sample.kind, sample.series, sample.value));
    }
    lines.sort();
    lines.concat()
}

/// Checks that these readers, and no others, see these samples in a body.
#[track_caller]
fn all_see(form: Form, body: &[u8], expected: &[(&[&str], String)]) {
    let readings = read(form, body);
    for (names, samples) in expected {
        for name in *names {
            let reading = readings.of(name);
            assert_eq!(reading.error, None, "{name}");
            assert_eq!(shown(reading), *samples, "{name}");
        }
    }
    let asked: usize = expected.iter().map(|(names, _)| names.len()).sum();
    assert_eq!(readings.0.len(), asked, "{:?}", readings.0.keys());
}

/// What is seen where classic histograms are made native ones.
fn with_custom_buckets(samples: &str, histogram: &str) -> String {
    let others = samples.lines().filter(|line| !line.starts_with("histogram"));
    let mut lines: Vec<String> = others.chain([histogram]).map(|line| format!("{line}\n")).collect();
    lines.sort();
    lines.concat()
}

const TEXT: &str = r#"# HELP a_total "A\\
# TYPE a_total counter
a_total{code="\"\n"} 7 1700000000250
# TYPE b gauge
b -Inf
# TYPE h histogram
h_bucket{le="0.5"} 1
h_bucket{le="+Inf"} 2
h_sum 1e-07
h_count 2
# TYPE s summary
s{quantile="0.5"} NaN
s_sum 1234567
s_count 1
{"u.v","w.x"="ü"} 1
"#;

#[test]
fn each_reader_sees_all_of_a_text() {
    let samples = r#"counter a_total{"code": "\"\n"}: 7 at 1700000000250
gauge b{}: -Inf
histogram h_bucket{"le": "+Inf"}: 2
histogram h_bucket{"le": "0.5"}: 1
histogram h_count{}: 2
histogram h_sum{}: 1e-07
summary s_count{}: 1
summary s_sum{}: 1.234567e+06
summary s{"quantile": "0.5"}: NaN
unknown u.v{"w.x": "ü"}: 1
"#;
    let native = "histogram h{}: {count:2, sum:1e-07, [-Inf,0.5]:1, (0.5,+Inf]:1}";
    all_see(
        Form::Text,
        TEXT.as_bytes(),
        &[
            (
                &["expfmt", "prometheus", "prometheus_client", "prometheus_native", "victoriametrics"],
                samples.to_owned(),
            ),
            (&["prometheus_nhcb"], with_custom_buckets(samples, native)),
        ],
    );
    let readings = read(Form::Text, TEXT.as_bytes());
    for (name, reading) in &readings.0 {
        // The Python client names a counter as OpenMetrics does.
        let family = if name == "prometheus_client" { "a" } else { "a_total" };
        assert_eq!(reading.families[family].help, "\"A\\", "{name}");
        assert_eq!(reading.families[family].kind, "counter", "{name}");
    }
}

const OPEN_METRICS: &str = r#"# TYPE a counter
# HELP a A.
a_total{code="200"} 7 1700000000.25 # {t="x"} 0.5 1700000000.125
a_created{code="200"} 1600000000 1700000000.25
# TYPE b_seconds gauge
# UNIT b_seconds seconds
b_seconds 2
# TYPE h histogram
h_bucket{le="0.5"} 1
h_bucket{le="+Inf"} 2
h_count 2
h_sum 1.5
# TYPE u unknown
u 1
# EOF
"#;

#[test]
fn each_reader_sees_all_of_open_metrics() {
    let counter = r#"counter a_total{"code": "200"}: 7 at 1700000000250"#;
    let exemplar = r#" # {"labels":{"t":"x"},"timestamp_ms":1700000000125,"value":"0.5"}"#;
    let created = r#"a_created{"code": "200"}: 1.6e+09 at 1700000000250"#;
    let others = r#"gauge b_seconds{}: 2
histogram h_bucket{"le": "+Inf"}: 2
histogram h_bucket{"le": "0.5"}: 1
histogram h_count{}: 2
histogram h_sum{}: 1.5
"#;
    let end = "unknown u{}: 1\n";
    let lines = format!("{counter}{exemplar}\n{others}unknown {created}\n{end}");
    let native = "histogram h{}: {count:2, sum:1.5, [-Inf,0.5]:1, (0.5,+Inf]:1}";
    all_see(
        Form::OpenMetrics,
        OPEN_METRICS.as_bytes(),
        &[
            (&["prometheus"], lines.clone()),
            (&["prometheus_nhcb"], with_custom_buckets(&lines, native)),
            (&["prometheus_native", "expfmt"], format!("{counter} since 1600000000000{exemplar}\n{others}{end}")),
            // It knows the family of such a sample, too.
            (&["prometheus_client"], format!("counter {created}\n{counter}{exemplar}\n{others}{end}")),
            // What stands behind `#` is a comment to it.
            (&["victoriametrics"], format!("{counter}\n{others}unknown {created}\n{end}")),
        ],
    );
    let readings = read(Form::OpenMetrics, OPEN_METRICS.as_bytes());
    for name in PROMETHEUS.iter().chain(&["expfmt", "prometheus_client"]) {
        assert_eq!(readings.of(name).families["b_seconds"].unit, "seconds", "{name}");
    }
}

#[test]
fn each_reader_sees_all_of_messages() {
    let bucket = Bucket { cumulative_count: Some(3), upper_bound: Some(1.0), ..Bucket::default() };
    let both = Histogram { bucket: vec![bucket], ..native_histogram() };
    let body = encode(&[
        family("a.b", MetricType::Counter, vec![with_labels([("code", "200")], counter(7.0))]),
        family("h", MetricType::Histogram, vec![histogram(both)]),
    ]);
    let counter = "counter a.b{\"code\": \"200\"}: 7\n";
    let classic = format!(
        "{counter}histogram h_bucket{{\"le\": \"+Inf\"}}: 4\nhistogram h_bucket{{\"le\": \"1.0\"}}: 3\n\
         histogram h_count{{}}: 4\nhistogram h_sum{{}}: 1.5\n"
    );
    let native = "histogram h{}: {count:4, sum:1.5, [-1e-128,1e-128]:1, (0.7711054127039704,0.8408964152537144]:1, \
                  (1.0905077326652577,1.189207115002721]:2}\n";
    all_see(
        Form::Protobuf,
        &body,
        &[
            (&["prometheus"], classic.clone()),
            (&["prometheus_native", "expfmt"], format!("{classic}{native}")),
            (&["prometheus_nhcb"], format!("{counter}histogram h{{}}: {{count:4, sum:1.5, [-Inf,1]:3, (1,+Inf]:1}}\n")),
        ],
    );
}

#[test]
fn each_reader_refuses_what_is_broken() {
    let messages = encode(&[family("a", MetricType::Counter, vec![counter(7.0)])]);
    let broken: [(Form, &[u8]); 4] = [
        (Form::Text, b"a 1\nb{c=\"d} 1\n"),
        (Form::Text, b"a 1\nb one\n"),
        (Form::OpenMetrics, b"a 1\nb{c=\"d\" 1\n# EOF\n"),
        (Form::Protobuf, &messages[..messages.len() - 1]),
    ];
    for (form, body) in broken {
        let readings = read(form, body);
        let refusing: Vec<&str> = readings.refusals().into_iter().map(|(name, _)| name).collect();
        assert_eq!(refusing, readings.0.keys().collect::<Vec<_>>(), "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn prometheus_refuses_what_its_parser_lets_pass_and_its_scrape_does_not() {
    let twice = r#"a{b="1",b="2"} 1"#;
    for body in [format!("{twice}\n"), "{b=\"1\"} 1\n".to_owned()] {
        for name in PROMETHEUS {
            assert_ne!(read(Form::Text, body.as_bytes()).of(name).error, None, "{name}: {body}");
        }
    }
    let deltas_without_spans = Histogram { positive_delta: vec![1], ..native_histogram() };
    let body = encode(&[family("h", MetricType::Histogram, vec![histogram(deltas_without_spans)])]);
    assert_eq!(read(Form::Protobuf, &body).of("prometheus").error, None, "it ignores native histograms");
    assert_ne!(read(Form::Protobuf, &body).of("prometheus_native").error, None);
}

#[test]
fn to_prometheus_a_label_without_a_value_is_none() {
    for name in PROMETHEUS {
        assert_eq!(
            shown(read(Form::Text, b"a{b=\"\",c=\"d\"} 1\n").of(name)),
            "unknown a{\"c\": \"d\"}: 1\n",
            "{name}"
        );
    }
}

#[test]
fn an_answer_is_compared_with_the_body_up_to_added_labels() {
    let reading = |body: &str| read(Form::Text, body.as_bytes()).of("prometheus").clone();
    let added = [("s", "iris")];
    let before = reading("# TYPE a counter\na{b=\"1\"} 1\nc{s=\"own\",exported_s=\"x\"} 2 5\nd 3\n");
    let same = reading(
        "# TYPE a counter\na{b=\"1\",s=\"iris\"} 1\nc{exported_exported_s=\"own\",exported_s=\"x\",s=\"iris\"} 2 5\nd{s=\"iris\"} 3\n",
    );
    assert_eq!(before.differences(&same, &added), [""; 0]);
    assert_eq!(before.differences(&before, &[]), [""; 0]);
    let other = reading(
        "# TYPE a gauge\na{b=\"1\",s=\"iris\"} 2\nc{exported_exported_s=\"own\",exported_s=\"x\",s=\"iris\"} 2 6\ne{s=\"iris\"} 3\n",
    );
    assert_eq!(
        before.differences(&other, &added),
        [
            r#"value a{"b": "1", "s": "iris"}: 1 became 2"#,
            r#"type a{"b": "1", "s": "iris"}: counter became gauge"#,
            r#"time c{"exported_exported_s": "own", "exported_s": "x", "s": "iris"}: 5 became 6"#,
            r#"missing d{"s": "iris"}"#,
            r#"invented e{"s": "iris"}"#,
        ]
    );
}
