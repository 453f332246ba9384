//! What clients do, and what it costs: their own answer, never anybody else's.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::Semaphore;

use crate::support::bodies;
use crate::support::sidecar::{PROGRAM, Sidecar, client, scrape};
use crate::support::stub::{Event, Step, Stub, chunk, chunked_head, in_two_parts, last_chunk, ok};

const QUEUE_PROXY_TEXT: &str = "# TYPE kn_requests_total counter\nkn_requests_total 7\n";
const APP_TEXT: &str = "# TYPE app_requests_total counter\napp_requests_total 3\n";
const LONG: f64 = 60.0;

/// A sidecar with one target, the application.
async fn sidecar_for(app: &Stub, variables: &[(&str, &str)]) -> Sidecar {
    let port = app.port().to_string();
    let mut all =
        vec![("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", port.as_str()), ("QPEXT_QUEUE_PROXY_METRICS_PORT", "")];
    all.extend_from_slice(variables);
    Sidecar::start(&all).await
}

async fn connect(sidecar: &Sidecar) -> TcpStream {
    TcpStream::connect(("127.0.0.1", sidecar.port)).await.expect("it accepts")
}

/// A client that asks, with these headers, and does not read: its window is small, so that the answer backs up behind it.
pub async fn ask_and_do_not_read(sidecar: &Sidecar, headers: &str) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let address = format!("127.0.0.1:{}", sidecar.port).parse().expect("an address");
    let mut stream = socket.connect(address).await.expect("it accepts");
    stream.write_all(format!("GET /metrics HTTP/1.1\r\nhost: x\r\n{headers}\r\n").as_bytes()).await.expect("it reads");
    stream
}

#[tokio::test]
async fn other_paths_are_404_and_other_methods_405() {
    let app = Stub::text(APP_TEXT).await;
    let sidecar = sidecar_for(&app, &[]).await;
    let client = client();
    for path in ["/index.html", "/metric", "/metrics/", "/metrics/x", "/debug/pprof"] {
        assert_eq!(client.get(sidecar.url(path)).send().await.unwrap().status(), 404, "{path}");
    }
    for path in ["/metrics", "/healthz"] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "NONSENSE"] {
            let method = method.parse().unwrap();
            let response = client.request(method, sidecar.url(path)).body("body").send().await.unwrap();
            assert_eq!(response.status(), 405);
            assert_eq!(response.headers()["allow"], "GET, HEAD");
        }
    }
    let with_query = client.get(sidecar.url("/metrics?collect=all")).send().await.unwrap();
    assert_eq!(with_query.status(), 200);
}

