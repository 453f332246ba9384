//! Pods of many targets: their order, their labels, their limits, and what the sidecar says of them in metrics and logs.

use reqwest::header::{ACCEPT, CONTENT_TYPE};

use crate::support::prometheus::{Prometheus, promtool_reads};
use crate::support::protobuf::{MetricFamily, decode};
use crate::support::reader::{Exposition, read};
use crate::support::sidecar::{Sidecar, client, resident_kilobytes, scrape_patiently};
use crate::support::stub::{Step, Stub, answer, chunk, chunked_head, ok};
use crate::support::{SERVING, bodies};

/// Seconds that a scraper says where a target hangs, because the test waits it out.
const SHORT: f64 = 2.0;
/// Seconds that a scraper gives where nothing hangs.
const LONG: f64 = 60.0;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores";
const PROTOBUF: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

fn read_text(text: &str) -> Exposition {
    read(text.as_bytes()).unwrap_or_else(|error| panic!("{error} in\n{text}"))
}

/// The value of the sample of this name that has these labels, as they are written, among its own.
fn value(text: &str, name: &str, labels: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(&format!("{name}{{")) && line.contains(labels))?;
    let (_, value) = line.rsplit_once(' ').expect("a sample has a value");
    Some(value.parse().expect("it is a number"))
}

#[tokio::test]
async fn added_targets_are_written_in_their_order_with_the_name_of_their_container() {
    let queue_proxy = Stub::text("same 0\n").await;
    // It may not pass for another.
    let app = Stub::text("same 1\nsame{container_name=\"agent\"} 2\n").await;
    let agent = Stub::text("same 2\n").await;
    let transformer = Stub::route(|head| {
        assert!(head.starts_with("GET /prom?all HTTP/1.1\r\n"), "{head}");
        vec![ok(b"same{container_name=\"own\"} 3\n")]
    })
    .await;
    let dcgm = Stub::text("same 4\n").await;
    let targets = format!(
        "agent={}, transformer={}/prom?all, dcgm=http://127.0.0.1:{}/metrics",
        agent.port(),
        transformer.port(),
        dcgm.port()
    );
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[("QPEXT_TARGETS", &targets)]).await;
    let expected = [
        "same 0\n".to_owned(),
        format!("same{{{SERVING}}} 1\n"),
        format!("same{{exported_container_name=\"agent\",{SERVING}}} 2\n"),
        format!("same{{{SERVING},container_name=\"agent\"}} 2\n"),
        format!("same{{exported_container_name=\"own\",{SERVING},container_name=\"transformer\"}} 3\n"),
        format!("same{{{SERVING},container_name=\"dcgm\"}} 4\n"),
    ];
    assert_eq!(sidecar.scrape(LONG).await.text, expected.concat());

    // Where there is no other, there is none to pass for.
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    let alone = sidecar.scrape(LONG).await.text;
    assert!(alone.ends_with(&format!("same{{container_name=\"agent\",{SERVING}}} 2\n")), "{alone}");
}

#[tokio::test]
async fn the_serving_labels_have_the_names_that_are_asked_for_and_others_beside_them() {
    let queue_proxy = Stub::text("q 0\n").await;
    let app = Stub::text("x{team=\"own\"} 1\n").await;
    let names = "kn_service_name,kn_configuration_name,kn_revision_name";
    let variables = [("QPEXT_SERVING_LABEL_NAMES", names), ("QPEXT_EXTRA_LABELS", "team=ml,zone=eu")];
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &variables).await;
    let labels = "kn_service_name=\"iris\",kn_configuration_name=\"iris-predictor\",\
                  kn_revision_name=\"iris-predictor-00001\",team=\"ml\",zone=\"eu\"";
    let expected = format!("q 0\nx{{exported_team=\"own\",{labels}}} 1\n");
    assert_eq!(sidecar.scrape(LONG).await.text, expected);
}

