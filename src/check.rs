//! `qpext check`: one scrape, and what there is to say of it.
//!
//! In: the configuration. Out: a [`Report`] for people or programs. It runs where there is no shell and nothing else to
//! look with, so it says everything that a scraper's side of it would not.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::future::poll_fn;

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value, json};

use crate::aggregate::{Aggregator, Answer};
use crate::config::{Config, QUEUE_PROXY};
use crate::exposition::{Conflict, DropReason, Finding, FindingKind, Lint, Types};
use crate::scrape::ScrapeError;
use crate::telemetry::{TargetState, conflict, target_of};

/// What Prometheus asks for by default, except that text is read, where there is a choice, as what all targets speak.
const AS_PROMETHEUS: HeaderValue = HeaderValue::from_static(
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
     text/plain;version=0.0.4;q=0.3",
);

/// What came of one scrape.
#[derive(Debug)]
pub struct Report {
    /// The operator chose families by their names.
    has_filter: bool,
    /// What is odd about the configuration.
    warnings: Vec<String>,
    /// Each target's state, and where the target is.
    targets: Vec<(TargetState, String)>,
    /// Families to which two targets gave two types.
    conflicts: u64,
    /// Some of them.
    named_conflicts: Vec<Conflict>,
    /// The content type of the answer; none if there was none.
    content_type: Option<String>,
    /// The bytes of the answer.
    bytes: u64,
    remarks: Vec<Finding>,
    /// Whose lines these are: from which on, and a target's name.
    turns: Vec<(u64, String)>,
    /// How many remarks of each kind there would be.
    counts: HashMap<FindingKind, u64>,
    /// Samples of which only was seen whether they can be read.
    not_remembered: u64,
}

/// What the lines are that the sidecar itself writes.
const OWN: &str = "qpext";

/// Scrapes once.
///
/// # Errors
///
/// The HTTP client cannot be set up.
pub async fn check(config: &Config) -> Result<Report, reqwest::Error> {
    // Of the check's own metrics nobody wants to know.
    let mut config = config.clone();
    config.self_metrics = false;
    let config = &config;
    let aggregator = Aggregator::new(config)?;
    let headers = HeaderMap::from_iter([(ACCEPT, AS_PROMETHEUS)]);
    let mut report = Report {
        has_filter: config.filter.is_some(),
        warnings: config.warnings(),
        targets: Vec::new(),
        conflicts: 0,
        named_conflicts: Vec::new(),
        content_type: None,
        bytes: 0,
        remarks: Vec::new(),
        turns: Vec::new(),
        counts: HashMap::new(),
        not_remembered: 0,
    };
    // How each target failed, its state tells.
    if let Ok(mut answer) = aggregator.scrape(&headers).await {
        let content_type = String::from_utf8_lossy(answer.content_type().as_bytes()).into_owned();
        let mut lint = Lint::new(content_type.starts_with("application/openmetrics-text"));
        report.content_type = Some(content_type);
        while let Some(piece) = poll_fn(|cx| answer.poll_piece(cx)).await {
            report.read(&piece, &answer, &mut lint, config);
        }
        report.not_remembered = lint.not_remembered();
        (report.remarks, report.counts) = lint.finish();
    }
    let addresses = config.targets.iter().map(|target| target.address.to_string());
    report.targets = aggregator.telemetry().states().into_iter().zip(addresses).collect();
    report.conflicts = aggregator.telemetry().conflicts();
    report.named_conflicts = aggregator.telemetry().named_conflicts();
    Ok(report)
}

impl Report {
    /// Reads a piece of the answer, and notes whose lines it holds.
    fn read(&mut self, piece: &[u8], answer: &Answer, lint: &mut Lint, config: &Config) {
        let mut rest = piece;
        for turn in &answer.turns()[self.turns.len()..] {
            // No turn begins within a line.
            let (before, behind) = rest.split_at((turn.at - self.bytes) as usize);
            lint.push(before);
            self.bytes = turn.at;
            let name = config.targets.get(turn.target).map_or(OWN, |target| &target.name);
            self.turns.push((lint.lines() + 1, name.to_owned()));
            rest = behind;
        }
        lint.push(rest);
        self.bytes += rest.len() as u64;
    }

    fn states(&self) -> impl Iterator<Item = &TargetState> {
        self.targets.iter().map(|(state, _)| state)
    }

