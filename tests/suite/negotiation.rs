//! Which format is asked for and which one goes out, for the `Accept` headers that scrapers really send.

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use qpext::exposition::{Escaping, Format, OpenMetricsVersion, Spelling, TextVersion};
use qpext::negotiation::Answered::{AnotherVersion, Known, Unknown};
use qpext::negotiation::{Accepted, content_type, format_of};

const TEXT: Format = Format::Text(TextVersion::V0_0_4);
const TEXT_1: Format = Format::Text(TextVersion::V1_0_0);
const OM_0: Format = Format::OpenMetrics(OpenMetricsVersion::V0_0_1);
const OM_1: Format = Format::OpenMetrics(OpenMetricsVersion::V1_0_0);
const PROTO: Format = Format::Protobuf;

const UTF8: Escaping = Escaping::AllowUtf8;
const ASCII: Escaping = Escaping::Underscores;

const fn spelling(format: Format, escaping: Escaping) -> Spelling {
    Spelling { format, escaping }
}

/// Protobuf's media type.
macro_rules! proto {
    () => {
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
    };
}

fn accepted(lines: &[&str]) -> Accepted {
    let lines = lines.iter().map(|line| (ACCEPT, line.parse::<HeaderValue>().expect("a header's value")));
    Accepted::of(&lines.collect::<HeaderMap>())
}

/// What the targets answer, in each row of [`Scraper::answers`].
const ANSWERED: [&[Format]; 8] = [
    &[TEXT, TEXT],
    &[TEXT, TEXT_1],
    &[TEXT, OM_1],
    &[TEXT_1, OM_0],
    &[OM_0, OM_1],
    &[OM_1, OM_1],
    &[TEXT, PROTO],
    &[OM_1, PROTO],
];

/// A scraper, and what is made of its wishes.
struct Scraper {
    name: &'static str,
    /// What it sends.
    accept: &'static str,
    /// What the targets are sent.
    for_targets: &'static str,
    /// What goes out for each of [`ANSWERED`].
    answers: [Spelling; 8],
}

const ONLY_TEXT: [Spelling; 8] = [spelling(TEXT, ASCII); 8];

/// For a scraper that takes OpenMetrics, and text 0.0.4.
const OPEN_METRICS_OR_TEXT: [Spelling; 8] = [
    spelling(TEXT, ASCII),
    spelling(TEXT, ASCII),
    spelling(TEXT, ASCII),
    spelling(TEXT, ASCII),
    spelling(OM_0, ASCII),
    spelling(OM_1, ASCII),
    spelling(TEXT, ASCII),
    spelling(TEXT, ASCII),
];

/// For a scraper that takes OpenMetrics, and text 0.0.4, and protobuf before both.
const PROTOBUF_OR_OPEN_METRICS_OR_TEXT: [Spelling; 8] = [
    spelling(TEXT, ASCII),
    spelling(TEXT, ASCII),
    spelling(TEXT, ASCII),
    spelling(TEXT, ASCII),
    spelling(OM_0, ASCII),
    spelling(OM_1, ASCII),
    spelling(PROTO, ASCII),
    spelling(PROTO, ASCII),
];

