//! A backend whose requests are noted in the history.

use std::sync::Arc;

use super::{
    History,
    sent_event::{Addressee, SentOutcome},
};
use crate::{
    backend::{Batch, ClosedFuture, DeliveryError, DynBackend, EventOutcome, Identity, SendFuture},
    event::OutgoingEvent,
};

/// A backend whose requests are noted in `history`.
pub(crate) struct Recorded {
    pub(crate) backend: Box<dyn DynBackend>,
    pub(crate) to: Arc<Addressee>,
    pub(crate) history: Arc<History>,
}

/// A request whose outcome is noted even if its future is dropped.
struct Attempt<'a> {
    recorded: &'a Recorded,
    batch: &'a Batch,
    /// `None` while there is no answer.
    outcomes: Option<Outcomes>,
}

/// The outcomes of the events of a request.
enum Outcomes {
    All(SentOutcome),
    Each(Vec<EventOutcome>),
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let Recorded { to, history, .. } = self.recorded;
        history.end(to, self.batch, |place| match &self.outcomes {
            None => SentOutcome::Unconfirmed,
            Some(Outcomes::All(outcome)) => *outcome,
            Some(Outcomes::Each(outcomes)) => match EventOutcome::at(outcomes, place) {
                EventOutcome::SendAgain => SentOutcome::Unconfirmed,
                outcome if outcome.is_delivered() => SentOutcome::Delivered,
                _ => SentOutcome::Refused,
            },
        });
    }
}

impl DynBackend for Recorded {
    fn name(&self) -> &'static str {
        self.backend.name()
    }

    fn send<'a>(&'a self, batch: &'a Batch) -> SendFuture<'a> {
        Box::pin(async move {
            self.history.begin(&self.to, batch);
            let mut attempt = Attempt { recorded: self, batch, outcomes: None };
            let answer = self.backend.send(batch).await;
            attempt.outcomes = Some(match &answer {
                Err(DeliveryError::PerEvent { outcomes, .. }) => Outcomes::Each(outcomes.clone()),
                _ => Outcomes::All(outcome_of_all(&answer, batch)),
            });
            answer
        })
    }

    fn carries_user_properties(&self, event: &OutgoingEvent) -> bool {
        self.backend.carries_user_properties(event)
    }

    fn host(&self) -> Option<String> {
        self.backend.host()
    }

    fn default_label(&self) -> Option<String> {
        self.backend.default_label()
    }

    fn default_identity(&self) -> Identity {
        self.backend.default_identity()
    }

    fn stored_identifier(&self, distinct_id: &str) -> String {
        self.backend.stored_identifier(distinct_id)
    }

    fn render(&self, batch: &Batch) -> Option<String> {
        self.backend.render(batch)
    }

    fn close(&self) {
        self.backend.close();
    }

    fn closed(&self) -> ClosedFuture<'_> {
        self.backend.closed()
    }
}

/// Returns the outcome of all events of `batch`. A refusal may be due to another event of the
/// batch, or to the user properties that it carries.
fn outcome_of_all(answer: &Result<(), DeliveryError>, batch: &Batch) -> SentOutcome {
    let is_alone =
        batch.len() == 1 && batch.events().all(|event| event.user_properties().is_empty());
    match answer {
        Ok(()) => SentOutcome::Delivered,
        Err(DeliveryError::Refused { .. }) => SentOutcome::Refused,
        Err(DeliveryError::Partial(partial)) => match partial.within(batch.len()).dropped() {
            0 => SentOutcome::Delivered,
            dropped if dropped == batch.len() => SentOutcome::Refused,
            // Which of them is not known.
            _ => SentOutcome::Unconfirmed,
        },
        Err(DeliveryError::Rejected(_) | DeliveryError::TooLarge(_)) if is_alone => {
            SentOutcome::Refused
        }
        Err(
            DeliveryError::PerEvent { .. }
            | DeliveryError::Rejected(_)
            | DeliveryError::TooLarge(_)
            | DeliveryError::Throttled { .. }
            | DeliveryError::Transient(_)
            | DeliveryError::Unauthorized(_)
            | DeliveryError::Misconfigured(_),
        ) => SentOutcome::Unconfirmed,
    }
}
