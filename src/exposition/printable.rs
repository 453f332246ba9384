//! Texts of a target's as a person may be shown them.

/// A text without what a terminal or a reader would take for orders: control characters, and those that turn the direction
/// of what follows, are written as `\u{…}`.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || is_direction(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Characters that are not seen and change how others are.
fn is_direction(character: char) -> bool {
    matches!(
        character,
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gives_orders_is_written_out() {
        assert_eq!(printable("path=\"/ü\" 1"), "path=\"/ü\" 1");
        assert_eq!(printable("\u{1b}[31m\u{9b}1m\u{7f}\t"), r"\u{1b}[31m\u{9b}1m\u{7f}\t");
        assert_eq!(printable("a\u{202e}b\u{2066}c\u{feff}"), r"a\u{202e}b\u{2066}c\u{feff}");
    }
}
