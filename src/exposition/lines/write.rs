//! Samples and metrics as lines of text or OpenMetrics.
//!
//! Each part of a line is copied where it stands as it would be spelt, and spelt where it does not, or where labels are
//! added, renamed or escaped.

use std::marker::PhantomData;

use super::dialect::Dialect;
use super::number::is_plain_value;
use crate::exposition::bytes::{is_old_label_name, is_old_metric_name};
use crate::exposition::engine::{ExemplarFate, Lost, Slot, Told, Writer, Written};
use crate::exposition::families::Families;
use crate::exposition::format::{Escaping, Format, Spelling, TextVersion};
use crate::exposition::labels::{Labels, Names, Resolver};
use crate::exposition::model::{
    Convention, Exemplar, Fact, Metric, MetricType, Number, Part, Sample, Text, Time, is_unit_of, put_float,
    put_integer,
};
use crate::exposition::progress::DropReason;
use crate::exposition::protobuf::{MAX_FAMILY, for_each_point};
use crate::exposition::room::Held;
use crate::exposition::rules::Rules;

/// Writes lines in the dialect `F`.
#[derive(Debug)]
pub(in super::super) struct LineWriter<F> {
    resolver: Resolver,
    /// A `# TYPE` line stands wherever samples follow that would be read as of another type. Of those who read text 0.0.4 or
    /// OpenMetrics, some refuse a second one.
    repeats_types: bool,
    /// Bytes go out as they came where they are what would be written.
    copies: bool,
    /// The name and the labels of the sample before were copied.
    has_copied: bool,
    /// The labels that are added, with the brace behind them: behind others, and alone.
    added_behind: Vec<u8>,
    added_alone: Vec<u8>,
    /// The name in the body of the family at hand, and the one by which its metrics are written.
    stem: Vec<u8>,
    name: Vec<u8>,
    is_name_quoted: bool,
    /// Samples that are families of their own here, and parts of the family at hand in the body: they wait until that is over, so
    /// that it stays in one piece.
    waiting: [Vec<u8>; 3],
    held: Held,
    /// A metric's own labels, each with a comma behind it, and what ends its lines.
    own: Vec<u8>,
    end: Vec<u8>,
    /// Bytes that the message at hand may still become.
    room: usize,
    dialect: PhantomData<F>,
}

/// Room that is kept for what is spelt of the next metric, in bytes.
const KEPT_CAPACITY: usize = 64 << 10;

impl<F: Dialect> Writer for LineWriter<F> {
    const CONVENTION: Convention = F::CONVENTION;
    type Late = Self;

    fn new(rules: &Rules, to: Spelling, copies: bool) -> Self {
        let (added_behind, added_alone) = match rules.labels.text().as_bytes() {
            b"" => (b"}".to_vec(), Vec::new()),
            added => ([b",", added, b"}"].concat(), [b"{", added, b"}"].concat()),
        };
        Self {
            resolver: Resolver::new(rules.labels.clone(), to.escaping),
            repeats_types: to.format == Format::Text(TextVersion::V1_0_0),
            copies,
            has_copied: false,
            added_behind,
            added_alone,
            stem: Vec::new(),
            name: Vec::new(),
            is_name_quoted: false,
            waiting: Default::default(),
            held: rules.room.hold(),
            own: Vec::new(),
            end: Vec::new(),
            room: 0,
            dialect: PhantomData,
        }
    }

    fn repeats_types(&self) -> bool {
        self.repeats_types
    }

    fn escaping(&self) -> Escaping {
        self.resolver.escaping()
    }

