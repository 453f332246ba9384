//! Compressed bodies, a target's and the sidecar's own: what is decoded is what would have come without.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use qpext::exposition::{End, Untyped};
use reqwest::header::{CONTENT_ENCODING, HeaderMap};
use tokio::sync::Semaphore;
use zstd::stream::raw::{CParameter, InBuffer, Operation as _, OutBuffer};

use crate::sidecar::clients::ask_and_do_not_read;
use crate::support::reader::read;
use crate::support::sidecar::{Sidecar, client, resident_kilobytes};
use crate::support::stub::{Step, Stub, answer, chunk, chunked_head, in_two_parts, last_chunk, ok};
use crate::support::{Cut, bodies, merge};

const QUEUE_PROXY_TEXT: &str = "# TYPE kn_requests_total counter\nkn_requests_total 7\n";
const LONG: f64 = 60.0;

/// How a body is compressed, and by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    Gzip,
    Zstd,
}

const CODINGS: [Coding; 2] = [Coding::Gzip, Coding::Zstd];

impl Coding {
    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    pub fn encode(self, body: &[u8]) -> Vec<u8> {
        match self {
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(body).expect("a Vec takes all");
                encoder.finish().expect("a Vec takes all")
            }
            Self::Zstd => zstd::encode_all(body, 1).expect("a Vec takes all"),
        }
    }

    /// Decodes a whole body with a library that the sidecar does not use.
    fn decode(self, coded: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        match self {
            Self::Gzip => {
                let mut decoder = libflate::gzip::Decoder::new(coded).expect("a gzip header");
                decoder.read_to_end(&mut body).expect("a whole gzip stream");
                assert!(decoder.into_inner().is_empty(), "nothing is behind it");
            }
            Self::Zstd => {
                let mut coded = coded;
                let mut decoder = ruzstd::decoding::StreamingDecoder::new(&mut coded).expect("a zstd header");
                decoder.read_to_end(&mut body).expect("a whole zstd frame");
                drop(decoder);
                assert!(coded.is_empty(), "nothing is behind it");
            }
        }
        body
    }

    /// Decodes what has come so far.
    fn decode_begun(self, coded: &[u8]) -> String {
        let mut body = vec![0; 1 << 20];
        let length = match self {
            Self::Gzip => {
                let mut decoder = flate2::Decompress::new_gzip(15);
                decoder
                    .decompress(coded, &mut body, flate2::FlushDecompress::Sync)
                    .expect("the beginning of a gzip stream");
                decoder.total_out() as usize
            }
            Self::Zstd => {
                let mut decoder = zstd::stream::raw::Decoder::new().expect("a decoder needs nothing");
                let mut out = OutBuffer::around(&mut body[..]);
                let mut input = InBuffer::around(coded);
                while input.pos() < coded.len() {
                    decoder.run(&mut input, &mut out).expect("the beginning of a zstd frame");
                }
                out.pos()
            }
        };
        body.truncate(length);
        String::from_utf8(body).expect("it is text")
    }
}

/// An answer as it came.
struct Got {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Got {
    fn coding(&self) -> Option<&str> {
        self.headers.get(CONTENT_ENCODING).map(|value| value.to_str().expect("a word"))
    }

