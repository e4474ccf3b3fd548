//! Captures in one epoch.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{event::AnalyticsEvent, sink::Sink};

/// Captures events that belong to one epoch, and nothing once another has begun.
pub(super) struct Capture {
    pub(super) sink: Arc<Sink>,
    pub(super) epoch: u64,
    /// The number of events that came too late.
    refused: AtomicU64,
}

impl Capture {
    pub(super) fn new(sink: Arc<Sink>, epoch: u64) -> Self {
        Self { sink, epoch, refused: AtomicU64::new(0) }
    }

    pub(super) fn event<E: AnalyticsEvent>(&self, event: &E) {
        // A change of the epoch right after the check is found where events leave the intake.
        if self.is_current() && !self.sink.is_closed() {
            self.sink.capture(self.epoch, None, event);
        } else {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns whether the epoch has not ended.
    pub(super) fn is_current(&self) -> bool {
        self.sink.capture_epoch() == Some(self.epoch)
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        analytics_id::AnalyticsId,
        backend::JsonLines,
        gate::{Phase, WipeReason},
        guard::Guard,
        health::events::KeyUploadClash,
        sink::limits::Limits,
    };

    fn captured(sink: &Sink) -> u64 {
        sink.stats().backends[0].captured
    }

    #[test]
    fn an_event_of_an_earlier_epoch_or_at_a_closed_gate_is_not_captured() {
        let backend = JsonLines::new(tokio::io::sink());
        let sink = Arc::new(Sink::new(
            vec![backend.into()],
            Limits::default(),
            Arc::new(Guard::default()),
        ));
        let capture = Capture::new(sink.clone(), 1);
        capture.event(&KeyUploadClash {});
        assert_eq!(captured(&sink), 0);
        for (phase, epoch, expected) in [
            (Phase::Open, 1, 1),
            (Phase::Holding, 1, 2),
            (Phase::Closed, 1, 2),
            (Phase::Open, 2, 2),
        ] {
            let wipe = (epoch == 2).then_some(WipeReason::Withdrawn);
            drop(sink.set_gate(phase, epoch, Some(AnalyticsId::random()), wipe));
            capture.event(&KeyUploadClash {});
            assert_eq!(captured(&sink), expected, "{phase:?} in epoch {epoch}");
        }
        assert_eq!(capture.refused(), 3);
        sink.close();
        let capture = Capture::new(sink.clone(), 2);
        capture.event(&KeyUploadClash {});
        assert_eq!((captured(&sink), capture.refused()), (2, 1));
    }
}