    fn family(&mut self, told: &Told<'_>, families: &mut Families, out: &mut Vec<u8>) -> Result<Slot, DropReason> {
        let Told { family, key, .. } = *told;
        if !family.is_old {
            check_name(key)?;
        }
        if self.stem != family.stem {
            self.flush(out);
            self.stem.clear();
            self.stem.extend_from_slice(family.stem);
        }
        if told.from == Convention::Protobuf {
            self.name.clear();
            self.name.extend_from_slice(key);
            // Escaped, it needs none.
            self.is_name_quoted = self.resolver.escaping() == Escaping::AllowUtf8 && !is_old_metric_name(key);
            self.room = MAX_FAMILY;
        }
        let slot = Slot {
            waits_in: family.is_apart.then_some(match family.part {
                Part::Sum => 0,
                Part::Count => 1,
                _ => 2,
            }),
            ..Slot::of(&family, F::CONVENTION)
        };
        if !family.parted.is_empty() {
            families.entry(&[key, family.parted.as_bytes()].concat())?.has_samples = true;
        }
        if F::CONVENTION == Convention::OpenMetrics
            && !told.has_samples
            && family.kind.is_some_and(|kind| families.has_samples_of(key, kind))
        {
            return Ok(slot);
        }
        // A part has no metadata of its own: strict readers take it for that of its family, a second time.
        let is_part = families.is_part(key, F::CONVENTION);
        let is_read_otherwise =
            self.repeats_types && told.has_samples && slot.waits_in.is_none() && !families.is_read_as(key, family.kind);
        let known = families.entry(key)?;
        // What of a family without samples is in the answer already stands somewhere else.
        let is_told = F::CONVENTION == Convention::OpenMetrics
            && !told.has_samples
            && (known.has_help || known.has_type || known.has_unit);
        if is_part || is_told {
            known.has_samples |= told.has_samples;
            return Ok(slot);
        }
        let mut sink = slot.waits_in.map_or(Vec::new(), |at| std::mem::take(&mut self.waiting[usize::from(at)]));
        let to = if slot.waits_in.is_some() { &mut sink } else { out };
        let mut type_line = None;
        let mut takes_type = |kind| {
            let is_first = !known.has_samples && !std::mem::replace(&mut known.has_type, true);
            let is_due = is_first || is_read_otherwise && type_line.is_none();
            if is_due {
                type_line = Some(kind);
            }
            is_due
        };
        // In OpenMetrics it stands before its samples, or nowhere.
        let is_late = F::CONVENTION == Convention::OpenMetrics && known.has_samples;
        for fact in told.facts.iter().flatten().copied() {
            let is_new = match fact {
                Fact::Help(_) => !is_late && !std::mem::replace(&mut known.has_help, true),
                // Escaped, the name may no longer end in the unit.
                Fact::Unit(unit) => {
                    F::CONVENTION == Convention::OpenMetrics
                        && !is_late
                        // Strict readers know of none where a value says nothing.
                        && !matches!(family.kind, Some(MetricType::Info | MetricType::StateSet))
                        && is_unit_of(key, unit)
                        && !std::mem::replace(&mut known.has_unit, true)
                }
                // Under another name, or as another type, it is written below.
                Fact::Type(kind) => family.suffix.is_empty() && family.kind == Some(kind) && takes_type(kind),
            };
            if is_new {
                self.put_fact(told, fact, to);
            }
        }
        // Without metadata, the official Python client takes no name that needs quotes.
        let needs_type = F::CONVENTION == Convention::OpenMetrics
            && told.has_samples
            && !is_late
            && !family.is_old
            && !is_old_metric_name(key);
        let kind = family.kind.or((is_read_otherwise || needs_type).then_some(MetricType::Untyped));
        if let Some(kind) = kind
            && takes_type(kind)
        {
            self.put_fact(told, Fact::Type(kind), to);
        }
        known.has_samples |= told.has_samples;
        if let Some(kind) = type_line {
            families.note_type_line(key, kind);
        }
        if let Some(at) = slot.waits_in {
            self.waiting[usize::from(at)] = sink;
        }
        Ok(slot)
    }

    #[inline(always)]
    fn sample(&mut self, sample: &Sample<'_>, slot: Slot, out: &mut Vec<u8>) -> Result<Written, DropReason> {
        match slot.waits_in {
            None => self.put_sample(sample, slot.takes_exemplars, out),
            Some(at) => {
                let written = self.wait(sample, usize::from(at));
                self.has_copied = false;
                written
            }
        }
    }

    #[inline(always)]
    fn can_repeat(&self) -> bool {
        self.has_copied
    }

    #[inline(always)]
    fn repeat(&mut self, line: &[u8], head_end: usize, out: &mut Vec<u8>) {
        let (head, tail) = line.split_at(head_end);
        out.extend_from_slice(head);
        out.extend_from_slice(&self.added_behind);
        out.extend_from_slice(&tail[1..]);
    }

    fn metric(&mut self, metric: &Metric<'_>, out: &mut Vec<u8>) -> Result<u64, DropReason> {
        self.begin_metric(metric)?;
        let start = out.len();
        let mut written = 0;
        let all = for_each_point(metric, |part, bound, number| {
            self.put_point(metric, part, bound, number, out);
            written += 1;
            // What is written and taken back counts, too: a family must not have the work of many done for it.
            if out.len() - start > self.room { Err(DropReason::TooLong) } else { Ok(()) }
        });
        self.room = self.room.saturating_sub(out.len() - start);
        if self.own.capacity() > KEPT_CAPACITY {
            self.own = Vec::new();
        }
        self.resolver.release();
        all.map(|()| written)
    }

