//! Lists in HTTP headers: `Accept`, `Accept-Encoding`, and the parameters of a `Content-Type`.
//!
//! In: a header's lines, as anybody may have sent them. Out: the elements that can be read, each with its parameters and
//! its weight. One that cannot be read costs itself alone; nothing here fails.
//!
//! The grammar is that of RFC 9110, sections 5.6 and 12.4.2, read as leniently as Prometheus's own libraries read it: an
//! empty element or parameter and a parameter without a value count for nothing.

use std::borrow::Cow;

use http::header::AsHeaderName;
use http::{HeaderMap, HeaderValue};

/// An element of a list: `value; name=parameter; q=0.5`.
#[derive(Debug, Clone)]
pub(crate) struct Element<'a> {
    /// All of it, as it was written.
    pub(crate) text: &'a [u8],
    /// What stands before the parameters.
    pub(crate) value: &'a [u8],
    /// What `q` says, from 0 to 1; 1 if it does not say.
    pub(crate) weight: f64,
    parameters: Vec<(&'a [u8], Cow<'a, [u8]>)>,
}

impl Element<'_> {
    /// The first parameter of this name.
    pub(crate) fn parameter(&self, name: &str) -> Option<&[u8]> {
        let mut named = self.parameters.iter().filter(|(other, _)| is(other, name));
        named.next().map(|(_, value)| value.as_ref())
    }

    /// Whether what stands before the parameters is this, in upper or lower case.
    pub(crate) fn is(&self, value: &str) -> bool {
        is(self.value, value)
    }
}

fn is(bytes: &[u8], name: &str) -> bool {
    bytes.eq_ignore_ascii_case(name.as_bytes())
}

/// The elements of all the header's lines, which are one list, without those that cannot be read.
pub(crate) fn elements(headers: &HeaderMap, name: impl AsHeaderName) -> impl Iterator<Item = Element<'_>> {
    let lines = headers.get_all(name).into_iter();
    lines.flat_map(|line| split(line.as_bytes(), b',')).filter_map(|text| element(text.trim_ascii()))
}

/// A header that is one element. Parameters that cannot be read are left out.
pub(crate) fn single(value: &HeaderValue) -> Element<'_> {
    let text = value.as_bytes().trim_ascii();
    let mut parts = split(text, b';');
    let value = parts.next().unwrap_or_default().trim_ascii();
    Element { text, value, weight: 1.0, parameters: parts.filter_map(|part| parameter(part).ok().flatten()).collect() }
}

/// `None` if it is empty or cannot be read.
fn element(text: &[u8]) -> Option<Element<'_>> {
    let mut parts = split(text, b';');
    let value = parts.next()?.trim_ascii();
    if value.is_empty() || value.iter().any(|byte| byte.is_ascii_whitespace() || *byte == b'"') {
        return None;
    }
    let mut parameters = Vec::new();
    for part in parts {
        parameters.extend(parameter(part).ok()?);
    }
    let weight = parameters.iter().find(|(name, _)| is(name, "q"));
    Some(Element { text, value, weight: weight.map_or(Some(1.0), |(_, value)| weight_of(value))?, parameters })
}

/// A quote where none may be, or a quoted text that does not end or has something behind it. Passed on, it would swallow
/// the elements behind it.
struct Unreadable;

/// Nothing for an empty parameter, and for one without a value.
#[allow(clippy::type_complexity, reason = "a name would not say more")]
fn parameter(text: &[u8]) -> Result<Option<(&[u8], Cow<'_, [u8]>)>, Unreadable> {
    let (name, value) = match text.iter().position(|byte| *byte == b'=') {
        Some(equals) => (&text[..equals], Some(text[equals + 1..].trim_ascii())),
        None => (text, None),
    };
    if name.contains(&b'"') {
        return Err(Unreadable);
    }
    let value = match value {
        None => return Ok(None),
        Some(value) if value.starts_with(b"\"") => Cow::Owned(unquote(value).ok_or(Unreadable)?),
        Some(value) if value.contains(&b'"') => return Err(Unreadable),
        Some(value) => Cow::Borrowed(value),
    };
    Ok(Some((name.trim_ascii(), value)))
}

