//! What holds of filters and limits for every body, checked on bodies that nobody wrote.

use std::num::NonZeroU64;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;
use qpext::exposition::{DropReason, Escaping, Filter, Rules};

use crate::engine::properties::{almost_an_exposition, are_some_of, families, loose, render, tries, untyped};
use crate::engine::protobuf_properties::{any_body, read_strictly};
use crate::engine::rules::{Form, Outcome, engine, outputs, run};
use crate::engine::to_protobuf::read_put_together;
use crate::engine::to_protobuf_properties::check_counts;
use crate::support::reader::{Exposition, Sample};
use crate::support::{Cut, Lines, serving_rules};

const FORMS: [Form; 3] = [Form::Text, Form::OpenMetrics, Form::Protobuf];

fn expression() -> impl Strategy<Value = &'static str> {
    select(vec![
        ".*",
        "a",
        "[a-m].*",
        ".*_total",
        ".*_created",
        ".*[._](sum|bucket)",
        "[^_.]*",
        r"(?i).*[B-Y\pL].*",
        ".*_g.*|.*_info|a",
    ])
}

fn rules() -> impl Strategy<Value = Rules> {
    let expression = || proptest::option::of(expression());
    let filter = proptest::option::weighted(0.7, (expression(), expression()));
    (untyped(), filter, 0..12u64).prop_map(|(untyped, filter, limit)| Rules {
        filter: filter.map(|(keep, drop)| filtering(keep, drop)),
        sample_limit: NonZeroU64::new(limit),
        ..serving_rules(untyped)
    })
}

fn filtering(keep: Option<&str>, drop: Option<&str>) -> Arc<Filter> {
    Arc::new(Filter::new(keep, drop).expect("it is an expression"))
}

fn names() -> impl Strategy<Value = Escaping> {
    select(vec![Escaping::Underscores, Escaping::AllowUtf8])
}

fn body(from: Form) -> BoxedStrategy<Vec<u8>> {
    match from {
        Form::Text => almost_an_exposition(Lines::Text).boxed(),
        Form::OpenMetrics => almost_an_exposition(Lines::OpenMetrics).boxed(),
        Form::Protobuf => any_body().boxed(),
    }
}

fn any_form_and_body() -> impl Strategy<Value = (Form, Vec<u8>)> {
    select(FORMS.to_vec()).prop_flat_map(|from| body(from).prop_map(move |body| (from, body)))
}

/// The lines of an output, read.
fn read(to: Form, outcome: &Outcome, names: Escaping) -> Result<Exposition, TestCaseError> {
    let read = match to {
        Form::OpenMetrics => Lines::OpenMetrics.read(&[&outcome.out[..], b"# EOF\n"].concat(), names),
        _ => Lines::Text.read(&outcome.out, names),
    };
    read.map_err(TestCaseError::fail)
}

fn sorted(samples: &[Sample]) -> Vec<Sample> {
    let mut samples: Vec<Sample> = samples.iter().map(loose).collect();
    samples.sort();
    samples
}

