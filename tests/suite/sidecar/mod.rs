//! The whole sidecar: the real binary between scripted targets and scripted clients, on real sockets.
//!
//! * `targets`, `formats`, `protected`, `pod`: what targets do, which formats they speak, how they are reached, and many of
//!   them at once. `memory`: what all that takes at its peak.
//! * `clients`, `serving`, `compression`: what scrapers do, who is let in, and what they get.
//! * `status`, `check`: what the sidecar says of itself.
//! * `prometheus`: a real Prometheus as the scraper.

mod check;
pub mod clients;
mod compression;
mod formats;
mod hostile;
mod leaving;
mod lenient;
mod memory;
mod pod;
mod prometheus;
mod protected;
mod serving;
mod status;
mod targets;
