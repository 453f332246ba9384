//! What is done to one target's body, whatever it is read as and written as.

use std::num::NonZeroU64;
use std::sync::Arc;

use super::filter::Filter;
use super::labels::LabelSet;
use super::untyped::Untyped;

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
}

impl Rules {
    /// Rules that let every family pass, however many samples there are.
    pub fn new(labels: impl Into<Arc<LabelSet>>, untyped: Untyped) -> Self {
        Self {
            labels: labels.into(),
            untyped,
            filter: None,
            sample_limit: None,
        }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::new(LabelSet::default(), Untyped::Keep)
    }
}
