//! Rules of the exposition engine that take more than one line to show.

use qpext::exposition::{
    DropReason, End, Escaping, Families, Format, OpenMetricsVersion, Room, Rules, Spelling, TextVersion, Untyped,
    engine,
};

use crate::engine::cases::{Case, check};
use crate::engine::protobuf::{Setting, USUAL};
use crate::engine::rules::Form;
use crate::support::reader::read;
use crate::support::{
    Cell, Cut, Lines, OPEN_METRICS, OPEN_METRICS_TO_TEXT, PLAIN, SERVING, TEXT, engine_of, merge, relabel,
    serving_rules, verbatim,
};

/// What becomes of an application's body.
const fn becomes<'a>(promise: &'a str, untyped: Untyped, body: &'a str, out: &'a str) -> Case<'a> {
    Case::new(promise, &[Lines::Text], Form::Text, Setting { untyped, ..USUAL }, body, out)
}

/// The same behind a queue-proxy's.
const fn behind<'a>(
    promise: &'a str,
    queue_proxy: Option<&'a str>,
    untyped: Untyped,
    body: &'a str,
    out: &'a str,
) -> Case<'a> {
    Case { behind: queue_proxy, ..becomes(promise, untyped, body, out) }
}

const PARTS: &str = "# HELP a Words.\n# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_sum 2\na_count 3\n\
                # TYPE b_total summary\nb_total{quantile=\"0.5\"} 4\nb_total_sum 5\nb_total_count 6\n";

const LABELLED_PARTS: &str = "# HELP a Words.\n# TYPE a histogram\na_bucket{le=\"+Inf\",@} 1\na_sum{@} 2\na_count{@} 3\n\
                    # TYPE b_total summary\nb_total{quantile=\"0.5\",@} 4\nb_total_sum{@} 5\nb_total_count{@} 6\n";

