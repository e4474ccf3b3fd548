//! Tests of how often the task is woken.

use std::{
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tokio::time::{advance, pause};

use super::*;
use crate::{
    analytics_id::AnalyticsId, gate::Phase, guard::Guard, health::crypto_session::SETTLE,
    sink::limits::Limits, testing::AccountDataServer,
};

#[derive(Default)]
struct WakeUps(AtomicUsize);

impl Wake for WakeUps {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn an_idle_watch_is_never_woken_at_an_open_or_a_closed_gate() {
    let server = AccountDataServer::start().await;
    let client = server.client(&server.add_device("@alice:example.org", "PHONE")).await.unwrap();
    client.encryption().wait_for_e2ee_initialization_tasks().await;
    for phase in [Phase::Closed, Phase::Holding, Phase::Open] {
        let sink = Sink::new(Vec::new(), Limits::default(), Arc::new(Guard::default()));
        drop(sink.set_gate(phase, 1, Some(AnalyticsId::random()), None));
        let (source, progress) = (client.clone(), Arc::new(Progress::new()));
        let watch = Watch {
            client: Box::new(move || Some(source.clone())),
            sink: Arc::new(sink),
            signals: HealthSignals::all(),
            progress: progress.clone(),
            stop: Arc::default(),
        };
        let mut task: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(run(watch));
        let wake_ups = Arc::new(WakeUps::default());
        let waker = Waker::from(wake_ups.clone());
        let mut poll =
            || assert_eq!(task.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending);
        let mut run = || {
            poll();
            while wake_ups.0.swap(0, Ordering::Relaxed) > 0 {
                poll();
            }
        };
        run();
        let expected = if phase == Phase::Open {
            HealthState::WaitingForSync
        } else {
            HealthState::WaitingForConsent
        };
        assert_eq!(progress.state(), expected);
        pause();
        // The state of encryption is known, and reported once it has lasted.
        advance(SETTLE + Duration::from_millis(1)).await;
        run();
        for _ in 0..60 {
            advance(Duration::from_secs(1)).await;
            assert_eq!(wake_ups.0.load(Ordering::Relaxed), 0, "{phase:?}");
        }
        tokio::time::resume();
    }
}
