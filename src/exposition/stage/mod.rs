//! What becomes of what is read: which family a sample belongs to, what the rules say of it, whether there is room for it, and
//! what is counted. Here, once, whatever is read and whatever is written.
//!
//! In: [`Events`] of a reader. Out: the same to a [`Writer`], under the names by which it writes families.
//!
//! To whoever changes this: a sample may be written only when all of it has been checked, because one line that
//! Prometheus cannot read costs the whole scrape. The tables of cases in `tests/suite/engine` hold the rules, one line each; add
//! yours there.

mod pending;
mod recent;

use std::sync::Arc;

use self::pending::{Deferred, PendingFamily, PendingMetadata};
use self::recent::RecentNames;
use super::engine::{Events, ExemplarFate, Facts, Lost, Noting, Slot, Told, Writer};
use super::families::{Families, Known};
use super::filter::Filter;
use super::model::{Convention, Fact, Family, FamilyMessage, Metadata, Metric, MetricType, Sample, Text};
use super::progress::{DropReason, Progress, Unwritten};
use super::rules::{Rules, Untyped, UntypedAction};

/// The longest name of a family or a sample, in bytes: names are kept, hashed and matched by patterns.
const MAX_NAME: usize = 16 << 10;

/// What becomes of one body.
#[derive(Debug)]
pub(super) struct Stage<W> {
    from: Convention,
    writer: W,
    untyped: Untyped,
    filter: Option<Arc<Filter>>,
    progress: Progress,
    recent: RecentNames,
    pending: PendingMetadata,
    deferred: Deferred,
    /// The message at hand.
    message: Message,
    /// The name under which the family at hand is written.
    key: Vec<u8>,
}

/// What becomes of the samples of a name.
type Settled = Result<Slot, DropReason>;

/// What is to be taken back if nothing of a message is written.
#[derive(Debug, Default)]
struct Message {
    kind: Option<MetricType>,
    is_declared: bool,
    /// The length of the output before it, and the samples.
    out: usize,
    samples: u64,
    /// What was known of its family.
    before: Option<Known>,
}

/// A body's stage with what all bodies of an answer share, and where it is written.
pub(super) struct Writing<'a, W> {
    stage: &'a mut Stage<W>,
    families: &'a mut Families,
    out: &'a mut Vec<u8>,
}

impl<W: Writer> Stage<W> {
    pub(super) fn new(from: Convention, writer: W, rules: &Rules) -> Self {
        Self {
            from,
            writer,
            untyped: rules.untyped,
            filter: rules.filter.clone(),
            progress: Progress::new(rules.sample_limit),
            recent: RecentNames::default(),
            pending: PendingMetadata::new(&rules.room),
            deferred: Deferred::new(&rules.room),
            message: Message::default(),
            key: Vec::new(),
        }
    }

    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Has another body go on.
    pub(super) fn pause(&mut self, families: &mut Families) {
        self.recent.forget();
        self.writer.pause(families);
    }

