//! Two sessions of one account cannot be joined by what the crate adds to the requests to an
//! anonymous recipient.

use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};

use matrix_analytics::{
    Identity, Matomo, Otlp, OtlpEncoding, PostHog, Properties, Recipient, UserProperties,
};

use crate::support::{
    AnalyticsExt as _, World,
    collector::{Answer, Collector},
    content, eventually, protobuf,
};

const ALICES_ID: &str = "9f1c2d7e-0d5e-4c9b-8a53-b6f1d1f1a0aa";
const BOBS_ID: &str = "1b7d4e0a-3c55-4f0e-9c7b-0a4f6e2d9c11";

/// A backend, in one of the forms of its requests.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    PostHog,
    PostHogV1,
    OtlpJson,
    OtlpProtobuf,
    Matomo,
}

impl Kind {
    const ALL: [Self; 5] =
        [Self::PostHog, Self::PostHogV1, Self::OtlpJson, Self::OtlpProtobuf, Self::Matomo];

    fn recipient(self, url: &str) -> Recipient {
        let otlp =
            |encoding| Otlp::builder(url, "example").encoding(encoding).build().unwrap().into();
        let recipient: Recipient = match self {
            Self::PostHog => PostHog::new(url, "phc_key").unwrap().into(),
            Self::PostHogV1 => PostHog::builder(url, "phc_key").v1(true).build().unwrap().into(),
            Self::OtlpJson => otlp(OtlpEncoding::Json),
            Self::OtlpProtobuf => otlp(OtlpEncoding::Protobuf),
            Self::Matomo => Matomo::new(url, 1).unwrap().into(),
        };
        recipient.label("recipient")
    }
}

/// Runs a session of the account with `id`, and returns the words that a recipient gets.
async fn session(kind: Kind, identity: Identity, id: &str) -> BTreeSet<String> {
    let world = World::new().await;
    world.set_content(&content(Some(true), Some(id)));
    let collector = Collector::start();
    if kind == Kind::PostHogV1 {
        collector.set_answer(Answer::Each(r#"{"result":"ok"}"#));
    }
    let device = world.device("PHONE").await;
    let recipient = kind.recipient(&collector.url()).identity(identity);
    let analytics = device
        .builder()
        .backend(recipient)
        .super_properties(Properties::new().with("app_version", "1.2.3"))
        .user_properties(UserProperties::new().set("space_count", 4))
        .build()
        .await
        .unwrap();
    analytics.confirmed().await;
    for name in ["Opened", "Joined"] {
        analytics.capture_named(name, Properties::new().with("members", 3));
    }
    eventually(analytics.flush_all()).await;
    let seen = collector.seen();
    assert!(!seen.requests.is_empty());
    let heads = seen.request_heads.iter().flat_map(|head| head.lines()).filter(|line| {
        // The number of a free port, and the length of a body with times in it.
        !line.starts_with("host: ") && !line.starts_with("content-length: ")
    });
    let bodies = seen.requests.iter().flat_map(|body| match kind {
        Kind::OtlpProtobuf => protobuf::leaves(body),
        _ => vec![String::from_utf8(body.clone()).unwrap()],
    });
    let texts: Vec<_> = heads.map(str::to_owned).chain(bodies).collect();
    texts.iter().flat_map(|text| words(text)).collect()
}

/// Returns the words of `text`, except times.
fn words(text: &str) -> impl Iterator<Item = String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos().to_string();
    let is_time = move |word: &str| {
        let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
        let is_of_now = is_number && word.len() >= 10 && word.starts_with(&now[..4]);
        is_of_now || (word.starts_with("20") && word.ends_with('Z'))
    };
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !"-:._".contains(c));
    words.filter(move |word| !word.is_empty() && !is_time(word)).map(str::to_owned)
}

/// Returns the words that two sessions of one account share, and a session of another does not.
async fn shared(kind: Kind, identity: Identity) -> BTreeSet<String> {
    let first = session(kind, identity, ALICES_ID).await;
    let second = session(kind, identity, ALICES_ID).await;
    let other = session(kind, identity, BOBS_ID).await;
    let both: BTreeSet<_> = first.intersection(&second).cloned().collect();
    both.difference(&other).cloned().collect()
}

#[tokio::test]
async fn two_sessions_of_one_account_share_no_word_that_another_account_does_not() {
    for kind in Kind::ALL {
        assert_eq!(shared(kind, Identity::Anonymous).await, BTreeSet::new(), "{kind:?}");
        // The comparison finds an identifier where there is one.
        for identity in [Identity::Account, Identity::Pseudonym] {
            assert_eq!(shared(kind, identity).await.len(), 1, "{kind:?} {identity:?}");
        }
    }
}
