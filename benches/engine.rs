//! The exposition engine on one core: bytes of a target's body read in a second.
//!
//! `cargo bench --bench engine` prints a throughput for each body. A body is pushed in slices of the size the sidecar
//! pushes, into a buffer that is emptied as a socket would.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use qpext::exposition::{
    End, Engine, Escaping, Families, Format, LabelSet, OpenMetricsVersion, Rules, Spelling, TextVersion, Untyped,
    engine, verbatim,
};

#[path = "../tests/suite/support/bodies.rs"]
mod bodies;
#[path = "../tests/suite/support/protobuf.rs"]
mod protobuf;

/// About the size of an application with many models.
const BODY_BYTES: usize = 4 << 20;

/// Bytes pushed at once.
const SLICE: usize = 16 << 10;

fn rules() -> Rules {
    let labels = [
        ("service_name", "sklearn-iris-predictor"),
        ("configuration_name", "sklearn-iris-predictor"),
        ("revision_name", "sklearn-iris-predictor-00001"),
    ];
    Rules::new(LabelSet::new(labels).expect("the names are label names"), Untyped::Convert)
}

const TEXT: Format = Format::Text(TextVersion::V0_0_4);
const OPEN_METRICS: Format = Format::OpenMetrics(OpenMetricsVersion::V1_0_0);

fn run(mut engine: Box<dyn Engine + Send>, body: &[u8], out: &mut Vec<u8>) -> u64 {
    let mut families = Families::default();
    for slice in body.chunks(SLICE) {
        out.clear();
        engine.push(slice, &mut families, out);
        black_box(&out);
    }
    engine.finish(End::Whole, &mut families, out);
    engine.progress().counts().samples
}

fn bench(criterion: &mut Criterion, name: &str, body: &[u8], engine: impl Fn() -> Box<dyn Engine + Send>) {
    let mut out = Vec::new();
    let mut group = criterion.benchmark_group("engine");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function(name, |bencher| {
        bencher.iter(|| run(engine(), black_box(body), &mut out));
    });
    group.finish();
}

/// For a scraper that reads no quoted names where it is text, and any elsewhere.
fn between(from: Format, format: Format, rules: &Rules) -> Box<dyn Engine + Send> {
    let escaping = match (from, format) {
        (Format::Text(_), Format::Text(_)) | (Format::Protobuf, _) => Escaping::Underscores,
        _ => Escaping::AllowUtf8,
    };
    engine(from, Spelling { format, escaping }, rules).expect("it is one of the matrix")
}

fn lines(criterion: &mut Criterion) {
    let rules = rules();
    for (name, body) in [
        ("text/vllm", bodies::vllm(BODY_BYTES)),
        ("text/short-lines", bodies::short_lines(BODY_BYTES)),
        ("text/colliding-labels", bodies::colliding_labels(BODY_BYTES)),
        ("text/many-labels", bodies::many_labels(BODY_BYTES)),
    ] {
        bench(criterion, name, &body, || between(TEXT, TEXT, &rules));
    }
    let text = bodies::vllm(BODY_BYTES);
    bench(criterion, "text/verbatim", &text, || {
        verbatim(Spelling { format: TEXT, escaping: Escaping::Underscores }, &Rules::default())
    });
    bench(criterion, "text-to-protobuf", &text, || between(TEXT, Format::Protobuf, &rules));
    let open_metrics = bodies::open_metrics(BODY_BYTES);
    bench(criterion, "openmetrics", &open_metrics, || between(OPEN_METRICS, OPEN_METRICS, &rules));
    bench(criterion, "openmetrics-to-text", &open_metrics, || between(OPEN_METRICS, TEXT, &rules));
    bench(criterion, "openmetrics-to-protobuf", &open_metrics, || between(OPEN_METRICS, Format::Protobuf, &rules));
}

fn messages(criterion: &mut Criterion) {
    let rules = rules();
    for (name, body) in [
        ("typical", protobuf::typical(BODY_BYTES)),
        ("native", protobuf::native(BODY_BYTES)),
        ("colliding-labels", protobuf::colliding(BODY_BYTES)),
    ] {
        bench(criterion, &format!("protobuf/{name}"), &body, || between(Format::Protobuf, Format::Protobuf, &rules));
        bench(criterion, &format!("protobuf-to-text/{name}"), &body, || between(Format::Protobuf, TEXT, &rules));
    }
}

criterion_group!(benches, lines, messages);
criterion_main!(benches);
