//! A model check of consent. It visits every state that a few devices of one account can
//! reach in a bounded run, and checks promises P1 to P6 in each.
//!
//! The model runs the real machine with real contents, changes and records. It calls the
//! same `poll` and `handle_…` methods as the driver, and copies none of its logic. A device
//! has one request in flight at a time. The request may be slow, be lost before or after it
//! was applied, be applied late, be refused with a wait, be acknowledged without being
//! applied, or outlive the call that sent it. The model adds
//!
//! - a server on which the last write wins;
//! - sync, which delays, skips, and goes back to show old content again;
//! - a disk: a crash restores the last saved record;
//! - other clients, as they are known to behave: [`foreign::FOREIGN_CLIENTS`];
//! - the calls of the app, the loss of the session, and time. The settle time ends once
//!   every request of another device that may have read before the write has ended, because
//!   it is as long as the time limits of these requests.
//!
//! A monitor, in [`device`], decides which promises hold from the events alone, not from the
//! state of the machine. It is consulted in every state. In a *quiet* state, where nothing is
//! in progress and nothing has to follow, the devices must have converged: an open device has
//! the ID on the server, an opt-in on the server is followed unless it was refused, an opt-out
//! is known, and nothing is pending or unsaved. The graph of states has no cycle, so every run
//! ends in a quiet state and no device writes or asks forever.
//!
//! The search is our own. The `stateright` crate cannot be built without its web server, and
//! would repeat each transition of the machine in each state.
//!
//! # Visited states
//!
//! `cargo test --lib --all-features model -- --nocapture` prints each search with its states, and
//! `docs/measured.md` has the counts. Every search of an ordinary run is complete, except those of
//! known violations, which end at the violation. `MODEL_STATES` sets the limit for each of the
//! larger searches, which are not part of every run. No real time passes: each wait may end at
//! any time, in any order. In every quiet state a timer or trigger must be set that would ask
//! the homeserver again.
//!
//! # Known violations
//!
//! A device that follows another device's new ID does so at once. It may send under an ID
//! that loses to a third device's within the settle time. The same holds for an ID that loses
//! to a write which its own device abandoned.

mod arena;
mod content;
mod device;
mod few;
mod foreign;
mod policies;
mod scenario;
mod search;
mod world;

use content::{Content, Id, Member};
use device::{Memory, Violation};
use foreign::{FOREIGN_CLIENTS, OPT_IN_AND_RESTORED};
use scenario::{Budget, Scenario};
use search::{Report, search};
use world::MAX_DEVICES;

const OLD: Member = Member::Usable(Id::OLD);
const OPTED_IN: Content = Content::new(Some(true), OLD);
const OPTED_OUT: Content = Content::new(Some(false), Member::Absent);

const NONE: Budget = Budget {
    opt_in: [0; MAX_DEVICES],
    opt_out: [0; MAX_DEVICES],
    erase: [0; MAX_DEVICES],
    veto: [0; MAX_DEVICES],
    drop_opt_in: 0,
    recheck: 0,
    crash: 0,
    lose: 0,
    late: 0,
    save_failure: 0,
    replay: 0,
    foreign: 0,
    session: 0,
    ask_to_wait: 0,
    deliver: 0,
    recheck_due: 0,
    rebuild: 0,
    lie: 0,
    age: 0,
    clock: 0,
    sleep: 0,
};
/// The app of the first device opts in and out, in any order.
const CALLS: Budget = Budget { opt_in: [1, 0, 0], opt_out: [1, 0, 0], ..NONE };
/// The apps of two devices opt in.
const RACE: Budget = Budget { opt_in: [1, 1, 0], ..NONE };

type Start = (Content, Vec<Memory>);

/// Returns every memory of one device, combined with every kind of content.
fn starts_of_one() -> Vec<Start> {
    use Memory::{Nothing, OptedIn, OptedOut, RemovalPending, Unreadable};

    let contents = [
        Content::UNSET,
        OPTED_IN,
        OPTED_OUT,
        Content::new(Some(false), OLD),
        Content::new(None, OLD),
    ];
    let memories = [Nothing, OptedIn, OptedOut, RemovalPending, Unreadable];
    contents
        .into_iter()
        .flat_map(|content| memories.map(|memory| (content, vec![memory])))
        .collect()
}

