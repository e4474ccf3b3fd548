//! Attempts that the app requests.

use tokio::time::{Instant, sleep_until};

use super::{Lane, retry_state::Pause};
use crate::{gate::Gate, sink::limits::Limits, stop::Stop};

/// The call that requests an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlushKind {
    Flush,
    /// The last attempt of this process, which waits less than a flush does.
    Shutdown,
}

/// One call of `flush()`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flush {
    number: u64,
    /// The number of the last event that the flush waits for.
    last_event: u64,
}

impl Lane {
    /// Returns the number of the last event that this lane was offered.
    pub(crate) fn last_event(&self) -> u64 {
        self.lock().last_number
    }

    /// Requests an attempt to deliver all events up to `last_event`, if the backend may be
    /// contacted now.
    pub(crate) fn ask_flush(&self, kind: FlushKind, last_event: u64) -> Flush {
        let flush = {
            let mut state = self.lock();
            state.flush_asked += 1;
            state.shutting_down |= kind == FlushKind::Shutdown;
            Flush { number: state.flush_asked, last_event }
        };
        self.wake();
        flush
    }

    /// Waits until all events of `flush` have left, or an attempt has failed, or no
    /// attempt is allowed now.
    pub(crate) async fn flushed(&self, flush: Flush) {
        self.until(|state| {
            state.flush_done >= flush.number
                || state.first_number().is_none_or(|first| first > flush.last_event)
        })
        .await;
    }

    /// Waits, and returns `true` when the pause is over. Returns `false` when there may be
    /// other work to do first.
    pub(super) async fn pause_is_over(
        &self,
        pause: Pause,
        gate: &Gate,
        limits: &Limits,
        stop: &Stop,
    ) -> bool {
        let expiry = {
            let mut state = self.lock();
            if state.flush_asked > state.flush_done {
                if gate.is_open() && pause.may_be_cut_short(Instant::now(), state.shutting_down) {
                    return true;
                }
                state.flush_done = state.flush_asked;
            }
            state.queue.next_expiry(limits.queue_age)
        };
        let until = expiry.map_or(pause.scheduled, |expiry| expiry.min(pause.scheduled));
        self.progressed.notify_waiters();
        tokio::select! {
            biased;
            () = stop.stopped() => false,
            () = sleep_until(until) => until == pause.scheduled,
            () = self.wake.notified() => false,
        }
    }
}
