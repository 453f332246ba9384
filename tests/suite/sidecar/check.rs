//! `qpext check`, and the rest of the command line: what it says, and its exit status.

use serde_json::Value;

use crate::support::sidecar::command;
use crate::support::stub::{Stub, answer};

/// Runs a command to its end: its exit status, and what it said on standard output.
async fn run(variables: &[(&str, &str)], arguments: &[&str]) -> (i32, String) {
    let output = command(variables).args(arguments).output().await.expect("the program was built");
    let status = output.status.code().expect("it ended by itself");
    (status, String::from_utf8(output.stdout).expect("it is text"))
}

/// The variables of a pod with these targets.
fn pod<'a>(queue_proxy: &'a str, app: &'a str) -> [(&'a str, &'a str); 3] {
    [
        ("QPEXT_QUEUE_PROXY_METRICS_PORT", queue_proxy),
        ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", app),
        ("SERVING_SERVICE", "iris"),
    ]
}

#[tokio::test]
async fn a_healthy_pod_ends_with_0() {
    let queue_proxy = Stub::text("# TYPE process_x gauge\nprocess_x 1\n# TYPE kn gauge\nkn 1\n").await;
    // What both have stands in two places, as in any pod with a Python app: untidy, and no finding.
    let app = Stub::text("# TYPE process_x gauge\nprocess_x 2\n# TYPE y counter\ny_total 3\n").await;
    let ports = [queue_proxy.port().to_string(), app.port().to_string()];
    let (status, said) = run(&pod(&ports[0], &ports[1]), &["check"]).await;
    assert_eq!(status, 0, "{said}");
    let mut lines = said.lines();
    assert!(lines.next().unwrap().starts_with("TARGET       STATE  FORMAT"), "{said}");
    assert!(lines.next().unwrap().starts_with("queue-proxy  up     text 0.0.4  "), "{said}");
    assert!(lines.next().unwrap().starts_with("app          up     text 0.0.4  "), "{said}");
    assert!(said.contains("\nnothing to be mended\n"), "{said}");
    assert!(said.contains("a note, no finding: families in two places"), "{said}");
}

#[tokio::test]
async fn that_the_families_of_two_targets_cannot_stand_together_is_told() {
    const OPEN_METRICS: &str = "content-type: application/openmetrics-text; version=1.0.0\r\n";
    let gauge = Stub::start(vec![answer("200 OK", OPEN_METRICS, b"# TYPE a gauge\na 1\n# EOF\n")]).await;
    let counter = Stub::start(vec![answer("200 OK", OPEN_METRICS, b"# TYPE a counter\na_total 1\n# EOF\n")]).await;
    let ports = [gauge.port().to_string(), counter.port().to_string()];
    let variables = pod(&ports[0], &ports[1]);
    let told = "several targets speak OpenMetrics, but a is one family in one of them and another in another: ";
    let (_, said) = run(&variables, &["check"]).await;
    assert!(said.contains(&format!("\na note, no finding: {told}text goes out instead\n")), "{said}");
    let (_, said) = run(&variables, &["check", "--accept", "application/openmetrics-text"]).await;
    assert!(said.contains(&format!("\na note, no finding: {told}strict readers may refuse the answer\n")), "{said}");
    let (_, said) = run(&variables, &["check", "--format", "json"]).await;
    let report: Value = serde_json::from_str(&said).expect("it is JSON");
    assert_eq!(report["not_together"], format!("{told}text goes out instead"));
}