/// Prometheus computes its header with `acceptHeader` in `scrape/scrape.go`, from `ScrapeProtocolsHeaders` in
/// `config/config.go`; before 2.49 it was a constant. Each row is what that code of prometheus/prometheus gives at the tag
/// that is named.
const SCRAPERS: &[Scraper] = &[
    Scraper {
        // v2.42.0, `scrapeAcceptHeader`.
        name: "Prometheus 2.42",
        accept: "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                 text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        for_targets: "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                      text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        answers: OPEN_METRICS_OR_TEXT,
    },
    Scraper {
        // v2.42.0, `scrapeAcceptHeaderWithProtobuf`.
        name: "Prometheus 2.42, native histograms",
        accept: concat!(
            proto!(),
            ",application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,",
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        ),
        for_targets: concat!(
            proto!(),
            ",application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,",
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        ),
        answers: PROTOBUF_OR_OPEN_METRICS_OR_TEXT,
    },
    Scraper {
        // v2.53.0, `DefaultScrapeProtocols`.
        name: "Prometheus 2.53",
        accept: "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                 text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        for_targets: "application/openmetrics-text;version=1.0.0;q=0.5,\
                      application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
        answers: OPEN_METRICS_OR_TEXT,
    },
    Scraper {
        // v2.53.0, `DefaultProtoFirstScrapeProtocols`.
        name: "Prometheus 2.53, native histograms",
        accept: concat!(
            proto!(),
            ";q=0.5,application/openmetrics-text;version=1.0.0;q=0.4,application/openmetrics-text;version=0.0.1;q=0.3,",
            "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
        ),
        for_targets: concat!(
            proto!(),
            ";q=0.5,application/openmetrics-text;version=1.0.0;q=0.4,application/openmetrics-text;version=0.0.1;q=0.3,",
            "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
        ),
        answers: PROTOBUF_OR_OPEN_METRICS_OR_TEXT,
    },
    Scraper {
        // v2.53.0, `scrape_protocols: [PrometheusText0.0.4]`.
        name: "Prometheus 2.53, text alone",
        accept: "text/plain;version=0.0.4;q=0.5,*/*;q=0.4",
        for_targets: "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        answers: ONLY_TEXT,
    },
    Scraper {
        // v3.0.0, `DefaultScrapeProtocols`: every entry gets the escaping, the one that has it already, too.
        name: "Prometheus 3.0",
        accept: "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                 application/openmetrics-text;version=0.0.1;escaping=allow-utf-8;q=0.5,\
                 text/plain;version=1.0.0;escaping=allow-utf-8;escaping=allow-utf-8;q=0.4,\
                 text/plain;version=0.0.4;escaping=allow-utf-8;q=0.3,*/*;q=0.2",
        for_targets: "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                      application/openmetrics-text;version=0.0.1;escaping=allow-utf-8;q=0.5,\
                      text/plain;version=1.0.0;escaping=allow-utf-8;escaping=allow-utf-8;q=0.4,\
                      text/plain;version=0.0.4;escaping=allow-utf-8;q=0.3,*/*;q=0.1",
        answers: [
            spelling(TEXT_1, UTF8),
            spelling(TEXT_1, UTF8),
            spelling(TEXT_1, UTF8),
            spelling(TEXT_1, UTF8),
            spelling(OM_0, UTF8),
            spelling(OM_1, UTF8),
            spelling(TEXT_1, UTF8),
            spelling(TEXT_1, UTF8),
        ],
    },
    Scraper {
        // v3.5.0, v3.9.1 and v3.13.2, `DefaultScrapeProtocols` with the default escaping, allow-utf-8.
        name: "Prometheus 3.5",
        accept: "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                 application/openmetrics-text;version=0.0.1;q=0.5,\
                 text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        for_targets: "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                      application/openmetrics-text;version=0.0.1;q=0.5,\
                      text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
        answers: [
            spelling(TEXT_1, UTF8),
            spelling(TEXT_1, UTF8),
            spelling(TEXT_1, UTF8),
            spelling(TEXT_1, UTF8),
            spelling(OM_0, UTF8),
            spelling(OM_1, UTF8),
            spelling(TEXT_1, UTF8),
            spelling(TEXT_1, UTF8),
        ],
    },
    Scraper {
        // v3.5.0, v3.9.1 and v3.13.2, `DefaultProtoFirstScrapeProtocols`; protobuf gets no escaping.
        name: "Prometheus 3.5, native histograms",
        accept: concat!(
            proto!(),
            ";q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,",
            "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,",
            "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
        ),
        for_targets: concat!(
            proto!(),
            ";q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,",
            "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,",
            "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
        ),
        answers: [
            spelling(TEXT_1, UTF8),
            spelling(TEXT_1, UTF8),
            spelling(TEXT_1, UTF8),
            spelling(TEXT_1, UTF8),
            spelling(OM_0, UTF8),
            spelling(OM_1, UTF8),
            spelling(PROTO, UTF8),
            spelling(PROTO, UTF8),
        ],
    },
    Scraper {
        // v3.5.0, `metric_name_escaping_scheme: underscores`.
        name: "Prometheus 3.5, escaping with underscores",
        accept: "application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.6,\
                 application/openmetrics-text;version=0.0.1;q=0.5,\
                 text/plain;version=1.0.0;escaping=underscores;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        for_targets: "application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.6,\
                      application/openmetrics-text;version=0.0.1;q=0.5,\
                      text/plain;version=1.0.0;escaping=underscores;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
        answers: [
            spelling(TEXT_1, ASCII),
            spelling(TEXT_1, ASCII),
            spelling(TEXT_1, ASCII),
            spelling(TEXT_1, ASCII),
            spelling(OM_0, ASCII),
            spelling(OM_1, ASCII),
            spelling(TEXT_1, ASCII),
            spelling(TEXT_1, ASCII),
        ],
    },
    Scraper {
        // v3.5.0, `scrape_protocols: [PrometheusProto, PrometheusText1.0.0]`.
        name: "Prometheus 3.5, protobuf and text 1.0.0 alone",
        accept: concat!(proto!(), ";q=0.6,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,*/*;q=0.4"),
        for_targets: concat!(
            proto!(),
            ";q=0.6,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.1,*/*;q=0.01"
        ),
        answers: [
            spelling(TEXT_1, UTF8),
            spelling(TEXT_1, UTF8),
            spelling(TEXT_1, UTF8),
            spelling(TEXT_1, UTF8),
            spelling(TEXT_1, UTF8),
            spelling(TEXT_1, UTF8),
            spelling(PROTO, UTF8),
            spelling(PROTO, UTF8),
        ],
    },
    Scraper {
        // VictoriaMetrics/VictoriaMetrics v1.150.0, `lib/promscrape/client.go`.
        name: "vmagent",
        accept: "text/plain;version=0.0.4;q=1,*/*;q=0.1",
        for_targets: "text/plain;version=0.0.4;q=1,*/*;q=0.1",
        answers: ONLY_TEXT,
    },
    Scraper {
        // influxdata/telegraf v1.39.3, `plugins/inputs/prometheus/prometheus.go`, `acceptHeader`.
        name: "Telegraf",
        accept: concat!(proto!(), ";q=0.7,text/plain;version=0.0.4;q=0.3"),
        for_targets: concat!(proto!(), ";q=0.7,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"),
        answers: [
            spelling(TEXT, ASCII),
            spelling(TEXT, ASCII),
            spelling(TEXT, ASCII),
            spelling(TEXT, ASCII),
            spelling(TEXT, ASCII),
            spelling(TEXT, ASCII),
            spelling(PROTO, ASCII),
            spelling(PROTO, ASCII),
        ],
    },
    Scraper {
        // open-telemetry/opentelemetry-collector-contrib v0.118.0, `receiver/prometheusreceiver/go.mod`: it is Prometheus's
        // own scraper, of 2.54.1. With v0.158.0 grafana/alloy (`collector/go.mod`) builds that of 3.13.2: the row of 3.5.
        name: "OpenTelemetry collector 0.118",
        accept: "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                 text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        for_targets: "application/openmetrics-text;version=1.0.0;q=0.5,\
                      application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
        answers: OPEN_METRICS_OR_TEXT,
    },
    Scraper {
        // curl 7.88.1, as it arrives on a socket.
        name: "curl",
        accept: "*/*",
        for_targets: "text/plain;version=0.0.4,*/*;q=0.1",
        answers: ONLY_TEXT,
    },
];

