//! A family of OpenMetrics stays in one piece as text, where some of its samples are families of their own.

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use qpext::exposition::{DropReason, Escaping, MAX_FAMILY, Rules};

use crate::engine::properties::tries;
use crate::engine::rules::{Form, Outcome, engine, run};
use crate::support::reader::{Sample, read_value};
use crate::support::{Cut, Lines};

/// What becomes of a body, both without `# EOF`.
struct Case {
    promise: &'static str,
    open_metrics: &'static str,
    text: &'static str,
    malformed: u64,
}

const fn case(promise: &'static str, open_metrics: &'static str, text: &'static str) -> Case {
    Case { promise, open_metrics, text, malformed: 0 }
}

const CASES: &[Case] = &[
    case(
        "a counter's times of creation come behind all its series",
        "# HELP x Words.\n# TYPE x counter\nx_total{a=\"1\"} 1\nx_created{a=\"1\"} 5\nx_total{a=\"2\"} 2\nx_created{a=\"2\"} 6\n",
        "# HELP x_total Words.\n# TYPE x_total counter\nx_total{a=\"1\"} 1\nx_total{a=\"2\"} 2\n\
         # HELP x_created Words.\n# TYPE x_created gauge\nx_created{a=\"1\"} 5\nx_created{a=\"2\"} 6\n",
    ),
    case(
        "those that come first come behind all its series",
        "# TYPE x counter\nx_created{a=\"1\"} 5\nx_total{a=\"1\"} 1\nx_created{a=\"2\"} 6\nx_total{a=\"2\"} 2\n",
        "# TYPE x_total counter\nx_total{a=\"1\"} 1\nx_total{a=\"2\"} 2\n\
         # TYPE x_created gauge\nx_created{a=\"1\"} 5\nx_created{a=\"2\"} 6\n",
    ),
    case(
        "those that come last stay there",
        "# TYPE x counter\nx_total{a=\"1\"} 1\nx_total{a=\"2\"} 2\nx_created{a=\"1\"} 5\nx_created{a=\"2\"} 6\n",
        "# TYPE x_total counter\nx_total{a=\"1\"} 1\nx_total{a=\"2\"} 2\n\
         # TYPE x_created gauge\nx_created{a=\"1\"} 5\nx_created{a=\"2\"} 6\n",
    ),
    case(
        "those of nothing else are a family behind the metadata of one without samples",
        "# HELP x Words.\n# TYPE x counter\nx_created 5\n",
        "# HELP x_total Words.\n# TYPE x_total counter\n# HELP x_created Words.\n# TYPE x_created gauge\nx_created 5\n",
    ),
    case(
        "exemplars go",
        "# TYPE x counter\nx_total{a=\"1\"} 1 # {t=\"1\"} 1 9\nx_created{a=\"1\"} 5\nx_total{a=\"2\"} 2 # {} 1\n",
        "# TYPE x_total counter\nx_total{a=\"1\"} 1\nx_total{a=\"2\"} 2\n# TYPE x_created gauge\nx_created{a=\"1\"} 5\n",
    ),
    case(
        "each sample keeps its timestamp",
        "# TYPE x counter\nx_total{a=\"1\"} 1 2.5\nx_created{a=\"1\"} 5 2.5\nx_total{a=\"2\"} 2 3\nx_created{a=\"2\"} 6 3\n",
        "# TYPE x_total counter\nx_total{a=\"1\"} 1 2500\nx_total{a=\"2\"} 2 3000\n\
         # TYPE x_created gauge\nx_created{a=\"1\"} 5 2500\nx_created{a=\"2\"} 6 3000\n",
    ),
    case(
        "a histogram's times of creation come behind all its series",
        "# TYPE h histogram\nh_bucket{a=\"1\",le=\"1\"} 1 # {t=\"1\"} 1\nh_bucket{a=\"1\",le=\"+Inf\"} 1\nh_count{a=\"1\"} 1\nh_sum{a=\"1\"} 2\nh_created{a=\"1\"} 5\n\
         h_bucket{a=\"2\",le=\"+Inf\"} 3\nh_created{a=\"2\"} 6\nh_count{a=\"2\"} 3\nh_sum{a=\"2\"} 4\n",
        "# TYPE h histogram\nh_bucket{a=\"1\",le=\"1\"} 1\nh_bucket{a=\"1\",le=\"+Inf\"} 1\nh_count{a=\"1\"} 1\nh_sum{a=\"1\"} 2\n\
         h_bucket{a=\"2\",le=\"+Inf\"} 3\nh_count{a=\"2\"} 3\nh_sum{a=\"2\"} 4\n\
         # TYPE h_created gauge\nh_created{a=\"1\"} 5\nh_created{a=\"2\"} 6\n",
    ),
    case(
        "a summary's times of creation come behind all its series",
        "# TYPE s summary\ns{a=\"1\",quantile=\"0.5\"} 1\ns_created{a=\"1\"} 5\ns_count{a=\"1\"} 1\ns_sum{a=\"1\"} 2\n\
         s{a=\"2\",quantile=\"0.5\"} 3\ns_created{a=\"2\"} 6\ns_sum{a=\"2\"} 4\n",
        "# TYPE s summary\ns{a=\"1\",quantile=\"0.5\"} 1\ns_count{a=\"1\"} 1\ns_sum{a=\"1\"} 2\n\
         s{a=\"2\",quantile=\"0.5\"} 3\ns_sum{a=\"2\"} 4\n# TYPE s_created gauge\ns_created{a=\"1\"} 5\ns_created{a=\"2\"} 6\n",
    ),
    case(
        "a gauge histogram's sums, counts and times of creation come behind all its series, in this order",
        "# TYPE g gaugehistogram\ng_bucket{a=\"1\",le=\"+Inf\"} 1\ng_created{a=\"1\"} 5\ng_gcount{a=\"1\"} 1\ng_gsum{a=\"1\"} 2\n\
         g_bucket{a=\"2\",le=\"+Inf\"} 3\ng_gcount{a=\"2\"} 3\ng_gsum{a=\"2\"} 4\ng_created{a=\"2\"} 6\n",
        "# TYPE g histogram\ng_bucket{a=\"1\",le=\"+Inf\"} 1\ng_bucket{a=\"2\",le=\"+Inf\"} 3\n\
         # TYPE g_gsum gauge\ng_gsum{a=\"1\"} 2\ng_gsum{a=\"2\"} 4\n\
         # TYPE g_gcount gauge\ng_gcount{a=\"1\"} 1\ng_gcount{a=\"2\"} 3\n\
         # TYPE g_created gauge\ng_created{a=\"1\"} 5\ng_created{a=\"2\"} 6\n",
    ),
    case(
        "what waits comes in front of the next family",
        "# TYPE x counter\nx_created 5\nx_total 1\n# HELP y Words.\n# TYPE y counter\ny_created 6\ny_total 2\nz 3\n",
        "# TYPE x_total counter\nx_total 1\n# TYPE x_created gauge\nx_created 5\n\
         # HELP y_total Words.\n# TYPE y_total counter\ny_total 2\n# HELP y_created Words.\n# TYPE y_created gauge\ny_created 6\nz 3\n",
    ),
    case(
        "what waits comes in front of the metadata of a family without samples",
        "# TYPE x counter\nx_created 5\nx_total 1\n# HELP y Words.\n",
        "# TYPE x_total counter\nx_total 1\n# TYPE x_created gauge\nx_created 5\n# HELP y Words.\n",
    ),
    Case {
        malformed: 2,
        ..case(
            "a line that is lost ends no family",
            "# TYPE x counter\nx_created{a=\"1\"} 5\nx_total{a=\"1\"} 1\nbad\n# TYPE y foo\nx_total{a=\"2\"} 2\n",
            "# TYPE x_total counter\nx_total{a=\"1\"} 1\nx_total{a=\"2\"} 2\n# TYPE x_created gauge\nx_created{a=\"1\"} 5\n",
        )
    },
    case(
        "a family by the name of what waits is one with it",
        "# TYPE x counter\nx_total 1\nx_created 5\n# HELP x_created Words.\n# TYPE x_created gauge\nx_created{y=\"1\"} 2\n",
        "# TYPE x_total counter\nx_total 1\n# TYPE x_created gauge\nx_created 5\nx_created{y=\"1\"} 2\n",
    ),
    case(
        "families by the names of what waits are one with it",
        "# TYPE g gaugehistogram\ng_bucket{le=\"+Inf\"} 1\ng_gsum 1\n# TYPE g_gcount gauge\ng_gcount{y=\"1\"} 2\n\
         # TYPE g_gsum gauge\ng_gsum{y=\"1\"} 3\n",
        "# TYPE g histogram\ng_bucket{le=\"+Inf\"} 1\n# TYPE g_gsum gauge\ng_gsum 1\ng_gsum{y=\"1\"} 3\n\
         # TYPE g_gcount gauge\ng_gcount{y=\"1\"} 2\n",
    ),
    case(
        "quoted families wait for their end, too",
        "# TYPE \"x.y\" counter\n{\"x.y_total\",a=\"1\"} 1\n{\"x.y_created\",a=\"1\"} 5\n{\"x.y_total\",a=\"2\"} 2\n",
        "# TYPE \"x.y_total\" counter\n{\"x.y_total\",a=\"1\"} 1\n{\"x.y_total\",a=\"2\"} 2\n\
         # TYPE \"x.y_created\" gauge\n{\"x.y_created\",a=\"1\"} 5\n",
    ),
];

