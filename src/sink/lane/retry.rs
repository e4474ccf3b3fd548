//! Decides how to continue after a failed attempt, without I/O.

use std::time::Duration;

use crate::{backend::DeliveryError, sink::stats::DropReason};

/// The wait after the first failure, before jitter.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// The longest wait that a backend can ask for. A wrong `Retry-After` must not stop
/// delivery for days.
const LONGEST_ASKED_WAIT: Duration = Duration::from_secs(3600);
/// The wait after a failure that only a change of the configuration can end.
const PARKED: Duration = Duration::from_secs(3600);
/// The shortest wait after a failure, even before a flush or a shutdown.
const FLOOR: Duration = Duration::from_millis(100);
/// The longest wait before a flush makes an attempt. An app that flushes in a loop during
/// an outage causes one request in this time.
const LONGEST_FLUSH_WAIT: Duration = Duration::from_secs(5);

/// A decision about a batch that was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryDecision {
    /// Drop the event.
    Drop(DropReason),
    /// Drop all events, without a search for the cause.
    DropBatch,
    /// Send the first half by itself.
    Halve,
    /// Keep all events, and wait until the configuration may have changed.
    Park(Wait),
    Wait(Wait),
}

/// The time to wait before the next attempt, depending on its cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    /// The wait before the next scheduled attempt.
    pub(super) scheduled: Duration,
    /// The wait before an attempt for a flush.
    pub(super) flush: Duration,
    /// The wait before an attempt for a shutdown.
    pub(super) shutdown: Duration,
}

impl Wait {
    /// Returns the wait after `failures` failures in a row. The longer an outage lasts,
    /// the longer are the waits before scheduled attempts and flushes.
    fn after(failures: u32, jitter: f64) -> Self {
        Self {
            scheduled: backoff(failures, jitter),
            flush: (nominal(failures) / 2).clamp(FLOOR, LONGEST_FLUSH_WAIT),
            shutdown: FLOOR,
        }
    }

    /// Returns the wait after a service asked for one. The usual wait is the minimum, even if
    /// the service asks for none.
    pub(super) fn asked(failures: u32, jitter: f64, retry_after: Option<Duration>) -> Self {
        let asked = retry_after.unwrap_or_default().min(LONGEST_ASKED_WAIT);
        Self::after(failures, jitter).at_least(asked)
    }

    const fn parked() -> Self {
        Self { scheduled: PARKED, flush: LONGEST_FLUSH_WAIT, shutdown: FLOOR }
    }

    /// Returns a wait that nothing shortens.
    pub(super) const fn fixed(time: Duration) -> Self {
        Self { scheduled: time, flush: time, shutdown: time }
    }

    fn at_least(self, time: Duration) -> Self {
        Self {
            scheduled: self.scheduled.max(time),
            flush: self.flush.max(time),
            shutdown: self.shutdown.max(time),
        }
    }
}

/// Decides about a batch of `events` events after `failures` failures in a row, including
/// this one. `jitter` is at least 0 and below 1.
///
/// Temporary failures never drop an event, however many there are; only its age does.
pub(super) fn decide(
    error: &DeliveryError,
    events: usize,
    failures: u32,
    jitter: f64,
) -> RetryDecision {
    match error {
        // `Partial` and `PerEvent` are accounted for before this is asked.
        DeliveryError::Partial(_)
        | DeliveryError::PerEvent { .. }
        | DeliveryError::Refused { .. } => RetryDecision::DropBatch,
        DeliveryError::Rejected(_) => refused(events, DropReason::Rejected),
        DeliveryError::TooLarge(_) => refused(events, DropReason::TooLarge),
        DeliveryError::Unauthorized(_) | DeliveryError::Misconfigured(_) => {
            RetryDecision::Park(Wait::parked())
        }
        DeliveryError::Throttled { retry_after, .. } => {
            RetryDecision::Wait(Wait::asked(failures, jitter, *retry_after))
        }
        DeliveryError::Transient(_) => RetryDecision::Wait(Wait::after(failures, jitter)),
    }
}

