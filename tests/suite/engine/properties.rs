//! What holds for every body, checked on bodies that nobody wrote: the same properties, whichever format is read
//! and whichever is written.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use qpext::exposition::{End, Escaping, Families, Untyped};

use crate::support::reader::{Sample, quote, read, read_value};
use crate::support::{
    Cell, Converted, Cut, Lines, OPEN_METRICS, OPEN_METRICS_TO_TEXT, SERVING_LABELS, TEXT, merge_as, relabel,
};

/// A metric family as a target might write it.
#[derive(Debug, Clone)]
pub struct Family {
    name: String,
    help: Option<String>,
    kind: Option<&'static str>,
    has_unit: bool,
    samples: Vec<Written>,
}

/// A sample as a target might write it.
#[derive(Debug, Clone)]
struct Written {
    suffix: &'static str,
    labels: Vec<(String, String)>,
    value: String,
    /// In milliseconds.
    timestamp: Option<i64>,
    /// Blanks around what may have blanks around it.
    blank: &'static str,
    trailing_comma: bool,
    /// OpenMetrics only.
    exemplar: Option<(BTreeMap<String, String>, String, Option<i64>)>,
}

/// Characters that may stand in quoted names only.
const ODD_NAME: &str = "[a-z._:/\"\\\\\n\u{e9}\u{1f525}0-9 {},=-]{1,8}";

fn label_name() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[a-zA-Z_][a-zA-Z0-9_]{0,12}"
            .prop_filter("reserved, or a bound's", |name| !name.starts_with("__") && !["le", "quantile"].contains(&name.as_str())),
        1 => ODD_NAME.prop_filter("reserved", |name| !name.starts_with("__")),
        1 => select(vec!["service.name", "service_name", "service:name"]).prop_map(str::to_owned),
        2 => select(vec!["service_name", "configuration_name", "revision_name", "exported_service_name"])
            .prop_map(str::to_owned),
    ]
}

fn label_value() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,20}",
        "[{},=#\"\\\\\n /:a-z\u{e9}\u{1f600}]{0,20}",
        Just("/v1/models/{model_name}:predict".to_owned()),
    ]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<f64>()
            .prop_filter("read back by the reader", |value| value.is_finite())
            .prop_map(|value| value.to_string()),
        any::<u32>().prop_map(|value| value.to_string()),
        select(vec!["NaN", "+Inf", "-Inf", "1e-400", "+5", "1.", ".5", "2.5E+10"]).prop_map(str::to_owned),
    ]
}

fn timestamp() -> impl Strategy<Value = i64> {
    prop_oneof![0..=i64::MAX, 0..2_000_000_000_000i64, -2_000_000_000_000..=0i64]
}

fn written(format: Lines) -> impl Strategy<Value = Written> {
    let suffixes = match format {
        Lines::Text => &["_bucket", "_sum", "_count", "_total", "_created"][..],
        Lines::OpenMetrics => {
            &["_bucket", "_sum", "_count", "_total", "_created", "_gsum", "_gcount", "_info", "_total"]
        }
    };
    // Text has no time before 1970.
    let sign = if format == Lines::Text { i64::MAX } else { -1 };
    let few_labels = || btree_map(label_name(), label_value(), 0..3);
    let labels = prop_oneof![
        1 => btree_map(label_name(), label_value(), 0..6),
        1 => btree_map(Just("x".to_owned()), select(vec!["1", "2"]).prop_map(str::to_owned), 0..2),
    ];
    let point = select(vec!["0.5", "1", "1.0", "1e0", "+Inf", "-1", "NaN"]);
    let exemplar = (few_labels(), value(), proptest::option::of(timestamp()));
    (
        (labels, proptest::option::weighted(0.7, point)),
        value(),
        proptest::option::weighted(0.2, timestamp().prop_map(move |at| at & sign)),
        prop_oneof![Just(""), select(suffixes)],
        select(vec!["", "", " ", "\t "]),
        any::<bool>(),
        proptest::option::weighted(0.3, exemplar),
    )
        .prop_map(|((mut labels, point), value, timestamp, suffix, blank, trailing_comma, exemplar)| {
            let told_by = match suffix {
                "_bucket" => Some("le"),
                "" => Some("quantile"),
                _ => None,
            };
            if let (Some(name), Some(point)) = (told_by, point) {
                labels.insert(name.to_owned(), point.to_owned());
            }
            Written { suffix, labels: labels.into_iter().collect(), value, timestamp, blank, trailing_comma, exemplar }
        })
}