    pub(super) fn writing<'a>(&'a mut self, families: &'a mut Families, out: &'a mut Vec<u8>) -> Writing<'a, W> {
        Writing { stage: self, families, out }
    }

    /// The stage for the rest of the body, if that has another writer.
    pub(super) fn late(&mut self) -> Option<Stage<W::Late>> {
        let writer = self.writer.late()?;
        Some(Stage {
            from: self.from,
            writer,
            untyped: self.untyped,
            filter: self.filter.take(),
            progress: std::mem::take(&mut self.progress),
            // They were settled for the writer before.
            recent: RecentNames::default(),
            pending: std::mem::take(&mut self.pending),
            deferred: std::mem::take(&mut self.deferred),
            message: std::mem::take(&mut self.message),
            key: Vec::new(),
        })
    }

    /// Both ends of the way from what is read to what is written.
    fn way(&self) -> (Convention, Convention) {
        (self.from, W::CONVENTION)
    }

    /// Gives an untyped family of this name the type by which it is written, if that is another, and none must not be given.
    ///
    /// # Errors
    ///
    /// It is dropped.
    fn sanitize(&self, family: &mut Family<'_>, name: &[u8], keeps_type: bool) -> Result<(), DropReason> {
        match self.untyped.action(name) {
            UntypedAction::Keep => Ok(()),
            UntypedAction::Convert(_) if keeps_type => Ok(()),
            UntypedAction::Convert(kind) => {
                family.sanitize(kind, W::CONVENTION);
                Ok(())
            }
            UntypedAction::Drop => Err(DropReason::Untyped),
        }
    }

    /// Whether the filter lets a family through that goes by this name in text.
    fn keeps(&self, family: &Family<'_>) -> bool {
        self.filter.as_ref().is_none_or(|filter| match family.suffix {
            "" => filter.keeps(family.stem),
            suffix => filter.keeps(&[family.stem, suffix.as_bytes()].concat()),
        })
    }

    /// Whether the filter lets a family through of which nothing but the metadata is known.
    fn keeps_bare(&self, name: &[u8], kind: Option<MetricType>) -> bool {
        self.filter.is_none() || self.keeps(&Family::without_samples((self.from, Convention::Text), name, kind))
    }
}

