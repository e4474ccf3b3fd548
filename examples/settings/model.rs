//! Everything that is on the screen.

use matrix_analytics::{ClosedReason, GateState, Note, Switch};
use ratatui::layout::Size;

use crate::text::Entry;

/// The smallest terminal that the pages fit in.
pub(crate) const SMALLEST: Size = Size { width: 80, height: 24 };

/// Everything that is on the screen.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// The user whose account holds the decision.
    pub(crate) user: String,
    pub(crate) devices: Vec<DeviceModel>,
    /// The device that keys act on.
    pub(crate) selected: usize,
    pub(crate) page: Page,
    /// The number of lines above the screen, on a page that scrolls.
    pub(crate) scroll: usize,
    /// What the bug report would send.
    pub(crate) report: Vec<Entry>,
    /// The result of the last key.
    pub(crate) message: String,
    /// The size of the terminal.
    pub(crate) size: Size,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    Settings,
    History,
    Disclosure,
    Preview,
    /// A bug report before it is submitted.
    Report,
}

/// One device of the user.
#[derive(Clone, Debug)]
pub(crate) struct DeviceModel {
    pub(crate) name: &'static str,
    pub(crate) switch: Switch,
    pub(crate) note: Option<Note>,
    pub(crate) gate: GateState,
    pub(crate) has_id: bool,
    /// None without a recipient.
    pub(crate) counters: Option<Counters>,
    pub(crate) history: Vec<Entry>,
    pub(crate) disclosure: Vec<Entry>,
    pub(crate) preview: Vec<Entry>,
}

/// The counters of all recipients together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) captured: u64,
    pub(crate) waiting: u64,
    pub(crate) delivered: u64,
    pub(crate) dropped: u64,
    /// The reasons of the drops, with their numbers.
    pub(crate) reasons: String,
}

impl Model {
    pub(crate) fn new(user: String, devices: Vec<DeviceModel>) -> Self {
        Self {
            user,
            devices,
            selected: 0,
            page: Page::Settings,
            scroll: 0,
            report: Vec::new(),
            message: String::new(),
            size: SMALLEST,
        }
    }

    /// Returns whether the terminal is too small to show a page.
    pub(crate) fn is_too_small(&self) -> bool {
        self.size.width < SMALLEST.width || self.size.height < SMALLEST.height
    }

    /// Returns the device that keys act on.
    pub(crate) fn device(&self) -> Option<&DeviceModel> {
        self.devices.get(self.selected)
    }

    /// Returns the text of a page that scrolls.
    pub(crate) fn entries(&self) -> &[Entry] {
        let Some(device) = self.device() else { return &[] };
        match self.page {
            Page::Settings => &[],
            Page::History => &device.history,
            Page::Disclosure => &device.disclosure,
            Page::Preview => &device.preview,
            Page::Report => &self.report,
        }
    }
}

impl DeviceModel {
    /// Returns whether the user has vetoed analytics on this device.
    pub(crate) fn is_vetoed(&self) -> bool {
        self.gate == GateState::Closed(ClosedReason::DeviceVeto)
    }

    /// Returns whether a new opt-in would mend the state of the account.
    pub(crate) fn is_renewable(&self) -> bool {
        matches!(self.note, Some(Note::MissingId | Note::DecisionErased))
    }
}
