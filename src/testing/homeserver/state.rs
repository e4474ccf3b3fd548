//! The state of the homeserver.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{AccountDataMethod, AccountDataRequest, AccountDataServer, json, reply::Reply};
use crate::testing::fault::FaultRules;

/// Whether the server supports MSC3391, "Removing account data".
///
/// It determines the effect of a PUT of `{}`. Synapse 1.163 supports it behind the
/// setting `experimental_features.msc3391_enabled`, which is off by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Msc3391 {
    /// `{}` is stored, returned and synced like any other content. DELETE is not
    /// supported.
    #[default]
    Off,
    /// `{}` removes the content, as DELETE does. GET answers 404, an initial sync leaves
    /// the type out, and an incremental sync carries `{}` once.
    On,
}

/// The contents of the answer to an initial sync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum InitialSync {
    /// The current data.
    #[default]
    Fresh,
    /// The answer to the device's previous initial sync, if there was one.
    ///
    /// Synapse caches it for two minutes (setting `caches.sync_response_cache_duration`),
    /// even across a restart of the client or a new login of the same device. The cached
    /// answer has its original `next_batch`, so the next sync delivers the changes since
    /// then. Sliding sync is never cached.
    Cached,
}

/// The sender of a request, identified by its access token.
#[derive(Clone, Debug)]
pub(in crate::testing) struct Caller {
    pub(in crate::testing) user_id: String,
    pub(in crate::testing) device_id: String,
    pub(in crate::testing) guest: bool,
}

#[derive(Debug)]
pub(super) struct Device {
    pub(super) user_id: String,
    pub(super) device_id: String,
    pub(super) access_token: String,
    pub(super) refresh_token: Option<String>,
    pub(super) guest: bool,
    pub(super) expired: bool,
    /// The stream position up to which the device has handled the synced changes.
    pub(super) synced_to: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) content: String,
    pub(super) position: u64,
}

/// An action to run when a request is applied.
pub(super) struct Hook {
    pub(super) method: AccountDataMethod,
    pub(super) moment: Moment,
    pub(super) action: Box<dyn FnOnce(&AccountDataServer) + Send>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    BeforeApplied,
    BeforeAnswered,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) msc3391: Msc3391,
    pub(super) initial_sync: InitialSync,
    /// The last answer to an initial sync, by user and device ID. A new login does not
    /// clear it.
    pub(super) initial_syncs: BTreeMap<(String, String), String>,
    pub(super) refresh_delay: Duration,
    pub(super) refreshes: usize,
    pub(super) position: u64,
    pub(super) passwords: BTreeMap<String, String>,
    pub(super) devices: Vec<Device>,
    pub(super) requests: Vec<AccountDataRequest>,
    pub(super) faults: FaultRules,
    pub(super) hooks: Vec<Hook>,
    data: BTreeMap<String, BTreeMap<String, Entry>>,
}

impl State {
    /// Returns the content as GET shows it.
    pub(super) fn content(&self, user_id: &str, event_type: &str) -> Option<&str> {
        let entry = self.data.get(user_id)?.get(event_type)?;
        let removed = self.msc3391 == Msc3391::On && json::is_empty_object(&entry.content);
        (!removed).then_some(entry.content.as_str())
    }

    /// Stores a content. Every device receives an event, even if the content is
    /// unchanged.
    pub(super) fn put(&mut self, user_id: &str, event_type: &str, content: &str) {
        if self.msc3391 == Msc3391::On && json::is_empty_object(content) {
            self.remove(user_id, event_type);
        } else {
            self.store(user_id, event_type, content);
        }
    }

    /// Removes a content. If there is none, devices receive no event.
    pub(super) fn remove(&mut self, user_id: &str, event_type: &str) {
        if self.content(user_id, event_type).is_some_and(|held| !json::is_empty_object(held)) {
            self.store(user_id, event_type, "{}");
        }
    }

    fn store(&mut self, user_id: &str, event_type: &str, content: &str) {
        self.position += 1;
        let entry = Entry { content: content.to_owned(), position: self.position };
        self.data.entry(user_id.to_owned()).or_default().insert(event_type.to_owned(), entry);
    }

    /// Makes sync deliver the current content again.
    pub(super) fn redeliver(&mut self, user_id: &str, event_type: &str) {
        let entry = self.data.get_mut(user_id).and_then(|types| types.get_mut(event_type));
        if let Some(entry) = entry {
            self.position += 1;
            entry.position = self.position;
        }
    }

    pub(super) fn erase(&mut self, user_id: &str) {
        self.data.remove(user_id);
    }

    /// Returns the events of a sync answer: the newest content of each type that changed
    /// after `since`, or of all types if `since` is `None`.
    pub(super) fn events(&self, user_id: &str, since: Option<u64>) -> Vec<String> {
        let Some(types) = self.data.get(user_id) else {
            return Vec::new();
        };
        let mut changed: Vec<_> = types
            .iter()
            .filter(|(event_type, entry)| match since {
                Some(since) => entry.position > since,
                None => self.content(user_id, event_type).is_some(),
            })
            .collect();
        changed.sort_by_key(|(_, entry)| entry.position);
        changed
            .into_iter()
            .map(|(event_type, entry)| {
                format!(r#"{{"type":{},"content":{}}}"#, json::quoted(event_type), entry.content)
            })
            .collect()
    }

    /// Adds a device, or gives an existing one new tokens, as a new login does.
    pub(super) fn log_in(
        &mut self,
        user_id: &str,
        device_id: &str,
        access_token: String,
        refresh_token: Option<String>,
    ) -> &mut Device {
        self.devices.retain(|device| device.user_id != user_id || device.device_id != device_id);
        self.devices.push(Device {
            user_id: user_id.to_owned(),
            device_id: device_id.to_owned(),
            access_token,
            refresh_token,
            guest: false,
            expired: false,
            synced_to: None,
        });
        let last = self.devices.len() - 1;
        &mut self.devices[last]
    }

    pub(super) fn device(&self, user_id: &str, device_id: &str) -> Option<&Device> {
        self.devices
            .iter()
            .find(|device| device.user_id == user_id && device.device_id == device_id)
    }

    pub(super) fn device_mut(&mut self, user_id: &str, device_id: &str) -> Option<&mut Device> {
        self.devices
            .iter_mut()
            .find(|device| device.user_id == user_id && device.device_id == device_id)
    }

    /// Returns the sender of a request, or the answer to an unauthenticated request.
    pub(super) fn authenticate(&self, request: &wiremock::Request) -> Result<Caller, Reply> {
        let token = request
            .headers
            .get("authorization")
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        let Some(token) = token else {
            return Err(Reply::error(401, "M_MISSING_TOKEN", "Missing access token"));
        };
        match self.devices.iter().find(|device| device.access_token == token) {
            None => {
                Err(Reply::logged_out("M_UNKNOWN_TOKEN", "Invalid access token passed.", false))
            }
            Some(device) if device.expired => {
                Err(Reply::logged_out("M_UNKNOWN_TOKEN", "Access token has expired", true))
            }
            Some(device) => Ok(device.caller()),
        }
    }
}

impl Device {
    pub(super) fn caller(&self) -> Caller {
        Caller {
            user_id: self.user_id.clone(),
            device_id: self.device_id.clone(),
            guest: self.guest,
        }
    }
}

/// Returns a token that is unique in this process, so that one server's token is unknown
/// to all others.
pub(super) fn unique_token(kind: &str) -> String {
    static ISSUED: AtomicU64 = AtomicU64::new(0);
    format!("{kind}-{}", ISSUED.fetch_add(1, Ordering::Relaxed))
}
