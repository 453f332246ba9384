//! What the sidecar holds at its peak, whatever many targets send to many scrapers at once.

use std::fmt::Write as _;

use memchr::memmem;
use reqwest::RequestBuilder;
use reqwest::header::ACCEPT;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::task::JoinSet;

use crate::support::sidecar::{Sidecar, client, resident_kilobytes};
use crate::support::stub::{Event, Step, Stub, answer};

const PROTOBUF: &str = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4";

/// As many scrapes as there may be at once.
const SCRAPERS: usize = 8;

/// As many targets send what they should not.
const BAD_TARGETS: usize = 5;

/// How long a scraper says that it waits, in seconds: half of it goes by before targets are written out of their order.
const TIMEOUT: f64 = 10.0;

/// The largest message that is read, in bytes.
const LARGEST_MESSAGE: usize = 16 << 20;

/// What is promised, in MiB: for all that there may be at once, and for one target and one scraper.
const IN_ALL: u64 = 128;
const OF_ONE: u64 = 64;

/// What is sent at once again and again, in bytes.
const BLOCK: usize = 64 << 10;

/// The head of an answer, and what is sent behind it; it does not end.
fn endless(content_type: &str, body: impl IntoIterator<Item = Step>) -> Vec<Step> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n", 1_u64 << 40);
    let mut steps = vec![Step::Send(head.into_bytes())];
    steps.extend(body);
    steps
}

/// A message of the largest size, but for its last bytes: a family's name, and a field that no reader knows.
fn message_without(missing: usize) -> [Step; 3] {
    const LENGTHS: [u8; 13] = [0x80, 0x80, 0x80, 0x08, 0x0a, 1, b'm', 0x9a, 0x06, 0xf7, 0xff, 0xff, 0x07];
    let rest = LARGEST_MESSAGE - (LENGTHS.len() - 4) - missing;
    [Step::Send(LENGTHS.to_vec()), Step::Repeat(vec![b'x'; BLOCK], rest / BLOCK), Step::Send(vec![b'x'; rest % BLOCK])]
}

/// A target that is well. Protobuf is asked of all only where one has it.
async fn healthy(accept: &str) -> Stub {
    const MESSAGE: &[u8] = b"\x18\x0a\x07healthy\x18\x01\x22\x0b\x12\x09\x09\0\0\0\0\0\0\xf0\x3f";
    let (content_type, body) = match accept {
        PROTOBUF => (PROTOBUF, MESSAGE),
        OPEN_METRICS => (OPEN_METRICS, b"healthy 1\n# EOF\n".as_slice()),
        _ => (TEXT, b"healthy 1\n".as_slice()),
    };
    Stub::start(vec![answer("200 OK", &format!("content-type: {content_type}\r\n"), body)]).await
}

/// So many lines, each with a number of its own.
fn lines(head: &str, count: usize, line: impl Fn(usize) -> String) -> Step {
    let mut text = head.to_owned();
    for number in 0..count {
        let _ = writeln!(text, "{}", line(number));
    }
    Step::Send(text.into_bytes())
}

/// Lines of this name and of a kilobyte each.
fn long_lines(head: &str, name: &str, megabytes: usize) -> [Step; 2] {
    let line = format!("{name}{{of=\"{}\"}} 1\n", "x".repeat(1000));
    [Step::Send(head.into()), Step::Repeat(line.into_bytes(), megabytes * 1000)]
}

/// The peak of a sidecar's memory, in MiB, of which so many scrapers ask for this format at once. Beside a target that is
/// well, so many send what `bad` tells of each and then nothing. Each answer has what the healthy one sent.
async fn peak(targets: usize, scrapers: usize, accept: &str, bad: impl Fn(usize) -> Vec<Step>) -> u64 {
    let mut stubs = Vec::new();
    for index in 0..targets {
        stubs.push(Stub::start(bad(index)).await);
    }
    let healthy = healthy(accept).await;
    let sidecar = sidecar(&stubs, &healthy).await;
    let mut asking = JoinSet::new();
    let (saw_healthy, mut healthy_seen) = mpsc::unbounded_channel();
    for _ in 0..scrapers {
        let request = client().get(sidecar.url("/metrics")).header(ACCEPT, accept);
        let request = request.header("x-prometheus-scrape-timeout-seconds", TIMEOUT.to_string());
        asking.spawn(scrape(request, saw_healthy.clone()));
    }
    drop(saw_healthy);
    for stub in &mut stubs {
        for _ in 0..scrapers {
            // On a machine that is too slow for all of it, the answers end before.
            while !matches!(stub.event().await, Event::Answered | Event::Gone) {}
        }
    }
    // It was written when those before it had nothing more to say.
    for _ in 0..scrapers {
        healthy_seen.recv().await.expect("the healthy target's sample");
    }
    // They break off, and so the answers end.
    drop(stubs);
    while let Some(answer) = asking.join_next().await {
        answer.expect("a whole answer");
    }
    peak_of(&sidecar)
}

/// Reads an answer to its end; tells when the sample of the healthy target comes.
async fn scrape(request: RequestBuilder, saw_healthy: UnboundedSender<()>) {
    let mut response = request.send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    let mut end = Vec::new();
    while let Some(chunk) = response.chunk().await.expect("a whole answer") {
        end.extend_from_slice(&chunk);
        if memmem::find(&end, b"healthy").is_some() {
            let _ = saw_healthy.send(());
        }
        end.drain(..end.len().saturating_sub(b"healthy".len() - 1));
    }
}

