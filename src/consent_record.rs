//! What the user decided, when, and how: the evidence that a controller has to keep.
//!
//! It has no analytics ID. It is kept in the client's store, next to the record by which the
//! consent machine works.

mod entries;
pub(crate) mod log;

use std::time::SystemTime;

use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap as _};

use crate::{event::unix_time, named::named};

/// The decisions of the user that this device knows of; returned by
/// [`Analytics::consent_record`](crate::Analytics::consent_record).
///
/// Serializes as JSON-LD with the terms of W3C's [Data Privacy Vocabulary], where it has one, and
/// others under `matrix-analytics:`.
///
/// [Data Privacy Vocabulary]: https://w3c.github.io/dpv/2.3/dpv/
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsentRecord {
    /// The type of the account-data event that holds the decision: one purpose has one.
    pub event_type: String,
    /// The newest decisions, at most 32, in the order in which this device learned of them.
    pub decisions: Vec<RecordedDecision>,
}

/// A decision of the user.
///
/// Serializes as this device stores it, with the time in milliseconds since 1970. The terms of the
/// vocabulary are in [`ConsentRecord`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct RecordedDecision {
    /// What the user decided.
    pub status: ConsentStatus,
    /// When this device learned of the decision, by its clock. For a decision on this device, that
    /// is when it was made. A time can be before that of the decision before it, if the clock was
    /// set in between.
    #[serde(with = "millis")]
    pub at: SystemTime,
    /// Where the user decided.
    pub place: DecisionPlace,
    /// How the user expressed it, as the app declared with `expressed_by`.
    pub expressed_by: Option<String>,
    /// The policy that the user was shown, if the app names one; none for a decision that was not
    /// made on this device.
    pub policy: Option<AgreedPolicy>,
    /// The recipients that the app had configured.
    pub recipients: Vec<RecordedRecipient>,
    /// What a withdrawal on this device removed, once that is known.
    pub removed: Option<RemovedData>,
}

/// The policy that the user agreed to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct AgreedPolicy {
    /// The version of the policy.
    pub version: String,
}

/// A recipient at the time of a decision.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct RecordedRecipient {
    /// The name: the declared one, or that of the backend.
    pub name: String,
    /// The purpose that the app declared.
    pub purpose: Option<String>,
}

/// What the user decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ConsentStatus {
    /// The user opted in.
    Given,
    /// The user opted in while opted in.
    Renewed,
    /// The user opted out, and had not opted in as far as this device knows.
    Refused,
    /// The user opted out after an opt-in.
    Withdrawn,
}

named!(ConsentStatus {
    Given => "given",
    Renewed => "renewed",
    Refused => "refused",
    Withdrawn => "withdrawn",
});

impl ConsentStatus {
    /// Returns the status of a decision after one that has given consent, or has not.
    const fn new(is_given: bool, was_given: bool) -> Self {
        match (is_given, was_given) {
            (true, false) => Self::Given,
            (true, true) => Self::Renewed,
            (false, true) => Self::Withdrawn,
            (false, false) => Self::Refused,
        }
    }

    /// Returns the term of the Data Privacy Vocabulary, such as `dpv:ConsentGiven`.
    #[must_use]
    pub const fn dpv_term(self) -> &'static str {
        match self {
            Self::Given => "dpv:ConsentGiven",
            Self::Renewed => "dpv:RenewedConsentGiven",
            Self::Refused => "dpv:ConsentRefused",
            Self::Withdrawn => "dpv:ConsentWithdrawn",
        }
    }

    /// Returns whether data may be sent from then on.
    #[must_use]
    pub const fn is_given(self) -> bool {
        matches!(self, Self::Given | Self::Renewed)
    }
}

/// Where the user decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DecisionPlace {
    /// On another device, or in another client. The account's event showed it.
    Elsewhere,
    /// On this device.
    ThisDevice,
    /// Not known: before there was a record, in a process that ended before it was written, while
    /// the stored record could not be read, or by a call of
    /// [`Analytics::opt_in`](crate::Analytics::opt_in) that got no answer, unless another device
    /// decided at the same time.
    Unknown,
}

named!(DecisionPlace {
    Elsewhere => "elsewhere",
    ThisDevice => "this_device",
    Unknown => "unknown",
});

/// What a withdrawal on this device removed, by the steps of its receipt: `done`, `failed` or
/// `pending` when the receipt was made.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct RemovedData {
    /// Events that waited to be sent, each counted once for each recipient that it waited for.
    pub events: u64,
    /// Requests in flight.
    pub requests: String,
    /// The file of a durable queue.
    pub queue: String,
    /// The analytics ID of the account.
    pub account: String,
    /// The data at the recipients that this withdrawal asked to delete it: label and state.
    pub erasures: Vec<(String, String)>,
}

impl Serialize for ConsentRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("@context", &Context)?;
        object.serialize_entry("@type", "dpv:ConsentRecord")?;
        object.serialize_entry("matrix-analytics:eventType", &self.event_type)?;
        let decisions: Vec<_> = self.decisions.iter().map(Linked).collect();
        object.serialize_entry("dpv:hasConsentStatus", &decisions)?;
        object.end()
    }
}

