//! Two targets in one answer: what readers see of it is what they would see of each by itself. To Prometheus 3, samples are of the
//! type that was told last, whatever their names; to strict readers of OpenMetrics, a family stands in one place.

use qpext::exposition::{
    End, Engine, Escaping, Families, Format, OpenMetricsVersion, Room, Rules, TextVersion, Together, Untyped, together,
};

use super::{read_as, refusals};
use crate::support::readers::Sample;
use crate::support::{PLAIN, SERVING_LABELS, engine_of, serving_rules, verbatim};

const TEXT_1_0_0: Format = Format::Text(TextVersion::V1_0_0);

const OPEN_METRICS: Format = Format::OpenMetrics(OpenMetricsVersion::V1_0_0);

/// What the sidecar makes of these targets, one behind the other.
fn merged(bodies: [&str; 2], to: Format) -> Vec<u8> {
    let (mut out, mut families) = (Vec::new(), Families::default());
    for (target, body) in bodies.into_iter().enumerate() {
        let mut engine = engine_of(TEXT_1_0_0, to, Escaping::AllowUtf8, &serving_rules(Untyped::Convert));
        families.turn_to(target);
        engine.push(body.as_bytes(), &mut families, &mut out);
        engine.finish(End::Whole, &mut families, &mut out);
    }
    out
}

#[test]
fn prometheus_three_sees_of_two_targets_what_it_sees_of_each() {
    let histogram = |target: &str| {
        format!(
            "# TYPE h histogram\nh_bucket{{t=\"{target}\",le=\"1\"}} 1\nh_bucket{{t=\"{target}\",le=\"+Inf\"}} 2\n\
             h_sum{{t=\"{target}\"}} 2\nh_count{{t=\"{target}\"}} 2\n"
        )
    };
    let summary = |target: &str| {
        format!(
            "# TYPE s summary\ns{{t=\"{target}\",quantile=\"1\"}} 1\ns_sum{{t=\"{target}\"}} 2\ns_count{{t=\"{target}\"}} 2\n"
        )
    };
    let gauge = "# TYPE g gauge\ng 1\n";
    let in_two_places = format!("{}{gauge}{}", histogram("1"), histogram("2"));
    for (what, bodies) in [
        ("a summary that both have", [summary("1"), summary("2")]),
        ("a histogram that both have", [histogram("1"), histogram("2")]),
        ("both, the other way round", [histogram("1") + &summary("1"), summary("2") + &histogram("2")]),
        ("a type that one repeats", [in_two_places.clone(), summary("1")]),
        ("samples without a type behind a histogram", [histogram("1"), "x{le=\"1\",quantile=\"1\"} 1\n".to_owned()]),
        ("samples without a type behind a summary", [summary("1"), "x_bucket{le=\"1\"} 1\n".to_owned()]),
        (
            "a name that is sanitized within a histogram",
            [histogram("1").replace("h_sum", "h_total{t=\"1\"} 5\nh_sum"), gauge.to_owned()],
        ),
        (
            "a name that is sanitized within a summary",
            [
                summary("1").replace("s_sum", "s_created{t=\"1\"} 5\ns{t=\"1\",quantile=\"2\"} 1\ns_sum"),
                gauge.to_owned(),
            ],
        ),
        ("a histogram here and a counter there", [histogram("1"), "# TYPE h counter\nh{le=\"1\"} 1\n".to_owned()]),
    ] {
        let directly = [&bodies[0], &bodies[1]].map(|body| read_as(TEXT_1_0_0, Escaping::AllowUtf8, body.as_bytes()));
        let answers = [TEXT_1_0_0, Format::Protobuf].map(|to| (to, merged([&bodies[0], &bodies[1]], to)));
        let readers = ["prometheus", "prometheus_native", "prometheus_nhcb"];
        for ((to, answer), reader) in answers.iter().flat_map(|answer| readers.map(|reader| (answer, reader))) {
            let (text, together) = (String::from_utf8_lossy(answer), read_as(*to, Escaping::AllowUtf8, answer));
            let [mut expected, other] = directly.each_ref().map(|directly| directly.of(reader).clone());
            assert_eq!((&expected.error, &other.error), (&None, &None), "{what}");
            expected.samples.extend(other.samples);
            let seen = together.of(reader);
            assert_eq!(seen.error, None, "{what}: {text}");
            let mut differences = expected.differences(seen, &SERVING_LABELS);
            // In messages, a sanitized family stands in nobody's way, nor does what stands within a histogram.
            let is_better = |difference: &String| {
                ["unknown became gauge", "unknown became counter", "2 became 1"]
                    .iter()
                    .any(|what| difference.ends_with(what))
            };
            differences.retain(|difference| *to != Format::Protobuf || !is_better(difference));
            assert!(differences.is_empty(), "{reader}: {what}: {differences:#?}\n{text}");
        }
    }
}

