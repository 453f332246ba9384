//! The numbers of a line: its value and its timestamp.
//!
//! In: the bytes of a token. Out: whether Prometheus reads it, and whether it is spelt so that everybody does. A number is
//! never converted and written back: what is not spelt so loses a sign or gains a zero, and keeps all its digits.

/// Digits that are below the largest `f64` whatever they are: no need to convert such a number to know its range.
const DIGITS_IN_RANGE: usize = 300;

/// An exponent of at most so many digits cannot carry [`DIGITS_IN_RANGE`] minus a hundred digits out of range.
const DIGITS_OF_EXPONENT: usize = 2;
const DIGITS_IN_RANGE_WITH_EXPONENT: usize = 200;

/// Whether `token` is a value that some reader takes. Prometheus takes what Go's `strconv.ParseFloat` does, without hexadecimal
/// numbers, underscores and numbers too large for an `f64` (`parseFloat` in Prometheus's `model/textparse/promparse.go`).
/// The official Python client takes those that are too large, as infinite, and a NaN with a sign, as C prints it.
pub(super) fn is_value(token: &[u8]) -> bool {
    let number = unsigned(token);
    match number.first() {
        Some(b'0'..=b'9' | b'.') => is_decimal(number),
        Some(b'i' | b'I') => number.eq_ignore_ascii_case(b"inf") || number.eq_ignore_ascii_case(b"infinity"),
        Some(b'n' | b'N') => number.eq_ignore_ascii_case(b"nan"),
        _ => false,
    }
}

/// Whether `token` is a number to every reader, as that of a bucket or a quantile must be.
pub(in super::super) fn is_bound(token: &[u8]) -> bool {
    // Python alone takes a NaN with a sign.
    let is_signed_nan = matches!(token, [b'+' | b'-', b'n' | b'N', ..]);
    is_plain_value(token) || is_value(token) && is_in_range(token) && !is_signed_nan
}

/// Whether `token` is such a number as nearly all are.
#[inline(always)]
pub(super) fn is_usual_bound(token: &[u8]) -> bool {
    is_plain_value(token) || token == b"+Inf"
}

/// A token without its sign.
fn unsigned(token: &[u8]) -> &[u8] {
    match token {
        [b'+' | b'-', number @ ..] => number,
        number => number,
    }
}

/// Whether `token` is a value as nearly all are written: some digits, perhaps a point and some more.
#[inline(always)]
pub(super) fn is_plain_value(token: &[u8]) -> bool {
    plain_value_length(token) == Some(token.len())
}

/// The length of such a value at the beginning of `token`.
#[inline(always)]
pub(super) fn plain_value_length(token: &[u8]) -> Option<usize> {
    let whole = digits_from(token, 0);
    let end = match token.get(whole) {
        Some(b'.') => Some(digits_from(token, whole + 1)).filter(|end| *end > whole + 1)?,
        _ => whole,
    };
    (1..DIGITS_IN_RANGE).contains(&whole).then_some(end)
}

/// Whether a value is spelt as [`put_token`] would.
pub(super) fn is_canonical_value(token: &[u8]) -> bool {
    if is_plain_value(token) {
        return true;
    }
    let number = token.strip_prefix(b"-").unwrap_or(token);
    let point = memchr::memchr(b'.', number);
    match number.first() {
        Some(b'0'..=b'9') => {
            point.is_none_or(|point| number.get(point + 1).is_some_and(u8::is_ascii_digit)) && is_in_range(number)
        }
        _ => matches!(token, b"NaN" | b"+Inf" | b"-Inf"),
    }
}

/// Appends a value as everybody reads it: without a plus sign, with a digit on either side of the point, as infinite what is
/// too large, and what is no number in the one spelling that strict readers take.
pub(in super::super) fn put_token(token: &[u8], out: &mut Vec<u8>) {
    let number = unsigned(token);
    let is_negative = token.first() == Some(&b'-');
    let is_infinite = matches!(number.first(), Some(b'i' | b'I')) || !is_in_range(number);
    match number.first() {
        Some(b'n' | b'N') => return out.extend_from_slice(b"NaN"),
        _ if is_infinite => return out.extend_from_slice(if is_negative { b"-Inf" } else { b"+Inf" }),
        _ if is_negative => out.push(b'-'),
        _ => {}
    }
    if number.first() == Some(&b'.') {
        out.push(b'0');
    }
    match memchr::memchr(b'.', number) {
        Some(point) if !number.get(point + 1).is_some_and(u8::is_ascii_digit) => {
            out.extend_from_slice(&number[..point]);
            out.extend_from_slice(&number[point + 1..]);
        }
        _ => out.extend_from_slice(number),
    }
}

/// An unsigned decimal: digits with at most one point among them, at least one digit, an optional exponent.
fn is_decimal(number: &[u8]) -> bool {
    let whole = digits_from(number, 0);
    let mut end = whole;
    let mut digits = whole;
    if number.get(end) == Some(&b'.') {
        let fraction_end = digits_from(number, end + 1);
        digits += fraction_end - (end + 1);
        end = fraction_end;
    }
    if digits == 0 {
        return false;
    }
    if end == number.len() {
        return true;
    }
    if !matches!(number[end], b'e' | b'E') {
        return false;
    }
    let exponent = unsigned(&number[end + 1..]);
    !exponent.is_empty() && exponent.iter().all(u8::is_ascii_digit)
}

