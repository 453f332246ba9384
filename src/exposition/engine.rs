//! The engine: a reader, the stage and a writer, whichever they are.
//!
//! A reader tells what it reads as [`Events`]; the [`Stage`](super::stage::Stage) decides what becomes of it; a [`Writer`] spells
//! it. Any reader feeds any writer. Which format is made of which is said here, once.

use super::families::Families;
use super::format::{Escaping, Format, Spelling, TextVersion};
use super::lines::{LineReader, LineWriter, OpenMetrics, PlainText, StrictWriter, Verbatim};
use super::model::{Convention, Fact, Family, FamilyMessage, Metadata, Metric, Part, Sample, Text, Values};
use super::progress::{DropReason, Progress};
use super::protobuf::{MessageReader, MessageWriter};
use super::room::Room;
use super::rules::Rules;
use super::stage::Stage;

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The target said all it had to say: its last line is whole even if it has no newline.
    Whole,
    /// The body broke off, or was cut: what follows the last newline is a piece of a line and is dropped.
    BrokenOff,
}

/// A push parser for one body: chunks go in, cut anywhere; what comes of them is appended to a buffer.
pub trait Engine {
    /// Reads a chunk; appends to `out` what comes of each line or message that is whole with it.
    fn push(&mut self, chunk: &[u8], families: &mut Families, out: &mut Vec<u8>);

    /// Another body goes on, which may have the family that is written.
    fn pause(&mut self, families: &mut Families);

    /// Ends the body; appends to `out` what is left.
    fn finish(&mut self, end: End, families: &mut Families, out: &mut Vec<u8>);

    /// Whether the body, which is over, may end where it did. One of OpenMetrics may only behind its `# EOF`, one of
    /// protobuf only between two messages: elsewhere it broke off.
    fn is_whole(&self) -> bool;

    /// What came of the body so far.
    fn progress(&self) -> &Progress;

    /// The engine for the rest of a body whose turn is over, if that is another one: what was passed on as it came is checked
    /// from here on, because by now the answer may hold the metadata that follows. This one has ended then.
    fn check_the_rest(&mut self) -> Option<Box<dyn Engine + Send>>;
}

/// The engine that reads `from` and writes `to`. `None` where none is promised: OpenMetrics is made of OpenMetrics only,
/// so it is chosen only where nothing else can come.
#[must_use]
pub fn engine(from: Format, to: Spelling, rules: &Rules) -> Option<Box<dyn Engine + Send>> {
    build(from, to, rules, true)
}

/// The same engine, which spells all that it writes, and takes none of the short cuts by which bytes go out as they came.
/// There is nothing to see of that but the time that it takes: so it is what shows that the short cuts are right.
#[must_use]
pub fn spelling_engine(from: Format, to: Spelling, rules: &Rules) -> Option<Box<dyn Engine + Send>> {
    build(from, to, rules, false)
}

/// The engine that passes text on as it comes: its samples, which get no labels, its metadata, as often as it comes, and its
/// comments. What is not spelt as it would be written is spelt so.
#[must_use]
pub fn verbatim(to: Spelling, rules: &Rules) -> Box<dyn Engine + Send> {
    pipe::<LineReader<PlainText>, Verbatim>(to, rules, true)
}

/// Whether a line is one that an exposition in text may begin with: a sample, or a comment.
#[must_use]
pub fn is_text_line(line: &[u8]) -> bool {
    let to = Spelling { format: Format::Text(TextVersion::V1_0_0), escaping: Escaping::AllowUtf8 };
    let mut engine = verbatim(to, &Rules::default());
    let (mut families, mut out) = (Families::default(), Vec::new());
    engine.push(line, &mut families, &mut out);
    engine.finish(End::Whole, &mut families, &mut out);
    engine.progress().has_read()
}

fn build(from: Format, to: Spelling, rules: &Rules, copies: bool) -> Option<Box<dyn Engine + Send>> {
    let build = match (from, to.format) {
        (Format::Text(_), Format::Text(_)) => pipe::<LineReader<PlainText>, LineWriter<PlainText>>,
        (Format::Text(_), Format::Protobuf) => pipe::<LineReader<PlainText>, MessageWriter>,
        (Format::OpenMetrics(_), Format::Text(_)) => pipe::<LineReader<OpenMetrics>, LineWriter<PlainText>>,
        (Format::OpenMetrics(_), Format::OpenMetrics(_)) => pipe::<LineReader<OpenMetrics>, StrictWriter>,
        (Format::OpenMetrics(_), Format::Protobuf) => pipe::<LineReader<OpenMetrics>, MessageWriter>,
        (Format::Protobuf, Format::Text(_)) => pipe::<MessageReader, LineWriter<PlainText>>,
        (Format::Protobuf, Format::Protobuf) => pipe::<MessageReader, MessageWriter>,
        (Format::Text(_) | Format::Protobuf, Format::OpenMetrics(_)) => return None,
    };
    Some(build(to, rules, copies))
}

fn pipe<R: Reader, W: Writer>(to: Spelling, rules: &Rules, copies: bool) -> Box<dyn Engine + Send> {
    Box::new(Pipe { reader: R::new(&rules.room), stage: Stage::new(R::CONVENTION, W::new(rules, to, copies), rules) })
}

