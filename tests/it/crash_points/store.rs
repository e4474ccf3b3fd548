//! A store that lets a test observe, hold and fail the writes of our record.

// One file for each version of matrix-sdk. `sdk/` lists the path for the others.
#[macro_use]
#[path = "store/matrix_sdk_0_18.rs"]
mod matrix_sdk_methods;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

use futures_util::future::BoxFuture;
use matrix_sdk::{
    QueueWedgeError, RoomInfo, RoomMemberships, StateChanges, StateStore, StoreError, async_trait,
    config::StoreConfig,
    cross_process_lock::CrossProcessLockConfig,
    deserialized_responses::{DisplayName, RawAnySyncOrStrippedState},
    ruma::{
        EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedTransactionId,
        OwnedUserId, RoomId, TransactionId, UserId,
        events::{
            AnyGlobalAccountDataEvent, AnyRoomAccountDataEvent, GlobalAccountDataEventType,
            RoomAccountDataEventType, StateEventType,
            presence::PresenceEvent,
            receipt::{Receipt, ReceiptThread, ReceiptType},
        },
        serde::Raw,
    },
    store::{
        ChildTransactionId, DependentQueuedRequest, DependentQueuedRequestKind, DynStateStore,
        QueuedRequest, QueuedRequestKind, RoomLoadSettings, SentRequestKey, StateStoreDataKey,
        StateStoreDataValue, StoredThreadSubscription,
    },
};
use matrix_sdk_base::MinimalRoomMemberEvent;

use super::Fact;

/// The prefix of our keys.
const OUR_KEYS: &[u8] = b"matrix-analytics/";
/// The prefix of the keys of decisions.
const DECISIONS: &[u8] = b"matrix-analytics-decisions/";

/// A moment in a write of our record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    BeforeWrite {
        /// Whether the record contains a pending removal.
        has_removal: bool,
    },
    AfterWrite,
}

/// Called at every write of our record. It may hold the write forever, or fail it.
pub(crate) trait StoreGate: Send + Sync {
    fn reach(&self, moment: Moment) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Called before every read of our record.
    fn read(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Called before every read and every write of the decisions that the app shows.
    fn decisions(&self, _is_write: bool) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

impl From<Moment> for Fact {
    fn from(moment: Moment) -> Self {
        match moment {
            Moment::BeforeWrite { has_removal: false } => Self::WriteBegins,
            Moment::BeforeWrite { has_removal: true } => Self::WriteOfOptOutBegins,
            Moment::AfterWrite => Self::WriteEnds,
        }
    }
}

/// Lets every write pass.
pub(crate) struct Passing;

impl StoreGate for Passing {
    fn reach(&self, _: Moment) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}

/// A store with a gate in front of each write of our record.
pub(crate) struct GatedStore {
    store: Arc<DynStateStore>,
    gate: Arc<dyn StoreGate>,
}

impl GatedStore {
    pub(crate) fn config(store: Arc<DynStateStore>, gate: Arc<dyn StoreGate>) -> StoreConfig {
        StoreConfig::new(CrossProcessLockConfig::SingleProcess).state_store(Self { store, gate })
    }
}

impl fmt::Debug for GatedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GatedStore")
    }
}

/// Implements the SDK's trait. Custom values go through the methods given here, everything else to
/// the wrapped store.
macro_rules! delegate {
    ($(
        fn $name:ident $(<$lifetime:lifetime>)? ($($argument:ident: $type:ty),*) -> $answer:ty;
    )*) => {
        #[async_trait]
        impl StateStore for GatedStore {
            type Error = StoreError;

            $(
                async fn $name $(<$lifetime>)? (
                    &self,
                    $($argument: $type),*
                ) -> Result<$answer, StoreError> {
                    self.store.$name($($argument),*).await
                }
            )*

            // `set_custom_value_no_read` calls this method as well.
            async fn set_custom_value(
                &self,
                key: &[u8],
                value: Vec<u8>,
            ) -> Result<Option<Vec<u8>>, StoreError> {
                let ours = key.starts_with(OUR_KEYS);
                if ours {
                    let has_removal = String::from_utf8_lossy(&value).contains(r#""removal":""#);
                    self.gate.reach(Moment::BeforeWrite { has_removal }).await?;
                }
                if key.starts_with(DECISIONS) {
                    self.gate.decisions(true).await?;
                }
                let before = self.store.set_custom_value(key, value).await?;
                if ours {
                    self.gate.reach(Moment::AfterWrite).await?;
                }
                Ok(before)
            }

            async fn get_custom_value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
                if key.starts_with(OUR_KEYS) {
                    self.gate.read().await;
                }
                if key.starts_with(DECISIONS) {
                    self.gate.decisions(false).await?;
                }
                self.store.get_custom_value(key).await
            }

            // The crate never removes its record; a removal would be one more crash point.
            async fn remove_custom_value(
                &self,
                key: &[u8],
            ) -> Result<Option<Vec<u8>>, StoreError> {
                assert!(!key.starts_with(OUR_KEYS));
                self.store.remove_custom_value(key).await
            }
        }
    };
}

