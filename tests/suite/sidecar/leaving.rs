//! The process's end: what the targets counted last reaches whoever scrapes regularly, and nobody is waited for in vain.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::timeout;

use crate::support::SERVING;
use crate::support::port::Port;
use crate::support::sidecar::{Sidecar, command, run, scrape};
use crate::support::stub::{Stub, ok};

const LONG: f64 = 60.0;
/// Longer than any test waits, so that nothing ends because of it.
const LINGERS: (&str, &str) = ("QPEXT_LINGER", "10m");
const OFTEN: (&str, &str) = ("QPEXT_LEAVE_INTERVAL", "50ms");
const TELLS: (&str, &str) = ("QPEXT_SELF_METRICS", "true");

/// An application that counts what it is told.
struct Counting {
    stub: Stub,
    count: Arc<AtomicU64>,
}

impl Counting {
    async fn start() -> Self {
        let count = Arc::new(AtomicU64::new(1));
        let counted = Arc::clone(&count);
        let answer = move |_: &str| {
            let count = counted.load(Ordering::Relaxed);
            vec![ok(format!("# TYPE worked_total counter\nworked_total {count}\n").as_bytes())]
        };
        Self { stub: Stub::route(answer).await, count }
    }

    /// Counts once more, and waits until somebody has seen it.
    async fn count_and_be_seen(&mut self, count: u64) {
        self.count.store(count, Ordering::Relaxed);
        self.stub.past_events();
        // The first of them may be answered with what was there before, the last may not have been read yet.
        for _ in 0..3 {
            self.stub.request().await;
        }
    }
}

async fn pod(app: &Counting, variables: &[(&str, &str)]) -> Sidecar {
    let port = app.stub.port().to_string();
    let mut all = vec![
        ("QPEXT_QUEUE_PROXY_METRICS_PORT", ""),
        ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", port.as_str()),
        ("SERVING_SERVICE", "iris"),
        ("SERVING_CONFIGURATION", "iris-predictor"),
        ("SERVING_REVISION", "iris-predictor-00001"),
    ];
    all.extend_from_slice(variables);
    Sidecar::start(&all).await
}

/// Tells the sidecar that its pod ends, as a container's hook does.
async fn leave(sidecar: &Sidecar) {
    let port = sidecar.port.to_string();
    let mut told = command(&[("AGGREGATE_PROMETHEUS_METRICS_PORT", port.as_str())]);
    let told = told.arg("leave").output().await.expect("the program was built");
    assert!(told.status.success(), "{told:?}");
}

fn counted(text: &str) -> Option<u64> {
    let line = format!("worked_total{{{SERVING}}} ");
    text.lines().find_map(|text| text.strip_prefix(&line))?.parse().ok()
}

async fn ends_well(sidecar: &mut Sidecar) {
    let ended = timeout(Duration::from_secs(60), sidecar.ended()).await;
    assert_eq!(ended.expect("it ends before QPEXT_LINGER is over").code(), Some(0));
}

#[tokio::test]
async fn what_a_target_counted_last_is_served_once_it_is_gone() {
    let mut app = Counting::start().await;
    let mut sidecar = pod(&app, &[LINGERS, OFTEN, TELLS]).await;
    for _ in 0..2 {
        assert_eq!(counted(&sidecar.scrape(LONG).await.text), Some(1));
    }
    leave(&sidecar).await;
    app.count_and_be_seen(7).await;
    app.stub.stop().await;
    let answer = sidecar.scrape(LONG).await;
    assert_eq!(answer.status, 200);
    assert_eq!(counted(&answer.text), Some(7));
    let own = |name: &str| {
        answer.text.lines().find(|line| line.starts_with(&format!("{name}{{target=\"app\","))).map(str::to_owned)
    };
    assert!(own("qpext_target_up").is_some_and(|line| line.ends_with(" 0")), "{}", answer.text);
    assert!(own("qpext_target_last_scrape_age_seconds").is_some(), "{}", answer.text);
    let page = scrape(&sidecar.url("/"), LONG).await.expect("a page").text;
    assert!(page.contains("It is gone, and the sidecar is leaving: what it said "), "{page}");
    let status = scrape(&sidecar.url("/status.json"), LONG).await.expect("a status").text;
    assert!(status.contains("\"kept_for_seconds\": 0."), "{status}");
    // Its one scraper has all there is.
    sidecar.signal("TERM").await;
    ends_well(&mut sidecar).await;
}

#[tokio::test]
async fn it_stays_until_its_scrapers_have_what_was_counted_last() {
    let mut app = Counting::start().await;
    let mut sidecar = pod(&app, &[LINGERS, OFTEN]).await;
    for _ in 0..2 {
        sidecar.scrape(LONG).await;
    }
    sidecar.signal("TERM").await;
    sidecar.logged("leaving once each has had").await;
    app.count_and_be_seen(5).await;
    assert_eq!(counted(&sidecar.scrape(LONG).await.text), Some(5), "living targets are asked as ever");
    app.count_and_be_seen(9).await;
    app.stub.stop().await;
    assert_eq!(counted(&sidecar.scrape(LONG).await.text), Some(9));
    ends_well(&mut sidecar).await;
}

