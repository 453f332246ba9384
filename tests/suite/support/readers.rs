//! Real scrapers' own readers: Prometheus's parser, the decoder of its Go library, VictoriaMetrics's parser and those of the official
//! Python client. `tests/readers` holds the two programs that ask them, `scripts/readers` makes them.
//!
//! In: a body under its media type. Out: what each reader sees of it. They have no opinion here: a test says what must be seen.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// What stands in the environment, and what `scripts/readers` knows without it.
static PATHS: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/readers");
    // It looks, and makes nothing.
    let looked = Command::new(script).arg("--paths").output().expect("the script can be run");
    String::from_utf8_lossy(&looked.stdout)
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, path)| (name.to_owned(), path.to_owned()))
        .collect()
});

/// The path in this variable, or where `scripts/readers` put it.
pub fn path(variable: &str) -> String {
    std::env::var(variable)
        .ok()
        .or_else(|| PATHS.get(variable).cloned())
        .unwrap_or_else(|| panic!("{variable} is not set and nothing is made for it: run scripts/readers once"))
}

/// What one reader sees of a body: of one that it refuses, what stands before the fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Why it refuses the body, if it does.
    pub error: Option<String>,
    pub samples: Vec<Sample>,
    pub families: BTreeMap<String, Family>,
}

/// One sample. Of two that are the same, the numbers are the same texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    pub series: Series,
    /// The value, or the native histogram between braces.
    pub value: String,
    pub timestamp: Option<i64>,
    /// When its series began.
    pub start: Option<i64>,
    /// That of its family; `unknown` where nothing says it.
    pub kind: String,
    /// In JSON, with sorted keys.
    pub exemplars: Vec<String>,
}

/// A name and labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    pub name: String,
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    pub kind: String,
    pub help: String,
    pub unit: String,
}

/// What each of those sees who read the format, by their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readings(pub BTreeMap<String, Reading>);

impl Readings {
    /// What this one sees.
    #[track_caller]
    pub fn of(&self, reader: &str) -> &Reading {
        self.0.get(reader).unwrap_or_else(|| panic!("{reader} does not read it: {:?}", self.0.keys()))
    }

    /// Who refuses the body, and why.
    pub fn refusals(&self) -> Vec<(&str, &str)> {
        self.0.iter().filter_map(|(name, reading)| Some((name.as_str(), reading.error.as_deref()?))).collect()
    }
}

impl Reading {
    /// What is otherwise in an answer than it is in the body that this is read of, up to the labels that the answer adds to each
    /// sample. Each begins with what it is: `missing`, `invented`, `count`, `value`, `type`, `time`, `start` or `exemplars`.
    pub fn differences(&self, answer: &Self, added: &[(&str, &str)]) -> Vec<String> {
        let mut answered = BTreeMap::<&Series, Vec<&Sample>>::new();
        for sample in &answer.samples {
            answered.entry(&sample.series).or_default().push(sample);
        }
        let mut expected = BTreeMap::<Series, Vec<&Sample>>::new();
        for sample in &self.samples {
            expected.entry(sample.series.with(added)).or_default().push(sample);
        }
        let mut differences = Vec::new();
        for (series, before) in &expected {
            match answered.remove(series) {
                None => differences.push(format!("missing {series}")),
                Some(after) if after.len() != before.len() => {
                    differences.push(format!("count {series}: {} became {}", before.len(), after.len()));
                }
                Some(after) => {
                    let pairs = before.iter().zip(after);
                    differences.extend(pairs.flat_map(|(before, after)| before.changes(after, series)));
                }
            }
        }
        differences.extend(answered.keys().map(|series| format!("invented {series}")));
        differences
    }
}

impl Sample {
    fn changes(&self, after: &Self, series: &Series) -> Vec<String> {
        let shown = |time: Option<i64>| time.map_or_else(|| "none".to_owned(), |time| time.to_string());
        [
            ("value", self.value.clone(), after.value.clone()),
            ("type", self.kind.clone(), after.kind.clone()),
            ("time", shown(self.timestamp), shown(after.timestamp)),
            ("start", shown(self.start), shown(after.start)),
            ("exemplars", self.exemplars.join(" "), after.exemplars.join(" ")),
        ]
        .into_iter()
        .filter(|(_, before, after)| before != after)
        .map(|(what, before, after)| format!("{what} {series}: {before} became {after}"))
        .collect()
    }
}

