//! Several bodies of OpenMetrics as one: in which order they are written so that each family stands in one piece.
//!
//! Strict readers of OpenMetrics refuse a whole answer in which a family stands in two places, or in which two families claim the
//! same samples. Any two Python programs have families in common (`python_info`, `process_*`). So their bodies, which must be held
//! for that, are read in pieces, all those of a family together; what becomes of each is the engine's business, as ever.

use std::collections::HashMap;
use std::ops::Range;

use memchr::memchr_iter;

use super::bytes::shown;
use super::engine::{End, Events, Noting, Reader as _};
use super::families::{ENTRY_COST, Families, SHOWN, parent_of, possible_parent};
use super::format::Escaping;
use super::lines::{END_MARK, LineReader, OpenMetrics};
use super::model::{Convention, Fact, FamilyMessage, Metadata, Metric, MetricType, Sample, Text};
use super::progress::DropReason;
use super::room::{Held, Room};

/// The pieces in which bodies are read, at most: a piece is a family of a body, mostly.
const MAX_PIECES: usize = 10_000;

/// How bodies can be put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Together {
    /// They have no family in common, and none stands in two places: one is read after the other.
    Apart,
    /// They are read in these pieces, in this order.
    Pieces(Vec<Piece>),
    /// They cannot be: in one, the family of this name is of another type, or is called as samples of another family are.
    Clash(String),
    /// To find it out would take too much room.
    NoRoom,
}

/// A piece of one of the bodies, of whole lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The index of the body.
    pub body: usize,
    /// Where it stands in it.
    pub span: Range<usize>,
}

/// Looks for the families that bodies of OpenMetrics have in common where their names are escaped so.
#[must_use]
pub fn together(bodies: &[&[u8]], escaping: Escaping, room: &Room) -> Together {
    let mut index = Index::new(escaping, room);
    let ends: Vec<usize> = bodies.iter().map(|body| end_of_families(body)).collect();
    for (body, (bytes, end)) in bodies.iter().zip(&ends).enumerate() {
        index.read(body, &bytes[..*end]);
        if index.is_full {
            return Together::NoRoom;
        }
    }
    let clashes = |group: &&Group| group.has_several_types() || index.claims_samples_of_another(group);
    if let Some(clash) = index.groups.iter().find(clashes) {
        return Together::Clash(shown(&clash.name, SHOWN));
    }
    if index.is_apart() {
        return Together::Apart;
    }
    let mut pieces: Vec<(u32, Piece)> = std::mem::take(&mut index.pieces);
    // Those of a body stay in their order within a family. The metadata of the body that goes first is the answer's.
    pieces.sort_by_key(|(group, piece)| (*group, !index.has_help(*group, piece.body)));
    let ends = ends.into_iter().enumerate().map(|(body, end)| Piece { body, span: end..bodies[body].len() });
    Together::Pieces(pieces.into_iter().map(|(_, piece)| piece).chain(ends).collect())
}

/// Where the last whole line ends, or the mark of the end begins.
fn end_of_families(body: &[u8]) -> usize {
    let text = body.trim_ascii_end();
    match text.strip_suffix(END_MARK) {
        Some(before) if before.is_empty() || before.ends_with(b"\n") => before.len(),
        _ => memchr::memrchr(b'\n', body).map_or(0, |newline| newline + 1),
    }
}

/// Which families bodies have, and where.
struct Index {
    escaping: Escaping,
    /// The group of each name.
    by_name: HashMap<Vec<u8>, u32>,
    /// The name at hand, as it is written.
    name: Vec<u8>,
    groups: Vec<Group>,
    /// With their groups.
    pieces: Vec<(u32, Piece)>,
    /// What the names and the pieces take.
    bytes: usize,
    held: Held,
    room: Room,
    is_full: bool,
}

/// The families of one name.
struct Group {
    name: Vec<u8>,
    /// What bodies say of them.
    told: Vec<Told>,
}

