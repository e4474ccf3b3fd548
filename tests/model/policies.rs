//! Devices that ask for an agreement to a policy, each to another one.

use super::{
    CALLS, NONE, OPTED_IN, OPTED_OUT, RACE, Start, check,
    content::{Content, Id, Member},
    device::Memory,
    elsewhere,
    foreign::ForeignClient,
    scenario,
    scenario::{Budget, Scenario},
};

/// Returns a scenario in which each device has a policy of its own.
fn with_policies(scenario: Scenario) -> Scenario {
    Scenario { policies: [Some(0), Some(1), None], ..scenario }
}

/// Returns every kind of opt-in on the server, combined with every memory of an opt-in.
fn starts_with_policies() -> Vec<Start> {
    use Memory::{
        AgreedHere, Nothing, OptedIn, OptedOut, RemovalPending, SawAgreement, Unreadable,
    };

    let contents = [
        Content::UNSET,
        OPTED_IN,
        OPTED_IN.agreed(0, 1),
        OPTED_IN.agreed(1, 1),
        // The agreements to both policies, bound to another ID.
        OPTED_IN.agreed(0, 1).agreed(1, 1).replaced(Some(true), Member::Usable(Id::foreign(1))),
        OPTED_OUT,
        agreements_alone(),
    ];
    let memories =
        [Nothing, OptedIn, AgreedHere, SawAgreement, OptedOut, RemovalPending, Unreadable];
    let starts =
        contents.into_iter().flat_map(|content| memories.map(|memory| (content, vec![memory])));
    starts.collect()
}

/// Returns the starts of one device from which the most can go wrong with a policy.
fn some_starts_with_policies() -> Vec<Start> {
    use Memory::{AgreedHere, Nothing, OptedIn, RemovalPending, SawAgreement};

    vec![
        (Content::UNSET, vec![Nothing]),
        (OPTED_IN, vec![OptedIn]),
        (OPTED_IN, vec![AgreedHere]),
        (OPTED_IN.agreed(0, 1), vec![SawAgreement]),
        (OPTED_IN.agreed(1, 1), vec![Nothing]),
        (OPTED_IN.agreed(0, 1), vec![RemovalPending]),
        (agreements_alone(), vec![RemovalPending]),
        (agreements_alone(), vec![OptedIn]),
    ]
}

/// Returns an opt-out whose client left the agreements.
fn agreements_alone() -> Content {
    OPTED_IN.agreed(0, 1).replaced(Some(false), Member::Absent)
}

#[test]
fn every_promise_holds_in_every_state_of_one_device_with_a_policy() {
    let run = |name, budget| (name, with_policies(scenario(starts_with_policies(), budget)));
    let some = |name, budget| (name, with_policies(scenario(some_starts_with_policies(), budget)));
    check(
        vec![
            run("policy", NONE),
            run("policy, opt-in", Budget { opt_in: [1, 0, 0], ..NONE }),
            run("policy, a year", Budget { age: 1, opt_in: [1, 0, 0], ..NONE }),
            some("policy, calls", CALLS),
            some("policy, foreign writer", Budget { foreign: 1, opt_in: [1, 0, 0], ..NONE }),
            some("policy, two foreign writers", Budget { foreign: 2, ..NONE }),
            some("policy, lost and late", Budget { lose: 1, late: 1, opt_in: [1, 0, 0], ..NONE }),
            some("policy, false acknowledgements", Budget { lie: 1, opt_in: [1, 0, 0], ..NONE }),
            some("policy, crash", Budget { crash: 1, opt_in: [1, 0, 0], ..NONE }),
            some("policy, failing disk", Budget { save_failure: 1, crash: 1, ..NONE }),
            some("policy, dropped call", Budget { drop_opt_in: 1, opt_in: [1, 0, 0], ..NONE }),
            some("policy, sync goes back", Budget { replay: 1, opt_in: [1, 0, 0], ..NONE }),
            some("policy, session", Budget { session: 1, deliver: 1, ..NONE }),
            some("policy, veto", Budget { veto: [2, 0, 0], age: 1, ..NONE }),
            some("policy, timer", Budget { recheck_due: 1, age: 1, ..NONE }),
            some("policy, clock", Budget { age: 1, clock: 1, opt_in: [1, 0, 0], ..NONE }),
            (
                "policy, out and in elsewhere",
                Scenario {
                    foreign: &[ForeignClient::OutAndIn],
                    ..with_policies(scenario(
                        some_starts_with_policies(),
                        Budget { foreign: 1, opt_in: [1, 0, 0], ..NONE },
                    ))
                },
            ),
            (
                "policy, a year during an opt-in",
                with_policies(elsewhere(
                    vec![(Content::UNSET, vec![Memory::Nothing])],
                    Budget { foreign: 1, age: 1, opt_in: [1, 0, 0], ..NONE },
                )),
            ),
            (
                "policy, late answer",
                with_policies(elsewhere(
                    some_starts_with_policies(),
                    Budget { sleep: 1, foreign: 1, opt_in: [1, 0, 0], ..NONE },
                )),
            ),
        ],
        None,
    );
}