    /// The body, without its coding.
    fn text(&self) -> String {
        let coding = CODINGS.into_iter().find(|coding| Some(coding.name()) == self.coding());
        let text = match coding {
            Some(coding) => coding.decode(&self.body),
            None => self.body.clone(),
        };
        String::from_utf8(text).expect("it is text")
    }
}

async fn ask(sidecar: &Sidecar, method: &str, accept_encoding: Option<&str>) -> reqwest::Response {
    let mut request = client()
        .request(method.parse().expect("a method"), sidecar.url("/metrics"))
        .header("x-prometheus-scrape-timeout-seconds", LONG.to_string());
    if let Some(accept_encoding) = accept_encoding {
        request = request.header("accept-encoding", accept_encoding);
    }
    request.send().await.expect("an answer")
}

async fn get(sidecar: &Sidecar, accept_encoding: Option<&str>) -> Got {
    let response = ask(sidecar, "GET", accept_encoding).await;
    Got {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.bytes().await.expect("a whole body").to_vec(),
    }
}

/// A sidecar with one target, whose text passes as it is.
async fn sidecar_for(target: &Stub, variables: &[(&str, &str)]) -> Sidecar {
    let port = target.port().to_string();
    let mut all = vec![("QPEXT_QUEUE_PROXY_METRICS_PORT", port.as_str())];
    all.extend_from_slice(variables);
    Sidecar::start(&all).await
}

/// A sample of this many bytes.
fn sample_of(bytes: usize) -> Vec<u8> {
    let around = "m{a=\"\"} 1\n".len();
    let sample = format!("m{{a=\"{}\"}} 1\n", "x".repeat(bytes - around));
    assert_eq!(sample.len(), bytes);
    sample.into_bytes()
}

/// Samples that compress badly.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut body = String::from("# TYPE noise gauge\n");
    while body.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        writeln!(body, "noise{{id=\"{state:016x}\"}} {state}").expect("a String takes any text");
    }
    body.into_bytes()
}

/// An answer whose body is compressed.
fn coded(coding: &str, body: &[u8]) -> Step {
    let headers = format!("content-type: text/plain; version=0.0.4\r\ncontent-encoding: {coding}\r\n");
    answer("200 OK", &headers, body)
}

/// Scrapes a pod whose application does `steps` beside a healthy queue-proxy: the text, and how the application failed.
async fn beside_healthy_queue_proxy(steps: Vec<Step>, variables: &[(&str, &str)]) -> (String, String) {
    let queue_proxy = Stub::text(QUEUE_PROXY_TEXT).await;
    let app = Stub::start(steps).await;
    let mut sidecar = Sidecar::for_pod(&queue_proxy, &app, variables).await;
    let answer = sidecar.scrape(LONG).await;
    assert_eq!(answer.status, 200);
    assert!(answer.text.starts_with(QUEUE_PROXY_TEXT), "{}", answer.text);
    read(answer.text.as_bytes()).expect("a valid exposition");
    let log = sidecar.logged("target failed").await;
    assert!(log.contains("\"target\":\"app\""), "{log}");
    (answer.text, log)
}

fn merged(app: &[u8]) -> String {
    let queue_proxy = Some(QUEUE_PROXY_TEXT.as_bytes());
    let (text, _) = merge(queue_proxy, app, Untyped::Convert, Cut::Whole, End::Whole);
    String::from_utf8(text).expect("it is text")
}

