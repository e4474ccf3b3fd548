#![cfg_attr(docsrs, feature(doc_cfg))]
#![doc = include_str!("../README.md")]

mod account_data;
mod analytics;
mod analytics_id;
mod backend;
mod builder;
mod consent;
mod consent_task;
mod delivery;
mod event;
mod gate;
mod guard;
mod intake;
mod limits;
mod local_record;
mod locks;
mod queue;
mod sink;
mod stats;
mod stop;
mod withdrawal;

#[cfg(feature = "testing")]
pub mod testing;

#[cfg(feature = "posthog")]
pub use self::backend::{PostHog, PostHogBuildError, PostHogBuilder};
pub use self::{
    account_data::AccountDataError,
    analytics::{Analytics, OptInError},
    analytics_id::AnalyticsId,
    backend::{Backend, Batch, BoxError, DeliveryError, JsonLines},
    builder::{AnalyticsBuilder, BuildError, ELEMENT_EVENT_TYPE},
    consent::{ClosedReason, Confirmation, Consent, ConsentState, GateState, HoldReason, Prompt},
    event::{
        Event, InvalidEvent, MAX_EVENT_BYTES, MAX_KEY_BYTES, MAX_NAME_BYTES, OutgoingEvent,
        Properties, UserProperties, Value,
    },
    guard::{Detector, GuardPolicy, IdentifierKind},
    limits::OverflowPolicy,
    sink::{Delivered, DeliveryReport},
    stats::{BackendStats, DropReason, Stats},
    withdrawal::{OptOut, OptOutReceipt, Step},
};
