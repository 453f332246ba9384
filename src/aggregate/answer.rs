//! The answer to one scrape: whose turn it is, in which format, and what closes it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderValue;
use tokio::time::{Instant, Sleep};

use super::stream::Step;
use super::target::{ScrapeState, TargetScrape};
use super::{FRAME, FRAME_CAPACITY, Failure, MAX_TOGETHER, TURN};
use crate::budget::Budget;
use crate::exposition::{
    End, Escaping, Families, Format, Held, OpenMetricsVersion, Piece, Room, Rules, Spelling, Together, engine, together,
};
use crate::negotiation::{Accepted, content_type};
use crate::scrape::ScrapeError;
use crate::telemetry::{Apart, ApartReason, Telemetry};

/// From where on an answer is one target's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    /// The bytes before it.
    pub(crate) at: u64,
    /// The index of the target; of the sidecar's own metrics, one more than there are targets.
    pub(crate) target: usize,
}

/// The answer to one scrape: pulled, it writes each target's body in turn.
///
/// Dropped, it cancels what is left of the scrapes.
pub struct Answer {
    scrapes: Vec<TargetScrape>,
    /// The index of the target being written.
    current: usize,
    families: Families,
    accepted: Accepted,
    /// What is written, once that is settled.
    spelling: Option<Spelling>,
    /// What is written first of bodies that are held, each with the place of its scrape.
    pieces: VecDeque<(usize, Bytes)>,
    pieces_held: Held,
    /// Everything is written, the end mark too.
    has_ended: bool,
    /// Pieces that were pulled before their time.
    pulled: VecDeque<Bytes>,
    out: Vec<u8>,
    /// What of it is more than a piece takes, as a message may be.
    held: Held,
    room: Room,
    /// Bytes that were taken out of it.
    taken: u64,
    turns: Vec<Turn>,
    budget: Budget,
    timer: Pin<Box<Sleep>>,
    telemetry: Arc<Telemetry>,
    /// What is done with the sidecar's own metrics, where they are wanted.
    own_rules: Option<Rules>,
}

