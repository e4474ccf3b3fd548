//! P12: no `Debug` output and no error of this crate contains an analytics ID, a key or a value.

use matrix_analytics::{Properties, UserProperties, testing};

use crate::support::{ALICE, AnalyticsExt as _, Device, FOREIGN_ID, World, content, eventually};

const VALUE: &str = "a-very-personal-value";

#[tokio::test]
async fn debug_shows_neither_an_id_nor_a_value() {
    let world = World::new().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let (analytics, _) = world.device("PHONE").await.start_confirmed().await;
    let properties = Properties::new().with(VALUE, VALUE);
    analytics.set_super_properties(properties.clone()).unwrap();
    analytics.capture_named(VALUE, properties.clone());
    let batch = testing::batch(FOREIGN_ID, [testing::event(VALUE, properties.clone())]);
    let printed = [
        format!("{analytics:?}"),
        format!("{:?}", analytics.analytics_id().unwrap()),
        format!("{:?}", analytics.state()),
        format!("{:?}", analytics.stats()),
        format!("{:?}", analytics.opt_out()),
        format!("{properties:?}"),
        format!("{batch:?}"),
        format!("{:?}", matrix_analytics::PropertyValue::from(VALUE)),
        format!("{:?}", eventually(analytics.flush_all()).await),
        format!("{:?}", eventually(analytics.opt_out().into_future()).await),
    ];
    for text in printed {
        assert!(!text.contains(FOREIGN_ID) && !text.contains(VALUE), "{text}");
    }
}

