//! The table of messages: each row's body is read and written as messages and as text, whole, cut into single bytes and in two at
//! every place; what is written is read by what shares nothing with the engine. `prometheus.rs` puts it past a real server.

use qpext::exposition::{Counts, DropReason, End, Escaping, Untyped};

use crate::engine::protobuf::{
    Setting, USUAL, counter, field, gauge, good, head, histogram, native_histogram, raw_family, splice_cut, summary,
    to_text_cut, untyped, with_labels,
};
use crate::engine::rules::Form;
use crate::support::protobuf::*;
use crate::support::{Cut, SERVING, reader};

use MetricType::{
    Counter as CounterType, Gauge as GaugeType, GaugeHistogram, Histogram as HistogramType, Untyped as Unknown,
};

/// What becomes of messages.
#[derive(Debug, Clone)]
pub struct Row {
    pub promise: String,
    pub setting: Setting,
    body: Vec<u8>,
    /// What is written as text, and as messages, as [`show`] shows them. `@` stands for the serving labels.
    text: String,
    messages: String,
    /// The metrics that are dropped as malformed on the way to text, and to messages; and by the rule for untyped families.
    malformed: [u64; 2],
    untyped: u64,
}

/// What a row is written as.
pub const OUTPUTS: [Form; 2] = [Form::Text, Form::Protobuf];

impl Row {
    fn raw(promise: impl Into<String>, body: Vec<u8>, text: &str, messages: &str) -> Self {
        let (promise, text, messages) = (promise.into(), text.to_owned(), messages.to_owned());
        Self { promise, setting: USUAL, body, text, messages, malformed: [0, 0], untyped: 0 }
    }

    fn new(promise: impl Into<String>, families: &[MetricFamily], text: &str, messages: &str) -> Self {
        Self::raw(promise, encode(families), text, messages)
    }

    fn with(self, setting: Setting) -> Self {
        Self { setting, ..self }
    }

    /// As many metrics, or parts of messages, are dropped as malformed on the way to text, and to messages.
    fn losing(self, malformed: [u64; 2]) -> Self {
        Self { malformed, ..self }
    }

    fn dropping(self, untyped: u64) -> Self {
        Self { untyped, ..self }
    }

    /// What is written of it.
    pub fn written(&self, to: Form, cut: Cut<'_>) -> (Vec<u8>, Counts) {
        match to {
            Form::Protobuf => splice_cut(&self.body, self.setting, cut, End::Whole),
            _ => to_text_cut(&self.body, self.setting, cut, End::Whole),
        }
    }

    fn fault(&self, to: Form, cut: Cut<'_>) -> Result<(), String> {
        let (out, counts) = self.written(to, cut);
        let (written, expected, samples, malformed) = match to {
            Form::Protobuf => {
                let families = decode(&out).map_err(|error| error.to_string())?;
                let metrics: usize = families.iter().map(|family| family.metric.len()).sum();
                (show(&families), &self.messages, metrics as u64, self.malformed[1])
            }
            _ => {
                let read = reader::read_with(&out, self.setting.names)?;
                let text = String::from_utf8(out).map_err(|error| error.to_string())?;
                (text, &self.text, read.samples.len() as u64, self.malformed[0])
            }
        };
        let expected = expected.replace('@', SERVING);
        if written != expected {
            return Err(format!("became\n{written}expected was\n{expected}"));
        }
        let dropped = [DropReason::Malformed, DropReason::Untyped].map(|reason| counts.dropped(reason));
        if (counts.samples, dropped, counts.dropped_in_all())
            != (samples, [malformed, self.untyped], malformed + self.untyped)
        {
            return Err(format!(
                "{counts:?}: expected were {samples} samples, {malformed} malformed, {} untyped",
                self.untyped
            ));
        }
        Ok(())
    }

    fn faults(&self) -> Option<String> {
        let places: Vec<usize> = (0..=self.body.len()).collect();
        let cuts = || places.iter().map(|place| Cut::At(std::slice::from_ref(place)));
        let mut runs =
            OUTPUTS.iter().flat_map(|to| [Cut::Whole, Cut::EveryByte].into_iter().chain(cuts()).map(|cut| (*to, cut)));
        runs.find_map(|(to, cut)| {
            let fault = self.fault(to, cut).err()?;
            Some(format!("{}, as {to:?} {cut:?}\n{fault}\n", self.promise))
        })
    }
}

