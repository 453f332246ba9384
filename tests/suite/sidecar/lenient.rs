//! What servers get wrong, and Go's client takes: it costs no sample here either. And what is no exposition at all, whatever its
//! head says.

use crate::support::reader::Exposition;
use crate::support::sidecar::Sidecar;
use crate::support::stub::{Step, Stub, answer, ok};

const QUEUE_PROXY_TEXT: &str = "# TYPE kn_requests_total counter\nkn_requests_total 7\n";

/// Seconds that a scraper gives where nothing hangs: long, because these tests never wait it out.
const LONG: f64 = 60.0;

/// Scrapes a pod whose application does `steps` beside a healthy queue-proxy, which must not suffer.
async fn scrape_beside_queue_proxy(steps: Vec<Step>) -> (Sidecar, Exposition) {
    let queue_proxy = Stub::text(QUEUE_PROXY_TEXT).await;
    let app = Stub::start(steps).await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[("QPEXT_SELF_METRICS", "true")]).await;
    let answer = sidecar.scrape(LONG).await;
    let exposition = answer.read();
    assert_eq!(value(&exposition, "kn_requests_total", ""), Some("7"), "{}", answer.text);
    (sidecar, exposition)
}

/// The value of a sample, of which a label may have to have this value.
fn value<'a>(exposition: &'a Exposition, name: &str, label: &str) -> Option<&'a str> {
    let is_it = |labels: &[(String, String)]| label.is_empty() || labels.iter().any(|(_, value)| value == label);
    let sample = exposition.samples.iter().find(|sample| sample.name == name && is_it(&sample.labels))?;
    Some(&sample.value)
}

fn raw(head: &str, body: &str) -> Vec<Step> {
    vec![Step::Send(format!("{head}\r\n{body}").into_bytes()), Step::Close]
}

/// Heads that are not what a standard says, before a body of six bytes.
#[tokio::test]
async fn a_head_that_go_reads_costs_nothing() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n";
    let many: String = (0..120).map(|number| format!("x-header-{number}: {number}\r\n")).collect();
    let thousands: String = (0..4000).map(|number| format!("x-{number}: {number}\r\n")).collect();
    let large = format!("x-large: {}\r\n", "a".repeat(200 << 10));
    for (what, headers) in [
        ("a blank before the colon", "content-length : 6\r\n"),
        ("a junk line", "this is no header\r\ncontent-length: 6\r\n"),
        ("a name that may not be one", "x(y): 1\r\ncontent-length: 6\r\n"),
        ("a folded line", "x-folded: one,\r\n two\r\ncontent-length: 6\r\n"),
        ("120 headers", &format!("{many}content-length: 6\r\n")),
        ("4000 headers", &format!("{thousands}content-length: 6\r\n")),
        ("200 KB in one header", &format!("{large}content-length: 6\r\n")),
        ("a header of no UTF-8", "x-name: \u{e9}\r\ncontent-length: 6\r\n"),
    ] {
        let (_, exposition) = scrape_beside_queue_proxy(raw(&format!("{ok}{headers}"), "app 1\n")).await;
        assert_eq!(value(&exposition, "app", ""), Some("1"), "{what}");
    }
}

#[tokio::test]
async fn informational_answers_are_passed_over_up_to_a_bound() {
    let small = "HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n".to_owned();
    let large = format!("HTTP/1.1 103 Early Hints\r\nlink: {}\r\n\r\n", "a".repeat(200 << 10));
    let answer = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 6\r\n";
    for (one, count, is_read) in [
        (&small, 1, true),
        (&small, 64, true),
        (&small, 65, false),
        (&small, 10_000, false),
        (&large, 8, true),
        (&large, 20, false),
    ] {
        let head = one.repeat(count) + answer;
        let (mut sidecar, exposition) = scrape_beside_queue_proxy(raw(&head, "app 1\n")).await;
        assert_eq!(value(&exposition, "app", "").is_some(), is_read, "{count}");
        if !is_read {
            let log = sidecar.logged("target failed").await;
            assert!(log.contains("sent informational answers, and no other among 64 of them"), "{log}");
        }
    }
}

