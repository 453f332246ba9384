//! What is done to one target's body, whatever it is read as and written as.

use std::num::NonZeroU64;
use std::sync::Arc;

use super::filter::Filter;
use super::labels::LabelSet;
use super::model::MetricType;
use super::room::Room;

/// What an engine does to a body. By default it checks it and changes nothing.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The labels that every sample gets.
    pub labels: Arc<LabelSet>,
    /// What becomes of families that have no type.
    pub untyped: Untyped,
    /// Which families are written: all of them, without one.
    pub filter: Option<Arc<Filter>>,
    /// How many samples are written at most, counted behind the filter and in the unit of
    /// [`Counts::samples`](super::Counts::samples).
    pub sample_limit: Option<NonZeroU64>,
    /// What is held beyond a little comes out of it: one for the process.
    pub room: Room,
}

impl Rules {
    /// Rules that let every family pass, however many samples there are.
    pub fn new(labels: impl Into<Arc<LabelSet>>, untyped: Untyped) -> Self {
        Self { labels: labels.into(), untyped, filter: None, sample_limit: None, room: Room::default() }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::new(LabelSet::default(), Untyped::Keep)
    }
}

/// What becomes of a target's untyped families: those without `# TYPE`, and those that say `untyped`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Untyped {
    /// `*_created` becomes a counter and `*_total` a gauge, as in KServe's qpext; others pass as they are.
    #[default]
    Convert,
    /// As [`Convert`](Self::Convert), but others are dropped, exactly as in KServe's qpext.
    Drop,
    /// All pass as they are.
    Keep,
}

/// What becomes of one untyped family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UntypedAction {
    /// It passes as it is.
    Keep,
    /// It gets this type.
    Convert(MetricType),
    /// Its samples are dropped.
    Drop,
}

impl Untyped {
    /// What becomes of the untyped family of this name.
    pub(super) fn action(self, name: &[u8]) -> UntypedAction {
        match self {
            Self::Keep => UntypedAction::Keep,
            Self::Convert | Self::Drop if name.ends_with(b"_created") => UntypedAction::Convert(MetricType::Counter),
            Self::Convert | Self::Drop if name.ends_with(b"_total") => UntypedAction::Convert(MetricType::Gauge),
            Self::Convert => UntypedAction::Keep,
            Self::Drop => UntypedAction::Drop,
        }
    }
}