/// What the sidecar makes of these bodies of OpenMetrics; `Err` where it puts none of them together.
fn merged_open_metrics(bodies: [&str; 2], escaping: Escaping) -> Result<Vec<u8>, Together> {
    let pieces = match together(&bodies.map(str::as_bytes), escaping, &Room::default()) {
        Together::Pieces(pieces) => {
            pieces.into_iter().map(|piece| (piece.body, &bodies[piece.body][piece.span])).collect()
        }
        Together::Apart => bodies.into_iter().enumerate().collect::<Vec<_>>(),
        other => return Err(other),
    };
    let (mut out, mut families) = (Vec::new(), Families::default());
    let mut engines: [Box<dyn Engine + Send>; 2] =
        std::array::from_fn(|_| engine_of(OPEN_METRICS, OPEN_METRICS, escaping, &serving_rules(Untyped::Keep)));
    let mut last = 0;
    for (target, piece) in pieces {
        if target != last {
            engines[last].pause(&mut families);
            last = target;
        }
        families.turn_to(target);
        engines[target].push(piece.as_bytes(), &mut families, &mut out);
    }
    engines[last].pause(&mut families);
    for (target, mut engine) in engines.into_iter().enumerate() {
        families.turn_to(target);
        engine.finish(End::Whole, &mut families, &mut out);
        assert!(engine.is_whole(), "{}", bodies[target]);
    }
    out.extend_from_slice(b"# EOF\n");
    Ok(out)
}

/// A Python program's own families.
fn python(target: &str) -> String {
    format!(
        "# HELP python_info Python platform information\n# TYPE python_info gauge\npython_info{{t=\"{target}\"}} 1.0\n\
         # HELP process_cpu_seconds Total user and system CPU time spent in seconds.\n\
         # TYPE process_cpu_seconds counter\nprocess_cpu_seconds_total{{t=\"{target}\"}} 9.75\n\
         # HELP request_seconds Latency.\n# TYPE request_seconds histogram\n# UNIT request_seconds seconds\n\
         request_seconds_bucket{{t=\"{target}\",le=\"1.0\"}} 1.0 # {{trace_id=\"{target}\"}} 0.5\n\
         request_seconds_bucket{{t=\"{target}\",le=\"+Inf\"}} 2.0\nrequest_seconds_count{{t=\"{target}\"}} 2.0\n\
         request_seconds_sum{{t=\"{target}\"}} 3.0\nrequest_seconds_created{{t=\"{target}\"}} 1.7e9\n"
    )
}