impl Series {
    /// The series that it is with these labels; one of its own of such a name is called `exported_…`, as Prometheus calls it.
    fn with(&self, added: &[(&str, &str)]) -> Self {
        let mut labels = self.labels.clone();
        for (name, value) in added {
            if let Some(own) = labels.remove(*name) {
                let mut free = format!("exported_{name}");
                while self.labels.contains_key(&free) || added.iter().any(|(other, _)| *other == free) {
                    free.insert_str(0, "exported_");
                }
                labels.insert(free, own);
            }
            labels.insert((*name).to_owned(), (*value).to_owned());
        }
        Self { name: self.name.clone(), labels }
    }
}

impl std::fmt::Display for Series {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{:?}", self.name, self.labels)
    }
}

/// The two programs, which are started once and end with the tests.
struct Readers {
    go: Program,
    python: Program,
}

/// A program that answers a line by a line.
struct Program {
    name: &'static str,
    _child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

static READERS: Mutex<Option<Readers>> = Mutex::new(None);

impl Readers {
    fn start() -> Self {
        let mut python = Command::new(path("QPEXT_PYTHON_READER"));
        // It leaves nothing in the clone.
        python.args(["-B", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/readers/python/read.py")]);
        Self {
            go: Program::start("the readers in Go", Command::new(path("QPEXT_READERS"))),
            python: Program::start("the reader in Python", python),
        }
    }
}

/// What each reader sees of a body that comes under this media type.
pub fn read(content_type: &str, body: &[u8]) -> Readings {
    let request = json!({ "content_type": content_type, "body": STANDARD.encode(body) }).to_string();
    // A test that fails here leaves it to the others to fail for the same reason.
    let mut shared = READERS.lock().unwrap_or_else(PoisonError::into_inner);
    let readers = shared.get_or_insert_with(Readers::start);
    // They read side by side.
    readers.go.ask(&request);
    readers.python.ask(&request);
    let answers = [readers.go.answer(), readers.python.answer()];
    drop(shared);
    let readings = answers.iter().flat_map(|answer| answer.as_object().expect("an object"));
    Readings(readings.map(|(name, reading)| (name.clone(), Reading::of(reading))).collect())
}

impl Program {
    fn start(name: &'static str, mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}, {command:?}: {error}; scripts/readers makes it"));
        let stdin = child.stdin.take().expect("it is piped");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { name, _child: child, stdin, stdout }
    }

    fn ask(&mut self, request: &str) {
        writeln!(self.stdin, "{request}").unwrap_or_else(|error| panic!("{} ended: {error}", self.name));
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{} said {line:?}: {error}", self.name))
    }
}

impl Reading {
    fn of(answer: &Value) -> Self {
        let samples = answer["samples"].as_array().expect("a list").iter().map(Sample::of);
        let families = answer["families"].as_object().expect("an object").iter();
        Self {
            error: answer["error"].as_str().map(str::to_owned),
            samples: samples.collect(),
            families: families.map(|(name, family)| (name.clone(), Family::of(family))).collect(),
        }
    }
}

impl Sample {
    fn of(answer: &Value) -> Self {
        let value = answer["value"].as_str().or(answer["histogram"].as_str());
        let labels = answer["labels"].as_object().expect("an object").iter();
        Self {
            series: Series {
                name: text(&answer["name"]),
                labels: labels.map(|(name, value)| (name.clone(), text(value))).collect(),
            },
            value: value.expect("a number or a histogram").to_owned(),
            timestamp: answer["timestamp_ms"].as_i64(),
            start: answer["start_ms"].as_i64(),
            kind: text(&answer["type"]),
            exemplars: answer["exemplars"].as_array().expect("a list").iter().map(Value::to_string).collect(),
        }
    }
}

impl Family {
    fn of(answer: &Value) -> Self {
        Self { kind: text(&answer["type"]), help: text(&answer["help"]), unit: text(&answer["unit"]) }
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}
