//! A preview shows what would leave, and changes nothing.

use matrix_analytics::{
    AnalyticsEvent, DropReason, PostHog, Properties, Recipient, TextPolicy,
    testing::{FailingBackend, RecordingBackend},
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::support::{AnalyticsExt as _, World, eventually};

#[derive(Serialize)]
struct Joined {
    from: String,
    count: u32,
    sizes: [u32; 2],
}

impl AnalyticsEvent for Joined {
    const NAME: &'static str = "Joined";
}

fn joined() -> Joined {
    Joined { from: "@bob:example.org".to_owned(), count: 2, sizes: [3, 4] }
}

#[tokio::test]
async fn each_recipient_is_shown_with_what_it_would_get_even_at_a_closed_gate() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let posthog = PostHog::new("https://posthog.example", "phc_secret").unwrap();
    let builder = device.builder().backend(Recipient::new(posthog).name("Cloud"));
    let builder = builder.backend(RecordingBackend::new()).super_properties([("app", "desktop")]);
    let analytics = builder.build().await.unwrap();
    let before = analytics.stats();
    let previews = analytics.preview(&joined()).unwrap();
    assert_eq!(analytics.stats(), before);

    let [cloud, other] = previews.try_into().unwrap();
    assert_eq!((&*cloud.recipient, &*other.recipient), ("Cloud", "recording"));
    let body: Value = serde_json::from_str(cloud.content.as_str()).unwrap();
    assert_eq!(body["api_key"], "[API key]");
    let event = &body["batch"][0];
    assert_eq!(event["distinct_id"], "[analytics ID]");
    assert_eq!(event["properties"]["from"], "[user_id]");
    assert_eq!(event["properties"]["sizes"], json!([3, 4]));
    assert_eq!(event["properties"]["$ip"], "0.0.0.0");
    let line: Value = serde_json::from_str(other.content.as_str()).unwrap();
    assert_eq!(
        line["properties"],
        json!({"from": "[user_id]", "count": 2, "sizes": [3, 4], "app": "desktop"})
    );
    assert!(!format!("{cloud:?}").contains("desktop"));
}

#[tokio::test]
async fn a_preview_equals_what_is_sent() {
    let world = World::new().await;
    let recorder = RecordingBackend::new();
    let device = world.device("PHONE").await;
    let builder = device.builder().backend(recorder.clone()).text_policy(TextPolicy::Refuse);
    let analytics = builder.build().await.unwrap();
    analytics.opt_in_and_settle().await;
    let preview = analytics.preview(&joined()).unwrap().remove(0);
    let shown: Value = serde_json::from_str(preview.content.as_str()).unwrap();
    assert_eq!(shown["properties"], json!({"count": 2, "sizes": [3, 4]}));
    assert_eq!(analytics.stats().refused_texts, 0);
    analytics.capture(&joined());
    assert!(eventually(analytics.flush_all()).await.is_complete());
    assert_eq!(shown["properties"], Value::Object(recorder.events()[0].properties.clone()));
    assert_eq!(recorder.names(), ["Joined"]);
    assert_eq!(analytics.stats().refused_texts, 1);
}

#[tokio::test]
async fn an_event_that_would_be_dropped_has_the_reason_in_place_of_a_preview() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let builder = device.builder().backend(FailingBackend::new());
    let analytics = builder.text_policy(TextPolicy::Refuse).build().await.unwrap();
    let reason =
        |name: String, properties| analytics.preview_named(name, properties).unwrap_err().reason();
    assert_eq!(reason("Computed".to_owned(), Properties::new()), DropReason::Guarded);
    assert_eq!(reason(String::new(), Properties::new()), DropReason::Invalid);
    let large = Properties::new().with("text", "x".repeat(40_000));
    let error = analytics.preview_named("Large", large).unwrap_err();
    assert_eq!(error.reason(), DropReason::TooLarge);
    assert_eq!(error.to_string(), "the event would be dropped: too_large");
}

#[cfg(all(feature = "matomo", feature = "otlp"))]
#[tokio::test]
async fn every_backend_shows_a_placeholder_for_the_identifier() {
    use matrix_analytics::{Identity, Matomo, Otlp};

    let world = World::new().await;
    let device = world.device("PHONE").await;
    for (identity, placeholder) in [
        (Identity::Account, "[analytics ID]"),
        (Identity::Pseudonym, "[pseudonym]"),
        (Identity::Anonymous, "[anonymous ID]"),
    ] {
        let posthog = PostHog::new("https://posthog.example", "phc_secret").unwrap();
        let otlp = Otlp::new("https://otlp.example", "app").unwrap();
        let matomo = Matomo::new("https://matomo.example", 1).unwrap();
        let mut builder = device.builder();
        for recipient in [Recipient::new(posthog), Recipient::new(otlp), Recipient::new(matomo)] {
            builder = builder.backend(recipient.identity(identity));
        }
        let analytics = builder.build().await.unwrap();
        for preview in analytics.preview(&joined()).unwrap() {
            let quoted = format!(r#""{placeholder}""#);
            assert!(preview.content.as_str().contains(&quoted), "{}", preview.content.as_str());
        }
        eventually(analytics.shutdown(std::time::Duration::ZERO)).await;
    }
}
