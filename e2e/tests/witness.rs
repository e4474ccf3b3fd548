//! A backend that accepts everything, and records the time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use matrix_analytics::{Backend, Batch, DeliveryError};
use tokio::time::Instant;

/// An event, and the time of its arrival.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Instant,
    pub(crate) id: String,
    pub(crate) name: String,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Witness {
    arrivals: Arc<Mutex<Vec<Arrival>>>,
}

impl Witness {
    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.lock().clone()
    }

    /// Returns the events since the last call.
    pub(crate) fn take(&self) -> Vec<Arrival> {
        std::mem::take(&mut *self.lock())
    }

    /// Returns the IDs and names of the events, such as `"abc:Opened"`.
    pub(crate) fn received(&self) -> Vec<String> {
        self.lock().iter().map(|arrival| format!("{}:{}", arrival.id, arrival.name)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arrival>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for Witness {
    fn name(&self) -> &'static str {
        "witness"
    }

    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        let (at, id) = (Instant::now(), batch.distinct_id());
        let arrivals = batch.events().map(|event| Arrival {
            at,
            id: id.to_owned(),
            name: event.name().to_owned(),
        });
        self.lock().extend(arrivals);
        Ok(())
    }
}