fn convert(body: &str, names: Escaping, cut: Cut<'_>) -> Outcome {
    let body = format!("{body}# EOF\n");
    run(engine(Form::OpenMetrics, Form::Text, &Rules::default(), names), body.as_bytes(), cut)
}

/// The family to which a sample of text belongs.
fn family_of<'a>(name: &'a str, types: &HashMap<String, String>) -> &'a str {
    let parent = ["_bucket", "_sum", "_count"].into_iter().find_map(|suffix| {
        let parent = name.strip_suffix(suffix)?;
        let is_part = match types.get(parent)?.as_str() {
            "histogram" => true,
            "summary" => suffix != "_bucket",
            _ => false,
        };
        is_part.then_some(parent)
    });
    parent.unwrap_or(name)
}

/// Reads text; no family's samples may stand in two places.
fn read_whole(out: &[u8], names: Escaping) -> Result<Vec<Sample>, String> {
    let read = Lines::Text.read(out, names)?;
    let mut runs: Vec<&str> = read.samples.iter().map(|sample| family_of(&sample.name, &read.types)).collect();
    runs.dedup();
    let in_a_row = runs.len();
    runs.sort_unstable();
    runs.dedup();
    if runs.len() == in_a_row {
        Ok(read.samples)
    } else {
        Err(format!("a family is split:\n{}", String::from_utf8_lossy(out)))
    }
}