#[tokio::test]
async fn healthz_is_200_whatever_the_targets_do() {
    let app = Stub::start(vec![Step::Hang]).await;
    let sidecar = sidecar_for(&app, &[]).await;
    let response = client().get(sidecar.url("/healthz")).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.text().await.unwrap().as_str()), (200, "ok\n"));
    assert_eq!(client().head(sidecar.url("/healthz")).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn head_gives_the_status_and_the_headers_of_get() {
    let mut app = Stub::text(APP_TEXT).await;
    let sidecar = sidecar_for(&app, &[]).await;
    let response = client().head(sidecar.url("/metrics")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(response.text().await.unwrap(), "");
    app.request().await;
    app.stop().await;
    assert_eq!(client().head(sidecar.url("/metrics")).send().await.unwrap().status(), 503);
}

#[tokio::test]
async fn one_connection_serves_many_scrapes() {
    let app = Stub::text(APP_TEXT).await;
    let sidecar = sidecar_for(&app, &[]).await;
    let mut stream = connect(&sidecar).await;
    for _ in 0..3 {
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n0\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    }
}

#[tokio::test]
async fn a_scraper_of_http_1_0_gets_its_answer() {
    let app = Stub::text(APP_TEXT).await;
    let sidecar = sidecar_for(&app, &[]).await;
    let mut stream = connect(&sidecar).await;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with(&format!("\r\n\r\n{APP_TEXT}")), "{answer}");
}

#[tokio::test]
async fn a_scraper_that_leaves_before_the_answer_cancels_its_scrapes() {
    let mut app = Stub::start(vec![Step::Hang]).await;
    let mut queue_proxy = Stub::start(vec![Step::Hang]).await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    // Whether or not it sends something behind its request.
    for (behind, later) in [("", ""), ("\r\n", ""), ("GET /metrics HT", "TP"), ("", "G")] {
        let mut stream = connect(&sidecar).await;
        let head = "GET /metrics HTTP/1.1\r\nhost: x\r\nx-prometheus-scrape-timeout-seconds: 3000\r\n\r\n";
        stream.write_all(format!("{head}{behind}").as_bytes()).await.unwrap();
        app.request().await;
        queue_proxy.request().await;
        stream.write_all(later.as_bytes()).await.unwrap();
        drop(stream);
        app.gone().await;
        queue_proxy.gone().await;
    }
}

/// Sends several requests at once, and reads their answers until the connection ends as it should.
pub async fn are_answered_in_turn(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let paths = ["/metrics", "/healthz", "/nothing", "/metrics"];
    let mut requests: String = paths.map(|path| format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).concat();
    requests.push_str("GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(requests.as_bytes()).await.unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    let statuses: Vec<_> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "200", "404", "200", "200"]);
}

#[tokio::test]
async fn requests_that_are_sent_at_once_are_answered_in_turn() {
    let app = Stub::text(APP_TEXT).await;
    let sidecar = sidecar_for(&app, &[]).await;
    are_answered_in_turn(connect(&sidecar).await).await;
}

#[tokio::test]
async fn a_request_with_a_body_is_refused() {
    let app = Stub::text(APP_TEXT).await;
    let sidecar = sidecar_for(&app, &[]).await;
    let answer = client().get(sidecar.url("/metrics")).body("x").send().await.unwrap();
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.text().await.unwrap(), "expected a request without a body\n");
}

#[tokio::test]
async fn a_scraper_that_leaves_inside_the_answer_cancels_its_scrapes() {
    let mut app = Stub::start(vec![chunked_head(), chunk(b"a 1\n"), Step::Hang]).await;
    let sidecar = sidecar_for(&app, &[]).await;
    let mut response = client()
        .get(sidecar.url("/metrics"))
        .header("x-prometheus-scrape-timeout-seconds", "3000")
        .send()
        .await
        .unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "a 1\n");
    drop(response);
    app.gone().await;
}

#[tokio::test]
async fn a_scraper_that_does_not_read_holds_its_targets_back() {
    let mut app = Stub::start(vec![chunked_head(), chunk(&bodies::vllm(64 << 20)), last_chunk()]).await;
    let sidecar = sidecar_for(&app, &[]).await;
    let stream = ask_and_do_not_read(&sidecar, "").await;
    app.request().await;
    // Each of these takes the sidecar's one thread around once: enough turns to have read the body many times over.
    let client = client();
    for _ in 0..1000 {
        assert_eq!(client.get(sidecar.url("/healthz")).send().await.unwrap().status(), 200);
    }
    assert_eq!(app.past_events(), [], "the application still waits to be read");
    drop(stream);
    app.gone().await;
}

#[tokio::test]
async fn one_scrape_too_many_is_503_and_asked_to_come_again() {
    let go = Arc::new(Semaphore::new(0));
    let mut app = Stub::start(vec![Step::Await(Arc::clone(&go)), ok(APP_TEXT.as_bytes())]).await;
    let sidecar = sidecar_for(&app, &[("QPEXT_MAX_CONCURRENT_SCRAPES", "2")]).await;
    let url = sidecar.url("/metrics");
    let running = [(); 2].map(|()| {
        let url = url.clone();
        tokio::spawn(async move { scrape(&url, LONG).await })
    });
    app.request().await;
    app.request().await;
    let turned_away = sidecar.scrape(LONG).await;
    assert_eq!(turned_away.status, 503);
    assert_eq!(turned_away.headers["retry-after"], "1");
    assert!(turned_away.text.contains("QPEXT_MAX_CONCURRENT_SCRAPES"));
    assert_eq!(scrape(&sidecar.url("/healthz"), LONG).await.unwrap().status, 200, "it costs no scrape");
    go.add_permits(3);
    for running in running {
        assert_eq!(running.await.unwrap().unwrap().status, 200);
    }
    assert_eq!(sidecar.scrape(LONG).await.status, 200, "the places are free again");
}

#[tokio::test]
async fn the_default_is_eight_scrapes_at_once() {
    let mut app = Stub::start(vec![Step::Hang]).await;
    let sidecar = sidecar_for(&app, &[]).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut stream = connect(&sidecar).await;
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nx-prometheus-scrape-timeout-seconds: 3000\r\n\r\n")
            .await
            .unwrap();
        clients.push(stream);
        app.request().await;
    }
    assert_eq!(sidecar.scrape(LONG).await.status, 503);
    clients.pop();
    app.gone().await;
    let mut ninth = connect(&sidecar).await;
    ninth.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    app.request().await;
}

