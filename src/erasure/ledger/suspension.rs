//! The time in which the device was suspended. On some platforms, the clock of an `Instant` stands
//! still then.

use std::time::Duration;

use tokio::time::Instant;

use super::{LONGEST_GRACE, Ledger, Now};
use crate::clock::is_set;

/// The longest time until the two clocks are compared.
pub(super) const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
/// The shortest difference that counts. The two clocks never agree exactly, and a wall clock is set.
const SHORTEST_SUSPENSION: Duration = Duration::from_secs(5 * 60);

impl Ledger {
    /// Handles that a wait begins `now`. A suspension before it does not shorten it.
    pub(super) fn begin_wait(&mut self, now: Now) {
        self.catch_up(now);
        self.compared_at = Some(now);
    }

    /// Handles that it is `now`. Each wait becomes shorter by the time that the wall clock has run
    /// ahead of the monotonic one, as it does after a restart.
    pub(super) fn catch_up(&mut self, now: Now) {
        let since = *self.compared_at.get_or_insert(now);
        let passed = now.wall.duration_since(since.wall).unwrap_or_default();
        let mut suspended =
            passed.saturating_sub(now.instant.saturating_duration_since(since.instant));
        if !is_set(since.wall) {
            suspended = Duration::ZERO;
        }
        // Short ones add up. A wall clock that was set back is compared from now on.
        if (Duration::from_nanos(1)..SHORTEST_SUSPENSION).contains(&suspended) {
            return;
        }
        self.compared_at = Some(now);
        if suspended.is_zero() {
            return;
        }
        let shorten = |end: &mut Instant| {
            *end = end.checked_sub(suspended).unwrap_or(now.instant);
        };
        for waiting in &mut self.waiting {
            shorten(&mut waiting.grace_ends);
            shorten(&mut waiting.until);
            shorten(&mut waiting.next_try);
        }
        if let Some(search) = &mut self.search {
            shorten(&mut search.until);
            // The account may not have been read since the device woke up.
            let least = now.instant + LONGEST_GRACE;
            if search.until < least && !search.is_overdue {
                search.until = least;
                search.is_overdue = true;
                self.is_changed = true;
            }
        }
    }
}
