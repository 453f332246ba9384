//! Where bytes go out as they came, they are those that would have been written.
//!
//! [`engine`](crate::engine::rules::engine) copies what stands in a line as it would be written;
//! [`spelling_engine`] never does. Nobody may be able to tell which of the two it was.
//!
//! Of messages there is nothing to compare: their bytes are kept by promise, what no version knows among them, and written as
//! text they are spelt in any case.

use std::fs;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use qpext::exposition::{Escaping, LabelSet, Rules, Spelling, Untyped, Unwritten, spelling_engine};

use crate::engine::corpus::{corpus, files_below};
use crate::engine::properties::{almost_an_exposition, families, render, tries, untyped};
use crate::engine::rules::{Form, Outcome, engine, outputs, run};
use crate::support::{Cut, Lines, SERVING_LABELS, verbatim};

const BOTH_NAMES: [Escaping; 2] = [Escaping::Underscores, Escaping::AllowUtf8];

const ALL_UNTYPED: [Untyped; 3] = [Untyped::Convert, Untyped::Drop, Untyped::Keep];

/// No labels; those of most tests; some that samples have themselves; and a name that is reserved, with none that is added and
/// with one.
fn label_sets() -> [LabelSet; 5] {
    let set = |labels: &[(&str, &str)]| LabelSet::new(labels.iter().copied()).expect("they are label names");
    [
        set(&[]),
        set(&SERVING_LABELS),
        set(&[("x", "1"), ("code", "2"), ("method", "3"), ("handler", "4"), ("a", "5"), ("exported_x", "\\\"\n")]),
        set(&[]).reserving("x"),
        set(&[("y", "z")]).reserving("a"),
    ]
}

fn spelt(from: Form, to: Form, rules: &Rules, names: Escaping, body: &[u8]) -> Outcome {
    let to = Spelling { format: to.format(), escaping: names };
    run(spelling_engine(from.format(), to, rules).expect("it is promised"), body, Cut::Whole)
}

