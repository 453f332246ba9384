//! What is done to one target's body, whatever it is read as and written as.

use std::sync::Arc;

use super::labels::LabelSet;
use super::untyped::Untyped;

/// What an engine does to a body. By default it checks it and changes nothing.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The labels that every sample gets.
    pub labels: Arc<LabelSet>,
    /// What becomes of families that have no type.
    pub untyped: Untyped,
}

impl Rules {
    /// Rules that add these labels, and treat untyped families so.
    pub fn new(labels: impl Into<Arc<LabelSet>>, untyped: Untyped) -> Self {
        Self {
            labels: labels.into(),
            untyped,
        }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::new(LabelSet::default(), Untyped::Keep)
    }
}