pub const CASES: &[Case] = &[
    behind(
        "metadata that the queue-proxy left out is taken from the app",
        Some("# TYPE shared counter\n"),
        Untyped::Convert,
        "# HELP shared Words.\n# TYPE shared counter\nshared 2\n",
        "# HELP shared Words.\nshared{@} 2\n",
    ),
    // Its samples came without a type: a type now would come after them.
    behind(
        "metadata that the queue-proxy left out is taken from the app",
        Some("shared 1\nshared_total 1\n"),
        Untyped::Convert,
        "# HELP shared Words.\n# TYPE shared counter\nshared 2\nshared_total 2\n",
        "# HELP shared Words.\nshared{@} 2\n# HELP shared_total Words.\nshared_total{@} 2\n",
    ),
    becomes(
        "a counter's samples may end as OpenMetrics has them",
        Untyped::Convert,
        "# HELP a Words.\n# TYPE a counter\na_total 1\na_created 2\na_total 3\n",
        "# HELP a_total Words.\n# TYPE a_total counter\na_total{@} 1\n# TYPE a_created counter\na_created{@} 2\na_total{@} 3\n",
    ),
    becomes(
        "the types of OpenMetrics are read, and the names that go with them",
        Untyped::Convert,
        "# TYPE a info\na_info 1\n# TYPE b gaugehistogram\nb_bucket{le=\"+Inf\"} 1\nb_gcount 1\nb_gsum 2\n# TYPE c stateset\nc 1\n",
        "# TYPE a_info gauge\na_info{@} 1\n# TYPE b histogram\nb_bucket{le=\"+Inf\",@} 1\n# TYPE b_gsum gauge\nb_gsum{@} 2\n# TYPE b_gcount gauge\nb_gcount{@} 1\n# TYPE c gauge\nc{@} 1\n",
    ),
    becomes(
        "a bound or a quantile that is no number costs its sample",
        Untyped::Convert,
        "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"2\"} 1\nh_bucket{le=\"0.005f0\"} 1\nh_bucket{le=\"0x1p3\"} 1\nh_bucket{le=\"\"} 1\nh_bucket 1\nh_bucket{le=\"inf\"} 1\n\
         # TYPE s summary\ns{quantile=\"0.5\"} 1\ns{quantile=\"0.9\"} 1\ns{quantile=\"most\"} 1\ns{quantile=\"1e400\"} 1\n# TYPE g gauge\ng{le=\"x\"} 1\n",
        "# TYPE h histogram\nh_bucket{le=\"1\",@} 1\nh_bucket{le=\"2\",@} 1\nh_bucket{@} 1\nh_bucket{le=\"inf\",@} 1\n\
         # TYPE s summary\ns{quantile=\"0.5\",@} 1\ns{quantile=\"0.9\",@} 1\n# TYPE g gauge\ng{le=\"x\",@} 1\n",
    )
    .losing(5),
    becomes(
        "a bucket and a count below zero cost themselves",
        Untyped::Convert,
        "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"2\"} -1\nh_bucket{le=\"3\"} -0\nh_bucket{le=\"4\"} NaN\nh_sum -5\nh_count -2\n\
         # TYPE c counter\nc -1\n# TYPE s summary\ns{quantile=\"1\"} -1\ns_sum -1\n",
        "# TYPE h histogram\nh_bucket{le=\"1\",@} 1\nh_bucket{le=\"3\",@} -0\nh_bucket{le=\"4\",@} NaN\nh_sum{@} -5\n\
         # TYPE c counter\nc{@} -1\n# TYPE s summary\ns{quantile=\"1\",@} -1\ns_sum{@} -1\n",
    )
    .losing(2),
    becomes(
        "a family whose type cannot be read gets no other",
        Untyped::Convert,
        "# TYPE a_total cuonter\na_total 1\n# TYPE b\nb_total 1\nb_created 1\nc_total 1\n",
        "a_total{@} 1\nb_total{@} 1\nb_created{@} 1\n# TYPE c_total gauge\nc_total{@} 1\n",
    )
    .losing(2),
    becomes(
        "a counter of which nothing but its ending is the name has no type",
        Untyped::Convert,
        "# HELP _total Words.\n# TYPE _total counter\n_total 1\n# TYPE _sum counter\n_sum 1\n",
        "# HELP _total Words.\n_total{@} 1\n# TYPE _sum counter\n_sum{@} 1\n",
    )
    .losing(1),
    becomes(
        "metadata that the app gives twice is written once",
        Untyped::Convert,
        "# HELP a One.\n# HELP a Two.\n# TYPE a counter\n# TYPE a gauge\na 1\n# HELP a Three.\n# TYPE a counter\na 2\n",
        "# HELP a One.\n# TYPE a counter\na{@} 1\na{@} 2\n",
    )
    .losing(1),
    becomes(
        "a type behind the first sample is dropped",
        Untyped::Convert,
        "a 1\n# TYPE a counter\na 2\n",
        "a{@} 1\na{@} 2\n",
    )
    .losing(1),
    becomes(
        "a type behind the first sample is dropped",
        Untyped::Convert,
        "# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\n# TYPE a counter\na_count 1\n",
        "# TYPE a histogram\na_bucket{le=\"+Inf\",@} 1\na_count{@} 1\n",
    )
    .losing(1),
    becomes(
        "a line that was dropped is no first sample",
        Untyped::Convert,
        "a one\n# TYPE a counter\na 2\n",
        "# TYPE a counter\na{@} 2\n",
    )
    .losing(1),
    becomes(
        "convert makes created counters and total gauges and passes the rest",
        Untyped::Convert,
        "# HELP a_total Words.\na_total 1\na_total{x=\"y\"} 2\n# TYPE b_created untyped\nb_created 3\nc 4\n# TYPE d untyped\nd 5\n",
        "# HELP a_total Words.\n# TYPE a_total gauge\na_total{@} 1\na_total{x=\"y\",@} 2\n\
         # TYPE b_created counter\nb_created{@} 3\nc{@} 4\n# TYPE d untyped\nd{@} 5\n",
    ),
    becomes(
        "keep changes nothing",
        Untyped::Keep,
        "a_total 1\n# TYPE b_created untyped\nb_created 3\nc 4\n# TYPE d untyped\nd 5\n",
        "a_total{@} 1\n# TYPE b_created untyped\nb_created{@} 3\nc{@} 4\n# TYPE d untyped\nd{@} 5\n",
    ),
    // Strict readers take it for that of the family, a second time or behind its samples.
    becomes(
        "a part of a declared family has no metadata of its own",
        Untyped::Convert,
        "# HELP a Words.\n# TYPE a histogram\n# HELP a_sum Words.\na_bucket{le=\"+Inf\"} 1\n# TYPE a_bucket gauge\na_bucket 2\n\
         # TYPE b_sum gauge\n# TYPE b summary\nb_sum 3\n",
        "# HELP a Words.\n# TYPE a histogram\na_bucket{le=\"+Inf\",@} 1\na_bucket{@} 2\n\
         # TYPE b_sum gauge\n# TYPE b summary\nb_sum{@} 3\n",
    ),
    // Nor if it was the queue-proxy that declared the family; and yet it is none of the application's untyped ones.
    behind(
        "a part of a declared family has no metadata of its own",
        Some("# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\n"),
        Untyped::Drop,
        "# HELP a_bucket Words.\n# TYPE a_bucket gauge\na_bucket 2\n# HELP a_max Words.\n",
        "a_bucket{@} 2\n# HELP a_max Words.\n",
    ),
    // The queue-proxy's type stands for both in the answer, and yet the application gave none.
    behind(
        "the app's untyped families are told by what the app says itself",
        Some("# TYPE a gauge\na 1\n"),
        Untyped::Drop,
        "a 2\nb 3\n",
        "",
    )
    .dropping(2),
    behind(
        "the app's untyped families are told by what the app says itself",
        Some("# TYPE a_total counter\na_total 1\n"),
        Untyped::Convert,
        "a_total 2\n",
        "a_total{@} 2\n",
    ),
    behind(
        "the app's untyped families are told by what the app says itself",
        Some("# TYPE a histogram\na_count 1\n"),
        Untyped::Drop,
        "# TYPE a histogram\na_count 2\n",
        "a_count{@} 2\n",
    ),
    becomes(
        "a type that comes later tells anew which samples belong to a family",
        Untyped::Drop,
        "a_sum 1\n# TYPE a summary\na_sum 2\n",
        "# TYPE a summary\na_sum{@} 2\n",
    )
    .dropping(1),
    becomes("an empty body is an empty answer", Untyped::Convert, "", ""),
    becomes("an empty body is an empty answer", Untyped::Convert, "\n\n \n", ""),
    behind("an empty body is an empty answer", Some(""), Untyped::Convert, "", ""),
    behind(
        "metadata that the queue-proxy gave is dropped from the app",
        Some(
            "# HELP process_cpu_seconds_total CPU.\n# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 1\n",
        ),
        Untyped::Convert,
        "# HELP process_cpu_seconds_total Other words.\n# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 2\n\
         # HELP other Mine.\n# TYPE other gauge\nother 3\n",
        "process_cpu_seconds_total{@} 2\n# HELP other Mine.\n# TYPE other gauge\nother{@} 3\n",
    ),
    becomes(
        "drop discards the other untyped families with their metadata",
        Untyped::Drop,
        "# HELP a_total Words.\na_total 1\n# HELP b Words.\nb 2\nb{x=\"y\"} 3\n\
         # HELP c Words.\n# TYPE c untyped\nc 4\n# TYPE d_created untyped\nd_created 5\n\
         # HELP e Words.\n# TYPE e gauge\ne 6\nf_sum 7\n# HELP g Words.\n# HELP h Words.\n# TYPE h counter\nh 8\n",
        "# HELP a_total Words.\n# TYPE a_total gauge\na_total{@} 1\n# TYPE d_created counter\nd_created{@} 5\n\
         # HELP e Words.\n# TYPE e gauge\ne{@} 6\n# HELP g Words.\n# HELP h Words.\n# TYPE h counter\nh{@} 8\n",
    )
    .dropping(4),
    becomes("parts of declared histograms and summaries are not untyped", Untyped::Drop, PARTS, LABELLED_PARTS),
    becomes("parts of declared histograms and summaries are not untyped", Untyped::Convert, PARTS, LABELLED_PARTS),
    // Not theirs: a summary has no buckets, a gauge has no parts, and the suffix is no part's.
    becomes(
        "parts of declared histograms and summaries are not untyped",
        Untyped::Drop,
        "# TYPE b summary\nb_bucket 1\n# TYPE c gauge\nc_sum 2\n# TYPE d histogram\nd_max 3\n",
        "# TYPE b summary\n# TYPE c gauge\n# TYPE d histogram\n",
    )
    .dropping(3),
];

