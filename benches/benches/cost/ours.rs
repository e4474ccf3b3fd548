//! The cost of this crate.

use std::{
    thread,
    time::{Duration, Instant},
};

use matrix_analytics::{
    Analytics, AnalyticsBuilder, JsonLines, Limits, PostHog, Properties, SqliteQueue,
};
use tokio::runtime::Runtime;

use crate::{
    BURST, Settings, allocator,
    boxed::{self, AppEvent, Telemetry},
    client::{client, http_client},
    event::{NAME, RoomJoined},
    measure,
    process::{self, report},
    servers,
};

/// An app with one account on Tokio's multi-threaded runtime.
struct App {
    runtime: Runtime,
    analytics: Analytics,
}

impl App {
    /// Creates an app whose opt-in has been confirmed by the homeserver.
    fn opted_in(
        settings: &Settings,
        configure: impl FnOnce(AnalyticsBuilder) -> AnalyticsBuilder,
    ) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let analytics = runtime.block_on(async {
            let client = client(&settings.homeserver, &http_client(), 0).await;
            let builder = Analytics::builder(client, "org.example.analytics");
            configure(builder).build().await.expect("analytics")
        });
        Self { runtime, analytics }.confirmed()
    }

    /// Creates an app on a device that must not be tracked.
    fn denied(settings: &Settings) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let analytics = runtime.block_on(async {
            let client = client(&settings.homeserver, &http_client(), 0).await;
            let builder = Analytics::builder(client, "org.example.analytics").do_not_track();
            builder.backend(nowhere()).build().await.expect("analytics")
        });
        Self { runtime, analytics }
    }

    fn confirmed(self) -> Self {
        self.runtime.block_on(self.analytics.recheck()).expect("an answer");
        assert!(self.analytics.is_open(), "{:?}", self.analytics);
        self
    }

    fn to_nowhere(settings: &Settings) -> Self {
        Self::opted_in(settings, |builder| builder.backend(nowhere()))
    }

    fn to_posthog(settings: &Settings, url: &str) -> Self {
        Self::opted_in(settings, |builder| builder.backend(posthog(url)))
    }

    fn capture(&self, n: u32) {
        self.analytics.capture(&RoomJoined::new(n));
    }

    fn flush(&self) {
        self.runtime.block_on(self.analytics.flush(Duration::from_secs(30)));
    }

    /// Panics if events were dropped, because the measurement would be invalid.
    fn assert_nothing_dropped(&self) {
        let stats = self.analytics.stats();
        assert!(stats.backends.iter().all(|backend| backend.dropped.is_empty()), "{stats:?}");
    }
}

/// Creates a backend that writes each event as JSON and discards the output.
fn nowhere() -> JsonLines {
    JsonLines::new(tokio::io::sink())
}

fn posthog(url: &str) -> PostHog {
    // As the peers by default, and so that the collector can count events.
    PostHog::builder(url, "phc_bench").gzip(false).build().expect("a backend")
}

/// Sets limits that can hold the whole burst.
fn roomy(builder: AnalyticsBuilder) -> AnalyticsBuilder {
    let events = 2 * BURST as usize;
    let bytes = 1 << 30;
    builder.limits(Limits::default().queue_max_events(events).queue_max_bytes(bytes))
}

/// An app that captures typed events.
struct Typed(App);

impl Telemetry for Typed {
    fn capture(&self, event: &AppEvent) {
        self.0.analytics.capture(&RoomJoined::from(event));
    }

    fn settle(&self) {
        self.0.flush();
    }
}

/// An app that captures events by name.
struct Named(App);

impl Telemetry for Named {
    fn capture(&self, event: &AppEvent) {
        self.0.analytics.capture_with(NAME, || properties(event.into()));
    }

    fn settle(&self) {
        self.0.flush();
    }
}

fn properties(event: RoomJoined) -> Properties {
    Properties::new()
        .with("trigger", event.trigger)
        .with("room_type", event.room_type)
        .with("members", event.members)
        .with("is_dm", event.is_dm)
        .with("seconds", event.seconds)
}

pub(crate) fn boxed_denied(settings: &Settings) {
    boxed::back_to_back(settings.rounds, Box::new(Typed(App::denied(settings))));
}

pub(crate) fn boxed_denied_named(settings: &Settings) {
    boxed::back_to_back(settings.rounds, Box::new(Named(App::denied(settings))));
}

pub(crate) fn boxed_typed(settings: &Settings) {
    boxed::back_to_back(settings.rounds, Box::new(Typed(App::to_nowhere(settings))));
}

pub(crate) fn boxed_named(settings: &Settings) {
    boxed::back_to_back(settings.rounds, Box::new(Named(App::to_nowhere(settings))));
}

pub(crate) fn boxed_sparse(settings: &Settings) {
    boxed::sparse(settings.samples, Box::new(Typed(App::to_nowhere(settings))));
}

pub(crate) fn denied(settings: &Settings) {
    let app = App::denied(settings);
    let event = RoomJoined::new(7);
    measure::back_to_back(settings.rounds, |_| app.analytics.capture(&event), || {});
}

pub(crate) fn typed(settings: &Settings) {
    let app = App::to_nowhere(settings);
    measure::back_to_back(settings.rounds, |n| app.capture(n), || app.flush());
    app.assert_nothing_dropped();
}

