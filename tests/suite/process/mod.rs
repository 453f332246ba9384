//! The process, as whoever starts it meets it: its exit status, its log, its memory, its signals.
//!
//! `alone` is the sidecar by itself, `run` the program beside which it serves.

mod alone;
mod run;
