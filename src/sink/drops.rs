//! The stream of dropped events, for the app.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use futures_util::{Stream, StreamExt as _, stream};
use serde::Serialize;

use super::{
    Sink,
    stats::{DropReason, Stats},
};

/// The number of events of one backend that were dropped for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Dropped {
    /// The backend's [`name`](crate::Backend::name).
    pub backend: &'static str,
    /// The reason.
    pub reason: DropReason,
    /// The number of events; at least 1.
    pub events: u64,
}

/// Returns a stream of the events that are dropped from now on, until the sink has ended.
///
/// Nothing is kept for a slow reader: its next items are the growth of the counters since it
/// last looked.
pub(crate) fn stream(sink: Arc<Sink>) -> impl Stream<Item = Dropped> + Send + Unpin + use<> {
    let told = sink.stats();
    let reader = (sink, told, VecDeque::new());
    let drops = stream::unfold(reader, |(sink, mut told, mut ready)| async move {
        let signal = sink.drop_signal().clone();
        loop {
            if let Some(dropped) = ready.pop_front() {
                return Some((dropped, (sink, told, ready)));
            }
            // Both before the counters are read: a later drop is not missed.
            let raised = signal.raised();
            let has_ended = sink.has_ended();
            let now = sink.stats();
            ready = difference(&told, &now);
            told = now;
            if ready.is_empty() {
                if has_ended {
                    return None;
                }
                raised.await;
            }
        }
    });
    Box::pin(drops.fuse())
}

fn difference(before: &Stats, now: &Stats) -> VecDeque<Dropped> {
    let none = BTreeMap::new();
    let before = before.backends.iter().map(|backend| &backend.dropped);
    let pairs = now.backends.iter().zip(before.chain(std::iter::repeat(&none)));
    pairs
        .flat_map(|(backend, before)| {
            backend.dropped.iter().map(move |(reason, count)| Dropped {
                backend: backend.name,
                reason: *reason,
                events: count - before.get(reason).copied().unwrap_or_default(),
            })
        })
        .filter(|dropped| dropped.events > 0)
        .collect()
}
