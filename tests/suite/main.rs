//! The promises that qpext makes, each as a test.
//!
//! * `lines`, `openmetrics`, `engine`, `properties`, `corpus`: the exposition engine, bytes in and bytes out.
//! * `protobuf`, `protobuf_properties`: the same for bodies of protobuf messages.
//! * `to_protobuf`, `to_protobuf_properties`: text and OpenMetrics that go out as such messages.
//! * `rules`, `rules_properties`: what holds of a target's rules whatever is read and whatever is written.
//! * `negotiation`: the `Accept` headers that scrapers really send, and what is made of them.
//! * `targets`, `formats`, `clients`, `serving`, `compression`, `process`: the real binary between scripted targets and
//!   scripted clients, on real sockets.
//! * `pod`, `check`, `status`: many targets, what the sidecar says of them, and its own metrics.
//! * `protected`: targets behind TLS, credentials and Unix sockets, and files that are rotated while scrapes run.
//! * `run`: the program beside which the sidecar serves.
//! * `prometheus`: a real Prometheus scraping the real binary.

mod check;
mod clients;
mod compression;
mod corpus;
mod engine;
mod formats;
mod lines;
mod negotiation;
mod openmetrics;
mod pod;
mod process;
mod prometheus;
mod properties;
mod protected;
mod protobuf;
mod protobuf_properties;
mod rules;
mod rules_properties;
mod run;
mod serving;
mod status;
mod support;
mod targets;
mod to_protobuf;
mod to_protobuf_properties;
