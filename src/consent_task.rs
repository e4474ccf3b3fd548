//! The one task that reads and writes the account: it does what the consent
//! machine says is next, and carries out what the app asks for, one at a time.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use matrix_sdk::{SessionChange, StoreError};
use serde_json::value::RawValue;
use tokio::{
    sync::{
        Notify,
        broadcast::{self, error::RecvError},
        mpsc, oneshot,
    },
    time::{Instant, sleep_until, timeout},
};
use tracing::debug;

use crate::{
    AnalyticsId,
    account_data::{
        AccountDataError, Turn,
        content::{Change, MergeError},
    },
    analytics::{Inner, OptInError},
    claim::{Hold, Unsaved},
    consent::machine::{Machine, Next, OptInPlan, Overtaken, Session, Ticket},
    local_record::Removal,
    stop::Stop,
    withdrawal::Step,
};

/// What the app asks for. An answer that nobody waits for any more is dropped;
/// only an opt-in ends with its caller, but for a write that was sent.
#[derive(Debug)]
pub(crate) enum Command {
    EndSession(oneshot::Sender<Step<AccountDataError>>),
    OptIn(Ticket, oneshot::Sender<Result<(), OptInError>>),
    OptOut(oneshot::Sender<Step<AccountDataError>>),
    Recheck(oneshot::Sender<Result<(), AccountDataError>>),
}

/// Runs until `stop`, or until the last handle is gone.
pub(crate) async fn run(
    inner: Weak<Inner>,
    commands: mpsc::UnboundedReceiver<Command>,
    session_changes: broadcast::Receiver<SessionChange>,
    wake: Arc<Notify>,
    stop: Arc<Stop>,
) {
    tokio::select! {
        biased;
        () = stop.stopped() => {}
        // Beside the work, so that a lost session closes the gate at once even
        // while a request is out.
        () = watch_session(inner.clone(), session_changes) => {}
        () = work(inner, commands, &wake) => {}
    }
}

