//! The formats in lines: Prometheus's text and OpenMetrics.
//!
//! The path of a line: `read` puts it together, with `quotes` where a newline is quoted; `metadata` and `scan`, with `label`,
//! tell what it says, `dialect` and `number` what the two formats differ in. The way back: `write` spells it, or copies what
//! stands there as it would be spelt; `strict` holds a family of OpenMetrics until
//! it is over, and `judge` says whether its samples fit together; `verbatim` is for a body whose lines stay where they are.

mod dialect;
mod judge;
mod label;
mod metadata;
mod number;
mod quotes;
mod read;
mod scan;
mod strict;
mod verbatim;
mod write;

pub use read::MAX_LINE;

pub(super) use dialect::{END_MARK, OpenMetrics, PlainText};
pub(super) use judge::Point;
pub(super) use number::{is_bound, put_token};
pub(super) use read::LineReader;
pub(super) use strict::{HeldFamily, StrictWriter};
pub(super) use verbatim::Verbatim;
pub(super) use write::LineWriter;
