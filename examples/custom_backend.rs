//! A backend of one's own, which counts events by name: `cargo run --example custom_backend`
#![expect(clippy::print_stdout, reason = "this backend's service is the terminal")]

use std::{collections::BTreeMap, error::Error, sync::Mutex, time::Duration};

use matrix_analytics::{
    Analytics, Backend, Batch, DeliveryError, Properties, testing::AccountDataServer,
};
use matrix_analytics_examples::wait_for;

#[derive(Default)]
struct Totals(Mutex<BTreeMap<String, u64>>);

impl Backend for Totals {
    fn name(&self) -> &'static str {
        "totals"
    }

    // All the work is done inside this future: the sink drops it at a withdrawal.
    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        // An error says what becomes of the batch and when the sink tries again.
        let broken = |_| DeliveryError::Misconfigured("a panic broke the totals".into());
        let mut totals = self.0.lock().map_err(broken)?;
        for event in batch.events() {
            *totals.entry(event.name().to_owned()).or_default() += 1;
        }
        println!("{} more events: {totals:?}", batch.len());
        Ok(())
    }

    // The totals belong to the user who opted in, and are deleted when they opt out.
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
