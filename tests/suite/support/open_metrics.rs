//! A reader of OpenMetrics that shares nothing with the engine: slow, plain, character by character.
//!
//! It reads what Prometheus 2.42 reads and, if told so, what 3.x reads besides: quoted names, a comma behind the last
//! label, and exemplars at any sample. As the reader of text, it insists on metadata once and types before samples.

use qpext::exposition::Escaping;

use super::reader::{Exemplar, Exposition, Rest, Sample, add_label, each_line, once, read_value};

const TYPES: [&str; 8] = ["counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset", "unknown"];

/// Reads a body whole, to the `# EOF` at its very end.
///
/// The error names the first line that cannot be read.
pub fn read(body: &[u8], names: Escaping) -> Result<Exposition, String> {
    let mut exposition = Exposition::default();
    let body = body.strip_suffix(b"\n").unwrap_or(body);
    let Some(body) = body.strip_suffix(b"# EOF") else {
        return Err("no # EOF at the end".to_owned());
    };
    if body.is_empty() {
        return Ok(exposition);
    }
    let Some(body) = body.strip_suffix(b"\n") else {
        return Err("no newline before # EOF".to_owned());
    };
    each_line(body, |line| exposition.read_open_metrics_line(line, names))?;
    Ok(exposition)
}

impl Exposition {
    fn read_open_metrics_line(&mut self, line: &str, names: Escaping) -> Result<(), String> {
        let Some(comment) = line.strip_prefix('#') else {
            self.samples.push(read_sample(line, names)?);
            return Ok(());
        };
        let mut rest = Rest(comment);
        space(&mut rest)?;
        let (keyword, metadata) = rest.0.split_once(' ').ok_or("a comment")?;
        let mut rest = Rest(metadata);
        let name = rest.quoted_or_plain_name(":", names)?;
        space(&mut rest)?;
        let text = rest.0;
        match keyword {
            "HELP" => once(&mut self.helps, name, text),
            "TYPE" if TYPES.contains(&text) => self.add_type(name, text),
            "UNIT" if text.is_empty() || name.ends_with(&format!("_{text}")) => once(&mut self.units, name, text),
            _ => Err("neither a help text, nor a type, nor a unit of that family".to_owned()),
        }
    }
}

fn read_sample(line: &str, names: Escaping) -> Result<Sample, String> {
    let mut rest = Rest(line);
    let mut name = None;
    if !line.starts_with('{') {
        name = Some(rest.name(":")?.to_owned());
    }
    let labels = if rest.take('{') {
        let mut place = if name.is_none() { Some(None) } else { None };
        let labels = read_labels(&mut rest, names, &mut place)?;
        name = name.or(place.flatten());
        labels
    } else {
        Vec::new()
    };
    let name = name.ok_or("no name")?;
    let value = number(&mut rest)?;
    let mut timestamp = None;
    if !rest.0.is_empty() && !rest.0.starts_with(" # {") {
        timestamp = Some(seconds(&mut rest)?);
    }
    let mut exemplar = None;
    if let Some(start) = rest.0.strip_prefix(" # {") {
        if names == Escaping::Underscores && !name.ends_with("_total") && !name.ends_with("_bucket") {
            return Err("Prometheus 2.42 takes no exemplar at this name".to_owned());
        }
        rest = Rest(start);
        exemplar = Some(read_exemplar(&mut rest, names)?);
    }
    if !rest.0.is_empty() {
        return Err(format!("{:?} at the end", rest.0));
    }
    Ok(Sample { name, labels, value, timestamp, exemplar })
}

/// Reads from behind the opening brace.
fn read_exemplar(rest: &mut Rest<'_>, names: Escaping) -> Result<Exemplar, String> {
    let before = rest.0;
    let labels = read_labels(rest, names, &mut None)?;
    if before[..before.len() - rest.0.len()].contains('\0') {
        return Err("Prometheus takes no NUL in an exemplar".to_owned());
    }
    let value = number(rest)?;
    let timestamp = if rest.0.is_empty() { None } else { Some(seconds(rest)?) };
    Ok(Exemplar { labels, value, timestamp })
}

/// Reads from behind the opening brace to behind the closing one. The metric's name may stand among the labels where
/// there is a place for it.
fn read_labels(
    rest: &mut Rest<'_>,
    names: Escaping,
    metric: &mut Option<Option<String>>,
) -> Result<Vec<(String, String)>, String> {
    let mut labels = Vec::new();
    if rest.take('}') {
        return Ok(labels);
    }
    loop {
        let is_quoted = rest.0.starts_with('"');
        let name = rest.quoted_or_plain_name("", names)?;
        if rest.take('=') {
            let value = rest.quoted()?;
            add_label(&mut labels, name, value)?;
        } else if let (true, Some(place @ None)) = (is_quoted, &mut *metric) {
            *place = Some(name);
        } else {
            return Err("no equals sign".to_owned());
        }
        if rest.take('}') {
            return Ok(labels);
        }
        if !rest.take(',') {
            return Err("no comma".to_owned());
        }
        if names == Escaping::AllowUtf8 && rest.take('}') {
            return Ok(labels);
        }
    }
}

fn space(rest: &mut Rest<'_>) -> Result<(), String> {
    if rest.take(' ') { Ok(()) } else { Err("no space".to_owned()) }
}

/// Reads a space and a number.
fn number(rest: &mut Rest<'_>) -> Result<String, String> {
    space(rest)?;
    let end = rest.0.find(' ').unwrap_or(rest.0.len());
    let (number, behind) = rest.0.split_at(end);
    read_value(number)?;
    rest.0 = behind;
    Ok(number.to_owned())
}

/// Reads a space and a time in seconds.
fn seconds(rest: &mut Rest<'_>) -> Result<String, String> {
    let seconds = number(rest)?;
    if read_value(&seconds)?.is_finite() { Ok(seconds) } else { Err(format!("{seconds:?} is no time")) }
}
