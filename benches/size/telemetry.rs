//! What an app does with analytics.

#[cfg(feature = "sqlite")]
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use matrix_analytics::{Analytics, AnalyticsEvent, PostHog, Properties, Switch};
use matrix_sdk::Client;
use serde::Serialize;

#[derive(Serialize)]
struct RoomJoined {
    trigger: Trigger,
    members: u32,
    is_dm: bool,
}

#[derive(Serialize)]
enum Trigger {
    Invite,
}

impl AnalyticsEvent for RoomJoined {
    const NAME: &'static str = "RoomJoined";
}

#[derive(Serialize)]
struct ScreenShown {
    name: &'static str,
    seconds: f64,
}

impl AnalyticsEvent for ScreenShown {
    const NAME: &'static str = "ScreenShown";
}

#[derive(Serialize)]
struct SyncFailed {
    status: Option<u16>,
    retries: Vec<u64>,
}

impl AnalyticsEvent for SyncFailed {
    const NAME: &'static str = "SyncFailed";
}

pub(crate) async fn start(client: Client, directory: &str) -> crate::Result<Analytics> {
    let builder = Analytics::builder(client, "org.example.analytics")
        .backend(PostHog::new("https://eu.i.posthog.com", "phc_key")?)
        .super_properties([("app", "desktop")]);
    #[cfg(feature = "sqlite")]
    let builder = builder.queue(
        matrix_analytics::SqliteQueue::new(Path::new(directory).join("events.sqlite3"))
            .passphrase("passphrase"),
    );
    let analytics = builder.build().await?;
    tokio::spawn(settings(analytics.clone(), directory.len() > 8));
    Ok(analytics)
}

/// Follows the state, as the switch in an app's settings does.
async fn settings(analytics: Analytics, agrees: bool) {
    let mut states = analytics.state_stream();
    while let Some(state) = states.next().await {
        match (state.switch(), agrees) {
            (Switch::Off, true) => {
                let Ok(_) = analytics.opt_in().await else { continue };
                let (trigger, members, is_dm) = (Trigger::Invite, 3, false);
                analytics.capture(&RoomJoined { trigger, members, is_dm });
                analytics.capture(&ScreenShown { name: "Home", seconds: 0.5 });
                analytics.capture(&SyncFailed { status: Some(502), retries: vec![1, 2] });
                analytics.capture_named("Started", Properties::new().with("cold", true));
            }
            (Switch::On, false) => drop(analytics.opt_out().await),
            _ => {}
        }
    }
}

pub(crate) async fn stop(analytics: &Analytics) {
    let deadline = Duration::from_secs(1);
    analytics.flush(deadline).await;
    analytics.shutdown(deadline).await;
    analytics.end_session().await;
}