#[tokio::test]
async fn the_queue_proxy_is_labelled_if_that_is_asked_for_and_never_collides_with_the_app() {
    let same = "# TYPE process_open_fds gauge\nprocess_open_fds 7\n";
    let (queue_proxy, app) = (Stub::text(same).await, Stub::text(same).await);
    let variables = [("QPEXT_LABEL_QUEUE_PROXY", "true"), ("QPEXT_DROP_METRICS", "dropped")];
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &variables).await;
    let expected = format!(
        "# TYPE process_open_fds gauge\nprocess_open_fds{{{SERVING},container_name=\"queue-proxy\"}} 7\n\
         process_open_fds{{{SERVING}}} 7\n"
    );
    assert_eq!(sidecar.scrape(LONG).await.text, expected);
}

#[tokio::test]
async fn families_are_kept_and_dropped_by_name_but_never_the_queue_proxys() {
    let body = "# TYPE vllm:a gauge\nvllm:a 1\n# TYPE vllm:h histogram\nvllm:h_bucket{le=\"+Inf\"} 1\nvllm:h_sum 1\n\
                vllm:h_count 1\n# TYPE go_gc gauge\ngo_gc 1\n";
    let (queue_proxy, app) = (Stub::text(body).await, Stub::text(body).await);
    let variables = [("QPEXT_KEEP_METRICS", "vllm:.*"), ("QPEXT_DROP_METRICS", ".*h"), ("QPEXT_SELF_METRICS", "true")];
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &variables).await;
    let text = sidecar.scrape(LONG).await.text;
    let (targets, own) = text.split_once("# HELP qpext_build_info").expect("its own metrics are no target's");
    assert_eq!(targets, format!("{body}vllm:a{{{SERVING}}} 1\n"));
    assert_eq!(value(own, "qpext_dropped_lines_total", "target=\"app\",reason=\"filtered\""), Some(4.0));
}

#[tokio::test]
async fn a_target_with_too_many_samples_is_cut_marked_failed_and_counted() {
    let queue_proxy = Stub::text("q 0\n").await;
    let app = Stub::text((0..1000).map(|index| format!("x{{i=\"{index}\"}} 1\n")).collect::<String>()).await;
    let agent = Stub::text("# one more than a thousand\nx 1\nx{i=\"1\"} 2\nx{i=\"2\"} 3\n").await;
    let targets = format!("agent={}", agent.port());
    let variables = [("QPEXT_TARGETS", targets.as_str()), ("QPEXT_SAMPLE_LIMIT", "3"), ("QPEXT_SELF_METRICS", "true")];
    let mut sidecar = Sidecar::for_pod(&queue_proxy, &app, &variables).await;
    let text = sidecar.scrape(LONG).await.text;
    let samples = read_text(&text).samples;
    assert_eq!(samples.iter().filter(|sample| sample.name == "x").count(), 6);
    let log = sidecar.logged("target failed").await;
    assert!(log.contains("sent more than 3 samples, which is QPEXT_SAMPLE_LIMIT"), "{log}");
    let up = |target: &str| value(&text, "qpext_target_up", &format!("target=\"{target}\""));
    assert_eq!((up("queue-proxy"), up("app"), up("agent")), (Some(1.0), Some(0.0), Some(1.0)));
    let failures = value(&text, "qpext_scrape_failures_total", "target=\"app\",reason=\"sample_limit\"");
    assert_eq!(failures, Some(1.0));
    assert_eq!(value(&text, "qpext_target_samples", "target=\"app\""), Some(3.0));
}

#[tokio::test]
async fn the_queue_proxy_has_the_same_limit() {
    let queue_proxy = Stub::text("a 1\nb 2\nc 3\n").await;
    let app = Stub::text("x 1\n").await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[("QPEXT_SAMPLE_LIMIT", "2")]).await;
    assert_eq!(sidecar.scrape(LONG).await.text, format!("a 1\nb 2\nx{{{SERVING}}} 1\n"));
}