#[tokio::test]
async fn a_head_without_end_is_told_as_one() {
    let large = format!("x-large: {}\r\n", "a".repeat(300 << 10));
    let many: String = (0..5000).map(|number| format!("x-{number}: {number}\r\n")).collect();
    for headers in [large, many] {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 6\r\n{headers}");
        let (mut sidecar, exposition) = scrape_beside_queue_proxy(raw(&head, "app 1\n")).await;
        assert_eq!(value(&exposition, "qpext_target_up", "app"), Some("0"));
        let log = sidecar.logged("target failed").await;
        assert!(log.contains("more than 262144 bytes or 4096 lines of headers"), "{log}");
    }
}

#[tokio::test]
async fn a_server_that_wants_title_case_gets_it() {
    let app = Stub::route(|head| {
        let wants = ["\r\nHost: localhost:", "\r\nAccept: ", "\r\nUser-Agent: "];
        let is_served = wants.iter().all(|header| head.contains(header));
        vec![if is_served { ok(b"app 1\n") } else { answer("400 Bad Request", "", b"") }]
    });
    let app = app.await;
    let sidecar = Sidecar::for_pod(&Stub::text(QUEUE_PROXY_TEXT).await, &app, &[]).await;
    assert_eq!(value(&sidecar.scrape(LONG).await.read(), "app", ""), Some("1"));
}

#[tokio::test]
async fn a_body_under_an_odd_type_is_read_by_its_first_line_and_the_type_is_told() {
    for content_type in [
        "content-type: text/html; charset=utf-8\r\n",
        "content-type: application/json\r\n",
        "content-type: application/vnd.spring-boot.actuator.v3+json\r\n",
        "content-type: application/octet-stream\r\n",
        "content-type: text/html, text/plain\r\n",
        "content-type: application/json\r\ncontent-type: text/plain\r\n",
        "content-type:\r\n",
        "",
    ] {
        for body in ["app 1\n", "\n\n# HELP app Odd.\napp 1\n", "# a comment\r\napp 1\r\n", "app{a=\"b\"} 1"] {
            let (mut sidecar, exposition) =
                scrape_beside_queue_proxy(vec![answer("200 OK", content_type, body.as_bytes())]).await;
            assert_eq!(value(&exposition, "app", ""), Some("1"), "{content_type} {body}");
            assert_eq!(value(&exposition, "qpext_target_up", "app"), Some("1"));
            let log = sidecar.logged("which is read as").await;
            assert!(log.contains("\"target\":\"app\"") && log.contains("content type"), "{log}");
        }
    }
}

#[tokio::test]
async fn open_metrics_of_another_version_is_told_as_such() {
    let head = "content-type: application/openmetrics-text; version=2.0.0; charset=utf-8\r\n";
    let (mut sidecar, exposition) = scrape_beside_queue_proxy(vec![answer("200 OK", head, b"app 1\n# EOF\n")]).await;
    assert_eq!(value(&exposition, "app", ""), Some("1"));
    let log = sidecar.logged("which is read as").await;
    assert!(log.contains("version=2.0.0") && log.contains("OpenMetrics 1.0.0"), "{log}");
}

