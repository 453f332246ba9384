//! What comes of real bodies, written as everything that can be made of them, and of the tables' cases: every reader must take it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use qpext::exposition::{End, Escaping, Families, Format, OpenMetricsVersion, TextVersion, Untyped};

use super::read_as;
use crate::engine::corpus::{corpus, files_below};
use crate::engine::rules::Form;
use crate::engine::{families, lines, messages, openmetrics, to_protobuf};
use crate::support::readers::Readings;
use crate::support::{Cut, Lines, PLAIN, engine_of, serving_rules};

const TEXT_1_0_0: Format = Format::Text(TextVersion::V1_0_0);
const OPEN_METRICS: Format = Format::OpenMetrics(OpenMetricsVersion::V1_0_0);

/// All that a body may be written as.
const OUTPUTS: [(Format, Escaping); 6] = [
    (PLAIN, Escaping::Underscores),
    (TEXT_1_0_0, Escaping::AllowUtf8),
    (OPEN_METRICS, Escaping::Underscores),
    (OPEN_METRICS, Escaping::AllowUtf8),
    (Format::Protobuf, Escaping::Underscores),
    (Format::Protobuf, Escaping::AllowUtf8),
];

/// A refusal that is known: by whom, of which formats, and what it says.
type Known = (&'static str, &'static [Format], &'static str);

/// What stands before a refusal if the reader takes the body as it came: what it refuses was made here.
const MADE_HERE: &str = "takes what came, but: ";

/// What comes of real bodies and is not taken. Each but for the limits is a fault to be mended; who mends one removes its line, for
/// the test fails where one no longer occurs.
const OF_BODIES: &[Known] = &[
    // Limits of a reader, which does not know what is right.
    ("expfmt", &[OPEN_METRICS], "unsupported metric type \"info\""),
    ("expfmt", &[OPEN_METRICS], "unsupported metric type \"stateset\""),
];

/// As [`OF_BODIES`], of what the tables of cases write.
const OF_TABLES: &[Known] = &[
    // Limits of a reader.
    ("expfmt", &[OPEN_METRICS], "unsupported metric type \"info\""),
    ("expfmt", &[OPEN_METRICS], "unsupported metric type \"stateset\""),
    // Families that are one when escaped and have each other's names.
    ("expfmt", &[OPEN_METRICS], "interleaved metric family"),
    ("prometheus_client", &[OPEN_METRICS], "Clashing name"),
];

/// The format that a file of the corpus is in; none for one that holds no body.
fn format_of(path: &Path, reports: &BTreeMap<String, Format>) -> Option<Format> {
    let name = path.file_name()?.to_str()?;
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("prom") => Some(PLAIN),
        Some("om") => Some(OPEN_METRICS),
        Some("pb") => Some(Format::Protobuf),
        Some("body") => reports.get(name).copied(),
        None if name == "metrics" => Some(OPEN_METRICS),
        _ => None,
    }
}

/// The formats of those files whose names do not say it.
fn formats_of_reports(corpus: &Path) -> BTreeMap<String, Format> {
    let table = fs::read_to_string(corpus.join("reports/cases.tsv")).expect("it is part of the corpus");
    let row = |row: &str| {
        let mut cells = row.split('\t').map(str::to_owned);
        let (name, content_type) = (cells.next()?, cells.next()?);
        let is_open_metrics = content_type.starts_with("application/openmetrics-text");
        Some((name, if is_open_metrics { OPEN_METRICS } else { PLAIN }))
    };
    table.lines().skip(1).filter_map(row).collect()
}

/// What the engine makes of a body, ended.
fn written(from: Format, (to, escaping): (Format, Escaping), body: &[u8]) -> Vec<u8> {
    let mut engine = engine_of(from, to, escaping, &serving_rules(Untyped::Convert));
    let (mut out, mut families) = (Vec::new(), Families::default());
    engine.push(body, &mut families, &mut out);
    engine.finish(End::Whole, &mut families, &mut out);
    if to == OPEN_METRICS {
        out.extend_from_slice(b"# EOF\n");
    }
    out
}

/// Collects who refuses what.
struct Judgement {
    known: &'static [Known],
    occurring: BTreeSet<usize>,
    faults: Vec<String>,
}

