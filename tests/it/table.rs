//! The consent tables: the device's memory × the homeserver's answer, and the device's state × the
//! content in sync.
//!
//! Each row of [`CELLS`] and [`SYNC_CELLS`] is one cell, and `docs/consent.md` contains both
//! tables. Each remembered state is reached through the user's own actions.

use matrix_analytics::{
    Analytics, ClosedReason, Consent, ConsentState, GateState, HoldReason, Policy, Prompt,
    testing::{Fault, RecordingBackend},
};

use crate::support::{AnalyticsExt as _, Device, FOREIGN_ID, World, content, eventually, id_in};

/// The device's memory when the process starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remembered {
    Nothing,
    Granted,
    /// As for the account: granted, without an ID.
    GrantedNoId,
    Denied,
    DeniedPending,
}

/// The homeserver's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The flag `true` and the ID that this device had.
    SameId,
    /// The flag `true` and another ID.
    OtherId,
    /// The flag `true` and no `id`, or no usable one.
    NoId,
    NullId,
    False,
    FalseWithId,
    NotFound,
    Empty,
    /// A flag that is not a boolean, and no ID.
    Malformed,
    /// An ID without a flag, as Element Android overwrites the event.
    IdAlone,
}

/// The expected outcome of a cell.
struct Expected {
    decision: Consent,
    gate: GateState,
    prompt: Prompt,
    requests: &'static str,
    /// The ID that events are sent under.
    sends_under: Option<Answer>,
}

const OPEN: GateState = GateState::Open;
const DENIED: GateState = GateState::Closed(ClosedReason::Denied);
const UNDECIDED: GateState = GateState::Closed(ClosedReason::Undecided);
const DECISION_ERASED: GateState = GateState::Closed(ClosedReason::DecisionErased);
const NO_ID: GateState = GateState::Holding(HoldReason::MissingId);

#[rustfmt::skip]
pub(crate) const CELLS: &[(Remembered, Answer, GateState, &str)] = {
    use Answer::*;
    use Remembered::*;

    &[
        (Nothing, OtherId, OPEN, "GET"),
        (Nothing, NoId, NO_ID, "GET"),
        (Nothing, NullId, NO_ID, "GET"),
        (Nothing, False, DENIED, "GET"),
        (Nothing, FalseWithId, DENIED, "GET"),
        (Nothing, NotFound, UNDECIDED, "GET"),
        (Nothing, Empty, UNDECIDED, "GET"),
        (Nothing, Malformed, UNDECIDED, "GET"),
        (Nothing, IdAlone, UNDECIDED, "GET"),

        (Granted, SameId, OPEN, "GET"),
        (Granted, OtherId, OPEN, "GET"),
        (Granted, NoId, NO_ID, "GET"),
        (Granted, NullId, NO_ID, "GET"),
        (Granted, False, DENIED, "GET"),
        (Granted, FalseWithId, DENIED, "GET"),
        (Granted, NotFound, DECISION_ERASED, "GET"),
        (Granted, Empty, DECISION_ERASED, "GET"),
        (Granted, Malformed, DECISION_ERASED, "GET"),
        (Granted, IdAlone, DECISION_ERASED, "GET"),

        (GrantedNoId, OtherId, OPEN, "GET"),
        (GrantedNoId, NoId, NO_ID, "GET"),
        (GrantedNoId, False, DENIED, "GET"),
        (GrantedNoId, NotFound, DECISION_ERASED, "GET"),

        (Denied, SameId, DENIED, "GET PUT GET"),
        (Denied, OtherId, OPEN, "GET"),
        (Denied, NoId, DENIED, "GET"),
        (Denied, NullId, DENIED, "GET"),
        (Denied, False, DENIED, "GET"),
        (Denied, FalseWithId, DENIED, "GET"),
        (Denied, NotFound, DENIED, "GET"),
        (Denied, Empty, DENIED, "GET"),
        (Denied, Malformed, DENIED, "GET"),
        (Denied, IdAlone, DENIED, "GET"),

        (DeniedPending, SameId, DENIED, "GET PUT GET"),
        (DeniedPending, OtherId, DENIED, "GET PUT GET"),
        (DeniedPending, NoId, DENIED, "GET PUT GET"),
        (DeniedPending, NullId, DENIED, "GET PUT GET"),
        (DeniedPending, False, DENIED, "GET"),
        (DeniedPending, FalseWithId, DENIED, "GET PUT GET"),
        (DeniedPending, NotFound, DENIED, "GET"),
        (DeniedPending, Empty, DENIED, "GET"),
        (DeniedPending, Malformed, DENIED, "GET"),
        (DeniedPending, IdAlone, DENIED, "GET PUT GET"),
    ]
};

