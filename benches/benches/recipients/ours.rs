//! This crate.

use std::time::Duration;

use matrix_analytics::{Analytics, AnalyticsBuilder, Limits, Matomo, Otlp, OtlpEncoding, PostHog};
use tokio::runtime::Handle;

use crate::{
    client::{client, http_client},
    event::RoomJoined,
    sender::{Sender, Setup},
};

struct Ours {
    runtime: Handle,
    analytics: Analytics,
}

pub(crate) fn posthog(setup: Setup<'_>) -> impl Sender + use<> {
    let posthog = PostHog::builder(setup.collector, "phc_bench").gzip(setup.gzip);
    start(setup, |builder| builder.backend(posthog.build().expect("a backend")))
}

pub(crate) fn otlp(setup: Setup<'_>, json: bool) -> impl Sender + use<> {
    let encoding = if json { OtlpEncoding::Json } else { OtlpEncoding::Protobuf };
    let otlp = Otlp::builder(setup.collector, "bench").encoding(encoding).gzip(setup.gzip);
    start(setup, |builder| builder.backend(otlp.build().expect("a backend")))
}

/// Sends all that the other recipients get.
pub(crate) fn matomo(setup: Setup<'_>) -> impl Sender + use<> {
    let keys = ["trigger", "room_type", "members", "is_dm", "seconds"];
    let matomo = Matomo::builder(setup.collector, 1).unique_id_dimension(6);
    let matomo = (1..).zip(keys).fold(matomo, |matomo, (n, key)| matomo.dimension(n, key));
    start(setup, |builder| builder.backend(matomo.build().expect("a backend")))
}

/// Starts with an opt-in that the homeserver has confirmed.
fn start(setup: Setup<'_>, configure: impl FnOnce(AnalyticsBuilder) -> AnalyticsBuilder) -> Ours {
    let analytics = setup.runtime.block_on(async {
        let client = client(setup.homeserver, &http_client(), 0).await;
        let builder = Analytics::builder(client, "org.example.analytics")
            .limits(Limits::default().batch_max_events(setup.batch));
        let analytics = configure(builder).build().await.expect("analytics");
        analytics.recheck().await.expect("an answer");
        assert!(analytics.is_open(), "{analytics:?}");
        analytics
    });
    Ours { runtime: setup.runtime.handle().clone(), analytics }
}

impl Sender for Ours {
    fn capture(&self, n: u32) {
        self.analytics.capture(&RoomJoined::new(n));
    }

    fn flush(&self) {
        self.runtime.block_on(self.analytics.flush(Duration::from_secs(30)));
        let stats = self.analytics.stats();
        assert!(stats.backends.iter().all(|backend| backend.dropped.is_empty()), "{stats:?}");
    }
}
