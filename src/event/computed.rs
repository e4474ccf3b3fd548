//! Which members of a set of properties the program computed.

/// The highest mark, which the members from this place on share.
const LAST_MARK: u32 = u64::BITS - 1;

/// A mark for each member whose key or text is not part of the program.
///
/// Few events have more than 63 properties. If one of those after the 63rd is computed, all of
/// them count as computed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Computed {
    marks: u64,
    /// The number of members, or [`UNCOUNTED`].
    members: u32,
}

/// The number of members that were put together from others. If one is added that is computed,
/// all of them count as computed.
const UNCOUNTED: u32 = u32::MAX;

impl Computed {
    pub(super) const NONE: Self = Self { marks: 0, members: 0 };

    /// The marks of members of unknown origin: they all count as computed.
    #[cfg(feature = "sqlite")]
    pub(super) const UNKNOWN: Self = Self { marks: u64::MAX, members: UNCOUNTED };

    /// Adds the mark of the next member.
    pub(super) fn push(&mut self, is_computed: bool) {
        if self.members == UNCOUNTED {
            self.marks |= if is_computed { u64::MAX } else { 0 };
        } else {
            self.marks |= u64::from(is_computed) << self.members.min(LAST_MARK);
            self.members += 1;
        }
    }

    pub(super) fn any(self) -> bool {
        self.marks != 0
    }

    /// Returns whether the member at `place` is computed.
    pub(super) fn contains(self, place: usize) -> bool {
        let place = u32::try_from(place).unwrap_or(LAST_MARK).min(LAST_MARK);
        self.marks >> place & 1 == 1
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
        Self { marks, members: UNCOUNTED }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_the_first_63_members_has_a_mark_and_the_rest_share_one() {
        for computed in 0..100 {
            let mut marks = Computed::NONE;
            (0..100).for_each(|place| marks.push(place == computed));
            for place in 0..100 {
                let expected = if computed < 63 { place == computed } else { place >= 63 };
                assert_eq!(marks.contains(place), expected, "{computed} of {place}");
            }
            assert!(marks.of([computed]).contains(0));
            assert!(!marks.of([(computed + 1) % 63]).any() || computed >= 63);
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