#[tokio::test]
async fn two_types_of_one_family_are_counted_and_the_first_stays() {
    let queue_proxy = Stub::text("# TYPE x gauge\nx 1\n").await;
    let app = Stub::text("# TYPE x counter\nx 2\n").await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[("QPEXT_SELF_METRICS", "true")]).await;
    for scrapes in [1.0, 2.0] {
        let text = sidecar.scrape(LONG).await.text;
        assert!(text.starts_with(&format!("# TYPE x gauge\nx 1\nx{{{SERVING}}} 2\n# HELP qpext")), "{text}");
        assert_eq!(value(&text, "qpext_family_conflicts_total", ""), Some(scrapes));
    }
    let page = client().get(sidecar.url("/")).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("<code>x</code> is a gauge in the answer, and a counter in app"), "{page}");
    let status = client().get(sidecar.url("/status.json")).send().await.unwrap().text().await.unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let told = serde_json::json!([{"family": "x", "type": "gauge", "other_type": "counter", "target": "app"}]);
    assert_eq!(status["family_conflicts"], told);
}

/// Twenty targets, of which every fourth fails, each in another way.
async fn twenty_targets() -> Vec<Stub> {
    let mut targets = Vec::new();
    for index in 0..20 {
        let whole = format!("# TYPE m{index} gauge\nm{index} {index}\n");
        targets.push(match index {
            3 => Stub::start(vec![answer("500 Internal Server Error", "", b"")]).await,
            7 => Stub::start(vec![answer("200 OK", "content-type: text/html\r\n", b"<p>hello</p>")]).await,
            11 => Stub::start(vec![Step::Hang]).await,
            15 => Stub::start(vec![chunked_head(), chunk(whole.as_bytes()), Step::Reset]).await,
            19 => Stub::start(vec![chunked_head(), chunk(whole.as_bytes()), chunk(b"half a li"), Step::Hang]).await,
            _ => Stub::text(whole).await,
        });
    }
    targets
}

/// The list that names these targets t0, t1 and so on.
fn list_of(targets: &[Stub]) -> String {
    let targets = targets.iter().enumerate();
    let list: Vec<_> = targets.map(|(index, stub)| format!("t{index}={}", stub.port())).collect();
    list.join(",")
}

#[tokio::test]
async fn of_twenty_targets_those_that_fail_cost_nothing_but_their_own_samples() {
    let targets = twenty_targets().await;
    let variables =
        [("QPEXT_QUEUE_PROXY_METRICS_PORT", ""), ("QPEXT_TARGETS", &list_of(&targets)), ("QPEXT_SELF_METRICS", "true")];
    let sidecar = Sidecar::start(&variables).await;
    let answer = scrape_patiently(&sidecar.url("/metrics"), SHORT, LONG).await;
    let text = answer.expect("a whole answer").text;
    read_text(&text);
    for (index, reason) in (0..20).map(|index| {
        let reason = match index {
            3 => Some("status"),
            7 => Some("content_type"),
            11 => Some("head_timeout"),
            15 => Some("broken_off"),
            19 => Some("body_timeout"),
            _ => None,
        };
        (index, reason)
    }) {
        let target = format!("target=\"t{index}\"");
        let sample = value(&text, &format!("m{index}"), &format!("container_name=\"t{index}\""));
        let has_sample = !matches!(reason, Some("status" | "content_type" | "head_timeout"));
        assert_eq!(sample, has_sample.then_some(f64::from(index)), "{target}");
        let up = value(&text, "qpext_target_up", &target);
        assert_eq!(up, Some(if reason.is_none() { 1.0 } else { 0.0 }), "{target}");
        let failures = format!("{target},reason=\"{}\"", reason.unwrap_or_default());
        let failures = value(&text, "qpext_scrape_failures_total", &failures);
        assert_eq!(failures, reason.map(|_| 1.0), "{target}");
    }
}

