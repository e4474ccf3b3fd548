//! The source files of the matrix-analytics guard and of its dependencies.

#![allow(dead_code, missing_docs, rustdoc::all, unreachable_pub, unused_imports)]

extern crate self as matrix_sdk;

pub use ruma;

#[path = "../src"]
mod library {
    pub mod event;
    pub mod guard;
    pub(crate) mod locks;
}

pub use self::guard_probe::GuardProbe;
use self::library::{event, guard, locks};
pub use self::library::{
    event::{AnalyticsEvent, Properties},
    guard::{Detector, GuardPolicy, IdentifierKind},
};

#[path = "../src/testing/guard_probe.rs"]
mod guard_probe;

pub mod testing {
    pub use crate::GuardProbe;
}
