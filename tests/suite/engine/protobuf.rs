//! Rules of the two protobuf engines, one idea each, run on a body whole and cut at every byte.

use prost::Message as _;
use qpext::exposition::{Counts, DropReason, End, Engine, Escaping, Families, Format, MAX_FAMILY, Rules, Untyped};

use crate::support::protobuf::*;
use crate::support::{Cut, PLAIN, SERVING, SERVING_LABELS, engine_of, reader, serving_rules};

/// How an engine is set.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub untyped: Untyped,
    pub names: Escaping,
}

impl Setting {
    /// With the serving labels.
    pub fn rules(self) -> Rules {
        serving_rules(self.untyped)
    }
}

pub const USUAL: Setting = Setting { untyped: Untyped::Convert, names: Escaping::Underscores };

/// What messages are written as.
const OUTPUTS: [Format; 2] = [Format::Protobuf, PLAIN];

/// The engine that reads messages.
pub fn reading(to: Format, rules: &Rules, names: Escaping) -> Box<dyn Engine + Send> {
    engine_of(Format::Protobuf, to, names, rules)
}

pub fn splice_cut(body: &[u8], setting: Setting, cut: Cut<'_>, end: End) -> (Vec<u8>, Counts) {
    run(reading(Format::Protobuf, &setting.rules(), setting.names), body, cut, end)
}

pub fn to_text_cut(body: &[u8], setting: Setting, cut: Cut<'_>, end: End) -> (Vec<u8>, Counts) {
    run(reading(PLAIN, &setting.rules(), setting.names), body, cut, end)
}

fn run(mut engine: Box<dyn Engine + Send>, body: &[u8], cut: Cut<'_>, end: End) -> (Vec<u8>, Counts) {
    let mut out = Vec::new();
    let mut families = Families::default();
    for chunk in cut.chunks(body) {
        engine.push(chunk, &mut families, &mut out);
    }
    engine.finish(end, &mut families, &mut out);
    (out, engine.progress().counts())
}

#[track_caller]
fn splice_with(body: &[u8], setting: Setting, end: End) -> (Vec<u8>, Counts) {
    let whole = splice_cut(body, setting, Cut::Whole, end);
    assert_eq!(splice_cut(body, setting, Cut::EveryByte, end), whole);
    whole
}

#[track_caller]
fn splice(body: &[u8]) -> (Vec<u8>, Counts) {
    splice_with(body, USUAL, End::Whole)
}

/// `@` stands for the serving labels in what is expected.
#[track_caller]
fn text_becomes(body: &[u8], setting: Setting, expected: &str) {
    let whole = to_text_cut(body, setting, Cut::Whole, End::Whole);
    assert_eq!(to_text_cut(body, setting, Cut::EveryByte, End::Whole), whole);
    let read = reader::read_with(&whole.0, setting.names).expect("the answer is valid");
    assert_eq!(whole.1.samples, read.samples.len() as u64);
    assert_eq!(String::from_utf8(whole.0).unwrap(), expected.replace('@', SERVING));
}

/// Checks that the metric is dropped by both engines, and its neighbours kept.
#[track_caller]
fn is_malformed(kind: MetricType, metric: &[u8], why: &str) {
    let body = |metrics: &[&[u8]]| raw_family(&head("m", kind), metrics);
    let good = good(kind);
    for names in [Escaping::Underscores, Escaping::AllowUtf8] {
        let setting = Setting { names, ..USUAL };
        let with = body(&[&good, metric, &good]);
        let without = body(&[&good, &good]);
        for run in [splice_cut, to_text_cut] {
            let (out, counts) = run(&with, setting, Cut::Whole, End::Whole);
            assert_eq!(counts.dropped(DropReason::Malformed), 1, "{why}");
            assert_eq!(counts.dropped_in_all(), 1, "{why}");
            assert_eq!(out, run(&without, setting, Cut::Whole, End::Whole).0, "{why}");
        }
    }
}

/// Checks that the metric is kept as it is.
#[track_caller]
fn is_kept(kind: MetricType, metric: &[u8], why: &str) {
    let (out, counts) = splice(&raw_family(&head("m", kind), &[metric]));
    assert_eq!(counts.dropped_in_all(), 0, "{why}");
    let labelled = [metric, &added()].concat();
    assert_eq!(out, raw_family(&head("m", kind), &[&labelled]), "{why}");
}

/// A metric that nothing is wrong with.
fn good(kind: MetricType) -> Vec<u8> {
    let metric = match kind {
        MetricType::Counter => counter(1.0),
        MetricType::Gauge => gauge(1.0),
        MetricType::Untyped => untyped(1.0),
        MetricType::Summary => summary(Summary::default()),
        MetricType::Histogram | MetricType::GaugeHistogram => histogram(Histogram::default()),
    };
    metric.encode_to_vec()
}

pub fn counter(value: f64) -> Metric {
    let counter = Counter { value: Some(value), ..Counter::default() };
    Metric { counter: Some(counter), ..Metric::default() }
}

pub fn gauge(value: f64) -> Metric {
    Metric { gauge: Some(Gauge { value: Some(value) }), ..Metric::default() }
}

pub fn untyped(value: f64) -> Metric {
    Metric { untyped: Some(crate::support::protobuf::Untyped { value: Some(value) }), ..Metric::default() }
}

fn summary(summary: Summary) -> Metric {
    Metric { summary: Some(summary), ..Metric::default() }
}

pub fn histogram(histogram: Histogram) -> Metric {
    Metric { histogram: Some(histogram), ..Metric::default() }
}

fn with_labels<'a>(own: impl IntoIterator<Item = (&'a str, &'a str)>, metric: Metric) -> Metric {
    Metric { label: labels(own), ..metric }
}

/// A family's own fields.
pub fn head(name: &str, kind: MetricType) -> Vec<u8> {
    family(name, kind, Vec::new()).encode_to_vec()
}

/// A field with bytes.
pub fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut field);
    prost::encoding::encode_varint(bytes.len() as u64, &mut field);
    field.extend_from_slice(bytes);
    field
}

