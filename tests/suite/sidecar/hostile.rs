//! What a hostile target does to the others: nothing. Eight scrapers look on, and a probe.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::header::ACCEPT;
use tokio::task::JoinSet;

use super::compression::Coding;
use crate::support::sidecar::{Sidecar, client, resident_kilobytes};
use crate::support::stub::{Step, Stub, ok};

/// As many scrapes as there may be at once.
const SCRAPERS: usize = 8;

/// What a scraper says that it waits, in seconds. That it is answered by then on a machine of its own is measured elsewhere; here, it
/// is how long the target has its way.
const SAYS: &str = "2";

/// How often a probe must be answered while that goes on. An event loop that is held for a second answers two.
const PROBES: usize = 4;

const TEXT: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\n";
const PROTOBUF: &str = "HTTP/1.1 200 OK\r\n\
    content-type: application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited\r\n";

/// This head, and then this without end.
fn endless(head: &str, piece: impl Into<Vec<u8>>) -> Vec<Step> {
    let piece = piece.into();
    let times = (256 << 10) / piece.len() + 1;
    vec![Step::Send(head.as_bytes().to_vec()), Step::Forever(piece.repeat(times))]
}

/// The same, compressed.
fn coded(coding: &str, piece: impl Into<Vec<u8>>) -> Vec<Step> {
    endless(&format!("{TEXT}content-encoding: {coding}\r\n\r\n"), piece)
}

/// Lets eight scrapers ask a pod in which a target does this beside one that is well.
async fn endure(what: &str, steps: Vec<Step>) {
    let (hostile, healthy) = (Stub::start(steps).await, Stub::start(vec![ok(b"healthy 1\n")]).await);
    let variables = [("QPEXT_DROP_METRICS", "(a|b)*c.*d.*e")];
    let sidecar = Sidecar::for_pod(&healthy, &hostile, &variables).await;
    let mut scrapes = JoinSet::new();
    for _ in 0..SCRAPERS {
        let request = client().get(sidecar.url("/metrics")).header(ACCEPT, "text/plain");
        let request = request.header("x-prometheus-scrape-timeout-seconds", SAYS);
        scrapes.spawn(async move {
            let mut answer = request.send().await.expect("an answer");
            let mut begin = Vec::new();
            while let Some(chunk) = answer.chunk().await.expect("a whole answer") {
                begin.extend_from_slice(&chunk[..chunk.len().min(64)]);
            }
            String::from_utf8_lossy(&begin).into_owned()
        });
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let probes = tokio::spawn({
        let (is_over, url) = (Arc::clone(&is_over), sidecar.url("/healthz"));
        async move {
            let mut answered = 0;
            while !is_over.load(Ordering::Relaxed) {
                client().get(&url).send().await.expect("it is alive");
                answered += 1;
            }
            answered
        }
    });
    while let Some(scraped) = scrapes.join_next().await {
        let begin = scraped.expect("an answer");
        assert!(begin.contains("healthy 1\n"), "{what}: {begin}");
    }
    is_over.store(true, Ordering::Relaxed);
    let answered = probes.await.expect("they are answered");
    assert!(answered >= PROBES, "{what}: {answered} probes were answered");
    let megabytes = resident_kilobytes(sidecar.id(), "VmHWM:") >> 10;
    assert!(megabytes <= 128, "{what}: {megabytes} MiB");
}

#[tokio::test]
async fn a_head_or_a_frame_without_end_costs_its_target_alone() {
    let chunked = format!("{TEXT}transfer-encoding: chunked\r\n\r\n");
    // They end at once, so that there is nothing to look on at.
    for (what, steps) in [
        ("informational answers", endless("", "HTTP/1.1 100 Continue\r\n\r\n")),
        (
            "informational answers with headers",
            endless("", format!("HTTP/1.1 103 Hints\r\n{}\r\n", "x-a: b\r\n".repeat(90))),
        ),
        (
            "large informational answers",
            endless("", format!("HTTP/1.1 103 Hints\r\nx-a: {}\r\n\r\n", "b".repeat(200_000))),
        ),
        ("headers", endless(TEXT, "x-a: b\r\n")),
        ("one header", endless(&format!("{TEXT}x-a: "), "a")),
        ("one chunk's extensions", endless(&format!("{chunked}5"), ";a=b")),
        ("all chunks' extensions", endless(&chunked, "1;a=b\r\n\n\r\n")),
        ("trailers", endless(&format!("{chunked}4\r\na 1\n\r\n0\r\n"), "x-a: b\r\n")),
        (
            "redirects",
            vec![Step::Send(b"HTTP/1.1 302 Found\r\nlocation: /metrics\r\ncontent-length: 0\r\n\r\n".to_vec())],
        ),
    ] {
        beside(what, steps).await;
    }
    endure("chunks of a byte", endless(&chunked, "1\r\n\n\r\n")).await;
    let odd = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n";
    endure("a first line of an odd type", endless(odd, "\n")).await;
}

/// One scrape of a pod in which a target does this beside one that is well.
async fn beside(what: &str, steps: Vec<Step>) {
    let (hostile, healthy) = (Stub::start(steps).await, Stub::start(vec![ok(b"healthy 1\n")]).await);
    let mut sidecar = Sidecar::for_pod(&healthy, &hostile, &[]).await;
    let answer = sidecar.scrape(60.0).await;
    assert!(answer.text.contains("healthy 1\n"), "{what}: {}", answer.text);
    sidecar.logged("target failed").await;
}

#[tokio::test]
async fn work_without_progress_costs_its_target_alone() {
    let body = format!("{TEXT}\r\n");
    for (what, steps) in [
        ("newlines", endless(&body, "\n")),
        ("malformed lines", endless(&body, "}\n")),
        ("a label's value with newlines", endless(&format!("{body}a{{b=\""), "x\n")),
        ("quotes that open", endless(&body, "a{b=\"\n")),
        ("a line of many labels", endless(&body, format!("a{{{}}} 1\n", "x=\"x\",".repeat(60_000)))),
        ("long names", endless(&body, format!("# TYPE {0} gauge\n{0} 1\n", "ab".repeat(400_000)))),
        ("empty messages", endless(&format!("{PROTOBUF}\r\n"), [0])),
    ] {
        endure(what, steps).await;
    }
}

#[tokio::test]
async fn a_bomb_costs_its_target_alone() {
    let newlines = vec![b'\n'; 20_000_000];
    let stored = format!("{TEXT}content-encoding: gzip\r\n\r\n\u{1f}").into_bytes();
    let stored = [&stored[..], b"\x8b\x08\0\0\0\0\0\0\x03"].concat();
    for (what, steps) in [
        ("gzip of newlines", coded("gzip", Coding::Gzip.encode(&newlines))),
        ("zstd of newlines", coded("zstd", Coding::Zstd.encode(&newlines))),
        ("gzip of nothing", coded("gzip", Coding::Gzip.encode(b""))),
        ("zstd of nothing", coded("zstd", Coding::Zstd.encode(b""))),
        ("zstd that is skipped", coded("zstd", b"\x50\x2a\x4d\x18\x04\0\0\0abcd")),
        ("empty blocks of gzip", vec![Step::Send(stored), Step::Forever(b"\0\0\0\xff\xff".repeat(50_000))]),
    ] {
        endure(what, steps).await;
    }
}
