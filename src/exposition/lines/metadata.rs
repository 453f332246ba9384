//! What a line is, and the kinds of metadata lines in full.
//!
//! In: a line without its newline and, in text, without leading blanks. Out: a [`Line`].

use super::dialect::{Dialect, END_MARK, ends_line, is_line_end, trim_end};
use super::label::is_quoted_name;
use super::quotes::Quoted;
use crate::exposition::bytes::{is_blank, is_utf8, known_metric_name_end, skip_blanks};
use crate::exposition::model::{Fact, Metadata, MetricType, Text, is_unit_of};

/// What a line is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Line<'a> {
    /// Nothing, or a comment that is no metadata.
    Comment,
    /// Nothing that is to go on: Prometheus takes no carriage return for nothing, and a NUL for the end of the body.
    Nothing,
    /// `# HELP name text`, `# TYPE name type` or `# UNIT name unit`
    Metadata(Metadata<'a>),
    /// `# TYPE name`, and then no type.
    UnreadType(Text<'a>),
    /// A metadata line that Prometheus, or a strict reader, rejects.
    Malformed,
    /// One in which the quotes hold no name, because of what follows them.
    Misquoted,
    /// A metadata line that ends between the quotes of a name.
    Open,
    /// `# EOF`, the end of an OpenMetrics body.
    Eof,
    /// Neither blank nor a comment: a sample, if [`Scanner`](super::scan::Scanner) agrees.
    Sample,
}

impl<'a> Line<'a> {
    /// Tells what a line is. Samples are left unchecked. A metadata line may be one of the family whose name is known.
    #[inline(always)]
    pub(super) fn of<D: Dialect>(line: &'a [u8], known: &[u8]) -> Self {
        match line.first() {
            None => Self::Comment,
            Some(b'#') if D::IS_LENIENT => Self::of_text_comment(line, known),
            Some(b'\r' | 0) if D::IS_LENIENT && is_line_end(line) => Self::Nothing,
            Some(b'#') => Self::of_open_metrics_comment(line, known),
            Some(_) => Self::Sample,
        }
    }

    fn of_text_comment(line: &'a [u8], known: &[u8]) -> Self {
        let line = trim_end(line, |byte| matches!(byte, b'\r' | 0));
        match Self::of_text_metadata(line, known) {
            Self::Comment if memchr::memchr(0, line).is_some() => Self::Nothing,
            line => line,
        }
    }

    fn of_text_metadata(line: &'a [u8], known: &[u8]) -> Self {
        let keyword = skip_blanks(line, 1);
        // `#HELP` is a comment, and so are `# HELPFUL` and a bare `# HELP`: Prometheus wants blanks around the word.
        let Some((word, rest)) = line[keyword..].split_at_checked(4).filter(|_| keyword > 1) else {
            return Self::Comment;
        };
        let start = skip_blanks(rest, 0);
        if start == 0 || !matches!(word, b"HELP" | b"TYPE") {
            return Self::Comment;
        }
        let (name, text) = match name_and_text(&rest[start..], known) {
            Ok(found) => found,
            Err(line) => return line,
        };
        if word == b"HELP" {
            return Self::metadata(name, is_utf8(text).then_some(Fact::Help(Text::Help(text))));
        }
        Self::of_type(name, trim_end(&text[skip_blanks(text, 0)..], ends_line))
    }

    fn of_open_metrics_comment(line: &'a [u8], known: &[u8]) -> Self {
        if line == END_MARK {
            return Self::Eof;
        }
        let Some((word @ (b"# HELP " | b"# TYPE " | b"# UNIT "), rest)) = line.split_at_checked(7) else {
            return Self::Comment;
        };
        let (name, text) = match name_and_text(rest, known) {
            Ok(found) => found,
            Err(line) => return line,
        };
        if rest.len() == text.len() || rest[rest.len() - text.len() - 1] != b' ' {
            // A blank must follow the name, and a tab is none.
            return Self::Malformed;
        }
        let fact = match word {
            b"# HELP " => is_utf8(text).then_some(Fact::Help(Text::Quoted(text))),
            b"# TYPE " => return Self::of_type(name, text),
            _ => is_unit_of(name.bytes(), text).then_some(Fact::Unit(text)),
        };
        Self::metadata(name, fact)
    }

    fn of_type(name: Text<'a>, word: &[u8]) -> Self {
        let kind = MetricType::from_word(word);
        kind.map_or(Self::UnreadType(name), |kind| Self::Metadata(Metadata { name, fact: Fact::Type(kind) }))
    }

    fn metadata(name: Text<'a>, fact: Option<Fact<'a>>) -> Self {
        fact.map_or(Self::Malformed, |fact| Self::Metadata(Metadata { name, fact }))
    }
}

/// Reads the name at the beginning, and the text behind it and a blank. Prometheus would end a name at any byte that it cannot
/// hold and lose that byte; strict readers reject such a line, and so does this.
fn name_and_text<'a>(rest: &'a [u8], known: &[u8]) -> Result<(Text<'a>, &'a [u8]), Line<'a>> {
    let (name, behind) = if rest.first() == Some(&b'"') {
        let end = 1 + Quoted::default().end_in(&rest[1..]).ok_or(Line::Open)?;
        (Text::Quoted(&rest[1..end - 1]), &rest[end..])
    } else {
        let end = known_metric_name_end(rest, known).ok_or(Line::Malformed)?;
        (Text::Plain(&rest[..end]), &rest[end..])
    };
    match (name, behind.first()) {
        (_, Some(byte)) if !is_blank(*byte) => Err(Line::Misquoted),
        (Text::Quoted(name), _) if !is_quoted_name(name) => Err(Line::Malformed),
        (_, None) => Ok((name, behind)),
        (_, Some(_)) => Ok((name, &behind[1..])),
    }
}
