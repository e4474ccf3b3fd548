//! The erasures of one account: a state machine without I/O, a clock or randomness.
//!
//! | state | input | next state |
//! |---|---|---|
//! | – | `erase_recipients()` is called | searching |
//! | searching | the account shows an ID that was withdrawn | searching, and one erasure waits for each recipient |
//! | searching | the account is clean, the user has opted in again, or it has taken too long | – ; failed, if an ID that was used was not found |
//! | waiting | the time of its next try | in flight |
//! | in flight | the process ends | waiting, as after a failure; failed, if that was its last try |
//! | in flight | the recipient accepted it | done: nothing is left of it |
//! | in flight | any other end | waiting, or failed once it has waited for too long |
//! | waiting, no such recipient | it has waited for too long | failed |
//! | failed | a receipt reports it | – |
//!
//! An erasure names the identifier that its recipient knows. It is not changed by a later opt-in,
//! so two withdrawals lead to two erasures, each under its own identifier.

mod outputs;
mod suspension;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    ops::Range,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use uuid::Uuid;

use self::suspension::LONGEST_SLEEP;
use super::{backoff::wait_after, report::ErasureCause};

/// The most erasures that wait. An app has few recipients, and a user few opt-outs a month.
pub(super) const MOST_WAITING: usize = 64;
/// The most IDs that are searched at once.
const MOST_MISSING: usize = 64;
/// The most ended erasures that are remembered for a receipt.
pub(super) const MOST_ENDED: usize = 64;
/// The longest wait of an erasure for the account to be clean. Until then, other devices of the
/// user may still send.
pub(super) const LONGEST_GRACE: Duration = Duration::from_secs(10 * 60);

/// A moment, by both clocks. Waits are measured by the monotonic one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    pub(crate) wall: SystemTime,
}

impl Now {
    pub(crate) fn new() -> Self {
        Self { instant: Instant::now(), wall: SystemTime::now() }
    }
}

/// A recipient, as it is recognised across restarts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Address {
    /// Tells the recipients of an app apart, whatever their order. See `Recipient::erasure_ids`.
    pub(crate) id: String,
    /// The name for the app and for the endpoint.
    pub(crate) label: String,
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Address {}

/// A try to make now.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Try {
    pub(crate) key: Uuid,
    pub(crate) to: Address,
    pub(crate) identifier: String,
}

impl fmt::Debug for Try {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Try").field("to", &self.to).finish_non_exhaustive()
    }
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Try(Try),
    /// Wait for an input or this time.
    Wait(Option<Instant>),
}

/// The erasures that are wanted, and those that have failed.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// How long an erasure is tried.
    keep_for: Duration,
    pub(super) search: Option<Search>,
    /// Oldest first.
    pub(super) waiting: VecDeque<Waiting>,
    /// Those that no receipt has reported, oldest first.
    pub(super) failed: VecDeque<Ended>,
    /// Those of this process that were accepted, oldest first.
    done: VecDeque<Ended>,
    tries_ever: u64,
    done_ever: u64,
    failed_ever: BTreeMap<ErasureCause, u64>,
    last_cause: Option<ErasureCause>,
    /// The last withdrawal that asked for erasures, until the record of consent on the disk is
    /// known to have it.
    pub(super) unrecorded: Option<Unrecorded>,
    pub(super) is_changed: bool,
    /// The time from which the two clocks are compared.
    compared_at: Option<Now>,
}

/// A withdrawal that the record of consent may lack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unrecorded {
    /// The epochs of the records that lack it.
    pub(crate) epochs: Range<u64>,
    /// Whether it removes the whole event from the account.
    pub(crate) erases_event: bool,
}

/// A withdrawal whose IDs are still to be found on the account.
#[derive(Clone)]
pub(super) struct Search {
    pub(super) withdrawn_at: SystemTime,
    /// The fingerprints of the IDs that this device had used and that were not found yet.
    pub(super) missing: Vec<String>,
    /// The time at which it is given up.
    pub(super) until: Instant,
    /// Whether its time was over when this process began, which has some more.
    pub(super) is_overdue: bool,
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search").field("missing", &self.missing.len()).finish_non_exhaustive()
    }
}