#[test]
fn each_scraper_gets_what_it_asked_for_as_far_as_the_targets_have_it() {
    for scraper in SCRAPERS {
        let accepted = accepted(&[scraper.accept]);
        assert_eq!(accepted.for_targets(), scraper.for_targets, "{}", scraper.name);
        for (answered, expected) in ANSWERED.into_iter().zip(scraper.answers) {
            assert_eq!(accepted.choose(answered, true), expected, "{}: {answered:?}", scraper.name);
        }
        let is_text_only = scraper.answers == ONLY_TEXT;
        assert_eq!(accepted.is_text_only(), is_text_only, "{}", scraper.name);
    }
}

#[test]
fn open_metrics_waits_until_every_target_is_known_and_the_others_do_not() {
    let accepted = accepted(&[SCRAPERS[7].accept]);
    assert_eq!(SCRAPERS[7].name, "Prometheus 3.5, native histograms");
    assert_eq!(accepted.choose(&[OM_1], false), spelling(TEXT_1, UTF8));
    assert_eq!(accepted.choose(&[OM_1], true), spelling(OM_1, UTF8));
    assert_eq!(accepted.choose(&[OM_1, PROTO], false), spelling(PROTO, UTF8));
    assert_eq!(accepted.choose(&[TEXT_1], false), spelling(TEXT_1, UTF8));
    assert_eq!(accepted.choose(&[], true), spelling(TEXT_1, UTF8));
}