#[tokio::test]
async fn clients_that_ask_and_do_not_read_keep_nobody_out() {
    let app = Stub::text(bodies::vllm(8 << 20)).await;
    let sidecar = sidecar_for(&app, &[]).await;
    let mut slow = Vec::new();
    for _ in 0..16 {
        slow.push(ask_and_do_not_read(&sidecar, "").await);
    }
    // A scraper that does as it is told: comes again after `Retry-After`.
    let mut answer = sidecar.scrape(LONG).await;
    while answer.status == 503 {
        let seconds = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        answer = sidecar.scrape(LONG).await;
    }
    assert!(answer.text.ends_with('\n') && answer.text.len() > 8 << 20, "it is served whole");
}

#[tokio::test]
async fn two_hundred_connections_that_send_nothing_keep_nobody_out() {
    let queue_proxy = Stub::text(QUEUE_PROXY_TEXT).await;
    let app = Stub::text(APP_TEXT).await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(connect(&sidecar).await);
    }
    for _ in 0..20 {
        assert_eq!(sidecar.scrape(LONG).await.status, 200);
    }
    // And each of them is put out after its ten seconds.
    for mut stream in silent {
        let mut nothing = Vec::new();
        let _ = stream.read_to_end(&mut nothing).await;
        assert!(nothing.is_empty());
    }
    assert_eq!(sidecar.scrape(LONG).await.status, 200);
}

#[tokio::test]
async fn more_connections_than_there_is_room_for_keep_nobody_out() {
    let app = Stub::text(APP_TEXT).await;
    let sidecar = sidecar_for(&app, &[]).await;
    let mut quiet = Vec::new();
    for _ in 0..600 {
        quiet.push(connect(&sidecar).await);
        if quiet.len() % 50 == 0 {
            assert_eq!(sidecar.scrape(LONG).await.status, 200, "beside {} connections", quiet.len());
        }
    }
    // The first had to leave long before its ten seconds were over.
    let mut nothing = Vec::new();
    let _ = quiet[0].read_to_end(&mut nothing).await;
    let open = std::fs::read_dir(format!("/proc/{}/fd", sidecar.id())).unwrap().count();
    assert!(open < 300, "{open} file descriptors");
}

#[tokio::test]
async fn with_few_descriptors_scrapers_are_answered_beside_idle_clients() {
    let (queue_proxy, app) = (Stub::text("q 1\n").await, Stub::text(APP_TEXT).await);
    let ports = [queue_proxy.port().to_string(), app.port().to_string()];
    let mut command = Command::new("prlimit");
    command.args(["--nofile=256:256", PROGRAM]).env_clear().envs([
        ("PATH", std::env::var("PATH").expect("there is one").as_str()),
        ("AGGREGATE_PROMETHEUS_METRICS_PORT", "0"),
        ("QPEXT_QUEUE_PROXY_METRICS_PORT", &ports[0]),
        ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", &ports[1]),
    ]);
    command.stderr(Stdio::piped()).kill_on_drop(true);
    let sidecar = Sidecar::spawn(command).await;
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(connect(&sidecar).await);
    }
    for _ in 0..20 {
        let answer = sidecar.scrape(LONG).await;
        assert!(answer.text.contains("q 1\n") && answer.text.contains("app_requests_total"), "{}", answer.text);
    }
}

#[tokio::test]
async fn bodies_of_requests_wedge_no_connection() {
    let app = Stub::text(APP_TEXT).await;
    let sidecar = sidecar_for(&app, &[]).await;
    let next = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let chunked = "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for body in [
        "content-length: 5\r\n\r\nhello".to_owned(),
        format!("content-length: 3000000\r\n\r\n{}", "x".repeat(3_000_000)),
        chunked.to_owned(),
        format!("transfer-encoding: chunked\r\n\r\n{}0\r\n\r\n", "1\r\nx\r\n".repeat(100_000)),
        "transfer-encoding: chunked\r\n\r\nnone\r\n".to_owned(),
        "content-length: 500\r\n\r\nhello".to_owned(),
    ] {
        for head in ["GET /metrics", "GET /healthz", "POST /metrics"] {
            let mut stream = connect(&sidecar).await;
            let request = format!("{head} HTTP/1.1\r\nhost: x\r\n{body}{next}");
            // It may be hung up on before it has sent all of it.
            let _ = stream.write_all(request.as_bytes()).await;
            let mut answer = [0; 12];
            if stream.read_exact(&mut answer).await.is_ok() {
                assert!(answer.starts_with(b"HTTP/1.1 40"), "{head}: {}", String::from_utf8_lossy(&answer));
            }
        }
    }
    assert_eq!(sidecar.scrape(LONG).await.status, 200);
}

