//! Interaction with the user interface.

use super::macros::{event, vocabulary};

event! {
    /// An element of the user interface that the user activated.
    Interaction = "Interaction" {
        required {
            /// the element.
            name: InteractionName = "name",
        }
        optional {
            /// the position of the element, if it is one of a list.
            index: u64 = "index",
            /// how the user activated it.
            interaction_type: InteractionType = "interactionType",
        }
    }
}

vocabulary! {
    /// How an element was activated.
    InteractionType {
        Keyboard,
        Pointer,
        Touch,
    }
}

vocabulary! {
    /// An element of the user interface. Those with `Web` are of Element Web and Desktop, those with
    /// `Mobile` of Element's mobile apps.
    InteractionName {
        MobileAllChatsFilterAll,
        MobileAllChatsFilterFavourites,
        MobileAllChatsFilterPeople,
        MobileAllChatsFilterUnreads,
        MobileAllChatsFiltersDisabled,
        MobileAllChatsFiltersEnabled,
        MobileAllChatsRecentsDisabled,
        MobileAllChatsRecentsEnabled,
        MobileRoomAddHome,
        MobileRoomCallButton,
        MobileRoomComposerFormattingEnabled,
        MobileRoomFavouriteToggle,
        MobileRoomLeave,
        MobileRoomListRoomContextMenuFavouriteToggle,
        MobileRoomListRoomContextMenuUnreadToggle,
        MobileRoomThreadListButton,
        MobileRoomThreadSummaryItem,
        MobileSettingsOptimizeMediaUploadsDisabled,
        MobileSettingsOptimizeMediaUploadsEnabled,
        MobileSpaceCreationValidated,
        MobileThreadListFilterItem,
        MobileThreadListThreadItem,
        PinnedMessageBannerClick,
        PinnedMessageBannerCloseListButton,
        PinnedMessageBannerViewAllButton,
        PinnedMessageListViewTimeline,
        PinnedMessageRoomInfoButton,
        PinnedMessageStateEventClick,
        SpacePanelSelectedSpace,
        SpacePanelSwitchSpace,
        SpacePanelSwitchSubSpace,
        ToastSetUpRecoveryClick,
        ToastSetUpRecoveryDismiss,
        ToastTurnOnKeyStorageClick,
        ToastTurnOnKeyStorageDismiss,
        WebAddExistingToSpaceDialogCreateRoomButton,
        WebDeleteSection,
        WebHomeCreateChatButton,
        WebHomeCreateRoomButton,
        WebHomeExploreRoomsButton,
        WebHomeMiniAvatarUploadButton,
        WebLeftPanelExploreRoomsButton,
        WebProfileSettingsAvatarUploadButton,
        WebQuickSettingsPinToSidebarCheckbox,
        WebQuickSettingsThemeDropdown,
        WebRightPanelMemberListInviteButton,
        WebRightPanelRoomInfoPeopleButton,
        WebRightPanelRoomInfoSettingsButton,
        WebRightPanelRoomUserInfoBackButton,
        WebRightPanelRoomUserInfoInviteButton,
        WebRightPanelThreadPanelFilterDropdown,
        WebRoomDirectoryCreateRoomButton,
        WebRoomHeaderButtonsThreadsButton,
        WebRoomHeaderContextMenuFavouriteToggle,
        WebRoomHeaderContextMenuInviteItem,
        WebRoomHeaderContextMenuLeaveItem,
        WebRoomHeaderContextMenuNotificationsItem,
        WebRoomHeaderContextMenuPeopleItem,
        WebRoomHeaderContextMenuSettingsItem,
        WebRoomListHeaderPlusMenuCreateChatItem,
        WebRoomListHeaderPlusMenuCreateRoomItem,
        WebRoomListHeaderPlusMenuExploreRoomsItem,
        WebRoomListMessagePreviewToggle,
        WebRoomListRoomTileContextMenuFavouriteToggle,
        WebRoomListRoomTileContextMenuInviteItem,
        WebRoomListRoomTileContextMenuLeaveItem,
        WebRoomListRoomTileContextMenuMarkRead,
        WebRoomListRoomTileContextMenuMarkUnread,
        WebRoomListRoomTileContextMenuSettingsItem,
        WebRoomListRoomTileNotificationsMenu,
        WebRoomListRoomsSublistPlusMenuCreateChatItem,
        WebRoomListRoomsSublistPlusMenuCreateRoomItem,
        WebRoomListRoomsSublistPlusMenuExploreRoomsItem,
        WebRoomListUserOnboardingButton,
        WebRoomListUserOnboardingIgnoreButton,
        WebRoomSettingsLeaveButton,
        WebRoomSettingsSecurityTabCreateNewRoomButton,
        WebRoomTimelineThreadSummaryButton,
        WebSettingsAppearanceTabThemeSelector,
        WebSettingsNotificationsShowBoldToggle,
        WebSettingsNotificationsTacOnlyNotificationsToggle = "WebSettingsNotificationsTACOnlyNotificationsToggle",
        WebSettingsSidebarTabSpacesCheckbox,
        WebSpaceContextMenuExploreRoomsItem,
        WebSpaceContextMenuHomeItem,
        WebSpaceContextMenuNewRoomItem,
        WebSpaceHomeCreateRoomButton,
        WebThreadViewBackButton,
        WebThreadsActivityCentreButton,
        WebThreadsActivityCentreRoomItem,
        WebThreadsMarkAllReadButton,
        WebThreadsPanelThreadItem,
        WebUserMenuThemeToggleButton,
        WebUserOnboardingHeaderSendDm,
        WebUserOnboardingTaskDownloadApps,
        WebUserOnboardingTaskEnableNotifications,
        WebUserOnboardingTaskSendDm,
        WebUserOnboardingTaskSetupProfile,
        WebVoipOptionElementCall,
        WebVoipOptionJitsi,
        WebVoipOptionLegacy,
    }
}
