//! Texts, numbers and timestamps: as they were read, and as they are written.

use std::borrow::Cow;
use std::io::Write as _;

/// A text, which knows its escapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::exposition) enum Text<'a> {
    /// As it is.
    Plain(&'a [u8]),
    /// As it stands between quotes: `\\`, `\"` and `\n` are escapes, and any other backslash is one.
    Quoted(&'a [u8]),
    /// As it stands in text behind `# HELP`: as between quotes, but for a quote, which has no escape.
    Help(&'a [u8]),
}

impl<'a> Text<'a> {
    /// The bytes as they came.
    pub(in crate::exposition) fn bytes(self) -> &'a [u8] {
        let (Self::Plain(bytes) | Self::Quoted(bytes) | Self::Help(bytes)) = self;
        bytes
    }

    /// It, decoded.
    pub(in crate::exposition) fn plain(self) -> Cow<'a, [u8]> {
        let bytes = self.bytes();
        if matches!(self, Self::Plain(_)) || memchr::memchr(b'\\', bytes).is_none() {
            return bytes.into();
        }
        let mut plain = Vec::with_capacity(bytes.len());
        self.put_plain(&mut plain);
        plain.into()
    }

    /// Appends it, decoded.
    pub(in crate::exposition) fn put_plain(self, out: &mut Vec<u8>) {
        let mut rest = self.bytes();
        if matches!(self, Self::Plain(_)) {
            return out.extend_from_slice(rest);
        }
        while let Some(backslash) = memchr::memchr(b'\\', rest) {
            out.extend_from_slice(&rest[..backslash]);
            let (plain, length) = match rest.get(backslash + 1) {
                Some(b'n') => (b'\n', 2),
                Some(b'\\') => (b'\\', 2),
                Some(b'"') if matches!(self, Self::Quoted(_)) => (b'"', 2),
                // Prometheus leaves others as they are.
                _ => (b'\\', 1),
            };
            out.push(plain);
            rest = &rest[backslash + length..];
        }
        out.extend_from_slice(rest);
    }

    /// Appends it as every reader has it between quotes, without those.
    pub(in crate::exposition) fn put_quoted(self, out: &mut Vec<u8>) {
        self.put_escaped(|bytes| memchr::memchr3(b'\\', b'\n', b'"', bytes), out);
    }

    /// Appends it as it stands in text behind `# HELP`.
    pub(in crate::exposition) fn put_help(self, out: &mut Vec<u8>) {
        self.put_escaped(|bytes| memchr::memchr2(b'\\', b'\n', bytes), out);
    }

    /// Appends it with an escape for each byte that `special` finds, a backslash among them.
    #[inline(always)]
    fn put_escaped(self, special: impl Fn(&[u8]) -> Option<usize>, out: &mut Vec<u8>) {
        if special(self.bytes()).is_none() {
            return out.extend_from_slice(self.bytes());
        }
        let plain = self.plain();
        let mut rest = &*plain;
        while let Some(at) = special(rest) {
            out.extend_from_slice(&rest[..at]);
            let escaped = if rest[at] == b'\n' { b'n' } else { rest[at] };
            out.extend([b'\\', escaped]);
            rest = &rest[at + 1..];
        }
        out.extend_from_slice(rest);
    }
}

/// A number, as it was read.
#[derive(Debug, Clone, Copy)]
pub(in crate::exposition) enum Number<'a> {
    /// A token that Prometheus reads.
    Token(&'a [u8]),
    /// A float.
    Float(f64),
    /// A whole number, kept exact, though a reader may not keep it so.
    Count(u64),
}

/// Which values a sample may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::exposition) enum Values {
    Any,
    /// None below 0.
    NotNegative,
}

impl Values {
    pub(in crate::exposition) fn have(self, value: Number<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::NotNegative => value.is_count() || value.float().is_some_and(f64::is_nan),
        }
    }
}

impl Number<'_> {
    /// Whether it counts something: it is neither below 0 nor NaN.
    pub(in crate::exposition) fn is_count(&self) -> bool {
        match self {
            Self::Token([b'0'..=b'9', ..]) | Self::Count(_) => true,
            Self::Token(_) | Self::Float(_) => self.float().is_some_and(|value| value >= 0.0),
        }
    }

    /// A count that may be a float: the float goes before if it is above zero (client_model's `metrics.proto`).
    pub(in crate::exposition) fn count(whole: u64, float: f64) -> Self {
        if float > 0.0 { Self::Float(float) } else { Self::Count(whole) }
    }

    /// The number, as far as a float holds it.
    pub(in crate::exposition) fn float(self) -> Option<f64> {
        match self {
            Self::Token(token) => whole(token).or_else(|| std::str::from_utf8(token).ok()?.parse().ok()),
            Self::Float(value) => Some(value),
            Self::Count(value) => Some(value as f64),
        }
    }

    /// Appends it as every reader reads it.
    pub(in crate::exposition) fn put(self, out: &mut Vec<u8>) {
        match self {
            Self::Token(token) => crate::exposition::lines::put_token(token, out),
            Self::Float(value) => put_float(value, out),
            Self::Count(value) => put_integer(value, out),
        }
    }
}

