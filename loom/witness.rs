//! A backend that knows what really happened, and in which order.

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

/// What a backend answers to one batch. With no answer left it takes all.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// A failure that may pass.
    Failure,
    /// An event is at fault: the batch is halved.
    Refusal,
    Never,
}

/// What several threads write is the model's, so that loom tries all orders of
/// it, and relaxed, so that it orders nothing else.
#[derive(Debug)]
pub(crate) struct Witness {
    /// The epoch that the app lives in: it goes up when an `opt_out` is polled,
    /// before anything else happens.
    era: AtomicU64,
    /// The last era whose `opt_out` has returned.
    over: AtomicU64,
    facts: Mutex<Facts>,
}

#[derive(Debug, Default)]
struct Facts {
    /// The era whose ID the open connection was used under.
    connection: Option<u64>,
    /// The era of a connection that was closed and has yet to let go.
    closing: Option<u64>,
    answers: VecDeque<Answer>,
    delivered: Vec<u64>,
    complaints: Vec<String>,
}

/// What tells an era in the properties of an event or of the user.
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

    /// An `opt_out` is polled.
    pub(crate) fn opting_out(&self) -> u64 {
        self.era.fetch_add(1, Relaxed) + 1
    }

    /// The `opt_out` that began `era` has returned, with a receipt that says
    /// that no connection is left.
    pub(crate) fn opted_out(&self, era: u64) {
        self.over.store(era - 1, Relaxed);
        let mut facts = self.facts();
        if facts.connection.is_some_and(|connection| connection < era) {
            facts.complaints.push("the opt-out returned with a connection open".to_owned());
        }
        if facts.closing.is_some_and(|connection| connection < era) {
            facts.complaints.push("the opt-out returned before a connection let go".to_owned());
        }
    }

    pub(crate) fn delivered(&self) -> Vec<u64> {
        self.facts().delivered.clone()
    }

    pub(crate) fn complain(&self, complaint: impl Into<String>) {
        self.facts().complaints.push(complaint.into());
    }

    /// The model has come to its end.
    pub(crate) fn examine(&self) {
        let complaints = self.facts().complaints.clone();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of `batch` leave. What is wrong with that is kept for the end,
    /// because the lane catches a panic.
    fn leaves(&self, batch: &Batch) {
        let id: u64 = batch.analytics_id().reveal().parse().unwrap();
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

/// In which era the event was captured, and in which was said what it says about
/// the user.
fn eras(event: &OutgoingEvent) -> (Option<u64>, Option<u64>) {
    let [event, user] = [event.properties(), event.user_properties().values()].map(|properties| {
        properties.deserialize::<BTreeMap<String, u64>>().unwrap().get(ERA).copied()
    });
    (event, user)
}

/// Lets the task that polls this look at everything else first.
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

/// One of several that see the same.
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
