//! Shared test fixtures: a homeserver, devices of one account, frozen time, and a proxy that holds
//! requests.

#[cfg(any(feature = "matomo", feature = "otlp", feature = "posthog"))]
pub(crate) mod collector;
mod gated_proxy;
pub(crate) mod log;
#[cfg(feature = "matomo")]
pub(crate) mod matomo;
#[cfg(feature = "posthog")]
pub(crate) mod posthog_v1;
#[cfg(feature = "otlp")]
pub(crate) mod protobuf;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use matrix_analytics::{
    Analytics, AnalyticsBuilder, ConsentState, DeliveryReport, ELEMENT_EVENT_TYPE, GateState,
    Properties,
    testing::{
        AccountDataMethod, AccountDataRequest, AccountDataServer, DeviceLogin, Fault, Msc3391,
        Outcome, RecordingBackend,
    },
};
use matrix_sdk::{Client, ClientBuilder, config::SyncSettings};
use tokio::time::timeout;

pub(crate) use self::gated_proxy::{GatedProxy, HeldRequest, plain_http_client};

pub(crate) const ALICE: &str = "@alice:example.org";
/// The default timeout of one request.
pub(crate) const BOUND: Duration = Duration::from_secs(10);
/// Just over the settle time of a new ID. Tokio's timers have a granularity of one millisecond.
pub(crate) const SETTLE: Duration = Duration::from_millis(20_001);
/// An ID in the format of another client.
pub(crate) const FOREIGN_ID: &str = "9F1C2D7E-0A4B-4C1D-9E2F-3A4B5C6D7E8F";

/// Freezes Tokio's clock; only a test moves it.
///
/// Paused time alone would jump to the next timer whenever the runtime waits for a socket. It does
/// not while a blocking task runs, so this type keeps one running. If a test hangs, the task ends
/// after one real minute: time then jumps, and the drop of this value fails the test.
pub(crate) struct FrozenTime {
    _thaw_when_dropped: mpsc::Sender<()>,
    has_hung: Arc<AtomicBool>,
}

impl FrozenTime {
    pub(crate) fn new() -> Self {
        tokio::time::pause();
        let (thaw, thawed) = mpsc::channel::<()>();
        let has_hung = Arc::<AtomicBool>::default();
        let hangs = has_hung.clone();
        tokio::task::spawn_blocking(move || {
            let waited = thawed.recv_timeout(Duration::from_secs(60));
            hangs.store(waited == Err(RecvTimeoutError::Timeout), Ordering::Relaxed);
        });
        Self { _thaw_when_dropped: thaw, has_hung }
    }
}

impl Drop for FrozenTime {
    fn drop(&mut self) {
        // One test may create several worlds in turn.
        tokio::time::resume();
        if self.has_hung.load(Ordering::Relaxed) && !std::thread::panicking() {
            panic!("the test hung: it waited for frozen time to advance");
        }
    }
}

/// Waits for something that must happen without moving time.
pub(crate) async fn eventually<F: Future>(what: F) -> F::Output {
    timeout(Duration::from_secs(1_000_000), what).await.expect("the awaited event never happened")
}

/// A homeserver and frozen time.
pub(crate) struct World {
    pub(crate) server: AccountDataServer,
    _frozen: FrozenTime,
}

impl World {
    pub(crate) async fn new() -> Self {
        let frozen = FrozenTime::new();
        Self { server: AccountDataServer::start().await, _frozen: frozen }
    }

    /// Creates a world whose homeserver answers what other mocks on `server` do not.
    #[cfg(feature = "health")]
    pub(crate) async fn on(server: &wiremock::MockServer) -> Self {
        let frozen = FrozenTime::new();
        Self { server: AccountDataServer::mount(server).await, _frozen: frozen }
    }

    /// Logs in a device of Alice.
    pub(crate) async fn device(&self, name: &str) -> Device {
        let login = self.server.add_device(ALICE, name);
        self.device_of(login).await
    }

    pub(crate) async fn device_of(&self, login: DeviceLogin) -> Device {
        let client = self.server.client(&login).await.unwrap();
        Device { client, login }
    }

