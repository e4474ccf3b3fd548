//! The task of a watch: it waits for the gate, and reports while it is open.

#[cfg(all(test, feature = "testing"))]
mod tests;

use std::{pin::pin, sync::Arc};

use futures_util::{FutureExt as _, StreamExt as _};

use super::{
    open::{ClientSource, Open, subscribe},
    progress::Progress,
    signals::HealthSignals,
    state::HealthState,
};
use crate::{gate::Pass, matrix::health, sink::Sink, stop::Stop};

/// What the task of a watch works with.
pub(crate) struct Watch {
    pub(crate) client: ClientSource,
    pub(crate) sink: Arc<Sink>,
    pub(crate) signals: HealthSignals,
    pub(crate) progress: Arc<Progress>,
    /// Given when the last handle is dropped.
    pub(crate) stop: Arc<Stop>,
}

/// Runs until the watch is stopped or the last handle is dropped.
pub(crate) fn run(watch: Watch) -> impl Future<Output = ()> + Send {
    // Made outside the future, because a runtime may end before it polls the future.
    let ended = EndWhenDropped(watch.progress.clone());
    async move {
        let mut open = Open::new(watch.sink.clone(), watch.signals);
        tokio::select! {
            biased;
            () = watch.stop.stopped() => {}
            () = watch.progress.stop.stopped() => {}
            () = watch.follow_gate(&mut open) => {}
        }
        open.close();
        watch.progress.set(HealthState::Stopped, open.stats());
        drop(ended);
    }
}

impl Watch {
    /// Observes signals whenever the gate is open.
    async fn follow_gate(&self, open: &mut Open) {
        loop {
            let pass = self.sink.gate().opened().await;
            if self.observe(open, &pass).await.is_none() {
                return;
            }
            open.close();
            self.progress.set(HealthState::WaitingForConsent, open.stats());
        }
    }

    /// Observes signals until `pass` is revoked. Returns `None` if the client is gone.
    async fn observe(&self, open: &mut Open, pass: &Pass) -> Option<()> {
        let mut revoked = pin!(self.sink.gate().revoked(pass));
        open.begin(pass.epoch);
        let cache = health::event_cache(&(self.client)()?);
        let subscribed = async { Some(subscribe(&(self.client)()?, &cache, self.signals).await) };
        let mut signals = tokio::select! {
            biased;
            () = &mut revoked => return Some(()),
            signals = subscribed => signals?,
        };
        open.publish(&self.progress);
        tokio::select! {
            biased;
            () = revoked => {}
            () = open.report(&mut signals, &self.client, &self.progress) => return None,
        }
        // A soft logout closes the gate, and may be known here only afterwards.
        if let Some(client) = (self.client)() {
            while let Some(Some(signal)) = signals.next().now_or_never() {
                open.handle_session_change(&client, &signal);
            }
        }
        Some(())
    }
}

/// Says that the watch has ended, for whatever reason.
struct EndWhenDropped(Arc<Progress>);

impl Drop for EndWhenDropped {
    fn drop(&mut self) {
        self.0.set_state(HealthState::Stopped);
    }
}