/// Returns the starts of one device from which the most can go wrong.
fn some_starts_of_one() -> Vec<Start> {
    use Memory::{Nothing, OptedIn, OptedOut, RemovalPending, Unreadable};

    vec![
        (Content::UNSET, vec![Nothing]),
        (OPTED_IN, vec![OptedIn]),
        (OPTED_IN, vec![RemovalPending]),
        (OPTED_OUT, vec![OptedOut]),
        (Content::new(None, OLD), vec![Unreadable]),
    ]
}

/// Returns one start for each decision.
fn few_starts_of_one() -> Vec<Start> {
    use Memory::{Nothing, OptedIn, RemovalPending};

    vec![
        (Content::UNSET, vec![Nothing]),
        (OPTED_IN, vec![OptedIn]),
        (OPTED_IN, vec![RemovalPending]),
    ]
}

/// Returns the starts of one device, combined with a second device.
fn starts_of_two() -> Vec<Start> {
    let with_second = |(content, memories): Start| {
        [Memory::Nothing, Memory::OptedIn]
            .map(|other| (content, [memories.clone(), vec![other]].concat()))
    };
    starts_of_one().into_iter().flat_map(with_second).collect()
}

/// Returns the starts of two devices from which the most can go wrong.
fn some_starts_of_two() -> Vec<Start> {
    use Memory::{Nothing, OptedIn, OptedOut, RemovalPending, Unreadable};

    vec![
        (Content::UNSET, vec![Nothing, Nothing]),
        (OPTED_IN, vec![OptedIn, OptedIn]),
        (OPTED_IN, vec![RemovalPending, Nothing]),
        (OPTED_OUT, vec![OptedOut, Nothing]),
        (Content::new(None, OLD), vec![Unreadable, Nothing]),
    ]
}

fn scenario(starts: Vec<Start>, budget: Budget) -> Scenario {
    let has_slow_disk = budget.crash > 0 || budget.save_failure > 0 || budget.rebuild > 0;
    Scenario { starts, budget, foreign: FOREIGN_CLIENTS, has_slow_disk, ..Scenario::default() }
}

/// Returns a scenario in which the user also opts in elsewhere and a client restores its
/// cached copy.
fn elsewhere(starts: Vec<Start>, budget: Budget) -> Scenario {
    Scenario { foreign: OPT_IN_AND_RESTORED, ..scenario(starts, budget) }
}

/// Returns the limit for each of the larger searches, if the environment asks for them.
fn more_states() -> Option<usize> {
    #[expect(clippy::disallowed_methods, reason = "the tests' own setting, not the library's")]
    std::env::var("MODEL_STATES").ok().map(|states| states.parse().unwrap())
}

#[expect(clippy::print_stderr, reason = "the numbers are for the developer who runs the test")]
fn report(name: &str, report: &Report) {
    let Report { states, steps, quiet, depth, devices, time, is_whole, violation } = report;
    let whole = if *is_whole { "all" } else { "the first" };
    eprintln!(
        "{name}: {whole} {states} states to depth {depth}, {quiet} quiet, {steps} steps, \
         {devices:?} devices and transitions, {time:.1?}"
    );
    if let Some((what, trace)) = violation {
        eprintln!("{what}\n{trace}");
    }
}

/// Searches all scenarios, and fails at the first violation.
fn check(scenarios: Vec<(&str, Scenario)>, max_states: Option<usize>) {
    for (name, scenario) in scenarios {
        let found = search(&scenario, max_states.unwrap_or(usize::MAX));
        report(name, &found);
        assert_eq!(found.violation.map(|(what, _)| what), None, "{name}");
        assert!(found.is_whole || max_states.is_some());
        assert!(found.quiet > 0 || max_states.is_some(), "{name}: no quiet state");
    }
}

fn violation_of(name: &str, scenario: &Scenario) -> Option<Violation> {
    let found = search(scenario, usize::MAX);
    report(name, &found);
    found.violation.map(|(what, _)| what)
}

