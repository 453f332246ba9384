//! Escaping outside the old character set, and how they are written for a scraper that reads only that.
//!
//! The scheme is `UnderscoreEscaping` of prometheus/common (`model/metric.go`), except that a label's colon is escaped,
//! too: there it is kept, and old readers reject it.

use super::chars::{label_name_end, metric_name_end};

/// Whether a metric's name is in the old character set.
pub(super) fn is_old_metric_name(name: &[u8]) -> bool {
    metric_name_end(name, 0) == Some(name.len())
}

/// Whether a label's name is in the old character set.
pub(super) fn is_old_label_name(name: &[u8]) -> bool {
    label_name_end(name, 0) == Some(name.len())
}

/// Appends a metric's name with an underscore for each character outside the old set.
pub(super) fn escape_metric_name(name: &str, out: &mut Vec<u8>) {
    escape(name, is_old_metric_name, out);
}

/// Appends a label's name with an underscore for each character outside the old set.
pub(super) fn escape_label_name(name: &str, out: &mut Vec<u8>) {
    escape(name, is_old_label_name, out);
}

fn escape(name: &str, is_old: impl Fn(&[u8]) -> bool, out: &mut Vec<u8>) {
    for (index, character) in name.char_indices() {
        // A digit is none that a name may start with.
        let is_kept = match u8::try_from(character) {
            Ok(byte) => is_old(&[byte]) || (index > 0 && byte.is_ascii_digit()),
            Err(_) => false,
        };
        out.push(if is_kept { character as u8 } else { b'_' });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_outside_the_old_set_becomes_an_underscore() {
        let metric = |name: &str| {
            let mut out = Vec::new();
            escape_metric_name(name, &mut out);
            String::from_utf8(out).unwrap()
        };
        let label = |name: &str| {
            let mut out = Vec::new();
            escape_label_name(name, &mut out);
            String::from_utf8(out).unwrap()
        };
        for (name, expected_metric, expected_label) in [
            ("http.server.duration", "http_server_duration", "http_server_duration"),
            ("vllm:running", "vllm:running", "vllm_running"),
            ("0day9", "_day9", "_day9"),
            ("größe 🔥", "gr__e__", "gr__e__"),
            ("\u{ff}", "_", "_"),
        ] {
            assert_eq!(metric(name), expected_metric);
            assert_eq!(label(name), expected_label);
        }
    }
}
