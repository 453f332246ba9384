//! Real bodies, where the corpus lies beside the project. Without it these tests have nothing to do and pass.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use qpext::exposition::{DropReason, End, Escaping, Untyped};

use crate::engine::properties::loose;
use crate::engine::protobuf::{Setting, USUAL, splice_cut, to_text_cut};
use crate::engine::protobuf_properties::rename;
use crate::engine::to_protobuf::{convert, read_put_together};
use crate::engine::to_protobuf_properties::Model;
use crate::support::protobuf::{decode, label};
use crate::support::reader::{Exposition, Sample, read, read_value};
use crate::support::{
    Cell, Cut, Lines, OPEN_METRICS, OPEN_METRICS_TO_TEXT, SERVING_LABELS, merge, merge_as, open_metrics, relabel,
};

pub fn corpus() -> Option<PathBuf> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    if !corpus.is_dir() {
        println!("no corpus at {}: nothing to do", corpus.display());
        return None;
    }
    Some(corpus)
}

pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}

#[test]
fn every_body_goes_through_and_what_comes_out_is_valid() {
    let Some(corpus) = corpus() else { return };
    let queue_proxy = fs::read(corpus.join("recorded/queue-proxy.prom")).expect("it is part of the corpus");
    let queue_proxy_samples = read(&queue_proxy).expect("it is valid").samples.len();
    for path in files_below(&corpus) {
        let body = fs::read(&path).expect("a file");
        for untyped in [Untyped::Convert, Untyped::Drop, Untyped::Keep] {
            let (out, counts) = merge(Some(&queue_proxy), &body, untyped, Cut::Whole, End::Whole);
            let exposition = read(&out).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(exposition.samples.len(), queue_proxy_samples + counts.samples as usize, "{}", path.display());
            let again = merge(Some(&queue_proxy), &body, untyped, Cut::EveryByte, End::Whole);
            assert!(again.0 == out, "{} cut at every byte", path.display());
        }
    }
}

#[test]
fn nothing_of_a_valid_text_body_is_lost() {
    let Some(corpus) = corpus() else { return };
    for name in ["recorded/queue-proxy.prom", "recorded/kserve-python.prom", "text/alltypes.237mfs.prom"] {
        let body = fs::read(corpus.join(name)).expect("it is part of the corpus");
        let before = read(&body).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (out, counts) = relabel(&body, Untyped::Convert, Cut::Whole, End::Whole);
        let after = read(&out).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(counts.dropped_in_all(), 0, "{name}");
        assert_eq!(after.samples.len(), before.samples.len(), "{name}");
        assert_eq!(after.helps, before.helps, "{name}");
        for (before, after) in before.samples.iter().zip(&after.samples) {
            assert_eq!((&before.name, &before.value, &before.timestamp), (&after.name, &after.value, &after.timestamp));
            assert_eq!(after.label("service_name"), Some("iris"));
        }
    }
}

const OPEN_METRICS_CELLS: [Cell; 4] =
    [OPEN_METRICS, OPEN_METRICS.with_utf8(), OPEN_METRICS_TO_TEXT, OPEN_METRICS_TO_TEXT.with_utf8()];

#[test]
fn every_body_read_as_open_metrics_gives_a_valid_answer() {
    let Some(corpus) = corpus() else { return };
    let queue_proxy = fs::read(corpus.join("recorded/queue-proxy.prom")).expect("it is part of the corpus");
    let queue_proxy_samples = read(&queue_proxy).expect("it is valid").samples.len();
    for path in files_below(&corpus) {
        let body = fs::read(&path).expect("a file");
        for untyped in [Untyped::Convert, Untyped::Drop, Untyped::Keep] {
            for cell in OPEN_METRICS_CELLS {
                let converted = cell.convert(&body, untyped, Cut::Whole, End::Whole);
                let exposition = cell.to.read(&converted.out, cell.names);
                let exposition = exposition.unwrap_or_else(|error| panic!("{} {cell:?}: {error}", path.display()));
                assert_eq!(exposition.samples.len() as u64, converted.counts.samples);
                let again = cell.convert(&body, untyped, Cut::EveryByte, End::Whole);
                assert!(again == converted, "{} cut at every byte", path.display());
            }
            let cell = OPEN_METRICS_TO_TEXT;
            let (out, counts) = merge_as(cell, Some(&queue_proxy), &body, untyped, Cut::Whole, End::Whole);
            let exposition = read(&out).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(exposition.samples.len(), queue_proxy_samples + counts.samples as usize, "{}", path.display());
        }
    }
}

