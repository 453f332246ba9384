//! The protobuf engines on one core: bytes of a target's body read in a second.
//!
//! `cargo bench --bench protobuf` prints a throughput for each body. A body is pushed in slices of the size the sidecar
//! pushes, into a buffer that is emptied as a socket would.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use qpext::exposition::{End, Engine as _, Families, LabelSet, Names, ProtobufToText, Splice, Untyped};

#[path = "../tests/suite/support/protobuf.rs"]
mod protobuf;

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

fn splice(body: &[u8], labels: &Arc<LabelSet>, out: &mut Vec<u8>) -> u64 {
    let mut families = Families::default();
    let mut engine = Splice::new(Arc::clone(labels), Untyped::Convert, Names::Underscores);
    for slice in body.chunks(SLICE) {
        out.clear();
        engine.push(slice, &mut families, out);
        black_box(&out);
    }
    engine.finish(End::Whole, &mut families, out);
    engine.counts().samples
}

fn to_text(body: &[u8], labels: &Arc<LabelSet>, out: &mut Vec<u8>) -> u64 {
    let mut families = Families::default();
    let mut engine = ProtobufToText::new(Arc::clone(labels), Untyped::Convert, Names::Underscores);
    for slice in body.chunks(SLICE) {
        out.clear();
        engine.push(slice, &mut families, out);
        black_box(&out);
    }
    engine.finish(End::Whole, &mut families, out);
    engine.counts().samples
}

fn engines(criterion: &mut Criterion) {
    let labels = labels();
    let mut out = Vec::new();
    let mut group = criterion.benchmark_group("protobuf");
    let colliding = protobuf::colliding(BODY_BYTES);
    for (name, body) in [
        ("typical", protobuf::typical(BODY_BYTES)),
        ("native", protobuf::native(BODY_BYTES)),
        ("colliding-labels", colliding),
    ] {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(format!("splice/{name}"), |bencher| {
            bencher.iter(|| splice(black_box(&body), &labels, &mut out));
        });
        group.bench_function(format!("to-text/{name}"), |bencher| {
            bencher.iter(|| to_text(black_box(&body), &labels, &mut out));
        });
    }
    group.finish();
}

criterion_group!(benches, engines);
criterion_main!(benches);
