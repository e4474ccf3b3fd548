//! The consent tables with a policy: this device's memory × the homeserver's answer, and the
//! device's state × the content in sync. `docs/consent.md` contains both.

use std::time::Duration;

use matrix_analytics::{
    Analytics, ClosedReason, Consent, ConsentState, GateState, HoldReason, Policy, Prompt,
    testing::{Fault, RecordingBackend},
};
use serde_json::json;

use super::{NOT_AGREED, YEAR, device_with, entry, id_of, member, opt_in, third};
use crate::{
    support::{AnalyticsExt as _, Device, FOREIGN_ID, World, content, eventually},
    table::{CELLS, check_with_policy},
};

/// The device's memory when the process starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remembered {
    Nothing,
    /// The user opted in here, when the app had no policy.
    NoPolicy,
    /// The user agreed to the policy here.
    Here,
    /// The account held an agreement to the policy, given elsewhere.
    Elsewhere,
    /// The user agreed to another version here.
    ToOtherVersion,
    Denied,
    DeniedPending,
}

/// An opt-in on the homeserver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// The ID that this device had, with an agreement to the policy.
    Agreed,
    /// The same, with an agreement to a later version as well.
    AgreedToBoth,
    /// An agreement to another version.
    OtherVersion,
    /// An agreement to the version with another recipient.
    OtherRecipient,
    /// An agreement that is older than `renew_after`.
    Old,
    /// No agreement, as Element iOS writes the event.
    NoMember,
    Malformed,
    /// An agreement that is bound to another ID.
    Unbound,
    /// Another ID, with an agreement to the policy.
    OtherIdAgreed,
    /// Another ID, with the agreement under the previous one, as Element Web writes the event.
    OtherIdCarried,
    OtherIdNoMember,
    /// No ID, with the agreement under the previous one.
    NoIdCarried,
    /// An opt-out that keeps the ID and the agreement, as Element Web writes it.
    FalseCarried,
    /// An opt-out without an ID that keeps the agreement.
    FalseMemberAlone,
    /// The ID and the agreement of an opt-in that was withdrawn on another device, as a client
    /// writes them back that cached the event.
    Restored,
    /// An ID alone, as Element Android overwrites the event.
    IdAlone,
}

const OPEN: GateState = GateState::Open;
const DENIED: GateState = GateState::Closed(ClosedReason::Denied);
const UNDECIDED: GateState = GateState::Closed(ClosedReason::Undecided);
const DECISION_ERASED: GateState = GateState::Closed(ClosedReason::DecisionErased);
const NO_ID: GateState = GateState::Holding(HoldReason::MissingId);