pub fn families(format: Lines) -> impl Strategy<Value = Vec<Family>> {
    let kind = select(match format {
        Lines::Text => &["counter", "gauge", "histogram", "summary", "untyped"][..],
        Lines::OpenMetrics => {
            &["counter", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset", "unknown"]
        }
    });
    let help = prop_oneof!["[ -~\u{e9}]{0,20}", "[\"\\\\n ]{0,8}"];
    let name = prop_oneof![8 => "[a-zA-Z_:][a-zA-Z0-9_:]{0,15}", 1 => ODD_NAME, 3 => "[ab]([._](b|sum|total|created|bucket)){0,2}"];
    let family = (proptest::option::of(help), proptest::option::of(kind), any::<bool>(), vec(written(format), 0..5));
    btree_map(name, family, 0..6).prop_map(move |families| {
        families
            .into_iter()
            .map(|(name, (help, kind, has_unit, mut samples))| {
                let name = if has_unit { format!("{name}_\u{b5}s") } else { name };
                for sample in &mut samples {
                    if may_count(kind, &name, sample.suffix) {
                        sample.value = counting(&sample.value);
                    }
                }
                Family { name, help, kind, has_unit: has_unit && format == Lines::OpenMetrics, samples }
            })
            .collect()
    })
}

/// Whether a sample may be one that counts something, in a family of this type or in another one, whose name it has.
fn may_count(kind: Option<&str>, name: &str, suffix: &str) -> bool {
    let endings = ["_bucket", "_count", "_gcount", "_total"];
    !suffix.is_empty()
        || matches!(kind, Some("counter" | "histogram" | "gaugehistogram"))
        || endings.iter().any(|ending| escaped(name, ":").ends_with(ending))
}

/// A value that counts something, made of any.
fn counting(value: &str) -> String {
    match value {
        "NaN" => "1".to_owned(),
        "-Inf" => "+Inf".to_owned(),
        value => value.trim_start_matches('-').to_owned(),
    }
}

/// Whether a name need not stand between quotes.
fn is_plain(name: &str, besides: &str) -> bool {
    let may = |character: char| character.is_ascii_alphabetic() || character == '_' || besides.contains(character);
    name.starts_with(may) && name.chars().all(|character| may(character) || character.is_ascii_digit())
}

/// A name as it is written: between quotes if it must.
fn name_as_written(name: &str, besides: &str) -> String {
    if is_plain(name, besides) { name.to_owned() } else { quote(name) }
}

pub fn render(families: &[Family], format: Lines) -> String {
    let mut body = String::new();
    for family in families {
        let name = name_as_written(&family.name, ":");
        if let Some(help) = &family.help {
            body += &format!("# HELP {name} {help}\n");
        }
        if let Some(kind) = family.kind {
            body += &format!("# TYPE {name} {kind}\n");
        }
        if family.has_unit {
            body += &format!("# UNIT {name} \u{b5}s\n");
        }
        for sample in &family.samples {
            body += &sample.render(&family.name, format);
        }
    }
    if format == Lines::OpenMetrics {
        body += "# EOF\n";
    }
    body
}

impl Written {
    fn render(&self, family: &str, format: Lines) -> String {
        let name = format!("{family}{}", self.suffix);
        let is_plain = is_plain(&name, ":");
        let blank = match format {
            Lines::Text => self.blank,
            Lines::OpenMetrics => "",
        };
        let mut line = if is_plain { format!("{name}{blank}") } else { String::new() };
        let mut parts = Vec::new();
        if !is_plain {
            parts.push(format!("{blank}{}{blank}", quote(&name)));
        }
        for (name, value) in &self.labels {
            let name = name_as_written(name, "");
            parts.push(format!("{blank}{name}{blank}={blank}{}{blank}", quote(value)));
        }
        if !parts.is_empty() {
            line += &format!("{{{}", parts.join(","));
            line += if self.trailing_comma { ",}" } else { "}" };
        }
        line += &format!(" {}", self.value);
        if let Some(timestamp) = self.timestamp {
            line += &match format {
                Lines::Text => format!(" {timestamp}{blank}"),
                Lines::OpenMetrics => format!(" {}", timestamp as f64 / 1000.0),
            };
        }
        if let (Lines::OpenMetrics, Some((labels, value, timestamp))) = (format, &self.exemplar) {
            let labels: Vec<String> = labels
                .iter()
                .map(|(name, value)| format!("{}={}", name_as_written(name, ""), quote(&value.replace('\0', ""))))
                .collect();
            line += &format!(" # {{{}}} {value}", labels.join(","));
            line += &timestamp.map_or_else(String::new, |timestamp| format!(" {}", timestamp as f64 / 1000.0));
        }
        line + "\n"
    }
}

/// A number as every reader reads it: without a plus sign, and with a digit on either side of the point.
fn spelt(number: &str) -> String {
    let number = number.strip_prefix('+').filter(|rest| *rest != "Inf").unwrap_or(number);
    let number = if number.starts_with('.') { format!("0{number}") } else { number.to_owned() };
    number.strip_suffix('.').unwrap_or(&number).to_owned()
}

/// What must become of a sample: nothing, if it cannot be written in the format.
fn expected(sample: &Sample, cell: Cell) -> Option<Sample> {
    let mut sample = sample.clone();
    sample.value = spelt(&sample.value);
    if let Some(exemplar) = &mut sample.exemplar {
        exemplar.value = spelt(&exemplar.value);
    }
    if cell.names == Escaping::Underscores {
        sample.name = escaped(&sample.name, ":");
        sample.labels = escaped_labels(&sample.labels, &SERVING_LABELS.map(|(name, _)| name));
        sample.exemplar = sample.exemplar.filter(|exemplar| {
            let is_quoted = |(name, _): &(String, String)| !is_plain(name, "");
            // What 2.42 takes.
            (sample.name.ends_with("_total") || sample.name.ends_with("_bucket"))
                && !exemplar.labels.iter().any(is_quoted)
        });
    }
    if cell.from != cell.to {
        sample.exemplar = None;
        if let Some(seconds) = &sample.timestamp {
            let milliseconds = (read_value(seconds).expect("it was read") * 1000.0).trunc();
            let is_written = (0.0..9_223_372_036_854_775_808.0).contains(&milliseconds);
            sample.timestamp = is_written.then(|| format!("{}", milliseconds as i64));
            sample.timestamp.as_ref()?;
        }
    }
    Some(labelled(&sample))
}

/// The families with names that everybody reads.
fn without_odd_names(mut families: Vec<Family>) -> Vec<Family> {
    for family in &mut families {
        family.name = escaped(&family.name, ":");
        for sample in &mut family.samples {
            for (name, _) in &mut sample.labels {
                *name = escaped(name, "");
            }
        }
    }
    families
}

/// A name for a scraper that reads no quoted ones: an underscore for each character that must stand between quotes.
pub fn escaped(name: &str, besides: &str) -> String {
    let escape = |(index, character): (usize, char)| {
        let is_kept = is_plain(&character.to_string(), besides) || (index > 0 && character.is_ascii_digit());
        if is_kept { character } else { '_' }
    };
    name.chars().enumerate().map(escape).collect()
}

/// Labels for the same scraper. Of those that are one then, all but one get another name, and none gets one of these.
pub fn escaped_labels(labels: &[(String, String)], taken: &[&str]) -> Vec<(String, String)> {
    let mut given: Vec<String> = labels.iter().map(|(name, _)| escaped(name, "")).collect();
    for (index, (own, _)) in labels.iter().enumerate() {
        let is_anothers = labels.iter().zip(&given).enumerate().any(|(at, ((other, _), name))| {
            at != index && *name == given[index] && (is_plain(other, "") || other < own)
        });
        if !given[index].starts_with("__") && (is_plain(own, "") || !is_anothers) {
            continue;
        }
        let mut name = format!("exported_{}", given[index]);
        while given.contains(&name) || taken.contains(&name.as_str()) {
            name = format!("exported_{name}");
        }
        given[index] = name;
    }
    labels.iter().zip(given).map(|((_, value), name)| (name, value.clone())).collect()
}

/// What a sample must be behind the sidecar: the serving labels added, its own of those names renamed.
fn labelled(sample: &Sample) -> Sample {
    let mut labels = sample.labels.clone();
    for index in 0..labels.len() {
        let mut name = labels[index].0.clone();
        if !SERVING_LABELS.iter().any(|(serving, _)| *serving == name) {
            continue;
        }
        while SERVING_LABELS.iter().any(|(serving, _)| *serving == name)
            || labels.iter().any(|(other, _)| *other == name)
        {
            name = format!("exported_{name}");
        }
        labels[index].0 = name;
    }
    labels.extend(SERVING_LABELS.map(|(name, value)| (name.to_owned(), value.to_owned())));
    Sample { labels, ..sample.clone() }
}

/// Pieces of expositions.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => select(vec![
            "# HELP ", "# TYPE ", "# UNIT ", "# EOF", "# EOF\n", " # {", " # {} 1\n", "gaugehistogram", "info", "\"a.b\"", "-0.5", "x", "y_total", "z_bucket", "vllm:a", "{", "}", "a", "=", "\"", "\\", ",", " ", "\t",
            "\n", "\n", "\n", "1", "-", "+", ".", "e", "NaN", "Inf", "0x", "_", "counter", "histogram", "untyped", "\r", "\0", "\\\0",
            "service_name", "exported_", "__name__", "a=\"b\"", "{a=\"b\"} 1\n", " 1\n", "\u{e9}", "1700000000000",
        ])
        .prop_map(|piece| piece.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..4),
    ]
}

