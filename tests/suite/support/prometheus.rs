//! The real Prometheus: the one of the PATH, which is old, and its promtool (`scripts/test` installs them from Debian), and one of
//! version 3 (`scripts/readers` makes it).

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::POLL;
use super::directory::Directory;
use super::port::Port;
use super::readers;
use super::sidecar::client;

/// How long a real server may take to see what it must see: long, because the machine may be slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running Prometheus. Dropped, it is killed and its data removed.
pub struct Prometheus {
    url: String,
    _child: Child,
    _port: Port,
    _folder: Directory,
}

/// One element of a query's result: its labels and its value.
#[derive(Debug, Clone)]
pub struct Element {
    labels: Value,
    pub value: f64,
}

impl Element {
    /// A label's value, or nothing.
    pub fn label(&self, name: &str) -> &str {
        self.labels[name].as_str().unwrap_or_default()
    }
}

impl Prometheus {
    /// Starts a server with these `scrape_configs`, which are YAML.
    pub async fn start(scrape_configs: &str) -> Self {
        Self::start_with(scrape_configs, &[]).await
    }

    /// As [`Self::start`], with these features on.
    pub async fn start_with(scrape_configs: &str, features: &[&str]) -> Self {
        Self::start_program("prometheus", scrape_configs, features)
    }

    /// As [`Self::start_with`], of version 3.
    pub async fn start_three(scrape_configs: &str, features: &[&str]) -> Self {
        Self::start_program(&readers::path("QPEXT_PROMETHEUS3"), scrape_configs, features)
    }

    fn start_program(program: &str, scrape_configs: &str, features: &[&str]) -> Self {
        // It cannot be asked which port it picked.
        let port = Port::new();
        let folder = Directory::new();
        // A scrape may take as long as the interval, and a busy machine takes long; nor are hundreds of targets a load then.
        let text = format!("global: {{scrape_interval: 5s, scrape_timeout: 5s}}\nscrape_configs:\n{scrape_configs}");
        let config = folder.write("prometheus.yml", text);
        let child = Command::new(program)
            .arg(format!("--config.file={config}"))
            .arg(format!("--storage.tsdb.path={}", folder.path("data")))
            .arg(format!("--web.listen-address={}", port.address()))
            .args(features.iter().map(|feature| format!("--enable-feature={feature}")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}; scripts/test installs it"));
        Self { url: format!("http://{}", port.address()), _child: child, _port: port, _folder: folder }
    }

    /// What a query gives, once it gives `count` elements.
    pub async fn query(&self, query: &str, count: usize) -> Vec<Element> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let elements = self.query_now(query).await.unwrap_or_default();
            if elements.len() == count {
                return elements;
            }
            assert!(Instant::now() < deadline, "{query} gives {elements:#?}, expected {count} elements");
            sleep(POLL).await;
        }
    }

    /// `up` of each of so many targets, as it was when last they were scraped in time: on a busy machine a scrape may run
    /// out of it, which says nothing of the target.
    pub async fn up(&self, count: usize) -> Vec<Element> {
        self.query("last_over_time((up and scrape_duration_seconds < 4.9)[30s:1s])", count).await
    }

    /// The value of a query that gives one element.
    pub async fn value(&self, query: &str) -> f64 {
        self.query(query, 1).await[0].value
    }

    /// The exemplars of a series, once there are any.
    pub async fn exemplars(&self, series: &str) -> Vec<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // All there are, whenever they were.
            let form = [form_field("query", series), "start=0&end=9999999999".to_owned()].join("&");
            let data = self.post("query_exemplars", form).await.unwrap_or_default();
            let exemplars: Vec<Value> = data
                .as_array()
                .into_iter()
                .flatten()
                .flat_map(|series| series["exemplars"].as_array().cloned().unwrap_or_default())
                .collect();
            if !exemplars.is_empty() {
                return exemplars;
            }
            assert!(Instant::now() < deadline, "{series} has no exemplars: {data}");
            sleep(POLL).await;
        }
    }

    /// What a query gives now; nothing while the server starts.
    async fn query_now(&self, query: &str) -> Option<Vec<Element>> {
        let data = self.post("query", form_field("query", query)).await?;
        let elements = data["result"].as_array()?.iter().map(|element| Element {
            labels: element["metric"].clone(),
            value: element["value"][1].as_str().and_then(|value| value.parse().ok()).expect("a number"),
        });
        Some(elements.collect())
    }

    /// What the API answers now; nothing while the server starts.
    async fn post(&self, path: &str, form: String) -> Option<Value> {
        let request = client()
            .post(format!("{}/api/v1/{path}", self.url))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        let text = request.send().await.ok()?.text().await.ok()?;
        let mut answer: Value = serde_json::from_str(&text).ok()?;
        assert_ne!(answer["status"], "error", "{path}: {text}");
        Some(answer["data"].take())
    }
}

fn form_field(name: &str, value: &str) -> String {
    let encoded: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("{name}={encoded}")
}

/// Whether `promtool check metrics` can read a body, and what it says. Its opinions on naming are none of ours.
pub async fn promtool_reads(body: &[u8]) -> Result<(), String> {
    let (status, said) = promtool(body).await;
    // 3 says that it could read the body, and would have named something otherwise.
    match status {
        Some(0 | 3) => Ok(()),
        _ => Err(said),
    }
}

/// All that `promtool check metrics` has to say of a body.
pub async fn promtool_says(body: &[u8]) -> String {
    promtool(body).await.1
}

async fn promtool(body: &[u8]) -> (Option<i32>, String) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is on the PATH; scripts/test installs it");
    let mut stdin = promtool.stdin.take().expect("it is piped");
    stdin.write_all(body).await.expect("it reads");
    drop(stdin);
    let output = promtool.wait_with_output().await.expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}
