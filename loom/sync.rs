//! A stand-in for `tokio::sync`.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

// Used only by `JsonLines`, which no model runs.
pub(crate) use tokio_real::sync::Mutex;

/// A stand-in for tokio's `Notify`, with all guarantees that the sink relies on. A
/// `notify_one` without a waiter is stored for the next one; at most one is stored. A
/// `notify_waiters` reaches each [`Notified`] that exists, even if it was never polled.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    state: loom::sync::Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    permit: bool,
    /// The number of calls of `notify_waiters`.
    rounds: u64,
    next_waiter: u64,
    waiters: Vec<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    notified: bool,
    waker: Waker,
}

/// The future of [`Notify::notified`].
#[derive(Debug)]
pub(crate) struct Notified<'a> {
    notify: &'a Notify,
    made_in: u64,
    waiter: Option<u64>,
}

/// A stand-in for `tokio::sync::futures`.
pub(crate) mod futures {
    pub(crate) use super::Notified;
}

impl Notify {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn notify_one(&self) {
        let waker = self.lock().notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn notify_waiters(&self) {
        let waiters = {
            let mut state = self.lock();
            state.rounds += 1;
            std::mem::take(&mut state.waiters)
        };
        for waiter in waiters {
            waiter.waker.wake();
        }
    }

    pub(crate) fn notified(&self) -> Notified<'_> {
        Notified { notify: self, made_in: self.lock().rounds, waiter: None }
    }

    fn lock(&self) -> loom::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn notify_one(&mut self) -> Option<Waker> {
        if let Some(waiter) = self.waiters.iter_mut().find(|waiter| !waiter.notified) {
            waiter.notified = true;
            return Some(waiter.waker.clone());
        }
        self.permit = true;
        None
    }
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let notify = self.notify;
        let mut state = notify.lock();
        if state.rounds != self.made_in {
            // If this waiter was also notified by `notify_one`, that goes to the next one.
            self.waiter = None;
            return Poll::Ready(());
        }
        let Some(number) = self.waiter else {
            if std::mem::take(&mut state.permit) {
                return Poll::Ready(());
            }
            let number = state.next_waiter;
            state.next_waiter += 1;
            let waker = context.waker().clone();
            state.waiters.push(Waiter { number, notified: false, waker });
            self.waiter = Some(number);
            return Poll::Pending;
        };
        let place = state.waiters.iter().position(|waiter| waiter.number == number);
        let place = place.expect("a waiter is registered until all are notified");
        if state.waiters[place].notified {
            state.waiters.remove(place);
            self.waiter = None;
            return Poll::Ready(());
        }
        state.waiters[place].waker.clone_from(context.waker());
        Poll::Pending
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        let Some(number) = self.waiter else { return };
        let waker = {
            let mut state = self.notify.lock();
            let place = state.waiters.iter().position(|waiter| waiter.number == number);
            let notified = place.is_some_and(|place| state.waiters.remove(place).notified);
            // A waiter that was notified but never polled again passes the notification on.
            if notified { state.notify_one() } else { None }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