/// Bodies that are not quite expositions: put together from pieces, or valid ones with a few pieces in the wrong place.
pub fn almost_an_exposition(format: Lines) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<usize>(), 0..3usize, piece());
    let spoilt = (families(format), vec(change, 0..12)).prop_map(move |(families, changes)| {
        let mut body = render(&families, format).into_bytes();
        for (place, removed, piece) in changes {
            let start = place % (body.len() + 1);
            let end = (start + removed).min(body.len());
            body.splice(start..end, piece);
        }
        body
    });
    prop_oneof![1 => vec(piece(), 0..60).prop_map(|pieces| pieces.concat()), 3 => spoilt]
}

pub fn untyped() -> impl Strategy<Value = Untyped> {
    select(vec![Untyped::Convert, Untyped::Drop, Untyped::Keep])
}

/// How often each property is tried. Tried a hundred times as often before a release: `PROPTEST_CASES=100000`.
pub fn tries() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        // Made up apart from each other, some families do not go together.
        max_global_rejects: u32::MAX,
        ..ProptestConfig::default()
    }
}

/// The properties of one cell.
macro_rules! properties {
    ($($name:ident: $cell:expr;)*) => {$(
        mod $name {
            use super::*;

            const CELL: Cell = $cell;

            proptest! {
                #![proptest_config(tries())]

                #[test]
                fn any_cut_into_chunks_gives_the_same_output(
                    body in almost_an_exposition(CELL.from),
                    places in vec(any::<usize>(), 0..8),
                    untyped in untyped(),
                ) {
                    let whole = CELL.convert(&body, untyped, Cut::Whole, End::Whole);
                    prop_assert_eq!(&CELL.convert(&body, untyped, Cut::At(&places), End::Whole), &whole);
                    prop_assert_eq!(&CELL.convert(&body, untyped, Cut::EveryByte, End::Whole), &whole);
                }

                #[test]
                fn a_valid_bodys_samples_come_out_with_the_labels(families in families(CELL.from)) {
                    keeps_the_samples(CELL, &families)?;
                }

                #[test]
                fn whatever_comes_in_what_goes_out_parses(
                    body in prop_oneof![almost_an_exposition(CELL.from), vec(any::<u8>(), 0..200)],
                    untyped in untyped(),
                ) {
                    let converted = CELL.convert(&body, untyped, Cut::Whole, End::Whole);
                    let output = CELL.to.read(&converted.out, CELL.names).map_err(TestCaseError::fail)?;
                    prop_assert_eq!(converted.counts.samples, output.samples.len() as u64);
                }

                #[test]
                fn behind_another_body_what_goes_out_parses(
                    bodies in (almost_an_exposition(CELL.from), almost_an_exposition(CELL.from)),
                    untyped in untyped(),
                ) {
                    let (mut out, mut families) = (Vec::new(), Families::default());
                    let mut samples = 0;
                    for (target, body) in [bodies.0, bodies.1].iter().enumerate() {
                        families.turn_to(target);
                        let engine = CELL.append(body, untyped, Cut::Whole, End::Whole, &mut families, &mut out);
                        samples += engine.progress().counts().samples;
                    }
                    if CELL.to == Lines::OpenMetrics {
                        out.extend_from_slice(b"# EOF\n");
                    }
                    let output = CELL.to.read(&out, CELL.names).map_err(TestCaseError::fail)?;
                    prop_assert_eq!(samples, output.samples.len() as u64);
                }

                #[test]
                fn a_body_cut_anywhere_gives_some_of_the_whole_bodys_samples(
                    body in almost_an_exposition(CELL.from),
                    place in any::<usize>(),
                    untyped in untyped(),
                ) {
                    let whole = CELL.convert(&body, untyped, Cut::Whole, End::Whole).out;
                    let part = &body[..place % (body.len() + 1)];
                    let part = CELL.convert(part, untyped, Cut::Whole, End::BrokenOff).out;
                    let whole = CELL.to.read(&whole, CELL.names).map_err(TestCaseError::fail)?.samples;
                    let part = CELL.to.read(&part, CELL.names).map_err(TestCaseError::fail)?.samples;
                    if CELL.from == Lines::OpenMetrics {
                        // What waits for its family's end comes later in the whole, and what is none does not fit together.
                        are_some_of(&part, &whole)?;
                    } else {
                        prop_assert!(whole.starts_with(&part));
                    }
                }
            }
        }
    )*};
}

