//! The app: performance, sign-up, notifications, permissions, search, layout.

use super::macros::{event, vocabulary};

event! {
    /// The time that an operation of the app took.
    PerformanceTimer = "PerformanceTimer" {
        required {
            /// the operation.
            name: TimerName = "name",
            /// the time, in milliseconds.
            time_ms: u64 = "timeMs",
        }
        optional {
            /// how many items the operation handled, as the client counts them.
            item_count: u64 = "itemCount",
            /// details that help to debug the client, in words of its own. Make them words of the
            /// program: a text that was computed can name a person.
            context: Text = "context",
        }
    }
}

vocabulary! {
    /// An operation whose time is taken.
    TimerName {
        InitialSyncParsing,
        InitialSyncRequest,
        NotificationsOpenEvent,
        StartupIncrementalSync,
        StartupInitialSync,
        StartupLaunchScreen,
        StartupStorePreload,
        StartupStoreReady,
    }
}

event! {
    /// A new account, sent when the user has arrived in the app.
    Signup = "Signup" {
        required {
            /// how the user proved who they are.
            authentication_type: AuthenticationType = "authenticationType",
        }
    }
}

vocabulary! {
    /// How a user proves who they are.
    AuthenticationType {
        Apple,
        Facebook,
        GitHub,
        GitLab,
        Google,
        Other,
        Password,
        Sso = "SSO",
    }
}

event! {
    /// A run of the tests that find out why notifications do not arrive.
    NotificationTroubleshoot = "NotificationTroubleshoot" {
        required {
            /// whether a test failed.
            has_error: bool = "hasError",
        }
    }
}

event! {
    /// A permission that the user granted to the app or took from it.
    PermissionChanged = "PermissionChanged" {
        required {
            /// the permission.
            permission: Permission = "permission",
            /// whether the app has it now.
            granted: bool = "granted",
        }
    }
}

vocabulary! {
    /// A permission of the app.
    Permission {
        Notification,
    }
}

event! {
    /// A search for rooms.
    WebSearch = "WebSearch" {
        required {
            /// whether the user used the newer kind of search.
            via_spotlight: bool = "viaSpotlight",
            /// the number of results.
            num_results: u64 = "numResults",
            /// the length of the text that the user searched for.
            query_length: u64 = "queryLength",
        }
    }
}

event! {
    /// A panel whose size the user changed.
    WebPanelResize = "WebPanelResize" {
        required {
            /// the panel.
            panel: Panel = "panel",
            /// what the user was looking at.
            room_type: PanelRoomType = "roomType",
            /// the new size, in pixels.
            size: u64 = "size",
        }
    }
}

vocabulary! {
    /// A panel of the user interface.
    Panel {
        Right = "right",
    }
}

vocabulary! {
    /// The content next to a panel.
    PanelRoomType {
        MaximisedWidget = "maximised_widget",
        OtherRoom = "other_room",
        Space = "space",
        UserProfile = "user_profile",
        VideoRoom = "video_room",
    }
}
