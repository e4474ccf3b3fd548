//! Saves of the record, which outlive the one who waits for them.

use std::{sync::Arc, time::Duration};

use matrix_sdk::StoreError;
use tokio::{sync::Mutex, time::timeout};

use super::claim::Hold;
use crate::{
    consent::{machine::Save, record::Record},
    matrix::record_store::RecordStore,
};

/// Brings `record` together with what is stored, writes it, and returns what the store holds
/// then. `saving` keeps the saves in their order.
pub(crate) async fn save(
    store: RecordStore,
    saving: Arc<Mutex<()>>,
    Save { base, record }: Save,
    request_timeout: Duration,
) -> Result<Record, StoreError> {
    let too_slow = || StoreError::Backend(Box::new(StoreTooSlow));
    let lock = timeout(request_timeout, saving.lock_owned()).await.map_err(|_| too_slow())?;
    // In a task of its own, which holds the lock: a write that is no longer waited for
    // may still land, and must not land after a newer one.
    let write = tokio::spawn(async move {
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

/// Saves what the last handle left unsaved, and lets the next `Analytics` of the record
/// begin. That one learns what could not be saved, also if this future is dropped: the
/// runtime may have ended.
pub(crate) async fn save_and_leave(
    store: RecordStore,
    saving: Arc<Mutex<()>>,
    hold: Hold,
    request_timeout: Duration,
) {
    const MOST_TRIES: usize = 3;

    // A write that is out has to land first, however long it takes.
    drop(saving.lock().await);
    for _ in 0..MOST_TRIES {
        let Some(last) = hold.unsaved().cloned() else { return };
        if save(store.clone(), saving.clone(), last, request_timeout).await.is_ok() {
            hold.saved();
            return;
        }
    }
}

/// The client's store took longer than a request may.
#[derive(Debug, thiserror::Error)]
#[error("the client's store did not answer in time")]
struct StoreTooSlow;
