//! What there is to say of the sidecar and its targets, in one file for each medium: [`text`], [`json`] and the page.
//!
//! In: the configuration, the targets' last states, the [`Report`](crate::check::Report) of a check. Out: text. Who asks for
//! it, and how it is sent, is not known here.

pub mod json;
pub(crate) mod page;
pub mod text;

use std::time::SystemTime;

use crate::config::{Config, Variable};
use crate::exposition::{Conflict, Format, Unwritten, listed};
use crate::telemetry::{Apart, OWN_NAME, TargetState};

/// What does not change while the sidecar runs.
#[derive(Debug)]
pub(crate) struct About {
    started: SystemTime,
    labels: String,
    configuration: Vec<(&'static Variable, String)>,
}

/// What is so at the moment.
pub(crate) struct Now {
    pub(crate) targets: Vec<TargetState>,
    /// Families to which two targets gave two types.
    pub(crate) conflicts: Vec<Conflict>,
    /// Why families did not stand together in the last answer.
    pub(crate) apart: Option<Apart>,
    /// Why files of the sidecar's own cannot be used as they are.
    pub(crate) stale_files: Vec<String>,
}

impl About {
    pub(crate) fn new(config: &Config) -> Self {
        Self { started: SystemTime::now(), labels: config.labels.to_string(), configuration: config.in_force() }
    }
}

/// What the last answer's format had no place for, and why it was that one.
fn unwritten(targets: &[TargetState], apart: Option<&Apart>) -> Option<String> {
    let mut unwritten = Unwritten::default();
    let mut speakers = Vec::new();
    for (name, outcome) in targets.iter().filter_map(|target| Some((&target.name, &target.last.as_ref()?.1))) {
        unwritten += outcome.counts.unwritten;
        if let Some(Format::Text(_)) = outcome.format {
            speakers.push(name.as_str());
        }
    }
    let (what, are) = (unwritten.in_words()?, if unwritten.is_one() { "is" } else { "are" });
    let why = match speakers.as_slice() {
        [] if apart.is_some() => "the answer is in text".to_owned(),
        [] => "the scraper takes no format that has a place for them".to_owned(),
        [one] => format!("{one} speaks text only"),
        several => format!("{} speak text only", listed(several)),
    };
    Some(format!("{why}: {what} {are} lost for this scraper"))
}

/// What there is to say of the last answer as a whole.
fn notes(targets: &[TargetState], apart: Option<&Apart>) -> impl Iterator<Item = String> {
    apart.map(Apart::in_words).into_iter().chain(unwritten(targets, apart))
}

/// The name of the target that gave a family a second type: of one of these, or the sidecar's own.
fn target_of<'a>(conflict: &Conflict, targets: &'a [TargetState]) -> &'a str {
    targets.get(conflict.target).map_or(OWN_NAME, |target| &target.name)
}
