//! Unique event IDs, generated in blocks.

use uuid::{Builder, Uuid};

const ID_BYTES: usize = 16;
/// One call to the operating system costs the same for several IDs as for one.
const IDS_AT_ONCE: usize = 16;

/// A generator of version 4 UUIDs from the operating system's randomness.
pub(crate) struct UniqueIds {
    random: [u8; ID_BYTES * IDS_AT_ONCE],
    left: usize,
}

impl UniqueIds {
    pub(crate) fn new() -> Self {
        Self { random: [0; ID_BYTES * IDS_AT_ONCE], left: 0 }
    }

    pub(crate) fn next(&mut self) -> Uuid {
        if self.left == 0 {
            // Any randomness is good enough to distinguish events: this is not the
            // analytics ID.
            if getrandom::fill(&mut self.random).is_err() {
                fastrand::fill(&mut self.random);
            }
            self.left = IDS_AT_ONCE;
        }
        self.left -= 1;
        let mut bytes = [0; ID_BYTES];
        bytes.copy_from_slice(&self.random[self.left * ID_BYTES..][..ID_BYTES]);
        Builder::from_random_bytes(bytes).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn all_ids_are_random_and_distinct() {
        let mut ids = UniqueIds::new();
        let ids: HashSet<_> = (0..1000).map(|_| ids.next()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.get_version_num() == 4));
    }
}
