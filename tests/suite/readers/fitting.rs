//! Samples of OpenMetrics that do not fit together: strict readers refuse a whole answer for them, so they go out in another order, or as
//! families of unknown type.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use qpext::exposition::{Counts, DropReason, End, Escaping, Families, Format, OpenMetricsVersion, Rules, Untyped};

use super::{read_as, refusals};
use crate::engine::properties::tries;
use crate::support::engine_of;
use crate::support::readers::{Readings, Sample};

const OPEN_METRICS: Format = Format::OpenMetrics(OpenMetricsVersion::V1_0_0);

/// What comes of a body, and what it counts.
fn written(body: &str) -> (String, Counts) {
    let rules = Rules { untyped: Untyped::Keep, ..Rules::default() };
    let mut engine = engine_of(OPEN_METRICS, OPEN_METRICS, Escaping::AllowUtf8, &rules);
    let (mut out, mut families) = (Vec::new(), Families::default());
    engine.push(format!("{body}# EOF\n").as_bytes(), &mut families, &mut out);
    engine.finish(End::Whole, &mut families, &mut out);
    (String::from_utf8(out).expect("it is text"), engine.progress().counts())
}

fn read(body: &str) -> Readings {
    read_as(OPEN_METRICS, Escaping::AllowUtf8, format!("{body}# EOF\n").as_bytes())
}