/// The prefixes of the terms.
struct Context;

impl Serialize for Context {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(3))?;
        object.serialize_entry("dct", "http://purl.org/dc/terms/")?;
        object.serialize_entry("dpv", "https://w3id.org/dpv#")?;
        object.serialize_entry("matrix-analytics", "urn:matrix-analytics:")?;
        object.end()
    }
}

/// A decision with the terms of the vocabulary.
struct Linked<'a>(&'a RecordedDecision);

impl Serialize for Linked<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(decision) = self;
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("@type", decision.status.dpv_term())?;
        object.serialize_entry("dpv:isIndicatedAtTime", &unix_time::rfc3339(decision.at))?;
        object.serialize_entry("matrix-analytics:place", &decision.place)?;
        if let Some(expressed_by) = &decision.expressed_by {
            object.serialize_entry("dpv:hasIndicationMethod", expressed_by)?;
        }
        if let Some(policy) = &decision.policy {
            object.serialize_entry("dpv:hasNotice", &Notice(policy))?;
        }
        let recipients: Vec<_> = decision.recipients.iter().map(LinkedRecipient).collect();
        object.serialize_entry("dpv:hasRecipient", &recipients)?;
        if let Some(removed) = &decision.removed {
            object.serialize_entry("matrix-analytics:removed", removed)?;
        }
        object.end()
    }
}

struct Notice<'a>(&'a AgreedPolicy);

impl Serialize for Notice<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(2))?;
        object.serialize_entry("@type", "dpv:PrivacyNotice")?;
        object.serialize_entry("dct:hasVersion", &self.0.version)?;
        object.end()
    }
}

struct LinkedRecipient<'a>(&'a RecordedRecipient);

impl Serialize for LinkedRecipient<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let RecordedRecipient { name, purpose } = self.0;
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("dct:title", name)?;
        if let Some(purpose) = purpose {
            object.serialize_entry("dpv:hasPurpose", purpose)?;
        }
        object.end()
    }
}

/// Times as milliseconds since 1970.
mod millis {
    use std::time::SystemTime;

    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::event::unix_time::{from_unix_nanos, unix_nanos};

    pub(super) fn serialize<S: Serializer>(
        time: &SystemTime,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let millis = unix_nanos(*time) / 1_000_000;
        serializer.serialize_i64(millis.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SystemTime, D::Error> {
        i64::deserialize(deserializer)
            .map(|millis| from_unix_nanos(millis.saturating_mul(1_000_000)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{json, to_value};

    use super::*;

    #[test]
    fn every_status_and_place_is_read_by_its_name() {
        for status in ConsentStatus::ALL {
            let name = serde_json::to_string(status).unwrap();
            assert_eq!(serde_json::from_str::<ConsentStatus>(&name).unwrap(), *status);
            assert!(status.dpv_term().starts_with("dpv:"));
        }
        for place in DecisionPlace::ALL {
            let name = serde_json::to_string(place).unwrap();
            assert_eq!(serde_json::from_str::<DecisionPlace>(&name).unwrap(), *place);
        }
    }

    #[test]
    fn a_record_has_the_terms_of_the_vocabulary() {
        let decision = RecordedDecision {
            status: ConsentStatus::Withdrawn,
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(951_827_696_789),
            place: DecisionPlace::ThisDevice,
            expressed_by: Some("a switch in the settings".to_owned()),
            policy: Some(AgreedPolicy { version: "3.0.0".to_owned() }),
            recipients: vec![RecordedRecipient {
                name: "Example".to_owned(),
                purpose: Some("to count".to_owned()),
            }],
            removed: Some(RemovedData {
                events: 3,
                requests: "done".to_owned(),
                queue: "done".to_owned(),
                account: "pending".to_owned(),
                erasures: vec![("example.org".to_owned(), "pending".to_owned())],
            }),
        };
        let record =
            ConsentRecord { event_type: "org.example".to_owned(), decisions: vec![decision] };
        let expected = json!({
            "@context": {
                "dct": "http://purl.org/dc/terms/",
                "dpv": "https://w3id.org/dpv#",
                "matrix-analytics": "urn:matrix-analytics:",
            },
            "@type": "dpv:ConsentRecord",
            "matrix-analytics:eventType": "org.example",
            "dpv:hasConsentStatus": [{
                "@type": "dpv:ConsentWithdrawn",
                "dpv:isIndicatedAtTime": "2000-02-29T12:34:56.789Z",
                "matrix-analytics:place": "this_device",
                "dpv:hasIndicationMethod": "a switch in the settings",
                "dpv:hasNotice": { "@type": "dpv:PrivacyNotice", "dct:hasVersion": "3.0.0" },
                "dpv:hasRecipient": [{ "dct:title": "Example", "dpv:hasPurpose": "to count" }],
                "matrix-analytics:removed": {
                    "events": 3,
                    "requests": "done",
                    "queue": "done",
                    "account": "pending",
                    "erasures": [["example.org", "pending"]],
                },
            }],
        });
        assert_eq!(to_value(record).unwrap(), expected);
    }
}
