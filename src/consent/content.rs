//! Reads the JSON of the account-data event, and merges changes into it so that the
//! members of other clients survive byte for byte.
//!
//! Everything here works on the raw text. A `serde_json::Value` would lose the digits of a
//! large integer and reject a lone surrogate. Synapse 1.163 stores and returns both
//! unchanged.

use serde_json::value::RawValue;

use super::policy::{
    Agreement, Policy,
    member::{self, POLICY},
};
use crate::{
    analytics_id::AnalyticsId,
    json::{self, name_of},
};

/// The member that holds the decision (`AnalyticsEvent` of Element Web's
/// `matrix-analytics-events`, read by Element Web as a boolean only).
const OPT_IN: &str = "pseudonymousAnalyticsOptIn";
/// The member that holds the analytics ID.
const ID: &str = "id";

/// The members of the content that concern consent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Observed {
    pub(crate) flag: Option<bool>,
    pub(crate) id: ObservedId,
    /// The time at which the user agreed to the configured policy under this ID, in
    /// milliseconds since 1970. `None` if the event has no such agreement, or no policy is
    /// configured.
    pub(crate) agreed: Option<u64>,
    /// Whether an event without an opt-in has the member with the agreements, whatever is in it.
    /// An opt-out removes it. Always `false` for an opt-in.
    pub(crate) has_leftovers: bool,
}

/// The `id` member of the content.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) enum ObservedId {
    /// There is no `id` member.
    Absent,
    /// There is a member, but its value cannot serve as an ID.
    Unusable,
    Usable(AnalyticsId),
}

impl Observed {
    /// A missing event, or `{}`.
    pub(crate) const UNSET: Self =
        Self { flag: None, id: ObservedId::Absent, agreed: None, has_leftovers: false };

    /// Reads `content`. Content that is not an object reads as [`Observed::UNSET`]. An ID for
    /// which `is_personal` returns `true` is not usable.
    pub(crate) fn read(
        content: &RawValue,
        policy: Option<&Policy>,
        is_personal: impl Fn(&str) -> bool,
    ) -> Self {
        let mut observed = Self::UNSET;
        let mut agreements = None;
        let Ok(members) = json::members(content.get()) else {
            return observed;
        };
        for (key, value) in members {
            match name_of(key).as_deref() {
                // A repeated member counts as its last, as in Synapse.
                Some(OPT_IN) => observed.flag = serde_json::from_str(value.get()).ok(),
                Some(ID) => {
                    observed.id = serde_json::from_str::<String>(value.get())
                        .ok()
                        .and_then(|id| AnalyticsId::from_foreign(&id))
                        .filter(|id| !is_personal(id.reveal()))
                        .map_or(ObservedId::Unusable, ObservedId::Usable);
                }
                Some(POLICY) => agreements = Some(value),
                _ => {}
            }
        }
        observed.has_leftovers = agreements.is_some() && observed.flag != Some(true);
        if let (Some(policy), Some(member), Some(id)) = (policy, agreements, observed.usable_id()) {
            observed.agreed = member::read(member, id).agreed_at(policy);
        }
        observed
    }

    pub(crate) fn usable_id(&self) -> Option<&AnalyticsId> {
        match &self.id {
            ObservedId::Usable(id) => Some(id),
            ObservedId::Absent | ObservedId::Unusable => None,
        }
    }

    pub(crate) fn has_id_member(&self) -> bool {
        self.id != ObservedId::Absent
    }

    /// Returns whether this is the result of an opt-out: a `false`, no ID and no agreements.
    pub(crate) fn is_clean(&self) -> bool {
        self.flag == Some(false) && self.has_nothing_to_remove()
    }

    /// Returns whether there is no opt-in, no ID and no agreement.
    pub(crate) fn has_nothing_to_remove(&self) -> bool {
        self.flag != Some(true) && !self.has_id_member() && !self.has_leftovers
    }
}

