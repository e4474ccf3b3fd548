//! Which members of a set of properties the program computed.

/// A mark for each member whose key or text is not part of the program.
///
/// Few events have more than 64 properties. Every 64th member shares a mark: if one of them is
/// computed, all of them count as computed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Computed {
    marks: u64,
    /// The mark of the next member. Members that were put together from others have no places:
    /// then it is all marks, so that they all count as computed if the next member is.
    next: u64,
}

impl Default for Computed {
    fn default() -> Self {
        Self::NONE
    }
}

impl Computed {
    pub(super) const NONE: Self = Self { marks: 0, next: 1 };

    /// The marks of members of unknown origin: they all count as computed.
    #[cfg(feature = "sqlite")]
    pub(super) const UNKNOWN: Self = Self { marks: u64::MAX, next: u64::MAX };

    /// Adds the mark of the next member.
    #[inline]
    pub(super) fn push(&mut self, is_computed: bool) {
        if is_computed {
            self.marks |= self.next;
        }
        self.next = self.next.rotate_left(1);
    }

    pub(super) fn any(self) -> bool {
        self.marks != 0
    }

    /// Returns whether the member at `place` is computed.
    pub(super) fn contains(self, place: usize) -> bool {
        self.marks >> (place % u64::BITS as usize) & 1 == 1
    }

    /// Returns the marks of the members at `places`.
    pub(super) fn of(self, places: impl IntoIterator<Item = usize>) -> Self {
        let mut marks = Self::NONE;
        for place in places {
            marks.push(self.contains(place));
        }
        marks
    }

    /// Returns marks for any selection of these members and of `others`.
    pub(super) fn mixed_with(self, others: Self) -> Self {
        let marks = if self.any() || others.any() { u64::MAX } else { 0 };
        Self { marks, next: u64::MAX }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_64th_member_shares_a_mark_and_no_other_does() {
        for computed in 0..200 {
            let mut marks = Computed::NONE;
            (0..200).for_each(|place| marks.push(place == computed));
            for place in 0..200 {
                assert_eq!(marks.contains(place), place % 64 == computed % 64, "{computed}");
            }
            assert!(marks.of([computed]).contains(0));
            assert!(!marks.of([computed + 1]).any());
        }
    }

    #[test]
    fn a_selection_of_members_with_a_mark_has_all_marks() {
        let mut marked = Computed::NONE;
        marked.push(true);
        for mixed in [marked.mixed_with(Computed::NONE), Computed::NONE.mixed_with(marked)] {
            assert!((0..100).all(|place| mixed.contains(place)));
        }
        assert!(!Computed::NONE.mixed_with(Computed::NONE).any());
    }

    #[test]
    fn a_computed_member_after_a_selection_marks_all_because_its_place_is_unknown() {
        let mut mixed = Computed::NONE.mixed_with(Computed::NONE);
        mixed.push(false);
        assert!(!mixed.any());
        mixed.push(true);
        assert!((0..100).all(|place| mixed.contains(place)));
    }
}