#[test]
fn families_become_what_the_table_says_however_they_are_cut() {
    check(CASES);
}

#[test]
fn the_queue_proxys_odd_spellings_of_metadata_are_known_again() {
    let (out, _) = merge(
        Some(b"#\tTYPE\tshared\tcounter\n# HELP  shared words\n# TYPE shared_too gauge"),
        b"# HELP shared More words.\n# TYPE shared counter\nshared 2\n# TYPE shared_too gauge\nshared_too 3\n",
        Untyped::Convert,
        Cut::EveryByte,
        End::Whole,
    );
    let expected =
        "# TYPE shared counter\n# HELP shared words\n# TYPE shared_too gauge\nshared{@} 2\nshared_too{@} 3\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected.replace('@', SERVING));
}

/// How often the bodies of one answer contradict the types of an earlier one.
#[track_caller]
fn conflicts(untyped: Untyped, bodies: &[(Option<Cell>, &str)]) -> u64 {
    let counts = [Cut::Whole, Cut::EveryByte].map(|cut| {
        let (mut families, mut out) = (Families::default(), Vec::new());
        for (target, (cell, body)) in bodies.iter().enumerate() {
            families.turn_to(target);
            match cell {
                Some(cell) => {
                    cell.append(body.as_bytes(), untyped, cut, End::Whole, &mut families, &mut out);
                }
                None => {
                    let mut engine = verbatim(Escaping::Underscores, &Rules::default());
                    for chunk in cut.chunks(body.as_bytes()) {
                        engine.push(chunk, &mut families, &mut out);
                    }
                }
            }
        }
        families.conflicts()
    });
    assert_eq!(counts[0], counts[1]);
    counts[0]
}

