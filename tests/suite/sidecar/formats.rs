//! Which format is asked for and which one goes out, on real sockets.

use std::sync::Arc;

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use tokio::sync::Semaphore;

use crate::support::protobuf::{
    Counter, LabelPair, Metric, MetricFamily, MetricType, decode, encode, family, label, labels,
};
use crate::support::sidecar::{Sidecar, client};
use crate::support::stub::{Step, Stub, answer, chunk, chunked_head_of, last_chunk, ok};
use crate::support::{SERVING, SERVING_LABELS};

const PROTOBUF: &str = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT_1_0_0: &str = "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores";
const OPEN_METRICS_UTF_8: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8";

/// What Prometheus 2.42 sends.
const PROMETHEUS_2: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
/// What Prometheus 3.4 and later send.
const PROMETHEUS_3: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

/// What Prometheus 3.4 and later send where native histograms are on.
const PROMETHEUS_3_NATIVE: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";

const QUEUE_PROXY_TEXT: &str = "# TYPE kn_requests_total counter\nkn_requests_total 7\n";
const APP_OPEN_METRICS: &str = "# TYPE app_requests counter\n# HELP app_requests Requests.\napp_requests_total{path=\"/\"} 3 # {trace_id=\"abc\"} 1 1700000000.5\napp_requests_created{path=\"/\"} 1700000000\n# EOF\n";
const APP_UTF_8: &str = "# TYPE \"app.requests\" counter\n{\"app.requests\",\"http.path\"=\"/\"} 3\n";

/// A target that answers in this format.
async fn target(content_type: &str, body: &str) -> Stub {
    Stub::start(vec![in_format(content_type, body)]).await
}

fn in_format(content_type: &str, body: &str) -> Step {
    answer("200 OK", &format!("content-type: {content_type}\r\n"), body.as_bytes())
}

/// A scrape with this `Accept`: the answer's content type and its text.
async fn scrape(sidecar: &Sidecar, accept: &str) -> (String, String) {
    let request = client().get(sidecar.url("/metrics")).header(ACCEPT, accept);
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    let content_type = response.headers()[CONTENT_TYPE].to_str().expect("it is text").to_owned();
    (content_type, response.text().await.expect("it is text"))
}

/// The text that this scraper takes.
fn text_for(accept: &str) -> String {
    let text =
        if accept == PROMETHEUS_3 { "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8" } else { TEXT };
    text.to_owned()
}

/// A scrape that accepts protobuf: the families of the answer, which must be protobuf.
async fn scrape_protobuf(sidecar: &Sidecar) -> Vec<MetricFamily> {
    let request = client().get(sidecar.url("/metrics")).header(ACCEPT, PROMETHEUS_3_NATIVE);
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()[CONTENT_TYPE], format!("{PROTOBUF}; escaping=allow-utf-8"));
    decode(&response.bytes().await.expect("a whole answer")).expect("whole messages")
}

async fn protobuf_target(body: &[u8]) -> Stub {
    Stub::start(vec![answer("200 OK", &format!("content-type: {PROTOBUF}\r\n"), body)]).await
}

fn counter(name: &str, value: f64) -> MetricFamily {
    let counter = Counter { value: Some(value), ..Counter::default() };
    let metric = Metric { counter: Some(counter), ..Metric::default() };
    family(name, MetricType::Counter, vec![metric])
}

fn serving_labels() -> Vec<LabelPair> {
    labels(SERVING_LABELS)
}

async fn app_alone(app: &Stub) -> Sidecar {
    let port = app.port().to_string();
    Sidecar::start(&[
        ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", port.as_str()),
        ("QPEXT_QUEUE_PROXY_METRICS_PORT", ""),
        ("SERVING_SERVICE", "iris"),
        ("SERVING_CONFIGURATION", "iris-predictor"),
        ("SERVING_REVISION", "iris-predictor-00001"),
    ])
    .await
}

