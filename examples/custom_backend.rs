//! This example implements a custom backend, which counts events by name.
//!
//!     cargo run --example custom_backend

#![expect(clippy::print_stdout, reason = "the backend prints to the terminal")]

use std::{collections::BTreeMap, error::Error, sync::Mutex, time::Duration};

use matrix_analytics::{
    Analytics, Backend, Batch, DeliveryError, Properties, testing::AccountDataServer,
};
use matrix_analytics_examples::wait_for;

/// The number of events per name.
#[derive(Default)]
struct Totals(Mutex<BTreeMap<String, u64>>);

impl Backend for Totals {
    fn name(&self) -> &'static str {
        "totals"
    }

    // Do all the work inside this future, because the sink drops it when the user opts out.
    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        // The error variant determines whether and when the sink sends the batch again.
        let poisoned =
            |_| DeliveryError::Misconfigured("the lock of the totals is poisoned".into());
        let mut totals = self.0.lock().map_err(poisoned)?;
        for event in batch.events() {
            *totals.entry(event.name().to_owned()).or_default() += 1;
        }
        println!("received {} events; totals: {totals:?}", batch.len());
        Ok(())
    }

    // The totals are the data of a user who opted in, so delete them at an opt-out.
    fn close(&self) {
        drop(self.0.lock().map(|mut totals| totals.clear()));
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let homeserver = AccountDataServer::start().await;
    let device = homeserver.add_device("@alice:example.org", "PHONE");
    let client = homeserver.client(&device).await?;
    let builder = Analytics::builder(client, "org.example.totals.analytics")
        .request_timeout(Duration::from_millis(250));
    let analytics = builder.backend(Totals::default()).build().await?;

    analytics.opt_in().await?;
    wait_for(&analytics, "an open gate", |state| state.is_open()).await?;
    for name in ["RoomJoined", "MessageSent", "MessageSent"] {
        analytics.capture_named(name, Properties::new());
    }
    let report = analytics.shutdown(Duration::from_secs(2)).await;
    if report.backends[0].delivered != 3 {
        return Err("not every event was delivered".into());
    }
    Ok(())
}