/// A body, and what comes of it; nothing, where that is the body itself.
const CASES: &[(&str, &str, &str)] = &[
    (
        "what fits goes out as it came",
        "# HELP h Words.\n# TYPE h histogram\nh_bucket{a=\"1\",le=\"1.0\"} 1 # {t=\"x\"} 0.5\nh_bucket{a=\"1\",le=\"+Inf\"} 2\n\
         h_count{a=\"1\"} 2\nh_sum{a=\"1\"} 3\nh_created{a=\"1\"} 1.5\n# TYPE c counter\nc_total 1 2 # {} 1\nc_created 1 2\n\
         # TYPE s summary\ns{quantile=\"0.5\"} NaN\ns_count 1\ns_sum 2\n# TYPE i info\ni_info{a=\"b\"} 1\n\
         # TYPE e stateset\ne{e=\"on\"} 1\ne{e=\"off\"} 0\n# TYPE g gauge\ng{a=\"1\"} -1 1\ng{a=\"1\"} NaN 2\n\
         # TYPE d gaugehistogram\nd_bucket{le=\"+Inf\"} 1\nd_gcount 1\nd_gsum 2\n",
        "",
    ),
    (
        "the samples of each metric stand together",
        "# TYPE h histogram\nh_bucket{a=\"1\",le=\"+Inf\"} 2\nh_bucket{le=\"1.0\",a=\"1\"} 1\nh_bucket{a=\"2\",le=\"+Inf\"} 3\n\
         h_count{a=\"1\"} 2\nh_count{a=\"2\"} 3\nh_sum{a=\"1\"} 0\nh_sum{a=\"2\"} 0\n",
        "# TYPE h histogram\nh_bucket{le=\"1.0\",a=\"1\"} 1\nh_bucket{a=\"1\",le=\"+Inf\"} 2\nh_sum{a=\"1\"} 0\nh_count{a=\"1\"} 2\n\
         h_bucket{a=\"2\",le=\"+Inf\"} 3\nh_sum{a=\"2\"} 0\nh_count{a=\"2\"} 3\n",
    ),
    (
        "a series in two places stands in one, in the order of its times",
        "# TYPE g gauge\ng{a=\"1\",b=\"1\"} 2 2\ng{a=\"2\"} 1\ng{b=\"1\",a=\"1\"} 1 1\n",
        "# TYPE g gauge\ng{b=\"1\",a=\"1\"} 1 1\ng{a=\"1\",b=\"1\"} 2 2\ng{a=\"2\"} 1\n",
    ),
    (
        "no reader but Prometheus gives a gauge histogram a time of creation",
        "# TYPE d gaugehistogram\nd_created 1\nd_bucket{le=\"+Inf\"} 1\nd_gcount 1\nd_gsum 2\n",
        "# TYPE d gaugehistogram\nd_bucket{le=\"+Inf\"} 1\nd_gsum 2\nd_gcount 1\nd_created 1\n",
    ),
    (
        "a histogram without its last bucket",
        "# HELP h Words.\n# TYPE h histogram\nh_bucket{le=\"1\"} 1 # {t=\"# {\"} 0.5\nh_count 1\nh_sum 2\n",
        "# HELP h_bucket Words.\n# TYPE h_bucket unknown\nh_bucket{le=\"1.0\"} 1\n# HELP h_sum Words.\n# TYPE h_sum unknown\nh_sum 2\n\
         # HELP h_count Words.\n# TYPE h_count unknown\nh_count 1\n",
    ),
    (
        "a bucket without a bound, and a bound in a label of another name",
        "# TYPE h histogram\nh_bucket{xle=\"1\",a=\"le=\"} 1\nh_bucket{le=\"+Inf\"} 2\n",
        "# TYPE h_bucket unknown\nh_bucket{xle=\"1\",a=\"le=\"} 1\nh_bucket{le=\"+Inf\"} 2\n",
    ),
    (
        "buckets that fall",
        "# TYPE h histogram\nh_bucket{le=\"1.0\"} 3\nh_bucket{le=\"+Inf\"} 2\n",
        "# TYPE h_bucket unknown\nh_bucket{le=\"1.0\"} 3\nh_bucket{le=\"+Inf\"} 2\n",
    ),
    (
        "a count that is not that of the last bucket",
        "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_count 3\nh_sum 1\n",
        "# TYPE h_bucket unknown\nh_bucket{le=\"+Inf\"} 2\n# TYPE h_sum unknown\nh_sum 1\n# TYPE h_count unknown\nh_count 3\n",
    ),
    (
        "a sum without a count",
        "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\n",
        "# TYPE h_bucket unknown\nh_bucket{le=\"+Inf\"} 2\n# TYPE h_sum unknown\nh_sum 3\n",
    ),
    (
        "a sum that is no number",
        "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_count 2\nh_sum NaN\n",
        "# TYPE h_bucket unknown\nh_bucket{le=\"+Inf\"} 2\n# TYPE h_sum unknown\nh_sum NaN\n# TYPE h_count unknown\nh_count 2\n",
    ),
    (
        "a count that is none",
        "# TYPE s summary\ns_count 1.5\ns_sum 1\n",
        "# TYPE s_sum unknown\ns_sum 1\n# TYPE s_count unknown\ns_count 1.5\n",
    ),
    (
        "a quantile that is none",
        "# TYPE s summary\ns{quantile=\"1.5\"} 1\ns{quantile=\"1\"} 1\n",
        "# TYPE s unknown\ns{quantile=\"1.5\"} 1\ns{quantile=\"1.0\"} 1\n",
    ),
    (
        "a value of a quantile below 0",
        "# TYPE s summary\ns{quantile=\"0.5\"} -1\n",
        "# TYPE s unknown\ns{quantile=\"0.5\"} -1\n",
    ),
    ("a counter below 0", "# TYPE c counter\nc_total -1 # {} 1\n", "# TYPE c_total unknown\nc_total -1\n"),
    ("a counter that is no number", "# TYPE c counter\nc_total NaN\n", "# TYPE c_total unknown\nc_total NaN\n"),
    (
        "a time of creation of nothing",
        "# TYPE c counter\nc_total{a=\"1\"} 1\nc_created{a=\"2\"} 2\n",
        "# TYPE c_total unknown\nc_total{a=\"1\"} 1\n# TYPE c_created unknown\nc_created{a=\"2\"} 2\n",
    ),
    ("an info that is not 1", "# TYPE i info\ni_info{a=\"b\"} 2\n", "# TYPE i_info unknown\ni_info{a=\"b\"} 2\n"),
    ("a state without a name", "# TYPE e stateset\ne{a=\"b\"} 1\n", "# TYPE e unknown\ne{a=\"b\"} 1\n"),
    ("a state that is neither on nor off", "# TYPE e stateset\ne{e=\"b\"} 2\n", "# TYPE e unknown\ne{e=\"b\"} 2\n"),
    (
        "quoted names",
        "# TYPE \"h.x\" histogram\n{\"h.x_bucket\",\"a.b\"=\"c\",le=\"1\"} 1\n{\"h.x_bucket\",\"a.b\"=\"c\",le=\"2\"} 1\n{\"h.x_count\"} 1\n",
        "# TYPE \"h.x_bucket\" unknown\n{\"h.x_bucket\",\"a.b\"=\"c\",le=\"1.0\"} 1\n{\"h.x_bucket\",\"a.b\"=\"c\",le=\"2.0\"} 1\n\
         # TYPE \"h.x_count\" unknown\n{\"h.x_count\"} 1\n",
    ),
    (
        "a histogram with two times",
        "# TYPE h histogram\nh_bucket{le=\"1.0\"} 1 1\nh_bucket{le=\"+Inf\"} 1 1\nh_bucket{le=\"1.0\"} 1 2\nh_bucket{le=\"+Inf\"} 1 2\n",
        "# TYPE h_bucket unknown\nh_bucket{le=\"1.0\"} 1 1\nh_bucket{le=\"1.0\"} 1 2\nh_bucket{le=\"+Inf\"} 1 1\nh_bucket{le=\"+Inf\"} 1 2\n",
    ),
    (
        "times that differ by less than a float tells, and odd ones",
        "# TYPE g gauge\ng 1 1600000000.123456782\ng 2 1600000000.123456781\n# TYPE i gauge\ni 1 1\ni 2 1e3\n\
         # TYPE j gauge\nj 1 2\nj 2 1.123456789e3\n",
        "# TYPE g gauge\ng 2 1600000000.123456781\ng 1 1600000000.123456782\n# TYPE i gauge\ni 1 1\ni 2 1000\n\
         # TYPE j gauge\nj 1 2\nj 2 1123.456789\n",
    ),
    (
        "counts that no float tells from each other",
        "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 9007199254740993\nh_count 9007199254740992\nh_sum 1\n",
        "# TYPE h_bucket unknown\nh_bucket{le=\"+Inf\"} 9007199254740993\n# TYPE h_sum unknown\nh_sum 1\n\
         # TYPE h_count unknown\nh_count 9007199254740992\n",
    ),
    (
        "bounds of a gauge histogram, which Prometheus leaves as they are",
        "# TYPE d gaugehistogram\nd_bucket{le=\"1\"} 1\nd_bucket{le=\"1.0\"} 1 2\nd_bucket{le=\"Inf\"} 1\nd_bucket{a=\"1\"} 1\nd_bucket{le=\"+Inf\"} 1\n",
        "# TYPE d_bucket unknown\nd_bucket{le=\"1\"} 1\nd_bucket{le=\"1.0\"} 1 2\nd_bucket{le=\"+Inf\"} 1\nd_bucket{le=\"+Inf\"} 1\nd_bucket{a=\"1\"} 1\n",
    ),
    (
        "quoted names without a type, and several of one family",
        "{\"a.b\"} 1\n# TYPE \"c.x\" counter\n{\"c.x\"} 1\n{\"c.x_total\"} 1\n\
         # TYPE \"d.x\" gaugehistogram\n{\"d.x_bucket\",le=\"+Inf\"} 1\n{\"d.x_created\"} 1\n",
        "# TYPE \"a.b\" unknown\n{\"a.b\"} 1\n# TYPE \"c.x\" unknown\n{\"c.x\"} 1\n# TYPE \"c.x_total\" unknown\n{\"c.x_total\"} 1\n\
         # TYPE \"d.x_bucket\" unknown\n{\"d.x_bucket\",le=\"+Inf\"} 1\n# TYPE \"d.x_created\" unknown\n{\"d.x_created\"} 1\n",
    ),
    (
        "a carriage return that ends a help text",
        "# HELP a b\r\n# TYPE a gauge\na 1\n# HELP c d\r\r\n# TYPE c counter\nc_total -1\n",
        "# HELP a b\n# TYPE a gauge\na 1\n# HELP c_total d\n# TYPE c_total unknown\nc_total -1\n",
    ),
    (
        "a type whose samples are another family's",
        "# TYPE a_total gauge\na_total 1\n# TYPE a counter\na_total 2\n# TYPE b_bucket gauge\nb_bucket 1\n# TYPE b histogram\n",
        "# TYPE a_total gauge\na_total 1\na_total 2\n# TYPE b_bucket gauge\nb_bucket 1\n",
    ),
    (
        "an exemplar with a quote in a label",
        "# TYPE c counter\nc_total 1 # {a=\"x\\\"y\"} 1\nc_total{b=\"1\"} 1 # {a=\"#{},\\\\\"} 1\n\
         c_total{b=\"2\"} 1 # {a=\"\\\"}\\\"\"} 1\nc_total{b=\"3\"} 1 # {a=\"{\\\"x\\\"}\"} 1\n",
        "# TYPE c counter\nc_total 1\nc_total{b=\"1\"} 1 # {a=\"#{},\\\\\"} 1\n\
         c_total{b=\"2\"} 1\nc_total{b=\"3\"} 1 # {a=\"{\\\"x\\\"}\"} 1\n",
    ),
    (
        "an exemplar that is infinite, and a unit of what has no value",
        "# TYPE c counter\nc_total 1 # {} +Inf\n# TYPE i_a info\n# UNIT i_a a\ni_a_info 1\n",
        "# TYPE c counter\nc_total 1\n# TYPE i_a info\ni_a_info 1\n",
    ),
];