#[tokio::test]
async fn each_coding_decodes_to_the_answer_that_would_have_come_without() {
    for app_text in [bodies::vllm(2 << 10), bodies::vllm(3 << 20), noise(3 << 20)] {
        let queue_proxy = Stub::text(QUEUE_PROXY_TEXT).await;
        let app = Stub::text(app_text.clone()).await;
        let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
        let plain = get(&sidecar, None).await;
        assert_eq!(plain.coding(), None);
        assert!(plain.text() == merged(&app_text));
        for coding in CODINGS {
            let got = get(&sidecar, Some(coding.name())).await;
            assert_eq!(got.coding(), Some(coding.name()));
            assert_eq!(got.headers["vary"], "Accept, Accept-Encoding");
            assert_eq!(got.headers["content-type"], plain.headers["content-type"]);
            assert!(got.body.len() * 2 < plain.body.len() + plain.body.len() / 2);
            assert!(got.text() == plain.text(), "{coding:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_of_up_to_a_kilobyte_is_not_compressed() {
    let halves = |body: Vec<u8>| {
        let (first, second) = body.split_at(body.len() / 2);
        vec![chunked_head(), chunk(first), chunk(second), last_chunk()]
    };
    for (bytes, is_compressed) in [(0, false), (100, false), (1024, false), (1025, true), (5000, true)] {
        let body = if bytes == 0 { Vec::new() } else { sample_of(bytes) };
        for steps in [vec![ok(&body)], halves(body.clone())] {
            let target = Stub::start(steps).await;
            let sidecar = sidecar_for(&target, &[]).await;
            for coding in CODINGS {
                let got = get(&sidecar, Some(coding.name())).await;
                assert_eq!(got.coding(), is_compressed.then_some(coding.name()), "{bytes} bytes");
                assert!(got.text().into_bytes() == body, "{bytes} bytes");
            }
        }
    }
}

#[tokio::test]
async fn the_setting_and_the_scraper_choose_between_them() {
    let target = Stub::text(sample_of(5000)).await;
    let both = "gzip;q=0.5, zstd;q=0.5";
    for (setting, accept_encoding, expected) in [
        (None, Some(both), Some("zstd")),
        (Some("auto"), Some(both), Some("zstd")),
        (Some("auto"), Some("gzip"), Some("gzip")),
        (Some("auto"), Some("gzip, zstd;q=0.5"), Some("gzip")),
        (Some("auto"), Some("*"), Some("gzip")),
        (Some("auto"), Some("br, deflate"), None),
        (Some("auto"), Some("gzip;q=0"), None),
        (Some("auto"), Some("identity"), None),
        (Some("auto"), Some("identity;q=0"), None),
        (Some("auto"), None, None),
        (Some("gzip"), Some(both), Some("gzip")),
        (Some("gzip"), Some("zstd"), None),
        (Some("zstd"), Some("gzip, zstd;q=0.1"), Some("zstd")),
        (Some("zstd"), Some("gzip"), None),
        (Some("off"), Some(both), None),
        (Some("off"), Some("gzip, identity;q=0"), None),
    ] {
        let variables: Vec<_> = setting.map(|value| ("QPEXT_COMPRESSION", value)).into_iter().collect();
        let sidecar = sidecar_for(&target, &variables).await;
        let got = get(&sidecar, accept_encoding).await;
        assert_eq!(got.coding(), expected, "{setting:?} {accept_encoding:?}");
        assert_eq!(got.text().len(), 5000);
    }
}

#[tokio::test]
async fn a_scraper_that_takes_nothing_uncompressed_gets_small_answers_compressed_too() {
    for body in ["", "a 1\n"] {
        let target = Stub::text(body).await;
        let sidecar = sidecar_for(&target, &[]).await;
        for coding in CODINGS {
            let got = get(&sidecar, Some(&format!("{}, identity;q=0", coding.name()))).await;
            assert_eq!(got.coding(), Some(coding.name()));
            assert_eq!(got.text(), body);
        }
    }
}

#[tokio::test]
async fn head_gives_the_headers_of_get() {
    for body in [sample_of(100), sample_of(5000)] {
        let target = Stub::text(body).await;
        let sidecar = sidecar_for(&target, &[]).await;
        for accept_encoding in [None, Some("gzip"), Some("zstd")] {
            let got = get(&sidecar, accept_encoding).await;
            let head = ask(&sidecar, "HEAD", accept_encoding).await;
            // When it is sent, and how a body is framed, are none of the answer's own.
            let own = |headers: &HeaderMap| {
                let mut headers = headers.clone();
                headers.remove("date");
                headers.remove("transfer-encoding");
                headers
            };
            assert_eq!(own(head.headers()), own(&got.headers));
            assert_eq!(head.text().await.unwrap(), "");
        }
    }
}

#[tokio::test]
async fn errors_are_not_compressed_and_say_what_they_depend_on() {
    let gone = Stub::absent();
    let port = gone.port().to_string();
    let path = format!("/{}", "x".repeat(2000));
    let variables =
        [("QPEXT_QUEUE_PROXY_METRICS_PORT", port.as_str()), ("QPEXT_QUEUE_PROXY_METRICS_PATH", path.as_str())];
    let sidecar = Sidecar::start(&variables).await;
    let got = get(&sidecar, Some("gzip, zstd, identity;q=0")).await;
    assert_eq!((got.status, got.coding()), (503, None));
    assert!(got.body.len() > 2000);
    assert_eq!(got.headers["vary"], "Accept, Accept-Encoding");
    let healthz = client().get(sidecar.url("/healthz")).send().await.unwrap();
    assert!(!healthz.headers().contains_key("vary"));
}

#[tokio::test]
async fn what_has_come_is_sent_compressed_before_the_target_ends() {
    // The second begins with less than is compressed.
    for first in [sample_of(2000), sample_of(200)] {
        for coding in CODINGS {
            let go = Arc::new(Semaphore::new(0));
            let second = sample_of(1500);
            let target = Stub::start(vec![
                chunked_head(),
                chunk(&first),
                chunk(&second),
                Step::Await(Arc::clone(&go)),
                chunk(b"third 3\n"),
                Step::Await(Arc::clone(&go)),
                last_chunk(),
            ])
            .await;
            let sidecar = sidecar_for(&target, &[]).await;
            let mut response = ask(&sidecar, "GET", Some(coding.name())).await;
            let mut body = Vec::new();
            let mut expected = String::from_utf8([first.clone(), second].concat()).unwrap();
            for more in ["third 3\n", ""] {
                while coding.decode_begun(&body) != expected {
                    body.extend_from_slice(&response.chunk().await.unwrap().expect("it goes on"));
                }
                go.add_permits(1);
                expected.push_str(more);
            }
            while let Some(chunk) = response.chunk().await.unwrap() {
                body.extend_from_slice(&chunk);
            }
            assert_eq!(coding.decode(&body), expected.as_bytes());
        }
    }
}

#[tokio::test]
async fn a_scraper_that_leaves_a_compressed_answer_cancels_its_scrapes() {
    for first in [sample_of(2000), sample_of(200)] {
        let mut target = Stub::start(vec![chunked_head(), chunk(&first), Step::Hang]).await;
        let sidecar = sidecar_for(&target, &[]).await;
        let url = sidecar.url("/metrics");
        let scrape = tokio::spawn(async move {
            let request = client().get(url).header("accept-encoding", "gzip");
            let mut response = request.header("x-prometheus-scrape-timeout-seconds", "3000").send().await.unwrap();
            while response.chunk().await.unwrap().is_some() {}
        });
        target.request().await;
        scrape.abort();
        target.gone().await;
    }
}

#[tokio::test]
async fn a_compressed_answer_that_is_running_is_finished_at_sigterm() {
    let go = Arc::new(Semaphore::new(0));
    let first = sample_of(2000);
    let steps = in_two_parts(&first, &go, b"last 1\n");
    let target = Stub::start(steps).await;
    let mut sidecar = sidecar_for(&target, &[]).await;
    let response = ask(&sidecar, "GET", Some("zstd")).await;
    sidecar.signal("TERM").await;
    sidecar.logged("stopping").await;
    go.add_permits(1);
    let body = response.bytes().await.unwrap();
    assert_eq!(Coding::Zstd.decode(&body), [&first[..], b"last 1\n"].concat());
    assert!(sidecar.ended().await.success());
}

#[tokio::test]
async fn clients_that_do_not_read_their_compressed_answers_keep_nobody_out() {
    let target = Stub::text(noise(8 << 20)).await;
    let sidecar = sidecar_for(&target, &[]).await;
    let mut slow = Vec::new();
    for _ in 0..8 {
        slow.push(ask_and_do_not_read(&sidecar, "accept-encoding: gzip\r\n").await);
    }
    // A scraper that does as it is told: comes again after `Retry-After`.
    let mut got = get(&sidecar, Some("gzip")).await;
    while got.status == 503 {
        let seconds = got.headers["retry-after"].to_str().unwrap().parse().unwrap();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        got = get(&sidecar, Some("gzip")).await;
    }
    assert!(got.text().len() > 8 << 20, "it is served whole");
}

#[tokio::test]
async fn compressed_targets_are_read_as_if_they_were_not() {
    let app_text = bodies::vllm(1 << 20);
    let (first, second) = app_text.split_at(app_text.len() / 3);
    let expected = merged(&app_text);
    for coding in CODINGS {
        let whole = coding.encode(&app_text);
        let members = [coding.encode(first), coding.encode(b""), coding.encode(second)].concat();
        let (begin, end) = whole.split_at(5);
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-encoding: {}\r\ntransfer-encoding: chunked\r\n\r\n", coding.name());
        let head = Step::Send(head.into_bytes());
        for steps in [
            vec![coded(coding.name(), &whole)],
            vec![coded(&coding.name().to_uppercase(), &whole)],
            vec![coded(&format!("identity, {}", coding.name()), &whole)],
            vec![coded(coding.name(), &members)],
            vec![head, chunk(begin), chunk(end), last_chunk()],
        ] {
            let queue_proxy =
                Stub::start(vec![coded(coding.name(), &coding.encode(QUEUE_PROXY_TEXT.as_bytes()))]).await;
            let app = Stub::start(steps).await;
            let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
            assert!(sidecar.scrape(LONG).await.text == expected, "{coding:?}");
        }
    }
    let app = Stub::start(vec![coded("x-gzip", &Coding::Gzip.encode(&app_text))]).await;
    let queue_proxy = Stub::text(QUEUE_PROXY_TEXT).await;
    let sidecar = Sidecar::for_pod(&queue_proxy, &app, &[]).await;
    assert!(sidecar.scrape(LONG).await.text == expected);
}

#[tokio::test]
async fn a_compressed_body_that_ends_well_ends_at_a_whole_line() {
    // Without a length, only the coding says that the last line is all there.
    for coding in CODINGS {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {}\r\n\r\n", coding.name());
        let body = [head.as_bytes(), &coding.encode(b"first 1\nlast 22")].concat();
        let target = Stub::start(vec![Step::Send(body), Step::Close]).await;
        let sidecar = sidecar_for(&target, &[]).await;
        assert_eq!(sidecar.scrape(LONG).await.text, "first 1\nlast 22\n");
    }
}

#[tokio::test]
async fn a_compressed_body_that_breaks_off_gives_every_whole_line_it_held() {
    let lines = String::from_utf8(noise(1 << 20)).unwrap();
    for coding in CODINGS {
        let whole = coding.encode(lines.as_bytes());
        let half = &whole[..whole.len() / 2];
        let too_long = format!(
            "HTTP/1.1 200 OK\r\ncontent-encoding: {}\r\ncontent-length: {}\r\n\r\n",
            coding.name(),
            whole.len()
        );
        for steps in [
            // The body's end comes before the coding's, or the connection's before the body's.
            vec![coded(coding.name(), half)],
            vec![Step::Send([too_long.as_bytes(), half].concat()), Step::Close],
        ] {
            let (text, log) = beside_healthy_queue_proxy(steps, &[]).await;
            let came = text.lines().filter(|line| line.starts_with("noise{")).count();
            let sent = lines.lines().count() - 1;
            // A block of a coding is decoded whole or not at all, and those of zstd are 128 KiB.
            assert!(came > sent / 3 && came < sent, "{coding:?}: {came} of {sent}");
            assert!(log.contains("broke off inside its body"), "{log}");
        }
    }
}

#[tokio::test]
async fn a_corrupt_body_costs_what_cannot_be_decoded() {
    let lines = noise(1 << 20);
    for coding in CODINGS {
        let mut corrupt = coding.encode(&lines);
        let middle = corrupt.len() / 2;
        for byte in &mut corrupt[middle..middle + 64] {
            *byte ^= 0x55;
        }
        for body in [&corrupt[..], b"x 1\n", b""] {
            let (_, log) = beside_healthy_queue_proxy(vec![coded(coding.name(), body)], &[]).await;
            assert!(log.contains("broke off inside its body"), "{log}");
        }
    }
}

#[tokio::test]
async fn a_zstd_window_of_more_than_8_mib_is_refused() {
    let body = bodies::vllm(1 << 20);
    for (window_log, is_read) in [(23, true), (24, false)] {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.set_parameter(CParameter::WindowLog(window_log)).unwrap();
        encoder.write_all(&body).unwrap();
        let steps = vec![coded("zstd", &encoder.finish().unwrap())];
        if is_read {
            let target = Stub::start(steps).await;
            let sidecar = sidecar_for(&target, &[]).await;
            assert!(sidecar.scrape(LONG).await.text.as_bytes() == body);
        } else {
            let (text, log) = beside_healthy_queue_proxy(steps, &[]).await;
            assert_eq!(text, QUEUE_PROXY_TEXT);
            assert!(log.contains("broke off inside its body"), "{log}");
        }
    }
}

#[tokio::test]
async fn a_bomb_is_cut_at_its_decoded_size_in_constant_memory() {
    const LIMIT: usize = 64 << 20;
    let limit = LIMIT.to_string();
    let block = bodies::vllm(1 << 20);
    for coding in CODINGS {
        for member in [coding.encode(&block), coding.encode(&vec![b'#'; 1 << 20])] {
            let bomb = member.repeat(1024);
            let queue_proxy = Stub::text(QUEUE_PROXY_TEXT).await;
            let app = Stub::start(vec![coded(coding.name(), &bomb)]).await;
            let mut sidecar = Sidecar::for_pod(&queue_proxy, &app, &[("QPEXT_MAX_BODY_BYTES", limit.as_str())]).await;
            let answer = sidecar.scrape(LONG).await;
            assert!(answer.text.starts_with(QUEUE_PROXY_TEXT));
            let log = sidecar.logged("target failed").await;
            assert!(log.contains(&format!("sent a body of more than {LIMIT} bytes")), "{log}");
            let peak = resident_kilobytes(sidecar.id(), "VmHWM:");
            println!("{coding:?}: {} bytes sent, {peak} kB at the peak", bomb.len());
            // A debug build, so not the documented figures; holding what was decoded would take twice as much.
            assert!(peak < 30_000, "{coding:?}: {peak} kB");
        }
    }
}

#[tokio::test]
async fn codings_of_nothing_have_the_same_limit() {
    let text = sample_of(1_000);
    for coding in CODINGS {
        let nothing = coding.encode(b"").repeat(100_000);
        let body = [coding.encode(&text), nothing].concat();
        let (answer, log) =
            beside_healthy_queue_proxy(vec![coded(coding.name(), &body)], &[("QPEXT_MAX_BODY_BYTES", "500000")]).await;
        assert_eq!(answer, merged(&text), "what came before is kept");
        assert!(log.contains("more than 500000 bytes came, compressed"), "{log}");
    }
}

#[tokio::test]
async fn the_limit_is_exact_for_decoded_bytes() {
    let body = sample_of(100_000);
    for coding in CODINGS {
        let target = Stub::start(vec![coded(coding.name(), &coding.encode(&body))]).await;
        for (limit, is_cut) in [("100000", false), ("99999", true)] {
            let mut sidecar = sidecar_for(&target, &[("QPEXT_MAX_BODY_BYTES", limit)]).await;
            let answer = sidecar.scrape(LONG).await;
            if is_cut {
                assert_eq!(answer.status, 503);
                sidecar.logged("sent a body of more than 99999 bytes").await;
            } else {
                assert!(answer.text.as_bytes() == body);
            }
        }
    }
}