#[tokio::test]
async fn nothing_old_is_served_before_it_leaves() {
    let mut app = Counting::start().await;
    let sidecar = pod(&app, &[LINGERS, OFTEN]).await;
    for _ in 0..2 {
        sidecar.scrape(LONG).await;
    }
    app.stub.stop().await;
    assert_eq!(sidecar.scrape(LONG).await.status, 503);
}

#[tokio::test]
async fn nobody_is_waited_for_in_vain() {
    // Nobody has come.
    let app = Counting::start().await;
    let mut sidecar = pod(&app, &[LINGERS]).await;
    sidecar.signal("TERM").await;
    ends_well(&mut sidecar).await;
    // Somebody has come once, as people do.
    let mut sidecar = pod(&app, &[LINGERS]).await;
    sidecar.scrape(LONG).await;
    sidecar.signal("TERM").await;
    ends_well(&mut sidecar).await;
    // The targets were gone before.
    let mut app = Counting::start().await;
    let mut sidecar = pod(&app, &[LINGERS, OFTEN]).await;
    for _ in 0..2 {
        sidecar.scrape(LONG).await;
    }
    app.stub.stop().await;
    sidecar.signal("TERM").await;
    ends_well(&mut sidecar).await;
}

#[tokio::test]
async fn a_second_signal_is_the_last_word_and_so_is_the_end_of_its_time() {
    let app = Counting::start().await;
    let mut sidecar = pod(&app, &[LINGERS, OFTEN]).await;
    for _ in 0..2 {
        sidecar.scrape(LONG).await;
    }
    sidecar.signal("TERM").await;
    sidecar.logged("leaving once each has had").await;
    sidecar.signal("TERM").await;
    ends_well(&mut sidecar).await;

    let mut sidecar = pod(&app, &[("QPEXT_LINGER", "100ms"), OFTEN]).await;
    for _ in 0..2 {
        sidecar.scrape(LONG).await;
    }
    sidecar.signal("TERM").await;
    sidecar.logged("QPEXT_LINGER is over").await;
    ends_well(&mut sidecar).await;
}

#[tokio::test]
async fn what_does_not_fit_is_not_kept_and_told() {
    let mut app = Counting::start().await;
    let mut sidecar = pod(&app, &[LINGERS, OFTEN, ("QPEXT_KEEP_BYTES", "8")]).await;
    leave(&sidecar).await;
    let log = sidecar.logged("QPEXT_KEEP_BYTES").await;
    assert!(log.contains("\"target\":\"app\""), "{log}");
    app.stub.stop().await;
    assert_eq!(sidecar.scrape(LONG).await.status, 503);
}

#[tokio::test]
async fn leaving_is_off_where_it_does_not_linger() {
    let app = Counting::start().await;
    let sidecar = pod(&app, &[]).await;
    let port = sidecar.port.to_string();
    let mut told = command(&[("AGGREGATE_PROMETHEUS_METRICS_PORT", port.as_str())]);
    let told = told.arg("leave").output().await.expect("the program was built");
    assert_eq!(told.status.code(), Some(1));
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(said.contains("no sidecar that lingers is at AGGREGATE_PROMETHEUS_METRICS_PORT="), "{said}");
    assert_eq!(run(&[("AGGREGATE_PROMETHEUS_METRICS_PORT", "x")]).await.0, 64);
}

#[tokio::test]
async fn beside_a_program_it_stays_when_that_has_ended_and_ends_as_that_did() {
    let mut app = Counting::start().await;
    let port = Port::new();
    let (own, of_app) = (port.address().port().to_string(), app.stub.port().to_string());
    let mut program = command(&[
        ("AGGREGATE_PROMETHEUS_METRICS_PORT", own.as_str()),
        ("QPEXT_QUEUE_PROXY_METRICS_PORT", ""),
        ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", of_app.as_str()),
        ("QPEXT_SELF_METRICS", "false"),
        ("SERVING_SERVICE", "iris"),
        ("SERVING_CONFIGURATION", "iris-predictor"),
        ("SERVING_REVISION", "iris-predictor-00001"),
        ("QPEXT_BIND_ADDRESS", "127.0.0.1"),
        LINGERS,
        OFTEN,
        ("PATH", "/usr/bin:/bin"),
    ]);
    program.args(["run", "--", "sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.05; done"]);
    let mut sidecar = Sidecar::spawn(program).await;
    for _ in 0..2 {
        sidecar.scrape(LONG).await;
    }
    sidecar.signal("TERM").await;
    sidecar.logged("what the targets say is kept").await;
    app.count_and_be_seen(3).await;
    app.stub.stop().await;
    let answer = scrape(&sidecar.url("/metrics"), LONG).await.expect("it is there");
    assert_eq!(counted(&answer.text), Some(3));
    let ended = timeout(Duration::from_secs(60), sidecar.ended()).await;
    assert_eq!(ended.expect("it ends before QPEXT_LINGER is over").code(), Some(7));
}