    fn finish(&mut self, _families: &mut Families, out: &mut Vec<u8>) -> Lost {
        self.flush(out);
        Lost::default()
    }
}

impl<F: Dialect> LineWriter<F> {
    /// Writes a line of metadata.
    pub(super) fn put_fact(&self, told: &Told<'_>, fact: Fact<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(match fact {
            Fact::Help(_) => b"# HELP ",
            Fact::Type(_) => b"# TYPE ",
            Fact::Unit(_) => b"# UNIT ",
        });
        if told.family.is_old || self.resolver.escaping() == Escaping::Underscores {
            // Escaped, it needs no quotes.
            out.extend_from_slice(told.key);
        } else {
            put_name(told.key, is_old_metric_name, out);
        }
        out.push(b' ');
        match fact {
            Fact::Help(text) if F::CONVENTION == Convention::OpenMetrics => {
                text.put_quoted(out);
                out.truncate(help_end(out));
            }
            Fact::Help(text) => text.put_help(out),
            Fact::Type(kind) => out.extend_from_slice(told.family.kind.unwrap_or(kind).word(F::CONVENTION).as_bytes()),
            Fact::Unit(unit) => out.extend_from_slice(unit),
        }
        out.push(b'\n');
    }

    /// Writes what waited: the family of which it was a part is over.
    fn flush(&mut self, out: &mut Vec<u8>) {
        if self.waiting.iter().all(Vec::is_empty) {
            return;
        }
        for waiting in &mut self.waiting {
            out.extend_from_slice(waiting);
            *waiting = Vec::new();
        }
        self.held.force(0);
    }

    /// Has a sample wait, as long as there is room.
    fn wait(&mut self, sample: &Sample<'_>, at: usize) -> Result<Written, DropReason> {
        let mut waiting = std::mem::take(&mut self.waiting[at]);
        let before = waiting.len();
        let mut written = self.put_sample(sample, false, &mut waiting);
        let others: usize = self.waiting.iter().map(Vec::capacity).sum();
        let in_all = waiting.capacity() + others;
        if written.is_ok() && (in_all > 2 * MAX_FAMILY || !self.held.resize(in_all)) {
            written = Err(DropReason::TooLong);
        }
        if written.is_err() {
            waiting.truncate(before);
        }
        self.waiting[at] = waiting;
        written
    }

    #[inline(always)]
    fn put_sample(
        &mut self,
        sample: &Sample<'_>,
        takes_exemplars: bool,
        out: &mut Vec<u8>,
    ) -> Result<Written, DropReason> {
        let names = self.resolver.resolve(&sample.labels);
        let keeps_exemplar = takes_exemplars && self.keeps_exemplar(sample);
        // Text has no time before 1970, nor one beyond what its integers hold.
        let is_own_time = match sample.time {
            None => true,
            Some(Time::Milliseconds(_)) => F::CONVENTION == Convention::Text,
            Some(Time::Seconds(_)) => F::CONVENTION == Convention::OpenMetrics,
            Some(Time::Number(_)) => false,
        };
        let time = match sample.time {
            Some(time) if !is_own_time => Some(self.time(time)?),
            _ => None,
        };
        let is_own_name = matches!(sample.name, Text::Plain(_)) || self.resolver.escaping() == Escaping::AllowUtf8;
        self.has_copied = sample.head.is_some() && names == Names::Own && is_own_name && self.copies;
        match sample.head {
            Some(head) if self.has_copied => {
                out.extend_from_slice(head);
                let has_braces = sample.labels.len() > 0 || !matches!(sample.name, Text::Plain(_));
                out.extend_from_slice(if has_braces { &self.added_behind } else { &self.added_alone });
            }
            Some(head) if self.copies && is_own_name && !sample.labels.has_odd_name() => {
                self.put_renamed(head, &sample.labels, out);
                self.resolver.release();
            }
            _ => {
                self.spell_head(sample, names, out);
                self.resolver.release();
            }
        }
        let is_own_end = is_own_time && (matches!(sample.exemplar, Exemplar::Absent) || keeps_exemplar);
        match sample.tail {
            Some(tail) if is_own_end && self.copies => out.extend_from_slice(tail),
            _ => self.spell_tail(sample, time, keeps_exemplar, out),
        }
        Ok(Written {
            exemplar: match sample.exemplar {
                Exemplar::Absent => ExemplarFate::Written,
                Exemplar::Malformed => ExemplarFate::Lost,
                Exemplar::Found { .. } if keeps_exemplar => ExemplarFate::Written,
                Exemplar::Found { .. } if F::CONVENTION == Convention::OpenMetrics => ExemplarFate::Lost,
                // In text it goes, whoever reads it.
                Exemplar::Found { .. } => ExemplarFate::Unwritten,
            },
            lost: Lost::default(),
        })
    }

    /// Whether this scraper reads the sample's exemplar. Strict readers refuse the whole answer for one that is too long or no number
    /// (OpenMetrics 1.0, "Exemplars").
    fn keeps_exemplar(&self, sample: &Sample<'_>) -> bool {
        match &sample.exemplar {
            Exemplar::Found { labels, value, .. } if F::CONVENTION == Convention::OpenMetrics => {
                if exemplar_length(labels) > MAX_EXEMPLAR || !value.float().is_some_and(f64::is_finite) {
                    return false;
                }
                if labels.has_reserved_name() || labels.iter().any(|(_, value)| has_misleading_quotes(&value.plain())) {
                    return false;
                }
                self.resolver.escaping() == Escaping::AllowUtf8
                    || (!labels.has_odd_name() && may_have_exemplar(&sample.name.plain()))
            }
            _ => false,
        }
    }

    /// A time that is not told as this dialect does, in milliseconds.
    fn time(&self, time: Time<'_>) -> Result<i64, DropReason> {
        let milliseconds = time.milliseconds().ok_or(DropReason::Malformed)?;
        match milliseconds {
            ..0 if F::CONVENTION == Convention::Text => Err(DropReason::Malformed),
            milliseconds => Ok(milliseconds),
        }
    }

    /// Copies a sample's name and labels but for the names of those that are renamed, and adds the others.
    fn put_renamed(&self, head: &[u8], labels: &Labels<'_>, out: &mut Vec<u8>) {
        let mut copied = 0;
        for (name, given) in self.resolver.renamed(labels) {
            out.extend_from_slice(&head[copied..name.start]);
            out.extend_from_slice(given);
            copied = name.end;
        }
        out.extend_from_slice(&head[copied..]);
        out.extend_from_slice(&self.added_behind);
    }

    /// Spells a sample's name and labels, and the added ones.
    fn spell_head(&self, sample: &Sample<'_>, names: Names, out: &mut Vec<u8>) {
        let mut name = Vec::new();
        self.resolver.escaping().put_metric_name(&sample.name.plain(), &mut name);
        let mut has_braces = false;
        if is_old_metric_name(&name) {
            out.extend_from_slice(&name);
        } else {
            out.push(b'{');
            put_name(&name, is_old_metric_name, out);
            has_braces = true;
        }
        for (name, value) in self.resolver.iter(&sample.labels, names) {
            out.push(if has_braces { b',' } else { b'{' });
            put_label(name, value, out);
            has_braces = true;
        }
        out.extend_from_slice(if has_braces { &self.added_behind } else { &self.added_alone });
    }

    /// Spells what stands behind the labels.
    fn spell_tail(&self, sample: &Sample<'_>, time: Option<i64>, keeps_exemplar: bool, out: &mut Vec<u8>) {
        out.push(b' ');
        sample.value.put(out);
        match (time, sample.time) {
            (Some(milliseconds), _) => put_time::<F>(milliseconds, out),
            (None, Some(Time::Seconds(token))) => {
                out.push(b' ');
                put_seconds(token, out);
            }
            (None, Some(Time::Milliseconds(token))) => {
                out.push(b' ');
                Number::Token(token).put(out);
            }
            _ => {}
        }
        if let Exemplar::Found { labels, value, time } = &sample.exemplar
            && keeps_exemplar
        {
            out.extend_from_slice(b" # {");
            for (index, (name, value)) in labels.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                put_label(name, value, out);
            }
            out.extend_from_slice(b"} ");
            value.put(out);
            if let Some(Time::Seconds(token)) = time {
                out.push(b' ');
                Number::Token(token).put(out);
            }
        }
        out.push(b'\n');
    }

    /// Spells what all lines of a metric have in common.
    fn begin_metric(&mut self, metric: &Metric<'_>) -> Result<(), DropReason> {
        let names = self.resolver.resolve(&metric.labels);
        self.own.clear();
        for (name, value) in self.resolver.iter(&metric.labels, names) {
            check_name(name.bytes())?;
            put_label(name, value, &mut self.own);
            self.own.push(b',');
        }
        self.end.clear();
        if let Some(time) = metric.time {
            let milliseconds = self.time(time)?;
            put_time::<F>(milliseconds, &mut self.end);
        }
        self.end.push(b'\n');
        Ok(())
    }

    /// Spells a line of a metric.
    fn put_point(&self, metric: &Metric<'_>, part: Part, bound: Option<f64>, number: Number<'_>, out: &mut Vec<u8>) {
        let suffix = metric.family.kind.suffix(part, F::CONVENTION).unwrap_or_default().as_bytes();
        if self.is_name_quoted {
            out.extend_from_slice(b"{\"");
            Text::Plain(&self.name).put_quoted(out);
            out.extend_from_slice(suffix);
            out.extend_from_slice(b"\",");
        } else {
            out.extend_from_slice(&self.name);
            out.extend_from_slice(suffix);
            out.push(b'{');
        }
        out.extend_from_slice(&self.own);
        if let Some(bound) = bound {
            out.extend_from_slice(if part == Part::Bucket { b"le=\"" } else { b"quantile=\"" });
            put_float(bound, out);
            out.extend_from_slice(b"\",");
        }
        // Behind a brace there is no label, behind a comma there is one.
        let is_alone = out.pop() == Some(b'{');
        out.extend_from_slice(if is_alone { &self.added_alone } else { &self.added_behind });
        out.push(b' ');
        number.put(out);
        out.extend_from_slice(&self.end);
    }
}

