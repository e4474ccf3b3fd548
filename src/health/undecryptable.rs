//! Which messages are reported as undecryptable, when, and with which time.
//!
//! A pure state machine. Each message waits for its key until the grace time is over. One that
//! is decrypted before is reported as late, unless that took only a moment.

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{
    seen::{Digest, Seen},
    stats::UndecryptableStats,
};

/// The highest number of messages that wait for their keys.
pub(crate) const MOST_PENDING: usize = 500;
/// The highest number of bytes that these messages have together.
pub(crate) const MOST_PENDING_BYTES: usize = 1024 * 1024;
/// The number of newest messages of which each is counted once. An older one that comes again
/// counts as another message.
const MOST_SEEN: usize = 4096;

/// How late the task may look at a message for the last time: timers are not exact.
const SLACK: Duration = Duration::from_secs(1);

/// The limits between moments, delays and failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    /// A message that is decrypted in less time is not reported.
    pub(crate) ignore_under: Duration,
    /// A message that is not decrypted in this time is reported as permanent.
    pub(crate) grace: Duration,
}

/// The messages that wait for their keys, each with a message `M` of its report.
#[derive(Debug)]
pub(crate) struct Undecryptable<M> {
    timing: Timing,
    /// Oldest first.
    pending: VecDeque<Pending<M>>,
    pending_bytes: usize,
    seen: Seen,
    overflow: Option<Overflow>,
    stats: UndecryptableStats,
}

#[derive(Debug)]
struct Pending<M> {
    digest: Digest,
    since: Instant,
    bytes: usize,
    message: M,
}

/// The messages since the last report that there was no room for.
#[derive(Clone, Copy, Debug)]
struct Overflow {
    since: Instant,
    messages: u64,
}

/// The reports that are due.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reports<M> {
    /// Messages that were not decrypted within the grace time.
    pub(crate) permanent: Vec<M>,
    /// The number of messages that there was no room for, if any.
    pub(crate) overflowed: u64,
}

impl<M> Undecryptable<M> {
    pub(crate) fn new(timing: Timing) -> Self {
        Self {
            timing,
            pending: VecDeque::new(),
            pending_bytes: 0,
            seen: Seen::new(MOST_SEEN),
            overflow: None,
            stats: UndecryptableStats::default(),
        }
    }

    pub(crate) fn stats(&self) -> UndecryptableStats {
        UndecryptableStats { pending: self.pending.len() as u64, ..self.stats }
    }

    pub(crate) fn digest(&self, id: &str) -> Digest {
        self.seen.digest(id)
    }

    /// Returns whether the message with this digest was handled before.
    pub(crate) fn is_known(&self, digest: Digest) -> bool {
        self.seen.contains(digest)
    }

    /// Handles a message that could not be decrypted. `bytes` is its size in memory.
    pub(crate) fn handle_first_seen(
        &mut self,
        now: Instant,
        digest: Digest,
        bytes: usize,
        message: M,
    ) {
        if !self.seen.insert(digest) {
            return;
        }
        self.stats.seen += 1;
        let has_room = self.pending.len() < MOST_PENDING
            && self.pending_bytes.saturating_add(bytes) <= MOST_PENDING_BYTES;
        if !has_room {
            self.stats.overflowed += 1;
            self.overflow.get_or_insert(Overflow { since: now, messages: 0 }).messages += 1;
            return;
        }
        self.pending_bytes += bytes;
        self.pending.push_back(Pending { digest, since: now, bytes, message });
    }

    /// Handles that a message was decrypted. Returns the message and the time that this took, at
    /// most the grace time, if it is to be reported as late. One whose grace time is over stays,
    /// and [`Self::poll`] reports it as permanent.
    pub(crate) fn handle_decrypted(
        &mut self,
        now: Instant,
        digest: Digest,
    ) -> Option<(M, Duration)> {
        let place = self.pending.iter().position(|pending| pending.digest == digest)?;
        let took = now.saturating_duration_since(self.pending[place].since);
        if took > self.timing.grace + SLACK {
            return None;
        }
        let Pending { bytes, message, .. } = self.pending.remove(place)?;
        self.pending_bytes -= bytes;
        if took < self.timing.ignore_under {
            self.stats.decrypted_soon += 1;
            return None;
        }
        self.stats.reported_late += 1;
        Some((message, took.min(self.timing.grace)))
    }

    /// Returns the messages that wait, oldest first.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (Digest, &M)> {
        self.pending.iter().map(|pending| (pending.digest, &pending.message))
    }

    /// Returns the messages whose grace time is over, oldest first. They still wait until
    /// [`Self::poll`], so that they can be looked at for the last time.
    pub(crate) fn due(&self, now: Instant) -> impl Iterator<Item = (Digest, &M)> {
        let grace = self.timing.grace;
        let due = self.pending.iter().take_while(move |pending| pending.since + grace <= now);
        due.map(|pending| (pending.digest, &pending.message))
    }

    /// Returns a message that waits.
    pub(crate) fn get_mut(&mut self, digest: Digest) -> Option<&mut M> {
        let found = self.pending.iter_mut().find(|pending| pending.digest == digest)?;
        Some(&mut found.message)
    }

    /// Returns what is to be reported now.
    pub(crate) fn poll(&mut self, now: Instant) -> Reports<M> {
        let due = self.due(now).count();
        let permanent: Vec<_> = self.pending.drain(..due).collect();
        self.stats.reported_permanent += permanent.len() as u64;
        self.pending_bytes -= permanent.iter().map(|pending| pending.bytes).sum::<usize>();
        let grace = self.timing.grace;
        let overflow = self.overflow.take_if(|overflow| overflow.since + grace <= now);
        Reports {
            permanent: permanent.into_iter().map(|pending| pending.message).collect(),
            overflowed: overflow.map_or(0, |overflow| overflow.messages),
        }
    }

    /// Returns the time of the next call of [`Self::poll`], if there is something to wait for.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let pending = self.pending.front().map(|oldest| oldest.since);
        let overflow = self.overflow.map(|overflow| overflow.since);
        let since = pending.into_iter().chain(overflow).min()?;
        Some(since + self.timing.grace)
    }

    /// Forgets the messages that wait. They are still known, so that none is counted twice.
    pub(crate) fn forget_waiting(&mut self) {
        self.stats.forgotten += self.pending.len() as u64;
        self.pending = VecDeque::new();
        self.pending_bytes = 0;
        self.overflow = None;
    }

    /// Forgets which messages are known.
    pub(crate) fn forget_seen(&mut self) {
        self.seen.clear();
    }
}