    /// Whose line this is.
    fn target_of(&self, line: u64) -> &str {
        let turns = self.turns.partition_point(|(first, _)| *first <= line);
        self.turns[..turns].last().map_or(OWN, |(_, name)| name)
    }

    /// Whether there is something to be mended: a target that is down, lines that had to be dropped, and whatever a
    /// reader may refuse or lose.
    #[must_use]
    pub fn has_findings(&self) -> bool {
        self.findings() > 0
    }

    /// Whether data is lost, or a reader may refuse it. A family in two places is no more than untidy in text, and nobody's
    /// fault where two targets have it.
    fn is_finding(&self, kind: FindingKind) -> bool {
        let is_within_a_target = |remark: &Finding| {
            let earlier = remark.earlier.map(|line| self.target_of(line));
            remark.kind == kind && earlier == Some(self.target_of(remark.line))
        };
        let is_text = |content_type: &String| content_type.starts_with("text/");
        kind != FindingKind::SplitFamily
            || !self.content_type.as_ref().is_some_and(is_text) && self.remarks.iter().any(is_within_a_target)
    }

    fn findings(&self) -> usize {
        let targets = self.targets.iter();
        let down = targets.clone().filter(|(state, _)| state.is_up() != Some(true)).count();
        let empty = targets
            .clone()
            .filter(|(state, _)| self.is_filtered_away(state))
            .count();
        let dropping = targets.filter(|(state, _)| lost(state) > 0).count();
        let remarks = self.counts.keys().filter(|kind| self.is_finding(**kind)).count();
        self.warnings.len() + down + empty + dropping + remarks + usize::from(self.conflicts > 0)
    }

    /// Whether nothing of a target is left, and that because of the filter.
    fn is_filtered_away(&self, state: &TargetState) -> bool {
        let counts = state.last.as_ref().map(|(_, outcome)| outcome.counts);
        self.has_filter && counts.is_some_and(|counts| counts.samples == 0 && counts.dropped(DropReason::Filtered) > 0)
    }