pub(crate) fn named(settings: &Settings) {
    let app = App::to_nowhere(settings);
    let capture = |n| {
        app.analytics.capture_named(NAME, properties(RoomJoined::new(n)));
    };
    measure::back_to_back(settings.rounds, capture, || app.flush());
    app.assert_nothing_dropped();
}

pub(crate) fn two_threads(settings: &Settings) {
    let app = App::to_nowhere(settings);
    measure::two_threads(settings.rounds, |n| app.capture(n), || app.flush());
    app.assert_nothing_dropped();
}

pub(crate) fn sparse(settings: &Settings, pause: fn()) {
    let app = App::to_nowhere(settings);
    app.capture(0);
    measure::now_and_then(settings.samples, |n| app.capture(n), pause);
    app.assert_nothing_dropped();
}

pub(crate) fn after_idle(settings: &Settings) {
    let app = App::to_nowhere(settings);
    let idle = || {
        app.flush();
        measure::asleep();
    };
    measure::now_and_then(settings.samples, |n| app.capture(n), idle);
    app.assert_nothing_dropped();
}

pub(crate) fn queued(settings: &Settings) {
    let app =
        App::opted_in(settings, |builder| roomy(builder).backend(posthog(&settings.black_hole)));
    measure::queued(settings.queued, |n| app.capture(n));
    app.assert_nothing_dropped();
}

pub(crate) fn to_nowhere(settings: &Settings) {
    end_to_end(&App::opted_in(settings, |builder| roomy(builder).backend(nowhere())));
}

pub(crate) fn to_collector(settings: &Settings) {
    let posthog = posthog(&settings.collector);
    end_to_end(&App::opted_in(settings, |builder| roomy(builder).backend(posthog)));
}

/// Measures a durable queue with a backend that never waits.
pub(crate) fn durable(settings: &Settings) {
    let directory = tempfile::tempdir().expect("a directory");
    let queue = SqliteQueue::new(directory.path().join("queue.sqlite"));
    end_to_end(&App::opted_in(settings, |builder| roomy(builder).backend(nowhere()).queue(queue)));
}

fn end_to_end(app: &App) {
    // The first request opens the connection.
    app.capture(0);
    app.flush();
    measure::end_to_end(BURST, || {
        for n in 0..BURST {
            app.capture(n);
        }
        app.flush();
    });
    app.assert_nothing_dropped();
}

/// Captures a burst with the default limits. Reports how much of it is lost, and how much
/// of that is not counted.
pub(crate) fn burst(settings: &Settings) {
    let app = App::to_posthog(settings, &settings.collector);
    servers::collected(&settings.collector).expect("a count");
    for n in 0..BURST {
        app.capture(n);
    }
    app.flush();
    let collected = servers::collected(&settings.collector).expect("a count");
    let stats = app.analytics.stats();
    let [backend] = &stats.backends[..] else { panic!("one backend") };
    let named = backend.dropped_total() as f64;
    report("lost_percent", 100.0 * (f64::from(BURST) - collected) / f64::from(BURST));
    report("unaccounted", f64::from(BURST) - collected - named);
}

pub(crate) fn shutdown(settings: &Settings, events: u32) {
    let app = App::to_posthog(settings, &settings.black_hole);
    for n in 0..events {
        app.capture(n);
    }
    thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    app.runtime.block_on(app.analytics.shutdown(Duration::from_secs(1)));
    // Timed as well, because dropping the runtime may wait for a thread.
    drop(app);
    report("seconds", began.elapsed().as_secs_f64());
}

/// Measures the wake-ups of an opted-in process that is otherwise idle.
pub(crate) fn idle(settings: &Settings) {
    let app = App::to_posthog(settings, &settings.collector);
    app.capture(0);
    app.flush();
    thread::sleep(Duration::from_secs(1));
    let before = process::wake_ups();
    thread::sleep(settings.idle);
    report("wake_ups", process::wake_ups() - before);
    app.assert_nothing_dropped();
}

/// Measures the cost of each of many idle accounts, in addition to its `Client`.
pub(crate) fn accounts(settings: &Settings) {
    let runtime = Runtime::new().expect("a runtime");
    let http_client = http_client();
    let accounts = f64::from(settings.accounts);
    let tasks = || runtime.metrics().num_alive_tasks() as f64;
    runtime.block_on(async {
        let mut clients = Vec::new();
        for n in 0..settings.accounts {
            clients.push(client(&settings.homeserver, &http_client, n).await);
        }
        // Allocations of a client's first request are the client's own.
        for client in &clients {
            client.supported_versions().await.expect("an answer");
        }
        allocator::keep_live_bytes();
        let (tasks_before, heap, resident) =
            (tasks(), allocator::live_bytes(), process::resident_bytes());
        let mut all = Vec::new();
        for client in &clients {
            let builder = Analytics::builder(client.clone(), "org.example.analytics");
            let analytics = builder.backend(nowhere()).build().await.expect("analytics");
            analytics.recheck().await.expect("an answer");
            assert!(analytics.is_open());
            all.push(analytics);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        report("tasks", (tasks() - tasks_before) / accounts);
        report("heap", (allocator::live_bytes() - heap) as f64 / accounts);
        report("resident", (process::resident_bytes() - resident) / accounts);
    });
}
