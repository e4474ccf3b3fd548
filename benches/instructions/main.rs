//! A thousand captures whose instructions callgrind counts: see `scripts/instructions`.

use std::{error::Error, hint::black_box};

use matrix_analytics::{
    Analytics, AnalyticsEvent, JsonLines, Properties, testing::AccountDataServer,
};
use serde::Serialize;

const USER: &str = "@alice:example.org";
const EVENT_TYPE: &str = "org.example.analytics";
const CONTENT: &str =
    r#"{"id":"9f1c2d7e-0a4b-4c1d-9e2f-3a4b5c6d7e8f","pseudonymousAnalyticsOptIn":true}"#;

const CALLS: u32 = 1_000;

#[derive(Serialize)]
struct RoomJoined {
    trigger: &'static str,
    room_type: &'static str,
    members: u32,
    is_dm: bool,
    seconds: f64,
}

impl AnalyticsEvent for RoomJoined {
    const NAME: &'static str = "RoomJoined";
}

impl RoomJoined {
    fn new(n: u32) -> Self {
        let seconds = f64::from(n) / 1000.0;
        Self { trigger: "Invite", room_type: "community", members: n, is_dm: false, seconds }
    }
}

// A single thread without other work makes the count reproducible.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let case = std::env::args().nth(1).unwrap_or_default();
    let homeserver = AccountDataServer::start().await;
    homeserver.set_content(USER, EVENT_TYPE, CONTENT);
    let client = homeserver.client(&homeserver.add_device(USER, "DEVICE")).await?;
    let mut builder =
        Analytics::builder(client, EVENT_TYPE).backend(JsonLines::new(tokio::io::sink()));
    if case == "denied" {
        builder = builder.do_not_track();
    }
    let analytics = builder.build().await?;
    analytics.recheck().await?;
    assert_eq!(analytics.is_open(), case != "denied");
    match &*case {
        "denied" | "typed" => measured(|n| analytics.capture(&RoomJoined::new(n))),
        "named" => measured(|n| {
            let event = RoomJoined::new(n);
            let properties = Properties::new()
                .with("trigger", event.trigger)
                .with("room_type", event.room_type)
                .with("members", event.members)
                .with("is_dm", event.is_dm)
                .with("seconds", event.seconds);
            analytics.capture_named(RoomJoined::NAME, properties);
        }),
        _ => return Err("say what to count: denied, typed or named".into()),
    }
    let captured = analytics.stats().backends.iter().map(|backend| backend.captured).sum::<u64>();
    assert_eq!(captured, if case == "denied" { 0 } else { CALLS.into() });
    Ok(())
}

/// Callgrind counts the instructions within this function.
#[inline(never)]
fn measured(capture: impl Fn(u32)) {
    for n in 0..CALLS {
        capture(black_box(n));
    }
}