/// Tells what it reads.
pub(super) trait Reader: Send + Sized + 'static {
    /// What its types and samples are called.
    const CONVENTION: Convention;

    /// A reader of one body.
    fn new(room: &Room) -> Self;

    /// Reads a chunk.
    fn push(&mut self, chunk: &[u8], to: &mut impl Events);

    /// What it was told by [`Noting`] holds no more.
    fn pause(&mut self) {}

    /// Reads what is left.
    fn finish(&mut self, end: End, to: &mut impl Events);

    /// Whether the body, which is over, may end where it did.
    fn is_whole(&self) -> bool;
}

/// Who is told what a reader reads. The names of families and samples are those of the body.
pub(super) trait Events {
    /// So many lines or messages were read, of the last of which is told what follows.
    fn advance(&mut self, lines: u64);

    /// A line that says nothing, with its newline.
    fn comment(&mut self, line: &[u8]);

    /// A line of metadata, and its text.
    fn metadata(&mut self, metadata: &Metadata<'_>, line: &[u8]);

    /// A line of metadata gives a family a type that cannot be read.
    fn unread_type(&mut self, _name: Text<'_>, line: &[u8]) {
        self.unreadable(DropReason::Malformed, line);
    }

    /// A sample of a line.
    fn sample(&mut self, sample: &Sample<'_>) -> Noting;

    /// Whether there is room for one.
    fn can_repeat(&self) -> bool {
        false
    }

    /// A line that differs from one before in the values of its labels and in its own value alone, and stands there as it
    /// would be written, without a timestamp or an exemplar. Its labels end at `head_end`, where their closing brace stands.
    fn repeat(&mut self, _line: &[u8], _head_end: usize) {}

    /// A message, whose metrics follow if that is answered by `true`.
    fn family(&mut self, family: &FamilyMessage<'_>) -> bool;

    /// A metric of the message; another one may follow if that is answered by `true`.
    fn metric(&mut self, metric: &Metric<'_>) -> bool;

    /// The end of the message.
    fn family_end(&mut self, family: &FamilyMessage<'_>);

    /// A line, a message or a metric that cannot be used, and what is shown of it.
    fn unreadable(&mut self, reason: DropReason, text: &[u8]);
}

/// Which lines may be told by [`Events::repeat`], up to the next metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noting {
    /// Those like the one of this sample, too.
    Note,
    /// Those that might be told so before.
    Keep,
    /// None: what was settled for one of them is forgotten.
    Forget,
}

/// Spells what it is told in a format.
pub(super) trait Writer: Send + Sized + 'static {
    /// What the types and the samples that it writes are called.
    const CONVENTION: Convention;
    /// A family's samples go into one message, so that another family's must not come between them.
    const WRITES_WHOLE_FAMILIES: bool = false;
    /// Metadata goes out where it stands, as often as it comes.
    const IS_VERBATIM: bool = false;
    /// Who writes the rest of a body whose turn is over.
    type Late: Writer;

    /// A writer that adds labels. `copies` says that bytes may go out as they came where they are what it would write.
    fn new(rules: &Rules, to: Spelling, copies: bool) -> Self;

    /// The one for the rest of the body, if that is another.
    fn late(&mut self) -> Option<Self::Late> {
        None
    }

    /// Passes on a line that says nothing, with its newline.
    fn comment(&mut self, _line: &[u8], _out: &mut Vec<u8>) {}

    /// Whether samples that go on may need another `# TYPE` line, because of one that was written between them.
    fn repeats_types(&self) -> bool {
        false
    }

    /// Whether what was settled for the samples of other families than the one told last holds no more.
    fn has_turned(&self) -> bool {
        Self::WRITES_WHOLE_FAMILIES
    }

    /// Which names it may write.
    fn escaping(&self) -> Escaping;

    /// Writes what is known of a family and not in the answer.
    ///
    /// # Errors
    ///
    /// There is no room for its name, or it cannot be written in this format.
    fn family(&mut self, told: &Told<'_>, families: &mut Families, out: &mut Vec<u8>) -> Result<Slot, DropReason>;

    /// Writes a sample of the family that was told last, or that has this slot.
    ///
    /// # Errors
    ///
    /// It cannot be written in this format.
    fn sample(&mut self, sample: &Sample<'_>, slot: Slot, out: &mut Vec<u8>) -> Result<Written, DropReason>;

    /// Whether [`Self::repeat`] would have written the same of the sample before.
    fn can_repeat(&self) -> bool {
        false
    }

    /// Writes a line like one before: see [`Events::repeat`].
    fn repeat(&mut self, _line: &[u8], _head_end: usize, _out: &mut Vec<u8>) {}

    /// Begins a message. Says whether something that it says of itself cannot be written.
    ///
    /// # Errors
    ///
    /// As for [`Self::family`].
    fn message(
        &mut self,
        _message: &FamilyMessage<'_>,
        told: &Told<'_>,
        families: &mut Families,
        out: &mut Vec<u8>,
    ) -> Result<bool, DropReason> {
        self.family(told, families, out).map(|_| false)
    }

    /// Writes what stands in the message before a metric, whatever becomes of that.
    fn before_metric(&mut self, _metric: &Metric<'_>, _out: &mut Vec<u8>) {}

    /// How many metrics of the message were taken apart.
    fn torn(&self) -> u64 {
        0
    }

    /// Writes a metric of the message. Returns how many samples it counts for; what an error leaves behind is taken back.
    ///
    /// # Errors
    ///
    /// It cannot be written in this format.
    fn metric(&mut self, metric: &Metric<'_>, out: &mut Vec<u8>) -> Result<u64, DropReason>;

    /// The last metric was not to be written; the output is taken back already.
    fn take_back_metric(&mut self) {}

    /// Ends a message of which something is written.
    fn message_end(&mut self, _message: &FamilyMessage<'_>, _out: &mut Vec<u8>) {}

    /// Leaves out what would be false without the samples to come, because no more are written. The first of them belongs
    /// to this family, or to the one that was written last. Returns how many samples are left out.
    fn cut(&mut self, _beyond: Option<&Family<'_>>) -> u64 {
        // Each line tells what it tells.
        0
    }

    /// Hands on what is held of a family, because another body goes on, which may have the same.
    fn pause(&mut self, _families: &mut Families) {}

    /// Writes what is left.
    fn finish(&mut self, families: &mut Families, out: &mut Vec<u8>) -> Lost;
}

/// What a writer is told of a family.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told<'a> {
    pub family: Family<'a>,
    /// The name under which it is written.
    pub key: &'a [u8],
    /// What its metadata says.
    pub facts: Facts<'a>,
    /// Samples or metrics of it follow.
    pub has_samples: bool,
    /// What it is read from.
    pub from: Convention,
}

/// What the metadata of a family says, in its order: each kind of fact once.
pub(super) type Facts<'a> = [Option<Fact<'a>>; 3];

/// Where the samples of a name go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub part: Part,
    /// What stands behind the family's name in theirs, in OpenMetrics.
    pub ending: &'static str,
    /// The label that must be a number in each: the bound of a bucket, or a quantile. Go's reader refuses the whole body for
    /// one that is none (`startLabelValue` in prometheus/common's `expfmt/text_parse.go`).
    pub bound: Option<&'static [u8]>,
    pub values: Values,
    /// Whether they may have exemplars: a counter's and a bucket may.
    pub takes_exemplars: bool,
    /// What they wait in until their family is over; none if they need not wait.
    pub waits_in: Option<u8>,
}

impl Slot {
    /// That of a family in this format, whose samples need not wait.
    pub(super) fn of(family: &Family<'_>, to: Convention) -> Self {
        Self {
            part: family.part,
            ending: family.part_ending,
            bound: family.bound(),
            values: family.values(to),
            takes_exemplars: family.takes_exemplars(),
            waits_in: None,
        }
    }
}

/// What was written of a sample.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Written {
    pub exemplar: ExemplarFate,
    /// What was lost since a sample was last written.
    pub lost: Lost,
}

/// What became of a sample's exemplar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum ExemplarFate {
    /// It was written, or there was none.
    #[default]
    Written,
    /// It was malformed, or is none that this scraper reads, and is left out.
    Lost,
    /// The format has no place for any.
    Unwritten,
}

/// Samples that were taken and are not written after all, this one perhaps among them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lost {
    /// In their family there is no place for them.
    pub malformed: u64,
    /// Their family grew too large.
    pub too_long: u64,
    /// They tell the time at which a metric was created that has no other samples.
    pub orphaned: u64,
    /// Of these metrics no sample is lost, but each is written by itself.
    pub torn: u64,
    /// Exemplars of samples that are written.
    pub exemplars: u64,
}

impl Lost {
    pub(super) fn is_some(self) -> bool {
        self.malformed + self.too_long + self.orphaned + self.torn + self.exemplars > 0
    }
}

/// A reader and what becomes of what it reads.
#[derive(Debug)]
struct Pipe<R, W> {
    reader: R,
    stage: Stage<W>,
}

impl<R: Reader, W: Writer> Engine for Pipe<R, W> {
    fn push(&mut self, chunk: &[u8], families: &mut Families, out: &mut Vec<u8>) {
        if !self.stage.progress().is_over_limit() {
            self.reader.push(chunk, &mut self.stage.writing(families, out));
        }
    }

    fn pause(&mut self, families: &mut Families) {
        self.reader.pause();
        self.stage.pause(families);
    }

    fn finish(&mut self, end: End, families: &mut Families, out: &mut Vec<u8>) {
        let mut writing = self.stage.writing(families, out);
        self.reader.finish(end, &mut writing);
        writing.finish();
    }

    fn is_whole(&self) -> bool {
        self.reader.is_whole()
    }

    fn progress(&self) -> &Progress {
        self.stage.progress()
    }

    fn check_the_rest(&mut self) -> Option<Box<dyn Engine + Send>> {
        let stage = self.stage.late()?;
        let reader = std::mem::replace(&mut self.reader, R::new(&Room::default()));
        Some(Box::new(Pipe { reader, stage }))
    }
}