#[test]
fn every_reader_takes_two_targets_that_speak_open_metrics() {
    let ended = |body: String| body + "# EOF\n";
    let utf8 = Escaping::AllowUtf8;
    for (what, bodies, escaping) in [
        ("nothing in common", [python("1"), "# TYPE g gauge\ng 1\n".to_owned()], utf8),
        ("all in common", [python("1"), python("2")], utf8),
        (
            "some in common",
            [format!("# TYPE g gauge\ng 1\n{}", python("1")), python("2") + "# TYPE x info\nx_info 1\n"],
            utf8,
        ),
        (
            "in another order",
            [
                python("1"),
                "# TYPE process_cpu_seconds counter\nprocess_cpu_seconds_total{t=\"2\"} 1\n\
                 # TYPE python_info gauge\npython_info{t=\"2\"} 1\n"
                    .to_owned(),
            ],
            utf8,
        ),
        (
            "metadata that only the second one has",
            [
                "# TYPE a counter\n# TYPE b counter\nb_total{t=\"1\"} 1\n".to_owned(),
                "# HELP a A.\n# TYPE a counter\na_total 1\n# HELP b B.\n# TYPE b counter\nb_total{t=\"2\"} 1\n"
                    .to_owned(),
            ],
            utf8,
        ),
        (
            "no types at all",
            ["a{t=\"1\"} 1\nb{t=\"1\"} 1\n".to_owned(), "b{t=\"2\"} 1\na{t=\"2\"} 1\n".to_owned()],
            utf8,
        ),
        (
            "one family in two places of one target",
            ["# TYPE c counter\nc_total{t=\"1\"} 1\n# TYPE g gauge\ng 1\nc_total{t=\"3\"} 1\n".to_owned(), python("2")],
            utf8,
        ),
        (
            "names that are one when escaped",
            [
                "# TYPE \"a.b\" gauge\n{\"a.b\",t=\"1\"} 1\n# TYPE c gauge\nc 1\n".to_owned(),
                "# TYPE a_b gauge\na_b{t=\"2\"} 1\n".to_owned(),
            ],
            Escaping::Underscores,
        ),
        (
            "the last family of one and the first of the other, and metadata without samples",
            [
                "# HELP m_x Never used yet.\n# TYPE m_x counter\n# TYPE up gauge\nup{t=\"1\"} 1\n".to_owned(),
                "# TYPE up gauge\nup{t=\"2\"} 2\n# TYPE z gauge\nz 1\n".to_owned(),
            ],
            utf8,
        ),
        (
            "families by turns",
            [(1..=3).map(|t| format!("a{{t=\"{t}\"}} 1\nb{{t=\"{t}\"}} 1\n")).collect(), "a{t=\"4\"} 1\n".to_owned()],
            utf8,
        ),
        (
            "a type for the time of a counter's creation",
            [
                "# TYPE b counter\nb_total{t=\"1\"} 6\n# TYPE b_created gauge\nb_created{t=\"1\"} 8\n".to_owned(),
                "# TYPE c gauge\nc 1\n# TYPE b counter\nb_total{t=\"2\"} 5\nb_created{t=\"2\"} 9\n".to_owned(),
            ],
            utf8,
        ),
        (
            "metadata without samples in both",
            [
                "# TYPE c gauge\n# TYPE e gauge\n# TYPE z gauge\nz 1\n".to_owned(),
                "# HELP e E.\n# TYPE e gauge\n# HELP c C.\n# TYPE c gauge\n# TYPE y gauge\ny 1\n".to_owned(),
            ],
            utf8,
        ),
        (
            "a type before that of the family that has the name as a part",
            [
                "# TYPE d_sum gauge\n# TYPE d histogram\nd_bucket{t=\"1\",le=\"+Inf\"} 2\nd_sum{t=\"1\"} 1\nd_count{t=\"1\"} 2\n\
                 # TYPE z gauge\nz 1\n"
                    .to_owned(),
                "# TYPE z gauge\nz{t=\"2\"} 1\n".to_owned(),
            ],
            utf8,
        ),
        (
            "a type for a part of another family",
            [
                "# TYPE d summary\nd_sum{t=\"1\"} 1\nd_count{t=\"1\"} 1\n# TYPE z gauge\nz 1\n".to_owned(),
                "# TYPE d summary\nd_count{t=\"2\"} 1\n# TYPE d_sum gauge\nd_sum{t=\"2\"} 4\n".to_owned(),
            ],
            utf8,
        ),
        (
            "malformed lines, comments and blank ones between",
            [
                format!("oh no\n{}a{{ 1\n", python("1")),
                format!("{}# a comment\n\nx{{a=\"\n{}", &python("2")[..python("2").len() - 1], "\"} 1\n"),
            ],
            utf8,
        ),
    ] {
        let bodies = bodies.map(ended);
        let answer = merged_open_metrics([&bodies[0], &bodies[1]], escaping);
        let answer = answer.unwrap_or_else(|other| panic!("{what}: {other:?}"));
        let text = String::from_utf8_lossy(&answer);
        let seen = read_as(OPEN_METRICS, escaping, &answer);
        let refusals = refusals(&seen);
        assert!(refusals.is_empty(), "{what}: {refusals:?}\n{text}");
        // It refuses the one's target; and of the other's, nobody escapes the names.
        if what.starts_with("malformed") || escaping == Escaping::Underscores {
            continue;
        }
        let mut expected = read_as(OPEN_METRICS, escaping, bodies[0].as_bytes()).of("prometheus").clone();
        expected.samples.extend(read_as(OPEN_METRICS, escaping, bodies[1].as_bytes()).of("prometheus").samples.clone());
        let mut differences = expected.differences(seen.of("prometheus"), &SERVING_LABELS);
        // Of a sample that stands behind another family, Prometheus does not know the type where it reads the target; and what
        // is a part of another family has no type of its own here.
        let is_told = |difference: &String| {
            ["unknown became counter", "gauge became summary", "gauge became unknown", "gauge became histogram"]
                .iter()
                .any(|what| difference.ends_with(what))
        };
        differences.retain(|difference| !is_told(difference));
        assert!(differences.is_empty(), "{what}: {differences:#?}\n{text}");
    }
}

