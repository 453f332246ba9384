//! What targets do, and what it costs: their own samples, never anybody else's.

use std::net::Ipv6Addr;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::reader::{Exposition, read};
use crate::support::sidecar::{Answer, Sidecar, scrape_patiently};
use crate::support::stub::{Event, Step, Stub, answer, chunk, chunk_bytes, chunked_head, in_two_parts, ok};
use crate::support::{SERVING, bodies};

const QUEUE_PROXY_TEXT: &str = "# TYPE kn_requests_total counter\nkn_requests_total 7\n";
const APP_TEXT: &str = "# TYPE app_requests_total counter\napp_requests_total 3\n";

/// Seconds that a scraper says where a target hangs: short, because these tests wait it out. It does wait longer, as one
/// must on a busy machine; [`however_a_target_hangs_the_answer_is_there_in_time`] has one that does not.
const SHORT: f64 = 2.0;
/// Seconds that a scraper gives where nothing hangs: long, because these tests never wait it out.
const LONG: f64 = 60.0;

fn value<'a>(exposition: &'a Exposition, name: &str) -> Option<&'a str> {
    let sample = exposition.samples.iter().find(|sample| sample.name == name)?;
    Some(&sample.value)
}

/// Scrapes as one that says it waits so long, and waits for the whole answer.
async fn scrape_saying(sidecar: &Sidecar, seconds: f64) -> Answer {
    let answer = scrape_patiently(&sidecar.url("/metrics"), seconds, LONG).await;
    answer.expect("a whole answer")
}

/// Scrapes a pod whose application does `steps` beside a healthy queue-proxy.
async fn beside_healthy_queue_proxy(steps: Vec<Step>, seconds: f64) -> (Answer, Exposition, String) {
    let queue_proxy = Stub::text(QUEUE_PROXY_TEXT).await;
    let app = Stub::start(steps).await;
    let mut sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    let answer = scrape_saying(&sidecar, seconds).await;
    assert_eq!(answer.status, 200);
    let exposition = answer.read();
    assert_eq!(value(&exposition, "kn_requests_total"), Some("7"), "the queue-proxy's samples arrive");
    let log = sidecar.logged("target failed").await;
    assert!(log.contains("\"target\":\"app\""), "{log}");
    (answer, exposition, log)
}

#[tokio::test]
async fn both_targets_alive_give_the_queue_proxys_text_and_then_the_apps_with_labels() {
    let queue_proxy = Stub::text(QUEUE_PROXY_TEXT).await;
    let app = Stub::text(APP_TEXT).await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    let answer = sidecar.scrape(LONG).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let app_text = format!("# TYPE app_requests_total counter\napp_requests_total{{{SERVING}}} 3\n");
    assert_eq!(answer.text, format!("{QUEUE_PROXY_TEXT}{app_text}"));
}

#[tokio::test]
async fn an_app_that_hangs_before_its_head_costs_only_its_own_samples() {
    let (_, exposition, log) = beside_healthy_queue_proxy(vec![Step::Hang], SHORT).await;
    assert_eq!(exposition.samples.len(), 1);
    assert!(log.contains("sent no answer within 1.500 s"), "{log}");
}

#[tokio::test]
async fn an_app_that_hangs_inside_its_head_costs_only_its_own_samples() {
    let half_a_head = Step::Send(b"HTTP/1.1 200 OK\r\ncontent-type: text/pl".to_vec());
    let (_, exposition, _) = beside_healthy_queue_proxy(vec![half_a_head, Step::Hang], SHORT).await;
    assert_eq!(exposition.samples.len(), 1);
}

#[tokio::test]
async fn an_app_that_hangs_inside_its_body_gives_every_whole_line_it_sent() {
    let steps = vec![chunked_head(), chunk(b"first 1\nsecond 2\nthi"), Step::Hang];
    let (_, exposition, log) = beside_healthy_queue_proxy(steps, SHORT).await;
    assert_eq!(value(&exposition, "first"), Some("1"));
    assert_eq!(value(&exposition, "second"), Some("2"));
    assert_eq!(exposition.samples.len(), 3);
    assert!(log.contains("did not end within"), "{log}");
}

