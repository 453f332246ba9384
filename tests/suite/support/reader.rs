//! A reader of Prometheus's text format that shares nothing with the engine: slow, plain, character by character.
//!
//! It reads what Prometheus 2.42 reads, and besides insists on what strict readers do: metadata once, types before
//! samples. `prometheus.rs` checks its verdicts against a real server.

use std::collections::HashMap;

/// A body, read.
#[derive(Debug, Default)]
pub struct Exposition {
    pub samples: Vec<Sample>,
    pub types: HashMap<String, String>,
    pub helps: HashMap<String, String>,
}

/// One sample. Numbers are kept as they are written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sample {
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub value: String,
    pub timestamp: Option<String>,
}

impl Sample {
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels
            .iter()
            .find(|(own, _)| own == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Reads a body whole.
///
/// The error names the first line that cannot be read.
pub fn read(body: &[u8]) -> Result<Exposition, String> {
    let mut exposition = Exposition::default();
    if body.is_empty() {
        return Ok(exposition);
    }
    let Some(body) = body.strip_suffix(b"\n") else {
        return Err("no newline at the end".to_owned());
    };
    for (number, line) in body.split(|byte| *byte == b'\n').enumerate() {
        let text = std::str::from_utf8(line).map_err(|error| format!("line {number}: {error}"))?;
        exposition
            .read_line(text)
            .map_err(|error| format!("line {number} {text:?}: {error}"))?;
    }
    Ok(exposition)
}

impl Exposition {
    fn read_line(&mut self, line: &str) -> Result<(), String> {
        if let Some(comment) = line.strip_prefix('#') {
            return self.read_comment(comment);
        }
        if line.trim_matches(BLANKS).is_empty() {
            return Ok(());
        }
        self.samples.push(read_sample(line)?);
        Ok(())
    }

    fn read_comment(&mut self, comment: &str) -> Result<(), String> {
        let words = comment.trim_start_matches(BLANKS);
        let Some((keyword, rest)) = words.split_once(BLANKS) else {
            return Ok(());
        };
        if words.len() == comment.len() || !matches!(keyword, "HELP" | "TYPE") {
            return Ok(());
        }
        let rest = rest.trim_start_matches(BLANKS);
        let (name, text) = rest.split_once(BLANKS).unwrap_or((rest, ""));
        if !is_name(name, ":") {
            return Err(format!("{name:?} is no metric name"));
        }
        let texts = if keyword == "HELP" {
            &mut self.helps
        } else {
            if !["counter", "gauge", "histogram", "summary", "untyped"].contains(&text) {
                return Err(format!("{text:?} is no type"));
            }
            if self.samples.iter().any(|sample| sample.name == name) {
                return Err("the type comes after a sample".to_owned());
            }
            &mut self.types
        };
        match texts.insert(name.to_owned(), text.to_owned()) {
            None => Ok(()),
            Some(_) => Err(format!("a second {keyword}")),
        }
    }
}

const BLANKS: [char; 2] = [' ', '\t'];

fn is_name(name: &str, besides: &str) -> bool {
    let may = |character: char| character.is_ascii_alphabetic() || character == '_' || besides.contains(character);
    name.starts_with(may)
        && name
            .chars()
            .all(|character| may(character) || character.is_ascii_digit())
}

/// What is left of a line.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn take_while(&mut self, may: impl Fn(char) -> bool) -> &'a str {
        let end = self.0.find(|character| !may(character)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    fn blanks(&mut self) {
        self.take_while(|character| BLANKS.contains(&character));
    }

    fn take(&mut self, character: char) -> bool {
        match self.0.strip_prefix(character) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn name(&mut self, besides: &str) -> Result<&'a str, String> {
        let name = self.take_while(|character| {
            character.is_ascii_alphanumeric() || character == '_' || besides.contains(character)
        });
        if is_name(name, besides) {
            Ok(name)
        } else {
            Err(format!("{name:?} is no name"))
        }
    }

    fn quoted(&mut self) -> Result<String, String> {
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

fn read_sample(line: &str) -> Result<Sample, String> {
    let mut rest = Rest(line);
    let name = rest.name(":")?.to_owned();
    let mut labels: Vec<(String, String)> = Vec::new();
    rest.blanks();
    if rest.take('{') {
        rest.blanks();
        while !rest.take('}') {
            let label = rest.name("")?.to_owned();
            rest.blanks();
            if !rest.take('=') {
                return Err("no equals sign".to_owned());
            }
            rest.blanks();
            let value = rest.quoted()?;
            if label == "__name__" || labels.iter().any(|(other, _)| *other == label) {
                return Err(format!("the label {label} twice"));
            }
            labels.push((label, value));
            rest.blanks();
            if rest.take(',') {
                rest.blanks();
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
    Ok(Sample {
        name,
        labels,
        value,
        timestamp,
    })
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
    if !text
        .chars()
        .all(|character| character.is_ascii_digit() || "+-.eE".contains(character))
    {
        return Err(error());
    }
    let value: f64 = text.parse().map_err(|_| error())?;
    if value.is_finite() { Ok(value) } else { Err(error()) }
}
