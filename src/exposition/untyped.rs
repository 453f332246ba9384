//! What becomes of families that have no type.

use super::metadata::MetricType;

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
pub(super) enum Fate {
    /// It passes as it is.
    Pass,
    /// It gets this type.
    Becomes(MetricType),
    /// Its samples are dropped.
    Drop,
}

impl Untyped {
    /// What becomes of the untyped family of this name.
    pub(super) fn fate(self, name: &[u8]) -> Fate {
        match self {
            Self::Keep => Fate::Pass,
            Self::Convert | Self::Drop if name.ends_with(b"_created") => Fate::Becomes(MetricType::Counter),
            Self::Convert | Self::Drop if name.ends_with(b"_total") => Fate::Becomes(MetricType::Gauge),
            Self::Convert => Fate::Pass,
            Self::Drop => Fate::Drop,
        }
    }
}
