//! The bytes that the readers and the writers of all answers may hold together.
//!
//! What a target sends is held where it cannot be written yet: half a message, a family that is put together, the names of
//! families. Each holder has a little for itself, so that one target's appetite costs no other anything; what is more comes
//! out of one room for the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What there is for all holders, in bytes. With what eight scrapes of five targets may hold besides, and one that is
/// written while it is still held, a process stays below 128 MB.
const IN_ALL: usize = 48 << 20;

/// What each holder has for itself, in bytes: more than most ever need.
const OWN: usize = 256 << 10;

/// Room for what is held.
#[derive(Debug, Clone)]
pub struct Room {
    taken: Arc<AtomicUsize>,
}

impl Default for Room {
    fn default() -> Self {
        Self { taken: Arc::new(AtomicUsize::new(0)) }
    }
}

impl Room {
    /// A holder that holds nothing yet.
    #[must_use]
    pub(crate) fn hold(&self) -> Held {
        Held { room: self.clone(), taken: 0 }
    }
}

/// What one holder has taken of the room. It is given back when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Held {
    room: Room,
    /// Without what it has for itself.
    taken: usize,
}

impl Held {
    /// Takes room for so many bytes in all, or gives back what is more. Says whether there is as much; where there is not,
    /// nothing changes.
    #[must_use]
    pub(crate) fn resize(&mut self, bytes: usize) -> bool {
        let wanted = bytes.saturating_sub(OWN);
        if wanted > self.taken {
            let more = wanted - self.taken;
            if self.room.taken.load(Ordering::Relaxed).saturating_add(more) > IN_ALL {
                return false;
            }
        }
        self.force(bytes);
        true
    }

    /// Takes room for so many bytes in all that are there already.
    pub(crate) fn force(&mut self, bytes: usize) {
        let wanted = bytes.saturating_sub(OWN);
        if wanted >= self.taken {
            self.room.taken.fetch_add(wanted - self.taken, Ordering::Relaxed);
        } else {
            self.room.taken.fetch_sub(self.taken - wanted, Ordering::Relaxed);
        }
        self.taken = wanted;
    }

    /// Appends bytes to a buffer that is held, if there is room for them.
    #[must_use]
    pub(crate) fn extend(&mut self, buffer: &mut Vec<u8>, bytes: &[u8]) -> bool {
        let needed = buffer.len() + bytes.len();
        if needed > buffer.capacity() {
            let doubled = needed.max(2 * buffer.capacity());
            let Some(capacity) = [doubled, needed].into_iter().find(|capacity| self.resize(*capacity)) else {
                return false;
            };
            buffer.reserve_exact(capacity - buffer.len());
        }
        buffer.extend_from_slice(bytes);
        true
    }

    /// Empties a buffer that is held, and gives back what it has beyond `kept` bytes.
    pub(crate) fn clear(&mut self, buffer: &mut Vec<u8>, kept: usize) {
        buffer.clear();
        if buffer.capacity() > kept {
            buffer.shrink_to(kept);
        }
        self.force(buffer.capacity());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.force(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_holder_has_a_little_for_itself_and_all_share_the_rest() {
        let room = Room::default();
        let (mut one, mut other) = (room.hold(), room.hold());
        assert!(one.resize(OWN + IN_ALL));
        assert!(other.resize(OWN));
        assert!(!other.resize(OWN + 1));
        drop(one);
        assert!(other.resize(OWN + IN_ALL));
        let mut third = room.hold();
        third.force(2 * OWN);
        assert!(!other.resize(OWN + IN_ALL + 1), "what is there counts, and nothing is taken away");
    }

    #[test]
    fn a_buffer_grows_as_long_as_there_is_room() {
        let room = Room::default();
        let (mut held, mut buffer) = (room.hold(), Vec::new());
        while held.extend(&mut buffer, &[0; 100_000]) {}
        assert!(buffer.capacity() <= OWN + IN_ALL && buffer.len() + 100_000 > OWN + IN_ALL);
        held.clear(&mut buffer, 1000);
        assert!(held.extend(&mut buffer, &[0; 100_000]));
        while held.extend(&mut buffer, &[0; 100_000]) {}
        drop(std::mem::take(&mut buffer));
        held.clear(&mut buffer, 1000);
        assert!(room.hold().resize(OWN + IN_ALL), "a buffer that is gone takes nothing");
    }
}
