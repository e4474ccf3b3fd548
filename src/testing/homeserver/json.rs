//! Checks which JSON texts Synapse accepts, without changing a byte of them.

use serde_json::value::RawValue;

/// The deepest nesting that Synapse 1.163 on Python 3.11 was seen to accept.
const MAX_DEPTH: usize = 950;

/// The longest integer that Python 3.11 converts to a number.
const MAX_INTEGER_DIGITS: usize = 4300;

/// Synapse's verdict on the body of a PUT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Object,
    NotAnObject,
    NotJson,
    /// A number such as `1e400` becomes infinity, which cannot be serialised again.
    Unprintable,
}

/// Judges a body.
///
/// `RawValue` checks only the grammar. It accepts lone surrogates, huge integers and deep
/// nesting, which servers may hold and `serde_json::Value` refuses.
pub(super) fn judge(body: &[u8]) -> Verdict {
    let Ok(raw) = serde_json::from_slice::<&RawValue>(body) else {
        return Verdict::NotJson;
    };
    let text = raw.get();
    let scan = scan(text);
    if scan.depth > MAX_DEPTH || scan.integer_digits > MAX_INTEGER_DIGITS {
        Verdict::NotJson
    } else if !text.starts_with('{') {
        Verdict::NotAnObject
    } else if scan.infinite {
        Verdict::Unprintable
    } else {
        Verdict::Object
    }
}

/// Returns whether `text` is `{}`, with any white space.
pub(super) fn is_empty_object(text: &str) -> bool {
    text.trim()
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .is_some_and(|inner| inner.trim().is_empty())
}

/// Returns `text` as a JSON string literal.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[derive(Default)]
struct Scan {
    depth: usize,
    integer_digits: usize,
    infinite: bool,
}

/// Measures the nesting and the numbers of a valid JSON text.
fn scan(text: &str) -> Scan {
    let bytes = text.as_bytes();
    let mut scan = Scan::default();
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let start = at;
        at += 1;
        match byte {
            b'"' => {
                while let Some(inner) = bytes.get(at) {
                    at += if *inner == b'\\' { 2 } else { 1 };
                    if *inner == b'"' {
                        break;
                    }
                }
            }
            b'{' | b'[' => {
                depth += 1;
                scan.depth = scan.depth.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'-' | b'0'..=b'9' => {
                while bytes.get(at).is_some_and(|next| b"+-.eE0123456789".contains(next)) {
                    at += 1;
                }
                let number = &text[start..at];
                if number.contains(['.', 'e', 'E']) {
                    scan.infinite |= number.parse().is_ok_and(f64::is_infinite);
                } else {
                    let digits = number.trim_start_matches('-').len();
                    scan.integer_digits = scan.integer_digits.max(digits);
                }
            }
            _ => {}
        }
    }
    scan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str) -> Verdict {
        judge(text.as_bytes())
    }

    #[test]
    fn text_that_synapse_accepts_is_an_object() {
        for text in [
            "{}",
            " { } ",
            r#"{"\ud800":"\udc00"}"#,
            r#"{"a":"\u0000"}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a":100.0,"b":-0.0,"c":9223372036854775808}"#,
            r#"{"a":"1e400"}"#,
            r#"{"a":"[[\"{{"}"#,
        ] {
            assert_eq!(judged(text), Verdict::Object, "{text}");
        }
        let digits = "9".repeat(4300);
        assert_eq!(judged(&format!(r#"{{"a":-{digits}}}"#)), Verdict::Object);
        let (open, close) = (r#"{"a":"#.repeat(949), "}".repeat(949));
        assert_eq!(judged(&format!("{open}{{}}{close}")), Verdict::Object);
    }

    #[test]
    fn text_that_synapse_refuses_is_not_json() {
        for text in ["", "{", "{}x", "NaN", r#"{"a":NaN}"#, "\u{feff}{}", "{\"a\":\"\u{1}\"}"] {
            assert_eq!(judged(text), Verdict::NotJson, "{text}");
        }
        assert_eq!(judge(b"{\"a\":\"\xed\xa0\x80\"}"), Verdict::NotJson);
        let digits = "9".repeat(4301);
        assert_eq!(judged(&format!(r#"{{"a":{digits}}}"#)), Verdict::NotJson);
        let (open, close) = ("[".repeat(1000), "]".repeat(1000));
        assert_eq!(judged(&format!(r#"{{"a":{open}{close}}}"#)), Verdict::NotJson);
    }

    #[test]
    fn json_that_is_not_an_object_is_distinguished() {
        for text in ["[]", r#""text""#, "1", "null", "true"] {
            assert_eq!(judged(text), Verdict::NotAnObject, "{text}");
        }
        assert_eq!(judged(r#"{"a":1e400}"#), Verdict::Unprintable);
    }

    #[test]
    fn an_empty_object_may_hold_white_space_only() {
        assert!(is_empty_object("{}"));
        assert!(is_empty_object("{ \n }"));
        assert!(!is_empty_object(r#"{"a":1}"#));
        assert!(!is_empty_object("[]"));
    }
}
