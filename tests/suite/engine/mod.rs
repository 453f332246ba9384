//! The exposition engine: bytes in and bytes out, without a socket or a clock.
//!
//! A body runs whole and cut at every byte, and what comes of it is read by readers that share no code with the engine.
//! `families` has the rules that take more than one line to show; `*_properties` and `properties` what holds for every
//! body, checked on bodies that nobody wrote; `corpus` real bodies.

mod corpus;
mod families;
pub mod lines;
pub mod openmetrics;
pub mod properties;
pub mod protobuf;
pub mod protobuf_properties;
pub mod raw_newlines;
pub mod rules;
mod rules_properties;
mod short_cuts;
pub mod to_protobuf;
mod to_protobuf_properties;
mod whole_families;
