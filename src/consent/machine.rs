//! The transitions of consent: pure, without I/O and without a clock.
//!
//! # What this device remembers × what a GET answers
//!
//! | record | `true` + usable ID | `true`, no ID | `false` | nothing, or no boolean |
//! |---|---|---|---|---|
//! | none | Granted, Open | Granted, Holding(NoId) | Denied | Undecided, Ask |
//! | Granted | same ID: Open; another: wipe, adopt, Open | Holding(NoId) | Denied, wipe | Closed(Unproven), wipe, nothing written |
//! | Denied, clean | the retired ID: Denied, one clean-up PUT an epoch; another: Granted, Open | Denied | Denied | Denied |
//! | Denied, removal pending | PUT | PUT | `id` member: PUT, else discharged | `id` member: PUT, else discharged |
//!
//! An ID that this device retired counts as no usable ID, except where the table
//! names it. Every wipe raises the epoch, and every closing wipes.

#[cfg(test)]
mod model;
mod opt_in;
mod opt_out;
#[cfg(test)]
mod tests;
mod timing;

use std::time::Duration;

use tokio::time::Instant;

pub(crate) use self::opt_in::{OptInPlan, Overtaken, Ticket};
use self::{
    opt_in::{MadeId, OptIns},
    timing::{LONGEST_WAIT, RecheckTimer, Retry},
};
use super::{ClosedReason, Confirmation, Consent, ConsentState, GateState, HoldReason};
use crate::{
    AnalyticsId,
    account_data::content::{Change, Observed},
    local_record::{Record, Removal},
};

/// The state behind [`ConsentState`].
#[derive(Clone, Debug)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
pub(crate) struct Machine {
    record: Record,
    session: Session,
    do_not_track: bool,
    standing: Standing,
    /// The ID that the server was seen to hold, while it may be sent under.
    id: Option<AnalyticsId>,
    /// What the server was last known to hold.
    held: Option<Observed>,
    /// The ID that the account loses, or lost, by an opt-out, until a receipt has told.
    lost_id: Option<AnalyticsId>,
    opt_ins: OptIns,
    /// What the account will hold once the write in progress is applied.
    expected: Option<Observed>,
    /// The user said yes in this process, and the homeserver has still to say
    /// under which ID.
    settling: bool,
    /// The last ID that was made here. Until it has held for the settle time,
    /// another device may be writing its own.
    made: Option<MadeId>,
    sign: Sign,
    /// What sync last showed that differed from `held`.
    hint: Option<Observed>,
    fetch_wanted: bool,
    timer: RecheckTimer,
    removal_ordered: bool,
    unsaved: bool,
    wipe: Option<Wipe>,
    requests: Retry,
    saves: Retry,
}

/// Whether there is a session that could hold consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) enum Session {
    Live,
    SoftLogout,
    /// The homeserver forbids account data: a guest.
    Unavailable,
    Ended,
}

/// What the last proof showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
enum Standing {
    Unconfirmed,
    /// Proven once, and something has changed since.
    Doubted,
    Absent,
    Denied,
    NoId,
    Proven,
}

/// Counts what makes an earlier GET worthless as proof.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Sign {
    /// Local calls and signs of withdrawal.
    closing: u64,
    /// Any sign of change that sync showed.
    change: u64,
}

/// Why what is queued must go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) enum Wipe {
    /// The user withdrew, or the session ended: what the app said about the
    /// user goes too.
    Withdrawn,
    IdChanged,
    NotConfirmed,
}

/// What has to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Fetch,
    Remove(Removal),
    Save,
    Sleep(Option<Instant>),
}

impl Machine {
    /// `jitter` is at least 0 and below 1.
    pub(crate) fn new(record: Record, do_not_track: bool, jitter: f64) -> Self {
        Self {
            record,
            session: Session::Live,
            do_not_track,
            standing: Standing::Unconfirmed,
            id: None,
            held: None,
            lost_id: None,
            opt_ins: OptIns::default(),
            expected: None,
            settling: false,
            made: None,
            sign: Sign::default(),
            hint: None,
            fetch_wanted: true,
            timer: RecheckTimer::new(jitter),
            removal_ordered: false,
            unsaved: false,
            wipe: None,
            requests: Retry::default(),
            saves: Retry::default(),
        }
    }

