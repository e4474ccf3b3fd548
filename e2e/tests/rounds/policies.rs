//! The policies of our devices in the rounds with policies, what the event says about them, and
//! what their users agreed to.

use std::collections::BTreeSet;

use matrix_analytics::{Policy, Prompt};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::{Held, REQUEST_TIMEOUT, content};
use crate::{wire::Asked, witness::LABEL};

const MEMBER: &str = "matrix-analytics.policy";

/// Our devices ask for different versions, and one for a recipient.
const VERSIONS: [&str; 2] = ["3.0.0", "4.0.0"];

/// Returns the policy of the `nth` device.
pub(super) fn policy(nth: usize) -> Policy {
    let policy = Policy::new(VERSIONS[nth]);
    if nth == 0 { policy.recipients([LABEL]) } else { policy }
}

/// The agreements of one of our devices.
pub(super) struct Agreements {
    /// The number of the device.
    nth: usize,
    /// The IDs under which the user may have agreed on it.
    given: BTreeSet<String>,
    /// The ID under which the user has agreed on it, as long as it has seen no other content.
    kept: Option<String>,
}

impl Agreements {
    pub(super) fn new(nth: usize) -> Self {
        Self { nth, given: BTreeSet::new(), kept: None }
    }

    /// Returns whether the user agreed to the policy, according to `content`.
    pub(super) fn are_in(&self, content: &Value) -> bool {
        let Some(id) = content["id"].as_str() else { return false };
        let digest = Sha256::digest(format!("{MEMBER}\0{id}"));
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let entries = content[MEMBER]["agreed"].as_array();
        content[MEMBER]["id_sha256"] == digest
            && entries.is_some_and(|entries| {
                entries.iter().any(|entry| {
                    let has_recipient = self.nth != 0 || entry["recipients"][LABEL].is_u64();
                    entry["version"] == VERSIONS[self.nth] && entry["ts"].is_u64() && has_recipient
                })
            })
    }

    /// Returns whether the user may have agreed on this device under `id`.
    pub(super) fn may_cover(&self, id: &str) -> bool {
        self.given.contains(id)
    }

    /// Records the requests of an opt-in. The user may have agreed under the IDs that it wrote,
    /// those that had the agreement when it read them, and those that it read within the settle
    /// time and one request after its write, as an ID of a device that opted in at once.
    pub(super) fn note_opt_in(&mut self, asked: &[Asked]) {
        let mut settles_until = None;
        for asked in asked {
            if asked.is_write() {
                let written = live_id(&content(asked));
                if written.is_some() && asked.status == 200 {
                    settles_until = Some(asked.answered + 3 * REQUEST_TIMEOUT);
                }
                self.given.extend(written);
            } else if let Ok(read) = serde_json::from_str(&asked.answer) {
                let is_in_time = settles_until.is_some_and(|until| asked.answered <= until);
                let counts = is_in_time || self.are_in(&read);
                self.given.extend(live_id(&read).filter(|_| counts));
            }
        }
    }

    /// Records what the device wrote, read and saw in sync in a round, in which its user may have
    /// opted in with success.
    pub(super) fn note_seen(
        &mut self,
        opted_in: bool,
        asked: &[Asked],
        shown: impl IntoIterator<Item = (Instant, Value)>,
    ) {
        let asked = asked.iter().filter(|asked| asked.status == 200 || !asked.is_write());
        let asked = asked.map(|asked| match asked.is_write() {
            true => (asked.answered, content(asked), true),
            false => {
                let answer = serde_json::from_str(&asked.answer).unwrap_or_default();
                (asked.answered, answer, false)
            }
        });
        let shown = shown.into_iter().map(|(at, content)| (at, content, false));
        let mut seen: Vec<_> = asked.chain(shown).collect();
        seen.sort_by_key(|(at, ..)| *at);
        for (_, content, is_ours) in seen {
            let live = live_id(&content);
            if is_ours && opted_in {
                self.kept = live;
            } else if live != self.kept {
                self.kept = None;
            }
        }
    }

    /// Returns whether a device that `sends_under` this ID, and has this `prompt`, does what
    /// `content` and its user's agreement say.
    pub(super) fn are_followed(
        &self,
        content: &Value,
        live: &str,
        sends_under: Option<&str>,
        prompt: Prompt,
    ) -> bool {
        let is_agreed = self.are_in(content);
        match sends_under {
            Some(id) => id == live && (is_agreed || self.may_cover(live)),
            None => !is_agreed && self.kept.as_deref() != Some(live) && prompt == Prompt::Ask,
        }
    }

    /// Returns whether `content` is an opt-in without the agreement, under an ID under which the
    /// user has agreed on this device.
    pub(super) fn outlive(&self, content: &Value) -> bool {
        self.kept.is_some() && self.kept == live_id(content) && !self.are_in(content)
    }
}

fn live_id(content: &Value) -> Option<String> {
    Held::read(content).live_id().map(str::to_owned)
}
