//! Chunks of a body in lines in, what each line tells out.
//!
//! A line that lies within a chunk is lent from it; one that is cut across chunks is put together in a buffer of at most
//! [`MAX_LINE`] bytes. A longer line is skipped to its end and reported once.
//!
//! A line that ends between quotes goes on in the next one, as Prometheus has it in text. In OpenMetrics it is none that may be,
//! but there, too, what stands between quotes is nobody's sample, type or end. If no labels follow the quote that closes, it
//! was the line that was broken, and reading goes on behind it alone.

use memchr::memchr;

use super::dialect::{BYTE_ORDER_MARK, Dialect, END_MARK};
use super::metadata::Line;
use super::quotes::{Quoted, ends_escaped, ends_quoted};
use super::scan::{Extent, Fault, Scanner};
use crate::exposition::bytes::{common_prefix, skip_blanks};
use crate::exposition::engine::{End, Events, Reader};
use crate::exposition::model::Convention;
use crate::exposition::progress::DropReason;
use crate::exposition::room::{Held, Room};

/// The longest line that is read, in bytes, without its newline. Prometheus itself has no limit; a line this long is no
/// sample, and holding it would cost the memory of the whole sidecar.
pub const MAX_LINE: usize = 1 << 20;

/// Room that is given back after an unusually long line, in bytes.
const KEPT_CAPACITY: usize = 64 << 10;

/// Bytes of a line that has become too long that are handed on: more than anybody is shown of it.
const KEPT_START: usize = 1 << 10;

/// Reads a body in lines.
#[derive(Debug)]
pub(in super::super) struct LineReader<D> {
    /// The start of a line whose end has not come.
    partial: Vec<u8>,
    held: Held,
    state: State,
    scanner: Scanner<D>,
    /// The end mark came, and nothing behind it.
    has_ended: bool,
    /// It came, whatever followed.
    has_end_mark: bool,
    /// That something followed was told.
    is_glued: bool,
    /// The line that goes on behind its newline is malformed all the same.
    is_malformed: bool,
    /// What is read was held before: a malformed line among it does not go on.
    is_reread: bool,
}

/// What comes next.
#[derive(Debug, Clone, Copy)]
enum State {
    /// A line, or the rest of the one that is held.
    Line,
    /// The rest of a line that is skipped.
    Skipped,
    /// Something between the quotes with which the last line ended; its bytes so far are scanned.
    Quoted(Quoted),
    /// The rest of the line in which such quotes end.
    Unquoted(Quoted),
    /// Something of a line that is skipped and goes on behind newlines between quotes: within them, or not.
    SkippedQuoted(Quoted),
    SkippedUnquoted,
}

impl<D: Dialect> Reader for LineReader<D> {
    const CONVENTION: Convention = D::CONVENTION;

    fn new(room: &Room) -> Self {
        Self {
            partial: Vec::new(),
            held: room.hold(),
            state: State::Line,
            scanner: Scanner::default(),
            has_ended: false,
            has_end_mark: false,
            is_glued: false,
            is_malformed: false,
            is_reread: false,
        }
    }

    fn pause(&mut self) {
        self.scanner.forget_shapes();
    }

    fn push(&mut self, mut chunk: &[u8], to: &mut impl Events) {
        while !chunk.is_empty() {
            chunk = match self.state {
                State::Line if self.partial.is_empty() => match self.lines(chunk, to) {
                    None => return,
                    Some((line, rest)) => {
                        self.hold_quoted(line, to);
                        rest
                    }
                },
                State::Line | State::Unquoted(_) => self.rest_of_line(chunk, to),
                State::Quoted(quoted) => self.quoted(quoted, chunk, to),
                State::Skipped => match memchr(b'\n', chunk) {
                    None => return,
                    Some(newline) => {
                        self.state = State::Line;
                        &chunk[newline + 1..]
                    }
                },
                State::SkippedQuoted(mut quoted) => {
                    let end = quoted.end_in(chunk);
                    self.state = end.map_or(State::SkippedQuoted(quoted), |_| State::SkippedUnquoted);
                    let (skipped, rest) = chunk.split_at(end.unwrap_or(chunk.len()));
                    to.advance(newlines(skipped));
                    rest
                }
                State::SkippedUnquoted => match memchr::memchr2(b'\n', b'"', chunk) {
                    None => return,
                    Some(at) => {
                        let is_end = chunk[at] == b'\n';
                        self.state = if is_end { State::Line } else { State::SkippedQuoted(Quoted::default()) };
                        &chunk[at + 1..]
                    }
                },
            };
        }
    }

