//! The task of a watch: it waits for the gate, and reports while it is open.

#[cfg(all(test, feature = "testing"))]
mod tests;

use std::{pin::pin, sync::Arc};

use super::{
    open::{ClientSource, Open, subscribe},
    progress::Progress,
    signals::HealthSignals,
    state::HealthState,
};
use crate::{gate::Pass, matrix::health, sink::Sink, stop::Stop};

/// The parts that the task of a watch works with.
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
    /// Observes signals whenever the gate is open, until the client is gone.
    async fn follow_gate(&self, open: &mut Open) {
        let gate = self.sink.gate();
        loop {
            let pass = tokio::select! {
                biased;
                pass = gate.opened() => pass,
                () = open.epoch_ended() => {
                    open.forget_epoch();
                    gate.opened().await
                }
            };
            if self.observe(open, &pass).await == End::ClientGone {
                return;
            }
            open.close();
            self.progress.set(HealthState::WaitingForConsent, open.stats());
        }
    }

    /// Observes signals until `pass` is revoked or the client is gone.
    async fn observe(&self, open: &mut Open, pass: &Pass) -> End {
        let mut revoked = pin!(self.sink.gate().revoked(pass));
        open.begin(pass.epoch);
        let Some(client) = (self.client)() else { return End::ClientGone };
        let cache = health::event_cache(&client);
        let mut signals = tokio::select! {
            biased;
            () = &mut revoked => return End::Revoked,
            signals = subscribe(&client, &cache, self.signals) => signals,
        };
        drop(client);
        open.publish(&self.progress);
        tokio::select! {
            biased;
            () = revoked => {}
            () = open.report(&mut signals, &self.client, &self.progress) => return End::ClientGone,
        }
        if let Some(client) = (self.client)() {
            open.drain(&client, &mut signals);
        }
        End::Revoked
    }
}

/// Why observation has ended.
#[derive(PartialEq, Eq)]
enum End {
    Revoked,
    ClientGone,
}

/// Says that the watch has ended, for whatever reason.
struct EndWhenDropped(Arc<Progress>);

impl Drop for EndWhenDropped {
    fn drop(&mut self) {
        self.0.set_state(HealthState::Stopped);
    }
}