/// The default label of a PostHog recipient has its key, from which pseudonyms are made.
#[cfg(feature = "posthog")]
#[tokio::test]
async fn an_erasure_shows_neither_the_label_of_a_pseudonym_nor_the_identifier() {
    use matrix_analytics::{Identity, PostHog, Recipient};

    use crate::support::{
        collector::Collector,
        erasure_endpoint::{EndpointDouble, Reaction},
    };

    let world = World::new().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let device = world.device("PHONE").await;
    let (collector, endpoint) = (Collector::start(), EndpointDouble::start().await);
    let posthog = PostHog::new(&collector.url(), VALUE).unwrap();
    let to = Recipient::new(posthog).identity(Identity::Pseudonym).erasure(endpoint.erasure());
    let builder = device.builder().backend(to);
    let mut printed = vec![format!("{builder:?}")];
    let analytics = builder.build().await.unwrap();
    analytics.confirmed().await;
    endpoint.react(Reaction::Page);
    let receipt = eventually(analytics.opt_out().erase_recipients().into_future()).await;
    let [request] = &endpoint.received()[..] else { panic!() };
    assert_eq!(request.recipient, collector.address.to_string());
    printed.extend([
        format!("{receipt:?}"),
        serde_json::to_string(&receipt.erasures).unwrap(),
        format!("{:?}", analytics.stats()),
        format!("{:?}", analytics.consent_record()),
        serde_json::to_string(&analytics.consent_record()).unwrap(),
        request.recipient.clone(),
        request.head.clone(),
    ]);
    for text in printed {
        assert!(!text.contains(VALUE) && !text.contains(&request.identifier), "{text}");
    }
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_durable_queue_shows_neither_its_path_nor_its_passphrase() {
    let queue = || matrix_analytics::SqliteQueue::new(format!("/{VALUE}/queue")).passphrase(VALUE);
    let world = World::new().await;
    let device = world.device("PHONE").await;
    let error = device.builder().queue(queue()).build().await.unwrap_err();
    let builder = device.builder().queue(queue());
    for text in [format!("{:?}", queue()), format!("{builder:?}"), format!("{error} {error:?}")] {
        assert!(!text.contains(VALUE), "{text}");
    }
}

#[test]
fn an_invalid_event_is_described_without_its_value() {
    let problem = Properties::new().with("key", f64::NAN).with(VALUE, VALUE).check().unwrap_err();
    assert!(!format!("{problem} {problem:?}").contains(VALUE));
}

/// Passes a canary to every public operation that can fail on the app's input.
#[tokio::test]
async fn no_error_quotes_its_input() {
    use std::{collections::BTreeMap, error::Error};

    let world = World::new().await;
    let device = world.device("PHONE").await;
    let (analytics, _) = device.start_opted_in().await;
    let text = Properties::new().with(VALUE, VALUE);
    let bad = text.clone().with("", VALUE);
    let nested = BTreeMap::from([(VALUE, [[VALUE]])]);
    let builder = |event_type: &str| {
        matrix_analytics::Analytics::builder(device.client.clone(), event_type).build()
    };
    let errors: Vec<Box<dyn Error>> = vec![
        Box::new(text.deserialize::<BTreeMap<String, u8>>().unwrap_err()),
        Box::new(text.deserialize::<u8>().unwrap_err()),
        Box::new(Properties::from_serialize(&nested).unwrap_err()),
        Box::new(Properties::from_serialize(VALUE).unwrap_err()),
        Box::new(bad.check().unwrap_err()),
        Box::new(analytics.set_super_properties(bad.clone()).unwrap_err()),
        Box::new(analytics.set_user_properties(bad.clone()).unwrap_err()),
        Box::new(UserProperties::new().set_once(VALUE, f64::NAN).check().unwrap_err()),
        Box::new(builder(&format!("{VALUE} {VALUE}")).await.unwrap_err()),
        #[cfg(feature = "posthog")]
        Box::new(matrix_analytics::PostHog::new(VALUE, VALUE).unwrap_err()),
        #[cfg(feature = "posthog")]
        Box::new(
            matrix_analytics::PostHog::builder(&format!("http://{VALUE}@[{VALUE}/"), VALUE)
                .build()
                .unwrap_err(),
        ),
        #[cfg(feature = "posthog")]
        Box::new(
            matrix_analytics::PostHog::builder("http://127.0.0.1", &format!("{VALUE}\n"))
                .build()
                .unwrap_err(),
        ),
    ];
    for error in &errors {
        let mut printed = format!("{error:?}");
        let mut next: Option<&dyn Error> = Some(error.as_ref());
        while let Some(error) = next {
            printed.push_str(&error.to_string());
            next = error.source();
        }
        assert!(!printed.contains(VALUE), "{printed}");
    }
}

#[tokio::test]
async fn content_that_is_not_an_object_is_not_quoted() {
    let world = World::new().await;
    world.set_content(&format!("\"{FOREIGN_ID}\""));
    let (analytics, _) = world.device("PHONE").await.start_confirmed().await;
    let error = eventually(analytics.opt_in()).await.unwrap_err();
    let mut printed = format!("{error:?}");
    let mut next: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = next {
        printed.push_str(&error.to_string());
        next = error.source();
    }
    assert!(!printed.contains(FOREIGN_ID), "{printed}");
}

/// The SDK's SQLite store (0.18) encrypts the key of our record, but not its value. The value must
/// not reveal the user's ID at the service.
#[tokio::test]
async fn the_local_record_on_disk_has_no_id_with_a_passphrase_or_without() {
    let world = World::new().await;
    for passphrase in [None, Some("passphrase")] {
        let directory = tempfile::tempdir().unwrap();
        let login = world.server.add_device(ALICE, "PHONE");
        let client = world
            .server
            .client_with(&login, |builder| builder.sqlite_store(directory.path(), passphrase))
            .await
            .unwrap();
        let device = Device { client, login, policy: None };
        let (analytics, _) = device.start_opted_in().await;
        let id = analytics.analytics_id().unwrap();
        // Wait until all pending saves are written.
        eventually(analytics.recheck()).await.unwrap();
        assert!(device.record().await.unwrap().contains("granted"));

        let mut bytes = Vec::new();
        for file in std::fs::read_dir(directory.path()).unwrap() {
            bytes.extend(std::fs::read(file.unwrap().path()).unwrap());
        }
        let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert_eq!(has("matrix-analytics/"), passphrase.is_none());
        assert!(!has(id.reveal()));
    }
}
