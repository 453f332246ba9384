//! The exposition engine: bytes in and bytes out, without a socket or a clock.
//!
//! A body runs whole and cut at every byte, and what comes of it is read by readers that share no code with the engine.
//!
//! * `lines`, `openmetrics`: the rules that take one line to show, and those of OpenMetrics.
//! * `families`, `to_protobuf`, `protobuf`, `rules`: those that take more; where a body and what becomes of it say all there
//!   is to say, they are rows of a table ([`cases`]); `messages`: the table of what is read as protobuf.
//! * `raw_newlines`, `whole_families`: what must not be forged, and what must not be split.
//! * `short_cuts`: bytes that go out as they came are those that would be written.
//! * `properties`, `*_properties`: what holds for every body, checked on bodies that nobody wrote; `corpus`: real bodies.

pub mod cases;
pub mod corpus;
pub mod families;
pub mod lines;
pub mod messages;
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
