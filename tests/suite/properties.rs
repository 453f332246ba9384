//! What holds for every body, checked on bodies that nobody wrote.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use qpext::exposition::{End, Untyped};

use crate::support::reader::{Sample, read};
use crate::support::{Cut, SERVING_LABELS, relabel};

/// A metric family as a target might write it.
#[derive(Debug, Clone)]
struct Family {
    name: String,
    help: Option<String>,
    kind: Option<&'static str>,
    samples: Vec<Written>,
}

/// A sample as a target might write it.
#[derive(Debug, Clone)]
struct Written {
    suffix: &'static str,
    labels: Vec<(String, String)>,
    value: String,
    timestamp: Option<String>,
    /// Blanks around what may have blanks around it.
    blank: &'static str,
    trailing_comma: bool,
}

fn label_name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zA-Z_][a-zA-Z0-9_]{0,12}".prop_filter("the metric's name", |name| name != "__name__"),
        1 => select(vec![
            "service_name", "configuration_name", "revision_name", "exported_service_name", "le", "quantile",
        ])
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

fn written() -> impl Strategy<Value = Written> {
    let labels = btree_map(label_name(), label_value(), 0..6);
    let timestamp = proptest::option::weighted(0.2, (0..=i64::MAX).prop_map(|timestamp| timestamp.to_string()));
    let suffix = select(vec!["", "", "", "_bucket", "_sum", "_count", "_total", "_created"]);
    (
        labels,
        value(),
        timestamp,
        suffix,
        select(vec!["", "", " ", "\t "]),
        any::<bool>(),
    )
        .prop_map(|(labels, value, timestamp, suffix, blank, trailing_comma)| Written {
            suffix,
            labels: labels.into_iter().collect(),
            value,
            timestamp,
            blank,
            trailing_comma,
        })
}

fn families() -> impl Strategy<Value = Vec<Family>> {
    let kind = select(vec!["counter", "gauge", "histogram", "summary", "untyped"]);
    let help = "[ -~\u{e9}]{0,20}";
    let family = (
        proptest::option::of(help),
        proptest::option::of(kind),
        vec(written(), 0..5),
    );
    btree_map("[a-zA-Z_:][a-zA-Z0-9_:]{0,15}", family, 0..6).prop_map(|families| {
        families
            .into_iter()
            .map(|(name, (help, kind, samples))| Family {
                name,
                help,
                kind,
                samples,
            })
            .collect()
    })
}

fn render(families: &[Family]) -> String {
    let mut body = String::new();
    for Family {
        name,
        help,
        kind,
        samples,
    } in families
    {
        if let Some(help) = help {
            body += &format!("# HELP {name} {help}\n");
        }
        if let Some(kind) = kind {
            body += &format!("# TYPE {name} {kind}\n");
        }
        for sample in samples {
            body += &sample.render(name);
        }
    }
    body
}

impl Written {
    fn render(&self, family: &str) -> String {
        let Self {
            suffix, value, blank, ..
        } = self;
        let mut line = format!("{family}{suffix}{blank}");
        if !self.labels.is_empty() {
            let labels: Vec<String> = self
                .labels
                .iter()
                .map(|(name, value)| {
                    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                    format!("{blank}{name}{blank}={blank}\"{value}\"{blank}")
                })
                .collect();
            line += &format!("{{{}", labels.join(","));
            line += if self.trailing_comma { ",}" } else { "}" };
        }
        line += &format!(" {value}");
        if let Some(timestamp) = &self.timestamp {
            line += &format!(" {timestamp}{blank}");
        }
        line + "\n"
    }
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
    Sample {
        labels,
        ..sample.clone()
    }
}

/// Pieces of expositions.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => select(vec![
            "# HELP ", "# TYPE ", "# EOF", "x", "y_total", "z_bucket", "vllm:a", "{", "}", "a", "=", "\"", "\\", ",", " ", "\t",
            "\n", "\n", "\n", "1", "-", "+", ".", "e", "NaN", "Inf", "0x", "_", "counter", "histogram", "untyped", "\r", "\0", "\\\0",
            "service_name", "exported_", "__name__", "a=\"b\"", "{a=\"b\"} 1\n", " 1\n", "\u{e9}", "1700000000000",
        ])
        .prop_map(|piece| piece.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..4),
    ]
}

