//! The stream of consent states, for the app.

use std::sync::Arc;

use futures_core::Stream;
use futures_util::{StreamExt as _, stream};

use super::shared::Shared;
use crate::consent::state::ConsentState;

/// Returns a stream of the state now and of each one that follows, until `inner` is dropped. An
/// equal state is repeated if the ID has changed since: the reader may not have been polled in
/// between.
///
/// The states are read from the machine, and not sent by it. The waker of a reader may call any
/// function of this crate, so it must run after the machine was unlocked; states that were sent
/// from there could arrive out of order.
pub(crate) fn stream(
    inner: &Arc<Shared>,
) -> impl Stream<Item = ConsentState> + Send + Unpin + use<> {
    let reader = (Arc::downgrade(inner), inner.transitions.clone(), None);
    let states = stream::unfold(reader, |(inner, transitions, told)| async move {
        let signal = transitions.clone();
        loop {
            // Before the state is read: a transition after it is not missed.
            let transition = signal.notified();
            let now = inner.upgrade()?.state_and_epoch();
            if told != Some(now) {
                return Some((now.0, (inner, transitions, Some(now))));
            }
            transition.await;
        }
    });
    Box::pin(states.fuse())
}