#[test]
fn every_promise_holds_in_every_state_of_one_device() {
    let run = |name, budget| (name, scenario(starts_of_one(), budget));
    let some = |name, budget| (name, scenario(some_starts_of_one(), budget));
    let few = |name, budget| (name, scenario(few_starts_of_one(), budget));
    let nothing = vec![(Content::UNSET, vec![Memory::Nothing])];
    let yes = vec![(OPTED_IN, vec![Memory::OptedIn])];
    let decided = vec![(OPTED_IN, vec![Memory::OptedIn]), (OPTED_IN, vec![Memory::RemovalPending])];
    check(
        vec![
            some("calls", Budget { opt_in: [2, 0, 0], opt_out: [1, 0, 0], ..NONE }),
            ("two foreign writers", scenario(decided, Budget { foreign: 2, ..NONE })),
            some("crashes", Budget { crash: 1, foreign: 1, ..NONE }),
            ("crash in calls", scenario(nothing, Budget { crash: 1, ..CALLS })),
            run("crash in a call", Budget { crash: 1, opt_in: [1, 0, 0], ..NONE }),
            few("a cached copy", Budget { foreign: 1, opt_in: [1, 0, 0], ..NONE }),
            some("late writes", Budget { lose: 1, late: 1, ..CALLS }),
            some("failing disk", Budget { save_failure: 1, crash: 1, opt_out: [1, 0, 0], ..NONE }),
            (
                "opt-in elsewhere",
                elsewhere(some_starts_of_one(), Budget { foreign: 1, opt_out: [2, 0, 0], ..NONE }),
            ),
            ("opt-in elsewhere in calls", elsewhere(yes.clone(), Budget { foreign: 1, ..CALLS })),
            some("erasure after opt-out", Budget { erase: [1, 0, 0], opt_out: [1, 0, 0], ..NONE }),
            some("opt-ins falsely acknowledged", Budget { lie: 1, ..CALLS }),
            run("erasure", Budget { erase: [1, 0, 0], opt_in: [1, 0, 0], ..NONE }),
            some("dropped call", Budget { drop_opt_in: 1, ..CALLS }),
            some("veto", Budget { veto: [2, 0, 0], opt_in: [1, 0, 0], ..NONE }),
            some("sync goes back", Budget { replay: 1, ..CALLS }),
            ("session", scenario(yes.clone(), Budget { session: 1, foreign: 1, ..NONE })),
            ("session in calls", scenario(yes, Budget { session: 1, ..CALLS })),
        ],
        None,
    );
}

#[test]
fn every_promise_holds_in_every_state_of_one_device_with_timers() {
    let run = |name, budget| (name, scenario(starts_of_one(), budget));
    let some = |name, budget| (name, scenario(some_starts_of_one(), budget));
    let opt_out = Budget { opt_out: [1, 0, 0], ..NONE };
    check(
        vec![
            run("asked to wait", Budget { ask_to_wait: 1, deliver: 1, ..opt_out }),
            run("asked to wait in calls", Budget { ask_to_wait: 1, opt_in: [1, 0, 0], ..NONE }),
            run("asked to wait, erasure", Budget { ask_to_wait: 1, erase: [1, 0, 0], ..NONE }),
            run("failing requests", Budget { lose: 2, deliver: 1, ..NONE }),
            run("false acknowledgements", Budget { lie: 2, deliver: 1, ..opt_out }),
            run("timer", Budget { recheck_due: 1, lose: 1, deliver: 1, ..NONE }),
            some("evidence", Budget { session: 2, deliver: 1, ..NONE }),
            some("evidence in calls", Budget { session: 1, deliver: 1, ..opt_out }),
            some("rebuild", Budget { rebuild: 1, lose: 1, ..opt_out }),
            run("rebuild in a call", Budget { rebuild: 1, opt_in: [1, 0, 0], ..NONE }),
        ],
        None,
    );
}

