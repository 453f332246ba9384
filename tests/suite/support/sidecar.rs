//! The real binary, run as a container would run it, and a scraper that behaves like Prometheus.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, StatusCode};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use super::reader::{Exposition, read};
use super::stub::Stub;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_qpext");

/// A sidecar that serves. Dropped, it is killed.
pub struct Sidecar {
    pub port: u16,
    /// What it logged until it served, that line included.
    pub log_before_serving: Vec<String>,
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
}

/// An answer to a scrape.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    /// What a reader of text sees of it, which must take it.
    #[track_caller]
    pub fn read(&self) -> Exposition {
        read(self.text.as_bytes()).unwrap_or_else(|error| panic!("{error} in\n{}", self.text))
    }
}

/// A command that runs the program with these variables and no others.
pub fn command(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

impl Sidecar {
    /// Starts the program, without metrics of its own unless they are asked for, and waits until it serves.
    pub async fn start(variables: &[(&str, &str)]) -> Self {
        let mut all = vec![("AGGREGATE_PROMETHEUS_METRICS_PORT", "0"), ("QPEXT_SELF_METRICS", "false")];
        all.extend_from_slice(variables);
        Self::spawn(command(&all)).await
    }

    /// Starts what runs the program, and waits until it serves.
    pub async fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the program was built");
        let stderr = child.stderr.take().expect("it is piped");
        let mut log = BufReader::new(stderr).lines();
        let mut log_before_serving = Vec::new();
        loop {
            let line = log.next_line().await.expect("it is text").expect("the program serves");
            let port = port_served(&line);
            log_before_serving.push(line);
            if let Some(port) = port {
                return Self { port, log_before_serving, child, log };
            }
        }
    }

    /// Starts it before a queue-proxy and an application, with the labels of [`super::SERVING_LABELS`].
    pub async fn for_pod(queue_proxy: &Stub, app: &Stub, variables: &[(&str, &str)]) -> Self {
        let ports = (queue_proxy.port().to_string(), app.port().to_string());
        let mut all = vec![
            ("QPEXT_QUEUE_PROXY_METRICS_PORT", ports.0.as_str()),
            ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", ports.1.as_str()),
            ("SERVING_SERVICE", "iris"),
            ("SERVING_CONFIGURATION", "iris-predictor"),
            ("SERVING_REVISION", "iris-predictor-00001"),
        ];
        all.extend_from_slice(variables);
        Self::start(&all).await
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Scrapes as Prometheus does: says its timeout, and gives up at it.
    pub async fn scrape(&self, timeout_seconds: f64) -> Answer {
        scrape(&self.url("/metrics"), timeout_seconds).await.expect("a whole answer before the timeout")
    }

    pub fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Sends a signal, as `kill` does.
    pub async fn signal(&self, name: &str) {
        let killed = Command::new("kill").args(["-s", name, &self.id().to_string()]).status().await;
        assert!(killed.expect("kill is there").success());
    }

    /// Waits for the program's end.
    pub async fn ended(&mut self) -> ExitStatus {
        self.child.wait().await.expect("it was started")
    }

    /// The next line of its log that holds `words`.
    pub async fn logged(&mut self, words: &str) -> String {
        loop {
            let line = self.log.next_line().await.expect("it is text").expect("the program runs");
            if line.contains(words) {
                return line;
            }
        }
    }

    /// The rest of its log, to its end.
    pub async fn rest_of_log(&mut self) -> String {
        let mut rest = String::new();
        self.log.get_mut().read_to_string(&mut rest).await.expect("it is text");
        rest
    }
}

/// The port in the line that says it is served, in either log format.
pub fn port_served(line: &str) -> Option<u16> {
    if !line.contains("serving /metrics") {
        return None;
    }
    let (_, rest) = line.split_once("port\":").or_else(|| line.split_once(" port="))?;
    rest.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

/// One scrape, as [`Sidecar::scrape`].
pub async fn scrape(url: &str, timeout_seconds: f64) -> Result<Answer, reqwest::Error> {
    scrape_patiently(url, timeout_seconds, timeout_seconds).await
}

/// One scrape by a scraper that says one timeout and gives up at another.
pub async fn scrape_patiently(url: &str, says_seconds: f64, waits_seconds: f64) -> Result<Answer, reqwest::Error> {
    let response = client()
        .get(url)
        .header("x-prometheus-scrape-timeout-seconds", says_seconds.to_string())
        .header("user-agent", "Prometheus/2.42.0")
        .timeout(Duration::from_secs_f64(waits_seconds))
        .send()
        .await?;
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await?;
    Ok(Answer { status, headers, text })
}

/// A plain HTTP client.
pub fn client() -> Client {
    Client::builder()
        .no_proxy()
        // There is no provider that it could take by itself.
        .tls_backend_preconfigured(super::tls::client())
        .build()
        .expect("a client needs nothing")
}

/// Runs the program to its end with these variables: its exit status and what it said.
pub async fn run(variables: &[(&str, &str)]) -> (i32, String) {
    let output = command(variables).output().await.expect("the program was built");
    let status = output.status.code().unwrap_or_else(|| -output.status.signal().unwrap_or(0));
    (status, String::from_utf8(output.stderr).expect("it is text"))
}

/// A figure of the process's memory, as `/proc` names it.
pub fn resident_kilobytes(process: u32, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|text| text.strip_prefix(line)).expect("the kernel tells");
    line.trim().trim_end_matches(" kB").parse().expect("a number of kB")
}
