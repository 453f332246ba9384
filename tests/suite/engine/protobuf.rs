//! Rules of the two protobuf engines that a row of the table of [`messages`](super::messages) cannot say: bytes that stay, metrics
//! and messages that are malformed, and bounds.

use prost::Message as _;
use qpext::exposition::{Counts, DropReason, End, Engine, Escaping, Families, Format, MAX_FAMILY, Rules, Untyped};

use crate::support::protobuf::*;
use crate::support::{Cut, PLAIN, SERVING_LABELS, engine_of, serving_rules};

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

const BOTH_CUTS: [Cut<'static>; 2] = [Cut::Whole, Cut::EveryByte];

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

/// Checks that the metric is dropped by both engines, and its neighbours kept.
#[track_caller]
fn is_malformed(kind: MetricType, metric: &[u8], why: &str) {
    let body = |metrics: &[&[u8]]| raw_family(&head("m", kind), metrics);
    let good = good(kind);
    for names in [Escaping::Underscores, Escaping::AllowUtf8] {
        let setting = Setting { names, ..USUAL };
        let with = body(&[&good, metric, &good]);
        let without = body(&[&good, &good]);
        for (run, cut) in [splice_cut, to_text_cut].into_iter().flat_map(|run| BOTH_CUTS.map(|cut| (run, cut))) {
            let (out, counts) = run(&with, setting, cut, End::Whole);
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
pub fn good(kind: MetricType) -> Vec<u8> {
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

pub fn summary(summary: Summary) -> Metric {
    Metric { summary: Some(summary), ..Metric::default() }
}

pub fn histogram(histogram: Histogram) -> Metric {
    Metric { histogram: Some(histogram), ..Metric::default() }
}

pub fn with_labels<'a>(own: impl IntoIterator<Item = (&'a str, &'a str)>, metric: Metric) -> Metric {
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
        for (end, reason) in [(End::Whole, DropReason::Malformed), (End::BrokenOff, DropReason::CutOff)] {
            let (out, counts) = splice_with(&body, USUAL, end);
            assert_eq!(decode(&out).unwrap().len(), 1);
            assert_eq!((counts.samples, counts.dropped(reason), counts.dropped_in_all()), (1, 1, 1));
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
pub fn native_histogram() -> Histogram {
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
