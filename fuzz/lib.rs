//! The guard of matrix-analytics and what it needs, file for file.

#![allow(dead_code, missing_docs, rustdoc::all, unreachable_pub, unused_imports)]

extern crate self as matrix_sdk;

pub use ruma;

#[path = "../src"]
mod library {
    pub mod event;
    pub mod guard;
    pub(crate) mod locks;
}

pub use self::library::{
    event::{Event, Properties},
    guard::{Detector, GuardPolicy, GuardProbe, IdentifierKind},
};
use self::library::{event, guard, locks};

pub mod testing {
    pub use crate::GuardProbe;
}