#[tokio::test]
async fn targets_are_asked_in_the_scrapers_own_words() {
    let mut app = Stub::text("x 1\n").await;
    let sidecar = app_alone(&app).await;
    for (accept, asked) in [
        (
            PROMETHEUS_3,
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
        ),
        ("*/*", "text/plain;version=0.0.4,*/*;q=0.1"),
    ] {
        scrape(&sidecar, accept).await;
        let head = app.request().await.to_ascii_lowercase();
        assert!(head.contains(&format!("\r\naccept: {asked}\r\n")), "{head}");
    }
}

#[tokio::test]
async fn openmetrics_of_all_is_openmetrics_with_one_end() {
    let app = target("application/openmetrics-text; version=1.0.0; charset=utf-8", APP_OPEN_METRICS).await;
    let sidecar = app_alone(&app).await;
    let expected = format!(
        "# TYPE app_requests counter\n# HELP app_requests Requests.\n\
         app_requests_total{{path=\"/\",{SERVING}}} 3 # {{trace_id=\"abc\"}} 1 1700000000.5\n\
         app_requests_created{{path=\"/\",{SERVING}}} 1700000000\n# EOF\n"
    );
    assert_eq!(scrape(&sidecar, PROMETHEUS_2).await, (OPEN_METRICS.to_owned(), expected.clone()));
    assert_eq!(scrape(&sidecar, PROMETHEUS_3).await, (OPEN_METRICS_UTF_8.to_owned(), expected));

    let queue_proxy = target("application/openmetrics-text; version=1.0.0", APP_OPEN_METRICS).await;
    let both = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    let (content_type, text) = scrape(&both, PROMETHEUS_3).await;
    assert_eq!(content_type, OPEN_METRICS_UTF_8);
    assert_eq!(text.matches("# EOF\n").count(), 1);
    assert_eq!(text.matches("# TYPE app_requests counter\n").count(), 1);
    assert!(text.starts_with(
        "# TYPE app_requests counter\n# HELP app_requests Requests.\napp_requests_total{path=\"/\"} 3 # {"
    ));
    assert!(text.ends_with("\n# EOF\n"));
}

/// A Python program's body, of which `more` are the last lines.
fn python(more: &str) -> String {
    format!("# TYPE python_info gauge\npython_info 1.0\n# TYPE up_seconds counter\nup_seconds_total 9.5\n{more}# EOF\n")
}

async fn two_apps(first: Vec<Step>, second: Vec<Step>) -> (Sidecar, [Stub; 2]) {
    let (first, second) = (Stub::start(first).await, Stub::start(second).await);
    let targets = format!("one={},two={}", first.port(), second.port());
    let variables =
        [("QPEXT_QUEUE_PROXY_METRICS_PORT", ""), ("QPEXT_TARGETS", &targets), ("QPEXT_SCRAPE_TIMEOUT", "2s")];
    (Sidecar::start(&variables).await, [first, second])
}

#[tokio::test]
async fn families_of_two_openmetrics_targets_stand_together() {
    let (first, second) = (python(""), python("# TYPE y gauge\ny 1\n"));
    let (sidecar, _targets) =
        two_apps(vec![in_format(OPEN_METRICS, &first)], vec![in_format(OPEN_METRICS, &second)]).await;
    let expected = "# TYPE python_info gauge\npython_info{container_name=\"one\"} 1.0\npython_info{container_name=\"two\"} 1.0\n\
                    # TYPE up_seconds counter\nup_seconds_total{container_name=\"one\"} 9.5\n\
                    up_seconds_total{container_name=\"two\"} 9.5\n# TYPE y gauge\ny{container_name=\"two\"} 1\n# EOF\n";
    for _ in 0..2 {
        assert_eq!(scrape(&sidecar, PROMETHEUS_2).await, (OPEN_METRICS.to_owned(), expected.to_owned()));
    }
}

