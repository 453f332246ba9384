//! Bodies of any size, for tests and benchmarks: what real applications serve, with moving numbers.

use std::fmt::Write as _;

/// Histogram buckets of vLLM's latency metrics.
const BUCKETS: [&str; 12] = [
    "0.001", "0.005", "0.01", "0.02", "0.04", "0.06", "0.08", "0.1", "0.25", "0.5", "0.75", "+Inf",
];

/// Text as vLLM serves it: names with `:`, histograms with many buckets, label values with `{}` and `/`.
pub fn vllm(bytes: usize) -> Vec<u8> {
    let mut body = String::with_capacity(bytes + 64 * 1024);
    let mut family = 0;
    while body.len() < bytes {
        let name = format!("vllm:request_stage_{family}_seconds");
        let _ = writeln!(
            body,
            "# HELP {name} Histogram of the time a request spends in stage {family}."
        );
        let _ = writeln!(body, "# TYPE {name} histogram");
        for series in 0..40 {
            let labels = format!(r#"engine="{series}",model_name="meta-llama/Llama-3.1-8B-Instruct""#);
            for (index, le) in BUCKETS.iter().enumerate() {
                let _ = writeln!(
                    body,
                    "{name}_bucket{{{labels},le=\"{le}\"}} {}.0",
                    index * 1037 + series
                );
            }
            let _ = writeln!(body, "{name}_sum{{{labels}}} {}.7283491", series * 311);
            let _ = writeln!(body, "{name}_count{{{labels}}} {}.0", series * 997);
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
            let _ = writeln!(body, "{name}_count{{{labels}}} {}.0", series * 997);
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
