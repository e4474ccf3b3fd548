//! One instance of each type, with all its properties.

use matrix_analytics::element::{
    ActiveSpace, AllChatsFilter, AppPlatform, AuthenticationType, CallEnded, CallError,
    CallStarted, Composer, CreatedRoom, CryptoSdk, CryptoSessionState, Error, ErrorDomain,
    ErrorName, ExpandCollapseSection, Interaction, InteractionName, InteractionType, JoinedRoom,
    JoinedRoomTrigger, MessageType, MobileScreen, MobileScreenName, ModerationAction,
    ModerationRole, NotificationTroubleshoot, Panel, PanelRoomType, PerformanceTimer, Permission,
    PermissionChanged, PinKind, PinOrigin, PinUnpinAction, PollAction, PollCreation, PollEnd,
    PollVote, RecoveryState, RoomFilter, RoomFilterChanged, RoomListSortingAlgorithmChanged,
    RoomModeration, RoomSize, SectionChange, SectionChangeOrigin, SectionCreation,
    SectionCreationOrigin, Signup, SlashCommand, SlashCommandName, SortingAlgorithm,
    SuperProperties, TimerName, UnauthenticatedError, UnauthenticatedErrorCode, UrlPreviewKind,
    UrlPreviewRendered, UrlPreviewVisibilityChanged, UseCase, UserProperties, VerificationState,
    ViewRoom, ViewRoomTrigger, WebLayout, WebPanelResize, WebScreen, WebScreenName, WebSearch,
};

pub(super) fn call_ended() -> CallEnded {
    CallEnded::new(true, false, 61_000, 2)
}

pub(super) fn call_error() -> CallError {
    CallError::new(false, true, 3)
}

pub(super) fn call_started() -> CallStarted {
    CallStarted::new(true, true, 1)
}

pub(super) fn composer() -> Composer {
    Composer::new(false, true, true, MessageType::VoiceMessage).starts_thread(true)
}

pub(super) fn created_room() -> CreatedRoom {
    CreatedRoom::new(true)
}

pub(super) fn crypto_session_state() -> CryptoSessionState {
    CryptoSessionState::new(VerificationState::NotVerified, RecoveryState::Incomplete)
}

pub(super) fn error() -> Error {
    Error::new(ErrorDomain::E2ee, ErrorName::OlmKeysNotSentError)
        .context("sync")
        .time_to_decrypt_millis(-1)
        .crypto_sdk(CryptoSdk::Rust)
        .event_local_age_millis(-5_000)
        .user_trusts_own_identity(true)
        .is_federated(false)
        .was_visible_to_user(true)
}

pub(super) fn expand_collapse_section() -> ExpandCollapseSection {
    ExpandCollapseSection::new(SectionChange::Collapse, SectionChangeOrigin::SectionHeader)
}

pub(super) fn interaction() -> Interaction {
    Interaction::new(InteractionName::MobileRoomThreadSummaryItem)
        .index(4)
        .interaction_type(InteractionType::Touch)
}

pub(super) fn joined_room() -> JoinedRoom {
    JoinedRoom::new(RoomSize::ThreeToTen, true, false).trigger(JoinedRoomTrigger::Invite)
}

pub(super) fn mobile_screen() -> MobileScreen {
    MobileScreen::new(MobileScreenName::RoomDetails).duration_ms(1_500)
}

pub(super) fn notification_troubleshoot() -> NotificationTroubleshoot {
    NotificationTroubleshoot::new(true)
}

pub(super) fn performance_timer() -> PerformanceTimer {
    PerformanceTimer::new(TimerName::StartupInitialSync, 2_300).item_count(17).context("cold")
}

pub(super) fn permission_changed() -> PermissionChanged {
    PermissionChanged::new(Permission::Notification, false)
}

pub(super) fn pin_unpin_action() -> PinUnpinAction {
    PinUnpinAction::new(PinKind::Pin, PinOrigin::Timeline)
}

pub(super) fn poll_creation() -> PollCreation {
    PollCreation::new(PollAction::Create, true, 4)
}

pub(super) fn poll_end() -> PollEnd {
    PollEnd::new()
}

pub(super) fn poll_vote() -> PollVote {
    PollVote::new()
}

pub(super) fn room_filter_changed() -> RoomFilterChanged {
    let active = [RoomFilter::Unreads, RoomFilter::LowPriority];
    RoomFilterChanged::new(RoomFilter::LowPriority, true, active)
}

pub(super) fn room_list_sorting_algorithm_changed() -> RoomListSortingAlgorithmChanged {
    RoomListSortingAlgorithmChanged::new(SortingAlgorithm::Activity, SortingAlgorithm::Alphabetic)
}

pub(super) fn room_moderation() -> RoomModeration {
    RoomModeration::new(ModerationAction::ChangeMemberRole).role(ModerationRole::Moderator)
}

pub(super) fn section_creation() -> SectionCreation {
    SectionCreation::new(SectionCreationOrigin::RoomListHeader)
}

pub(super) fn signup() -> Signup {
    Signup::new(AuthenticationType::Sso)
}

pub(super) fn slash_command() -> SlashCommand {
    SlashCommand::new(SlashCommandName::Invite)
}

pub(super) fn unauthenticated_error() -> UnauthenticatedError {
    let code = UnauthenticatedErrorCode::UnknownToken;
    UnauthenticatedError::new(true, false, code, "token refused")
}

pub(super) fn url_preview_rendered() -> UrlPreviewRendered {
    UrlPreviewRendered::new(UrlPreviewKind::LegacyCard, false, 1, true)
}

pub(super) fn url_preview_visibility_changed() -> UrlPreviewVisibilityChanged {
    UrlPreviewVisibilityChanged::new(false, UrlPreviewKind::LegacyCard, 2, false)
}

pub(super) fn view_room() -> ViewRoom {
    ViewRoom::new()
        .trigger(ViewRoomTrigger::RoomList)
        .via_keyboard(true)
        .is_dm(false)
        .is_space(false)
        .active_space(ActiveSpace::Home)
}

pub(super) fn web_panel_resize() -> WebPanelResize {
    WebPanelResize::new(Panel::Right, PanelRoomType::VideoRoom, 320)
}

pub(super) fn web_screen() -> WebScreen {
    WebScreen::new(WebScreenName::E2eSetup).duration_ms(80)
}

pub(super) fn web_search() -> WebSearch {
    WebSearch::new(true, 3, 8)
}

pub(super) fn super_properties() -> SuperProperties {
    SuperProperties::new()
        .crypto_sdk(CryptoSdk::Rust)
        .crypto_sdk_version("0.18.0")
        .app_platform(AppPlatform::ElementWeb)
}

pub(super) fn user_properties() -> UserProperties {
    UserProperties::new()
        .ftue_use_case_selection(UseCase::WorkMessaging)
        .num_spaces(2)
        .num_favourite_rooms(5)
        .web_meta_space_home_enabled(true)
        .web_meta_space_home_all_rooms(false)
        .web_meta_space_people_enabled(true)
        .web_meta_space_favourites_enabled(false)
        .web_meta_space_orphans_enabled(true)
        .all_chats_active_filter(AllChatsFilter::Unreads)
        .web_layout(WebLayout::Irc)
        .verification_state(VerificationState::Verified)
        .recovery_state(RecoveryState::Enabled)
        .url_previews_enabled(false)
}