#[test]
fn every_promise_holds_in_every_state_of_two_devices() {
    let run = |name, starts, budget| (name, scenario(starts, budget));
    check(
        vec![
            run("two start", starts_of_two(), NONE),
            run(
                "two, false acknowledgements",
                some_starts_of_two(),
                Budget { lie: 1, opt_out: [1, 0, 0], ..NONE },
            ),
            run(
                "two, lost withdrawal",
                some_starts_of_two(),
                Budget { lose: 1, opt_out: [1, 0, 0], ..NONE },
            ),
            run("two, sync goes back", starts_of_two(), Budget { replay: 2, ..NONE }),
            run(
                "two, race",
                vec![(Content::UNSET, vec![Memory::Nothing; 2])],
                Budget { lose: 1, late: 1, ..RACE },
            ),
            run(
                "two, foreign writer",
                vec![(OPTED_IN, vec![Memory::OptedIn; 2])],
                Budget { foreign: 1, ..NONE },
            ),
        ],
        None,
    );
}

#[test]
fn every_promise_holds_in_every_state_of_three_devices() {
    let yes = vec![(OPTED_IN, vec![Memory::OptedIn, Memory::Nothing, Memory::RemovalPending])];
    let nothing = vec![(Content::UNSET, vec![Memory::Nothing; 3])];
    let opt_in = Budget { opt_in: [1, 0, 0], ..NONE };
    check(
        vec![("three start", scenario(yes, NONE)), ("three, opt-in", scenario(nothing, opt_in))],
        None,
    );
}

#[test]
fn a_device_with_do_not_track_never_opens() {
    let calls = scenario(starts_of_one(), CALLS);
    check(vec![("do not track", Scenario { do_not_track: 1, ..calls })], None);
}