/// What does not fit in one of the two is written so that all readers take it of both.
#[test]
fn every_reader_takes_two_targets_of_which_one_does_not_fit() {
    let whole = "# TYPE h histogram\nh_bucket{le=\"1.0\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_count 1\nh_sum 1\n";
    let without_last = "# TYPE h histogram\nh_bucket{le=\"1.0\"} 1 # {a=\"b\"} 1\nh_count 1\nh_sum 1\n";
    let pairs = [
        [without_last, without_last],
        [whole, without_last],
        ["# TYPE c counter\nc_total 1\nc_created 1\n", "# TYPE c counter\nc_total -1\n"],
        ["# TYPE s summary\ns_sum 1\ns_count 1\n", "# TYPE s summary\ns_sum -1\ns_count 1\n"],
        ["# TYPE i info\ni_info 1\n", "# TYPE i info\ni_info 2\n"],
        ["# TYPE i info\ni_info 1\n", "# TYPE i info\ni_info 1 5\n"],
        ["# TYPE e stateset\ne{e=\"on\"} 1\n", "# TYPE e stateset\ne{e=\"on\"} 2\n"],
        [
            "# TYPE d gaugehistogram\nd_bucket{le=\"+Inf\"} 1\nd_created 1\n",
            "# TYPE d gaugehistogram\nd_bucket{le=\"+Inf\"} 1\nd_created 1\n",
        ],
        ["# TYPE c counter\nc 1\nc_total 1\n", "# TYPE c counter\nc 1\nc_total 1\n"],
        ["# TYPE c counter\nc_total 1\n", "# TYPE c counter\nc 1\n"],
        ["# TYPE i info\ni_info 1\n", "# TYPE i info\ni 1\n"],
        ["# TYPE g gauge\ng 1\n", "# TYPE g gauge\ng 1 5\n"],
        ["a 1\nb 1\na 2\n", "a 1\nb 1\na 2\n"],
    ];
    for bodies in pairs.into_iter().flat_map(|[one, other]| [[one, other], [other, one]]) {
        let mut number = 0;
        let bodies = bodies.map(|body| {
            number += 1;
            let own = format!("own=\"{number}\"");
            let labelled =
                body.lines().map(|line| match line.split_once(['{', ' ']).filter(|_| !line.starts_with('#')) {
                    Some((name, rest)) if line[name.len()..].starts_with('{') => format!("{name}{{{own},{rest}\n"),
                    Some((name, rest)) => format!("{name}{{{own}}} {rest}\n"),
                    None => format!("{line}\n"),
                });
            labelled.collect::<String>() + "# TYPE z gauge\nz{" + &own + "} 1\n# EOF\n"
        });
        let answer = merged_open_metrics([&bodies[0], &bodies[1]], Escaping::AllowUtf8);
        let answer = answer.unwrap_or_else(|other| panic!("{bodies:?}: {other:?}"));
        let text = String::from_utf8_lossy(&answer);
        let seen = read_as(OPEN_METRICS, Escaping::AllowUtf8, &answer);
        let refusals = refusals(&seen);
        assert!(refusals.is_empty(), "{refusals:?}\n{text}");
        let samples =
            bodies.iter().map(|body| body.lines().filter(|line| !line.starts_with('#')).count()).sum::<usize>();
        assert_eq!(seen.of("prometheus").samples.len(), samples, "{text}");
    }
}

#[test]
fn bodies_of_too_many_pieces_are_not_put_together() {
    let by_turns = |times: usize| "a 1\nb 1\n".repeat(times) + "# EOF\n";
    let put = |times| together(&[by_turns(times).as_bytes(), b"a 2\n# EOF\n"], Escaping::AllowUtf8, &Room::default());
    assert!(matches!(put(1000), Together::Pieces(_)));
    assert_eq!(put(6000), Together::NoRoom);
}

