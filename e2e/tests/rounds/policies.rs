//! The policies of our devices in the rounds with policies, and what the event says about them.

use matrix_analytics::Policy;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::witness::LABEL;

const MEMBER: &str = "matrix-analytics.policy";

/// Our devices ask for different versions, and one for a recipient.
const VERSIONS: [&str; 2] = ["3.0.0", "4.0.0"];

/// Returns the policy of the `nth` device.
pub(super) fn policy(nth: usize) -> Policy {
    let policy = Policy::new(VERSIONS[nth]);
    if nth == 0 { policy.recipients([LABEL]) } else { policy }
}

/// Returns whether the user agreed to the policy of the `nth` device, according to `content`.
pub(super) fn agrees(content: &Value, nth: usize) -> bool {
    let Some(id) = content["id"].as_str() else { return false };
    let digest = Sha256::digest(format!("{MEMBER}\0{id}"));
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let entries = content[MEMBER]["agreed"].as_array();
    content[MEMBER]["id_sha256"] == digest
        && entries.is_some_and(|entries| {
            entries.iter().any(|entry| {
                let has_recipient = nth != 0 || entry["recipients"][LABEL].is_u64();
                entry["version"] == VERSIONS[nth] && entry["ts"].is_u64() && has_recipient
            })
        })
}