const UTF8: Setting = Setting { names: Escaping::AllowUtf8, ..USUAL };

/// All rows.
pub fn rows() -> Vec<Row> {
    [labels_and_names(), nuls(), families(), units(), types(), values()].concat()
}

fn one(name: &str, kind: MetricType, metrics: Vec<Metric>) -> [MetricFamily; 1] {
    [family(name, kind, metrics)]
}

fn labelled(own: &[(&str, &str)], value: f64) -> Metric {
    with_labels(own.iter().copied(), gauge(value))
}

fn labels_and_names() -> Vec<Row> {
    let two = [
        family("a_total", CounterType, vec![counter(1.0), with_labels([("x", "y")], counter(2.0))]),
        family("b", GaugeType, vec![gauge(3.0)]),
    ];
    let colliding = [("service_name", "1"), ("exported_service_name", "2"), ("revision_name", "3"), ("x", "4")];
    let odd = one(
        "http.server.größe",
        GaugeType,
        vec![labelled(&[("k8s.pod", "p"), ("service.name", "s"), ("größe", "g")], 1.0)],
    );
    let mut rows = vec![
        Row::new(
            "labels are appended inside each metric",
            &two,
            "# TYPE a_total counter\na_total{@} 1\na_total{x=\"y\",@} 2\n# TYPE b gauge\nb{@} 3\n",
            "a_total counter\n  {@} 1\n  {x=\"y\",@} 2\nb gauge\n  {@} 3\n",
        ),
        Row::new(
            "labels that collide are renamed until they are free",
            &one("a", GaugeType, vec![labelled(&colliding, 1.0)]),
            "# TYPE a gauge\na{exported_exported_service_name=\"1\",exported_service_name=\"2\",\
             exported_revision_name=\"3\",x=\"4\",@} 1\n",
            "a gauge\n  {exported_exported_service_name=\"1\",exported_service_name=\"2\",\
             exported_revision_name=\"3\",x=\"4\",@} 1\n",
        ),
        Row::new(
            "names outside the old set are escaped",
            &odd,
            "# TYPE http_server_gr__e gauge\n\
             http_server_gr__e{k8s_pod=\"p\",exported_service_name=\"s\",gr__e=\"g\",@} 1\n",
            "http_server_gr__e gauge\n  {k8s_pod=\"p\",exported_service_name=\"s\",gr__e=\"g\",@} 1\n",
        ),
        Row::new(
            "names outside the old set are kept for those who read them",
            &odd,
            "# TYPE \"http.server.größe\" gauge\n\
             {\"http.server.größe\",\"k8s.pod\"=\"p\",\"service.name\"=\"s\",\"größe\"=\"g\",@} 1\n",
            "http.server.größe gauge\n  {k8s.pod=\"p\",service.name=\"s\",größe=\"g\",@} 1\n",
        )
        .with(UTF8),
    ];
    for (one_name, other) in [("a.b", "a_b"), ("a.b", "a-b"), (".", "._name__")] {
        let body = one("a", GaugeType, vec![labelled(&[(one_name, "1"), (other, "2")], 1.0), gauge(2.0)]);
        let promise = format!("{one_name} and {other} are the same once they are escaped");
        let [one_given, other_given] = match (one_name, other) {
            ("a.b", _) => ["exported_a_b", "a_b"],
            _ => ["_", "exported___name__"],
        };
        let labels = format!("{one_given}=\"1\",{other_given}=\"2\",@");
        let (lines, messages) =
            (format!("# TYPE a gauge\na{{{labels}}} 1\na{{@}} 2\n"), format!("a gauge\n  {{{labels}}} 1\n  {{@}} 2\n"));
        rows.push(Row::new(promise, &body, &lines, &messages));
        let quoted = if other == "a_b" { other.to_owned() } else { format!("\"{other}\"") };
        rows.push(
            Row::new(
                format!("{one_name} and {other} are two names"),
                &body,
                &format!("# TYPE a gauge\na{{\"{one_name}\"=\"1\",{quoted}=\"2\",@}} 1\na{{@}} 2\n"),
                &format!("a gauge\n  {{{one_name}=\"1\",{other}=\"2\",@}} 1\n  {{@}} 2\n"),
            )
            .with(UTF8),
        );
    }
    rows
}

