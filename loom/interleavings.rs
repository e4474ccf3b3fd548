//! Interleavings of the real sink: gate, intake, queue and delivery, file for
//! file as the library has them, run by [loom] in every order of the steps of
//! their threads, and with every value that an atomic may still show.
//!
//! The files are compiled once more, here, with loom's locks and atomics in the
//! place of the standard library's (`src/locks.rs` is the one place that names
//! those) and with stand-ins for tokio's `Notify` and time. A package of its own
//! needs no `--cfg` that a dependency could react to, and no matrix-sdk.
//!
//! `docs/measured.md` has how many interleavings each model has. They are all those in which
//! threads are taken off at most twice while they could go on: for `an_opt_out_returns_…` and
//! `nothing_said_…` three times, and for `a_flush_ends_…` with two backends once. Waits and
//! ends of threads are free. In each of them no lock waits for ever, the sum of P9 holds
//! whenever it is looked at, and at the end nothing is left anywhere.
//!
//! What the models do not have: the lock of the consent machine (one thread does
//! what `Inner::apply` does under it), the requests to the homeserver, a limit on
//! an answer that runs out late (it does at once or never), the dice of `select!`
//! (it tries its arms in their order), and more than two backends, three events or
//! four threads.
//!
//! ```sh
//! cargo test -p matrix-analytics-loom --release -- --nocapture
//! ```
//!
//! `LOOM_MAX_PREEMPTIONS` has no effect here; `LOOM_LOG=trace LOOM_LOCATION=1`
//! tells each step.
//!
//! [loom]: https://docs.rs/loom

#![expect(clippy::unwrap_used, reason = "a test may fail")]

extern crate self as tokio;

mod promises;
mod sync;
mod time;
mod witness;

pub(crate) use tokio_real::{io, join};

/// tokio's `select!`, but always in the order of its arms: a model must not
/// throw dice.
macro_rules! select {
    (biased; $($arms:tt)*) => { tokio_real::select! { biased; $($arms)* } };
    ($($arms:tt)*) => { tokio_real::select! { biased; $($arms)* } };
}
pub(crate) use select;

/// The real thing, file for file.
#[path = "../src"]
#[expect(
    dead_code,
    unexpected_cfgs,
    unreachable_pub,
    unused_imports,
    reason = "a part of the library"
)]
mod pipeline {
    pub(crate) mod backend;
    pub(crate) mod event;
    pub(crate) mod gate;
    pub(crate) mod json;
    pub(crate) mod sink;
    pub(crate) mod stop;
}

// As public as in the library, for what its files expect of the lints.
pub use self::pipeline::backend::Batch;
pub(crate) use self::pipeline::{backend, event, gate, json, sink, stop};
pub use guard::IdentifierKind;

/// Stands in for `src/locks.rs`.
mod locks {
    pub(crate) use std::sync::PoisonError;

    pub(crate) use loom::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    };
}

/// Stands in for the guard, whose own files see matrix-sdk: it lets everything
/// pass, and no model is about what it finds.
pub(crate) mod guard {
    use std::{borrow::Cow, collections::BTreeMap};

    use crate::event::{Properties, UserProperties};

    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    /// None: nothing is found.
    pub enum IdentifierKind {}

    #[derive(Debug)]
    pub(crate) struct Guard;

    impl Guard {
        pub(crate) fn refresh(&self) {}

        pub(crate) fn event(
            &self,
            name: Cow<'static, str>,
            properties: Properties,
        ) -> Option<(Cow<'static, str>, Properties)> {
            Some((name, properties))
        }

        pub(crate) fn user(&self, _event: &str, user: UserProperties) -> UserProperties {
            user
        }

        pub(crate) fn found(&self) -> BTreeMap<IdentifierKind, u64> {
            BTreeMap::new()
        }
    }
}

/// Stands in for the ID, whose own file sees matrix-sdk.
mod analytics_id {
    use std::fmt;

    /// The epoch in which the account has it.
    #[derive(Clone, PartialEq, Eq)]
    pub struct AnalyticsId(String);

    impl AnalyticsId {
        pub(crate) fn of_epoch(epoch: u64) -> Self {
            Self(epoch.to_string())
        }

        pub(crate) fn reveal(&self) -> &str {
            &self.0
        }
    }

    impl fmt::Debug for AnalyticsId {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("AnalyticsId(..)")
        }
    }
}
