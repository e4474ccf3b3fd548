//! Ensures that a process has one live `Analytics` for each record.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::watch;

use crate::consent::machine::Save;

/// The identity of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordKey {
    /// The address of the client's store. Two clients on one directory have two addresses.
    pub(crate) store: usize,
    /// The key in the store, which contains the user and the event type.
    pub(crate) key: Vec<u8>,
    /// The homeserver and the device, because another store may later have the same address.
    pub(crate) session: String,
}

impl RecordKey {
    /// Returns whether the two keys name the same value of one store.
    fn is_same_value(&self, other: &Self) -> bool {
        (self.store, &self.key) == (other.store, &other.key)
    }
}

/// The lock that a request to the homeserver holds until it has ended.
pub(crate) type RequestLock = tokio::sync::Mutex<()>;

/// The number of unsaved records that are kept for the next `Analytics` of each.
const MAX_UNSAVED: usize = 64;

/// The records in use, and the saves that failed.
#[derive(Default)]
struct Table {
    holders: Vec<Weak<Holder>>,
    /// The saves that failed, latest last.
    unsaved: VecDeque<(RecordKey, Save)>,
    /// The request locks, because a request can outlive the `Analytics` that sent it.
    request_locks: Vec<(RecordKey, Weak<RequestLock>)>,
}

/// The exclusive right to a record, until this is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    holder: Arc<Holder>,
    request_lock: Arc<RequestLock>,
    unsaved: Option<Save>,
}

/// Keeps every other `Analytics` from reading the record, for a save that continues after
/// the [`Claim`] was dropped. When this is dropped without [`Hold::saved`], the next
/// `Analytics` takes over the save.
#[derive(Debug)]
pub(crate) struct Hold {
    holder: Arc<Holder>,
    unsaved: Option<Save>,
}

/// The error that another `Analytics` for the record exists.
#[derive(Debug)]
pub(crate) struct Taken;

#[derive(Debug)]
struct Holder {
    record: RecordKey,
    /// Whether there is a [`Claim`], and not only a [`Hold`].
    is_live: AtomicBool,
    /// Wakes its receivers when the holder is dropped.
    gone: watch::Sender<()>,
}

impl Claim {
    /// Claims `record`, once its previous `Analytics` has made its last save.
    pub(crate) async fn take(record: RecordKey) -> Result<Self, Taken> {
        loop {
            let mut gone = {
                let mut table = table();
                match table.holder_before(&record)? {
                    Some(holder) => holder.gone.subscribe(),
                    None => return Ok(table.claim(record)),
                }
            };
            // This returns an error when the holder is dropped, which is the expected event.
            let _ = gone.changed().await;
        }
    }

    /// Returns the save that failed in the previous `Analytics`, if any.
    pub(crate) fn unsaved(&self) -> Option<&Save> {
        self.unsaved.as_ref()
    }

    /// Notes that the new `Analytics` makes the failed save. Without this call, the save is
    /// kept for the next one.
    pub(crate) fn take_over(&mut self) {
        self.unsaved = None;
    }

    /// Returns the lock that keeps this `Analytics` from sending a request before the last
    /// one of its predecessor has ended.
    pub(crate) fn request_lock(&self) -> Arc<RequestLock> {
        self.request_lock.clone()
    }

    /// Returns a hold on the record for the save of `unsaved`. It can outlive this claim.
    pub(crate) fn hold(&self, unsaved: Save) -> Hold {
        Hold { holder: self.holder.clone(), unsaved: Some(unsaved) }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(unsaved) = self.unsaved.take() {
            drop(self.hold(unsaved));
        }
        self.holder.is_live.store(false, Ordering::Release);
    }
}

impl Hold {
    /// Returns the save to make.
    pub(crate) fn unsaved(&self) -> Option<&Save> {
        self.unsaved.as_ref()
    }

    /// Releases the record after a successful save.
    pub(crate) fn saved(mut self) {
        self.unsaved = None;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let Some(unsaved) = self.unsaved.take() else { return };
        let mut table = table();
        let record = self.holder.record.clone();
        table.unsaved.retain(|(other, _)| *other != record);
        table.unsaved.push_back((record, unsaved));
        if table.unsaved.len() > MAX_UNSAVED {
            table.unsaved.pop_front();
        }
    }
}

impl Table {
    /// Returns the holder that a new claim of `record` has to wait for.
    fn holder_before(&self, record: &RecordKey) -> Result<Option<Arc<Holder>>, Taken> {
        let mut holders = self.holders.iter().filter_map(Weak::upgrade);
        match holders.find(|holder| holder.record.is_same_value(record)) {
            Some(holder) if holder.is_live.load(Ordering::Acquire) => Err(Taken),
            before => Ok(before),
        }
    }

