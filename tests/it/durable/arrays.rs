//! Arrays survive a restart as they were captured, and pass the guard again.

use matrix_analytics::{Properties, PropertyValue, SqliteQueue, UserProperties};
use serde_json::json;

use super::{Durable, flush};

#[tokio::test]
async fn arrays_of_events_and_users_are_restored_and_sent() {
    for passphrase in [None, Some("secret")] {
        let durable = Durable::new().await;
        let builder = || {
            let queue = SqliteQueue::new(durable.path());
            durable.device.builder().queue(match passphrase {
                None => queue,
                Some(passphrase) => queue.passphrase(passphrase),
            })
        };
        let down = super::FailingBackend::new();
        down.fail_always(super::DeliveryFailure::Transient);
        let analytics = builder().backend(down).build().await.unwrap();
        crate::support::AnalyticsExt::confirmed(&analytics).await;
        let mixed = vec![PropertyValue::from(1), "a,]".into(), "\"".to_owned().into(), true.into()];
        let properties = Properties::new().with("mixed", mixed).with("empty", [0; 0]).with("n", 1);
        analytics.set_user_properties(UserProperties::new().set("filters", ["x", "y"])).unwrap();
        analytics.capture_named("Filtered", properties);
        flush(&analytics).await;
        durable.end(analytics).await;

        let up = super::FailingBackend::new();
        let analytics = builder().backend(up.clone()).build().await.unwrap();
        crate::support::AnalyticsExt::confirmed(&analytics).await;
        flush(&analytics).await;
        let [event] = up.accepted_events().try_into().unwrap();
        let expected = json!({"mixed": [1, "a,]", "\"", true], "empty": [], "n": 1});
        assert_eq!(json!(event.properties), expected);
        assert_eq!(json!(event.set), json!({"filters": ["x", "y"]}));
        durable.end(analytics).await;
    }
}
