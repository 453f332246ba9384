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