/// A family of these bytes and these metrics behind them, behind its length.
pub fn raw_family(head: &[u8], metrics: &[&[u8]]) -> Vec<u8> {
    let mut message = head.to_vec();
    for metric in metrics {
        message.extend(field(4, metric));
    }
    delimited(&message)
}

fn delimited(message: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    prost::encoding::encode_varint(message.len() as u64, &mut body);
    body.extend_from_slice(message);
    body
}

/// The serving labels as fields of a metric.
pub fn added() -> Vec<u8> {
    SERVING_LABELS.iter().flat_map(|(name, value)| field(1, &label(name, value).encode_to_vec())).collect()
}

#[test]
fn labels_are_appended_inside_each_metric() {
    let body = encode(&[
        family("a_total", MetricType::Counter, vec![counter(1.0), with_labels([("x", "y")], counter(2.0))]),
        family("b", MetricType::Gauge, vec![gauge(3.0)]),
    ]);
    let (out, counts) = splice(&body);
    let serving = SERVING_LABELS;
    let x = std::iter::once(("x", "y"));
    let expected = [
        family(
            "a_total",
            MetricType::Counter,
            vec![with_labels(serving, counter(1.0)), with_labels(x.chain(serving), counter(2.0))],
        ),
        family("b", MetricType::Gauge, vec![with_labels(serving, gauge(3.0))]),
    ];
    assert_eq!(decode(&out).unwrap(), expected);
    assert_eq!(counts.samples, 3);
    assert_eq!(counts.dropped_in_all(), 0);
}

#[test]
fn what_is_unknown_stays_byte_for_byte() {
    // Of every wire type, with a number that no version knows: before what is known, and behind.
    let unknown = [b"\xf8\x3f\x96\x01".as_slice(), b"\xf9\x3f12345678", b"\xfa\x3f\x03abc", b"\xfd\x3f1234"].concat();
    let metric = [unknown.as_slice(), &good(MetricType::Counter), &unknown].concat();
    let labelled = [metric.as_slice(), &added()].concat();
    let family = |metric: &[u8]| {
        let own = [unknown.as_slice(), &head("a", MetricType::Counter), &unknown].concat();
        delimited(&[own, field(4, metric), unknown.clone()].concat())
    };
    let (out, counts) = splice(&family(&metric));
    assert_eq!(out, family(&labelled));
    assert_eq!(counts.dropped_in_all(), 0);
}

#[test]
fn exemplars_created_timestamps_and_native_histograms_stay_byte_for_byte() {
    for body in [typical(2_000), native(2_000)] {
        let (out, counts) = splice_with(&body, USUAL, End::Whole);
        assert_eq!(counts.dropped_in_all(), 0);
        let mut expected = decode(&body).unwrap();
        for metric in expected.iter_mut().flat_map(|family| &mut family.metric) {
            metric.label.extend(labels(SERVING_LABELS));
        }
        assert_eq!(decode(&out).unwrap(), expected);
    }
}

#[test]
fn fields_may_stand_in_any_order() {
    let message = [field(4, &good(MetricType::Gauge)), vec![3 << 3, 1], field(1, b"a")].concat();
    let labelled = [good(MetricType::Gauge), added()].concat();
    let expected = [field(4, &labelled), vec![3 << 3, 1], field(1, b"a")].concat();
    assert_eq!(splice(&delimited(&message)).0, delimited(&expected));
}

#[test]
fn a_family_without_type_has_counters() {
    let body = raw_family(&field(1, b"a"), &[&good(MetricType::Counter)]);
    assert_eq!(splice(&body).1.samples, 1);
    let body = raw_family(&field(1, b"a"), &[&good(MetricType::Gauge)]);
    assert_eq!(splice(&body).1.dropped(DropReason::Malformed), 1);
}

#[test]
fn labels_that_collide_are_renamed_until_free() {
    let own = [("service_name", "1"), ("exported_service_name", "2"), ("revision_name", "3"), ("x", "4")];
    let renamed = [
        ("exported_exported_service_name", "1"),
        ("exported_service_name", "2"),
        ("exported_revision_name", "3"),
        ("x", "4"),
    ];
    let body = encode(&[family("a", MetricType::Gauge, vec![with_labels(own, gauge(1.0))])]);
    let expected = with_labels(renamed.into_iter().chain(SERVING_LABELS), gauge(1.0));
    assert_eq!(decode(&splice(&body).0).unwrap(), [family("a", MetricType::Gauge, vec![expected])]);
    text_becomes(
        &body,
        USUAL,
        "# TYPE a gauge\na{exported_exported_service_name=\"1\",exported_service_name=\"2\",\
         exported_revision_name=\"3\",x=\"4\",@} 1\n",
    );
}

#[test]
fn a_renamed_label_keeps_its_value_and_what_is_unknown() {
    let pair = |name: &[u8]| [field(2, b"v"), field(1, name), b"\x98\x06\x01".to_vec()].concat();
    let metric = |pair: &[u8]| [field(1, pair), gauge(1.0).encode_to_vec()].concat();
    let body = raw_family(&head("a", MetricType::Gauge), &[&metric(&pair(b"service_name"))]);
    let renamed = [field(1, b"exported_service_name"), field(2, b"v"), b"\x98\x06\x01".to_vec()].concat();
    let labelled = [metric(&renamed), added()].concat();
    assert_eq!(splice(&body).0, raw_family(&head("a", MetricType::Gauge), &[&labelled]));
}

#[test]
fn collisions_among_many_labels_are_found() {
    let names: Vec<String> = (0..200).map(|index| format!("label_{index}")).collect();
    let many = || names.iter().map(|name| (name.as_str(), "v"));
    let own = many().chain([("service_name", "1"), ("exported_service_name", "2")]);
    let metric = with_labels(own, gauge(1.0));
    let (out, counts) =
        splice_cut(&encode(&[family("a", MetricType::Gauge, vec![metric])]), USUAL, Cut::Whole, End::Whole);
    assert_eq!(counts.samples, 1);
    let families = decode(&out).unwrap();
    let label = &families[0].metric[0].label[200];
    assert_eq!(label.name.as_deref(), Some("exported_exported_service_name"));
    let twice = with_labels(many().chain([("label_7", "w")]), gauge(1.0)).encode_to_vec();
    is_malformed(MetricType::Gauge, &twice, "a label twice among many");
}

