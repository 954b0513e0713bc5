//! Places of sequences in the cache, and who holds which.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, PoisonError};

type Free = Arc<Mutex<BinaryHeap<Reverse<usize>>>>;

/// The places that nobody has, least first, so that those in use lie close together.
pub(super) struct Slots {
    free: Free,
    count: usize,
}

/// A place, free again when the last sequence that is in it is gone.
struct Slot {
    index: usize,
    free: Free,
}

/// A sequence in a cache of tensors. A copy shares its place until one of the two goes on.
#[derive(Clone)]
pub(in crate::llm::sample::generate) struct State {
    slot: Option<Arc<Slot>>,
    pub length: usize,
}

/// Where a sequence may write.
pub(super) enum Place {
    /// Where it was, or where nothing is yet.
    Own(usize),
    /// A new place, to which what it has so far must be copied.
    Moved { from: usize, to: usize },
}

impl Slots {
    pub fn new() -> Self {
        Self {
            free: Free::default(),
            count: 0,
        }
    }

    /// Number of places, free or not.
    pub fn count(&self) -> usize {
        self.count
    }

    /// A place that a sequence shares with no other.
    pub fn own(&mut self, state: &mut State) -> Place {
        let from = match &state.slot {
            Some(slot) if Arc::strong_count(slot) == 1 => return Place::Own(slot.index),
            Some(slot) => Some(slot.index),
            None => None,
        };
        let free = self
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let to = free.map_or(self.count, |Reverse(index)| index);
        self.count = self.count.max(to + 1);
        let free = self.free.clone();
        // The old place is let go only now, so that it cannot be the new one.
        state.slot = Some(Arc::new(Slot { index: to, free }));
        match from {
            Some(from) => Place::Moved { from, to },
            None => Place::Own(to),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(Reverse(self.index));
    }
}

impl State {
    /// A sequence of no tokens.
    pub fn new() -> Self {
        Self {
            slot: None,
            length: 0,
        }
    }
}
