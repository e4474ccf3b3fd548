//! The analytics switch of a settings page.

use super::state::{ClosedReason, ConsentState, GateState, HoldReason};
use crate::named::named;

/// The position of the analytics switch on a settings page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Switch {
    /// Show no switch: the account is a guest's, or the session is over.
    Hidden,
    /// Show the switch disabled: the homeserver has not said yet what the account holds.
    Pending,
    /// Show the switch off.
    Off,
    /// Show the switch on.
    On,
}

named!(Switch { Hidden => "hidden", Pending => "pending", Off => "off", On => "on" });

/// A note to show next to the switch: the reason why its position differs from the account,
/// or why nothing is sent although it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Note {
    /// `DO_NOT_TRACK` is set for this process, or the builder was told to act as if it were.
    /// The switch cannot open the gate here: disable it.
    DoNotTrack,
    /// Analytics are off on this device only:
    /// [`deny_on_this_device`](crate::Analytics::deny_on_this_device) was called. Disable the
    /// switch, or offer [`allow_on_this_device`](crate::Analytics::allow_on_this_device).
    DeviceVeto,
    /// A call of [`opt_in`](crate::Analytics::opt_in) is in progress. It can still fail; the
    /// switch then goes back.
    OptingIn,
    /// Events leave in a moment, when the new ID has settled.
    Settling,
    /// Nothing is sent: another client erased or overwrote the decision.
    /// [`opt_in`](crate::Analytics::opt_in) renews it.
    DecisionErased,
    /// Nothing is sent: the user has not agreed to the configured
    /// [`policy`](crate::AnalyticsBuilder::policy). [`opt_in`](crate::Analytics::opt_in) renews
    /// the opt-in, and [`opt_out`](crate::Analytics::opt_out) withdraws the previous one.
    PolicyNotAgreed,
    /// Nothing is sent: the account holds no usable ID.
    /// [`opt_in`](crate::Analytics::opt_in) creates one.
    MissingId,
    /// Nothing is sent until the homeserver can be reached and confirms the opt-in.
    Unverified,
    /// Nothing is sent: the session is soft-logged-out, and the user has to log in again.
    SoftLogout,
    /// The account still holds an ID or an opt-in. It is removed as soon as the homeserver can
    /// be reached.
    RemovalPending,
    /// A recipient has not accepted yet to delete what it holds; see
    /// [`OptOut::erase_recipients`](crate::OptOut::erase_recipients).
    ErasurePending,
}

named!(Note {
    DoNotTrack => "do_not_track",
    DeviceVeto => "device_veto",
    OptingIn => "opting_in",
    Settling => "settling",
    DecisionErased => "decision_erased",
    PolicyNotAgreed => "policy_not_agreed",
    MissingId => "missing_id",
    Unverified => "unverified",
    SoftLogout => "soft_logout",
    RemovalPending => "removal_pending",
    ErasurePending => "erasure_pending",
});

impl ConsentState {
    /// Returns the position of the switch on a settings page.
    ///
    /// While an opt-in is in progress it stays where the user put it.
    #[must_use]
    pub fn switch(&self) -> Switch {
        match self.gate {
            GateState::Closed(reason) => match reason {
                ClosedReason::SessionEnded | ClosedReason::Unavailable => Switch::Hidden,
                ClosedReason::Unknown => Switch::Pending,
                ClosedReason::DecisionErased => Switch::On,
                ClosedReason::Denied
                | ClosedReason::DeviceVeto
                | ClosedReason::DoNotTrack
                | ClosedReason::PolicyNotAgreed
                | ClosedReason::Undecided => Switch::Off,
            },
            GateState::Holding(_) | GateState::Open => Switch::On,
        }
    }