/// Bodies that are not quite expositions: put together from pieces, or valid ones with a few pieces in the wrong place.
pub fn almost_an_exposition() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<usize>(), 0..3usize, piece());
    let spoilt = (families(), vec(change, 0..12)).prop_map(|(families, changes)| {
        let mut body = render(&families).into_bytes();
        for (place, removed, piece) in changes {
            let start = place % (body.len() + 1);
            let end = (start + removed).min(body.len());
            body.splice(start..end, piece);
        }
        body
    });
    prop_oneof![1 => vec(piece(), 0..60).prop_map(|pieces| pieces.concat()), 3 => spoilt]
}

fn untyped() -> impl Strategy<Value = Untyped> {
    select(vec![Untyped::Convert, Untyped::Drop, Untyped::Keep])
}

/// How often each property is tried. Tried a hundred times as often before a release: `PROPTEST_CASES=100000`.
fn tries() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(tries())]

    #[test]
    fn any_cut_into_chunks_gives_the_same_output(
        body in almost_an_exposition(),
        places in vec(any::<usize>(), 0..8),
        untyped in untyped(),
    ) {
        let whole = relabel(&body, untyped, Cut::Whole, End::Whole);
        prop_assert_eq!(&relabel(&body, untyped, Cut::At(&places), End::Whole), &whole);
        prop_assert_eq!(&relabel(&body, untyped, Cut::EveryByte, End::Whole), &whole);
    }

    #[test]
    fn a_valid_bodys_samples_come_out_with_the_labels(families in families()) {
        let body = render(&families);
        let input = read(body.as_bytes());
        // Made up apart from each other, families can share names: `a` with `a_sum`, and a family `a_sum`.
        prop_assume!(input.is_ok());
        let expected: Vec<Sample> = input.unwrap().samples.iter().map(labelled).collect();
        for untyped in [Untyped::Convert, Untyped::Keep] {
            let (out, counts) = relabel(body.as_bytes(), untyped, Cut::Whole, End::Whole);
            let output = read(&out).map_err(TestCaseError::fail)?;
            prop_assert_eq!(&output.samples, &expected);
            prop_assert_eq!(counts.dropped_in_all(), 0);
            prop_assert_eq!(counts.samples, expected.len() as u64);
        }
    }

    #[test]
    fn whatever_comes_in_what_goes_out_parses(
        body in prop_oneof![almost_an_exposition(), vec(any::<u8>(), 0..200)],
        untyped in untyped(),
    ) {
        let (out, counts) = relabel(&body, untyped, Cut::Whole, End::Whole);
        let output = read(&out).map_err(TestCaseError::fail)?;
        prop_assert_eq!(counts.samples, output.samples.len() as u64);
    }

    #[test]
    fn a_body_cut_anywhere_gives_some_of_the_whole_bodys_samples(
        body in almost_an_exposition(),
        place in any::<usize>(),
        untyped in untyped(),
    ) {
        let (whole, _) = relabel(&body, untyped, Cut::Whole, End::Whole);
        let (part, _) = relabel(&body[..place % (body.len() + 1)], untyped, Cut::Whole, End::BrokenOff);
        let whole = read(&whole).map_err(TestCaseError::fail)?.samples;
        let part = read(&part).map_err(TestCaseError::fail)?.samples;
        prop_assert!(whole.starts_with(&part));
    }
}

/// The second reader, where it can read: it loses names with `:` and label values with `}`, and takes numbers for
/// timestamps that are none.
#[test]
fn the_prometheus_parse_crate_reads_the_same_samples() {
    let body = "# TYPE a counter\na{path=\"/v1\",code=\"200\"} 5\na{code=\"500\"} 0.25\n# TYPE b gauge\nb -3\n";
    let (out, _) = relabel(body.as_bytes(), Untyped::Convert, Cut::Whole, End::Whole);
    let lines = String::from_utf8(out)
        .unwrap()
        .lines()
        .map(|line| Ok(line.to_owned()))
        .collect::<Vec<_>>();
    let scrape = prometheus_parse::Scrape::parse(lines.into_iter()).unwrap();
    let samples: Vec<(String, Option<String>, Option<String>, String)> = scrape
        .samples
        .iter()
        .map(|sample| {
            let label = |name| sample.labels.get(name).map(str::to_owned);
            (
                sample.metric.clone(),
                label("code"),
                label("revision_name"),
                format!("{:?}", sample.value),
            )
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
