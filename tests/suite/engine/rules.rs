//! What holds of a target's rules whatever is read and whatever is written: the filter, the limit of samples, and the
//! first line that was lost. Every case runs whole and cut at every byte.

use std::num::NonZeroU64;
use std::sync::Arc;

use qpext::exposition::{
    Counts, DropReason, End, Engine, Escaping, Families, Filter, FirstDropped, Format, LabelSet, MAX_FAMILY, MAX_LINE,
    MAX_QUOTED, OpenMetricsVersion, Rules, Untyped, Unwritten,
};

use crate::engine::protobuf::{counter, gauge, histogram, native_histogram, untyped};
use crate::support::protobuf::*;
use crate::support::{Cut, Lines, PLAIN, engine_of, reader, verbatim};

/// A format that is read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Text,
    OpenMetrics,
    Protobuf,
}

use Form::{OpenMetrics, Protobuf, Text};

/// The outputs of bodies in this format.
pub fn outputs(from: Form) -> &'static [Form] {
    match from {
        OpenMetrics => &[OpenMetrics, Text, Protobuf],
        Text | Protobuf => &[Text, Protobuf],
    }
}

impl Form {
    /// The format in lines that it is, if it is one.
    pub fn lines(self) -> Option<Lines> {
        match self {
            Text => Some(Lines::Text),
            OpenMetrics => Some(Lines::OpenMetrics),
            Protobuf => None,
        }
    }

    pub fn format(self) -> Format {
        match self {
            Text => PLAIN,
            OpenMetrics => Format::OpenMetrics(OpenMetricsVersion::V1_0_0),
            Protobuf => Format::Protobuf,
        }
    }
}

pub fn engine(from: Form, to: Form, rules: &Rules, names: Escaping) -> Box<dyn Engine + Send> {
    engine_of(from.format(), to.format(), names, rules)
}

/// What came of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub out: Vec<u8>,
    pub counts: Counts,
    pub is_over_limit: bool,
    /// Whether the body may end where it did; nothing is told of one that has too many samples.
    pub is_whole: Option<bool>,
    pub first_dropped: Option<FirstDropped>,
}

/// Runs a body through an engine.
pub fn run(engine: Box<dyn Engine + Send>, body: &[u8], cut: Cut<'_>) -> Outcome {
    run_to(End::Whole, engine, body, cut)
}

/// As [`run`], for a body that ends so.
pub fn run_to(end: End, mut engine: Box<dyn Engine + Send>, body: &[u8], cut: Cut<'_>) -> Outcome {
    let (mut out, mut families) = (Vec::new(), Families::default());
    for chunk in cut.chunks(body) {
        engine.push(chunk, &mut families, &mut out);
    }
    engine.finish(end, &mut families, &mut out);
    Outcome {
        out,
        counts: engine.progress().counts(),
        is_over_limit: engine.progress().is_over_limit(),
        is_whole: (!engine.progress().is_over_limit()).then(|| engine.is_whole()),
        first_dropped: engine.progress().first_dropped().cloned(),
    }
}

/// Runs a body through the engine of these formats, whole and cut at every byte.
#[track_caller]
fn convert(from: Form, to: Form, rules: &Rules, body: &[u8]) -> Outcome {
    let whole = run(engine(from, to, rules, Escaping::AllowUtf8), body, Cut::Whole);
    let cut = run(engine(from, to, rules, Escaping::AllowUtf8), body, Cut::EveryByte);
    assert_eq!(cut, whole, "{from:?} as {to:?}");
    whole
}

/// An output, as a test can say what it expects at a glance.
fn shown(to: Form, out: &[u8]) -> String {
    match to {
        Text | OpenMetrics => String::from_utf8(out.to_vec()).expect("text in, text out"),
        Protobuf => show(&decode(out).expect("the answer is valid")),
    }
}

fn filtered(keep: Option<&str>, drop: Option<&str>) -> Rules {
    Rules { filter: Some(Arc::new(Filter::new(keep, drop).expect("it is an expression"))), ..Rules::default() }
}