/// A change of the content.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) enum Change {
    /// Write `true` and this ID, and add the agreement to the configured policy.
    OptIn(AnalyticsId, Option<Agreement>),
    /// Write `false`, and remove the `id` member and the agreements. With a `null` or an empty string, Element
    /// Web would create a new ID on every load (`PosthogAnalytics.ts`, whose merge prefers a
    /// member that is present).
    OptOut,
    /// Write `{}`, as every Matrix client does to delete account data. Servers with MSC3391
    /// then delete the event.
    Erase,
}

impl Change {
    /// Returns the content after this change, as far as it concerns consent.
    pub(crate) fn outcome(&self) -> Observed {
        match self {
            Self::OptIn(id, agreement) => Observed {
                flag: Some(true),
                id: ObservedId::Usable(id.clone()),
                agreed: agreement.as_ref().map(|agreement| agreement.at),
                has_leftovers: false,
            },
            Self::OptOut => Observed { flag: Some(false), ..Observed::UNSET },
            Self::Erase => Observed::UNSET,
        }
    }

    /// Returns `content` with this change and every other member unchanged.
    ///
    /// # Errors
    ///
    /// [`MergeError`] if `content` is not a JSON object. Replacing it would destroy the data
    /// of another client.
    pub(crate) fn apply_to(&self, content: Option<&RawValue>) -> Result<Box<RawValue>, MergeError> {
        let (flag, id, agreement) = match self {
            Self::OptIn(id, agreement) => ("true", Some(id), agreement.as_ref()),
            Self::OptOut => ("false", None, None),
            Self::Erase => return RawValue::from_string("{}".to_owned()).map_err(|_| MergeError),
        };
        let members = match content {
            Some(content) => json::members(content.get()).map_err(|_| MergeError)?,
            None => Vec::new(),
        };
        let mut merged = Vec::with_capacity(members.len() + 3);
        let mut agreements = None;
        for (key, value) in members {
            match name_of(key).as_deref() {
                Some(OPT_IN | ID) => {}
                Some(POLICY) => agreements = Some(value),
                _ => merged.push(format!("{}:{}", key.get(), value.get())),
            }
        }
        if let Some(id) = id {
            let text = serde_json::to_string(id.reveal()).map_err(|_| MergeError)?;
            merged.push(format!("\"{ID}\":{text}"));
            let member = match agreement {
                Some(agreement) => {
                    Some(member::with(agreements, id, agreement).map_err(|_| MergeError)?)
                }
                // Without a policy of its own, an opt-in leaves the agreements of other devices
                // alone. Those under an earlier ID were withdrawn with it.
                None => agreements
                    .filter(|member| member::is_bound(member, id))
                    .map(|member| member.get().to_owned()),
            };
            merged.extend(member.map(|member| format!("\"{POLICY}\":{member}")));
        }
        merged.push(format!("\"{OPT_IN}\":{flag}"));
        RawValue::from_string(format!("{{{}}}", merged.join(","))).map_err(|_| MergeError)
    }
}