    /// Logs in a device of Alice whose account-data requests are held until the test releases them.
    pub(crate) async fn gated_device(&self, name: &str) -> (GatedProxy, Device) {
        let proxy = GatedProxy::start(self.server.uri()).await;
        let login = self.server.add_device(ALICE, name);
        let client = self
            .server
            .client_with(&login, |builder| builder.homeserver_url(proxy.uri()))
            .await
            .unwrap();
        (proxy, Device { client, login })
    }

    /// Opts out while the homeserver is unreachable.
    pub(crate) async fn opt_out_offline(&self, analytics: &Analytics) {
        self.server.fail_all(Fault::ResetBefore);
        let receipt = eventually(analytics.opt_out().into_future()).await;
        assert!(receipt.record.is_done() && !receipt.account.is_done(), "{receipt:?}");
    }

    pub(crate) fn content(&self) -> Option<String> {
        self.server.content(ALICE, ELEMENT_EVENT_TYPE)
    }

    /// Writes the event as another client would.
    pub(crate) fn set_content(&self, content: &str) {
        self.server.set_content(ALICE, ELEMENT_EVENT_TYPE, content);
    }

    /// Sets the event to `content`, or deletes it, which takes a server with MSC3391.
    pub(crate) fn set(&self, content: Option<&str>) {
        if content.is_none() {
            self.server.set_msc3391(Msc3391::On);
        }
        self.set_content(content.unwrap_or("{}"));
    }

    /// Lets `time` pass in steps, and waits after each for the requests that it triggers.
    ///
    /// The homeserver answers requests in order, so a probe sent after those requests is also
    /// answered after them.
    pub(crate) async fn pass(&self, time: Duration, step: Duration) {
        let http = plain_http_client();
        let versions = format!("{}/_matrix/client/versions", self.server.uri());
        for _ in 0..time.as_secs() / step.as_secs() {
            tokio::time::advance(step).await;
            // Three rounds cover a GET and the PUT that follows it.
            for _ in 0..3 {
                for _ in 0..8 {
                    tokio::task::yield_now().await;
                }
                eventually(http.get(&versions).send()).await.unwrap();
            }
        }
    }

    /// Creates a client for `login` whose store is an SQLite database in `directory`.
    pub(crate) async fn device_on_disk(&self, login: &DeviceLogin, directory: &Path) -> Device {
        let on_disk = |builder: ClientBuilder| builder.sqlite_store(directory, None);
        let client = self.server.client_with(login, on_disk).await.unwrap();
        Device { client, login: login.clone() }
    }

    /// Waits until the newest account-data request stalls.
    pub(crate) async fn until_stalled(&self) {
        let is_stalled = |requests: &[AccountDataRequest]| {
            requests.last().is_some_and(|last| last.outcome == Outcome::Stalled)
        };
        eventually(self.server.wait_for(is_stalled)).await;
    }

    /// Returns the methods of the account-data requests since the last call, such as `"GET PUT"`.
    pub(crate) fn take_requests(&self) -> String {
        let requests = self.server.requests();
        self.server.clear_requests();
        requests.iter().map(method_of).collect::<Vec<_>>().join(" ")
    }
}

fn method_of(request: &AccountDataRequest) -> &'static str {
    match request.method {
        AccountDataMethod::Get => "GET",
        AccountDataMethod::Put => "PUT",
        AccountDataMethod::Delete => "DELETE",
        _ => "?",
    }
}

