//! Every public future may be dropped at any await point, and every call may come from any thread,
//! without breaking a promise.
//!
//! - Each call is dropped during each of its requests to the homeserver, before and after the
//!   request is applied.
//! - Calls that send no request are dropped after each of their polls.
//! - Four threads make every call, while another client writes.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use futures_util::future::BoxFuture;
use matrix_analytics::{
    Analytics, ClosedReason, Consent, GateState,
    testing::{AccountDataMethod, RecordingBackend},
};
use tokio::runtime::Handle;

use crate::support::{
    AnalyticsExt as _, BOUND, FOREIGN_ID, GatedProxy, SETTLE, World, content, eventually, id_in,
    pass_everything,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    OptIn,
    OptOut,
    Erase,
    Recheck,
    EndSession,
}

impl Call {
    fn begin(self, analytics: &Analytics) -> BoxFuture<'static, ()> {
        let analytics = analytics.clone();
        Box::pin(async move {
            match self {
                Self::OptIn => drop(analytics.opt_in().await.unwrap()),
                Self::OptOut => drop(analytics.opt_out().await),
                Self::Erase => drop(analytics.opt_out().erase_event().await),
                Self::Recheck => drop(analytics.recheck().await.unwrap()),
                Self::EndSession => drop(analytics.end_session().await),
            }
        })
    }
}

/// The state of the request when its call is dropped.
#[derive(Clone, Copy, Debug)]
enum Moment {
    NotYetApplied,
    Applied,
}

#[tokio::test]
async fn a_call_may_be_dropped_during_any_of_its_requests() {
    let starts = [
        None,
        Some(content(Some(true), Some(FOREIGN_ID))),
        Some(content(Some(false), None)),
        Some(content(None, Some(FOREIGN_ID))),
    ];
    let mut drops = 0;
    for start in &starts {
        for call in [Call::OptIn, Call::OptOut, Call::Erase, Call::Recheck, Call::EndSession] {
            for moment in [Moment::NotYetApplied, Moment::Applied] {
                let mut request = 0;
                while drop_during(start.as_deref(), call, request, moment).await {
                    request += 1;
                    drops += 1;
                }
            }
        }
    }
    assert_eq!(drops, 68);
}

/// Drops `call` during its `request`-th request, and checks the outcome. Returns whether there was
/// such a request.
async fn drop_during(start: Option<&str>, call: Call, request: usize, moment: Moment) -> bool {
    let case = format!("{start:?}, {call:?}, request {request}, {moment:?}");
    let world = World::new().await;
    world.set(start);
    let (mut proxy, device) = world.gated_device("PHONE").await;
    let (analytics, recorder) = device.start().await;
    eventually(proxy.next_of_any_method()).await.pass().await;
    let begun = analytics.confirmed().await;
    analytics.capture_one("Before");

    if !drop_call(call.begin(&analytics), &mut proxy, request, moment).await {
        return false;
    }
    let passing = pass_everything(proxy);
    match call {
        Call::OptIn => {
            eventually(analytics.recheck()).await.unwrap();
            tokio::time::advance(SETTLE + 2 * BOUND).await;
            let _ = eventually(analytics.recheck()).await.unwrap();
        }
        Call::OptOut | Call::Erase => {
            analytics.until(|state| !state.removal_pending).await;
            assert!(is_clean(&world), "{case}: {:?}", world.content());
            assert_eq!(analytics.state().decision, Consent::Denied, "{case}");
        }
        Call::Recheck => assert_eq!(analytics.confirmed().await, begun, "{case}"),
        Call::EndSession => {
            let gate = analytics.state().gate;
            assert_eq!(gate, GateState::Closed(ClosedReason::SessionEnded), "{case}");
            assert_eq!(world.content().as_deref().unwrap_or("{}"), start.unwrap_or("{}"), "{case}");
        }
    }
    follows_the_account(&world, &analytics, &case);
    eventually(analytics.flush_all()).await;
    let is_withdrawn = !matches!(call, Call::OptIn | Call::Recheck);
    assert!(!is_withdrawn || recorder.names().is_empty(), "{case}");
    assert!(analytics.stats().backends[0].is_balanced(), "{case}");

    if call != Call::EndSession {
        still_opts_in_and_out(&world, &analytics, &recorder, &case).await;
    }
    passing.abort();
    true
}

