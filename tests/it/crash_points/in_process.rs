//! Stops a simulated process: its runtime is dropped at a point, with all its tasks, while the
//! store and the homeserver keep their state.
//!
//! - One stop at each point of each scenario.
//! - Stops after an opt-out that was made at any point of an opt-in.
//! - Pairs of a stop, and another stop of the process that resumes.

use std::{
    future::pending,
    sync::{Arc, Mutex},
};

use futures_util::future::BoxFuture;
use matrix_analytics::{Consent, testing::Fault};
use matrix_sdk::{
    Client, MemoryStore, StoreError,
    config::StoreConfig,
    store::{DynStateStore, IntoStateStore as _},
};
use tokio::{runtime, sync::Notify};

use super::{
    Account, Call, OTHER_ID, Retired, Witness as _, content_with_theirs, lock, make_calls, start,
    store::{GatedStore, Moment, Passing, StoreGate},
};
use crate::support::{FOREIGN_ID, FrozenTime, GatedProxy, id_in};

/// Counts the points of a process, and stops it at one of them.
struct Points {
    account: Arc<Account>,
    /// The points passed so far.
    passed: Mutex<Vec<String>>,
    stop_at: usize,
    stopped: Notify,
    /// The point at which the user opts out.
    interrupt_at: usize,
    interrupted: Notify,
}

const NEVER: usize = usize::MAX;

impl Points {
    async fn reach(&self, what: String) {
        let number = {
            let mut passed = lock(&self.passed);
            passed.push(what);
            passed.len()
        };
        if number == self.interrupt_at {
            self.interrupted.notify_one();
            self.account.opt_out_polled.notified().await;
        }
        if number >= self.stop_at {
            self.stopped.notify_one();
            pending::<()>().await;
        }
    }
}

impl StoreGate for Points {
    fn reach(&self, moment: Moment) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.account.report(moment.into()).await;
            Points::reach(self, format!("{moment:?}")).await;
            Ok(())
        })
    }
}

/// A device whose store outlives its processes.
struct Device {
    account: Arc<Account>,
    store: Arc<DynStateStore>,
}

/// The outcome of a process.
#[derive(Debug)]
#[expect(dead_code, reason = "shown when an assertion fails")]
enum End {
    Complete {
        points: usize,
    },
    Stopped {
        after: String,
    },
    /// The process ended before the point of the opt-out.
    NotInterrupted,
}

/// The point at which a process stops, and the one at which the user opts out.
#[derive(Clone, Copy, Debug)]
struct Plan {
    stop_at: usize,
    interrupt_at: usize,
}

impl Plan {
    const RUN: Self = Self { stop_at: NEVER, interrupt_at: NEVER };

    fn stop(stop_at: usize) -> Self {
        Self { stop_at, ..Self::RUN }
    }
}

impl Device {
    async fn new(held: Option<&str>) -> Self {
        let account = Account::new(held).await;
        Self { account, store: MemoryStore::new().into_state_store() }
    }

    /// Runs a process that makes `calls`. Its tasks end with its runtime.
    fn run(&self, calls: &[Call], plan: Plan) -> End {
        in_runtime(async {
            let _frozen = FrozenTime::new();
            let points = Arc::new(Points {
                account: self.account.clone(),
                passed: Mutex::default(),
                stop_at: plan.stop_at,
                stopped: Notify::new(),
                interrupt_at: plan.interrupt_at,
                interrupted: Notify::new(),
            });
            let store = GatedStore::config(self.store.clone(), points.clone());
            let mut proxy = GatedProxy::start(self.account.server.uri()).await;
            let client = self.account.client(&proxy.uri(), store).await;
            let requests = async {
                loop {
                    let held = proxy.next_of_any_method().await;
                    let method = held.method.clone();
                    points.reach(format!("{method} sent")).await;
                    let answer = held.apply().await;
                    points.reach(format!("{method} applied")).await;
                    answer.deliver();
                }
            };
            tokio::select! {
                biased;
                () = points.stopped.notified() => {
                    End::Stopped { after: lock(&points.passed).join(", ") }
                }
                () = requests => unreachable!("there is always another request"),
                complete = self.live(client, calls, &points, plan) => {
                    let points = lock(&points.passed).len();
                    if complete { End::Complete { points } } else { End::NotInterrupted }
                }
            }
        })
    }

    /// Returns whether the planned opt-out, if any, was made.
    async fn live(&self, client: Client, calls: &[Call], points: &Points, plan: Plan) -> bool {
        let (analytics, _) = start(client, self.account.clone()).await;
        let calls = make_calls(&analytics, calls, &*self.account);
        if plan.interrupt_at == NEVER {
            calls.await;
            return true;
        }
        tokio::pin!(calls);
        tokio::select! {
            biased;
            () = points.interrupted.notified() => {}
            () = &mut calls => return false,
        }
        tokio::select! {
            biased;
            () = make_calls(&analytics, &[Call::OptOut], &*self.account) => true,
            () = async { calls.await; pending().await } => true,
        }
    }

