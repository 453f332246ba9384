//! What people and probes are told in plain text: why there is no answer, who is ready, what `check` found.

use std::fmt::{Display, Write as _};

use super::{notes, target_of};
use crate::check::Report;
use crate::config::QUEUE_PROXY;
use crate::exposition::{Finding, FindingKind, Types};
use crate::scrape::ScrapeError;
use crate::telemetry::TargetState;

/// Why there is no answer: how each target failed.
pub(crate) fn unavailable<F: Display>(failures: impl IntoIterator<Item = F>) -> String {
    let failures = failures.into_iter().map(|failure| failure.to_string());
    lines(["no target could be scraped".to_owned()].into_iter().chain(failures))
}

/// Each target's state in a line.
pub(crate) fn readiness(states: &[TargetState]) -> String {
    lines(states.iter().map(|state| {
        let failure = state.last.as_ref().and_then(|(_, outcome)| outcome.result.as_ref().err());
        let failure = failure.map(|error| format!(": {error}")).unwrap_or_default();
        format!("{}: {}{failure}", state.name, state.word())
    }))
}

/// What `check` found.
pub fn report(report: &Report) -> String {
    let mut text = table(&report.targets);
    text.push(String::new());
    text.extend_from_slice(&report.warnings);
    for state in &report.targets {
        text.extend(of_target(state, report));
    }
    if report.conflicts > 0 {
        let conflicts = report.conflicts;
        text.push(format!("metric families with one type in one target and another in another: {conflicts}"));
    }
    for conflict in &report.named_conflicts {
        let Types { first, second } = conflict.types;
        let target = target_of(conflict, &report.targets);
        text.push(format!("  {}: {first} in the answer, {second} in {target}", conflict.family));
    }
    text.extend(notes(&report.targets, report.apart.as_ref()).map(|note| format!("a note, no finding: {note}")));
    for kind in FindingKind::ALL {
        text.extend(of_kind(kind, report));
    }
    if report.not_remembered > 0 {
        text.push(format!("samples that were not compared with others, for want of room: {}", report.not_remembered));
    }
    text.push(match &report.content_type {
        None => "no answer: a scraper would get 503".to_owned(),
        Some(content_type) => format!("{} bytes of {content_type}", report.bytes),
    });
    text.push(match report.to_be_mended() {
        0 => "nothing to be mended".to_owned(),
        1 => "1 finding".to_owned(),
        findings => format!("{findings} findings"),
    });
    lines(text)
}

/// A row for each target, below what the columns are.
fn table(states: &[TargetState]) -> Vec<String> {
    let mut rows = vec![["TARGET", "STATE", "FORMAT", "SECONDS", "SAMPLES", "BYTES", "DROPPED"].map(str::to_owned)];
    rows.extend(states.iter().map(row));
    let widths: [usize; 7] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].len());
        cells.max().unwrap_or_default()
    });
    let rows = rows.iter().map(|row| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    rows.collect()
}

fn row(state: &TargetState) -> [String; 7] {
    let of_scrape = match &state.last {
        None => [const { String::new() }; 5].map(|_| "-".to_owned()),
        Some((_, outcome)) => [
            outcome.format.map_or_else(|| "-".to_owned(), |format| format.to_string()),
            format!("{:.3}", outcome.duration.as_secs_f64()),
            outcome.counts.samples.to_string(),
            outcome.body_bytes.to_string(),
            outcome.counts.dropped_in_words(),
        ],
    };
    let [format, seconds, samples, bytes, dropped] = of_scrape;
    let (name, word) = (state.name.clone(), state.word().to_owned());
    [name, word, format, seconds, samples, bytes, dropped]
}

fn of_target(state: &TargetState, report: &Report) -> Vec<String> {
    let (name, mut text) = (&state.name, Vec::new());
    let Some((_, outcome)) = &state.last else { return text };
    if let Err(error) = &outcome.result {
        text.push(format!("{name} ({}) {error}", state.address));
    }
    if name == QUEUE_PROXY && matches!(outcome.result, Err(ScrapeError::Unreachable(_))) {
        text.push(
            "  where it serves no metrics, or there is none, set QPEXT_QUEUE_PROXY_METRICS_PORT to nothing".to_owned(),
        );
    }
    if let Some(told) = outcome.told_of_type() {
        text.push(format!("a note, no finding: {name} {told}"));
    }
    if report.is_filtered_away(state) {
        text.push(format!(
            "{name}: QPEXT_KEEP_METRICS and QPEXT_DROP_METRICS leave nothing of it; they are matched with names of \
             families, as in # TYPE, not of samples"
        ));
    }
    if outcome.counts.torn > 0 {
        text.push(format!(
            "{name} has metrics whose samples do not fit together, so that each is written by itself: {}",
            outcome.counts.torn
        ));
    }
    if outcome.counts.retyped > 0 {
        text.push(format!(
            "a note, no finding: {name} has untyped families that are given a type: {}",
            outcome.counts.retyped
        ));
    }
    if let Some(first) = &outcome.first_dropped {
        let (line, reason, what) = (first.line, first.reason.as_str(), &first.text);
        text.push(format!("{name}: line {line} of its body is the first dropped, as {reason}: {what}"));
    }
    text
}

/// The findings of a kind: how many there are, and the first of them.
fn of_kind(kind: FindingKind, report: &Report) -> Vec<String> {
    let Some(count) = report.counts.get(&kind) else {
        return Vec::new();
    };
    let note = match report.is_to_be_mended(kind) {
        true => "",
        false => "a note, no finding: ",
    };
    let mut text = vec![format!("{note}{}: {count}", title(kind))];
    let shown = report.findings.iter().filter(|finding| finding.kind == kind);
    text.extend(shown.map(|finding| of_finding(finding, report)));
    let more = *count + 1 - text.len() as u64;
    if more > 0 {
        text.push(format!("  and {more} more"));
    }
    text
}

fn of_finding(finding: &Finding, report: &Report) -> String {
    let (line, target, what) = (finding.line, report.target_of(finding.line), &finding.text);
    let mut text = format!("  line {line} of the answer, from {target}: {what}");
    if let Some(line) = finding.earlier {
        write!(text, ", first in line {line}, from {}", report.target_of(line)).expect("a String takes any text");
    }
    text
}

fn title(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::Unreadable => "lines that Prometheus does not read, so that the scrape is lost",
        FindingKind::DuplicateSeries => {
            "samples of a series that the answer already has, of which Prometheus keeps one"
        }
        FindingKind::SecondMetadata => "metadata that the answer already has, which strict readers reject",
        FindingKind::LateMetadata => "metadata behind samples of their families, which strict readers reject",
        FindingKind::NoInfBucket => "histograms without a bucket for +Inf, which strict readers reject",
        FindingKind::UnorderedBuckets => "histograms whose buckets are out of order, which OpenMetrics forbids",
        FindingKind::BadBuckets => "histograms whose buckets do not rise up to their count",
        FindingKind::BadValue => "values that a family of the type cannot have",
        FindingKind::SplitFamily => "families in two places, which text allows and OpenMetrics does not",
    }
}

fn lines(lines: impl IntoIterator<Item = String>) -> String {
    let lines = lines.into_iter().map(|line| line + "\n");
    lines.collect()
}
