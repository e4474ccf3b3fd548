//! The source files of the matrix-analytics guard, of the content of the account's event, and of
//! their dependencies.

#![allow(dead_code, missing_docs, rustdoc::all, unreachable_pub, unused_imports)]

extern crate self as matrix_sdk;

pub use ruma;

#[path = "../src"]
mod library {
    pub(crate) mod analytics_id;
    pub(crate) mod clock;
    pub(crate) mod consent {
        pub(crate) mod content;
        pub(crate) mod hex;
        pub(crate) mod policy;
    }
    pub mod event;
    pub mod guard;
    pub(crate) mod json;
    pub(crate) mod locks;
}

use self::library::{analytics_id, clock, consent, event, guard, json, locks};
pub use self::{
    changed_content::change_content,
    guard_probe::GuardProbe,
    library::{
        event::{AnalyticsEvent, Properties},
        guard::{Detector, GuardPolicy, IdentifierKind},
    },
};

mod changed_content;

#[path = "../src/testing/guard_probe.rs"]
mod guard_probe;

pub mod testing {
    pub use crate::GuardProbe;
}
