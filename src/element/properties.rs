//! Super properties and user properties.

use super::{
    encryption::{CryptoSdk, RecoveryState, VerificationState},
    macros::{properties, vocabulary},
};
use crate::event;

properties! {
    /// The properties that Element's apps send with each event. Pass them to
    /// [`AnalyticsBuilder::super_properties`](crate::AnalyticsBuilder::super_properties).
    SuperProperties {
        optional {
            /// the implementation of the encryption.
            crypto_sdk: CryptoSdk = "cryptoSDK",
            /// the version of that implementation, such as a commit of matrix-sdk.
            crypto_sdk_version: Text = "cryptoSDKVersion",
            /// the app, by which the events of an account are told apart.
            app_platform: AppPlatform = "appPlatform",
        }
    }
}

vocabulary! {
    /// One of Element's apps. Another app is [`AppPlatform::Other`].
    AppPlatform {
        ElementAndroid = "EA",
        ElementDesktop = "Electron Platform",
        ElementIos = "EI",
        ElementWeb = "Web Platform",
        ElementXAndroid = "EXA",
        ElementXIos = "EXI",
        Other,
    }
}

impl From<SuperProperties> for event::Properties {
    fn from(properties: SuperProperties) -> Self {
        Self::from_serialize_or_problem(&properties)
    }
}

properties! {
    /// The properties of a person that Element's apps send, from any device. Pass them to
    /// [`AnalyticsBuilder::user_properties`](crate::AnalyticsBuilder::user_properties) or
    /// [`Analytics::set_user_properties`](crate::Analytics::set_user_properties).
    UserProperties {
        optional {
            /// what the user wants to use the app for, as told when they first started it.
            ftue_use_case_selection: UseCase = "ftueUseCaseSelection",
            /// the number of spaces that the user is a member of, with those within others.
            num_spaces: u64 = "numSpaces",
            /// the number of rooms that the user marked as favourites.
            num_favourite_rooms: u64 = "numFavouriteRooms",
            /// whether the space of all rooms is shown.
            web_meta_space_home_enabled: bool = "WebMetaSpaceHomeEnabled",
            /// whether that space holds the rooms of other spaces as well.
            web_meta_space_home_all_rooms: bool = "WebMetaSpaceHomeAllRooms",
            /// whether the space of direct messages is shown.
            web_meta_space_people_enabled: bool = "WebMetaSpacePeopleEnabled",
            /// whether the space of favourites is shown.
            web_meta_space_favourites_enabled: bool = "WebMetaSpaceFavouritesEnabled",
            /// whether the space of the rooms in no other space is shown.
            web_meta_space_orphans_enabled: bool = "WebMetaSpaceOrphansEnabled",
            /// the filter of the screen with all chats.
            all_chats_active_filter: AllChatsFilter = "allChatsActiveFilter",
            /// the layout of messages in Element Web and Desktop. The devices of a person overwrite
            /// each other's.
            web_layout: WebLayout = "WebLayout",
            /// whether the session is verified.
            verification_state: VerificationState = "verificationState",
            /// whether the account can be recovered.
            recovery_state: RecoveryState = "recoveryState",
            /// whether URLs have previews unless a room says otherwise.
            url_previews_enabled: bool = "URLPreviewsEnabled",
        }
    }
}

vocabulary! {
    /// The purpose for which a user wants the app.
    UseCase {
        CommunityMessaging,
        PersonalMessaging,
        Skip,
        WorkMessaging,
    }
}

vocabulary! {
    /// A filter of the screen with all chats.
    AllChatsFilter {
        All,
        Favourites,
        People,
        Unreads,
    }
}

vocabulary! {
    /// A layout of messages.
    WebLayout {
        Bubble,
        Compact,
        Group,
        Irc = "IRC",
    }
}

/// Sets each of the properties; none only once.
impl From<UserProperties> for event::UserProperties {
    fn from(properties: UserProperties) -> Self {
        event::Properties::from_serialize_or_problem(&properties).into()
    }
}
