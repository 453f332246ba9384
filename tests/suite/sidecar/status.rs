//! What the sidecar says of itself to people, programs and probes.

use std::process::Stdio;

use reqwest::header::CONTENT_TYPE;
use serde_json::Value;
use tokio::process::Command;

use crate::support::POLL;
use crate::support::sidecar::{Answer, Sidecar, scrape};
use crate::support::stub::{Step, Stub, answer, ok};

const LONG: f64 = 60.0;

/// What a hostile target says wherever it can.
const MARKUP: &str = "<script>document.title='taken'</script><img src=x onerror=document.title='taken'>";

async fn get(sidecar: &Sidecar, path: &str) -> Answer {
    scrape(&sidecar.url(path), LONG).await.expect("an answer")
}

/// A pod whose targets put markup into everything that is shown of them.
async fn hostile_pod() -> (Sidecar, [Stub; 2]) {
    let queue_proxy = Stub::text(format!("# TYPE kn_requests gauge\nkn_requests 1\n{MARKUP}\n")).await;
    let html = answer("200 OK", &format!("content-type: {MARKUP}\r\n"), MARKUP.as_bytes());
    let app = Stub::start(vec![html]).await;
    let variables = [
        ("QPEXT_LABEL_QUEUE_PROXY", "true"),
        ("QPEXT_EXTRA_LABELS", "team=<b>ml</b>"),
        ("QPEXT_TARGETS", r#"[{"name": "side", "url": "http://127.0.0.1:1/<b>", "headers": {"x-key": "s3cret"}}]"#),
    ];
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &variables).await;
    (sidecar, [queue_proxy, app])
}

#[tokio::test]
async fn the_page_shows_every_target_and_the_configuration_and_no_secret() {
    let (sidecar, _targets) = hostile_pod().await;
    let before = get(&sidecar, "/").await;
    assert_eq!(before.headers[CONTENT_TYPE], "text/html; charset=utf-8");
    assert!(before.text.contains("<title>qpext: 0 of 3 targets up</title>"), "{}", before.text);
    sidecar.scrape(LONG).await;
    let page = get(&sidecar, "/").await.text;
    assert!(page.contains("<title>qpext: 1 of 3 targets up</title>"), "{page}");
    for expected in [
        "<article class=\"up\"><header><h3>queue-proxy</h3><strong>up</strong>",
        "<article class=\"down\"><header><h3>app</h3><strong>down</strong>",
        "answered with the content type",
        "<dt>Lines dropped</dt><dd>1 malformed</dd>",
        "Line 3 was dropped as malformed",
        "<code>QPEXT_MAX_CONCURRENT_SCRAPES</code></th><td><code>8</code>",
        "<code>QPEXT_KEEP_METRICS</code></th><td><span class=\"quiet\">all</span>",
        "<code>QPEXT_DROP_METRICS</code></th><td><span class=\"quiet\">none</span>",
        "&lt;secret&gt;",
        "<a href=\"/status.json\">",
    ] {
        assert!(page.contains(expected), "{expected} in\n{page}");
    }
    assert!(!page.contains("s3cret"), "{page}");
    assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("<b>"), "{page}");
}

#[tokio::test]
async fn a_browser_shows_the_page_and_runs_nothing() {
    let (sidecar, _targets) = hostile_pod().await;
    sidecar.scrape(LONG).await;
    let profile = std::env::temp_dir().join(format!("qpext-chromium-{}", sidecar.port));
    let chromium = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args([format!("--user-data-dir={}", profile.display()), "--dump-dom".to_owned(), sidecar.url("/")])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("chromium is on the PATH; scripts/test installs it");
    // It is only in the way of the next run.
    let _ = std::fs::remove_dir_all(&profile);
    let page = String::from_utf8(chromium.stdout).expect("it is text");
    assert!(page.contains("<title>qpext: 1 of 3 targets up</title>"), "{page}");
    assert!(page.contains("&lt;script&gt;document.title='taken'&lt;/script&gt;"), "{page}");
}

#[tokio::test]
async fn the_page_may_load_nothing_and_be_framed_by_nobody() {
    let sidecar = Sidecar::start(&[]).await;
    let page = get(&sidecar, "/").await;
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(page.headers["x-content-type-options"], "nosniff");
    assert_eq!(page.headers["cache-control"], "no-store");
}

#[tokio::test]
async fn status_json_is_the_same_for_programs() {
    let (sidecar, _targets) = hostile_pod().await;
    sidecar.scrape(LONG).await;
    let answer = get(&sidecar, "/status.json").await;
    assert_eq!(answer.headers[CONTENT_TYPE], "application/json");
    let status: Value = serde_json::from_str(&answer.text).expect("it is JSON");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    let [queue_proxy, app, side] = [0, 1, 2].map(|index| &status["targets"][index]);
    assert_eq!((&queue_proxy["name"], &queue_proxy["state"]), (&"queue-proxy".into(), &"up".into()));
    let last = &queue_proxy["last_scrape"];
    assert_eq!((&last["samples"], &last["format"]), (&1.into(), &"text 0.0.4".into()));
    assert_eq!(last["dropped_lines"]["malformed"], 1);
    assert!(last["duration_seconds"].as_f64().unwrap() > 0.0 && last["body_bytes"].as_u64().unwrap() > 100, "{last}");
    assert_eq!(queue_proxy["last_dropped_line"]["text"], MARKUP);
    assert_eq!((&app["state"], &app["last_failure"]["reason"]), (&"down".into(), &"content_type".into()));
    assert_eq!((&side["state"], &side["last_failure"]["reason"]), (&"down".into(), &"unreachable".into()));
    assert_eq!(status["configuration"]["QPEXT_EXTRA_LABELS"], "team=<b>ml</b>");
    assert!(!answer.text.contains("s3cret"), "{}", answer.text);
}

#[tokio::test]
async fn ready_is_who_has_tried_every_target_whatever_came_of_it() {
    let mut queue_proxy = Stub::start(vec![Step::Hang]).await;
    let app = Stub::start(vec![ok(b"x 1\n")]).await;
    let variables = [("QPEXT_SCRAPE_TIMEOUT", "3s")];
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &variables).await;
    let early = get(&sidecar, "/readyz").await;
    assert_eq!(early.status, 503);
    assert_eq!(early.text, "queue-proxy: unknown\napp: unknown\n");
    // Being asked, it tries them by itself, and once, however often it is asked.
    queue_proxy.request().await;
    let ready = loop {
        let answer = get(&sidecar, "/readyz").await;
        if answer.status == 200 {
            break answer;
        }
        tokio::time::sleep(POLL).await;
    };
    assert_eq!(ready.text, "queue-proxy: down: sent no answer within 2.500 s\napp: up\n");
    let requests = queue_proxy.past_events().into_iter();
    let requests = requests.filter(|event| matches!(event, crate::support::stub::Event::Request(_)));
    assert_eq!(requests.count(), 0, "one was seen above");
    assert_eq!(get(&sidecar, "/readyz").await.status, 200);
}

#[tokio::test]
async fn a_scrape_makes_it_ready_as_well() {
    let (queue_proxy, app) = (Stub::text("q 1\n").await, Stub::text("x 1\n").await);
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    sidecar.scrape(LONG).await;
    let ready = get(&sidecar, "/readyz").await;
    assert_eq!((ready.status.as_u16(), ready.text.as_str()), (200, "queue-proxy: up\napp: up\n"));
}
