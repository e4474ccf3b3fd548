//! This example opts in on one device, sends events from two under one ID, and opts out on the
//! other.
//!
//!     cargo run --example quickstart
//!
//! Nothing needs to be installed or configured. The homeserver and the collector, which takes
//! the place of PostHog, are local servers in this process. Each line that begins with "ok" is
//! a check that passed. The first check that fails ends the run with an error.

// For the futures of a client with encryption.
#![recursion_limit = "256"]
#![expect(clippy::print_stdout, reason = "an example prints its progress")]

use std::{error::Error, time::Duration};

use matrix_analytics::{
    Analytics, AnalyticsEvent, Consent, ELEMENT_EVENT_TYPE, GateState, HoldReason, Note, PostHog,
    Switch, testing::AccountDataServer,
};
use matrix_analytics_examples::{Collector, check, describe_step, heading, wait_for};
use matrix_sdk::config::SyncSettings;
use serde::Serialize;
use serde_json::Value;
use tokio::task::JoinHandle;

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

const USER: &str = "@alice:example.org";

/// An event of the app. Its fields are enums, numbers and booleans, so it cannot contain text
/// that a user typed.
#[derive(Serialize)]
struct RoomJoined {
    trigger: Trigger,
    is_dm: bool,
}

#[derive(Serialize)]
enum Trigger {
    Invite,
    Directory,
}

impl AnalyticsEvent for RoomJoined {
    const NAME: &'static str = "RoomJoined";
}

// On a single thread, other tasks run only at an `await`, so every run prints its lines in the
// same order.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result {
    let homeserver = AccountDataServer::start().await;
    let collector = Collector::start().await?;

    heading("1. Before the user has decided");
    let phone = Device::start("PHONE", &homeserver, &collector).await?;
    let laptop = Device::start("LAPTOP", &homeserver, &collector).await?;
    for device in [&phone, &laptop] {
        device.check_nothing_captured(&collector).await?;
    }

    heading("2. Opt-in on the phone");
    opt_in(&phone, &homeserver, &collector).await?;

    heading("3. The laptop receives the opt-in in sync");
    let id = check_same_id(&phone, &laptop).await?;

    heading("4. Events from both devices");
    deliver(&phone, &laptop, &collector, &id).await?;

    heading("5. Opt-out on the laptop");
    opt_out(&laptop, &homeserver).await?;
    check_both_closed(&phone, &laptop, &collector).await?;

    heading("6. Shutdown");
    for device in [phone, laptop] {
        device.stop().await?;
    }
    check("the collector received two requests in total", collector.requests().len() == 2)
}

/// A device of the user, which runs an app with a Matrix client and analytics.
struct Device {
    name: &'static str,
    analytics: Analytics,
    sync: JoinHandle<matrix_sdk::Result<()>>,
}

impl Device {
    async fn start(name: &'static str, hs: &AccountDataServer, to: &Collector) -> Result<Self> {
        let client = hs.client(&hs.add_device(USER, name)).await?;

        // This is all the setup that an app needs.
        let posthog = PostHog::new(&to.url(), "phc_quickstart")?;
        let analytics = Analytics::builder(client.clone(), ELEMENT_EVENT_TYPE)
            .backend(posthog)
            // This is short because a new ID is used only after twice this time.
            .request_timeout(Duration::from_millis(250))
            .build()
            .await?;

        if analytics.state().note() == Some(Note::DoNotTrack) {
            return Err(
                "DO_NOT_TRACK is set, so analytics stays off: unset it to run this example".into(),
            );
        }
        let switch = analytics.state().switch();
        println!("{name}: the switch is {switch}");
        check("the app must wait for the homeserver before it asks", switch == Switch::Pending)?;

        // The app's own sync loop needs no code for analytics.
        let sync = tokio::spawn(async move { client.sync(SyncSettings::new()).await });
        Ok(Self { name, analytics, sync })
    }

    async fn check_nothing_captured(&self, collector: &Collector) -> Result {
        check("the app may ask the user now", self.analytics.should_ask().await)?;
        println!("{}: the switch is {}", self.name, self.analytics.state().switch());

        self.join_room(Trigger::Directory);
        self.analytics.flush(Duration::from_secs(30)).await;
        check("the event is not captured", self.captured() == 0)?;
        check("no connection is made to the collector", collector.connections() == 0)
    }

    /// Captures an event, as an app would when the user joins a room.
    fn join_room(&self, trigger: Trigger) {
        let is_dm = false;
        self.analytics.capture(&RoomJoined { trigger, is_dm });
    }

    fn captured(&self) -> u64 {
        let backends = self.analytics.stats().backends;
        backends.iter().map(|backend| backend.captured).sum()
    }