proptest! {
    #![proptest_config(tries())]

    #[test]
    fn what_goes_out_is_read_and_no_more_than_may(
        (from, body) in any_form_and_body(),
        rules in rules(),
        names in names(),
        places in proptest::collection::vec(any::<usize>(), 0..8),
    ) {
        for to in outputs(from) {
            let outcome = run(engine(from, *to, &rules, names), &body, Cut::Whole);
            prop_assert_eq!(&run(engine(from, *to, &rules, names), &body, Cut::At(&places)), &outcome);
            let samples = outcome.counts.samples;
            prop_assert!(rules.sample_limit.is_none_or(|limit| samples <= limit.get()));
            match (from, to) {
                (Form::Protobuf, Form::Protobuf) => {
                    let families = read_strictly(&outcome.out, names).map_err(TestCaseError::fail)?;
                    prop_assert_eq!(families.iter().map(|family| family.metric.len() as u64).sum::<u64>(), samples);
                }
                (_, Form::Protobuf) => {
                    let families = read_put_together(&outcome.out, names).map_err(TestCaseError::fail)?;
                    check_counts(&families, samples)?;
                }
                _ => prop_assert_eq!(read(*to, &outcome, names)?.samples.len() as u64, samples),
            }
            // What was dropped first is a loss that was counted.
            if let Some(first) = &outcome.first_dropped {
                prop_assert!(outcome.counts.dropped(first.reason) > 0);
            }
        }
    }

    #[test]
    fn within_the_limit_nothing_is_different(
        (from, body) in any_form_and_body(),
        rules in rules(),
        names in names(),
    ) {
        let without = Rules { sample_limit: None, ..rules };
        for to in outputs(from) {
            let whole = run(engine(from, *to, &without, names), &body, Cut::Whole);
            // Where lines are put together, they count before one of them is found to be too many.
            let lines = body.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
            let enough = if from == Form::Protobuf { whole.counts.samples.max(1) } else { lines };
            let with = Rules { sample_limit: NonZeroU64::new(enough), ..without.clone() };
            prop_assert_eq!(&run(engine(from, *to, &with, names), &body, Cut::Whole), &whole);
            let less = whole.counts.samples.saturating_sub(1);
            if let Some(limit) = NonZeroU64::new(less) {
                let with = Rules { sample_limit: Some(limit), ..without.clone() };
                let part = run(engine(from, *to, &with, names), &body, Cut::Whole);
                prop_assert!(part.is_over_limit);
                if from == Form::OpenMetrics && *to != Form::Protobuf {
                    // What waits for its family's end comes later where there is more of it.
                    are_some_of(&read(*to, &part, names)?.samples, &read(*to, &whole, names)?.samples)?;
                } else if *to != Form::Protobuf {
                    prop_assert!(whole.out.starts_with(&part.out));
                }
                if from == Form::OpenMetrics && *to == Form::OpenMetrics {
                    // Some may have gone because they do not fit to others.
                    prop_assert!(part.counts.samples <= less);
                } else if from != Form::Protobuf && *to != Form::Protobuf {
                    prop_assert_eq!(part.counts.samples, less);
                }
            }
        }
    }

    #[test]
    fn the_same_samples_are_dropped_whatever_is_written(
        (from, body) in any_form_and_body(),
        rules in rules(),
        names in names(),
    ) {
        let rules = Rules { sample_limit: None, ..rules };
        let dropped = |to: Form, names| {
            let outcome = run(engine(from, to, &rules, names), &body, Cut::Whole);
            outcome.counts.dropped(DropReason::Filtered)
        };
        let expected = dropped(Form::Text, names);
        prop_assert_eq!(dropped(Form::Text, Escaping::AllowUtf8), expected);
        for to in outputs(from) {
            if *to == Form::Protobuf && from == Form::OpenMetrics {
                // And with them the times at which they were created.
                prop_assert!(dropped(*to, names) >= expected);
            } else {
                prop_assert_eq!(dropped(*to, names), expected);
            }
        }
    }

    #[test]
    fn what_is_kept_by_an_expression_and_what_is_not_dropped_by_it_are_all_there_is(
        from in select(vec![Lines::Text, Lines::OpenMetrics]),
        of_text in families(Lines::Text),
        of_open_metrics in families(Lines::OpenMetrics),
        expression in expression(),
        rules in rules(),
    ) {
        let (form, families) = match from {
            Lines::Text => (Form::Text, of_text),
            Lines::OpenMetrics => (Form::OpenMetrics, of_open_metrics),
        };
        let body = render(&families, from);
        // Families can share names: `a` with `a_sum`, and a family `a_sum`.
        prop_assume!(from.read(body.as_bytes(), Escaping::AllowUtf8).is_ok());
        for to in outputs(form).iter().filter(|to| **to != Form::Protobuf) {
            let output = |filter| {
                let rules = Rules { filter, sample_limit: None, ..rules.clone() };
                read(*to, &run(engine(form, *to, &rules, Escaping::AllowUtf8), body.as_bytes(), Cut::Whole), Escaping::AllowUtf8)
            };
            let all = output(None)?;
            let kept = output(Some(filtering(Some(expression), None)))?;
            let rest = output(Some(filtering(None, Some(expression))))?;
            let parts = [kept.samples.clone(), rest.samples.clone()].concat();
            if *to == Form::OpenMetrics {
                // What another family parts stands together without it, and then not all of it may.
                are_some_of(&parts, &all.samples)?;
            } else {
                prop_assert_eq!(sorted(&parts), sorted(&all.samples));
            }
            for part in [kept, rest] {
                // What waits for its family's end comes later where there is more of it.
                if form != Form::OpenMetrics {
                    let mut of_all = all.samples.iter();
                    prop_assert!(part.samples.iter().all(|sample| of_all.any(|other| other == sample)), "in its order");
                }
                // A sample that is dropped neither parts a family from its metadata nor comes before its type.
                // Which of a counter's samples comes first, one by its ending or one without, tells which type both get.
                // And what fits together without the others may have a type that it has not with them.
                let by_first = |kind: &String| *to == Form::OpenMetrics && ["counter", "info", "unknown"].contains(&kind.as_str());
                for (name, kind) in &part.types {
                    let is_same = |other| other == kind || by_first(other) || by_first(kind);
                    prop_assert!(all.types.get(name).is_none_or(is_same), "{}", name);
                }
                for (name, help) in &part.helps {
                    prop_assert!(all.helps.get(name).is_none_or(|other| other == help), "{}", name);
                }
            }
        }
    }
}