#[tokio::test]
async fn families_of_two_openmetrics_targets_that_clash_are_text() {
    let (first, second) = (python("# TYPE y gauge\ny 1\n"), python("# TYPE y counter\ny_total 1\n"));
    let (sidecar, _targets) =
        two_apps(vec![in_format(OPEN_METRICS, &first)], vec![in_format(OPEN_METRICS, &second)]).await;
    for accept in [PROMETHEUS_2, PROMETHEUS_3, "application/openmetrics-text;version=1.0.0,*/*"] {
        let (content_type, text) = scrape(&sidecar, accept).await;
        assert_eq!(content_type, text_for(accept));
        assert_eq!(text.matches("{container_name=\"two\"} 1").count(), 2, "{text}");
    }
    let page = client().get(sidecar.url("/")).send().await.expect("a page").text().await.expect("a page");
    assert!(page.contains("y is one family in one of them and another in another: text goes out instead"), "{page}");
    // Who takes nothing else gets what there is, as it comes.
    let (content_type, text) = scrape(&sidecar, "application/openmetrics-text;version=1.0.0").await;
    assert_eq!(content_type, OPEN_METRICS);
    assert!(text.contains("\ny_total{container_name=\"two\"} 1\n"), "{text}");
}

#[tokio::test]
async fn families_of_two_openmetrics_targets_of_which_one_is_late_are_text() {
    let go = Arc::new(Semaphore::new(0));
    let second = python("");
    let (begin, rest) = second.split_once("# TYPE up").expect("it is there");
    let late = vec![
        chunked_head_of("application/openmetrics-text; version=1.0.0"),
        chunk(begin.as_bytes()),
        Step::Await(Arc::clone(&go)),
        chunk(format!("# TYPE up{rest}").as_bytes()),
        last_chunk(),
    ];
    let (sidecar, _targets) = two_apps(vec![in_format(OPEN_METRICS, &python(""))], late).await;
    let request = client().get(sidecar.url("/metrics")).header(ACCEPT, PROMETHEUS_2);
    let mut response = request.send().await.expect("an answer");
    assert_eq!(response.headers()[CONTENT_TYPE], TEXT);
    let mut text = String::new();
    while let Some(chunk) = response.chunk().await.expect("a whole answer") {
        text.push_str(std::str::from_utf8(&chunk).expect("it is text"));
        go.add_permits(1);
    }
    assert!(text.contains("up_seconds_total{container_name=\"one\"} 9.5\n"), "{text}");
    assert!(
        text.ends_with("python_info{container_name=\"two\"} 1.0\nup_seconds_total{container_name=\"two\"} 9.5\n"),
        "{text}"
    );
}

#[tokio::test]
async fn large_bodies_of_two_openmetrics_targets_are_text() {
    let family =
        |number: usize| format!("# TYPE family_{number} gauge\nfamily_{number}{{a=\"{}\"}} 1\n", "x".repeat(1000));
    let many: String = (0..9000).map(family).collect();
    let (sidecar, _targets) =
        two_apps(vec![in_format(OPEN_METRICS, &python(&many))], vec![in_format(OPEN_METRICS, &python(""))]).await;
    let (content_type, text) = scrape(&sidecar, PROMETHEUS_2).await;
    assert_eq!(content_type, TEXT);
    assert_eq!(text.matches("\nfamily_").count(), 9000);
    assert!(text.ends_with("up_seconds_total{container_name=\"two\"} 9.5\n"), "{}", &text[text.len() - 200..]);
}

#[tokio::test]
async fn openmetrics_beside_text_becomes_text() {
    let queue_proxy = Stub::text(QUEUE_PROXY_TEXT).await;
    let app = target("application/openmetrics-text; version=1.0.0; charset=utf-8", APP_OPEN_METRICS).await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    let expected = format!(
        "{QUEUE_PROXY_TEXT}# HELP app_requests_total Requests.\n# TYPE app_requests_total counter\n\
         app_requests_total{{path=\"/\",{SERVING}}} 3\n\
         # HELP app_requests_created Requests.\n# TYPE app_requests_created gauge\n\
         app_requests_created{{path=\"/\",{SERVING}}} 1700000000\n"
    );
    // Asked for or not.
    for accept in [PROMETHEUS_2, PROMETHEUS_3, "text/plain", "*/*", "text/html;q=x,,"] {
        assert_eq!(scrape(&sidecar, accept).await, (text_for(accept), expected.clone()), "{accept}");
    }
}

