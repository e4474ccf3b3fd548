//! The account-data part of both kinds of sync.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, de::IgnoredAny};
use wiremock::Request;

use super::{InitialSync, json, reply::Reply, state::State};

/// The longest wait of a sync without news. A real server waits for the whole timeout; a
/// mock only has to keep a sync loop from spinning.
const LONGEST_POLL: Duration = Duration::from_millis(20);

impl State {
    /// `GET /sync`: section "Syncing" of the client-server API.
    pub(super) fn sync(&mut self, request: &Request) -> Result<Reply, Reply> {
        let caller = self.authenticate(request)?;
        let since = stream_position(request, "since", 's')?;
        let device = (caller.user_id, caller.device_id);
        let (user_id, device_id) = (&device.0, &device.1);
        match (since, self.initial_syncs.get(&device)) {
            (None, Some(answer)) if self.initial_sync == InitialSync::Cached => {
                return Ok(Reply::raw_json(200, answer.clone()));
            }
            (Some(since), _) => self.has_synced_to(user_id, device_id, since),
            (None, _) => {}
        }

        let events = self.events(user_id, since);
        let next_batch = self.position;
        let account_data = if events.is_empty() {
            String::new()
        } else {
            format!(r#","account_data":{{"events":[{}]}}"#, events.join(","))
        };
        let answer = format!(r#"{{"next_batch":"s{next_batch}"{account_data}}}"#);
        if since.is_none() {
            self.initial_syncs.insert(device, answer.clone());
        }
        let idle = since.is_some() && events.is_empty();
        Ok(polled(Reply::raw_json(200, answer), request, idle))
    }

    /// Simplified sliding sync: MSC4186, with the account-data extension of MSC3959.
    /// Every list is empty.
    pub(super) fn sliding_sync(&mut self, request: &Request) -> Result<Reply, Reply> {
        let caller = self.authenticate(request)?;
        let since = stream_position(request, "pos", 'p')?;
        let Ok(body) = serde_json::from_slice::<SlidingSyncBody>(&request.body) else {
            return Err(Reply::error(400, "M_BAD_JSON", "Content must be a JSON object."));
        };
        if let Some(since) = since {
            self.has_synced_to(&caller.user_id, &caller.device_id, since);
        }

        let enabled = body.extensions.account_data.enabled.unwrap_or(false);
        let events = if enabled { self.events(&caller.user_id, since) } else { Vec::new() };
        let extensions = if enabled {
            format!(r#""account_data":{{"global":[{}],"rooms":{{}}}}"#, events.join(","))
        } else {
            String::new()
        };
        let txn_id = body
            .txn_id
            .map(|txn_id| format!(r#","txn_id":{}"#, json::quoted(&txn_id)))
            .unwrap_or_default();
        let lists: Vec<String> = body
            .lists
            .keys()
            .map(|name| format!(r#"{}:{{"count":0}}"#, json::quoted(name)))
            .collect();
        let (pos, lists) = (self.position, lists.join(","));
        let answer = format!(
            r#"{{"pos":"p{pos}","lists":{{{lists}}},"rooms":{{}},"extensions":{{{extensions}}}{txn_id}}}"#
        );
        let idle = since.is_some() && events.is_empty();
        Ok(polled(Reply::raw_json(200, answer), request, idle))
    }
}

impl State {
    /// Records that the device has handled everything before `position`, because it asks
    /// for what comes after it.
    fn has_synced_to(&mut self, user_id: &str, device_id: &str, position: u64) {
        if let Some(device) = self.device_mut(user_id, device_id) {
            device.synced_to = Some(position);
        }
    }
}

#[derive(Deserialize)]
struct SlidingSyncBody {
    txn_id: Option<String>,
    #[serde(default)]
    lists: BTreeMap<String, IgnoredAny>,
    #[serde(default)]
    extensions: Extensions,
}

#[derive(Default, Deserialize)]
struct Extensions {
    #[serde(default)]
    account_data: AccountDataExtension,
}

#[derive(Default, Deserialize)]
struct AccountDataExtension {
    enabled: Option<bool>,
}

fn query(request: &Request, name: &str) -> Option<String> {
    request.url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn stream_position(request: &Request, name: &str, prefix: char) -> Result<Option<u64>, Reply> {
    query(request, name)
        .map(|token| {
            token
                .strip_prefix(prefix)
                .and_then(|number| number.parse().ok())
                .ok_or_else(|| Reply::error(400, "M_UNKNOWN", "Invalid stream token"))
        })
        .transpose()
}

/// Delays an answer without news, for no longer than the client asked.
fn polled(reply: Reply, request: &Request, idle: bool) -> Reply {
    let timeout = query(request, "timeout").and_then(|timeout| timeout.parse().ok()).unwrap_or(0);
    let delay = Duration::from_millis(timeout).min(LONGEST_POLL);
    if idle && !delay.is_zero() { reply.after(delay) } else { reply }
}
