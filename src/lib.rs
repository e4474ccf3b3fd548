#![cfg_attr(docsrs, feature(doc_cfg))]
// The links of the front page lead to the guide: of two definitions of a link, Markdown takes
// the first.
#![doc = "[tour]: guide::tour"]
#![doc = "[integration]: guide::integration"]
#![doc = "[settings]: guide::settings"]
#![doc = "[other telemetry]: guide::other_telemetry"]
#![doc = "[promises]: guide::promises"]
#![doc = "[consent]: guide::consent"]
#![doc = "[privacy]: guide::privacy"]
#![doc = "[transparency]: guide::transparency"]
#![doc = "[erasure]: guide::erasure"]
#![doc = "[accountability]: guide::accountability"]
#![doc = "[several purposes]: guide::purposes"]
#![doc = "[health]: guide::health"]
#![doc = "[bug reports]: guide::bug_reports"]
#![doc = "[limits]: guide::limits"]
#![doc = "[durability]: guide::durability"]
#![doc = "[features]: guide::features"]
#![doc = "[measured]: guide::measured"]
#![doc = "\n"]
#![doc = include_str!("../README.md")]
// Not in Cargo.toml: only the library has a public API.
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs, unnameable_types)]

// Consent: the decision of the user, and the account that holds it.
mod analytics;
mod analytics_id;
mod consent;
mod matrix;

// Known to both consent and the sink.
mod gate;

// Telemetry: from an event to a batch.
mod event;
mod guard;
mod sink;

// What the client says of its encryption and its session, as events.
#[cfg(feature = "health")]
mod health;

// The services that take batches.
mod backend;

// What all of it stores and sends.
mod consent_record;
mod disclosure;
mod erasure;
mod history;

// What only the user sends.
#[cfg(feature = "rageshake")]
mod bug_report;
#[cfg(feature = "rageshake")]
mod rageshake;
#[cfg(feature = "rageshake")]
mod recent_logs;

mod json;
mod locks;
mod named;
mod spawn;
mod stop;

/// The pages of the guide, from the first steps to the measurements.
#[cfg(all(doc, not(doctest)))]
pub mod guide {
    /// Makes a module of a page in `docs/`, whose links to other pages lead to their modules.
    macro_rules! pages {
        ($($name:ident $file:literal)+) => {$(
            #[doc = "[health]: health\n[measured]: measured\n[privacy]: privacy\n[scale]: scale\n[disclosure]: transparency\n[erasure]: erasure\n"]
            #[doc = "[features]: features\n[bug reports]: bug_reports\n"]
            #[doc = include_str!(concat!("../docs/", $file))]
            pub mod $name {}
        )+};
    }

    pages! {
        tour "tour.md"
        integration "integration.md"
        settings "settings.md"
        other_telemetry "other-telemetry.md"
        promises "promises.md"
        consent "consent.md"
        privacy "privacy.md"
        transparency "transparency.md"
        erasure "erasure.md"
        accountability "accountability.md"
        purposes "purposes.md"
        health "health.md"
        bug_reports "bug-reports.md"
        limits "limits.md"
        durability "durability.md"
        features "features.md"
        speed "speed.md"
        scale "scale.md"
        measured "measured.md"
    }
}

#[cfg(feature = "element-events")]
pub mod element;

#[cfg(feature = "testing")]
pub mod testing;

/// Tests of the sink. `sink.rs` does not declare them itself, because the loom models also
/// compile that file, with stand-ins that these tests do not know.
#[cfg(test)]
#[path = "sink/tests/all.rs"]
mod sink_tests;