properties! {
    text_as_text: TEXT;
    text_as_text_with_utf8: TEXT.with_utf8();
    open_metrics_as_open_metrics: OPEN_METRICS;
    open_metrics_as_open_metrics_with_utf8: OPEN_METRICS.with_utf8();
    open_metrics_as_text: OPEN_METRICS_TO_TEXT;
    open_metrics_as_text_with_utf8: OPEN_METRICS_TO_TEXT.with_utf8();
}

proptest! {
    #![proptest_config(tries())]

    #[test]
    fn behind_the_queue_proxys_text_what_goes_out_parses(
        queue_proxy in families(Lines::Text).prop_map(without_odd_names),
        text in almost_an_exposition(Lines::Text),
        open_metrics in almost_an_exposition(Lines::OpenMetrics),
        untyped in untyped(),
    ) {
        let queue_proxy = render(&queue_proxy, Lines::Text).into_bytes();
        // It is trusted to be valid.
        let samples = read(&queue_proxy).map(|queue_proxy| queue_proxy.samples.len() as u64);
        prop_assume!(samples.is_ok());
        for (cell, app) in [(TEXT, &text), (OPEN_METRICS_TO_TEXT, &open_metrics)] {
            let (out, counts) = merge_as(cell, Some(&queue_proxy), app, untyped, Cut::Whole, End::Whole);
            let output = read(&out).map_err(TestCaseError::fail)?;
            prop_assert_eq!(samples.as_ref().unwrap() + counts.samples, output.samples.len() as u64);
        }
    }
}

