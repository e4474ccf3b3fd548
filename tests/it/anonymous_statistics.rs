//! Two sessions of one account cannot be joined from the bytes that an anonymous recipient gets.

use std::collections::BTreeSet;

use matrix_analytics::{Identity, Matomo, Otlp, OtlpEncoding, PostHog, Properties, Recipient};

use crate::support::{AnalyticsExt as _, World, collector::Collector, content, eventually};

const ALICES_ID: &str = "9f1c2d7e-0d5e-4c9b-8a53-b6f1d1f1a0aa";
const BOBS_ID: &str = "1b7d4e0a-3c55-4f0e-9c7b-0a4f6e2d9c11";

/// Returns the recipient with this number at `collector`.
fn recipient(number: usize, collector: &Collector) -> Recipient {
    let url = collector.url();
    let recipient = match number {
        0 => Recipient::from(PostHog::new(&url, "phc_key").unwrap()),
        1 => Recipient::from(
            Otlp::builder(&url, "example").encoding(OtlpEncoding::Json).build().unwrap(),
        ),
        _ => Recipient::from(Matomo::new(&url, 1).unwrap()),
    };
    recipient.label("recipient")
}

/// Runs a session of the account with `id`, and returns the texts that a recipient gets.
async fn session(number: usize, identity: Identity, id: &str) -> BTreeSet<String> {
    let world = World::new().await;
    world.set_content(&content(Some(true), Some(id)));
    let collector = Collector::start();
    let device = world.device("PHONE").await;
    let recipient = recipient(number, &collector).identity(identity);
    let analytics = device.builder().backend(recipient).build().await.unwrap();
    analytics.confirmed().await;
    for name in ["Opened", "Joined"] {
        analytics.capture_named(name, Properties::new().with("members", 3));
    }
    eventually(analytics.flush_all()).await;
    let requests = collector.seen().requests;
    assert!(!requests.is_empty());
    requests.iter().flat_map(|body| texts(body)).collect()
}

/// Returns the words of `body` that could be an identifier: neither short, nor a time.
fn texts(body: &[u8]) -> BTreeSet<String> {
    let body = String::from_utf8_lossy(body).into_owned();
    let words = body.split(|c: char| !c.is_ascii_alphanumeric() && !"-:._".contains(c));
    let is_time = |word: &str| {
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        digits == word.len() || (word.starts_with("20") && word.ends_with('Z'))
    };
    words.filter(|word| word.len() >= 6 && !is_time(word)).map(str::to_owned).collect()
}

/// Returns the texts that two sessions of one account share, and a session of another does not.
async fn shared(number: usize, identity: Identity) -> BTreeSet<String> {
    let first = session(number, identity, ALICES_ID).await;
    let second = session(number, identity, ALICES_ID).await;
    let other = session(number, identity, BOBS_ID).await;
    let both: BTreeSet<_> = first.intersection(&second).cloned().collect();
    both.difference(&other).cloned().collect()
}

#[tokio::test]
async fn two_sessions_of_one_account_share_no_text_that_another_account_does_not() {
    for number in 0..3 {
        assert_eq!(shared(number, Identity::Anonymous).await, BTreeSet::new(), "{number}");
        // The comparison finds an identifier where there is one.
        for identity in [Identity::Account, Identity::Pseudonym] {
            assert_eq!(shared(number, identity).await.len(), 1, "{number} {identity:?}");
        }
    }
}