/// An erasure that no recipient has accepted yet.
#[derive(Clone)]
pub(super) struct Waiting {
    /// The idempotency key.
    pub(super) key: Uuid,
    pub(super) to: Address,
    pub(super) identifier: String,
    pub(super) withdrawn_at: SystemTime,
    /// The end of the wait for a clean account.
    pub(super) grace_ends: Instant,
    /// A try that fails after this time is the last.
    pub(super) until: Instant,
    pub(super) tries: u32,
    pub(super) next_try: Instant,
    pub(super) cause: Option<ErasureCause>,
    pub(super) is_in_flight: bool,
    /// Whether the last try has begun.
    pub(super) is_last_try: bool,
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting")
            .field("to", &self.to)
            .field("tries", &self.tries)
            .field("cause", &self.cause)
            .finish_non_exhaustive()
    }
}

/// An erasure that has ended. It has no identifier any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) recipient: String,
    pub(super) withdrawn_at: SystemTime,
    pub(super) tries: u32,
    /// `None` if it is done.
    pub(super) cause: Option<ErasureCause>,
}

impl Ledger {
    /// Creates an empty ledger whose erasures are tried for `keep_for`.
    pub(crate) fn new(keep_for: Duration) -> Self {
        Self {
            keep_for,
            search: None,
            waiting: VecDeque::new(),
            failed: VecDeque::new(),
            done: VecDeque::new(),
            tries_ever: 0,
            done_ever: 0,
            failed_ever: BTreeMap::new(),
            last_cause: None,
            unrecorded: None,
            is_changed: false,
            compared_at: None,
        }
    }

    /// Returns whether nothing waits, nothing has to be reported, and the record of consent has
    /// the last withdrawal.
    pub(crate) fn is_empty(&self) -> bool {
        self.search.is_none()
            && self.waiting.is_empty()
            && self.failed.is_empty()
            && self.unrecorded.is_none()
    }

    /// Returns whether anything that a file has to hold has changed since the last call.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    // Inputs: the consent machine.

    /// Handles that the user has withdrawn and wants erasures. `used` are the fingerprints of the
    /// IDs that this device has used. The record of consent lacks `withdrawal` until it is saved.
    pub(crate) fn handle_withdrawal(
        &mut self,
        withdrawal: Unrecorded,
        used: Vec<String>,
        now: Now,
    ) {
        self.begin_wait(now);
        // A search that is still open is for the same removal from the account.
        let mut missing = self.search.take().map_or_else(Vec::new, |search| search.missing);
        missing.extend(used);
        missing.sort_unstable();
        missing.dedup();
        missing.truncate(MOST_MISSING);
        let until = now.instant + self.keep_for;
        self.search = Some(Search { withdrawn_at: now.wall, missing, until, is_overdue: false });
        self.set_unrecorded(Some(withdrawal));
    }

    /// Handles that the last withdrawal was made again, because the record of consent lacked it.
    #[cfg_attr(not(feature = "sqlite"), expect(dead_code, reason = "there is no file"))]
    pub(crate) fn handle_repeated_withdrawal(&mut self, withdrawal: Unrecorded, now: Now) {
        if self.search.is_some() {
            self.set_unrecorded(Some(withdrawal));
        } else {
            // All IDs that it removed were found. It removes that which the account holds now.
            self.handle_withdrawal(withdrawal, Vec::new(), now);
        }
    }

    /// Returns the last withdrawal, unless the record of consent on the disk has it. It lacks it
    /// if the process was killed before it was saved.
    pub(crate) fn unrecorded(&self) -> Option<&Unrecorded> {
        self.unrecorded.as_ref()
    }

    /// Handles that the record of consent lacks the last withdrawal, or that it has it.
    pub(crate) fn set_unrecorded(&mut self, withdrawal: Option<Unrecorded>) {
        self.unrecorded = withdrawal;
        self.is_changed = true;
    }

    pub(crate) fn is_searching(&self) -> bool {
        self.search.is_some()
    }