fn keeps_the_samples(cell: Cell, families: &[Family]) -> Result<(), TestCaseError> {
    let body = render(families, cell.from);
    let input = cell.from.read(body.as_bytes(), Escaping::AllowUtf8);
    // Families can share names: `a` with `a_sum`, and a family `a_sum`.
    prop_assume!(input.is_ok());
    let input = input.expect("it was assumed").samples;
    let expected: Vec<Sample> = input.iter().filter_map(|sample| expected(sample, cell)).collect();
    for untyped in [Untyped::Convert, Untyped::Keep] {
        let converted = cell.convert(body.as_bytes(), untyped, Cut::Whole, End::Whole);
        let output = cell.to.read(&converted.out, cell.names).map_err(TestCaseError::fail)?;
        if cell.to == Lines::OpenMetrics {
            keeps_what_may_stand_together(&input, &expected, &output.samples, &converted)?;
            continue;
        }
        if cell.from == cell.to {
            prop_assert_eq!(&output.samples, &expected);
        } else {
            // What waits for its family's end comes behind the others.
            let sorted = |samples: &[Sample]| {
                let mut samples = samples.to_vec();
                samples.sort();
                samples
            };
            prop_assert_eq!(sorted(&output.samples), sorted(&expected));
        }
        prop_assert_eq!(converted.counts.samples, expected.len() as u64);
        prop_assert_eq!(converted.counts.dropped_in_all(), (input.len() - expected.len()) as u64);
        prop_assert!(converted.is_whole);
    }
    Ok(())
}