#[tokio::test]
async fn an_app_that_resets_its_connection_gives_every_whole_line_it_sent() {
    let resets_at_once = beside_healthy_queue_proxy(vec![Step::Reset], LONG).await;
    assert_eq!(resets_at_once.1.samples.len(), 1);

    // The reset may overtake the body, as it may in life; what arrived before it is whole lines or nothing.
    let steps = vec![chunked_head(), chunk(b"first 1\nsecond 22"), Step::Reset];
    let (_, exposition, log) = beside_healthy_queue_proxy(steps, LONG).await;
    assert_eq!(value(&exposition, "second"), None, "half a line may be another number");
    assert!(log.contains("broke off") || log.contains("cannot be reached"), "{log}");
}

#[tokio::test]
async fn an_app_that_ends_too_early_gives_every_whole_line_it_sent() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1000\r\n\r\n";
    let too_short = Step::Send(format!("{head}first 1\nsecond 22").into_bytes());
    let (_, exposition, log) = beside_healthy_queue_proxy(vec![too_short, Step::Close], LONG).await;
    assert_eq!(value(&exposition, "first"), Some("1"));
    assert_eq!(value(&exposition, "second"), None);
    assert!(log.contains("broke off inside its body"), "{log}");
}

#[tokio::test]
async fn an_app_that_answers_anything_but_an_exposition_costs_only_its_own_samples() {
    let html = "content-type: text/html; charset=utf-8\r\n";
    let brotli = "content-type: text/plain\r\ncontent-encoding: br\r\n";
    let twice = "content-encoding: identity, zstd\r\ncontent-encoding: gzip\r\n";
    for (steps, why) in [
        (vec![answer("500 Internal Server Error", "", b"oops 1\n")], "answered 500 Internal Server Error"),
        (vec![answer("204 No Content", "", b"")], "answered 204 No Content"),
        (vec![answer("404 Not Found", html, b"<html>")], "answered 404 Not Found"),
        (vec![answer("200 OK", html, b"<html>\n")], "text/html"),
        (vec![answer("200 OK", "content-type: application/json\r\n", b"{}")], "application/json"),
        (
            vec![answer(
                "200 OK",
                "content-type: application/vnd.google.protobuf; encoding=text\r\n",
                b"name: \"a\"\n",
            )],
            "application/vnd.google.protobuf; encoding=text",
        ),
        (vec![answer("200 OK", brotli, b"x 1\n")], r#"content encoding \"br\", expected none, gzip or zstd"#),
        (vec![answer("200 OK", twice, b"x 1\n")], r#"content encoding \"zstd, gzip\""#),
        (vec![Step::Send(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), Step::Hang], "cannot be reached"),
        (vec![Step::Close], "cannot be reached"),
    ] {
        let (_, exposition, log) = beside_healthy_queue_proxy(steps, LONG).await;
        assert_eq!(exposition.samples.len(), 1, "{why}");
        assert!(log.contains(why), "{why}: {log}");
    }
}

#[tokio::test]
async fn an_app_that_is_not_there_costs_only_its_own_samples() {
    let queue_proxy = Stub::text(QUEUE_PROXY_TEXT).await;
    let app = Stub::absent();
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    let answer = sidecar.scrape(LONG).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, QUEUE_PROXY_TEXT));
}

#[tokio::test]
async fn an_app_that_answers_nothing_is_alive_and_has_no_samples() {
    let queue_proxy = Stub::text(QUEUE_PROXY_TEXT).await;
    let app = Stub::text("").await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    assert_eq!(sidecar.scrape(LONG).await.text, QUEUE_PROXY_TEXT);
}

#[tokio::test]
async fn an_app_that_sends_one_byte_at_a_time_loses_nothing() {
    let queue_proxy = Stub::text(QUEUE_PROXY_TEXT).await;
    let Step::Send(bytes) = ok(APP_TEXT.as_bytes()) else {
        unreachable!("it is sent at once");
    };
    let app = Stub::start(vec![Step::Dribble(bytes)]).await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    let exposition = sidecar.scrape(LONG).await.read();
    assert_eq!(value(&exposition, "app_requests_total"), Some("3"));
}