/// Prometheus's lexer stops at one between quotes, and would lose the whole scrape. Who takes no quoted names gets them
/// escaped, and messages have a place for any name.
fn nuls() -> Vec<Row> {
    let b = || family("b", GaugeType, vec![gauge(3.0)]);
    let rows = [
        (
            "a counter's name",
            vec![family("a\0b", CounterType, vec![counter(1.0), counter(1.0)]), b()],
            (
                "# TYPE a_b counter\na_b{@} 1\na_b{@} 1\n# TYPE b gauge\nb{@} 3\n",
                "a_b counter\n  {@} 1\n  {@} 1\nb gauge\n  {@} 3\n",
            ),
            ("# TYPE b gauge\nb{@} 3\n", "a\0b counter\n  {@} 1\n  {@} 1\nb gauge\n  {@} 3\n", 2),
        ),
        (
            "a histogram's name",
            vec![family("a\0", HistogramType, vec![histogram(Histogram::default()); 2]), b()],
            (
                "# TYPE a_ histogram\na__bucket{le=\"+Inf\",@} 0\na__sum{@} 0\na__count{@} 0\n\
                 a__bucket{le=\"+Inf\",@} 0\na__sum{@} 0\na__count{@} 0\n# TYPE b gauge\nb{@} 3\n",
                "a_ histogram\n  {@}\n  {@}\nb gauge\n  {@} 3\n",
            ),
            ("# TYPE b gauge\nb{@} 3\n", "a\0 histogram\n  {@}\n  {@}\nb gauge\n  {@} 3\n", 2),
        ),
        (
            "the name of a family without metrics",
            vec![family("\0", GaugeType, vec![])],
            ("# TYPE _ gauge\n", "_ gauge\n"),
            ("", "\0 gauge\n", 0),
        ),
        (
            "a label's name",
            vec![family("m", GaugeType, vec![labelled(&[("a\0b", "c")], 1.0), gauge(2.0)])],
            ("# TYPE m gauge\nm{a_b=\"c\",@} 1\nm{@} 2\n", "m gauge\n  {a_b=\"c\",@} 1\n  {@} 2\n"),
            ("# TYPE m gauge\nm{@} 2\n", "m gauge\n  {a\0b=\"c\",@} 1\n  {@} 2\n", 1),
        ),
        (
            "a label's name beside one that is renamed",
            vec![family("m", GaugeType, vec![labelled(&[("service_name", "s"), ("\0", "c")], 1.0), gauge(2.0)])],
            (
                "# TYPE m gauge\nm{exported_service_name=\"s\",_=\"c\",@} 1\nm{@} 2\n",
                "m gauge\n  {exported_service_name=\"s\",_=\"c\",@} 1\n  {@} 2\n",
            ),
            ("# TYPE m gauge\nm{@} 2\n", "m gauge\n  {exported_service_name=\"s\",\0=\"c\",@} 1\n  {@} 2\n", 1),
        ),
    ];
    let mut all = Vec::new();
    for (whose, families, escaped, (text, messages, malformed)) in rows {
        all.push(Row::new(format!("a NUL in {whose} is escaped"), &families, escaped.0, escaped.1));
        let promise = format!("a NUL in {whose} has no place in text");
        all.push(Row::new(promise, &families, text, messages).with(UTF8).losing([malformed, 0]));
    }
    let in_value = labelled(&[("a", "b\0")], 1.0);
    all.push(Row::new(
        "a NUL in a value and in a help text is a byte like any other",
        &[MetricFamily { help: Some("\0".to_owned()), ..family("m", GaugeType, vec![in_value]) }],
        "# HELP m \0\n# TYPE m gauge\nm{a=\"b\0\",@} 1\n",
        "m gauge help \"\\0\"\n  {a=\"b\\0\",@} 1\n",
    ));
    all
}

