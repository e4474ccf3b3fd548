//! The methods of `StateStore` that matrix-sdk 0.19 has in a form of its own.

/// Calls `$delegate` with all methods: the `$common` ones and those of this version.
macro_rules! with_methods_of_this_version {
    ($delegate:ident $($common:tt)*) => {
        $delegate! {
            $($common)*
            fn get_user_room_receipt_event(
                room: &RoomId, receipt_type: ReceiptType, thread: &ReceiptThread, user: &UserId
            ) -> Option<(OwnedEventId, Receipt)>;
            fn get_event_room_receipt_events(
                room: &RoomId, receipt_type: ReceiptType, thread: &ReceiptThread, event: &EventId
            ) -> Vec<(OwnedUserId, Receipt)>;
            fn get_global_profile(user: &UserId) -> Option<matrix_sdk::ruma::profile::UserProfile>;
            fn get_global_profiles<'a>(
                users: &'a [OwnedUserId]
            ) -> BTreeMap<&'a UserId, matrix_sdk::ruma::profile::UserProfile>;
        }
    };
}
