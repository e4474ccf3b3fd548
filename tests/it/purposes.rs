//! Several purposes in one app: one event type, one `Analytics`, one decision and one ID for each.
//! `docs/purposes.md` describes the pattern.

use matrix_analytics::{
    Analytics, Consent, ConsentStatus, Recipient, Switch, testing::RecordingBackend,
};

use crate::support::{ALICE, AnalyticsExt as _, Device, SETTLE, World, eventually, id_in};

const USAGE: &str = "org.example.usage";
const DIAGNOSTICS: &str = "org.example.diagnostics";

/// Builds the `Analytics` of one purpose.
async fn purpose(device: &Device, event_type: &str) -> (Analytics, RecordingBackend) {
    let recorder = RecordingBackend::new();
    let recipient = Recipient::new(recorder.clone()).purpose(event_type);
    let builder = Analytics::builder(device.client.clone(), event_type).backend(recipient);
    let analytics = builder.build().await.unwrap();
    analytics.confirmed().await;
    (analytics, recorder)
}

async fn opt_in(analytics: &Analytics) {
    eventually(analytics.opt_in()).await.unwrap();
    tokio::time::advance(SETTLE).await;
    analytics.until(|state| state.is_open()).await;
}

fn id_of(world: &World, event_type: &str) -> Option<String> {
    world.server.content(ALICE, event_type).and_then(|content| id_in(&content))
}

#[tokio::test]
async fn an_opt_in_to_one_purpose_opens_no_other_and_has_an_id_of_its_own() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (usage, used) = purpose(&device, USAGE).await;
    let (diagnostics, diagnosed) = purpose(&device, DIAGNOSTICS).await;
    opt_in(&usage).await;
    let switches = [usage.state().switch(), diagnostics.state().switch()];
    assert_eq!(switches, [Switch::On, Switch::Off]);
    // The question of the other purpose is still open.
    assert!(eventually(diagnostics.should_ask()).await);
    for analytics in [&usage, &diagnostics] {
        analytics.capture_one("Event");
        eventually(analytics.flush_all()).await;
    }
    assert_eq!((used.names().len(), diagnosed.names().len()), (1, 0));
    assert_eq!(id_of(&world, DIAGNOSTICS), None);

    opt_in(&diagnostics).await;
    diagnostics.capture_one("Event");
    eventually(diagnostics.flush_all()).await;
    let (one, other) = (id_of(&world, USAGE).unwrap(), id_of(&world, DIAGNOSTICS).unwrap());
    assert_ne!(one, other);
    assert_eq!((used.ids(), diagnosed.ids()), (vec![one], vec![other]));
}

#[tokio::test]
async fn an_opt_out_of_one_purpose_and_its_wipe_leave_the_other_alone() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (usage, used) = purpose(&device, USAGE).await;
    let (diagnostics, diagnosed) = purpose(&device, DIAGNOSTICS).await;
    opt_in(&usage).await;
    opt_in(&diagnostics).await;
    let kept = id_of(&world, DIAGNOSTICS).unwrap();
    for analytics in [&usage, &diagnostics] {
        analytics.capture_one("Waiting");
    }
    let receipt = eventually(usage.opt_out().into_future()).await;
    assert!(receipt.is_complete(), "{receipt:?}");
    assert_eq!((usage.state().decision, usage.is_open()), (Consent::Denied, false));
    assert!(diagnostics.is_open());
    eventually(diagnostics.flush_all()).await;
    eventually(usage.flush_all()).await;
    assert_eq!(used.names(), Vec::<String>::new());
    assert_eq!((diagnosed.names(), diagnosed.ids()), (vec!["Waiting".to_owned()], vec![kept]));
    assert_eq!(id_of(&world, USAGE), None);
}

#[tokio::test]
async fn each_purpose_has_its_own_disclosure_and_its_own_record() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (usage, _) = purpose(&device, USAGE).await;
    let (diagnostics, _) = purpose(&device, DIAGNOSTICS).await;
    opt_in(&usage).await;
    let records = [usage.consent_record(), diagnostics.consent_record()];
    assert_eq!((&*records[0].event_type, &*records[1].event_type), (USAGE, DIAGNOSTICS));
    assert_eq!(records[0].decisions[0].status, ConsentStatus::Given);
    assert_eq!(records[0].decisions[0].recipients[0].purpose.as_deref(), Some(USAGE));
    assert_eq!(records[1].decisions, []);
    assert_ne!(usage.disclosure(), diagnostics.disclosure());
}