/// Where a help text of OpenMetrics ends: strict readers refuse a carriage return there.
pub(super) fn help_end(text: &[u8]) -> usize {
    text.len() - text.iter().rev().take_while(|byte| **byte == b'\r').count()
}

/// The longest labels of an exemplar, their names and values together, in characters.
const MAX_EXEMPLAR: usize = 128;

/// Whether the official Python client loses its way in this value of an exemplar's label: it takes each quote for the end of one, or the
/// beginning, and what stands between two of them may close the labels.
fn has_misleading_quotes(value: &[u8]) -> bool {
    let mut is_quoted = true;
    let closes = value.iter().any(|byte| {
        is_quoted ^= *byte == b'"';
        *byte == b'}' && !is_quoted
    });
    closes || value.iter().filter(|byte| **byte == b'"').count() % 2 == 1
}

fn exemplar_length(labels: &Labels<'_>) -> usize {
    let characters = |text: Text<'_>| text.plain().iter().filter(|byte| **byte & 0xc0 != 0x80).count();
    labels.iter().map(|(name, value)| characters(name) + characters(value)).sum()
}

/// Whether a Prometheus that reads no quoted names reads an exemplar at this name: up to 2.42 it rejects the scrape for
/// one at any other (`validateNameForExemplar` in `openmetricsparse.go`).
fn may_have_exemplar(name: &[u8]) -> bool {
    let mut escaped = Vec::new();
    Escaping::Underscores.put_metric_name(name, &mut escaped);
    escaped.ends_with(b"_total") || escaped.ends_with(b"_bucket")
}