/// A frame of an answer, which takes its room until it is read.
struct Frame {
    bytes: Vec<u8>,
    _held: Held,
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Answer {
    pub(super) fn new(
        scrapes: Vec<TargetScrape>,
        accepted: Accepted,
        budget: Budget,
        telemetry: Arc<Telemetry>,
        own_rules: Option<Rules>,
        room: &Room,
    ) -> Self {
        Self {
            families: Families::of(scrapes.len(), room),
            held: room.hold(),
            room: room.clone(),
            scrapes,
            current: 0,
            accepted,
            spelling: None,
            pieces: VecDeque::new(),
            pieces_held: room.hold(),
            has_ended: false,
            pulled: VecDeque::new(),
            out: Vec::new(),
            taken: 0,
            turns: Vec::new(),
            budget,
            timer: Box::pin(tokio::time::sleep_until(budget.heads_by)),
            telemetry,
            own_rules,
        }
    }

    /// Waits until there is something to answer with; or how each target failed, if all of them did without a whole line
    /// between them.
    pub(super) async fn begin(&mut self) -> Option<Vec<Failure>> {
        let has_something = self.has_more_than(0).await;
        self.failures().filter(|_| !has_something)
    }

    /// Whether there are more bytes than these. Keeps what it must pull to know.
    pub(crate) async fn has_more_than(&mut self, bytes: usize) -> bool {
        let (mut pulled, mut length) = (VecDeque::new(), 0);
        while length <= bytes
            && let Some(piece) = poll_fn(|cx| self.poll_piece(cx)).await
        {
            length += piece.len();
            pulled.push_back(piece);
        }
        pulled.append(&mut self.pulled);
        self.pulled = pulled;
        length > bytes
    }

    /// What the answer is: text 0.0.4, as long as no target told of more.
    pub fn content_type(&self) -> HeaderValue {
        content_type(self.spelling.unwrap_or_else(|| self.accepted.choose(&[], false)))
    }

    /// Whether no target is there any more, so that nobody will ever get more of them than this.
    pub(crate) fn is_last(&self) -> bool {
        let is_gone = |scrape: &TargetScrape| {
            scrape.outcome().is_some_and(|outcome| outcome.result.as_ref().is_err_and(ScrapeError::is_gone))
        };
        self.has_ended && self.scrapes.iter().all(is_gone)
    }

    /// Whose turn it was in what was written so far, from the beginning on.
    pub(crate) fn turns(&self) -> &[Turn] {
        &self.turns
    }

    fn turn_to(&mut self, target: usize) {
        self.families.turn_to(target);
        if self.turns.last().is_none_or(|turn| turn.target != target) {
            let at = self.taken + self.out.len() as u64;
            self.turns.push(Turn { at, target });
        }
    }

    /// How each target failed, if all of them did.
    fn failures(&self) -> Option<Vec<Failure>> {
        self.scrapes.iter().map(TargetScrape::failure).collect()
    }

    /// Drives every target whose head is not in.
    fn poll_heads(&mut self, cx: &mut Context<'_>) {
        for scrape in &mut self.scrapes[self.current..] {
            if scrape.poll_head(cx).is_ready()
                && let Some(spelling) = self.spelling
            {
                scrape.open(spelling);
            }
        }
    }

    /// Settles the answer's format once every head is in, or has been waited for long enough; at once where the scraper
    /// takes but one.
    fn poll_format(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.spelling.is_some() {
            return Poll::Ready(());
        }
        let heard = self.scrapes.iter_mut().filter_map(TargetScrape::heard);
        let heard: Vec<Format> = heard.map(|scraped| scraped.format).collect();
        let awaits_any = self.scrapes.iter().any(|scrape| matches!(scrape.state, ScrapeState::Asked(_)));
        if awaits_any && !self.accepted.is_text_only() {
            if Instant::now() < self.budget.in_turn_by {
                ready!(self.poll_timer(self.budget.in_turn_by, cx));
            }
            if heard.is_empty() {
                return Poll::Pending;
            }
        }
        let mut spelling = self.accepted.choose(&heard, !awaits_any);
        let (mut pieces, mut apart) = (Vec::new(), None);
        if heard.len() > 1 && matches!(spelling.format, Format::OpenMetrics(_)) {
            match ready!(self.poll_together(spelling.escaping, cx)) {
                Ok(order) => pieces = order,
                Err(reason) => {
                    let instead = self.accepted.instead_of_open_metrics();
                    apart = Some(Apart { reason, is_text: instead.is_some() });
                    spelling = instead.unwrap_or(spelling);
                }
            }
        }
        self.telemetry.note_apart(apart);
        self.spelling = Some(spelling);
        self.hand_out(&pieces);
        for scrape in &mut self.scrapes {
            scrape.open(spelling);
        }
        Poll::Ready(())
    }

    /// Holds the bodies of several targets, and looks for the families that they have in common. Ready with the pieces in which they
    /// are written, if not one after the other, or with why they cannot be.
    fn poll_together(&mut self, escaping: Escaping, cx: &mut Context<'_>) -> Poll<Result<Vec<Piece>, ApartReason>> {
        let mut left = MAX_TOGETHER;
        let mut awaits_any = false;
        for scraped in self.scrapes.iter_mut().filter_map(TargetScrape::heard) {
            match scraped.body.poll_whole(left, &self.room, cx) {
                Poll::Ready(true) => left -= scraped.body.gathered().len(),
                Poll::Ready(false) => return Poll::Ready(Err(ApartReason::NoRoom)),
                Poll::Pending => awaits_any = true,
            }
        }
        if awaits_any {
            ready!(self.poll_timer(self.budget.in_turn_by, cx));
            return Poll::Ready(Err(ApartReason::Late));
        }
        let bodies: Vec<&[u8]> =
            self.scrapes.iter_mut().filter_map(TargetScrape::heard).map(|scraped| scraped.body.gathered()).collect();
        let together = together(&bodies, escaping, &self.room);
        Poll::Ready(match together {
            Together::Apart => Ok(Vec::new()),
            Together::Pieces(pieces) => Ok(pieces),
            Together::Clash(family) => Err(ApartReason::Clash(family)),
            Together::NoRoom => Err(ApartReason::NoRoom),
        })
    }

    /// Has these pieces of the bodies that are held written first.
    fn hand_out(&mut self, pieces: &[Piece]) {
        if pieces.is_empty() {
            return;
        }
        let heard = self.scrapes.iter_mut().enumerate();
        let bodies = heard.filter_map(|(place, scrape)| Some((place, scrape.heard()?.body.take_gathered())));
        let bodies: Vec<(usize, Bytes)> = bodies.collect();
        self.pieces =
            pieces.iter().map(|Piece { body, span }| (bodies[*body].0, bodies[*body].1.slice(span.clone()))).collect();
        self.pieces_held.force(self.pieces.capacity() * size_of::<(usize, Bytes)>());
    }

    /// The place of the scrape whose turn it is.
    fn turn(&mut self) -> usize {
        while let Some((place, piece)) = self.pieces.front_mut() {
            let place = *place;
            match &mut self.scrapes[place].state {
                ScrapeState::Alive(stream) if stream.has_chunk() => return place,
                ScrapeState::Alive(stream) if !piece.is_empty() => {
                    stream.give(std::mem::take(piece));
                    return place;
                }
                _ => {
                    self.pieces.pop_front();
                    if self.pieces.front().is_none_or(|(next, _)| *next != place) {
                        self.pause(place);
                    }
                }
            }
        }
        self.current
    }

    /// Another target than the one at this place goes on.
    fn pause(&mut self, place: usize) {
        if let ScrapeState::Alive(stream) = &mut self.scrapes[place].state {
            stream.pause(&mut self.families);
        }
    }

    /// The next piece of the answer; `None` at its end.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(piece) = self.pulled.pop_front() {
            return Poll::Ready(Some(piece));
        }
        let began = Instant::now();
        loop {
            self.poll_heads(cx);
            ready!(self.poll_format(cx));
            if self.out.len() >= FRAME {
                // A body without end must not keep the others from the rest of the time.
                self.let_another_go(cx);
                return Poll::Ready(self.take_piece());
            }
            let turn = self.turn();
            let Some(index) = self.scrapes.get(turn).map(|scrape| scrape.index) else {
                self.end();
                return Poll::Ready(self.take_piece());
            };
            self.turn_to(index);
            let scrape = &mut self.scrapes[turn];
            let step = match &mut scrape.state {
                ScrapeState::Asked(_) | ScrapeState::Heard(_) => Step::Waiting,
                ScrapeState::Done(_) => {
                    self.current += 1;
                    continue;
                }
                ScrapeState::Alive(stream) => {
                    self.out.reserve(FRAME_CAPACITY - self.out.len());
                    let step = stream.step(self.budget, &mut self.families, &mut self.out, cx);
                    self.held.force(self.out.capacity());
                    step
                }
            };
            match step {
                // There may be much work of which nothing comes: a bomb of newlines, say.
                Step::Progress if began.elapsed() >= TURN => {
                    // What is written goes out with what follows: a piece takes as much room however little is in it.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Step::Progress => {}
                Step::End(result) => scrape.end(result),
                Step::Waiting if self.let_another_go(cx) || self.poll_deadline(cx).is_ready() => {}
                Step::Waiting => {
                    return match self.take_piece() {
                        None => Poll::Pending,
                        piece => Poll::Ready(piece),
                    };
                }
            }
        }
    }

