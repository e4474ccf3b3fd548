//! Saves of the record, which complete even if the caller stops waiting.

use std::{sync::Arc, time::Duration};

use matrix_sdk::StoreError;
use tokio::{runtime::Handle, sync::Mutex, time::timeout};

use super::claim::Hold;
use crate::{
    consent::{machine::Save, record::Record},
    matrix::record_store::RecordStore,
    spawn::spawn,
};

/// Merges `record` with the stored one, writes the result, and returns the stored record.
/// `save_lock` keeps saves in order.
pub(crate) async fn save(
    store: RecordStore,
    save_lock: Arc<Mutex<()>>,
    Save { base, record }: Save,
    request_timeout: Duration,
) -> Result<Record, StoreError> {
    let too_slow = || StoreError::Backend(Box::new(StoreTooSlow));
    let lock = timeout(request_timeout, save_lock.lock_owned()).await.map_err(|_| too_slow())?;
    // A separate task holds the lock until the write ends. A write that exceeded the time
    // limit may still be applied, and must not be applied after a newer one.
    let write = spawn(&Handle::current(), async move {
        let saved = store.save(&base, &record).await;
        drop(lock);
        saved
    });
    match timeout(request_timeout, write).await {
        Ok(Ok(saved)) => saved,
        Ok(Err(gone)) => Err(StoreError::Backend(Box::new(gone))),
        Err(_) => Err(too_slow()),
    }
}

/// Makes the last save of an `Analytics`, and lets the next one for the record start.
///
/// If the save fails, or this future is dropped because the runtime ended, the next
/// `Analytics` takes over the unsaved record.
pub(crate) async fn save_and_leave(
    store: RecordStore,
    save_lock: Arc<Mutex<()>>,
    hold: Hold,
    request_timeout: Duration,
) {
    const MOST_TRIES: usize = 3;

    // A write in flight has to end first, however long it takes.
    drop(save_lock.lock().await);
    for _ in 0..MOST_TRIES {
        let Some(last) = hold.unsaved().cloned() else { return };
        if save(store.clone(), save_lock.clone(), last, request_timeout).await.is_ok() {
            hold.saved();
            return;
        }
    }
}

/// The client's store took longer than the request timeout.
#[derive(Debug, thiserror::Error)]
#[error("the client's store did not answer in time")]
struct StoreTooSlow;
