//! Account-data events that arrive in sync.

use std::sync::Arc;

use matrix_sdk::{
    Client,
    event_handler::{EventHandlerHandle, HandlerKind, SyncEvent},
    ruma::events::False,
};
use serde::Deserialize;
use serde_json::value::RawValue;

/// An account-data event of any type. ruma's own type for it parses the content of each event
/// as its type says, which takes time at every sync and 0.3 MB of code.
#[derive(Deserialize)]
struct AccountDataEvent {
    #[serde(rename = "type")]
    event_type: String,
    content: Box<RawValue>,
}

/// As for `AnyGlobalAccountDataEvent` (matrix-sdk 0.18, `event_handler/static_events.rs`).
impl SyncEvent for AccountDataEvent {
    const KIND: HandlerKind = HandlerKind::GlobalAccountData;
    const TYPE: Option<&'static str> = None;
    type IsPrefix = False;
}

/// Calls `handle` for each account-data event in sync, with its content if it is of
/// `event_type`, else with `None`. This covers both classic and sliding sync.
pub(crate) fn watch_account_data(
    client: &Client,
    event_type: String,
    handle: impl Fn(Option<&RawValue>) + Send + Sync + 'static,
) -> EventHandlerHandle {
    let handle = Arc::new(handle);
    let event_type: Arc<str> = event_type.into();
    client.add_event_handler(move |event: AccountDataEvent| {
        let (handle, event_type) = (handle.clone(), event_type.clone());
        async move {
            handle((*event.event_type == *event_type).then_some(&*event.content));
        }
    })
}

/// Removes the handler that [`watch_account_data`] added.
pub(crate) fn stop_watching(client: &Client, handler: EventHandlerHandle) {
    client.remove_event_handler(handler);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_that_is_not_of_its_type_is_read() {
        for content in ["{}", r#"{"@a:example.org":7}"#, "null", "[]"] {
            let json = format!(r#"{{"other":1,"content":{content},"type":"m.direct"}}"#);
            let event: AccountDataEvent = serde_json::from_str(&json).unwrap();
            assert_eq!((&*event.event_type, event.content.get()), ("m.direct", content));
        }
    }
}