/// Whether a value is no number too large for an `f64`. Numbers too close to zero are read as zero, as Go does.
fn is_in_range(token: &[u8]) -> bool {
    let exponent = memchr::memchr2(b'e', b'E', token);
    match exponent {
        None if token.len() < DIGITS_IN_RANGE => return true,
        Some(at) if at < DIGITS_IN_RANGE_WITH_EXPONENT && unsigned(&token[at + 1..]).len() <= DIGITS_OF_EXPONENT => {
            return true;
        }
        _ => {}
    }
    let number = std::str::from_utf8(unsigned(token)).ok().and_then(|text| text.parse::<f64>().ok());
    // Infinite is what begins with a letter, and that is as it was meant.
    number.is_some_and(|number| number.is_finite() || !matches!(unsigned(token).first(), Some(b'0'..=b'9' | b'.')))
}

/// Whether `token` is a timestamp that every reader takes in text: a whole number of milliseconds, no sign, in an `i64`.
pub(super) fn is_milliseconds(token: &[u8]) -> bool {
    const LARGEST: &[u8] = b"9223372036854775807";
    if token.is_empty() || digits_from(token, 0) != token.len() {
        return false;
    }
    let leading_zeros = token.iter().take_while(|digit| **digit == b'0').count();
    let significant = &token[leading_zeros..];
    significant.len() < LARGEST.len() || (significant.len() == LARGEST.len() && significant <= LARGEST)
}

/// Whether `token`, a value, is a timestamp of OpenMetrics, in seconds.
pub(super) fn is_seconds(token: &[u8]) -> bool {
    let seconds = std::str::from_utf8(token).ok().and_then(|token| token.parse().ok());
    seconds.is_some_and(f64::is_finite)
}

/// The index of the first byte from `start` on that is no digit.
#[inline(always)]
fn digits_from(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_values_are_values_without_sign_exponent_or_blanks() {
        for plain in ["0", "17", "1.5", "000"] {
            assert!(is_plain_value(plain.as_bytes()) && is_value(plain.as_bytes()), "{plain:?} is plain");
        }
        for other in ["", ".", ".5", "1.", "+1", "1e5", "NaN", "1.5 ", "1 2"] {
            assert!(!is_plain_value(other.as_bytes()), "{other:?} is not plain");
        }
        assert!(!is_plain_value("9".repeat(400).as_bytes()), "it is out of range");
    }

    #[test]
    fn values_are_spelt_as_every_reader_has_them() {
        for (token, spelt) in [
            ("1", "1"),
            ("-0.5e-07", "-0.5e-07"),
            ("1E5", "1E5"),
            ("0001", "0001"),
            ("NaN", "NaN"),
            ("nan", "NaN"),
            ("+Inf", "+Inf"),
            ("inf", "+Inf"),
            ("+INFINITY", "+Inf"),
            ("-infinity", "-Inf"),
            ("+5", "5"),
            ("+.5", "0.5"),
            ("-.5", "-0.5"),
            (".5e3", "0.5e3"),
            ("1.", "1"),
            ("+1.e5", "1e5"),
            ("-nan", "NaN"),
            ("+NaN", "NaN"),
            ("1e400", "+Inf"),
            ("-1E+999", "-Inf"),
        ] {
            let mut out = Vec::new();
            put_token(token.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), spelt, "{token}");
            assert!(is_value(spelt.as_bytes()), "{spelt}");
            assert_eq!(is_canonical_value(token.as_bytes()), token == spelt, "{token}");
            assert!(!is_plain_value(token.as_bytes()) || token == spelt, "{token}");
        }
    }

    #[test]
    fn values_are_what_some_reader_takes() {
        for good in [
            "0",
            "1",
            "+5",
            "-5",
            "1.",
            ".5",
            "-.5",
            "1e5",
            "1E5",
            "1e+05",
            "2.5e-300",
            "1e-400",
            "Inf",
            "+inf",
            "-INF",
            "infinity",
            "NaN",
            "nan",
            "NAN",
            "1.7976931348623157e308",
            "18446744073709551616",
            "000001",
            "0e999",
        ] {
            assert!(is_value(good.as_bytes()), "{good:?} must be read");
        }
        for bad in [
            "", "+", "-", ".", "e5", "1e", "1e+", "1.2.3", "0x10", "0x1p3", "1_000", "infin", "in", "1 ", "1\r", "--1",
            "1-", "\"1\"", "1e5.0", "nano", "é",
        ] {
            assert!(!is_value(bad.as_bytes()) && !is_bound(bad.as_bytes()), "{bad:?} must not be read");
        }
        for python in ["1e400", "-1e400", "+nan", "-NaN", "1e999999999999999999999"] {
            assert!(is_value(python.as_bytes()) && !is_bound(python.as_bytes()), "{python:?} is read by Python alone");
        }
        assert!(is_bound("9".repeat(308).as_bytes()) && !is_bound("9".repeat(310).as_bytes()));
        assert!(is_bound(format!("0.{}e99", "9".repeat(250)).as_bytes()));
        assert!(!is_bound(format!("{}e99", "9".repeat(250)).as_bytes()));
        assert!(["NaN", "+Inf", "-infinity", "2.5e-300", "+.5"].iter().all(|bound| is_bound(bound.as_bytes())));
    }

    #[test]
    fn timestamps_are_unsigned_whole_milliseconds() {
        for good in ["0", "5", "1700000000000", "9223372036854775807", "0000000000000000000000007"] {
            assert!(is_milliseconds(good.as_bytes()), "{good:?} must be read");
        }
        for bad in ["", "-5", "+5", "2.5", "1e3", "9223372036854775808", "10000000000000000000", "x"] {
            assert!(!is_milliseconds(bad.as_bytes()), "{bad:?} must not be read");
        }
    }
}
