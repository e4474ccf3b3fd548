//! A bounded memory of IDs.

use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasher as _, RandomState},
};

/// A 64-bit digest of an ID, under a random key that never leaves the memory of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Digest(u64);

/// The newest IDs that were inserted, as digests.
#[derive(Debug)]
pub(crate) struct Seen {
    key: RandomState,
    digests: HashSet<Digest>,
    /// The digests, oldest first.
    order: VecDeque<Digest>,
    most: usize,
}

impl Seen {
    /// Creates a memory of at most `most` IDs.
    pub(crate) fn new(most: usize) -> Self {
        Self { key: RandomState::new(), digests: HashSet::new(), order: VecDeque::new(), most }
    }

    pub(crate) fn digest(&self, id: &str) -> Digest {
        Digest(self.key.hash_one(id))
    }

    pub(crate) fn contains(&self, digest: Digest) -> bool {
        self.digests.contains(&digest)
    }

    /// Adds an ID. Returns `false` if it is known.
    pub(crate) fn insert(&mut self, digest: Digest) -> bool {
        if !self.digests.insert(digest) {
            return false;
        }
        if self.order.len() >= self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.digests.remove(&oldest);
        }
        self.order.push_back(digest);
        true
    }

    /// Forgets everything, even the key.
    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_new_once_until_enough_others_have_come() {
        let mut seen = Seen::new(3);
        let ids = ["a", "b", "c", "d"].map(|id| seen.digest(id));
        assert!(seen.insert(ids[0]) && !seen.insert(ids[0]));
        assert!(ids[1..].iter().all(|id| seen.insert(*id)));
        assert_eq!((seen.digests.len(), seen.order.len()), (3, 3));
        assert!(!seen.contains(ids[0]) && ids[1..].iter().all(|id| seen.contains(*id)));
    }

    #[test]
    fn the_digest_of_an_id_changes_when_everything_is_forgotten() {
        let mut seen = Seen::new(3);
        let before = seen.digest("$event");
        assert!(seen.insert(before));
        seen.clear();
        assert!(!seen.contains(before));
        assert_ne!(seen.digest("$event"), before);
    }
}