#[tokio::test]
async fn a_body_without_end_is_cut_at_a_whole_line_in_time() {
    // One that always has more, and one that has a little now and then.
    let line = format!("endless{{path=\"/v1/models/{{name}}/{}\"}} 1\n", "x".repeat(10_000));
    let always = Step::Forever(chunk_bytes(line.as_bytes()));
    let now_and_then = Step::Drip(chunk_bytes(b"endless 1\n"));
    for (endless, seconds) in [(always, 0.5), (now_and_then, SHORT)] {
        let queue_proxy = Stub::text(QUEUE_PROXY_TEXT).await;
        let app = Stub::start(vec![chunked_head(), endless]).await;
        let no_limit = [("QPEXT_MAX_BODY_BYTES", "1000000000000")];
        let mut sidecar = Sidecar::for_pod(&queue_proxy, &app, &no_limit).await;
        let exposition = scrape_saying(&sidecar, seconds).await.read();
        assert_eq!(value(&exposition, "kn_requests_total"), Some("7"));
        assert_eq!(value(&exposition, "endless"), Some("1"));
        assert!(sidecar.logged("target failed").await.contains("did not end within"));
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_cut_at_a_whole_line_and_counts_as_failed() {
    for (app_text, expected) in [("a 1\nb 2\n", Some("2")), ("a 1\nb 22\n", None), ("a 1\nb 2\nc 3\n", Some("2"))] {
        let app = Stub::text(app_text).await;
        let port = app.port().to_string();
        let variables = [
            ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", port.as_str()),
            ("QPEXT_QUEUE_PROXY_METRICS_PORT", ""),
            ("QPEXT_MAX_BODY_BYTES", "8"),
        ];
        let mut sidecar = Sidecar::start(&variables).await;
        let exposition = sidecar.scrape(LONG).await.read();
        assert_eq!(value(&exposition, "a"), Some("1"));
        assert_eq!(value(&exposition, "b"), expected, "{app_text:?}");
        assert_eq!(value(&exposition, "c"), None);
        if app_text.len() > 8 {
            assert!(sidecar.logged("target failed").await.contains("more than 8 bytes"));
        }
    }
}

#[tokio::test]
async fn a_queue_proxys_body_has_the_same_limit() {
    let queue_proxy = Stub::text("kn 1\nkn_too 22\n").await;
    let app = Stub::text("a 1\n").await;
    let mut sidecar = Sidecar::for_pod(&queue_proxy, &app, &[("QPEXT_MAX_BODY_BYTES", "8")]).await;
    assert_eq!(sidecar.scrape(LONG).await.text, format!("kn 1\na{{{SERVING}}} 1\n"));
    assert!(sidecar.logged("target failed").await.contains("more than 8 bytes"));
}

#[tokio::test]
async fn a_queue_proxy_that_hangs_inside_its_body_costs_only_its_own_samples() {
    let steps = vec![chunked_head(), chunk(b"kn_first 1\nkn_second 2"), Step::Hang];
    let queue_proxy = Stub::start(steps).await;
    let body = bodies::vllm(1 << 20);
    let app = Stub::text(body.clone()).await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[("QPEXT_SCRAPE_TIMEOUT_OFFSET", "2s")]).await;
    let exposition = scrape_saying(&sidecar, 8.0).await.read();
    assert_eq!(value(&exposition, "kn_first"), Some("1"));
    assert_eq!(value(&exposition, "kn_second"), None, "the cut is at a whole line");
    let samples = body.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"vllm:")).count();
    assert_eq!(exposition.samples.len(), samples + 1, "the application had to wait, and loses nothing by it");
}

#[tokio::test]
async fn an_app_need_not_wait_for_a_queue_proxy_that_hangs_inside_its_body() {
    let (go, go_on) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let queue_proxy = Stub::start(in_two_parts(
        b"# TYPE shared histogram\nshared_bucket{le=\"+Inf\"} 1\nkn_fi",
        &go,
        b"rst 1\n# TYPE app_first gauge\n# TYPE kn_second gauge\nkn_second 2\nshared_count 1\n",
    ))
    .await;
    let app = Stub::start(in_two_parts(b"# TYPE app_first gauge\napp_first 1\n", &go_on, b"app_second 2\n")).await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[("QPEXT_SCRAPE_TIMEOUT", "6s")]).await;
    let request = crate::support::sidecar::client().get(sidecar.url("/metrics"));
    let mut response = request.send().await.unwrap();
    let mut text = String::new();
    // The queue-proxy goes on when the application has been written, and not before.
    while let Some(chunk) = response.chunk().await.unwrap() {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
        if text.contains("app_first") {
            go_on.add_permits(1);
        }
        if text.contains("app_second") {
            go.add_permits(1);
        }
    }
    let expected = format!(
        "# TYPE shared histogram\nshared_bucket{{le=\"+Inf\"}} 1\n\
         # TYPE app_first gauge\napp_first{{{SERVING}}} 1\napp_second{{{SERVING}}} 2\n\
         kn_first 1\n# TYPE kn_second gauge\nkn_second 2\nshared_count 1\n"
    );
    assert_eq!(text, expected);
}

