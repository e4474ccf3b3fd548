//! The task that sends erasures, one at a time.

use std::sync::Arc;

use tokio::time::{sleep_until, timeout};

use super::shared::Shared;
use crate::{erasure::ledger::Next, spawn, stop::Stop};

/// Starts the task, unless no erasure can ever be sent.
pub(super) fn start(shared: &Arc<Shared>, stop: &Arc<Stop>) {
    let erasures = shared.erasures.clone();
    if erasures.can_send_nothing() {
        return;
    }
    let (weak, stop) = (Arc::downgrade(shared), stop.clone());
    let transitions = shared.transitions.clone();
    spawn::detach(&shared.runtime, async move {
        let mut were_pending = erasures.are_pending();
        loop {
            // Before the state is read: a transition after it is not missed.
            let transition = transitions.notified();
            let Some(shared) = weak.upgrade() else { return };
            let is_removing = shared.machine().is_removing();
            let next = erasures.poll(is_removing);
            let are_pending = erasures.are_pending();
            if std::mem::replace(&mut were_pending, are_pending) != are_pending {
                shared.wake_readers();
            }
            match next {
                Next::Try(wanted) => {
                    let (key, sink) = (wanted.key, shared.sink.clone());
                    let cut = shared.account_data.request_timeout();
                    drop(shared);
                    let tried = async {
                        if !sink.is_open() {
                            // What was in flight at the withdrawal must not arrive afterwards.
                            let _ = timeout(cut, sink.disconnected()).await;
                        }
                        // The file has the try before it is made.
                        erasures.tried_to_keep().await;
                        erasures.send(wanted).await
                    };
                    let answer = tokio::select! {
                        biased;
                        () = stop.stopped() => return,
                        answer = tried => answer,
                    };
                    erasures.answered(key, answer);
                }
                Next::Wait(until) => {
                    drop(shared);
                    let time = async {
                        match until {
                            Some(until) => sleep_until(until).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        biased;
                        () = stop.stopped() => return,
                        () = erasures.woken() => {}
                        () = transition => {}
                        () = time => {}
                    }
                }
            }
        }
    });
}