with_methods_of_this_version! { delegate
    fn get_kv_data(key: StateStoreDataKey<'_>) -> Option<StateStoreDataValue>;
    fn set_kv_data(key: StateStoreDataKey<'_>, value: StateStoreDataValue) -> ();
    fn remove_kv_data(key: StateStoreDataKey<'_>) -> ();
    fn save_changes(changes: &StateChanges) -> ();
    fn get_presence_event(user: &UserId) -> Option<Raw<PresenceEvent>>;
    fn get_presence_events(users: &[OwnedUserId]) -> Vec<Raw<PresenceEvent>>;
    fn get_state_event(
        room: &RoomId, event_type: StateEventType, key: &str
    ) -> Option<RawAnySyncOrStrippedState>;
    fn get_state_events(
        room: &RoomId, event_type: StateEventType
    ) -> Vec<RawAnySyncOrStrippedState>;
    fn get_state_events_for_keys(
        room: &RoomId, event_type: StateEventType, keys: &[&str]
    ) -> Vec<RawAnySyncOrStrippedState>;
    fn get_profile(room: &RoomId, user: &UserId) -> Option<MinimalRoomMemberEvent>;
    fn get_profiles<'a>(
        room: &RoomId, users: &'a [OwnedUserId]
    ) -> BTreeMap<&'a UserId, MinimalRoomMemberEvent>;
    fn get_user_ids(room: &RoomId, memberships: RoomMemberships) -> Vec<OwnedUserId>;
    fn get_room_infos(settings: &RoomLoadSettings) -> Vec<RoomInfo>;
    fn get_users_with_display_name(room: &RoomId, name: &DisplayName) -> BTreeSet<OwnedUserId>;
    fn get_users_with_display_names<'a>(
        room: &RoomId, names: &'a [DisplayName]
    ) -> HashMap<&'a DisplayName, BTreeSet<OwnedUserId>>;
    fn get_account_data_event(
        event_type: GlobalAccountDataEventType
    ) -> Option<Raw<AnyGlobalAccountDataEvent>>;
    fn get_room_account_data_event(
        room: &RoomId, event_type: RoomAccountDataEventType
    ) -> Option<Raw<AnyRoomAccountDataEvent>>;
    fn remove_room(room: &RoomId) -> ();
    fn save_send_queue_request(
        room: &RoomId, transaction: OwnedTransactionId, created_at: MilliSecondsSinceUnixEpoch,
        request: QueuedRequestKind, priority: usize
    ) -> ();
    fn update_send_queue_request(
        room: &RoomId, transaction: &TransactionId, content: QueuedRequestKind
    ) -> bool;
    fn remove_send_queue_request(room: &RoomId, transaction: &TransactionId) -> bool;
    fn load_send_queue_requests(room: &RoomId) -> Vec<QueuedRequest>;
    fn update_send_queue_request_status(
        room: &RoomId, transaction: &TransactionId, error: Option<QueueWedgeError>
    ) -> ();
    fn load_rooms_with_unsent_requests() -> Vec<OwnedRoomId>;
    fn save_dependent_queued_request(
        room: &RoomId, parent: &TransactionId, own: ChildTransactionId,
        created_at: MilliSecondsSinceUnixEpoch, content: DependentQueuedRequestKind
    ) -> ();
    fn mark_dependent_queued_requests_as_ready(
        room: &RoomId, parent: &TransactionId, key: SentRequestKey
    ) -> usize;
    fn update_dependent_queued_request(
        room: &RoomId, own: &ChildTransactionId, content: DependentQueuedRequestKind
    ) -> bool;
    fn remove_dependent_queued_request(room: &RoomId, own: &ChildTransactionId) -> bool;
    fn load_dependent_queued_requests(room: &RoomId) -> Vec<DependentQueuedRequest>;
    fn upsert_thread_subscriptions(
        updates: Vec<(&RoomId, &EventId, StoredThreadSubscription)>
    ) -> ();
    fn remove_thread_subscription(room: &RoomId, thread: &EventId) -> ();
    fn load_thread_subscription(
        room: &RoomId, thread: &EventId
    ) -> Option<StoredThreadSubscription>;
    fn close() -> ();
    fn reopen() -> ();
    fn optimize() -> ();
    fn get_size() -> Option<usize>;
}
