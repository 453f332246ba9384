//! What the tests are made with: one stub target, one running sidecar, one scraper, and an independent reader for each
//! format, and real scrapers' readers.

pub mod bodies;
pub mod certificates;
pub mod directory;
pub mod open_metrics;
pub mod port;
pub mod prometheus;
pub mod protobuf;
pub mod reader;
pub mod readers;
pub mod scraper;
pub mod sidecar;
pub mod stub;
pub mod tls;

use std::time::Duration;

use qpext::exposition::{
    Counts, End, Engine, Escaping, Families, Format, LabelSet, OpenMetricsVersion, Rules, Spelling, TextVersion,
    Untyped, engine,
};

use reader::Exposition;

/// How long to wait before asking again where there is no event to wait for.
pub const POLL: Duration = Duration::from_millis(20);

/// The labels that most tests add.
pub const SERVING_LABELS: [(&str, &str); 3] =
    [("service_name", "iris"), ("configuration_name", "iris-predictor"), ("revision_name", "iris-predictor-00001")];

/// [`SERVING_LABELS`] as they stand in a sample.
pub const SERVING: &str =
    r#"service_name="iris",configuration_name="iris-predictor",revision_name="iris-predictor-00001""#;

/// The rules of most tests: [`SERVING_LABELS`], and this for untyped families.
pub fn serving_rules(untyped: Untyped) -> Rules {
    Rules::new(LabelSet::new(SERVING_LABELS).expect("the names are label names"), untyped)
}

/// How a body is cut into the chunks that reach the engine.
#[derive(Debug, Clone, Copy)]
pub enum Cut<'a> {
    /// Not at all.
    Whole,
    /// Into single bytes.
    EveryByte,
    /// At these places.
    At(&'a [usize]),
}

impl Cut<'_> {
    pub fn chunks(self, body: &[u8]) -> Vec<&[u8]> {
        match self {
            Self::Whole => vec![body],
            Self::EveryByte => body.chunks(1).collect(),
            Self::At(places) => {
                let mut places: Vec<usize> = places.iter().map(|place| place % (body.len() + 1)).collect();
                places.sort_unstable();
                let mut chunks = Vec::new();
                let mut start = 0;
                for place in places {
                    chunks.push(&body[start..place]);
                    start = place;
                }
                chunks.push(&body[start..]);
                chunks
            }
        }
    }
}

/// Text, of the version that everybody reads.
pub const PLAIN: Format = Format::Text(TextVersion::V0_0_4);

/// The engine that passes text on, in the version that has such names.
pub fn verbatim(names: Escaping, rules: &Rules) -> Box<dyn Engine + Send> {
    let format = if names == Escaping::AllowUtf8 { Format::Text(TextVersion::V1_0_0) } else { PLAIN };
    qpext::exposition::verbatim(Spelling { format, escaping: names }, rules)
}

/// The engine between these formats.
pub fn engine_of(from: Format, to: Format, escaping: Escaping, rules: &Rules) -> Box<dyn Engine + Send> {
    let to = Spelling { format: to, escaping };
    engine(from, to, rules).unwrap_or_else(|| panic!("{from} is never written as {to:?}"))
}

/// A format in lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    Text,
    OpenMetrics,
}

impl Lines {
    pub fn format(self) -> Format {
        match self {
            Self::Text => PLAIN,
            Self::OpenMetrics => Format::OpenMetrics(OpenMetricsVersion::V1_0_0),
        }
    }

    /// The media type that every scraper takes.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What the independent reader of this format reads. In OpenMetrics, `# EOF` is to end the body.
    pub fn read(self, body: &[u8], names: Escaping) -> Result<Exposition, String> {
        match self {
            Self::Text => reader::read_with(body, names),
            Self::OpenMetrics => open_metrics::read(body, names),
        }
    }
}

/// Which format is read and which is written, for which scraper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    pub from: Lines,
    pub to: Lines,
    pub names: Escaping,
}

/// Text as text, for every scraper.
pub const TEXT: Cell = Cell { from: Lines::Text, to: Lines::Text, names: Escaping::Underscores };

/// OpenMetrics as OpenMetrics, for every scraper.
pub const OPEN_METRICS: Cell = Cell { from: Lines::OpenMetrics, to: Lines::OpenMetrics, ..TEXT };

/// OpenMetrics as text, for every scraper.
pub const OPEN_METRICS_TO_TEXT: Cell = Cell { from: Lines::OpenMetrics, ..TEXT };

impl Cell {
    /// The same for a scraper that reads quoted names.
    pub const fn with_utf8(self) -> Self {
        Self { names: Escaping::AllowUtf8, ..self }
    }

    fn engine(self, untyped: Untyped) -> Box<dyn Engine + Send> {
        engine_of(self.from.format(), self.to.format(), self.names, &serving_rules(untyped))
    }

    /// An application's body through the engine, with [`SERVING_LABELS`].
    pub fn convert(self, body: &[u8], untyped: Untyped, cut: Cut<'_>, end: End) -> Converted {
        let (mut out, mut families) = (Vec::new(), Families::default());
        let engine = self.append(body, untyped, cut, end, &mut families, &mut out);
        if self.to == Lines::OpenMetrics {
            // The engine leaves it to the answer, of which this body is all.
            out.extend_from_slice(b"# EOF\n");
        }
        Converted { out, counts: engine.progress().counts(), is_whole: engine.is_whole() }
    }

    /// As [`Self::convert`], for one body of an answer: what comes of it is appended. Gives the engine, which has ended.
    pub fn append(
        self,
        body: &[u8],
        untyped: Untyped,
        cut: Cut<'_>,
        end: End,
        families: &mut Families,
        out: &mut Vec<u8>,
    ) -> Box<dyn Engine + Send> {
        let mut engine = self.engine(untyped);
        for chunk in cut.chunks(body) {
            engine.push(chunk, families, out);
        }
        engine.finish(end, families, out);
        engine
    }
}

/// What came of a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Converted {
    /// The answer, ended.
    pub out: Vec<u8>,
    pub counts: Counts,
    pub is_whole: bool,
}

/// An application's text through the engine, with [`SERVING_LABELS`].
pub fn relabel(body: &[u8], untyped: Untyped, cut: Cut<'_>, end: End) -> (Vec<u8>, Counts) {
    merge(None, body, untyped, cut, end)
}

/// A queue-proxy's text, if there is one, and an application's.
pub fn merge(queue_proxy: Option<&[u8]>, app: &[u8], untyped: Untyped, cut: Cut<'_>, end: End) -> (Vec<u8>, Counts) {
    merge_as(TEXT, queue_proxy, app, untyped, cut, end)
}

/// A queue-proxy's text, if there is one, and an application's body in any format, as text.
pub fn merge_as(
    cell: Cell,
    queue_proxy: Option<&[u8]>,
    app: &[u8],
    untyped: Untyped,
    cut: Cut<'_>,
    end: End,
) -> (Vec<u8>, Counts) {
    let mut out = Vec::new();
    let mut families = Families::default();
    if let Some(body) = queue_proxy {
        let mut engine = verbatim(cell.names, &Rules::default());
        for chunk in cut.chunks(body) {
            engine.push(chunk, &mut families, &mut out);
        }
        engine.finish(End::Whole, &mut families, &mut out);
        families.turn_to(1);
    }
    let app = cell.append(app, untyped, cut, end, &mut families, &mut out);
    (out, app.progress().counts())
}
