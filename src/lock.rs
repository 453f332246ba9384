//! How locks are taken, everywhere in this crate.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks. What is behind our locks is never left half done, so a panic elsewhere does not spoil it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