impl Expected {
    fn of(answer: Answer, gate: GateState, requests: &'static str) -> Self {
        let (decision, prompt) = match gate {
            DENIED => (Consent::Denied, Prompt::DontAsk),
            UNDECIDED => (Consent::Undecided, Prompt::Ask),
            _ => (Consent::Granted, Prompt::DontAsk),
        };
        Self { decision, gate, prompt, requests, sends_under: (gate == OPEN).then_some(answer) }
    }
}

#[tokio::test]
async fn every_cell_of_the_start_table_holds() {
    for &(remembered, answer, gate, requests) in CELLS {
        let expected = Expected::of(answer, gate, requests);
        check(remembered, answer, &expected, None).await;
    }
}

/// Checks that a cell holds if the app asks the user to agree to `policy`.
pub(crate) async fn check_with_policy(
    (remembered, answer, gate, requests): (Remembered, Answer, GateState, &'static str),
    policy: Policy,
) {
    let expected = Expected::of(answer, gate, requests);
    check(remembered, answer, &expected, Some((policy, "eu.example"))).await;
}

async fn check(
    remembered: Remembered,
    answer: Answer,
    expected: &Expected,
    policy: Option<(Policy, &'static str)>,
) {
    let cell = format!("{remembered:?} × {answer:?}, policy: {policy:?}");
    let world = World::new().await;
    let device = Device { policy, ..world.device("PHONE").await };
    let own_id = remember(&world, &device, remembered).await;
    let answered = answer.content(&own_id);
    world.set(answered.as_deref());
    world.take_requests();

    let (analytics, recorder) = device.start().await;
    let state = analytics.until(settled).await;
    assert_eq!(state.gate, expected.gate, "{cell}");
    assert_eq!(state.decision, expected.decision, "{cell}");
    assert_eq!(state.prompt(), expected.prompt, "{cell}");

    // Answered after all work that the first answer triggered.
    let rechecked = eventually(analytics.recheck()).await.unwrap();
    assert_eq!(rechecked.gate, expected.gate, "{cell}, asked again");
    let repeated = format!("{} GET", expected.requests);
    assert_eq!(world.take_requests(), repeated, "{cell}");

    // Without a PUT, the content is unchanged.
    match expected.requests {
        "GET" => assert_eq!(world.content(), answered, "{cell}"),
        _ => {
            let held = world.content().unwrap();
            assert_eq!(id_in(&held), None, "{cell}");
            assert!(held.contains(r#""pseudonymousAnalyticsOptIn":false"#), "{cell}");
        }
    }
    sends_only_under(&analytics, &recorder, expected, &own_id, &cell).await;
}

fn settled(state: &ConsentState) -> bool {
    state.confirmed && !state.removal_pending
}

/// Takes the user's steps to `remembered` on `device`, and ends the process. Returns the device's
/// ID.
async fn remember(world: &World, device: &Device, remembered: Remembered) -> String {
    if remembered == Remembered::Nothing {
        return "an-unused-id".to_owned();
    }
    if remembered == Remembered::GrantedNoId {
        world.set_content(&content(Some(true), None));
        device.start_confirmed().await;
        return "an-unused-id".to_owned();
    }
    let (analytics, _) = device.start_opted_in().await;
    let id = analytics.analytics_id().unwrap().reveal().to_owned();
    match remembered {
        Remembered::Denied => {
            assert!(eventually(analytics.opt_out().into_future()).await.is_complete());
        }
        Remembered::DeniedPending => {
            world.server.fail_all(Fault::ResetBefore);
            let receipt = eventually(analytics.opt_out().into_future()).await;
            assert!(receipt.record.is_done() && !receipt.account.is_done());
            world.server.heal();
        }
        _ => {}
    }
    id
}

impl Answer {
    fn content(self, own_id: &str) -> Option<String> {
        Some(match self {
            Self::SameId => content(Some(true), Some(own_id)),
            Self::OtherId => content(Some(true), Some(FOREIGN_ID)),
            Self::NoId => content(Some(true), None),
            Self::NullId => r#"{"id":null,"pseudonymousAnalyticsOptIn":true}"#.to_owned(),
            Self::False => content(Some(false), None),
            Self::FalseWithId => content(Some(false), Some(FOREIGN_ID)),
            Self::NotFound => return None,
            Self::Empty => "{}".to_owned(),
            Self::Malformed => r#"{"pseudonymousAnalyticsOptIn":"yes"}"#.to_owned(),
            Self::IdAlone => content(None, Some(FOREIGN_ID)),
        })
    }
}

/// Asserts that events leave only if the gate is open, and under the expected ID.
async fn sends_only_under(
    analytics: &Analytics,
    recorder: &RecordingBackend,
    expected: &Expected,
    own_id: &str,
    cell: &str,
) {
    analytics.capture_one("Opened");
    eventually(analytics.flush_all()).await;
    let ids = recorder.ids();
    match expected.sends_under {
        Some(Answer::SameId) => assert_eq!(ids, [own_id], "{cell}"),
        Some(_) => assert_eq!(ids, [FOREIGN_ID], "{cell}"),
        None => assert!(ids.is_empty(), "{cell}"),
    }
    assert!(analytics.stats().backends.iter().all(|backend| backend.is_balanced()), "{cell}");
}

/// The state of the running process when sync shows an answer.
#[rustfmt::skip]
const SYNC_CELLS: &[(Remembered, Answer, GateState, &str)] = {
    use Answer::*;
    use Remembered::*;

    &[
        (Nothing, OtherId, OPEN, "GET"),
        (Nothing, NoId, NO_ID, "GET"),
        (Nothing, False, DENIED, ""),
        (Nothing, FalseWithId, DENIED, ""),
        (Nothing, IdAlone, UNDECIDED, "GET"),

        (Granted, SameId, OPEN, ""),
        (Granted, OtherId, OPEN, "GET"),
        (Granted, NoId, NO_ID, "GET"),
        (Granted, False, DENIED, ""),
        (Granted, FalseWithId, DENIED, ""),
        (Granted, Empty, DECISION_ERASED, "GET"),
        (Granted, Malformed, DECISION_ERASED, "GET"),
        (Granted, IdAlone, DECISION_ERASED, "GET"),

        (GrantedNoId, OtherId, OPEN, "GET"),
        (GrantedNoId, NoId, NO_ID, ""),
        (GrantedNoId, False, DENIED, ""),
        (GrantedNoId, Empty, DECISION_ERASED, "GET"),

        (Denied, SameId, DENIED, "GET PUT GET"),
        (Denied, OtherId, OPEN, "GET"),
        (Denied, NoId, DENIED, "GET"),
        (Denied, False, DENIED, ""),
        (Denied, FalseWithId, DENIED, ""),
        (Denied, Empty, DENIED, "GET"),
        (Denied, IdAlone, DENIED, "GET"),

        (DeniedPending, SameId, DENIED, "GET PUT GET"),
        (DeniedPending, OtherId, DENIED, "GET PUT GET"),
        (DeniedPending, NoId, DENIED, "GET PUT GET"),
        (DeniedPending, False, DENIED, "GET"),
        (DeniedPending, FalseWithId, DENIED, "GET PUT GET"),
        (DeniedPending, Empty, DENIED, "GET PUT GET"),
        (DeniedPending, IdAlone, DENIED, "GET PUT GET"),
    ]
};

#[tokio::test]
async fn every_cell_of_the_sync_table_holds() {
    for &(remembered, answer, gate, requests) in SYNC_CELLS {
        let cell = format!("{remembered:?} × {answer:?} in sync");
        let world = World::new().await;
        let device = world.device("PHONE").await;
        let (analytics, own_id) = hold(&world, &device, remembered).await;
        if remembered != Remembered::DeniedPending {
            // A sync would trigger the removal, which is what the cell is about.
            device.sync().await;
        }
        let shown = answer.content(&own_id).unwrap();
        world.set_content(&shown);
        world.server.heal();
        world.take_requests();

        device.sync().await;
        let count = requests.split_whitespace().count();
        eventually(world.server.wait_for(|seen| seen.len() >= count)).await;
        let state = analytics.until(|state| state.gate == gate && !state.removal_pending).await;
        assert_eq!(state.prompt() == Prompt::Ask, gate == UNDECIDED, "{cell}");
        // Answered after all work that sync triggered.
        eventually(analytics.recheck()).await.unwrap();
        let expected: Vec<_> = requests.split_whitespace().chain(["GET"]).collect();
        assert_eq!(world.take_requests(), expected.join(" "), "{cell}");
        assert_eq!(analytics.state().gate, gate, "{cell}, asked again");
    }
}

/// Takes the user's steps to `remembered` on `device`, in a process that keeps running.
async fn hold(world: &World, device: &Device, remembered: Remembered) -> (Analytics, String) {
    let unused = "an-unused-id".to_owned();
    match remembered {
        Remembered::Nothing => (device.start_confirmed().await.0, unused),
        Remembered::GrantedNoId => {
            world.set_content(&content(Some(true), None));
            (device.start_confirmed().await.0, unused)
        }
        Remembered::Granted | Remembered::Denied | Remembered::DeniedPending => {
            let (analytics, _) = device.start_opted_in().await;
            let id = analytics.analytics_id().unwrap().reveal().to_owned();
            if remembered == Remembered::DeniedPending {
                world.server.fail_all(Fault::ResetBefore);
            }
            if remembered != Remembered::Granted {
                eventually(analytics.opt_out().into_future()).await;
            }
            (analytics, id)
        }
    }
}

#[test]
fn the_docs_contain_both_tables() {
    let docs = include_str!("../../docs/consent.md");
    let (start, sync) = (rendered(CELLS), rendered(SYNC_CELLS));
    assert!(docs.contains(&start), "docs/consent.md has to have this table:\n\n{start}");
    assert!(docs.contains(&sync), "docs/consent.md has to have this table:\n\n{sync}");
}

/// Renders the cells as a Markdown table.
fn rendered(cells: &[(Remembered, Answer, GateState, &str)]) -> String {
    use std::fmt::Write as _;

    let mut table =
        "| remembered | on the homeserver | gate | requests |\n|---|---|---|---|\n".to_owned();
    for (remembered, answer, gate, requests) in cells {
        let remembered = match remembered {
            Remembered::Nothing => "nothing",
            Remembered::Granted => "granted, an ID",
            Remembered::GrantedNoId => "granted, no ID",
            Remembered::Denied => "denied",
            Remembered::DeniedPending => "denied, removal pending",
        };
        let answer = match answer {
            Answer::SameId => "`true`, the ID remembered or retired",
            Answer::OtherId => "`true`, another ID",
            Answer::NoId => "`true`, no `id`",
            Answer::NullId => "`true`, `id: null`",
            Answer::False => "`false`, no `id`",
            Answer::FalseWithId => "`false`, an ID",
            Answer::NotFound => "404",
            Answer::Empty => "`{}`",
            Answer::Malformed => "a flag that is not a boolean",
            Answer::IdAlone => "an ID, no flag",
        };
        let requests = if requests.is_empty() { "none" } else { requests };
        writeln!(table, "| {remembered} | {answer} | `{gate:?}` | {requests} |").unwrap();
    }
    table
}
