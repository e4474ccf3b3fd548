//! The operation in flight: its requests and their order.

use tokio::time::Instant;

use super::{
    Action, CallId, Failure, FailureKind, Generation, Machine, Outcome, Random, Session,
    calls::{Call, CallKind},
    request::Request,
};
use crate::consent::content::Observed;

/// A read with the writes that follow from it.
///
/// Only one runs at a time, so the homeserver never sees two concurrent requests of one
/// device, except when one exceeded its time limit.
#[derive(Clone, Debug)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
pub(super) struct Operation {
    pub(super) task: Task,
    /// The call of the app that waits for this operation.
    pub(super) call: Option<CallId>,
    pub(super) step: Step,
    /// The generation in which the request in flight was sent.
    pub(super) asked_at: Generation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(super) enum Task {
    Fetch,
    OptIn,
    Removal,
}

#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(super) enum Step {
    /// The request is sent once a pending save has ended, even if it failed.
    Ready(Request),
    Sent(Request),
    /// The outcome is reported once a pending save has ended.
    Ended(Outcome),
}

impl Machine {
    /// Begins the next operation that is due, for a call of the app if there is one.
    /// Returns whether anything changed.
    pub(super) fn begin_operation(&mut self, now: Instant) -> bool {
        // A decision is on the disk before the next request is sent.
        if self.disk.is_saving() {
            return false;
        }
        let Some(Call { id, kind }) = self.calls.queue.pop_front() else {
            let due = self.upcoming(now).filter(|(_, at)| *at <= now);
            if let Some((task, _)) = due {
                self.begin(task, None);
            }
            return due.is_some();
        };
        self.wake.backoff.end_wait();
        match kind {
            CallKind::OptIn => {
                self.begin(Task::OptIn, Some(id));
                self.await_save(None);
            }
            CallKind::Removal if self.record.removal.is_some() => {
                self.begin(Task::Removal, Some(id));
            }
            CallKind::Removal => {
                // Another call has completed the removal. This one is done once that is
                // on the disk.
                self.begin(Task::Removal, Some(id));
                self.end_operation(Outcome::Done);
            }
            CallKind::Recheck => {
                self.expect_answer();
                match self.upcoming(now).filter(|(_, at)| *at <= now) {
                    Some((task, _)) => self.begin(task, Some(id)),
                    None => self.finish(Some(id), Outcome::Done),
                }
            }
        }
        true
    }

    fn begin(&mut self, task: Task, call: Option<CallId>) {
        let step = Step::Ready(Request::Read);
        let asked_at = self.server.generation;
        self.operation = Some(Operation { task, call, step, asked_at });
    }

    /// Returns the request to send now.
    pub(super) fn send_request(&mut self) -> Option<Action> {
        if self.operation_awaits_save() {
            return None;
        }
        let operation = self.operation.as_mut()?;
        match &operation.step {
            Step::Sent(_) => None,
            Step::Ready(request) => {
                let (action, request) = (request.action(), request.clone());
                operation.asked_at = self.server.generation;
                operation.step = Step::Sent(request);
                if let Action::Put(change) = &action {
                    self.server.write_in_flight = Some(change.outcome());
                }
                Some(action)
            }
            Step::Ended(_) => None,
        }
    }

    /// Reports the end of the operation, once a pending save has ended.
    pub(super) fn report_end(&mut self) {
        if self.operation_awaits_save() {
            return;
        }
        if let Some(Operation { call, step: Step::Ended(outcome), .. }) = self.operation {
            self.operation = None;
            self.finish(call, outcome);
        }
    }

    /// Handles the answer to a read.
    pub(crate) fn handle_got(
        &mut self,
        answer: Result<Observed, Failure>,
        now: Instant,
        random: &Random,
    ) {
        self.closing_begins_an_epoch(|machine| machine.got(answer, now, random));
    }

