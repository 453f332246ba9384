//! Instructions for one scrape, counted by callgrind: `cargo bench --bench instructions`.
//!
//! Unlike times, they are the same on a busy machine: two runs differ by less than half a percent. The real binary runs
//! under valgrind (from the PATH; `scripts/bench` installs it) between stub targets and a scraper, which are not counted.
//! It serves a few scrapes in one run and some more in another; what one scrape takes is the difference over their number,
//! so that the start, the first connections and the end of the process do not count. Everything else does: sockets, HTTP,
//! and the metrics of the sidecar itself, which are on as they are by default.
//!
//! ```text
//! cargo bench --bench instructions -- [--against BINARY] [SCRAPE]...
//! ```
//!
//! Scrapes are named as in the table; without any, all of them run. `--against` measures another binary beside this one
//! and prints both. `QPEXT_BINARY` in the environment is measured in the place of the one that cargo builds. What callgrind
//! wrote stays in `target/tmp`, for `callgrind_annotate`; a binary has names to show there if it is built with
//! `CARGO_PROFILE_BENCH_STRIP=none`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use reqwest::Client;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use tokio::process::Command;

use support::sidecar::{PROGRAM, Sidecar, client};
use support::stub::{Stub, answer};
use support::{bodies, protobuf};

#[path = "../tests/suite/support/mod.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod support;

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROTOBUF: &str = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

const MEGABYTE: usize = 1_000_000;

/// The scraper's timeout in seconds. Under valgrind everything takes fifty times as long, and what is late takes other ways.
const TIMEOUT: &str = "300";

/// What a target answers.
struct Target {
    content_type: &'static str,
    body: Vec<u8>,
}

/// What is asked for, and of whom.
struct Scrape {
    name: &'static str,
    queue_proxy: Option<Target>,
    app: Target,
    /// The format that the scraper takes and gets.
    format: &'static str,
    /// How many scrapes there are in the shorter run, and in the longer one.
    times: [u64; 2],
}

fn scrapes() -> [Scrape; 5] {
    let target = |content_type, body| Target { content_type, body };
    [
        Scrape {
            name: "small",
            queue_proxy: Some(target(TEXT, bodies::queue_proxy(46_000))),
            app: target(TEXT, bodies::vllm_of(1, 25_000)),
            format: TEXT,
            times: [2, 22],
        },
        Scrape {
            name: "text",
            queue_proxy: None,
            app: target(TEXT, bodies::many_models(MEGABYTE)),
            format: TEXT,
            times: [1, 5],
        },
        Scrape {
            name: "openmetrics-to-text",
            queue_proxy: None,
            app: target(OPEN_METRICS, bodies::open_metrics(MEGABYTE)),
            format: TEXT,
            times: [1, 5],
        },
        Scrape {
            name: "text-to-protobuf",
            // Text alone goes out as text: somebody has to speak protobuf.
            queue_proxy: Some(target(PROTOBUF, protobuf::typical(1))),
            app: target(TEXT, bodies::vllm(MEGABYTE)),
            format: PROTOBUF,
            times: [1, 6],
        },
        Scrape {
            name: "protobuf-to-text",
            queue_proxy: None,
            app: target(PROTOBUF, protobuf::typical(MEGABYTE)),
            format: TEXT,
            times: [1, 6],
        },
    ]
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let (mut against, mut chosen) = (None, Vec::new());
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // What cargo says to every benchmark.
            "--bench" => {}
            "--against" => match arguments.next() {
                Some(binary) => against = Some(PathBuf::from(binary)),
                None => return refuse("--against: expected the path of a binary"),
            },
            _ => chosen.push(argument),
        }
    }
    let scrapes = scrapes();
    if let Some(name) = chosen.iter().find(|name| scrapes.iter().all(|scrape| scrape.name != **name)) {
        return refuse(&format!("{name:?}: expected one of {}", scrapes.map(|scrape| scrape.name).join(", ")));
    }
    let binary = env::var_os("QPEXT_BINARY").map_or_else(|| PathBuf::from(PROGRAM), PathBuf::from);
    match &against {
        None => println!("{:<20} {:>10} {:>13} {:>7}", "scrape", "bytes", "instructions", "a byte"),
        Some(_) => println!(
            "{:<20} {:>10} {:>13} {:>7} {:>13} {:>7} {:>6}",
            "scrape", "bytes", "instructions", "a byte", "against", "a byte", "ratio"
        ),
    }
    for scrape in scrapes {
        if !chosen.is_empty() && !chosen.iter().any(|name| name == scrape.name) {
            continue;
        }
        let bytes = scrape.bytes();
        let (own, own_a_byte) = measure(&binary, &scrape, bytes).await;
        print!("{:<20} {bytes:>10} {own:>13.0} {own_a_byte:>7.2}", scrape.name);
        if let Some(against) = &against {
            let (other, other_a_byte) = measure(against, &scrape, bytes).await;
            print!(" {other:>13.0} {other_a_byte:>7.2} {:>6.3}", own / other);
        }
        println!();
    }
    ExitCode::SUCCESS
}

