#![cfg_attr(docsrs, feature(doc_cfg))]
#![doc = include_str!("../README.md")]

mod account_data;
mod analytics;
mod analytics_id;
mod backend;
mod builder;
mod claim;
mod consent;
mod consent_task;
mod counted;
mod delivery;
mod drops;
mod event;
mod gate;
mod guard;
mod hex;
mod intake;
mod limits;
mod local_record;
mod locks;
mod queue;
mod record_store;
mod saving;
mod session;
mod sink;
mod state_stream;
mod stats;
mod stop;
mod withdrawal;

#[cfg(test)]
mod delivery_tests;
#[cfg(test)]
mod intake_tests;
#[cfg(test)]
mod stale_epochs;
#[cfg(test)]
mod wake_ups;

#[cfg(feature = "testing")]
pub mod testing;

#[cfg(feature = "posthog")]
pub use self::backend::{PostHog, PostHogBuildError, PostHogBuilder};
#[cfg(feature = "sqlite")]
pub use self::queue::sqlite::SqliteQueue;
pub use self::{
    account_data::AccountDataError,
    analytics::{Analytics, OptInError},
    analytics_id::AnalyticsId,
    backend::{Backend, Batch, BoxError, DeliveryError, JsonLines},
    builder::{AnalyticsBuilder, BuildError, ELEMENT_EVENT_TYPE},
    consent::{ClosedReason, Confirmation, Consent, ConsentState, GateState, HoldReason, Prompt},
    drops::Dropped,
    event::{
        DeserializeError, Event, InvalidEvent, MAX_EVENT_BYTES, MAX_KEY_BYTES, MAX_NAME_BYTES,
        OutgoingEvent, Properties, UserProperties, Value,
    },
    guard::{Detector, GuardPolicy, IdentifierKind},
    limits::OverflowPolicy,
    queue::QueueError,
    sink::{Delivered, DeliveryReport},
    stats::{BackendStats, DropReason, QueueStats, Stats},
    withdrawal::{OptOut, OptOutReceipt, Step},
};

/// The tour, whose code is compiled and run as a test.
#[cfg(all(doctest, feature = "posthog", feature = "testing"))]
#[doc = include_str!("../docs/tour.md")]
#[derive(Debug)]
pub struct Tour;
