//! What programs are told: one JSON for `/status.json` and for `check`. Times are RFC 3339, durations seconds.

use std::time::SystemTime;

use humantime::format_rfc3339_seconds;
use serde_json::{Map, Value, json};

use super::{About, Now, target_of, unwritten};
use crate::check::Report;
use crate::exposition::{Conflict, DropReason, FindingKind};
use crate::telemetry::{Apart, TargetState};

pub(crate) fn status(about: &About, is: &Now) -> Value {
    let configuration = about.configuration.iter();
    let configuration = configuration.map(|(variable, value)| (variable.name.to_owned(), json!(value)));
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started": time(about.started),
        "stale_files": is.stale_files,
        "not_together": is.apart.as_ref().map(Apart::in_words),
        "family_conflicts": conflicts(&is.conflicts, &is.targets),
        "targets": targets(&is.targets),
        "labels": about.labels,
        "configuration": Map::from_iter(configuration),
    })
}

/// What `check` found. Its readers know what a strict reader says as remarks, and as findings whatever is to be mended.
pub fn report(report: &Report) -> Value {
    let findings = report.findings.iter().map(|finding| {
        json!({
            "kind": finding.kind.as_str(),
            "is_finding": report.is_to_be_mended(finding.kind),
            "target": report.target_of(finding.line),
            "line": finding.line,
            "earlier_target": finding.earlier.map(|line| report.target_of(line)),
            "earlier_line": finding.earlier,
            "text": finding.text,
        })
    });
    let counts = FindingKind::ALL.map(|kind| (kind.as_str().to_owned(), json!(report.counts.get(&kind).unwrap_or(&0))));
    json!({
        "findings": report.to_be_mended(),
        "warnings": report.warnings,
        "targets": targets(&report.targets),
        "unwritten": unwritten(&report.targets, report.apart.as_ref()),
        "not_together": report.apart.as_ref().map(Apart::in_words),
        "answer": {"content_type": report.content_type, "bytes": report.bytes},
        "family_conflicts": report.conflicts,
        "named_conflicts": conflicts(&report.named_conflicts, &report.targets),
        "remarks": findings.collect::<Vec<_>>(),
        "samples_not_compared": report.not_remembered,
        "remark_counts": Map::from_iter(counts),
    })
}

fn targets(states: &[TargetState]) -> Vec<Value> {
    states.iter().map(target).collect()
}

fn target(state: &TargetState) -> Value {
    let last_scrape = state.last.as_ref().map(|(at, outcome)| {
        let dropped = DropReason::ALL.map(|reason| (reason.as_str().to_owned(), json!(outcome.counts.dropped(reason))));
        json!({
            "at": time(*at),
            "error": outcome.result.as_ref().err().map(ToString::to_string),
            "kept_for_seconds": outcome.kept_for.map(|age| age.as_secs_f64()),
            "duration_seconds": outcome.duration.as_secs_f64(),
            "samples": outcome.counts.samples,
            "body_bytes": outcome.body_bytes,
            "format": outcome.format.map(|format| format.to_string()),
            "odd_content_type": outcome.odd_type,
            "stale_file": outcome.stale_file,
            "unwritten": {
                "exemplars": outcome.counts.unwritten.exemplars,
                "native_histograms": outcome.counts.unwritten.native_histograms,
                "utf8_names": outcome.counts.unwritten.utf8_names,
            },
            "retyped_families": outcome.counts.retyped,
            "torn_metrics": outcome.counts.torn,
            "dropped_lines": Map::from_iter(dropped),
        })
    });
    let last_failure = state
        .last_failure
        .as_ref()
        .map(|(at, error)| json!({"at": time(*at), "reason": error.reason(), "error": error.to_string()}));
    let last_dropped_line = state.last_dropped.as_ref().map(|(at, dropped)| {
        json!({"at": time(*at), "reason": dropped.reason.as_str(), "line": dropped.line, "text": dropped.text})
    });
    json!({
        "name": state.name,
        "url": state.address,
        "state": state.word(),
        "since": state.since.map(time),
        "last_scrape": last_scrape,
        "last_failure": last_failure,
        "last_dropped_line": last_dropped_line,
    })
}

fn conflicts(conflicts: &[Conflict], targets: &[TargetState]) -> Vec<Value> {
    let conflicts = conflicts.iter().map(|conflict| {
        json!({
            "family": conflict.family,
            "type": conflict.types.first,
            "other_type": conflict.types.second,
            "target": target_of(conflict, targets),
        })
    });
    conflicts.collect()
}

fn time(at: SystemTime) -> String {
    format_rfc3339_seconds(at).to_string()
}
