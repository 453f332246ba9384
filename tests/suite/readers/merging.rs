//! Two targets in one answer, as Prometheus 3 reads it: what it sees is what it would see of each by itself. To it, samples are of
//! the type that was told last, whatever their names.

use qpext::exposition::{End, Escaping, Families, Format, TextVersion, Untyped};

use super::read_as;
use crate::support::{SERVING_LABELS, engine_of, serving_rules};

const TEXT_1_0_0: Format = Format::Text(TextVersion::V1_0_0);

/// What the sidecar makes of these targets, one behind the other.
fn merged(bodies: [&str; 2]) -> Vec<u8> {
    let (mut out, mut families) = (Vec::new(), Families::default());
    for (target, body) in bodies.into_iter().enumerate() {
        let mut engine = engine_of(TEXT_1_0_0, TEXT_1_0_0, Escaping::AllowUtf8, &serving_rules(Untyped::Convert));
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
        let answer = merged([&bodies[0], &bodies[1]]);
        let text = String::from_utf8_lossy(&answer);
        let directly = [&bodies[0], &bodies[1]].map(|body| read_as(TEXT_1_0_0, Escaping::AllowUtf8, body.as_bytes()));
        let together = read_as(TEXT_1_0_0, Escaping::AllowUtf8, &answer);
        for reader in ["prometheus", "prometheus_native", "prometheus_nhcb"] {
            let [mut expected, other] = directly.each_ref().map(|directly| directly.of(reader).clone());
            assert_eq!((&expected.error, &other.error), (&None, &None), "{what}");
            expected.samples.extend(other.samples);
            let seen = together.of(reader);
            assert_eq!(seen.error, None, "{what}: {text}");
            let differences = expected.differences(seen, &SERVING_LABELS);
            assert!(differences.is_empty(), "{reader}: {what}: {differences:#?}\n{text}");
        }
    }
}
