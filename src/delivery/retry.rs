//! What to do after a backend's answer: decisions as data, without I/O.

use std::time::Duration;

use crate::{DeliveryError, stats::DropReason};

/// The wait after the first failure.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// The longest wait that a backend can ask for: more would be an outage of its
/// own making.
const LONGEST_ASKED_WAIT: Duration = Duration::from_secs(3600);
/// How long a backend that refuses the app's credentials is left alone.
const PARKED: Duration = Duration::from_secs(3600);
/// Tries for one batch: with the waits above, two to three hours.
const MAX_TRIES: u32 = 40;

/// What to do with a batch that was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryDecision {
    Drop(DropReason),
    /// Try the first half alone, at once.
    Halve,
    /// Leave the backend alone for long: it refuses the credentials.
    Park(Duration),
    Wait(Duration),
    /// Wait because the backend asked for it; a flush does not shorten this.
    WaitAsked(Duration),
}

/// Decides about a batch of `events` events after its `tries`-th try. `jitter`
/// is at least 0 and below 1.
pub(super) fn decide(
    error: &DeliveryError,
    events: usize,
    tries: u32,
    jitter: f64,
) -> RetryDecision {
    let alone = events <= 1;
    match error {
        DeliveryError::Permanent(_) => RetryDecision::Drop(DropReason::Rejected),
        DeliveryError::Rejected(_) if alone => RetryDecision::Drop(DropReason::Rejected),
        DeliveryError::TooLarge(_) if alone => RetryDecision::Drop(DropReason::TooLarge),
        DeliveryError::Rejected(_) | DeliveryError::TooLarge(_) => RetryDecision::Halve,
        DeliveryError::Misconfigured(_) | DeliveryError::Unauthorized(_) => {
            RetryDecision::Park(PARKED)
        }
        DeliveryError::Throttled { .. } | DeliveryError::Transient(_) if tries >= MAX_TRIES => {
            RetryDecision::Drop(DropReason::GaveUp)
        }
        DeliveryError::Throttled { retry_after: Some(asked), .. } => {
            // A backend that asks for no wait at all gets the one that it would else.
            RetryDecision::WaitAsked((*asked).max(backoff(tries, jitter)).min(LONGEST_ASKED_WAIT))
        }
        DeliveryError::Throttled { retry_after: None, .. } | DeliveryError::Transient(_) => {
            RetryDecision::Wait(backoff(tries, jitter))
        }
    }
}

/// How long to leave a backend alone that has refused `refusals` batches in a row.
///
/// To find one faulty event of a hundred takes seven; a backend that refuses
/// everything is not asked thousands of times.
pub(super) fn pause_after_refusals(refusals: u32, jitter: f64) -> Option<Duration> {
    const FREE: u32 = 10;

    refusals.checked_sub(FREE).filter(|more| *more > 0).map(|more| backoff(more, jitter))
}

/// Exponential, with full jitter: many clients that lost one backend at the same
/// moment do not come back at the same moment.
fn backoff(tries: u32, jitter: f64) -> Duration {
    let doublings = tries.saturating_sub(1).min(16);
    FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT).mul_f64(jitter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> crate::BoxError {
        "cause".into()
    }

    fn throttled(retry_after: Option<u64>) -> DeliveryError {
        DeliveryError::Throttled {
            retry_after: retry_after.map(Duration::from_secs),
            source: source(),
        }
    }

    #[test]
    fn each_class_of_failure_has_its_decision() {
        use RetryDecision::{Drop, Halve, Park, Wait, WaitAsked};

        let second = Duration::from_secs(1);
        for (error, events, tries, decision) in [
            (DeliveryError::Permanent(source()), 5, 1, Drop(DropReason::Rejected)),
            (DeliveryError::Rejected(source()), 5, 1, Halve),
            (DeliveryError::Rejected(source()), 1, 1, Drop(DropReason::Rejected)),
            (DeliveryError::TooLarge(source()), 2, 1, Halve),
            (DeliveryError::TooLarge(source()), 1, 1, Drop(DropReason::TooLarge)),
            (DeliveryError::Misconfigured(source()), 5, 1, Park(PARKED)),
            (DeliveryError::Unauthorized(source()), 5, 1, Park(PARKED)),
            (DeliveryError::Transient(source()), 5, 2, Wait(second)),
            (DeliveryError::Transient(source()), 5, MAX_TRIES, Drop(DropReason::GaveUp)),
            (throttled(None), 5, 2, Wait(second)),
            (throttled(Some(7)), 5, 1, WaitAsked(7 * second)),
            (throttled(Some(0)), 5, 2, WaitAsked(second)),
            (throttled(Some(999_999)), 5, 1, WaitAsked(LONGEST_ASKED_WAIT)),
            (throttled(Some(7)), 5, MAX_TRIES, Drop(DropReason::GaveUp)),
        ] {
            assert_eq!(decide(&error, events, tries, 0.5), decision, "{error:?}, {tries}");
        }
    }

    #[test]
    fn a_backend_that_refuses_everything_is_left_alone_for_longer_and_longer() {
        assert_eq!(pause_after_refusals(10, 0.5), None);
        assert_eq!(pause_after_refusals(11, 0.5), Some(Duration::from_millis(500)));
        assert_eq!(pause_after_refusals(40, 0.5), Some(Duration::from_secs(150)));
    }

    #[test]
    fn the_wait_doubles_up_to_a_cap_and_is_spread_from_nothing_to_all_of_it() {
        let wait = |tries, jitter| backoff(tries, jitter).as_millis();
        assert_eq!([wait(1, 0.5), wait(2, 0.5), wait(3, 0.5)], [500, 1000, 2000]);
        assert_eq!([wait(40, 0.0), wait(40, 0.5)], [0, 150_000]);
        assert_eq!(wait(u32::MAX, 0.5), 150_000);
    }
}