impl Judgement {
    fn of(known: &'static [Known]) -> Self {
        Self { known, occurring: BTreeSet::new(), faults: Vec::new() }
    }

    /// Judges what is written in this format of a body, and by those who read what came, if that is to be known.
    fn add(&mut self, written: &Readings, format: Format, came: Option<&Readings>, whose: &str) {
        for (who, why) in written.refusals() {
            // Who asks for text 1.0.0 is Prometheus 3, to which a family's type must be told wherever it goes on.
            if format == TEXT_1_0_0 && who == "expfmt" && why.contains("second TYPE line") {
                continue;
            }
            let came = came.and_then(|came| came.0.get(who));
            let is_made_here = came.is_some_and(|came| came.error.is_none());
            let why = if is_made_here { format!("{MADE_HERE}{why}") } else { why.to_owned() };
            let is_known = |(name, formats, says): &Known| {
                *name == who
                    && formats.contains(&format)
                    && why.contains(says)
                    && says.starts_with(MADE_HERE) == is_made_here
            };
            match self.known.iter().position(is_known) {
                Some(index) => _ = self.occurring.insert(index),
                None => self.faults.push(format!("{who}, {format}, {whose}: {why}")),
            }
        }
    }

    #[track_caller]
    fn end(mut self) {
        let over = self.known.iter().enumerate().filter(|(index, _)| !self.occurring.contains(index));
        self.faults.extend(over.map(|(_, known)| format!("no longer refused, remove its line: {known:?}")));
        assert!(self.faults.is_empty(), "{}", self.faults.join("\n"));
    }
}

#[test]
fn every_reader_takes_what_comes_of_a_real_body() {
    let Some(corpus) = corpus() else { return };
    let reports = formats_of_reports(&corpus);
    let mut judgement = Judgement::of(OF_BODIES);
    let mut bodies = 0;
    for path in files_below(&corpus) {
        let Some(from) = format_of(&path, &reports) else { continue };
        let body = fs::read(&path).expect("a file");
        let came = read_as(from, Escaping::AllowUtf8, &body);
        let shown = path.strip_prefix(&corpus).expect("it is below").display().to_string();
        for (to, escaping) in OUTPUTS {
            // OpenMetrics is made of OpenMetrics only.
            if to != OPEN_METRICS || from == OPEN_METRICS {
                let written = read_as(to, escaping, &written(from, (to, escaping), &body));
                judgement.add(&written, to, Some(&came), &shown);
            }
        }
        bodies += 1;
    }
    assert!(bodies >= 200, "{bodies} bodies");
    judgement.end();
}

#[test]
fn every_reader_takes_what_the_tables_write() {
    let mut judgement = Judgement::of(OF_TABLES);
    let mut judge = |to: Form, escaping: Escaping, out: &[u8], promise: &str| {
        let format = match (to, escaping) {
            // Only there may a name stand between quotes.
            (Form::Text, Escaping::AllowUtf8) => TEXT_1_0_0,
            _ => to.format(),
        };
        judgement.add(&read_as(format, escaping, out), format, None, promise);
    };
    let tables = [families::CASES, openmetrics::BODIES.as_flattened(), to_protobuf::CASES];
    for case in tables.concat() {
        for out in case.written() {
            judge(case.to, case.setting.names, &out, case.promise);
        }
    }
    for row in messages::rows() {
        for to in messages::OUTPUTS {
            judge(to, row.setting.names, &row.written(to, Cut::Whole).0, &row.promise);
        }
    }
    for (line, fate) in lines::CASES {
        if let lines::Fate::Becomes(becomes) | lines::Fate::Mended(becomes) = fate {
            let out = format!("{}\n", lines::written(becomes));
            judge(Form::Text, Escaping::Underscores, out.as_bytes(), &String::from_utf8_lossy(line));
        }
    }
    for (line, fate) in openmetrics::CASES {
        for (to, end) in [(Lines::OpenMetrics, "# EOF\n"), (Lines::Text, "")] {
            if let Some(written) = fate.written_as(to) {
                let form = if to == Lines::Text { Form::Text } else { Form::OpenMetrics };
                let out = format!("{}{written}{end}", openmetrics::type_of(line, to));
                judge(form, Escaping::Underscores, out.as_bytes(), &String::from_utf8_lossy(line));
            }
        }
    }
    judgement.end();
}