#[test]
fn every_reader_takes_what_does_not_fit_together() {
    for (what, body, becomes) in CASES {
        let (out, counts) = written(body);
        let expected = if becomes.is_empty() { body } else { becomes };
        assert_eq!(out, *expected, "{what}");
        let readings = read(&out);
        assert_eq!(refusals(&readings), [], "{what}\n{out}");
        nothing_is_lost(&read(body), &readings).unwrap_or_else(|error| panic!("{what}: {error}\n{out}"));
        let has_parts_of_their_own = out.contains("unknown") && !what.contains("without a type");
        assert!(!has_parts_of_their_own || counts.torn > 0, "{what}");
    }
}

#[test]
fn a_series_with_a_time_and_without_one_keeps_what_is_as_its_first() {
    let (out, counts) = written("# TYPE g gauge\ng{a=\"1\"} 1\ng{a=\"1\"} 2 3\ng{a=\"2\"} 4 5\ng{a=\"2\"} 6\n");
    assert_eq!(out, "# TYPE g gauge\ng{a=\"1\"} 1\ng{a=\"2\"} 4 5\n");
    assert_eq!((counts.samples, counts.dropped(DropReason::Malformed)), (2, 2));
    assert_eq!(refusals(&read(&out)), []);
}

/// It goes out as it comes, as it did before it was known to be so large.
#[test]
fn a_family_that_is_too_large_to_hold_is_passed_on() {
    let mut body = "# TYPE c counter\n".to_owned();
    for index in 0..40_000 {
        writeln!(body, "c_total{{index=\"{index}\",path=\"/v1/models/{index}:predict\"}} {index}")
            .expect("a buffer takes it");
    }
    body += "c_total{index=\"0\"} -1\n# TYPE d counter\nd_total NaN\n";
    let (out, counts) = written(&body);
    assert_eq!(out, body.replace("# TYPE d counter", "# TYPE d_total unknown"));
    assert_eq!(counts.samples, 40_002);
}

