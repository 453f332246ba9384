//! One body through the engine, as the sidecar sends it on: what becomes of this line?
//!
//! In: a body on standard input. Out: on standard output, what comes of it; on standard error, what was lost.

use std::env;
use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use qpext::exposition::{
    DropReason, End, Escaping, Families, Format, LabelSet, OpenMetricsVersion, Rules, Spelling, TextVersion, Untyped,
    engine,
};

const HELP: &str = "\
Reads a body on standard input and writes what the sidecar makes of it.

Usage: convert --from FORMAT --to FORMAT [--utf8] [--untyped WHAT] [--label NAME=VALUE]...

  --from FORMAT       what is read: text, openmetrics or protobuf
  --to FORMAT         what is written: text, openmetrics or protobuf; openmetrics is made of openmetrics only
  --utf8              for a scraper that takes any name (escaping=allow-utf-8), not only letters, digits, _ and :
  --untyped WHAT      what becomes of untyped families: convert, drop or keep [keep]
  --label NAME=VALUE  a label to add to each sample; may be given more than once
  --help              this text

What was dropped is told on standard error. A body of OpenMetrics without its # EOF broke off: its exit status is 1.
";

/// A bad argument (`EX_USAGE` in `sysexits.h`).
const USAGE: u8 = 64;

const TEXT: Format = Format::Text(TextVersion::V0_0_4);
const OPEN_METRICS: Format = Format::OpenMetrics(OpenMetricsVersion::V1_0_0);

struct Arguments {
    from: Format,
    to: Spelling,
    untyped: Untyped,
    labels: LabelSet,
}

fn main() -> ExitCode {
    // An argument that is no text is no flag either; what it is turned into shows where it went wrong.
    let arguments = env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    let arguments = match parse(arguments) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("convert: {error}");
            return ExitCode::from(USAGE);
        }
    };
    match convert(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("convert: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Arguments>, String> {
    let (mut from, mut to, mut escaping, mut untyped) = (None, None, Escaping::Underscores, Untyped::Keep);
    let mut labels: Vec<(String, String)> = Vec::new();
    while let Some(flag) = arguments.next() {
        match flag.as_str() {
            "--help" => return Ok(None),
            "--utf8" => {
                escaping = Escaping::AllowUtf8;
                continue;
            }
            _ => {}
        }
        let value = arguments.next();
        match (flag.as_str(), value.as_deref()) {
            ("--from", Some("text")) => from = Some(TEXT),
            ("--from", Some("openmetrics")) => from = Some(OPEN_METRICS),
            ("--from", Some("protobuf")) => from = Some(Format::Protobuf),
            ("--to", Some("text")) => to = Some(TEXT),
            ("--to", Some("openmetrics")) => to = Some(OPEN_METRICS),
            ("--to", Some("protobuf")) => to = Some(Format::Protobuf),
            ("--untyped", Some("convert")) => untyped = Untyped::Convert,
            ("--untyped", Some("drop")) => untyped = Untyped::Drop,
            ("--untyped", Some("keep")) => untyped = Untyped::Keep,
            ("--label", Some(label)) => {
                let (name, value) = label.split_once('=').ok_or(format!("{label:?}: expected NAME=VALUE"))?;
                labels.push((name.to_owned(), value.to_owned()));
            }
            (_, value) => return Err(format!("unexpected {flag} {}; try --help", value.unwrap_or_default())),
        }
    }
    let (Some(from), Some(format)) = (from, to) else {
        return Err("--from and --to are needed; try --help".to_owned());
    };
    if from != OPEN_METRICS && format == OPEN_METRICS {
        return Err("openmetrics is made of openmetrics only".to_owned());
    }
    let labels = LabelSet::new(labels).map_err(|error| error.to_string())?;
    Ok(Some(Arguments { from, to: Spelling { format, escaping }, untyped, labels }))
}

/// Converts what comes in; `false` if it broke off.
fn convert(arguments: Arguments) -> io::Result<bool> {
    let Arguments { from, to, untyped, labels } = arguments;
    let rules = Rules::new(labels, untyped);
    let mut engine = engine(from, to, &rules).expect("what cannot be written was refused");
    let (mut body, mut out, mut families) = (Vec::new(), Vec::new(), Families::default());
    io::stdin().read_to_end(&mut body)?;
    engine.push(&body, &mut families, &mut out);
    engine.finish(End::Whole, &mut families, &mut out);
    if to.format == OPEN_METRICS {
        out.extend_from_slice(b"# EOF\n");
    }
    io::stdout().write_all(&out)?;
    let counts = engine.progress().counts();
    for reason in DropReason::ALL {
        if counts.dropped(reason) > 0 {
            eprintln!("dropped as {}: {}", reason.as_str(), counts.dropped(reason));
        }
    }
    if !engine.is_whole() {
        eprintln!("no # EOF, or a message is not whole: the body broke off");
    }
    Ok(engine.is_whole())
}
