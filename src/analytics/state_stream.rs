//! The stream of consent states, for the app.

use std::sync::Arc;

use futures_core::Stream;
use futures_util::{StreamExt as _, stream};

use super::shared::Shared;
use crate::consent::state::ConsentState;

/// The state now and each one that follows, until `inner` is dropped. An equal state is
/// told again if the ID has changed since: the reader may not have been polled in between.
///
/// The states are read from the machine, and not sent by it: a reader brings a waker of
/// its own, which may call anything of this crate, so it must run after the machine was
/// unlocked; and then only a reader that looks sees the states in their order.
pub(crate) fn stream(
    inner: &Arc<Shared>,
) -> impl Stream<Item = ConsentState> + Send + Unpin + use<> {
    let reader = (Arc::downgrade(inner), inner.transitions.clone(), None);
    let states = stream::unfold(reader, |(inner, transitions, told)| async move {
        let signal = transitions.clone();
        loop {
            // Before the state is read: a transition after it is not missed.
            let transition = signal.notified();
            let now = {
                let inner = inner.upgrade()?;
                let machine = inner.machine();
                (machine.state(), machine.epoch())
            };
            if told != Some(now) {
                return Some((now.0, (inner, transitions, Some(now))));
            }
            transition.await;
        }
    });
    Box::pin(states.fuse())
}