/// What a body says of a family.
struct Told {
    body: usize,
    kind: Option<MetricType>,
    has_help: bool,
}

/// What has no family goes last.
const NO_GROUP: u32 = u32::MAX;

impl Group {
    fn has_several_types(&self) -> bool {
        self.told.iter().any(|told| told.kind != self.told[0].kind)
    }
}

impl Index {
    fn new(escaping: Escaping, room: &Room) -> Self {
        Self {
            escaping,
            by_name: HashMap::new(),
            name: Vec::new(),
            groups: Vec::new(),
            pieces: Vec::new(),
            bytes: 0,
            held: room.hold(),
            room: room.clone(),
            is_full: false,
        }
    }

    /// Reads a body.
    fn read(&mut self, body: usize, bytes: &[u8]) {
        let families = Families::of(1, &self.room);
        let mut reader = LineReader::<OpenMetrics>::new(&self.room);
        let mut lines = Lines { index: self, body, families, line: 0, starts: Vec::new(), has_sample: false };
        reader.push(bytes, &mut lines);
        reader.finish(End::BrokenOff, &mut lines);
        let starts = std::mem::take(&mut lines.starts);
        // Where the lines begin, but for the first.
        let mut begins = memchr_iter(b'\n', bytes).map(|newline| newline + 1);
        let (mut at_line, mut at) = (1, 0);
        for (position, (line, group)) in starts.iter().enumerate() {
            // What stands before the first family goes with it.
            let line = if position == 0 { 1 } else { *line };
            if line > at_line {
                let begin = begins.nth((line - at_line - 1) as usize).expect("it was read");
                (at_line, at) = (line, begin);
            }
            if let Some((_, piece)) = self.pieces.last_mut().filter(|(_, piece)| piece.body == body) {
                piece.span.end = at;
            }
            self.pieces.push((*group, Piece { body, span: at..bytes.len() }));
        }
        if starts.is_empty() && !bytes.is_empty() {
            self.pieces.push((NO_GROUP, Piece { body, span: 0..bytes.len() }));
        }
    }

    /// The group of a family, in this body, of this type.
    fn group(&mut self, body: usize, stem: &[u8], kind: Option<MetricType>) -> u32 {
        self.name.clear();
        self.escaping.put_metric_name(stem, &mut self.name);
        let group = match self.by_name.get(&self.name) {
            Some(group) => *group,
            None => {
                self.take(3 * self.name.len() + ENTRY_COST);
                let group = self.groups.len() as u32;
                self.groups.push(Group { name: self.name.clone(), told: Vec::new() });
                self.by_name.insert(self.name.clone(), group);
                group
            }
        };
        let known = &mut self.groups[group as usize];
        match known.told.iter_mut().find(|told| told.body == body) {
            Some(told) => told.kind = kind,
            None => known.told.push(Told { body, kind, has_help: false }),
        }
        group
    }

    fn has_help(&self, group: u32, body: usize) -> bool {
        let group = self.groups.get(group as usize);
        group.is_some_and(|group| group.told.iter().any(|told| told.body == body && told.has_help))
    }

    /// Takes room.
    fn take(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.is_full |= self.pieces.len() > MAX_PIECES || !self.held.resize(self.bytes);
    }

    /// Whether each family is one body's alone, and stands in one piece there.
    fn is_apart(&self) -> bool {
        self.groups.iter().all(|group| group.told.len() == 1) && self.pieces.is_sorted_by_key(|(group, _)| *group)
    }

    /// Whether a family is called as samples are of a family of another body.
    fn claims_samples_of_another(&self, group: &Group) -> bool {
        let Some((parent, suffix)) = possible_parent(&group.name) else { return false };
        let Some(parent) = self.by_name.get(parent) else { return false };
        let parent = &self.groups[*parent as usize];
        let claims = |told: &&Told| told.kind.is_some_and(|kind| kind.part(suffix, Convention::OpenMetrics).is_some());
        let mut claiming = parent.told.iter().filter(claims);
        claiming.any(|claiming| group.told.iter().any(|told| told.body != claiming.body))
    }
}