#[tokio::test]
async fn an_app_need_not_wait_for_a_queue_proxys_body_without_end() {
    // Long lines, so that who reads them keeps up.
    let line = format!("kn_requests_total{{path=\"/{}\"}} 7\n", "x".repeat(10_000));
    let queue_proxy = Stub::start(vec![chunked_head(), Step::Forever(chunk_bytes(line.as_bytes()))]).await;
    let go = Arc::new(Semaphore::new(0));
    let app = Stub::start(in_two_parts(b"app_first 1\n", &go, b"app_second 2\n")).await;
    let variables = [("QPEXT_SCRAPE_TIMEOUT", "3s"), ("QPEXT_MAX_BODY_BYTES", "1000000000000")];
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &variables).await;
    let request = crate::support::sidecar::client().get(sidecar.url("/metrics"));
    let mut response = request.send().await.unwrap();
    let mut apps = Vec::new();
    let mut last_line = Vec::new();
    let mut queue_proxys_behind = 0;
    while let Some(chunk) = response.chunk().await.unwrap() {
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            last_line.extend_from_slice(piece);
            if last_line.ends_with(b"\n") {
                let whole = String::from_utf8(std::mem::take(&mut last_line)).unwrap();
                if whole == line {
                    queue_proxys_behind += 1;
                } else {
                    apps.push(whole);
                    go.add_permits(1);
                    queue_proxys_behind = 0;
                }
            }
        }
    }
    assert_eq!(apps, [format!("app_first{{{SERVING}}} 1\n"), format!("app_second{{{SERVING}}} 2\n")]);
    assert!(last_line.is_empty());
    assert_ne!(queue_proxys_behind, 0, "its body goes on behind the app's");
}

#[tokio::test]
async fn an_app_need_not_wait_for_a_queue_proxy_that_hangs_before_its_head() {
    let queue_proxy = Stub::start(vec![Step::Hang]).await;
    // More than could be read within the offset.
    let body = bodies::vllm(12 << 20);
    let app = Stub::text(body.clone()).await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[("QPEXT_SCRAPE_TIMEOUT_OFFSET", "20ms")]).await;
    let answer = scrape_saying(&sidecar, 10.0).await;
    let samples = body.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"vllm:")).count();
    assert_eq!(answer.text.lines().filter(|line| line.starts_with("vllm:")).count(), samples);
}

#[tokio::test]
async fn a_queue_proxy_that_answers_late_is_written_last_and_repeats_no_metadata() {
    let go = Arc::new(Semaphore::new(0));
    let text = "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 1\nkn 7\n";
    let queue_proxy = Stub::start(vec![Step::Await(Arc::clone(&go)), ok(text.as_bytes())]).await;
    let app = Stub::text("# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 2\n").await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    let mut response = crate::support::sidecar::client()
        .get(sidecar.url("/metrics"))
        .header("x-prometheus-scrape-timeout-seconds", "8")
        .send()
        .await
        .unwrap();
    // The application's samples are there while the queue-proxy is still waited for.
    let mut answer = response.chunk().await.unwrap().unwrap().to_vec();
    assert!(answer.starts_with(b"# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total{"));
    go.add_permits(1);
    while let Some(chunk) = response.chunk().await.unwrap() {
        answer.extend_from_slice(&chunk);
    }
    let exposition = read(&answer).unwrap();
    assert_eq!(value(&exposition, "kn"), Some("7"));
    assert_eq!(exposition.samples.len(), 3);
}

#[tokio::test]
async fn a_queue_proxy_that_breaks_off_is_cut_after_its_last_whole_line() {
    let steps = vec![chunked_head(), chunk(b"kn_first 1\nkn_second 2"), Step::Close];
    let queue_proxy = Stub::start(steps).await;
    let app = Stub::text(APP_TEXT).await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    let exposition = sidecar.scrape(LONG).await.read();
    assert_eq!(value(&exposition, "kn_first"), Some("1"));
    assert_eq!(value(&exposition, "kn_second"), None);
    assert_eq!(value(&exposition, "app_requests_total"), Some("3"));
}

