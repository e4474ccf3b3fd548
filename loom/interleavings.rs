//! Checks the sink under [loom]: the library's own files for the gate, the intake, the
//! queue and the lanes, in every order of the steps of their threads, and with every value
//! that an atomic may return.
//!
//! This package compiles those files again, with loom's locks and atomics instead of the
//! standard library's (only `src/locks.rs` names those) and with stand-ins for tokio's
//! `Notify` and time. As a separate package it needs neither matrix-sdk nor a `--cfg`,
//! which dependencies could react to.
//!
//! `docs/measured.md` has the number of interleavings of each model. It counts all of them with at most two preemptions: three for
//! `an_opt_out_returns_…` and `nothing_said_…`, and one for `a_flush_ends_…` with two
//! backends. A switch at a wait or at the end of a thread is not a preemption. In every
//! interleaving no lock waits for ever, the sum of P9 holds whenever it is checked, and no
//! event is left at the end.
//!
//! The models leave out the lock of the consent machine (one thread does the work that
//! `Shared::apply` does under it), the requests to the homeserver, timeouts that expire
//! late (each expires at once or never), the random order of `select!` (it polls its arms
//! in order), and more than two backends, three events or four threads.
//!
//! ```sh
//! cargo test -p matrix-analytics-loom --release -- --nocapture
//! ```
//!
//! `LOOM_MAX_PREEMPTIONS` has no effect here. `LOOM_LOG=trace LOOM_LOCATION=1` logs each
//! step.
//!
//! [loom]: https://docs.rs/loom

#![expect(clippy::unwrap_used, reason = "a test may fail")]

extern crate self as tokio;

mod promises;
mod sync;
mod time;
mod witness;

pub(crate) use tokio_real::{io, join};

/// tokio's `select!`, but always in the order of its arms, because a model must not depend
/// on random numbers.
macro_rules! select {
    (biased; $($arms:tt)*) => { tokio_real::select! { biased; $($arms)* } };
    ($($arms:tt)*) => { tokio_real::select! { biased; $($arms)* } };
}
pub(crate) use select;

/// The library's own files.
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
    pub(crate) mod named;
    pub(crate) mod sink;
    pub(crate) mod stop;
}

// As public as in the library, because its files expect certain lints.
pub use self::pipeline::backend::Batch;
pub(crate) use self::pipeline::{backend, event, gate, json, named, sink, stop};
pub use guard::IdentifierKind;

/// A stand-in for `src/locks.rs`.
mod locks {
    pub(crate) use std::sync::PoisonError;

    pub(crate) use loom::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    };
}

/// A stand-in for the guard, whose files depend on matrix-sdk. It accepts everything.
pub(crate) mod guard {
    use std::{borrow::Cow, collections::BTreeMap};

    use crate::event::{Properties, UserProperties};

    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
    /// Has no variants, because nothing is found.
    pub enum IdentifierKind {}

    impl IdentifierKind {
        pub(crate) fn as_str(&self) -> &'static str {
            match *self {}
        }
    }

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

        pub(crate) fn uncounted(&self) -> Self {
            Self
        }

        pub(crate) fn refuses_computed_name(&self) -> bool {
            false
        }

        pub(crate) fn without_refused(&self, properties: Properties) -> Properties {
            properties
        }

        pub(crate) fn without_refused_user(&self, user: UserProperties) -> UserProperties {
            user
        }

        pub(crate) fn refused_texts(&self) -> u64 {
            0
        }
    }
}

/// A stand-in for the analytics ID, whose file depends on matrix-sdk.
mod analytics_id {
    use std::fmt;

    /// An ID that consists of the epoch in which the account has it.
    #[derive(Clone, PartialEq, Eq)]
    pub(crate) struct AnalyticsId(String);

    impl AnalyticsId {
        pub(crate) fn of_epoch(epoch: u64) -> Self {
            Self(epoch.to_string())
        }

        pub(crate) fn from_foreign(id: &str) -> Option<Self> {
            Some(Self(id.to_owned()))
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