#[test]
fn the_help_text_is_that_of_who_has_one() {
    let bodies =
        ["# TYPE z gauge\nz 1\n# TYPE d gauge\nd 1\n# EOF\n", "# HELP d Words.\n# TYPE d gauge\nd{t=\"2\"} 1\n# EOF\n"];
    let answer = merged_open_metrics(bodies, Escaping::AllowUtf8).expect("they are put together");
    let seen = read_as(OPEN_METRICS, Escaping::AllowUtf8, &answer);
    assert!(seen.refusals().is_empty(), "{seen:?}");
    assert_eq!(seen.of("prometheus").families["d"].help, "Words.");
}

#[test]
fn what_strict_readers_would_refuse_together_is_not_put_together() {
    let counter = "# TYPE a counter\na_total 1\n# EOF\n";
    for (what, other) in [
        ("another type", "# TYPE a gauge\na 1\n# EOF\n"),
        ("no type", "a 1\n# EOF\n"),
        ("a name that samples of the other have", "# TYPE a_total gauge\na_total 2\n# EOF\n"),
        ("one of its parts", "a_created 2\n# EOF\n"),
    ] {
        for bodies in [[counter, other], [other, counter]] {
            let together = together(&bodies.map(str::as_bytes), Escaping::AllowUtf8, &Room::default());
            assert!(matches!(together, Together::Clash(_)), "{what}: {together:?}");
        }
    }
}

/// What the sidecar makes of a queue-proxy and an application in text 0.0.4.
fn beside_a_queue_proxy(queue_proxy: &str, app: &str) -> Vec<u8> {
    let (mut out, mut families) = (Vec::new(), Families::default());
    let mut first = verbatim(Escaping::Underscores, &Rules::default());
    first.push(queue_proxy.as_bytes(), &mut families, &mut out);
    first.finish(End::Whole, &mut families, &mut out);
    families.turn_to(1);
    let mut second = engine_of(PLAIN, PLAIN, Escaping::Underscores, &serving_rules(Untyped::Convert));
    second.push(app.as_bytes(), &mut families, &mut out);
    second.finish(End::Whole, &mut families, &mut out);
    out
}

#[test]
fn readers_see_all_samples_of_one_name_with_two_types() {
    let histogram = "# TYPE a histogram\na_bucket{t=\"1\",le=\"1.0\"} 1\na_bucket{t=\"1\",le=\"+Inf\"} 2\n\
                     a_sum{t=\"1\"} 3\na_count{t=\"1\"} 2\n";
    let summary = "# TYPE a summary\na{t=\"2\",quantile=\"0.5\"} 1\na_sum{t=\"2\"} 3\na_count{t=\"2\"} 2\n";
    let counter = "# TYPE a counter\na{t=\"3\"} 1\n";
    let gauge = "# TYPE a_count gauge\na_count{t=\"4\"} 1\n";
    let empty = "# TYPE a gauge\n";
    let untyped = "a{t=\"5\"} 1\na_bucket{t=\"5\"} 1\n";
    // Where the first one says that it is of several parts, Go's reader takes no other sample of the name.
    let all = ["expfmt", "prometheus", "prometheus_client", "victoriametrics"];
    let others = &all[1..];
    for (first, second, readers) in [
        (histogram, counter, others),
        (histogram, summary, others),
        (histogram, untyped, others),
        (summary, counter, others),
        (summary, histogram, &all[..]),
        (counter, histogram, &all),
        (counter, summary, &all),
        (histogram, gauge, &all),
        (gauge, histogram, &all),
        (summary, gauge, &all),
        (gauge, summary, &all),
        (empty, histogram, &all),
        (empty, counter, &all),
        (empty, summary, &all),
        (untyped, histogram, &all),
    ] {
        let answer = beside_a_queue_proxy(first, second);
        let seen = read_as(PLAIN, Escaping::Underscores, &answer);
        for reader in readers {
            let reading = seen.of(reader);
            assert_eq!(reading.error, None, "{reader}: {}", String::from_utf8_lossy(&answer));
            for (body, added) in [(first, &SERVING_LABELS[..0]), (second, &SERVING_LABELS)] {
                for sample in &read_as(PLAIN, Escaping::Underscores, body.as_bytes()).of(reader).samples {
                    let mut labels = sample.series.labels.clone();
                    labels.extend(added.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
                    let is_it = |other: &Sample| other.series.labels == labels && other.value == sample.value;
                    assert!(
                        reading.samples.iter().any(is_it),
                        "{reader}: {sample:?}: {}",
                        String::from_utf8_lossy(&answer)
                    );
                }
            }
        }
    }
}
