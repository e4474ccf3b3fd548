//! The parts of a run, and the number of optional events in it.

use super::{
    content::Content,
    device::{Input, Memory},
    foreign::ForeignClient,
    world::MAX_DEVICES,
};
use crate::consent::{machine::FailureKind, record::Removal};

/// The numbers of optional events that may still happen.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    pub(super) opt_in: [u8; MAX_DEVICES],
    pub(super) opt_out: [u8; MAX_DEVICES],
    pub(super) erase: [u8; MAX_DEVICES],
    /// Calls that set or lift the veto of a device.
    pub(super) veto: [u8; MAX_DEVICES],
    pub(super) drop_opt_in: u8,
    pub(super) recheck: u8,
    pub(super) crash: u8,
    /// Requests that fail, before or after they were applied.
    pub(super) lose: u8,
    /// The number of these that may be writes applied at any later time.
    pub(super) late: u8,
    pub(super) save_failure: u8,
    /// Contents that sync shows a second time.
    pub(super) replay: u8,
    pub(super) foreign: u8,
    /// Changes of the session, guest accounts and locked users.
    pub(super) session: u8,
    /// Requests that the homeserver refuses with a wait.
    pub(super) ask_to_wait: u8,
    /// Account data of other types in sync.
    pub(super) deliver: u8,
    /// Ends of the re-check timer.
    pub(super) recheck_due: u8,
    /// Rebuilds: the last handle is dropped and a new one is built.
    pub(super) rebuild: u8,
    /// Writes that the homeserver acknowledges without applying them.
    pub(super) lie: u8,
    /// Years that pass on all devices, after which an earlier agreement is old.
    pub(super) age: u8,
    /// Clocks that go back by a year.
    pub(super) clock: u8,
    /// New IDs whose settle time ended long before the homeserver was asked.
    pub(super) sleep: u8,
}

/// The starts of a run, and the events that may happen in it.
#[derive(Clone, Default)]
pub(super) struct Scenario {
    /// The content of the server and the memory of each device when a run begins.
    pub(super) starts: Vec<(Content, Vec<Memory>)>,
    pub(super) budget: Budget,
    pub(super) foreign: &'static [ForeignClient],
    /// The policy of each device.
    pub(super) policies: [Option<u8>; MAX_DEVICES],
    /// Whether every device must be open in a quiet state once all opt-ins were called.
    pub(super) all_open_at_last: bool,
    /// Devices with `DO_NOT_TRACK`, by bit.
    pub(super) do_not_track: u8,
    /// Whether a save takes time.
    pub(super) has_slow_disk: bool,
    /// Whether the settle time ends without waiting for the requests of other devices.
    pub(super) settles_too_early: bool,
    /// Whether to check that no opt-in of ours replaces an ID that events were sent under.
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
            Input::ClockGoesBack => &mut self.clock,
            Input::SettledLongAgo => &mut self.sleep,
            _ => return,
        };
        *budget -= 1;
    }
}