    fn claim(&mut self, record: RecordKey) -> Claim {
        let unsaved = self.unsaved.iter().position(|(other, _)| *other == record);
        let unsaved =
            unsaved.and_then(|number| self.unsaved.remove(number)).map(|(_, unsaved)| unsaved);
        let request_lock = self.request_lock(&record);
        let holder = Arc::new(Holder {
            record,
            is_live: AtomicBool::new(true),
            gone: watch::Sender::new(()),
        });
        self.holders.retain(|holder| holder.strong_count() > 0);
        self.holders.push(Arc::downgrade(&holder));
        Claim { holder, request_lock, unsaved }
    }

    fn request_lock(&mut self, record: &RecordKey) -> Arc<RequestLock> {
        self.request_locks.retain(|(_, request_lock)| request_lock.strong_count() > 0);
        let known = self.request_locks.iter().find(|(other, _)| other == record);
        if let Some(request_lock) = known.and_then(|(_, request_lock)| request_lock.upgrade()) {
            return request_lock;
        }
        let request_lock = Arc::default();
        self.request_locks.push((record.clone(), Arc::downgrade(&request_lock)));
        request_lock
    }
}

fn table() -> MutexGuard<'static, Table> {
    static TABLE: OnceLock<Mutex<Table>> = OnceLock::new();

    TABLE.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, poll};

    use super::*;
    use crate::consent::record::Record;

    fn record(store: usize, key: &str) -> RecordKey {
        RecordKey { store, key: key.into(), session: String::new() }
    }

    fn unsaved() -> Save {
        Save { base: Record::default(), record: Record::default() }
    }

    #[tokio::test]
    async fn a_claim_is_refused_while_another_lives_and_waits_for_its_hold() {
        let claim = Claim::take(record(0, "held")).await.unwrap();
        assert!(matches!(Claim::take(record(0, "held")).now_or_never(), Some(Err(Taken))));
        assert!(Claim::take(record(0, "another")).await.is_ok());
        let hold = claim.hold(unsaved());
        drop(claim);
        let mut next = Box::pin(Claim::take(record(0, "held")));
        assert!(poll!(&mut next).is_pending());
        drop(hold);
        assert!(next.await.is_ok());
        assert!(Claim::take(record(0, "held")).await.is_ok());
    }

    #[tokio::test]
    async fn of_two_claims_that_wait_for_a_hold_one_is_refused() {
        let claim = Claim::take(record(0, "both")).await.unwrap();
        let hold = claim.hold(unsaved());
        drop(claim);
        let mut one = Box::pin(Claim::take(record(0, "both")));
        let mut other = Box::pin(Claim::take(record(0, "both")));
        assert!(poll!(&mut one).is_pending() && poll!(&mut other).is_pending());
        drop(hold);
        let one = one.await;
        assert!(one.is_ok() && other.await.is_err());
    }

    #[tokio::test]
    async fn a_failed_save_is_passed_on_until_a_claim_takes_it_over() {
        let claim = Claim::take(record(0, "failed")).await.unwrap();
        assert!(claim.unsaved().is_none());
        drop(claim.hold(unsaved()));
        drop(claim);
        // Another session whose store has the same address gets nothing.
        let other = RecordKey { session: "other".to_owned(), ..record(0, "failed") };
        assert!(Claim::take(other).await.unwrap().unsaved().is_none());
        // The first claim that gets the save is dropped before it takes it over.
        for takes_over in [false, true] {
            let mut claim = Claim::take(record(0, "failed")).now_or_never().unwrap().unwrap();
            assert!(claim.unsaved().is_some());
            if takes_over {
                claim.take_over();
            }
        }
        assert!(Claim::take(record(0, "failed")).await.unwrap().unsaved().is_none());
    }

    #[tokio::test]
    async fn the_latest_failed_save_is_kept_when_the_table_is_full() {
        for number in 0..=MAX_UNSAVED {
            let claim = Claim::take(record(number, "many")).await.unwrap();
            drop(claim.hold(unsaved()));
        }
        let claim = Claim::take(record(MAX_UNSAVED, "many")).await.unwrap();
        assert!(claim.unsaved().is_some());
    }

    #[tokio::test]
    async fn a_successful_save_is_not_passed_on() {
        let claim = Claim::take(record(0, "saved")).await.unwrap();
        claim.hold(unsaved()).saved();
        drop(claim);
        assert!(Claim::take(record(0, "saved")).await.unwrap().unsaved().is_none());
    }

    #[tokio::test]
    async fn a_request_in_flight_keeps_its_lock_after_the_claim_was_dropped() {
        let claim = Claim::take(record(0, "lock")).await.unwrap();
        let request = claim.request_lock().lock_owned().await;
        drop(claim);
        let next = Claim::take(record(0, "lock")).await.unwrap();
        assert!(next.request_lock().try_lock().is_err());
        drop(request);
        assert!(next.request_lock().try_lock().is_ok());
    }
}
