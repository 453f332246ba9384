//! The metrics of the sidecar itself, by Prometheus's conventions, rendered by its own client library.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};

use super::state::Outcome;

/// What the names of all families begin with that are written here.
pub(crate) const PREFIX: &str = "qpext_";

/// The usual size of all of them, in bytes.
const USUAL_SIZE: usize = 8 << 10;

/// What tells one target's series from another's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfTarget {
    target: Arc<str>,
}

/// The same, and why something happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfTargetAndReason {
    target: Arc<str>,
    reason: &'static str,
}

impl OfTarget {
    pub(super) fn new(target: &str) -> Self {
        Self { target: target.into() }
    }

    pub(super) fn because(&self, reason: &'static str) -> OfTargetAndReason {
        OfTargetAndReason { target: Arc::clone(&self.target), reason }
    }
}

/// The gauges of one scrape, in the order of the targets.
#[derive(Debug)]
struct OfScrape(Vec<(OfTarget, Outcome)>);

impl OfScrape {
    fn encode_gauge<N>(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, unit, help): (&str, Option<&Unit>, &str),
        value: impl Fn(&Outcome) -> N,
    ) -> fmt::Result
    where
        ConstGauge<N>: EncodeMetric,
    {
        let mut gauge = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (label, outcome) in &self.0 {
            ConstGauge::new(value(outcome)).encode(gauge.encode_family(label)?)?;
        }
        Ok(())
    }
}

impl Collector for OfScrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let up = ("qpext_target_up", None, "Whether the target was scraped to its end.");
        self.encode_gauge(&mut encoder, up, |outcome| u64::from(outcome.result.is_ok()))?;
        let how_long = "How long the target took: until its head, and from its body's turn to its end.";
        let duration = ("qpext_target_scrape_duration", Some(&Unit::Seconds), how_long);
        self.encode_gauge(&mut encoder, duration, |outcome| outcome.duration.as_secs_f64())?;
        let samples = ("qpext_target_samples", None, "Samples of the target in this answer.");
        self.encode_gauge(&mut encoder, samples, |outcome| outcome.counts.samples)?;
        let age = "How old what is written of the target is, which is gone while the sidecar leaves.";
        if self.0.iter().any(|(_, outcome)| outcome.kept_for.is_some()) {
            let name = "qpext_target_last_scrape_age";
            let mut gauge = encoder.encode_descriptor(name, age, Some(&Unit::Seconds), MetricType::Gauge)?;
            for (label, outcome) in &self.0 {
                if let Some(age) = outcome.kept_for {
                    ConstGauge::new(age.as_secs_f64()).encode(gauge.encode_family(label)?)?;
                }
            }
        }
        let bytes = ("qpext_target_body", Some(&Unit::Bytes), "Bytes that the target sent, decoded.");
        self.encode_gauge(&mut encoder, bytes, |outcome| outcome.body_bytes)
    }
}

#[derive(Debug)]
pub(super) struct Counters {
    pub(super) scrapes: Counter,
    pub(super) failures: Family<OfTargetAndReason, Counter>,
    pub(super) dropped_lines: Family<OfTargetAndReason, Counter>,
    pub(super) family_conflicts: Counter,
    registry: Registry,
}

impl Default for Counters {
    fn default() -> Self {
        let (scrapes, failures, dropped_lines) = (Counter::default(), Family::default(), Family::default());
        let family_conflicts = Counter::default();
        let mut registry = Registry::default();
        // No info, which prometheus/common's reader of OpenMetrics refuses, and with it the whole answer.
        let build = Family::<Vec<(&str, &str)>, Gauge>::default();
        build.get_or_create(&vec![("version", env!("CARGO_PKG_VERSION"))]).set(1);
        registry.register("qpext_build_info", "Which sidecar this is", build);
        registry.register("qpext_scrapes", "Scrapes of the pod that began", scrapes.clone());
        registry.register("qpext_scrape_failures", "Scrapes of the target that failed", failures.clone());
        let help = "Lines of the target that are not in the answers";
        registry.register("qpext_dropped_lines", help, dropped_lines.clone());
        let help = "Metric families to which two targets gave two types in one scrape";
        registry.register("qpext_family_conflicts", help, family_conflicts.clone());
        Self { scrapes, failures, dropped_lines, family_conflicts, registry }
    }
}

impl Counters {
    /// Renders everything, the gauges from what came of one scrape.
    pub(super) fn exposition(&self, outcomes: Vec<(OfTarget, Outcome)>) -> String {
        let mut gauges = Registry::default();
        gauges.register_collector(Box::new(OfScrape(outcomes)));
        let mut text = String::with_capacity(USUAL_SIZE);
        let rendered = encode_registry(&mut text, &self.registry).and_then(|()| encode(&mut text, &gauges));
        rendered.expect("a String takes any text");
        text
    }
}
