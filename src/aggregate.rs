//! One request: every target asked at once, their bodies written one after the other as they are pulled.
//!
//! In: the scraper's headers. Out: an [`Answer`], a body that is a valid exposition whatever the targets do, in the
//! richest format that the scraper takes and the targets give; or, if no target is alive, what each did. The answer holds
//! a slice of one body at a time; while the scraper does not read, no target is read either.

use std::future::{Future, poll_fn};
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::USER_AGENT;
use http::{HeaderMap, HeaderValue};
use reqwest::Url;
use tokio::time::{Instant, Sleep};
use tracing::{debug, warn};

use crate::budget::{Budget, scraper_timeout};
use crate::config::{Config, Endpoint};
use crate::exposition::{
    self, Counts, DropReason, End, Families, Format, LabelSet, Names, OpenMetricsToProtobuf, OpenMetricsToText,
    ProtobufToText, Relabel, RelabelOpenMetrics, Rules, Splice, TextToProtobuf, TextVersion, Untyped, Verbatim,
};
use crate::negotiation::{Accepted, content_type};
use crate::scrape::{ScrapeError, Scraped, Scraper, Target, TargetBody};

/// The name of the queue-proxy's target.
pub const QUEUE_PROXY: &str = "queue-proxy";
/// The name of the application's target.
pub const APP: &str = "app";

/// Bytes of a body that go through the engine at once: few enough to stay in the processor's nearest cache.
const SLICE: usize = 16 << 10;

/// Bytes after which a piece of the answer goes out: enough that a system call does not count.
const FRAME: usize = 256 << 10;

/// Room for a piece of the answer and the slice that completes it, labels added.
const FRAME_CAPACITY: usize = FRAME + 2 * SLICE;

/// What is done with a target's body.
#[derive(Debug, Clone)]
enum Treatment {
    /// Passed on byte for byte.
    Verbatim,
    /// Checked, relabelled and sanitized.
    Relabel(Arc<LabelSet>, Untyped),
}

#[derive(Debug)]
struct Plan {
    target: Target,
    treatment: Treatment,
}

/// Answers scrapes of the whole pod.
#[derive(Debug)]
pub struct Aggregator {
    scraper: Scraper,
    plans: Vec<Arc<Plan>>,
    timeout: Duration,
    offset: Duration,
}

/// A target and how it failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{target} ({url}) {error}")]
pub struct Failure {
    /// The target's name.
    pub target: String,
    /// Where it is.
    pub url: Url,
    /// What it did.
    pub error: ScrapeError,
}

impl Aggregator {
    /// Plans the scrapes that the configuration asks for, in the order in which they are written.
    ///
    /// # Errors
    ///
    /// The HTTP client cannot be set up.
    pub fn new(config: &Config) -> Result<Self, reqwest::Error> {
        let relabel = Treatment::Relabel(Arc::new(config.serving_labels.clone()), config.untyped);
        let plan = |name: &str, endpoint: &Option<Endpoint>, treatment: Treatment| {
            let endpoint = endpoint.as_ref()?;
            let target = Target {
                name: name.to_owned(),
                url: endpoint.url(),
                max_body_bytes: config.max_body_bytes,
            };
            Some(Arc::new(Plan { target, treatment }))
        };
        let plans = [
            plan(QUEUE_PROXY, &config.queue_proxy, Treatment::Verbatim),
            plan(APP, &config.app, relabel),
        ];
        Ok(Self {
            scraper: Scraper::new()?,
            plans: plans.into_iter().flatten().collect(),
            timeout: config.scrape_timeout,
            offset: config.scrape_timeout_offset,
        })
    }