/// A number that is whole and has few digits, as most have: there is nothing to round.
#[inline(always)]
fn whole(token: &[u8]) -> Option<f64> {
    const EXACT: usize = 15;
    let length = token.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(token.len());
    if !(1..=EXACT).contains(&length) || !matches!(&token[length..], b"" | b".0") {
        return None;
    }
    let value = token[..length].iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
    Some(value as f64)
}

/// A timestamp, as it was read.
#[derive(Debug, Clone, Copy)]
pub(in crate::exposition) enum Time<'a> {
    /// A token of text, where it stands as it would be written: milliseconds since 1970.
    Milliseconds(&'a [u8]),
    /// A token of OpenMetrics: seconds since 1970.
    Seconds(&'a [u8]),
    /// Milliseconds since 1970.
    Number(i64),
}

impl Time<'_> {
    /// In milliseconds; `None` if they are too many. Parts of them are cut off, as Prometheus and the official Python client
    /// do.
    pub(in crate::exposition) fn milliseconds(self) -> Option<i64> {
        match self {
            Self::Milliseconds(token) => {
                let whole = std::str::from_utf8(token).ok()?.parse().ok();
                whole.or_else(|| Self::whole(Number::Token(token).float()?))
            }
            Self::Seconds(token) => Self::whole(Number::Token(token).float()? * 1000.0),
            Self::Number(milliseconds) => Some(milliseconds),
        }
    }

    fn whole(milliseconds: f64) -> Option<i64> {
        // Up to 2^63 exclusively, the largest that an `i64` holds.
        (milliseconds.abs() < i64::MAX as f64).then_some(milliseconds as i64)
    }
}

/// Powers of ten that are written without an exponent (`%e is used` in Go's `strconv/ftoa.go`).
const PLAIN_POWERS: std::ops::RangeInclusive<i32> = -4..=5;

const NO_ERROR: &str = "a buffer takes whatever is written";

/// Appends a whole number.
pub(in crate::exposition) fn put_integer(value: u64, out: &mut Vec<u8>) {
    write!(out, "{value}").expect(NO_ERROR);
}

/// Appends a number with as few digits as tell it from every other, as Go's text writer has it (`writeFloat` in
/// prometheus/common's `expfmt/text_create.go`), so that a series with a number among its labels (`le`, `quantile`) is the same
/// one whichever format a target is asked for.
pub(in crate::exposition) fn put_float(value: f64, out: &mut Vec<u8>) {
    if value == 0.0 {
        // Whatever its sign.
        return out.push(b'0');
    }
    if !value.is_finite() {
        let word: &[u8] = match value {
            f64::INFINITY => b"+Inf",
            f64::NEG_INFINITY => b"-Inf",
            _ => b"NaN",
        };
        return out.extend_from_slice(word);
    }
    let start = out.len();
    write!(out, "{value:e}").expect(NO_ERROR);
    let mark = start + memchr::memchr(b'e', &out[start..]).expect("the format has an exponent");
    let exponent = std::str::from_utf8(&out[mark + 1..]).ok().and_then(|text| text.parse().ok());
    let exponent: i32 = exponent.expect("an exponent is a number of three digits at most");
    if PLAIN_POWERS.contains(&exponent) {
        out.truncate(start);
        write!(out, "{value}").expect(NO_ERROR);
    } else {
        out.truncate(mark);
        write!(out, "e{exponent:+03}").expect(NO_ERROR);
    }
}

/// Appends a bound or a quantile as Prometheus spells it where it reads it as one (`formatOpenMetricsFloat`).
pub(in crate::exposition) fn put_bound(value: f64, out: &mut Vec<u8>) {
    let start = out.len();
    put_float(value, out);
    if out[start..].iter().all(|byte| byte.is_ascii_digit() || *byte == b'-') {
        out.extend_from_slice(b".0");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_go_writes_them() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-1.0, "-1"),
            (0.5, "0.5"),
            (0.1, "0.1"),
            (0.0001, "0.0001"),
            (0.000012, "1.2e-05"),
            (123456.0, "123456"),
            (1_000_000.0, "1e+06"),
            (19546112.0, "1.9546112e+07"),
            (1.7e9 + 0.25, "1.70000000025e+09"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
            (-f64::NAN, "NaN"),
        ] {
            let mut out = Vec::new();
            put_float(value, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
