//! Arrays survive a restart as they were captured.

use matrix_analytics::{
    AnalyticsBuilder, Properties, PropertyValue, SqliteQueue, UserProperties,
    testing::{DeliveryFailure, FailingBackend},
};
use serde_json::json;

use super::{Durable, flush};
use crate::support::AnalyticsExt as _;

/// Returns the builder of an app whose queue is encrypted with the passphrase, if there is one.
fn builder(durable: &Durable, passphrase: Option<&str>) -> AnalyticsBuilder {
    let queue = SqliteQueue::new(durable.path());
    durable.device.builder().queue(match passphrase {
        None => queue,
        Some(passphrase) => queue.passphrase(passphrase),
    })
}

#[tokio::test]
async fn arrays_of_events_and_users_are_restored_and_sent() {
    for passphrase in [None, Some("secret")] {
        let durable = Durable::new().await;
        let down = FailingBackend::new();
        down.fail_always(DeliveryFailure::Transient);
        let analytics = builder(&durable, passphrase).backend(down).build().await.unwrap();
        analytics.confirmed().await;
        let mixed = vec![PropertyValue::from(1), "a,]".into(), "\"".to_owned().into(), true.into()];
        let properties = Properties::new().with("mixed", mixed).with("empty", [0; 0]).with("n", 1);
        analytics.set_user_properties(UserProperties::new().set("filters", ["x", "y"])).unwrap();
        analytics.capture_named("Filtered", properties);
        flush(&analytics).await;
        durable.end(analytics).await;

        let up = FailingBackend::new();
        let builder = builder(&durable, passphrase).backend(up.clone());
        let analytics = builder.build().await.unwrap();
        analytics.confirmed().await;
        flush(&analytics).await;
        let [event] = up.accepted_events().try_into().unwrap();
        let expected = json!({"mixed": [1, "a,]", "\"", true], "empty": [], "n": 1});
        assert_eq!(json!(event.properties), expected);
        assert_eq!(json!(event.set), json!({"filters": ["x", "y"]}));
        durable.end(analytics).await;
    }
}