    /// The targets, in the order in which they are written.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.plans.iter().map(|plan| &plan.target)
    }

    /// Asks every target at once; answers as soon as one of them has something to say, or ends well.
    ///
    /// # Errors
    ///
    /// How each target failed, if all of them did without a whole line between them: a head alone is no answer.
    pub async fn scrape(&self, headers: &HeaderMap) -> Result<Answer, Vec<Failure>> {
        let budget = Budget::new(scraper_timeout(headers).unwrap_or(self.timeout), self.offset);
        let accepted = Accepted::of(headers);
        let (accept, user_agent) = (accepted.for_targets(), headers.get(USER_AGENT));
        let scrapes = self
            .plans
            .iter()
            .enumerate()
            .map(|(index, plan)| self.ask(index, plan, &accept, user_agent, budget))
            .collect();
        let mut answer = Answer::new(scrapes, accepted, budget);
        answer.first_piece = poll_fn(|cx| answer.poll_piece(cx)).await;
        match answer.failures() {
            Some(failures) if answer.first_piece.is_none() => Err(failures),
            _ => Ok(answer),
        }
    }

    fn ask(
        &self,
        index: usize,
        plan: &Arc<Plan>,
        accept: &HeaderValue,
        user_agent: Option<&HeaderValue>,
        budget: Budget,
    ) -> TargetScrape {
        let (scraper, accept, user_agent) = (self.scraper.clone(), accept.clone(), user_agent.cloned());
        let asked = Arc::clone(plan);
        TargetScrape {
            plan: Arc::clone(plan),
            index,
            lost_its_turn: false,
            state: State::Asked(Box::pin(async move {
                scraper.scrape(&asked.target, accept, user_agent, budget).await
            })),
        }
    }
}

/// A target within one request.
struct TargetScrape {
    plan: Arc<Plan>,
    /// Its place in the order of the targets.
    index: usize,
    /// Another target went before it, or before the rest of it.
    lost_its_turn: bool,
    state: State,
}

enum State {
    /// Its head is not in.
    Asked(Pin<Box<dyn Future<Output = Result<Scraped, ScrapeError>> + Send>>),
    /// Its head is in, and the answer's format is not settled.
    Heard(Box<Scraped>),
    /// Its body is being written, or waits for its turn.
    Alive(Box<Stream>),
    /// Nothing more comes from it.
    Done(Result<(), ScrapeError>),
}

/// A body on its way through the engine.
struct Stream {
    body: TargetBody,
    engine: Engine,
    /// How a body ends that ends well.
    good_end: End,
    /// What has been read and not yet pushed.
    chunk: Bytes,
    /// How the body ended, once nothing more can be read.
    ended: Option<Result<(), ScrapeError>>,
}

/// What a body goes through.
enum Engine {
    /// Byte for byte, as long as the body has its turn.
    Verbatim(Verbatim),
    Checked(Box<dyn exposition::Engine + Send>),
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
    format: Option<(Format, Names)>,
    /// Something of a target was written.
    has_output: bool,
    /// Everything is written, the end mark too.
    has_ended: bool,
    /// What was written when it was settled that there is something to write.
    first_piece: Option<Bytes>,
    out: Vec<u8>,
    budget: Budget,
    timer: Pin<Box<Sleep>>,
}

/// What a step through a body came to.
enum Step {
    Progress,
    Waiting,
    /// The body did not end in time.
    Overdue,
    End(Result<(), ScrapeError>),
}

impl Answer {
    fn new(scrapes: Vec<TargetScrape>, accepted: Accepted, budget: Budget) -> Self {
        Self {
            scrapes,
            current: 0,
            families: Families::default(),
            accepted,
            format: None,
            has_output: false,
            has_ended: false,
            first_piece: None,
            out: Vec::new(),
            budget,
            timer: Box::pin(tokio::time::sleep_until(budget.heads_by())),
        }
    }

    /// What the answer is: text 0.0.4, as long as no target told of more.
    #[must_use]
    pub fn content_type(&self) -> HeaderValue {
        let (format, names) = self.format.unwrap_or_else(|| self.accepted.choose(&[], false));
        content_type(format, names)
    }