#[tokio::test]
async fn names_are_the_same_whichever_other_target_answers() {
    let apps = [
        // As Go's handlers that know text alone, and Prometheus's /federate, write.
        ("text/plain; version=0.0.4; charset=utf-8; escaping=allow-utf-8", APP_UTF_8.to_owned()),
        (TEXT_1_0_0, APP_UTF_8.to_owned()),
        (OPEN_METRICS, format!("{}# EOF\n", APP_UTF_8.replace("\"app.requests\",", "\"app.requests_total\","))),
    ];
    for (content_type, body) in apps {
        let app = target(content_type, &body).await;
        let protobuf = protobuf_target(&encode(&[counter("kn_requests_total", 7.0)])).await;
        let others = [Stub::absent(), Stub::text(QUEUE_PROXY_TEXT).await, protobuf];
        for queue_proxy in others {
            let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
            for accept in [PROMETHEUS_3, PROMETHEUS_3_NATIVE] {
                let request = client().get(sidecar.url("/metrics")).header(ACCEPT, accept);
                let body = request.send().await.expect("an answer").bytes().await.expect("a whole answer");
                let has = |name: &[u8]| memchr::memmem::find(&body, name).is_some();
                assert!(has(b"app.requests") && has(b"http.path"), "{content_type} {}", String::from_utf8_lossy(&body));
            }
            // To a scraper that takes no such names, none go.
            let (_, text) = scrape(&sidecar, PROMETHEUS_2).await;
            assert!(text.contains("app_requests") && text.contains("http_path") && !text.contains('.'), "{text}");
        }
    }
}

#[tokio::test]
async fn quoted_names_go_only_to_scrapers_that_take_them() {
    let queue_proxy = Stub::text(QUEUE_PROXY_TEXT).await;
    let app = target(TEXT_1_0_0, APP_UTF_8).await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    let quoted = format!(
        "{QUEUE_PROXY_TEXT}# TYPE \"app.requests\" counter\n{{\"app.requests\",\"http.path\"=\"/\",{SERVING}}} 3\n"
    );
    assert_eq!(scrape(&sidecar, PROMETHEUS_3).await, (TEXT_1_0_0.to_owned(), quoted));
    let escaped =
        format!("{QUEUE_PROXY_TEXT}# TYPE app_requests counter\napp_requests{{http_path=\"/\",{SERVING}}} 3\n");
    assert_eq!(scrape(&sidecar, PROMETHEUS_2).await, (TEXT.to_owned(), escaped.clone()));
    let (content_type, text) = scrape(&sidecar, "text/plain;version=1.0.0;escaping=underscores").await;
    assert_eq!(content_type, "text/plain; version=1.0.0; charset=utf-8; escaping=underscores");
    assert_eq!(text, escaped);
}

#[tokio::test]
async fn a_queue_proxys_quoted_names_are_escaped_for_a_scraper_that_does_not_take_them() {
    let queue_proxy = target(TEXT_1_0_0, APP_UTF_8).await;
    let app = Stub::text("x 1\n").await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    let escaped = format!("# TYPE app_requests counter\napp_requests{{http_path=\"/\"}} 3\nx{{{SERVING}}} 1\n");
    assert_eq!(scrape(&sidecar, "*/*").await, (TEXT.to_owned(), escaped));
    let verbatim = format!("{APP_UTF_8}x{{{SERVING}}} 1\n");
    assert_eq!(scrape(&sidecar, PROMETHEUS_3).await, (TEXT_1_0_0.to_owned(), verbatim));
}

