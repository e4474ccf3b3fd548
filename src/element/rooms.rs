//! Rooms and the list of rooms.

use super::macros::{event, vocabulary};

event! {
    /// A room that the user created.
    CreatedRoom = "CreatedRoom" {
        required {
            /// whether it is for direct messages.
            is_dm: bool = "isDM",
        }
    }
}

event! {
    /// A room that the user joined.
    JoinedRoom = "JoinedRoom" {
        required {
            /// the number of its members.
            room_size: RoomSize = "roomSize",
            /// whether it is for direct messages.
            is_dm: bool = "isDM",
            /// whether it is a space.
            is_space: bool = "isSpace",
        }
        optional {
            /// what led the user there, if it is known.
            trigger: JoinedRoomTrigger = "trigger",
        }
    }
}

vocabulary! {
    /// The number of members of a room, in steps.
    RoomSize {
        One,
        Two,
        ThreeToTen,
        ElevenToOneHundred,
        OneHundredAndOneToAThousand,
        MoreThanAThousand,
    }
}

vocabulary! {
    /// The trigger for joining a room.
    JoinedRoomTrigger {
        Invite,
        MobilePermalink,
        Notification,
        RoomDirectory,
        RoomPreview,
        SlashCommand,
        SpaceHierarchy,
        Timeline,
    }
}

event! {
    /// A room that the user opened.
    ViewRoom = "ViewRoom" {
        optional {
            /// the reason, if it is known.
            trigger: ViewRoomTrigger = "trigger",
            /// whether the user used the keyboard.
            via_keyboard: bool = "viaKeyboard",
            /// whether the room is for direct messages.
            is_dm: bool = "isDM",
            /// whether it is a space.
            is_space: bool = "isSpace",
            /// the space that was open at the time.
            active_space: ActiveSpace = "activeSpace",
        }
    }
}

vocabulary! {
    /// The reason why a room was opened. Those with `Web` are of Element Web and Desktop, those with
    /// `Mobile` of Element's mobile apps.
    ViewRoomTrigger {
        Created,
        MessageSearch,
        MessageUser,
        MobileExploreRooms,
        MobileFileSearch,
        MobileInCall,
        MobileLinkShare,
        MobilePermalink,
        MobileRoomMemberDetail,
        MobileRoomPreview,
        MobileRoomSearch,
        MobileSearchContactDetail,
        MobileSpaceBottomSheet,
        MobileSpaceMemberDetail,
        MobileSpaceMembers,
        MobileSpaceMenu,
        MobileSpaceSettings,
        Notification,
        Predecessor,
        RoomDirectory,
        RoomList,
        Shortcut,
        SlashCommand,
        SpaceHierarchy,
        Timeline,
        Tombstone,
        VerificationRequest,
        WebAcceptCall,
        WebDialPad,
        WebFloatingCallWindow,
        WebForwardShortcut,
        WebHorizontalBreadcrumbs,
        WebKeyboardShortcut,
        WebNotificationPanel,
        WebPredecessorSettings,
        WebRoomListNotificationBadge,
        WebSpaceContextSwitch,
        WebSpacePanelNotificationBadge,
        WebThreadsActivityCentre,
        WebUnifiedSearch,
        WebVerticalBreadcrumbs,
        Widget,
    }
}

vocabulary! {
    /// The space that is open. `Meta` stands for one that Element makes up, such as the favourites.
    ActiveSpace {
        Home,
        Meta,
        Private,
        Public,
    }
}

event! {
    /// An act of moderation in a room.
    RoomModeration = "RoomModeration" {
        required {
            /// what the user did.
            action: ModerationAction = "action",
        }
        optional {
            /// the role that the power level which was set is meant for.
            role: ModerationRole = "role",
        }
    }
}

vocabulary! {
    /// An act of moderation.
    ModerationAction {
        BanMember,
        ChangeMemberRole,
        ChangePermissionsBanMembers,
        ChangePermissionsInviteUsers,
        ChangePermissionsKickMembers,
        ChangePermissionsRedactMessages,
        ChangePermissionsRoomAvatar,
        ChangePermissionsRoomName,
        ChangePermissionsRoomTopic,
        ChangePermissionsSendMessages,
        KickMember,
        ResetPermissions,
        UnbanMember,
    }
}

vocabulary! {
    /// The role of a member of a room.
    ModerationRole {
        Administrator,
        Moderator,
        Other,
        User,
    }
}

event! {
    /// A filter of the list of rooms that the user switched on or off.
    RoomFilterChanged = "RoomFilterChanged" {
        required {
            /// the filter.
            changed_filter: RoomFilter = "changedFilter",
            /// whether it is on now.
            is_enabled: bool = "isEnabled",
            /// all filters that are on now.
            active_filters: [RoomFilter] = "activeFilters",
        }
    }
}

vocabulary! {
    /// A filter of the list of rooms.
    RoomFilter {
        Favourites,
        Invites,
        LowPriority,
        Mentions,
        People,
        Rooms,
        Unreads,
    }
}

event! {
    /// Another order of the list of rooms.
    RoomListSortingAlgorithmChanged = "RoomListSortingAlgorithmChanged" {
        required {
            /// the order until now.
            old_algorithm: SortingAlgorithm = "oldAlgorithm",
            /// the order from now on.
            new_algorithm: SortingAlgorithm = "newAlgorithm",
        }
    }
}

vocabulary! {
    /// The order of the list of rooms.
    SortingAlgorithm {
        Activity,
        Alphabetic,
        Unread,
    }
}

event! {
    /// A section of the list of rooms that the user created.
    SectionCreation = "SectionCreation" {
        required {
            /// where the user did it.
            from: SectionCreationOrigin = "from",
        }
    }
}

vocabulary! {
    /// Where a section was created.
    SectionCreationOrigin {
        RoomListHeader,
        RoomListItemOverflowMenu,
    }
}

event! {
    /// A section of the list of rooms that the user expanded or collapsed.
    ExpandCollapseSection = "ExpandCollapseSection" {
        required {
            /// which of the two.
            kind: SectionChange = "kind",
            /// where the user did it.
            from: SectionChangeOrigin = "from",
        }
    }
}

vocabulary! {
    /// A change of a section.
    SectionChange {
        Collapse,
        Expand,
    }
}

vocabulary! {
    /// Where a section was expanded or collapsed.
    SectionChangeOrigin {
        RoomListHeader,
        SectionHeader,
    }
}