/// Returns event content with the given flag and ID.
pub(crate) fn content(flag: Option<bool>, id: Option<&str>) -> String {
    let id = id.map(|id| format!(r#""id":"{id}""#));
    let flag = flag.map(|flag| format!(r#""pseudonymousAnalyticsOptIn":{flag}"#));
    format!("{{{}}}", id.into_iter().chain(flag).collect::<Vec<_>>().join(","))
}

/// Returns the `id` member of `content`.
pub(crate) fn id_in(content: &str) -> Option<String> {
    let content: serde_json::Value = serde_json::from_str(content).unwrap();
    content.get("id").and_then(|id| id.as_str()).map(str::to_owned)
}

/// A logged-in device and its client.
pub(crate) struct Device {
    pub(crate) client: Client,
    pub(crate) login: DeviceLogin,
}

impl Device {
    pub(crate) fn builder(&self) -> AnalyticsBuilder {
        Analytics::builder(self.client.clone(), ELEMENT_EVENT_TYPE)
    }

    /// Builds an `Analytics` that delivers to the returned recorder.
    pub(crate) async fn start(&self) -> (Analytics, RecordingBackend) {
        let recorder = RecordingBackend::new();
        let analytics = self.builder().backend(recorder.clone()).build().await.unwrap();
        (analytics, recorder)
    }

    /// Builds an `Analytics`, and waits for the homeserver's first answer.
    pub(crate) async fn start_confirmed(&self) -> (Analytics, RecordingBackend) {
        let (analytics, recorder) = self.start().await;
        analytics.confirmed().await;
        (analytics, recorder)
    }

    /// Builds an `Analytics`, opts in, and lets the ID settle.
    pub(crate) async fn start_opted_in(&self) -> (Analytics, RecordingBackend) {
        let (analytics, recorder) = self.start_confirmed().await;
        analytics.opt_in_and_settle().await;
        (analytics, recorder)
    }

    /// Returns the key of Alice's local record in the client's store.
    fn record_key() -> Vec<u8> {
        use sha2::{Digest as _, Sha256};
        use std::fmt::Write as _;

        let mut user = String::new();
        for byte in Sha256::digest(ALICE) {
            write!(user, "{byte:02x}").unwrap();
        }
        format!("matrix-analytics/{ELEMENT_EVENT_TYPE}/{user}").into_bytes()
    }

    pub(crate) async fn record(&self) -> Option<String> {
        let record = self.client.state_store().get_custom_value(&Self::record_key()).await;
        record.unwrap().map(|record| String::from_utf8(record).unwrap())
    }

    pub(crate) async fn overwrite_record(&self, record: impl AsRef<[u8]>) {
        let (key, record) = (Self::record_key(), record.as_ref().to_vec());
        self.client.state_store().set_custom_value(&key, record).await.unwrap();
    }

    /// Runs one sync.
    pub(crate) async fn sync(&self) {
        let settings = SyncSettings::new().timeout(Duration::ZERO);
        eventually(self.client.sync_once(settings)).await.unwrap();
    }
}

/// Shorthands for calls on an `Analytics`.
pub(crate) trait AnalyticsExt {
    async fn until(&self, wanted: impl Fn(&ConsentState) -> bool) -> ConsentState;
    async fn confirmed(&self) -> ConsentState;
    async fn opt_in_and_settle(&self);
    async fn flush_all(&self) -> DeliveryReport;
    fn capture_one(&self, name: &'static str);
}

impl AnalyticsExt for Analytics {
    async fn until(&self, wanted: impl Fn(&ConsentState) -> bool) -> ConsentState {
        let mut states = self.state_stream();
        eventually(async {
            loop {
                let state = states.next().await.expect("a handle is alive");
                if wanted(&state) {
                    return state;
                }
            }
        })
        .await
    }

    async fn confirmed(&self) -> ConsentState {
        self.until(|state| state.confirmed).await
    }

    async fn opt_in_and_settle(&self) {
        let state = eventually(self.opt_in()).await.unwrap();
        if state.gate != GateState::Open {
            tokio::time::advance(SETTLE).await;
            self.until(ConsentState::is_open).await;
        }
    }

    /// Flushes without a deadline.
    async fn flush_all(&self) -> DeliveryReport {
        self.flush(Duration::MAX).await
    }

    fn capture_one(&self, name: &'static str) {
        self.capture_named(name, Properties::new());
    }
}

/// Returns the IDs that the device sends under after sync has shown the account's content and all
/// timers have fired.
pub(crate) async fn sent_under(
    device: &Device,
    analytics: &Analytics,
    recorder: &RecordingBackend,
) -> Vec<String> {
    recorder.clear();
    for _ in 0..3 {
        device.sync().await;
        let _ = eventually(analytics.recheck()).await;
        tokio::time::advance(SETTLE + BOUND).await;
    }
    analytics.capture_one("Sent");
    eventually(analytics.flush_all()).await;
    recorder.ids()
}

/// Passes every further request.
pub(crate) fn pass_everything(mut proxy: GatedProxy) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            proxy.next_of_any_method().await.pass().await;
        }
    })
}

/// Returns the body of the last PUT that was not applied.
pub(crate) fn lost_write(world: &World) -> String {
    let mut puts = world.server.requests().into_iter();
    puts.rfind(|request| request.method == AccountDataMethod::Put && !request.applied).unwrap().body
}