    /// Once the time for the targets' order is over: lets one that has something to say go before the one whose turn it
    /// is. Says whether there is one.
    fn let_another_go(&mut self, cx: &mut Context<'_>) -> bool {
        if Instant::now() < self.budget.in_turn_by || !self.pieces.is_empty() {
            return false;
        }
        let waiting = &mut self.scrapes[self.current..];
        let mut others = waiting.iter_mut().skip(1);
        let Some(other) = others.position(|scrape| scrape.has_something(cx)) else {
            return false;
        };
        let other = other + 1;
        self.pause(self.current);
        let waiting = &mut self.scrapes[self.current..];
        for scrape in &mut waiting[..other] {
            scrape.lose_turn();
        }
        waiting.rotate_left(other);
        true
    }

    /// Ready when, with nobody saying anything, something is to be done all the same.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let in_turn_by = self.budget.in_turn_by;
        let at = match &self.scrapes[self.current].state {
            _ if Instant::now() < in_turn_by => in_turn_by,
            ScrapeState::Alive(_) => self.budget.bodies_by,
            // Its head has a limit of its own.
            ScrapeState::Asked(_) | ScrapeState::Heard(_) | ScrapeState::Done(_) => return Poll::Pending,
        };
        self.poll_timer(at, cx)
    }

    fn poll_timer(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if self.timer.deadline() != at {
            self.timer.as_mut().reset(at);
        }
        self.timer.as_mut().poll(cx)
    }

    /// Writes what stands at the end of an answer that is one: the sidecar's own metrics, and the mark of the end.
    fn end(&mut self) {
        if std::mem::replace(&mut self.has_ended, true) {
            return;
        }
        self.telemetry.note_conflicts(self.families.conflicts(), self.families.named_conflicts());
        let has_output = self.taken > 0 || !self.out.is_empty();
        if !has_output && self.failures().is_some() {
            return;
        }
        let Some(spelling) = self.spelling else { return };
        if let Some(rules) = self.own_rules.take() {
            self.write_own_metrics(&rules, spelling);
        }
        if let Format::OpenMetrics(_) = spelling.format {
            self.out.extend_from_slice(b"# EOF\n");
        }
    }

    /// Writes the sidecar's own metrics as if they came from one more target, which speaks OpenMetrics.
    fn write_own_metrics(&mut self, rules: &Rules, spelling: Spelling) {
        // Each is over, and some may have lost their turn.
        self.scrapes.sort_by_key(|scrape| scrape.index);
        let body = self.telemetry.exposition(self.scrapes.iter().filter_map(TargetScrape::outcome).cloned());
        let own = Format::OpenMetrics(OpenMetricsVersion::V1_0_0);
        let mut engine = engine(own, spelling, rules).expect("OpenMetrics becomes anything");
        self.turn_to(self.scrapes.len());
        engine.push(body.as_bytes(), &mut self.families, &mut self.out);
        engine.finish(End::Whole, &mut self.families, &mut self.out);
    }

    fn take_piece(&mut self) -> Option<Bytes> {
        self.taken += self.out.len() as u64;
        if self.out.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.out);
        self.held.force(bytes.capacity());
        let _held = std::mem::replace(&mut self.held, self.room.hold());
        Some(Bytes::from_owner(Frame { bytes, _held }))
    }
}
