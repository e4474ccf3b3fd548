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

    // In turns, until each has saved what it learned of the other: while both have something to
    // save, the more closed value wins, which is not what this test is about.
    let settled = async || {
        for analytics in [&there, &here, &there] {
            eventually(analytics.recheck()).await.unwrap();
        }
        until_stored(&one, &here).await;
        until_stored(&other, &there).await;
    };
    settled().await;
    here.opt_in_and_settle().await;
    settled().await;
    assert_eq!([entries(&here), entries(&there)], [[GIVEN], [GIVEN]]);

    eventually(here.opt_out().into_future()).await;
    settled().await;
    let both = [GIVEN, WITHDRAWN];
    assert_eq!([entries(&here), entries(&there)], [both, both]);

    // The other process adds to what the first one has stored.
    there.opt_in_and_settle().await;
    settled().await;
    assert_eq!(here.state().decision, Consent::Granted);
    let all = [GIVEN, WITHDRAWN, GIVEN];
    assert_eq!([entries(&here), entries(&there)], [all, all]);
}
