//! The canary sweep of `tests/it/p08_nothing_personal_leaves.rs` with one detector
//! disabled at a time. The sweep must notice each.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use tokio::io::AsyncWrite;

use crate::{
    analytics_id::AnalyticsId,
    backend::JsonLines,
    event::{Properties, UserProperties},
    gate::Phase,
    guard::{Guard, GuardPolicy, IdentifierKind, OwnIdentifiers, decode::decode},
    sink::{Sink, limits::Limits},
};

const CANARIES: &str = include_str!("../../../tests/data/guard/canaries.tsv");

#[tokio::test]
async fn the_sweep_notices_each_disabled_detector() {
    let everything = IdentifierKind::BUILT_IN.iter().copied().map(Some);
    for off in std::iter::once(None).chain(everything) {
        let sent = layers(sent_without(off).await);
        assert!(sent[0].contains("Sent "), "nothing was sent");
        for (kind, canary) in CANARIES.lines().filter_map(|line| line.split_once('\t')) {
            let leaked = sent.iter().any(|layer| layer.contains(canary));
            let is_off = off.is_some_and(|off| off.as_str() == kind);
            assert_eq!(leaked, is_off, "{canary}, without {off:?}");
        }
    }
}

/// Sends events with every canary in every place, and returns everything that was sent.
async fn sent_without(off: Option<IdentifierKind>) -> String {
    let written = Written::default();
    let guard = Guard::new(GuardPolicy::Redact, Vec::new());
    guard.watch_session(|| {
        Some(OwnIdentifiers {
            user_id: "@canaryself:canary-home.example".to_owned(),
            localpart: "canaryself".to_owned(),
            device_id: "CANARYDEVX".to_owned(),
            server_name: "canary-home.example".to_owned(),
            ..OwnIdentifiers::default()
        })
    });
    guard.refresh();
    guard.state().scanner(&guard.detectors).switched_off = off;
    let backend = JsonLines::new(written.clone());
    let sink = Arc::new(Sink::new(vec![backend.into()], Limits::default(), guard.into()));
    drop(sink.set_gate(Phase::Open, 1, Some(AnalyticsId::random()), None));
    for (_, canary) in CANARIES.lines().filter_map(|line| line.split_once('\t')) {
        let encoded: String = canary.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let escaped: String = canary.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect();
        let properties = Properties::new()
            .with("value", canary)
            .with(canary, "key")
            .with("nested", format!("{{\"a\":{{\"b\":\"{canary}\"}}}}"))
            .with("encoded", encoded)
            .with("escaped", escaped);
        let user = UserProperties { set: properties.clone(), set_once: properties.clone() };
        sink.set_user_properties(&user).unwrap();
        let name = format!("Sent {canary}");
        sink.capture_named(sink.capture_epoch().unwrap(), None, name.into(), properties);
    }
    let task = tokio::spawn(sink.clone().run());
    assert!(sink.flush(Duration::MAX).await.is_complete());
    sink.stop();
    task.await.unwrap();
    let written = written.0.lock().unwrap().clone();
    String::from_utf8(written).unwrap()
}

/// Returns `text`, followed by its decoded form for each layer of escapes.
fn layers(text: String) -> Vec<String> {
    let mut layers = vec![text];
    while let Some(decoded) = decode(layers.last().unwrap()) {
        layers.push(decoded.text);
    }
    layers
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl AsyncWrite for Written {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
