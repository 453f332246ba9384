//! Real bodies, where the corpus lies beside the project. Without it these tests have nothing to do and pass.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use qpext::exposition::{DropReason, End, Untyped};

use crate::protobuf::{USUAL, splice_cut, to_text_cut};
use crate::protobuf_properties::rename;
use crate::support::protobuf::{decode, label};
use crate::support::reader::{Sample, read};
use crate::support::{Cut, SERVING_LABELS, merge, relabel};

fn corpus() -> Option<PathBuf> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    if !corpus.is_dir() {
        println!("no corpus at {}: nothing to do", corpus.display());
        return None;
    }
    Some(corpus)
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
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
            assert_eq!(
                exposition.samples.len(),
                queue_proxy_samples + counts.samples as usize,
                "{}",
                path.display()
            );
            let again = merge(Some(&queue_proxy), &body, untyped, Cut::EveryByte, End::Whole);
            assert!(again.0 == out, "{} cut at every byte", path.display());
        }
    }
}

#[test]
fn nothing_of_a_valid_text_body_is_lost() {
    let Some(corpus) = corpus() else { return };
    for name in [
        "recorded/queue-proxy.prom",
        "recorded/kserve-python.prom",
        "text/alltypes.237mfs.prom",
    ] {
        let body = fs::read(corpus.join(name)).expect("it is part of the corpus");
        let before = read(&body).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (out, counts) = relabel(&body, Untyped::Convert, Cut::Whole, End::Whole);
        let after = read(&out).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(counts.dropped_in_all(), 0, "{name}");
        assert_eq!(after.samples.len(), before.samples.len(), "{name}");
        assert_eq!(after.helps, before.helps, "{name}");
        for (before, after) in before.samples.iter().zip(&after.samples) {
            assert_eq!(
                (&before.name, &before.value, &before.timestamp),
                (&after.name, &after.value, &after.timestamp)
            );
            assert_eq!(after.label("service_name"), Some("iris"));
        }
    }
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
        let accepted = cells[1].starts_with("accept") || is_mended;
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
            metric
                .label
                .extend(SERVING_LABELS.map(|(name, value)| label(name, value)));
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
        samples
            .iter()
            .map(|sample| (sample.name.clone(), labels(sample)))
            .collect()
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
