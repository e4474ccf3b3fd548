//! The members of a JSON object as raw text.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer as _,
    de::{MapAccess, Visitor},
};
use serde_json::{Deserializer, value::RawValue};

/// Returns the members of the JSON object `json` in order, repeated keys included.
pub(crate) fn members<'a, K: Deserialize<'a>>(
    json: &'a str,
) -> serde_json::Result<Vec<(K, &'a RawValue)>> {
    struct Members<K>(PhantomData<K>);

    impl<'de, K: Deserialize<'de>> Visitor<'de> for Members<K> {
        type Value = Vec<(K, &'de RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = map.next_entry()? {
                members.push(member);
            }
            Ok(members)
        }
    }

    let mut json = Deserializer::from_str(json);
    let members = json.deserialize_map(Members(PhantomData))?;
    json.end()?;
    Ok(members)
}

/// Returns the decoded name of a key, or `None` if it has a lone surrogate, which no key
/// that we know has.
pub(crate) fn name_of(key: &RawValue) -> Option<String> {
    serde_json::from_str(key.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(json: &str) -> Option<Vec<String>> {
        Some(members(json).ok()?.into_iter().map(|(key, _value)| key).collect())
    }

    #[test]
    fn members_come_in_order_with_the_repeated_ones() {
        assert_eq!(keys(r#" {"b": [1, 2], "a": {}, "b": null} "#).unwrap(), ["b", "a", "b"]);
        assert!(keys("{}").unwrap().is_empty());
    }

    #[test]
    fn text_that_is_not_one_object_is_an_error() {
        for json in ["", "[]", "null", "{", r#"{"a"}"#, "{}{}", "{},", r#"{"a":1}}"#] {
            assert!(keys(json).is_none(), "{json}");
        }
    }
}
