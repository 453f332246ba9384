//! `qpext check`: one scrape, and what there is to say of it.
//!
//! In: the configuration. Out: a [`Report`], which [`status`](crate::status) has words for. It runs where there is no shell and
//! nothing else to look with, so it holds everything that a scraper's side would not say.

use std::collections::HashMap;
use std::future::poll_fn;

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue};

use crate::aggregate::{Aggregator, Answer};
use crate::config::Config;
use crate::exposition::{Conflict, DropReason, Finding, FindingKind, Lint};
use crate::telemetry::{Apart, OWN_NAME, TargetState};

/// What Prometheus asks for by default, except that text is read, where there is a choice, as what all targets speak.
const AS_PROMETHEUS: HeaderValue = HeaderValue::from_static(
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
     text/plain;version=0.0.4;q=0.3",
);

/// What came of one scrape.
#[derive(Debug, Default)]
pub struct Report {
    /// The operator chose families by their names.
    has_filter: bool,
    pub(crate) warnings: Vec<String>,
    pub(crate) targets: Vec<TargetState>,
    /// Families to which two targets gave two types.
    pub(crate) conflicts: u64,
    /// Some of them.
    pub(crate) named_conflicts: Vec<Conflict>,
    /// Why the families of several targets do not stand together, if they do not.
    pub(crate) apart: Option<Apart>,
    /// The content type of the answer; none if there was none.
    pub(crate) content_type: Option<String>,
    pub(crate) bytes: u64,
    pub(crate) findings: Vec<Finding>,
    /// Whose lines these are: from which on, and a target's name.
    turns: Vec<(u64, String)>,
    /// How many findings of each kind there would be.
    pub(crate) counts: HashMap<FindingKind, u64>,
    /// Samples of which only was seen whether they can be read.
    pub(crate) not_remembered: u64,
}

/// Scrapes once, as a scraper with this `Accept`, or as Prometheus.
pub async fn check(config: &Config, accept: Option<HeaderValue>) -> Report {
    // Of the check's own metrics nobody wants to know.
    let mut config = config.clone();
    config.self_metrics = false;
    let config = &config;
    let aggregator = Aggregator::new(config);
    let headers = HeaderMap::from_iter([(ACCEPT, accept.unwrap_or(AS_PROMETHEUS))]);
    let mut report = Report { has_filter: config.filter.is_some(), warnings: config.warnings(), ..Report::default() };
    // How each target failed, its state tells.
    if let Ok(mut answer) = aggregator.scrape(&headers).await {
        let content_type = String::from_utf8_lossy(answer.content_type().as_bytes()).into_owned();
        // What is said of lines is nothing that can be said of messages.
        let has_lines = !content_type.starts_with("application/vnd.google.protobuf");
        let mut lint = has_lines.then(|| Lint::new(content_type.starts_with("application/openmetrics-text")));
        report.content_type = Some(content_type);
        while let Some(piece) = poll_fn(|cx| answer.poll_piece(cx)).await {
            match &mut lint {
                Some(lint) => report.read(&piece, &answer, lint, config),
                None => report.bytes += piece.len() as u64,
            }
        }
        if let Some(lint) = lint {
            report.not_remembered = lint.not_remembered();
            (report.findings, report.counts) = lint.finish();
        }
    }
    report.targets = aggregator.telemetry().states();
    report.conflicts = aggregator.telemetry().conflicts();
    report.named_conflicts = aggregator.telemetry().named_conflicts();
    report.apart = aggregator.telemetry().apart();
    report
}

impl Report {
    fn read(&mut self, piece: &[u8], answer: &Answer, lint: &mut Lint, config: &Config) {
        let mut rest = piece;
        for turn in &answer.turns()[self.turns.len()..] {
            // No turn begins within a line.
            let (before, behind) = rest.split_at((turn.at - self.bytes) as usize);
            lint.push(before);
            self.bytes = turn.at;
            let name = config.targets.get(turn.target).map_or(OWN_NAME, |target| &target.name);
            self.turns.push((lint.lines() + 1, name.to_owned()));
            rest = behind;
        }
        lint.push(rest);
        self.bytes += rest.len() as u64;
    }

    pub(crate) fn target_of(&self, line: u64) -> &str {
        self.turn_of(line).map_or(OWN_NAME, |turn| &self.turns[turn].1)
    }

    /// Which turn a line was written in.
    fn turn_of(&self, line: u64) -> Option<usize> {
        self.turns.partition_point(|(first, _)| *first <= line).checked_sub(1)
    }

    /// Whether data is lost, or a reader may refuse it. A family in two places and buckets out of order are no more than untidy
    /// in text; and where two targets have a family, or another target went before the rest of one, it is nobody's fault.
    pub(crate) fn is_to_be_mended(&self, kind: FindingKind) -> bool {
        let is_text = self.content_type.as_ref().is_some_and(|content_type| content_type.starts_with("text/"));
        let is_within_a_turn = |finding: &Finding| {
            let earlier = finding.earlier.and_then(|line| self.turn_of(line));
            finding.kind == kind && earlier == self.turn_of(finding.line)
        };
        match kind {
            FindingKind::SplitFamily => !is_text && self.findings.iter().any(is_within_a_turn),
            FindingKind::UnorderedBuckets => !is_text,
            _ => true,
        }
    }

    /// How many things there are to be mended: targets that are down, lines that had to be dropped, and whatever a reader may
    /// refuse or lose.
    pub fn to_be_mended(&self) -> usize {
        let count = |is_bad: &dyn Fn(&TargetState) -> bool| self.targets.iter().filter(|state| is_bad(state)).count();
        let down = count(&|state| state.is_up() != Some(true));
        let empty = count(&|state| self.is_filtered_away(state));
        let dropping = count(&|state| state.last.as_ref().is_some_and(|(_, outcome)| outcome.counts.lost() > 0));
        let findings = self.counts.keys().filter(|kind| self.is_to_be_mended(**kind)).count();
        self.warnings.len() + down + empty + dropping + findings + usize::from(self.conflicts > 0)
    }

    /// Whether nothing of a target is left, and that because of the filter.
    pub(crate) fn is_filtered_away(&self, state: &TargetState) -> bool {
        let counts = state.last.as_ref().map(|(_, outcome)| outcome.counts);
        self.has_filter && counts.is_some_and(|counts| counts.samples == 0 && counts.dropped(DropReason::Filtered) > 0)
    }
}