/// A bad argument (`EX_USAGE` in `sysexits.h`).
fn refuse(why: &str) -> ExitCode {
    eprintln!("instructions: {why}");
    ExitCode::from(64)
}

/// Instructions for one scrape, and for each byte of its targets' bodies.
async fn measure(binary: &Path, scrape: &Scrape, bytes: usize) -> (f64, f64) {
    let [few, more] = scrape.times;
    let (short, long) = (scrape.run(binary, few).await, scrape.run(binary, more).await);
    let once = (long - short) as f64 / (more - few) as f64;
    (once, once / bytes as f64)
}

impl Scrape {
    /// The bytes of all bodies.
    fn bytes(&self) -> usize {
        let queue_proxy = self.queue_proxy.as_ref().map_or(0, |target| target.body.len());
        queue_proxy + self.app.body.len()
    }

    /// Instructions of a process that serves so many scrapes.
    async fn run(&self, binary: &Path, times: u64) -> u64 {
        let app = self.app.start().await;
        let queue_proxy = match &self.queue_proxy {
            Some(target) => Some(target.start().await),
            None => None,
        };
        let port = queue_proxy.as_ref().map(|stub| stub.port().to_string());
        let profile = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("callgrind.{}.{times}.out", self.name));
        let mut command = Command::new("valgrind");
        command
            .args(["--quiet", "--tool=callgrind"])
            .arg(format!("--callgrind-out-file={}", profile.display()))
            .arg(binary)
            .env_clear()
            .env("AGGREGATE_PROMETHEUS_METRICS_PORT", "0")
            .env("QPEXT_BIND_ADDRESS", "127.0.0.1")
            .env("QPEXT_QUEUE_PROXY_METRICS_PORT", port.unwrap_or_default())
            .env("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", app.port().to_string())
            .env("SERVING_SERVICE", "iris")
            .env("SERVING_CONFIGURATION", "iris-predictor")
            .env("SERVING_REVISION", "iris-predictor-00001")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut sidecar = Sidecar::spawn(command).await;
        let client = client();
        for _ in 0..times {
            self.ask(&client, &sidecar.url("/metrics")).await;
        }
        drop(client);
        sidecar.signal("TERM").await;
        let status = sidecar.ended().await;
        assert!(status.success(), "{status}: {}", sidecar.rest_of_log().await);
        instructions(&profile)
    }

    /// Asks once, and sees that it is what was meant.
    async fn ask(&self, client: &Client, url: &str) {
        let request = client.get(url).header(ACCEPT, self.format);
        let request = request.header("x-prometheus-scrape-timeout-seconds", TIMEOUT);
        let response = request.send().await.expect("it answers");
        assert_eq!(response.status(), 200);
        let content_type = response.headers()[CONTENT_TYPE].to_str().expect("it is text").to_owned();
        let media_type = |text: &str| text.split(';').next().map(str::to_owned);
        assert_eq!(media_type(&content_type), media_type(self.format), "{}", self.name);
        let body = response.bytes().await.expect("a whole answer");
        assert!(body.len() > self.bytes() / 8, "{}: {} bytes", self.name, body.len());
    }
}

impl Target {
    async fn start(&self) -> Stub {
        let headers = format!("content-type: {}\r\n", self.content_type);
        Stub::start(vec![answer("200 OK", &headers, &self.body)]).await
    }
}

/// The sum that callgrind wrote.
fn instructions(profile: &Path) -> u64 {
    let text = fs::read_to_string(profile).expect("callgrind wrote it");
    let sum = text.lines().find_map(|line| line.strip_prefix("summary: "));
    sum.and_then(|sum| sum.trim().parse().ok()).expect("a number of instructions")
}