    /// The report as one JSON object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let targets = self.targets.iter();
        let remarks = self.remarks.iter().map(|remark| {
            json!({
                "kind": remark.kind.as_str(),
                "is_finding": self.is_finding(remark.kind),
                "target": self.target_of(remark.line),
                "line": remark.line,
                "earlier_target": remark.earlier.map(|line| self.target_of(line)),
                "earlier_line": remark.earlier,
                "text": remark.text,
            })
        });
        let conflicts = self.named_conflicts.iter().map(|it| conflict(it, self.states()));
        let counts = FindingKind::ALL.iter();
        let counts = counts.map(|kind| (kind.as_str().to_owned(), json!(self.counts.get(kind).unwrap_or(&0))));
        json!({
            "findings": self.findings(),
            "warnings": self.warnings,
            "targets": targets.map(|(state, address)| state.to_json(address)).collect::<Vec<_>>(),
            "answer": {"content_type": self.content_type, "bytes": self.bytes},
            "family_conflicts": self.conflicts,
            "named_conflicts": conflicts.collect::<Vec<_>>(),
            "remarks": remarks.collect::<Vec<_>>(),
            "samples_not_compared": self.not_remembered,
            "remark_counts": counts.collect::<Map<_, _>>(),
        })
    }

    /// The report for people.
    #[must_use]
    pub fn to_table(&self) -> String {
        let mut rows = vec![["TARGET", "STATE", "FORMAT", "SECONDS", "SAMPLES", "BYTES", "DROPPED"].map(str::to_owned)];
        rows.extend(self.targets.iter().map(|(state, _)| row(state)));
        let mut text = String::new();
        for row in &rows {
            let cells = row.iter().enumerate().map(|(column, cell)| {
                let width = rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
                format!("{cell:width$}")
            });
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text.push('\n');
        for warning in &self.warnings {
            say(&mut text, format_args!("{warning}"));
        }
        for (state, address) in &self.targets {
            self.say_of_target(state, address, &mut text);
        }
        if self.conflicts > 0 {
            let conflicts = self.conflicts;
            say(
                &mut text,
                format_args!("metric families with one type in one target and another in another: {conflicts}"),
            );
            for conflict in &self.named_conflicts {
                let Types { first, second } = conflict.types;
                let target = target_of(conflict, self.states());
                say(
                    &mut text,
                    format_args!("  {}: {first} in the answer, {second} in {target}", conflict.family),
                );
            }
        }
        self.say_remarks(&mut text);
        if self.not_remembered > 0 {
            let samples = self.not_remembered;
            say(
                &mut text,
                format_args!("samples that were not compared with others, for want of room: {samples}"),
            );
        }
        match &self.content_type {
            None => text.push_str("no answer: a scraper would get 503\n"),
            Some(content_type) => say(&mut text, format_args!("{} bytes of {content_type}", self.bytes)),
        }
        match self.findings() {
            0 => text.push_str("nothing to be mended\n"),
            1 => text.push_str("1 finding\n"),
            findings => say(&mut text, format_args!("{findings} findings")),
        }
        text
    }

    fn say_of_target(&self, state: &TargetState, address: &str, text: &mut String) {
        let Some((_, outcome)) = &state.last else { return };
        if let Err(error) = &outcome.result {
            say(text, format_args!("{} ({address}) {error}", state.name));
        }
        if state.name == QUEUE_PROXY && matches!(outcome.result, Err(ScrapeError::Unreachable(_))) {
            text.push_str(
                "  where it serves no metrics, or there is none, set QPEXT_QUEUE_PROXY_METRICS_PORT to nothing\n",
            );
        }
        if self.is_filtered_away(state) {
            let name = &state.name;
            say(
                text,
                format_args!(
                    "{name}: QPEXT_KEEP_METRICS and QPEXT_DROP_METRICS leave nothing of it; they are matched with names of \
                     families, as in # TYPE, not of samples"
                ),
            );
        }
        if let Some(offence) = &outcome.offence {
            let (line, reason) = (offence.line, offence.reason.as_str());
            say(
                text,
                format_args!(
                    "{}: line {line} of its body is the first dropped, as {reason}: {}",
                    state.name, offence.text
                ),
            );
        }
    }

    fn say_remarks(&self, text: &mut String) {
        for kind in FindingKind::ALL {
            let Some(count) = self.counts.get(&kind) else { continue };
            let title = match kind {
                FindingKind::Unreadable => "lines that Prometheus does not read, so that the scrape is lost",
                FindingKind::DuplicateSeries => {
                    "samples of a series that the answer already has, of which Prometheus keeps one"
                }
                FindingKind::SecondMetadata => "metadata that the answer already has, which strict readers reject",
                FindingKind::LateMetadata => "metadata behind samples of their families, which strict readers reject",
                FindingKind::NoInfBucket => "histograms without a bucket for +Inf, which strict readers reject",
                FindingKind::BadBuckets => "histograms whose buckets do not rise up to their count",
                FindingKind::BadValue => "values that a family of the type cannot have",
                FindingKind::SplitFamily => "families in two places, which text allows and OpenMetrics does not",
            };
            let note = if self.is_finding(kind) {
                ""
            } else {
                "a note, no finding: "
            };
            say(text, format_args!("{note}{title}: {count}"));
            let of_kind = self.remarks.iter().filter(|remark| remark.kind == kind);
            let mut shown = 0;
            for remark in of_kind {
                shown += 1;
                let earlier = remark.earlier.map_or(String::new(), |line| {
                    format!(", first in line {line}, from {}", self.target_of(line))
                });
                let (line, target, what) = (remark.line, self.target_of(remark.line), &remark.text);
                say(
                    text,
                    format_args!("  line {line} of the answer, from {target}: {what}{earlier}"),
                );
            }
            if *count > shown {
                say(text, format_args!("  and {} more", count - shown));
            }
        }
    }
}

/// Lines that were dropped although nobody asked for it.
fn lost(state: &TargetState) -> u64 {
    state.last.as_ref().map_or(0, |(_, outcome)| outcome.counts.lost())
}

fn row(state: &TargetState) -> [String; 7] {
    let none = || "-".to_owned();
    let Some((_, outcome)) = &state.last else {
        return [
            state.name.clone(),
            state.word().to_owned(),
            none(),
            none(),
            none(),
            none(),
            none(),
        ];
    };
    [
        state.name.clone(),
        state.word().to_owned(),
        outcome.format.map_or_else(none, |format| format.to_string()),
        format!("{:.3}", outcome.duration.as_secs_f64()),
        outcome.counts.samples.to_string(),
        outcome.body_bytes.to_string(),
        outcome.counts.dropped_in_words(),
    ]
}

fn say(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a String takes any text");
}