#[test]
fn a_type_that_contradicts_an_earlier_targets_is_counted() {
    for (expected, bodies) in [
        (1, &["# TYPE a counter\na 1\n", "# TYPE a gauge\na 2\n"][..]),
        (0, &["# TYPE a counter\na 1\n", "# TYPE a counter\na 2\n"]),
        (1, &["# TYPE a counter\n", "# TYPE a gauge\n"]),
        // Once for each target and family, always against the first.
        (
            2,
            &[
                "# TYPE a counter\n# TYPE b counter\n",
                "# TYPE a gauge\na 1\n# TYPE b gauge\nb 1\n# TYPE a gauge\na{x=\"y\"} 2\n",
            ],
        ),
        (2, &["# TYPE a counter\na 1\n", "# TYPE a gauge\na 2\n", "# TYPE a gauge\na 3\n"]),
        (1, &["# TYPE a counter\na 1\n", "# TYPE a gauge\na 2\n", "# TYPE a counter\na 3\n"]),
        // To say nothing is none.
        (0, &["# TYPE a counter\na 1\n", "a 2\n"]),
        (0, &["a 1\n", "# TYPE a counter\na 2\n", "# TYPE a gauge\na 3\n"]),
        // To say that nobody knows is one.
        (1, &["# TYPE a counter\na 1\n", "# TYPE a untyped\na 2\n"]),
        (1, &["# TYPE a untyped\na 1\n", "# TYPE a counter\na 2\n"]),
        // Its name, not its type, is what collides.
        (0, &["# TYPE a histogram\na_count 1\n", "# TYPE a_count gauge\na_count 2\n"]),
    ] {
        for first in [None, Some(TEXT)] {
            let others = bodies[1..].iter().map(|body| (Some(TEXT), *body));
            let bodies: Vec<_> = [(first, bodies[0])].into_iter().chain(others).collect();
            assert_eq!(conflicts(Untyped::Convert, &bodies), expected, "{bodies:?}");
        }
    }
}

