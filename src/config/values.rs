//! Text and value: what may stand in a variable, and how it is written down again, each beside the other.
//!
//! In: a text. Out: what it means, or nothing; and back. What std's `parse` and `to_string` do already is not here.

use std::mem;
use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::filter::{LevelFilter, Targets as LogFilter};

use super::{CONTAINER_NAME, Compression, LogFormat};
use crate::exposition::{LabelSet, Untyped};

pub(super) const TEXT: &str = "a text, not empty";
pub(super) const FILE: &str = "the path of a file";
pub(super) const BOOLEAN: &str = "true or false";

/// What is one of a few words: each value with its word.
pub(super) const UNTYPED: [(&str, Untyped); 3] =
    [("convert", Untyped::Convert), ("drop", Untyped::Drop), ("keep", Untyped::Keep)];
pub(super) const COMPRESSION: [(&str, Compression); 4] =
    [("off", Compression::Off), ("gzip", Compression::Gzip), ("zstd", Compression::Zstd), ("auto", Compression::Auto)];
pub(super) const LOG_FORMAT: [(&str, LogFormat); 2] = [("json", LogFormat::Json), ("text", LogFormat::Text)];

pub(super) fn word<T: Copy>(words: &[(&str, T)], text: &str) -> Option<T> {
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
}

pub(super) fn show_word<T: PartialEq>(words: &[(&str, T)], value: T) -> String {
    let word = words.iter().find(|(_, other)| *other == value);
    word.map_or_else(String::new, |(word, _)| (*word).to_owned())
}

/// The units of a duration as Prometheus writes it (`ParseDuration` in prometheus/common, `model/time.go`), in
/// milliseconds.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// A duration above 0: whole numbers with units, from the largest to the smallest, each at most once.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut milliseconds = 0u64;
    let mut units = UNITS.iter();
    let mut rest = text;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|character: char| !character.is_ascii_digit())?);
        let unit_end = after.find(|character: char| character.is_ascii_digit());
        let (unit, after) = after.split_at(unit_end.unwrap_or(after.len()));
        let (_, factor) = units.find(|(name, _)| *name == unit)?;
        let part = number.parse::<u64>().ok()?.checked_mul(*factor)?;
        milliseconds = milliseconds.checked_add(part)?;
        rest = after;
    }
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
}

/// The same, or none at all.
pub(super) fn duration_or_none(text: &str) -> Option<Duration> {
    match text {
        "0" | "0s" => Some(Duration::ZERO),
        text => duration(text),
    }
}

/// A duration in the largest unit that it is a whole number of, up to minutes.
pub(super) fn show_duration(duration: Duration) -> String {
    if duration.is_zero() {
        return "0s".to_owned();
    }
    let milliseconds = duration.as_millis();
    let is_whole = |(_, factor): &&(&str, u64)| milliseconds.is_multiple_of(u128::from(*factor));
    let (unit, factor) = UNITS[4..].iter().find(is_whole).expect("1 divides all");
    format!("{}{unit}", milliseconds / u128::from(*factor))
}

/// A filter as tracing has it, except that each part must name a level: tracing takes a word that is none, a misspelt
/// level for example, for a module, and logs nothing else.
pub(super) fn log_filter(text: &str) -> Option<LogFilter> {
    let names_level = |part: &str| {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        !level.is_empty() && level.parse::<LevelFilter>().is_ok()
    };
    text.split(',').all(names_level).then(|| text.parse().ok())?
}

/// A file; whether it is there is not seen here.
pub(super) fn file(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| text.into())
}

/// A path, and perhaps a query, as it stands in a request.
pub(super) fn path(text: &str) -> Option<String> {
    let is_path = text.starts_with('/') && !text.contains('#') && text.parse::<http::uri::PathAndQuery>().is_ok();
    is_path.then(|| text.to_owned())
}

/// Three names with commas between them.
pub(super) fn serving_names(text: &str) -> Option<[String; 3]> {
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    may_be_added(names.iter()).then(|| names.try_into().ok())?
}

/// Pairs with commas between them, whose names are not among `taken`.
pub(super) fn extra_labels(text: &str, taken: &[String]) -> Option<Vec<(String, String)>> {
    if text.trim().is_empty() {
        return Some(Vec::new());
    }
    let pairs = text.split(',').map(|pair| {
        let (name, value) = pair.split_once('=')?;
        // To Prometheus an empty label is none.
        let value = value.trim();
        (!value.is_empty()).then(|| (name.trim().to_owned(), value.to_owned()))
    });
    let pairs: Vec<(String, String)> = pairs.collect::<Option<_>>()?;
    let names = taken.iter().chain(pairs.iter().map(|(name, _)| name));
    may_be_added(names).then_some(pairs)
}

/// Whether labels of these names may be added: each is one, none comes twice, and none is reserved. Reserved are those
/// that tell a target's own series apart, those of the sidecar's own metrics, and those that Prometheus takes away (its
/// names with two underscores).
fn may_be_added<'a>(names: impl Iterator<Item = &'a String> + Clone) -> bool {
    const RESERVED: [&str; 6] = [CONTAINER_NAME, "le", "quantile", "target", "reason", "version"];
    let is_reserved = |name: &String| RESERVED.contains(&name.as_str()) || name.starts_with("__");
    !names.clone().any(is_reserved) && LabelSet::new(names.map(|name| (name, ""))).is_ok()
}

/// ` (did you mean this?)`, where one of the names that there are is spelt nearly as this one that is none.
pub(super) fn did_you_mean(name: &str, names: impl Iterator<Item = &'static str>) -> String {
    let edits = |other: &str| edits(&name.to_lowercase(), &other.to_lowercase());
    // One in six letters may be wrong, but not one of five, of which another name may be as near.
    let most = (name.len() / 6).min(3);
    let near = names.map(|other| (edits(other), other)).filter(|(edits, _)| *edits <= most);
    near.min().map_or_else(String::new, |(_, other)| format!(" (did you mean {other}?)"))
}

/// How many letters have to be put in, left out or changed to make one word of another (Levenshtein's distance).
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, letter) in from.chars().enumerate() {
        let mut diagonal = mem::replace(&mut row[0], index + 1);
        for (column, other) in to.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal.min(row[column]) + 1);
        }
    }
    row[to.len()]
}
