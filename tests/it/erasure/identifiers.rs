//! The search for the identifiers to erase.

use super::*;

#[tokio::test]
async fn an_id_that_was_not_known_is_found_before_it_is_removed() {
    let erasing = Erasing::new().await;
    let analytics = erasing.start().await;
    drop(analytics);
    // The next process has not reached the homeserver: this device remembers a digest only.
    erasing.world.server.fail_all(Fault::ResetBefore);
    let analytics = erasing.builder().build().await.unwrap();
    let erasures = erasing.erase(&analytics).await;
    let [pending] = &erasures[..] else { panic!("{erasures:?}") };
    assert_eq!((pending.state, pending.tries), (ErasureState::Pending, 0));
    assert_eq!(erasing.endpoint.received(), []);
    erasing.world.server.heal();
    let receipt = eventually(analytics.end_session()).await;
    assert!(receipt.is_complete(), "{receipt:?}");
    assert_eq!(receipt.erasures[0].state, ErasureState::Done);
    assert_eq!(erasing.endpoint.erased(), [FOREIGN_ID]);
    let requests = erasing.world.server.requests();
    assert!(requests.iter().any(|request| request.method == AccountDataMethod::Put));
}

#[tokio::test]
async fn an_id_that_an_opt_in_replaces_before_it_is_removed_is_erased() {
    let erasing = Erasing::new().await;
    drop(erasing.start().await);
    erasing.world.server.fail_all(Fault::ResetBefore);
    let analytics = erasing.builder().build().await.unwrap();
    let erasures = erasing.erase(&analytics).await;
    assert_eq!((erasures[0].state, erasures[0].tries), (ErasureState::Pending, 0));
    erasing.world.server.heal();
    eventually(analytics.opt_in()).await.unwrap();
    assert_ne!(id_in(&erasing.world.content().unwrap()).as_deref(), Some(FOREIGN_ID));
    until_settled(&analytics).await;
    assert_eq!(erasing.endpoint.erased(), [FOREIGN_ID]);
    assert_eq!(analytics.stats().erasures.failed, [].into());
}

#[tokio::test]
async fn a_former_id_of_this_process_is_erased_as_well() {
    let erasing = Erasing::new().await;
    let analytics = erasing.start().await;
    // Another device has replaced the ID, and then opted out.
    let other = "00000000-0000-4000-8000-000000000001";
    erasing.world.set_content(&content(Some(true), Some(other)));
    eventually(analytics.recheck()).await.unwrap();
    erasing.world.set_content(&content(Some(false), None));
    eventually(analytics.recheck()).await.unwrap();
    erasing.erase(&analytics).await;
    assert_eq!(erasing.endpoint.erased(), [FOREIGN_ID, other]);
    // Each once.
    erasing.erase(&analytics).await;
    assert_eq!(erasing.endpoint.received().len(), 2);
    assert_eq!(analytics.stats().erasures.failed, [].into());
}

#[tokio::test]
async fn an_id_that_another_device_withdrew_before_is_a_failure_that_is_named() {
    let erasing = Erasing::new().await;
    drop(erasing.start().await);
    erasing.world.set_content(&content(Some(false), None));
    let analytics = erasing.start().await;
    let cause = Some(ErasureCause::NoIdentifier);
    let erasures = erasing.erase(&analytics).await;
    assert_eq!((erasures.len(), erasures[0].cause), (1, cause));
    // Once: there is nothing more to erase.
    assert_eq!(erasing.erase(&analytics).await, []);
}

#[tokio::test]
async fn an_opt_in_that_was_never_applied_leaves_nothing_to_erase() {
    let erasing = Erasing::new().await;
    erasing.world.set(None);
    let analytics = erasing.start().await;
    erasing.world.server.fail_all(Fault::ResetBefore);
    eventually(analytics.opt_in()).await.unwrap_err();
    erasing.world.server.heal();
    assert_eq!(erasing.erase(&analytics).await, []);
}

#[tokio::test]
async fn an_id_that_another_client_removed_meanwhile_is_a_failure_that_is_named() {
    let erasing = Erasing::new().await;
    drop(erasing.start().await);
    erasing.world.server.fail_all(Fault::ResetBefore);
    // A recipient that is never asked cannot fail.
    let anonymous = Recipient::new(RecordingBackend::new())
        .label("anonymous.example.org")
        .identity(Identity::Anonymous)
        .erasure(erasing.endpoint.erasure());
    let analytics = erasing.builder().backend(anonymous).build().await.unwrap();
    erasing.world.set_content(&content(Some(false), None));
    erasing.world.server.heal();
    let erasures = erasing.erase(&analytics).await;
    let [failed] = &erasures[..] else { panic!("{erasures:?}") };
    let cause = Some(ErasureCause::NoIdentifier);
    assert_eq!((failed.state, failed.cause), (ErasureState::Failed, cause));
    assert_eq!(erasing.endpoint.received(), []);
}