#[cfg(any(feature = "matomo", feature = "otlp", feature = "posthog", feature = "rageshake"))]
pub use self::backend::EndpointError;
#[cfg(any(feature = "matomo", feature = "otlp", feature = "posthog"))]
pub use self::backend::{ErasureEndpoint, ErasureEndpointBuildError, ErasureEndpointBuilder};
#[cfg(feature = "matomo")]
pub use self::backend::{Matomo, MatomoBuildError, MatomoBuilder};
#[cfg(feature = "otlp")]
pub use self::backend::{Otlp, OtlpBuildError, OtlpBuilder, OtlpEncoding};
#[cfg(feature = "posthog")]
pub use self::backend::{PostHog, PostHogBuildError, PostHogBuilder};
#[cfg(feature = "sqlite")]
pub use self::sink::queue::sqlite::SqliteQueue;
#[cfg(feature = "health")]
pub use self::{
    analytics::health::{HealthWatch, WatchHealthError},
    health::{
        signals::HealthSignals,
        state::HealthState,
        stats::{HealthStats, UndecryptableStats},
    },
};
pub use self::{
    analytics::{
        Analytics,
        build_error::BuildError,
        builder::{AnalyticsBuilder, ELEMENT_EVENT_TYPE},
        current::CurrentAnalytics,
        opt_in::OptIn,
        opt_out::OptOut,
        outcome::{OptInError, OptOutReceipt, RecipientIdentifier, WithdrawalStep},
        preview::{Preview, PreviewContent, PreviewError},
    },
    analytics_id::AnalyticsId,
    backend::{
        Backend, Batch, BoxError, DeliveryError, Erasure, ErasureError, ErasureRequest,
        EventOutcome, Identity, JsonLines, LabelError, PartialDelivery, Party, Recipient,
    },
    consent::{
        policy::{InvalidPolicy, Policy},
        state::{ClosedReason, Consent, ConsentState, GateState, HoldReason, Prompt},
        switch::{Note, Switch},
    },
    consent_record::{
        AgreedPolicy, ConsentRecord, ConsentStatus, DecisionPlace, RecordedDecision,
        RecordedRecipient, RemovedData,
    },
    disclosure::{DisclosedIdentifier, DisclosedRecipient, Disclosure, KeptBack, LocalCopy},
    erasure::report::{ErasureCause, ErasureReceipt, ErasureState, ErasureStats, ErasureStorage},
    event::{
        AnalyticsEvent, DeserializeError, InvalidEvent, MAX_EVENT_BYTES, MAX_KEY_BYTES,
        MAX_NAME_BYTES, OutgoingEvent, Properties, PropertyValue, UserProperties,
    },
    guard::{Detector, GuardPolicy, IdentifierKind, TextPolicy},
    history::sent_event::{SentEvent, SentOutcome},
    matrix::{account_data::AccountDataError, client::MatrixClient},
    sink::{
        drops::Dropped,
        limits::{Limits, OverflowPolicy},
        queue::QueueError,
        report::{BackendReport, DeliveryReport},
        stats::{BackendStats, DropReason, QueueStats, Stats},
    },
};
#[cfg(feature = "rageshake")]
pub use self::{
    bug_report::{
        BugReport,
        part::{InvalidPart, ReportPart, ReportPreview},
    },
    rageshake::{
        Rageshake,
        answer::{Refusal, SubmitError, Submitted},
    },
    recent_logs::RecentLogs,
};

/// The tour, whose code is compiled and run as a test.
#[cfg(all(doctest, feature = "posthog", feature = "testing"))]
#[doc = include_str!("../docs/tour.md")]
#[derive(Debug)]
pub struct Tour;

/// The page about the settings, whose code is compiled as a test.
#[cfg(all(doctest, feature = "posthog"))]
#[doc = include_str!("../docs/settings.md")]
#[derive(Debug)]
pub struct SettingsPage;

/// The page about erasure, whose code is compiled as a test.
#[cfg(all(doctest, feature = "posthog", feature = "sqlite"))]
#[doc = include_str!("../docs/erasure.md")]
#[derive(Debug)]
pub struct ErasurePage;

/// The page about several purposes, whose code is compiled as a test.
#[cfg(all(doctest, feature = "otlp", feature = "posthog"))]
#[doc = include_str!("../docs/purposes.md")]
#[derive(Debug)]
pub struct PurposesPage;

/// The page about apps, whose code is compiled and run as a test.
#[cfg(all(doctest, feature = "testing"))]
#[doc = include_str!("../docs/integration.md")]
#[derive(Debug)]
pub struct Integration;

/// The page about the health of encryption, whose code is compiled and run as a test.
#[cfg(all(doctest, feature = "health", feature = "testing"))]
#[doc = include_str!("../docs/health.md")]
#[derive(Debug)]
pub struct Health;

/// The page about bug reports, whose code is compiled and run as a test.
#[cfg(all(doctest, feature = "rageshake"))]
#[doc = include_str!("../docs/bug-reports.md")]
#[derive(Debug)]
pub struct BugReportsPage;