impl<W: Writer> Events for Writing<'_, W> {
    #[inline(always)]
    fn advance(&mut self, lines: u64) {
        self.stage.progress.advance(lines);
    }

    fn comment(&mut self, line: &[u8]) {
        self.stage.progress.note_read();
        if !self.stage.progress.is_over_limit() {
            self.stage.writer.comment(line, self.out);
        }
    }

    fn metadata(&mut self, metadata: &Metadata<'_>, line: &[u8]) {
        self.stage.progress.note_read();
        if self.stage.progress.is_over_limit() {
            return;
        }
        let name = metadata.name.plain();
        let is_old = matches!(metadata.name, Text::Plain(_));
        let told = match name.len() {
            _ if metadata.fact.kind().is_some_and(|kind| !kind.may_have_name(&name)) => {
                self.families.note_unread_type(&name);
                self.stage.recent.forget();
                Err(DropReason::Malformed)
            }
            ..=MAX_NAME if W::IS_VERBATIM => self.metadata_in_place(&name, is_old, metadata.fact),
            ..=MAX_NAME if self.is_second_counter(&name, metadata.fact) => {
                self.hold_second_counter(&name, is_old, metadata.fact)
            }
            ..=MAX_NAME => self.hold(&name, is_old, metadata.fact),
            _ => Err(DropReason::TooLong),
        };
        if let Err(reason) = told {
            self.stage.progress.drop_line(reason, line);
        }
    }

    fn unread_type(&mut self, name: Text<'_>, line: &[u8]) {
        let name = name.plain();
        if name.len() <= MAX_NAME {
            self.families.note_unread_type(&name);
            self.stage.recent.forget();
        }
        self.unreadable(DropReason::Malformed, line);
    }

    #[inline(always)]
    fn sample(&mut self, sample: &Sample<'_>) -> Noting {
        if self.stage.progress.is_over_limit() {
            return Noting::Keep;
        }
        let known = self.stage.recent.of(sample.name.bytes(), sample.has_same_name);
        let mut noting = Noting::Keep;
        let settled = match known {
            Some(settled) => Some(settled),
            None => self.first_sample(sample, &mut noting),
        };
        let written = match settled {
            Some(Ok(Slot { bound: Some(bound), .. })) if !sample.labels.may_bound(bound) => Err(DropReason::Malformed),
            Some(Ok(slot)) if !slot.values.have(sample.value) => Err(DropReason::Malformed),
            Some(Ok(slot)) if self.stage.progress.has_room_for(1) => self.stage.writer.sample(sample, slot, self.out),
            Some(Ok(_)) => {
                self.cut(None);
                return Noting::Keep;
            }
            Some(Err(reason)) => Err(reason),
            None => return Noting::Keep,
        };
        match written {
            Ok(written) => {
                self.stage.progress.add(1);
                match written.exemplar {
                    ExemplarFate::Written => {}
                    ExemplarFate::Lost => self.drop_sample(DropReason::Malformed, sample),
                    ExemplarFate::Unwritten => {
                        self.stage.progress.leave_unwritten(Unwritten { exemplars: 1, ..Unwritten::default() });
                    }
                }
                if written.lost.is_some() {
                    self.take_back(written.lost, Some(sample));
                }
            }
            Err(reason) => self.drop_sample(reason, sample),
        }
        // Of most names there is but one sample: not for them is anything noted.
        if known.is_some() && written.is_ok() && self.stage.writer.can_repeat() { Noting::Note } else { noting }
    }

    #[inline(always)]
    fn can_repeat(&self) -> bool {
        self.stage.progress.has_room_for(1)
    }

    #[inline(always)]
    fn repeat(&mut self, line: &[u8], head_end: usize) {
        self.stage.writer.repeat(line, head_end, self.out);
        self.stage.progress.advance(1);
        self.stage.progress.add(1);
    }

    fn family(&mut self, family: &FamilyMessage<'_>) -> bool {
        self.stage.progress.note_read();
        !self.stage.progress.is_over_limit() && self.begin_message(family)
    }

    fn metric(&mut self, metric: &Metric<'_>) -> bool {
        let stage = &mut *self.stage;
        stage.writer.before_metric(metric, self.out);
        let start = self.out.len();
        match stage.writer.metric(metric, self.out) {
            Ok(samples) if stage.progress.has_room_for(samples) => {
                stage.progress.add(samples);
                if W::CONVENTION != Convention::Protobuf {
                    let (exemplars, native_histograms) = (metric.exemplars, u64::from(metric.is_native));
                    stage.progress.leave_unwritten(Unwritten { exemplars, native_histograms, utf8_names: 0 });
                }
            }
            Ok(_) => {
                self.out.truncate(start);
                stage.writer.take_back_metric();
                stage.progress.exceed_limit();
                return false;
            }
            Err(reason) => {
                self.out.truncate(start);
                stage.writer.take_back_metric();
                stage.progress.drop_line(reason, metric.family.name);
            }
        }
        true
    }

    fn family_end(&mut self, family: &FamilyMessage<'_>) {
        let stage = &mut *self.stage;
        let message = &stage.message;
        // A family without any metric is nothing to a reader, unless it came so.
        if family.metrics == 0 || stage.progress.counts().samples > message.samples {
            stage.progress.tear(stage.writer.torn());
            stage.writer.message_end(family, self.out);
            if let Some(kind) = message.kind {
                self.families.settle_type(&stage.key, kind, message.is_declared, W::CONVENTION);
            }
        } else {
            self.out.truncate(message.out);
            self.families.restore(&stage.key, message.before);
        }
    }

    fn unreadable(&mut self, reason: DropReason, text: &[u8]) {
        if !self.stage.progress.is_over_limit() {
            self.stage.progress.drop_line(reason, text);
        }
    }
}