#[test]
fn malformed_metrics_are_dropped_alone() {
    let gauge_with = |labels: &[Vec<u8>]| [labels.concat(), good(MetricType::Gauge)].concat();
    let pair = |name: &[u8], value: &[u8]| field(1, &[field(1, name), field(2, value)].concat());
    for (metric, why) in [
        (b"\x0a\x7f".to_vec(), "a length that lies"),
        (b"\x08\x01".to_vec(), "a label that is no message"),
        (b"\x13\x14".to_vec(), "a group"),
        (gauge_with(&[b"\x30".to_vec()]), "half a field"),
        (gauge_with(&[b"\x32\x00".to_vec()]), "a timestamp that is no number"),
        (gauge_with(&[field(1, b"\x0a\x7f")]), "a label whose length lies"),
        (gauge_with(&[field(1, b"\x08\x01\x12\x00")]), "a label whose name is a number"),
        (gauge_with(&[field(1, b"\x0a\x01a\x10\x00")]), "a label whose value is a number"),
        (gauge_with(&[field(1, b"\x12\x01a")]), "a label without a name"),
        (gauge_with(&[pair(b"", b"v")]), "a label with an empty name"),
        (gauge_with(&[pair(b"\xff", b"v")]), "a label name that is no UTF-8"),
        (gauge_with(&[pair(b"a", b"\xff")]), "a label value that is no UTF-8"),
        (gauge_with(&[pair(b"__name__", b"v")]), "the metric's name as a label"),
        (gauge_with(&[pair(b"a", b"1"), pair(b"a", b"2")]), "a label twice"),
        (b"\x12\x01\x09".to_vec(), "half a value"),
        (b"\x12\x02\x08\x01".to_vec(), "a value that is no double"),
        (b"\x11\x00\x00\x00\x00\x00\x00\x00\x00".to_vec(), "a value that is no message"),
        (Vec::new(), "no value"),
        (good(MetricType::Counter), "another type's value"),
    ] {
        is_malformed(MetricType::Gauge, &metric, why);
    }
    let counter_with = |exemplar: &[u8]| field(3, &field(2, exemplar));
    for (metric, why) in [
        (counter_with(b"\x10\x01"), "an exemplar whose value is no double"),
        (counter_with(&pair(b"\xff", b"v")), "an exemplar label name that is no UTF-8"),
        (counter_with(&pair(b"a", b"\xff")), "an exemplar label value that is no UTF-8"),
        (counter_with(&field(3, b"\x0a\x00")), "an exemplar timestamp that is no number"),
        (field(3, &field(3, b"\x0d")), "a created timestamp that is broken"),
    ] {
        is_malformed(MetricType::Counter, &metric, why);
    }
    for (metric, why) in [
        (field(4, &field(3, b"\x08\x01")), "a quantile that is no double"),
        (field(4, b"\x0d\x00\x00\x00\x00"), "a count that is no integer"),
        ([pair(b"quantile", b"0.5"), field(4, &field(3, b""))].concat(), "a label of the name that quantiles get"),
    ] {
        is_malformed(MetricType::Summary, &metric, why);
    }
    is_kept(
        MetricType::Summary,
        &[pair(b"quantile", b"0.5"), field(4, b"")].concat(),
        "it has no quantiles to get a label",
    );
    is_malformed(
        MetricType::Histogram,
        &[pair(b"le", b"1"), field(7, b"")].concat(),
        "a label of the name that buckets get",
    );
}

#[test]
fn names_that_are_the_same_once_escaped_are_malformed() {
    let body = |labels: &[(&str, &str)]| {
        let metric = with_labels(labels.iter().copied(), gauge(1.0));
        encode(&[family("a", MetricType::Gauge, vec![metric, gauge(2.0)])])
    };
    for labels in [[("a.b", "1"), ("a_b", "2")], [("a.b", "1"), ("a-b", "2")], [(".", "1"), ("._name__", "2")]] {
        assert_eq!(splice(&body(&labels)).1.dropped(DropReason::Malformed), 1);
        let utf8 = Setting { names: Escaping::AllowUtf8, ..USUAL };
        assert_eq!(splice_with(&body(&labels), utf8, End::Whole).1.dropped_in_all(), 0);
    }
}

#[test]
fn names_outside_the_old_set_are_kept_for_those_who_read_them_and_escaped_for_others() {
    let metric = || with_labels([("k8s.pod", "p"), ("service.name", "s"), ("größe", "g")], gauge(1.0));
    let body = encode(&[family("http.server.größe", MetricType::Gauge, vec![metric()])]);
    let utf8 = Setting { names: Escaping::AllowUtf8, ..USUAL };
    let mut kept = decode(&body).unwrap();
    kept[0].metric[0].label.extend(labels(SERVING_LABELS));
    assert_eq!(decode(&splice_with(&body, utf8, End::Whole).0).unwrap(), kept);
    let escaped = [("k8s_pod", "p"), ("exported_service_name", "s"), ("gr__e", "g")];
    let escaped = with_labels(escaped.into_iter().chain(SERVING_LABELS), gauge(1.0));
    assert_eq!(decode(&splice(&body).0).unwrap(), [family("http_server_gr__e", MetricType::Gauge, vec![escaped])]);
    text_becomes(
        &body,
        utf8,
        "# TYPE \"http.server.größe\" gauge\n\
         {\"http.server.größe\",\"k8s.pod\"=\"p\",\"service.name\"=\"s\",\"größe\"=\"g\",@} 1\n",
    );
    text_becomes(
        &body,
        USUAL,
        "# TYPE http_server_gr__e gauge\nhttp_server_gr__e{k8s_pod=\"p\",exported_service_name=\"s\",gr__e=\"g\",@} 1\n",
    );
}

