//! Rules of the exposition engine that take more than one line to show.

use qpext::exposition::{
    DropReason, End, Escaping, Families, Format, OpenMetricsVersion, Room, Rules, Spelling, TextVersion, Untyped,
    engine, verbatim,
};

use crate::support::reader::read;
use crate::support::{
    Cell, Cut, OPEN_METRICS, OPEN_METRICS_TO_TEXT, PLAIN, SERVING, TEXT, engine_of, merge, relabel, serving_rules,
};

/// Runs an application's body, whole and cut at every byte. `@` stands for the serving labels in what is expected.
#[track_caller]
fn becomes(untyped: Untyped, body: &str, expected: &str) {
    behind(None, untyped, body, expected);
}

/// As [`becomes`], behind a queue-proxy's body, which is left out of what is expected.
#[track_caller]
fn behind(queue_proxy: Option<&str>, untyped: Untyped, body: &str, expected: &str) {
    for cut in [Cut::Whole, Cut::EveryByte] {
        let (out, _) = merge(queue_proxy.map(str::as_bytes), body.as_bytes(), untyped, cut, End::Whole);
        let out = String::from_utf8(out).expect("text in, text out");
        let app = out.strip_prefix(queue_proxy.unwrap_or_default());
        assert_eq!(app, Some(expected.replace('@', SERVING).as_str()), "{cut:?}");
        read(out.as_bytes()).expect("the answer is valid");
    }
}

#[test]
fn metadata_that_the_queue_proxy_gave_is_dropped_from_the_app() {
    let queue_proxy = "# HELP process_cpu_seconds_total CPU.\n# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 1\n";
    behind(
        Some(queue_proxy),
        Untyped::Convert,
        "# HELP process_cpu_seconds_total Other words.\n# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 2\n\
         # HELP other Mine.\n# TYPE other gauge\nother 3\n",
        "process_cpu_seconds_total{@} 2\n# HELP other Mine.\n# TYPE other gauge\nother{@} 3\n",
    );
}