/// Appends a time, behind a blank.
fn put_time<F: Dialect>(milliseconds: i64, out: &mut Vec<u8>) {
    out.push(b' ');
    match u64::try_from(milliseconds) {
        Ok(milliseconds) if F::CONVENTION == Convention::Text => put_integer(milliseconds, out),
        _ => put_float(milliseconds as f64 / 1000.0, out),
    }
}

/// Appends a time of OpenMetrics. The official Python client cannot compare one with an exponent to another one.
fn put_seconds(token: &[u8], out: &mut Vec<u8>) {
    match Number::Token(token).float() {
        Some(seconds) if !is_plain_value(token) && (0.0..1e15).contains(&seconds) => {
            out.extend_from_slice(seconds.to_string().as_bytes())
        }
        _ => Number::Token(token).put(out),
    }
}

/// Refuses a name at which Prometheus's lexer stops between quotes: one of a message may hold a NUL.
fn check_name(name: &[u8]) -> Result<(), DropReason> {
    if name.contains(&0) { Err(DropReason::Malformed) } else { Ok(()) }
}

/// Appends a name, between quotes if it must.
pub(super) fn put_name(name: &[u8], is_old: fn(&[u8]) -> bool, out: &mut Vec<u8>) {
    if is_old(name) {
        return out.extend_from_slice(name);
    }
    out.push(b'"');
    Text::Plain(name).put_quoted(out);
    out.push(b'"');
}

/// Appends a label.
fn put_label(name: Text<'_>, value: Text<'_>, out: &mut Vec<u8>) {
    put_name(&name.plain(), is_old_label_name, out);
    out.extend_from_slice(b"=\"");
    value.put_quoted(out);
    out.push(b'"');
}