#[test]
fn a_scraper_that_says_nothing_that_is_known_gets_text() {
    for lines in [
        &[][..],
        &[""],
        &["*/*"],
        &["text/*"],
        &["text/html, application/json"],
        &["\"", ";;;", ",,,", "text/plain;q=x"],
        &["text/plain;version=0.0.5"],
        &["application/openmetrics-text;version=2.0.0"],
        &["application/openmetrics-text;q=0"],
        &["application/vnd.google.protobuf"],
        &["application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text"],
        &["application/vnd.google.protobuf;proto=other;encoding=delimited"],
    ] {
        let accepted = accepted(lines);
        assert_eq!(accepted.for_targets(), "text/plain;version=0.0.4,*/*;q=0.1", "{lines:?}");
        assert!(accepted.is_text_only(), "{lines:?}");
        for answered in ANSWERED {
            assert_eq!(accepted.choose(answered, true), spelling(TEXT, ASCII), "{lines:?}");
        }
    }
}

#[test]
fn what_targets_are_asked_for_is_the_scrapers_list_cut_down() {
    for (lines, expected) in [
        // Its order and its very words.
        (
            &["text/plain ; q=0.2 , Application/OpenMetrics-Text; Version=\"1.0.0\" ;q=0.9, text/html"][..],
            "text/plain ; q=0.2,Application/OpenMetrics-Text; Version=\"1.0.0\" ;q=0.9,*/*;q=0.1",
        ),
        // Several lines are one list.
        (
            &["application/openmetrics-text", "text/plain;version=0.0.4"],
            "application/openmetrics-text,text/plain;version=0.0.4,*/*;q=0.1",
        ),
        // What it does not accept is not asked for, except for the last resort.
        (
            &["application/openmetrics-text, text/plain;q=0"],
            "application/openmetrics-text,text/plain;version=0.0.4;q=0.1,*/*;q=0.01",
        ),
        // The last resort is below every other.
        (
            &["application/openmetrics-text;q=0.1, text/plain;version=1.0.0;q=0.05"],
            "application/openmetrics-text;q=0.1,text/plain;version=1.0.0;q=0.05,text/plain;version=0.0.4;q=0.01,\
             */*;q=0.001",
        ),
        (
            &["application/openmetrics-text;q=0.001"],
            "application/openmetrics-text;q=0.001,text/plain;version=0.0.4;q=0.001,*/*;q=0.001",
        ),
        // An escaping that is not known here may be known to the target.
        (&["text/plain;version=0.0.4;escaping=dots"], "text/plain;version=0.0.4;escaping=dots,*/*;q=0.1"),
    ] {
        assert_eq!(accepted(lines).for_targets(), expected, "{lines:?}");
    }
}

#[test]
fn the_version_of_open_metrics_is_one_that_the_scraper_accepts() {
    for (accept, answered, expected) in [
        ("application/openmetrics-text", &[OM_1][..], OM_0),
        ("application/openmetrics-text;version=0.0.1", &[OM_1, OM_0], OM_0),
        ("application/openmetrics-text;version=1.0.0", &[OM_1], OM_1),
        ("application/openmetrics-text;version=1.0.0", &[OM_1, OM_0], TEXT),
        ("application/openmetrics-text;version=1.0.0, text/plain;version=1.0.0", &[OM_0], TEXT_1),
    ] {
        assert_eq!(accepted(&[accept]).choose(answered, true).format, expected, "{accept} {answered:?}");
    }
}

