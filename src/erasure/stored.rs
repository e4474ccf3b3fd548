//! The ledger as it is kept in a file, between two processes whose clocks may differ.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use super::{
    backoff::LONGEST_REQUESTED_WAIT,
    ledger::{
        Address, Ended, LONGEST_GRACE, Ledger, MOST_ENDED, MOST_WAITING, Now, Search, Unrecorded,
        Waiting,
    },
    report::ErasureCause,
};
use crate::{
    clock::is_set,
    event::unix_time::{from_unix_nanos, unix_nanos},
};

#[derive(Serialize, Deserialize)]
struct StoredLedger {
    search: Option<StoredSearch>,
    waiting: Vec<StoredWaiting>,
    failed: Vec<StoredEnded>,
    #[serde(default)]
    unrecorded: Option<Unrecorded>,
}

/// Milliseconds since 1970.
type Millis = i64;

#[derive(Serialize, Deserialize)]
struct StoredSearch {
    withdrawn_at: Millis,
    missing: Vec<String>,
    is_overdue: bool,
}

#[derive(Serialize, Deserialize)]
struct StoredWaiting {
    key: u128,
    to: Address,
    identifier: String,
    withdrawn_at: Millis,
    tries: u32,
    /// The time of the next try.
    next_try: Millis,
    #[serde(deserialize_with = "known_cause")]
    cause: Option<ErasureCause>,
    #[serde(default)]
    is_last_try: bool,
}

#[derive(Serialize, Deserialize)]
struct StoredEnded {
    recipient: String,
    withdrawn_at: Millis,
    tries: u32,
    #[serde(deserialize_with = "known_cause")]
    cause: Option<ErasureCause>,
}

/// Reads a cause; none, if a newer version wrote one that this version does not know.
fn known_cause<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ErasureCause>, D::Error> {
    let name: Option<String> = Option::deserialize(from)?;
    Ok(name.and_then(|name| serde_json::from_value(name.into()).ok()))
}

impl Ledger {
    /// Returns the content of a file, or `None` if the file has to hold nothing.
    pub(crate) fn to_bytes(&self, now: Now) -> Option<Vec<u8>> {
        if self.is_empty() {
            return None;
        }
        let stored = StoredLedger {
            search: self.search.as_ref().map(|search| StoredSearch {
                withdrawn_at: millis(search.withdrawn_at),
                missing: search.missing.clone(),
                is_overdue: search.is_overdue,
            }),
            waiting: self.waiting.iter().map(|waiting| store(waiting, now)).collect(),
            failed: self
                .failed
                .iter()
                .map(|ended| StoredEnded {
                    recipient: ended.recipient.clone(),
                    withdrawn_at: millis(ended.withdrawn_at),
                    tries: ended.tries,
                    cause: ended.cause,
                })
                .collect(),
            unrecorded: self.unrecorded.clone(),
        };
        serde_json::to_vec(&stored).ok()
    }

    /// Adds what an earlier process left. Returns `None` if `bytes` are not a ledger.
    #[cfg_attr(not(feature = "sqlite"), expect(dead_code, reason = "there is no file"))]
    pub(crate) fn restore(&mut self, bytes: &[u8], now: Now) -> Option<()> {
        let stored: StoredLedger = serde_json::from_slice(bytes).ok()?;
        let keep_for = self.keep_for();
        self.search = stored.search.map(|search| load_search(search, keep_for, now));
        for ended in stored.failed.into_iter().take(MOST_ENDED) {
            let StoredEnded { recipient, withdrawn_at, tries, cause } = ended;
            let cause = cause.or(Some(ErasureCause::Lost));
            self.fail(Ended { recipient, withdrawn_at: time(withdrawn_at), tries, cause });
        }
        for waiting in stored.waiting.into_iter().take(MOST_WAITING) {
            let waiting = load(waiting, keep_for, now);
            if waiting.is_last_try {
                let Waiting { to: Address { label: recipient, .. }, withdrawn_at, tries, .. } =
                    waiting;
                let cause = waiting.cause.or(Some(ErasureCause::Unreachable));
                self.fail(Ended { recipient, withdrawn_at, tries, cause });
            } else {
                self.waiting.push_back(waiting);
            }
        }
        self.unrecorded = stored.unrecorded;
        // The file gets the times that the clock of this process allows.
        self.is_changed = true;
        Some(())
    }
}

fn store(waiting: &Waiting, now: Now) -> StoredWaiting {
    let wait = waiting.next_try.saturating_duration_since(now.instant);
    StoredWaiting {
        key: waiting.key.as_u128(),
        to: waiting.to.clone(),
        identifier: waiting.identifier.clone(),
        withdrawn_at: millis(waiting.withdrawn_at),
        tries: waiting.tries,
        next_try: millis(now.wall).saturating_add(duration_millis(wait)),
        cause: waiting.cause,
        is_last_try: waiting.is_last_try,
    }
}

/// Returns the search as of `now`. One whose time is over goes on for a while, once: the account
/// may never have been read.
fn load_search(stored: StoredSearch, keep_for: Duration, now: Now) -> Search {
    let withdrawn_at = withdrawn_at(stored.withdrawn_at, now);
    let left = keep_for.saturating_sub(age(withdrawn_at, now));
    let is_over = left.is_zero();
    Search {
        withdrawn_at,
        missing: stored.missing,
        until: now.instant + if is_over && !stored.is_overdue { LONGEST_GRACE } else { left },
        is_overdue: is_over || stored.is_overdue,
    }
}

/// Returns the stored time of a withdrawal. One in the future, or of a clock that was not set, counts
/// as `now`.
fn withdrawn_at(stored: Millis, now: Now) -> SystemTime {
    let stored = time(stored);
    if stored > now.wall || is_set(now.wall) && !is_set(stored) { now.wall } else { stored }
}

fn age(withdrawn_at: SystemTime, now: Now) -> Duration {
    now.wall.duration_since(withdrawn_at).unwrap_or_default()
}

/// Returns the erasure as of `now`. A wall clock that was set back, or for the first time, makes it
/// new, once, and one that jumped ahead leaves it one try.
fn load(stored: StoredWaiting, keep_for: Duration, now: Now) -> Waiting {
    let withdrawn_at = withdrawn_at(stored.withdrawn_at, now);
    let age = age(withdrawn_at, now);
    let wait = stored.next_try.saturating_sub(millis(now.wall)).max(0) as u64;
    let wait = Duration::from_millis(wait);
    Waiting {
        key: Uuid::from_u128(stored.key),
        to: stored.to,
        identifier: stored.identifier,
        withdrawn_at,
        grace_ends: now.instant + LONGEST_GRACE.saturating_sub(age),
        until: now.instant + keep_for.saturating_sub(age),
        tries: stored.tries,
        next_try: now.instant + wait.min(LONGEST_REQUESTED_WAIT),
        cause: stored.cause,
        is_in_flight: false,
        is_last_try: stored.is_last_try,
    }
}

fn millis(time: SystemTime) -> Millis {
    (unix_nanos(time) / 1_000_000).clamp(i64::MIN.into(), i64::MAX.into()) as Millis
}

fn duration_millis(duration: Duration) -> Millis {
    duration.as_millis().min(i64::MAX as u128) as Millis
}

fn time(millis: Millis) -> SystemTime {
    from_unix_nanos(millis.saturating_mul(1_000_000))
}