#[tokio::test]
async fn its_own_metrics_close_the_answer_in_the_format_of_the_answer() {
    let app_text = "# TYPE x counter\nx_total 1\n# EOF\n";
    let app =
        Stub::start(vec![answer("200 OK", &format!("content-type: {OPEN_METRICS}\r\n"), app_text.as_bytes())]).await;
    let port = app.port().to_string();
    let variables = [
        ("QPEXT_QUEUE_PROXY_METRICS_PORT", ""),
        ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", &port),
        ("SERVING_SERVICE", "iris"),
        ("QPEXT_SELF_METRICS", "true"),
    ];
    let sidecar = Sidecar::start(&variables).await;
    let scrape = async |accept: &str| {
        let request = client().get(sidecar.url("/metrics")).header(ACCEPT, accept);
        request.send().await.expect("an answer")
    };
    let version = format!("version=\"{}\",service_name=\"iris\"", env!("CARGO_PKG_VERSION"));

    let open_metrics = scrape(OPEN_METRICS).await;
    assert_eq!(open_metrics.headers()[CONTENT_TYPE], OPEN_METRICS);
    let text = open_metrics.text().await.unwrap();
    assert!(text.starts_with("# TYPE x counter\nx_total{service_name=\"iris\"} 1\n# HELP qpext_build_info "), "{text}");
    assert!(text.ends_with("\n# EOF\n") && text.matches("# EOF").count() == 1, "{text}");
    assert!(text.contains("# TYPE qpext_build_info gauge\n"), "{text}");
    assert!(text.contains("# UNIT qpext_target_body_bytes bytes\n"), "{text}");
    assert!(text.contains("# TYPE qpext_scrapes counter\nqpext_scrapes_total{service_name=\"iris\"} 1\n"), "{text}");

    let text = scrape("text/plain;version=0.0.4").await.text().await.unwrap();
    assert!(text.contains(&format!("# TYPE qpext_build_info gauge\nqpext_build_info{{{version}}} 1\n")), "{text}");
    assert!(text.contains("# TYPE qpext_scrapes_total counter\n"), "{text}");
    assert_eq!(value(&text, "qpext_target_body_bytes", "target=\"app\""), Some(app_text.len() as f64));
    assert_eq!(value(&text, "qpext_target_samples", "target=\"app\""), Some(1.0));
    assert!(value(&text, "qpext_target_scrape_duration_seconds", "target=\"app\"").unwrap() > 0.0);

    let families = scrape(PROTOBUF).await.bytes().await.unwrap();
    // No target speaks it, so it is text all the same.
    assert!(families.starts_with(b"# TYPE"));
}

#[tokio::test]
async fn its_own_metrics_are_messages_where_the_answer_is() {
    let family = crate::support::protobuf::family("x", crate::support::protobuf::MetricType::Gauge, Vec::new());
    let body = crate::support::protobuf::encode(&[family]);
    let app = Stub::start(vec![answer("200 OK", &format!("content-type: {PROTOBUF}\r\n"), &body)]).await;
    let port = app.port().to_string();
    let variables = [
        ("QPEXT_QUEUE_PROXY_METRICS_PORT", ""),
        ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", port.as_str()),
        ("QPEXT_SELF_METRICS", "true"),
    ];
    let sidecar = Sidecar::start(&variables).await;
    let request = client().get(sidecar.url("/metrics")).header(ACCEPT, PROTOBUF);
    let body = request.send().await.unwrap().bytes().await.unwrap();
    let families: Vec<MetricFamily> = decode(&body).expect("they are messages");
    let names: Vec<_> = families.iter().filter_map(|family| family.name.as_deref()).collect();
    assert!(names.contains(&"qpext_build_info") && names.contains(&"qpext_target_up"), "{names:?}");
}

