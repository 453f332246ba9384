//! A sidecar that gives a Knative or KServe pod **one** Prometheus endpoint, and never loses a scrape.
//!
//! The program is in `main.rs` and is thin; this library is all of it, so that tests, benchmarks and examples can use
//! the parts. What operators need to know is in the README; this page is for whoever works on the code.
//!
//! # The path of a body
//!
//! 1. A request comes to `server/routes.rs`, which asks [`aggregate`] for an answer; every target is asked at once.
//! 2. The answer, pulled, pulls the body of the target whose turn it is: socket, `scrape/body.rs`, `aggregate/stream.rs`.
//! 3. In [`exposition`] a reader (`lines/`, `protobuf/`) tells what a slice says, `stage` decides what becomes of it, a writer spells it.
//! 4. What is written goes out as a piece: `server/compression.rs`, `server/response.rs`, `server/connection.rs`, socket.
//! 5. What came of the target goes to `telemetry`: its state for the page, its metrics for the answer's end, its news for the log.
//!
//! # The rooms
//!
//! ```text
//! main.rs ── cli, run, log   config ── read by all, reads nobody but the engine's value types
//!
//! scraper ─► server ─► aggregate ─► scrape ─► queue-proxy, application, any other target
//!               │          │  │ ◄──── chunks
//!               │          │  └────► telemetry ── what came of each target
//!               ▼          ▼             ▲
//!            status    exposition        │
//!               └────────────────────────┘
//! ```
//!
//! * [`config`]: the environment, parsed once into types that cannot be wrong.
//! * [`server`]: connections. Who is let in and may ask, for how long, and which request goes where.
//! * [`aggregate`]: one request. Every target asked at once, their bodies written one after the other.
//! * `scrape`: one target. How it is reached, its head within the budget, its body decoded, its failure in words.
//! * [`exposition`]: the engine. It knows bytes only, and what it writes is what Prometheus reads.
//! * [`negotiation`]: which formats a scraper takes, which one the targets are asked for, which one goes out.
//! * `telemetry`: what is known of each target, what is news of it, and the sidecar's own metrics.
//! * [`status`]: what there is to say of all that, in one file for each medium: text, JSON, the page.
//! * [`check`]: one scrape, and what a strict reader says of it.
//! * [`cli`]: the command line, and its help.
//! * [`run`]: a program beside which all of this happens, as in KServe's image of the queue-proxy.
//! * `budget`: how long each part of a request may take, so that the answer is whole before the scraper gives up.
//! * `files`: what is made of files that are replaced while the sidecar runs.
//! * `trust`: whose certificates are trusted, on either side of TLS.
//! * `lock`: how a lock is taken.
//!
//! A room knows those below it and none above. Data is pulled: there is no channel and no task between a scraper's socket and
//! a target's, so a scraper that does not read holds the targets back, and one that leaves cancels them by dropping the
//! answer. `CONTRIBUTING.md` says what must stay true, and which files the usual changes touch.
//!
//! # A working use
//!
//! ```no_run
//! use qpext::aggregate::Aggregator;
//! use qpext::config::Config;
//! use qpext::server::{self, Settings};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::from_variables([
//!     ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", "8080"),
//!     ("SERVING_SERVICE", "sklearn-iris"),
//! ])?;
//! let listener = server::bind(config.listen)?;
//! let aggregator = Aggregator::new(&config);
//! server::serve(listener, aggregator, Settings::new(&config)?, std::future::pending()).await;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod aggregate;
mod budget;
pub mod check;
pub mod cli;
pub mod config;
pub mod exposition;
mod files;
pub mod leave;
mod lock;
pub mod negotiation;
pub mod run;
mod scrape;
pub mod server;
pub mod status;
mod telemetry;
mod trust;