    /// How each target failed, if all of them did.
    fn failures(&self) -> Option<Vec<Failure>> {
        self.scrapes.iter().map(TargetScrape::failure).collect()
    }

    /// Drives every target whose head is not in.
    fn poll_heads(&mut self, cx: &mut Context<'_>) {
        for scrape in &mut self.scrapes[self.current..] {
            let State::Asked(asked) = &mut scrape.state else {
                continue;
            };
            match asked.as_mut().poll(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(scraped)) => {
                    scrape.state = State::Heard(Box::new(scraped));
                    if let Some((format, names)) = self.format {
                        scrape.open(format, names, self.budget);
                    }
                }
                Poll::Ready(Err(error)) => scrape.end(Err(error), self.budget),
            }
        }
    }

    /// Settles the answer's format once every head is in, or has been waited for long enough; at once where the scraper
    /// takes but one.
    fn poll_format(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.format.is_some() {
            return Poll::Ready(());
        }
        let heard = self.scrapes.iter().filter_map(|scrape| match &scrape.state {
            State::Heard(scraped) => Some(scraped.format),
            State::Asked(_) | State::Alive(_) | State::Done(_) => None,
        });
        let heard: Vec<Format> = heard.collect();
        let awaits_any = self
            .scrapes
            .iter()
            .any(|scrape| matches!(scrape.state, State::Asked(_)));
        if awaits_any && !self.accepted.is_text_only() {
            if Instant::now() < self.budget.in_turn_by() {
                ready!(self.poll_timer(self.budget.in_turn_by(), cx));
            }
            if heard.is_empty() {
                return Poll::Pending;
            }
        }
        let (format, names) = self.accepted.choose(&heard, !awaits_any);
        self.format = Some((format, names));
        for scrape in &mut self.scrapes {
            scrape.open(format, names, self.budget);
        }
        Poll::Ready(())
    }

    /// The next piece of the answer; `None` at its end.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(piece) = self.first_piece.take() {
            return Poll::Ready(Some(piece));
        }
        loop {
            self.poll_heads(cx);
            ready!(self.poll_format(cx));
            if self.out.len() >= FRAME {
                // A body without end must not keep the others from the rest of the time.
                self.let_another_go(cx);
                return Poll::Ready(self.take_piece());
            }
            let Some(scrape) = self.scrapes.get_mut(self.current) else {
                self.end();
                return Poll::Ready(self.take_piece());
            };
            let step = match &mut scrape.state {
                State::Asked(_) | State::Heard(_) => Step::Waiting,
                State::Done(_) => {
                    self.current += 1;
                    continue;
                }
                State::Alive(stream) => {
                    self.out.reserve(FRAME_CAPACITY - self.out.len());
                    self.families.turn_to(scrape.index);
                    stream.step(self.budget.bodies_by(), &mut self.families, &mut self.out, cx)
                }
            };
            match step {
                Step::Progress => {}
                Step::End(result) => scrape.end(result, self.budget),
                Step::Overdue => {
                    let after = self.budget.start().elapsed();
                    scrape.end(Err(ScrapeError::BodyTimeout(after)), self.budget);
                }
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
        if Instant::now() < self.budget.in_turn_by() {
            return false;
        }
        let waiting = &mut self.scrapes[self.current..];
        let mut others = waiting.iter_mut().skip(1);
        let Some(other) = others.position(|scrape| scrape.has_something(cx)) else {
            return false;
        };
        let other = other + 1;
        for scrape in &mut waiting[..other] {
            scrape.lose_turn(self.format);
        }
        waiting.rotate_left(other);
        true
    }

    /// Ready when, with nobody saying anything, something is to be done all the same.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let in_turn_by = self.budget.in_turn_by();
        let at = match &self.scrapes[self.current].state {
            _ if Instant::now() < in_turn_by => in_turn_by,
            State::Alive(_) => self.budget.bodies_by(),
            // Its head has a limit of its own.
            State::Asked(_) | State::Heard(_) | State::Done(_) => return Poll::Pending,
        };
        self.poll_timer(at, cx)
    }

    fn poll_timer(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if self.timer.deadline() != at {
            self.timer.as_mut().reset(at);
        }
        self.timer.as_mut().poll(cx)
    }

    /// Writes what stands at the end of an answer that is one.
    fn end(&mut self) {
        let is_open_metrics = matches!(self.format, Some((Format::OpenMetrics(_), _)));
        let has_output = self.has_output || !self.out.is_empty();
        let is_answer = has_output || self.failures().is_none();
        if is_open_metrics && is_answer && !self.has_ended {
            self.out.extend_from_slice(b"# EOF\n");
        }
        self.has_ended = true;
    }

    fn take_piece(&mut self) -> Option<Bytes> {
        self.has_output |= !self.out.is_empty();
        (!self.out.is_empty()).then(|| std::mem::take(&mut self.out).into())
    }
}

