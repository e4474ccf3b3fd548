//! Screens.

use super::macros::{event, vocabulary};

event! {
    /// A screen of a mobile app that the user saw.
    ///
    /// PostHog's own SDKs send `$screen` with the name of the screen in `$screen_name`. Element's mobile
    /// apps pass `screenName` to these SDKs, so it is `$screen_name` here.
    MobileScreen = "$screen" {
        required {
            /// the screen.
            screen_name: MobileScreenName = "$screen_name",
        }
        optional {
            /// how long the screen was shown, in milliseconds.
            duration_ms: u64 = "durationMs",
        }
    }
}

event! {
    /// A screen of a web or desktop app that the user saw. PostHog counts it as the view of a page.
    WebScreen = "$pageview" {
        required {
            /// the screen, never a real URL.
            current_url: WebScreenName = "$current_url",
        }
        optional {
            /// how long the screen took to load, in milliseconds.
            duration_ms: u64 = "durationMs",
        }
    }
}

vocabulary! {
    /// A screen of Element's mobile apps.
    MobileScreenName {
        Breadcrumbs,
        CreatePollView,
        CreateRoom,
        CreateSpace,
        DeactivateAccount,
        Dialpad,
        EditPollView,
        Favourites,
        ForgotPassword,
        Group,
        Home,
        InviteFriends,
        Invites,
        LocationSend,
        LocationView,
        Login,
        MyGroups,
        NotificationTroubleshoot,
        People,
        Register,
        Room,
        RoomAddresses,
        RoomCall,
        RoomDetails,
        RoomDirectory,
        RoomFilter,
        RoomMembers,
        RoomNotifications,
        RoomPermissions,
        RoomPreview,
        RoomSearch,
        RoomSettings,
        RoomUploads,
        Rooms,
        SearchFiles,
        SearchMessages,
        SearchPeople,
        SearchRooms,
        Settings,
        SettingsAdvanced,
        SettingsDefaultNotifications,
        SettingsGeneral,
        SettingsHelp,
        SettingsIgnoredUsers,
        SettingsLabs,
        SettingsLegals,
        SettingsMentionsAndKeywords,
        SettingsNotifications,
        SettingsPreferences,
        SettingsSecurity,
        SettingsVoiceVideo,
        Sidebar,
        SpaceBottomSheet,
        SpaceExploreRooms,
        SpaceMembers,
        SpaceMenu,
        StartChat,
        SwitchDirectory,
        ThreadList,
        User,
        Welcome,
    }
}

vocabulary! {
    /// A screen of Element Web and Desktop.
    WebScreenName {
        CompleteSecurity,
        ConfirmStartup,
        CreateRoom,
        DeactivateAccount,
        E2eSetup = "E2ESetup",
        FavouriteMessages,
        ForgotPassword,
        Group,
        Home,
        Loading,
        Login,
        MyGroups,
        Register,
        Room,
        RoomDetails,
        RoomDirectory,
        RoomFilter,
        RoomMembers,
        RoomNotifications,
        RoomSearch,
        RoomSettings,
        RoomSettingsAdvanced,
        RoomSettingsBridges,
        RoomSettingsGeneral,
        RoomSettingsNotifications,
        RoomSettingsRolesPermissions,
        RoomSettingsSecurityPrivacy,
        RoomUploads,
        SessionLockStolen,
        SoftLogout,
        SpaceExploreRooms,
        StartChat,
        UnifiedSearch,
        UseCaseSelection,
        User,
        UserSettingFlair,
        UserSettingMjolnir,
        UserSettings,
        UserSettingsAppearance,
        UserSettingsEncryption,
        UserSettingsGeneral,
        UserSettingsHelpAbout,
        UserSettingsIgnoredUsers,
        UserSettingsKeyboard,
        UserSettingsLabs,
        UserSettingsNotifications,
        UserSettingsPreferences,
        UserSettingsSecurityPrivacy,
        UserSettingsSidebar,
        UserSettingsVoiceVideo,
        Welcome,
    }
}
