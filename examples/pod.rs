//! A whole pod on one machine: a queue-proxy, a model server and the sidecar in front of them, in one process.
//!
//! In: a few flags. Out: three endpoints on the loopback address, and on standard output what to try on them. The two
//! targets are stand-ins that know how to send numbers that move and how to hang; everything between them and the
//! scraper is the library, set up as `main.rs` does it.

use std::convert::Infallible;
use std::env;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use qpext::aggregate::Aggregator;
use qpext::config::{Config, ConfigError, Listen};
use qpext::server::{self, Settings};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

const HELP: &str = "\
Runs a whole pod on this machine: stand-ins for a queue-proxy and a vLLM server, and qpext in front of them.

Usage: pod [--port N] [--queue-proxy-port N] [--app-port N]

  --port N              the port on which qpext serves the pod [9088]
  --queue-proxy-port N  the port of the queue-proxy's stand-in [9091]
  --app-port N          the port of the vLLM server's stand-in [8080]
  --help                this text

Port 0 picks a free one. All listen on 127.0.0.1 only. Ctrl-C ends the pod.
";

/// A bad argument (`EX_USAGE` in `sysexits.h`).
const USAGE: u8 = 64;

/// Requests to the model each second: enough that two scrapes by hand differ.
const REQUESTS_PER_SECOND: u64 = 3;

/// How long to wait before accepting again when the process has no file descriptor left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // An argument that is no text is no flag either; what it is turned into shows where it went wrong.
    let arguments = env::args_os().skip(1);
    let ports = match parse(arguments.map(|argument| argument.to_string_lossy().into_owned())) {
        Ok(Some(ports)) => ports,
        Ok(None) => {
            say(HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(USAGE, &error),
    };
    // The sidecar's own warnings are part of what there is to see.
    let log = tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false);
    log.with_max_level(tracing::Level::WARN).init();
    match run(ports).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}

/// Where the pod listens; 0 picks a free port.
struct Ports {
    pod: u16,
    queue_proxy: u16,
    app: u16,
}

/// Reads the flags; `None` is a call for help.
fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Ports>, String> {
    let (pod, queue_proxy, app) = (9088, 9091, 8080);
    let mut ports = Ports { pod, queue_proxy, app };
    while let Some(flag) = arguments.next() {
        let port = match flag.as_str() {
            "--port" => &mut ports.pod,
            "--queue-proxy-port" => &mut ports.queue_proxy,
            "--app-port" => &mut ports.app,
            "--help" | "-h" => return Ok(None),
            _ => return Err(format!("{flag:?}: no such flag; --help lists them")),
        };
        let value = arguments.next().unwrap_or_default();
        *port = value
            .parse()
            .map_err(|_| format!("{flag} {value:?}: expected a port from 0 to 65535, where 0 picks a free one"))?;
    }
    Ok(Some(ports))
}

async fn run(ports: Ports) -> Result<(), String> {
    // Listened to before anything is said: whoever reads the text may press Ctrl-C.
    let stop = stop_signal().map_err(|error| format!("cannot listen to signals: {error}"))?;
    // Every port is bound before the sidecar is configured, because it must be told which ones were picked.
    let (queue_proxy_port, queue_proxy) = bind("--queue-proxy-port", ports.queue_proxy)?;
    let (app_port, app) = bind("--app-port", ports.app)?;
    let (pod_port, pod) = bind("--port", ports.pod)?;
    let config = sidecar_config(pod_port, queue_proxy_port, app_port).map_err(|error| error.to_string())?;
    let aggregator = Aggregator::new(&config);
    tokio::spawn(stand_in(queue_proxy, queue_proxy_body));
    tokio::spawn(stand_in(app, app_body));
    say(&what_to_try(pod_port, queue_proxy_port, app_port));
    let settings = Settings::new(&config).map_err(|error| error.to_string())?;
    server::serve(pod, aggregator, settings, stop).await;
    Ok(())
}

