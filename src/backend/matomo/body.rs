//! The body of a request to the bulk tracking API.

use std::{borrow::Cow, time::SystemTime};

use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::mapping::{Mapping, Parameters, Unsendable};
use crate::backend::{Batch, PartialDelivery};

/// A request, and the events of the batch that are not part of it.
pub(super) struct Body {
    pub(super) json: Vec<u8>,
    /// The number of events in it.
    pub(super) events: usize,
    pub(super) left_out: PartialDelivery,
}

#[derive(Serialize)]
struct Bulk<'a> {
    requests: Vec<Request<'a>>,
}

struct Request<'a>(Parameters<'a>);

impl Serialize for Request<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// Returns the request that sends at `now` what can be sent of `batch`.
pub(super) fn body(mapping: &Mapping, batch: &Batch, now: SystemTime) -> serde_json::Result<Body> {
    let visitor = if batch.is_preview() {
        batch.distinct_id().to_owned()
    } else {
        visitor_id(batch.distinct_id())
    };
    let mut left_out = PartialDelivery::default();
    let mut requests = Vec::with_capacity(batch.len());
    for event in batch.events() {
        match mapping.parameters(&visitor, event, now) {
            Ok(parameters) => requests.push(Request(parameters)),
            Err(Unsendable::Expired) => left_out.expired += 1,
            Err(Unsendable::Malformed) => left_out.rejected += 1,
            Err(Unsendable::TooLarge) => left_out.too_large += 1,
        }
    }
    let events = requests.len();
    Ok(Body { json: serde_json::to_vec(&Bulk { requests })?, events, left_out })
}

/// Returns the visitor ID of the person with `identifier`: the first 16 digits of a pseudonym, or
/// of the SHA-256 of another identifier.
pub(super) fn visitor_id(identifier: &str) -> String {
    const DIGITS: usize = 16;
    const PSEUDONYM_DIGITS: usize = 32;

    let is_pseudonym = identifier.len() == PSEUDONYM_DIGITS
        && identifier.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let digits = if is_pseudonym {
        Cow::Borrowed(identifier)
    } else {
        let hash = Sha256::digest(identifier);
        Cow::Owned(hash.iter().map(|byte| format!("{byte:02x}")).collect())
    };
    digits.chars().take(DIGITS).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        backend::samples::{ID, batch, event, noon},
        event::{OutgoingEvent, Properties},
    };

    fn mapping() -> Mapping {
        Mapping {
            site_id: 7,
            url: None,
            category: "event".to_owned(),
            category_properties: Vec::new(),
            name_properties: vec!["trigger"],
            value_properties: Vec::new(),
            dimensions: Vec::new(),
        }
    }

    #[test]
    fn the_body_has_an_object_for_each_event_that_can_be_sent() {
        let long = event("Long", Properties::from([("trigger", "x".repeat(5000))]));
        let old = event("Old", Properties::new());
        let old = OutgoingEvent { at: noon() - Duration::from_secs(86_400), ..old };
        let joined = event("RoomJoined", Properties::from([("trigger", "\"In\nvite\"")]));
        let sent = batch([long, joined, old, event("Opened", Properties::new())]);
        let body = body(&mapping(), &sent, noon()).unwrap();
        assert_eq!(body.events, 2);
        let left_out = PartialDelivery { expired: 1, rejected: 0, too_large: 1 };
        assert_eq!(body.left_out, left_out);
        let request = |action: &str| {
            json!({
                "idsite": "7", "rec": "1", "ca": "1", "cid": visitor_id(ID),
                "cdt": "1769860800", "e_c": "event", "e_a": action,
            })
        };
        let mut expected = json!({ "requests": [request("RoomJoined"), request("Opened")] });
        expected["requests"][0]["e_n"] = json!("\"In\nvite\"");
        assert_eq!(serde_json::from_slice::<Value>(&body.json).unwrap(), expected);
        // Matomo takes a body for a bulk request by this text, unless it is the first.
        assert!(body.json.starts_with(br#"{"requests""#));
    }

    #[test]
    fn a_visitor_id_has_16_digits_of_a_pseudonym_or_of_a_hash() {
        for (identifier, visitor) in [
            ("b5580014037f1b4091fd769b7ef2ced3", "b5580014037f1b40"),
            // Computed by Python's `hashlib`.
            ("9f1c2d7e-0d5e-4c9b-8a53-b6f1d1f1a0aa", "6c79e8fa29482e2f"),
            ("B5580014037F1B4091FD769B7EF2CED3", "b50a769f44789c47"),
            ("b5580014037f1b40", "1f54432ccd17ada4"),
            ("", "e3b0c44298fc1c14"),
        ] {
            assert_eq!(visitor_id(identifier), visitor, "{identifier}");
        }
    }
}