#[test]
fn metadata_that_the_queue_proxy_left_out_is_taken_from_the_app() {
    behind(
        Some("# TYPE shared counter\n"),
        Untyped::Convert,
        "# HELP shared Words.\n# TYPE shared counter\nshared 2\n",
        "# HELP shared Words.\nshared{@} 2\n",
    );
    // Its samples came without a type: a type now would come after them.
    behind(
        Some("shared 1\nshared_total 1\n"),
        Untyped::Convert,
        "# HELP shared Words.\n# TYPE shared counter\nshared 2\nshared_total 2\n",
        "# HELP shared Words.\nshared{@} 2\nshared_total{@} 2\n",
    );
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

#[test]
fn metadata_that_the_app_gives_twice_is_written_once() {
    becomes(
        Untyped::Convert,
        "# HELP a One.\n# HELP a Two.\n# TYPE a counter\n# TYPE a gauge\na 1\n# HELP a Three.\n# TYPE a counter\na 2\n",
        "# HELP a One.\n# TYPE a counter\na{@} 1\na{@} 2\n",
    );
}

#[test]
fn a_type_behind_the_first_sample_is_dropped() {
    becomes(Untyped::Convert, "a 1\n# TYPE a counter\na 2\n", "a{@} 1\na{@} 2\n");
    becomes(
        Untyped::Convert,
        "# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\n# TYPE a counter\na_count 1\n",
        "# TYPE a histogram\na_bucket{le=\"+Inf\",@} 1\na_count{@} 1\n",
    );
}

#[test]
fn a_line_that_was_dropped_is_no_first_sample() {
    becomes(Untyped::Convert, "a one\n# TYPE a counter\na 2\n", "# TYPE a counter\na{@} 2\n");
}

#[test]
fn convert_makes_created_counters_and_total_gauges_and_passes_the_rest() {
    becomes(
        Untyped::Convert,
        "# HELP a_total Words.\na_total 1\na_total{x=\"y\"} 2\n# TYPE b_created untyped\nb_created 3\nc 4\n# TYPE d untyped\nd 5\n",
        "# HELP a_total Words.\n# TYPE a_total gauge\na_total{@} 1\na_total{x=\"y\",@} 2\n\
         # TYPE b_created counter\nb_created{@} 3\nc{@} 4\n# TYPE d untyped\nd{@} 5\n",
    );
}

#[test]
fn keep_changes_nothing() {
    becomes(
        Untyped::Keep,
        "a_total 1\n# TYPE b_created untyped\nb_created 3\nc 4\n# TYPE d untyped\nd 5\n",
        "a_total{@} 1\n# TYPE b_created untyped\nb_created{@} 3\nc{@} 4\n# TYPE d untyped\nd{@} 5\n",
    );
}

#[test]
fn drop_discards_the_other_untyped_families_with_their_metadata() {
    let body = "# HELP a_total Words.\na_total 1\n# HELP b Words.\nb 2\nb{x=\"y\"} 3\n\
                # HELP c Words.\n# TYPE c untyped\nc 4\n# TYPE d_created untyped\nd_created 5\n\
                # HELP e Words.\n# TYPE e gauge\ne 6\nf_sum 7\n# HELP g Words.\n# HELP h Words.\n# TYPE h counter\nh 8\n";
    becomes(
        Untyped::Drop,
        body,
        "# HELP a_total Words.\n# TYPE a_total gauge\na_total{@} 1\n# TYPE d_created counter\nd_created{@} 5\n\
         # HELP e Words.\n# TYPE e gauge\ne{@} 6\n# HELP g Words.\n# HELP h Words.\n# TYPE h counter\nh{@} 8\n",
    );
    let (_, counts) = relabel(body.as_bytes(), Untyped::Drop, Cut::Whole, End::Whole);
    assert_eq!(counts.dropped(DropReason::Untyped), 4);
    assert_eq!(counts.samples, 4);
}

#[test]
fn parts_of_declared_histograms_and_summaries_are_not_untyped() {
    let body = "# HELP a Words.\n# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_sum 2\na_count 3\n\
                # TYPE b_total summary\nb_total{quantile=\"0.5\"} 4\nb_total_sum 5\nb_total_count 6\n";
    let expected = "# HELP a Words.\n# TYPE a histogram\na_bucket{le=\"+Inf\",@} 1\na_sum{@} 2\na_count{@} 3\n\
                    # TYPE b_total summary\nb_total{quantile=\"0.5\",@} 4\nb_total_sum{@} 5\nb_total_count{@} 6\n";
    becomes(Untyped::Drop, body, expected);
    becomes(Untyped::Convert, body, expected);
    // Not theirs: a summary has no buckets, a gauge has no parts, and the suffix is no part's.
    becomes(
        Untyped::Drop,
        "# TYPE b summary\nb_bucket 1\n# TYPE c gauge\nc_sum 2\n# TYPE d histogram\nd_max 3\n",
        "# TYPE b summary\n# TYPE c gauge\n# TYPE d histogram\n",
    );
}

/// Strict readers take it for that of the family, a second time or behind its samples.
#[test]
fn a_part_of_a_declared_family_has_no_metadata_of_its_own() {
    becomes(
        Untyped::Convert,
        "# HELP a Words.\n# TYPE a histogram\n# HELP a_sum Words.\na_bucket{le=\"+Inf\"} 1\n# TYPE a_bucket gauge\na_bucket 2\n\
         # TYPE b_sum gauge\n# TYPE b summary\nb_sum 3\n",
        "# HELP a Words.\n# TYPE a histogram\na_bucket{le=\"+Inf\",@} 1\na_bucket{@} 2\n\
         # TYPE b_sum gauge\n# TYPE b summary\nb_sum{@} 3\n",
    );
    // Nor if it was the queue-proxy that declared the family; and yet it is none of the application's untyped ones.
    behind(
        Some("# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\n"),
        Untyped::Drop,
        "# HELP a_bucket Words.\n# TYPE a_bucket gauge\na_bucket 2\n# HELP a_max Words.\n",
        "a_bucket{@} 2\n# HELP a_max Words.\n",
    );
}

#[test]
fn the_apps_untyped_families_are_told_by_what_the_app_says_itself() {
    // The queue-proxy's type stands for both in the answer, and yet the application gave none.
    behind(Some("# TYPE a gauge\na 1\n"), Untyped::Drop, "a 2\nb 3\n", "");
    behind(Some("# TYPE a_total counter\na_total 1\n"), Untyped::Convert, "a_total 2\n", "a_total{@} 2\n");
    behind(Some("# TYPE a histogram\na_count 1\n"), Untyped::Drop, "# TYPE a histogram\na_count 2\n", "a_count{@} 2\n");
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
fn a_type_that_comes_later_tells_anew_which_samples_belong_to_a_family() {
    becomes(Untyped::Drop, "a_sum 1\n# TYPE a summary\na_sum 2\n", "# TYPE a summary\na_sum{@} 2\n");
}

#[test]
fn the_queue_proxys_bytes_pass_as_they_are() {
    let body = "# a comment\n\n \t\n#\tcomment \u{e9}\n# EOF\n# HELP x Words, \\\\ \\n \u{e9}\n# TYPE x counter\nx{service_name=\"own\"} 2\n\
                # TYPE x counter\nx{a=\"\\\\ \\\" \\n\",b=\"\"} 1e+06 1700000000000\n# TYPE b gauge\nx 3";
    let (out, _) = merge(Some(body.as_bytes()), b"y 4\n", Untyped::Convert, Cut::EveryByte, End::Whole);
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
        ("x 1\r", ""),
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
fn an_empty_body_is_an_empty_answer() {
    becomes(Untyped::Convert, "", "");
    becomes(Untyped::Convert, "\n\n \n", "");
    behind(Some(""), Untyped::Convert, "", "");
}

#[test]
fn a_body_that_broke_off_loses_the_line_it_broke_off_in() {
    for (body, expected) in [("a 1\nb 22", "a{@} 1\n"), ("a 1\nb 22\n", "a{@} 1\nb{@} 22\n"), ("a", "")] {
        for cut in [Cut::Whole, Cut::EveryByte] {
            let (out, counts) = relabel(body.as_bytes(), Untyped::Convert, cut, End::BrokenOff);
            assert_eq!(String::from_utf8(out).unwrap(), expected.replace('@', SERVING));
            assert_eq!(counts.dropped_in_all(), 0, "the target failed; its line is not malformed");
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
        becomes(Untyped::Keep, &format!("{before}{broken}{before}"), &[kept.as_str(), &kept].concat());
    }
}

/// Nothing that a line leaves behind tells on the next: neither whole nor cut is anything lost or gained.
#[test]
fn a_malformed_exemplar_costs_no_other_line_its_own() {
    let body = b"a_total 1 # {x=\"1\",x=\"2\"} 1\na_total 1 # {x=\"1\",y=\"2\"} 1\n# EOF\n";
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
