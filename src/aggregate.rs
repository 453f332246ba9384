//! One request: every target asked at once, their bodies written one after the other as they are pulled.
//!
//! In: the scraper's headers. Out: an [`Answer`], a body that is a valid exposition whatever the targets do; or, if no
//! target is alive, what each did. The answer holds a slice of one body at a time; while the scraper does not read, no
//! target is read either.

use std::future::{Future, poll_fn};
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
    Counts, DropReason, End, Engine as _, Families, Format, LabelSet, Names, Relabel, Untyped, Verbatim,
};
use crate::scrape::{ScrapeError, Scraped, Scraper, Target, TargetBody};

/// The name of the queue-proxy's target.
pub const QUEUE_PROXY: &str = "queue-proxy";
/// The name of the application's target.
pub const APP: &str = "app";

/// What the targets are asked for.
const ACCEPT: HeaderValue = HeaderValue::from_static("text/plain;version=0.0.4");

/// The format of every answer.
pub const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

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
        let user_agent = headers.get(USER_AGENT);
        let scrapes = self
            .plans
            .iter()
            .enumerate()
            .map(|(index, plan)| self.ask(index, plan, user_agent, budget))
            .collect();
        let mut answer = Answer::new(scrapes, budget);
        answer.first_piece = poll_fn(|cx| answer.poll_piece(cx)).await;
        match answer.failures() {
            Some(failures) if answer.first_piece.is_none() => Err(failures),
            _ => Ok(answer),
        }
    }

    fn ask(&self, index: usize, plan: &Arc<Plan>, user_agent: Option<&HeaderValue>, budget: Budget) -> TargetScrape {
        let (scraper, user_agent) = (self.scraper.clone(), user_agent.cloned());
        let asked = Arc::clone(plan);
        TargetScrape {
            plan: Arc::clone(plan),
            index,
            lost_its_turn: false,
            state: State::Asked(Box::pin(async move {
                let scraped = scraper.scrape(&asked.target, ACCEPT, user_agent, budget).await?;
                match scraped.format {
                    // Nobody asked for it, and no engine reads it.
                    Format::Protobuf => Err(ScrapeError::ContentType("application/vnd.google.protobuf".to_owned())),
                    Format::Text(_) | Format::OpenMetrics(_) => Ok(scraped),
                }
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

#[derive(Debug)]
enum Engine {
    Verbatim(Verbatim),
    Relabel(Box<Relabel>),
}

/// The answer to one scrape: pulled, it writes each target's body in turn.
///
/// Dropped, it cancels what is left of the scrapes.
pub struct Answer {
    scrapes: Vec<TargetScrape>,
    /// The index of the target being written.
    current: usize,
    families: Families,
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
    fn new(scrapes: Vec<TargetScrape>, budget: Budget) -> Self {
        Self {
            scrapes,
            current: 0,
            families: Families::default(),
            first_piece: None,
            out: Vec::new(),
            budget,
            timer: Box::pin(tokio::time::sleep_until(budget.heads_by())),
        }
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
                Poll::Ready(Ok(scraped)) => scrape.state = State::Alive(Box::new(scrape.open(scraped))),
                Poll::Ready(Err(error)) => scrape.end(Err(error), self.budget),
            }
        }
    }

    /// The next piece of the answer; `None` at its end.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(piece) = self.first_piece.take() {
            return Poll::Ready(Some(piece));
        }
        loop {
            self.poll_heads(cx);
            if self.out.len() >= FRAME {
                // A body without end must not keep the others from the rest of the time.
                self.let_another_go(cx);
                return Poll::Ready(self.take_piece());
            }
            let Some(scrape) = self.scrapes.get_mut(self.current) else {
                return Poll::Ready(self.take_piece());
            };
            let step = match &mut scrape.state {
                State::Asked(_) => Step::Waiting,
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
                Step::Waiting if self.let_another_go(cx) || self.poll_timer(cx).is_ready() => {}
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
            scrape.lose_turn();
        }
        waiting.rotate_left(other);
        true
    }

    /// Ready when, with nobody saying anything, something is to be done all the same.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let in_turn_by = self.budget.in_turn_by();
        let at = match &self.scrapes[self.current].state {
            _ if Instant::now() < in_turn_by => in_turn_by,
            State::Alive(_) => self.budget.bodies_by(),
            // Its head has a limit of its own.
            State::Asked(_) | State::Done(_) => return Poll::Pending,
        };
        if self.timer.deadline() != at {
            self.timer.as_mut().reset(at);
        }
        self.timer.as_mut().poll(cx)
    }

    fn take_piece(&mut self) -> Option<Bytes> {
        (!self.out.is_empty()).then(|| std::mem::take(&mut self.out).into())
    }
}

impl TargetScrape {
    fn open(&self, scraped: Scraped) -> Stream {
        let engine = match &self.plan.treatment {
            Treatment::Verbatim if matches!(scraped.format, Format::Text(_)) && !self.lost_its_turn => {
                Engine::Verbatim(Verbatim::default())
            }
            // Byte for byte it would be no text, or repeat metadata that the answer already holds.
            Treatment::Verbatim => Engine::Relabel(Box::new(Relabel::unlabelled(Names::Underscores))),
            Treatment::Relabel(labels, untyped) => {
                Engine::Relabel(Box::new(Relabel::new(Arc::clone(labels), *untyped, Names::Underscores)))
            }
        };
        Stream {
            body: scraped.body,
            engine,
            good_end: if scraped.is_delimited {
                End::Whole
            } else {
                End::BrokenOff
            },
            chunk: Bytes::new(),
            ended: None,
        }
    }

    /// Whether a step through its body would get somewhere. If not, whoever polls is woken when it would.
    fn has_something(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.state {
            State::Alive(stream) => stream.poll_fill(cx).is_ready(),
            State::Asked(_) | State::Done(_) => false,
        }
    }

    /// Another target goes before it.
    fn lose_turn(&mut self) {
        self.lost_its_turn = true;
        if let State::Alive(stream) = &mut self.state
            && let Engine::Verbatim(engine) = &mut stream.engine
        {
            stream.engine = Engine::Relabel(Box::new(std::mem::take(engine).into_checked(Names::Underscores)));
        }
    }

    /// Notes how the target ended, and tells the operator if that was not well.
    fn end(&mut self, result: Result<(), ScrapeError>, budget: Budget) {
        let counts = match &self.state {
            State::Alive(stream) => stream.engine.counts(),
            State::Asked(_) | State::Done(_) => Counts::default(),
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
        Step::End(ended)
    }
}

impl Engine {
    fn push(&mut self, slice: &[u8], families: &mut Families, out: &mut Vec<u8>) {
        match self {
            Self::Verbatim(engine) => engine.push(slice, families, out),
            Self::Relabel(engine) => engine.push(slice, families, out),
        }
    }

    fn finish(&mut self, end: End, families: &mut Families, out: &mut Vec<u8>) {
        match self {
            Self::Verbatim(engine) => engine.finish(end, families, out),
            Self::Relabel(engine) => engine.finish(end, families, out),
        }
    }

    fn counts(&self) -> Counts {
        match self {
            Self::Verbatim(engine) => engine.counts(),
            Self::Relabel(engine) => engine.counts(),
        }
    }
}