/// Whether a body goes out in the same way with short cuts and without, however it is cut.
fn is_the_same(from: Form, rules: &Rules, names: Escaping, body: &[u8], cuts: &[Cut<'_>]) -> Result<(), String> {
    for to in outputs(from) {
        let spelt = spelt(from, *to, rules, names, body);
        for cut in cuts {
            let outcome = run(engine(from, *to, rules, names), body, *cut);
            if outcome != spelt {
                return Err(format!(
                    "{from:?} as {to:?} {names:?} {cut:?}, {rules:?}\nwith short cuts {}\nwithout {}",
                    shown(&outcome),
                    shown(&spelt)
                ));
            }
        }
    }
    Ok(())
}

fn shown(outcome: &Outcome) -> String {
    format!("{}\n{outcome:?}", String::from_utf8_lossy(&outcome.out))
}

/// Whether what is passed on verbatim is spelt as it would be anywhere else, and passes byte for byte from then on.
fn is_canonical(rules: &Rules, names: Escaping, body: &[u8], cuts: &[Cut<'_>]) -> Result<(), String> {
    let rules = Rules { labels: LabelSet::default().into(), ..rules.clone() };
    let whole = run(verbatim(names, &rules), body, Cut::Whole);
    for cut in cuts {
        let outcome = run(verbatim(names, &rules), body, *cut);
        if outcome != whole {
            return Err(format!("{cut:?} {}\nwhole {}", shown(&outcome), shown(&whole)));
        }
    }
    let again = run(verbatim(names, &rules), &whole.out, Cut::Whole);
    if (&again.out, again.counts.samples, again.counts.dropped_in_all()) != (&whole.out, whole.counts.samples, 0) {
        return Err(format!("once {}\ntwice {}", shown(&whole), shown(&again)));
    }
    // Its metadata and comments go their own way.
    let spelt = spelt(Form::Text, Form::Text, &rules, names, body);
    let sorted = |out| {
        let mut samples = samples(out);
        samples.sort_unstable();
        samples
    };
    // Nor is it told which of its families are given a type, because none is.
    let mut counts = spelt.counts;
    (counts.unwritten, counts.retyped) = (Unwritten::default(), 0);
    // What waits for its family's end when it is spelt stays where it is otherwise.
    if sorted(&whole.out) != sorted(&spelt.out)
        || (whole.counts, &whole.first_dropped) != (counts, &spelt.first_dropped)
    {
        return Err(format!("verbatim {}\nspelt {}", shown(&whole), shown(&spelt)));
    }
    Ok(())
}

fn samples(out: &[u8]) -> Vec<&[u8]> {
    let lines = out.split_inclusive(|byte| *byte == b'\n');
    let is_sample = |line: &&[u8]| {
        let first = line.iter().find(|byte| !matches!(byte, b' ' | b'\t'));
        !matches!(first, None | Some(b'#' | b'\n'))
    };
    lines.filter(is_sample).collect()
}

fn names() -> impl Strategy<Value = Escaping> {
    select(BOTH_NAMES.to_vec())
}

fn label_set() -> impl Strategy<Value = LabelSet> {
    (0..label_sets().len()).prop_map(|index| label_sets()[index].clone())
}

/// A body of a format, and which: a valid one, or almost.
fn body() -> impl Strategy<Value = (Form, Vec<u8>)> {
    let of = |form, lines| {
        let valid = families(lines).prop_map(move |families| render(&families, lines).into_bytes());
        prop_oneof![valid, almost_an_exposition(lines)].prop_map(move |body| (form, body))
    };
    prop_oneof![of(Form::Text, Lines::Text), of(Form::OpenMetrics, Lines::OpenMetrics)]
}

/// Lines of one family, each like the one before but for a label's value or two, and now and then for how it is spelt.
fn lines_alike() -> impl Strategy<Value = Vec<u8>> {
    let long = "a_name_that_is_longer_than_thirty_two_bytes";
    let names = Just(vec!["a", "le", "model_name", "a_name_of_16_byt", "http_request_method", long]).prop_shuffle();
    let value =
        select(vec!["", "x", "x\",", "xyz", "12345678", "12345679", "a\\\"b", "a\\nb", "a\\b", "ü", "},", long]);
    let head = prop_oneof![9 => Just("m_bucket{"), 1 => select(vec!["m_sum{", "m_bucket {", "m_bucket{ ", "m{"])];
    let between = select(vec![" ", "", ", ", " ,", ",,", "}"]);
    let behind = select(vec!["} NaN", "}1", "}  1", ",} 1", "} 1 5", "} 1 # {} 1", "}", " } 1", "} x", "} 1e3"]);
    let behind = prop_oneof![9 => select(vec!["} 1", "} 12.5", "} 2.0"]), 1 => behind];
    let oddly = prop_oneof![9 => Just(None), 1 => (1_usize..6, between).prop_map(Some)];
    let renamed = prop_oneof![9 => Just(None), 1 => (0_usize..6).prop_map(Some)];
    let line = (head, vec((0_usize..6, value.clone()), 0..3), oddly, renamed, behind);
    (names, vec(value, 1..6), vec(line, 3..20)).prop_map(|(names, mut values, lines)| {
        let mut body = String::from("# TYPE m histogram\n");
        for (head, changes, oddly, renamed, behind) in lines {
            for (place, value) in changes {
                if let Some(old) = values.get_mut(place) {
                    *old = value;
                }
            }
            let label = |(place, value): (usize, &&str)| {
                let between = match oddly {
                    _ if place == 0 => "",
                    Some((odd, between)) if odd == place => between,
                    _ => ",",
                };
                let other = if renamed == Some(place) { "-" } else { "" };
                let name = &names[place][..names[place].len() - other.len()];
                format!("{between}{name}{other}=\"{value}\"")
            };
            let labels: String = values.iter().enumerate().map(label).collect();
            body.push_str(&format!("{head}{labels}{behind}\n"));
        }
        body.into_bytes()
    })
}

proptest! {
    #![proptest_config(tries())]

    #[test]
    fn short_cuts_change_nothing_where_lines_are_alike(
        body in lines_alike(),
        from in select(vec![Form::Text, Form::OpenMetrics]),
        labels in label_set(),
        places in vec(any::<usize>(), 0..3),
    ) {
        let rules = Rules::new(labels, Untyped::Convert);
        let cuts = [Cut::Whole, Cut::EveryByte, Cut::At(&places)];
        is_the_same(from, &rules, Escaping::Underscores, &body, &cuts).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn short_cuts_change_nothing(
        (from, body) in body(),
        labels in label_set(),
        untyped in untyped(),
        names in names(),
        places in vec(any::<usize>(), 0..8),
    ) {
        let cuts = [Cut::Whole, Cut::EveryByte, Cut::At(&places)];
        let rules = Rules::new(labels, untyped);
        is_the_same(from, &rules, names, &body, &cuts).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn what_is_passed_on_verbatim_is_what_would_be_written(
        (_, body) in body(),
        untyped in select(vec![Untyped::Convert, Untyped::Keep]),
        names in names(),
        places in vec(any::<usize>(), 0..8),
    ) {
        let rules = Rules::new(LabelSet::default(), untyped);
        is_canonical(&rules, names, &body, &[Cut::EveryByte, Cut::At(&places)]).map_err(TestCaseError::fail)?;
    }
}

/// Files that run cut at every byte, too, in bytes.
const SMALL: usize = 16 << 10;

#[test]
fn short_cuts_change_nothing_of_a_real_body() {
    let Some(corpus) = corpus() else { return };
    // Every two of what is set meet.
    let settings: Vec<(Rules, Escaping)> = (label_sets().into_iter().enumerate())
        .flat_map(|(index, labels)| {
            ALL_UNTYPED.into_iter().enumerate().map(move |(other, untyped)| {
                (Rules::new(labels.clone(), untyped), BOTH_NAMES[(index + other) % BOTH_NAMES.len()])
            })
        })
        .collect();
    for (index, path) in files_below(&corpus).into_iter().enumerate() {
        let body = fs::read(&path).expect("a file");
        let places = [1, 2, 3, 5, 7, 11, 13].map(|part| (body.len() / 17 + index) * part);
        let mut cuts = vec![Cut::Whole, Cut::At(&places)];
        if body.len() <= SMALL {
            cuts.push(Cut::EveryByte);
        }
        for (rules, names) in &settings {
            for from in [Form::Text, Form::OpenMetrics] {
                is_the_same(from, rules, *names, &body, &cuts)
                    .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            }
        }
        for names in BOTH_NAMES {
            is_canonical(&Rules::default(), names, &body, &cuts[1..])
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }
}

#[test]
fn a_quoted_name_is_the_metrics_by_what_follows_it_in_its_own_line() {
    for body in [
        "{\"a\",AA=\"b\"} 1\n{\"a\" Aa=\"b\"} 1\n",
        "{\"a\" ,AA=\"b\"} 1\n{\"a\" Aa=\"b\"} 1\n",
        "{\"a\",AA=\"b\"} 1\n{\"a\" Aa=\"b\",a_=\"c\nv\"} 1\n",
        "{AA=\"b\",\"a\",} 1\n{AA=\"b\",\"a\" Aa=\"b\"} 1\n",
        "{\"a\",AA=\"b\"} 1\n{\"a\"=\"b\"} 1\n",
    ] {
        let outcome = is_the_same(
            Form::Text,
            &Rules::default(),
            Escaping::Underscores,
            body.as_bytes(),
            &[Cut::Whole, Cut::EveryByte],
        );
        outcome.unwrap_or_else(|error| panic!("{body:?}: {error}"));
    }
}

/// A line may be told by a short cut only as long as what becomes of its name is known.
#[test]
fn a_name_that_was_forgotten_is_settled_anew() {
    let lines = "x{a=\"1\"} 1\nx{a=\"1\"} 1\nb 1\nc 1\nd 1\ne 1\nx{a=\"2\"} 1\n# HELP z z\n";
    let long = "n".repeat(20_000);
    for body in [
        format!("{lines}x 2\n"),
        format!("{lines}x{{b=\"2\"}} 2\n# c \u{e9}\n"),
        format!("x{{a=\"1\"}} 1\nx{{a=\"1\"}} 1\n{long} 1\nx{{a=\"2\"}} 1\n# HELP z z\nx 2\n"),
        "x{a=\"1\"} 1\nx{a=\"1\"} 1\nb 1\nc 1\nd 1\n{\"e\",f=\"\n\"} 1\nx{a=\"2\"} 1\n# HELP z z\nx 2\n".to_owned(),
    ] {
        let cuts = [Cut::Whole, Cut::EveryByte];
        let outcome = is_the_same(Form::Text, &Rules::default(), Escaping::Underscores, body.as_bytes(), &cuts);
        outcome.unwrap_or_else(|error| panic!("{body:?}: {error}"));
    }
}
