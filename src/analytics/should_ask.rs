//! The wait until it is known whether to ask the user.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{calls::Call, shared::Shared};
use crate::consent::state::Prompt;

/// Waits until it is known whether to ask, and returns that. The future keeps nothing alive:
/// it ends with the last handle, with the runtime, and when delivery is shut down.
pub(crate) fn should_ask(
    inner: &Arc<Shared>,
    calls: mpsc::UnboundedSender<Call>,
) -> impl Future<Output = bool> + Send + use<> {
    let (inner, transitions) = (Arc::downgrade(inner), inner.transitions.clone());
    async move {
        loop {
            // Before the state is read: a transition after it is not missed.
            let transition = transitions.notified();
            match inner.upgrade() {
                Some(inner) if !inner.sink.is_closed() => {
                    let prompt = inner.machine().state().prompt();
                    if prompt != Prompt::Wait {
                        return prompt == Prompt::Ask;
                    }
                }
                _ => return false,
            }
            tokio::select! {
                () = transition => {}
                // The consent task has ended: the state does not change any more.
                () = calls.closed() => return false,
            }
        }
    }
}