#[test]
fn what_an_untyped_family_is_turned_into_contradicts_nothing_and_yet_is_a_type() {
    let (known, unknown) = ("# TYPE a_total counter\na_total 1\n", "# TYPE a_total untyped\na_total 2\n");
    let known_first = [(Some(TEXT), known), (Some(TEXT), unknown)];
    assert_eq!(conflicts(Untyped::Convert, &known_first), 0);
    assert_eq!(conflicts(Untyped::Keep, &known_first), 1);
    let unknown_first = [(Some(TEXT), unknown), (Some(TEXT), known)];
    assert_eq!(conflicts(Untyped::Convert, &unknown_first), 1, "the answer says gauge");
    assert_eq!(conflicts(Untyped::Keep, &unknown_first), 1);
}

#[test]
fn types_are_compared_in_the_words_of_the_answer() {
    let (info, gauge) = ("# TYPE a info\na_info 1\n# EOF\n", "# TYPE a gauge\na 1\n# EOF\n");
    let open_metrics = [(Some(OPEN_METRICS), info), (Some(OPEN_METRICS), gauge)];
    assert_eq!(conflicts(Untyped::Keep, &open_metrics), 1);
    let text = [(Some(TEXT), "# TYPE a_info gauge\na_info 1\n"), (Some(OPEN_METRICS_TO_TEXT), info)];
    assert_eq!(conflicts(Untyped::Keep, &text), 0);
    let counter = [
        (None, "# TYPE a_total gauge\na_total 1\n"),
        (Some(OPEN_METRICS_TO_TEXT), "# TYPE a counter\na_total 1\n# EOF\n"),
    ];
    assert_eq!(conflicts(Untyped::Keep, &counter), 1);
}

#[test]
fn the_queue_proxys_bytes_pass_as_they_are() {
    let body = "# a comment\n\n \t\n#\tcomment \u{e9}\n# EOF\n# HELP x Words, \\\\ \\n \u{e9}\n# TYPE x counter\nx{service_name=\"own\"} 2\n\
                # TYPE x counter\nx{a=\"\\\\ \\\" \\n\",b=\"\"} 1e+06 1700000000000\n# TYPE b gauge\nx 3";
    let (out, _) = merge(Some(body.as_bytes()), b"y 4\n", Untyped::Convert, Cut::EveryByte, End::Whole);
    // But for a second type, which most readers of this version refuse.
    let body = body.replacen("# TYPE x counter\nx{a", "x{a", 1);
    assert_eq!(String::from_utf8(out).unwrap(), format!("{body}\ny{{{SERVING}}} 4\n"));
}

#[test]
fn a_queue_proxys_line_that_is_not_canonical_is_spelt_or_left_out_alone() {
    for (line, written) in [
        ("  x 1", "x 1\n"),
        ("x{ a = \"b\" , } +.5  7 ", "x{a=\"b\"} 0.5 7\n"),
        ("#  TYPE   x gauge", "# TYPE x gauge\n"),
        ("# HELP x a\\q", "# HELP x a\\\\q\n"),
        ("{\"x\",\"a.b\"=\"c\"} 1", "x{a_b=\"c\"} 1\n"),
        ("x{a=\"b\nc\"} 1", "x{a=\"b\\nc\"} 1\n"),
        ("x 1\r", "x 1\n"),
        ("\r", ""),
        ("# a\0b", ""),
        ("\u{feff}# a", "# a\n"),
        ("# TYPE x Gauge\r", "# TYPE x gauge\n"),
        ("x 1 # {a=\"b\"} 1", "x 1\n"),
        ("not a sample", ""),
        ("x{a=\"b\"} 1 2 3", ""),
        ("# TYPE x foo", ""),
    ] {
        let body = format!("before 1\n{line}\nafter 2\n");
        for cut in [Cut::Whole, Cut::EveryByte] {
            let (out, _) = merge(Some(body.as_bytes()), b"", Untyped::Convert, cut, End::Whole);
            assert_eq!(String::from_utf8(out).unwrap(), format!("before 1\n{written}after 2\n"), "{line:?}");
        }
    }
}