#[test]
fn two_devices_with_policies_are_both_open_after_one_opt_in_each() {
    use Memory::{AgreedHere, Nothing, OptedIn};

    let starts = vec![
        (Content::UNSET, vec![Nothing, Nothing]),
        (OPTED_IN, vec![OptedIn, OptedIn]),
        (OPTED_IN.agreed(0, 1), vec![AgreedHere, Nothing]),
    ];
    let race = with_policies(scenario(starts, RACE));
    let race = Scenario { all_open_at_last: true, ..race };
    let shared = Scenario { policies: [Some(0), Some(0), None], ..race.clone() };
    // The app on the other device has no policy.
    let mixed = Scenario { policies: [Some(0), None, None], ..race.clone() };
    check(
        vec![("two policies", race), ("one policy for two", shared), ("a policy and none", mixed)],
        None,
    );
}

#[test]
fn every_promise_holds_in_every_state_of_two_devices_with_policies() {
    use Memory::{AgreedHere, Nothing, OptedIn, SawAgreement};

    let both = OPTED_IN.agreed(0, 1).agreed(1, 1);
    let starts = vec![
        (OPTED_IN, vec![OptedIn, Nothing]),
        (both, vec![AgreedHere, SawAgreement]),
        (OPTED_IN.agreed(1, 1), vec![Nothing, AgreedHere]),
    ];
    let run = |name, budget| (name, with_policies(scenario(starts.clone(), budget)));
    let shared = |name, budget| {
        let scenario = scenario(starts.clone(), budget);
        (name, Scenario { policies: [Some(0), Some(0), None], ..scenario })
    };
    let mixed = |name, budget| {
        let scenario = scenario(starts.clone(), budget);
        (name, Scenario { policies: [Some(0), None, None], ..scenario })
    };
    check(
        vec![
            mixed("a policy and none, a refusal", Budget { opt_out: [0, 1, 0], ..NONE }),
            mixed("a policy and none, an opt-in", Budget { opt_in: [0, 1, 0], ..NONE }),
            shared("one policy for two, a refusal", Budget { opt_out: [1, 0, 0], ..NONE }),
            shared("one policy for two, a year", Budget { age: 1, opt_in: [1, 0, 0], ..NONE }),
            run("two policies, a refusal", Budget { opt_out: [1, 0, 0], ..NONE }),
            run("two policies, foreign writer", Budget { foreign: 1, ..NONE }),
            run("two policies, sync goes back", Budget { replay: 1, opt_in: [1, 0, 0], ..NONE }),
            run("two policies, a year", Budget { age: 1, opt_in: [1, 0, 0], ..NONE }),
        ],
        None,
    );
}