#[tokio::test]
async fn a_client_that_sends_half_a_head_is_put_out() {
    let app = Stub::text(APP_TEXT).await;
    let sidecar = sidecar_for(&app, &[]).await;
    // A new connection, and one that has had an answer.
    let mut fresh = connect(&sidecar).await;
    fresh.write_all(b"GET /metrics HT").await.unwrap();
    let mut kept = connect(&sidecar).await;
    kept.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"ok\n") {
        answer.push(kept.read_u8().await.unwrap());
    }
    kept.write_all(b"GET /met").await.unwrap();
    for mut stream in [fresh, kept] {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    }
    assert_eq!(sidecar.scrape(LONG).await.status, 200);
}

#[tokio::test]
async fn a_head_that_is_too_large_or_no_http_is_refused() {
    let app = Stub::text(APP_TEXT).await;
    let sidecar = sidecar_for(&app, &[]).await;
    let large = format!("GET /metrics HTTP/1.1\r\nhost: x\r\nx-large: {}\r\n\r\n", "x".repeat(64 << 10));
    for (bytes, status) in
        [(large.as_bytes(), "HTTP/1.1 431"), (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", "HTTP/1.1 400")]
    {
        let mut stream = connect(&sidecar).await;
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with(status), "{answer}");
    }
    assert_eq!(sidecar.scrape(LONG).await.status, 200);
}

#[tokio::test]
async fn sigterm_and_sigint_inside_a_scrape_let_it_finish() {
    for signal in ["TERM", "INT"] {
        let go = Arc::new(Semaphore::new(0));
        let mut app = Stub::start(in_two_parts(b"before 1\n", &go, b"after 2\n")).await;
        let mut sidecar = sidecar_for(&app, &[]).await;
        let silent = connect(&sidecar).await;
        let mut response = client().get(sidecar.url("/metrics")).send().await.unwrap();
        app.request().await;
        assert_eq!(response.chunk().await.unwrap().unwrap(), "before 1\n");
        sidecar.signal(signal).await;
        sidecar.logged("stopping").await;
        go.add_permits(1);
        let mut rest = Vec::new();
        while let Some(chunk) = response.chunk().await.unwrap() {
            rest.extend_from_slice(&chunk);
        }
        assert_eq!(rest, b"after 2\n", "SIG{signal}");
        assert_eq!(sidecar.ended().await.code(), Some(0), "SIG{signal}");
        assert!(TcpStream::connect(("127.0.0.1", sidecar.port)).await.is_err());
        drop(silent);
    }
}

#[tokio::test]
async fn sigterm_ends_a_sidecar_whose_clients_are_idle_at_once() {
    let app = Stub::text(APP_TEXT).await;
    let mut sidecar = sidecar_for(&app, &[]).await;
    let silent = connect(&sidecar).await;
    let client = client();
    let response = client.get(sidecar.url("/metrics")).send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), APP_TEXT);
    sidecar.signal("TERM").await;
    assert_eq!(sidecar.ended().await.code(), Some(0));
    assert!(sidecar.rest_of_log().await.contains("stopped"));
    drop((silent, client));
}

#[tokio::test]
async fn a_stub_that_is_asked_by_nobody_stays_alone() {
    // The scrape is the scraper's to start: the sidecar does nothing by itself.
    let mut app = Stub::text(APP_TEXT).await;
    let sidecar = sidecar_for(&app, &[]).await;
    assert_eq!(scrape(&sidecar.url("/healthz"), LONG).await.unwrap().status, 200);
    assert_eq!(app.past_events(), Vec::<Event>::new());
}

#[tokio::test]
async fn a_second_signal_ends_a_sidecar_whose_scrape_hangs() {
    let mut app = Stub::start(vec![Step::Hang]).await;
    let mut sidecar = sidecar_for(&app, &[]).await;
    let mut stream = connect(&sidecar).await;
    let head = b"GET /metrics HTTP/1.1\r\nhost: x\r\nx-prometheus-scrape-timeout-seconds: 3000\r\n\r\n";
    stream.write_all(head).await.unwrap();
    app.request().await;
    sidecar.signal("TERM").await;
    sidecar.logged("stopping").await;
    sidecar.signal("TERM").await;
    assert_eq!(sidecar.ended().await.code(), Some(0));
}