type Cell = (Remembered, Answer, GateState, &'static str);

#[rustfmt::skip]
const START: &[Cell] = {
    use Answer::*;
    use Remembered::*;

    &[
        (Nothing, Agreed, OPEN, "GET"),
        (Nothing, AgreedToBoth, OPEN, "GET"),
        (Nothing, Restored, OPEN, "GET"),
        (Nothing, OtherVersion, NOT_AGREED, "GET"),
        (Nothing, OtherRecipient, NOT_AGREED, "GET"),
        (Nothing, Old, NOT_AGREED, "GET"),
        (Nothing, NoMember, NOT_AGREED, "GET"),
        (Nothing, Malformed, NOT_AGREED, "GET"),
        (Nothing, Unbound, NOT_AGREED, "GET"),
        (Nothing, NoIdCarried, NOT_AGREED, "GET"),
        (Nothing, FalseCarried, DENIED, "GET"),
        (Nothing, FalseMemberAlone, DENIED, "GET"),
        (Nothing, IdAlone, UNDECIDED, "GET"),

        (NoPolicy, Agreed, OPEN, "GET"),
        (NoPolicy, OtherVersion, NOT_AGREED, "GET"),
        (NoPolicy, NoMember, NOT_AGREED, "GET"),
        (NoPolicy, OtherIdAgreed, OPEN, "GET"),
        (NoPolicy, OtherIdNoMember, NOT_AGREED, "GET"),

        (Here, Agreed, OPEN, "GET"),
        (Here, AgreedToBoth, OPEN, "GET"),
        (Here, OtherVersion, OPEN, "GET"),
        (Here, OtherRecipient, OPEN, "GET"),
        (Here, Old, OPEN, "GET"),
        (Here, NoMember, OPEN, "GET"),
        (Here, Malformed, OPEN, "GET"),
        (Here, Unbound, OPEN, "GET"),
        (Here, OtherIdAgreed, OPEN, "GET"),
        (Here, OtherIdCarried, NOT_AGREED, "GET"),
        (Here, OtherIdNoMember, NOT_AGREED, "GET"),
        (Here, NoIdCarried, NO_ID, "GET"),
        (Here, FalseCarried, DENIED, "GET"),
        (Here, IdAlone, DECISION_ERASED, "GET"),

        (Elsewhere, Agreed, OPEN, "GET"),
        (Elsewhere, AgreedToBoth, OPEN, "GET"),
        (Elsewhere, OtherVersion, NOT_AGREED, "GET"),
        (Elsewhere, OtherRecipient, NOT_AGREED, "GET"),
        (Elsewhere, Old, NOT_AGREED, "GET"),
        (Elsewhere, NoMember, NOT_AGREED, "GET"),
        (Elsewhere, Malformed, NOT_AGREED, "GET"),
        (Elsewhere, Unbound, NOT_AGREED, "GET"),
        (Elsewhere, OtherIdAgreed, OPEN, "GET"),
        (Elsewhere, OtherIdCarried, NOT_AGREED, "GET"),
        (Elsewhere, NoIdCarried, NOT_AGREED, "GET"),

        (ToOtherVersion, Agreed, OPEN, "GET"),
        (ToOtherVersion, AgreedToBoth, OPEN, "GET"),
        (ToOtherVersion, OtherVersion, NOT_AGREED, "GET"),
        (ToOtherVersion, NoMember, NOT_AGREED, "GET"),
        (ToOtherVersion, OtherIdCarried, NOT_AGREED, "GET"),

        (Denied, Agreed, DENIED, "GET PUT GET"),
        (Denied, NoMember, DENIED, "GET PUT GET"),
        (Denied, OtherIdAgreed, OPEN, "GET"),
        (Denied, OtherIdCarried, NOT_AGREED, "GET"),
        (Denied, OtherIdNoMember, NOT_AGREED, "GET"),
        (Denied, NoIdCarried, DENIED, "GET"),
        (Denied, FalseMemberAlone, DENIED, "GET"),

        (DeniedPending, Agreed, DENIED, "GET PUT GET"),
        (DeniedPending, OtherIdAgreed, DENIED, "GET PUT GET"),
        (DeniedPending, NoIdCarried, DENIED, "GET PUT GET"),
        (DeniedPending, FalseMemberAlone, DENIED, "GET PUT GET"),
    ]
};

/// The state of the running process when sync shows an answer.
#[rustfmt::skip]
const SYNC: &[Cell] = {
    use Answer::*;
    use Remembered::*;

    &[
        (Nothing, Agreed, OPEN, "GET"),
        (Nothing, NoMember, NOT_AGREED, "GET"),

        (NoPolicy, Agreed, OPEN, "GET"),
        (NoPolicy, OtherVersion, NOT_AGREED, ""),
        (NoPolicy, NoMember, NOT_AGREED, ""),
        (NoPolicy, OtherIdAgreed, OPEN, "GET"),
        (NoPolicy, OtherIdNoMember, NOT_AGREED, "GET"),
        (NoPolicy, FalseCarried, DENIED, ""),
        (NoPolicy, IdAlone, DECISION_ERASED, "GET"),

        (Here, NoMember, OPEN, "GET"),
        (Here, Malformed, OPEN, "GET"),
        (Here, OtherVersion, OPEN, "GET"),
        (Here, OtherIdAgreed, OPEN, "GET"),
        (Here, OtherIdCarried, NOT_AGREED, "GET"),
        (Here, NoIdCarried, NO_ID, "GET"),
        (Here, FalseCarried, DENIED, ""),
        (Here, IdAlone, DECISION_ERASED, "GET"),

        (Elsewhere, AgreedToBoth, OPEN, ""),
        (Elsewhere, OtherVersion, NOT_AGREED, "GET"),
        (Elsewhere, NoMember, NOT_AGREED, "GET"),
        (Elsewhere, Malformed, NOT_AGREED, "GET"),
        (Elsewhere, OtherIdAgreed, OPEN, "GET"),
        (Elsewhere, OtherIdCarried, NOT_AGREED, "GET"),
        (Elsewhere, NoIdCarried, NOT_AGREED, "GET"),

        (Denied, OtherIdAgreed, OPEN, "GET"),
        (Denied, OtherIdCarried, NOT_AGREED, "GET"),
        (Denied, OtherIdNoMember, NOT_AGREED, "GET"),
    ]
};

impl Answer {
    /// Returns the content on an account that held `own_id`.
    fn content(self, own_id: &str) -> String {
        let agreed = || entry("3.0.0", &["eu.example"], Duration::ZERO);
        let carried = || Some(member(own_id, &[agreed()]));
        match self {
            Self::Agreed | Self::Restored => opt_in(Some(own_id), carried()),
            Self::AgreedToBoth => {
                let later = entry("4.0.0", &[], Duration::ZERO);
                opt_in(Some(own_id), Some(member(own_id, &[agreed(), later])))
            }
            Self::OtherVersion => {
                let other = entry("4.0.0", &["eu.example"], Duration::ZERO);
                opt_in(Some(own_id), Some(member(own_id, &[other])))
            }
            Self::OtherRecipient => {
                let other = entry("3.0.0", &["us.example"], Duration::ZERO);
                opt_in(Some(own_id), Some(member(own_id, &[other])))
            }
            Self::Old => {
                let old = entry("3.0.0", &["eu.example"], YEAR + Duration::from_secs(1));
                opt_in(Some(own_id), Some(member(own_id, &[old])))
            }
            Self::NoMember => opt_in(Some(own_id), None),
            Self::Malformed => opt_in(Some(own_id), Some(json!({ "agreed": [agreed()] }))),
            Self::Unbound => opt_in(Some(own_id), Some(member(FOREIGN_ID, &[agreed()]))),
            Self::OtherIdAgreed => opt_in(Some(FOREIGN_ID), Some(member(FOREIGN_ID, &[agreed()]))),
            Self::OtherIdCarried => opt_in(Some(FOREIGN_ID), carried()),
            Self::OtherIdNoMember => opt_in(Some(FOREIGN_ID), None),
            Self::NoIdCarried => opt_in(None, carried()),
            Self::FalseCarried => opt_in(Some(own_id), carried()).replace("true", "false"),
            Self::FalseMemberAlone => opt_in(None, carried()).replace("true", "false"),
            Self::IdAlone => content(None, Some(own_id)),
        }
    }

    fn id(self, own_id: &str) -> &str {
        match self {
            Self::OtherIdAgreed | Self::OtherIdCarried | Self::OtherIdNoMember => FOREIGN_ID,
            _ => own_id,
        }
    }
}

#[tokio::test]
async fn every_cell_of_the_start_table_holds_with_a_policy() {
    for &(remembered, answer, gate, requests) in START {
        let cell = format!("{remembered:?} × {answer:?}");
        let world = World::new().await;
        let (device, own_id) = remember(&world, remembered).await;
        let answered = answer.content(&own_id);
        world.set_content(&answered);
        world.take_requests();

        let (analytics, recorder) = device.start().await;
        analytics.until(|state| state.confirmed && !state.removal_pending).await;
        // Answered after all work that the first answer triggered.
        eventually(analytics.recheck()).await.unwrap();
        assert_eq!(world.take_requests(), format!("{requests} GET"), "{cell}");
        if requests == "GET" {
            assert_eq!(world.content(), Some(answered), "{cell}");
        }
        judge(&analytics, &recorder, gate, answer.id(&own_id), &cell).await;
    }
}

#[tokio::test]
async fn every_cell_of_the_sync_table_holds_with_a_policy() {
    for &(remembered, answer, gate, requests) in SYNC {
        let cell = format!("{remembered:?} × {answer:?} in sync");
        let world = World::new().await;
        let (device, own_id) = remember(&world, remembered).await;
        let (analytics, recorder) = device.start_confirmed().await;
        device.sync().await;
        eventually(analytics.recheck()).await.unwrap();
        world.set_content(&answer.content(&own_id));
        world.take_requests();

        device.sync().await;
        let count = requests.split_whitespace().count();
        eventually(world.server.wait_for(|seen| seen.len() >= count)).await;
        analytics.until(|state| state.gate == gate && state.confirmed).await;
        // Answered after all work that sync triggered.
        eventually(analytics.recheck()).await.unwrap();
        let expected: Vec<_> = requests.split_whitespace().chain(["GET"]).collect();
        assert_eq!(world.take_requests(), expected.join(" "), "{cell}");
        judge(&analytics, &recorder, gate, answer.id(&own_id), &cell).await;
    }
}

#[tokio::test]
async fn without_an_opt_in_every_cell_is_as_without_a_policy() {
    let mut checked = 0;
    for cell in CELLS {
        if matches!(cell.2, DENIED | UNDECIDED | DECISION_ERASED) {
            checked += 1;
            check_with_policy(*cell, third()).await;
        }
    }
    assert_eq!(checked, 33);
}

/// Takes the user's steps to `remembered`, and ends the process. Returns the device's ID.
async fn remember(world: &World, remembered: Remembered) -> (Device, String) {
    let asks = device_with(world, "PHONE", third()).await;
    let with = |policy: Option<Policy>| Device {
        client: asks.client.clone(),
        login: asks.login.clone(),
        policy: policy.map(|policy| (policy, "eu.example")),
    };
    let own_id = match remembered {
        Remembered::Nothing => "an-unused-id".to_owned(),
        Remembered::NoPolicy => id_of(&with(None).start_opted_in().await.0),
        Remembered::Here => id_of(&asks.start_opted_in().await.0),
        Remembered::Elsewhere => {
            world.set_content(&Answer::Agreed.content("an-id-elsewhere"));
            id_of(&asks.start_confirmed().await.0)
        }
        Remembered::ToOtherVersion => {
            id_of(&with(Some(Policy::new("4.0.0"))).start_opted_in().await.0)
        }
        Remembered::Denied | Remembered::DeniedPending => {
            let (analytics, _) = asks.start_opted_in().await;
            let id = id_of(&analytics);
            if remembered == Remembered::DeniedPending {
                world.server.fail_all(Fault::ResetBefore);
            }
            eventually(analytics.opt_out().into_future()).await;
            world.server.heal();
            id
        }
    };
    (asks, own_id)
}

/// Checks the state, and that events leave only if the gate is open, and under `id`.
async fn judge(
    analytics: &Analytics,
    recorder: &RecordingBackend,
    gate: GateState,
    id: &str,
    cell: &str,
) {
    let state: ConsentState = analytics.state();
    assert_eq!(state.gate, gate, "{cell}");
    let (decision, prompt) = match gate {
        NOT_AGREED => (Consent::Granted, Prompt::Ask),
        DENIED => (Consent::Denied, Prompt::DontAsk),
        UNDECIDED => (Consent::Undecided, Prompt::Ask),
        _ => (Consent::Granted, Prompt::DontAsk),
    };
    assert_eq!((state.decision, state.prompt()), (decision, prompt), "{cell}");
    assert_eq!(eventually(analytics.should_ask()).await, prompt == Prompt::Ask, "{cell}");

    recorder.clear();
    analytics.capture_one("Opened");
    eventually(analytics.flush_all()).await;
    let expected: &[&str] = if gate == OPEN { &[id] } else { &[] };
    assert_eq!(recorder.ids(), expected, "{cell}");
    assert!(analytics.stats().backends.iter().all(|backend| backend.is_balanced()), "{cell}");
}

#[test]
fn the_docs_contain_both_tables_with_a_policy() {
    let docs = include_str!("../../../docs/consent.md");
    let (start, sync) = (rendered(START), rendered(SYNC));
    assert!(docs.contains(&start), "docs/consent.md has to have this table:\n\n{start}");
    assert!(docs.contains(&sync), "docs/consent.md has to have this table:\n\n{sync}");
}

/// Renders the cells as a Markdown table.
fn rendered(cells: &[Cell]) -> String {
    use std::fmt::Write as _;

    let mut table =
        "| remembered | on the homeserver | gate | requests |\n|---|---|---|---|\n".to_owned();
    for (remembered, answer, gate, requests) in cells {
        let remembered = match remembered {
            Remembered::Nothing => "nothing",
            Remembered::NoPolicy => "granted, no agreement",
            Remembered::Here => "agreed here",
            Remembered::Elsewhere => "agreed elsewhere",
            Remembered::ToOtherVersion => "agreed to another version",
            Remembered::Denied => "denied",
            Remembered::DeniedPending => "denied, removal pending",
        };
        let answer = match answer {
            Answer::Agreed => "the ID, agreed",
            Answer::AgreedToBoth => "the ID, agreed to this and another version",
            Answer::OtherVersion => "the ID, agreed to another version",
            Answer::OtherRecipient => "the ID, agreed to other recipients",
            Answer::Old => "the ID, agreed too long ago",
            Answer::NoMember => "the ID, no member",
            Answer::Malformed => "the ID, a malformed member",
            Answer::Unbound => "the ID, a member for another ID",
            Answer::OtherIdAgreed => "another ID, agreed",
            Answer::OtherIdCarried => "another ID, the former member",
            Answer::OtherIdNoMember => "another ID, no member",
            Answer::NoIdCarried => "no `id`, the former member",
            Answer::FalseCarried => "`false`, the ID and the member",
            Answer::FalseMemberAlone => "`false`, no `id`, the former member",
            Answer::Restored => "the ID and its member, withdrawn elsewhere and restored",
            Answer::IdAlone => "an ID, no flag, no member",
        };
        let requests = if requests.is_empty() { "none" } else { requests };
        writeln!(table, "| {remembered} | {answer} | `{gate:?}` | {requests} |").unwrap();
    }
    table
}