/// Decides about a batch that the backend refused, or that made it panic. The batch is
/// halved until the faulty event is alone, which is dropped for `reason`.
pub(super) fn refused(events: usize, reason: DropReason) -> RetryDecision {
    if events <= 1 { RetryDecision::Drop(reason) } else { RetryDecision::Halve }
}

/// Returns a wait that doubles with each of the `failures` up to a cap, with equal jitter.
/// Half of it is fixed, so that no attempt follows at once. The other half is random, so
/// that clients that lost a backend at the same moment do not all return at once.
pub(super) fn backoff(failures: u32, jitter: f64) -> Duration {
    nominal(failures).mul_f64(0.5 + jitter / 2.0)
}

fn nominal(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> crate::backend::BoxError {
        "cause".into()
    }

    fn throttled(retry_after: Option<u64>) -> DeliveryError {
        DeliveryError::Throttled {
            retry_after: retry_after.map(Duration::from_secs),
            source: source(),
        }
    }

    fn wait(scheduled: u64, flush: u64, shutdown: u64) -> Wait {
        let [scheduled, flush, shutdown] = [scheduled, flush, shutdown].map(Duration::from_millis);
        Wait { scheduled, flush, shutdown }
    }

    #[test]
    fn each_class_of_failure_has_its_decision() {
        use RetryDecision::{Drop, DropBatch, Halve, Park};

        let parked = Park(wait(3_600_000, 5_000, 100));
        let transient = RetryDecision::Wait(wait(1_500, 1_000, 100));
        for (error, events, failures, decision) in [
            (DeliveryError::Refused { status: 404, source: source() }, 5, 1, DropBatch),
            (DeliveryError::Rejected(source()), 5, 1, Halve),
            (DeliveryError::Rejected(source()), 1, 1, Drop(DropReason::Rejected)),
            (DeliveryError::TooLarge(source()), 2, 1, Halve),
            (DeliveryError::TooLarge(source()), 1, 1, Drop(DropReason::TooLarge)),
            (DeliveryError::Unauthorized(source()), 5, 1, parked),
            (DeliveryError::Misconfigured(source()), 1, 9, parked),
            (DeliveryError::Transient(source()), 5, 2, transient),
            (throttled(None), 5, 2, transient),
            (throttled(Some(0)), 5, 2, transient),
            (throttled(Some(7)), 5, 1, RetryDecision::Wait(Wait::fixed(Duration::from_secs(7)))),
            (throttled(Some(7)), 5, 9, RetryDecision::Wait(wait(192_000, 7_000, 7_000))),
            (throttled(Some(999_999)), 5, 1, RetryDecision::Wait(Wait::fixed(LONGEST_ASKED_WAIT))),
        ] {
            assert_eq!(decide(&error, events, failures, 0.5), decision, "{error:?}, {failures}");
        }
    }

    #[test]
    fn temporary_failures_never_drop_an_event() {
        for failures in (0..100).chain([u32::MAX]) {
            for error in [DeliveryError::Transient(source()), throttled(None), throttled(Some(7))] {
                let decision = decide(&error, 1, failures, 0.5);
                assert!(matches!(decision, RetryDecision::Wait(_)), "{failures}: {decision:?}");
            }
        }
    }

    #[test]
    fn the_wait_doubles_up_to_a_cap_and_half_of_it_is_random() {
        let wait = |failures, jitter| backoff(failures, jitter).as_millis();
        assert_eq!([wait(1, 0.0), wait(2, 0.0), wait(3, 0.0)], [500, 1000, 2000]);
        assert_eq!([wait(1, 0.5), wait(2, 0.5), wait(3, 0.5)], [750, 1500, 3000]);
        assert_eq!([wait(40, 0.0), wait(40, 0.5)], [150_000, 225_000]);
        assert_eq!([wait(0, 0.5), wait(u32::MAX, 0.5)], [750, 225_000]);
    }

    #[test]
    fn the_wait_before_a_flush_is_half_of_the_scheduled_wait_up_to_five_seconds() {
        let wait = |failures| Wait::after(failures, 0.9).flush.as_millis();
        assert_eq!([1, 2, 3, 4, 5, 40].map(wait), [500, 1000, 2000, 4000, 5000, 5000]);
    }
}
