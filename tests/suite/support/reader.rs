//! A reader of Prometheus's text format that shares nothing with the engine: slow, plain, character by character.
//!
//! It reads what Prometheus 2.42 reads and, if told so, the quoted names of 3.x, and besides insists on what strict
//! readers do: metadata once, types before samples. `prometheus.rs` checks its verdicts against a real server.

use std::collections::HashMap;

use qpext::exposition::Escaping;

/// A body, read.
#[derive(Debug, Default)]
pub struct Exposition {
    pub samples: Vec<Sample>,
    pub types: HashMap<String, String>,
    pub helps: HashMap<String, String>,
    /// OpenMetrics only.
    pub units: HashMap<String, String>,
}

/// One sample. Numbers are kept as they are written, names and label values are unescaped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sample {
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub value: String,
    pub timestamp: Option<String>,
    /// OpenMetrics only.
    pub exemplar: Option<Exemplar>,
}

/// An exemplar. Numbers are kept as they are written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exemplar {
    pub labels: Vec<(String, String)>,
    pub value: String,
    pub timestamp: Option<String>,
}

impl Sample {
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// Reads a body whole, as Prometheus 2.42 does.
///
/// The error names the first line that cannot be read.
pub fn read(body: &[u8]) -> Result<Exposition, String> {
    read_with(body, Escaping::Underscores)
}

/// Reads a body whole, with quoted names if any name may stand in it.
pub fn read_with(body: &[u8], names: Escaping) -> Result<Exposition, String> {
    let mut exposition = Exposition::default();
    if body.is_empty() {
        return Ok(exposition);
    }
    let Some(body) = body.strip_suffix(b"\n") else {
        return Err("no newline at the end".to_owned());
    };
    each_line(body, |line| exposition.read_line(line, names))?;
    Ok(exposition)
}

/// Hands each line to `read`; names the first that it does not read.
pub(super) fn each_line(body: &[u8], mut read: impl FnMut(&str) -> Result<(), String>) -> Result<(), String> {
    for (number, line) in body.split(|byte| *byte == b'\n').enumerate() {
        let text = std::str::from_utf8(line).map_err(|error| format!("line {number}: {error}"))?;
        read(text).map_err(|error| format!("line {number} {text:?}: {error}"))?;
    }
    Ok(())
}

impl Exposition {
    fn read_line(&mut self, line: &str, names: Escaping) -> Result<(), String> {
        if let Some(comment) = line.strip_prefix('#') {
            return self.read_comment(comment, names);
        }
        if line.trim_matches(BLANKS).is_empty() {
            return Ok(());
        }
        self.samples.push(read_sample(line, names)?);
        Ok(())
    }

    fn read_comment(&mut self, comment: &str, names: Escaping) -> Result<(), String> {
        let words = comment.trim_start_matches(BLANKS);
        let Some((keyword, rest)) = words.split_once(BLANKS) else {
            return Ok(());
        };
        if words.len() == comment.len() || !matches!(keyword, "HELP" | "TYPE") {
            return Ok(());
        }
        let mut rest = Rest(rest);
        rest.blanks();
        let name = rest.quoted_or_plain_name(":", names)?;
        let text = match rest.0.strip_prefix(BLANKS) {
            Some(text) => text,
            None if rest.0.is_empty() => "",
            None => return Err(format!("{:?} behind the name", rest.0)),
        };
        if keyword == "HELP" {
            return once(&mut self.helps, name, text);
        }
        if !["counter", "gauge", "histogram", "summary", "untyped"].contains(&text) {
            return Err(format!("{text:?} is no type"));
        }
        self.add_type(name, text)
    }

    pub(super) fn add_type(&mut self, name: String, kind: &str) -> Result<(), String> {
        if self.samples.iter().any(|sample| sample.name == name) {
            return Err("the type comes after a sample".to_owned());
        }
        once(&mut self.types, name, kind)
    }
}

/// Keeps what is said of a family; it may be said once.
pub(super) fn once(texts: &mut HashMap<String, String>, name: String, text: &str) -> Result<(), String> {
    match texts.insert(name, text.to_owned()) {
        None => Ok(()),
        Some(_) => Err("said a second time".to_owned()),
    }
}

const BLANKS: [char; 2] = [' ', '\t'];

fn is_name(name: &str, besides: &str) -> bool {
    let may = |character: char| character.is_ascii_alphabetic() || character == '_' || besides.contains(character);
    name.starts_with(may) && name.chars().all(|character| may(character) || character.is_ascii_digit())
}

/// What is left of a line.
pub(super) struct Rest<'a>(pub(super) &'a str);