fn limited(samples: u64) -> Rules {
    Rules { sample_limit: NonZeroU64::new(samples), ..Rules::default() }
}

#[track_caller]
fn filters(from: Form, (keep, drop): (Option<&str>, Option<&str>), body: &[u8], dropped: u64, expected: &[&str]) {
    for (to, expected) in outputs(from).iter().zip(expected) {
        let outcome = convert(from, *to, &filtered(keep, drop), body);
        assert_eq!(shown(*to, &outcome.out), *expected, "{from:?} as {to:?}, {keep:?} {drop:?}");
        assert_eq!(outcome.counts.dropped(DropReason::Filtered), dropped, "{from:?} as {to:?}");
        assert_eq!(outcome.counts.dropped_in_all(), dropped, "{from:?} as {to:?}");
        assert_eq!(outcome.first_dropped, None, "the operator said so");
    }
}

#[test]
fn a_name_that_is_reserved_is_renamed_whether_or_not_labels_are_added() {
    let text = "# TYPE a gauge\na{container_name=\"x\",b=\"y\",} 1\na{b=\"y\"} 2\na 3\n";
    let own = [vec![("container_name", "x"), ("b", "y")], vec![("b", "y")], vec![]];
    let with = |labels: &[(&str, &str)], index: usize| Metric {
        label: self::labels(labels.iter().copied()),
        ..gauge(index as f64 + 1.0)
    };
    let metrics = own.iter().enumerate().map(|(index, labels)| with(labels, index));
    let messages = encode(&[family("a", MetricType::Gauge, metrics.collect())]);
    for (added, expected) in [
        (&[][..], ["{exported_container_name=\"x\",b=\"y\"", "{b=\"y\"", ""]),
        (&[("s", "iris")], ["{exported_container_name=\"x\",b=\"y\",s=\"iris\"", "{b=\"y\",s=\"iris\"", "{s=\"iris\""]),
    ] {
        let labels = LabelSet::new(added.iter().copied()).unwrap();
        let rules = Rules::new(labels.reserving("container_name"), Untyped::Keep);
        for from in [Text, OpenMetrics, Protobuf] {
            let body = match from {
                Text => text.as_bytes().to_vec(),
                OpenMetrics => format!("{text}# EOF\n").into_bytes(),
                Protobuf => messages.clone(),
            };
            for to in outputs(from) {
                let out = convert(from, *to, &rules, &body).out;
                // Whatever it is, it is read as text here; a comma may stand before the brace.
                let written = match to {
                    Protobuf => {
                        let back = convert(Protobuf, Text, &Rules::default(), &out);
                        shown(Text, &back.out)
                    }
                    Text | OpenMetrics => shown(*to, &out).replace(",}", "}"),
                };
                let samples: Vec<&str> = written.lines().filter(|line| !line.starts_with('#')).collect();
                let expected = expected.iter().enumerate().map(|(index, labels)| {
                    let brace = if labels.is_empty() { "" } else { "}" };
                    format!("a{labels}{brace} {}", index + 1)
                });
                let expected: Vec<String> = expected.collect();
                assert_eq!(samples, expected, "{from:?} as {to:?}");
            }
        }
    }
}

#[test]
fn a_family_is_written_if_its_whole_name_is_to_be_kept_and_not_dropped() {
    let body = b"# HELP a Words.\n# TYPE a gauge\na 1\n# TYPE ab gauge\nab 2\n# TYPE b gauge\n# TYPE abc gauge\nabc 3\nabd 4\n";
    for (keep, drop, names) in [
        (None, None, "a ab abc abd"),
        (Some("a"), None, "a"),
        (Some("a|ab"), None, "a ab"),
        (Some("a."), None, "ab"),
        (None, Some("a.*"), ""),
        (None, Some("ab"), "a abc abd"),
        (Some("ab.*"), Some(".*c|a"), "ab abd"),
        (Some(""), None, ""),
        (None, Some(""), "a ab abc abd"),
        (Some("(?i)AB"), None, "ab"),
        (Some(r"\pL\w"), None, "ab"),
    ] {
        for to in outputs(Text) {
            let outcome = convert(Text, *to, &filtered(keep, drop), body);
            let written = match to {
                Protobuf => decode(&outcome.out).unwrap().iter().map(|it| it.name().to_owned()).collect(),
                _ => (reader::read(&outcome.out).unwrap().samples.into_iter())
                    .map(|sample| sample.name)
                    .collect::<Vec<_>>(),
            };
            assert_eq!(written.join(" "), names, "{keep:?} {drop:?}");
            assert_eq!(outcome.counts.dropped(DropReason::Filtered), 4 - written.len() as u64);
        }
    }
}

