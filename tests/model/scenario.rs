//! What a run is made of, and how much may happen in it.

use super::{
    content::Content,
    device::{Input, Memory},
    foreign::ForeignClient,
    world::MOST_DEVICES,
};
use crate::consent::{machine::FailureKind, record::Removal};

/// What may still happen of what need not happen.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    pub(super) opt_in: [u8; MOST_DEVICES],
    pub(super) opt_out: [u8; MOST_DEVICES],
    pub(super) erase: [u8; MOST_DEVICES],
    /// Denying and allowing on a device, each.
    pub(super) veto: [u8; MOST_DEVICES],
    pub(super) drop_opt_in: u8,
    pub(super) recheck: u8,
    pub(super) crash: u8,
    /// Requests that fail, before or after they were applied.
    pub(super) lose: u8,
    /// Of these, writes that are applied at any time later.
    pub(super) late: u8,
    pub(super) save_failure: u8,
    /// What sync shows a second time.
    pub(super) replay: u8,
    pub(super) foreign: u8,
    /// Soft logouts and their ends, ends of sessions, accounts forbidden, users locked.
    pub(super) session: u8,
    /// Requests that the homeserver refuses and asks not to repeat for a while.
    pub(super) ask_to_wait: u8,
    /// Account data of other types in sync.
    pub(super) deliver: u8,
    /// The timer that asks again is due.
    pub(super) recheck_due: u8,
    /// The last handle is dropped, and another one is built.
    pub(super) rebuild: u8,
    /// Writes that the homeserver says it applied, and has not.
    pub(super) lie: u8,
}

/// What a run is made of.
#[derive(Clone, Default)]
pub(super) struct Scenario {
    /// What the server holds and each device remembers when a run begins.
    pub(super) starts: Vec<(Content, Vec<Memory>)>,
    pub(super) budget: Budget,
    pub(super) foreign: &'static [ForeignClient],
    /// Devices that are not to track, by bit.
    pub(super) do_not_track: u8,
    /// The disk takes its time.
    pub(super) has_slow_disk: bool,
    /// The settle time does not wait for the requests of other devices.
    pub(super) settles_too_early: bool,
    /// Whether no ID that was sent under may be replaced by an opt-in of ours.
    pub(super) used_ids_stay: bool,
}

impl Budget {
    pub(super) fn spend(&mut self, index: usize, input: Input) {
        let budget = match input {
            Input::OptIn => &mut self.opt_in[index],
            Input::OptOut(Removal::Id) => &mut self.opt_out[index],
            Input::OptOut(Removal::Event) => &mut self.erase[index],
            Input::Deny | Input::Allow => &mut self.veto[index],
            Input::DropOptIn => &mut self.drop_opt_in,
            Input::Recheck => &mut self.recheck,
            Input::SaveFailed { .. } => &mut self.save_failure,
            Input::Failed(FailureKind::Unanswered) => &mut self.lose,
            Input::Failed(_)
            | Input::SessionIs(_)
            | Input::EndSession
            | Input::MissedSessionChanges => &mut self.session,
            Input::AskedToWait => &mut self.ask_to_wait,
            Input::Delivered => &mut self.deliver,
            Input::RecheckDue => &mut self.recheck_due,
            Input::Rebuild => &mut self.rebuild,
            Input::Lied => &mut self.lie,
            _ => return,
        };
        *budget -= 1;
    }
}