fn families() -> Vec<Row> {
    let good_family = || raw_family(&head("good", GaugeType), &[&good(GaugeType)]);
    let malformed = [
        (vec![3 << 3, 1], "no name"),
        (head("", GaugeType), "an empty name"),
        ([field(1, b"\xff"), vec![3 << 3, 1]].concat(), "a name that is no UTF-8"),
        ([head("a", GaugeType), field(2, b"\xff")].concat(), "a help that is no UTF-8"),
        ([field(1, b"a"), vec![3 << 3, 6]].concat(), "a type that is none"),
        ([field(1, b"a"), field(3, b"")].concat(), "a type that is no number"),
        ([head("a", GaugeType), field(5, b"\xff")].concat(), "a unit that is no UTF-8"),
        ([head("a", GaugeType), vec![4 << 3, 1]].concat(), "a metric that is no message"),
        ([head("a", GaugeType), b"\x0a\x7f".to_vec()].concat(), "a length that lies"),
        ([head("a", GaugeType), b"\x00".to_vec()].concat(), "a field of number 0"),
    ];
    let malformed = malformed.map(|(own, why)| {
        let body = [good_family(), raw_family(&own, &[&good(GaugeType)]), good_family()].concat();
        Row::raw(
            format!("a family is dropped whole, and its neighbours are not: {why}"),
            body,
            "# TYPE good gauge\ngood{@} 1\ngood{@} 1\n",
            "good gauge\n  {@} 1\ngood gauge\n  {@} 1\n",
        )
        .losing([1, 1])
    });
    let with_help = |name: &str, help: &str| MetricFamily {
        help: Some(help.to_owned()),
        ..family(name, CounterType, vec![counter(1.0)])
    };
    let counters = raw_family(&field(1, b"a"), &[&good(CounterType)]);
    let gauges = raw_family(&field(1, b"a"), &[&good(GaugeType)]);
    let summaries = raw_family(&field(1, b"a"), &[&good(MetricType::Summary)]);
    let others = [
        Row::raw("without a type it has counters", counters, "# TYPE a counter\na{@} 1\n", "a counter\n  {@} 1\n"),
        Row::raw("without a type its metrics say it", gauges, "# TYPE a gauge\na{@} 1\n", "a gauge\n  {@} 1\n"),
        Row::raw(
            "without a type its metrics say it",
            summaries,
            "# TYPE a summary\na_sum{@} 0\na_count{@} 0\n",
            "a summary\n  {@}\n",
        ),
        Row::raw(
            "one of which no metric is left is not written",
            raw_family(&head("a", GaugeType), &[b"", b""]),
            "",
            "",
        )
        .losing([2, 2]),
        Row::new(
            "text has help and type once",
            &[with_help("a", "One\\two\n\"three\""), with_help("a", "Four."), with_help("b", "")],
            "# HELP a One\\\\two\\n\"three\"\n# TYPE a counter\na{@} 1\na{@} 1\n# HELP b \n# TYPE b counter\nb{@} 1\n",
            "a counter help \"One\\\\two\\n\\\"three\\\"\"\n  {@} 1\na counter help \"Four.\"\n  {@} 1\n\
             b counter help \"\"\n  {@} 1\n",
        ),
    ];
    malformed.into_iter().chain(others).collect()
}

fn units() -> Vec<Row> {
    let rows = [
        ("a_seconds", GaugeType, true),
        ("a_seconds_total", CounterType, true),
        ("a_seconds_total", GaugeType, false),
        ("a.seconds", GaugeType, true),
        ("aseconds", GaugeType, false),
        ("seconds", GaugeType, false),
        ("a_bytes", GaugeType, false),
    ];
    let row = |(name, kind, is_kept): (&str, MetricType, bool)| {
        let metric = if kind == GaugeType { gauge(1.0) } else { counter(1.0) };
        let with_unit = MetricFamily { unit: Some("seconds".to_owned()), ..family(name, kind, vec![metric]) };
        let word = if kind == GaugeType { "gauge" } else { "counter" };
        let unit = if is_kept { " unit seconds" } else { "" };
        let written = name.replace('.', "_");
        Row::new(
            format!("a unit that Prometheus refuses is left out: {name} {word}"),
            &[with_unit],
            &format!("# TYPE {written} {word}\n{written}{{@}} 1\n"),
            &format!("{written} {word}{unit}\n  {{@}} 1\n"),
        )
        .losing([0, u64::from(!is_kept)])
    };
    rows.map(row).into()
}

