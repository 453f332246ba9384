//! The process as an operator meets it: its exit status, its one line of complaint, its log, its memory.

use tokio::net::TcpStream;

use crate::support::bodies;
use crate::support::port::Port;
use crate::support::sidecar::{Sidecar, resident_kilobytes, run};
use crate::support::stub::Stub;

const LONG: f64 = 60.0;

#[tokio::test]
async fn a_bad_value_ends_the_start_with_64_and_one_line() {
    for (variable, value) in [
        ("AGGREGATE_PROMETHEUS_METRICS_PORT", "http"),
        ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", "70000"),
        ("QPEXT_SCRAPE_TIMEOUT", "10"),
        ("QPEXT_UNTYPED", "yes\nno"),
    ] {
        let (status, said) = run(&[(variable, value)]).await;
        assert_eq!(status, 64, "{variable}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with(&format!("qpext: {variable}={value:?}: expected ")), "{said}");
    }
}

#[tokio::test]
async fn an_argument_ends_the_start_with_64_and_one_line() {
    let output = crate::support::sidecar::command(&[]).arg("--port=9").output().await.unwrap();
    assert_eq!(output.status.code(), Some(64));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1);
    assert!(said.contains("'--port'"), "{said}");
}

#[tokio::test]
async fn a_target_that_is_the_sidecar_itself_ends_the_start_with_64() {
    let free = Port::new();
    let (port, targets) = (free.number().to_string(), format!("self=http://{}/x", free.address()));
    let variables = [("AGGREGATE_PROMETHEUS_METRICS_PORT", port.as_str()), ("QPEXT_TARGETS", &targets)];
    let (status, said) = run(&variables).await;
    assert_eq!(status, 64, "{said}");
    assert!(said.starts_with("qpext: QPEXT_TARGETS[self].url="), "{said}");
    assert!(said.contains("on which this sidecar itself serves"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[tokio::test]
async fn the_start_says_what_is_scraped_and_what_was_ignored() {
    let sidecar =
        Sidecar::start(&[("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", "8080"), ("QPEXT_SCRAPE_TIMOUT", "1s")]).await;
    let before = sidecar.log_before_serving.join("\n");
    assert!(before.contains("QPEXT_SCRAPE_TIMOUT"), "{before}");
    let targets = "queue-proxy=http://localhost:9091/metrics app=http://localhost:8080/metrics";
    assert!(before.contains(targets), "{before}");
}

#[tokio::test]
async fn a_port_that_is_taken_ends_the_start_and_is_named() {
    let taken = Port::new();
    let (_listener, port) = (taken.listen(), taken.number().to_string());
    let variables = [("AGGREGATE_PROMETHEUS_METRICS_PORT", port.as_str()), ("QPEXT_BIND_ADDRESS", "127.0.0.1")];
    for variables in [&variables[..], &variables[..1]] {
        let (status, said) = run(variables).await;
        assert_eq!(status, 1, "{said}");
        assert!(said.contains(&format!("AGGREGATE_PROMETHEUS_METRICS_PORT=\"{port}\"")), "{said}");
        assert!(said.contains("Address already in use"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[tokio::test]
async fn all_addresses_are_served_by_default_and_one_if_it_is_named() {
    let all = Sidecar::start(&[]).await;
    assert!(TcpStream::connect(("127.0.0.1", all.port)).await.is_ok());
    assert!(TcpStream::connect(("127.0.0.2", all.port)).await.is_ok());
    assert!(TcpStream::connect(("::1", all.port)).await.is_ok());
    // A port that nobody else serves at the other addresses.
    let port = Port::new();
    let number = port.number().to_string();
    let one =
        Sidecar::start(&[("QPEXT_BIND_ADDRESS", "127.0.0.2"), ("AGGREGATE_PROMETHEUS_METRICS_PORT", &number)]).await;
    assert!(TcpStream::connect(("127.0.0.2", one.port)).await.is_ok());
    assert!(TcpStream::connect(("127.0.0.1", one.port)).await.is_err());
    assert!(TcpStream::connect(("::1", one.port)).await.is_err());
}

#[tokio::test]
async fn the_log_is_json_or_text_and_can_be_filtered() {
    let gone = Stub::absent();
    let port = gone.port().to_string();
    let queue_proxy = ("QPEXT_QUEUE_PROXY_METRICS_PORT", port.as_str());

    let mut json = Sidecar::start(&[queue_proxy]).await;
    json.scrape(LONG).await;
    let line = json.logged("target failed").await;
    let event: serde_json::Value = serde_json::from_str(&line).expect("one JSON object a line");
    assert_eq!(event["level"], "WARN");
    assert_eq!(event["target"], "queue-proxy");
    assert!(event["error"].as_str().unwrap().contains("Connection refused"), "{line}");

    let mut text = Sidecar::start(&[queue_proxy, ("QPEXT_LOG_FORMAT", "text"), ("QPEXT_LOG", "debug")]).await;
    text.scrape(LONG).await;
    let line = text.logged("target failed").await;
    assert!(line.contains(" WARN ") && line.contains("target=\"queue-proxy\""), "{line}");
    assert!(!line.contains('\u{1b}'), "no colours in a container's log");
}

#[tokio::test]
async fn a_hundred_megabytes_go_through_in_constant_memory() {
    let body = bodies::vllm(100 << 20);
    let samples = body.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"vllm:")).count();
    let app = Stub::text(body).await;
    let port = app.port().to_string();
    let variables =
        [("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", port.as_str()), ("QPEXT_QUEUE_PROXY_METRICS_PORT", "")];
    let sidecar = Sidecar::start(&variables).await;
    let idle = resident_kilobytes(sidecar.id(), "VmRSS:");
    let answer = sidecar.scrape(LONG).await;
    let arrived = answer.text.lines().filter(|line| line.starts_with("vllm:")).count();
    assert_eq!(arrived, samples);
    let peak = resident_kilobytes(sidecar.id(), "VmHWM:");
    println!("{idle} kB resident before, {peak} kB at the peak");
    // A debug build, so not the documented figures; holding the body would take ten times as much.
    assert!(idle < 20_000 && peak < 30_000, "{idle} kB, {peak} kB");
}

#[tokio::test]
async fn a_log_that_nobody_reads_stops_nothing() {
    let gone = Stub::absent();
    let port = gone.port().to_string();
    let variables = [("QPEXT_QUEUE_PROXY_METRICS_PORT", port.as_str()), ("QPEXT_LOG", "debug")];
    let sidecar = Sidecar::start(&variables).await;
    // Each scrape logs more than 200 bytes; a pipe holds 64 KiB.
    for _ in 0..1000 {
        assert_eq!(sidecar.scrape(LONG).await.status, 503);
    }
}