/// Families of which a part that waits stands first.
const CASES_OF_PARTS_FIRST: &[Case] = &[
    case(
        "a histogram keeps its type behind its time of creation",
        "# HELP h Words.\n# TYPE h histogram\nh_created 5\nh_bucket{le=\"+Inf\"} 1\nh_count 1\nh_sum 2\n",
        "# HELP h Words.\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_count 1\nh_sum 2\n\
         # HELP h_created Words.\n# TYPE h_created gauge\nh_created 5\n",
    ),
    case(
        "a summary keeps its type behind its time of creation",
        "# TYPE s summary\ns_created 5\ns{quantile=\"0.5\"} 1\ns_count 1\n",
        "# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_count 1\n# TYPE s_created gauge\ns_created 5\n",
    ),
    case(
        "a gauge histogram keeps its type behind its sum and its count",
        "# TYPE g gaugehistogram\ng_gcount 1\ng_gsum 2\ng_bucket{le=\"+Inf\"} 1\n",
        "# TYPE g histogram\ng_bucket{le=\"+Inf\"} 1\n# TYPE g_gsum gauge\ng_gsum 2\n# TYPE g_gcount gauge\ng_gcount 1\n",
    ),
];

#[test]
fn a_family_converted_to_text_is_never_split() {
    are_whole(CASES);
}

#[test]
fn a_family_keeps_its_type_behind_parts_that_wait() {
    are_whole(CASES_OF_PARTS_FIRST);
}