fn unquote(quoted: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = quoted.strip_prefix(b"\"")?.iter();
    let mut text = Vec::with_capacity(bytes.len());
    loop {
        match bytes.next()? {
            b'"' => return bytes.as_slice().is_empty().then_some(text),
            b'\\' => text.push(*bytes.next()?),
            byte => text.push(*byte),
        }
    }
}

/// A weight has three decimals at most by RFC 9110. Some scrapers' have more, and mean something by them.
fn weight_of(text: &[u8]) -> Option<f64> {
    let is_decimal = text.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    let weight: f64 = std::str::from_utf8(text).ok().filter(|_| is_decimal)?.parse().ok()?;
    (weight <= 1.0).then_some(weight)
}

/// Splits where the separator stands outside of quotes.
fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |byte| {
        let is_escape = is_quoted && *byte == b'\\' && !is_escaped;
        if *byte == b'"' && !is_escaped {
            is_quoted = !is_quoted;
        }
        is_escaped = is_escape;
        *byte == separator && !is_quoted
    })
}

#[cfg(test)]
mod tests {
    use http::header::ACCEPT;

    use super::*;

    /// The elements as `value name=parameter… weight`.
    fn read(lines: &[&'static str]) -> Vec<String> {
        let headers: HeaderMap = lines.iter().map(|line| (ACCEPT, HeaderValue::from_static(line))).collect();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        elements(&headers, ACCEPT)
            .map(|element| {
                let named = element.parameters.iter();
                let parameters: String =
                    named.map(|(name, value)| format!(" {}={}", text(name), text(value))).collect();
                format!("{}{parameters} {}", text(element.value), element.weight)
            })
            .collect()
    }

    #[test]
    fn lines_are_one_list_and_blanks_count_for_nothing() {
        assert_eq!(read(&["a/b , c/d\t;\tx = y ; Q=0.5", "e"]), ["a/b 1", "c/d x=y Q=0.5 0.5", "e 1"]);
        assert_eq!(read(&["", " , ,a;;", ";q=1"]), ["a 1"]);
    }

    #[test]
    fn quoted_values_may_hold_separators_and_escapes() {
        assert_eq!(read(&[r#"a;x="1,2;3\"4\\";q="0.5", b"#]), [r#"a x=1,2;3"4\ q=0.5 0.5"#, "b 1"]);
    }

    #[test]
    fn what_cannot_be_read_costs_itself_alone() {
        for bad in [
            "a b",
            "a;q=2",
            "a;q=1.1",
            "a;q=-1",
            "a;q=x",
            "a;q=",
            "a;q=nan",
            "a;q=1e-1",
            "a;q=.",
            "a;x=\"y\"z",
            "a;x=y\"\"",
            "a;\"x\"=y",
            "a;\"x\"",
            "\"a\"",
        ] {
            assert_eq!(read(&[bad, "b"]), ["b 1"], "{bad}");
            assert_eq!(read(&[&*format!("{bad}, b").leak()]), ["b 1"], "{bad}");
        }
        assert_eq!(read(&["a;x=\"y", "b"]), ["b 1"], "a quoted text that does not end takes its line with it");
    }

    #[test]
    fn weights_are_decimals_from_0_to_1() {
        for (text, weight) in [("q=0", 0.0), ("q=0.000", 0.0), ("q=1.000", 1.0), ("q=.5", 0.5), ("q=0.0625", 0.0625)] {
            let headers = HeaderMap::from_iter([(ACCEPT, format!("a;{text}").parse().unwrap())]);
            let weights: Vec<f64> = elements(&headers, ACCEPT).map(|element| element.weight).collect();
            assert_eq!(weights, [weight], "{text}");
        }
    }
}