/// The content on the server is not a JSON object, and is left unchanged.
///
/// This error has no source, because serde's error quotes the text, which may be an ID.
#[derive(Debug)]
pub(crate) struct MergeError;

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    fn read(json: &str) -> Observed {
        Observed::read(&raw(json), None, |_| false)
    }

    fn usable(id: &str) -> ObservedId {
        ObservedId::Usable(AnalyticsId::from_foreign(id).unwrap())
    }

    #[test]
    fn an_empty_object_and_other_json_values_read_as_unset() {
        for json in ["{}", "[]", "null", "5", "\"text\"", r#"{"other":1}"#] {
            assert_eq!(read(json), Observed::UNSET, "{json}");
        }
    }

    #[test]
    fn only_a_boolean_is_a_decision() {
        for (value, flag) in [
            ("true", Some(true)),
            ("false", Some(false)),
            ("null", None),
            ("1", None),
            ("\"true\"", None),
            ("{}", None),
        ] {
            let json = format!(r#"{{"pseudonymousAnalyticsOptIn":{value}}}"#);
            assert_eq!(read(&json).flag, flag, "{json}");
        }
    }

    #[test]
    fn an_id_in_any_format_is_kept_unchanged() {
        for id in [
            "9f1c2d7e-0a4b-4c1d-9e2f-3a4b5c6d7e8f",
            "9F1C2D7E-0A4B-4C1D-9E2F-3A4B5C6D7E8F",
            "9f1c2d7ea4b4c1d9e2f3a4b5c6d7e8f",
            " padded ",
            "ünï",
        ] {
            assert_eq!(read(&format!(r#"{{"id":"{id}"}}"#)).id, usable(id));
        }
    }

    #[test]
    fn an_unusable_id_is_seen_but_not_used() {
        let long = format!("\"{}\"", "x".repeat(256));
        for id in [
            "null",
            "5",
            "{}",
            "[]",
            "true",
            "\"\"",
            "\"  \\t\"",
            "\"a\\u0000b\"",
            "\"\\ud800\"",
            "\"@alice:example.org\"",
            "\"!room:example.org\"",
            "\"#alias:example.org\"",
            "\"$event\"",
            &long,
        ] {
            let observed = read(&format!(r#"{{"id":{id}}}"#));
            assert_eq!(observed.id, ObservedId::Unusable, "{id}");
            assert!(observed.has_id_member());
        }
    }

    #[test]
    fn an_escaped_key_is_recognised_and_the_last_repetition_counts() {
        let json = r#"{"\u0069d":"first","id":"second","pseudonymousAnalyticsOptIn":false,"pseudonymousAnalyticsOptIn":true}"#;
        assert_eq!(
            read(json),
            Observed { flag: Some(true), id: usable("second"), ..Observed::UNSET }
        );
    }

    const FOREIGN: &str = concat!(
        r#""big":123456789012345678901234567890123456789012345678901234567890,"#,
        r#""\ud800":"\udfff","nested":{"id":"theirs","a":[1.0,-0.0,1e2, {"x" : null}]},"#,
        r#""showPseudonymousAnalyticsPrompt":false"#,
    );

    #[test]
    fn opting_in_and_out_keeps_foreign_members_byte_for_byte() {
        let id = AnalyticsId::from_foreign("abc").unwrap();
        let content = raw(&format!(r#"{{"id":null,{FOREIGN},"pseudonymousAnalyticsOptIn":7}}"#));

        let opted_in = Change::OptIn(id.clone(), None).apply_to(Some(&content)).unwrap();
        assert_eq!(
            opted_in.get(),
            format!(r#"{{{FOREIGN},"id":"abc","pseudonymousAnalyticsOptIn":true}}"#)
        );
        assert_eq!(read(opted_in.get()), Change::OptIn(id, None).outcome());

        let opted_out = Change::OptOut.apply_to(Some(&opted_in)).unwrap();
        assert_eq!(opted_out.get(), format!(r#"{{{FOREIGN},"pseudonymousAnalyticsOptIn":false}}"#));
        assert!(read(opted_out.get()).is_clean());
    }

    #[test]
    fn a_deep_or_long_member_survives() {
        let deep = format!("{}{}", "[".repeat(900), "]".repeat(900));
        let digits = "9".repeat(400);
        let content = raw(&format!(r#"{{"deep":{deep},"long":{digits},"id":"old"}}"#));
        let merged = Change::OptOut.apply_to(Some(&content)).unwrap();
        assert_eq!(
            merged.get(),
            format!(r#"{{"deep":{deep},"long":{digits},"pseudonymousAnalyticsOptIn":false}}"#)
        );
    }

    #[test]
    fn content_that_is_not_an_object_is_never_replaced() {
        for json in ["[]", "null", "\"text\"", "7"] {
            assert!(Change::OptOut.apply_to(Some(&raw(json))).is_err(), "{json}");
        }
    }

    #[test]
    fn erasing_leaves_an_empty_object() {
        let erased = Change::Erase.apply_to(Some(&raw(r#"{"id":"x"}"#))).unwrap();
        assert_eq!(erased.get(), "{}");
    }
}