/// They cost the whole scrape once.
#[test]
fn no_line_of_a_byte_or_two_panics() {
    for from in [Format::Text(TextVersion::V0_0_4), Format::OpenMetrics(OpenMetricsVersion::V1_0_0), Format::Protobuf] {
        let bytes =
            (0..=255u8).flat_map(|first| [vec![first], vec![first, b'"'], vec![b'{', first], vec![first, b'\\']]);
        for line in bytes {
            let body = [&line[..], b"\n", &line, b"\ny 1\n", &line].concat();
            for to in [PLAIN, Format::OpenMetrics(OpenMetricsVersion::V1_0_0), Format::Protobuf] {
                for escaping in [Escaping::AllowUtf8, Escaping::Underscores] {
                    let spelling = Spelling { format: to, escaping };
                    let engines =
                        [engine(from, spelling, &Rules::default()), Some(verbatim(escaping, &Rules::default()))];
                    for mut engine in engines.into_iter().flatten() {
                        let (mut families, mut out) = (Families::default(), Vec::new());
                        engine.push(&body, &mut families, &mut out);
                        engine.finish(End::Whole, &mut families, &mut out);
                    }
                }
            }
        }
    }
}

#[test]
fn a_body_that_broke_off_loses_the_line_it_broke_off_in() {
    for (body, expected, lost) in [("a 1\nb 22", "a{@} 1\n", 1), ("a 1\nb 22\n", "a{@} 1\nb{@} 22\n", 0), ("a", "", 1)]
    {
        for cut in [Cut::Whole, Cut::EveryByte] {
            let (out, counts) = relabel(body.as_bytes(), Untyped::Convert, cut, End::BrokenOff);
            assert_eq!(String::from_utf8(out).unwrap(), expected.replace('@', SERVING));
            assert_eq!((counts.dropped(DropReason::CutOff), counts.dropped_in_all()), (lost, lost));
        }
    }
}

#[test]
fn names_that_are_made_up_without_end_run_out_of_room_and_the_rest_still_parses() {
    let mut body = String::from("# TYPE known gauge\nknown 1\n");
    for number in 0..200_000 {
        body += &format!("made_up_by_somebody_who_wants_to_fill_the_memory_{number} 1\n");
    }
    body += "known 2\n";
    let (out, counts) = relabel(body.as_bytes(), Untyped::Convert, Cut::Whole, End::Whole);
    let samples = read(&out).expect("the answer is valid").samples;
    assert_eq!(samples.last().map(|sample| (sample.name.as_str(), sample.value.as_str())), Some(("known", "2")));
    let no_room = counts.dropped(DropReason::NoRoom);
    assert!(no_room > 100_000, "{no_room}");
    assert_eq!(no_room + counts.samples, 200_002);
}

#[test]
fn many_targets_share_the_room_for_names_and_none_takes_anothers() {
    let body: String = (0..10_000).map(|number| format!("made_up_by_somebody_{number} 1\n")).collect();
    let samples = |targets: usize| {
        let mut families = Families::of(targets, &Room::default());
        let counts = (0..targets).map(|target| {
            let mut engine = engine_of(PLAIN, PLAIN, Escaping::Underscores, &serving_rules(Untyped::Keep));
            families.turn_to(target);
            let (mut out, own) = (Vec::new(), body.replace("somebody", &format!("target_{target}")));
            engine.push(own.as_bytes(), &mut families, &mut out);
            engine.finish(End::Whole, &mut families, &mut out);
            engine.progress().counts().samples
        });
        counts.collect::<Vec<_>>()
    };
    assert_eq!(samples(4), [10_000; 4]);
    let of_twenty = samples(20);
    assert!(of_twenty.iter().all(|samples| (2000..10_000).contains(samples)), "{of_twenty:?}");
    // Escaping differ in length by a character.
    let (least, most) = (of_twenty.iter().min().unwrap(), of_twenty.iter().max().unwrap());
    assert!(most - least < 100, "{of_twenty:?}");
}