#[tokio::test]
async fn a_body_with_no_line_that_can_be_read_means_that_the_target_is_not_up() {
    let utf_16: Vec<u8> = "# TYPE app gauge\napp 1\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff\x4a\x2c\x28\x50\x30\xe4\x02\x00\x00\x00\xff\xff\x01";
    let text = "content-type: text/plain; version=0.0.4\r\n";
    let open_metrics = "content-type: application/openmetrics-text; version=1.0.0\r\n";
    for (content_type, body, reason) in [
        (text, &b"{\"status\": \"ok\",\n \"requests\": 1}\n"[..], "unreadable"),
        (text, b"<html>\n<body>Not ready</body>\n</html>", "unreadable"),
        (text, b"Internal Server Error", "unreadable"),
        (text, gzip, "unreadable"),
        (text, &utf_16, "unreadable"),
        (open_metrics, b"{\"status\": \"ok\"}\n", "unreadable"),
        ("content-type: text/html\r\n", b"<html>\n", "content_type"),
        ("content-type: application/json\r\n", b"{\"a\": 1}", "content_type"),
        ("", b"Not ready.", "content_type"),
    ] {
        let (mut sidecar, exposition) = scrape_beside_queue_proxy(vec![answer("200 OK", content_type, body)]).await;
        assert_eq!(value(&exposition, "qpext_target_up", "app"), Some("0"), "{reason}");
        assert_eq!(value(&exposition, "qpext_scrape_failures_total", reason), Some("1"));
        let log = sidecar.logged("target failed").await;
        assert!(log.contains("expected an exposition"), "{log}");

        // With nothing else alive, there is nothing to answer with.
        let app = Stub::start(vec![answer("200 OK", content_type, body)]).await;
        let sidecar = Sidecar::for_pod(&Stub::absent(), &app, &[]).await;
        let alone = sidecar.scrape(LONG).await;
        assert_eq!(alone.status, 503);
        assert!(alone.text.contains("expected an exposition"), "{}", alone.text);
    }
}

#[tokio::test]
async fn a_body_with_nothing_to_read_is_up() {
    for body in ["", "\n", "# no metrics yet\n"] {
        for content_type in ["content-type: text/plain\r\n", "content-type: text/html\r\n", ""] {
            let (_, exposition) =
                scrape_beside_queue_proxy(vec![answer("200 OK", content_type, body.as_bytes())]).await;
            assert_eq!(value(&exposition, "qpext_target_up", "app"), Some("1"), "{content_type} {body}");
        }
    }
}

#[tokio::test]
async fn a_last_line_that_may_be_a_piece_of_one_is_left_out_and_told() {
    let head = "HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n";
    let (mut sidecar, exposition) = scrape_beside_queue_proxy(raw(head, "first 1\nsecond 2")).await;
    assert_eq!(value(&exposition, "first", ""), Some("1"));
    assert_eq!(value(&exposition, "second", ""), None);
    assert_eq!(value(&exposition, "qpext_target_up", "app"), Some("1"));
    assert_eq!(value(&exposition, "qpext_dropped_lines_total", "cut_off"), Some("1"));
    let log = sidecar.logged("lines dropped").await;
    assert!(log.contains("\"line\":2") && log.contains("second 2") && log.contains("cut_off"), "{log}");
}

#[tokio::test]
async fn a_redirect_to_another_name_of_the_pod_itself_is_followed() {
    for host in ["127.0.0.1", "LOCALHOST", "127.0.0.2", "[::1]"] {
        // Whatever it is called, it is reached: nothing else listens at this port.
        let app = Stub::route(move |head| {
            let port =
                head.split_once("Host: localhost:").map(|(_, rest)| rest.split("\r\n").next().unwrap_or_default());
            let is_first = head.starts_with("GET /metrics ") && port.is_some();
            let to = format!("location: http://{host}:{}/real\r\n", port.unwrap_or_default());
            vec![if is_first { answer("301 Moved Permanently", &to, b"") } else { ok(b"app 1\n") }]
        });
        let (queue_proxy, app) = (Stub::text(QUEUE_PROXY_TEXT).await, app.await);
        let mut sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
        let exposition = sidecar.scrape(LONG).await.read();
        if host == "[::1]" || host == "127.0.0.2" {
            // It listens at one address only; that it was looked for at the other is what is to be seen.
            assert!(sidecar.logged("target failed").await.contains("cannot be reached"));
        } else {
            assert_eq!(value(&exposition, "app", ""), Some("1"), "{host}");
        }
    }
}