    fn got(&mut self, answer: Result<Observed, Failure>, now: Instant, random: &Random) {
        let Some(Operation { task, asked_at, step: Step::Sent(request), .. }) = &self.operation
        else {
            return;
        };
        let (task, asked_at, request) = (*task, *asked_at, request.clone());
        let seen = match answer {
            Ok(seen) => seen,
            Err(failure) => return self.failed(failure, now, random),
        };
        match (task, request) {
            (Task::OptIn, Request::ReadBack(plan, before)) => {
                self.opt_in_read_back(asked_at, &seen, plan, before, now);
            }
            (Task::OptIn, Request::Confirm(plan)) => {
                self.opt_in_confirmed(asked_at, &seen, &plan, now);
            }
            (Task::OptIn, _) => self.opt_in_read(asked_at, &seen, now, random),
            (Task::Fetch, request) => self.fetched(asked_at, &request, &seen, now, random),
            (Task::Removal, Request::Verify) => {
                self.removal_verified(asked_at, &seen, now, random);
            }
            (Task::Removal, _) => self.removal_read(asked_at, &seen, now),
        }
    }

    /// Handles the answer to a write.
    pub(crate) fn handle_put(
        &mut self,
        answer: Result<(), Failure>,
        now: Instant,
        random: &Random,
    ) {
        let Some(Operation { step: Step::Sent(request), .. }) = &self.operation else {
            return;
        };
        // An answer does not prove that the write was applied. A captive portal also answers.
        match (request.clone(), answer) {
            (Request::CleanUp { epoch }, Ok(())) => {
                self.cleanup_sent(epoch);
                self.proceed(Request::Verify);
            }
            (Request::Remove(_), Ok(())) => self.proceed(Request::Verify),
            (Request::OptIn(plan), Ok(())) => self.opt_in_wrote(plan, now),
            (Request::OptIn(plan), Err(failure)) if failure.kind == FailureKind::Unanswered => {
                self.note(failure, now);
                self.opt_in_unanswered(plan);
            }
            (request, Err(failure)) => {
                if let (Request::CleanUp { epoch }, FailureKind::Unanswered) =
                    (&request, failure.kind)
                {
                    self.cleanup_sent(*epoch);
                }
                self.wake.fetch_wanted |= matches!(request, Request::CleanUp { .. });
                self.failed(failure, now, random);
            }
            (_, Ok(())) => {}
        }
    }

    /// Continues the operation with `request`.
    pub(super) fn proceed(&mut self, request: Request) {
        if let Some(operation) = &mut self.operation {
            operation.step = Step::Ready(request);
        }
    }

    /// Continues with `request` once the record was saved, or could not be.
    pub(super) fn proceed_after_save(&mut self, request: Request) {
        self.proceed(request);
        self.await_save(None);
    }

    /// Ends the operation once the record was saved, or could not be. Success resets the
    /// back-off.
    pub(super) fn end_operation(&mut self, outcome: Outcome) {
        if outcome == Outcome::Done {
            self.wake.backoff.succeeded();
        }
        self.server.write_in_flight = None;
        let Some(operation) = &mut self.operation else { return };
        operation.step = Step::Ended(outcome);
        if operation.call.is_some() {
            self.await_save(None);
        }
    }

    /// Ends the operation as failed and schedules the next try.
    pub(super) fn failed(&mut self, failure: Failure, now: Instant, random: &Random) {
        self.note(failure, now);
        let Some(Operation { task, .. }) = self.operation else { return };
        match task {
            Task::OptIn => self.opt_in_failed(now),
            Task::Fetch | Task::Removal => {
                self.wake.backoff.failed(now, random.jitter);
                self.end_operation(Outcome::Failed);
            }
        }
    }

    /// Updates the back-off and the session from a failure.
    fn note(&mut self, failure: Failure, now: Instant) {
        if let Some(wait) = failure.retry_after {
            self.wake.backoff.requested(now, wait);
        }
        match failure.kind {
            FailureKind::Guest => self.handle_session(Session::Unavailable, now),
            FailureKind::Locked => self.unconfirm(),
            FailureKind::Unanswered | FailureKind::Refused => {}
        }
        if self.session != Session::Live {
            // Evidence that the session works, or the timer, starts the next try.
            self.wake.timer.restart(now);
        }
    }
}