/// Checks that Prometheus sees each sample of the body in the answer, and no other; which type it has is not told where it has none that
/// all readers know.
fn nothing_is_lost(body: &Readings, answer: &Readings) -> Result<(), String> {
    let (before, after) = (body.of("prometheus"), answer.of("prometheus"));
    let samples = |samples: &[Sample]| {
        let mut counted = BTreeMap::<_, usize>::new();
        for sample in samples {
            let mut series = sample.series.clone();
            // It goes out in the one spelling that all readers take.
            series.labels.entry("le".to_owned()).and_modify(|bound| *bound = bound.replace("+Inf", "Inf"));
            *counted.entry((series, sample.value.clone(), sample.timestamp)).or_default() += 1;
        }
        counted
    };
    let (before, after) = (samples(&before.samples), samples(&after.samples));
    // One of the two ways to tell a time is left, where a series has both.
    let has_other =
        |series, timed: bool| before.keys().any(|(other, _, time)| other == series && time.is_some() != timed);
    for ((series, value, time), count) in &before {
        let left = after.get(&(series.clone(), value.clone(), *time)).copied().unwrap_or_default();
        if left != *count && !has_other(series, time.is_some()) {
            return Err(format!("{series} {value} {time:?}: {count} became {left}"));
        }
    }
    match after.keys().find(|sample| !before.contains_key(sample)) {
        Some(invented) => Err(format!("invented {invented:?}")),
        None => Ok(()),
    }
}

