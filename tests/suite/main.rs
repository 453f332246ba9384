//! The promises that qpext makes, each as a test. One binary, so that it is linked once.
//!
//! * [`engine`]: the exposition engine, bytes in and bytes out.
//! * [`negotiation`]: the `Accept` headers that scrapers really send, and what is made of them.
//! * [`sidecar`]: the real binary between scripted targets and scripted clients, on real sockets, and before a real
//!   Prometheus.
//! * [`process`]: how it starts, ends, logs and passes signals on.
//! * [`readers`]: real scrapers' readers, as judges of what the engine writes.
//! * [`support`]: what all of these are made with.

mod engine;
mod negotiation;
mod process;
mod readers;
mod sidecar;
mod support;
