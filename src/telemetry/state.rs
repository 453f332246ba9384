//! What is known of a target.

use std::time::{Duration, SystemTime};

use crate::exposition::{Counts, FirstDropped, Format};
use crate::scrape::ScrapeError;

/// How one scrape of one target went.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) result: Result<(), ScrapeError>,
    /// How old what was written for it is, where it is gone and the sidecar leaves.
    pub(crate) kept_for: Option<Duration>,
    /// How long it took: until the head came, and from when it was the body's turn until that ended.
    pub(crate) duration: Duration,
    pub(crate) counts: Counts,
    pub(crate) body_bytes: u64,
    /// The format in which it answered, if it did.
    pub(crate) format: Option<Format>,
    /// The first of its lines that had to be dropped.
    pub(crate) first_dropped: Option<FirstDropped>,
    /// What its content type is, if that is none of an exposition, or none that is known.
    pub(crate) odd_type: Option<String>,
    /// Why a file of the target's could not be used, where it was asked with what that held before.
    pub(crate) stale_file: Option<String>,
}

impl Outcome {
    /// What there is to say of its content type.
    pub(crate) fn told_of_type(&self) -> Option<String> {
        let (odd_type, format) = (self.odd_type.as_ref()?, self.format?);
        Some(format!("answered with {odd_type}, which is read as {format}"))
    }
}

/// Families that several targets have in common in OpenMetrics do not stand together in an answer.
#[derive(Debug, Clone)]
pub(crate) struct Apart {
    pub(crate) reason: ApartReason,
    /// It is in text instead, which the scraper takes, too.
    pub(crate) is_text: bool,
}

/// Why they do not.
#[derive(Debug, Clone)]
pub(crate) enum ApartReason {
    /// The family of this name is another one in another target.
    Clash(String),
    /// The bodies are too large.
    NoRoom,
    /// A body was not whole in time.
    Late,
}

impl Apart {
    pub(crate) fn in_words(&self) -> String {
        let why = match &self.reason {
            ApartReason::Clash(family) => format!("{family} is one family in one of them and another in another"),
            ApartReason::NoRoom => "there was no room to put their families together".to_owned(),
            ApartReason::Late => "one was too late to put their families together".to_owned(),
        };
        let what = match self.is_text {
            true => "text goes out instead",
            false => "strict readers may refuse the answer",
        };
        format!("several targets speak OpenMetrics, but {why}: {what}")
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct TargetState {
    pub(crate) name: String,
    pub(crate) address: String,
    /// Its last scrape, and when that was over; none before the first.
    pub(crate) last: Option<(SystemTime, Outcome)>,
    /// Since when it has been up, or down.
    pub(crate) since: Option<SystemTime>,
    /// Its last failure, which may be long over, and when it was.
    pub(crate) last_failure: Option<(SystemTime, ScrapeError)>,
    /// The last line that had to be dropped, and when it was.
    pub(crate) last_dropped: Option<(SystemTime, FirstDropped)>,
}

impl TargetState {
    /// Whether its last scrape went well; `None` before the first.
    pub(crate) fn is_up(&self) -> Option<bool> {
        self.last.as_ref().map(|(_, outcome)| outcome.result.is_ok())
    }

    /// Whether it is `up` or `down`; `unknown` before its first scrape.
    pub(crate) fn word(&self) -> &'static str {
        match self.is_up() {
            None => "unknown",
            Some(true) => "up",
            Some(false) => "down",
        }
    }
}