/// Stands for the name of its family, which is that of a state's label.
const STATE: &str = "NAME";

/// A sample of a family: what stands behind its name, its labels, its value and the rest of the line.
type Line = (&'static str, Vec<String>, &'static str, &'static str);

fn line(kind: &'static str) -> impl Strategy<Value = Line> {
    let endings: &[&str] = match kind {
        "counter" => &["_total", "_total", "_created", ""],
        "histogram" => &["_bucket", "_bucket", "_bucket", "_sum", "_count", "_created", ""],
        "gaugehistogram" => &["_bucket", "_bucket", "_gsum", "_gcount", "_created"],
        "summary" => &["", "", "_sum", "_count", "_created"],
        "info" => &["_info", "_info", ""],
        _ => &[""],
    };
    let label = move |ending: &str, bound: &str, quantile: &str| match (kind, ending) {
        (_, "_bucket") => Some(format!("le=\"{bound}\"")),
        ("summary", "") => Some(format!("quantile=\"{quantile}\"")),
        ("stateset", "") => Some(format!("{STATE}=\"on\"")),
        _ => None,
    };
    (
        select(endings),
        // A whole metric is likely where most values fit.
        select(&["+Inf", "+Inf", "1.0", "1", "0.5", "Inf", "-1", "NaN"][..]),
        select(&["0.5", "0.99", "1", "1.5", "-1", "NaN"][..]),
        prop::bool::weighted(0.9),
        select(&["a=\"1\"", "a=\"1\"", "a=\"2\"", ""][..]),
        any::<bool>(),
        select(&["1", "1", "1", "2", "0", "-1", "NaN", "1.5", "+Inf", "1e30"][..]),
        select(&["", "", "", "", " 1", " 2", " # {t=\"x\"} 0.5"][..]),
    )
        .prop_map(move |(ending, bound, quantile, has_place, own, goes_first, value, rest)| {
            let mut labels: Vec<String> = Some(own.to_owned()).into_iter().filter(|own| !own.is_empty()).collect();
            if let Some(label) = label(ending, bound, quantile).filter(|_| has_place) {
                labels.insert(if goes_first { 0 } else { labels.len() }, label);
            }
            (ending, labels, value, rest)
        })
}

fn family() -> impl Strategy<Value = (&'static str, Vec<Line>)> {
    let kinds = ["counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset", "unknown"];
    select(kinds.to_vec()).prop_flat_map(|kind| (Just(kind), vec(line(kind), 1..8)))
}

/// A family of this name, in lines.
fn render(name: &str, (kind, lines): &(&str, Vec<Line>)) -> String {
    let mut family = format!("# TYPE {name} {kind}\n");
    for (ending, labels, value, rest) in lines {
        let labels =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",").replace(STATE, name)) };
        writeln!(family, "{name}{ending}{labels} {value}{rest}").expect("a buffer takes it");
    }
    family
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..tries() })]

    #[test]
    fn every_reader_takes_what_comes_of_any_family(families in vec(family(), 1..3)) {
        let body: String = families.iter().enumerate().map(|(index, family)| render(&format!("f{index}"), family)).collect();
        let (out, counts) = written(&body);
        let (before, after) = (read(&body), read(&out));
        prop_assert_eq!(refusals(&after), [], "{}\n{}", body, out);
        if let Err(error) = nothing_is_lost(&before, &after) {
            return Err(TestCaseError::fail(format!("{error}\n{body}\n{out}")));
        }
        prop_assert_eq!(counts.samples, after.of("prometheus").samples.len() as u64);
    }
}