#[test]
fn what_is_no_expression_or_too_large_a_one_is_refused() {
    for wrong in ["(", "a)|(b", "[", r"\Qa\E", "(?:(?:[^a]{1000}){1000}){10}"] {
        assert!(Filter::new(Some(wrong), None).is_err(), "{wrong}");
        assert!(Filter::new(None, Some(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn the_parts_of_a_histogram_and_a_summary_go_with_its_name() {
    let body = b"# HELP a Words.\n# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_sum 2\na_count 1\n# TYPE b summary\nb_sum 3\nb_count 4\n\
                 # TYPE c gauge\nc_sum 5\n";
    filters(
        Text,
        (None, Some("[ab]_.*")),
        body,
        0,
        &[
            "# HELP a Words.\n# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_sum 2\na_count 1\n\
             # TYPE b summary\nb_sum 3\nb_count 4\n# TYPE c gauge\nc_sum 5\n",
            "a histogram help \"Words.\"\n  {} count 1 sum 2 inf:1\nb summary\n  {} count 4 sum 3\nc_sum untyped\n  {} 5\n",
        ],
    );
    filters(
        Text,
        (Some("b|c_sum"), None),
        body,
        3,
        &["# TYPE b summary\nb_sum 3\nb_count 4\nc_sum 5\n", "b summary\n  {} count 4 sum 3\nc_sum untyped\n  {} 5\n"],
    );
}

/// Its own metadata is written where any of its samples is, and only there.
#[test]
fn a_family_of_open_metrics_goes_by_the_names_that_text_has_for_its_samples() {
    let body = b"# HELP a Words.\n# TYPE a counter\na_created 1\na_total 2\n# TYPE b info\nb_info{x=\"y\"} 1\n\
                 # TYPE c gaugehistogram\nc_bucket{le=\"+Inf\"} 1\nc_gsum 2\nc_gcount 1\n# HELP d Words.\n# TYPE d counter\n# EOF\n";
    filters(
        OpenMetrics,
        (Some("a_total|b|d_total"), None),
        body,
        5,
        &[
            "# HELP a Words.\n# TYPE a counter\na_total 2\n# HELP d Words.\n# TYPE d counter\n",
            "# HELP a_total Words.\n# TYPE a_total counter\na_total 2\n# HELP d_total Words.\n# TYPE d_total counter\n",
            "a_total counter help \"Words.\"\n  {} 2\n",
        ],
    );
    filters(
        OpenMetrics,
        (None, Some("a|.*_created|c|[cd]_.*")),
        body,
        4,
        &[
            "# HELP a Words.\n# TYPE a counter\na_total 2\n# TYPE b info\nb_info{x=\"y\"} 1\n",
            "# HELP a_total Words.\n# TYPE a_total counter\na_total 2\n# TYPE b_info gauge\nb_info{x=\"y\"} 1\n",
            "a_total counter help \"Words.\"\n  {} 2\nb_info gauge\n  {x=\"y\"} 1\n",
        ],
    );
    filters(
        OpenMetrics,
        (Some("c_gsum"), None),
        body,
        5,
        &["# TYPE c_gsum unknown\nc_gsum 2\n", "# TYPE c_gsum gauge\nc_gsum 2\n", "c_gsum untyped\n  {} 2\n"],
    );
}

#[test]
fn a_family_of_which_only_dropped_samples_came_has_no_metadata() {
    let body = b"# HELP a Words.\n# TYPE a counter\na_created 1\n# TYPE b gauge\nb 2\n# HELP a Words.\n# EOF\n";
    filters(
        OpenMetrics,
        (None, Some(".*_created")),
        body,
        1,
        &["# TYPE b gauge\nb 2\n", "# TYPE b gauge\nb 2\n", "b gauge\n  {} 2\n"],
    );
}

/// Without its counter, the time at which it was created is told to nobody in protobuf, and that is no fault.
#[test]
fn a_time_of_creation_whose_counter_was_dropped_goes_with_it_in_protobuf() {
    let body = b"# TYPE a counter\na_total 2\na_created 1\n# EOF\n";
    let rules = filtered(None, Some("a_total"));
    let dropped = |to| convert(OpenMetrics, to, &rules, body).counts.dropped(DropReason::Filtered);
    assert_eq!([OpenMetrics, Text, Protobuf].map(dropped), [1, 1, 2]);
    let outcome = convert(OpenMetrics, Protobuf, &rules, body);
    assert_eq!((outcome.out, outcome.counts.samples), (Vec::new(), 0));
    assert_eq!(outcome.counts.dropped_in_all(), 2);
}

#[test]
fn a_quoted_name_is_matched_without_quotes_and_escapes() {
    let body =
        b"# TYPE \"a.\\\"b\" gauge\n{\"a.\\\"b\"} 1\n# TYPE \"a.b\" gauge\n{\"a.b\"} 2\n# TYPE a_b gauge\na_b 3\n";
    for (keep, text, protobuf) in [
        (r#"a\."b"#, "# TYPE \"a.\\\"b\" gauge\n{\"a.\\\"b\"} 1\n", "a.\"b gauge\n  {} 1\n"),
        (r"a\.b", "# TYPE \"a.b\" gauge\n{\"a.b\"} 2\n", "a.b gauge\n  {} 2\n"),
        ("a_b", "# TYPE a_b gauge\na_b 3\n", "a_b gauge\n  {} 3\n"),
    ] {
        filters(Text, (Some(keep), None), body, 2, &[text, protobuf]);
        // Whoever reads it.
        let outcome = run(engine(Text, Text, &filtered(Some(keep), None), Escaping::Underscores), body, Cut::Whole);
        assert_eq!(outcome.counts.samples, 1);
    }
}

#[test]
fn a_message_is_dropped_whole_and_counted_by_its_metrics() {
    let body = encode(&[
        family("a.b", MetricType::Gauge, vec![gauge(1.0), gauge(2.0)]),
        family("c_total", MetricType::Counter, vec![counter(3.0)]),
        family("d", MetricType::Histogram, vec![histogram(Histogram::default())]),
        family("e", MetricType::Gauge, vec![]),
    ]);
    filters(
        Protobuf,
        (Some("c_total"), None),
        &body,
        3,
        &["# TYPE c_total counter\nc_total 3\n", "c_total counter\n  {} 3\n"],
    );
    filters(
        Protobuf,
        (None, Some(r"[cde].*|a_b")),
        &body,
        2,
        &["# TYPE \"a.b\" gauge\n{\"a.b\"} 1\n{\"a.b\"} 2\n", "a.b gauge\n  {} 1\n  {} 2\n"],
    );
}

/// Whoever makes up names without end can be told by them.
#[test]
fn dropped_families_leave_their_room_to_others() {
    let mut body = String::new();
    for number in 0..60_000 {
        body += &format!("# HELP made_up_{number} X\n# TYPE made_up_{number} gauge\nmade_up_{number} 1\n");
    }
    body += "good 2\n";
    let messages = (0..60_000).map(|number| family(&format!("made_up_{number}"), MetricType::Gauge, vec![gauge(1.0)]));
    let messages: Vec<_> = messages.chain([family("good", MetricType::Gauge, vec![gauge(2.0)])]).collect();
    let rules = filtered(None, Some("made_up_.*"));
    for (from, to, body) in [
        (Text, Text, body.as_bytes()),
        (Text, Protobuf, body.as_bytes()),
        (OpenMetrics, OpenMetrics, body.as_bytes()),
        (Protobuf, Text, &encode(&messages)),
    ] {
        let outcome = run(engine(from, to, &rules, Escaping::AllowUtf8), body, Cut::Whole);
        assert_eq!(outcome.counts.samples, 1, "{from:?} as {to:?}");
        assert_eq!(outcome.counts.dropped(DropReason::NoRoom), 0);
        assert_eq!(outcome.counts.dropped(DropReason::Filtered), 60_000);
    }
}

#[test]
fn the_filter_is_asked_before_the_rule_for_untyped_families() {
    let rules = Rules { untyped: Untyped::Drop, ..filtered(None, Some("a")) };
    let text = convert(Text, Text, &rules, b"a 1\nb 2\n").counts;
    let body = encode(&["a", "b"].map(|name| family(name, MetricType::Untyped, vec![untyped(1.0)])));
    let protobuf = convert(Protobuf, Text, &rules, &body).counts;
    for counts in [text, protobuf] {
        assert_eq!(counts.dropped(DropReason::Filtered), 1);
        assert_eq!(counts.dropped(DropReason::Untyped), 1);
    }
}

#[test]
fn nothing_is_written_from_the_first_sample_beyond_the_limit_on() {
    let body = b"# TYPE a gauge\na{x=\"1\"} 1\nnot a sample\na{x=\"2\"} 2\n# HELP b Words.\n# TYPE b gauge\nb 3\nnor this\n# EOF\n";
    for from in [Text, OpenMetrics] {
        for to in outputs(from) {
            for (limit, written, is_over) in [(1, 1, true), (2, 2, true), (3, 3, false), (4, 3, false)] {
                let outcome = convert(from, *to, &limited(limit), body);
                assert_eq!(outcome.counts.samples, written, "{from:?} as {to:?}, {limit}");
                assert_eq!(outcome.is_over_limit, is_over, "{from:?} as {to:?}, {limit}");
                let malformed = if is_over { 1 } else { 2 };
                assert_eq!(outcome.counts.dropped_in_all(), malformed, "what is left out is not counted");
                let expected: String = match to {
                    Protobuf => ["a gauge\n  {x=\"1\"} 1\n", "  {x=\"2\"} 2\n", "b gauge help \"Words.\"\n  {} 3\n"],
                    _ => ["# TYPE a gauge\na{x=\"1\"} 1\n", "a{x=\"2\"} 2\n", "# HELP b Words.\n# TYPE b gauge\nb 3\n"],
                }[..written as usize]
                    .concat();
                assert_eq!(shown(*to, &outcome.out), expected, "{from:?} as {to:?}, {limit}");
            }
        }
    }
}

#[test]
fn a_metric_that_is_taken_apart_and_beyond_the_limit_leaves_nothing() {
    let bucket =
        |at: f64, count: u64| Bucket { upper_bound: Some(at), cumulative_count: Some(count), ..Bucket::default() };
    let falling = || {
        let bucket = vec![bucket(1.0, 3), bucket(f64::INFINITY, 2)];
        histogram(Histogram { sample_count: Some(2), sample_sum: Some(1.0), bucket, ..Histogram::default() })
    };
    let body = encode(&[family("a", MetricType::Histogram, vec![falling(), falling()])]);
    let outcome = convert(Protobuf, Protobuf, &limited(5), &body);
    assert_eq!(
        shown(Protobuf, &outcome.out),
        "a_bucket untyped\n  {le=\"1.0\"} 3\n  {le=\"+Inf\"} 2\na_sum untyped\n  {} 1\na_count untyped\n  {} 2\n"
    );
    assert_eq!((outcome.counts.samples, outcome.is_over_limit), (4, true));
}

#[test]
fn what_is_dropped_is_not_beyond_the_limit() {
    let rules = Rules { untyped: Untyped::Drop, sample_limit: NonZeroU64::new(1), ..filtered(None, Some("c.*")) };
    let body = b"# TYPE c gauge\nc 1\n# TYPE a gauge\na 1\nc 2\nuntyped 3\nnot a sample\n# TYPE ca gauge\nca 4\n";
    for to in outputs(Text) {
        let outcome = convert(Text, *to, &rules, body);
        assert_eq!((outcome.counts.samples, outcome.is_over_limit), (1, false), "{to:?}");
        assert_eq!(outcome.counts.dropped(DropReason::Filtered), 3);
        let outcome = convert(Text, *to, &rules, &[&body[..], b"a{x=\"y\"} 2\n"].concat());
        assert_eq!((outcome.counts.samples, outcome.is_over_limit), (1, true), "{to:?}");
    }
}

/// A histogram without its count or a summary without its sum would tell something false.
#[test]
fn lines_that_are_put_together_are_cut_in_front_of_a_family_that_may_lack_a_part() {
    let body = b"# TYPE a gauge\na 1\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n# TYPE b gauge\nb 1\n";
    let (a, h) = ("a gauge\n  {} 1\n", "h histogram\n  {} count 2 sum 3 1:1 inf:2\n");
    for (limit, samples, expected) in
        [(1, 1, a.to_owned()), (2, 1, a.to_owned()), (4, 1, a.to_owned()), (5, 5, [a, h].concat())]
    {
        let outcome = convert(Text, Protobuf, &limited(limit), body);
        assert_eq!(shown(Protobuf, &outcome.out), expected, "{limit}");
        assert_eq!((outcome.counts.samples, outcome.is_over_limit), (samples, true), "{limit}");
        assert_eq!(outcome.counts.dropped_in_all(), 0, "{limit}");
    }
    // A counter has its value, and the time at which the next was created is no fault.
    let body = b"# TYPE a counter\na_total{x=\"1\"} 1\na_created{x=\"1\"} 2\na_created{x=\"2\"} 2\na_total{x=\"2\"} 1\n# EOF\n";
    for (limit, samples) in [(1, 1), (2, 2), (3, 2)] {
        let outcome = convert(OpenMetrics, Protobuf, &limited(limit), body);
        assert_eq!((outcome.counts.samples, outcome.is_over_limit), (samples, true), "{limit}");
        assert_eq!(outcome.counts.dropped_in_all(), 0, "{limit}");
        assert!(shown(Protobuf, &outcome.out).starts_with("a_total counter\n  {x=\"1\"} 1"), "{limit}");
    }
}

#[test]
fn messages_are_cut_between_two_metrics() {
    let buckets = Histogram { sample_count: Some(1), bucket: vec![Bucket::default()], ..Histogram::default() };
    let body = encode(&[
        family("a", MetricType::Gauge, vec![gauge(1.0), gauge(2.0)]),
        family("h", MetricType::Histogram, vec![histogram(buckets)]),
        family("b", MetricType::Gauge, vec![gauge(3.0)]),
    ]);
    // Both are told the families behind their last metric only where one of theirs is left.
    for (limit, written, families) in [(1, 1, 1), (2, 2, 1), (3, 3, 2), (4, 4, 3)] {
        let outcome = convert(Protobuf, Protobuf, &limited(limit), &body);
        assert_eq!((outcome.counts.samples, outcome.is_over_limit), (written, limit < 4));
        assert_eq!(decode(&outcome.out).unwrap().len(), families);
    }
    // In text the histogram is four lines.
    for (limit, written) in [(1, 1), (2, 2), (3, 2), (5, 2), (6, 6), (7, 7)] {
        let outcome = convert(Protobuf, Text, &limited(limit), &body);
        assert_eq!((outcome.counts.samples, outcome.is_over_limit), (written, limit < 7), "{limit}");
        let read = reader::read(&outcome.out).unwrap();
        assert_eq!(read.samples.len() as u64, written);
        assert_eq!(read.types.len(), [1, 1, 2, 3][[1, 2, 6, 7].iter().position(|it| *it == written).unwrap()]);
    }
}

/// The name may stand behind the metrics.
#[test]
fn what_a_message_says_of_itself_is_kept_behind_the_limit() {
    let whole = encode(&[family("a", MetricType::Gauge, vec![gauge(1.0), gauge(2.0)])]);
    let (head, metrics) = (family("a", MetricType::Gauge, vec![]), &whole[1..]);
    let head = &encode(&[head])[1..];
    let message = [metrics.strip_prefix(head).expect("the head goes first"), head].concat();
    let body = [&[message.len() as u8], message.as_slice()].concat();
    let outcome = convert(Protobuf, Protobuf, &limited(1), &body);
    assert_eq!(shown(Protobuf, &outcome.out), "a gauge\n  {} 1\n");
}

#[test]
fn what_is_passed_on_verbatim_is_cut_at_the_line() {
    let body = b"# TYPE a gauge\na 1\n# nobody counts\n\nb 2\nb 3\nb 4\n# HELP c Words.\n";
    for (limit, written, is_over) in [(None, 8, false), (Some(3), 6, true), (Some(4), 8, false), (Some(1), 4, true)] {
        for cut in [Cut::Whole, Cut::EveryByte] {
            let rules = limit.map_or_else(Rules::default, limited);
            let outcome = run(verbatim(Escaping::Underscores, &rules), body, cut);
            let lines: Vec<&[u8]> = body.split_inclusive(|byte| *byte == b'\n').collect();
            let expected = lines[..written].concat();
            assert_eq!(String::from_utf8(outcome.out), String::from_utf8(expected), "{limit:?}");
            assert_eq!(outcome.is_over_limit, is_over, "{limit:?}");
            assert_eq!(outcome.counts.dropped_in_all(), 0);
        }
    }
}

#[test]
fn who_goes_on_checked_goes_on_with_the_limit_and_the_numbers_of_the_lines() {
    let body = b"a 1\nb 2\nnot a sample\nc 3\nd 4\nnor this\n";
    for place in 0..=body.len() {
        let (mut families, mut out) = (Families::default(), Vec::new());
        let mut verbatim = verbatim(Escaping::AllowUtf8, &limited(3));
        verbatim.push(&body[..place], &mut families, &mut out);
        let mut checked = verbatim.check_the_rest().expect("it was not checked");
        checked.push(&body[place..], &mut families, &mut out);
        checked.finish(End::Whole, &mut families, &mut out);
        assert_eq!(checked.progress().counts().samples, 3, "{place}");
        assert!(checked.progress().is_over_limit(), "{place}");
        let first = checked.progress().first_dropped().map(|first| (first.line, first.text.as_str()));
        assert_eq!(first, Some((3, "not a sample")), "{place}");
    }
}

#[test]
fn the_first_line_that_was_lost_is_shown_with_its_number() {
    let first = |line, text: &str, reason| Some(FirstDropped { line, text: text.to_owned(), reason });
    let long = format!("not a sample {}", "\u{fc}".repeat(200));
    let too_long = format!("a{{x=\"{}\"}} 1\n", "y".repeat(MAX_LINE));
    let cases: [(Form, Vec<u8>, Option<FirstDropped>); 9] = [
        (Text, b"a 1\n\n# comment\nb 2\n".to_vec(), None),
        (
            Text,
            b"a 1\n\n# comment\n not\ta sample\r\nnor this\n".to_vec(),
            first(4, "not\\ta sample\\r", DropReason::Malformed),
        ),
        (Text, b"# TYPE a foo\n".to_vec(), first(1, "# TYPE a foo", DropReason::Malformed)),
        (Text, long.clone().into_bytes(), first(1, &long[..MAX_QUOTED - 1], DropReason::Malformed)),
        (Text, b"\xff\n".to_vec(), first(1, "\u{fffd}", DropReason::Malformed)),
        (
            Text,
            format!("a 1\n{too_long}not a sample\n").into_bytes(),
            first(2, &too_long[..MAX_QUOTED], DropReason::TooLong),
        ),
        (
            OpenMetrics,
            b"# TYPE a counter\na_total 1 # {\n# EOF\n".to_vec(),
            first(2, "a_total 1 # {", DropReason::Malformed),
        ),
        (OpenMetrics, b"# EOF\na 1\n".to_vec(), first(2, "# EOF", DropReason::Malformed)),
        (Text, b"# TYPE a summary\na_count -1\n".to_vec(), first(2, "a_count -1", DropReason::Malformed)),
    ];
    for (index, (from, body, expected)) in cases.into_iter().enumerate() {
        for to in outputs(from) {
            if index == 8 && *to != Protobuf {
                // Only there is it at fault.
                continue;
            }
            let outcome = convert(from, *to, &Rules::default(), &body);
            assert_eq!(outcome.first_dropped, expected, "{from:?} as {to:?}, {index}");
        }
    }
}

#[test]
fn what_an_answers_format_has_no_place_for_is_counted() {
    let native = encode(&[family("a.b", MetricType::Histogram, vec![histogram(native_histogram())])]);
    let lines = b"# TYPE \"a.b\" counter\n{\"a.b_total\"} 1 # {} 1\n{\"a.b_total\",c=\"d\"} 1 # {} 1\n# EOF\n";
    let unwritten = |from, to, body: &[u8]| {
        run(engine(from, to, &Rules::default(), Escaping::Underscores), body, Cut::Whole).counts.unwritten
    };
    let of_native = Unwritten { exemplars: 0, native_histograms: 1, utf8_names: 1 };
    assert_eq!(unwritten(Protobuf, Text, &native), of_native);
    assert_eq!(unwritten(Protobuf, Protobuf, &native), Unwritten { native_histograms: 0, ..of_native });
    let of_lines = Unwritten { exemplars: 2, native_histograms: 0, utf8_names: 1 };
    assert_eq!(unwritten(OpenMetrics, Text, lines), of_lines);
    assert_eq!(unwritten(OpenMetrics, OpenMetrics, lines), Unwritten { exemplars: 0, ..of_lines });
}

#[test]
fn the_first_line_without_room_is_shown() {
    let body: String = (0..60_000).map(|number| format!("made_up_{number} 1\n")).collect();
    for to in outputs(Text) {
        let outcome = run(engine(Text, *to, &Rules::default(), Escaping::AllowUtf8), body.as_bytes(), Cut::Whole);
        let first = outcome.first_dropped.expect("there are too many");
        assert_eq!(first.reason, DropReason::NoRoom);
        assert_eq!(first.line, outcome.counts.samples + 1);
        assert_eq!(first.text, format!("made_up_{} 1", first.line - 1));
    }
}

#[test]
fn the_first_message_that_lost_a_metric_is_shown_by_its_familys_name() {
    let good = encode(&[family("a", MetricType::Gauge, vec![gauge(1.0)])]);
    let bad = encode(&[family("b.c", MetricType::Gauge, vec![gauge(1.0), counter(2.0), counter(3.0)])]);
    // No type has this number.
    let unreadable = [&[7, 10, 1, b'd', 24, 99, 34, 0][..]].concat();
    let too_long = {
        let mut length = Vec::new();
        prost::encoding::encode_varint(MAX_FAMILY as u64 + 1, &mut length);
        length
    };
    for (body, expected) in [
        (good.clone(), None),
        ([good.clone(), bad.clone(), unreadable.clone()].concat(), Some((2, "b.c"))),
        ([good.clone(), unreadable, bad].concat(), Some((2, "d"))),
    ] {
        for to in outputs(Protobuf) {
            let first = convert(Protobuf, *to, &Rules::default(), &body).first_dropped;
            let first = first.map(|first| (first.line, first.text, first.reason));
            let expected = expected.map(|(line, text)| (line, text.to_owned(), DropReason::Malformed));
            assert_eq!(first, expected);
        }
    }
    for to in outputs(Protobuf) {
        let mut engine = engine(Protobuf, *to, &Rules::default(), Escaping::AllowUtf8);
        engine.push(&[good.clone(), too_long.clone()].concat(), &mut Families::default(), &mut Vec::new());
        let first = engine.progress().first_dropped().expect("it is too long");
        assert_eq!((first.line, first.text.as_str(), first.reason), (2, "", DropReason::TooLong));
    }
}