impl<W: Writer> Writing<'_, W> {
    /// Ends the body.
    pub(super) fn finish(&mut self) {
        self.flush_pending();
        for deferred in self.stage.deferred.take_all() {
            self.write_pending(&deferred);
        }
        let lost = self.stage.writer.finish(self.families, self.out);
        self.take_back(lost, None);
    }

    #[cold]
    fn drop_sample(&mut self, reason: DropReason, sample: &Sample<'_>) {
        self.stage.progress.drop_line(reason, sample.text());
    }

    /// Counts what is lost after it was counted as written.
    #[cold]
    fn take_back(&mut self, lost: Lost, sample: Option<&Sample<'_>>) {
        let progress = &mut self.stage.progress;
        if let (1.., Some(sample)) = (lost.too_long, sample) {
            progress.note_dropped(DropReason::TooLong, sample.text());
        }
        progress.take_back(DropReason::Malformed, lost.malformed);
        progress.take_back(DropReason::TooLong, lost.too_long);
        progress.tear(lost.torn);
        progress.leave_unwritten(Unwritten { exemplars: lost.exemplars, ..Unwritten::default() });
        if progress.is_over_limit() {
            // What they belong to was to come.
            progress.leave_out(lost.orphaned);
        } else if self.stage.filter.is_some() {
            // What they belong to went there.
            progress.take_back(DropReason::Filtered, lost.orphaned);
        } else {
            progress.take_back(DropReason::Malformed, lost.orphaned);
        }
    }

    /// Settles what becomes of the samples of this name and tells of their family, unless they have no room.
    #[inline(never)]
    fn first_sample(&mut self, sample: &Sample<'_>, noting: &mut Noting) -> Option<Settled> {
        let name = sample.name.plain();
        if name.len() > MAX_NAME {
            // It is not kept, and so nothing is that the next one could be the same as.
            self.stage.recent.forget();
            *noting = Noting::Forget;
            return Some(Err(DropReason::TooLong));
        }
        let family = self.family_of(&name);
        let is_old = matches!(sample.name, Text::Plain(_));
        let family = family.map(|family| Family { is_old, ..family });
        if let Ok(family) = &family
            && !self.stage.progress.has_room_for(1)
        {
            self.cut(Some(family));
            return None;
        }
        let type_lines = self.families.type_lines();
        let settled = family.and_then(|family| self.tell(&family));
        let is_parted = self.stage.writer.repeats_types() && self.families.type_lines() != type_lines;
        if is_parted || self.stage.writer.has_turned() {
            // Those of other families must be told of, or may need another type line, when they go on.
            self.stage.recent.forget();
            *noting = Noting::Forget;
        }
        if self.stage.recent.add(sample.name.bytes(), settled) {
            *noting = Noting::Forget;
        }
        Some(settled)
    }

    /// Ends the output in front of a sample that has no room, of this family or of the one told last.
    #[cold]
    fn cut(&mut self, beyond: Option<&Family<'_>>) {
        let stage = &mut *self.stage;
        stage.progress.exceed_limit();
        stage.pending.clear();
        stage.deferred.take_all();
        let left_out = stage.writer.cut(beyond);
        stage.progress.leave_out(left_out);
    }

    /// The family as which the samples of this name are written, or why they are dropped.
    fn family_of<'a>(&mut self, name: &'a [u8]) -> Result<Family<'a>, DropReason> {
        let stage = &mut *self.stage;
        let (stem, suffix, declared) = self.families.family_of(name, stage.from);
        if stage.filter.is_some() {
            let in_text = Family::of_sample((stage.from, Convention::Text), stem, suffix, declared);
            if !stage.keeps(&in_text) {
                // Its metadata stays held: a sample by another name may be kept.
                self.families.note_filtered(stem);
                return Err(DropReason::Filtered);
            }
        }
        let mut family = Family::of_sample(stage.way(), stem, suffix, declared);
        // What a target meant by a type that cannot be read, nobody knows.
        if matches!(declared, None | Some(MetricType::Untyped)) && !self.families.has_unread_type(name) {
            // Another type would end the histogram or summary that it stands within.
            let stands_within = W::CONVENTION == Convention::Text && self.families.stands_within(name);
            stage.sanitize(&mut family, name, stands_within).inspect_err(|_| {
                if stage.pending.is_of(stem) {
                    stage.pending.clear();
                }
                self.families.note_samples(stem);
            })?;
        }
        Ok(family)
    }

    /// Has what is known of the family written of a sample that is to be written.
    fn tell(&mut self, family: &Family<'_>) -> Settled {
        let is_pending = self.take_up(family.stem);
        if !is_pending {
            self.flush_pending();
        }
        let slot = if is_pending {
            let held = std::mem::take(&mut self.stage.pending.family);
            let slot = self.write_family(family, held.told(), true);
            self.stage.pending.family = held;
            slot
        } else {
            self.write_family(family, Facts::default(), true)
        };
        if slot.is_ok() && !family.is_apart {
            self.families.note_samples(family.stem);
            self.stage.pending.family.is_told |= is_pending;
        }
        slot
    }

    fn write_family(&mut self, family: &Family<'_>, facts: Facts<'_>, has_samples: bool) -> Settled {
        let stage = &mut *self.stage;
        let key = family.key(stage.writer.escaping(), &mut stage.key);
        if has_samples
            && !W::IS_VERBATIM
            && (!family.is_old || !family.is_declared)
            && !self.families.is_sampled(family.stem)
        {
            stage.progress.note_family(family, key);
        }
        let told = Told { family: *family, key, facts, has_samples, from: stage.from };
        let slot = stage.writer.family(&told, self.families, self.out)?;
        // A message without metrics says nothing to anybody, so that one is not written.
        if let Some(kind) = family.kind.filter(|_| has_samples || !W::WRITES_WHOLE_FAMILIES) {
            self.families.settle_type(key, kind, family.is_declared, W::CONVENTION);
        }
        Ok(slot)
    }

    /// Holds a line of metadata until there is a sample of its family, or of another one.
    fn hold(&mut self, name: &[u8], is_old: bool, fact: Fact<'_>) -> Result<(), DropReason> {
        if matches!(fact, Fact::Help(_)) && self.stage.pending.is_of(name) && self.stage.pending.family.is_told {
            // It may be of another family by the same name.
            self.stage.pending.clear();
        }
        if !self.stage.pending.is_of(name) {
            if self.families.is_declared_part(name, self.stage.from) {
                // Its samples belong to another family already.
                return Ok(());
            }
            if !self.take_up(name) {
                self.flush_pending();
                if self.stage.filter.is_none() {
                    self.families.entry(name)?;
                }
                self.stage.pending.family.name.extend_from_slice(name);
                self.stage.pending.family.is_old_name = is_old;
            }
        }
        if let Fact::Type(kind) = fact {
            // Another type, or one behind samples, nobody takes; who says it again says nothing new.
            if self.families.is_contradicted(name, kind) {
                return Err(DropReason::Malformed);
            }
            if self.families.is_settled(name) {
                return Ok(());
            }
            // What the filter drops takes room only where samples by other names are known by it.
            if kind.has_parts(self.stage.from) || self.stage.keeps_bare(name, Some(kind)) {
                self.families.declare(name, kind)?;
            }
            // It may tell anew which samples belong to which family.
            self.stage.recent.forget();
        }
        Ok(self.stage.pending.add(fact)?)
    }

    /// Whether this makes a counter of a family that is another in OpenMetrics already: as Go's default registry writes a gauge `x`, and
    /// then a counter `x` with samples `x_total`.
    fn is_second_counter(&self, name: &[u8], fact: Fact<'_>) -> bool {
        self.stage.from == Convention::OpenMetrics
            && matches!(fact, Fact::Type(MetricType::Counter))
            && self.families.declared(name).is_some_and(|kind| kind != MetricType::Counter)
    }

    /// Holds it under the name of its samples, with the help text before it. To OpenMetrics no reader takes it as a counter by that
    /// name, and there it has no type.
    fn hold_second_counter(&mut self, name: &[u8], is_old: bool, fact: Fact<'_>) -> Result<(), DropReason> {
        let counter = [name, b"_total"].concat();
        let pending = &mut self.stage.pending;
        if pending.is_of(name) && !pending.family.is_told {
            pending.family.name.clone_from(&counter);
            self.families.entry(&counter)?;
        }
        if W::CONVENTION != Convention::OpenMetrics {
            return self.hold(&counter, is_old, fact);
        }
        self.families.note_unread_type(&counter);
        self.stage.recent.forget();
        Ok(())
    }

    /// Writes a line of metadata where it stands. One that there is no room for to be known passes all the same.
    fn metadata_in_place(&mut self, name: &[u8], is_old: bool, fact: Fact<'_>) -> Result<(), DropReason> {
        let mut kind = None;
        if let Fact::Type(declared) = fact {
            if self.families.is_contradicted(name, declared) {
                return Err(DropReason::Malformed);
            }
            kind = Some(declared);
            self.stage.recent.forget();
            let _ = self.families.declare(name, declared);
        }
        let family = Family { is_old, ..Family::without_samples(self.stage.way(), name, kind) };
        let _ = self.write_family(&family, [Some(fact), None, None], false);
        Ok(())
    }

    /// Whether the metadata of this family is held. If it was deferred, it is no more.
    fn take_up(&mut self, name: &[u8]) -> bool {
        if self.stage.pending.is_of(name) {
            return true;
        }
        let Some(deferred) = self.stage.deferred.take(name) else { return false };
        self.flush_pending();
        self.stage.pending.put_back(deferred);
        true
    }

    /// Defers the metadata that no sample asked for, or writes it.
    fn flush_pending(&mut self) {
        if self.stage.pending.family.name.is_empty() {
            return;
        }
        if self.stage.pending.family.is_told {
            return self.stage.pending.clear();
        }
        let held = self.stage.pending.take();
        let held = match W::CONVENTION {
            Convention::OpenMetrics => self.stage.deferred.add(held),
            Convention::Text | Convention::Protobuf => Some(held),
        };
        if let Some(held) = held {
            self.write_pending(&held);
            self.stage.pending.put_back(held);
        }
        self.stage.pending.clear();
    }

    /// Writes the metadata that no sample asked for.
    fn write_pending(&mut self, held: &PendingFamily) {
        let name = &held.name;
        let declared = self.families.declared(name);
        let mut family = Family::without_samples(self.stage.way(), name, declared);
        family.is_old = held.is_old_name;
        let is_kept = (declared != Some(MetricType::Untyped) || self.stage.sanitize(&mut family, name, false).is_ok())
            && (self.stage.filter.is_none()
                || (!self.families.is_filtered(name) && self.stage.keeps_bare(name, declared)));
        if is_kept {
            // Without room for its name there is nothing to write it with.
            let _ = self.write_family(&family, held.told(), false);
        }
    }

    /// Begins a message, unless it is dropped.
    fn begin_message(&mut self, message: &FamilyMessage<'_>) -> bool {
        let stage = &mut *self.stage;
        if message.name.len() > MAX_NAME {
            stage.progress.drop_lines(DropReason::TooLong, message.metrics, message.name);
            return false;
        }
        let may_have_kind = W::CONVENTION == Convention::Protobuf || message.kind.may_have_name(message.name);
        let kind = if may_have_kind { message.kind } else { MetricType::Untyped };
        let mut family = Family::without_samples(stage.way(), message.name, Some(kind));
        stage.key.clear();
        family.put_key(stage.writer.escaping(), &mut stage.key);
        let mut dropped = (!stage.keeps(&family)).then_some(DropReason::Filtered);
        if dropped.is_none() && message.kind == MetricType::Untyped {
            dropped = stage.sanitize(&mut family, &stage.key, false).err();
        }
        let now = &mut stage.message;
        (now.kind, now.is_declared) = (family.kind, family.is_declared);
        (now.out, now.samples) = (self.out.len(), stage.progress.counts().samples);
        now.before = self.families.known(&stage.key);
        if dropped.is_none() {
            stage.progress.note_family(&family, &stage.key);
            let unit = (!message.unit.is_empty()).then_some(message.unit);
            let told = Told {
                family,
                key: &stage.key,
                facts: [message.help.map(Text::Plain).map(Fact::Help), None, unit.map(Fact::Unit)],
                has_samples: true,
                from: stage.from,
            };
            let begun = stage.writer.message(message, &told, self.families, self.out);
            match begun {
                Ok(true) => stage.progress.drop_line(DropReason::Malformed, message.name),
                Ok(false) => {}
                Err(reason) => dropped = Some(reason),
            }
        }
        if let Some(reason) = dropped {
            stage.progress.drop_lines(reason, message.metrics, message.name);
        }
        dropped.is_none()
    }
}