/// Notes on which lines of a body another family begins.
struct Lines<'a> {
    index: &'a mut Index,
    body: usize,
    families: Families,
    /// The lines that were read.
    line: u64,
    /// Where a family begins, or goes on behind another.
    starts: Vec<(u64, u32)>,
    /// The line before was a sample of the last of them.
    has_sample: bool,
}

impl Lines<'_> {
    /// The family of this body among whose samples one of this name stands, and its type. Where there is also a family of the
    /// sample's own name, it stands among those of the one that it is a part of.
    fn family_of<'n>(&self, name: &'n [u8]) -> (&'n [u8], Option<MetricType>) {
        match parent_of(name, Convention::OpenMetrics, |name| self.families.declared(name)) {
            Some((parent, _, kind)) => (parent, Some(kind)),
            None => (name, self.families.declared(name)),
        }
    }

    /// The line at hand is of this family. Says whether the one before was of another.
    fn turn_to(&mut self, (stem, kind): (&[u8], Option<MetricType>)) -> bool {
        if self.index.is_full {
            return true;
        }
        let kind = kind.filter(|kind| *kind != MetricType::Untyped);
        let group = self.index.group(self.body, stem, kind);
        let is_another = self.starts.last().is_none_or(|(_, last)| *last != group);
        if is_another {
            self.starts.push((self.line, group));
            self.index.take(2 * size_of::<(u32, Piece)>());
            self.index.is_full |= self.starts.len() > MAX_PIECES;
        }
        is_another
    }
}

impl Events for Lines<'_> {
    fn advance(&mut self, lines: u64) {
        self.line += lines;
    }

    fn comment(&mut self, _line: &[u8]) {}

    fn metadata(&mut self, metadata: &Metadata<'_>, _line: &[u8]) {
        let name = metadata.name.plain();
        // As the stage has it: a type that comes late, a second one or one of another family's part is none.
        if let Fact::Type(kind) = metadata.fact
            && !self.families.is_settled(&name)
            && !self.families.is_declared_part(&name, Convention::OpenMetrics)
            && self.families.declare(&name, kind).is_err()
        {
            self.index.is_full = true;
        }
        self.turn_to(self.family_of(&name));
        if let (Fact::Help(_), Some((_, group))) = (metadata.fact, self.starts.last()) {
            let told = self.index.groups[*group as usize].told.iter_mut().find(|told| told.body == self.body);
            told.into_iter().for_each(|told| told.has_help = true);
        }
        self.has_sample = false;
    }

    fn sample(&mut self, sample: &Sample<'_>) -> Noting {
        if sample.has_same_name && self.has_sample {
            return Noting::Note;
        }
        let name = sample.name.plain();
        let family = self.family_of(&name);
        let is_another = self.turn_to(family);
        if is_another || !self.has_sample {
            self.families.note_samples(family.0);
        }
        self.has_sample = true;
        // Lines like those before are of another family.
        if is_another { Noting::Forget } else { Noting::Note }
    }

    fn can_repeat(&self) -> bool {
        self.has_sample
    }

    fn repeat(&mut self, _line: &[u8], _head_end: usize) {
        self.line += 1;
    }

    fn family(&mut self, _family: &FamilyMessage<'_>) -> bool {
        false
    }

    fn metric(&mut self, _metric: &Metric<'_>) -> bool {
        false
    }

    fn family_end(&mut self, _family: &FamilyMessage<'_>) {}

    fn unread_type(&mut self, name: Text<'_>, _line: &[u8]) {
        self.turn_to(self.family_of(&name.plain()));
        self.has_sample = false;
    }

    fn unreadable(&mut self, _reason: DropReason, _text: &[u8]) {}
}
