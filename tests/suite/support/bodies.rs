//! Bodies of any size, for tests and benchmarks: what real applications serve, with moving numbers.

use std::fmt::Write as _;

/// Histogram buckets of vLLM's latency metrics.
const BUCKETS: [&str; 12] =
    ["0.001", "0.005", "0.01", "0.02", "0.04", "0.06", "0.08", "0.1", "0.25", "0.5", "0.75", "+Inf"];

/// Histogram buckets of the latencies of Knative's queue-proxy.
const QUEUE_PROXY_BUCKETS: [&str; 15] =
    ["0.005", "0.01", "0.025", "0.05", "0.075", "0.1", "0.25", "0.5", "0.75", "1", "2.5", "5", "7.5", "10", "+Inf"];

/// Text as a vLLM server of many engines serves it: names with `:`, histograms with many buckets, label values with `{}`
/// and `/`.
pub fn vllm(bytes: usize) -> Vec<u8> {
    vllm_of(40, bytes)
}

/// As [`vllm`], of so many engines: the fewer there are, the more families it takes to fill the body.
pub fn vllm_of(engines: usize, bytes: usize) -> Vec<u8> {
    let mut body = String::with_capacity(bytes + 64 * 1024);
    let mut family = 0;
    while body.len() < bytes {
        let name = format!("vllm:request_stage_{family}_seconds");
        let _ = writeln!(body, "# HELP {name} Histogram of the time a request spends in stage {family}.");
        let _ = writeln!(body, "# TYPE {name} histogram");
        for series in 0..engines {
            let labels = format!(r#"engine="{series}",model_name="meta-llama/Llama-3.1-8B-Instruct""#);
            for (index, le) in BUCKETS.iter().enumerate() {
                let _ = writeln!(body, "{name}_bucket{{{labels},le=\"{le}\"}} {}.0", index * 1037 + series);
            }
            let _ = writeln!(body, "{name}_sum{{{labels}}} {}.7283491", series * 311);
            let _ = writeln!(body, "{name}_count{{{labels}}} {}.0", (BUCKETS.len() - 1) * 1037 + series);
        }
        let name = format!("vllm:http_requests_{family}_total");
        let _ = writeln!(body, "# HELP {name} Number of requests by handler and status.");
        let _ = writeln!(body, "# TYPE {name} counter");
        for status in ["2xx", "4xx", "5xx"] {
            let labels = format!(r#"handler="/v1/models/{{model_name}}:predict",status="{status}""#);
            let _ = writeln!(body, "{name}{{{labels}}} {}.0", family * 31 + status.len());
        }
        family += 1;
    }
    body.into_bytes()
}

/// Text as Knative's queue-proxy serves it: gauges of the Go runtime with a family each, and histograms of requests whose
/// lines have many labels, almost all of them the same.
#[allow(dead_code, reason = "the tests that share this file do not all need it")]
pub fn queue_proxy(bytes: usize) -> Vec<u8> {
    let scope = r#"otel_scope_name="go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp",otel_scope_schema_url="",otel_scope_version="0.69.0""#;
    let mut body = String::with_capacity(bytes + 16 * 1024);
    let mut family = 0;
    while body.len() < bytes {
        for gauge in 0..8 {
            let name = format!("go_memstats_{family}_{gauge}_bytes");
            let _ = writeln!(
                body,
                "# HELP {name} Number of bytes in use by allocations of kind {gauge}, or obtained from the system for them."
            );
            let _ = writeln!(body, "# TYPE {name} gauge\n{name} {}.{gauge}31744e+06", 1 + family % 9);
        }
        let name = format!("http_server_request_duration_{family}_seconds");
        let labels = format!(
            r#"http_request_method="GET",http_response_status_code="200",kn_route_tag="kn:disabled",network_protocol_name="http",network_protocol_version="1.1",{scope},server_address="localhost",server_port="8012",url_scheme="http""#
        );
        let _ = writeln!(body, "# HELP {name} Duration of HTTP server requests.");
        let _ = writeln!(body, "# TYPE {name} histogram");
        for (index, le) in QUEUE_PROXY_BUCKETS.iter().enumerate() {
            let _ = writeln!(body, "{name}_bucket{{{labels},le=\"{le}\"}} {}", index * 3);
        }
        let _ = writeln!(body, "{name}_sum{{{labels}}} 0.03{family}1276");
        let _ = writeln!(body, "{name}_count{{{labels}}} 42");
        family += 1;
    }
    body.into_bytes()
}

/// Text of many models: from the first label's value on, no line is like the one before.
#[allow(dead_code, reason = "the tests that share this file do not all need it")]
pub fn many_models(bytes: usize) -> Vec<u8> {
    let mut body = String::with_capacity(bytes + 64 * 1024);
    let mut family = 0;
    while body.len() < bytes {
        let name = format!("kserve:requests_{family}_total");
        let _ = writeln!(body, "# HELP {name} Number of requests by model.");
        let _ = writeln!(body, "# TYPE {name} counter");
        for series in 0..500_u32 {
            // The factor is odd, so each number comes once, and large, so each differs from the next in the first digit.
            let model = series.wrapping_mul(0x9e37_79b1);
            let namespace = series % 7;
            let _ = writeln!(
                body,
                r#"{name}{{model_name="{model:08x}-sklearn-iris",namespace="team-{namespace}",code="200"}} {}.0"#,
                series * 31
            );
        }
        family += 1;
    }
    body.into_bytes()
}

/// OpenMetrics as a Python or Rust client serves it: histograms whose buckets have exemplars now and then, counters with
/// the time at which they were created.
#[allow(dead_code, reason = "the tests that share this file do not all need it")]
pub fn open_metrics(bytes: usize) -> Vec<u8> {
    let mut body = String::with_capacity(bytes + 64 * 1024);
    let mut family = 0;
    while body.len() < bytes {
        let name = format!("request_stage_{family}_seconds");
        let _ = writeln!(body, "# HELP {name} Time that a request spends in stage {family}.");
        let _ = writeln!(body, "# TYPE {name} histogram\n# UNIT {name} seconds");
        for series in 0..40 {
            let labels = format!(r#"engine="{series}",model_name="meta-llama/Llama-3.1-8B-Instruct""#);
            for (index, le) in BUCKETS.iter().enumerate() {
                let exemplar = match index {
                    7 => format!(" # {{trace_id=\"4bf92f3577b34da6a3ce929d0e0e{series:04}\"}} 0.0743 1700000000.123"),
                    _ => String::new(),
                };
                let value = index * 1037 + series;
                let _ = writeln!(body, "{name}_bucket{{{labels},le=\"{le}\"}} {value}.0{exemplar}");
            }
            let _ = writeln!(body, "{name}_count{{{labels}}} {}.0", (BUCKETS.len() - 1) * 1037 + series);
            let _ = writeln!(body, "{name}_sum{{{labels}}} {}.7283491", series * 311);
            let _ = writeln!(body, "{name}_created{{{labels}}} 1700000000.5");
        }
        let name = format!("http_requests_{family}");
        let _ = writeln!(body, "# HELP {name} Number of requests by handler and status.");
        let _ = writeln!(body, "# TYPE {name} counter");
        for status in ["2xx", "4xx", "5xx"] {
            let labels = format!(r#"handler="/v1/models/{{model_name}}:predict",status="{status}""#);
            let _ = writeln!(body, "{name}_total{{{labels}}} {}.0", family * 31 + status.len());
            let _ = writeln!(body, "{name}_created{{{labels}}} 1700000000.25");
        }
        family += 1;
    }
    body.push_str("# EOF\n");
    body.into_bytes()
}

/// Lines so short that the engine's cost for each line, not for each byte, is what counts.
#[allow(dead_code, reason = "the tests that share this file do not all need it")]
pub fn short_lines(bytes: usize) -> Vec<u8> {
    let mut body = String::with_capacity(bytes + 64);
    let mut family = 0;
    while body.len() < bytes {
        let _ = writeln!(body, "# TYPE m{family} gauge");
        for value in 0..50 {
            let _ = writeln!(body, "m{family}{{a=\"{value}\"}} {value}");
        }
        family += 1;
    }
    body.into_bytes()
}

/// Every sample already has a label of a name that the sidecar adds.
#[allow(dead_code, reason = "the tests that share this file do not all need it")]
pub fn colliding_labels(bytes: usize) -> Vec<u8> {
    let mut body = String::from("# TYPE target_requests counter\n");
    let mut series = 0;
    while body.len() < bytes {
        let _ = writeln!(
            body,
            r#"target_requests{{service_name="opentelemetry-demo",code="200",instance="{series}"}} {series}"#
        );
        series += 1;
    }
    body.into_bytes()
}

/// Samples with as many labels as some exporters give every one of theirs, no two lines alike before the last.
#[allow(dead_code, reason = "the tests that share this file do not all need it")]
pub fn many_labels(bytes: usize) -> Vec<u8> {
    let names = [
        "namespace",
        "pod",
        "uid",
        "node",
        "container",
        "image",
        "image_id",
        "image_spec",
        "container_id",
        "host_ip",
        "pod_ip",
        "created_by_kind",
        "created_by_name",
        "priority_class",
        "host_network",
    ];
    let mut body = String::from("# TYPE kube_pod_info gauge\n");
    let mut series = 0;
    while body.len() < bytes {
        let labels: Vec<String> = names.iter().map(|name| format!("{name}=\"{series}-{name}\"")).collect();
        let _ = writeln!(body, "kube_pod_info{{{}}} 1", labels.join(","));
        series += 1;
    }
    body.into_bytes()
}