#[test]
fn a_targets_format_is_told_by_its_content_type() {
    assert_eq!(format_of(None), Unknown);
    for (content_type, expected) in [
        ("", Unknown),
        ("; charset=utf-8", Unknown),
        ("text/plain", Known(TEXT)),
        ("Text/Plain;charset=utf-8", Known(TEXT)),
        ("text/plain; version=0.0.4; charset=utf-8", Known(TEXT)),
        ("text/plain; version=0.0.5", AnotherVersion(TEXT)),
        ("text/plain; version=\"", Known(TEXT)),
        ("text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8", Known(TEXT_1)),
        ("text/plain; Version=\"1.0.0\"", Known(TEXT_1)),
        ("application/openmetrics-text", Known(OM_0)),
        ("application/openmetrics-text; version=0.0.1; charset=utf-8", Known(OM_0)),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", Known(OM_1)),
        ("application/openmetrics-text; version=2.0.0; charset=utf-8", AnotherVersion(OM_1)),
        ("application/vnd.google.protobuf", Known(PROTO)),
        (proto!(), Known(PROTO)),
        ("application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=text", Unknown),
        ("application/vnd.google.protobuf; proto=other; encoding=delimited", Unknown),
        ("text/html; charset=utf-8", Unknown),
        ("application/json", Unknown),
        ("text", Unknown),
    ] {
        let header = HeaderValue::from_static(content_type);
        assert_eq!(format_of(Some(&header)), expected, "{content_type:?}");
    }
}

#[test]
fn the_content_type_says_what_the_body_is_and_is_read_back() {
    let text = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(content_type(spelling(TEXT, ASCII)), text);
    assert_eq!(content_type(spelling(TEXT, UTF8)), text, "it has no other names");
    for (format, parameters) in [
        (TEXT_1, "text/plain; version=1.0.0; charset=utf-8"),
        (OM_0, "application/openmetrics-text; version=0.0.1; charset=utf-8"),
        (OM_1, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (PROTO, "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"),
    ] {
        for (names, escaping) in [(UTF8, "allow-utf-8"), (ASCII, "underscores")] {
            let value = content_type(spelling(format, names));
            assert_eq!(value, format!("{parameters}; escaping={escaping}"));
            assert_eq!(format_of(Some(&value)), Known(format));
        }
    }
}

/// Pieces of which odd headers are made, some of them bytes that are no text.
fn odd_header() -> impl Strategy<Value = Vec<u8>> {
    let pieces: [&[u8]; 20] = [
        b"text/plain",
        b"application/openmetrics-text",
        proto!().as_bytes(),
        b"*/*",
        b";version=0.0.4",
        b";version=1.0.0",
        b"; version = \"1.0.0\"",
        b";escaping=allow-utf-8",
        b";q=0.5",
        b";q=0.001",
        b";q=0",
        b";x=",
        b",",
        b",",
        b";",
        b"=",
        b"\"",
        b"\\",
        b" ",
        b"\xff",
    ];
    let piece = proptest::sample::select(pieces.to_vec());
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn whatever_a_scraper_sends_the_targets_are_asked_for_what_is_known(lines in proptest::collection::vec(odd_header(), 0..3)) {
        let of = |lines: Vec<HeaderValue>| Accepted::of(&lines.into_iter().map(|line| (ACCEPT, line)).collect());
        let lines = lines.iter().map(|line| HeaderValue::from_bytes(line).expect("no control characters"));
        let accepted = of(lines.collect());
        let asked = accepted.for_targets();
        // What is asked for is read as it was meant, and holds a format for every target.
        let again = of(vec![asked.clone()]);
        prop_assert_eq!(again.for_targets(), asked);
        for answered in ANSWERED {
            prop_assert_eq!(again.choose(answered, true), accepted.choose(answered, true));
        }
    }
}
