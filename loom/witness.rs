//! A backend that checks everything it receives against the order of opt-outs.

use std::{
    collections::{BTreeMap, VecDeque},
    future::{pending, poll_fn},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use loom::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{
    backend::{Backend, Batch, DeliveryError},
    event::OutgoingEvent,
};

/// The response of a backend to one batch. A backend without responses left accepts all
/// batches.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// A temporary failure.
    Failure,
    /// A refusal of the batch, which halves it.
    Refusal,
    Never,
}

/// The shared record of all backends of a model.
///
/// The eras are loom's atomics, so that loom tries all orders of their accesses. The
/// accesses are relaxed, so that they do not order anything else.
#[derive(Debug)]
pub(crate) struct Witness {
    /// The app's epoch. It rises when an `opt_out` is polled, before anything else happens.
    era: AtomicU64,
    /// The last era that ended with an `opt_out` that has returned.
    over: AtomicU64,
    facts: Mutex<Facts>,
}

#[derive(Debug, Default)]
struct Facts {
    /// The era whose ID was sent over the open connection.
    connection: Option<u64>,
    /// The era of a connection that is closing.
    closing: Option<u64>,
    answers: VecDeque<Answer>,
    delivered: Vec<u64>,
    complaints: Vec<String>,
}

/// The key of the property that names an era.
pub(crate) const ERA: &str = "era";

impl Witness {
    pub(crate) fn with_answers(answers: &[Answer]) -> Arc<Self> {
        let facts = Facts { answers: answers.iter().copied().collect(), ..Facts::default() };
        Arc::new(Self { era: AtomicU64::new(1), over: AtomicU64::new(0), facts: Mutex::new(facts) })
    }

    pub(crate) fn new() -> Arc<Self> {
        Self::with_answers(&[])
    }

    pub(crate) fn era(&self) -> u64 {
        self.era.load(Relaxed)
    }

    /// Starts a new era, because an `opt_out` is polled.
    pub(crate) fn opting_out(&self) -> u64 {
        self.era.fetch_add(1, Relaxed) + 1
    }

    /// Notes that the `opt_out` that began `era` has returned, with a receipt that says
    /// that no connection is left.
    pub(crate) fn opted_out(&self, era: u64) {
        self.over.store(era - 1, Relaxed);
        let mut facts = self.facts();
        if facts.connection.is_some_and(|connection| connection < era) {
            facts.complaints.push("the opt-out returned with a connection open".to_owned());
        }
        if facts.closing.is_some_and(|connection| connection < era) {
            facts.complaints.push("the opt-out returned with a connection closing".to_owned());
        }
    }

    pub(crate) fn delivered(&self) -> Vec<u64> {
        self.facts().delivered.clone()
    }

    pub(crate) fn complain(&self, complaint: impl Into<String>) {
        self.facts().complaints.push(complaint.into());
    }

    /// Asserts, at the end of a model, that there are no complaints.
    pub(crate) fn examine(&self) {
        let complaints = self.facts().complaints.clone();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks a batch of which bytes leave. Complaints are kept for the end, because the
    /// lane would catch a panic.
    fn leaves(&self, batch: &Batch) {
        let id: u64 = batch.distinct_id().parse().unwrap();
        let over = self.over.load(Relaxed);
        let mut facts = self.facts();
        let mut complaints = Vec::new();
        if over >= id {
            complaints.push(format!("sent under ID {id} after its opt-out had returned"));
        }
        match facts.connection {
            Some(other) if other != id => {
                complaints.push(format!("one connection for the IDs {other} and {id}"));
            }
            _ => facts.connection = Some(id),
        }
        for event in batch.events() {
            if event.epoch != id {
                complaints.push(format!("of epoch {}, sent under ID {id}", event.epoch));
            }
            let (said, user) = eras(event);
            if said.is_some_and(|era| era < id) {
                complaints.push(format!("captured in era {said:?}, sent under ID {id}"));
            }
            if user.is_some_and(|era| era < id) {
                complaints.push(format!("said of the user in era {user:?}, sent under ID {id}"));
            }
        }
        facts.complaints.extend(complaints);
    }
}

/// Returns the era in which `event` was captured, and the era in which its user properties
/// were set.
fn eras(event: &OutgoingEvent) -> (Option<u64>, Option<u64>) {
    let [event, user] = [event.properties(), event.user_properties().values()].map(|properties| {
        properties.deserialize::<BTreeMap<String, u64>>().unwrap().get(ERA).copied()
    });
    (event, user)
}

/// Yields once, so that the task that polls this checks everything else first.
async fn once_more() {
    let mut polled = false;
    poll_fn(|context| {
        if std::mem::replace(&mut polled, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A backend that reports to a [`Witness`].
#[derive(Clone, Debug)]
pub(crate) struct Watched(pub(crate) Arc<Witness>);

impl Backend for Watched {
    fn name(&self) -> &'static str {
        "watched"
    }

    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        self.0.leaves(batch);
        once_more().await;
        self.0.leaves(batch);
        let answer = self.0.facts().answers.pop_front();
        match answer {
            None => {}
            Some(Answer::Failure) => return Err(DeliveryError::Transient("model".into())),
            Some(Answer::Refusal) => return Err(DeliveryError::Rejected("model".into())),
            Some(Answer::Never) => pending().await,
        }
        let eras = batch.events().filter_map(|event| eras(event).0);
        self.0.facts().delivered.extend(eras);
        Ok(())
    }

    fn close(&self) {
        let mut facts = self.0.facts();
        facts.closing = facts.connection.take().or(facts.closing);
    }

    async fn closed(&self) {
        once_more().await;
        self.0.facts().closing = None;
    }
}