/// In OpenMetrics, samples that do not fit together lose their type, and with it their exemplars and their order. One is lost only if its
/// series has others that are as its first, with a timestamp or without one, and it is not.
fn keeps_what_may_stand_together(
    input: &[Sample],
    expected: &[Sample],
    written: &[Sample],
    converted: &Converted,
) -> Result<(), TestCaseError> {
    let exemplars = |samples: &[Sample]| samples.iter().filter(|sample| sample.exemplar.is_some()).count() as u64;
    let (mut lost, mut lost_exemplars) = (0, 0);
    let mut rest: Vec<Sample> = written.iter().map(loose).collect();
    for (sample, came) in expected.iter().zip(input) {
        match rest.iter().position(|other| *other == loose(sample)) {
            Some(at) => _ = rest.swap_remove(at),
            None => {
                let is_same =
                    |other: &&Sample| (&other.name, loose(other).labels) == (&sample.name, loose(sample).labels);
                let first = expected.iter().find(is_same).expect("it is there itself");
                prop_assert_ne!(first.timestamp.is_some(), sample.timestamp.is_some(), "{:?}", sample);
                (lost, lost_exemplars) = (lost + 1, lost_exemplars + u64::from(came.exemplar.is_some()));
            }
        }
    }
    prop_assert!(rest.is_empty(), "invented: {rest:?}");
    prop_assert_eq!(converted.counts.samples, written.len() as u64);
    let told = converted.counts.dropped_in_all() + converted.counts.unwritten.exemplars;
    let gone = lost + exemplars(input) - exemplars(written);
    prop_assert!((gone - lost_exemplars..=gone).contains(&told), "{} of {} and {}", told, gone, lost_exemplars);
    Ok(())
}

/// A sample but for its exemplar, and for how its bound and its time are spelt.
pub fn loose(sample: &Sample) -> Sample {
    let mut sample = Sample { exemplar: None, ..sample.clone() };
    sample.timestamp = sample.timestamp.map(|time| read_value(&time).map_or(time, |seconds| seconds.to_string()));
    for (name, value) in &mut sample.labels {
        if let ("le" | "quantile", Ok(number)) = (name.as_str(), value.parse::<f64>()) {
            *value = number.to_string();
        }
    }
    sample
}

/// Whether samples are some of others, in any order.
pub fn are_some_of(part: &[Sample], whole: &[Sample]) -> Result<(), TestCaseError> {
    let mut rest: Vec<Sample> = whole.iter().map(loose).collect();
    for sample in part {
        let at = rest.iter().position(|other| *other == loose(sample));
        prop_assert!(at.is_some(), "{sample:?}");
        rest.swap_remove(at.unwrap_or_default());
    }
    Ok(())
}

/// The second reader, where it can read: it loses names with `:` and label values with `}`, and takes numbers for
/// timestamps that are none.
#[test]
fn the_prometheus_parse_crate_reads_the_same_samples() {
    let body = "# TYPE a counter\na{path=\"/v1\",code=\"200\"} 5\na{code=\"500\"} 0.25\n# TYPE b gauge\nb -3\n";
    let (out, _) = relabel(body.as_bytes(), Untyped::Convert, Cut::Whole, End::Whole);
    let lines = String::from_utf8(out).unwrap().lines().map(|line| Ok(line.to_owned())).collect::<Vec<_>>();
    let scrape = prometheus_parse::Scrape::parse(lines.into_iter()).unwrap();
    let samples: Vec<(String, Option<String>, Option<String>, String)> = scrape
        .samples
        .iter()
        .map(|sample| {
            let label = |name| sample.labels.get(name).map(str::to_owned);
            (sample.metric.clone(), label("code"), label("revision_name"), format!("{:?}", sample.value))
        })
        .collect();
    let revision = || Some("iris-predictor-00001".to_owned());
    let code = |code: &str| Some(code.to_owned());
    assert_eq!(
        samples,
        [
            ("a".to_owned(), code("200"), revision(), "Counter(5.0)".to_owned()),
            ("a".to_owned(), code("500"), revision(), "Counter(0.25)".to_owned()),
            ("b".to_owned(), None, revision(), "Gauge(-3.0)".to_owned()),
        ]
    );
}