#[track_caller]
fn are_whole(cases: &[Case]) {
    for case in cases {
        let mut places: Vec<usize> = (0..=case.open_metrics.len()).collect();
        places.retain(|place| case.open_metrics.is_char_boundary(*place));
        for cut in places.iter().map(std::slice::from_ref).map(Cut::At).chain([Cut::EveryByte]) {
            let outcome = convert(case.open_metrics, Escaping::AllowUtf8, cut);
            assert_eq!(String::from_utf8_lossy(&outcome.out), case.text, "{} {cut:?}", case.promise);
            let samples = read_whole(&outcome.out, Escaping::AllowUtf8).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(outcome.counts.samples, samples.len() as u64, "{}", case.promise);
            assert_eq!(outcome.counts.dropped(DropReason::Malformed), case.malformed, "{}", case.promise);
            assert_eq!(outcome.counts.dropped_in_all(), case.malformed, "{}", case.promise);
        }
        let escaped = convert(case.open_metrics, Escaping::Underscores, Cut::Whole);
        read_whole(&escaped.out, Escaping::Underscores).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn what_waits_beyond_its_bound_is_left_out_and_counted() {
    let value = "v".repeat(MAX_FAMILY / 100);
    let times = 400;
    let mut body = String::from("# TYPE x counter\n");
    for number in 0..times {
        body += &format!("x_total{{a=\"{number}\"}} 1\nx_created{{a=\"{number}\",b=\"{value}\"}} 5\n");
    }
    body += "# TYPE y counter\ny_created 6\ny_total 2\n";
    let outcome = convert(&body, Escaping::Underscores, Cut::Whole);
    let samples = read_whole(&outcome.out, Escaping::Underscores).expect("it is valid");
    let count = |name: &str| samples.iter().filter(|sample| sample.name == name).count() as u64;
    let left_out = outcome.counts.dropped(DropReason::TooLong);
    assert!((100..times).contains(&left_out), "{left_out}");
    assert_eq!(outcome.counts.dropped_in_all(), left_out);
    assert_eq!((count("x_total"), count("x_created")), (times, times - left_out));
    assert_eq!((count("y_total"), count("y_created")), (1, 1));
    let first = outcome.first_dropped.expect("it was left out");
    assert!(first.text.starts_with("x_created{"), "{}", first.text);
}

/// The types, and what the samples of each are called.
const KINDS: [(&str, &[&str]); 8] = [
    ("counter", &["_total", "_created"]),
    ("histogram", &["_bucket", "_sum", "_count", "_created"]),
    ("gaugehistogram", &["_bucket", "_gsum", "_gcount", "_created"]),
    ("summary", &["", "_sum", "_count", "_created"]),
    ("gauge", &[""]),
    ("info", &["_info"]),
    ("stateset", &[""]),
    ("unknown", &[""]),
];

/// Families by names that cannot collide, each in one place, whose samples stand in any order.
fn bodies() -> impl Strategy<Value = String> {
    let exemplar = select(vec!["", "", " # {t=\"1\"} 1", " # {t=\"\u{e9}\"} 0.5 1"]);
    let sample = (0..4usize, select(vec!["1", "2", "\\n"]), any::<u16>(), select(vec!["", "", " 1", " 2.5"]), exemplar);
    let family = (select(KINDS.to_vec()), any::<bool>(), any::<bool>(), vec(sample, 0..14));
    vec(family, 0..6).prop_map(|families| {
        let mut body = String::new();
        for (number, ((kind, parts), has_help, is_quoted, samples)) in families.into_iter().enumerate() {
            let quote = if is_quoted { "\"" } else { "" };
            let name = if is_quoted { format!("f.{number}") } else { format!("f{number}") };
            if has_help {
                body += &format!("# HELP {quote}{name}{quote} Words.\n");
            }
            body += &format!("# TYPE {quote}{name}{quote} {kind}\n");
            for (part, series, value, time, exemplar) in samples {
                let suffix = parts[part % parts.len()];
                let point = match suffix {
                    "_bucket" => ",le=\"+Inf\"",
                    "" if kind == "summary" => ",quantile=\"0.5\"",
                    _ => "",
                };
                body += &match is_quoted {
                    true => format!("{{\"{name}{suffix}\",x=\"{series}\"{point}}} {value}{time}{exemplar}\n"),
                    false => format!("{name}{suffix}{{x=\"{series}\"{point}}} {value}{time}{exemplar}\n"),
                };
            }
        }
        body
    })
}

proptest! {
    #![proptest_config(tries())]

    #[test]
    fn no_family_of_any_body_is_split_and_nothing_is_lost(
        body in bodies(),
        names in select(vec![Escaping::Underscores, Escaping::AllowUtf8]),
        places in vec(any::<usize>(), 0..8),
    ) {
        let outcome = convert(&body, names, Cut::At(&places));
        let mut written = read_whole(&outcome.out, names).map_err(TestCaseError::fail)?;
        let read = Lines::OpenMetrics.read(format!("{body}# EOF\n").as_bytes(), Escaping::AllowUtf8);
        let mut expected = read.map_err(TestCaseError::fail)?.samples;
        for sample in &mut expected {
            sample.exemplar = None;
            if names == Escaping::Underscores {
                sample.name = sample.name.replace('.', "_");
            }
            if let Some(time) = &mut sample.timestamp {
                *time = (read_value(time).map_err(TestCaseError::fail)? * 1000.0).to_string();
            }
        }
        written.sort();
        expected.sort();
        prop_assert_eq!(written, expected);
        prop_assert_eq!(outcome.counts.dropped_in_all(), 0);
    }
}
