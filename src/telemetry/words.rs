//! What is known of a target, in words and as JSON.

use std::time::SystemTime;

use humantime::format_rfc3339_seconds;
use serde_json::{Map, Value, json};

use super::TargetState;
use crate::exposition::{Conflict, DropReason};

impl TargetState {
    /// Whether it is `up` or `down`; `unknown` before its first scrape.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self.is_up() {
            None => "unknown",
            Some(true) => "up",
            Some(false) => "down",
        }
    }

    /// All of it, with where the target is. Times are RFC 3339, durations seconds.
    #[must_use]
    pub fn to_json(&self, address: &str) -> Value {
        let last_scrape = self.last.as_ref().map(|(at, outcome)| {
            let dropped = DropReason::ALL.iter();
            let dropped = dropped.map(|reason| (reason.as_str().to_owned(), json!(outcome.counts.dropped(*reason))));
            json!({
                "at": time(*at),
                "error": outcome.result.as_ref().err().map(ToString::to_string),
                "duration_seconds": outcome.duration.as_secs_f64(),
                "samples": outcome.counts.samples,
                "body_bytes": outcome.body_bytes,
                "format": outcome.format.map(|format| format.to_string()),
                "stale_file": outcome.stale_file,
                "dropped_lines": dropped.collect::<Map<_, _>>(),
            })
        });
        let last_failure = self
            .last_failure
            .as_ref()
            .map(|(at, error)| json!({"at": time(*at), "reason": error.reason(), "error": error.to_string()}));
        let last_dropped_line = self.last_offence.as_ref().map(|(at, offence)| {
            json!({"at": time(*at), "reason": offence.reason.as_str(), "line": offence.line, "text": offence.text})
        });
        json!({
            "name": self.name,
            "url": address,
            "state": self.word(),
            "since": self.since.map(time),
            "last_scrape": last_scrape,
            "last_failure": last_failure,
            "last_dropped_line": last_dropped_line,
        })
    }
}

/// A conflict as JSON, with the names of these targets.
#[must_use]
pub fn conflict<'a>(conflict: &Conflict, targets: impl IntoIterator<Item = &'a TargetState>) -> Value {
    json!({
        "family": conflict.family,
        "type": conflict.types.first,
        "other_type": conflict.types.second,
        "target": target_of(conflict, targets),
    })
}

/// The name of the target that gave a family a second type.
#[must_use]
pub fn target_of<'a>(conflict: &Conflict, targets: impl IntoIterator<Item = &'a TargetState>) -> &'a str {
    let target = targets.into_iter().nth(conflict.target);
    target.map_or("qpext", |target| &target.name)
}

/// A time as RFC 3339 has it, in whole seconds.
#[must_use]
pub fn time(at: SystemTime) -> String {
    format_rfc3339_seconds(at).to_string()
}