#[tokio::test]
async fn a_pod_with_faults_ends_with_1_and_names_each() {
    let queue_proxy = Stub::text("# TYPE a gauge\na 1\n# TYPE b gauge\nb{\n").await;
    let app = Stub::text("# TYPE a counter\na 1\nx{y=\"1\"} 1\nx{y=\"1\"} 2\n\u{1b}[31m broken\n").await;
    let down = Stub::start(vec![answer("500 Internal Server Error", "", b"")]).await;
    let ports = [queue_proxy.port().to_string(), app.port().to_string()];
    let targets = format!("down={}", down.port());
    let variables = [&pod(&ports[0], &ports[1])[..], &[("QPEXT_TARGETS", targets.as_str())]].concat();

    let (status, said) = run(&variables, &["check"]).await;
    assert_eq!(status, 1, "{said}");
    for expected in [
        "app          up     text 0.0.4  ",
        "1 malformed",
        "down         down   -  ",
        "answered 500 Internal Server Error, expected 200 OK",
        "app: line 5 of its body is the first dropped, as malformed: \\u{1b}[31m broken",
        "metric families with one type in one target and another in another: 1\n  a: gauge in the answer, counter in app\n",
        "queue-proxy: line 4 of its body is the first dropped, as malformed: b{\n",
        "of which Prometheus keeps one: 1\n  line 6 of the answer, from app: x{y=\"1\",service_name=\"iris\"}, first in line 5, from app\n",
        "\n5 findings\n",
    ] {
        assert!(said.contains(expected), "{expected} in\n{said}");
    }

    let (status, said) = run(&variables, &["check", "--format", "json"]).await;
    assert_eq!(status, 1, "{said}");
    let report: Value = serde_json::from_str(&said).expect("it is JSON");
    assert_eq!(report["findings"], 5);
    assert_eq!(report["targets"][1]["last_scrape"]["dropped_lines"]["malformed"], 1);
    assert_eq!(report["targets"][1]["last_dropped_line"]["line"], 5);
    assert_eq!(report["targets"][2]["state"], "down");
    assert_eq!(report["targets"][2]["last_failure"]["reason"], "status");
    assert_eq!(report["family_conflicts"], 1);
    assert_eq!(report["named_conflicts"][0]["family"], "a");
    assert_eq!(report["remark_counts"]["duplicate_series"], 1);
    assert_eq!(report["remarks"][0]["earlier_target"], "app");
    assert_eq!(report["targets"][0]["last_dropped_line"]["text"], "b{");
}

#[tokio::test]
async fn what_is_hardly_meant_is_a_finding() {
    let app = Stub::text("# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n").await;
    let port = app.port().to_string();
    let variables = [
        ("QPEXT_QUEUE_PROXY_METRICS_PORT", ""),
        ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", &port),
        ("QPEXT_KEEP_METRICS", "h_bucket"),
        ("QPEXT_TARGETZ", "x"),
    ];
    let (status, said) = run(&variables, &["check"]).await;
    assert_eq!(status, 1, "{said}");
    for expected in [
        "variables that are none of ours are ignored: QPEXT_TARGETZ (did you mean QPEXT_TARGETS?)\n",
        "no label is added to the app's samples",
        "app: QPEXT_KEEP_METRICS and QPEXT_DROP_METRICS leave nothing of it",
        "\n3 findings\n",
    ] {
        assert!(said.contains(expected), "{expected} in\n{said}");
    }
}

#[tokio::test]
async fn a_pod_without_an_answer_ends_with_1() {
    let down = Stub::start(vec![answer("500 Internal Server Error", "", b"")]).await;
    let port = down.port().to_string();
    let (status, said) = run(&[("QPEXT_QUEUE_PROXY_METRICS_PORT", &port)], &["check"]).await;
    assert_eq!(status, 1, "{said}");
    assert!(said.ends_with("no answer: a scraper would get 503\n1 finding\n"), "{said}");

    let absent = Stub::absent();
    let free = absent.port().to_string();
    let (_, said) = run(&[("QPEXT_QUEUE_PROXY_METRICS_PORT", &free)], &["check"]).await;
    assert!(said.contains("set QPEXT_QUEUE_PROXY_METRICS_PORT to nothing"), "{said}");
}

#[tokio::test]
async fn a_bad_configuration_ends_with_64() {
    let (status, _) = run(&[("QPEXT_UNTYPED", "x")], &["check"]).await;
    assert_eq!(status, 64);
    let (status, _) = run(&[("QPEXT_BEARER_TOKEN_FILE", "/none/such")], &["check"]).await;
    assert_eq!(status, 64, "as the start would");
    let (status, _) = run(&[], &["check", "--format", "xml"]).await;
    assert_eq!(status, 64);
    let (status, _) = run(&[], &["chek"]).await;
    assert_eq!(status, 64);
}

#[tokio::test]
async fn help_names_every_variable_and_the_version_is_told() {
    let (status, said) = run(&[("QPEXT_UNTYPED", "of no interest")], &["--help"]).await;
    assert_eq!(status, 0);
    for variable in qpext::config::VARIABLES {
        assert!(said.contains(&format!("\n  {} [default: {}]\n", variable.name, variable.default)), "{said}");
    }
    for option in &qpext::config::TARGET_OPTIONS {
        assert!(said.contains(&format!("\n  {}\n      ", option.name)), "{said}");
    }
    assert!(said.lines().skip(1).all(|line| line.len() < 110), "{said}");
    assert!(said.contains("\n  check  "), "{said}");
    let (status, said) = run(&[], &["--version"]).await;
    assert_eq!((status, said), (0, format!("qpext {}\n", env!("CARGO_PKG_VERSION"))));
}

