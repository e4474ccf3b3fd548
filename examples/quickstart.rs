//! The whole story in one run: consent, one ID for an account, events, and a
//! withdrawal that another device obeys.
//!
//!     cargo run --example quickstart
//!
//! Nothing to install or configure: the homeserver and the collector (in PostHog's
//! place) are in this process, on loopback. Every line that begins with "ok" was
//! checked; the first claim that does not hold ends the run with an error.

#![expect(clippy::print_stdout, reason = "an example tells its story")]

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
/// What the app wants to know: enums, numbers and booleans, nothing that a person
/// could have typed.
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

// On one thread other tasks run only at an `await`, so every run prints the same.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result {
    let homeserver = AccountDataServer::start().await;
    let collector = Collector::start().await?;

    heading("1. Before the user was asked");
    let phone = Device::start("PHONE", &homeserver, &collector).await?;
    let laptop = Device::start("LAPTOP", &homeserver, &collector).await?;
    for device in [&phone, &laptop] {
        device.capture_nothing(&collector).await?;
    }

    heading("2. Opt-in on the phone");
    opt_in(&phone, &homeserver, &collector).await?;

    heading("3. The laptop learns of it by sync");
    let id = one_id(&phone, &laptop).await?;

    heading("4. Events from both devices");
    deliver(&phone, &laptop, &collector, &id).await?;

    heading("5. Opt-out on the laptop");
    opt_out(&laptop, &homeserver).await?;
    obey(&phone, &laptop, &collector).await?;

    heading("6. The end");
    for device in [phone, laptop] {
        device.stop().await?;
    }
    check("two requests in all", collector.requests().len() == 2)
}

/// A device of the user: an app with a Matrix client and its analytics.
struct Device {
    name: &'static str,
    analytics: Analytics,
    sync: JoinHandle<matrix_sdk::Result<()>>,
}

impl Device {
    async fn start(name: &'static str, hs: &AccountDataServer, to: &Collector) -> Result<Self> {
        let client = hs.client(&hs.add_device(USER, name)).await?;

        // This is all that an app sets up.
        let posthog = PostHog::new(&to.url(), "phc_quickstart")?;
        let analytics = Analytics::builder(client.clone(), ELEMENT_EVENT_TYPE)
            .backend(posthog)
            // Short here, because a new ID settles for twice this time.
            .request_timeout(Duration::from_millis(250))
            .build()
            .await?;

        if analytics.state().note() == Some(Note::DoNotTrack) {
            return Err("DO_NOT_TRACK is set, and obeyed: run this without it".into());
        }
        let switch = analytics.state().switch();
        println!("{name}: the switch is {switch}");
        check("no question before an answer", switch == Switch::Pending)?;

        // The app's own sync loop: nothing in it is about analytics.
        let sync = tokio::spawn(async move { client.sync(SyncSettings::new()).await });
        Ok(Self { name, analytics, sync })
    }

    async fn capture_nothing(&self, collector: &Collector) -> Result {
        check("now the app may ask", self.analytics.should_ask().await)?;
        println!("{}: the switch is {}", self.name, self.analytics.state().switch());

        self.join_room(Trigger::Directory);
        self.analytics.flush(Duration::from_secs(30)).await;
        check("an event is not taken", self.captured() == 0)?;
        check("no connection", collector.connections() == 0)
    }

    /// What an app does where something happens.
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
        check("nothing is left behind", report.is_complete())
    }
}

async fn opt_in(phone: &Device, homeserver: &AccountDataServer, collector: &Collector) -> Result {
    // The user has agreed. Another device may be doing the same just now.
    let state = phone.analytics.opt_in().await?;
    let settling = GateState::Holding(HoldReason::Settling);
    check("the new ID settles", state.gate == settling)?;
    phone.join_room(Trigger::Invite);
    check("an event is held", phone.captured() == 1)?;
    check("still no connection", collector.connections() == 0)?;

    wait_for(&phone.analytics, "an open gate", |state| state.is_open()).await?;
    println!("the homeserver holds {}", content(homeserver)?);
    check("it was asked, and the gate is open", phone.analytics.is_open())
}

async fn one_id(phone: &Device, laptop: &Device) -> Result<String> {
    wait_for(&laptop.analytics, "an open gate", |state| state.is_open()).await?;
    let mut ids = Vec::new();
    for device in [phone, laptop] {
        let id = device.analytics.analytics_id().ok_or("no ID")?;
        // Shown because the story is about it: an app never logs it.
        println!("{} sends as {}", device.name, id.reveal());
        ids.push(id.reveal().to_owned());
    }
    check("one account, one ID", ids[0] == ids[1])?;
    Ok(ids.remove(0))
}

async fn deliver(phone: &Device, laptop: &Device, collector: &Collector, id: &str) -> Result {
    laptop.join_room(Trigger::Directory);
    // Only to see it now: a batch leaves by itself when full or 10 seconds old.
    let reports = [
        phone.analytics.flush(Duration::from_secs(30)).await,
        laptop.analytics.flush(Duration::from_secs(30)).await,
    ];
    let delivered = reports.iter().flat_map(|report| &report.backends);
    let delivered: u64 = delivered.map(|backend| backend.delivered).sum();
    check("both were delivered", delivered == 2)?;

    for (request, body) in collector.requests() {
        let json: Value = serde_json::from_slice(&body)?;
        println!("{request}\n{json:#}");
        check("the ID of the account", json["batch"][0]["distinct_id"] == id)?;
        let body = String::from_utf8(body.into())?;
        let personal = ["alice", "example.org", "PHONE", "LAPTOP"];
        let said = personal.iter().find(|word| body.contains(**word));
        check("no user, server or device", said.is_none())?;
    }
    Ok(())
}

async fn opt_out(laptop: &Device, homeserver: &AccountDataServer) -> Result {
    // The user changed their mind.
    let receipt = laptop.analytics.opt_out().await;
    println!("gate shut and queue wiped: done");
    println!("connections closed: {}", describe_step(&receipt.requests));
    println!("remembered on this device: {}", describe_step(&receipt.record));
    println!("account cleaned: {}", describe_step(&receipt.account));
    check("the withdrawal is complete", receipt.is_complete())?;

    let held = content(homeserver)?;
    println!("the homeserver holds {held}");
    let clean = r#"{"pseudonymousAnalyticsOptIn":false}"#;
    check("an opt-out, and no ID", held == clean)
}

/// Sees that the phone learns of the opt-out by sync, and that neither device sends any more.
async fn obey(phone: &Device, laptop: &Device, collector: &Collector) -> Result {
    let denied = |decision| decision == Consent::Denied;
    wait_for(&phone.analytics, "an opt-out", |state| denied(state.decision)).await?;
    check("the phone is silent as well", !phone.analytics.is_open())?;

    let before = (collector.connections(), collector.requests().len());
    for device in [phone, laptop] {
        device.join_room(Trigger::Invite);
        device.analytics.flush(Duration::from_secs(30)).await;
        check("an event is not taken", device.captured() == 1)?;
    }
    let after = (collector.connections(), collector.requests().len());
    check("the collector heard nothing more", before == after)
}

/// What the homeserver holds, as every client of the user can read it.
fn content(homeserver: &AccountDataServer) -> Result<String> {
    let content = homeserver.content(USER, ELEMENT_EVENT_TYPE);
    content.ok_or_else(|| "the homeserver holds nothing".into())
}
