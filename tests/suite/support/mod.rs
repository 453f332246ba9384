//! What the tests are made with: one stub target, one running sidecar, one scraper, one independent reader.

pub mod bodies;
pub mod prometheus;
pub mod protobuf;
pub mod reader;
pub mod sidecar;
pub mod stub;

use std::sync::Arc;

use qpext::exposition::{Counts, End, Engine as _, Families, LabelSet, Names, Relabel, Untyped, Verbatim};

/// The labels that most tests add.
pub const SERVING_LABELS: [(&str, &str); 3] = [
    ("service_name", "iris"),
    ("configuration_name", "iris-predictor"),
    ("revision_name", "iris-predictor-00001"),
];

/// [`SERVING_LABELS`] as they stand in a sample.
pub const SERVING: &str =
    r#"service_name="iris",configuration_name="iris-predictor",revision_name="iris-predictor-00001""#;

/// How a body is cut into the chunks that reach the engine.
#[derive(Debug, Clone, Copy)]
pub enum Cut<'a> {
    /// Not at all.
    Whole,
    /// Into single bytes.
    EveryByte,
    /// At these places.
    At(&'a [usize]),
}

impl Cut<'_> {
    pub fn chunks(self, body: &[u8]) -> Vec<&[u8]> {
        match self {
            Self::Whole => vec![body],
            Self::EveryByte => body.chunks(1).collect(),
            Self::At(places) => {
                let mut places: Vec<usize> = places.iter().map(|place| place % (body.len() + 1)).collect();
                places.sort_unstable();
                let mut chunks = Vec::new();
                let mut start = 0;
                for place in places {
                    chunks.push(&body[start..place]);
                    start = place;
                }
                chunks.push(&body[start..]);
                chunks
            }
        }
    }
}

/// An application's body through the engine, with [`SERVING_LABELS`].
pub fn relabel(body: &[u8], untyped: Untyped, cut: Cut<'_>, end: End) -> (Vec<u8>, Counts) {
    merge(None, body, untyped, cut, end)
}

/// A queue-proxy's body, if there is one, and an application's.
pub fn merge(queue_proxy: Option<&[u8]>, app: &[u8], untyped: Untyped, cut: Cut<'_>, end: End) -> (Vec<u8>, Counts) {
    let labels = Arc::new(LabelSet::new(SERVING_LABELS).expect("the names are label names"));
    let mut out = Vec::new();
    let mut families = Families::default();
    if let Some(body) = queue_proxy {
        let mut engine = Verbatim::default();
        for chunk in cut.chunks(body) {
            engine.push(chunk, &mut families, &mut out);
        }
        engine.finish(End::Whole, &mut families, &mut out);
        families.turn_to(1);
    }
    let mut engine = Relabel::new(labels, untyped, Names::Underscores);
    for chunk in cut.chunks(app) {
        engine.push(chunk, &mut families, &mut out);
    }
    engine.finish(end, &mut families, &mut out);
    (out, engine.counts())
}