impl TargetScrape {
    /// Opens its body, if its head is in: the answer's format is settled.
    fn open(&mut self, format: Format, names: Names, budget: Budget) {
        let scraped = match std::mem::replace(&mut self.state, State::Done(Ok(()))) {
            State::Heard(scraped) => scraped,
            other => return self.state = other,
        };
        let Some(engine) = self.engine(scraped.format, format, names) else {
            let answered = String::from_utf8_lossy(content_type(scraped.format, names).as_bytes()).into_owned();
            return self.end(Err(ScrapeError::ContentType(answered)), budget);
        };
        self.state = State::Alive(Box::new(Stream {
            body: scraped.body,
            engine,
            good_end: if scraped.is_delimited {
                End::Whole
            } else {
                End::BrokenOff
            },
            chunk: Bytes::new(),
            ended: None,
        }));
    }

    /// The engine that reads `from` and writes `to`. OpenMetrics is made of OpenMetrics only, which is why it is chosen
    /// only where nothing else can come.
    fn engine(&self, from: Format, to: Format, names: Names) -> Option<Engine> {
        let rules = match &self.plan.treatment {
            Treatment::Verbatim => Rules::default(),
            Treatment::Relabel(labels, untyped) => Rules::new(Arc::clone(labels), *untyped),
        };
        let engine: Box<dyn exposition::Engine + Send> = match (from, to) {
            (Format::Text(version), Format::Text(_)) => {
                let is_plain = version == TextVersion::V0_0_4 || (from == to && names == Names::Utf8);
                // Behind another target it would repeat metadata that the answer already holds.
                if matches!(self.plan.treatment, Treatment::Verbatim) && is_plain && !self.lost_its_turn {
                    return Some(Engine::Verbatim(Verbatim::default()));
                }
                Box::new(Relabel::new(&rules, names))
            }
            (Format::Text(_), Format::Protobuf) => Box::new(TextToProtobuf::new(&rules, names)),
            (Format::OpenMetrics(_), Format::Text(_)) => Box::new(OpenMetricsToText::new(&rules, names)),
            (Format::OpenMetrics(_), Format::OpenMetrics(_)) => Box::new(RelabelOpenMetrics::new(&rules, names)),
            (Format::OpenMetrics(_), Format::Protobuf) => Box::new(OpenMetricsToProtobuf::new(&rules, names)),
            (Format::Protobuf, Format::Text(_)) => Box::new(ProtobufToText::new(&rules, names)),
            (Format::Protobuf, Format::Protobuf) => Box::new(Splice::new(&rules, names)),
            (Format::Text(_) | Format::Protobuf, Format::OpenMetrics(_)) => return None,
        };
        Some(Engine::Checked(engine))
    }

