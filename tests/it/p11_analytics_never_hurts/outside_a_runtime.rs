//! Calls every method of the handle on a thread without a Tokio runtime, like an app whose main
//! loop is GLib's or a game's.

use std::{
    fs,
    path::Path,
    pin::pin,
    sync::{Arc, mpsc},
    task::{Context, Poll, Wake, Waker},
    thread::{self, JoinHandle, Thread},
    time::{Duration, SystemTime},
};

use futures_util::StreamExt as _;
use matrix_analytics::{
    Analytics, AnalyticsEvent, ELEMENT_EVENT_TYPE, Properties, UserProperties,
    testing::RecordingBackend,
};
use serde::Serialize;
use tokio::sync::oneshot;

use crate::support::{AnalyticsExt as _, FOREIGN_ID, World, content, eventually};

/// Runs `future` on this thread alone.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}

/// An `Analytics` that was built on another thread, which has a runtime.
struct Elsewhere {
    analytics: Analytics,
    backend: RecordingBackend,
    _directory: tempfile::TempDir,
    _end: oneshot::Sender<()>,
    _thread: JoinHandle<()>,
}

impl Elsewhere {
    fn start(durable: bool) -> Self {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("queue.sqlite3");
        let (built, wait_built) = mpsc::channel();
        let (end, ended) = oneshot::channel();
        #[expect(clippy::disallowed_methods, reason = "the test uses a plain thread")]
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let world = World::new().await;
                let device = world.device("PHONE").await;
                let backend = RecordingBackend::new();
                let client = device.client.clone();
                let builder = Analytics::builder(client, ELEMENT_EVENT_TYPE);
                let builder = builder.backend(backend.clone());
                #[cfg(feature = "sqlite")]
                let builder = match durable {
                    true => builder.queue(matrix_analytics::SqliteQueue::new(path)),
                    false => builder,
                };
                #[cfg(not(feature = "sqlite"))]
                let _ = (durable, path);
                let analytics = builder.build().await.unwrap();
                analytics.confirmed().await;
                analytics.opt_in_and_settle().await;
                built.send((analytics, backend)).unwrap();
                let _ = ended.await;
            });
        });
        let (analytics, backend) = wait_built.recv().unwrap();
        Self { analytics, backend, _directory: directory, _end: end, _thread: thread }
    }
}

#[derive(Serialize)]
struct Opened;

impl AnalyticsEvent for Opened {
    const NAME: &'static str = "Opened";
}

#[test]
fn a_flush_returns_if_the_runtime_ended_before_the_tasks_ran() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let analytics = runtime.block_on(async {
        let world = World::new().await;
        world.set_content(&content(Some(true), Some(FOREIGN_ID)));
        let device = world.device("PHONE").await;
        let (analytics, _) = device.start_confirmed().await;
        eventually(analytics.shutdown(Duration::from_secs(1))).await;
        drop(analytics);
        // The opt-in is recorded, so the next handle's gate holds events from the start.
        device.start().await.0
    });
    drop(runtime);
    analytics.capture_one("Held");
    block_on(analytics.flush_all());
    let mut drops = analytics.drops();
    assert!(block_on(drops.next()).is_none());
    let stats = &analytics.stats().backends[0];
    assert!(stats.is_balanced() && stats.queued == 0, "{stats:?}");
}

#[test]
fn every_method_works_on_a_thread_without_a_runtime() {
    for durable in [false, true] {
        let elsewhere = Elsewhere::start(durable);
        let analytics = elsewhere.analytics.clone();
        let _ = (analytics.state(), analytics.state().prompt(), analytics.is_open());
        assert!(analytics.analytics_id().is_some());
        assert_eq!(analytics.identifiers().len(), analytics.stats().backends.len());
        assert_eq!(analytics.consent_record().decisions.len(), 1);
        #[cfg(feature = "rageshake")]
        let _ = analytics.bug_report("example-app", "1");
        assert!(!block_on(analytics.should_ask()));
        assert!(block_on(analytics.state_stream().next()).is_some());
        let properties = Properties::new().with("app", "desktop");
        analytics.set_super_properties(properties.clone()).unwrap();
        let user = UserProperties::new().set("theme", "dark").set_once("first", 1);
        analytics.set_user_properties(user).unwrap();
        analytics.capture(&Opened);
        analytics.capture_named("Named", properties.clone());
        analytics.capture_with("Named", || properties.clone());
        let earlier = SystemTime::now() - Duration::from_secs(60);
        analytics.capture_at(earlier, &Opened);
        analytics.capture_named_at(earlier, "Named", properties);
        assert!(block_on(analytics.flush(Duration::from_secs(60))).is_complete());
        assert_eq!(elsewhere.backend.events().len(), 5);
        assert_eq!(analytics.disclosure().recipients.len(), 1);
        assert!(analytics.history().is_empty());
        assert!(block_on(analytics.history_stream().next()).is_none());
        assert_eq!(analytics.preview(&Opened).unwrap().len(), 1);
        assert_eq!(analytics.preview_named("Named", Properties::new()).unwrap().len(), 1);
        #[cfg(feature = "health")]
        {
            let signals = matrix_analytics::HealthSignals::all();
            block_on(analytics.watch_health(signals).unwrap().stop());
        }
        let mut drops = analytics.drops();
        block_on(analytics.recheck()).unwrap();
        block_on(analytics.deny_on_this_device()).unwrap();
        block_on(analytics.allow_on_this_device()).unwrap();
        assert!(block_on(analytics.opt_out().into_future()).is_complete());
        block_on(analytics.opt_in()).unwrap();
        assert!(block_on(analytics.end_session()).is_complete());
        assert!(block_on(analytics.shutdown(Duration::from_secs(1))).is_complete());
        assert!(block_on(drops.next()).is_none());
        assert!(analytics.stats().backends[0].is_balanced());
    }
}

#[test]
fn every_method_of_the_handle_is_called() {
    let here = include_str!("outside_a_runtime.rs");
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/analytics");
    let mut sources = vec![include_str!("../../../src/analytics.rs").to_owned()];
    for file in fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            sources.push(fs::read_to_string(path).unwrap());
        }
    }
    // The files in which methods of the handle may be defined.
    let blocks = sources.iter().flat_map(|source| source.split("\nimpl ").skip(1));
    let methods = blocks.filter(|block| block.starts_with("Analytics {"));
    let mut found = 0;
    for line in methods.flat_map(str::lines) {
        let declared = ["    pub fn ", "    pub async fn "];
        let name = declared.iter().find_map(|declared| line.strip_prefix(declared));
        let Some(name) = name.and_then(|name| name.split(['(', '<']).next()) else { continue };
        assert!(here.contains(&format!("{name}(")), "{name} is not called");
        found += 1;
    }
    assert!(found > 20, "{found}");
}