    fn finish(&mut self, end: End, to: &mut impl Events) {
        // In OpenMetrics only the last line of all may lack its newline, and it tells by itself that it is whole.
        let may_lack_newline = |line: &[u8]| match D::CONVENTION {
            Convention::OpenMetrics => line == END_MARK,
            _ => end == End::Whole,
        };
        while !self.partial.is_empty() {
            match self.state {
                // Whatever was quoted would have ended: it was the line that was broken.
                State::Quoted(_) if end == End::Whole => self.drop_first_line(to),
                State::Unquoted(quoted) if end == End::Whole => {
                    self.partial.push(b'\n');
                    self.joined(quoted, to);
                }
                State::Line if may_lack_newline(&self.partial) => {
                    self.partial.push(b'\n');
                    self.partial_line(to);
                }
                _ => {
                    to.advance(u64::from(matches!(self.state, State::Line)));
                    to.unreadable(DropReason::CutOff, &self.partial);
                    break;
                }
            }
        }
        self.state = State::Line;
        self.held.clear(&mut self.partial, 0);
    }

    fn is_whole(&self) -> bool {
        D::CONVENTION != Convention::OpenMetrics || self.has_end_mark
    }
}

impl<D: Dialect> LineReader<D> {
    /// Reads the lines that are whole with this chunk, and holds the rest; up to one that goes on behind its newline, which is
    /// returned with what follows it.
    fn lines<'a>(&mut self, mut chunk: &'a [u8], to: &mut impl Events) -> Option<(&'a [u8], &'a [u8])> {
        // The sample line that was scanned last, and the last one of all.
        let (mut scanned, mut before): (&[u8], &[u8]) = (&[], &[]);
        self.scanner.expect_ascii(chunk.is_ascii());
        loop {
            // Most lines are like the one before.
            while to.can_repeat()
                && !self.has_ended
                && let Some((length, head_end)) = self.scanner.repeated(&chunk[..chunk.len().min(MAX_LINE + 1)], before)
            {
                (before, chunk) = chunk.split_at(length);
                to.repeat(before, head_end);
            }
            let Some(newline) = memchr(b'\n', chunk) else { break };
            let (line, rest) = chunk.split_at(newline + 1);
            to.advance(1);
            match self.line(line, scanned, to) {
                Ok(None) => {}
                Ok(Some(sample)) => (scanned, before) = (sample, sample),
                Err(Fault::Open) => return Some((line, rest)),
                Err(_) => scanned = &[],
            }
            chunk = rest;
        }
        if !chunk.is_empty() {
            self.hold(chunk, to);
        }
        None
    }

    /// Reads a line, unless it goes on behind its newline. Returns it if the next one may be compared with it.
    #[inline(always)]
    fn line<'a>(&mut self, line: &'a [u8], before: &[u8], to: &mut impl Events) -> Result<Option<&'a [u8]>, Fault> {
        if line.len() > MAX_LINE + 1 {
            return Err(self.skip(line, to));
        }
        if self.has_ended && !self.goes_on_behind_the_end(line, to) {
            return Ok(None);
        }
        let whole = line;
        let line = &line[D::line_start(line)..];
        let text = &line[..line.len() - 1];
        match Line::of::<D>(text, self.scanner.family()) {
            Line::Sample => {
                let common = common_prefix(before, line);
                match self.scanner.scan(line, common, Extent::Line) {
                    Ok(sample) => {
                        let has_many_labels = sample.labels.are_many();
                        let noting = to.sample(&sample);
                        self.scanner.heed(noting, text);
                        if has_many_labels {
                            self.scanner.release();
                            return Ok(Some(&[]));
                        }
                    }
                    Err(Fault::Open) => {
                        self.is_malformed = false;
                        return Err(Fault::Open);
                    }
                    Err(_) if !self.is_reread && ends_quoted(text) => {
                        self.is_malformed = true;
                        return Err(Fault::Open);
                    }
                    Err(fault) => {
                        self.scanner.release();
                        to.unreadable(DropReason::Malformed, text);
                        return Err(fault);
                    }
                }
                return Ok(Some(line));
            }
            Line::Comment => to.comment(whole.strip_prefix(BYTE_ORDER_MARK).unwrap_or(whole)),
            Line::Nothing => {}
            Line::Metadata(metadata) => {
                self.scanner.turn_to(metadata.name);
                to.metadata(&metadata, text);
            }
            Line::Open => {
                self.is_malformed = false;
                return Err(Fault::Open);
            }
            Line::UnreadType(name) => {
                self.scanner.turn_to(name);
                to.unread_type(name, text);
            }
            Line::Malformed | Line::Misquoted => to.unreadable(DropReason::Malformed, text),
            Line::Eof => (self.has_ended, self.has_end_mark) = (true, true),
        }
        Ok(None)
    }

    /// Skips a line that is too long, and what follows it if it goes on behind its newline.
    #[cold]
    fn skip(&mut self, line: &[u8], to: &mut impl Events) -> Fault {
        to.unreadable(DropReason::TooLong, line);
        if !self.goes_on(&line[..line.len() - 1]) {
            return Fault::Malformed;
        }
        to.advance(1);
        self.state = State::SkippedQuoted(Quoted::default());
        Fault::Open
    }

    /// Whether the beginning of a line, or a line without its newline, ends between quotes.
    fn goes_on(&mut self, line: &[u8]) -> bool {
        let line = &line[D::line_start(line)..];
        let ended = [line, b"\n"].concat();
        let goes_on = match Line::of::<D>(line, b"") {
            Line::Sample => matches!(self.scanner.scan_held(&ended, 0, Extent::Line), Err(Fault::Open)),
            line => matches!(line, Line::Open),
        };
        self.scanner.release();
        goes_on
    }

    /// Whether a line behind the end mark is read: all but blank ones are, because two bodies were put together by somebody. That is
    /// told once.
    #[cold]
    fn goes_on_behind_the_end(&mut self, line: &[u8], to: &mut impl Events) -> bool {
        if line.trim_ascii().is_empty() {
            if line != b"\n" {
                to.unreadable(DropReason::Malformed, &line[..line.len() - 1]);
            }
            return false;
        }
        if !std::mem::replace(&mut self.is_glued, true) {
            to.unreadable(DropReason::Malformed, END_MARK);
        }
        self.has_ended = false;
        true
    }

    /// Holds a line that goes on behind its newline, unless it is skipped.
    #[cold]
    fn hold_quoted(&mut self, line: &[u8], to: &mut impl Events) {
        if line.len() <= MAX_LINE + 1 {
            let line = &line[D::line_start(line)..];
            self.go_on_quoted(line.len() - 1);
            self.hold(line, to);
        }
    }

    /// Reads the rest of the line that is held; returns what is left of the chunk.
    fn rest_of_line<'a>(&mut self, chunk: &'a [u8], to: &mut impl Events) -> &'a [u8] {
        let newline = memchr(b'\n', chunk);
        let (piece, rest) = chunk.split_at(newline.map_or(chunk.len(), |newline| newline + 1));
        let state = self.state;
        if !self.hold(piece, to) {
            return match (self.state, newline) {
                // There may be quotes in it.
                (State::SkippedUnquoted, _) => chunk,
                (State::Skipped, Some(_)) => {
                    self.state = State::Line;
                    rest
                }
                _ => rest,
            };
        }
        match (newline, state) {
            (None, _) => {}
            (Some(_), State::Unquoted(quoted)) => self.joined(quoted, to),
            (Some(_), _) => self.partial_line(to),
        }
        rest
    }

    /// Reads the line that is held and whole.
    fn partial_line(&mut self, to: &mut impl Events) {
        let line = std::mem::take(&mut self.partial);
        let is_open = self.lines(&line, to).is_some();
        self.partial = line;
        if is_open {
            let blanks = D::line_start(&self.partial);
            self.partial.drain(..blanks);
            self.go_on_quoted(self.partial.len() - 1);
        } else {
            self.held.clear(&mut self.partial, KEPT_CAPACITY);
        }
    }

    /// Goes on between quotes; returns what is left of the chunk.
    #[cold]
    fn quoted<'a>(&mut self, mut quoted: Quoted, chunk: &'a [u8], to: &mut impl Events) -> &'a [u8] {
        let end = quoted.end_in(chunk);
        self.state = match end {
            None => State::Quoted(quoted),
            Some(_) => State::Unquoted(quoted),
        };
        let (piece, rest) = chunk.split_at(end.unwrap_or(chunk.len()));
        if self.hold(piece, to)
            && let State::Unquoted(quoted) = &mut self.state
        {
            quoted.end = self.partial.len();
        }
        rest
    }

    /// Turns to what stands between the quotes in which a line ends, of which so many bytes are scanned.
    fn go_on_quoted(&mut self, scanned: usize) {
        self.state = State::Quoted(Quoted { scanned, is_malformed: self.is_malformed, ..Quoted::default() });
    }

    /// Reads the line that is held, whole, and put together of several.
    #[cold]
    fn joined(&mut self, quoted: Quoted, to: &mut impl Events) {
        let line = std::mem::take(&mut self.partial);
        self.is_malformed = quoted.is_malformed;
        let text = &line[..line.len() - 1];
        let read = if quoted.is_malformed {
            Err(Fault::Malformed)
        } else if line[0] == b'#' {
            match Line::of::<D>(text, self.scanner.family()) {
                // OpenMetrics has no newline in a name.
                Line::Metadata(metadata) if D::IS_LENIENT => {
                    self.scanner.turn_to(metadata.name);
                    to.metadata(&metadata, text);
                    Ok(())
                }
                Line::Metadata(_) | Line::UnreadType(_) | Line::Malformed => Err(Fault::BehindLabels),
                Line::Open => Err(Fault::Open),
                _ => Err(Fault::Malformed),
            }
        } else {
            let told = self.scanner.scan_held(&line, quoted.scanned, Extent::Joined).map(|sample| to.sample(&sample));
            told.map(|noting| self.scanner.heed(noting, text))
        };
        // A label or the closing brace may follow a label, even one that is malformed for another reason.
        let behind = &text[quoted.end.min(text.len())..];
        let read = match read {
            Err(Fault::Malformed) if matches!(behind.get(skip_blanks(behind, 0)), Some(b',' | b'}')) => {
                self.is_malformed = true;
                Err(if ends_quoted(behind) { Fault::Open } else { Fault::BehindLabels })
            }
            Err(Fault::BehindLabels) if ends_quoted(behind) => {
                self.is_malformed = true;
                Err(Fault::Open)
            }
            read => read,
        };
        if read == Err(Fault::BehindLabels) {
            to.unreadable(DropReason::Malformed, text);
        }
        let scanned = text.len();
        if read != Err(Fault::Open) {
            self.scanner.release();
        }
        self.partial = line;
        match read {
            Ok(()) | Err(Fault::BehindLabels) => {
                to.advance(newlines(&self.partial) - 1);
                self.state = State::Line;
                self.held.clear(&mut self.partial, KEPT_CAPACITY);
            }
            Err(Fault::Open) => self.go_on_quoted(scanned),
            Err(Fault::Malformed) => self.drop_first_line(to),
        }
    }

    /// Drops the first of the lines that are held, which went on for no good, and reads the others for themselves.
    ///
    /// What is read again is read again once at most: between the quotes of one line there are none with which another could
    /// begin to be quoted.
    #[cold]
    fn drop_first_line(&mut self, to: &mut impl Events) {
        let held = std::mem::take(&mut self.partial);
        let newline = memchr(b'\n', &held).expect("it is held because it goes on behind its newline");
        match self.scanner.scan_held(&held[..=newline], 0, Extent::Alone) {
            // What went on was its exemplar.
            Ok(sample) => {
                let noting = to.sample(&sample);
                self.scanner.heed(noting, &held[..newline]);
            }
            Err(_) => to.unreadable(DropReason::Malformed, &held[..newline]),
        }
        self.state = State::Line;
        let is_reread = std::mem::replace(&mut self.is_reread, true);
        self.push(&held[newline + 1..], to);
        self.is_reread = is_reread;
        if self.partial.is_empty() {
            self.partial = held;
            self.held.clear(&mut self.partial, KEPT_CAPACITY);
        }
    }

    /// Keeps a piece of a line, unless the line becomes too long, which is reported at once. Says whether it was kept.
    fn hold(&mut self, piece: &[u8], to: &mut impl Events) -> bool {
        let newline = usize::from(piece.ends_with(b"\n"));
        let is_too_long = self.partial.len() + piece.len() - newline > MAX_LINE;
        if !is_too_long && self.held.extend(&mut self.partial, piece) {
            return true;
        }
        let reason = if is_too_long { DropReason::TooLong } else { DropReason::NoRoom };
        let mut start = self.partial[..self.partial.len().min(KEPT_START)].to_vec();
        start.extend_from_slice(&piece[..piece.len().min(KEPT_START)]);
        let is_first = matches!(self.state, State::Line);
        to.advance(u64::from(is_first));
        to.unreadable(reason, &start);
        match self.state {
            State::Quoted(quoted) => {
                to.advance(newlines(&self.partial) + newlines(piece));
                self.state = State::SkippedQuoted(quoted);
            }
            State::Unquoted(_) => {
                to.advance(newlines(&self.partial));
                self.state = State::SkippedUnquoted;
            }
            _ => {
                let mut line = std::mem::take(&mut self.partial);
                line.extend_from_slice(&piece[..piece.len() - newline]);
                let is_escaped = newline == 0 && ends_escaped(&line);
                self.state = match self.goes_on(&line) {
                    true => State::SkippedQuoted(Quoted { is_escaped, ..Quoted::default() }),
                    false => State::Skipped,
                };
                // The newline is quoted, too.
                to.advance(u64::from(newline == 1 && matches!(self.state, State::SkippedQuoted(_))));
            }
        }
        self.held.clear(&mut self.partial, KEPT_CAPACITY);
        false
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}