    /// Notes that the record this began with has still to be saved.
    pub(crate) fn unsaved(mut self) -> Self {
        self.unsaved = true;
        self
    }

    // What is.

    pub(crate) fn state(&self) -> ConsentState {
        ConsentState {
            decision: self.decision(),
            confirmation: match self.standing {
                Standing::Unconfirmed | Standing::Doubted => Confirmation::Unconfirmed,
                _ if self.settling => Confirmation::Unconfirmed,
                Standing::Absent | Standing::Denied | Standing::NoId | Standing::Proven => {
                    Confirmation::Confirmed
                }
            },
            gate: self.gate(),
            removal_pending: self.record.removal.is_some() && !self.settling,
        }
    }

    fn decision(&self) -> Consent {
        if self.settling { Consent::Granted } else { self.record.decision }
    }

    pub(crate) fn gate(&self) -> GateState {
        use GateState::{Closed, Holding, Open};

        match self.session {
            Session::Ended => return Closed(ClosedReason::SessionEnded),
            Session::Unavailable => return Closed(ClosedReason::Unavailable),
            Session::Live | Session::SoftLogout => {}
        }
        if self.do_not_track {
            return Closed(ClosedReason::DoNotTrack);
        }
        if self.record.device_veto {
            return Closed(ClosedReason::DeviceVeto);
        }
        let granted = self.decision() == Consent::Granted;
        if granted && self.session == Session::SoftLogout && self.standing != Standing::Absent {
            return Holding(HoldReason::SoftLogout);
        }
        if self.settling {
            return Holding(HoldReason::Settling);
        }
        if granted && self.standing == Standing::Proven {
            return Open;
        }
        if self.opt_ins.in_progress > 0 {
            return Holding(HoldReason::OptingIn);
        }
        match (self.record.decision, self.standing) {
            (Consent::Denied, _) => Closed(ClosedReason::Denied),
            (Consent::Undecided, Standing::Unconfirmed | Standing::Doubted) => {
                Closed(ClosedReason::Unconfirmed)
            }
            (Consent::Undecided, _) => Closed(ClosedReason::Undecided),
            (Consent::Granted, Standing::Unconfirmed) => Holding(HoldReason::Unconfirmed),
            (Consent::Granted, Standing::Doubted) => Holding(HoldReason::Doubt),
            (Consent::Granted, Standing::NoId) => Holding(HoldReason::NoId),
            (Consent::Granted, Standing::Absent | Standing::Denied | Standing::Proven) => {
                Closed(ClosedReason::Unproven)
            }
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.record.epoch
    }

    /// The ID to send under, while the gate is open.
    pub(crate) fn id(&self) -> Option<&AnalyticsId> {
        self.id.as_ref().filter(|_| self.gate() == GateState::Open)
    }

    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    pub(crate) fn is_unsaved(&self) -> bool {
        self.unsaved
    }

    pub(crate) fn session(&self) -> Session {
        self.session
    }

    pub(crate) fn sign(&self) -> Sign {
        self.sign
    }

    /// The ID that the account lost by the last opt-out. It is told once.
    pub(crate) fn take_lost_id(&mut self) -> Option<AnalyticsId> {
        self.lost_id.take()
    }

    /// Why what is queued must go, if it must.
    pub(crate) fn take_wipe(&mut self) -> Option<Wipe> {
        self.wipe.take()
    }

    /// What has to be done, as of `now`.
    pub(crate) fn next(&self, now: Instant) -> Next {
        let request = self.next_request(now);
        if !self.unsaved {
            return request;
        }
        // A store that cannot be written must not keep the server from being
        // cleaned.
        match (self.saves.gate(now, Next::Save), request) {
            (Next::Sleep(save), Next::Sleep(request)) => {
                Next::Sleep(save.into_iter().chain(request).min())
            }
            (Next::Sleep(_), request) => request,
            (save, _) => save,
        }
    }

    fn next_request(&self, now: Instant) -> Next {
        if self.opt_ins.in_progress > 0 {
            return Next::Sleep(None);
        }
        let may_remove = matches!(self.session, Session::Live | Session::Unavailable);
        match self.record.removal {
            // The withdrawal goes on under a veto too, and for an account that was
            // forbidden once: it was promised.
            Some(removal) if may_remove && !self.settling => {
                return self.requests.gate(now, Next::Remove(removal));
            }
            _ => {}
        }
        if self.session != Session::Live {
            return Next::Sleep(None);
        }
        if self.settling {
            // An opt-in that was written is read back under a veto too.
            return match self.made.as_ref().and_then(|made| made.settled_at) {
                Some(settled_at) if settled_at > now => Next::Sleep(Some(settled_at)),
                _ => self.requests.gate(now, Next::Fetch),
            };
        }
        if self.is_vetoed() {
            return Next::Sleep(None);
        }
        match self.timer.due() {
            _ if self.fetch_wanted => self.requests.gate(now, Next::Fetch),
            Some(due) if due <= now => self.requests.gate(now, Next::Fetch),
            due => Next::Sleep(due),
        }
    }

    fn is_vetoed(&self) -> bool {
        self.do_not_track || self.record.device_veto
    }

    // What the app does.

    pub(crate) fn deny_on_this_device(&mut self) {
        self.sign.closing += 1;
        self.record.veto();
        self.close(Wipe::Withdrawn);
    }

    pub(crate) fn allow_on_this_device(&mut self) {
        self.sign.closing += 1;
        if self.record.lift_veto() {
            self.unsaved = true;
            self.unconfirm();
        }
    }

    /// The app resumed, or wants to know.
    pub(crate) fn recheck(&mut self) {
        self.fetch_wanted = true;
        if matches!(self.session, Session::SoftLogout | Session::Unavailable) {
            self.session = Session::Live;
            self.unconfirm();
        }
        self.retry_now();
    }

    /// The app is about to log out: nothing is sent from here on.
    pub(crate) fn end_session(&mut self) {
        if self.session == Session::Ended {
            return;
        }
        self.sign.closing += 1;
        self.session = Session::Ended;
        self.void_opt_ins();
        self.id = None;
        if self.record.decision == Consent::Granted {
            // A yes is proven anew at the next login; keeping it would hold the
            // events of whoever that is.
            self.record.decision = Consent::Undecided;
            self.record.forget_id();
        }
        self.close(Wipe::Withdrawn);
    }

    // What the homeserver does.

    /// A GET that was sent at `sent` answered. What is returned has to be
    /// written.
    pub(crate) fn fetched(&mut self, sent: Sign, seen: &Observed, now: Instant) -> Option<Change> {
        let removal_pending = self.record.removal.is_some() && !self.settling;
        if self.session == Session::Ended || removal_pending || !self.is_proof(sent, seen) {
            return None;
        }
        self.answered(seen);
        self.timer.restart(now);
        if std::mem::take(&mut self.settling) {
            // The user said yes in this process, and no withdrawal came after.
            self.record.decision = Consent::Granted;
            self.record.removal = None;
            self.record.trust();
            self.removal_ordered = false;
            self.unsaved = true;
            // What was seen before the opt-in says nothing about what it left.
            self.standing = Standing::Unconfirmed;
        }
        let id = seen.usable_id();
        let fresh_id = id.filter(|id| !self.record.is_retired(id)).cloned();
        match (self.record.decision, seen.flag, fresh_id) {
            (Consent::Denied, Some(true), Some(id)) => {
                self.raise_epoch(Wipe::IdChanged);
                self.grant_when_settled(id, now);
            }
            (Consent::Denied, Some(true), None) => {
                self.standing = Standing::Denied;
                let cleaned = self.record.cleaned_in_epoch == Some(self.record.epoch);
                if id.is_some() && !cleaned && !self.record.is_unreadable() {
                    self.record.cleaned_in_epoch = Some(self.record.epoch);
                    self.unsaved = true;
                    self.expected = Some(Change::OptOut.outcome());
                    return Some(Change::OptOut);
                }
            }
            (Consent::Denied, _, _) if self.record.is_unreadable() && !seen.has_id_member() => {
                // Nothing is left that a forgotten withdrawal could have to remove.
                self.record.start_anew();
                self.unsaved = true;
                match seen.flag {
                    Some(_) => self.withdrawn_elsewhere(),
                    None => self.standing = Standing::Absent,
                }
            }
            (Consent::Denied, _, _) => self.standing = Standing::Denied,
            (_, Some(false), _) => self.withdrawn_elsewhere(),
            (_, Some(true), Some(id)) => self.grant_when_settled(id, now),
            (_, Some(true), None) => {
                self.unsaved |= self.record.decision != Consent::Granted;
                self.record.decision = Consent::Granted;
                self.standing = Standing::NoId;
                self.id = None;
            }
            (Consent::Granted, None, _) => {
                let known = self.standing == Standing::Absent;
                self.standing = Standing::Absent;
                self.id = None;
                if !known {
                    self.close(Wipe::Withdrawn);
                }
            }
            (Consent::Undecided, None, _) => self.standing = Standing::Absent,
        }
        None
    }

    /// Sync carried an account-data event, of whatever type: the network is there.
    pub(crate) fn sync_delivers(&mut self) {
        self.timer.sync_delivers = true;
        if self.record.removal.is_some() {
            self.retry_now();
        }
    }

    /// Sync showed `seen`. Costs no request unless it differs from what is held.
    pub(crate) fn synced(&mut self, seen: &Observed) {
        if self.session == Session::Ended {
            return;
        }
        if self.expected.as_ref() == Some(seen) {
            return;
        }
        // Even what is known may be newer than the answer of a request that is out.
        if seen.flag == Some(false) {
            self.sign.closing += 1;
            self.hint = None;
        } else {
            self.sign.change += 1;
            self.hint = Some(seen.clone());
        }
        if self.held.as_ref() == Some(seen) {
            // Or newer than a write that is out.
            self.fetch_wanted |= self.expected.is_some();
            return;
        }
        if self.session == Session::SoftLogout {
            self.session = Session::Live;
        }
        self.retry_now();
        if seen.flag == Some(false) {
            self.held = Some(seen.clone());
            if self.decision() != Consent::Denied {
                self.withdrawn_elsewhere();
            }
            return;
        }
        self.fetch_wanted = true;
        if matches!(self.standing, Standing::Proven | Standing::NoId) {
            self.standing = Standing::Doubted;
            self.id = None;
        }
    }

    /// The session changed its state.
    pub(crate) fn session_is(&mut self, session: Session) {
        match (self.session, session) {
            (Session::Ended, _) => {}
            (_, Session::Ended) => self.end_session(),
            (_, Session::Unavailable) => {
                self.session = session;
                self.close_if_closed(Wipe::NotConfirmed);
            }
            (_, Session::SoftLogout) => {
                self.session = session;
                self.overtake_requests();
            }
            (Session::Live, Session::Live) => {}
            (_, Session::Live) => {
                self.session = session;
                self.unconfirm();
            }
        }
    }

    /// Session changes were missed: what was proven is doubted.
    pub(crate) fn doubt(&mut self) {
        self.overtake_requests();
        self.fetch_wanted = true;
        if matches!(self.standing, Standing::Proven | Standing::NoId) {
            self.standing = Standing::Doubted;
            self.id = None;
        }
    }

    /// What was proven is to be proven anew.
    pub(crate) fn unconfirm(&mut self) {
        self.standing = Standing::Unconfirmed;
        self.id = None;
        self.fetch_wanted = true;
        self.retry_now();
    }

    // What this device's store and network do.

    /// The record `written` was saved, and `stored` is what is stored now: another process
    /// may have written, too.
    pub(crate) fn saved(&mut self, written: &Record, stored: &Record) {
        self.saves = Retry::default();
        let merged = Record::merge(written, &self.record, stored);
        let before = std::mem::replace(&mut self.record, merged);
        self.unsaved = self.record != *stored;
        if self.record == before {
            return;
        }
        // What another process did is a sign of the kind that a local call is.
        self.sign.closing += 1;
        if self.record.decision == Consent::Denied {
            self.void_opt_ins();
        }
        self.unconfirm();
        if self.record.epoch > before.epoch {
            let is_withdrawn = self.record.decision != Consent::Granted || self.record.device_veto;
            let wipe = if is_withdrawn { Wipe::Withdrawn } else { Wipe::IdChanged };
            self.wipe = self.wipe.filter(|wipe| *wipe == Wipe::Withdrawn).or(Some(wipe));
        }
    }

    /// The record could not be written: the next try is in a while. `jitter` is
    /// at least 0 and below 1, as below.
    pub(crate) fn save_failed(&mut self, now: Instant, jitter: f64) {
        self.saves.failed(now, jitter);
    }

    /// A request failed: the next try is in a while.
    /// The homeserver may have asked to wait for longer than that.
    pub(crate) fn request_failed(&mut self, now: Instant, jitter: f64, asked: Option<Duration>) {
        self.expected = None;
        self.requests.failed(now, jitter);
        let asked = asked.map(|asked| now + asked.min(LONGEST_WAIT));
        self.requests.not_before = self.requests.not_before.max(asked);
    }

    fn retry_now(&mut self) {
        self.requests.not_before = None;
        self.saves.not_before = None;
    }

    // Steps that the transitions share.

    /// A GET proves nothing if a local call or a closing sign came after it was
    /// sent, or if sync has since shown something else.
    fn is_proof(&self, sent: Sign, seen: &Observed) -> bool {
        sent.closing == self.sign.closing
            && (sent.change == self.sign.change || self.hint.as_ref() == Some(seen))
    }

    /// A GET that is out proves nothing, whatever it shows.
    fn overtake_requests(&mut self) {
        self.sign.change += 1;
        self.hint = None;
    }

    fn answered(&mut self, seen: &Observed) {
        self.fetch_wanted = false;
        self.hint = None;
        self.held = Some(seen.clone());
        self.requests = Retry::default();
        if self.session != Session::Ended {
            self.session = Session::Live;
        }
    }

    fn grant(&mut self, id: AnalyticsId) {
        if self.record.remembers_other_than(&id) {
            self.raise_epoch(Wipe::IdChanged);
        }
        let before = self.record.clone();
        self.record.remember_id(&id);
        self.record.decision = Consent::Granted;
        self.record.removal = None;
        self.record.trust();
        self.removal_ordered = false;
        self.fetch_wanted = self.hint.is_some();
        self.unsaved |= self.record != before;
        self.standing = Standing::Proven;
        self.id = Some(id);
    }

    fn withdrawn_elsewhere(&mut self) {
        self.settling = false;
        self.record.decision = Consent::Denied;
        self.record.forget_id();
        self.standing = Standing::Denied;
        self.close(Wipe::Withdrawn);
    }

    fn close(&mut self, wipe: Wipe) {
        self.id = None;
        self.raise_epoch(wipe);
    }

    /// A gate that closes leaves nothing behind it.
    fn close_if_closed(&mut self, wipe: Wipe) {
        if matches!(self.gate(), GateState::Closed(_)) {
            self.close(wipe);
        }
    }

    fn raise_epoch(&mut self, wipe: Wipe) {
        self.record.epoch += 1;
        self.unsaved = true;
        if self.wipe != Some(Wipe::Withdrawn) {
            self.wipe = Some(wipe);
        }
    }
}