    async fn stop(self) -> Result {
        let deadline = Duration::from_secs(2);
        let report = self.analytics.shutdown(deadline).await;
        for stats in self.analytics.stats().backends {
            let (captured, delivered) = (stats.captured, stats.delivered);
            println!("{}: {captured} captured, {delivered} delivered", self.name);
            check("every event is accounted for", stats.is_balanced())?;
        }
        self.sync.abort();
        check("no event is left in the queue", report.is_complete())
    }
}

async fn opt_in(phone: &Device, homeserver: &AccountDataServer, collector: &Collector) -> Result {
    // Call this when the user agrees. Another device may opt in at the same time.
    let state = phone.analytics.opt_in().await?;
    let settling = GateState::Holding(HoldReason::Settling);
    check("the new ID is settling", state.gate == settling)?;
    phone.join_room(Trigger::Invite);
    check("the event is captured and held", phone.captured() == 1)?;
    check("still no connection is made", collector.connections() == 0)?;

    wait_for(&phone.analytics, "an open gate", |state| state.is_open()).await?;
    println!("account data: {}", account_content(homeserver)?);
    check(
        "the gate is open once the homeserver has confirmed the opt-in",
        phone.analytics.is_open(),
    )
}

async fn check_same_id(phone: &Device, laptop: &Device) -> Result<String> {
    wait_for(&laptop.analytics, "an open gate", |state| state.is_open()).await?;
    let mut ids = Vec::new();
    for device in [phone, laptop] {
        let id = device.analytics.analytics_id().ok_or("no ID")?;
        // Shown for demonstration only. An app must never log the ID.
        println!("{} sends as {}", device.name, id.reveal());
        ids.push(id.reveal().to_owned());
    }
    check("both devices use the same ID", ids[0] == ids[1])?;
    Ok(ids.remove(0))
}

async fn deliver(phone: &Device, laptop: &Device, collector: &Collector, id: &str) -> Result {
    laptop.join_room(Trigger::Directory);
    // Flush to see the result now. Otherwise a batch is sent when it is full, or after 10 seconds.
    let reports = [
        phone.analytics.flush(Duration::from_secs(30)).await,
        laptop.analytics.flush(Duration::from_secs(30)).await,
    ];
    let delivered = reports.iter().flat_map(|report| &report.backends);
    let delivered: u64 = delivered.map(|backend| backend.delivered).sum();
    check("both events were delivered", delivered == 2)?;

    for (request, body) in collector.requests() {
        let json: Value = serde_json::from_slice(&body)?;
        println!("{request}\n{json:#}");
        check("the event has the ID of the account", json["batch"][0]["distinct_id"] == id)?;
        let body = String::from_utf8(body)?;
        let personal = ["alice", "example.org", "PHONE", "LAPTOP"];
        let leaked = personal.iter().find(|word| body.contains(**word));
        check("the request names no user, server or device", leaked.is_none())?;
    }
    Ok(())
}

async fn opt_out(laptop: &Device, homeserver: &AccountDataServer) -> Result {
    // Call this when the user changes their mind. It never fails: the receipt lists what is done.
    let receipt = laptop.analytics.opt_out().await;
    println!("gate closed and queue wiped: done");
    println!("connections closed: {}", describe_step(&receipt.requests));
    println!("saved on this device: {}", describe_step(&receipt.record));
    println!("removal from the account: {}", describe_step(&receipt.account));
    check("the withdrawal is complete", receipt.is_complete())?;

    let actual = account_content(homeserver)?;
    println!("account data: {actual}");
    let expected = r#"{"pseudonymousAnalyticsOptIn":false}"#;
    check("the account has an opt-out and no ID", actual == expected)
}

/// Checks that the opt-out reaches the phone in sync, and that neither device sends events.
async fn check_both_closed(phone: &Device, laptop: &Device, collector: &Collector) -> Result {
    let denied = |decision| decision == Consent::Denied;
    wait_for(&phone.analytics, "an opt-out", |state| denied(state.decision)).await?;
    check("the phone's gate is closed", !phone.analytics.is_open())?;

    let before = (collector.connections(), collector.requests().len());
    for device in [phone, laptop] {
        device.join_room(Trigger::Invite);
        device.analytics.flush(Duration::from_secs(30)).await;
        check("the event is not captured", device.captured() == 1)?;
    }
    let after = (collector.connections(), collector.requests().len());
    check("no request or connection was added", before == after)
}

/// Returns the content of the account-data event on the homeserver.
fn account_content(homeserver: &AccountDataServer) -> Result<String> {
    let content = homeserver.content(USER, ELEMENT_EVENT_TYPE);
    content.ok_or_else(|| "the account has no such event".into())
}