/// Drives `call` until its `request`-th request is sent, and drops it there.
async fn drop_call(
    mut call: BoxFuture<'static, ()>,
    proxy: &mut GatedProxy,
    request: usize,
    moment: Moment,
) -> bool {
    let mut requests = 0;
    loop {
        let held = tokio::select! {
            biased;
            held = proxy.next_of_any_method() => held,
            () = eventually(&mut call) => return false,
        };
        if requests < request {
            held.pass().await;
            requests += 1;
            continue;
        }
        match moment {
            Moment::NotYetApplied => {
                drop(call);
                held.pass().await;
            }
            Moment::Applied => {
                let answer = held.apply().await;
                drop(call);
                answer.deliver();
            }
        }
        return true;
    }
}

fn is_clean(world: &World) -> bool {
    let held = world.content().unwrap_or_else(|| "{}".to_owned());
    id_in(&held).is_none() && !held.contains("true")
}

/// Asserts that an open gate uses the ID that the account holds.
fn follows_the_account(world: &World, analytics: &Analytics, case: &str) {
    let held = world.content().and_then(|held| id_in(&held));
    if analytics.is_open() {
        let used = analytics.analytics_id().map(|id| id.reveal().to_owned());
        assert_eq!(used, held, "{case}");
    }
}

/// Asserts that the user can still opt in and out.
async fn still_opts_in_and_out(
    world: &World,
    analytics: &Analytics,
    recorder: &RecordingBackend,
    case: &str,
) {
    analytics.opt_in_and_settle().await;
    follows_the_account(world, analytics, case);
    recorder.clear();
    analytics.capture_one("After");
    eventually(analytics.flush_all()).await;
    assert!(recorder.names().contains(&"After".to_owned()), "{case}");
    assert!(eventually(analytics.opt_out().into_future()).await.is_complete(), "{case}");
    assert!(is_clean(world), "{case}");
}

/// Covers the calls that send no request, or none of their own.
#[tokio::test]
async fn a_call_may_be_dropped_after_any_of_its_polls() {
    type Begin = fn(Analytics) -> BoxFuture<'static, ()>;
    let calls: [(&str, Begin); 9] = [
        ("opt_in", |analytics| Box::pin(async move { drop(analytics.opt_in().await) })),
        ("opt_out", |analytics| Box::pin(async move { drop(analytics.opt_out().await) })),
        ("recheck", |analytics| Box::pin(async move { drop(analytics.recheck().await) })),
        ("end_session", |analytics| Box::pin(async move { drop(analytics.end_session().await) })),
        ("deny", |analytics| Box::pin(async move { drop(analytics.deny_on_this_device().await) })),
        ("allow", |analytics| {
            Box::pin(async move { drop(analytics.allow_on_this_device().await) })
        }),
        ("flush", |analytics| Box::pin(async move { drop(analytics.flush_all().await) })),
        ("shutdown", |analytics| {
            Box::pin(async move { drop(analytics.shutdown(Duration::from_secs(1)).await) })
        }),
        ("opt_out, erase", |analytics| {
            Box::pin(async move { drop(analytics.opt_out().erase_event().await) })
        }),
    ];
    for (name, begin) in calls {
        let mut polls = 0;
        while drop_after(name, begin, polls).await {
            polls += 1;
        }
        assert!(polls > 0, "{name} never waited");
    }
}

/// Returns whether the call was still pending after that many polls.
async fn drop_after(
    name: &str,
    begin: fn(Analytics) -> BoxFuture<'static, ()>,
    polls: usize,
) -> bool {
    let case = format!("{name} dropped after {polls} polls");
    let world = World::new().await;
    let (analytics, recorder) = world.device("PHONE").await.start_opted_in().await;
    analytics.capture_one("Before");
    let mut call = begin(analytics.clone());
    for _ in 0..polls {
        let mut is_ready = false;
        poll_fn(|context| {
            is_ready = call.as_mut().poll(context).is_ready();
            Poll::Ready(())
        })
        .await;
        if is_ready {
            return false;
        }
        // Wait until the call would be polled again.
        tokio::task::yield_now().await;
    }
    drop(call);

    // Work that has begun continues and ends.
    let is_begun = polls > 0;
    let is_opt_out = name.starts_with("opt_out");
    if is_begun && is_opt_out {
        analytics.until(|state| !state.removal_pending).await;
        assert!(is_clean(&world), "{case}");
    }
    if is_begun && (is_opt_out || matches!(name, "deny" | "end_session")) {
        assert!(!analytics.is_open(), "{case}");
        eventually(analytics.flush_all()).await;
        assert_eq!(recorder.names(), [""; 0], "{case}");
    }
    if is_begun && name == "shutdown" {
        tokio::time::advance(Duration::from_millis(1_001)).await;
    } else if name != "end_session" {
        eventually(analytics.allow_on_this_device()).await.unwrap();
        still_opts_in_and_out(&world, &analytics, &recorder, &case).await;
    }
    assert!(analytics.stats().backends[0].is_balanced(), "{case}");
    true
}