async fn sidecar(bad: &[Stub], healthy: &Stub) -> Sidecar {
    let bad = bad.iter().enumerate().map(|(index, stub)| format!("bad{index}={}", stub.port()));
    let targets: Vec<String> = bad.chain([format!("healthy={}", healthy.port())]).collect();
    Sidecar::start(&[("QPEXT_QUEUE_PROXY_METRICS_PORT", ""), ("QPEXT_TARGETS", &targets.join(","))]).await
}

fn peak_of(sidecar: &Sidecar) -> u64 {
    let peak = resident_kilobytes(sidecar.id(), "VmHWM:") >> 10;
    println!("{peak} MiB at the peak");
    peak
}

#[tokio::test]
async fn what_many_targets_that_stall_within_a_message_take_is_bounded() {
    let peak = peak(BAD_TARGETS, SCRAPERS, PROTOBUF, |_| endless(PROTOBUF, message_without(1))).await;
    assert!(peak < IN_ALL, "{peak} MiB");
}

#[tokio::test]
async fn what_one_target_that_stalls_within_a_message_takes_is_bounded() {
    let peak = peak(1, 1, PROTOBUF, |_| endless(PROTOBUF, message_without(1))).await;
    assert!(peak < OF_ONE, "{peak} MiB");
}

#[tokio::test]
async fn what_families_take_that_are_put_together_is_bounded() {
    let histogram = |_| {
        let line = |number| format!("h_bucket{{of=\"{number}\",le=\"1\"}} 1");
        endless(TEXT, [lines("# TYPE h histogram\n", 50_000, line)])
    };
    let gauge = |megabytes| move |_| endless(TEXT, long_lines("# TYPE g gauge\n", "g", megabytes));
    for (name, peak, most) in [
        ("many histograms", peak(BAD_TARGETS, SCRAPERS, PROTOBUF, histogram).await, IN_ALL),
        ("many gauges", peak(BAD_TARGETS, SCRAPERS, PROTOBUF, gauge(4)).await, IN_ALL),
        ("a histogram", peak(1, 1, PROTOBUF, histogram).await, OF_ONE),
        ("a gauge", peak(1, 1, PROTOBUF, gauge(16)).await, OF_ONE),
    ] {
        assert!(peak < most, "{name}: {peak} MiB");
    }
}

#[tokio::test]
async fn what_waits_for_the_end_of_its_family_is_bounded() {
    let created = |megabytes| move |_| endless(OPEN_METRICS, long_lines("# TYPE c counter\n", "c_created", megabytes));
    let in_all = peak(BAD_TARGETS, SCRAPERS, TEXT, created(4)).await;
    assert!(in_all < IN_ALL, "{in_all} MiB");
    let of_one = peak(1, 1, TEXT, created(48)).await;
    assert!(of_one < OF_ONE, "{of_one} MiB");
}

#[tokio::test]
async fn what_bodies_take_whose_families_stand_together_is_bounded() {
    let long = |target| endless(OPEN_METRICS, long_lines("", &format!("m{target}"), 4));
    let names = |target| endless(OPEN_METRICS, [lines("", 30_000, |number| format!("m{target}_{number} 1"))]);
    let pieces = |_| endless(OPEN_METRICS, [Step::Repeat(b"a 1\nb 1\n".repeat(1000), 150)]);
    for (what, peak) in [
        ("long lines", peak(BAD_TARGETS, SCRAPERS, OPEN_METRICS, long).await),
        ("names", peak(BAD_TARGETS, SCRAPERS, OPEN_METRICS, names).await),
        ("pieces", peak(BAD_TARGETS, SCRAPERS, OPEN_METRICS, pieces).await),
    ] {
        assert!(peak < IN_ALL, "{what}: {peak} MiB");
    }
}

#[tokio::test]
async fn what_names_without_end_take_is_bounded() {
    let names = |target| endless(TEXT, [lines("", 30_000, |number| format!("m{target}_{number} 1"))]);
    let in_all = peak(BAD_TARGETS, SCRAPERS, TEXT, names).await;
    assert!(in_all < IN_ALL, "{in_all} MiB");
    let of_one = peak(1, 1, TEXT, names).await;
    assert!(of_one < OF_ONE, "{of_one} MiB");
}

#[tokio::test]
async fn what_scrapers_that_do_not_read_leave_is_bounded() {
    let bad = Stub::start(endless(PROTOBUF, message_without(0))).await;
    let healthy = healthy(PROTOBUF).await;
    let stubs = [bad];
    let sidecar = sidecar(&stubs, &healthy).await;
    let mut asking = Vec::new();
    for _ in 0..SCRAPERS {
        let mut stream = TcpStream::connect(("127.0.0.1", sidecar.port)).await.expect("it serves");
        let request = format!("GET /metrics HTTP/1.1\r\nhost: x\r\naccept: {PROTOBUF}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        asking.push(stream);
    }
    for stream in &mut asking {
        // What was sent is there when the head is.
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.expect("an answer");
        assert_eq!(&head, b"HTTP/1.1 200");
    }
    let peak = peak_of(&sidecar);
    assert!(peak < IN_ALL, "{peak} MiB");
}

#[tokio::test]
async fn what_one_line_leaves_behind_is_bounded() {
    let long = "x".repeat(1_000_000);
    let names = |_| endless(TEXT, [lines("", 4, |number| format!("{long}{number} 1"))]);
    let help = |_| endless(TEXT, [Step::Send(format!("# HELP a {long}\n").into_bytes())]);
    for (what, peak) in [
        ("names", peak(BAD_TARGETS, SCRAPERS, TEXT, names).await),
        ("help", peak(BAD_TARGETS, SCRAPERS, TEXT, help).await),
    ] {
        assert!(peak < IN_ALL, "{what}: {peak} MiB");
    }
}