    /// Whether a step through its body would get somewhere. If not, whoever polls is woken when it would.
    fn has_something(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.state {
            State::Alive(stream) => stream.poll_fill(cx).is_ready(),
            State::Asked(_) | State::Heard(_) | State::Done(_) => false,
        }
    }

    /// Another target goes before it.
    fn lose_turn(&mut self, format: Option<(Format, Names)>) {
        self.lost_its_turn = true;
        let names = format.map_or(Names::Underscores, |(_, names)| names);
        if let State::Alive(stream) = &mut self.state
            && let Engine::Verbatim(engine) = &mut stream.engine
        {
            stream.engine = Engine::Checked(Box::new(std::mem::take(engine).into_checked(names)));
        }
    }

    /// Notes how the target ended, and tells the operator if that was not well.
    fn end(&mut self, result: Result<(), ScrapeError>, budget: Budget) {
        let counts = match &self.state {
            State::Alive(stream) => stream.engine.counts(),
            State::Asked(_) | State::Heard(_) | State::Done(_) => Counts::default(),
        };
        let Target { name, url, .. } = &self.plan.target;
        let dropped = counts.dropped_in_all();
        let milliseconds = budget.start().elapsed().as_millis() as u64;
        match &result {
            Err(error) => {
                warn!(target = name, %url, %error, samples = counts.samples, dropped, milliseconds, "target failed");
            }
            // Untyped samples are dropped because the operator said so.
            Ok(()) if dropped > counts.dropped(DropReason::Untyped) => {
                let malformed = counts.dropped(DropReason::Malformed);
                let too_long = counts.dropped(DropReason::TooLong);
                let untyped = counts.dropped(DropReason::Untyped);
                let no_room = counts.dropped(DropReason::NoRoom);
                warn!(target = name, %url, malformed, too_long, untyped, no_room, "lines dropped");
            }
            Ok(()) => debug!(target = name, %url, samples = counts.samples, milliseconds, "target scraped"),
        }
        self.state = State::Done(result);
    }

    fn failure(&self) -> Option<Failure> {
        let State::Done(Err(error)) = &self.state else {
            return None;
        };
        Some(Failure {
            target: self.plan.target.name.clone(),
            url: self.plan.target.url.clone(),
            error: error.clone(),
        })
    }
}

impl Stream {
    /// Reads, if everything that was read has been pushed.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.chunk.is_empty() && self.ended.is_none() {
            match ready!(self.body.poll_chunk(cx)) {
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(error)) => self.ended = Some(Err(error)),
                None => self.ended = Some(Ok(())),
            }
        }
        Poll::Ready(())
    }

    /// Pushes a slice of what has been read, or else reads.
    fn step(&mut self, cut_at: Instant, families: &mut Families, out: &mut Vec<u8>, cx: &mut Context<'_>) -> Step {
        if !self.chunk.is_empty() {
            let slice = self.chunk.split_to(SLICE.min(self.chunk.len()));
            self.engine.push(&slice, families, out);
            return Step::Progress;
        }
        // A target that always has more to send never waits for the timer.
        if Instant::now() >= cut_at {
            self.engine.finish(End::BrokenOff, families, out);
            return Step::Overdue;
        }
        if self.poll_fill(cx).is_pending() {
            return Step::Waiting;
        }
        let Some(ended) = self.ended.take() else {
            return Step::Progress;
        };
        let end = if ended.is_ok() { self.good_end } else { End::BrokenOff };
        self.engine.finish(end, families, out);
        if ended.is_ok() && !self.engine.is_whole() {
            return Step::End(Err(ScrapeError::NoEnd));
        }
        Step::End(ended)
    }
}

/// The engine, whichever it is.
impl Deref for Engine {
    type Target = dyn exposition::Engine;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Verbatim(engine) => engine,
            Self::Checked(engine) => &**engine,
        }
    }
}

impl DerefMut for Engine {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            Self::Verbatim(engine) => engine,
            Self::Checked(engine) => &mut **engine,
        }
    }
}