#[tokio::test]
async fn a_build_that_is_dropped_has_started_nothing() {
    let world = World::new().await;
    let device = world.device("PHONE").await;
    eventually(device.client.whoami()).await.unwrap();
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let mut polls = 0;
    loop {
        let mut build = Box::pin(device.builder().build());
        let mut is_ready = false;
        for _ in 0..polls {
            poll_fn(|context| {
                is_ready = build.as_mut().poll(context).is_ready();
                Poll::Ready(())
            })
            .await;
            if is_ready {
                break;
            }
        }
        if is_ready {
            break;
        }
        drop(build);
        assert_eq!(tasks(), before, "after {polls} polls");
        polls += 1;
    }
    assert!(world.take_requests().is_empty());
}

/// Calls from threads without a runtime, while sync runs and another client writes.
#[tokio::test]
async fn calls_from_many_threads_return_and_leave_one_id_and_every_event_accounted_for() {
    const THREADS: u64 = 4;
    const CALLS: usize = 60;

    let world = Arc::new(World::new().await);
    let device = world.device("PHONE").await;
    let (analytics, recorder) = device.start_confirmed().await;
    let opt_ins = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..THREADS)
        .map(|seed| {
            let (world, analytics) = (world.clone(), analytics.clone());
            let (opt_ins, runtime) = (opt_ins.clone(), Handle::current());
            #[expect(clippy::disallowed_methods, reason = "apps call from plain threads")]
            std::thread::spawn(move || {
                let mut dice = fastrand::Rng::with_seed(seed);
                for _ in 0..CALLS {
                    analytics.capture_one("Threaded");
                    match dice.u8(..12) {
                        0..=2 => {
                            opt_ins.fetch_add(1, Ordering::SeqCst);
                            // Fails if another thread opts out after this call.
                            let _ = runtime.block_on(analytics.opt_in());
                        }
                        3 => drop(runtime.block_on(analytics.opt_out().into_future())),
                        4 => drop(runtime.block_on(analytics.recheck())),
                        5 => runtime.block_on(analytics.deny_on_this_device()).unwrap(),
                        6..=7 => runtime.block_on(analytics.allow_on_this_device()).unwrap(),
                        8 => world.set_content(&content(Some(false), None)),
                        9 => world.set_content(&content(Some(true), Some(FOREIGN_ID))),
                        _ => drop(runtime.block_on(analytics.flush_all())),
                    }
                    assert!(analytics.stats().backends[0].is_balanced());
                }
            })
        })
        .collect();
    while threads.iter().any(|thread| !thread.is_finished()) {
        device.sync().await;
        // Give new IDs time to settle, and retries time to run.
        tokio::time::advance(Duration::from_secs(5)).await;
    }
    for thread in threads {
        thread.join().unwrap();
    }

    let requests = world.server.requests();
    let writes = requests.iter().filter(|request| request.method == AccountDataMethod::Put);
    let written: Vec<_> = writes.map(|request| request.body.as_str()).collect();
    let opt_ins_written = written.iter().filter(|content| content.contains("true")).count();
    assert!(
        opt_ins_written <= opt_ins.load(Ordering::SeqCst),
        "more opt-ins were written than were made"
    );
    let held: Vec<_> = written.iter().filter_map(|content| id_in(content)).collect();
    for id in recorder.ids() {
        assert!(id == FOREIGN_ID || held.contains(&id), "sent under an ID that was never written");
    }

    eventually(analytics.allow_on_this_device()).await.unwrap();
    still_opts_in_and_out(&world, &analytics, &recorder, "after all threads").await;
    assert!(analytics.stats().backends[0].is_balanced());
}
