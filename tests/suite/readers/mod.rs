//! Real scrapers' readers as judges of what the engine writes.
//!
//! * `seeing`: the readers themselves.
//! * `merging`: two targets in one answer, as against each by itself.
//! * `fitting`: families of OpenMetrics whose samples do not fit together.
//! * `answers`: what comes of real bodies and of the tables' cases; what is not taken yet is listed.

mod answers;
mod fitting;
mod merging;
mod seeing;

use qpext::exposition::{Escaping, Format, Spelling};
use qpext::negotiation;

use crate::support::readers::{self, Readings};

/// Who refuses a body, and why; but for one to whom there are no such types.
fn refusals(readings: &Readings) -> Vec<(&str, &str)> {
    let refusals = readings.refusals();
    refusals.into_iter().filter(|(_, why)| !why.contains("unsupported metric type")).collect()
}

/// What each reader sees of a body, under the media type that the sidecar gives it.
fn read_as(format: Format, escaping: Escaping, body: &[u8]) -> Readings {
    let header = negotiation::content_type(Spelling { format, escaping });
    readers::read(header.to_str().expect("it is ASCII"), body)
}
