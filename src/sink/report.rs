//! Flush and shutdown, and what they report.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use tokio::time::timeout;

use super::{
    Sink,
    lane::FlushKind,
    stats::{BackendStats, DropReason, Stats},
};

/// How long a shutdown waits beyond its deadline for the file of the queue.
const LONGEST_CLOSE: Duration = Duration::from_millis(100);

/// The result of a flush or a shutdown for one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BackendReport {
    /// The backend's [`name`](crate::Backend::name).
    pub backend: &'static str,
    /// Events that the backend accepted during the call.
    pub delivered: u64,
    /// Events that still wait; after a shutdown, events that were given up.
    pub undelivered: u64,
    /// After a shutdown, events in the durable queue that are left to the next process.
    pub kept: u64,
}

/// The result of [`Analytics::flush`](crate::Analytics::flush) or
/// [`Analytics::shutdown`](crate::Analytics::shutdown).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeliveryReport {
    /// One entry per backend, in the order in which they were added.
    pub backends: Vec<BackendReport>,
}

impl DeliveryReport {
    /// Returns whether no event waits any more.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.backends.iter().all(|backend| backend.undelivered == 0 && backend.kept == 0)
    }
}

impl Sink {
    /// Begins to deliver all that was captured until now. The future needs a runtime.
    pub(crate) fn flush(
        self: &Arc<Self>,
        deadline: Duration,
    ) -> impl Future<Output = DeliveryReport> + Send + use<> {
        let sink = self.clone();
        let (before, last_events) = (sink.stats(), sink.last_events());
        async move {
            // Out of time is not an error: the report says what still waits.
            let _ = timeout(deadline, sink.try_all(FlushKind::Flush, last_events)).await;
            sink.report_since(&before)
        }
    }

    pub(crate) async fn shutdown(&self, deadline: Duration) -> DeliveryReport {
        let before = self.stats();
        self.intake.close();
        // Out of time is not an error: the report says what was left.
        let all = self.try_all(FlushKind::Shutdown, self.last_events());
        let _ = timeout(deadline, all).await;
        self.stop();
        if let Some(journal) = &self.journal {
            // The next start finds the file free. A shutdown does not wait for a disk that hangs.
            let _ = timeout(LONGEST_CLOSE, journal.closed()).await;
        }
        self.report_of_the_end(&before)
    }

    /// Reports what a shutdown did, once what was captured last is written down.
    fn report_of_the_end(&self, before: &Stats) -> DeliveryReport {
        let given_up = |stats: &BackendStats| {
            stats.dropped.get(&DropReason::Shutdown).copied().unwrap_or_default()
        };
        let mut report = self.report_since(before);
        let now = self.stats();
        let durable_from = self.durable_from();
        for (number, backend) in report.backends.iter_mut().enumerate() {
            let (Some(lane), Some(now), Some(before)) =
                (self.lanes.get(number), now.backends.get(number), before.backends.get(number))
            else {
                continue;
            };
            // The task may not have ended, as when the disk hangs.
            let waits = if lane.has_ended() { 0 } else { lane.lock().durable(durable_from) };
            backend.kept = now.kept + waits;
            backend.undelivered = (now.queued + now.in_flight).saturating_sub(waits)
                + given_up(now)
                - given_up(before);
        }
        report
    }

    /// Returns the number that the newest event has, or will have, in each lane.
    fn last_events(&self) -> Vec<u64> {
        let draining = self.draining();
        let waiting = (draining.events + self.intake.lock().len()) as u64;
        self.lanes.iter().map(|lane| lane.last_event() + waiting).collect()
    }

    /// Tries to deliver everything up to `last_events`.
    async fn try_all(&self, kind: FlushKind, last_events: Vec<u64>) {
        if self.stop.is_stopped() {
            return;
        }
        self.drained().await;
        let flushes: Vec<_> = self
            .lanes
            .iter()
            .zip(last_events)
            .map(|(lane, last_event)| lane.ask_flush(kind, last_event))
            .collect();
        self.on_each_lane(|number, lane| lane.flushed(flushes[number])).await;
    }

    pub(crate) fn report_since(&self, before: &Stats) -> DeliveryReport {
        let backends = self.stats().backends.into_iter().zip(&before.backends);
        DeliveryReport {
            backends: backends
                .map(|(now, before)| BackendReport {
                    backend: now.name,
                    delivered: now.delivered - before.delivered,
                    undelivered: now.queued + now.in_flight,
                    kept: 0,
                })
                .collect(),
        }
    }
}