#[test]
fn a_queue_proxys_line_of_more_than_a_mebibyte_is_dropped_alone() {
    let body = format!("a 1\n# {}\nb 2\n", "x".repeat(qpext::exposition::MAX_LINE));
    let (out, _) = merge(Some(body.as_bytes()), b"c 3\n", Untyped::Convert, Cut::Whole, End::Whole);
    assert_eq!(String::from_utf8(out).unwrap(), format!("a 1\nb 2\nc{{{SERVING}}} 3\n"));
}

/// A line that was read like the one before it went on behind its closing brace.
#[test]
fn what_follows_the_labels_is_none_of_them() {
    for (before, broken) in
        [("a{x=\"1\",y=\"2\"} 3\n", "b{x=\"1\"}y=\"2\"} 3\n"), ("a{x=\"1\"} 3\n", "a{x=\"1\"}x=\"1\"} 3\n")]
    {
        let kept = before.replace('}', ",@}");
        let (out, _) = relabel(format!("{before}{broken}{before}").as_bytes(), Untyped::Keep, Cut::Whole, End::Whole);
        assert_eq!(String::from_utf8(out).unwrap(), [kept.as_str(), &kept].concat().replace('@', SERVING));
    }
}

/// Nothing that a line leaves behind tells on the next: neither whole nor cut is anything lost or gained.
#[test]
fn a_malformed_exemplar_costs_no_other_line_its_own() {
    let body = b"# TYPE a counter\na_total 1 # {x=\"1\",x=\"2\"} 1\na_total 1 # {x=\"1\",y=\"2\"} 1\n# EOF\n";
    for cut in [Cut::Whole, Cut::EveryByte] {
        let converted = OPEN_METRICS.convert(body, Untyped::Keep, cut, End::Whole);
        assert_eq!(converted.counts.dropped_in_all(), 1, "{cut:?}");
    }
}

#[test]
fn a_name_is_the_same_with_a_newline_and_with_its_escape() {
    let body = b"{\"m\",\"a\nb\"=\"1\",\"a\\nb\"=\"2\"} 1\n";
    let converted = TEXT.with_utf8().convert(body, Untyped::Keep, Cut::EveryByte, End::Whole);
    assert_eq!((converted.out.as_slice(), converted.counts.dropped_in_all()), (&b""[..], 1));
}

#[test]
fn a_last_line_that_ends_between_quotes_is_lost_and_counted() {
    for (body, dropped) in [("ok 1\nbar{x=\"", 1), ("ok 1\nbar{x=\"\n", 1), ("ok 1\nbar{x=\"\nbaz 1", 1)] {
        let (out, counts) = relabel(body.as_bytes(), Untyped::Keep, Cut::EveryByte, End::Whole);
        assert!(String::from_utf8(out).unwrap().starts_with(&format!("ok{{{SERVING}}} 1\n")));
        assert_eq!(counts.dropped_in_all(), dropped, "{body:?}");
    }
}

/// Names are kept, hashed and matched by patterns.
#[test]
fn a_name_of_many_kilobytes_is_dropped_alone() {
    let long = "x".repeat(17 << 10);
    let body = format!("a 1\n# HELP {long} Words.\n{long} 1\n{long} 2\nb 3\n");
    let (out, counts) = relabel(body.as_bytes(), Untyped::Keep, Cut::Whole, End::Whole);
    assert_eq!(String::from_utf8(out).unwrap(), format!("a{{{SERVING}}} 1\nb{{{SERVING}}} 3\n"));
    assert_eq!((counts.dropped(DropReason::TooLong), counts.dropped_in_all()), (3, 3));
}

/// Each of these lines was held and read again, and each time went on: without end on the stack.
#[test]
fn escaped_quotes_that_are_read_again_open_none() {
    let body = [&b"\"\n"[..], &b"\\\"\n".repeat(300_000), b"\"x\nok 1\n"].concat();
    let (out, counts) = relabel(&body, Untyped::Keep, Cut::Whole, End::Whole);
    assert_eq!(String::from_utf8(out).unwrap(), format!("ok{{{SERVING}}} 1\n"));
    assert_eq!(counts.dropped(DropReason::Malformed), 300_002);
}
