//! A short list that can be compared and hashed.

/// A list of at most `N` items.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Few<T, const N: usize> {
    pub(super) items: [Option<T>; N],
}

impl<T: Copy + PartialEq, const N: usize> Few<T, N> {
    pub(super) const EMPTY: Self = Self { items: [None; N] };

    pub(super) fn iter(&self) -> impl Iterator<Item = T> {
        self.items.iter().copied().flatten()
    }

    pub(super) fn last(&self) -> Option<T> {
        self.iter().last()
    }

    /// Removes the first `n` items.
    pub(super) fn skip(&mut self, n: usize) {
        self.items.rotate_left(n);
        self.items[N - n..].fill(None);
    }

    pub(super) fn push(&mut self, item: T) {
        if self.items[N - 1].is_some() {
            self.skip(1);
        }
        *self.items.iter_mut().find(|slot| slot.is_none()).unwrap() = Some(item);
    }
}