#[tokio::test]
async fn openmetrics_without_its_end_broke_off_and_what_came_is_kept() {
    let unended = APP_OPEN_METRICS.strip_suffix("# EOF\n").unwrap();
    let app = target("application/openmetrics-text; version=1.0.0", &format!("{unended}last 1")).await;
    let mut sidecar = app_alone(&app).await;
    let (content_type, text) = scrape(&sidecar, PROMETHEUS_2).await;
    assert_eq!(content_type, OPEN_METRICS);
    assert!(text.contains("app_requests_total{"), "{text}");
    assert!(!text.contains("last"), "{text}");
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    let log = sidecar.logged("target failed").await;
    assert!(log.contains("without \\\"# EOF\\\""), "{log}");
}

#[tokio::test]
async fn openmetrics_of_nobody_alive_is_503() {
    let app = target("application/openmetrics-text; version=1.0.0", "").await;
    let sidecar = app_alone(&app).await;
    let request = client().get(sidecar.url("/metrics")).header(ACCEPT, PROMETHEUS_2);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 503);
    let text = response.text().await.unwrap();
    assert!(text.contains("without \"# EOF\""), "{text}");
}

#[tokio::test]
async fn an_openmetrics_app_that_has_nothing_to_say_is_alive() {
    let app = target("application/openmetrics-text; version=1.0.0", "# EOF\n").await;
    let sidecar = app_alone(&app).await;
    let (content_type, text) = scrape(&sidecar, PROMETHEUS_2).await;
    assert_eq!((content_type.as_str(), text.as_str()), (OPEN_METRICS, "# EOF\n"));
}

#[tokio::test]
async fn a_target_that_answers_late_is_written_in_the_format_that_was_settled_without_it() {
    let go = Arc::new(Semaphore::new(0));
    let queue_proxy = Stub::start(vec![Step::Await(Arc::clone(&go)), ok(QUEUE_PROXY_TEXT.as_bytes())]).await;
    let app = target("application/openmetrics-text; version=1.0.0", APP_OPEN_METRICS).await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[("QPEXT_SCRAPE_TIMEOUT", "6s")]).await;
    let request = client().get(sidecar.url("/metrics")).header(ACCEPT, PROMETHEUS_2);
    let mut response = request.send().await.unwrap();
    // The queue-proxy's answer may be text, so the application's OpenMetrics is not passed on as such.
    assert_eq!(response.headers()[CONTENT_TYPE], TEXT);
    let mut text = String::new();
    while let Some(chunk) = response.chunk().await.unwrap() {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
        go.add_permits(1);
    }
    assert!(text.starts_with("# HELP app_requests_total Requests.\n"), "{text}");
    assert!(text.ends_with(QUEUE_PROXY_TEXT), "{text}");
}

#[tokio::test]
async fn a_scraper_that_takes_text_only_need_not_wait_for_every_head() {
    let go = Arc::new(Semaphore::new(0));
    let queue_proxy = Stub::text(QUEUE_PROXY_TEXT).await;
    let app =
        Stub::start(vec![Step::Await(Arc::clone(&go)), chunked_head_of("text/plain"), chunk(b"x 1\n"), last_chunk()])
            .await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    let request = client().get(sidecar.url("/metrics")).header(ACCEPT, "text/plain;version=0.0.4");
    let mut response = request.send().await.unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), QUEUE_PROXY_TEXT);
    go.add_permits(1);
    assert_eq!(response.chunk().await.unwrap().unwrap(), format!("x{{{SERVING}}} 1\n"));
}

#[tokio::test]
async fn protobuf_of_one_target_is_enough() {
    let queue_proxys = counter("kn_requests_total", 7.0);
    let queue_proxy = protobuf_target(&encode(std::slice::from_ref(&queue_proxys))).await;
    let app = target("application/openmetrics-text; version=1.0.0", APP_OPEN_METRICS).await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    let families = scrape_protobuf(&sidecar).await;
    assert_eq!(families.len(), 2);
    assert_eq!(families[0], queue_proxys);
    assert_eq!(families[1].name(), "app_requests_total");
    assert_eq!(families[1].help(), "Requests.");
    let metric = &families[1].metric[0];
    assert_eq!(metric.label, [vec![label("path", "/")], serving_labels()].concat());
    let counter = metric.counter.as_ref().unwrap();
    assert_eq!(counter.value, Some(3.0));
    assert_eq!(counter.exemplar.as_ref().unwrap().label, [label("trace_id", "abc")]);
    assert_eq!(counter.created_timestamp.as_ref().unwrap().seconds, 1_700_000_000);
}

