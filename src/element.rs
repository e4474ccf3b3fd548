//! The events of Element's apps, as types.
//!
//! Element publishes a schema of each event that its apps send. These are the types of version
//! 0.37, so that other clients can send the same events and read them in the same dashboards.
//!
//! ```
//! use matrix_analytics::{
//!     Analytics,
//!     element::{
//!         AppPlatform, CryptoSdk, JoinedRoom, JoinedRoomTrigger, RoomSize, SuperProperties,
//!     },
//! };
//!
//! # async fn example(client: matrix_sdk::Client) -> Result<(), Box<dyn std::error::Error>> {
//! let properties = SuperProperties::new()
//!     .app_platform(AppPlatform::Other)
//!     .crypto_sdk(CryptoSdk::Rust);
//! let analytics = Analytics::builder(client, "org.example.analytics")
//!     .super_properties(properties)
//!     .build()
//!     .await?;
//!
//! let (is_dm, is_space) = (false, false);
//! let joined = JoinedRoom::new(RoomSize::ThreeToTen, is_dm, is_space);
//! analytics.capture(&joined.trigger(JoinedRoomTrigger::Invite));
//! # Ok(())
//! # }
//! ```
//!
//! # Texts
//!
//! All of it is numbers, booleans and the words of enums, so all of it leaves under
//! [`TextPolicy::Refuse`](crate::TextPolicy::Refuse). Four properties are free texts by their
//! schema: the `context` of [`Error`] and of [`PerformanceTimer`], the `error_reason` of
//! [`UnauthenticatedError`], and the `crypto_sdk_version` of [`SuperProperties`]. A `&'static str`
//! in one of them is a part of the program and leaves as well. A `String` is computed. Under
//! every policy, the guard inspects both.
//!
//! # Left out
//!
//! | schema | why |
//! |---|---|
//! | `AttachmentCancel`, `AttachmentOpen`, `AttachmentSend` | Each requires a property that it does not define and allows no other, so no event satisfies it. |
//! | `isMatrixDotOrg` of `Error` | It says which server a user is on. |
//! | `cryptoModule` of `Error` | The schema deprecates it, and `cryptoSDK` says the same. |
//! | `doNotUse` of `PollVote` and `PollEnd` | It exists for a generator of code, and its own description says not to use it. |
//!
//! Two properties differ from their schema: [`MobileScreen`] sends its name as `$screen_name`, as
//! Element's apps do through the SDKs of PostHog, and the array of [`RoomFilterChanged`] takes
//! filters in place of any text.

#![expect(
    clippy::wrong_self_convention,
    reason = "a setter is named as its property, some of which begin with `is`"
)]

mod app;
mod calls;
mod encryption;
mod interaction;
mod macros;
mod messages;
mod properties;
mod rooms;
mod screens;
#[cfg(test)]
mod tests;
mod text;

pub use self::{
    app::{
        AuthenticationType, NotificationTroubleshoot, Panel, PanelRoomType, PerformanceTimer,
        Permission, PermissionChanged, Signup, TimerName, WebPanelResize, WebSearch,
    },
    calls::{CallEnded, CallError, CallStarted},
    encryption::{
        CryptoSdk, CryptoSessionState, Error, ErrorDomain, ErrorName, RecoveryState,
        UnauthenticatedError, UnauthenticatedErrorCode, VerificationState,
    },
    interaction::{Interaction, InteractionName, InteractionType},
    messages::{
        Composer, MessageType, PinKind, PinOrigin, PinUnpinAction, PollAction, PollCreation,
        PollEnd, PollVote, SlashCommand, SlashCommandName, UrlPreviewKind, UrlPreviewRendered,
        UrlPreviewVisibilityChanged,
    },
    properties::{
        AllChatsFilter, AppPlatform, SuperProperties, UseCase, UserProperties, WebLayout,
    },
    rooms::{
        ActiveSpace, CreatedRoom, ExpandCollapseSection, JoinedRoom, JoinedRoomTrigger,
        ModerationAction, ModerationRole, RoomFilter, RoomFilterChanged,
        RoomListSortingAlgorithmChanged, RoomModeration, RoomSize, SectionChange,
        SectionChangeOrigin, SectionCreation, SectionCreationOrigin, SortingAlgorithm, ViewRoom,
        ViewRoomTrigger,
    },
    screens::{MobileScreen, MobileScreenName, WebScreen, WebScreenName},
};
