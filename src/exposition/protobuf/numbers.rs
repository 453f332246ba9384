//! Numbers as Go's text writer has them (`writeFloat` in prometheus/common's `expfmt/text_create.go`), so that a series
//! with a number among its labels (`le`, `quantile`) is the same one whichever format a target is asked for.

use std::io::Write as _;

/// Powers of ten that are written without an exponent (`%e is used` in Go's `strconv/ftoa.go`).
const PLAIN_POWERS: std::ops::RangeInclusive<i32> = -4..=5;

const NO_ERROR: &str = "a buffer takes whatever is written";

/// Appends a whole number.
pub(super) fn put_integer(value: u64, out: &mut Vec<u8>) {
    write!(out, "{value}").expect(NO_ERROR);
}

/// Appends a number with as few digits as tell it from every other.
pub(super) fn put_float(value: f64, out: &mut Vec<u8>) {
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
    let exponent = std::str::from_utf8(&out[mark + 1..])
        .ok()
        .and_then(|text| text.parse().ok());
    let exponent: i32 = exponent.expect("an exponent is a number of three digits at most");
    if PLAIN_POWERS.contains(&exponent) {
        out.truncate(start);
        write!(out, "{value}").expect(NO_ERROR);
    } else {
        out.truncate(mark);
        write!(out, "e{exponent:+03}").expect(NO_ERROR);
    }
}

#[cfg(test)]
mod tests {
    use super::put_float;

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
