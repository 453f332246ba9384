//! The real binary from end to end, beside nginx passing the same body through: `cargo bench --bench end_to_end`.
//!
//! nginx (from the PATH; `scripts/bench` installs it) is both: the application, which serves a body from a file, and
//! the measure, which passes that body through as a proxy. One client asks both in turn over one connection each, so
//! that whatever else the machine does happens to both. What counts is the ratio, never a lone time.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

#[path = "../tests/suite/support/bodies.rs"]
mod bodies;

/// A body's name, its size in bytes, and how often it is asked for.
const BODIES: [(&str, usize, usize); 2] = [("1 MB", 1_000_000, 400), ("12.5 MB", 12_500_000, 60)];

/// The body whose passage must not be seen in the memory.
const LARGE: usize = 100_000_000;

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() {
    let folder = std::env::temp_dir().join(format!("qpext-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a temporary folder");
    println!("{:<10} {:>12} {:>12} {:>14} {:>14}", "app body", "qpext", "nginx", "qpext/nginx", "app bytes/s");
    for (name, bytes, times) in BODIES {
        let body = bodies::vllm(bytes);
        let nginx = Nginx::start(&folder, &body);
        let sidecar = Sidecar::start(nginx.app);
        let (own, proxied) = measure(sidecar.port, nginx.proxy, times);
        println!(
            "{name:<10} {:>9.2} ms {:>9.2} ms {:>14.2} {:>9.0} MB/s",
            milliseconds(own),
            milliseconds(proxied),
            own.as_secs_f64() / proxied.as_secs_f64(),
            body.len() as f64 / own.as_secs_f64() / 1e6,
        );
    }
    let nginx = Nginx::start(&folder, &bodies::vllm(LARGE));
    let sidecar = Sidecar::start(nginx.app);
    let idle = sidecar.memory("VmRSS:");
    Client::connect(sidecar.port).get();
    println!("resident: {idle:.1} MB when idle, {:.1} MB at the peak of a 100 MB body", sidecar.memory("VmHWM:"));
    let binary = fs::metadata(PROGRAM).expect("it was built").len();
    println!("binary: {:.1} MB", binary as f64 / 1e6);
    let _ = fs::remove_dir_all(folder);
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The median times of one request to each, asked in turn.
fn measure(own: u16, proxy: u16, times: usize) -> (Duration, Duration) {
    let (mut own, mut proxy) = (Client::connect(own), Client::connect(proxy));
    let mut taken = (Vec::new(), Vec::new());
    for _ in 0..times {
        taken.0.push(own.get());
        taken.1.push(proxy.get());
    }
    (median(taken.0), median(taken.1))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// One connection.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        Self { stream, buffer: vec![0; 256 << 10] }
    }

    /// Asks once, reads the answer to its end, and returns how long that took.
    fn get(&mut self) -> Duration {
        let started = Instant::now();
        self.stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("it reads");
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            let read = self.read();
            head.extend_from_slice(&self.buffer[..read]);
        }
        let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
        assert!(text.starts_with("http/1.1 200"), "{}", text.lines().next().unwrap_or_default());
        let head_end = text.find("\r\n\r\n").expect("it was just found") + 4;
        match text[..head_end].split_once("content-length: ") {
            Some((_, length)) => {
                let length: usize = length.lines().next().and_then(|length| length.parse().ok()).expect("a number");
                let mut left = length - (head.len() - head_end);
                while left > 0 {
                    left -= self.read();
                }
            }
            None => {
                let mut tail = head;
                while !tail.ends_with(b"\r\n0\r\n\r\n") {
                    let read = self.read();
                    tail.drain(..tail.len().saturating_sub(7));
                    tail.extend_from_slice(&self.buffer[read.saturating_sub(7)..read]);
                }
            }
        }
        started.elapsed()
    }

    fn read(&mut self) -> usize {
        let read = self.stream.read(&mut self.buffer).expect("it answers");
        assert!(read > 0, "the answer breaks off");
        read
    }
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_qpext");

struct Sidecar {
    port: u16,
    process: Running,
}

impl Sidecar {
    fn start(app: u16) -> Self {
        let port = free_port();
        let mut command = Command::new(PROGRAM);
        command
            .env_clear()
            .env("AGGREGATE_PROMETHEUS_METRICS_PORT", port.to_string())
            .env("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", app.to_string())
            .env("QPEXT_QUEUE_PROXY_METRICS_PORT", "")
            .env("SERVING_SERVICE", "iris")
            .env("SERVING_CONFIGURATION", "iris-predictor")
            .env("SERVING_REVISION", "iris-predictor-00001");
        Self { port, process: Running::start(command, port) }
    }

    /// A line of the kernel's account of the process, in MB.
    fn memory(&self, line: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.0.id())).expect("it runs");
        let line = status.lines().find_map(|text| text.strip_prefix(line)).expect("the kernel tells");
        let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
        kilobytes * 1024.0 / 1e6
    }
}

/// One nginx that serves a body at one port and passes it through at another.
struct Nginx {
    app: u16,
    proxy: u16,
    _process: Running,
}

impl Nginx {
    fn start(folder: &Path, body: &[u8]) -> Self {
        let (app, proxy) = (free_port(), free_port());
        fs::write(folder.join("metrics"), body).expect("a writable folder");
        let config: PathBuf = folder.join("nginx.conf");
        let text = format!(
            "daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr crit;
             events {{ worker_connections 64; }}
             http {{
                 access_log off; sendfile on; default_type text/plain; keepalive_requests 1000000;
                 client_body_temp_path {folder}/client; proxy_temp_path {folder}/proxy;
                 fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
                 upstream app {{ server 127.0.0.1:{app}; keepalive 2; }}
                 server {{ listen 127.0.0.1:{app}; root {folder}; }}
                 server {{
                     listen 127.0.0.1:{proxy};
                     location / {{
                         proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection '';
                         proxy_max_temp_file_size 0;
                     }}
                 }}
             }}",
            folder = folder.display()
        );
        fs::write(&config, text).expect("a writable folder");
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&config).arg("-e").arg("stderr");
        Self { app, proxy, _process: Running::start(command, proxy) }
    }
}

/// A process that is ended with its owner.
struct Running(Child);

impl Running {
    /// Starts a server and waits until it listens.
    fn start(mut command: Command, port: u16) -> Self {
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program is on the PATH");
        let running = Self(child);
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "{command:?} does not listen");
            sleep(Duration::from_millis(10));
        }
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // nginx ends its worker when it is asked to, not when it is killed.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.expect("a free port").port()
}