#[tokio::test]
async fn the_app_cannot_send_the_sidecars_own_metrics() {
    let queue_proxy = Stub::text("q 0\n").await;
    let forged = "# TYPE qpext_target_up counter\nqpext_target_up{target=\"app\"} 7\nqpext_scrapes_total 99\n\
                  # TYPE qpext_scrapes_total gauge\n{\"qpext.target.samples\",target=\"app\"} 7\nqpext_other 1\n";
    let app = Stub::text(forged).await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[("QPEXT_SELF_METRICS", "true")]).await;
    let text = sidecar.scrape(LONG).await.text;
    assert!(text.starts_with("q 0\n# HELP qpext_build_info "), "{text}");
    assert!(text.contains("# TYPE qpext_target_up gauge\n"), "{text}");
    assert_eq!(value(&text, "qpext_scrapes_total", ""), Some(1.0));
    assert_eq!(value(&text, "qpext_dropped_lines_total", "reason=\"filtered\""), Some(4.0));

    // In OpenMetrics some have names without an ending, which are as much the sidecar's.
    let forged = "# TYPE qpext_scrapes gauge\nqpext_scrapes 5\n# TYPE qpext_build histogram\n\
                  qpext_build_bucket{le=\"+Inf\"} 1\nqpext_build_count 1\nqpext_build_sum 1\n# EOF\n";
    let app =
        Stub::start(vec![answer("200 OK", &format!("content-type: {OPEN_METRICS}\r\n"), forged.as_bytes())]).await;
    let port = app.port().to_string();
    let variables = [
        ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", port.as_str()),
        ("QPEXT_QUEUE_PROXY_METRICS_PORT", ""),
        ("QPEXT_SELF_METRICS", "true"),
    ];
    let sidecar = Sidecar::start(&variables).await;
    let request = client().get(sidecar.url("/metrics")).header(ACCEPT, OPEN_METRICS);
    let text = request.send().await.unwrap().text().await.unwrap();
    assert!(text.starts_with("# HELP qpext_build_info Which"), "{text}");
    assert!(
        text.contains("\n# TYPE qpext_build_info gauge\n") && text.contains("\n# TYPE qpext_scrapes counter\n"),
        "{text}"
    );
}

#[tokio::test]
async fn promtool_has_no_complaint_about_its_own_metrics() {
    let queue_proxy = Stub::text("x 1\nx {\n").await;
    let app = Stub::start(vec![answer("503 Service Unavailable", "", b"")]).await;
    let sidecar =
        Sidecar::for_pod(&queue_proxy, &app, &[("QPEXT_SELF_METRICS", "true"), ("QPEXT_LABEL_QUEUE_PROXY", "true")])
            .await;
    let text = sidecar.scrape(LONG).await.text;
    let (_, own) = text.split_once("# HELP qpext").expect("they are there");
    let own = format!("# HELP qpext{own}");
    for name in ["qpext_scrape_failures_total{", "qpext_dropped_lines_total{"] {
        assert!(own.contains(name), "every one is there: {own}");
    }
    assert_eq!(crate::support::prometheus::promtool_says(own.as_bytes()).await, "");
    promtool_reads(text.as_bytes()).await.expect("all of it parses");
}

#[tokio::test]
async fn a_target_that_goes_down_and_comes_back_is_logged_twice_however_often_it_is_scraped() {
    let queue_proxy = Stub::text("q 1\n").await;
    let is_up = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let app = Stub::route({
        let is_up = std::sync::Arc::clone(&is_up);
        move |_| match is_up.load(std::sync::atomic::Ordering::Relaxed) {
            true => vec![ok(b"x 1\n")],
            false => vec![answer("500 Internal Server Error", "", b"")],
        }
    })
    .await;
    let mut sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    for up in [true, false, true] {
        is_up.store(up, std::sync::atomic::Ordering::Relaxed);
        for _ in 0..3 {
            sidecar.scrape(LONG).await;
        }
    }
    sidecar.signal("TERM").await;
    let log = sidecar.rest_of_log().await;
    let about: Vec<_> = log.lines().filter(|line| line.contains("\"target\":")).collect();
    assert_eq!(about.len(), 2, "{log}");
    assert!(about[0].contains("target failed") && about[0].contains("answered 500 Internal Server Error"), "{log}");
    assert!(about[1].contains("target is back") && about[1].contains("down_for_seconds"), "{log}");
}