    /// Handles that the ID with `fingerprint` was found, which the withdrawal removes. Returns the
    /// time of the withdrawal, unless nothing is searched.
    ///
    /// It may be an ID that only other devices have used: the user has opted out and in there.
    pub(crate) fn handle_found(&mut self, fingerprint: &str) -> Option<SystemTime> {
        let search = self.search.as_mut()?;
        let missing = search.missing.len();
        search.missing.retain(|other| other != fingerprint);
        self.is_changed |= search.missing.len() < missing;
        Some(search.withdrawn_at)
    }

    /// Handles that recipients know an ID that was found, and withdrawn at `withdrawn_at`, by
    /// these identifiers.
    pub(crate) fn handle_identifiers(
        &mut self,
        identifiers: impl IntoIterator<Item = (Address, String)>,
        withdrawn_at: SystemTime,
        now: Now,
        mut new_key: impl FnMut() -> Uuid,
    ) {
        self.begin_wait(now);
        for (to, identifier) in identifiers {
            let known = self.waiting.iter_mut().find(|known| {
                !known.is_in_flight && known.to == to && known.identifier == identifier
            });
            if let Some(known) = known {
                // The same withdrawal, or a later one of the same ID: one request covers both.
                if known.withdrawn_at != withdrawn_at {
                    known.withdrawn_at = withdrawn_at;
                    known.until = now.instant + self.keep_for;
                    self.is_changed = true;
                }
                continue;
            }
            if self.waiting.len() >= MOST_WAITING {
                self.displace();
            }
            self.is_changed = true;
            self.waiting.push_back(Waiting {
                key: new_key(),
                to,
                identifier,
                withdrawn_at,
                grace_ends: now.instant + LONGEST_GRACE,
                until: now.instant + self.keep_for,
                tries: 0,
                next_try: now.instant,
                cause: None,
                is_in_flight: false,
                is_last_try: false,
            });
        }
    }