/// Prometheus's lexer stops at one between quotes, and would lose the whole scrape. Who takes no quoted names gets them
/// escaped.
#[test]
fn a_name_with_a_nul_is_no_name_in_text() {
    let two = |kind| vec![Metric::decode(&*good(kind)).unwrap(); 2];
    let with_name = |own: &[(&'static str, &'static str)]| with_labels(own.iter().copied(), gauge(1.0));
    let behind =
        |name: &str, kind| encode(&[family(name, kind, two(kind)), family("b", MetricType::Gauge, vec![gauge(3.0)])]);
    let b = "# TYPE b gauge\nb{@} 3\n";
    let cases = [
        ("a counter's", behind("a\0b", MetricType::Counter), 2, b, "# TYPE a_b counter\na_b{@} 1\na_b{@} 1\n", b),
        (
            "a histogram's",
            behind("a\0", MetricType::Histogram),
            2,
            b,
            "# TYPE a_ histogram\na__bucket{le=\"+Inf\",@} 0\na__sum{@} 0\na__count{@} 0\n\
             a__bucket{le=\"+Inf\",@} 0\na__sum{@} 0\na__count{@} 0\n",
            b,
        ),
        (
            "a family's without metrics",
            encode(&[family("\0", MetricType::Gauge, vec![])]),
            0,
            "",
            "# TYPE _ gauge\n",
            "",
        ),
        (
            "a label's",
            encode(&[family("m", MetricType::Gauge, vec![with_name(&[("a\0b", "c")]), gauge(2.0)])]),
            1,
            "# TYPE m gauge\nm{@} 2\n",
            "# TYPE m gauge\nm{a_b=\"c\",@} 1\nm{@} 2\n",
            "",
        ),
        (
            "a label's beside one that is renamed",
            encode(&[family(
                "m",
                MetricType::Gauge,
                vec![with_name(&[("service_name", "s"), ("\0", "c")]), gauge(2.0)],
            )]),
            1,
            "# TYPE m gauge\nm{@} 2\n",
            "# TYPE m gauge\nm{exported_service_name=\"s\",_=\"c\",@} 1\nm{@} 2\n",
            "",
        ),
    ];
    for (whose, body, malformed, with_utf8, escaped, behind_escaped) in cases {
        let utf8 = Setting { names: Escaping::AllowUtf8, ..USUAL };
        for (setting, expected, malformed) in
            [(utf8, with_utf8.to_owned(), malformed), (USUAL, format!("{escaped}{behind_escaped}"), 0)]
        {
            text_becomes(&body, setting, &expected);
            let (out, counts) = to_text_cut(&body, setting, Cut::Whole, End::Whole);
            reader::read_with(&out, setting.names).unwrap_or_else(|error| panic!("{whose}: {error}"));
            assert_eq!(counts.dropped(DropReason::Malformed), malformed, "{whose}");
            assert_eq!(counts.dropped_in_all(), malformed, "{whose}");
        }
        // Messages have a place for any name.
        assert_eq!(splice_with(&body, utf8, End::Whole).1.dropped_in_all(), 0, "{whose}");
    }
    // In a value and in a help text it is a byte like any other.
    let metric = with_labels([("a", "b\0")], gauge(1.0));
    let body = encode(&[MetricFamily { help: Some("\0".to_owned()), ..family("m", MetricType::Gauge, vec![metric]) }]);
    text_becomes(&body, USUAL, "# HELP m \0\n# TYPE m gauge\nm{a=\"b\0\",@} 1\n");
}

#[test]
fn a_malformed_family_is_dropped_whole_and_its_neighbours_are_not() {
    let good_family = || raw_family(&head("good", MetricType::Gauge), &[&good(MetricType::Gauge)]);
    for (own, why) in [
        (vec![3 << 3, 1], "no name"),
        (head("", MetricType::Gauge), "an empty name"),
        ([field(1, b"\xff"), vec![3 << 3, 1]].concat(), "a name that is no UTF-8"),
        ([head("a", MetricType::Gauge), field(2, b"\xff")].concat(), "a help that is no UTF-8"),
        ([field(1, b"a"), vec![3 << 3, 6]].concat(), "a type that is none"),
        ([field(1, b"a"), field(3, b"")].concat(), "a type that is no number"),
        ([head("a", MetricType::Gauge), field(5, b"\xff")].concat(), "a unit that is no UTF-8"),
        ([head("a", MetricType::Gauge), vec![4 << 3, 1]].concat(), "a metric that is no message"),
        ([head("a", MetricType::Gauge), b"\x0a\x7f".to_vec()].concat(), "a length that lies"),
        ([head("a", MetricType::Gauge), b"\x00".to_vec()].concat(), "a field of number 0"),
    ] {
        let body = [good_family(), raw_family(&own, &[&good(MetricType::Gauge)]), good_family()].concat();
        let (out, counts) = splice(&body);
        assert_eq!(decode(&out).unwrap().len(), 2, "{why}");
        assert_eq!((counts.samples, counts.dropped(DropReason::Malformed)), (2, 1), "{why}");
        text_becomes(&body, USUAL, "# TYPE good gauge\ngood{@} 1\ngood{@} 1\n");
    }
}

#[test]
fn a_family_of_which_no_metric_is_left_is_not_written() {
    let body = raw_family(&head("a", MetricType::Gauge), &[b"", b""]);
    let (out, counts) = splice(&body);
    assert_eq!((out.len(), counts.dropped(DropReason::Malformed)), (0, 2));
    text_becomes(&body, USUAL, "");
}

#[test]
fn a_unit_that_prometheus_refuses_is_left_out() {
    let with_unit = |name: &str, kind, unit: Option<&str>, metric: Metric| MetricFamily {
        unit: unit.map(str::to_owned),
        ..family(name, kind, vec![metric])
    };
    for (name, kind, unit, is_kept) in [
        ("a_seconds", MetricType::Gauge, "seconds", true),
        ("a_seconds_total", MetricType::Counter, "seconds", true),
        ("a_seconds_total", MetricType::Gauge, "seconds", false),
        ("a.seconds", MetricType::Gauge, "seconds", true),
        ("aseconds", MetricType::Gauge, "seconds", false),
        ("seconds", MetricType::Gauge, "seconds", false),
        ("a_bytes", MetricType::Gauge, "seconds", false),
    ] {
        let metric = if kind == MetricType::Gauge { gauge(1.0) } else { counter(1.0) };
        let (out, counts) = splice(&encode(&[with_unit(name, kind, Some(unit), metric)]));
        let out = decode(&out).unwrap();
        assert_eq!(out[0].unit.is_some(), is_kept, "{name} {unit}");
        assert_eq!(counts.dropped_in_all(), u64::from(!is_kept), "{name} {unit}");
        assert_eq!(counts.samples, 1);
    }
}