    fn check_restart(&self, retired: &Retired, case: &str) {
        in_runtime(async {
            let _frozen = FrozenTime::new();
            let open = async || -> StoreConfig {
                GatedStore::config(self.store.clone(), Arc::new(Passing))
            };
            self.account.check_restart(open, retired, case).await;
        });
    }
}

fn in_runtime<T>(life: impl Future<Output = T>) -> T {
    runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(life)
}

/// An event before the process that is stopped.
#[derive(Clone, Debug)]
enum Before {
    /// A process made these calls, and ended.
    Calls(&'static [Call]),
    /// A process made these calls while offline, and ended.
    Offline(&'static [Call]),
    /// Another client wrote this content.
    Content(String),
}

struct Scenario {
    name: &'static str,
    before: Vec<Before>,
    /// The user's decision before the process.
    decision_before: Consent,
    calls: &'static [Call],
    /// Whether the device can know which ID an opt-out retires.
    knows_id: bool,
    /// The number of points.
    points: usize,
}

const OPTED_IN: Before = Before::Calls(&[Call::Confirm, Call::OptIn, Call::Settle]);
const OPTED_OUT: Before = Before::Calls(&[Call::Confirm, Call::OptOut]);
const OPTED_OUT_OFFLINE: Before = Before::Offline(&[Call::OptOut]);
const ERASED_OFFLINE: Before = Before::Offline(&[Call::Erase]);

impl Scenario {
    fn new(
        name: &'static str,
        points: usize,
        decision_before: Consent,
        before: Vec<Before>,
        calls: &'static [Call],
    ) -> Self {
        Self { name, before, decision_before, calls, knows_id: true, points }
    }

    fn undecided(n: &'static str, p: usize, before: Vec<Before>, calls: &'static [Call]) -> Self {
        Self::new(n, p, Consent::Undecided, before, calls)
    }

    fn granted(n: &'static str, p: usize, before: Vec<Before>, calls: &'static [Call]) -> Self {
        Self::new(n, p, Consent::Granted, before, calls)
    }

    fn denied(n: &'static str, p: usize, before: Vec<Before>, calls: &'static [Call]) -> Self {
        Self::new(n, p, Consent::Denied, before, calls)
    }

    /// Marks the retired ID as unknown. An erasure reads nothing, so it may remove an ID that the
    /// device never saw. A restored ID is cleaned up only once per epoch.
    fn without_knowing_the_id(self) -> Self {
        Self { knows_id: false, ..self }
    }

    /// Returns the device after `before`, and its retired ID.
    fn prepare(&self) -> (Device, Retired) {
        let device = in_runtime(Device::new(None));
        // Facts reported by the earlier processes are not under test.
        for before in &self.before {
            match before {
                Before::Calls(calls) => {
                    device.run(calls, Plan::RUN);
                }
                Before::Offline(calls) => {
                    device.account.server.fail_all(Fault::ResetBefore);
                    device.run(calls, Plan::RUN);
                    device.account.server.heal();
                }
                Before::Content(content) => device.account.set_content(content),
            }
        }
        let retired = if self.knows_id {
            Retired::Known(device.account.content().as_deref().and_then(id_in))
        } else {
            Retired::Unknown
        };
        device.account.take_requests();
        device.account.process_begins(self.decision_before);
        (device, retired)
    }
}

fn scenarios() -> Vec<Scenario> {
    let foreign_opt_in = || Before::Content(content_with_theirs(Some(true), Some(FOREIGN_ID)));
    let other_opt_in = || Before::Content(content_with_theirs(Some(true), Some(OTHER_ID)));
    vec![
        Scenario::undecided(
            "an opt-in that makes an ID",
            14,
            vec![],
            &[Call::Confirm, Call::OptIn, Call::Settle],
        ),
        Scenario::undecided(
            "an opt-in that keeps an ID",
            14,
            vec![Before::Content(content_with_theirs(None, Some(FOREIGN_ID)))],
            &[Call::Confirm, Call::OptIn],
        ),
        Scenario::granted(
            "an opt-in that finds all it needs",
            6,
            vec![foreign_opt_in()],
            &[Call::OptIn],
        ),
        Scenario::denied(
            "an opt-in over another client's opt-out",
            16,
            vec![Before::Content(content_with_theirs(Some(false), None))],
            &[Call::Confirm, Call::OptIn, Call::Settle],
        ),
        Scenario::denied(
            "an opt-in after an opt-out",
            14,
            vec![OPTED_IN, OPTED_OUT],
            &[Call::Confirm, Call::OptIn, Call::Settle],
        ),
        Scenario::denied(
            "an opt-in while a removal is pending",
            12,
            vec![OPTED_IN, OPTED_OUT_OFFLINE],
            &[Call::OptIn, Call::Settle],
        ),
        Scenario::denied(
            "an opt-in while an erasure is pending",
            12,
            vec![OPTED_IN, ERASED_OFFLINE],
            &[Call::OptIn, Call::Settle],
        )
        .without_knowing_the_id(),
        Scenario::granted("an opt-out", 14, vec![OPTED_IN], &[Call::Confirm, Call::OptOut]),
        Scenario::granted("an opt-out at start", 12, vec![OPTED_IN], &[Call::OptOut]),
        Scenario::granted(
            "an opt-out of another client's opt-in",
            16,
            vec![foreign_opt_in()],
            &[Call::Confirm, Call::OptOut],
        ),
        Scenario::granted(
            "an opt-out of an opt-in that was never seen",
            14,
            vec![foreign_opt_in()],
            &[Call::OptOut],
        ),
        Scenario::granted(
            "an opt-out of an ID that was changed elsewhere",
            14,
            vec![OPTED_IN, other_opt_in()],
            &[Call::OptOut],
        ),
        Scenario::granted(
            "an opt-out, and another",
            22,
            vec![foreign_opt_in()],
            &[Call::Confirm, Call::OptOut, Call::OptOut],
        ),
        Scenario::undecided(
            "an opt-out of an opt-in that has not settled",
            20,
            vec![],
            &[Call::Confirm, Call::OptIn, Call::OptOut],
        ),
        Scenario::granted("an erasure", 16, vec![foreign_opt_in()], &[Call::Confirm, Call::Erase]),
        Scenario::granted("an erasure at start", 12, vec![OPTED_IN], &[Call::Erase]),
        Scenario::granted(
            "an erasure of an opt-in that was never seen",
            14,
            vec![foreign_opt_in()],
            &[Call::Erase],
        ),
        Scenario::denied(
            "an erasure after an opt-out that is pending",
            14,
            vec![foreign_opt_in(), OPTED_OUT_OFFLINE],
            &[Call::Erase],
        ),
        Scenario::denied(
            "the resumption of an opt-out",
            10,
            vec![OPTED_IN, OPTED_OUT_OFFLINE],
            &[Call::Confirm],
        ),
        Scenario::denied(
            "the resumption of an opt-out next to a newer opt-in",
            12,
            vec![OPTED_IN, OPTED_OUT_OFFLINE, other_opt_in()],
            &[Call::Confirm],
        ),
        Scenario::denied(
            "the resumption of an erasure",
            10,
            vec![OPTED_IN, ERASED_OFFLINE],
            &[Call::Confirm],
        ),
        Scenario::denied(
            "the clean-up of an ID that another client restored",
            10,
            vec![foreign_opt_in(), OPTED_OUT, foreign_opt_in()],
            &[Call::Confirm],
        )
        .without_knowing_the_id(),
    ]
}

#[test]
fn a_process_that_stops_anywhere_breaks_no_promise() {
    for scenario in scenarios() {
        for stop_at in 1.. {
            let (device, retired) = scenario.prepare();
            let end = device.run(scenario.calls, Plan::stop(stop_at));
            device.check_restart(&retired, &format!("{}, {end:?}", scenario.name));
            if let End::Complete { points } = end {
                assert_eq!(points, scenario.points, "{}", scenario.name);
                assert_eq!(points, stop_at - 1, "{}", scenario.name);
                break;
            }
        }
    }
    assert_eq!(scenarios().iter().map(|scenario| scenario.points).sum::<usize>(), 298);
}

/// The user opts out at every point, and the process stops at every later one.
#[test]
fn a_process_that_stops_after_an_opt_out_at_any_point_breaks_no_promise() {
    let mut stops = 0;
    for scenario in scenarios().iter().filter(|scenario| {
        [
            "an opt-in that makes an ID",
            "an opt-in that finds all it needs",
            "an opt-in while a removal is pending",
        ]
        .contains(&scenario.name)
    }) {
        'plans: for interrupt_at in 1.. {
            for stop_at in interrupt_at.. {
                let (device, retired) = scenario.prepare();
                let end = device.run(scenario.calls, Plan { stop_at, interrupt_at });
                if matches!(end, End::NotInterrupted) {
                    break 'plans;
                }
                let case = format!("{}, opt-out at {interrupt_at}, {end:?}", scenario.name);
                device.check_restart(&retired, &case);
                if matches!(end, End::Complete { .. }) {
                    break;
                }
                stops += 1;
            }
        }
    }
    assert_eq!(stops, 448);
}

/// The process stops at every point, and the process that resumes stops at every point as well.
#[test]
fn a_process_that_stops_while_it_resumes_breaks_no_promise() {
    let mut stops = 0;
    for scenario in scenarios().iter().filter(|scenario| {
        ["an opt-in while a removal is pending", "an opt-out at start", "an erasure at start"]
            .contains(&scenario.name)
    }) {
        for first in 1..=scenario.points {
            for second in 1.. {
                let (device, retired) = scenario.prepare();
                let end = device.run(scenario.calls, Plan::stop(first));
                device.account.next_process_begins();
                let resumed = device.run(&[Call::Confirm], Plan::stop(second));
                let case = format!("{}, {end:?}, {resumed:?}", scenario.name);
                device.check_restart(&retired, &case);
                if matches!(resumed, End::Complete { .. }) {
                    break;
                }
                stops += 1;
            }
        }
    }
    assert_eq!(stops, 290);
}