    /// Handles that the account is clean, or that the user has opted in again. `recipients` are
    /// those that support erasures.
    pub(crate) fn handle_clean_account<'a>(
        &mut self,
        recipients: impl IntoIterator<Item = &'a Address>,
    ) {
        self.end_search(recipients, ErasureCause::NoIdentifier);
    }

    /// Ends the search. If an ID that was used was not found, its erasures have failed with `cause`.
    pub(crate) fn end_search<'a>(
        &mut self,
        recipients: impl IntoIterator<Item = &'a Address>,
        cause: ErasureCause,
    ) {
        let Some(search) = self.search.take() else { return };
        self.is_changed = true;
        if !search.missing.is_empty() {
            self.fail_all(recipients, search.withdrawn_at, cause);
        }
    }

    /// Handles that no request can be made to `recipients` for the withdrawal at `withdrawn_at`.
    pub(crate) fn fail_all<'a>(
        &mut self,
        recipients: impl IntoIterator<Item = &'a Address>,
        withdrawn_at: SystemTime,
        cause: ErasureCause,
    ) {
        for recipient in recipients {
            let recipient = recipient.label.clone();
            self.fail(Ended { recipient, withdrawn_at, tries: 0, cause: Some(cause) });
        }
    }

    // Inputs and outputs: the task that sends.

    /// Returns what to do next. `is_removing` says whether the account is still being cleaned, and
    /// `recipients` are those of the app that support erasures.
    pub(crate) fn poll(&mut self, now: Now, is_removing: bool, recipients: &[&Address]) -> Next {
        self.catch_up(now);
        match self.next(now.instant, is_removing, recipients) {
            Next::Wait(Some(until)) => Next::Wait(Some(until.min(now.instant + LONGEST_SLEEP))),
            next => next,
        }
    }

    fn next(&mut self, now: Instant, is_removing: bool, recipients: &[&Address]) -> Next {
        let is_known = |to: &Address| recipients.contains(&to);
        if self.search.as_ref().is_some_and(|search| search.until <= now) {
            self.end_search(recipients.iter().copied(), ErasureCause::NoIdentifier);
        }
        self.give_up_unknown(now, is_known);
        let due_at = |waiting: &Waiting| match is_removing && waiting.tries == 0 {
            true => waiting.next_try.max(waiting.grace_ends),
            false => waiting.next_try,
        };
        // One at a time.
        if self.waiting.iter().any(|waiting| waiting.is_in_flight) {
            return Next::Wait(None);
        }
        let known = self.waiting.iter_mut().filter(|waiting| is_known(&waiting.to));
        let first = known.min_by_key(|waiting| due_at(waiting));
        if let Some(first) = first {
            let due_at = due_at(first);
            if due_at <= now {
                first.is_in_flight = true;
                // Counted before it is made: a process that ends in each of its tries must come
                // to an end with them as well.
                first.tries = first.tries.saturating_add(1);
                first.is_last_try = first.until <= now;
                first.next_try = now + wait_after(first.tries, None, 1.0);
                self.is_changed = true;
                let (to, identifier) = (first.to.clone(), first.identifier.clone());
                return Next::Try(Try { key: first.key, to, identifier });
            }
            return Next::Wait(Some(self.next_end(is_known).map_or(due_at, |end| end.min(due_at))));
        }
        Next::Wait(self.next_end(is_known))
    }

    /// Returns when the search, or the next erasure of a recipient that the app no longer has, is
    /// given up.
    fn next_end(&self, is_known: impl Fn(&Address) -> bool) -> Option<Instant> {
        let unknown = self.waiting.iter().filter(|waiting| !is_known(&waiting.to));
        let search = self.search.iter().map(|search| search.until);
        unknown.map(|waiting| waiting.until).chain(search).min()
    }

    fn give_up_unknown(&mut self, now: Instant, is_known: impl Fn(&Address) -> bool) {
        let is_over = |waiting: &Waiting| waiting.until <= now && !is_known(&waiting.to);
        while let Some(place) = self.waiting.iter().position(is_over) {
            self.end(place, Some(ErasureCause::NoEndpoint));
        }
    }

    /// Handles the end of the try with `key`. `jitter` is at least 0 and below 1.
    pub(crate) fn handle_answer(
        &mut self,
        key: Uuid,
        answer: Result<(), (ErasureCause, Option<Duration>)>,
        now: Now,
        jitter: f64,
    ) {
        self.begin_wait(now);
        let Some(place) = self.waiting.iter().position(|waiting| waiting.key == key) else {
            return;
        };
        let waiting = &mut self.waiting[place];
        waiting.is_in_flight = false;
        self.tries_ever += 1;
        match answer {
            Ok(()) => self.end(place, None),
            Err((cause, requested)) => {
                waiting.cause = Some(cause);
                self.last_cause = Some(cause);
                if waiting.is_last_try || waiting.until <= now.instant {
                    return self.end(place, Some(cause));
                }
                let next = now.instant + wait_after(waiting.tries, requested, jitter);
                waiting.next_try = next.min(waiting.until);
                self.is_changed = true;
            }
        }
    }

    /// Ends the erasure at `place`, which is done if there is no `cause`.
    fn end(&mut self, place: usize, cause: Option<ErasureCause>) {
        let Some(Waiting { to, withdrawn_at, tries, .. }) = self.waiting.remove(place) else {
            return;
        };
        self.is_changed = true;
        let ended = Ended { recipient: to.label, withdrawn_at, tries, cause };
        match cause {
            Some(_) => self.fail(ended),
            None => {
                self.done_ever += 1;
                push(&mut self.done, ended);
            }
        }
    }

    /// Gives up the oldest erasure that waits.
    fn displace(&mut self) {
        if let Some(place) = self.waiting.iter().position(|waiting| !waiting.is_in_flight) {
            self.end(place, Some(ErasureCause::Displaced));
        }
    }

    pub(super) fn fail(&mut self, ended: Ended) {
        if let Some(cause) = ended.cause {
            *self.failed_ever.entry(cause).or_default() += 1;
        }
        self.is_changed = true;
        push(&mut self.failed, ended);
    }

    pub(super) fn keep_for(&self) -> Duration {
        self.keep_for
    }
}

/// Adds `ended`, and forgets the oldest if there are too many.
fn push(list: &mut VecDeque<Ended>, ended: Ended) {
    list.push_back(ended);
    if list.len() > MOST_ENDED {
        list.pop_front();
    }
}
