//! Captures in one epoch.

use std::sync::Arc;

use crate::{event::AnalyticsEvent, sink::Sink};

/// Captures events that belong to one epoch, and nothing once another has begun.
#[derive(Clone)]
pub(super) struct Capture {
    pub(super) sink: Arc<Sink>,
    pub(super) epoch: u64,
}

impl Capture {
    pub(super) fn event<E: AnalyticsEvent>(&self, event: &E) {
        // A change of the epoch right after the check is found where events leave the intake.
        if self.sink.capture_epoch() == Some(self.epoch) && !self.sink.is_closed() {
            self.sink.capture(self.epoch, None, event);
        }
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
        let backend = Box::new(JsonLines::new(tokio::io::sink()));
        let sink =
            Arc::new(Sink::new(vec![backend], Limits::default(), Arc::new(Guard::default())));
        let capture = Capture { sink: sink.clone(), epoch: 1 };
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
        sink.close();
        Capture { sink: sink.clone(), epoch: 2 }.event(&KeyUploadClash {});
        assert_eq!(captured(&sink), 2);
    }
}