#[test]
fn every_promise_holds_in_larger_searches() {
    let Some(max_states) = more_states() else { return };
    let one = |name, budget| (name, scenario(starts_of_one(), budget));
    let two = |name, budget| (name, scenario(some_starts_of_two(), budget));
    let three = |name, budget| {
        let starts = vec![
            (Content::UNSET, vec![Memory::Nothing; 3]),
            (OPTED_IN, vec![Memory::OptedIn, Memory::Nothing, Memory::RemovalPending]),
        ];
        (name, scenario(starts, budget))
    };
    check(
        vec![
            one("calls", Budget { opt_in: [2, 0, 0], opt_out: [2, 0, 0], ..NONE }),
            one("foreign writers in calls", Budget { foreign: 2, ..CALLS }),
            one(
                "foreign writer in many calls",
                Budget { foreign: 1, opt_in: [2, 0, 0], opt_out: [2, 0, 0], ..NONE },
            ),
            one("sync goes back", Budget { replay: 1, foreign: 1, ..CALLS }),
            one("lost and late", Budget { lose: 2, late: 1, foreign: 1, ..CALLS }),
            one(
                "lost and late in calls",
                Budget { lose: 2, late: 1, opt_in: [2, 0, 0], opt_out: [1, 0, 0], ..NONE },
            ),
            one("erasure", Budget { erase: [1, 0, 0], foreign: 1, opt_in: [1, 0, 0], ..NONE }),
            one("erasure in calls", Budget { erase: [1, 0, 0], lose: 1, ..CALLS }),
            one("crashes", Budget { crash: 2, ..CALLS }),
            one("crash and foreign writer", Budget { crash: 1, foreign: 1, ..CALLS }),
            one("failing disk", Budget { crash: 1, save_failure: 1, ..CALLS }),
            one(
                "dropped call",
                Budget {
                    drop_opt_in: 1,
                    foreign: 1,
                    opt_in: [2, 0, 0],
                    opt_out: [1, 0, 0],
                    ..NONE
                },
            ),
            one("veto", Budget { veto: [2, 0, 0], foreign: 1, ..CALLS }),
            one("rechecks", Budget { recheck: 2, foreign: 1, ..CALLS }),
            one("session", Budget { session: 2, recheck: 1, ..CALLS }),
            one(
                "session and foreign writer",
                Budget { session: 2, recheck: 1, foreign: 1, ..NONE },
            ),
            one("session and crash", Budget { session: 1, crash: 1, ..CALLS }),
            one("asked to wait in calls", Budget { ask_to_wait: 2, deliver: 1, ..CALLS }),
            one("false acknowledgements", Budget { lie: 2, lose: 1, ..CALLS }),
            one("timer and evidence", Budget { session: 1, recheck_due: 1, deliver: 1, ..CALLS }),
            one("rebuild", Budget { rebuild: 2, lose: 1, ..CALLS }),
            one("rebuild, failing disk", Budget { rebuild: 1, save_failure: 1, ..CALLS }),
            one("foreign writer, timer", Budget { foreign: 2, recheck_due: 1, ..CALLS }),
            two(
                "two, false acknowledgements",
                Budget { lie: 1, opt_in: [1, 0, 0], opt_out: [0, 1, 0], ..NONE },
            ),
            two("two, asked to wait", Budget { ask_to_wait: 1, deliver: 1, ..CALLS }),
            two(
                "two, withdrawn elsewhere and restored",
                Budget { opt_out: [0, 1, 0], foreign: 1, ..NONE },
            ),
            two("two, calls", Budget { opt_in: [1, 1, 0], opt_out: [1, 0, 0], ..NONE }),
            two(
                "two, withdrawal elsewhere",
                Budget { opt_in: [1, 0, 0], opt_out: [0, 1, 0], ..NONE },
            ),
            two("two, many calls", Budget { opt_in: [2, 0, 0], opt_out: [2, 0, 0], ..NONE }),
            two("two, foreign writers", Budget { foreign: 2, ..NONE }),
            two("two, foreign writer and opt-in", Budget { foreign: 1, opt_in: [1, 0, 0], ..NONE }),
            two(
                "two, foreign writer and opt-out",
                Budget { foreign: 1, opt_out: [1, 0, 0], ..NONE },
            ),
            two(
                "two, sync goes back",
                Budget { replay: 1, opt_in: [1, 0, 0], opt_out: [0, 1, 0], ..NONE },
            ),
            two("two, lost", Budget { lose: 1, opt_in: [1, 1, 0], ..NONE }),
            two("two, late", Budget { lose: 1, late: 1, ..CALLS }),
            two("two, erasure", Budget { erase: [1, 0, 0], opt_in: [1, 1, 0], ..NONE }),
            two("two, crash", Budget { crash: 1, ..CALLS }),
            two(
                "two, failing disk",
                Budget { save_failure: 1, crash: 1, opt_out: [1, 0, 0], ..NONE },
            ),
            two("two, dropped call", Budget { drop_opt_in: 1, opt_in: [1, 1, 0], ..NONE }),
            two("two, veto", Budget { veto: [1, 1, 0], opt_in: [1, 1, 0], ..NONE }),
            two(
                "two, session",
                Budget { session: 1, recheck: 1, opt_in: [1, 0, 0], opt_out: [0, 1, 0], ..NONE },
            ),
            three("three, race", RACE),
            three("three, calls", CALLS),
            three("three, foreign writer", Budget { foreign: 1, ..NONE }),
        ],
        Some(max_states),
    );
}

const LOST: Violation = "P6: an ID that events were sent under lost to another";

/// Returns a scenario in which two devices opt in at once, with or without a third device that
/// watches.
fn race(devices: usize) -> Scenario {
    let starts = vec![(Content::UNSET, vec![Memory::Nothing; devices])];
    Scenario { used_ids_stay: true, ..scenario(starts, RACE) }
}

#[test]
fn of_two_ids_created_at_once_the_losing_one_is_never_used() {
    check(vec![("race", race(2))], None);
}

#[test]
fn without_the_settle_time_a_losing_id_may_be_used() {
    let early = Scenario { settles_too_early: true, ..race(2) };
    assert_eq!(violation_of("race, settled too early", &early), Some(LOST));
}

/// A known violation, described in the module's documentation.
#[test]
fn a_third_device_that_follows_at_once_may_use_a_losing_id() {
    assert_eq!(violation_of("race, watched", &race(3)), Some(LOST));
}

/// A known violation, described in the module's documentation.
#[test]
fn an_id_may_lose_to_a_write_that_its_device_abandoned() {
    let lost = Scenario { budget: Budget { lose: 1, ..RACE }, ..race(2) };
    assert_eq!(violation_of("race, an abandoned write", &lost), Some(LOST));
}