/// Binds a port of the loopback address; returns it with the number it came to have.
fn bind(flag: &str, port: u16) -> Result<(u16, TcpListener), String> {
    let address = Some(Ipv4Addr::LOCALHOST.into());
    let listener = server::bind(Listen { address, port });
    listener
        .and_then(|listener| Ok((listener.local_addr()?.port(), listener)))
        .map_err(|error| format!("port {port} cannot be bound: {error}; choose another with {flag} N, or 0 for any"))
}

/// The sidecar's configuration, from the variables that it would find in a pod.
fn sidecar_config(pod: u16, queue_proxy: u16, app: u16) -> Result<Config, ConfigError> {
    let variables = [
        ("AGGREGATE_PROMETHEUS_METRICS_PORT", pod.to_string()),
        ("QPEXT_QUEUE_PROXY_METRICS_PORT", queue_proxy.to_string()),
        ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", app.to_string()),
        ("SERVING_SERVICE", "llama-predictor".to_owned()),
        ("SERVING_CONFIGURATION", "llama-predictor".to_owned()),
        ("SERVING_REVISION", "llama-predictor-00001".to_owned()),
    ];
    Config::from_variables(variables)
}

fn what_to_try(pod: u16, queue_proxy: u16, app: u16) -> String {
    format!(
        "\
queue-proxy    http://localhost:{queue_proxy}/metrics
app (vLLM)     http://localhost:{app}/metrics
the whole pod  http://localhost:{pod}/metrics

Scrape the whole pod:

    curl localhost:{pod}/metrics

The queue-proxy's lines come first, byte for byte, then the app's. Look for
  * service_name, configuration_name and revision_name on every sample of the app;
  * process_cpu_seconds_total, which both send: its # HELP and # TYPE stand there once;
  * adapter_loads_total, which the app sends without a type: it has become a gauge, as in KServe's qpext.

Then let the app hang, and scrape as a Prometheus that waits 2 seconds:

    curl localhost:{app}/hang
    curl -H 'X-Prometheus-Scrape-Timeout-Seconds: 2' localhost:{pod}/metrics

The answer ends after 1.5 seconds, without the app's lines; a warning here says why. When the queue-proxy hangs,
too (curl localhost:{queue_proxy}/hang), it is a 503 with the reasons. /recover lets a target answer again.

Ctrl-C ends the pod.
"
    )
}

/// Ready at the first SIGTERM or SIGINT.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        say("stopping: running scrapes are finished first\n");
    })
}

/// A program that plays one of the pod's containers.
struct StandIn {
    /// Its exposition after so many requests to the model. They never become fewer, nor do counters made of them.
    body: fn(u64) -> String,
    started: Instant,
    scrapes: AtomicU64,
    is_hanging: watch::Sender<bool>,
}

async fn stand_in(listener: TcpListener, body: fn(u64) -> String) {
    let stand_in = Arc::new(StandIn {
        body,
        started: Instant::now(),
        scrapes: AtomicU64::new(0),
        is_hanging: watch::Sender::new(false),
    });
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_BACKOFF).await;
            continue;
        };
        let stand_in = Arc::clone(&stand_in);
        tokio::spawn(async move {
            let service = service_fn(|request| stand_in.answer(request));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A client that leaves early, as the sidecar does when its target hangs, is no error here.
            let _ = connection.await;
        });
    }
}

/// What the stand-ins serve.
const TEXT_FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

