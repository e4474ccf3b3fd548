//! The treatment of a property, after its texts were inspected.

use serde_json::value::RawValue;

/// The treatment of one property.
#[derive(Debug)]
pub(crate) enum PropertyFate {
    Dropped,
    Kept,
    /// With another key, other texts or both.
    Replaced {
        key: Option<String>,
        /// The new texts, each with its place among those that were inspected.
        texts: Vec<(usize, String)>,
    },
}

/// The value of a property, with its texts apart.
pub(super) enum Inspected<'a> {
    Array {
        elements: Vec<&'a RawValue>,
        texts: Vec<String>,
    },
    /// A number or a boolean.
    Fixed,
    Text(String),
}

impl<'a> Inspected<'a> {
    /// Returns `None` if `value` holds an object, an array within an array, or a text that is not
    /// Unicode.
    pub(super) fn new(value: &'a RawValue) -> Option<Self> {
        match value.get().as_bytes().first()? {
            b'{' => None,
            b'[' => {
                let elements: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
                let is_nested = |element: &&RawValue| element.get().starts_with(['[', '{']);
                if elements.iter().any(is_nested) {
                    return None;
                }
                let texts =
                    elements.iter().filter(|element| is_text(element)).map(|text| parse(text));
                let texts = texts.collect::<Option<_>>()?;
                Some(Self::Array { elements, texts })
            }
            b'"' => parse(value).map(Self::Text),
            _ => Some(Self::Fixed),
        }
    }

    /// Returns the texts in order.
    pub(super) fn texts(&self) -> &[String] {
        match self {
            Self::Array { texts, .. } => texts,
            Self::Fixed => &[],
            Self::Text(text) => std::slice::from_ref(text),
        }
    }

    /// Returns the value as JSON with some texts `replaced`, or `None` if none of them is.
    pub(super) fn with(&self, replaced: &[(usize, String)]) -> Option<String> {
        let spelled = |place: usize| {
            let (_, text) = replaced.iter().find(|(replaced, _)| *replaced == place)?;
            serde_json::to_string(text).ok()
        };
        match self {
            Self::Array { elements, .. } if !replaced.is_empty() => {
                let mut places = 0..;
                let elements = elements.iter().map(|element| {
                    let place = if is_text(element) { places.next() } else { None };
                    place.and_then(spelled).unwrap_or_else(|| element.get().to_owned())
                });
                Some(format!("[{}]", elements.collect::<Vec<_>>().join(",")))
            }
            Self::Array { .. } | Self::Fixed => None,
            Self::Text(_) => spelled(0),
        }
    }
}

fn is_text(value: &RawValue) -> bool {
    value.get().starts_with('"')
}

fn parse(text: &RawValue) -> Option<String> {
    serde_json::from_str(text.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(json: &str, replaced: &[(usize, &str)]) -> Option<String> {
        let value: &RawValue = serde_json::from_str(json).unwrap();
        let replaced: Vec<_> =
            replaced.iter().map(|(place, text)| (*place, (*text).to_owned())).collect();
        Inspected::new(value).unwrap().with(&replaced)
    }

    #[test]
    fn the_texts_of_an_array_are_replaced_at_their_places() {
        let json = r#"[ 1, "a,b", true, "\"", "c" ]"#;
        let value: &RawValue = serde_json::from_str(json).unwrap();
        assert_eq!(Inspected::new(value).unwrap().texts(), ["a,b", "\"", "c"]);
        assert_eq!(with(json, &[]), None);
        assert_eq!(with(json, &[(1, "x\n")]).unwrap(), r#"[1,"a,b",true,"x\n","c"]"#);
        assert_eq!(with(json, &[(0, ""), (2, "z")]).unwrap(), r#"[1,"",true,"\"","z"]"#);
        assert_eq!(with("[]", &[]), None);
        assert_eq!(with(r#""a""#, &[(0, "b")]).unwrap(), r#""b""#);
        assert_eq!(with("7", &[]), None);
    }

    #[test]
    fn what_cannot_be_inspected_has_no_texts() {
        for json in
            [r#"{"a":"b"}"#, r#"["a",{"b":"c"}]"#, r#"[["a"]]"#, r#""\ud800""#, "[\"\\ud800\"]"]
        {
            let value: &RawValue = serde_json::from_str(json).unwrap();
            assert!(Inspected::new(value).is_none(), "{json}");
        }
    }
}