#[test]
fn nothing_of_a_valid_open_metrics_body_is_lost() {
    let Some(corpus) = corpus() else { return };
    let mut bodies = 0;
    for path in valid_open_metrics_bodies(&corpus) {
        let shown = path.display();
        let body = fs::read(&path).expect("a file");
        let before = open_metrics::read(&body, Escaping::AllowUtf8).unwrap_or_else(|error| panic!("{shown}: {error}"));
        for cell in OPEN_METRICS_CELLS {
            let converted = cell.convert(&body, Untyped::Keep, Cut::Whole, End::Whole);
            let after = cell.to.read(&converted.out, cell.names);
            let after = after.unwrap_or_else(|error| panic!("{shown} {cell:?}: {error}"));
            assert!(converted.is_whole, "{shown}");
            if converted.counts.torn > 0 {
                // Strict readers refuse what came: its samples are there, but some have no type.
                let labelled = |sample: &Sample| {
                    let added = SERVING_LABELS.map(|(name, value)| (name.to_owned(), value.to_owned()));
                    let sample = loose(sample);
                    Sample { labels: [&sample.labels[..], &added].concat(), ..sample }
                };
                let mut expected: Vec<Sample> = before.samples.iter().map(labelled).collect();
                let mut written: Vec<Sample> = after.samples.iter().map(loose).collect();
                expected.sort();
                written.sort();
                let differences = written.iter().zip(&expected).find(|(written, expected)| written != expected);
                assert!(differences.is_none() && written.len() == expected.len(), "{shown}: {differences:?}");
                continue;
            }
            let losses = assert_same_samples(&before, &after, cell, &shown.to_string());
            assert_eq!(converted.counts.dropped_in_all(), losses, "{shown}");
            if cell.to == Lines::OpenMetrics {
                assert_eq!(after.types, before.types, "{shown}");
                assert_eq!(plain(&after.helps), plain(&before.helps), "{shown}");
                assert_eq!(after.units, before.units, "{shown}");
            }
        }
        bodies += 1;
    }
    assert!(bodies >= 25, "{bodies} bodies");
}

/// The help texts without their escapes, which are written in one way, however they came.
fn plain(helps: &HashMap<String, String>) -> HashMap<&String, String> {
    let unescaped = |help: &String| {
        let mut plain = String::new();
        let mut characters = help.chars().peekable();
        while let Some(character) = characters.next() {
            let escaped = characters.peek().filter(|_| character == '\\').copied();
            match escaped {
                Some('n') => plain.push('\n'),
                Some(other @ ('\\' | '"')) => plain.push(other),
                _ => {
                    plain.push(character);
                    continue;
                }
            }
            characters.next();
        }
        plain
    };
    helps.iter().map(|(name, help)| (name, unescaped(help))).collect()
}

/// Those that the suite of OpenMetrics marks so, and recorded ones.
fn valid_open_metrics_bodies(corpus: &Path) -> Vec<PathBuf> {
    let mut bodies = vec![corpus.join("recorded/kserve-python.om"), corpus.join("text/alltypes.5mfs.om")];
    for path in files_below(&corpus.join("openmetrics")) {
        if path.ends_with("test.json") {
            let test: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("a file")).expect("JSON");
            if test["shouldParse"] == true {
                bodies.push(path.with_file_name(test["file"].as_str().expect("a name")));
            }
        }
    }
    bodies
}