#[tokio::test]
async fn a_body_that_only_the_connection_ends_loses_a_line_that_may_be_a_piece() {
    let queue_proxy = Stub::text(QUEUE_PROXY_TEXT).await;
    let app = Stub::start(vec![Step::Send(b"HTTP/1.0 200 OK\r\n\r\nfirst 1\nsecond 22".to_vec()), Step::Close]).await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    let exposition = sidecar.scrape(LONG).await.read();
    assert_eq!(value(&exposition, "first"), Some("1"));
    assert_eq!(value(&exposition, "second"), None);
}

#[tokio::test]
async fn a_queue_proxy_without_a_final_newline_is_not_glued_to_the_app() {
    let queue_proxy = Stub::text("kn_requests 7").await;
    let app = Stub::text("app_requests 3").await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    assert_eq!(sidecar.scrape(LONG).await.text, format!("kn_requests 7\napp_requests{{{SERVING}}} 3\n"));
}

#[tokio::test]
async fn no_target_alive_is_503_and_says_which_failed_and_why() {
    let queue_proxy = Stub::start(vec![answer("500 Internal Server Error", "", b"")]).await;
    let app = Stub::absent();
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    let answer = sidecar.scrape(LONG).await;
    assert_eq!(answer.status, 503);
    assert!(answer.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    let lines: Vec<&str> = answer.text.lines().collect();
    assert_eq!(
        lines,
        [
            "no target could be scraped",
            &format!(
                "queue-proxy (http://localhost:{}/metrics) answered 500 Internal Server Error, expected 200 OK",
                queue_proxy.port()
            ),
            &format!(
                "app (http://localhost:{}/metrics) cannot be reached: Connection refused (os error 111)",
                app.port()
            ),
        ]
    );
}

#[tokio::test]
async fn heads_without_a_whole_line_behind_them_are_503() {
    let begins = |body: &[u8], then: Step| vec![chunked_head(), chunk(body), then];
    let queue_proxy = Stub::start(begins(b"half_a_li", Step::Close)).await;
    let app = Stub::start(begins(b"half a li", Step::Hang)).await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    let answer = scrape_saying(&sidecar, SHORT).await;
    assert_eq!(answer.status, 503);
    assert!(answer.text.contains("broke off inside its body"), "{}", answer.text);
    assert!(answer.text.contains("did not end within"), "{}", answer.text);
}

/// The one test that looks at a clock: the scraper gives up at its timeout. The offset is as large as it may be, so that a
/// busy machine has a second for the answer's way back.
#[tokio::test]
async fn however_a_target_hangs_the_answer_is_there_in_time() {
    let healthy = || vec![ok(QUEUE_PROXY_TEXT.as_bytes())];
    let hangs = || vec![Step::Hang];
    let half_a_head = Step::Send(b"HTTP/1.1 200 OK\r\ncontent-type: text/pl".to_vec());
    let drips = Step::Drip(chunk_bytes(b"endless 1\n"));
    let inside = || vec![chunked_head(), chunk(b"first 1\nsec"), Step::Hang];
    let mut scrapes = JoinSet::new();
    for (queue_proxy, app, status) in [
        (healthy(), hangs(), 200),
        (healthy(), vec![half_a_head, Step::Hang], 200),
        (healthy(), inside(), 200),
        (healthy(), vec![chunked_head(), drips], 200),
        (inside(), healthy(), 200),
        (hangs(), healthy(), 200),
        (hangs(), hangs(), 503),
    ] {
        scrapes.spawn(async move {
            let (queue_proxy, app) = (Stub::start(queue_proxy).await, Stub::start(app).await);
            let offset = [("QPEXT_SCRAPE_TIMEOUT_OFFSET", "2s")];
            let sidecar = Sidecar::for_pod(&queue_proxy, &app, &offset).await;
            assert_eq!(sidecar.scrape(8.0).await.status, status);
        });
    }
    while let Some(scraped) = scrapes.join_next().await {
        scraped.unwrap();
    }
}

#[tokio::test]
async fn the_configured_timeout_holds_where_the_scraper_sends_none_that_means_anything() {
    let app = Stub::start(vec![Step::Hang]).await;
    let port = app.port().to_string();
    let variables = [
        ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", port.as_str()),
        ("QPEXT_QUEUE_PROXY_METRICS_PORT", ""),
        ("QPEXT_SCRAPE_TIMEOUT", "200ms"),
    ];
    let sidecar = Sidecar::start(&variables).await;
    let client = crate::support::sidecar::client();
    for header in [None, Some(""), Some("0"), Some("-1"), Some("NaN"), Some("+Inf"), Some("soon")] {
        let mut request = client.get(sidecar.url("/metrics"));
        if let Some(header) = header {
            request = request.header("x-prometheus-scrape-timeout-seconds", header);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 503, "{header:?}");
        assert!(response.text().await.unwrap().contains("within 0.150 s"), "{header:?}");
    }
}

#[tokio::test]
async fn targets_are_asked_at_once_with_the_scrapers_name_and_the_budget_that_is_left() {
    let (go_queue_proxy, go_app) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let waits = |go: &Arc<Semaphore>, text: &str| vec![Step::Await(Arc::clone(go)), ok(text.as_bytes())];
    let mut queue_proxy = Stub::start(waits(&go_queue_proxy, QUEUE_PROXY_TEXT)).await;
    let mut app = Stub::start(waits(&go_app, APP_TEXT)).await;
    let sidecar = Sidecar::for_pod(
        &queue_proxy,
        &app,
        &[
            ("HTTP_PROXY", "http://127.0.0.1:1"),
            ("http_proxy", "http://127.0.0.1:1"),
            ("ALL_PROXY", "http://127.0.0.1:1"),
        ],
    )
    .await;
    let scraped = tokio::spawn({
        let url = sidecar.url("/metrics");
        async move { crate::support::sidecar::scrape(&url, 30.0).await }
    });
    // Neither has answered when both have been asked.
    for stub in [&mut queue_proxy, &mut app] {
        let head = stub.request().await.to_ascii_lowercase();
        assert!(head.starts_with("get /metrics http/1.1\r\n"), "{head}");
        assert!(head.contains("accept: text/plain;version=0.0.4,*/*;q=0.1\r\n"), "{head}");
        assert!(head.contains("accept-encoding: identity\r\n"), "{head}");
        assert!(head.contains("user-agent: prometheus/2.42.0\r\n"), "{head}");
        let (_, timeout) = head.split_once("x-prometheus-scrape-timeout-seconds: ").unwrap();
        let timeout: f64 = timeout.split_once("\r\n").unwrap().0.parse().unwrap();
        assert!((20.0..=29.5).contains(&timeout), "{timeout} is what is left of 30 s less 500 ms");
    }
    go_queue_proxy.add_permits(1);
    go_app.add_permits(1);
    assert_eq!(scraped.await.unwrap().unwrap().status, 200);
}

#[tokio::test]
async fn connections_are_kept_and_a_kept_one_that_is_dead_loses_no_scrape() {
    // Answers once, keeps the connection, and closes it when the next request comes: what a server does whose patience
    // ends in the moment in which it is asked again.
    let requests = std::sync::atomic::AtomicUsize::new(0);
    let mut app = Stub::route(move |_| match requests.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        1 => vec![Step::Close],
        _ => vec![ok(APP_TEXT.as_bytes())],
    })
    .await;
    let queue_proxy = Stub::text(QUEUE_PROXY_TEXT).await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    for _ in 0..3 {
        let exposition = sidecar.scrape(LONG).await.read();
        assert_eq!(value(&exposition, "app_requests_total"), Some("3"));
    }
    let events = app.past_events();
    let connections = events.iter().filter(|event| **event == Event::Connected).count();
    let requests = events.iter().filter(|event| matches!(event, Event::Request(_))).count();
    assert_eq!((connections, requests), (2, 4), "{events:?}");
}

