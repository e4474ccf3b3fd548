//! The identifier that each recipient gets of the person.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

#[cfg(feature = "otlp")]
use matrix_analytics::Otlp;
use matrix_analytics::{
    Analytics, Backend, Batch, BuildError, DeliveryError, Identity, LabelError, Properties,
    Recipient, UserProperties, testing::RecordingBackend,
};

#[cfg(feature = "otlp")]
use crate::support::collector::Collector;
use crate::support::{AnalyticsExt as _, Device, FOREIGN_ID, World, content, eventually};

const IDENTITIES: [Identity; 3] = [Identity::Account, Identity::Pseudonym, Identity::Anonymous];

/// Calls of a backend: the identifier of a batch, or `None` for the end of the connection.
type Calls = Arc<Mutex<Vec<Option<String>>>>;

/// A backend that notes how its connections are used.
struct Connections(Calls);

impl Backend for Connections {
    fn name(&self) -> &'static str {
        "connections"
    }

    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        self.0.lock().unwrap().push(Some(batch.distinct_id().to_owned()));
        Ok(())
    }

    fn close(&self) {
        self.0.lock().unwrap().push(None);
    }
}

async fn opted_in() -> (World, Device) {
    let world = World::new().await;
    world.set_content(&content(Some(true), Some(FOREIGN_ID)));
    let device = world.device("PHONE").await;
    (world, device)
}

/// Starts an `Analytics` with a recipient of each kind.
async fn start(device: &Device) -> (Analytics, Vec<RecordingBackend>) {
    let recorders: Vec<_> = IDENTITIES.iter().map(|_| RecordingBackend::new()).collect();
    let mut builder = device.builder().user_properties(UserProperties::new().set("app", "desktop"));
    for (recorder, identity) in recorders.iter().zip(IDENTITIES) {
        let recipient = Recipient::new(recorder.clone()).name(identity.as_str());
        builder = builder.backend(recipient.identity(identity).label(identity.as_str()));
    }
    let analytics = builder.build().await.unwrap();
    analytics.confirmed().await;
    (analytics, recorders)
}

