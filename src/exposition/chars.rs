//! Which byte may stand where: one table look-up for each byte of a line.
//!
//! The classes are those of Prometheus's lexer (`model/textparse/promlex.l`).

const NAME_START: u8 = 1;
const NAME: u8 = 2;
const LABEL_START: u8 = 4;
const LABEL: u8 = 8;

const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => NAME_START | NAME | LABEL_START | LABEL,
            b':' => NAME_START | NAME,
            b'0'..=b'9' => NAME | LABEL,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

/// A blank: Prometheus knows the space and the tab.
pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The index of the first byte from `start` on that is no blank.
pub(super) fn skip_blanks(line: &[u8], start: usize) -> usize {
    let mut at = start;
    // Both blanks are among the lowest bytes, and most often there is none: one comparison settles that.
    while line.get(at).is_some_and(|byte| *byte <= b' ' && is_blank(*byte)) {
        at += 1;
    }
    at
}

/// The end of the metric name that starts at `start`, or `None` if none does.
pub(super) fn metric_name_end(line: &[u8], start: usize) -> Option<usize> {
    name_end(line, start, NAME_START, NAME)
}

/// The end of the metric name that the line starts with; its first `known` bytes are known to be part of one.
pub(super) fn rest_of_metric_name(line: &[u8], known: usize) -> Option<usize> {
    name_end(line, known, if known == 0 { NAME_START } else { NAME }, NAME).or((known > 0).then_some(known))
}

/// The end of the label name that starts at `start`, or `None` if none does.
pub(super) fn label_name_end(line: &[u8], start: usize) -> Option<usize> {
    name_end(line, start, LABEL_START, LABEL)
}

fn name_end(line: &[u8], start: usize, first: u8, rest: u8) -> Option<usize> {
    let name = line.get(start..)?;
    if CLASSES[*name.first()? as usize] & first == 0 {
        return None;
    }
    let length = name
        .iter()
        .position(|byte| CLASSES[*byte as usize] & rest == 0)
        .unwrap_or(name.len());
    Some(start + length)
}