#[tokio::test]
async fn the_first_line_dropped_is_logged_with_its_number_once_a_minute() {
    let queue_proxy = Stub::text("q 1\n").await;
    let long = "x".repeat(300);
    let app = Stub::text(format!("# HELP fine x\nfine 1\n{long} broken\nother broken\n")).await;
    let mut sidecar = Sidecar::for_pod(&queue_proxy, &app, &[("QPEXT_DROP_METRICS", "fine")]).await;
    for _ in 0..3 {
        sidecar.scrape(LONG).await;
    }
    sidecar.signal("TERM").await;
    let log = sidecar.rest_of_log().await;
    let about: Vec<_> = log.lines().filter(|line| line.contains("lines dropped")).collect();
    assert_eq!(about.len(), 1, "{log}");
    let event: serde_json::Value = serde_json::from_str(about[0]).expect("one JSON object a line");
    assert_eq!((&event["target"], &event["line"], &event["reason"]), (&"app".into(), &3.into(), &"malformed".into()));
    assert_eq!((&event["text"], &event["dropped"]), (&long[..200].into(), &2.into()));
}

#[tokio::test]
async fn two_prometheus_servers_at_once_see_the_same() {
    let queue_proxy = Stub::text("# TYPE kn gauge\nkn 1\n").await;
    let app = Stub::text("# TYPE x gauge\nx{a=\"b\"} 2\n").await;
    let agent = Stub::text("# TYPE x gauge\nx 3\n").await;
    let targets = format!("agent={}", agent.port());
    let variables = [("QPEXT_TARGETS", targets.as_str()), ("QPEXT_SELF_METRICS", "true")];
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &variables).await;
    let config = format!(
        "- job_name: pod\n  scrape_interval: 2s\n  scrape_timeout: 2s\n  static_configs: [{{targets: \
         ['127.0.0.1:{}']}}]\n",
        sidecar.port
    );
    let (one, other) = tokio::join!(Prometheus::start(&config), Prometheus::start(&config));
    let mut seen = Vec::new();
    for prometheus in [&one, &other] {
        // Which of its interval's moments a server takes depends on the target alone: they scrape at once each time.
        prometheus.query("count_over_time(up[1m]) >= 3", 1).await;
        assert_eq!(prometheus.value("min_over_time(up[1m])").await, 1.0);
        let query = "{job=\"pod\",__name__!~\"up|scrape_.*|qpext_.*_seconds|qpext_scrapes_total\"}";
        // The queue-proxy's, the app's, the agent's, four gauges less one of three targets, and two of all.
        let series = prometheus.query(query, 3 + 3 * 3 + 2).await;
        let mut series: Vec<String> = series.iter().map(|element| format!("{element:?}")).collect();
        series.sort();
        seen.push(series);
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn twenty_targets_of_a_megabyte_each_are_held_one_slice_at_a_time() {
    let mut targets = Vec::new();
    for _ in 0..20 {
        targets.push(Stub::text(bodies::vllm(1 << 20)).await);
    }
    let variables = [("QPEXT_QUEUE_PROXY_METRICS_PORT", ""), ("QPEXT_TARGETS", &list_of(&targets))];
    let sidecar = Sidecar::start(&variables).await;
    let text = sidecar.scrape(LONG).await.text;
    let lines = |text: &str| text.lines().filter(|line| line.starts_with("vllm:")).count();
    let body = String::from_utf8(bodies::vllm(1 << 20)).expect("it is text");
    assert_eq!(lines(&text), 20 * lines(&body));
    let peak = resident_kilobytes(sidecar.id(), "VmHWM:");
    println!("{peak} kB at the peak");
    // A debug build; the bodies together are 20 MiB.
    assert!(peak < 24_000, "{peak} kB");
}