#[test]
fn untyped_families_are_sanitized() {
    let body = encode(&[
        family("a_total", MetricType::Untyped, vec![with_labels([("service_name", "x")], untyped(1.0))]),
        family("b_created", MetricType::Untyped, vec![untyped(2.0), untyped(3.0)]),
        family("c", MetricType::Untyped, vec![untyped(4.0)]),
        family("d_total", MetricType::Counter, vec![counter(5.0)]),
    ]);
    let with = |metric: Metric| with_labels(SERVING_LABELS, metric);
    let renamed = std::iter::once(("exported_service_name", "x")).chain(SERVING_LABELS);
    let a = family("a_total", MetricType::Gauge, vec![with_labels(renamed, gauge(1.0))]);
    let b = family("b_created", MetricType::Counter, vec![with(counter(2.0)), with(counter(3.0))]);
    let c = family("c", MetricType::Untyped, vec![with(untyped(4.0))]);
    let d = family("d_total", MetricType::Counter, vec![with(counter(5.0))]);
    let run = |untyped| splice_with(&body, Setting { untyped, ..USUAL }, End::Whole);
    let (out, counts) = run(Untyped::Convert);
    assert_eq!(decode(&out).unwrap(), [a.clone(), b.clone(), c, d.clone()]);
    assert_eq!(counts.samples, 5);
    let (out, counts) = run(Untyped::Drop);
    assert_eq!(decode(&out).unwrap(), [a, b, d]);
    assert_eq!((counts.samples, counts.dropped(DropReason::Untyped)), (4, 1));
    let (out, _) = run(Untyped::Keep);
    let kept: Vec<_> = decode(&out).unwrap().iter().map(|family| family.r#type).collect();
    assert_eq!(kept, [Some(3), Some(3), Some(3), Some(0)]);
    text_becomes(
        &body,
        Setting { untyped: Untyped::Drop, ..USUAL },
        "# TYPE a_total gauge\na_total{exported_service_name=\"x\",@} 1\n\
         # TYPE b_created counter\nb_created{@} 2\nb_created{@} 3\n# TYPE d_total counter\nd_total{@} 5\n",
    );
}

#[test]
fn an_untyped_value_becomes_no_value_that_readers_refuse() {
    // Unknown in an untyped value, but an exemplar in a counter; and a counter that was none.
    let odd = [field(5, b"\x10\x01"), field(3, b"")].concat();
    let fine = [field(5, b"\x18\x01"), field(3, b"")].concat();
    let body = raw_family(&head("a_created", MetricType::Untyped), &[&odd, &good(MetricType::Untyped)]);
    let (out, counts) = splice(&body);
    assert_eq!(counts.dropped(DropReason::Malformed), 1);
    assert_eq!(decode(&out).unwrap()[0].metric, [with_labels(SERVING_LABELS, counter(1.0))]);
    let body = raw_family(&head("a_total", MetricType::Untyped), &[&fine]);
    assert_eq!(splice(&body).1.samples, 1);
}

#[test]
fn a_family_that_lies_about_its_length_costs_only_what_it_hides() {
    let good_family = encode(&[family("a", MetricType::Gauge, vec![gauge(1.0)])]);
    // It claims a gigabyte: what follows is taken for it.
    let body = [good_family.as_slice(), b"\x80\x80\x80\x80\x04", &good_family].concat();
    let (out, counts) = splice(&body);
    assert_eq!(decode(&out).unwrap().len(), 1);
    assert_eq!((counts.dropped(DropReason::TooLong), counts.dropped_in_all()), (1, 1));
    // It claims more than 64 bits can tell: where it ends cannot be known.
    for length in [[0xff; 11].as_slice(), b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"] {
        let (out, counts) = splice(&[good_family.as_slice(), length, &good_family].concat());
        assert_eq!(decode(&out).unwrap().len(), 1);
        assert_eq!((counts.dropped(DropReason::Malformed), counts.dropped_in_all()), (1, 1));
    }
}

#[test]
fn a_family_over_16_mib_is_skipped_and_the_next_is_read() {
    let good_family = encode(&[family("a", MetricType::Gauge, vec![gauge(1.0)])]);
    let help = "x".repeat(MAX_FAMILY);
    let long = |help: &str| {
        encode(&[MetricFamily { help: Some(help.to_owned()), ..family("b", MetricType::Gauge, vec![gauge(1.0)]) }])
    };
    let body = [long(&help), good_family.clone()].concat();
    for cut in [Cut::Whole, Cut::At(&[5_000, 9_000_000, MAX_FAMILY + 10])] {
        let (out, counts) = splice_cut(&body, USUAL, cut, End::Whole);
        assert_eq!(decode(&out).unwrap()[0].name.as_deref(), Some("a"));
        assert_eq!((counts.samples, counts.dropped(DropReason::TooLong)), (1, 1));
    }
    let body = [long(&help[..MAX_FAMILY - 1_000]), good_family].concat();
    let (out, _) = splice_cut(&body, USUAL, Cut::At(&[5_000, 9_000_000]), End::Whole);
    assert_eq!(decode(&out).unwrap().len(), 2);
}

#[test]
fn a_family_that_would_grow_over_16_mib_loses_the_metrics_that_there_is_no_room_for() {
    let own = head("a", MetricType::Gauge);
    let metrics = vec![b"\x12\x00".as_slice(); 200_000];
    let body = raw_family(&own, &metrics);
    for run in [splice_cut, to_text_cut] {
        let (out, counts) = run(&body, USUAL, Cut::Whole, End::Whole);
        assert!(out.len() <= MAX_FAMILY + 16, "{}", out.len());
        assert!(counts.samples > 100_000, "{}", counts.samples);
        assert_eq!(counts.samples + counts.dropped(DropReason::TooLong), 200_000);
    }
}

#[test]
fn half_a_message_is_dropped() {
    let good_family = encode(&[family("a", MetricType::Gauge, vec![gauge(1.0)])]);
    for half in 1..good_family.len() {
        let body = [good_family.as_slice(), &good_family[..half]].concat();
        for (end, malformed) in [(End::Whole, 1), (End::BrokenOff, 0)] {
            let (out, counts) = splice_with(&body, USUAL, end);
            assert_eq!(decode(&out).unwrap().len(), 1);
            assert_eq!((counts.samples, counts.dropped_in_all()), (1, malformed));
        }
    }
    let half_a_length = [good_family.as_slice(), b"\x80"].concat();
    assert_eq!(splice(&half_a_length).1.dropped(DropReason::Malformed), 1);
    assert_eq!(splice(b""), (Vec::new(), Counts::default()));
}

fn span(offset: i32, length: u32) -> BucketSpan {
    BucketSpan { offset: Some(offset), length: Some(length) }
}

/// A native histogram with three observations in two buckets, one at zero.
fn native_histogram() -> Histogram {
    Histogram {
        sample_count: Some(4),
        sample_sum: Some(1.5),
        schema: Some(3),
        zero_threshold: Some(1e-128),
        zero_count: Some(1),
        positive_span: vec![span(-2, 1), span(3, 1)],
        positive_delta: vec![1, 1],
        ..Histogram::default()
    }
}

fn float_histogram() -> Histogram {
    Histogram {
        sample_count: None,
        sample_count_float: Some(4.0),
        zero_count: None,
        zero_count_float: Some(1.0),
        positive_delta: Vec::new(),
        positive_count: vec![1.0, 2.0],
        ..native_histogram()
    }
}

#[test]
fn native_histograms_that_prometheus_ingests_are_kept() {
    let good = native_histogram;
    for (why, histogram_) in [
        ("as it is", good()),
        ("with floats", float_histogram()),
        ("the lowest schema", Histogram { schema: Some(-4), ..good() }),
        ("the highest schema", Histogram { schema: Some(8), ..good() }),
        (
            "observations that are NaN are in no bucket",
            Histogram { sample_count: Some(9), sample_sum: Some(f64::NAN), ..good() },
        ),
        (
            "no observations, told to be native by a span that is none",
            Histogram { positive_span: vec![span(0, 0)], ..Histogram::default() },
        ),
        ("floats may be fewer than the count", Histogram { sample_count_float: Some(4.5), ..float_histogram() }),
        (
            "negative buckets",
            Histogram { sample_count: Some(6), negative_span: vec![span(0, 2)], negative_delta: vec![1, 0], ..good() },
        ),
    ] {
        for kind in [MetricType::Histogram, MetricType::GaugeHistogram] {
            is_kept(kind, &histogram(histogram_.clone()).encode_to_vec(), why);
        }
    }
    // Deltas and counts may stand one by one, too.
    let one_by_one = Histogram { positive_delta: Vec::new(), ..native_histogram() };
    let bytes = [one_by_one.encode_to_vec(), vec![13 << 3, 2, 13 << 3, 2]].concat();
    is_kept(MetricType::Histogram, &field(7, &bytes), "deltas that are not packed");
}

#[test]
fn native_histograms_that_prometheus_refuses_are_dropped() {
    let good = native_histogram;
    for (why, histogram_) in [
        ("a schema too low", Histogram { schema: Some(-5), ..good() }),
        ("a schema too high", Histogram { schema: Some(9), ..good() }),
        ("custom buckets, which have no bounds here", Histogram { schema: Some(-53), ..good() }),
        ("more buckets than deltas", Histogram { positive_span: vec![span(0, 3)], ..good() }),
        ("more deltas than buckets", Histogram { positive_span: vec![span(0, 1)], ..good() }),
        ("deltas without spans", Histogram { positive_span: Vec::new(), ..good() }),
        ("spans that claim the world", Histogram { positive_span: vec![span(0, u32::MAX); 1000], ..good() }),
        ("a gap that is negative", Histogram { positive_span: vec![span(0, 1), span(-1, 1)], ..good() }),
        ("gaps that overflow", Histogram { positive_span: vec![span(i32::MAX, 1), span(i32::MAX, 1)], ..good() }),
        ("a bucket that is negative", Histogram { positive_delta: vec![4, -5], ..good() }),
        ("a count too low", Histogram { sample_count: Some(3), ..good() }),
        ("a count too high", Histogram { sample_count: Some(5), ..good() }),
        (
            "a sum of buckets that overflows",
            Histogram { positive_delta: vec![i64::MAX, 0], zero_count: Some(u64::MAX), ..good() },
        ),
        (
            "more in buckets than all, whatever the sum",
            Histogram { sample_count: Some(3), sample_sum: Some(f64::NAN), ..good() },
        ),
        ("negative buckets without spans", Histogram { negative_delta: vec![1], ..good() }),
        (
            "floats in a histogram of integers",
            Histogram { positive_delta: Vec::new(), positive_count: vec![1.0, 2.0], ..good() },
        ),
        ("a float count too low", Histogram { sample_count_float: Some(2.5), ..float_histogram() }),
        ("a negative float count", Histogram { sample_count_float: Some(-1.0), ..float_histogram() }),
        ("a float bucket that is negative", Histogram { positive_count: vec![-1.0, 2.0], ..float_histogram() }),
        ("too few floats", Histogram { positive_count: vec![1.0], ..float_histogram() }),
    ] {
        for kind in [MetricType::Histogram, MetricType::GaugeHistogram] {
            is_malformed(kind, &histogram(histogram_.clone()).encode_to_vec(), why);
        }
    }
    for (bytes, why) in [
        (b"\x72\x03abc".as_slice(), "packed doubles of three bytes"),
        (b"\x6a\x01\x80", "packed integers that are cut"),
        (b"\x6d\x00\x00\x00\x00", "a delta of four bytes"),
        (b"\x70\x01", "a count that is no double"),
        (b"\x62\x02\x0a\x00", "a span's offset that is no number"),
        (b"\x2a\x00", "a schema that is no number"),
        (b"\x1a\x02\x09\x00", "half a bucket"),
        (b"\x1a\x02\x0a\x00", "a bucket's count that is no number"),
        (b"\x82\x01\x02\x10\x01", "a native exemplar whose value is no double"),
        (b"\x80\x01\x01", "a native exemplar that is no message"),
    ] {
        is_malformed(MetricType::Histogram, &field(7, bytes), why);
    }
}

#[test]
fn behind_a_native_histogram_a_classic_one_must_pass_for_native() {
    // Some releases tell by the first of a family, or by the one before, what all are.
    let classic = || histogram(Histogram { sample_count: Some(2), ..Histogram::default() });
    let native = || histogram(native_histogram());
    let counts = |metrics| splice(&encode(&[family("a", MetricType::Histogram, metrics)])).1;
    assert_eq!(counts(vec![classic(), native(), native()]).dropped_in_all(), 0);
    let counts = counts(vec![native(), classic(), native()]);
    assert_eq!((counts.samples, counts.dropped(DropReason::Malformed)), (2, 1));
}

#[test]
fn a_value_that_comes_in_two_pieces_is_judged_as_one() {
    let whole = native_histogram();
    let spans = Histogram { positive_span: whole.positive_span.clone(), ..Histogram::default() };
    let rest = Histogram { positive_span: Vec::new(), ..whole };
    let metric = [field(7, &spans.encode_to_vec()), field(7, &rest.encode_to_vec())].concat();
    is_kept(MetricType::Histogram, &metric, "protobuf merges the two");
}

#[test]
fn text_has_help_and_type_once() {
    let with_help = |name: &str, help: &str| MetricFamily {
        help: Some(help.to_owned()),
        ..family(name, MetricType::Counter, vec![counter(1.0)])
    };
    text_becomes(
        &encode(&[with_help("a", "One\\two\n\"three\""), with_help("a", "Four."), with_help("b", "")]),
        USUAL,
        "# HELP a One\\\\two\\n\"three\"\n# TYPE a counter\na{@} 1\na{@} 1\n# HELP b \n# TYPE b counter\nb{@} 1\n",
    );
}

#[test]
fn text_has_the_parts_of_summaries_and_histograms() {
    let quantile = |quantile, value| Quantile { quantile: Some(quantile), value: Some(value) };
    let a = Summary {
        sample_count: Some(9_007_199_254_740_993),
        sample_sum: Some(0.1),
        quantile: vec![quantile(0.5, 1.0), quantile(0.999, f64::NAN), quantile(1.0, 2e7)],
        created_timestamp: Some(Timestamp { seconds: 1, nanos: 2 }),
    };
    let bucket = |bound, count| Bucket { upper_bound: Some(bound), cumulative_count: Some(count), ..Bucket::default() };
    let b = Histogram {
        sample_count: Some(7),
        sample_sum: Some(-1.5),
        bucket: vec![bucket(0.25, 2), bucket(1.0, 5)],
        ..Histogram::default()
    };
    let c = Histogram {
        sample_count: Some(7),
        sample_count_float: Some(7.5),
        bucket: vec![Bucket { cumulative_count_float: Some(1.5), ..bucket(2e6, 1) }, bucket(f64::INFINITY, 7)],
        ..Histogram::default()
    };
    text_becomes(
        &encode(&[
            family("a", MetricType::Summary, vec![with_labels([("x", "\"\\\n")], summary(a))]),
            family("b", MetricType::Histogram, vec![histogram(b)]),
            family("c", MetricType::GaugeHistogram, vec![histogram(c)]),
        ]),
        USUAL,
        "# TYPE a summary\na{x=\"\\\"\\\\\\n\",quantile=\"0.5\",@} 1\na{x=\"\\\"\\\\\\n\",quantile=\"0.999\",@} NaN\n\
         a{x=\"\\\"\\\\\\n\",quantile=\"1\",@} 2e+07\na_sum{x=\"\\\"\\\\\\n\",@} 0.1\n\
         a_count{x=\"\\\"\\\\\\n\",@} 9007199254740993\n\
         # TYPE b histogram\nb_bucket{le=\"0.25\",@} 2\nb_bucket{le=\"1\",@} 5\nb_bucket{le=\"+Inf\",@} 7\n\
         b_sum{@} -1.5\nb_count{@} 7\n\
         # TYPE c histogram\nc_bucket{le=\"2e+06\",@} 1.5\nc_bucket{le=\"+Inf\",@} 7\nc_sum{@} 0\nc_count{@} 7.5\n",
    );
}

#[test]
fn text_has_count_and_sum_of_a_native_histogram_and_the_buckets_it_has() {
    let both = Histogram {
        bucket: vec![Bucket { cumulative_count: Some(2), upper_bound: Some(1.0), ..Bucket::default() }],
        ..native_histogram()
    };
    text_becomes(
        &encode(&[
            family("a", MetricType::Histogram, vec![histogram(native_histogram())]),
            family("b", MetricType::Histogram, vec![histogram(both)]),
            family("c", MetricType::Histogram, vec![histogram(Histogram::default())]),
        ]),
        USUAL,
        "# TYPE a histogram\na_sum{@} 1.5\na_count{@} 4\n\
         # TYPE b histogram\nb_bucket{le=\"1\",@} 2\nb_bucket{le=\"+Inf\",@} 4\nb_sum{@} 1.5\nb_count{@} 4\n\
         # TYPE c histogram\nc_bucket{le=\"+Inf\",@} 0\nc_sum{@} 0\nc_count{@} 0\n",
    );
}

#[test]
fn text_keeps_timestamps_that_it_can_write() {
    let at = |timestamp_ms| Metric { timestamp_ms, ..gauge(1.0) };
    let metrics = vec![at(Some(1_700_000_000_000)), at(None), at(Some(0)), at(Some(-1)), at(Some(i64::MAX))];
    let body = encode(&[family("a", MetricType::Gauge, metrics)]);
    text_becomes(&body, USUAL, "# TYPE a gauge\na{@} 1 1700000000000\na{@} 1\na{@} 1\na{@} 1 9223372036854775807\n");
    let (_, counts) = to_text_cut(&body, USUAL, Cut::Whole, End::Whole);
    assert_eq!((counts.samples, counts.dropped(DropReason::Malformed)), (4, 1));
    assert_eq!(splice(&body).1.samples, 5);
}

#[test]
fn without_labels_to_add_text_has_braces_only_where_it_needs_them() {
    let body = encode(&[family("a", MetricType::Gauge, vec![gauge(1.0), with_labels([("x", "y")], gauge(2.0))])]);
    let mut out = Vec::new();
    let mut engine = reading(PLAIN, &Rules::default(), Escaping::AllowUtf8);
    let dotted = encode(&[family("a.b", MetricType::Gauge, vec![gauge(1.0)])]);
    engine.push(&body, &mut Families::default(), &mut out);
    engine.push(&dotted, &mut Families::default(), &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "# TYPE a gauge\na 1\na{x=\"y\"} 2\n# TYPE \"a.b\" gauge\n{\"a.b\"} 1\n"
    );
}

#[test]
fn made_up_names_run_out_of_room_in_text() {
    let families: Vec<MetricFamily> =
        (0..60_000).map(|number| family(&format!("made_up_{number}"), MetricType::Gauge, vec![gauge(1.0)])).collect();
    let (_, counts) = to_text_cut(&encode(&families), USUAL, Cut::Whole, End::Whole);
    assert!(counts.dropped(DropReason::NoRoom) > 10_000);
    assert_eq!(counts.samples + counts.dropped(DropReason::NoRoom), 60_000);
}

/// How often the bodies of one answer contradict the types of an earlier one, written as protobuf and as text.
fn conflicts(untyped: Untyped, bodies: &[MetricFamily]) -> [u64; 2] {
    let rules = Setting { untyped, ..USUAL }.rules();
    OUTPUTS.map(|to| {
        let (mut families, mut out) = (Families::default(), Vec::new());
        for (target, body) in bodies.iter().enumerate() {
            families.turn_to(target);
            let mut engine = reading(to, &rules, USUAL.names);
            engine.push(&encode(std::slice::from_ref(body)), &mut families, &mut out);
            engine.push(&encode(std::slice::from_ref(body)), &mut families, &mut out);
        }
        families.conflicts()
    })
}

#[test]
fn a_type_that_contradicts_an_earlier_targets_is_counted() {
    let of = |name: &str, kind| family(name, kind, vec![Metric::decode(&*good(kind)).unwrap()]);
    use MetricType::{Counter, Gauge, GaugeHistogram, Histogram, Untyped as Unknown};
    for (expected, untyped, bodies) in [
        ([1, 1], Untyped::Convert, &[of("a", Counter), of("a", Gauge)][..]),
        ([2, 2], Untyped::Convert, &[of("a", Counter), of("a", Gauge), of("a", Histogram)]),
        ([0, 0], Untyped::Convert, &[of("a", Counter), of("a", Counter), of("b", Gauge)]),
        ([1, 1], Untyped::Convert, &[of("a", Counter), of("a", Unknown)]),
        // Text has one word for both.
        ([1, 0], Untyped::Convert, &[of("a", Histogram), of("a", GaugeHistogram)]),
        ([0, 0], Untyped::Convert, &[of("a_total", Counter), of("a_total", Unknown)]),
        ([1, 1], Untyped::Keep, &[of("a_total", Counter), of("a_total", Unknown)]),
        ([0, 0], Untyped::Drop, &[of("a", Counter), of("a", Unknown)]),
        // Nothing of the first is in the answer.
        ([0, 0], Untyped::Convert, &[family("a", Counter, vec![gauge(1.0)]), of("a", Gauge)]),
    ] {
        assert_eq!(conflicts(untyped, bodies), expected, "{bodies:?}");
    }
}

#[test]
fn a_metric_of_labels_without_end_is_dropped_alone() {
    let with_labels = |count: usize| Metric {
        label: (0..count).map(|number| label(&format!("a{number}"), "")).collect(),
        ..counter(1.0)
    };
    let metrics = vec![counter(1.0), with_labels((1 << 16) + 1), counter(2.0), with_labels(1 << 16)];
    let body = encode(&[family("m", MetricType::Counter, metrics)]);
    for run in [splice_cut, to_text_cut] {
        let (_, counts) = run(&body, USUAL, Cut::Whole, End::Whole);
        assert_eq!((counts.samples, counts.dropped(DropReason::TooLong)), (3, 1));
    }
}

/// Each of these metrics would be as large in text as a family may be: writing and taking them back must not be done over
/// and over.
#[test]
fn a_family_has_the_work_of_one_done_for_it_however_often_it_does_not_fit() {
    let bucket = Bucket::default();
    let large = histogram(Histogram { bucket: vec![bucket; 3_000], ..Histogram::default() });
    let large = Metric { label: labels([("a", "x".repeat(8_000).as_str())]), ..large };
    let body =
        encode(&[family("m", MetricType::Histogram, vec![large.clone(), large, histogram(Histogram::default())])]);
    let (out, counts) = to_text_cut(&body, USUAL, Cut::Whole, End::Whole);
    assert_eq!(counts.dropped(DropReason::TooLong), 3, "nothing is left of the family's room for the last one");
    assert_eq!(out, b"");
}

#[test]
fn a_body_that_ends_within_a_message_broke_off() {
    let body = encode(&[family("m", MetricType::Counter, vec![counter(1.0)])]);
    for end in 0..=body.len() {
        for to in OUTPUTS {
            let mut engine = reading(to, &Rules::default(), Escaping::AllowUtf8);
            engine.push(&body[..end], &mut Families::default(), &mut Vec::new());
            engine.finish(End::Whole, &mut Families::default(), &mut Vec::new());
            assert_eq!(engine.is_whole(), end == 0 || end == body.len(), "{end}");
        }
    }
}