#[tokio::test]
async fn text_beside_protobuf_becomes_protobuf() {
    let queue_proxy = Stub::text(QUEUE_PROXY_TEXT).await;
    let app = protobuf_target(&encode(&[counter("app_requests_total", 3.0)])).await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    let mut labelled = counter("app_requests_total", 3.0);
    labelled.metric[0].label = serving_labels();
    assert_eq!(scrape_protobuf(&sidecar).await, [counter("kn_requests_total", 7.0), labelled]);
}

#[tokio::test]
async fn protobuf_becomes_text_for_a_scraper_that_does_not_take_it() {
    let queue_proxy = protobuf_target(&encode(&[counter("kn_requests_total", 7.0)])).await;
    let app = protobuf_target(&encode(&[counter("app_requests_total", 3.0)])).await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    let expected = format!("{QUEUE_PROXY_TEXT}# TYPE app_requests_total counter\napp_requests_total{{{SERVING}}} 3\n");
    for accept in [PROMETHEUS_2, PROMETHEUS_3, "*/*"] {
        assert_eq!(scrape(&sidecar, accept).await, (text_for(accept), expected.clone()), "{accept}");
    }
}

#[tokio::test]
async fn a_length_that_lies_costs_its_own_target_only() {
    let queue_proxy = Stub::text(QUEUE_PROXY_TEXT).await;
    let whole = encode(&[counter("app_requests_total", 3.0)]);
    for lie in [&b"\xff\xff\xff\xff\x0f"[..], b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x02"] {
        let app = protobuf_target(&[&whole, lie, &whole].concat()).await;
        let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
        let families = scrape_protobuf(&sidecar).await;
        let names: Vec<&str> = families.iter().map(MetricFamily::name).collect();
        assert_eq!(names[..2], ["kn_requests_total", "app_requests_total"], "{lie:?}");
    }
}

#[tokio::test]
async fn protobuf_that_breaks_off_gives_every_whole_message() {
    let queue_proxy = Stub::text(QUEUE_PROXY_TEXT).await;
    let body = encode(&[counter("first_total", 1.0), counter("second_total", 2.0)]);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {PROTOBUF}\r\ncontent-length: {}\r\n\r\n", body.len());
    let begun = [head.as_bytes(), &body[..body.len() - 1]].concat();
    let app = Stub::start(vec![Step::Send(begun), Step::Close]).await;
    let mut sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    let families = scrape_protobuf(&sidecar).await;
    let names: Vec<&str> = families.iter().map(MetricFamily::name).collect();
    assert_eq!(names, ["kn_requests_total", "first_total"]);
    let log = sidecar.logged("target failed").await;
    assert!(log.contains("broke off inside its body"), "{log}");
}

#[tokio::test]
async fn protobuf_of_nobody_alive_is_503() {
    let app = protobuf_target(b"\x32xxx").await;
    let sidecar = app_alone(&app).await;
    let request = client().get(sidecar.url("/metrics")).header(ACCEPT, PROMETHEUS_3_NATIVE);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 503);
    let text = response.text().await.unwrap();
    assert!(text.contains("or within a message"), "{text}");
}

#[tokio::test]
async fn an_end_mark_without_a_newline_is_one_however_the_body_ends() {
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: application/openmetrics-text; version=1.0.0\r\nconnection: close\r\n\r\n";
    let app = Stub::start(vec![Step::Send(format!("{head}x 1\n# EOF").into_bytes()), Step::Close]).await;
    let mut sidecar = app_alone(&app).await;
    let (_, text) = scrape(&sidecar, PROMETHEUS_2).await;
    assert_eq!(text, format!("x{{{SERVING}}} 1\n# EOF\n"));
    sidecar.signal("TERM").await;
    assert!(!sidecar.rest_of_log().await.contains("target failed"));
}