fn types() -> Vec<Row> {
    let body = [
        family("a_total", Unknown, vec![with_labels([("service_name", "x")], untyped(1.0))]),
        family("b_created", Unknown, vec![untyped(2.0), untyped(3.0)]),
        family("c", Unknown, vec![untyped(4.0)]),
        family("d_total", CounterType, vec![counter(5.0)]),
    ];
    let set = |untyped| Setting { untyped, ..USUAL };
    let (a, b) = (
        "# TYPE a_total gauge\na_total{exported_service_name=\"x\",@} 1\n",
        "# TYPE b_created counter\nb_created{@} 2\nb_created{@} 3\n",
    );
    let (c, d) = ("# TYPE c untyped\nc{@} 4\n", "# TYPE d_total counter\nd_total{@} 5\n");
    let (of_a, of_b) =
        ("a_total gauge\n  {exported_service_name=\"x\",@} 1\n", "b_created counter\n  {@} 2\n  {@} 3\n");
    let (of_c, of_d) = ("c untyped\n  {@} 4\n", "d_total counter\n  {@} 5\n");
    // Unknown in an untyped value, but an exemplar in a counter; and a counter that was none.
    let odd = [field(5, b"\x10\x01"), field(3, b"")].concat();
    let fine = [field(5, b"\x18\x01"), field(3, b"")].concat();
    vec![
        Row::new("untyped families get a type", &body, &[a, b, c, d].concat(), &[of_a, of_b, of_c, of_d].concat()),
        Row::new(
            "untyped families that get none are dropped",
            &body,
            &[a, b, d].concat(),
            &[of_a, of_b, of_d].concat(),
        )
        .with(set(Untyped::Drop))
        .dropping(1),
        Row::new(
            "untyped families stay",
            &body,
            &[&a.replace("gauge", "untyped"), &b.replace("counter", "untyped"), c, d].concat(),
            &[&of_a.replace("gauge", "untyped"), &of_b.replace("counter", "untyped"), of_c, of_d].concat(),
        )
        .with(set(Untyped::Keep)),
        Row::raw(
            "an untyped value becomes no value that readers refuse",
            raw_family(&head("a_created", Unknown), &[&odd, &good(Unknown)]),
            "# TYPE a_created counter\na_created{@} 0\na_created{@} 1\n",
            "a_created counter\n  {@} 1\n",
        )
        .losing([0, 1]),
        Row::raw(
            "an untyped value becomes a gauge's, whatever else is in it",
            raw_family(&head("a_total", Unknown), &[&fine]),
            "# TYPE a_total gauge\na_total{@} 0\n",
            "a_total gauge\n  {@}\n",
        ),
    ]
}