#[tokio::test]
async fn a_redirect_is_followed_within_the_target_only() {
    let elsewhere = Stub::text("stolen 1\n").await;
    let queue_proxy = Stub::text(QUEUE_PROXY_TEXT).await;
    let other_port = format!("location: http://localhost:{}/metrics\r\n", elsewhere.port());
    let redirect = |location: &str| vec![answer("307 Temporary Redirect", location, b"")];
    let app = Stub::route(move |head| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        match path {
            "/metrics" => redirect("location: /metrics/\r\n"),
            "/three" => redirect("location: /two\r\n"),
            "/two" => redirect("location: /metrics\r\n"),
            "/four" => redirect("location: /three\r\n"),
            "/other-port" => redirect(&other_port),
            "/other-host" => redirect("location: http://127.0.0.1/metrics\r\n"),
            "/nowhere" => vec![answer("302 Found", "", b"")],
            "/metrics/" => vec![ok(APP_TEXT.as_bytes())],
            _ => vec![answer("404 Not Found", "", b"")],
        }
    })
    .await;
    for (path, failure) in [
        ("/metrics", None),
        ("/three", None),
        ("/four", Some("more than 3 redirects")),
        ("/other-port", Some("another server")),
        ("/other-host", Some("another server")),
        ("/nowhere", Some("answered 302 Found")),
    ] {
        let variables = [("KSERVE_CONTAINER_PROMETHEUS_METRICS_PATH", path)];
        let mut sidecar = Sidecar::for_pod(&queue_proxy, &app, &variables).await;
        let exposition = sidecar.scrape(LONG).await.read();
        assert_eq!(value(&exposition, "stolen"), None);
        match failure {
            None => assert_eq!(value(&exposition, "app_requests_total"), Some("3"), "{path}"),
            Some(failure) => {
                let log = sidecar.logged("target failed").await;
                assert!(log.contains(failure), "{path}: {log}");
            }
        }
    }
}