    /// Returns the remark to show next to the switch, if there is one.
    #[must_use]
    pub fn note(&self) -> Option<Note> {
        match self.gate {
            GateState::Closed(reason) => match reason {
                ClosedReason::DoNotTrack => Some(Note::DoNotTrack),
                ClosedReason::DeviceVeto => Some(Note::DeviceVeto),
                ClosedReason::DecisionErased => Some(Note::DecisionErased),
                ClosedReason::PolicyNotAgreed => Some(Note::PolicyNotAgreed),
                ClosedReason::Denied | ClosedReason::Undecided => {
                    let removal = self.removal_pending.then_some(Note::RemovalPending);
                    removal.or(self.erasures_pending.then_some(Note::ErasurePending))
                }
                ClosedReason::SessionEnded | ClosedReason::Unavailable | ClosedReason::Unknown => {
                    None
                }
            },
            GateState::Holding(reason) => Some(match reason {
                HoldReason::OptingIn => Note::OptingIn,
                HoldReason::Settling => Note::Settling,
                HoldReason::MissingId => Note::MissingId,
                HoldReason::SoftLogout => Note::SoftLogout,
                HoldReason::Rechecking | HoldReason::Unverified => Note::Unverified,
            }),
            GateState::Open => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::state::{Consent, Prompt};

    /// A gate with its switch, its note, and the notes while a removal and while an erasure is
    /// pending.
    type Row = (GateState, Switch, Option<Note>, [Option<Note>; 2]);

    fn table() -> Vec<Row> {
        use GateState::{Closed, Holding, Open};

        let same = |gate, switch, note| (gate, switch, note, [note; 2]);
        let pending = [Some(Note::RemovalPending), Some(Note::ErasurePending)];
        vec![
            (Closed(ClosedReason::Denied), Switch::Off, None, pending),
            (Closed(ClosedReason::Undecided), Switch::Off, None, pending),
            same(Closed(ClosedReason::DeviceVeto), Switch::Off, Some(Note::DeviceVeto)),
            same(Closed(ClosedReason::DoNotTrack), Switch::Off, Some(Note::DoNotTrack)),
            same(Closed(ClosedReason::SessionEnded), Switch::Hidden, None),
            same(Closed(ClosedReason::Unavailable), Switch::Hidden, None),
            same(Closed(ClosedReason::Unknown), Switch::Pending, None),
            same(Closed(ClosedReason::DecisionErased), Switch::On, Some(Note::DecisionErased)),
            same(Closed(ClosedReason::PolicyNotAgreed), Switch::Off, Some(Note::PolicyNotAgreed)),
            same(Holding(HoldReason::Rechecking), Switch::On, Some(Note::Unverified)),
            same(Holding(HoldReason::MissingId), Switch::On, Some(Note::MissingId)),
            same(Holding(HoldReason::OptingIn), Switch::On, Some(Note::OptingIn)),
            same(Holding(HoldReason::Settling), Switch::On, Some(Note::Settling)),
            same(Holding(HoldReason::SoftLogout), Switch::On, Some(Note::SoftLogout)),
            same(Holding(HoldReason::Unverified), Switch::On, Some(Note::Unverified)),
            same(Open, Switch::On, None),
        ]
    }

    #[test]
    fn every_state_has_the_switch_and_the_note_of_the_table() {
        let table = table();
        let closed = ClosedReason::ALL.iter().map(|reason| GateState::Closed(*reason));
        let holding = HoldReason::ALL.iter().map(|reason| GateState::Holding(*reason));
        let gates: Vec<_> = closed.chain(holding).chain([GateState::Open]).collect();
        assert_eq!(table.iter().map(|row| row.0).collect::<Vec<_>>(), gates);

        for (gate, switch, note, [while_removal, while_erasure]) in table {
            for (decision, bits) in Consent::ALL.iter().flat_map(|it| (0..8).map(move |n| (it, n)))
            {
                let [confirmed, removal_pending, erasures_pending] =
                    [1, 2, 4].map(|bit| bits & bit != 0);
                let state = ConsentState {
                    decision: *decision,
                    confirmed,
                    gate,
                    removal_pending,
                    erasures_pending,
                };
                let expected = match (removal_pending, erasures_pending) {
                    (true, _) => while_removal,
                    (false, true) => while_erasure,
                    (false, false) => note,
                };
                assert_eq!((state.switch(), state.note()), (switch, expected), "{state:?}");
            }
        }
    }

    #[test]
    fn the_switch_agrees_with_the_prompt() {
        for (gate, switch, ..) in table() {
            let state = ConsentState {
                decision: Consent::Undecided,
                confirmed: true,
                gate,
                removal_pending: false,
                erasures_pending: false,
            };
            match state.prompt() {
                Prompt::Ask => assert_eq!(switch, Switch::Off),
                Prompt::Wait => assert_eq!(switch, Switch::Pending),
                Prompt::Unavailable => assert_eq!(switch, Switch::Hidden),
                Prompt::DontAsk => assert!(matches!(switch, Switch::Off | Switch::On)),
            }
        }
    }
}
