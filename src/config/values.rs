//! What stands in one variable: words, filters, durations, lists. In: its text. Out: its meaning, or nothing.

use std::time::Duration;

use tracing_subscriber::filter::{LevelFilter, Targets as LogFilter};

use super::{CONTAINER_NAME, Compression, LogFormat};
use crate::exposition::{LabelSet, Untyped};

pub(super) fn untyped(value: &str) -> Option<Untyped> {
    Some(match value {
        "convert" => Untyped::Convert,
        "drop" => Untyped::Drop,
        "keep" => Untyped::Keep,
        _ => return None,
    })
}

pub(super) fn compression(value: &str) -> Option<Compression> {
    Some(match value {
        "off" => Compression::Off,
        "gzip" => Compression::Gzip,
        "zstd" => Compression::Zstd,
        "auto" => Compression::Auto,
        _ => return None,
    })
}

/// A filter as tracing has it, except that each part must name a level: tracing takes a word that is none, a misspelt
/// level for example, for a module, and logs nothing else.
pub(super) fn log_filter(value: &str) -> Option<LogFilter> {
    let names_level = |part: &str| {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        !level.is_empty() && level.parse::<LevelFilter>().is_ok()
    };
    if value.split(',').all(names_level) {
        value.parse().ok()
    } else {
        None
    }
}

pub(super) fn log_format(value: &str) -> Option<LogFormat> {
    Some(match value {
        "json" => LogFormat::Json,
        "text" => LogFormat::Text,
        _ => return None,
    })
}

pub(super) const DURATION: &str = "a duration above 0 as Prometheus writes it, such as 500ms, 10s or 1m";

/// A duration as Prometheus writes it (`ParseDuration` in prometheus/common, `model/time.go`): whole numbers with the
/// units y, w, d, h, m, s and ms, from the largest to the smallest, each at most once.
pub(super) fn duration(value: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 7] = [
        ("y", 365 * 24 * 3_600_000),
        ("w", 7 * 24 * 3_600_000),
        ("d", 24 * 3_600_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    let mut milliseconds = 0u64;
    let mut units = UNITS.iter();
    let mut rest = value;
    while !rest.is_empty() {
        let number_end = rest.find(|character: char| !character.is_ascii_digit())?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after
            .find(|character: char| character.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let (_, factor) = units.find(|(name, _)| *name == unit)?;
        let part = number.parse::<u64>().ok()?.checked_mul(*factor)?;
        milliseconds = milliseconds.checked_add(part)?;
        rest = after;
    }
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
}

pub(super) fn boolean(value: &str) -> Option<bool> {
    match value {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// A path, and perhaps a query, as it stands in a request.
pub(super) fn path(text: &str) -> Option<String> {
    let is_path = text.starts_with('/') && !text.contains('#') && text.parse::<http::uri::PathAndQuery>().is_ok();
    is_path.then(|| text.to_owned())
}

/// Three names with commas between them.
pub(super) fn serving_label_names(value: &str) -> Option<[String; 3]> {
    let names: Vec<String> = value.split(',').map(|name| name.trim().to_owned()).collect();
    let names: [String; 3] = names.try_into().ok()?;
    let is_taken = |(index, name): (usize, &String)| is_reserved(name) || names[..index].contains(name);
    let is_wrong =
        names.iter().enumerate().any(is_taken) || LabelSet::new(names.iter().map(|name| (name, ""))).is_err();
    (!is_wrong).then_some(names)
}

/// Pairs with commas between them, whose names are not among `taken`.
pub(super) fn extra_labels(value: &str, taken: &[String]) -> Option<Vec<(String, String)>> {
    if value.trim().is_empty() {
        return Some(Vec::new());
    }
    let pairs = value.split(',').map(|pair| {
        let (name, value) = pair.split_once('=')?;
        // To Prometheus an empty label is none.
        let value = value.trim();
        (!value.is_empty()).then(|| (name.trim().to_owned(), value.to_owned()))
    });
    let pairs: Vec<(String, String)> = pairs.collect::<Option<_>>()?;
    let is_wrong = pairs.iter().any(|(name, _)| is_reserved(name) || taken.contains(name))
        || LabelSet::new(pairs.iter().cloned()).is_err();
    (!is_wrong).then_some(pairs)
}

/// Whether no added label may have this name: those that tell a target's own series apart, those of the sidecar's own
/// metrics, and those that Prometheus takes away (its names with two underscores).
fn is_reserved(name: &str) -> bool {
    matches!(
        name,
        CONTAINER_NAME | "le" | "quantile" | "target" | "reason" | "version"
    ) || name.starts_with("__")
}
