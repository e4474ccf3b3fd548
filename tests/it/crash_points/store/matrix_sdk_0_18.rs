//! The methods of `StateStore` that matrix-sdk 0.18 has in a form of its own.

/// Calls `$delegate` with all methods: the `$common` ones and those of this version.
macro_rules! with_methods_of_this_version {
    ($delegate:ident $($common:tt)*) => {
        $delegate! {
            $($common)*
            fn get_user_room_receipt_event(
                room: &RoomId, receipt_type: ReceiptType, thread: ReceiptThread, user: &UserId
            ) -> Option<(OwnedEventId, Receipt)>;
            fn get_event_room_receipt_events(
                room: &RoomId, receipt_type: ReceiptType, thread: ReceiptThread, event: &EventId
            ) -> Vec<(OwnedUserId, Receipt)>;
        }
    };
}