async fn watch_session(inner: Weak<Inner>, mut changes: broadcast::Receiver<SessionChange>) {
    loop {
        let change = changes.recv().await;
        let Some(inner) = inner.upgrade() else { return };
        match change {
            Ok(SessionChange::TokensRefreshed) => {
                inner.apply(|machine| machine.session_is(Session::Live));
            }
            Ok(SessionChange::UnknownToken(data)) => {
                let session = if data.soft_logout { Session::SoftLogout } else { Session::Ended };
                inner.apply(|machine| machine.session_is(session));
            }
            Err(RecvError::Lagged(_)) => inner.apply(|machine| machine.doubt()),
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
}

async fn work(inner: Weak<Inner>, mut commands: mpsc::UnboundedReceiver<Command>, wake: &Notify) {
    loop {
        let Some(next) = inner.upgrade().map(|inner| inner.machine().next(Instant::now())) else {
            return;
        };
        let (Next::Sleep(until), false) = (next, !commands.is_empty()) else {
            let Some(inner) = inner.upgrade() else { return };
            match commands.try_recv() {
                Ok(command) => inner.carry_out(command).await,
                // Its failure is remembered by the machine, which tries again.
                Err(_) => drop(inner.do_next(next).await),
            }
            continue;
        };
        tokio::select! {
            biased;
            command = commands.recv() => {
                let (Some(command), Some(inner)) = (command, inner.upgrade()) else { return };
                inner.carry_out(command).await;
            }
            () = wake.notified() => {}
            () = sleep(until) => {}
        }
    }
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

impl Inner {
    async fn carry_out(&self, command: Command) {
        match command {
            Command::EndSession(reply) | Command::OptOut(reply) => {
                let removal = self.removal();
                let tried = match removal {
                    Some(removal) => self.remove(removal).await.err(),
                    None => None,
                };
                let step = match (self.removal(), tried) {
                    (None, _) => Step::Done,
                    (Some(_), cause) => Step::Pending(cause),
                };
                let _ = reply.send(step);
            }
            Command::OptIn(ticket, mut reply) => {
                let result = tokio::select! {
                    biased;
                    () = self.voided(ticket) => Err(OptInError::Withdrawn),
                    () = reply.closed() => Err(OptInError::Withdrawn),
                    result = self.opt_in(ticket) => result,
                };
                // A write whose answer is not known may be applied within its bound.
                let settled_at = Instant::now() + self.account_data.bound() + self.settle_time();
                self.apply(|machine| machine.opt_in_ended(ticket, result.is_ok(), settled_at));
                // Its failure is tried again; a yes is proven anew at each start.
                let _ = self.save().await;
                let _ = reply.send(result);
            }
            Command::Recheck(reply) => {
                let _ = reply.send(self.recheck().await);
            }
        }
    }

    async fn do_next(&self, next: Next) -> Result<(), AccountDataError> {
        match next {
            Next::Fetch => self.fetch().await,
            Next::Remove(removal) => self.remove(removal).await,
            Next::Save => {
                // Its failure is remembered by the machine, which tries again.
                let _ = self.save().await;
                Ok(())
            }
            Next::Sleep(_) => Ok(()),
        }
    }

    fn removal(&self) -> Option<Removal> {
        self.machine().record().removal
    }

    /// Asks the homeserver what holds, or cleans it if that is still to be done.
    async fn recheck(&self) -> Result<(), AccountDataError> {
        self.apply(Machine::recheck);
        loop {
            let next = self.machine().next(Instant::now());
            match next {
                Next::Sleep(_) => return Ok(()),
                Next::Save => drop(self.save().await),
                Next::Fetch | Next::Remove(_) => return self.do_next(next).await,
            }
        }
    }

    /// Writes the record, if it has changed. Waits for no request.
    pub(crate) async fn save(&self) -> Result<(), StoreError> {
        let bound = self.account_data.bound();
        let Ok(turn) = timeout(bound, self.saving.clone().lock_owned()).await else {
            self.apply(|machine| machine.save_failed(Instant::now(), fastrand::f64()));
            return Err(StoreError::Backend(Box::new(StoreTooSlow)));
        };
        let record = {
            let machine = self.machine();
            if !machine.is_unsaved() {
                return Ok(());
            }
            machine.record().clone()
        };
        // In a task of its own, which holds the turn: a write that is waited for no
        // longer may still land, and must not land after a newer one.
        let (store, wanted) = (self.record_store.clone(), record.clone());
        let write = tokio::spawn(async move { (store.save(&turn, &wanted).await, turn) });
        let saved = match timeout(bound, write).await {
            Ok(Ok((saved, turn))) => saved.map(|stored| (stored, turn)),
            Ok(Err(gone)) => Err(StoreError::Backend(Box::new(gone))),
            Err(_) => Err(StoreError::Backend(Box::new(StoreTooSlow))),
        };
        match saved {
            Ok((stored, mut turn)) => {
                // Both under the turn: to a save in between, what another process withdrew
                // would look like something that this one has known and taken back.
                self.apply(|machine| machine.saved(&record, &stored));
                *turn = stored;
                Ok(())
            }
            Err(error) => {
                debug!("the local record could not be written");
                self.apply(|machine| machine.save_failed(Instant::now(), fastrand::f64()));
                Err(error)
            }
        }
    }

    /// Saves what the last handle left unsaved, and lets the next `Analytics` of the record
    /// begin; it learns what could not be saved.
    pub(crate) async fn save_and_leave(&self, hold: Hold) {
        const MOST_TRIES: usize = 3;

        // A write that is out has to land first, however long it takes.
        drop(self.saving.lock().await);
        for _ in 0..MOST_TRIES {
            if self.save().await.is_ok() && !self.machine().is_unsaved() {
                return;
            }
        }
        let base = self.saving.lock().await.clone();
        hold.leave(Unsaved { base, record: self.machine().record().clone() });
    }

    /// Asks the homeserver, and writes what the answer asks for.
    async fn fetch(&self) -> Result<(), AccountDataError> {
        let fetched = async {
            let turn = self.account_data.turn().await?;
            let sent = self.machine().sign();
            let (turn, content) = self.account_data.fetch(turn).await?;
            let seen = self.account_data.observe(content.as_deref());
            if let Some(change) = self.apply(|machine| machine.fetched(sent, &seen, Instant::now()))
            {
                self.put(turn, &change, content.as_deref()).await?;
                self.apply(|machine| machine.removal_wrote(sent, &change));
            }
            Ok(())
        };
        self.noting_failure(fetched.await)
    }

    /// Cleans the homeserver after a withdrawal.
    async fn remove(&self, removal: Removal) -> Result<(), AccountDataError> {
        let removed = async {
            let turn = self.account_data.turn().await?;
            let sent = self.machine().sign();
            let (turn, content, change) = match removal {
                Removal::Event => (turn, None, Some(Change::Erase)),
                Removal::Id => {
                    let (turn, content) = self.account_data.fetch(turn).await?;
                    let seen = self.account_data.observe(content.as_deref());
                    let change = self.apply(|machine| machine.removal_fetched(sent, &seen));
                    (turn, content, change)
                }
            };
            if let Some(change) = change {
                // The no, and which ID is retired, are on disk before the account
                // forgets them: nothing could tell this device later.
                let _ = self.save().await;
                self.apply(|machine| machine.removal_writes(&change));
                self.put(turn, &change, content.as_deref()).await?;
                self.apply(|machine| machine.removal_wrote(sent, &change));
            }
            Ok(())
        };
        self.noting_failure(removed.await)
    }

    async fn opt_in(&self, ticket: Ticket) -> Result<(), OptInError> {
        let opted_in = self.read_and_opt_in(ticket).await;
        if let Err(OptInError::AccountData(error)) = &opted_in {
            self.note(error);
        }
        opted_in
    }

    async fn read_and_opt_in(&self, ticket: Ticket) -> Result<(), OptInError> {
        // A withdrawal before this call is on disk before anything opens.
        let _ = self.save().await;
        let turn = self.account_data.turn().await?;
        let sent = self.machine().sign();
        let (turn, content) = self.account_data.fetch(turn).await?;
        let seen = self.account_data.observe(content.as_deref());
        let plan = self.apply(|machine| {
            machine.opt_in_plan(ticket, sent, &seen, Instant::now(), AnalyticsId::random())
        })?;
        if let OptInPlan::Keep(id) | OptInPlan::Mint(id) = &plan {
            use AccountDataError::{Http, Timeout};

            let sent = self.machine().sign();
            let settle = self.settle_time();
            match self.put(turn, &Change::OptIn(id.clone()), content.as_deref()).await {
                Ok(_) => self.apply(|machine| {
                    machine.opt_in_wrote(ticket, sent, plan, Instant::now(), settle)
                })?,
                Err(cause @ (Timeout | Http(_))) => {
                    // On the heap while it runs: every account's task would be larger by it.
                    Box::pin(self.read_back(ticket, plan, cause)).await?;
                }
                Err(cause) => return Err(cause.into()),
            }
        }
        Ok(())
    }

    /// Finds out whether the write of `plan`, to which there was no answer but `cause`,
    /// was applied.
    async fn read_back(
        &self,
        ticket: Ticket,
        plan: OptInPlan,
        cause: AccountDataError,
    ) -> Result<(), OptInError> {
        let known = self.apply(|machine| machine.opt_in_unanswered(ticket))?;
        let read = async {
            // It is there once the write has ended: nothing of ours overtakes it.
            let turn = self.account_data.turn().await?;
            let sent = self.machine().sign();
            let (_, content) = self.account_data.fetch(turn).await?;
            Ok::<_, AccountDataError>((sent, self.account_data.observe(content.as_deref())))
        };
        let Ok((sent, seen)) = read.await else { return Err(cause.into()) };
        let (now, settle) = (Instant::now(), self.settle_time());
        let applied = self.apply(|machine| {
            machine.opt_in_read_back(ticket, (sent, &seen), plan, known, now, settle)
        })?;
        if applied { Ok(()) } else { Err(cause.into()) }
    }

    /// How long a new ID has to hold before it is used: no shorter than the
    /// bounds on one read and one write, in which another device that read before
    /// our write may still write its own.
    fn settle_time(&self) -> Duration {
        2 * self.account_data.bound()
    }

    /// Waits until `ticket` is void.
    async fn voided(&self, ticket: Ticket) {
        loop {
            let transition = self.transitions.notified();
            if !self.machine().opt_in_is_valid(ticket) {
                return;
            }
            transition.await;
        }
    }

    async fn put(
        &self,
        turn: Turn,
        change: &Change,
        content: Option<&RawValue>,
    ) -> Result<Turn, AccountDataError> {
        let merged = change.apply_to(content)?;
        self.account_data.put(turn, merged).await
    }

    fn noting_failure(&self, result: Result<(), AccountDataError>) -> Result<(), AccountDataError> {
        if let Err(error) = &result {
            self.note(error);
            let asked = match error {
                AccountDataError::RateLimited { retry_after, .. } => *retry_after,
                _ => None,
            };
            self.apply(|machine| {
                machine.request_failed(Instant::now(), fastrand::f64(), asked);
            });
        }
        result
    }

    /// What a failure says about the session.
    fn note(&self, error: &AccountDataError) {
        if matches!(error, AccountDataError::Forbidden(_)) {
            self.apply(|machine| machine.session_is(Session::Unavailable));
        }
        // Of every other lost session the SDK tells.
        if error.is_user_locked() {
            self.apply(Machine::unconfirm);
        }
    }
}

/// The client's store took longer than a request may.
#[derive(Debug, thiserror::Error)]
#[error("the client's store did not answer in time")]
struct StoreTooSlow;

impl From<MergeError> for AccountDataError {
    fn from(MergeError: MergeError) -> Self {
        Self::NotAnObject
    }
}

impl From<Overtaken> for OptInError {
    fn from(_: Overtaken) -> Self {
        Self::Withdrawn
    }
}
