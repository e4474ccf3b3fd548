//! Two processes on one store write one record.

use matrix_analytics::{Consent, ConsentStatus, DecisionPlace};

use super::{entries, until_stored};
use crate::support::{ALICE, AnalyticsExt as _, World, eventually};

const GIVEN: (ConsentStatus, DecisionPlace) = (ConsentStatus::Given, DecisionPlace::ThisDevice);
const WITHDRAWN: (ConsentStatus, DecisionPlace) =
    (ConsentStatus::Withdrawn, DecisionPlace::ThisDevice);

#[tokio::test]
async fn a_decision_in_one_process_is_none_elsewhere_for_the_other() {
    let world = World::new().await;
    let directory = tempfile::tempdir().unwrap();
    let login = world.server.add_device(ALICE, "PHONE");
    let one = world.device_on_disk(&login, directory.path()).await;
    let other = world.device_on_disk(&login, directory.path()).await;
    let (here, _) = one.start_confirmed().await;
    let (there, _) = other.start_confirmed().await;

    here.opt_in_and_settle().await;
    until_stored(&one, &here).await;
    eventually(there.recheck()).await.unwrap();
    assert!(there.state().decision == Consent::Granted);
    until_stored(&other, &there).await;
    assert_eq!(entries(&there), [GIVEN]);

    eventually(here.opt_out().into_future()).await;
    until_stored(&one, &here).await;
    eventually(there.recheck()).await.unwrap();
    until_stored(&other, &there).await;
    assert_eq!(entries(&there), [GIVEN, WITHDRAWN]);

    // And back: the first process adds to what the other has stored.
    there.opt_in_and_settle().await;
    until_stored(&other, &there).await;
    eventually(here.recheck()).await.unwrap();
    until_stored(&one, &here).await;
    assert_eq!(entries(&here), [GIVEN, WITHDRAWN, GIVEN]);
}