#[tokio::test]
async fn localhost_is_ipv4_or_ipv6_whichever_answers() {
    let queue_proxy = Stub::text(QUEUE_PROXY_TEXT).await;
    let app = Stub::route_at(Ipv6Addr::LOCALHOST.into(), |_| vec![ok(APP_TEXT.as_bytes())]).await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    let exposition = sidecar.scrape(LONG).await.read();
    assert_eq!(value(&exposition, "app_requests_total"), Some("3"), "the application listens on ::1 alone");
    assert_eq!(value(&exposition, "kn_requests_total"), Some("7"), "the queue-proxy listens on 127.0.0.1 alone");
}

#[tokio::test]
async fn content_types_of_an_exposition_are_read() {
    let queue_proxy = Stub::text(QUEUE_PROXY_TEXT).await;
    for content_type in
        ["", "content-type: text/plain\r\n", "content-type: Text/Plain;charset=utf-8\r\n", "content-type:\r\n"]
    {
        let app = Stub::start(vec![answer("200 OK", content_type, APP_TEXT.as_bytes())]).await;
        let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
        let exposition = sidecar.scrape(LONG).await.read();
        assert_eq!(value(&exposition, "app_requests_total"), Some("3"), "{content_type:?}");
    }
}

#[tokio::test]
async fn the_answer_begins_before_the_targets_have_ended() {
    let go = Arc::new(Semaphore::new(0));
    let queue_proxy = Stub::start(in_two_parts(b"kn_first 1\n", &go, b"kn_second 2\n")).await;
    let app = Stub::text(APP_TEXT).await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    let mut response = crate::support::sidecar::client().get(sidecar.url("/metrics")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.chunk().await.unwrap().unwrap(), "kn_first 1\n");
    go.add_permits(1);
    let mut rest = Vec::new();
    while let Some(chunk) = response.chunk().await.unwrap() {
        rest.extend_from_slice(&chunk);
    }
    assert!(rest.starts_with(b"kn_second 2\n# TYPE app_requests_total"));
}

#[tokio::test]
async fn the_environment_reaches_the_engine() {
    let app = Stub::text("a_total 1\nb 2\n").await;
    let port = app.port().to_string();
    for (untyped, expected) in [
        ("convert", "# TYPE a_total gauge\na_total{@} 1\nb{@} 2\n"),
        ("drop", "# TYPE a_total gauge\na_total{@} 1\n"),
        ("keep", "a_total{@} 1\nb{@} 2\n"),
    ] {
        let variables = [
            ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", port.as_str()),
            ("QPEXT_QUEUE_PROXY_METRICS_PORT", ""),
            ("QPEXT_UNTYPED", untyped),
            ("K_SERVICE", "from-knative"),
            ("SERVING_REVISION", "r-\"1\""),
        ];
        let sidecar = Sidecar::start(&variables).await;
        let labels = r#"service_name="from-knative",revision_name="r-\"1\"""#;
        assert_eq!(sidecar.scrape(LONG).await.text, expected.replace('@', labels), "{untyped}");
    }
}