/// A target that answers in this type.
async fn speaking(content_type: &str, body: &[u8]) -> Stub {
    Stub::start(vec![answer("200 OK", &format!("content-type: {content_type}\r\n"), body)]).await
}

#[tokio::test]
async fn what_a_scraper_loses_by_its_format_is_told_and_why() {
    let queue_proxy = Stub::text("# TYPE kn gauge\nkn 1\n").await;
    let open_metrics = "application/openmetrics-text; version=1.0.0; escaping=allow-utf-8";
    let body = "# TYPE a counter\na_total 1 # {id=\"x\"} 1\na_total{b=\"c\"} 1 # {id=\"y\"} 1\n# TYPE \"b.c\" gauge\n{\"b.c\"} 1\n\
                # TYPE d unknown\nd_created 1\n# EOF\n";
    let app = speaking(open_metrics, body.as_bytes()).await;
    let ports = [queue_proxy.port().to_string(), app.port().to_string()];
    let (status, said) = run(&pod(&ports[0], &ports[1]), &["check"]).await;
    assert_eq!(status, 0, "{said}");
    for expected in [
        "queue-proxy speaks text only: 2 exemplars and 1 UTF-8 name are lost for this scraper\n",
        "app has untyped families that are given a type: 1\n",
        "bytes of text/plain; version=0.0.4",
    ] {
        assert!(said.contains(expected), "{expected} in\n{said}");
    }

    let alone = [("QPEXT_QUEUE_PROXY_METRICS_PORT", ""), ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", &ports[1])];
    let alone = [&alone[..], &[("SERVING_SERVICE", "iris")]].concat();
    let (_, said) = run(&alone, &["check", "--accept", open_metrics]).await;
    assert!(said.contains("bytes of application/openmetrics-text; version=1.0.0"), "{said}");
    assert!(!said.contains("lost for this scraper"), "{said}");
    let (_, said) = run(&alone, &["check", "--accept", "text/plain"]).await;
    assert!(
        said.contains("takes no format that has a place for them: 2 exemplars and 1 UTF-8 name are lost"),
        "{said}"
    );
    let (_, said) = run(&alone, &["check", "--format", "json", "--accept", "text/plain"]).await;
    let report: Value = serde_json::from_str(&said).expect("it is JSON");
    assert_eq!(report["targets"][0]["last_scrape"]["unwritten"]["exemplars"], 2);
    assert_eq!(report["targets"][0]["last_scrape"]["retyped_families"], 1);
    let (status, _) = run(&alone, &["check", "--accept", "text/\nplain"]).await;
    assert_eq!(status, 64);
}

#[tokio::test]
async fn buckets_out_of_order_are_no_finding_in_text() {
    // VerneMQ's order, and GitLab's.
    let app = Stub::text(
        "# TYPE a histogram\na_bucket{le=\"+Inf\"} 3\na_bucket{le=\"2\"} 2\na_bucket{le=\"1\"} 1\na_sum 1\na_count 3\n\
         # TYPE b histogram\nb_bucket{le=\"+Inf\"} 3\nb_bucket{le=\"10\"} 2\nb_bucket{le=\"2\"} 1\nb_sum 1\nb_count 3\n",
    )
    .await;
    let port = app.port().to_string();
    let variables = [
        ("QPEXT_QUEUE_PROXY_METRICS_PORT", ""),
        ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", &port),
        ("SERVING_SERVICE", "iris"),
    ];
    let (status, said) = run(&variables, &["check"]).await;
    assert_eq!(status, 0, "{said}");
    assert!(
        said.contains("a note, no finding: histograms whose buckets are out of order, which OpenMetrics forbids: 2\n")
    );
    assert!(!said.contains("do not rise") && !said.contains("+Inf, which"), "{said}");
}

#[tokio::test]
async fn an_answer_in_messages_has_no_lines_to_find_fault_with() {
    let protobuf = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
    let sound = speaking(protobuf, b"\x13\x0a\x02kn\x18\x01\x22\x0b\x12\x09\x09\0\0\0\0\0\0\xf0\x3f").await;
    let torn = "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 7\nh_sum 1\nh_count 10\n";
    let app = Stub::text(torn).await;
    let ports = [sound.port().to_string(), app.port().to_string()];
    let (_, said) = run(&pod(&ports[0], &ports[1]), &["check", "--accept", protobuf]).await;
    for expected in [
        "bytes of application/vnd.google.protobuf",
        "app has metrics whose samples do not fit together, so that each is written by itself: 1\n",
        "\nnothing to be mended\n",
    ] {
        assert!(said.contains(expected), "{expected} in\n{said}");
    }
}