fn values() -> Vec<Row> {
    let quantile = |quantile, value| Quantile { quantile: Some(quantile), value: Some(value) };
    let bucket = |bound, count| Bucket { upper_bound: Some(bound), cumulative_count: Some(count), ..Bucket::default() };
    let a = Summary {
        sample_count: Some(9_007_199_254_740_993),
        sample_sum: Some(0.1),
        quantile: vec![quantile(0.5, 1.0), quantile(0.999, f64::NAN), quantile(1.0, 2e7)],
        created_timestamp: Some(Timestamp { seconds: 1, nanos: 2 }),
    };
    let (count, sum) = (Some(7), Some(-1.5));
    let buckets = vec![bucket(0.25, 2), bucket(1.0, 5)];
    let b = Histogram { sample_count: count, sample_sum: sum, bucket: buckets, ..Histogram::default() };
    let floats = Bucket { cumulative_count_float: Some(1.5), ..bucket(2e6, 1) };
    let c = Histogram {
        sample_count: count,
        sample_count_float: Some(7.5),
        bucket: vec![floats, bucket(f64::INFINITY, 7)],
        ..Histogram::default()
    };
    let both = Histogram { bucket: vec![bucket(1.0, 2)], ..native_histogram() };
    let at = |timestamp_ms| Metric { timestamp_ms, ..gauge(1.0) };
    vec![
        Row::new(
            "a summary has its parts",
            &one("a", MetricType::Summary, vec![with_labels([("x", "\"\\\n")], summary(a))]),
            "# TYPE a summary\na{x=\"\\\"\\\\\\n\",quantile=\"0.5\",@} 1\na{x=\"\\\"\\\\\\n\",quantile=\"0.999\",@} NaN\n\
             a{x=\"\\\"\\\\\\n\",quantile=\"1\",@} 2e+07\na_sum{x=\"\\\"\\\\\\n\",@} 0.1\n\
             a_count{x=\"\\\"\\\\\\n\",@} 9007199254740993\n",
            "a summary\n  {x=\"\\\"\\\\\\n\",@} count 9007199254740993 sum 0.1 0.5:1 0.999:NaN 1:20000000 created 1.000000002\n",
        ),
        Row::new(
            "a histogram has its parts, and a last bucket",
            &one("b", HistogramType, vec![histogram(b)]),
            "# TYPE b histogram\nb_bucket{le=\"0.25\",@} 2\nb_bucket{le=\"1\",@} 5\nb_bucket{le=\"+Inf\",@} 7\n\
             b_sum{@} -1.5\nb_count{@} 7\n",
            "b histogram\n  {@} count 7 sum -1.5 0.25:2 1:5\n",
        ),
        Row::new(
            "a gauge histogram is a histogram in text; floats go before whole numbers",
            &one("c", GaugeHistogram, vec![histogram(c)]),
            "# TYPE c histogram\nc_bucket{le=\"2e+06\",@} 1.5\nc_bucket{le=\"+Inf\",@} 7\nc_sum{@} 0\nc_count{@} 7.5\n",
            "c_bucket untyped\n  {le=\"2e+06\",@} 1.5\n  {le=\"+Inf\",@} 7\nc_gsum untyped\n  {@} 0\nc_gcount untyped\n  {@} 7.5\n",
        ),
        Row::new(
            "text has the count and the sum of a native histogram",
            &one("a", HistogramType, vec![histogram(native_histogram())]),
            "# TYPE a histogram\na_sum{@} 1.5\na_count{@} 4\n",
            "a histogram\n  {@} count 4 sum 1.5\n",
        ),
        Row::new(
            "text has the buckets that a native histogram has",
            &one("b", HistogramType, vec![histogram(both)]),
            "# TYPE b histogram\nb_bucket{le=\"1\",@} 2\nb_bucket{le=\"+Inf\",@} 4\nb_sum{@} 1.5\nb_count{@} 4\n",
            "b histogram\n  {@} count 4 sum 1.5 1:2\n",
        ),
        Row::new(
            "a histogram without anything has a bucket",
            &one("c", HistogramType, vec![histogram(Histogram::default())]),
            "# TYPE c histogram\nc_bucket{le=\"+Inf\",@} 0\nc_sum{@} 0\nc_count{@} 0\n",
            "c histogram\n  {@}\n",
        ),
        Row::new(
            "text keeps timestamps that it can write",
            &one(
                "a",
                GaugeType,
                vec![at(Some(1_700_000_000_000)), at(None), at(Some(0)), at(Some(-1)), at(Some(i64::MAX))],
            ),
            "# TYPE a gauge\na{@} 1 1700000000000\na{@} 1\na{@} 1\na{@} 1 9223372036854775807\n",
            "a gauge\n  {@} 1 at 1700000000000\n  {@} 1\n  {@} 1 at 0\n  {@} 1 at -1\n  {@} 1 at 9223372036854775807\n",
        )
        .losing([1, 0]),
    ]
}

#[test]
fn messages_become_what_the_table_says() {
    let faults: String = rows().iter().filter_map(Row::faults).collect();
    assert!(faults.is_empty(), "{faults}");
}