#[tokio::test]
async fn an_id_that_another_device_replaced_meanwhile_is_a_failure_that_is_named() {
    let erasing = Erasing::new().await;
    drop(erasing.start().await);
    erasing.world.server.fail_all(Fault::ResetBefore);
    let analytics = erasing.builder().build().await.unwrap();
    erasing.erase(&analytics).await;
    // The user has opted out on another device, and in again.
    let other = "00000000-0000-4000-8000-000000000001";
    erasing.world.set_content(&content(Some(true), Some(other)));
    erasing.world.server.heal();
    let receipt = eventually(analytics.end_session()).await;
    assert!(receipt.account.is_done(), "{receipt:?}");
    let cause = Some(ErasureCause::NoIdentifier);
    let found: Vec<_> = receipt.erasures.iter().map(|of| (of.state, of.cause)).collect();
    assert_eq!(found, [(ErasureState::Failed, cause), (ErasureState::Done, None)]);
    // The opt-out removes the other ID from the account.
    assert_eq!(erasing.endpoint.erased(), [other]);
}

#[tokio::test]
async fn an_id_that_is_not_read_in_time_is_a_failure_that_is_named() {
    let erasing = Erasing::new().await;
    drop(erasing.start().await);
    erasing.world.server.fail_all(Fault::UnknownToken);
    let analytics = erasing.builder().build().await.unwrap();
    erasing.erase(&analytics).await;
    assert_eq!(analytics.stats().erasures.pending, 1);
    tokio::time::advance(Duration::from_secs(30 * 24 * 3600 + 1)).await;
    until_settled(&analytics).await;
    let failed = [(ErasureCause::NoIdentifier, 1)].into();
    assert_eq!(analytics.stats().erasures.failed, failed);
    assert!(!analytics.state().erasures_pending);
}

#[tokio::test]
async fn an_opt_out_without_erasures_forgets_the_id() {
    let erasing = Erasing::new().await;
    let analytics = erasing.start().await;
    eventually(analytics.opt_out().into_future()).await;
    let erasures = erasing.erase(&analytics).await;
    let [failed] = &erasures[..] else { panic!("{erasures:?}") };
    let cause = Some(ErasureCause::NoIdentifier);
    assert_eq!((failed.state, failed.cause), (ErasureState::Failed, cause));
    assert_eq!(erasing.endpoint.received(), []);
}

/// A backend that panics when it is asked for the identifier that its service stores.
struct Unidentified;

impl Backend for Unidentified {
    fn name(&self) -> &'static str {
        "unidentified"
    }

    fn stored_identifier(&self, _distinct_id: &str) -> String {
        panic!("part of the test")
    }

    async fn send(&self, _batch: &Batch) -> Result<(), DeliveryError> {
        Ok(())
    }
}

#[tokio::test]
async fn an_identifier_that_cannot_be_made_is_a_failure_that_is_named() {
    let erasing = Erasing::new().await;
    let unidentified = Recipient::new(Unidentified).erasure(erasing.endpoint.erasure());
    let analytics = erasing.builder().backend(unidentified).build().await.unwrap();
    analytics.confirmed().await;
    let erasures = erasing.erase(&analytics).await;
    let found: Vec<_> = erasures.iter().map(|erasure| (erasure.state, erasure.cause)).collect();
    let panicked = (ErasureState::Failed, Some(ErasureCause::Panicked));
    assert_eq!(found, [panicked, (ErasureState::Done, None)]);
}

#[tokio::test]
async fn a_user_without_an_id_has_nothing_to_erase() {
    let world = World::new().await;
    let endpoint = EndpointDouble::start().await;
    let device = world.device("PHONE").await;
    let builder = device.builder().backend(recipient(&RecordingBackend::new(), &endpoint));
    let analytics = builder.build().await.unwrap();
    analytics.confirmed().await;
    let receipt = eventually(analytics.opt_out().erase_recipients().into_future()).await;
    assert!(receipt.is_complete() && receipt.erasures.is_empty(), "{receipt:?}");
    assert_eq!(endpoint.received(), []);
    assert_eq!(analytics.stats().erasures, Default::default());
}
