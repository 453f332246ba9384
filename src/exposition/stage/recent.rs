//! What was settled for the names that came last.

use super::Settled;
use crate::exposition::families::USUAL_NAME;

/// What becomes of the samples of the names that came last.
///
/// Most samples have the name of the one before; in a histogram with many series, the name of one a few lines before.
#[derive(Debug)]
pub(super) struct RecentNames {
    entries: [(Vec<u8>, Option<Settled>); Self::KEPT],
    /// The entry of the sample before.
    current: usize,
}

impl Default for RecentNames {
    fn default() -> Self {
        Self { entries: std::array::from_fn(|_| (Vec::with_capacity(USUAL_NAME), None)), current: 0 }
    }
}

impl RecentNames {
    /// A histogram's `_bucket`, `_sum` and `_count`, and `_created`.
    const KEPT: usize = 4;

    /// What was settled for this name, if it is among those kept. `is_same` says that it is the name of the sample before.
    #[inline(always)]
    pub(super) fn of(&mut self, name: &[u8], is_same: bool) -> Option<Settled> {
        if !is_same {
            self.current = self.entries.iter().position(|(kept, _)| kept == name)?;
        }
        self.entries[self.current].1
    }

    /// Keeps what is settled for a name in the place of the one that was added first. Says whether that is forgotten for it.
    pub(super) fn add(&mut self, name: &[u8], settled: Settled) -> bool {
        self.entries.rotate_right(1);
        self.current = 0;
        let (kept, kept_settled) = &mut self.entries[0];
        kept.clear();
        kept.extend_from_slice(name);
        kept_settled.replace(settled).is_some()
    }

    /// Forgets all of it: metadata came, and may tell anew what becomes of a name.
    pub(super) fn forget(&mut self) {
        for (name, settled) in &mut self.entries {
            name.clear();
            *settled = None;
        }
    }
}
