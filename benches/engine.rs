//! The exposition engine on one core: bytes of a target's body read in a second.
//!
//! `cargo bench --bench engine` prints a throughput for each body. A body is pushed in slices of the size the sidecar
//! pushes, into a buffer that is emptied as a socket would.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use qpext::exposition::{End, Families, LabelSet, Relabel, Untyped, Verbatim};

#[path = "../tests/suite/support/bodies.rs"]
mod bodies;

/// About the size of an application with many models.
const BODY_BYTES: usize = 4 << 20;

/// Bytes pushed at once.
const SLICE: usize = 16 << 10;

fn labels() -> Arc<LabelSet> {
    let labels = [
        ("service_name", "sklearn-iris-predictor"),
        ("configuration_name", "sklearn-iris-predictor"),
        ("revision_name", "sklearn-iris-predictor-00001"),
    ];
    Arc::new(LabelSet::new(labels).expect("the names are label names"))
}

fn relabel(body: &[u8], labels: &Arc<LabelSet>, out: &mut Vec<u8>) -> u64 {
    let mut families = Families::default();
    let mut engine = Relabel::new(Arc::clone(labels), Untyped::Convert);
    for slice in body.chunks(SLICE) {
        out.clear();
        engine.push(slice, &mut families, out);
        black_box(&out);
    }
    engine.finish(End::Whole, &mut families, out);
    engine.counts().samples
}

fn verbatim(body: &[u8], out: &mut Vec<u8>) -> u64 {
    let mut families = Families::default();
    let mut engine = Verbatim::default();
    for slice in body.chunks(SLICE) {
        out.clear();
        engine.push(slice, &mut families, out);
        black_box(&out);
    }
    engine.finish(End::Whole, &mut families, out);
    engine.counts().samples
}

fn engine(criterion: &mut Criterion) {
    let labels = labels();
    let mut out = Vec::new();
    let mut group = criterion.benchmark_group("engine");
    for (name, body) in [
        ("relabel/vllm", bodies::vllm(BODY_BYTES)),
        ("relabel/short-lines", bodies::short_lines(BODY_BYTES)),
        ("relabel/colliding-labels", bodies::colliding_labels(BODY_BYTES)),
        ("relabel/many-labels", bodies::many_labels(BODY_BYTES)),
    ] {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| relabel(black_box(&body), &labels, &mut out));
        });
    }
    let body = bodies::vllm(BODY_BYTES);
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("verbatim/vllm", |bencher| {
        bencher.iter(|| verbatim(black_box(&body), &mut out));
    });
    group.finish();
}

criterion_group!(benches, engine);
criterion_main!(benches);