impl<'a> Rest<'a> {
    fn take_while(&mut self, may: impl Fn(char) -> bool) -> &'a str {
        let end = self.0.find(|character| !may(character)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    pub(super) fn blanks(&mut self) {
        self.take_while(|character| BLANKS.contains(&character));
    }

    pub(super) fn take(&mut self, character: char) -> bool {
        match self.0.strip_prefix(character) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    pub(super) fn name(&mut self, besides: &str) -> Result<&'a str, String> {
        let name = self.take_while(|character| {
            character.is_ascii_alphanumeric() || character == '_' || besides.contains(character)
        });
        if is_name(name, besides) { Ok(name) } else { Err(format!("{name:?} is no name")) }
    }

    /// A name, between quotes where those are known.
    pub(super) fn quoted_or_plain_name(&mut self, besides: &str, names: Escaping) -> Result<String, String> {
        if !self.0.starts_with('"') {
            return self.name(besides).map(str::to_owned);
        }
        if names == Escaping::Underscores {
            return Err("a quoted name".to_owned());
        }
        let before = self.0;
        let name = self.quoted()?;
        let written = &before[..before.len() - self.0.len()];
        // Prometheus's lexer stops at NUL in a name. An escape that is none keeps its backslash: one name would be
        // written in two ways.
        if name.is_empty() || written.contains('\0') || written != quote(&name) {
            return Err(format!("{written} is no name"));
        }
        Ok(name)
    }

    pub(super) fn quoted(&mut self) -> Result<String, String> {
        if !self.take('"') {
            return Err("no quote".to_owned());
        }
        let mut value = String::new();
        let mut characters = self.0.char_indices();
        while let Some((index, character)) = characters.next() {
            match character {
                '"' => {
                    self.0 = &self.0[index + 1..];
                    return Ok(value);
                }
                '\\' => match characters.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                    None | Some((_, '\0')) => break,
                    Some((_, other)) => value.extend(['\\', other]),
                },
                other => value.push(other),
            }
        }
        Err("no closing quote".to_owned())
    }
}

/// A name or a label value between quotes.
pub fn quote(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

fn read_sample(line: &str, names: Escaping) -> Result<Sample, String> {
    let mut rest = Rest(line);
    let mut name = if line.starts_with('{') { None } else { Some(rest.name(":")?.to_owned()) };
    let may_be_quoted = name.is_none();
    let mut labels: Vec<(String, String)> = Vec::new();
    rest.blanks();
    if rest.take('{') {
        rest.blanks();
        while !rest.take('}') {
            let is_quoted = rest.0.starts_with('"');
            let label = rest.quoted_or_plain_name("", names)?;
            rest.blanks();
            if rest.take('=') {
                rest.blanks();
                let value = rest.quoted()?;
                add_label(&mut labels, label, value)?;
                rest.blanks();
                if rest.take(',') {
                    rest.blanks();
                }
            } else if is_quoted && may_be_quoted && name.is_none() && rest.0.starts_with([',', '}']) {
                name = Some(label);
                if rest.take(',') {
                    rest.blanks();
                }
            } else {
                return Err("no equals sign".to_owned());
            }
        }
        rest.blanks();
    }
    let mut numbers = rest.0.split(BLANKS).filter(|number| !number.is_empty());
    let value = numbers.next().ok_or("no value")?.to_owned();
    read_value(&value)?;
    let timestamp = numbers.next().map(str::to_owned);
    if let Some(timestamp) = &timestamp
        && (timestamp.starts_with(['+', '-']) || timestamp.parse::<i64>().is_err())
    {
        return Err(format!("{timestamp:?} is no timestamp"));
    }
    if numbers.next().is_some() {
        return Err("something behind the timestamp".to_owned());
    }
    Ok(Sample { name: name.ok_or("no name")?, labels, value, timestamp, exemplar: None })
}

/// Keeps a label, whose name must be none that is there: Prometheus keeps the metric's own as `__name__`.
pub(super) fn add_label(labels: &mut Vec<(String, String)>, name: String, value: String) -> Result<(), String> {
    if name == "__name__" || labels.iter().any(|(other, _)| *other == name) {
        return Err(format!("the label {name} twice"));
    }
    labels.push((name, value));
    Ok(())
}

/// Reads a value as Go does.
pub fn read_value(text: &str) -> Result<f64, String> {
    let error = || format!("{text:?} is no value");
    match text.to_ascii_lowercase().as_str() {
        "nan" => return Ok(f64::NAN),
        "inf" | "+inf" | "infinity" | "+infinity" => return Ok(f64::INFINITY),
        "-inf" | "-infinity" => return Ok(f64::NEG_INFINITY),
        _ => {}
    }
    if !text.chars().all(|character| character.is_ascii_digit() || "+-.eE".contains(character)) {
        return Err(error());
    }
    let value: f64 = text.parse().map_err(|_| error())?;
    if value.is_finite() { Ok(value) } else { Err(error()) }
}
