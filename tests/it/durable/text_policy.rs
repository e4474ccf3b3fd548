//! Events that an earlier process captured under another text policy.

use matrix_analytics::{
    Analytics, DropReason, Properties, TextPolicy, UserProperties,
    testing::{DeliveryFailure, FailingBackend},
};

use super::{Durable, counters, dropped, flush};
use crate::support::AnalyticsExt as _;

const LIST: TextPolicy = TextPolicy::AllowKeys(&["plugin", "theme"]);

async fn start(durable: &Durable, policy: TextPolicy) -> (Analytics, FailingBackend) {
    start_with(durable, policy, FailingBackend::new()).await
}

async fn start_with(
    durable: &Durable,
    policy: TextPolicy,
    backend: FailingBackend,
) -> (Analytics, FailingBackend) {
    let builder = durable.builder().text_policy(policy).backend(backend.clone());
    let analytics = builder.build().await.unwrap();
    analytics.confirmed().await;
    (analytics, backend)
}

/// Leaves an event and user properties in the file, with texts that are part of the program.
async fn leave(durable: &Durable, policy: TextPolicy) {
    let backend = FailingBackend::new();
    backend.fail_always(DeliveryFailure::Transient);
    let (analytics, _) = start_with(durable, policy, backend).await;
    analytics.set_user_properties(UserProperties::new().set("theme", "dark")).unwrap();
    analytics.capture_named("Opened", Properties::new().with("trigger", "Click").with("count", 1));
    flush(&analytics).await;
    durable.end(analytics).await;
    assert_eq!(durable.rows(), 1);
}

#[tokio::test]
async fn events_of_a_policy_that_allows_no_other_texts_are_restored_whole() {
    for (earlier, policy) in [
        (TextPolicy::Refuse, TextPolicy::Refuse),
        (TextPolicy::Refuse, LIST),
        (TextPolicy::Refuse, TextPolicy::Scan),
        (LIST, LIST),
        // The order of the keys does not matter.
        (LIST, TextPolicy::AllowKeys(&["theme", "plugin"])),
        (LIST, TextPolicy::AllowKeys(&["theme", "font", "plugin"])),
        (LIST, TextPolicy::Scan),
        (TextPolicy::AllowKeys(&[]), TextPolicy::Refuse),
        (TextPolicy::Scan, TextPolicy::Scan),
    ] {
        let durable = Durable::new().await;
        leave(&durable, earlier).await;
        let (analytics, backend) = start(&durable, policy).await;
        flush(&analytics).await;
        let [event] = backend.accepted_events().try_into().unwrap();
        assert_eq!(event.name, "Opened");
        assert_eq!(event.properties["trigger"], "Click", "{earlier:?} {policy:?}");
        assert_eq!(event.set["theme"], "dark", "{earlier:?} {policy:?}");
    }
}

#[tokio::test]
async fn events_of_a_policy_that_allows_other_texts_are_dropped_and_erased() {
    for (earlier, policy) in [
        (TextPolicy::Scan, TextPolicy::Refuse),
        (TextPolicy::Scan, LIST),
        (LIST, TextPolicy::Refuse),
        (LIST, TextPolicy::AllowKeys(&["plugin"])),
        (LIST, TextPolicy::AllowKeys(&["plugin", "the", "me"])),
    ] {
        let durable = Durable::new().await;
        leave(&durable, earlier).await;
        let (analytics, backend) = start(&durable, policy).await;
        let counted = counters(&analytics);
        assert_eq!((counted.restored, dropped(&counted, DropReason::Guarded)), (1, 1));
        analytics.capture_named("Later", Properties::new());
        flush(&analytics).await;
        let [event] = backend.accepted_events().try_into().unwrap();
        assert_eq!(event.name, "Later", "{earlier:?} {policy:?}");
        assert!(event.set.is_empty(), "{earlier:?} {policy:?}");
        durable.end(analytics).await;
        assert_eq!(durable.rows(), 0);
        for file in std::fs::read_dir(durable.directory.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            for text in ["Click", "dark"] {
                let is_left = bytes.windows(text.len()).any(|window| window == text.as_bytes());
                assert!(!is_left, "{text} {earlier:?} {policy:?}");
            }
        }
    }
}

#[tokio::test]
async fn events_of_a_file_that_names_no_policy_are_dropped_under_a_closed_one() {
    let durable = Durable::new().await;
    leave(&durable, TextPolicy::Refuse).await;
    let connection = rusqlite::Connection::open(durable.path()).unwrap();
    connection.execute("DELETE FROM meta WHERE name = 'text_policy'", []).unwrap();
    drop(connection);
    let (analytics, _) = start(&durable, TextPolicy::Refuse).await;
    let counted = counters(&analytics);
    assert_eq!((counted.restored, dropped(&counted, DropReason::Guarded)), (1, 1));
}

#[tokio::test]
async fn a_file_that_was_open_under_an_open_policy_is_not_trusted_later() {
    let durable = Durable::new().await;
    leave(&durable, TextPolicy::Refuse).await;
    let backend = FailingBackend::new();
    backend.fail_always(DeliveryFailure::Transient);
    let (analytics, _) = start_with(&durable, TextPolicy::Scan, backend).await;
    analytics.capture_named("Computed".to_owned(), Properties::new());
    flush(&analytics).await;
    durable.end(analytics).await;
    let (analytics, _) = start(&durable, TextPolicy::Refuse).await;
    let counted = counters(&analytics);
    assert_eq!((counted.restored, dropped(&counted, DropReason::Guarded)), (2, 2));
}
