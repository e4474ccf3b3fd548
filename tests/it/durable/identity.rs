//! The identifier of an event that another process sends than the one that captured it.

use matrix_analytics::{
    Analytics, Identity, Recipient, SqliteQueue, UserProperties,
    testing::{DeliveryFailure, FailingBackend},
};

use super::{Durable, flush};
use crate::support::AnalyticsExt as _;

impl Durable {
    /// Starts a process that sends to `backend`, as a recipient of this kind.
    async fn start_as(&self, identity: Identity, backend: &FailingBackend) -> Analytics {
        let recipient = Recipient::new(backend.clone()).identity(identity).label("label");
        let queue = SqliteQueue::new(self.path()).passphrase("passphrase");
        let analytics = self.builder_on(queue).backend(recipient).build().await.unwrap();
        analytics.confirmed().await;
        analytics
    }
}

fn down() -> FailingBackend {
    let backend = FailingBackend::new();
    backend.fail_always(DeliveryFailure::Transient);
    backend
}

#[tokio::test]
async fn a_restored_event_keeps_the_anonymous_identifier_of_its_process_and_goes_alone() {
    let durable = Durable::new().await;
    let backend = FailingBackend::new();
    let analytics = durable.start_as(Identity::Anonymous, &backend).await;
    analytics.capture_one("Sent");
    flush(&analytics).await;
    let sent = backend.accepted();
    backend.fail_always(DeliveryFailure::Transient);
    analytics.capture_one("Waiting");
    flush(&analytics).await;
    durable.end(analytics).await;

    let backend = FailingBackend::new();
    let analytics = durable.start_as(Identity::Anonymous, &backend).await;
    analytics.capture_one("Second");
    flush(&analytics).await;
    let accepted = backend.accepted();
    let [waiting, second] = &accepted[..] else { panic!("{accepted:?}") };
    assert_eq!((&*waiting.events[0].name, waiting.events.len()), ("Waiting", 1));
    assert_eq!((&*second.events[0].name, second.events.len()), ("Second", 1));
    assert_eq!(waiting.distinct_id, sent[0].distinct_id);
    assert_ne!(second.distinct_id, sent[0].distinct_id);
}

#[tokio::test]
async fn an_event_that_waits_under_one_kind_of_identifier_is_not_sent_under_another() {
    let kinds = [Identity::Account, Identity::Pseudonym, Identity::Anonymous];
    let changes = kinds.iter().flat_map(|from| kinds.map(|to| (*from, to)));
    for (earlier, later) in changes.filter(|(earlier, later)| earlier != later) {
        let durable = Durable::new().await;
        let analytics = durable.start_as(earlier, &down()).await;
        analytics.capture_one("First");
        flush(&analytics).await;
        durable.end(analytics).await;

        let backend = FailingBackend::new();
        let analytics = durable.start_as(later, &backend).await;
        analytics.capture_one("Second");
        flush(&analytics).await;
        let accepted = backend.accepted_events();
        let names: Vec<_> = accepted.iter().map(|event| &*event.name).collect();
        assert_eq!(names, ["Second"], "{earlier:?} to {later:?}");
        durable.end(analytics).await;
    }
}

#[tokio::test]
async fn user_properties_that_wait_do_not_reach_the_recipient_once_it_is_anonymous() {
    let durable = Durable::new().await;
    let analytics = durable.start_as(Identity::Pseudonym, &down()).await;
    analytics.set_user_properties(UserProperties::new().set("app", "desktop")).unwrap();
    analytics.capture_one("First");
    flush(&analytics).await;
    durable.end(analytics).await;

    let backend = FailingBackend::new();
    let analytics = durable.start_as(Identity::Anonymous, &backend).await;
    analytics.capture_one("Second");
    flush(&analytics).await;
    let events = backend.accepted_events();
    assert!(events.iter().any(|event| event.name == "Second"));
    assert!(events.iter().all(|event| event.set.is_empty()), "{events:?}");
}