impl StandIn {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let body = match request.uri().path() {
            "/metrics" => Some(self.scrape().await),
            "/hang" => Some(self.hang(true)),
            "/recover" => Some(self.hang(false)),
            _ => None,
        };
        let mut response = Response::new(Full::default());
        match body {
            Some(body) => *response.body_mut() = Full::from(body),
            None => *response.status_mut() = StatusCode::NOT_FOUND,
        }
        response.headers_mut().insert(CONTENT_TYPE, TEXT_FORMAT);
        Ok(response)
    }

    async fn scrape(&self) -> String {
        // An error would say that the sender is gone, and this is its owner.
        let _ = self.is_hanging.subscribe().wait_for(|is_hanging| !is_hanging).await;
        // Each scrape counts as a request, so that no two are alike however fast they follow each other.
        let scrapes = self.scrapes.fetch_add(1, Ordering::Relaxed);
        (self.body)(self.started.elapsed().as_secs() * REQUESTS_PER_SECOND + scrapes)
    }

    fn hang(&self, is_hanging: bool) -> String {
        self.is_hanging.send_replace(is_hanging);
        let does = if is_hanging { "hangs" } else { "answers" };
        format!("/metrics {does} from now on\n")
    }
}

/// Upper bounds of both histograms in seconds, with the part of all requests that take no longer, in percent.
const BUCKETS: [(&str, u64); 5] = [("0.1", 3), ("0.5", 21), ("1.0", 55), ("2.5", 90), ("10.0", 99)];

/// The mean of both histograms, in seconds.
const MEAN: f64 = 1.25;

fn histogram(name: &str, help: &str, labels: &str, count: u64) -> String {
    let mut text = format!("# HELP {name} {help}\n# TYPE {name} histogram\n");
    let cumulative = BUCKETS.map(|(bound, percent)| (bound, count * percent / 100));
    for (bound, below) in cumulative.into_iter().chain([("+Inf", count)]) {
        writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {below}").expect("a String takes any text");
    }
    let sum = MEAN * count as f64;
    text + &format!("{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {count}\n")
}

/// A few of the families that a queue-proxy of Knative 1.19 and later sends.
fn queue_proxy_body(requests: u64) -> String {
    let goroutines = 16 + requests % 5;
    let queue_depth = requests % 3;
    let cpu_seconds = 0.08 + requests as f64 / 1000.0;
    let duration = histogram(
        "http_server_request_duration_seconds",
        "Duration of HTTP server requests.",
        r#"http_request_method="POST",http_response_status_code="200",server_port="8012""#,
        requests,
    );
    format!(
        r#"# HELP go_goroutines Number of goroutines that currently exist.
# TYPE go_goroutines gauge
go_goroutines {goroutines}
{duration}# HELP kn_serving_queue_depth Number of current items in the queue proxy queue
# TYPE kn_serving_queue_depth gauge
kn_serving_queue_depth{{otel_scope_name="knative.dev/serving/pkg/queue"}} {queue_depth}
# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total {cpu_seconds:.3}
# HELP target_info Target metadata
# TYPE target_info gauge
target_info{{container_name="queue-proxy",kn_service_name="llama-predictor",service_name="llama-predictor"}} 1
"#
    )
}

/// A few of the families that vLLM sends, and `adapter_loads_total`, which has no type: as by an exporter made at home.
fn app_body(requests: u64) -> String {
    let running = 1 + requests % 7;
    let waiting = requests % 4;
    let prompt_tokens = 183 * requests;
    let adapter_loads = 2 * requests;
    let cpu_seconds = 41.7 + requests as f64 / 3.0;
    let model = r#"engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct""#;
    let latency = histogram(
        "vllm:e2e_request_latency_seconds",
        "Time from a request's arrival to its last token.",
        model,
        requests,
    );
    format!(
        r#"# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{{model}}} {running}.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{{{model}}} {waiting}.0
# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{{{model}}} {prompt_tokens}.0
{latency}# HELP http_requests_total Number of requests by method, status and handler.
# TYPE http_requests_total counter
http_requests_total{{handler="/v1/models/{{model_name}}:predict",method="POST",status="2xx"}} {requests}.0
adapter_loads_total{{adapter="sql"}} {adapter_loads}.0
# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total {cpu_seconds:.2}
"#
    )
}

/// Writes to standard output. Where that is closed, nobody is there to be told.
fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// Says in one line why the process ends. Where standard error is closed, the exit status has to do.
fn fail(status: u8, why: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "pod: {why}");
    ExitCode::from(status)
}