#[tokio::test]
async fn each_recipient_gets_the_identifier_that_the_app_chose() {
    let (world, device) = opted_in().await;
    let other_device = world.device("DESKTOP").await;
    let mut seen = Vec::new();
    for device in [&device, &other_device] {
        let (analytics, recorders) = start(device).await;
        for _ in 0..2 {
            analytics.capture_one("Opened");
            assert!(eventually(analytics.flush_all()).await.is_complete());
        }
        let ids = recorders.iter().map(RecordingBackend::ids);
        let ids: Vec<_> = ids
            .map(|ids| {
                assert_eq!(ids[0], ids[1]);
                ids[0].clone()
            })
            .collect();
        seen.push(ids);
    }
    let [here, there] = &seen[..] else { panic!("two devices") };
    assert_eq!([&here[0], &there[0]], [FOREIGN_ID; 2]);
    // Computed by Python's `hmac` from the label and the ID.
    assert_eq!([&here[1], &there[1]], ["fc39cabdadf68616ca2a615e5969ec0e"; 2]);
    assert_ne!(here[2], there[2], "another process");
    for id in [&here[1], &here[2], &there[2]] {
        assert_eq!(id.len(), 32);
        assert!(id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{id}");
    }
}

#[tokio::test]
async fn a_new_opt_in_begins_a_new_identifier_of_every_kind() {
    let (_world, device) = opted_in().await;
    let (analytics, recorders) = start(&device).await;
    for _ in 0..2 {
        analytics.opt_in_and_settle().await;
        analytics.capture_one("Opened");
        assert!(eventually(analytics.flush_all()).await.is_complete());
        eventually(analytics.opt_out().into_future()).await;
    }
    for recorder in recorders {
        let ids = recorder.ids();
        assert_ne!(ids[0], ids[1]);
    }
}

#[tokio::test]
async fn recipients_without_the_accounts_id_share_no_identifier_and_no_exact_time() {
    let (_world, device) = opted_in().await;
    let recorders: Vec<_> = (0..4).map(|_| RecordingBackend::new()).collect();
    let kinds = [Identity::Pseudonym, Identity::Anonymous];
    let mut builder = device.builder();
    for (number, recorder) in recorders.iter().enumerate() {
        let recipient = Recipient::new(recorder.clone()).identity(kinds[number % 2]);
        builder = builder.backend(recipient.label(number.to_string()));
    }
    let analytics = builder.build().await.unwrap();
    analytics.confirmed().await;
    for second in 0..20 {
        let at = UNIX_EPOCH + Duration::from_millis(1_769_860_800_000 + second * 50);
        analytics.capture_named_at(at, "Opened", Properties::new());
    }
    assert!(eventually(analytics.flush_all()).await.is_complete());
    let mut all = BTreeSet::new();
    for recorder in &recorders {
        let events = recorder.events();
        assert_eq!(events.len(), 20);
        let seconds: BTreeSet<_> = events.iter().map(|event| event.time).collect();
        assert_eq!(seconds.len(), 1, "the times are those of one second");
        let ids = events.iter().map(|event| event.uuid.to_string());
        let ids: BTreeSet<_> = ids.chain(recorder.ids()).collect();
        for id in &ids {
            assert!(all.insert(id.clone()), "{id} is known to two recipients");
            assert!(!id.eq_ignore_ascii_case(FOREIGN_ID));
        }
        // One for each event, and one for the person.
        assert_eq!(ids.len(), 21);
    }
}

#[tokio::test]
async fn an_anonymous_recipient_gets_no_user_properties() {
    let (_world, device) = opted_in().await;
    let (analytics, recorders) = start(&device).await;
    analytics.set_user_properties(UserProperties::new().set_once("first", 1)).unwrap();
    analytics.capture_one("Opened");
    assert!(eventually(analytics.flush_all()).await.is_complete());
    let has_user =
        |recorder: &RecordingBackend| recorder.events().iter().any(|event| !event.set.is_empty());
    assert_eq!(recorders.iter().map(has_user).collect::<Vec<_>>(), [true, true, false]);
}

#[tokio::test]
async fn the_events_of_two_days_reach_an_anonymous_recipient_over_two_connections() {
    let (_world, device) = opted_in().await;
    let all: Vec<Calls> = IDENTITIES.iter().map(|_| Calls::default()).collect();
    let mut builder = device.builder();
    for (calls, identity) in all.iter().zip(IDENTITIES) {
        let recipient = Recipient::new(Connections(calls.clone())).identity(identity);
        builder = builder.backend(recipient.label(identity.as_str()));
    }
    let analytics = builder.build().await.unwrap();
    analytics.confirmed().await;
    let noon = UNIX_EPOCH + Duration::from_secs(20_000 * 86_400 + 43_200);
    for day in [0, 0, 1, 1, 1, 0] {
        let at: SystemTime = noon + Duration::from_secs(day * 86_400);
        analytics.capture_named_at(at, "Opened", Properties::new());
    }
    assert!(eventually(analytics.flush_all()).await.is_complete());
    for (calls, identity) in all.iter().zip(IDENTITIES) {
        let calls = calls.lock().unwrap().clone();
        if identity == Identity::Anonymous {
            let [Some(first), None, Some(second), None, Some(third)] = &calls[..] else {
                panic!("{calls:?}")
            };
            assert_ne!(first, second);
            assert_eq!(first, third);
        } else {
            assert!(matches!(&calls[..], [Some(_)]), "{calls:?}");
        }
    }
}

#[tokio::test]
async fn the_receipt_names_the_identifier_that_each_recipient_knows() {
    let (_world, device) = opted_in().await;
    let (analytics, recorders) = start(&device).await;
    analytics.capture_one("Opened");
    assert!(eventually(analytics.flush_all()).await.is_complete());
    let before = analytics.identifiers();
    let receipt = eventually(analytics.opt_out().into_future()).await;
    let identifiers = receipt.identifiers();
    assert_eq!(identifiers, before);
    assert_eq!(analytics.identifiers(), []);
    assert_eq!(identifiers.len(), 3);
    for ((identifier, identity), recorder) in identifiers.iter().zip(IDENTITIES).zip(&recorders) {
        assert_eq!((identifier.identity(), identifier.recipient()), (identity, identity.as_str()));
        let known = recorder.ids().pop().filter(|_| identity != Identity::Anonymous);
        assert_eq!(identifier.reveal(), known.as_deref());
        for id in [known, Some(FOREIGN_ID.to_owned())].into_iter().flatten() {
            assert!(!format!("{receipt:?}").contains(&id));
            assert!(!serde_json::to_string(&receipt).unwrap().contains(&id));
        }
    }
    let again = eventually(analytics.opt_out().into_future()).await;
    assert_eq!((again.identifiers(), again.analytics_id()), (&[][..], None));
}

#[tokio::test]
async fn a_label_that_cannot_make_identifiers_is_a_build_error() {
    let (_world, device) = opted_in().await;
    let recipient = |identity, label: Option<&str>| {
        let recipient = Recipient::new(RecordingBackend::new()).name("r").identity(identity);
        match label {
            Some(label) => recipient.label(label),
            None => recipient,
        }
    };
    let build = async |recipients: Vec<Recipient>| {
        let builder =
            recipients.into_iter().fold(device.builder(), |builder, r| builder.backend(r));
        match builder.build().await {
            Err(BuildError::Label(error)) => Some(error),
            built => {
                drop(built.unwrap());
                None
            }
        }
    };
    let name = || "r".to_owned();
    for identity in [Identity::Pseudonym, Identity::Anonymous] {
        let missing = build(vec![recipient(identity, None)]).await;
        assert_eq!(missing, Some(LabelError::Missing { recipient: name() }));
        let twice = vec![
            recipient(Identity::Pseudonym, Some("one")),
            recipient(identity, Some("two")),
            recipient(identity, Some("one")),
        ];
        assert_eq!(build(twice).await, Some(LabelError::Repeated { recipient: name() }));
    }
    for identity in IDENTITIES {
        for malformed in ["", "a\nb", &"x".repeat(301)] {
            let built = build(vec![recipient(identity, Some(malformed))]).await;
            assert_eq!(built, Some(LabelError::Malformed { recipient: name() }), "{malformed}");
        }
    }
    let fine = vec![
        recipient(Identity::Account, Some("one")),
        recipient(Identity::Account, Some("one")),
        recipient(Identity::Pseudonym, Some("one")),
        recipient(Identity::Pseudonym, Some(&"x".repeat(300))),
    ];
    assert_eq!(build(fine).await, None);
}

/// Returns the runs of letters, digits and hyphens in what a collector has received, heads of the
/// requests excluded.
#[cfg(feature = "otlp")]
fn words(collector: &Collector) -> BTreeSet<String> {
    let requests = collector.seen().requests;
    assert!(!requests.is_empty());
    let text: Vec<_> = requests.iter().map(|body| String::from_utf8_lossy(body)).collect();
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-';
    text.iter().flat_map(|text| text.split(|c| !is_part(c))).map(str::to_owned).collect()
}

/// Of two accounts that do the same at the same time, two collectors get the same in common. So
/// what they have in common says nothing about the account.
#[cfg(feature = "otlp")]
#[tokio::test]
async fn two_collectors_have_nothing_in_common_that_depends_on_the_account() {
    let world = World::new().await;
    for identities in [
        [Identity::Pseudonym, Identity::Pseudonym],
        [Identity::Pseudonym, Identity::Anonymous],
        [Identity::Anonymous, Identity::Anonymous],
        [Identity::Account, Identity::Anonymous],
        [Identity::Account, Identity::Account],
    ] {
        let mut in_common = Vec::new();
        for user in ["@one:example.org", "@two:example.org"] {
            let device = world.device_of(world.server.add_device(user, "PHONE")).await;
            let collectors = [Collector::start(), Collector::start()];
            let mut builder =
                device.builder().user_properties(UserProperties::new().set("app", "desktop"));
            for (collector, identity) in collectors.iter().zip(identities) {
                let otlp = Otlp::new(&collector.url(), "example").unwrap();
                builder = builder.backend(Recipient::new(otlp).identity(identity));
            }
            let analytics = builder.build().await.unwrap();
            analytics.opt_in_and_settle().await;
            for millis in [0, 1, 999, 1001] {
                let at = UNIX_EPOCH + Duration::from_millis(1_769_860_800_000 + millis);
                let properties = Properties::new().with("rooms", millis);
                analytics.capture_named_at(at, "Opened", properties);
            }
            assert!(eventually(analytics.flush_all()).await.is_complete());
            eventually(analytics.shutdown(Duration::ZERO)).await;
            let [first, second] = collectors.each_ref().map(words);
            in_common.push(first.intersection(&second).cloned().collect::<BTreeSet<_>>());
        }
        let is_joined = identities == [Identity::Account, Identity::Account];
        assert_eq!(in_common[0] != in_common[1], is_joined, "{identities:?}: {in_common:?}");
    }
}