/// Checks that the samples are those of before with the labels added, and gives how many are lost in text, which has no
/// times before 1970 or too far ahead, and how many lose an exemplar that Prometheus 2.42 does not take.
fn assert_same_samples(before: &Exposition, after: &Exposition, cell: Cell, shown: &str) -> u64 {
    let mut losses = 0;
    // Of a counter, say, all samples come before the times at which they were created: each waits for its family's end.
    let apart = ["_gsum", "_gcount", "_created"];
    let is_apart = |sample: &Sample| {
        let at = apart.iter().position(|end| sample.name.ends_with(end));
        at.map_or(0, |at| at + 1)
    };
    let in_order = |samples: &[Sample]| {
        let mut samples: Vec<Sample> = samples.to_vec();
        if cell.from != cell.to {
            samples.sort_by_key(&is_apart);
        }
        samples
    };
    let after = in_order(&after.samples);
    let mut written = after.iter();
    for sample in &in_order(&before.samples) {
        let seconds = sample.timestamp.as_ref().map_or(0.0, |text| read_value(text).expect("it was read"));
        if cell.to == Lines::Text && !(0.0..9.2e15).contains(&seconds) {
            losses += 1;
            continue;
        }
        let same = written.next().unwrap_or_else(|| panic!("{shown}: {sample:?} is missing"));
        let mut labels = sample.labels.clone();
        labels.extend(SERVING_LABELS.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!((&same.name, &same.labels), (&sample.name, &labels), "{shown}");
        assert_eq!(same.value, sample.value, "{shown}");
        if cell.to == Lines::Text {
            assert_eq!(same.timestamp.is_some(), sample.timestamp.is_some(), "{shown}");
            continue;
        }
        assert_eq!(loose(same).timestamp, loose(sample).timestamp, "{shown}");
        let is_new = !sample.name.ends_with("_total") && !sample.name.ends_with("_bucket");
        if cell.names == Escaping::Underscores && is_new && sample.exemplar.is_some() {
            losses += 1;
            assert_eq!(same.exemplar, None, "{shown}");
        } else {
            assert_eq!(same.exemplar, sample.exemplar, "{shown}");
        }
    }
    assert!(written.next().is_none(), "{shown}: more samples than before");
    losses
}

/// The measured lines: kept where both servers keep them, dropped where the older does not, leading blanks removed.
#[test]
fn lines_fare_as_on_the_older_of_two_real_servers() {
    let Some(corpus) = corpus() else { return };
    let table = fs::read_to_string(corpus.join("prometheus-lines.tsv")).expect("it is part of the corpus");
    let mut lines = 0;
    for row in table.lines().skip(1) {
        let cells: Vec<&str> = row.split('\t').collect();
        let line: String = serde_json::from_str(cells[0]).expect("a JSON string");
        // Leading blanks are removed; quoted names are written as names that the older server reads.
        let is_mended = line.starts_with([' ', '\t']) || (line.contains("{\"") && cells[2].starts_with("accept"));
        // The official Python client reads these; what stands behind numbers goes without its sample.
        let others = ["x 1 2.5", "x 1 +5", "x{,} 1", "x{a:b=\"c\"} 1", "x 1e400", "x 1\r", "\u{feff}x 1"];
        let is_mended = is_mended || others.contains(&line.as_str());
        let accepted = cells[1].starts_with("accept") || is_mended;
        if line.contains("} 5 # comment") {
            continue;
        }
        let (out, counts) = relabel(line.as_bytes(), Untyped::Keep, Cut::Whole, End::Whole);
        let dropped: HashMap<&str, u64> = DropReason::ALL
            .iter()
            .map(|reason| (reason.as_str(), counts.dropped(*reason)))
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(dropped.is_empty(), accepted, "{line:?}: {dropped:?}");
        if accepted && !line.starts_with('#') {
            assert_eq!(counts.samples, line.lines().count() as u64, "{line:?}");
        }
        read(&out).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        lines += 1;
    }
    assert!(lines >= 70, "{lines} lines");
}

/// Go's own client wrote both at nearly the same moment: what text makes of the protobuf body is the text body.
#[test]
fn a_recorded_protobuf_body_gives_the_series_of_the_recorded_text() {
    let Some(corpus) = corpus() else { return };
    let body = fs::read(corpus.join("recorded/queue-proxy.pb")).expect("it is part of the corpus");
    let families = decode(&body).expect("it is valid");
    let (out, counts) = splice_cut(&body, USUAL, Cut::Whole, End::Whole);
    let labelled = decode(&out).expect("the answer is valid");
    assert_eq!(counts.dropped_in_all(), 0);
    assert_eq!(labelled.len(), families.len());
    for (mut family, labelled) in families.into_iter().zip(labelled) {
        for metric in &mut family.metric {
            rename(&mut metric.label);
            metric.label.extend(SERVING_LABELS.map(|(name, value)| label(name, value)));
        }
        assert_eq!(labelled, family);
    }
    let (out, counts) = to_text_cut(&body, USUAL, Cut::Whole, End::Whole);
    let from_protobuf = read(&out).expect("the answer is valid");
    assert_eq!(counts.dropped_in_all(), 0);
    let text = fs::read(corpus.join("recorded/queue-proxy.prom")).expect("it is part of the corpus");
    let (text, _) = relabel(&text, Untyped::Convert, Cut::Whole, End::Whole);
    let text = read(&text).expect("the answer is valid");
    assert_eq!(from_protobuf.types, text.types);
    assert_eq!(from_protobuf.helps, text.helps);
    let series = |samples: &[Sample]| -> BTreeSet<(String, BTreeSet<(String, String)>)> {
        let labels = |sample: &Sample| sample.labels.iter().cloned().collect();
        samples.iter().map(|sample| (sample.name.clone(), labels(sample))).collect()
    };
    assert_eq!(series(&from_protobuf.samples), series(&text.samples));
}

#[test]
fn no_body_of_any_format_makes_the_protobuf_engines_write_what_cannot_be_read() {
    let Some(corpus) = corpus() else { return };
    for path in files_below(&corpus) {
        let body = fs::read(&path).expect("a file");
        let (out, _) = splice_cut(&body, USUAL, Cut::Whole, End::Whole);
        decode(&out).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (out, _) = to_text_cut(&body, USUAL, Cut::Whole, End::Whole);
        read(&out).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

#[test]
fn every_body_read_as_lines_gives_messages_that_can_be_read() {
    let Some(corpus) = corpus() else { return };
    for path in files_below(&corpus) {
        let body = fs::read(&path).expect("a file");
        for from in [Lines::Text, Lines::OpenMetrics] {
            for names in [Escaping::Underscores, Escaping::AllowUtf8] {
                let setting = Setting { names, ..USUAL };
                let converted = convert(from, setting, &body, Cut::Whole, End::Whole);
                read_put_together(&converted.0, names).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                let again = convert(from, setting, &body, Cut::EveryByte, End::Whole);
                assert!(again == converted, "{} cut at every byte", path.display());
            }
        }
    }
}

#[test]
fn a_valid_body_in_lines_gives_the_messages_that_hold_its_samples() {
    let Some(corpus) = corpus() else { return };
    let text = ["recorded/queue-proxy.prom", "recorded/kserve-python.prom", "text/alltypes.237mfs.prom"];
    let text = text.iter().map(|name| (Lines::Text, corpus.join(name)));
    let open_metrics = valid_open_metrics_bodies(&corpus).into_iter();
    for (from, path) in text.chain(open_metrics.map(|path| (Lines::OpenMetrics, path))) {
        let shown = path.display();
        let body = fs::read(&path).expect("a file");
        let before = from.read(&body, Escaping::AllowUtf8).unwrap_or_else(|error| panic!("{shown}: {error}"));
        for names in [Escaping::Underscores, Escaping::AllowUtf8] {
            let setting = Setting { names, ..USUAL };
            let expected = Model::of(from, setting, &before);
            let (out, counts) = convert(from, setting, &body, Cut::Whole, End::Whole);
            let mut after = read_put_together(&out, names).unwrap_or_else(|error| panic!("{shown}: {error}"));
            assert_eq!(counts.dropped_in_all(), expected.losses, "{shown}");
            if path.starts_with(corpus.join("recorded")) || from == Lines::Text {
                assert_eq!(expected.losses, 0, "{shown}");
                assert_eq!(counts.samples, before.samples.len() as u64, "{shown}");
            }
            for family in &mut after {
                (family.help, family.unit) = (None, None);
            }
            // Compared as they are shown, since NaN is not equal to itself.
            assert_eq!(format!("{after:#?}"), format!("{:#?}", expected.families), "{shown}");
        }
    }
}
